//! The simulator: the real engine in virtual time, with simulated workers, a network that fails, and servers that crash.
//!
//! `SPOOL_SIM_SEEDS=20000 cargo test --test sim` runs more seeds; `SPOOL_SIM_SEED=123 cargo test --test sim replay -- --nocapture`
//! replays one and prints everything that happens.

#![allow(clippy::unwrap_used, reason = "a test")]

mod audit;
mod quota;
mod rng;
mod server;
mod worker;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use world::World;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Runs every eighth of the seeds, and checks that together they saw all that can happen.
fn run_eighth(part: u64) {
    let seeds = number("SPOOL_SIM_SEEDS").unwrap_or(4_000);
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in (part..seeds.max(part + 1)).step_by(8) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(seed, None);
            world.run();
            for (kind, count) in world.counts() {
                *counts.entry(kind).or_default() += count;
            }
        }));
        if let Err(panic) = result {
            eprintln!("seed {seed} failed; replay it with");
            eprintln!("    SPOOL_SIM_SEED={seed} cargo test --test sim replay -- --nocapture");
            resume_unwind(panic);
        }
    }
    println!("{counts:?}");
    if seeds >= 1_000 {
        let expected = [
            "submitted",
            "phase",
            "leased",
            "finished",
            "attempt failed",
            "task failed",
            "lease lost",
            "lease ended",
            "task cancelled",
            "cancel asked",
            "job done",
            "job failed",
            "job cancelled",
            "retried",
            "priority",
            "cordon",
            "forgotten",
            "copied",
            "attempt excused",
            "forgiven",
            "throttled",
            "quarantined",
            "healthy again",
            "poison",
            "retry budget",
            "pools",
            "hold",
            "moved",
            "hopped",
            "preempted",
            "step that starts",
            "step that cancels",
            "step",
            "log snapshot",
            "ended",
            "ended early",
            "signal",
            "reactive job retried",
        ];
        for kind in expected {
            assert!(counts.contains_key(kind), "no seed ever led to {kind:?}");
        }
    }
}

macro_rules! eighths {
    ($($name:ident = $part:literal),*) => {$(
        #[test]
        fn $name() {
            run_eighth($part);
        }
    )*};
}
eighths!(
    seeds_0_mod_8 = 0,
    seeds_1_mod_8 = 1,
    seeds_2_mod_8 = 2,
    seeds_3_mod_8 = 3,
    seeds_4_mod_8 = 4,
    seeds_5_mod_8 = 5,
    seeds_6_mod_8 = 6,
    seeds_7_mod_8 = 7
);

#[test]
fn the_same_seed_gives_the_same_effects() {
    for seed in 0..20 {
        let print = |seed| {
            let mut world = World::new(seed, None);
            world.run();
            (world.fingerprint, world.now)
        };
        assert_eq!(print(seed), print(seed), "seed {seed}");
    }
}

/// Seed 0, or the one that is asked for, told step by step.
#[test]
fn replay() {
    let seed = number("SPOOL_SIM_SEED").unwrap_or(0);
    let mut world = World::new(seed, Some(Box::new(|line| println!("{line}"))));
    world.run();
    println!("seed {seed}: {:?}", world.counts());
    assert!(world.server.audit.all_ended());
}
