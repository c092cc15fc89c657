//! A morning: two hundred clients of four boundary groups want content at once, from five processes. A distribution point
//! dies in the middle, a peer lies, the cloud is slow and the line to the site is narrow. Everybody ends with verified
//! content, the site's own report adds up, and the same seed leads to the same decisions (docs/decisions/0016).

mod script;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use catalog::digest::Sha256Digest;
use catalog::esd_catalog::Architecture;
use dp::client::{ClientFetched, ClientSettings, DeviceKey, FetchOptions};
use dp::transfer::{Doing, Patience, Policy};
use serde_json::Value;
use support::{
    CatalogDocument, CatalogFormat, CatalogVersion, Fault, MIB, Network, Place, PublishedEsd, TestDevice,
    TestSite, Way, esd, rot, until,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpSocket;
use tokio::process::Child;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::script::{Client, GROUPS, Part};
use crate::full_disk::runs;
use crate::points::{Machine, state, token};

/// Bytes by a name.
type Sums = BTreeMap<String, u64>;

/// The machines, which live through several mornings.
struct World {
    network: Network,
    at_site: Place,
    site: TestSite,
    lyon: Machine,
    /// Killed while others read the rest.
    rome: tokio::sync::Mutex<Machine>,
    honest: TestDevice,
    liar: TestDevice,
    /// Keys of two devices.
    keys: [String; 2],
    /// In the package, of two pieces; of many; in no package.
    contents: [PublishedEsd; 3],
}

/// What clients do when the script says nothing else: short pauses, so that the morning is short.
fn policy() -> Policy {
    Policy::of(Patience {
        attempts_per_source: 2,
        first_delay: Duration::from_millis(10),
        longest_delay: Duration::from_millis(50),
        ..Patience::default()
    })
}

impl World {
    async fn new(network: Network) -> Self {
        // The cloud is where this test is.
        let (at_site, cloud) = match network {
            Network::Loopback => ([0, 0, 1], [0, 0, 1]),
            Network::Namespaces => ([60, 9, 1], [66, 9, 1]),
        };
        let (at_site, cloud) = (network.place(at_site, false), network.place(cloud, true));
        let catalogs = |_: &_, _: &_| vec!["placeholder".to_owned()];
        let mut site = TestSite::at(at_site.clone(), &cloud, Way::Alone, catalogs, "").await;
        let mut contents = Vec::new();
        let draft = || esd("Windows 11", "en-us");
        for draft in [
            draft().of_size(MIB + MIB / 4),
            draft().group("consumer").of_size(8 * MIB + 1),
            draft().architecture(Architecture::Arm64).of_size(MIB + 4_321),
        ] {
            contents.push(site.origin.publish(draft).await);
        }
        let contents: [PublishedEsd; 3] = contents.try_into().expect("three were published");
        let document = CatalogDocument {
            version: CatalogVersion::Sha256,
            esds: contents.to_vec(),
            licenses: site
                .published
                .licenses
                .iter()
                .map(|it| (it.language.clone(), it.url.clone()))
                .collect(),
        };
        let catalog = site.origin.publish_catalog_document("morning.cab", &document, CatalogFormat::Cabinet);
        // The line to the site is narrow, for all together: by itself, or because the site sends no more.
        let rate = if at_site.narrow(500) { "" } else { "rate_limit = \"60MiB/s\"\n" };
        site.configure(|text| {
            let text = text.replace("\"placeholder\"", &format!("{catalog:?}"));
            text.replacen("[server]", &format!("[server]\n{rate}max_connections_per_client = 32"), 1)
        });
        site.start_daemon().await;
        site.ok(&["now"]).await;
        site.ok(&["package", "create", "p"]).await;
        let [first, second, _] = contents.each_ref().map(|esd| esd.update().to_string());
        site.ok(&["license", "review", &first]).await;
        site.ok(&["license", "accept", &first]).await;
        site.ok(&["package", "add", "p", &first, &second]).await;
        site.ok(&["package", "download", "p"]).await;

        for (name, [b, c]) in GROUPS {
            site.ok(&["boundary", "group", "create", name]).await;
            site.ok(&["boundary", "add", &format!("{}/24", network.address([b, c, 0])), "--group", name])
                .await;
        }
        let mut points = Vec::new();
        for (name, address, group) in [("lyon", [61, 9, 2], "LYON"), ("rome", [62, 1, 2], "ROME")] {
            site.ok(&["dp", "add", name, "--url", "http://127.0.0.1:1"]).await;
            let place = network.place(address, false);
            let machine = Machine::at(place, &site.url, &token(&site, name).await, "");
            site.ok(&["dp", "set", name, &format!("url={}", machine.url)]).await;
            site.ok(&["boundary", "group", "add", group, "--point", name]).await;
            points.push(machine);
        }
        let [mut lyon, mut rome]: [Machine; 2] =
            points.try_into().unwrap_or_else(|_| panic!("there are two"));
        // In Rome a long file is still on its way when the script wants it to be.
        let config = std::fs::read_to_string(rome.path("config.toml")).expect("it was written");
        let slow = config.replacen("[server]", "[server]\nrate_limit_per_client = \"1MiB/s\"", 1);
        std::fs::write(rome.path("config.toml"), slow).expect("it is ours");
        // Lyon asks its own point and that of the site alike; Rome may ask those of Lyon, Oslo the site, Kiev nobody.
        site.ok(&["boundary", "group", "add", "LYON", "--point", "site"]).await;
        site.ok(&["boundary", "group", "add", "default", "--point", "site"]).await;
        site.ok(&["boundary", "group", "relate", "ROME", "LYON", "--after", "0m"]).await;
        site.ok(&["boundary", "group", "relate", "OSLO", "default", "--after", "0m"]).await;
        site.ok(&["boundary", "group", "relate", "KIEV", "default", "--never"]).await;
        lyon.start().await;
        rome.start().await;
        site.ok(&["package", "distribute", "p", "--to", "all"]).await;
        for name in ["lyon", "rome"] {
            until("the package is there", async || state(&site, name).await == "success").await;
        }
        // Peers that have what they have from where everybody has it; one of them goes bad afterwards.
        let [first, _, third] = contents.each_ref().map(|esd| esd.fingerprint.sha256.to_string());
        let honest = TestDevice::at(&site, "desk-1", network.place([61, 1, 10], false));
        let liar = TestDevice::at(&site, "desk-2", network.place([62, 1, 10], false));
        for (device, wanted) in [(&honest, &[&first, &third][..]), (&liar, &[&first])] {
            device.enrol(&site).await;
            for content in wanted {
                device.fetch(content).await;
            }
        }
        let blobs = liar.folder.path().join("device/blobs").join(&first[..2]);
        break_after_the_first_piece(&blobs.join(&first));
        // Light clients share the keys of two enrolled devices: it is what they report with, and opens nothing.
        let other = TestDevice::at(&site, "desk-3", network.place([62, 1, 11], true));
        other.enrol(&site).await;
        let keys = [honest.key(), other.key()];
        for esd in &contents {
            site.origin.fault(&esd.path, Fault::Slow(2 * MIB));
        }
        for machine in [&mut lyon, &mut rome] {
            machine.stop().await;
        }
        site.stop_daemon().await;
        let rome = tokio::sync::Mutex::new(rome);
        Self { network, at_site, site, lyon, rome, honest, liar, keys, contents }
    }
}

/// What somebody of this part wants.
fn wanted(contents: &[PublishedEsd; 3], part: Part) -> &PublishedEsd {
    match part {
        Part::Cut => &contents[1],
        Part::Unpackaged => &contents[2],
        _ => &contents[0],
    }
}

/// The second piece of what it holds is wrong; the first is not.
fn break_after_the_first_piece(path: &Path) {
    rot(path, |bytes| bytes[MIB as usize + 1_000] ^= 1);
}

/// A peer's process, and its access log.
struct Sharing {
    process: Child,
    log: Arc<Mutex<String>>,
}

impl Sharing {
    fn start(device: &TestDevice) -> Self {
        // What a desk sends at most is another story, and so is how many it takes at once.
        let mut command = device.command(&["-v", "client", "share", "--max-rate", "1GiB/s"]);
        let mut process = command.stderr(Stdio::piped()).spawn().expect("the program runs");
        let mut lines = BufReader::new(process.stderr.take().expect("it is piped")).lines();
        let log = Arc::<Mutex<String>>::default();
        let kept = log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().expect("nobody panics").push_str(&(line + "\n"));
            }
        });
        Self { process, log }
    }

    /// Bytes of content that it has served, by its own log.
    fn served(&self) -> u64 {
        let log = self.log.lock().expect("nobody died with it");
        let sizes = log.lines().filter_map(|line| line.split("size_bytes=").nth(1));
        sizes.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()).sum()
    }
}

/// What one client did, as far as it does not depend on how fast anything was.
type Decision = String;

/// What came of a morning.
#[derive(Default)]
struct Told {
    decisions: BTreeMap<usize, Decision>,
    /// Bytes that clients have verified, by kind of source in each group.
    by_kind: BTreeMap<String, Sums>,
    /// The same by the name of the source.
    by_name: Sums,
}

/// What all clients share.
struct Stage {
    network: Network,
    url: url::Url,
    keys: [String; 2],
    /// Of those who meet the liar each is a device of its own: the word of one is not enough.
    scouts: AtomicUsize,
    contents: [PublishedEsd; 3],
    folder: tempfile::TempDir,
    told: Mutex<Told>,
    /// How many are in the middle of their long file.
    in_the_middle: AtomicUsize,
}

impl Stage {
    /// One client, from its question to its report.
    async fn client(&self, client: Client) {
        let esd = wanted(&self.contents, client.part);
        let content = esd.fingerprint.sha256;
        let offered = self.offered(client.address, content).await;
        let dir = self.folder.path().join(client.number.to_string());
        let scouted = client.part == Part::Scout && self.scouts.fetch_add(1, Ordering::Relaxed) % 2 == 1;
        let settings = ClientSettings {
            allow_networks: vec![self.network.all().parse().expect("a network")],
            address: Some(client.address),
            key: Some(DeviceKey::new(&self.keys[usize::from(scouted)])),
            plain_key: true,
            // The point that dies does not come back.
            before_cloud: Duration::from_millis(100),
            ..ClientSettings::new(self.url.clone(), dir.clone())
        };
        let asked = Mutex::new(Vec::<String>::new());
        let middle = AtomicBool::new(false);
        let (policy, options) = (policy(), FetchOptions::default());
        let fetching = dp::client::fetch_content_by(&settings, &policy, content, &options, |at| {
            if let Doing::Asking { source } = &at.doing {
                let mut asked = asked.lock().expect("nobody panics");
                if asked.last() != Some(source) {
                    asked.push(source.clone());
                }
            }
            if at.have > 0 && !middle.swap(true, Ordering::Relaxed) && client.part == Part::Cut {
                self.in_the_middle.fetch_add(1, Ordering::Relaxed);
            }
        });
        let fetched = fetching.await.unwrap_or_else(|error| panic!("{client:?}: {error} {error:?}"));
        let there = std::fs::read(&fetched.path).expect("it was placed");
        assert!(there == esd.content.read(0, there.len() + 1), "{client:?} has something else");
        dp::client::report(&settings, &fetched).await.expect("the site takes the report");
        std::fs::remove_dir_all(dir).expect("it is ours");
        let asked = asked.into_inner().expect("nobody panics");
        self.tell(&client, &offered, &asked, &fetched);
    }

    /// Where this client would find the content: the site's answer, but for addresses and times.
    async fn offered(&self, client: IpAddr, content: Sha256Digest) -> String {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(client, 0)).expect("its address is ours");
        let site = self.url.socket_addrs(|| None).expect("an address")[0];
        let mut stream = socket.connect(site).await.expect("the site answers");
        let head = format!("GET /locations/{content} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("it takes a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers in text");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let answer: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {answer}"));
        let mut lines = Vec::new();
        for list in ["locations", "later", "out"] {
            for one in answer[list].as_array().into_iter().flatten() {
                let text = |name: &str| one[name].as_str().unwrap_or_default();
                let list = if list == "locations" { "in" } else { list };
                lines.push(format!("{list} {} {} {}", text("kind"), text("name"), text("why")));
            }
        }
        lines.join(", ")
    }

    fn tell(&self, client: &Client, offered: &str, asked: &[String], fetched: &ClientFetched) {
        let size: u64 = fetched.served.iter().map(|served| served.bytes).sum();
        assert_eq!((size, fetched.resumed_from), (fetched.size, 0), "{client:?}: {fetched:?}");
        let faults = fetched.served.iter().filter_map(|one| Some(format!("{}: {}", one.name, one.fault?)));
        let faults: Vec<_> = faults.collect();
        let decision = format!(
            "{:?} {} [{offered}] asked {}; {}",
            client.part,
            client.address,
            asked.join(" then "),
            faults.join(", ")
        );
        let mut told = self.told.lock().expect("nobody panics");
        told.decisions.insert(client.number, decision);
        let group = GROUPS[client.part.group()].0.to_owned();
        for served in fetched.served.iter().filter(|served| served.bytes > 0) {
            let kind = serde_json::to_value(served.kind).expect("a word");
            let kind = kind.as_str().expect("a word").to_owned();
            *told.by_kind.entry(group.clone()).or_default().entry(kind).or_default() += served.bytes;
            *told.by_name.entry(served.name.clone()).or_default() += served.bytes;
        }
    }
}

/// The script: groups go their own ways at the same time; in Rome one thing comes after the other.
async fn play(world: &World, clients: &[Client]) -> Told {
    let stage = Arc::new(Stage {
        network: world.network,
        url: world.site.url.parse().expect("an address"),
        keys: world.keys.clone(),
        scouts: AtomicUsize::new(0),
        contents: world.contents.clone(),
        folder: tempfile::tempdir().expect("a folder"),
        told: Mutex::default(),
        in_the_middle: AtomicUsize::new(0),
    });
    // A peer serves sixteen at once; who is turned away goes elsewhere, which would be a matter of timing.
    let all = async |parts: &[Part], at_once: usize| {
        let mut running = begin(&stage, clients, parts, at_once);
        while let Some(ended) = running.join_next().await {
            ended.expect("a client ends well");
        }
    };
    let rome = async {
        all(&[Part::Scout], 1).await;
        all(&[Part::Early], 8).await;
        let many = clients.iter().filter(|client| client.part == Part::Cut).count();
        let mut running = begin(&stage, clients, &[Part::Cut], many);
        while stage.in_the_middle.load(Ordering::Relaxed) < many {
            tokio::select! {
                Some(ended) = running.join_next() => panic!("it ended before the point died: {ended:?}"),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
        world.rome.lock().await.vanish().await;
        all(&[Part::Late], 20).await;
        while let Some(ended) = running.join_next().await {
            ended.expect("a client ends well");
        }
    };
    let elsewhere = async {
        tokio::join!(all(&[Part::Lyon, Part::Unpackaged], 8), all(&[Part::Oslo], 8), all(&[Part::Kiev], 20))
    };
    tokio::join!(rome, elsewhere);
    let Ok(stage) = Arc::try_unwrap(stage) else { panic!("everybody is done") };
    stage.told.into_inner().expect("nobody panics")
}

fn begin(stage: &Arc<Stage>, clients: &[Client], parts: &[Part], at_once: usize) -> JoinSet<()> {
    let turns = Arc::new(Semaphore::new(at_once));
    let mut running = JoinSet::new();
    for client in clients.iter().filter(|client| parts.contains(&client.part)).cloned() {
        let (stage, turns) = (stage.clone(), turns.clone());
        running.spawn(async move {
            let _turn = turns.acquire().await.expect("nobody closes it");
            stage.client(client).await;
        });
    }
    running
}

#[test]
fn two_hundred_clients_one_morning() {
    let Some(network) = Network::of("morning::two_hundred_clients_one_morning") else { return };
    runs(two_mornings(network));
}

async fn two_mornings(network: Network) {
    let began = Instant::now();
    let mut world = World::new(network).await;
    println!("prepared after {:?}", began.elapsed());
    let first = morning(&mut world, 0x5eed, true).await;
    println!("the first morning ended after {:?}", began.elapsed());
    let second = morning(&mut world, 0x5eed, false).await;
    println!("the second morning ended after {:?}", began.elapsed());
    for (number, decision) in &first {
        assert_eq!(second.get(number), Some(decision), "client {number} decided otherwise");
    }
    assert_eq!(first.len(), 200);
    let has = |text: &str| first.values().filter(|decision| decision.contains(text)).count();
    // The story really took place.
    if network == Network::Namespaces {
        assert!(world.at_site.held_up() > 0, "the line to the site was full");
    }
    assert_eq!(has("desk-2: HASH_MISMATCH"), 2, "the liar was met twice");
    assert_eq!(has("out peer desk-2 distrusted"), 48, "and asked by nobody after that");
    assert_eq!(has("Cut"), 10);
    assert_eq!(has("rome: "), 10 + 40, "a dead point is noticed by all who asked it then");
    assert!(has("then lyon;") > 5 && has("then site;") > 5, "equal places share the load");
}

async fn morning(world: &mut World, seed: u64, first: bool) -> BTreeMap<usize, Decision> {
    world.site.start_daemon().await;
    world.lyon.start().await;
    world.rome.lock().await.start().await;
    let mut honest = Sharing::start(&world.honest);
    let mut liar = Sharing::start(&world.liar);
    let content = world.contents[0].fingerprint.sha256.to_string();
    for (ip, name) in [([61, 1, 99], "desk-1"), ([62, 1, 99], "desk-2")] {
        let (site, ip) = (&world.site, world.network.address(ip).to_string());
        until("the peer is offered", async || {
            let located = site.ok(&["content", "locate", "--ip", &ip, &content]).await;
            located["candidates"][0]["name"] == name
        })
        .await;
    }
    let sent_before: u64 = world.contents.iter().map(|esd| world.site.origin.bytes_sent(&esd.path)).sum();
    let clients = script::clients(world.network, seed);
    world.network.are_here(clients.iter().map(|client| client.address));
    let told = play(world, &clients).await;
    // The site's own report is exactly what the clients have.
    let status = world.site.ok(&["status"]).await;
    assert_eq!(groups_of(&status["taken"]), told.by_kind, "{status:#}");
    let verified: u64 = clients.iter().map(|client| wanted(&world.contents, client.part).wanted.size).sum();
    let reported: u64 = told.by_kind.values().flat_map(BTreeMap::values).sum();
    assert_eq!(reported, verified, "every byte of every file has one source");

    // And nobody served less than was taken from it; what is more was wasted on clients that could not use it.
    let lyon = world.lyon.status().await;
    let sent_now: u64 = world.contents.iter().map(|esd| world.site.origin.bytes_sent(&esd.path)).sum();
    let taken = |name: &str| told.by_name.get(name).copied().unwrap_or(0);
    let own = |status: &Value| groups_of(&status["served"]["groups"]);
    let sum = |groups: &BTreeMap<String, Sums>| groups.values().flat_map(BTreeMap::values).sum::<u64>();
    assert_eq!(sum(&own(&lyon)), taken("lyon"), "nothing of Lyon's point was in vain");
    assert_eq!(own(&lyon).keys().map(String::as_str).collect::<Vec<_>>(), ["ROME"]);
    assert_eq!(honest.served(), taken("desk-1"), "nor of the honest peer");
    assert_eq!(sent_now - sent_before, taken("upstream"), "nor of the cloud");
    let (from_site, from_liar) = (sum(&own(&status)), liar.served());
    // Where content is, and what its pieces are, is told beside it.
    let beside = from_site - taken("site");
    assert!(beside < 200 * 8_192, "{beside} bytes of answers");
    assert_eq!(taken("desk-2"), 2 * MIB, "the pieces before the lie are good");
    assert!(from_liar > taken("desk-2") && from_liar <= 2 * world.contents[0].wanted.size, "{from_liar}");
    println!("taken by name {:?}, wasted by the liar {}", told.by_name, from_liar - taken("desk-2"));
    if first {
        // What a point counts comes to the site with its reports.
        let site = &world.site;
        until("the site knows what Lyon's point served", async || {
            let status = site.ok(&["status"]).await;
            let shown =
                status["points"].as_array().expect("a list").iter().find(|shown| shown["name"] == "lyon");
            let delivered = groups_of(&status["delivered"]);
            let rome = delivered.get("ROME").map_or(0, |sums| sums.values().sum::<u64>());
            groups_of(&shown.expect("it is listed")["served"]) == own(&lyon)
                && rome >= sum_of(&own(&lyon), "ROME")
        })
        .await;
    }
    honest.process.kill().await.expect("it runs");
    liar.process.kill().await.expect("it runs");
    world.lyon.stop().await;
    world.site.stop_daemon().await;
    told.decisions
}

fn sum_of(groups: &BTreeMap<String, Sums>, group: &str) -> u64 {
    groups.get(group).map_or(0, |sums| sums.values().sum())
}

fn groups_of(groups: &Value) -> BTreeMap<String, Sums> {
    serde_json::from_value(groups.clone()).unwrap_or_default()
}
