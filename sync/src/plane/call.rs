//! Calls of a site by its points and devices.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::problem::{Code, Problem};
use dp::client::is_unread;
use dp::transfer::web::{Bearer, Exchange, Proxy, Web, WebPolicy, as_folder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::config::Settings;
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

/// Whether a token or a key may be sent to a site: where nobody on the way can read it, or where the operator says so (`plain`).
/// That the site would refuse it does not help: then it has been on the way.
///
/// # Errors
/// `PLAIN_HTTP_REFUSED`.
pub fn may_be_told(site: &Url, plain: bool) -> Result<(), Problem> {
    if plain || is_unread(site) {
        return Ok(());
    }
    let site = site.origin().ascii_serialization();
    let message = format!("neither token nor key is sent to {site}: others on the way could read it");
    Err(Problem::new(Code::PlainHttpRefused, message))
}

/// Connections to a site, wherever it is, and nowhere else; with a key, that is shown to it alone, and where nobody on the way
/// can read it.
///
/// # Errors
/// `PLAIN_HTTP_REFUSED`, those of reading the certificates.
pub fn web(base: &Url, ca_file: Option<PathBuf>, key: Option<&Secret>) -> Result<Arc<Web>, Problem> {
    if key.is_some() {
        may_be_told(base, false)?;
    }
    connections(base, ca_file, key)
}

/// The same with a key that the operator lets be shown where it can be read (`plain`).
///
/// # Errors
/// Those of [`web`].
pub fn web_with_key(
    base: &Url,
    ca_file: Option<PathBuf>,
    key: &Secret,
    plain: bool,
) -> Result<Arc<Web>, Problem> {
    may_be_told(base, plain)?;
    connections(base, ca_file, Some(key))
}

/// The same for a point, with its own key.
///
/// # Errors
/// Those of [`web_with_key`], and of the file of the key.
pub(crate) fn web_of_point(settings: &Settings, base: &Url) -> Result<Arc<Web>, Problem> {
    let key = Secret::of_file(&settings.point_key_file())?;
    web_with_key(base, settings.dp.ca_file(), &key, settings.dp.allow_plain_key)
}

/// Connections to another point, which is asked for what it has: it is not to ask on for our sake.
///
/// # Errors
/// Those of reading the certificates.
pub(crate) fn web_of_another_point(base: &Url, ca_file: Option<PathBuf>) -> Result<Arc<Web>, Problem> {
    made(WebPolicy { only_if_cached: true, ..policy(base, ca_file, None) })
}

fn connections(base: &Url, ca_file: Option<PathBuf>, key: Option<&Secret>) -> Result<Arc<Web>, Problem> {
    made(policy(base, ca_file, key))
}

fn made(policy: WebPolicy) -> Result<Arc<Web>, Problem> {
    Ok(Arc::new(Web::new(policy)?))
}

fn policy(base: &Url, ca_file: Option<PathBuf>, key: Option<&Secret>) -> WebPolicy {
    WebPolicy {
        trusted_hosts: HashSet::from_iter(base.host_str().map(str::to_owned)),
        redirect_hosts: Some(Vec::new()),
        extra_ca_file: ca_file,
        bearer: key.and_then(|key| Bearer::new(base.clone(), &key.reveal())),
        proxy: Proxy::None,
        ..WebPolicy::default()
    }
}

/// Asks for what is at `url`; `None` where the site has nothing of the kind.
///
/// # Errors
/// Those of the network, what the site refuses, `SITE_ANSWER_INVALID`.
pub async fn ask<T: DeserializeOwned>(
    web: &Web,
    url: &Url,
    deadline: Duration,
    cap_bytes: u64,
) -> Result<Option<T>, Problem> {
    let exchange = Exchange { body: None, known: None, once: None, deadline, cap_bytes };
    let (reply, _) = web.exchange(url, exchange).await?;
    match reply.status {
        404 => Ok(None),
        status => said(url, status, &reply.body).map(Some),
    }
}

/// Tells the site something; what it says to that.
///
/// # Errors
/// Those of [`ask`].
pub async fn tell<T: DeserializeOwned>(web: &Web, url: &Url, body: &impl Serialize) -> Result<T, Problem> {
    let (status, body) = post(web, url, body).await?;
    said(url, status, &body)
}

fn said<T: DeserializeOwned>(url: &Url, status: u16, body: &[u8]) -> Result<T, Problem> {
    if status != 200 {
        return Err(refusal(&url.origin().ascii_serialization(), status, body));
    }
    serde_json::from_slice(body).map_err(|error| Problem::of(Code::SiteAnswerInvalid, &error))
}

/// Sends JSON; the status and the body of the answer.
///
/// # Errors
/// Those of the network.
pub async fn post(web: &Web, url: &Url, body: &impl Serialize) -> Result<(u16, Bytes), Problem> {
    let body: Bytes = serde_json::to_vec(body).map_err(|error| Problem::of(Code::Internal, &error))?.into();
    let deadline = Duration::from_secs(20);
    let exchange = Exchange { body: Some(&body), known: None, once: None, deadline, cap_bytes: 1 << 20 };
    let (reply, _) = web.exchange(url, exchange).await?;
    Ok((reply.status, reply.body))
}

/// What a site says instead of an answer. Its own words, where they are a problem.
pub fn refusal(site: &str, status: u16, body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_else(|_| {
        Problem::new(Code::SiteAnswerInvalid, format!("{site} answered {status}"))
            .help("check the address of the site: `[dp] site` of a point, `[client] site` of a device")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_site_says_is_an_answer_its_own_refusal_or_nothing_that_is_understood() {
        let url = Url::parse("https://site01:8531/point/offer").unwrap();
        let code =
            |status, body: &str| said::<u32>(&url, status, body.as_bytes()).map_err(|problem| problem.code);
        let refused = serde_json::to_string(&Problem::new(Code::KeyRevoked, "taken back")).unwrap();
        assert_eq!(code(200, "7"), Ok(7));
        assert_eq!(code(200, "x"), Err(Code::SiteAnswerInvalid));
        assert_eq!(code(403, &refused), Err(Code::KeyRevoked));
        assert_eq!(code(502, "<html>"), Err(Code::SiteAnswerInvalid));
    }

    #[test]
    fn tokens_and_keys_are_sent_where_nobody_on_the_way_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let key = Secret::of_own_file(&folder.path().join("key")).unwrap();
        for (site, plain, expected) in [
            ("https://site01:8531", false, true),
            ("http://127.0.0.7:8530", false, true),
            ("http://[::1]:8530", false, true),
            ("http://site01:8530", false, false),
            ("http://10.0.0.1", false, false),
            ("http://site01:8530", true, true),
        ] {
            let site = base(site).unwrap();
            let refused = |told: Result<(), Problem>| told.err().map(|problem| problem.code);
            let expected = (!expected).then_some(Code::PlainHttpRefused);
            assert_eq!(refused(may_be_told(&site, plain)), expected, "{site} {plain}");
            let shown = web_with_key(&site, None, &key, plain).map(drop);
            assert_eq!(refused(shown), expected, "{site} {plain}");
            if !plain {
                assert_eq!(refused(web(&site, None, Some(&key)).map(drop)), expected, "{site}");
                assert_eq!(refused(web(&site, None, None).map(drop)), None, "what is public has no secret");
            }
        }
    }
}
