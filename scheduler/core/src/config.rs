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
    /// A task that failed on this many different healthy hosts is at fault itself.
    pub poison_hosts: usize,
    /// Failures of a task that may be held against its host, for a host that is suspected, at most.
    pub max_excused: u8,
    /// Failed attempts of a job that may be tried again: the greater of a number and a share of its tasks.
    pub retry_budget_least: u32,
    pub retry_budget_percent: u32,
    /// A host that fails this many different tasks within the window, each in less than a part of what it takes, is a black hole.
    pub black_hole_tasks: usize,
    pub health_window: Span,
    pub fast_divisor: u64,
    /// One worker of so many may be quarantined, at least one where there are two.
    pub quarantine_one_in: usize,
    /// Wait after the first self-test of a quarantined worker; doubles with each further one.
    pub self_test_base: Span,
    pub self_test_cap: Span,
    /// How often phases in their tail are looked at for stragglers.
    pub straggler_every: Span,
    /// No task is a straggler before it has run this long.
    pub straggler_after: Span,
    /// Tasks of a phase that may get a second copy; at least one.
    pub copy_percent: u32,
    /// Functions of which two must not run at once.
    pub never_copied: Vec<String>,
    /// How names of functions begin that users wrote: a failure there is the author's, and no strike against the host.
    pub users_prefix: String,
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
            poison_hosts: 3,
            max_excused: 5,
            retry_budget_least: 10,
            retry_budget_percent: 20,
            black_hole_tasks: 3,
            health_window: Span::from_secs(60),
            fast_divisor: 4,
            quarantine_one_in: 3,
            self_test_base: Span::from_secs(30),
            self_test_cap: Span::from_secs(600),
            straggler_every: Span::from_secs(1),
            straggler_after: Span::from_secs(2),
            copy_percent: 5,
            never_copied: vec!["spool.publish".into()],
            users_prefix: "user.".into(),
            keep_silent_workers: Span::from_secs(3600),
        }
    }
}
