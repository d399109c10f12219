//! Fuzz targets: every place where Spool itself reads bytes that it did not write, and the probe.
//!
//! A target takes any bytes and returns, or panics: then there is a bug. `tests/bytes.rs` runs all of them over the bad films of the
//! corpus and over a bounded number of mutations of small good seeds, the same ones each time, with the rest of the tests; with
//! `SPOOL_FUZZ_TIMES=100` over a hundred times as many. `libfuzzer/` runs the same targets under cargo-fuzz for as long as one likes (nightly Rust):
//!
//! ```text
//! cd fuzz/libfuzzer && cargo +nightly fuzz run probe --fuzz-dir .
//! ```
//!
//! Reading order: [`targets`], [`mutate`].

pub mod mutate;
pub mod targets;

pub use targets::{TARGETS, Target};
