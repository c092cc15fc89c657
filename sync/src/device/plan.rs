//! A task sequence as a row of nodes, each with where it ends and what stands around it: a position in it is one number,
//! which fits into a journal. Pure.

use std::time::Duration;

use super::machine::Frame;
use super::updates::{self, Sorted};
use crate::policy::Assignment;
use crate::sequence::action::UpdateMode;
use crate::sequence::{Action, Common, Node, Sequence};

/// Minutes that Setup gets where its step says nothing: one that waits for somebody would wait for ever.
pub const SETUP_MINUTES: u64 = 240;
/// Minutes of a task sequence that says 0.
const UNSAID_RUNTIME: u64 = 720;

/// A task sequence in the order in which it runs.
#[derive(Debug, Clone)]
pub struct Plan {
    nodes: Vec<Planned>,
    /// The longest that a run may take, without its downloads.
    pub bound: Duration,
    /// What it needs of a maintenance window; one that says 0 may pass the end.
    pub needs: Option<Duration>,
}

/// A group or a step.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Name, condition, …
    pub common: Common,
    /// What it does; a group does nothing itself.
    pub action: Option<Action>,
    /// Its number among the steps, from 1; 0 for a group.
    pub number: u32,
    /// The group around it.
    pub parent: Option<usize>,
    /// The position behind it and all that is in it.
    pub end: usize,
}

impl Plan {
    /// Lays a task sequence out.
    pub fn of(sequence: &Sequence) -> Self {
        let minutes = match u64::from(sequence.max_runtime) {
            0 => UNSAID_RUNTIME,
            minutes => minutes,
        };
        let bound = Duration::from_secs(minutes * 60);
        let needs = (sequence.max_runtime > 0).then_some(bound);
        let mut plan = Self { nodes: Vec::new(), bound, needs };
        let mut number = 0;
        plan.lay(&sequence.nodes, None, &mut number);
        plan
    }

    fn lay(&mut self, nodes: &[Node], parent: Option<usize>, number: &mut u32) {
        for node in nodes {
            let here = self.nodes.len();
            let (action, own) = match node {
                Node::Group(_) => (None, 0),
                Node::Step(step) => {
                    *number += 1;
                    (Some(step.action.clone()), *number)
                }
            };
            let common = node.common().clone();
            self.nodes.push(Planned { common, action, number: own, parent, end: here + 1 });
            if let Node::Group(group) = node {
                self.lay(&group.nodes, Some(here), number);
                self.nodes[here].end = self.nodes.len();
            }
        }
    }

    /// The node at a position, if that is not the end.
    pub fn at(&self, position: usize) -> Option<&Planned> {
        self.nodes.get(position)
    }

    /// Every step with its position.
    pub fn steps(&self) -> impl Iterator<Item = (usize, &Planned, &Action)> {
        self.nodes.iter().enumerate().filter_map(|(at, node)| Some((at, node, node.action.as_ref()?)))
    }

    /// The groups around a position, innermost first.
    pub fn around(&self, position: usize) -> impl Iterator<Item = &Planned> {
        let mut next = self.at(position).and_then(|node| node.parent);
        std::iter::from_fn(move || {
            let group = self.at(next?)?;
            next = group.parent;
            Some(group)
        })
    }

    /// Neither the node nor a group around it is disabled.
    pub fn is_enabled(&self, position: usize) -> bool {
        self.at(position).is_some_and(|node| !node.common.disabled)
            && self.around(position).all(|group| !group.common.disabled)
    }

    /// Nothing but the task sequence itself decides whether the node runs.
    pub fn is_unconditional(&self, position: usize) -> bool {
        self.is_enabled(position)
            && self.at(position).is_some_and(|node| node.common.when.is_none())
            && self.around(position).all(|group| group.common.when.is_none())
    }

    /// The names of the groups around a position, outermost first.
    pub fn groups(&self, position: usize) -> Vec<String> {
        let mut names: Vec<_> = self.around(position).map(|group| group.common.name.clone()).collect();
        names.reverse();
        names
    }
}

/// How many acts of its own a step has: each is journaled, so that one that is finished is not repeated when a later one
/// is interrupted.
pub fn parts(action: &Action, frame: &Frame) -> usize {
    match action {
        Action::InstallApplication(install) => install.applications.len(),
        Action::DownloadContent(download) => download.packages.len(),
        Action::InstallUpdates(install) => targeted(install.mode, frame).install.len(),
        _ => 1,
    }
}

/// The updates that a step installs, and why it does not install the others (mission row M57).
pub fn targeted(mode: UpdateMode, frame: &Frame) -> Sorted<'_> {
    updates::sort(mode, &frame.updates, frame.scan.as_deref())
}

/// The first step that is enabled and that nobody here can carry out.
pub fn unknown_step(assignment: &Assignment) -> Option<String> {
    let sequence = assignment.sequence().ok()?;
    let steps = sequence.steps();
    let unknown =
        |at: &&crate::sequence::walk::StepAt<'_>| at.enabled && matches!(at.step.action, Action::Unknown(_));
    steps.iter().find(unknown).map(|at| {
        format!("step {} `{}` is of the type `{}`", at.number, at.step.common.name, at.step.action.kind())
    })
}
