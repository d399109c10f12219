//! Who is owed room gets it, from those who may be asked, and it ends: invariants 4, 5, 6 and 12.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;
use spool_core::io::NewJob;
use spool_proto::ids::{JobId, TaskId};
use spool_proto::pool::{Limits, PoolName, PoolSpec, PoolTree, Preemption};
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};

use crate::generate::*;
use crate::harness::{ENDLESS, Stand, World, calm, cpu, job, run};

/// Looks at the clock after a grace that is over, at most a look each, and one to place.
const ROUNDS: Span = Span::from_secs(2);

proptest! {
    #![proptest_config(cases(100))]

    /// Checked of every victim as it is chosen: see `watch.rs`.
    #[test]
    fn invariant_05_victims_may_be_preempted_and_keep_their_guarantee(
        tree in tree(any_preemption),
        fleet in fleet(),
        acts in prop::collection::vec(act(any_preemption), 1..50),
    ) {
        let mut world = World::new(&tree, calm());
        fleet.iter().for_each(|machine| join(&mut world, machine));
        acts.iter().for_each(|act| perform(&mut world, act));
    }
}

proptest! {
    #![proptest_config(cases(200))]

    /// One task claims. With any of those who went for it back where it was, there would be no quota or no room for it.
    #[test]
    fn invariant_05_the_set_of_victims_is_minimal(
        tree in tree(reclaim),
        machines in 1..4_u32,
        works in prop::collection::vec(work(), 8..20),
        who in any::<Index>(),
        mine in need(),
    ) {
        // Everybody else borrows, so that there is whom to choose from, and takes nothing from anybody. Nobody keeps anything: a task that lies ready uses
        // quota, not room, and once it is taken back there would be quota that was not there when victims were chosen.
        let mut tree = tree;
        tree.pools.values_mut().for_each(|spec| {
            (spec.guarantee, spec.preemption) = (Resources::ZERO, Preemption::Never);
            spec.lend = Limits::new();
        });
        let me = who.get(&leaves(&tree)).clone();
        let spec = tree.pools.get_mut(&me).unwrap();
        spec.guarantee = Resources { gpu: 1000, ..Resources::cpu_memory(5000, 3000) };
        spec.preemption = Preemption::Reclaim;
        mend(&mut tree);
        let mut world = World::new(&tree, calm());
        for number in 0..machines {
            let capacity = Resources { gpu: 3000, ..Resources::cpu_memory(8000, 12_000) };
            world.add_worker(&format!("w{number}"), &capacity, &BACKENDS.map(str::to_owned));
        }
        // Some have run for longer than others.
        for work in &works {
            submit(&mut world, work, true);
            world.run_for(Span::from_secs(30));
        }
        let settled = world.evicted.len();
        let Some(mine) = world.submit(job(&me.0), vec![run(1, &mine, ENDLESS)]) else { return Ok(()) };
        let id = TaskId { job: mine, index: 0 };
        let end = world.now + Span::from_secs(30);
        while world.now < end && !world.ran.contains_key(&id) {
            world.run_for(Span::from_millis(50));
        }
        let Stand::Leased(site, _) = world.tasks[&id].stand.clone() else { return Ok(()) };
        for (_, victim) in &world.evicted[settled..] {
            let (quota, task) = (&world.quota, &world.tasks[victim]);
            prop_assert_ne!(victim, &id);
            let (need, mine) = (&task.shape.resources, &world.tasks[&id].shape.resources);
            let of = |task: &TaskId| quota.find(&world.jobs[&task.job].pool);
            let mut back = quota.clone();
            back.charge(of(victim), need);
            back.release(of(&id), mine);
            let no_quota = back.refuses(of(&id), mine, world.jobs[&id.job].fixed).is_some();
            let there = world.engine.workers().find(|view| view.worker == world.evicted_from[victim]).unwrap();
            let mut free = there.capacity.clone();
            free.sub(&there.allocated);
            let no_room = there.worker == site && !need.fits_in(&free);
            // It has the room it left again, beside the one that it left it for.
            let is_back = there.running.contains(victim);
            prop_assert!((no_quota || no_room) && !is_back, "{} went for {} on {} and need not have{}", victim, id, site, told(&tree));
        }
    }
}

proptest! {
    #![proptest_config(cases(60))]

    /// Nothing ends and nobody comes. Who was evicted waits again at once, and that evicts nobody in the second half of the time.
    #[test]
    fn invariant_06_preemption_terminates(
        first in tree(never),
        then in tree(any_preemption),
        fleet in fleet(),
        works in prop::collection::vec(work(), 2..12),
        edit in any::<bool>(),
    ) {
        let mut world = World::new(if edit { &first } else { &then }, calm());
        let mut works = works;
        // What is deferred becomes standard in its time, and may then claim: that is no frozen input.
        works.iter_mut().for_each(|work| work.opportunistic = None);
        fleet.iter().for_each(|machine| join(&mut world, machine));
        works.iter().for_each(|work| submit(&mut world, work, true));
        if edit {
            let mut tree = then;
            for (name, spec) in &first.pools {
                tree.pools.entry(name.clone()).or_insert_with(|| spec.clone());
            }
            mend(&mut tree);
            world.apply(tree);
        }
        let leased = world.leased().count() + world.waiting();
        world.run_for(Span::from_secs(300));
        let settled = world.evicted.len();
        prop_assert!(settled <= leased * 2, "{settled} evictions of {leased} tasks");
        world.run_for(Span::from_secs(300));
        prop_assert_eq!(world.evicted.len(), settled, "evictions go on: {:?}", world.evicted);
    }
}

/// Guarantees in whole cores, all of which the fleet has; workers of equal cores, so that a task of one core fits wherever there is one.
fn promise(tree: &PoolTree) -> (PoolTree, u64) {
    let mut tree = tree.clone();
    for spec in tree.pools.values_mut() {
        (spec.guarantee.gpu, spec.guarantee.memory) = (0, 0);
        [&mut spec.borrow, &mut spec.lend].into_iter().for_each(|limits| limits.retain(|kind, _| kind == "cpu"));
    }
    mend(&mut tree);
    let cores = promised(&tree)["cpu"] / 1000;
    (tree, cores)
}

fn machines(world: &mut World, cores: u64) {
    for number in 0..cores.div_ceil(4) {
        world.add_worker(&format!("w{number:02}"), &cpu(4000), &[]);
    }
}

/// Endless work of one core in every leaf, more than the fleet can hold.
fn flood(world: &mut World, but: Option<&PoolName>, cores: u64) {
    for leaf in leaves(&world.tree).iter().filter(|leaf| Some(*leaf) != but) {
        let count = u32::try_from(cores + 4).unwrap();
        world.submit(job(&leaf.0), vec![run(count, &cpu(1000), ENDLESS)]).unwrap();
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn invariant_04_demand_within_a_guarantee_starts_within_grace_whoever_borrows(
        tree in tree(reclaim),
        who in any::<Index>(),
    ) {
        let (tree, cores) = promise(&tree);
        let owed: Vec<_> = leaves(&tree).into_iter().filter(|leaf| tree.pools[leaf].guarantee.cpu > 0).collect();
        prop_assume!(!owed.is_empty());
        let me = who.get(&owed);
        let mut world = World::new(&tree, calm());
        machines(&mut world, cores);
        flood(&mut world, Some(me), cores);
        world.run_for(Span::from_secs(60));

        let mine = u32::try_from(tree.pools[me].guarantee.cpu / 1000).unwrap();
        let id = world.submit(job(&me.0), vec![run(mine, &cpu(1000), ENDLESS)]).unwrap();
        world.run_for(tree.pools[me].grace + ROUNDS);
        let ran = world.ran.keys().filter(|task| task.job == id).count();
        prop_assert_eq!(ran, mine as usize, "of {} in {}: {:?}{}", mine, me, world.engine.explain(world.now, id), told(&tree));
    }

    /// The same guarantee and the same demand within it, beside an idle neighbour and beside a greedy one.
    #[test]
    fn invariant_12_anothers_backlog_does_not_change_what_i_get_within_my_guarantee(
        tree in tree(reclaim),
        who in any::<Index>(),
        demand in prop::collection::vec((1..4_u32, 1..30_u64, 0..20_u64), 1..6),
    ) {
        let (tree, cores) = promise(&tree);
        let owed: Vec<_> = leaves(&tree).into_iter().filter(|leaf| tree.pools[leaf].guarantee.cpu > 0).collect();
        prop_assume!(!owed.is_empty());
        let me = who.get(&owed);
        let grace = tree.pools[me].grace;
        let mut left = u32::try_from(tree.pools[me].guarantee.cpu / 1000).unwrap();
        let demand: Vec<_> = demand.into_iter().map(|(count, seconds, pause)| {
            let count = count.min(left);
            left -= count;
            (count, seconds, pause)
        }).collect();
        let starts = |greedy: bool| {
            let mut world = World::new(&tree, calm());
            machines(&mut world, cores);
            if greedy {
                flood(&mut world, Some(me), cores);
            }
            world.run_for(Span::from_secs(30));
            let mut starts: BTreeMap<(usize, u32), Timestamp> = BTreeMap::new();
            let jobs: Vec<JobId> = demand.iter().filter_map(|(count, seconds, pause)| {
                let id = world.submit(job(&me.0), vec![run(*count, &cpu(1000), seconds * 1000)]);
                world.run_for(Span::from_secs(*pause));
                id
            }).collect();
            world.run_for(Span::from_secs(200));
            for (task, at) in &world.ran {
                if let Some(number) = jobs.iter().position(|id| *id == task.job) {
                    starts.insert((number, task.index), *at);
                }
            }
            starts
        };
        let (alone, beside) = (starts(false), starts(true));
        for (task, at) in &alone {
            let late = beside.get(task).map(|beside| beside.since(*at));
            prop_assert!(late.is_some_and(|late| late <= grace + ROUNDS), "{:?} of {}: {:?} later, grace {:?}{}", task, me, late, grace, told(&tree));
        }
        prop_assert_eq!(alone.len(), beside.len());
    }
}

/// Of several cores: it has to find them on one worker, and others are guaranteed something there, too.
#[test]
fn invariant_04_holds_for_a_task_that_needs_several_victims_on_one_worker() {
    let mut tree = PoolTree::default();
    for (name, cores) in [("a", 4), ("b", 0), ("c", 2)] {
        let spec = PoolSpec { guarantee: cpu(cores * 1000), ..Default::default() };
        tree.pools.insert(name.into(), spec);
    }
    let mut world = World::new(&tree, calm());
    machines(&mut world, 8);
    world.submit(job("c"), vec![run(2, &cpu(1000), ENDLESS)]).unwrap();
    world.submit(job("b"), vec![run(20, &cpu(1000), ENDLESS)]).unwrap();
    let big = world.submit(job("a"), vec![run(1, &cpu(4000), ENDLESS)]).unwrap();
    world.run_for(Span::from_secs(12));
    assert!(world.ran.keys().any(|task| task.job == big), "{:?}", world.engine.explain(world.now, big));
    assert_eq!(world.evicted.len(), 4, "{:?}", world.evicted);
    let untouched = NewJob { preemptible: false, ..job("b") };
    assert!(world.submit(untouched, vec![run(1, &Resources::cpu_memory(1000, 0), ENDLESS)]).is_some());
    world.run_for(Span::from_secs(60));
    assert_eq!(world.evicted.len(), 4, "nobody else has to go");
}

/// Its quota is with one borrower and its room, once that one has gone, with another who lay ready there: one claim is for both.
#[test]
fn invariant_04_holds_where_quota_and_room_are_with_different_borrowers() {
    let mut tree = PoolTree::default();
    for (name, cores, borrow) in [("a", 0, Some(0)), ("a/b", 0, None), ("a/c", 1, None), ("default", 0, None)] {
        let mut spec = PoolSpec { guarantee: cpu(cores * 1000), weight: 0, grace: Span::ZERO, ..PoolSpec::default() };
        spec.borrow.extend(borrow.map(|cores: u64| ("cpu".to_owned(), cores * 1000)));
        tree.pools.insert(name.into(), spec);
    }
    let me = PoolName::from("a/c");
    let mut world = World::new(&tree, calm());
    machines(&mut world, 1);
    flood(&mut world, Some(&me), 1);
    world.run_for(Span::from_secs(60));
    let id = world.submit(job(&me.0), vec![run(1, &cpu(1000), ENDLESS)]).unwrap();
    world.run_for(Span::from_secs(1));
    assert!(world.ran.keys().any(|task| task.job == id), "{:?}", world.engine.explain(world.now, id));
    assert_eq!(world.evicted.len(), 1, "the one that has both is asked: {:?}", world.evicted);
}

/// The only worker that can hold it runs the oldest task of a large fleet, which is looked at last.
#[test]
fn invariant_04_holds_where_hundreds_of_borrowers_are_no_help() {
    let mut tree = PoolTree::default();
    let spec = PoolSpec { guarantee: cpu(1000), grace: Span::ZERO, ..PoolSpec::default() };
    tree.pools.insert("a".into(), spec);
    let mut world = World::new(&tree, calm());
    world.add_worker("gpu", &cpu(1000), &["nvenc/h264".to_owned()]);
    world.submit(job("default"), vec![run(301, &cpu(1000), ENDLESS)]).unwrap();
    world.run_for(Span::from_secs(1));
    (0..300).for_each(|number| world.add_worker(&format!("w{number}"), &cpu(1000), &[]));
    world.run_for(Span::from_secs(1));
    let mut mine = run(1, &cpu(1000), ENDLESS);
    mine.task.shape.backend = "nvenc/h264".into();
    let id = world.submit(job("a"), vec![mine]).unwrap();
    world.run_for(Span::from_secs(1));
    assert!(world.ran.keys().any(|task| task.job == id), "{:?}", world.engine.explain(world.now, id));
    assert_eq!(world.evicted.len(), 1, "{:?}", world.evicted);
}
