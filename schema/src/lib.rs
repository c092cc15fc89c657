//! What the site knows. The only SQL of the project.
//!
//! [`Store`] is the only bridge from async code to SQLite: one writer, a few readers. Each subject has a file with its
//! entity types and, beside them, the questions one may ask and the changes one may make. A question is a method of
//! [`Reader`], a change a method of [`Writer`]; every [`Writer`] is a transaction.

pub mod assigned;
pub mod assignment;
pub mod audit;
pub mod boundaries;
pub mod collections;
mod column;
mod compressed;
pub mod content;
mod counters;
pub mod deployments;
pub mod devices;
pub mod distribution;
pub mod documents;
pub mod forgetting;
mod handle;
pub mod keys;
pub mod licenses;
mod lost;
pub mod metadata;
mod names;
mod open;
pub mod packages;
mod placements;
#[cfg(test)]
mod plans;
pub mod points;
pub mod private;
pub mod pulled;
pub mod retention;
pub mod runs;
pub mod sequences;
pub mod servers;
pub mod software;
mod state;
pub mod tasks;
#[cfg(test)]
mod tests;
mod together;
pub mod tokens;
mod unchanged;
pub mod unnamed;
pub mod update_deployments;
pub mod update_point;
pub mod updates;
pub mod windows;

pub use handle::{Reader, Store, Writer};
pub use open::SchemaError;
pub use unchanged::Unchanged;
