//! The main job over the real binary: real processes, real films, `ffmpeg` on the whole file as the reference.
//!
//! Films come from the corpus (`SPOOL_CORPUS`, or `../shared/corpus` beside the checkout) where it is present; small
//! clips are generated where it is not.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;
mod built_in;
mod burn;
mod clips;
mod concat;
#[path = "../../media/tests/ebml/mod.rs"]
mod ebml;
mod exact;
mod faults;
mod films;
mod functions;
mod http;
mod images;
mod live;
mod notify;
mod pools;
mod probe;
mod processes;
mod rate;
mod reclaim;
mod refusals;
mod s3;
mod scenes;
mod server;
mod service_tools;
mod services;
mod sleepers;
mod sound;
mod sources;
mod stubs;
mod target_quality;
mod text;
mod titles;
mod truth;
