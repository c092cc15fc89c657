//! What every journey stands on: the one fake upstream, the real data where it is there, outside tools where they are
//! installed, and chance that can be repeated.

mod export;
mod rng;
mod site;
mod surroundings;

pub use export::{export, export_drafts};
pub use rng::TestRng;
pub use site::{Ran, TestSite, Way, http, program};
pub use spsync::fixture::*;
pub use surroundings::{data_dir, tool};
