//! Everything that answers to devices are made of: built whole from one state of the site, swapped whole. Pure.
//!
//! Devices in the same collections are told the same; so what is told is made once for each set of collections, from parts
//! that they share, and an answer is these parts behind each other.

use std::collections::HashMap;

use bytes::Bytes;
use catalog::digest::Sha256Digest;
use catalog::id::{PackageId, SiteCode};
use jiff::Timestamp;
use schema::collections::{Collection, SettingsRow};
use schema::deployments::{ContentState, DeploymentRow, Purpose as Wanted};
use schema::sequences::SequenceRow;
use schema::update_deployments::UpdateDeploymentRow;
use schema::windows::WindowRow;

use super::beside;

use crate::deploying::options::{Delivery as Brings, OfferedTo, Options};
use crate::deploying::resolve;
use crate::policy::{
    Assignment, ContentOptions, Delivery, DeploymentId, DeviceSettings, FORMAT, MOST_ASSIGNMENTS, Purpose,
    References, UserOptions,
};
use crate::sequence::Sequence;
use crate::software::settings::effective_of;

/// What a snapshot is made of.
pub struct Inputs {
    /// The site.
    pub site: SiteCode,
    /// Seconds after which devices ask again.
    pub refresh_seconds: u32,
    /// Deployments.
    pub deployments: Vec<DeploymentRow>,
    /// Task sequences.
    pub sequences: Vec<SequenceRow>,
    /// What those that are deployed refer to.
    pub references: HashMap<PackageId, References>,
    /// Places of their secrets that are filled.
    pub secrets: HashMap<PackageId, Vec<u32>>,
    /// Collections.
    pub collections: Vec<Collection>,
    /// Client settings, the strongest first.
    pub settings: Vec<SettingsRow>,
    /// Updates that are deployed beside task sequences.
    pub updates: Vec<UpdateDeploymentRow>,
    /// Files of those updates, as far as they are in the library.
    pub update_files: beside::Files,
    /// Maintenance windows.
    pub windows: Vec<WindowRow>,
}

/// What devices are told.
#[derive(Debug, Default)]
pub struct Snapshot {
    head: Bytes,
    made: String,
    classes: Vec<Class>,
    /// Classes of devices in collections of their own, by name in lower case.
    of: HashMap<String, u32>,
    /// When it has to be made anew, because time changes what it says.
    pub next_change: Option<Timestamp>,
}

/// Devices in the same collections.
#[derive(Debug, Default)]
struct Class {
    here: Told,
    /// On the internet.
    away: Told,
    /// Every deployment to these collections, offered or not: what may be reported about.
    about: Vec<PackageId>,
    /// Those that are offered.
    offered: Vec<PackageId>,
}

/// What is told to devices of a class.
#[derive(Debug, Clone, Default)]
struct Told {
    tag: String,
    parts: Vec<Bytes>,
}

/// An answer: its tag, and the whole body if it is wanted.
pub struct Answered<'s> {
    snapshot: &'s Snapshot,
    told: &'s Told,
}

struct Offered {
    id: PackageId,
    collection: usize,
    /// None: it is not offered now.
    part: Option<Bytes>,
    internet: bool,
}

impl Snapshot {
    /// Makes a snapshot.
    pub fn of(inputs: &Inputs, now: Timestamp) -> Self {
        let changes = inputs.deployments.iter().filter_map(|row| row.expires);
        let windows = beside::window_changes(&inputs.windows, now);
        let next_change =
            changes.chain(beside::changes(&inputs.updates)).chain(windows).filter(|at| *at > now).min();
        let offered: Vec<Offered> =
            inputs.deployments.iter().filter_map(|row| offered(inputs, row, now)).collect();
        let mut in_which: HashMap<String, Vec<usize>> = HashMap::new();
        let mut everybody = Vec::new();
        for (position, collection) in inputs.collections.iter().enumerate() {
            if collection.built_in {
                everybody.push(position);
            }
            for device in &collection.devices {
                in_which.entry(device.to_ascii_lowercase()).or_default().push(position);
            }
        }
        let mut snapshot = Self {
            head: Bytes::from(format!("{{\"format\":{FORMAT},\"site\":\"{}\",\"version\":\"", inputs.site)),
            made: now.to_string(),
            next_change,
            ..Self::default()
        };
        // The class of devices in no collection of their own is the first.
        let mut numbers: HashMap<Vec<usize>, u32> = HashMap::from([(everybody.clone(), 0)]);
        snapshot.classes.push(class(inputs, &offered, &everybody, "", now));
        for (device, own) in in_which {
            let mut which: Vec<usize> = everybody.iter().copied().chain(own).collect();
            which.sort_unstable();
            which.dedup();
            let number = match numbers.get(&which) {
                Some(number) => *number,
                None => {
                    let number = snapshot.classes.len() as u32;
                    snapshot.classes.push(class(inputs, &offered, &which, &device, now));
                    numbers.insert(which, number);
                    number
                }
            };
            snapshot.of.insert(device, number);
        }
        snapshot
    }

    fn class_of(&self, device: &str) -> Option<&Class> {
        let number = self.of.get(&device.to_ascii_lowercase()).copied().unwrap_or_default();
        self.classes.get(number as usize)
    }

    /// What a device is told; nothing before the first snapshot was made.
    pub fn answer(&self, device: &str, away: bool) -> Option<Answered<'_>> {
        let class = self.class_of(device)?;
        Some(Answered { snapshot: self, told: if away { &class.away } else { &class.here } })
    }

    /// Whether a device may report about a deployment.
    pub fn is_about(&self, device: &str, deployment: &PackageId) -> bool {
        self.class_of(device).is_some_and(|class| class.about.contains(deployment))
    }

    /// Whether a deployment is offered to a device.
    pub fn offers(&self, device: &str, deployment: &PackageId) -> bool {
        self.class_of(device).is_some_and(|class| class.offered.contains(deployment))
    }

    /// What is told to everybody: by name in lower case, here and on the internet; beside them what may be reported about and what is
    /// offered. Of devices in no collection of their own, under no name.
    #[cfg(test)]
    pub(super) fn all(
        &self,
    ) -> std::collections::BTreeMap<String, (String, String, Vec<PackageId>, Vec<PackageId>)> {
        let told = |name: &str| {
            let class = self.class_of(name).expect("it was made");
            (class.here.tag.clone(), class.away.tag.clone(), class.about.clone(), class.offered.clone())
        };
        self.of.keys().map(|name| (name.clone(), told(name))).chain([(String::new(), told(""))]).collect()
    }

    /// How many different policies there are.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }
}

impl Answered<'_> {
    /// Tells two states apart.
    pub fn tag(&self) -> &str {
        &self.told.tag
    }

    /// The whole policy, for one device.
    pub fn body(&self, device: &str) -> Bytes {
        let name = serde_json::to_string(device).unwrap_or_else(|_| "\"\"".to_owned());
        let made = &self.snapshot.made;
        let middle = format!("{}\",\"device\":{name},\"made\":\"{made}\",", self.told.tag);
        let length = self.told.parts.iter().map(Bytes::len).sum::<usize>();
        let mut body = Vec::with_capacity(self.snapshot.head.len() + middle.len() + length);
        body.extend_from_slice(&self.snapshot.head);
        body.extend_from_slice(middle.as_bytes());
        self.told.parts.iter().for_each(|part| body.extend_from_slice(part));
        body.into()
    }
}

/// What devices in all of `which` collections are told; `device` is one of them.
fn class(inputs: &Inputs, offered: &[Offered], which: &[usize], device: &str, now: Timestamp) -> Class {
    let own: Vec<&Offered> = offered.iter().filter(|one| which.contains(&one.collection)).collect();
    let settings = DeviceSettings::of(&effective_of(device, &inputs.settings, &inputs.collections));
    let settings = serde_json::to_string(&settings).unwrap_or_else(|_| "{}".to_owned());
    let names: Vec<&str> =
        which.iter().filter_map(|at| inputs.collections.get(*at)).map(|one| one.name.as_str()).collect();
    let beside = beside::part(&inputs.updates, &inputs.update_files, &inputs.windows, &names, now);
    let told = |away: bool| {
        let begin = format!(
            "\"refresh_seconds\":{},\"settings\":{settings},{beside}\"assignments\":[",
            inputs.refresh_seconds
        );
        let mut parts = vec![Bytes::from(begin)];
        let some = own.iter().filter(|one| one.internet || !away).filter_map(|one| one.part.clone());
        for (position, part) in some.take(MOST_ASSIGNMENTS).enumerate() {
            if position > 0 {
                parts.push(Bytes::from_static(b","));
            }
            parts.push(part);
        }
        parts.push(Bytes::from_static(b"]}"));
        let whole: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let tag = Sha256Digest::of(&whole).short();
        Told { tag, parts }
    };
    let here = told(false);
    let away = match own.iter().all(|one| one.internet) {
        true => here.clone(),
        false => told(true),
    };
    Class {
        here,
        away,
        about: own.iter().map(|one| one.id.clone()).collect(),
        offered: own.iter().filter(|one| one.part.is_some()).map(|one| one.id.clone()).collect(),
    }
}

fn offered(inputs: &Inputs, row: &DeploymentRow, now: Timestamp) -> Option<Offered> {
    let collection = inputs.collections.iter().position(|collection| collection.name == row.collection)?;
    let options: Options = serde_json::from_value(row.options.clone()).ok()?;
    let internet = options.internet;
    let part = assignment(inputs, row, options, now)
        .and_then(|assignment| serde_json::to_vec(&assignment).ok())
        .map(Bytes::from);
    Some(Offered { id: row.id.clone(), collection, part, internet })
}

/// A deployment as its devices see it, while it is offered. It is told before it is available, so that devices know when.
fn assignment(inputs: &Inputs, row: &DeploymentRow, options: Options, now: Timestamp) -> Option<Assignment> {
    let sequence = inputs.sequences.iter().find(|sequence| sequence.id == row.sequence)?;
    let over = row.stopped.is_some() || row.expires.is_some_and(|expires| expires <= now);
    let to_clients = matches!(options.offered_to, OfferedTo::Clients | OfferedTo::ClientsAndMedia);
    if over || !sequence.enabled || !to_clients {
        return None;
    }
    let parsed = Sequence::parse(&sequence.document).ok()?;
    let filled = inputs.secrets.get(&row.sequence).map(Vec::as_slice).unwrap_or_default();
    Some(Assignment {
        deployment: row.id.as_str().parse::<DeploymentId>().ok()?,
        task_sequence: row.sequence.clone(),
        revision: sequence.revision.into(),
        name: sequence.name.clone(),
        purpose: match row.purpose {
            Wanted::Available => Purpose::Available,
            Wanted::Required => Purpose::Required,
        },
        available: row.available,
        deadline: row.deadline,
        expires: row.expires,
        rerun: options.rerun,
        user: UserOptions {
            independently: options.user_may_run,
            show_progress: options.show_progress,
            install_outside_windows: options.outside_windows,
            restart_outside_windows: options.restart_outside_windows,
        },
        content: ContentOptions {
            package: row.package.clone(),
            // Where the library had everything no package was chosen, and points serve it all the same.
            points: row.content != ContentState::None,
            neighbours: options.neighbours,
            default_group: options.fallback,
            cloud: options.cloud || row.content == ContentState::None,
            internet: options.internet,
            pre_download: options.pre_download,
            delivery: match options.delivery {
                Some(Brings::WhenNeeded) => Delivery::WhenNeeded,
                _ => Delivery::AllFirst,
            },
        },
        document: sequence.document.clone(),
        references: inputs.references.get(&row.sequence).cloned().unwrap_or_default(),
        secrets: resolve::secrets(&parsed, filled),
    })
}
