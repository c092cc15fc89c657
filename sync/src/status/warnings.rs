//! What `spsync status` warns of that nobody else says: content that is gone, certificates that end, deployments that failed, and
//! what was left undone on the first day.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use catalog::digest::Sha256Digest;
use catalog::problem::Problem;
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::certificate::good_until;
use crate::blocking::blocking;
use crate::config::{Settings, show_size};
use crate::deploying::Deployed;
use crate::health::{LITTLE, Room};
use crate::site::Site;
use crate::tls;
use crate::words::counted;

/// So long before its end a certificate that somebody brings is warned of. One of ours is renewed before that.
const SOON_DAYS: i64 = 21;
/// The same of the authority: a new one has to be brought to every point and device.
const AUTHORITY_SOON_DAYS: i64 = 180;

/// Content that is recorded and not there, and content that was lost and is awaited.
pub(super) async fn content(site: &Arc<Site>) -> Result<Vec<String>, Problem> {
    let (recorded, lost, images, apps) =
        site.read(|r| Ok((r.content_digests()?, r.lost_contents()?, r.images()?, r.apps()?))).await?;
    let library = site.library.clone();
    let known = recorded.clone();
    let missing: HashSet<Sha256Digest> = blocking(move || {
        Ok(known.into_iter().filter(|content| library.identity(*content).is_none()).collect())
    })
    .await?;
    let mut warnings = Vec::new();
    // Those of images and applications are told by their names.
    let of_software: HashSet<_> = images
        .iter()
        .map(|image| image.content)
        .chain(apps.iter().flat_map(|app| app.files.iter().map(|file| file.content)))
        .collect();
    let of_packages = missing.difference(&of_software).count();
    if of_packages > 0 {
        warnings.push(format!(
            "{of_packages} contents are recorded and not in the content library: `spsync package download P` fetches those of a package again"
        ));
    }
    let lost: HashSet<_> = lost.into_iter().map(|(_, content)| content).collect();
    if !lost.is_empty() {
        warnings.push(format!(
            "{} contents were lost or damaged and are not back yet: `spsync task list`, `spsync package download P`",
            lost.len()
        ));
    }
    let gone = |content: &Sha256Digest| missing.contains(content) || !recorded.contains(content);
    for image in images.iter().filter(|image| gone(&image.content)) {
        warnings.push(format!(
            "the file of OS upgrade package {} is lost: `spsync image add` of the same file under its name brings it back",
            image.id
        ));
    }
    for app in apps.iter().filter(|app| app.files.iter().any(|file| gone(&file.content))) {
        warnings.push(format!("files of application {} are lost: add the same files again", app.id));
    }
    Ok(warnings)
}

/// Synchronisation that is behind its schedule, whatever kept it from running: a run that failed is told of too.
pub(super) fn overdue(settings: &Settings, last_ok: Timestamp, now: Timestamp) -> Option<String> {
    let missed = crate::daemon::overdue(settings, last_ok, now)?;
    Some(format!(
        "nothing was synchronised since {last_ok}, though it was due at {missed} and once more since: `spsync sync history`, \
         `spsync now`"
    ))
}

/// Disks that are full or cannot be written.
pub(super) async fn disks(site: &Site) -> Result<Vec<String>, Problem> {
    let settings = site.settings();
    let room = blocking(move || Ok(Room::of(&settings))).await?;
    let database =
        room.database.err().map(|error| format!("the folder of the database cannot be written: {error}"));
    let library = room.library.err().map(|error| format!("the content library cannot be written: {error}"));
    let little = room.free.filter(|free| *free < LITTLE).map(|free| {
        format!(
            "the disk of the database has {} free: make room, or nothing is recorded any more",
            show_size(free)
        )
    });
    Ok([database, little, library].into_iter().flatten().collect())
}

/// Deployments that are offered or due, what would keep them from being made today, and phases.
pub(super) async fn deployments(site: &Arc<Site>, deployed: &Deployed) -> Result<Vec<String>, Problem> {
    let (rows, phased) = site.read(|r| Ok((r.deployments()?, r.phased()?))).await?;
    let mut warnings = Vec::new();
    if deployed.buckets.error > 0 {
        warnings.push(format!(
            "deployments have failed on {} devices: `spsync deploy list`, `spsync deploy status D --by error`",
            deployed.buckets.error
        ));
    }
    if let [(first, _), ..] = deployed.would_be_refused.as_slice() {
        let named: Vec<String> =
            deployed.would_be_refused.iter().take(5).map(|(id, code)| format!("{id} {code}")).collect();
        let more = if deployed.would_be_refused.len() > 5 { ", …" } else { "" };
        warnings.push(format!(
            "{} would be refused today ({}{more}): `spsync deploy show {first}`",
            counted(deployed.would_be_refused.len(), "deployment"),
            named.join(", ")
        ));
    }
    for row in rows.iter().filter(|row| row.stopped.is_none()) {
        if let Some(problem) = &row.problem {
            warnings.push(format!("the content of deployment {} is not there: {problem}", row.id));
        }
    }
    for row in &phased {
        if let Some(problem) = &row.problem {
            warnings.push(format!("phased deployment {} does not go on: {problem}", row.name));
        }
    }
    Ok(warnings)
}

/// Certificates of the listeners.
pub(super) fn certificates(settings: &Settings, now: Timestamp) -> Vec<String> {
    let listens = !settings.server.listen_tls.is_empty() || settings.admin.listen_tls().is_some();
    if !settings.tls.cert_file.is_empty() {
        return listens
            .then(|| brought(Path::new(&settings.tls.cert_file), now))
            .flatten()
            .into_iter()
            .collect();
    }
    match tls::about(settings) {
        Err(problem) => vec![problem.to_string()],
        Ok(None) if listens && !settings.certificate_from_site() => {
            vec![
                "[server] or [admin] listen_tls is set, and there is no certificate: `spsync tls init`"
                    .to_owned(),
            ]
        }
        Ok(None) => Vec::new(),
        Ok(Some(made)) => {
            let advice = match settings.certificate_from_site() {
                true => "it comes from the site, which cannot be asked or does not sign it",
                false => "it was not renewed; `spsync tls renew`",
            };
            let own = ends("the certificate of the listeners", made.until, SOON_DAYS, now, advice);
            let advice = "points and devices need a new one by then (README.md, \"Another authority\")";
            let authority =
                ends("the certificate authority", made.authority_until, AUTHORITY_SOON_DAYS, now, advice);
            let is_own = listens && made.until < made.authority_until;
            [own.filter(|_| is_own), authority].into_iter().flatten().collect()
        }
    }
}

/// The certificate that an operator brings.
fn brought(file: &Path, now: Timestamp) -> Option<String> {
    let cannot = |why: String| Some(format!("[tls] cert_file `{}` cannot be read: {why}", file.display()));
    let first = match CertificateDer::from_pem_file(file) {
        Ok(first) => first,
        Err(error) => return cannot(error.to_string()),
    };
    let Some(until) = good_until(&first) else { return cannot("it is no certificate".to_owned()) };
    let what = format!("the certificate `{}` of [tls] cert_file", file.display());
    ends(&what, until, SOON_DAYS, now, "bring another one, then `systemctl reload spsync`")
}

fn ends(what: &str, until: Timestamp, days: i64, now: Timestamp, advice: &str) -> Option<String> {
    let left = until.duration_since(now);
    match left {
        _ if left < SignedDuration::ZERO => Some(format!("{what} is over since {until}: {advice}")),
        _ if left < SignedDuration::from_hours(24 * days) => {
            Some(format!("{what} is over in {} days: {advice}", left.as_hours() / 24))
        }
        _ => None,
    }
}

/// Where other machines ask, and are not told under which address.
pub(super) fn address(settings: &Settings) -> Option<String> {
    (settings.dp.is_site() && settings.public_url_is_a_guess()).then(|| {
        "[server] public_url is not set: points and other programs are told `localhost`, which only this machine understands".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_before_its_end_and_after() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cert.pem");
        let mut settings = Settings::default();
        settings.site.data_dir = folder.path().to_owned();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(certificates(&settings, at("2026-01-01T00:00:00Z")), Vec::<String>::new());
        settings.server.listen_tls = vec!["[::]:8531".to_owned()];
        assert!(certificates(&settings, at("2026-01-01T00:00:00Z"))[0].contains("tls init"));
        let mut params = rcgen::CertificateParams::new(vec!["site01.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2026, 3, 31);
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        settings.tls.cert_file = file.display().to_string();
        assert!(certificates(&settings, at("2026-01-01T00:00:00Z"))[0].contains("cannot be read"));
        std::fs::write(&file, made.pem()).unwrap();
        for (now, expected) in [
            ("2026-03-01T00:00:00Z", None),
            ("2026-03-21T00:00:00Z", Some("is over in 10 days")),
            ("2026-04-01T00:00:00Z", Some("is over since 2026-03-31")),
        ] {
            let found = certificates(&settings, at(now));
            assert_eq!(found.len(), usize::from(expected.is_some()), "{now}: {found:?}");
            assert!(found.iter().all(|text| text.contains(expected.unwrap_or_default())), "{found:?}");
        }
    }
}
