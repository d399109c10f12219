//! What a workflow did at once, as protobuf, and back.

use spool_core::io::{Group, Step};
use spool_proto::time::Timestamp;

use super::{BadBody, decode_outcome, decode_run, encode_outcome, encode_run, pb};

pub(super) fn encode(step: &Step) -> pb::Step {
    let group =
        |group: &Group| pb::Group { name: group.name.clone(), tasks: group.tasks.iter().map(encode_run).collect() };
    pb::Step {
        log: step.log.as_ref().map(|entry| entry.to_vec()),
        snapshot: step.snapshot,
        groups: step.groups.iter().map(group).collect(),
        cancel: step.cancel.clone(),
        wake_us: step.wake.map(|at| at.0),
        signals_taken: step.signals_taken,
        rests: step.rests,
        outcome: step.outcome.as_ref().map(encode_outcome),
    }
}

pub(super) fn decode(step: pb::Step) -> Result<Step, BadBody> {
    let group = |group: pb::Group| {
        let tasks = group.tasks.into_iter().map(decode_run).collect::<Result<_, _>>()?;
        Ok(Group { name: group.name, tasks })
    };
    Ok(Step {
        log: step.log.map(Into::into),
        snapshot: step.snapshot,
        groups: step.groups.into_iter().map(group).collect::<Result<_, BadBody>>()?,
        cancel: step.cancel,
        wake: step.wake_us.map(Timestamp),
        signals_taken: step.signals_taken,
        rests: step.rests,
        outcome: step.outcome.map(decode_outcome).transpose()?,
    })
}
