//! The socket of one connection, with what hyper leaves out.
//!
//! - Writes do not wait for ever: a client that reads nothing would hold a connection and a file.
//! - A head with a length and a transfer coding is seen ([`HeadWatch`]).
//! - An answer that ends the connection arrives also where the client is still sending: what it sends is read and thrown
//!   away for a moment. A socket that is closed over unread bytes resets the connection, and with it the answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::framing::HeadWatch;
use super::open::OpenContent;
use super::pages::{Part, Pusher, Regions};
use super::socket::Socket;
use super::stall::Stall;

/// How long, and for how many bytes, a client may go on sending after an answer that ends the connection.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 * 1024 * 1024;

/// What the socket and the answers of one connection tell each other.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// The head that was read last has a length and a transfer coding.
    pub(super) doubtful: AtomicBool,
    /// Some bytes of the next head are there, and its end is not.
    pub(super) head_begun: AtomicBool,
    /// The answer ends the connection, and the client may be sending still.
    pub(super) linger: AtomicBool,
    /// Contents that answers are made of.
    regions: Regions,
    /// Bytes that went from a file to the socket.
    pub(super) by_region: AtomicU64,
}

impl Signals {
    /// Whether a client has begun with a head that it has not ended.
    pub(super) fn head_has_begun(&self) -> bool {
        self.head_begun.load(Ordering::Relaxed)
    }

    /// Says that an answer has slices of this content's region.
    pub(super) fn expect(&self, content: &Arc<OpenContent>) {
        self.regions.expect(content);
    }
}

/// A stream that gives up on a reader that has stopped.
pub(super) struct Guarded {
    stream: Socket,
    signals: Arc<Signals>,
    watch: HeadWatch,
    /// Bytes that were read and are to be read again, by who is to be watched.
    given_back: Bytes,
    /// Only over plain TCP: TLS needs to read what it sends.
    pusher: Option<Pusher>,
    stall: Stall,
    lingering: Option<usize>,
}

impl Guarded {
    pub(super) fn new(stream: Socket, stall: Stall, signals: Arc<Signals>) -> Self {
        let pusher = match &stream {
            Socket::Plain(stream) => Some(Pusher::new(stream)),
            Socket::Tls(_) => None,
        };
        let watch = HeadWatch::default();
        let given_back = Bytes::new();
        Self { stream, signals, watch, given_back, pusher, stall, lingering: None }
    }

    /// Reads what comes without a look at it. Who has read so answers for what it was, or gives it back.
    pub(super) fn poll_read_unwatched(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }

    /// These bytes, the last ones that were read, are what comes next.
    pub(super) fn give_back(&mut self, bytes: Vec<u8>) {
        self.given_back = bytes.into();
    }

    /// Bytes that the socket has taken, and that were no file's.
    fn count_others(&self, polled: &Poll<io::Result<usize>>) {
        if let (Some(pusher), Poll::Ready(Ok(count))) = (&self.pusher, polled) {
            pusher.count_others(*count);
        }
    }

    /// Reads what still comes, until the client has seen the end of the answer, or for the time that it gets.
    fn drain(&mut self, context: &mut Context<'_>, mut left: usize) -> Poll<()> {
        let mut scratch = [0; 16 * 1024];
        while left > 0 && self.stall.deadline.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
            self.lingering = Some(left);
            match ready!(read) {
                Ok(()) if !buffer.filled().is_empty() => left = left.saturating_sub(buffer.filled().len()),
                // Its end, or a connection that is gone.
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = if self.given_back.is_empty() {
            Pin::new(&mut self.stream).poll_read(cx, buffer)
        } else {
            let count = self.given_back.len().min(buffer.remaining());
            buffer.put_slice(&self.given_back.split_to(count));
            Poll::Ready(Ok(()))
        };
        if self.watch.see(&buffer.filled()[before..]) {
            self.signals.doubtful.store(true, Ordering::Relaxed);
        }
        self.signals.head_begun.store(self.watch.is_within_head(), Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.count_others(&polled);
        self.stall.guard_bytes(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let polled = match (&mut this.pusher, &this.stream) {
            (Some(pusher), Socket::Plain(stream))
                if let Some(part) = Part::find(slices, &this.signals.regions) =>
            {
                pusher.poll_push(cx, stream, &part).map_ok(|(sent, of_file)| {
                    this.signals.by_region.fetch_add(of_file as u64, Ordering::Relaxed);
                    sent
                })
            }
            _ => {
                let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
                this.count_others(&polled);
                polled
            }
        };
        self.stall.guard_bytes(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let (Some(pusher), Socket::Plain(stream)) = (&mut this.pusher, &this.stream) {
            pusher.let_go(stream);
        }
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.stall.guard(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let left = match self.lingering {
            Some(left) => left,
            None => {
                // TLS holds bytes that it has taken and not sent yet.
                let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
                ready!(self.stall.guard(cx, polled))?;
                if !self.signals.linger.load(Ordering::Relaxed) {
                    return Poll::Ready(Ok(()));
                }
                self.stall.deadline.as_mut().reset(Instant::now() + LINGER);
                LINGER_BYTES
            }
        };
        ready!(self.drain(cx, left));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpSocket};
    use tokio_rustls::TlsConnector;

    use super::*;

    /// Our end of a connection over TLS, and a client that reads nothing after the handshake.
    async fn tls_to_who_reads_nothing(patience: Duration) -> (Guarded, impl Sized) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("they fit");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a root");
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let far = socket.connect(listener.local_addr().expect("an address")).await.expect("it listens");
        let near = listener.accept().await.expect("it was connected").0;
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(Arc::new(client));
        let (near, far) = tokio::join!(
            Socket::open(near, Some(Arc::new(server)), Duration::from_secs(30)),
            connector.connect(name, far)
        );
        (
            Guarded::new(near.expect("a handshake"), Stall::new(patience), Arc::default()),
            far.expect("a handshake"),
        )
    }

    #[tokio::test]
    async fn over_tls_the_end_is_not_waited_for_longer_than_a_write() {
        let (mut guarded, _far) = tls_to_who_reads_nothing(Duration::from_millis(50)).await;
        // Until not even TLS takes any more.
        let stopped = loop {
            if let Err(error) = guarded.write_all(&[7; 16 * 1024]).await {
                break error;
            }
        };
        assert_eq!(stopped.kind(), io::ErrorKind::TimedOut);
        for end in ["flush", "shutdown"] {
            let ending =
                async { if end == "flush" { guarded.flush().await } else { guarded.shutdown().await } };
            let ended = tokio::time::timeout(Duration::from_secs(30), ending).await;
            let error = ended.unwrap_or_else(|_| panic!("{end} waits for ever")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{end}");
        }
    }
}
