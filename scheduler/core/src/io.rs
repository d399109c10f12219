//! What goes into the engine and what comes out: the whole contract with the shell around it.
//!
//! [`Input`]s are what happened outside; [`Record`]s are the facts the engine decided, which the journal keeps and
//! [`crate::Engine::replay`] folds back; [`Effect`]s are what the shell must do, and may do only after the records of the same
//! turn are durable.

mod step;

use std::sync::Arc;

use spool_proto::failure::Failure;
use spool_proto::ids::{Fence, JobId, TaskId, WorkerName};
use spool_proto::pool::{BadTree, Class, Hold, Hop, PoolName, PoolTree, WarmSpec};
use spool_proto::resources::Resources;
use spool_proto::spec::labels::Labels;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::WorkerHealth;

pub use step::{Group, SIGNAL_BYTES_MAX, SIGNALS_MAX, Signal, Step};

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
    /// Failed and cancelled tasks of a failed or cancelled job go back to the queue with fresh attempts. Of a reactive job they stay as
    /// they are: the job goes on, and its workflow, which is asked, sees [`crate::Job::retries_asked`] and decides.
    Retry {
        token: Token,
        job: JobId,
    },
    /// A word to the workflow of a reactive job. One whose dedupe id the job has seen is dropped, and answered as if it were the first.
    Signal {
        token: Token,
        job: JobId,
        name: String,
        /// Empty: none.
        dedupe: String,
        payload: Blob,
    },
    SetPriority {
        token: Token,
        job: JobId,
        priority: u8,
    },
    /// To another pool. What runs goes with it.
    MoveJob {
        token: Token,
        job: JobId,
        pool: PoolName,
    },
    /// The job is archived: drop it from memory. Only final jobs.
    Forget {
        job: JobId,
    },
    /// Replaces the quota tree as a whole.
    ApplyPools {
        token: Token,
        change: PoolChange,
    },
    HoldPool {
        token: Token,
        pool: PoolName,
        hold: Hold,
        by: String,
        reason: String,
    },
    /// A worker's stream opened.
    Register {
        worker: WorkerName,
        incarnation: Incarnation,
        capacity: Resources,
        backends: Vec<String>,
        held: Vec<HeldLease>,
    },
    /// How many executors stand warm and idle on a worker, by what for ([`WarmKey`]). Replaces what it said before.
    WarmReport {
        worker: WorkerName,
        incarnation: Incarnation,
        idle: Vec<(WarmKey, u32)>,
    },
    /// The answer to [`ToWorker::SelfTest`].
    SelfTested {
        worker: WorkerName,
        incarnation: Incarnation,
        /// `Some`: what failed, backend by backend.
        failure: Option<Failure>,
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
    pub request_id: Arc<str>,
    pub name: String,
    pub service: String,
    /// Frozen spec.
    pub spec: Blob,
    pub priority: u8,
    pub deadline: Option<Timestamp>,
    pub pool: PoolName,
    pub class: Class,
    /// May a running task of it be stopped for a pool's guarantee? What may not never runs on borrowed quota.
    pub preemptible: bool,
    /// In order of `after`.
    pub hop: Vec<Hop>,
    pub max_attempts: u8,
    /// Its workflow is asked after every event, and answers with [`Next::Step`].
    pub reactive: bool,
    pub labels: Labels,
    /// Called with the job when it has ended.
    pub notify: Option<String>,
    /// W3C traceparent; handed to every lease.
    pub traceparent: Arc<str>,
    /// The job whose work this one does a part of: it waits for it, and where it goes, its parts go.
    pub part_of: Option<JobId>,
}

impl NewJob {
    /// With the defaults of everything but what it does.
    pub fn new(service: impl Into<String>, spec: Blob) -> NewJob {
        NewJob {
            request_id: Arc::default(),
            name: String::new(),
            service: service.into(),
            spec,
            priority: spool_proto::spec::PRIORITY_DEFAULT,
            deadline: None,
            pool: PoolName::default(),
            class: Class::Standard,
            preemptible: true,
            hop: Vec::new(),
            max_attempts: spool_proto::spec::MAX_ATTEMPTS_DEFAULT,
            reactive: false,
            labels: Labels::new(),
            notify: None,
            traceparent: Arc::default(),
            part_of: None,
        }
    }
}

/// A new quota tree, and who wants it.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolChange {
    pub tree: PoolTree,
    /// Refused unless the tree has this version now.
    pub expected_version: Option<u64>,
    pub by: String,
    pub reason: String,
}

/// What an executor can be warm for: `function/backend`, or the function alone where it needs no backend.
pub type WarmKey = Arc<str>;

/// How a call found its executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The worker runs the function by itself.
    Inline,
    /// An executor that stood warm for just this.
    Warm,
    /// One had to be started, or made ready for the backend, first. Takes part of the time between order and start.
    Cold { took: Span },
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
    /// Of a reactive job, which takes it at any time while it goes on. The others are taken from it as steps that do the same.
    Step(Step),
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
    /// Attempts that may fail. `None`: the job's.
    pub max_attempts: Option<u8>,
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

impl Shape {
    /// What an executor can be warm for: function and backend.
    pub fn warm_key(&self) -> String {
        if self.backend.is_empty() { self.function.clone() } else { format!("{}/{}", self.function, self.backend) }
    }
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
        start: Start,
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
    /// All that a workflow did at once.
    Stepped {
        job: JobId,
        step: Step,
        at: Timestamp,
    },
    Signalled {
        job: JobId,
        name: String,
        dedupe: String,
        payload: Blob,
        at: Timestamp,
    },
    /// Of a task that is leased already: a second copy, on another worker.
    Leased {
        task: TaskId,
        fence: Fence,
        worker: WorkerName,
        at: Timestamp,
    },
    /// Of two leases the other ends with it.
    Finished {
        task: TaskId,
        fence: Fence,
        started: Timestamp,
        finished: Timestamp,
        answer: Blob,
        advance: Advance,
    },
    /// The attempt failed; the task waits until `retry_at`, or has failed for good (`None`). `counted`: as one of its attempts; else
    /// it is held against the worker, and the task is tried again.
    AttemptFailed {
        task: TaskId,
        fence: Fence,
        failure: Failure,
        retry_at: Option<Timestamp>,
        counted: bool,
        at: Timestamp,
    },
    /// A lease ended without a verdict: expired, returned, retracted, lost. No attempt is used. `counted`: it was lost with its
    /// worker while the task may have run, which counts against [`crate::Config::max_losses`].
    LeaseEnded {
        task: TaskId,
        fence: Fence,
        reason: String,
        counted: bool,
        at: Timestamp,
    },
    /// A failure that had been counted is held against the worker after all: the attempt under this fence is given back.
    AttemptForgiven {
        task: TaskId,
        fence: Fence,
        at: Timestamp,
    },
    /// Whatever no worker holds is cancelled with it.
    CancelAsked {
        job: JobId,
        reason: String,
        at: Timestamp,
    },
    /// A worker let go of a task whose job is ending, or that a step has cancelled.
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
    JobMoved {
        job: JobId,
        pool: PoolName,
        /// The priority it has there; as before if absent.
        priority: Option<u8>,
        /// By the first of its hops, which is thereby done.
        hop: bool,
        at: Timestamp,
    },
    PoolsApplied {
        version: u64,
        change: PoolChange,
        at: Timestamp,
    },
    PoolHeld {
        pool: PoolName,
        hold: Hold,
        by: String,
        reason: String,
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
    /// What its failures say of a worker has changed.
    WorkerJudged {
        worker: WorkerName,
        health: WorkerHealth,
        at: Timestamp,
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
    ///
    /// For a reactive job: after submission, whenever a task has become final but by its own step, when its time to wake has come, for
    /// every signal, after a retry, and after a restart. One answer may serve several.
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
    Submitted {
        job: JobId,
        existing: bool,
    },
    /// The tree as it is now.
    Pools {
        version: u64,
    },
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
    #[error("there is no pool {0}; `spool pool list` shows those there are")]
    NoSuchPool(PoolName),
    #[error("pool {0} is divided into others: name one of those below it")]
    NotALeaf(PoolName),
    #[error("{0}")]
    BadTree(BadTree),
    #[error("the pools are at version {now}, not {expected}: somebody changed them meanwhile; look again, then apply")]
    PoolsChanged { expected: u64, now: u64 },
    #[error("pool {pool} has {open} open jobs; move or cancel them first (`spool job move JOB --pool P`)")]
    PoolInUse { pool: PoolName, open: u64 },
    #[error("pool {pool} is draining ({reason}): it takes no new jobs")]
    PoolDrains { pool: PoolName, reason: String },
    #[error("job {job} takes no signals: its service, {service}, does not react to them")]
    NotReactive { job: JobId, service: String },
    #[error(
        "the signal has {bytes} bytes with its name and id, {SIGNAL_BYTES_MAX} are the most; put the data in a store and send its address"
    )]
    SignalTooLarge { bytes: usize },
    #[error("job {0} has {SIGNALS_MAX} signals its workflow has not taken; wait until it has, then send again")]
    SignalsFull(JobId),
    /// The submitter may come back later.
    #[error("pool {pool} has {queued} jobs waiting, its max_queued is {limit}; try again in about {} s", retry_after.as_millis().div_ceil(1000))]
    QueueFull { pool: PoolName, queued: u64, limit: u64, retry_after: Span },
    #[error("the server has {queued} tasks waiting and takes only jobs of priority {least} and above now; try again in about {} s", retry_after.as_millis().div_ceil(1000))]
    Overloaded { queued: u64, least: u8, retry_after: Span },
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
    /// What its executors should stay warm for; replaces what was said before.
    Warm {
        targets: Vec<WarmTarget>,
    },
    /// Prove all backends anew with golden encodes, through fresh executors; answer with [`Input::SelfTested`].
    SelfTest,
    /// Finish what runs, then leave.
    Drain {
        reason: String,
    },
    /// A newer process of the same name took over.
    Replaced,
}

/// One worker's part of a pool's warm capacity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmTarget {
    pub key: WarmKey,
    pub spec: WarmSpec,
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
    /// Of the job: a micro-batch must not make it late.
    pub deadline: Option<Timestamp>,
    /// How long it runs by what the shape has taken so far.
    pub estimate: Option<Span>,
}
