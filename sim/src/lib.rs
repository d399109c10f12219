//! The real engine in virtual time: fleets, tenants and faults from a scenario file, and what became of them.
//!
//! Reading order: [`scenario`] is the file; `load` makes jobs of it by seeded `chance`; `worker` is a simulated worker; `world` is
//! time and everything that happens in it; `ledger` keeps the books from the engine's own records; [`report`] is what comes out,
//! [`svg`] its chart, [`expect`] what a scenario demands of it. No clock but the one that measures the engine, no IO.

mod chance;
pub mod expect;
mod kinds;
mod ledger;
mod load;
mod num;
pub mod report;
pub mod scenario;
pub mod svg;
mod worker;
mod world;

pub use report::Report;
pub use scenario::{BadScenario, Scenario};

/// What may be asked of a run beyond its scenario.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Instead of the scenario's own.
    pub seed: Option<u64>,
    pub duration_s: Option<f64>,
    /// Fleet, quotas and arrivals, all by this factor: the same scenario, larger or smaller.
    pub workers_scale: Option<f64>,
    /// Has the engine check its own books at every sample. Slow.
    pub check_invariants: bool,
}

/// Plays a scenario from its start to its end.
///
/// # Errors
/// What cannot be played: the scenario as scaled makes no sense, or its pool tree breaks a rule.
pub fn run(scenario: &Scenario, options: &Options) -> Result<Report, BadScenario> {
    let scenario = scenario.with(options)?;
    Ok(world::World::new(&scenario, options).run())
}
