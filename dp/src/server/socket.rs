//! The transport of one connection: TCP as it is, or TLS over it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

/// A connection that was accepted.
pub enum Socket {
    /// What is sent can be read on the way.
    Plain(TcpStream),
    /// It cannot.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// Shakes hands where there is a `config`; `None` where that fails or takes longer than `patience`.
    pub async fn open(
        stream: TcpStream,
        config: Option<Arc<ServerConfig>>,
        patience: Duration,
    ) -> Option<Self> {
        let Some(config) = config else { return Some(Self::Plain(stream)) };
        tokio::time::timeout(patience, Self::shake_hands(stream, config)).await.ok().flatten()
    }

    /// The same for as long as it takes.
    pub(super) async fn shake_hands(stream: TcpStream, config: Arc<ServerConfig>) -> Option<Self> {
        match TlsAcceptor::from(config).accept(stream).await {
            Ok(stream) => Some(Self::Tls(Box::new(stream))),
            Err(error) => {
                debug!("a TLS handshake failed: {error}");
                None
            }
        }
    }

    /// Whether nobody on the way can read it.
    pub fn is_secure(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

macro_rules! to_either {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket.get_mut() {
            Self::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Self::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        to_either!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        to_either!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        to_either!(self, stream => stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        to_either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        to_either!(self, stream => stream.poll_shutdown(cx))
    }
}
