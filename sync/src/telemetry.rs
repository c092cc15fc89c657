//! The log: text, or JSON for machines, on standard error. Under systemd the journal adds time and unit.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// For a command: only what went wrong, unless asked for more. Who wants it quiet hears of errors too: some are said here alone.
pub fn for_command(verbose: u8, quiet: bool) {
    let level = match verbose {
        _ if quiet => "error",
        0 => "error",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("SPSYNC_LOG_FILTER")
        .unwrap_or_else(|_| EnvFilter::new(format!("off,spsync={level},dp={level},schema={level}")));
    let subscriber =
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).without_time();
    // A second initialisation happens only in tests, which keep the first.
    let _ = subscriber.with_ansi(std::io::stderr().is_terminal()).try_init();
}

/// For the daemon, as `[log]` says.
pub fn for_daemon(log: &Log, verbose: u8) {
    let mut wanted = if log.level.contains(['=', ',']) {
        log.level.clone()
    } else {
        format!("warn,spsync={0},dp={0},schema={0}", log.level)
    };
    if verbose > 0 {
        wanted = "info,spsync=debug,dp=debug,schema=debug".to_owned();
    }
    if !log.access_log {
        wanted.push_str(",spsync::access=off");
    }
    let filter = EnvFilter::try_new(&wanted).unwrap_or_else(|_| EnvFilter::new("info"));
    let base = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let _ = match (log.format, journal) {
        (LogFormat::Json, _) => base.json().flatten_event(true).try_init(),
        (_, true) => base.without_time().with_ansi(false).try_init(),
        (_, false) => base.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}
