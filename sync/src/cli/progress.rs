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
    let template = match phase.unit {
        Unit::Bytes => " {prefix:<44} [{bar:22}] {bytes}/{total_bytes}  {bytes_per_sec}  ETA {eta} {msg}",
        Unit::Items => " {prefix:<44} [{bar:22}] {pos}/{len} {msg}",
    };
    // The templates are ours and constant; a default bar is what is left if one were wrong.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(phase.total).with_style(style.progress_chars("█▌─"));
    bar.set_prefix(ends(&phase.name, 44));
    bar
}

fn line(phase: &Phase) -> String {
    let amount = match phase.unit {
        Unit::Bytes => format!("{} of {}", size(phase.done), size(phase.total)),
        Unit::Items => format!("{} of {}", phase.done, phase.total),
    };
    let message = phase.message.as_deref().map_or_else(String::new, |message| format!(", {message}"));
    format!(" {}: {amount}{message}", super::output::safe(&phase.name))
}
