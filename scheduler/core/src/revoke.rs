//! Why a worker is told to let go.

/// Its job is cancelled or fails.
pub const CANCELLED: &str = "cancelled";
/// Another worker has room for it now.
pub const RETRACTED: &str = "retracted";
/// A pool is owed what it was lent.
pub const PREEMPTED: &str = "preempted";
/// A second copy of the task was first.
pub const SUPERSEDED: &str = "superseded";
/// The lease is over: someone else may hold the task.
pub const STALE: &str = "stale";
