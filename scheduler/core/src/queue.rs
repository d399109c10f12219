//! Who is next. One ordered line per shape, and over them the heads of all lines, so that the best waiting task is found without
//! looking at any other. Equal tasks in a row are one entry, whatever their number.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use spool_proto::ids::{JobId, TaskId};
use spool_proto::time::Timestamp;

use crate::job::{Job, Run};
use crate::shapes::ShapeId;

/// Lower goes first. The order of the fields is the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    priority: Reverse<u8>,
    /// None is last.
    deadline: Timestamp,
    /// Arrival.
    job: JobId,
    /// Longest first.
    weight: Reverse<u64>,
    index: u32,
}

impl Key {
    pub(crate) fn new(job: &Job, run: &Run, index: u32) -> Key {
        Key {
            priority: Reverse(job.new.priority),
            deadline: job.new.deadline.unwrap_or(Timestamp::MAX),
            job: job.id,
            weight: Reverse(run.weight),
            index,
        }
    }

    fn same_run(self, other: Key) -> bool {
        Key { index: 0, ..self } == Key { index: 0, ..other }
    }
}

/// Tasks `start..end`; the entry's key has an index of at most `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    start: u32,
    end: u32,
}

#[derive(Debug, Default)]
struct Line {
    entries: BTreeMap<Key, Range>,
    waiting: u64,
    /// Something came since every worker was last found to have no room for the shape.
    open: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    lines: Vec<Line>,
    /// First key of every line that is not empty.
    heads: BTreeSet<(Key, ShapeId)>,
    waiting: u64,
}

impl Queue {
    /// Tasks in all lines.
    pub(crate) fn len(&self) -> u64 {
        self.waiting
    }

    /// Adds tasks `key.index..end`, none of which waits already.
    pub(crate) fn push(&mut self, shape: ShapeId, key: Key, end: u32) {
        if key.index >= end {
            return;
        }
        self.edit(shape, |line| {
            // An entry keeps its key while its front is taken away. Before something goes in that ends behind that key but ahead
            // of what is left, the entry moves to where it is now.
            let last = Key { index: end - 1, ..key };
            while let Some((&old, &range)) = line.entries.range(..=last).next_back() {
                if !old.same_run(key) || range.start < end {
                    break;
                }
                line.entries.remove(&old);
                line.entries.insert(Key { index: range.start, ..old }, range);
            }
            line.entries.insert(key, Range { start: key.index, end });
            line.waiting += u64::from(end - key.index);
            line.open = true;
            i64::from(end - key.index)
        });
    }

    /// Takes one task out, wherever it stands; false if it does not wait.
    pub(crate) fn remove(&mut self, shape: ShapeId, key: Key) -> bool {
        let mut found = false;
        self.edit(shape, |line| {
            let Some((&at, range)) = line.entries.range_mut(..=key).next_back() else { return 0 };
            if !at.same_run(key) || key.index < range.start || key.index >= range.end {
                return 0;
            }
            let Range { start, end } = *range;
            if key.index == start {
                range.start += 1;
            } else {
                range.end = key.index;
            }
            if range.start == range.end {
                line.entries.remove(&at);
            }
            if key.index > start && key.index + 1 < end {
                line.entries.insert(Key { index: key.index + 1, ..key }, Range { start: key.index + 1, end });
            }
            line.waiting -= 1;
            found = true;
            -1
        });
        found
    }

    /// Takes out all tasks of a job (by any key of its) in a line: ranges with the weight they waited under.
    pub(crate) fn remove_job(&mut self, shape: ShapeId, any: Key) -> Vec<(u64, std::ops::Range<u32>)> {
        let first = Key { weight: Reverse(u64::MAX), index: 0, ..any };
        let last = Key { weight: Reverse(0), index: u32::MAX, ..any };
        let mut taken = Vec::new();
        self.edit(shape, |line| {
            let keys: Vec<Key> = line.entries.range(first..=last).map(|(key, _)| *key).collect();
            let mut count = 0;
            for key in keys {
                let range = line.entries.remove(&key).expect("just listed");
                count += u64::from(range.end - range.start);
                taken.push((key.weight.0, range.start..range.end));
            }
            line.waiting -= count;
            -i64::try_from(count).expect("fewer than 2^63 tasks")
        });
        taken
    }

    /// The best head behind `after`, with its line and whether every worker is worth a look (else only those that changed).
    pub(crate) fn next_head(&self, after: Option<(Key, ShapeId)>) -> Option<Head> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let &(key, shape) = self.heads.range((from, Bound::Unbounded)).next()?;
        let line = &self.lines[shape.index()];
        let range = line.entries.get(&key).expect("heads mirror the lines");
        Some(Head { at: (key, shape), task: TaskId { job: key.job, index: range.start }, open: line.open })
    }

    /// No worker has room for the shape now.
    pub(crate) fn close(&mut self, shape: ShapeId) {
        self.lines[shape.index()].open = false;
    }

    /// Tasks that go before the first one of the job in the line. Reads every entry ahead of it.
    pub(crate) fn ahead_of(&self, job: JobId) -> Option<u64> {
        let first = self.lines.iter().flat_map(|line| line.entries.keys()).filter(|key| key.job == job).min()?;
        let ahead = |line: &Line| -> u64 {
            line.entries.range(..first).map(|(_, range)| u64::from(range.end - range.start)).sum()
        };
        Some(self.lines.iter().map(ahead).sum())
    }

    fn edit(&mut self, shape: ShapeId, edit: impl FnOnce(&mut Line) -> i64) {
        if self.lines.len() <= shape.index() {
            self.lines.resize_with(shape.index() + 1, Line::default);
        }
        let line = &mut self.lines[shape.index()];
        let before = line.entries.first_key_value().map(|(key, _)| *key);
        let change = edit(line);
        let after = line.entries.first_key_value().map(|(key, _)| *key);
        self.waiting = self.waiting.checked_add_signed(change).expect("nothing leaves that did not come");
        if before != after {
            before.map(|key| self.heads.remove(&(key, shape)));
            after.map(|key| self.heads.insert((key, shape)));
        }
    }

    /// Every waiting task, in no useful order. For checks.
    pub(crate) fn all(&self) -> impl Iterator<Item = (ShapeId, TaskId)> {
        let ids = self.heads.iter().map(|(_, shape)| *shape);
        ids.flat_map(|shape| {
            self.lines[shape.index()].entries.iter().flat_map(move |(key, range)| {
                (range.start..range.end).map(move |index| (shape, TaskId { job: key.job, index }))
            })
        })
    }

    pub(crate) fn check_invariants(&self) {
        let mut total = 0;
        for (index, line) in self.lines.iter().enumerate() {
            let sum: u64 = line.entries.values().map(|range| u64::from(range.end - range.start)).sum();
            assert_eq!(line.waiting, sum, "queue: line {index} miscounts");
            total += sum;
            let head = line.entries.keys().next();
            let heads: Vec<_> = self.heads.iter().filter(|(_, shape)| shape.index() == index).collect();
            assert_eq!(head, heads.first().map(|(key, _)| key), "queue: wrong head of line {index}");
            assert!(heads.len() <= 1, "queue: two heads of line {index}");
            let mut last: Option<(Key, Range)> = None;
            for (&key, &range) in &line.entries {
                assert!(range.start < range.end, "queue: empty range in line {index}");
                assert!(key.index <= range.start, "queue: key behind its range in line {index}");
                if let Some((before, taken)) = last.filter(|(before, _)| before.same_run(key)) {
                    assert!(taken.end <= range.start, "queue: {before:?} and {key:?} overlap in line {index}");
                }
                last = Some((key, range));
            }
        }
        assert_eq!(self.waiting, total, "queue: total miscounts");
    }
}

#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) at: (Key, ShapeId),
    pub(crate) task: TaskId,
    pub(crate) open: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shapes::Shapes;

    fn key(job: u64, weight: u64, index: u32) -> Key {
        let (priority, deadline) = (Reverse(50), Timestamp::MAX);
        Key { priority, deadline, job: JobId(job), weight: Reverse(weight), index }
    }

    #[derive(Debug, Clone)]
    enum Op {
        Push { shape: usize, job: u64, from: u32, count: u32 },
        Remove { shape: usize, job: u64, index: u32 },
        TakeHead,
        RemoveJob { shape: usize, job: u64 },
    }

    fn op() -> impl Strategy<Value = Op> {
        let (shape, job) = (0..2_usize, 0..3_u64);
        prop_oneof![
            2 => (shape.clone(), job.clone(), 0..30_u32, 0..10_u32)
                .prop_map(|(shape, job, from, count)| Op::Push { shape, job, from, count }),
            2 => (shape.clone(), job.clone(), 0..40_u32)
                .prop_map(|(shape, job, index)| Op::Remove { shape, job, index }),
            3 => Just(Op::TakeHead),
            1 => (shape, job).prop_map(|(shape, job)| Op::RemoveJob { shape, job }),
        ]
    }

    proptest! {
        /// Against a set of single tasks. The two shapes have different weights, as no index may be in two lines.
        #[test]
        fn the_queue_is_a_sorted_set(ops in prop::collection::vec(op(), 0..60)) {
            let mut shapes = Shapes::default();
            let ids = [shapes.intern(&crate::testing::shape(1)), shapes.intern(&crate::testing::shape(2))];
            let of = |shape: usize, job, index| key(job, u64::from(shape == 0), index);
            let (mut queue, mut model) = (Queue::default(), BTreeSet::new());
            for op in ops {
                match op {
                    Op::Push { shape, job, from, count } => {
                        // Only what does not wait yet may come.
                        let taken = |index: &u32| model.contains(&(of(shape, job, *index), shape));
                        let free: Vec<u32> = (from..from + count).filter(|index| !taken(index)).collect();
                        for range in free.chunk_by(|a, b| a + 1 == *b) {
                            queue.push(ids[shape], of(shape, job, range[0]), range[range.len() - 1] + 1);
                            model.extend(range.iter().map(|index| (of(shape, job, *index), shape)));
                        }
                    }
                    Op::Remove { shape, job, index } => {
                        let key = of(shape, job, index);
                        prop_assert_eq!(queue.remove(ids[shape], key), model.remove(&(key, shape)));
                    }
                    Op::TakeHead => {
                        let head = queue.next_head(None);
                        let best = model.pop_first();
                        prop_assert_eq!(
                            head.as_ref().map(|head| (head.at.1, head.task.job, head.task.index)),
                            best.map(|(key, shape)| (ids[shape], key.job, key.index))
                        );
                        if let Some((key, shape)) = best {
                            prop_assert!(queue.remove(ids[shape], key));
                        }
                    }
                    Op::RemoveJob { shape, job } => {
                        let of_job = |entry: &(Key, usize)| entry.1 == shape && entry.0.job == JobId(job);
                        let expected: Vec<u32> = model.iter().filter(|e| of_job(e)).map(|e| e.0.index).collect();
                        let taken = queue.remove_job(ids[shape], of(shape, job, 0));
                        let taken: Vec<u32> = taken.into_iter().flat_map(|(_, range)| range).collect();
                        prop_assert_eq!(taken, expected);
                        model.retain(|entry| !of_job(entry));
                    }
                }
                queue.check_invariants();
                prop_assert_eq!(queue.len(), u64::try_from(model.len()).unwrap_or(0));
            }
        }
    }
}
