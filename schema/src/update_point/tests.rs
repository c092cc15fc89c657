use std::fmt::Write as _;

use catalog::id::RevisionNumber;
use catalog::limits::Limits;
use catalog::update::parse;

use super::*;
use crate::Store;
use crate::metadata::Prepared;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn id(n: u128) -> UpdateId {
    UpdateId(Uuid::from_u128(n))
}

fn sha(n: u8) -> Sha1Digest {
    Sha1Digest([n; 20])
}

/// A document of a kind, in categories, with files and licence texts by the bytes of their digests.
#[derive(Debug, Clone, Default)]
struct Draft {
    id: u128,
    number: u32,
    kind: &'static str,
    categories: Vec<u128>,
    files: Vec<u8>,
    licenses: Vec<u8>,
}

fn draft(id: u128, number: u32, kind: &'static str, categories: &[u128]) -> Draft {
    Draft { id, number, kind, categories: categories.to_vec(), ..Draft::default() }
}

fn prepared(draft: &Draft) -> Prepared {
    let mut xml = format!(
        "<Update xmlns=\"{}\"><UpdateIdentity UpdateID=\"{}\" RevisionNumber=\"{}\"/><Properties UpdateType=\"{}\"/>",
        catalog::update::NAMESPACE,
        id(draft.id),
        draft.number,
        draft.kind
    );
    let file = |name: &str, n: u8| {
        format!(
            "<{name} Digest=\"{}\" DigestAlgorithm=\"SHA1\" FileName=\"f{n}.cab\" Size=\"1\" Language=\"l{n}\"/>",
            sha(n).to_base64()
        )
    };
    for n in &draft.licenses {
        xml += &file("EulaFile", *n);
    }
    if !draft.categories.is_empty() {
        xml += "<Relationships><Prerequisites>";
        for category in &draft.categories {
            write!(
                xml,
                "<AtLeastOne IsCategory=\"true\"><UpdateIdentity UpdateID=\"{}\"/></AtLeastOne>",
                id(*category)
            )
            .unwrap();
        }
        xml += "</Prerequisites></Relationships>";
    }
    xml += "<Files>";
    for n in &draft.files {
        xml += &file("File", *n);
    }
    xml += "</Files></Update>";
    Prepared::new(parse(xml.as_bytes(), &Limits::default()).unwrap(), xml.as_bytes()).unwrap()
}

async fn site(drafts: &[Draft]) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("site.db"), 2).unwrap();
    add(&store, drafts).await;
    (folder, store)
}

/// Records documents; their rows follow the numbers of those before.
async fn add(store: &Store, drafts: &[Draft]) {
    let documents: Vec<_> = drafts.iter().map(prepared).collect();
    store
        .write(move |w| {
            for one in &documents {
                w.record_metadata("test", one, NOW)?;
            }
            Ok(())
        })
        .await
        .unwrap();
}

/// Ids below 100 are classifications, below 1000 categories: company 100, family 200, products 300 to 302.
const COMPANY: u128 = 100;
const FAMILY: u128 = 200;

fn tree() -> Vec<Draft> {
    vec![
        draft(1, 1, "Category", &[]),
        draft(2, 1, "Category", &[]),
        draft(COMPANY, 1, "Category", &[]),
        draft(FAMILY, 1, "Category", &[COMPANY]),
        draft(300, 1, "Category", &[FAMILY]),
        draft(301, 1, "Category", &[FAMILY]),
        draft(900, 1, "Detectoid", &[]),
        // Rows 8 to 13.
        draft(1_000, 1, "Software", &[1, 300]),
        draft(1_000, 2, "Software", &[1, 300]),
        draft(1_001, 1, "Software", &[2, 300, 301]),
        draft(1_002, 1, "Driver", &[1, 301]),
        draft(1_003, 1, "Software", &[1, 302]),
        draft(1_004, 1, "Software", &[]),
    ]
}

fn of(ids: &[(u128, bool)]) -> Vec<Membership> {
    ids.iter().map(|(n, only_newer)| Membership { id: id(*n), only_newer: *only_newer }).collect()
}

async fn listed(
    store: &Store,
    after: i64,
    categories: &[(u128, bool)],
    classifications: &[(u128, bool)],
) -> Vec<(u128, u32)> {
    let filter = RevisionFilter { after, categories: of(categories), classifications: of(classifications) };
    let found = store.read(move |r| r.update_revisions(&filter)).await.unwrap();
    found.into_iter().map(|one| (one.update.0.as_u128(), one.number.0)).collect()
}

#[test]
fn a_filter_is_any_category_and_any_classification_of_the_highest_revision() {
    runtime().block_on(async {
        let (_folder, store) = site(&tree()).await;
        let all = [(1_000, 2), (1_001, 1), (1_002, 1), (1_003, 1), (1_004, 1)];
        let (t, f) = (true, false);
        for (what, after, categories, classifications, expected) in [
            ("nothing named", 0, vec![], vec![], all.to_vec()),
            ("nothing named, after", 9, vec![], vec![], all[1..].to_vec()),
            ("one product and class", 0, vec![(300, f)], vec![(1, f)], vec![(1_000, 2)]),
            ("delta of nothing known", 0, vec![(300, t)], vec![(1, t)], vec![(1_000, 2)]),
            ("two products", 0, vec![(300, f), (301, f)], vec![(1, f)], vec![(1_000, 2), (1_002, 1)]),
            ("two classes", 0, vec![(300, f)], vec![(1, f), (2, f)], vec![(1_000, 2), (1_001, 1)]),
            ("only categories", 0, vec![(300, f)], vec![], vec![]),
            ("only classifications", 0, vec![], vec![(1, f)], vec![]),
            ("unknown category", 0, vec![(7, f)], vec![(1, f)], vec![]),
            ("unknown classification", 0, vec![(300, f)], vec![(7, f)], vec![]),
            ("unknown beside known", 0, vec![(7, f), (300, f)], vec![(1, f), (8, f)], vec![(1_000, 2)]),
            ("a product without a document", 0, vec![(302, f)], vec![(1, f)], vec![(1_003, 1)]),
            ("a family", 0, vec![(FAMILY, f)], vec![(1, f), (2, f)], all[..3].to_vec()),
            ("a company", 0, vec![(COMPANY, f)], vec![(1, f), (2, f)], all[..3].to_vec()),
            ("named twice", 0, vec![(301, f), (301, t)], vec![(2, f), (2, f)], vec![(1_001, 1)]),
            // Rows: 9 is 1000/2, 10 is 1001, 11 is 1002.
            ("newer", 9, vec![(300, t), (301, t)], vec![(1, t), (2, t)], all[1..3].to_vec()),
            ("newer than all", 13, vec![(300, t)], vec![(1, t)], vec![]),
            ("the future", i64::MAX, vec![(300, t)], vec![(1, t)], vec![]),
            (
                "a new product",
                13,
                vec![(300, t), (301, f)],
                vec![(1, t), (2, t)],
                vec![(1_001, 1), (1_002, 1)],
            ),
            ("a new class", 13, vec![(300, t)], vec![(1, t), (2, f)], vec![(1_001, 1)]),
            ("all new, with an anchor", 13, vec![(300, f)], vec![(1, f)], vec![(1_000, 2)]),
            ("a family, newer", 10, vec![(FAMILY, t)], vec![(1, t), (2, t)], vec![(1_002, 1)]),
        ] {
            assert_eq!(listed(&store, after, &categories, &classifications).await, expected, "{what}");
        }
    });
}

#[test]
fn a_product_that_comes_below_a_family_later_brings_its_older_updates() {
    runtime().block_on(async {
        let (_folder, store) = site(&tree()).await;
        let family = [(FAMILY, true)];
        assert_eq!(listed(&store, 13, &family, &[(1, true)]).await, []);
        add(&store, &[draft(302, 1, "Category", &[FAMILY])]).await;
        assert_eq!(listed(&store, 13, &family, &[(1, true)]).await, [(1_003, 1)]);
        assert_eq!(listed(&store, 14, &family, &[(1, true)]).await, []);
        // A circle of categories ends.
        add(&store, &[draft(FAMILY, 2, "Category", &[302, COMPANY])]).await;
        assert_eq!(listed(&store, 0, &[(302, false)], &[(1, false)]).await.len(), 3);
        // A newer revision that belongs elsewhere takes the update out.
        add(&store, &[draft(1_003, 2, "Software", &[1, 300])]).await;
        assert_eq!(listed(&store, 0, &[(302, false)], &[(2, false)]).await, [(1_001, 1)]);
        assert_eq!(listed(&store, 15, &[(300, true)], &[(1, true)]).await, [(1_003, 2)]);
    });
}

#[test]
fn configuration_has_every_revision_of_what_is_no_update() {
    runtime().block_on(async {
        let (_folder, store) = site(&tree()).await;
        add(&store, &[draft(300, 5, "Category", &[FAMILY]), draft(300, 4, "Category", &[FAMILY])]).await;
        let listed = |after| {
            let store = store.clone();
            async move {
                let found = store.read(move |r| r.configuration_revisions(after)).await.unwrap();
                found.into_iter().map(|one| (one.update.0.as_u128(), one.number.0)).collect::<Vec<_>>()
            }
        };
        let all =
            [(1, 1), (2, 1), (COMPANY, 1), (FAMILY, 1), (300, 1), (301, 1), (900, 1), (300, 5), (300, 4)];
        assert_eq!(listed(0).await, all);
        assert_eq!(listed(13).await, [(300, 5), (300, 4)]);
        assert_eq!(listed(15).await, []);
        assert_eq!(store.read(|r| r.newest_metadata()).await.unwrap().number, 15);
    });
}

#[test]
fn files_have_their_licences_their_address_and_are_waited_for() {
    runtime().block_on(async {
        let one = Draft { files: vec![3, 1, 3], licenses: vec![9, 1, 8], ..draft(5, 1, "Software", &[]) };
        let (_folder, store) = site(&[one]).await;
        store
            .write(|w| {
                w.record_metadata_url("mu", sha(1), "ftp://odd/")?;
                w.record_metadata_url("mu", sha(3), "http://dl.example/b")?;
                w.record_metadata_url("mu", sha(3), "http://dl.example/a")?;
                // Places of update servers, which come first by name, and are nobody's business below.
                let own = |n| format!("http://a.corp:8530/{}", content_path(sha(n), "f.CAB"));
                w.record_metadata_url("a", sha(3), &own(3))?;
                w.record_metadata_url("a", sha(9), &own(9).to_lowercase())
            })
            .await
            .unwrap();
        let known = RevisionId { update: id(5), number: RevisionNumber(1) };
        let other = RevisionId { update: id(5), number: RevisionNumber(2) };
        let offered = store.read(move |r| r.offered(&[other, known])).await.unwrap();
        let row = offered[1].map(|one| one.row).unwrap();
        assert_eq!((offered[0], offered[1].map(|one| one.id)), (None, Some(known)));
        assert_eq!(store.read(move |r| r.file_digests(row)).await.unwrap(), [sha(3), sha(1), sha(8), sha(9)]);
        let url = |n| {
            let store = store.clone();
            async move { store.read(move |r| r.published_url(sha(n))).await.unwrap() }
        };
        assert_eq!((url(3).await.as_deref(), url(1).await), (Some("http://dl.example/a"), None));
        assert_eq!(url(9).await, None, "of that one only a private place is known");
        let asked = [sha(1), sha(2), sha(9), sha(4)];
        assert_eq!(store.read(move |r| r.unknown_files(&asked)).await.unwrap(), [sha(2), sha(4)]);

        let want = |n: u8| {
            let store = store.clone();
            async move { store.write(move |w| w.want_files(&[sha(n)], "dss.example", NOW)).await.unwrap() }
        };
        let settled = |since| {
            let store = store.clone();
            async move { store.read(move |r| r.not_waited_for(&[sha(1), sha(8)], since)).await.unwrap() }
        };
        let before = Timestamp::from_millisecond(-1).unwrap();
        assert_eq!(settled(before).await, [sha(1), sha(8)]);
        want(1).await;
        want(1).await;
        want(9).await;
        assert_eq!((settled(before).await, settled(NOW).await), (vec![sha(8)], vec![sha(1), sha(8)]));
        let waiting = |all: Vec<WantedFile>| all.iter().map(|one| (one.sha1, one.asked)).collect::<Vec<_>>();
        let all = store.read(|r| r.wanted_files()).await.unwrap();
        assert_eq!(waiting(all), [(sha(1), 2), (sha(9), 1)]);
        store
            .write(|w| w.record_content(catalog::digest::Sha256Digest([1; 32]), sha(1), 1, false, NOW))
            .await
            .unwrap();
        want(1).await;
        assert_eq!(settled(NOW).await, [sha(8)], "the other is there");
        assert_eq!(waiting(store.read(|r| r.wanted_files()).await.unwrap()), [(sha(9), 1)]);
    });
}

#[test]
fn a_catalog_keeps_its_identity() {
    runtime().block_on(async {
        let (_folder, store) = site(&[]).await;
        assert_eq!(store.read(|r| r.catalog_identity()).await.unwrap(), None);
        assert_eq!(store.read(|r| r.newest_metadata()).await.unwrap().number, 0);
        let at = Timestamp::from_millisecond(1_791_115_258_381).unwrap();
        let made = store.write(move |w| w.catalog_identity(Uuid::from_u128(7), at)).await.unwrap();
        assert_eq!(made, CatalogIdentity { id: Uuid::from_u128(7), since: at });
        let kept = store.write(move |w| w.catalog_identity(Uuid::from_u128(8), NOW)).await.unwrap();
        assert_eq!(kept, made);
        let before = store.read(|r| r.dump()).await.unwrap();
        assert!(!before.contains(&made.id.simple().to_string()) && !before.contains(&made.id.to_string()));
    });
}
