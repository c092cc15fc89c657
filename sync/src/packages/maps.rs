//! Maps of blocks for what the site offers, so that clients fetch only what they lack ([`dp::delta`]).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use catalog::digest::PIECE_SIZE;
use tracing::{debug, warn};

use crate::site::Site;

/// Makes what is missing, one content at a time, whenever other content is offered. Each is read once, ever: nothing is
/// computed because a client asks.
pub async fn keep(site: Arc<Site>, stopped: impl Future<Output = ()>) {
    tokio::pin!(stopped);
    let stop = Arc::new(AtomicBool::new(false));
    let mut done = HashSet::new();
    loop {
        let offered = site.shelf.load_full();
        // What has one piece is fetched whole.
        let all = offered.contents.iter().filter(|(_, servable)| servable.size > PIECE_SIZE as u64);
        let missing: Vec<_> =
            all.map(|(digest, _)| *digest).filter(|digest| !done.contains(digest)).collect();
        done.retain(|digest| offered.contents.contains_key(digest));
        drop(offered);
        for digest in missing {
            done.insert(digest);
            let (library, told) = (site.library.clone(), stop.clone());
            let making = tokio::task::spawn_blocking(move || {
                if library.has_block_map(digest) {
                    return Ok(true);
                }
                library.make_block_map(digest, || !told.load(Ordering::Relaxed))
            });
            tokio::pin!(making);
            let made = tokio::select! {
                made = &mut making => made,
                () = &mut stopped => {
                    stop.store(true, Ordering::Relaxed);
                    let _ = making.await; // it ends at the next block
                    return;
                }
            };
            match made {
                Ok(Ok(true)) => debug!(content.sha256 = %digest, "{digest} has its map"),
                Ok(Ok(false)) => {
                    debug!(content.sha256 = %digest, "{digest} cannot have a map: its hashes are not known")
                }
                Ok(Err(error)) => {
                    warn!(content.sha256 = %digest, "{digest} has no map of its blocks: {error}")
                }
                Err(died) => warn!("a map was not made: {died}"),
            }
        }
        tokio::select! {
            () = &mut stopped => return,
            () = site.shelf_changed.notified() => {}
        }
    }
}
