//! What is counted for people and for estimates. Volatile.

use std::collections::{BTreeMap, VecDeque};

use spool_proto::time::{Span, Timestamp};

use crate::io::{Start, WarmKey};
use crate::pools::{PoolIx, Pools};

/// Samples kept for percentiles.
const KEPT: usize = 4_096;

/// The latest samples of something.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(VecDeque<Span>);

impl Samples {
    fn add(&mut self, sample: Span) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// Zero while there are none.
    pub(crate) fn percentile(&self, percent: usize) -> Span {
        let mut sorted: Vec<Span> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or_default()
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct WarmCount {
    pub(crate) warm: u64,
    pub(crate) cold: u64,
    pub(crate) warm_start: Samples,
    pub(crate) cold_start: Samples,
}

#[derive(Debug, Clone, Default)]
struct OfPool {
    preempted: u64,
    last_lease: Option<Timestamp>,
    /// Between two leases, a moving average.
    interval: Option<Span>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) leases: u64,
    pub(crate) preemptions: u64,
    pub(crate) waits: Samples,
    pools: BTreeMap<PoolIx, OfPool>,
    pub(crate) warm: BTreeMap<WarmKey, WarmCount>,
}

impl Tally {
    /// A task was leased that had waited since then.
    pub(crate) fn leased(&mut self, now: Timestamp, pool: PoolIx, since: Timestamp) {
        self.leases += 1;
        self.waits.add(now.since(since));
        let of = self.pools.entry(pool).or_default();
        if let Some(last) = of.last_lease.replace(now) {
            let gap = now.since(last);
            of.interval = Some(of.interval.map_or(gap, |old| Span((old.saturating_mul(15) + gap).0 / 16)));
        }
    }

    pub(crate) fn preempted(&mut self, victim: PoolIx, pools: &Pools) {
        self.preemptions += 1;
        for pool in pools.path(victim) {
            self.pools.entry(pool).or_default().preempted += 1;
        }
    }

    pub(crate) fn preemptions_of(&self, pool: PoolIx) -> u64 {
        self.pools.get(&pool).map_or(0, |of| of.preempted)
    }

    pub(crate) fn last_lease(&self, leaf: PoolIx) -> Option<Timestamp> {
        self.pools.get(&leaf)?.last_lease
    }

    /// Time between two starts in a leaf, lately.
    pub(crate) fn interval(&self, leaf: PoolIx) -> Option<Span> {
        self.pools.get(&leaf)?.interval
    }

    /// As if one started now: a leaf where nothing has started for long is not told by how it once went.
    pub(crate) fn interval_now(&self, now: Timestamp, leaf: PoolIx) -> Option<Span> {
        let of = self.pools.get(&leaf)?;
        let (interval, gap) = (of.interval?, now.since(of.last_lease?));
        Some(if gap > interval { Span((interval.saturating_mul(15) + gap).0 / 16) } else { interval })
    }

    /// A call began: `took` from lease to start.
    pub(crate) fn started(&mut self, key: &WarmKey, start: Start, took: Span) {
        if start == Start::Inline {
            return;
        }
        let count = self.warm.entry(key.clone()).or_default();
        match start {
            Start::Warm => {
                count.warm += 1;
                count.warm_start.add(took);
            }
            Start::Cold { .. } => {
                count.cold += 1;
                count.cold_start.add(took);
            }
            Start::Inline => {}
        }
    }

    /// Pools are numbered anew.
    pub(crate) fn forget_pools(&mut self) {
        self.pools.clear();
    }
}
