//! Who is in which collection: of [`super::check::World`] all that is needed to count devices.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::problem::Problem;
use schema::collections::Collection;
use schema::keys::PrincipalKind;

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
        let (collections, names, principals) =
            site.read(|r| Ok((r.collections()?, r.device_names()?, r.principals()?))).await?;
        let enrolled = principals
            .into_iter()
            .filter(|one| one.kind == PrincipalKind::Device && one.revoked.is_none())
            .map(|one| one.name);
        let mut devices: BTreeMap<String, String> = BTreeMap::new();
        for name in names.into_iter().chain(enrolled) {
            devices.entry(name.to_ascii_lowercase()).or_insert(name);
        }
        Ok(Self { collections, devices: devices.into_values().collect() })
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
