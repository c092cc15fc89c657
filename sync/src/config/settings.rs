//! The settings as types, with their built-in defaults. Only what this release honours has a key.
//!
//! The serialised defaults are also the list of known keys, and the types of what the environment says.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use catalog::id::SiteCode;
use ipnet::IpNet;
use schema::points::PointRole;
use serde::{Deserialize, Serialize};

use super::units::{self, Proxy};
use crate::select::UPGRADES;
use crate::sequence::release::Release;

/// Every setting of a site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `[site]`
    pub site: Site,
    /// `[server]`
    pub server: Server,
    /// `[tls]`
    pub tls: Tls,
    /// `[admin]`
    pub admin: Admin,
    /// `[db]`
    pub db: Db,
    /// `[[source]]`: all of them feed one catalog.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
    /// `[sync]`
    pub sync: Sync,
    /// `[download]`
    pub download: Download,
    /// `[content]`
    pub content: Content,
    /// `[dp]`
    pub dp: Dp,
    /// `[update_point]`
    pub update_point: UpdatePoint,
    /// `[client]`
    pub client: Client,
    /// `[limits]`
    pub limits: Limits,
    /// `[clients]`
    pub clients: Clients,
    /// `[log]`
    pub log: Log,
    /// Where the daemon of this process really listens: port 0 has become a number. No key.
    #[serde(skip)]
    pub(super) listening: Vec<SocketAddr>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            site: Site::default(),
            server: Server::default(),
            tls: Tls::default(),
            admin: Admin::default(),
            db: Db::default(),
            sources: vec![Source::default()],
            sync: Sync::default(),
            download: Download::default(),
            content: Content::default(),
            dp: Dp::default(),
            update_point: UpdatePoint::default(),
            client: Client::default(),
            limits: Limits::default(),
            clients: Clients::default(),
            log: Log::default(),
            listening: Vec::new(),
        }
    }
}

/// Sections with their defaults, each field once: doc, serde attributes, type, default.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[$attribute])* pub $field: $type,)* }
        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

section! {
    /// What the site is and where it keeps its things.
    Site {
        /// Prefix of package ids; fixed after the first start.
        code: SiteCode = "XYZ".parse().expect("three letters are a site code"),
        /// Which features there are: 2103 brought feature updates in task sequences, 2107 those alone.
        release: Release = Release::default(),
        /// Absolute. Relative paths of other keys start here.
        #[serde(with = "units::path")]
        data_dir: PathBuf = PathBuf::from("/var/lib/spsync"),
    }
}
section! {
    /// What clients use.
    Server {
        /// Addresses with ports, plain HTTP: clients check content by its digest.
        listen: Vec<String> = vec!["[::]:8530".to_owned()],
        /// The same over TLS, with the certificate of `[tls]`.
        listen_tls: Vec<String> = Vec::new(),
        /// Take tokens and keys over plain HTTP from other machines too.
        allow_plain_enrolment: bool = false,
        /// What clients are told; empty: made from `listen`.
        public_url: String = String::new(),
        /// Connections at once.
        #[serde(with = "units::count")]
        max_connections: usize = 4096,
        /// Connections at once from one address.
        #[serde(with = "units::count")]
        max_connections_per_client: usize = 64,
        /// Bodies above 64 KiB that are sent at once; 0: as many as there are connections.
        #[serde(with = "units::count")]
        max_transfers: usize = 0,
        /// The same to one address.
        #[serde(with = "units::count")]
        max_transfers_per_client: usize = 0,
        /// Bytes per second of all bodies together.
        #[serde(with = "units::rate")]
        rate_limit: Option<u64> = None,
        /// Bytes per second to one address.
        #[serde(with = "units::rate")]
        rate_limit_per_client: Option<u64> = None,
        /// How connections find their speed, as tcp(7) names it; empty: as this machine does.
        congestion_control: String = dp::server::CONGESTION_CONTROL.to_owned(),
        /// How long a client may take for its request.
        #[serde(with = "units::duration")]
        read_timeout: Duration = Duration::from_secs(30),
        /// How long running transfers get at the end.
        #[serde(with = "units::duration")]
        shutdown_grace: Duration = Duration::from_secs(120),
    }
}
section! {
    /// Our certificate, and whom outgoing connections trust.
    Tls {
        /// PEM, our certificate and those between it and its authority; empty: that of `spsync tls init`.
        cert_file: String = String::new(),
        /// PEM, its key, which only we may read.
        key_file: String = String::new(),
        /// On a distribution point of its own: a certificate of the site's authority, asked for by itself.
        from_site: bool = false,
        /// PEM certificates trusted in addition to the system's; empty: none.
        extra_ca_file: String = String::new(),
    }
}
section! {
    /// What administrators use.
    Admin {
        /// Unix socket of the command line; empty: off.
        socket: String = "/run/spsync/admin.sock".to_owned(),
        /// Address of `/healthz`, `/readyz`, `/metrics` and, for this machine alone, the API; empty: off.
        listen: String = "127.0.0.1:8540".to_owned(),
        /// The same over TLS, where the API answers other machines too; empty: off.
        listen_tls: String = String::new(),
        /// `/metrics` for other machines too, where `listen` lets them ask.
        metrics_public: bool = false,
    }
}
section! {
    /// The database.
    Db {
        /// Its file.
        #[serde(with = "units::path")]
        path: PathBuf = PathBuf::from("spsync.db"),
        /// Read connections; there is always exactly one writer.
        #[serde(with = "units::count")]
        readers: usize = 4,
    }
}
section! {
    /// One upstream.
    Source {
        /// Its name, by which other things refer to it.
        name: String = "esd".to_owned(),
        /// What it speaks.
        kind: SourceKind = SourceKind::EsdCatalog,
        /// URLs or files; empty: Microsoft's published links. Of ESD catalogs only.
        catalogs: Vec<String> = Vec::new(),
        /// Root of an update server: `https://host:8531`. Of `wsus`; empty for Microsoft's own.
        url: String = String::new(),
        /// Root of its content; empty: made from `url`.
        content_url: String = String::new(),
        /// Private networks that it may reach; nothing else opens them, on any redirect.
        #[serde(with = "units::networks")]
        allow_networks: Vec<IpNet> = Vec::new(),
        /// Hosts that redirects of its catalogs may lead to, beside the built-in ones.
        redirect_hosts: Vec<String> = Vec::new(),
        /// URL prefixes that are tried for content before the catalog's own links.
        mirrors: Vec<String> = Vec::new(),
    }
}
section! {
    /// Synchronisation and selection.
    Sync {
        /// Cron line in `timezone`; empty: by hand only.
        schedule: String = "0 22 * * *".to_owned(),
        /// IANA name.
        timezone: String = "UTC".to_owned(),
        /// Runs of this site come later by a fixed part of it.
        #[serde(with = "units::duration")]
        jitter: Duration = Duration::from_secs(15 * 60),
        /// Products; empty: all.
        products: Vec<String> = Vec::new(),
        /// Releases; empty: all.
        releases: Vec<String> = Vec::new(),
        /// Edition groups; empty: all.
        editions: Vec<String> = Vec::new(),
        /// Classifications.
        classifications: Vec<String> = vec![UPGRADES.to_owned()],
        /// Content languages; `*`: all.
        languages: Vec<String> = vec!["en-us".to_owned()],
        /// Architectures; `*`: all.
        architectures: Vec<String> = vec!["x64".to_owned(), "arm64".to_owned()],
        /// Months after the creation of what replaces it until a feature update expires; 0: at once.
        supersedence_months: u32 = 3,
        /// Accept each licence text, recorded as "by configuration".
        accept_licenses: bool = false,
        /// Take metadata over plain HTTP from update servers.
        allow_plain_http: bool = false,
        /// Requests for documents at once, to one update server.
        #[serde(with = "units::count")]
        parallel_requests: usize = 4,
        /// How long one request for metadata may take.
        #[serde(with = "units::duration")]
        request_timeout: Duration = Duration::from_secs(100),
        /// Trying again, of metadata and of content.
        retry: Retry = Retry::default(),
    }
}
section! {
    /// Trying again what failed for a reason that may pass.
    Retry {
        /// Tries in all.
        max: u32 = 6,
        /// Pause before the second try; it doubles each time.
        #[serde(with = "units::duration")]
        first: Duration = Duration::from_secs(1),
        /// The longest pause.
        #[serde(with = "units::duration")]
        longest: Duration = Duration::from_secs(300),
    }
}
section! {
    /// Fetching content.
    Download {
        /// Refuse content of which only a SHA-1 is published.
        require_sha256: bool = false,
        /// Files at once.
        #[serde(with = "units::count")]
        parallel_files: usize = 3,
        /// Bytes per second of all downloads together.
        #[serde(with = "units::rate")]
        rate_limit: Option<u64> = None,
        /// Through which proxy.
        proxy: Proxy = Proxy::System,
        /// Stop before the disk has less, bytes.
        #[serde(with = "units::size")]
        min_free: u64 = 1 << 30,
    }
}
section! {
    /// The content library.
    Content {
        /// Its folder.
        #[serde(with = "units::path")]
        dir: PathBuf = PathBuf::from("content"),
        /// In what time each content is read again and compared with its digest; 0: only when somebody asks for it.
        #[serde(with = "units::duration")]
        verify: Duration = Duration::ZERO,
    }
}
section! {
    /// The distribution point of this site, or of this machine.
    Dp {
        /// Its name; no host name, so that a site moves without renaming it.
        name: String = "site".to_owned(),
        /// That of the site itself, or one on a machine of its own.
        role: PointRole = PointRole::Site,
        /// Address of the site, for one on a machine of its own.
        site: String = String::new(),
        /// PEM certificates that it trusts in addition to the system's; empty: none.
        ca_file: String = String::new(),
        /// Its enrolment token, until it has a key; empty: none.
        token_file: String = String::new(),
        /// Its key, made by itself.
        key_file: String = "point.key".to_owned(),
        /// Send the token and the key over plain HTTP to another machine too.
        allow_plain_key: bool = false,
        /// Sending again to points what failed.
        retry: PointRetry = PointRetry::default(),
        /// Fetch what clients ask for and what is not here, if the site lets it be had.
        on_demand: bool = false,
        /// How long a request waits for that.
        #[serde(with = "units::duration")]
        on_demand_wait: Duration = Duration::from_secs(30),
        /// What was fetched so goes when nobody has asked for it for so long.
        #[serde(with = "units::duration")]
        on_demand_keep: Duration = Duration::from_secs(30 * 86_400),
        /// Bytes that it may take; 0: all but `[download] min_free`.
        #[serde(with = "units::size")]
        on_demand_room: u64 = 0,
        /// What the site names no more goes after so long, unless it says that it is to go at once.
        #[serde(with = "units::duration")]
        drop_after: Duration = Duration::from_secs(7 * 86_400),
        /// Keys for private content that the site told are forgotten after so long without an answer of it.
        #[serde(with = "units::duration")]
        keys_good_for: Duration = Duration::from_secs(30 * 86_400),
        /// Hosts of upstreams that may be asked for public content when the site and other points cannot give it.
        cloud_hosts: Vec<String> = Vec::new(),
        /// Private networks in which they may be.
        #[serde(with = "units::networks")]
        cloud_networks: Vec<IpNet> = Vec::new(),
    }
}
section! {
    /// Sending again to distribution points.
    PointRetry {
        /// How often.
        max: u32 = 100,
        /// After which pause.
        #[serde(with = "units::duration")]
        delay: Duration = Duration::from_secs(30 * 60),
    }
}
section! {
    /// What other update servers synchronise from.
    UpdatePoint {
        /// WSUS servers and other sites may synchronise from this one, at the addresses of `[server] listen`.
        upstream_role: bool = true,
    }
}
section! {
    /// The reference client on this machine.
    Client {
        /// Address of the site; empty: the site on this machine.
        site: String = String::new(),
        /// PEM certificates that it trusts in addition to the system's; empty: none.
        ca_file: String = String::new(),
        /// Its own content library; empty: `client` in the data directory.
        #[serde(with = "units::path")]
        dir: PathBuf = PathBuf::new(),
        /// Private networks that it may reach beside that of its site.
        #[serde(with = "units::networks")]
        allow_networks: Vec<IpNet> = Vec::new(),
        /// The address of this machine from which it asks; empty: any.
        address: String = String::new(),
        /// The port at which it serves other clients.
        peer_port: u16 = 8533,
        /// Bytes per second that it sends to other clients, to all together; empty: no limit.
        #[serde(with = "units::rate")]
        share_rate: Option<u64> = Some(20 << 20),
        /// Whether it is shared also while this machine runs on its battery.
        share_on_battery: bool = false,
        /// File with the key of this device, which it needs to share and for private content; empty: that of its enrolment.
        key_file: String = String::new(),
        /// Show the key over plain HTTP to other machines too.
        allow_plain_key: bool = false,
        /// Bytes of all content that it keeps; 0: no limit.
        #[serde(with = "units::size")]
        cache_size: u64 = 0,
        /// How long what nobody uses is kept; 0: for ever.
        #[serde(with = "units::duration")]
        cache_age: Duration = Duration::ZERO,
        /// How long nearer places that are busy or cannot be reached are waited for before the cloud is asked.
        #[serde(with = "units::duration")]
        before_cloud: Duration = Duration::from_secs(60),
    }
}
section! {
    /// What deployments that could do harm to many may reach.
    Limits {
        /// More devices need a confirmation; 0: any number.
        #[serde(with = "units::count")]
        deployment_default_size: usize = 100,
        /// More devices are refused; 0: any number.
        #[serde(with = "units::count")]
        deployment_maximum_size: usize = 0,
        /// Machines of the site among them.
        deploy_to_site_systems: SiteSystems = SiteSystems::Warn,
    }
}
section! {
    /// What devices are told beside deployments.
    Clients {
        /// How often they ask for their policy.
        #[serde(with = "units::duration")]
        poll_interval: Duration = Duration::from_secs(3600),
        /// Devices that were not heard of on so many days are forgotten; 0: never.
        #[serde(with = "units::duration")]
        forget_after: Duration = Duration::ZERO,
        /// How long messages of devices are kept, and what was done on those that were removed; 0: for ever.
        #[serde(with = "units::duration")]
        status_retention: Duration = Duration::from_secs(180 * 86_400),
    }
}
section! {
    /// The log of the daemon.
    Log {
        /// A level, or filters: `info,spsync::run=debug`.
        level: String = "info".to_owned(),
        /// How it is written.
        format: LogFormat = LogFormat::Auto,
        /// One line a request.
        access_log: bool = true,
    }
}

/// What a source speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// Microsoft's ESD catalogs: `products.cab`, `products.xml`.
    #[default]
    EsdCatalog,
    /// Microsoft Update, by server-sync.
    MicrosoftUpdate,
    /// A WSUS or another spsync, by server-sync.
    Wsus,
    /// Nothing: how content may be reached that imported documents name. Without such a source: on public hosts.
    Import,
}

/// Root of Microsoft Update's server-sync service.
pub const MICROSOFT_UPDATE: &str = "https://sws.update.microsoft.com";

/// What happens where a high-risk deployment reaches machines of the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SiteSystems {
    /// It has to be confirmed.
    #[default]
    Warn,
    /// It is refused.
    Block,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Text, without time where the journal adds it.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}
