//! The scheduling engine, pure: time and events in, facts and effects out. No IO, no clock, no randomness; the same inputs give the
//! same effects.
//!
//! Reading order: [`io`] is the contract with the shell; [`engine`] takes an input and shares the small verbs; `commands`, `steps`, `reports`,
//! `fleet` and `timers` decide what each input means; `state` folds the facts they decide (live and on replay); `job`, `task`,
//! `queue`, `workers` and `shapes` are what it holds; `place` matches waiting tasks and workers, `reclaim`, `forecast`, `victims` and `reserve`
//! get room back for who is owed it (`README.md` says how);
//! `failures`, `health` and `stragglers` are the failure policy; [`query`], `explain`, `trouble` and
//! `failure_details` are for readers; [`snapshot`] is the durable state as plain values; `invariants` says what always holds.

mod asks;
mod commands;
pub mod config;
mod contest;
pub mod engine;
mod explain;
mod failure_details;
mod failures;
mod fleet;
mod forecast;
mod health;
mod invariants;
pub mod io;
pub mod job;
mod place;
mod pool_commands;
mod pool_history;
mod pool_query;
mod pools;
pub mod query;
mod queue;
mod reclaim;
mod reports;
mod reserve;
mod retry;
pub mod revoke;
mod rooms;
mod roster;
mod shapes;
pub mod snapshot;
mod state;
mod steps;
mod stragglers;
mod tally;
pub mod task;
mod timers;
mod trouble;
mod victims;
mod waits;
mod warm;
mod workers;

#[cfg(test)]
mod testing;

pub use config::Config;
pub use engine::Engine;
pub use job::{Counts, Job, Phase};
pub use query::TaskInfo;
pub use state::Illegal;
