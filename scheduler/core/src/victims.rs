//! Whom to stop so that one task that is owed it has quota and room: few, the youngest, and none in vain.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use spool_proto::ids::WorkerName;
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::WorkerHealth;

use crate::engine::Engine;
use crate::forecast::{Forecast, Victim};
use crate::pools::{Over, PoolIx};
use crate::queue::Place;

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
    /// Work that would be lost.
    ran: Span,
    worker: WorkerName,
}

impl Site {
    fn new(worker: &WorkerName, victims: &[Victim]) -> Site {
        let ran = victims.iter().fold(Span::ZERO, |sum, victim| sum + victim.ran);
        Site { victims: victims.len(), ran, worker: worker.clone() }
    }
}

/// Workers by what room there would cost a line. As claims are made costs rise only, so an entry says the least, and is looked at
/// again when it is first.
#[derive(Debug, Default)]
pub(crate) struct Sites(Option<BinaryHeap<Reverse<Site>>>);

impl Engine {
    /// The plan that costs least; entered into the forecast, but for the task itself.
    pub(crate) fn plan(&self, claim: &Claim<'_>, forecast: &mut Forecast, sites: &mut Sites) -> Option<Plan> {
        let mut victims = self.for_quota(claim, forecast)?;
        let Some((worker, for_room)) = self.site(claim, forecast, sites, &victims) else {
            victims.iter().for_each(|victim| self.stay(forecast, victim));
            return None;
        };
        for_room.iter().for_each(|victim| self.leave(forecast, victim));
        victims.extend(for_room);
        self.spare(claim, forecast, &worker, &mut victims);
        victims.iter().for_each(|victim| forecast.settle(victim));
        Some(Plan { worker, victims })
    }

    /// Whose going brings the quota that is wanting. `None`: nobody's does.
    fn for_quota(&self, claim: &Claim<'_>, forecast: &mut Forecast) -> Option<Vec<Victim>> {
        let mut chosen = Vec::new();
        while let Err(Over { pool, kind }) = self.admits_in(&forecast.quota, claim.place) {
            let found = self.first_to_go(forecast, &chosen, |forecast, victim| {
                let relieves = self.state.shapes.need(victim.shape).iter().any(|(uses, _)| *uses == kind)
                    && self.state.pools.path(victim.pool).any(|at| at == pool);
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
        let sites = sites.0.get_or_insert_with(|| self.sites(claim, forecast));
        // Room may come with the quota.
        let beside = gone.iter().filter_map(|victim| {
            let room = self.room_on(claim, forecast, &victim.worker, gone)?;
            Some((Site::new(&victim.worker, &room), room))
        });
        let mut best = beside.min();
        while let Some(Reverse(least)) = sites.peek() {
            if best.as_ref().is_some_and(|(best, _)| best <= least) {
                break;
            }
            let Some(Reverse(least)) = sites.pop() else { break };
            let Some(room) = self.room_on(claim, forecast, &least.worker, gone) else { continue };
            let site = Site::new(&least.worker, &room);
            let is_right = site <= least;
            sites.push(Reverse(site.clone()));
            if is_right {
                best = Some((site, room));
                break;
            }
        }
        best.map(|(site, room)| (site.worker, room))
    }

    fn sites(&self, claim: &Claim<'_>, forecast: &mut Forecast) -> BinaryHeap<Reverse<Site>> {
        let healthy = self.rooms.members().filter(|name| *self.health(name) == WorkerHealth::Healthy);
        let sites = healthy.filter_map(|name| {
            let room = self.room_on(claim, forecast, name, &[])?;
            Some(Reverse(Site::new(name, &room)))
        });
        sites.collect()
    }

    /// Who has to go from the worker so that there is room, besides `gone`. `None`: all of them are not enough.
    fn room_on(
        &self,
        claim: &Claim<'_>,
        forecast: &mut Forecast,
        worker: &WorkerName,
        gone: &[Victim],
    ) -> Option<Vec<Victim>> {
        let known = self.state.workers.get(worker)?;
        let shape = self.state.shapes.get(claim.place.shape);
        if !known.offers(&shape.backend) || !shape.resources.fits_in(&known.capacity) {
            return None;
        }
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
