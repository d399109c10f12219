//! The `exec` layer of `spool bench dispatch`: calls that do nothing, through executors, with nothing around them.

use std::time::{Duration, Instant};

use serde::Serialize;
use spool_proto::call::Args;
use spool_proto::failure::Failure;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::executor::{Executor, ExecutorOptions, Job, Limits, Stops, Unanswered};

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ExecFigures {
    pub executors: usize,
    pub calls: u64,
    pub seconds: f64,
    pub calls_per_second: f64,
    /// From call to answer.
    pub latency_p50_us: u64,
    pub latency_p99_us: u64,
}

/// Runs `calls` no-op calls spread over `executors` processes, one at a time in each.
///
/// # Errors
/// Those of starting and calling executors.
pub async fn exec(options: &ExecutorOptions, executors: usize, calls: u64) -> Result<ExecFigures, Failure> {
    let executors = executors.max(1);
    let mut ready = Vec::with_capacity(executors);
    for _ in 0..executors {
        ready.push(Executor::spawn(options).await?);
    }
    let mut lanes = JoinSet::new();
    let start = Instant::now();
    for (lane, mut executor) in (0..).zip(ready) {
        let lanes_total = u64::try_from(executors).unwrap_or(1);
        let share = calls / lanes_total + u64::from(lane < calls % lanes_total);
        lanes.spawn(async move {
            let args = serde_json::to_vec(&Args::Noop { sleep_us: 0, through_executor: true }).unwrap_or_default();
            let (_never, stop) = watch::channel(Stops::NONE);
            let mut latencies = Vec::with_capacity(usize::try_from(share).unwrap_or(0));
            for _ in 0..share {
                let begin = Instant::now();
                let limits = Limits { timeout: Duration::from_secs(60), ..Limits::default() };
                let job = Job { position: 0, args: &args, inputs: &[], scratch: None, limits, progress: None };
                executor.call(job, stop.clone()).await?;
                latencies.push(u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX));
            }
            executor.kill().await;
            Ok::<_, Unanswered>(latencies)
        });
    }
    let mut latencies = Vec::new();
    for lane in lanes.join_all().await {
        match lane {
            Ok(lane) => latencies.extend(lane),
            Err(Unanswered::Failed(failure)) => return Err(failure),
            Err(Unanswered::Stopped) => unreachable!("nobody stops a measured call"),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let percentile = |percent: usize| latencies.get(latencies.len() * percent / 100).copied().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let calls_per_second = latencies.len() as f64 / seconds;
    Ok(ExecFigures {
        executors,
        calls,
        seconds,
        calls_per_second,
        latency_p50_us: percentile(50),
        latency_p99_us: percentile(99),
    })
}
