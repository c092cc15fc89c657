//! What `spsync config check` finds in settings that could be read: things that depend on this machine, and choices
//! that are allowed but rarely meant.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use catalog::problem::{Code, Coded as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use super::Loaded;
use super::meaning::is_file;
use super::settings::Settings;
use crate::schedule::Schedule;

/// Below this share of free space, content beside the database endangers it.
const LITTLE: f64 = 0.05;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The daemon does not start with it.
    Error,
    /// It works, and somebody should look at it.
    Warn,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad`, so that a column can be aligned.
        f.pad(match self {
            Self::Error => "error",
            Self::Warn => "warn",
        })
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The code of an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The place, the key and what is wrong.
    pub text: String,
}

/// Everything that is found, errors first. `now` is only used to see whether a schedule ever comes.
pub(super) fn check(loaded: &Loaded, now: Timestamp) -> Vec<Finding> {
    let mut findings = Findings { loaded, found: loaded.remarks.clone() };
    let settings = &loaded.settings;
    findings.schedule(settings, now);
    findings.listeners(settings);
    findings.files(settings);
    findings.secrets(settings);
    findings.selection(settings);
    findings.disks(settings);
    findings.found.sort_by_key(|finding| finding.level == Level::Warn);
    findings.found
}

struct Findings<'a> {
    loaded: &'a Loaded,
    found: Vec<Finding>,
}

impl Findings<'_> {
    fn error(&mut self, key: &str, text: impl fmt::Display) {
        self.push(Level::Error, Some(Code::ConfigInvalid), key, text);
    }

    fn warn(&mut self, key: &str, text: impl fmt::Display) {
        self.push(Level::Warn, None, key, text);
    }

    fn push(&mut self, level: Level, code: Option<Code>, key: &str, text: impl fmt::Display) {
        let origin = self.loaded.origin(key);
        self.found.push(Finding { level, code, text: format!("{origin}: `{key}`: {text}") });
    }

    fn schedule(&mut self, settings: &Settings, now: Timestamp) {
        let sync = &settings.sync;
        if let Err(error) = Schedule::parse("", &sync.timezone) {
            self.error("sync.timezone", error.problem().message);
            return;
        }
        match Schedule::parse(&sync.schedule, &sync.timezone) {
            Err(error) => {
                let problem = error.problem();
                let why = problem.causes.first().map_or_else(String::new, |cause| format!(" ({cause})"));
                self.error("sync.schedule", format!("{}{why}", problem.message));
            }
            Ok(schedule) if !schedule.is_manual() && schedule.next(now, sync.jitter, 0).is_none() => {
                self.error("sync.schedule", format!("`{}` never comes", sync.schedule));
            }
            Ok(_) => {}
        }
    }

    fn listeners(&mut self, settings: &Settings) {
        let server = &settings.server;
        let plain = server.listen.iter().map(|address| ("server.listen", address));
        let tls = server.listen_tls.iter().map(|address| ("server.listen_tls", address));
        let listen: Vec<_> = plain.chain(tls).collect();
        for (at, (key, one)) in listen.iter().enumerate() {
            if let Some((_, other)) = listen[..at].iter().find(|(_, other)| collide(one, other)) {
                self.error(key, format!("`{one}` and `{other}` cannot be listened on both"));
            }
        }
        let (admin, admin_tls) = (&settings.admin.listen, &settings.admin.listen_tls);
        for (key, admin) in [("admin.listen", admin), ("admin.listen_tls", admin_tls)] {
            if let Some((theirs, other)) = listen.iter().find(|(_, other)| collide(admin, other)) {
                let rule = "clients and administrators never share a port";
                self.error(key, format!("`{admin}` collides with `{theirs}` `{other}`: {rule}"));
            }
        }
        if collide(admin, admin_tls) {
            self.error("admin.listen_tls", format!("`{admin_tls}` and `{admin}` cannot be listened on both"));
        }
        let reach =
            |address: &String| address.parse::<SocketAddr>().is_ok_and(|address| !address.ip().is_loopback());
        if reach(admin) {
            self.warn(
                "admin.listen",
                format!(
                    "`{admin}` can be reached from other machines, which see there without a password how the site is; \
                     the API answers them at `admin.listen_tls` only"
                ),
            );
        }
        if listen.is_empty() {
            self.warn("server.listen", "no address, so no client is answered");
        }
        if settings.server.public_url.is_empty() && listen.iter().any(|(_, address)| reach(address)) {
            let url = settings.public_url();
            self.warn(
                "server.public_url",
                match settings.public_url_is_a_guess() {
                    true => {
                        "not set: clients are told to ask again as they did, and points to ask `localhost`"
                            .to_owned()
                    }
                    false => format!("not set: clients are told `{url}`, which others may not reach"),
                },
            );
        }
        if settings.server.allow_plain_enrolment && settings.server.listen.iter().any(reach) {
            self.warn(
                "server.allow_plain_enrolment",
                "tokens and keys of points and devices can be read by whoever is between",
            );
        }
        if settings.tls.from_site && !settings.tls.cert_file.is_empty() {
            self.warn("tls.from_site", "`tls.cert_file` is set, and the site is asked for nothing");
        }
        let over_tls = !settings.server.listen_tls.is_empty() || !admin_tls.is_empty();
        if over_tls
            && !settings.certificate_from_site()
            && let Err(problem) = crate::tls::identity(settings)
        {
            let key = if admin_tls.is_empty() { "server.listen_tls" } else { "admin.listen_tls" };
            let help = match settings.tls.cert_file.is_empty() {
                true => problem.help.clone(),
                false => "mend the files of `tls.cert_file` and `tls.key_file`".to_owned(),
            };
            let text = format!("{}: {}; {help}", problem.code, problem.message);
            match crate::tls::is_made_anew(settings) {
                true => self.warn(key, text),
                false => self.push(Level::Error, Some(problem.code), key, text),
            }
        }
        if settings.dp.is_site()
            && settings.update_point.upstream_role
            && settings.server.listen.iter().any(reach)
        {
            self.warn(
                "update_point.upstream_role",
                "downstream servers get metadata over plain HTTP, and it is not signed: whoever is between can change \
                 it; keep it to networks that you trust, or set it to false",
            );
        }
    }

    fn files(&mut self, settings: &Settings) {
        let certificates = [
            ("tls.extra_ca_file", settings.tls.extra_ca_file()),
            ("client.ca_file", settings.client.ca_file()),
            ("dp.ca_file", settings.dp.ca_file()),
        ];
        for (key, file) in certificates.into_iter().filter_map(|(key, file)| Some((key, file?))) {
            if let Err(error) = std::fs::File::open(&file) {
                self.error(key, format!("`{}` cannot be read ({error})", file.display()));
            }
        }
        if settings.sources.is_empty() {
            self.warn("source", "none, so there is nothing to synchronise");
        }
        for source in &settings.sources {
            for file in source.catalogs.iter().filter(|location| is_file(location)) {
                if !Path::new(file).is_file() {
                    self.warn(
                        &format!("source.{}.catalogs", source.name),
                        format!("there is no file `{file}`"),
                    );
                }
            }
            if source.server().is_some_and(|server| server.scheme() == "http") {
                let text = match settings.sync.allow_plain_http {
                    true => "plain HTTP: metadata is not signed, so whoever is on the way can change it",
                    false => {
                        "plain HTTP is refused; use https, or `sync.allow_plain_http` on a trusted network"
                    }
                };
                self.warn(&format!("source.{}.url", source.name), text);
            }
        }
    }

    /// What goes to the site of this machine where others on the way could read it.
    fn secrets(&mut self, settings: &Settings) {
        let readable = |site: &str| Url::parse(site).is_ok_and(|site| !dp::client::is_unread(&site));
        if !settings.dp.is_site() && readable(&settings.dp.site) {
            match settings.dp.allow_plain_key {
                true => self.warn(
                    "dp.allow_plain_key",
                    "the token and the key of this point can be read by whoever is between",
                ),
                false => self.warn(
                    "dp.site",
                    "plain HTTP: neither token nor key is sent there; use https, or `dp.allow_plain_key` on a trusted network",
                ),
            }
        }
        if readable(&settings.client.site) && settings.client.allow_plain_key {
            self.warn("client.allow_plain_key", "the key of this device can be read by whoever is between");
        } else if readable(&settings.client.site) {
            self.warn(
                "client.site",
                "plain HTTP: this device cannot enrol there, and its key is not shown; use https, or \
                 `client.allow_plain_key` on a trusted network",
            );
        }
    }

    fn selection(&mut self, settings: &Settings) {
        let selection = settings.selection();
        if let Some(off) = selection.upgrades_off() {
            self.warn("sync.classifications", format!("{}: {}", off.code, off.message));
        }
        for (key, chosen) in
            [("sync.languages", &selection.languages), ("sync.architectures", &selection.architectures)]
        {
            if chosen.is_empty() {
                self.warn(key, "empty, so nothing is listed; `*` selects all");
            }
        }
        if settings.sync.accept_licenses {
            self.warn(
                "sync.accept_licenses",
                "every licence text is accepted, also those that nobody has read",
            );
        }
    }

    fn disks(&mut self, settings: &Settings) {
        let (content, database) = (settings.content_dir(), settings.db_path());
        if database.is_dir() {
            self.error("db.path", format!("expected a file, actual the folder `{}`", database.display()));
        }
        let (Some(content), Some(database)) = (Disk::of(&content), Disk::of(&database)) else { return };
        if content.device == database.device && content.free < LITTLE {
            let text = format!(
                "on the same file system as `db.path`, {:.0} % free; content may fill the database's disk",
                content.free * 100.0
            );
            self.warn("content.dir", text);
        }
    }
}

/// Whether two addresses cannot be listened on both: one port, and one address or one that covers the other.
/// `[::]` covers the addresses of both families here, as Linux does unless told otherwise (`bindv6only`).
fn collide(one: &str, other: &str) -> bool {
    match (one.parse::<SocketAddr>(), other.parse::<SocketAddr>()) {
        (Ok(one), Ok(other)) => {
            let covers = |a: IpAddr, b: IpAddr| a.is_unspecified() && (a.is_ipv6() || b.is_ipv4());
            let (a, b) = (one.ip(), other.ip());
            // Port 0 asks for any free one.
            one.port() == other.port() && one.port() != 0 && (a == b || covers(a, b) || covers(b, a))
        }
        _ => !one.is_empty() && one.eq_ignore_ascii_case(other) && !one.ends_with(":0"),
    }
}

/// The file system under a path, which need not exist yet.
struct Disk {
    device: u64,
    /// Share of its blocks that may still be used, 0 to 1.
    free: f64,
}

impl Disk {
    fn of(path: &Path) -> Option<Self> {
        let there = path.ancestors().find(|ancestor| ancestor.exists())?;
        let device = there.metadata().ok()?.dev();
        let stat = rustix::fs::statvfs(there).ok()?;
        // Some file systems (overlays, network) count no blocks: nothing can be said then.
        (stat.f_blocks > 0).then(|| Self { device, free: stat.f_bavail as f64 / stat.f_blocks as f64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_collide_where_the_kernel_would_refuse() {
        let rows = [
            ("[::]:8530", "[::]:8530", true),
            ("[::]:8530", "10.0.0.1:8530", true),
            ("127.0.0.1:8530", "[::]:8530", true),
            ("0.0.0.0:8530", "127.0.0.1:8530", true),
            ("0.0.0.0:8530", "[::1]:8530", false),
            ("127.0.0.1:8530", "127.0.0.2:8530", false),
            ("[::]:8530", "[::]:8531", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("site01:8530", "SITE01:8530", true),
            ("site01:8530", "[::]:8530", false),
            ("", "", false),
        ];
        for (one, other, expected) in rows {
            assert_eq!(collide(one, other), expected, "{one} {other}");
            assert_eq!(collide(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_folder_that_does_not_exist_yet_is_on_the_disk_of_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let (there, later) = (Disk::of(dir.path()).unwrap(), Disk::of(&dir.path().join("a/b/c")).unwrap());
        assert_eq!(there.device, later.device);
        assert!((0.0..=1.0).contains(&there.free));
    }
}
