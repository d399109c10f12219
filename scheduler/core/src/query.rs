//! What the API may ask. Reading changes nothing.

use std::ops::Bound;

use spool_proto::failure::Failure;
use spool_proto::ids::{Fence, JobId, TaskId, WorkerName};
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::{TaskState, WarmView, WorkerView};

use crate::engine::Engine;
use crate::io::{Advance, Blob, Shape, WarmKey};
use crate::job::Job;
use crate::pools::Kind;
use crate::snapshot::AttemptEnd;
use crate::task::State;
use crate::workers::Worker;

/// One task, as it is now.
#[derive(Debug, Clone)]
pub struct TaskInfo<'a> {
    pub id: TaskId,
    pub phase: &'a str,
    pub label: &'a str,
    pub shape: &'a Shape,
    pub payload: &'a Blob,
    pub weight: u64,
    pub state: TaskState,
    /// From 1; the current one, the last one, or the one to come.
    pub attempt: u32,
    /// Who holds it or finished it.
    pub worker: Option<&'a WorkerName>,
    /// Of the lease that holds or finished it.
    pub fence: Option<Fence>,
    pub leased: Option<Timestamp>,
    /// By the worker's clock.
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    pub advance: Advance,
    pub answer: Option<&'a Blob>,
    /// Attempts that came to nothing, oldest first.
    pub history: &'a [AttemptEnd],
}

impl TaskInfo<'_> {
    /// Why it failed, or why it is tried again.
    pub fn failure(&self) -> Option<&Failure> {
        if self.state == TaskState::Done { None } else { self.history.last().map(|end| &end.failure) }
    }
}

impl Engine {
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.state.jobs.get(&id).map(Box::as_ref)
    }

    /// Newest first.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.state.jobs.values().rev().map(Box::as_ref)
    }

    /// Newest first, only those older than `before`.
    pub fn jobs_before(&self, before: JobId) -> impl DoubleEndedIterator<Item = &Job> {
        self.state.jobs.range(..before).rev().map(|(_, job)| job.as_ref())
    }

    /// The job that was submitted under this request id.
    pub fn find_request(&self, request_id: &str) -> Option<JobId> {
        self.state.requests.get(request_id).copied()
    }

    /// Jobs whose request id begins so.
    pub fn requests_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = JobId> + 'a {
        let from = self.state.requests.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.take_while(move |(id, _)| id.starts_with(prefix)).map(|(_, job)| *job)
    }

    /// Jobs that do a part of this one's work, in the order they came.
    pub fn parts(&self, whole: JobId) -> impl Iterator<Item = &Job> {
        let parts = self.state.parts.range((whole, JobId(0))..=(whole, JobId(u64::MAX)));
        parts.filter_map(|(_, part)| self.job(*part))
    }

    /// Its parts that are not over, theirs, and so on.
    pub(crate) fn open_parts(&self, whole: JobId) -> Vec<JobId> {
        let open = |whole| self.parts(whole).filter(|part| !part.state().is_final()).map(Job::id);
        let mut all: Vec<JobId> = open(whole).collect();
        let mut seen = 0;
        while let Some(part) = all.get(seen).copied() {
            all.extend(open(part));
            seen += 1;
        }
        all
    }

    pub fn task(&self, id: TaskId) -> Option<TaskInfo<'_>> {
        self.job(id.job).and_then(|job| self.task_of(job, id.index))
    }

    /// All tasks of a job, by index.
    pub fn tasks<'a>(&'a self, job: &'a Job) -> impl DoubleEndedIterator<Item = TaskInfo<'a>> {
        (0..job.task_count()).filter_map(|index| self.task_of(job, index))
    }

    fn task_of<'a>(&'a self, job: &'a Job, index: u32) -> Option<TaskInfo<'a>> {
        let (task, run) = (job.task(index)?, job.run_of(index)?);
        let id = TaskId { job: job.id, index };
        let mut info = TaskInfo {
            id,
            phase: &job.phases[usize::try_from(run.phase).ok()?].name,
            label: &run.label,
            shape: self.state.shapes.get(run.shape),
            payload: &run.payload,
            weight: run.weight,
            state: TaskState::Queued,
            attempt: task.attempt(),
            worker: None,
            fence: None,
            leased: None,
            started: None,
            finished: None,
            advance: Advance::default(),
            answer: None,
            history: task.history(),
        };
        match &task.state {
            State::Queued => {}
            State::Backoff { until } => {
                // Its calendar entry goes when the wait is over; from then on it waits for a worker.
                if self.state.backoff.contains(&(*until, id)) {
                    info.state = TaskState::Backoff;
                }
            }
            State::Leased(lease, _) => {
                let held = self.state.workers.get(&lease.worker).and_then(|worker| worker.held.get(&id));
                info.state = match held {
                    Some(held) if !held.charged => TaskState::Prefetched,
                    _ => TaskState::Running,
                };
                info.started = held.and_then(|held| held.started);
                info.advance = held.map(|held| held.advance).unwrap_or_default();
                (info.worker, info.fence, info.leased) = (Some(&lease.worker), Some(lease.fence), Some(lease.at));
            }
            State::Done(done) => {
                info.state = TaskState::Done;
                (info.worker, info.fence) = (Some(&done.worker), Some(done.fence));
                (info.started, info.finished) = (Some(done.started), Some(done.finished));
                (info.advance, info.answer) = (done.advance, Some(&done.answer));
            }
            State::Failed => {
                info.state = TaskState::Failed;
                let last = task.history().last();
                info.worker = last.map(|end| &end.worker);
                info.finished = last.map(|end| end.ended);
            }
            State::Cancelled => info.state = TaskState::Cancelled,
        }
        Some(info)
    }

    /// In order of name.
    pub fn workers(&self) -> impl Iterator<Item = WorkerView> {
        self.state.workers.iter().map(|(name, worker)| self.view(name, worker))
    }

    /// Thousandths of a core that a task of the job might have: of the connected worker that has most, as far as its pool may use them. 0: there is
    /// none.
    pub fn most_cpu(&self, job: &Job) -> u64 {
        let may_use = self.state.pools.most(job.pool, Kind::CPU, !job.new.preemptible);
        let connected = self.state.workers.values().filter(|worker| worker.connected && !worker.silent);
        connected.map(|worker| worker.capacity.cpu).max().unwrap_or(0).min(may_use)
    }

    pub fn worker(&self, name: &WorkerName) -> Option<WorkerView> {
        self.state.workers.get(name).map(|worker| self.view(name, worker))
    }

    fn view(&self, name: &WorkerName, worker: &Worker) -> WorkerView {
        let cordon = self.state.cordons.get(name);
        let held = |charged: bool| {
            let of = worker.held.iter().filter(move |(_, held)| held.charged == charged);
            of.map(|(task, _)| *task).collect()
        };
        WorkerView {
            worker: name.clone(),
            connected: worker.connected && !worker.silent,
            cordoned: cordon.is_some(),
            draining: worker.leaving || cordon.is_some_and(|cordon| cordon.drain),
            reason: cordon.map(|cordon| cordon.reason.clone()).filter(|reason| !reason.is_empty()),
            capacity: worker.capacity.clone(),
            allocated: worker.allocated.clone(),
            backends: worker.backends.clone(),
            running: held(true),
            prefetched: held(false),
            reserved_for: self.reserved.pools_on(name).map(|pool| self.state.pools.name(pool).clone()).collect(),
            last_heard: worker.last_heard,
            health: self.health(name).clone(),
            warm: worker
                .warm
                .iter()
                .filter(|(_, idle)| **idle > 0)
                .map(|(key, idle)| self.worker_warm(worker, key, *idle))
                .collect(),
        }
    }

    fn worker_warm(&self, worker: &Worker, key: &WarmKey, idle: u32) -> WarmView {
        let target = worker.warm_targets.iter().find(|target| target.key == *key).map(|target| target.spec);
        WarmView {
            key: key.to_string(),
            min: target.map_or(0, |spec| spec.min),
            max: target.map_or(0, |spec| spec.most()),
            idle,
            warm_starts: 0,
            cold_starts: 0,
            warm_start_p50: Span::ZERO,
            cold_start_p50: Span::ZERO,
        }
    }

    /// Tasks that wait for a worker, over all jobs.
    pub fn queued(&self) -> u64 {
        self.state.queue.len()
    }
}
