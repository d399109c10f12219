//! The scheduler's shell: everything around the pure engine that has a clock, a disk or a network.
//!
//! Reading order: [`server`] puts it together and is the way in; `run_loop` is the only one that touches the engine; [`store`] keeps
//! what must not be lost, `recovery` reads it back; `workflow` says what a job does next; `view` shows the engine's state to
//! people; `api` is `spool.v1` over all of it; [`bench`] measures dispatch.

mod api;
pub mod bench;
mod lock;
mod notify;
mod recovery;
mod run_loop;
pub mod server;
pub mod store;
mod view;
mod workflow;

pub use run_loop::Limits;
pub use server::{Server, ServerError, ServerHandle, ServerOptions};
