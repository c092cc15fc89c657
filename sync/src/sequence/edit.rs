//! Changes of a task sequence: find, add, set, move, remove. Each gives a whole new sequence or an error.

use catalog::id::{PackageId, UpdateId};
use catalog::problem::{Code, Problem};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::{Action, Group, Node, Sequence};

/// Where a step goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// After everything else.
    End,
    /// As the last of a group.
    In(String),
    /// Behind a step or group.
    After(String),
    /// Before a step or group.
    Before(String),
}

/// The positions from the root to a node.
type Path = Vec<usize>;

/// Settings that are text, whatever they look like; others are read as TOML.
const TEXT: [&str; 19] = [
    "type",
    "name",
    "description",
    "command",
    "start_in",
    "output_variable",
    "variable",
    "value",
    "message",
    "source_path",
    "drivers",
    "path",
    "save_as",
    "language",
    "architecture",
    "os_at_least",
    "os_at_most",
    "image",
    "target",
];
/// Settings that hold the place of a secret: only the site fills them.
const SECRET: [&str; 2] = ["product_key", "hidden_value"];

fn invalid(message: impl Into<String>) -> Problem {
    Problem::new(Code::TaskSequenceInvalid, message)
}

impl Sequence {
    /// The one node that `label` means: the number of a step, `g` and the number of a group, or a name that only one has.
    ///
    /// # Errors
    /// `STEP_NOT_FOUND`, `AMBIGUOUS`.
    pub fn find(&self, label: &str) -> Result<Path, Problem> {
        let mut paths = Vec::new();
        collect(&self.nodes, &mut Vec::new(), &mut paths);
        let all = self.walk();
        let wanted = label.trim().to_lowercase();
        let found: Vec<usize> = (0..all.len()).filter(|&i| all[i].label() == wanted).collect();
        let found = match found.is_empty() {
            false => found,
            true => (0..all.len()).filter(|&i| all[i].node.common().name.to_lowercase() == wanted).collect(),
        };
        match found.as_slice() {
            [one] => Ok(paths.swap_remove(*one)),
            [] => {
                let message = format!("`{}` has no step or group `{label}`", self.name);
                Err(Problem::new(Code::StepNotFound, message))
            }
            several => {
                let labels: Vec<_> = several.iter().map(|&i| all[i].label()).collect();
                let message = format!("{} steps are called `{label}`", several.len());
                Err(Problem::new(Code::Ambiguous, message).because(labels.join(", ")))
            }
        }
    }

    /// The node that `label` means.
    ///
    /// # Errors
    /// Those of [`Self::find`].
    pub fn node_mut(&mut self, label: &str) -> Result<&mut Node, Problem> {
        let path = self.find(label)?;
        let (last, around) = path.split_last().ok_or_else(|| invalid("an empty path"))?;
        children_of(&mut self.nodes, around)?.get_mut(*last).ok_or_else(|| invalid("a step that is gone"))
    }

    /// Puts `node` somewhere.
    ///
    /// # Errors
    /// Those of [`Self::find`]; `TASK_SEQUENCE_INVALID` for a place in a step.
    pub fn add(&mut self, node: Node, place: &Place) -> Result<(), Problem> {
        let (label, offset) = match place {
            Place::End => {
                self.nodes.push(node);
                return Ok(());
            }
            Place::In(label) => {
                let path = self.find(label)?;
                children_of(&mut self.nodes, &path)?.push(node);
                return Ok(());
            }
            Place::After(label) => (label, 1),
            Place::Before(label) => (label, 0),
        };
        let path = self.find(label)?;
        let (last, around) = path.split_last().ok_or_else(|| invalid("an empty path"))?;
        children_of(&mut self.nodes, around)?.insert(last + offset, node);
        Ok(())
    }

    /// Takes a node out, with all that is in it.
    ///
    /// # Errors
    /// Those of [`Self::find`].
    pub fn remove(&mut self, label: &str) -> Result<Node, Problem> {
        let path = self.find(label)?;
        let (last, around) = path.split_last().ok_or_else(|| invalid("an empty path"))?;
        Ok(children_of(&mut self.nodes, around)?.remove(*last))
    }

    /// Moves a node; the place is named as it is before the move.
    ///
    /// # Errors
    /// Those of [`Self::find`]; `TASK_SEQUENCE_INVALID` where a group would move into itself.
    pub fn relocate(&mut self, label: &str, place: &Place) -> Result<(), Problem> {
        let from = self.find(label)?;
        if let Place::In(to) | Place::After(to) | Place::Before(to) = place
            && self.find(to)?.starts_with(&from)
        {
            return Err(invalid("a group cannot move into itself"));
        }
        // The place keeps its meaning through a marker: numbers change when the node is taken out.
        let mut changed = self.clone();
        let marker = Node::Group(Group { common: super::Common::named(MARKER), nodes: Vec::new() });
        changed.add(marker, place)?;
        let from = shifted(&from, &changed.find(MARKER)?);
        let (last, around) = from.split_last().ok_or_else(|| invalid("an empty path"))?;
        let node = children_of(&mut changed.nodes, around)?.remove(*last);
        let to = changed.find(MARKER)?;
        let (last, around) = to.split_last().ok_or_else(|| invalid("an empty path"))?;
        children_of(&mut changed.nodes, around)?[*last] = node;
        *self = changed;
        Ok(())
    }

    /// Changes settings of a node; an empty value sets it back to its default.
    ///
    /// # Errors
    /// Those of [`Self::find`] and of reading the step anew.
    pub fn set(&mut self, label: &str, changes: &[(String, String)]) -> Result<(), Problem> {
        let node = self.node_mut(label)?;
        let mut table = node.to_table();
        apply(&mut table, changes)?;
        let read = Node::from_table(table)?;
        match (read, node) {
            (Node::Group(read), Node::Group(group)) => group.common = read.common,
            (Node::Step(read), Node::Step(step)) => *step = read,
            _ => return Err(invalid("a step does not become a group")),
        }
        Ok(())
    }
}

/// No name that is read has it: control characters are refused.
const MARKER: &str = "\u{1}here";

fn collect(nodes: &[Node], at: &mut Path, paths: &mut Vec<Path>) {
    for (position, node) in nodes.iter().enumerate() {
        at.push(position);
        paths.push(at.clone());
        if let Node::Group(group) = node {
            collect(&group.nodes, at, paths);
        }
        at.pop();
    }
}

fn children_of<'a>(nodes: &'a mut Vec<Node>, path: &[usize]) -> Result<&'a mut Vec<Node>, Problem> {
    let Some((first, rest)) = path.split_first() else { return Ok(nodes) };
    match nodes.get_mut(*first) {
        Some(Node::Group(group)) => children_of(&mut group.nodes, rest),
        _ => Err(invalid("only a group can hold steps")),
    }
}

/// Where a node is that was at `from`, after something came in at `marker`.
fn shifted(from: &Path, marker: &Path) -> Path {
    let mut from = from.clone();
    if let Some((last, around)) = marker.split_last()
        && from.starts_with(around)
        && let Some(position) = from.get_mut(around.len())
        && *position >= *last
    {
        *position += 1;
    }
    from
}

/// Puts settings into the table of a step.
///
/// # Errors
/// `TASK_SEQUENCE_INVALID` for a secret: those come from files.
pub fn apply(table: &mut Table, changes: &[(String, String)]) -> Result<(), Problem> {
    for (key, text) in changes {
        if text.is_empty() {
            table.remove(key);
            continue;
        }
        if SECRET.contains(&key.as_str()) {
            let message = format!("`{key}` is a secret, which never stands on a command line");
            return Err(invalid(message).help("use `--product-key-file FILE` or `--value-file FILE`"));
        }
        let value = match TEXT.contains(&key.as_str()) {
            true => None,
            false => {
                format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"))
            }
        };
        table.insert(key.clone(), value.unwrap_or_else(|| Value::from(text.as_str())));
    }
    Ok(())
}

/// Makes an Upgrade Operating System step use feature updates: what belongs to an image goes (mission row M34). Answers
/// whether it is such a step.
pub fn use_feature_updates(node: &mut Node, updates: Vec<UpdateId>) -> bool {
    let Node::Step(step) = node else { return false };
    let Action::UpgradeOs(upgrade) = &mut step.action else { return false };
    upgrade.feature_updates = updates;
    upgrade.image = None;
    upgrade.source_path = None;
    upgrade.edition_index = None;
    upgrade.product_key = None;
    upgrade.drivers = None;
    upgrade.incomplete = None;
    true
}

/// Makes an Upgrade Operating System step use an image. Answers whether it is such a step.
pub fn use_image(node: &mut Node, image: PackageId, edition_index: Option<u32>) -> bool {
    let Node::Step(step) = node else { return false };
    let Action::UpgradeOs(upgrade) = &mut step.action else { return false };
    upgrade.feature_updates = Vec::new();
    upgrade.source_path = None;
    upgrade.image = Some(image);
    upgrade.edition_index = edition_index;
    upgrade.incomplete = None;
    true
}
