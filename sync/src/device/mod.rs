//! The client that runs task sequences, on the device itself.
//!
//! ```text
//! plane: policy ──▶ evaluate ──▶ machine (decides) ◀──▶ drive (does) ──▶ executor: simulate | command
//!   ▲                               │
//!   └── outbox ◀── journal ◀────────┘   written down before anything is done
//! ```
//! What it decides is pure: [`evaluate`] when, [`machine`] what next, [`setup`] with which words, [`judge`] under which
//! conditions. One small file holds all that it remembers, replaced as a whole; messages for the site are in it, so that
//! none is lost or told twice whatever ends the process.

pub mod advice;
pub mod content;
pub mod drive;
pub mod evaluate;
pub mod executor;
pub mod explain;
pub mod facts;
pub mod journal;
pub mod judge;
pub mod key;
pub mod link;
pub mod log;
pub mod machine;
pub mod mend;
pub mod pause;
pub mod plan;
pub mod power;
pub mod scripts;
pub mod setup;
pub mod updates;
pub mod variables;
pub mod windows;
