//! Progress of a task: bars on a terminal, plain lines elsewhere, both on standard error.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use schema::tasks::{Phase, Task, Unit};

use super::Output;
use super::output::{ends, size};

/// How often a plain line is printed for a phase that goes on.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Shows one task as it goes on.
pub struct Progress {
    bars: Option<MultiProgress>,
    shown: HashMap<String, Shown>,
    output: Output,
}

struct Shown {
    bar: Option<ProgressBar>,
    line_at: Instant,
    ended: bool,
}

impl Progress {
    /// Nothing is shown yet.
    pub fn new(output: &Output) -> Self {
        Self { bars: output.bars.then(MultiProgress::new), shown: HashMap::new(), output: output.clone() }
    }

    /// Shows the task as it is now.
    pub fn show(&mut self, task: &Task) {
        for phase in &task.phases {
            let bars = &self.bars;
            let new = !self.shown.contains_key(&phase.name);
            let shown = self.shown.entry(phase.name.clone()).or_insert_with(|| Shown {
                bar: bars.as_ref().map(|bars| bars.add(bar(phase))),
                line_at: Instant::now(),
                ended: false,
            });
            if shown.ended {
                continue;
            }
            shown.ended = phase.ended;
            match &shown.bar {
                Some(bar) => {
                    // How much it is may become known only later.
                    bar.set_style(style(phase));
                    bar.set_length(phase.total);
                    bar.set_position(phase.done);
                    if phase.ended {
                        bar.finish_with_message(phase.message.clone().unwrap_or_default());
                    }
                }
                None if new || phase.ended || shown.line_at.elapsed() >= LINE_EVERY => {
                    shown.line_at = Instant::now();
                    self.output.note(line(phase));
                }
                None => {}
            }
        }
    }
}

fn bar(phase: &Phase) -> ProgressBar {
    let bar = ProgressBar::new(phase.total).with_style(style(phase));
    bar.set_prefix(ends(&phase.name, 44));
    bar
}

fn style(phase: &Phase) -> ProgressStyle {
    let template = match phase.unit {
        Unit::Bytes if phase.total == 0 => " {prefix:<44} {bytes} {msg}",
        Unit::Bytes => " {prefix:<44} [{bar:22}] {bytes}/{total_bytes}  {bytes_per_sec}  ETA {eta} {msg}",
        Unit::Items if phase.total == 0 => " {prefix:<44} {pos} {msg}",
        Unit::Items => " {prefix:<44} [{bar:22}] {pos}/{len} {msg}",
    };
    // The templates are ours and constant; a default bar is what is left if one were wrong.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("█▌─")
}

/// How much of a phase is done, and of how much where that is known: a total of 0 says that it is not.
pub(super) fn amount(phase: &Phase, number: impl Fn(u64) -> String) -> String {
    match phase.total {
        0 => number(phase.done),
        total => format!("{} of {}", number(phase.done), number(total)),
    }
}

fn line(phase: &Phase) -> String {
    let amount = amount(phase, |number| match phase.unit {
        Unit::Bytes => size(number),
        Unit::Items => number.to_string(),
    });
    let message = phase.message.as_deref().map_or_else(String::new, |message| format!(", {message}"));
    format!(" {}: {amount}{message}", super::output::safe(&phase.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_said_to_be_nothing() {
        for (unit, done, total, expected) in [
            (Unit::Items, 3, 0, " read: 3"),
            (Unit::Items, 0, 0, " read: 0"),
            (Unit::Items, 3, 7, " read: 3 of 7"),
            (Unit::Bytes, 2048, 0, " read: 2.0 KiB"),
            (Unit::Bytes, 2048, 4096, " read: 2.0 KiB of 4.0 KiB"),
        ] {
            let phase = Phase { name: "read".to_owned(), done, total, unit, ..Phase::default() };
            assert_eq!(line(&phase), expected);
        }
    }
}
