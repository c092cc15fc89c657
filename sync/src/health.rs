//! What monitoring asks at `[admin] listen`: `/healthz`, `/readyz` and `/metrics`.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};

use crate::api::{Sent, with};
use crate::metrics;
use crate::site::Site;

/// Answers what is no part of the API.
pub(crate) async fn answer(site: &Arc<Site>, request: Request<Incoming>, asker: IpAddr) -> Response<Sent> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n".to_owned(), "text/plain");
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "alive\n".to_owned(), "text/plain"),
        "/readyz" => ready(site).await,
        "/metrics" if may_see_metrics(asker, site.settings().admin.metrics_public) => {
            match metrics::of(site).await {
                Ok(numbers) => text(StatusCode::OK, numbers, metrics::CONTENT_TYPE),
                Err(problem) => {
                    tracing::warn!("metrics cannot be told: {problem}");
                    text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", problem.code), "text/plain")
                }
            }
        }
        "/metrics" => text(
            StatusCode::FORBIDDEN,
            "not from there; see [admin] metrics_public\n".to_owned(),
            "text/plain",
        ),
        _ => text(StatusCode::NOT_FOUND, "not here\n".to_owned(), "text/plain"),
    }
}

fn may_see_metrics(asker: IpAddr, public: bool) -> bool {
    public || asker.is_loopback()
}

async fn ready(site: &Arc<Site>) -> Response<Sent> {
    let database = site.read(|r| r.last_ok_run()).await;
    let library = site.library.clone();
    let content = tokio::task::spawn_blocking(move || library.usage().is_ok()).await.unwrap_or(false);
    let (database, synchronised) = (database.is_ok(), matches!(database, Ok(Some(_))));
    let ready = database && content;
    let body = serde_json::json!({
        "ready": ready, "database": database, "content": content, "synchronised": synchronised,
    });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, format!("{body}\n"), "application/json")
}

fn text(status: StatusCode, body: String, kind: &'static str) -> Response<Sent> {
    with(status, body, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_this_machine_unless_they_are_public() {
        for (asker, public, expected) in [
            ("127.0.0.1", false, true),
            ("127.1.2.3", false, true),
            ("::1", false, true),
            ("192.0.2.1", false, false),
            ("2001:db8::1", false, false),
            ("192.0.2.1", true, true),
        ] {
            assert_eq!(may_see_metrics(asker.parse().unwrap(), public), expected, "{asker}");
        }
    }
}
