//! The engine through its public face.

#![allow(clippy::unwrap_used, reason = "a test")]

mod cancel;
mod explain;
mod fleet;
mod harness;
mod order;
mod pools;
mod prefetch;
mod replay;
mod retries;
