//! The scheduler's shell: everything around the pure engine that has a clock, a disk or a network.
//!
//! Reading order: [`server`] puts it together and is the way in; `run_loop` is the only one that touches the engine; [`store`] keeps
//! what must not be lost, `recovery` reads it back; `workflow` says what a job does next, `rules` does where its workflow is rules; `view`
//! shows the engine's state to people; [`functions`] keeps what users pushed; `api` is `spool.v1` over all of it; [`bench`] measures
//! dispatch.

mod api;
pub mod bench;
mod files;
pub mod functions;
mod lock;
mod notify;
pub mod recovery;
mod rules;
mod run_loop;
pub mod server;
pub mod store;
mod view;
mod workflow;

pub use run_loop::Limits;
pub use server::{Server, ServerError, ServerHandle, ServerOptions};
