//! Who may have a connection and who may be sent a body now. What does not fit waits a moment, or is told when to come back.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::ServerLimits;
use super::counters::{Counted, Served};
use super::limit::{Pace, Rate};
use super::network::network;
use super::refusal::Refusal;

/// Seconds after which who was refused shall come back: at least, and at most so many more.
const RETRY_AFTER: u32 = 5;
const RETRY_SPREAD: u32 = 20;

/// Who is connected, and what they are being sent.
#[derive(Debug)]
pub(super) struct Admission {
    limits: ServerLimits,
    connected: Mutex<Connected>,
    turns: Option<Arc<Semaphore>>,
    rate: Option<Arc<Rate>>,
    draws: AtomicUsize,
}

/// Who has how many connections. A network of IPv6 is often all desks of a floor; but one desk of it may take as many addresses as it
/// likes. So an address has so many connections, its network more, and turns and rates are those of the network.
#[derive(Debug, Default)]
struct Connected {
    addresses: HashMap<IpAddr, usize>,
    /// By [`network`], which of IPv4 is the address.
    clients: HashMap<IpAddr, (usize, Arc<Client>)>,
}

/// What is one asker's, as far as addresses tell ([`network`]), and connected.
#[derive(Debug, Default)]
pub(super) struct Client {
    transfers: AtomicUsize,
    rate: Option<Arc<Rate>>,
}

impl Admission {
    pub(super) fn new(limits: ServerLimits) -> Self {
        let turns = (limits.max_transfers > 0).then(|| Arc::new(Semaphore::new(limits.max_transfers)));
        let rate = limits.rate_limit.map(|rate| Arc::new(Rate::new(rate, Instant::now())));
        Self { limits, connected: Mutex::default(), turns, rate, draws: AtomicUsize::new(0) }
    }

    /// A place for one more connection beside `all`, given back when it is dropped.
    ///
    /// # Errors
    /// What it is refused for.
    pub(super) fn connect(
        self: &Arc<Self>,
        served: &Arc<Served>,
        address: IpAddr,
        all: usize,
    ) -> Result<Place, Refusal> {
        if all >= self.limits.max_connections {
            return Err(Refusal::Connections);
        }
        let address = address.to_canonical();
        let network = network(address);
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = connected.addresses.get(&address).copied().unwrap_or_default();
        if of_address >= self.limits.max_connections_per_client {
            return Err(Refusal::ClientConnections);
        }
        let of_network = connected.clients.get(&network).map_or(0, |(count, _)| *count);
        if network != address && of_network >= self.limits.max_connections_per_network {
            return Err(Refusal::ClientConnections);
        }
        *connected.addresses.entry(address).or_default() += 1;
        let (count, client) = connected.clients.entry(network).or_insert_with(|| {
            // With nothing saved up: connecting again gains nothing.
            let rate =
                self.limits.rate_limit_per_client.map(|rate| Arc::new(Rate::new(rate, Instant::now())));
            (0, Arc::new(Client { transfers: AtomicUsize::new(0), rate }))
        });
        *count += 1;
        let client = client.clone();
        drop(connected);
        served.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Place { admission: self.clone(), served: served.clone(), address, client })
    }

    /// The turn of one body; waits a moment where all are taken and few wait.
    ///
    /// # Errors
    /// What it is refused for.
    pub(super) async fn turn(&self, served: &Arc<Served>, client: &Arc<Client>) -> Result<Turn, Refusal> {
        let own = self.limits.max_transfers_per_client;
        // The turn counts from here on, so that two requests cannot both be the last that fits.
        let before = client.transfers.fetch_add(1, Ordering::Relaxed);
        served.transfers.fetch_add(1, Ordering::Relaxed);
        let mut turn = Turn { served: served.clone(), client: client.clone(), _permit: None };
        if own > 0 && before >= own {
            return Err(Refusal::ClientBusy);
        }
        if let Some(turns) = &self.turns {
            turn._permit = Some(match turns.clone().try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => self.wait(served, turns).await?,
            });
        }
        Ok(turn)
    }

    async fn wait(&self, served: &Served, turns: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
        if served.waiting.load(Ordering::Relaxed) >= self.limits.most_waiting as u64 {
            return Err(Refusal::Busy);
        }
        let _waiting = Counted::new(&served.waiting);
        let waited = tokio::time::timeout(self.limits.turn_patience, turns.clone().acquire_owned()).await;
        waited.ok().and_then(Result::ok).ok_or(Refusal::Busy)
    }

    /// The pace of a body for this client; `None` where nothing is limited.
    pub(super) fn pace(&self, client: &Client) -> Option<Pace> {
        if self.rate.is_none() && client.rate.is_none() {
            return None;
        }
        Pace::of(self.rate.iter().chain(&client.rate).cloned())
    }

    /// When who is refused now shall come back, in seconds: different for each, so that they do not all come together.
    pub(super) fn retry_after(&self) -> u32 {
        spread(self.draws.fetch_add(1, Ordering::Relaxed))
    }
}

/// The `n`-th of numbers that spread evenly however many are taken (Weyl's sequence of the golden ratio).
fn spread(n: usize) -> u32 {
    let part = (n as u32).wrapping_mul(0x9E37_79B9);
    RETRY_AFTER + ((u64::from(part) * u64::from(RETRY_SPREAD + 1)) >> 32) as u32
}

/// One connection's place among those allowed.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    served: Arc<Served>,
    address: IpAddr,
    pub(super) client: Arc<Client>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.served.connections.fetch_sub(1, Ordering::Relaxed);
        let mut connected = self.admission.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = connected.addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                connected.addresses.remove(&self.address);
            }
        }
        let network = network(self.address);
        if let Some((count, _)) = connected.clients.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                connected.clients.remove(&network);
            }
        }
    }
}

/// One body's turn.
#[derive(Debug)]
pub(super) struct Turn {
    served: Arc<Served>,
    client: Arc<Client>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.served.transfers.fetch_sub(1, Ordering::Relaxed);
        self.client.transfers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn admission(limits: ServerLimits) -> (Arc<Admission>, Arc<Served>) {
        (Arc::new(Admission::new(limits)), Arc::default())
    }

    #[test]
    fn who_is_refused_does_not_come_back_with_the_others() {
        let all: Vec<u32> = (0..210).map(spread).collect();
        assert!(all.iter().all(|after| (RETRY_AFTER..=RETRY_AFTER + RETRY_SPREAD).contains(after)));
        for second in RETRY_AFTER..=RETRY_AFTER + RETRY_SPREAD {
            let so_many = all.iter().filter(|after| **after == second).count();
            assert!((8..=12).contains(&so_many), "{so_many} of 210 come after {second} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_taken_waited_for_and_refused() {
        let limits = ServerLimits { max_transfers: 2, most_waiting: 1, ..ServerLimits::default() };
        let (admission, served) = admission(limits);
        let client = Arc::<Client>::default();
        let first = admission.turn(&served, &client).await.unwrap();
        let second = admission.turn(&served, &client).await.unwrap();
        let waiting = {
            let (admission, served, client) = (admission.clone(), served.clone(), client.clone());
            tokio::spawn(async move { admission.turn(&served, &client).await })
        };
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(served.waiting.load(Ordering::Relaxed), 1);
        let began = Instant::now();
        assert_eq!(admission.turn(&served, &client).await.unwrap_err(), Refusal::Busy, "one waits already");
        assert_eq!(began.elapsed(), Duration::ZERO);
        drop(first);
        let third = waiting.await.unwrap().unwrap();
        // Nobody ends in time now.
        assert_eq!(admission.turn(&served, &client).await.unwrap_err(), Refusal::Busy);
        assert!(began.elapsed() >= limits.turn_patience);
        drop((second, third));
        assert_eq!(served.transfers.load(Ordering::Relaxed), 0);
        assert_eq!(served.waiting.load(Ordering::Relaxed), 0);
        admission.turn(&served, &client).await.unwrap();
    }

    #[tokio::test]
    async fn one_client_has_so_many_turns() {
        let limits = ServerLimits { max_transfers_per_client: 1, ..ServerLimits::default() };
        let (admission, served) = admission(limits);
        let (one, other) = (Arc::<Client>::default(), Arc::<Client>::default());
        let first = admission.turn(&served, &one).await.unwrap();
        assert_eq!(admission.turn(&served, &one).await.unwrap_err(), Refusal::ClientBusy);
        admission.turn(&served, &other).await.unwrap();
        drop(first);
        admission.turn(&served, &one).await.unwrap();
    }

    #[test]
    fn connections_of_one_address_share_a_rate() {
        let limits = ServerLimits {
            max_connections_per_client: 2,
            rate_limit_per_client: Some(1_000),
            ..ServerLimits::default()
        };
        let (admission, served) = admission(limits);
        let address = IpAddr::from([127, 0, 0, 1]);
        let one = admission.connect(&served, address, 0).unwrap();
        let two = admission.connect(&served, address, 1).unwrap();
        assert!(Arc::ptr_eq(&one.client, &two.client));
        assert_eq!(admission.connect(&served, address, 2).unwrap_err(), Refusal::ClientConnections);
        assert!(admission.connect(&served, IpAddr::from([127, 0, 0, 2]), 2).is_ok());
        let all = limits.max_connections;
        assert_eq!(admission.connect(&served, address, all).unwrap_err(), Refusal::Connections);
        drop((one, two));
        assert_eq!(served.connections.load(Ordering::Relaxed), 0);
        let connected = admission.connected.lock().unwrap();
        assert!(connected.clients.is_empty() && connected.addresses.is_empty());
    }

    /// Who has one address of a network of IPv6 has all of them: another address is no other client.
    #[tokio::test]
    async fn another_address_of_a_network_has_no_turn_and_no_rate_of_its_own() {
        let limits = ServerLimits {
            max_transfers_per_client: 1,
            rate_limit_per_client: Some(1_000),
            ..ServerLimits::default()
        };
        let (admission, served) = admission(limits);
        let connect = |address: &str| admission.connect(&served, address.parse().unwrap(), 0).unwrap();
        let one = connect("2001:db8::1");
        let _turn = admission.turn(&served, &one.client).await.unwrap();
        for (address, is_it) in [
            ("2001:db8::2", true),
            ("2001:db8::ffff:1:2:3", true),
            ("2001:db8:0:1::1", false),
            ("fe80::1", false),
            ("fe80::2", false),
            ("192.0.2.1", false),
            ("192.0.2.2", false),
        ] {
            let other = connect(address);
            let turn = admission.turn(&served, &other.client).await.map_err(|refusal| refusal.name());
            assert_eq!(turn.is_err(), is_it, "{address}");
            let (rate, own) = (one.client.rate.as_ref().unwrap(), other.client.rate.as_ref().unwrap());
            assert_eq!(Arc::ptr_eq(rate, own), is_it, "{address}");
        }
        // What it is sent counts for as long as any of its addresses is connected.
        let two = connect("2001:db8::2");
        drop(one);
        assert!(Arc::ptr_eq(&two.client, &connect("2001:db8::3").client));
    }

    #[test]
    fn one_machine_with_many_addresses_leaves_room_for_others() {
        let limits = ServerLimits { max_connections_per_network: 3, ..ServerLimits::default() };
        let (admission, served) = admission(limits);
        let connect = |address: &str| admission.connect(&served, address.parse().unwrap(), 0);
        let network: Vec<_> = (1..=3).map(|host| connect(&format!("2001:db8::{host}")).unwrap()).collect();
        assert_eq!(connect("2001:db8::4").unwrap_err(), Refusal::ClientConnections);
        let others: Vec<_> = (1..=4)
            .flat_map(|host| {
                // A link without a router, this machine, and IPv4 have no such networks.
                [
                    format!("fe80::{host}"),
                    "::1".to_owned(),
                    "192.0.2.1".to_owned(),
                    "::ffff:192.0.2.1".to_owned(),
                ]
            })
            .map(|address| connect(&address).unwrap())
            .collect();
        let clients: Vec<_> = admission.connected.lock().unwrap().clients.keys().copied().collect();
        assert_eq!(clients.len(), 7, "one network, and addresses: {clients:?}");
        let mapped = &others[others.len() - 1].client;
        assert!(Arc::ptr_eq(&others[2].client, mapped), "one address, however it is written");
        assert!(connect("2001:db8:0:1::1").is_ok());
        drop(network);
        assert!(connect("2001:db8::4").is_ok());
    }
}
