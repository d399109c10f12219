//! What people and workflows ask of jobs.

use spool_proto::failure::{Class, Failure};
use spool_proto::ids::JobId;
use spool_proto::time::Timestamp;
use spool_proto::view::JobState;

use crate::engine::Engine;
use crate::io::{Effect, NewJob, Next, Outcome, Record, Refusal, Reply, Token};
use crate::state::fits_in_job;

impl Engine {
    pub(crate) fn submit(&mut self, now: Timestamp, token: Token, new: NewJob, out: &mut Vec<Effect>) {
        if let Some(job) = self.find_request(&new.request_id) {
            return Self::reply(token, Reply::Submitted { job, existing: true }, out);
        }
        if let Err(refusal) = self.check_submit(&new) {
            return Self::refuse(token, refusal, out);
        }
        let job = JobId(self.state.next_job);
        self.record(Record::JobSubmitted { job, new, at: now }, out);
        Self::reply(token, Reply::Submitted { job, existing: false }, out);
        self.changed(job);
        self.settle(now, job, out);
    }

    /// An answer nobody waits for any more (the job was cancelled, or had answered already) is dropped.
    pub(crate) fn advance(&mut self, now: Timestamp, job: JobId, next: Next, out: &mut Vec<Effect>) {
        if self.state.jobs.get(&job).is_some_and(|job| job.new.reactive) {
            return self.step(now, job, next, out);
        }
        let Some(waiting) = self.state.jobs.get(&job).filter(|job| job.waits_for_workflow()) else { return };
        match next {
            Next::Phase { name, tasks } if fits_in_job(waiting, tasks.iter()) => {
                self.record(Record::PhaseStarted { job, name, tasks, at: now }, out);
                self.settle(now, job, out);
            }
            Next::Phase { name, .. } => {
                let failure = too_many_tasks(job, &format!("phase {name}"));
                self.finish(now, job, Outcome::Failed { failure }, out);
            }
            Next::Step(_) => {
                let message = format!("the workflow of {job} took a step, but the job is not reactive; this is a bug");
                let failure = Failure::new(Class::Internal, "bad_step", message);
                self.finish(now, job, Outcome::Failed { failure }, out);
            }
            Next::Finish { output } => self.finish(now, job, Outcome::Done { output }, out),
            Next::Fail { failure } => self.finish(now, job, Outcome::Failed { failure }, out),
        }
        self.changed(job);
    }

    pub(crate) fn cancel(&mut self, now: Timestamp, token: Token, id: JobId, reason: String, out: &mut Vec<Effect>) {
        let Some(job) = self.state.jobs.get(&id) else {
            return Self::refuse(token, Refusal::NoSuchJob(id), out);
        };
        match job.state() {
            JobState::Queued | JobState::Running => {
                self.record(Record::CancelAsked { job: id, reason, at: now }, out);
                self.revoke_all(id, out);
                self.settle(now, id, out);
                self.changed(id);
                Self::reply(token, Reply::Ok, out);
            }
            JobState::Cancelling | JobState::Cancelled => Self::reply(token, Reply::Ok, out),
            state @ (JobState::Done | JobState::Failed) => {
                let advice = "there is nothing left to cancel";
                Self::refuse(token, Refusal::WrongState { job: id, state: state.name(), advice }, out);
            }
        }
    }

    pub(crate) fn retry(&mut self, now: Timestamp, token: Token, id: JobId, out: &mut Vec<Effect>) {
        let Some(job) = self.state.jobs.get(&id) else {
            return Self::refuse(token, Refusal::NoSuchJob(id), out);
        };
        let advice = match job.state() {
            JobState::Failed | JobState::Cancelled => {
                // Pools change with no regard to what is over: its own may have gone, or been divided.
                if let Err(refusal) = self.find_leaf(&job.new.pool) {
                    return Self::refuse(token, refusal, out);
                }
                self.record(Record::JobRetried { job: id, at: now }, out);
                self.settle(now, id, out);
                self.changed(id);
                return Self::reply(token, Reply::Ok, out);
            }
            JobState::Queued | JobState::Running => "it is under way; only failed and cancelled jobs are retried",
            JobState::Cancelling => "wait until workers have let go of it, then retry",
            JobState::Done => "it is done; submit it anew",
        };
        Self::refuse(token, Refusal::WrongState { job: id, state: job.state().name(), advice }, out);
    }

    pub(crate) fn set_priority(
        &mut self,
        now: Timestamp,
        token: Token,
        id: JobId,
        priority: u8,
        out: &mut Vec<Effect>,
    ) {
        let Some(job) = self.state.jobs.get(&id) else {
            return Self::refuse(token, Refusal::NoSuchJob(id), out);
        };
        let state = job.state();
        if state.is_final() {
            let advice = "its priority matters no more";
            return Self::refuse(token, Refusal::WrongState { job: id, state: state.name(), advice }, out);
        }
        let before = job.request().priority;
        if before != priority {
            let as_before = |part: &JobId| self.state.jobs[part].new.priority == before;
            let parts = self.open_parts(id).into_iter().filter(as_before);
            for job in std::iter::once(id).chain(parts).collect::<Vec<_>>() {
                self.record(Record::PrioritySet { job, priority, at: now }, out);
                self.changed(job);
            }
        }
        Self::reply(token, Reply::Ok, out);
    }

    pub(crate) fn forget(&mut self, job: JobId, out: &mut Vec<Effect>) {
        if self.state.jobs.get(&job).is_some_and(|job| job.state().is_final()) {
            self.record(Record::JobForgotten { job }, out);
        }
    }
}

pub(crate) fn too_many_tasks(job: JobId, what: &str) -> Failure {
    let message = format!("{what} would give {job} more than 2^32 tasks; split it into several jobs");
    Failure::new(Class::Spec, "too_many_tasks", message)
}
