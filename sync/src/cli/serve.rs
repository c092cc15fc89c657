//! `spsync serve`.

use catalog::problem::{Code, Problem};
use clap::Args;

use super::{Global, Output};
use crate::config::{self, Level};
use crate::{daemon, telemetry};

/// Run the daemon in the foreground: scheduler, distribution point, update point, admin socket and API, health
///
/// SIGTERM and Ctrl-C stop it gracefully, SIGHUP reloads the configuration. Under systemd it reports readiness
/// (Type=notify) and keeps its watchdog.
#[derive(Debug, Args)]
pub struct Serve {
    /// Check the configuration and exit
    #[arg(long)]
    check: bool,
    /// Listen here instead of `[server] listen`; may be given several times
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
}

impl Serve {
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<u8, Problem> {
        let mut loaded = config::load(global.config.as_deref())?;
        if !self.listen.is_empty() {
            loaded.set_listen(&self.listen)?;
        }
        let findings = loaded.check();
        for finding in &findings {
            output.note(format!("{}: {}", finding.level, finding.text));
        }
        if let Some(first) = findings.iter().find(|finding| finding.level == Level::Error) {
            let code = first.code.unwrap_or(Code::ConfigInvalid);
            return Err(Problem::new(code, "the configuration has errors")
                .help("correct what is named above, then `spsync config check`"));
        }
        if self.check {
            return Ok(0);
        }
        telemetry::for_daemon(&loaded.settings.log, global.verbose);
        daemon::run(loaded).await?;
        Ok(0)
    }
}
