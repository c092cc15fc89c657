//! What the upstream says. Pure: bytes in, values out.
//!
//! No network, no files, no SQL and no clock: everything here is a function of its arguments, so every
//! format can be tested with plain values and attacked with plain bytes. Everything foreign is read under
//! [`limits::Limits`]; everything refused carries a [`problem::Code`].

pub mod cabinet;
pub mod digest;
pub mod esd_catalog;
pub mod feature_update;
pub mod id;
pub mod image;
pub mod limits;
pub mod problem;
pub mod server_sync;
pub mod update;
pub mod wsus_export;
pub mod xml;
