//! What the API may ask about pools and queues.

use spool_proto::pool::PoolsState;
use spool_proto::time::Timestamp;
use spool_proto::view::{PoolView, PoolsPreview, QueueStats, QueueView};

use crate::engine::Engine;
use crate::io::{PoolChange, Refusal};

impl Engine {
    /// Tree, version, holds and history.
    pub fn pools_state(&self) -> PoolsState {
        PoolsState::default()
    }

    /// In order of name.
    pub fn pools(&self, _now: Timestamp) -> Vec<PoolView> {
        Vec::new()
    }

    /// What the change would do, on a copy of the state.
    ///
    /// # Errors
    /// As the change itself would be refused.
    pub fn preview_pools(&self, _now: Timestamp, change: &PoolChange) -> Result<PoolsPreview, Refusal> {
        change.tree.check().map_err(Refusal::BadTree)?;
        Ok(PoolsPreview {
            version: 0,
            changes: Vec::new(),
            preempted: Vec::new(),
            started: Vec::new(),
            quotas: Vec::new(),
        })
    }

    /// Waiting tasks, a line for each pool, class and shape, in the order they would start.
    pub fn queue(&self, _now: Timestamp) -> Vec<QueueView> {
        Vec::new()
    }

    pub fn queue_stats(&self, _now: Timestamp) -> QueueStats {
        QueueStats {
            queued_tasks: self.queued(),
            leased_tasks: 0,
            open_jobs: 0,
            shapes: 0,
            workers: 0,
            leases_total: 0,
            preemptions_total: 0,
            overload: 0,
            wait_p50: spool_proto::time::Span::ZERO,
            wait_p99: spool_proto::time::Span::ZERO,
        }
    }
}
