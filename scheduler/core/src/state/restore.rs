//! From and to snapshots.

use std::collections::BTreeSet;

use spool_proto::ids::{JobId, TaskId};

use super::{Illegal, State, fits_in_job};
use crate::job::{History, Reaction};
use crate::queue::{Key, Place};
use crate::snapshot::{EngineSnapshot, HistoryPart, JobSnapshot, ReactionSnapshot, TaskPart};
use crate::task::{self, Task};

impl State {
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

    /// Brings a job back. `parts` hold its tasks, `history` what else it keeps, both in order.
    pub(crate) fn restore_job(
        &mut self,
        snapshot: JobSnapshot,
        parts: Vec<TaskPart>,
        history: Vec<HistoryPart>,
    ) -> Result<(), Illegal> {
        let id = snapshot.job;
        let mut phases = snapshot.phases.into_iter();
        self.submitted(id, &snapshot.new, snapshot.submitted)?;
        let job = self.jobs.get_mut(&id).expect("just submitted");
        for phase in phases.by_ref() {
            if !fits_in_job(job, phase.runs.iter()) {
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
        let ReactionSnapshot { wake, rests, retries_asked, cancelling, history: header } = snapshot.reaction;
        let entries = history.into_iter().map(|part| part.entries).collect();
        let history = History::restore(&header, entries).ok_or(Illegal::History { job: id })?;
        let cancelling = cancelling.into_iter().collect();
        job.reaction = Reaction { wake, rests, retries_asked, cancelling, history, ..Reaction::default() };
        (job.dirty_header, job.dirty_parts) = (false, BTreeSet::new());
        self.count_job(id, true);
        self.index(id);
        self.mark_tail(id);
        Ok(())
    }

    /// Builds the indexes over a restored job.
    pub(super) fn index(&mut self, id: JobId) {
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
