//! The tail of a phase, or of a reactive job, whose phases overlap: a task that is far slower than its siblings gets a second copy on another worker, and the first of the two to
//! finish wins.
//!
//! Looked at on the clock, and only phases of which nothing waits any more: with something waiting, room is better given to that.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use spool_proto::ids::{Fence, JobId, TaskId, WorkerName};
use spool_proto::pool::Hold;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::WorkerHealth;

use crate::engine::Engine;
use crate::io::{Effect, Record, ToWorker};
use crate::job::Job;
use crate::shapes::ShapeId;
use crate::task::{State, Task};

/// Finished siblings that speeds are taken from, at most for each shape.
const SAMPLES: usize = 512;

/// What is known of a job in its tail.
#[derive(Debug, Clone)]
struct Watch {
    /// How many phases, and tasks, the job had when last looked.
    phases: usize,
    tasks: u32,
    /// Tasks that were not finished when last looked.
    open: Vec<u32>,
    /// Frames and time of finished tasks.
    done: BTreeMap<ShapeId, Vec<(u64, Span)>>,
    /// Tasks that have, or had, a second copy.
    copied: BTreeSet<u32>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Stragglers {
    watches: BTreeMap<JobId, Watch>,
    next_look: Timestamp,
}

/// A running task that will take longer than it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Straggler {
    pub(crate) index: u32,
    shape: ShapeId,
    pub(crate) worker: WorkerName,
    pub(crate) ran: Span,
    /// What it still needs, by its own speed.
    pub(crate) remaining: Span,
    /// What a new run would take from start to end.
    pub(crate) fresh: Span,
}

/// A task as it runs.
struct Running<'a> {
    index: u32,
    shape: ShapeId,
    worker: &'a WorkerName,
    ran: Span,
    frames: u64,
}

impl Engine {
    pub(crate) fn next_straggler_look(&self) -> Option<Timestamp> {
        let anybody_else = self.rooms.members().nth(1).is_some();
        (anybody_else && !self.state.tails.is_empty()).then_some(self.stragglers.next_look)
    }

    /// After the round: only room that nothing waiting could take is used.
    pub(crate) fn look_for_stragglers(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if self.next_straggler_look().is_none_or(|at| at > now) {
            return;
        }
        self.stragglers.next_look = now + self.config.straggler_every;
        let mut watches = std::mem::take(&mut self.stragglers.watches);
        watches.retain(|id, watch| {
            let job = self.state.jobs.get(id);
            job.is_some_and(|job| job.life.goes_on() && watch.is_of(job))
        });
        for id in self.state.tails.iter().copied().collect::<Vec<_>>() {
            let job = &self.state.jobs[&id];
            let watch = watches.entry(id).or_insert_with(|| Watch::new(job));
            watch.update(job);
            for straggler in self.straggling(now, job, watch) {
                if self.second(now, id, watch, &straggler, out) {
                    watch.copied.insert(straggler.index);
                }
            }
        }
        self.stragglers.watches = watches;
    }

    /// The job's stragglers, as of the last look.
    pub(crate) fn stragglers_of(&self, now: Timestamp, job: &Job) -> Vec<Straggler> {
        let watch = self.stragglers.watches.get(&job.id).filter(|watch| watch.is_of(job));
        watch.map_or_else(Vec::new, |watch| self.straggling(now, job, watch))
    }

    /// What needs longest first. Tasks with a second copy are left out.
    fn straggling(&self, now: Timestamp, job: &Job, watch: &Watch) -> Vec<Straggler> {
        let running: Vec<Running<'_>> =
            watch.open.iter().filter_map(|index| self.running_alone(now, job, *index)).collect();
        let mut typical: BTreeMap<ShapeId, Option<Typical>> = BTreeMap::new();
        let judged = running.iter().filter_map(|task| {
            let of_shape = typical.entry(task.shape);
            let typical = of_shape.or_insert_with(|| {
                let alike = running.iter().filter(|other| other.shape == task.shape);
                Typical::of(watch.done.get(&task.shape).map_or(&[], Vec::as_slice), alike)
            });
            let (remaining, fresh) = match typical {
                Some(typical) => typical.judge(task)?,
                None => {
                    let fresh = self.state.shapes.estimate(task.shape)?;
                    (as_long_again(task.ran, fresh)?, fresh)
                }
            };
            let patience = Span(fresh.0 / 2).max(self.config.straggler_after);
            let slow = task.ran >= patience && remaining > fresh.saturating_mul(2);
            let Running { index, shape, worker, ran, .. } = task;
            slow.then(|| Straggler {
                index: *index,
                shape: *shape,
                worker: (*worker).clone(),
                ran: *ran,
                remaining,
                fresh,
            })
        });
        let mut found: Vec<Straggler> = judged.collect();
        found.sort_by_key(|straggler| (Reverse(straggler.remaining), straggler.index));
        found
    }

    fn running_alone<'a>(&'a self, now: Timestamp, job: &'a Job, index: u32) -> Option<Running<'a>> {
        let task = job.task(index).filter(|task| task.copy().is_none())?;
        let worker = &task.lease()?.worker;
        let held = self.state.workers.get(worker)?.held.get(&TaskId { job: job.id, index })?;
        let began = held.began.filter(|_| held.revoked.is_none())?;
        Some(Running { index, shape: held.shape, worker, ran: now.since(began), frames: held.advance.frames })
    }

    /// How many tasks of the job's phase, or of a reactive job, may have a second copy.
    pub(crate) fn copy_budget(&self, job: &Job) -> usize {
        let phase = job.phases.last().map_or(0, |phase| phase.counts.total());
        let tasks = if job.new.reactive { job.task_count() } else { phase };
        let share = u64::from(tasks) * u64::from(self.config.copy_percent) / 100;
        usize::try_from(share).unwrap_or(usize::MAX).max(1)
    }

    /// Leases a second copy if it may have one and somebody healthy has room.
    fn second(
        &mut self,
        now: Timestamp,
        id: JobId,
        watch: &Watch,
        straggler: &Straggler,
        out: &mut Vec<Effect>,
    ) -> bool {
        let job = &self.state.jobs[&id];
        let shape = self.state.shapes.get(straggler.shape).clone();
        let spent = watch.copied.contains(&straggler.index) || watch.copied.len() >= self.copy_budget(job);
        // Room that somebody is owed by a guarantee is not for copies.
        let owed = self.short > 0;
        // What may be tried but once is not tried twice at a time.
        let once = job.run_of(straggler.index).is_some_and(|run| run.max_attempts == Some(1));
        if spent || owed || once || self.overload() > 0 || self.config.never_copied.contains(&shape.function) {
            return false;
        }
        let (pools, need) = (&self.state.pools, self.state.shapes.need(straggler.shape));
        // While anything waits anywhere, a copy does not borrow: whoever lent would have to wait for it.
        let fixed = !job.new.preemptible || self.state.queue.len() > 0;
        let admitted = if fixed { pools.admits_for_good(job.pool, need) } else { pools.admits(job.pool, need) };
        if admitted.is_err() || pools.hold(job.pool) != Hold::Open {
            return false;
        }
        let task = TaskId { job: id, index: straggler.index };
        let Some(worker) = self.find_other_room(task, straggler) else { return false };
        let fence = Fence(self.state.next_fence);
        self.record(Record::Leased { task, fence, worker: worker.clone(), at: now }, out);
        self.state.workers.get_mut(&worker).expect("it was chosen").charge(task, &self.state.shapes);
        self.file(&worker);
        let order = self.order(task, fence, false);
        self.send(&worker, ToWorker::Lease(order), out);
        self.changed(id);
        true
    }

    /// Room on a healthy worker that neither runs the task nor has failed it.
    fn find_other_room(&self, task: TaskId, straggler: &Straggler) -> Option<WorkerName> {
        let failed = self.state.task(task)?.history().iter().map(|end| &end.worker);
        let sick = self.state.judged.iter().filter(|(_, health)| **health != WorkerHealth::Healthy);
        let avoid: Vec<WorkerName> =
            failed.chain([&straggler.worker]).chain(sick.map(|(name, _)| name)).cloned().collect();
        let shapes = &self.state.shapes;
        let best = self.rooms.choose(shapes.get(straggler.shape), shapes.warm_key(straggler.shape), &avoid);
        best.filter(|worker| !avoid.contains(worker))
    }
}

impl Watch {
    fn new(job: &Job) -> Watch {
        let copied = job.current().filter(|index| job.task(*index).is_some_and(|task| task.copy().is_some())).collect();
        let open = job.current().collect();
        Watch { phases: job.phases.len(), tasks: job.task_count(), open, done: BTreeMap::new(), copied }
    }

    /// Whether what is known still tells something of what the job does now.
    fn is_of(&self, job: &Job) -> bool {
        job.new.reactive || job.phases.len() == self.phases
    }

    /// What came since the last look is watched, too, what finished becomes a sample.
    fn update(&mut self, job: &Job) {
        self.open.extend(self.tasks..job.task_count());
        (self.phases, self.tasks) = (job.phases.len(), job.task_count());
        let done = &mut self.done;
        self.open.retain(|index| match job.task(*index) {
            Some(Task { state: State::Done(finished), .. }) => {
                if let Some(run) = job.run_of(*index) {
                    let samples = done.entry(run.shape).or_default();
                    if samples.len() < SAMPLES {
                        samples.push((finished.advance.frames, finished.finished.since(finished.started)));
                    }
                }
                false
            }
            Some(task) => !matches!(task.state, State::Failed | State::Cancelled),
            None => false,
        });
    }
}

/// How siblings do, by the frames they report.
struct Typical {
    frames: u64,
    fresh: Span,
}

impl Typical {
    /// `None`: too little is known in frames.
    fn of<'a>(done: &[(u64, Span)], running: impl Iterator<Item = &'a Running<'a>>) -> Option<Typical> {
        let frames = median(done.iter().map(|(frames, _)| *frames).filter(|frames| *frames > 0).collect())?;
        let so_far = running.map(|task| (task.frames, task.ran));
        let each = done.iter().copied().chain(so_far).filter(|(frames, time)| *frames > 0 && time.0 > 0);
        // Time for as many frames as is typical.
        let times = each.map(|(made, time)| scale(time, frames, made)).collect();
        Some(Typical { frames, fresh: median(times)? })
    }

    /// What the task still needs, and what a fresh run would. `None`: it has made as much as others make in all.
    fn judge(&self, task: &Running<'_>) -> Option<(Span, Span)> {
        let remaining = match task.frames {
            0 => as_long_again(task.ran, self.fresh)?,
            made if made < self.frames => scale(task.ran, self.frames - made, made),
            _ => return None,
        };
        Some((remaining, self.fresh))
    }
}

/// Nothing is known but that it should be done by now: then it is taken to need as long again.
fn as_long_again(ran: Span, fresh: Span) -> Option<Span> {
    (ran > fresh).then_some(ran)
}

/// `span * by / of`; `of` is not zero.
fn scale(span: Span, by: u64, of: u64) -> Span {
    Span(u64::try_from(u128::from(span.0) * u128::from(by) / u128::from(of)).unwrap_or(u64::MAX))
}

fn median<T: Ord + Copy>(mut all: Vec<T>) -> Option<T> {
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}
