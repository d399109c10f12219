//! Who is owed room gets it: from borrowers, and by draining a worker for what is too big to find any.
//!
//! Looked at on the clock, not with every input: a line that waits is short for seconds before anything happens to anybody, so a look every
//! [`LOOK_EVERY`] loses nothing and costs as little as the lines are few.

use spool_proto::ids::{TaskId, WorkerName};
use spool_proto::pool::{Hold, Preemption};
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::WorkerHealth;

use crate::contest::ShapeSet;
use crate::engine::Engine;
use crate::io::Effect;
use crate::pools::PoolIx;
use crate::queue::{Head, Line, Place};
use crate::reserve::For;
use crate::revoke;
use crate::shapes::ShapeId;

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

#[derive(Debug, Clone, Copy)]
enum Lacks {
    Room,
    Quota,
}

/// A leased task that may have to go: opportunistic ones first, then the youngest.
type Candidate = (bool, Span, TaskId, WorkerName, ShapeId);

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
        (self.state.queue.len() > 0 && !self.state.workers.is_empty()).then_some(self.next_look)
    }

    /// Finds lines that are short of room or quota, and sees to it when they have waited enough.
    pub(crate) fn look_for_the_short(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if self.next_look > now {
            return;
        }
        self.next_look = now + if self.may_preempt_anything() { LOOK_EVERY } else { LOOK_EVERY.saturating_mul(8) };
        self.expire_reservations(now);
        let blocked = |line: &Line| match (line.parked, line.is_listed()) {
            (Some(_), _) if self.state.pools.hold(line.place.pool) == Hold::Open => Some(Lacks::Quota),
            (None, true) if self.state.closed.contains(line.place.shape) => Some(Lacks::Room),
            _ => None,
        };
        let lines = self.state.queue.lines();
        let short: Vec<_> = lines.filter_map(|(ix, line)| Some((ix, line.place, blocked(line)?))).collect();
        self.short = 0;
        for (ix, place, lacks) in short {
            let ground = self.ground(place);
            let Some(line) = self.state.queue.get_mut(ix) else { continue };
            line.stuck_since.get_or_insert(now);
            let Some(ground) = ground else {
                line.short_since = None;
                continue;
            };
            let since = *line.short_since.get_or_insert(now);
            self.short += u64::from(matches!(ground, Ground::Guarantee(_)));
            let patience = Span(self.state.pools.spec(place.pool).grace.0 / 2);
            if since + patience <= now {
                match lacks {
                    Lacks::Room => self.reclaim_room(now, place, &ground, out),
                    Lacks::Quota => self.reclaim_quota(now, place, &ground, out),
                }
            }
        }
        self.drain_for_the_stuck(now, out);
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

    /// Stops as many tasks as the line is owed, and reserves their room.
    fn reclaim_room(&mut self, now: Timestamp, place: Place, ground: &Ground, out: &mut Vec<Effect>) {
        let Some(waiting) =
            self.state.queue.find(&place).and_then(|ix| self.state.queue.get(ix)).map(|line| line.waiting)
        else {
            return;
        };
        let need = self.state.shapes.need(place.shape).clone();
        // What is reserved already counts as its own while it asks for more.
        let reserved = self.reserved.count(&place);
        for _ in 0..reserved {
            self.state.pools.charge(place.pool, &need);
        }
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
            if self.state.pools.admits(place.pool, &need).is_err() {
                break;
            }
            let Some(plan) = self.plan(now, place, &ground) else { break };
            if matches!(ground, Ground::Fair) {
                self.last_fair.insert(place.pool, now);
            }
            for victim in &plan.victims {
                self.preempt(&plan.worker, *victim, out);
            }
            self.reserve(now, &plan.worker, (place, For::Reclaim), out);
            self.state.pools.charge(place.pool, &need);
            asked += 1;
        }
        for _ in 0..reserved + asked {
            self.state.pools.release(place.pool, &need);
        }
    }

    fn preempt(&mut self, worker: &WorkerName, victim: TaskId, out: &mut Vec<Effect>) {
        self.tally.preempted(self.state.jobs[&victim.job].pool, &self.state.pools);
        self.revoke(worker, victim, revoke::PREEMPTED, out);
        self.changed(victim.job);
    }

    /// Stops tasks until the line has the quota it is owed. There is no room to keep: with the quota given back, it is its turn.
    fn reclaim_quota(&mut self, now: Timestamp, place: Place, ground: &Ground, out: &mut Vec<Effect>) {
        let Some(waiting) =
            self.state.queue.find(&place).and_then(|ix| self.state.queue.get(ix)).map(|line| line.waiting)
        else {
            return;
        };
        let need = self.state.shapes.need(place.shape).clone();
        let (mut candidates, mut moved) = (Vec::new(), Vec::new());
        for (name, worker) in &self.state.workers {
            for (task, held) in &worker.held {
                let Some(job) = self.state.jobs.get(&task.job) else { continue };
                if held.revoked.is_some() {
                    // It is on its way back.
                    moved.push((job.pool, held.shape));
                } else if job.new.preemptible {
                    let ran = job.task(task.index).and_then(|t| t.lease_on(name)).map_or(Span::ZERO, |l| now.since(l.at));
                    candidates.push((!job.opportunistic, ran, *task, name.clone(), held.shape));
                }
            }
        }
        candidates.sort_unstable();
        for (pool, shape) in &moved {
            self.state.pools.release(*pool, &self.state.shapes.need(*shape).clone());
        }
        let (mut victims, mut mine) = (Vec::new(), 0_u64);
        while mine < waiting {
            if let Ground::Guarantee(_) = ground
                && self.state.pools.entitled(place.pool, &need).is_empty()
            {
                break;
            }
            if matches!(ground, Ground::Fair) && !self.fair_turn(now, place.pool) {
                break;
            }
            if self.state.pools.admits(place.pool, &need).is_err() {
                let chosen = self.victims_for_quota(place, ground, &mut candidates);
                if chosen.is_empty() {
                    break;
                }
                if matches!(ground, Ground::Fair) {
                    self.last_fair.insert(place.pool, now);
                }
                for (_, _, task, worker, shape) in chosen {
                    moved.push((self.state.jobs[&task.job].pool, shape));
                    victims.push((worker, task));
                }
            }
            self.state.pools.charge(place.pool, &need);
            mine += 1;
        }
        for _ in 0..mine {
            self.state.pools.release(place.pool, &need);
        }
        for (pool, shape) in moved {
            self.state.pools.charge(pool, &self.state.shapes.need(shape).clone());
        }
        for (worker, task) in victims {
            self.preempt(&worker, task, out);
        }
    }

    /// The fewest, youngest tasks without which the line's next one is admitted, taken out of the candidates and released. Empty:
    /// there is no such set.
    fn victims_for_quota(&mut self, place: Place, ground: &Ground, candidates: &mut Vec<Candidate>) -> Vec<Candidate> {
        let need = self.state.shapes.need(place.shape).clone();
        let mut chosen: Vec<Candidate> = Vec::new();
        for candidate in candidates.iter() {
            let (_, _, task, _, shape) = candidate;
            let (pool, opportunistic) = (self.state.jobs[&task.job].pool, self.state.jobs[&task.job].opportunistic);
            if self.may_take(place, ground, (pool, opportunistic, *shape)) {
                self.state.pools.release(pool, &self.state.shapes.need(*shape).clone());
                chosen.push(candidate.clone());
                if self.state.pools.admits(place.pool, &need).is_ok() {
                    break;
                }
            }
        }
        let enough = self.state.pools.admits(place.pool, &need).is_ok();
        // Each is looked at again, the oldest first: is the task admitted with it, too?
        for at in (0..chosen.len()).rev() {
            let (_, _, task, _, shape) = &chosen[at];
            let (pool, uses) = (self.state.jobs[&task.job].pool, self.state.shapes.need(*shape).clone());
            self.state.pools.charge(pool, &uses);
            if !enough || self.state.pools.admits(place.pool, &need).is_ok() {
                chosen.remove(at);
            } else {
                self.state.pools.release(pool, &uses);
            }
        }
        candidates.retain(|candidate| !chosen.iter().any(|taken| taken.2 == candidate.2));
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
        let ran =
            plan.victims.iter().filter_map(|task| self.state.task(*task)?.lease_on(&plan.worker).map(|lease| now.since(lease.at)));
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
        let mut candidates: Vec<(bool, Span, TaskId)> = running
            .filter_map(|(task, _)| {
                let job = self.state.jobs.get(&task.job)?;
                let ran = now.since(job.task(task.index)?.lease_on(&worker)?.at);
                job.new.preemptible.then_some((!job.opportunistic, ran, *task))
            })
            .collect();
        // Opportunistic ones first, then the youngest.
        candidates.sort_unstable();
        let mut chosen: Vec<(TaskId, Resources)> = Vec::new();
        for (_, _, task) in candidates {
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
    fn free_soon(&self, worker: &WorkerName) -> Resources {
        let known = &self.state.workers[worker];
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

    /// The first in order that has found no room for long, though a worker could hold it, gets one drained.
    fn drain_for_the_stuck(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let most = (self.state.workers.len() / 10).max(1);
        if self.reserved.drained() >= most {
            return;
        }
        self.state.queue.refresh(&self.state.pools);
        let none = ShapeSet::default();
        let Some(head) = self.state.queue.best(false, &none).or_else(|| self.state.queue.best(true, &none)) else {
            return;
        };
        let Head { line, place, .. } = head;
        let stuck = self.state.queue.get(line).and_then(|line| line.stuck_since);
        let long = stuck.is_some_and(|since| since + self.config.reserve_after <= now);
        if !long || !self.state.closed.contains(place.shape) || self.reserved.count(&place) > 0 {
            return;
        }
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
