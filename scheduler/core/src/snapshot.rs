//! The durable state as plain values, for checkpoints: what a store writes and reads back.
//!
//! A job is written as one [`JobSnapshot`], its tasks in parts of [`PART`], and what a reactive one keeps beside them in
//! [`HistoryPart`]s, so that a checkpoint rewrites only what changed.
//! [`crate::Engine::restore`], then [`crate::Engine::restore_job`] for every job, then [`crate::Engine::replay`] of the journal's
//! tail, then [`crate::Engine::resume`] give the engine back.

use std::sync::Arc;

use spool_proto::failure::Failure;
use spool_proto::ids::{Fence, JobId, WorkerName};
use spool_proto::pool::PoolsState;
use spool_proto::time::Timestamp;
use spool_proto::view::WorkerHealth;

use crate::io::{Advance, Blob, NewJob, Signal, TaskRun};

/// Tasks in a part; only the last one of a job may have fewer.
pub const PART: u32 = 4096;

/// What belongs to no job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EngineSnapshot {
    pub next_job: u64,
    pub next_fence: u64,
    /// In order of name.
    pub cordons: Vec<CordonSnapshot>,
    /// Workers that are not healthy, in order of name.
    pub judged: Vec<(WorkerName, WorkerHealth)>,
    pub pools: PoolsState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CordonSnapshot {
    pub worker: WorkerName,
    pub drain: bool,
    pub reason: String,
    pub at: Timestamp,
}

/// A job without its tasks' fates.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSnapshot {
    pub job: JobId,
    pub new: NewJob,
    pub life: LifeSnapshot,
    pub submitted: Timestamp,
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    pub phases: Vec<PhaseSnapshot>,
    /// Attempts that failed before the job was last retried.
    pub retries_before: u32,
    pub reaction: ReactionSnapshot,
}

/// What only reactive jobs have; of all others the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReactionSnapshot {
    pub wake: Option<Timestamp>,
    pub rests: bool,
    pub retries_asked: u32,
    /// Tasks that are cancelled as soon as workers let go of them, ascending.
    pub cancelling: Vec<u32>,
    pub history: HistorySnapshot,
}

/// How much of which sequence is good; the entries are in [`HistoryPart`]s.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistorySnapshot {
    /// Entries, from the first.
    pub log: u64,
    /// Number of the last signal that came.
    pub last_signal: u64,
    /// Signals that are not taken, the last ones.
    pub signals: u64,
    /// Ids of signals, from the first.
    pub ids: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PhaseSnapshot {
    pub name: String,
    pub started: Timestamp,
    pub finished: Option<Timestamp>,
    /// Task indexes run on from the phase before.
    pub runs: Vec<TaskRun>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum LifeSnapshot {
    Queued,
    Running,
    /// Cancel was asked; workers still hold leases.
    Cancelling {
        reason: String,
    },
    /// A task failed for good; workers still hold leases.
    Failing {
        failure: Failure,
    },
    /// Its workflow is done with it; workers still hold leases.
    Finishing {
        output: Blob,
    },
    Done {
        output: Blob,
    },
    Failed {
        failure: Failure,
    },
    Cancelled {
        reason: String,
    },
}

/// Tasks `part * PART ..` of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskPart {
    pub job: JobId,
    pub part: u32,
    pub tasks: Vec<TaskSnapshot>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TaskSnapshot {
    pub state: TaskStateSnapshot,
    /// Attempts that failed since the job was submitted or retried.
    pub attempts: u16,
    /// Leases lost with their worker since then.
    pub losses: u8,
    /// Failures since then that were held against their worker instead.
    pub excused: u8,
    /// Oldest first; bounded by [`crate::task::HISTORY`].
    pub history: Vec<AttemptEnd>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TaskStateSnapshot {
    Queued,
    Backoff {
        until: Timestamp,
    },
    /// The copy is of a straggler.
    Leased {
        lease: Lease,
        copy: Option<Lease>,
    },
    Done {
        fence: Fence,
        worker: WorkerName,
        started: Timestamp,
        finished: Timestamp,
        answer: Blob,
        advance: Advance,
    },
    Failed,
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub fence: Fence,
    pub worker: WorkerName,
    pub at: Timestamp,
}

/// One attempt that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEnd {
    pub attempt: u32,
    pub fence: Fence,
    pub worker: WorkerName,
    pub leased: Timestamp,
    pub ended: Timestamp,
    /// Of the task's attempts; else it was lost, or is held against the worker, or the job was retried since.
    pub counted: bool,
    /// For a lost lease: class `internal`, code `lease_lost`.
    pub failure: Failure,
}

/// A piece of what a reactive job keeps beside its tasks. Written again with other entries, it takes the place of what it was; pieces
/// that hold nothing any more are not removed, [`HistorySnapshot`] tells what counts.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryPart {
    pub job: JobId,
    pub part: u32,
    pub entries: HistoryEntries,
}

#[derive(Debug, Clone, PartialEq)]
pub enum HistoryEntries {
    Log(Vec<Blob>),
    Signals(Vec<Signal>),
    Ids(Vec<Arc<str>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HistoryKey {
    pub kind: HistoryKind,
    pub part: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HistoryKind {
    Log,
    Signals,
    Ids,
}

impl HistoryPart {
    pub fn key(&self) -> HistoryKey {
        let kind = match self.entries {
            HistoryEntries::Log(_) => HistoryKind::Log,
            HistoryEntries::Signals(_) => HistoryKind::Signals,
            HistoryEntries::Ids(_) => HistoryKind::Ids,
        };
        HistoryKey { kind, part: self.part }
    }
}

/// What changed since the last checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirtyJob {
    pub job: JobId,
    /// The [`JobSnapshot`] has to be written again.
    pub header: bool,
    /// These [`TaskPart`]s have to be written again, ascending.
    pub parts: Vec<u32>,
    /// So have these [`HistoryPart`]s.
    pub history: Vec<HistoryKey>,
}
