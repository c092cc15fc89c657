//! A task sequence carried to another site, through the admin API of that site: an export there is an import
//! (mission row M40, decision 0033).
//!
//! Nothing is taken away here. What the other site does not have and an archive does not carry — feature updates, secrets,
//! content — is named, and the steps there say that they lack it. Repeated, it changes nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::digest::Sha256Digest;
use catalog::problem::{Code, Coded as _, Problem};
use dp::transfer::web::{Exchange, Web};
use schema::sequences::SequenceRow;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use super::archive::Archive;
use super::export::{Collected, collect};
use super::request::Migrate;
use super::show::Shown;
use super::{Duplicates, Imported};
use crate::admin::{Answer, Caller};
use crate::api::BASE;
use crate::clock;
use crate::keys::Secret;
use crate::plane::call;
use crate::sequence::action::Incomplete;
use crate::sequence::{Action, Node, Sequence};
use crate::site::Site;

const DEADLINE: Duration = Duration::from_secs(60);
/// The most bytes of an answer: a document of 2 MiB as JSON, and its tree.
const LARGEST_ANSWER: u64 = 16 << 20;
/// The most bytes of an archive on its way: as base64 it has to fit into a body of the API.
const LARGEST_CARRIED: usize = 11 << 20;

/// What was carried.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Migrated {
    /// Its id here.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The other site: its address.
    pub to: String,
    /// Its code.
    pub site: String,
    /// What it made of it.
    #[serde(flatten)]
    pub there: Imported,
    /// What was not carried.
    pub left_out: Vec<String>,
}

/// How a site introduces itself.
#[derive(Debug, Deserialize)]
struct Welcome {
    spsync: String,
    api: String,
    site: String,
}

/// The way to another site.
struct Other {
    base: Url,
    web: Arc<Web>,
}

impl Other {
    fn new(wanted: &Migrate) -> Result<Self, Problem> {
        let base = call::base(&wanted.to)?;
        let token: Secret = wanted
            .token
            .reveal()
            .trim()
            .parse()
            .map_err(|()| Problem::new(Code::ApiTokenRefused, "what was given is no token of spsync"))?;
        let web =
            call::web(&base, wanted.ca_file.clone(), Some(&token)).map_err(|problem| match problem.code {
                Code::PlainHttpRefused => problem.help(
                    "use the address of `[admin] listen_tls` of the other site, which begins with https",
                ),
                _ => problem,
            })?;
        Ok(Self { web, base })
    }

    /// Asks, or tells. Whatever is not understood is another program's, or another version's.
    async fn exchange<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<Bytes>,
        once: Option<&str>,
    ) -> Result<T, Problem> {
        let url = call::join(&self.base, &format!("{}{path}", BASE.trim_start_matches('/')))?;
        let (body, deadline) = (body.as_ref(), DEADLINE);
        let exchange = Exchange { body, known: None, once, deadline, cap_bytes: LARGEST_ANSWER };
        let (reply, _) = self.web.exchange(&url, exchange).await.map_err(|fault| fault.problem())?;
        match (reply.status, serde_json::from_slice(&reply.body)) {
            (200, Ok(answer)) => Ok(answer),
            (200, Err(_)) => Err(self.lies("its answer cannot be understood")),
            (status, _) => Err(serde_json::from_slice::<Problem>(&reply.body)
                .unwrap_or_else(|_| self.lies(&format!("it answered {status}")))),
        }
    }

    fn lies(&self, why: &str) -> Problem {
        let message = format!("{} does not answer like a site of this version: {why}", self.base);
        Problem::new(Code::SiteAnswerInvalid, message)
            .help("check the address, and the version that runs there")
    }
}

/// Carries it.
///
/// # Errors
/// `TASK_SEQUENCE_NOT_FOUND`, `PLAIN_HTTP_REFUSED`, `SITE_ANSWER_INVALID`, those of the network, and whatever the other site
/// refuses, `FEATURE_NOT_IN_RELEASE` for one.
pub async fn migrate(site: &Arc<Site>, wanted: Migrate, caller: &Caller) -> Result<Answer, Problem> {
    let other = Other::new(&wanted)?;
    let mut collected = collect(site, std::slice::from_ref(&wanted.sequence), true, false).await?;
    if collected.bytes.len() > LARGEST_CARRIED {
        let message = format!("its archive has {} bytes, too many for the API", collected.bytes.len());
        return Err(Problem::new(Code::TaskSequenceTooLarge, message).help("use `spsync ts export`"));
    }
    let welcome: Welcome = other.exchange("", None, None).await?;
    if welcome.api != "v1" {
        return Err(other.lies(&format!("it is spsync {} with the API {}", welcome.spsync, welcome.api)));
    }
    let archive = Archive(std::mem::take(&mut collected.bytes));
    let mut body = json!({ "archive": archive, "duplicates": wanted.duplicates, "dry_run": caller.dry_run });
    if wanted.confirm_high_risk {
        // Said only where it is meant: older sites do not know it.
        body["confirm_high_risk"] = true.into();
    }
    let body = Bytes::from(body.to_string());
    let unsure = "the task sequence here is as it was; repeated, it is carried once";
    let key = (!caller.dry_run).then(|| once(wanted.duplicates, &body)).flatten();
    let carry = |key| other.exchange("/task-sequences/import", Some(body.clone()), key);
    let mut there: Imported =
        carry(key.as_deref()).await.map_err(|problem: Problem| problem.keeping(unsure))?;
    let (Some(row), Some(sent)) = (collected.rows.first(), collected.sequences.first()) else {
        return Err(Problem::new(Code::Internal, "nothing was carried"));
    };
    if !caller.dry_run {
        let mut looked = arrived(&other, &there, sent, wanted.duplicates).await;
        if key.is_some() && looked.as_ref().is_err_and(|lacks| lacks.code == Code::TaskSequenceNotFound) {
            // What came of it the first time was deleted there since: this is another wish for it.
            let anew = format!("migrate-{}", uuid::Uuid::new_v4());
            there = carry(Some(&anew)).await.map_err(|problem: Problem| problem.keeping(unsure))?;
            looked = arrived(&other, &there, sent, wanted.duplicates).await;
        }
        looked.map_err(|problem| problem.keeping(unsure))?;
        record(site, row, &wanted.to, caller).await?;
    }
    Answer::of(&Migrated {
        id: row.id.to_string(),
        name: row.name.clone(),
        to: wanted.to,
        site: welcome.site,
        there,
        left_out: left_out(collected),
    })
}

/// The name under which the other site takes it once. The same bytes have the same name, whoever repeats the command, and why:
/// where an answer was lost, nothing is made twice. What links to what is there, or takes its place, needs none.
fn once(duplicates: Duplicates, body: &[u8]) -> Option<String> {
    (duplicates == Duplicates::CreateNew).then(|| format!("migrate-{}", Sha256Digest::of(body)))
}

/// What the other site says that it made is looked at there.
async fn arrived(
    other: &Other,
    there: &Imported,
    sent: &Sequence,
    duplicates: Duplicates,
) -> Result<(), Problem> {
    let linked = there.linked.iter().any(|line| line.to_lowercase().ends_with(&sent.name.to_lowercase()));
    match there.sequences.as_slice() {
        [] if linked && duplicates == Duplicates::Ignore => Ok(()),
        [(id, _)] => {
            let shown: Shown = other.exchange(&format!("/task-sequences/{id}"), None, None).await?;
            let kept = Sequence::parse(&shown.document).map_err(|_| other.lies("its document is none"))?;
            match shape(&kept) == shape(sent) {
                true => Ok(()),
                false => Err(other.lies("it keeps other steps than were sent")),
            }
        }
        _ => Err(other.lies("it says neither what it made nor what it had")),
    }
}

/// A document without what differs from site to site: its name and the ids in it.
fn shape(sequence: &Sequence) -> Sequence {
    fn blank(nodes: &mut [Node]) {
        for node in nodes {
            match node {
                Node::Group(group) => blank(&mut group.nodes),
                Node::Step(step) => match &mut step.action {
                    Action::UpgradeOs(upgrade) => {
                        upgrade.image = None;
                        upgrade.incomplete = upgrade.incomplete.filter(|lacks| *lacks != Incomplete::Image);
                        upgrade.product_key = None;
                    }
                    // No secret travels; the place that waits for it is theirs.
                    Action::SetVariable(set) => set.hidden_value = None,
                    Action::InstallApplication(install) => install.applications.clear(),
                    Action::DownloadContent(download) => download.packages.clear(),
                    _ => {}
                },
            }
        }
    }
    let mut shape = sequence.clone();
    shape.name.clear();
    // Which one it is differs; that there is one does not.
    shape.boot_image = shape.boot_image.and_then(|_| "XYZ00000".parse().ok());
    blank(&mut shape.nodes);
    shape
}

fn left_out(collected: Collected) -> Vec<String> {
    let images = collected.manifest.images.into_iter().map(|image| (image.id, image.name));
    let apps = collected.manifest.apps.into_iter().filter(|app| !app.files.is_empty());
    let content = images.chain(apps.map(|app| (app.id, app.form.name)));
    let content = content.map(|(id, name)| format!("{id} {name}: its content"));
    collected.left_out.into_iter().chain(content).collect()
}

async fn record(site: &Arc<Site>, row: &SequenceRow, to: &str, caller: &Caller) -> Result<(), Problem> {
    let (who, object) = (caller.who.clone(), format!("{} to {to}", row.id));
    site.write(move |w| w.audit(&who, "ts.migrate", &object, clock::now())).await
}
