//! The quota tree as people write it: pools with guarantees, limits, weights and warm capacity.
//!
//! A tree is one value, applied as a whole under a version. [`PoolTree::check`] says what is wrong with it, by pool, resource and
//! rule. What the numbers mean, and the algebra over them, is in `scheduler/core/src/pools/README.md`.

mod check;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::resources::Resources;
use crate::time::{Span, Timestamp};

pub use check::BadTree;

/// A pool by its path from the root: `studio/marketing`. The root itself is `/`; it is there always, as is [`PoolName::DEFAULT`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PoolName(pub Arc<str>);

impl PoolName {
    /// Takes the jobs that name no pool.
    pub const DEFAULT: &'static str = "default";
    pub const ROOT: &'static str = "/";

    pub fn root() -> PoolName {
        PoolName::from(Self::ROOT)
    }

    pub fn is_root(&self) -> bool {
        &*self.0 == Self::ROOT
    }

    /// `None` for the root.
    pub fn parent(&self) -> Option<PoolName> {
        if self.is_root() {
            return None;
        }
        Some(self.0.rsplit_once('/').map_or_else(PoolName::root, |(parent, _)| parent.into()))
    }

    /// Is it this pool, or one below it?
    pub fn is_within(&self, above: &PoolName) -> bool {
        let below = |rest: &str| rest.is_empty() || rest.starts_with('/');
        above.is_root() || self.0.strip_prefix(&*above.0).is_some_and(below)
    }

    /// Judges how the name is written, not whether there is such a pool.
    ///
    /// # Errors
    /// What a name is made of, where this one is not.
    pub fn check(&self) -> Result<(), BadTree> {
        check::check_syntax(self)
    }
}

impl Default for PoolName {
    fn default() -> Self {
        PoolName::from(Self::DEFAULT)
    }
}

impl From<&str> for PoolName {
    fn from(name: &str) -> Self {
        PoolName(name.into())
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Amounts by resource. Unlike in [`Resources`], a name that is absent means "no limit", not zero.
pub type Limits = BTreeMap<String, u64>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "snake_case")]
pub struct PoolSpec {
    /// Nominal quota: what the pool gets whenever it asks, whoever borrows it meanwhile. Absent: nothing guaranteed. The root's
    /// guarantee is a ceiling over everything; absent there: no ceiling but the fleet.
    pub guarantee: Resources,
    /// Most that may be used beyond the guarantee (the pool's and what its children leave it). Absent: no limit.
    pub borrow: Limits,
    /// Most of the guarantee that others may use while it lies idle. Absent: all of it.
    pub lend: Limits,
    /// Of what can be borrowed, siblings get shares in proportion. 0: borrows only what no sibling wants.
    pub weight: u32,
    /// May this pool take running tasks' places?
    pub preemption: Preemption,
    /// How long borrowers have to give back what this pool is guaranteed.
    pub grace: Span,
    /// Submits are refused beyond this many jobs that wait for their first worker, in the pool and below. Absent: no limit.
    pub max_queued: Option<u32>,
    /// Executors kept warm for the pool, by what they are warm for: `media.encode/cpu/libx264`, or a function alone.
    pub warm: BTreeMap<String, WarmSpec>,
}

impl Default for PoolSpec {
    fn default() -> Self {
        PoolSpec {
            guarantee: Resources::ZERO,
            borrow: Limits::new(),
            lend: Limits::new(),
            weight: 1,
            preemption: Preemption::Reclaim,
            grace: Span::from_secs(10),
            max_queued: None,
            warm: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preemption {
    /// It waits until what is lent comes back by itself.
    Never,
    /// From borrowers, up to its guarantee.
    #[default]
    Reclaim,
    /// And from borrowers that have more than their fair share, outside a dead zone and at a bounded rate.
    Fair,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct WarmSpec {
    /// Executors kept warm over the fleet, whatever happens.
    pub min: u32,
    /// Most that stay warm after work has gone. `min` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// How long those beyond `min` stay.
    #[serde(default = "WarmSpec::idle_timeout_default")]
    pub idle_timeout: Span,
}

impl WarmSpec {
    pub fn idle_timeout_default() -> Span {
        Span::from_secs(300)
    }

    pub fn most(&self) -> u32 {
        self.max.unwrap_or(self.min).max(self.min)
    }
}

/// All pools, by name. Parents of a pool are in it, the root too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PoolTree {
    pub pools: BTreeMap<PoolName, PoolSpec>,
}

impl Default for PoolTree {
    /// What a fresh server has: the root and `default`, without limits.
    fn default() -> Self {
        let pools = [PoolName::root(), PoolName::default()].map(|name| (name, PoolSpec::default()));
        PoolTree { pools: pools.into() }
    }
}

impl PoolTree {
    /// Names of the pools directly below, in order.
    pub fn children<'a>(&'a self, parent: &'a PoolName) -> impl Iterator<Item = &'a PoolName> {
        self.pools.keys().filter(move |name| name.parent().as_ref() == Some(parent))
    }

    pub fn is_leaf(&self, name: &PoolName) -> bool {
        // What is below it sorts together, from its name and a slash on.
        let prefix = if name.is_root() { String::new() } else { format!("{name}/") };
        let mut below = self.pools.range(PoolName::from(prefix.as_str())..).map(|(other, _)| other);
        below.find(|other| !other.is_root()).is_none_or(|other| !other.0.starts_with(&prefix))
    }

    /// # Errors
    /// The first rule that is broken, with pool and resource.
    pub fn check(&self) -> Result<(), BadTree> {
        check::check(self)
    }

    /// Without what it promises: a tree that was applied once is read again, whatever is asked of new ones meanwhile.
    ///
    /// # Errors
    /// The first rule that is broken, with pool and resource.
    pub fn check_structure(&self) -> Result<(), BadTree> {
        check::check_structure(self)
    }
}

/// What an administrator said of a pool besides its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    #[default]
    Open,
    /// Nothing new starts; submits are queued.
    Held,
    /// Nothing new starts and submits are refused; what runs, ends.
    Draining,
}

/// Delay-tolerant or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    #[default]
    Standard,
    /// Runs on capacity nobody else can use, is the first to be reclaimed, and becomes standard at `start_by`.
    Opportunistic { start_by: Timestamp },
}

/// After waiting `after` since its submission without all of its tasks started, a job moves on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hop {
    pub after: Span,
    pub pool: PoolName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
}

/// Everything durable about pools.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolsState {
    /// Rises with every change. 0: never changed.
    pub version: u64,
    pub tree: PoolTree,
    /// Pools that are not open.
    pub holds: BTreeMap<PoolName, HoldState>,
    /// The latest changes, oldest first.
    pub changes: Vec<crate::view::PoolChangeView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldState {
    pub hold: Hold,
    pub by: String,
    pub reason: String,
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_within_itself_and_those_above_it() {
        let within = |name: &str, above: &str| PoolName::from(name).is_within(&above.into());
        assert!(within("a/b", "/") && within("a/b", "a") && within("a/b", "a/b") && within("/", "/"));
        assert!(!within("ab", "a") && !within("a", "a/b") && !within("/", "a"));
    }
    /// What is guaranteed two levels below counts, whatever the level between says; else a ceiling would be none.
    #[test]
    fn a_guarantee_contains_what_all_below_it_are_guaranteed() {
        let mut tree = PoolTree::default();
        let with = |cpu| PoolSpec { guarantee: Resources::cpu_memory(cpu, 0), ..PoolSpec::default() };
        for (name, cpu) in [("/", 5_000), ("a", 0), ("a/x", 1_000), ("b", 4_000)] {
            tree.pools.insert(name.into(), with(cpu));
        }
        assert_eq!(tree.check(), Ok(()));
        tree.pools.insert("a/x".into(), with(1_500));
        let refused = tree.check().expect_err("more than the ceiling").to_string();
        assert!(
            refused.contains("pool /, cpu: its children are guaranteed 5500m together, more than its own 5"),
            "{refused}"
        );
        assert_eq!(tree.check_structure(), Ok(()), "once applied, it is read again");
    }
}
