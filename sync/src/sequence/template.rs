//! The in-place upgrade as the wizard makes it: the documented groups in the documented order (mission row M58).
//!
//! Group 2 continues on error, so that the groups about rollback and failure get their turn. The task sequence has
//! failed all the same where the upgrade has: the runner decides the end by the worst result that nothing handled.

use catalog::id::{PackageId, UpdateId};

use super::action::{
    Action, CheckReadiness, InstallApplication, InstallUpdates, OsType, Restart, Sealed, UpdateMode,
    UpgradeOs,
};
use super::condition::{Comparison, Condition};
use super::{Common, Group, Kind, Node, Sequence, Step};

/// What the wizard asks.
#[derive(Debug, Clone, Default)]
pub struct Upgrade {
    /// Name of the task sequence.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Feature updates, in order; or an image.
    pub feature_updates: Vec<UpdateId>,
    /// The OS upgrade package.
    pub image: Option<PackageId>,
    /// Which edition of it.
    pub edition_index: Option<u32>,
    /// Where the product key is kept.
    pub product_key: Option<Sealed>,
    /// Do not wait for compatibility messages to be dismissed.
    pub ignore_dismissable: bool,
    /// The target is a server.
    pub server: bool,
    /// Which updates are installed.
    pub updates: Option<UpdateMode>,
    /// Applications, in order.
    pub applications: Vec<PackageId>,
    /// Go on with the next application where one fails.
    pub continue_on_app_error: bool,
}

/// What Setup said.
const RESULT: &str = "_SMSTSOSUpgradeActionReturnCode";
const ROLLED_BACK: &str = "_SMSTSSetupRollback";

/// Makes the task sequence.
pub fn upgrade(wanted: Upgrade) -> Sequence {
    let mut sequence = Sequence::empty(&wanted.name, &wanted.description, Kind::Upgrade);
    let readiness = CheckReadiness {
        os_type: Some(if wanted.server { OsType::Server } else { OsType::Client }),
        ..CheckReadiness::default()
    };
    let empty = |name: &str| group(name, None, Vec::new());
    let prepare = vec![
        step("Check Readiness for Upgrade", Action::CheckReadiness(readiness)),
        empty("Battery checks"),
        empty("Network/wired connection checks"),
        empty("Remove incompatible applications"),
        empty("Remove incompatible drivers"),
        empty("Remove/suspend third-party security"),
    ];
    let setup = UpgradeOs {
        feature_updates: wanted.feature_updates,
        image: wanted.image,
        edition_index: wanted.edition_index,
        product_key: wanted.product_key,
        ignore_dismissable: wanted.ignore_dismissable,
        ..UpgradeOs::default()
    };
    let upgrade = vec![
        step("Upgrade Operating System", Action::UpgradeOs(setup)),
        step("Restart Computer", Action::Restart(Restart::default())),
    ];
    let mut after = vec![
        empty("Apply setup-based drivers"),
        empty("Install/enable third-party security"),
        empty("Set Windows default apps and associations"),
        empty("Apply customizations and personalization"),
    ];
    if let Some(mode) = wanted.updates {
        let install = InstallUpdates { mode, ..InstallUpdates::default() };
        after.push(step("Install Updates", Action::InstallUpdates(install)));
    }
    if !wanted.applications.is_empty() {
        let install = InstallApplication {
            applications: wanted.applications,
            continue_on_app_error: wanted.continue_on_app_error,
        };
        after.push(step("Install Applications", Action::InstallApplication(install)));
    }
    let is = Condition::variable;
    let worked = is(RESULT, Comparison::Equals, "0");
    let rolled_back = is(ROLLED_BACK, Comparison::Equals, "true");
    let failed = Condition::All(vec![
        is(RESULT, Comparison::NotEquals, "0"),
        Condition::None(vec![rolled_back.clone()]),
    ]);
    let mut upgrading = group("Upgrade the Operating System", None, upgrade);
    upgrading.common_mut().continue_on_error = true;
    sequence.nodes = vec![
        group("Prepare for Upgrade", None, prepare),
        upgrading,
        group("Post-Processing", Some(worked), after),
        group("Rollback", Some(rolled_back), Vec::new()),
        group(
            "Run actions on failure",
            Some(failed),
            vec![empty("Collect logs"), empty("Run diagnostic tools")],
        ),
    ];
    sequence
}

fn group(name: &str, when: Option<Condition>, nodes: Vec<Node>) -> Node {
    Node::Group(Group { common: Common { when, ..Common::named(name) }, nodes })
}

fn step(name: &str, action: Action) -> Node {
    Node::Step(Step { common: Common::named(name), action })
}
