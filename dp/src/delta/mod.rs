//! Taking from content that is here what a wanted content has in common with it.
//!
//! ```text
//! the site    BlockMap: of each 64 KiB a rolling sum and a digest      (made once, when content is offered)
//! the client  Search: its own content, block by block (digests that are known) and byte by byte (the sum)
//!             Reuse: what was found, read and checked again while the content is put together
//! ```
//! The sum says where to look, the digest of a block decides, and pieces and whole are checked as if everything had been
//! fetched: so the worst that wrong maps, changed files and bad luck can do is to save nothing.

mod map;
mod reuse;
mod search;
#[cfg(test)]
mod tests;
mod weak;

pub use map::{BlockMap, LARGEST_MAP};
pub use reuse::{Base, Reuse};
pub use search::{Effort, Search};
