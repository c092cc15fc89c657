//! Who takes room from whom.

use std::sync::OnceLock;

use super::*;
use crate::library::Settings;
use crate::server::Access;

/// There is room for so many bytes of all that arrives.
struct Disk {
    room: u64,
    pulls: OnceLock<Arc<Pulls>>,
    seen: Mutex<Vec<(u64, u64)>>,
}

impl Origin for Disk {
    fn find(&self, _: Sha256Digest) -> Eventually<'_, Result<Option<Offer>, Refusal>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn make_room(&self, bytes: u64) -> Eventually<'_, Result<(), Refusal>> {
        Box::pin(async move {
            // Others come meanwhile.
            tokio::time::sleep(Duration::from_millis(10)).await;
            let (coming, _) = self.pulls.get().expect("it was made").arriving_bytes();
            self.seen.lock().expect("nobody panics").push((bytes, coming));
            if coming <= self.room { Ok(()) } else { Err(Refusal::NoRoom) }
        })
    }

    fn stored<'s>(&'s self, _: Sha256Digest, _: &'s Offer, _: &'s Fetched) -> Eventually<'s, ()> {
        Box::pin(std::future::ready(()))
    }

    fn used(&self, _: Sha256Digest) {}
}

#[tokio::test]
async fn what_has_no_room_takes_none_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::open(folder.path(), Settings::default()).unwrap();
    let disk = Arc::new(Disk { room: 100, pulls: OnceLock::new(), seen: Mutex::default() });
    let pulls = Arc::new(Pulls::new(library, disk.clone(), PullLimits::default(), Policy::default()));
    assert!(disk.pulls.set(pulls.clone()).is_ok());
    let mut ended = Vec::new();
    for (seed, size) in [(1, 1_000), (2, 60), (3, 70)] {
        let name = "x.esd".parse().unwrap();
        let servable = Servable::of(size, Some(Sha1Digest([seed; 20])), name, Access::Public);
        let offer = Arc::new(Offer { servable, sources: Vec::new(), pieces: None, rate: None });
        let arrival = pulls.join(Sha256Digest([seed; 32]), &offer).unwrap();
        ended.push(arrival.ended.subscribe());
    }
    let mut why = Vec::new();
    for mut ended in ended {
        why.push(*ended.wait_for(Option::is_some).await.unwrap());
    }
    // Nobody has any of them: whoever has room hears that.
    assert_eq!(why[..2], [Some(Refusal::NoRoom), Some(Refusal::Upstream)]);
    let seen = disk.seen.lock().unwrap().clone();
    assert_eq!(seen[..2], [(1_000, 1_000), (60, 60)], "what was refused, and what waits, does not count");
    assert_eq!(pulls.arriving_bytes(), (0, 0));
}
