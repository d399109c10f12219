//! What workers say about the tasks they hold, and what it means for the task and its job. What a failure means is in `failures`.

use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, TaskId, WorkerName};
use spool_proto::time::Timestamp;

use crate::engine::Engine;
use crate::io::{Advance, Effect, Record, Report, Start, ToWorker};
use crate::job::Job;
use crate::revoke;
use crate::state::is_ending;

impl Engine {
    /// Only the holder of the task's lease is listened to; all others are told that it is stale.
    pub(crate) fn report(
        &mut self,
        now: Timestamp,
        worker: &WorkerName,
        task: TaskId,
        fence: Fence,
        report: Report,
        out: &mut Vec<Effect>,
    ) {
        let lease = self.state.task(task).and_then(|task| task.lease_on(worker));
        if lease.is_none_or(|lease| lease.fence != fence) {
            return self.send(worker, ToWorker::Revoke { task, fence, reason: revoke::STALE }, out);
        }
        match report {
            Report::Started { at, start } => {
                self.count_start(worker, task, start, now);
                self.task_started(now, worker, task, at);
            }
            Report::Advanced(advance) => self.task_advanced(worker, task, advance),
            Report::Finished { started, finished, answer, advance } => {
                if let Some(run) = self.state.jobs.get(&task.job).and_then(|job| job.run_of(task.index)) {
                    self.state.shapes.learn(run.shape, finished.since(started));
                }
                let known = self.state.task(task).into_iter();
                let second = known.flat_map(crate::task::Task::leases).find(|lease| lease.fence != fence).cloned();
                self.finished_well(now, worker, task, out);
                self.record(Record::Finished { task, fence, started, finished, answer, advance }, out);
                if let Some(lease) = second {
                    let message = ToWorker::Revoke { task, fence: lease.fence, reason: revoke::SUPERSEDED };
                    self.send(&lease.worker, message, out);
                }
                self.settle_after(now, task, out);
            }
            Report::Failed { failure } => self.task_failed(now, worker, task, (fence, failure), out),
            Report::Returned { reason } => self.let_go(now, task, fence, reason, false, out),
        }
        self.changed(task.job);
    }

    fn count_start(&mut self, worker: &WorkerName, task: TaskId, start: Start, now: Timestamp) {
        let held = self.state.workers.get(worker).and_then(|worker| worker.held.get(&task));
        let leased = self.state.task(task).and_then(|task| task.lease_on(worker)).map(|lease| lease.at);
        let Some((held, leased)) = held.zip(leased).filter(|(held, _)| held.started.is_none()) else { return };
        let key = self.state.shapes.warm_key(held.shape).clone();
        self.tally.started(&key, start, now.since(leased));
    }

    /// The worker runs it: by its report, or by what it says it holds.
    pub(crate) fn task_started(&mut self, now: Timestamp, name: &WorkerName, task: TaskId, at: Timestamp) {
        let worker = self.state.workers.get_mut(name).expect("it holds a lease");
        let held = worker.held.get_mut(&task).expect("it holds the lease");
        if held.started.is_some() {
            return;
        }
        // Too late to take it back.
        let taker = held.taker.take();
        held.began = Some(now);
        let (foreseen, revoked) = (held.charged, held.revoked);
        if revoked == Some(revoke::RETRACTED) {
            worker.keep(task);
        }
        worker.start(task, at, &self.state.shapes);
        if let Some(taker) = taker.and_then(|name| self.state.workers.get_mut(&name)) {
            taker.expecting.remove(&task);
        }
        if !foreseen {
            self.state.touched.insert(name.clone());
        }
        let job = self.state.jobs.get_mut(&task.job).expect("it has a lease");
        if is_older(job, task, name) {
            job.phase_of(task.index).running += 1;
        }
    }

    fn task_advanced(&mut self, name: &WorkerName, task: TaskId, advance: Advance) {
        let worker = self.state.workers.get_mut(name).expect("it holds a lease");
        let held = worker.held.get_mut(&task).expect("it holds the lease");
        let job = self.state.jobs.get_mut(&task.job).expect("it has a lease");
        if is_older(job, task, name) {
            let making = &mut job.phase_of(task.index).making;
            making.sub(&held.advance);
            making.add(&advance);
        }
        held.advance = advance;
    }

    /// The lease ends without a verdict. `lost`: with its worker, while the task may have run.
    pub(crate) fn let_go(
        &mut self,
        now: Timestamp,
        id: TaskId,
        fence: Fence,
        reason: String,
        lost: bool,
        out: &mut Vec<Effect>,
    ) {
        let job = &self.state.jobs[&id.job];
        let twice = job.task(id.index).is_some_and(|task| task.copy().is_some());
        if twice {
            self.record(Record::LeaseEnded { task: id, fence, reason, counted: lost, at: now }, out);
            return self.changed(id.job);
        }
        if is_ending(&job.life) || job.reaction.cancelling.contains(&id.index) {
            self.record(Record::TaskCancelled { task: id, at: now }, out);
            return self.settle_after(now, id, out);
        }
        let losses = job.task(id.index).map_or(0, |task| task.losses);
        if lost && losses >= self.config.max_losses {
            let times = u32::from(losses) + 1;
            let message = format!("{times} workers were lost while they ran it, the last one because: {reason}");
            let failure = Failure::new(Class::Internal, "workers_lost", message);
            self.record(
                Record::AttemptFailed { task: id, fence, failure, retry_at: None, counted: true, at: now },
                out,
            );
            self.end_with(now, id, out);
        } else {
            self.record(Record::LeaseEnded { task: id, fence, reason, counted: lost, at: now }, out);
        }
        self.changed(id.job);
    }

    /// A task has failed for good, and with it its job: unless that is reactive, then its workflow decides.
    pub(crate) fn end_with(&mut self, now: Timestamp, task: TaskId, out: &mut Vec<Effect>) {
        if !self.state.jobs[&task.job].new.reactive {
            self.revoke_all(task.job, out);
        }
        self.settle_after(now, task, out);
    }

    /// As [`Self::settle`], for a change that only matters if the job ends, its phase is complete, or, where its workflow looks at
    /// every task, the task is over.
    pub(crate) fn settle_after(&mut self, now: Timestamp, task: TaskId, out: &mut Vec<Effect>) {
        self.changed(task.job);
        let Some(job) = self.state.jobs.get(&task.job) else { return };
        let is_over = job.task(task.index).is_some_and(|task| task.state.is_over());
        if !job.new.reactive || !job.life.goes_on() || is_over {
            self.settle(now, task.job, out);
        }
    }
}

/// Whether the task's older lease, the one that is counted, is on this worker.
fn is_older(job: &Job, task: TaskId, worker: &WorkerName) -> bool {
    job.task(task.index).and_then(|task| task.lease()).is_some_and(|lease| lease.worker == *worker)
}
