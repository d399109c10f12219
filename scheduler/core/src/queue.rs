//! What waits. One ordered line for each pool, class and shape; equal tasks in a row are one entry, whatever their number. Lines whose
//! head may start are listed in the [`Contest`], which says whose turn it is.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use spool_proto::ids::{JobId, TaskId};
use spool_proto::pool::Hold;
use spool_proto::time::Timestamp;

use crate::asks::{Ask, ShapeSet};
use crate::contest::{Contest, Field};
use crate::job::{Job, Run};
use crate::pools::{PoolIx, Pools};
use crate::shapes::{ShapeId, Shapes};

/// Lower goes first. The order of the fields is the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// With what it has aged.
    priority: Reverse<u8>,
    /// None is last.
    deadline: Timestamp,
    /// Arrival: of the job, or of the topmost that it is a part of.
    whole: JobId,
    /// Longest first.
    weight: Reverse<u64>,
    job: JobId,
    index: u32,
}

impl Key {
    pub(crate) fn new(job: &Job, run: &Run, index: u32) -> Key {
        Key {
            priority: Reverse(job.effective_priority()),
            deadline: job.new.deadline.unwrap_or(Timestamp::MAX),
            whole: job.whole,
            weight: Reverse(run.weight),
            job: job.id,
            index,
        }
    }

    pub(crate) fn job(&self) -> JobId {
        self.job
    }

    pub(crate) fn priority(&self) -> u8 {
        self.priority.0
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

impl Range {
    fn len(self) -> u64 {
        u64::from(self.end - self.start)
    }
}

/// Where tasks stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) pool: PoolIx,
    pub(crate) opportunistic: bool,
    /// Must not be preempted.
    pub(crate) fixed: bool,
    pub(crate) shape: ShapeId,
}

impl Place {
    pub(crate) fn new(job: &Job, shape: ShapeId) -> Place {
        Place { pool: job.pool, opportunistic: job.opportunistic, fixed: !job.new.preemptible, shape }
    }

    fn ask(&self) -> Ask {
        Ask { shape: self.shape, fixed: self.fixed }
    }
}

/// A line, while it has something in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LineIx(u32);

impl LineIx {
    fn index(self) -> usize {
        usize::try_from(self.0).expect("32 bits fit in an index")
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) place: Place,
    field: Field,
    entries: BTreeMap<Key, Range>,
    pub(crate) waiting: u64,
    /// Under which key the contest has it.
    listed: Option<Key>,
    /// Since when it is owed room and finds none.
    pub(crate) short_since: Option<Timestamp>,
    /// Since when it is seen waiting and nothing of it started.
    pub(crate) stuck_since: Option<Timestamp>,
}

impl Line {
    pub(crate) fn head(&self) -> Option<Key> {
        self.entries.first_key_value().map(|(key, _)| *key)
    }

    /// Its first task.
    pub(crate) fn first(&self) -> Option<TaskId> {
        let (key, range) = self.entries.first_key_value()?;
        Some(TaskId { job: key.job, index: range.start })
    }

    /// Jobs that have tasks in it, with how many, best first.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = (JobId, u64)> {
        self.entries.iter().map(|(key, range)| (key.job, range.len()))
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Queue {
    slots: Vec<Option<Line>>,
    free: Vec<LineIx>,
    places: BTreeMap<Place, LineIx>,
    contest: Contest,
    waiting: u64,
    /// Tasks of each shape, over all lines.
    by_shape: Vec<u64>,
}

/// Who would be next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) line: LineIx,
    pub(crate) place: Place,
    pub(crate) task: TaskId,
}

impl Queue {
    pub(crate) fn new(pools: &Pools) -> Queue {
        Queue { contest: Contest::new(pools.len()), ..Queue::default() }
    }

    /// Tasks in all lines.
    pub(crate) fn len(&self) -> u64 {
        self.waiting
    }

    pub(crate) fn waits(&self, shape: ShapeId) -> bool {
        self.by_shape.get(shape.index()).is_some_and(|count| *count > 0)
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = (LineIx, &Line)> {
        (0..).map(LineIx).zip(&self.slots).filter_map(|(ix, line)| Some((ix, line.as_ref()?)))
    }

    pub(crate) fn find(&self, place: &Place) -> Option<LineIx> {
        self.places.get(place).copied()
    }

    pub(crate) fn get(&self, line: LineIx) -> Option<&Line> {
        self.slots.get(line.index())?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, line: LineIx) -> Option<&mut Line> {
        self.slots.get_mut(line.index())?.as_mut()
    }

    pub(crate) fn of_pool(&self, pool: PoolIx) -> impl Iterator<Item = (LineIx, &Line)> {
        let first = Place { pool, opportunistic: false, fixed: false, shape: ShapeId::FIRST };
        let of_pool = self.places.range(first..).take_while(move |(place, _)| place.pool == pool);
        of_pool.filter_map(|(_, line)| Some((*line, self.get(*line)?)))
    }

    // ------------------------------------------------------------ coming and going

    /// Adds tasks `key.index..end`, none of which waits already.
    pub(crate) fn push(&mut self, (pools, shapes): (&Pools, &Shapes), place: Place, key: Key, end: u32) {
        if key.index >= end {
            return;
        }
        let ix = self.line_at(shapes, place);
        self.edit(pools, ix, |line| {
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
        });
    }

    /// Takes one task out, wherever it stands; false if it does not wait.
    pub(crate) fn remove(&mut self, pools: &Pools, place: Place, key: Key) -> bool {
        let Some(ix) = self.find(&place) else { return false };
        let mut found = false;
        self.edit(pools, ix, |line| {
            let Some((&at, range)) = line.entries.range_mut(..=key).next_back() else { return };
            if !at.same_run(key) || key.index < range.start || key.index >= range.end {
                return;
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
        });
        found
    }

    /// Takes out all tasks of a job (by any key of its) in a line.
    pub(crate) fn remove_job(&mut self, pools: &Pools, place: Place, any: Key) -> Vec<std::ops::Range<u32>> {
        let Some(ix) = self.find(&place) else { return Vec::new() };
        let first = Key { weight: Reverse(u64::MAX), job: JobId(0), index: 0, ..any };
        let last = Key { weight: Reverse(0), job: JobId(u64::MAX), index: u32::MAX, ..any };
        let mut taken = Vec::new();
        self.edit(pools, ix, |line| {
            // Other parts of the same whole stand between them.
            let keys = line.entries.range(first..=last).map(|(key, _)| *key).filter(|key| key.job == any.job);
            let keys: Vec<Key> = keys.collect();
            for key in keys {
                let range = line.entries.remove(&key).expect("just listed");
                line.waiting -= range.len();
                taken.push(range.start..range.end);
            }
        });
        taken
    }

    fn line_at(&mut self, shapes: &Shapes, place: Place) -> LineIx {
        if let Some(ix) = self.find(&place) {
            return ix;
        }
        let line = Line {
            place,
            field: self.contest.field(place.opportunistic, shapes.need(place.shape)),
            entries: BTreeMap::new(),
            waiting: 0,
            listed: None,
            short_since: None,
            stuck_since: None,
        };
        let ix = match self.free.pop() {
            Some(ix) => {
                self.slots[ix.index()] = Some(line);
                ix
            }
            None => {
                self.slots.push(Some(line));
                LineIx(u32::try_from(self.slots.len() - 1).expect("fewer lines than tasks"))
            }
        };
        self.places.insert(place, ix);
        ix
    }

    /// Changes a line and keeps the counts and the contest in step. An empty line is dropped.
    fn edit(&mut self, pools: &Pools, ix: LineIx, edit: impl FnOnce(&mut Line)) {
        let Some(line) = self.slots[ix.index()].as_mut() else { return };
        let (place, before) = (line.place, line.waiting);
        edit(line);
        let after = line.waiting;
        if self.by_shape.len() <= place.shape.index() {
            self.by_shape.resize(place.shape.index() + 1, 0);
        }
        let of_shape = &mut self.by_shape[place.shape.index()];
        *of_shape = *of_shape - before + after;
        self.waiting = self.waiting - before + after;
        self.relist(pools, ix);
        if after == 0 {
            self.slots[ix.index()] = None;
            self.places.remove(&place);
            self.free.push(ix);
        }
    }

    fn relist(&mut self, pools: &Pools, ix: LineIx) {
        let Some(line) = self.slots[ix.index()].as_mut() else { return };
        let head = line.head().filter(|_| pools.hold(line.place.pool) == Hold::Open);
        if head != line.listed {
            let before = std::mem::replace(&mut line.listed, head);
            let at = (line.place.pool, line.field, ix, line.place.ask());
            self.contest.list(pools, at, before, head);
        }
    }

    // ------------------------------------------------------------ quota

    /// There is no quota at `by` for the line's next task, nor for anything that fares as it does.
    pub(crate) fn park(&mut self, pools: &Pools, ix: LineIx, by: PoolIx) {
        let Some(&Line { place, field, .. }) = self.get(ix) else { return };
        let fares_alike = |at: &PoolIx| pools.parent(*at).filter(|above| *at != by && !pools.nets_below(*above));
        let highest = std::iter::successors(Some(place.pool), fares_alike).last().expect("a path has an end");
        self.contest.refuse(pools, (highest, field, place.ask()), by, false);
    }

    /// The line's next task must not borrow now: it waits until something in its part of the tree is given back, or all may borrow again.
    pub(crate) fn hold_back(&mut self, pools: &Pools, ix: LineIx) {
        let Some(&Line { place, field, .. }) = self.get(ix) else { return };
        let part = pools.path(place.pool).take_while(|pool| *pool != PoolIx::ROOT).last();
        self.contest.refuse(pools, (place.pool, field, place.ask()), part.unwrap_or(PoolIx::ROOT), true);
    }

    pub(crate) fn let_borrow(&mut self, pools: &Pools) {
        self.contest.let_borrow(pools);
    }

    /// Who has no quota for the line's next task.
    pub(crate) fn parked_on(&self, pools: &Pools, line: &Line) -> Option<PoolIx> {
        self.contest.refused_by(pools, line.place.pool, line.place.ask())
    }

    /// It is listed and not refused.
    pub(crate) fn stands_open(&self, pools: &Pools, line: &Line) -> bool {
        line.listed.is_some() && self.parked_on(pools, line).is_none()
    }

    /// Lines of these shapes that are listed and not refused.
    pub(crate) fn open_mut(&mut self, pools: &Pools, of: &ShapeSet) -> impl Iterator<Item = &mut Line> {
        let contest = &self.contest;
        let refused = |line: &Line| contest.refused_by(pools, line.place.pool, line.place.ask()).is_some();
        let lines = self.slots.iter_mut().flatten();
        lines.filter(move |line| line.listed.is_some() && of.contains(line.place.shape) && !refused(line))
    }

    /// A leaf uses less: what was refused on its path is looked at again.
    pub(crate) fn released(&mut self, (pools, shapes): (&Pools, &Shapes), leaf: PoolIx) {
        self.contest.released(pools, shapes, leaf);
    }

    /// A leaf uses more.
    pub(crate) fn charged(&mut self, leaf: PoolIx) {
        self.contest.changed(leaf);
    }

    /// The fleet has grown or shrunk: shares with it, and what it leaves beside what is kept.
    pub(crate) fn fleet_changed(&mut self, (pools, shapes): (&Pools, &Shapes)) {
        self.contest.all_changed(pools);
        self.contest.released(pools, shapes, PoolIx::ROOT);
    }

    /// Everything stands elsewhere: the tree is another.
    pub(crate) fn rebuild(&mut self, (pools, shapes): (&Pools, &Shapes), moved: impl Fn(PoolIx) -> PoolIx) {
        let old = std::mem::replace(self, Queue::new(pools));
        for line in old.slots.into_iter().flatten() {
            let place = Place { pool: moved(line.place.pool), ..line.place };
            for (key, range) in line.entries {
                self.push((pools, shapes), place, Key { index: range.start, ..key }, range.end);
            }
        }
    }

    /// Ranks as usage is now.
    pub(crate) fn refresh(&mut self, pools: &Pools) {
        self.contest.refresh(pools);
    }

    /// Whether anything that may start is of a shape that is not closed.
    pub(crate) fn has_open(&self, opportunistic: bool, closed: &ShapeSet) -> bool {
        self.contest.has_open(opportunistic, closed)
    }

    /// The best line of a shape that is not closed. After [`Self::refresh`].
    pub(crate) fn best(&self, opportunistic: bool, closed: &ShapeSet) -> Option<Head> {
        let line = self.contest.best(opportunistic, closed)?;
        let found = self.get(line)?;
        Some(Head { line, place: found.place, task: found.first()? })
    }

    /// Tasks that go before the first one of the job in its pool and class.
    pub(crate) fn ahead_of(&self, job: JobId) -> Option<u64> {
        let of_job = self.lines().filter_map(|(_, line)| {
            let key = line.entries.keys().find(|key| key.job == job)?;
            Some((*key, line.place))
        });
        let (first, place) = of_job.min()?;
        let rivals = self.of_pool(place.pool).filter(|(_, line)| line.place.opportunistic == place.opportunistic);
        let ahead = |line: &Line| -> u64 { line.entries.range(..first).map(|(_, range)| range.len()).sum() };
        Some(rivals.map(|(_, line)| ahead(line)).sum())
    }

    /// Every waiting task, in no useful order. For checks.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Place, TaskId)> {
        self.lines().flat_map(|(_, line)| {
            line.entries.iter().flat_map(move |(key, range)| {
                (range.start..range.end).map(move |index| (line.place, TaskId { job: key.job, index }))
            })
        })
    }

    pub(crate) fn check_invariants(&self, (pools, shapes): (&Pools, &Shapes)) {
        let (mut total, mut listed) = (0, Vec::new());
        for (ix, line) in self.lines() {
            let sum: u64 = line.entries.values().map(|range| range.len()).sum();
            assert_eq!(line.waiting, sum, "queue: {line:?} miscounts");
            assert!(sum > 0, "queue: an empty line is kept");
            assert_eq!(self.find(&line.place), Some(ix), "queue: {ix:?} is not where it says");
            total += sum;
            let open = pools.hold(line.place.pool) == Hold::Open;
            assert_eq!(line.listed, line.head().filter(|_| open), "queue: {ix:?} is listed wrongly");
            if let Some(key) = line.listed {
                listed.push((line.place.pool, line.field, ix, line.place.ask(), key));
            }
            let mut last: Option<(Key, Range)> = None;
            for (&key, &range) in &line.entries {
                assert!(range.start < range.end, "queue: empty range in {ix:?}");
                assert!(key.index <= range.start, "queue: key behind its range in {ix:?}");
                if let Some((before, taken)) = last.filter(|(before, _)| before.same_run(key)) {
                    assert!(taken.end <= range.start, "queue: {before:?} and {key:?} overlap in {ix:?}");
                }
                last = Some((key, range));
            }
        }
        assert_eq!(self.waiting, total, "queue: total miscounts");
        assert_eq!(self.by_shape.iter().sum::<u64>(), total, "queue: shapes miscount");
        self.contest.check_invariants(pools, shapes, &listed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use spool_proto::pool::PoolTree;

    use super::*;

    /// The last two jobs are parts of one.
    fn key(job: u64, weight: u64, index: u32) -> Key {
        let (priority, deadline) = (Reverse(50), Timestamp::MAX);
        Key { priority, deadline, whole: JobId(job.min(1)), weight: Reverse(weight), job: JobId(job), index }
    }

    #[test]
    fn parts_of_a_job_take_turns_by_weight() {
        let mut keys = [key(0, 1, 0), key(1, 3, 0), key(1, 1, 1), key(2, 2, 0), key(2, 3, 1)];
        keys.sort_unstable();
        assert_eq!(keys, [key(0, 1, 0), key(1, 3, 0), key(2, 3, 1), key(2, 2, 0), key(1, 1, 1)]);
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
            let pools = Pools::new(&PoolTree::default(), &|_| Hold::Open, &mut shapes.kinds);
            let ids = [shapes.intern(&crate::testing::shape(1)), shapes.intern(&crate::testing::shape(2))];
            let of = |shape: usize, job, index| key(job, u64::from(shape == 0), index);
            let (mut queue, mut model) = (Queue::new(&pools), BTreeSet::new());
            let pool = pools.default_pool();
            let place = |shape: usize| Place { pool, opportunistic: false, fixed: false, shape: ids[shape] };
            let none = ShapeSet::default();
            for op in ops {
                match op {
                    Op::Push { shape, job, from, count } => {
                        // Only what does not wait yet may come.
                        let taken = |index: &u32| model.contains(&(of(shape, job, *index), shape));
                        let free: Vec<u32> = (from..from + count).filter(|index| !taken(index)).collect();
                        for range in free.chunk_by(|a, b| a + 1 == *b) {
                            let end = range[range.len() - 1] + 1;
                            queue.push((&pools, &shapes), place(shape), of(shape, job, range[0]), end);
                            model.extend(range.iter().map(|index| (of(shape, job, *index), shape)));
                        }
                    }
                    Op::Remove { shape, job, index } => {
                        let key = of(shape, job, index);
                        prop_assert_eq!(queue.remove(&pools, place(shape), key), model.remove(&(key, shape)));
                    }
                    Op::TakeHead => {
                        queue.refresh(&pools);
                        let head = queue.best(false, &none);
                        let best = model.pop_first();
                        prop_assert_eq!(
                            head.map(|head| (head.place, head.task.job, head.task.index)),
                            best.map(|(key, shape)| (place(shape), key.job, key.index))
                        );
                        if let Some((key, shape)) = best {
                            prop_assert!(queue.remove(&pools, place(shape), key));
                        }
                    }
                    Op::RemoveJob { shape, job } => {
                        let of_job = |entry: &(Key, usize)| entry.1 == shape && entry.0.job == JobId(job);
                        let expected: Vec<u32> = model.iter().filter(|e| of_job(e)).map(|e| e.0.index).collect();
                        let taken = queue.remove_job(&pools, place(shape), of(shape, job, 0));
                        let taken: Vec<u32> = taken.into_iter().flatten().collect();
                        prop_assert_eq!(taken, expected);
                        model.retain(|entry| !of_job(entry));
                    }
                }
                queue.check_invariants((&pools, &shapes));
                prop_assert_eq!(queue.len(), u64::try_from(model.len()).unwrap_or(0));
            }
        }
    }
}
