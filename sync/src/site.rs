//! One site, opened: settings, database, content library and what its distribution point may serve.
//!
//! Whoever holds a [`Site`] holds the site lock: there is one at a time, the daemon or one command.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use catalog::id::SiteCode;
use catalog::problem::{Code, Coded, Problem};
use dp::library::Library;
use dp::server::tally::Tally;
use dp::server::{Refusal, Served, Shelf, Source};
use jiff::Timestamp;
use schema::{Reader, SchemaError, Store, Writer};
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::clock;
use crate::config::{Loaded, Settings, ShownKey};
use crate::device_plane::Policies;
use crate::locations::{self, Locations};
use crate::plane::door::{self, Holder, KeyRing};
use crate::point::{self, Live, PointStatus};
use crate::points::delivered::{self, Groups};
use crate::points::hub::Hub;
use crate::points::{self, ShownPoint};
use crate::tasks::Tasks;
use crate::upstream::Webs;

/// How long a command waits for another one to finish with the site.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// An error as users see it.
pub fn problem<E: Coded + 'static>(error: E) -> Problem {
    error.problem()
}

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
    /// What it has served.
    pub served: Arc<Served>,
    /// Told when the shelf is another one.
    pub shelf_changed: tokio::sync::Notify,
    shelving: tokio::sync::Mutex<()>,
    keying: tokio::sync::Mutex<()>,
    /// Who has keys, and how they are shown. Nobody, until they are filled in.
    pub keys: Arc<KeyRing>,
    /// Since when it serves, in this process; a command that works without the daemon serves nobody.
    pub serving_since: OnceLock<Timestamp>,
    /// Where clients find content.
    pub locations: Arc<Locations>,
    /// What devices are told.
    pub policies: Policies,
    /// Long work.
    pub tasks: Tasks,
    /// The distribution points on other machines, from moment to moment.
    pub points: Hub,
    /// What this process is as a distribution point of another site.
    pub point: Live,
    /// The certificate that listeners show, where one listens with TLS.
    pub identity: OnceLock<crate::tls::Identity>,
    /// How each source may be reached.
    pub webs: Webs,
    /// When this process opened the site.
    pub started: Timestamp,
    lock: File,
}

impl Site {
    /// Opens the site of `settings` under its lock, and mends what a dead process left.
    ///
    /// # Errors
    /// `DATA_DIR_NOT_WRITABLE`, `SITE_LOCKED`, those of the database and of the content library.
    pub async fn open(loaded: Loaded) -> Result<Arc<Self>, Problem> {
        let settings = loaded.settings.clone();
        let data_dir = settings.site.data_dir.clone();
        prepare(&data_dir)?;
        let lock = lock(&data_dir).await?;
        let database = settings.db_path();
        let readers = settings.db.readers;
        let content = settings.content_dir();
        let min_free = settings.download.min_free;
        let (store, library) = tokio::task::spawn_blocking(move || -> Result<_, Problem> {
            let store = Store::open(&database, readers).map_err(problem)?;
            let library = Library::open(&content, dp::library::Settings { min_free }).map_err(problem)?;
            Ok((store, library))
        })
        .await
        .map_err(|died| Problem::of(Code::Internal, &died))??;
        // A process may have died between taking content in and recording it; or it may have known that a file is bad of which
        // the disk did not let go.
        let (believing, recorded) =
            (library.clone(), store.read(|r| r.content_digests()).await.map_err(problem)?);
        tokio::task::spawn_blocking(move || believing.believe_only(&recorded))
            .await
            .map_err(|died| Problem::of(Code::Internal, &died))?
            .map_err(problem)?;
        let code = settings.site.code.clone();
        let wanted = code.clone();
        let point = settings.dp.name.clone();
        let kept = store
            .write(move |w| {
                w.mark_interrupted(clock::now())?;
                w.name_own_point(&point)?;
                let code = w.site_code(&wanted, clock::now())?;
                w.name_default_group(code.as_str())?;
                Ok(code)
            })
            .await
            .map_err(problem)?;
        if kept != code {
            let message = format!("this site was started as `{kept}`, and a site keeps its code");
            return Err(
                Problem::new(Code::ConfigInvalid, message).help(format!("set `[site] code = \"{kept}\"`"))
            );
        }
        let site = Arc::new(Self {
            webs: Webs::new(),
            identity: OnceLock::new(),
            points: Hub::default(),
            point: Live::default(),
            loaded: ArcSwap::from_pointee(loaded),
            code,
            tasks: Tasks::new(store.clone()),
            store,
            library,
            shelf: Arc::default(),
            shelving: tokio::sync::Mutex::default(),
            keying: tokio::sync::Mutex::default(),
            shelf_changed: tokio::sync::Notify::default(),
            served: Arc::default(),
            keys: Arc::default(),
            serving_since: OnceLock::new(),
            locations: Arc::default(),
            policies: Policies::default(),
            started: clock::now(),
            lock,
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
        Arc::new(self.loaded.load().settings.clone())
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
        self.store.read(question).await.map_err(problem)
    }

    /// One transaction, durable when it returns.
    ///
    /// # Errors
    /// Those of the database; nothing was written then.
    pub async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Writer<'_>) -> Result<T, SchemaError> + Send + 'static,
    ) -> Result<T, Problem> {
        self.store.write(change).await.map_err(problem)
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
            let (shelf, places) = self
                .read(move |r| match settings.dp.is_site() {
                    true => Ok((crate::packages::shelf(r)?, locations::places(r, &settings, &hearing)?)),
                    // Where else content is, only the site knows.
                    false => Ok((point::shelf(r, &assignment)?, locations::told(&assignment.groups))),
                })
                .await?;
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
        let holders = self
            .read(move |r| match settings.dp.is_site() {
                true => door::holders(r),
                false => Ok(assignment.keys.iter().map(|hash| (*hash, Holder::Other)).collect()),
            })
            .await?;
        self.keys.replace(holders);
        Ok(())
    }

    /// Makes answers about locations follow from what the database says now. [`Site::refresh_shelf`] does so too.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn refresh_locations(&self) -> Result<(), Problem> {
        let _alone = self.shelving.lock().await;
        let settings = self.settings();
        let hearing = self.points.hearing.clone();
        let places = self.read(move |r| locations::places(r, &settings, &hearing)).await?;
        self.relocate(places);
        Ok(())
    }

    /// Points are told of other groups, to count their clients by.
    fn relocate(&self, places: dp::locate::Places) {
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
        let _ = self.lock.set_len(0);
        let _ = self.lock.unlock();
    }
}

/// Makes sure that the data directory exists and can be written.
fn prepare(data_dir: &Path) -> Result<(), Problem> {
    let failed = |error: std::io::Error| {
        Problem::new(
            Code::DataDirNotWritable,
            format!("the data directory `{}` cannot be written", data_dir.display()),
        )
        .because_of(Some(&error))
    };
    // Others have no business in here: licence decisions, the database, keys to come.
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(data_dir).map_err(failed)?;
    let probe = data_dir.join(format!(".writable-{}", std::process::id()));
    File::create(&probe).map_err(failed)?;
    std::fs::remove_file(&probe).map_err(failed)
}

/// Takes the site lock, waiting a little for a command that is about to end.
async fn lock(data_dir: &Path) -> Result<File, Problem> {
    let path = data_dir.join("spsync.lock");
    let failed = |error: std::io::Error| {
        Problem::new(Code::DataDirNotWritable, format!("the lock `{}` cannot be opened", path.display()))
            .because_of(Some(&error))
    };
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    let since = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(std::fs::TryLockError::WouldBlock) if since.elapsed() < LOCK_PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let message = format!("another process works on this site ({})", holder.trim());
                return Err(
                    Problem::new(Code::SiteLocked, message).because(format!("it holds `{}`", path.display()))
                );
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
    let role = std::env::args().take(4).collect::<Vec<_>>().join(" ");
    let _ = file.set_len(0).and_then(|()| file.rewind());
    let _ = write!(file, "process {}: {role}", std::process::id());
    Ok(file)
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

/// What `spsync status` shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program that answered.
    pub version: String,
    /// Site code.
    pub site: String,
    /// Where the data is.
    pub data_dir: PathBuf,
    /// Since when this process has the site open.
    pub since: Timestamp,
    /// Whether every part is well.
    pub healthy: bool,
    /// What is not well, in words.
    pub warnings: Vec<String>,
    /// The last run, if there was one.
    pub last_run: Option<schema::runs::Run>,
    /// The last run that ended well.
    pub last_ok: Option<schema::runs::Run>,
    /// When the next one is due.
    pub next_run: Option<Timestamp>,
    /// Feature updates in the catalog, and how many of them can be deployed, wait for a licence decision, are
    /// outside the selection, declined, or encrypted.
    pub catalog: crate::updates::Counts,
    /// What the content library holds.
    pub content: Content,
    /// Deployment packages.
    pub packages: usize,
    /// Contents that the distribution point serves.
    pub served_contents: usize,
    /// What was served; `None` where nothing serves, because no daemon runs.
    #[serde(default)]
    pub served: Option<ServedNow>,
    /// Bytes by boundary group of the client and by who served: of this point and of all others, as far as they have said so
    /// since this process started.
    #[serde(default)]
    pub delivered: Groups,
    /// Bytes that clients say they took, by their boundary group and by kind of source, since this process started.
    #[serde(default)]
    pub taken: Groups,
    /// Distribution points on other machines.
    #[serde(default)]
    pub points: Vec<ShownPoint>,
    /// This machine as a distribution point of another site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<PointStatus>,
    /// Deployments that are offered or due, together.
    #[serde(default)]
    pub deployed: crate::deploying::Deployed,
    /// What works now.
    pub tasks: Vec<schema::tasks::Task>,
}

/// What was served since this daemon began to. Nothing of it lasts longer than the process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServedNow {
    /// When it began.
    pub since: Timestamp,
    /// Requests answered.
    pub requests: u64,
    /// Bytes by who served them; those that served nothing are left out.
    pub bytes: BTreeMap<String, u64>,
    /// The same by the boundary group of the client's address.
    #[serde(default)]
    pub groups: Groups,
    /// What was not served, by reason; see `spsync explain` for their codes in the access log.
    pub refused: BTreeMap<String, u64>,
    /// Connections now.
    pub connections: u64,
    /// Bodies above 64 KiB on their way now.
    pub transfers: u64,
}

impl ServedNow {
    fn of(served: &Served, since: Timestamp) -> Self {
        let some = |(_, count): &(String, u64)| *count > 0;
        let sources = Source::ALL.iter().map(|source| (source.name().to_owned(), served.bytes_as(*source)));
        let reasons = Refusal::ALL.iter().map(|reason| (reason.name().to_owned(), served.refused(*reason)));
        Self {
            since,
            requests: served.requests.load(Ordering::Relaxed),
            bytes: sources.filter(some).collect(),
            groups: groups_of(&served.groups, &Source::ALL.map(Source::name)),
            refused: reasons.filter(some).collect(),
            connections: served.connections.load(Ordering::Relaxed),
            transfers: served.transfers.load(Ordering::Relaxed),
        }
    }
}

/// The numbers of each group that are more than nothing, by these names of their kinds.
fn groups_of<const N: usize>(tally: &Tally<N>, names: &[&str; N]) -> Groups {
    let rows = tally.rows().into_iter().map(|row| {
        let kinds = names.iter().enumerate().map(|(kind, name)| ((*name).to_owned(), row.of(kind)));
        (row.group().to_owned(), kinds.filter(|(_, count)| *count > 0).collect::<BTreeMap<_, _>>())
    });
    rows.filter(|(_, kinds)| !kinds.is_empty()).collect()
}

/// What the content library holds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Content {
    /// Files.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes free on that file system.
    pub free_bytes: u64,
}

/// One screen about everything.
///
/// # Errors
/// Those of the database and the content library.
pub async fn status(site: &Arc<Site>) -> Result<Status, Problem> {
    let settings = site.settings();
    let (last_run, last_ok) = site.read(|r| Ok((r.runs(1)?.pop(), r.last_ok_run()?))).await?;
    let catalog = crate::updates::counts(site).await?;
    let packages = site.read(|r| r.packages()).await?.len();
    let library = site.library.clone();
    let usage = tokio::task::spawn_blocking(move || library.usage())
        .await
        .map_err(|died| Problem::of(Code::Internal, &died))?
        .map_err(problem)?;
    let mut warnings = Vec::new();
    let is_site = settings.dp.is_site();
    let mut points = points::all(site).await?;
    points.retain(|shown| shown.point.id != schema::points::OWN_POINT);
    warnings.extend(points::warnings(&points));
    let mut point = (!is_site).then(|| site.point.status(&settings.dp.site));
    if let Some(point) = &mut point {
        point.on_demand = point::demand::status(site).await?;
    }
    if let Some(problem) = point.as_ref().and_then(|point| point.problem.as_ref()) {
        warnings.push(format!("the site {} cannot be asked: {problem}", settings.dp.site));
    }
    match &last_run {
        None if !is_site => {}
        None => warnings.push("never synchronised: `spsync now`".to_owned()),
        Some(run) if run.problem.is_some() => {
            warnings.push(format!("run {} failed: `spsync sync show {}`", run.id, run.id));
        }
        Some(_) => {}
    }
    if usage.free < settings.download.min_free {
        warnings.push("the content library has reached [download] min_free".to_owned());
    }
    let alarms = site.read(|r| r.sha1_alarms()).await?;
    if !alarms.is_empty() {
        warnings.push(format!(
            "{} SHA-1 stand for two different contents each: `spsync content list`",
            alarms.len()
        ));
    }
    let mut all = groups_of(&site.served.groups, &Source::ALL.map(Source::name));
    points.iter().for_each(|shown| delivered::add(&mut all, &shown.served));
    Ok(Status {
        delivered: all,
        taken: groups_of(&site.locations.taken, &locations::taken::KINDS.map(|kind| kind.name())),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        site: site.code().to_string(),
        data_dir: settings.site.data_dir.clone(),
        since: site.started,
        healthy: warnings.is_empty(),
        warnings,
        last_run,
        last_ok,
        next_run: crate::daemon::next_run(&settings, clock::now()),
        catalog,
        content: Content { blobs: usage.blobs, bytes: usage.bytes, free_bytes: usage.free },
        packages,
        served_contents: site.shelf.load().contents.len(),
        served: site.serving_since.get().map(|since| ServedNow::of(&site.served, *since)),
        points,
        point,
        deployed: crate::deploying::deployed(site).await?,
        tasks: site.tasks.running(),
    })
}

/// Says where the site is, once, at the start of a daemon.
pub fn announce(site: &Site) {
    info!(site.code = %site.code(), "site {} works in {}", site.code(), site.settings().site.data_dir.display());
}
