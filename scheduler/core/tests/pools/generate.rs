//! Random trees, fleets and workloads, small enough that much happens between few.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;
use spool_core::io::NewJob;
use spool_proto::pool::{Class, Hold, Limits, PoolName, PoolSpec, PoolTree, Preemption};
use spool_proto::resources::Resources;
use spool_proto::time::Span;

use crate::harness::{ENDLESS, World, job, run};

pub const BACKENDS: [&str; 2] = ["cpu/libx264", "nvenc/h264"];
const KINDS: [&str; 3] = ["cpu", "gpu", "memory"];
const DEPTH: usize = 4;

/// `SPOOL_PROP_CASES`, else this many.
pub fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("SPOOL_PROP_CASES").ok();
    let cases = cases.map_or(default, |text| text.parse().expect("SPOOL_PROP_CASES is a number"));
    // The same cases every time, so that a run says something about a change; PROPTEST_RNG_SEED=n looks at others.
    let rng_seed = match std::env::var("PROPTEST_RNG_SEED") {
        Ok(_) => ProptestConfig::default().rng_seed,
        Err(_) => RngSeed::Fixed(20_261_124),
    };
    ProptestConfig { cases, max_shrink_iters: 400, rng_seed, ..ProptestConfig::default() }
}

fn amounts(of: impl Iterator<Item = (usize, u64)>) -> Resources {
    let mut all = Resources::ZERO;
    for (kind, amount) in of {
        match kind {
            0 => all.cpu = amount * 1000,
            1 => all.gpu = amount * 1000,
            _ => all.memory = amount * 1000,
        }
    }
    all
}

/// Mostly little, often nothing.
fn guarantee() -> impl Strategy<Value = Resources> {
    let one = || prop_oneof![3 => Just(0_u64), 3 => 1..5_u64, 1 => 5..12_u64];
    [one(), one(), one()].prop_map(|each| amounts(each.into_iter().enumerate()))
}

fn limits() -> impl Strategy<Value = Limits> {
    let one = || prop_oneof![4 => Just(None), 3 => (0..5_u64).prop_map(Some)];
    [one(), one(), one()].prop_map(|each| {
        let named = KINDS.iter().zip(each).filter_map(|(kind, amount)| Some(((*kind).to_owned(), amount? * 1000)));
        named.collect()
    })
}

pub fn spec(preemption: impl Strategy<Value = Preemption> + 'static) -> impl Strategy<Value = PoolSpec> {
    let weight = prop_oneof![1 => Just(0_u32), 6 => 1..4_u32, 1 => Just(1_000_000)];
    let grace = prop_oneof![Just(0_u64), 1..20_u64];
    (guarantee(), limits(), limits(), weight, preemption, grace).prop_map(
        |(guarantee, borrow, lend, weight, preemption, grace)| PoolSpec {
            guarantee,
            borrow,
            lend,
            weight,
            preemption,
            grace: Span::from_secs(grace),
            ..PoolSpec::default()
        },
    )
}

pub fn never() -> BoxedStrategy<Preemption> {
    Just(Preemption::Never).boxed()
}

pub fn reclaim() -> BoxedStrategy<Preemption> {
    Just(Preemption::Reclaim).boxed()
}

pub fn any_preemption() -> BoxedStrategy<Preemption> {
    prop_oneof![1 => Just(Preemption::Never), 4 => Just(Preemption::Reclaim), 2 => Just(Preemption::Fair)].boxed()
}

/// Makes the numbers such that the tree passes its check.
pub fn mend(tree: &mut PoolTree) {
    let mut names: Vec<PoolName> = tree.pools.keys().cloned().collect();
    names.sort_by_key(|name| std::cmp::Reverse(if name.is_root() { 0 } else { 1 + name.0.matches('/').count() }));
    let mut held: BTreeMap<PoolName, Resources> = BTreeMap::new();
    for name in names {
        let mut below = Resources::ZERO;
        tree.children(&name).for_each(|child| below.add(&held[child]));
        let spec = tree.pools.get_mut(&name).unwrap();
        if name.is_root() {
            (spec.borrow, spec.lend) = (Limits::new(), Limits::new());
        }
        let own = &mut spec.guarantee;
        for (mine, below) in [(&mut own.cpu, below.cpu), (&mut own.gpu, below.gpu), (&mut own.memory, below.memory)] {
            if *mine > 0 {
                *mine = below.max(*mine);
            }
        }
        let guarantee = spec.guarantee.clone();
        spec.lend.iter_mut().for_each(|(kind, lend)| *lend = guarantee.get(kind).min(*lend));
        held.insert(name, guarantee.max_of(&below));
    }
}

/// Up to nine pools besides the root and `default`, four levels deep at most.
pub fn tree(preemption: impl Fn() -> BoxedStrategy<Preemption>) -> impl Strategy<Value = PoolTree> {
    let ceiling = prop_oneof![3 => Just(Resources::ZERO), 1 => (8..30_u64).prop_map(|n| amounts([(0, n)].into_iter()))];
    let pools = prop::collection::vec((any::<Index>(), spec(preemption())), 1..10);
    (pools, spec(preemption()), ceiling).prop_map(|(pools, default, ceiling)| {
        let mut tree = PoolTree::default();
        tree.pools.insert(PoolName::default(), default);
        tree.pools.get_mut(&PoolName::root()).unwrap().guarantee = ceiling;
        let mut parents = vec![String::new()];
        for (letter, (parent, spec)) in ('a'..).zip(pools) {
            let parent = parent.get(&parents).clone();
            let name = if parent.is_empty() { letter.to_string() } else { format!("{parent}/{letter}") };
            tree.pools.insert(name.as_str().into(), spec);
            if name.matches('/').count() + 1 < DEPTH {
                parents.push(name);
            }
        }
        mend(&mut tree);
        assert_eq!(tree.check(), Ok(()));
        tree
    })
}

/// A line a pool, for a failure's message.
pub fn told(tree: &PoolTree) -> String {
    let line = |(name, spec): (&PoolName, &PoolSpec)| {
        format!(
            "\n  {:8} guarantee [{}] borrow {:?} lend {:?} weight {} {:?} grace {:?}",
            if name.is_root() { "(root)" } else { &name.0 },
            spec.guarantee,
            spec.borrow,
            spec.lend,
            spec.weight,
            spec.preemption,
            spec.grace
        )
    };
    tree.pools.iter().map(line).collect()
}

pub fn leaves(tree: &PoolTree) -> Vec<PoolName> {
    tree.pools.keys().filter(|name| tree.is_leaf(name) && !name.is_root()).cloned().collect()
}

#[derive(Debug, Clone)]
pub struct Machine {
    pub capacity: Resources,
    pub backends: Vec<String>,
}

pub fn machine() -> impl Strategy<Value = Machine> {
    let backends =
        prop_oneof![Just(vec![]), Just(vec![BACKENDS[0].to_owned()]), Just(BACKENDS.map(str::to_owned).into())];
    (1..8_u64, prop_oneof![Just(0), 1..4_u64], 4..12_u64, backends).prop_map(|(cpu, gpu, memory, backends)| Machine {
        capacity: amounts([(0, cpu), (1, gpu), (2, memory)].into_iter()),
        backends,
    })
}

pub fn fleet() -> impl Strategy<Value = Vec<Machine>> {
    prop::collection::vec(machine(), 1..5)
}

/// What a task may need: alike in few ways, so that lines form.
pub fn need() -> impl Strategy<Value = Resources> {
    let amounts = |each: &[(usize, u64)]| Just(amounts(each.iter().copied()));
    prop_oneof![
        4 => amounts(&[(0, 1)]),
        2 => amounts(&[(0, 2)]),
        1 => amounts(&[(0, 5)]),
        2 => amounts(&[(1, 1)]),
        2 => amounts(&[(0, 1), (1, 1)]),
        2 => amounts(&[(0, 1), (2, 3)]),
    ]
}

#[derive(Debug, Clone)]
pub struct Work {
    pool: Index,
    priority: u8,
    deadline: Option<u64>,
    /// Seconds until its `start_by`.
    pub opportunistic: Option<u64>,
    fixed: bool,
    backend: Option<Index>,
    tasks: Vec<(u32, Resources, u64)>,
}

pub fn work() -> impl Strategy<Value = Work> {
    let run = (1..6_u32, need(), 1..20_u64);
    let opportunistic = prop_oneof![4 => Just(None), 1 => (1..100_u64).prop_map(Some)];
    let backend = prop_oneof![5 => Just(None), 1 => any::<Index>().prop_map(Some)];
    let priority = prop_oneof![Just(50_u8), 0..=100_u8];
    let deadline = prop_oneof![4 => Just(None), 1 => (0..5_u64).prop_map(Some)];
    let fixed = prop::bool::weighted(0.15);
    let tasks = prop::collection::vec(run, 1..3);
    (any::<Index>(), priority, deadline, opportunistic, fixed, backend, tasks).prop_map(
        |(pool, priority, deadline, opportunistic, fixed, backend, tasks)| Work {
            pool,
            priority,
            deadline,
            opportunistic,
            fixed,
            backend,
            tasks,
        },
    )
}

#[derive(Debug, Clone)]
pub enum Act {
    Submit(Work),
    Finish(Index),
    Fail(Index),
    Cancel(Index),
    Priority(Index, u8),
    Move(Index, Index),
    Hold(Index, Hold),
    Edit(Index, PoolSpec),
    AddPool(Index, PoolSpec),
    Lose(Index),
    Join(Machine),
    Cordon(Index, bool),
    Disconnect(Index),
    Return(Index),
    Wait(u64),
}

pub fn act(preemption: impl Fn() -> BoxedStrategy<Preemption>) -> impl Strategy<Value = Act> {
    let at = any::<Index>;
    let hold = prop_oneof![1 => Just(Hold::Held), 1 => Just(Hold::Draining), 3 => Just(Hold::Open)];
    prop_oneof![
        12 => work().prop_map(Act::Submit),
        14 => at().prop_map(Act::Finish),
        1 => at().prop_map(Act::Fail),
        1 => at().prop_map(Act::Cancel),
        2 => (at(), 0..=100_u8).prop_map(|(job, priority)| Act::Priority(job, priority)),
        2 => (at(), at()).prop_map(|(job, pool)| Act::Move(job, pool)),
        2 => (at(), hold).prop_map(|(pool, hold)| Act::Hold(pool, hold)),
        3 => (at(), spec(preemption())).prop_map(|(pool, spec)| Act::Edit(pool, spec)),
        1 => (at(), spec(preemption())).prop_map(|(pool, spec)| Act::AddPool(pool, spec)),
        1 => at().prop_map(Act::Lose),
        1 => machine().prop_map(Act::Join),
        2 => (at(), any::<bool>()).prop_map(|(worker, cordoned)| Act::Cordon(worker, cordoned)),
        1 => at().prop_map(Act::Disconnect),
        1 => at().prop_map(Act::Return),
        4 => (1..10_000_u64).prop_map(Act::Wait),
    ]
}

pub fn join(world: &mut World, machine: &Machine) {
    let name = format!("w{:02}", world.workers.len());
    world.add_worker(&name, &machine.capacity, &machine.backends);
}

fn pick<T: Clone>(of: &[T], at: &Index) -> Option<T> {
    if of.is_empty() { None } else { Some(at.get(of).clone()) }
}

pub fn submit(world: &mut World, work: &Work, endless: bool) {
    let pool = work.pool.get(&leaves(&world.tree)).clone();
    let class = work
        .opportunistic
        .map_or(Class::Standard, |s| Class::Opportunistic { start_by: world.now + Span::from_secs(s) });
    let new = NewJob {
        priority: work.priority,
        deadline: work.deadline.map(|s| spool_proto::time::Timestamp(s + 1)),
        class,
        preemptible: !work.fixed,
        ..job(&pool.0)
    };
    let tasks = work.tasks.iter().map(|(count, need, seconds)| {
        let mut run = run(*count, need, if endless { ENDLESS } else { seconds * 1000 });
        run.task.shape.backend = work.backend.map(|at| (*at.get(&BACKENDS)).to_owned()).unwrap_or_default();
        run
    });
    let _maybe_refused = world.submit(new, tasks.collect());
}

/// With one spec of the tree another.
pub fn edited(tree: &PoolTree, at: &Index, spec: &PoolSpec) -> PoolTree {
    let mut tree = tree.clone();
    let names: Vec<PoolName> = tree.pools.keys().cloned().collect();
    let name = at.get(&names);
    let mut spec = spec.clone();
    if name.is_root() {
        // A ceiling of a random resource would be in everybody's way.
        spec.guarantee = Resources::ZERO;
    }
    tree.pools.insert(name.clone(), spec);
    mend(&mut tree);
    tree
}

pub fn perform(world: &mut World, act: &Act) {
    let open: Vec<_> = world.jobs.iter().filter(|(_, job)| !job.ending).map(|(id, _)| *id).collect();
    let workers: Vec<_> = world.workers.keys().cloned().collect();
    match act {
        Act::Submit(work) => submit(world, work, false),
        Act::Finish(at) => {
            if let Some((name, fence, _)) = pick(&world.running(), at) {
                world.finish(&name, fence);
            }
        }
        Act::Fail(at) => {
            if let Some((name, fence, _)) = pick(&world.running(), at) {
                world.fail(&name, fence);
            }
        }
        Act::Cancel(at) => {
            if let Some(job) = pick(&open, at) {
                let (token, reason) = (spool_core::io::Token(1), String::new());
                world.ask(spool_core::io::Input::Cancel { token, job, reason });
            }
        }
        Act::Priority(at, priority) => {
            if let Some(job) = pick(&open, at) {
                let (token, priority) = (spool_core::io::Token(1), *priority);
                world.ask(spool_core::io::Input::SetPriority { token, job, priority });
            }
        }
        Act::Move(at, pool) => {
            if let Some(job) = pick(&open, at) {
                let pool = pool.get(&leaves(&world.tree)).clone();
                world.ask(spool_core::io::Input::MoveJob { token: spool_core::io::Token(1), job, pool });
            }
        }
        Act::Hold(at, hold) => {
            let names: Vec<PoolName> = world.tree.pools.keys().cloned().collect();
            world.hold(at.get(&names), *hold);
        }
        Act::Edit(at, spec) => {
            let tree = edited(&world.tree, at, spec);
            world.apply(tree);
        }
        Act::AddPool(at, spec) => {
            let mut tree = world.tree.clone();
            let parents: Vec<PoolName> =
                tree.pools.keys().filter(|n| n.0.matches('/').count() + 1 < DEPTH).cloned().collect();
            let parent = at.get(&parents);
            let letter = char::from(b'n' + u8::try_from(tree.pools.len() % 12).unwrap());
            let name = if parent.is_root() { letter.to_string() } else { format!("{parent}/{letter}") };
            tree.pools.insert(name.as_str().into(), spec.clone());
            mend(&mut tree);
            world.apply(tree);
        }
        Act::Lose(at) => at_worker(&workers, at, |name| world.lose(name)),
        Act::Join(machine) => join(world, machine),
        Act::Cordon(at, cordoned) => at_worker(&workers, at, |name| {
            world.cordon(name, *cordoned);
        }),
        Act::Disconnect(at) => at_worker(&workers, at, |name| {
            if world.workers[name].connected {
                world.disconnect(name);
            }
        }),
        Act::Return(at) => at_worker(&workers, at, |name| {
            if !world.workers[name].connected {
                world.register(name);
            }
        }),
        Act::Wait(ms) => world.run_for(Span::from_millis(*ms)),
    }
}

fn at_worker(workers: &[spool_proto::ids::WorkerName], at: &Index, mut act: impl FnMut(&spool_proto::ids::WorkerName)) {
    if let Some(name) = pick(workers, at) {
        act(&name);
    }
}

/// What every leaf is guaranteed, by kind, summed: the fleet must have it for guarantees to mean anything.
pub fn promised(tree: &PoolTree) -> BTreeMap<&'static str, u64> {
    let quota = crate::oracle::Quota::new(tree, &BTreeMap::new());
    KINDS.into_iter().map(|kind| (kind, quota.held(quota.find(&PoolName::root()), kind))).collect()
}
