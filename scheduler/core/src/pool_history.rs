//! What changed in the quota tree, when, by whom and why.

use spool_proto::pool::{Hold, HoldState, PoolName, PoolSpec, PoolTree};
use spool_proto::time::Timestamp;
use spool_proto::view::{FieldChange, PoolChangeView};

use crate::io::PoolChange;

/// Changes kept; the oldest go first.
pub(crate) const KEPT: usize = 1_000;

pub(crate) fn entry(before: &PoolTree, version: u64, change: &PoolChange, at: Timestamp) -> PoolChangeView {
    PoolChangeView {
        version,
        at,
        by: change.by.clone(),
        reason: change.reason.clone(),
        changes: diff(before, &change.tree),
    }
}

pub(crate) fn hold_entry(version: u64, pool: &PoolName, before: Hold, state: &HoldState) -> PoolChangeView {
    let change = FieldChange {
        pool: pool.clone(),
        field: "hold".into(),
        before: hold_name(before).into(),
        after: hold_name(state.hold).into(),
    };
    PoolChangeView { version, at: state.at, by: state.by.clone(), reason: state.reason.clone(), changes: vec![change] }
}

fn hold_name(hold: Hold) -> &'static str {
    match hold {
        Hold::Open => "open",
        Hold::Held => "held",
        Hold::Draining => "draining",
    }
}

pub(crate) fn remember(changes: &mut Vec<PoolChangeView>, entry: PoolChangeView) {
    if changes.len() == KEPT {
        changes.remove(0);
    }
    changes.push(entry);
}

/// Field by field, in order of pool.
pub(crate) fn diff(before: &PoolTree, after: &PoolTree) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    let names: std::collections::BTreeSet<&PoolName> = before.pools.keys().chain(after.pools.keys()).collect();
    for pool in names {
        let change =
            |field: String, before: String, after: String| FieldChange { pool: pool.clone(), field, before, after };
        let (old, new) = (before.pools.get(pool), after.pools.get(pool));
        match (old, new) {
            (None, Some(_)) => changes.push(change("pool".into(), String::new(), "created".into())),
            (Some(_), None) => changes.push(change("pool".into(), "there".into(), "deleted".into())),
            _ => {}
        }
        let none = std::collections::BTreeMap::new();
        let (old, new) = (old.map(fields).unwrap_or_else(|| none.clone()), new.map(fields).unwrap_or(none));
        let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let of = |fields: &std::collections::BTreeMap<String, String>| fields.get(key).cloned().unwrap_or_default();
            let (a, b) = (of(&old), of(&new));
            if a != b && after.pools.contains_key(pool) {
                changes.push(change(key.clone(), a, b));
            }
        }
    }
    changes
}

/// What is set in a pool, flat: `guarantee.cpu` → `64000`. What has its default value is left out.
fn fields(spec: &PoolSpec) -> std::collections::BTreeMap<String, String> {
    let default = PoolSpec::default();
    let mut fields = std::collections::BTreeMap::new();
    let mut set = |name: String, value: String| drop(fields.insert(name, value));
    for (resource, amount) in spec.guarantee.iter() {
        set(format!("guarantee.{resource}"), amount.to_string());
    }
    for (resource, amount) in &spec.borrow {
        set(format!("borrow.{resource}"), amount.to_string());
    }
    for (resource, amount) in &spec.lend {
        set(format!("lend.{resource}"), amount.to_string());
    }
    if spec.weight != default.weight {
        set("weight".into(), spec.weight.to_string());
    }
    if spec.preemption != default.preemption {
        set("preemption".into(), format!("{:?}", spec.preemption).to_lowercase());
    }
    if spec.grace != default.grace {
        set("grace".into(), format!("{} ms", spec.grace.as_millis()));
    }
    if let Some(most) = spec.max_queued {
        set("max_queued".into(), most.to_string());
    }
    for (key, warm) in &spec.warm {
        let text = format!("min {}, max {}, idle {} s", warm.min, warm.most(), warm.idle_timeout.as_millis() / 1000);
        set(format!("warm.{key}"), text);
    }
    fields
}
