//! The engine through its public face.

#![allow(clippy::unwrap_used, reason = "a test")]

mod budget;
mod cancel;
mod explain;
mod fleet;
mod harness;
mod health;
mod order;
mod poison;
mod pools;
mod prefetch;
mod reactive;
mod replay;
mod retries;
mod stragglers;
