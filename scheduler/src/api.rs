//! `spool.v1` over the run loop and the archive.

mod artifacts;
mod fleet;
mod functions;
mod jobs;
mod logs;
mod pools;
mod queues;
mod rules;
mod watch;
mod workers;

use spool_core::io::{Refusal, Reply};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::JobId;
use spool_proto::wire::BadField;
use spool_proto::wire::status::with_failure;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

pub(crate) use artifacts::Artifacts;
pub(crate) use fleet::Fleet;
pub(crate) use functions::Functions;
pub(crate) use jobs::Jobs;
pub(crate) use pools::{Pools, TREE_BYTES_MAX};
pub(crate) use queues::Queues;
pub(crate) use rules::RuleServices;
pub(crate) use workers::Workers;

/// Longest text that is kept with a job or a change (request ids, names, reasons), bytes.
const TEXT_MAX: usize = 1_024;

/// The status of a failure that is the server's answer, not a job's end.
fn status(failure: &Failure) -> Status {
    let code = match failure.code.as_str() {
        "no_such_job" | "no_such_worker" | "no_such_pool" | "no_such_service" | "no_such_function"
        | "no_such_version" => Code::NotFound,
        "wrong_state" | "pool_in_use" | "pool_drains" | "not_a_leaf" => Code::FailedPrecondition,
        "pools_changed" => Code::Aborted,
        "store_full" => Code::ResourceExhausted,
        _ => match failure.class {
            Class::Input | Class::Spec => Code::InvalidArgument,
            Class::Transient | Class::Host => Code::Unavailable,
            Class::Capacity => Code::ResourceExhausted,
            Class::Internal => Code::Internal,
        },
    };
    with_failure(code, failure)
}

fn refused(refusal: &Refusal) -> Failure {
    let code = match refusal {
        Refusal::NoSuchJob(_) => "no_such_job",
        Refusal::NoSuchWorker(_) => "no_such_worker",
        Refusal::WrongState { .. } => "wrong_state",
        Refusal::NoSuchPool(_) => "no_such_pool",
        Refusal::NotALeaf(_) => "not_a_leaf",
        Refusal::BadTree(_) => "bad_pools",
        Refusal::PoolsChanged { .. } => "pools_changed",
        Refusal::PoolInUse { .. } => "pool_in_use",
        Refusal::NotReactive { .. } => "not_reactive",
        Refusal::SignalTooLarge { .. } => "signal_too_large",
        Refusal::SignalsFull(_) => "signals_full",
        Refusal::PoolDrains { .. } => "pool_drains",
        Refusal::QueueFull { .. } => "queue_full",
        Refusal::Overloaded { .. } => "overloaded",
    };
    let class = match refusal {
        Refusal::QueueFull { .. } | Refusal::Overloaded { .. } | Refusal::SignalsFull(_) => Class::Capacity,
        _ => Class::Spec,
    };
    Failure::new(class, code, refusal.to_string())
}

/// A refusal of a submission. Where it may be tried again later, the status says when, as gRPC's own clients read it
/// (`grpc-retry-pushback-ms`, gRPC proposal A6).
fn refused_submission(refusal: &Refusal) -> Status {
    let mut status = status(&refused(refusal));
    if let Refusal::QueueFull { retry_after, .. } | Refusal::Overloaded { retry_after, .. } = refusal {
        status.metadata_mut().insert("grpc-retry-pushback-ms", MetadataValue::from(retry_after.as_millis()));
    }
    status
}

/// For requests that are answered with nothing but yes or no.
fn accepted(reply: Reply) -> Result<(), Failure> {
    match reply {
        Reply::Ok | Reply::Submitted { .. } | Reply::Pools { .. } => Ok(()),
        Reply::Refused(refusal) => Err(refused(&refusal)),
    }
}

fn no_such_job(job: JobId) -> Failure {
    refused(&Refusal::NoSuchJob(job))
}

fn job_id(field: &str, text: &str) -> Result<JobId, BadField> {
    text.parse().map_err(|e| BadField::new(field, e))
}

#[cfg(test)]
mod tests {
    use spool_proto::time::Span;
    use spool_proto::wire::status::failure_of;

    use super::*;

    #[test]
    fn who_may_come_back_later_is_told_when() {
        let full = Refusal::QueueFull { pool: "a".into(), queued: 9, limit: 9, retry_after: Span::from_millis(2_500) };
        let status = refused_submission(&full);
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.metadata().get("grpc-retry-pushback-ms").and_then(|ms| ms.to_str().ok()), Some("2500"));
        assert_eq!(failure_of(&status).map(|failure| failure.code), Some("queue_full".into()));
        let drains = refused_submission(&Refusal::PoolDrains { pool: "a".into(), reason: String::new() });
        assert_eq!(drains.code(), Code::FailedPrecondition);
        assert!(drains.metadata().get("grpc-retry-pushback-ms").is_none());
    }
}
