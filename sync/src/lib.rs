//! The site at work: synchronises update catalogs, fills deployment packages, serves its distribution point and
//! answers the command line.
//!
//! A command becomes an [`admin::Request`]; [`admin::answer`] carries it out on a [`site::Site`], in the daemon
//! or in the command's own process: one code path. Long work is a [`tasks`] record that anybody may watch.

pub mod admin;
pub mod api;
pub mod authoring;
mod blocking;
pub mod boundaries;
pub mod carrying;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod deploying;
pub mod device;
pub mod device_plane;
pub mod download;
pub mod export;
pub mod find;
pub mod fixture;
pub mod forgetting;
mod given;
mod health;
pub mod import;
pub mod jitter;
pub mod keys;
pub mod licensing;
pub mod locations;
pub mod mending;
mod metrics;
pub mod names;
pub mod packages;
pub mod plane;
pub mod point;
pub mod points;
pub mod policy;
pub mod run;
pub mod schedule;
pub mod select;
pub mod sequence;
pub mod site;
pub mod software;
pub mod status;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod tokens;
pub mod update_point;
pub mod updates;
pub mod upstream;
pub mod whole;
mod words;
