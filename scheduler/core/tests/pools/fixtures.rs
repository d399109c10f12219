//! Cases made by hand, where a simpler rule goes wrong.

use spool_proto::pool::{PoolSpec, PoolTree};
use spool_proto::resources::Resources;
use spool_proto::time::Span;

use crate::harness::{ENDLESS, World, calm, cpu, job, run};

fn tree(pools: &[(&str, PoolSpec)]) -> PoolTree {
    let mut tree = PoolTree::default();
    tree.pools.extend(pools.iter().map(|(name, spec)| ((*name).into(), spec.clone())));
    tree.check().unwrap();
    tree
}

fn gpu(milli: u64) -> Resources {
    Resources { gpu: milli, ..Resources::ZERO }
}

/// What the jobs of a pool have running.
fn running(world: &World, pool: &str) -> usize {
    world.running().iter().filter(|(.., id)| *world.jobs[&id.job].pool.0 == *pool).count()
}

/// Hierarchical dominant-resource fairness, taken naively, lets one child's use of a resource that only it wants make the whole group look
/// rich: the sibling beside the group gets everything else, and the other child starves.
#[test]
fn complementary_children_beside_a_sibling_that_wants_both_all_get_their_share() {
    let pools = ["group", "group/cpus", "group/gpus", "both"].map(|name| (name, PoolSpec::default()));
    let mut world = World::new(&tree(&pools), calm());
    let both = Resources { cpu: 1000, gpu: 1000, ..Resources::ZERO };
    for (pool, need) in [("both", &both), ("group/cpus", &cpu(1000)), ("group/gpus", &gpu(1000))] {
        world.submit(job(pool), vec![run(400, need, 1000)]).unwrap();
    }
    for number in 0..4 {
        world.add_worker(&format!("w{number}"), &Resources { cpu: 10_000, gpu: 10_000, ..Resources::ZERO }, &[]);
    }
    let mut least = [usize::MAX; 3];
    for _ in 0..20 {
        world.run_for(Span::from_secs(1));
        if world.waiting() < 400 {
            break;
        }
        for (least, pool) in least.iter_mut().zip(["both", "group/cpus", "group/gpus"]) {
            *least = (*least).min(running(&world, pool));
        }
    }
    // 40 of each kind. Of the cpus, those of the group and the sibling share; so they do of the gpus.
    assert!(least.iter().all(|least| *least >= 10), "both, cpus, gpus had at least {least:?} of 40");
}

/// One child has taken all of a resource nobody else wanted. Its sibling, who wants another, must not pay for it.
#[test]
fn a_group_rich_in_one_resource_is_not_passed_by_for_another() {
    let pools = ["group", "group/cpus", "group/gpus", "both"].map(|name| (name, PoolSpec::default()));
    let mut world = World::new(&tree(&pools), calm());
    world.add_worker("w", &Resources { cpu: 90_000, gpu: 10_000, ..Resources::ZERO }, &[]);
    world.submit(job("group/cpus"), vec![run(80, &cpu(1000), ENDLESS)]).unwrap();
    assert_eq!(running(&world, "group/cpus"), 80);
    // The group has 80 of 90 cpus, `both` nothing. Only gpus are short from here on.
    let mine = Resources { gpu: 1000, ..Resources::ZERO };
    world.submit(job("both"), vec![run(30, &mine, 1000)]).unwrap();
    world.submit(job("group/gpus"), vec![run(30, &mine, 1000)]).unwrap();
    world.run_for(Span::from_secs(3));
    let ran = |world: &World, pool: &str| world.ran.keys().filter(|id| *world.jobs[&id.job].pool.0 == *pool).count();
    let (group, sibling) = (ran(&world, "group/gpus"), ran(&world, "both"));
    assert!(group >= 8 && sibling >= 8, "gpus went to the group {group}, to its sibling {sibling}");
}

/// Weights as far apart as can be, and a guarantee only at their parent: who is entitled by the parent's guarantee has no claim on its own
/// sibling, or each would evict the other for ever.
#[test]
fn siblings_under_a_guaranteed_parent_do_not_evict_each_other() {
    for preemption in [spool_proto::pool::Preemption::Reclaim, spool_proto::pool::Preemption::Fair] {
        let with = |weight, cores: u64| PoolSpec {
            weight,
            guarantee: cpu(cores * 1000),
            grace: Span::from_secs(1),
            preemption,
            ..PoolSpec::default()
        };
        let pools = [("p", with(1, 6)), ("p/zero", with(0, 0)), ("p/huge", with(1_000_000, 0)), ("other", with(1, 0))];
        let mut world = World::new(&tree(&pools), calm());
        world.add_worker("w1", &cpu(4000), &[]);
        world.add_worker("w2", &cpu(4000), &[]);
        world.submit(job("other"), vec![run(10, &cpu(1000), ENDLESS)]).unwrap();
        assert_eq!(running(&world, "other"), 8);
        world.submit(job("p/zero"), vec![run(10, &cpu(1000), ENDLESS)]).unwrap();
        world.run_for(Span::from_secs(30));
        assert_eq!((running(&world, "p/zero"), running(&world, "other")), (6, 2), "{preemption:?}");
        let reclaimed = world.evicted.len();
        world.submit(job("p/huge"), vec![run(10, &cpu(1000), ENDLESS)]).unwrap();
        world.run_for(Span::from_secs(1800));
        let settled = world.evicted.len();
        assert!(settled <= reclaimed + 12, "{preemption:?}: {settled} evictions");
        world.run_for(Span::from_secs(1800));
        assert_eq!(world.evicted.len(), settled, "{preemption:?}: evictions go on");
        assert_eq!(running(&world, "p/zero") + running(&world, "p/huge"), 6, "{preemption:?}");
    }
}

/// One place with a core and a GPU. One pool is owed the core, the other the GPU, and each lacks what the other is owed: without an order
/// between the two they would take it from one another for ever.
#[test]
fn pools_that_each_lack_what_the_other_is_owed_do_not_evict_each_other() {
    let owed = |guarantee| PoolSpec { guarantee, grace: Span::from_secs(1), ..PoolSpec::default() };
    let pools = [("cpus", owed(cpu(1000))), ("gpus", owed(gpu(1000)))];
    let both = Resources { cpu: 1000, gpu: 1000, ..Resources::ZERO };
    for (first, second, evictions) in [("cpus", "gpus", 1), ("gpus", "cpus", 0)] {
        let mut world = World::new(&tree(&pools), calm());
        world.add_worker("w", &both, &[]);
        for pool in [first, second] {
            world.submit(job(pool), vec![run(1, &both, ENDLESS)]).unwrap();
            world.run_for(Span::from_secs(600));
        }
        assert_eq!((running(&world, "gpus"), running(&world, "cpus")), (1, 0), "the GPU is what there is least of");
        assert_eq!(world.evicted.len(), evictions, "{first} first: {:?}", world.evicted);
    }
}

/// Within its guarantee of GPUs, but beyond that of cores: it gives cores back, though that costs it a GPU.
#[test]
fn who_borrows_of_what_it_is_guaranteed_gives_it_back() {
    let owed = |guarantee| PoolSpec { guarantee, grace: Span::from_secs(1), ..PoolSpec::default() };
    let studio = Resources { cpu: 2000, gpu: 2000, ..Resources::ZERO };
    let pools = [("marketing", owed(cpu(4000))), ("studio", owed(studio))];
    let mut world = World::new(&tree(&pools), calm());
    world.add_worker("w", &Resources { cpu: 6000, gpu: 2000, ..Resources::ZERO }, &[]);
    world.submit(job("studio"), vec![run(2, &Resources { cpu: 3000, gpu: 1000, ..Resources::ZERO }, ENDLESS)]).unwrap();
    world.submit(job("marketing"), vec![run(4, &cpu(1000), ENDLESS)]).unwrap();
    world.run_for(Span::from_secs(600));
    assert_eq!((running(&world, "marketing"), running(&world, "studio")), (3, 1));
    assert_eq!(world.evicted.len(), 1, "{:?}", world.evicted);
}
