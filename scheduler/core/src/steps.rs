//! Reactive jobs: what their workflows do, and what people send them.

use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{JobId, TaskId, WorkerName};
use spool_proto::time::Timestamp;

use crate::commands::too_many_tasks;
use crate::engine::Engine;
use crate::io::{
    Blob, Effect, Group, Next, Outcome, Record, Refusal, Reply, SIGNAL_BYTES_MAX, SIGNALS_MAX, Step, Token,
};
use crate::job::{Job, Life};
use crate::revoke;
use crate::state::fits_in_job;
use crate::task::Task;

impl Engine {
    /// The answer of a reactive job's workflow. Once the job is ending or over, it is dropped.
    pub(crate) fn step(&mut self, now: Timestamp, id: JobId, next: Next, out: &mut Vec<Effect>) {
        let Some(job) = self.state.jobs.get_mut(&id).filter(|job| job.life.goes_on()) else { return };
        job.reaction.asked = false;
        let step = match next {
            Next::Step(step) => step,
            Next::Phase { name, tasks } => Step { groups: vec![Group { name, tasks }], ..Step::default() },
            Next::Finish { output } => Step::end(Outcome::Done { output }),
            Next::Fail { failure } => Step::end(Outcome::Failed { failure }),
        };
        let step = match problem(job, &step) {
            Some(failure) => Step::end(Outcome::Failed { failure }),
            None => step,
        };
        if changes_nothing(job, &step) {
            return;
        }
        let (cancelled, ends) = (step.cancel.clone(), step.outcome.is_some());
        self.record(Record::Stepped { job: id, step, at: now }, out);
        self.changed(id);
        if ends {
            self.revoke_all(id, out);
            return self.settle(now, id, out);
        }
        for index in cancelled {
            let leases = self.state.jobs[&id].task(index).into_iter().flat_map(Task::leases);
            for worker in leases.map(|lease| lease.worker.clone()).collect::<Vec<WorkerName>>() {
                self.revoke(&worker, TaskId { job: id, index }, revoke::CANCELLED, out);
            }
        }
    }

    pub(crate) fn signal(
        &mut self,
        now: Timestamp,
        token: Token,
        id: JobId,
        (name, dedupe, payload): (String, String, Blob),
        out: &mut Vec<Effect>,
    ) {
        match self.check_signal(id, &name, &dedupe, &payload) {
            Err(refusal) => Self::refuse(token, refusal, out),
            Ok(false) => Self::reply(token, Reply::Ok, out),
            Ok(true) => {
                self.record(Record::Signalled { job: id, name, dedupe, payload, at: now }, out);
                self.changed(id);
                Self::reply(token, Reply::Ok, out);
                self.ask(id, out);
            }
        }
    }

    /// False: the job has it already.
    fn check_signal(&self, id: JobId, name: &str, dedupe: &str, payload: &Blob) -> Result<bool, Refusal> {
        let job = self.state.jobs.get(&id).ok_or(Refusal::NoSuchJob(id))?;
        if !job.new.reactive {
            return Err(Refusal::NotReactive { job: id, service: job.new.service.clone() });
        }
        if !dedupe.is_empty() && job.reaction.history.knows(dedupe) {
            return Ok(false);
        }
        if !job.life.goes_on() {
            let advice = "its workflow will not look at signals any more";
            return Err(Refusal::WrongState { job: id, state: job.state().name(), advice });
        }
        let bytes = name.len() + dedupe.len() + payload.len();
        if bytes > SIGNAL_BYTES_MAX {
            return Err(Refusal::SignalTooLarge { bytes });
        }
        if job.signals().len() >= SIGNALS_MAX {
            return Err(Refusal::SignalsFull(id));
        }
        Ok(true)
    }
}

/// Why the step cannot be taken.
fn problem(job: &Job, step: &Step) -> Option<Failure> {
    if !fits_in_job(job, step.groups.iter().flat_map(|group| &group.tasks)) {
        return Some(too_many_tasks(job.id(), "a step of its workflow"));
    }
    let unknown = step.cancel.iter().find(|index| job.task(**index).is_none())?;
    let message = format!(
        "the workflow of {} cancels task {unknown}, which it never started; this is a bug in the workflow or in a newer or older \
         version of it",
        job.id()
    );
    Some(Failure::new(Class::Internal, "bad_step", message))
}

/// Nothing that the journal would have to keep.
fn changes_nothing(job: &Job, step: &Step) -> bool {
    let takes = job.signals().next().is_some_and(|signal| signal.number <= step.signals_taken);
    let is_idle = job.life == Life::Queued && job.counts().open() == 0;
    let Step { log, snapshot: _, groups, cancel, wake, signals_taken: _, rests: _, outcome } = step;
    let is_empty = log.is_none() && groups.is_empty() && cancel.is_empty() && outcome.is_none();
    is_empty && !takes && !is_idle && *wake == job.wake()
}
