//! A worker: it holds one stream to the server and runs what it is sent, most of it in executors.
//!
//! Reading order: [`worker`] (options, start, handle), `agent` (the leases, and the stream in `agent/session`), `slots` (what
//! may start when), `batch` (how many short calls go together), `outbox` (reports until the server has them), `runner` (calls
//! from inputs to stored outputs),
//! `transfer` and `publish` (files by URI), [`stores`] (what is not a file of this machine), `scratch`, [`capacity`], [`executor`] (the child processes, both ends), [`function`] (programs that users wrote). [`local`]
//! runs one call without a server; [`bench`] measures executors alone.
//!
//! This crate and the scheduler do not know each other; both know `spool-proto`. Nothing here is unsafe: handles are passed
//! and processes killed through rustix.

#![forbid(unsafe_code)]

mod agent;
mod batch;
pub mod bench;
pub mod capacity;
pub mod executor;
pub mod function;
mod list;
pub mod local;
mod outbox;
mod publish;
mod runner;
mod scratch;
mod slots;
pub mod stores;
mod transfer;
mod wire;
pub mod worker;

pub use batch::BATCH_TARGET;
pub use worker::{Exit, Worker, WorkerHandle, WorkerOptions, channel};

/// Runs what blocks (the disk, a hash) off the async threads.
async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going away, and so is everyone who waits for this.
            Err(_) => std::future::pending().await,
        },
    }
}
