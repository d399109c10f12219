//! `spool bench start`: how long a call waits for its executor, warm against cold, and how long its first encode takes there;
//! and how long a whole worker takes from its process's start until its server has it.

use std::time::Instant;

use clap::Args;
use serde::Serialize;
use spool_proto::spec::VideoCodec;
use spool_worker::bench::{self, Starts};
use spool_worker::executor::{ExecutorOptions, Sandbox};

use super::dispatch::Fleet;
use super::percentile;
use crate::{output, roles};

#[derive(Debug, Args)]
pub struct StartArgs {
    /// Video encoder to be warm for
    #[arg(long = "c:v", value_name = "ENCODER", default_value = "libx264")]
    codec: VideoCodec,
    /// Calls started warm, and as many cold
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    calls: u32,
    /// Workers started
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=100))]
    workers: u32,
    /// Figures as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Figures {
    codec: VideoCodec,
    calls: u32,
    warm: Side,
    cold: Side,
    /// Until a worker, with all its backends proved, is registered. Of each.
    worker_us: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct Side {
    /// From when the call could run until the executor has it.
    start_p50_us: u64,
    start_p99_us: u64,
    /// From when the call could run until its small encode is done.
    done_p50_us: u64,
    done_p99_us: u64,
}

impl From<Starts> for Side {
    fn from(mut starts: Starts) -> Side {
        starts.start_us.sort_unstable();
        starts.done_us.sort_unstable();
        Side {
            start_p50_us: percentile(&starts.start_us, 50),
            start_p99_us: percentile(&starts.start_us, 99),
            done_p50_us: percentile(&starts.done_us, 50),
            done_p99_us: percentile(&starts.done_us, 99),
        }
    }
}

pub async fn run(args: &StartArgs) -> anyhow::Result<()> {
    let directory = tempfile::Builder::new().prefix("spool-bench-").tempdir()?;
    let options = ExecutorOptions {
        program: roles::program()?,
        args: roles::exec_args(),
        directory: directory.path().to_owned(),
        sandbox: Sandbox::default(),
    };
    let key = format!("media.encode/{}", roles::backend(args.codec));
    let (warm, cold) = bench::starts(options, &key, args.calls).await?;
    let mut worker_us = Vec::new();
    for number in 0..args.workers {
        let directory = directory.path().join(number.to_string());
        let server = Fleet::server(&directory).await?;
        let begun = Instant::now();
        let fleet = server.attach(None, &[]).await?;
        worker_us.push(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
        fleet.stop().await?;
    }
    worker_us.sort_unstable();
    let figures = Figures { codec: args.codec, calls: args.calls, warm: warm.into(), cold: cold.into(), worker_us };
    if args.json {
        return output::print_json(&figures);
    }
    let row = |name: &str, side: &Side| {
        let times = [side.start_p50_us, side.start_p99_us, side.done_p50_us, side.done_p99_us];
        let mut row = vec![name.to_owned(), figures.calls.to_string()];
        row.extend(times.map(|us| format!("{us} µs")));
        row
    };
    let mut rows = vec![row("warm", &figures.warm), row("cold", &figures.cold)];
    if !figures.worker_us.is_empty() {
        let times = [50, 99].map(|percent| format!("{} µs", percentile(&figures.worker_us, percent)));
        let count = figures.worker_us.len().to_string();
        rows.push(["worker".to_owned(), count].into_iter().chain(times).chain(["-".into(), "-".into()]).collect());
    }
    let head = ["START", "N", "START P50", "START P99", "DONE P50", "DONE P99"];
    output::print(&output::table(&head, &rows, true))
}
