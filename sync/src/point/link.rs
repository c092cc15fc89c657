//! Between a point and its site: questions for what to hold, reports of how it is.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Coded as _, Problem};
use dp::server::Source;
use dp::server::tally::Row;
use dp::transfer::web::{Exchange, Web};
use http::StatusCode;
use tracing::{info, warn};
use url::Url;
use uuid::Uuid;

use super::said::Acknowledged;
use super::{call, enrol, keys, room, unnamed};
use crate::blocking::blocking;
use crate::clock;
use crate::jitter;
use crate::keys::Secret;
use crate::points::wire::{
    Assignment, HEART_BEAT, KEYS_FIELD, KeysAnswer, LARGEST_ASSIGNMENT, LARGEST_KEYS, LONGEST_WAIT, Report,
    ReportAnswer, ServedBytes, keys_tag,
};
use crate::site::Site;

/// Pauses after failures: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Reports that follow each other at once are one.
const GATHER: Duration = Duration::from_millis(200);

/// Which process of which installation this is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who {
    pub(super) instance: Uuid,
    pub(super) boot: Uuid,
}

/// The way to the site.
pub(super) struct Link {
    site: Arc<Site>,
    base: Url,
    who: Who,
    web: Mutex<Option<Arc<Web>>>,
    /// A token that the site has refused; it is not shown again.
    refused: Mutex<Option<Secret>>,
    /// How many reports were made.
    reports: AtomicU64,
    acknowledged: Mutex<Acknowledged>,
}

impl Link {
    pub(super) fn new(site: &Arc<Site>, who: Who) -> Result<Self, Problem> {
        let settings = site.settings();
        let base = call::base(&settings.dp.site)?;
        let (web, refused, reports, acknowledged) = Default::default();
        let link = Self { site: site.clone(), base, who, web, refused, reports, acknowledged };
        // Certificates that cannot be used are said before anything runs.
        call::web(&link.base, settings.dp.ca_file(), None)?;
        Ok(link)
    }

    fn shown(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    /// The connections with our key; made again when there is another key.
    fn web(&self) -> Result<Arc<Web>, Problem> {
        let mut made = self.web.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(web) = made.as_ref() {
            return Ok(web.clone());
        }
        let settings = self.site.settings();
        let path = settings.point_key_file();
        if !path.exists() {
            let problem = Problem::new(Code::KeyRefused, "this distribution point has no key yet");
            return Err(problem.help(match settings.dp.token_file() {
                Some(_) => "make a token at the site with `spsync dp enrol DP`, and put it where [dp] token_file says",
                None => "make a token at the site with `spsync dp enrol DP`, and name its file in [dp] token_file",
            }));
        }
        let (key, plain) = (Secret::of_file(&path)?, settings.dp.allow_plain_key);
        let web = call::web_with_key(&self.base, settings.dp.ca_file(), &key, plain)?;
        *made = Some(web.clone());
        Ok(web)
    }

    /// Asks for the assignment, again and again; takes over what is new.
    pub(super) async fn listen(&self) {
        let mut pause = FIRST_PAUSE;
        let mut wait = 0;
        loop {
            // After anything but an answer the next one is wanted at once.
            let asked = self.ask(std::mem::take(&mut wait)).await;
            match asked {
                Ok(()) => {
                    self.site.point.contact(Ok(()), &self.shown());
                    (pause, wait) = (FIRST_PAUSE, LONGEST_WAIT);
                    continue;
                }
                Err(problem) if is_without_key(&problem) => {
                    if problem.code == Code::KeyRevoked {
                        // Who is trusted no more opens private content to nobody.
                        keys::forget(&self.site, "the key of this point was revoked").await;
                    }
                    let (told, needs_token) = match self.enrol().await {
                        Ok(true) => continue,
                        Ok(false) => (problem, true),
                        Err(why) if why.code == Code::TokenRefused => {
                            (problem.because(why.to_string()), true)
                        }
                        // What is wrong with the file of the token: why there is no key, or no other one.
                        Err(why) if why.code == Code::KeyRefused => {
                            let told =
                                why.causes.into_iter().fold(problem.because(why.message), Problem::because);
                            (told.help(why.help), true)
                        }
                        Err(worse) => (worse, false),
                    };
                    self.site.point.contact(Err(told), &self.shown());
                    // The site counts wrong keys: it is left alone for long, unless there is another token.
                    if needs_token && self.another_token(LONGEST_PAUSE).await {
                        pause = FIRST_PAUSE;
                        continue;
                    }
                }
                Err(problem) => self.site.point.contact(Err(problem), &self.shown()),
            }
            // After a restart of the site all its points come back.
            tokio::time::sleep(jitter::of(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Gets a key with the token; whether there was one that the site has not refused yet.
    async fn enrol(&self) -> Result<bool, Problem> {
        let settings = self.site.settings();
        let Some(token) = self.token()? else { return Ok(false) };
        let place = enrol::Place {
            site: self.base.clone(),
            ca_file: settings.dp.ca_file(),
            plain: settings.dp.allow_plain_key,
            key_file: settings.point_key_file(),
            instance: self.who.instance,
        };
        match enrol::with_token(&place, &token).await {
            Ok(enrolled) => {
                info!("enrolled as {} `{}` of site {}", enrolled.kind, enrolled.name, enrolled.site)
            }
            Err(problem) => {
                if problem.code == Code::TokenRefused {
                    *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
                }
                return Err(problem);
            }
        }
        *self.web.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(true)
    }

    /// The token, unless the site has refused it; none where no file is named.
    ///
    /// # Errors
    /// Why the file that is named holds none. It may be gone once there is a key.
    fn token(&self) -> Result<Option<Secret>, Problem> {
        let Some(path) = self.site.settings().dp.token_file() else { return Ok(None) };
        let token = Secret::of_file(&path).map_err(|problem| {
            Problem { code: Code::KeyRefused, ..problem }.help(
                "put the token of `spsync dp enrol DP` into the file that [dp] token_file names, readable by spsync",
            )
        })?;
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((refused.as_ref() != Some(&token)).then_some(token))
    }

    /// Waits for a token that the site has not refused.
    async fn another_token(&self, patience: Duration) -> bool {
        let until = tokio::time::Instant::now() + patience;
        while tokio::time::Instant::now() < until {
            if matches!(self.token(), Ok(Some(_))) {
                return true;
            }
            tokio::time::sleep(FIRST_PAUSE).await;
        }
        false
    }

    async fn ask(&self, wait: u64) -> Result<(), Problem> {
        let web = self.web()?;
        let mut url = call::join(&self.base, "point/assignment")?;
        let Who { instance, boot } = self.who;
        let (known, assignment) = self.site.point.assignment();
        // A site of before does not look at it, and tells the keys with everything else.
        let keys = keys_tag(&assignment.keys);
        url.set_query(Some(&format!("wait={wait}&instance={instance}&boot={boot}&keys={keys}")));
        let exchange = Exchange {
            body: None,
            known: known.as_deref(),
            once: None,
            deadline: Duration::from_secs(wait + 20),
            cap_bytes: LARGEST_ASSIGNMENT,
        };
        let (reply, etag) = web.exchange(&url, exchange).await.map_err(|fault| fault.problem())?;
        let told = reply.headers.get(KEYS_FIELD).and_then(|tag| tag.to_str().ok());
        match (StatusCode::from_u16(reply.status), etag) {
            (Ok(StatusCode::NOT_MODIFIED), _) => match told {
                Some(tag) if tag != keys => self.take_keys(&web, &assignment.keys).await,
                _ => {
                    keys::are_good(&self.site).await;
                    Ok(())
                }
            },
            (Ok(StatusCode::OK), Some(etag)) => {
                // Before the rest of it: that is of the same moment only together with them.
                if told.is_some_and(|tag| tag != keys) {
                    self.take_keys(&web, &assignment.keys).await?;
                }
                self.take_over(etag, reply.body, told.is_some()).await
            }
            _ => Err(call::refusal(&self.shown(), reply.status, &reply.body)),
        }
    }

    /// Asks for the content keys of devices: what changed since `known`, and all where that leads to nothing.
    async fn take_keys(&self, web: &Web, known: &[Sha256Digest]) -> Result<(), Problem> {
        let instance = self.who.instance;
        for since in [format!("&since={}", keys_tag(known)), String::new()] {
            let mut url = call::join(&self.base, "point/keys")?;
            url.set_query(Some(&format!("instance={instance}{since}")));
            let asked: Option<KeysAnswer> =
                call::ask(web, &url, Duration::from_secs(20), LARGEST_KEYS).await?;
            if let Some(keys) = asked.and_then(|told| told.applied_to(known)) {
                return keys::are_now(&self.site, keys).await;
            }
        }
        let message = format!("the keys that {} tells are not those that it names", self.shown());
        Err(Problem::new(Code::SiteAnswerInvalid, message))
    }

    /// What is new is written down before it is worked on. Where keys are told `apart`, they stay as they are.
    async fn take_over(&self, etag: String, body: Bytes, apart: bool) -> Result<(), Problem> {
        let invalid = |error: &(dyn std::error::Error + 'static)| {
            Problem::of(Code::SiteAnswerInvalid, error).because(format!("an assignment of {}", self.shown()))
        };
        let mut assignment: Assignment = serde_json::from_slice(&body).map_err(|error| invalid(&error))?;
        let mut text = String::from_utf8(body.into()).map_err(|error| invalid(&error))?;
        let (_, before) = self.site.point.assignment();
        if apart {
            assignment.keys.clone_from(&before.keys);
            text = keys::with_keys(&text, &assignment.keys)?;
        }
        let packages: Vec<_> = assignment.packages.iter().map(|assigned| assigned.package.clone()).collect();
        info!("{} packages are assigned to `{}`", packages.len(), assignment.point);
        let (tag, now) = (etag.clone(), clock::now());
        let followed = assignment.clone();
        let kept = self
            .site
            .write(move |w| {
                w.record_assignment(&tag, &text, &packages, now)?;
                unnamed::follow(w, &before, &followed, now)
            })
            .await?;
        if kept > 0 {
            warn!("{kept} contents are not named any more, and not said to go: they are served on for now");
        }
        self.site.point.adopt(etag, assignment);
        let followed = async {
            self.site.refresh_keys().await?;
            self.site.refresh_shelf().await
        };
        // What was not followed is asked for again.
        followed.await.inspect_err(|_| self.site.point.forget_tag())
    }

    /// Says how everything is: when there is news, and every few seconds.
    pub(super) async fn tell(&self) {
        let mut news = self.site.point.news.subscribe();
        loop {
            let beat = Duration::from_secs(HEART_BEAT);
            let _ = tokio::time::timeout(beat, news.changed()).await;
            tokio::time::sleep(GATHER).await;
            news.mark_unchanged();
            if self.site.point.lock().refused.as_ref().is_some_and(is_without_key) {
                continue;
            }
            match self.report().await {
                // Whether the site answers at all is the listener's to say.
                Err(problem) if problem.code == Code::PointIdentityTaken => {
                    self.site.point.contact(Err(problem), &self.shown());
                    tokio::time::sleep(jitter::of(LONGEST_PAUSE)).await;
                }
                _ => {}
            }
        }
    }

    /// What this process has served, by the groups that the site told.
    fn served(&self) -> Vec<ServedBytes> {
        let said = |row: &Row<_>, source: &Source| ServedBytes {
            group: row.group().to_owned(),
            source: source.name().to_owned(),
            bytes: row.of(*source as usize),
        };
        let rows = self.site.served.groups.rows();
        let all = rows.iter().flat_map(|row| Source::ALL.iter().map(move |source| said(row, source)));
        all.filter(|one| one.bytes > 0).collect()
    }

    async fn report(&self) -> Result<(), Problem> {
        // What the site does not know it is told at once.
        while self.is_to_say_more().await? {}
        Ok(())
    }

    /// Says how everything is, as far as the site does not know it; whether it has to hear more.
    async fn is_to_say_more(&self) -> Result<bool, Problem> {
        let web = self.web()?;
        let library = self.site.library.clone();
        let kept = self.site.settings().download.min_free;
        let free = blocking(move || Ok(library.free()?)).await?;
        // What would go for a package keeps none out.
        let free = free.saturating_add(room::spare(&self.site).await?);
        let lacks = self.site.point.lock().said.values().any(|said| !said.lacks.is_empty());
        let there = if lacks { self.site.read(|r| r.content_digests()).await? } else { HashSet::new() };
        let number = self.reports.fetch_add(1, Ordering::Relaxed) + 1;
        let (assignment, packages) = {
            let inner = self.site.point.lock();
            // What came meanwhile, for this package or for another, is no lack any more.
            let packages = inner.said.values().map(|said| {
                let mut said = said.clone();
                said.lacks.retain(|content| !there.contains(content));
                said
            });
            let packages: Vec<_> = packages.collect();
            (inner.etag.clone(), packages)
        };
        // Whatever comes of it, all is said again where it does not end well: the site may be one of before.
        let mut saying = self.acknowledged().says(assignment.as_deref(), packages, Instant::now())?;
        let report = Report {
            instance: self.who.instance,
            boot: self.who.boot,
            assignment,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            free: free.saturating_sub(kept),
            on_demand: self.site.settings().dp.on_demand,
            packages: saying.packages.clone(),
            changed: saying.changed.take(),
            number: Some(number),
            state: Some(saying.state().to_owned()),
            served: self.served(),
        };
        let url = call::join(&self.base, "point/report")?;
        let (status, body) = call::post(&web, &url, &report).await?;
        let answer = match status {
            200 => serde_json::from_slice::<ReportAnswer>(&body)
                .map_err(|error| Problem::of(Code::SiteAnswerInvalid, &error))?,
            // A site of before: it is told all each time.
            204 => ReportAnswer { state: None, changes: false },
            _ => return Err(call::refusal(&self.shown(), status, &body)),
        };
        Ok(self.acknowledged().answered(saying, &answer, Instant::now()))
    }

    fn acknowledged(&self) -> MutexGuard<'_, Acknowledged> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether another token is what helps.
pub(super) fn is_without_key(problem: &Problem) -> bool {
    matches!(problem.code, Code::KeyRefused | Code::KeyRevoked)
}
