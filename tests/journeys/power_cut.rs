//! Killed at every write, sync and rename, and told by the disk that it cannot: no wrong or half file is ever served, listed
//! or recorded, nothing that was recorded is lost, and the next run completes.
//!
//! Killing a program loses nothing that the kernel has. What a power cut would take is in the order of its calls, which is
//! checked apart: a file is synced after its last write and before it gets its name, the folder after that, and only then the
//! database says that it is there.

mod certificates;
mod content;
mod pins;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use support::{CHANGES, Call, Disturbance, Strace, TestRng, Watched, program};
use tempfile::TempDir;
use tokio::process::Command;

/// Kills of one program by default; `SPSYNC_TEST_EVERY_KILL=1` for all that there are.
const KILLS: usize = 40;

fn every_kill() -> bool {
    std::env::var_os("SPSYNC_TEST_EVERY_KILL").is_some()
}

/// A machine of its own for one run: a copy of what there is to begin with, and its configuration.
struct Trial {
    folder: TempDir,
    config: PathBuf,
}

impl Trial {
    /// Copies `data` (below `folder`, which has the configuration), each under its own name.
    fn of(folder: &Path, data: &[&str]) -> Self {
        let trial = tempfile::tempdir().expect("a folder");
        let text = std::fs::read_to_string(folder.join("config.toml")).expect("it is there");
        let text = text.replace(&*folder.to_string_lossy(), &trial.path().to_string_lossy());
        let config = trial.path().join("config.toml");
        std::fs::write(&config, text).expect("it is written");
        for name in data {
            copy(&folder.join(name), &trial.path().join(name));
        }
        Self { folder: trial, config }
    }

    fn command(&self, args: &[String]) -> Command {
        let mut command = Command::new(program());
        command.arg("--config").arg(&self.config).args(["-o", "json"]).args(args);
        command
    }

    async fn run(&self, args: &[String]) -> support::Ran {
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

    /// As system calls name it.
    fn root(&self) -> PathBuf {
        std::fs::canonicalize(self.folder.path()).expect("it is there")
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        std::fs::copy(from, to).expect("it can be copied");
        return;
    }
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it can be listed");
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|&word| word.to_owned()).collect()
}

/// A place of the program: the first call there, by its name and its number in its thread, and the file that it is about.
struct Place {
    first: (String, usize),
    file: Option<PathBuf>,
}

/// What is done over and over, and disturbed each time elsewhere.
trait Subject {
    /// What there is before.
    fn trial(&self) -> Trial;

    /// What is done then.
    fn args(&self, trial: &Trial) -> Vec<String>;

    /// Every file of ours that this may touch; none: whatever it does is looked at.
    fn paths(&self, trial: &Trial) -> Vec<PathBuf>;

    /// Whether it is disturbed at calls of this place.
    fn is_meant(&self, _place: &str) -> bool {
        true
    }

    /// What holds whatever happened.
    async fn check(&self, trial: &Trial, what: &str);

    /// The same again, undisturbed, ends well.
    async fn completes(&self, trial: &Trial, what: &str);

    async fn watched(&self, strace: &Strace, trial: &Trial, disturbance: Option<Disturbance<'_>>) -> Watched {
        strace.run(&trial.command(&self.args(trial)), CHANGES, &self.paths(trial), disturbance).await
    }

    /// One run in which it is killed at a call on one of these files, if there is that call; the places where it died, `None` where
    /// it has ended well.
    async fn dies(
        &self,
        strace: &Strace,
        (call, nth): (&str, usize),
        files: impl Fn(&Trial) -> Vec<PathBuf>,
        what: &str,
    ) -> Option<Vec<String>> {
        let trial = self.trial();
        let disturbance = Disturbance { call, nth, with: "signal=SIGKILL" };
        let command = trial.command(&self.args(&trial));
        let watched = strace.run(&command, CHANGES, &files(&trial), Some(disturbance)).await;
        let died = watched.ran.status == 137;
        assert!(died || watched.ran.status == 0, "{what}: {:?}", watched.ran);
        self.check(&trial, what).await;
        self.completes(&trial, what).await;
        let root = trial.root();
        let cut = watched.calls.iter().filter(|call| call.ended.is_none());
        died.then(|| cut.map(|call| call.place(&root)).collect())
    }

    /// Kills it at as many of its calls as `most`, and at each place of the program at least once.
    async fn killed(&self, strace: &Strace, most: usize, must: &[&str]) {
        let trial = self.trial();
        let undisturbed = self.watched(strace, &trial, None).await;
        assert_eq!(undisturbed.ran.status, 0, "{:?}", undisturbed.ran);
        let root = trial.root();
        let mut places: BTreeMap<String, Place> = BTreeMap::new();
        let mut counts: BTreeMap<(u32, &str), usize> = BTreeMap::new();
        let mut all = Vec::new();
        for call in &undisturbed.calls {
            let nth = counts.entry((call.thread, &call.name)).or_default();
            *nth += 1;
            let place = call.place(&root);
            if self.is_meant(&place) {
                let one = (call.name.clone(), *nth);
                all.push(one.clone());
                places.entry(place).or_insert_with(|| Place { first: one, file: call.file(&root) });
            }
        }
        let calls = all.len();
        let mut kills: Vec<_> = places.values().map(|place| place.first.clone()).collect();
        all.retain(|one| !kills.contains(one));
        let mut rng = TestRng::new(0xc0ffee);
        while !all.is_empty() && (kills.len() < most || every_kill()) {
            kills.push(all.swap_remove(rng.within(0..all.len() as u64) as usize));
        }
        println!("{:?}: {calls} calls in {} places, {} kills", self.args(&trial), places.len(), kills.len());
        let mut visited = BTreeSet::new();
        let mut died = 0;
        let mut kills: VecDeque<_> = kills.into_iter().map(|kill| (kill, 0)).collect();
        while let Some(((call, nth), tries)) = kills.pop_front() {
            let what = format!("killed at {call} {nth}");
            match self.dies(strace, (&call, nth), |trial| self.paths(trial), &what).await {
                Some(places) => {
                    died += 1;
                    visited.extend(places);
                }
                None if tries < 3 => kills.push_back(((call, nth), tries + 1)),
                None => {}
            }
        }
        // Of two threads that make their nth call of a name the first is always met, and threads share the work in another way each
        // time. What was missed so is met by the name of its file, where that has one that is the same in each run.
        for (name, Place { first: (call, _), file }) in &places {
            let Some(file) = file.as_ref().filter(|_| !visited.contains(name)) else { continue };
            let there = |trial: &Trial| vec![trial.root().join(file)];
            if let Some(places) = self.dies(strace, (call, 1), there, &format!("killed at {name}")).await {
                died += 1;
                visited.extend(places);
            }
        }
        let missed: Vec<_> = places.keys().filter(|place| !visited.contains(*place)).collect();
        println!("{died} died, at {} places; missed: {missed:?}", visited.len());
        assert!(missed.len() <= 2, "{missed:?}");
        for must in must {
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
    assert!(renamed >= 2, "one thing, and what says something of it");
    last
}
