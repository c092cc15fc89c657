//! The listeners of the admin plane: health, and the API below `/api`.
//!
//! A connection for which nothing is done gives way to others ([`super::connections`]); who stops reading loses its own.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use catalog::problem::{Code, Problem};
use dp::server::{Asker, Socket};
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::connections::{ConnectionSlots, Slot};
use super::patient::Patient;
use super::{Api, BASE, Sent, reply};
use crate::health;
use crate::tls::Identity;

/// Connections at once; more than requests and streams together ([`super::MOST_REQUESTS`]), so that some are left for health.
const MOST_CONNECTIONS: usize = 128;
/// The same of one address.
const MOST_EACH: usize = 32;
/// So many more are told that there are too many; further ones are closed.
const MOST_REFUSED: usize = 16;
/// The time for a handshake, for a whole head, and between requests.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// So long nothing may be read of an answer.
const STALL: Duration = Duration::from_secs(30);
/// The longest that a connection lasts, with whoever watches tasks.
const LONGEST: Duration = Duration::from_secs(3_600);
/// What is under way then has so much more.
const LAST: Duration = Duration::from_secs(660);
const LARGEST_HEAD: usize = 16 * 1024;
const MOST_FIELDS: usize = 100;

/// Answers until `stopped`; over TLS where there is an `identity`.
pub async fn serve(
    api: Arc<Api>,
    listener: TcpListener,
    identity: Option<Identity>,
    stopped: impl Future<Output = ()>,
) {
    tokio::pin!(stopped);
    let slots = ConnectionSlots::new(MOST_CONNECTIONS, MOST_EACH);
    let refusals = Arc::new(Semaphore::new(MOST_REFUSED));
    loop {
        let (stream, peer) = tokio::select! {
            () = &mut stopped => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => {
                    sleep(Duration::from_millis(100)).await; // EMFILE must not spin
                    continue;
                }
            },
        };
        let config = identity.as_ref().map(|identity| identity.load_full());
        let from = peer.ip().to_canonical();
        match (slots.enter(from), refusals.clone().try_acquire_owned()) {
            (Some(slot), _) => drop(tokio::spawn(converse(api.clone(), stream, from, config, slot))),
            (None, Ok(turn)) => drop(tokio::spawn(refuse(stream, config, turn))),
            (None, Err(_)) => {}
        }
    }
}

async fn converse(
    api: Arc<Api>,
    stream: TcpStream,
    from: IpAddr,
    config: Option<Arc<ServerConfig>>,
    slot: Slot,
) {
    let secure = config.is_some();
    notice_the_dead(&stream);
    let socket = tokio::select! {
        socket = Socket::open(stream, config, HEAD_TIME) => socket,
        () = slot.lost() => return,
    };
    let Some(socket) = socket else { return };
    let asker = Asker { address: from, secure };
    let service = service_fn(|request: Request<Incoming>| {
        let (api, busy) = (api.clone(), slot.busy());
        async move {
            let path = request.uri().path();
            let ours = path.strip_prefix(BASE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            Ok::<_, Infallible>(match ours {
                true => api.answer(request, asker, busy).await,
                false => {
                    let _busy = busy;
                    health::answer(&api.site, &api.looking, request, asker.address).await
                }
            })
        }
    });
    let connection = builder().serve_connection(TokioIo::new(Patient::new(socket, STALL)), service);
    tokio::pin!(connection);
    // A broken connection is the asker's business.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = slot.lost() => if !slot.is_busy() {
            return;
        },
        () = sleep(LONGEST) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(LAST, connection).await;
}

/// Says once that there are too many.
async fn refuse(stream: TcpStream, config: Option<Arc<ServerConfig>>, turn: OwnedSemaphorePermit) {
    let _turn = turn;
    let _ = timeout(HEAD_TIME, async {
        let Some(socket) = Socket::open(stream, config, HEAD_TIME).await else { return };
        let service = service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(too_many()) });
        let _ = builder().serve_connection(TokioIo::new(socket), service).await;
    })
    .await;
}

fn too_many() -> Response<Sent> {
    let problem = Problem::new(Code::ApiBusy, "there are too many connections at once");
    let mut response = reply::problem(&problem, None);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn builder() -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_headers(MOST_FIELDS)
        .max_buf_size(LARGEST_HEAD);
    builder
}

/// What was sent and is not acknowledged for so long was sent to nobody. Where the system cannot, it takes its own time.
fn notice_the_dead(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, STALL.as_millis() as u32);
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use schema::tokens::{AdminToken, Role};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::clock;
    use crate::keys::Secret;
    use crate::site::{Site, small};

    /// What takes the names of contents from a view gets one row after the other, and none of them, for ever.
    const ENDLESS: &str = "
        DROP VIEW package_content;
        CREATE VIEW package_content (package_id, file_name, sha256, sha1, size) AS
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
            SELECT 'XYZ00001', 'x', zeroblob(32), zeroblob(20), 1 FROM n WHERE i < 0;";

    async fn is_free(site: &Arc<Site>, within: Duration) -> bool {
        timeout(within, site.read(|r| r.acts(1))).await.is_ok()
    }

    async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
        for _ in 0..3_000 {
            if is().await {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}");
    }

    /// A question ends where its asker has gone, in the middle of a statement; the change of another who has gone does not, nor does
    /// the question of somebody who waits.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_goes_away_ends_a_question_and_nothing_else() {
        // Who has the only connection to the database keeps all others from it.
        let (_folder, site) = small(|settings| settings.db.readers = 1).await;
        let (secret, now) = (Secret::new().unwrap(), clock::now());
        let (hash, expires) = (secret.hash(), now + SignedDuration::from_hours(1));
        let token =
            AdminToken { name: "t".to_owned(), role: Role::Admin, created: now, expires, revoked: None };
        site.write(move |w| w.add_admin_token(&token, hash)).await.unwrap();
        rusqlite::Connection::open(site.settings().db_path()).unwrap().execute_batch(ENDLESS).unwrap();
        let api = Api::new(site.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(api, listener, None, std::future::pending()));
        let asks = async |line: &str, body: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!(
                "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                secret.reveal(),
                body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream
        };
        let answered = async |mut stream: TcpStream| {
            let mut answer = String::new();
            timeout(Duration::from_secs(60), stream.read_to_string(&mut answer))
                .await
                .expect("it ends")
                .unwrap();
            answer
        };

        // A change waits for its turn to write, and its asker goes.
        let (go_on, gate) = std::sync::mpsc::channel::<()>();
        let (here, site_of_gate) = (Arc::new(tokio::sync::Notify::new()), site.clone());
        let entered = here.clone();
        let writing = tokio::spawn(async move {
            let wait = move |_: &schema::Writer<'_>| {
                entered.notify_one();
                let _ = gate.recv();
                Ok(())
            };
            site_of_gate.write(wait).await
        });
        here.notified().await;
        let change = asks("POST /api/v1/collections", r#"{"name":"ring"}"#).await;
        until("the change waits", async || site.store.changes_waiting() == 1).await;
        drop(change);

        // Somebody asks what never ends, and others wait behind.
        let endless = asks("GET /api/v1/content", "").await;
        until("it runs", async || !is_free(&site, Duration::from_secs(1)).await).await;
        let waiting = asks("GET /api/v1/audit", "").await;
        assert!(!is_free(&site, Duration::from_secs(1)).await, "nobody has ended it yet");
        drop(endless);
        assert!(answered(waiting).await.starts_with("HTTP/1.1 200 "), "it waited, and is answered");
        assert!(is_free(&site, Duration::from_secs(30)).await);

        go_on.send(()).unwrap();
        writing.await.unwrap().unwrap();
        until("the change is made", async || {
            let all = site.read(|r| r.collections()).await.unwrap();
            all.iter().any(|one| one.name == "ring")
        })
        .await;
        serving.abort();
        site.close().await;
    }
}
