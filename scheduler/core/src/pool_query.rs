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

/// Of a pool and everything below it.
#[derive(Debug, Clone, Default)]
struct Below {
    queued_tasks: u64,
    leased_tasks: u64,
    open_jobs: u64,
    oldest_wait: Option<Span>,
    /// What its waiting tasks need.
    queued: BTreeMap<Kind, u64>,
    /// What is kept for claims of it.
    reserved: BTreeMap<Kind, u64>,
    /// What its children borrow, all together.
    children_borrow: BTreeMap<Kind, u64>,
}

impl Below {
    /// A child's. What the child's own children borrow is their affair.
    fn add(&mut self, child: &Below) {
        self.queued_tasks += child.queued_tasks;
        self.leased_tasks += child.leased_tasks;
        self.open_jobs += child.open_jobs;
        self.oldest_wait = self.oldest_wait.max(child.oldest_wait);
        for (sums, more) in [(&mut self.queued, &child.queued), (&mut self.reserved, &child.reserved)] {
            for (kind, amount) in more {
                let sum = sums.entry(*kind).or_default();
                *sum = sum.saturating_add(*amount);
            }
        }
    }
}

impl Engine {
    /// Tree, version, holds and history.
    pub fn pools_state(&self) -> PoolsState {
        self.state.pools_state.clone()
    }

    /// In order of name. One walk over lines and leases, however many pools there are.
    pub fn pools(&self, now: Timestamp) -> Vec<PoolView> {
        // People are shown what is used; what is kept for claims stands beside it.
        let used = self.quota_in_use();
        let below = self.sum_up(now, &used, self.kept_quota());
        let mut idle: BTreeMap<&str, u32> = BTreeMap::new();
        for (key, executors) in self.state.workers.values().flat_map(|worker| &worker.warm) {
            *idle.entry(key).or_default() += executors;
        }
        let mut views: Vec<PoolView> = used.all().map(|pool| self.pool_view(&used, pool, &below, &idle)).collect();
        views.sort_by(|a, b| a.pool.cmp(&b.pool));
        views
    }

    /// By pool: what it has together with everything below it.
    fn sum_up(&self, now: Timestamp, pools: &Pools, reserved: ByLeaf) -> Vec<Below> {
        let mut sums = vec![Below::default(); pools.len()];
        for (_, line) in self.state.queue.lines() {
            let sum = &mut sums[line.place.pool.index()];
            sum.queued_tasks += line.waiting;
            sum.oldest_wait = sum.oldest_wait.max(self.oldest_wait(now, line));
            for (kind, amount) in self.state.shapes.need(line.place.shape) {
                let queued = sum.queued.entry(*kind).or_default();
                *queued = queued.saturating_add(amount.saturating_mul(line.waiting));
            }
        }
        for task in self.state.workers.values().flat_map(|worker| worker.held.keys()) {
            sums[self.state.jobs[&task.job].pool.index()].leased_tasks += 1;
        }
        for (pool, kept) in reserved {
            sums[pool.index()].reserved = kept;
        }
        for (pool, (open, _)) in &self.state.open_jobs {
            sums[pool.index()].open_jobs += open;
        }
        // Children have higher numbers than their parents.
        for pool in pools.all().collect::<Vec<_>>().into_iter().rev() {
            let Some(parent) = pools.parent(pool) else { continue };
            let sum = std::mem::take(&mut sums[pool.index()]);
            let above = &mut sums[parent.index()];
            above.add(&sum);
            for (kind, _) in self.state.shapes.kinds.all() {
                let borrowed = above.children_borrow.entry(kind).or_default();
                *borrowed = borrowed.saturating_add(pools.borrowed(pool, kind));
            }
            sums[pool.index()] = sum;
        }
        sums
    }

    fn pool_view(&self, pools: &Pools, pool: PoolIx, below: &[Below], idle: &BTreeMap<&str, u32>) -> PoolView {
        let profile: Vec<_> = self.state.shapes.kinds.all().map(|(kind, _)| kind).collect();
        let (name, sum) = (pools.name(pool), &below[pool.index()]);
        let held = self.state.pools_state.holds.get(name);
        let warm_view = |(key, spec): (&String, &WarmSpec)| {
            self.warm_view(key, spec, idle.get(key.as_str()).copied().unwrap_or_default())
        };
        PoolView {
            pool: name.clone(),
            spec: pools.spec(pool).clone(),
            hold: pools.hold(pool),
            hold_reason: held.map(|held| held.reason.clone()).unwrap_or_default(),
            leaf: pools.is_leaf(pool),
            resources: self.pool_resources(pools, pool, below),
            share_milli: pools.share(pool, &profile).milli(),
            open_jobs: sum.open_jobs,
            queued_tasks: sum.queued_tasks,
            leased_tasks: sum.leased_tasks,
            oldest_wait: sum.oldest_wait,
            preempted: self.tally.preemptions_of(pool),
            warm: pools.spec(pool).warm.iter().map(warm_view).collect(),
        }
    }

    fn pool_resources(&self, pools: &Pools, pool: PoolIx, below: &[Below]) -> Vec<PoolResource> {
        let kinds = self.state.shapes.kinds.all().map(|(kind, name)| {
            let (guarantee, used, borrowed) =
                (pools.held(pool, kind), pools.real(pool, kind), pools.borrowed(pool, kind));
            // Of what it does not use, what others have borrowed beyond what lies idle.
            let idle = pools.subtree(pool, kind).saturating_sub(pools.usage(pool, kind));
            let siblings = pools.parent(pool).and_then(|parent| below[parent.index()].children_borrow.get(&kind));
            let others = siblings.map_or(0, |all| all.saturating_sub(borrowed));
            let limit = pools.limit(pool, kind);
            PoolResource {
                resource: name.to_owned(),
                guarantee,
                used,
                borrowed,
                lent: idle.min(others),
                reserved: below[pool.index()].reserved.get(&kind).copied().unwrap_or(0),
                limit: (limit != u64::MAX).then_some(limit),
                queued: below[pool.index()].queued.get(&kind).copied().unwrap_or(0),
            }
        });
        kinds.filter(|r| r.guarantee > 0 || r.used > 0 || r.queued > 0 || r.limit.is_some()).collect()
    }

    /// Since the phase of its longest waiting job began.
    fn oldest_wait(&self, now: Timestamp, line: &Line) -> Option<Span> {
        let since = line.jobs().filter_map(|(job, _)| self.state.jobs.get(&job)?.waiting_since());
        since.min().map(|since| now.since(since))
    }

    fn warm_view(&self, key: &str, spec: &WarmSpec, idle: u32) -> WarmView {
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
        let in_use = self.quota_in_use();
        let view = |(head, line): (crate::queue::Key, &Line)| {
            let shape = self.state.shapes.get(line.place.shape);
            let job = &self.state.jobs[&head.job()];
            let trouble = self.trouble(now, line.place, job, &in_use);
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
