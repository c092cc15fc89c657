//! The whole way: sockets, SOAP, threads and a database on the disk, against a small server of our own.

use std::path::PathBuf;

use catalog::digest::Sha1Digest;
use catalog::server_sync::FileUrl;
use schema::Store;
use tempfile::TempDir;

use super::fake::{Fake, said, windows};
use super::*;
use crate::config::{Source, SourceKind};
use crate::upstream::Webs;

/// A site that synchronises from the fake.
struct Site {
    folder: TempDir,
    store: Store,
    settings: Settings,
    server: Server,
}

impl Site {
    fn of(fake: &Fake) -> Self {
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
            url: format!("http://{}", fake.address),
            allow_networks: vec!["127.0.0.0/8".parse().expect("a network")],
            ..Source::default()
        };
        let server = Server::of(&settings, &Webs::new(), &source).expect("it is allowed");
        Self { folder, store, settings, server }
    }

    fn plan(&self) -> Plan {
        Plan::of(&self.settings, "site.example".to_owned(), update(999), false)
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

    async fn anchor(&self, scope: Scope) -> Option<String> {
        let endpoint = self.server.root.to_string();
        let anchor = self.store.read(move |r| r.server_anchor("wsus", scope, &endpoint));
        anchor.await.expect("the database answers").map(|anchor| anchor.anchor)
    }

    /// What was written so far.
    fn log(&self) -> (PathBuf, u64) {
        let log = self.folder.path().join("spsync.db-wal");
        let length = log.metadata().map(|file| file.len()).unwrap_or_default();
        (log, length)
    }
}

#[tokio::test]
async fn a_server_is_recorded_to_the_byte_and_an_unchanged_one_costs_nothing() {
    let fake = windows(250).await;
    let site = Site::of(&fake);
    let outcome = site.well().await;
    let brought = |listed, new| Brought { listed, wanted: listed, fetched: listed, new, revised: 0 };
    assert_eq!((outcome.categories, outcome.updates), (brought(2, 2), brought(250, 250)));
    assert!(!outcome.unchanged && outcome.quarantined == 0 && outcome.notes.is_empty(), "{outcome:?}");
    assert_eq!(outcome.calls as usize, fake.calls().len());
    let expected = fake.shelf().updates.clone();
    for (id, text) in &expected {
        assert_eq!(site.document(*id).await.as_ref(), Some(text));
    }
    assert_eq!(site.anchor(Scope::Updates).await.as_deref(), Some("1"));

    let written = site.log();
    fake.shelf().seen.clear();
    let again = site.well().await;
    assert!(again.unchanged);
    let cookie = ["GetAuthConfig", "GetAuthorizationCookie", "GetCookie", "GetConfigData"];
    assert_eq!(fake.calls(), [&cookie[..], &["GetRevisionIdList"; 2]].concat());
    assert_eq!(site.log(), written, "nothing was written");

    // What is new is fetched, and nothing else.
    {
        let mut shelf = fake.shelf();
        shelf.anchor = 2;
        shelf.seen.clear();
        let newer = RevisionId { number: RevisionNumber(101), ..id(1000) };
        shelf.updates.remove(&id(1000));
        shelf.updates.insert(newer, xml(newer, &[], &[]));
    }
    let third = site.well().await;
    assert_eq!((third.updates.new, third.updates.revised), (0, 1));
    assert_eq!(fake.fetched(), [RevisionId { number: RevisionNumber(101), ..id(1000) }]);
    assert_eq!(site.anchor(Scope::Updates).await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_run_that_is_cut_is_gone_on_with() {
    let fake = windows(300).await;
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
    for n in 0..300 {
        assert!(site.document(id(1000 + n)).await.is_some(), "{n}");
    }
    fake.shelf().seen.clear();
    assert!(site.well().await.unchanged);
    assert_eq!(fake.fetched(), []);
}

#[tokio::test]
async fn what_a_server_does_wrong_has_a_code_and_leaves_what_is_recorded() {
    let html = b"<html><body>Sign in</body></html>".to_vec();
    let none = Vec::new;
    let to = |url: &str| vec![("location", url.to_owned())];
    for (operation, times, instead, code) in [
        ("GetAuthConfig", 1, (302, to("https://evil.example/"), none()), Some(Code::RedirectNotAllowed)),
        ("GetAuthConfig", 1, (307, to("http://10.9.8.7/"), none()), Some(Code::RedirectNotAllowed)),
        ("GetAuthConfig", 1, (404, Vec::new(), none()), Some(Code::SourceNotFound)),
        ("GetAuthConfig", 1, (401, Vec::new(), none()), Some(Code::SourceRefused)),
        ("GetCookie", 3, (200, Vec::new(), html.clone()), Some(Code::ProtocolMalformed)),
        ("GetCookie", 2, (200, Vec::new(), html.clone()), None),
        ("GetRevisionIdList", 3, (500, Vec::new(), html.clone()), Some(Code::SourceFailed)),
        ("GetRevisionIdList", 3, (502, Vec::new(), html), Some(Code::SourceFailed)),
        ("GetRevisionIdList", 2, (503, Vec::new(), none()), None),
        (
            "GetRevisionIdList",
            1,
            (503, vec![("retry-after", "600".to_owned())], none()),
            Some(Code::UpstreamBusy),
        ),
        (
            "GetRevisionIdList",
            4,
            (500, Vec::new(), said(ErrorCode::InvalidCookie)),
            Some(Code::UpstreamCookie),
        ),
        ("GetRevisionIdList", 2, (500, Vec::new(), said(ErrorCode::ServerBusy)), None),
        ("GetUpdateData", 1, (500, Vec::new(), said(ErrorCode::ServerChanged)), None),
        ("GetUpdateData", 1, (200, Vec::new(), vec![b' '; 17 << 20]), None),
    ] {
        let fake = windows(3).await;
        fake.shelf().instead = vec![(operation, instead); times];
        let site = Site::of(&fake);
        let (_, ended) = site.synchronise().await;
        assert_eq!(ended.as_ref().err().map(|problem| problem.code), code, "{operation}: {ended:?}");
        fake.shelf().instead.clear();
        site.well().await;
        assert!(site.document(id(1002)).await.is_some());
    }
}

#[tokio::test]
async fn damaged_poisoned_and_contradicting_revisions_are_set_aside_and_tried_again() {
    let fake = windows(30).await;
    {
        let mut shelf = fake.shelf();
        shelf.updates.insert(id(1003), xml(id(1003), &[], &[]).replace("</Update>", ""));
        shelf.updates.insert(id(1005), xml(id(1006), &[], &[]));
        shelf.updates.insert(id(1007), xml(id(1007), &[id(1007)], &[]));
        shelf.updates.insert(id(1009), xml(id(1009), &[id(7777)], &[]));
        shelf.urls.push(FileUrl { digest: Sha1Digest([1; 20]), microsoft: None, upstream: None });
    }
    let site = Site::of(&fake);
    let outcome = site.well().await;
    let codes: Vec<_> = outcome.set_aside.iter().map(|one| (one.id.update, one.code)).collect();
    assert_eq!(
        codes,
        [
            (update(1003), Code::CatalogTruncated),
            (update(1005), Code::CatalogMalformed),
            (update(1007), Code::CatalogMalformed),
            (update(7777), Code::RevisionQuarantined),
        ]
    );
    assert_eq!((outcome.quarantined, outcome.updates.new), (4, 27));
    assert_eq!(site.anchor(Scope::Updates).await.as_deref(), Some("1"), "they hold nothing else back");

    // Mended, they come with the next run.
    for n in [1003, 1005, 1007] {
        fake.shelf().updates.insert(id(n), xml(id(n), &[], &[]));
    }
    fake.shelf().seen.clear();
    let outcome = site.well().await;
    let codes: Vec<_> = outcome.set_aside.iter().map(|one| (one.id.update, one.code)).collect();
    assert_eq!(codes, [(update(7777), Code::RevisionQuarantined)]);
    assert_eq!(outcome.updates.new, 3);
    assert!(fake.fetched().iter().all(|one| [1003, 1005, 1007, 7777].contains(&one.update.0.as_u128())));
}

#[tokio::test]
async fn other_bytes_for_a_recorded_revision_are_never_taken() {
    let fake = windows(1).await;
    let site = Site::of(&fake);
    site.well().await;
    let recorded = site.document(id(1000)).await;
    let lie = xml(id(1000), &[], &[update(5)]);
    let batch =
        Batch { scope: Scope::Updates, documents: vec![document(id(1000), &lie)], set_aside: Vec::new() };
    site.store.write(move |w| record(w, "wsus", &batch)).await.unwrap();
    let set_aside = site.store.read(|r| r.server_quarantined("wsus")).await.unwrap();
    assert_eq!(set_aside.len(), 1);
    assert_eq!((set_aside[0].id, set_aside[0].code), (id(1000), Code::RevisionContradicts));
    assert_eq!(site.document(id(1000)).await, recorded);
}
