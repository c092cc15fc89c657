//! Journeys of the real program, in both ways of working, against the one fake upstream.

mod bad_servers;
mod beside;
mod boundaries;
mod carried;
mod catalogs;
mod daemon;
mod deploying;
mod device_and_site;
mod device_runs;
mod downloads;
mod everyday;
mod feature_updates;
mod imports;
mod mission;
mod morning;
mod peers;
mod points;
mod power_cut;
mod private;
mod pulling;
mod refusals;
mod rollout;
mod sequences;
mod servers;
mod shown;
