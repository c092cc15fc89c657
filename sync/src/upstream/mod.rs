//! Talking to upstreams. Each kind of source has a file; all of them reach the network through [`Webs`], which
//! holds one policy a source: what it may reach, and whom it trusts.

pub mod esd_catalog;
pub mod server_sync;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use catalog::problem::{Code, Coded as _, Problem};
use dp::transfer::web::{Proxy, Web, WebPolicy};
use ipnet::IpNet;

use crate::config::{Settings, Source};

/// Hosts that Microsoft's published links may redirect to. A redirect anywhere else is a captive portal, a proxy
/// or worse.
pub const MICROSOFT_HOSTS: [&str; 8] = [
    "go.microsoft.com",
    "download.microsoft.com",
    "www.microsoft.com",
    "software-download.microsoft.com",
    "software-static.download.prss.microsoft.com",
    "*.dl.delivery.mp.microsoft.com",
    "dl.delivery.mp.microsoft.com",
    "*.download.windowsupdate.com",
];

/// One connection pool a source and policy, made when it is first needed and again after a reload. Long work goes on with the
/// settings with which it began: what it asks for is never given to who has others.
#[derive(Clone, Default)]
pub struct Webs {
    made: Arc<Mutex<Pools>>,
}

/// By the name of the source and its policy.
type Pools = HashMap<(String, Policy), Arc<Web>>;

/// What of the settings a pool depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Policy {
    allow_networks: Vec<IpNet>,
    redirect_hosts: Option<Vec<String>>,
    extra_ca_file: Option<PathBuf>,
    proxy: Proxy,
}

impl Webs {
    /// None is made yet; what is wrong with a policy shows when its source is used.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all of them: the settings have changed.
    pub fn reset(&self) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// For metadata of `source`: redirects only to the allow-list and to `own_host`.
    ///
    /// # Errors
    /// Those of reading the extra CA file.
    pub fn metadata(
        &self,
        settings: &Settings,
        source: &Source,
        own_host: Option<&str>,
    ) -> Result<Arc<Web>, Problem> {
        let mut hosts: Vec<String> = MICROSOFT_HOSTS.iter().map(|host| (*host).to_owned()).collect();
        hosts.extend(source.redirect_hosts.iter().cloned());
        hosts.extend(own_host.map(str::to_owned));
        let key = format!("metadata {} {}", source.name, own_host.unwrap_or_default());
        self.web(key, settings, source, Some(hosts), &[])
    }

    /// For the update server of `source`: no redirects, and `extra_roots` of trust for it alone.
    ///
    /// # Errors
    /// Those of reading the extra CA file.
    pub fn update_server(
        &self,
        settings: &Settings,
        source: &Source,
        extra_roots: &[&'static [u8]],
    ) -> Result<Arc<Web>, Problem> {
        self.web(format!("update server {}", source.name), settings, source, Some(Vec::new()), extra_roots)
    }

    /// For content of `source`: any public host, and the private networks named for the source.
    ///
    /// # Errors
    /// Those of reading the extra CA file.
    pub fn content(&self, settings: &Settings, source: &Source) -> Result<Arc<Web>, Problem> {
        self.web(format!("content {}", source.name), settings, source, None, &[])
    }

    fn web(
        &self,
        key: String,
        settings: &Settings,
        source: &Source,
        redirect_hosts: Option<Vec<String>>,
        extra_roots: &[&'static [u8]],
    ) -> Result<Arc<Web>, Problem> {
        let policy = Policy {
            allow_networks: source.allow_networks.clone(),
            redirect_hosts,
            extra_ca_file: settings.tls.extra_ca_file(),
            proxy: settings.download.proxy(),
        };
        let key = (key, policy.clone());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(web) = made.get(&key) {
            return Ok(web.clone());
        }
        let Policy { allow_networks, redirect_hosts, extra_ca_file, proxy } = policy;
        let extra_roots = extra_roots.to_vec();
        let policy = WebPolicy {
            allow_networks,
            redirect_hosts,
            extra_ca_file,
            extra_roots,
            proxy,
            ..WebPolicy::default()
        };
        let web = Web::new(policy).map(Arc::new).map_err(|fault| {
            Problem::new(
                fault.code(),
                format!("the connections of source `{}` cannot be set up", source.name),
            )
            .because(fault.to_string())
        })?;
        made.insert(key, web.clone());
        Ok(web)
    }
}

/// An answer that cannot be used, with the place it came from.
pub(crate) fn not_usable(code: Code, location: &str, error: &(dyn std::error::Error + 'static)) -> Problem {
    Problem::new(code, format!("the catalog `{location}` cannot be used"))
        .because(error.to_string())
        .because_of(error.source())
        .keeping("the database is unchanged")
}

#[cfg(test)]
mod tests {
    use dp::transfer::fault::Fault;

    use super::*;

    /// A download that began before the settings were read again asks for its connections afterwards too.
    #[tokio::test]
    async fn settings_that_are_in_force_no_more_are_nobody_elses() {
        let open = Source { allow_networks: vec!["127.0.0.0/8".parse().unwrap()], ..Source::default() };
        let (closed, settings) = (Source::default(), Settings::default());
        let webs = Webs::new();
        let old = webs.content(&settings, &open).unwrap();
        webs.reset();
        let again = webs.content(&settings, &open).unwrap();
        let new = webs.content(&settings, &closed).unwrap();
        assert!(!Arc::ptr_eq(&old, &again) && !Arc::ptr_eq(&again, &new));
        assert!(Arc::ptr_eq(&new, &webs.content(&settings, &closed).unwrap()), "connections are shared");
        assert!(Arc::ptr_eq(&again, &webs.content(&settings, &open).unwrap()));
        let url = "http://127.0.0.1:1/a.esd".parse().unwrap();
        let refused = async |web: &Web| -> Fault { web.get_small(&url, 9, None).await.unwrap_err() };
        assert_eq!(refused(&again).await.code(), Code::SourceUnreachable);
        assert_eq!(refused(&new).await.code(), Code::NetworkNotAllowed);
    }
}
