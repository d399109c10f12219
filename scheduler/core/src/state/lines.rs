//! Where tasks stand: into their lines, out of them, and from one to another.

use std::collections::{BTreeMap, BTreeSet};

use spool_proto::ids::{JobId, TaskId};
use spool_proto::time::Timestamp;

use super::{Illegal, State};
use crate::job::{Job, Phase};
use crate::pools::Pools;
use crate::queue::{Key, Place};
use crate::task;

impl State {
    pub(super) fn priority_set(&mut self, id: JobId, priority: u8) -> Result<(), Illegal> {
        self.stand_anew(id, |job, _| {
            job.new.priority = priority;
            job.dirty_header = true;
        })
    }

    /// Changes what a job's tasks stand under: they leave their lines and come back.
    pub(crate) fn stand_anew(&mut self, id: JobId, change: impl FnOnce(&mut Job, &Pools)) -> Result<(), Illegal> {
        // How long a line has waited in vain goes with it.
        let job = self.jobs.get(&id).ok_or(Illegal::NoSuchJob(id))?;
        let shapes: BTreeSet<_> = job.open_runs().map(|run| run.shape).collect();
        let lines = shapes.iter().filter_map(|shape| self.queue.get(self.queue.find(&Place::new(job, *shape))?));
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
    pub(super) fn stand(&mut self, id: JobId, tasks: std::ops::Range<u32>) {
        let job = &self.jobs[&id];
        let Some(run) = job.run_of(tasks.start).filter(|_| !tasks.is_empty()) else { return };
        // While nothing of a shape waits, nobody looks whether it would find room.
        if !self.queue.waits(run.shape) {
            self.closed.remove(run.shape);
        }
        let (place, key) = (Place::new(job, run.shape), Key::new(job, run, tasks.start));
        self.queue.push((&self.pools, &self.shapes), place, key, tasks.end);
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

    /// Takes all tasks of the job out of the lines.
    pub(super) fn take_waiting(&mut self, id: JobId) -> Result<Vec<std::ops::Range<u32>>, Illegal> {
        let job = self.jobs.get(&id).ok_or(Illegal::NoSuchJob(id))?;
        let shapes: BTreeMap<_, _> = job.open_runs().map(|run| (run.shape, run)).collect();
        let mut taken = Vec::new();
        for (shape, run) in shapes {
            taken.extend(self.queue.remove_job(&self.pools, Place::new(job, shape), Key::new(job, run, run.first)));
        }
        Ok(taken)
    }

    /// Cancels everything of the job that no worker holds.
    pub(super) fn cancel_waiting(&mut self, id: JobId, at: Timestamp) -> Result<(), Illegal> {
        self.take_waiting(id)?;
        let job = self.jobs.get_mut(&id).ok_or(Illegal::NoSuchJob(id))?;
        for index in job.open().flat_map(Phase::tasks).collect::<Vec<_>>() {
            let state = job.task(index).map(|task| &task.state);
            if let Some(task::State::Backoff { until }) = state {
                self.backoff.remove(&(*until, TaskId { job: id, index }));
            }
            if matches!(state, Some(task::State::Queued | task::State::Backoff { .. })) {
                job.change(index, |task| {
                    task.state = task.state.next(task::Event::Cancel).expect("queued or in back-off");
                });
                job.close_phase(index, at);
            }
        }
        Ok(())
    }

    /// The job's time to start has come: it is as any other from now on.
    pub(crate) fn become_standard(&mut self, id: JobId) {
        if self.opportunistic.remove(&id) {
            self.stand_anew(id, |job, _| job.opportunistic = false).expect("it is known");
        }
    }
}
