//! Nobody waits for ever, and nobody is passed by his equals: invariants 2, 8 and 9.

use proptest::prelude::*;
use proptest::sample::Index;
use spool_core::Config;
use spool_core::io::{Effect, Input, NewJob, Record, Report, ToWorker};
use spool_core::revoke;
use spool_proto::pool::Preemption;
use spool_proto::time::Span;

use crate::generate::*;
use crate::harness::{ENDLESS, Stand, World, calm, cpu, job, run};

proptest! {
    #![proptest_config(cases(40))]

    /// Small tasks that never end to come, in any pool, at any priority; one task that needs a whole worker.
    #[test]
    fn invariant_08_a_big_task_is_not_overtaken_for_ever(
        workers in 1..4_usize,
        cores in 2..6_u64,
        streams in prop::collection::vec((0..3_usize, 1..5_u64, 40..61_u8), 1..4),
        own in 0..3_usize,
        priority in 40..61_u8,
    ) {
        let mut tree = spool_proto::pool::PoolTree::default();
        let pools = ["a", "b", "c"];
        for pool in pools {
            let spec = spool_proto::pool::PoolSpec { preemption: Preemption::Never, ..Default::default() };
            tree.pools.insert(pool.into(), spec);
        }
        let reserve_after = Span::from_secs(10);
        let mut world = World::new(&tree, Config { reserve_after, age_step: Span::from_secs(5), ..calm() });
        for number in 0..workers {
            world.add_worker(&format!("w{number}"), &cpu(cores * 1000), &[]);
        }
        // Enough to keep the fleet busy for an hour, at steps that do not meet.
        let stream = |(pool, seconds, priority): (usize, u64, u8), world: &mut World| {
            let each = (0..200_u64).map(|step| run(1, &cpu(1000), seconds * 1000 + step * 7 % 900)).collect();
            world.submit(NewJob { priority, ..job(pools[pool]) }, each);
        };
        streams.iter().for_each(|one| stream(*one, &mut world));
        world.run_for(Span::from_secs(3));
        let big = world.submit(NewJob { priority, ..job(pools[own]) }, vec![run(1, &cpu(cores * 1000), 1000)]).unwrap();
        let mut waited = 0;
        while world.ran.keys().all(|task| task.job != big) {
            waited += 1;
            // New small jobs keep coming, so that the stream's priority never ages for long.
            if world.waiting() < 200 {
                streams.iter().for_each(|one| stream(*one, &mut world));
            }
            world.run_for(Span::from_secs(1));
            // It ages past them all in 20 steps of 5 s, is drained for 10 s later, and what runs then ends in 6 s.
            prop_assert!(waited < 150, "after {waited} s: {:?}", world.engine.explain(world.now, big));
        }
    }

    /// Every lease is looked at as it is made: none while a better task of the same line waits. Priorities change, jobs move.
    #[test]
    fn invariant_09_priority_is_never_inverted_within_a_pool_and_shape(
        jobs in prop::collection::vec((0..=100_u8, 1..4_u32, 1..6_u64), 2..10),
        changes in prop::collection::vec((any::<Index>(), 0..=100_u8, any::<bool>()), 0..20),
    ) {
        let mut tree = spool_proto::pool::PoolTree::default();
        tree.pools.insert("other".into(), spool_proto::pool::PoolSpec::default());
        let mut world = World::new(&tree, calm());
        world.strict = true;
        world.add_worker("w", &cpu(2000), &[]);
        for (priority, count, seconds) in jobs {
            world.submit(NewJob { priority, ..job("default") }, vec![run(count, &cpu(1000), seconds * 1000)]);
        }
        for (at, priority, move_it) in changes {
            let open: Vec<_> = world.jobs.iter().filter(|(_, job)| !job.ending).map(|(id, _)| *id).collect();
            if open.is_empty() {
                break;
            }
            let (job, token) = (*at.get(&open), spool_core::io::Token(1));
            world.ask(Input::SetPriority { token, job, priority });
            if move_it {
                let pool = if *world.jobs[&job].pool.0 == *"other" { "default" } else { "other" };
                world.ask(Input::MoveJob { token, job, pool: pool.into() });
            }
            world.run_for(Span::from_secs(1));
        }
        world.run_for(Span::from_secs(600));
        prop_assert!(world.tasks.values().all(|task| task.stand == Stand::Over));
    }

    /// Every word under a fence that is over changes nothing, whoever says it.
    #[test]
    fn invariant_02_one_live_lease_and_a_stale_fence_changes_nothing(
        tree in tree(any_preemption),
        fleet in fleet(),
        acts in prop::collection::vec(act(any_preemption), 1..30),
    ) {
        let mut world = World::new(&tree, calm());
        fleet.iter().for_each(|machine| join(&mut world, machine));
        acts.iter().for_each(|act| perform(&mut world, act));
        let leases: Vec<_> = world.log.iter().flat_map(|(_, _, effects)| effects).filter_map(|effect| match effect {
            Effect::Record(Record::Leased { task, fence, worker, .. }) => Some((*task, *fence, worker.clone())),
            _ => None,
        }).collect();
        for (task, fence, worker) in leases {
            if world.tasks[&task].stand == Stand::Leased(worker.clone(), fence) {
                continue;
            }
            let incarnation = world.workers[&worker].incarnation;
            let before = world.engine.snapshot();
            let report = Report::Returned { reason: "late".into() };
            let turns = world.log.len();
            world.input(Input::Report { worker: worker.clone(), incarnation, task, fence, report });
            prop_assert_eq!(world.engine.snapshot(), before);
            for (_, _, effects) in &world.log[turns..] {
                let told = |effect: &Effect| matches!(effect,
                    Effect::Send { message: ToWorker::Revoke { reason: revoke::STALE, .. }, .. });
                prop_assert!(effects.iter().all(told), "{effects:?}");
            }
        }
    }
}

/// The oldest of equals is served first even where the youngest arrives every second.
#[test]
fn a_waiting_job_ages_past_a_stream_of_better_ones() {
    let config = Config { age_step: Span::from_secs(10), ..calm() };
    let mut world = World::new(&spool_proto::pool::PoolTree::default(), config);
    world.add_worker("w", &cpu(1000), &[]);
    world.submit(job("default"), vec![run(1, &cpu(1000), 1000)]).unwrap();
    let low = world.submit(NewJob { priority: 45, ..job("default") }, vec![run(1, &cpu(1000), ENDLESS)]).unwrap();
    for _ in 0..100 {
        world.submit(job("default"), vec![run(1, &cpu(1000), 1000)]).unwrap();
        world.run_for(Span::from_secs(1));
    }
    assert!(world.ran.keys().any(|task| task.job == low), "{:?}", world.engine.explain(world.now, low));
}
