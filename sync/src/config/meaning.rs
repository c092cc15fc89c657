//! What settings come to: paths from the data directory, addresses, limits; and what of them a reload applies.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use catalog::problem::{Code, Problem};
use dp::client::CacheLimits;
use dp::transfer::Patience;
use jiff::{SignedDuration, Timestamp};
use schema::points::PointRole;
use url::Url;

use super::settings::{
    Admin, Client, Clients, Download, Dp, MICROSOFT_UPDATE, Retry, Settings, Source, SourceKind, Tls,
};
use super::units::Proxy;
use crate::select::Selection;

impl Settings {
    /// What the site wants of all that catalogs offer.
    pub fn selection(&self) -> Selection {
        let sync = &self.sync;
        Selection {
            classifications: sync.classifications.clone(),
            products: sync.products.clone(),
            releases: sync.releases.clone(),
            languages: sync.languages.clone(),
            architectures: sync.architectures.clone(),
            editions: sync.editions.clone(),
        }
    }

    /// File of the database.
    pub fn db_path(&self) -> PathBuf {
        self.site.data_dir.join(&self.db.path)
    }

    /// Whether this is a distribution point that asks its site for its certificate.
    pub fn certificate_from_site(&self) -> bool {
        self.tls.from_site && self.tls.cert_file.is_empty() && !self.dp.is_site()
    }

    /// Folder of the content library.
    pub fn content_dir(&self) -> PathBuf {
        self.site.data_dir.join(&self.content.dir)
    }

    /// Folder of the files that requests to the admin API name.
    pub fn exchange_dir(&self) -> PathBuf {
        self.site.data_dir.join("exchange")
    }

    /// The site that the client on this machine belongs to.
    pub fn client_site(&self) -> String {
        if self.client.site.is_empty() { self.public_url() } else { self.client.site.clone() }
    }

    /// Folder of the reference client.
    pub fn client_dir(&self) -> PathBuf {
        let dir = if self.client.dir.as_os_str().is_empty() { Path::new("client") } else { &self.client.dir };
        self.site.data_dir.join(dir)
    }

    /// The key of a distribution point on a machine of its own.
    pub fn point_key_file(&self) -> PathBuf {
        self.site.data_dir.join(&self.dp.key_file)
    }

    /// The address that clients are told, without a slash at its end. Where none is configured it is made from the
    /// first address that is listened on; one that means "every address" becomes `localhost`, which only this
    /// machine understands ([`super::Loaded::check`] warns).
    pub fn public_url(&self) -> String {
        if !self.server.public_url.is_empty() {
            return self.server.public_url.trim_end_matches('/').to_owned();
        }
        let first = self.server.listen.first();
        match self.first_address() {
            Some(address) if address.ip().is_unspecified() => format!("http://localhost:{}", address.port()),
            Some(address) => format!("http://{address}"),
            None if first.is_none() && !self.server.listen_tls.is_empty() => {
                format!("https://{}", self.server.listen_tls[0])
            }
            // A name with a port, as `site01:8530`; without any listener clients are told nothing useful anyway.
            None => format!("http://{}", first.map_or("localhost", String::as_str)),
        }
    }

    /// Where it listens first, if that is an address and no name.
    fn first_address(&self) -> Option<SocketAddr> {
        let first = self.server.listen.first();
        self.listening.first().copied().or_else(|| first.and_then(|address| address.parse().ok()))
    }

    /// Whether [`Settings::public_url`] is `localhost`, as nobody said what else it is.
    pub fn public_url_is_a_guess(&self) -> bool {
        let is_named =
            |told: &String| told.parse::<SocketAddr>().map_or(true, |address| !address.ip().is_unspecified());
        self.server.public_url.is_empty()
            && match self.first_address() {
                Some(address) => address.ip().is_unspecified(),
                None => {
                    self.server.listen.is_empty() && !self.server.listen_tls.first().is_some_and(is_named)
                }
            }
    }

    /// Remembers where the daemon really listens, for [`Settings::public_url`].
    pub fn listens_on(&mut self, addresses: &[SocketAddr]) {
        self.listening = addresses.to_vec();
    }

    /// Listens where `other` does.
    pub(super) fn listens_as(&mut self, other: &Self) {
        self.listening.clone_from(&other.listening);
    }

    /// Takes from the settings that run now whatever only a restart applies, so that a reload never leaves
    /// one half of the program with other values than the other. See [`super::applied_by_reload`].
    pub fn keep_what_needs_a_restart(&mut self, running: &Self) {
        self.site = running.site.clone();
        self.server = running.server.clone();
        self.admin = running.admin.clone();
        self.db = running.db.clone();
        self.content = running.content.clone();
        let retry = self.dp.retry.clone();
        self.dp = Dp { retry, ..running.dp.clone() };
        self.log = running.log.clone();
        self.download.min_free = running.download.min_free;
        self.listens_as(running);
    }

    /// Makes the paths absolute that their readers see without the data directory. A path of the configuration
    /// must not depend on the folder in which somebody happened to start the program.
    pub(super) fn resolve(&mut self) {
        let data_dir = self.site.data_dir.clone();
        let absolute = |path: &mut String| {
            if !path.is_empty() {
                *path = data_dir.join(&*path).to_string_lossy().into_owned();
            }
        };
        absolute(&mut self.tls.extra_ca_file);
        absolute(&mut self.admin.socket);
        absolute(&mut self.client.ca_file);
        absolute(&mut self.tls.cert_file);
        absolute(&mut self.tls.key_file);
        absolute(&mut self.dp.ca_file);
        absolute(&mut self.dp.token_file);
        absolute(&mut self.client.key_file);
        for catalog in self.sources.iter_mut().flat_map(|source| &mut source.catalogs) {
            if is_file(catalog) {
                absolute(catalog);
            }
        }
    }
}

/// Whether the location of a catalog is a file: it has no scheme of more than one letter (`C:` is a drive).
pub(super) fn is_file(location: &str) -> bool {
    Url::parse(location).map_or(true, |url| url.scheme().len() < 2)
}

fn given(path: &str) -> Option<PathBuf> {
    (!path.is_empty()).then(|| PathBuf::from(path))
}

impl Tls {
    /// The additional certificates, if any are configured.
    pub fn extra_ca_file(&self) -> Option<PathBuf> {
        given(&self.extra_ca_file)
    }
}

impl Dp {
    /// Whether this process is a site, and not a distribution point of one.
    pub fn is_site(&self) -> bool {
        self.role == PointRole::Site
    }

    /// The additional certificates, if any are configured.
    pub fn ca_file(&self) -> Option<PathBuf> {
        given(&self.ca_file)
    }

    /// The enrolment token, if one is configured.
    pub fn token_file(&self) -> Option<PathBuf> {
        given(&self.token_file)
    }
}

impl Admin {
    /// The address with TLS, unless it is off.
    pub fn listen_tls(&self) -> Option<String> {
        (!self.listen_tls.is_empty()).then(|| self.listen_tls.clone())
    }

    /// The socket of the command line, unless it is off.
    pub fn socket(&self) -> Option<PathBuf> {
        given(&self.socket)
    }
}

impl Client {
    /// The additional certificates, if any are configured.
    pub fn ca_file(&self) -> Option<PathBuf> {
        given(&self.ca_file)
    }

    /// The file with the device's key, if one is configured.
    pub fn key_file(&self) -> Option<PathBuf> {
        given(&self.key_file)
    }

    /// How much it keeps.
    pub fn limits(&self) -> CacheLimits {
        CacheLimits {
            size: Some(self.cache_size).filter(|size| *size > 0),
            age: Some(self.cache_age).filter(|age| !age.is_zero()),
        }
    }

    /// The address from which it asks, if one is configured.
    ///
    /// # Errors
    /// `CONFIG_INVALID` where it is none.
    pub fn address(&self) -> Result<Option<IpAddr>, Problem> {
        if self.address.is_empty() {
            return Ok(None);
        }
        let invalid = |_| {
            let message = format!("`[client] address = {:?}` is no IP address", self.address);
            Problem::new(Code::ConfigInvalid, message)
        };
        self.address.parse().map(Some).map_err(invalid)
    }
}

impl Clients {
    /// On how many days nothing was heard of a device that is forgotten; none is, where it is `None`.
    pub fn forget_after_days(&self) -> Option<u32> {
        let days = self.forget_after.as_secs() / 86_400;
        u32::try_from(days).ok().filter(|days| *days > 0)
    }

    /// Messages that came before this are not kept any more.
    pub fn messages_since(&self, now: Timestamp) -> Option<Timestamp> {
        let kept = SignedDuration::try_from(self.status_retention).ok().filter(|kept| !kept.is_zero())?;
        now.checked_sub(kept).ok()
    }
}

impl Download {
    /// Through which proxy downloads go, as the transfer engine says it.
    pub fn proxy(&self) -> dp::transfer::web::Proxy {
        match &self.proxy {
            Proxy::System => dp::transfer::web::Proxy::System,
            Proxy::None => dp::transfer::web::Proxy::None,
            Proxy::Url(url) => dp::transfer::web::Proxy::Url(url.clone()),
        }
    }
}

impl Retry {
    /// The same for one transfer.
    pub fn patience(&self) -> Patience {
        Patience {
            attempts_per_source: self.max,
            first_delay: self.first,
            longest_delay: self.longest,
            ..Patience::default()
        }
    }
}

impl Source {
    /// Root of the update server; `None` for a source that is none, and for a text that is no address.
    pub fn server(&self) -> Option<Url> {
        match self.kind {
            SourceKind::EsdCatalog | SourceKind::Import => None,
            SourceKind::MicrosoftUpdate if self.url.is_empty() => Url::parse(MICROSOFT_UPDATE).ok(),
            SourceKind::MicrosoftUpdate | SourceKind::Wsus => Url::parse(&self.url).ok(),
        }
    }
}
