//! What one job of a tenant may take. Beyond it the job is paused, with what it did in the explanation; nobody else notices.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub facts: u64,
    /// Of all facts.
    pub bytes: u64,
    /// Calls, children and timers that are not done.
    pub pending_effects: u64,
    /// That follow from one event.
    pub firings_per_event: u64,
    /// How long a chain of facts, each asserted because of the one before, may become within one event.
    pub depth: u32,
    /// Facts looked at for one event.
    pub looks_per_event: u64,
    /// Times that an error section may ask for one effect to be tried again.
    pub retries: u32,
    /// How long rules may clean up after a cancel. Microseconds.
    pub cleanup_us: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            facts: 250_000,
            bytes: 64 << 20,
            pending_effects: 200_000,
            firings_per_event: 10_000,
            depth: 1_000,
            looks_per_event: 20_000_000,
            retries: 10,
            cleanup_us: 60_000_000,
        }
    }
}
