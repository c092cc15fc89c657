//! Runs over catalogs and update servers together, and the steps on the way to them.

use std::net::TcpListener;

use catalog::server_sync::{ErrorCode, Operation};
use schema::tasks::Task;
use tempfile::TempDir;

use super::*;
use crate::config::{Loaded, Settings, Source, SourceKind};
use crate::fixture::{Damage, Fault, ServerFault, UpdateServer};
use crate::upstream::server_sync::tests::wire::windows;

fn server(name: &str, url: String) -> Source {
    Source {
        name: name.to_owned(),
        kind: SourceKind::Wsus,
        url,
        allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..Source::default()
    }
}

fn of(name: &str, fake: &UpdateServer) -> Source {
    server(name, fake.base_url())
}

fn status(status: u16) -> ServerFault {
    ServerFault::Http(Fault::Status(status, None))
}

/// A place where nobody listens.
fn nobody() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("http://127.0.0.1:{port}")
}

async fn site(sources: Vec<Source>, change: impl FnOnce(&mut Settings)) -> (TempDir, Arc<Site>) {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.sources = sources;
    settings.site.data_dir = folder.path().join("site");
    settings.download.min_free = 0;
    settings.download.proxy = crate::config::Proxy::None;
    settings.sync.allow_plain_http = true;
    settings.sync.products = vec!["Windows 11".to_owned()];
    settings.sync.retry.max = 1;
    change(&mut settings);
    let site = Site::open(Loaded::from(settings)).await.unwrap();
    (folder, site)
}

/// Runs once; the report, the problem, and the task.
async fn synchronise(site: &Arc<Site>) -> (Option<Report>, Option<Problem>, Task) {
    let caller = Caller { who: "test".to_owned(), dry_run: false };
    let Ok(Work::Started(id)) = start(site, false, &caller).await else { panic!("a run is a task") };
    let (events, _inbox) = tokio::sync::mpsc::channel(1);
    let (report, problem) = match site.tasks.watch(id, &events).await {
        Ok(answer) => (serde_json::from_value(answer.body).ok(), answer.problem),
        Err(problem) => (None, Some(problem)),
    };
    (report, problem, site.tasks.get(id).await.unwrap())
}

#[tokio::test]
async fn a_bad_server_stops_no_other_and_a_set_aside_revision_is_part_of_a_success() {
    let ((good, upgrades), (bad, _)) = (windows(5).await, windows(6).await);
    good.damage(upgrades[0], Damage::Poisoned);
    bad.fault_times(Operation::GetCookie, status(404), 1);
    let (_folder, site) = site(vec![of("bad", &bad), of("good", &good)], |_| {}).await;

    let (report, problem, task) = synchronise(&site).await;
    let report = report.unwrap();
    assert_eq!(problem.unwrap().code, Code::SyncPartial);
    let codes: Vec<_> = report.servers.iter().map(|one| one.problem.as_ref().unwrap().code).collect();
    assert_eq!(codes, [Code::SourceNotFound, Code::RevisionQuarantined]);
    assert_eq!(report.servers[1].outcome.updates.new, 4);
    let phases: Vec<_> =
        task.phases.iter().map(|phase| (phase.name.as_str(), phase.done, phase.ended)).collect();
    assert_eq!(
        phases,
        [
            ("connect bad", 0, true),
            ("connect good", 0, true),
            ("categories good", 10, true),
            ("revisions good", 5, true)
        ]
    );

    // The bad one is mended: what is set aside is all that is left to say.
    let (report, problem, _) = synchronise(&site).await;
    assert_eq!(problem.unwrap().code, Code::RevisionQuarantined);
    let report = report.unwrap();
    assert_eq!(report.servers[0].outcome.updates.new, 2, "the others are those of the good one");
    let run = site.read(|r| r.runs(1)).await.unwrap().remove(0);
    assert_eq!(run.state, RunState::Partly);
    let kept: Report = serde_json::from_value(run.report.unwrap()).unwrap();
    assert_eq!(kept.servers[1].outcome.set_aside[0].id, upgrades[0]);
    site.close().await;
}

#[tokio::test]
async fn a_run_in_which_all_fail_fails_and_says_what_is_kept() {
    let (broken, _) = windows(1).await;
    broken.fault(Operation::GetRevisionIdList, ServerFault::SaysNoCode);
    let (_folder, site) = site(vec![of("broken", &broken), server("nobody", nobody())], |_| {}).await;
    let (report, problem, _) = synchronise(&site).await;
    assert!(report.is_none());
    let problem = problem.unwrap();
    assert_eq!(problem.code, Code::UpstreamFault);
    assert!(problem.causes.iter().any(|cause| cause.contains("1 other sources failed too")), "{problem:?}");
    assert_eq!(problem.state.as_deref(), Some("the database is as it was"));
    let run = site.read(|r| r.runs(1)).await.unwrap().remove(0);
    assert_eq!(run.state, RunState::Failed);
    let kept: Report = serde_json::from_value(run.report.unwrap()).unwrap();
    assert_eq!(kept.servers[1].problem.as_ref().unwrap().code, Code::SourceUnreachable);
    site.close().await;
}

#[tokio::test]
async fn without_a_product_only_categories_come_and_a_note_says_how_to_choose() {
    let (fake, _) = windows(5).await;
    let (_folder, site) = site(vec![of("wsus", &fake)], |settings| settings.sync.products.clear()).await;
    let (report, problem, _) = synchronise(&site).await;
    let outcome = report.unwrap().servers.remove(0).outcome;
    assert_eq!(problem, None);
    assert_eq!((outcome.categories.new, outcome.updates.listed), (10, 0));
    assert!(outcome.notes[0].contains("spsync sync products --set"), "{:?}", outcome.notes);
    site.close().await;
}

#[tokio::test]
async fn plain_http_is_refused_before_anything_is_asked() {
    let (fake, _) = windows(1).await;
    let (_folder, site) =
        site(vec![of("wsus", &fake)], |settings| settings.sync.allow_plain_http = false).await;
    let (_, problem, _) = synchronise(&site).await;
    assert_eq!(problem.unwrap().code, Code::PlainHttpRefused);
    let tested = test(&site, None).await.unwrap();
    assert_eq!(steps(&tested), ["address PLAIN_HTTP_REFUSED"]);
    assert_eq!(fake.calls(), []);
    site.close().await;
}

/// Steps of the only place, with the code of what failed.
fn steps(tested: &Tested) -> Vec<String> {
    assert_eq!(tested.sources.len(), 1);
    let steps = &tested.sources[0].steps;
    assert_eq!(tested.ok, steps.iter().all(|step| step.ok));
    let code = |step: &Step| step.problem.as_ref().map_or("ok", |problem| problem.code.name());
    steps.iter().map(|step| format!("{} {}", step.step, code(step))).collect()
}

#[tokio::test]
async fn each_step_on_the_way_to_a_server_is_tried() {
    let well = ["address ok", "proxy ok", "name ok", "connection ok", "http ok", "protocol ok"];
    let refused = ServerFault::Says(ErrorCode::InvalidAuthorizationCookie, String::new());
    for (fault, expected) in [
        (None, [&well[..], &["clock ok"]].concat()),
        (Some((Operation::GetAuthConfig, status(404))), [&well[..4], &["http SOURCE_NOT_FOUND"]].concat()),
        (
            Some((Operation::GetAuthConfig, ServerFault::Page)),
            [&well[..4], &["http PROTOCOL_MALFORMED"]].concat(),
        ),
        (Some((Operation::GetCookie, refused)), [&well[..5], &["protocol UPSTREAM_FAULT"]].concat()),
    ] {
        let (fake, _) = windows(1).await;
        let (folder, site) = site(vec![of("wsus", &fake)], |_| {}).await;
        let log = |folder: &TempDir| folder.path().join("site/spsync.db-wal").metadata().unwrap().len();
        let written = log(&folder);
        if let Some((operation, fault)) = fault {
            fake.fault(operation, fault);
        }
        let tested = test(&site, Some("wsus")).await.unwrap();
        assert_eq!(steps(&tested), expected);
        assert_eq!(log(&folder), written, "a test records nothing");
        site.close().await;
    }
}

#[tokio::test]
async fn what_is_not_there_not_allowed_or_not_known_is_told() {
    let (fake, _) = windows(1).await;
    let closed = Source { allow_networks: Vec::new(), ..of("wsus", &fake) };
    let nowhere = server("wsus", "http://no-such-host.invalid:8530".to_owned());
    let esd = |catalog: String| Source {
        catalogs: vec![catalog],
        allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..Source::default()
    };
    for (source, expected) in [
        (closed, &["address ok", "proxy ok", "name NETWORK_NOT_ALLOWED"][..]),
        (server("wsus", nobody()), &["address ok", "proxy ok", "name ok", "connection SOURCE_UNREACHABLE"]),
        (nowhere, &["address ok", "proxy ok", "name SOURCE_UNREACHABLE"]),
        // Nobody speaks TLS there.
        (
            server("wsus", format!("https://{}", fake.address())),
            &["address ok", "proxy ok", "name ok", "connection ok", "tls SOURCE_UNREACHABLE"],
        ),
        (esd("/no/such/file.cab".to_owned()), &["file SOURCE_NOT_FOUND"]),
        (esd("ftp://x/products.cab".to_owned()), &["address SCHEME_NOT_ALLOWED"]),
        (esd(nobody()), &["address ok", "proxy ok", "name ok", "connection SOURCE_UNREACHABLE"]),
    ] {
        let described = format!("{source:?}");
        let (_folder, site) = site(vec![source], |_| {}).await;
        assert_eq!(steps(&test(&site, None).await.unwrap()), expected, "{described}");
        assert_eq!(test(&site, Some("wsuss")).await.unwrap_err().code, Code::NotFound);
        site.close().await;
    }
}

#[tokio::test]
async fn who_can_only_import_has_nobody_to_ask() {
    let import = Source { kind: SourceKind::Import, ..server("import", String::new()) };
    let (_folder, site) = site(vec![import], |_| {}).await;
    let caller = Caller { who: "test".to_owned(), dry_run: false };
    let refused = start(&site, false, &caller).await.err();
    assert_eq!(refused.map(|problem| problem.code), Some(Code::NoCatalog));
    assert!(test(&site, None).await.unwrap().sources.is_empty());
    site.close().await;
}
