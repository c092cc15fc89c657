//! Licence terms: which updates have them, the text itself, and who decided what about which text.
//!
//! Accepting is about a text, known by its SHA-256. Where no text can be had there is nothing to accept. Another text
//! for the same language asks again.

pub mod rtf;

use std::sync::Arc;

use base64::Engine as _;
use catalog::digest::{Checker, Sha256Digest, Wanted};
use catalog::problem::{Code, Coded as _, Problem};
use dp::transfer::web::Small;
use schema::licenses::{Decision, How, LicenseLink, LicenseState, LicenseText};
use schema::tasks::Unit;
use serde::{Deserialize, Serialize};
use tracing::warn;
use url::Url;

use crate::admin::{Answer, Caller};
use crate::clock;
use crate::download;
use crate::site::Site;
use crate::tasks::Progress;
use crate::updates::{self, Listed};
use crate::upstream::server_sync;

/// The most bytes of a licence text; real ones have about 150 KiB.
pub const LARGEST_TEXT: u64 = 4 << 20;

/// An update with its licence.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Licensed {
    /// Id of the update.
    pub update: catalog::id::UpdateId,
    /// Its title.
    pub title: String,
    /// Its language, and so that of the terms.
    pub language: String,
    /// Where the decision stands.
    pub state: LicenseState,
    /// Digest of the text that stands for this update now, if one is known.
    pub text: Option<Sha256Digest>,
    /// The last decision.
    pub decision: Option<Decision>,
}

/// Updates that have licence terms, of what is listed.
///
/// # Errors
/// Those of the database.
pub async fn list(site: &Arc<Site>, pending: bool) -> Result<Answer, Problem> {
    let mut rows = Vec::new();
    for listed in updates::all(site).await? {
        let state = listed.update.license;
        if listed.hidden.is_some()
            || state == LicenseState::None
            || (pending && state != LicenseState::Pending)
        {
            continue;
        }
        let (text, decision) = known(site, &listed).await?;
        rows.push(Licensed {
            update: listed.update.id.update,
            title: listed.update.title.clone(),
            language: listed.update.language.clone(),
            state,
            text: text.map(|text| text.sha256),
            decision,
        });
    }
    Answer::of(&rows)
}

async fn known(
    site: &Arc<Site>,
    listed: &Listed,
) -> Result<(Option<LicenseText>, Option<Decision>), Problem> {
    let (id, language) = (listed.update.id.update, listed.update.language.clone());
    site.read(move |r| Ok((r.license_text(id, &language)?, r.license_decision(id)?))).await
}

/// A licence text, ready to be read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reviewed {
    /// Id of the update.
    pub update: catalog::id::UpdateId,
    /// Its title.
    pub title: String,
    /// Language of the text.
    pub language: String,
    /// Digest of the document; what accepting is about.
    pub sha256: Sha256Digest,
    /// Where the document came from.
    pub origin: String,
    /// Where the decision stands.
    pub state: LicenseState,
    /// The words of the document.
    pub text: String,
}

/// Shows the licence text of an update. It is fetched from the catalog's link if it is not known yet, or taken from
/// `supplied` (base64).
///
/// # Errors
/// `NO_LICENSE_TERMS`, `LICENSE_TEXT_UNAVAILABLE`, `LICENSE_TEXT_INVALID`, and those of finding the update.
pub async fn review(
    site: &Arc<Site>,
    name: &str,
    language: Option<String>,
    supplied: Option<String>,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let all = updates::all(site).await?;
    let listed = updates::named(name, &all)?;
    has_terms(listed)?;
    let language = language.unwrap_or_else(|| listed.update.language.clone()).to_lowercase();
    let id = listed.update.id.update;
    let text = match supplied {
        Some(base64) => {
            let body = base64::engine::general_purpose::STANDARD.decode(base64).map_err(|error| {
                Problem::new(Code::LicenseTextInvalid, "the text did not arrive whole")
                    .because_of(Some(&error))
            })?;
            let text = checked(body, format!("supplied by {}", caller.who))?;
            if caller.dry_run { text } else { record(site, listed, &language, text).await? }
        }
        None => fetched(site, listed, &language, !caller.dry_run).await?,
    };
    if !caller.dry_run {
        let (who, digest, language) = (caller.who.clone(), text.sha256, language.clone());
        site.write(move |w| w.record_review(id, digest, &language, &who, clock::now())).await?;
    }
    let state =
        site.read(move |r| r.feature_update(id)).await?.map_or(listed.update.license, |row| row.license);
    Answer::of(&Reviewed {
        update: id,
        title: listed.update.title.clone(),
        language,
        sha256: text.sha256,
        origin: text.origin,
        state,
        text: rtf::to_text(&text.body),
    })
}

fn has_terms(listed: &Listed) -> Result<(), Problem> {
    if listed.update.license == LicenseState::None {
        return Err(Problem::new(
            Code::NoLicenseTerms,
            format!("`{}` has no licence terms", listed.update.title),
        ));
    }
    Ok(())
}

/// The known text, or the one that the catalog links to, which is recorded if it is to be kept.
async fn fetched(
    site: &Arc<Site>,
    listed: &Listed,
    language: &str,
    keep: bool,
) -> Result<LicenseText, Problem> {
    let (id, wanted) = (listed.update.id.update, language.to_owned());
    let (known, mut links, file) = site
        .read(move |r| {
            Ok((r.license_text(id, &wanted)?, r.license_links(id, &wanted)?, r.license_file(id, &wanted)?))
        })
        .await?;
    if let Some(known) = known {
        return Ok(known);
    }
    let settings = site.settings();
    if let Some(file) = file
        && let Some(sha1) = file.digests.sha1
    {
        // Update servers have it where they are now, whatever was written down of where they were.
        let wanted = Some((file.size, file.digests));
        let here = server_sync::places(&settings, sha1, &file.name).into_iter();
        let here =
            here.map(|(source, url)| LicenseLink { source: source.name.clone(), url: url.into(), wanted });
        links.splice(0..0, here);
    }
    // One place that is named several times is asked once.
    let mut places: Vec<LicenseLink> = Vec::new();
    for link in links {
        match places.iter_mut().find(|known| known.url == link.url) {
            Some(known) => known.wanted = known.wanted.or(link.wanted),
            None => places.push(link),
        }
    }
    let unavailable = || {
        Problem::new(
            Code::LicenseTextUnavailable,
            format!("the licence text of `{}` in {language} is not available", listed.update.title),
        )
    };
    if places.is_empty() {
        return Err(unavailable().because("no catalog links to a text in this language"));
    }
    let mut problem = unavailable();
    let imported = download::imported();
    for link in places {
        let got = match (Url::parse(&link.url), download::source_of(&settings, &imported, &link.source)) {
            (Ok(url), Some(source)) => {
                let web = site.webs.content(&settings, source)?;
                match tokio::time::timeout(
                    settings.sync.request_timeout,
                    web.get_small(&url, LARGEST_TEXT, None),
                )
                .await
                {
                    Ok(Ok(Small::Body { bytes, .. })) => {
                        is_the_one(&bytes, &link).and_then(|()| checked(bytes.to_vec(), link.url.clone()))
                    }
                    Ok(Ok(Small::NotModified)) => {
                        Err(Problem::new(Code::SourceFailed, "304 without a condition"))
                    }
                    Ok(Err(fault)) => Err(Problem::new(fault.code(), fault.to_string())),
                    Err(_) => Err(Problem::new(Code::TransferStalled, "no answer in time")),
                }
            }
            (Err(error), _) => Err(Problem::new(Code::SourceFailed, error.to_string())),
            (_, None) => Err(Problem::new(
                Code::SourceFailed,
                format!("source `{}` is not configured any more", link.source),
            )),
        };
        match got {
            Ok(text) if keep => return record(site, listed, language, text).await,
            Ok(text) => return Ok(text),
            Err(cause) => problem = problem.because(format!("{}: {cause}", link.url)),
        }
    }
    Err(problem)
}

/// Where the upstream says what a text hashes to, nothing else is shown to anybody.
fn is_the_one(bytes: &[u8], link: &LicenseLink) -> Result<(), Problem> {
    let Some((size, digests)) = link.wanted else { return Ok(()) };
    let wrong = |why: String| Err(Problem::new(Code::HashMismatch, why));
    let Some(wanted) = Wanted::new(size, digests) else { return wrong("no digest is published".to_owned()) };
    let mut checker = Checker::new();
    checker.update(bytes);
    match checker.finish(&wanted) {
        Ok(_) => Ok(()),
        Err(mismatch) => wrong(mismatch.to_string()),
    }
}

/// A text must be RTF or readable text of a sensible size: an error page is not what anybody accepts.
fn checked(body: Vec<u8>, origin: String) -> Result<LicenseText, Problem> {
    let invalid =
        |why: &str| Problem::new(Code::LicenseTextInvalid, format!("{origin} is no licence text: {why}"));
    if body.is_empty() || body.len() as u64 > LARGEST_TEXT {
        return Err(invalid("it is empty or larger than 4 MiB"));
    }
    let start = String::from_utf8_lossy(&body[..body.len().min(512)]).to_ascii_lowercase();
    if start.contains("<html") || start.contains("<!doctype") {
        return Err(invalid("it is a web page"));
    }
    if !body.starts_with(b"{\\rtf") && std::str::from_utf8(&body).is_err() {
        return Err(invalid("it is neither RTF nor UTF-8 text"));
    }
    Ok(LicenseText { sha256: Sha256Digest::of(&body), body, origin, fetched_at: clock::now() })
}

async fn record(
    site: &Arc<Site>,
    listed: &Listed,
    language: &str,
    text: LicenseText,
) -> Result<LicenseText, Problem> {
    let (id, language) = (listed.update.id.update, language.to_owned());
    site.write(move |w| {
        w.record_license_text(id, &language, &text)?;
        Ok(text)
    })
    .await
}

/// What a decision did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Decided {
    /// Accepted, or declined.
    pub accepted: bool,
    /// Ids and titles.
    pub updates: Vec<Licensed>,
    /// Others that the decision stands for too, because their terms are the same text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Licensed>,
    /// Nothing was recorded.
    pub dry_run: bool,
}

/// Accepts or declines. Accepting needs a text that was reviewed, or whose digest the caller names.
///
/// # Errors
/// `NO_LICENSE_TERMS`, `LICENSE_TEXT_UNAVAILABLE`, `LICENSE_REVIEW_REQUIRED`; then nothing is recorded.
pub async fn decide(
    site: &Arc<Site>,
    names: &[String],
    accept: bool,
    digest: Option<String>,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let all = updates::all(site).await?;
    let mut chosen = Vec::new();
    // What a dry run had to fetch is not kept, but its decision is about it.
    let mut only_now = Vec::new();
    for name in names {
        let listed = updates::named(name, &all)?;
        has_terms(listed)?;
        let (text, _) = known(site, listed).await?;
        let text = match (text, accept) {
            (None, true) => {
                let text = fetched(site, listed, &listed.update.language, !caller.dry_run).await?;
                if caller.dry_run {
                    only_now.push((listed.update.id.update, listed.update.language.clone(), text.clone()));
                }
                Some(text)
            }
            (text, _) => text,
        };
        if accept && let Some(text) = &text {
            reviewed(site, listed, text, digest.as_deref()).await?;
        }
        chosen.push((listed, text.map(|text| text.sha256)));
    }
    let rows: Vec<_> = chosen
        .iter()
        .map(|(listed, text)| (listed.update.id.update, listed.update.language.clone(), *text))
        .collect();
    let who = caller.who.clone();
    let before: Vec<_> = all.iter().map(|one| (one.update.id.update, one.update.license)).collect();
    // Whom a text concerns is for the database to say, also where what was done is undone.
    let changed = site.write_unless(caller.dry_run, move |w| {
        for (id, language, text) in &only_now {
            w.record_license_text(*id, language, text)?;
        }
        for (id, language, text) in &rows {
            w.record_license_decision(*id, language, *text, accept, &who, How::ByHand, clock::now())?;
        }
        let mut changed = Vec::new();
        for (id, before) in before.into_iter().filter(|(id, _)| rows.iter().all(|(named, ..)| named != id)) {
            let now = w.feature_update(id)?.map(|row| row.license);
            if let Some(state) = now.filter(|now| *now != before) {
                changed.push((id, state, w.license_decision(id)?));
            }
        }
        Ok(changed)
    });
    let mut also = Vec::new();
    for (id, state, decision) in changed.await? {
        let Some(listed) = all.iter().find(|one| one.update.id.update == id) else { continue };
        also.push(Licensed {
            update: id,
            title: listed.update.title.clone(),
            language: listed.update.language.clone(),
            state,
            text: known(site, listed).await?.0.map(|text| text.sha256),
            decision,
        });
    }
    let mut decided = Vec::new();
    for (listed, text) in chosen {
        let id = listed.update.id.update;
        let (row, decision) =
            site.read(move |r| Ok((r.feature_update(id)?, r.license_decision(id)?))).await?;
        decided.push(Licensed {
            update: id,
            title: listed.update.title.clone(),
            language: listed.update.language.clone(),
            state: row.map_or(listed.update.license, |row| row.license),
            text,
            decision,
        });
    }
    Answer::of(&Decided { accepted: accept, updates: decided, also, dry_run: caller.dry_run })
}

async fn reviewed(
    site: &Arc<Site>,
    listed: &Listed,
    text: &LicenseText,
    digest: Option<&str>,
) -> Result<(), Problem> {
    let sha256 = text.sha256;
    if digest.is_some_and(|digest| digest.eq_ignore_ascii_case(&sha256.to_string()))
        || site.read(move |r| r.was_reviewed(sha256)).await?
    {
        return Ok(());
    }
    let problem = Problem::new(
        Code::LicenseReviewRequired,
        format!("the licence text of `{}` was not reviewed yet", listed.update.title),
    );
    Err(problem.help(format!(
        "`spsync license review {}`, then accept again; or accept with `--text-digest {sha256}`",
        listed.update.id.update.short()
    )))
}

/// Accepts every pending licence of what is listed, because the configuration says so; each text is recorded.
///
/// # Errors
/// Those of the database; a text that cannot be had is a remark.
pub async fn accept_by_configuration(site: &Arc<Site>, progress: &Progress) -> Result<Vec<String>, Problem> {
    let pending: Vec<_> = updates::all(site)
        .await?
        .into_iter()
        .filter(|listed| listed.hidden.is_none() && listed.update.license == LicenseState::Pending)
        .collect();
    progress.phase("licences", pending.len() as u64, Unit::Items);
    let mut notes = Vec::new();
    let mut accepted = 0;
    for (done, listed) in pending.iter().enumerate() {
        match fetched(site, listed, &listed.update.language, true).await {
            Ok(text) => {
                let (id, language) = (listed.update.id.update, listed.update.language.clone());
                site.write(move |w| {
                    w.record_license_decision(
                        id,
                        &language,
                        Some(text.sha256),
                        true,
                        "spsync",
                        How::ByConfiguration,
                        clock::now(),
                    )
                })
                .await?;
                accepted += 1;
            }
            Err(problem) => {
                warn!("the licence of {} was not accepted: {problem}", listed.update.title);
                notes.push(format!("licence of {} not accepted: {problem}", listed.update.id.update.short()));
            }
        }
        progress.at("licences", done as u64 + 1);
    }
    if accepted > 0 {
        notes.insert(0, format!("{accepted} licences accepted by configuration ([sync] accept_licenses)"));
    }
    Ok(notes)
}
