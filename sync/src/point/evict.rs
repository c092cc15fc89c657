//! Which content that was pulled has to go. Pure.
//!
//! What nobody has asked for in `keep` goes. Where room is wanted, what came in part and nobody goes on with goes first, then what the
//! site names no more, then the least recently used. What is being sent stays, and what was given to this point is none of this at all. Time is what this
//! point has seen go by: that it was off, or that its clock was set, makes nothing old.

use std::time::{Duration, Instant};

use catalog::digest::Sha256Digest;
use jiff::{SignedDuration, Timestamp};

/// The clock is looked at every half a minute: what is longer between two times was not seen. Nobody minds an hour.
const UNSEEN: SignedDuration = SignedDuration::from_hours(1);
/// How often it is written down how far it was seen to go on.
const WRITTEN: SignedDuration = SignedDuration::from_mins(10);
/// So often in succession letting go may bring no room, and so long nothing goes for room then.
const IN_VAIN: u32 = 2;
const HELD_BACK: Duration = Duration::from_secs(600);

/// Whether the disk has the room of what was let go. Where something else keeps it, a snapshot or who has it open, good content
/// would go in vain, one after the other.
#[derive(Debug, Default)]
pub struct Brake {
    in_vain: u32,
    until: Option<Instant>,
}

/// Whether the room of `size` bytes has come: others write to the same disk, so half of it counts.
pub fn has_come(size: u64, before: u64, after: u64) -> bool {
    after.saturating_sub(before) >= size / 2
}

impl Brake {
    /// Whether nothing is to go for room at present.
    pub fn is_on(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// So many bytes were let go, and there was room `before` and `after`. Whether it has come.
    pub fn has_room(&mut self, size: u64, before: u64, after: u64, now: Instant) -> bool {
        let has_come = has_come(size, before, after);
        self.in_vain = if has_come { 0 } else { self.in_vain + 1 };
        if self.in_vain >= IN_VAIN {
            self.until = Some(now + HELD_BACK);
        }
        has_come
    }
}

/// How the clock went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// As it should, and there is nothing to write down.
    WentOn,
    /// As it should; it is time to write that down.
    IsWrittenDown,
    /// By so much, back or forth, while nobody looked.
    Leapt(SignedDuration),
}

/// How the clock went on since it was seen last.
pub fn clock(seen: Option<Timestamp>, now: Timestamp) -> Clock {
    let Some(seen) = seen else { return Clock::IsWrittenDown };
    let passed = now.duration_since(seen);
    if passed.abs() > UNSEEN {
        Clock::Leapt(passed)
    } else if passed.abs() >= WRITTEN {
        Clock::IsWrittenDown
    } else {
        Clock::WentOn
    }
}

/// One content that was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub sha256: Sha256Digest,
    /// Bytes.
    pub size: u64,
    /// When it was sent last.
    pub used: Timestamp,
    /// It is being sent now.
    pub in_use: bool,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    /// How long what nobody asks for stays.
    pub keep: Duration,
    /// The most bytes of all together, if there is such a limit.
    pub room: Option<u64>,
    /// Bytes that are about to come, with those of them that have come already.
    pub coming: u64,
    /// The same of what was given to this point: the limit is not for them, and the disk has to hold them.
    pub given: u64,
    /// Bytes of both that have come: they are on the disk, and not free.
    pub staged: u64,
    /// Bytes that came in part, and that nobody goes on with.
    pub left: u64,
    /// Bytes of whole contents that nobody names: they may go where the disk lacks room, and no limit is for them.
    pub spare: u64,
    /// Bytes that are free on the disk beside those that stay free.
    pub free: u64,
    /// Bytes that are lacking to those that stay free: others have taken them.
    pub lacking: u64,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// What goes.
    pub goes: Vec<Sha256Digest>,
    /// What nobody goes on with goes too.
    pub left_goes: bool,
    /// So many bytes of what nobody names go.
    pub unnamed: u64,
    /// Whether what comes has room then.
    pub has_room: bool,
}

/// What goes, and whether what comes has room then. Where it could not have any, nothing goes for it.
pub fn decide(mut held: Vec<Held>, wish: &Wish, now: Timestamp) -> Decided {
    held.sort_by_key(|one| (one.used, one.sha256));
    let is_old = |one: &Held| {
        let age = now.duration_since(one.used);
        !one.in_use && Duration::try_from(age).is_ok_and(|age| age > wish.keep)
    };
    let (old, held): (Vec<_>, Vec<_>) = held.into_iter().partition(is_old);
    let mut goes: Vec<_> = old.iter().map(|one| one.sha256).collect();
    let together = |held: &[Held]| held.iter().map(|one| one.size).fold(0, u64::saturating_add);
    let mut taken = together(&held).saturating_add(wish.left);
    let mut free = wish.free.saturating_add(together(&old));
    let short = |free: u64| match wish.coming.saturating_add(wish.given).saturating_sub(wish.staged) {
        0 => 0,
        needed => needed.saturating_add(wish.lacking).saturating_sub(free),
    };
    let fits = |taken: u64, free: u64| {
        wish.room.is_none_or(|room| taken.saturating_add(wish.coming) <= room) && short(free) == 0
    };
    let mut left_goes = wish.left > 0 && !fits(taken, free);
    if left_goes {
        (taken, free) = (taken - wish.left, free.saturating_add(wish.left));
    }
    let mut unnamed = short(free).min(wish.spare);
    free = free.saturating_add(unnamed);
    let mut for_it = Vec::new();
    for one in held.iter().filter(|one| !one.in_use) {
        if fits(taken, free) {
            break;
        }
        (taken, free) = (taken - one.size, free.saturating_add(one.size));
        for_it.push(one.sha256);
    }
    let has_room = fits(taken, free);
    // A limit that was lowered is kept also where nothing comes.
    if has_room || (wish.coming == 0 && wish.given == 0) {
        goes.extend(for_it);
    } else {
        (left_goes, unnamed) = (false, 0);
    }
    Decided { goes, left_goes, unnamed, has_room }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(name: u8, size: u64, used: i64, in_use: bool) -> Held {
        let used = Timestamp::from_second(used).unwrap();
        Held { sha256: Sha256Digest([name; 32]), size, used, in_use }
    }

    fn names(goes: &[Sha256Digest]) -> Vec<u8> {
        goes.iter().map(|sha256| sha256.0[0]).collect()
    }

    #[test]
    fn the_table_of_what_goes() {
        let held = || {
            vec![
                one(1, 10, 900, false),
                one(2, 10, 100, false),
                one(3, 10, 500, true),
                one(4, 10, 600, false),
            ]
        };
        let long = Duration::from_secs(10_000);
        let wish = Wish { keep: long, free: 100, ..Wish::default() };
        for (what, wish, expected, room) in [
            ("nothing is wanted", wish, vec![], true),
            ("age", Wish { keep: Duration::from_secs(450), ..wish }, vec![2], true),
            (
                "age, but for what is being sent",
                Wish { keep: Duration::from_secs(150), ..wish },
                vec![2, 4],
                true,
            ),
            ("a limit", Wish { room: Some(45), coming: 10, ..wish }, vec![2], true),
            ("a tight limit", Wish { room: Some(35), coming: 20, ..wish }, vec![2, 4, 1], true),
            ("no room beside what is being sent", Wish { room: Some(25), coming: 20, ..wish }, vec![], false),
            ("larger than the limit", Wish { room: Some(25), coming: 26, ..wish }, vec![], false),
            ("a limit that was lowered", Wish { room: Some(30), ..wish }, vec![2], true),
            ("a limit that cannot be kept", Wish { room: Some(5), ..wish }, vec![2, 4, 1], false),
            ("the disk", Wish { coming: 105, ..wish }, vec![2], true),
            (
                "the disk has to hold what was given too",
                Wish { coming: 5, given: 100, ..wish },
                vec![2],
                true,
            ),
            (
                "a limit is not for what was given",
                Wish { room: Some(50), coming: 10, given: 90, ..wish },
                vec![],
                true,
            ),
            ("for what was given alone", Wish { given: 105, ..wish }, vec![2], true),
            ("not in vain for that either", Wish { given: 131, ..wish }, vec![], false),
            ("the disk is too small", Wish { coming: 131, ..wish }, vec![], false),
            ("the disk has some of it", Wish { coming: 105, staged: 5, ..wish }, vec![], true),
            ("the disk has most of it", Wish { coming: 131, staged: 130, free: 1, ..wish }, vec![], true),
            ("others have taken what stays free", Wish { coming: 95, lacking: 10, ..wish }, vec![2], true),
            ("a deficit counts", Wish { coming: 5, free: 0, lacking: 25, ..wish }, vec![2, 4, 1], true),
            ("not in vain", Wish { coming: 6, free: 0, lacking: 25, ..wish }, vec![], false),
            ("nothing comes for it", Wish { free: 0, lacking: 25, ..wish }, vec![], true),
            (
                "a limit is for all of it",
                Wish { room: Some(45), coming: 10, staged: 10, ..wish },
                vec![2],
                true,
            ),
        ] {
            let decided = decide(held(), &wish, Timestamp::from_second(1_000).unwrap());
            assert_eq!((names(&decided.goes), decided.has_room), (expected, room), "{what}");
            assert!(!decided.left_goes, "{what}");
        }
        for (what, wish, expected, left_goes, room) in [
            (
                "what nobody goes on with takes room",
                Wish { room: Some(60), left: 15, coming: 10, ..wish },
                vec![],
                true,
                true,
            ),
            ("and is not enough", Wish { room: Some(45), left: 15, coming: 10, ..wish }, vec![2], true, true),
            (
                "it stays while there is room",
                Wish { room: Some(70), left: 15, coming: 10, ..wish },
                vec![],
                false,
                true,
            ),
            ("the disk", Wish { left: 15, coming: 110, ..wish }, vec![], true, true),
            ("not in vain", Wish { left: 15, coming: 146, ..wish }, vec![], false, false),
            ("a limit that was lowered", Wish { room: Some(40), left: 15, ..wish }, vec![], true, true),
        ] {
            let decided = decide(held(), &wish, Timestamp::from_second(1_000).unwrap());
            let told = (names(&decided.goes), decided.left_goes, decided.has_room);
            assert_eq!(told, (expected, left_goes, room), "{what}");
        }
    }

    #[test]
    fn what_nobody_names_goes_after_parts_and_before_what_somebody_asked_for() {
        let held = || vec![one(1, 10, 100, false)];
        let wish =
            Wish { keep: Duration::from_secs(10_000), left: 10, spare: 10, free: 100, ..Wish::default() };
        for (what, wish, expected) in [
            ("there is room", Wish { coming: 100, ..wish }, (vec![], false, 0, true)),
            ("parts do", Wish { coming: 110, ..wish }, (vec![], true, 0, true)),
            ("some of it", Wish { given: 114, ..wish }, (vec![], true, 4, true)),
            ("all of it", Wish { given: 120, ..wish }, (vec![], true, 10, true)),
            ("and more", Wish { given: 121, ..wish }, (vec![1], true, 10, true)),
            ("in vain", Wish { given: 131, ..wish }, (vec![], false, 0, false)),
            ("no limit is for it", Wish { room: Some(9), ..wish }, (vec![1], true, 0, true)),
        ] {
            let it = decide(held(), &wish, Timestamp::from_second(1_000).unwrap());
            assert_eq!((names(&it.goes), it.left_goes, it.unnamed, it.has_room), expected, "{what}");
        }
    }

    #[test]
    fn a_clock_that_jumps_back_makes_nothing_old() {
        let wish = Wish { keep: Duration::from_secs(1), ..Wish::default() };
        let now = Timestamp::from_second(10).unwrap();
        assert_eq!(decide(vec![one(1, 1, 5_000, false)], &wish, now).goes, []);
    }

    #[test]
    fn a_clock_that_goes_on_is_told_from_one_that_leaps() {
        let at = |minutes: i64| Timestamp::from_second(1_000_000 + minutes * 60).unwrap();
        let leapt = |minutes| Clock::Leapt(SignedDuration::from_mins(minutes));
        for (seen, now, expected) in [
            (None, 0, Clock::IsWrittenDown),
            (Some(0), 9, Clock::WentOn),
            (Some(9), 0, Clock::WentOn),
            (Some(0), 10, Clock::IsWrittenDown),
            (Some(0), 60, Clock::IsWrittenDown),
            (Some(0), 61, leapt(61)),
            (Some(61), 0, leapt(-61)),
            (Some(0), 576_000, leapt(576_000)),
        ] {
            assert_eq!(clock(seen.map(at), at(now)), expected, "{seen:?} {now}");
        }
    }

    #[test]
    fn where_room_does_not_come_nothing_more_goes_for_a_while() {
        let (mut brake, now) = (Brake::default(), Instant::now());
        assert!(brake.has_room(100, 10, 110, now) && brake.has_room(100, 0, 50, now));
        assert!(!brake.has_room(100, 10, 10, now) && !brake.is_on(now), "once may be others who write");
        assert!(brake.has_room(100, 10, 110, now));
        assert!(!brake.has_room(100, 10, 59, now) && !brake.is_on(now));
        assert!(!brake.has_room(100, 10, 0, now) && brake.is_on(now));
        assert!(brake.is_on(now + HELD_BACK / 2) && !brake.is_on(now + HELD_BACK));
        let later = now + HELD_BACK;
        assert!(!brake.has_room(100, 10, 10, later) && brake.is_on(later), "one more, and held back again");
        assert!(brake.has_room(0, 10, 10, later), "nothing has room anywhere");
    }

    proptest! {
        #[test]
        fn what_is_sent_stays_and_nothing_goes_in_vain(
            held in prop::collection::vec((0..50_u64, 0..1_000_i64, any::<bool>()), 0..12),
            room in proptest::option::of(0..300_u64),
            (coming, given, lacking) in (0..100_u64, 0..100_u64, 0..20_u64),
            staged in 0..100_u64,
            (free, left, spare) in (0..200_u64, 0..50_u64, 0..50_u64),
            keep in 0..2_000_u64,
        ) {
            let held: Vec<_> = held.iter().zip(0..).map(|((size, used, in_use), name)| one(name, *size, *used, *in_use)).collect();
            let wish = Wish { keep: Duration::from_secs(keep), room, coming, given, staged, left, spare, free, lacking };
            let Decided { goes, left_goes, unnamed, has_room } = decide(held.clone(), &wish, Timestamp::from_second(1_000).unwrap());
            let of = |sha256: &Sha256Digest| held.iter().find(|one| one.sha256 == *sha256).unwrap();
            prop_assert!(goes.iter().all(|sha256| !of(sha256).in_use));
            let left: u64 = held.iter().filter(|one| !goes.contains(&one.sha256)).map(|one| one.size).sum();
            let gone: u64 = goes.iter().map(|sha256| of(sha256).size).sum::<u64>() + if left_goes { wish.left } else { 0 };
            let gone = gone + unnamed;
            prop_assert!(unnamed <= spare);
            let left = left + if left_goes { 0 } else { wish.left };
            if has_room {
                prop_assert!(room.is_none_or(|room| left + coming <= room));
                let needed = (coming + given).saturating_sub(staged);
                prop_assert!(needed == 0 || needed + lacking <= free + gone);
            }
            // Whatever goes was used no later than whatever could have gone and stays, but for age.
            let latest_gone = goes.iter().map(|sha256| of(sha256).used).max();
            let earliest_left = held.iter().filter(|one| !one.in_use && !goes.contains(&one.sha256)).map(|one| one.used).min();
            if let (Some(gone), Some(left)) = (latest_gone, earliest_left) {
                prop_assert!(gone <= left);
            }
        }
    }
}
