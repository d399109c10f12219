//! A job: its state machine, its phases with their counters, its tasks.

use std::collections::BTreeSet;
use std::sync::Arc;

use spool_proto::failure::Failure;
use spool_proto::ids::JobId;
use spool_proto::pool::Class;
use spool_proto::spec::PRIORITY_MAX;
use spool_proto::time::Timestamp;
use spool_proto::view::JobState;

use crate::io::{Advance, Blob, NewJob, Outcome, TaskRun};
use crate::pools::PoolIx;
use crate::shapes::{ShapeId, Shapes};
use crate::snapshot::{JobSnapshot, LifeSnapshot, PART, PhaseSnapshot};
use crate::task::{State, Task};

/// Where a job stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Life {
    Queued,
    Running,
    /// It will not go on; workers still hold leases of it.
    Ending(Ending),
    Done {
        output: Blob,
    },
    Failed {
        failure: Failure,
    },
    Cancelled {
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ending {
    Cancel { reason: String },
    Fail { failure: Failure },
}

#[derive(Debug, Clone)]
pub(crate) enum Event {
    Leased,
    CancelAsked { reason: String },
    TaskFailed { failure: Failure },
    Finish(Outcome),
    Retry,
}

impl Life {
    /// The whole state machine. `Err` names the pair that must not meet.
    pub(crate) fn next(&self, event: Event) -> Result<Life, (&'static str, &'static str)> {
        match (self, event) {
            (Life::Queued | Life::Running, Event::Leased) => Ok(Life::Running),
            (Life::Queued | Life::Running, Event::CancelAsked { reason }) => {
                Ok(Life::Ending(Ending::Cancel { reason }))
            }
            (Life::Queued | Life::Running, Event::TaskFailed { failure }) => Ok(Life::Ending(Ending::Fail { failure })),
            (Life::Queued | Life::Running, Event::Finish(Outcome::Done { output })) => Ok(Life::Done { output }),
            (
                Life::Queued | Life::Running | Life::Ending(Ending::Fail { .. }),
                Event::Finish(Outcome::Failed { failure }),
            ) => Ok(Life::Failed { failure }),
            (Life::Ending(Ending::Cancel { .. }), Event::Finish(Outcome::Cancelled { reason })) => {
                Ok(Life::Cancelled { reason })
            }
            (Life::Failed { .. } | Life::Cancelled { .. }, Event::Retry) => Ok(Life::Queued),
            (life, event) => Err((life.state().name(), event.name())),
        }
    }

    pub(crate) fn state(&self) -> JobState {
        match self {
            Life::Queued => JobState::Queued,
            Life::Running => JobState::Running,
            Life::Ending(_) => JobState::Cancelling,
            Life::Done { .. } => JobState::Done,
            Life::Failed { .. } => JobState::Failed,
            Life::Cancelled { .. } => JobState::Cancelled,
        }
    }

    pub(crate) fn goes_on(&self) -> bool {
        matches!(self, Life::Queued | Life::Running)
    }
}

impl Event {
    fn name(&self) -> &'static str {
        match self {
            Event::Leased => "lease",
            Event::CancelAsked { .. } => "cancel",
            Event::TaskFailed { .. } => "fail",
            Event::Finish(Outcome::Done { .. }) => "finish as done",
            Event::Finish(Outcome::Failed { .. }) => "finish as failed",
            Event::Finish(Outcome::Cancelled { .. }) => "finish as cancelled",
            Event::Retry => "retry",
        }
    }
}

/// `count` equal tasks in a row, with the shape interned.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) shape: ShapeId,
    pub(crate) label: String,
    pub(crate) payload: Blob,
    pub(crate) weight: u64,
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

    pub fn total(&self) -> u32 {
        self.queued + self.backoff + self.leased + self.done + self.failed + self.cancelled
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

#[derive(Debug, Clone)]
pub struct Job {
    pub(crate) id: JobId,
    pub(crate) new: NewJob,
    pub(crate) traceparent: Arc<str>,
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
    /// All that is left of its phase is with workers: see [`State::mark_tail`](crate::state::State).
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
    pub(crate) dirty_header: bool,
    pub(crate) dirty_parts: BTreeSet<u32>,
}

impl Job {
    pub(crate) fn new(id: JobId, new: NewJob, pool: PoolIx, submitted: Timestamp) -> Job {
        Job {
            id,
            traceparent: new.traceparent.as_str().into(),
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

    /// Since when its waiting tasks can run and none of them was leased; `None`: none waits.
    pub(crate) fn waiting_since(&self) -> Option<Timestamp> {
        let phase = self.phases.last()?;
        (phase.counts.queued + phase.counts.backoff > 0).then_some(phase.started)
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

    /// The phase as people see it: its name, or the job's state before the first and after the last.
    pub fn phase_name(&self) -> &str {
        match (&self.life, self.phases.last()) {
            (Life::Queued | Life::Running | Life::Ending(_), Some(phase)) => &phase.name,
            (life, _) => life.state().name(),
        }
    }

    /// It has nothing to do until its workflow says what is next.
    pub fn waits_for_workflow(&self) -> bool {
        self.life.goes_on() && self.phases.last().is_none_or(|p| p.counts.done == p.counts.total())
    }

    /// Nothing of its phase waits, and something is with workers.
    pub(crate) fn is_in_tail(&self) -> bool {
        let tail = |p: &Phase| p.counts.queued == 0 && p.counts.backoff == 0 && p.counts.leased > 0;
        self.life.goes_on() && self.phases.last().is_some_and(tail)
    }

    pub(crate) fn leased(&self) -> u32 {
        // Only the last phase has tasks that are not done.
        self.phases.last().map_or(0, |p| p.counts.leased)
    }

    pub(crate) fn task(&self, index: u32) -> Option<&Task> {
        self.tasks.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn run_of(&self, index: u32) -> Option<&Run> {
        let task = self.task(index)?;
        self.runs.get(usize::try_from(task.run).ok()?)
    }

    /// Indexes of the last phase's tasks.
    pub(crate) fn current(&self) -> std::ops::Range<u32> {
        self.phases.last().map_or(0, |p| p.first)..self.task_count()
    }

    /// Changes a task and keeps the counters and the dirty marks in step. The task exists.
    pub(crate) fn change(&mut self, index: u32, change: impl FnOnce(&mut Task)) {
        let task = &mut self.tasks[usize::try_from(index).expect("32 bits fit in an index")];
        let run = &self.runs[usize::try_from(task.run).expect("32 bits fit in an index")];
        let counts = &mut self.phases[usize::try_from(run.phase).expect("32 bits fit in an index")].counts;
        *counts.of(&task.state) -= 1;
        self.retries = self.retries.saturating_sub(task.attempts.into());
        change(task);
        *counts.of(&task.state) += 1;
        self.retries = self.retries.saturating_add(task.attempts.into());
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
                phase,
            });
            let len = self.tasks.len() + usize::try_from(count).expect("32 bits fit in an index");
            self.tasks.resize(len, Task::new(run));
        }
        let counts = Counts { queued: self.task_count() - first, ..Counts::default() };
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
            life: match self.life.clone() {
                Life::Queued => LifeSnapshot::Queued,
                Life::Running => LifeSnapshot::Running,
                Life::Ending(Ending::Cancel { reason }) => LifeSnapshot::Cancelling { reason },
                Life::Ending(Ending::Fail { failure }) => LifeSnapshot::Failing { failure },
                Life::Done { output } => LifeSnapshot::Done { output },
                Life::Failed { failure } => LifeSnapshot::Failed { failure },
                Life::Cancelled { reason } => LifeSnapshot::Cancelled { reason },
            },
            submitted: self.submitted,
            started: self.started,
            finished: self.finished,
            phases: self.phases.iter().map(phase).collect(),
            retries_before: self.retries_before,
        }
    }
}

impl From<LifeSnapshot> for Life {
    fn from(snapshot: LifeSnapshot) -> Life {
        match snapshot {
            LifeSnapshot::Queued => Life::Queued,
            LifeSnapshot::Running => Life::Running,
            LifeSnapshot::Cancelling { reason } => Life::Ending(Ending::Cancel { reason }),
            LifeSnapshot::Failing { failure } => Life::Ending(Ending::Fail { failure }),
            LifeSnapshot::Done { output } => Life::Done { output },
            LifeSnapshot::Failed { failure } => Life::Failed { failure },
            LifeSnapshot::Cancelled { reason } => Life::Cancelled { reason },
        }
    }
}
