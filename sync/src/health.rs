//! What monitoring asks at `[admin] listen`: `/healthz`, `/readyz` and `/metrics`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::problem::{Code, Problem};
use dp::library::{Library, LibraryError, Usage};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::api::{Sent, with};
use crate::metrics;
use crate::site::Site;

/// A library that takes longer to look at is not ready.
const PATIENCE: Duration = Duration::from_secs(5);
/// Whoever asks within this time is given the same answer: everybody may ask, and each look reads the whole library.
const FRESH: Duration = Duration::from_secs(1);
/// A look that takes longer is not repeated for each who asks.
const SLOW: Duration = Duration::from_millis(100);

/// What the library holds, looked at once for all who ask at once: a disk that does not answer holds one thread, not one for each.
#[derive(Debug, Default)]
pub(crate) struct Looking(Mutex<Looked>);

#[derive(Debug, Default)]
struct Looked {
    under_way: Option<JoinHandle<Result<Look, LibraryError>>>,
    last: Option<Look>,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    took: Duration,
    found: Usage,
}

impl Look {
    /// For how long it is given to others: whoever asks each second may not keep a slow disk at nothing else.
    fn good_for(&self, age: Duration) -> Duration {
        if self.took > SLOW { age.max(self.took * 20) } else { age }
    }
}

impl Looking {
    /// What it holds now, or held so long ago at most; where a look takes long, twenty times as long as that ago.
    async fn usage(&self, library: &Library, age: Duration) -> Result<Usage, Problem> {
        let mut looked = self.0.lock().await;
        if let Some(look) = looked.last.filter(|look| look.at.elapsed() < look.good_for(age)) {
            return Ok(look.found);
        }
        // Who gives up leaves it to the next one.
        let under_way = looked.under_way.get_or_insert_with(|| {
            let library = library.clone();
            tokio::task::spawn_blocking(move || {
                let began = Instant::now();
                let found = library.usage()?;
                // Now, and not when somebody comes for it.
                Ok(Look { at: Instant::now(), took: began.elapsed(), found })
            })
        });
        let ended = under_way.await;
        looked.under_way = None;
        let look = ended.map_err(|died| Problem::of(Code::Internal, &died))??;
        looked.last = Some(look);
        Ok(look.found)
    }
}

/// Answers what is no part of the API.
pub(crate) async fn answer(
    site: &Arc<Site>,
    looking: &Looking,
    request: Request<Incoming>,
    asker: IpAddr,
) -> Response<Sent> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n".to_owned(), "text/plain");
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "alive\n".to_owned(), "text/plain"),
        "/readyz" => ready(site, looking).await,
        "/metrics" if may_see_metrics(asker, site.settings().admin.metrics_public) => {
            let told = match looking.usage(&site.library, Duration::ZERO).await {
                Ok(usage) => metrics::of(site, usage).await,
                Err(problem) => Err(problem),
            };
            match told {
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

async fn ready(site: &Arc<Site>, looking: &Looking) -> Response<Sent> {
    let database = site.read(|r| r.last_ok_run()).await;
    let looked = tokio::time::timeout(PATIENCE, looking.usage(&site.library, FRESH)).await;
    let content = matches!(looked, Ok(Ok(_)));
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

    #[tokio::test]
    async fn who_asks_at_once_looks_once_and_who_gives_up_leaves_it_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let library =
            Library::open(&folder.path().join("library"), dp::library::Settings::default()).unwrap();
        let looking = Looking::default();
        let given_up = looking.usage(&library, FRESH);
        tokio::select! {
            biased;
            _ = given_up => {}
            () = std::future::ready(()) => {}
        }
        let before = looking.usage(&library, FRESH).await.unwrap();
        assert!(looking.0.lock().await.under_way.is_none());
        let staged = folder.path().join("library/staging/other.part");
        std::fs::write(staged, vec![7; 1 << 20]).unwrap();
        let hour = Duration::from_secs(3_600);
        assert_eq!(looking.usage(&library, hour).await.unwrap().staged, before.staged);
        assert!(looking.usage(&library, Duration::ZERO).await.unwrap().staged > before.staged);
    }

    #[test]
    fn a_look_that_took_long_is_good_for_longer() {
        let found = Usage { blobs: 0, bytes: 0, staged: 0, free: 0 };
        for (took_ms, age_ms, expected_ms) in
            [(1, 0, 0), (1, 1_000, 1_000), (500, 0, 10_000), (500, 1_000, 10_000), (500, 60_000, 60_000)]
        {
            let look = Look { at: Instant::now(), took: Duration::from_millis(took_ms), found };
            let good_for = look.good_for(Duration::from_millis(age_ms));
            assert_eq!(good_for, Duration::from_millis(expected_ms), "{took_ms} ms, {age_ms} ms");
        }
    }

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
