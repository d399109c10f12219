//! Whose turn it is: lines of waiting tasks compete in the leaves, pools among their siblings.
//!
//! Every node keeps, for each **field** (class and profile, see `pools/README.md`), its children that offer something there, ordered by
//! [`Rank`]. A change of usage touches one path; the best line is found by walking down once. What is offered below a node is counted, so
//! that the walk never enters where nothing can start.
//!
//! What finds no quota is **refused**: not line by line, but at the highest pool where all that ask alike fare alike. Below it nothing of
//! the kind is looked for until the pool that is full gives something back. So neither a refusal nor its end costs more with more lines.

use std::collections::{BTreeMap, BTreeSet};

use spool_proto::ids::JobId;

use crate::asks::{Ask, Asks, ShapeSet};
use crate::pools::{Kind, Over, PoolIx, Pools, Share};
use crate::queue::{Key, LineIx};
use crate::shapes::{ShapeId, Shapes};

/// Class and profile, as a number: standard ones are even.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field(usize);

impl Field {
    fn is_opportunistic(self) -> bool {
        self.0 % 2 == 1
    }

    /// Of the same profile.
    fn of_both_classes(self) -> [Field; 2] {
        [Field(self.0 & !1), Field(self.0 | 1)]
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

/// What is not looked for on a walk down the tree.
struct Barred<'a> {
    closed: &'a ShapeSet,
    /// By the pools so far.
    refused: Asks,
}

impl Barred<'_> {
    fn pass(&mut self, node: &Node) {
        node.refused.keys().for_each(|ask| self.refused.set(*ask, true));
    }

    fn leaves_some_of(&self, asks: &Asks) -> bool {
        asks.exceeds(self.closed, &self.refused)
    }

    fn bars(&self, ask: Ask) -> bool {
        self.closed.contains(ask.shape) || self.refused.contains(ask)
    }
}

/// An ask has no quota at a pool: it is not looked for there, nor anywhere below.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    /// Looked at again when something is given back here.
    by: PoolIx,
    /// Not for want of quota: it must not borrow now.
    borrows: bool,
    field: Field,
}

/// One field of one node.
#[derive(Debug, Clone, Default)]
struct Ring {
    /// Of a leaf: the heads of its lines.
    heads: BTreeSet<(Key, LineIx, Ask)>,
    /// Of a parent: its children that offer something here, by what they offer.
    children: BTreeMap<Asks, BTreeSet<Rank>>,
    /// By ask: lines of a leaf, children of a parent that offer it.
    counts: Vec<u32>,
    /// What is listed below and not refused anywhere up to here.
    offered: Asks,
    /// Its own place among its siblings.
    filed: Option<(Asks, Rank)>,
}

impl Ring {
    fn count(&self, ask: Ask) -> u32 {
        self.counts.get(ask.index()).copied().unwrap_or(0)
    }

    fn count_mut(&mut self, ask: Ask) -> &mut u32 {
        if self.counts.len() <= ask.index() {
            self.counts.resize(ask.index() + 1, 0);
        }
        &mut self.counts[ask.index()]
    }
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// By field.
    rings: Vec<Ring>,
    refused: BTreeMap<Ask, Refusal>,
}

impl Node {
    fn asks(&self, field: Field, ask: Ask) -> bool {
        self.rings.get(field.0).is_some_and(|ring| ring.count(ask) > 0)
    }

    fn offers(&self, field: Field, ask: Ask) -> bool {
        self.asks(field, ask) && !self.refused.contains_key(&ask)
    }

    /// Brings what it offers up to date.
    fn show(&mut self, field: Field, ask: Ask) {
        let shown = self.offers(field, ask);
        self.rings[field.0].offered.set(ask, shown);
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Contest {
    profiles: Vec<Box<[Kind]>>,
    /// By pool.
    nodes: Vec<Node>,
    /// Who is refused, by the pool that refuses: `(where, what)`.
    parked: BTreeMap<PoolIx, BTreeSet<(PoolIx, Ask)>>,
    /// Refusals of what must not borrow.
    held_back: usize,
    /// Pools whose place among their siblings may have changed.
    stale: BTreeSet<PoolIx>,
}

impl Contest {
    pub(crate) fn new(pools: usize) -> Contest {
        Contest { nodes: vec![Node::default(); pools], ..Contest::default() }
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

    fn node(&mut self, pool: PoolIx) -> &mut Node {
        &mut self.nodes[pool.index()]
    }

    fn ring(&mut self, pool: PoolIx, field: Field) -> &mut Ring {
        let rings = &mut self.node(pool).rings;
        if rings.len() <= field.0 {
            rings.resize_with(field.0 + 1, Ring::default);
        }
        &mut rings[field.0]
    }

    /// A line's head is now `head` instead of `before`; `None`: it is not listed.
    pub(crate) fn list(
        &mut self,
        pools: &Pools,
        (leaf, field, line, ask): (PoolIx, Field, LineIx, Ask),
        before: Option<Key>,
        head: Option<Key>,
    ) {
        let ring = self.ring(leaf, field);
        if let Some(key) = before {
            ring.heads.remove(&(key, line, ask));
        }
        if let Some(key) = head {
            ring.heads.insert((key, line, ask));
        }
        if before.is_some() != head.is_some() {
            self.count(pools, leaf, field, ask, head.is_some());
        }
        self.changed(leaf);
    }

    /// One line or child more, or one less, offers what is asked for; above it is known only where it is the first or was the last.
    fn count(&mut self, pools: &Pools, mut at: PoolIx, field: Field, ask: Ask, more: bool) {
        loop {
            let count = self.ring(at, field).count_mut(ask);
            let before = *count;
            *count = if more { before + 1 } else { before - 1 };
            if before.min(*count) > 0 {
                return;
            }
            if self.node(at).refused.contains_key(&ask) {
                return self.forget_vain(at, ask);
            }
            self.node(at).show(field, ask);
            self.changed(at);
            let Some(parent) = pools.parent(at) else { return };
            at = parent;
        }
    }

    // ------------------------------------------------------------ quota

    /// Nothing that asks so at the pool or below it is looked for any more, until something is given back at `by`.
    pub(crate) fn refuse(&mut self, pools: &Pools, (at, field, ask): (PoolIx, Field, Ask), by: PoolIx, borrows: bool) {
        self.node(at).refused.insert(ask, Refusal { by, borrows, field });
        self.held_back += usize::from(borrows);
        self.parked.entry(by).or_default().insert((at, ask));
        self.reveal(pools, (at, field, ask), false);
    }

    fn readmit(&mut self, pools: &Pools, at: PoolIx, ask: Ask) {
        let Some(refusal) = self.forget(at, ask) else { return };
        self.reveal(pools, (at, refusal.field, ask), true);
    }

    /// What is asked for at the pool shows above it from now on, or does not any more: in both classes.
    fn reveal(&mut self, pools: &Pools, (at, field, ask): (PoolIx, Field, Ask), shows: bool) {
        for field in field.of_both_classes() {
            if self.node(at).asks(field, ask) {
                self.node(at).show(field, ask);
                self.changed(at);
                if let Some(parent) = pools.parent(at) {
                    self.count(pools, parent, field, ask, shows);
                }
            }
        }
    }

    /// Drops a refusal of what nobody asks for any more: the shape's number may come to mean another.
    fn forget_vain(&mut self, at: PoolIx, ask: Ask) {
        if self.node(at).rings.iter().all(|ring| ring.count(ask) == 0) {
            self.forget(at, ask);
        }
    }

    fn forget(&mut self, at: PoolIx, ask: Ask) -> Option<Refusal> {
        let refusal = self.node(at).refused.remove(&ask)?;
        self.unpark(refusal.by, at, ask);
        self.held_back -= usize::from(refusal.borrows);
        Some(refusal)
    }

    fn unpark(&mut self, by: PoolIx, at: PoolIx, ask: Ask) {
        if let Some(refused) = self.parked.get_mut(&by) {
            refused.remove(&(at, ask));
            if refused.is_empty() {
                self.parked.remove(&by);
            }
        }
    }

    /// Who refuses what is asked for in a leaf.
    pub(crate) fn refused_by(&self, pools: &Pools, leaf: PoolIx, ask: Ask) -> Option<PoolIx> {
        pools.path(leaf).find_map(|pool| self.nodes[pool.index()].refused.get(&ask)).map(|refusal| refusal.by)
    }

    /// A leaf uses less: what its path refused is readmitted if there is quota now.
    pub(crate) fn released(&mut self, pools: &Pools, shapes: &Shapes, leaf: PoolIx) {
        self.changed(leaf);
        if self.parked.is_empty() {
            return;
        }
        for pool in pools.path(leaf) {
            for (at, ask) in self.parked.get(&pool).into_iter().flatten().copied().collect::<Vec<_>>() {
                let refusal = self.nodes[at.index()].refused[&ask];
                match quota(pools, shapes, at, ask) {
                    Err(over) if !refusal.borrows => {
                        // Perhaps it is another one now that is full.
                        self.unpark(pool, at, ask);
                        self.parked.entry(over.pool).or_default().insert((at, ask));
                        self.node(at).refused.insert(ask, Refusal { by: over.pool, ..refusal });
                    }
                    _ => self.readmit(pools, at, ask),
                }
            }
        }
    }

    /// Everybody may borrow again.
    pub(crate) fn let_borrow(&mut self, pools: &Pools) {
        if self.held_back == 0 {
            return;
        }
        let all = self.parked.values().flatten().copied();
        let held_back = all.filter(|(at, ask)| self.nodes[at.index()].refused[ask].borrows);
        for (at, ask) in held_back.collect::<Vec<_>>() {
            self.readmit(pools, at, ask);
        }
    }

    // ------------------------------------------------------------ ranks

    /// What the pool uses or offers has changed.
    pub(crate) fn changed(&mut self, pool: PoolIx) {
        if self.stale.last() != Some(&pool) {
            self.stale.insert(pool);
        }
    }

    /// What shares are taken of has changed.
    pub(crate) fn all_changed(&mut self, pools: &Pools) {
        let listed = pools.all().zip(&self.nodes).filter(|(_, node)| !node.rings.is_empty());
        self.stale.extend(listed.map(|(pool, _)| pool));
    }

    /// Brings ranks up to date. Children have higher numbers than their parents: with the highest first, each pool is looked at once,
    /// whatever has changed below it.
    pub(crate) fn refresh(&mut self, pools: &Pools) {
        while let Some(pool) = self.stale.pop_last() {
            let Some(parent) = pools.parent(pool) else { continue };
            for field in 0..self.nodes[pool.index()].rings.len() {
                self.file(pools, pool, parent, Field(field));
            }
            self.stale.insert(parent);
        }
    }

    /// Puts a pool among its siblings as it stands now.
    fn file(&mut self, pools: &Pools, pool: PoolIx, parent: PoolIx, field: Field) {
        let rank = self.rank(pools, pool, field);
        let ring = &mut self.node(pool).rings[field.0];
        match (&ring.filed, rank) {
            (None, None) => return,
            (Some((offered, before)), Some(rank)) if *before == rank && *offered == ring.offered => return,
            _ => {}
        }
        let (filed, offered) = (ring.filed.take(), std::mem::take(&mut ring.offered));
        let siblings = &mut self.ring(parent, field).children;
        if let Some((as_before, before)) = filed {
            let group = siblings.get_mut(&as_before).expect("it is filed there");
            group.remove(&before);
            if group.is_empty() && (rank.is_none() || as_before != offered) {
                siblings.remove(&as_before);
            }
        }
        if let Some(rank) = rank {
            match siblings.get_mut(&offered) {
                Some(group) => drop(group.insert(rank)),
                None => drop(siblings.insert(offered.clone(), [rank].into())),
            }
        }
        let ring = self.ring(pool, field);
        ring.filed = rank.map(|rank| (offered.clone(), rank));
        ring.offered = offered;
    }

    /// Its rank among its siblings, if it offers anything.
    fn rank(&self, pools: &Pools, pool: PoolIx, field: Field) -> Option<Rank> {
        let (node, profile) = (&self.nodes[pool.index()], &self.profiles[field.0 / 2]);
        let ring = &node.rings[field.0];
        if ring.offered.is_empty() {
            return None;
        }
        let first = ring.heads.iter().find(|(.., ask)| !node.refused.contains_key(ask));
        let best = || ring.children.values().filter_map(BTreeSet::first).min();
        Some(Rank {
            not_below_guarantee: !pools.is_below(pool, profile),
            share: pools.share(pool, profile),
            oldest: first.map(|(key, ..)| key.job()).or_else(|| Some(best()?.oldest))?,
            pool,
        })
    }

    /// Whether something of a shape that is not closed is listed.
    pub(crate) fn has_open(&self, opportunistic: bool, closed: &ShapeSet) -> bool {
        let barred = Barred { closed, refused: Asks::default() };
        self.open_fields(opportunistic, &barred).next().is_some()
    }

    fn open_fields(&self, opportunistic: bool, barred: &Barred<'_>) -> impl Iterator<Item = Field> {
        let rings = self.nodes.first().into_iter().flat_map(|root| &root.rings).enumerate();
        let open = rings.filter(|(_, ring)| barred.leaves_some_of(&ring.offered)).map(|(field, _)| Field(field));
        open.filter(move |field| field.is_opportunistic() == opportunistic)
    }

    /// The best listed line of a shape that is not closed. Ranks are up to date.
    pub(crate) fn best(&self, opportunistic: bool, closed: &ShapeSet) -> Option<LineIx> {
        debug_assert!(self.stale.is_empty(), "ranks are up to date");
        let mut barred = Barred { closed, refused: Asks::default() };
        barred.pass(self.nodes.first()?);
        let fields = self.open_fields(opportunistic, &barred);
        let firsts = fields.filter_map(|field| Some((self.first_child(PoolIx::ROOT, field, &barred)?, field.0)));
        let (rank, field) = firsts.min()?;
        let (mut at, field) = (rank.pool, Field(field));
        loop {
            let node = &self.nodes[at.index()];
            let ring = node.rings.get(field.0)?;
            barred.pass(node);
            if !ring.heads.is_empty() {
                return ring.heads.iter().find(|(.., ask)| !barred.bars(*ask)).map(|(_, line, _)| *line);
            }
            at = self.first_child(at, field, &barred)?.pool;
        }
    }

    /// Siblings that offer the same stand together, so that those who offer nothing open are not met one by one.
    fn first_child(&self, pool: PoolIx, field: Field, barred: &Barred<'_>) -> Option<Rank> {
        let groups = self.nodes[pool.index()].rings.get(field.0)?.children.iter();
        let open = groups.filter(|(offered, _)| barred.leaves_some_of(offered));
        open.filter_map(|(_, ranks)| ranks.first()).min().copied()
    }

    // ------------------------------------------------------------ checks

    /// Reads everything. `lines`: what should be listed, by pool, field, line, ask and head.
    pub(crate) fn check_invariants(&self, pools: &Pools, shapes: &Shapes, lines: &[(PoolIx, Field, LineIx, Ask, Key)]) {
        for (pool, field, line, ask, key) in lines {
            let ring = self.nodes[pool.index()].rings.get(field.0).expect("a listed line has its ring");
            assert!(ring.heads.contains(&(*key, *line, *ask)), "contest: line {line:?} is not where it should be");
        }
        let mut fresh = self.clone();
        fresh.refresh(pools);
        let (mut heads, mut refusals) = (0, 0);
        let mut below: Vec<Vec<PoolIx>> = vec![Vec::new(); fresh.nodes.len()];
        pools
            .all()
            .filter_map(|pool| Some((pools.parent(pool)?, pool)))
            .for_each(|(p, pool)| below[p.index()].push(pool));
        for (pool, node) in pools.all().zip(&fresh.nodes) {
            let name = pools.name(pool);
            for (ask, refusal) in &node.refused {
                refusals += 1;
                assert!(fresh.parked[&refusal.by].contains(&(pool, *ask)), "contest: {name} refuses {ask:?} for ever");
                let asked = node.rings.iter().any(|ring| ring.count(*ask) > 0);
                let kept_out = refusal.borrows || quota(pools, shapes, pool, *ask).is_err();
                assert!(asked && kept_out, "contest: {name} refuses {ask:?} for nothing");
            }
            for (field, ring) in (0..).map(Field).zip(&node.rings) {
                heads += ring.heads.len();
                let children = || below[pool.index()].iter().copied();
                for (at, count) in ring.counts.iter().enumerate() {
                    let ask = Ask { shape: ShapeId::of(at / 2), fixed: at % 2 == 1 };
                    let of_lines = ring.heads.iter().filter(|(.., other)| *other == ask).count();
                    let offer = |child: &PoolIx| fresh.nodes[child.index()].offers(field, ask);
                    let expected = of_lines + children().filter(offer).count();
                    assert_eq!(usize::try_from(*count), Ok(expected), "contest: {name} miscounts {ask:?}");
                    assert_eq!(
                        ring.offered.contains(ask),
                        node.offers(field, ask),
                        "contest: {name} shows {ask:?} wrongly"
                    );
                }
                let filed = |child: &PoolIx| fresh.nodes[child.index()].rings.get(field.0)?.filed.as_ref();
                for (offered, rank) in children().filter_map(|child| filed(&child)) {
                    assert!(ring.children[offered].contains(rank), "contest: {name} has lost {rank:?}");
                    assert_eq!(fresh.rank(pools, rank.pool, field), Some(*rank), "contest: stale rank below {name}");
                }
                let filed = children().filter(|child| filed(child).is_some()).count();
                let found: usize = ring.children.values().map(BTreeSet::len).sum();
                assert_eq!(found, filed, "contest: a child of {name} is filed twice");
            }
        }
        assert_eq!(heads, lines.len(), "contest: something is listed that should not be");
        assert_eq!(fresh.parked.values().map(BTreeSet::len).sum::<usize>(), refusals, "contest: parked nowhere");
    }
}

/// Whether there is quota at a pool for what is asked for there or below: no pool below it that refuses nets anything.
fn quota(pools: &Pools, shapes: &Shapes, at: PoolIx, ask: Ask) -> Result<(), Over> {
    let need = shapes.need(ask.shape);
    // What must not borrow is judged by its own pool.
    if ask.fixed && pools.is_leaf(at) { pools.admits_for_good(at, need) } else { pools.admits(at, need) }
}
