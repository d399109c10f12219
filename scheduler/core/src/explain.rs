//! Why a job is where it is: the single most severe reason, with its numbers.

use spool_proto::ids::JobId;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::{Explanation, TaskState};

use crate::engine::Engine;
use crate::job::{Counts, Ending, Job, Life};
use crate::queue::Place;
use crate::shapes::ShapeId;
use crate::task::State;
use crate::trouble::Cause;

/// Lines of detail of one kind.
const DETAILS: usize = 20;

/// Names of phases in a line.
const NAMES: usize = 4;

/// Why a job is where it is.
struct Why {
    reason: &'static str,
    text: String,
    /// Nobody has to do anything: what waits starts in time.
    passes: bool,
}

impl Engine {
    pub fn explain(&self, now: Timestamp, id: JobId) -> Option<Explanation> {
        let job = self.job(id)?;
        let Why { reason, text, passes } = self.reason(now, job);
        Some(Explanation {
            job: id,
            reason: reason.into(),
            text,
            queue_position: self.state.queue.ahead_of(id),
            estimate: self.estimate(now, job).filter(|_| passes),
            details: [self.details(job), self.failure_details(now, job)].concat(),
        })
    }

    fn reason(&self, now: Timestamp, job: &Job) -> Why {
        let why = |reason, text| Why { reason, text, passes: true };
        match &job.life {
            Life::Done { .. } => why("done", "the job is done".into()),
            Life::Failed { failure } => why("failed", format!("the job failed: {failure}")),
            Life::Cancelled { reason } => why("cancelled", format!("the job was cancelled: {}", or_no_reason(reason))),
            Life::Ending(ending) => {
                let how = match ending {
                    Ending::Cancel { reason } => format!("cancel was asked ({})", or_no_reason(reason)),
                    Ending::Fail { failure } if job.request().reactive => format!("its workflow ends it ({failure})"),
                    Ending::Fail { failure } => format!("a task failed for good ({failure})"),
                    Ending::Done { .. } => "its workflow is done with it".into(),
                };
                why("cancelling", format!("{how}; {} still held by workers", tasks(job.leased())))
            }
            Life::Queued | Life::Running => self.progress_reason(now, job),
        }
    }

    fn progress_reason(&self, now: Timestamp, job: &Job) -> Why {
        let why = |reason, text| Why { reason, text, passes: true };
        let service = &job.request().service;
        if job.counts().open() == 0 {
            return match job.wake() {
                _ if !job.request().reactive || job.reaction.asked => {
                    why("running", format!("the workflow {service} decides what comes next"))
                }
                Some(wake) => {
                    let wait_s = wake.since(now).as_secs_f64();
                    why(
                        "sleeping",
                        format!("the workflow {service} sleeps for another {wait_s:.1} s, or until a signal"),
                    )
                }
                None => why("waiting_for_signal", format!("the workflow {service} waits for a signal")),
            };
        }
        let waiting = self.waiting_shapes(job);
        let in_use = self.quota_in_use();
        let troubles = waiting.iter().map(|(shape, _)| self.trouble(now, Place::new(job, *shape), job, &in_use));
        // Of equally severe ones that of the task that comes first.
        let worst = troubles.min_by_key(|trouble| trouble.cause);
        let queued = waiting.iter().map(|(_, count)| count).sum::<u32>();
        let Counts { leased, backoff, .. } = *job.counts();
        let passes = worst.as_ref().is_none_or(|trouble| trouble.cause.passes());
        if leased > 0 {
            let (names, done, total) = going_on(job);
            let mut text = format!("{names}: {} with workers, {queued} waiting, {done} of {total} done", tasks(leased));
            match worst {
                // With some of it running, that the rest waits its turn is no trouble.
                Some(trouble) if trouble.cause < Cause::WaitingForQuota => {
                    return Why { reason: trouble.cause.name(), text: trouble.text, passes };
                }
                Some(trouble) => text = format!("{text}; the next waits: {}", trouble.text),
                None => {}
            }
            return Why { reason: "running", text, passes };
        }
        if let Some(trouble) = worst {
            return Why { reason: trouble.cause.name(), text: trouble.text, passes };
        }
        let next = job.current().filter_map(|index| match job.task(index)?.state {
            State::Backoff { until } => Some(until),
            _ => None,
        });
        let wait_s = next.min().map_or(0.0, |until| until.since(now).as_secs_f64());
        let text = format!(
            "{}: {} failed and waiting for the next attempt, the first in {wait_s:.1} s",
            going_on(job).0,
            tasks(backoff),
        );
        why("backoff", text)
    }

    /// How many of the job's tasks stand in which line, in the order of their first.
    fn waiting_shapes(&self, job: &Job) -> Vec<(ShapeId, u32)> {
        let mut waiting: Vec<(ShapeId, u32)> = Vec::new();
        for info in job.current() {
            let id = spool_proto::ids::TaskId { job: job.id, index: info };
            let stands = match job.task(info).map(|task| &task.state) {
                Some(State::Queued) => true,
                Some(State::Backoff { until }) => !self.state.backoff.contains(&(*until, id)),
                _ => false,
            };
            if let Some(run) = job.run_of(info).filter(|_| stands) {
                match waiting.iter_mut().find(|(shape, _)| *shape == run.shape) {
                    Some((_, count)) => *count += 1,
                    None => waiting.push((run.shape, 1)),
                }
            }
        }
        waiting
    }

    /// When the job's first waiting task should start, if its pool goes on as it does.
    fn estimate(&self, now: Timestamp, job: &Job) -> Option<Span> {
        let ahead = self.state.queue.ahead_of(job.id)?;
        Some(self.tally.interval_now(now, job.pool)?.saturating_mul(ahead + 1))
    }

    fn details(&self, job: &Job) -> Vec<String> {
        let mut lines = Vec::new();
        let current = || job.current().filter_map(|index| self.task(spool_proto::ids::TaskId { job: job.id, index }));
        let held = current().filter(|t| matches!(t.state, TaskState::Running | TaskState::Prefetched)).take(DETAILS);
        for task in held {
            let Some(worker) = task.worker else { continue };
            let (name, state) = (name(&task), task.state.name());
            lines.push(format!("{name}: {state} on {worker}, attempt {}", task.attempt));
        }
        for task in current().filter(|task| !task.history.is_empty()).take(DETAILS) {
            for end in task.history {
                let (name, attempt, worker) = (name(&task), end.attempt, &end.worker);
                let (class, failure) = (end.failure.class, &end.failure);
                lines.push(format!("{name}: attempt {attempt} on {worker} failed ({class}): {failure}"));
            }
        }
        lines
    }
}

/// The phases that go on, by name, and how many of their tasks are done, and are there.
fn going_on(job: &Job) -> (String, u32, u32) {
    let mut names: Vec<&str> = Vec::new();
    let (mut done, mut total) = (0, 0);
    for phase in job.open() {
        done += phase.counts.done;
        total += phase.counts.total();
        if !names.contains(&phase.name.as_str()) {
            names.push(&phase.name);
        }
    }
    let more = names.len().saturating_sub(NAMES);
    names.truncate(NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (names.join(", ") + &more, done, total)
}

fn name(task: &crate::query::TaskInfo<'_>) -> String {
    let label = if task.label.is_empty() { &task.shape.function } else { task.label };
    format!("{} ({label})", task.id)
}

pub(crate) fn tasks(count: u32) -> String {
    if count == 1 { "1 task".into() } else { format!("{count} tasks") }
}

pub(crate) fn or_no_reason(reason: &str) -> &str {
    if reason.is_empty() { "no reason given" } else { reason }
}
