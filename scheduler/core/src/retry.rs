//! How long a task waits before its next attempt.

use spool_proto::ids::TaskId;
use spool_proto::time::Span;

use crate::config::Config;

/// Doubles with every failure up to the cap; half of it is jitter, so that tasks that failed together do not come back together.
/// The jitter is a hash of task and attempt: the same failure always waits the same time.
pub(crate) fn backoff(config: &Config, task: TaskId, failures: u32) -> Span {
    let doublings = failures.saturating_sub(1).min(32);
    let full = config.backoff_base.saturating_mul(1 << doublings).min(config.backoff_cap);
    let half = full.0 / 2;
    let seed = mix(mix(task.job.0) ^ mix(u64::from(task.index) << 32 | u64::from(failures)));
    Span(half + seed % (full.0 - half + 1))
}

/// The finalizer of `SplitMix64` (Steele, Lea, Flood 2014).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spool_proto::ids::JobId;

    #[test]
    fn backoff_doubles_to_its_cap_with_half_of_it_jitter() {
        let config = Config::default();
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..100 {
            let task = TaskId { job: JobId(1), index };
            for (failures, full_ms) in [(1, 500), (2, 1_000), (3, 2_000), (7, 30_000), (200, 30_000)] {
                let wait = backoff(&config, task, failures);
                assert_eq!(wait, backoff(&config, task, failures));
                assert!((full_ms / 2..=full_ms).contains(&wait.as_millis()), "{failures}: {wait:?}");
            }
            seen.insert(backoff(&config, task, 1));
        }
        assert!(seen.len() > 90, "jitter spreads: {}", seen.len());
    }
}
