//! What a reactive job adds to the contract: the steps of its workflow, and signals from outside.

use std::sync::Arc;

use spool_proto::time::Timestamp;

use super::{Blob, Outcome, TaskRun};

/// Signals a job keeps until its workflow takes them, at most.
pub const SIGNALS_MAX: usize = 10_000;

/// Bytes of a signal, name and dedupe id included, at most.
pub const SIGNAL_BYTES_MAX: usize = 64 << 10;

/// What the workflow of a reactive job does next. The whole of it is one record. An empty one changes nothing but the alarm.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Step {
    /// Kept at the end of the job's log.
    pub log: Option<Blob>,
    /// This entry replaces all entries before it.
    pub snapshot: bool,
    /// New tasks, all runnable now. Each group becomes a phase of its own; tasks are numbered on from [`crate::Job::task_count`], in
    /// order.
    pub groups: Vec<Group>,
    /// Tasks to be cancelled: waiting ones at once, those with workers when these have let go. Ones that are over stay as they are.
    pub cancel: Vec<u32>,
    /// Ask again then; replaces the time set before. A time that has passed already rings once.
    pub wake: Option<Timestamp>,
    /// Signals up to this number are done with.
    pub signals_taken: u64,
    /// It waits for nothing that may be over without its having heard: only for `wake` and for signals. After a restart it is not asked.
    pub rests: bool,
    /// The job ends so. Whatever of it is open is cancelled before.
    pub outcome: Option<Outcome>,
}

/// A named set of tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub name: String,
    pub tasks: Vec<TaskRun>,
}

impl Step {
    /// The end of the job.
    pub fn end(outcome: Outcome) -> Step {
        Step { outcome: Some(outcome), ..Step::default() }
    }
}

/// A word from outside to a job's workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// From 1, in order of arrival.
    pub number: u64,
    pub name: String,
    /// Another one with the same id is dropped. Empty: none.
    pub dedupe: Arc<str>,
    pub payload: Blob,
    pub at: Timestamp,
}
