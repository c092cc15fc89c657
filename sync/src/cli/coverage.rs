//! `spsync dp coverage`: packages down, points or groups across.

use catalog::problem::Problem;

use super::output::{Rows, safe, short};
use super::{Global, Output, connect};
use crate::admin::{PointVerb, Request};
use crate::config::Loaded;
use crate::points::Coverage;
use crate::words::counted;

/// The most columns that are shown to people who did not ask for all.
const MOST_COLUMNS: usize = 20;

pub(super) async fn run(
    groups: bool,
    all: bool,
    settings: &Loaded,
    global: &Global,
    output: &Output,
) -> Result<u8, Problem> {
    let request = Request::Points { act: PointVerb::Coverage { groups, all } };
    let coverage = connect::call::<Coverage>(settings, global, output, request).await?.body;
    let columns = if all { usize::MAX } else { MOST_COLUMNS };
    let none = "no package is on any distribution point: spsync package distribute P --to DP";
    output.list(&coverage, &coverage.rows, |row| row.package.to_string(), table(&coverage, columns), none);
    if output.for_people() {
        below(&coverage, columns, groups).into_iter().for_each(|line| output.line(line));
    } else if coverage.hidden_packages > 0 {
        output.note(format!("hidden: {} (--all)", packages_nowhere(&coverage)));
    }
    Ok(0)
}

fn table(coverage: &Coverage, columns: usize) -> Rows {
    let names = coverage.columns.iter().take(columns).map(|column| short(&column.name, 16));
    let header = ["PACKAGE", "NAME", "VERSION"].into_iter().map(str::to_owned).chain(names);
    let mut rows = Rows::under(header.collect());
    for row in &coverage.rows {
        let cells = row.cells.iter().take(columns).map(|cell| cell.mark.sign().to_owned());
        let begins = [row.package.to_string(), safe(&row.name), row.latest.to_string()];
        rows.push_row(begins.into_iter().chain(cells).collect());
    }
    rows
}

fn packages_nowhere(coverage: &Coverage) -> String {
    match coverage.hidden_packages {
        1 => "1 package that is on no point".to_owned(),
        more => format!("{more} packages that are on no point"),
    }
}

/// What stands below the grid: what its marks mean, whom it cannot be asked of now, and what is not in it.
fn below(coverage: &Coverage, columns: usize, groups: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let meanings: Vec<_> = coverage.legend.iter().map(|one| format!("{} {}", one.sign, one.means)).collect();
    if !meanings.is_empty() {
        lines.push(meanings.join(" · "));
    }
    let shown = coverage.columns.iter().take(columns);
    let unwell: Vec<_> = shown
        .filter(|column| column.condition != "ok")
        .map(|column| match groups {
            true => safe(&format!("{}: {}", column.name, column.condition)),
            false => safe(&format!("{} {}", column.name, column.condition)),
        })
        .collect();
    if !unwell.is_empty() {
        lines.push(format!("not ok now: {}", unwell.join(", ")));
    }
    let mut hidden = Vec::new();
    let across = coverage.columns.len().saturating_sub(columns);
    if across > 0 {
        hidden.push(counted(across, if groups { "group" } else { "point" }));
    }
    if coverage.hidden_packages > 0 {
        hidden.push(packages_nowhere(coverage));
    }
    if !hidden.is_empty() {
        lines.push(format!("hidden: {} (--all)", hidden.join(", ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::coverage::{Column, Mark, Meaning};

    #[test]
    fn it_says_what_the_marks_mean_and_what_is_hidden() {
        let column = |(name, condition): (&str, &str)| Column {
            name: name.to_owned(),
            condition: condition.to_owned(),
            points: Vec::new(),
        };
        let meaning = Meaning { mark: Mark::There, sign: "✔".to_owned(), means: "there".to_owned() };
        let coverage = Coverage {
            columns: [("lyon", "ok"), ("rome", "silent"), ("oslo", "new")].map(column).into(),
            rows: Vec::new(),
            legend: vec![meaning],
            hidden_packages: 2,
        };
        let two = below(&coverage, 2, false);
        assert_eq!(
            two,
            [
                "✔ there",
                "not ok now: rome silent",
                "hidden: 1 point, 2 packages that are on no point (--all)"
            ]
        );
        let whole = Coverage { hidden_packages: 0, legend: Vec::new(), ..coverage };
        assert_eq!(below(&whole, usize::MAX, true), ["not ok now: rome: silent, oslo: new"]);
    }
}
