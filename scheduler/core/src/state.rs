//! Everything the engine holds, and the one function that folds a fact into it: [`State::apply`] serves the live engine and replay
//! alike, so both end in the same state.
//!
//! Durable are jobs, tasks, pools, cordons, what is held against workers, and the two counters. The queue, the back-off calendar and what workers hold are indexes over
//! them, kept in step here. Connections, room and progress are volatile and known only from workers' own words.

use std::collections::{BTreeMap, BTreeSet};

use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, JobId, TaskId, WorkerName};
use spool_proto::pool::{BadTree, Hold, HoldState, PoolName, PoolsState};
use spool_proto::resources::Resources;
use spool_proto::time::Timestamp;
use spool_proto::view::WorkerHealth;

use crate::contest::ShapeSet;
use crate::io::{NewJob, Outcome, PoolChange, Record, TaskRun};
use crate::job::{self, Job, Life};
use crate::pool_history;
use crate::pools::{PoolIx, Pools};
use crate::queue::{Key, Place, Queue};
use crate::roster::Roster;
use crate::shapes::Shapes;
use crate::snapshot::{AttemptEnd, CordonSnapshot, EngineSnapshot, JobSnapshot, TaskPart};
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
}

#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) next_job: u64,
    pub(crate) next_fence: u64,
    pub(crate) jobs: BTreeMap<JobId, Job>,
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
    pub(crate) requests: BTreeMap<String, JobId>,
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
                let phase = job.phases.last_mut().ok_or(Illegal::NoSuchTask(*task))?;
                phase.made.add(advance);
                if phase.counts.done == phase.counts.total() {
                    phase.finished = Some(phase.started.max(*finished));
                    job.dirty_header = true;
                }
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
            Record::CancelAsked { job, reason, .. } => {
                self.turn(*job, job::Event::CancelAsked { reason: reason.clone() })?;
                self.cancel_waiting(*job)
            }
            Record::TaskCancelled { task, .. } => self.end_lease(*task, task::Event::Cancel).map(|_| ()),
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
        self.next_job = self.next_job.max(id.0 + 1);
        let pool = self.pools.find(&new.pool).unwrap_or_else(|| self.pools.default_pool());
        let job = Job::new(id, new.clone(), pool, at);
        if job.opportunistic {
            self.opportunistic.insert(id);
        }
        self.jobs.insert(id, job);
        self.count_job(id, true);
        self.new_alarms.push(id);
        Ok(())
    }

    /// Counts the job in its pool, or takes it out of the count: before and after its life or pool changes.
    fn count_job(&mut self, id: JobId, there: bool) {
        let Some(job) = self.jobs.get(&id).filter(|job| !job.state().is_final()) else { return };
        let (open, queued) = self.open_jobs.entry(job.pool).or_default();
        let waits = u64::from(job.life == Life::Queued);
        if there {
            *open += 1;
            *queued += waits;
        } else {
            *open -= 1;
            *queued -= waits;
        }
    }

    fn phase_started(&mut self, id: JobId, name: &str, tasks: &[TaskRun], at: Timestamp) -> Result<(), Illegal> {
        let job = self.jobs.get_mut(&id).ok_or(Illegal::NoSuchJob(id))?;
        if !job.waits_for_workflow() {
            return Err(Illegal::Job { job: id, state: job.state().name(), event: "start a phase" });
        }
        if !fits_in_job(job, tasks) {
            return Err(Illegal::TooManyTasks { job: id });
        }
        if let Some(last) = job.phases.last_mut() {
            last.finished.get_or_insert(at);
        }
        job.push_phase(name.to_owned(), tasks.to_vec(), at, &mut self.shapes);
        let phase = job.phases.last().expect("just pushed");
        let runs: Vec<_> = job.runs[phase.runs.clone()].iter().map(|run| run.first..run.first + run.count).collect();
        for run in runs {
            self.stand(id, run);
        }
        self.new_alarms.push(id);
        Ok(())
    }

    fn leased(&mut self, id: TaskId, fence: Fence, worker: &WorkerName, at: Timestamp) -> Result<(), Illegal> {
        let job = self.jobs.get_mut(&id.job).ok_or(Illegal::NoSuchJob(id.job))?;
        let run = job.run_of(id.index).ok_or(Illegal::NoSuchTask(id))?;
        let (shape, key) = (run.shape, Key::new(job, run, id.index));
        let before = &job.task(id.index).ok_or(Illegal::NoSuchTask(id))?.state;
        let lease = Lease { fence, worker: worker.clone(), at };
        let state = before.next(task::Event::Lease(lease)).map_err(illegal_task(id))?;
        let life = job.life.next(job::Event::Leased).map_err(illegal_job(id.job))?;
        match before {
            // A second copy: it stands in no line.
            task::State::Leased(..) => {}
            _ if self.queue.remove(&self.pools, Place::new(job, shape), key) => {}
            task::State::Backoff { until } => drop(self.backoff.remove(&(*until, id))),
            _ => {}
        }
        let first = job.life != life;
        if first && let Some((_, queued)) = self.open_jobs.get_mut(&job.pool) {
            *queued -= 1;
        }
        job.dirty_header |= first;
        job.life = life;
        job.started.get_or_insert(at);
        job.last_lease = Some(at);
        job.change(id.index, |task| task.state = state);
        self.pools.charge(job.pool, self.shapes.need(shape));
        self.queue.charged(job.pool);
        self.next_fence = self.next_fence.max(fence.0 + 1);
        self.workers.or_default(worker).hold(id, fence, shape);
        self.mark_tail(id.job);
        Ok(())
    }

    /// Whether the job is in the tail of its phase may have changed.
    fn mark_tail(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let is = job.is_in_tail();
        if std::mem::replace(&mut job.in_tail, is) != is {
            if is {
                self.tails.insert(id)
            } else {
                self.tails.remove(&id)
            };
        }
    }

    /// Ends a lease by `event`, and with it, if the task is finished, a second one. Gives back the one `event` names, as it was.
    fn end_lease(&mut self, id: TaskId, event: task::Event) -> Result<Lease, Illegal> {
        let job = self.jobs.get_mut(&id.job).ok_or(Illegal::NoSuchJob(id.job))?;
        let task = job.task(id.index).ok_or(Illegal::NoSuchTask(id))?;
        let first =
            task.lease().cloned().ok_or(Illegal::Task { task: id, state: task.state.name(), event: "end a lease" })?;
        let copy = task.copy().cloned();
        let fence = event.fence().unwrap_or(first.fence);
        let state = task.state.next(event).map_err(illegal_task(id))?;
        job.change(id.index, |task| task.state = state);
        let left = job.task(id.index).and_then(|task| task.lease()).map(|lease| lease.fence);
        let ended = |lease: &Lease| left != Some(lease.fence);
        if ended(&first) {
            self.count_running(id, &first.worker, false);
            self.drop_lease(id, &first.worker);
        }
        if let Some(copy) = &copy {
            if ended(copy) {
                self.drop_lease(id, &copy.worker);
            } else if ended(&first) {
                // From now on the task counts as it stands there.
                self.count_running(id, &copy.worker, true);
            }
        }
        self.mark_tail(id.job);
        let named = |lease: &Lease| lease.fence == fence;
        Ok(copy.filter(named).unwrap_or(first))
    }

    /// Counts the task among the running ones of its phase as it stands on the worker, or takes it out of the count.
    fn count_running(&mut self, id: TaskId, worker: &WorkerName, there: bool) {
        let Some(held) = self.workers.get(worker).and_then(|worker| worker.held.get(&id)) else { return };
        let phase = self.jobs.get_mut(&id.job).and_then(|job| job.phases.last_mut()).expect("it has a task");
        if there {
            phase.making.add(&held.advance);
            phase.running += u32::from(held.started.is_some());
        } else {
            phase.making.sub(&held.advance);
            phase.running -= u32::from(held.started.is_some());
        }
    }

    /// The worker and the pool have back what the lease took.
    fn drop_lease(&mut self, id: TaskId, name: &WorkerName) {
        let job = &self.jobs[&id.job];
        let shape = job.run_of(id.index).expect("it has one").shape;
        self.pools.release(job.pool, self.shapes.need(shape));
        self.queue.released(&self.pools, job.pool);
        let worker = self.workers.get_mut(name).expect("a lease's worker is indexed");
        let held = worker.drop_lease(id, &self.shapes);
        if let Some(taker) = held.and_then(|held| held.taker).and_then(|name| self.workers.get_mut(&name)) {
            taker.expecting.remove(&id);
        }
        if !self.touched.contains(name) {
            self.touched.insert(name.clone());
        }
    }

    fn attempt_failed(
        &mut self,
        id: TaskId,
        fence: Fence,
        failure: &Failure,
        (retry_at, counted): (Option<Timestamp>, bool),
        at: Timestamp,
    ) -> Result<(), Illegal> {
        let lease = self.end_lease(id, task::Event::Fail { fence, retry_at })?;
        let job = self.job_mut(id.job)?;
        job.change(id.index, |task| {
            let attempt = u32::from(task.attempts).saturating_add(1);
            if counted {
                task.attempts = task.attempts.saturating_add(1);
            } else {
                task.excused = task.excused.saturating_add(1);
            }
            task.remember(end_of(attempt, lease, failure.clone(), (at, counted)));
        });
        match retry_at {
            Some(until) => {
                self.backoff.insert((until, id));
                Ok(())
            }
            None => {
                let failure = self.verdict(id, failure);
                self.turn(id.job, job::Event::TaskFailed { failure })?;
                self.cancel_waiting(id.job)
            }
        }
    }

    fn attempt_forgiven(&mut self, id: TaskId, fence: Fence) -> Result<(), Illegal> {
        let job = self.job_mut(id.job)?;
        let task = job.task(id.index).ok_or(Illegal::NoSuchTask(id))?;
        let Some(at) = task.history.iter().position(|end| end.fence == fence && end.counted) else {
            return Err(Illegal::Task { task: id, state: task.state.name(), event: "be forgiven (under this fence)" });
        };
        job.change(id.index, |task| {
            task.history[at].counted = false;
            task.attempts = task.attempts.saturating_sub(1);
            task.excused = task.excused.saturating_add(1);
        });
        Ok(())
    }

    /// A task's last failure as its job's: with the task's name and how often it was tried.
    fn verdict(&self, id: TaskId, failure: &Failure) -> Failure {
        let job = &self.jobs[&id.job];
        let (task, run) = (job.task(id.index).expect("it failed"), job.run_of(id.index).expect("it failed"));
        let function = &self.shapes.get(run.shape).function;
        let label = if run.label.is_empty() { String::new() } else { format!(", {}", run.label) };
        let tried = if task.attempts > 1 { format!(" after {} attempts", task.attempts) } else { String::new() };
        let message = format!("{function} ({id}{label}) failed{tried}: {}", failure.message);
        Failure { message, ..failure.clone() }
    }

    fn job_finished(&mut self, id: JobId, outcome: &Outcome, at: Timestamp) -> Result<(), Illegal> {
        let job = self.job_mut(id)?;
        if job.leased() > 0 || (matches!(outcome, Outcome::Done { .. }) && !job.waits_for_workflow()) {
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
        let mut again = Vec::new();
        for index in job.current() {
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

    fn priority_set(&mut self, id: JobId, priority: u8) -> Result<(), Illegal> {
        self.stand_anew(id, |job, _| {
            job.new.priority = priority;
            job.dirty_header = true;
        })
    }

    /// Changes what a job's tasks stand under: they leave their lines and come back.
    pub(crate) fn stand_anew(&mut self, id: JobId, change: impl FnOnce(&mut Job, &Pools)) -> Result<(), Illegal> {
        // How long a line has waited in vain goes with it.
        let job = self.jobs.get(&id).ok_or(Illegal::NoSuchJob(id))?;
        let shapes = job.phases.last().map_or(&[][..], |phase| &job.runs[phase.runs.clone()]);
        let lines = shapes.iter().filter_map(|run| self.queue.get(self.queue.find(&Place::new(job, run.shape))?));
        let vain: Vec<_> = lines.map(|line| (line.place.shape, line.short_since, line.stuck_since)).collect();
        let waiting = self.take_waiting(id)?;
        let job = self.jobs.get_mut(&id).ok_or(Illegal::NoSuchJob(id))?;
        change(job, &self.pools);
        for range in waiting {
            self.stand(id, range);
        }
        for (shape, short, stuck) in vain {
            let place = Place::new(&self.jobs[&id], shape);
            if let Some(line) = self.queue.find(&place).and_then(|line| self.queue.get_mut(line)) {
                (line.short_since, line.stuck_since) = (line.short_since.or(short), line.stuck_since.or(stuck));
            }
        }
        Ok(())
    }

    /// Puts tasks of one run in their line.
    fn stand(&mut self, id: JobId, tasks: std::ops::Range<u32>) {
        let job = &self.jobs[&id];
        let Some(run) = job.run_of(tasks.start).filter(|_| !tasks.is_empty()) else { return };
        // While nothing of a shape waits, nobody looks whether it would find room.
        if !self.queue.waits(run.shape) {
            self.closed.remove(run.shape);
        }
        let (place, key) = (Place::new(job, run.shape), Key::new(job, run, tasks.start));
        self.queue.push((&self.pools, &self.shapes), place, key, tasks.end);
    }

    /// What runs of it goes with it: its quota is charged where the job is.
    fn job_moved(&mut self, id: JobId, pool: &PoolName, priority: Option<u8>, hop: bool) -> Result<(), Illegal> {
        let to = self.pools.find(pool).ok_or_else(|| Illegal::NoSuchPool(pool.clone()))?;
        self.count_job(id, false);
        let job = self.jobs.get(&id).ok_or(Illegal::NoSuchJob(id))?;
        let from = job.pool;
        let leases = job.current().flat_map(|index| {
            let count = job.task(index).map_or(0, |task| task.leases().count());
            std::iter::repeat_n(job.run_of(index), count)
        });
        for shape in leases.filter_map(|run| Some(run?.shape)).collect::<Vec<_>>() {
            self.pools.release(from, self.shapes.need(shape));
            self.pools.charge(to, self.shapes.need(shape));
        }
        self.stand_anew(id, |job, _| {
            job.pool = to;
            job.new.pool = pool.clone();
            job.new.priority = priority.unwrap_or(job.new.priority);
            if hop && !job.new.hop.is_empty() {
                job.new.hop.remove(0);
            }
            job.dirty_header = true;
        })?;
        self.count_job(id, true);
        self.queue.released(&self.pools, from);
        self.queue.charged(to);
        self.new_alarms.push(id);
        Ok(())
    }

    // ------------------------------------------------------------ pools

    fn pools_applied(&mut self, version: u64, change: &PoolChange, at: Timestamp) -> Result<(), Illegal> {
        change.tree.check_structure().map_err(Illegal::BadTree)?;
        let entry = pool_history::entry(&self.pools_state.tree, version, change, at);
        pool_history::remember(&mut self.pools_state.changes, entry);
        self.pools_state.holds.retain(|pool, _| change.tree.pools.contains_key(pool));
        self.pools_state.version = version;
        self.pools_state.tree = change.tree.clone();
        self.rebuild_pools();
        Ok(())
    }

    fn pool_held(&mut self, pool: &PoolName, state: HoldState) -> Result<(), Illegal> {
        if self.pools.find(pool).is_none() {
            return Err(Illegal::NoSuchPool(pool.clone()));
        }
        let before = self.pools_state.holds.get(pool).map_or(Hold::Open, |held| held.hold);
        let entry = pool_history::hold_entry(self.pools_state.version, pool, before, &state);
        pool_history::remember(&mut self.pools_state.changes, entry);
        match state.hold {
            Hold::Open => drop(self.pools_state.holds.remove(pool)),
            Hold::Held | Hold::Draining => drop(self.pools_state.holds.insert(pool.clone(), state)),
        }
        self.rebuild_pools();
        Ok(())
    }

    /// Builds the tree's index anew from what is durable, and moves everything over.
    fn rebuild_pools(&mut self) {
        let PoolsState { tree, holds, .. } = &self.pools_state;
        let hold = |pool: &PoolName| holds.get(pool).map_or(Hold::Open, |held| held.hold);
        let mut pools = Pools::new(tree, &hold, &mut self.shapes.kinds);
        pools.set_fleet(&self.fleet, &mut self.shapes.kinds);
        let default = pools.default_pool();
        let moved: Vec<PoolIx> =
            self.pools.all().map(|old| pools.find(self.pools.name(old)).unwrap_or(default)).collect();
        let to = |old: PoolIx| moved[old.index()];
        for job in self.jobs.values_mut() {
            // By name: of a job that is over, the pool may have gone meanwhile and be there again.
            job.pool = pools.find(&job.new.pool).unwrap_or(default);
        }
        for worker in self.workers.values() {
            for (task, held) in &worker.held {
                pools.charge(self.jobs[&task.job].pool, self.shapes.need(held.shape));
            }
        }
        let counts = std::mem::take(&mut self.open_jobs);
        for (pool, (open, queued)) in counts {
            let counts = self.open_jobs.entry(to(pool)).or_default();
            *counts = (counts.0 + open, counts.1 + queued);
        }
        self.pools = pools;
        self.queue.rebuild((&self.pools, &self.shapes), to);
        self.closed = ShapeSet::default();
    }

    /// What the workers that take leases have together.
    pub(crate) fn set_fleet(&mut self, fleet: Resources) {
        self.pools.set_fleet(&fleet, &mut self.shapes.kinds);
        self.fleet = fleet;
        self.queue.shares_changed();
    }

    pub(crate) fn any_opportunistic(&self) -> bool {
        self.opportunistic.iter().any(|job| self.jobs.get(job).is_some_and(|job| job.leased() > 0))
    }

    /// The job's time to start has come: it is as any other from now on.
    pub(crate) fn become_standard(&mut self, id: JobId) {
        if self.opportunistic.remove(&id) {
            self.stand_anew(id, |job, _| job.opportunistic = false).expect("it is known");
        }
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
        self.forgotten.push(id);
        Ok(())
    }

    /// Puts a queued task, or one whose back-off is over, in its line.
    pub(crate) fn enqueue(&mut self, id: TaskId) {
        let Some(job) = self.jobs.get(&id.job) else { return };
        if job.task(id.index).is_none() {
            return;
        }
        if !job.age_alarm {
            self.new_alarms.push(id.job);
        }
        self.stand(id.job, id.index..id.index + 1);
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

    /// Takes all tasks of the job out of the lines.
    fn take_waiting(&mut self, id: JobId) -> Result<Vec<std::ops::Range<u32>>, Illegal> {
        let job = self.jobs.get(&id).ok_or(Illegal::NoSuchJob(id))?;
        let Some(phase) = job.phases.last() else { return Ok(Vec::new()) };
        let shapes: BTreeMap<_, _> = job.runs[phase.runs.clone()].iter().map(|run| (run.shape, run)).collect();
        let mut taken = Vec::new();
        for (shape, run) in shapes {
            taken.extend(self.queue.remove_job(&self.pools, Place::new(job, shape), Key::new(job, run, run.first)));
        }
        Ok(taken)
    }

    /// Cancels everything of the job that no worker holds.
    fn cancel_waiting(&mut self, id: JobId) -> Result<(), Illegal> {
        self.take_waiting(id)?;
        let job = self.jobs.get_mut(&id).ok_or(Illegal::NoSuchJob(id))?;
        for index in job.current() {
            let state = job.task(index).map(|task| &task.state);
            if let Some(task::State::Backoff { until }) = state {
                self.backoff.remove(&(*until, TaskId { job: id, index }));
            }
            if matches!(state, Some(task::State::Queued | task::State::Backoff { .. })) {
                job.change(index, |task| {
                    task.state = task.state.next(task::Event::Cancel).expect("queued or in back-off");
                });
            }
        }
        Ok(())
    }

    pub(crate) fn job_mut(&mut self, id: JobId) -> Result<&mut Job, Illegal> {
        self.jobs.get_mut(&id).ok_or(Illegal::NoSuchJob(id))
    }

    // ------------------------------------------------------------ snapshots

    pub(crate) fn snapshot(&self) -> EngineSnapshot {
        EngineSnapshot {
            next_job: self.next_job,
            next_fence: self.next_fence,
            cordons: self.cordons.values().cloned().collect(),
            pools: self.pools_state.clone(),
            judged: self.judged.iter().map(|(worker, health)| (worker.clone(), health.clone())).collect(),
        }
    }

    pub(crate) fn restore(&mut self, snapshot: EngineSnapshot) {
        self.next_job = self.next_job.max(snapshot.next_job);
        self.next_fence = self.next_fence.max(snapshot.next_fence);
        self.cordons = snapshot.cordons.into_iter().map(|cordon| (cordon.worker.clone(), cordon)).collect();
        self.pools_state = snapshot.pools;
        self.judged = snapshot.judged.into_iter().collect();
        self.rebuild_pools();
    }

    /// Brings a job back. `parts` hold its tasks, in order.
    pub(crate) fn restore_job(&mut self, snapshot: JobSnapshot, parts: Vec<TaskPart>) -> Result<(), Illegal> {
        let id = snapshot.job;
        let mut phases = snapshot.phases.into_iter();
        self.submitted(id, &snapshot.new, snapshot.submitted)?;
        let job = self.jobs.get_mut(&id).expect("just submitted");
        for phase in phases.by_ref() {
            if !fits_in_job(job, &phase.runs) {
                return Err(Illegal::TooManyTasks { job: id });
            }
            job.push_phase(phase.name, phase.runs, phase.started, &mut self.shapes);
            job.phases.last_mut().expect("just pushed").finished = phase.finished;
        }
        let found = parts.iter().map(|part| part.tasks.len()).sum();
        let expected = job.tasks.len();
        if found != expected {
            return Err(Illegal::Parts { job: id, found, expected });
        }
        for (index, task) in (0..).zip(parts.into_iter().flat_map(|part| part.tasks)) {
            job.change(index, |old| *old = Task::restore(old.run, task));
        }
        self.count_job(id, false);
        let job = self.jobs.get_mut(&id).expect("just submitted");
        (job.life, job.started, job.finished) = (snapshot.life.into(), snapshot.started, snapshot.finished);
        job.retries_before = snapshot.retries_before;
        (job.dirty_header, job.dirty_parts) = (false, BTreeSet::new());
        self.count_job(id, true);
        self.index(id);
        self.mark_tail(id);
        Ok(())
    }

    /// Builds the indexes over a restored job.
    fn index(&mut self, id: JobId) {
        let job = self.jobs.get_mut(&id).expect("just restored");
        for phase in 0..job.phases.len() {
            let mut made = crate::io::Advance::default();
            for run in &job.runs[job.phases[phase].runs.clone()] {
                let mut queued: Option<std::ops::Range<u32>> = None;
                for index in run.first..run.first + run.count {
                    let task = TaskId { job: id, index };
                    match &job.task(index).expect("the run has it").state {
                        task::State::Queued => match &mut queued {
                            Some(range) if range.end == index => range.end += 1,
                            other => {
                                if let Some(range) = other.replace(index..index + 1) {
                                    let (place, key) = (Place::new(job, run.shape), Key::new(job, run, range.start));
                                    self.queue.push((&self.pools, &self.shapes), place, key, range.end);
                                }
                            }
                        },
                        task::State::Backoff { until } => {
                            self.backoff.insert((*until, task));
                        }
                        task::State::Leased(first, copy) => {
                            for lease in std::iter::once(first).chain(copy.as_deref()) {
                                let worker = self.workers.or_default(&lease.worker);
                                worker.hold(task, lease.fence, run.shape);
                                self.pools.charge(job.pool, self.shapes.need(run.shape));
                                self.queue.charged(job.pool);
                            }
                        }
                        task::State::Done(done) => made.add(&done.advance),
                        task::State::Failed | task::State::Cancelled => {}
                    }
                }
                if let Some(range) = queued {
                    let (place, key) = (Place::new(job, run.shape), Key::new(job, run, range.start));
                    self.queue.push((&self.pools, &self.shapes), place, key, range.end);
                }
            }
            job.phases[phase].made = made;
        }
    }
}

/// Whether the job can number these tasks too.
pub(crate) fn fits_in_job(job: &Job, tasks: &[TaskRun]) -> bool {
    let new: u64 = tasks.iter().map(|run| u64::from(run.count)).sum();
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
