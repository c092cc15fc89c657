//! Bytes at rest and in motion.
//!
//! [`library`] holds content that was verified, once each. [`transfer`] moves a file there from any of several sources.
//! [`server`] serves it over HTTP. [`client`] is the reference client, [`locate`] tells it where to look.

pub mod client;
pub mod library;
pub mod locate;
pub mod server;
pub mod transfer;
