//! A disk that is really full: a small file system, in a mount namespace of the test, that somebody else fills. Nothing is
//! pretended by the kernel's tracer: what fails is whatever asks for room first.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use catalog::esd_catalog::Architecture;
use serde_json::{Value, json};
use support::{
    Apart, CatalogDocument, CatalogFormat, CatalogVersion, MIB, Own, PublishedEsd, TestDevice, TestSite, Way,
    apart, esd, http, until,
};

use crate::points::{Machine, token};
use crate::pulling::configure;

/// Whether the test goes on here, with mounts of its own.
fn has_own_mounts(test: &str) -> bool {
    match apart(test, Own::Mounts, "mount -t tmpfs -o size=1m spsync /tmp") {
        Apart::Here => true,
        Apart::Done => false,
        Apart::Nothing(why) => {
            println!("skipped: {test}: no mounts of its own ({why})");
            false
        }
    }
}

/// A file system of so many MiB in the place of a folder.
struct SmallDisk {
    at: PathBuf,
    others: Option<File>,
}

impl SmallDisk {
    fn new(at: PathBuf, mib: u64) -> Self {
        std::fs::create_dir_all(&at).expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=700"), "spsync"]).arg(&at);
        assert!(mount.status().expect("mount starts").success());
        Self { at, others: None }
    }

    /// Others take all of its room but so many bytes.
    fn fill_but(&mut self, left: u64) {
        let others = self.others.get_or_insert_with(|| File::create(self.at.join("others")).expect("a file"));
        for size in [1 << 20, 4 << 10, 1] {
            while others.write_all(&vec![0x55; size]).is_ok() {}
        }
        let taken = others.metadata().expect("it is open").len();
        others.set_len(taken.saturating_sub(left)).expect("it shrinks");
    }

    /// They give it back.
    fn is_freed(&mut self) {
        self.others = None;
        std::fs::remove_file(self.at.join("others")).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Who still has a file open there keeps nobody from removing the folder.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

pub(crate) fn runs(story: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().expect("a runtime").block_on(story);
}

const SIZE: u64 = 5 * MIB;

/// A site with eight files of [`SIZE`], all on its own point; the files.
async fn site_with_eight() -> (TestSite, Vec<PublishedEsd>) {
    let more = "[dp]\nretry = { max = 100, delay = \"1s\" }\n";
    let mut site = TestSite::with(Way::Alone, |_, _| vec!["placeholder".to_owned()], more).await;
    let mut esds = Vec::new();
    for product in ["Windows 11", "Windows 10"] {
        for architecture in [Architecture::X64, Architecture::Arm64] {
            for group in ["business", "consumer"] {
                let draft = esd(product, "en-us").architecture(architecture).group(group).of_size(SIZE);
                esds.push(site.origin.publish(draft).await);
            }
        }
    }
    let licenses = site.published.licenses.iter().map(|it| (it.language.clone(), it.url.clone())).collect();
    let document = CatalogDocument { version: CatalogVersion::Sha256, esds: esds.clone(), licenses };
    let catalog = site.origin.publish_catalog_document("eight.cab", &document, CatalogFormat::Cabinet);
    site.configure(|text| text.replace("\"placeholder\"", &format!("{catalog:?}")));
    site.start_daemon().await;
    site.package().await;
    assert_eq!(site.ok(&["package", "show", "p"]).await["files"].as_array().map(Vec::len), Some(8));
    site.ok(&["package", "download", "p"]).await;
    site.ok(&["package", "distribute", "p"]).await;
    (site, esds)
}

/// A point on a small disk, and what clients see of it.
struct SmallPoint {
    // Dropped before the machine, whose folder goes then.
    disk: SmallDisk,
    machine: Machine,
    esds: Vec<PublishedEsd>,
}

impl SmallPoint {
    fn address(&self, which: usize) -> String {
        format!("{}/content/{}", self.machine.url, self.esds[which].fingerprint.sha256)
    }

    /// Gets it as soon as there is room for it. Who follows what arrives has it a moment before the library has.
    async fn gets(&self, which: usize) {
        until("it may be had", async || self.get(which).await == 200).await;
        until("it is there", async || self.has().contains(&which)).await;
    }

    /// Asks for a content until there is an answer about it; its status.
    async fn get(&self, which: usize) -> u16 {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = http().get(self.address(which)).send().await.expect("it answers");
            let status = answer.status().as_u16();
            if status == 200 {
                let size = answer.content_length();
                if let Ok(bytes) = answer.bytes().await {
                    assert!(self.is_it(which, &bytes) && size == Some(SIZE), "{which} is something else");
                    return status;
                }
            } else if status != 503 {
                return status;
            }
            assert!(Instant::now() < until, "no answer about {which}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn is_it(&self, which: usize, bytes: &[u8]) -> bool {
        bytes == self.esds[which].content.read(0, SIZE as usize)
    }

    /// Which of the eight are in its library, each as it should be.
    fn has(&self) -> Vec<usize> {
        let blobs = self.machine.path("point/content/blobs");
        let has = |which: &usize| {
            let sha256 = self.esds[*which].fingerprint.sha256.to_string();
            let Ok(bytes) = std::fs::read(blobs.join(&sha256[..2]).join(&sha256)) else { return false };
            assert!(self.is_it(*which, &bytes), "{which} is something else");
            true
        };
        (0..self.esds.len()).filter(has).collect()
    }
}

async fn package(site: &TestSite, name: &str, esds: &[&PublishedEsd]) {
    site.ok(&["package", "create", name]).await;
    for esd in esds {
        site.ok(&["package", "add", name, &esd.update().to_string()]).await;
    }
    site.ok(&["package", "download", name]).await;
}

async fn placed(site: &TestSite, package: &str) -> Value {
    site.ok(&["content", "status", package]).await[0].clone()
}

#[test]
fn a_point_makes_room_as_long_as_something_may_go_and_says_so_when_nothing_may() {
    if has_own_mounts(
        "full_disk::a_point_makes_room_as_long_as_something_may_go_and_says_so_when_nothing_may",
    ) {
        runs(a_full_point());
    }
}

async fn a_full_point() {
    let (site, esds) = site_with_eight().await;
    let one = |which: usize| &esds[which];
    package(&site, "given", &[one(5), one(6)]).await;
    package(&site, "more", &[one(7), one(1)]).await;
    package(&site, "last", &[one(2), one(3)]).await;
    site.ok(&["dp", "add", "rome", "--url", "http://127.0.0.13:1"]).await;
    let machine = Machine::new("127.0.0.13", &site.url, &token(&site, "rome").await, "");
    site.ok(&["dp", "set", "rome", &format!("url={}", machine.url), "on_demand=yes"]).await;
    let pull = "role = \"pull\"\non_demand_wait = \"4s\"\non_demand = true";
    configure(&machine, "role = \"standard\"", pull);
    // Four of them fit, and not five.
    let disk = SmallDisk::new(machine.path("point/content"), 24);
    let mut rome = SmallPoint { disk, machine, esds: esds.clone() };
    rome.machine.start().await;
    until("it may fetch", async || site.ok(&["dp", "list"]).await[1]["on_demand"] == true).await;

    // What nobody asked for since goes first.
    for which in [0, 1, 2, 3, 0] {
        rome.gets(which).await;
    }
    assert_eq!(rome.has(), [0, 1, 2, 3]);
    rome.gets(4).await;
    assert_eq!(rome.has(), [0, 2, 3, 4]);

    // What is given to it has room before what clients asked for, and stays.
    site.ok(&["package", "distribute", "given", "--to", "rome", "--wait"]).await;
    assert_eq!(rome.has(), [0, 4, 5, 6]);
    site.ok(&["package", "distribute", "more", "--to", "rome", "--wait"]).await;
    assert_eq!(rome.has(), [1, 5, 6, 7]);

    // Nothing may go: who asks is told so, and so is who sends.
    assert_eq!(rome.get(0).await, 507);
    let told = async || site.ok(&["dp", "list"]).await[1]["free"].as_u64().expect("it was told");
    until("the site knows its room", async || told().await < SIZE).await;
    let refused = site.refused("DP_DISK_FULL", &["package", "distribute", "last", "--to", "rome"]).await;
    let (needed, free) = (2 * SIZE, told().await);
    let says = |text: String| refused.stderr.contains(&text);
    assert!(says(format!("needs {needed} bytes")) && says(format!("{free} free")), "{refused:?}");
    assert_eq!(rome.has(), [1, 5, 6, 7]);
    for which in rome.has() {
        assert_eq!(rome.get(which).await, 200, "what it has is served all the same");
    }

    // Room is made: the next who asks gets it.
    site.ok(&["package", "withdraw", "more", "--from", "rome"]).await;
    rome.gets(0).await;
    assert_eq!(rome.has(), [0, 5, 6]);

    // Others fill the disk in the middle of a file. What was given before is served, what was asked for goes, and of what comes
    // nobody gets a wrong byte.
    until("the site knows its room", async || told().await >= 2 * SIZE).await;
    site.ok(&["dp", "set", "rome", "rate=1MiB/s"]).await;
    site.ok(&["package", "distribute", "last", "--to", "rome"]).await;
    let arriving = async || placed(&site, "last").await["done"].as_u64().is_some_and(|done| done > MIB);
    until("it comes", arriving).await;
    rome.disk.fill_but(0);
    until("it failed", async || placed(&site, "last").await["state"] == "failed").await;
    until("it says why, in numbers", async || {
        let problem = placed(&site, "last").await["problem"].clone();
        let message = problem["message"].as_str().unwrap_or_default().to_owned();
        problem["code"] == "DP_DISK_FULL" && message.contains(" bytes") && message.contains("short by ")
    })
    .await;
    for which in [5, 6] {
        assert_eq!(rome.get(which).await, 200);
    }
    assert!(rome.has().iter().all(|which| [0, 2, 3, 5, 6].contains(which)));
    // A restart finds it as it is, full.
    rome.machine.kill().await;
    rome.machine.start().await;
    assert_eq!(rome.get(5).await, 200);
    rome.disk.is_freed();
    site.ok(&["dp", "set", "rome", "rate=100MiB/s"]).await;
    until("it goes on by itself", async || placed(&site, "last").await["state"] == "success").await;
    for which in [2, 3, 5, 6] {
        assert_eq!(rome.get(which).await, 200);
    }

    // The same in the middle of what a client asked for: it gets nothing wrong, and all of it when there is room.
    site.ok(&["dp", "set", "rome", "rate=3MiB/s"]).await;
    site.ok(&["package", "withdraw", "last", "--from", "rome"]).await;
    until("it is off", async || !rome.has().contains(&2) && !rome.has().contains(&3)).await;
    let mut answer = http().get(rome.address(1)).send().await.expect("it answers");
    let mut came = Vec::new();
    let mut is_whole = false;
    if answer.status() == 200 {
        while let Ok(chunk) = answer.chunk().await {
            let Some(chunk) = chunk else {
                is_whole = true;
                break;
            };
            if came.is_empty() {
                rome.disk.fill_but(0);
            }
            came.extend_from_slice(&chunk);
        }
    }
    assert!(!is_whole && !came.is_empty(), "the disk was full before its end: {} bytes", came.len());
    assert!(rome.esds[1].content.read(0, SIZE as usize).starts_with(&came), "not one wrong byte");
    assert_eq!(rome.get(1).await, 507);
    assert_eq!(rome.get(6).await, 200);
    rome.disk.is_freed();
    rome.gets(1).await;
    rome.machine.stop().await;
}

#[test]
fn a_site_whose_database_has_no_room_loses_nothing_that_it_took() {
    if has_own_mounts("full_disk::a_site_whose_database_has_no_room_loses_nothing_that_it_took") {
        runs(a_full_database());
    }
}

/// Makes boundary groups of this beginning until one is refused: those that were made, and with which code it was.
async fn until_refused(site: &TestSite, word: &str, made: &mut Vec<String>) -> String {
    for number in 0..2_000 {
        let name = format!("{word}-{number:04}");
        let ran = site.json(&["boundary", "group", "create", &name]).await;
        if ran.status != 0 {
            return ran.code();
        }
        made.push(name);
    }
    panic!("the disk never was full");
}

async fn groups(site: &TestSite) -> Vec<String> {
    let all = site.ok(&["boundary", "group", "list"]).await;
    let names =
        all.as_array().expect("a list").iter().map(|one| one["name"].as_str().expect("a name").to_owned());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with("Default-")).collect();
    names.sort();
    names
}

async fn a_full_database() {
    let mut site = TestSite::start(Way::Alone).await;
    let mut disk = SmallDisk::new(site.folder.path().join("site"), 16);
    site.start_daemon().await;
    site.ok(&["now"]).await;
    let device = TestDevice::enrolled(&site, "desk-1", "127.0.0.7").await;
    device.round(&["--once"]).await;
    let mut made = Vec::new();
    let before = site.daemon_id();

    // It lives, answers what it is asked, and takes nothing that it could not keep.
    disk.fill_but(256 << 10);
    assert_eq!(until_refused(&site, "first", &mut made).await, "DISK_FULL");
    assert!(!made.is_empty());
    assert_eq!(groups(&site).await, made, "what was refused is not there");
    site.refused("DISK_FULL", &["boundary", "group", "create", "again"]).await;
    site.refused("DISK_FULL", &["now"]).await;
    site.ok(&["status"]).await;
    assert_eq!(site.daemon_id(), before);

    // Room, and it goes on: the same process, and what it took is there.
    disk.is_freed();
    site.ok(&["boundary", "group", "create", "again"]).await;
    made.push("again".to_owned());
    made.sort();
    assert_eq!(groups(&site).await, made);
    assert_eq!(site.daemon_id(), before);
    site.ok(&["now"]).await;

    // Full again, and killed: it does not begin without room to write in and says why, and everything that it said yes to is there
    // afterwards.
    disk.fill_but(64 << 10);
    assert_eq!(until_refused(&site, "second", &mut made).await, "DISK_FULL");
    made.sort();
    site.kill_daemon().await;
    site.refused("DISK_FULL", &["serve"]).await;
    disk.is_freed();
    site.start_daemon().await;
    assert_eq!(groups(&site).await, made);
    site.ok(&["boundary", "group", "create", "third"]).await;
    assert_eq!(device.round(&["--once"]).await["unsent"], json!(0));
    assert_eq!(site.stop_daemon().await, 0);
    drop(disk);
}
