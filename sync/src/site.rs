//! One site, opened: settings, database, content library and what its distribution point may serve.
//!
//! Whoever holds a [`Site`] holds the site lock: there is one at a time, the daemon or one command.

mod lock;
pub mod own;
mod owner;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use catalog::id::SiteCode;
use catalog::problem::{Code, Problem};
use dp::library::Library;
use dp::locate::Places;
use dp::server::{Doubts, Served, Shelf};
use jiff::Timestamp;
use schema::{Reader, SchemaError, Store, Writer};
use tracing::{error, info};
use uuid::Uuid;

use crate::blocking::blocking;
use crate::clock;
use crate::config::{Loaded, Settings, ShownKey};
use crate::device_plane::Policies;
use crate::forgetting::Forgetting;
use crate::locations::{self, Locations};
use crate::plane::door::{self, Holder, KeyRing};
use crate::point::{self, Live};
use crate::points::hub::Hub;
use crate::tasks::Tasks;
use crate::upstream::Webs;
use crate::{tls, whole};

/// A site and everything it works with.
pub struct Site {
    loaded: ArcSwap<Loaded>,
    code: SiteCode,
    /// What the site knows.
    pub store: Store,
    /// The site's content.
    pub library: Library,
    /// What the site's distribution point may serve, replaced whole after each change.
    pub shelf: Arc<ArcSwap<Shelf>>,
    /// Contents that somebody is to look at.
    pub doubts: Arc<Doubts>,
    /// Who it is, in the database and in its library.
    uuid: Uuid,
    /// What it has served.
    pub served: Arc<Served>,
    /// Told when the shelf is another one.
    pub shelf_changed: tokio::sync::Notify,
    shelving: tokio::sync::Mutex<()>,
    relocating: locations::Relocating,
    keying: tokio::sync::Mutex<()>,
    /// Who has keys, and how they are shown. Nobody, until they are filled in.
    pub keys: Arc<KeyRing>,
    /// Since when it serves, in this process; a command that works without the daemon serves nobody.
    pub serving_since: OnceLock<Timestamp>,
    /// Where clients find content.
    pub locations: Arc<Locations>,
    /// What devices are told.
    pub policies: Policies,
    /// What it forgot.
    pub forgetting: Forgetting,
    /// Long work.
    pub tasks: Tasks,
    /// The distribution points on other machines, from moment to moment.
    pub points: Hub,
    /// What this process is as a distribution point of another site.
    pub point: Live,
    /// The certificate that listeners show, where one listens with TLS.
    pub identity: OnceLock<tls::Identity>,
    /// By which names it may be asked: as the settings and the certificate that is shown say.
    pub called: ArcSwap<Vec<String>>,
    /// How each source may be reached.
    pub webs: Webs,
    /// When this process opened the site.
    pub started: Timestamp,
    /// Files of the content library that nobody has recorded, and when the first of them go.
    pub unrecorded: ArcSwapOption<(usize, Timestamp)>,
    /// Why the configuration on disk is not the one in force.
    pub not_reloaded: ArcSwapOption<Problem>,
    locks: Locks,
}

pub(crate) use lock::Locks;

impl Site {
    /// Opens the site of `settings` under its lock, and mends what a dead process left.
    ///
    /// # Errors
    /// `DATA_DIR_NOT_WRITABLE`, `SITE_LOCKED`, those of the database and of the content library.
    pub async fn open(loaded: Loaded) -> Result<Arc<Self>, Problem> {
        let lock = Self::locked(&loaded).await?;
        Self::open_locked(loaded, lock).await
    }

    /// Whether the library says that it is this site's, at this moment: else what is recorded nowhere may be somebody else's.
    ///
    /// # Errors
    /// Those of work that was broken off.
    pub(crate) async fn owns_library(&self) -> Result<bool, Problem> {
        let (library, uuid) = (self.settings().content_dir(), self.uuid);
        blocking(move || Ok(owner::is_ours(&library, uuid))).await
    }

    /// The locks of the site of `settings`, its database and its content library. The data directory is made where there is none.
    ///
    /// # Errors
    /// `DATA_DIR_NOT_WRITABLE`, `SITE_LOCKED`, `DISK_FULL`, `DISK_ERROR`.
    pub(crate) async fn locked(loaded: &Loaded) -> Result<Locks, Problem> {
        prepare(&loaded.settings.site.data_dir)?;
        Locks::of(&loaded.settings).await
    }

    /// The same as [`Site::open`] for who has the locks already.
    ///
    /// # Errors
    /// Those of the database and of the content library; `CONFIG_INVALID` where either is another site's.
    pub(crate) async fn open_locked(loaded: Loaded, locks: Locks) -> Result<Arc<Self>, Problem> {
        let settings = loaded.settings.clone();
        sweep(&settings);
        let database = settings.db_path();
        let readers = settings.db.readers;
        let store = blocking(move || Ok(Store::open(&database, readers)?)).await?;
        let code = settings.site.code.clone();
        let wanted = code.clone();
        let (kept, identity) = store
            .write(move |w| Ok((w.site_code(&wanted, clock::now())?, w.site_identity(Uuid::new_v4())?)))
            .await?;
        if kept != code {
            let message = format!("this site was started as `{kept}`, and a site keeps its code");
            return Err(
                Problem::new(Code::ConfigInvalid, message).help(format!("set `[site] code = \"{kept}\"`"))
            );
        }
        let (content, data_dir) = (settings.content_dir(), settings.site.data_dir.clone());
        let min_free = settings.download.min_free;
        let library = blocking(move || {
            owner::claim(&content, identity, &kept, &data_dir)?;
            Ok(Library::open(&content, dp::library::Settings { min_free })?)
        })
        .await?;
        // A process may have died between taking content in and recording it; or it may have known that a file is bad of which
        // the disk did not let go.
        let (believing, recorded) = (library.clone(), store.read(|r| r.content_digests()).await?);
        blocking(move || Ok(believing.believe_only(&recorded)?)).await?;
        let (point, group) = (settings.dp.name.clone(), code.clone());
        store
            .write(move |w| {
                w.mark_interrupted(clock::now())?;
                w.name_own_point(&point)?;
                w.name_default_group(group.as_str())
            })
            .await?;
        let site = Arc::new(Self {
            webs: Webs::new(),
            identity: OnceLock::new(),
            called: ArcSwap::from_pointee(tls::called(&settings)),
            points: Hub::default(),
            doubts: Arc::default(),
            uuid: identity,
            point: Live::default(),
            loaded: ArcSwap::from_pointee(loaded),
            code,
            tasks: Tasks::new(store.clone()),
            store,
            library,
            shelf: Arc::default(),
            shelving: tokio::sync::Mutex::default(),
            relocating: locations::Relocating::default(),
            keying: tokio::sync::Mutex::default(),
            shelf_changed: tokio::sync::Notify::default(),
            served: Arc::default(),
            keys: Arc::default(),
            serving_since: OnceLock::new(),
            locations: Arc::default(),
            policies: Policies::default(),
            forgetting: Forgetting::default(),
            started: clock::now(),
            unrecorded: ArcSwapOption::empty(),
            not_reloaded: ArcSwapOption::empty(),
            locks,
        });
        if !site.settings().dp.is_site()
            && let Some((etag, assignment)) = site.read(point::recorded).await?
        {
            site.point.adopt(etag, assignment);
        }
        site.keys.door.allow_plain(settings.server.allow_plain_enrolment);
        site.refresh_shelf().await?;
        Ok(site)
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.loaded.load().settings.clone()
    }

    /// Each setting with its origin.
    pub fn shown_settings(&self) -> Vec<ShownKey> {
        self.loaded.load().shown()
    }

    /// The same layers read again, flags included.
    ///
    /// # Errors
    /// `CONFIG_*`.
    pub fn again(&self) -> Result<Loaded, Problem> {
        self.loaded.load().again()
    }

    /// Takes other settings into force; the caller has checked them.
    pub fn reload(&self, loaded: Loaded) {
        self.keys.door.allow_plain(loaded.settings.server.allow_plain_enrolment);
        self.loaded.store(Arc::new(loaded));
        self.webs.reset();
    }

    /// The site code.
    pub fn code(&self) -> &SiteCode {
        &self.code
    }

    /// A question to the database.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader<'_>) -> Result<T, SchemaError> + Send + 'static,
    ) -> Result<T, Problem> {
        Ok(self.store.read(question).await?)
    }

    /// One transaction, durable when it returns.
    ///
    /// # Errors
    /// Those of the database; nothing was written then.
    pub async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Writer<'_>) -> Result<T, SchemaError> + Send + 'static,
    ) -> Result<T, Problem> {
        Ok(self.store.write(change).await?)
    }

    /// What is short and comes from many at once, in a transaction with others ([`Store::write_shared`]).
    ///
    /// # Errors
    /// Those of the database; nothing was written then.
    pub async fn write_shared<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Writer<'_>) -> Result<T, SchemaError> + Send + 'static,
    ) -> Result<T, Problem> {
        Ok(self.store.write_shared(change).await?)
    }

    /// The same for what machines say of themselves ([`Store::write_aside`]).
    ///
    /// # Errors
    /// Those of the database; nothing was written then.
    pub async fn write_aside<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Writer<'_>) -> Result<T, SchemaError> + Send + 'static,
    ) -> Result<T, Problem> {
        Ok(self.store.write_aside(change).await?)
    }

    /// The same for much of it at once ([`Store::write_aside_alone`]).
    ///
    /// # Errors
    /// Those of the database; nothing was written then.
    pub async fn write_aside_alone<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Writer<'_>) -> Result<T, SchemaError> + Send + 'static,
    ) -> Result<T, Problem> {
        Ok(self.store.write_aside_alone(change).await?)
    }

    /// One transaction; where `dry_run`, it is undone, and the answer is what would have come of it.
    ///
    /// # Errors
    /// Those of the database, and of `change`; nothing was written then.
    pub async fn write_unless<T: Send + 'static>(
        &self,
        dry_run: bool,
        change: impl FnOnce(&Writer<'_>) -> Result<T, SchemaError> + Send + 'static,
    ) -> Result<T, Problem> {
        if !dry_run {
            return self.write(change).await;
        }
        let (tell, told) = tokio::sync::oneshot::channel();
        let undone = self.write(move |w| {
            let _ = tell.send(change(w)?);
            Err::<(), _>(Problem::new(Code::Cancelled, "a dry run is undone").into())
        });
        let ended = undone.await;
        told.await.map_err(|_| match ended {
            Err(problem) => problem,
            Ok(()) => Problem::new(Code::Internal, "a dry run was not undone"),
        })
    }

    /// Whoever has this keeps the shelf as it is.
    #[cfg(test)]
    pub(crate) async fn shelving(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.shelving.lock().await
    }

    /// Makes the distribution point serve what the database says now.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn refresh_shelf(&self) -> Result<(), Problem> {
        // One after the other from reading to storing: an older state must not replace a newer one.
        let _one = self.shelving.lock().await;
        loop {
            let settings = self.settings();
            let (tag, assignment) = self.point.assignment();
            let hearing = self.points.hearing.clone();
            let (mut shelf, places) = self
                .read(move |r| match settings.dp.is_site() {
                    true => Ok((crate::packages::shelf(r)?, locations::places(r, &settings, &hearing)?)),
                    // Where else content is, only the site knows.
                    false => Ok((point::shelf(r, &assignment)?, locations::told(&assignment.groups))),
                })
                .await?;
            // Whoever made something of the paths sees without comparing them that they are the same.
            let before = self.shelf.load();
            if shelf.by_upstream == before.by_upstream {
                shelf.by_upstream = before.by_upstream.clone();
            }
            self.shelf.store(Arc::new(shelf));
            self.shelf_changed.notify_one();
            self.relocate(places);
            // A point that was told something else meanwhile must not go on with what it was told before.
            if self.point.assignment().0 == tag {
                return Ok(());
            }
        }
    }

    /// Lets in whoever has a key that is in force now. Who serves calls it at the start and after each change of keys; a
    /// command of its own asks the database.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn refresh_keys(&self) -> Result<(), Problem> {
        // One after the other: who had read before a key was taken back must not let it in again.
        let _alone = self.keying.lock().await;
        let settings = self.settings();
        let (_, assignment) = self.point.assignment();
        let holders = match settings.dp.is_site() {
            true => self.read(door::holders).await?,
            // A database that does not answer keeps none of them in force.
            false => assignment.keys.iter().map(|hash| (*hash, Holder::Other)).collect(),
        };
        self.keys.replace(holders);
        Ok(())
    }

    /// Makes answers about locations follow from what the database says now. [`Site::refresh_shelf`] does so too.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn refresh_locations(&self) -> Result<(), Problem> {
        let _alone = self.shelving.lock().await;
        // Before it is read: what changes from now on is another round.
        let round = self.relocating.begins(Instant::now());
        let settings = self.settings();
        let hearing = self.points.hearing.clone();
        let places = self.read(move |r| locations::places(r, &settings, &hearing)).await?;
        self.relocate(places);
        self.relocating.ends(round, Instant::now());
        Ok(())
    }

    /// Does so in a moment, for all who have asked for it until then. Nobody waits for it.
    pub fn refresh_locations_soon(self: &Arc<Self>) {
        let Some(wait) = self.relocating.is_due(Instant::now()) else { return };
        let site = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            while let Some(site) = site.upgrade() {
                let Err(problem) = site.refresh_locations().await else { return };
                error!("locations cannot be made anew: {problem}");
                drop(site);
                tokio::time::sleep(locations::LONGEST_PAUSE).await;
            }
        });
    }

    /// What answers about locations are made of, as the database says now: what was to be done in a moment is waited for. What
    /// administrators are told is made of this.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn places_now(&self) -> Result<Arc<Places>, Problem> {
        match self.relocating.waits() {
            true => self.refresh_locations().await?,
            // A round that has begun has still to put in what it reads.
            false => drop(self.shelving.lock().await),
        }
        Ok(self.locations.last_made())
    }

    /// Points are told of other groups, to count their clients by.
    fn relocate(&self, places: Places) {
        if self.locations.store(places) {
            self.points.changed();
        }
    }

    /// Ends the work: tasks are marked interrupted, the database is closed, the lock is free.
    pub async fn close(self: Arc<Self>) {
        self.tasks.interrupt().await;
        let store = self.store.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || store.close()).await.unwrap_or(Ok(())) {
            tracing::error!("the database did not close cleanly: {error}");
        }
        self.locks.free();
    }
}

/// What a process that died was about to write goes, wherever a site or point writes files whole ([`whole`]).
fn sweep(settings: &Settings) {
    whole::sweep(&settings.site.data_dir);
    whole::sweep(&tls::folder(settings));
    whole::sweep(&settings.exchange_dir());
    whole::sweep(whole::folder(&settings.point_key_file()));
}

/// Makes sure that the data directory exists and can be written.
fn prepare(data_dir: &Path) -> Result<(), Problem> {
    let failed = |error: std::io::Error| {
        let message = format!("the data directory `{}` cannot be written", data_dir.display());
        Problem::new(whole::code_of(&error), message).because_of(Some(&error))
    };
    // Others have no business in here: licence decisions, the database, keys to come.
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(data_dir).map_err(failed)?;
    own::try_making(data_dir).map_err(failed)
}

/// The name of a user, for the audit; the number where it has none.
pub fn user_name(uid: u32) -> String {
    let known = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = uid.to_string();
    known
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&number.as_str()))
        .map_or_else(|| format!("uid {uid}"), |fields| fields[0].to_owned())
}

/// Says where the site is, once, at the start of a daemon.
pub fn announce(site: &Site) {
    info!(site.code = %site.code(), "site {} works in {}", site.code(), site.settings().site.data_dir.display());
}

/// A site for a test, opened in a folder that goes with it, under settings that `change` makes.
#[cfg(test)]
pub(crate) async fn small(change: impl FnOnce(&mut Settings)) -> (tempfile::TempDir, Arc<Site>) {
    let folder = tempfile::tempdir().expect("a folder");
    let site = small_in(folder.path(), change).await;
    (folder, site)
}

/// The same in this folder, made there or opened again.
#[cfg(test)]
pub(crate) async fn small_in(folder: &Path, change: impl FnOnce(&mut Settings)) -> Arc<Site> {
    let mut settings = Settings::default();
    settings.site.data_dir = folder.join("site");
    // Tests are not about how full the disk of this machine is.
    settings.download.min_free = 0;
    change(&mut settings);
    Site::open(Loaded::from(settings)).await.expect("it opens")
}
