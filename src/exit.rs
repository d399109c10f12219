//! How the program ends: exit codes, and the errors that carry them.

use std::process::ExitCode;

use spool_proto::failure::{Class, Failure};

/// Exit codes, as users' scripts read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done,
    /// The job failed or was cancelled.
    JobFailed,
    /// What was asked cannot be done as asked.
    Usage,
    /// The pool or the server takes no more now; later it may.
    Quota,
    /// The server cannot be reached.
    Unreachable,
    TimedOut,
    /// Interrupted; what was begun goes on elsewhere or resumes.
    Detached,
}

impl Exit {
    pub fn number(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::JobFailed => 1,
            Exit::Usage => 2,
            Exit::Quota => 3,
            Exit::Unreachable => 4,
            Exit::TimedOut => 124,
            Exit::Detached => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.number())
    }
}

/// An error that knows its exit code. Every other error ends with 1.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Stop {
    pub exit: Exit,
    pub message: String,
}

impl Stop {
    pub fn usage(message: impl Into<String>) -> anyhow::Error {
        Stop { exit: Exit::Usage, message: message.into() }.into()
    }

    pub fn with(exit: Exit, message: impl Into<String>) -> anyhow::Error {
        Stop { exit, message: message.into() }.into()
    }
}

/// The exit code an error asks for.
pub fn of_error(error: &anyhow::Error) -> Exit {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return stop.exit;
    }
    match error.downcast_ref::<Failure>() {
        Some(Failure { class: Class::Spec, .. }) => Exit::Usage,
        _ => Exit::JobFailed,
    }
}

/// An error as people read it: the message, for a failure its class and code, its evidence below.
pub fn text_of_error(error: &anyhow::Error) -> String {
    match error.downcast_ref::<Failure>() {
        Some(failure) => failure_text(failure),
        None => format!("{error:#}"),
    }
}

pub fn failure_text(failure: &Failure) -> String {
    let mut text = format!("{} ({}: {})", failure.message, failure.class, failure.code);
    for line in failure.evidence.lines() {
        text.push_str("\n  ");
        text.push_str(line);
    }
    text
}
