//! Bytes at rest and in motion.
//!
//! [`library`] holds content that was verified, once each. [`transfer`] moves a file there from any of several sources.
//! [`server`] serves it over HTTP. [`client`] is the reference client, [`locate`] decides where it is to
//! look, [`peers`] knows what clients hold.

pub mod client;
pub mod library;
pub mod locate;
pub mod peers;
pub mod server;
pub mod transfer;
