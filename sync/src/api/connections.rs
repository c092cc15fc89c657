//! Who may have a connection to the admin plane. Pure: nothing here waits.
//!
//! Where all slots are taken, the one gives way for whom nothing is done: who sends no request, or reads its answer slowly. It is
//! the longest idle one of the address with the most connections, so who opens many costs only itself its slot. Only where
//! everybody is being worked for is the next one refused.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::plane::limit::network;

/// The slots of one listener.
#[derive(Debug)]
pub struct ConnectionSlots {
    most: usize,
    most_each: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Counts what happens: who was busy earlier is idle for longer.
    moment: u64,
    all: HashMap<u64, Taker>,
}

#[derive(Debug)]
struct Taker {
    from: IpAddr,
    since: u64,
    busy: usize,
    leaving: bool,
    leave: Arc<Notify>,
}

impl ConnectionSlots {
    /// So many in all, and so many for one address (IPv6: one network of 64 bits); this machine may have all.
    pub fn new(most: usize, most_each: usize) -> Arc<Self> {
        Arc::new(Self { most, most_each, taken: Mutex::default() })
    }

    /// A slot, perhaps that of another, who is told to leave. `None`: everybody is busy.
    pub fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Slot> {
        let from = network(from);
        let most_each = if from.is_loopback() { self.most } else { self.most_each };
        let mut taken = self.lock();
        let (mut each, mut all) = (HashMap::<IpAddr, usize>::new(), 0);
        for taker in taken.all.values().filter(|taker| !taker.leaving) {
            *each.entry(taker.from).or_default() += 1;
            all += 1;
        }
        let own = each.get(&from).copied().unwrap_or_default();
        if own >= most_each || all >= self.most {
            let may_leave = |taker: &&mut Taker| {
                !taker.leaving && taker.busy == 0 && (own < most_each || taker.from == from)
            };
            let most_and_longest =
                |taker: &&mut Taker| (each.get(&taker.from).copied(), std::cmp::Reverse(taker.since));
            let leaves = taken.all.values_mut().filter(may_leave).max_by_key(most_and_longest)?;
            leaves.leaving = true;
            leaves.leave.notify_one();
        }
        taken.moment += 1;
        let (id, leave) = (taken.moment, Arc::new(Notify::new()));
        let taker = Taker { from, since: id, busy: 0, leaving: false, leave: leave.clone() };
        taken.all.insert(id, taker);
        drop(taken);
        Some(Slot { slots: self.clone(), id, leave })
    }

    fn count(&self, id: u64) {
        if let Some(taker) = self.lock().all.get_mut(&id) {
            taker.busy += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slot of one connection, given back when it is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<ConnectionSlots>,
    id: u64,
    leave: Arc<Notify>,
}

impl Slot {
    /// Something is done for this connection as long as this lives: it need not give way.
    pub fn busy(&self) -> Busy {
        self.slots.count(self.id);
        Busy { slots: self.slots.clone(), id: self.id }
    }

    /// Whether something is done for it.
    pub fn is_busy(&self) -> bool {
        self.slots.lock().all.get(&self.id).is_some_and(|taker| taker.busy > 0)
    }

    /// Returns when another has this slot.
    pub async fn lost(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().all.remove(&self.id);
    }
}

/// A connection for which something is done.
#[derive(Debug)]
pub struct Busy {
    slots: Arc<ConnectionSlots>,
    id: u64,
}

impl Clone for Busy {
    fn clone(&self) -> Self {
        self.slots.count(self.id);
        Self { slots: self.slots.clone(), id: self.id }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        taken.moment += 1;
        let moment = taken.moment;
        if let Some(taker) = taken.all.get_mut(&self.id) {
            taker.busy -= 1;
            taker.since = moment;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn lost(slot: &Slot) -> bool {
        slot.slots.lock().all[&slot.id].leaving
    }

    #[test]
    fn who_opens_many_connections_loses_its_own_and_who_is_worked_for_keeps_its_slot() {
        let slots = ConnectionSlots::new(6, 4);
        let flood: Vec<_> = (0..4).map(|_| slots.enter(address(1)).unwrap()).collect();
        let worked_for = flood[0].busy();
        let quiet = slots.enter(address(2)).unwrap();
        // A fifth of one address takes the slot of its own longest idle one.
        let fifth = slots.enter(address(1)).unwrap();
        assert_eq!(flood.iter().map(lost).collect::<Vec<_>>(), [false, true, false, false]);
        // All are taken: another address gets one of those of who has most.
        let _third = slots.enter(address(3)).unwrap();
        let fourth = slots.enter(address(4)).unwrap();
        assert_eq!(flood.iter().map(lost).collect::<Vec<_>>(), [false, true, true, false]);
        assert!(!lost(&quiet) && !lost(&fifth) && !lost(&fourth));
        drop(worked_for);
        // Who has just been answered is idle for the shortest time.
        let _fifth = slots.enter(address(5)).unwrap();
        assert_eq!(flood.iter().map(lost).collect::<Vec<_>>(), [false, true, true, true]);
        drop(flood);
    }

    #[test]
    fn where_everybody_is_busy_the_next_one_is_refused_until_somebody_is_not() {
        let slots = ConnectionSlots::new(2, 2);
        let (one, other) = (slots.enter(address(1)).unwrap(), slots.enter(address(2)).unwrap());
        let (busy, also) = (one.busy(), other.busy());
        let twice = other.busy();
        assert!(slots.enter(address(3)).is_none());
        drop(also);
        assert!(other.is_busy() && slots.enter(address(3)).is_none(), "a stream goes on");
        drop((busy, twice));
        let third = slots.enter(address(3)).unwrap();
        assert!(lost(&one) && !lost(&other));
        drop((one, other, third));
        assert!(slots.lock().all.is_empty());
        let here = slots.enter("127.0.0.1".parse().unwrap()).unwrap();
        let (_busy, network) = (here.busy(), "2001:db8::1".parse().unwrap());
        let first = slots.enter(network).unwrap();
        let _same = slots.enter("2001:db8::2".parse().unwrap()).unwrap();
        assert!(lost(&first));
    }
}
