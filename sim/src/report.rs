//! What came out of a run, as numbers and as a table for people.

mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use spool_proto::pool::PoolName;
use spool_proto::time::{Span, Timestamp};

use crate::ledger::{Ledger, Pool};
use crate::num::{as_ms, count, float, percentile, whole};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub title: String,
    pub seed: u64,
    pub simulated_s: f64,
    pub workers: u64,
    /// In order of name; leaves, and those above them with their sums of nothing but guarantees.
    pub pools: Vec<PoolReport>,
    pub total: Total,
    /// Breaks of the law: what happened twice, was lost, or was held by two. At most the first twenty.
    pub violations: Vec<String>,
    /// What the scenario expects and did not get.
    pub missed: Vec<Missed>,
    /// The only part that differs from run to run.
    pub wall: Wall,
    #[serde(skip)]
    pub chart: Chart,
}

/// Times in milliseconds. What nobody has measured is absent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PoolReport {
    pub pool: PoolName,
    pub leaf: bool,
    pub jobs: u64,
    pub jobs_done: u64,
    pub jobs_failed: u64,
    pub late_jobs: u64,
    pub refused: u64,
    pub moved_away: u64,
    pub tasks: u64,
    pub done: u64,
    pub failed: u64,
    pub failed_attempts: u64,
    pub queued_end: u64,
    /// From queued to the first start.
    pub wait_p50_ms: Option<f64>,
    pub wait_p90_ms: Option<f64>,
    pub wait_p99_ms: Option<f64>,
    pub wait_max_ms: Option<f64>,
    /// Of the task that waits longest for its first start at the end.
    pub oldest_wait_end_ms: Option<f64>,
    /// From room on a worker to the start.
    pub start_p50_ms: Option<f64>,
    pub start_p99_ms: Option<f64>,
    pub cold_starts: u64,
    pub warm_starts: u64,
    /// Submission to end.
    pub turnaround_p50_ms: Option<f64>,
    pub turnaround_p99_ms: Option<f64>,
    /// How long it stayed below its guarantee while something waited that fits into it; by leases, as quotas count.
    pub restored: u64,
    pub restored_p99_ms: Option<f64>,
    pub restored_max_ms: Option<f64>,
    /// The same by calls that have room on a worker: with the time to stop others, and what lies ready behind.
    pub room_p99_ms: Option<f64>,
    pub room_max_ms: Option<f64>,
    /// Tasks of it that were stopped for another pool.
    pub preempted: u64,
    pub used_core_s: f64,
    /// Of attempts that were stopped, failed, lost or came second.
    pub wasted_core_s: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Total {
    pub jobs: u64,
    pub tasks: u64,
    pub done: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub queued_end: u64,
    pub leased_end: u64,
    /// By resource, of what the fleet had over the whole time.
    pub utilisation: BTreeMap<String, f64>,
    /// Jain's index over weighted shares of what is borrowed, of the siblings where it is worst; the mean over all moments at which at
    /// least two want more. Absent: never did.
    pub fairness: Option<f64>,
    pub preempted: u64,
    pub second_copies: u64,
    pub self_tests: u64,
    pub used_core_s: f64,
    pub wasted_core_s: f64,
    pub wasted_share: f64,
    pub restored_p99_ms: Option<f64>,
    pub restored_max_ms: Option<f64>,
    pub wait_p99_ms: Option<f64>,
    pub leases: u64,
    /// Submitted, leased, started, ended: each counts one.
    pub task_events: u64,
    pub violations: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Wall {
    pub seconds: f64,
    /// Spent in the engine.
    pub engine_s: f64,
    pub decisions_per_s: f64,
    pub task_events_per_s: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Missed {
    pub what: String,
    pub expected: f64,
    /// Absent: there is no such number.
    pub got: Option<f64>,
}

/// What a chart shows, at even intervals.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chart {
    /// The resource whose use is shown.
    pub resource: String,
    pub at: Vec<Timestamp>,
    pub capacity: Vec<u64>,
    pub series: Vec<Series>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub pool: PoolName,
    pub leaf: bool,
    pub running: Vec<u64>,
    pub guarantee: Vec<u64>,
    pub queued: Vec<u64>,
}

impl PoolReport {
    pub(crate) fn of(pool: &mut Pool, oldest: Option<Span>) -> PoolReport {
        for values in [
            &mut pool.waits,
            &mut pool.starts,
            &mut pool.turnarounds,
            &mut pool.owed.lasted,
            &mut pool.owed_room.lasted,
        ] {
            values.sort_unstable();
        }
        let ms = |values: &[u64], percent: u64| percentile(values, percent).map(as_ms);
        PoolReport {
            pool: pool.name.clone(),
            leaf: pool.leaf,
            jobs: pool.jobs,
            jobs_done: pool.jobs_done,
            jobs_failed: pool.jobs_failed,
            late_jobs: pool.late_jobs,
            refused: pool.refused,
            moved_away: pool.moved_away,
            tasks: pool.tasks,
            done: pool.done,
            failed: pool.failed,
            failed_attempts: pool.failed_attempts,
            queued_end: pool.queued_total,
            wait_p50_ms: ms(&pool.waits, 50),
            wait_p90_ms: ms(&pool.waits, 90),
            wait_p99_ms: ms(&pool.waits, 99),
            wait_max_ms: ms(&pool.waits, 100),
            oldest_wait_end_ms: oldest.map(|wait| as_ms(wait.0)),
            start_p50_ms: ms(&pool.starts, 50),
            start_p99_ms: ms(&pool.starts, 99),
            cold_starts: pool.cold_starts,
            warm_starts: count(pool.starts.len()) - pool.cold_starts,
            turnaround_p50_ms: ms(&pool.turnarounds, 50),
            turnaround_p99_ms: ms(&pool.turnarounds, 99),
            restored: count(pool.owed.lasted.len()),
            restored_p99_ms: ms(&pool.owed.lasted, 99),
            restored_max_ms: ms(&pool.owed.lasted, 100),
            room_p99_ms: ms(&pool.owed_room.lasted, 99),
            room_max_ms: ms(&pool.owed_room.lasted, 100),
            preempted: pool.preempted,
            used_core_s: tenths(pool.used_core_s),
            wasted_core_s: tenths(pool.wasted_core_s),
        }
    }
}

impl Report {
    /// Is all as the scenario expects, and no law broken?
    pub fn is_good(&self) -> bool {
        self.missed.is_empty() && self.violations.is_empty()
    }

    pub(crate) fn total_up(&mut self, ledger: &Ledger) {
        let total = &mut self.total;
        total.used_core_s = tenths(self.pools.iter().map(|pool| pool.used_core_s).sum());
        total.wasted_core_s = tenths(self.pools.iter().map(|pool| pool.wasted_core_s).sum());
        total.wasted_share = rounded(total.wasted_core_s / total.used_core_s.max(1e-9));
        let all = |of: fn(&Pool) -> &Vec<u64>| {
            let mut values: Vec<u64> = ledger.pools.all.iter().flat_map(of).copied().collect();
            values.sort_unstable();
            values
        };
        let restored = all(|pool| &pool.owed.lasted);
        total.restored_p99_ms = percentile(&restored, 99).map(as_ms);
        total.restored_max_ms = percentile(&restored, 100).map(as_ms);
        total.wait_p99_ms = percentile(&all(|pool| &pool.waits), 99).map(as_ms);
        self.pools.sort_by(|a, b| a.pool.cmp(&b.pool));
    }

    /// As people read it.
    pub fn table(&self) -> String {
        table::of(self)
    }
}

impl Wall {
    pub(crate) fn of(all: Duration, engine: Duration, leases: u64, events: u64) -> Wall {
        let per_second = |n: u64, time: Duration| float(whole(float(n) / time.as_secs_f64().max(1e-9)));
        Wall {
            seconds: rounded(all.as_secs_f64()),
            engine_s: rounded(engine.as_secs_f64()),
            decisions_per_s: per_second(leases, engine),
            task_events_per_s: per_second(events, all),
        }
    }
}

/// To four places.
pub(crate) fn rounded(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}

fn tenths(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}
