//! Collections: named sets of devices.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::problem::{Code, Problem};
use schema::collections::Collection;
use schema::keys::PrincipalKind;

use crate::admin::{Answer, Caller};
use crate::clock;
use crate::find::called;
use crate::names::{self, Rule};
use crate::site::Site;

/// The longest name of a device.
const LONGEST_DEVICE: usize = 253;

/// The collection of this name.
///
/// # Errors
/// `COLLECTION_NOT_FOUND`.
pub async fn named(site: &Arc<Site>, name: &str) -> Result<Collection, Problem> {
    let all = site.read(|r| r.collections()).await?;
    let list = "`spsync collection list`";
    called("collection", Code::CollectionNotFound, name, &all, |row| &row.name, list).cloned()
}

/// One collection with its devices; of a built-in one those that are known now.
///
/// # Errors
/// `COLLECTION_NOT_FOUND`.
pub async fn show(site: &Arc<Site>, name: &str) -> Result<Answer, Problem> {
    let mut collection = named(site, name).await?;
    if collection.built_in {
        let (rows, principals) = site.read(|r| Ok((r.devices()?, r.principals()?))).await?;
        let enrolled =
            principals.into_iter().filter(|one| one.kind == PrincipalKind::Device && one.revoked.is_none());
        let names = rows.into_iter().map(|row| row.name).chain(enrolled.map(|one| one.name));
        let known: BTreeMap<String, String> = names.map(|name| (name.to_lowercase(), name)).collect();
        collection.devices = known.into_values().collect();
    }
    Answer::of(&collection)
}

/// Makes an empty collection.
///
/// # Errors
/// `NAME_*`.
pub async fn create(site: &Arc<Site>, name: &str, caller: &Caller) -> Result<Answer, Problem> {
    let name = names::checked("a collection", name, Rule::Shown)?;
    if caller.dry_run {
        if named(site, &name).await.is_ok() {
            return Err(Problem::new(Code::NameInUse, format!("a collection is called `{name}` already")));
        }
        return Answer::of(&serde_json::json!({ "would_create": name, "dry_run": true }));
    }
    let (made, who) = (name.clone(), caller.who.clone());
    site.write(move |w| {
        w.create_collection(&made, clock::now())?;
        w.audit(&who, "collection.create", &made, clock::now())
    })
    .await?;
    Answer::of(&named(site, &name).await?)
}

/// Puts devices in, or takes them out.
///
/// # Errors
/// `COLLECTION_NOT_FOUND`, `COLLECTION_BUILT_IN`, `NAME_NOT_ALLOWED`.
pub async fn change(
    site: &Arc<Site>,
    name: &str,
    devices: Vec<String>,
    add: bool,
    caller: &Caller,
) -> Result<Answer, Problem> {
    let collection = named(site, name).await?;
    if collection.built_in {
        let message = format!("`{}` holds every device and cannot be changed", collection.name);
        return Err(Problem::new(Code::CollectionBuiltIn, message));
    }
    for device in &devices {
        let fine = !device.is_empty()
            && device.len() <= LONGEST_DEVICE
            && device.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if !fine {
            return Err(Problem::new(
                Code::NameNotAllowed,
                "a device has letters, digits, `-`, `.` and `_` in its name",
            ));
        }
    }
    if caller.dry_run {
        return Answer::of(
            &serde_json::json!({ "collection": collection, "devices": devices, "add": add, "dry_run": true }),
        );
    }
    let (id, who) = (collection.name.clone(), caller.who.clone());
    site.write(move |w| {
        let (what, changed) = match add {
            true => ("collection.add", w.add_devices(&id, &devices)?),
            false => ("collection.remove", w.remove_devices(&id, &devices)?),
        };
        if changed > 0 {
            w.audit(&who, what, &id, clock::now())?;
        }
        Ok(())
    })
    .await?;
    Answer::of(&named(site, &collection.name).await?)
}
