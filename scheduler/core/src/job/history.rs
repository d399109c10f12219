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

/// A log that is shorter than this has room for no more than it holds: most logs are, and most jobs wait.
const SHORT: usize = 8;

/// Signal `n` is written at place `n` modulo this: more than are kept at a time.
const RING: u64 = 1 << 14;

/// Most jobs keep a short log and hear nothing: this is all that they take.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    log: Vec<Blob>,
    /// Entries that a checkpoint has.
    log_written: u64,
    heard: Option<Box<Heard>>,
}

/// Of a job that was sent a signal.
#[derive(Debug, Clone, Default)]
struct Heard {
    signals: VecDeque<Signal>,
    /// Number of the last signal that came.
    last: u64,
    /// All ids that came, in order.
    ids: Vec<Arc<str>>,
    seen: BTreeSet<Arc<str>>,
    /// The last signal that a checkpoint has, and how many ids.
    last_written: u64,
    ids_written: u64,
}

impl History {
    pub(crate) fn log(&self) -> &[Blob] {
        &self.log
    }

    /// Those that are not taken.
    pub(crate) fn signals(&self) -> &VecDeque<Signal> {
        static NONE: VecDeque<Signal> = VecDeque::new();
        self.heard.as_ref().map_or(&NONE, |heard| &heard.signals)
    }

    /// Number of the last signal that came.
    pub(crate) fn last_signal(&self) -> u64 {
        self.heard.as_ref().map_or(0, |heard| heard.last)
    }

    fn ids(&self) -> &[Arc<str>] {
        self.heard.as_ref().map_or(&[], |heard| &heard.ids)
    }

    /// Log and signals as the step leaves them.
    pub(crate) fn step(&mut self, step: &Step) {
        if let Some(entry) = &step.log {
            if step.snapshot {
                (self.log, self.log_written) = (Vec::new(), 0);
            }
            if self.log.len() < SHORT {
                self.log.reserve_exact(1);
            }
            self.log.push(entry.clone());
        }
        let Some(heard) = &mut self.heard else { return };
        while heard.signals.front().is_some_and(|signal| signal.number <= step.signals_taken) {
            heard.signals.pop_front();
        }
    }

    pub(crate) fn signalled(&mut self, signal: Signal) {
        let heard = self.heard.get_or_insert_default();
        heard.last = signal.number;
        if !signal.dedupe.is_empty() && heard.seen.insert(signal.dedupe.clone()) {
            heard.ids.push(signal.dedupe.clone());
        }
        heard.signals.push_back(signal);
    }

    pub(crate) fn knows(&self, dedupe: &str) -> bool {
        self.heard.as_ref().is_some_and(|heard| heard.seen.contains(dedupe))
    }

    pub(crate) fn snapshot(&self) -> HistorySnapshot {
        HistorySnapshot {
            log: wide(self.log.len()),
            last_signal: self.last_signal(),
            signals: wide(self.signals().len()),
            ids: wide(self.ids().len()),
        }
    }

    /// Parts that hold something.
    pub(crate) fn keys(&self) -> BTreeSet<HistoryKey> {
        self.keys_after(0, 0, 0)
    }

    /// Parts that hold something a checkpoint does not have.
    pub(crate) fn dirty(&self) -> BTreeSet<HistoryKey> {
        let (last, ids) = self.heard.as_ref().map_or((0, 0), |heard| (heard.last_written, heard.ids_written));
        self.keys_after(self.log_written, last, ids)
    }

    /// A checkpoint has it all.
    pub(crate) fn written(&mut self) {
        self.log_written = wide(self.log.len());
        if let Some(heard) = &mut self.heard {
            (heard.last_written, heard.ids_written) = (heard.last, wide(heard.ids.len()));
        }
    }

    /// Of parts with entries of the log, signals and ids behind these.
    fn keys_after(&self, log: u64, signal: u64, ids: u64) -> BTreeSet<HistoryKey> {
        let log = parts(HistoryKind::Log, log, wide(self.log.len()), PART);
        let ids = parts(HistoryKind::Ids, ids, wide(self.ids().len()), IDS_PART);
        let signals = self.signals().iter().filter(|kept| kept.number > signal);
        let signals = signals.map(|signal| key(HistoryKind::Signals, signal.number % RING / PART));
        log.chain(signals).chain(ids).collect()
    }

    pub(crate) fn part(&self, HistoryKey { kind, part }: HistoryKey) -> HistoryEntries {
        let part = u64::from(part);
        match kind {
            HistoryKind::Log => HistoryEntries::Log(slice(&self.log, part, PART).to_vec()),
            HistoryKind::Ids => HistoryEntries::Ids(slice(self.ids(), part, IDS_PART).to_vec()),
            HistoryKind::Signals => {
                let of_part = self.signals().iter().filter(|signal| signal.number % RING / PART == part);
                HistoryEntries::Signals(of_part.cloned().collect())
            }
        }
    }

    /// From parts in order. `None`: something is missing. It counts as written.
    pub(crate) fn restore(header: &HistorySnapshot, parts: Vec<HistoryEntries>) -> Option<History> {
        let mut history = History::default();
        let (mut signals, mut ids) = (Vec::new(), Vec::new());
        for entries in parts {
            match entries {
                HistoryEntries::Log(entries) => fill(&mut history.log, entries, header.log),
                HistoryEntries::Ids(entries) => fill(&mut ids, entries, header.ids),
                HistoryEntries::Signals(entries) => signals.extend(entries),
            }
        }
        if header.last_signal > 0 {
            let open = header.last_signal.checked_sub(header.signals)?..header.last_signal;
            signals.retain(|signal| open.start < signal.number && signal.number <= open.end);
            signals.sort_by_key(|signal| signal.number);
            let seen = ids.iter().cloned().collect();
            let heard = Heard { signals: signals.into(), last: header.last_signal, ids, seen, ..Heard::default() };
            history.heard = Some(Box::new(heard));
        }
        history.log.shrink_to_fit();
        history.written();
        (history.snapshot() == *header).then_some(history)
    }
}

/// Parts with entries from `from` up to `to`.
fn parts(kind: HistoryKind, from: u64, to: u64, size: u64) -> impl Iterator<Item = HistoryKey> {
    let some = if from < to { from / size..to.div_ceil(size) } else { 0..0 };
    some.map(move |part| key(kind, part))
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

    /// A million of them may wait for a day.
    #[test]
    fn a_job_takes_no_more_than_it_did() {
        assert!(size_of::<crate::job::Job>() <= 640, "{}", size_of::<crate::job::Job>());
        assert!(size_of::<History>() <= 40, "{}", size_of::<History>());
    }

    /// Parts as a store has them: the last of each, stale ones too.
    fn checkpoint(history: &mut History, disk: &mut std::collections::BTreeMap<HistoryKey, HistoryEntries>) -> usize {
        let dirty = history.dirty();
        history.written();
        for key in &dirty {
            disk.insert(*key, history.part(*key));
        }
        let restored = History::restore(&history.snapshot(), disk.values().cloned().collect()).unwrap();
        assert_eq!((restored.log(), restored.signals()), (history.log(), history.signals()));
        assert_eq!(restored.ids(), history.ids());
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
                assert_eq!(history.signals().len(), 3);
                checkpoint(&mut history, &mut disk);
            }
        }
        assert!(history.knows("id 1") && !history.knows("id 40001"));
        disk.pop_last();
        assert!(History::restore(&history.snapshot(), disk.into_values().collect()).is_none(), "ids are missing");
    }
}
