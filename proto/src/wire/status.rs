//! Failures in gRPC statuses: a code for programs, the whole failure in the metadata.

use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use super::{BadField, v1};
use crate::failure::{Class, Failure};

/// Metadata key under which a status carries a [`v1::Failure`].
pub const FAILURE_KEY: &str = "spool-failure-bin";

/// A status with `failure` whole inside it.
pub fn with_failure(code: Code, failure: &Failure) -> Status {
    let mut status = Status::new(code, failure.message.clone());
    let encoded = v1::Failure::from(failure).encode_to_vec();
    status.metadata_mut().insert_bin(FAILURE_KEY, MetadataValue::from_bytes(&encoded));
    status
}

/// The failure a status carries, if the other side was Spool and had one.
pub fn failure_of(status: &Status) -> Option<Failure> {
    let bytes = status.metadata().get_bin(FAILURE_KEY)?.to_bytes().ok()?;
    v1::Failure::decode(bytes).ok()?.try_into().ok()
}

impl From<BadField> for Status {
    fn from(bad: BadField) -> Status {
        with_failure(Code::InvalidArgument, &bad.into())
    }
}

impl From<BadField> for Failure {
    fn from(bad: BadField) -> Failure {
        Failure::new(Class::Spec, "bad_field", bad.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_a_status() {
        let failure = Failure::new(Class::Host, "disk_full", "no room for the journal").with_evidence("ENOSPC");
        let status = with_failure(Code::ResourceExhausted, &failure);
        assert_eq!(failure_of(&status), Some(failure));
        assert_eq!(failure_of(&Status::internal("elsewhere")), None);
    }
}
