//! What people are shown: jobs, tasks, workers, explanations. Computed by the scheduler, printed by the CLI (`--json`
//! prints these very values), carried by the wire.

mod output;

pub use output::{
    ChunkView, EncodeOutput, FilmRate, FunctionFileView, FunctionOutput, PackageOutput, SourceFetch, TitleOutput,
    TrackOutput,
};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Warning};
use crate::ids::{JobId, TaskId, WorkerName};
use crate::pool::{Class, Hold, PoolName, PoolSpec};
use crate::resources::Resources;
use crate::spec::labels::Labels;
use crate::time::{Span, Timestamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Accepted, nothing leased yet.
    Queued,
    Running,
    /// Cancel was asked; workers still have to let go.
    Cancelling,
    Done,
    Failed,
    Cancelled,
}

impl JobState {
    pub const ALL: [JobState; 6] = [
        JobState::Queued,
        JobState::Running,
        JobState::Cancelling,
        JobState::Done,
        JobState::Failed,
        JobState::Cancelled,
    ];

    pub fn is_final(self) -> bool {
        matches!(self, JobState::Done | JobState::Failed | JobState::Cancelled)
    }

    pub fn name(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Cancelling => "cancelling",
            JobState::Done => "done",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    Queued,
    /// Failed once; waits before the next try.
    Backoff,
    /// Leased ahead of time; its worker is still busy with another.
    Prefetched,
    Running,
    Done,
    Failed,
    Cancelled,
}

impl TaskState {
    pub fn name(self) -> &'static str {
        match self {
            TaskState::Queued => "queued",
            TaskState::Backoff => "backoff",
            TaskState::Prefetched => "prefetched",
            TaskState::Running => "running",
            TaskState::Done => "done",
            TaskState::Failed => "failed",
            TaskState::Cancelled => "cancelled",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    pub job: JobId,
    pub name: String,
    pub service: String,
    pub state: JobState,
    /// `queued`, `probing`, `planning`, `analysing` (the first of two passes), `encoding`, `correcting`, `assembling`, `validating`, `packaging`, `done`, `failed`, `cancelled`.
    pub phase: String,
    pub priority: u8,
    #[serde(default)]
    pub pool: PoolName,
    #[serde(default)]
    pub class: Class,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Where it is told that the job has ended, without the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<String>,
    /// The job whose work it does a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<JobId>,
    pub submitted: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    pub phases: Vec<PhaseView>,
    pub progress: Progress,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<Warning>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What the service made of it, when done: see [`EncodeOutput`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<serde_json::Value>,
    /// The frozen spec.
    pub spec: serde_json::Value,
    /// Left out of lists.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tasks: Vec<TaskView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseView {
    pub name: String,
    pub started: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    pub tasks: u32,
    pub done: u32,
    pub running: u32,
}

/// Sums over the tasks of the current phase, live ones included.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    pub chunks_done: u32,
    pub chunks_total: u32,
    /// Output video frames encoded.
    pub frames: u64,
    /// 0 while unknown.
    pub frames_total: u64,
    /// Encoded bytes so far.
    pub bytes: u64,
    /// Frames a second over the whole encoding phase.
    pub fps: f64,
    /// Output time so far, microseconds.
    pub out_time_us: u64,
    pub out_time_total_us: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskView {
    pub task: TaskId,
    pub function: String,
    pub phase: String,
    /// `chunk 12`, `audio 1`; empty where the function says enough.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub label: String,
    pub state: TaskState,
    /// Attempts so far, the current one included.
    pub attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    pub frames: u64,
    pub bytes: u64,
    pub resources: Resources,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// [`crate::call::Answer`], once done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerView {
    pub worker: WorkerName,
    pub connected: bool,
    pub cordoned: bool,
    pub draining: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub capacity: Resources,
    pub allocated: Resources,
    /// What a small real encode at start proved usable: `cpu/libx264`, …
    pub backends: Vec<String>,
    pub running: Vec<TaskId>,
    pub prefetched: Vec<TaskId>,
    /// Pools that room here is kept for: nobody else is given it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved_for: Vec<PoolName>,
    pub last_heard: Timestamp,
    #[serde(default)]
    pub health: WorkerHealth,
    /// Executors that stand warm and idle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warm: Vec<WarmView>,
}

/// What its failures say of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum WorkerHealth {
    #[default]
    Healthy,
    /// Failed several different tasks fast: one lease at a time.
    Throttled { reason: String },
    /// No leases; it is asked to test itself.
    Quarantined { reason: String, since: Timestamp },
}

/// One line of a job's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    pub at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerName>,
    /// `info`, `warn`, `error`.
    pub level: String,
    pub text: String,
}

/// Why a job is where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub job: JobId,
    /// The single most severe reason, as a stable snake_case name: `held`, `no_such_backend`, `never_fits`, `no_workers`,
    /// `over_limit`, `waiting_for_quota`, `opportunistic`, `preempting`, `reserved`, `waiting_for_worker`, `backoff`, `sleeping`,
    /// `waiting_for_signal`, `waiting_for_jobs`, `paused`, `running`,
    /// `cancelling`, `done`, `failed`, `cancelled`.
    pub reason: String,
    /// The same for people, with the numbers.
    pub text: String,
    /// Tasks ahead of the job's first waiting one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<u64>,
    /// When its first waiting task should start, if the fleet goes on as it does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub estimate: Option<Span>,
    /// Further facts, a line each: what runs where, attempts that failed and why.
    pub details: Vec<String>,
}

// ---------------------------------------------------------------- pools and queues

/// A pool as it is now: `spool pool list|tree|usage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolView {
    pub pool: PoolName,
    pub spec: PoolSpec,
    pub hold: Hold,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub hold_reason: String,
    /// True: jobs go into it.
    pub leaf: bool,
    /// By name of the resource; every one that is guaranteed, limited, used or waited for in the pool.
    pub resources: Vec<PoolResource>,
    /// Most of what it borrows as a share of what could be borrowed, over its weight, in thousandths; over all resources.
    pub share_milli: u64,
    /// Of the pool and all below it, as are the counts that follow.
    pub open_jobs: u64,
    pub queued_tasks: u64,
    /// Running, or lying ready on a worker.
    pub leased_tasks: u64,
    /// Of the longest waiting task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_wait: Option<Span>,
    /// Since the server started.
    pub preempted: u64,
    pub warm: Vec<WarmView>,
}

/// One resource of a pool. Amounts as in [`Resources`]; of the pool and all below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolResource {
    pub resource: String,
    /// Its own and what its children leave it.
    pub guarantee: u64,
    pub used: u64,
    /// Used beyond the guarantee.
    pub borrowed: u64,
    /// Of the guarantee, used by others now.
    pub lent: u64,
    /// Kept for tasks of it that are owed room and wait for others to give it back. Counts against limits, not as used.
    pub reserved: u64,
    /// Guarantee and borrow limit. Absent: as much as its parents let it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// What queued tasks ask for together.
    pub queued: u64,
}

/// Warm capacity of a pool, or of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmView {
    /// `media.encode/cpu/libx264`.
    pub key: String,
    pub min: u32,
    pub max: u32,
    /// Stand warm and idle now.
    pub idle: u32,
    /// Calls since the server started, by how they found their executor.
    pub warm_starts: u64,
    pub cold_starts: u64,
    /// Order to start of those, median.
    pub warm_start_p50: Span,
    pub cold_start_p50: Span,
}

/// `spool pool history`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolChangeView {
    pub version: u64,
    pub at: Timestamp,
    pub by: String,
    pub reason: String,
    pub changes: Vec<FieldChange>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    pub pool: PoolName,
    /// `guarantee.cpu`, `weight`, …; `pool` where the pool itself came or went.
    pub field: String,
    /// As JSON writes it; empty: was not set.
    pub before: String,
    pub after: String,
}

/// What a change of the pools would do: `--dry-run`. From a copy of the state, by the code of the real run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolsPreview {
    /// The tree's version now.
    pub version: u64,
    pub changes: Vec<FieldChange>,
    /// Running tasks that would be stopped if nothing ends by itself meanwhile.
    pub preempted: Vec<PreviewTask>,
    /// Waiting tasks that would start.
    pub started: Vec<PreviewTask>,
    /// Quotas after it: pools that gain or lose.
    pub quotas: Vec<QuotaChange>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreviewTask {
    pub task: TaskId,
    pub pool: PoolName,
    pub worker: WorkerName,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaChange {
    pub pool: PoolName,
    pub resource: String,
    pub guarantee_before: u64,
    pub guarantee_after: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_after: Option<u64>,
}

/// Equal waiting tasks: `spool queue list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueView {
    pub pool: PoolName,
    pub function: String,
    pub backend: String,
    pub resources: Resources,
    pub class: Class,
    /// Of its first.
    pub priority: u8,
    pub tasks: u64,
    pub oldest_wait: Span,
    /// As in [`Explanation`].
    pub reason: String,
    pub text: String,
}

/// `spool queue stats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueStats {
    pub queued_tasks: u64,
    pub leased_tasks: u64,
    pub open_jobs: u64,
    pub shapes: u64,
    pub workers: u64,
    pub leases_total: u64,
    pub preemptions_total: u64,
    /// 0 none, 1 opportunistic work is deferred, 2 no borrowing, 3 submits of low priority are refused.
    pub overload: u8,
    /// Waits from queued to leased of the last thousands of tasks.
    pub wait_p50: Span,
    pub wait_p99: Span,
}
