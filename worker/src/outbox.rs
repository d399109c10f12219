//! Reports on their way to the server, kept until it can be believed to have them.

use std::collections::{BTreeMap, HashSet, VecDeque};

use spool_proto::wire::v1::{self, report};

use crate::executor::Advance;

/// Payload bytes of a message of reports, about: well below what a gRPC server takes by default (4 MiB).
const BATCH_BYTES: usize = 512 << 10;
/// Reports of a message at most.
const BATCH: usize = 4096;
/// Sent verdicts kept. A stream may break with messages in it, and the protocol knows no receipt; more than these are not
/// under way at once unless the calls are so short that repeating them costs nothing.
const KEPT: usize = 1024;

/// One lease: a task under a fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub job: u64,
    pub task: u32,
    pub fence: u64,
}

impl Key {
    fn of(report: &v1::Report) -> Key {
        Key { job: report.job, task: report.task, fence: report.fence }
    }

    pub fn held(self, running: bool) -> v1::Held {
        let task = spool_proto::ids::TaskId { job: spool_proto::ids::JobId(self.job), index: self.task };
        v1::Held { task_id: task.to_string(), fence: self.fence, running }
    }

    /// `None`: the server wrote no task id.
    pub fn of_held(held: &v1::Held) -> Option<Key> {
        let task: spool_proto::ids::TaskId = held.task_id.parse().ok()?;
        Some(Key { job: task.job.0, task: task.index, fence: held.fence })
    }
}

#[derive(Debug, Default)]
pub struct Outbox {
    /// In order.
    waiting: VecDeque<v1::Report>,
    /// The newest word of each call; an older one is of no use to anybody.
    advances: BTreeMap<Key, Advance>,
    /// Verdicts sent, oldest first.
    sent: VecDeque<v1::Report>,
}

impl Outbox {
    pub fn push(&mut self, key: Key, kind: report::Kind) {
        if is_verdict(&kind) {
            self.advances.remove(&key);
        }
        let Key { job, task, fence } = key;
        self.waiting.push_back(v1::Report { job, task, fence, kind: Some(kind) });
    }

    pub fn advance(&mut self, key: Key, advance: Advance) {
        self.advances.insert(key, advance);
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.advances.is_empty()
    }

    /// The next message; `None` when there is nothing to say.
    pub fn batch(&mut self) -> Option<v1::Reports> {
        let mut reports = Vec::new();
        let mut bytes = 0;
        while reports.len() < BATCH && bytes < BATCH_BYTES {
            let Some(report) = self.waiting.pop_front() else { break };
            if let Some(kind) = &report.kind {
                bytes += weight(kind);
                if is_verdict(kind) {
                    // Cheap: an answer's bytes are shared.
                    self.sent.push_back(report.clone());
                }
            }
            reports.push(report);
        }
        if self.waiting.is_empty() {
            for (Key { job, task, fence }, Advance { frames, bytes, out_time_us }) in std::mem::take(&mut self.advances)
            {
                let kind = report::Kind::Advanced(v1::Advanced { frames, bytes, out_time_us });
                reports.push(v1::Report { job, task, fence, kind: Some(kind) });
            }
        }
        let over = self.sent.len().saturating_sub(KEPT);
        self.sent.drain(..over);
        (!reports.is_empty()).then_some(v1::Reports { reports })
    }

    /// A new stream: what was sent on the old one may have been lost, so it is said again. The fence makes a repetition
    /// harmless.
    pub fn rewind(&mut self) {
        self.sent.append(&mut self.waiting);
        self.waiting = std::mem::take(&mut self.sent);
    }

    /// Leases whose verdict the server may not have.
    pub fn unsettled(&self) -> impl Iterator<Item = Key> {
        self.sent.iter().chain(&self.waiting).filter(|report| report.kind.as_ref().is_some_and(is_verdict)).map(Key::of)
    }

    /// The server does not know these leases any more.
    pub fn forget(&mut self, keys: &HashSet<Key>) {
        self.waiting.retain(|report| !keys.contains(&Key::of(report)));
        self.sent.retain(|report| !keys.contains(&Key::of(report)));
        self.advances.retain(|key, _| !keys.contains(key));
    }
}

fn is_verdict(kind: &report::Kind) -> bool {
    match kind {
        report::Kind::Finished(_) | report::Kind::Failed(_) | report::Kind::Returned(_) => true,
        report::Kind::Started(_) | report::Kind::Advanced(_) => false,
    }
}

fn weight(kind: &report::Kind) -> usize {
    match kind {
        report::Kind::Finished(finished) => finished.answer.len(),
        report::Kind::Failed(failure) => failure.message.len() + failure.evidence.len(),
        report::Kind::Started(_) | report::Kind::Advanced(_) | report::Kind::Returned(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(task: u32) -> Key {
        Key { job: 1, task, fence: u64::from(task) }
    }

    fn finished(answer: &'static [u8]) -> report::Kind {
        report::Kind::Finished(v1::Finished { answer: answer.into(), ..v1::Finished::default() })
    }

    fn tasks(reports: Option<v1::Reports>) -> Vec<u32> {
        reports.map(|r| r.reports.iter().map(|r| r.task).collect()).unwrap_or_default()
    }

    #[test]
    fn verdicts_are_said_again_on_a_new_stream_until_forgotten() {
        let mut outbox = Outbox::default();
        outbox.push(key(1), report::Kind::Started(v1::Started { at_us: 1, ..Default::default() }));
        outbox.push(key(1), finished(b""));
        assert_eq!(tasks(outbox.batch()), [1, 1]);
        outbox.push(key(2), finished(b""));
        assert_eq!(outbox.unsettled().collect::<Vec<_>>(), [key(1), key(2)]);
        outbox.rewind();
        assert_eq!(tasks(outbox.batch()), [1, 2], "without the start, in order");
        outbox.rewind();
        outbox.forget(&[key(1)].into());
        assert_eq!(tasks(outbox.batch()), [2]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn progress_is_only_the_newest_and_not_after_the_verdict() {
        let mut outbox = Outbox::default();
        outbox.advance(key(1), Advance { frames: 1, ..Advance::default() });
        outbox.advance(key(1), Advance { frames: 2, ..Advance::default() });
        outbox.advance(key(2), Advance::default());
        outbox.push(key(2), finished(b""));
        let reports = outbox.batch().unwrap().reports;
        assert_eq!(reports.len(), 2);
        let advanced = v1::Advanced { frames: 2, ..v1::Advanced::default() };
        assert_eq!(reports[1].kind, Some(report::Kind::Advanced(advanced)));
        assert_eq!(outbox.batch(), None);
    }

    #[test]
    fn big_answers_are_split_over_messages() {
        static BIG: [u8; BATCH_BYTES] = [0; BATCH_BYTES];
        let mut outbox = Outbox::default();
        for task in 0..3 {
            outbox.push(key(task), finished(&BIG));
        }
        assert_eq!(tasks(outbox.batch()), [0]);
        assert_eq!(tasks(outbox.batch()), [1]);
        assert_eq!(tasks(outbox.batch()), [2]);
    }

    #[test]
    fn held_leases_read_back() {
        assert_eq!(Key::of_held(&key(3).held(true)), Some(key(3)));
    }
}
