//! Pools as the books see them: usage, demand and what came of both.

use std::collections::HashMap;

use spool_proto::pool::{PoolName, PoolSpec, PoolTree};
use spool_proto::time::{Span, Timestamp};

use super::owed::Owed;
use crate::kinds::{Amounts, Kinds, MOST};
use crate::num::float;

/// Who always had something in its queue for this long competes for more, whatever it has.
const HUNGRY: Span = Span::from_secs(60);

#[derive(Debug)]
pub(crate) struct Pools {
    /// In order of name at the start; what edits add comes behind.
    pub all: Vec<Pool>,
    by_name: HashMap<PoolName, usize>,
    needs: Vec<Amounts>,
}

#[derive(Debug)]
pub(crate) struct Pool {
    pub name: PoolName,
    pub leaf: bool,
    /// Itself and those above it, the root last.
    path: Vec<usize>,
    pub spec: PoolSpec,
    pub guarantee: Amounts,
    borrow: [Option<u64>; MOST],
    guaranteed: bool,
    /// By shape, of the pool and all below it: tasks in the queue, and leased ones without room yet. Standard ones only: what can wait
    /// is owed nothing.
    queued: Vec<u32>,
    ready: Vec<u32>,
    pub queued_total: u64,
    queued_standard: u64,
    /// Since when there is always something in its queue.
    hungry_since: Timestamp,
    /// What its leases need, and what its calls occupy.
    pub leased: Amounts,
    pub running: Amounts,
    /// By leases (as quotas count), and by what really has room.
    pub owed: Owed,
    pub owed_room: Owed,
    // What follows is of leaves only.
    pub tasks: u64,
    pub done: u64,
    pub failed: u64,
    pub failed_attempts: u64,
    pub jobs: u64,
    pub jobs_done: u64,
    pub jobs_failed: u64,
    pub late_jobs: u64,
    pub refused: u64,
    pub moved_away: u64,
    pub preempted: u64,
    pub cold_starts: u64,
    pub used_core_s: f64,
    pub wasted_core_s: f64,
    /// Microseconds: from queued to the first start, from room to start, from submission to end.
    pub waits: Vec<u64>,
    pub starts: Vec<u64>,
    pub turnarounds: Vec<u64>,
}

impl Pools {
    pub fn new(kinds: &Kinds, needs: &[Amounts], tree: &PoolTree) -> Pools {
        let mut pools = Pools { all: Vec::new(), by_name: HashMap::new(), needs: needs.to_vec() };
        pools.apply(kinds, tree, needs, Timestamp::ZERO);
        pools
    }

    /// The tree is this from now on. Pools that it lacks stay, without a guarantee.
    pub fn apply(&mut self, kinds: &Kinds, tree: &PoolTree, needs: &[Amounts], now: Timestamp) {
        for name in tree.pools.keys().filter(|name| !self.by_name.contains_key(*name)).cloned().collect::<Vec<_>>() {
            self.by_name.insert(name.clone(), self.all.len());
            self.all.push(Pool::new(name, needs.len()));
        }
        for at in 0..self.all.len() {
            let name = self.all[at].name.clone();
            let above = std::iter::successors(Some(name.clone()), PoolName::parent);
            let path = above.filter_map(|name| self.by_name.get(&name).copied()).collect();
            let spec = tree.pools.get(&name).cloned().unwrap_or_default();
            // With something kept back below it, what a parent is owed is no plain sum.
            let kept = tree.pools.iter().any(|(other, spec)| other.is_within(&name) && !spec.lend.is_empty());
            let pool = &mut self.all[at];
            (pool.path, pool.leaf) = (path, tree.is_leaf(&name));
            pool.guarantee = kinds.amounts(&spec.guarantee);
            pool.guaranteed = pool.guarantee != Amounts::default() && !name.is_root() && (pool.leaf || !kept);
            for (limit, kind) in pool.borrow.iter_mut().zip(kinds.names()) {
                *limit = spec.borrow.get(kind).copied();
            }
            pool.spec = spec;
            pool.judge(&self.needs, now);
        }
    }

    /// Names no pool knows are the root's.
    pub fn find(&self, name: &PoolName) -> usize {
        self.by_name.get(name).or_else(|| self.by_name.get(&PoolName::root())).copied().unwrap_or(0)
    }

    /// To a leaf and all above it.
    pub fn change(&mut self, leaf: usize, now: Timestamp, with: impl Fn(&mut Pool)) {
        for step in 0..self.all[leaf].path.len() {
            let at = self.all[leaf].path[step];
            let pool = &mut self.all[at];
            with(pool);
            if pool.guaranteed {
                pool.judge(&self.needs, now);
            }
        }
    }

    /// Jain's index over the weighted shares of what is borrowed, of siblings that have wanted more for a minute: 1 is fair, 1/n is one has all. `None`:
    /// there are no two such.
    pub fn fairness(&self, now: Timestamp, capacity: &Amounts) -> Option<f64> {
        let mut by_parent: HashMap<usize, Vec<f64>> = HashMap::new();
        for pool in &self.all {
            if let Some(parent) = pool.path.get(1)
                && now.since(pool.hungry_since) >= HUNGRY
                && pool.contends(&self.needs)
            {
                by_parent.entry(*parent).or_default().push(pool.share(capacity));
            }
        }
        let groups = by_parent.into_values().filter_map(|shares| {
            let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
            (shares.len() > 1 && sum > 0.0).then(|| sum * sum / (float(crate::num::count(shares.len())) * squares))
        });
        // The worst group: in any order the same.
        groups.min_by(f64::total_cmp)
    }
}

impl Pool {
    fn new(name: PoolName, shapes: usize) -> Pool {
        Pool {
            name,
            leaf: true,
            path: Vec::new(),
            spec: PoolSpec::default(),
            guarantee: Amounts::default(),
            borrow: [None; MOST],
            guaranteed: false,
            queued: vec![0; shapes],
            ready: vec![0; shapes],
            queued_total: 0,
            queued_standard: 0,
            hungry_since: Timestamp::ZERO,
            leased: Amounts::default(),
            running: Amounts::default(),
            owed: Owed::default(),
            owed_room: Owed::default(),
            tasks: 0,
            done: 0,
            failed: 0,
            failed_attempts: 0,
            jobs: 0,
            jobs_done: 0,
            jobs_failed: 0,
            late_jobs: 0,
            refused: 0,
            moved_away: 0,
            preempted: 0,
            cold_starts: 0,
            used_core_s: 0.0,
            wasted_core_s: 0.0,
            waits: Vec::new(),
            starts: Vec::new(),
            turnarounds: Vec::new(),
        }
    }

    pub fn queue(&mut self, now: Timestamp, shape: usize, standard: bool, by: i64) {
        self.queued_total = self.queued_total.saturating_add_signed(by);
        if standard {
            if self.queued_standard == 0 {
                self.hungry_since = now;
            }
            self.queued_standard = self.queued_standard.saturating_add_signed(by);
            self.queued[shape] = shifted(self.queued[shape], by);
        }
    }

    pub fn ready(&mut self, shape: usize, standard: bool, by: i64) {
        if standard {
            self.ready[shape] = shifted(self.ready[shape], by);
        }
    }

    fn judge(&mut self, needs: &[Amounts], now: Timestamp) {
        let (mut owed, mut owed_room) = (false, false);
        if self.guaranteed {
            for (shape, need) in needs.iter().enumerate() {
                let (queued, ready) = (self.queued[shape] > 0, self.ready[shape] > 0);
                if queued || ready {
                    owed |= queued && self.within(need, &self.leased);
                    owed_room |= self.within(need, &self.running);
                }
            }
        }
        self.owed.is(now, owed);
        self.owed_room.is(now, owed_room);
    }

    /// With one more of it, would the pool still be within its guarantee in all it is guaranteed of what that needs?
    fn within(&self, need: &Amounts, used: &Amounts) -> bool {
        let mut any = false;
        for column in 0..MOST {
            if need.0[column] > 0 && self.guarantee.0[column] > 0 {
                any = true;
                if used.0[column] + need.0[column] > self.guarantee.0[column] {
                    return false;
                }
            }
        }
        any
    }

    /// Wants more than its guarantee, and may have it.
    fn contends(&self, needs: &[Amounts]) -> bool {
        let wants = |(shape, need): (usize, &Amounts)| {
            let may = |column: usize| {
                let most = self.borrow[column].map(|borrow| self.guarantee.0[column].saturating_add(borrow));
                most.is_none_or(|most| self.leased.0[column] + need.0[column] <= most)
            };
            self.queued[shape] > 0 && !self.within(need, &self.leased) && (0..MOST).all(may)
        };
        self.spec.weight > 0 && self.queued_standard > 0 && needs.iter().enumerate().any(wants)
    }

    fn share(&self, capacity: &Amounts) -> f64 {
        let of = |column: usize| {
            let borrowed = self.leased.0[column].saturating_sub(self.guarantee.0[column]);
            float(borrowed) / float(capacity.0[column].max(1))
        };
        (0..MOST).map(of).fold(0.0, f64::max) / f64::from(self.spec.weight.max(1))
    }
}

fn shifted(count: u32, by: i64) -> u32 {
    let by = i32::try_from(by).unwrap_or(if by > 0 { i32::MAX } else { i32::MIN });
    count.saturating_add_signed(by)
}
