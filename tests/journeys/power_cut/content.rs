//! Content that comes: into a site, with its database, and onto a device.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use catalog::digest::Sha256Digest;
use support::{
    Call, CatalogDocument, CatalogFormat, CatalogVersion, KIB, PublishedEsd, Strace, TestSite, Way, esd,
};

use super::{KILLS, Subject, Trial, order, words};

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

/// Where it has been killed at least.
const CALLS: [&str; 4] = ["staging/*.part → ", "fsync ", "blobs/*", "hashes/*"];

/// What fetches it, and where its files are.
struct Content<'s> {
    site: &'s TestSite,
    esd: &'s PublishedEsd,
    /// The data to begin with.
    data: &'s [&'s str],
    args: Vec<&'s str>,
    /// The library, below the folder of a trial.
    library: &'static str,
    /// A database that says what is there.
    database: Option<&'static str>,
}

impl Content<'_> {
    /// What was computed of a content is whole too: it ends with the digest of all that is before, and says of what it is.
    fn check_hashes(&self, library: &Path, what: &str) {
        for folder in std::fs::read_dir(library.join("hashes")).into_iter().flatten() {
            for file in std::fs::read_dir(folder.expect("it is listed").path()).expect("a folder") {
                let file = file.expect("it is listed");
                let name = file.file_name().to_string_lossy().into_owned();
                let Ok(content) = name.parse::<Sha256Digest>() else { continue };
                let bytes = std::fs::read(file.path()).expect("it can be read");
                let (body, end) = bytes.split_at(bytes.len().saturating_sub(32));
                assert_eq!(Sha256Digest::of(body).0, end, "{what}: half of the hashes of {content}");
                assert_eq!(body[36..68], content.0, "{what}: hashes of another content");
            }
        }
    }
}

impl Subject for Content<'_> {
    fn trial(&self) -> Trial {
        Trial::of(self.site.folder.path(), self.data)
    }

    fn args(&self, _: &Trial) -> Vec<String> {
        words(&self.args)
    }

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
        self.check_hashes(&library, what);
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

    async fn completes(&self, trial: &Trial, what: &str) {
        let ran = trial.run(&self.args(trial)).await;
        assert_eq!(ran.status, 0, "{what}: {ran:?}");
        self.check(trial, what).await;
        let sha256 = self.esd.fingerprint.sha256.to_string();
        let blob = trial.path(self.library).join("blobs").join(&sha256[..2]).join(&sha256);
        assert!(blob.exists(), "{what}");
        assert!(ran.stdout.contains(&sha256), "{what}: {ran:?}");
    }
}

#[tokio::test]
async fn a_download_killed_at_any_call_leaves_no_half_file() {
    let Some(strace) = Strace::find() else { return };
    let (mut site, esd) = site().await;
    site.stop_daemon().await;
    let subject = Content {
        data: &["site"],
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
    subject.killed(&strace, KILLS, &CALLS).await;
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
    let subject = Content {
        data: &[],
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
    subject.killed(&strace, KILLS, &CALLS).await;

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
