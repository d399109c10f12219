//! What is checked at every step of every world: conservation, fences, admission, order, victims, work conservation.

use std::collections::{BTreeMap, BTreeSet};

use spool_core::io::*;
use spool_core::revoke;
use spool_proto::ids::{TaskId, WorkerName};
use spool_proto::resources::Resources;
use spool_proto::view::WorkerHealth;

use crate::harness::{Stand, World};
use crate::oracle::Quota;

/// What has to be seen before the engine's turn.
#[derive(Debug)]
pub struct Before {
    /// Workers with room that `explain` names as reserved, or as being cleared, for somebody.
    reserved: BTreeSet<WorkerName>,
    /// Tasks that were told to make room and have not yet.
    leaving: BTreeSet<TaskId>,
}

impl World {
    pub fn before(&self) -> Before {
        let told = |id: &TaskId| self.evicted.iter().any(|(_, evicted)| evicted == id);
        let leaving = self.leased().map(|(id, ..)| id).filter(told).filter(|id| !self.is_held(*id)).collect();
        Before { reserved: self.reserved(), leaving }
    }

    /// Its worker knows of it and has not let go.
    fn is_held(&self, id: TaskId) -> bool {
        self.workers.values().any(|worker| worker.calls.values().any(|call| call.task == id))
    }

    /// Workers where room is kept for somebody.
    pub fn reserved(&self) -> BTreeSet<WorkerName> {
        if self.strict {
            return BTreeSet::new();
        }
        self.engine.workers().filter(|view| !view.reserved_for.is_empty()).map(|view| view.worker).collect()
    }

    pub fn watch(&mut self, before: &Before, input: &Input, effects: &[Effect]) {
        let aged = *input == Input::Tick && self.age();
        if effects.is_empty() && !aged {
            return;
        }
        let views: BTreeMap<WorkerName, _> = self.engine.workers().map(|view| (view.worker.clone(), view)).collect();
        let takers = || views.values().filter(|view| view.connected && !view.cordoned && !view.draining);
        self.quota.fleet = Resources::ZERO;
        takers().for_each(|view| self.quota.fleet.add(&view.capacity));

        // Room as it was before the leases of this turn took of it.
        let orders: BTreeMap<TaskId, (WorkerName, bool, Resources)> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Send { worker, message: ToWorker::Lease(order), .. } => {
                    Some((order.task, (worker.clone(), order.prefetched, order.shape.resources.clone())))
                }
                _ => None,
            })
            .collect();
        let mut free: BTreeMap<WorkerName, Resources> = BTreeMap::new();
        for view in takers().filter(|view| view.health == WorkerHealth::Healthy) {
            let mut used = view.allocated.clone();
            let new = orders
                .iter()
                .filter(|(task, (worker, ready, _))| *worker == view.worker && !ready && view.running.contains(task));
            new.for_each(|(_, (.., need))| used.sub(need));
            let mut room = view.capacity.clone();
            room.sub(&used);
            free.insert(view.worker.clone(), room);
        }
        free.retain(|name, _| !before.reserved.contains(name));

        let mut victims: Vec<(WorkerName, TaskId)> = Vec::new();
        for effect in effects {
            match effect {
                Effect::Record(record) => {
                    self.check_victims(before, &std::mem::take(&mut victims));
                    if let Record::Leased { task, worker, fence, .. } = record {
                        assert!(*fence > self.last_fence, "{fence:?} after {:?}", self.last_fence);
                        self.last_fence = *fence;
                        self.check_lease(*task, worker, before, &free);
                        if let (Some((_, false, need)), Some(room)) = (orders.get(task), free.get_mut(worker)) {
                            room.sub(need);
                        }
                    }
                    self.fold(record);
                }
                // Said again to a worker that comes back without having heard: not counted again.
                Effect::Send { worker, message: ToWorker::Revoke { task, reason, .. }, .. }
                    if *reason == revoke::PREEMPTED && !before.leaving.contains(task) =>
                {
                    victims.push((worker.clone(), *task));
                    self.evicted.push((self.now, *task));
                }
                _ => {}
            }
        }
        self.check_victims(before, &victims);
        self.check_conservation();
        self.check_views();
        // While a workflow is asked, the round waits for its answer. Where some preempt, room and quota may be kept for them.
        if self.strict && !effects.iter().any(|effect| matches!(effect, Effect::Advance { .. })) {
            self.check_left_over(free, before);
        }
    }

    /// Invariants 2, 3 and 9, and the order.
    fn check_lease(&self, id: TaskId, worker: &WorkerName, before: &Before, free: &BTreeMap<WorkerName, Resources>) {
        let (task, job) = (&self.tasks[&id], &self.jobs[&id.job]);
        assert_eq!(task.stand, Stand::Waiting, "{id} is leased to {worker}");
        assert!(!job.ending, "{id} is leased though its job ends");
        let (leaf, need) = (self.quota.find(&job.pool), &task.shape.resources);
        assert!(self.quota.is_open(leaf), "{id} starts in {}, which is not open", job.pool);
        if let Some(refusal) = self.quota.refuses(leaf, need, job.fixed) {
            panic!("{id} of {} starts against its quota: {refusal}", job.pool);
        }
        // What was reclaimed for a guarantee is not taken in turns.
        let mut with = self.quota.clone();
        with.charge(leaf, need);
        let mut owed = with.path(leaf).into_iter().filter(|node| !with.name(*node).is_root());
        let within = |node: usize| {
            let mut kinds = need.iter().map(|(r, _)| r).filter(|r| with.held(node, r) > 0).peekable();
            kinds.peek().is_some() && kinds.all(|r| with.usage(node, r) <= with.subtree(node, r))
        };
        if self.ages || self.trusts || (!self.strict && owed.any(within)) {
            return;
        }
        let heads = self.heads(free);
        let mine = heads.iter().find(|head| head.pool == leaf && head.task == id);
        let Some(mine) = mine else {
            panic!("{id} starts before the first of its line, {heads:?}");
        };
        if before.reserved.contains(worker) {
            return;
        }
        if let Err(wrong) = self.quota.may_be_next(mine, &heads) {
            panic!("{id} of {} starts on {worker} out of turn: {wrong}", job.pool);
        }
    }

    /// Invariant 1.
    fn check_conservation(&self) {
        let mut by_leaf: BTreeMap<usize, Resources> = BTreeMap::new();
        let mut held = 0;
        for view in self.engine.workers() {
            let mut running = Resources::ZERO;
            for (id, charged) in
                view.running.iter().map(|id| (id, true)).chain(view.prefetched.iter().map(|id| (id, false)))
            {
                let task = &self.tasks[id];
                assert!(
                    matches!(&task.stand, Stand::Leased(worker, _) if *worker == view.worker),
                    "{id} is with {}, but {:?}",
                    view.worker,
                    task.stand
                );
                by_leaf.entry(self.quota.find(&self.jobs[&id.job].pool)).or_default().add(&task.shape.resources);
                if charged {
                    running.add(&task.shape.resources);
                }
                held += 1;
            }
            assert!(running.iter().eq(view.allocated.iter()), "{}: {running} is not {}", view.worker, view.allocated);
            assert!(view.allocated.fits_in(&view.capacity), "{} has more than it can hold", view.worker);
        }
        assert_eq!(held, self.leased().count(), "leases without a worker");
        for leaf in self.quota.all().filter(|node| self.quota.is_leaf(*node)) {
            let used = by_leaf.remove(&leaf).unwrap_or_default();
            for r in self.quota.kinds() {
                let name = self.quota.name(leaf);
                assert_eq!(self.quota.real(leaf, &r), used.get(&r), "{name}: {r}: usage is not what workers hold");
            }
        }
    }

    /// What people are shown is what the oracle says.
    fn check_views(&self) {
        let views = self.engine.pools(self.now);
        let names: Vec<_> = views.iter().map(|view| view.pool.clone()).collect();
        assert_eq!(names, self.tree.pools.keys().cloned().collect::<Vec<_>>(), "the pools there are");
        for view in &views {
            let n = self.quota.find(&view.pool);
            for r in self.quota.kinds() {
                let shown = view.resources.iter().find(|shown| shown.resource == r);
                let (guarantee, used) = (self.quota.held(n, &r), self.quota.real(n, &r));
                let Some(shown) = shown else {
                    assert_eq!((guarantee, used), (0, 0), "{}: {r} is not shown", view.pool);
                    continue;
                };
                let limit = self.quota.limit(n, &r);
                let expected = (guarantee, used, self.quota.borrowed(n, &r), self.quota.lent(n, &r), limit);
                let shown = (shown.guarantee, shown.used, shown.borrowed, shown.lent, shown.limit);
                assert_eq!(shown, expected, "{}: {r}: (guarantee, used, borrowed, lent, limit)", view.pool);
            }
        }
    }

    /// Invariant 7.
    fn check_left_over(&self, mut free: BTreeMap<WorkerName, Resources>, before: &Before) {
        let heads = self.heads(&free);
        if Quota::left_over(&heads).is_none() {
            return;
        }
        let reserved = self.reserved();
        free.retain(|name, _| !reserved.contains(name) && !before.reserved.contains(name));
        if let Some(head) = Quota::left_over(&self.heads(&free)) {
            panic!("{} of {} could start and does not: {free:?}", head.task, self.quota.name(head.pool));
        }
    }

    // ------------------------------------------------------------ victims

    /// Invariant 5, as far as the facts alone show it: who must not be preempted is not, and without all that were asked to go nobody is
    /// below what he is guaranteed in every kind of it.
    fn check_victims(&self, before: &Before, victims: &[(WorkerName, TaskId)]) {
        if self.trusts {
            return;
        }
        let mut quota = self.quota.clone();
        let going: BTreeSet<TaskId> = before.leaving.iter().copied().chain(victims.iter().map(|(_, id)| *id)).collect();
        let still = |id: &&TaskId| matches!(self.tasks[*id].stand, Stand::Leased(..));
        for id in going.iter().filter(still) {
            quota.release(quota.find(&self.jobs[&id.job].pool), &self.tasks[id].shape.resources);
        }
        for (worker, id) in victims {
            let job = &self.jobs[&id.job];
            assert!(!job.fixed, "{id} on {worker} must not be preempted");
            let leaf = quota.find(&job.pool);
            // A claim is on what the claimant is guaranteed: where that may be a kind nobody guarantees to this leaf, it has no say.
            let used: Vec<&str> = self.tasks[id].shape.resources.iter().map(|(r, _)| r).collect();
            let judged = used.iter().all(|r| quota.held(leaf, r) > 0);
            let kept = !judged || used.iter().any(|r| quota.usage(leaf, r) >= quota.subtree(leaf, r));
            assert!(
                job.opportunistic || kept,
                "{id} of {} goes, which takes its pool below all it is guaranteed",
                job.pool
            );
        }
    }
}
