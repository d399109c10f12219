//! Room kept for somebody: what was reclaimed for a line, and workers drained for big tasks.
//!
//! A reservation names worker, line and expiry. Nobody else is given the room; when it is enough, the line's next task gets it past
//! everybody else. Volatile: after a restart who is owed room claims it again.

use std::collections::BTreeMap;

use spool_proto::ids::WorkerName;
use spool_proto::pool::Hold;
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::WorkerHealth;

use crate::engine::Engine;
use crate::io::Effect;
use crate::pools::PoolIx;
use crate::queue::{Head, Place};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Room that borrowers give back.
    Reclaim,
    /// A worker that takes nothing new until the task fits.
    Drain,
}

#[derive(Debug, Clone)]
pub(crate) struct Reservation {
    pub(crate) place: Place,
    pub(crate) why: For,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
    need: Resources,
}

/// What it is for may be on its way back from where it lies ready.
const YOUNG: Span = Span::from_secs(5);

impl Reservation {
    fn is_old(&self, now: Timestamp) -> bool {
        self.since + YOUNG <= now
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Reservations(BTreeMap<WorkerName, Vec<Reservation>>);

impl Reservations {
    /// Whether room is kept for anything of the pool.
    pub(crate) fn for_pool(&self, pool: PoolIx) -> bool {
        !self.0.is_empty() && self.all().any(|(_, one)| one.place.pool == pool)
    }

    /// For whom room is kept on the worker.
    pub(crate) fn pools_on(&self, worker: &WorkerName) -> impl Iterator<Item = PoolIx> {
        self.0.get(worker).into_iter().flatten().map(|one| one.place.pool)
    }

    pub(crate) fn any_on(&self, worker: &WorkerName) -> bool {
        self.0.contains_key(worker)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&WorkerName, &Reservation)> {
        self.0.iter().flat_map(|(worker, all)| all.iter().map(move |one| (worker, one)))
    }

    /// Tasks of a line that have a reservation.
    pub(crate) fn count(&self, place: &Place) -> u64 {
        let count = self.all().filter(|(_, one)| one.place == *place).count();
        u64::try_from(count).expect("bounded by the tasks of the fleet")
    }

    /// Of what is free, what is nobody's.
    pub(crate) fn free_beside(&self, worker: &WorkerName, mut free: Resources) -> Resources {
        for one in self.0.get(worker).into_iter().flatten() {
            if one.why == For::Drain {
                return Resources::ZERO;
            }
            free.sub(&one.need);
        }
        free
    }

    pub(crate) fn drained(&self) -> usize {
        self.all().filter(|(_, one)| one.why == For::Drain).count()
    }

    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        self.all().map(|(_, one)| one.until).min()
    }

    /// Everything, as the tree is another.
    pub(crate) fn clear(&mut self) -> Vec<WorkerName> {
        std::mem::take(&mut self.0).into_keys().collect()
    }
}

impl Engine {
    /// Keeps room on the worker for the line's next task. What lies ready there is taken back.
    pub(crate) fn reserve(
        &mut self,
        now: Timestamp,
        worker: &WorkerName,
        (place, why): (Place, For),
        out: &mut Vec<Effect>,
    ) {
        let need = self.state.shapes.get(place.shape).resources.clone();
        let until = now + self.config.reserve_for;
        let one = Reservation { place, why, since: now, until, need };
        self.reserved.0.entry(worker.clone()).or_default().push(one);
        self.take_waiting_back(worker, out);
        self.file(worker);
    }

    /// Gives reserved room to those it is for, and drops what is not needed any more.
    pub(crate) fn honour(&mut self, now: Timestamp, name: &WorkerName, out: &mut Vec<Effect>) {
        let Some(all) = self.reserved.0.remove(name) else { return };
        let takes = self.state.workers.get(name).is_some_and(|worker| self.takes_leases(name, worker));
        // A throttled worker's room is not to be counted on.
        let takes = takes && *self.health(name) == WorkerHealth::Healthy;
        let mut kept = Vec::new();
        for one in all.into_iter().filter(|one| takes && one.until > now) {
            let Some(line) = self.state.queue.find(&one.place) else {
                if !one.is_old(now) {
                    kept.push(one);
                }
                continue;
            };
            if self.state.pools.hold(one.place.pool) != Hold::Open {
                continue;
            }
            let Some(task) = self.state.queue.get(line).and_then(crate::queue::Line::first) else { continue };
            if self.admits(one.place).is_err() {
                // What lies ready elsewhere is on its way back, and its quota with it.
                if !one.is_old(now) {
                    kept.push(one);
                }
                continue;
            }
            let fits = self.state.workers.get(name).is_some_and(|worker| one.need.fits_in(&worker.free()));
            if fits {
                self.lease(now, Head { line, place: one.place, task }, name.clone(), false, out);
            } else {
                kept.push(one);
            }
        }
        if !kept.is_empty() {
            self.reserved.0.insert(name.clone(), kept);
        }
    }

    /// Reservations that have run out, whose line has gone, or for which no room is coming any more (something else started in it) end.
    pub(crate) fn expire_reservations(&mut self, now: Timestamp) {
        let mut vain = Vec::new();
        for (worker, all) in &self.reserved.0 {
            let mut coming = self.free_soon(worker);
            for (at, one) in all.iter().enumerate().filter(|(_, one)| one.why == For::Reclaim) {
                if one.need.fits_in(&coming) {
                    coming.sub(&one.need);
                } else {
                    vain.push((worker.clone(), at));
                }
            }
        }
        for (worker, at) in vain.into_iter().rev() {
            if let Some(all) = self.reserved.0.get_mut(&worker) {
                all.remove(at);
                if all.is_empty() {
                    self.reserved.0.remove(&worker);
                }
            }
            self.state.touched.insert(worker);
        }
        let void =
            |one: &Reservation| one.until <= now || (self.state.queue.find(&one.place).is_none() && one.is_old(now));
        let workers = self.reserved.all().filter(|(_, one)| void(one)).map(|(worker, _)| worker.clone());
        self.state.touched.extend(workers.collect::<Vec<_>>());
    }
}
