//! The listeners of the admin plane: health, and the API below `/api`.

use std::sync::Arc;
use std::time::Duration;

use dp::server::{Asker, Socket};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::{Api, BASE};
use crate::health;
use crate::tls::Identity;

/// More administrators at once wait for their turn.
const MOST_CONNECTIONS: usize = 64;
/// The time for a handshake, for a whole head, and between requests.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The longest that a connection lasts, with whoever watches tasks.
const LONGEST: Duration = Duration::from_secs(3_600);
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
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let place = tokio::select! {
            () = &mut stopped => return,
            place = places.clone().acquire_owned() => match place {
                Ok(place) => place,
                Err(_) => return,
            },
        };
        let (stream, peer) = tokio::select! {
            () = &mut stopped => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(100)).await; // EMFILE must not spin
                    continue;
                }
            },
        };
        let (api, config) = (api.clone(), identity.as_ref().map(|identity| identity.load_full()));
        tokio::spawn(async move {
            let _place = place;
            let secure = config.is_some();
            let Some(socket) = Socket::open(stream, config, HEAD_TIME).await else { return };
            let asker = Asker { address: peer.ip().to_canonical(), secure };
            let service = service_fn(move |request| {
                let api = api.clone();
                async move {
                    let path = request.uri().path();
                    let ours =
                        path.strip_prefix(BASE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                    Ok::<_, std::convert::Infallible>(match ours {
                        true => api.answer(request, asker).await,
                        false => health::answer(&api.site, request, asker.address).await,
                    })
                }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_headers(MOST_FIELDS)
                .max_buf_size(LARGEST_HEAD);
            // A broken connection is the asker's business.
            let _ =
                tokio::time::timeout(LONGEST, builder.serve_connection(TokioIo::new(socket), service)).await;
        });
    }
}
