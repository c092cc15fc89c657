//! Bytes at rest and in motion.
//!
//! [`library`] holds content that was verified, once each. [`transfer`] moves a file there from any of several sources.
//! [`server`] serves it over HTTP. [`client`] is the reference client, [`locate`] decides where it is to
//! look, [`peers`] knows what clients hold, [`delta`] finds what content that is here has in common with another one, [`plain`]
//! opens files that somebody named.

pub mod client;
pub mod delta;
pub mod library;
pub mod locate;
pub mod peers;
pub mod plain;
pub mod server;
pub mod transfer;
