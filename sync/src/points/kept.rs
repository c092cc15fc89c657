//! Assignments that were made: their tags are given again while nothing is another that they are made of.
//!
//! Bodies are not kept. Who asks has the assignment, nearly always, and wants to hear that it is still the one; it is made anew for who
//! has it not. A thousand of them would be a gigabyte.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dp::server::UpstreamPaths;
use jiff::Timestamp;
use schema::assigned::Changes;
use schema::points::PointRow;
use schema::private::Privacy;

use super::assign::{Form, paused};
use super::wire::NetworkGroup;
use crate::config::Settings;
use crate::site::Site;
use crate::tls;

/// The tags that are known.
#[derive(Debug, Default)]
pub struct Kept {
    tags: Mutex<HashMap<(i64, Form), Arc<Tag>>>,
    /// What is known of contents; of all points, which have the same ones.
    pub(super) privacy: Privacy,
}

/// The tag of an assignment, and what it is made of as far as that can be compared.
#[derive(Debug)]
pub(super) struct Tag {
    pub(super) etag: String,
    /// Something of it is private.
    pub(super) private: bool,
    /// When it was read from the database.
    pub(super) changes: Changes,
    pub(super) around: Around,
    pub(super) point: PointRow,
    pub(super) paused: Option<String>,
}

impl Tag {
    /// Whether the assignment would be the same if it was made anew, by what the database says `now` and what stands `around`.
    pub(super) fn is_good(
        &self,
        form: Form,
        changes: &Changes,
        around: &Around,
        settings: &Settings,
        now: Timestamp,
    ) -> bool {
        let same_keys = match form {
            Form::KeysWithin => !self.private || self.changes.keys == changes.keys,
            Form::KeysApart => true,
        };
        self.changes.are_still(changes, &self.point)
            && same_keys
            && self.around == *around
            && self.paused == paused(&self.point, settings, now)
    }
}

/// What of an assignment is in no database.
#[derive(Debug, Clone)]
pub(super) struct Around {
    /// Address of the site's own point.
    pub(super) public_url: String,
    /// The site signs certificates.
    pub(super) has_authority: bool,
    pub(super) groups: Arc<Vec<NetworkGroup>>,
    /// Where the upstream has what is on points.
    pub(super) by_upstream: Arc<UpstreamPaths>,
}

impl Around {
    pub(super) fn of(site: &Site, settings: &Settings) -> Self {
        Self {
            public_url: settings.public_url(),
            has_authority: tls::has_authority(settings),
            groups: site.locations.map(),
            by_upstream: site.shelf.load().by_upstream.clone(),
        }
    }
}

/// What is long is compared by where it is: whoever replaces it with the same leaves it there.
impl PartialEq for Around {
    fn eq(&self, other: &Self) -> bool {
        self.public_url == other.public_url
            && self.has_authority == other.has_authority
            && Arc::ptr_eq(&self.groups, &other.groups)
            && Arc::ptr_eq(&self.by_upstream, &other.by_upstream)
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, HashMap<(i64, Form), Arc<Tag>>> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, point: i64, form: Form) -> Option<Arc<Tag>> {
        self.lock().get(&(point, form)).cloned()
    }

    pub(super) fn keep(&self, point: i64, form: Form, tag: Tag) {
        self.lock().insert((point, form), Arc::new(tag));
    }

    /// Forgets what was made for a point.
    pub(super) fn forget(&self, point: i64) {
        self.lock().retain(|(of, _), _| *of != point);
    }
}

#[cfg(test)]
mod tests {
    use catalog::digest::{Sha1Digest, Sha256Digest};
    use catalog::id::PackageId;
    use dp::server::Shelf;
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;
    use schema::keys::{NewEnrolment, NewKeys, PrincipalKind};
    use schema::packages::Access;
    use schema::points::{ContentState, Placement, PointRole};
    use schema::software::{AppFile, AppRow};
    use schema::{SchemaError, Writer};

    use super::*;
    use crate::config::Loaded;
    use crate::locations::told;
    use crate::points::assign::{make, make_whole};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const ACTS: u8 = 12;

    fn content(number: u8) -> Sha256Digest {
        Sha256Digest([number; 32])
    }

    /// An application of these contents, as it goes to points.
    fn app(w: &Writer<'_>, name: &str, contents: [u8; 2]) -> Result<PackageId, SchemaError> {
        let (id, number) = w.next_id(&"XYZ".parse().expect("a code"))?;
        let file = |number: u8| {
            let file_name = format!("{number}.exe").parse().expect("a name");
            AppFile { file_name, content: content(number), size: 9 }
        };
        let (form, files) = (serde_json::Value::Null, contents.map(file).into());
        let row = AppRow { id: id.clone(), name: name.to_owned(), form, retired: false, created: NOW, files };
        w.create_app(number, &row)?;
        w.software_package(&id, "app", name, NOW)?;
        Ok(id)
    }

    /// A site with two applications that share a content, and two points.
    async fn site() -> (tempfile::TempDir, Arc<Site>, Vec<PackageId>) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = Settings::default();
        settings.site.data_dir = folder.path().join("site");
        let site = Site::open(Loaded::from(settings)).await.expect("it opens");
        let setting_up = site.write(|w| {
            for number in 1..=3 {
                w.record_content(content(number), Sha1Digest([number; 20]), 9, false, NOW)?;
            }
            for name in ["lyon", "rome"] {
                w.add_point(name, &format!("http://{name}"), PointRole::Standard)?;
            }
            Ok(vec![app(w, "one", [1, 2])?, app(w, "other", [2, 3])?])
        });
        let packages = setting_up.await.expect("it is written");
        (folder, site, packages)
    }

    fn write(w: &Writer<'_>, packages: &[PackageId], (act, a, b): (u8, u8, u8)) -> Result<(), SchemaError> {
        let (package, point) = (&packages[usize::from(a % 2)], i64::from(a / 2 % 3) + 1);
        match act {
            0 => {
                w.distribute(package, point, NOW)?;
                let order = w.next_order()?;
                if let Some(placed) = w.placement(package, point)? {
                    w.put_placement(&Placement { state: ContentState::Queued, order, ..placed })?;
                }
            }
            1 => w.withdraw(package, point)?,
            2 => {
                let states = [ContentState::Sending, ContentState::Success, ContentState::Removing];
                let state = states[usize::from(b) % states.len()];
                if let Some(placed) = w.placement(package, point)? {
                    w.put_placement(&Placement { state, ..placed })?;
                }
            }
            3 => w.set_package_access(
                package,
                if b.is_multiple_of(2) { Access::Public } else { Access::Private },
            )?,
            4 => {
                let row = w.point_settings()?.into_iter().find(|row| row.id == point).expect("it is there");
                let pull_from = if b.is_multiple_of(3) { vec!["lyon".to_owned()] } else { Vec::new() };
                let schedule = if b.is_multiple_of(2) { String::new() } else { "closed".to_owned() };
                w.set_point(&PointRow { pull_from, schedule, rate: Some(u64::from(b)), ..row })?;
            }
            5 => {
                let (kind, name) = match b.is_multiple_of(2) {
                    true => (PrincipalKind::Point, "lyon".to_owned()),
                    false => (PrincipalKind::Device, "desk-7".to_owned()),
                };
                let instance = uuid::Uuid::new_v4();
                let hash = Sha256Digest::of(instance.as_bytes());
                let keys = NewKeys { key: hash, content: Some(Sha256Digest::of(&hash.0)) };
                let expires = Timestamp::from_second(100).expect("a small number");
                w.begin_enrolment(&NewEnrolment { hash, kind, name, expires }, NOW)?;
                w.enrol(hash, keys, instance, NOW)?;
            }
            6 => {
                w.revoke(PrincipalKind::Point, "lyon", NOW)?;
            }
            7 => {
                w.revoke(PrincipalKind::Device, "desk-7", NOW)?;
            }
            8 => w.point_seen(point, Some(u64::from(b)), Some("1"), NOW)?,
            _ => {}
        }
        Ok(())
    }

    /// What is in no database.
    fn change_around(site: &Site, act: u8, b: u8) {
        match act {
            9 => {
                let networks = vec![format!("10.0.{b}.0-10.0.{b}.255")];
                site.locations.store(told(&[NetworkGroup { name: "LYON".to_owned(), networks }]));
            }
            10 => {
                let by_upstream =
                    Arc::new(UpstreamPaths::from_iter([(format!("files/{b}"), content(b % 4))]));
                site.shelf.store(Arc::new(Shelf { by_upstream, ..Shelf::default() }));
            }
            11 => {
                let mut settings = (*site.settings()).clone();
                settings.server.public_url = format!("http://site0{}", b % 3);
                site.reload(Loaded::from(settings));
            }
            _ => {}
        }
    }

    #[test]
    fn what_is_given_again_is_what_would_be_made() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let (_folder, site, packages) = runtime.block_on(site());
        let acts = prop::collection::vec((0..ACTS, any::<u8>(), any::<u8>()), 1..4);
        let mut runner = TestRunner::new(ProptestConfig::with_cases(256));
        let again = std::sync::atomic::AtomicU32::new(0);
        let outcome = runner.run(&acts, |acts| {
            runtime.block_on(async {
                for act in acts {
                    let (packages, live) = (packages.clone(), site.clone());
                    live.write(move |w| write(w, &packages, act)).await.expect("it is written");
                    change_around(&site, act.0, act.2);
                    for (point, form) in [1, 2, 3, 4]
                        .into_iter()
                        .flat_map(|point| [(point, Form::KeysWithin), (point, Form::KeysApart)])
                    {
                        let given = make(&site, point, form).await.expect("it is made");
                        let made = make_whole(&site, point, form).await.expect("it is made");
                        prop_assert_eq!(
                            &given.etag,
                            &made.etag,
                            "point {} {:?} after {:?}",
                            point,
                            form,
                            act
                        );
                        prop_assert_eq!((given.private, given.keys), (made.private, made.keys));
                        if given.body.is_none() {
                            again.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        }
                    }
                }
                Ok(())
            })
        });
        outcome.unwrap();
        assert!(again.into_inner() > 500, "it is given again");
    }

    #[tokio::test]
    async fn what_was_made_is_made_again_for_those_alone_on_whom_a_change_bears() {
        let (_folder, site, packages) = site().await;
        let is_kept = async |point, form| {
            let made = make(&site, point, form).await.expect("it is made");
            made.body.is_none()
        };
        let all = async || {
            let mut kept = Vec::new();
            for point in [2, 3] {
                kept.push((is_kept(point, Form::KeysWithin).await, is_kept(point, Form::KeysApart).await));
            }
            kept
        };
        assert_eq!(all().await, [(false, false), (false, false)], "for the first time");
        assert_eq!(all().await, [(true, true), (true, true)]);
        let (one, other) = (packages[0].clone(), packages[1].clone());
        site.write(move |w| w.distribute(&one, 2, NOW)).await.unwrap();
        assert_eq!(all().await, [(false, false), (true, true)], "it is sent to one");
        let packages_of = packages.clone();
        site.write(move |w| write(w, &packages_of, (5, 0, 1))).await.unwrap();
        assert_eq!(
            all().await,
            [(false, true), (true, true)],
            "a device enrols, and one point has what is private"
        );
        site.write(move |w| w.set_package_access(&other, Access::Public)).await.unwrap();
        assert_eq!(all().await, [(true, true), (true, true)], "no point has it");
        site.write(|w| app(w, "new", [1, 3])).await.unwrap();
        assert_eq!(all().await, [(true, true), (true, true)], "it is nowhere yet");
        let private = make(&site, 2, Form::KeysApart).await.unwrap();
        assert!(private.private && private.body.is_none(), "half of it");
        let packages_of = packages.clone();
        site.write(move |w| write(w, &packages_of, (4, 2, 1))).await.unwrap();
        let paused = make_whole(&site, 2, Form::KeysApart).await.unwrap();
        let body = String::from_utf8(paused.body.unwrap().into()).unwrap();
        assert!(body.contains("\"paused\":\"schedule"), "{body}");
        assert!(!body.contains("\"keys\""), "{body}");
        let within = make_whole(&site, 2, Form::KeysWithin).await.unwrap();
        assert!(String::from_utf8(within.body.unwrap().into()).unwrap().contains("\"keys\""));
    }
}
