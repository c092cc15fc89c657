//! What the services of a site share: answers in JSON, and patience with mistakes. The server finds the service by its routes.

pub mod answer;
pub mod door;
pub mod limit;
