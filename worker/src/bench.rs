//! Executors measured with nothing around them: the `exec` layer of `spool bench dispatch` (calls that do nothing), and the
//! starts of `spool bench start`.

use std::time::{Duration, Instant};

use crate::stores::Stores;
use serde::Serialize;
use spool_proto::call::Args;
use spool_proto::failure::{Class, Failure};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::executor::{
    Executor, ExecutorOptions, Executors, GOLDEN_WITHIN, Job, Limits, Stops, Target, Unanswered, WarmKey,
};

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
            let stores = Stores::default();
            let mut latencies = Vec::with_capacity(usize::try_from(share).unwrap_or(0));
            for _ in 0..share {
                let begin = Instant::now();
                let limits = Limits { timeout: Duration::from_secs(60), ..Limits::default() };
                let (inputs, stores) = (&[], &stores);
                let job = Job { position: 0, args: &args, inputs, stores, scratch: None, limits, progress: None };
                executor.call(job, stop.clone()).await?;
                latencies.push(micros(begin));
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

/// How calls started, microseconds of each from when it could run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Starts {
    /// Until an executor had it.
    pub start_us: Vec<u64>,
    /// Until its small encode was done.
    pub done_us: Vec<u64>,
}

impl Starts {
    async fn add(&mut self, executors: &Executors, key: &WarmKey, backend: &str) -> Result<bool, Failure> {
        let begin = Instant::now();
        let mut taken = executors.take(Some(key), None).await?;
        let warm = taken.is_warm();
        self.start_us.push(micros(begin));
        taken.executor().golden(backend, GOLDEN_WITHIN).await?;
        self.done_us.push(micros(begin));
        taken.give(Some(key));
        Ok(warm)
    }
}

/// Starts `calls` small encodes in an executor that is kept warm for `key`, and as many in executors that are started for them,
/// in turns: warm, cold.
///
/// # Errors
/// Those of starting and preparing executors. Class `spec`, code `bad_key`: the key names no backend. Class `internal`, code
/// `not_warm`: what was to be warm was not.
pub async fn starts(options: ExecutorOptions, key: &str, calls: u32) -> Result<(Starts, Starts), Failure> {
    let (key, backend) = match key.split_once('/') {
        Some((_, backend)) => (WarmKey::from(key), backend),
        None => return Err(Failure::new(Class::Spec, "bad_key", format!("{key} names no backend"))),
    };
    let (kept, none) = (Executors::new(options.clone(), 0), Executors::new(options, 0));
    kept.aim(vec![Target { key: key.clone(), min: 1, max: 1, idle_timeout: Duration::ZERO }]);
    let mut changes = kept.changes();
    let mut keeper = JoinSet::new();
    keeper.spawn(kept.clone().keep());
    let (mut warm, mut cold) = (Starts::default(), Starts::default());
    for _ in 0..calls {
        let ready = async {
            while kept.warm().is_empty() {
                // The pool outlives this.
                drop(changes.changed().await);
            }
        };
        if tokio::time::timeout(GOLDEN_WITHIN, ready).await.is_err() {
            let text = format!("no executor became warm for {key} within {GOLDEN_WITHIN:?}");
            return Err(Failure::new(Class::Internal, "not_warm", text));
        }
        if !warm.add(&kept, &key, backend).await? {
            let text = format!("an executor that was prepared for {key} was not warm");
            return Err(Failure::new(Class::Internal, "not_warm", text));
        }
        // None is kept here: each is started for its call.
        cold.add(&none, &key, backend).await?;
    }
    Ok((warm, cold))
}

fn micros(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX)
}
