//! Who is owed room gets it: from borrowers, and by draining a worker for what is too big to find any.
//!
//! Looked at on the clock, not with every input: a line that waits is short for seconds before anything happens to anybody, so a look every
//! [`LOOK_EVERY`] loses nothing and costs as little as the lines are few.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use spool_proto::ids::{Fence, TaskId, WorkerName};
use spool_proto::pool::{Hold, Preemption};
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::WorkerHealth;

use crate::asks::ShapeSet;
use crate::engine::Engine;
use crate::io::Effect;
use crate::pools::PoolIx;
use crate::queue::{Head, Line, Place};
use crate::reserve::For;
use crate::revoke;
use crate::shapes::ShapeId;
use crate::state::State;

/// Quota that was reclaimed is kept this long for whom it was.
const PROMISED_FOR: Span = Span::from_secs(10);

pub(crate) const LOOK_EVERY: Span = Span::from_millis(250);

/// On what grounds a running task is taken.
#[derive(Debug, Clone)]
enum Ground {
    /// Entitled at these nodes of its path.
    Guarantee(Vec<PoolIx>),
    /// Less than its fair share.
    Fair,
    /// Only from opportunistic work.
    Standard,
}

/// A leased task that may have to go: opportunistic ones first, then the youngest.
type Candidate = (bool, Span, Reverse<Fence>, TaskId, WorkerName, ShapeId);

/// What was counted into usage for the length of one look.
#[derive(Debug, Default)]
struct Ledger(Vec<(PoolIx, ShapeId, Entry)>);

#[derive(Debug, Clone, Copy)]
enum Entry {
    Charge,
    Release,
}

/// A task that lies ready on a worker since then.
type Lying = (Timestamp, TaskId, WorkerName);

/// Whom to stop on one worker.
#[derive(Debug)]
struct Plan {
    worker: WorkerName,
    victims: Vec<TaskId>,
}

/// Lower wins. The order of the fields is the policy.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cost<'a> {
    victims: usize,
    /// Work that would be lost.
    ran: Span,
    worker: &'a WorkerName,
}

impl Engine {
    /// Whether any line may be owed room: then time matters.
    pub(crate) fn next_look(&self) -> Option<Timestamp> {
        let waits = self.state.queue.len() > 0 || self.rooms.loaded().next().is_some();
        (waits && !self.state.workers.is_empty()).then_some(self.next_look)
    }

    /// Finds lines that are short of room or quota, and sees to it when they have waited enough.
    pub(crate) fn look_for_the_short(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if self.next_look > now {
            return;
        }
        self.next_look = now + if self.may_preempt_anything() { LOOK_EVERY } else { LOOK_EVERY.saturating_mul(8) };
        self.expire_reservations(now);
        self.short = 0;
        if self.may_preempt_anything() {
            let mut ledger = self.foresee();
            // Promised quota is spoken for where quota is looked at; who has it may still be owed the room.
            let mut promises = Ledger::default();
            for (place, _) in self.promised.clone() {
                self.enter(&mut promises, place.pool, place.shape, Entry::Charge);
            }
            self.look_at_quota(now, &mut ledger, out);
            self.settle_ledger(promises);
            self.look_at_room(now, &mut ledger, out);
            self.settle_ledger(ledger);
        } else {
            let closed = &self.state.closed;
            let stuck = |line: &&mut Line| closed.contains(line.place.shape);
            for line in self.state.queue.open_mut(&self.state.pools).filter(stuck) {
                line.stuck_since.get_or_insert(now);
            }
        }
        self.drain_for_the_stuck(now, out);
    }

    /// Usage as it will be: without what is on its way back, with what room is reserved for. So several lines of one pool, or of one
    /// ancestor, do not claim the same guarantee, and nobody is taken below his own by two of them.
    fn foresee(&mut self) -> Ledger {
        let mut ledger = Ledger::default();
        let held = self.state.workers.values().flat_map(|worker| &worker.held);
        let returning = held.filter(|(_, held)| held.revoked.is_some());
        let returning: Vec<_> =
            returning.filter_map(|(task, held)| Some((self.state.jobs.get(&task.job)?.pool, held.shape))).collect();
        for (pool, shape) in returning {
            self.enter(&mut ledger, pool, shape, Entry::Release);
        }
        let promised = self.reserved.all().filter(|(_, one)| one.why == For::Reclaim);
        for place in promised.map(|(_, one)| one.place).collect::<Vec<_>>() {
            self.enter(&mut ledger, place.pool, place.shape, Entry::Charge);
        }
        ledger
    }

    fn enter(&mut self, ledger: &mut Ledger, pool: PoolIx, shape: ShapeId, entry: Entry) {
        let need = self.state.shapes.need(shape);
        match entry {
            Entry::Charge => self.state.pools.charge(pool, need),
            Entry::Release => self.state.pools.release(pool, need),
        }
        ledger.0.push((pool, shape, entry));
    }

    /// Usage is again what it is.
    fn settle_ledger(&mut self, ledger: Ledger) {
        for (pool, shape, entry) in ledger.0.into_iter().rev() {
            let need = self.state.shapes.need(shape);
            match entry {
                Entry::Charge => self.state.pools.release(pool, need),
                Entry::Release => self.state.pools.charge(pool, need),
            }
        }
    }

    /// Lines that are parked though they are owed something.
    fn look_at_quota(&mut self, now: Timestamp, ledger: &mut Ledger, out: &mut Vec<Effect>) {
        let (queue, pools) = (&self.state.queue, &self.state.pools);
        let open = |line: &&Line| pools.hold(line.place.pool) == Hold::Open && queue.parked_on(pools, line).is_some();
        let parked: Vec<Place> =
            self.state.queue.lines().map(|(_, line)| line).filter(open).map(|line| line.place).collect();
        for place in parked {
            if let Some(ground) = self.patience_is_over(now, place, None) {
                self.reclaim_quota(now, place, &ground, (ledger, out));
            }
        }
    }

    /// Lines that nobody has room for. What lies ready behind others has no room either: it is not counted as used.
    fn look_at_room(&mut self, now: Timestamp, ledger: &mut Ledger, out: &mut Vec<Effect>) {
        let lying = self.lying_ready();
        for (place, tasks) in &lying {
            tasks.iter().for_each(|_| self.enter(ledger, place.pool, place.shape, Entry::Release));
        }
        let State { queue, pools, closed, .. } = &self.state;
        let closed = |line: &&Line| closed.contains(line.place.shape) && queue.stands_open(pools, line);
        let lines = self.state.queue.lines().map(|(_, line)| line).filter(closed).map(|line| line.place);
        let places: BTreeSet<Place> = lines.chain(lying.keys().copied()).collect();
        for place in places {
            let line = self.state.queue.find(&place).and_then(|ix| self.state.queue.get_mut(ix));
            if let Some(line) = line {
                line.stuck_since.get_or_insert(now);
            }
            let ready = lying.get(&place).map(Vec::as_slice).unwrap_or_default();
            let since = ready.iter().map(|(since, ..)| *since).min();
            if let Some(ground) = self.patience_is_over(now, place, since) {
                self.reclaim_room(now, place, &ground, ready, (ledger, out));
            }
        }
    }

    /// Leased tasks that wait behind others, oldest first.
    fn lying_ready(&self) -> BTreeMap<Place, Vec<Lying>> {
        let mut lying: BTreeMap<Place, Vec<Lying>> = BTreeMap::new();
        for (name, worker) in self.state.workers.iter().filter(|(_, worker)| worker.waiting > 0) {
            for task in worker.lines.values().flat_map(|line| line.waiting.values()) {
                let held = &worker.held[task];
                let (Some(job), None) = (self.state.jobs.get(&task.job), held.revoked) else { continue };
                let Some(lease) = job.task(task.index).and_then(|task| task.lease()) else { continue };
                lying.entry(Place::new(job, held.shape)).or_default().push((lease.at, *task, name.clone()));
            }
        }
        lying.values_mut().for_each(|tasks| tasks.sort_unstable());
        lying
    }

    /// The ground on which the line may take somebody's place, once it has waited long enough for it.
    fn patience_is_over(&mut self, now: Timestamp, place: Place, ready_since: Option<Timestamp>) -> Option<Ground> {
        let ground = self.ground(place);
        let line = self.state.queue.find(&place).and_then(|ix| self.state.queue.get_mut(ix));
        let Some(ground) = ground else {
            if let Some(line) = line {
                line.short_since = None;
            }
            return None;
        };
        let line_since = line.map(|line| *line.short_since.get_or_insert(now));
        self.short += u64::from(matches!(ground, Ground::Guarantee(_)) && line_since.is_some());
        let since = line_since.into_iter().chain(ready_since).min()?;
        let patience = Span(self.state.pools.spec(place.pool).grace.0 / 2);
        (since + patience <= now).then_some(ground)
    }

    fn may_preempt_anything(&self) -> bool {
        self.state.pools.has_guarantees() || self.state.pools.has_fair() || self.state.any_opportunistic()
    }

    /// Why the line's next task may take somebody's place, if at all.
    fn ground(&self, place: Place) -> Option<Ground> {
        let pools = &self.state.pools;
        let need = self.state.shapes.need(place.shape);
        let policy = pools.may_preempt(place.pool);
        if place.opportunistic || policy == Preemption::Never {
            return None;
        }
        if pools.has_guarantees() {
            let mut at = pools.entitled(place.pool, need);
            // What must not be preempted runs on its own pool's guarantee or not at all.
            at.retain(|pool| !place.fixed || *pool == place.pool);
            if !at.is_empty() {
                return Some(Ground::Guarantee(at));
            }
        }
        if policy == Preemption::Fair {
            return Some(Ground::Fair);
        }
        self.state.any_opportunistic().then_some(Ground::Standard)
    }

    /// Stops as many tasks as the line is owed, and reserves their room. What lies `ready` comes back for it where the line itself has
    /// nothing more.
    fn reclaim_room(
        &mut self,
        now: Timestamp,
        place: Place,
        ground: &Ground,
        ready: &[Lying],
        (ledger, out): (&mut Ledger, &mut Vec<Effect>),
    ) {
        let line = self.state.queue.find(&place).and_then(|ix| self.state.queue.get(ix));
        let queued = line.map_or(0, |line| line.waiting);
        let waiting = queued + u64::try_from(ready.len()).expect("bounded by the fleet");
        let need = self.state.shapes.need(place.shape).clone();
        let reserved = self.reserved.count(&place);
        let mut asked = 0;
        while reserved + asked < waiting {
            let ground = match ground {
                Ground::Guarantee(_) => match self.state.pools.entitled(place.pool, &need) {
                    at if at.is_empty() => break,
                    at => Ground::Guarantee(at),
                },
                Ground::Fair if !self.fair_turn(now, place.pool) => break,
                other => other.clone(),
            };
            if self.admits(place).is_err() {
                break;
            }
            let Some(plan) = self.plan(now, place, &ground) else { break };
            if matches!(ground, Ground::Fair) {
                self.last_fair.insert(place.pool, now);
            }
            if reserved + asked >= queued {
                // The youngest of those that lie ready is fetched.
                let at = ready.len() - 1 - usize::try_from(reserved + asked - queued).expect("fewer than lie ready");
                let (_, task, worker) = &ready[at];
                let held = self.state.workers.get(worker).and_then(|worker| worker.held.get(task));
                if held.is_some_and(|held| held.revoked.is_none()) {
                    self.revoke(worker, *task, revoke::RETRACTED, out);
                }
            }
            // First what lies ready there is taken back, then room is made: else it would start in it.
            self.reserve(now, &plan.worker, (place, For::Reclaim), out);
            for victim in &plan.victims {
                self.preempt(&plan.worker, *victim, (ledger, out));
            }
            self.enter(ledger, place.pool, place.shape, Entry::Charge);
            asked += 1;
        }
    }

    fn preempt(&mut self, worker: &WorkerName, victim: TaskId, (ledger, out): (&mut Ledger, &mut Vec<Effect>)) {
        let job = &self.state.jobs[&victim.job];
        let (pool, shape) = (job.pool, job.run_of(victim.index).expect("it runs").shape);
        self.enter(ledger, pool, shape, Entry::Release);
        self.tally.preempted(pool, &self.state.pools);
        self.revoke(worker, victim, revoke::PREEMPTED, out);
        self.changed(victim.job);
    }

    /// Stops tasks until the line has the quota it is owed. There is no room to keep: with the quota given back, it is its turn.
    fn reclaim_quota(
        &mut self,
        now: Timestamp,
        place: Place,
        ground: &Ground,
        (ledger, out): (&mut Ledger, &mut Vec<Effect>),
    ) {
        let Some(waiting) =
            self.state.queue.find(&place).and_then(|ix| self.state.queue.get(ix)).map(|line| line.waiting)
        else {
            return;
        };
        let need = self.state.shapes.need(place.shape).clone();
        let mut candidates = Vec::new();
        for (name, worker) in self.state.workers.iter() {
            for (task, held) in worker.held.iter().filter(|(_, held)| held.revoked.is_none()) {
                let Some(job) = self.state.jobs.get(&task.job).filter(|job| job.new.preemptible) else { continue };
                let ran = job.task(task.index).and_then(|t| t.lease_on(name)).map_or(Span::ZERO, |l| now.since(l.at));
                candidates.push((!job.opportunistic, ran, Reverse(held.fence), *task, name.clone(), held.shape));
            }
        }
        candidates.sort_unstable();
        let promised = self.promised.iter().filter(|(promised, _)| *promised == place).count();
        for _ in u64::try_from(promised).unwrap_or(u64::MAX)..waiting {
            let owed = match ground {
                Ground::Guarantee(_) => !self.state.pools.entitled(place.pool, &need).is_empty(),
                Ground::Fair => self.fair_turn(now, place.pool),
                Ground::Standard => true,
            };
            if !owed {
                break;
            }
            if self.admits(place).is_err() {
                let chosen = self.victims_for_quota(place, ground, &mut candidates);
                if chosen.is_empty() {
                    break;
                }
                if matches!(ground, Ground::Fair) {
                    self.last_fair.insert(place.pool, now);
                }
                for (_, _, _, task, worker, _) in chosen {
                    self.preempt(&worker, task, (ledger, out));
                }
            }
            self.enter(ledger, place.pool, place.shape, Entry::Charge);
            self.promised.push((place, now + PROMISED_FOR));
        }
    }

    /// The fewest, youngest tasks without which the line's next one is admitted, taken out of the candidates. Empty:
    /// there is no such set.
    fn victims_for_quota(&mut self, place: Place, ground: &Ground, candidates: &mut Vec<Candidate>) -> Vec<Candidate> {
        let mut chosen: Vec<Candidate> = Vec::new();
        for candidate in candidates.iter() {
            let (_, _, _, task, _, shape) = candidate;
            let (pool, opportunistic) = (self.state.jobs[&task.job].pool, self.state.jobs[&task.job].opportunistic);
            if self.may_take(place, ground, (pool, opportunistic, *shape)) {
                self.state.pools.release(pool, &self.state.shapes.need(*shape).clone());
                chosen.push(candidate.clone());
                if self.admits(place).is_ok() {
                    break;
                }
            }
        }
        let enough = self.admits(place).is_ok();
        // Each is looked at again, the oldest first: is the task admitted with it, too?
        for at in (0..chosen.len()).rev() {
            let (_, _, _, task, _, shape) = &chosen[at];
            let (pool, uses) = (self.state.jobs[&task.job].pool, self.state.shapes.need(*shape).clone());
            self.state.pools.charge(pool, &uses);
            if !enough || self.admits(place).is_ok() {
                chosen.remove(at);
            } else {
                self.state.pools.release(pool, &uses);
            }
        }
        // Only looked at: who takes them enters it.
        for (_, _, _, task, _, shape) in &chosen {
            let pool = self.state.jobs[&task.job].pool;
            self.state.pools.charge(pool, &self.state.shapes.need(*shape).clone());
        }
        candidates.retain(|candidate| !chosen.iter().any(|taken| taken.3 == candidate.3));
        chosen
    }

    fn fair_turn(&self, now: Timestamp, pool: PoolIx) -> bool {
        self.last_fair.get(&pool).is_none_or(|last| *last + self.config.fair_every <= now)
    }

    /// The cheapest set of victims on one worker that makes room for the line's next task.
    fn plan(&mut self, now: Timestamp, place: Place, ground: &Ground) -> Option<Plan> {
        let healthy = |name: &&WorkerName| *self.health(name) == WorkerHealth::Healthy;
        let workers: Vec<WorkerName> = self.rooms.members().filter(healthy).cloned().collect();
        let mut best: Option<(usize, Span, Plan)> = None;
        for worker in workers {
            let Some(plan) = self.plan_on(now, worker, place, ground) else { continue };
            let ran = self.lost(now, &plan);
            let cost = |victims, ran, worker| Cost { victims, ran, worker };
            let better = best.as_ref().is_none_or(|(victims, lost, old)| {
                cost(plan.victims.len(), ran, &plan.worker) < cost(*victims, *lost, &old.worker)
            });
            if better {
                best = Some((plan.victims.len(), ran, plan));
            }
        }
        best.map(|(.., plan)| plan)
    }

    fn lost(&self, now: Timestamp, plan: &Plan) -> Span {
        let ran = plan
            .victims
            .iter()
            .filter_map(|task| self.state.task(*task)?.lease_on(&plan.worker).map(|lease| now.since(lease.at)));
        ran.fold(Span::ZERO, |sum, ran| sum + ran)
    }

    fn plan_on(&mut self, now: Timestamp, worker: WorkerName, place: Place, ground: &Ground) -> Option<Plan> {
        let known = self.state.workers.get(&worker)?;
        let shape = self.state.shapes.get(place.shape).clone();
        if !known.offers(&shape.backend) || !shape.resources.fits_in(&known.capacity) {
            return None;
        }
        // What is on its way back is spoken for: by its reservation, or by the job that was cancelled.
        let mut free = self.reserved.free_beside(&worker, self.free_soon(&worker));
        if shape.resources.fits_in(&free) {
            // Room is coming without any victim.
            return Some(Plan { worker, victims: Vec::new() });
        }
        let running = known.held.iter().filter(|(_, held)| held.charged && held.revoked.is_none());
        let mut candidates: Vec<(bool, Span, Reverse<Fence>, TaskId)> = running
            .filter_map(|(task, held)| {
                let job = self.state.jobs.get(&task.job)?;
                let ran = now.since(job.task(task.index)?.lease_on(&worker)?.at);
                job.new.preemptible.then_some((!job.opportunistic, ran, Reverse(held.fence), *task))
            })
            .collect();
        // Opportunistic ones first, then the youngest.
        candidates.sort_unstable();
        let mut chosen: Vec<(TaskId, Resources)> = Vec::new();
        for (.., task) in candidates {
            if shape.resources.fits_in(&free) {
                break;
            }
            let job = &self.state.jobs[&task.job];
            let (pool, shape_of) = (job.pool, job.run_of(task.index)?.shape);
            if !self.may_take(place, ground, (pool, job.opportunistic, shape_of)) {
                continue;
            }
            let uses = self.state.shapes.need(shape_of).clone();
            self.state.pools.release(pool, &uses);
            let resources = self.state.shapes.get(shape_of).resources.clone();
            free.add(&resources);
            chosen.push((task, resources));
        }
        for (task, _) in &chosen {
            let job = &self.state.jobs[&task.job];
            let shape_of = job.run_of(task.index).expect("it runs").shape;
            let uses = self.state.shapes.need(shape_of).clone();
            self.state.pools.charge(job.pool, &uses);
        }
        if !shape.resources.fits_in(&free) {
            return None;
        }
        // Each is looked at again, the oldest first: without it, is there still room?
        for at in (0..chosen.len()).rev() {
            let mut without = free.clone();
            without.sub(&chosen[at].1);
            if shape.resources.fits_in(&without) {
                free = without;
                chosen.remove(at);
            }
        }
        Some(Plan { worker, victims: chosen.into_iter().map(|(task, _)| task).collect() })
    }

    /// What will be free when everything that was revoked has come back.
    pub(crate) fn free_soon(&self, worker: &WorkerName) -> Resources {
        let Some(known) = self.state.workers.get(worker) else { return Resources::ZERO };
        let mut free = known.free();
        for held in known.held.values().filter(|held| held.charged && held.revoked.is_some()) {
            free.add(&self.state.shapes.get(held.shape).resources);
        }
        free
    }

    fn may_take(
        &mut self,
        place: Place,
        ground: &Ground,
        (victim, opportunistic, shape): (PoolIx, bool, ShapeId),
    ) -> bool {
        if opportunistic {
            return true;
        }
        let need = self.state.shapes.need(place.shape).clone();
        let uses = self.state.shapes.need(shape).clone();
        match ground {
            Ground::Guarantee(at) => self.state.pools.may_take((place.pool, &need, at), (victim, &uses)),
            Ground::Fair => {
                let zone = self.config.fair_dead_zone_milli;
                let above = self.state.pools.below_common(victim, place.pool);
                let borrows =
                    above.iter().all(|pool| need.iter().any(|(kind, _)| self.state.pools.borrowed(*pool, *kind) > 0));
                borrows && self.state.pools.is_fairer((place.pool, &need), (victim, &uses), zone)
            }
            Ground::Standard => false,
        }
    }

    // ------------------------------------------------------------ big tasks

    /// Who has found no room for long though it is his turn, and a worker could hold him, gets one drained.
    fn drain_for_the_stuck(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let most = (self.state.workers.len() / 10).max(1);
        if self.reserved.drained() >= most {
            return;
        }
        self.state.queue.refresh(&self.state.pools);
        let none = ShapeSet::default();
        let first = self.state.queue.best(false, &none).or_else(|| self.state.queue.best(true, &none));
        let first = first.map(|Head { place, .. }| place);
        // Its turn has come: it is the first of all, or the first of a pool of which smaller ones have started meanwhile.
        let overtaken = |line: &Line| -> Option<(Timestamp, Place)> {
            let since = line.stuck_since.filter(|since| *since + self.config.reserve_after <= now)?;
            let (place, key) = (line.place, line.head()?);
            let rivals = || self.state.queue.of_pool(place.pool).filter_map(|(_, other)| other.head());
            let passed = self.tally.last_lease(place.pool).is_some_and(|last| last > since);
            let turn = first == Some(place) || (passed && rivals().all(|other| key <= other));
            let open = self.state.queue.stands_open(&self.state.pools, line);
            let closed = open && self.state.closed.contains(place.shape);
            (closed && turn && self.reserved.count(&place) == 0).then_some((since, place))
        };
        let longest = self.state.queue.lines().filter_map(|(_, line)| overtaken(line)).min();
        let Some((_, place)) = longest else { return };
        let shape = self.state.shapes.get(place.shape).clone();
        // Where least has to end first.
        let candidates = self.rooms.members().filter_map(|name| {
            let worker = &self.state.workers[name];
            let suits = worker.offers(&shape.backend) && shape.resources.fits_in(&worker.capacity);
            let busy = worker.held.values().filter(|held| held.charged).count();
            let healthy = *self.health(name) == WorkerHealth::Healthy;
            (suits && healthy && !self.reserved.any_on(name)).then_some((busy, name))
        });
        let Some(worker) = candidates.min().map(|(_, name)| name.clone()) else { return };
        self.reserve(now, &worker, (place, For::Drain), out);
    }
}
