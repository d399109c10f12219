//! The quota tree and what is shown of pools and queues, on the wire.

use std::collections::BTreeMap;

use super::spec::{class, priority, start_by_us};
use super::{BadField, from_name, from_text, name_of, narrow, v1};
use crate::pool::{Limits, PoolName, PoolSpec, PoolTree, WarmSpec};
use crate::time::{Span, Timestamp};
use crate::view::{
    FieldChange, PoolChangeView, PoolResource, PoolView, PoolsPreview, PreviewTask, QueueStats, QueueView, QuotaChange,
};

fn limits_to_wire(limits: &Limits) -> v1::Resources {
    v1::Resources { amounts: limits.iter().map(|(name, amount)| (name.clone(), *amount)).collect() }
}

fn limits(wire: Option<v1::Resources>) -> Limits {
    wire.unwrap_or_default().amounts.into_iter().collect()
}

impl From<&PoolSpec> for v1::PoolSpec {
    fn from(spec: &PoolSpec) -> Self {
        v1::PoolSpec {
            guarantee: Some((&spec.guarantee).into()),
            borrow: Some(limits_to_wire(&spec.borrow)),
            lend: Some(limits_to_wire(&spec.lend)),
            weight: Some(spec.weight),
            preemption: name_of(spec.preemption),
            grace_us: Some(spec.grace.0),
            max_queued: spec.max_queued,
            warm: spec.warm.iter().map(|(key, warm)| (key.clone(), (*warm).into())).collect(),
        }
    }
}

impl TryFrom<v1::PoolSpec> for PoolSpec {
    type Error = BadField;

    fn try_from(wire: v1::PoolSpec) -> Result<Self, BadField> {
        let usual = PoolSpec::default();
        Ok(PoolSpec {
            guarantee: wire.guarantee.unwrap_or_default().into(),
            borrow: limits(wire.borrow),
            lend: limits(wire.lend),
            weight: wire.weight.unwrap_or(usual.weight),
            preemption: match wire.preemption.as_str() {
                "" => usual.preemption,
                name => from_name("preemption", name)?,
            },
            grace: wire.grace_us.map_or(usual.grace, Span),
            max_queued: wire.max_queued,
            warm: wire.warm.into_iter().map(|(key, warm)| (key, warm.into())).collect(),
        })
    }
}

impl From<WarmSpec> for v1::WarmSpec {
    fn from(warm: WarmSpec) -> Self {
        v1::WarmSpec { min: warm.min, max: warm.max, idle_timeout_us: Some(warm.idle_timeout.0) }
    }
}

impl From<v1::WarmSpec> for WarmSpec {
    fn from(wire: v1::WarmSpec) -> Self {
        WarmSpec {
            min: wire.min,
            max: wire.max,
            idle_timeout: wire.idle_timeout_us.map_or_else(WarmSpec::idle_timeout_default, Span),
        }
    }
}

/// A tree at a version.
pub fn tree_to_wire(version: u64, tree: &PoolTree) -> v1::PoolTree {
    let pools = tree.pools.iter().map(|(name, spec)| (name.to_string(), spec.into())).collect();
    v1::PoolTree { version, pools }
}

impl TryFrom<v1::PoolTree> for PoolTree {
    type Error = BadField;

    /// The version is left behind. Not yet checked: see [`PoolTree::check`].
    fn try_from(wire: v1::PoolTree) -> Result<Self, BadField> {
        let spec = |(name, spec): (String, v1::PoolSpec)| {
            let read =
                spec.try_into().map_err(|e: BadField| BadField::new(format!("pools[{name}].{}", e.field), e.why));
            Ok((PoolName::from(name.as_str()), read?))
        };
        let pools: BTreeMap<_, _> = wire.pools.into_iter().map(spec).collect::<Result<_, BadField>>()?;
        Ok(PoolTree { pools })
    }
}

impl From<&PoolView> for v1::Pool {
    fn from(pool: &PoolView) -> Self {
        v1::Pool {
            pool: pool.pool.to_string(),
            spec: Some((&pool.spec).into()),
            hold: name_of(pool.hold),
            hold_reason: pool.hold_reason.clone(),
            leaf: pool.leaf,
            resources: pool.resources.iter().map(Into::into).collect(),
            share_milli: pool.share_milli,
            open_jobs: pool.open_jobs,
            queued_tasks: pool.queued_tasks,
            leased_tasks: pool.leased_tasks,
            oldest_wait_us: pool.oldest_wait.map(|wait| wait.0),
            preempted: pool.preempted,
            warm: pool.warm.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Pool> for PoolView {
    type Error = BadField;

    fn try_from(wire: v1::Pool) -> Result<Self, BadField> {
        Ok(PoolView {
            pool: wire.pool.as_str().into(),
            spec: wire.spec.ok_or_else(|| BadField::missing("spec"))?.try_into()?,
            hold: from_name("hold", &wire.hold)?,
            hold_reason: wire.hold_reason,
            leaf: wire.leaf,
            resources: wire.resources.into_iter().map(Into::into).collect(),
            share_milli: wire.share_milli,
            open_jobs: wire.open_jobs,
            queued_tasks: wire.queued_tasks,
            leased_tasks: wire.leased_tasks,
            oldest_wait: wire.oldest_wait_us.map(Span),
            preempted: wire.preempted,
            warm: wire.warm.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<&PoolResource> for v1::PoolResource {
    fn from(r: &PoolResource) -> Self {
        v1::PoolResource {
            resource: r.resource.clone(),
            guarantee: r.guarantee,
            used: r.used,
            borrowed: r.borrowed,
            lent: r.lent,
            limit: r.limit,
            queued: r.queued,
            reserved: r.reserved,
        }
    }
}

impl From<v1::PoolResource> for PoolResource {
    fn from(wire: v1::PoolResource) -> Self {
        PoolResource {
            resource: wire.resource,
            guarantee: wire.guarantee,
            used: wire.used,
            borrowed: wire.borrowed,
            lent: wire.lent,
            limit: wire.limit,
            queued: wire.queued,
            reserved: wire.reserved,
        }
    }
}

impl From<&PoolChangeView> for v1::PoolChange {
    fn from(change: &PoolChangeView) -> Self {
        v1::PoolChange {
            version: change.version,
            at_us: change.at.0,
            by: change.by.clone(),
            reason: change.reason.clone(),
            changes: change.changes.iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::PoolChange> for PoolChangeView {
    fn from(wire: v1::PoolChange) -> Self {
        PoolChangeView {
            version: wire.version,
            at: Timestamp(wire.at_us),
            by: wire.by,
            reason: wire.reason,
            changes: wire.changes.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<&FieldChange> for v1::FieldChange {
    fn from(change: &FieldChange) -> Self {
        v1::FieldChange {
            pool: change.pool.to_string(),
            field: change.field.clone(),
            before: change.before.clone(),
            after: change.after.clone(),
        }
    }
}

impl From<v1::FieldChange> for FieldChange {
    fn from(wire: v1::FieldChange) -> Self {
        FieldChange { pool: wire.pool.as_str().into(), field: wire.field, before: wire.before, after: wire.after }
    }
}

impl From<&PoolsPreview> for v1::PoolsPreview {
    fn from(preview: &PoolsPreview) -> Self {
        v1::PoolsPreview {
            version: preview.version,
            changes: preview.changes.iter().map(Into::into).collect(),
            preempted: preview.preempted.iter().map(Into::into).collect(),
            started: preview.started.iter().map(Into::into).collect(),
            quotas: preview.quotas.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::PoolsPreview> for PoolsPreview {
    type Error = BadField;

    fn try_from(wire: v1::PoolsPreview) -> Result<Self, BadField> {
        let tasks = |tasks: Vec<v1::PreviewTask>| tasks.into_iter().map(TryInto::try_into).collect::<Result<_, _>>();
        Ok(PoolsPreview {
            version: wire.version,
            changes: wire.changes.into_iter().map(Into::into).collect(),
            preempted: tasks(wire.preempted)?,
            started: tasks(wire.started)?,
            quotas: wire.quotas.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<&PreviewTask> for v1::PreviewTask {
    fn from(task: &PreviewTask) -> Self {
        v1::PreviewTask { task_id: task.task.to_string(), pool: task.pool.to_string(), worker: task.worker.to_string() }
    }
}

impl TryFrom<v1::PreviewTask> for PreviewTask {
    type Error = BadField;

    fn try_from(wire: v1::PreviewTask) -> Result<Self, BadField> {
        Ok(PreviewTask {
            task: from_text("task_id", &wire.task_id)?,
            pool: wire.pool.as_str().into(),
            worker: wire.worker.into(),
        })
    }
}

impl From<&QuotaChange> for v1::QuotaChange {
    fn from(change: &QuotaChange) -> Self {
        v1::QuotaChange {
            pool: change.pool.to_string(),
            resource: change.resource.clone(),
            guarantee_before: change.guarantee_before,
            guarantee_after: change.guarantee_after,
            limit_before: change.limit_before,
            limit_after: change.limit_after,
        }
    }
}

impl From<v1::QuotaChange> for QuotaChange {
    fn from(wire: v1::QuotaChange) -> Self {
        QuotaChange {
            pool: wire.pool.as_str().into(),
            resource: wire.resource,
            guarantee_before: wire.guarantee_before,
            guarantee_after: wire.guarantee_after,
            limit_before: wire.limit_before,
            limit_after: wire.limit_after,
        }
    }
}

impl From<&QueueView> for v1::QueueLine {
    fn from(line: &QueueView) -> Self {
        v1::QueueLine {
            pool: line.pool.to_string(),
            function: line.function.clone(),
            backend: line.backend.clone(),
            resources: Some((&line.resources).into()),
            start_by_us: start_by_us(line.class),
            priority: line.priority.into(),
            tasks: line.tasks,
            oldest_wait_us: line.oldest_wait.0,
            reason: line.reason.clone(),
            text: line.text.clone(),
        }
    }
}

impl TryFrom<v1::QueueLine> for QueueView {
    type Error = BadField;

    fn try_from(wire: v1::QueueLine) -> Result<Self, BadField> {
        Ok(QueueView {
            pool: wire.pool.as_str().into(),
            function: wire.function,
            backend: wire.backend,
            resources: wire.resources.unwrap_or_default().into(),
            class: class(wire.start_by_us),
            priority: priority("priority", wire.priority)?,
            tasks: wire.tasks,
            oldest_wait: Span(wire.oldest_wait_us),
            reason: wire.reason,
            text: wire.text,
        })
    }
}

impl From<&QueueStats> for v1::QueueStats {
    fn from(stats: &QueueStats) -> Self {
        v1::QueueStats {
            queued_tasks: stats.queued_tasks,
            leased_tasks: stats.leased_tasks,
            open_jobs: stats.open_jobs,
            shapes: stats.shapes,
            workers: stats.workers,
            leases_total: stats.leases_total,
            preemptions_total: stats.preemptions_total,
            overload: stats.overload.into(),
            wait_p50_us: stats.wait_p50.0,
            wait_p99_us: stats.wait_p99.0,
        }
    }
}

impl TryFrom<v1::QueueStats> for QueueStats {
    type Error = BadField;

    fn try_from(wire: v1::QueueStats) -> Result<Self, BadField> {
        Ok(QueueStats {
            queued_tasks: wire.queued_tasks,
            leased_tasks: wire.leased_tasks,
            open_jobs: wire.open_jobs,
            shapes: wire.shapes,
            workers: wire.workers,
            leases_total: wire.leases_total,
            preemptions_total: wire.preemptions_total,
            overload: narrow("overload", wire.overload.into())?,
            wait_p50: Span(wire.wait_p50_us),
            wait_p99: Span(wire.wait_p99_us),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{JobId, TaskId};
    use crate::pool::{Class, Hold, Preemption};
    use crate::resources::Resources;
    use crate::view::WarmView;

    fn spec() -> PoolSpec {
        PoolSpec {
            guarantee: Resources { cpu: 64_000, other: [("licence".into(), 3)].into(), ..Resources::ZERO },
            // No borrowing of memory is something else than no word about it.
            borrow: [("cpu".into(), 128_000), ("memory".into(), 0)].into(),
            lend: [("cpu".into(), 32_000)].into(),
            weight: 0,
            preemption: Preemption::Fair,
            grace: Span::ZERO,
            max_queued: Some(0),
            warm: [
                ("media.encode/cpu/libx264".into(), WarmSpec { min: 2, max: Some(4), idle_timeout: Span::ZERO }),
                ("media.probe".into(), WarmSpec { min: 1, max: None, idle_timeout: Span::from_secs(9) }),
            ]
            .into(),
        }
    }

    #[test]
    fn a_tree_survives_the_wire() {
        let mut tree = PoolTree::default();
        tree.pools.insert("studio/marketing".into(), spec());
        let wire = tree_to_wire(7, &tree);
        assert_eq!(wire.version, 7);
        assert_eq!(PoolTree::try_from(wire), Ok(tree));
    }

    #[test]
    fn what_a_client_leaves_out_is_as_usual() {
        assert_eq!(PoolSpec::try_from(v1::PoolSpec::default()), Ok(PoolSpec::default()));
        let warm = WarmSpec { min: 0, max: None, idle_timeout: WarmSpec::idle_timeout_default() };
        assert_eq!(WarmSpec::from(v1::WarmSpec::default()), warm);
    }

    #[test]
    fn a_bad_field_is_named_with_its_pool() {
        let bad = v1::PoolSpec { preemption: "always".into(), ..Default::default() };
        let wire = v1::PoolTree { version: 0, pools: [("studio".to_owned(), bad)].into() };
        let refused = PoolTree::try_from(wire).map_err(|e| e.field);
        assert_eq!(refused, Err("pools[studio].preemption".into()));
    }

    #[test]
    fn a_pool_survives_the_wire() {
        let resource = PoolResource {
            resource: "cpu".into(),
            guarantee: 1,
            used: 2,
            borrowed: 3,
            lent: 4,
            limit: Some(5),
            queued: 6,
            reserved: 7,
        };
        let warm = WarmView {
            key: "media.probe".into(),
            min: 1,
            max: 2,
            idle: 3,
            warm_starts: 4,
            cold_starts: 5,
            warm_start_p50: Span(6),
            cold_start_p50: Span(7),
        };
        let pool = PoolView {
            pool: "studio".into(),
            spec: spec(),
            hold: Hold::Draining,
            hold_reason: "moving out".into(),
            leaf: true,
            resources: vec![resource.clone(), PoolResource { limit: None, ..resource }],
            share_milli: 1,
            open_jobs: 2,
            queued_tasks: 3,
            leased_tasks: 4,
            oldest_wait: Some(Span(5)),
            preempted: 6,
            warm: vec![warm],
        };
        assert_eq!(PoolView::try_from(v1::Pool::from(&pool)), Ok(pool));
    }

    #[test]
    fn changes_and_previews_survive_the_wire() {
        let field = FieldChange {
            pool: "studio".into(),
            field: "guarantee.cpu".into(),
            before: "1000".into(),
            after: String::new(),
        };
        let change = PoolChangeView {
            version: 3,
            at: Timestamp(4),
            by: "ada@host".into(),
            reason: "launch".into(),
            changes: vec![field.clone()],
        };
        assert_eq!(PoolChangeView::from(v1::PoolChange::from(&change)), change);
        let task =
            |index| PreviewTask { task: TaskId { job: JobId(1), index }, pool: "default".into(), worker: "w1".into() };
        let preview = PoolsPreview {
            version: 3,
            changes: vec![field],
            preempted: vec![task(1)],
            started: vec![task(2)],
            quotas: vec![QuotaChange {
                pool: "studio".into(),
                resource: "cpu".into(),
                guarantee_before: 1,
                guarantee_after: 2,
                limit_before: Some(3),
                limit_after: None,
            }],
        };
        assert_eq!(PoolsPreview::try_from(v1::PoolsPreview::from(&preview)), Ok(preview));
    }

    #[test]
    fn queues_survive_the_wire() {
        let line = QueueView {
            pool: "studio".into(),
            function: "media.encode".into(),
            backend: "cpu/libx264".into(),
            resources: Resources::cpu_memory(1000, 300),
            class: Class::Opportunistic { start_by: Timestamp(8) },
            priority: 60,
            tasks: 1_000_000,
            oldest_wait: Span(9),
            reason: "waiting_for_quota".into(),
            text: "of cpu".into(),
        };
        assert_eq!(QueueView::try_from(v1::QueueLine::from(&line)), Ok(line));
        let stats = QueueStats {
            queued_tasks: 1,
            leased_tasks: 2,
            open_jobs: 3,
            shapes: 4,
            workers: 5,
            leases_total: 6,
            preemptions_total: 7,
            overload: 3,
            wait_p50: Span(8),
            wait_p99: Span(9),
        };
        assert_eq!(QueueStats::try_from(v1::QueueStats::from(&stats)), Ok(stats));
    }
}
