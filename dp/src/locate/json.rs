//! What was found, as JSON: byte for byte what `serde_json` makes of [`super::answer`], out of what is worded already. Clients
//! ask for it before each file.

use std::io::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::answer::{EXPIRES, later};
use super::order::MOST;
use super::prepared::string;
use super::reason::Silence;
use super::{Candidate, Found, Place, State};

/// The answer at the time `now`.
pub fn json(found: &Found<'_>, now: Timestamp) -> Vec<u8> {
    let subnet = found.standing.subnet.map(|subnet| subnet.to_string()).unwrap_or_default();
    let digest = found.content.to_string();
    let mut writing = Writing {
        out: Vec::with_capacity(512 + 256 * found.candidates.len()),
        found,
        digest: &digest,
        subnet: &subnet,
        now,
        later: None,
    };
    writing.all();
    writing.out
}

struct Writing<'f> {
    out: Vec<u8>,
    found: &'f Found<'f>,
    digest: &'f str,
    /// The client's own.
    subnet: &'f str,
    now: Timestamp,
    /// The time that was worded last: neighbours share it.
    later: Option<(Duration, Vec<u8>)>,
}

impl<'f> Writing<'f> {
    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn value(&mut self, value: &impl Serialize) {
        // Neither a number nor a text fails to be written into memory.
        let _ = serde_json::to_writer(&mut self.out, value);
    }

    fn all(&mut self) {
        let Found { held, places, standing, candidates, untold, .. } = self.found;
        self.raw("{\"content\":\"");
        self.raw(self.digest);
        self.raw("\",\"size\":");
        self.value(&held.size);
        self.raw(",\"sha1\":");
        self.value(&held.sha1);
        self.raw(",\"file_name\":");
        string(&mut self.out, &[held.file_name.as_str()]);
        self.raw(",\"groups\":[");
        for (number, name) in places.names(&standing.groups).into_iter().enumerate() {
            if number > 0 {
                self.raw(",");
            }
            string(&mut self.out, &[name]);
        }
        // Candidates are sorted by state.
        let first_later = candidates.partition_point(|one| one.state == State::In);
        let first_out = candidates.partition_point(|one| one.state != State::Out);
        let (ready, rest) = candidates.split_at(first_later);
        let (later, out) = rest.split_at(first_out - first_later);
        self.raw("],\"locations\":[");
        self.list(ready, Self::ready);
        self.raw("]");
        if !later.is_empty() {
            self.raw(",\"later\":[");
            self.list(later, Self::later);
            self.raw("]");
        }
        if !out.is_empty() {
            self.raw(",\"out\":[");
            self.list(out, Self::named);
            self.raw("]");
        }
        let beyond = [ready, later, out].iter().map(|list| list.len().saturating_sub(MOST)).sum::<usize>();
        if untold + beyond > 0 {
            self.raw(",\"not_told\":");
            self.value(&(untold + beyond));
        }
        self.raw(",\"expires_in_seconds\":");
        self.value(&EXPIRES);
        self.raw("}");
    }

    fn list(&mut self, all: &'f [Candidate<'f>], one: fn(&mut Self, &Candidate<'f>)) {
        for (number, candidate) in all.iter().take(MOST).enumerate() {
            if number > 0 {
                self.raw(",");
            }
            one(self, candidate);
            self.why(candidate);
            self.raw("}");
        }
    }

    /// The beginning of one that is in: who it is and where.
    fn ready(&mut self, candidate: &Candidate<'f>) {
        match candidate.place {
            Place::Point(_, number) => {
                self.out.extend_from_slice(self.found.places.prepared[number as usize].addressed());
                self.raw(self.digest);
                self.raw("\"");
            }
            Place::Peer(peer) => {
                self.named(candidate);
                let _ = write!(self.out, ",\"url\":\"http://{}/content/", peer.address);
                self.raw(self.digest);
                self.raw("\"");
            }
            Place::Cloud(url) => {
                self.named(candidate);
                self.raw(",\"url\":");
                string(&mut self.out, &[url]);
            }
        }
    }

    /// The same of one that is later.
    fn later(&mut self, candidate: &Candidate<'f>) {
        self.ready(candidate);
        let State::Later(after) = candidate.state else { return };
        self.raw(",\"after_seconds\":");
        self.value(&after.as_secs());
        self.raw(",\"from\":");
        if self.later.as_ref().is_none_or(|(worded, _)| *worded != after) {
            let text = serde_json::to_vec(&later(self.now, after)).unwrap_or_default();
            self.later = Some((after, text));
        }
        if let Some((_, text)) = &self.later {
            self.out.extend_from_slice(text);
        }
    }

    /// The same of one that is out: who it is.
    fn named(&mut self, candidate: &Candidate<'f>) {
        match candidate.place {
            Place::Point(_, number) => {
                self.out.extend_from_slice(self.found.places.prepared[number as usize].named());
            }
            Place::Peer(peer) => {
                self.raw("{\"kind\":\"peer\",\"name\":");
                string(&mut self.out, &[&peer.name]);
            }
            Place::Cloud(_) => self.raw("{\"kind\":\"cloud\",\"name\":\"upstream\""),
        }
    }

    fn why(&mut self, candidate: &Candidate<'f>) {
        self.raw(",\"why\":\"");
        self.raw(candidate.reason.word());
        self.raw("\",\"reason\":");
        let [first, second, third] = candidate.reason.pieces(self.subnet);
        let silent = candidate.silent.map(|silent| Silence(silent).to_string()).unwrap_or_default();
        string(&mut self.out, &[first, second, third, &silent]);
    }
}
