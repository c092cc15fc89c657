//! Task sequences as values: groups and steps, what may be written in them, and what is wrong with them.
//!
//! Pure: no disk, no database, no clock. [`document`] is the one form in which a task sequence is kept, shown, exported
//! and compared; everything else works on [`Sequence`].
//! ```text
//! template ──▶ Sequence ◀──parse── document ──write──▶ text
//!                 │  ▲
//!      lint, refs, choose, edit
//! ```
//! A step of a type that nobody here knows is kept word by word, shown, and makes the task sequence undeployable.
//! No secret is ever a part of a sequence: a step names the place in which the site keeps it sealed.

pub mod action;
pub mod choose;
pub mod condition;
pub mod diff;
pub mod document;
pub mod edit;
pub mod key;
pub mod lint;
pub mod refs;
pub mod release;
pub mod template;
#[cfg(test)]
mod tests;
pub mod walk;

use catalog::id::PackageId;

pub use action::Action;
pub use condition::Condition;

/// The most bytes of a document: larger ones are neither saved nor imported.
pub const LARGEST: usize = 2 << 20;
/// The most groups within groups.
pub const DEEPEST: usize = 16;
/// The most groups and steps.
pub const MOST_NODES: usize = 5000;
/// The longest name that an import may bring.
pub const LONGEST_IMPORTED_NAME: usize = 100;
/// The longest description.
pub const LONGEST_DESCRIPTION: usize = 255;
/// Minutes that a task sequence may take, unless it says otherwise.
pub const DEFAULT_RUNTIME: u32 = 120;

/// What a task sequence is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Upgrades Windows in place.
    Upgrade,
    /// Whatever its steps say.
    Custom,
}

impl Kind {
    /// Every kind that can be made, with what it is.
    pub const ALL: [(Kind, &'static str); 2] = [
        (Self::Upgrade, "upgrade an operating system from an upgrade package or a feature update"),
        (Self::Custom, "an empty task sequence"),
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Custom => "custom",
        }
    }
}

/// A plan for a machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequence {
    /// Unique on a site, without regard to case.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it is.
    pub kind: Kind,
    /// Minutes that it may take.
    pub max_runtime: u32,
    /// What a restart into Windows PE starts.
    pub boot_image: Option<PackageId>,
    /// Groups and steps, in the order in which they run.
    pub nodes: Vec<Node>,
}

impl Sequence {
    /// One without steps.
    pub fn empty(name: &str, description: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            description: description.to_owned(),
            kind,
            max_runtime: DEFAULT_RUNTIME,
            boot_image: None,
            nodes: Vec::new(),
        }
    }
}

/// A group or a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// Steps that share a condition and an end.
    Group(Group),
    /// One act.
    Step(Step),
}

impl Node {
    /// What groups and steps have in common.
    pub fn common(&self) -> &Common {
        match self {
            Self::Group(group) => &group.common,
            Self::Step(step) => &step.common,
        }
    }

    /// The same, to change it.
    pub fn common_mut(&mut self) -> &mut Common {
        match self {
            Self::Group(group) => &mut group.common,
            Self::Step(step) => &mut step.common,
        }
    }
}

/// Steps that share a condition. The first failure that its step does not continue over ends the group.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Name, condition, …
    pub common: Common,
    /// What is in it.
    pub nodes: Vec<Node>,
}

/// One act.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Name, condition, …
    pub common: Common,
    /// What it does.
    pub action: Action,
}

/// What groups and steps have in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Common {
    /// For people; steps may share one.
    pub name: String,
    /// Why it is there.
    pub description: String,
    /// Skipped, with all that is in it.
    pub disabled: bool,
    /// A failure does not end what it stands in.
    pub continue_on_error: bool,
    /// Skipped unless this holds.
    pub when: Option<Condition>,
    /// How often it is tried again, at most 5 times.
    pub retries: u8,
    /// Minutes after which it has failed, 1 to 1440.
    pub timeout: Option<u16>,
}

impl Common {
    /// One with a name only.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }
}
