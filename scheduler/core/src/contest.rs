//! Whose turn it is: lines of waiting tasks compete in the leaves, pools among their siblings.
//!
//! Every node keeps, for each **field** (class and profile, see `pools/README.md`), its children that have something listed there, ordered by
//! [`Rank`]. A change of usage touches one path; the best line is found by walking down once. What shapes are listed below a node is
//! counted, so that the walk never enters where nothing can start.

use std::collections::BTreeSet;

use spool_proto::ids::JobId;

use crate::pools::{Kind, PoolIx, Pools, Share};
use crate::queue::{Key, LineIx};
use crate::shapes::ShapeId;

/// A set of shapes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ShapeSet(Vec<u64>);

impl ShapeSet {
    pub(crate) fn insert(&mut self, shape: ShapeId) {
        let (word, bit) = (shape.index() / 64, shape.index() % 64);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << bit;
    }

    pub(crate) fn remove(&mut self, shape: ShapeId) {
        if let Some(word) = self.0.get_mut(shape.index() / 64) {
            *word &= !(1 << (shape.index() % 64));
        }
    }

    pub(crate) fn contains(&self, shape: ShapeId) -> bool {
        self.0.get(shape.index() / 64).is_some_and(|word| word & (1 << (shape.index() % 64)) != 0)
    }

    /// Whether something in it is not in `other`.
    pub(crate) fn exceeds(&self, other: &ShapeSet) -> bool {
        self.0.iter().enumerate().any(|(at, word)| word & !other.0.get(at).copied().unwrap_or(0) != 0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = ShapeId> {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let bits = (0..64).filter(move |bit| word & (1 << bit) != 0);
            bits.map(move |bit| ShapeId::of(at * 64 + bit))
        })
    }
}

impl Extend<ShapeId> for ShapeSet {
    fn extend<I: IntoIterator<Item = ShapeId>>(&mut self, shapes: I) {
        shapes.into_iter().for_each(|shape| self.insert(shape));
    }
}

/// Class and profile, as a number: standard ones are even.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field(usize);

impl Field {
    fn is_opportunistic(self) -> bool {
        self.0 % 2 == 1
    }
}

/// Lower goes first. The order of the fields is the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    not_below_guarantee: bool,
    share: Share,
    oldest: JobId,
    pool: PoolIx,
}

/// How many lines of each shape are listed below a node.
#[derive(Debug, Clone, Default)]
struct Listed {
    counts: Vec<u32>,
    shapes: ShapeSet,
}

impl Listed {
    fn add(&mut self, shape: ShapeId) {
        if self.counts.len() <= shape.index() {
            self.counts.resize(shape.index() + 1, 0);
        }
        self.counts[shape.index()] += 1;
        self.shapes.insert(shape);
    }

    fn remove(&mut self, shape: ShapeId) {
        let count = &mut self.counts[shape.index()];
        *count -= 1;
        if *count == 0 {
            self.shapes.remove(shape);
        }
    }
}

/// One field of one node.
#[derive(Debug, Clone, Default)]
struct Ring {
    /// Of a leaf: the heads of its lines.
    heads: BTreeSet<(Key, LineIx, ShapeId)>,
    /// Of a parent: its children that have something here.
    children: BTreeSet<Rank>,
    /// Its own place among its siblings.
    rank: Option<Rank>,
    listed: Listed,
}

impl Ring {
    fn oldest(&self) -> Option<JobId> {
        match self.heads.first() {
            Some((key, ..)) => Some(key.job()),
            None => self.children.first().map(|rank| rank.oldest),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Contest {
    profiles: Vec<Box<[Kind]>>,
    /// By pool, then by field.
    nodes: Vec<Vec<Ring>>,
    /// Leaves whose usage changed since ranks were last right.
    stale: BTreeSet<PoolIx>,
}

impl Contest {
    pub(crate) fn new(pools: usize) -> Contest {
        Contest { profiles: Vec::new(), nodes: vec![Vec::new(); pools], stale: BTreeSet::new() }
    }

    /// The field of a class and of what a task needs.
    pub(crate) fn field(&mut self, opportunistic: bool, need: &[(Kind, u64)]) -> Field {
        let same = |profile: &[Kind]| profile.iter().eq(need.iter().map(|(kind, _)| kind));
        let at = self.profiles.iter().position(|profile| same(profile)).unwrap_or_else(|| {
            self.profiles.push(need.iter().map(|(kind, _)| *kind).collect());
            self.profiles.len() - 1
        });
        Field(at * 2 + usize::from(opportunistic))
    }

    fn ring(&mut self, pool: PoolIx, field: Field) -> &mut Ring {
        let rings = &mut self.nodes[pool.index()];
        if rings.len() <= field.0 {
            rings.resize_with(field.0 + 1, Ring::default);
        }
        &mut rings[field.0]
    }

    /// A line's head is now `head` instead of `before`; `None`: it is not listed.
    pub(crate) fn list(
        &mut self,
        pools: &Pools,
        (leaf, field, line, shape): (PoolIx, Field, LineIx, ShapeId),
        before: Option<Key>,
        head: Option<Key>,
    ) {
        let ring = self.ring(leaf, field);
        if let Some(key) = before {
            ring.heads.remove(&(key, line, shape));
        }
        if let Some(key) = head {
            ring.heads.insert((key, line, shape));
        }
        if before.is_some() != head.is_some() {
            for pool in pools.path(leaf) {
                let listed = &mut self.ring(pool, field).listed;
                if head.is_some() { listed.add(shape) } else { listed.remove(shape) }
            }
        }
        self.rank_path(pools, leaf, field);
    }

    /// What the leaf uses has changed.
    pub(crate) fn usage_changed(&mut self, leaf: PoolIx) {
        if self.stale.last() != Some(&leaf) {
            self.stale.insert(leaf);
        }
    }

    /// Brings ranks up to date with usage.
    pub(crate) fn refresh(&mut self, pools: &Pools) {
        while let Some(leaf) = self.stale.pop_first() {
            for field in 0..self.profiles.len() * 2 {
                self.rank_path(pools, leaf, Field(field));
            }
        }
    }

    fn rank_path(&mut self, pools: &Pools, leaf: PoolIx, field: Field) {
        let mut at = leaf;
        while let Some(parent) = pools.parent(at) {
            let profile = &self.profiles[field.0 / 2];
            let Some(ring) = self.nodes[at.index()].get_mut(field.0) else {
                at = parent;
                continue;
            };
            let rank = ring.oldest().map(|oldest| Rank {
                not_below_guarantee: !pools.is_below(at, profile),
                share: pools.share(at, profile),
                oldest,
                pool: at,
            });
            let before = std::mem::replace(&mut ring.rank, rank);
            if before != rank {
                let siblings = &mut self.ring(parent, field).children;
                if let Some(before) = before {
                    siblings.remove(&before);
                }
                siblings.extend(rank);
            }
            at = parent;
        }
    }

    /// Whether something of a shape that is not closed is listed.
    pub(crate) fn has_open(&self, opportunistic: bool, closed: &ShapeSet) -> bool {
        self.open_fields(opportunistic, closed).next().is_some()
    }

    fn open_fields(&self, opportunistic: bool, closed: &ShapeSet) -> impl Iterator<Item = Field> {
        let rings = self.nodes.first().into_iter().flatten().enumerate();
        let open = rings.filter(|(_, ring)| ring.listed.shapes.exceeds(closed)).map(|(field, _)| Field(field));
        open.filter(move |field| field.is_opportunistic() == opportunistic)
    }

    /// The best listed line of a shape that is not closed. Ranks are up to date.
    pub(crate) fn best(&self, opportunistic: bool, closed: &ShapeSet) -> Option<LineIx> {
        debug_assert!(self.stale.is_empty(), "ranks are up to date");
        let fields = self.open_fields(opportunistic, closed);
        let firsts = fields.filter_map(|field| Some((self.first_child(PoolIx::ROOT, field, closed)?, field.0)));
        let (rank, field) = firsts.min()?;
        let (mut at, field) = (rank.pool, Field(field));
        loop {
            let ring = self.nodes[at.index()].get(field.0)?;
            if !ring.heads.is_empty() {
                return ring.heads.iter().find(|(.., shape)| !closed.contains(*shape)).map(|(_, line, _)| *line);
            }
            at = self.first_child(at, field, closed)?.pool;
        }
    }

    fn first_child(&self, pool: PoolIx, field: Field, closed: &ShapeSet) -> Option<Rank> {
        let ring = self.nodes[pool.index()].get(field.0)?;
        let has_open = |rank: &&Rank| self.nodes[rank.pool.index()][field.0].listed.shapes.exceeds(closed);
        ring.children.iter().find(has_open).copied()
    }

    /// `lines`: what should be listed, by pool, field, line, shape and head.
    pub(crate) fn check_invariants(&mut self, pools: &Pools, lines: &[(PoolIx, Field, LineIx, ShapeId, Key)]) {
        self.refresh(pools);
        let mut heads = 0;
        for (pool, field, line, shape, key) in lines {
            let ring = self.nodes[pool.index()].get(field.0).expect("a listed line has its ring");
            assert!(ring.heads.contains(&(*key, *line, *shape)), "contest: line {line:?} is not where it should be");
            heads += 1;
        }
        let mut found = 0;
        for (pool, rings) in pools.all().zip(&self.nodes) {
            for (number, ring) in rings.iter().enumerate() {
                found += ring.heads.len();
                let counted: u32 = ring.listed.counts.iter().sum();
                let below = |other: &&(PoolIx, Field, LineIx, ShapeId, Key)| {
                    other.1 == Field(number) && pools.path(other.0).any(|at| at == pool)
                };
                let expected = lines.iter().filter(below).count();
                assert_eq!(usize::try_from(counted), Ok(expected), "contest: {} miscounts", pools.name(pool));
                for rank in &ring.children {
                    let child = &self.nodes[rank.pool.index()][number];
                    assert_eq!(child.rank, Some(*rank), "contest: stale rank of {}", pools.name(rank.pool));
                    let profile = &self.profiles[number / 2];
                    assert!(rank.share == pools.share(rank.pool, profile), "contest: wrong share");
                }
            }
        }
        assert_eq!(found, heads, "contest: something is listed that should not be");
    }
}
