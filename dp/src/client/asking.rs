//! What a client asks its site: where a content is, and what its pieces are; and what it does where nothing comes of it.

use std::time::{Duration, Instant};

use catalog::digest::{PIECE_SIZE, Pieces, Sha256Digest};
use jiff::Timestamp;
use tracing::warn;

use super::fallback::Clock;
use super::{Cache, ClientError, FetchOptions, LARGEST_ANSWER, Reach, away, blocking};
use crate::server::{LocationsAnswer, read_hash_file};
use crate::transfer::fault::Fault;
use crate::transfer::web::Small;

/// The most bytes of a file with the hashes of pieces: enough for contents of 80 GiB.
const LARGEST_HASH_FILE: u64 = 4 << 20;
/// Pauses after which the site is asked again.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// Where a content is.
pub(super) enum Told {
    /// As the site says now.
    Now(LocationsAnswer),
    /// As it said some time ago: it does not answer now.
    Before(LocationsAnswer),
    /// Perhaps where it said that other contents are: it never spoke of this one, and why it does not now.
    Guessed(LocationsAnswer, ClientError),
}

/// Where `content` is, as the site says or, where it is silent, as it said last. What it says now is kept, and what it
/// does not offer any more is forgotten.
///
/// # Errors
/// [`ClientError`], where the site refused, or is silent and had said nothing.
pub(super) async fn ask_or_recall(
    site: &Reach<'_>,
    clock: &impl Clock,
    cache: &Cache,
    content: Sha256Digest,
    options: &FetchOptions,
) -> Result<Told, ClientError> {
    let (answers, name) = (cache.answers(), site.shown());
    let recalling = answers.clone();
    let recalled = blocking(move || Ok(recalling.find(&name, content, Timestamp::now()))).await?;
    let before = |why: &str| {
        let (answer, age) = recalled.clone()?;
        let minutes = age.as_secs() / 60;
        warn!("the site {} {why}; {content} is sought where it said {minutes} min ago", site.shown());
        Some(Told::Before(answer))
    };
    let known = away::of(&site.settings.dir);
    let away = known.is_away(&site.base, Instant::now());
    if away && let Some(told) = before("could not be reached a moment ago") {
        return Ok(told);
    }
    let elsewhere = recalled.is_some() || (away && options.expected.is_some());
    let enough = |fault: &Fault| elsewhere && is_silence(fault);
    let asked = ask_until(site, clock, content, enough).await;
    let silence = match &asked {
        Err(ClientError::Site { source, .. }) if is_silence(source) => Some(source),
        _ => None,
    };
    let (is_silent, unreachable) = (silence.is_some(), matches!(silence, Some(Fault::Unreachable(_))));
    known.saw(&site.base, unreachable.then_some(Duration::ZERO), Instant::now());
    if let Some(fault) = silence
        && let Some(told) = before(&fault.to_string())
    {
        return Ok(told);
    }
    match asked {
        Ok(answer) => {
            keep(site, cache, &answer).await;
            Ok(Told::Now(answer))
        }
        Err(error @ ClientError::NotOffered { .. }) => {
            answers.forget(content);
            Err(error)
        }
        Err(error) if is_silent => {
            let Some(expected) = options.expected.clone() else { return Err(error) };
            let (shown, allowed) = (site.shown(), options.allowed);
            let guessing = move || Ok(answers.guess(&shown, content, &expected, allowed, Timestamp::now()));
            match blocking(guessing).await? {
                Some(answer) => {
                    warn!("{error}; {content} is sought at the points that it named for other contents");
                    Ok(Told::Guessed(answer, error))
                }
                None => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// It is for another day: what cannot be kept is no reason not to fetch now.
async fn keep(site: &Reach<'_>, cache: &Cache, answer: &LocationsAnswer) {
    let (answers, name, keeping) = (cache.answers(), site.shown(), answer.clone());
    if let Err(error) = blocking(move || answers.keep(&name, &keeping, Timestamp::now())).await {
        warn!("what the site said of {} cannot be kept: {error}", answer.content);
    }
}

/// Where `content` is, as the site says now, if it says anything at once.
pub(super) async fn ask_once(
    site: &Reach<'_>,
    clock: &impl Clock,
    cache: &Cache,
    content: Sha256Digest,
) -> Option<LocationsAnswer> {
    let answer = ask_until(site, clock, content, |_| true).await.ok()?;
    keep(site, cache, &answer).await;
    Some(answer)
}

/// Whether the site said nothing about what it was asked: it was not there, or in trouble. What has a status of 4xx is an answer.
fn is_silence(fault: &Fault) -> bool {
    match fault {
        Fault::Busy { status, .. } => *status >= 500,
        other => other.is_transient(),
    }
}

/// Asks the site where `content` is; a few times, where that may help.
///
/// # Errors
/// [`ClientError`].
pub(super) async fn ask(
    site: &Reach<'_>,
    clock: &impl Clock,
    content: Sha256Digest,
) -> Result<LocationsAnswer, ClientError> {
    ask_until(site, clock, content, |_| false).await
}

/// The same, unless a fault is `enough`.
async fn ask_until(
    site: &Reach<'_>,
    clock: &impl Clock,
    content: Sha256Digest,
    enough: impl Fn(&Fault) -> bool,
) -> Result<LocationsAnswer, ClientError> {
    let named = || site.shown();
    let invalid = |what: String| ClientError::Answer { site: named(), what };
    let url = site.join(&format!("locations/{content}")).map_err(invalid)?;
    let web = site.site()?;
    let mut pauses = PAUSES.iter();
    let bytes = loop {
        match web.get_small(&url, LARGEST_ANSWER, None).await {
            Ok(Small::Body { bytes, .. }) => break bytes,
            Ok(Small::NotModified) => return Err(invalid("304 to an unconditional question".to_owned())),
            Err(Fault::NotFound(_)) => {
                if site.keeps_key_back() {
                    warn!("the key of this device is not shown to {} over plain HTTP", named());
                }
                return Err(ClientError::NotOffered { site: named(), content });
            }
            Err(source) => match pauses.next().filter(|_| source.is_transient() && !enough(&source)) {
                Some(pause) => {
                    warn!("the site {} did not answer ({source}); asking again", named());
                    clock.sleep(*pause).await;
                }
                None => return Err(ClientError::Site { site: named(), source }),
            },
        }
    };
    let answer: LocationsAnswer =
        serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
    if answer.content != content {
        return Err(invalid(format!("expected content {content}, it is about {}", answer.content)));
    }
    Ok(answer)
}

/// What the site says that the pieces are: with that a source that lies costs one piece instead of the file. Where the site
/// does not hold the content it does not know, and the digest of the whole decides alone.
pub(super) async fn pieces(
    site: &Reach<'_>,
    cache: &Cache,
    content: Sha256Digest,
    size: u64,
) -> Option<Pieces> {
    if size <= PIECE_SIZE as u64 {
        return None; // its one piece is the whole
    }
    let url = site.join(&format!("content/{content}/pieceshash")).ok()?;
    let Ok(Small::Body { bytes, .. }) = site.site().ok()?.get_small(&url, LARGEST_HASH_FILE, None).await
    else {
        return None;
    };
    let pieces = read_hash_file(&bytes, size)?;
    let (answers, name) = (cache.answers(), site.shown());
    if let Err(error) = blocking(move || answers.keep_pieces(&name, content, &bytes)).await {
        warn!("what the site said of the pieces of {content} cannot be kept: {error}");
    }
    Some(pieces)
}

/// The same, as the site said it together with its last answer.
///
/// # Errors
/// [`ClientError::Stopped`].
pub(super) async fn recalled_pieces(
    site: &Reach<'_>,
    cache: &Cache,
    content: Sha256Digest,
    size: u64,
) -> Result<Option<Pieces>, ClientError> {
    let (answers, name) = (cache.answers(), site.shown());
    let kept = blocking(move || Ok(answers.find_pieces(&name, content, Timestamp::now()))).await?;
    Ok(kept.and_then(|kept| read_hash_file(&kept, size)))
}
