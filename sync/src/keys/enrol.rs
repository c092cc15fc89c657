//! Who is let in: tokens that an operator makes, machines that enrol with them, keys that are shown, and taken back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Problem};
use dp::server::body::ContentBody;
use dp::server::{Asker, Call};
use http::{Response, StatusCode};
use jiff::Timestamp;
use schema::keys::{NewEnrolment, NewKeys, OpenEnrolment, Principal, PrincipalKind};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::Secret;
use crate::admin::{Answer, Caller};
use crate::clock;
use crate::names::{self, Rule};
use crate::plane::answer;
use crate::points::wire::{Enrolled, Enrolment};
use crate::points::{installed, named, not_our_own};
use crate::site::Site;

/// How long a token may be used.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

/// A token that was made. It is shown once.
#[derive(Clone, Serialize, Deserialize)]
pub struct Token {
    /// Who enrols with it.
    pub kind: PrincipalKind,
    /// Its name.
    pub name: String,
    /// The token.
    pub token: String,
    /// Until when.
    pub expires: Timestamp,
}

/// Makes a token with which a point, or a device, enrols once. Earlier ones of it are void.
///
/// # Errors
/// `DP_NOT_FOUND` for a point, `NAME_*` for a device.
pub async fn enrol(
    site: &Arc<Site>,
    kind: PrincipalKind,
    name: &str,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let name = match kind {
        PrincipalKind::Point => {
            let point = named(site, name).await?;
            not_our_own(&point)?;
            point.name
        }
        PrincipalKind::Device => names::checked("a device", name, Rule::Typed)?,
    };
    let token = Secret::new()?;
    let now = clock::now();
    let expires = now.checked_add(TOKEN_LIFE).unwrap_or(now);
    if caller.dry_run {
        return Answer::of(&serde_json::json!({ "kind": kind, "name": name, "dry_run": true }));
    }
    let (who, new) =
        (caller.who.clone(), NewEnrolment { hash: token.hash(), kind, name: name.clone(), expires });
    site.write(move |w| {
        w.begin_enrolment(&new, now)?;
        w.audit(&who, "key.token", &format!("{} {}", new.kind, new.name), now)
    })
    .await?;
    Answer::of(&Token { kind, name, token: token.reveal(), expires })
}

/// Who has a key, or a token that may become one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    /// Who it is; of a token, whom it lets in, and since when it is out.
    #[serde(flatten)]
    pub principal: Principal,
    /// Until when the token is good; none where it is a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_until: Option<Timestamp>,
}

impl Listed {
    /// A token has no row among keys, nor was anybody seen with it.
    fn of_token(token: OpenEnrolment) -> Self {
        let OpenEnrolment { kind, name, created, expires } = token;
        let (hash, content_hash, instance) = (Sha256Digest([0; 32]), None, None);
        let (last_seen, revoked) = (None, None);
        let principal =
            Principal { id: 0, kind, name, hash, content_hash, instance, created, last_seen, revoked };
        Self { principal, token_until: Some(expires) }
    }
}

/// Everybody who has a key, then every token that is out.
///
/// # Errors
/// Those of the database.
pub async fn keys(site: &Arc<Site>) -> Result<Answer, Problem> {
    let now = clock::now();
    let (mut all, devices, tokens) =
        site.read(move |r| Ok((r.principals()?, r.devices()?, r.open_enrolments(now)?))).await?;
    // Devices are seen when they ask for their policy.
    let asked: HashMap<String, _> =
        devices.into_iter().map(|device| (device.name.to_ascii_lowercase(), device.policy_at)).collect();
    for one in all.iter_mut().filter(|one| one.kind == PrincipalKind::Device) {
        one.last_seen = one.last_seen.max(asked.get(&one.name.to_ascii_lowercase()).copied().flatten());
    }
    let keys = all.into_iter().map(|principal| Listed { principal, token_until: None });
    Answer::of(&keys.chain(tokens.into_iter().map(Listed::of_token)).collect::<Vec<_>>())
}

/// Takes a key back, and unused tokens with it.
///
/// # Errors
/// `KEY_NOT_FOUND`.
pub async fn revoke(
    site: &Arc<Site>,
    kind: PrincipalKind,
    name: &str,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let (who, wanted, dry_run) = (caller.who.clone(), name.to_owned(), caller.dry_run);
    let there = site
        .write_unless(dry_run, move |w| {
            let there = w.revoke(kind, &wanted, clock::now())?;
            if there {
                w.audit(&who, "key.revoke", &format!("{kind} {wanted}"), clock::now())?;
            }
            Ok(there)
        })
        .await?;
    if !there {
        let problem = Problem::new(Code::KeyNotFound, format!("no {kind} `{name}` has a key or a token"));
        let (other, flag) = match kind {
            PrincipalKind::Device => (PrincipalKind::Point, "add `--point`"),
            PrincipalKind::Point => (PrincipalKind::Device, "leave `--point` out"),
        };
        let known = site.read(|r| r.principals()).await?;
        let is_other = known.iter().any(|one| one.kind == other && one.name.eq_ignore_ascii_case(name));
        return Err(match is_other {
            true => problem.help(format!("`{name}` is a {other}: {flag}")),
            false => problem,
        });
    }
    if !dry_run {
        site.refresh_keys().await?;
        site.points.changed();
        if kind == PrincipalKind::Device {
            // After its key: what it says in this moment is refused already.
            site.locations.register.forget(name);
        }
        refresh_places(site, kind).await?;
    }
    Answer::of(&serde_json::json!({ "revoked": name, "kind": kind, "dry_run": dry_run }))
}

/// Clients are sent to a point that has a key now, or no longer to one that has none.
async fn refresh_places(site: &Arc<Site>, kind: PrincipalKind) -> Result<(), Problem> {
    match kind {
        PrincipalKind::Point => site.refresh_locations().await,
        PrincipalKind::Device => Ok(()),
    }
}

/// `POST /enrol`: 200, 400, 403.
///
/// # Errors
/// `TOKEN_REFUSED`, those of the database.
pub async fn enrolled(site: &Arc<Site>, call: &mut Call<'_>) -> Result<Response<ContentBody>, Problem> {
    let (asked, _room) = match answer::read::<Enrolment>(call).await {
        Ok(read) => read,
        Err(unread) => return Ok(unread.response()),
    };
    let token: Secret = asked.token.parse().map_err(|()| {
        Problem::new(Code::TokenRefused, "the enrolment token is unknown, was used, or is over")
    })?;
    let keys = NewKeys { key: asked.key_sha256, content: asked.content_key_sha256 };
    let (hash, instance) = (token.hash(), asked.instance);
    let retry = site.settings().dp.retry.clone();
    let principal = site
        .write_shared(move |w| {
            let principal = w.enrol(hash, keys, instance, clock::now())?;
            let object = format!("{} {}", principal.kind, principal.name);
            w.audit(&object, "key.enrol", &object, clock::now())?;
            if principal.kind == PrincipalKind::Point {
                installed(w, &principal, &retry, clock::now())?;
            }
            Ok(principal)
        })
        .await?;
    info!("{} `{}` is enrolled", principal.kind, principal.name);
    site.refresh_keys().await?;
    if principal.kind == PrincipalKind::Device {
        site.locations.register.forget(&principal.name); // what another machine of this name had
    }
    refresh_places(site, principal.kind).await?;
    if principal.kind == PrincipalKind::Point {
        site.points.changed();
    }
    tell_keys(site);
    let enrolled = Enrolled { kind: principal.kind, name: principal.name, site: site.code().to_string() };
    Ok(answer::json(StatusCode::OK, &enrolled))
}

/// Points hear of a new key: at once, or with those that come within a few seconds. One that is taken back is told at once.
fn tell_keys(site: &Arc<Site>) {
    let Some(wait) = site.points.another_key(Instant::now()) else { return };
    if wait.is_zero() {
        return site.points.tell_keys(Instant::now());
    }
    let site = Arc::downgrade(site);
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        if let Some(site) = site.upgrade() {
            site.points.tell_keys(Instant::now());
        }
    });
}

/// Who shows a key in `Authorization`: a point or a device of this site, whose key is in force. Wrong ones are counted, each once, and
/// none is looked at that came where others could read it ([`crate::plane::door`]).
///
/// # Errors
/// `PLAIN_HTTP_REFUSED`, `TOO_MANY_TRIES`, `KEY_REFUSED`, `KEY_REVOKED`, those of the database.
pub async fn principal_of(site: &Arc<Site>, call: &Call<'_>) -> Result<Principal, Problem> {
    principal_with(site, call.bearer(), call.asker(), clock::now()).await
}

async fn principal_with(
    site: &Arc<Site>,
    shown: Option<&str>,
    asker: Asker,
    now: Timestamp,
) -> Result<Principal, Problem> {
    let door = &site.keys.door;
    door.takes(asker)?;
    let digest = shown.map(|text| Sha256Digest::of(text.as_bytes()));
    // The database is asked about good keys always, and about others as often as somebody may be wrong.
    if !digest.is_some_and(|digest| site.keys.knows(digest)) {
        door.admits(asker, now)?;
    }
    let found = find_principal(site, shown).await;
    if let Err(problem) = &found {
        door.counts_shown(asker, digest, problem, now);
    }
    found
}

async fn find_principal(site: &Arc<Site>, shown: Option<&str>) -> Result<Principal, Problem> {
    let refused = |why: &str| Problem::new(Code::KeyRefused, why.to_owned());
    let text = shown.ok_or_else(|| refused("a key is needed"))?;
    let secret: Secret = text.parse().map_err(|()| refused("this is no key"))?;
    let hash = secret.hash();
    match site.read(move |r| r.principal_by_hash(hash)).await? {
        None => Err(refused("nobody here has this key")),
        Some(principal) if principal.revoked.is_some() => {
            let message = format!("the key of {} `{}` was revoked", principal.kind, principal.name);
            Err(Problem::new(Code::KeyRevoked, message))
        }
        Some(principal) => {
            if principal.kind == PrincipalKind::Device && principal.content_hash.is_none() {
                learn_content_key(site, &principal, secret.content_hash()).await?;
            }
            Ok(principal)
        }
    }
}

/// Of a device that enrolled when there were no content keys: from now on points let it in.
async fn learn_content_key(
    site: &Arc<Site>,
    device: &Principal,
    content: Sha256Digest,
) -> Result<(), Problem> {
    let id = device.id;
    if site.write_aside(move |w| w.know_content_key(id, content)).await? {
        site.refresh_keys().await?;
        tell_keys(site);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that was restored from an image shows its old key in a loop, and others guess: nobody beside them is shut out.
    #[tokio::test]
    async fn wrong_keys_are_counted_once_each_and_good_ones_always_pass() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = crate::config::Settings::default();
        settings.site.data_dir = folder.path().join("site");
        let site = Site::open(crate::config::Loaded::from(settings)).await.unwrap();
        let (key, token) = (Secret::new().unwrap(), Secret::new().unwrap());
        let (hash, now, expires) = (token.hash(), clock::now(), clock::now() + TOKEN_LIFE);
        let keys = NewKeys { key: key.hash(), content: Some(key.content_hash()) };
        let new = NewEnrolment { hash, kind: PrincipalKind::Device, name: "desk-7".to_owned(), expires };
        site.write(move |w| {
            w.begin_enrolment(&new, now)?;
            w.enrol(hash, keys, uuid::Uuid::nil(), now)
        })
        .await
        .unwrap();
        let asker = Asker { address: "10.0.0.1".parse().unwrap(), secure: true };
        let shown = async |key: &str| {
            let found = principal_with(&site, Some(key), asker, now).await;
            found.map(|principal| principal.name).map_err(|problem| problem.code)
        };
        // Nobody has told the memory of it yet.
        let good = key.reveal();
        assert_eq!(shown(&good).await.as_deref(), Ok("desk-7"));
        site.refresh_keys().await.unwrap();
        let restored = Secret::new().unwrap().reveal();
        for _ in 0..30 {
            assert_eq!(shown(&restored).await, Err(Code::KeyRefused), "the same mistake is one");
        }
        for number in 1..15 {
            let expected = if number < 10 { Code::KeyRefused } else { Code::TooManyTries };
            assert_eq!(shown(&format!("no key {number}")).await, Err(expected), "{number}");
            assert_eq!(shown(&good).await.as_deref(), Ok("desk-7"), "a good key is no guess");
        }
        assert_eq!(shown(&restored).await, Err(Code::TooManyTries));
        let plain = Asker { secure: false, ..asker };
        let refused = principal_with(&site, Some(&good), plain, now).await.unwrap_err();
        assert_eq!(refused.code, Code::PlainHttpRefused);
    }
}
