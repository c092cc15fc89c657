//! `spsync deploy check`: who could do it, where the content would be found, and how many bytes would go over which link
//! (mission row M15). [`judge`] is pure: everything that the site knows is in [`World`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use catalog::digest::Sha256Digest;
use catalog::id::UpdateId;
use catalog::problem::{Code, Problem};
use dp::locate::Places;
use schema::collections::{Collection, SettingsRow};
use schema::deployments::Purpose;
use schema::update_deployments::UpdateDeploymentRow;
use serde::{Deserialize, Serialize};

use super::eligible::{Judged, Needs, Reason, Why};
use super::options::Options;
use super::package::Package;
use super::reaching::{self, Asker, GroupLine, Means, Wanted};
use super::request::CheckArgs;
use super::resolve::{self, Stored};
use super::risk::Risk;
use super::{create, named};
use crate::admin::Answer;
use crate::authoring::surroundings::{Known, sequence};
use crate::clock;
use crate::device_plane::beside;
use crate::policy::{ContentFile, Facts, MOST_REFERENCES, References};
use crate::sequence::Sequence;
use crate::site::Site;
use crate::software::{collections, places};

/// What the site knows that deployments are judged by.
pub struct World {
    /// What task sequences refer to.
    pub known: Known,
    /// Verified content.
    pub stored: Stored,
    /// Collections.
    pub collections: Vec<Collection>,
    /// Client settings, the strongest first.
    pub settings: Vec<SettingsRow>,
    /// Content of private packages alone.
    private: HashSet<Sha256Digest>,
    /// Updates that are offered now beside task sequences: to which devices, in lower case (`None`: to all), and which.
    beside: Vec<(Option<HashSet<String>>, Vec<UpdateId>)>,
    /// Devices by their names in lower case: name, facts, and where they asked from.
    devices: BTreeMap<String, Device>,
}

struct Device {
    name: String,
    facts: Option<Facts>,
    address: Option<IpAddr>,
}

impl World {
    /// As it is now.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn of(site: &Arc<Site>) -> Result<Self, Problem> {
        let known = Known::of(site).await?;
        let (stored, collections, settings, rows, names, private, updates) = site
            .read(|r| {
                let (stored, collections) = (r.stored_files()?, r.collections()?);
                let (settings, devices) = (r.client_settings()?, r.devices()?);
                let (names, private) = (r.known_devices()?, r.private_contents()?);
                Ok((stored, collections, settings, devices, names, private, r.update_deployments()?))
            })
            .await?;
        let mut devices: BTreeMap<String, Device> = BTreeMap::new();
        for row in rows {
            let facts = row.facts.and_then(|facts| serde_json::from_value(facts).ok());
            let address = row.address.and_then(|address| address.parse().ok());
            devices.insert(row.name.to_ascii_lowercase(), Device { name: row.name, facts, address });
        }
        for name in names {
            let key = name.to_ascii_lowercase();
            devices.entry(key).or_insert(Device { name, facts: None, address: None });
        }
        let (stored, private) = (Stored::of(stored), private.into_iter().collect());
        let now = clock::now();
        let offered = updates.into_iter().filter(|row| beside::is_offered(row, now));
        let told = |row: UpdateDeploymentRow| {
            let collection = collections.iter().find(|collection| collection.name == row.collection)?;
            let lower = |name: &String| name.to_ascii_lowercase();
            let who = (!collection.built_in).then(|| collection.devices.iter().map(lower).collect());
            Some((who, row.updates.into_iter().map(|(id, _)| id).collect()))
        };
        let beside = offered.filter_map(told).collect();
        Ok(Self { known, stored, collections, settings, private, beside, devices })
    }

    /// Updates that are deployed to a device beside task sequences, as its policy names them.
    fn beside(&self, name: &str) -> Vec<UpdateId> {
        if self.beside.is_empty() {
            return Vec::new();
        }
        let name = name.to_ascii_lowercase();
        let told = self.beside.iter().filter(|(who, _)| who.as_ref().is_none_or(|who| who.contains(&name)));
        let all: BTreeSet<UpdateId> = told.flat_map(|(_, updates)| updates).copied().collect();
        all.into_iter().take(MOST_REFERENCES).collect()
    }

    /// Names of the devices in a collection; in a built-in one are all.
    pub fn members(&self, collection: &Collection) -> Vec<String> {
        match collection.built_in {
            true => self.devices.values().map(|device| device.name.clone()).collect(),
            false => collection.devices.clone(),
        }
    }

    /// What a device said of itself.
    pub fn facts(&self, name: &str) -> Option<&Facts> {
        self.devices.get(&name.to_ascii_lowercase())?.facts.as_ref()
    }

    /// What to do about devices of a collection that the site knows nothing of.
    fn strangers(&self, collection: &Collection) -> Option<String> {
        let known = |name: &String| self.devices.contains_key(&name.to_ascii_lowercase());
        let all: Vec<String> = self.members(collection).into_iter().filter(|name| !known(name)).collect();
        let some = all.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if all.len() > 5 { ", …" } else { "" };
        (!all.is_empty()).then(|| {
            format!(
                "{} devices have never enrolled ({some}{more}): enrol them with spsync key enrol NAME",
                all.len()
            )
        })
    }

    fn address(&self, name: &str) -> Option<IpAddr> {
        self.devices.get(&name.to_ascii_lowercase())?.address
    }

    /// What a sequence refers to.
    pub fn references(&self, sequence: &Sequence) -> References {
        resolve::references(sequence, &self.known, &self.stored)
    }
}

/// What is checked.
pub struct About<'a> {
    /// The task sequence.
    pub sequence: &'a Sequence,
    /// What it refers to.
    pub references: &'a References,
    /// For whom.
    pub collection: &'a Collection,
    /// Feature updates may come from the cloud.
    pub cloud: bool,
    /// Devices on the internet are offered it.
    pub internet: bool,
    /// Names of points that feature updates will be sent to.
    pub planned: Vec<String>,
    /// Names of points that images and applications will be sent to.
    pub planned_software: Vec<String>,
    /// The site's own point, which serves images and applications as soon as they are deployed.
    pub own: Option<String>,
}

/// One device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClientLine {
    /// Its name.
    pub device: String,
    /// It can do it.
    pub eligible: bool,
    /// Why not.
    pub reasons: Vec<Reason>,
    /// Ids of what it would take.
    pub takes: Vec<String>,
    /// Bytes that it would download.
    pub bytes: u64,
    /// Its boundary groups; empty where its address is not known.
    pub groups: Vec<String>,
}

/// Devices that one sort of reason keeps back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyLine {
    /// The sort.
    pub why: Why,
    /// In words.
    pub words: String,
    /// How many.
    pub devices: u64,
}

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checked {
    /// The task sequence.
    pub sequence: String,
    /// The collection.
    pub collection: String,
    /// Devices in it.
    pub devices: u64,
    /// Those that can do it.
    pub eligible: u64,
    /// Why not the others; each device is counted once, by its first reason.
    pub reasons: Vec<WhyLine>,
    /// Boundary groups.
    pub groups: Vec<GroupLine>,
    /// The largest download of one device.
    pub largest_download: u64,
    /// The risk.
    pub risk: Option<Risk>,
    /// Remarks.
    pub notes: Vec<String>,
    /// Each device.
    pub clients: Vec<ClientLine>,
}

impl Checked {
    /// `CONTENT_NOT_REACHABLE`, if there are boundary groups whose devices find its content nowhere.
    pub fn nowhere(&self) -> Option<Problem> {
        let out = self.groups.iter().filter(|line| line.means == Means::NotReachable);
        let out: Vec<&str> = out.flat_map(|line| &line.groups).map(String::as_str).collect();
        (!out.is_empty()).then(|| {
            let message = format!("devices of {} would find its content nowhere", out.join(", "));
            Problem::new(Code::ContentNotReachable, message)
        })
    }
}

/// Judges.
pub fn judge(world: &World, places: &Places, about: &About<'_>) -> Checked {
    let mut needs = Needs::of(about.sequence, about.references, about.internet);
    let contents = Contents::of(about, world, places);
    let mut clients = Vec::new();
    let mut askers = Vec::new();
    let mut why: BTreeMap<Why, u64> = BTreeMap::new();
    for name in world.members(about.collection) {
        let judged = needs.judge(world.facts(&name), &world.beside(&name));
        let address = world.address(&name);
        match judged.reasons.first() {
            Some(first) => *why.entry(first.why).or_default() += 1,
            None => askers.push(Asker { address, wants: contents.wanted_by(&judged) }),
        }
        let groups = address.map(|address| places.standing(address).groups).unwrap_or_default();
        clients.push(ClientLine {
            device: name,
            eligible: judged.is_eligible(),
            takes: judged
                .updates
                .iter()
                .map(ToString::to_string)
                .chain(judged.packages.iter().map(ToString::to_string))
                .collect(),
            reasons: judged.reasons,
            bytes: judged.bytes,
            groups: places.names(&groups).into_iter().map(str::to_owned).collect(),
        });
    }
    Checked {
        sequence: about.sequence.name.clone(),
        collection: about.collection.name.clone(),
        devices: clients.len() as u64,
        eligible: askers.len() as u64,
        reasons: why
            .into_iter()
            .map(|(why, devices)| WhyLine { why, words: why.words().to_owned(), devices })
            .collect(),
        groups: reaching::lines(places, &contents.all, &askers),
        largest_download: clients
            .iter()
            .filter(|line| line.eligible)
            .map(|line| line.bytes)
            .max()
            .unwrap_or_default(),
        risk: None,
        notes: Vec::new(),
        clients,
    }
}

/// How content of one sort comes to devices.
struct Way {
    /// Points that have it as soon as it is deployed.
    served: BTreeSet<u32>,
    /// Points that it will be sent to.
    planned: BTreeSet<u32>,
    /// The upstream's own links may be used.
    cloud: bool,
    /// It is for those with a key alone.
    private: bool,
}

/// Contents of everything that is referred to, and which are whose.
struct Contents<'a> {
    world: &'a World,
    places: &'a Places,
    all: Vec<Wanted>,
    of: HashMap<String, Vec<usize>>,
}

impl<'a> Contents<'a> {
    fn of(about: &About<'_>, world: &'a World, places: &'a Places) -> Self {
        let numbers = |names: &mut dyn Iterator<Item = &String>| -> BTreeSet<u32> {
            names.filter_map(|name| places.point_called(name)).collect()
        };
        let updates = Way {
            served: BTreeSet::new(),
            planned: numbers(&mut about.planned.iter()),
            cloud: about.cloud,
            private: false,
        };
        let software = Way {
            served: numbers(&mut about.own.iter()),
            planned: numbers(&mut about.planned_software.iter()),
            cloud: false,
            private: true,
        };
        let mut made = Self { world, places, all: Vec::new(), of: HashMap::new() };
        for update in &about.references.feature_updates {
            made.add(update.id().to_string(), &update.files, &updates);
        }
        for image in &about.references.images {
            made.add(image.id.to_string(), std::slice::from_ref(&image.file), &software);
        }
        for app in &about.references.applications {
            made.add(app.id.to_string(), &app.files, &software);
        }
        made
    }

    fn add(&mut self, id: String, files: &[ContentFile], way: &Way) {
        for file in files {
            let held = file.sha256.and_then(|sha256| self.places.holds(sha256));
            let private =
                way.private || file.sha256.is_some_and(|sha256| self.world.private.contains(&sha256));
            let wanted = Wanted {
                name: file.name.to_string(),
                size: file.size,
                held: held.iter().flat_map(|held| held.points.keys()).chain(&way.served).copied().collect(),
                planned: way.planned.clone(),
                // What was published with a SHA-1 alone cannot be asked for by a device.
                cloud: way.cloud && held.is_some_and(|held| !held.cloud.is_empty()),
                shared: !private,
                // What any point is given, those that fetch may have too.
                offered: !private && (held.is_some_and(|held| held.offered) || !way.planned.is_empty()),
            };
            self.of.entry(id.clone()).or_default().push(self.all.len());
            self.all.push(wanted);
        }
    }

    fn wanted_by(&self, judged: &Judged) -> Vec<usize> {
        let updates = judged.updates.iter().map(ToString::to_string);
        let ids = updates.chain(judged.packages.iter().map(ToString::to_string));
        ids.filter_map(|id| self.of.get(&id)).flatten().copied().collect()
    }
}

/// The name of the site's own point.
///
/// # Errors
/// Those of the database.
pub(super) async fn own_point(site: &Arc<Site>) -> Result<Option<String>, Problem> {
    let rows = site.read(|r| r.point_settings()).await?;
    Ok(rows.into_iter().find(|row| row.id == schema::points::OWN_POINT).map(|row| row.name))
}

/// Checks a deployment that is there, or one to make.
///
/// # Errors
/// `DEPLOYMENT_NOT_FOUND`, `TASK_SEQUENCE_NOT_FOUND`, `COLLECTION_NOT_FOUND`, `DP_NOT_FOUND`; `CONTENT_NOT_REACHABLE` with
/// `strict`, beside the answer.
pub async fn check(site: &Arc<Site>, args: &CheckArgs) -> Result<Answer, Problem> {
    let world = World::of(site).await?;
    let deployment = match named(site, &args.what).await {
        Ok(row) => Some(row),
        Err(problem) if problem.code == Code::DeploymentNotFound => None,
        Err(problem) => return Err(problem),
    };
    let row = match &deployment {
        Some(deployment) => sequence(site, deployment.sequence.as_str()).await?,
        None => sequence(site, &args.what).await?,
    };
    let sequence = Sequence::parse(&row.document)?;
    let name = args.collection.clone().or_else(|| deployment.as_ref().map(|row| row.collection.clone()));
    let Some(name) = name else {
        return Err(Problem::new(Code::ChoiceRequired, "a task sequence is checked for a collection")
            .help("add --collection C"));
    };
    let collection = collections::named(site, &name).await?;
    let options: Options = deployment
        .as_ref()
        .and_then(|row| serde_json::from_value(row.options.clone()).ok())
        .unwrap_or(Options { cloud: args.cloud, internet: args.internet, ..Options::default() });
    let references = world.references(&sequence);
    // Without a name a package is sent to the site's own point, and images and applications are sent nowhere.
    let (to, package) = match &deployment {
        Some(row) if args.to.is_empty() => (row.places.clone(), row.package.is_some()),
        _ => (args.to.clone(), !args.to.is_empty()),
    };
    let targets = crate::points::targets(site, &to).await?;
    let planned: Vec<String> = targets.points.iter().map(|point| point.name.clone()).collect();
    let about = About {
        sequence: &sequence,
        references: &references,
        collection: &collection,
        cloud: options.cloud || args.cloud,
        internet: options.internet || args.internet,
        planned_software: if to.is_empty() { Vec::new() } else { planned.clone() },
        planned: if package { planned } else { Vec::new() },
        own: own_point(site).await?,
    };
    let places = site.places_now().await?;
    let mut checked = judge(&world, &places, &about);
    let missing = super::package::missing(&world, &references);
    if !missing.is_empty() {
        let titles: Vec<_> = missing.iter().map(|listed| listed.update.title.as_str()).collect();
        checked.notes.push(format!("not downloaded: {}", titles.join(", ")));
    }
    if !to.is_empty() {
        // What is not downloaded would go into a package: the one of the deployment, or a new one.
        let would = match deployment.as_ref().and_then(|row| row.package.clone()) {
            Some(package) => Package::Existing(package, Vec::new()),
            None => Package::New(String::new(), Vec::new()),
        };
        let things = places::needed(&sequence, &world.known);
        match super::package::room(site, &would, &missing, &things, &targets.points).await {
            Ok(short) => checked.notes.extend(short),
            Err(refused) => checked.notes.push(refused.to_string()),
        }
    }
    checked.notes.extend(world.strangers(&collection));
    let purpose = args.purpose.or(deployment.as_ref().map(|row| row.purpose)).unwrap_or(Purpose::Available);
    match create::risk_of(site, &world, &sequence, &collection, purpose).await {
        Ok(risk) => checked.risk = Some(risk),
        Err(refused) => checked.notes.push(refused.to_string()),
    }
    let nowhere = checked.nowhere().filter(|_| args.strict);
    Answer::partly(&checked, nowhere)
}
