//! The client plane of a distribution point, byte for byte: over raw sockets, and with the tools that people use.
#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod answers;
mod at_once;
mod bounds;
mod clients;
mod crowds;
mod feet;
mod hostile;
mod limits;
mod mirrors;
mod mutated;
mod peers;
mod private;
mod pull;
mod pull_names;
mod pull_upstream;
mod ranges;
mod services;
mod shapes;
mod stage;
mod tools;
mod tools_mirrors;
mod windows;
