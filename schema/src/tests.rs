use catalog::digest::{Digests, Sha1Digest, Sha256Digest};
use catalog::feature_update::{Shape, ToldBy};
use catalog::id::{RevisionNumber, UpdateId};
use catalog::problem::{Code, Coded as _};
use jiff::Timestamp;
use proptest::prelude::*;

use crate::documents::NewDocument;
use crate::licenses::{How, LicenseState, LicenseText};
use crate::packages::{Access, FileState, NewMember, NewPackage};
use crate::updates::IMPORT;
use crate::updates::{NewFile, NewRevision, Published};
use crate::{SchemaError, Store};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("site.db"), 2).unwrap();
    (folder, store)
}

fn digest(seed: u32) -> Digests {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    Digests { sha1: Some(Sha1Digest(bytes)), sha256: None }
}

fn revision(language: &str, minor: u32, seed: u32) -> NewRevision {
    let name = format!("26200.{minor}.260413-0654.25h2_CLIENTBUSINESS_VOL_x64FRE_{language}.esd");
    NewRevision {
        update: UpdateId::of_esd("Windows 11", 26200, "business", "x64", language),
        number: None,
        title: format!("Feature update to Windows 11 (business), version 25H2 x64 {language}"),
        classification: "Upgrades".to_owned(),
        product: Some("Windows 11".to_owned()),
        products: vec!["Windows 11".to_owned()],
        release: Some("25H2".to_owned()),
        build: Some((26200, minor, Some("260413-0654".to_owned()))),
        edition_group: Some("business".to_owned()),
        editions: vec!["Enterprise".to_owned()],
        architecture: "x64".to_owned(),
        language: language.to_owned(),
        shape: Shape::Esd,
        told_by: ToldBy::FileName,
        bases: Vec::new(),
        files: vec![NewFile {
            urls: vec![Published {
                source: "esd".to_owned(),
                url: format!("http://dl.example/{seed}/{name}"),
            }],
            file_name: name.parse().unwrap(),
            size: 1_000 + u64::from(seed),
            digests: digest(seed),
        }],
        encrypted: false,
        license_required: true,
        license_key: Some("Windows 11".to_owned()),
        licenses: Vec::new(),
        created: None,
        expired: false,
        missing: 0,
    }
}

fn document(location: &str, body: &[u8]) -> NewDocument {
    NewDocument {
        source: "esd".to_owned(),
        location: location.to_owned(),
        sha256: Sha256Digest([body.len() as u8; 32]),
        body: body.to_vec(),
        fetched_at: NOW,
        etag: Some("\"1\"".to_owned()),
        last_modified: None,
        version: "2.1".to_owned(),
    }
}

fn links() -> Vec<(String, String)> {
    vec![("en-us".to_owned(), "http://dl.example/en.rtf".to_owned())]
}

async fn record(store: &Store, location: &str, revisions: Vec<NewRevision>) -> crate::updates::Recorded {
    let document = document(location, location.as_bytes());
    store.write(move |w| w.record_catalog(&document, &revisions, &links(), NOW)).await.unwrap()
}

#[test]
fn another_digest_is_the_next_revision_and_the_highest_build_is_the_latest() {
    let (_folder, store) = store();
    runtime().block_on(async {
        let first = record(&store, "a", vec![revision("en-us", 20, 1), revision("de-de", 20, 2)]).await;
        assert_eq!((first.new, first.revised), (2, 0));
        let older = record(&store, "b", vec![revision("en-us", 10, 3)]).await;
        assert_eq!((older.new, older.revised, older.withdrawn), (0, 1, 0));
        let id = revision("en-us", 20, 1).update;
        let update = store.read(move |r| r.feature_update(id)).await.unwrap().unwrap();
        assert_eq!((update.id.number, update.build.as_deref()), (RevisionNumber(1), Some("26200.20")));
        assert_eq!(store.read(move |r| r.revisions(id)).await.unwrap().len(), 2);

        let same = record(&store, "a", vec![revision("en-us", 20, 1)]).await;
        assert_eq!(
            (same.new, same.revised, same.unchanged, same.withdrawn),
            (0, 0, 1, 1),
            "de-de is listed no more"
        );
        let all = store.read(|r| r.feature_updates()).await.unwrap();
        let listed: Vec<_> = all.iter().map(|u| (u.language.as_str(), u.listed)).collect();
        assert_eq!(listed, [("de-de", false), ("en-us", true)]);
    });
}

/// A catalog that takes a newer build back lists the one before it again, and that one is what is offered.
#[test]
fn what_a_catalog_takes_back_is_not_the_latest_any_more() {
    let (_folder, store) = store();
    runtime().block_on(async {
        let (good, bad) = (revision("en-us", 10, 1), revision("en-us", 20, 2));
        let id = good.update;
        let latest = async || {
            let update = store.read(move |r| r.feature_update(id)).await.unwrap().unwrap();
            (update.id.number.0, update.listed)
        };
        record(&store, "a", vec![good.clone()]).await;
        assert_eq!(record(&store, "a", vec![bad.clone()]).await.revised, 1);
        assert_eq!(latest().await, (2, true));
        let back = record(&store, "a", vec![good.clone()]).await;
        assert_eq!((back.new, back.revised, back.unchanged, back.withdrawn), (0, 0, 1, 0));
        assert_eq!(latest().await, (1, true), "the one that is listed");
        // Another catalog has it still.
        record(&store, "b", vec![bad]).await;
        assert_eq!(latest().await, (2, true));
        record(&store, "b", vec![]).await;
        assert_eq!(latest().await, (1, true));
        // Nobody lists anything any more: what is withdrawn is what was offered, and not what was taken back before.
        assert_eq!(record(&store, "a", vec![]).await.withdrawn, 1);
        assert_eq!(latest().await, (1, false));
    });
}

#[test]
fn new_facts_about_a_known_file_are_merged() {
    let (_folder, store) = store();
    runtime().block_on(async {
        record(&store, "a", vec![revision("en-us", 20, 1)]).await;
        let mut more = revision("en-us", 20, 1);
        more.files[0].digests.sha256 = Some(Sha256Digest([9; 32]));
        more.editions = vec!["Professional".to_owned()];
        more.files[0].urls[0].url = "http://other.example/x.esd".to_owned();
        let merged = record(&store, "b", vec![more]).await;
        assert_eq!((merged.new, merged.revised, merged.unchanged), (0, 0, 1));
        let all = store.read(|r| r.feature_updates()).await.unwrap();
        assert_eq!(all[0].digests.sha256, Some(Sha256Digest([9; 32])));
        assert_eq!(all[0].editions, ["Enterprise", "Professional"]);
        assert_eq!(all[0].urls.len(), 2);
        // The same SHA-1 with another SHA-256 is another file: somebody lies, and nothing is merged.
        let mut lie = revision("en-us", 20, 1);
        lie.files[0].digests.sha256 = Some(Sha256Digest([8; 32]));
        assert_eq!(record(&store, "c", vec![lie]).await.revised, 1);
    });
}

#[test]
fn documents_are_kept_to_the_byte() {
    let (_folder, store) = store();
    runtime().block_on(async {
        let body: Vec<u8> = (0..70_000_u32).flat_map(u32::to_le_bytes).collect();
        let new = document("a", &body);
        store.write(move |w| w.record_catalog(&new, &[revision("en-us", 1, 1)], &[], NOW)).await.unwrap();
        let kept = store.read(|r| r.latest_document("esd", "a")).await.unwrap().unwrap();
        assert_eq!((kept.size, kept.etag.as_deref()), (280_000, Some("\"1\"")));
        assert_eq!(store.read(move |r| r.document_body(kept.id)).await.unwrap().unwrap(), body);
    });
}

#[test]
fn a_licence_is_about_a_text() {
    let (_folder, store) = store();
    runtime().block_on(async {
        record(&store, "a", vec![revision("en-us", 20, 1), revision("de-de", 20, 2)]).await;
        let id = revision("en-us", 20, 1).update;
        let state = || store.read(move |r| Ok(r.feature_update(id)?.unwrap().license));
        assert_eq!(state().await.unwrap(), LicenseState::Pending);
        assert_eq!(store.read(move |r| r.license_links(id, "en-us")).await.unwrap().len(), 1);

        let text = |byte: u8, origin: &str| LicenseText {
            sha256: Sha256Digest([byte; 32]),
            body: vec![byte],
            origin: origin.to_owned(),
            fetched_at: NOW,
        };
        let first = text(1, "http://dl.example/en.rtf");
        let decide = |digest: Option<Sha256Digest>, accepted: bool| {
            store.write(move |w| {
                w.record_license_decision(id, "en-us", digest, accepted, "admin", How::ByHand, NOW)
            })
        };
        store.write(move |w| w.record_license_text(id, "en-us", &first)).await.unwrap();
        decide(Some(Sha256Digest([1; 32])), true).await.unwrap();
        assert_eq!(state().await.unwrap(), LicenseState::Accepted);
        decide(Some(Sha256Digest([1; 32])), false).await.unwrap();
        assert_eq!(state().await.unwrap(), LicenseState::Declined);
        decide(Some(Sha256Digest([1; 32])), true).await.unwrap();
        let decision = store.read(move |r| r.license_decision(id)).await.unwrap().unwrap();
        assert_eq!((decision.who.as_str(), decision.accepted), ("admin", true));

        let second = text(2, "http://dl.example/en.rtf");
        store.write(move |w| w.record_license_text(id, "en-us", &second)).await.unwrap();
        assert_eq!(state().await.unwrap(), LicenseState::Pending, "another text asks again");
        decide(Some(Sha256Digest([2; 32])), true).await.unwrap();
        assert_eq!(state().await.unwrap(), LicenseState::Accepted);

        // The catalog links to another document now: nobody knows its text yet.
        let moved = document("a", b"moved");
        let links = vec![("en-us".to_owned(), "http://dl.example/en-2.rtf".to_owned())];
        store
            .write(move |w| w.record_catalog(&moved, &[revision("en-us", 20, 1)], &links, NOW))
            .await
            .unwrap();
        assert_eq!(state().await.unwrap(), LicenseState::Pending);
        assert!(store.read(move |r| r.license_text(id, "en-us")).await.unwrap().is_none());
    });
}

#[test]
fn what_a_place_lists_that_is_asked_no_more_is_withdrawn_and_imports_stay() {
    let (_folder, store) = store();
    runtime().block_on(async {
        record(&store, "a", vec![revision("en-us", 20, 1), revision("de-de", 20, 2)]).await;
        record(&store, "b", vec![revision("en-us", 10, 3)]).await;
        let imported = revision("fr-fr", 20, 4);
        let (en, fr) = (revision("en-us", 20, 1).update, imported.update);
        let of_import = NewDocument { source: IMPORT.to_owned(), ..document("file", b"file") };
        store.write(move |w| w.record_catalog(&of_import, &[imported], &[], NOW)).await.unwrap();
        let place = |location: &str| ("esd".to_owned(), location.to_owned());
        let end = |asked: Vec<(String, String)>| {
            let store = store.clone();
            async move {
                let end = store.write(move |w| w.end_listings(&w.places_besides(&asked)?));
                end.await.unwrap()
            }
        };
        assert_eq!(end(vec![place("a"), place("b"), place("c")]).await, 0);
        assert_eq!(
            end(vec![place("b"), ("other".to_owned(), "a".to_owned())]).await,
            1,
            "de-de is listed nowhere"
        );
        let latest = store.read(move |r| r.feature_update(en)).await.unwrap().unwrap();
        assert_eq!(
            (latest.listed, latest.build.as_deref()),
            (true, Some("26200.10")),
            "the one that b lists"
        );
        for (location, lists) in [("a", false), ("b", true)] {
            assert_eq!(store.read(move |r| r.lists_anything("esd", location)).await.unwrap(), lists);
        }
        // Asked again, it is as it was; and nothing that is configured leaves what was imported.
        assert_eq!(record(&store, "a", vec![revision("de-de", 20, 2)]).await.unchanged, 1);
        assert_eq!(end(Vec::new()).await, 2);
        assert!(store.read(move |r| r.feature_update(fr)).await.unwrap().unwrap().listed);
    });
}

#[test]
fn sizes_together_are_never_more_than_a_number_can_be() {
    let (_folder, store) = store();
    runtime().block_on(async {
        let large = |language: &str, seed: u32| {
            let mut large = revision(language, 20, seed);
            large.files.iter_mut().for_each(|file| file.size = 1 << 62);
            large
        };
        record(&store, "a", vec![large("en-us", 1), large("de-de", 2), large("fr-fr", 3)]).await;
        let known = store.read(|r| r.names_known()).await.unwrap();
        assert_eq!(known.products[0].bytes, i64::MAX as u64);
        let mut larger = large("es-es", 4);
        larger.files[0].size = u64::MAX;
        let document = document("b", b"b");
        let refused =
            store.write(move |w| w.record_catalog(&document, &[larger], &[], NOW)).await.unwrap_err();
        assert!(!refused.to_string().contains("the database holds"), "{refused}");
    });
}

#[test]
fn packages_follow_the_rules_and_share_content() {
    let (_folder, store) = store();
    runtime().block_on(async {
        record(&store, "a", vec![revision("en-us", 20, 1)]).await;
        let site = "XYZ".parse().unwrap();
        let new = |name: &str| NewPackage {
            name: name.to_owned(),
            description: String::new(),
            source_dir: None,
            access: Access::Public,
        };
        let create = |new: NewPackage| {
            let site: catalog::id::SiteCode = "XYZ".parse().unwrap();
            store.write(move |w| w.create_package(&site, &new, NOW))
        };
        let package = create(new("Upgrades")).await.unwrap();
        assert_eq!(package.as_str(), "XYZ00001");
        for (bad, code) in [
            (new(""), Code::NameRequired),
            (new(&"x".repeat(51)), Code::NameTooLong),
            (new("UPGRADES"), Code::NameInUse),
            (NewPackage { description: "x".repeat(128), ..new("b") }, Code::DescriptionTooLong),
        ] {
            assert_eq!(create(bad).await.unwrap_err().code(), code);
        }
        let member = NewMember {
            revision: store.read(|r| Ok(r.feature_updates()?[0].id)).await.unwrap(),
            title: String::new(),
            size: 1,
        };
        let (id, one) = (package.clone(), member.clone());
        store.write(move |w| w.add_members(&id, &[one], NOW)).await.unwrap();
        let content = Sha256Digest([7; 32]);
        let id = package.clone();
        store
            .write(move |w| {
                w.record_content(content, Sha1Digest([1; 20]), 1_001, true, NOW)?;
                let file = w.package_files(&id)?[0].file;
                w.mark_file_stored(&id, file, content, NOW)?;
                w.distribute(&id, 1, NOW)
            })
            .await
            .unwrap();
        assert_eq!(store.read(|r| r.shelf()).await.unwrap().len(), 1);
        let second = store
            .write(move |w| {
                let id = w.create_package(&site, &new("Second"), NOW)?;
                w.add_members(&id, &[member], NOW)?;
                Ok(id)
            })
            .await
            .unwrap();
        let id = second.clone();
        let files = store.read(move |r| r.package_files(&id)).await.unwrap();
        assert_eq!(
            (files[0].state, files[0].sha256),
            (FileState::Stored, Some(content)),
            "not fetched again"
        );
        // Content is as private as the most public package that has it, distributed or not.
        for (first, other, private) in [
            (Access::Public, Access::Public, false),
            (Access::Private, Access::Public, false),
            (Access::Public, Access::Private, false),
            (Access::Private, Access::Private, true),
        ] {
            let (one, two) = (package.clone(), second.clone());
            let shelf = store
                .write(move |w| {
                    w.set_package_access(&one, first)?;
                    w.set_package_access(&two, other)?;
                    Ok((w.shelf()?, w.content_sources()?))
                })
                .await
                .unwrap();
            assert_eq!(shelf.0[0].private, private, "{first} and {other}");
            assert_eq!(shelf.1.is_empty(), private, "strangers are not asked for what is private");
        }
        assert!(store.read(|r| r.unused_contents()).await.unwrap().is_empty());
        store.write(move |w| w.forget_content(content)).await.unwrap();
        assert!(store.read(|r| r.shelf()).await.unwrap().is_empty());
        let id = package.clone();
        let files = store.read(move |r| r.package_files(&id)).await.unwrap();
        assert_eq!(files[0].state, FileState::Queued);
        // Sent anew while it lacks the file, a package misses it all the same; the file is served when it is there again.
        let (id, other) = (package.clone(), second.clone());
        let (shelf, state) = store
            .write(move |w| {
                w.distribute(&id, 1, NOW)?;
                w.distribute(&other, 1, NOW)?;
                w.record_content(content, Sha1Digest([1; 20]), 1_001, true, NOW)?;
                w.mark_file_stored(&id, files[0].file, content, NOW)?;
                w.lacks_no_more(content)?;
                Ok((w.shelf()?, w.package_files(&other)?[0].state))
            })
            .await
            .unwrap();
        assert_eq!(shelf.iter().map(|row| &row.package).collect::<Vec<_>>(), [&package]);
        assert_eq!(state, FileState::Stored);
        let next = create(NewPackage {
            name: "Third".to_owned(),
            description: String::new(),
            source_dir: None,
            access: Access::Public,
        });
        assert_eq!(next.await.unwrap().as_str(), "XYZ00003");
    });
}

#[test]
fn who_does_not_wait_for_an_answer_takes_no_reader_away() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
    runtime().block_on(async {
        let (begun, begins) = std::sync::mpsc::channel();
        let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
        let asked = store.clone();
        let asking = tokio::spawn(async move {
            let question = move |_: &crate::Reader<'_>| {
                begun.send(()).unwrap();
                let _ = goes_on.recv();
                Ok(())
            };
            asked.read(question).await
        });
        // It is dropped in the middle of its question, which goes on.
        tokio::task::spawn_blocking(move || begins.recv().unwrap()).await.unwrap();
        asking.abort();
        assert!(asking.await.unwrap_err().is_cancelled());
        let next = tokio::spawn({
            let store = store.clone();
            async move { store.read(|r| r.contents()).await }
        });
        tokio::task::yield_now().await;
        drop(go_on);
        assert_eq!(next.await.unwrap().expect("it waits for its turn").len(), 0);
    });
}

#[test]
fn a_failed_change_changes_nothing_and_the_writer_lives_on() {
    let (_folder, store) = store();
    runtime().block_on(async {
        let failed: Result<(), _> = store
            .write(|w| {
                w.audit("admin", "x", "y", NOW)?;
                Err(SchemaError::Value("no".to_owned()))
            })
            .await;
        assert!(failed.is_err());
        let died: Result<(), _> = store
            .write(|w| {
                w.audit("admin", "x", "y", NOW)?;
                panic!("a defect");
            })
            .await;
        assert!(matches!(died, Err(SchemaError::Died)));
        assert!(store.read(|r| r.acts(9)).await.unwrap().is_empty());
        store.write(|w| w.audit("admin", "x", "y", NOW)).await.unwrap();
        assert_eq!(store.read(|r| r.acts(9)).await.unwrap().len(), 1);
    });
    store.close().unwrap();
    assert!(matches!(runtime().block_on(store.write(|_| Ok(()))), Err(SchemaError::Closed)));
}

#[test]
fn four_thousand_records_are_one_short_transaction() {
    let (_folder, store) = store();
    let all: Vec<_> = (0..4_000)
        .map(|i| NewRevision { update: UpdateId::of_unrecognised(&i.to_string()), ..revision("en-us", i, i) })
        .collect();
    let recorded = runtime().block_on(record(&store, "a", all));
    assert_eq!(recorded.new, 4_000);
    assert_eq!(runtime().block_on(store.read(|r| r.feature_updates())).unwrap().len(), 4_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever the order in which catalogs arrive, the same revision is the latest.
    #[test]
    fn the_order_of_catalogs_does_not_matter(order in Just(vec![0_usize, 1, 2, 3]).prop_shuffle()) {
        let (_folder, store) = store();
        let catalogs = [(5, 50), (9, 51), (9, 51), (7, 52)];
        runtime().block_on(async {
            for index in order {
                let (minor, seed) = catalogs[index];
                record(&store, &format!("catalog-{index}"), vec![revision("en-us", minor, seed)]).await;
            }
            let all = store.read(|r| r.feature_updates()).await.unwrap();
            assert_eq!(all.len(), 1);
            assert_eq!(all[0].build.as_deref(), Some("26200.9"));
            let id = all[0].id.update;
            assert_eq!(store.read(move |r| r.revisions(id)).await.unwrap().len(), 3);
        });
    }
}

/// Who asked went away: its question does not keep the only connection from all others, and theirs is answered whole.
#[test]
fn a_question_that_nobody_waits_for_ends() {
    const ENDLESS: &str =
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS n FROM n";
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for _ in 0..3 {
            let endless = store.read(|r| r.first(ENDLESS, [], |row| Ok(row.get::<_, i64>("n")?)));
            let waited = tokio::time::timeout(std::time::Duration::from_millis(50), endless).await;
            assert!(waited.is_err(), "it never ends by itself");
            let many = ENDLESS.replace("FROM n)", "FROM n WHERE i < 200000)");
            let next = store.read(move |r| r.first(&many, [], |row| Ok(row.get::<_, i64>("n")?)));
            let next = tokio::time::timeout(std::time::Duration::from_secs(60), next).await;
            assert_eq!(next.expect("the connection is free").unwrap(), Some(200_000));
        }
    });
    store.close().unwrap();
}
