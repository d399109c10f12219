//! `spool bench dispatch`, the layers of this crate: how fast tasks go through.
//!
//! `core` is the engine alone. `durable` is the real run loop with the real journal on a real disk. Workers are simulated: they
//! answer at once, in this process.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use spool_core::config::Config;
use spool_core::engine::Engine;
use spool_core::io::{Advance, Effect, Incarnation, Input, NewJob, Reply, Report, ToWorker, Token};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, JobId, TaskId, WorkerName};
use spool_proto::resources::Resources;
use spool_proto::spec::{BenchSpec, Service};
use spool_proto::time::{Span, Timestamp};
use spool_proto::wire::v1;
use tokio::sync::{mpsc, watch};

use crate::rules::Rules;
use crate::rules::registry::Registry;
use crate::run_loop::connections::QUEUE;
use crate::run_loop::inbox::{Inbox, Message};
use crate::run_loop::{Limits, RunLoop};
use crate::store::{SqliteStore, Store, StoreError};
use crate::workflow;

/// Simulated workers, and how many tasks each runs at a time.
const WORKERS: u32 = 4;
const SLOTS: u64 = 16;

/// Jobs of one task, submitted one after the other when nothing else runs: what submit-to-start is measured on.
const SINGLES: u32 = 300;

/// Paced tasks come in jobs, one in this time.
const BURST_EVERY: Duration = Duration::from_millis(10);

/// The number of a server's first job.
const FIRST_JOB: u8 = 1;

/// One layer, measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dispatch {
    /// `core`, `durable`, `durable, paced`.
    pub layer: String,
    /// Of one job, all runnable at once.
    pub tasks: u32,
    /// From its submission to its end.
    pub seconds: f64,
    pub tasks_per_second: f64,
    /// Journal rows written meanwhile: one commit each.
    pub commits: u64,
    /// From the submission of a job of one task to the start of that task, with nothing else to do; paced, of every task. Microseconds.
    pub submit_to_start_p50_us: u64,
    pub submit_to_start_p99_us: u64,
}

impl Dispatch {
    fn new(layer: &str, tasks: u32, took: Duration, commits: u64, mut starts: Vec<Duration>) -> Dispatch {
        starts.sort_unstable();
        let percentile = |percent: usize| {
            let at = (starts.len() * percent / 100).min(starts.len().saturating_sub(1));
            starts.get(at).map_or(0, |start| Span::from(*start).0)
        };
        Dispatch {
            layer: layer.into(),
            tasks,
            seconds: took.as_secs_f64(),
            tasks_per_second: f64::from(tasks) / took.as_secs_f64().max(1e-9),
            commits,
            submit_to_start_p50_us: percentile(50),
            submit_to_start_p99_us: percentile(99),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("the bench needs a directory it can write: {0}")]
    Directory(#[from] std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Failed(Failure),
}

fn new_job(tasks: u32) -> NewJob {
    let spec = Service::Bench(BenchSpec { tasks, call_time: Span::ZERO, through_executor: false });
    let frozen = serde_json::to_vec(&spec).expect("a spec is plain data").into();
    NewJob { name: format!("{tasks} no-ops"), ..NewJob::new(spec.name(), frozen) }
}

fn register(number: u32) -> (WorkerName, Input) {
    let worker = WorkerName::from(format!("simulated-{number}"));
    let input = Input::Register {
        worker: worker.clone(),
        incarnation: Incarnation(1),
        capacity: Resources::cpu_memory(SLOTS * 1_000, 1 << 20),
        backends: Vec::new(),
        held: Vec::new(),
    };
    (worker, input)
}

fn finished(worker: WorkerName, task: TaskId, fence: Fence, now: Timestamp) -> Input {
    let report =
        Report::Finished { started: now, finished: now, answer: [].as_slice().into(), advance: Advance::default() };
    Input::Report { worker, incarnation: Incarnation(1), task, fence, report }
}

/// The engine alone.
pub fn core(tasks: u32) -> Dispatch {
    let mut bench = Core { engine: Engine::new(Config::default()), effects: Vec::new(), inputs: Vec::new() };
    for number in 0..WORKERS {
        bench.inputs.push(register(number).1);
    }
    bench.run(|_| ());
    let begun = Instant::now();
    bench.submit(tasks);
    bench.run(|_| ());
    let took = begun.elapsed();
    let starts = (0..SINGLES).map(|_| {
        let begun = Instant::now();
        let mut started = None;
        bench.submit(1);
        bench.run(|_| started = started.or(Some(begun.elapsed())));
        started.unwrap_or_else(|| begun.elapsed())
    });
    let starts = starts.collect();
    Dispatch::new("core", tasks, took, 0, starts)
}

struct Core {
    engine: Engine,
    effects: Vec<Effect>,
    inputs: Vec<Input>,
}

impl Core {
    fn submit(&mut self, tasks: u32) {
        self.inputs.push(Input::Submit { token: Token(0), job: new_job(tasks) });
    }

    /// Until nothing is left to do. A lease is answered as finished in the next round.
    fn run(&mut self, mut on_lease: impl FnMut(TaskId)) {
        while !self.inputs.is_empty() {
            let now = Timestamp::now();
            for input in std::mem::take(&mut self.inputs) {
                self.engine.handle(now, input, &mut self.effects);
            }
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::Advance { job } => self.advance(job),
                    Effect::Send { worker, message: ToWorker::Lease(order), .. } => {
                        on_lease(order.task);
                        self.inputs.push(finished(worker, order.task, order.fence, now));
                    }
                    Effect::Ended { job } => self.inputs.push(Input::Forget { job }),
                    _ => {}
                }
            }
        }
    }

    fn advance(&mut self, job: JobId) {
        let Some(found) = self.engine.job(job) else { return };
        let next = workflow::next(&self.engine, found, "");
        self.inputs.push(Input::Advance { job, next });
    }
}

/// The run loop with its journal, in `directory` or a temporary one (where the system puts those: name a directory on the disk that
/// is to be measured).
///
/// # Errors
/// When the directory or the store cannot be written.
pub async fn durable(tasks: u32, directory: Option<&Path>) -> Result<Dispatch, BenchError> {
    let measure = async |bench: &mut Durable| {
        let begun = Instant::now();
        let before = *bench.commits.borrow();
        bench.job(tasks, begun).await?;
        let took = begun.elapsed();
        let written = *bench.commits.borrow() - before;
        let mut starts = Vec::new();
        for _ in 0..SINGLES {
            let begun = Instant::now();
            starts.push(bench.job(1, begun).await?);
        }
        Ok(Dispatch::new("durable", tasks, took, written, starts))
    };
    on_disk(directory, measure).await
}

/// The same with tasks that come at a steady rate, a job of equal tasks every [`BURST_EVERY`]: the start times are of every task, from the
/// moment its job was due to be submitted to when a worker had the lease, committed.
///
/// # Errors
/// As [`durable`].
pub async fn paced(tasks: u32, per_second: u32, directory: Option<&Path>) -> Result<Dispatch, BenchError> {
    let burst = (per_second / u32::try_from(1_000 / BURST_EVERY.as_millis()).unwrap_or(1)).max(1);
    let measure = async |bench: &mut Durable| {
        let (begun, before) = (Instant::now(), *bench.commits.borrow());
        let (mut due, mut starts) = (Vec::new(), Vec::new());
        let mut clock = tokio::time::interval(BURST_EVERY);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        for number in 0..tasks.div_ceil(burst) {
            clock.tick().await;
            due.push(begun + BURST_EVERY * number);
            let inbox = bench.inbox.clone();
            tokio::spawn(async move { inbox.ask(move |token| Input::Submit { token, job: new_job(burst) }).await });
        }
        let all = tasks.div_ceil(burst) * burst;
        // Jobs are numbered as they arrive, from one.
        let first = u64::from(FIRST_JOB);
        while u32::try_from(starts.len()).unwrap_or(u32::MAX) < all {
            let Some(Lease { job, at }) = bench.leased.recv().await else { break };
            let due = usize::try_from(job.0 - first).ok().and_then(|number| due.get(number));
            starts.push(due.map_or(Duration::ZERO, |due| at.saturating_duration_since(*due)));
        }
        let took = begun.elapsed();
        Ok(Dispatch::new("durable, paced", all, took, *bench.commits.borrow() - before, starts))
    };
    on_disk(directory, measure).await
}

/// Runs a measurement on a run loop of its own, with its workers, in a directory that is removed afterwards.
async fn on_disk(
    directory: Option<&Path>,
    measure: impl AsyncFnOnce(&mut Durable) -> Result<Dispatch, Failure>,
) -> Result<Dispatch, BenchError> {
    let directory = match directory {
        Some(parent) => tempfile::Builder::new().prefix("spool-bench-").tempdir_in(parent)?,
        None => tempfile::Builder::new().prefix("spool-bench-").tempdir()?,
    };
    let store = SqliteStore::open(&directory.path().join("spool.db")).await?;
    let mut store = Counting { store, commits: watch::Sender::new(0) };
    let commits = store.commits.subscribe();
    let engine = crate::recovery::recover(&mut store, Config::default()).await?;
    let (inbox, messages) = Inbox::new();
    let (stop, stopped) = watch::channel(false);
    // No rules are run here.
    let keeper = spool_dialect::Keeper::new("spool".into(), Vec::new());
    let services = Arc::new(Registry::open(directory.path().join("services"), keeper)?);
    let functions = crate::functions::Registry::open(&directory.path().join("functions"))?;
    let rules = Rules::new(services, functions, inbox.clone());
    let artifacts = directory.path().join("artifacts");
    let run_loop = RunLoop::new(engine, store, Limits::default(), messages, artifacts, rules);
    let run_loop = tokio::spawn(run_loop.run(stopped));

    let (leases, leased) = mpsc::unbounded_channel();
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        workers.push(tokio::spawn(simulate(inbox.clone(), number, leases.clone())));
    }
    let mut bench = Durable { inbox, commits, leased };
    let measured = measure(&mut bench).await.map_err(BenchError::Failed);
    for worker in &workers {
        worker.abort();
    }
    stop.send_replace(true);
    match run_loop.await {
        Ok(ended) => ended?,
        Err(e) => {
            return Err(BenchError::Failed(Failure::new(Class::Internal, "run_loop_broke", e.to_string())));
        }
    }
    measured
}

/// A run loop that is measured.
struct Durable {
    inbox: Inbox,
    commits: watch::Receiver<u64>,
    leased: mpsc::UnboundedReceiver<Lease>,
}

/// A lease, when it came to a worker.
struct Lease {
    job: JobId,
    at: Instant,
}

impl Durable {
    /// Submits a job and waits for its end. Returns how long its first task took to start.
    async fn job(&mut self, tasks: u32, begun: Instant) -> Result<Duration, Failure> {
        while self.leased.try_recv().is_ok() {}
        let reply = self.inbox.ask(move |token| Input::Submit { token, job: new_job(tasks) }).await?;
        let Reply::Submitted { job, .. } = reply else {
            return Err(Failure::new(
                Class::Internal,
                "not_submitted",
                format!("the bench job was refused: {reply:?}"),
            ));
        };
        let mut changes = self.inbox.watch(job).await?;
        let start = self.leased.recv().await.map_or_else(|| begun.elapsed(), |lease| lease.at.duration_since(begun));
        loop {
            let state = self.inbox.query(move |engine, _| engine.job(job).map(spool_core::Job::state)).await?;
            if state.is_none_or(|state| state.is_final()) {
                return Ok(start);
            }
            changes.changed().await.map_err(|_| crate::run_loop::inbox::stopping())?;
        }
    }
}

/// A worker that finishes everything at once, behind the same bounded queue a real one has. Tells when each lease came.
async fn simulate(inbox: Inbox, number: u32, leases: mpsc::UnboundedSender<Lease>) {
    let (worker, register) = register(number);
    let (orders, mut queue) = mpsc::channel(QUEUE);
    let attach = Message::Attach { worker: worker.clone(), incarnation: Incarnation(1), register, orders };
    if inbox.send(attach).await.is_err() {
        return;
    }
    while let Some(message) = queue.recv().await {
        let Some(v1::server_message::Kind::Orders(orders)) = message.kind else { continue };
        let (now, at) = (Timestamp::now(), Instant::now());
        for lease in orders.leases {
            if leases.send(Lease { job: JobId(lease.job), at }).is_err() {
                return;
            }
            let task = TaskId { job: JobId(lease.job), index: lease.task };
            let report = finished(worker.clone(), task, Fence(lease.fence), now);
            if inbox.send(Message::Tell(report)).await.is_err() {
                return;
            }
        }
    }
}

/// Counts commits.
struct Counting<S> {
    store: S,
    commits: watch::Sender<u64>,
}

impl<S: Store> Store for Counting<S> {
    type Archive = S::Archive;

    async fn append(&mut self, records: &[spool_core::io::Record]) -> Result<(), StoreError> {
        self.store.append(records).await?;
        self.commits.send_modify(|n| *n += 1);
        Ok(())
    }

    fn mark(&self) -> crate::store::Mark {
        self.store.mark()
    }

    async fn checkpoint(&mut self, checkpoint: &mut crate::store::Checkpoint) -> Result<bool, StoreError> {
        self.store.checkpoint(checkpoint).await
    }

    async fn tidy(&mut self) -> Result<bool, StoreError> {
        self.store.tidy().await
    }

    async fn load(&mut self) -> Result<crate::store::Kept, StoreError> {
        self.store.load().await
    }

    async fn archive(&mut self, job: crate::store::ArchivedJob) -> Result<(), StoreError> {
        self.store.archive(job).await
    }

    fn reader(&self) -> S::Archive {
        self.store.reader()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_runs_every_task() {
        let report = core(5_000);
        assert_eq!((report.layer.as_str(), report.tasks), ("core", 5_000));
        assert!(report.tasks_per_second > 0.0 && report.submit_to_start_p99_us >= report.submit_to_start_p50_us);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_durable_layer_commits_in_groups() {
        let report = durable(5_000, None).await.expect("a writable directory");
        assert!(report.commits > 0 && report.commits < 1_000, "{} commits for 5,000 tasks", report.commits);
        assert!(report.submit_to_start_p50_us > 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn paced_tasks_all_start_and_no_faster_than_they_come() {
        let report = paced(2_000, 5_000, None).await.expect("a writable directory");
        assert_eq!(report.tasks, 2_000);
        assert!(report.seconds > 0.35, "40 jobs, one in 10 ms: {} s", report.seconds);
        assert!(report.submit_to_start_p50_us > 0 && report.commits > 10);
    }
}
