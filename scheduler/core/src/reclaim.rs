//! Who is owed room gets it, from borrowers.
//!
//! Looked at on the clock, not with every input: a line that waits is short for seconds before anything happens to anybody, so a look every
//! [`LOOK_EVERY`] loses nothing and costs as little as the lines are few.

use std::collections::BTreeMap;

use spool_proto::ids::{TaskId, WorkerName};
use spool_proto::pool::{Hold, Preemption};
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};

use crate::engine::Engine;
use crate::forecast::{Forecast, Victim};
use crate::io::Effect;
use crate::pools::PoolIx;
use crate::queue::{Key, Line, Place};
use crate::reserve::For;
use crate::revoke;
use crate::state::State;
use crate::victims::{Claim, Ground, Plan, Sites};

pub(crate) const LOOK_EVERY: Span = Span::from_millis(250);

/// A task that lies ready on a worker since then.
type Lying = (Timestamp, TaskId, WorkerName);

/// A line whose tasks find no quota or no room.
#[derive(Debug)]
struct Short {
    place: Place,
    /// What of it lies ready behind others, oldest first: that found no room either.
    ready: Vec<Lying>,
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
        let may_preempt = self.may_preempt_anything();
        self.next_look = now + if may_preempt { LOOK_EVERY } else { LOOK_EVERY.saturating_mul(8) };
        self.short = 0;
        if may_preempt || self.reserved.all().next().is_some() {
            let mut forecast = self.forecast(now);
            let shorts = if may_preempt { self.shorts(&forecast) } else { Vec::new() };
            self.expire_reservations(now, &mut forecast);
            for short in shorts {
                if let Some(ground) = self.patience_is_over(now, &short, &forecast) {
                    self.claim(now, &short, ground, &mut forecast, out);
                }
            }
        }
        let State { queue, pools, closed, .. } = &mut self.state;
        for line in queue.open_mut(pools, closed) {
            line.stuck_since.get_or_insert(now);
        }
        self.drain_for_the_stuck(now, out);
    }

    fn may_preempt_anything(&self) -> bool {
        self.state.pools.has_guarantees() || self.state.pools.has_fair() || self.state.any_opportunistic()
    }

    /// Whether a line there may have a ground to claim on, as far as its pool alone says.
    fn may_claim(&self, place: Place, forecast: &Forecast) -> bool {
        let policy = self.state.pools.may_preempt(place.pool);
        let anybody = policy == Preemption::Fair || self.state.any_opportunistic();
        !place.opportunistic && policy != Preemption::Never && (anybody || forecast.has_slack(place.pool))
    }

    /// In the order in which they claim: within a pool the best goes first.
    fn shorts(&mut self, forecast: &Forecast) -> Vec<Short> {
        let mut lying = self.lying_ready(forecast);
        let State { queue, pools, closed, .. } = &self.state;
        let is_short = |line: &Line| {
            let parked = pools.hold(line.place.pool) == Hold::Open && queue.parked_on(pools, line).is_some();
            parked || (closed.contains(line.place.shape) && queue.stands_open(pools, line))
        };
        let (mut groundless, mut shorts) = (Vec::new(), Vec::<(PoolIx, Option<Key>, Short)>::new());
        for (at, line) in queue.lines() {
            let place = line.place;
            if !self.may_claim(place, forecast) {
                groundless.extend(line.short_since.filter(|_| is_short(line)).map(|_| at));
            } else if is_short(line) {
                let ready = lying.remove(&place).unwrap_or_default();
                shorts.push((place.pool, line.head(), Short { place, ready }));
            }
        }
        for (place, ready) in lying {
            let head = queue.find(&place).and_then(|ix| queue.get(ix)?.head());
            shorts.push((place.pool, head, Short { place, ready }));
        }
        for line in groundless {
            if let Some(line) = self.state.queue.get_mut(line) {
                line.short_since = None;
            }
        }
        shorts.sort_by_key(|(pool, head, short)| (*pool, *head, short.place));
        shorts.into_iter().map(|(.., short)| short).collect()
    }

    /// Leased tasks that wait behind others, oldest first, of lines that may claim.
    fn lying_ready(&self, forecast: &Forecast) -> BTreeMap<Place, Vec<Lying>> {
        let mut lying: BTreeMap<Place, Vec<Lying>> = BTreeMap::new();
        for (name, worker) in self.state.workers.iter().filter(|(_, worker)| worker.waiting > 0) {
            for task in worker.lines.values().flat_map(|line| line.waiting.values()) {
                let held = &worker.held[task];
                let (Some(job), None) = (self.state.jobs.get(&task.job), held.revoked) else { continue };
                let place = Place::new(job, held.shape);
                if !self.may_claim(place, forecast) {
                    continue;
                }
                let Some(lease) = job.task(task.index).and_then(|task| task.lease()) else { continue };
                lying.entry(place).or_default().push((lease.at, *task, name.clone()));
            }
        }
        lying.values_mut().for_each(|tasks| tasks.sort_unstable());
        lying
    }

    /// The ground on which the line may take somebody's place, once it has waited long enough for it.
    fn patience_is_over(&mut self, now: Timestamp, short: &Short, forecast: &Forecast) -> Option<Ground> {
        let place = short.place;
        let ground = self.ground(place, forecast);
        let line = self.state.queue.find(&place).and_then(|ix| self.state.queue.get_mut(ix));
        let Some(ground) = ground else {
            if let Some(line) = line {
                line.short_since = None;
            }
            return None;
        };
        let line_since = line.map(|line| *line.short_since.get_or_insert(now));
        self.short += u64::from(matches!(ground, Ground::Guarantee(_)) && line_since.is_some());
        let ready_since = short.ready.first().map(|(since, ..)| *since);
        let since = line_since.into_iter().chain(ready_since).min()?;
        let patience = Span(self.state.pools.spec(place.pool).grace.0 / 2);
        (since + patience <= now).then_some(ground)
    }

    /// Why the line's next task may take somebody's place, if at all.
    fn ground(&self, place: Place, forecast: &Forecast) -> Option<Ground> {
        let pools = &self.state.pools;
        let policy = pools.may_preempt(place.pool);
        if place.opportunistic || policy == Preemption::Never {
            return None;
        }
        if pools.has_guarantees() {
            let mut at = forecast.running.entitled(place.pool, self.state.shapes.need(place.shape));
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

    /// Stops as many tasks as the line is owed, and keeps their room and quota for it. What lies ready elsewhere comes back for it where
    /// the line itself has nothing more.
    fn claim(&mut self, now: Timestamp, short: &Short, first: Ground, forecast: &mut Forecast, out: &mut Vec<Effect>) {
        let place = short.place;
        let queued =
            self.state.queue.find(&place).and_then(|ix| self.state.queue.get(ix)).map_or(0, |line| line.waiting);
        let fetched = short.ready.iter().rev().map(Some);
        let need = self.state.shapes.need(place.shape).clone();
        self.clear_spent(forecast);
        let (mut sites, mut ground) = (Sites::default(), Some(first));
        let whom = std::iter::repeat_n(None, usize::try_from(queued).unwrap_or(usize::MAX)).chain(fetched);
        let reserved = usize::try_from(self.reserved.count(&place)).unwrap_or(usize::MAX);
        for lying in whom.skip(reserved) {
            let Some(on) = ground.take().filter(|on| !matches!(on, Ground::Fair) || self.fair_turn(now, place.pool))
            else {
                break;
            };
            if lying.is_some() {
                forecast.quota.let_go(place.pool, &need);
            }
            let claim = Claim { now, place, ground: &on };
            let Some(plan) = self.plan(&claim, forecast, &mut sites) else {
                // It lies where it lay.
                if lying.is_some() {
                    forecast.quota.hold_for(place.pool, &need);
                }
                break;
            };
            if matches!(on, Ground::Fair) {
                self.last_fair.insert(place.pool, now);
            }
            if let Some((_, task, worker)) = lying {
                self.fetch(worker, *task, out);
            }
            let why = if matches!(on, Ground::Guarantee(_)) { For::Guarantee } else { For::Turn };
            self.carry_out(now, (place, why), &plan, out);
            forecast.claim(place.pool, &need);
            for worker in plan.victims.iter().map(|victim| &victim.worker).chain([&plan.worker]) {
                self.look_again(forecast, worker);
            }
            // Another ground is another claim.
            ground =
                self.ground(place, forecast).filter(|next| std::mem::discriminant(next) == std::mem::discriminant(&on));
        }
    }

    fn fair_turn(&self, now: Timestamp, pool: PoolIx) -> bool {
        self.last_fair.get(&pool).is_none_or(|last| *last + self.config.fair_every <= now)
    }

    /// Calls a task back from where it lies ready.
    fn fetch(&mut self, worker: &WorkerName, task: TaskId, out: &mut Vec<Effect>) {
        let held = self.state.workers.get(worker).and_then(|worker| worker.held.get(&task));
        if held.is_some_and(|held| held.revoked.is_none()) {
            self.revoke(worker, task, revoke::RETRACTED, out);
        }
    }

    fn carry_out(&mut self, now: Timestamp, whom: (Place, For), plan: &Plan, out: &mut Vec<Effect>) {
        // First what lies ready there is taken back, then room is made: else it would start in it.
        let victims = plan.victims.iter().map(|victim| (victim.worker.clone(), victim.task)).collect();
        self.reserve(now, &plan.worker, whom, victims, out);
        for Victim { task, worker, pool, .. } in &plan.victims {
            self.tally.preempted(*pool, &self.state.pools);
            self.revoke(worker, *task, revoke::PREEMPTED, out);
            self.changed(task.job);
        }
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
}
