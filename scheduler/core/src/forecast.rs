//! Quota as it will be when everything that was told to go has gone: what one look for the short plans with. Nothing of it lasts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use spool_proto::ids::{Fence, TaskId, WorkerName};
use spool_proto::time::{Span, Timestamp};

use crate::engine::Engine;
use crate::pools::{Need, PoolIx, Pools};
use crate::shapes::ShapeId;
use crate::workers::Held;

/// A leased task that may be told to go. Lower goes first; the order of the fields is the policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Victim {
    pub(crate) standard: bool,
    /// Else it lies ready, and nothing is lost.
    pub(crate) runs: bool,
    pub(crate) ran: Span,
    fence: Reverse<Fence>,
    pub(crate) task: TaskId,
    pub(crate) worker: WorkerName,
    pub(crate) pool: PoolIx,
    pub(crate) shape: ShapeId,
}

/// Victims that may be taken or not, all alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    standard: bool,
    runs: bool,
    pool: PoolIx,
    shape: ShapeId,
}

/// Four ways to count what is used. None of them counts who was told to go.
#[derive(Debug)]
pub(crate) struct Forecast {
    now: Timestamp,
    /// Leases, and what is kept for claims: limits are held against it.
    pub(crate) quota: Pools,
    /// The same without what lies ready: who is owed something is told by it, for a guarantee is of what runs, and waiting behind a borrower
    /// is not what was guaranteed.
    pub(crate) running: Pools,
    /// Leases alone: that nobody who lies ready is taken below his guarantee.
    leased: Pools,
    /// What runs alone: nor anybody who runs.
    started: Pools,
    /// Everybody who may be told to go, the first to go last. Listed when it is first asked for.
    groups: Option<BTreeMap<Group, Vec<Victim>>>,
    /// Who of them was.
    gone: BTreeSet<TaskId>,
}

impl Forecast {
    /// Quota for one more task is spoken for.
    pub(crate) fn claim(&mut self, pool: PoolIx, need: &Need) {
        self.quota.hold_for(pool, need);
        self.running.hold_for(pool, need);
    }

    pub(crate) fn unclaim(&mut self, pool: PoolIx, need: &Need) {
        self.quota.let_go(pool, need);
        self.running.let_go(pool, need);
    }

    pub(crate) fn leave(&mut self, victim: &Victim, uses: &Need) {
        self.counting(victim).for_each(|book| book.let_go(victim.pool, uses));
    }

    pub(crate) fn stay(&mut self, victim: &Victim, uses: &Need) {
        self.counting(victim).for_each(|book| book.hold_for(victim.pool, uses));
    }

    /// The books in which it counts.
    fn counting(&mut self, victim: &Victim) -> impl Iterator<Item = &mut Pools> {
        let always = [&mut self.quota, &mut self.leased];
        let running = [&mut self.running, &mut self.started];
        always.into_iter().chain(running.into_iter().filter(|_| victim.runs))
    }

    /// It will be told.
    pub(crate) fn settle(&mut self, victim: &Victim) {
        self.gone.insert(victim.task);
    }

    /// What is used by tasks such as it, without what is kept for anybody.
    pub(crate) fn used(&mut self, victim: &Victim) -> &mut Pools {
        if victim.runs { &mut self.started } else { &mut self.leased }
    }
}

impl Engine {
    pub(crate) fn forecast(&self, now: Timestamp) -> Forecast {
        let mut quota = self.state.pools.clone();
        let mut lying = Vec::new();
        for (task, held) in self.state.workers.values().flat_map(|worker| &worker.held) {
            let Some(job) = self.state.jobs.get(&task.job) else { continue };
            if held.revoked.is_some() {
                quota.let_go(job.pool, self.state.shapes.need(held.shape));
            } else if !held.charged {
                lying.push((job.pool, held.shape));
            }
        }
        let leased = self.without_claims(&quota);
        let (mut running, mut started) = (quota.clone(), leased.clone());
        for (pool, shape) in lying {
            running.let_go(pool, self.state.shapes.need(shape));
            started.let_go(pool, self.state.shapes.need(shape));
        }
        Forecast { now, quota, running, leased, started, groups: None, gone: BTreeSet::new() }
    }

    /// The lease as a victim. `None`: it must not be preempted, or was told to go before.
    pub(crate) fn victim(&self, now: Timestamp, worker: &WorkerName, task: TaskId, held: &Held) -> Option<Victim> {
        let job = self.state.jobs.get(&task.job).filter(|job| job.new.preemptible && held.revoked.is_none())?;
        let since = job.task(task.index)?.lease_on(worker)?.at;
        Some(Victim {
            standard: !job.opportunistic,
            runs: held.charged,
            ran: now.since(since),
            fence: Reverse(held.fence),
            task,
            worker: worker.clone(),
            pool: job.pool,
            shape: held.shape,
        })
    }

    /// The first to go of those that suit, but `chosen`. All of a group suit, or none.
    pub(crate) fn first_to_go(
        &self,
        forecast: &mut Forecast,
        chosen: &[Victim],
        mut suits: impl FnMut(&mut Forecast, &Victim) -> bool,
    ) -> Option<Victim> {
        let mut groups = forecast.groups.take().unwrap_or_else(|| self.groups(forecast.now));
        let mut first: Option<Victim> = None;
        for victims in groups.values_mut() {
            while victims.last().is_some_and(|victim| forecast.gone.contains(&victim.task)) {
                victims.pop();
            }
            let is_free = |victim: &&Victim| {
                !forecast.gone.contains(&victim.task)
                    && !chosen.iter().any(|chosen| chosen.task == victim.task)
                    && self.is_held(victim)
            };
            let Some(victim) = victims.iter().rev().find(is_free) else { continue };
            if first.as_ref().is_none_or(|first| victim < first) && suits(forecast, victim) {
                first = Some(victim.clone());
            }
        }
        forecast.groups = Some(groups);
        first
    }

    fn groups(&self, now: Timestamp) -> BTreeMap<Group, Vec<Victim>> {
        let mut groups: BTreeMap<Group, Vec<Victim>> = BTreeMap::new();
        for (name, worker) in self.state.workers.iter() {
            for victim in worker.held.iter().filter_map(|(task, held)| self.victim(now, name, *task, held)) {
                let Victim { standard, runs, pool, shape, .. } = victim;
                groups.entry(Group { standard, runs, pool, shape }).or_default().push(victim);
            }
        }
        groups.values_mut().for_each(|victims| victims.sort_unstable_by(|a, b| b.cmp(a)));
        groups
    }

    /// It was not told to go since it was listed.
    fn is_held(&self, victim: &Victim) -> bool {
        let held = self.state.workers.get(&victim.worker).and_then(|worker| worker.held.get(&victim.task));
        held.is_some_and(|held| held.revoked.is_none())
    }
}
