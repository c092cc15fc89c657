//! What is looked at before a request is: the name by which we are asked, where a browser's request comes from, the token.
//! Pure.
//!
//! A token in a field that no browser sends by itself is what lets somebody in. That the name is one of ours stops pages of
//! others that let their own name lead to this machine; that the origin is ours stops their forms.

use std::net::IpAddr;

use catalog::problem::{Code, Problem};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, Method};

use crate::keys::Secret;

/// The only value of a field; `None` where there is none, or more than one.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Whether we are asked by a name of ours, and by no page of others. `names` are what the site is called.
///
/// # Errors
/// `API_ORIGIN_REFUSED`.
pub fn is_for_us(head: &Parts, names: &[String]) -> Result<(), Problem> {
    let refused = |why: &str| Err(Problem::new(Code::ApiOriginRefused, why.to_owned()));
    // An absolute address in the first line could say something else than `Host`.
    if head.uri.authority().is_some() {
        return refused("the first line names a host");
    }
    let Some(host) = only(&head.headers, &HOST) else { return refused("there is not one field `Host`") };
    if !is_ours(host, names) {
        return refused("the name in `Host` is none of this site");
    }
    if head.headers.contains_key(ORIGIN) {
        let origin = only(&head.headers, &ORIGIN).unwrap_or_default();
        let ours = ["http://", "https://"].iter().any(|scheme| origin.strip_prefix(scheme) == Some(host));
        if !ours {
            return refused("the request comes from a page of another origin");
        }
    }
    let site = HeaderName::from_static("sec-fetch-site");
    if head.headers.contains_key(&site) && !matches!(only(&head.headers, &site), Some("same-origin" | "none"))
    {
        return refused("the request comes from a page of another site");
    }
    Ok(())
}

/// An address cannot be led elsewhere; a name can, unless it is one of ours.
fn is_ours(host: &str, names: &[String]) -> bool {
    let address = |text: &str| text.parse::<IpAddr>().is_ok();
    let has_port = |rest: &str| {
        rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
    };
    if let Some((inside, rest)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return inside.contains(':') && address(inside) && has_port(rest);
    }
    let name = match host.split_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        Some(_) => return false,
        None => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.parse::<std::net::Ipv4Addr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

/// The token of a request.
///
/// # Errors
/// `API_TOKEN_REFUSED` where there is none, or none that could be one.
pub fn token(headers: &HeaderMap) -> Result<Secret, Problem> {
    let refused = |why: &str| Problem::new(Code::ApiTokenRefused, why.to_owned());
    let value = only(headers, &AUTHORIZATION).ok_or_else(|| refused("there is no token in the request"))?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refused("only tokens are taken: `Authorization: Bearer …`"));
    }
    token.trim().parse().map_err(|()| refused("this is no token of spsync"))
}

/// Whether a body may be read: it says that it is JSON, which no form of a web page can say, or there is none.
///
/// # Errors
/// `API_MEDIA_TYPE`; `USAGE` for a body of a question.
pub fn may_have_body(method: &Method, headers: &HeaderMap, has_body: bool) -> Result<(), Problem> {
    if !has_body {
        return Ok(());
    }
    if *method == Method::GET {
        return Err(Problem::new(Code::Usage, "a question has no body"));
    }
    let kind = only(headers, &CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(Code::ApiMediaType, "the body does not say that it is JSON"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn names_that_are_not_ours_and_pages_of_others_are_refused() {
        let names = ["site01.example".to_owned()];
        for (fields, expected) in [
            (&[("host", "127.0.0.1:8540")][..], true),
            (&[("host", "127.0.0.1")], true),
            (&[("host", "[::1]:8540")], true),
            (&[("host", "localhost:8540")], true),
            (&[("host", "SITE01.example")], true),
            (&[("host", "site01.example.:8541")], true),
            (&[("host", "10.1.2.3:8541")], true),
            (&[("host", "evil.example:8540")], false),
            (&[("host", "localhost.evil.example")], false),
            (&[("host", "127.0.0.1.evil.example:8540")], false),
            (&[("host", "127.1:8540")], false),
            (&[("host", "localhost:8540@evil")], false),
            (&[("host", "[::1].evil")], false),
            (&[("host", "")], false),
            (&[], false),
            (&[("host", "localhost"), ("host", "localhost")], false),
            (&[("host", "localhost:8540"), ("origin", "http://localhost:8540")], true),
            (&[("host", "localhost:8540"), ("origin", "http://localhost:8541")], false),
            (&[("host", "localhost:8540"), ("origin", "http://evil.example")], false),
            (&[("host", "localhost:8540"), ("origin", "null")], false),
            (&[("host", "localhost:8540"), ("sec-fetch-site", "cross-site")], false),
            (&[("host", "localhost:8540"), ("sec-fetch-site", "same-site")], false),
            (&[("host", "localhost:8540"), ("sec-fetch-site", "same-origin")], true),
        ] {
            let found = is_for_us(&head("/api/v1/status", fields), &names);
            assert_eq!(found.is_ok(), expected, "{fields:?}");
            assert!(found.is_ok() || found.unwrap_err().code == Code::ApiOriginRefused);
        }
        let absolute = head("http://evil.example/api/v1/status", &[("host", "localhost")]);
        assert!(is_for_us(&absolute, &names).is_err());
    }

    #[test]
    fn a_token_is_a_bearer_and_nothing_else() {
        let secret = Secret::new().unwrap();
        let text = secret.reveal();
        for (value, expected) in [
            (format!("Bearer {text}"), true),
            (format!("bearer  {text} "), true),
            (format!("Basic {text}"), false),
            (text.clone(), false),
            ("Bearer".to_owned(), false),
            ("Bearer spsync_short".to_owned(), false),
        ] {
            let found = token(&head("/", &[("authorization", &value)]).headers);
            assert_eq!(found == Ok(secret.clone()), expected);
        }
        let twice = [("authorization", &*format!("Bearer {text}")), ("authorization", "Bearer x")];
        let refused = token(&head("/", &twice).headers).unwrap_err();
        assert!(refused.code == Code::ApiTokenRefused && !refused.to_string().contains(&text));
    }

    #[test]
    fn a_body_is_json_and_says_so() {
        for (method, kind, has_body, expected) in [
            (Method::POST, "application/json", true, None),
            (Method::POST, "Application/JSON; charset=utf-8", true, None),
            (Method::POST, "text/plain", true, Some(Code::ApiMediaType)),
            (Method::POST, "application/x-www-form-urlencoded", true, Some(Code::ApiMediaType)),
            (Method::POST, "application/jsonp", true, Some(Code::ApiMediaType)),
            (Method::DELETE, "", true, Some(Code::ApiMediaType)),
            (Method::POST, "", false, None),
            (Method::GET, "application/json", true, Some(Code::Usage)),
        ] {
            let head = head("/", &[("content-type", kind)]);
            let found = may_have_body(&method, &head.headers, has_body);
            assert_eq!(found.err().map(|problem| problem.code), expected, "{method} {kind}");
        }
    }
}
