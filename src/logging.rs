//! Logs, on stderr: `RUST_LOG` says which, `--log-format` how.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Starts logging. `quiet`: warnings only, so that a progress bar stays whole; else what a role does, too.
pub fn start(format: LogFormat, quiet: bool) {
    start_at(format, if quiet { "warn" } else { "warn,spool=info,spool_scheduler=info,spool_worker=info" });
}

/// Starts logging, at `default` where `RUST_LOG` says nothing.
pub fn start_at(format: LogFormat, default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let logs = logs.with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
}
