//! Connections are accepted here, and those that are too many turned away.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::warn;

use super::ContentServer;
use super::crowd::Crowd;
use super::log_throttle::LogThrottle;
use super::socket::Socket;
use super::turned_away::TurnedAway;

/// One in so many of `max_connections` comes on top of them for distribution points, and so many at least: a crowd of clients must not
/// keep those away that would serve it.
const ONE_IN: usize = 16;
const KEPT_AT_LEAST: usize = 8;

impl ContentServer {
    /// How many of `all` connections count for who comes from `client`.
    fn counting_for(&self, client: IpAddr, all: usize) -> usize {
        let most = self.limits.max_connections;
        let is_point = || self.grouping.as_ref().is_some_and(|grouping| grouping.is_point(client));
        match all >= most && is_point() {
            true => all.saturating_sub((most / ONE_IN).max(KEPT_AT_LEAST)),
            false => all,
        }
    }

    pub(super) async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        identity: Option<Arc<ArcSwap<ServerConfig>>>,
        shutdown: impl Future<Output = ()>,
    ) {
        tokio::pin!(shutdown);
        let (stop, stopped) = watch::channel(false);
        let mut connections = tokio::task::JoinSet::new();
        let refused = LogThrottle::new(1, Duration::from_secs(1));
        let mut turned_away = TurnedAway::new(identity.is_some());
        self.control_congestion(&listener);
        let crowd = Arc::<Crowd>::default();
        loop {
            crowd.counts(connections.len(), self.limits.max_connections);
            let (stream, peer) = tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        warn!("a connection cannot be accepted: {error}");
                        tokio::time::sleep(Duration::from_millis(50)).await; // EMFILE must not spin
                        continue;
                    }
                },
            };
            while connections.try_join_next().is_some() {} // those that have ended hold no place
            let config = || identity.as_ref().map(|identity| identity.load_full());
            let all = self.counting_for(peer.ip(), connections.len());
            let place = match self.admission.connect(&self.served, peer.ip(), all) {
                Ok(place) => place,
                Err(refusal) => {
                    let now = Instant::now();
                    self.served.refuse(refusal);
                    if let Some(others) = refused.tells(now) {
                        let (client, why) = (peer.ip(), refusal.name());
                        warn!(%client, others, "refused a connection of {client}: {why}; {others} others were refused since this was last said");
                    }
                    turned_away.tell(stream, config(), refusal, self.admission.retry_after(), now);
                    continue;
                }
            };
            let (server, stopped, crowd, config) = (self.clone(), stopped.clone(), crowd.clone(), config());
            connections.spawn(async move {
                let _ = stream.set_nodelay(true);
                // The handshake has the time of a head; who needs longer, or speaks no TLS, is not told why.
                let socket = match config {
                    None => Some(Socket::Plain(stream)),
                    Some(config) => {
                        let shaking = Socket::shake_hands(stream, config);
                        crowd.waits(server.limits.read_timeout, shaking).await.flatten()
                    }
                };
                if let Some(socket) = socket {
                    server.answer(socket, peer, place, &crowd, Stopping::of(stopped)).await;
                }
            });
        }
        drop(listener);
        crowd.goes_home();
        let _ = stop.send(true);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.limits.shutdown_grace, all).await.is_err() {
            warn!("transfers that were still running are cut; clients resume them");
        }
    }

    /// Tells the kernel how connections that are accepted here find their speed.
    fn control_congestion(&self, listener: &TcpListener) {
        let Some(name) = &self.congestion_control else { return };
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::net::sockopt::set_tcp_congestion(listener, name) {
            warn!(
                "connections keep the congestion control of this machine; `{name}` cannot be used: {error} (sysctl net.ipv4.tcp_allowed_congestion_control says what may be)"
            );
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (listener, name);
    }
}

/// Whether it is time to stop. The channel is shared by all connections, so it is not asked each time that this one is woken: what
/// was registered there once wakes it.
pub(super) struct Stopping {
    news: watch::Receiver<bool>,
    told: Pin<Box<dyn Future<Output = ()> + Send>>,
    waits: bool,
    is_told: bool,
}

impl Stopping {
    pub(super) fn of(mut stopped: watch::Receiver<bool>) -> Self {
        let news = stopped.clone();
        // Who would say so is gone: that is the same.
        let told = Box::pin(async move { drop(stopped.wait_for(|stopped| *stopped).await) });
        Self { news, told, waits: false, is_told: false }
    }

    /// Ready when it is, from then on.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_told && (!self.waits || !matches!(self.news.has_changed(), Ok(false))) {
            self.is_told = self.told.as_mut().poll(context).is_ready();
            self.waits = true;
        }
        if self.is_told { Poll::Ready(()) } else { Poll::Pending }
    }

    /// What comes of `work`, or `None` when it is time to stop.
    pub(super) async fn or<T>(&mut self, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        std::future::poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => self.poll(context).map(|()| None),
        })
        .await
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::net::sockopt::tcp_congestion;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpSocket, TcpStream};

    use super::*;
    use crate::library::{Library, Settings};
    use crate::server::ServerLimits;
    use crate::server::tally::Grouping;

    struct PointAt(IpAddr);

    impl Grouping for PointAt {
        fn group_of(&self, _client: IpAddr) -> Option<String> {
            None
        }

        fn is_point(&self, client: IpAddr) -> bool {
            client.to_canonical() == self.0
        }
    }

    #[tokio::test]
    async fn a_crowd_keeps_no_point_away() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path(), Settings::default()).unwrap();
        let limits = ServerLimits { max_connections: 3, ..ServerLimits::default() };
        let (client, point) = ([127, 0, 0, 1], [127, 0, 0, 2]);
        let server = ContentServer::new(library, Arc::default(), limits);
        let server = Arc::new(server.with_grouping(Arc::new(PointAt(point.into()))));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(server.accept(listener, None, std::future::pending()));
        // Each holds its connection for as long as it is here.
        let answered = async |from: [u8; 4]| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((IpAddr::from(from), 0).into()).unwrap();
            let mut stream = socket.connect(address).await.unwrap();
            stream.write_all(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.unwrap();
            (stream, String::from_utf8_lossy(&status[9..]).into_owned())
        };
        let mut held = Vec::new();
        for (from, status) in [(client, "404"), (client, "404"), (client, "404"), (client, "503")] {
            let (stream, answer) = answered(from).await;
            assert_eq!(answer, status);
            held.push(stream);
        }
        for number in 0..KEPT_AT_LEAST {
            let (stream, answer) = answered(point).await;
            assert_eq!(answer, "404", "{number}");
            held.push(stream);
        }
        for from in [point, client] {
            assert_eq!(answered(from).await.1, "503", "what is kept for points has an end, and is for them");
        }
        serving.abort();
    }

    #[tokio::test]
    async fn connections_find_their_speed_as_was_said() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path(), Settings::default()).unwrap();
        let machines = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tcp_congestion(&listener).unwrap()
        };
        // This one is in every kernel.
        for (said, expected) in
            [(Some("reno"), "reno"), (Some("no_such_thing"), &*machines), (None, &machines)]
        {
            let server = ContentServer::new(library.clone(), Arc::default(), ServerLimits::default());
            let server = server.with_congestion_control(said.map(str::to_owned));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            server.control_congestion(&listener);
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            assert_eq!(tcp_congestion(&accepted).unwrap(), expected, "{said:?}");
            drop(client);
        }
    }
}
