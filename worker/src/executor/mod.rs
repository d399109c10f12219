//! Executors: child processes that run functions, so that a codec's crash, hang or leak hurts one call and not the worker.
//!
//! An executor holds no credentials, no network and no paths: inputs are asked for by number and come over its socket, as open
//! file handles or, what is not a file of this machine, as ranges of bytes that its worker reads; outputs go to one scratch directory. It locks itself in before its first call. It is warm when it waits,
//! loaded, for its next call, and runs one call at a time, of those it was handed in one batch.
//!
//! Reading order: `link` (framing and handles), `child` (inside the process), `sandbox` (what it locks itself in with), `process`
//! (the worker's end), `reads` (inputs that the worker reads for it), `den` (its directory), `ended` (how a call ends), `bounds` (what the kernel holds it to), `watch` (what
//! gets a call killed), `stops` (which calls are to stop), `warmth` (who of the idle serves, stays or goes), `pool` (all of a
//! worker's, kept warm and replaced). [`cell`] puts the same walls around what is no executor and opens nothing.

mod bounds;
pub mod cell;
mod child;
mod den;
mod ended;
mod link;
mod pool;
mod process;
mod reads;
mod sandbox;
mod stderr;
mod stops;
mod warmth;
mod watch;

use std::time::Duration;

use spool_media::{Host, Product};
use spool_proto::call::Args;
use spool_proto::failure::Failure;

pub use child::main;
#[doc(hidden)]
pub use ended::read_messages;
pub(crate) use ended::signal_name;
pub use pool::{Executors, Taken};
pub use process::{CallOutput, Executor, ExecutorOptions, Job, Produced, Tell, Told, Unanswered};
pub(crate) use sandbox::program;
pub use sandbox::{Sandbox, Walls};
pub use stops::Stops;
pub(crate) use stops::{asked, stopped};
pub use warmth::{Target, WarmKey};
pub use watch::{Advance, Limits};

pub use crate::transfer::Input;
pub(crate) use watch::{Pulse, watch};

/// For the small real encode that proves a backend.
pub const GOLDEN_WITHIN: Duration = Duration::from_secs(20);

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
