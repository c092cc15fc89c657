//! What the conversation does about each thing that can happen, with plain values.

mod chosen;
mod model;
mod standing;
pub(crate) mod wire;

use std::time::Duration;

use catalog::id::{RevisionId, RevisionNumber, UpdateId};
use catalog::limits::Limits;
use catalog::problem::{Code, Problem};
use catalog::server_sync::{
    AUTH_PATH, AuthConfig, AuthorizationCookie, ConfigData, Cookie, ErrorCode, Fault, PLUG_IN, PlugIn,
    Request, Response, RevisionIdList,
};
use schema::metadata::Prepared;
use schema::servers::{Anchor, ListFilter, Pass, Scope, Unresolved};

use super::*;

fn update(n: u128) -> UpdateId {
    UpdateId(uuid::Uuid::from_u128(n))
}

fn id(n: u128) -> RevisionId {
    RevisionId { update: update(n), number: RevisionNumber(100) }
}

fn ids(numbers: std::ops::RangeInclusive<u128>) -> Vec<RevisionId> {
    numbers.map(id).collect()
}

/// A document of `id`: software that contains and needs others.
fn xml(id: RevisionId, bundled: &[RevisionId], needed: &[UpdateId]) -> String {
    let bundled: String = bundled
        .iter()
        .map(|one| {
            format!("<UpdateIdentity UpdateID=\"{}\" RevisionNumber=\"{}\"/>", one.update, one.number.0)
        })
        .collect();
    let needed: String = needed.iter().map(|one| format!("<UpdateIdentity UpdateID=\"{one}\"/>")).collect();
    format!(
        "<Update xmlns=\"http://schemas.microsoft.com/msus/2002/12/Update\"><UpdateIdentity UpdateID=\"{}\" \
         RevisionNumber=\"{}\"/><Properties UpdateType=\"Software\"/><Relationships><Prerequisites>{needed}\
         </Prerequisites><BundledUpdates>{bundled}</BundledUpdates></Relationships></Update>",
        id.update, id.number.0
    )
}

fn document(id: RevisionId, text: &str) -> Document {
    let revision = catalog::update::parse(text.as_bytes(), &Limits::default()).expect("it is well-formed");
    assert_eq!(revision.id, id);
    let prepared = Prepared::new(revision, text.as_bytes()).expect("it is compressed");
    Document { prepared: Box::new(prepared), urls: Vec::new() }
}

fn good(id: RevisionId) -> Arrived {
    Arrived { id, document: Ok(document(id, &xml(id, &[], &[]))) }
}

fn damaged(id: RevisionId) -> Arrived {
    Arrived { id, document: Err((Code::CatalogMalformed, "damaged".to_owned())) }
}

fn fault(code: ErrorCode) -> Answer {
    Answer::Fault(Fault::new(code, "filter"))
}

fn broken(code: Code, hope: Hope) -> Answer {
    Answer::Broken { problem: Box::new(Problem::new(code, "it broke")), hope }
}

fn list(anchor: &str, revisions: Vec<RevisionId>) -> Answer {
    Answer::Said(Response::RevisionIdList(RevisionIdList { anchor: anchor.to_owned(), revisions }))
}

fn options() -> Options {
    Options {
        parallel: 2,
        tries: 3,
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(60),
        account_name: "site.example".to_owned(),
        account_guid: update(999),
        full: false,
        anew: false,
    }
}

/// A conversation, and who performs it without doing anything.
struct Desk {
    talk: Conversation,
    now: i64,
    open: Vec<(u64, Request)>,
}

impl Desk {
    fn new(options: Options, known: Known) -> Self {
        Self { talk: Conversation::new(options, known), now: 1_000_000, open: Vec::new() }
    }

    /// The next step, in words.
    fn step(&mut self) -> String {
        match self.talk.next(self.now) {
            Step::Call { ticket, request } => {
                let words = match &request {
                    Request::GetRevisionIdList { filter, .. } => {
                        let what = if filter.get_config { "categories" } else { "updates" };
                        format!("list {what} since {}", filter.anchor.as_deref().unwrap_or("ever"))
                    }
                    Request::GetUpdateData { ids, .. } => match ids.as_slice() {
                        [one] => format!("ask for {}/{}", one.update.0.as_u128(), one.number.0),
                        several => format!("ask for {}", several.len()),
                    },
                    other => other.operation().name().to_owned(),
                };
                self.open.push((ticket, request));
                words
            }
            Step::Record(batch) => {
                self.talk.on(Event::Recorded, self.now);
                let aside: Vec<_> = batch.set_aside.iter().map(|one| one.code.name()).collect();
                format!("record {}, set aside {}", batch.documents.len(), aside.join(" ")).trim().to_owned()
            }
            Step::Begin { scope, ends, revisions } => {
                format!("begin {scope} {} until {}", revisions.len(), ends.anchor)
            }
            Step::End(scope) => format!("end {scope}"),
            Step::Choose => "choose".to_owned(),
            Step::Depend => "depend".to_owned(),
            Step::Forget => "forget".to_owned(),
            Step::Wait(Some(_)) => "pause".to_owned(),
            Step::Wait(None) => "wait".to_owned(),
            Step::Done => "done".to_owned(),
            Step::GiveUp(problem) => format!("give up {}", problem.code),
        }
    }

    /// Steps until there is nothing to do but to wait, or it is over.
    fn steps(&mut self) -> Vec<String> {
        let mut steps = Vec::new();
        for _ in 0..100 {
            let step = self.step();
            let last = ["begin", "end", "choose", "depend", "forget", "pause", "wait", "done", "give up"];
            let stop = last.iter().any(|word| step.starts_with(word));
            steps.push(step);
            if stop {
                return steps;
            }
        }
        panic!("it never waits: {steps:?}")
    }

    /// Answers the oldest call.
    fn answer(&mut self, answer: Answer) {
        let (ticket, _) = self.open.remove(0);
        let event = Event::Answered { ticket, answer, server_time: Some(self.now) };
        self.talk.on(event, self.now);
    }

    fn answer_standing(&mut self, operation: &str) {
        let response = standing(operation, self.now + 4 * 3_600_000);
        self.answer(Answer::Said(response));
    }

    /// Gets a cookie, for the first time.
    fn stand(&mut self) {
        self.stand_again();
        assert_eq!(self.step(), "GetConfigData");
        self.answer_standing("GetConfigData");
    }

    fn stand_again(&mut self) {
        for operation in ["GetAuthConfig", "GetAuthorizationCookie", "GetCookie"] {
            assert_eq!(self.step(), operation);
            assert_eq!(self.step(), "wait", "one at a time");
            self.answer_standing(operation);
        }
    }

    /// Every call is answered alike, until it is over: how, and after how many calls.
    fn always_answered(mut self, answer: impl Fn() -> Answer) -> (Step, usize) {
        let mut calls = 0;
        loop {
            match self.talk.next(self.now) {
                Step::Call { ticket, .. } => {
                    calls += 1;
                    let event = Event::Answered { ticket, answer: answer(), server_time: None };
                    self.talk.on(event, self.now);
                }
                Step::Record(_) => self.talk.on(Event::Recorded, self.now),
                Step::Wait(Some(pause)) => self.now += i64::try_from(pause).expect("a pause"),
                last => return (last, calls),
            }
        }
    }

    /// As far as the documents of the category list: `pending` of them.
    fn fetching(pending: u128) -> Self {
        Self::fetching_with(options(), pending)
    }

    fn fetching_with(options: Options, pending: u128) -> Self {
        let mut desk = Self::new(options, Known::default());
        desk.stand();
        assert_eq!(desk.step(), "list categories since ever");
        desk.answer(list("1,a", ids(1..=pending)));
        assert_eq!(desk.step(), format!("begin categories {pending} until 1,a"));
        desk.talk.on(Event::Begun(ids(1..=pending)), desk.now);
        desk
    }
}

/// What a server says to the calls that get a cookie. The cookie ends at `ends`.
fn standing(operation: &str, ends: i64) -> Response {
    match operation {
        "GetAuthConfig" => Response::AuthConfig(AuthConfig {
            last_change: String::new(),
            plug_ins: vec![PlugIn { id: PLUG_IN.to_owned(), service_url: AUTH_PATH.to_owned() }],
        }),
        "GetAuthorizationCookie" => {
            Response::AuthorizationCookie(AuthorizationCookie { plug_in: PLUG_IN.to_owned(), data: vec![1] })
        }
        "GetCookie" => Response::Cookie(Cookie {
            expiration: jiff::Timestamp::from_millisecond(ends).expect("a time").to_string(),
            data: vec![2],
        }),
        _ => Response::ConfigData(ConfigData { updates_per_request: 100, ..ConfigData::default() }),
    }
}

#[test]
fn each_fault_of_a_list_has_its_reaction() {
    let anchor = |text: &str| Anchor { anchor: text.to_owned(), filter: ListFilter::default() };
    for (known, answer, expected) in [
        // A cookie that is refused: once more from the beginning.
        (None, fault(ErrorCode::InvalidCookie), &["GetAuthConfig", "wait"][..]),
        (None, fault(ErrorCode::InvalidAuthorizationCookie), &["GetAuthConfig", "wait"]),
        (Some("9,z"), fault(ErrorCode::ServerChanged), &["forget"]),
        // An anchor that is not taken is given up; without one, nothing can be corrected.
        (Some("9,z"), fault(ErrorCode::InvalidParameters), &["list categories since ever", "wait"]),
        (None, fault(ErrorCode::InvalidParameters), &["give up UPSTREAM_FAULT"]),
        (None, fault(ErrorCode::ServerBusy), &["pause"]),
        (None, fault(ErrorCode::InternalServerError), &["pause"]),
        (None, fault(ErrorCode::IncompatibleProtocolVersion), &["give up UPSTREAM_INCOMPATIBLE"]),
        (None, fault(ErrorCode::FileDigestsMissing), &["give up UPSTREAM_FAULT"]),
        (None, fault(ErrorCode::Other("Ooops".to_owned())), &["give up UPSTREAM_FAULT"]),
        (None, broken(Code::SourceUnreachable, Hope::Later), &["pause"]),
        (None, broken(Code::UpstreamBusy, Hope::Busy(Some(Duration::from_secs(30)))), &["pause"]),
        (
            None,
            broken(Code::UpstreamBusy, Hope::Busy(Some(Duration::from_secs(61)))),
            &["give up UPSTREAM_BUSY"],
        ),
        (None, broken(Code::ProtocolMalformed, Hope::Smaller), &["pause"]),
        (None, broken(Code::TransferTooLong, Hope::Halves), &["give up TRANSFER_TOO_LONG"]),
        (None, broken(Code::SyncTlsUntrusted, Hope::None), &["give up SYNC_TLS_UNTRUSTED"]),
        (None, Answer::Documents(vec![good(id(1))]), &["give up PROTOCOL_MALFORMED"]),
        (None, Answer::Said(Response::DownloadFiles), &["give up PROTOCOL_MALFORMED"]),
        (None, list(&"x".repeat(5000), Vec::new()), &["give up PROTOCOL_MALFORMED"]),
        (None, list("1,a", Vec::new()), &["begin categories 0 until 1,a"]),
        (Some("9,z"), list("9,z", Vec::new()), &["choose"]),
    ] {
        let described = format!("{known:?} {answer:?}");
        let anchors = known.iter().map(|text| (Scope::Categories, anchor(text))).collect();
        let mut desk = Desk::new(options(), Known { anchors, ..Known::default() });
        desk.stand();
        assert_eq!(desk.step(), format!("list categories since {}", known.unwrap_or("ever")));
        desk.answer(answer);
        assert_eq!(desk.steps(), expected, "{described}");
    }
}

#[test]
fn each_fault_of_a_batch_has_its_reaction() {
    for (answer, expected) in [
        (fault(ErrorCode::InternalServerError), &["ask for 2", "ask for 2", "wait"][..]),
        (fault(ErrorCode::InvalidParameters), &["ask for 2", "ask for 2", "wait"]),
        (fault(ErrorCode::TooManyIds), &["ask for 2", "ask for 2", "wait"]),
        (fault(ErrorCode::InvalidCookie), &["GetAuthConfig", "wait"]),
        (fault(ErrorCode::ServerChanged), &["forget"]),
        (fault(ErrorCode::ServerBusy), &["pause"]),
        (fault(ErrorCode::IncompatibleProtocolVersion), &["give up UPSTREAM_INCOMPATIBLE"]),
        (broken(Code::TransferTooLong, Hope::Halves), &["ask for 2", "ask for 2", "wait"]),
        (broken(Code::ProtocolMalformed, Hope::Smaller), &["pause"]),
        (broken(Code::SourceFailed, Hope::Later), &["pause"]),
        (broken(Code::SyncTlsUntrusted, Hope::None), &["give up SYNC_TLS_UNTRUSTED"]),
        // Nothing of what was asked for: as good as a fault.
        (Answer::Documents(Vec::new()), &["ask for 2", "ask for 2", "wait"]),
        (Answer::Documents(vec![good(id(77))]), &["ask for 2", "ask for 2", "wait"]),
        // Less than what was asked for is how Windows answers; the rest is asked for.
        (Answer::Documents(vec![good(id(2))]), &["ask for 3", "record 1, set aside", "wait"]),
        (
            Answer::Documents(vec![damaged(id(2)), good(id(3)), good(id(3))]),
            &["ask for 2", "record 1, set aside CATALOG_MALFORMED", "wait"],
        ),
        (
            Answer::Documents((1..=4).map(|n| good(id(n))).collect()),
            &["record 4, set aside", "end categories"],
        ),
        (
            Answer::Documents((1..=4).map(|n| damaged(id(n))).collect()),
            &[
                "record 0, set aside CATALOG_MALFORMED CATALOG_MALFORMED CATALOG_MALFORMED CATALOG_MALFORMED",
                "end categories",
            ],
        ),
        (list("1,a", Vec::new()), &["give up PROTOCOL_MALFORMED"]),
    ] {
        let described = format!("{answer:?}");
        let mut desk = Desk::fetching(4);
        assert_eq!(desk.step(), "ask for 4");
        desk.answer(answer);
        assert_eq!(desk.steps(), expected, "{described}");
    }
}

#[test]
fn a_poisoned_revision_is_found_by_halving_and_set_aside() {
    for poisoned in 1..=16 {
        let mut desk = Desk::fetching(16);
        let mut set_aside = Vec::new();
        for _ in 0..100 {
            match desk.talk.next(desk.now) {
                Step::Call { ticket, request: Request::GetUpdateData { ids, .. } } => {
                    let answer = if ids.contains(&id(poisoned)) {
                        fault(ErrorCode::InternalServerError)
                    } else {
                        Answer::Documents(ids.into_iter().map(good).collect())
                    };
                    desk.talk.on(Event::Answered { ticket, answer, server_time: None }, desk.now);
                }
                Step::Record(batch) => {
                    set_aside.extend(batch.set_aside);
                    desk.talk.on(Event::Recorded, desk.now);
                }
                Step::End(Scope::Categories) => break,
                other => panic!("{other:?}"),
            }
        }
        let tally = desk.talk.tally();
        assert_eq!((tally.categories.fetched, tally.categories.set_aside), (15, 1));
        assert_eq!(set_aside.len(), 1);
        assert_eq!((set_aside[0].id, set_aside[0].code), (id(poisoned), Code::RevisionQuarantined));
        // Four for a cookie, one for the list, and two for each halving.
        assert_eq!(tally.calls, 4 + 1 + 1 + 2 * 4);
    }
}

#[test]
fn a_server_that_gives_nothing_any_more_is_given_up_and_damaged_documents_are_not_its_fault() {
    let (last, calls) = Desk::fetching(100).always_answered(|| fault(ErrorCode::InternalServerError));
    assert!(matches!(&last, Step::GiveUp(problem) if problem.code == Code::UpstreamFault), "{last:?}");
    assert!(calls < 70, "{calls}");

    let mut desk = Desk::fetching(100);
    assert_eq!(desk.step(), "ask for 100");
    desk.answer(Answer::Documents((1..=100).map(|n| damaged(id(n))).collect()));
    assert_eq!(desk.steps().last().map(String::as_str), Some("end categories"));
}

#[test]
fn what_is_refused_busy_broken_or_changed_for_ever_is_given_up() {
    for (answer, expected) in [
        (ErrorCode::InvalidCookie, "give up UPSTREAM_COOKIE"),
        (ErrorCode::ServerBusy, "give up UPSTREAM_BUSY"),
        (ErrorCode::ServerChanged, "give up UPSTREAM_FAULT"),
    ] {
        let mut desk = Desk::new(options(), Known::default());
        let mut last = String::new();
        let mut pauses = 0;
        for _ in 0..200 {
            last = desk.step();
            match last.as_str() {
                "wait" => match desk.open[0].1.operation().name() {
                    "GetRevisionIdList" => desk.answer(fault(answer.clone())),
                    standing => {
                        let standing = standing.to_owned();
                        desk.answer_standing(&standing);
                    }
                },
                "pause" => {
                    pauses += 1;
                    desk.now += 1_000;
                }
                "forget" => desk.talk.on(Event::Forgotten, desk.now),
                over if over.starts_with("give up") => break,
                _ => {}
            }
        }
        assert_eq!(last, expected);
        assert_eq!(pauses > 0, expected.ends_with("BUSY"));
    }
}

#[test]
fn halves_of_what_stalls_end_somewhere() {
    let (last, calls) = Desk::fetching(100).always_answered(|| broken(Code::TransferStalled, Hope::Smaller));
    assert!(matches!(&last, Step::GiveUp(problem) if problem.code == Code::TransferStalled), "{last:?}");
    assert_eq!(calls, 13);
}
