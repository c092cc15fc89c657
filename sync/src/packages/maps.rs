//! Maps of blocks for what the site has, so that clients fetch only what they lack ([`dp::delta`]).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use catalog::digest::{PIECE_SIZE, Sha256Digest};
use tracing::{debug, warn};

use crate::site::Site;

/// Makes what is missing, one content at a time, whenever there may be other content. Each is read once, ever: nothing is
/// computed because a client asks.
pub async fn keep(site: Arc<Site>, stopped: impl Future<Output = ()>) {
    tokio::pin!(stopped);
    let stop = Arc::new(AtomicBool::new(false));
    let mut done: HashSet<Sha256Digest> = HashSet::new();
    loop {
        let all = worth_a_map(&site).await;
        // What was removed and comes again has no map any more.
        done.retain(|digest| all.contains(digest));
        for digest in all {
            if !done.insert(digest) {
                continue;
            }
            let began = Instant::now();
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
                    debug!(content.sha256 = %digest, "{digest} has no map: its hashes are not known");
                }
                Ok(Err(error)) => {
                    warn!(content.sha256 = %digest, "{digest} has no map of its blocks: {error}")
                }
                Err(died) => warn!("a map was not made: {died}"),
            }
            // The disk is for others at least half of the time.
            tokio::select! {
                () = &mut stopped => return,
                () = tokio::time::sleep(began.elapsed()) => {}
            }
        }
        tokio::select! {
            () = &mut stopped => return,
            () = site.shelf_changed.notified() => {}
        }
    }
}

/// Also what only points on other machines serve: their clients ask the site for hashes. What has one piece is fetched whole.
async fn worth_a_map(site: &Arc<Site>) -> HashSet<Sha256Digest> {
    match site.read(|r| r.contents()).await {
        Ok(all) => all.into_iter().filter(|row| row.size > PIECE_SIZE as u64).map(|row| row.sha256).collect(),
        Err(problem) => {
            warn!("no maps are made: {problem}");
            HashSet::new()
        }
    }
}
