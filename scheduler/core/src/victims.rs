//! Whom to stop so that one task that is owed it has quota and room: few, the youngest, and none in vain.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use spool_proto::ids::WorkerName;
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::WorkerHealth;

use crate::engine::Engine;
use crate::forecast::{Forecast, Victim, Walk};
use crate::pools::{Over, PoolIx};
use crate::queue::Place;
use crate::shapes::ShapeId;
use crate::workers::Worker;

/// On what grounds a leased task is taken.
#[derive(Debug, Clone)]
pub(crate) enum Ground {
    /// Entitled at these nodes of its path.
    Guarantee(Vec<PoolIx>),
    /// Less than its fair share.
    Fair,
    /// Only from opportunistic work.
    Standard,
}

/// One task's claim.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    pub(crate) now: Timestamp,
    pub(crate) place: Place,
    pub(crate) ground: &'a Ground,
}

/// Where the task goes, and who makes way for it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) worker: WorkerName,
    pub(crate) victims: Vec<Victim>,
}

/// What room on a worker costs. Lower wins; the order of the fields is the policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Site {
    victims: usize,
    /// Of them, those that are not opportunistic.
    standard: usize,
    /// Work that would be lost.
    ran: Span,
    worker: WorkerName,
}

impl Site {
    fn new(worker: &WorkerName, victims: &[Victim]) -> Site {
        let standard = victims.iter().filter(|victim| victim.standard).count();
        let ran = victims.iter().fold(Span::ZERO, |sum, victim| sum + victim.ran);
        Site { victims: victims.len(), standard, ran, worker: worker.clone() }
    }
}

/// Running tasks that are looked at, the first to go first, before it is looked where several of them have to go.
const LOOKS: usize = 256;

/// Where room for the tasks of a line may be made, from one of its claims to the next: as claims are made costs rise only, so what was
/// too little is so for good.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    givers: Walk,
    /// Where they run who were looked at.
    met: BTreeSet<WorkerName>,
    /// Where several are, by what room there costs at least: an entry is looked at again when it is first.
    several: BinaryHeap<Reverse<Site>>,
}

impl Engine {
    /// The plan that costs least; entered into the forecast, but for the task itself.
    pub(crate) fn plan(&self, claim: &Claim<'_>, forecast: &mut Forecast, sites: &mut Sites) -> Option<Plan> {
        self.list_victims(forecast);
        let mut victims = self.for_quota(claim, forecast)?;
        // Who goes for the quota may make the room, too.
        if victims.is_empty() && self.is_hopeless(claim.place, forecast) {
            return None;
        }
        let Some((worker, for_room)) = self.site(claim, forecast, sites, &victims) else {
            victims.iter().for_each(|victim| self.stay(forecast, victim));
            let Place { pool, fixed, shape, .. } = claim.place;
            forecast.hopeless.entry((pool, fixed)).or_default().push(shape);
            return None;
        };
        for_room.iter().for_each(|victim| self.leave(forecast, victim));
        victims.extend(for_room);
        self.spare(claim, forecast, &worker, &mut victims);
        victims.iter().for_each(|victim| forecast.settle(victim));
        Some(Plan { worker, victims })
    }

    /// Somebody of the pool who needs no more was looked for in vain.
    fn is_hopeless(&self, place: Place, forecast: &Forecast) -> bool {
        let shapes = &self.state.shapes;
        let mine = shapes.get(place.shape);
        let kinds = |shape| shapes.need(shape).iter().map(|(kind, _)| *kind);
        let needs_as_much = |tried: &ShapeId| {
            let other = shapes.get(*tried);
            let is_alike = other.backend == mine.backend && kinds(*tried).eq(kinds(place.shape));
            is_alike && other.resources.fits_in(&mine.resources)
        };
        forecast.hopeless.get(&(place.pool, place.fixed)).is_some_and(|tried| tried.iter().any(needs_as_much))
    }

    /// Whose going brings the quota that is wanting. `None`: nobody's does.
    fn for_quota(&self, claim: &Claim<'_>, forecast: &mut Forecast) -> Option<Vec<Victim>> {
        let mut chosen = Vec::new();
        while let Err(Over { pool, kind }) = self.admits_in(&forecast.quota, claim.place) {
            let below = |leaf| self.state.pools.path(leaf).any(|at| at == pool);
            let found = self.first_to_go(forecast, &chosen, below, |forecast, victim| {
                let relieves = self.state.shapes.need(victim.shape).iter().any(|(uses, _)| *uses == kind);
                relieves && self.may_take(claim, forecast, victim)
            });
            let Some(victim) = found else {
                chosen.iter().for_each(|victim| self.stay(forecast, victim));
                return None;
            };
            self.leave(forecast, &victim);
            chosen.push(victim);
        }
        Some(chosen)
    }

    /// The worker where room costs least when `gone` have gone, and whose going makes it.
    fn site(
        &self,
        claim: &Claim<'_>,
        forecast: &mut Forecast,
        sites: &mut Sites,
        gone: &[Victim],
    ) -> Option<(WorkerName, Vec<Victim>)> {
        // Room may come with the quota: then what is free meanwhile stays anybody's.
        let beside = gone.iter().filter_map(|victim| self.site_on(claim, forecast, &victim.worker, gone)).min();
        if let Some((site, _)) = beside.as_ref().filter(|(_, room)| room.is_empty()) {
            return Some((site.worker.clone(), Vec::new()));
        }
        if let Some(worker) = self.idle_site(claim, forecast, gone) {
            return Some((worker, Vec::new()));
        }
        loop {
            if let Some(victim) = self.alone(claim, forecast, sites, gone) {
                let site = Site::new(&victim.worker, std::slice::from_ref(&victim));
                let best = beside.into_iter().chain([(site, vec![victim])]).min();
                return best.map(|(site, room)| (site.worker, room));
            }
            let is_last = forecast.is_over(&sites.givers);
            let met = std::mem::take(&mut sites.met);
            let found = met.iter().filter_map(|worker| self.site_on(claim, forecast, worker, gone));
            sites.several.extend(found.map(|(site, _)| Reverse(site)));
            let best = self.cheapest(claim, forecast, &mut sites.several, gone);
            if best.is_some() || is_last {
                return beside.into_iter().chain(best).min().map(|(site, room)| (site.worker, room));
            }
        }
    }

    /// A worker where there is room, or will be without anybody's being told.
    fn idle_site(&self, claim: &Claim<'_>, forecast: &Forecast, gone: &[Victim]) -> Option<WorkerName> {
        let shape = self.state.shapes.get(claim.place.shape);
        let fits = |worker: &WorkerName| {
            self.may_host(claim, worker) && shape.resources.fits_in(&self.free_without(worker, gone))
        };
        let chosen = self.rooms.choose(shape, self.state.shapes.warm_key(claim.place.shape), &[]);
        let soon = || forecast.soon().find(|(worker, free)| shape.resources.fits_in(free) && fits(worker));
        chosen.filter(fits).or_else(|| soon().map(|(worker, _)| worker.clone()))
    }

    /// The first to go of those whose going alone makes the room, and who can be taken.
    fn alone(&self, claim: &Claim<'_>, forecast: &mut Forecast, sites: &mut Sites, gone: &[Victim]) -> Option<Victim> {
        let need = &self.state.shapes.get(claim.place.shape).resources;
        for _ in 0..LOOKS {
            let (next, victim) = forecast.next_giver(&mut sites.givers)?;
            if !self.may_give(forecast, next.group) {
                forecast.met_spent();
                continue;
            }
            if !self.may_take(claim, forecast, &victim) {
                continue;
            }
            sites.givers.go_on(forecast, &next);
            let is_taken = forecast.is_gone(&victim) || gone.iter().any(|gone| gone.task == victim.task);
            if is_taken || !self.is_held(&victim) || !self.may_host(claim, &victim.worker) {
                continue;
            }
            sites.met.insert(victim.worker.clone());
            let mut free = self.free_without(&victim.worker, gone);
            free.add(&self.state.shapes.get(victim.shape).resources);
            if need.fits_in(&free) {
                return Some(victim);
            }
        }
        None
    }

    /// The best of where several go.
    fn cheapest(
        &self,
        claim: &Claim<'_>,
        forecast: &mut Forecast,
        sites: &mut BinaryHeap<Reverse<Site>>,
        gone: &[Victim],
    ) -> Option<(Site, Vec<Victim>)> {
        while let Some(Reverse(least)) = sites.pop() {
            let Some((site, room)) = self.site_on(claim, forecast, &least.worker, gone) else { continue };
            let is_right = site <= least;
            sites.push(Reverse(site.clone()));
            if is_right {
                return Some((site, room));
            }
        }
        None
    }

    fn may_host(&self, claim: &Claim<'_>, worker: &WorkerName) -> bool {
        let shape = self.state.shapes.get(claim.place.shape);
        let suits = |known: &Worker| known.offers(&shape.backend) && shape.resources.fits_in(&known.capacity);
        self.rooms.is_member(worker)
            && *self.health(worker) == WorkerHealth::Healthy
            && self.state.workers.get(worker).is_some_and(suits)
    }

    /// What room on the worker costs, and whose.
    fn site_on(
        &self,
        claim: &Claim<'_>,
        forecast: &mut Forecast,
        worker: &WorkerName,
        gone: &[Victim],
    ) -> Option<(Site, Vec<Victim>)> {
        let room = self.room_on(claim, forecast, worker, gone)?;
        Some((Site::new(worker, &room), room))
    }

    /// Who has to go from the worker so that there is room, besides `gone`. `None`: all of them are not enough.
    fn room_on(
        &self,
        claim: &Claim<'_>,
        forecast: &mut Forecast,
        worker: &WorkerName,
        gone: &[Victim],
    ) -> Option<Vec<Victim>> {
        let known = self.state.workers.get(worker).filter(|_| self.may_host(claim, worker))?;
        let shape = self.state.shapes.get(claim.place.shape);
        let mut free = self.free_without(worker, gone);
        if shape.resources.fits_in(&free) {
            return Some(Vec::new());
        }
        let running = known.held.iter().filter(|(_, held)| held.charged);
        let mut candidates: Vec<Victim> =
            running.filter_map(|(task, held)| self.victim(claim.now, worker, *task, held)).collect();
        candidates.retain(|victim| !gone.iter().any(|gone| gone.task == victim.task));
        candidates.sort_unstable();
        let mut chosen = Vec::new();
        for victim in candidates {
            if self.may_take(claim, forecast, &victim) {
                self.leave(forecast, &victim);
                free.add(&self.state.shapes.get(victim.shape).resources);
                chosen.push(victim);
                if shape.resources.fits_in(&free) {
                    break;
                }
            }
        }
        chosen.iter().for_each(|victim| self.stay(forecast, victim));
        if !shape.resources.fits_in(&free) {
            return None;
        }
        spare(&mut chosen, |_, without| {
            shape.resources.fits_in(&self.free_without(worker, gone.iter().chain(without)))
        });
        Some(chosen)
    }

    /// Whoever need not go stays.
    fn spare(&self, claim: &Claim<'_>, forecast: &mut Forecast, worker: &WorkerName, victims: &mut Vec<Victim>) {
        let need = &self.state.shapes.get(claim.place.shape).resources;
        victims.sort_unstable();
        spare(victims, |victim, without| {
            self.stay(forecast, victim);
            let enough = need.fits_in(&self.free_without(worker, without.iter()))
                && self.admits_in(&forecast.quota, claim.place).is_ok();
            if !enough {
                self.leave(forecast, victim);
            }
            enough
        });
    }

    /// What is free on the worker for the claimant when these have gone, and everybody who was told before. What was told before is
    /// spoken for: by a reservation, or by the job that was cancelled.
    fn free_without<'a>(&self, worker: &WorkerName, gone: impl IntoIterator<Item = &'a Victim>) -> Resources {
        let mut free = self.free_soon(worker);
        for victim in gone.into_iter().filter(|victim| victim.runs && victim.worker == *worker) {
            free.add(&self.state.shapes.get(victim.shape).resources);
        }
        self.reserved.beside_claims(worker, free)
    }

    fn leave(&self, forecast: &mut Forecast, victim: &Victim) {
        forecast.leave(victim, self.state.shapes.need(victim.shape));
    }

    fn stay(&self, forecast: &mut Forecast, victim: &Victim) {
        forecast.stay(victim, self.state.shapes.need(victim.shape));
    }

    fn may_take(&self, claim: &Claim<'_>, forecast: &mut Forecast, victim: &Victim) -> bool {
        if !victim.standard {
            return true;
        }
        let (need, uses) = (self.state.shapes.need(claim.place.shape), self.state.shapes.need(victim.shape));
        let (claimant, used) = (claim.place.pool, forecast.used(victim));
        match claim.ground {
            Ground::Guarantee(at) => used.may_take((claimant, need, at), (victim.pool, uses)),
            Ground::Fair => {
                let contested = |kind| need.iter().any(|(needed, _)| *needed == kind);
                let dead_zone_milli = self.config.fair_dead_zone_milli;
                used.can_spare(claimant, (victim.pool, uses), contested)
                    && forecast.running.is_fairer((claimant, need), (victim.pool, uses), dead_zone_milli)
            }
            Ground::Standard => false,
        }
    }
}

/// Looks at each once more, the last to go first: who need not go for the others' going to be enough is taken off the list.
fn spare(victims: &mut Vec<Victim>, mut enough: impl FnMut(&Victim, &[Victim]) -> bool) {
    for at in (0..victims.len()).rev() {
        let victim = victims.remove(at);
        if !enough(&victim, victims) {
            victims.insert(at, victim);
        }
    }
}
