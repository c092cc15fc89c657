//! Killed at every write, sync and rename, and told by the disk that it cannot: no wrong or half file is ever served, listed
//! or recorded, nothing that was recorded is lost, and the next run completes.
//!
//! Killing a program loses nothing that the kernel has. What a power cut would take is in the order of its calls, which is
//! checked apart: a file is synced after its last write and before it gets its name, the folder after that, and only then the
//! database says that it is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use catalog::digest::Sha256Digest;
use support::{
    CHANGES, Call, CatalogDocument, CatalogFormat, CatalogVersion, Disturbance, KIB, PublishedEsd, Strace,
    TestRng, TestSite, Watched, Way, esd, program,
};
use tempfile::TempDir;
use tokio::process::Command;

/// Kills of one program by default; `SPSYNC_TEST_EVERY_KILL=1` for all that there are.
const KILLS: usize = 40;

fn every_kill() -> bool {
    std::env::var_os("SPSYNC_TEST_EVERY_KILL").is_some()
}

/// A site whose package `p` has one small file, of which only the SHA-1 was published: what its SHA-256 is, nobody can know
/// before it was received.
async fn site() -> (TestSite, PublishedEsd) {
    let mut site = TestSite::with(Way::Alone, |_, _| vec!["placeholder".to_owned()], "").await;
    let esd = site.origin.publish(esd("Windows 11", "en-us").of_size(300 * KIB + 7)).await;
    let document = CatalogDocument {
        version: CatalogVersion::Sha1,
        esds: vec![esd.clone()],
        licenses: site.published.licenses.iter().map(|it| (it.language.clone(), it.url.clone())).collect(),
    };
    let catalog = site.origin.publish_catalog_document("small.cab", &document, CatalogFormat::Cabinet);
    site.configure(|text| text.replace("\"placeholder\"", &format!("{catalog:?}")));
    // Quicker than a process of its own for each command.
    site.start_daemon().await;
    site.package().await;
    (site, esd)
}

/// A machine of its own for one run: a copy of `of`, if there is something to begin with, and the site's configuration.
struct Trial {
    folder: TempDir,
    config: PathBuf,
}

impl Trial {
    fn new(site: &TestSite, of: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let text = std::fs::read_to_string(site.folder.path().join("config.toml")).expect("it is there");
        let here = site.folder.path().to_string_lossy();
        let text = text.replace(&*here, &folder.path().to_string_lossy());
        let config = folder.path().join("config.toml");
        std::fs::write(&config, text).expect("it is written");
        if let Some(of) = of {
            copy(of, &folder.path().join("site"));
        }
        Self { folder, config }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--config").arg(&self.config).args(["-o", "json"]).args(args);
        command
    }

    async fn run(&self, args: &[&str]) -> support::Ran {
        let output = self.command(args).output().await.expect("the program runs");
        support::Ran {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it can be listed");
        if entry.file_type().expect("it has one").is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("it can be copied");
        }
    }
}

/// What is done, and where its files are.
struct Subject<'s> {
    site: &'s TestSite,
    esd: &'s PublishedEsd,
    /// The data to begin with.
    data: Option<PathBuf>,
    args: Vec<&'s str>,
    /// The library, below the folder of a trial.
    library: &'static str,
    /// A database that says what is there.
    database: Option<&'static str>,
}

impl Subject<'_> {
    fn trial(&self) -> Trial {
        Trial::new(self.site, self.data.as_deref())
    }

    /// Every file of ours that this may touch.
    fn paths(&self, trial: &Trial) -> Vec<PathBuf> {
        let library = trial.path(self.library);
        let sha256 = self.esd.fingerprint.sha256.to_string();
        let strongest = self
            .esd
            .wanted
            .digests
            .sha256
            .map_or_else(|| self.esd.fingerprint.sha1.to_string(), |sha256| sha256.to_string());
        let staged = |of: &str, end: &str| format!("staging/{of}-{}.{end}", self.esd.wanted.size);
        let mut names = vec!["staging".to_owned(), format!("files/{}", self.esd.file_name)];
        names.extend(["files".to_owned(), format!("files/.{}.spsync-tmp", self.esd.file_name)]);
        for of in [&strongest, &sha256, &self.esd.fingerprint.sha1.to_string()] {
            names.extend([staged(of, "part"), staged(of, "json")]);
        }
        for room in ["blobs", "hashes"] {
            let folder = format!("{room}/{}", &sha256[..2]);
            names.extend([format!("{folder}/{sha256}"), format!("{folder}/.{sha256}.spsync-tmp"), folder]);
            names.push(room.to_owned());
        }
        let mut paths: Vec<_> = names.iter().map(|name| library.join(name)).collect();
        if let Some(database) = self.database {
            paths.extend([trial.path(database), trial.path(&format!("{database}-wal"))]);
        }
        paths
    }

    async fn watched(&self, strace: &Strace, trial: &Trial, disturbance: Option<Disturbance<'_>>) -> Watched {
        strace.run(&trial.command(&self.args), CHANGES, &self.paths(trial), disturbance).await
    }

    /// Whatever happened: what has the name of a content is that content, and what the database lists is there.
    async fn check(&self, trial: &Trial, what: &str) {
        let library = trial.path(self.library);
        let mut there = BTreeSet::new();
        for folder in std::fs::read_dir(library.join("blobs")).into_iter().flatten() {
            for file in std::fs::read_dir(folder.expect("it is listed").path()).expect("a folder") {
                let path = file.expect("it is listed").path();
                let bytes = std::fs::read(&path).expect("it can be read");
                let digest = Sha256Digest::of(&bytes);
                assert_eq!(
                    path.file_name().expect("it was written").to_string_lossy(),
                    digest.to_string(),
                    "{what}"
                );
                there.insert(digest);
            }
        }
        let placed = library.join("files").join(self.esd.file_name.as_str());
        if let Ok(bytes) = std::fs::read(&placed) {
            assert_eq!(Sha256Digest::of(&bytes), self.esd.fingerprint.sha256, "{what}: half a file is shown");
        }
        let Some(database) = self.database.map(|database| trial.path(database)) else { return };
        let store = schema::Store::open(&database, 1).unwrap_or_else(|error| panic!("{what}: {error}"));
        let listed = store.read(|r| r.contents()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        for row in listed {
            assert!(there.contains(&row.sha256), "{what}: {} is listed and not there", row.sha256);
        }
        store.close().expect("it closes");
    }

    /// The same again, undisturbed, ends well.
    async fn completes(&self, trial: &Trial, what: &str) {
        let ran = trial.run(&self.args).await;
        assert_eq!(ran.status, 0, "{what}: {ran:?}");
        self.check(trial, what).await;
        let sha256 = self.esd.fingerprint.sha256.to_string();
        let blob = trial.path(self.library).join("blobs").join(&sha256[..2]).join(&sha256);
        assert!(blob.exists(), "{what}");
        assert!(ran.stdout.contains(&sha256), "{what}: {ran:?}");
    }

    /// Kills it at as many of its calls as `most`, and at each place of the program at least once.
    async fn killed(&self, strace: &Strace, most: usize) {
        let trial = self.trial();
        let undisturbed = self.watched(strace, &trial, None).await;
        assert_eq!(undisturbed.ran.status, 0, "{:?}", undisturbed.ran);
        let root = std::fs::canonicalize(trial.folder.path()).expect("it is there");
        let mut places: BTreeMap<String, (String, usize)> = BTreeMap::new();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut all = Vec::new();
        for call in &undisturbed.calls {
            let nth = counts.entry(call.name.clone()).or_default();
            *nth += 1;
            all.push((call.name.clone(), *nth));
            places.entry(call.place(&root)).or_insert((call.name.clone(), *nth));
        }
        let mut kills: Vec<_> = places.values().cloned().collect();
        all.retain(|one| !kills.contains(one));
        let mut rng = TestRng::new(0xc0ffee);
        while !all.is_empty() && (kills.len() < most || every_kill()) {
            kills.push(all.swap_remove(rng.within(0..all.len() as u64) as usize));
        }
        println!(
            "{:?}: {} calls in {} places, {} kills",
            self.args,
            counts.values().sum::<usize>(),
            places.len(),
            kills.len()
        );
        let mut visited = BTreeSet::new();
        let mut died = 0;
        let mut kills: VecDeque<_> = kills.into_iter().map(|(call, nth)| (call, nth, 0)).collect();
        while let Some((call, nth, tries)) = kills.pop_front() {
            let trial = self.trial();
            let disturbance = Disturbance { call: &call, nth, with: "signal=SIGKILL" };
            let what = format!("killed at {call} {nth}");
            let watched = self.watched(strace, &trial, Some(disturbance)).await;
            let root = std::fs::canonicalize(trial.folder.path()).expect("it is there");
            if watched.ran.status == 137 {
                died += 1;
                visited.extend(
                    watched.calls.iter().filter(|call| call.ended.is_none()).map(|call| call.place(&root)),
                );
            } else {
                assert_eq!(watched.ran.status, 0, "{what}: {:?}", watched.ran);
                if tries < 3 {
                    kills.push_back((call.clone(), nth, tries + 1));
                }
            }
            self.check(&trial, &what).await;
            self.completes(&trial, &what).await;
        }
        // In another run another thread may have made a call, and counted differently: it is tried again, and a place or two
        // are missed nevertheless.
        let missed: Vec<_> = places.keys().filter(|place| !visited.contains(*place)).collect();
        println!("{died} died, at {} places; missed: {missed:?}", visited.len());
        assert!(missed.len() * 4 <= places.len(), "{missed:?}");
        for must in ["staging/*.part → ", "fsync ", "blobs/*"] {
            assert!(visited.iter().any(|place| place.contains(must)), "{must}: {visited:?}");
        }
    }

    /// The disk says no: it is said with a code, nothing wrong is shown, and the next run makes it good.
    async fn disk_fails(&self, strace: &Strace, failures: &[(&str, usize, &str, &str)]) {
        let mut missed = Vec::new();
        let mut failing: VecDeque<_> = failures.iter().map(|failure| (failure, 0)).collect();
        while let Some((failure @ (call, nth, with, code), tries)) = failing.pop_front() {
            let trial = self.trial();
            let what = format!("{call} {nth} {with}");
            let disturbance = Disturbance { call, nth: *nth, with };
            let watched = self.watched(strace, &trial, Some(disturbance)).await;
            if watched.disturbed {
                assert_ne!(watched.ran.status, 0, "{what}: {:?}", watched.ran);
                assert_eq!(watched.ran.code(), *code, "{what}: {:?}", watched.ran);
            } else {
                assert_eq!(watched.ran.status, 0, "{what}: {:?}", watched.ran);
                match tries < 3 {
                    true => failing.push_back((failure, tries + 1)),
                    false => missed.push(what.clone()),
                }
            }
            self.check(&trial, &what).await;
            self.completes(&trial, &what).await;
        }
        // Other threads made the calls each time, as above.
        println!("of {} failures of the disk some did not come: {missed:?}", failures.len());
        assert!(missed.len() * 3 <= failures.len(), "{missed:?}");
    }
}

/// Of every file that gets a name for good: written, synced, renamed, its folder synced; in this order. When the last of it
/// was over.
fn order(calls: &[Call], root: &Path) -> usize {
    let root = std::fs::canonicalize(root).expect("it is there");
    let root = root.to_string_lossy();
    let ended = |call: &Call| call.ended.unwrap_or(usize::MAX);
    let mut last = 0;
    let mut renamed = 0;
    for rename in calls.iter().filter(|call| call.name.starts_with("rename")) {
        let names: Vec<_> = rename.args.split('"').skip(1).step_by(2).collect();
        let [from, to] = names[..] else { panic!("{rename:?}") };
        assert!(from.contains(&*root) && to.contains(&*root), "{rename:?}");
        let on = |path: &str, what: &str| -> Vec<&Call> {
            let file = format!("<{path}>");
            calls.iter().filter(|call| call.name.contains(what) && call.args.contains(&file)).collect()
        };
        let folder = to.rsplit_once('/').expect("a path").0;
        let after = on(folder, "sync").into_iter().find(|call| call.began > ended(rename));
        let after = after.unwrap_or_else(|| panic!("{folder} is not synced after {rename:?}"));
        last = last.max(ended(after));
        renamed += 1;
        // A name that is only a second one for synced content needs no sync of its own.
        let Some(last_write) = on(from, "write").into_iter().map(ended).max() else { continue };
        assert!(
            on(from, "sync").iter().any(|call| call.began > last_write && ended(call) < rename.began),
            "{from} is not synced between {last_write} and {rename:?}"
        );
    }
    assert!(renamed >= 2, "the content and its hashes");
    last
}

#[tokio::test]
async fn a_download_killed_at_any_call_leaves_no_half_file() {
    let Some(strace) = Strace::find() else { return };
    let (mut site, esd) = site().await;
    site.stop_daemon().await;
    let subject = Subject {
        data: Some(site.folder.path().join("site")),
        args: vec!["package", "download", "p"],
        library: "site/content",
        database: Some("site/spsync.db"),
        site: &site,
        esd: &esd,
    };
    // The order first: what is in the database was on the disk before.
    let trial = subject.trial();
    let watched = subject.watched(&strace, &trial, None).await;
    assert_eq!(watched.ran.status, 0, "{:?}", watched.ran);
    let durable = order(&watched.calls, trial.folder.path());
    let bytes = esd.fingerprint.sha256.0.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let says = |call: &&Call| call.args.contains("spsync.db") && call.args.contains(&bytes);
    let recorded = watched.calls.iter().find(says).expect("the database is written to");
    assert!(recorded.began > durable, "recorded in line {}, durable in line {durable}", recorded.began);
    let synced = watched.calls.iter().any(|call| {
        call.name.contains("sync") && call.args.contains("spsync.db-wal") && call.began > recorded.began
    });
    assert!(synced, "what was recorded is on the disk before anybody hears of it");
    subject.killed(&strace, KILLS).await;
    let failures = [
        ("write", 1, "error=ENOSPC", "DISK_FULL"),
        ("rename", 1, "error=EIO", "DISK_ERROR"),
        ("pwrite64", 1, "error=ENOSPC", "DISK_FULL"),
        ("pwrite64", 12, "error=ENOSPC", "DISK_FULL"),
        ("pwrite64", 12, "error=EIO", "DATABASE_FAILED"),
        ("fsync", 1, "error=EIO", "DATABASE_FAILED"),
    ];
    subject.disk_fails(&strace, &failures).await;
}

#[tokio::test]
async fn a_client_killed_at_any_call_and_told_that_the_disk_fails_keeps_what_is_verified() {
    let Some(strace) = Strace::find() else { return };
    let (site, esd) = site().await;
    site.ok(&["package", "download", "p"]).await;
    site.ok(&["package", "distribute", "p"]).await;
    let content = esd.fingerprint.sha256.to_string();
    let subject = Subject {
        data: None,
        args: vec!["client", "fetch", "--no-later", &content],
        library: "device",
        database: None,
        site: &site,
        esd: &esd,
    };
    let trial = subject.trial();
    let watched = subject.watched(&strace, &trial, None).await;
    assert_eq!(watched.ran.status, 0, "{:?}", watched.ran);
    order(&watched.calls, trial.folder.path());
    subject.killed(&strace, KILLS).await;

    let failures = [
        ("write", 1, "error=ENOSPC", "DISK_FULL"),
        ("write", 2, "error=EIO", "DISK_ERROR"),
        ("write", 3, "error=ENOSPC", "DISK_FULL"),
        ("fsync", 1, "error=EIO", "DISK_ERROR"),
        ("fsync", 2, "error=ENOSPC", "DISK_FULL"),
        ("fsync", 3, "error=EIO", "DISK_ERROR"),
        ("fsync", 4, "error=EIO", "DISK_ERROR"),
        ("rename", 1, "error=EIO", "DISK_ERROR"),
        ("rename", 2, "error=EROFS", "DISK_ERROR"),
        ("fchmod", 1, "error=EPERM", "DISK_ERROR"),
    ];
    subject.disk_fails(&strace, &failures).await;
}
