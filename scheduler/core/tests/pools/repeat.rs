//! The same log gives the same decisions, and a dry run is the real run: invariant 10.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;
use spool_core::Engine;
use spool_core::io::{Effect, Input, PoolChange, Reply, Token};
use spool_proto::ids::TaskId;
use spool_proto::pool::PoolSpec;
use spool_proto::time::Span;

use crate::generate::*;
use crate::harness::{World, calm};

fn change() -> impl Strategy<Value = Vec<(Index, PoolSpec)>> {
    prop::collection::vec((any::<Index>(), spec(any_preemption())), 1..5)
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn invariant_10_the_same_log_gives_the_same_decisions(
        tree in tree(any_preemption),
        fleet in fleet(),
        acts in prop::collection::vec(act(any_preemption), 1..40),
    ) {
        let mut world = World::new(&tree, calm());
        fleet.iter().for_each(|machine| join(&mut world, machine));
        acts.iter().for_each(|act| perform(&mut world, act));
        let mut again = Engine::new(calm());
        for (at, input, effects) in &world.log {
            let mut out = Vec::new();
            again.handle(*at, input.clone(), &mut out);
            prop_assert_eq!(&out, effects, "{:?}", input);
        }
        // And a journal replayed gives the durable state.
        let mut replayed = Engine::new(calm());
        for (_, _, effects) in &world.log {
            for effect in effects {
                if let Effect::Record(record) = effect {
                    replayed.replay(record).unwrap();
                }
            }
        }
        prop_assert_eq!(replayed.snapshot(), world.engine.snapshot());
    }

    /// Who a dry run says would be stopped is who is stopped, if nobody says anything meanwhile.
    #[test]
    fn invariant_10_a_dry_run_stops_whom_the_real_run_stops(
        tree in tree(any_preemption),
        fleet in fleet(),
        works in prop::collection::vec(work(), 2..10),
        edits in change(),
    ) {
        let mut world = World::new(&tree, calm());
        fleet.iter().for_each(|machine| join(&mut world, machine));
        works.iter().for_each(|work| submit(&mut world, work, true));
        world.run_for(Span::from_secs(60));
        let mut tree = world.tree.clone();
        edits.iter().for_each(|(at, spec)| tree = edited(&tree, at, spec));
        let grace = tree.pools.values().map(|spec| spec.grace).max().unwrap();
        let change = PoolChange { tree, expected_version: None, by: "ann".into(), reason: "less".into() };

        let snapshot = world.engine.snapshot();
        let preview = world.engine.preview_pools(world.now, &change);
        prop_assert_eq!(world.engine.snapshot(), snapshot, "a dry run changes nothing");
        let mut effects = Vec::new();
        let (mut now, engine) = (world.now, &mut world.engine);
        engine.handle(now, Input::ApplyPools { token: Token(9), change }, &mut effects);
        let preview = match preview {
            Ok(preview) => preview,
            Err(refusal) => {
                let refused = Effect::Reply { token: Token(9), reply: Reply::Refused(refusal) };
                prop_assert!(effects.contains(&refused), "{effects:?}");
                return Ok(());
            }
        };
        let end = now + Span(grace.0 / 2) + Span::from_millis(500);
        engine.handle(now, Input::Tick, &mut effects);
        while let Some(at) = engine.next_wakeup().filter(|at| *at <= end) {
            now = at.max(now + Span(1));
            engine.handle(now, Input::Tick, &mut effects);
        }
        let stopped: BTreeSet<TaskId> = effects.iter().filter_map(|effect| match effect {
            Effect::Send { message: spool_core::io::ToWorker::Revoke { task, reason, .. }, .. }
                if *reason == spool_core::revoke::PREEMPTED => Some(*task),
            _ => None,
        }).collect();
        let said: BTreeSet<TaskId> = preview.preempted.iter().map(|task| task.task).collect();
        prop_assert_eq!(said, stopped);
    }
}
