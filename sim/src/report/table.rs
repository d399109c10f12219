//! The report for people.

use super::{PoolReport, Report};
use crate::num::{float, whole};

/// Pools beyond these, by tasks, are left to the JSON.
const POOLS_MOST: usize = 24;

const HEAD: [&str; 14] = [
    "POOL",
    "JOBS",
    "TASKS",
    "DONE",
    "QUEUED",
    "WAIT P50",
    "P90",
    "P99",
    "MAX",
    "START P99",
    "COLD",
    "RESTORED IN",
    "PREEMPTED",
    "WASTED",
];

pub(super) fn of(report: &Report) -> String {
    let total = &report.total;
    let mut text = format!(
        "{}: {} simulated, {} workers, seed {}\n\n",
        report.title,
        span(Some(report.simulated_s * 1000.0)),
        report.workers,
        report.seed
    );
    let mut pools: Vec<&PoolReport> =
        report.pools.iter().filter(|pool| pool.tasks + pool.jobs > 0 || pool.restored > 0).collect();
    let left_out = pools.len().saturating_sub(POOLS_MOST);
    if left_out > 0 {
        pools.sort_by_key(|pool| std::cmp::Reverse(pool.tasks));
        pools.truncate(POOLS_MOST);
    }
    let rows: Vec<Vec<String>> = pools.into_iter().map(row).collect();
    text.push_str(&columns(&rows));
    if left_out > 0 {
        text.push_str(&format!("… and {left_out} smaller pools (--json has all)\n"));
    }
    let used: Vec<String> =
        total.utilisation.iter().map(|(name, share)| format!("{name} {:.1} %", share * 100.0)).collect();
    let fairness = total.fairness.map_or_else(|| "nobody contended".into(), |index| format!("{index:.3}"));
    text.push_str(&format!(
        "\nfleet use        {}\nfairness         {fairness} (Jain, 1 is fair)\nguarantees       restored in {} at p99, {} at most\n\
         stopped          {} tasks for guarantees or shares; {} second copies, {} self-tests\nwasted           {:.0} of {:.0} core-seconds ({:.2} %)\n",
        used.join(", "),
        span(total.restored_p99_ms),
        span(total.restored_max_ms),
        total.preempted,
        total.second_copies,
        total.self_tests,
        total.wasted_core_s,
        total.used_core_s,
        total.wasted_share * 100.0,
    ));
    text.push_str(&format!(
        "tasks            {} accepted = {} done + {} failed + {} cancelled + {} queued + {} leased\n",
        total.tasks, total.done, total.failed, total.cancelled, total.queued_end, total.leased_end
    ));
    text.push_str(&format!(
        "engine           {:.0} leases/s of its own time; {:.0} task events/s in all, {:.2} s\n",
        report.wall.decisions_per_s, report.wall.task_events_per_s, report.wall.seconds
    ));
    for violation in &report.violations {
        text.push_str(&format!("BROKEN           {violation}\n"));
    }
    for missed in &report.missed {
        let got = missed.got.map_or_else(|| "nothing of the kind".into(), |got| got.to_string());
        text.push_str(&format!("MISSED           {} {}: got {got}\n", missed.what, missed.expected));
    }
    text
}

fn row(pool: &PoolReport) -> Vec<String> {
    let starts = (pool.cold_starts + pool.warm_starts).max(1);
    let wasted = pool.wasted_core_s / pool.used_core_s.max(1e-9) * 100.0;
    vec![
        pool.pool.to_string(),
        pool.jobs.to_string(),
        pool.tasks.to_string(),
        pool.done.to_string(),
        pool.queued_end.to_string(),
        span(pool.wait_p50_ms),
        span(pool.wait_p90_ms),
        span(pool.wait_p99_ms),
        span(pool.wait_max_ms),
        span(pool.start_p99_ms),
        format!("{:.0} %", float(pool.cold_starts) * 100.0 / float(starts)),
        span(pool.restored_max_ms),
        pool.preempted.to_string(),
        format!("{wasted:.1} %"),
    ]
}

fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let head: Vec<String> = HEAD.iter().map(|name| (*name).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = format!("{:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            line.push_str(&format!("  {cell:>width$}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `-`, `2ms`, `3.4s`, `7m05s`, `2h05m`.
fn span(ms: Option<f64>) -> String {
    let Some(ms) = ms else { return "-".into() };
    let seconds = whole(ms / 1000.0);
    match ms {
        ..1000.0 => format!("{ms:.0}ms"),
        ..60_000.0 => format!("{:.1}s", ms / 1000.0),
        ..3_600_000.0 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        for (ms, text) in
            [(0.0, "0ms"), (999.4, "999ms"), (3_440.0, "3.4s"), (425_000.0, "7m05s"), (7_500_000.0, "2h05m")]
        {
            assert_eq!(span(Some(ms)), text);
        }
        assert_eq!(span(None), "-");
    }

    #[test]
    fn columns_line_up() {
        let row: Vec<String> = (0..HEAD.len()).map(|n| n.to_string()).collect();
        let text = columns(&[row.clone(), row]);
        assert_eq!(text.lines().count(), 3);
        let ends: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(ends, [ends[0]; 3], "{text}");
    }
}
