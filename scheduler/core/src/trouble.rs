//! Why a line waits: the single most severe reason, with its numbers. What it names is in the way: without it there is another reason, or
//! the next task starts (`tests/pools/explained.rs`). So nothing here trusts what the round remembers of its last look: quota is asked anew.

use spool_proto::ids::{TaskId, WorkerName};
use spool_proto::pool::Hold;
use spool_proto::resources::amount_text;
use spool_proto::time::{Span, Timestamp};

use crate::engine::Engine;
use crate::explain::{or_no_reason, tasks};
use crate::io::Shape;
use crate::job::Job;
use crate::pools::{Kind, Over, PoolIx, Pools};
use crate::queue::{Line, Place};
use crate::reserve::For;
use crate::workers::Worker;

/// Most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    Held,
    NoSuchBackend,
    NeverFits,
    NoWorkers,
    OverLimit,
    WaitingForQuota,
    Deferred,
    Preempting,
    Reserved,
    WaitingForWorker,
}

impl Cause {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Cause::Held => "held",
            Cause::NoSuchBackend => "no_such_backend",
            Cause::NeverFits => "never_fits",
            Cause::NoWorkers => "no_workers",
            Cause::OverLimit => "over_limit",
            Cause::WaitingForQuota => "waiting_for_quota",
            Cause::Deferred => "opportunistic",
            Cause::Preempting => "preempting",
            Cause::Reserved => "reserved",
            Cause::WaitingForWorker => "waiting_for_worker",
        }
    }

    /// It ends as others finish, and nobody has to do anything: only then there is something to estimate.
    pub(crate) fn passes(self) -> bool {
        matches!(self, Cause::WaitingForQuota | Cause::Preempting | Cause::Reserved | Cause::WaitingForWorker)
    }
}

#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) cause: Cause,
    pub(crate) text: String,
}

/// Of a limit that is what the fleet leaves.
const KEPT: &str = " beside what the pools that do not lend all of theirs keep of the fleet";

impl Engine {
    /// Why the line's next task does not start. With the line gone (its task has just been leased): that it waits for a worker. `in_use`:
    /// [`Self::quota_in_use`], once for all that is asked.
    pub(crate) fn trouble(&self, now: Timestamp, place: Place, job: &Job, in_use: &Pools) -> Trouble {
        let trouble = |cause, text| Trouble { cause, text };
        let shape = self.state.shapes.get(place.shape);
        if self.state.pools.hold(place.pool) != Hold::Open {
            return trouble(Cause::Held, self.held_text(place.pool));
        }
        if let Some((cause, text)) = self.fleet_trouble(shape) {
            return trouble(cause, text);
        }
        if let Err(over) = self.state.pools.could_admit_as(place.pool, self.state.shapes.need(place.shape), place.fixed)
        {
            return trouble(Cause::OverLimit, self.limit_text(place, over));
        }
        if let Some((cause, text)) = self.coming(now, place, shape, in_use) {
            return trouble(cause, text);
        }
        if let Some(text) = self.quota_trouble(place, in_use) {
            return trouble(Cause::WaitingForQuota, text);
        }
        if place.opportunistic && self.overload() >= 1 {
            let queued = self.state.queue.len();
            let text = format!("opportunistic work is deferred while so much waits: {queued} tasks on this server");
            return trouble(Cause::Deferred, text);
        }
        trouble(Cause::WaitingForWorker, self.room_text(now, place, job))
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

    // ------------------------------------------------------------ the fleet

    fn fleet_trouble(&self, shape: &Shape) -> Option<(Cause, String)> {
        let Shape { function, backend, resources, .. } = shape;
        let workers = || self.state.workers.iter();
        let usable: Vec<_> = workers().filter(|(name, worker)| self.takes_leases(name, worker)).collect();
        if usable.is_empty() {
            let known = self.state.workers.len();
            let text = format!(
                "{function} waits: none of {known} known workers takes work (not connected, cordoned, draining or quarantined); \
                 start one with `spool worker` or uncordon one"
            );
            return Some((Cause::NoWorkers, text));
        }
        // Somebody else may have it, and not be asked.
        let suits = |worker: &Worker| worker.offers(backend) && resources.fits_in(&worker.capacity);
        let elsewhere = || {
            let other = workers().find(|(name, worker)| suits(worker) && !self.takes_leases(name, worker));
            other.map_or_else(String::new, |(name, worker)| {
                format!("; worker {name} could, but {}", self.absence(name, worker))
            })
        };
        let offering: Vec<_> = usable.iter().filter(|(_, worker)| worker.offers(backend)).collect();
        if offering.is_empty() {
            let count = usable.len();
            let text =
                format!("{function} needs the backend {backend}, which none of {count} workers offers{}", elsewhere());
            return Some((Cause::NoSuchBackend, text));
        }
        let lacks = |capacity: &_| resources.first_lacking(capacity).map(str::to_owned);
        let lacking: Option<Vec<_>> = offering.iter().map(|(_, worker)| lacks(&worker.capacity)).collect();
        let name = lacking?.into_iter().next()?;
        let most = offering.iter().map(|(_, worker)| worker.capacity.get(&name)).max().unwrap_or(0);
        let (asks, most) = (amount_text(&name, resources.get(&name)), amount_text(&name, most));
        let text = format!(
            "{function} needs {resources}, more than any of {} workers has in all: {name} {asks} of at most {most}{}",
            offering.len(),
            elsewhere(),
        );
        Some((Cause::NeverFits, text))
    }

    /// Why the worker takes no leases.
    fn absence(&self, name: &WorkerName, worker: &Worker) -> &'static str {
        if !worker.connected || worker.silent {
            "is not connected"
        } else if worker.leaving {
            "is leaving"
        } else if self.state.cordons.contains_key(name) {
            "is cordoned"
        } else {
            "is quarantined"
        }
    }

    // ------------------------------------------------------------ quota

    fn quota_trouble(&self, place: Place, in_use: &Pools) -> Option<String> {
        let admitted = if self.reserved.has_claim(place) {
            // Quota that is kept for it is not in its way.
            let mut pools = self.state.pools.clone();
            pools.let_go(place.pool, self.state.shapes.need(place.shape));
            self.admits_in(&pools, place)
        } else {
            self.admits(place)
        };
        if let Err(over) = admitted {
            return Some(self.quota_text(place, over, in_use));
        }
        (self.borrowing_is_off() && self.would_borrow(place)).then(|| {
            let (name, queued) = (self.state.pools.name(place.pool), self.state.queue.len());
            format!(
                "pool {name} would have to borrow for it, and nobody borrows while {queued} tasks wait on this server and somebody \
                 is owed room"
            )
        })
    }

    fn quota_text(&self, place: Place, over: Over, pools: &Pools) -> String {
        let kind = self.state.shapes.kinds.name(over.kind);
        let text = |amount| amount_text(kind, amount);
        let (used, asks) = (pools.usage(over.pool, over.kind), text(self.asks(place, over.kind)));
        let kept = match self.state.pools.usage(over.pool, over.kind).saturating_sub(used) {
            0 => String::new(),
            kept => format!("; {} is kept for others who were owed it", text(kept)),
        };
        let used = text(used);
        let most = if place.fixed && over.pool == place.pool {
            format!("{} guaranteed, and it must not borrow", text(pools.subtree(over.pool, over.kind)))
        } else {
            format!("at most {}", text(pools.limit(over.pool, over.kind)))
        };
        let rest = if pools.is_kept(over.pool, over.kind) { KEPT } else { "" };
        let name = pools.name(over.pool);
        format!("waiting for quota of pool {name}: {kind} {used} used of {most}{rest}, {asks} more needed{kept}")
    }

    fn limit_text(&self, place: Place, over: Over) -> String {
        let (pools, kind) = (&self.state.pools, self.state.shapes.kinds.name(over.kind));
        let function = &self.state.shapes.get(place.shape).function;
        let asks = amount_text(kind, self.asks(place, over.kind));
        let (limit, owned) = (pools.limit(over.pool, over.kind), pools.subtree(over.pool, over.kind));
        let (limit_text, name) = (amount_text(kind, limit), pools.name(over.pool));
        if place.fixed && over.pool == place.pool && self.asks(place, over.kind) > owned {
            let owned = amount_text(kind, owned);
            return format!(
                "{function} needs {kind} {asks}, and pool {name} is guaranteed {owned} in all: what must not be preempted must not \
                 borrow; raise its guarantee, or move the job"
            );
        }
        let (rest, advice) = match pools.is_kept(over.pool, over.kind) {
            true => (KEPT, "raise what those lend, or add workers"),
            false => ("", "raise its guarantee or borrow limit, or move the job"),
        };
        format!("{function} needs {kind} {asks}, and pool {name} may use at most {limit_text} in all{rest}; {advice}")
    }

    fn asks(&self, place: Place, of: Kind) -> u64 {
        let need = self.state.shapes.need(place.shape);
        need.iter().find(|(kind, _)| *kind == of).map_or(0, |(_, amount)| *amount)
    }

    // ------------------------------------------------------------ room

    /// Room is being made for the line.
    fn coming(&self, now: Timestamp, place: Place, shape: &Shape, in_use: &Pools) -> Option<(Cause, String)> {
        let reserved: Vec<_> = self.reserved.all().filter(|(_, one)| one.place == place).collect();
        if let Some((worker, drain)) = reserved.iter().find(|(_, one)| one.why == For::Drain) {
            let since_s = now.since(drain.since).as_secs_f64();
            let Shape { function, resources, .. } = shape;
            let text = format!(
                "{function} needs {resources} at once: worker {worker} takes nothing new for it since {since_s:.0} s"
            );
            return Some((Cause::Reserved, text));
        }
        let leaving: usize = reserved.iter().map(|(_, one)| self.still_leaving(&one.victims)).sum();
        if leaving > 0 {
            let text = format!(
                "its pool {} is owed room: {leaving} {} asked to give it back, for {} of its tasks",
                self.state.pools.name(place.pool),
                if leaving == 1 { "task was" } else { "tasks were" },
                reserved.len(),
            );
            return Some((Cause::Preempting, text));
        }
        let (worker, first) = reserved.first().filter(|_| self.quota_trouble(place, in_use).is_none())?;
        let since_s = now.since(first.since).as_secs_f64();
        Some((Cause::Reserved, format!("room on worker {worker} is kept for it since {since_s:.0} s and comes free")))
    }

    /// Of tasks that were told to go, how many have not gone yet.
    fn still_leaving(&self, victims: &[(WorkerName, TaskId)]) -> usize {
        let held = |(worker, task): &&(WorkerName, TaskId)| {
            let held = self.state.workers.get(worker).and_then(|worker| worker.held.get(task));
            held.is_some_and(|held| held.revoked == Some(crate::revoke::PREEMPTED))
        };
        victims.iter().filter(held).count()
    }

    fn room_text(&self, now: Timestamp, place: Place, job: &Job) -> String {
        let line = self.state.queue.find(&place).and_then(|ix| self.state.queue.get(ix));
        let of_job = line.into_iter().flat_map(Line::jobs).filter(|(id, _)| *id == job.id);
        let waiting = of_job.fold(0_u64, |sum, (_, count)| sum.saturating_add(count));
        let ahead = self.state.queue.ahead_of(job.id).unwrap_or(0);
        let Shape { backend, resources, .. } = self.state.shapes.get(place.shape).as_ref();
        let suits = |worker: &Worker| worker.offers(backend) && resources.fits_in(&worker.capacity);
        let workers = self.rooms.members().filter(|name| self.state.workers.get(name).is_some_and(suits)).count();
        let last = if place.opportunistic { ", after all standard work" } else { "" };
        format!(
            "{}: {} waiting for room on a worker, {ahead} ahead in pool {}{last}; of {workers} that could hold it none has {resources} \
             free for it{}",
            job.phase_name(),
            tasks(u32::try_from(waiting).unwrap_or(u32::MAX)),
            self.state.pools.name(place.pool),
            line.and_then(|line| line.short_since).map_or_else(String::new, |since| self.claim_text(now, place, since)),
        )
    }

    /// It may take the place of borrowers once it has waited half its grace.
    fn claim_text(&self, now: Timestamp, place: Place, since: Timestamp) -> String {
        let from = since + Span(self.state.pools.spec(place.pool).grace.0 / 2);
        if from > now {
            format!("; it may take the place of borrowers, the first in {:.1} s", from.since(now).as_secs_f64())
        } else {
            let for_s = now.since(from).as_secs_f64();
            format!("; it may take the place of borrowers since {for_s:.1} s, and none was found that can go")
        }
    }
}
