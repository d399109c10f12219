//! The messages of `proto/executor.proto`, generated, and failures across it.

use spool_proto::failure::{Class, Failure as PlainFailure};

#[allow(clippy::all, clippy::pedantic, missing_debug_implementations, unused_qualifications, reason = "generated")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/spool.executor.rs"));
}
pub use generated::*;

impl From<PlainFailure> for Failure {
    fn from(failure: PlainFailure) -> Failure {
        let PlainFailure { class, code, message, evidence } = failure;
        Failure { class: class.name().into(), code, message, evidence }
    }
}

impl From<Failure> for PlainFailure {
    fn from(failure: Failure) -> PlainFailure {
        let Failure { class, code, message, evidence } = failure;
        // An executor that names no known class has lost its mind.
        PlainFailure { class: class.parse().unwrap_or(Class::Internal), code, message, evidence }
    }
}
