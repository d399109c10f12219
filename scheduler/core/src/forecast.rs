//! Quota as it will be when everything that was told to go has gone: what one look for the short plans with. Nothing of it lasts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use spool_proto::ids::{Fence, TaskId, WorkerName};
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};

use crate::engine::Engine;
use crate::pools::{Need, PoolIx, Pools};
use crate::shapes::ShapeId;
use crate::workers::{Held, Worker};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group {
    pub(crate) pool: PoolIx,
    pub(crate) standard: bool,
    pub(crate) runs: bool,
    pub(crate) shape: ShapeId,
}

/// A group's next victim, as it stands among those of others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Next {
    standard: bool,
    ran: Span,
    pub(crate) group: Group,
    /// Its place there: so many come after it.
    of: usize,
}

/// A walk through all who may be taken, the first to go first, a group at a time.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// Of the list of givers, those that were begun.
    begun: usize,
    /// Of those, their next ones.
    nexts: BinaryHeap<Reverse<Next>>,
}

impl Walk {
    /// Whoever comes after him in his group is met, too.
    pub(crate) fn go_on(&mut self, forecast: &Forecast, after: &Next) {
        self.nexts.extend(forecast.next_of(after.group, after.of).map(Reverse));
    }
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
    /// Groups of what runs of which somebody may be taken, as far as their pools alone say: those that borrow, and what is opportunistic.
    /// In the order of their first to go, when they were listed.
    givers: Vec<Next>,
    /// How often one of them was met that has nothing to give any more.
    spent: usize,
    /// Who of them was.
    gone: BTreeSet<TaskId>,
    /// Claims that found nobody to make room: who needs as much or more, on the same grounds, finds nobody either.
    pub(crate) hopeless: BTreeMap<(PoolIx, bool), Vec<ShapeId>>,
    /// Where something was told to go or is kept for somebody: what will be free there for a claim, if it is of use to anybody. Listed when
    /// it is first asked for.
    soon: Option<BTreeMap<WorkerName, Resources>>,
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

    /// The first to go of the first so many of a group.
    fn next_of(&self, group: Group, of: usize) -> Option<Next> {
        let victims = self.groups.as_ref()?.get(&group)?;
        let left = of.min(victims.len()).checked_sub(1)?;
        Some(Next { standard: victims[left].standard, ran: victims[left].ran, group, of: left })
    }

    /// The next on the walk; of his group nobody else comes unless the walk is told to go on.
    pub(crate) fn next_giver(&mut self, walk: &mut Walk) -> Option<(Next, Victim)> {
        loop {
            let listed = self.givers.get(walk.begun);
            let met = walk.nexts.peek().map(|Reverse(next)| next);
            let next = match (listed, met) {
                (Some(listed), Some(met)) if met < listed => walk.nexts.pop()?.0,
                (None, _) => walk.nexts.pop()?.0,
                (Some(listed), _) => {
                    walk.begun += 1;
                    let (listed, group) = (listed.clone(), listed.group);
                    self.forget_gone(group);
                    // Its first may have gone since it was listed.
                    match self.next_of(group, usize::MAX) {
                        Some(now) if now.of == listed.of => now,
                        later => {
                            walk.nexts.extend(later.map(Reverse));
                            continue;
                        }
                    }
                }
            };
            match self.groups.as_ref()?.get(&next.group).and_then(|victims| victims.get(next.of)) {
                Some(victim) => return Some((next, victim.clone())),
                // It has gone, and is forgotten.
                None => walk.go_on(self, &next),
            }
        }
    }

    /// One of the list was met that has nothing to give.
    pub(crate) fn met_spent(&mut self) {
        self.spent += 1;
    }

    pub(crate) fn is_over(&self, walk: &Walk) -> bool {
        walk.begun >= self.givers.len() && walk.nexts.is_empty()
    }

    /// Who was told to go is not looked at again.
    fn forget_gone(&mut self, group: Group) {
        let Some(victims) = self.groups.as_mut().and_then(|groups| groups.get_mut(&group)) else { return };
        while victims.last().is_some_and(|victim| self.gone.contains(&victim.task)) {
            victims.pop();
        }
    }

    pub(crate) fn is_gone(&self, victim: &Victim) -> bool {
        self.gone.contains(&victim.task)
    }

    pub(crate) fn soon(&self) -> impl Iterator<Item = (&WorkerName, &Resources)> {
        self.soon.iter().flatten()
    }

    /// The books in which it counts.
    fn counting(&mut self, victim: &Victim) -> impl Iterator<Item = &mut Pools> {
        let always = [&mut self.quota, &mut self.leased];
        let running = [&mut self.running, &mut self.started];
        always.into_iter().chain(running.into_iter().filter(|_| victim.runs))
    }

    /// Whether anybody of the pool can be entitled, if what is kept for claims turns out to be nobody's.
    pub(crate) fn has_slack(&self, pool: PoolIx) -> bool {
        self.started.has_slack(pool)
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
        let in_motion = self.state.workers.values().filter(|worker| worker.revoked + worker.waiting > 0);
        for (task, held) in in_motion.flat_map(|worker| &worker.held) {
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
        Forecast {
            now,
            quota,
            running,
            leased,
            started,
            groups: None,
            givers: Vec::new(),
            spent: 0,
            gone: BTreeSet::new(),
            hopeless: BTreeMap::new(),
            soon: None,
        }
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

    /// Lists who may be told to go, and where room is coming, once for the whole look.
    pub(crate) fn list_victims(&self, forecast: &mut Forecast) {
        if forecast.groups.is_none() {
            let groups = self.groups(forecast.now);
            let running = groups.keys().filter(|group| group.runs);
            let givers: Vec<Group> = running.copied().filter(|group| self.may_give(forecast, *group)).collect();
            forecast.groups = Some(groups);
            forecast.givers = givers.into_iter().filter_map(|group| forecast.next_of(group, usize::MAX)).collect();
            forecast.givers.sort_unstable();
        }
        forecast.soon.get_or_insert_with(|| {
            let in_motion = |(name, worker): &(&WorkerName, &Worker)| self.reserved.any_on(name) || worker.revoked > 0;
            let workers = self.state.workers.iter().filter(in_motion);
            workers.filter_map(|(name, _)| Some((name.clone(), self.of_use_soon(name)?))).collect()
        });
    }

    /// Whether anybody at all may take one of the group.
    pub(crate) fn may_give(&self, forecast: &Forecast, group: Group) -> bool {
        !group.standard || forecast.started.may_spare(group.pool, self.state.shapes.need(group.shape))
    }

    /// Before a walk: takes those off the list that were met in vain more often than it costs to look at them all.
    pub(crate) fn clear_spent(&self, forecast: &mut Forecast) {
        if forecast.spent > forecast.givers.len() {
            let mut givers = std::mem::take(&mut forecast.givers);
            givers.retain(|next| self.may_give(forecast, next.group));
            (forecast.givers, forecast.spent) = (givers, 0);
        }
    }

    /// Somebody was told to go from the worker, or something is kept there now.
    pub(crate) fn look_again(&self, forecast: &mut Forecast, worker: &WorkerName) {
        let Some(soon) = &mut forecast.soon else { return };
        match self.of_use_soon(worker) {
            Some(free) => drop(soon.insert(worker.clone(), free)),
            None => drop(soon.remove(worker)),
        }
    }

    fn of_use_soon(&self, worker: &WorkerName) -> Option<Resources> {
        let free = self.reserved.beside_claims(worker, self.free_soon(worker));
        self.state.shapes.least().fits_in(&free).then_some(free)
    }

    /// The first to go of those that suit, in pools that do, but `chosen`. All of a group suit, or none.
    pub(crate) fn first_to_go(
        &self,
        forecast: &mut Forecast,
        chosen: &[Victim],
        of_pool: impl Fn(PoolIx) -> bool,
        mut suits: impl FnMut(&mut Forecast, &Victim) -> bool,
    ) -> Option<Victim> {
        let mut groups = forecast.groups.take().unwrap_or_default();
        let mut first: Option<Victim> = None;
        let mut asked = None;
        for (group, victims) in &mut groups {
            // Groups of a pool stand together.
            let is_asked = match asked {
                Some((pool, is_asked)) if pool == group.pool => is_asked,
                _ => of_pool(group.pool),
            };
            asked = Some((group.pool, is_asked));
            if !is_asked {
                continue;
            }
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
                groups.entry(Group { pool, standard, runs, shape }).or_default().push(victim);
            }
        }
        groups.values_mut().for_each(|victims| victims.sort_unstable_by(|a, b| b.cmp(a)));
        groups
    }

    /// It was not told to go since it was listed.
    pub(crate) fn is_held(&self, victim: &Victim) -> bool {
        let held = self.state.workers.get(&victim.worker).and_then(|worker| worker.held.get(&victim.task));
        held.is_some_and(|held| held.revoked.is_none())
    }
}
