//! The books: what every pool has, waits for and got, from the engine's own records and from what workers did. Shares no code with
//! the engine, and breaks of the law are written down as [`Ledger::wrongs`].

mod owed;
mod pools;

use std::collections::HashMap;

use spool_core::io::{NewJob, Outcome, Record};
use spool_proto::ids::{Fence, JobId, TaskId};
use spool_proto::pool::PoolTree;
use spool_proto::time::{Span, Timestamp};

use crate::kinds::{Amounts, Kinds, MOST};
use crate::num::{count, float, index};
pub(crate) use pools::{Pool, Pools};

/// More of the same would say no more.
const WRONGS_MOST: usize = 20;

/// What is known of a task.
#[derive(Debug, Clone, Copy, Default)]
struct TaskLog {
    /// Live leases: more than one where a second copy runs.
    leases: u8,
    started: bool,
    done: bool,
    failed: bool,
    backoff: bool,
}

#[derive(Debug)]
pub(crate) struct JobLog {
    pub pool: usize,
    pub shape: usize,
    pub standard: bool,
    pub submitted: Timestamp,
    pub deadline: Option<Timestamp>,
    phase_at: Timestamp,
    tasks: Vec<TaskLog>,
    /// Tasks by where they are; all of them are in one of these, are done or failed, or were cancelled.
    pub queued: u32,
    pub backoff: u32,
    /// Leases without room yet, and all leases.
    ready: u32,
    leased: u32,
    /// Calls that have room on a worker.
    running: u32,
    pub done: u32,
    pub failed: u32,
    pub cancelled: u32,
    pub ended: bool,
}

#[derive(Debug)]
struct Lease {
    task: TaskId,
    job: usize,
    /// Its call got room.
    admitted: bool,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    pub kinds: Kinds,
    /// What a task of a shape needs.
    pub needs: Vec<Amounts>,
    pub pools: Pools,
    pub jobs: Vec<JobLog>,
    by_id: HashMap<JobId, usize>,
    leases: HashMap<Fence, Lease>,
    last_fence: Fence,
    pub now: Timestamp,
    pub wrongs: Vec<String>,
    pub leased: u64,
    pub second_copies: u64,
    /// Records, starts and ends: everything that happened to a task.
    pub events: u64,
    /// The fleet as it is, and what of it is in use; by time.
    pub capacity: Amounts,
    pub in_use: Amounts,
    since: Timestamp,
    capacity_time: [f64; MOST],
    in_use_time: [f64; MOST],
}

impl Ledger {
    pub fn new(kinds: Kinds, needs: Vec<Amounts>, tree: &PoolTree) -> Ledger {
        let pools = Pools::new(&kinds, &needs, tree);
        Ledger {
            kinds,
            needs,
            pools,
            jobs: Vec::new(),
            by_id: HashMap::new(),
            leases: HashMap::new(),
            last_fence: Fence(0),
            now: Timestamp::ZERO,
            wrongs: Vec::new(),
            leased: 0,
            second_copies: 0,
            events: 0,
            capacity: Amounts::default(),
            in_use: Amounts::default(),
            since: Timestamp::ZERO,
            capacity_time: [0.0; MOST],
            in_use_time: [0.0; MOST],
        }
    }

    fn wrong(&mut self, what: impl FnOnce() -> String) {
        if self.wrongs.len() < WRONGS_MOST {
            let at = Span(self.now.0).as_secs_f64();
            self.wrongs.push(format!("at {at:.3} s: {}", what()));
        }
    }

    pub fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong(what);
        }
    }

    // ------------------------------------------------------------ jobs

    /// A job on its way to the engine. Gives its number here.
    pub fn submits(&mut self, new: &NewJob, shape: usize) -> usize {
        let standard = new.class == spool_proto::pool::Class::Standard;
        let pool = self.pools.find(&new.pool);
        self.jobs.push(JobLog {
            pool,
            shape,
            standard,
            submitted: self.now,
            deadline: new.deadline,
            phase_at: self.now,
            tasks: Vec::new(),
            queued: 0,
            backoff: 0,
            ready: 0,
            leased: 0,
            running: 0,
            done: 0,
            failed: 0,
            cancelled: 0,
            ended: false,
        });
        self.jobs.len() - 1
    }

    pub fn accepted(&mut self, job: usize, id: JobId) {
        let before = self.by_id.insert(id, job);
        self.expect(before.is_none(), || format!("{id} was given to two jobs"));
        let pool = self.jobs[job].pool;
        self.pools.all[pool].jobs += 1;
    }

    pub fn refused(&mut self, job: usize) {
        self.jobs[job].ended = true;
        let pool = self.jobs[job].pool;
        self.pools.all[pool].refused += 1;
    }

    pub fn job_of(&self, id: JobId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// Its phase has begun already.
    pub fn has_tasks(&self, job: usize) -> bool {
        !self.jobs[job].tasks.is_empty()
    }

    // ------------------------------------------------------------ what the engine decides

    pub fn read(&mut self, record: &Record) {
        match record {
            Record::PhaseStarted { job, tasks, .. } => self.phase(*job, tasks.iter().map(|run| run.count).sum()),
            Record::Leased { task, fence, .. } => self.lease(*task, *fence),
            Record::Finished { task, fence, .. } => self.finish(*task, *fence),
            Record::AttemptFailed { task, fence, retry_at, .. } => self.attempt_failed(*task, *fence, *retry_at),
            Record::LeaseEnded { task, fence, .. } => {
                if let Some(job) = self.end_lease(*task, Some(*fence)) {
                    let log = self.jobs[job].tasks.get(at(*task));
                    if log.is_some_and(|log| log.leases == 0 && !log.done) {
                        self.queue(job, 1);
                    }
                }
            }
            Record::TaskCancelled { task, .. } => {
                if let Some(job) = self.end_lease(*task, None) {
                    self.jobs[job].cancelled += 1;
                }
            }
            Record::CancelAsked { job, .. } => {
                if let Some(job) = self.job_of(*job) {
                    self.cancel_waiting(job);
                }
            }
            Record::JobMoved { job, pool, .. } => {
                let to = self.pools.find(pool);
                if let Some(job) = self.job_of(*job) {
                    self.move_job(job, to);
                }
            }
            Record::JobFinished { job, outcome, .. } => self.job_finished(*job, outcome),
            Record::PoolsApplied { change, .. } => self.pools.apply(&self.kinds, &change.tree, &self.needs, self.now),
            Record::JobForgotten { job } => {
                self.by_id.remove(job);
            }
            // Scenarios have phases only.
            Record::Stepped { .. }
            | Record::Signalled { .. }
            | Record::JobSubmitted { .. }
            | Record::JobRetried { .. }
            | Record::PrioritySet { .. }
            | Record::PoolHeld { .. }
            | Record::AttemptForgiven { .. }
            | Record::WorkerJudged { .. }
            | Record::Cordoned { .. } => {}
        }
    }

    fn phase(&mut self, id: JobId, tasks: u32) {
        let Some(job) = self.job_of(id) else { return self.wrong(|| format!("a phase of {id}, which nobody knows")) };
        let log = &mut self.jobs[job];
        log.phase_at = self.now;
        log.tasks = vec![TaskLog::default(); index(u64::from(tasks))];
        let pool = log.pool;
        self.pools.all[pool].tasks += u64::from(tasks);
        self.events += u64::from(tasks);
        self.queue(job, tasks);
    }

    fn queue(&mut self, job: usize, tasks: u32) {
        let log = &mut self.jobs[job];
        log.queued += tasks;
        let (now, pool, shape, standard) = (self.now, log.pool, log.shape, log.standard);
        self.pools.change(pool, self.now, |p| p.queue(now, shape, standard, i64::from(tasks)));
    }

    fn lease(&mut self, task: TaskId, fence: Fence) {
        self.events += 1;
        self.leased += 1;
        let last = self.last_fence;
        self.expect(fence > last, || format!("{task}: fence {fence:?} after {last:?}"));
        self.last_fence = fence;
        let Some(job) = self.job_of(task.job) else {
            return self.wrong(|| format!("{task} was leased, nobody knows it"));
        };
        let ended = self.jobs[job].ended;
        self.expect(!ended, || format!("{task} was leased after its job's end"));
        let Some(log) = self.jobs[job].tasks.get_mut(at(task)) else {
            return self.wrong(|| format!("{task} was leased, its job has no such task"));
        };
        let before = *log;
        log.leases += 1;
        log.backoff = false;
        self.expect(!before.done && !before.failed, || format!("{task} was leased though it is over"));
        self.expect(before.leases < 2, || format!("{task} was leased three times at once"));
        self.leases.insert(fence, Lease { task, job, admitted: false });
        let log = &mut self.jobs[job];
        log.leased += 1;
        log.ready += 1;
        let (pool, shape, standard) = (log.pool, log.shape, log.standard);
        let first = before.leases == 0;
        self.second_copies += u64::from(!first);
        if first && before.backoff {
            log.backoff -= 1;
        } else if first {
            log.queued = log.queued.saturating_sub(1);
        }
        let from_queue = first && !before.backoff;
        let (now, need) = (self.now, self.needs[shape]);
        self.pools.change(pool, self.now, |p| {
            p.queue(now, shape, standard, -i64::from(from_queue));
            p.ready(shape, standard, 1);
            p.leased.add(&need, 1);
        });
    }

    /// The job, if there was such a lease.
    fn end_lease(&mut self, task: TaskId, fence: Option<Fence>) -> Option<usize> {
        self.events += 1;
        let by_task = || self.leases.iter().find(|(_, lease)| lease.task == task).map(|(fence, _)| *fence);
        let lease = fence.or_else(by_task).and_then(|fence| self.leases.remove(&fence));
        let Some(lease) = lease.filter(|lease| lease.task == task) else {
            self.wrong(|| format!("{task}: the end of a lease nobody held ({fence:?})"));
            return None;
        };
        let job = lease.job;
        let log = &mut self.jobs[job];
        if let Some(state) = log.tasks.get_mut(at(task)) {
            state.leases -= 1;
        }
        log.leased -= 1;
        log.ready -= u32::from(!lease.admitted);
        let (pool, shape, standard) = (log.pool, log.shape, log.standard);
        let need = self.needs[shape];
        self.pools.change(pool, self.now, |p| {
            p.ready(shape, standard, -i64::from(!lease.admitted));
            p.leased.sub(&need, 1);
        });
        Some(job)
    }

    fn finish(&mut self, task: TaskId, fence: Fence) {
        let Some(job) = self.end_lease(task, Some(fence)) else { return };
        // A second copy is over with the first that finishes.
        if self.jobs[job].tasks.get(at(task)).is_some_and(|log| log.leases > 0) {
            self.end_lease(task, None);
        }
        let Some(log) = self.jobs[job].tasks.get_mut(at(task)) else { return };
        let twice = std::mem::replace(&mut log.done, true);
        self.expect(!twice, || format!("{task} was finished twice"));
        self.jobs[job].done += 1;
        let pool = self.jobs[job].pool;
        self.pools.all[pool].done += 1;
    }

    fn attempt_failed(&mut self, task: TaskId, fence: Fence, retry_at: Option<Timestamp>) {
        let Some(job) = self.end_lease(task, Some(fence)) else { return };
        let pool = self.jobs[job].pool;
        self.pools.all[pool].failed_attempts += 1;
        let Some(log) = self.jobs[job].tasks.get_mut(at(task)) else { return };
        if log.done || log.leases > 0 {
            return;
        }
        if retry_at.is_some() {
            log.backoff = true;
            self.jobs[job].backoff += 1;
        } else {
            log.failed = true;
            self.jobs[job].failed += 1;
            self.pools.all[pool].failed += 1;
            // With it fails its job, and what waits of it is cancelled.
            self.cancel_waiting(job);
        }
    }

    /// Its wait after a failure is over: it stands in the queue.
    pub fn backoff_over(&mut self, task: TaskId) {
        let Some(job) = self.job_of(task.job) else { return };
        let Some(log) = self.jobs[job].tasks.get_mut(at(task)) else { return };
        if std::mem::take(&mut log.backoff) {
            self.jobs[job].backoff -= 1;
            self.queue(job, 1);
        }
    }

    fn cancel_waiting(&mut self, job: usize) {
        let log = &mut self.jobs[job];
        let (now, queued) = (self.now, log.queued);
        let (pool, shape, standard) = (log.pool, log.shape, log.standard);
        log.cancelled += queued + log.backoff;
        (log.queued, log.backoff) = (0, 0);
        log.tasks.iter_mut().for_each(|task| task.backoff = false);
        self.pools.change(pool, self.now, |p| p.queue(now, shape, standard, -i64::from(queued)));
    }

    fn move_job(&mut self, job: usize, to: usize) {
        let log = &mut self.jobs[job];
        let (from, shape, standard) = (std::mem::replace(&mut log.pool, to), log.shape, log.standard);
        let (queued, ready, leased, running) = (log.queued, log.ready, log.leased, log.running);
        let (now, need) = (self.now, self.needs[shape]);
        self.pools.change(from, self.now, |p| {
            p.queue(now, shape, standard, -i64::from(queued));
            p.ready(shape, standard, -i64::from(ready));
            p.leased.sub(&need, u64::from(leased));
            p.running.sub(&need, u64::from(running));
        });
        self.pools.change(to, self.now, |p| {
            p.queue(now, shape, standard, i64::from(queued));
            p.ready(shape, standard, i64::from(ready));
            p.leased.add(&need, u64::from(leased));
            p.running.add(&need, u64::from(running));
        });
        self.pools.all[from].moved_away += 1;
    }

    fn job_finished(&mut self, id: JobId, outcome: &Outcome) {
        let Some(job) = self.job_of(id) else { return self.wrong(|| format!("{id} ended, nobody knows it")) };
        let log = &mut self.jobs[job];
        let twice = std::mem::replace(&mut log.ended, true);
        let (leased, open) = (log.leased, log.queued + log.backoff);
        let late = log.deadline.is_some_and(|deadline| self.now > deadline);
        let (pool, took) = (log.pool, self.now.since(log.submitted));
        log.tasks = Vec::new();
        self.expect(!twice, || format!("{id} ended twice"));
        self.expect(leased == 0, || format!("{id} ended while {leased} of its tasks were leased"));
        let pool = &mut self.pools.all[pool];
        pool.late_jobs += u64::from(late);
        match outcome {
            Outcome::Done { .. } => {
                pool.jobs_done += 1;
                pool.turnarounds.push(took.0);
                self.expect(open == 0, || format!("{id} is done, though {open} of its tasks are not"));
            }
            Outcome::Failed { .. } | Outcome::Cancelled { .. } => pool.jobs_failed += 1,
        }
    }

    // ------------------------------------------------------------ what workers do

    pub fn admitted(&mut self, job: usize, fence: Fence) {
        let log = &mut self.jobs[job];
        log.running += 1;
        let ready = match self.leases.get_mut(&fence) {
            Some(lease) => !std::mem::replace(&mut lease.admitted, true),
            None => false,
        };
        log.ready -= u32::from(ready);
        let (pool, shape, standard) = (log.pool, log.shape, log.standard);
        let need = self.needs[shape];
        self.pools.change(pool, self.now, |p| {
            p.ready(shape, standard, -i64::from(ready));
            p.running.add(&need, 1);
        });
        self.time_passes();
        self.in_use.add(&need, 1);
    }

    pub fn started(&mut self, job: usize, task: TaskId, waited: Span, cold: bool) {
        self.events += 1;
        let log = &mut self.jobs[job];
        let pool = &mut self.pools.all[log.pool];
        pool.starts.push(waited.0);
        pool.cold_starts += u64::from(cold);
        if let Some(state) = log.tasks.get_mut(at(task))
            && !std::mem::replace(&mut state.started, true)
        {
            pool.waits.push(self.now.since(log.phase_at).0);
        }
    }

    pub fn released(&mut self, job: usize, ran: Span, finished: bool) {
        let log = &mut self.jobs[job];
        log.running -= 1;
        let (pool, shape) = (log.pool, log.shape);
        let need = self.needs[shape];
        self.pools.change(pool, self.now, |p| p.running.sub(&need, 1));
        let cores = self.kinds.column("cpu").map_or(1.0, |column| float(need.0[column]) / 1000.0);
        let pool = &mut self.pools.all[pool];
        pool.used_core_s += cores * ran.as_secs_f64();
        if !finished {
            pool.wasted_core_s += cores * ran.as_secs_f64();
        }
        self.time_passes();
        self.in_use.sub(&need, 1);
    }

    /// A result came that the engine did not take: another copy was first, or its lease was over.
    pub fn in_vain(&mut self, job: usize, ran: Span) {
        let log = &self.jobs[job];
        let cores = self.kinds.column("cpu").map_or(1.0, |c| float(self.needs[log.shape].0[c]) / 1000.0);
        self.pools.all[log.pool].wasted_core_s += cores * ran.as_secs_f64();
    }

    pub fn preempted(&mut self, job: usize) {
        let pool = self.jobs[job].pool;
        self.pools.all[pool].preempted += 1;
    }

    // ------------------------------------------------------------ the fleet

    pub fn fleet_changes(&mut self, worker: &Amounts, comes: bool) {
        self.time_passes();
        if comes { self.capacity.add(worker, 1) } else { self.capacity.sub(worker, 1) }
    }

    /// Adds up what was used until now.
    pub fn time_passes(&mut self) {
        let passed = self.now.since(self.since).as_secs_f64();
        self.since = self.now;
        for column in 0..self.kinds.names().len() {
            self.capacity_time[column] += passed * float(self.capacity.0[column]);
            self.in_use_time[column] += passed * float(self.in_use.0[column]);
        }
    }

    /// Of the fleet's capacity over the whole time, 0 to 1.
    pub fn utilisation(&self, column: usize) -> f64 {
        self.in_use_time[column] / self.capacity_time[column].max(1e-9)
    }

    /// Of every task accepted: done, failed, cancelled, queued, waiting after a failure, leased.
    pub fn whereabouts(&self) -> [u64; 6] {
        let mut sums = [0; 6];
        for log in &self.jobs {
            // A second copy is one task.
            let doubled: u64 = log.tasks.iter().map(|task| u64::from(task.leases.saturating_sub(1))).sum();
            let done_and_leased = log.tasks.iter().filter(|task| task.done && task.leases > 0).count();
            let leased = u64::from(log.leased) - doubled - count(done_and_leased);
            let parts = [log.done, log.failed, log.cancelled, log.queued, log.backoff].map(u64::from);
            sums.iter_mut().zip(parts.into_iter().chain([leased])).for_each(|(sum, part)| *sum += part);
        }
        sums
    }

    /// How long the task that waits longest for its first start has waited, per pool.
    pub fn oldest_waits(&self) -> Vec<Option<Span>> {
        let mut oldest: Vec<Option<Span>> = vec![None; self.pools.all.len()];
        for log in self.jobs.iter().filter(|log| !log.ended && log.queued + log.ready > 0) {
            if log.tasks.iter().any(|task| !task.started) {
                let waited = self.now.since(log.phase_at);
                oldest[log.pool] = oldest[log.pool].max(Some(waited));
            }
        }
        oldest
    }
}

fn at(task: TaskId) -> usize {
    index(u64::from(task.index))
}
