//! Pools: trees at random, and what administrators do to them.

use std::collections::BTreeMap;

use spool_core::io::{Input, NewJob, PoolChange};
use spool_proto::ids::JobId;
use spool_proto::pool::{Class, Hold, Hop, Limits, PoolName, PoolSpec, PoolTree, Preemption};
use spool_proto::resources::Resources;
use spool_proto::time::Span;

use super::{Event, World};
use crate::rng::Rng;

/// No task needs more cpu than this.
const LARGEST: u64 = 3_000;
/// Those that may be there, parents first, and how often.
const NAMES: [(&str, u64); 6] = [("a", 80), ("a/x", 60), ("a/y", 60), ("b", 60), ("b/z", 40), ("c", 40)];

fn one<T: Clone>(rng: &mut Rng, of: &[T]) -> T {
    rng.pick(of).expect("not empty").clone()
}

fn spec(rng: &mut Rng) -> PoolSpec {
    let limit = |rng: &mut Rng, chance: u64, of: &[u64]| -> Limits {
        rng.percent(chance).then(|| ("cpu".to_owned(), one(rng, of))).into_iter().collect()
    };
    PoolSpec {
        guarantee: Resources::cpu_memory(one(rng, &[0, 0, 1_000, 2_000, 4_000]), one(rng, &[0, 0, 0, 500])),
        borrow: limit(rng, 30, &[0, 1_000, 3_000]),
        lend: limit(rng, 20, &[0, 1_000]),
        weight: one(rng, &[0, 1, 1, 3]),
        preemption: one(rng, &[Preemption::Never, Preemption::Reclaim, Preemption::Reclaim, Preemption::Fair]),
        grace: Span::from_secs(one(rng, &[0, 2, 10])),
        max_queued: rng.percent(10).then(|| u32::try_from(rng.within(1..4)).expect("small")),
        ..PoolSpec::default()
    }
}

fn tree(rng: &mut Rng) -> PoolTree {
    let mut tree = PoolTree::default();
    tree.pools.insert(PoolName::default(), spec(rng));
    for (name, chance) in NAMES {
        let name = PoolName::from(name);
        if name.parent().is_some_and(|parent| tree.pools.contains_key(&parent)) && rng.percent(chance) {
            tree.pools.insert(name, spec(rng));
        }
    }
    if rng.percent(15) {
        root(&mut tree).guarantee.cpu = one(rng, &[4_000, 8_000]);
    }
    mend(&mut tree);
    tree
}

fn root(tree: &mut PoolTree) -> &mut PoolSpec {
    tree.pools.get_mut(&PoolName::root()).expect("every tree has one")
}

/// Makes the numbers such that the tree passes its check.
fn mend(tree: &mut PoolTree) {
    let mut names: Vec<PoolName> = tree.pools.keys().cloned().collect();
    // The deepest first, the root last.
    names.sort_by_key(|name| std::cmp::Reverse((!name.is_root(), name.0.matches('/').count())));
    let mut held: BTreeMap<PoolName, Resources> = BTreeMap::new();
    for name in names {
        let mut below = Resources::ZERO;
        tree.children(&name).for_each(|child| below.add(&held[child]));
        let spec = tree.pools.get_mut(&name).expect("just listed");
        for (mine, below) in [(&mut spec.guarantee.cpu, below.cpu), (&mut spec.guarantee.memory, below.memory)] {
            *mine = if *mine > 0 { below.max(*mine) } else { 0 };
        }
        let cpu = spec.guarantee.cpu;
        spec.lend.values_mut().for_each(|lend| *lend = cpu.min(*lend));
        held.insert(name, spec.guarantee.max_of(&below));
    }
}

/// The tree with nothing in it that keeps any task from ever starting: guarantees, limits, weights and preemption stay.
fn eased(tree: &PoolTree) -> PoolTree {
    let mut eased = tree.clone();
    root(&mut eased).guarantee = Resources::ZERO;
    for spec in eased.pools.values_mut() {
        (spec.guarantee.memory, spec.max_queued) = (0, None);
        spec.lend.clear();
        spec.borrow.values_mut().for_each(|borrow| *borrow = LARGEST.max(*borrow));
    }
    // What must not be preempted never borrows where anybody is guaranteed anything.
    // A parent has what its children have.
    let is_top = |name: &PoolName| name.parent().is_some_and(|parent| parent.is_root());
    let owns = |top: &PoolName| eased.pools.iter().any(|(name, spec)| name.is_within(top) && spec.guarantee.cpu > 0);
    let guaranteed: Vec<PoolName> = eased.pools.keys().filter(|name| is_top(name) && owns(name)).cloned().collect();
    let within = |leaf: &PoolName| guaranteed.iter().any(|above| leaf.is_within(above));
    let leaves: Vec<PoolName> =
        eased.pools.keys().filter(|name| eased.is_leaf(name) && within(name)).cloned().collect();
    for leaf in leaves {
        let cpu = &mut eased.pools.get_mut(&leaf).expect("just listed").guarantee.cpu;
        *cpu = LARGEST.max(*cpu);
    }
    mend(&mut eased);
    eased
}

impl World {
    /// Where a new job goes, and how.
    pub(super) fn placed(&mut self, job: NewJob) -> NewJob {
        if !self.weather.pools {
            return job;
        }
        let leaves = self.leaves();
        let rng = &mut self.rng;
        let class = if rng.percent(20) {
            Class::Opportunistic { start_by: self.now + Span::from_secs(rng.within(0..200)) }
        } else {
            Class::Standard
        };
        let hop = rng.percent(15).then(|| Hop {
            after: Span::from_secs(rng.within(0..60)),
            pool: one(rng, &leaves),
            priority: rng.percent(50).then_some(70),
        });
        NewJob { pool: one(rng, &leaves), class, preemptible: !rng.percent(10), hop: hop.into_iter().collect(), ..job }
    }

    fn leaves(&self) -> Vec<PoolName> {
        let tree = self.server.engine.pools_state().tree;
        let leaves = tree.pools.keys().filter(|name| tree.is_leaf(name) && !name.is_root());
        leaves.cloned().collect()
    }

    /// Something about pools changes, or is refused.
    pub(super) fn administrate(&mut self, jobs: &[JobId]) {
        let token = self.token();
        let leaves = self.leaves();
        let rng = &mut self.rng;
        let input = match (rng.within(0..4), rng.pick(jobs).copied()) {
            (0, Some(job)) => Input::MoveJob { token, job, pool: one(rng, &leaves) },
            (0 | 1, _) => {
                let (pool, hold) = (one(rng, &leaves), one(rng, &[Hold::Held, Hold::Draining, Hold::Open]));
                let pool = if rng.percent(20) { pool.parent().expect("a leaf is below the root") } else { pool };
                Input::HoldPool { token, pool, hold, by: "ann".into(), reason: "simulated".into() }
            }
            _ => {
                let expected_version = rng.percent(30).then(|| self.server.engine.pools_state().version);
                let change = PoolChange { tree: tree(rng), expected_version, by: "ann".into(), reason: String::new() };
                Input::ApplyPools { token, change }
            }
        };
        self.arrive(input);
    }

    /// After the calm: whatever in the pools keeps jobs from ever ending goes, until it is gone.
    pub(super) fn ease(&mut self) {
        let state = self.server.engine.pools_state();
        let life = self.life;
        let tree = eased(&state.tree);
        if tree != state.tree {
            let change =
                PoolChange { tree, expected_version: Some(state.version), by: "ann".into(), reason: String::new() };
            let token = self.token();
            self.after_ms(5, Event::Local(life, Input::ApplyPools { token, change }));
        }
        for pool in state.holds.into_keys() {
            let (token, hold, by, reason) = (self.token(), Hold::Open, "ann".into(), String::new());
            self.after_ms(5, Event::Local(life, Input::HoldPool { token, pool, hold, by, reason }));
        }
    }
}
