//! With the last public copy of a content it is private wherever else it is: every point is told, and the site knows it too.

use catalog::digest::{Digests, Sha1Digest, Sha256Digest};
use catalog::feature_update::{Shape, ToldBy};
use catalog::id::{PackageId, UpdateId};
use jiff::Timestamp;
use schema::documents::NewDocument;
use schema::keys::{NewEnrolment, NewKeys, PrincipalKind};
use schema::packages::{Access, NewMember, NewPackage};
use schema::points::{Placement, PointRole, Work};
use schema::updates::{NewFile, NewRevision};
use schema::{SchemaError, Writer};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::points::wire::Said;

const CONTENT: Sha256Digest = Sha256Digest([7; 32]);

/// A site that knows one update of one file, and has that; its revision and the number of its file.
fn an_update(w: &Writer<'_>, now: Timestamp) -> Result<NewMember, SchemaError> {
    let document = NewDocument {
        source: "esd".to_owned(),
        location: "x".to_owned(),
        sha256: Sha256Digest([1; 32]),
        body: vec![1],
        fetched_at: now,
        etag: None,
        last_modified: None,
        version: "1".to_owned(),
    };
    let sha1 = Sha1Digest([1; 20]);
    let file = NewFile {
        urls: Vec::new(),
        file_name: "x.esd".parse().expect("a name"),
        size: 9,
        digests: Digests { sha1: Some(sha1), sha256: Some(CONTENT) },
    };
    let revision = NewRevision {
        update: UpdateId::of_esd("Windows 11", 26200, "business", "x64", "en-us"),
        number: None,
        title: "x".to_owned(),
        classification: "Upgrades".to_owned(),
        product: Some("Windows 11".to_owned()),
        products: vec!["Windows 11".to_owned()],
        release: None,
        build: None,
        edition_group: None,
        editions: Vec::new(),
        architecture: "x64".to_owned(),
        language: "en-us".to_owned(),
        shape: Shape::Esd,
        told_by: ToldBy::FileName,
        bases: Vec::new(),
        files: vec![file],
        encrypted: false,
        license_required: false,
        license_key: None,
        licenses: Vec::new(),
        created: None,
        expired: false,
        missing: 0,
    };
    w.record_catalog(&document, &[revision], &[], now)?;
    w.record_content(CONTENT, sha1, 9, false, now)?;
    Ok(NewMember { revision: w.feature_updates()?[0].id, title: "x".to_owned(), size: 9 })
}

/// A package with this update, all of it stored.
fn package(w: &Writer<'_>, name: &str, access: Access, member: &NewMember) -> Result<PackageId, SchemaError> {
    let now = clock::now();
    let new = NewPackage { name: name.to_owned(), description: String::new(), source_dir: None, access };
    let id = w.create_package(&"XYZ".parse().expect("a code"), &new, now)?;
    w.add_members(&id, std::slice::from_ref(member), now)?;
    let file = w.package_files(&id)?[0].file;
    w.mark_file_stored(&id, file, CONTENT, now)?;
    Ok(id)
}

/// Sends a package to a point, where it is in this state then; the order's number.
fn placed(w: &Writer<'_>, id: &PackageId, point: i64, state: ContentState) -> Result<u64, SchemaError> {
    w.distribute(id, point, clock::now())?;
    let order = w.next_order()?;
    let placed = w.placement(id, point)?.ok_or_else(|| SchemaError::Value("gone".to_owned()))?;
    w.put_placement(&Placement { state, order, work: Work::Send, changed: Some(clock::now()), ..placed })?;
    Ok(order)
}

/// A site whose package `all` was public and on `lyon`, `rome` and it itself having the same content in a private package; and what
/// `lyon` is about to report.
struct Stage {
    _folder: TempDir,
    site: Arc<Site>,
    all: PackageId,
    lyon: PointRow,
    rome: i64,
    principal: Principal,
}

const INSTANCE: Uuid = Uuid::from_u128(1);

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = crate::config::Settings::default();
        settings.site.data_dir = folder.path().join("site");
        let site = Site::open(crate::config::Loaded::from(settings)).await.expect("it opens");
        let made = site.write(|w| {
            let now = clock::now();
            let member = an_update(w, now)?;
            let all = package(w, "all", Access::Public, &member)?;
            let few = package(w, "few", Access::Private, &member)?;
            let lyon = w.add_point("lyon", "http://lyon", PointRole::Standard)?;
            let rome = w.add_point("rome", "http://rome", PointRole::Standard)?;
            placed(w, &all, lyon, ContentState::Success)?;
            placed(w, &few, rome, ContentState::Success)?;
            w.distribute(&few, schema::points::OWN_POINT, now)?;
            w.drop_members(&all, &[member.revision], now)?;
            let (kind, name) = (PrincipalKind::Point, "lyon".to_owned());
            let expires = now + std::time::Duration::from_secs(60);
            let token = Sha256Digest([2; 32]);
            w.begin_enrolment(&NewEnrolment { hash: token, kind, name, expires }, now)?;
            let keys = NewKeys { key: Sha256Digest([3; 32]), content: None };
            let principal = w.enrol(token, keys, INSTANCE, now)?;
            let lyon = w.point_row(lyon)?.ok_or_else(|| SchemaError::Value("gone".to_owned()))?;
            Ok((all, lyon, rome, principal))
        });
        let (all, lyon, rome, principal) = made.await.expect("it is written");
        site.refresh_shelf().await.expect("it is read");
        Self { _folder: folder, site, all, lyon, rome, principal }
    }

    /// `lyon` reports; whether `rome` is told that its assignment may be another.
    async fn reports(&self, assignment: Option<String>, packages: Vec<Said>) -> bool {
        let mut told = self.site.points.changes(self.rome);
        told.borrow_and_update();
        let report = Report {
            instance: INSTANCE,
            boot: Uuid::from_u128(2),
            assignment,
            program: "1".to_owned(),
            free: 1 << 30,
            on_demand: false,
            packages: Some(packages),
            changed: None,
            number: None,
            state: None,
            served: Vec::new(),
        };
        let from = "10.0.0.1".parse().expect("an address");
        take(&self.site, &self.principal, &self.lyon, from, report).await.expect("it is taken down");
        told.has_changed().expect("the hub is there")
    }

    /// Whether the content is private: in the database, and where the site answers from.
    async fn private(&self) -> (bool, bool) {
        let recorded = self.site.read(|r| r.is_private(CONTENT)).await.expect("it is read");
        (recorded, self.site.shelf.load().private_elsewhere.contains(&CONTENT))
    }
}

#[tokio::test]
async fn what_leaves_with_an_earlier_version_may_be_the_last_public_copy() {
    let stage = Stage::new().await;
    let (all, lyon) = (stage.all.clone(), stage.lyon.id);
    let order = stage.site.write(move |w| placed(w, &all, lyon, ContentState::Sending)).await.unwrap();
    let said = |state| {
        let package = stage.all.clone();
        vec![Said { package, order, state, done: 0, problem: None, lacks: Vec::new() }]
    };
    assert!(!stage.reports(None, said(ContentState::Verifying)).await, "it goes on with what it has");
    assert_eq!(stage.private().await, (false, false));
    assert!(stage.reports(None, said(ContentState::Success)).await);
    assert_eq!(stage.private().await, (true, true));
}

#[tokio::test]
async fn what_is_taken_off_may_be_the_last_public_copy() {
    let stage = Stage::new().await;
    let (all, lyon) = (stage.all.clone(), stage.lyon.id);
    let removing = move |w: &Writer<'_>| {
        let placed = w.placement(&all, lyon)?.ok_or_else(|| SchemaError::Value("gone".to_owned()))?;
        w.put_placement(&Placement { state: ContentState::Removing, ..placed })
    };
    stage.site.write(removing).await.unwrap();
    assert_eq!(stage.private().await, (false, false));
    let assignment = assign::make(&stage.site, stage.lyon.id, Form::KeysApart).await.unwrap().etag;
    assert!(stage.reports(Some(assignment), Vec::new()).await);
    assert_eq!(stage.private().await, (true, true));
}
