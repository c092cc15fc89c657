//! What a point says, taken down.
//!
//! What it lacks of what it was believed to have, clients are not sent there for any more; and it is asked once more to fetch
//! that, where it has found it by itself. How its packages are it need not say again while that has the same name.

use std::net::IpAddr;
use std::sync::Arc;

use catalog::problem::Problem;
use schema::distribution::ShelfRow;
use schema::keys::Principal;
use schema::points::{ContentState, Placement, PointRow};
use schema::{SchemaError, Writer};
use tracing::{info, warn};

use super::assign::Form;
use super::wire::{LONGEST_STATE, MOST_LACKING, Report};
use super::{assign, job};
use crate::clock;
use crate::site::Site;

/// Takes a report down: that the point lives and where, how each package is doing, and that what it no longer has is gone. The state that
/// the report names, if the point need not say its packages again while they are in it. A report that was overtaken by a later one of its
/// process says nothing: that one has all that it had.
///
/// # Errors
/// `POINT_IDENTITY_TAKEN` where another installation, or an earlier process of this one, speaks; those of the database.
pub async fn take(
    site: &Arc<Site>,
    principal: &Principal,
    row: &PointRow,
    from: IpAddr,
    report: Report,
) -> Result<Option<String>, Problem> {
    let (now, point) = (clock::now(), row.id);
    if principal.instance.is_some_and(|instance| instance != report.instance) {
        let problem = super::another_installation(principal);
        warn!("a report is refused: {}", problem.message);
        return Err(problem);
    }
    super::heard(site, point, report.boot, now).await?;
    let (boot, number) = (report.boot, report.number);
    if !site.points.comes(point, boot, number) {
        return Ok(None);
    }
    site.points.served(point, boot, &report.served);
    let write_seen = site.points.is_to_be_written(point, now);
    let state = report.state.filter(|state| state.len() <= LONGEST_STATE);
    let says_all = report.packages.is_some();
    // What changed since something else than what is known says nothing.
    let changed = report.changed.filter(|changed| site.points.has_said(point, boot, &changed.since));
    let is_short = !says_all && changed.is_none();
    let packages = report.packages.or_else(|| changed.map(|changed| changed.packages)).unwrap_or_default();
    let placements = match is_short {
        true => Vec::new(),
        false => site.read(move |r| r.placements_on(point)).await?,
    };
    // Last of all: what could not be written down is to be said again, and so is what had no effect yet.
    let answer = |has_effect: bool| match is_short {
        true => state.filter(|state| site.points.has_said(point, boot, state)),
        false => {
            let state = state.filter(|_| has_effect);
            site.points.acknowledge(point, boot, number, state.clone());
            state.filter(|_| site.points.is_latest(point, boot, number))
        }
    };
    let retry = site.settings().dp.retry.clone();
    let (mut changed, mut lacks) = (Vec::new(), Vec::new());
    for said in &packages {
        let Some(placed) = placements.iter().find(|placed| placed.package == said.package) else { continue };
        if said.order == placed.order {
            lacks.extend(said.lacks.iter().take(MOST_LACKING).copied());
        }
        // A point's word changes nothing of another order; an operator's refusals do not come from here.
        let mut said = said.clone();
        said.problem = said.problem.map(plain);
        if let Ok(Some(next)) = job::on(placed, job::Event::Said(said), placed.order, &retry, now) {
            changed.push((placed.state, next));
        }
    }
    if !lacks.is_empty() {
        lacks = site.read(move |r| r.held_of(point, &lacks)).await?;
    }
    let (mut gone, mut has_effect) = (Vec::new(), true);
    if placements.iter().any(|placed| placed.state == ContentState::Removing) {
        // Only who says all says by that of what there is nothing any more.
        let is_current = match &report.assignment {
            Some(named) if says_all => is_that_of_now(site, point, named).await?,
            _ => false,
        };
        let absent = |package| packages.iter().all(|said| said.package != package);
        has_effect = is_current;
        if is_current {
            let removing = placements.iter().filter(|placed| placed.state == ContentState::Removing);
            gone = removing.map(|placed| placed.package.clone()).filter(|p| absent(p.clone())).collect();
        }
    }
    let (on_demand, from) = (report.on_demand, from.to_canonical());
    let said = row.on_demand;
    let elsewhere = row.address.as_ref() != Some(&from.to_string());
    let quiet = changed.is_empty() && lacks.is_empty() && gone.is_empty();
    if !write_seen && quiet && said == on_demand && !elsewhere {
        return Ok(answer(has_effect));
    }
    for (before, next) in changed.iter().filter(|(before, next)| *before != next.state) {
        match &next.problem {
            Some(problem) => {
                warn!("package {} on {}: {before} → {}: {problem}", next.package, next.point, next.state)
            }
            None => info!("package {} on {}: {before} → {}", next.package, next.point, next.state),
        }
    }
    // What a point has is all that clients are told of its packages: how far one is on its way moves nobody.
    let comes = |(before, next): &(ContentState, Placement)| {
        *before != next.state && next.state == ContentState::Success
    };
    let moved =
        elsewhere || said != on_demand || !(gone.is_empty() && lacks.is_empty()) || changed.iter().any(comes);
    let (id, free, program) = (principal.id, report.free, report.program);
    let program: String = program.chars().filter(|c| !c.is_control()).take(40).collect();
    let live = site.clone();
    let anew = site
        .write_aside(move |w| {
            // Whoever writes comes one after the other: what a later report has said is not undone from here on.
            if !live.points.is_latest(point, boot, number) {
                return Ok(Anew { without_effect: true, ..Anew::default() });
            }
            w.principal_seen(id, now)?;
            w.point_seen(point, Some(free), Some(&program), now)?;
            w.point_on_demand(point, on_demand)?;
            if elsewhere {
                w.point_speaks_from(point, from)?;
            }
            let mut anew = Anew::default();
            for (before, next) in &changed {
                // Decided on what was read before: an operator's change in between has another order, or another state.
                if w.placement(&next.package, point)?.is_some_and(|placed| {
                    placed.order == next.order
                        && !matches!(placed.state, ContentState::Removing | ContentState::Cancelled)
                }) {
                    // With the present version what only earlier ones had goes.
                    let goes = match next.state {
                        ContentState::Success => w.leaving_files(&next.package, point)?,
                        _ => Vec::new(),
                    };
                    w.put_placement(next)?;
                    anew.here |= !goes.is_empty();
                    anew.everywhere |= have_turned(w, &goes)?;
                    // What `validate` finds is told, and not mended: that was the question.
                    if next.state == ContentState::Warning
                        && !matches!(before, ContentState::Warning | ContentState::Validating)
                        && let Ok(Some(mended)) =
                            job::on(next, job::Event::Mend, w.next_order()?, &retry, now)
                    {
                        w.put_placement(&mended)?;
                        anew.here = true;
                    }
                } else {
                    anew.without_effect = true;
                }
            }
            for content in lacks {
                w.point_lacks(point, content)?;
            }
            for package in &gone {
                if w.placement(package, point)?.is_some_and(|placed| placed.state == ContentState::Removing) {
                    let goes = w.placed_files(package, point)?;
                    w.withdraw(package, point)?;
                    anew.everywhere |= have_turned(w, &goes)?;
                }
            }
            Ok(anew)
        })
        .await?;
    match anew {
        Anew { everywhere: true, .. } => {
            // The site's own answers too: it tells nobody without a key where private content is.
            site.refresh_shelf().await?;
            site.points.changed();
        }
        Anew { here: true, .. } => site.points.changed_at([point]),
        Anew { .. } => {}
    }
    if moved {
        // Clients are sent there from now on, or no longer. The point need not wait for that.
        site.refresh_locations_soon();
    }
    Ok(answer(has_effect && !anew.without_effect))
}

/// Whose assignment is another one.
#[derive(Debug, Default, Clone, Copy)]
struct Anew {
    /// That of the point that speaks.
    here: bool,
    /// That of any point: with the last public copy of a content it is private wherever else it is.
    everywhere: bool,
    /// Somebody else was faster.
    without_effect: bool,
}

/// The most characters of one text of a problem, and the most causes.
const LONGEST: usize = 1_000;
const MOST_CAUSES: usize = 16;

/// A problem in a point's own words, as they may go into the log and the database: on one line each, of a length that can be read, and
/// without what steers a terminal or turns a line round.
fn plain(problem: Problem) -> Problem {
    let is_plain =
        |c: &char| !matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let line = |text: String| -> String {
        let text = text.chars().take(LONGEST).map(|c| if c.is_whitespace() { ' ' } else { c });
        text.filter(|c| !c.is_control() && is_plain(c)).collect()
    };
    Problem {
        code: problem.code,
        message: line(problem.message),
        causes: problem.causes.into_iter().take(MOST_CAUSES).map(line).collect(),
        state: problem.state.map(line),
        help: line(problem.help),
    }
}

/// Whether an assignment of this tag is the one of now, in whichever form the point asks for it.
async fn is_that_of_now(site: &Arc<Site>, point: i64, named: &str) -> Result<bool, Problem> {
    for form in [Form::KeysApart, Form::KeysWithin] {
        if assign::make(site, point, form).await?.etag == named {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether one of these is private now, or public, and was not when it was read.
fn have_turned(w: &Writer<'_>, rows: &[ShelfRow]) -> Result<bool, SchemaError> {
    for row in rows {
        if w.is_private(row.sha256)? != row.private {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
#[path = "tests/last_copy.rs"]
mod last_copy;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use catalog::digest::{Sha1Digest, Sha256Digest};
    use catalog::problem::Code;
    use jiff::Timestamp;
    use schema::keys::PrincipalKind;
    use schema::points::PointRole;
    use schema::software::{AppFile, AppRow};
    use uuid::Uuid;

    use super::*;
    use crate::points::wire::{Changed, Said};
    use crate::site::small;

    /// A site that has sent an application to a point, and what that says when it has it.
    async fn site() -> (tempfile::TempDir, Arc<Site>, Principal, PointRow, Report) {
        let (folder, site) = small(|_| {}).await;
        let now = Timestamp::UNIX_EPOCH;
        let setting_up = site.write(move |w| {
            let content = Sha256Digest([7; 32]);
            w.record_content(content, Sha1Digest([7; 20]), 9, false, now)?;
            let (id, number) = w.next_id(&"XYZ".parse().expect("a code"))?;
            let file = AppFile { file_name: "setup.exe".parse().expect("a name"), content, size: 9 };
            let (form, name) = (serde_json::Value::Null, "Portal".to_owned());
            let app = AppRow { id: id.clone(), name, form, retired: false, created: now, files: vec![file] };
            w.create_app(number, &app)?;
            w.software_package(&id, "app", "Portal", now)?;
            let lyon = w.add_point("lyon", "http://lyon", PointRole::Standard)?;
            w.distribute(&id, lyon, now)?;
            let placed = w.placement(&id, lyon)?.expect("it is there");
            w.put_placement(&Placement { state: ContentState::Queued, order: 7, ..placed })?;
            Ok((w.point_named("lyon")?.expect("it is there"), id))
        });
        let (row, package) = setting_up.await.expect("it is written");
        let principal = Principal {
            id: 1,
            kind: PrincipalKind::Point,
            name: "lyon".to_owned(),
            hash: Sha256Digest([1; 32]),
            content_hash: None,
            instance: None,
            created: now,
            last_seen: None,
            revoked: None,
        };
        let (order, state, done) = (7, ContentState::Success, 9);
        let said = Said { package, order, state, done, problem: None, lacks: Vec::new() };
        let report = Report {
            instance: Uuid::nil(),
            boot: Uuid::from_u128(1),
            assignment: None,
            program: "0.1.0".to_owned(),
            free: 1,
            on_demand: false,
            packages: Some(vec![said]),
            changed: None,
            number: None,
            state: Some("all is well".to_owned()),
            served: Vec::new(),
        };
        (folder, site, principal, row, report)
    }

    async fn tried(
        site: &Arc<Site>,
        principal: &Principal,
        row: &PointRow,
        report: &Report,
    ) -> Result<Option<String>, Code> {
        let from = Ipv4Addr::LOCALHOST.into();
        take(site, principal, row, from, report.clone()).await.map_err(|problem| problem.code)
    }

    #[tokio::test]
    async fn what_was_taken_down_need_not_be_said_again_until_somebody_forgets_it() {
        let (_folder, site, principal, row, full) = site().await;
        let take = async |report: &Report| tried(&site, &principal, &row, report).await.expect("it is taken");
        let state = async || {
            let placed = site.read(|r| r.placements_on(2)).await.expect("it is read");
            placed[0].state
        };
        let all_is_well = Some("all is well".to_owned());
        let short = Report { packages: None, ..full.clone() };
        assert_eq!(take(&short).await, None, "nothing was ever said");
        assert_eq!(state().await, ContentState::Queued);
        assert_eq!(take(&full).await, all_is_well);
        assert_eq!(state().await, ContentState::Success);
        assert_eq!(take(&short).await, all_is_well);
        assert_eq!(take(&Report { state: Some("another".to_owned()), ..short.clone() }).await, None);
        assert_eq!(take(&Report { state: None, ..full.clone() }).await, None, "a point of before");
        assert_eq!(take(&short).await, None, "which may have said something else");
        assert_eq!(take(&full).await, all_is_well);
        let long = Some("x".repeat(LONGEST_STATE + 1));
        assert_eq!(take(&Report { state: long, ..full.clone() }).await, None);
        assert_eq!(take(&full).await, all_is_well);
        let started_again = Report { boot: Uuid::from_u128(2), ..short.clone() };
        assert_eq!(take(&started_again).await, None, "another process");
        let late = tried(&site, &principal, &row, &full).await;
        assert_eq!(late, Err(Code::PointIdentityTaken));
        // It is to be taken off, and the point does not know that yet: what it says has no effect, and is said again.
        let next = Report { boot: Uuid::from_u128(2), ..full.clone() };
        assert_eq!(take(&next).await, all_is_well);
        site.write(|w| {
            let placed = w.placements_on(2)?.remove(0);
            w.put_placement(&Placement { state: ContentState::Removing, ..placed })
        })
        .await
        .unwrap();
        assert_eq!(take(&Report { packages: Some(Vec::new()), ..next.clone() }).await, None);
        assert_eq!(state().await, ContentState::Removing);
        for form in [Form::KeysWithin, Form::KeysApart] {
            let tag = assign::make(&site, 2, form).await.unwrap().etag;
            let gone = Report { packages: Some(Vec::new()), assignment: Some(tag), ..next.clone() };
            assert_eq!(take(&gone).await, all_is_well);
            assert!(site.read(|r| r.placements_on(2)).await.unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn what_changed_is_taken_by_who_knows_what_it_changed_from() {
        let (_folder, site, principal, row, full) = site().await;
        let take = async |report: &Report| tried(&site, &principal, &row, report).await.expect("it is taken");
        let state = async || {
            let placed = site.read(|r| r.placements_on(2)).await.expect("it is read");
            (placed[0].state, placed[0].done)
        };
        let named = |name: &str| Some(name.to_owned());
        let said = full.packages.as_ref().unwrap()[0].clone();
        let sending = Said { state: ContentState::Sending, done: 3, ..said.clone() };
        let begins = Report { packages: Some(vec![sending]), state: named("sending"), ..full.clone() };
        let then = Report {
            packages: None,
            changed: Some(Changed { since: "sending".to_owned(), packages: vec![said] }),
            state: named("sent"),
            ..full.clone()
        };
        assert_eq!(take(&then).await, None, "since what is not known");
        assert_eq!(state().await, (ContentState::Queued, 0));
        assert_eq!(take(&begins).await, named("sending"));
        assert_eq!(take(&then).await, named("sent"));
        assert_eq!(state().await, (ContentState::Success, 9));
        assert_eq!(take(&then).await, named("sent"), "said twice, and known");
        assert_eq!(
            take(&Report { packages: None, state: named("sent"), ..full.clone() }).await,
            named("sent")
        );
        // Nothing of it is another; the assignment may be.
        let nothing = Changed { since: "sent".to_owned(), packages: Vec::new() };
        let renamed =
            Report { packages: None, changed: Some(nothing), state: named("later"), ..full.clone() };
        assert_eq!(take(&renamed).await, named("later"));
        // Of what is taken off only who says all says that it is gone.
        site.write(|w| {
            let placed = w.placements_on(2)?.remove(0);
            w.put_placement(&Placement { state: ContentState::Removing, ..placed })
        })
        .await
        .unwrap();
        let assignment = Some(assign::make(&site, 2, Form::KeysApart).await.unwrap().etag);
        let nothing = Changed { since: "later".to_owned(), packages: Vec::new() };
        let silent = Report { changed: Some(nothing), assignment, ..renamed };
        assert_eq!(take(&silent).await, None);
        assert_eq!(state().await.0, ContentState::Removing);
        assert_eq!(
            take(&Report { packages: Some(Vec::new()), changed: None, ..silent }).await,
            named("later")
        );
        assert!(site.read(|r| r.placements_on(2)).await.unwrap().is_empty());
    }

    /// A report that comes late, or is slow: what a later one has said stays, in the database and in what need not be said again.
    #[tokio::test]
    async fn an_older_report_never_replaces_a_newer_one() {
        let (_folder, site, principal, row, full) = site().await;
        let said = full.packages.as_ref().unwrap()[0].clone();
        let failed = |order| Said {
            state: ContentState::Failed,
            done: 0,
            problem: Some(Problem::new(Code::DpDiskFull, "no room")),
            order,
            ..said.clone()
        };
        let report = |number, name: &str, said: Said| Report {
            packages: Some(vec![said]),
            number,
            state: Some(name.to_owned()),
            ..full.clone()
        };
        let take = |report: Report| {
            let (site, principal, row) = (site.clone(), principal.clone(), row.clone());
            async move {
                take(&site, &principal, &row, Ipv4Addr::LOCALHOST.into(), report).await.expect("it is taken")
            }
        };
        let state = async || {
            let placed = site.read(|r| r.placements_on(2)).await.expect("it is read");
            placed[0].state
        };
        let known = |name: &str| site.points.has_said(2, full.boot, name);
        assert_eq!(take(report(Some(2), "well", said.clone())).await.as_deref(), Some("well"));
        assert_eq!(take(report(Some(1), "ill", failed(7))).await, None, "it was overtaken on its way");
        assert_eq!(take(report(Some(2), "ill", failed(7))).await, None, "it is sent twice");
        assert_eq!((state().await, known("well")), (ContentState::Success, true));
        // Another order, and a report about it that waits for the writer, while the next one comes.
        site.write(|w| {
            let placed = w.placements_on(2)?.remove(0);
            w.put_placement(&Placement { state: ContentState::Queued, order: 8, done: 0, ..placed })
        })
        .await
        .unwrap();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (begins, begun) = tokio::sync::oneshot::channel();
        let live = site.clone();
        let busy = tokio::spawn(async move {
            let holding = live.write(move |_| {
                let _ = begins.send(());
                let _ = released.recv();
                Ok(())
            });
            holding.await
        });
        begun.await.unwrap();
        let slow = tokio::spawn(take(report(Some(3), "ill", failed(8))));
        // It has read what it needs, and waits to be written down.
        let comes = async |number| {
            while !site.points.is_latest(2, full.boot, Some(number)) {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        comes(3).await;
        let next = tokio::spawn(take(report(Some(4), "well again", Said { order: 8, ..said.clone() })));
        comes(4).await;
        drop(release);
        busy.await.unwrap().unwrap();
        assert_eq!(slow.await.unwrap(), None);
        assert_eq!(next.await.unwrap().as_deref(), Some("well again"));
        assert_eq!((state().await, known("well again")), (ContentState::Success, true));
        // Another process counts from the beginning, and one of before does not count.
        let again =
            Report { boot: Uuid::from_u128(2), ..report(Some(1), "anew", Said { order: 8, ..said.clone() }) };
        assert_eq!(take(again.clone()).await.as_deref(), Some("anew"));
        assert_eq!(take(Report { number: None, ..again }).await.as_deref(), Some("anew"));
    }

    #[test]
    fn a_point_writes_one_line_and_not_what_it_likes() {
        let good = Problem::new(Code::DpDiskFull, "»p« needs 9 bytes").because("Lücke".to_owned());
        assert_eq!(plain(good.clone()), good);
        let words = "a\u{1b}[2Jb\n2026-01-01 ERROR\u{202e}c\u{0}".to_owned();
        let (many, long) = (vec![words.clone(); 500], "x".repeat(1 << 20));
        let bad = Problem {
            causes: many,
            state: Some(long.clone()),
            help: long,
            ..Problem::new(Code::DpDiskFull, words)
        };
        let said = plain(bad);
        assert_eq!(said.message, "a[2Jb 2026-01-01 ERRORc");
        assert_eq!((said.causes.len(), &said.causes[0]), (MOST_CAUSES, &said.message));
        assert!(said.state.is_some_and(|state| state.len() == LONGEST) && said.help.len() == LONGEST);
    }
}
