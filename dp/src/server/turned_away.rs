//! Connections beyond those allowed. The first ones of a second are told when to come back, the rest is closed at once: an
//! answer costs a little, and a flood must not have it as often as it likes.
//!
//! ```text
//! accepted ──▶ (handshake) ──▶ head read and thrown away ──▶ 503 with Retry-After ──▶ what still comes is thrown away
//! ```
//! The head is awaited: an answer that comes before its question is none to many clients. What is sent behind it is read for a
//! moment: a socket that is closed over unread bytes resets the connection, and with it the answer. All of it together has
//! one time and one number of bytes, and no buffer that grows.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::log_throttle::LogThrottle;
use super::refusal::Refusal;
use super::respond::refuse;
use super::socket::Socket;

/// Answers of one second, and connections that are being answered at once. A handshake is dear, so that there are fewer of them.
const A_SECOND: u64 = 128;
const A_SECOND_OVER_TLS: u64 = 16;
const AT_ONCE: usize = 128;
/// How long one of them may take in all, and how many bytes it may send.
const PATIENCE: Duration = Duration::from_secs(2);
const MOST_BYTES: usize = 256 * 1024;

/// Those that are being told, of one listener.
pub(super) struct TurnedAway {
    lately: LogThrottle,
    running: JoinSet<()>,
}

impl TurnedAway {
    pub(super) fn new(over_tls: bool) -> Self {
        let most = if over_tls { A_SECOND_OVER_TLS } else { A_SECOND };
        Self { lately: LogThrottle::new(most, Duration::from_secs(1)), running: JoinSet::new() }
    }

    /// Tells one more that it shall come back after so many seconds, or closes it. Waits for nothing.
    pub(super) fn tell(
        &mut self,
        stream: TcpStream,
        config: Option<Arc<ServerConfig>>,
        refusal: Refusal,
        seconds: u32,
        now: Instant,
    ) {
        while self.running.try_join_next().is_some() {} // those that have ended hold no place
        if self.running.len() >= AT_ONCE || self.lately.tells(now).is_none() {
            return;
        }
        self.running.spawn(async move {
            let _ = tokio::time::timeout(PATIENCE, answer(stream, config, refusal, seconds)).await;
        });
    }
}

async fn answer(
    stream: TcpStream,
    config: Option<Arc<ServerConfig>>,
    refusal: Refusal,
    seconds: u32,
) -> io::Result<()> {
    let Some(mut socket) = Socket::open(stream, config, PATIENCE).await else { return Ok(()) };
    let (mut scratch, mut left, mut last) = ([0; 1024], MOST_BYTES, [0; 4]);
    loop {
        let count = socket.read(&mut scratch).await?;
        left = left.saturating_sub(count);
        if count == 0 || left == 0 {
            return Ok(());
        }
        if scratch[..count].iter().any(|byte| ends_head(&mut last, *byte)) {
            break;
        }
    }
    socket.write_all(text(refuse(refusal).status(), seconds, SystemTime::now()).as_bytes()).await?;
    socket.shutdown().await?;
    while left > 0 {
        match socket.read(&mut scratch).await? {
            0 => break,
            count => left = left.saturating_sub(count),
        }
    }
    Ok(())
}

/// Whether this byte is the last of a head. `last` has the four before it.
fn ends_head(last: &mut [u8; 4], byte: u8) -> bool {
    last.rotate_left(1);
    last[3] = byte;
    last == b"\r\n\r\n" || last.ends_with(b"\n\n")
}

fn text(status: StatusCode, seconds: u32, now: SystemTime) -> String {
    format!(
        "HTTP/1.1 {} {}\r\nretry-after: {seconds}\r\ncontent-length: 0\r\nconnection: close\r\ndate: {}\r\n\r\n",
        status.as_str(),
        status.canonical_reason().unwrap_or_default(),
        httpdate::fmt_http_date(now)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_an_empty_line_however_it_is_cut() {
        for (head, behind) in
            [("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "body\r\n\r\n"), ("GET /\nHost: x\n\n", "\n")]
        {
            let (all, mut last) = (format!("{head}{behind}"), [0; 4]);
            let end = all.bytes().position(|byte| ends_head(&mut last, byte));
            assert_eq!(end, Some(head.len() - 1), "{head:?}");
        }
        let mut last = [0; 4];
        assert!(!"GET / HTTP/1.1\r\nHost: \r\r\n\r".bytes().any(|byte| ends_head(&mut last, byte)));
    }

    #[test]
    fn the_answer_says_when_to_come_back() {
        for refusal in [Refusal::Connections, Refusal::ClientConnections] {
            let answer = text(refuse(refusal).status(), 17, SystemTime::UNIX_EPOCH);
            let first = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 17\r\ncontent-length: 0\r\n";
            assert!(answer.starts_with(first), "{answer}");
            let last = "connection: close\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";
            assert!(answer.ends_with(last), "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_nothing_is_closed_after_its_time() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut turned, began) = (TurnedAway::new(false), tokio::time::Instant::now());
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        turned.tell(stream, None, Refusal::Connections, 9, Instant::now());
        let ended = client.read(&mut [0; 9]).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        assert_eq!(began.elapsed(), PATIENCE);
    }

    /// Far more than may be told in one second.
    #[tokio::test]
    async fn a_flood_is_closed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mut turned, now) = (TurnedAway::new(true), Instant::now());
        let mut clients = Vec::new();
        for _ in 0..A_SECOND_OVER_TLS * 3 {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            client.shutdown().await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            turned.tell(stream, None, Refusal::Connections, 9, now);
            clients.push(client);
        }
        let (mut told, mut closed) = (0, 0);
        for mut client in clients {
            let mut answer = String::new();
            match client.read_to_string(&mut answer).await {
                Ok(_) if answer.starts_with("HTTP/1.1 503 ") => told += 1,
                Ok(0) | Err(_) => closed += 1,
                Ok(_) => panic!("{answer}"),
            }
        }
        assert_eq!((told, closed), (A_SECOND_OVER_TLS, 2 * A_SECOND_OVER_TLS));
    }
}
