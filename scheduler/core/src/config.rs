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
            keep_silent_workers: Span::from_secs(3600),
        }
    }
}
