//! Several machines on one: each process in a network namespace of its own, joined by a bridge in another one, that of the
//! test; or, where that is not to be had, all of them on loopback, each at an address of its own in 127/8.
//!
//! ```text
//!   namespace of the test (apart.rs): lan0, 10.0.0.1/8, and the addresses of clients
//!     │ wire1             │ wire2               …
//!   namespace of a place: wire, 10.61.9.2/8      lo
//! ```
//! A namespace has no name: it is there as long as a process in it waits for the end of its input, which comes with the end
//! of the test. A place can be unplugged: it does not answer then, not even to refuse. And its wire can be narrow.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::surroundings::quiet_tool;
use crate::{Apart, Own, apart, free_port};

/// `loopback` keeps a test out of namespaces, where it could have some.
const CHOICE: &str = "SPSYNC_TEST_NETWORK";
/// All that is needed, once.
const TRIES: &str = "ip link add lan0 type bridge; ip link set lan0 up; ip addr add 10.0.0.1/8 dev lan0; \
    ip link add wire1 type veth peer name wire; ip link set wire1 master lan0 up; ip link set wire up; \
    tc qdisc add dev wire root tbf rate 500mbit burst 1mb latency 100ms; unshare --net true";

/// How machines are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Loopback has all of them, in 127/8.
    Loopback,
    /// Each has a namespace, in 10/8.
    Namespaces,
}

impl Network {
    /// The network of the test of this name (as `--exact` wants it): its first statement. `None` where the test was begun anew in a
    /// namespace, and has ended there.
    ///
    /// # Panics
    /// Where it did not end well there.
    pub fn of(test: &str) -> Option<Self> {
        let why = if std::env::var_os(CHOICE).is_some_and(|choice| choice == "loopback") {
            format!("{CHOICE} says so")
        } else if let Some(missing) =
            ["ip", "tc", "nsenter"].into_iter().find(|name| quiet_tool(name).is_none())
        {
            format!("no {missing}")
        } else {
            match apart(test, Own::Network, TRIES) {
                Apart::Done => return None,
                Apart::Here => {
                    batch(
                        None,
                        "link set lo up\nlink add lan0 type bridge\nlink set lan0 up\naddr add 10.0.0.1/8 dev lan0\n\
                         ntable change name arp_cache dev lan0 retrans 100\n",
                    );
                    println!("network: each process in a namespace of its own");
                    return Some(Self::Namespaces);
                }
                Apart::Nothing(why) => why,
            }
        };
        println!("network: addresses in 127/8 ({why})");
        Some(Self::Loopback)
    }

    /// The address that ends so.
    pub fn address(self, [b, c, d]: [u8; 3]) -> Ipv4Addr {
        let first = match self {
            Self::Loopback => 127,
            Self::Namespaces => 10,
        };
        Ipv4Addr::new(first, b, c, d)
    }

    /// Everything that has such addresses.
    pub fn all(self) -> &'static str {
        match self {
            Self::Loopback => "127.0.0.0/8",
            Self::Namespaces => "10.0.0.0/8",
        }
    }

    /// Gives these addresses to the test itself: its clients ask from them.
    pub fn are_here(self, addresses: impl IntoIterator<Item = IpAddr>) {
        if self == Self::Namespaces {
            let lines = addresses.into_iter().map(|address| format!("addr replace {address}/32 dev lan0\n"));
            batch(None, &lines.collect::<String>());
        }
    }

    /// A machine at the address that ends so; `is_here` is the one of the test itself.
    pub fn place(self, end: [u8; 3], is_here: bool) -> Place {
        let address = self.address(end);
        if is_here {
            self.are_here([address.into()]);
        }
        let own = (self == Self::Namespaces && !is_here).then(|| Arc::new(Namespace::new(address)));
        Place { network: self, address, own }
    }
}

/// Where a process runs.
#[derive(Debug, Clone)]
pub struct Place {
    network: Network,
    address: Ipv4Addr,
    own: Option<Arc<Namespace>>,
}

impl Place {
    /// An address of loopback.
    pub fn on_loopback(address: Ipv4Addr) -> Self {
        Self { network: Network::Loopback, address, own: None }
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// What it is joined to.
    pub fn network(&self) -> Network {
        self.network
    }

    /// A port at which nobody listens there.
    pub fn port(&self) -> u16 {
        match self.own {
            // Nobody else is there: what is free on loopback is new there too.
            Some(_) => free_port(Ipv4Addr::LOCALHOST),
            None => free_port(self.address),
        }
    }

    /// What lets keys and tokens go from here in the clear, for a table of this setting: on loopback they may without.
    pub fn in_the_clear(&self, setting: &str) -> String {
        match self.network {
            Network::Loopback => String::new(),
            Network::Namespaces => format!("{setting} = true\n"),
        }
    }

    /// A command that runs there. Its process is that of `program`: it can be signalled.
    pub fn command(&self, program: impl AsRef<OsStr>) -> tokio::process::Command {
        match &self.own {
            Some(own) => own.command(program).into(),
            None => tokio::process::Command::new(program),
        }
    }

    /// Takes its wire away: nothing comes from it any more, and nothing comes to it.
    pub fn unplug(&self) {
        let Some(own) = &self.own else { return };
        batch(None, &format!("link set {} down\n", own.wire));
        // Who asks for it from now on asks where it is, and hears that it is nowhere; what was known of it would be believed for
        // seconds.
        run(Command::new("ip").args(["neigh", "flush", "to", &self.address.to_string()]));
    }

    /// Gives it back.
    pub fn plug(&self) {
        if let Some(own) = &self.own {
            batch(None, &format!("link set {} up\n", own.wire));
        }
    }

    /// Lets no more than so many megabits a second out of it. Whether it has a wire.
    pub fn narrow(&self, megabits: u32) -> bool {
        let Some(own) = &self.own else { return false };
        let rate = format!("{megabits}mbit");
        let ways = ["qdisc", "replace", "dev", "wire", "root", "tbf", "rate", &rate, "burst", "1mb"];
        run(own.command("tc").args(ways).args(["latency", "100ms"]));
        true
    }

    /// How often something had to wait because its wire is narrow.
    pub fn held_up(&self) -> u64 {
        let Some(own) = &self.own else { return 0 };
        let said = run(own.command("tc").args(["-s", "-j", "qdisc", "show", "dev", "wire"]));
        let said: Value = serde_json::from_slice(&said).expect("JSON");
        said[0]["overlimits"].as_u64().expect("a number")
    }
}

/// A network namespace, joined to that of the test.
#[derive(Debug)]
struct Namespace {
    /// Its end at the bridge.
    wire: String,
    waits: Child,
}

impl Namespace {
    fn new(address: Ipv4Addr) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let wire = format!("wire{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut waits = Command::new("unshare");
        waits.args(["--net", "--", "sh", "-c", "echo here; exec cat"]);
        let mut waits = waits.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare starts");
        let mut line = String::new();
        let said = waits.stdout.as_mut().expect("it is piped");
        BufReader::new(said).read_line(&mut line).expect("it says so");
        assert_eq!(line, "here\n");
        let own = Self { wire, waits };
        let (wire, id) = (&own.wire, own.waits.id());
        batch(
            None,
            &format!("link add {wire} type veth peer name wire netns {id}\nlink set {wire} master lan0 up\n"),
        );
        batch(Some(&own), &format!("link set lo up\naddr add {address}/8 dev wire\nlink set wire up\n"));
        own
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.waits.id())).arg("--").arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its input ends first.
        let _ = self.waits.wait();
    }
}

/// Lines for `ip`, in a namespace or in that of the test.
fn batch(at: Option<&Namespace>, lines: &str) {
    let mut ip = at.map_or_else(|| Command::new("ip"), |own| own.command("ip"));
    let ip = ip.args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut ip = ip.spawn().expect("ip starts");
    ip.stdin.take().expect("it is piped").write_all(lines.as_bytes()).expect("it reads");
    let ended = ip.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "{lines}{}", String::from_utf8_lossy(&ended.stderr));
}

fn run(command: &mut Command) -> Vec<u8> {
    let ended = command.output().expect("it starts");
    assert!(ended.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
    ended.stdout
}
