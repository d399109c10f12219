//! `spool.v1`, generated from `proto/spool/v1/spool.proto`, and the conversions to and from the plain values.
//!
//! Plain to wire is `From`; wire to plain is `TryFrom` with [`BadField`], which names the field. [`status`] carries a
//! [`crate::failure::Failure`] through a gRPC status and back.

pub mod pool;
pub mod spec;
pub mod status;
pub mod view;

/// The generated messages, clients and servers.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    missing_debug_implementations,
    unused_qualifications,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("spool.v1");
}

/// The compiled `.proto` files, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/spool.v1.bin"));

/// A field of a message that does not hold what it must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field}: {why}")]
pub struct BadField {
    pub field: String,
    pub why: String,
}

impl BadField {
    pub fn new(field: impl Into<String>, why: impl std::fmt::Display) -> BadField {
        BadField { field: field.into(), why: why.to_string() }
    }

    fn missing(field: &str) -> BadField {
        BadField::new(field, "missing")
    }
}

/// The name serde gives to a plain enum's value: the one name it has everywhere.
fn name_of<T: serde::Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        other => unreachable!("a plain enum is named by a string, not {other:?}"),
    }
}

fn from_name<T: serde::de::DeserializeOwned>(field: &str, name: &str) -> Result<T, BadField> {
    serde_json::from_value(serde_json::Value::String(name.into())).map_err(|e| BadField::new(field, e))
}

/// Parses an id or another text with a `FromStr`.
fn from_text<T: std::str::FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, BadField> {
    text.parse().map_err(|e| BadField::new(field, e))
}

fn narrow<N: TryFrom<u64>>(field: &str, n: u64) -> Result<N, BadField> {
    N::try_from(n).map_err(|_| BadField::new(field, format!("{n} is too large")))
}
