//! Everything the engine holds, and the one function that folds a fact into it: [`State::apply`] serves the live engine and replay
//! alike, so both end in the same state.
//!
//! Durable are jobs, tasks, pools, cordons, what is held against workers, and the two counters. The queue, the back-off calendar and
//! what workers hold are indexes over them, kept in step here. Connections, room and progress are volatile and known only from workers'
//! own words. `state/leases.rs`, `lines.rs`, `pools.rs` and `steps.rs` fold what concerns leases, waiting tasks, pools and reactive
//! jobs; `restore.rs` is about snapshots.

mod leases;
mod lines;
mod pools;
mod restore;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{JobId, TaskId, WorkerName};
use spool_proto::pool::{BadTree, Hold, HoldState, PoolName, PoolsState};
use spool_proto::resources::Resources;
use spool_proto::time::Timestamp;
use spool_proto::view::WorkerHealth;

use crate::asks::ShapeSet;
use crate::io::{NewJob, Outcome, Record, TaskRun};
use crate::job::{self, Job, Life};
use crate::pools::{PoolIx, Pools};
use crate::queue::Queue;
use crate::roster::Roster;
use crate::shapes::Shapes;
use crate::snapshot::{AttemptEnd, CordonSnapshot};
use crate::task::{self, Lease, Task};

/// A record or snapshot that cannot follow on what came before: a damaged journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    #[error("job {0} is not known")]
    NoSuchJob(JobId),
    #[error("task {0} is not known")]
    NoSuchTask(TaskId),
    #[error("job {0} exists already")]
    JobExists(JobId),
    #[error("job {job} cannot {event} while it is {state}")]
    Job { job: JobId, state: &'static str, event: &'static str },
    #[error("task {task} cannot {event} while it is {state}")]
    Task { task: TaskId, state: &'static str, event: &'static str },
    #[error("job {job} has more than 2^32 tasks")]
    TooManyTasks { job: JobId },
    #[error("pool {0} is not known")]
    NoSuchPool(PoolName),
    #[error("the pools cannot be: {0}")]
    BadTree(BadTree),
    #[error("the parts of job {job} hold {found} tasks, its phases {expected}")]
    Parts { job: JobId, found: usize, expected: usize },
    #[error("of what job {job} keeps for its workflow, something is missing")]
    History { job: JobId },
}

#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) next_job: u64,
    pub(crate) next_fence: u64,
    /// Boxed: nodes of a tree that grows at its end are half empty, and a job is large.
    pub(crate) jobs: BTreeMap<JobId, Box<Job>>,
    pub(crate) cordons: BTreeMap<WorkerName, CordonSnapshot>,
    pub(crate) pools_state: PoolsState,
    /// Workers that are not healthy.
    pub(crate) judged: BTreeMap<WorkerName, WorkerHealth>,
    // Indexes.
    /// Jobs all of whose unfinished tasks are with workers.
    pub(crate) tails: BTreeSet<JobId>,
    pub(crate) pools: Pools,
    /// Open jobs by pool, and how many of them wait for their first worker.
    pub(crate) open_jobs: BTreeMap<PoolIx, (u64, u64)>,
    /// Jobs that are opportunistic now.
    pub(crate) opportunistic: BTreeSet<JobId>,
    pub(crate) requests: BTreeMap<Arc<str>, JobId>,
    /// Jobs and their parts.
    pub(crate) parts: BTreeSet<(JobId, JobId)>,
    pub(crate) shapes: Shapes,
    pub(crate) queue: Queue,
    pub(crate) backoff: BTreeSet<(Timestamp, TaskId)>,
    pub(crate) workers: Roster,
    // Marks.
    /// Shapes that found no room on any worker, and nothing has changed since.
    pub(crate) closed: ShapeSet,
    /// What the workers that take leases have together, as shares were last taken over.
    pub(crate) fleet: Resources,
    /// Jobs that time has something to do with: their alarms are to be set.
    pub(crate) new_alarms: Vec<JobId>,
    /// Workers to look at in this turn: room or lines have changed.
    pub(crate) touched: BTreeSet<WorkerName>,
    /// Jobs dropped since the last checkpoint.
    pub(crate) forgotten: Vec<JobId>,
}

impl State {
    pub(crate) fn new() -> State {
        let pools_state = PoolsState::default();
        let mut shapes = Shapes::default();
        let pools = Pools::new(&pools_state.tree, &|_| Hold::Open, &mut shapes.kinds);
        State {
            next_job: 1,
            next_fence: 1,
            jobs: BTreeMap::new(),
            cordons: BTreeMap::new(),
            pools_state,
            judged: BTreeMap::new(),
            tails: BTreeSet::new(),
            queue: Queue::new(&pools),
            pools,
            open_jobs: BTreeMap::new(),
            opportunistic: BTreeSet::new(),
            requests: BTreeMap::new(),
            parts: BTreeSet::new(),
            shapes,
            backoff: BTreeSet::new(),
            workers: Roster::default(),
            closed: ShapeSet::default(),
            fleet: Resources::ZERO,
            new_alarms: Vec::new(),
            touched: BTreeSet::new(),
            forgotten: Vec::new(),
        }
    }

    pub(crate) fn task(&self, id: TaskId) -> Option<&Task> {
        self.jobs.get(&id.job)?.task(id.index)
    }

    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), Illegal> {
        match record {
            Record::JobSubmitted { job, new, at } => self.submitted(*job, new, *at),
            Record::PhaseStarted { job, name, tasks, at } => self.phase_started(*job, name, tasks, *at),
            Record::Leased { task, fence, worker, at } => self.leased(*task, *fence, worker, *at),
            Record::Finished { task, fence, started, finished, answer, advance } => {
                let event = task::Event::Finish {
                    fence: *fence,
                    started: *started,
                    finished: *finished,
                    answer: answer.clone(),
                    advance: *advance,
                };
                self.end_lease(*task, event)?;
                let job = self.job_mut(task.job)?;
                job.phase_of(task.index).made.add(advance);
                job.close_phase(task.index, *finished);
                Ok(())
            }
            Record::AttemptFailed { task, fence, failure, retry_at, counted, at } => {
                self.attempt_failed(*task, *fence, failure, (*retry_at, *counted), *at)
            }
            Record::AttemptForgiven { task, fence, .. } => self.attempt_forgiven(*task, *fence),
            Record::LeaseEnded { task, fence, reason, counted, at } => {
                let lease = self.end_lease(*task, task::Event::LetGo { fence: *fence })?;
                if *counted {
                    let failure = Failure::new(Class::Internal, "lease_lost", reason.as_str());
                    self.job_mut(task.job)?.change(task.index, |t| {
                        t.losses = t.losses.saturating_add(1);
                        t.remember(end_of(t.attempt(), lease, failure, (*at, false)));
                    });
                }
                if self.task(*task).is_some_and(|task| task.state == task::State::Queued) {
                    self.enqueue(*task);
                }
                Ok(())
            }
            Record::CancelAsked { job, reason, at } => {
                self.turn(*job, job::Event::CancelAsked { reason: reason.clone() })?;
                self.cancel_waiting(*job, *at)
            }
            Record::TaskCancelled { task, at } => {
                self.end_lease(*task, task::Event::Cancel)?;
                self.job_mut(task.job)?.close_phase(task.index, *at);
                Ok(())
            }
            Record::Stepped { job, step, at } => self.stepped(*job, step, *at),
            Record::Signalled { job, name, dedupe, payload, at } => self.signalled(*job, (name, dedupe), payload, *at),
            Record::JobFinished { job, outcome, at } => self.job_finished(*job, outcome, *at),
            Record::JobRetried { job, .. } => self.job_retried(*job),
            Record::PrioritySet { job, priority, .. } => self.priority_set(*job, *priority),
            Record::Cordoned { worker, cordoned, drain, reason, at } => {
                if *cordoned {
                    let (worker, reason) = (worker.clone(), reason.clone());
                    self.cordons.insert(worker.clone(), CordonSnapshot { worker, drain: *drain, reason, at: *at });
                } else {
                    self.cordons.remove(worker);
                }
                Ok(())
            }
            Record::JobForgotten { job } => self.job_forgotten(*job),
            Record::WorkerJudged { worker, health, .. } => {
                match health {
                    WorkerHealth::Healthy => drop(self.judged.remove(worker)),
                    other => drop(self.judged.insert(worker.clone(), other.clone())),
                }
                if self.workers.contains_key(worker) {
                    self.touched.insert(worker.clone());
                }
                Ok(())
            }
            Record::JobMoved { job, pool, priority, hop, .. } => self.job_moved(*job, pool, *priority, *hop),
            Record::PoolsApplied { version, change, at } => self.pools_applied(*version, change, *at),
            Record::PoolHeld { pool, hold, by, reason, at } => {
                let state = HoldState { hold: *hold, by: by.clone(), reason: reason.clone(), at: *at };
                self.pool_held(pool, state)
            }
        }
    }

    fn submitted(&mut self, id: JobId, new: &NewJob, at: Timestamp) -> Result<(), Illegal> {
        if self.jobs.contains_key(&id) {
            return Err(Illegal::JobExists(id));
        }
        if !new.request_id.is_empty() {
            self.requests.insert(new.request_id.clone(), id);
        }
        self.parts.extend(new.part_of.map(|whole| (whole, id)));
        self.next_job = self.next_job.max(id.0 + 1);
        let pool = self.pools.find(&new.pool).unwrap_or_else(|| self.pools.default_pool());
        let mut job = Job::new(id, new.clone(), pool, at);
        // What many have alike is kept once.
        if job.new.pool == *self.pools.name(pool) {
            job.new.pool = self.pools.name(pool).clone();
        }
        if let Some(above) = new.part_of.and_then(|above| self.jobs.get(&above)) {
            job.whole = above.whole;
            if job.new.traceparent == above.new.traceparent {
                job.new.traceparent = above.new.traceparent.clone();
            }
        }
        if job.opportunistic {
            self.opportunistic.insert(id);
        }
        self.jobs.insert(id, Box::new(job));
        self.count_job(id, true);
        self.new_alarms.push(id);
        Ok(())
    }

    fn phase_started(&mut self, id: JobId, name: &str, tasks: &[TaskRun], at: Timestamp) -> Result<(), Illegal> {
        let job = self.jobs.get_mut(&id).ok_or(Illegal::NoSuchJob(id))?;
        if !job.waits_for_workflow() {
            return Err(Illegal::Job { job: id, state: job.state().name(), event: "start a phase" });
        }
        if !fits_in_job(job, tasks.iter()) {
            return Err(Illegal::TooManyTasks { job: id });
        }
        if let Some(last) = job.phases.last_mut() {
            last.finished.get_or_insert(at);
        }
        job.push_phase(name.to_owned(), tasks.to_vec(), at, &mut self.shapes);
        self.stand_last_phase(id);
        self.new_alarms.push(id);
        Ok(())
    }

    /// Puts the tasks of a phase that has just been pushed in their lines.
    pub(super) fn stand_last_phase(&mut self, id: JobId) {
        let job = &self.jobs[&id];
        let phase = job.phases.last().expect("just pushed");
        let runs: Vec<_> = job.runs[phase.runs.clone()].iter().map(|run| run.first..run.first + run.count).collect();
        for run in runs {
            self.stand(id, run);
        }
    }

    fn job_finished(&mut self, id: JobId, outcome: &Outcome, at: Timestamp) -> Result<(), Illegal> {
        let job = self.job_mut(id)?;
        // A step that ends its job has cancelled what was open.
        let may_be_done = job.waits_for_workflow() || job.new.reactive;
        if job.leased() > 0 || (matches!(outcome, Outcome::Done { .. }) && !may_be_done) {
            return Err(Illegal::Job { job: id, state: job.state().name(), event: "finish with open tasks" });
        }
        self.turn(id, job::Event::Finish(outcome.clone()))?;
        let job = self.job_mut(id)?;
        job.finished = Some(at);
        if let Some(phase) = job.phases.last_mut() {
            phase.finished.get_or_insert(at);
        }
        Ok(())
    }

    fn job_retried(&mut self, id: JobId) -> Result<(), Illegal> {
        self.turn(id, job::Event::Retry)?;
        self.new_alarms.push(id);
        let job = self.job_mut(id)?;
        job.finished = None;
        if job.new.reactive {
            job.retries_before = job.retries;
            job.reaction.retries_asked += 1;
            (job.reaction.wake, job.reaction.rests) = (None, false);
            return Ok(());
        }
        let mut again = Vec::new();
        for index in job.current().collect::<Vec<_>>() {
            if job.task(index).is_some_and(|t| matches!(t.state, task::State::Failed | task::State::Cancelled)) {
                job.change(index, |task| {
                    task.state = task.state.next(task::Event::Retry).expect("failed or cancelled");
                    (task.attempts, task.losses, task.excused) = (0, 0, 0);
                    task.history.iter_mut().for_each(|end| end.counted = false);
                });
                again.push(TaskId { job: id, index });
            }
        }
        job.retries_before = job.retries;
        if !again.is_empty() {
            job.phases.last_mut().expect("it has tasks").finished = None;
        }
        // Runs of neighbours go in as one entry.
        for neighbours in again.chunk_by(|a, b| a.index + 1 == b.index) {
            let mut from = neighbours[0].index;
            let end = from + u32::try_from(neighbours.len()).expect("no more than a job's tasks");
            while from < end {
                let job = &self.jobs[&id];
                let run = job.run_of(from).expect("it was retried");
                let stop = end.min(run.first + run.count);
                self.stand(id, from..stop);
                from = stop;
            }
        }
        Ok(())
    }

    pub(crate) fn any_opportunistic(&self) -> bool {
        self.opportunistic.iter().any(|job| self.jobs.get(job).is_some_and(|job| job.leased() > 0))
    }

    fn job_forgotten(&mut self, id: JobId) -> Result<(), Illegal> {
        let job = self.jobs.get(&id).ok_or(Illegal::NoSuchJob(id))?;
        if !job.state().is_final() {
            return Err(Illegal::Job { job: id, state: job.state().name(), event: "be forgotten" });
        }
        let job = self.jobs.remove(&id).expect("just found");
        self.opportunistic.remove(&id);
        for run in &job.runs {
            self.shapes.release(run.shape);
        }
        if self.requests.get(&job.new.request_id) == Some(&id) {
            self.requests.remove(&job.new.request_id);
        }
        if let Some(whole) = job.new.part_of {
            self.parts.remove(&(whole, id));
        }
        self.forgotten.push(id);
        Ok(())
    }

    fn turn(&mut self, id: JobId, event: job::Event) -> Result<(), Illegal> {
        let life = self.job_mut(id)?.life.next(event).map_err(illegal_job(id))?;
        self.count_job(id, false);
        let job = self.job_mut(id)?;
        job.life = life;
        job.dirty_header = true;
        self.count_job(id, true);
        self.mark_tail(id);
        Ok(())
    }

    pub(crate) fn job_mut(&mut self, id: JobId) -> Result<&mut Job, Illegal> {
        self.jobs.get_mut(&id).map(Box::as_mut).ok_or(Illegal::NoSuchJob(id))
    }
}

/// Whether the job can number these tasks too.
pub(crate) fn fits_in_job<'a>(job: &Job, tasks: impl Iterator<Item = &'a TaskRun>) -> bool {
    let new: u64 = tasks.map(|run| u64::from(run.count)).sum();
    u64::from(job.task_count()) + new < u64::from(u32::MAX)
}

fn end_of(attempt: u32, lease: Lease, failure: Failure, (ended, counted): (Timestamp, bool)) -> AttemptEnd {
    AttemptEnd { attempt, fence: lease.fence, worker: lease.worker, leased: lease.at, ended, counted, failure }
}

fn illegal_task(task: TaskId) -> impl Fn((&'static str, &'static str)) -> Illegal {
    move |(state, event)| Illegal::Task { task, state, event }
}

fn illegal_job(job: JobId) -> impl Fn((&'static str, &'static str)) -> Illegal {
    move |(state, event)| Illegal::Job { job, state, event }
}

/// For a job's life to be compared by the invariants.
pub(crate) fn is_ending(life: &Life) -> bool {
    matches!(life, Life::Ending(_))
}
