//! `spsync content locate`: where a client finds what is named, in order, and why others are not asked.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use dp::locate::{self, Candidate, Detail, Order, Places, Request, State};
use dp::server::LocationKind;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::names::{self, File};
use crate::admin::Answer;
use crate::clock;
use crate::site::Site;

/// Whether a candidate is asked, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Now.
    In,
    /// After its time.
    Later,
    /// Not at all.
    Out,
}

/// One candidate of `spsync content locate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// Its place among those that are asked now, from 1.
    pub position: Option<usize>,
    /// Who it is.
    pub kind: LocationKind,
    /// Its name.
    pub name: String,
    /// Where the content is there.
    pub url: String,
    /// Its rank.
    pub rank: locate::Rank,
    /// Whether it is asked.
    pub verdict: Verdict,
    /// Why: a stable word.
    pub why: String,
    /// The same for people.
    pub reason: String,
    /// Seconds since it was heard of, where it is silent: it comes after others of its rank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_seconds: Option<u64>,
    /// Since when it has the content, verified.
    pub verified: Option<Timestamp>,
    /// How long after the first question it is asked.
    pub after_seconds: Option<u64>,
    /// The same as a time, where the first question is asked now.
    pub from: Option<Timestamp>,
}

/// Where one client finds one content, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The content.
    pub content: Sha256Digest,
    /// A name of it.
    pub file_name: String,
    /// Bytes.
    pub size: u64,
    /// The client's address.
    pub client: IpAddr,
    /// Its name, where that was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Its boundary groups.
    pub groups: Vec<String>,
    /// No boundary puts it there: it is the default site group.
    pub by_default: bool,
    /// The subnet that counts as its own.
    pub subnet: Option<String>,
    /// Seconds since its first question.
    pub elapsed_seconds: u64,
    /// Every candidate: those that are asked, in order; those that are asked later; those that are not.
    pub candidates: Vec<Located>,
    /// The same of the other files of what was named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Explained>,
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its address.
    pub address: String,
    /// Or its name: it is where it asked from last.
    pub device: Option<String>,
}

/// Explains where a client finds what `content` names, so long after it asked first.
///
/// # Errors
/// `CONTENT_NOT_FOUND`, `AMBIGUOUS`, `INVALID_OPTION`, `DEVICE_NOT_FOUND`.
pub async fn locate(
    site: &Arc<Site>,
    client: Client,
    content: &str,
    elapsed: Duration,
    engine: bool,
) -> Result<Answer, Problem> {
    let address = address(site, &client).await?;
    let order = if engine { Order::Engine { neighbours: true, default_group: true } } else { Order::Client };
    let (places, now) = (site.places_now().await?, clock::now());
    let files = names::files(site, &places, content).await?;
    let one = |file: &File| {
        let request = Request { client: address, content: file.content, elapsed, order, now };
        explained(site, &places, &request, client.device.clone(), file)
    };
    let mut all: Vec<Explained> = files.iter().map(one).collect();
    let nobody_has = |one: &Explained| places.holds(one.content).is_none();
    if all.iter().all(nobody_has) {
        let digests: Vec<_> = files.iter().map(|file| file.content.to_string()).collect();
        let message = format!("nobody is known to have {}", digests.join(", "));
        return Err(Problem::new(Code::ContentNotFound, message));
    }
    let others = all.split_off(1);
    let first = all.pop().map(|first| Explained { others, ..first });
    Answer::of(&first)
}

async fn address(site: &Arc<Site>, client: &Client) -> Result<IpAddr, Problem> {
    let Some(name) = &client.device else {
        return client.address.parse().map_err(|_| {
            Problem::new(Code::InvalidOption, format!("`{}` is no IP address", client.address))
        });
    };
    let devices = site.read(|r| r.devices()).await?;
    let row = devices.iter().find(|row| row.name.eq_ignore_ascii_case(name.trim()));
    let asked = row.and_then(|row| row.address.as_ref()?.parse().ok());
    asked.ok_or_else(|| {
        let message = match row {
            Some(row) => format!("`{}` has not asked this site for anything yet", row.name),
            None => format!("no device is called `{name}`"),
        };
        Problem::new(Code::DeviceNotFound, message)
            .help("`spsync client list`, or give its address with --ip")
    })
}

fn explained(
    site: &Site,
    places: &Places,
    request: &Request,
    device: Option<String>,
    file: &File,
) -> Explained {
    let standing = places.standing(request.client);
    let peers = site.locations.peers(places, request.client, &standing, request.content);
    let groups = places.names(&standing.groups).into_iter().map(str::to_owned).collect();
    let (by_default, subnet) = (standing.by_default, standing.subnet.map(|subnet| subnet.to_string()));
    let found = places.find_from(standing, request, &peers, Detail::All);
    let mut position = 0;
    let all = found.iter().flat_map(|found| found.candidates.iter().map(move |one| (one, found.url(one))));
    let candidates = all.map(|(candidate, url)| {
        position += usize::from(candidate.state == State::In);
        located(candidate, url, request, position)
    });
    Explained {
        content: request.content,
        candidates: candidates.collect(),
        file_name: file.name.clone(),
        size: places.holds(request.content).map_or(file.size, |held| held.size),
        client: request.client.to_canonical(),
        device,
        groups,
        by_default,
        subnet,
        elapsed_seconds: request.elapsed.as_secs(),
        others: Vec::new(),
    }
}

/// A candidate; `position` is its place if it is in.
fn located(candidate: &Candidate<'_>, url: String, request: &Request, position: usize) -> Located {
    let (verdict, after) = match candidate.state {
        State::In => (Verdict::In, None),
        State::Later(after) => (Verdict::Later, Some(after)),
        State::Out => (Verdict::Out, None),
    };
    Located {
        position: (verdict == Verdict::In).then_some(position),
        kind: candidate.kind(),
        name: candidate.name().to_owned(),
        url,
        rank: candidate.rank,
        verdict,
        why: candidate.reason.word().to_owned(),
        reason: candidate.reason(),
        silent_seconds: candidate.silent.map(|silent| silent.as_secs()),
        verified: candidate.since,
        after_seconds: after.map(|after| after.as_secs()),
        from: after.and_then(|after| {
            let left = jiff::SignedDuration::try_from(after.saturating_sub(request.elapsed)).ok()?;
            request.now.checked_add(left).ok()
        }),
    }
}
