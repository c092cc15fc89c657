//! Where else a client finds content that this point has: its site knows, and is asked for what names other places
//! (`.meta4`, `Link`).
//!
//! What it says is kept for half a minute for each client and content, and that it said nothing for a few seconds. Few
//! questions are under way at a time; whoever finds no room, or waits too long, is told of this point alone, as is everybody
//! while the site is away.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use catalog::digest::Sha256Digest;
use catalog::problem::Problem;
use dp::server::{Learning, LocationsAnswer, Locator};
use dp::transfer::web::Web;
use tokio::sync::Semaphore;
use tracing::debug;
use url::Url;

use super::call;
use crate::points::wire::LARGEST_PLACES;
use crate::site::Site;

/// How long an answer is kept, and that there was none.
const KEPT: Duration = Duration::from_secs(30);
const NOTHING_KEPT: Duration = Duration::from_secs(5);
/// The most answers that are kept.
const MOST_KEPT: usize = 1_024;
/// The most questions at a time, and how long each may take: a client waits for it.
const AT_A_TIME: usize = 8;
const PATIENCE: Duration = Duration::from_secs(2);

type Answer = Option<Arc<LocationsAnswer>>;

/// What was answered lately. Pure.
#[derive(Debug, Default)]
struct Memory(HashMap<(IpAddr, Sha256Digest), (Instant, Answer)>);

impl Memory {
    fn get(&self, client: IpAddr, content: Sha256Digest, now: Instant) -> Option<Answer> {
        let (until, answer) = self.0.get(&(client, content))?;
        (now < *until).then(|| answer.clone())
    }

    fn keep(&mut self, client: IpAddr, content: Sha256Digest, answer: Answer, now: Instant) {
        if self.0.len() >= MOST_KEPT {
            self.0.retain(|_, (until, _)| now < *until);
        }
        // Whoever asks for so many in half a minute is not kept for.
        if self.0.len() < MOST_KEPT {
            let until = now + if answer.is_some() { KEPT } else { NOTHING_KEPT };
            self.0.insert((client, content), (until, answer));
        }
    }
}

/// Asks the site.
pub struct Elsewhere {
    site: Weak<Site>,
    web: Mutex<Option<Arc<Web>>>,
    memory: Mutex<Memory>,
    room: Semaphore,
}

impl Elsewhere {
    /// For this point.
    pub fn new(site: &Arc<Site>) -> Self {
        let (web, memory) = (Mutex::default(), Mutex::default());
        Self { site: Arc::downgrade(site), web, memory, room: Semaphore::new(AT_A_TIME) }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn learn(&self, client: IpAddr, content: Sha256Digest) -> Answer {
        let client = client.to_canonical();
        let known = self.memory().get(client, content, Instant::now());
        if let Some(known) = known {
            return known;
        }
        let site = self.site.upgrade().filter(|site| site.point.is_in_contact())?;
        let _room = self.room.try_acquire().ok()?;
        let asked = tokio::time::timeout(PATIENCE, self.ask(&site, client, content)).await;
        let answer = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(problem)) => {
                debug!(content.sha256 = %content, "the site does not say where else {content} is: {problem}");
                // The key or the certificates may be others by now.
                *self.web.lock().unwrap_or_else(PoisonError::into_inner) = None;
                None
            }
            Err(_) => None,
        };
        let answer = answer.map(Arc::new);
        self.memory().keep(client, content, answer.clone(), Instant::now());
        answer
    }

    async fn ask(
        &self,
        site: &Site,
        client: IpAddr,
        content: Sha256Digest,
    ) -> Result<Option<LocationsAnswer>, Problem> {
        let base = &call::base(&site.settings().dp.site)?;
        let web = self.web(site, base)?;
        let mut url = call::join(base, &format!("point/places/{content}"))?;
        url.set_query(Some(&format!("client={client}")));
        let asked = call::ask::<LocationsAnswer>(&web, &url, PATIENCE, LARGEST_PLACES).await?;
        let Some(mut answer) = asked else { return Ok(None) };
        // What is relative is the site's; here it would be this point.
        for place in answer.locations.iter_mut().filter(|place| !place.url.contains("://")) {
            place.url = call::join(base, &place.url)?.into();
        }
        Ok(Some(answer).filter(|answer| answer.content == content))
    }

    fn web(&self, site: &Site, base: &Url) -> Result<Arc<Web>, Problem> {
        let mut made = self.web.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(web) = made.as_ref() {
            return Ok(web.clone());
        }
        let web = call::web_of_point(&site.settings(), base)?;
        *made = Some(web.clone());
        Ok(web)
    }
}

impl Locator for Elsewhere {
    /// `GET /locations` is the site's to answer.
    fn locate(&self, _: IpAddr, _: Sha256Digest) -> Option<LocationsAnswer> {
        None
    }

    fn elsewhere(&self, client: IpAddr, content: Sha256Digest) -> Learning<'_> {
        Box::pin(async move { Some((*self.learn(client, content).await?).clone()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_for_a_while_and_not_too_many() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let (client, content) = (IpAddr::from([10, 0, 0, 1]), Sha256Digest([1; 32]));
        let json = serde_json::json!({
            "content": content, "size": 1, "sha1": null, "file_name": "x", "locations": [], "expires_in_seconds": 9,
        });
        let answer: LocationsAnswer = serde_json::from_value(json).unwrap();
        let answer = Some(Arc::new(answer));
        assert_eq!(memory.get(client, content, at(0)), None, "nobody has asked");
        memory.keep(client, content, answer.clone(), at(0));
        memory.keep(client, Sha256Digest([2; 32]), None, at(0));
        assert_eq!(memory.get(client, content, at(29)), Some(answer));
        assert_eq!(memory.get(client, content, at(30)), None, "it is asked again");
        assert_eq!(memory.get(client, Sha256Digest([2; 32]), at(4)), Some(None), "there was no answer");
        assert_eq!(memory.get(client, Sha256Digest([2; 32]), at(5)), None);
        assert_eq!(memory.get(IpAddr::from([10, 0, 0, 2]), content, at(1)), None, "another client");
        for number in 0..2_000_u32 {
            memory.keep(IpAddr::from(number.to_be_bytes()), content, None, at(10));
        }
        assert_eq!(memory.0.len(), MOST_KEPT);
        memory.keep(client, content, None, at(100));
        assert_eq!(memory.0.len(), 1, "what is over makes room");
    }
}
