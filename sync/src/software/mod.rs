//! The software library beside task sequences: OS upgrade packages, applications; and who is told what: collections and
//! client settings.

pub mod apps;
pub mod collections;
pub mod images;
pub mod places;
pub mod settings;
mod take_in;
pub mod windows;

use std::path::PathBuf;
use std::sync::Arc;

use catalog::problem::Problem;
use serde::{Deserialize, Serialize};

pub use take_in::{Taken, keep, take_in};

use crate::admin::{Answer, Caller};
use crate::site::Site;

/// What the command line asks about the software library.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names are those of the options")]
pub enum SoftwareRequest {
    /// Adds an OS upgrade package.
    ImageAdd {
        path: PathBuf,
        name: String,
        version: String,
        /// It is a boot image.
        #[serde(default)]
        boot: bool,
    },
    /// All OS upgrade packages.
    ImageList,
    /// One of them.
    ImageShow { image: String },
    /// Deletes one.
    ImageDelete { image: String },
    /// Adds an application: its form as text, and the folder that its content is relative to.
    AppAdd { form: String, folder: PathBuf },
    /// All applications.
    AppList,
    /// One of them.
    AppShow { app: String },
    /// It is not installed any more.
    AppRetire { app: String },
    /// Sends an image or application to distribution points.
    Distribute { kind: places::Kind, name: String, to: Vec<String> },
    /// Sends what a task sequence refers to.
    DistributeAll { sequence: String, to: Vec<String> },
    /// Takes an image or application off distribution points.
    Withdraw { kind: places::Kind, name: String, from: Vec<String> },
    /// Makes a collection.
    CollectionCreate { name: String },
    /// All collections.
    CollectionList,
    /// One of them.
    CollectionShow { name: String },
    /// Puts devices in, or takes them out.
    CollectionChange { name: String, devices: Vec<String>, add: bool },
    /// All maintenance windows, or those of one collection.
    WindowList { collection: Option<String> },
    /// Makes a maintenance window, or replaces that of the same name.
    WindowAdd(windows::NewWindow),
    /// Takes one away.
    WindowRemove { collection: String, name: String },
    /// All client settings.
    SettingsList,
    /// Those of one name.
    SettingsShow { name: String },
    /// Changes them, or makes them.
    SettingsSet { name: String, changes: Vec<(String, String)> },
    /// What a device is told, and by which settings.
    SettingsEffective { device: String },
}

/// Carries a request about the software library out.
///
/// # Errors
/// Those of the verb.
pub async fn answer(site: &Arc<Site>, request: SoftwareRequest, caller: &Caller) -> Result<Answer, Problem> {
    match request {
        SoftwareRequest::ImageAdd { path, name, version, boot } => {
            images::add(site, &path, &name, &version, boot, caller).await
        }
        SoftwareRequest::ImageList => Answer::of(&site.read(|r| r.images()).await?),
        SoftwareRequest::ImageShow { image } => Answer::of(&images::named(site, &image).await?),
        SoftwareRequest::ImageDelete { image } => images::delete(site, &image, caller).await,
        SoftwareRequest::AppAdd { form, folder } => apps::add(site, &form, &folder, caller).await,
        SoftwareRequest::AppList => Answer::of(&site.read(|r| r.apps()).await?),
        SoftwareRequest::AppShow { app } => Answer::of(&apps::named(site, &app).await?),
        SoftwareRequest::AppRetire { app } => apps::retire(site, &app, caller).await,
        SoftwareRequest::CollectionCreate { name } => collections::create(site, &name, caller).await,
        SoftwareRequest::CollectionList => Answer::of(&site.read(|r| r.collections()).await?),
        SoftwareRequest::CollectionShow { name } => collections::show(site, &name).await,
        SoftwareRequest::CollectionChange { name, devices, add } => {
            collections::change(site, &name, devices, add, caller).await
        }
        SoftwareRequest::Distribute { kind, name, to } => {
            places::distribute(site, kind, &name, &to, caller).await
        }
        SoftwareRequest::DistributeAll { sequence, to } => {
            places::distribute_all(site, &sequence, &to, caller).await
        }
        SoftwareRequest::Withdraw { kind, name, from } => {
            places::withdraw(site, kind, &name, &from, caller).await
        }
        SoftwareRequest::WindowList { collection } => windows::list(site, collection.as_deref()).await,
        SoftwareRequest::WindowAdd(window) => windows::add(site, window, caller).await,
        SoftwareRequest::WindowRemove { collection, name } => {
            windows::remove(site, &collection, &name, caller).await
        }
        SoftwareRequest::SettingsList => Answer::of(&site.read(|r| r.client_settings()).await?),
        SoftwareRequest::SettingsShow { name } => Answer::of(&settings::named(site, &name).await?),
        SoftwareRequest::SettingsSet { name, changes } => settings::set(site, &name, &changes, caller).await,
        SoftwareRequest::SettingsEffective { device } => settings::effective(site, &device).await,
    }
}
