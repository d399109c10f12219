//! What people are shown: jobs, tasks, workers, explanations. Computed by the scheduler, printed by the CLI (`--json`
//! prints these very values), carried by the wire.

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Warning};
use crate::ids::{JobId, TaskId, WorkerName};
use crate::resources::Resources;
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
    /// `queued`, `probing`, `planning`, `encoding`, `assembling`, `validating`, `packaging`, `done`, `failed`, `cancelled`.
    pub phase: String,
    pub priority: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
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

/// The `output` of a finished `video-encode`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncodeOutput {
    /// URI of the published film.
    pub uri: String,
    /// The same as a path, where it is a local file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<u64>,
    pub duration_us: i64,
    pub bytes: u64,
    /// BLAKE3, hex.
    pub hash: String,
    pub chunks: Vec<ChunkView>,
    pub keyframes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsplit_reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChunkView {
    pub chunk: u32,
    /// Half-open, output frames.
    pub start: u64,
    pub end: u64,
    pub cut: String,
    pub worker: WorkerName,
    pub attempt: u32,
    pub frames: u64,
    pub bytes: u64,
    pub hash: String,
    pub encode_time: Span,
    pub entry: String,
    pub peak_memory_mib: u64,
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
    pub last_heard: Timestamp,
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
    /// The single most severe reason, as a stable snake_case name: `no_such_backend`, `never_fits`, `no_workers`,
    /// `waiting_for_worker`, `backoff`, `running`, `cancelling`, `done`, `failed`, `cancelled`.
    pub reason: String,
    /// The same for people, with the numbers.
    pub text: String,
    /// Tasks ahead of the job's first waiting one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<u64>,
    /// Further facts, a line each: what runs where, attempts that failed and why.
    pub details: Vec<String>,
}
