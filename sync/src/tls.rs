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

mod listeners;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::problem::{Code, Problem};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tracing::info;

pub(crate) use self::listeners::is_made_anew;
pub use self::listeners::{Identity, awaited, identity, identity_at_start, keep_fresh, refresh};
use self::listeners::{configured, files};
use crate::admin::{Answer, Caller};
use crate::clock;
use crate::config::Settings;
use crate::keys::write_private;
use crate::site::Site;
use crate::whole;

const AUTHORITY_DAYS: i64 = 3_650;
const SERVER_DAYS: i64 = 90;
/// A renewal is due when so much is left.
const DUE_DAYS: i64 = 30;
/// A certificate is good from the beginning of the day before it was made. One that was made later than this from now, by a clock that was
/// ahead, is refused by those whose clock is right.
const AHEAD_DAYS: i64 = 1;

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
        self.until < after(now, DUE_DAYS) || self.is_ahead(now)
    }

    /// Whether its authority is to make another one now: that is due, and would be good for longer.
    fn is_renewed(&self, now: Timestamp) -> bool {
        self.is_due(now) && (self.next_until(now) > self.until || self.is_ahead(now))
    }

    fn is_ahead(&self, now: Timestamp) -> bool {
        self.since > after(now, AHEAD_DAYS)
    }

    /// Whether it is of more use than another one for the same names: good for longer, or made by a clock that was not ahead.
    pub(crate) fn is_better_than(&self, other: &Self) -> bool {
        self.until > other.until || self.since < other.since
    }

    /// Until when one would be good that is made now: no longer than its authority.
    fn next_until(&self, now: Timestamp) -> Timestamp {
        day_of(after(now, SERVER_DAYS).min(self.authority_until))
    }

    /// As versions of before this one wrote it down, with the time of the day, which no certificate has.
    fn by_days(self) -> Self {
        Self { authority_until: day_of(self.authority_until), until: day_of(self.until), ..self }
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
pub(crate) fn folder(settings: &Settings) -> PathBuf {
    settings.site.data_dir.join("tls")
}

pub(crate) fn about(settings: &Settings) -> Result<Option<Certificates>, Problem> {
    let path = folder(settings).join("about.json");
    match std::fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(|made: Certificates| Some(made.by_days())).map_err(|error| {
                Problem::new(Code::TlsInvalid, format!("`{}` cannot be read", path.display()))
                    .because_of(Some(&error))
            })
        }
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
                no_authority(&folder(&settings))?;
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

/// Points and devices trust the authority that was, and no other: it is never written over, also where `about.json` was lost.
fn no_authority(folder: &Path) -> Result<(), Problem> {
    let files = ["ca.key", "ca.pem"].map(|name| folder.join(name));
    let Some(there) = files.into_iter().find(|file| is_there(file)) else { return Ok(()) };
    let message = format!("`{}` is there: the site has a certificate authority", there.display());
    Err(Problem::new(Code::TlsExists, message).help(format!(
        "restore `{0}` from a backup whole; only if no point and no device was ever given its ca.pem, move `{0}` away and \
         run `spsync tls init` again",
        folder.display()
    )))
}

fn init(settings: &Settings, code: &str, names: &[String], now: Timestamp) -> Result<Certificates, Problem> {
    let folder = folder(settings);
    no_authority(&folder)?;
    make_folder(&folder)?;
    let key = KeyPair::generate().map_err(invalid)?;
    let authority = format!("spsync site {code} {}", uuid::Uuid::new_v4().simple());
    let until = day_of(after(now, AUTHORITY_DAYS));
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
        Problem::new(whole::code_of(&error), format!("`{}` cannot be made", folder.display()))
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

/// A certificate for the names of `made` and this key, by the authority in `folder`, unless that is over.
fn sign(
    folder: &Path,
    made: Certificates,
    key: &impl PublicKeyData,
    now: Timestamp,
) -> Result<Signed, Problem> {
    if made.authority_until <= now {
        let message = format!("the certificate authority of the site is over since {}", made.authority_until);
        return Err(Problem::new(Code::TlsInvalid, message)
            .keeping("nothing was made")
            .help("a new authority takes its place: README.md, \"Another authority\""));
    }
    let text = std::fs::read_to_string(folder.join("ca.key")).map_err(|error| {
        Problem::new(Code::TlsInvalid, "the key of the authority cannot be read").because_of(Some(&error))
    })?;
    let authority_key = KeyPair::from_pem(&text).map_err(invalid)?;
    // The issuer is known by its name and its key; its own dates do not matter here.
    let issuer = Issuer::new(authority_of(&made.authority, now, made.authority_until)?, authority_key);
    let until = made.next_until(now);
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
    write_private(&waiting(&at), key.serialize_pem().as_bytes())?;
    write_public(&folder.join("server.pem"), signed.certificate.as_bytes())?;
    whole::rename(&waiting(&at), &at).map_err(|error| whole::unwritable(&at, &error))?;
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

/// The beginning of its day, UTC: what is written into a certificate as its end.
fn day_of(time: Timestamp) -> Timestamp {
    const DAY: i64 = 86_400;
    Timestamp::from_second(time.as_second().div_euclid(DAY) * DAY).unwrap_or(time)
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
    whole::write(path, whole::ALL, bytes).map_err(|error| whole::unwritable(path, &error))
}

#[cfg(test)]
mod tests;
