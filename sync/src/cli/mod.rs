//! The command line: one file a noun. A verb is its arguments, their help, the request it becomes and the
//! table it prints; the work itself is [`crate::admin::answer`].

mod app;
mod arguments;
mod boundary;
mod client;
mod collection;
mod config;
mod connect;
mod content;
mod coverage;
mod demo;
mod deploy;
#[cfg(test)]
mod documents;
mod dp;
mod explain;
mod image;
mod key;
mod license;
mod media;
mod now;
mod output;
mod package;
mod prestage;
mod progress;
mod said;
mod serve;
mod settings;
mod shell;
mod status;
mod sync;
mod task;
mod tls;
mod token;
mod ts;
mod updates;
mod wait;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use catalog::problem::{Code, Problem};
use clap::{Args, CommandFactory as _, Parser, Subcommand};

pub use connect::Called;
pub use output::{Color, Format, Output};

use crate::config::Loaded;
use crate::telemetry;

/// Synchronise, verify and distribute Windows feature updates.
///
/// `spsync serve` is the daemon. Every other command talks to it where one runs for this site, and otherwise
/// does the same work in its own process. Exit status: 0 done, 1 failed, 2 usage, 3 not found, 4 refused by a
/// rule, 5 conflict, 6 daemon not reachable, 7 partly done, 8 mismatches, 9 stopped waiting, 10 not permitted,
/// 78 configuration invalid, 130 interrupted.
///
/// Every global option may also stand in the environment, as SPSYNC_ and its name: SPSYNC_OUTPUT=json (which is --json), SPSYNC_DRY_RUN=1.
#[derive(Debug, Parser)]
#[command(name = "spsync", version, max_term_width = 110, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Read this configuration file, and `conf.d/*.toml` beside it
    #[arg(long, global = true, env = "SPSYNC_CONFIG", value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Print results in this form
    #[arg(
        short,
        long,
        visible_alias = "format",
        global = true,
        env = "SPSYNC_OUTPUT",
        value_enum,
        default_value = "table",
        help_heading = "Global options"
    )]
    pub output: Format,
    /// Print results as JSON, short for `-o json`
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Use colours; NO_COLOR and TERM=dumb are honoured
    #[arg(
        long,
        global = true,
        env = "SPSYNC_COLOR",
        value_enum,
        default_value = "auto",
        help_heading = "Global options"
    )]
    pub color: Color,
    /// Print plain lines, no progress bars
    #[arg(long, global = true, env = "SPSYNC_NO_PROGRESS", value_parser = switch, help_heading = "Global options")]
    pub no_progress: bool,
    /// Print results and errors only: no notes, no progress, nothing where a list is empty
    #[arg(short, long, global = true, env = "SPSYNC_QUIET", value_parser = switch, help_heading = "Global options")]
    pub quiet: bool,
    /// Print more of the log on standard error; repeat for more. SPSYNC_LOG_FILTER says it by part: `dp=debug,spsync=info`
    #[arg(short, long, global = true, env = "SPSYNC_VERBOSE", action = clap::ArgAction::Count, value_parser = count, help_heading = "Global options")]
    pub verbose: u8,
    /// Answer confirmations with yes
    #[arg(long, global = true, env = "SPSYNC_YES", value_parser = switch, help_heading = "Global options")]
    pub yes: bool,
    /// Make the same checks, print the plan, change nothing
    #[arg(long, visible_alias = "what-if", global = true, env = "SPSYNC_DRY_RUN", value_parser = switch, help_heading = "Global options")]
    pub dry_run: bool,
    /// Stop waiting after this long, with exit status 9: 90s, 15m, 2h. A daemon's task goes on; without a daemon the work ends
    #[arg(long, global = true, env = "SPSYNC_TIMEOUT", value_name = "TIME", value_parser = crate::config::parse_duration, help_heading = "Global options")]
    pub timeout: Option<Duration>,
    /// Print the task's number and do not wait (needs a daemon)
    #[arg(long, global = true, env = "SPSYNC_NO_WAIT", value_parser = switch, help_heading = "Global options")]
    pub no_wait: bool,
}

/// What a variable says of a flag. A word that nobody knows is refused: taken for no, a change that was only to be tried would be made.
fn switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("expected 1, true, yes or on; or 0, false, no or off".to_owned()),
    }
}

/// How often a flag is given, as a variable says it.
fn count(text: &str) -> Result<u8, String> {
    match text.trim() {
        "" => Ok(0),
        text => text.parse().map_err(|_| format!("expected 0 to {}", u8::MAX)),
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon in the foreground
    Serve(serve::Serve),
    /// Synchronise now
    Now(now::Now),
    /// Show the state of everything on one screen
    Status(status::Status),
    /// Explain a code, and what to do about it
    Explain(explain::Explain),
    /// Synchronisation: history, what is selected, what a change would do
    #[command(subcommand)]
    Sync(sync::Sync),
    /// Feature updates
    #[command(subcommand)]
    Updates(updates::Updates),
    /// Licence terms
    #[command(subcommand)]
    License(license::License),
    /// Deployment packages
    #[command(subcommand)]
    Package(package::Package),
    /// Distribution points
    #[command(subcommand)]
    Dp(dp::Dp),
    /// Keys of distribution points and devices
    #[command(subcommand)]
    Key(key::Key),
    /// Boundaries and boundary groups: which clients ask which distribution points
    #[command(subcommand)]
    Boundary(boundary::Boundary),
    /// The content library
    #[command(subcommand)]
    Content(content::Content),
    /// OS upgrade packages: WIM and ESD files
    #[command(subcommand)]
    Image(image::Image),
    /// Applications
    #[command(subcommand)]
    App(app::App),
    /// Collections of devices
    #[command(subcommand)]
    Collection(collection::Collection),
    /// Client settings
    #[command(subcommand)]
    Settings(settings::Settings),
    /// Task sequences
    #[command(subcommand)]
    Ts(ts::Ts),
    /// Deployments: task sequences and updates offered to collections
    #[command(subcommand)]
    Deploy(deploy::Deploy),
    /// Stand-alone media
    #[command(subcommand)]
    Media(media::Media),
    /// Prestaged files
    #[command(subcommand)]
    Prestage(prestage::Prestage),
    /// The reference client, on a device; and at the site the devices that it knows
    #[command(subcommand)]
    Client(client::Client),
    /// Long work: list, watch, cancel
    #[command(subcommand)]
    Task(task::Task),
    /// Tokens of the admin API
    #[command(subcommand)]
    Token(token::Token),
    /// Certificates of the site
    #[command(subcommand)]
    Tls(tls::Tls),
    /// The configuration
    #[command(subcommand)]
    Config(config::Config),
    /// Try everything on this machine, with an embedded upstream and no internet
    Demo(demo::Demo),
    /// Canonical state of the site, for comparisons
    #[command(subcommand)]
    State(status::State),
    /// Print completions for a shell
    Completions(shell::Completions),
    /// Write the manual pages
    Man(shell::Man),
    /// Print the version
    Version,
}

/// Parses the command line, runs the verb and turns its result into an exit status.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if !error.use_stderr() {
                let _ = error.print();
                return ExitCode::SUCCESS;
            }
            // clap's own text keeps its colours and its "did you mean"; the code and the status are ours.
            let text = match std::io::IsTerminal::is_terminal(&std::io::stderr()) {
                true => error.render().ansi().to_string(),
                false => error.render().to_string(),
            };
            let text = text.replacen("error:", &format!("error[{}]:", Code::Usage), 1);
            let _ = std::io::stderr().write_all(text.as_bytes());
            return ExitCode::from(Code::Usage.page().exit.status());
        }
    };
    let output = Output::new(&cli.global);
    // What a site writes is for its user and group; content gets its own rights when it is stored.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o027));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let problem = Problem::new(Code::Internal, "the asynchronous runtime cannot be started")
                .because_of(Some(&error));
            output.problem(&problem);
            return ExitCode::from(1);
        }
    };
    let ended = runtime.block_on(run(cli, &output));
    // A blocked DNS look-up or disk must not hold the prompt back; whatever matters has been waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    let status = match ended {
        Ok(status) => status,
        Err(problem) => {
            output.problem(&problem);
            problem.code.page().exit.status()
        }
    };
    // Whoever asked must not take half a list, or a token that nobody saw, for done.
    let failure = output.failure().inspect(|failure| output.problem(failure));
    match (status, failure) {
        (0, Some(failure)) => ExitCode::from(failure.code.page().exit.status()),
        (status, _) => ExitCode::from(status),
    }
}

/// Runs one verb. `Ok` is the exit status of work that answered.
async fn run(cli: Cli, output: &Output) -> Result<u8, Problem> {
    let global = &cli.global;
    if !matches!(cli.verb, Verb::Serve(_)) {
        telemetry::for_command(global.verbose, global.quiet);
    }
    match cli.verb {
        Verb::Explain(verb) => verb.run(output),
        Verb::Version => {
            output.line(format!("spsync {}", env!("CARGO_PKG_VERSION")));
            Ok(0)
        }
        Verb::Completions(verb) => verb.run(Cli::command(), output),
        Verb::Man(verb) => verb.run(Cli::command(), output),
        Verb::Demo(verb) => verb.run(global, output).await,
        Verb::Image(verb) => verb.run(global, output).await,
        Verb::App(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::Collection(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::Settings(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::Ts(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::Deploy(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::Media(verb) => verb.run(global, output).await,
        Verb::Prestage(verb) => verb.run(global, output).await,
        Verb::Config(verb) => verb.run(global, output).await,
        Verb::Serve(verb) => verb.run(global, output).await,
        Verb::Client(verb) => verb.run(settings(global)?, global, output).await,
        Verb::Now(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::Status(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::Sync(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::Updates(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::License(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::Package(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::Dp(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::Key(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::Boundary(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::Content(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::Token(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::Tls(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::Task(verb) => verb.run(&settings(global)?, global, output).await,
        Verb::State(verb) => verb.run(&settings(global)?, global, output).await,
    }
}

/// The settings that `--config`, its drop-ins and the environment give.
pub(crate) fn settings(global: &Global) -> Result<Loaded, Problem> {
    crate::config::load(global.config.as_deref())
}

/// Asks on a terminal whether `what` is meant; `--yes` and `--dry-run` answer for themselves.
///
/// # Errors
/// `CONFIRMATION_REQUIRED` where nobody is there to ask, or the answer is no.
pub(crate) fn confirm(global: &Global, what: &str) -> Result<(), Problem> {
    use std::io::{BufRead as _, IsTerminal as _};
    if global.yes || global.dry_run {
        return Ok(());
    }
    let refused = |why: &str| Problem::new(Code::ConfirmationRequired, format!("{what}: {why}"));
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(refused("nobody is there to confirm"));
    }
    let _ = write!(std::io::stderr(), "{what}? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(refused("not confirmed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands that a page advises: what is to be looked at, and what stands in backticks in its help.
    fn advised(page: &catalog::problem::Page) -> Vec<Vec<&'static str>> {
        let looked_at = page.checks.split(';');
        let quoted = page.help.split('`').skip(1).step_by(2);
        looked_at
            .chain(quoted)
            .filter_map(|text| text.trim().strip_prefix("spsync "))
            .map(|text| text.split_whitespace().collect())
            .collect()
    }

    /// Advice that names a command or option which is not there is worse than none.
    #[test]
    fn every_command_that_a_page_advises_exists() {
        let root = Cli::command();
        for code in Code::ALL {
            for words in advised(&code.page()) {
                let mut command = &root;
                for word in &words {
                    if let Some(next) = command.find_subcommand(word) {
                        command = next;
                    } else if let Some(option) = word.strip_prefix("--") {
                        let known =
                            |c: &clap::Command| c.get_arguments().any(|a| a.get_long() == Some(option));
                        assert!(
                            known(command) || known(&root),
                            "{code}: `{}` has no {word}",
                            words.join(" ")
                        );
                    } else {
                        assert!(!command.has_subcommands(), "{code}: no `spsync {}`", words.join(" "));
                    }
                }
            }
        }
    }

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    /// Keys of the configuration have two underscores in their variables, and no option may be taken for one.
    #[test]
    fn every_global_option_has_a_variable_of_its_own() {
        let command = Cli::command();
        let options = command.get_arguments().filter(|arg| arg.is_global_set());
        let mut seen = 0;
        // That of `--json` is SPSYNC_OUTPUT: a variable of its own would count for more than `-o` on the command line.
        for option in options.filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version" | "json")) {
            let name = option.get_long().expect("a long name").to_uppercase().replace('-', "_");
            let variable = option.get_env().and_then(|variable| variable.to_str());
            assert_eq!(variable, Some(format!("SPSYNC_{name}").as_str()), "--{name}");
            assert!(!name.contains("__"), "--{name}");
            seen += 1;
        }
        assert_eq!(seen, 10);
    }

    #[test]
    fn a_variable_says_yes_or_no_and_nothing_else() {
        for yes in ["1", "true", "YES", " on "] {
            assert_eq!(switch(yes), Ok(true), "{yes}");
        }
        for no in ["", "0", "False", "no", "off"] {
            assert_eq!(switch(no), Ok(false), "{no}");
        }
        assert!(switch("maybe").is_err());
        assert_eq!((count(""), count("2")), (Ok(0), Ok(2)));
        assert!(count("x").is_err());
    }
}
