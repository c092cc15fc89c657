//! Values that have the right type and still cannot work, whatever machine they are used on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::meaning::is_file;
use super::settings::{Settings, Source, SourceKind};
use super::units::{cut, show_duration, web_address};
use crate::import::IMPORT;

/// A broken rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// The key whose value cannot be used.
    pub key: String,
    /// What was expected and found.
    pub reason: String,
    /// The key that asks for more than nothing, or for more than the default.
    pub by: Option<String>,
}

/// Each broken rule.
pub(super) fn broken(settings: &Settings) -> Vec<Broken> {
    let mut rules = Rules::default();
    let s = settings;
    let data_dir = &s.site.data_dir;
    rules.hold("site.data_dir", data_dir.is_absolute(), || {
        format!("expected an absolute path, actual `{}`", data_dir.display())
    });
    for (key, path) in [("db.path", &s.db.path), ("content.dir", &s.content.dir)] {
        rules.hold(key, !path.as_os_str().is_empty(), || "expected a path, actual nothing".to_owned());
    }
    rules.within("server.max_connections", s.server.max_connections, 1, 1_000_000);
    rules.within("server.max_connections_per_client", s.server.max_connections_per_client, 1, 1_000_000);
    rules.within("server.max_transfers", s.server.max_transfers, 0, 1_000_000);
    rules.within("server.max_transfers_per_client", s.server.max_transfers_per_client, 0, 1_000_000);
    rules.within("db.readers", s.db.readers, 1, 64);
    rules.within("download.parallel_files", s.download.parallel_files, 1, 64);
    rules.within("sync.parallel_requests", s.sync.parallel_requests, 1, 16);
    rules.within("sync.retry.max", s.sync.retry.max as usize, 1, 1_000);
    const SECOND: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_secs(86_400);
    rules.lasts("server.read_timeout", s.server.read_timeout, SECOND, DAY);
    rules.lasts("server.shutdown_grace", s.server.shutdown_grace, Duration::ZERO, DAY);
    rules.lasts("sync.request_timeout", s.sync.request_timeout, SECOND, DAY);
    rules.lasts("sync.jitter", s.sync.jitter, Duration::ZERO, 7 * DAY);
    rules.lasts("sync.retry.longest", s.sync.retry.longest, Duration::from_millis(1), DAY);
    rules.lasts("sync.retry.first", s.sync.retry.first, Duration::from_millis(1), s.sync.retry.longest);
    rules.by("sync.retry.first", "sync.retry.longest");
    let control = &s.server.congestion_control;
    let is_name = control.len() < 16
        && control.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    rules.hold("server.congestion_control", is_name, || {
        format!("expected a name as `cubic`, or nothing, actual `{control}`")
    });
    for address in &s.server.listen {
        rules.hold("server.listen", is_address(address), || not_an_address(address));
    }
    for address in &s.server.listen_tls {
        rules.hold("server.listen_tls", is_address(address), || not_an_address(address));
    }
    let (lacking, there) = match s.tls.cert_file.is_empty() {
        true => ("tls.cert_file", "tls.key_file"),
        false => ("tls.key_file", "tls.cert_file"),
    };
    rules.hold(lacking, s.tls.cert_file.is_empty() == s.tls.key_file.is_empty(), || {
        "expected `tls.cert_file` and `tls.key_file` both, or neither".to_owned()
    });
    rules.by(lacking, there);
    rules.within("limits.deployment_default_size", s.limits.deployment_default_size, 0, 1_000_000);
    rules.within("limits.deployment_maximum_size", s.limits.deployment_maximum_size, 0, 1_000_000);
    let (usual, most) = (s.limits.deployment_default_size, s.limits.deployment_maximum_size);
    rules.hold("limits.deployment_maximum_size", most == 0 || most > usual, || {
        format!("expected 0 or more than `limits.deployment_default_size` ({usual}), actual {most}")
    });
    rules.by("limits.deployment_maximum_size", "limits.deployment_default_size");
    rules.lasts("client.before_cloud", s.client.before_cloud, Duration::ZERO, DAY);
    rules.lasts("clients.poll_interval", s.clients.poll_interval, 10 * SECOND, DAY);
    // A laptop that was on holiday is to find its way back, and a slip of the pen is to remove nobody.
    rules.lasts_or_never("clients.forget_after", s.clients.forget_after, 30 * DAY, 3_650 * DAY);
    rules.lasts_or_never("clients.status_retention", s.clients.status_retention, DAY, 3_650 * DAY);
    rules.lasts_or_never("content.verify", s.content.verify, DAY, 3_650 * DAY);
    rules.within("dp.retry.max", s.dp.retry.max as usize, 0, 10_000);
    rules.lasts("dp.retry.delay", s.dp.retry.delay, Duration::from_millis(1), 7 * DAY);
    rules.lasts("dp.on_demand_wait", s.dp.on_demand_wait, Duration::from_millis(1), Duration::from_secs(600));
    rules.lasts("dp.on_demand_keep", s.dp.on_demand_keep, SECOND, 3_650 * DAY);
    rules.lasts("dp.drop_after", s.dp.drop_after, Duration::ZERO, 3_650 * DAY);
    // A point is to go on while its site is away.
    rules.lasts("dp.keys_good_for", s.dp.keys_good_for, DAY, 3_650 * DAY);
    for host in &s.dp.cloud_hosts {
        let plain =
            !host.is_empty() && !host.contains(['/', ':', '@']) && !host.chars().any(char::is_whitespace);
        rules.hold("dp.cloud_hosts", plain, || {
            format!("expected a host or `*.` and a host, actual `{}`", cut(host))
        });
    }
    if s.dp.is_site() {
        rules.hold("dp.site", s.dp.site.is_empty(), || {
            "expected nothing where `dp.role` is `site`: this is the site".to_owned()
        });
        rules.hold("tls.from_site", !s.tls.from_site, || {
            "expected false where `dp.role` is `site`: `spsync tls init` makes its certificate".to_owned()
        });
        rules.hold("dp.on_demand", !s.dp.on_demand, || {
            "expected false where `dp.role` is `site`: it downloads by packages".to_owned()
        });
    } else {
        match s.dp.site.is_empty() {
            true => rules.hold("dp.site", false, || {
                "expected the address of the site, as `https://site01.example:8531`".to_owned()
            }),
            false => rules.reads("dp.site", web_address(&s.dp.site)),
        }
        rules.by("dp.site", "dp.role");
        rules.hold("dp.key_file", !s.dp.key_file.is_empty(), || "expected a path, actual nothing".to_owned());
    }
    for (key, admin) in [("admin.listen", &s.admin.listen), ("admin.listen_tls", &s.admin.listen_tls)] {
        rules.hold(key, admin.is_empty() || is_address(admin), || not_an_address(admin));
    }
    if let Some(socket) = s.admin.socket().map(|socket| data_dir.join(socket)) {
        let other = own_paths(s).into_iter().find(|(_, path)| *path == socket);
        // Beside the library's own folders it harms nobody.
        let library = s.content_dir();
        let is_in_library = ["blobs", "hashes", "maps", "staging", "quarantine"]
            .iter()
            .any(|folder| socket.starts_with(library.join(folder)));
        rules.hold("admin.socket", other.is_none() && !is_in_library, || {
            let of = other.map_or("content.dir", |(key, _)| key);
            format!(
                "expected a path of its own, actual `{}`, which is that of `{of}` or in it",
                socket.display()
            )
        });
    }
    for (key, url) in [("server.public_url", &s.server.public_url), ("client.site", &s.client.site)] {
        if !url.is_empty() {
            rules.reads(key, web_address(url));
        }
    }
    let name = &s.dp.name;
    let plain = (1..=50).contains(&name.chars().count())
        && !name.chars().any(|c| c.is_control() || "/\\".contains(c));
    rules.hold("dp.name", plain, || format!("expected 1 to 50 plain characters, actual `{}`", cut(name)));
    rules.reads("log.level", log_level(&s.log.level));
    for source in &s.sources {
        rules.source(source);
    }
    rules.broken
}

/// Files and folders that the site has or is given, each with its key.
fn own_paths(s: &Settings) -> Vec<(&'static str, PathBuf)> {
    let database = s.db_path();
    let beside = |end: &str| {
        let mut name = database.clone().into_os_string();
        name.push(end);
        PathBuf::from(name)
    };
    let mut paths: Vec<_> =
        ["", "-wal", "-shm", ".lock"].into_iter().map(|end| ("db.path", beside(end))).collect();
    paths.extend([
        ("site.data_dir", s.site.data_dir.clone()),
        ("site.data_dir", s.site.data_dir.join("spsync.lock")),
        ("site.data_dir", s.exchange_dir()),
        ("content.dir", s.content_dir()),
        ("client.dir", s.client_dir()),
        ("dp.key_file", s.point_key_file()),
    ]);
    let named = [
        ("tls.cert_file", &s.tls.cert_file),
        ("tls.key_file", &s.tls.key_file),
        ("tls.extra_ca_file", &s.tls.extra_ca_file),
        ("client.ca_file", &s.client.ca_file),
        ("client.key_file", &s.client.key_file),
        ("dp.ca_file", &s.dp.ca_file),
        ("dp.token_file", &s.dp.token_file),
    ];
    let named = named.into_iter().filter(|(_, path)| !path.is_empty());
    paths.extend(named.map(|(key, path)| (key, s.site.data_dir.join(path))));
    paths
}

#[derive(Default)]
struct Rules {
    broken: Vec<Broken>,
}

impl Rules {
    fn hold(&mut self, key: &str, holds: bool, reason: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(Broken { key: key.to_owned(), reason: reason(), by: None });
        }
    }

    /// It is another key that asks for that, where the rule just looked at is broken.
    fn by(&mut self, key: &str, by: &str) {
        if let Some(broken) = self.broken.last_mut().filter(|broken| broken.key == key) {
            broken.by = Some(by.to_owned());
        }
    }

    fn reads<T>(&mut self, key: &str, read: Result<T, String>) {
        if let Err(reason) = read {
            self.hold(key, false, || reason);
        }
    }

    fn within(&mut self, key: &str, value: usize, least: usize, most: usize) {
        self.hold(key, (least..=most).contains(&value), || {
            format!("expected {least} to {most}, actual {value}")
        });
    }

    fn lasts(&mut self, key: &str, value: Duration, least: Duration, most: Duration) {
        self.hold(key, (least..=most).contains(&value), || {
            let (least, most) = (show_duration(least), show_duration(most));
            format!("expected `{least}` to `{most}`, actual `{}`", show_duration(value))
        });
    }

    /// 0 is for never.
    fn lasts_or_never(&mut self, key: &str, value: Duration, least: Duration, most: Duration) {
        if !value.is_zero() {
            self.lasts(key, value, least, most);
        }
    }

    fn source(&mut self, source: &Source) {
        let key = |short: &str| format!("source.{}.{short}", source.name);
        for location in source.catalogs.iter().filter(|location| !is_file(location)) {
            if !location.starts_with("file:") {
                self.reads(&key("catalogs"), web_address(location));
            }
        }
        self.hold(
            &key("catalogs"),
            source.catalogs.iter().all(|location| !location.trim().is_empty()),
            || "expected URLs or files, actual an empty one".to_owned(),
        );
        self.server(source);
        for mirror in &source.mirrors {
            self.reads(&key("mirrors"), web_address(mirror));
        }
        for host in &source.redirect_hosts {
            self.hold(&key("redirect_hosts"), is_host(host), || {
                format!("expected a host, as `cdn.example` or `*.cdn.example`, actual `{}`", cut(host))
            });
        }
    }
}

impl Rules {
    /// Which of the keys of a source mean something depends on what it speaks.
    fn server(&mut self, source: &Source) {
        let key = |short: &str| format!("source.{}.{short}", source.name);
        let empty = |text: &str| text.is_empty();
        let esd = source.kind == SourceKind::EsdCatalog;
        let import = source.kind == SourceKind::Import;
        self.hold(&key("kind"), import == (source.name == IMPORT), || {
            format!("expected `import` for the source `{IMPORT}`, and for no other")
        });
        self.by(&key("kind"), &key("name"));
        self.hold(&key("url"), !(esd || import) || empty(&source.url), || {
            format!(
                "expected nothing for an ESD catalog (its addresses are `catalogs`) or an import, actual `{}`",
                cut(&source.url)
            )
        });
        self.hold(&key("content_url"), !(esd || import) || empty(&source.content_url), || {
            format!("expected nothing for an ESD catalog or an import, actual `{}`", cut(&source.content_url))
        });
        self.hold(&key("catalogs"), esd || source.catalogs.is_empty(), || {
            "expected nothing for an update server (its address is `url`), actual a list".to_owned()
        });
        self.hold(&key("url"), source.kind != SourceKind::Wsus || !empty(&source.url), || {
            "expected the root of the server, as `https://host:8531`, actual nothing".to_owned()
        });
        self.by(&key("url"), &key("kind"));
        for (short, url) in [("url", &source.url), ("content_url", &source.content_url)] {
            if !esd && !import && !empty(url) {
                self.reads(&key(short), web_address(url));
            }
        }
    }
}

/// An address with a port; a name in place of the address is allowed.
fn is_address(text: &str) -> bool {
    let named = || {
        let (host, port) = text.rsplit_once(':')?;
        let plain =
            !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        (plain && port.parse::<u16>().is_ok()).then_some(())
    };
    text.parse::<SocketAddr>().is_ok() || named().is_some()
}

fn not_an_address(text: &str) -> String {
    format!("expected an address with a port, as `[::]:8530` or `10.1.2.3:8530`, actual `{}`", cut(text))
}

/// A host, with `*.` before it for all hosts below. A lone `*` or `*.com` would allow everything, so two labels stay.
fn is_host(text: &str) -> bool {
    let wild = text.strip_prefix("*.");
    let host = wild.unwrap_or(text);
    let labels = host.split('.').count();
    host.len() <= 253
        && labels > usize::from(wild.is_some())
        && host.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

fn log_level(text: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let invalid = || {
        let words = LEVELS.join("`, `");
        format!("expected `{words}` or filters such as `info,spsync::run=debug`, actual `{}`", cut(text))
    };
    if text.contains([',', '=']) {
        tracing_subscriber::EnvFilter::try_new(text).map(drop).map_err(|_| invalid())
    } else if LEVELS.contains(&text) {
        Ok(())
    } else {
        Err(invalid())
    }
}
