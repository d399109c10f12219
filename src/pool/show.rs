//! Pools as tables.

use spool_proto::pool::{Hold, PoolName, PoolSpec, Preemption};
use spool_proto::time::Span;
use spool_proto::view::{FieldChange, PoolChangeView, PoolResource, PoolView, PoolsPreview, PreviewTask, WarmView};

use crate::output::{self, Style};
use crate::quantity::{amount_text, span_text};

pub fn names(pools: &[PoolView]) -> Vec<String> {
    pools.iter().map(|pool| pool.pool.to_string()).collect()
}

pub fn hold(hold: Hold) -> &'static str {
    match hold {
        Hold::Open => "open",
        Hold::Held => "held",
        Hold::Draining => "draining",
    }
}

fn preemption(preemption: Preemption) -> &'static str {
    match preemption {
        Preemption::Never => "never",
        Preemption::Reclaim => "reclaim",
        Preemption::Fair => "fair",
    }
}

fn or_dash<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".into(), text)
}

fn guarantee(spec: &PoolSpec) -> String {
    output::amounts(spec.guarantee.iter())
}

pub fn list(pools: &[PoolView], wide: bool, style: Style) -> String {
    let mut head =
        vec!["POOL", "STATE", "GUARANTEE", "BORROW", "LEND", "WEIGHT", "JOBS", "QUEUED", "RUNNING", "OLDEST"];
    if wide {
        head.extend(["MAX-QUEUED", "PREEMPTION", "GRACE", "SHARE", "PREEMPTED", "WARM", "REASON"]);
    }
    let row = |pool: &PoolView| {
        let spec = &pool.spec;
        let mut row = vec![
            pool.pool.to_string(),
            hold(pool.hold).into(),
            guarantee(spec),
            output::amounts(spec.borrow.iter().map(|(name, amount)| (name.as_str(), *amount))),
            output::amounts(spec.lend.iter().map(|(name, amount)| (name.as_str(), *amount))),
            spec.weight.to_string(),
            pool.open_jobs.to_string(),
            pool.queued_tasks.to_string(),
            pool.leased_tasks.to_string(),
            or_dash(pool.oldest_wait, output::span),
        ];
        if wide {
            row.extend([
                or_dash(spec.max_queued, |most| most.to_string()),
                preemption(spec.preemption).into(),
                span_text(spec.grace),
                share(pool.share_milli),
                pool.preempted.to_string(),
                output::list(spec.warm.iter().map(|(key, warm)| format!("{key}={}:{}", warm.min, warm.most()))),
                if pool.hold_reason.is_empty() { "-".into() } else { pool.hold_reason.clone() },
            ]);
        }
        row
    };
    style.table(&head, &pools.iter().map(row).collect::<Vec<_>>())
}

/// Thousandths; beyond all measure where nothing may be borrowed and something is.
fn share(milli: u64) -> String {
    if milli == u64::MAX { "all".into() } else { format!("{}.{:03}", milli / 1_000, milli % 1_000) }
}

/// A line for each pool and resource. `nested`: names below each other, as a tree.
pub fn usage(pools: &[PoolView], nested: bool, wide: bool, style: Style) -> String {
    let mut head = vec!["POOL", "STATE", "RESOURCE", "OWN", "USED", "BORROWED", "LENT", "LIMIT", "QUEUED", "OLDEST"];
    if wide {
        head.extend(["RESERVED", "SHARE", "JOBS", "TASKS-QUEUED", "TASKS-RUNNING", "PREEMPTED"]);
    }
    let mut rows = Vec::new();
    for pool in pools {
        let name = if nested { indented(&pool.pool) } else { pool.pool.to_string() };
        let lines: Vec<([String; 7], String)> = if pool.resources.is_empty() {
            vec![(std::array::from_fn(|_| "-".into()), "-".into())]
        } else {
            pool.resources.iter().map(|r| (resource_cells(r), amount_text(&r.resource, r.reserved))).collect()
        };
        for (i, (cells, reserved)) in lines.into_iter().enumerate() {
            // In a tree a pool is named once; flat lines stand alone, for grep and awk.
            let once = |text: String| if nested && i > 0 { String::new() } else { text };
            let mut row = vec![once(name.clone()), once(hold(pool.hold).into())];
            row.extend(cells);
            row.push(once(or_dash(pool.oldest_wait, output::span)));
            if wide {
                row.extend([
                    reserved,
                    once(share(pool.share_milli)),
                    once(pool.open_jobs.to_string()),
                    once(pool.queued_tasks.to_string()),
                    once(pool.leased_tasks.to_string()),
                    once(pool.preempted.to_string()),
                ]);
            }
            rows.push(row);
        }
    }
    let mut text = style.table(&head, &rows);
    if wide {
        text.push_str(&warm(pools, style));
    }
    text
}

fn resource_cells(r: &PoolResource) -> [String; 7] {
    let text = |amount| amount_text(&r.resource, amount);
    [
        r.resource.clone(),
        text(r.guarantee),
        text(r.used),
        text(r.borrowed),
        text(r.lent),
        or_dash(r.limit, text),
        text(r.queued),
    ]
}

fn indented(pool: &PoolName) -> String {
    if pool.is_root() {
        return pool.to_string();
    }
    let levels: Vec<&str> = pool.0.split('/').collect();
    format!("{}{}", "  ".repeat(levels.len()), levels.last().copied().unwrap_or_default())
}

/// Warm capacity, if there is any, behind an empty line.
fn warm(pools: &[PoolView], style: Style) -> String {
    let row = |pool: &PoolView, warm: &WarmView| {
        let start = |count: u64, p50: Span| if count == 0 { "-".into() } else { output::span(p50) };
        vec![
            pool.pool.to_string(),
            warm.key.clone(),
            warm.min.to_string(),
            warm.max.to_string(),
            warm.idle.to_string(),
            warm.warm_starts.to_string(),
            start(warm.warm_starts, warm.warm_start_p50),
            warm.cold_starts.to_string(),
            start(warm.cold_starts, warm.cold_start_p50),
        ]
    };
    let rows: Vec<Vec<String>> = pools.iter().flat_map(|p| p.warm.iter().map(|warm| row(p, warm))).collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = ["POOL", "WARM", "MIN", "MAX", "IDLE", "WARM-STARTS", "P50", "COLD-STARTS", "P50"];
    format!("\n{}", style.table(&head, &rows))
}

/// All there is of a pool.
pub fn one(pool: &PoolView, style: Style) -> String {
    let pools = std::slice::from_ref(pool);
    format!("{}\n{}", list(pools, true, style), usage(pools, false, true, style))
}

pub fn history(changes: &[PoolChangeView], style: Style) -> String {
    let mut rows = Vec::new();
    for change in changes {
        let mut first = vec![
            change.version.to_string(),
            output::time(change.at),
            change.by.clone(),
            if change.reason.is_empty() { "-".into() } else { change.reason.clone() },
        ];
        if change.changes.is_empty() {
            rows.push(first);
            continue;
        }
        for field in &change.changes {
            let mut row = std::mem::replace(&mut first, vec![String::new(); 4]);
            row.extend(field_cells(field));
            rows.push(row);
        }
    }
    style.table(&["VERSION", "AT", "BY", "REASON", "POOL", "FIELD", "BEFORE", "AFTER"], &rows)
}

pub fn fields(changes: &[FieldChange], style: Style) -> String {
    let rows: Vec<Vec<String>> = changes.iter().map(|field| field_cells(field).to_vec()).collect();
    style.table(&["POOL", "FIELD", "BEFORE", "AFTER"], &rows)
}

fn field_cells(field: &FieldChange) -> [String; 4] {
    [
        field.pool.to_string(),
        field.field.clone(),
        value_text(&field.field, &field.before),
        value_text(&field.field, &field.after),
    ]
}

/// A field's value in the unit people use.
fn value_text(field: &str, value: &str) -> String {
    if value.is_empty() {
        return "-".into();
    }
    let number = value.parse::<u64>().ok();
    let ms = value.strip_suffix(" ms").and_then(|ms| ms.parse::<u64>().ok());
    match (field.split_once('.'), number, ms) {
        (Some(("guarantee" | "borrow" | "lend", resource)), Some(amount), _) => amount_text(resource, amount),
        (_, _, Some(ms)) => span_text(Span::from_millis(ms)),
        _ => value.trim_matches('"').to_owned(),
    }
}

pub fn preview(preview: &PoolsPreview, style: Style) -> String {
    let mut text = format!("dry run at version {}: nothing is changed\n", preview.version);
    if preview.changes.is_empty() {
        text.push_str("the pools are so already\n");
    } else {
        text.push_str(&format!("\n{}", fields(&preview.changes, style)));
    }
    if !preview.quotas.is_empty() {
        let rows: Vec<Vec<String>> = preview
            .quotas
            .iter()
            .map(|quota| {
                let amount = |amount| amount_text(&quota.resource, amount);
                let limit = |limit: Option<u64>| limit.map_or_else(|| "no limit".into(), amount);
                vec![
                    quota.pool.to_string(),
                    quota.resource.clone(),
                    becomes(amount(quota.guarantee_before), amount(quota.guarantee_after)),
                    becomes(limit(quota.limit_before), limit(quota.limit_after)),
                ]
            })
            .collect();
        text.push_str(&format!("\n{}", style.table(&["POOL", "RESOURCE", "OWN", "LIMIT"], &rows)));
    }
    for (head, tasks) in [("WOULD BE STOPPED", &preview.preempted), ("WOULD START", &preview.started)] {
        if !tasks.is_empty() {
            let rows: Vec<Vec<String>> = tasks.iter().map(task_cells).collect();
            text.push_str(&format!("\n{}", style.table(&[head, "POOL", "WORKER"], &rows)));
        }
    }
    text
}

/// `2 -> 4`; one of them where they are equal.
fn becomes(before: String, after: String) -> String {
    if before == after { before } else { format!("{before} -> {after}") }
}

fn task_cells(task: &PreviewTask) -> Vec<String> {
    vec![task.task.to_string(), task.pool.to_string(), task.worker.to_string()]
}

#[cfg(test)]
mod tests;
