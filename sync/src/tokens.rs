//! Tokens of the admin API: made on the site's machine or with one that may, shown once, good for a time, taken back.

use std::sync::Arc;
use std::time::Duration;

use catalog::problem::{Code, Problem};
use jiff::{SignedDuration, Timestamp};
use schema::tokens::{AdminToken, Role};
use serde::{Deserialize, Serialize};

use crate::admin::{Answer, Caller};
use crate::clock;
use crate::keys::Secret;
use crate::names::{self, Rule};
use crate::site::Site;

/// None is good for longer.
const LONGEST: Duration = Duration::from_secs(3_660 * 86_400);

/// What is asked about tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum TokenVerb {
    /// Makes one.
    Create {
        /// Its name, which the audit records.
        name: String,
        /// What its holder may do.
        role: Role,
        /// Seconds for which it is good.
        ttl_seconds: u64,
    },
    /// All that were made.
    List,
    /// Takes one back.
    Revoke {
        /// Its name.
        name: String,
    },
}

/// A token that was made.
#[derive(Debug, Serialize, Deserialize)]
pub struct Made {
    /// Its name.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// Until when it is good.
    pub expires: Timestamp,
    /// The token, this once; none where nothing was made.
    pub token: Option<String>,
}

/// Carries a verb out.
///
/// # Errors
/// `NAME_*`, `INVALID_OPTION`, `KEY_NOT_FOUND`.
pub async fn carry_out(site: &Arc<Site>, verb: TokenVerb, caller: &Caller) -> Result<Answer, Problem> {
    match verb {
        TokenVerb::List => Answer::of(&site.read(|r| r.admin_tokens()).await?),
        TokenVerb::Create { name, role, ttl_seconds } => create(site, &name, role, ttl_seconds, caller).await,
        TokenVerb::Revoke { name } => {
            let (who, now, asked) = (caller.who.clone(), clock::now(), name.clone());
            let found = site.write_unless(caller.dry_run, move |w| {
                let found = w.revoke_admin_token(&asked, now)?;
                if found {
                    w.audit(&who, "token.revoke", &asked, now)?;
                }
                Ok(found)
            });
            if !found.await? {
                let message = format!("no token named `{name}` is in force");
                return Err(
                    Problem::new(Code::KeyNotFound, message).help("`spsync token list` has the names")
                );
            }
            Answer::of(&serde_json::json!({ "name": name, "revoked": true, "dry_run": caller.dry_run }))
        }
    }
}

async fn create(
    site: &Arc<Site>,
    name: &str,
    role: Role,
    ttl_seconds: u64,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let name = names::checked("a token", name, Rule::Typed)?;
    if !(1..=LONGEST.as_secs()).contains(&ttl_seconds) {
        return Err(Problem::new(
            Code::InvalidOption,
            "a token is good for some time, and at most ten years",
        ));
    }
    let (secret, now) = (Secret::new()?, clock::now());
    let life = SignedDuration::try_from(Duration::from_secs(ttl_seconds)).unwrap_or_default();
    let expires = now.checked_add(life).unwrap_or(now);
    let kept = AdminToken { name: name.clone(), role, created: now, expires, revoked: None };
    let (who, hash) = (caller.who.clone(), secret.hash());
    site.write_unless(caller.dry_run, move |w| {
        w.add_admin_token(&kept, hash)?;
        w.audit(&who, "token.create", &format!("{} {}", kept.role, kept.name), now)
    })
    .await?;
    let token = (!caller.dry_run).then(|| secret.reveal());
    Answer::of(&Made { name, role, expires, token })
}
