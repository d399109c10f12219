//! What goes into the engine and what comes out: the whole contract with the shell around it.
//!
//! [`Input`]s are what happened outside; [`Record`]s are the facts the engine decided, which the journal keeps and
//! [`crate::Engine::replay`] folds back; [`Effect`]s are what the shell must do, and may do only after the records of the same
//! turn are durable.

use std::sync::Arc;

use spool_proto::failure::Failure;
use spool_proto::ids::{Fence, JobId, TaskId, WorkerName};
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};

/// Bytes the engine carries and never reads.
pub type Blob = Arc<[u8]>;

/// Correlates a request with its [`Effect::Reply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// One process of a worker: reports from an older one are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Incarnation(pub u64);

// ---------------------------------------------------------------- inputs

#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A new job. It has no tasks yet: the shell is asked for them by [`Effect::Advance`].
    Submit {
        token: Token,
        job: NewJob,
    },
    /// The workflow's answer to [`Effect::Advance`].
    Advance {
        job: JobId,
        next: Next,
    },
    Cancel {
        token: Token,
        job: JobId,
        reason: String,
    },
    /// Failed and cancelled tasks of a failed or cancelled job go back to the queue with fresh attempts.
    Retry {
        token: Token,
        job: JobId,
    },
    SetPriority {
        token: Token,
        job: JobId,
        priority: u8,
    },
    /// The job is archived: drop it from memory. Only final jobs.
    Forget {
        job: JobId,
    },
    /// A worker's stream opened.
    Register {
        worker: WorkerName,
        incarnation: Incarnation,
        capacity: Resources,
        backends: Vec<String>,
        held: Vec<HeldLease>,
    },
    /// Its stream closed. Its leases live on until they expire. Not to be said of a stream that a later Register has superseded.
    Disconnected {
        worker: WorkerName,
        incarnation: Incarnation,
    },
    Heartbeat {
        worker: WorkerName,
        incarnation: Incarnation,
    },
    Report {
        worker: WorkerName,
        incarnation: Incarnation,
        task: TaskId,
        fence: Fence,
        report: Report,
    },
    /// `cordoned: false` also ends a drain.
    Cordon {
        token: Token,
        worker: WorkerName,
        cordoned: bool,
        drain: bool,
        reason: String,
    },
    /// The worker itself leaves: as a drain, but the cordon goes with the process.
    Leaving {
        worker: WorkerName,
        incarnation: Incarnation,
    },
    /// Nothing happened but time. Call when [`crate::Engine::next_wakeup`] has come.
    Tick,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Submitting the same one again answers with the job made first. Empty: never the same.
    pub request_id: String,
    pub name: String,
    pub service: String,
    /// Frozen spec.
    pub spec: Blob,
    pub priority: u8,
    pub deadline: Option<Timestamp>,
    pub max_attempts: u8,
    /// W3C traceparent; handed to every lease.
    pub traceparent: String,
}

/// What a workflow wants next of its job.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Start a phase: these tasks, all runnable now. When the last of them is done, `Advance` comes again.
    Phase {
        name: String,
        tasks: Vec<TaskRun>,
    },
    Finish {
        output: Blob,
    },
    Fail {
        failure: Failure,
    },
}

/// `count` equal tasks in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRun {
    pub count: u32,
    pub task: NewTask,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// What placement sees. Interned by the engine.
    pub shape: Shape,
    /// `chunk 12`; may be empty.
    pub label: String,
    /// A `Call`, as JSON.
    pub payload: Blob,
    /// Within a job and equal priority, greater goes first (longest first).
    pub weight: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    pub function: String,
    /// A worker must offer it (`cpu/libx264`). Empty: any worker.
    pub backend: String,
    pub resources: Resources,
    /// Zero: none.
    pub timeout: Span,
    pub no_progress: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLease {
    pub task: TaskId,
    pub fence: Fence,
    pub running: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    Started {
        at: Timestamp,
    },
    Advanced(Advance),
    Finished {
        started: Timestamp,
        finished: Timestamp,
        answer: Blob,
        advance: Advance,
    },
    Failed {
        failure: Failure,
    },
    /// Given back: cancelled, retracted, or the worker leaves. Costs no attempt.
    Returned {
        reason: String,
    },
}

/// How far an attempt is. Never journaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Advance {
    pub frames: u64,
    pub bytes: u64,
    pub out_time: Span,
}

// ---------------------------------------------------------------- records

/// A fact. Replaying all records since the start (or since a snapshot) gives the engine's durable state back.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    JobSubmitted {
        job: JobId,
        new: NewJob,
        at: Timestamp,
    },
    PhaseStarted {
        job: JobId,
        name: String,
        tasks: Vec<TaskRun>,
        at: Timestamp,
    },
    Leased {
        task: TaskId,
        fence: Fence,
        worker: WorkerName,
        at: Timestamp,
    },
    Finished {
        task: TaskId,
        fence: Fence,
        started: Timestamp,
        finished: Timestamp,
        answer: Blob,
        advance: Advance,
    },
    /// The attempt failed; the task waits until `retry_at`, or has failed for good (`None`).
    AttemptFailed {
        task: TaskId,
        fence: Fence,
        failure: Failure,
        retry_at: Option<Timestamp>,
        at: Timestamp,
    },
    /// The lease ended without a verdict: expired, returned, retracted, lost. No attempt is used. `counted`: it was lost with its
    /// worker while the task may have run, which counts against [`crate::Config::max_losses`].
    LeaseEnded {
        task: TaskId,
        fence: Fence,
        reason: String,
        counted: bool,
        at: Timestamp,
    },
    /// Whatever no worker holds is cancelled with it.
    CancelAsked {
        job: JobId,
        reason: String,
        at: Timestamp,
    },
    /// A worker let go of a task whose job is ending.
    TaskCancelled {
        task: TaskId,
        at: Timestamp,
    },
    JobFinished {
        job: JobId,
        outcome: Outcome,
        at: Timestamp,
    },
    JobRetried {
        job: JobId,
        at: Timestamp,
    },
    PrioritySet {
        job: JobId,
        priority: u8,
        at: Timestamp,
    },
    Cordoned {
        worker: WorkerName,
        cordoned: bool,
        drain: bool,
        reason: String,
        at: Timestamp,
    },
    JobForgotten {
        job: JobId,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Done { output: Blob },
    Failed { failure: Failure },
    Cancelled { reason: String },
}

// ---------------------------------------------------------------- effects

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append to the journal. All other effects of the turn wait until it is durable.
    Record(Record),
    Reply {
        token: Token,
        reply: Reply,
    },
    /// Ask the job's workflow what is next; answer with [`Input::Advance`]. Sent after submission, when a phase's last task is
    /// done, and, for every job that was so waiting, after a restart.
    Advance {
        job: JobId,
    },
    /// Down the worker's stream, in order.
    Send {
        worker: WorkerName,
        incarnation: Incarnation,
        message: ToWorker,
    },
    /// Something people watch has changed.
    Changed {
        job: JobId,
    },
    /// The job has become final.
    Ended {
        job: JobId,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Submitted { job: JobId, existing: bool },
    Ok,
    Refused(Refusal),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no job {0}")]
    NoSuchJob(JobId),
    #[error("there is no worker {0}")]
    NoSuchWorker(WorkerName),
    #[error("job {job} is {state}: {advice}")]
    WrongState { job: JobId, state: &'static str, advice: &'static str },
}

#[derive(Debug, Clone, PartialEq)]
pub enum ToWorker {
    /// Answer to Register: which of the leases it said it holds it must drop.
    Welcome {
        forget: Vec<HeldLease>,
    },
    Lease(LeaseOrder),
    Revoke {
        task: TaskId,
        fence: Fence,
        reason: &'static str,
    },
    /// Finish what runs, then leave.
    Drain {
        reason: String,
    },
    /// A newer process of the same name took over.
    Replaced,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LeaseOrder {
    pub task: TaskId,
    pub fence: Fence,
    pub attempt: u32,
    /// It lies ready behind what runs. Else there is room by the engine's account; if the worker has filled that room by itself
    /// meanwhile, the task waits in line all the same.
    pub prefetched: bool,
    pub shape: Arc<Shape>,
    pub payload: Blob,
    pub traceparent: Arc<str>,
}
