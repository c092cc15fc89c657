//! One screen about everything: what `spsync status` shows.

mod certificate;
mod warnings;

#[cfg(test)]
pub(crate) use certificate::good_until;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use catalog::problem::Problem;
use dp::client::TakenFrom;
use dp::peers::Sharing;
use dp::server::tally::Tally;
use dp::server::{Refusal, Served, Source};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::blocking::blocking;
use crate::forgetting::{Forgotten, SILENT_DAYS};
use crate::point::PointStatus;
use crate::points::delivered::{self, Groups};
use crate::points::{self, ShownPoint};
use crate::site::Site;
use crate::words::counted;
use crate::{clock, point, run};

/// What `spsync status` shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program that answered.
    pub version: String,
    /// Site code.
    pub site: String,
    /// Where the data is.
    pub data_dir: PathBuf,
    /// Since when this process has the site open.
    pub since: Timestamp,
    /// Whether every part is well.
    pub healthy: bool,
    /// What is not well, in words.
    pub warnings: Vec<String>,
    /// The last run, if there was one.
    pub last_run: Option<schema::runs::Run>,
    /// The last run that ended well.
    pub last_ok: Option<schema::runs::Run>,
    /// When the next one is due.
    pub next_run: Option<Timestamp>,
    /// Feature updates in the catalog, and how many of them can be deployed, wait for a licence decision, are
    /// outside the selection, declined, or encrypted.
    pub catalog: crate::updates::Counts,
    /// What the content library holds.
    pub content: Content,
    /// Deployment packages.
    pub packages: usize,
    /// Contents that the distribution point serves.
    pub served_contents: usize,
    /// What was served; `None` where nothing serves, because no daemon runs.
    #[serde(default)]
    pub served: Option<ServedNow>,
    /// Bytes by boundary group of the client and by who served: of this point and of all others, as far as they have said so
    /// since this process started.
    #[serde(default)]
    pub delivered: Groups,
    /// Bytes that clients say they took, by their boundary group and by kind of source, since this process started.
    #[serde(default)]
    pub taken: Groups,
    /// Clients that share what they hold; `None` where no daemon of a site hears of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Sharing>,
    /// Distribution points on other machines.
    #[serde(default)]
    pub points: Vec<ShownPoint>,
    /// This machine as a distribution point of another site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<PointStatus>,
    /// Deployments that are offered or due, together.
    #[serde(default)]
    pub deployed: crate::deploying::Deployed,
    /// What this process forgot: devices of which nothing was heard, old messages.
    #[serde(default)]
    pub forgotten: Forgotten,
    /// Devices of which nothing was heard for long; `None` on a distribution point, of which no device asks anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<Silent>,
    /// Files of feature updates that update servers below wait for; `None` where they wait for nothing. What else they ask for is
    /// no content of deployment packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Wanted>,
    /// What works now.
    pub tasks: Vec<schema::tasks::Task>,
}

/// Files that update servers below have asked for, and that no deployment package has brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// How many.
    pub files: usize,
    /// Titles of the feature updates that they belong to.
    pub updates: Vec<String>,
    /// Who asked last for the one that is waited for longest. Nothing proves that it is who it says.
    pub asked_by: String,
    /// Since when that one is waited for.
    pub since: Timestamp,
}

impl Wanted {
    async fn of(site: &Arc<Site>) -> Result<Option<Self>, Problem> {
        let mut all = site.read(|r| r.wanted_files()).await?;
        all.retain(|file| file.update.is_some());
        let updates: BTreeSet<String> = all.iter().filter_map(|file| file.update.clone()).collect();
        Ok(all.first().map(|longest| Self {
            files: all.len(),
            updates: updates.into_iter().collect(),
            asked_by: longest.asked_by.clone(),
            since: longest.first_at,
        }))
    }
}

/// Devices that are silent, as `spsync client list --silent` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silent {
    /// How many were not heard of on so many days, one after the other, on which the site listened.
    pub devices: u64,
    /// So many days: half of `[clients] forget_after`, so that somebody can look before they go; without that, the least that it
    /// could be.
    pub days: u32,
    /// After so many days they are forgotten; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgotten_after: Option<u32>,
}

impl Silent {
    async fn of(site: &Arc<Site>) -> Result<Self, Problem> {
        let forgotten_after = site.settings().clients.forget_after_days();
        let days = forgotten_after.map_or(SILENT_DAYS, |days| days / 2);
        let (names, _) = site.read(move |r| r.silent_devices(days, u32::MAX)).await?;
        // Who is back since the last roll call is not silent, also where nobody has written down yet that it is.
        let devices = names.iter().filter(|name| !site.keys.is_heard(name)).count() as u64;
        Ok(Self { devices, days, forgotten_after })
    }
}

/// What was served since this daemon began to. Nothing of it lasts longer than the process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServedNow {
    /// When it began.
    pub since: Timestamp,
    /// Requests answered.
    pub requests: u64,
    /// Bytes by who served them; those that served nothing are left out.
    pub bytes: BTreeMap<String, u64>,
    /// The same by the boundary group of the client's address.
    #[serde(default)]
    pub groups: Groups,
    /// What was not served, by reason; see `spsync explain` for their codes in the access log.
    pub refused: BTreeMap<String, u64>,
    /// Connections now.
    pub connections: u64,
    /// Bodies above 64 KiB on their way now.
    pub transfers: u64,
}

impl ServedNow {
    fn of(served: &Served, since: Timestamp) -> Self {
        let some = |(_, count): &(String, u64)| *count > 0;
        let sources = Source::ALL.iter().map(|source| (source.name().to_owned(), served.bytes_as(*source)));
        let reasons = Refusal::ALL.iter().map(|reason| (reason.name().to_owned(), served.refused(*reason)));
        Self {
            since,
            requests: served.requests.load(Ordering::Relaxed),
            bytes: sources.filter(some).collect(),
            groups: groups_of(&served.groups, &Source::ALL.map(Source::name)),
            refused: reasons.filter(some).collect(),
            connections: served.connections.load(Ordering::Relaxed),
            transfers: served.transfers.load(Ordering::Relaxed),
        }
    }
}

/// The numbers of each group that are more than nothing, by these names of their kinds.
fn groups_of<const N: usize>(tally: &Tally<N>, names: &[&str; N]) -> Groups {
    let rows = tally.rows().into_iter().map(|row| {
        let kinds = names.iter().enumerate().map(|(kind, name)| ((*name).to_owned(), row.of(kind)));
        (row.group().to_owned(), kinds.filter(|(_, count)| *count > 0).collect::<BTreeMap<_, _>>())
    });
    rows.filter(|(_, kinds)| !kinds.is_empty()).collect()
}

/// What the content library holds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Content {
    /// Files.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes free on that file system.
    pub free_bytes: u64,
    /// Bad files that were set aside: they go after a week, or when their room is wanted.
    #[serde(default)]
    pub aside: u64,
    /// Their bytes.
    #[serde(default)]
    pub aside_bytes: u64,
}

/// One screen about everything.
///
/// # Errors
/// Those of the database and the content library.
pub async fn of(site: &Arc<Site>) -> Result<Status, Problem> {
    let settings = site.settings();
    let (last_run, last_ok, last_synchronised) =
        site.read(|r| Ok((r.runs(1)?.pop(), r.last_ok_run()?, r.last_synchronised_run()?))).await?;
    let catalog = crate::updates::counts(site).await?;
    let packages = site.read(|r| r.packages()).await?.len();
    let library = site.library.clone();
    let (usage, aside) = blocking(move || Ok((library.usage()?, library.aside()?))).await?;
    let mut warnings = Vec::new();
    let is_site = settings.dp.is_site();
    let mut points = points::all(site).await?;
    points.retain(|shown| shown.point.id != schema::points::OWN_POINT);
    warnings.extend(points::warnings(&points));
    let mut point = (!is_site).then(|| site.point.status(&settings.dp.site));
    if let Some(point) = &mut point {
        point.on_demand = point::demand::status(site).await?;
        point.unnamed = point::unnamed::status(site).await?;
    }
    if let Some(problem) = point.as_ref().and_then(|point| point.problem.as_ref()) {
        warnings.push(format!("the site {} cannot be asked: {problem}", settings.dp.site));
    }
    match &last_run {
        None if !is_site => {}
        None => warnings.push("never synchronised: `spsync now`".to_owned()),
        Some(run) if run.problem.is_some() => {
            warnings.push(format!("run {} failed: `spsync sync show {}`", run.id, run.id));
        }
        Some(_) => {}
    }
    if is_site
        && run::can_ask(&settings)
        && let Some(run) = &last_synchronised
    {
        warnings.extend(warnings::overdue(&settings, run.finished.unwrap_or(run.started), clock::now()));
    }
    warnings.extend(warnings::disks(site).await?);
    if let Some(problem) = site.not_reloaded.load().as_deref() {
        warnings.push(format!("the configuration on disk is not the one in force: {problem}"));
    }
    if let Some((files, at)) = site.unrecorded.load().as_deref() {
        warnings.push(format!(
            "{} of the content library are recorded nowhere, and go at {at}: copy what is missed out of `{}` before that",
            counted(*files, "file"),
            settings.content_dir().display()
        ));
    }
    if usage.free < settings.download.min_free {
        warnings.push("the content library has reached [download] min_free".to_owned());
    }
    let alarms = site.read(|r| r.sha1_alarms()).await?;
    if !alarms.is_empty() {
        warnings.push(format!(
            "{} SHA-1 stand for two different contents each: `spsync content list`",
            alarms.len()
        ));
    }
    let deployed = crate::deploying::deployed(site).await?;
    warnings.extend(warnings::content(site).await?);
    warnings.extend(warnings::deployments(site, &deployed).await?);
    warnings.extend(warnings::certificates(&settings, clock::now()));
    warnings.extend(warnings::address(&settings));
    let wanted = if is_site { Wanted::of(site).await? } else { None };
    let silent = if is_site { Some(Silent::of(site).await?) } else { None };
    let mut all = groups_of(&site.served.groups, &Source::ALL.map(Source::name));
    points.iter().for_each(|shown| delivered::add(&mut all, &shown.served));
    Ok(Status {
        delivered: all,
        peers: site.serving_since.get().filter(|_| is_site).map(|_| site.locations.sharing()),
        taken: groups_of(&site.locations.taken, &TakenFrom::ALL.map(|kind| kind.name())),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        site: site.code().to_string(),
        data_dir: settings.site.data_dir.clone(),
        since: site.started,
        healthy: warnings.is_empty(),
        warnings,
        last_run,
        last_ok,
        next_run: crate::daemon::next_run(&settings, clock::now()),
        catalog,
        content: Content {
            blobs: usage.blobs,
            bytes: usage.bytes,
            free_bytes: usage.free,
            aside: aside.files,
            aside_bytes: aside.bytes,
        },
        packages,
        served_contents: site.shelf.load().contents.len(),
        served: site.serving_since.get().map(|since| ServedNow::of(&site.served, *since)),
        points,
        point,
        deployed,
        forgotten: site.forgetting.so_far(),
        silent,
        wanted,
        tasks: site.tasks.running(),
    })
}
