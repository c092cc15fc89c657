//! Calls of a site by its points and devices.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::problem::{Code, Coded as _, Problem};
use dp::transfer::web::{Bearer, Exchange, Proxy, Web, WebPolicy, as_folder};
use serde::Serialize;
use url::Url;

use crate::keys::Secret;

/// The address of a site, as a folder to which paths can be joined.
///
/// # Errors
/// `CONFIG_INVALID` where it is none.
pub fn base(site: &str) -> Result<Url, Problem> {
    Url::parse(site).map(as_folder).map_err(|error| {
        Problem::new(Code::ConfigInvalid, format!("`{site}` is no address of a site"))
            .because_of(Some(&error))
    })
}

/// A place below it.
///
/// # Errors
/// `INTERNAL`.
pub fn join(base: &Url, path: &str) -> Result<Url, Problem> {
    base.join(path).map_err(|error| Problem::of(Code::Internal, &error))
}

/// Connections to a site, wherever it is, and nowhere else; with a key, that is shown to it alone.
///
/// # Errors
/// Those of reading the certificates.
pub fn web(base: &Url, ca_file: Option<PathBuf>, key: Option<&Secret>) -> Result<Arc<Web>, Problem> {
    let policy = WebPolicy {
        trusted_hosts: HashSet::from_iter(base.host_str().map(str::to_owned)),
        redirect_hosts: Some(Vec::new()),
        extra_ca_file: ca_file,
        bearer: key.and_then(|key| Bearer::new(base.clone(), &key.reveal())),
        proxy: Proxy::None,
        ..WebPolicy::default()
    };
    Web::new(policy).map(Arc::new).map_err(crate::site::problem)
}

/// Sends JSON; the status and the body of the answer.
///
/// # Errors
/// Those of the network.
pub async fn post(web: &Web, url: &Url, body: &impl Serialize) -> Result<(u16, Bytes), Problem> {
    let body: Bytes = serde_json::to_vec(body).map_err(|error| Problem::of(Code::Internal, &error))?.into();
    let exchange =
        Exchange { body: Some(&body), known: None, deadline: Duration::from_secs(20), cap_bytes: 1 << 20 };
    let (reply, _) = web.exchange(url, exchange).await.map_err(|fault| fault.problem())?;
    Ok((reply.status, reply.body))
}

/// What a site says instead of an answer. Its own words, where they are a problem.
pub fn refusal(site: &str, status: u16, body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_else(|_| {
        Problem::new(Code::SiteAnswerInvalid, format!("{site} answered {status}"))
            .help("check the address of the site: `[dp] site` of a point, `[client] site` of a device")
    })
}
