//! Micro-batches: how many of the calls that lie in line go to one executor in one message.
//!
//! Short calls cost more to hand out than to run; long ones gain nothing, and whatever lies behind them waits. So a batch is
//! as long as fills a target of executor time by a running estimate, no longer than a fair share of the line, and never makes
//! a call miss a deadline that it could keep by itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use spool_proto::time::Timestamp;

use crate::executor::{Stops, WarmKey};

/// What a batch fills unless it is said otherwise.
pub const BATCH_TARGET: Duration = Duration::from_millis(200);
/// Keys with an estimate at most; the server says them.
const KEYS: usize = 1024;

/// How batches are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// Executor time a batch fills. Zero: each call goes alone.
    pub target: Duration,
    /// Calls of a batch at most, up to 64.
    pub most: usize,
}

impl Default for Batching {
    fn default() -> Self {
        Batching { target: BATCH_TARGET, most: Stops::MOST }
    }
}

/// A call in line, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Only calls of one key share an executor. `None`: it goes alone.
    pub key: Option<&'a WarmKey>,
    /// `None`: unknown.
    pub estimate: Option<Duration>,
    pub deadline: Option<Timestamp>,
}

impl Batching {
    /// How long the calls behind the first of a batch wait for their turn before they are handed out anew: more than was
    /// estimated.
    pub fn patience(&self) -> Option<Duration> {
        (!self.target.is_zero()).then(|| self.target * 2)
    }

    /// How many of the line, from its head, go to one executor: at least one. `slots`: executors there is room for, this one too.
    pub fn size<'a>(&self, now: Timestamp, slots: usize, line: impl Iterator<Item = Candidate<'a>>) -> usize {
        let mut line = line.peekable();
        let Some(head) = line.peek().copied() else { return 1 };
        let most = self.most.min(Stops::MOST);
        let (Some(key), Some(first), 2..) = (head.key, head.estimate, most) else { return 1 };
        if first >= self.target {
            return 1;
        }
        let (mut size, mut seen, mut filled) = (0_usize, 0, Duration::ZERO);
        let mut line = line.take_while(|candidate| candidate.key == Some(key));
        for candidate in line.by_ref().take(most) {
            seen += 1;
            let Some(estimate) = candidate.estimate else { break };
            let misses = |start: Duration| candidate.deadline.is_some_and(|by| after(now, start + estimate) > by);
            if size > 0 && (filled + estimate > self.target || (misses(filled) && !misses(Duration::ZERO))) {
                break;
            }
            size += 1;
            filled += estimate;
        }
        // More than this many in line, and a fair share is more than fits anyway.
        let enough = size.saturating_mul(slots);
        let waiting = seen + line.take(enough.saturating_sub(seen)).count();
        size.min(waiting.div_ceil(slots.max(1))).max(1)
    }
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX)))
}

/// How long calls of a key take, as it was lately.
#[derive(Debug, Default)]
pub struct Estimates(HashMap<WarmKey, Duration>);

impl Estimates {
    pub fn of(&self, key: &WarmKey) -> Option<Duration> {
        self.0.get(key).copied()
    }

    /// A call took so long. Longer ones count at once for half, shorter ones little by little: a batch that is too long makes
    /// others wait, one that is too short costs microseconds.
    pub fn learn(&mut self, key: &WarmKey, took: Duration) {
        if self.0.len() >= KEYS && !self.0.contains_key(key) {
            self.0.clear();
        }
        let estimate = self.0.entry(Arc::clone(key)).or_insert(took);
        *estimate =
            if took > *estimate { *estimate + (took - *estimate) / 2 } else { *estimate - (*estimate - took) / 8 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Calls of one key; estimates and deadlines in milliseconds from now.
    fn size(slots: usize, calls: &[(u64, Option<u64>)]) -> usize {
        let key = WarmKey::from("f");
        let line = calls.iter().map(|(estimate, deadline)| Candidate {
            key: Some(&key),
            estimate: Some(ms(*estimate)),
            deadline: deadline.map(|by| Timestamp(NOW.0 + by * 1000)),
        });
        Batching::default().size(NOW, slots, line)
    }

    #[test]
    fn a_batch_fills_the_target_and_no_more() {
        assert_eq!(size(1, &[(50, None); 10]), 4);
        assert_eq!(size(1, &[(1, None); 500]), 64, "the configured maximum");
        assert_eq!(size(1, &[(0, None); 10]), 10);
        assert_eq!(size(1, &[(200, None), (1, None)]), 1, "long calls go alone");
        assert_eq!(size(1, &[(1, None), (200, None), (1, None)]), 1, "a long call does not go behind a short one");
    }

    #[test]
    fn the_line_is_shared_out_among_the_slots() {
        assert_eq!(size(2, &[(1, None); 2]), 1);
        assert_eq!(size(2, &[(1, None); 7]), 4);
        assert_eq!(size(4, &[(1, None); 8]), 2);
        assert_eq!(size(2, &[(50, None); 100]), 4, "the target is less than the share");
    }

    #[test]
    fn no_call_misses_a_deadline_that_it_could_keep_by_itself() {
        assert_eq!(size(1, &[(50, None), (50, Some(99)), (50, None)]), 1);
        assert_eq!(size(1, &[(50, None), (50, Some(100)), (50, Some(149))]), 2);
        assert_eq!(size(1, &[(50, None), (50, Some(40)), (50, None)]), 3, "it is lost either way");
    }

    #[test]
    fn only_calls_of_one_known_key_go_together() {
        let (a, b) = (WarmKey::from("a"), WarmKey::from("b"));
        let call = |key, estimate| Candidate { key, estimate, deadline: None };
        let size = |calls: &[Candidate<'_>]| Batching::default().size(NOW, 1, calls.iter().copied());
        let short = Some(ms(1));
        assert_eq!(size(&[call(Some(&a), short), call(Some(&a), short), call(Some(&b), short)]), 2);
        assert_eq!(size(&[call(None, short), call(None, short)]), 1);
        assert_eq!(size(&[call(Some(&a), None), call(Some(&a), None)]), 1, "nobody knows how long it takes");
        let off = Batching { target: Duration::ZERO, ..Batching::default() };
        assert_eq!(off.size(NOW, 1, [call(Some(&a), Some(Duration::ZERO)); 3].into_iter()), 1);
    }

    #[test]
    fn estimates_rise_fast_and_fall_slowly() {
        let (mut estimates, key) = (Estimates::default(), WarmKey::from("f"));
        assert_eq!(estimates.of(&key), None);
        estimates.learn(&key, ms(8));
        estimates.learn(&key, ms(16));
        assert_eq!(estimates.of(&key), Some(ms(12)));
        estimates.learn(&key, ms(4));
        assert_eq!(estimates.of(&key), Some(ms(11)));
    }
}
