//! What others wrote, and what is done to it: catalogs, cabinets, exports, images, messages. One program, so that its tests run
//! beside each other.

mod images;
mod real;
mod server_sync;
mod update;
mod wsus_export;
