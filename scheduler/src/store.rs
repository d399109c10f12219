//! Where the server keeps what it must not lose: the journal, checkpoints, and the archive of final jobs.
//!
//! [`Store`] is written for a second back end; `store/suite.rs` is what each of them must pass. [`records`] and [`snapshots`]
//! are the bodies, [`sqlite`] the one back end there is now.
//!
//! ```text
//! journal      one row a turn, appended before the turn's effects are released
//! live_*       the engine's state at the last checkpoint; rows of jobs that changed are written anew beside the old ones, a piece at
//!              a time; when all are there they count, and the old ones and the journal before them are removed
//! job, task,   final jobs, for people and for Get and List after the engine has forgotten them
//! attempt, event
//! ```

pub mod records;
pub mod snapshots;
pub mod sqlite;
#[cfg(test)]
pub mod suite;

use std::fmt;
use std::future::Future;

use spool_core::engine::Engine;
use spool_core::io::{Blob, Record};
use spool_core::snapshot::{AttemptEnd, EngineSnapshot, HistoryPart, JobSnapshot, TaskPart};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, JobId, TaskId, WorkerName};
use spool_proto::spec::labels::Labels;
use spool_proto::time::Timestamp;
use spool_proto::view::{JobState, JobView, LogLine};

pub use sqlite::SqliteStore;

/// The journal and its checkpoints. One owner; not shared.
pub trait Store: Send + 'static {
    type Archive: Archive;

    /// Keeps one turn. Durable when it returns; after an error it may be called again with the same records, which are then kept
    /// once.
    fn append(&mut self, records: &[Record]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The end of the journal, behind the last appended turn.
    fn mark(&self) -> Mark;

    /// Writes a piece of a checkpoint and takes it out; turns may be appended between one piece and the next. True: it is whole, and
    /// counts; until then the one before does. After an error it may be called again.
    fn checkpoint(&mut self, checkpoint: &mut Checkpoint) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes some of what the last checkpoint made needless. False: there was nothing. To be called until then before the next
    /// checkpoint is begun.
    fn tidy(&mut self) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// What was kept: the last checkpoint and the turns since.
    fn load(&mut self) -> impl Future<Output = Result<Kept, StoreError>> + Send;

    /// Writes a final job into the archive, over what the archive had of it.
    fn archive(&mut self, job: ArchivedJob) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// A handle for reading the archive beside the run loop.
    fn reader(&self) -> Self::Archive;
}

/// Reads the archive.
pub trait Archive: Clone + Send + Sync + 'static {
    /// With its tasks, unless `brief`.
    fn get(&self, job: JobId, brief: bool) -> impl Future<Output = Result<Option<JobView>, StoreError>> + Send;

    /// The job that was made for a request.
    fn find_request(&self, request_id: &str) -> impl Future<Output = Result<Option<JobId>, StoreError>> + Send;
    /// The log of a job's workflow. Empty: it kept none, or there is no such job.
    fn history(&self, job: JobId) -> impl Future<Output = Result<Vec<Blob>, StoreError>> + Send;

    /// Jobs that rules of this one started.
    fn children(&self, parent: JobId) -> impl Future<Output = Result<Vec<JobId>, StoreError>> + Send;

    /// Newest first, brief.
    fn list(&self, filter: &JobFilter) -> impl Future<Output = Result<Vec<JobView>, StoreError>> + Send;

    fn logs(&self, job: JobId) -> impl Future<Output = Result<Vec<LogLine>, StoreError>> + Send;
}

/// A place in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    pub seq: u64,
    /// Bytes of journal up to here since the last checkpoint.
    pub bytes: u64,
}

/// What the engine's state was at a place in the journal, as far as it changed since the checkpoint before, and is not written yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    pub mark: Mark,
    /// Written so far.
    pub bytes: u64,
    pub engine: EngineSnapshot,
    pub jobs: Vec<JobSnapshot>,
    pub parts: Vec<TaskPart>,
    pub history: Vec<HistoryPart>,
    pub forgotten: Vec<JobId>,
}

impl Checkpoint {
    /// Of nothing but what belongs to no job.
    pub fn new(mark: Mark, engine: EngineSnapshot) -> Checkpoint {
        let (jobs, parts, history, forgotten) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Checkpoint { mark, bytes: 0, engine, jobs, parts, history, forgotten }
    }

    /// What changed in the engine since the last one was taken. From then on it counts as written there.
    pub fn take(mark: Mark, engine: &mut Engine) -> Checkpoint {
        let mut checkpoint = Checkpoint::new(mark, engine.snapshot());
        checkpoint.forgotten = engine.forgotten().to_vec();
        for dirty in engine.dirty() {
            if dirty.header {
                checkpoint.jobs.extend(engine.job_snapshot(dirty.job));
            }
            let history = dirty.history.iter().filter_map(|key| engine.history_part(dirty.job, *key));
            checkpoint.history.extend(history);
            checkpoint.parts.extend(dirty.parts.iter().filter_map(|part| engine.task_part(dirty.job, *part)));
        }
        engine.checkpointed();
        checkpoint
    }
}

/// A job as it was kept: its parts, and what else a reactive one has, in order.
pub type KeptJob = (JobSnapshot, Vec<TaskPart>, Vec<HistoryPart>);

/// What [`Store::load`] found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Kept {
    pub engine: EngineSnapshot,
    /// By id.
    pub jobs: Vec<KeptJob>,
    /// Turns since the checkpoint.
    pub turns: Vec<Vec<Record>>,
}

/// A final job, as the archive gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchivedJob {
    /// With the tasks to be kept.
    pub view: JobView,
    pub request_id: String,
    pub attempts: Vec<AttemptRow>,
    pub events: Vec<LogLine>,
    /// The log of a reactive job's workflow.
    pub history: Vec<Blob>,
}

/// One attempt of a task, for the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    pub task: TaskId,
    pub fence: Fence,
    pub attempt: u32,
    pub worker: WorkerName,
    pub started: Timestamp,
    pub finished: Timestamp,
    /// `None`: it finished.
    pub failure: Option<Failure>,
}

impl AttemptRow {
    pub fn ended(task: TaskId, end: &AttemptEnd) -> AttemptRow {
        AttemptRow {
            task,
            fence: end.fence,
            attempt: end.attempt,
            worker: end.worker.clone(),
            started: end.leased,
            finished: end.ended,
            failure: Some(end.failure.clone()),
        }
    }
}

/// Which jobs to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobFilter {
    /// Empty: all.
    pub states: Vec<JobState>,
    /// Only jobs with a smaller number.
    pub before: Option<JobId>,
    /// Only jobs that have all of these.
    pub labels: Labels,
    /// Also those that are parts of others.
    pub parts: bool,
    pub limit: u32,
}

/// Why the store could not do it, by what the caller does about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Try again later: full, busy or failing for now.
    #[error("{problem}: {detail}")]
    Refused { problem: Problem, detail: String },
    /// A person must look.
    #[error("the store is damaged or from a newer version: {0}")]
    Damaged(String),
}

/// What keeps the store from working at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    DiskFull,
    Locked,
    ReadOnly,
    Io,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Problem::DiskFull => "no room left for the server's data",
            Problem::Locked => "the server's data is locked by another program",
            Problem::ReadOnly => "the server's data cannot be written (permissions, or a read-only file system)",
            Problem::Io => "the server's data cannot be read or written",
        })
    }
}

impl StoreError {
    /// The same, as clients are told.
    pub fn failure(&self) -> Failure {
        let code = match self {
            StoreError::Refused { problem: Problem::DiskFull, .. } => "store_full",
            StoreError::Refused { problem: Problem::Locked, .. } => "store_locked",
            StoreError::Refused { problem: Problem::ReadOnly, .. } => "store_read_only",
            StoreError::Refused { problem: Problem::Io, .. } => "store_io",
            StoreError::Damaged(_) => "store_damaged",
        };
        let advice = match self {
            StoreError::Refused { problem: Problem::DiskFull, .. } => {
                "; the server goes on by itself when there is room"
            }
            StoreError::Refused { .. } => "; the server keeps trying",
            StoreError::Damaged(_) => "; restore the data directory from a copy, or start with an empty one",
        };
        Failure::new(Class::Host, code, format!("{self}{advice}"))
    }
}
