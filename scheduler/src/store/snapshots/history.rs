//! What reactive jobs keep beside their tasks.

use prost::Message;
use spool_core::io::Signal;
use spool_core::snapshot::{HistoryEntries, HistoryKey, HistoryKind, HistoryPart, HistorySnapshot, ReactionSnapshot};
use spool_proto::ids::JobId;
use spool_proto::time::Timestamp;

use crate::store::records::{BadBody, pb};

pub(super) fn encode_reaction(reaction: &ReactionSnapshot) -> pb::Reaction {
    let ReactionSnapshot { wake, rests, retries_asked, cancelling, history } = reaction;
    pb::Reaction {
        wake_us: wake.map(|at| at.0),
        rests: *rests,
        retries_asked: *retries_asked,
        cancelling: cancelling.clone(),
        log: history.log,
        last_signal: history.last_signal,
        signals: history.signals,
        ids: history.ids,
    }
}

pub(super) fn decode_reaction(wire: pb::Reaction) -> ReactionSnapshot {
    ReactionSnapshot {
        wake: wire.wake_us.map(Timestamp),
        rests: wire.rests,
        retries_asked: wire.retries_asked,
        cancelling: wire.cancelling,
        history: HistorySnapshot { log: wire.log, last_signal: wire.last_signal, signals: wire.signals, ids: wire.ids },
    }
}

pub fn encode_history(part: &HistoryPart) -> Vec<u8> {
    let signal = |signal: &Signal| pb::Signal {
        number: signal.number,
        name: signal.name.clone(),
        dedupe: signal.dedupe.to_string(),
        payload: signal.payload.to_vec(),
        at_us: signal.at.0,
    };
    let wire = match &part.entries {
        HistoryEntries::Log(log) => {
            pb::HistoryPart { log: log.iter().map(|entry| entry.to_vec()).collect(), ..Default::default() }
        }
        HistoryEntries::Signals(signals) => {
            pb::HistoryPart { signals: signals.iter().map(signal).collect(), ..Default::default() }
        }
        HistoryEntries::Ids(ids) => {
            pb::HistoryPart { ids: ids.iter().map(ToString::to_string).collect(), ..Default::default() }
        }
    };
    wire.encode_to_vec()
}

/// # Errors
/// When the body is damaged.
pub fn decode_history(job: JobId, key: HistoryKey, body: &[u8]) -> Result<HistoryPart, BadBody> {
    let wire = pb::HistoryPart::decode(body)?;
    let signal = |signal: pb::Signal| Signal {
        number: signal.number,
        name: signal.name,
        dedupe: signal.dedupe.into(),
        payload: signal.payload.into(),
        at: Timestamp(signal.at_us),
    };
    let entries = match key.kind {
        HistoryKind::Log => HistoryEntries::Log(wire.log.into_iter().map(Into::into).collect()),
        HistoryKind::Signals => HistoryEntries::Signals(wire.signals.into_iter().map(signal).collect()),
        HistoryKind::Ids => HistoryEntries::Ids(wire.ids.into_iter().map(Into::into).collect()),
    };
    Ok(HistoryPart { job, part: key.part, entries })
}
