//! What a site answers beside content, on one listener: each service by its own routes.

pub mod answer;
pub mod limit;

use std::sync::Arc;

use dp::server::{Answering, Call, Service};

/// Several services as one. The first whose route it is answers.
#[derive(Default)]
pub struct Plane(Vec<Arc<dyn Service>>);

impl Plane {
    /// The same, with one service more.
    #[must_use]
    pub fn with(mut self, service: Arc<dyn Service>) -> Self {
        self.0.push(service);
        self
    }

    fn of(&self, path: &[&str]) -> Option<(&Arc<dyn Service>, u64)> {
        self.0.iter().find_map(|service| Some((service, service.largest_body(path)?)))
    }
}

impl Service for Plane {
    fn largest_body(&self, path: &[&str]) -> Option<u64> {
        self.of(path).map(|(_, largest)| largest)
    }

    fn answer<'s>(&'s self, call: &'s mut Call<'_>) -> Answering<'s> {
        match self.of(call.path) {
            Some((service, _)) => service.answer(call),
            // Its routes are those that `largest_body` knows; one may have gone in between, by a reload.
            None => Box::pin(async { answer::empty(http::StatusCode::NOT_FOUND) }),
        }
    }
}
