//! The slow oracle: the algebra of `src/pools/README.md`, word by word, by recursion over the tree. Nothing is kept between two
//! questions but the tree itself and what the leaves use. It shares no code with the engine.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spool_proto::ids::{JobId, TaskId};
use spool_proto::pool::{Hold, PoolName, PoolSpec, PoolTree};
use spool_proto::resources::Resources;
use spool_proto::time::Timestamp;

/// A node of the tree, by its place in [`Quota::nodes`].
pub type Node = usize;

#[derive(Debug, Clone)]
struct Pool {
    name: PoolName,
    spec: Arc<PoolSpec>,
    parent: Option<Node>,
    children: Arc<[Node]>,
    hold: Hold,
    /// Of a leaf: what its leased tasks need.
    used: Resources,
}

#[derive(Debug, Clone)]
pub struct Quota {
    nodes: Vec<Pool>,
    /// What all workers that take leases have.
    pub fleet: Resources,
}

/// `borrowed / (lendable × weight)`; a divisor of zero is infinity.
#[derive(Debug, Clone, Copy)]
pub struct Share(u128, u128);

impl Ord for Share {
    fn cmp(&self, other: &Share) -> Ordering {
        match (self.1, other.1) {
            (0, 0) => Ordering::Equal,
            (0, _) => Ordering::Greater,
            (_, 0) => Ordering::Less,
            (mine, theirs) => (self.0 * theirs).cmp(&(other.0 * mine)),
        }
    }
}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Share) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Share) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Share {}

/// The order within a leaf. Lower goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub priority: Reverse<u8>,
    pub deadline: Timestamp,
    pub job: JobId,
    pub weight: Reverse<u64>,
    pub index: u32,
}

/// The first task of a line: of those that wait in one pool and class and are alike.
#[derive(Debug, Clone)]
pub struct Head {
    pub task: TaskId,
    pub pool: Node,
    pub opportunistic: bool,
    pub need: Resources,
    pub key: Key,
    /// It is admitted, its pool is open, and some worker has room for it now.
    pub could_start: bool,
}

type Profile = BTreeSet<String>;

impl Head {
    fn profile(&self) -> Profile {
        kinds(&self.need)
    }
}

fn kinds(need: &Resources) -> BTreeSet<String> {
    need.iter().map(|(name, _)| name.to_owned()).collect()
}

impl Quota {
    pub fn new(tree: &PoolTree, holds: &BTreeMap<PoolName, Hold>) -> Quota {
        let names: Vec<&PoolName> = tree.pools.keys().collect();
        let node = |name: &PoolName| names.iter().position(|other| *other == name).unwrap();
        let pool = |name: &&PoolName| Pool {
            name: (*name).clone(),
            spec: tree.pools[*name].clone().into(),
            parent: name.parent().map(|parent| node(&parent)),
            children: tree.children(name).map(node).collect(),
            hold: holds.get(*name).copied().unwrap_or_default(),
            used: Resources::ZERO,
        };
        Quota { nodes: names.iter().map(pool).collect(), fleet: Resources::ZERO }
    }

    pub fn find(&self, name: &PoolName) -> Node {
        self.nodes.iter().position(|pool| pool.name == *name).unwrap()
    }

    pub fn name(&self, node: Node) -> &PoolName {
        &self.nodes[node].name
    }

    pub fn all(&self) -> std::ops::Range<Node> {
        0..self.nodes.len()
    }

    fn root(&self) -> Node {
        self.all().find(|node| self.nodes[*node].parent.is_none()).unwrap()
    }

    pub fn is_leaf(&self, node: Node) -> bool {
        self.nodes[node].children.is_empty()
    }

    fn is_root(&self, node: Node) -> bool {
        self.nodes[node].parent.is_none()
    }

    /// From the node itself to the root.
    pub fn path(&self, node: Node) -> Vec<Node> {
        std::iter::successors(Some(node), |at| self.nodes[*at].parent).collect()
    }

    /// Every kind of resource anybody names.
    pub fn kinds(&self) -> BTreeSet<String> {
        let of = |pool: &Pool| {
            let mut all = kinds(&pool.spec.guarantee);
            all.extend(kinds(&pool.used));
            all.extend(pool.spec.borrow.keys().cloned());
            all
        };
        self.nodes.iter().flat_map(of).collect()
    }

    /// Neither it nor one above it is held or draining.
    pub fn is_open(&self, node: Node) -> bool {
        self.path(node).iter().all(|at| self.nodes[*at].hold == Hold::Open)
    }

    pub fn charge(&mut self, leaf: Node, need: &Resources) {
        assert!(self.is_leaf(leaf), "{} is divided", self.name(leaf));
        self.nodes[leaf].used.add(need);
    }

    pub fn release(&mut self, leaf: Node, need: &Resources) {
        assert!(need.fits_in(&self.nodes[leaf].used), "{} gives back more than it has", self.name(leaf));
        self.nodes[leaf].used.sub(need);
    }

    // ------------------------------------------------------------ the algebra

    fn guarantee(&self, n: Node, r: &str) -> u64 {
        self.nodes[n].spec.guarantee.get(r)
    }

    /// What it has beyond its children's.
    fn own(&self, n: Node, r: &str) -> u64 {
        self.guarantee(n, r).saturating_sub(self.below(n, |child| self.held(child, r)))
    }

    fn below(&self, n: Node, of: impl Fn(Node) -> u64) -> u64 {
        self.nodes[n].children.iter().map(|child| of(*child)).sum()
    }

    pub fn held(&self, n: Node, r: &str) -> u64 {
        self.own(n, r) + self.below(n, |child| self.held(child, r))
    }

    pub fn subtree(&self, n: Node, r: &str) -> u64 {
        self.own(n, r) + self.below(n, |child| self.up(child, r))
    }

    /// What only it can use.
    fn local(&self, n: Node, r: &str) -> u64 {
        self.nodes[n].spec.lend.get(r).map_or(0, |lend| self.subtree(n, r).saturating_sub(*lend))
    }

    /// `subtree − local`.
    fn up(&self, n: Node, r: &str) -> u64 {
        let subtree = self.subtree(n, r);
        self.nodes[n].spec.lend.get(r).map_or(subtree, |lend| subtree.min(*lend))
    }

    pub fn usage(&self, n: Node, r: &str) -> u64 {
        if self.is_leaf(n) {
            return self.nodes[n].used.get(r);
        }
        self.below(n, |child| self.usage(child, r).saturating_sub(self.local(child, r)))
    }

    pub fn real(&self, n: Node, r: &str) -> u64 {
        self.nodes[n].used.get(r) + self.below(n, |child| self.real(child, r))
    }

    pub fn borrowed(&self, n: Node, r: &str) -> u64 {
        self.usage(n, r).saturating_sub(self.subtree(n, r))
    }

    /// Of what lies idle in it, at most what its siblings borrow together.
    pub fn lent(&self, n: Node, r: &str) -> u64 {
        let idle = self.subtree(n, r).saturating_sub(self.usage(n, r));
        let beside = self.nodes[n].parent.map_or(0, |parent| self.below(parent, |child| self.borrowed(child, r)));
        idle.min(beside - self.nodes[n].parent.map_or(0, |_| self.borrowed(n, r)))
    }

    /// `None`: as much as those above let it.
    pub fn limit(&self, n: Node, r: &str) -> Option<u64> {
        if self.is_root(n) {
            let (ceiling, fleet) = (self.guarantee(n, r), self.fleet.get(r));
            let is_kept = (0..self.nodes.len()).any(|n| self.local(n, r) > 0) && fleet > 0;
            let left = || fleet.saturating_sub(self.below(n, |child| self.held(child, r)));
            return match (ceiling, is_kept) {
                (1.., _) => Some(self.subtree(n, r)),
                (0, true) => Some(left() + self.below(n, |child| self.up(child, r))),
                (0, false) => None,
            };
        }
        self.nodes[n].spec.borrow.get(r).map(|borrow| self.subtree(n, r) + borrow)
    }

    fn lendable(&self, r: &str) -> u64 {
        let fleet = self.fleet.get(r);
        self.limit(self.root(), r).map_or(fleet, |ceiling| fleet.min(ceiling)).max(1)
    }

    // ------------------------------------------------------------ admission

    /// What is in the way of a task of this need, if anything.
    pub fn refuses(&self, leaf: Node, need: &Resources, fixed: bool) -> Option<String> {
        let mut with = self.clone();
        with.charge(leaf, need);
        for (r, amount) in need.iter() {
            for n in self.path(leaf) {
                // A node that the task adds nothing to is not asked: it stays in what only those below can use.
                let (before, after) = (self.usage(n, r), with.usage(n, r));
                if let Some(limit) = self.limit(n, r).filter(|limit| after > before && after > *limit) {
                    return Some(format!("{}: {r} {before} + {amount} is over {limit}", self.name(n)));
                }
            }
            let owed = self.path(leaf).iter().any(|n| !self.is_root(*n) && self.held(*n, r) > 0);
            if fixed && owed && with.usage(leaf, r) > self.subtree(leaf, r) {
                return Some(format!("{}: {r} would be borrowed for good", self.name(leaf)));
            }
        }
        None
    }

    // ------------------------------------------------------------ who is next

    pub fn is_below_guarantee(&self, n: Node, profile: &Profile) -> bool {
        let guaranteed: Vec<&String> = profile.iter().filter(|r| self.held(n, r) > 0).collect();
        !guaranteed.is_empty() && guaranteed.iter().all(|r| self.usage(n, r) < self.subtree(n, r))
    }

    pub fn share(&self, n: Node, profile: &Profile) -> Share {
        let weight = u128::from(self.nodes[n].spec.weight);
        let of = |r: &String| match self.borrowed(n, r) {
            0 => Share(0, 1),
            borrowed => Share(u128::from(borrowed), u128::from(self.lendable(r)) * weight),
        };
        profile.iter().map(of).max().unwrap_or(Share(0, 1))
    }

    /// Whether `chosen` may be the next task to start. `waiting` has the heads of all lines, `chosen` among them.
    ///
    /// # Errors
    /// Who should have gone before it, and why.
    pub fn may_be_next(&self, chosen: &Head, waiting: &[Head]) -> Result<(), String> {
        let rivals = || waiting.iter().filter(|head| head.could_start && head.task != chosen.task);
        if let Some(other) = rivals().find(|other| chosen.opportunistic && !other.opportunistic) {
            return Err(format!("{} is standard work", other.task));
        }
        let of_class = || rivals().filter(|other| other.opportunistic == chosen.opportunistic);
        let mut path = self.path(chosen.pool);
        path.reverse();
        for (at, step) in path.iter().zip(&path[1..]) {
            let mine = self.rank(*step, chosen, waiting);
            for other in of_class().filter(|other| self.path(other.pool).contains(at)) {
                // Below the root the profile is settled.
                if !self.is_root(*at) && other.profile() != chosen.profile() {
                    continue;
                }
                let others = *self.path(other.pool).iter().rev().skip_while(|n| *n != at).nth(1).unwrap();
                if others == *step && other.profile() == chosen.profile() {
                    continue;
                }
                let theirs = self.rank(others, other, waiting);
                if theirs.goes_before(&mine) {
                    let (a, b) = (self.name(others), self.name(*step));
                    return Err(format!("{}: {a} ({theirs:?}) goes before {b} ({mine:?})", other.task));
                }
            }
        }
        let alike = |other: &&Head| other.pool == chosen.pool && other.profile() == chosen.profile();
        match of_class().filter(alike).find(|other| other.key < chosen.key) {
            Some(other) => Err(format!("{} {:?} goes before {:?} in the same pool", other.task, other.key, chosen.key)),
            None => Ok(()),
        }
    }

    fn rank(&self, n: Node, of: &Head, waiting: &[Head]) -> Rank {
        let profile = of.profile();
        let here = |head: &&Head| {
            head.opportunistic == of.opportunistic && head.profile() == profile && self.path(head.pool).contains(&n)
        };
        let jobs: Vec<JobId> = waiting.iter().filter(here).map(|head| head.key.job).collect();
        Rank {
            above_guarantee: !self.is_below_guarantee(n, &profile),
            share: self.share(n, &profile),
            oldest: (*jobs.iter().min().unwrap(), *jobs.iter().max().unwrap()),
        }
    }

    /// Lines that wait and could start: there should be none at the end of a round.
    pub fn left_over(waiting: &[Head]) -> Option<&Head> {
        waiting.iter().find(|head| head.could_start)
    }
}

#[derive(Debug)]
struct Rank {
    above_guarantee: bool,
    share: Share,
    /// Between whose arrivals that of its best task lies: the page does not say whether one that finds no room counts.
    oldest: (JobId, JobId),
}

impl Rank {
    fn goes_before(&self, other: &Rank) -> bool {
        let exact = (self.above_guarantee, self.share).cmp(&(other.above_guarantee, other.share));
        exact.then(if self.oldest.1 < other.oldest.0 { Ordering::Less } else { Ordering::Equal }).is_lt()
    }
}
