//! `spool bench rules`: what rules cost a job. A job shaped as a film in 31 chunks, of calls that do nothing, is run by rules and, in
//! turns with it, as one phase of the same number of calls; server and worker are real processes, the journal is on disk.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use spool_dialect::Sources;
use spool_proto::spec::{BenchSpec, JobSpec, RulesSpec, Service};
use spool_proto::time::Span;
use spool_proto::view::{JobState, JobView};

use super::dispatch::Fleet;
use super::percentile;
use crate::output;

/// Probe, plan, chunks, join, two checks, publish: one after the other but the chunks and the checks.
const FILM: &str = r#"
service(name = "film", version = "1", input = {"chunks": integer()})

def noop(key):
    return call("bench.noop", key = key, args = {"sleep_us": 0, "through_executor": False})

def step(name, after, calls):
    rule(
        name = name,
        match = [fact("input", as_ = "job"), fact(after)],
        action = lambda job: [noop("%s %d" % (name, n)) for n in range(job.chunks if calls == 0 else calls)],
        reaction = lambda results: [assert_(name)],
    )

rule(name = "probe", match = [fact("input")], action = lambda: [noop("probe")], reaction = lambda results: [assert_("probe")])
step("plan", "probe", 1)
step("encode", "plan", 0)
step("assemble", "encode", 1)
step("validate", "assemble", 2)
step("publish", "validate", 1)
rule(name = "finish", match = [fact("publish")], action = lambda: [result("done")])
"#;
/// Calls beside the chunks.
const AROUND: u32 = 6;

#[derive(Debug, Args)]
pub struct RulesArgs {
    /// Jobs of each kind
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    jobs: u32,
    /// Chunks of a job
    #[arg(long, value_name = "N", default_value_t = 31, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    chunks: u32,
    /// Where the journal is written, on the disk to be measured [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Figures as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Figures {
    jobs: u32,
    calls: u32,
    rules: Side,
    /// All calls in one phase: what the same calls cost without any order among them.
    phase: Side,
    /// Of the medians.
    added_us: u64,
}

/// From being submitted to being done, by the server's clock.
#[derive(Debug, Serialize)]
struct Side {
    done_p50_us: u64,
    done_p99_us: u64,
}

impl Side {
    fn of(mut times: Vec<u64>) -> Side {
        times.sort_unstable();
        Side { done_p50_us: percentile(&times, 50), done_p99_us: percentile(&times, 99) }
    }
}

pub async fn run(args: &RulesArgs) -> anyhow::Result<()> {
    let directory = match &args.data {
        Some(parent) => tempfile::Builder::new().prefix("spool-bench-").tempdir_in(parent)?,
        None => tempfile::Builder::new().prefix("spool-bench-").tempdir()?,
    };
    let fleet = Fleet::start(directory.path(), None, &[]).await?;
    let files = Sources::of(FILM);
    fleet.client().push_service(&files, false).await?;
    let calls = args.chunks + AROUND;
    let (mut by_rules, mut as_phase) = (Vec::new(), Vec::new());
    // The first of each starts processes and fills caches.
    for number in 0..=args.jobs {
        let input = serde_json::json!({"chunks": args.chunks});
        let rules = Service::Rules(RulesSpec { name: "film".into(), version: String::new(), input });
        let phase = Service::Bench(BenchSpec { tasks: calls, call_time: Span::ZERO, through_executor: false });
        for (service, times) in [(rules, &mut by_rules), (phase, &mut as_phase)] {
            let job = done(&fleet, service).await?;
            let finished = job.finished.context("a job that is done has an end")?;
            if number > 0 {
                times.push(finished.since(job.submitted).0);
            }
        }
    }
    fleet.stop().await?;
    let (rules, phase) = (Side::of(by_rules), Side::of(as_phase));
    let added_us = rules.done_p50_us.saturating_sub(phase.done_p50_us);
    let figures = Figures { jobs: args.jobs, calls, rules, phase, added_us };
    if args.json {
        return output::print_json(&figures);
    }
    let row = |name: &str, side: &Side| {
        let times = [side.done_p50_us, side.done_p99_us].map(|us| format!("{us} µs"));
        [name.to_owned(), figures.jobs.to_string(), figures.calls.to_string()]
            .into_iter()
            .chain(times)
            .collect::<Vec<_>>()
    };
    let rows = vec![row("rules", &figures.rules), row("phase", &figures.phase)];
    output::print(&output::table(&["JOB", "N", "CALLS", "DONE P50", "DONE P99"], &rows, true))
}

async fn done(fleet: &Fleet, service: Service) -> anyhow::Result<JobView> {
    let (id, _) = fleet.client().submit("", &JobSpec::new("bench", service)).await?;
    let mut watch = fleet.client().watch(&id).await?;
    while let Some(job) = watch.next().await? {
        match job.state {
            JobState::Done => return Ok(job),
            JobState::Failed | JobState::Cancelled => bail!("{}", crate::progress::summary(&job)),
            _ => {}
        }
    }
    bail!("the server stopped telling of {id}")
}
