//! `spsync completions SHELL` and `spsync man`.

use std::path::PathBuf;

use catalog::problem::{Code, Problem};
use clap::{Args, Command};

use super::Output;

/// Print completions for a shell
#[derive(Debug, Args)]
pub struct Completions {
    /// Which shell
    shell: clap_complete::Shell,
}

impl Completions {
    pub(super) fn run(self, mut command: Command, output: &Output) -> Result<u8, Problem> {
        // It panics where it cannot write.
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut command, "spsync", &mut text);
        output.bytes(&text);
        Ok(0)
    }
}

/// Write the manual pages
#[derive(Debug, Args)]
pub struct Man {
    /// Folder for one page a command; without it the main page goes to standard output
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self, command: Command, output: &Output) -> Result<u8, Problem> {
        let mut page = Vec::new();
        let written = match &self.dir {
            Some(dir) => std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(command, dir)),
            None => clap_mangen::Man::new(command).render(&mut page),
        };
        written.map_err(|error| {
            Problem::new(Code::DiskError, "the manual pages cannot be written").because_of(Some(&error))
        })?;
        match self.dir {
            Some(dir) => output.note(format!("written to {}", dir.display())),
            None => output.bytes(&page),
        }
        Ok(0)
    }
}
