//! A body on its way: paced where a rate is limited, counted, and remarked on in the access log when it is over.
//!
//! It hands the body's bytes on in steps, so that what was counted is close to what was sent. A step is a slice of the same
//! memory: nothing is copied, and a socket that knows the memory still does.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use tracing::info;

use super::admission::Turn;
use super::body::ContentBody;
use super::counters::{GroupRow, Served, Source};
use super::limit::Pace;
use super::refusal::Refusal;
use super::service::Remark;

/// Bytes that a connection is given at once.
const STEP: usize = 4 * 1024 * 1024;
/// Characters of a target in the log.
const LONGEST_TARGET: usize = 200;
/// Characters of a range in the log.
const LONGEST_RANGE: usize = 80;

/// The body of an answer with all that hangs on it.
pub(super) struct Outgoing {
    body: ContentBody,
    /// Of a frame of the body, what was not handed on yet.
    rest: Bytes,
    // Not in the body itself: it is handed on several times before a byte is sent.
    pace: Option<Box<Pace>>,
    account: Account,
    _turn: Option<Box<Turn>>,
}

/// Where it is entered what one connection was sent.
pub(super) struct Books {
    pub(super) served: Arc<Served>,
    pub(super) group: Arc<GroupRow>,
}

/// What is entered of a body.
pub(super) struct Account {
    books: Arc<Books>,
    source: Source,
    sent: u64,
    /// So many of these are in the books.
    booked: u64,
    line: Option<Box<Line>>,
}

/// What the access log says of a request.
pub(super) struct Line {
    client: IpAddr,
    method: Method,
    target: String,
    range: String,
    status: u16,
    reason: Option<Refusal>,
    remark: String,
    since: Instant,
}

impl Line {
    /// `None` where nobody reads the log: then a request costs nothing here.
    pub(super) fn of(method: &Method, target: &str, fields: &HeaderMap, client: IpAddr) -> Option<Box<Self>> {
        if !tracing::event_enabled!(target: "spsync::access", tracing::Level::INFO) {
            return None;
        }
        // The one that decides (docs/decisions/0012-mirrors.md).
        let range =
            fields.get_all(header::RANGE).iter().next_back().map_or(&b"-"[..], |range| range.as_bytes());
        Some(Box::new(Self {
            client,
            method: method.clone(),
            target: told(target.as_bytes(), LONGEST_TARGET),
            range: told(range, LONGEST_RANGE),
            status: 0,
            reason: None,
            remark: String::new(),
            since: Instant::now(),
        }))
    }
}

/// Foreign bytes as the log may show them: no control characters, nothing but ASCII, and not too many.
fn told(bytes: &[u8], longest: usize) -> String {
    let shown = &bytes[..bytes.len().min(longest)];
    let mut text: String = shown.escape_ascii().to_string();
    if shown.len() < bytes.len() {
        text.push('…');
    }
    text
}

impl Outgoing {
    pub(super) fn new(
        mut response: Response<ContentBody>,
        source: Source,
        books: Arc<Books>,
        line: Option<Box<Line>>,
        pace: Option<Pace>,
        turn: Option<Turn>,
    ) -> Response<Self> {
        let extensions = response.extensions_mut();
        let source = extensions.remove::<Source>().unwrap_or(source);
        let reason = extensions.remove::<Refusal>();
        let remark = extensions.remove::<Remark>();
        books.served.answered(source, response.status());
        if let Some(reason) = reason {
            books.served.refuse(reason);
        }
        let line = line.map(|mut line| {
            line.status = response.status().as_u16();
            line.reason = reason;
            line.remark = remark.map_or_else(String::new, |remark| format!(" {}", remark.0));
            line
        });
        let account = Account { books, source, sent: 0, booked: 0, line };
        let (pace, turn) = (pace.map(Box::new), turn.map(Box::new));
        response.map(|body| Self { body, rest: Bytes::new(), pace, account, _turn: turn })
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        // Who asks for more has sent what it was given: a large body is seen while it goes, and not at its end, hours later.
        this.account.book();
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => this.rest = bytes,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let mut step = this.rest.len().min(STEP);
        if let Some(pace) = &mut this.pace {
            step = ready!(pace.poll_ready(context, step as u64)) as usize;
        }
        let bytes = this.rest.split_to(step);
        this.account.sent += bytes.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.size_hint().exact().unwrap_or_default();
        SizeHint::with_exact(body + self.rest.len() as u64)
    }
}

impl Account {
    /// Of a body that is given to the connection as a whole; it is over when this is dropped.
    pub(super) fn of_whole(
        books: Arc<Books>,
        source: Source,
        bytes: u64,
        mut line: Option<Box<Line>>,
    ) -> Self {
        if let Some(line) = &mut line {
            line.status = StatusCode::OK.as_u16();
        }
        let mut account = Self { books, source, sent: bytes, booked: 0, line };
        account.book();
        account
    }

    /// Enters what was handed on since the last time.
    fn book(&mut self) {
        let new = self.sent - self.booked;
        if new > 0 {
            self.books.served.sent(self.source, &self.books.group, new);
            self.booked = self.sent;
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.book();
        let Some(line) = self.line.take() else { return };
        info!(
            target: "spsync::access",
            client = %line.client,
            group = self.books.group.group(),
            source = self.source.name(),
            status = line.status,
            size_bytes = self.sent,
            range = line.range,
            micros = line.since.elapsed().as_micros() as u64,
            reason = line.reason.map_or("-", Refusal::name),
            code = line.reason.map_or("-", |reason| reason.code().name()),
            "{} {}{}", line.method, line.target, line.remark
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_shows_no_foreign_control_characters() {
        assert_eq!(told(b"/a%20b\n\x1b[1m\xff", 99), r"/a%20b\n\x1b[1m\xff");
        assert_eq!(told(&[b'a'; 300], 200).chars().count(), 201);
    }
}
