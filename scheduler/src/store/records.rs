//! Journal bodies: the engine's records as protobuf, and back. Version [`VERSION`].

mod steps;
#[cfg(test)]
mod tests;

use prost::Message;
use spool_core::io::{Advance, Blob, NewJob, NewTask, Outcome, PoolChange, Record, Shape, TaskRun};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, JobId, TaskId};
use spool_proto::pool::{Class as PoolClass, Hop, PoolName};
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::WorkerHealth;
use spool_proto::wire::v1;

/// The generated messages of `proto/journal.proto`.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    missing_debug_implementations,
    unused_qualifications,
    reason = "generated"
)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/spool.journal.v1.rs"));
}

use pb::outcome::Kind as OutcomeKind;
use pb::record::Kind;

/// Version of the bodies. A server refuses greater ones and reads all lesser ones.
pub const VERSION: i64 = 1;

/// A body that is not what this server wrote: the file is damaged, or from a newer server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadBody(pub String);

impl BadBody {
    fn missing(what: &str) -> BadBody {
        BadBody(format!("{what} is missing"))
    }
}

impl From<prost::DecodeError> for BadBody {
    fn from(e: prost::DecodeError) -> Self {
        BadBody(e.to_string())
    }
}

/// One turn, as the journal keeps it.
pub fn encode_turn(records: &[Record]) -> Vec<u8> {
    pb::Turn { records: records.iter().map(encode).collect() }.encode_to_vec()
}

/// # Errors
/// When the body is damaged or holds what this version does not know.
pub fn decode_turn(body: &[u8]) -> Result<Vec<Record>, BadBody> {
    pb::Turn::decode(body)?.records.into_iter().map(decode).collect()
}

fn encode(record: &Record) -> pb::Record {
    let kind = match record {
        Record::JobSubmitted { job, new, at } => {
            Kind::JobSubmitted(pb::JobSubmitted { job: job.0, new: Some(encode_new_job(new)), at_us: at.0 })
        }
        Record::PhaseStarted { job, name, tasks, at } => Kind::PhaseStarted(pb::PhaseStarted {
            job: job.0,
            name: name.clone(),
            tasks: tasks.iter().map(encode_run).collect(),
            at_us: at.0,
        }),
        Record::Stepped { job, step, at } => {
            Kind::Stepped(pb::Stepped { job: job.0, step: Some(steps::encode(step)), at_us: at.0 })
        }
        Record::Signalled { job, name, dedupe, payload, at } => Kind::Signalled(pb::Signalled {
            job: job.0,
            name: name.clone(),
            dedupe: dedupe.clone(),
            payload: payload.to_vec(),
            at_us: at.0,
        }),
        Record::Leased { task, fence, worker, at } => Kind::Leased(pb::Leased {
            job: task.job.0,
            task: task.index,
            fence: fence.0,
            worker: worker.0.as_ref().into(),
            at_us: at.0,
        }),
        Record::Finished { task, fence, started, finished, answer, advance } => Kind::Finished(pb::Finished {
            job: task.job.0,
            task: task.index,
            fence: fence.0,
            started_us: started.0,
            finished_us: finished.0,
            answer: answer.to_vec(),
            frames: advance.frames,
            bytes: advance.bytes,
            out_time_us: advance.out_time.0,
        }),
        Record::AttemptFailed { task, fence, failure, retry_at, counted, at } => {
            Kind::AttemptFailed(pb::AttemptFailed {
                job: task.job.0,
                task: task.index,
                fence: fence.0,
                failure: Some(encode_failure(failure)),
                retry_at_us: retry_at.map(|t| t.0),
                at_us: at.0,
                not_counted: !counted,
            })
        }
        Record::AttemptForgiven { task, fence, at } => Kind::AttemptForgiven(pb::AttemptForgiven {
            job: task.job.0,
            task: task.index,
            fence: fence.0,
            at_us: at.0,
        }),
        Record::LeaseEnded { task, fence, reason, counted, at } => Kind::LeaseEnded(pb::LeaseEnded {
            job: task.job.0,
            task: task.index,
            fence: fence.0,
            reason: reason.clone(),
            counted: *counted,
            at_us: at.0,
        }),
        Record::CancelAsked { job, reason, at } => {
            Kind::CancelAsked(pb::CancelAsked { job: job.0, reason: reason.clone(), at_us: at.0 })
        }
        Record::TaskCancelled { task, at } => {
            Kind::TaskCancelled(pb::TaskCancelled { job: task.job.0, task: task.index, at_us: at.0 })
        }
        Record::JobFinished { job, outcome, at } => {
            Kind::JobFinished(pb::JobFinished { job: job.0, outcome: Some(encode_outcome(outcome)), at_us: at.0 })
        }
        Record::JobRetried { job, at } => Kind::JobRetried(pb::JobRetried { job: job.0, at_us: at.0 }),
        Record::PrioritySet { job, priority, at } => {
            Kind::PrioritySet(pb::PrioritySet { job: job.0, priority: (*priority).into(), at_us: at.0 })
        }
        Record::Cordoned { worker, cordoned, drain, reason, at } => Kind::Cordoned(pb::Cordoned {
            worker: worker.0.as_ref().into(),
            cordoned: *cordoned,
            drain: *drain,
            reason: reason.clone(),
            at_us: at.0,
        }),
        Record::JobForgotten { job } => Kind::JobForgotten(pb::JobForgotten { job: job.0 }),
        Record::JobMoved { job, pool, priority, hop, at } => Kind::JobMoved(pb::JobMoved {
            job: job.0,
            pool: pool.to_string(),
            priority: priority.map(Into::into),
            hop: *hop,
            at_us: at.0,
        }),
        Record::PoolsApplied { version, change, at } => Kind::PoolsApplied(pb::PoolsApplied {
            version: *version,
            tree: json(&change.tree),
            by: change.by.clone(),
            reason: change.reason.clone(),
            at_us: at.0,
        }),
        Record::PoolHeld { pool, hold, by, reason, at } => Kind::PoolHeld(pb::PoolHeld {
            pool: pool.to_string(),
            hold: serde_name(hold),
            by: by.clone(),
            reason: reason.clone(),
            at_us: at.0,
        }),
        Record::WorkerJudged { worker, health, at } => {
            Kind::WorkerJudged(pb::WorkerJudged { worker: worker.to_string(), health: json(health), at_us: at.0 })
        }
    };
    pb::Record { kind: Some(kind) }
}

fn decode(record: pb::Record) -> Result<Record, BadBody> {
    let at = Timestamp;
    Ok(match record.kind.ok_or_else(|| BadBody("a record of a kind this version does not know".into()))? {
        Kind::JobSubmitted(r) => Record::JobSubmitted {
            job: JobId(r.job),
            new: decode_new_job(r.new.ok_or_else(|| BadBody::missing("job"))?)?,
            at: at(r.at_us),
        },
        Kind::PhaseStarted(r) => Record::PhaseStarted {
            job: JobId(r.job),
            name: r.name,
            tasks: r.tasks.into_iter().map(decode_run).collect::<Result<_, _>>()?,
            at: at(r.at_us),
        },
        Kind::Stepped(r) => Record::Stepped {
            job: JobId(r.job),
            step: steps::decode(r.step.ok_or_else(|| BadBody::missing("step"))?)?,
            at: at(r.at_us),
        },
        Kind::Signalled(r) => Record::Signalled {
            job: JobId(r.job),
            name: r.name,
            dedupe: r.dedupe,
            payload: r.payload.into(),
            at: at(r.at_us),
        },
        Kind::Leased(r) => Record::Leased {
            task: task(r.job, r.task),
            fence: Fence(r.fence),
            worker: r.worker.into(),
            at: at(r.at_us),
        },
        Kind::Finished(r) => Record::Finished {
            task: task(r.job, r.task),
            fence: Fence(r.fence),
            started: at(r.started_us),
            finished: at(r.finished_us),
            answer: r.answer.into(),
            advance: Advance { frames: r.frames, bytes: r.bytes, out_time: Span(r.out_time_us) },
        },
        Kind::AttemptFailed(r) => Record::AttemptFailed {
            task: task(r.job, r.task),
            fence: Fence(r.fence),
            failure: decode_failure(r.failure.ok_or_else(|| BadBody::missing("failure"))?)?,
            retry_at: r.retry_at_us.map(at),
            counted: !r.not_counted,
            at: at(r.at_us),
        },
        Kind::AttemptForgiven(r) => {
            Record::AttemptForgiven { task: task(r.job, r.task), fence: Fence(r.fence), at: at(r.at_us) }
        }
        Kind::LeaseEnded(r) => Record::LeaseEnded {
            task: task(r.job, r.task),
            fence: Fence(r.fence),
            reason: r.reason,
            counted: r.counted,
            at: at(r.at_us),
        },
        Kind::CancelAsked(r) => Record::CancelAsked { job: JobId(r.job), reason: r.reason, at: at(r.at_us) },
        Kind::TaskCancelled(r) => Record::TaskCancelled { task: task(r.job, r.task), at: at(r.at_us) },
        Kind::JobFinished(r) => Record::JobFinished {
            job: JobId(r.job),
            outcome: decode_outcome(r.outcome.ok_or_else(|| BadBody::missing("outcome"))?)?,
            at: at(r.at_us),
        },
        Kind::JobRetried(r) => Record::JobRetried { job: JobId(r.job), at: at(r.at_us) },
        Kind::PrioritySet(r) => {
            Record::PrioritySet { job: JobId(r.job), priority: small("priority", r.priority)?, at: at(r.at_us) }
        }
        Kind::Cordoned(r) => Record::Cordoned {
            worker: r.worker.into(),
            cordoned: r.cordoned,
            drain: r.drain,
            reason: r.reason,
            at: at(r.at_us),
        },
        Kind::JobForgotten(r) => Record::JobForgotten { job: JobId(r.job) },
        Kind::JobMoved(r) => Record::JobMoved {
            job: JobId(r.job),
            pool: r.pool.as_str().into(),
            priority: r.priority.map(|p| small("priority", p)).transpose()?,
            hop: r.hop,
            at: at(r.at_us),
        },
        Kind::PoolsApplied(r) => Record::PoolsApplied {
            version: r.version,
            change: PoolChange {
                tree: serde_json::from_slice(&r.tree).map_err(|e| BadBody(format!("pools: {e}")))?,
                expected_version: None,
                by: r.by,
                reason: r.reason,
            },
            at: at(r.at_us),
        },
        Kind::PoolHeld(r) => Record::PoolHeld {
            pool: r.pool.as_str().into(),
            hold: serde_json::from_value(r.hold.into()).map_err(|e| BadBody(format!("hold: {e}")))?,
            by: r.by,
            reason: r.reason,
            at: at(r.at_us),
        },
        Kind::WorkerJudged(r) => {
            Record::WorkerJudged { worker: r.worker.into(), health: decode_health(&r.health)?, at: at(r.at_us) }
        }
    })
}

pub(super) fn decode_health(health: &[u8]) -> Result<WorkerHealth, BadBody> {
    serde_json::from_slice(health).map_err(|e| BadBody(format!("health: {e}")))
}

pub(super) fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data with string keys")
}

/// The name of a variant without payload.
fn serde_name(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        other => unreachable!("a variant without payload is a string, not {other:?}"),
    }
}

fn task(job: u64, index: u32) -> TaskId {
    TaskId { job: JobId(job), index }
}

pub(super) fn small(what: &str, n: u32) -> Result<u8, BadBody> {
    u8::try_from(n).map_err(|_| BadBody(format!("{what} {n} is too large")))
}

pub(super) fn encode_new_job(new: &NewJob) -> pb::NewJob {
    pb::NewJob {
        request_id: new.request_id.to_string(),
        name: new.name.clone(),
        service: new.service.clone(),
        spec: new.spec.to_vec(),
        priority: new.priority.into(),
        deadline_us: new.deadline.map(|t| t.0),
        max_attempts: new.max_attempts.into(),
        traceparent: new.traceparent.to_string(),
        pool: new.pool.to_string(),
        start_by_us: match new.class {
            PoolClass::Standard => None,
            PoolClass::Opportunistic { start_by } => Some(start_by.0),
        },
        not_preemptible: !new.preemptible,
        hop: new.hop.iter().map(encode_hop).collect(),
        reactive: new.reactive,
        labels: new.labels.iter().map(|(key, value)| pb::Label { key: key.clone(), value: value.clone() }).collect(),
        notify: new.notify.clone().unwrap_or_default(),
        part_of: new.part_of.map(|whole| whole.0),
    }
}

fn encode_hop(hop: &Hop) -> pb::Hop {
    pb::Hop { after_us: hop.after.0, pool: hop.pool.to_string(), priority: hop.priority.map(Into::into) }
}

fn decode_hop(hop: pb::Hop) -> Result<Hop, BadBody> {
    let priority = hop.priority.map(|p| small("priority", p)).transpose()?;
    Ok(Hop { after: Span(hop.after_us), pool: hop.pool.as_str().into(), priority })
}

pub(super) fn decode_new_job(new: pb::NewJob) -> Result<NewJob, BadBody> {
    Ok(NewJob {
        request_id: new.request_id.into(),
        name: new.name,
        service: new.service,
        spec: new.spec.into(),
        priority: small("priority", new.priority)?,
        deadline: new.deadline_us.map(Timestamp),
        max_attempts: small("max_attempts", new.max_attempts)?,
        traceparent: new.traceparent.into(),
        pool: if new.pool.is_empty() { PoolName::default() } else { new.pool.as_str().into() },
        class: new.start_by_us.map_or(PoolClass::Standard, |us| PoolClass::Opportunistic { start_by: Timestamp(us) }),
        preemptible: !new.not_preemptible,
        hop: new.hop.into_iter().map(decode_hop).collect::<Result<_, _>>()?,
        reactive: new.reactive,
        labels: new.labels.into_iter().map(|label| (label.key, label.value)).collect(),
        notify: (!new.notify.is_empty()).then_some(new.notify),
        part_of: new.part_of.map(JobId),
    })
}

pub(super) fn encode_run(run: &TaskRun) -> pb::TaskRun {
    pb::TaskRun {
        count: run.count,
        shape: Some(encode_shape(&run.task.shape)),
        label: run.task.label.clone(),
        payload: run.task.payload.to_vec(),
        weight: run.task.weight,
        max_attempts: run.task.max_attempts.map(Into::into),
    }
}

pub(super) fn decode_run(run: pb::TaskRun) -> Result<TaskRun, BadBody> {
    let shape = decode_shape(run.shape.ok_or_else(|| BadBody::missing("shape"))?);
    let payload: Blob = run.payload.into();
    let max_attempts = run.max_attempts.map(|n| small("max_attempts", n)).transpose()?;
    let task = NewTask { shape, label: run.label, payload, weight: run.weight, max_attempts };
    Ok(TaskRun { count: run.count, task })
}

fn encode_shape(shape: &Shape) -> pb::Shape {
    pb::Shape {
        function: shape.function.clone(),
        backend: shape.backend.clone(),
        resources: v1::Resources::from(&shape.resources).amounts,
        timeout_us: shape.timeout.0,
        no_progress_us: shape.no_progress.0,
    }
}

fn decode_shape(shape: pb::Shape) -> Shape {
    Shape {
        function: shape.function,
        backend: shape.backend,
        resources: Resources::from(v1::Resources { amounts: shape.resources }),
        timeout: Span(shape.timeout_us),
        no_progress: Span(shape.no_progress_us),
    }
}

pub(super) fn encode_failure(failure: &Failure) -> pb::Failure {
    pb::Failure {
        class: failure.class.name().into(),
        code: failure.code.clone(),
        message: failure.message.clone(),
        evidence: failure.evidence.clone(),
    }
}

pub(super) fn decode_failure(failure: pb::Failure) -> Result<Failure, BadBody> {
    Ok(Failure {
        class: failure.class.parse::<Class>().map_err(BadBody)?,
        code: failure.code,
        message: failure.message,
        evidence: failure.evidence,
    })
}

pub(super) fn encode_outcome(outcome: &Outcome) -> pb::Outcome {
    let kind = match outcome {
        Outcome::Done { output } => OutcomeKind::Done(output.to_vec()),
        Outcome::Failed { failure } => OutcomeKind::Failed(encode_failure(failure)),
        Outcome::Cancelled { reason } => OutcomeKind::Cancelled(reason.clone()),
    };
    pb::Outcome { kind: Some(kind) }
}

pub(super) fn decode_outcome(outcome: pb::Outcome) -> Result<Outcome, BadBody> {
    Ok(match outcome.kind.ok_or_else(|| BadBody::missing("outcome"))? {
        OutcomeKind::Done(output) => Outcome::Done { output: output.into() },
        OutcomeKind::Failed(failure) => Outcome::Failed { failure: decode_failure(failure)? },
        OutcomeKind::Cancelled(reason) => Outcome::Cancelled { reason },
    })
}
