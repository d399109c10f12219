//! Room kept for somebody: what was reclaimed for a line, and workers drained for big tasks.
//!
//! A reservation names worker, line and expiry. Nobody else is given the room; when it is enough, the line's next task gets it past
//! everybody else. One for a claim keeps quota, too: it counts as used while the reservation lasts. Volatile: after a restart who is
//! owed room claims it again.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use spool_proto::ids::{TaskId, WorkerName};
use spool_proto::pool::Hold;
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::WorkerHealth;

use crate::asks::ShapeSet;
use crate::engine::Engine;
use crate::forecast::Forecast;
use crate::io::Effect;
use crate::pools::{ByLeaf, PoolIx, Pools};
use crate::queue::{Head, Line, LineIx, Place};
use crate::shapes::ShapeId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Room and quota that borrowers give back to somebody whose guarantee it is.
    Guarantee,
    /// The same, to somebody who has less than a fair share, or goes before opportunistic work.
    Turn,
    /// A worker that takes nothing new until the task fits.
    Drain,
}

impl For {
    /// It keeps quota, too.
    pub(crate) fn is_claim(self) -> bool {
        self != For::Drain
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Reservation {
    pub(crate) place: Place,
    pub(crate) why: For,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
    need: Resources,
    /// Who was told to go for it.
    pub(crate) victims: Vec<(WorkerName, TaskId)>,
}

/// What it is for may be on its way back from where it lies ready.
const YOUNG: Span = Span::from_secs(5);

impl Reservation {
    fn is_old(&self, now: Timestamp) -> bool {
        self.since + YOUNG <= now
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Reservations {
    on: BTreeMap<WorkerName, Vec<Reservation>>,
    /// Where each line has some, the newest last.
    of: BTreeMap<Place, Vec<WorkerName>>,
    /// Lines with claims, by what their tasks need.
    claiming: BTreeMap<ShapeId, BTreeMap<Place, u32>>,
    /// When how many run out.
    ends: BTreeMap<Timestamp, u32>,
    drained: usize,
    /// Where there is room enough, but quota not yet: to be looked at in every round.
    unquoted: BTreeSet<WorkerName>,
}

impl Reservations {
    fn put(&mut self, worker: &WorkerName, one: Reservation) {
        self.of.entry(one.place).or_default().push(worker.clone());
        *self.ends.entry(one.until).or_default() += 1;
        match one.why {
            For::Drain => self.drained += 1,
            For::Guarantee | For::Turn => {
                *self.claiming.entry(one.place.shape).or_default().entry(one.place).or_default() += 1
            }
        }
        self.on.entry(worker.clone()).or_default().push(one);
    }

    /// It stands on the worker no more.
    fn forget(&mut self, worker: &WorkerName, one: &Reservation) {
        if let Some(workers) = self.of.get_mut(&one.place) {
            if let Some(at) = workers.iter().rposition(|other| other == worker) {
                workers.remove(at);
            }
            if workers.is_empty() {
                self.of.remove(&one.place);
            }
        }
        one_less(&mut self.ends, one.until);
        match one.why {
            For::Drain => self.drained -= 1,
            For::Guarantee | For::Turn => {
                if let Some(places) = self.claiming.get_mut(&one.place.shape) {
                    one_less(places, one.place);
                    if places.is_empty() {
                        self.claiming.remove(&one.place.shape);
                    }
                }
            }
        }
    }

    /// All on the worker, in the order in which they were made.
    fn take_from(&mut self, worker: &WorkerName) -> Vec<Reservation> {
        let all = self.on.remove(worker).unwrap_or_default();
        all.iter().for_each(|one| self.forget(worker, one));
        all
    }

    /// One of the worker's, by its place there.
    fn take(&mut self, worker: &WorkerName, at: usize) -> Option<Reservation> {
        let all = self.on.get_mut(worker).filter(|all| at < all.len())?;
        let one = all.remove(at);
        if all.is_empty() {
            self.on.remove(worker);
        }
        self.forget(worker, &one);
        Some(one)
    }

    /// What is kept for a guarantee of the line, made last, which has longest to wait.
    fn newest_owed(&self, place: Place) -> Option<(WorkerName, usize)> {
        let is_owed = |one: &Reservation| one.place == place && one.why == For::Guarantee;
        let mut workers = self.of.get(&place)?.iter().rev();
        workers.find_map(|worker| Some((worker.clone(), self.on.get(worker)?.iter().rposition(is_owed)?)))
    }

    /// Whether something is kept for a claim of the line.
    pub(crate) fn has_claim(&self, place: Place) -> bool {
        self.claiming.get(&place.shape).is_some_and(|places| places.contains_key(&place))
    }

    /// Lines with claims whose tasks need what suits, in order.
    fn claiming(&self, suits: impl Fn(ShapeId) -> bool) -> Vec<Place> {
        let suiting = self.claiming.iter().filter(|(shape, _)| suits(**shape));
        let mut places: Vec<Place> = suiting.flat_map(|(_, places)| places.keys().copied()).collect();
        places.sort_unstable();
        places
    }

    /// For whom room is kept on the worker.
    pub(crate) fn pools_on(&self, worker: &WorkerName) -> impl Iterator<Item = PoolIx> {
        self.on.get(worker).into_iter().flatten().map(|one| one.place.pool)
    }

    pub(crate) fn any_on(&self, worker: &WorkerName) -> bool {
        self.on.contains_key(worker)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&WorkerName, &Reservation)> {
        self.on.iter().flat_map(|(worker, all)| all.iter().map(move |one| (worker, one)))
    }

    /// Those that keep quota, too.
    fn claims(&self) -> impl Iterator<Item = &Reservation> {
        self.all().map(|(_, one)| one).filter(|one| one.why.is_claim())
    }

    /// Tasks of a line that have a reservation.
    pub(crate) fn count(&self, place: &Place) -> u64 {
        u64::try_from(self.of.get(place).map_or(0, Vec::len)).expect("bounded by the tasks of the fleet")
    }

    /// Of what is free, what is nobody's.
    pub(crate) fn free_beside(&self, worker: &WorkerName, mut free: Resources) -> Resources {
        for one in self.on.get(worker).into_iter().flatten() {
            if one.why == For::Drain {
                return Resources::ZERO;
            }
            free.sub(&one.need);
        }
        free
    }

    pub(crate) fn drained(&self) -> usize {
        self.drained
    }

    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        self.ends.first_key_value().map(|(at, _)| *at)
    }

    /// Everything, as the tree is another.
    pub(crate) fn clear(&mut self) -> Vec<WorkerName> {
        std::mem::take(self).on.into_keys().collect()
    }

    /// Of what is free, what no other claim is on. A worker may be drained for somebody all the same: a guarantee goes before.
    pub(crate) fn beside_claims(&self, worker: &WorkerName, mut free: Resources) -> Resources {
        for one in self.on.get(worker).into_iter().flatten().filter(|one| one.why.is_claim()) {
            free.sub(&one.need);
        }
        free
    }
}

fn one_less<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) {
    if let Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

impl Engine {
    /// Keeps room on the worker for the line's next task. What lies ready there is taken back.
    pub(crate) fn reserve(
        &mut self,
        now: Timestamp,
        worker: &WorkerName,
        (place, why): (Place, For),
        victims: Vec<(WorkerName, TaskId)>,
        out: &mut Vec<Effect>,
    ) {
        let need = self.state.shapes.get(place.shape).resources.clone();
        let until = now + self.config.reserve_for;
        let one = Reservation { place, why, since: now, until, need, victims };
        self.keep_quota(&one);
        self.reserved.put(worker, one);
        self.reserved.unquoted.insert(worker.clone());
        self.take_waiting_back(worker, out);
        self.file(worker);
    }

    fn keep_quota(&mut self, one: &Reservation) {
        if one.why.is_claim() {
            self.state.pools.hold_for(one.place.pool, self.state.shapes.need(one.place.shape));
            self.state.queue.charged(one.place.pool);
        }
    }

    fn let_quota_go(&mut self, one: &Reservation) {
        if one.why.is_claim() {
            self.state.pools.let_go(one.place.pool, self.state.shapes.need(one.place.shape));
        }
    }

    /// It is over, and its quota anybody's.
    fn drop_reservation(&mut self, one: &Reservation) {
        self.let_quota_go(one);
        self.state.queue.released((&self.state.pools, &self.state.shapes), one.place.pool);
    }

    /// What is kept for claims, by leaf.
    pub(crate) fn kept_quota(&self) -> ByLeaf {
        let mut kept = ByLeaf::new();
        for one in self.reserved.claims() {
            let of_leaf = kept.entry(one.place.pool).or_default();
            for (kind, amount) in self.state.shapes.need(one.place.shape) {
                *of_leaf.entry(*kind).or_default() += amount;
            }
        }
        kept
    }

    /// Quota as it is used, without what is kept for claims.
    pub(crate) fn quota_in_use(&self) -> Pools {
        self.without_claims(&self.state.pools)
    }

    /// A copy in which nothing is kept for claims.
    pub(crate) fn without_claims(&self, pools: &Pools) -> Pools {
        let mut used = pools.clone();
        for one in self.reserved.claims() {
            used.let_go(one.place.pool, self.state.shapes.need(one.place.shape));
        }
        used
    }

    /// Workers whose reservations wait for nothing but quota.
    pub(crate) fn unquoted(&mut self) -> BTreeSet<WorkerName> {
        std::mem::take(&mut self.reserved.unquoted)
    }

    /// Gives reserved room to those it is for, and drops what is not needed any more.
    pub(crate) fn honour(&mut self, now: Timestamp, name: &WorkerName, out: &mut Vec<Effect>) {
        let all = self.reserved.take_from(name);
        if all.is_empty() {
            return;
        }
        let takes = self.state.workers.get(name).is_some_and(|worker| self.takes_leases(name, worker));
        // A throttled worker's room is not to be counted on.
        let takes = takes && *self.health(name) == WorkerHealth::Healthy;
        let mut kept = Vec::new();
        for one in all {
            let is_open = self.state.pools.hold(one.place.pool) == Hold::Open;
            if !takes || one.until <= now || !is_open {
                self.drop_reservation(&one);
                continue;
            }
            let Some((line, task)) = self.first_of(one.place) else {
                if one.is_old(now) {
                    self.drop_reservation(&one);
                } else {
                    kept.push(one);
                }
                continue;
            };
            if !self.state.workers.get(name).is_some_and(|worker| one.need.fits_in(&worker.free())) {
                kept.push(one);
                continue;
            }
            self.let_quota_go(&one);
            if self.admits(one.place).is_ok() {
                self.lease(now, Head { line, place: one.place, task }, name.clone(), false, out);
            } else {
                // Who was told to go has not gone yet.
                self.keep_quota(&one);
                self.reserved.unquoted.insert(name.clone());
                kept.push(one);
            }
        }
        kept.into_iter().for_each(|one| self.reserved.put(name, one));
    }

    /// Who is owed room somewhere takes it here, if this worker has some for anybody sooner. What was kept is anybody's then. Only on the
    /// ground of a guarantee: who has a smaller share, or is standard, may be behind others by now.
    pub(crate) fn redeem(&mut self, now: Timestamp, name: &WorkerName, out: &mut Vec<Effect>) {
        let (Some(worker), true) = (self.state.workers.get(name), !self.reserved.claiming.is_empty()) else { return };
        let Some(mut free) = self.rooms.free(name).cloned() else { return };
        let shapes = &self.state.shapes;
        let suits = |shape| worker.offers(&shapes.get(shape).backend) && shapes.get(shape).resources.fits_in(&free);
        for place in self.reserved.claiming(suits) {
            while self.state.shapes.get(place.shape).resources.fits_in(&free) && self.redeem_one(now, place, name, out)
            {
                match self.rooms.free(name) {
                    Some(left) => free.clone_from(left),
                    None => return,
                }
            }
        }
    }

    /// False: the line takes nothing here.
    fn redeem_one(&mut self, now: Timestamp, place: Place, name: &WorkerName, out: &mut Vec<Effect>) -> bool {
        let Some((line, task)) = self.first_of(place).filter(|(_, task)| !self.avoided(*task).contains(name)) else {
            return false;
        };
        let Some((kept_on, at)) = self.reserved.newest_owed(place) else { return false };
        let Some(one) = self.reserved.take(&kept_on, at) else { return false };
        self.let_quota_go(&one);
        if self.admits(place).is_err() {
            self.keep_quota(&one);
            self.reserved.put(&kept_on, one);
            return false;
        }
        self.lease(now, Head { line, place, task }, name.clone(), false, out);
        self.state.touched.insert(kept_on);
        true
    }

    /// The first that waits of an open line.
    fn first_of(&self, place: Place) -> Option<(LineIx, TaskId)> {
        let line = self.state.queue.find(&place).filter(|_| self.state.pools.hold(place.pool) == Hold::Open)?;
        Some((line, self.state.queue.get(line)?.first()?))
    }

    /// Reservations that have run out, whose line has gone, or for which no room or no quota is coming any more end.
    pub(crate) fn expire_reservations(&mut self, now: Timestamp, forecast: &mut Forecast) {
        let mut vain = Vec::new();
        for (worker, all) in &self.reserved.on {
            let mut coming = self.free_soon(worker);
            for (at, one) in all.iter().enumerate().filter(|(_, one)| one.why.is_claim()) {
                let need = self.state.shapes.need(one.place.shape);
                forecast.unclaim(one.place.pool, need);
                if one.need.fits_in(&coming) && self.admits_in(&forecast.quota, one.place).is_ok() {
                    coming.sub(&one.need);
                    forecast.claim(one.place.pool, need);
                } else {
                    vain.push((worker.clone(), at));
                }
            }
        }
        for (worker, at) in vain.into_iter().rev() {
            if let Some(one) = self.reserved.take(&worker, at) {
                self.drop_reservation(&one);
            }
            self.state.touched.insert(worker);
        }
        let void =
            |one: &Reservation| one.until <= now || (self.state.queue.find(&one.place).is_none() && one.is_old(now));
        let workers = self.reserved.all().filter(|(_, one)| void(one)).map(|(worker, _)| worker.clone());
        self.state.touched.extend(workers.collect::<Vec<_>>());
    }

    // ------------------------------------------------------------ big tasks

    /// Who has found no room for long though it is his turn, and a worker could hold him, gets one drained.
    pub(crate) fn drain_for_the_stuck(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
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
        self.reserve(now, &worker, (place, For::Drain), Vec::new(), out);
    }
}
