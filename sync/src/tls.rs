//! The certificates of a site: an authority of its own, and a certificate of it for the listeners.
//!
//! ```text
//! data_dir/tls/  ca.pem  ca.key       ten years; whoever trusts the site is given ca.pem
//!                server.pem server.key   90 days; renewed by the daemon when a third of them is left, or where the clock was ahead
//!                about.json           what they say, so that nothing has to be read back out of them
//! ```
//! A distribution point with `[tls] from_site` has the same folder without `ca.key`: its site's authority signs what it asks for
//! ([`crate::point`]). Keys are in files that only we may read, never in the database, a dump or a log. With `[tls] cert_file` an operator
//! brings certificates; then only they are used, and who made them renews them.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use catalog::problem::{Code, Problem};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tracing::{error, info};

use crate::admin::{Answer, Caller};
use crate::clock;
use crate::config::Settings;
use crate::keys::write_private;
use crate::site::Site;

const AUTHORITY_DAYS: i64 = 3_650;
const SERVER_DAYS: i64 = 90;
/// A renewal is due when so much is left.
const DUE_DAYS: i64 = 30;
/// A certificate is good from the beginning of the day before it was made. One that was made later than this from now, by a clock that was
/// ahead, is refused by those whose clock is right.
const AHEAD_DAYS: i64 = 1;
/// How often it is looked at.
const LOOK: std::time::Duration = std::time::Duration::from_secs(3_600);

/// What listeners show, replaced whole.
pub type Identity = Arc<ArcSwap<ServerConfig>>;

/// What is asked about certificates.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum TlsVerb {
    /// Makes the authority and the first certificate.
    Init {
        /// Names and addresses of the site; empty: what is known of it.
        names: Vec<String>,
    },
    /// What there is.
    Show,
    /// Makes another certificate.
    Renew {
        /// Names and addresses of the site; empty: those of the present one.
        names: Vec<String>,
    },
}

/// The certificates that there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificates {
    /// The authority's name.
    pub authority: String,
    /// Until when it is good.
    pub authority_until: Timestamp,
    /// Names and addresses in the certificate.
    pub names: Vec<String>,
    /// Since when it is good.
    pub since: Timestamp,
    /// Until when it is good.
    pub until: Timestamp,
}

impl Certificates {
    /// Whether a renewal is due: it is over soon, or not good yet.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.until < after(now, DUE_DAYS) || self.since > after(now, AHEAD_DAYS)
    }
}

/// A certificate, and what it says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Signed {
    /// PEM.
    pub certificate: String,
    /// What it says.
    pub about: Certificates,
}

/// Where the certificates of `tls init` are.
fn folder(settings: &Settings) -> PathBuf {
    settings.site.data_dir.join("tls")
}

pub(crate) fn about(settings: &Settings) -> Result<Option<Certificates>, Problem> {
    let path = folder(settings).join("about.json");
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Problem::new(Code::TlsInvalid, format!("`{}` cannot be read", path.display()))
                .because_of(Some(&error))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        // What cannot be read is there: nobody makes another in its place.
        Err(error) => Err(Problem::new(Code::TlsInvalid, format!("`{}` cannot be read", path.display()))
            .because_of(Some(&error))),
    }
}

/// Carries a verb out.
///
/// # Errors
/// `TLS_EXISTS`, `TLS_NOT_SET_UP`, `TLS_INVALID`, `USAGE`, `DATA_DIR_NOT_WRITABLE`.
pub async fn carry_out(site: &Arc<Site>, verb: TlsVerb, caller: &Caller) -> Result<Answer, Problem> {
    let settings = site.settings();
    let now = clock::now();
    let (made, what) = match verb {
        TlsVerb::Show => return show(&settings),
        TlsVerb::Init { .. } if about(&settings)?.is_some() => {
            return Err(Problem::new(Code::TlsExists, "the site has a certificate authority"));
        }
        TlsVerb::Init { names } => {
            let names = if names.is_empty() { known_names(&settings) } else { names };
            checked(&names)?;
            if caller.dry_run {
                return Answer::of(&serde_json::json!({ "names": names, "dry_run": true }));
            }
            (init(&settings, site.code().as_str(), &names, now)?, "tls.init")
        }
        TlsVerb::Renew { names } => {
            if !names.is_empty() {
                checked(&names)?;
            }
            if caller.dry_run {
                return Answer::of(&serde_json::json!({ "names": names, "dry_run": true }));
            }
            (renew(&settings, &names, now)?, "tls.renew")
        }
    };
    let who = caller.who.clone();
    let object = made.names.join(" ");
    site.write(move |w| w.audit(&who, what, &object, clock::now())).await?;
    refresh(site)?;
    show(&settings)
}

fn show(settings: &Settings) -> Result<Answer, Problem> {
    let made = about(settings)?;
    let own = !settings.tls.cert_file.is_empty();
    if made.is_none() && !own {
        return Err(Problem::new(Code::TlsNotSetUp, "the site has no certificate"));
    }
    let (certificate, _) = files(settings);
    let authority = made.is_some().then(|| folder(settings).join("ca.pem"));
    Answer::of(&serde_json::json!({
        "cert_file": certificate, "brought_by_operator": own, "ca_file": authority, "certificates": made,
        "listen_tls": settings.server.listen_tls,
    }))
}

/// What the site may be called: what clients are told, what it listens on, what the machine is called.
fn known_names(settings: &Settings) -> Vec<String> {
    let mut names = Vec::new();
    let mut add = |name: &str| {
        let name = name.trim().trim_start_matches('[').trim_end_matches(']').to_owned();
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    };
    if let Ok(url) = url::Url::parse(&settings.public_url()) {
        add(url.host_str().unwrap_or_default());
    }
    for address in settings.server.listen_tls.iter().chain(&settings.admin.listen_tls()) {
        match address.parse::<std::net::SocketAddr>() {
            Ok(address) if address.ip().is_unspecified() => {}
            Ok(address) => add(&address.ip().to_string()),
            Err(_) => add(address.rsplit_once(':').map_or("", |(host, _)| host)),
        }
    }
    add(&std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default());
    names
}

/// Every name by which the site may be asked for: what it is called, and what its certificate says.
pub fn called(settings: &Settings) -> Vec<String> {
    let mut names = known_names(settings);
    names.extend(about(settings).ok().flatten().into_iter().flat_map(|made| made.names));
    names
}

fn checked(names: &[String]) -> Result<(), Problem> {
    let is_name = |name: &String| {
        name.parse::<std::net::IpAddr>().is_ok()
            || (!name.is_empty()
                && name.len() <= 253
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._*".contains(&b)))
    };
    match names.iter().find(|name| !is_name(name)) {
        Some(wrong) => Err(Problem::new(Code::Usage, format!("`{wrong}` is no host name and no address"))),
        None if names.is_empty() => {
            Err(Problem::new(Code::Usage, "no name is known for the site: give `--name HOST`"))
        }
        None => Ok(()),
    }
}

fn invalid(error: rcgen::Error) -> Problem {
    Problem::of(Code::TlsInvalid, &error)
}

fn init(settings: &Settings, code: &str, names: &[String], now: Timestamp) -> Result<Certificates, Problem> {
    let folder = folder(settings);
    // Points and devices trust the authority that was, and no other: it is never written over, also where `about.json` was lost.
    if let Some(there) =
        ["ca.key", "ca.pem"].map(|name| folder.join(name)).into_iter().find(|file| is_there(file))
    {
        let message = format!("`{}` is there: the site has a certificate authority", there.display());
        return Err(Problem::new(Code::TlsExists, message).help(format!(
            "restore `{0}` from a backup whole; only if no point and no device was ever given its ca.pem, move `{0}` away and \
             run `spsync tls init` again",
            folder.display()
        )));
    }
    make_folder(&folder)?;
    let key = KeyPair::generate().map_err(invalid)?;
    let authority = format!("spsync site {code} {}", uuid::Uuid::new_v4().simple());
    let until = after(now, AUTHORITY_DAYS);
    let certificate = authority_of(&authority, now, until)?.self_signed(&key).map_err(invalid)?;
    write_private(&folder.join("ca.key"), key.serialize_pem().as_bytes())?;
    write_public(&folder.join("ca.pem"), certificate.pem().as_bytes())?;
    let made =
        Certificates { authority, authority_until: until, names: names.to_vec(), since: now, until: now };
    issue(&folder, made, now)
}

/// Whether something has this name, or nobody can tell.
fn is_there(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}

fn make_folder(folder: &Path) -> Result<(), Problem> {
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(folder).map_err(|error| {
        Problem::new(Code::DataDirNotWritable, format!("`{}` cannot be made", folder.display()))
            .because_of(Some(&error))
    })
}

/// Another certificate of the same authority; with other names where some are given.
fn renew(settings: &Settings, names: &[String], now: Timestamp) -> Result<Certificates, Problem> {
    let Some(mut made) = about(settings)? else {
        return Err(Problem::new(Code::TlsNotSetUp, "the site has no certificate authority"));
    };
    if !names.is_empty() {
        made.names = names.to_vec();
    }
    issue(&folder(settings), made, now)
}

/// A new certificate and key, see [`put`].
fn issue(folder: &Path, made: Certificates, now: Timestamp) -> Result<Certificates, Problem> {
    let key = KeyPair::generate().map_err(invalid)?;
    let signed = sign(folder, made, &key, now)?;
    put(folder, &key, &signed)?;
    let Certificates { names, until, .. } = &signed.about;
    info!("a certificate for {} is made, good until {until}", names.join(", "));
    Ok(signed.about)
}

/// A certificate for the names of `made` and this key, by the authority in `folder`.
fn sign(
    folder: &Path,
    made: Certificates,
    key: &impl PublicKeyData,
    now: Timestamp,
) -> Result<Signed, Problem> {
    let text = std::fs::read_to_string(folder.join("ca.key")).map_err(|error| {
        Problem::new(Code::TlsInvalid, "the key of the authority cannot be read").because_of(Some(&error))
    })?;
    let authority_key = KeyPair::from_pem(&text).map_err(invalid)?;
    // The issuer is known by its name and its key; its own dates do not matter here.
    let issuer = Issuer::new(authority_of(&made.authority, now, made.authority_until)?, authority_key);
    let until = after(now, SERVER_DAYS).min(made.authority_until);
    let mut params = CertificateParams::new(made.names.clone()).map_err(invalid)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, made.names.first().cloned().unwrap_or_default());
    lasts(&mut params, now, until);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(key, &issuer).map_err(invalid)?;
    Ok(Signed { certificate: certificate.pem(), about: Certificates { since: now, until, ..made } })
}

/// Puts them in place. They are two files, and the power may go between any two steps: the key waits beside the one before, until its
/// certificate stands. So at each moment there is a key that fits ([`identity`]).
fn put(folder: &Path, key: &KeyPair, signed: &Signed) -> Result<(), Problem> {
    let at = folder.join("server.key");
    let failed = |error: std::io::Error| {
        Problem::new(Code::DataDirNotWritable, format!("`{}` cannot be written", at.display()))
            .because_of(Some(&error))
    };
    write_private(&waiting(&at), key.serialize_pem().as_bytes())?;
    write_public(&folder.join("server.pem"), signed.certificate.as_bytes())?;
    std::fs::rename(waiting(&at), &at).map_err(failed)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    let text =
        serde_json::to_vec_pretty(&signed.about).map_err(|error| Problem::of(Code::Internal, &error))?;
    write_public(&folder.join("about.json"), &text)
}

/// Where a key waits for its certificate.
fn waiting(key: &Path) -> PathBuf {
    key.with_extension("key.next")
}

/// A certificate of the site's authority for a key that is somebody else's.
///
/// # Errors
/// `TLS_NOT_SET_UP` where the site has no authority, `TLS_INVALID`.
pub(crate) fn sign_for(
    settings: &Settings,
    names: &[String],
    key: &impl PublicKeyData,
    now: Timestamp,
) -> Result<(Signed, String), Problem> {
    let folder = folder(settings);
    let Some(made) = about(settings)?.filter(|_| has_authority(settings)) else {
        return Err(Problem::new(Code::TlsNotSetUp, "the site has no certificate authority"));
    };
    let authority = std::fs::read_to_string(folder.join("ca.pem")).map_err(|error| {
        Problem::new(Code::TlsInvalid, "the certificate of the authority cannot be read")
            .because_of(Some(&error))
    })?;
    Ok((sign(&folder, Certificates { names: names.to_vec(), ..made }, key, now)?, authority))
}

/// Whether this machine can sign certificates.
pub(crate) fn has_authority(settings: &Settings) -> bool {
    folder(settings).join("ca.key").exists()
}

/// Takes over a certificate that another machine's authority made for `key`, with that authority.
///
/// # Errors
/// `TLS_INVALID` where it does not belong to the key, `DATA_DIR_NOT_WRITABLE`.
pub(crate) fn take_over(
    settings: &Settings,
    key: &KeyPair,
    signed: &Signed,
    authority: &str,
) -> Result<(), Problem> {
    let refuse =
        |why: String| Problem::new(Code::TlsInvalid, "the site sent no certificate for our key").because(why);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(signed.certificate.as_bytes()).collect();
    let secret = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    chain
        .map_err(|error| refuse(error.to_string()))
        .and_then(|chain| configured(chain, secret).map_err(|error| refuse(error.to_string())))?;
    let folder = folder(settings);
    make_folder(&folder)?;
    write_public(&folder.join("ca.pem"), authority.as_bytes())?;
    put(&folder, key, signed)
}

fn authority_of(name: &str, since: Timestamp, until: Timestamp) -> Result<CertificateParams, Problem> {
    let mut params = CertificateParams::new(Vec::new()).map_err(invalid)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lasts(&mut params, since, until);
    Ok(params)
}

fn after(now: Timestamp, days: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_hours(24 * days)).unwrap_or(now)
}

/// Its day, UTC: certificates need no seconds.
fn day(time: Timestamp) -> (i32, u8, u8) {
    let date = time.to_zoned(TimeZone::UTC).date();
    let part = |number: i8| u8::try_from(number).unwrap_or(1);
    (i32::from(date.year()), part(date.month()), part(date.day()))
}

/// From the beginning of the day before `since` (clocks differ) to that of the day of `until`.
fn lasts(params: &mut CertificateParams, since: Timestamp, until: Timestamp) {
    let ((year, month, of_month), to) = (day(after(since, -1)), day(until));
    params.not_before = rcgen::date_time_ymd(year, month, of_month);
    params.not_after = rcgen::date_time_ymd(to.0, to.1, to.2);
}

/// Everybody may read a certificate.
fn write_public(path: &Path, bytes: &[u8]) -> Result<(), Problem> {
    write_private(path, bytes)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(path, mode).map_err(|error| {
        Problem::new(Code::DataDirNotWritable, format!("`{}` cannot be written", path.display()))
            .because_of(Some(&error))
    })
}

/// Files of the certificate and its key: those that the operator names, or ours.
fn files(settings: &Settings) -> (PathBuf, PathBuf) {
    let tls = &settings.tls;
    if tls.cert_file.is_empty() {
        (folder(settings).join("server.pem"), folder(settings).join("server.key"))
    } else {
        (PathBuf::from(&tls.cert_file), PathBuf::from(&tls.key_file))
    }
}

/// The same at the start. Certificate and key are two files: a machine that lost its power between their renames has a pair that does not fit
/// together, and the authority to make another.
///
/// # Errors
/// Those of [`identity`], where the files are somebody else's, or others may read the key.
pub fn identity_at_start(settings: &Settings, now: Timestamp) -> Result<ServerConfig, Problem> {
    let (certificate, key) = files(settings);
    let is_ours = settings.tls.cert_file.is_empty() && has_authority(settings);
    match identity(settings) {
        Err(problem) if is_ours && certificate.exists() && key.exists() && !others_may_read(&key) => {
            error!("{problem}: another certificate is made");
            renew(settings, &[], now).map_err(|cause| problem.because(cause.to_string()))?;
            identity(settings)
        }
        shown => shown,
    }
}

/// Whether it may be read by anybody but us.
fn others_may_read(key: &Path) -> bool {
    mode(key) & 0o077 != 0
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).map(|found| found.mode()).unwrap_or_default()
}

/// What listeners show now.
///
/// # Errors
/// `TLS_NOT_SET_UP` where there is nothing, `TLS_INVALID` where it cannot be used, also because others may read the key.
pub fn identity(settings: &Settings) -> Result<ServerConfig, Problem> {
    let (certificate, key) = files(settings);
    identity_of(&certificate, &key).or_else(|problem| {
        let is_ours = settings.tls.cert_file.is_empty();
        let waits = Some(waiting(&key)).filter(|waiting| is_ours && waiting.exists());
        waits.and_then(|waiting| identity_of(&certificate, &waiting).ok()).ok_or(problem)
    })
}

fn identity_of(certificate: &Path, key: &Path) -> Result<ServerConfig, Problem> {
    if !certificate.exists() || !key.exists() {
        return Err(Problem::new(
            Code::TlsNotSetUp,
            format!("there is no `{}`, or no key of it", certificate.display()),
        ));
    }
    let refuse = |what: String| Problem::new(Code::TlsInvalid, what);
    if others_may_read(key) {
        let mode = mode(key) & 0o777;
        return Err(refuse(format!("`{}` may be read by others (mode {mode:o})", key.display())));
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.map_err(|error| {
        refuse(format!("`{}` is no certificate", certificate.display())).because(error.to_string())
    })?;
    // The text of an error could hold a part of the key.
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|_| refuse(format!("`{}` is no key", key.display())))?;
    configured(chain, secret).map_err(|error| {
        refuse(format!("`{}` cannot be used", certificate.display())).because(error.to_string())
    })
}

fn configured(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Lets running listeners show what the files hold now.
///
/// # Errors
/// Those of [`identity`]; then they show what they did.
pub fn refresh(site: &Site) -> Result<(), Problem> {
    let settings = site.settings();
    if let Some(shown) = site.identity.get() {
        shown.store(Arc::new(identity(&settings)?));
    } else if settings.certificate_from_site() {
        let first = Arc::new(ArcSwap::from_pointee(identity(&settings)?));
        let _ = site.identity.set(first); // only ever set here once the listeners stand
    }
    Ok(())
}

/// What a listener shows, as soon as there is anything; `None` where `stopped` comes before that. Until then connections
/// are closed: who has no certificate yet is out of reach.
pub async fn awaited(
    site: &Site,
    listener: &TcpListener,
    stopped: impl Future<Output = ()>,
) -> Option<Identity> {
    tokio::pin!(stopped);
    loop {
        if let Some(identity) = site.identity.get() {
            return Some(identity.clone());
        }
        tokio::select! {
            () = &mut stopped => return None,
            Ok(_) = listener.accept() => {}
            () = tokio::time::sleep(std::time::Duration::from_millis(500)) => {}
        }
    }
}

/// Renews in time, until `stopped`.
pub async fn keep_fresh(site: Arc<Site>, stopped: impl Future<Output = ()>) {
    tokio::pin!(stopped);
    loop {
        let settings = site.settings();
        let now = clock::now();
        let ours = settings.tls.cert_file.is_empty() && has_authority(&settings);
        let due = ours && matches!(about(&settings), Ok(Some(made)) if made.is_due(now));
        if due && let Err(problem) = renew(&settings, &[], now).and_then(|_| refresh(&site)) {
            error!("the certificate cannot be renewed: {problem}");
        }
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(folder: &Path) -> Settings {
        let mut settings = Settings::default();
        settings.site.data_dir = folder.to_owned();
        settings
    }

    #[test]
    fn certificates_are_made_renewed_in_time_and_refused_where_others_read_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        assert_eq!(identity(&settings).unwrap_err().code, Code::TlsNotSetUp);
        let names = ["site01.example".to_owned(), "127.0.0.1".to_owned()];
        let made = init(&settings, "XYZ", &names, now).unwrap();
        assert_eq!(made.until, "2026-05-30T12:00:00Z".parse().unwrap());
        identity(&settings).unwrap();
        let file = |name: &str| folder.path().join("tls").join(name);
        let mode = |name: &str| std::fs::metadata(file(name)).unwrap().mode() & 0o777;
        assert_eq!((mode("ca.key"), mode("server.key"), mode("ca.pem")), (0o600, 0o600, 0o644));
        assert!(!made.is_due(after(now, 59)) && made.is_due(after(now, 61)));

        let (authority, certificate) =
            (std::fs::read(file("ca.pem")).unwrap(), std::fs::read(file("server.pem")).unwrap());
        let later = renew(&settings, &[], after(now, 61)).unwrap();
        assert_eq!((later.names, later.authority), (made.names, made.authority));
        assert_eq!(std::fs::read(file("ca.pem")).unwrap(), authority, "who trusts the site trusts it on");
        assert_ne!(std::fs::read(file("server.pem")).unwrap(), certificate);
        identity(&settings).unwrap();

        let open = std::os::unix::fs::PermissionsExt::from_mode(0o640);
        std::fs::set_permissions(file("server.key"), open).unwrap();
        assert_eq!(identity(&settings).unwrap_err().code, Code::TlsInvalid);
    }

    #[test]
    fn a_certificate_that_is_not_good_yet_is_due() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        for (ahead, due) in [(0, false), (1, false), (2, true), (400, true)] {
            let _ = std::fs::remove_dir_all(folder.path().join("tls"));
            let made = init(&settings, "XYZ", &["site01".to_owned()], after(now, ahead)).unwrap();
            assert_eq!(made.is_due(now), due, "made {ahead} days ahead");
            let anew = renew(&settings, &[], now).unwrap();
            assert!(!anew.is_due(now) && anew.since == now, "made anew {ahead} days ahead");
        }
    }

    /// The power went between the renames of a renewal, or the disk was full.
    #[test]
    fn a_pair_that_does_not_fit_together_is_made_anew_where_it_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        assert_eq!(identity_at_start(&settings, now).unwrap_err().code, Code::TlsNotSetUp, "nothing is made");
        let made = init(&settings, "XYZ", &["site01.example".to_owned()], now).unwrap();
        let file = |name: &str| folder.path().join("tls").join(name);
        let another = || KeyPair::generate().unwrap().serialize_pem();
        write_private(&file("server.key"), another().as_bytes()).unwrap();
        assert_eq!(identity(&settings).unwrap_err().code, Code::TlsInvalid);
        identity_at_start(&settings, now).unwrap();
        identity(&settings).unwrap();
        assert_eq!(about(&settings).unwrap().unwrap().names, made.names);

        write_private(&file("server.key"), another().as_bytes()).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o640);
        std::fs::set_permissions(file("server.key"), open).unwrap();
        assert_eq!(
            identity_at_start(&settings, now).unwrap_err().code,
            Code::TlsInvalid,
            "others may read it"
        );
        write_private(&file("server.key"), another().as_bytes()).unwrap();
        let mut theirs = settings.clone();
        theirs.tls.cert_file = file("server.pem").display().to_string();
        theirs.tls.key_file = file("server.key").display().to_string();
        assert_eq!(identity_at_start(&theirs, now).unwrap_err().code, Code::TlsInvalid, "an operator's");
        std::fs::remove_file(file("ca.key")).unwrap();
        assert_eq!(
            identity_at_start(&settings, now).unwrap_err().code,
            Code::TlsInvalid,
            "nobody can sign it"
        );
    }

    /// Nobody may be there who could sign another pair.
    #[test]
    fn the_power_may_go_between_any_two_steps() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        for steps in 0..3 {
            let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let settings = settings(before.path());
            let made = init(&settings, "XYZ", &["site01".to_owned()], now).unwrap();
            let new = after.path().join("tls");
            make_folder(&new).unwrap();
            std::fs::copy(before.path().join("tls/ca.key"), new.join("ca.key")).unwrap();
            issue(&new, made, now).unwrap();
            let tls = before.path().join("tls");
            std::fs::remove_file(tls.join("ca.key")).unwrap();
            for (from, to) in
                [("server.key", "server.key.next"), ("server.pem", "server.pem")].into_iter().take(steps)
            {
                std::fs::copy(new.join(from), tls.join(to)).unwrap();
            }
            assert!(identity(&settings).is_ok(), "after {steps} steps");
        }
        let folder = tempfile::tempdir().unwrap();
        init(&settings(folder.path()), "XYZ", &["site01".to_owned()], now).unwrap();
        assert!(!folder.path().join("tls/server.key.next").exists(), "none waits for ever");
    }

    #[test]
    fn a_certificate_for_another_machine_is_taken_over_there_and_only_with_its_key() {
        let (site, point) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (site, point) = (settings(site.path()), settings(point.path()));
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let key = KeyPair::generate().unwrap();
        let names = ["lyon01".to_owned(), "10.1.2.3".to_owned()];
        assert_eq!(sign_for(&site, &names, &key, now).unwrap_err().code, Code::TlsNotSetUp);
        init(&site, "XYZ", &["site01".to_owned()], now).unwrap();
        let (signed, authority) = sign_for(&site, &names, &key, now).unwrap();
        assert_eq!(signed.about.names, names);
        let other = KeyPair::generate().unwrap();
        assert_eq!(take_over(&point, &other, &signed, &authority).unwrap_err().code, Code::TlsInvalid);
        assert_eq!(identity(&point).unwrap_err().code, Code::TlsNotSetUp, "nothing was written");
        take_over(&point, &key, &signed, &authority).unwrap();
        identity(&point).unwrap();
        assert_eq!(about(&point).unwrap(), Some(signed.about));
        assert!(!has_authority(&point) && has_authority(&site));
        assert_eq!(about(&site).unwrap().unwrap().names, ["site01"], "its own is as it was");
    }

    #[test]
    fn an_authority_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        init(&settings, "XYZ", &["site01".to_owned()], now).unwrap();
        let file = |name: &str| folder.path().join("tls").join(name);
        let authority = || (std::fs::read(file("ca.key")).ok(), std::fs::read(file("ca.pem")).ok());
        let before = authority();
        std::fs::remove_file(file("about.json")).unwrap();
        assert_eq!(about(&settings).unwrap(), None);
        let again = || init(&settings, "XYZ", &["site01".to_owned()], now).unwrap_err();
        assert_eq!((again().code, authority()), (Code::TlsExists, before.clone()), "what it says was lost");
        std::fs::remove_file(file("ca.pem")).unwrap();
        assert_eq!((again().code, authority().0), (Code::TlsExists, before.0), "only the key is left");
        // A folder by that name cannot be read, whoever runs this.
        std::fs::create_dir(file("about.json")).unwrap();
        assert_eq!(about(&settings).unwrap_err().code, Code::TlsInvalid);
    }

    #[test]
    fn names_are_hosts_or_addresses() {
        assert!(checked(&["site01.example".to_owned(), "10.1.2.3".to_owned(), "fd00::1".to_owned()]).is_ok());
        for wrong in ["", "http://x", "a b", "a/b"] {
            assert_eq!(checked(&[wrong.to_owned()]).unwrap_err().code, Code::Usage, "{wrong}");
        }
        assert_eq!(checked(&[]).unwrap_err().code, Code::Usage);
    }
}
