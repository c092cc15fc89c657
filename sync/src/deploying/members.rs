//! Who is in which collection: of [`super::check::World`] all that is needed to count devices.

use std::sync::Arc;

use catalog::problem::Problem;
use schema::collections::Collection;

use crate::site::Site;

/// Collections, and the names of all devices.
pub struct Members {
    collections: Vec<Collection>,
    devices: Vec<String>,
}

impl Members {
    /// As it is now.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn of(site: &Arc<Site>) -> Result<Self, Problem> {
        let (collections, devices) = site.read(|r| Ok((r.collections()?, r.known_devices()?))).await?;
        Ok(Self { collections, devices })
    }

    /// Those of the collection of this name; in a built-in one are all, in one that is gone is nobody.
    pub fn in_collection(&self, name: &str) -> Vec<String> {
        match self.collections.iter().find(|one| one.name.eq_ignore_ascii_case(name)) {
            Some(collection) if collection.built_in => self.devices.clone(),
            Some(collection) => collection.devices.clone(),
            None => Vec::new(),
        }
    }
}
