//! Checkpoint bodies: the engine's snapshots as protobuf, and back. Versioned as the journal's bodies are.

mod history;

use prost::Message;
use spool_core::io::Advance;
use spool_core::snapshot::{
    AttemptEnd, CordonSnapshot, EngineSnapshot, JobSnapshot, Lease, LifeSnapshot, PhaseSnapshot, TaskPart,
    TaskSnapshot, TaskStateSnapshot,
};
use spool_proto::ids::{Fence, JobId};
use spool_proto::pool::PoolsState;
use spool_proto::time::{Span, Timestamp};

use super::records::{
    BadBody, decode_failure, decode_health, decode_new_job, decode_run, encode_failure, encode_new_job, encode_run,
    json, pb, small,
};
pub use history::{decode_history, encode_history};
use pb::life::Kind as Life;
use pb::task_state::Kind as State;

fn missing(what: &str) -> BadBody {
    BadBody(format!("{what} is missing"))
}

pub fn encode_engine(engine: &EngineSnapshot) -> Vec<u8> {
    let cordon = |c: &CordonSnapshot| pb::CordonState {
        worker: c.worker.to_string(),
        drain: c.drain,
        reason: c.reason.clone(),
        at_us: c.at.0,
    };
    let cordons = engine.cordons.iter().map(cordon).collect();
    let pools = json(&engine.pools);
    let judged = engine.judged.iter();
    let judged = judged.map(|(worker, health)| pb::JudgedState { worker: worker.to_string(), health: json(health) });
    let judged = judged.collect();
    pb::EngineState { next_job: engine.next_job, next_fence: engine.next_fence, cordons, pools, judged }.encode_to_vec()
}

/// # Errors
/// When the body is damaged.
pub fn decode_engine(body: &[u8]) -> Result<EngineSnapshot, BadBody> {
    let wire = pb::EngineState::decode(body)?;
    let cordon = |c: pb::CordonState| CordonSnapshot {
        worker: c.worker.into(),
        drain: c.drain,
        reason: c.reason,
        at: Timestamp(c.at_us),
    };
    let cordons = wire.cordons.into_iter().map(cordon).collect();
    let pools = match wire.pools.as_slice() {
        [] => PoolsState::default(),
        json => serde_json::from_slice(json).map_err(|e| BadBody(format!("pools: {e}")))?,
    };
    let judged = wire.judged.into_iter().map(|j| Ok((j.worker.into(), decode_health(&j.health)?)));
    let judged = judged.collect::<Result<_, BadBody>>()?;
    Ok(EngineSnapshot { next_job: wire.next_job, next_fence: wire.next_fence, cordons, judged, pools })
}

pub fn encode_job(job: &JobSnapshot) -> Vec<u8> {
    let phase = |p: &PhaseSnapshot| pb::PhaseState {
        name: p.name.clone(),
        started_us: p.started.0,
        finished_us: p.finished.map(|t| t.0),
        runs: p.runs.iter().map(encode_run).collect(),
    };
    let life = match &job.life {
        LifeSnapshot::Queued => Life::Queued(pb::Empty {}),
        LifeSnapshot::Running => Life::Running(pb::Empty {}),
        LifeSnapshot::Cancelling { reason } => Life::Cancelling(reason.clone()),
        LifeSnapshot::Failing { failure } => Life::Failing(encode_failure(failure)),
        LifeSnapshot::Finishing { output } => Life::Finishing(output.to_vec()),
        LifeSnapshot::Done { output } => Life::Done(output.to_vec()),
        LifeSnapshot::Failed { failure } => Life::Failed(encode_failure(failure)),
        LifeSnapshot::Cancelled { reason } => Life::Cancelled(reason.clone()),
    };
    let wire = pb::JobState {
        job: job.job.0,
        new: Some(encode_new_job(&job.new)),
        life: Some(pb::Life { kind: Some(life) }),
        submitted_us: job.submitted.0,
        started_us: job.started.map(|t| t.0),
        finished_us: job.finished.map(|t| t.0),
        phases: job.phases.iter().map(phase).collect(),
        retries_before: job.retries_before,
        reaction: job.new.reactive.then(|| history::encode_reaction(&job.reaction)),
    };
    wire.encode_to_vec()
}

/// # Errors
/// When the body is damaged or holds what this version does not know.
pub fn decode_job(body: &[u8]) -> Result<JobSnapshot, BadBody> {
    let wire = pb::JobState::decode(body)?;
    let life = match wire.life.and_then(|life| life.kind).ok_or_else(|| missing("life"))? {
        Life::Queued(_) => LifeSnapshot::Queued,
        Life::Running(_) => LifeSnapshot::Running,
        Life::Cancelling(reason) => LifeSnapshot::Cancelling { reason },
        Life::Failing(failure) => LifeSnapshot::Failing { failure: decode_failure(failure)? },
        Life::Finishing(output) => LifeSnapshot::Finishing { output: output.into() },
        Life::Done(output) => LifeSnapshot::Done { output: output.into() },
        Life::Failed(failure) => LifeSnapshot::Failed { failure: decode_failure(failure)? },
        Life::Cancelled(reason) => LifeSnapshot::Cancelled { reason },
    };
    Ok(JobSnapshot {
        job: JobId(wire.job),
        new: decode_new_job(wire.new.ok_or_else(|| missing("job"))?)?,
        life,
        submitted: Timestamp(wire.submitted_us),
        started: wire.started_us.map(Timestamp),
        finished: wire.finished_us.map(Timestamp),
        phases: wire.phases.into_iter().map(decode_phase).collect::<Result<_, _>>()?,
        retries_before: wire.retries_before,
        reaction: wire.reaction.map(history::decode_reaction).unwrap_or_default(),
    })
}

fn decode_phase(wire: pb::PhaseState) -> Result<PhaseSnapshot, BadBody> {
    Ok(PhaseSnapshot {
        name: wire.name,
        started: Timestamp(wire.started_us),
        finished: wire.finished_us.map(Timestamp),
        runs: wire.runs.into_iter().map(decode_run).collect::<Result<_, _>>()?,
    })
}

pub fn encode_part(part: &TaskPart) -> Vec<u8> {
    pb::TaskPart { tasks: part.tasks.iter().map(encode_task).collect() }.encode_to_vec()
}

/// # Errors
/// When the body is damaged or holds what this version does not know.
pub fn decode_part(job: JobId, part: u32, body: &[u8]) -> Result<TaskPart, BadBody> {
    let tasks = pb::TaskPart::decode(body)?.tasks.into_iter().map(decode_task).collect::<Result<_, _>>()?;
    Ok(TaskPart { job, part, tasks })
}

fn encode_task(task: &TaskSnapshot) -> pb::TaskState {
    let kind = match &task.state {
        TaskStateSnapshot::Queued => State::Queued(pb::Empty {}),
        TaskStateSnapshot::Backoff { until } => State::BackoffUntilUs(until.0),
        TaskStateSnapshot::Leased { lease, copy } => {
            let copy = copy.as_ref().map(|copy| Box::new(encode_lease(copy)));
            State::Leased(pb::LeasedState { copy, ..encode_lease(lease) })
        }
        TaskStateSnapshot::Done { fence, worker, started, finished, answer, advance } => State::Done(pb::DoneState {
            fence: fence.0,
            worker: worker.to_string(),
            started_us: started.0,
            finished_us: finished.0,
            answer: answer.to_vec(),
            frames: advance.frames,
            bytes: advance.bytes,
            out_time_us: advance.out_time.0,
        }),
        TaskStateSnapshot::Failed => State::Failed(pb::Empty {}),
        TaskStateSnapshot::Cancelled => State::Cancelled(pb::Empty {}),
    };
    let end = |end: &AttemptEnd| pb::AttemptEnd {
        attempt: end.attempt,
        fence: end.fence.0,
        worker: end.worker.to_string(),
        leased_us: end.leased.0,
        ended_us: end.ended.0,
        failure: Some(encode_failure(&end.failure)),
        not_counted: !end.counted,
    };
    pb::TaskState {
        kind: Some(kind),
        attempts: task.attempts.into(),
        losses: task.losses.into(),
        history: task.history.iter().map(end).collect(),
        excused: task.excused.into(),
    }
}

fn encode_lease(lease: &Lease) -> pb::LeasedState {
    pb::LeasedState { fence: lease.fence.0, worker: lease.worker.to_string(), at_us: lease.at.0, copy: None }
}

fn decode_lease(wire: &pb::LeasedState) -> Lease {
    Lease { fence: Fence(wire.fence), worker: wire.worker.as_str().into(), at: Timestamp(wire.at_us) }
}

fn decode_task(wire: pb::TaskState) -> Result<TaskSnapshot, BadBody> {
    let state = match wire.kind.ok_or_else(|| missing("task state"))? {
        State::Queued(_) => TaskStateSnapshot::Queued,
        State::BackoffUntilUs(until) => TaskStateSnapshot::Backoff { until: Timestamp(until) },
        State::Leased(l) => {
            let copy = l.copy.as_deref().map(decode_lease);
            TaskStateSnapshot::Leased { lease: decode_lease(&l), copy }
        }
        State::Done(d) => TaskStateSnapshot::Done {
            fence: Fence(d.fence),
            worker: d.worker.into(),
            started: Timestamp(d.started_us),
            finished: Timestamp(d.finished_us),
            answer: d.answer.into(),
            advance: Advance { frames: d.frames, bytes: d.bytes, out_time: Span(d.out_time_us) },
        },
        State::Failed(_) => TaskStateSnapshot::Failed,
        State::Cancelled(_) => TaskStateSnapshot::Cancelled,
    };
    let end = |end: pb::AttemptEnd| {
        let failure = decode_failure(end.failure.ok_or_else(|| missing("failure"))?)?;
        Ok(AttemptEnd {
            attempt: end.attempt,
            fence: Fence(end.fence),
            worker: end.worker.into(),
            leased: Timestamp(end.leased_us),
            ended: Timestamp(end.ended_us),
            // Before the mark was written, lost leases did not count either.
            counted: !end.not_counted && failure.code != "lease_lost",
            failure,
        })
    };
    Ok(TaskSnapshot {
        state,
        attempts: u16::try_from(wire.attempts).map_err(|_| BadBody("too many attempts".into()))?,
        losses: small("losses", wire.losses)?,
        excused: small("excused", wire.excused)?,
        history: wire.history.into_iter().map(end).collect::<Result<_, BadBody>>()?,
    })
}
