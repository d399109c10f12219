//! What a reactive job keeps beside its tasks: its workflow's log, signals that were not taken yet, and the ids of all signals.
//!
//! Each is a sequence that a checkpoint writes in parts, so that what is appended costs what was appended. A part may be written anew
//! with less in it, and one that nothing needs any more is left where it is: the counts in the job's header say what of it is good.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::io::{Blob, Signal, Step};
use crate::snapshot::{HistoryEntries, HistoryKey, HistoryKind, HistorySnapshot};

/// Log entries, and signals, in a part.
const PART: u64 = 64;

/// Ids in a part.
const IDS_PART: u64 = 1024;

/// Signal `n` is written at place `n` modulo this: more than are kept at a time.
const RING: u64 = 1 << 14;

#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) log: Vec<Blob>,
    pub(crate) signals: VecDeque<Signal>,
    /// Number of the last signal that came.
    pub(crate) last_signal: u64,
    /// All that came with an id, in order.
    ids: Vec<Arc<str>>,
    seen: BTreeSet<Arc<str>>,
    pub(crate) dirty: BTreeSet<HistoryKey>,
}

impl History {
    /// Log and signals as the step leaves them.
    pub(crate) fn step(&mut self, step: &Step) {
        if step.snapshot && step.log.is_some() {
            self.log.clear();
        }
        if let Some(entry) = &step.log {
            self.dirty.insert(key(HistoryKind::Log, wide(self.log.len()) / PART));
            self.log.push(entry.clone());
        }
        while self.signals.front().is_some_and(|signal| signal.number <= step.signals_taken) {
            self.signals.pop_front();
        }
    }

    pub(crate) fn signalled(&mut self, signal: Signal) {
        self.last_signal = signal.number;
        self.dirty.insert(key(HistoryKind::Signals, signal.number % RING / PART));
        if !signal.dedupe.is_empty() && self.seen.insert(signal.dedupe.clone()) {
            self.dirty.insert(key(HistoryKind::Ids, wide(self.ids.len()) / IDS_PART));
            self.ids.push(signal.dedupe.clone());
        }
        self.signals.push_back(signal);
    }

    pub(crate) fn knows(&self, dedupe: &str) -> bool {
        self.seen.contains(dedupe)
    }

    pub(crate) fn snapshot(&self) -> HistorySnapshot {
        HistorySnapshot {
            log: wide(self.log.len()),
            last_signal: self.last_signal,
            signals: wide(self.signals.len()),
            ids: wide(self.ids.len()),
        }
    }

    /// Parts that hold something.
    pub(crate) fn keys(&self) -> BTreeSet<HistoryKey> {
        let log = (0..wide(self.log.len()).div_ceil(PART)).map(|part| key(HistoryKind::Log, part));
        let signals = self.signals.iter().map(|signal| key(HistoryKind::Signals, signal.number % RING / PART));
        let ids = (0..wide(self.ids.len()).div_ceil(IDS_PART)).map(|part| key(HistoryKind::Ids, part));
        log.chain(signals).chain(ids).collect()
    }

    pub(crate) fn part(&self, HistoryKey { kind, part }: HistoryKey) -> HistoryEntries {
        let part = u64::from(part);
        match kind {
            HistoryKind::Log => HistoryEntries::Log(slice(&self.log, part, PART).to_vec()),
            HistoryKind::Ids => HistoryEntries::Ids(slice(&self.ids, part, IDS_PART).to_vec()),
            HistoryKind::Signals => {
                let of_part = self.signals.iter().filter(|signal| signal.number % RING / PART == part);
                HistoryEntries::Signals(of_part.cloned().collect())
            }
        }
    }

    /// From parts in order. `None`: something is missing.
    pub(crate) fn restore(header: &HistorySnapshot, parts: Vec<HistoryEntries>) -> Option<History> {
        let mut history = History { last_signal: header.last_signal, ..History::default() };
        let mut signals = Vec::new();
        for entries in parts {
            match entries {
                HistoryEntries::Log(entries) => fill(&mut history.log, entries, header.log),
                HistoryEntries::Ids(entries) => fill(&mut history.ids, entries, header.ids),
                HistoryEntries::Signals(entries) => signals.extend(entries),
            }
        }
        let open = header.last_signal.checked_sub(header.signals)?..header.last_signal;
        signals.retain(|signal| open.start < signal.number && signal.number <= open.end);
        signals.sort_by_key(|signal| signal.number);
        history.signals = signals.into();
        history.seen = history.ids.iter().cloned().collect();
        (history.snapshot() == *header).then_some(history)
    }
}

/// What was there when the header was written; the rest is of a longer time before.
fn fill<T>(all: &mut Vec<T>, entries: Vec<T>, most: u64) {
    let room = most.saturating_sub(wide(all.len()));
    all.extend(entries.into_iter().take(usize::try_from(room).unwrap_or(usize::MAX)));
}

fn slice<T>(all: &[T], part: u64, size: u64) -> &[T] {
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(all.len());
    &all[at(part * size)..at((part + 1) * size)]
}

fn key(kind: HistoryKind, part: u64) -> HistoryKey {
    HistoryKey { kind, part: u32::try_from(part).expect("no log has 2^38 entries") }
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spool_proto::time::Timestamp;

    fn logged(entry: u64, snapshot: bool) -> Step {
        Step { log: Some(entry.to_le_bytes().as_slice().into()), snapshot, ..Step::default() }
    }

    fn signal(number: u64) -> Signal {
        let (name, payload) = ("go".into(), Blob::from(&b"x"[..]));
        Signal { number, name, dedupe: format!("id {number}").into(), payload, at: Timestamp(number) }
    }

    /// Parts as a store has them: the last of each, stale ones too.
    fn checkpoint(history: &mut History, disk: &mut std::collections::BTreeMap<HistoryKey, HistoryEntries>) -> usize {
        let dirty = std::mem::take(&mut history.dirty);
        for key in &dirty {
            disk.insert(*key, history.part(*key));
        }
        let restored = History::restore(&history.snapshot(), disk.values().cloned().collect()).unwrap();
        assert_eq!((&restored.log, &restored.signals, &restored.ids), (&history.log, &history.signals, &history.ids));
        dirty.len()
    }

    #[test]
    fn a_long_log_is_written_a_part_at_a_time_and_a_snapshot_leaves_stale_parts_behind() {
        let (mut history, mut disk) = (History::default(), std::collections::BTreeMap::new());
        (0..1000).for_each(|entry| history.step(&logged(entry, false)));
        assert_eq!(checkpoint(&mut history, &mut disk), 16);
        history.step(&logged(1000, false));
        assert_eq!(checkpoint(&mut history, &mut disk), 1);
        history.step(&logged(7, true));
        assert_eq!(checkpoint(&mut history, &mut disk), 1);
        assert_eq!(history.log.len(), 1);
        (0..100).for_each(|entry| history.step(&logged(entry, false)));
        assert_eq!(checkpoint(&mut history, &mut disk), 2);
    }

    #[test]
    fn signals_go_round_the_ring_and_their_ids_stay() {
        let (mut history, mut disk) = (History::default(), std::collections::BTreeMap::new());
        for number in 1..=40_000 {
            history.signalled(signal(number));
            if number % 5_000 == 0 {
                checkpoint(&mut history, &mut disk);
                history.step(&Step { signals_taken: number - 3, ..Step::default() });
                assert_eq!(history.signals.len(), 3);
                checkpoint(&mut history, &mut disk);
            }
        }
        assert!(history.knows("id 1") && !history.knows("id 40001"));
        disk.pop_last();
        assert!(History::restore(&history.snapshot(), disk.into_values().collect()).is_none(), "ids are missing");
    }
}
