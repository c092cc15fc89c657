//! What the site's process knows of its points from moment to moment: who was heard of when, and that something changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};
use dp::locate::Heard;
use jiff::Timestamp;
use schema::points::PointRow;
use tokio::sync::watch;
use uuid::Uuid;

use super::SILENT;
use super::delivered::{Delivered, Groups};
use super::device_keys::DeviceKeys;
use super::kept::Kept;
use super::wire::ServedBytes;
use crate::clock;

/// How often "was heard of" is written down where nothing else changes.
const WRITE: Duration = Duration::from_secs(30);

/// Keys of so much time are told together.
const GATHER: Duration = Duration::from_secs(10);

/// When points hear of new keys. Whoever enrols many devices wakes the points now and then, not each time: each that holds private
/// content asks for them then, and is told all keys again if it is of before. Pure.
#[derive(Debug, Default)]
struct Gathered {
    told: Option<Instant>,
    /// Somebody is about to tell.
    waits: bool,
}

impl Gathered {
    /// There is a new key: after which time it has to be told; `None` where it will be anyway.
    fn another(&mut self, now: Instant) -> Option<Duration> {
        if self.waits {
            return None;
        }
        let since = self.told.map_or(GATHER, |told| now.saturating_duration_since(told));
        let wait = GATHER.saturating_sub(since);
        self.waits = true;
        Some(wait)
    }

    fn tells(&mut self, now: Instant) {
        *self = Self { told: Some(now), waits: false };
    }
}

/// The points of a running site.
#[derive(Debug)]
pub struct Hub {
    gathered: Mutex<Gathered>,
    changes: Mutex<Changes>,
    seen: Mutex<HashMap<i64, Seen>>,
    /// When each was heard of, for who names them to clients.
    pub hearing: Arc<Hearing>,
    delivered: Mutex<HashMap<i64, Delivered>>,
    /// When packages were read again because a point was sent wrong bytes.
    read: Mutex<HashMap<PackageId, Timestamp>>,
    /// Assignments that were made.
    pub kept: Kept,
    /// Keys that points were told.
    pub device_keys: DeviceKeys,
}

/// What whoever waits is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    number: u64,
    /// The site stops: nobody is to wait any longer.
    pub stopping: bool,
}

/// Of each point that ever waited, who is to be told.
#[derive(Debug, Default)]
struct Changes {
    stopping: bool,
    points: HashMap<i64, watch::Sender<Change>>,
}

/// A package that points were sent wrong bytes of is read once in so long.
const READ_APART: Duration = Duration::from_secs(3_600);

/// More processes of one point than this are not told apart.
pub(super) const BOOTS: u32 = 65;

#[derive(Debug)]
struct Seen {
    at: Option<Timestamp>,
    written: Timestamp,
    boot: Uuid,
    earlier: Vec<Uuid>,
    /// What its process has said of all its packages, by the name that it gives that.
    said: Option<String>,
    /// The latest report of its process, by the number that it gives it.
    latest: u64,
}

impl Seen {
    fn first(boot: Uuid) -> Self {
        Self { at: None, written: Timestamp::UNIX_EPOCH, boot, earlier: Vec::new(), said: None, latest: 0 }
    }

    /// Whether this is its latest report; who does not count them is believed.
    fn is_latest(&self, boot: Uuid, number: Option<u64>) -> bool {
        self.boot == boot && number.is_none_or(|number| number == self.latest)
    }

    fn begins(&mut self, boot: Uuid) {
        let before = std::mem::replace(&mut self.boot, boot);
        (self.said, self.latest) = (None, 0);
        if self.earlier.len() + 1 >= BOOTS as usize {
            self.earlier.remove(0);
        }
        self.earlier.push(before);
    }
}

/// When each point was heard of. Answers to clients look at it without asking anybody else.
#[derive(Debug)]
pub struct Hearing {
    since: Timestamp,
    points: Mutex<HashMap<i64, Arc<Heard>>>,
}

impl Hearing {
    /// Somebody listens from now on.
    pub fn since(now: Timestamp) -> Self {
        Self { since: now, points: Mutex::default() }
    }

    /// Of a point that was heard of at `last`, as far as it is written down.
    pub fn of(&self, point: i64, last: Timestamp) -> Arc<Heard> {
        let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        points.entry(point).or_insert_with(|| Arc::new(Heard::new(last, self.since, SILENT))).clone()
    }

    fn hear(&self, point: i64, now: Timestamp) {
        self.of(point, now).hear(now);
    }

    fn forget(&self, point: i64) {
        self.points.lock().unwrap_or_else(PoisonError::into_inner).remove(&point);
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            gathered: Mutex::default(),
            changes: Mutex::default(),
            seen: Mutex::default(),
            hearing: Arc::new(Hearing::since(clock::now())),
            delivered: Mutex::default(),
            read: Mutex::default(),
            kept: Kept::default(),
            device_keys: DeviceKeys::default(),
        }
    }
}

impl Hub {
    fn told(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Any assignment may have changed: all points that wait for theirs look again.
    pub fn changed(&self) {
        self.told().points.values().for_each(|point| point.send_modify(|change| change.number += 1));
    }

    /// The assignments of these points may have changed, and no other.
    pub fn changed_at(&self, points: impl IntoIterator<Item = i64>) {
        let told = self.told();
        for point in points {
            // Who never waited reads when it comes.
            if let Some(point) = told.points.get(&point) {
                point.send_modify(|change| change.number += 1);
            }
        }
    }

    /// There is a key that points do not know yet: when they have to be told with [`Self::tell_keys`], if nobody else is about to.
    pub fn another_key(&self, now: Instant) -> Option<Duration> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner).another(now)
    }

    /// Points that hold private content are told the keys.
    pub fn tell_keys(&self, now: Instant) {
        // Before they look: a key that comes from now on has a turn of its own.
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner).tells(now);
        self.changed();
    }

    /// Nobody is kept waiting any longer.
    pub fn stop(&self) {
        let mut told = self.told();
        told.stopping = true;
        told.points.values().for_each(|point| point.send_modify(|change| change.stopping = true));
    }

    /// Hears from now on of changes that bear on a point.
    pub fn changes(&self, point: i64) -> watch::Receiver<Change> {
        let mut told = self.told();
        let stopping = told.stopping;
        let of_it = told.points.entry(point);
        of_it.or_insert_with(|| watch::Sender::new(Change { number: 0, stopping })).subscribe()
    }

    /// What was written down of processes that spoke before this one of the site began: of each point in the order in which they began.
    pub fn remember(&self, boots: Vec<(i64, Uuid)>) {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (point, boot) in boots {
            match all.get_mut(&point) {
                Some(seen) => seen.begins(boot),
                None => drop(all.insert(point, Seen::first(boot))),
            }
        }
    }

    /// A point speaks. Whether it is a process that was not heard of before; then it is to be written down before it is answered.
    ///
    /// # Errors
    /// `POINT_IDENTITY_TAKEN` where a later start of the same installation was heard of: its data was copied.
    pub fn heard(&self, point: i64, boot: Uuid, now: Timestamp) -> Result<bool, Problem> {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = !all.contains_key(&point);
        let seen = all.entry(point).or_insert_with(|| Seen::first(boot));
        if seen.earlier.contains(&boot) {
            let message = "a process that started later has this point's identity";
            return Err(Problem::new(Code::PointIdentityTaken, message));
        }
        let is_new = is_first || seen.boot != boot;
        if seen.boot != boot {
            seen.begins(boot);
        }
        seen.at = Some(now);
        self.hearing.hear(point, now);
        Ok(is_new)
    }

    /// What was heard last of a point could not be written down: it counts as not heard, so that it is written the next time.
    pub fn unheard(&self, point: i64, boot: Uuid) {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = all.get_mut(&point).filter(|seen| seen.boot == boot) else { return };
        match seen.earlier.pop() {
            Some(before) => seen.boot = before,
            None => drop(all.remove(&point)),
        }
    }

    /// Whether it is time to write down that a point was heard of; then it counts as written.
    pub fn is_to_be_written(&self, point: i64, now: Timestamp) -> bool {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_mut(&point).is_some_and(|seen| {
            let due = now.duration_since(seen.written).unsigned_abs() >= WRITE;
            if due {
                seen.written = now;
            }
            due
        })
    }

    /// Whether a package is to be read again of which a point was sent wrong bytes: not again and again, whoever says so how often.
    pub fn is_to_be_read(&self, package: &PackageId, now: Timestamp) -> bool {
        let mut all = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, read| now.duration_since(*read).unsigned_abs() < READ_APART);
        let is_due = !all.contains_key(package);
        if is_due {
            all.insert(package.clone(), now);
        }
        is_due
    }

    /// A report of the process `boot` of a point has come. Whether it is the latest one; who does not count them is believed.
    pub fn comes(&self, point: i64, boot: Uuid, number: Option<u64>) -> bool {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = all.get_mut(&point).filter(|seen| seen.boot == boot) else { return true };
        let is_late = number.is_some_and(|number| number <= seen.latest);
        seen.latest = seen.latest.max(number.unwrap_or_default());
        !is_late
    }

    /// Whether it still is: who is slow may be overtaken at any time.
    pub fn is_latest(&self, point: i64, boot: Uuid, number: Option<u64>) -> bool {
        let all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&point).is_none_or(|seen| seen.is_latest(boot, number))
    }

    /// What the process `boot` of a point said of all its packages with this report is taken down, and that is called `state`; or is to
    /// be said again. An older word than the latest is none.
    pub fn acknowledge(&self, point: i64, boot: Uuid, number: Option<u64>, state: Option<String>) {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = all.get_mut(&point).filter(|seen| seen.is_latest(boot, number)) {
            seen.said = state;
        }
    }

    /// Whether that is the last that was taken down.
    pub fn has_said(&self, point: i64, boot: Uuid, state: &str) -> bool {
        let all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&point).is_some_and(|seen| seen.boot == boot && seen.said.as_deref() == Some(state))
    }

    /// A point says what its process `boot` has served.
    pub fn served(&self, point: i64, boot: Uuid, said: &[ServedBytes]) {
        let mut all = self.delivered.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(point).or_default().say(boot, said);
    }

    /// What each point has served, as far as it was heard of.
    pub fn delivered(&self, point: i64) -> Groups {
        let all = self.delivered.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&point).map(Delivered::all).unwrap_or_default()
    }

    /// Forgets what was heard of a point.
    pub fn forget(&self, point: i64) {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).remove(&point);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&point);
        self.kept.forget(point);
        self.hearing.forget(point);
    }

    /// Puts in when each was really heard of last.
    pub fn freshen(&self, rows: &mut [PointRow]) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            row.last_seen = row.last_seen.max(seen.get(&row.id).and_then(|seen| seen.at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_enrolments_wake_the_points_now_and_then() {
        let (mut gathered, start) = (Gathered::default(), Instant::now());
        let at = |millis: u64| start + Duration::from_millis(millis);
        assert_eq!(gathered.another(at(0)), Some(Duration::ZERO), "one alone is told at once");
        gathered.tells(at(0));
        assert_eq!(gathered.another(at(4_000)), Some(Duration::from_secs(6)));
        assert_eq!(gathered.another(at(5_000)), None, "somebody is about to");
        gathered.tells(at(10_000));
        // Ten in a second, for a hundred seconds.
        let (mut told, mut due): (u32, Option<Instant>) = (0, None);
        for millis in (10_001..110_000).step_by(100) {
            if due.is_some_and(|due| at(millis) >= due) {
                gathered.tells(at(millis));
                (told, due) = (told + 1, None);
            }
            due = due.or(gathered.another(at(millis)).map(|wait| at(millis) + wait));
        }
        assert_eq!(told, 9);
        assert!(due.is_some(), "and none is forgotten");
        gathered.tells(at(120_000));
        assert_eq!(gathered.another(at(130_000)), Some(Duration::ZERO));
    }

    #[test]
    fn a_change_wakes_the_points_that_it_bears_on() {
        let hub = Hub::default();
        let mut waiting = [2, 3, 4].map(|point| hub.changes(point));
        let woken = |waiting: &mut [watch::Receiver<Change>]| -> Vec<bool> {
            let is_woken = |one: &mut watch::Receiver<Change>| {
                let woken = one.has_changed().expect("the hub is there");
                one.mark_unchanged();
                woken
            };
            waiting.iter_mut().map(is_woken).collect()
        };
        assert_eq!(woken(&mut waiting), [false, false, false]);
        hub.changed_at([3, 9]);
        assert_eq!(woken(&mut waiting), [false, true, false]);
        hub.changed_at([2, 4]);
        hub.changed_at([2]);
        assert_eq!(woken(&mut waiting), [true, false, true]);
        hub.changed();
        assert_eq!(woken(&mut waiting), [true, true, true]);
        hub.stop();
        assert_eq!(woken(&mut waiting), [true, true, true]);
        assert!(waiting.iter().all(|one| one.borrow().stopping));
        assert!(hub.changes(5).borrow().stopping, "nor who comes later");
    }

    #[test]
    fn who_names_a_point_hears_of_it_too() {
        let hub = Hub::default();
        let at = |seconds: i64| clock::now().checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap();
        let named = hub.hearing.of(2, at(-500));
        assert_eq!(named.silent(at(30)), None, "nobody has listened for long");
        assert!(named.silent(at(100)).is_some_and(|silent| silent.as_secs() >= 599));
        assert!(hub.heard(2, Uuid::from_u128(1), at(100)).is_ok());
        assert_eq!(named.silent(at(130)), None);
        assert!(named.silent(at(170)).is_some() && hub.hearing.of(2, at(0)).silent(at(170)).is_some());
        // Whose word does not count is not heard.
        assert!(hub.heard(2, Uuid::from_u128(2), at(171)).is_ok());
        assert!(hub.heard(2, Uuid::from_u128(1), at(300)).is_err() && named.silent(at(300)).is_some());
        hub.forget(2);
        assert_eq!(hub.hearing.of(2, at(300)).silent(at(310)), None, "another point of that number");
    }

    #[test]
    fn the_process_that_started_last_is_the_point() {
        let hub = Hub::default();
        let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).unwrap();
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert!(hub.heard(2, first, at(0)).is_ok() && hub.is_to_be_written(2, at(0)));
        assert!(!hub.is_to_be_written(2, at(5)), "not each time");
        assert!(hub.is_to_be_written(2, at(30)) && !hub.is_to_be_written(9, at(30)));
        assert!(hub.heard(2, second, at(31)).is_ok(), "a restart");
        assert_eq!(hub.heard(2, first, at(32)).unwrap_err().code, Code::PointIdentityTaken);
        assert!(hub.heard(2, second, at(33)).is_ok());
        assert!(hub.heard(3, first, at(33)).is_ok(), "another point");
    }

    #[test]
    fn a_package_is_read_again_once_an_hour_however_often_points_ask_for_it() {
        let at = |seconds: i64| Timestamp::from_second(1_000_000_000 + seconds).unwrap();
        let (one, other) = ("XYZ00001".parse().unwrap(), "XYZ00002".parse().unwrap());
        let hub = Hub::default();
        let read =
            [(&one, 0), (&one, 5), (&other, 6), (&one, 3_599), (&one, 3_600), (&one, 7_199), (&one, 7_200)]
                .map(|(package, seconds)| hub.is_to_be_read(package, at(seconds)));
        assert_eq!(read, [true, false, true, false, true, false, true]);
        assert!(hub.is_to_be_read(&one, at(0)), "a clock that was put back");
    }

    #[test]
    fn who_was_refused_before_the_site_was_started_anew_stays_refused() {
        let now = clock::now();
        let boot = Uuid::from_u128;
        let hub = Hub::default();
        assert!(hub.heard(2, boot(1), now).unwrap(), "it is to be written down");
        assert!(!hub.heard(2, boot(1), now).unwrap(), "once");
        assert!(hub.heard(2, boot(2), now).unwrap());
        let anew = Hub::default();
        anew.remember(vec![(2, boot(1)), (2, boot(2)), (3, boot(1))]);
        assert_eq!(anew.heard(2, boot(1), now).unwrap_err().code, Code::PointIdentityTaken);
        assert!(!anew.heard(2, boot(2), now).unwrap());
        assert!(anew.heard(2, boot(3), now).unwrap(), "a later one takes its place");
        // That could not be written down: it is new the next time, and refuses nobody meanwhile.
        anew.unheard(2, boot(3));
        assert!(!anew.heard(2, boot(2), now).unwrap());
        assert!(anew.heard(2, boot(3), now).unwrap());
        assert!(anew.heard(2, boot(2), now).is_err());
        assert!(!anew.heard(3, boot(1), now).unwrap() && anew.heard(4, boot(9), now).unwrap());
        anew.unheard(4, boot(9));
        assert!(anew.heard(4, boot(9), now).unwrap());
    }
}
