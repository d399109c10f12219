//! `spool bench sim`: a scenario (fleet, pools, tenants, faults) played on the real engine in virtual time, with no server and no
//! workers. `sim/README.md` says what is modelled.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use spool_sim::{Options, Scenario, scenario, svg};

use crate::exit::{Exit, Stop};
use crate::output;

#[derive(Debug, Args)]
pub struct SimArgs {
    /// One that ships (see --list), or a file in TOML
    #[arg(required_unless_present = "list")]
    scenario: Option<String>,
    /// Names and titles of the scenarios that ship
    #[arg(long)]
    list: bool,
    /// Other chance: arrivals, sizes, run times, stragglers
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Simulated time, instead of the scenario's
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// Workers, quotas and arrivals, all times this
    #[arg(long, value_name = "FACTOR")]
    workers_scale: Option<f64>,
    /// The report as JSON
    #[arg(long)]
    json: bool,
    /// Also draw usage, guarantees and queues over time
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// End with 1 if what the scenario expects is not met, or the engine broke a law
    #[arg(long)]
    check: bool,
}

pub async fn run(args: SimArgs) -> anyhow::Result<Exit> {
    // Minutes of computing, and nothing else to do meanwhile.
    tokio::task::spawn_blocking(move || play(&args)).await?
}

fn play(args: &SimArgs) -> anyhow::Result<Exit> {
    let Some(name) = args.scenario.as_ref().filter(|_| !args.list) else {
        return list();
    };
    let options = Options {
        seed: args.seed,
        duration_s: args.duration,
        workers_scale: args.workers_scale,
        check_invariants: false,
    };
    let refused = |error: scenario::BadScenario| Stop::usage(format!("{name}: {error}"));
    let report = spool_sim::run(&load(name)?, &options).map_err(refused)?;
    if let Some(path) = &args.svg {
        std::fs::write(path, svg::draw(&report)).with_context(|| format!("could not write {}", path.display()))?;
    }
    if args.json {
        output::print_json(&report)?;
    } else {
        output::print(&report.table())?;
    }
    Ok(if args.check && !report.is_good() { Exit::JobFailed } else { Exit::Done })
}

fn load(name: &str) -> anyhow::Result<Scenario> {
    if let Some(scenario) = scenario::builtin(name) {
        return Ok(scenario);
    }
    let text = std::fs::read_to_string(name).map_err(|error| {
        let known: Vec<&str> = scenario::names().collect();
        Stop::usage(format!("{name} is no scenario that ships ({}), and no file: {error}", known.join(", ")))
    })?;
    Scenario::parse(&text).map_err(|error| Stop::usage(format!("{name}: {error}")))
}

fn list() -> anyhow::Result<Exit> {
    let row = |name: &str| vec![name.to_owned(), scenario::builtin(name).map(|s| s.title).unwrap_or_default()];
    let rows: Vec<Vec<String>> = scenario::names().map(row).collect();
    output::print(&output::table(&["SCENARIO", "TITLE"], &rows, true))?;
    Ok(Exit::Done)
}
