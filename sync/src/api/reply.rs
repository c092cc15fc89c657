//! What a site answered becomes an answer of HTTP.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use schema::tasks::Task;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::concurrency::Turn;
use super::connections::Busy;
use super::idempotency::Given;
use crate::plane::answer::{is_known, names};

/// Bytes that are handed on at once. What was handed on waits in buffers, and has no turn any more.
const STEP: usize = 32 * 1024;

/// A body: whole, or piece by piece as something happens.
#[derive(Debug)]
pub enum Sent {
    /// All of it. It has the turns of its request until it was taken: what waits for slow readers has an end.
    Whole(Bytes, Vec<Turn>),
    /// What comes, until its sender is gone; and what is held until then.
    Events(mpsc::Receiver<Bytes>, (Turn, Busy)),
}

impl Sent {
    /// Holds a turn for as long as the body is on its way.
    pub fn held_by(self, turn: Turn) -> Self {
        match self {
            Self::Whole(body, mut turns) => {
                turns.push(turn);
                Self::Whole(body, turns)
            }
            Self::Events(..) => self,
        }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(rest, _) if rest.is_empty() => Poll::Ready(None),
            Self::Whole(rest, _) if rest.len() <= STEP => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(rest)))))
            }
            Self::Whole(rest, _) => {
                // A copy: a step that waits for its reader keeps no more than itself.
                let step = Bytes::copy_from_slice(&rest.split_to(STEP));
                Poll::Ready(Some(Ok(Frame::data(step))))
            }
            Self::Events(inbox, _) => inbox.poll_recv(cx).map(|bytes| Some(Ok(Frame::data(bytes?)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(rest, _) => rest.is_empty(),
            Self::Events(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(rest, _) => SizeHint::with_exact(rest.len() as u64),
            Self::Events(..) => SizeHint::default(),
        }
    }
}

/// How a request ended.
#[derive(Debug)]
pub enum Ended {
    /// It was done, or part of it.
    Done {
        /// The body that `-o json` prints.
        body: Value,
        /// Why it is not all of it.
        problem: Option<Problem>,
    },
    /// Nothing was done.
    Failed(Problem),
    /// A task works on it.
    Running(Box<Task>),
}

/// An answer with a body of a kind.
pub fn with(status: StatusCode, bytes: impl Into<Bytes>, kind: &'static str) -> Response<Sent> {
    of(status, Sent::Whole(bytes.into(), Vec::new()), kind)
}

/// An answer that goes on.
pub fn events(inbox: mpsc::Receiver<Bytes>, held: (Turn, Busy)) -> Response<Sent> {
    of(StatusCode::OK, Sent::Events(inbox, held), "text/event-stream")
}

fn of(status: StatusCode, body: Sent, kind: &'static str) -> Response<Sent> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// RFC 9457, with the fields that the command line prints; `body` is what was done of it.
pub fn problem(problem: &Problem, body: Option<Value>) -> Response<Sent> {
    let page = problem.code.page();
    let status = StatusCode::from_u16(page.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut value = serde_json::to_value(problem).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.insert("type".to_owned(), json!("about:blank"));
        fields.insert("title".to_owned(), json!(page.meaning));
        fields.insert("status".to_owned(), json!(page.http));
        fields.insert("detail".to_owned(), json!(problem.message));
        fields.extend(page.windows.map(|windows| ("hresult".to_owned(), json!(windows))));
        fields.extend(body.map(|body| ("body".to_owned(), body)));
    }
    let mut response = with(status, value.to_string(), "application/problem+json");
    let headers = response.headers_mut();
    match problem.code {
        Code::ApiTokenRefused => headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        Code::TooManyTries => headers.insert(RETRY_AFTER, HeaderValue::from_static("60")),
        Code::ApiBusy | Code::ApiTooMany => headers.insert(RETRY_AFTER, HeaderValue::from_static("5")),
        Code::ApiKeyInUse => headers.insert(RETRY_AFTER, HeaderValue::from_static("1")),
        _ => None,
    };
    response
}

/// 405 with what there is.
pub fn other_methods(of: &Problem, methods: &[&'static str]) -> Response<Sent> {
    let mut response = problem(of, None);
    if let Ok(allowed) = HeaderValue::from_str(&methods.join(", ")) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

/// The tag of a body: another body has another one. Where it has fields that move by themselves, the tag begins with that of all
/// others, and so says whether anybody changed something.
pub fn tag(body: &Value, moving: &[&str]) -> String {
    let part = |value: &Value| Sha256Digest::of(value.to_string().as_bytes()).short();
    if moving.is_empty() {
        return format!("\"{}\"", part(body));
    }
    let mut still = body.clone();
    moving.iter().for_each(|path| leave_out(&mut still, path));
    format!("\"{}-{}\"", part(&still), part(body))
}

/// Leaves a field out; `a.b` is the field `b` of `a`, or of each of the list `a`.
fn leave_out(value: &mut Value, path: &str) {
    match (value, path.split_once('.')) {
        (Value::Array(all), _) => all.iter_mut().for_each(|one| leave_out(one, path)),
        (Value::Object(fields), None) => drop(fields.remove(path)),
        (Value::Object(fields), Some((name, rest))) => {
            fields.get_mut(name).into_iter().for_each(|inner| leave_out(inner, rest));
        }
        _ => {}
    }
}

/// Whether `If-Match` names what has this tag, whatever has moved by itself since.
pub fn is_meant(field: &HeaderValue, tag: &str) -> bool {
    let part = |tag: &str| tag.trim_matches('"').split('-').next().unwrap_or_default().to_owned();
    names(field, |one| {
        let is_tag = one.len() > 2 && one.starts_with('"') && one.ends_with('"');
        is_tag && part(one) == part(tag)
    })
}

/// What is kept of an answer, to give it again.
pub fn given(response: &Response<Sent>) -> Option<Given> {
    let Sent::Whole(body, _) = response.body() else { return None };
    let (status, headers, body) = (response.status(), response.headers().clone(), body.clone());
    Some(Given { status, headers, body })
}

/// The same answer again, which says so.
pub fn again(given: Given) -> Response<Sent> {
    let mut response = Response::new(Sent::Whole(given.body, Vec::new()));
    *response.status_mut() = given.status;
    *response.headers_mut() = given.headers;
    response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    response
}

/// The answer to a request. Only questions have tags: `moving` are the fields of theirs that move by themselves.
pub fn ended(ended: Ended, is_get: bool, moving: &[&str], headers: &HeaderMap) -> Response<Sent> {
    match ended {
        Ended::Failed(of) => problem(&of, None),
        Ended::Done { body, problem: Some(of) } => problem(&of, Some(body)),
        Ended::Running(task) => {
            let place = HeaderValue::from_str(&format!("/api/v1/tasks/{}", task.id));
            let value = serde_json::to_string(&task).unwrap_or_default();
            let mut response = with(StatusCode::ACCEPTED, value, "application/json");
            response.headers_mut().extend(place.ok().map(|place| (LOCATION, place)));
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
        Ended::Done { body, problem: None } => {
            if !is_get {
                return with(StatusCode::OK, body.to_string(), "application/json");
            }
            let tag = tag(&body, moving);
            let mut response = match is_known(headers, &tag) {
                true => with(StatusCode::NOT_MODIFIED, "", "application/json"),
                false => with(StatusCode::OK, body.to_string(), "application/json"),
            };
            response.headers_mut().extend(HeaderValue::from_str(&tag).ok().map(|tag| (ETAG, tag)));
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::IF_NONE_MATCH;

    #[test]
    fn a_problem_has_the_words_of_the_command_line_and_those_of_rfc_9457() {
        let of = Problem::new(Code::MediaFeatureUpdate, "no").because("0x80070490: element not found");
        let Sent::Whole(bytes, _) = problem(&of, None).into_body() else { panic!("it is whole") };
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            (&value["status"], &value["code"], &value["hresult"], &value["detail"]),
            (&json!(409), &json!("MEDIA_FEATURE_UPDATE"), &json!("0x80070490"), &json!("no"))
        );
        assert!(value["title"].is_string() && value["help"].is_string());
        assert_eq!(serde_json::from_slice::<Problem>(&bytes).unwrap(), of, "a command reads it as its own");
    }

    #[test]
    fn what_moves_by_itself_is_another_answer_and_no_other_setting() {
        let moving = &["last_seen", "phases.tally"];
        let body = |url: &str, seen: u64, tally: u64| json!({ "url": url, "last_seen": seen, "phases": [{ "name": "a", "tally": { "devices": tally } }] });
        let (read, tag) = (body("a", 1, 1), |body: &Value| tag(body, moving));
        let meant = |tags: String, now: &Value| {
            is_meant(&HeaderValue::from_str(&tags).expect("a field"), &super::tag(now, moving))
        };
        for (now, is_it, is_same) in [
            (body("a", 1, 1), true, true),
            (body("a", 2, 1), true, false),
            (body("a", 1, 2), true, false),
            (body("b", 1, 1), false, false),
        ] {
            assert_eq!(meant(tag(&read), &now), is_it, "{now}");
            assert_eq!(meant(format!("\"x\", W/{}", tag(&read)), &now), is_it, "{now}");
            assert_eq!(tag(&read) == tag(&now), is_same, "{now}");
        }
        let other = json!({ "url": "a", "last_seen": 1, "phases": [{ "name": "b", "tally": {} }] });
        assert!(!meant(tag(&read), &other));
        assert!(meant("*".to_owned(), &other));
        for none in ["\"\"", "", "\"", tag(&read).trim_matches('"'), "\"-\""] {
            assert!(!meant(none.to_owned(), &read), "{none}");
        }
        // Where nothing moves, all of it is compared.
        let plain = super::tag(&read, &[]);
        assert!(is_meant(&HeaderValue::from_str(&plain).expect("a field"), &plain));
        assert!(!is_meant(
            &HeaderValue::from_str(&plain).expect("a field"),
            &super::tag(&body("a", 2, 1), &[])
        ));
    }

    #[test]
    fn who_is_to_come_again_is_told_when() {
        for (code, status, seconds) in [
            (Code::ApiBusy, 503, Some("5")),
            (Code::ApiTooMany, 429, Some("5")),
            (Code::TooManyTries, 429, Some("60")),
            (Code::ApiKeyInUse, 409, Some("1")),
            (Code::NotPermitted, 403, None),
        ] {
            let response = problem(&Problem::new(code, "no"), None);
            let after = response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!((response.status().as_u16(), after), (status, seconds), "{code}");
        }
    }

    #[test]
    fn a_question_whose_answer_is_known_is_not_answered_again() {
        let body = json!({ "a": 1 });
        let tag = tag(&body, &[]);
        for (known, status) in [
            (None, 200),
            (Some(tag.clone()), 304),
            (Some(format!("W/{tag}, \"b\"")), 304),
            (Some("*".to_owned()), 304),
            (Some("\"b\"".to_owned()), 200),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(known.map(|known| (IF_NONE_MATCH, HeaderValue::from_str(&known).unwrap())));
            let ended =
                |is_get| ended(Ended::Done { body: body.clone(), problem: None }, is_get, &[], &headers);
            assert_eq!((ended(true).status().as_u16(), ended(false).status().as_u16()), (status, 200));
            assert!(ended(true).headers().contains_key(ETAG) && !ended(false).headers().contains_key(ETAG));
        }
    }
}
