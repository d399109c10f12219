//! Changes of a tree, as `spool pool set` and `delete` have them.

use clap::Args;
use spool_proto::pool::{PoolName, PoolSpec, PoolTree, Preemption, WarmSpec};
use spool_proto::time::Span;

use crate::exit::Stop;
use crate::pool::manifest::set_amount;
use crate::quantity;

/// A value, or its absence.
#[derive(Debug, Clone, Copy, PartialEq)]
struct OrNone<T>(Option<T>);

/// One resource and what becomes of it: `cpu=64`, `cpu=none`.
#[derive(Debug, Clone, PartialEq)]
struct Amount {
    resource: String,
    amount: Option<u64>,
}

/// What is kept warm: `media.encode/cpu/libx264=2:4:5m`, `…=none`.
#[derive(Debug, Clone, PartialEq)]
struct Warm {
    key: String,
    spec: Option<WarmSpec>,
}

/// What is not named stays as it is.
#[derive(Debug, Default, Args)]
pub struct EditArgs {
    /// What it gets whenever it asks: cpu=64,memory=256Gi,encode_sessions=8; cpu=none takes it away
    #[arg(long, value_name = "AMOUNTS", value_delimiter = ',', value_parser = amount)]
    guarantee: Vec<Amount>,
    /// Most it may use beyond that; cpu=none: no limit
    #[arg(long, value_name = "AMOUNTS", value_delimiter = ',', value_parser = amount)]
    borrow: Vec<Amount>,
    /// Most of its guarantee that others may use; cpu=none: all of it
    #[arg(long, value_name = "AMOUNTS", value_delimiter = ',', value_parser = amount)]
    lend: Vec<Amount>,
    /// Its part of what can be borrowed, against its siblings'
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    /// May it take running tasks' places: never, reclaim, fair
    #[arg(long, value_name = "HOW", value_parser = preemption)]
    preemption: Option<Preemption>,
    /// How long borrowers have to give back what it is guaranteed: 10s
    #[arg(long, value_name = "TIME", value_parser = quantity::span)]
    grace: Option<Span>,
    /// Most jobs that may wait in it and below; none: no limit
    #[arg(long, value_name = "N", value_parser = max_queued)]
    max_queued: Option<OrNone<u32>>,
    /// Executors kept warm: media.encode/cpu/libx264=MIN[:MAX[:IDLE]], such as =2:4:5m; =none takes it away
    #[arg(long, value_name = "KEY=MIN", value_parser = warm)]
    warm: Vec<Warm>,
}

fn preemption(text: &str) -> Result<Preemption, String> {
    match text {
        "never" => Ok(Preemption::Never),
        "reclaim" => Ok(Preemption::Reclaim),
        "fair" => Ok(Preemption::Fair),
        _ => Err("expected never, reclaim or fair".into()),
    }
}

fn amount(text: &str) -> Result<Amount, String> {
    let (resource, amount) = text
        .split_once('=')
        .filter(|(resource, _)| !resource.is_empty())
        .ok_or("expected RESOURCE=AMOUNT, such as cpu=64 or memory=256Gi")?;
    let amount = if amount == "none" { None } else { Some(quantity::amount(resource, amount)?) };
    Ok(Amount { resource: resource.into(), amount })
}

fn max_queued(text: &str) -> Result<OrNone<u32>, String> {
    match text {
        "none" => Ok(OrNone(None)),
        text => text.parse().map(|n| OrNone(Some(n))).map_err(|_| "expected a number, or none".into()),
    }
}

fn warm(text: &str) -> Result<Warm, String> {
    let bad = || "expected FUNCTION/BACKEND=MIN[:MAX[:IDLE]], such as media.encode/cpu/libx264=2:4:5m".to_owned();
    let (key, spec) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(bad)?;
    if spec == "none" {
        return Ok(Warm { key: key.into(), spec: None });
    }
    let mut parts = spec.split(':');
    let min = parts.next().and_then(|min| min.parse().ok()).ok_or_else(bad)?;
    let max = parts.next().map(|max| max.parse().map_err(|_| bad())).transpose()?;
    let idle_timeout = parts.next().map(quantity::span).transpose()?.unwrap_or_else(WarmSpec::idle_timeout_default);
    if parts.next().is_some() {
        return Err(bad());
    }
    Ok(Warm { key: key.into(), spec: Some(WarmSpec { min, max, idle_timeout }) })
}

impl EditArgs {
    /// Changes `pool`, or makes it.
    ///
    /// # Errors
    /// Never; as [`delete`] has it.
    pub fn apply_to(&self, tree: &mut PoolTree, pool: &PoolName) -> anyhow::Result<()> {
        self.edit(tree.pools.entry(pool.clone()).or_default());
        Ok(())
    }

    fn edit(&self, spec: &mut PoolSpec) {
        for Amount { resource, amount } in &self.guarantee {
            set_amount(&mut spec.guarantee, resource, amount.unwrap_or(0));
        }
        for (limits, edits) in [(&mut spec.borrow, &self.borrow), (&mut spec.lend, &self.lend)] {
            for Amount { resource, amount } in edits {
                match amount {
                    Some(amount) => limits.insert(resource.clone(), *amount),
                    None => limits.remove(resource),
                };
            }
        }
        spec.weight = self.weight.unwrap_or(spec.weight);
        spec.preemption = self.preemption.unwrap_or(spec.preemption);
        spec.grace = self.grace.unwrap_or(spec.grace);
        if let Some(OrNone(max_queued)) = self.max_queued {
            spec.max_queued = max_queued;
        }
        for warm in &self.warm {
            match warm.spec {
                Some(warm_spec) => spec.warm.insert(warm.key.clone(), warm_spec),
                None => spec.warm.remove(&warm.key),
            };
        }
    }
}

/// Takes a pool away that has none below it.
///
/// # Errors
/// When it is not there, or has pools below it.
pub fn delete(tree: &mut PoolTree, pool: &PoolName) -> anyhow::Result<()> {
    let below: Vec<String> = tree.children(pool).take(4).map(ToString::to_string).collect();
    if !below.is_empty() && !pool.is_root() {
        return Err(Stop::usage(format!("pool {pool} has pools below it ({}): delete those first", below.join(", "))));
    }
    tree.pools.remove(pool).map(drop).ok_or_else(|| no_such_pool(pool))
}

pub fn no_such_pool(pool: &PoolName) -> anyhow::Error {
    Stop::usage(format!("there is no pool {pool}; `spool pool list` shows those there are"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> EditArgs {
        EditArgs {
            guarantee: vec![amount("cpu=64").expect("good"), amount("licence=2").expect("good")],
            borrow: vec![amount("cpu=128").expect("good")],
            weight: Some(2),
            max_queued: Some(max_queued("9").expect("good")),
            warm: vec![warm("media.probe=1").expect("good")],
            ..EditArgs::default()
        }
    }

    #[test]
    fn a_pool_is_made_and_what_is_not_named_stays() {
        let (mut tree, studio) = (PoolTree::default(), PoolName::from("studio"));
        args().apply_to(&mut tree, &studio).expect("made");
        let made = tree.pools[&studio].clone();
        assert_eq!((made.guarantee.cpu, made.guarantee.get("licence"), made.borrow["cpu"]), (64_000, 2, 128_000));
        assert_eq!((made.weight, made.max_queued, made.warm.len()), (2, Some(9), 1));
        let more = EditArgs { lend: vec![amount("cpu=32").expect("good")], ..EditArgs::default() };
        more.apply_to(&mut tree, &studio).expect("changed");
        assert_eq!(tree.pools[&studio], PoolSpec { lend: [("cpu".into(), 32_000)].into(), ..made });
    }

    #[test]
    fn none_takes_a_number_away() {
        let (mut tree, studio) = (PoolTree::default(), PoolName::from("studio"));
        args().apply_to(&mut tree, &studio).expect("made");
        let none = EditArgs {
            guarantee: vec![amount("cpu=none").expect("good"), amount("licence=none").expect("good")],
            borrow: vec![amount("cpu=none").expect("good")],
            weight: Some(1),
            max_queued: Some(max_queued("none").expect("good")),
            warm: vec![warm("media.probe=none").expect("good")],
            ..EditArgs::default()
        };
        none.apply_to(&mut tree, &studio).expect("changed");
        assert_eq!(tree.pools[&studio], PoolSpec::default());
    }

    #[test]
    fn warm_capacity_is_read_part_by_part() {
        let spec = |text: &str| warm(text).map(|warm| warm.spec);
        let idle_timeout = WarmSpec::idle_timeout_default();
        assert_eq!(spec("a/b=2"), Ok(Some(WarmSpec { min: 2, max: None, idle_timeout })));
        assert_eq!(spec("a/b=2:4"), Ok(Some(WarmSpec { min: 2, max: Some(4), idle_timeout })));
        let short = WarmSpec { min: 2, max: Some(4), idle_timeout: Span::from_secs(300) };
        assert_eq!(spec("a/b=2:4:5m"), Ok(Some(short)));
        for bad in ["a/b", "=2", "a/b=", "a/b=x", "a/b=1:x", "a/b=1:2:x", "a/b=1:2:3s:4"] {
            assert!(spec(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pool_with_others_below_it_is_not_deleted() {
        let mut tree = PoolTree::default();
        for name in ["a", "a/b"] {
            tree.pools.insert(name.into(), PoolSpec::default());
        }
        let refusal = delete(&mut tree, &"a".into()).expect_err("refused").to_string();
        assert!(refusal.contains("a/b"), "{refusal}");
        assert!(delete(&mut tree, &"c".into()).expect_err("refused").to_string().contains("no pool c"));
        delete(&mut tree, &"a/b".into()).expect("deleted");
        delete(&mut tree, &"a".into()).expect("deleted");
        assert_eq!(tree, PoolTree::default());
    }
}
