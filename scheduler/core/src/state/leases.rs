//! Leases begin and end: task, worker, pool and job are told of it together.

use spool_proto::failure::Failure;
use spool_proto::ids::{Fence, JobId, TaskId, WorkerName};
use spool_proto::time::Timestamp;

use super::{Illegal, State, end_of, illegal_job, illegal_task};
use crate::job;
use crate::queue::{Key, Place};
use crate::task::{self, Lease};

impl State {
    pub(super) fn leased(
        &mut self,
        id: TaskId,
        fence: Fence,
        worker: &WorkerName,
        at: Timestamp,
    ) -> Result<(), Illegal> {
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
        // A reactive job may have gone on without a lease before.
        job.dirty_header |= first || job.started.is_none();
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
    pub(super) fn mark_tail(&mut self, id: JobId) {
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
    pub(super) fn end_lease(&mut self, id: TaskId, event: task::Event) -> Result<Lease, Illegal> {
        let job = self.jobs.get_mut(&id.job).ok_or(Illegal::NoSuchJob(id.job))?;
        let task = job.task(id.index).ok_or(Illegal::NoSuchTask(id))?;
        let first =
            task.lease().cloned().ok_or(Illegal::Task { task: id, state: task.state.name(), event: "end a lease" })?;
        let copy = task.copy().cloned();
        let fence = event.fence().unwrap_or(first.fence);
        let state = task.state.next(event).map_err(illegal_task(id))?;
        job.change(id.index, |task| task.state = state);
        let left = job.task(id.index).and_then(|task| task.lease()).map(|lease| lease.fence);
        job.dirty_header |= left.is_none() && job.reaction.cancelling.remove(&id.index);
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
    pub(super) fn count_running(&mut self, id: TaskId, worker: &WorkerName, there: bool) {
        let Some(held) = self.workers.get(worker).and_then(|worker| worker.held.get(&id)) else { return };
        let phase = self.jobs.get_mut(&id.job).expect("it has a lease").phase_of(id.index);
        if there {
            phase.making.add(&held.advance);
            phase.running += u32::from(held.started.is_some());
        } else {
            phase.making.sub(&held.advance);
            phase.running -= u32::from(held.started.is_some());
        }
    }

    /// The worker and the pool have back what the lease took.
    pub(super) fn drop_lease(&mut self, id: TaskId, name: &WorkerName) {
        let job = &self.jobs[&id.job];
        let shape = job.run_of(id.index).expect("it has one").shape;
        self.pools.release(job.pool, self.shapes.need(shape));
        self.queue.released((&self.pools, &self.shapes), job.pool);
        let worker = self.workers.get_mut(name).expect("a lease's worker is indexed");
        let held = worker.drop_lease(id, &self.shapes);
        if let Some(taker) = held.and_then(|held| held.taker).and_then(|name| self.workers.get_mut(&name)) {
            taker.expecting.remove(&id);
        }
        if !self.touched.contains(name) {
            self.touched.insert(name.clone());
        }
    }

    pub(super) fn attempt_failed(
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
                self.job_mut(id.job)?.close_phase(id.index, at);
                if self.jobs[&id.job].new.reactive {
                    return Ok(());
                }
                let failure = self.verdict(id, failure);
                self.turn(id.job, job::Event::TaskFailed { failure })?;
                self.cancel_waiting(id.job, at)
            }
        }
    }

    pub(super) fn attempt_forgiven(&mut self, id: TaskId, fence: Fence) -> Result<(), Illegal> {
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
    pub(super) fn verdict(&self, id: TaskId, failure: &Failure) -> Failure {
        let job = &self.jobs[&id.job];
        let (task, run) = (job.task(id.index).expect("it failed"), job.run_of(id.index).expect("it failed"));
        let function = &self.shapes.get(run.shape).function;
        let label = if run.label.is_empty() { String::new() } else { format!(", {}", run.label) };
        let tried = if task.attempts > 1 { format!(" after {} attempts", task.attempts) } else { String::new() };
        let message = format!("{function} ({id}{label}) failed{tried}: {}", failure.message);
        Failure { message, ..failure.clone() }
    }
}
