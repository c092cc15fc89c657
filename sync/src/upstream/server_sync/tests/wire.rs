//! The whole way: sockets, SOAP, threads and a database on the disk, against the fake update server.

use catalog::server_sync::Operation;
use jiff::Timestamp;
use schema::Store;
use tempfile::TempDir;

use super::*;
use crate::config::{Source, SourceKind};
use crate::fixture::{
    Damage, Fault as HttpFault, ServerFault, UPGRADES, UpdateServer, WINDOWS_10, WINDOWS_11,
    known_categories, software,
};
use crate::upstream::Webs;

/// How many categories [`windows`] has.
const CATEGORIES: u64 = 10;

/// A server with categories, and so many upgrades of Windows 11; their ids.
pub(crate) async fn windows(count: usize) -> (UpdateServer, Vec<RevisionId>) {
    let server = UpdateServer::start().await.expect("a port");
    server.publish_all(&known_categories());
    let upgrades = (0..count).map(|n| server.publish(&upgrade(&format!("Upgrade {n}"), WINDOWS_11)));
    let upgrades = upgrades.collect();
    (server, upgrades)
}

fn upgrade(title: &str, product: UpdateId) -> crate::fixture::UpdateDraft {
    software(title).within(&[UPGRADES]).within(&[product])
}

/// A site that synchronises from the fake.
struct Site {
    folder: TempDir,
    store: Store,
    settings: Settings,
    server: Server,
}

impl Site {
    fn of(fake: &UpdateServer) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("spsync.db"), 2).expect("a database");
        let mut settings = Settings::default();
        settings.sync.allow_plain_http = true;
        settings.sync.products = vec!["Windows 11".to_owned()];
        settings.sync.request_timeout = Duration::from_secs(20);
        settings.sync.retry.max = 3;
        (settings.sync.retry.first, settings.sync.retry.longest) =
            (Duration::from_millis(1), Duration::from_secs(2));
        let source = Source {
            name: "wsus".to_owned(),
            kind: SourceKind::Wsus,
            url: fake.base_url(),
            allow_networks: vec!["127.0.0.0/8".parse().expect("a network")],
            ..Source::default()
        };
        let server = Server::of(&settings, &Webs::new(), &source).expect("it is allowed");
        Self { folder, store, settings, server }
    }

    fn plan(&self) -> Plan {
        Plan::of(&self.settings, "site.example".to_owned(), update(999), false, false)
    }

    async fn synchronise(&self) -> (Outcome, Result<(), Problem>) {
        let mut outcome = Outcome::default();
        let ended = synchronise(&self.store, &self.server, self.plan(), |_| {}, &mut outcome).await;
        (outcome, ended)
    }

    async fn well(&self) -> Outcome {
        let (outcome, ended) = self.synchronise().await;
        assert_eq!(ended, Ok(()));
        outcome
    }

    async fn document(&self, id: RevisionId) -> Option<String> {
        let found = self.store.read(move |r| r.metadata_document(id)).await.expect("the database answers");
        found.map(|bytes| String::from_utf8(bytes).expect("UTF-8"))
    }

    async fn anchor(&self, scope: Scope) -> Option<Anchor> {
        let endpoint = self.server.root.to_string();
        let anchor = self.store.read(move |r| r.server_anchor("wsus", scope, &endpoint));
        anchor.await.expect("the database answers")
    }

    /// Bytes that were written so far.
    fn written(&self) -> u64 {
        self.folder.path().join("spsync.db-wal").metadata().map(|file| file.len()).unwrap_or_default()
    }
}

/// Revisions that were asked for, over all calls.
fn fetched(fake: &UpdateServer) -> Vec<RevisionId> {
    fake.calls_of(Operation::GetUpdateData).into_iter().flat_map(|call| call.ids).collect()
}

fn codes(outcome: &Outcome) -> Vec<(RevisionId, Code)> {
    outcome.set_aside.iter().map(|one| (one.id, one.code)).collect()
}

#[tokio::test]
async fn a_server_is_recorded_to_the_byte_and_an_unchanged_one_costs_nothing() {
    let (fake, upgrades) = windows(250).await;
    fake.compress();
    let large = fake.publish(&upgrade("Large", WINDOWS_11).of_size(200_000));
    // More than several documents may have together.
    let huge = fake.publish(&upgrade("Huge", WINDOWS_11).of_size(600_000));
    let other = fake.publish(&upgrade("Of a product that is not chosen", WINDOWS_10));
    let mut site = Site::of(&fake);
    site.server.several_bytes = 500_000;
    let unchanged = site.store.unchanged();
    let outcome = site.well().await;
    // Who looked at something before that, to change it, is not held back.
    let act = site.store.write(|w| w.audit("admin", "point.set", "lyon", Timestamp::UNIX_EPOCH));
    unchanged.holds(act).await.unwrap();
    let brought = |listed| Brought { listed, wanted: listed, fetched: listed, new: listed, revised: 0 };
    assert_eq!((outcome.categories, outcome.updates), (brought(CATEGORIES), brought(252)));
    assert!(!outcome.unchanged && outcome.quarantined == 0 && outcome.notes.is_empty(), "{outcome:?}");
    // Too much with others, it was found by halving; too much alone, it was asked for once more, with more room.
    let alone = fake.calls_of(Operation::GetUpdateData).iter().filter(|call| call.ids == [huge]).count();
    assert_eq!(alone, 2);
    for id in upgrades.iter().chain([&large, &huge]) {
        assert_eq!(site.document(*id).await.as_deref(), fake.document(*id).as_deref());
    }
    assert_eq!(site.document(other).await, None);
    let before = site.anchor(Scope::Updates).await;

    let written = site.written();
    fake.forget_calls();
    assert!(site.well().await.unchanged);
    let calls: Vec<_> = fake.calls().iter().map(|call| call.operation.name()).collect();
    let cookie = ["GetAuthConfig", "GetAuthorizationCookie", "GetCookie", "GetConfigData"];
    assert_eq!(calls, [&cookie[..], &["GetRevisionIdList"; 2]].concat());
    assert_eq!((site.written(), site.anchor(Scope::Updates).await), (written, before.clone()));

    // What is new is fetched, and nothing else.
    fake.forget_calls();
    let newer = fake.publish(&upgrade("Upgrade 7", WINDOWS_11).revision(201));
    let third = site.well().await;
    assert_eq!((third.updates.new, third.updates.revised), (0, 1));
    assert_eq!(fetched(&fake), [newer]);
    assert_ne!(site.anchor(Scope::Updates).await, before);
}

#[tokio::test]
async fn another_product_costs_what_it_has_and_one_less_costs_nothing() {
    let (fake, upgrades) = windows(30).await;
    let others: Vec<_> = (0..5).map(|n| fake.publish(&upgrade(&format!("Ten {n}"), WINDOWS_10))).collect();
    let mut site = Site::of(&fake);
    site.well().await;
    for (products, mut expected) in
        [(vec!["Windows 11", "Windows 10"], others), (vec!["Windows 11"], Vec::new())]
    {
        fake.forget_calls();
        site.settings.sync.products = products.into_iter().map(str::to_owned).collect();
        site.well().await;
        let mut asked = fetched(&fake);
        asked.sort();
        expected.sort();
        assert_eq!(asked, expected);
    }
    assert!(site.document(upgrades[29]).await.is_some());
    let filter = site.anchor(Scope::Updates).await.unwrap().filter;
    assert_eq!((filter.categories, filter.classifications), (vec![WINDOWS_11], vec![UPGRADES]));
}

#[tokio::test]
async fn a_run_that_is_cut_is_gone_on_with() {
    let (fake, upgrades) = windows(300).await;
    let site = Site::of(&fake);
    for cut in 1..30 {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (mut stop, mut seen) = (Some(stop), 0);
        let watch = |_: Seen<'_>| {
            seen += 1;
            if seen == cut {
                stop.take().map(|stop| stop.send(()));
            }
        };
        let mut outcome = Outcome::default();
        // It is dropped there, with all that is on its way.
        tokio::select! {
            biased;
            _ = stopped => {}
            ended = synchronise(&site.store, &site.server, site.plan(), watch, &mut outcome) => ended.unwrap(),
        }
    }
    assert_eq!(site.well().await.quarantined, 0);
    for id in upgrades {
        assert!(site.document(id).await.is_some(), "{id}");
    }
    fake.forget_calls();
    assert!(site.well().await.unchanged);
    assert_eq!(fetched(&fake), []);
}

#[tokio::test]
async fn what_a_server_does_wrong_has_a_code_and_leaves_what_is_recorded() {
    use Operation::{GetAuthConfig, GetConfigData, GetCookie, GetRevisionIdList, GetUpdateData};
    let http = ServerFault::Http;
    let to = |url: &str| ServerFault::Http(HttpFault::RedirectTo(url.to_owned()));
    let says = |code| ServerFault::Says(code, String::new());
    for (operation, times, fault, code) in [
        (GetAuthConfig, 1, to("https://evil.example/"), Some(Code::RedirectNotAllowed)),
        (GetAuthConfig, 1, to("http://10.9.8.7/"), Some(Code::RedirectNotAllowed)),
        (GetAuthConfig, 1, http(HttpFault::RedirectLoop), Some(Code::RedirectNotAllowed)),
        (GetAuthConfig, 1, http(HttpFault::Status(404, None)), Some(Code::SourceNotFound)),
        (GetAuthConfig, 1, http(HttpFault::Status(401, None)), Some(Code::SourceRefused)),
        (
            GetAuthConfig,
            1,
            ServerFault::AuthorizesAt("https://evil.example/x".to_owned()),
            Some(Code::ProtocolMalformed),
        ),
        (GetAuthConfig, 1, ServerFault::SaysNoCode, Some(Code::UpstreamFault)),
        (GetCookie, 3, ServerFault::Page, Some(Code::ProtocolMalformed)),
        (GetCookie, 2, ServerFault::Page, None),
        (GetCookie, 3, ServerFault::OtherAnswer, Some(Code::ProtocolMalformed)),
        (GetConfigData, 1, ServerFault::Speaks("2.0".to_owned()), Some(Code::UpstreamIncompatible)),
        (GetConfigData, 1, ServerFault::LimitOf(0), None),
        (GetConfigData, 1, ServerFault::LimitOf(1), None),
        (GetRevisionIdList, 3, http(HttpFault::Status(500, None)), Some(Code::SourceFailed)),
        (GetRevisionIdList, 3, http(HttpFault::Status(502, None)), Some(Code::SourceFailed)),
        (GetRevisionIdList, 3, http(HttpFault::CloseAtOnce), Some(Code::SourceUnreachable)),
        (GetRevisionIdList, 2, http(HttpFault::CutAfter(200)), None),
        (GetRevisionIdList, 2, http(HttpFault::Halved), None),
        (GetRevisionIdList, 2, http(HttpFault::Status(503, None)), None),
        (GetRevisionIdList, 1, http(HttpFault::Status(503, Some(600))), Some(Code::UpstreamBusy)),
        (GetRevisionIdList, 9, says(ErrorCode::InvalidCookie), Some(Code::UpstreamCookie)),
        (GetRevisionIdList, 2, says(ErrorCode::ServerBusy), None),
        (GetRevisionIdList, 9, says(ErrorCode::ServerChanged), Some(Code::UpstreamFault)),
        (GetRevisionIdList, 1, ServerFault::EndsAt("x".repeat(5_000)), Some(Code::ProtocolMalformed)),
        (GetUpdateData, 1, says(ErrorCode::ServerChanged), None),
        (GetUpdateData, 1, http(HttpFault::EndlessBody), None),
        (GetUpdateData, 1, http(HttpFault::Halved), None),
        (GetUpdateData, 5, ServerFault::AtMost(1), None),
        (GetUpdateData, 1, ServerFault::AtMost(0), None),
    ] {
        let (fake, upgrades) = windows(3).await;
        let described = format!("{operation:?} {fault:?}");
        fake.fault_times(operation, fault, times);
        let site = Site::of(&fake);
        let (outcome, ended) = site.synchronise().await;
        assert_eq!(ended.as_ref().err().map(|problem| problem.code), code, "{described}: {ended:?}");
        assert_eq!(outcome.quarantined, 0, "{described}");
        fake.heal();
        site.well().await;
        assert!(site.document(upgrades[2]).await.is_some());
    }
}

#[tokio::test]
async fn an_anchor_that_is_not_taken_and_a_server_that_was_restarted_cost_a_list() {
    let (fake, _) = windows(3).await;
    let site = Site::of(&fake);
    let ends = ServerFault::EndsAt("garbage".to_owned());
    fake.fault(Operation::GetRevisionIdList, ends);
    site.well().await;
    fake.heal();
    fake.forget_calls();
    let outcome = site.well().await;
    assert!(outcome.unchanged && outcome.notes.len() == 2, "{outcome:?}");
    assert_eq!(fetched(&fake), []);
    // Its sessions are gone in the middle of a run; the clocks are hours apart.
    fake.set_clock(clock::now() + jiff::SignedDuration::from_hours(9));
    fake.fault_times(Operation::GetCookie, ServerFault::CookieFor(Duration::from_secs(1)), 1);
    let more = fake.publish(&upgrade("More", WINDOWS_11));
    assert_eq!(site.well().await.updates.new, 1);
    assert!(site.document(more).await.is_some());
}

#[tokio::test]
async fn damaged_and_poisoned_revisions_are_set_aside_and_tried_again() {
    let (fake, upgrades) = windows(30).await;
    let lost = RevisionId { number: RevisionNumber(7), ..upgrades[9] };
    let bundle = fake.publish(&upgrade("A bundle of nothing", WINDOWS_11).bundles(lost));
    let itself = fake.publish(&upgrade("A bundle of itself", WINDOWS_11));
    let selfish = upgrade("A bundle of itself", WINDOWS_11).bundles(itself).document();
    for (id, damage) in [
        (upgrades[3], Damage::Halved),
        (upgrades[4], Damage::Poisoned),
        (upgrades[5], Damage::Withheld),
        (upgrades[6], Damage::CallsItself(upgrades[7])),
        (upgrades[8], Damage::Packed(b"MSCF and nothing else".to_vec())),
        (itself, Damage::Is(selfish)),
    ] {
        fake.damage(id, damage);
    }
    let site = Site::of(&fake);
    let outcome = site.well().await;
    let mut expected = vec![
        (upgrades[3], Code::CatalogTruncated),
        (upgrades[4], Code::RevisionQuarantined),
        (upgrades[5], Code::RevisionQuarantined),
        (upgrades[6], Code::CatalogMalformed),
        (upgrades[8], Code::CabMalformed),
        (itself, Code::CatalogMalformed),
        (lost, Code::RevisionQuarantined),
    ];
    expected.sort();
    assert_eq!(codes(&outcome), expected);
    assert_eq!((outcome.quarantined, outcome.updates.new), (7, 26));
    assert!(site.anchor(Scope::Updates).await.is_some(), "they hold nothing else back");
    assert!(site.document(bundle).await.is_some());

    // Mended, they come with the next run; the same again is no reason to write.
    for id in expected.iter().map(|(id, _)| *id).filter(|id| *id != lost) {
        fake.mend(id);
    }
    fake.forget_calls();
    let outcome = site.well().await;
    assert_eq!(codes(&outcome), [(lost, Code::RevisionQuarantined)]);
    assert_eq!(outcome.updates.new, 6);
    let asked: std::collections::BTreeSet<_> = fetched(&fake).into_iter().collect();
    assert_eq!(asked, expected.iter().map(|(id, _)| *id).collect());
    let written = site.written();
    assert_eq!(codes(&site.well().await), [(lost, Code::RevisionQuarantined)]);
    assert_eq!(site.written(), written);
}

#[tokio::test]
async fn what_is_outside_of_the_filter_and_needed_comes_too() {
    let (fake, _) = windows(1).await;
    let part = fake.publish(&software("A part").requires(WINDOWS_10));
    let needed = fake
        .publish(&software("Needed").within(&[WINDOWS_11]).within(&[crate::fixture::UPDATES]).revision(37));
    let hidden = fake.publish(&software("Needed, and in no list").revision(102));
    let whole = upgrade("A bundle", WINDOWS_11).bundles(part).requires(needed.update).requires(hidden.update);
    let lost = update(4_711);
    let whole = fake.publish(&whole.requires(lost));
    let site = Site::of(&fake);
    let outcome = site.well().await;
    for id in [part, needed, hidden, whole] {
        assert!(site.document(id).await.is_some(), "{id}");
    }
    assert_eq!((outcome.quarantined, outcome.missing), (0, 1));
    // What cannot be found is not looked for again, unless all is.
    fake.forget_calls();
    assert!(site.well().await.unchanged);
    assert_eq!(fake.calls().len(), 6);
}

#[tokio::test]
async fn other_bytes_for_a_recorded_revision_are_never_taken() {
    let (fake, upgrades) = windows(1).await;
    let site = Site::of(&fake);
    site.well().await;
    let id = upgrades[0];
    let recorded = site.document(id).await;
    let documents = vec![document(id, &xml(id, &[], &[update(5)]))];
    let batch = Batch { scope: Scope::Updates, documents, set_aside: Vec::new() };
    site.store.write(move |w| record(w, "wsus", &batch)).await.unwrap();
    let set_aside = site.store.read(|r| r.server_quarantined("wsus")).await.unwrap();
    assert_eq!(set_aside.len(), 1);
    assert_eq!((set_aside[0].id, set_aside[0].code), (id, Code::RevisionContradicts));
    assert_eq!(site.document(id).await, recorded);
}

#[tokio::test]
async fn what_another_source_left_incomplete_is_completed_by_a_server_that_has_it() {
    let (fake, _) = windows(1).await;
    let part = fake.publish(&software("A part").requires(WINDOWS_10));
    let whole = fake.publish(&upgrade("A bundle", WINDOWS_11).bundles(part));
    for (source, servers, expected) in [
        // Imported, or of a server that is called otherwise or gone now.
        ("import", &["wsus"][..], true),
        ("old", &["wsus"], true),
        // Of another server that is asked too: this one names it as well.
        ("old", &["wsus", "old"], true),
    ] {
        let site = Site::of(&fake);
        let text = fake_document(&fake, whole).await;
        let prepared = document(whole, &text).prepared;
        site.store.write(move |w| w.record_metadata(source, &prepared, clock::now())).await.unwrap();
        let mut outcome = Outcome::default();
        let servers = servers.iter().map(|&name| name.to_owned()).collect();
        let plan = Plan { servers, ..site.plan() };
        assert_eq!(synchronise(&site.store, &site.server, plan, |_| {}, &mut outcome).await, Ok(()));
        assert_eq!(site.document(part).await.is_some(), expected, "{source}");
        assert_eq!(outcome.quarantined, 0);
    }
}

#[tokio::test]
async fn an_import_whose_parts_a_server_lacks_fails_no_run_against_it() {
    let (fake, _) = windows(1).await;
    let site = Site::of(&fake);
    let wholes: Vec<_> = (0..30).map(|n| (id(5_000 + n), id(6_000 + n))).collect();
    let prepared: Vec<_> =
        wholes.iter().map(|(whole, part)| document(*whole, &xml(*whole, &[*part], &[])).prepared).collect();
    let record = move |w: &Writer<'_>| {
        prepared.iter().try_for_each(|one| w.record_metadata("import", one, clock::now()).map(|_| ()))
    };
    site.store.write(record).await.unwrap();
    let first = site.well().await;
    assert_eq!((first.quarantined, first.missing), (0, 30), "{first:?}");
    assert_eq!(first.set_aside, []);
    fake.forget_calls();
    assert!(site.well().await.unchanged);
    assert_eq!(fetched(&fake), [], "they are looked for once");
    // In full once more; a server that has them by then gives them.
    let parts = wholes.iter().map(|(_, part)| *part).collect::<std::collections::BTreeSet<_>>();
    let (mut outcome, mut plan) = (Outcome::default(), site.plan());
    plan.options.full = true;
    assert_eq!(synchronise(&site.store, &site.server, plan, |_| {}, &mut outcome).await, Ok(()));
    let asked = fetched(&fake).into_iter().collect::<std::collections::BTreeSet<_>>();
    assert!(asked.is_superset(&parts), "{asked:?}");
    assert_eq!((outcome.quarantined, outcome.missing), (0, 30));
}

/// The text of a document of the fake, as a site that synchronises records it.
async fn fake_document(fake: &UpdateServer, id: RevisionId) -> String {
    let site = Site::of(fake);
    site.well().await;
    fake.forget_calls();
    site.document(id).await.expect("it has it")
}

#[tokio::test]
async fn a_server_that_is_asked_for_the_first_time_says_where_files_of_what_is_known_are() {
    let (fake, upgrades) = windows(3).await;
    let sha1 = catalog::digest::Sha1Digest([7; 20]);
    let file = format!(
        "<Update xmlns=\"http://schemas.microsoft.com/msus/2002/12/Update\"><UpdateIdentity UpdateID=\"{}\" \
         RevisionNumber=\"{}\"/><Properties UpdateType=\"Software\"/><Files><File Digest=\"{}\" \
         DigestAlgorithm=\"SHA1\" FileName=\"a.esd\" Size=\"1\"/></Files></Update>",
        upgrades[0].update,
        upgrades[0].number.0,
        sha1.to_base64()
    );
    let site = Site::of(&fake);
    let prepared = document(upgrades[0], &file).prepared;
    let other = document(upgrades[1], &fake_document(&fake, upgrades[1]).await).prepared;
    site.store
        .write(move |w| {
            w.record_metadata("import", &prepared, clock::now())?;
            w.record_metadata("import", &other, clock::now())
        })
        .await
        .unwrap();
    site.well().await;
    let asked: Vec<_> = fetched(&fake).into_iter().filter(|id| upgrades.contains(id)).collect();
    assert!(asked.contains(&upgrades[0]), "it is known, and nobody said where its file is");
    assert!(!asked.contains(&upgrades[1]), "that one has no file");
    fake.forget_calls();
    site.well().await;
    assert_eq!(fetched(&fake).iter().filter(|id| **id == upgrades[1]).count(), 0);
}
