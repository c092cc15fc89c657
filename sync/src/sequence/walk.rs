//! Going through a tree of steps: numbers, names, and what is in force.

use super::condition::Condition;
use super::{Group, Node, Sequence, Step};

/// A node where it stands.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The node.
    pub node: &'a Node,
    /// Groups around it.
    pub depth: usize,
    /// Number among the steps, or among the groups, from 1 in the order in which they run.
    pub number: usize,
    /// Neither it nor a group around it is disabled.
    pub enabled: bool,
}

impl At<'_> {
    /// `3`, or `g2` for a group: what `ts step` takes.
    pub fn label(&self) -> String {
        match self.node {
            Node::Group(_) => format!("g{}", self.number),
            Node::Step(_) => self.number.to_string(),
        }
    }
}

/// A step where it stands.
#[derive(Debug, Clone, Copy)]
pub struct StepAt<'a> {
    /// The step.
    pub step: &'a Step,
    /// Its number.
    pub number: usize,
    /// Neither it nor a group around it is disabled.
    pub enabled: bool,
}

impl Sequence {
    /// Every group and step in the order in which they run.
    pub fn walk(&self) -> Vec<At<'_>> {
        let mut found = Vec::new();
        let mut numbers = (0, 0);
        visit(&self.nodes, 0, true, &mut numbers, &mut found);
        found
    }

    /// Every step in the order in which they run.
    pub fn steps<'a>(&'a self) -> Vec<StepAt<'a>> {
        let step = |at: At<'a>| match at.node {
            Node::Step(step) => Some(StepAt { step, number: at.number, enabled: at.enabled }),
            Node::Group(_) => None,
        };
        self.walk().into_iter().filter_map(step).collect()
    }

    /// Of every step, in the order of [`Self::steps`], its own condition and those of the groups around it.
    pub fn conditions(&self) -> Vec<Vec<&Condition>> {
        let mut found = Vec::new();
        gather(&self.nodes, &mut Vec::new(), &mut found);
        found
    }

    /// How many steps and groups there are.
    pub fn counts(&self) -> (usize, usize) {
        let all = self.walk();
        let steps = all.iter().filter(|at| matches!(at.node, Node::Step(_))).count();
        (steps, all.len() - steps)
    }

    /// The tree for people, one line a node.
    pub fn tree(&self) -> Vec<String> {
        self.walk().iter().map(tree_line).collect()
    }
}

fn visit<'a>(
    nodes: &'a [Node],
    depth: usize,
    enabled: bool,
    numbers: &mut (usize, usize),
    found: &mut Vec<At<'a>>,
) {
    for node in nodes {
        let enabled = enabled && !node.common().disabled;
        let counter = if matches!(node, Node::Step(_)) { &mut numbers.0 } else { &mut numbers.1 };
        *counter += 1;
        let number = *counter;
        found.push(At { node, depth, number, enabled });
        if let Node::Group(Group { nodes, .. }) = node {
            visit(nodes, depth + 1, enabled, numbers, found);
        }
    }
}

fn gather<'a>(nodes: &'a [Node], around: &mut Vec<&'a Condition>, found: &mut Vec<Vec<&'a Condition>>) {
    for node in nodes {
        let before = around.len();
        around.extend(&node.common().when);
        match node {
            Node::Group(group) => gather(&group.nodes, around, found),
            Node::Step(_) => found.push(around.clone()),
        }
        around.truncate(before);
    }
}

fn tree_line(at: &At<'_>) -> String {
    let common = at.node.common();
    let mut line = format!("{:>4}  {}", at.label(), "  ".repeat(at.depth));
    match at.node {
        Node::Group(_) => line += &format!("{}/", common.name),
        Node::Step(step) if step.action.title() == common.name => line += &common.name,
        Node::Step(step) => line += &format!("{} · {}", common.name, step.action.title()),
    }
    let mut remarks = Vec::new();
    if let Node::Group(group) = at.node
        && group.nodes.is_empty()
    {
        remarks.push("empty".to_owned());
    }
    if let Node::Step(Step { action: super::Action::Unknown(_), .. }) = at.node {
        remarks.push("unknown type".to_owned());
    }
    if let Node::Step(Step { action: super::Action::UpgradeOs(upgrade), .. }) = at.node
        && upgrade.incomplete.is_some()
    {
        remarks.push("incomplete: feature-update".to_owned());
    }
    if common.disabled {
        remarks.push("disabled".to_owned());
    }
    if common.continue_on_error {
        remarks.push("continues on error".to_owned());
    }
    if common.retries > 0 {
        remarks.push(format!("retries {}", common.retries));
    }
    if let Some(minutes) = common.timeout {
        remarks.push(format!("at most {minutes} min"));
    }
    if let Some(when) = &common.when {
        remarks.push(format!("when {}", when.words()));
    }
    if !remarks.is_empty() {
        line += &format!("  ({})", remarks.join("; "));
    }
    line
}
