//! What monitoring asks at `[admin] listen`: `/healthz`, `/readyz` and `/metrics`.

use std::io;
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
use crate::config::Settings;
use crate::metrics;
use crate::site::Site;
use crate::site::own;
use crate::whole;

/// A library that takes longer to look at is not ready.
const PATIENCE: Duration = Duration::from_secs(5);
/// Whoever asks within this time is given the same answer: everybody may ask, and each look reads the whole library, and writes to two
/// disks.
const FRESH: Duration = Duration::from_secs(5);
/// A look that takes longer is not repeated for each who asks.
const SLOW: Duration = Duration::from_millis(100);

/// With less than so many bytes free, the disk of a database is warned of: it grows with whatever is recorded.
pub(crate) const LITTLE: u64 = 256 << 20;

/// Whether what a site works on can be written, found out by writing, and how much room its database has.
#[derive(Debug)]
pub(crate) struct Room {
    /// Beside the database.
    pub database: io::Result<()>,
    /// In the content library.
    pub library: io::Result<()>,
    /// Bytes free where the database is; `None` where nobody can tell.
    pub free: Option<u64>,
}

impl Room {
    /// As it is now. This blocks.
    pub(crate) fn of(settings: &Settings) -> Self {
        let database = settings.db_path();
        let folder = whole::folder(&database);
        Self {
            database: own::try_writing(folder),
            library: own::try_writing(&settings.content_dir()),
            // Some file systems (overlays, network) count no blocks.
            free: rustix::fs::statvfs(folder)
                .ok()
                .filter(|found| found.f_blocks > 0)
                .map(|found| found.f_bavail.saturating_mul(found.f_frsize)),
        }
    }
}

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
    found: Found,
}

/// What is found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// What the library holds.
    pub usage: Usage,
    /// Bytes free where the database is.
    pub database_free: Option<u64>,
    is_database_writable: bool,
    is_library_writable: bool,
}

impl Look {
    /// For how long it is given to others: whoever asks each second may not keep a slow disk at nothing else.
    fn good_for(&self, age: Duration) -> Duration {
        if self.took > SLOW { age.max(self.took * 20) } else { age }
    }
}

impl Looking {
    /// How it is now, or was so long ago at most; where a look takes long, twenty times as long as that ago.
    async fn at(&self, library: &Library, settings: &Arc<Settings>, age: Duration) -> Result<Found, Problem> {
        let mut looked = self.0.lock().await;
        if let Some(look) = looked.last.filter(|look| look.at.elapsed() < look.good_for(age)) {
            return Ok(look.found);
        }
        // Who gives up leaves it to the next one.
        let under_way = looked.under_way.get_or_insert_with(|| {
            let (library, settings) = (library.clone(), settings.clone());
            tokio::task::spawn_blocking(move || {
                let began = Instant::now();
                let (usage, room) = (library.usage()?, Room::of(&settings));
                let found = Found {
                    usage,
                    database_free: room.free,
                    is_database_writable: room.database.is_ok(),
                    is_library_writable: room.library.is_ok(),
                };
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
            let told = match looking.at(&site.library, &site.settings(), Duration::ZERO).await {
                Ok(found) => metrics::of(site, found).await,
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
    let looked = tokio::time::timeout(PATIENCE, looking.at(&site.library, &site.settings(), FRESH)).await;
    let found = looked.ok().and_then(Result::ok);
    let writable = found.is_some_and(|found| found.is_library_writable);
    // A point whose disk is full or became read-only serves what it has: who sends clients there is not to take it away from them.
    let content = if site.settings().dp.is_site() { writable } else { found.is_some() };
    let synchronised = matches!(database, Ok(Some(_)));
    // Where only the library does not answer, nothing is known against the database.
    let database = database.is_ok() && found.is_none_or(|found| found.is_database_writable);
    let ready = database && content;
    let body = serde_json::json!({
        "ready": ready, "database": database, "content": content, "writable": writable, "synchronised": synchronised,
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
        let settings = Arc::new(Settings::default());
        let given_up = looking.at(&library, &settings, FRESH);
        tokio::select! {
            biased;
            _ = given_up => {}
            () = std::future::ready(()) => {}
        }
        let staged = async |age| looking.at(&library, &settings, age).await.unwrap().usage.staged;
        let before = staged(FRESH).await;
        assert!(looking.0.lock().await.under_way.is_none());
        std::fs::write(folder.path().join("library/staging/other.part"), vec![7; 1 << 20]).unwrap();
        assert_eq!(staged(Duration::from_secs(3_600)).await, before);
        assert!(staged(Duration::ZERO).await > before);
    }

    #[test]
    fn what_cannot_be_written_is_found_by_writing() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.site.data_dir = folder.path().join("site");
        std::fs::create_dir_all(settings.content_dir()).unwrap();
        let room = Room::of(&settings);
        assert!(room.database.is_ok() && room.library.is_ok(), "{room:?}");
        assert_eq!(std::fs::read_dir(settings.content_dir()).unwrap().count(), 0, "nothing is left");
        std::fs::remove_dir(settings.content_dir()).unwrap();
        settings.db.path = folder.path().join("gone/spsync.db");
        let room = Room::of(&settings);
        assert!(room.database.is_err() && room.library.is_err() && room.free.is_none(), "{room:?}");
    }

    #[test]
    fn a_look_that_took_long_is_good_for_longer() {
        let usage = Usage { blobs: 0, bytes: 0, staged: 0, free: 0 };
        let (is_database_writable, is_library_writable) = (true, true);
        let found = Found { usage, database_free: None, is_database_writable, is_library_writable };
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
