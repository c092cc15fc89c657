//! `spsync status` and `spsync state dump`.

use std::collections::BTreeMap;

use catalog::problem::Problem;
use clap::{Args, Subcommand};
use dp::client::TakenFrom;
use dp::peers::Sharing;

use super::output::{safe, size, when};
use super::{Global, Output, connect};
use crate::admin::Request;
use crate::config::Loaded;
use crate::deploying::status::Buckets;
use crate::forgetting::Forgotten;
use crate::status::{Silent, Wanted};
use crate::words::counted;

/// Show the state of everything on one screen
#[derive(Debug, Args)]
pub struct Status {
    /// Exit with 1 unless every part is healthy and a daemon serves
    #[arg(long)]
    check: bool,
    /// Print again every two seconds until interrupted
    #[arg(long)]
    watch: bool,
}

impl Status {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        loop {
            let status =
                connect::call::<crate::status::Status>(settings, global, output, Request::Status).await?.body;
            output.one(&status, |status| status.site.clone(), |output| show(&status, output));
            if !self.watch {
                return Ok(u8::from(self.check && !is_well(&status)));
            }
            if output.is_over() {
                return Ok(0);
            }
            tokio::select! {
                () = tokio::time::sleep(std::time::Duration::from_secs(2)) => {}
                _ = tokio::signal::ctrl_c() => return Ok(0),
            }
        }
    }
}

/// Whether every part is well, and somebody is there to serve.
fn is_well(status: &crate::status::Status) -> bool {
    status.healthy && status.served.is_some()
}

fn show(status: &crate::status::Status, output: &Output) {
    let health = match (status.warnings.len(), &status.served) {
        (0, Some(_)) => "healthy".to_owned(),
        (0, None) => "no daemon runs".to_owned(),
        (n, Some(_)) => counted(n, "warning"),
        (n, None) => format!("no daemon runs, {}", counted(n, "warning")),
    };
    output.line(format!(
        " spsync {} (code {}) in {} · {health}",
        status.version,
        status.site,
        status.data_dir.display()
    ));
    let ran = |run: &schema::runs::Run| format!("{} at {}", run.id, when(run.started));
    let last = status.last_run.as_ref().map_or_else(|| "never".to_owned(), ran);
    let ok = status.last_ok.as_ref().map_or_else(|| "never".to_owned(), ran);
    // What comes next is what a daemon does next.
    let next = match (&status.served, status.next_run) {
        (None, _) => String::new(),
        (Some(_), None) => " · next manual".to_owned(),
        (Some(_), Some(next)) => format!(" · next {}", when(next)),
    };
    let c = &status.catalog;
    // A point has no catalogue, and synchronises nothing.
    if status.point.is_none() {
        output.line(format!(" SYNC     last {last} · last ok {ok}{next}"));
        output.line(format!(
            " CATALOG  {}: {} listed ({}), {} deployable, {} licence pending, {} downloaded, {} hidden",
            counted(c.total, "feature update"),
            c.listed,
            size(c.listed_bytes),
            c.deployable,
            c.license_pending,
            c.downloaded,
            c.hidden
        ));
    }
    output.line(format!(
        " CONTENT  {} in {} · {} free · {}",
        size(status.content.bytes),
        counted(status.content.blobs, "file"),
        size(status.content.free_bytes),
        counted(status.packages, "deployment package")
    ));
    if status.content.aside > 0 {
        output.line(format!(
            " CONTENT  {} set aside, {}: to go after a week, or when the room is wanted",
            counted(status.content.aside, "bad file"),
            size(status.content.aside_bytes)
        ));
    }
    output.line(format!(" DP       serves {}", counted(status.served_contents, "content")));
    output.line(match &status.served {
        Some(now) => served(now),
        None => " SERVED   nothing, and nothing happens by itself: no daemon runs (spsync serve)".to_owned(),
    });
    if status.point.is_none() {
        output.line(deployed(&status.deployed));
    }
    for (group, served) in &status.delivered {
        output.line(format!(" SERVED   to {}: {}", safe(group), list(served, &size)));
    }
    for (group, taken) in &status.taken {
        output.line(format!(" TAKEN    by {}: {}", safe(group), list(taken, &size)));
    }
    if let Some(text) = saved(&status.taken) {
        output.line(text);
    }
    if let Some(sharing) = &status.peers {
        output.line(peers(sharing));
    }
    for shown in &status.points {
        output.line(format!(
            " DP       {} {} · seen {} · {} packages, {} on the way, {} failed",
            safe(&shown.point.name),
            safe(&shown.condition),
            super::dp::seen(shown),
            shown.point.packages,
            shown.under_way,
            shown.failed
        ));
    }
    if let Some(point) = &status.point {
        let contact = point.contact.map_or_else(|| "never".to_owned(), when);
        output.line(format!(" POINT    `{}` of {} · heard of it {contact}", safe(&point.name), point.site));
        for said in &point.packages {
            output.line(format!("          {} {} {}", said.package, said.state, size(said.done)));
        }
        if let Some(all) = &point.on_demand {
            on_demand(all, output);
        }
        if let Some(all) = &point.unnamed {
            output.line(format!(
                " UNNAMED  {} contents, {}: the site names them no more and has not said that they go; the first goes {}",
                all.contents,
                size(all.bytes),
                when(all.first_goes)
            ));
        }
    }
    if let Some(text) = status.silent.as_ref().and_then(silent) {
        output.line(text);
    }
    if let Some(all) = &status.wanted {
        output.line(wanted(all));
    }
    if let Some(text) = forgotten(&status.forgotten, status.silent.as_ref()) {
        output.line(text);
    }
    for task in &status.tasks {
        output.line(format!(" TASK     {} {} since {}", task.id, task.title, when(task.created)));
    }
    status.warnings.iter().chain(&c.notes).for_each(|warning| output.line(format!(" WARN     {warning}")));
}

/// What update servers below wait for.
fn wanted(all: &Wanted) -> String {
    let named: Vec<_> = all.updates.iter().take(3).map(|title| format!("`{}`", safe(title))).collect();
    let more = if all.updates.len() > named.len() { ", …" } else { "" };
    format!(
        " WANTED   {} of {}{more} by update servers below, since {} (`{}`): spsync package add P UPDATE",
        counted(all.files, "file"),
        named.join(", "),
        when(all.since),
        safe(&all.asked_by)
    )
}

/// Devices that are silent for so long that somebody may want to know which.
fn silent(all: &Silent) -> Option<String> {
    let Silent { devices, days, .. } = all;
    let many = if *devices == 1 { "1 device was" } else { &format!("{devices} devices were") };
    (*devices > 0).then(|| {
        format!(" SILENT   {many} not heard of on {days} days or more: spsync client list --silent {days}")
    })
}

fn forgotten(all: &Forgotten, silent: Option<&Silent>) -> Option<String> {
    let last = all.last.map(|last| format!(" · last {}", when(last)));
    let devices = match silent.and_then(|silent| silent.forgotten_after) {
        Some(days) => {
            format!("{} devices not heard of on {days} days, {} more to go · ", all.devices, all.to_go)
        }
        None => String::new(),
    };
    let any = last.is_some() || all.to_go > 0;
    any.then(|| {
        let last = last.unwrap_or_default();
        format!(" FORGOT   since the start: {devices}{} old messages of devices{last}", all.messages)
    })
}

fn deployed(all: &crate::deploying::Deployed) -> String {
    let Buckets { success, in_progress, error, requirements_not_met, unknown } = &all.buckets;
    let mut counts = String::new();
    for (count, what) in [
        (success, "ok"),
        (in_progress, "in progress"),
        (error, "failed"),
        (requirements_not_met, "requirements not met"),
        (unknown, "unknown"),
    ] {
        if *count > 0 {
            counts += &format!(" · {count} {what}");
        }
    }
    match all.active {
        0 => " DEPLOY   nothing is offered now".to_owned(),
        active => format!(" DEPLOY   {active} active: {}{counts}", counted(all.devices, "device")),
    }
}

/// Devices whose names are shown; all of them are in the JSON.
const MOST_NAMED: usize = 5;

fn peers(sharing: &Sharing) -> String {
    let Sharing { devices, contents, announced, most_announced, refused, distrusted } = sharing;
    let mut share = match devices {
        0 => "no device shares what it holds".to_owned(),
        1 => format!("1 device shares {}", counted(contents, "content")),
        _ => format!("{devices} devices share {}", counted(contents, "content")),
    };
    if *refused > 0 || (*announced > 0 && announced * 10 >= most_announced * 9) {
        share += &format!(
            " · the register of peers is full or nearly so ({announced} of {most_announced}, {refused} refused): a branch with many desks should have a point"
        );
    }
    if distrusted.is_empty() {
        return format!(" PEERS    {share}");
    }
    let named = distrusted.iter().take(MOST_NAMED);
    let mut named: Vec<_> = named.map(|one| format!("{}: {}", safe(&one.device), safe(&one.fault))).collect();
    if distrusted.len() > MOST_NAMED {
        named.push("…".to_owned());
    }
    format!(" PEERS    {share} · {} distrusted ({})", distrusted.len(), named.join(", "))
}

/// What is there lasts; what came and went is counted since the daemon began.
fn on_demand(all: &crate::point::demand::OnDemand, output: &Output) {
    let room = all.room.map_or_else(String::new, |room| format!(" of {}", size(room)));
    output.line(format!(
        " PULLED   {} contents, {}{room}, for {} after their last use · {} arrive now",
        all.contents,
        size(all.bytes),
        crate::config::show_duration(std::time::Duration::from_secs(all.keep_seconds)),
        all.arriving
    ));
    output.line(format!(
        "          since the start: {} in {} pulls, {} failed, {} requests followed, {} ({}) made room",
        size(all.fetched_bytes),
        all.stored,
        all.failed,
        all.followers,
        all.evicted,
        size(all.evicted_bytes)
    ));
}

fn list(counts: &BTreeMap<String, u64>, shown: &dyn Fn(u64) -> String) -> String {
    counts.iter().map(|(name, count)| format!("{name} {}", shown(*count))).collect::<Vec<_>>().join(", ")
}

/// What clients did not fetch because it was in other content of theirs, of all that they have got.
fn saved(taken: &crate::points::delivered::Groups) -> Option<String> {
    let saved: u64 = taken.values().filter_map(|row| row.get(TakenFrom::Saved.name())).sum();
    let all: u64 = taken.values().flat_map(BTreeMap::values).sum();
    (saved > 0)
        .then(|| format!(" SAVED    {} of {}: clients had it in other content", size(saved), size(all)))
}

/// Counters start with the daemon, so the line says since when.
fn served(now: &crate::status::ServedNow) -> String {
    let bytes = if now.bytes.is_empty() { "nothing".to_owned() } else { list(&now.bytes, &size) };
    let refused = match now.refused.values().sum::<u64>() {
        0 => String::new(),
        all => format!(" · {all} not served ({})", list(&now.refused, &|count| count.to_string())),
    };
    format!(
        " SERVED   since {}: {bytes} in {} requests · {} connections, {} transfers now{refused}",
        when(now.since),
        now.requests,
        now.connections,
        now.transfers
    )
}

/// Canonical state of the site
#[derive(Debug, Subcommand)]
pub enum State {
    /// Print everything that lasts, sorted: two sites with the same text know the same
    Dump,
}

impl State {
    pub(super) async fn run(
        self,
        settings: &Loaded,
        global: &Global,
        output: &Output,
    ) -> Result<u8, Problem> {
        let dump = connect::call::<String>(settings, global, output, Request::StateDump).await?.body;
        output.line(dump.trim_end());
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use dp::peers::Distrusted;

    use super::*;

    #[test]
    fn who_shares_is_one_line() {
        let mut sharing = Sharing::default();
        assert_eq!(peers(&sharing), " PEERS    no device shares what it holds");
        (sharing.devices, sharing.contents) = (41, 97);
        (sharing.announced, sharing.most_announced, sharing.refused) = (450, 500, 3);
        assert_eq!(
            peers(&sharing),
            " PEERS    41 devices share 97 contents · the register of peers is full or nearly so (450 of 500, 3 refused): a branch with many desks should have a point"
        );
        (sharing.announced, sharing.refused) = (449, 0);
        let liar =
            |number| Distrusted { device: format!("desk-{number}"), fault: "HASH_MISMATCH".to_owned() };
        sharing.distrusted = vec![liar(2)];
        assert_eq!(
            peers(&sharing),
            " PEERS    41 devices share 97 contents · 1 distrusted (desk-2: HASH_MISMATCH)"
        );
        sharing.distrusted = (0..9).map(liar).collect();
        assert!(peers(&sharing).ends_with(" · 9 distrusted (desk-0: HASH_MISMATCH, desk-1: HASH_MISMATCH, desk-2: HASH_MISMATCH, desk-3: HASH_MISMATCH, desk-4: HASH_MISMATCH, …)"));
    }

    #[test]
    fn deployments_are_one_line() {
        let mut all = crate::deploying::Deployed::default();
        assert_eq!(deployed(&all), " DEPLOY   nothing is offered now");
        (all.active, all.devices) = (2, 1_204);
        all.buckets =
            Buckets { success: 961, in_progress: 188, error: 12, unknown: 43, ..Buckets::default() };
        assert_eq!(
            deployed(&all),
            " DEPLOY   2 active: 1204 devices · 961 ok · 188 in progress · 12 failed · 43 unknown"
        );
    }
}
