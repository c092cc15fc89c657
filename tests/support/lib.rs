//! What every journey stands on: the one fake upstream, the real data where it is there, outside tools where they are
//! installed, and chance that can be repeated.

mod apart;
pub mod contest;
mod device;
mod export;
mod files;
mod https;
mod memory;
mod network;
mod patience;
mod port;
mod records;
mod rng;
mod scripted;
mod site;
mod strace;
mod surroundings;

pub use apart::{Apart, Own, apart};
pub use device::{FACTS, TestDevice};
pub use export::{export, export_drafts};
pub use files::{files_with, rot};
pub use https::HttpsFront;
pub use memory::memory_kib;
pub use network::{Network, Place};
pub use patience::until;
pub use port::free_port;
pub use records::{WsusRecord, license_id, stand_in};
pub use rng::TestRng;
pub use scripted::{Recorded, recorded_server};
pub use site::{Ran, TestSite, Way, http, program};
pub use spsync::fixture::*;
pub use strace::{CHANGES, Call, Disturbance, Disturbed, Strace, Watched};
pub use surroundings::{data_dir, tool};
