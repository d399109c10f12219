//! The engine's tunable numbers.

use spool_proto::time::Span;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A worker not heard from for this long loses its leases.
    pub lease: Span,
    /// How much work a worker should have lying ready: enough to bridge a round trip and a commit.
    pub prefetch_target: Span,
    /// Most tasks lying ready on one worker, however short they are.
    pub prefetch_cap: u32,
    /// Wait before the second attempt; doubles with each further one.
    pub backoff_base: Span,
    pub backoff_cap: Span,
    /// A task that lost its worker more often than this is taken to be the cause, and fails.
    pub max_losses: u8,
    /// A job that waits gains one priority for each such step in which nothing of it was leased.
    pub age_step: Span,
    /// A line that nobody had room for this long, though somebody could, gets a worker drained for it.
    pub reserve_after: Span,
    /// A reservation ends after this, used or not.
    pub reserve_for: Span,
    /// Fair-share preemption: at most one victim for a pool in this time, and only past this lead in thousandths of the share.
    pub fair_every: Span,
    pub fair_dead_zone_milli: u64,
    /// Tasks waiting in all: from here opportunistic work is deferred; from here nobody borrows while somebody entitled waits;
    /// from here submits below the default priority are refused.
    pub overload: [u64; 3],
    /// A silent worker without leases is shown for this long, then forgotten.
    pub keep_silent_workers: Span,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            lease: Span::from_secs(15),
            prefetch_target: Span::from_millis(200),
            prefetch_cap: 512,
            backoff_base: Span::from_millis(500),
            backoff_cap: Span::from_secs(30),
            max_losses: 5,
            age_step: Span::from_secs(600),
            reserve_after: Span::from_secs(30),
            reserve_for: Span::from_secs(3600),
            fair_every: Span::from_secs(30),
            fair_dead_zone_milli: 100,
            overload: [5_000_000, 10_000_000, 20_000_000],
            keep_silent_workers: Span::from_secs(3600),
        }
    }
}
