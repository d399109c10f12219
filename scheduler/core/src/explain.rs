//! Why a job is where it is: the single most severe reason, with its numbers.

use std::collections::BTreeMap;

use spool_proto::ids::{JobId, WorkerName};
use spool_proto::pool::Hold;
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::{Explanation, TaskState};

use crate::engine::Engine;
use crate::io::Shape;
use crate::job::{Counts, Ending, Job, Life};
use crate::pools::{Kind, PoolIx};
use crate::queue::Place;
use crate::reserve::For;
use crate::shapes::ShapeId;
use crate::task::State;

/// Lines of detail of one kind.
const DETAILS: usize = 20;

/// Why a line waits: a stable name and the numbers. Most severe first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    Held(String),
    NoSuchBackend(String),
    NeverFits(String),
    NoWorkers(String),
    OverLimit(String),
    WaitingForQuota(String),
    Deferred(String),
    Preempting(String),
    Reserved(String),
    WaitingForWorker(String),
}

impl Trouble {
    pub(crate) fn into_reason(self) -> (&'static str, String) {
        match self {
            Trouble::Held(text) => ("held", text),
            Trouble::NoSuchBackend(text) => ("no_such_backend", text),
            Trouble::NeverFits(text) => ("never_fits", text),
            Trouble::NoWorkers(text) => ("no_workers", text),
            Trouble::OverLimit(text) => ("over_limit", text),
            Trouble::WaitingForQuota(text) => ("waiting_for_quota", text),
            Trouble::Deferred(text) => ("opportunistic", text),
            Trouble::Preempting(text) => ("preempting", text),
            Trouble::Reserved(text) => ("reserved", text),
            Trouble::WaitingForWorker(text) => ("waiting_for_worker", text),
        }
    }
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
            estimate: self.estimate(job),
            details: [self.details(job), self.failure_details(now, job)].concat(),
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
        let place = |shape: &ShapeId| Place::new(job, *shape);
        let worst = waiting.keys().map(|shape| self.trouble(now, place(shape), job)).min();
        let Counts { leased, done, .. } = phase.counts;
        let (total, queued) = (phase.counts.total(), waiting.values().sum::<u32>());
        match worst {
            // With some of it running, that the rest waits its turn is no trouble.
            Some(trouble) if leased == 0 || trouble < Trouble::WaitingForQuota(String::new()) => {
                return trouble.into_reason();
            }
            _ => {}
        }
        if leased > 0 {
            let mut text =
                format!("{}: {} with workers, {queued} waiting, {done} of {total} done", phase.name, tasks(leased));
            if let Some(trouble) = worst.filter(|_| queued > 0) {
                text = format!("{text}; the next waits: {}", trouble.into_reason().1);
            }
            return ("running", text);
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

    /// The most severe reason why a line's next task does not start. With the line gone (its task has just been leased): that it
    /// waits for a worker.
    pub(crate) fn trouble(&self, now: Timestamp, place: Place, job: &Job) -> Trouble {
        let pools = &self.state.pools;
        let shape = self.state.shapes.get(place.shape);
        let need = self.state.shapes.need(place.shape);
        let Shape { function, backend, resources, .. } = shape.as_ref();
        if pools.hold(place.pool) != Hold::Open {
            return Trouble::Held(self.held_text(place.pool));
        }
        if let Some(trouble) = self.fleet_trouble(function, backend, resources) {
            return trouble;
        }
        if let Err(over) = pools.could_admit(place.pool, need) {
            let (name, kind) = (pools.name(over.pool), self.state.shapes.kinds.name(over.kind));
            let (asks, limit) = (amount(need, over.kind), pools.limit(over.pool, over.kind));
            return Trouble::OverLimit(format!(
                "{function} needs {kind} {asks}, and pool {name} may use at most {limit} in all; raise its guarantee or borrow \
                 limit, or move the job"
            ));
        }
        let line = self.state.queue.find(&place).and_then(|ix| self.state.queue.get(ix));
        if let Some(on) = line.and_then(|line| self.state.queue.parked_on(pools, line)) {
            return Trouble::WaitingForQuota(self.quota_text(place, on));
        }
        if place.opportunistic && self.overload() >= 1 {
            let queued = self.state.queue.len();
            return Trouble::Deferred(format!("opportunistic work is deferred: {queued} tasks wait on this server"));
        }
        let reserved: Vec<_> = self.reserved.all().filter(|(_, one)| one.place == place).collect();
        if let Some((worker, drain)) = reserved.iter().find(|(_, one)| one.why == For::Drain) {
            let since_s = now.since(drain.since).as_secs_f64();
            return Trouble::Reserved(format!(
                "{function} needs {resources} at once: worker {worker} takes nothing new for it since {since_s:.0} s"
            ));
        }
        let coming: usize = reserved.iter().map(|(worker, _)| self.preempted_on(worker)).sum();
        if coming > 0 {
            return Trouble::Preempting(format!(
                "its pool {} is owed room: {coming} running {} asked to give it back, on {} worker(s)",
                pools.name(place.pool),
                if coming == 1 { "task was" } else { "tasks were" },
                reserved.len(),
            ));
        }
        let ahead = self.state.queue.ahead_of(job.id).unwrap_or(0);
        let owed = line.and_then(|line| line.short_since).map_or_else(String::new, |since| {
            let grace = pools.spec(place.pool).grace;
            let left = (since + Span(grace.0 / 2)).since(now).as_secs_f64();
            format!("; it may take the place of borrowers, the first in {left:.1} s")
        });
        let waiting = line
            .and_then(|line| line.jobs().filter(|(id, _)| *id == job.id).map(|(_, count)| count).reduce(|a, b| a + b));
        Trouble::WaitingForWorker(format!(
            "{}: {} waiting for room on a worker, {ahead} ahead in pool {}{owed}",
            job.phase_name(),
            tasks(waiting.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX))),
            pools.name(place.pool),
        ))
    }

    fn held_text(&self, pool: PoolIx) -> String {
        let pools = &self.state.pools;
        let holds = &self.state.pools_state.holds;
        let held = pools.path(pool).find_map(|at| Some((pools.name(at), holds.get(pools.name(at))?)));
        held.map_or_else(String::new, |(name, held)| {
            let how = if held.hold == Hold::Draining { "draining" } else { "held" };
            format!(
                "pool {name} is {how} by {} ({}); `spool pool resume {name}` lets it go on",
                held.by,
                or_no_reason(&held.reason)
            )
        })
    }

    fn quota_text(&self, place: Place, on: PoolIx) -> String {
        let (pools, need) = (&self.state.pools, self.state.shapes.need(place.shape));
        let Some(over) = self.admits(place).err() else {
            return format!("waiting for quota of pool {}: it comes free", pools.name(on));
        };
        let kind = self.state.shapes.kinds.name(over.kind);
        let (used, asks) = (pools.usage(over.pool, over.kind), amount(need, over.kind));
        let most = if place.fixed && over.pool == place.pool {
            format!("{} guaranteed, and it must not borrow", pools.subtree(over.pool, over.kind))
        } else {
            format!("at most {}", pools.limit(over.pool, over.kind))
        };
        format!("waiting for quota of pool {}: {kind} {used} used of {most}, {asks} more needed", pools.name(over.pool))
    }

    /// Running tasks on the worker that were asked to go for a pool's sake.
    fn preempted_on(&self, worker: &WorkerName) -> usize {
        let held = self.state.workers.get(worker).into_iter().flat_map(|worker| worker.held.values());
        held.filter(|held| held.revoked == Some(crate::revoke::PREEMPTED)).count()
    }

    fn fleet_trouble(&self, function: &str, backend: &str, resources: &Resources) -> Option<Trouble> {
        let usable: Vec<_> = (self.state.workers.iter()).filter(|(name, w)| self.takes_leases(name, w)).collect();
        if usable.is_empty() {
            let known = self.state.workers.len();
            let text = format!(
                "{function} waits: none of {known} known workers takes work (not connected, cordoned, draining or quarantined); \
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

    /// When the job's first waiting task should start, if its pool goes on as it does.
    fn estimate(&self, job: &Job) -> Option<Span> {
        let ahead = self.state.queue.ahead_of(job.id)?;
        Some(self.tally.interval(job.pool)?.saturating_mul(ahead + 1))
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

fn amount(need: &[(Kind, u64)], of: Kind) -> u64 {
    need.iter().find(|(kind, _)| *kind == of).map_or(0, |(_, amount)| *amount)
}

fn or_no_reason(reason: &str) -> &str {
    if reason.is_empty() { "no reason given" } else { reason }
}
