//! Who is admitted, in which order, and that nothing is left lying: invariants 1, 2, 3, 7 and 9. `watch.rs` asserts them after every
//! turn of the engine, whatever world it is; these worlds are made to bring them into danger.

use proptest::prelude::*;

use crate::generate::*;
use crate::harness::{Stand, World, calm};

/// Nobody preempts: order and work conservation hold to the letter.
fn strict(tree: &spool_proto::pool::PoolTree, fleet: &[Machine]) -> World {
    let mut world = World::new(tree, calm());
    world.strict = true;
    fleet.iter().for_each(|machine| join(&mut world, machine));
    world
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn invariant_01_conservation_and_07_work_conservation_through_edits_moves_holds_and_losses(
        tree in tree(never),
        fleet in fleet(),
        acts in prop::collection::vec(act(never), 1..60),
    ) {
        let mut world = strict(&tree, &fleet);
        acts.iter().for_each(|act| perform(&mut world, act));
        prop_assert!(world.evicted.is_empty());
    }
}

proptest! {
    #![proptest_config(cases(150))]

    /// What is due to run at once is admitted one by one as the oracle would.
    #[test]
    fn invariant_03_no_admission_breaks_a_limit_at_any_ancestor(
        tree in tree(never),
        fleet in fleet(),
        works in prop::collection::vec(work(), 1..12),
    ) {
        let mut world = World::new(&tree, calm());
        world.strict = true;
        // Everything waits before the first worker comes: the order is the whole tree's.
        works.iter().for_each(|work| submit(&mut world, work, false));
        fleet.iter().for_each(|machine| join(&mut world, machine));
        world.run_for(spool_proto::time::Span::from_secs(3600));
        let stuck = world.tasks.values().filter(|task| task.stand == Stand::Waiting).count();
        let held = world.heads(&world.room());
        prop_assert!(stuck == 0 || held.iter().all(|head| !head.could_start), "{stuck} wait: {held:?}");
    }
}
