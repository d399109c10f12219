//! Pools against a slow oracle that knows only `src/pools/README.md`: the twelve invariants of the design, as properties of random trees,
//! fleets and workloads, and a few fixtures made by hand.
//!
//! `SPOOL_PROP_CASES=5000 cargo test -p spool-core --test pools` looks at more cases. `PROPTEST_RNG_SEED=n` looks at
//! others.

#![allow(clippy::unwrap_used, reason = "a test")]

mod explained;
mod fairness;
mod fixtures;
mod generate;
mod harness;
mod oracle;
mod quota;
mod reclaim;
mod repeat;
mod watch;
