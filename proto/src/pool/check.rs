//! The rules a tree must keep.

use std::collections::BTreeMap;

use super::{PoolName, PoolSpec, PoolTree};
use crate::resources::{Resources, amount_text};

/// Levels below the root.
const DEPTH_MAX: usize = 16;
const POOLS_MAX: usize = 100_000;
const NAME_MAX: usize = 255;
/// Shares are compared as exact fractions in 128 bits: amounts and weights are bounded so that their products fit.
const AMOUNT_MAX: u64 = 1 << 50;
const WEIGHT_MAX: u32 = 1_000_000;

/// Says pool, resource and rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pool {pool}{}: {rule}", resource.as_ref().map(|r| format!(", {r}")).unwrap_or_default())]
pub struct BadTree {
    pub pool: PoolName,
    pub resource: Option<String>,
    pub rule: String,
}

pub(super) fn check(tree: &PoolTree) -> Result<(), BadTree> {
    check_structure(tree)?;
    check_promises(tree)
}

pub(super) fn check_structure(tree: &PoolTree) -> Result<(), BadTree> {
    let bad = |pool: &PoolName, rule: String| Err(BadTree { pool: pool.clone(), resource: None, rule });
    if tree.pools.len() > POOLS_MAX {
        return bad(&PoolName::root(), format!("{} pools are too many; at most {POOLS_MAX}", tree.pools.len()));
    }
    for needed in [PoolName::root(), PoolName::default()] {
        if !tree.pools.contains_key(&needed) {
            return bad(
                &needed,
                "it must be there: jobs that name no pool go to `default`, all pools hang on `/`".into(),
            );
        }
    }
    for (name, spec) in &tree.pools {
        check_name(tree, name)?;
        check_spec(name, spec)?;
    }
    let default = PoolName::default();
    if !tree.is_leaf(&default) {
        return bad(&default, "it takes jobs, so it can have no pools below it".into());
    }
    Ok(())
}

/// Σ children ≤ parent, where the parent is guaranteed anything of the kind. A child that is guaranteed nothing itself holds what its own
/// children are guaranteed.
fn check_promises(tree: &PoolTree) -> Result<(), BadTree> {
    let mut sums: BTreeMap<PoolName, Resources> = BTreeMap::new();
    // Children sort behind their parents.
    for (name, spec) in tree.pools.iter().rev() {
        let Some(parent) = name.parent() else { continue };
        let held = spec.guarantee.max_of(sums.get(name).unwrap_or(&Resources::ZERO));
        sums.entry(parent).or_default().add(&held);
    }
    for (parent, sum) in &sums {
        for (resource, amount) in tree.pools[parent].guarantee.iter() {
            let needed = sum.get(resource);
            if needed > amount {
                let (needed, amount) = (amount_text(resource, needed), amount_text(resource, amount));
                let rule = format!(
                    "its children are guaranteed {needed} together, more than its own {amount}; raise it or lower theirs"
                );
                return Err(BadTree { pool: parent.clone(), resource: Some(resource.into()), rule });
            }
        }
    }
    Ok(())
}

fn check_name(tree: &PoolTree, name: &PoolName) -> Result<(), BadTree> {
    check_syntax(name)?;
    match name.parent() {
        Some(parent) if !tree.pools.contains_key(&parent) => Err(BadTree {
            pool: name.clone(),
            resource: None,
            rule: format!("there is no pool {parent} for it to be in"),
        }),
        _ => Ok(()),
    }
}

pub(super) fn check_syntax(name: &PoolName) -> Result<(), BadTree> {
    let bad = |rule: String| Err(BadTree { pool: name.clone(), resource: None, rule });
    if name.is_root() {
        return Ok(());
    }
    if name.0.len() > NAME_MAX {
        return bad(format!("the name is longer than {NAME_MAX} bytes"));
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.0.split('/').any(|part| part.is_empty() || !part.chars().all(good)) {
        return bad("a name is made of letters, digits, - _ . with / between levels, like studio/marketing".into());
    }
    if name.0.split('/').count() > DEPTH_MAX {
        return bad(format!("more than {DEPTH_MAX} levels deep"));
    }
    Ok(())
}

fn check_spec(name: &PoolName, spec: &PoolSpec) -> Result<(), BadTree> {
    let bad = |resource: Option<&str>, rule: String| {
        Err(BadTree { pool: name.clone(), resource: resource.map(Into::into), rule })
    };
    let amounts = spec.guarantee.iter().chain(spec.borrow.iter().map(|(n, a)| (n.as_str(), *a)));
    for (resource, amount) in amounts {
        if amount > AMOUNT_MAX {
            return bad(Some(resource), format!("{amount} is more than can be counted ({AMOUNT_MAX})"));
        }
    }
    if spec.weight > WEIGHT_MAX {
        return bad(None, format!("weight {} is more than {WEIGHT_MAX}", spec.weight));
    }
    if name.is_root() && !(spec.borrow.is_empty() && spec.lend.is_empty()) {
        return bad(None, "the root has nobody to borrow from or lend to: leave borrow and lend out".into());
    }
    for (resource, lent) in &spec.lend {
        let amount = spec.guarantee.get(resource);
        if *lent > amount {
            let (lent, amount) = (amount_text(resource, *lent), amount_text(resource, amount));
            return bad(Some(resource), format!("lends {lent} of a guarantee of {amount}"));
        }
    }
    for (key, warm) in &spec.warm {
        if key.is_empty() {
            return bad(None, "warm: name a function, or function/backend like media.encode/cpu/libx264".into());
        }
        if warm.max.is_some_and(|max| max < warm.min) {
            return bad(None, format!("warm {key}: max {} is less than min {}", warm.most(), warm.min));
        }
    }
    Ok(())
}
