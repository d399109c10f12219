//! What a job has seen and what its rules made of it, in order: enough to bring its state back without running a section again, and
//! to hold another rule set against it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spool_proto::failure::Failure;
use spool_proto::time::Timestamp;

use crate::effect::Effect;
use crate::value::Value;

/// One event and all that followed from it. Kept whole or not at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub at: Timestamp,
    pub event: Event,
    /// In the order they ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<SectionRun>,
}

/// What came from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Started {
        input: Value,
    },
    /// Of the calls a job makes, the one with this number is done.
    TaskDone {
        task: u32,
        value: Value,
    },
    TaskFailed {
        task: u32,
        failure: Failure,
    },
    /// A child has ended.
    ChildDone {
        effect: String,
        value: Value,
    },
    ChildFailed {
        effect: String,
        failure: Failure,
    },
    Signal {
        name: String,
        payload: Value,
        #[serde(default)]
        dedupe: String,
    },
    Cancel {
        reason: String,
    },
    /// Time has come. `unstarted`: calls that no worker has started, of those that should have been by now.
    Tick {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unstarted: Vec<u32>,
    },
    /// Somebody has looked at a paused or quarantined job and lets it go on.
    Resume,
    /// A job that had ended goes on: these calls, which are over without an answer, are made again. New ones are numbered from `next`.
    Retried {
        /// What ended it, the entry before, did not happen: see [`effective`].
        undo: bool,
        tasks: Vec<u32>,
        next: u32,
    },
    /// From here on another rule set holds.
    Migrated {
        rules: Arc<str>,
    },
}

/// The entries that count: what was undone is left out.
pub fn effective(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    let undone =
        |at: usize| matches!(entries.get(at + 1), Some(Entry { event: Event::Retried { undo: true, .. }, .. }));
    entries.iter().enumerate().filter(move |(at, _)| !undone(*at)).map(|(_, entry)| entry)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SectionRun {
    pub rule: Arc<str>,
    /// Of the firing; see [`crate::instance::Firing`].
    pub firing: Arc<str>,
    pub section: Section,
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Effects(Vec<Effect>),
    Broke(SectionFailure),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    Action,
    Reaction,
    Error,
}

impl Section {
    pub fn name(self) -> &'static str {
        match self {
            Section::Action => "action",
            Section::Reaction => "reaction",
            Section::Error => "error",
        }
    }
}

/// A section did not answer with effects: it raised, took too long, or answered nonsense.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct SectionFailure {
    /// `section_raised`, `section_too_slow`, `section_too_large`, `bad_effects`, …
    pub code: String,
    /// With the place in the source.
    pub message: String,
}

impl SectionFailure {
    pub fn new(code: &str, message: impl Into<String>) -> SectionFailure {
        SectionFailure { code: code.into(), message: message.into() }
    }
}
