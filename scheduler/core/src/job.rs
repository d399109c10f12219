//! A job: its phases with their counters, its tasks. Where it stands is in `job/life.rs`, what a reactive one keeps beside its tasks in
//! `job/history.rs`.
//!
//! Of most jobs only the last phase has tasks that are not over. Of a reactive one any may: what has to find them goes by
//! [`Job::open`], so that its cost does not grow with what is over.

mod history;
mod life;

use std::collections::BTreeSet;

use spool_proto::failure::Failure;
use spool_proto::ids::JobId;
use spool_proto::pool::Class;
use spool_proto::spec::PRIORITY_MAX;
use spool_proto::time::Timestamp;
use spool_proto::view::JobState;

use crate::io::{Advance, Blob, NewJob, Signal, TaskRun};
use crate::pools::PoolIx;
use crate::shapes::{ShapeId, Shapes};
use crate::snapshot::{JobSnapshot, PART, PhaseSnapshot, ReactionSnapshot};
use crate::task::{State, Task};
pub(crate) use history::History;
pub(crate) use life::{Ending, Event, Life};

/// `count` equal tasks in a row, with the shape interned.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) shape: ShapeId,
    pub(crate) label: String,
    pub(crate) payload: Blob,
    pub(crate) weight: u64,
    pub(crate) max_attempts: Option<u8>,
    /// Index of its phase.
    pub(crate) phase: u32,
}

/// How many tasks of a phase are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Waiting for a worker, never tried or given back.
    pub queued: u32,
    /// Waiting before (or, once the wait is over, for) the next attempt.
    pub backoff: u32,
    /// Held by a worker, running or lying ready there.
    pub leased: u32,
    pub done: u32,
    pub failed: u32,
    pub cancelled: u32,
}

impl Counts {
    fn of(&mut self, state: &State) -> &mut u32 {
        match state {
            State::Queued => &mut self.queued,
            State::Backoff { .. } => &mut self.backoff,
            State::Leased(..) => &mut self.leased,
            State::Done(_) => &mut self.done,
            State::Failed => &mut self.failed,
            State::Cancelled => &mut self.cancelled,
        }
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        self.queued += other.queued;
        self.backoff += other.backoff;
        self.leased += other.leased;
        self.done += other.done;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
    }

    pub fn total(&self) -> u32 {
        self.open() + self.done + self.failed + self.cancelled
    }

    /// Not over.
    pub fn open(&self) -> u32 {
        self.waiting() + self.leased
    }

    /// Neither over nor with a worker.
    pub fn waiting(&self) -> u32 {
        self.queued + self.backoff
    }
}

/// A named set of tasks that were all runnable at once.
#[derive(Debug, Clone)]
pub struct Phase {
    pub name: String,
    pub started: Timestamp,
    pub finished: Option<Timestamp>,
    pub counts: Counts,
    /// Tasks a worker has reported started and still holds; one with a second copy counts as its older lease stands.
    pub running: u32,
    /// Index of its first task.
    pub first: u32,
    /// What finished tasks made.
    pub made: Advance,
    /// What running tasks have made so far, copies left out.
    pub making: Advance,
    pub(crate) runs: std::ops::Range<usize>,
}

impl Phase {
    /// Indexes of its tasks.
    pub(crate) fn tasks(&self) -> std::ops::Range<u32> {
        self.first..self.first + self.counts.total()
    }

    /// Finished tasks and running ones together.
    pub fn progress(&self) -> Advance {
        let mut sum = self.made;
        sum.add(&self.making);
        sum
    }
}

impl Advance {
    pub(crate) fn add(&mut self, other: &Advance) {
        self.frames = self.frames.saturating_add(other.frames);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.out_time = self.out_time + other.out_time;
    }

    pub(crate) fn sub(&mut self, other: &Advance) {
        self.frames = self.frames.saturating_sub(other.frames);
        self.bytes = self.bytes.saturating_sub(other.bytes);
        self.out_time = self.out_time - other.out_time;
    }
}

/// What only reactive jobs have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reaction {
    /// When its workflow wants to be asked again.
    pub(crate) wake: Option<Timestamp>,
    /// Nothing else than that time, and signals, is news to it.
    pub(crate) rests: bool,
    /// The time its alarm was set for; it has rung if that has passed. Not durable: after a restart all are asked.
    pub(crate) alarm: Option<Timestamp>,
    /// Its workflow was asked and has not answered. Not durable either.
    pub(crate) asked: bool,
    pub(crate) retries_asked: u32,
    /// Leased tasks that are cancelled when they are let go.
    pub(crate) cancelling: BTreeSet<u32>,
    pub(crate) history: History,
}

#[derive(Debug, Clone)]
pub struct Job {
    pub(crate) id: JobId,
    pub(crate) new: NewJob,
    /// The topmost job that it is a part of, or itself: it stands in line where that one came.
    pub(crate) whole: JobId,
    /// Of its name, in the tree as it is now.
    pub(crate) pool: PoolIx,
    /// Its class is, and its time to start has not come yet.
    pub(crate) opportunistic: bool,
    /// Priority gained by waiting.
    pub(crate) aged: u8,
    /// When a task of it was last leased.
    pub(crate) last_lease: Option<Timestamp>,
    /// Attempts of its tasks that failed and count.
    pub(crate) retries: u32,
    /// Of those, what had failed before it was last retried.
    pub(crate) retries_before: u32,
    /// All that is left of it is with workers: see [`State::mark_tail`](crate::state::State).
    pub(crate) in_tail: bool,
    /// Its age is looked at when an alarm rings.
    pub(crate) age_alarm: bool,
    pub(crate) life: Life,
    pub(crate) submitted: Timestamp,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
    pub(crate) phases: Vec<Phase>,
    pub(crate) runs: Vec<Run>,
    pub(crate) tasks: Vec<Task>,
    /// Over all phases.
    counts: Counts,
    /// Phases with tasks that are not over.
    open: BTreeSet<u32>,
    /// Phases with tasks that are neither over nor with a worker.
    waiting: BTreeSet<u32>,
    pub(crate) reaction: Reaction,
    pub(crate) dirty_header: bool,
    pub(crate) dirty_parts: BTreeSet<u32>,
}

impl Job {
    pub(crate) fn new(id: JobId, new: NewJob, pool: PoolIx, submitted: Timestamp) -> Job {
        Job {
            id,
            whole: new.part_of.unwrap_or(id),
            pool,
            opportunistic: new.class != Class::Standard,
            aged: 0,
            last_lease: None,
            retries: 0,
            retries_before: 0,
            in_tail: false,
            age_alarm: false,
            new,
            life: Life::Queued,
            submitted,
            started: None,
            finished: None,
            phases: Vec::new(),
            runs: Vec::new(),
            tasks: Vec::new(),
            counts: Counts::default(),
            open: BTreeSet::new(),
            waiting: BTreeSet::new(),
            reaction: Reaction::default(),
            dirty_header: true,
            dirty_parts: BTreeSet::new(),
        }
    }

    pub fn id(&self) -> JobId {
        self.id
    }

    /// As it was submitted, with the priority it has now.
    pub fn request(&self) -> &NewJob {
        &self.new
    }

    pub fn state(&self) -> JobState {
        self.life.state()
    }

    /// Its own, and what it has gained by waiting.
    pub fn effective_priority(&self) -> u8 {
        self.new.priority.saturating_add(self.aged).min(PRIORITY_MAX.max(self.new.priority))
    }

    /// Since when its waiting tasks can run, the longest waiting ones; `None`: none waits.
    pub(crate) fn waiting_since(&self) -> Option<Timestamp> {
        Some(self.phases[at(*self.waiting.first()?)].started)
    }

    pub fn submitted(&self) -> Timestamp {
        self.submitted
    }

    /// When its first task was leased.
    pub fn started(&self) -> Option<Timestamp> {
        self.started
    }

    /// When it became final.
    pub fn finished(&self) -> Option<Timestamp> {
        self.finished
    }

    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    pub fn task_count(&self) -> u32 {
        u32::try_from(self.tasks.len()).expect("phases that overflow are refused")
    }

    /// Why it failed, or is about to.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.life {
            Life::Failed { failure } | Life::Ending(Ending::Fail { failure }) => Some(failure),
            _ => None,
        }
    }

    /// What its workflow made of it, once done.
    pub fn output(&self) -> Option<&Blob> {
        match &self.life {
            Life::Done { output } => Some(output),
            _ => None,
        }
    }

    /// Why it was cancelled, or is about to be.
    pub fn cancel_reason(&self) -> Option<&str> {
        match &self.life {
            Life::Cancelled { reason } | Life::Ending(Ending::Cancel { reason }) => Some(reason),
            _ => None,
        }
    }

    /// The phase as people see it: the name of the last one that goes on, `waiting` where a reactive job has none, or the job's state
    /// before the first and after the last.
    pub fn phase_name(&self) -> &str {
        let going_on = self.open.last().map(|phase| &self.phases[at(*phase)]);
        match (&self.life, going_on.or(self.phases.last())) {
            // While its workflow decides, people are shown what was last.
            (Life::Queued | Life::Running, _) if self.new.reactive && going_on.is_none() && !self.reaction.asked => {
                "waiting"
            }
            (Life::Queued | Life::Running | Life::Ending(_), Some(phase)) => &phase.name,
            (life, _) => life.state().name(),
        }
    }

    /// How many of its tasks are in which state.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// It has nothing to do until its workflow says what is next. Never so of a reactive one, which may wait for something else.
    pub fn waits_for_workflow(&self) -> bool {
        let is_over = |phase: &Phase| phase.counts.done == phase.counts.total();
        self.life.goes_on() && !self.new.reactive && self.phases.last().is_none_or(is_over)
    }

    /// Nothing of it waits, and something is with workers.
    pub(crate) fn is_in_tail(&self) -> bool {
        self.life.goes_on() && self.counts.waiting() == 0 && self.counts.leased > 0
    }

    pub(crate) fn leased(&self) -> u32 {
        self.counts.leased
    }

    // ------------------------------------------------------------ reactive jobs

    /// What its workflow has written down, oldest first.
    pub fn log(&self) -> &[Blob] {
        self.reaction.history.log()
    }

    /// Those its workflow has not taken, oldest first.
    pub fn signals(&self) -> impl ExactSizeIterator<Item = &Signal> {
        self.reaction.history.signals().iter()
    }

    /// When its workflow wants to be asked again.
    pub fn wake(&self) -> Option<Timestamp> {
        self.reaction.wake
    }

    /// Whether its workflow has nothing to be asked before its time comes or somebody sends it a signal.
    pub(crate) fn rests(&self) -> bool {
        self.reaction.rests && self.life.goes_on() && self.signals().len() == 0
    }

    /// How often people have asked it to go on after its end.
    pub fn retries_asked(&self) -> u32 {
        self.reaction.retries_asked
    }

    // ------------------------------------------------------------ tasks

    pub(crate) fn task(&self, index: u32) -> Option<&Task> {
        self.tasks.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn run_of(&self, index: u32) -> Option<&Run> {
        let task = self.task(index)?;
        self.runs.get(usize::try_from(task.run).ok()?)
    }

    /// Phases with tasks that are not over, oldest first.
    pub(crate) fn open(&self) -> impl DoubleEndedIterator<Item = &Phase> {
        self.open.iter().map(|phase| &self.phases[at(*phase)])
    }

    /// Indexes of the tasks of open phases, and of those of the last one, which may be tried again.
    pub(crate) fn current(&self) -> impl Iterator<Item = u32> {
        let last = self.phases.last().filter(|phase| phase.counts.open() == 0);
        self.open().chain(last).flat_map(Phase::tasks)
    }

    /// Runs of open phases.
    pub(crate) fn open_runs(&self) -> impl Iterator<Item = &Run> {
        self.open().flat_map(|phase| &self.runs[phase.runs.clone()])
    }

    /// The phase of a task that exists.
    pub(crate) fn phase_of(&mut self, index: u32) -> &mut Phase {
        let phase = self.run_of(index).expect("the task exists").phase;
        &mut self.phases[at(phase)]
    }

    /// A task is over; if it was the last one of its phase that was not, so is the phase.
    pub(crate) fn close_phase(&mut self, index: u32, at: Timestamp) {
        let phase = self.phase_of(index);
        if phase.counts.open() == 0 {
            phase.finished = Some(phase.started.max(at));
            self.dirty_header = true;
        }
    }

    /// Changes a task and keeps the counters and the dirty marks in step. The task exists.
    pub(crate) fn change(&mut self, index: u32, change: impl FnOnce(&mut Task)) {
        let task = &mut self.tasks[at(index)];
        let number = self.runs[at(task.run)].phase;
        let counts = &mut self.phases[at(number)].counts;
        *counts.of(&task.state) -= 1;
        *self.counts.of(&task.state) -= 1;
        self.retries = self.retries.saturating_sub(task.attempts.into());
        change(task);
        *counts.of(&task.state) += 1;
        *self.counts.of(&task.state) += 1;
        self.retries = self.retries.saturating_add(task.attempts.into());
        let counts = *counts;
        mark(&mut self.open, number, counts.open() > 0);
        mark(&mut self.waiting, number, counts.waiting() > 0);
        // The set is only asked to insert what it does not hold already; most changes hit the same part.
        if self.dirty_parts.last() != Some(&(index / PART)) {
            self.dirty_parts.insert(index / PART);
        }
    }

    /// Appends a phase. All its tasks are queued.
    pub(crate) fn push_phase(&mut self, name: String, runs: Vec<TaskRun>, started: Timestamp, shapes: &mut Shapes) {
        let phase = u32::try_from(self.phases.len()).expect("phases are few");
        let (first, first_run) = (self.task_count(), self.runs.len());
        for TaskRun { count, task } in runs {
            let run = u32::try_from(self.runs.len()).expect("no more runs than tasks");
            self.runs.push(Run {
                first: self.task_count(),
                count,
                shape: shapes.intern(&task.shape),
                label: task.label,
                payload: task.payload,
                weight: task.weight,
                max_attempts: task.max_attempts,
                phase,
            });
            let len = self.tasks.len() + usize::try_from(count).expect("32 bits fit in an index");
            self.tasks.resize(len, Task::new(run));
        }
        let counts = Counts { queued: self.task_count() - first, ..Counts::default() };
        self.counts.queued += counts.queued;
        mark(&mut self.open, phase, counts.open() > 0);
        mark(&mut self.waiting, phase, counts.waiting() > 0);
        self.dirty_parts.extend(first / PART..self.task_count().div_ceil(PART));
        self.dirty_header = true;
        self.phases.push(Phase {
            name,
            started,
            finished: None,
            counts,
            running: 0,
            first,
            made: Advance::default(),
            making: Advance::default(),
            runs: first_run..self.runs.len(),
        });
    }

    pub(crate) fn snapshot(&self, shapes: &Shapes) -> JobSnapshot {
        let run = |run: &Run| TaskRun {
            count: run.count,
            task: crate::io::NewTask {
                shape: shapes.get(run.shape).as_ref().clone(),
                label: run.label.clone(),
                payload: run.payload.clone(),
                weight: run.weight,
                max_attempts: run.max_attempts,
            },
        };
        let phase = |phase: &Phase| PhaseSnapshot {
            name: phase.name.clone(),
            started: phase.started,
            finished: phase.finished,
            runs: self.runs[phase.runs.clone()].iter().map(run).collect(),
        };
        JobSnapshot {
            job: self.id,
            new: self.new.clone(),
            life: self.life.clone().into(),
            submitted: self.submitted,
            started: self.started,
            finished: self.finished,
            phases: self.phases.iter().map(phase).collect(),
            retries_before: self.retries_before,
            reaction: ReactionSnapshot {
                wake: self.reaction.wake,
                rests: self.reaction.rests,
                retries_asked: self.reaction.retries_asked,
                cancelling: self.reaction.cancelling.iter().copied().collect(),
                history: self.reaction.history.snapshot(),
            },
        }
    }
}

fn mark(marked: &mut BTreeSet<u32>, phase: u32, is: bool) {
    // Looked up first: most changes change nothing of it.
    if marked.contains(&phase) != is {
        if is {
            marked.insert(phase)
        } else {
            marked.remove(&phase)
        };
    }
}

fn at(index: u32) -> usize {
    usize::try_from(index).expect("32 bits fit in an index")
}
