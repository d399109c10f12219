//! The words every floor shares, as plain values, and the gRPC wire that carries them.
//!
//! Reading order: [`ids`], [`time`], [`resources`], [`failure`] are the small words; [`spec`] is what a
//! user asks for; [`call`] is what a worker is asked to do and answers; [`pool`] is the quota tree; [`quality`] says how like films are; [`vbv`] is the buffer a rate is bounded by; [`view`] is what people are shown;
//! [`uri`] names files; [`wire`] (feature `wire`) is `spool.v1`, generated, with the conversions to and from the plain values.
//!
//! Nothing here does IO. Without the feature `wire` the crate knows neither tonic nor prost, which is how
//! the pure engine depends on it.

pub mod call;
pub mod failure;
pub mod ids;
pub mod package;
pub mod pool;
pub mod quality;
pub mod rate;
pub mod resources;
pub mod spec;
pub mod time;
pub mod uri;
pub mod vbv;
pub mod view;
#[cfg(feature = "wire")]
pub mod wire;
