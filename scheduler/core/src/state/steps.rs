//! What reactive jobs are told: steps of their workflows, and signals.

use spool_proto::ids::{JobId, TaskId};
use spool_proto::time::Timestamp;

use super::{Illegal, State, fits_in_job, illegal_job};
use crate::io::{Blob, Signal, Step};
use crate::job::{self, Life};
use crate::queue::{Key, Place};
use crate::task;

impl State {
    pub(super) fn stepped(&mut self, id: JobId, step: &Step, at: Timestamp) -> Result<(), Illegal> {
        let job = self.jobs.get(&id).ok_or(Illegal::NoSuchJob(id))?;
        if !job.new.reactive || !job.life.goes_on() {
            return Err(illegal_job(id)((job.state().name(), "take a step")));
        }
        if !fits_in_job(job, step.groups.iter().flat_map(|group| &group.tasks)) {
            return Err(Illegal::TooManyTasks { job: id });
        }
        for index in &step.cancel {
            self.cancel_one(TaskId { job: id, index: *index }, at)?;
        }
        for group in &step.groups {
            let job = self.jobs.get_mut(&id).expect("just found");
            job.push_phase(group.name.clone(), group.tasks.clone(), at, &mut self.shapes);
            let phase = job.phases.last_mut().expect("just pushed");
            phase.finished = (phase.counts.total() == 0).then_some(at);
            self.stand_last_phase(id);
        }
        let job = self.job_mut(id)?;
        job.reaction.history.step(step);
        (job.reaction.wake, job.reaction.rests) = (step.wake, step.rests);
        job.dirty_header = true;
        let is_idle = job.life == Life::Queued && job.counts().open() == 0;
        self.new_alarms.push(id);
        match &step.outcome {
            Some(outcome) => {
                self.turn(id, job::Event::End(outcome.clone()))?;
                self.cancel_waiting(id, at)
            }
            None if is_idle => self.turn(id, job::Event::Begun),
            None => {
                self.mark_tail(id);
                Ok(())
            }
        }
    }

    /// A task that waits is cancelled, one with a worker will be when the worker lets go. What is over stays as it is.
    fn cancel_one(&mut self, id: TaskId, at: Timestamp) -> Result<(), Illegal> {
        let job = self.jobs.get_mut(&id.job).ok_or(Illegal::NoSuchJob(id.job))?;
        let state = &job.task(id.index).ok_or(Illegal::NoSuchTask(id))?.state;
        match state {
            task::State::Queued | task::State::Backoff { .. } => {
                if let task::State::Backoff { until } = state {
                    self.backoff.remove(&(*until, id));
                }
                let run = job.run_of(id.index).expect("it has one");
                let (place, key) = (Place::new(job, run.shape), Key::new(job, run, id.index));
                self.queue.remove(&self.pools, place, key);
                job.change(id.index, |task| {
                    task.state = task.state.next(task::Event::Cancel).expect("queued or in back-off");
                });
                job.close_phase(id.index, at);
            }
            task::State::Leased(..) => {
                job.reaction.cancelling.insert(id.index);
            }
            task::State::Done(_) | task::State::Failed | task::State::Cancelled => {}
        }
        Ok(())
    }

    pub(super) fn signalled(
        &mut self,
        id: JobId,
        (name, dedupe): (&str, &str),
        payload: &Blob,
        at: Timestamp,
    ) -> Result<(), Illegal> {
        let job = self.job_mut(id)?;
        if !job.new.reactive || !job.life.goes_on() {
            return Err(illegal_job(id)((job.state().name(), "take a signal")));
        }
        let number = job.reaction.history.last_signal() + 1;
        let (name, dedupe, payload) = (name.into(), dedupe.into(), payload.clone());
        job.reaction.history.signalled(Signal { number, name, dedupe, payload, at });
        job.dirty_header = true;
        Ok(())
    }
}
