//! The certificates of a site: whatever happens while they are made or renewed, the authority is the one that everybody trusts, each
//! file is whole, and there is a key for the certificate that is shown.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde_json::Value;
use support::{Strace, TestSite, Way};

use super::{KILLS, Subject, Trial, order, words};

/// The names in the certificate that there was before.
const NAME: &str = "site01.example";

struct Certificates<'s> {
    site: &'s TestSite,
    args: Vec<&'s str>,
    /// The files of the authority that there was before.
    authority: Option<[Vec<u8>; 2]>,
    /// Only calls on these files are looked at; none: all of the program.
    only: &'s [&'s str],
}

fn authority(tls: PathBuf) -> [Vec<u8>; 2] {
    ["ca.key", "ca.pem"].map(|name| std::fs::read(tls.join(name)).expect("it is there"))
}

impl Certificates<'_> {
    /// What a listener would show.
    fn is_shown(trial: &Trial, what: &str) {
        let loaded = spsync::config::load(Some(&trial.config)).expect("it can be read");
        let shown = spsync::tls::identity(&loaded.settings);
        assert!(shown.is_ok(), "{what}: {:?}", shown.err());
    }
}

impl Subject for Certificates<'_> {
    fn trial(&self) -> Trial {
        Trial::of(self.site.folder.path(), &["site"])
    }

    fn args(&self, _: &Trial) -> Vec<String> {
        words(&self.args)
    }

    fn paths(&self, trial: &Trial) -> Vec<PathBuf> {
        self.only.iter().map(|name| trial.path("site/tls").join(name)).collect()
    }

    /// Not where a file without a name is written and synced: threads of the database are at such calls first, and what is left stands
    /// before and after each of them.
    fn is_meant(&self, place: &str) -> bool {
        let of_no_name =
            !place.starts_with("rename") && !place.starts_with("fchmod") && place.contains(".spsync-");
        place.contains("site/tls") && !place.starts_with("write") && !of_no_name
    }

    async fn check(&self, trial: &Trial, what: &str) {
        let tls = trial.path("site/tls");
        for name in ["ca.key", "ca.pem", "server.key", "server.key.next", "server.pem"] {
            let path = tls.join(name);
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let whole = text.starts_with("-----BEGIN ") && text.trim_end().ends_with("-----");
            assert!(whole && text.matches("-----").count() == 4, "{what}: half of {name}");
            let mode = std::fs::metadata(&path).expect("it is there").mode() & 0o777;
            assert_eq!(mode, if name.ends_with(".pem") { 0o644 } else { 0o600 }, "{what}: {name}");
        }
        if let Ok(about) = std::fs::read(tls.join("about.json")) {
            let about: Value =
                serde_json::from_slice(&about).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(about["names"][0], NAME, "{what}");
            Self::is_shown(trial, what);
        }
        if let Some(before) = &self.authority {
            assert_eq!(authority(tls), *before, "{what}: who trusts the site trusts it on");
            Self::is_shown(trial, what);
        }
    }

    async fn completes(&self, trial: &Trial, what: &str) {
        let tls = trial.path("site/tls");
        let made = tls.join("about.json").exists();
        let mut ran = trial.run(&self.args(trial)).await;
        // An authority is never written over. Where it was finished, there is nothing to do; else its help says what to do.
        if ran.code() == "TLS_EXISTS" {
            assert!(made || ran.stderr.contains("move"), "{what}: {ran:?}");
            if !made {
                std::fs::rename(&tls, trial.path("site/tls.half")).expect("it can be moved");
            }
            ran = trial.run(&if made { words(&["tls", "show"]) } else { self.args(trial) }).await;
        }
        assert_eq!(ran.status, 0, "{what}: {ran:?}");
        Self::is_shown(trial, what);
        self.check(trial, what).await;
        assert!(!tls.join("server.key.next").exists() || made, "{what}: a key waits for ever");
    }
}

#[tokio::test]
async fn certificates_are_whole_wherever_the_power_goes() {
    let Some(strace) = Strace::find() else { return };
    let site = TestSite::start(Way::Alone).await;
    site.ok(&["status"]).await;
    let init = vec!["tls", "init", "--name", NAME];
    let mut subject = Certificates { site: &site, args: init.clone(), authority: None, only: &[] };
    subject.killed(&strace, KILLS, &["ca.key", "ca.pem", "server.key", "server.pem", "about.json"]).await;

    site.ok(&init).await;
    subject.args = vec!["tls", "renew"];
    subject.authority = Some(authority(site.folder.path().join("site/tls")));
    let trial = subject.trial();
    let watched = subject.watched(&strace, &trial, None).await;
    assert_eq!(watched.ran.status, 0, "{:?}", watched.ran);
    order(&watched.calls, trial.folder.path());
    subject.killed(&strace, KILLS, &["server.key.next", "server.pem", "about.json", "fsync site/tls"]).await;

    subject.only = &["", "server.key.next", "server.pem", "server.key", "about.json"];
    let failures = [
        ("renameat", 1, "error=EIO", "DATA_DIR_NOT_WRITABLE"),
        ("renameat", 2, "error=ENOSPC", "DISK_FULL"),
        ("rename", 1, "error=EIO", "DATA_DIR_NOT_WRITABLE"),
        ("renameat", 3, "error=EROFS", "DATA_DIR_NOT_WRITABLE"),
        ("fsync", 1, "error=EIO", "DATA_DIR_NOT_WRITABLE"),
        ("fsync", 2, "error=EIO", "DATA_DIR_NOT_WRITABLE"),
        ("fsync", 3, "error=EIO", "DATA_DIR_NOT_WRITABLE"),
        ("fsync", 4, "error=EIO", "DATA_DIR_NOT_WRITABLE"),
    ];
    subject.disk_fails(&strace, &failures).await;
}
