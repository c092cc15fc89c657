//! Programs of others fetch from the real program by the recipes of docs/TOOLS.md, while one place is killed under them and
//! another one lies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use support::{
    CatalogDocument, CatalogFormat, CatalogVersion, MIB, PublishedEsd, TestSite, Way, esd, http, rot, tool,
    until,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::watch;

use crate::points::{Machine, state, token};

/// Bytes of an answer after which it is held.
const HELD: usize = 100_000;

/// What becomes of answers that were held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// They end there: who gave them is dead.
    End,
    GoOn,
}

/// The most bytes that were given over one connection to each program, by the first word of its `User-Agent`.
type Given = Arc<Mutex<BTreeMap<String, usize>>>;

/// Stands before a server, and holds each answer in its middle until all is over with the point that dies.
struct Front {
    url: String,
    given: Given,
}

impl Front {
    /// Before a server, at an address of its own; `over`: nothing is held any more.
    async fn before(server: SocketAddr, ip: &str, then: Then, over: &watch::Sender<bool>) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.expect("loopback has a port");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        let (given, over) = (Given::default(), over.subscribe());
        let noted = given.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(hold(client, server, then, noted.clone(), over.clone()));
            }
        });
        Self { url, given }
    }

    /// Who was given so much.
    fn gave(&self, least: usize) -> BTreeSet<String> {
        let given = self.given.lock().expect("nobody panics");
        given.iter().filter(|(_, bytes)| **bytes >= least).map(|(agent, _)| agent.clone()).collect()
    }
}

async fn hold(
    client: TcpStream,
    server: SocketAddr,
    then: Then,
    given: Given,
    mut over: watch::Receiver<bool>,
) {
    let mut is_over = *over.borrow();
    if is_over && then == Then::End {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let (mut question, mut answer) = ([0; 4_096], vec![0; 16 * 1_024]);
    let (mut asked, mut sent) = (String::new(), 0);
    loop {
        tokio::select! {
            read = from_client.read(&mut question) => {
                let Ok(count @ 1..) = read else { return };
                asked.push_str(&String::from_utf8_lossy(&question[..count]).to_lowercase());
                if to_server.write_all(&question[..count]).await.is_err() {
                    return;
                }
            }
            read = from_server.read(&mut answer), if is_over || sent < HELD => {
                let Ok(count @ 1..) = read else { return };
                if to_client.write_all(&answer[..count]).await.is_err() {
                    return;
                }
                sent += count;
                let agent = asked.rsplit_once("user-agent: ").map_or("", |(_, agent)| agent);
                let agent = agent.split(['/', '\r']).next().unwrap_or_default().to_owned();
                let mut given = given.lock().expect("nobody panics");
                let most = given.entry(agent).or_default();
                *most = (*most).max(sent);
            }
            () = async { drop(over.wait_for(|over| *over).await) }, if !is_over => {
                if then == Then::End {
                    return;
                }
                is_over = true;
            }
        }
    }
}

/// The recipes below a heading of the documentation, as they stand there.
fn recipes(heading: &str) -> Vec<String> {
    let text = include_str!("../../docs/TOOLS.md");
    let (_, below) = text.split_once(&format!("\n## {heading}\n")).expect("a heading of the documentation");
    let below = below.split("\n## ").next().unwrap_or_default();
    let recipes = below.split("\n```sh\n").skip(1);
    recipes.map(|rest| rest.split("\n```").next().unwrap_or_default().to_owned()).collect()
}

/// Runs a recipe in a folder of its own, with nothing else in its environment than what the documentation says.
async fn run(folder: &Path, recipe: &str, words: &[(&str, &str)]) -> Output {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "60", "sh", "-euc", recipe]).current_dir(folder);
    command.env_clear().env("PATH", path).env("HOME", folder).envs(words.iter().copied());
    command.stdin(Stdio::null()).kill_on_drop(true);
    command.output().await.expect("a shell")
}

/// Content at a site and two points, of which one lies, and who stands before whom.
struct Stage {
    site: TestSite,
    esd: PublishedEsd,
    bytes: Vec<u8>,
    lyon: Machine,
    rome: Machine,
    dying: Front,
    lying: Front,
    honest: Front,
    over: watch::Sender<bool>,
}

impl Stage {
    async fn new() -> Self {
        let mut site = TestSite::with(Way::Alone, |_, _| vec!["placeholder".to_owned()], "").await;
        let esd = site.origin.publish(esd("Windows 10", "en-us").of_size(4 * MIB + 4_321)).await;
        let document = CatalogDocument {
            version: CatalogVersion::Sha256,
            esds: vec![esd.clone()],
            licenses: Vec::new(),
        };
        let catalog = site.origin.publish_catalog_document("tools.cab", &document, CatalogFormat::Cabinet);
        let over = watch::Sender::new(false);
        let address = |url: &str| url.trim_start_matches("http://").parse().expect("an address");
        let honest = Front::before(address(&site.url), "127.70.0.3", Then::GoOn, &over).await;
        site.configure(|text| {
            let text = text.replace("\"placeholder\"", &format!("{catalog:?}"));
            text.replacen("[server]", &format!("[server]\npublic_url = {:?}", honest.url), 1)
        });
        site.start_daemon().await;
        site.ok(&["now"]).await;
        site.ok(&["package", "create", "p"]).await;
        site.ok(&["package", "add", "p"]).await;
        site.ok(&["package", "download", "p"]).await;
        let [mut lyon, mut rome] =
            ["127.71.0.2", "127.72.0.2"].map(|ip| Machine::new(ip, &site.url, "-", ""));
        let never = watch::Sender::new(true);
        let dying = Front::before(address(&lyon.url), "127.71.0.3", Then::End, &over).await;
        let lying = Front::before(address(&rome.url), "127.72.0.3", Then::GoOn, &never).await;
        for (name, machine, front) in [("lyon", &mut lyon, &dying), ("rome", &mut rome, &lying)] {
            site.ok(&["dp", "add", name, "--url", &front.url]).await;
            std::fs::write(machine.path("token"), token(&site, name).await).expect("it is written");
            machine.start().await;
        }
        site.ok(&["package", "distribute", "p", "--to", "all"]).await;
        for name in ["lyon", "rome"] {
            until("the package is there", async || state(&site, name).await == "success").await;
        }
        // The cloud has it no more, and Rome has a wrong byte in each 64 KiB, of which nobody knows.
        site.origin.withdraw(&esd.path);
        let bytes = esd.content.read(0, esd.wanted.size as usize).to_vec();
        let sha256 = esd.fingerprint.sha256.to_string();
        let blob = rome.path("point/content/blobs").join(&sha256[..2]).join(&sha256);
        rot(&blob, |wrong| wrong.iter_mut().step_by(64 * 1_024).for_each(|byte| *byte ^= 1));
        Self { site, esd, bytes, lyon, rome, dying, lying, honest, over }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_programs_fetch_though_one_place_is_killed_and_one_lies() {
    let there: Vec<&str> = ["aria2c", "curl", "wget", "rclone", "zsync"]
        .into_iter()
        .filter(|name| tool(name).is_some() && (*name != "zsync" || tool("zsyncmake").is_some()))
        .collect();
    if there.is_empty() {
        return;
    }
    let mut stage = Stage::new().await;
    let sha256 = stage.esd.fingerprint.sha256.to_string();
    let lied = http().get(format!("{}/content/{sha256}", stage.rome.url)).send().await.unwrap();
    assert!(lied.status() == 200 && lied.bytes().await.unwrap() != stage.bytes, "Rome lies");

    // What the documentation says about places is true.
    let folder = tempfile::tempdir().unwrap();
    let shown = stage.site.ok(&["package", "show", "p"]).await;
    let (package, file) = (shown["id"].as_str().unwrap(), &*stage.esd.file_name);
    let words = [("SITE", stage.honest.url.as_str()), ("PACKAGE", package), ("FILE", file)];
    if there.contains(&"curl") {
        let said = format!("{}\necho \"$SHA256 $PLACES\"", recipes("Digest and places")[0]);
        let said = run(folder.path(), &said, &words).await;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let named: BTreeSet<&str> = text.split_whitespace().collect();
        let all = [&*sha256, &stage.honest.url, &stage.dying.url, &stage.lying.url];
        assert_eq!(named, BTreeSet::from(all), "{said:?}");
    }

    // Delivery Optimization finds it by the path of the upstream, at the site and at a point; nobody else is asked for it.
    let upstream = stage.site.origin.requests().len();
    for place in [&stage.site.url, &stage.rome.url] {
        let told = format!("{place}{}?P1=1&cacheHostOrigin=127.0.0.1", stage.esd.path);
        let piece = http().get(told).header("range", "bytes=0-1").send().await.unwrap();
        let range = format!("bytes 0-1/{}", stage.bytes.len());
        assert_eq!(
            (piece.status().as_u16(), piece.headers()["content-range"].to_str().unwrap()),
            (206, &*range)
        );
        let tag = piece.headers()["etag"].to_str().unwrap().to_owned();
        assert_eq!(tag, format!("\"{sha256}\""));
        let other = format!("{place}/filestreamingservice/files/other?cacheHostOrigin=127.0.0.1");
        assert_eq!(http().get(other).send().await.unwrap().status(), 404);
        let hashes = format!("{place}/content/{sha256}/pieceshash");
        assert_eq!(http().get(hashes).send().await.unwrap().status(), 200);
    }
    assert_eq!(stage.site.origin.requests().len(), upstream);

    // All of them at once; each has begun with the place that dies then.
    let all = format!("{} {} {}", stage.dying.url, stage.lying.url, stage.honest.url);
    let none_honest = format!("{} {}", stage.dying.url, stage.lying.url);
    let mut running = Vec::new();
    for name in &there {
        let into = folder.path().join(name);
        std::fs::create_dir(&into).unwrap();
        if ["curl", "wget"].contains(name) {
            // All of its length is there, and wrong: somebody ended it before it was checked.
            std::fs::write(into.join(file), vec![0; stage.bytes.len()]).unwrap();
        }
        let words = [words[0], words[2], ("SHA256", sha256.as_str()), ("PLACES", all.as_str())];
        let words: Vec<_> = words.map(|(name, word)| (name.to_owned(), word.to_owned())).into();
        let (recipes, bytes, none_honest) = (recipes(name), stage.bytes.clone(), none_honest.clone());
        let (name, file) = ((*name).to_owned(), file.to_owned());
        running.push(tokio::spawn(async move {
            let words: Vec<_> = words.iter().map(|(name, word)| (name.as_str(), word.as_str())).collect();
            if name == "zsync" {
                let told = [&words[..3], &[("PLACES", none_honest.as_str())]].concat();
                zsync(&into, &recipes, &told, &words, &bytes).await;
            } else {
                let done = run(&into, &recipes[0], &words).await;
                assert!(done.status.success(), "{name}: {done:?}");
            }
            let found = std::fs::read(into.join(file)).unwrap();
            assert!(found == bytes, "{name}: {} bytes came, and they are not the content", found.len());
        }));
    }
    let agent = |name: &str| if name == "aria2c" { "aria2".to_owned() } else { name.to_owned() };
    let agents: BTreeSet<String> = there.iter().map(|name| agent(name)).collect();
    // aria2c asks all places at once; the others come to Rome after Lyon.
    let at_rome = || !agents.contains("aria2") || stage.lying.gave(1).contains("aria2");
    until("each holds half an answer of Lyon", async || {
        (stage.dying.gave(HELD) == agents && at_rome())
            || running.iter().any(tokio::task::JoinHandle::is_finished)
    })
    .await;
    stage.lyon.kill().await;
    stage.over.send_replace(true);
    for one in running {
        one.await.unwrap();
    }
    assert_eq!(stage.dying.gave(HELD), agents, "each was cut by the place that died");
    assert_eq!(stage.lying.gave(1), agents, "and was told lies");
    stage.rome.stop().await;
}

/// Two places of which none is honest; what came of them is used, and what lacks comes from a third.
async fn zsync(
    into: &Path,
    recipes: &[String],
    none_honest: &[(&str, &str)],
    all: &[(&str, &str)],
    bytes: &[u8],
) {
    let [make, fetch] = recipes else { panic!("two recipes: {recipes:?}") };
    let file = into.join(all.iter().find(|(name, _)| *name == "FILE").expect("a file").1);
    let mut previous = bytes.to_vec();
    previous[..2 << 20].iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::write(into.join("previous"), previous).expect("files of ours");
    for (words, expected) in [(none_honest, false), (all, true)] {
        std::fs::write(&file, bytes).expect("files of ours");
        let made = run(into, make, words).await;
        assert!(made.status.success(), "{made:?}");
        std::fs::remove_file(&file).expect("files of ours");
        let done = run(into, fetch, words).await;
        assert_eq!(done.status.success(), expected, "{done:?}");
    }
}
