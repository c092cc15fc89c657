//! What a point says, taken down.
//!
//! What it lacks of what it was believed to have, clients are not sent there for any more; and it is asked once more to fetch
//! that, where it has found it by itself. How its packages are it need not say again while that has the same name.

use std::net::IpAddr;
use std::sync::Arc;

use catalog::problem::Problem;
use schema::keys::Principal;
use schema::points::{ContentState, PointRow};
use tracing::warn;

use super::assign;
use super::assign::Form;
use super::found::{Anew, Found};
use super::wire::{LONGEST_STATE, Report};
use crate::clock;
use crate::mending;
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
    let mut found = Found::of(&packages, &placements, &retry, now);
    if !found.lacks.is_empty() {
        let lacks = std::mem::take(&mut found.lacks);
        found.lacks = site.read(move |r| r.held_of(point, &lacks)).await?;
    }
    let mut has_effect = true;
    if placements.iter().any(|placed| placed.state == ContentState::Removing) {
        // Only who says all says by that of what there is nothing any more.
        has_effect = match &report.assignment {
            Some(named) if says_all => is_that_of_now(site, point, named).await?,
            _ => false,
        };
        if has_effect {
            found.is_all(&packages, &placements);
        }
    }
    let (on_demand, from) = (report.on_demand, from.to_canonical());
    let elsewhere = row.address.as_ref() != Some(&from.to_string());
    let moves = elsewhere || row.on_demand != on_demand;
    let is_another = moves || is_other_room(row.free, report.free);
    if !write_seen && found.is_nothing() && !is_another {
        return Ok(answer(has_effect));
    }
    found.log();
    let wrong = found.had_wrong_bytes();
    let moves_clients = moves || found.moves_clients();
    let (id, free) = (principal.id, report.free);
    let program: String = report.program.chars().filter(|c| !c.is_control()).take(40).collect();
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
            found.write_down(w, point, &retry, now)
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
    if !anew.without_effect {
        for package in wrong {
            if site.points.is_to_be_read(&package, now) {
                mending::doubt_package(site, package).await?;
            }
        }
    }
    if moves_clients {
        // Clients are sent there from now on, or no longer. The point need not wait for that.
        site.refresh_locations_soon();
    }
    Ok(answer(has_effect && !anew.without_effect))
}

/// Whether a point has so much less room than is known, or more, that what is sent there is decided otherwise.
fn is_other_room(known: Option<u64>, free: u64) -> bool {
    known.is_none_or(|known| known.abs_diff(free) > (known / 20).max(64 << 20))
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
    use schema::points::{Placement, PointRole};
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
}
