//! What `explain` names is what is in the way: invariant 11. Whoever takes away what it names gets another answer, or the task starts.

use proptest::prelude::*;
use spool_proto::ids::JobId;
use spool_proto::pool::{Hold, Limits, PoolName, PoolTree};
use spool_proto::resources::Resources;
use spool_proto::time::Span;

use crate::generate::*;
use crate::harness::{Stand, World, calm};

/// As the world stands now, once more: nobody is told what is tried.
fn copy(world: &World) -> World {
    let mut copy = World::new(&PoolTree::default(), calm());
    copy.engine = world.engine.clone();
    (copy.now, copy.tree, copy.holds) = (world.now, world.tree.clone(), world.holds.clone());
    (copy.quota, copy.jobs, copy.tasks) = (world.quota.clone(), world.jobs.clone(), world.tasks.clone());
    (copy.workers, copy.evicted, copy.last_fence) = (world.workers.clone(), world.evicted.clone(), world.last_fence);
    copy
}

fn path(pool: &PoolName) -> Vec<PoolName> {
    std::iter::successors(Some(pool.clone()), PoolName::parent).collect()
}

/// Takes away what the reason names. False: only time does.
fn relax(world: &mut World, job: JobId, reason: &str) -> bool {
    let pool = world.jobs[&job].pool.clone();
    let waiting = world.tasks.iter().filter(|(id, task)| id.job == job && task.stand == Stand::Waiting);
    let mut room = Resources::ZERO;
    let mut backends: Vec<String> = BACKENDS.map(str::to_owned).into();
    for (_, task) in waiting {
        room.add(&task.shape.resources);
        backends.push(task.shape.backend.clone());
    }
    match reason {
        "held" => path(&pool).iter().for_each(|name| {
            world.hold(name, Hold::Open);
        }),
        "over_limit" | "waiting_for_quota" => {
            let mut tree = world.tree.clone();
            for name in path(&pool) {
                let spec = tree.pools.get_mut(&name).unwrap();
                spec.borrow = Limits::new();
                // The root's guarantee is a ceiling; anybody else's is what must not be preempted may use.
                let lift = Resources { cpu: 900_000, gpu: 900_000, memory: 900_000, ..Resources::ZERO };
                spec.guarantee = if name.is_root() { Resources::ZERO } else { lift };
            }
            mend(&mut tree);
            world.apply(tree);
        }
        "no_such_backend" | "never_fits" | "no_workers" | "waiting_for_worker" | "opportunistic" | "reserved"
        | "preempting" => {
            // Room enough for everybody: the fleet three times over would not do if others go first.
            let mut all = Resources::ZERO;
            world.tasks.values().for_each(|task| all.add(&task.shape.resources));
            all.add(&room);
            world.add_worker("zz", &all, &backends);
        }
        "backoff" => world.run_for(Span::from_secs(60)),
        _ => return false,
    }
    true
}

#[cfg(feature = "open-claims")]
proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn invariant_11_without_what_it_names_there_is_another_reason_or_another_outcome(
        tree in tree(any_preemption),
        fleet in prop::collection::vec(machine(), 0..4),
        acts in prop::collection::vec(act(any_preemption), 1..40),
    ) {
        let mut world = World::new(&tree, calm());
        fleet.iter().for_each(|machine| join(&mut world, machine));
        acts.iter().for_each(|act| perform(&mut world, act));
        let open: Vec<JobId> = world.jobs.iter().filter(|(_, job)| !job.ending).map(|(id, _)| *id).collect();
        for job in open {
            let told = world.engine.explain(world.now, job).unwrap();
            let leases = leases(&world, job);
            let mut after = copy(&world);
            if !relax(&mut after, job, &told.reason) {
                prop_assert!(["running", "cancelling"].contains(&told.reason.as_str()), "{told:?}");
                continue;
            }
            let now = after.engine.explain(after.now, job).unwrap();
            let changed = now.reason != told.reason || self::leases(&after, job) != leases;
            prop_assert!(changed, "{}: still {:?}, was {:?}", world.jobs[&job].pool, now, told);
        }
    }
}

fn leases(world: &World, job: JobId) -> usize {
    world
        .tasks
        .iter()
        .filter(|(id, task)| id.job == job && matches!(task.stand, Stand::Leased(..) | Stand::Over))
        .count()
}

/// Every reason there is for waiting is told of a pool at least once.
#[test]
fn a_task_that_waits_says_which_constraint_it_waits_for() {
    use crate::harness::{cpu, job, run};
    let mut tree = PoolTree::default();
    let limited = spool_proto::pool::PoolSpec { borrow: [("cpu".to_owned(), 2000)].into(), ..Default::default() };
    tree.pools.insert("limited".into(), limited);
    let mut world = World::new(&tree, calm());
    let reason = |world: &World, job: JobId| world.engine.explain(world.now, job).unwrap().reason;
    let unserved = world.submit(job("limited"), vec![run(1, &cpu(1000), 1000)]).unwrap();
    assert_eq!(reason(&world, unserved), "no_workers");
    world.add_worker("w", &cpu(8000), &[]);
    assert_eq!(reason(&world, unserved), "running");
    let big = world.submit(job("limited"), vec![run(1, &cpu(3000), 1000)]).unwrap();
    assert_eq!(reason(&world, big), "over_limit");
    let second = world.submit(job("limited"), vec![run(2, &cpu(1000), 1000)]).unwrap();
    let third = world.submit(job("limited"), vec![run(1, &cpu(1000), 1000)]).unwrap();
    assert_eq!((reason(&world, second).as_str(), reason(&world, third).as_str()), ("running", "waiting_for_quota"));
    world.hold(&"limited".into(), Hold::Held);
    assert_eq!(reason(&world, third), "held");
    world.hold(&"limited".into(), Hold::Open);
    let many = world.submit(job("default"), vec![run(20, &cpu(1000), 1000)]).unwrap();
    let last = world.submit(job("default"), vec![run(1, &cpu(1000), 1000)]).unwrap();
    assert_eq!((reason(&world, many).as_str(), reason(&world, last).as_str()), ("running", "waiting_for_worker"));
}
