//! What follows on a failure: another attempt elsewhere, or the end of the task. What it says of the host is in `health`.

use std::collections::BTreeSet;

use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, TaskId, WorkerName};
use spool_proto::time::Timestamp;
use spool_proto::view::WorkerHealth;

use crate::engine::Engine;
use crate::io::{Effect, Record};
use crate::job::Job;
use crate::retry;
use crate::snapshot::AttemptEnd;
use crate::state::is_ending;
use crate::task::Task;

/// Whether task or host is at fault, such a failure leaves open.
pub(crate) fn is_suspicious(class: Class) -> bool {
    matches!(class, Class::Internal | Class::Host | Class::Transient)
}

impl Engine {
    pub(crate) fn task_failed(
        &mut self,
        now: Timestamp,
        worker: &WorkerName,
        id: TaskId,
        (fence, failure): (Fence, Failure),
        out: &mut Vec<Effect>,
    ) {
        self.hold_against(now, worker, id, fence, &failure, out);
        let job = &self.state.jobs[&id.job];
        let task = job.task(id.index).expect("it has a lease");
        if is_ending(&job.life) || task.copy().is_some() || job.reaction.cancelling.contains(&id.index) {
            // The other copy decides, or nobody wants to know.
            let reason = format!("it failed on {worker} ({}): {failure}", failure.class);
            return self.let_go(now, id, fence, reason, false, out);
        }
        if failure.class.is_retryable() && self.is_excused(worker, id) {
            let retry_at = Some(now + retry::backoff(&self.config, id, u32::from(task.attempts) + 1));
            self.record(Record::AttemptFailed { task: id, fence, failure, retry_at, counted: false, at: now }, out);
            return self.settle_after(now, id, out);
        }
        let failures = u32::from(task.attempts) + 1;
        let (failure, again) = if !failure.class.is_retryable() {
            (failure, false)
        } else if let Some(poison) = self.poison(task, worker, &failure) {
            (poison, false)
        } else if failures >= u32::from(max_attempts(job, id).max(1)) {
            (failure, false)
        } else if let Some(exhausted) = self.over_budget(job, &failure) {
            (exhausted, false)
        } else {
            (failure, true)
        };
        let retry_at = again.then(|| now + retry::backoff(&self.config, id, failures));
        self.record(Record::AttemptFailed { task: id, fence, failure, retry_at, counted: true, at: now }, out);
        if again { self.settle_after(now, id, out) } else { self.end_with(now, id, out) }
    }

    /// The host is suspected, and somebody else could run the task: then it is not the task's failure. Bounded for each task, so that
    /// what is accepted ends.
    fn is_excused(&self, worker: &WorkerName, id: TaskId) -> bool {
        let job = &self.state.jobs[&id.job];
        let (Some(task), Some(run)) = (job.task(id.index), job.run_of(id.index)) else { return false };
        if *self.health(worker) == WorkerHealth::Healthy || task.excused >= self.config.max_excused {
            return false;
        }
        let shape = self.state.shapes.get(run.shape);
        self.state.workers.iter().any(|(name, other)| {
            name != worker
                && self.takes_leases(name, other)
                && *self.health(name) == WorkerHealth::Healthy
                && other.offers(&shape.backend)
                && shape.resources.fits_in(&other.capacity)
        })
    }

    /// With this failure the task has failed on so many different healthy hosts that it must be its own fault.
    fn poison(&self, task: &Task, worker: &WorkerName, failure: &Failure) -> Option<Failure> {
        let counts = |end: &&AttemptEnd| end.counted && is_suspicious(end.failure.class);
        let earlier: Vec<&AttemptEnd> = task.history().iter().filter(counts).collect();
        let healthy = |name: &&WorkerName| *self.health(name) == WorkerHealth::Healthy;
        let on = earlier.iter().map(|end| &end.worker).chain([worker]);
        let hosts: BTreeSet<&WorkerName> = on.filter(healthy).collect();
        if !is_suspicious(failure.class) || hosts.len() < self.config.poison_hosts {
            return None;
        }
        let names = hosts.iter().map(|host| host.0.as_ref()).collect::<Vec<_>>().join(", ");
        let message = format!(
            "it failed on {} healthy hosts ({names}), so it is taken to be at fault itself and is not tried again: {}",
            hosts.len(),
            failure.message
        );
        let said = earlier.iter().map(|end| (&end.worker, &end.failure)).chain([(worker, failure)]);
        let evidence = said.map(|(host, failure)| {
            let (class, code, text) = (failure.class, &failure.code, failure.evidence.trim_end());
            let tail = if text.is_empty() { String::new() } else { format!("\n{text}") };
            format!("{host} ({class}, {code}): {failure}{tail}")
        });
        let evidence = evidence.collect::<Vec<_>>().join("\n");
        Some(Failure::new(failure.class, "poison", message).with_evidence(evidence))
    }

    /// One more retry would be more than the job may have.
    fn over_budget(&self, job: &Job, failure: &Failure) -> Option<Failure> {
        let (used, budget) = (self.retries_used(job), self.retry_budget(job));
        (used >= budget).then(|| {
            let (least, percent) = (self.config.retry_budget_least, self.config.retry_budget_percent);
            let message = format!(
                "the job has used all its {budget} retries (the greater of {least} and {percent} % of its {} tasks); \
                 the last failure: {}",
                job.task_count(),
                failure.message
            );
            Failure::new(failure.class, "retry_budget", message).with_evidence(failure.evidence.clone())
        })
    }

    /// Failed attempts that count, since the job was submitted or last retried.
    pub(crate) fn retries_used(&self, job: &Job) -> u32 {
        job.retries.saturating_sub(job.retries_before)
    }

    pub(crate) fn retry_budget(&self, job: &Job) -> u32 {
        let share = u64::from(job.task_count()) * u64::from(self.config.retry_budget_percent) / 100;
        u32::try_from(share).unwrap_or(u32::MAX).max(self.config.retry_budget_least)
    }
}

/// How many attempts of the task may fail.
fn max_attempts(job: &Job, id: TaskId) -> u8 {
    job.run_of(id.index).and_then(|run| run.max_attempts).unwrap_or(job.new.max_attempts)
}
