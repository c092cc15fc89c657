//! Requests that are answered at once, before hyper sees them: `GET` of public content that is in memory, by its SHA-256, with
//! nothing in its head that could make the answer another one.
//!
//! Most of what such a request costs is not the sending of a few kilobytes but the taking apart and putting together of two heads. Here
//! a head is read by the parser that hyper has, from where it was received, and the head of the answer was worded before
//! ([`super::facts::Facts::whole`]). A connection begins here. The first request that is anything else, or is not there as a whole, goes to
//! hyper with all that comes after it: nothing is judged here that hyper and the routes would judge otherwise, and what is refused
//! is refused there.
//!
//! ```text
//! accepted ──▶ here ──▶ a small content ──▶ here …
//!                └────▶ anything else ────▶ hyper, till the end
//! ```

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{SystemTime, UNIX_EPOCH};

use catalog::digest::Sha256Digest;
use http::{HeaderMap, Method, StatusCode};
use httparse::{EMPTY_HEADER, Request, Status};
use tokio::io::{AsyncWrite as _, AsyncWriteExt as _, ReadBuf};

use super::ContentServer;
use super::access::Access;
use super::admission::Client;
use super::connection::Guarded;
use super::facts::Facts;
use super::head::is_plain_authority;
use super::head_timer::{HeadTimer, Wait};
use super::listen::Stopping;
use super::mirrors::names_metalink;
use super::open::{OpenContent, SMALL};
use super::outgoing::{Account, Books, Line};

/// Bytes of a head that is looked at here. Those of programs that fetch content have some two hundred.
const ROOM: usize = 2 * 1024;
/// Fields of a head that is looked at here.
const MOST_FIELDS: usize = 8;
/// Where the only targets begin that are looked at here.
const BY_DIGEST: &str = "/content/";

/// One connection, as long as it is answered here.
pub(super) struct AtOnce<'c> {
    pub(super) server: &'c ContentServer,
    pub(super) from: IpAddr,
    pub(super) client: &'c Client,
    pub(super) books: &'c Arc<Books>,
    pub(super) timer: &'c HeadTimer,
}

/// What comes after a connection was answered here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It goes on with hyper, which finds in it what was not answered.
    Hyper,
    /// It is over.
    End,
}

impl AtOnce<'_> {
    /// Answers what can be answered at once, until there is something else, or nothing more.
    pub(super) async fn answer(&self, stream: &mut Guarded, stopping: &mut Stopping) -> Next {
        let mut room = vec![0; ROOM];
        let mut date = Date::default();
        // Where in the room there is what was received and not answered.
        let (mut begin, mut end) = (0, 0);
        loop {
            let mut wait = None;
            if begin == end {
                let read = self.read(stream, &mut room, &mut wait, stopping).await;
                (begin, end) = match read {
                    Read::Some(count) => (0, count),
                    Read::Stopped => (0, 0),
                    Read::End => {
                        let _ = stream.shutdown().await; // over TLS there is a word for it
                        return Next::End;
                    }
                    Read::Silence => return Next::End,
                };
            }
            let received = &room[begin..end];
            let asked = Asked::read(received);
            let found = match &asked {
                Some(asked) => self.find(asked.content).await,
                None => None,
            };
            let (Some(asked), Some(found)) = (asked, found) else {
                stream.give_back(received.to_vec());
                if let Some(wait) = wait {
                    self.timer.goes_on(wait);
                }
                return Next::Hyper;
            };
            let line = Line::of(&Method::GET, asked.target, &HeaderMap::new(), self.from);
            begin += asked.length;
            if self.send(stream, &found, line, &mut date).await.is_err() {
                return Next::End;
            }
        }
    }

    /// Reads what comes next, and waits for it as long as hyper would.
    async fn read(
        &self,
        stream: &mut Guarded,
        room: &mut [u8],
        wait: &mut Option<Wait>,
        stopping: &mut Stopping,
    ) -> Read {
        poll_fn(|context| {
            let mut buffer = ReadBuf::new(room);
            match stream.poll_read_unwatched(context, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Read::End),
                Poll::Ready(Ok(())) => return Poll::Ready(Read::Some(buffer.filled().len())),
                Poll::Ready(Err(_)) => return Poll::Ready(Read::Silence),
                Poll::Pending => {}
            }
            if stopping.poll(context).is_ready() {
                return Poll::Ready(Read::Stopped);
            }
            let wait = wait.get_or_insert_with(|| self.timer.wait());
            Pin::new(wait).poll(context).map(|()| Read::Silence)
        })
        .await
    }

    /// This content, if the answer is all of it and nothing else.
    async fn find(&self, digest: Sha256Digest) -> Option<Found> {
        let shelf = self.server.shelf.load();
        let servable = shelf.contents.get(&digest)?;
        let is_plain = servable.access == Access::Public && !servable.pulled && servable.size <= SMALL;
        // What has a pace is sent step by step.
        if !is_plain || self.server.admission.pace(self.client).is_some() {
            return None;
        }
        // Who cannot have it is told why elsewhere.
        let content = self.server.contents.open(digest).await.ok()??;
        let fits = content.size == servable.size;
        fits.then(|| Found { facts: servable.facts(digest).clone(), content })
    }

    async fn send(
        &self,
        stream: &mut Guarded,
        found: &Found,
        line: Option<Box<Line>>,
        date: &mut Date,
    ) -> io::Result<()> {
        let body = found.content.small().ok_or(io::ErrorKind::InvalidData)?;
        let source = self.server.source;
        self.books.served.answered(source, StatusCode::OK);
        let _account = Account::of_whole(self.books.clone(), source, body.len() as u64, line);
        let mut slices = [&*found.facts.whole, date.end_of_head(), body].map(IoSlice::new);
        let mut left = &mut slices[..];
        while !left.is_empty() {
            let written =
                poll_fn(|context| Pin::new(&mut *stream).poll_write_vectored(context, left)).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut left, written);
        }
        stream.flush().await
    }
}

/// What came of reading.
enum Read {
    /// So many bytes.
    Some(usize),
    /// The server is to stop.
    Stopped,
    /// The client has nothing more to say.
    End,
    /// It says nothing for too long, or its connection is broken.
    Silence,
}

/// Content that is in memory, and what is said of it.
struct Found {
    facts: Arc<Facts>,
    content: Arc<OpenContent>,
}

/// A request for a whole content.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'r> {
    content: Sha256Digest,
    target: &'r str,
    /// Bytes of its head.
    length: usize,
}

impl<'r> Asked<'r> {
    /// The request that `received` begins with, if it is there as a whole and nothing in it asks for more than a content.
    fn read(received: &'r [u8]) -> Option<Self> {
        let mut fields = [EMPTY_HEADER; MOST_FIELDS];
        let mut head = Request::new(&mut fields);
        let Ok(Status::Complete(length)) = head.parse(received) else { return None };
        if (head.method, head.version) != (Some("GET"), Some(1)) {
            return None;
        }
        let target = head.path?;
        let content = target.strip_prefix(BY_DIGEST)?.parse().ok()?;
        let mut hosts = 0;
        for field in head.headers.iter() {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            if is("host") {
                hosts += 1;
                if !is_plain_authority(field.value) {
                    return None;
                }
            } else if is("accept") {
                if names_metalink(field.value) {
                    return None;
                }
            } else if is("connection") {
                if !field.value.eq_ignore_ascii_case(b"keep-alive") {
                    return None;
                }
            } else if !["user-agent", "accept-encoding", "accept-language"].into_iter().any(is) {
                return None;
            }
        }
        (hosts == 1).then_some(Self { content, target, length })
    }
}

/// The last field of a head, which is another one each second, and the end of the head.
#[derive(Default)]
struct Date {
    second: u64,
    text: String,
}

impl Date {
    fn end_of_head(&mut self) -> &[u8] {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.text.is_empty() || self.second != second {
            self.text = format!("date: {}\r\n\r\n", httpdate::fmt_http_date(now));
            self.second = second;
        }
        self.text.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_plainest_requests_are_taken() {
        let digest = Sha256Digest([7; 32]);
        let target = format!("/content/{digest}");
        let plain = format!("GET {target} HTTP/1.1\r\nHost: dp:8530\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n");
        let asked = Asked { content: digest, target: &target, length: plain.len() };
        assert_eq!(Asked::read(plain.as_bytes()), Some(asked));
        let followed = format!("{plain}GET");
        assert_eq!(Asked::read(followed.as_bytes()).map(|asked| asked.length), Some(plain.len()));
        for (from, to, taken) in [
            ("Host: dp:8530", "HOST: 127.0.0.1", true),
            ("User-Agent: x", "connection: Keep-Alive", true),
            ("User-Agent: x", "Accept-Encoding: gzip", true),
            ("GET", "HEAD", false),
            ("GET", "get", false),
            ("HTTP/1.1", "HTTP/1.0", false),
            ("/content/", "/Content/", false),
            ("/content/", "http://dp/content/", false),
            (" HTTP", "?x HTTP", false),
            (" HTTP", ".meta4 HTTP", false),
            ("Host: dp:8530", "X: dp", false),
            ("Host: dp:8530", "Host: a b", false),
            ("User-Agent: x", "Host: dp:8530", false),
            ("User-Agent: x", "Connection: close", false),
            ("User-Agent: x", "Connection: keep-alive, x", false),
            ("User-Agent: x", "Content-Length: 0", false),
            ("User-Agent: x", "Transfer-Encoding: chunked", false),
            ("User-Agent: x", "Expect: 100-continue", false),
            ("User-Agent: x", "Range: bytes=0-", false),
            ("User-Agent: x", "If-None-Match: *", false),
            ("User-Agent: x", "Authorization: Bearer x", false),
            ("User-Agent: x", "Want-Digest: sha-256", false),
            ("User-Agent: x", "Whatever: x", false),
            ("Accept: */*", "Accept: application/METALINK4+xml", false),
            ("Accept: */*", " folded", false),
            ("\r\n\r\n", "\r\n", false),
        ] {
            let head = plain.replacen(from, to, 1);
            assert_ne!(head, plain, "{from}");
            assert_eq!(Asked::read(head.as_bytes()).is_some(), taken, "{head}");
        }
    }

    #[test]
    fn a_date_is_that_of_now() {
        let mut date = Date::default();
        let field = String::from_utf8(date.end_of_head().to_vec()).unwrap();
        let told = field.strip_prefix("date: ").and_then(|field| field.strip_suffix("\r\n\r\n")).unwrap();
        let age = SystemTime::now().duration_since(httpdate::parse_http_date(told).unwrap()).unwrap();
        assert!(age.as_secs() < 60);
        date.second -= 100;
        date.text.insert(0, 'x');
        assert!(date.end_of_head().starts_with(b"date: "), "another second, another date");
    }
}
