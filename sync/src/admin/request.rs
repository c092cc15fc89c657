//! What the command line asks a site for. The same values travel over the admin socket.

use std::path::PathBuf;

use schema::packages::Access;
use serde::{Deserialize, Serialize};

use super::PointVerb;
use crate::boundaries::GroupChange;
use crate::select::Selection;

/// A request with the circumstances under which it is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    /// What is asked for.
    pub request: Request,
    /// Make the same checks, change nothing, and answer with what would have happened.
    #[serde(default)]
    pub dry_run: bool,
    /// Answer with the task as soon as it is started, instead of with its result.
    #[serde(default)]
    pub no_wait: bool,
}

/// Every verb that works on a site.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// Synchronise now.
    Now {
        /// Read every catalog and every list again, even where nothing changed.
        full: bool,
    },
    /// One screen about everything.
    Status,
    /// The last synchronisation runs.
    SyncHistory {
        /// How many.
        limit: u32,
    },
    /// One run.
    SyncShow {
        /// Its number.
        run: i64,
    },
    /// Tries every step of reaching the sources, and changes nothing.
    SyncTest {
        /// Name of the one to try; all if not given.
        source: Option<String>,
    },
    /// What a changed selection would list and download.
    SyncPlan {
        /// The parts that change.
        change: SelectionChange,
    },
    /// Names that catalogs know, and which of them are selected; or another selection.
    SyncSelect {
        /// What to change; all empty means only show.
        change: SelectionChange,
    },
    /// Feature updates.
    UpdatesList(UpdateFilter),
    /// One feature update, whole.
    UpdatesShow {
        /// Id, or the beginning of an id or title.
        update: String,
    },
    /// Declines, restores or holds updates.
    UpdatesMark {
        /// Which.
        updates: Vec<String>,
        /// What to do with them.
        mark: Mark,
    },
    /// Takes in what another server exported.
    UpdatesImport {
        /// The export: a cabinet or `.xml.gz`.
        file: PathBuf,
    },
    /// Writes what the site knows in the form of a WSUS export.
    UpdatesExport {
        /// The cabinet to make.
        file: PathBuf,
    },
    /// What the rule of supersedence expires, now and later.
    SupersedencePlan,
    /// Takes documents away that nothing needs any more.
    UpdatesGc {
        /// Also where it is more than a fifth of all.
        confirmed: bool,
    },
    /// Categories that update documents define.
    Categories,
    /// Updates that have licence terms.
    LicenseList {
        /// Only those that need a decision.
        pending: bool,
    },
    /// The licence text of an update; fetched if it is not known yet.
    LicenseReview {
        /// Which update.
        update: String,
        /// Language of the text; the update's own if not given.
        language: Option<String>,
        /// The text itself, supplied by hand, base64.
        text: Option<String>,
    },
    /// Accepts or declines licence terms.
    LicenseDecide {
        /// Which updates.
        updates: Vec<String>,
        /// Accept, or decline.
        accept: bool,
        /// The SHA-256 of the text that was read, if the caller has read one.
        text: Option<String>,
    },
    /// Makes a deployment package.
    PackageCreate {
        /// Its name, at most 50 characters.
        name: String,
        /// At most 127 characters.
        description: String,
        /// Folder for a copy of the files, if one is wanted.
        source: Option<PathBuf>,
        /// For whom it is; everybody if not given.
        #[serde(default = "everybody")]
        access: Access,
    },
    /// Says for whom a package is.
    PackageSet {
        /// Id or name.
        package: String,
        /// For whom it shall be.
        access: Access,
    },
    /// All deployment packages.
    PackageList,
    /// One package with its files.
    PackageShow {
        /// Id or name.
        package: String,
    },
    /// Adds updates to a package.
    PackageAdd {
        /// Id or name.
        package: String,
        /// Updates by id or title; empty: whatever the filter leaves.
        updates: Vec<String>,
        /// Narrows what is picked.
        filter: UpdateFilter,
    },
    /// Takes updates out of a package.
    PackageDrop {
        /// Id or name.
        package: String,
        /// Updates by id or title.
        updates: Vec<String>,
    },
    /// Fetches what a package lacks.
    PackageDownload {
        /// Id or name.
        package: String,
        /// A local folder to take the files from, before anything else.
        from: Option<PathBuf>,
        /// A URL prefix to try before the catalog's links.
        mirror: Option<String>,
    },
    /// Offers a package on distribution points.
    PackageDistribute {
        /// Id or name.
        package: String,
        /// Names of distribution points; empty: the site's own.
        to: Vec<String>,
    },
    /// Takes a package off distribution points.
    PackageWithdraw {
        /// Id or name.
        package: String,
        /// Names of distribution points; empty: all.
        from: Vec<String>,
    },
    /// Reads every file of a package again and compares.
    PackageValidate {
        /// Id or name.
        package: String,
        /// Set bad files aside and fetch them again.
        repair: bool,
    },
    /// Deletes a package.
    PackageDelete {
        /// Id or name.
        package: String,
    },
    /// Distribution points, their groups and keys, and what is on them.
    Points {
        /// What about them.
        act: PointVerb,
    },
    /// Certificates of the site.
    Tls {
        /// What about them.
        act: crate::tls::TlsVerb,
    },
    /// What the content library holds.
    ContentList,
    /// One content.
    ContentShow {
        /// Its SHA-256, or the beginning of it.
        content: String,
    },
    /// Where a client finds a content, and why.
    ContentLocate {
        /// The client's address.
        #[serde(default)]
        client: String,
        /// Or its name: it is where it asked from last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// A SHA-256 or the beginning of one, an update, a package or a file of it, an image, an application, or a name of a file.
        content: String,
        /// Seconds since the client asked first.
        elapsed_seconds: u64,
        /// In the order of the task sequence engine.
        engine: bool,
    },
    /// Draws boundaries.
    BoundaryAdd {
        /// Subnets, ranges and IPv6 prefixes.
        values: Vec<String>,
        /// A name for them.
        name: String,
        /// Groups that they are put into.
        groups: Vec<String>,
    },
    /// All boundaries.
    BoundaryList,
    /// Where an address lies.
    BoundaryWhich {
        /// The address.
        client: String,
    },
    /// Takes boundaries away.
    BoundaryRemove {
        /// By value or name.
        values: Vec<String>,
    },
    /// Makes a boundary group.
    BoundaryGroupCreate {
        /// Its name.
        group: String,
        /// Its first members.
        change: GroupChange,
    },
    /// All boundary groups.
    BoundaryGroupList,
    /// One boundary group.
    BoundaryGroupShow {
        /// Its name.
        group: String,
    },
    /// Changes what a boundary group allows and prefers.
    BoundaryGroupSet {
        /// Its name.
        group: String,
        /// `KEY=on` and `KEY=off`.
        options: Vec<String>,
    },
    /// Says when clients of one group may ask points of another.
    BoundaryGroupRelate {
        /// The group.
        group: String,
        /// The other.
        other: String,
        /// Minutes; -1 for never; `None` as if nothing was ever said.
        minutes: Option<i64>,
    },
    /// Puts boundaries and points into a group, or takes them out.
    BoundaryGroupMembers {
        /// The group.
        group: String,
        /// Which.
        change: GroupChange,
        /// In, or out.
        inside: bool,
    },
    /// Deletes a boundary group.
    BoundaryGroupDelete {
        /// Its name.
        group: String,
    },
    /// Tasks, newest first.
    TaskList {
        /// How many.
        limit: u32,
    },
    /// One task.
    TaskShow {
        /// Its number.
        task: i64,
    },
    /// Waits for a task and answers with its result.
    TaskWait {
        /// Its number.
        task: i64,
    },
    /// Cancels a task.
    TaskCancel {
        /// Its number.
        task: i64,
    },
    /// Everything about task sequences.
    Ts(crate::authoring::TsRequest),
    /// Everything about deployments, and the devices that they are for.
    Deploy(crate::deploying::DeployRequest),
    /// Everything else of the software library.
    Software(crate::software::SoftwareRequest),
    /// Tokens of the admin API.
    Tokens {
        /// What about them.
        act: crate::tokens::TokenVerb,
    },
    /// Who did what, the newest first.
    Audit {
        /// How many.
        limit: u32,
    },
    /// Canonical text of everything that lasts, for comparisons.
    StateDump,
    /// The settings in force, with where each comes from.
    ConfigShow,
}

fn everybody() -> Access {
    Access::Public
}

/// Which feature updates are meant. Empty lists do not narrow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateFilter {
    /// Products by name.
    pub products: Vec<String>,
    /// Releases: `25H2`.
    pub releases: Vec<String>,
    /// Language codes.
    pub languages: Vec<String>,
    /// Architectures.
    pub architectures: Vec<String>,
    /// Edition groups.
    pub editions: Vec<String>,
    /// The release that devices run: enablement packages for it come first, others are left out.
    pub base: Option<String>,
    /// Words that the title must contain.
    pub words: Vec<String>,
    /// Also what the selection hides, what was declined or withdrawn.
    pub all: bool,
}

/// A change of the selection: `None` leaves a part as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SelectionChange {
    /// Classifications.
    pub classifications: Option<Vec<String>>,
    /// Products.
    pub products: Option<Vec<String>>,
    /// Releases.
    pub releases: Option<Vec<String>>,
    /// Languages.
    pub languages: Option<Vec<String>>,
    /// Architectures.
    pub architectures: Option<Vec<String>>,
    /// Edition groups.
    pub editions: Option<Vec<String>>,
}

impl SelectionChange {
    /// Whether anything is to change.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// `current` with the parts replaced that this names.
    pub fn applied_to(&self, current: &Selection) -> Selection {
        let part = |new: &Option<Vec<String>>, old: &Vec<String>| new.clone().unwrap_or_else(|| old.clone());
        Selection {
            classifications: part(&self.classifications, &current.classifications),
            products: part(&self.products, &current.products),
            releases: part(&self.releases, &current.releases),
            languages: part(&self.languages, &current.languages),
            architectures: part(&self.architectures, &current.architectures),
            editions: part(&self.editions, &current.editions),
        }
    }
}

/// What an administrator does with an update, apart from its licence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// Not listed or picked any more.
    Decline,
    /// Listed again.
    Restore,
    /// Never expired or declined by rules.
    Hold,
}
