//! `spool bench batch`: short calls through executors, once handed over in batches and once each alone. Both have a server and
//! a worker process of their own and take turns, so that whatever else the machine does meets both.

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use spool_proto::spec::BenchSpec;
use spool_proto::time::Span;

use super::dispatch::Fleet;
use super::{median, percentile};
use crate::output;

/// What a call pretends to work.
const CALL_TIMES: [Span; 2] = [Span::ZERO, Span(1_000)];

#[derive(Debug, Args)]
pub struct BatchArgs {
    /// Tasks of each measured job
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tasks: u32,
    /// How often each side has its turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Cores each worker offers [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
    /// Figures as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Figures {
    call_us: u64,
    tasks: u32,
    on: Side,
    off: Side,
    /// Tasks a second with batches over those without.
    ratio: f64,
}

#[derive(Debug, Serialize)]
struct Side {
    /// Of each round.
    tasks_per_second: Vec<f64>,
    median_tasks_per_second: f64,
    /// From the submit of the whole job, over the tasks of all rounds.
    submit_to_start_p50_us: u64,
    submit_to_start_p99_us: u64,
}

#[derive(Default)]
struct Measured {
    tasks_per_second: Vec<f64>,
    starts: Vec<u64>,
}

pub async fn run(args: &BatchArgs) -> anyhow::Result<()> {
    let directory = tempfile::Builder::new().prefix("spool-bench-").tempdir()?;
    let on = Fleet::start(&directory.path().join("on"), args.slots, &[]).await?;
    let off = Fleet::start(&directory.path().join("off"), args.slots, &["--batch-target", "0"]).await?;
    let mut figures = Vec::new();
    for call_time in CALL_TIMES {
        let bench = BenchSpec { tasks: args.tasks, call_time, through_executor: true };
        let (mut with, mut without) = (Measured::default(), Measured::default());
        // The first tells both how long such calls take.
        for fleet in [&on, &off] {
            fleet.job_of(BenchSpec { tasks: args.tasks.min(100), ..bench.clone() }).await?;
        }
        for round in 1..=args.rounds {
            let mut sides = [("on", &on, &mut with), ("off", &off, &mut without)];
            if round % 2 == 0 {
                sides.reverse();
            }
            for (name, fleet, measured) in sides {
                measured.add(fleet, &bench).await?;
                let rate = measured.tasks_per_second.last().copied().unwrap_or(0.0);
                eprintln!("round {round}/{}, calls of {} µs, batches {name}: {rate:.0}/s", args.rounds, call_time.0);
            }
        }
        let (on, off) = (with.side(), without.side());
        let ratio = on.median_tasks_per_second / off.median_tasks_per_second;
        figures.push(Figures { call_us: call_time.0, tasks: args.tasks, on, off, ratio });
    }
    on.stop().await?;
    off.stop().await?;
    if args.json {
        return output::print_json(&figures);
    }
    let row = |f: &Figures, name: &str, side: &Side| {
        vec![
            format!("{} µs", f.call_us),
            name.to_owned(),
            f.tasks.to_string(),
            format!("{:.0}", side.median_tasks_per_second),
            format!("{:.1} ms", milliseconds(side.submit_to_start_p50_us)),
            format!("{:.1} ms", milliseconds(side.submit_to_start_p99_us)),
            if name == "on" { format!("{:.2}", f.ratio) } else { "1".into() },
        ]
    };
    let rows: Vec<Vec<String>> = figures.iter().flat_map(|f| [row(f, "off", &f.off), row(f, "on", &f.on)]).collect();
    let head = ["CALL", "BATCHES", "TASKS", "TASKS/S", "START P50", "START P99", "RATIO"];
    output::print(&output::table(&head, &rows, true))
}

fn milliseconds(us: u64) -> f64 {
    Span(us).as_secs_f64() * 1000.0
}

impl Measured {
    async fn add(&mut self, fleet: &Fleet, bench: &BenchSpec) -> anyhow::Result<()> {
        let job = fleet.job_of(bench.clone()).await?;
        let finished = job.finished.context("a job that is done has ended")?;
        self.tasks_per_second.push(f64::from(bench.tasks) / finished.since(job.submitted).as_secs_f64());
        let job = fleet.client().get(&job.job.to_string(), false).await?;
        for task in &job.tasks {
            self.starts.push(task.started.context("a task that is done has started")?.since(job.submitted).0);
        }
        Ok(())
    }

    fn side(mut self) -> Side {
        self.starts.sort_unstable();
        Side {
            median_tasks_per_second: median(self.tasks_per_second.clone()),
            tasks_per_second: self.tasks_per_second,
            submit_to_start_p50_us: percentile(&self.starts, 50),
            submit_to_start_p99_us: percentile(&self.starts, 99),
        }
    }
}
