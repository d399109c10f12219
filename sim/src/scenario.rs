//! A scenario as its file says it. Times are in seconds since the start unless the name ends otherwise; amounts as in [`Resources`].

mod builtin;
mod grow;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spool_proto::pool::{PoolName, PoolSpec, PoolTree};
use spool_proto::resources::Resources;

pub use builtin::{builtin, names};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One line: what is shown.
    pub title: String,
    pub seed: u64,
    pub duration_s: f64,
    #[serde(default)]
    pub engine: EngineKnobs,
    #[serde(default)]
    pub worker: WorkerModel,
    pub fleet: Vec<FleetClass>,
    /// The tree as administrators write it. The root and `default` are added where absent. Spans in microseconds.
    #[serde(default)]
    pub pools: BTreeMap<PoolName, PoolSpec>,
    /// Many pools of one kind, besides those.
    pub pool_grid: Option<PoolGrid>,
    pub tenants: Vec<Tenant>,
    #[serde(default)]
    pub faults: Faults,
    #[serde(default)]
    pub edits: Vec<Edit>,
    /// What must come out: `POOL.METRIC_max`, `METRIC_min`, …; see [`crate::expect`].
    #[serde(default)]
    pub expect: BTreeMap<String, f64>,
    /// How tests play it.
    pub quick: Option<Quick>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineKnobs {
    pub lease_s: f64,
    /// Between an order and the worker's reading it; a report takes none.
    pub round_trip_ms: f64,
    pub reserve_after_s: f64,
    pub age_step_s: f64,
}

impl Default for EngineKnobs {
    fn default() -> Self {
        EngineKnobs { lease_s: 15.0, round_trip_ms: 1.0, reserve_after_s: 30.0, age_step_s: 600.0 }
    }
}

/// What every worker costs and does.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerModel {
    /// To start an executor and make it ready.
    pub cold_ms: f64,
    /// To hand a call to one that stands ready.
    pub warm_ms: f64,
    /// From the order to stop until the room is free.
    pub kill_ms: f64,
    /// An idle executor nobody asked to keep warm stays this long.
    pub idle_s: f64,
    /// Between reports of progress; 0: none.
    pub progress_s: f64,
    pub self_test_ms: f64,
}

impl Default for WorkerModel {
    fn default() -> Self {
        WorkerModel {
            cold_ms: 400.0,
            warm_ms: 2.0,
            kill_ms: 300.0,
            idle_s: 10.0,
            progress_s: 0.0,
            self_test_ms: 3000.0,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetClass {
    pub name: String,
    pub count: u32,
    pub capacity: Resources,
    #[serde(default)]
    pub backends: Vec<String>,
    /// Run times are divided by it.
    #[serde(default = "one")]
    pub speed: f64,
    /// Its workers are dealt out over these, in turn.
    #[serde(default)]
    pub racks: Vec<String>,
    #[serde(default)]
    pub arrive_s: f64,
    /// They drain from then on, and go.
    pub leave_s: Option<f64>,
}

fn one() -> f64 {
    1.0
}

/// `groups` × `teams` pools, two levels deep: `g3/t7`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolGrid {
    pub groups: u32,
    pub teams: u32,
    pub team: PoolSpec,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    pub name: String,
    /// `*`: any of the grid's, by Zipf.
    pub pool: PoolName,
    /// Of jobs, on average over the day. 0: only bursts.
    #[serde(default)]
    pub rate_per_hour: f64,
    pub day: Option<Day>,
    #[serde(default)]
    pub bursts: Vec<Burst>,
    /// No arrivals outside.
    #[serde(default)]
    pub from_s: f64,
    pub until_s: Option<f64>,
    pub tasks: JobSize,
    pub shapes: Shapes,
    pub run: RunTime,
    #[serde(default = "default_priority")]
    pub priority: u8,
    /// After submission.
    pub deadline_s: Option<f64>,
    /// Opportunistic until then, after submission.
    pub start_by_s: Option<f64>,
    #[serde(default = "yes")]
    pub preemptible: bool,
    #[serde(default)]
    pub hops: Vec<HopTo>,
}

fn default_priority() -> u8 {
    spool_proto::spec::PRIORITY_DEFAULT
}

fn yes() -> bool {
    true
}

/// The rate is multiplied by `1 + swing × cos(2π (t − peak) / period)`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Day {
    #[serde(default = "a_day")]
    pub period_s: f64,
    pub peak_s: f64,
    /// 0 to 1.
    pub swing: f64,
}

fn a_day() -> f64 {
    86_400.0
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    pub at_s: f64,
    pub jobs: u32,
    /// They come one by one within this.
    #[serde(default)]
    pub over_s: f64,
    /// Tasks of each, instead of the tenant's distribution.
    pub tasks: Option<u32>,
}

/// Bounded Pareto.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSize {
    pub min: u32,
    pub max: u32,
    pub alpha: f64,
}

/// `count` shapes; the k-th takes the k-th of each list, round and round. They differ at least by a little memory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shapes {
    pub count: u32,
    #[serde(default = "one")]
    pub zipf: f64,
    pub resources: Vec<Resources>,
    #[serde(default = "default_function")]
    pub function: String,
    #[serde(default)]
    pub backends: Vec<String>,
}

fn default_function() -> String {
    "media.encode".into()
}

/// Lognormal, on a worker of speed 1.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunTime {
    pub median_ms: f64,
    pub sigma: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HopTo {
    pub after_s: f64,
    pub pool: PoolName,
    pub priority: Option<u8>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    pub stragglers: Option<Stragglers>,
    pub rack_loss: Vec<RackLoss>,
    pub poison: Vec<Poison>,
    pub black_hole: Vec<BlackHole>,
}

/// This share of all attempts takes `factor` times as long.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stragglers {
    pub share: f64,
    pub factor: f64,
}

/// All workers of a rack go silent at once and come back, empty, after a while.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RackLoss {
    pub rack: String,
    pub at_s: f64,
    pub for_s: f64,
}

/// The first task of the tenant's `job`-th job (from 0) fails wherever it runs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poison {
    pub tenant: String,
    pub job: u32,
    pub fails_after_ms: f64,
}

/// The first `workers` of a class fail every call at once, and every self-test, for a while.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlackHole {
    pub class: String,
    #[serde(default = "one_worker")]
    pub workers: u32,
    pub at_s: f64,
    pub for_s: f64,
    pub fails_after_ms: f64,
}

fn one_worker() -> u32 {
    1
}

/// The tree changes: these pools are replaced or added, the others stay.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    pub at_s: f64,
    pub pools: BTreeMap<PoolName, PoolSpec>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quick {
    #[serde(default = "one")]
    pub workers_scale: f64,
    pub duration_s: Option<f64>,
}

/// Why a scenario cannot be played.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadScenario {
    #[error("not a scenario: {0}")]
    Syntax(String),
    #[error("{field}: {rule}")]
    Rule { field: String, rule: String },
    #[error(transparent)]
    Tree(#[from] spool_proto::pool::BadTree),
}

impl Scenario {
    /// From TOML.
    ///
    /// # Errors
    /// Where the text is not a scenario, or which field breaks which rule.
    pub fn parse(text: &str) -> Result<Scenario, BadScenario> {
        let mut scenario: Scenario = toml::from_str(text).map_err(|e| BadScenario::Syntax(e.to_string()))?;
        scenario.plant();
        scenario.check()?;
        Ok(scenario)
    }

    /// The tree at the start.
    pub fn tree(&self) -> PoolTree {
        PoolTree { pools: self.pools.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        title = "small"
        seed = 1
        duration_s = 60
        fleet = [{ name = "cpu", count = 2, capacity = { cpu = 4000, memory = 8192 } }]
        tenants = [{ name = "a", pool = "a", rate_per_hour = 60, tasks = { min = 1, max = 9, alpha = 1.1 },
          shapes = { count = 2, resources = [{ cpu = 1000, memory = 512 }] }, run = { median_ms = 100, sigma = 0.5 } }]
        [pools.a]
        guarantee = { cpu = 3000 }
    "#;

    #[test]
    fn a_small_scenario_is_read_and_completed() {
        let scenario = Scenario::parse(SMALL).unwrap();
        assert!(scenario.pools.contains_key(&PoolName::root()) && scenario.pools.contains_key(&PoolName::default()));
        assert_eq!(scenario.fleet[0].speed, 1.0);
        assert_eq!(scenario.tenants[0].priority, spool_proto::spec::PRIORITY_DEFAULT);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (from, to, told) in [
            ("pool = \"a\"", "pool = \"b\"", "tenants.a.pool"),
            ("count = 2, cap", "count = 0, cap", "fleet"),
            ("max = 9", "max = 0", "tenants.a.tasks"),
            ("duration_s = 60", "duration_s = 0", "duration_s"),
            ("median_ms", "mode_ms", "mode_ms"),
            ("cpu = 1000", "cpu = 9000", "tenants.a.shapes"),
            ("[pools.a]", "[pools.a.b]", "pool"),
        ] {
            let text = SMALL.replace(from, to);
            assert_ne!(text, SMALL);
            let told_us = Scenario::parse(&text).unwrap_err().to_string();
            assert!(told_us.contains(told), "{to}: {told_us}");
        }
    }
}
