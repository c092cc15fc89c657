//! What is where, as a grid: packages down, points or groups across, one mark a cell.

use std::sync::Arc;

use catalog::id::PackageId;
use catalog::problem::Problem;
use schema::points::{ContentState, Placement, PointGroup};
use serde::{Deserialize, Serialize};

use super::{ShownPoint, all};
use crate::admin::Answer;
use crate::site::Site;

/// How a package is doing in a column; what needs somebody most comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// It could not be sent.
    Failed,
    /// Some of its files are bad.
    Warning,
    /// It was called off.
    Cancelled,
    /// It is sent, or read again.
    UnderWay,
    /// It is taken off.
    Removing,
    /// An earlier version is there, and nothing else is on its way.
    Outdated,
    /// Some points of the group have it.
    Partly,
    /// It is there, as it is now.
    There,
    /// It was not sent there.
    Absent,
}

impl Mark {
    /// All of them, as a legend has them.
    pub const ALL: [Self; 9] = [
        Self::There,
        Self::Outdated,
        Self::Partly,
        Self::UnderWay,
        Self::Removing,
        Self::Warning,
        Self::Failed,
        Self::Cancelled,
        Self::Absent,
    ];

    fn of(placed: &Placement) -> Self {
        match placed.state {
            ContentState::Success if placed.version < placed.latest => Self::Outdated,
            ContentState::Success => Self::There,
            ContentState::Warning => Self::Warning,
            ContentState::Failed => Self::Failed,
            ContentState::Cancelled => Self::Cancelled,
            ContentState::Removing => Self::Removing,
            ContentState::Queued
            | ContentState::Sending
            | ContentState::Verifying
            | ContentState::Validating => Self::UnderWay,
        }
    }

    /// The one of several points.
    fn of_all(marks: impl Iterator<Item = Self>) -> Self {
        let (mut worst, mut absent) = (Self::Absent, false);
        for mark in marks {
            absent |= mark == Self::Absent;
            worst = worst.min(mark);
        }
        if absent && worst == Self::There { Self::Partly } else { worst }
    }

    /// What stands in a cell for people.
    pub fn sign(self) -> &'static str {
        match self {
            Self::There => "✔",
            Self::Outdated => "○",
            Self::Partly => "◐",
            Self::UnderWay => "…",
            Self::Removing => "←",
            Self::Warning => "!",
            Self::Failed => "✘",
            Self::Cancelled => "⊘",
            Self::Absent => "·",
        }
    }

    /// What it means.
    pub fn means(self) -> &'static str {
        match self {
            Self::There => "there",
            Self::Outdated => "an earlier version",
            Self::Partly => "on some points",
            Self::UnderWay => "under way",
            Self::Removing => "is taken off",
            Self::Warning => "bad files",
            Self::Failed => "failed",
            Self::Cancelled => "called off",
            Self::Absent => "not sent there",
        }
    }
}

/// What is where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Across.
    pub columns: Vec<Column>,
    /// Down.
    pub rows: Vec<Row>,
    /// What the marks mean.
    pub legend: Vec<Meaning>,
    /// Packages, images and applications that are on no point and not in it.
    pub hidden_packages: u64,
}

/// A point, or a group of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// How the point is; of a group: which points of it are not `ok`.
    pub condition: String,
    /// Names of its points.
    pub points: Vec<String>,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its id.
    pub package: PackageId,
    /// Its name.
    pub name: String,
    /// Its version at the site.
    pub latest: u32,
    /// A cell a column, in their order.
    pub cells: Vec<Cell>,
}

/// A package in a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Name of the column.
    pub column: String,
    /// How it is there.
    pub mark: Mark,
    /// Points of the column that have it as it is now.
    pub there: u64,
    /// Each point of the column that it was sent to: its name, the version and its state there.
    pub on: Vec<(String, u32, ContentState)>,
}

/// A mark explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meaning {
    /// The mark.
    pub mark: Mark,
    /// As tables have it.
    pub sign: String,
    /// What it means.
    pub means: String,
}

/// What could be sent to points: id, name and version.
type Known = (PackageId, String, u32);

/// The grid.
///
/// # Errors
/// Those of the database.
pub async fn coverage(site: &Arc<Site>, by_group: bool, with_all: bool) -> Result<Answer, Problem> {
    let points = all(site).await?;
    let (placed, groups, known) = site
        .read(|r| {
            let packages = r.packages()?.into_iter().map(|row| (row.id, row.name, row.version));
            let images = r.images()?.into_iter().map(|row| (row.id, row.name, 1));
            let apps = r.apps()?.into_iter().map(|row| (row.id, row.name, 1));
            let known: Vec<Known> = packages.chain(images).chain(apps).collect();
            Ok((r.placements()?, r.point_groups()?, known))
        })
        .await?;
    let columns = columns(&points, by_group.then_some(groups.as_slice()));
    Answer::of(&grid(columns, &placed, &known, with_all))
}

fn columns(points: &[ShownPoint], groups: Option<&[PointGroup]>) -> Vec<Column> {
    let of_point = |shown: &ShownPoint| Column {
        name: shown.point.name.clone(),
        condition: shown.condition.clone(),
        points: vec![shown.point.name.clone()],
    };
    let of_group = |group: &PointGroup| {
        let members = points.iter().filter(|shown| group.points.contains(&shown.point.name));
        let unwell: Vec<_> = members
            .filter(|shown| shown.condition != "ok")
            .map(|shown| format!("{} {}", shown.point.name, shown.condition))
            .collect();
        let condition = if unwell.is_empty() { "ok".to_owned() } else { unwell.join(", ") };
        Column { name: group.name.clone(), condition, points: group.points.clone() }
    };
    match groups {
        Some(groups) => groups.iter().map(of_group).collect(),
        None => points.iter().map(of_point).collect(),
    }
}

/// The grid of what is known. Pure.
fn grid(columns: Vec<Column>, placed: &[Placement], known: &[Known], with_all: bool) -> Coverage {
    let mut rows: Vec<Row> = Vec::new();
    let mut hidden = 0;
    for (package, name, latest) in known {
        let of: Vec<&Placement> = placed.iter().filter(|placed| placed.package == *package).collect();
        if of.is_empty() && !with_all {
            hidden += 1;
            continue;
        }
        let cell = |column: &Column| {
            let at = |point: &String| of.iter().find(|placed| placed.point == *point);
            let marks = column.points.iter().map(|point| at(point).map_or(Mark::Absent, |it| Mark::of(it)));
            let on = column.points.iter().filter_map(at);
            Cell {
                column: column.name.clone(),
                mark: Mark::of_all(marks.clone()),
                there: marks.filter(|mark| *mark == Mark::There).count() as u64,
                on: on.map(|it| (it.point.clone(), it.version, it.state)).collect(),
            }
        };
        let cells = columns.iter().map(cell).collect();
        rows.push(Row { package: package.clone(), name: name.clone(), latest: *latest, cells });
    }
    let used = |mark: &Mark| rows.iter().flat_map(|row| &row.cells).any(|cell| cell.mark == *mark);
    let legend = Mark::ALL.into_iter().filter(used).map(|mark| Meaning {
        mark,
        sign: mark.sign().to_owned(),
        means: mark.means().to_owned(),
    });
    Coverage { legend: legend.collect(), columns, rows, hidden_packages: hidden }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use schema::points::Work;

    use super::*;

    fn placed(point: &str, version: u32, state: ContentState) -> Placement {
        Placement {
            package: "XYZ00001".parse().expect("an id"),
            name: "p".to_owned(),
            point_id: 2,
            point: point.to_owned(),
            version,
            latest: 3,
            state,
            work: Work::Send,
            order: 1,
            retries_left: 0,
            next_retry: None,
            done: 0,
            bytes: 1,
            problem: None,
            at: Timestamp::UNIX_EPOCH,
            changed: None,
        }
    }

    #[test]
    fn a_mark_says_what_needs_somebody_most() {
        use ContentState::{Cancelled, Failed, Queued, Removing, Success, Validating, Warning};
        for (version, state, expected) in [
            (3, Success, Mark::There),
            (2, Success, Mark::Outdated),
            (3, Queued, Mark::UnderWay),
            (3, Validating, Mark::UnderWay),
            (2, Failed, Mark::Failed),
            (2, Warning, Mark::Warning),
            (3, Cancelled, Mark::Cancelled),
            (3, Removing, Mark::Removing),
        ] {
            assert_eq!(Mark::of(&placed("lyon", version, state)), expected, "{version} {state}");
        }
        for (marks, expected) in [
            (vec![], Mark::Absent),
            (vec![Mark::Absent, Mark::Absent], Mark::Absent),
            (vec![Mark::There, Mark::There], Mark::There),
            (vec![Mark::There, Mark::Absent], Mark::Partly),
            (vec![Mark::Outdated, Mark::Absent], Mark::Outdated),
            (vec![Mark::There, Mark::UnderWay, Mark::Outdated], Mark::UnderWay),
            (vec![Mark::UnderWay, Mark::Failed, Mark::Absent], Mark::Failed),
        ] {
            assert_eq!(Mark::of_all(marks.iter().copied()), expected, "{marks:?}");
        }
    }

    #[test]
    fn the_grid_has_a_cell_for_each_and_counts_what_it_leaves_out() {
        let column = |name: &str, points: &[&str]| Column {
            name: name.to_owned(),
            condition: "ok".to_owned(),
            points: points.iter().map(|&point| point.to_owned()).collect(),
        };
        let known = [("XYZ00001", "p", 3), ("XYZ00002", "q", 1)]
            .map(|(id, name, version)| (id.parse().expect("an id"), name.to_owned(), version));
        let all = [placed("lyon", 3, ContentState::Success), placed("rome", 2, ContentState::Success)];
        let columns = || vec![column("lyon", &["lyon"]), column("SOUTH", &["rome", "oslo"])];
        let signs = |coverage: &Coverage| -> Vec<String> {
            coverage.rows.iter().map(|row| row.cells.iter().map(|cell| cell.mark.sign()).collect()).collect()
        };
        let few = grid(columns(), &all, &known, false);
        assert_eq!((signs(&few), few.hidden_packages), (vec!["✔○".to_owned()], 1));
        assert_eq!(few.legend.iter().map(|one| one.mark).collect::<Vec<_>>(), [Mark::There, Mark::Outdated]);
        assert_eq!(few.rows[0].cells[1].on, [("rome".to_owned(), 2, ContentState::Success)]);
        let every = grid(columns(), &all, &known, true);
        assert_eq!((signs(&every), every.hidden_packages), (vec!["✔○".to_owned(), "··".to_owned()], 0));
    }
}
