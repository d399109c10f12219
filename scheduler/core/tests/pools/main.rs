//! Pools against a slow oracle that knows only `src/pools/README.md`: the twelve invariants of the design, as properties of random trees,
//! fleets and workloads, and a few fixtures made by hand.
//!
//! `SPOOL_PROP_CASES=5000 cargo test -p spool-core --test pools` looks at more cases. `PROPTEST_RNG_SEED=n` looks at
//! others. What does not hold in every case yet runs with `--features open-claims` only.

#![allow(clippy::unwrap_used, reason = "a test")]
#![cfg_attr(
    not(feature = "open-claims"),
    allow(unused_imports, dead_code, reason = "some tests wait behind the feature")
)]

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
