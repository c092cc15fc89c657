//! What a verb is, whoever asks for it. Every verb is named, so that a new one has to be decided.

use super::Request;
use crate::authoring::TsRequest as Ts;
use crate::deploying::DeployRequest as Deploy;
use crate::software::SoftwareRequest as Software;
use crate::tls::TlsVerb;

/// What is known of a verb.
#[derive(Debug, Clone, Copy)]
struct Nature {
    bears_on_devices: bool,
    is_of_a_point: bool,
}

impl Nature {
    /// The site answers it, and devices hear nothing of it.
    const OF_THE_SITE: Self = Self { bears_on_devices: false, is_of_a_point: false };
    const OF_A_POINT: Self = Self { is_of_a_point: true, ..Self::OF_THE_SITE };

    const fn bearing(bears_on_devices: bool) -> Self {
        Self { bears_on_devices, ..Self::OF_THE_SITE }
    }
}

impl Request {
    /// Whether it may change what devices are told: what is deployed to whom, under which settings and windows; the task
    /// sequences, updates, images and applications of that; and which of their files the library has.
    pub fn bears_on_devices(&self) -> bool {
        self.nature().bears_on_devices
    }

    /// Whether a distribution point on a machine of its own answers it by itself: what it holds its site decides.
    pub fn is_of_a_point(&self) -> bool {
        self.nature().is_of_a_point
    }

    fn nature(&self) -> Nature {
        match self {
            Self::Deploy(what) => Nature::bearing(of_deploy(what)),
            Self::Software(what) => Nature::bearing(of_software(what)),
            // What a point takes in is what its site told it to hold.
            Self::Ts(what) => Nature {
                bears_on_devices: of_ts(what),
                is_of_a_point: matches!(what, Ts::PrestageImport { .. }),
            },
            // Which updates there are, and whether they may be deployed.
            Self::Now { .. }
            | Self::UpdatesMark { .. }
            | Self::UpdatesImport { .. }
            | Self::UpdatesGc { .. }
            | Self::LicenseDecide { .. } => Nature::bearing(true),
            // A text that somebody brings may be another than the one that was accepted.
            Self::LicenseReview { text, .. } => Nature::bearing(text.is_some()),
            Self::SyncSelect { change } => Nature::bearing(!change.is_empty()),
            // Which files are here.
            Self::PackageDownload { .. }
            | Self::PackageDistribute { .. }
            | Self::PackageWithdraw { .. }
            | Self::PackageDrop { .. }
            | Self::PackageDelete { .. } => Nature::bearing(true),
            Self::PackageValidate { repair, .. } => Nature::bearing(*repair),
            // What this very machine is, has and does: its tasks can be waited for and cancelled, who may ask it over HTTP and
            // who did what is its own.
            Self::Status
            | Self::ContentList
            | Self::ContentShow { .. }
            | Self::StateDump
            | Self::ConfigShow
            | Self::TaskList { .. }
            | Self::TaskShow { .. }
            | Self::TaskWait { .. }
            | Self::TaskCancel { .. }
            | Self::Tokens { .. }
            | Self::Audit { .. } => Nature::OF_A_POINT,
            // Who shows which certificate.
            Self::Tls { act } => match act {
                TlsVerb::Show => Nature::OF_A_POINT,
                TlsVerb::Init { .. } | TlsVerb::Renew { .. } => Nature::OF_THE_SITE,
            },
            // What is planned and shown; and where content is, which devices ask for when they need it.
            Self::SyncHistory { .. }
            | Self::SyncShow { .. }
            | Self::SyncTest { .. }
            | Self::SyncPlan { .. }
            | Self::UpdatesList(_)
            | Self::UpdatesShow { .. }
            | Self::UpdatesExport { .. }
            | Self::SupersedencePlan
            | Self::Categories
            | Self::LicenseList { .. }
            | Self::PackageCreate { .. }
            | Self::PackageSet { .. }
            | Self::PackageList
            | Self::PackageShow { .. }
            | Self::PackageAdd { .. }
            | Self::Points { .. }
            | Self::ContentLocate { .. }
            | Self::BoundaryAdd { .. }
            | Self::BoundaryList
            | Self::BoundaryWhich { .. }
            | Self::BoundaryRemove { .. }
            | Self::BoundaryGroupCreate { .. }
            | Self::BoundaryGroupList
            | Self::BoundaryGroupShow { .. }
            | Self::BoundaryGroupSet { .. }
            | Self::BoundaryGroupRelate { .. }
            | Self::BoundaryGroupMembers { .. }
            | Self::BoundaryGroupDelete { .. } => Nature::OF_THE_SITE,
        }
    }
}

fn of_deploy(what: &Deploy) -> bool {
    match what {
        Deploy::Create(_)
        | Deploy::CreateUpdates(_)
        | Deploy::Change(_)
        | Deploy::Stop { .. }
        | Deploy::Delete { .. }
        | Deploy::PhasedCreate(_)
        | Deploy::PhasedAdvance { .. }
        | Deploy::PhasedSuspend { .. }
        | Deploy::PhasedChange(_)
        | Deploy::PhasedDelete { .. }
        | Deploy::ClientRemove { .. } => true,
        Deploy::UpdatesList
        | Deploy::List
        | Deploy::Show { .. }
        | Deploy::Check(_)
        | Deploy::Status { .. }
        | Deploy::PhasedList
        | Deploy::PhasedShow { .. }
        | Deploy::ClientList { .. }
        | Deploy::ClientShow { .. }
        | Deploy::ClientHistory { .. } => false,
    }
}

fn of_ts(what: &Ts) -> bool {
    match what {
        Ts::Create(_)
        | Ts::Copy { .. }
        | Ts::Enable { .. }
        | Ts::Delete { .. }
        | Ts::Replace { .. }
        | Ts::StepAdd { .. }
        | Ts::StepSet(_)
        | Ts::StepMove { .. }
        | Ts::StepRemove { .. }
        | Ts::Import { .. }
        | Ts::ImportArchive { .. }
        | Ts::PrestageImport { .. }
        | Ts::Set { .. } => true,
        Ts::Choices { .. }
        | Ts::List
        | Ts::Show { .. }
        | Ts::Lint { .. }
        | Ts::Refs { .. }
        | Ts::Plan { .. }
        | Ts::Diff { .. }
        | Ts::Export { .. }
        | Ts::ExportArchive { .. }
        | Ts::Migrate(_)
        | Ts::Media(_)
        | Ts::Prestage { .. } => false,
    }
}

fn of_software(what: &Software) -> bool {
    match what {
        Software::ImageAdd { .. }
        | Software::ImageDelete { .. }
        | Software::AppAdd { .. }
        | Software::AppRetire { .. }
        | Software::Distribute { .. }
        | Software::DistributeAll { .. }
        | Software::Withdraw { .. }
        | Software::CollectionCreate { .. }
        | Software::CollectionChange { .. }
        | Software::WindowAdd(_)
        | Software::WindowRemove { .. }
        | Software::SettingsSet { .. } => true,
        Software::ImageList
        | Software::ImageShow { .. }
        | Software::AppList
        | Software::AppShow { .. }
        | Software::CollectionList
        | Software::CollectionShow { .. }
        | Software::WindowList { .. }
        | Software::SettingsList
        | Software::SettingsShow { .. }
        | Software::SettingsEffective { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn asked(request: Value) -> Request {
        serde_json::from_value(request.clone()).unwrap_or_else(|error| panic!("{request}: {error}"))
    }

    #[test]
    fn a_point_answers_for_itself_and_decides_nothing() {
        for (request, expected) in [
            (json!({ "verb": "status" }), true),
            (json!({ "verb": "task-list", "limit": 5 }), true),
            (json!({ "verb": "task-show", "task": 7 }), true),
            (json!({ "verb": "task-wait", "task": 7 }), true),
            (json!({ "verb": "task-cancel", "task": 7 }), true),
            (json!({ "verb": "ts", "action": "prestage-import", "file": "x" }), true),
            (json!({ "verb": "audit", "limit": 5 }), true),
            (json!({ "verb": "tls", "act": { "do": "show" } }), true),
            (json!({ "verb": "tls", "act": { "do": "init", "names": [] } }), false),
            (json!({ "verb": "now", "full": false }), false),
            (json!({ "verb": "package-list" }), false),
            (json!({ "verb": "ts", "action": "list" }), false),
            (json!({ "verb": "points", "act": { "do": "list" } }), false),
        ] {
            assert_eq!(asked(request.clone()).is_of_a_point(), expected, "{request}");
        }
    }

    #[test]
    fn devices_hear_of_what_was_changed_and_not_of_questions() {
        for (request, expected) in [
            (json!({ "verb": "now", "full": false }), true),
            (json!({ "verb": "updates-import", "file": "x" }), true),
            (json!({ "verb": "updates-mark", "updates": ["x"], "mark": "decline" }), true),
            (json!({ "verb": "license-review", "update": "x", "language": null, "text": "eA==" }), true),
            (json!({ "verb": "license-review", "update": "x", "language": null, "text": null }), false),
            (json!({ "verb": "package-delete", "package": "x" }), true),
            (json!({ "verb": "package-validate", "package": "x", "repair": true }), true),
            (json!({ "verb": "package-validate", "package": "x", "repair": false }), false),
            (json!({ "verb": "sync-select", "change": { "languages": ["de-de"] } }), true),
            (json!({ "verb": "sync-select", "change": {} }), false),
            (json!({ "verb": "deploy", "action": "stop", "deployment": "x" }), true),
            (json!({ "verb": "deploy", "action": "list" }), false),
            (json!({ "verb": "ts", "action": "enable", "sequence": "x", "enabled": false }), true),
            (json!({ "verb": "ts", "action": "list" }), false),
            (json!({ "verb": "software", "action": "collection-create", "name": "x" }), true),
            (json!({ "verb": "software", "action": "collection-list" }), false),
            (json!({ "verb": "boundary-list" }), false),
            (json!({ "verb": "status" }), false),
        ] {
            assert_eq!(asked(request.clone()).bears_on_devices(), expected, "{request}");
        }
    }
}
