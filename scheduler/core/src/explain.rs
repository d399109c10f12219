//! Why a job is where it is: the single most severe reason, with its numbers.

use std::collections::BTreeMap;

use spool_proto::ids::JobId;
use spool_proto::time::Timestamp;
use spool_proto::view::{Explanation, TaskState};

use crate::engine::Engine;
use crate::io::Shape;
use crate::job::{Counts, Ending, Job, Life};
use crate::shapes::ShapeId;
use crate::task::State;

/// Lines of detail of one kind.
const DETAILS: usize = 20;

/// Most severe first.
enum Trouble {
    NoSuchBackend(String),
    NeverFits(String),
    NoWorkers(String),
}

impl Engine {
    pub fn explain(&self, now: Timestamp, id: JobId) -> Option<Explanation> {
        let job = self.job(id)?;
        let (reason, text) = self.reason(now, job);
        Some(Explanation {
            job: id,
            reason: reason.into(),
            text,
            queue_position: self.state.queue.ahead_of(id),
            estimate: None,
            details: self.details(job),
        })
    }

    fn reason(&self, now: Timestamp, job: &Job) -> (&'static str, String) {
        match &job.life {
            Life::Done { .. } => ("done", "the job is done".into()),
            Life::Failed { failure } => ("failed", format!("the job failed: {failure}")),
            Life::Cancelled { reason } => ("cancelled", format!("the job was cancelled: {}", or_no_reason(reason))),
            Life::Ending(ending) => {
                let why = match ending {
                    Ending::Cancel { reason } => format!("cancel was asked ({})", or_no_reason(reason)),
                    Ending::Fail { failure } => format!("a task failed for good ({failure})"),
                };
                ("cancelling", format!("{why}; {} still held by workers", tasks(job.leased())))
            }
            Life::Queued | Life::Running => self.progress_reason(now, job),
        }
    }

    fn progress_reason(&self, now: Timestamp, job: &Job) -> (&'static str, String) {
        let Some(phase) = job.phases().last().filter(|_| !job.waits_for_workflow()) else {
            return ("running", format!("the workflow {} decides what comes next", job.request().service));
        };
        let waiting = self.waiting_shapes(job);
        let troubles = waiting.keys().filter_map(|shape| self.trouble(self.state.shapes.get(*shape)));
        let severity = |trouble: &Trouble| match trouble {
            Trouble::NoSuchBackend(_) => 0,
            Trouble::NeverFits(_) => 1,
            Trouble::NoWorkers(_) => 2,
        };
        match troubles.min_by_key(severity) {
            Some(Trouble::NoSuchBackend(text)) => return ("no_such_backend", text),
            Some(Trouble::NeverFits(text)) => return ("never_fits", text),
            Some(Trouble::NoWorkers(text)) => return ("no_workers", text),
            None => {}
        }
        let Counts { leased, done, .. } = phase.counts;
        let (total, queued) = (phase.counts.total(), waiting.values().sum::<u32>());
        if leased > 0 {
            let text =
                format!("{}: {} with workers, {queued} waiting, {done} of {total} done", phase.name, tasks(leased));
            return ("running", text);
        }
        if queued > 0 {
            let ahead = self.state.queue.ahead_of(job.id).unwrap_or(0);
            let text = format!("{}: {} waiting for room on a worker, {ahead} ahead", phase.name, tasks(queued));
            return ("waiting_for_worker", text);
        }
        let next = job.current().filter_map(|index| match job.task(index)?.state {
            State::Backoff { until } => Some(until),
            _ => None,
        });
        let wait_s = next.min().map_or(0.0, |until| until.since(now).as_secs_f64());
        let text = format!(
            "{}: {} failed and waiting for the next attempt, the first in {wait_s:.1} s",
            phase.name,
            tasks(phase.counts.backoff),
        );
        ("backoff", text)
    }

    /// How many of the job's tasks stand in which line.
    fn waiting_shapes(&self, job: &Job) -> BTreeMap<ShapeId, u32> {
        let mut waiting: BTreeMap<ShapeId, u32> = BTreeMap::new();
        for info in job.current() {
            let id = spool_proto::ids::TaskId { job: job.id, index: info };
            let stands = match job.task(info).map(|task| &task.state) {
                Some(State::Queued) => true,
                Some(State::Backoff { until }) => !self.state.backoff.contains(&(*until, id)),
                _ => false,
            };
            if let Some(run) = job.run_of(info).filter(|_| stands) {
                *waiting.entry(run.shape).or_default() += 1;
            }
        }
        waiting
    }

    fn trouble(&self, shape: &Shape) -> Option<Trouble> {
        let Shape { function, backend, resources, .. } = shape;
        let usable: Vec<_> = (self.state.workers.iter()).filter(|(name, w)| self.takes_leases(name, w)).collect();
        if usable.is_empty() {
            let known = self.state.workers.len();
            let text = format!(
                "{function} waits: none of {known} known workers takes work (not connected, cordoned or draining); \
                 start one with `spool worker` or uncordon one"
            );
            return Some(Trouble::NoWorkers(text));
        }
        let offering: Vec<_> = usable.iter().filter(|(_, worker)| worker.offers(backend)).collect();
        if offering.is_empty() {
            let text = format!("{function} needs the backend {backend}, which none of {} workers offers", usable.len());
            return Some(Trouble::NoSuchBackend(text));
        }
        let lacks = |capacity: &_| resources.first_lacking(capacity).map(str::to_owned);
        let lacking: Option<Vec<_>> = offering.iter().map(|(_, worker)| lacks(&worker.capacity)).collect();
        let name = lacking?.into_iter().next()?;
        let most = offering.iter().map(|(_, worker)| worker.capacity.get(&name)).max().unwrap_or(0);
        let text = format!(
            "{function} needs {resources}, more than any of {} workers has in all: {name} {} of at most {most}",
            offering.len(),
            resources.get(&name),
        );
        Some(Trouble::NeverFits(text))
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

fn name(task: &crate::query::TaskInfo<'_>) -> String {
    let label = if task.label.is_empty() { &task.shape.function } else { task.label };
    format!("{} ({label})", task.id)
}

fn tasks(count: u32) -> String {
    if count == 1 { "1 task".into() } else { format!("{count} tasks") }
}

fn or_no_reason(reason: &str) -> &str {
    if reason.is_empty() { "no reason given" } else { reason }
}
