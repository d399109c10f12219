//! Executors: child processes that run functions, so that a codec's crash, hang or leak hurts one call and not the worker.
//!
//! An executor holds no credentials, no network and no paths: inputs are asked for by number and come as open file handles
//! over its socket; outputs go to one scratch directory. It is warm when it waits, loaded, for its next call, and runs one
//! call at a time.
//!
//! Reading order: `link` (framing and handles), `child` (inside the process), `process` (the worker's end), `watch`
//! (what gets a call killed), `pool` (warm ones, kept and replaced).

mod child;
mod link;
mod pool;
mod process;
mod stderr;
mod watch;

use spool_media::{Host, Product};
use spool_proto::call::Args;
use spool_proto::failure::Failure;

pub use child::main;
pub use pool::Executors;
pub(crate) use process::stopped;
pub use process::{CallOutput, Executor, ExecutorOptions, Job, Produced, Unanswered};
pub use watch::{Advance, Limits};

pub use crate::transfer::Input;
pub(crate) use watch::{Pulse, watch};

/// What an executor can do: the media functions in the product, whatever they need in tests.
pub trait Functions: Sync {
    /// Runs one call.
    ///
    /// # Errors
    /// The call's own; the executor stays usable.
    fn run(&self, args: &Args, host: &mut dyn Host) -> Result<Product, Failure>;

    /// Proves `backend` (`cpu/libx264`) usable on this machine with a small real encode.
    ///
    /// # Errors
    /// Why it is not.
    fn golden(&self, backend: &str) -> Result<(), Failure>;
}
