//! Which content of this machine may have parts of a wanted one, and how much is spent on finding out.

use std::path::PathBuf;
use std::sync::Arc;

use catalog::digest::Sha256Digest;
use tracing::{debug, info};

use super::{Cache, Reach};
use crate::delta::{Base, BlockMap, Effort, LARGEST_MAP, Reuse, Search};
use crate::plain::{self, Links};
use crate::server::LocationsAnswer;
use crate::transfer::web::Small;

/// Contents of the cache whose known digests are compared, those used last.
const MOST_COMPARED: usize = 32;
/// Contents of the cache that are read, where digests did not find everything.
const MOST_READ: usize = 3;
/// Files that somebody may name.
pub const MOST_NAMED: usize = 16;

/// Where parts of a wanted content may be taken from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Delta {
    /// Nowhere: the whole is fetched.
    Off,
    /// What is in the cache: by digests that are known, and a few contents are read where a sample is promising.
    #[default]
    Auto,
    /// These files, read whole; and what is in the cache.
    From(Vec<PathBuf>),
}

/// What of a content is here already; `None` where that is nothing, or cannot be found out.
pub(super) async fn reuse(
    site: &Reach<'_>,
    cache: &Cache,
    answer: &LocationsAnswer,
    delta: &Delta,
) -> Option<Arc<Reuse>> {
    let named = match delta {
        Delta::Off => return None,
        Delta::Auto => Vec::new(),
        Delta::From(files) => files.iter().take(MOST_NAMED).cloned().collect(),
    };
    let (own, content) = (cache.clone(), answer.content);
    let candidates = tokio::task::spawn_blocking(move || candidates(&own, content)).await.ok()?;
    if candidates.is_empty() && named.is_empty() {
        return None; // nobody to compare with: the map is not fetched for nothing
    }
    let url = site.join(&format!("content/{content}/blocks")).ok()?;
    let map = match site.site().ok()?.get_small(&url, LARGEST_MAP, None).await {
        Ok(Small::Body { bytes, .. }) => BlockMap::decode(&bytes, answer.size)?,
        Ok(Small::NotModified) => return None,
        Err(fault) => {
            debug!("the site {} tells no blocks of {content}: {fault}", site.shown());
            return None;
        }
    };
    let own = cache.clone();
    let finding = tokio::task::spawn_blocking(move || find(&own, Arc::new(map), &candidates, &named));
    finding.await.ok()?.map(Arc::new)
}

/// A content of the cache.
struct Candidate {
    content: Sha256Digest,
    name: PathBuf,
}

/// What the cache has beside the wanted content and is worth a look, those used last first.
fn candidates(cache: &Cache, wanted: Sha256Digest) -> Vec<Candidate> {
    let all = cache.list().unwrap_or_default();
    if all.iter().any(|one| one.content == wanted) {
        return Vec::new(); // it is here
    }
    let others = all.into_iter().filter(|one| one.size >= catalog::digest::PIECE_SIZE as u64);
    let named = others.map(|one| Candidate {
        content: one.content,
        name: one.file_name.map_or_else(|| one.content.to_string(), |name| name.to_string()).into(),
    });
    named.take(MOST_COMPARED).collect()
}

/// Compares, then reads what was named, then the best of the rest.
fn find(cache: &Cache, map: Arc<BlockMap>, candidates: &[Candidate], named: &[PathBuf]) -> Option<Reuse> {
    let size = map.size();
    let mut search = Search::new(map);
    let mut bases: Vec<Base> = Vec::new();
    let mut unread: Vec<(usize, usize)> = Vec::new(); // how many blocks are known to be in which base
    for candidate in candidates {
        let Ok(Some(stored)) = cache.library.open_content(candidate.content) else { continue };
        bases.push(Base { path: candidate.name.clone(), file: Arc::new(stored.file) });
        let base = bases.len() - 1;
        let blocks = cache.library.known_fingerprint(candidate.content).map(|print| print.blocks);
        let blocks = blocks.unwrap_or_default();
        unread.push((search.would_find(&blocks), base));
        search.compare(base, &blocks);
    }
    for path in named {
        let Ok(file) = plain::open(path, Links::Followed) else {
            info!("`{}` cannot be read, and nothing is taken from it", path.display());
            continue;
        };
        bases.push(Base { path: path.clone(), file: Arc::new(file) });
        let base = bases.len() - 1;
        scan(&mut search, base, &bases[base], Effort::Whole);
    }
    // Who has some of the blocks where they were is likely to have more of them elsewhere; else who was used last.
    unread.sort_by_key(|(found, _)| std::cmp::Reverse(*found));
    for (_, base) in unread.into_iter().take(MOST_READ) {
        scan(&mut search, base, &bases[base], Effort::WherePromising);
    }
    let reuse = Reuse::of(search, bases)?;
    let bytes: u64 = reuse.spans().iter().map(|span| span.end - span.start).sum();
    info!("{bytes} of {size} bytes are here already, most of them in {}", reuse.name().display());
    Some(reuse)
}

fn scan(search: &mut Search, number: usize, base: &Base, effort: Effort) {
    if !search.is_over()
        && let Err(error) = search.scan(number, &base.file, effort)
    {
        debug!("`{}` is read no further: {error}", base.path.display());
    }
}
