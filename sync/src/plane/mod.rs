//! What the planes of points and devices share. At the site: answers in JSON, the door at which keys and tokens are shown, and
//! how many failed attempts are allowed; the server finds the service by its routes. At the other end: calls of the site, and
//! how a key is got.

pub mod answer;
pub mod call;
pub mod door;
pub mod enrol;
pub mod limit;
