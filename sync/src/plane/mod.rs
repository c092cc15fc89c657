//! What the services of a site share: answers in JSON, the door at which keys and tokens are shown, and how many failed
//! attempts are allowed. The server finds the service by its routes.

pub mod answer;
pub mod door;
pub mod limit;
