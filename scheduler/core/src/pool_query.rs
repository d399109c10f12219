//! What the API may ask about pools and queues. Reading changes nothing.

use std::collections::BTreeMap;

use spool_proto::pool::{Class, PoolsState, WarmSpec};
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::{
    PoolResource, PoolView, PoolsPreview, PreviewTask, QueueStats, QueueView, QuotaChange, WarmView,
};

use crate::engine::Engine;
use crate::io::{Effect, Input, PoolChange, Refusal, ToWorker, Token};
use crate::pool_history;
use crate::pools::{ByLeaf, Kind, PoolIx, Pools};
use crate::queue::Line;
use crate::revoke;

/// Looks at the clock a preview takes at most.
const PREVIEW_STEPS: usize = 2_000;

/// Quota as people are shown it.
struct Books {
    used: Pools,
    reserved: ByLeaf,
}

impl Engine {
    /// Tree, version, holds and history.
    pub fn pools_state(&self) -> PoolsState {
        self.state.pools_state.clone()
    }

    /// In order of name.
    pub fn pools(&self, now: Timestamp) -> Vec<PoolView> {
        // People are shown what is used; what is kept for claims stands beside it.
        let books = Books { used: self.quota_in_use(), reserved: self.kept_quota() };
        let mut views: Vec<PoolView> = books.used.all().map(|pool| self.pool_view(now, pool, &books)).collect();
        views.sort_by(|a, b| a.pool.cmp(&b.pool));
        views
    }

    fn pool_view(&self, now: Timestamp, pool: PoolIx, books: &Books) -> PoolView {
        let pools = &books.used;
        let below: Vec<PoolIx> = pools.all().filter(|leaf| pools.path(*leaf).any(|at| at == pool)).collect();
        let lines = || below.iter().flat_map(|leaf| self.state.queue.of_pool(*leaf)).map(|(_, line)| line);
        let profile: Vec<_> = self.state.shapes.kinds.all().map(|(kind, _)| kind).collect();
        let leased = self.state.workers.values().flat_map(|worker| worker.held.keys());
        let name = pools.name(pool);
        let held = self.state.pools_state.holds.get(name);
        PoolView {
            pool: name.clone(),
            spec: pools.spec(pool).clone(),
            hold: pools.hold(pool),
            hold_reason: held.map(|held| held.reason.clone()).unwrap_or_default(),
            leaf: pools.is_leaf(pool),
            resources: self.pool_resources(pool, &below, books),
            share_milli: pools.share(pool, &profile).milli(),
            open_jobs: self.open_jobs(pool),
            queued_tasks: lines().map(|line| line.waiting).sum(),
            leased_tasks: count(leased.filter(|task| below.contains(&self.state.jobs[&task.job].pool)).count()),
            oldest_wait: lines().filter_map(|line| self.oldest_wait(now, line)).max(),
            preempted: self.tally.preemptions_of(pool),
            warm: pools.spec(pool).warm.iter().map(|(key, spec)| self.warm_view(key, spec)).collect(),
        }
    }

    fn pool_resources(&self, pool: PoolIx, below: &[PoolIx], books: &Books) -> Vec<PoolResource> {
        let pools = &books.used;
        let mut queued: BTreeMap<_, u64> = BTreeMap::new();
        for (_, line) in below.iter().flat_map(|leaf| self.state.queue.of_pool(*leaf)) {
            for (kind, amount) in self.state.shapes.need(line.place.shape) {
                let sum = queued.entry(*kind).or_default();
                *sum = sum.saturating_add(amount.saturating_mul(line.waiting));
            }
        }
        let kinds = self.state.shapes.kinds.all().map(|(kind, name)| {
            let (guarantee, used, borrowed) =
                (pools.held(pool, kind), pools.real(pool, kind), pools.borrowed(pool, kind));
            // Of what it does not use, what others have borrowed beyond what lies idle.
            let idle = pools.subtree(pool, kind).saturating_sub(pools.usage(pool, kind));
            let others = borrowed_beside(pools, pool, kind);
            let limit = pools.limit(pool, kind);
            PoolResource {
                resource: name.to_owned(),
                guarantee,
                used,
                borrowed,
                lent: idle.min(others),
                reserved: below.iter().filter_map(|leaf| books.reserved.get(leaf)?.get(&kind)).sum(),
                limit: (limit != u64::MAX).then_some(limit),
                queued: queued.get(&kind).copied().unwrap_or(0),
            }
        });
        kinds.filter(|r| r.guarantee > 0 || r.used > 0 || r.queued > 0 || r.limit.is_some()).collect()
    }

    /// Since the phase of its longest waiting job began.
    fn oldest_wait(&self, now: Timestamp, line: &Line) -> Option<Span> {
        let since = line.jobs().filter_map(|(job, _)| self.state.jobs.get(&job)?.waiting_since());
        since.min().map(|since| now.since(since))
    }

    fn warm_view(&self, key: &str, spec: &WarmSpec) -> WarmView {
        let idle = self.state.workers.values().filter_map(|worker| worker.warm.get(key)).sum();
        let counted = self.tally.warm.get(key).cloned().unwrap_or_default();
        WarmView {
            key: key.to_owned(),
            min: spec.min,
            max: spec.most(),
            idle,
            warm_starts: counted.warm,
            cold_starts: counted.cold,
            warm_start_p50: counted.warm_start.percentile(50),
            cold_start_p50: counted.cold_start.percentile(50),
        }
    }

    /// What the change would do: a copy of the state goes through it, by the code of the real run, until every pool's grace is over, while
    /// no worker says anything.
    ///
    /// # Errors
    /// As the change itself would be refused.
    pub fn preview_pools(&self, now: Timestamp, change: &PoolChange) -> Result<PoolsPreview, Refusal> {
        self.check_change(change)?;
        let mut copy = self.clone();
        copy.silence();
        let mut effects = Vec::new();
        copy.handle(now, Input::ApplyPools { token: Token(0), change: change.clone() }, &mut effects);
        let grace = change.tree.pools.values().map(|spec| spec.grace).max().unwrap_or_default();
        let end = now + Span(grace.0 / 2) + crate::reclaim::LOOK_EVERY.saturating_mul(2);
        let mut clock = now;
        for _ in 0..PREVIEW_STEPS {
            copy.handle(clock, Input::Tick, &mut effects);
            let Some(next) = copy.next_wakeup().filter(|next| *next <= end) else { break };
            clock = next.max(clock + Span(1));
        }
        let (mut preempted, mut started) = (Vec::new(), Vec::new());
        for effect in &effects {
            let Effect::Send { worker, message, .. } = effect else { continue };
            let task = |task| PreviewTask {
                task,
                pool: self.job(task.job).map(|job| job.new.pool.clone()).unwrap_or_default(),
                worker: worker.clone(),
            };
            match message {
                ToWorker::Revoke { task: victim, reason: revoke::PREEMPTED, .. } => preempted.push(task(*victim)),
                ToWorker::Lease(order) => started.push(task(order.task)),
                _ => {}
            }
        }
        Ok(PoolsPreview {
            version: self.state.pools_state.version,
            changes: pool_history::diff(&self.state.pools_state.tree, &change.tree),
            preempted,
            started,
            quotas: quota_changes(self, &copy),
        })
    }

    /// Time passes, but no worker falls silent: in a preview none of them speaks.
    fn silence(&mut self) {
        self.alarms.clear();
    }

    /// Waiting tasks, an entry for each line: by pool, then in the order of their first.
    pub fn queue(&self, now: Timestamp) -> Vec<QueueView> {
        let mut lines: Vec<_> = self.state.queue.lines().filter_map(|(_, line)| Some((line.head()?, line))).collect();
        lines.sort_by(|(a, x), (b, y)| {
            let name = |line: &Line| self.state.pools.name(line.place.pool);
            name(x).cmp(name(y)).then(a.cmp(b))
        });
        let view = |(head, line): (crate::queue::Key, &Line)| {
            let shape = self.state.shapes.get(line.place.shape);
            let job = &self.state.jobs[&head.job()];
            let trouble = self.trouble(now, line.place, job);
            QueueView {
                pool: self.state.pools.name(line.place.pool).clone(),
                function: shape.function.clone(),
                backend: shape.backend.clone(),
                resources: shape.resources.clone(),
                class: if job.opportunistic { job.new.class } else { Class::Standard },
                priority: head.priority(),
                tasks: line.waiting,
                oldest_wait: self.oldest_wait(now, line).unwrap_or_default(),
                reason: trouble.cause.name().into(),
                text: trouble.text,
            }
        };
        lines.into_iter().map(view).collect()
    }

    pub fn queue_stats(&self, _now: Timestamp) -> QueueStats {
        QueueStats {
            queued_tasks: self.queued(),
            leased_tasks: self.state.workers.values().map(|worker| count(worker.held.len())).sum(),
            open_jobs: self.open_jobs(PoolIx::ROOT),
            shapes: count(self.state.shapes.count()),
            workers: count(self.rooms.members().count()),
            leases_total: self.tally.leases,
            preemptions_total: self.tally.preemptions,
            overload: self.overload(),
            wait_p50: self.tally.waits.percentile(50),
            wait_p99: self.tally.waits.percentile(99),
        }
    }
}

/// What the siblings of a pool borrow, all together.
fn borrowed_beside(pools: &Pools, pool: PoolIx, kind: Kind) -> u64 {
    let Some(parent) = pools.parent(pool) else { return 0 };
    let siblings = pools.all().filter(|other| *other != pool && pools.parent(*other) == Some(parent));
    siblings.map(|other| pools.borrowed(other, kind)).sum()
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Pools that gain or lose, by pool and resource.
fn quota_changes(before: &Engine, after: &Engine) -> Vec<QuotaChange> {
    let (old, new) = (&before.state.pools, &after.state.pools);
    let kinds = &after.state.shapes.kinds;
    let mut names: Vec<_> = old.all().map(|pool| old.name(pool)).chain(new.all().map(|pool| new.name(pool))).collect();
    names.sort();
    names.dedup();
    let mut changes = Vec::new();
    for name in names {
        for (kind, resource) in kinds.all() {
            let of = |pools: &Pools| {
                let pool = pools.find(name);
                let limit = pool.map_or(0, |pool| pools.limit(pool, kind));
                (pool.map_or(0, |pool| pools.held(pool, kind)), (limit != u64::MAX).then_some(limit))
            };
            let ((guarantee_before, limit_before), (guarantee_after, limit_after)) = (of(old), of(new));
            let there = old.find(name).is_some() && new.find(name).is_some();
            if guarantee_before != guarantee_after || (there && limit_before != limit_after) {
                changes.push(QuotaChange {
                    pool: name.clone(),
                    resource: resource.to_owned(),
                    guarantee_before,
                    guarantee_after,
                    limit_before,
                    limit_after,
                });
            }
        }
    }
    changes
}
