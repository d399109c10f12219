//! The quota tree and its algebra; nothing else. `pools/README.md` defines every word used here.
//!
//! A [`Pools`] is built from a [`PoolTree`] and then only counts: [`Pools::charge`] and [`Pools::release`] move what leased tasks use,
//! [`Pools::hold_for`] and [`Pools::let_go`] what is kept for somebody, in time proportional to the depth. All else are questions.

mod claims;
mod share;

use std::collections::BTreeMap;
use std::sync::Arc;

use spool_proto::pool::{Hold, PoolName, PoolSpec, PoolTree, Preemption};
use spool_proto::resources::{KNOWN, Resources};

pub(crate) use share::Share;

/// A pool of one tree. A new tree numbers anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PoolIx(u32);

impl PoolIx {
    pub(crate) const ROOT: PoolIx = PoolIx(0);

    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).expect("32 bits fit in an index")
    }
}

/// A kind of resource, interned. Those that Spool knows come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Kind(u32);

/// Names of the kinds met so far.
#[derive(Debug, Clone)]
pub(crate) struct Kinds(Vec<String>);

impl Default for Kinds {
    fn default() -> Self {
        Kinds(KNOWN.map(str::to_owned).into())
    }
}

impl Kinds {
    pub(crate) fn intern(&mut self, name: &str) -> Kind {
        let found = self.0.iter().position(|known| known == name);
        let at = found.unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        });
        Kind(u32::try_from(at).expect("kinds are few"))
    }

    pub(crate) fn name(&self, kind: Kind) -> &str {
        &self.0[kind.index()]
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (Kind, &str)> {
        (0..).map(Kind).zip(self.0.iter().map(String::as_str))
    }

    /// What a task asks for, by kind, zeros left out.
    pub(crate) fn need(&mut self, resources: &Resources) -> Need {
        resources.iter().map(|(name, amount)| (self.intern(name), amount)).collect()
    }
}

impl Kind {
    pub(crate) const CPU: Kind = Kind(0);

    fn index(self) -> usize {
        usize::try_from(self.0).expect("32 bits fit in an index")
    }

    /// The higher goes before where two pools are each owed another part of one place: what machines have few of before cpu, before memory,
    /// before scratch.
    fn precedence(self) -> u32 {
        const SCRATCH: u32 = 2;
        if self.0 <= SCRATCH { SCRATCH - self.0 } else { self.0 }
    }
}

/// Amounts of each kind, by leaf.
pub(crate) type ByLeaf = BTreeMap<PoolIx, BTreeMap<Kind, u64>>;

/// What one task needs: kinds with amounts greater than zero, in order.
pub(crate) type Need = Box<[(Kind, u64)]>;

/// What is said of one pool and kind, side by side: a walk to the root reads one of these in each pool.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    held: u64,
    subtree: u64,
    local: u64,
    /// `subtree` and borrow limit.
    limit: u64,
    /// Netted, with what is held for somebody.
    usage: u64,
    /// Plain sum, of leased tasks alone.
    real: u64,
}

impl Numbers {
    /// Of a kind that nobody has named yet.
    const NONE: Numbers = Numbers { held: 0, subtree: 0, local: 0, limit: u64::MAX, usage: 0, real: 0 };
}

/// Those of all pools, by pool and then by kind.
#[derive(Debug, Clone)]
struct Table {
    rows: Vec<Numbers>,
    kinds: usize,
}

impl Table {
    fn new(pools: usize, kinds: usize) -> Table {
        Table { rows: vec![Numbers::NONE; pools * kinds], kinds }
    }

    fn of(&self, pool: PoolIx, kind: Kind) -> &Numbers {
        if kind.index() < self.kinds { &self.rows[pool.index() * self.kinds + kind.index()] } else { &Numbers::NONE }
    }

    /// Of every kind.
    fn row(&self, pool: PoolIx) -> &[Numbers] {
        &self.rows[pool.index() * self.kinds..][..self.kinds]
    }

    fn of_mut(&mut self, pool: PoolIx, kind: Kind) -> &mut Numbers {
        if kind.index() >= self.kinds {
            self.widen(kind.index() + 1);
        }
        &mut self.rows[pool.index() * self.kinds + kind.index()]
    }

    /// A kind is named that was not known when the tree came.
    fn widen(&mut self, kinds: usize) {
        let mut wide = Table::new(self.rows.len() / self.kinds, kinds);
        for (from, to) in self.rows.chunks(self.kinds).zip(wide.rows.chunks_mut(kinds)) {
            to[..self.kinds].copy_from_slice(from);
        }
        *self = wide;
    }
}

#[derive(Debug, Clone)]
struct Node {
    name: PoolName,
    spec: PoolSpec,
    parent: Option<PoolIx>,
    leaf: bool,
    /// Some pool below it has a lend limit: what a task adds here depends on whence it comes.
    nets_below: bool,
    /// Its own or of one above it.
    hold: Hold,
}

/// Copies share the tree: what a forecast costs is its numbers.
#[derive(Debug, Clone)]
pub(crate) struct Pools {
    nodes: Arc<[Node]>,
    table: Table,
    by_name: Arc<BTreeMap<PoolName, PoolIx>>,
    /// What somebody is guaranteed.
    guaranteed: Arc<[Kind]>,
    /// Somebody may take its fair share.
    fair: bool,
    /// What the fleet has, for shares and for the ceiling of what is kept.
    fleet: Vec<u64>,
    kept: Arc<[Kept]>,
}

/// Of a kind that some pool does not lend all of, while no guarantee of the root is a ceiling: the fleet is.
#[derive(Debug, Clone, Copy)]
struct Kept {
    kind: Kind,
    /// Guaranteed to the root's children, and how much of it they lend.
    held: u64,
    lent: u64,
}

/// Why a task is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Over {
    pub(crate) pool: PoolIx,
    pub(crate) kind: Kind,
}

impl Pools {
    /// `tree` has passed its check.
    pub(crate) fn new(tree: &PoolTree, holds: &dyn Fn(&PoolName) -> Hold, kinds: &mut Kinds) -> Pools {
        let mut by_name = BTreeMap::new();
        // The root is `/`, which sorts behind names that begin with `-` or `.`: it is put first by hand.
        let names = std::iter::once(PoolName::root()).chain(tree.pools.keys().filter(|name| !name.is_root()).cloned());
        for (at, name) in (0..).zip(names) {
            by_name.insert(name, PoolIx(at));
        }
        let mut order: Vec<(&PoolName, PoolIx)> = by_name.iter().map(|(name, ix)| (name, *ix)).collect();
        order.sort_by_key(|(_, ix)| *ix);
        let mut nodes: Vec<Node> = Vec::with_capacity(order.len());
        for (name, _) in order {
            // Parents sort before their children.
            let parent = name.parent().map(|parent| by_name[&parent]);
            let above = parent.map_or(Hold::Open, |parent| nodes[parent.index()].hold);
            if let Some(parent) = parent {
                nodes[parent.index()].leaf = false;
            }
            nodes.push(Node {
                name: name.clone(),
                spec: tree.pools[name].clone(),
                parent,
                leaf: true,
                nets_below: false,
                hold: stricter(above, holds(name)),
            });
        }
        for node in &nodes {
            let named = node.spec.guarantee.iter().map(|(name, _)| name);
            for name in named.chain(node.spec.borrow.keys().map(String::as_str)) {
                kinds.intern(name);
            }
        }
        for at in (0..nodes.len()).rev() {
            let Some(parent) = nodes[at].parent else { continue };
            nodes[parent.index()].nets_below |= nodes[at].nets_below || !nodes[at].spec.lend.is_empty();
        }
        let fair = nodes.iter().any(|node| node.spec.preemption == Preemption::Fair);
        let mut table = Table::new(nodes.len(), kinds.all().count());
        let mut kept = Vec::new();
        for (kind, name) in kinds.all() {
            kept.extend(fill(&nodes, &mut table, kind, name));
        }
        let below_root = || nodes.iter().filter(|node| node.parent.is_some());
        let is_guaranteed = |name: &str| below_root().any(|node| node.spec.guarantee.get(name) > 0);
        let guaranteed = kinds.all().filter(|(_, name)| is_guaranteed(name)).map(|(kind, _)| kind).collect();
        Pools {
            nodes: nodes.into(),
            table,
            by_name: Arc::new(by_name),
            guaranteed,
            fair,
            fleet: Vec::new(),
            kept: kept.into(),
        }
    }

    /// What the connected workers have together.
    pub(crate) fn set_fleet(&mut self, fleet: &Resources, kinds: &mut Kinds) {
        self.fleet.clear();
        for (name, amount) in fleet.iter() {
            let kind = kinds.intern(name).index();
            self.fleet.resize(self.fleet.len().max(kind + 1), 0);
            self.fleet[kind] = amount;
        }
        for Kept { kind, held, lent } in self.kept.iter().copied() {
            let limit = match self.fleet.get(kind.index()) {
                None | Some(0) => u64::MAX,
                Some(fleet) => fleet.saturating_sub(held).saturating_add(lent),
            };
            self.table.of_mut(PoolIx::ROOT, kind).limit = limit;
        }
    }

    /// The pool's limit of the kind is what the fleet has beyond what others keep for themselves.
    pub(crate) fn is_kept(&self, pool: PoolIx, kind: Kind) -> bool {
        pool == PoolIx::ROOT && self.kept.iter().any(|kept| kept.kind == kind)
    }

    // ------------------------------------------------------------ who is there

    pub(crate) fn find(&self, name: &PoolName) -> Option<PoolIx> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn default_pool(&self) -> PoolIx {
        self.by_name[&PoolName::default()]
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = PoolIx> + use<> {
        (0..u32::try_from(self.nodes.len()).expect("pools are bounded")).map(PoolIx)
    }

    pub(crate) fn name(&self, pool: PoolIx) -> &PoolName {
        &self.nodes[pool.index()].name
    }

    pub(crate) fn spec(&self, pool: PoolIx) -> &PoolSpec {
        &self.nodes[pool.index()].spec
    }

    pub(crate) fn parent(&self, pool: PoolIx) -> Option<PoolIx> {
        self.nodes[pool.index()].parent
    }

    pub(crate) fn is_leaf(&self, pool: PoolIx) -> bool {
        self.nodes[pool.index()].leaf
    }

    pub(crate) fn nets_below(&self, pool: PoolIx) -> bool {
        self.nodes[pool.index()].nets_below
    }

    /// Its own, or the stricter one of a pool above it.
    pub(crate) fn hold(&self, pool: PoolIx) -> Hold {
        self.nodes[pool.index()].hold
    }

    /// From the pool itself to the root.
    pub(crate) fn path(&self, pool: PoolIx) -> impl Iterator<Item = PoolIx> {
        std::iter::successors(Some(pool), |at| self.parent(*at))
    }

    /// Whether anybody can be entitled to anything.
    pub(crate) fn has_guarantees(&self) -> bool {
        !self.guaranteed.is_empty()
    }

    pub(crate) fn has_fair(&self) -> bool {
        self.fair
    }

    // ------------------------------------------------------------ numbers

    pub(crate) fn held(&self, pool: PoolIx, kind: Kind) -> u64 {
        self.table.of(pool, kind).held
    }

    pub(crate) fn subtree(&self, pool: PoolIx, kind: Kind) -> u64 {
        self.table.of(pool, kind).subtree
    }

    /// `u64::MAX`: none.
    pub(crate) fn limit(&self, pool: PoolIx, kind: Kind) -> u64 {
        self.table.of(pool, kind).limit
    }

    pub(crate) fn usage(&self, pool: PoolIx, kind: Kind) -> u64 {
        self.table.of(pool, kind).usage
    }

    /// Plain sum of everything below.
    pub(crate) fn real(&self, pool: PoolIx, kind: Kind) -> u64 {
        self.table.of(pool, kind).real
    }

    /// Used beyond what it can hand out without borrowing.
    pub(crate) fn borrowed(&self, pool: PoolIx, kind: Kind) -> u64 {
        self.usage(pool, kind).saturating_sub(self.subtree(pool, kind))
    }

    // ------------------------------------------------------------ counting

    /// A task is leased.
    pub(crate) fn charge(&mut self, leaf: PoolIx, need: &[(Kind, u64)]) {
        self.count(leaf, need, true);
        self.hold_for(leaf, need);
    }

    /// Its lease is over.
    pub(crate) fn release(&mut self, leaf: PoolIx, need: &[(Kind, u64)]) {
        self.count(leaf, need, false);
        self.let_go(leaf, need);
    }

    fn count(&mut self, leaf: PoolIx, need: &[(Kind, u64)], more: bool) {
        let mut at = Some(leaf);
        while let Some(pool) = at {
            for &(kind, amount) in need {
                let real = &mut self.table.of_mut(pool, kind).real;
                *real = if more { real.saturating_add(amount) } else { real.saturating_sub(amount) };
            }
            at = self.parent(pool);
        }
    }

    /// Quota is kept for a task that is not leased yet: as used for everybody, though nobody uses it.
    pub(crate) fn hold_for(&mut self, leaf: PoolIx, need: &[(Kind, u64)]) {
        for &(kind, amount) in need {
            let (mut at, mut rise) = (Some(leaf), amount);
            while let Some(pool) = at.filter(|_| rise > 0) {
                let numbers = self.table.of_mut(pool, kind);
                let (before, local) = (numbers.usage, numbers.local);
                numbers.usage = before.saturating_add(rise);
                rise = numbers.usage.saturating_sub(local) - before.saturating_sub(local);
                at = self.parent(pool);
            }
        }
    }

    /// It is kept no more.
    pub(crate) fn let_go(&mut self, leaf: PoolIx, need: &[(Kind, u64)]) {
        for &(kind, amount) in need {
            let (mut at, mut fall) = (Some(leaf), amount);
            while let Some(pool) = at.filter(|_| fall > 0) {
                let numbers = self.table.of_mut(pool, kind);
                let (before, local) = (numbers.usage, numbers.local);
                numbers.usage = before.saturating_sub(fall);
                fall = before.saturating_sub(local) - numbers.usage.saturating_sub(local);
                at = self.parent(pool);
            }
        }
    }

    // ------------------------------------------------------------ questions

    /// # Errors
    /// The node nearest to the leaf that would be over its quota by more than it may borrow.
    pub(crate) fn admits(&self, leaf: PoolIx, need: &[(Kind, u64)]) -> Result<(), Over> {
        for &(kind, amount) in need {
            let mut rise = amount;
            for pool in self.path(leaf) {
                let &Numbers { usage: before, local, limit, .. } = self.table.of(pool, kind);
                let after = before.saturating_add(rise);
                if after > limit {
                    return Err(Over { pool, kind });
                }
                rise = after.saturating_sub(local) - before.saturating_sub(local);
                if rise == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// As [`Self::admits`], for a task that must not be preempted: it may use nothing that is owed to somebody.
    ///
    /// # Errors
    /// The leaf, if the task would borrow; else as `admits`.
    pub(crate) fn admits_for_good(&self, leaf: PoolIx, need: &[(Kind, u64)]) -> Result<(), Over> {
        for &(kind, amount) in need {
            if self.is_guaranteed(leaf, kind)
                && self.usage(leaf, kind).saturating_add(amount) > self.subtree(leaf, kind)
            {
                return Err(Over { pool: leaf, kind });
            }
        }
        self.admits(leaf, need)
    }

    /// Somebody guarantees the kind to the leaf, or to a pool above it: then there is somebody to borrow it from.
    fn is_guaranteed(&self, leaf: PoolIx, kind: Kind) -> bool {
        self.path(leaf).any(|pool| pool != PoolIx::ROOT && self.held(pool, kind) > 0)
    }

    /// As one of the two says; `fixed`: it must not be preempted.
    ///
    /// # Errors
    /// As theirs.
    pub(crate) fn admits_as(&self, leaf: PoolIx, need: &[(Kind, u64)], fixed: bool) -> Result<(), Over> {
        if fixed { self.admits_for_good(leaf, need) } else { self.admits(leaf, need) }
    }

    /// Whether the task could run if nothing else did.
    ///
    /// # Errors
    /// The node that is too small for it.
    pub(crate) fn could_admit_as(&self, leaf: PoolIx, need: &[(Kind, u64)], fixed: bool) -> Result<(), Over> {
        for &(kind, amount) in need {
            if fixed && self.is_guaranteed(leaf, kind) && amount > self.subtree(leaf, kind) {
                return Err(Over { pool: leaf, kind });
            }
            let mut rise = amount;
            for pool in self.path(leaf) {
                if rise > self.limit(pool, kind) {
                    return Err(Over { pool, kind });
                }
                rise = rise.saturating_sub(self.table.of(pool, kind).local);
            }
        }
        Ok(())
    }

    /// The largest task, of one kind, for which [`Self::could_admit_as`] has nothing to say.
    pub(crate) fn most(&self, leaf: PoolIx, kind: Kind, fixed: bool) -> u64 {
        let own = if fixed && self.is_guaranteed(leaf, kind) { self.subtree(leaf, kind) } else { u64::MAX };
        let (most, _) = self.path(leaf).fold((own, 0_u64), |(most, below), pool| {
            let Numbers { local, limit, .. } = *self.table.of(pool, kind);
            (most.min(limit.saturating_add(below)), below.saturating_add(local))
        });
        most
    }

    /// Below its guarantee in the kinds of a profile: ranks first.
    pub(crate) fn is_below(&self, pool: PoolIx, profile: &[Kind]) -> bool {
        let mut guaranteed = profile.iter().filter(|kind| self.held(pool, **kind) > 0).peekable();
        guaranteed.peek().is_some() && guaranteed.all(|kind| self.usage(pool, *kind) < self.subtree(pool, *kind))
    }

    /// What it borrows as a part of what there is, over its weight: the greatest over the kinds.
    pub(crate) fn share(&self, pool: PoolIx, profile: &[Kind]) -> Share {
        self.share_with(pool, profile, |_| 0, |_| 0)
    }

    fn share_with(
        &self,
        pool: PoolIx,
        profile: &[Kind],
        more: impl Fn(Kind) -> u64,
        less: impl Fn(Kind) -> u64,
    ) -> Share {
        let weight = u64::from(self.spec(pool).weight);
        let of = |kind: Kind| {
            let usage = self.usage(pool, kind).saturating_add(more(kind)).saturating_sub(less(kind));
            Share::new(usage.saturating_sub(self.subtree(pool, kind)), self.lendable(kind), weight)
        };
        profile.iter().map(|kind| of(*kind)).max().unwrap_or(Share::ZERO)
    }

    /// What there is of a kind to be shared.
    fn lendable(&self, kind: Kind) -> u64 {
        let ceiling = self.limit(PoolIx::ROOT, kind);
        self.fleet.get(kind.index()).copied().unwrap_or(0).min(ceiling).max(1)
    }

    pub(crate) fn may_preempt(&self, pool: PoolIx) -> Preemption {
        self.spec(pool).preemption
    }

    // ------------------------------------------------------------ checks

    /// What the leased tasks of each leaf use, and what is held for others of it.
    pub(crate) fn check_invariants(&self, leaves: &ByLeaf, holds: &ByLeaf, kinds: &Kinds) {
        let of = |what: &ByLeaf, pool, kind| what.get(&pool).and_then(|used| used.get(&kind)).copied().unwrap_or(0);
        for (kind, name) in kinds.all() {
            let mut real = vec![0_u64; self.nodes.len()];
            let mut usage = vec![0_u64; self.nodes.len()];
            for at in (0..self.nodes.len()).rev() {
                let (pool, node) = (PoolIx(u32::try_from(at).expect("bounded")), &self.nodes[at]);
                let (own, held) = (of(leaves, pool, kind), of(holds, pool, kind));
                assert!(own + held == 0 || node.leaf, "pool {}: tasks run in a divided pool", node.name);
                real[at] += own;
                usage[at] += own + held;
                assert_eq!(real[at], self.real(pool, kind), "pool {}: {name} used", node.name);
                assert_eq!(usage[at], self.usage(pool, kind), "pool {}: {name} used, netted", node.name);
                if let Some(parent) = node.parent {
                    real[parent.index()] += real[at];
                    usage[parent.index()] += usage[at].saturating_sub(self.table.of(pool, kind).local);
                }
            }
        }
    }
}

/// Quotas of one kind, from the leaves up; and what is kept of it, if the fleet is its ceiling.
fn fill(nodes: &[Node], table: &mut Table, kind: Kind, name: &str) -> Option<Kept> {
    let mut keeps = false;
    let mut held_below = vec![0_u64; nodes.len()];
    let mut lent_up = vec![0_u64; nodes.len()];
    for at in (0..nodes.len()).rev() {
        let node = &nodes[at];
        let own = node.spec.guarantee.get(name).saturating_sub(held_below[at]);
        let (held, subtree) = (own.saturating_add(held_below[at]), own.saturating_add(lent_up[at]));
        let local = node.spec.lend.get(name).map_or(0, |lend| subtree.saturating_sub(*lend));
        keeps |= local > 0;
        let limit = match (node.parent, node.spec.borrow.get(name)) {
            (Some(_), Some(borrow)) => subtree.saturating_add(*borrow),
            (Some(_), None) => u64::MAX,
            (None, _) if node.spec.guarantee.get(name) > 0 => subtree,
            (None, _) => u64::MAX,
        };
        let numbers = table.of_mut(PoolIx(u32::try_from(at).expect("pools are bounded")), kind);
        *numbers = Numbers { held, subtree, local, limit, ..*numbers };
        if let Some(parent) = node.parent {
            held_below[parent.index()] = held_below[parent.index()].saturating_add(held);
            lent_up[parent.index()] = lent_up[parent.index()].saturating_add(subtree - local);
        }
    }
    let has_ceiling = nodes[PoolIx::ROOT.index()].spec.guarantee.get(name) > 0;
    let (held, lent) = (held_below[PoolIx::ROOT.index()], lent_up[PoolIx::ROOT.index()]);
    (keeps && !has_ceiling).then_some(Kept { kind, held, lent })
}

fn stricter(a: Hold, b: Hold) -> Hold {
    let rank = |hold: Hold| match hold {
        Hold::Open => 0,
        Hold::Held => 1,
        Hold::Draining => 2,
    };
    if rank(a) >= rank(b) { a } else { b }
}

#[cfg(test)]
mod tests;
