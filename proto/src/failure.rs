//! How things fail: by class (what to do about it), code (what it was) and evidence.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a failure means for the one who must act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The source is broken, gone or not what it claims. Not retried.
    Input,
    /// The request cannot be done as asked. Not retried.
    Spec,
    /// The network or a store hiccuped. Retried.
    Transient,
    /// This machine is at fault (disk full, codec missing). Retried, elsewhere if there is an elsewhere.
    Host,
    /// More memory, time or disk was needed than the task declared. Retried.
    Capacity,
    /// A bug: a crash, a hang, output that failed its checks. Retried.
    Internal,
}

impl Class {
    pub const ALL: [Class; 6] =
        [Class::Input, Class::Spec, Class::Transient, Class::Host, Class::Capacity, Class::Internal];

    pub fn is_retryable(self) -> bool {
        !matches!(self, Class::Input | Class::Spec)
    }

    pub fn name(self) -> &'static str {
        match self {
            Class::Input => "input",
            Class::Spec => "spec",
            Class::Transient => "transient",
            Class::Host => "host",
            Class::Capacity => "capacity",
            Class::Internal => "internal",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Class {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Class::ALL.into_iter().find(|c| c.name() == text).ok_or_else(|| format!("unknown failure class {text:?}"))
    }
}

/// One failure, as journals keep it and people read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub class: Class,
    /// A stable snake_case name, listed in `docs/errors.md`.
    pub code: String,
    /// What was wrong, where, and what to do. Lower case, no full stop.
    pub message: String,
    /// What the failing process left behind: exit status, tail of stderr. May be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub evidence: String,
}

impl Failure {
    pub fn new(class: Class, code: &str, message: impl Into<String>) -> Failure {
        Failure { class, code: code.into(), message: message.into(), evidence: String::new() }
    }

    #[must_use]
    pub fn with_evidence(mut self, evidence: impl Into<String>) -> Failure {
        self.evidence = evidence.into();
        self
    }
}

/// Something a user should know that did not stop the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    pub code: String,
    /// Source stream index, where one is concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<u32>,
    pub text: String,
}
