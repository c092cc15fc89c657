//! What travels over the wire, against the running program, as an outsider sees it.

mod client;
mod downstream;
mod update_point;
mod update_point_content;
mod update_point_hostile;
mod update_point_microsoft;
mod update_point_site;
