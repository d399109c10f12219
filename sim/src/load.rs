//! Jobs of tenants: when they come, how large they are, what they need, how long their tasks take.

use std::sync::Arc;

use spool_core::io::{Blob, NewJob, NewTask, Next, Shape, TaskRun, WarmKey};
use spool_proto::pool::{Class, Hop, PoolName};
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};

use crate::chance::{Rng, Zipf, below, fixed};
use crate::num::{count, index, millis, seconds, whole};
use crate::scenario::{Scenario, Tenant};

/// Popularity of a grid's pools.
const GRID_ZIPF: f64 = 0.6;
/// How far apart the memory of two shapes of one tenant is, MiB, so that they are two.
const SHAPE_STEP: u64 = 8;

/// A job before it is submitted.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub tenant: usize,
    pub pool: PoolName,
    /// Index into [`Load::shapes`].
    pub shape: usize,
    pub tasks: u32,
    /// Its first task fails wherever it runs, after this.
    pub poison: Option<Span>,
}

#[derive(Debug)]
pub(crate) struct Load {
    seed: u64,
    tenants: Vec<State>,
    pub shapes: Vec<Shape>,
    /// By shape: index into `keys`.
    pub key_of: Vec<usize>,
    pub keys: Vec<WarmKey>,
    grid: Vec<PoolName>,
    grid_zipf: Zipf,
    nothing: Blob,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    zipf: Zipf,
    first_shape: usize,
    jobs: u32,
}

/// How an attempt will go on a worker of speed 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fate {
    pub run: Span,
    /// It fails after this instead.
    pub fails_after: Option<Span>,
}

impl Load {
    pub fn new(scenario: &Scenario) -> Load {
        let (mut shapes, mut tenants) = (Vec::new(), Vec::new());
        for (number, tenant) in scenario.tenants.iter().enumerate() {
            tenants.push(State {
                rng: Rng::new(scenario.seed, count(number)),
                zipf: Zipf::new(u64::from(tenant.shapes.count), tenant.shapes.zipf),
                first_shape: shapes.len(),
                jobs: 0,
            });
            shapes.extend((0..tenant.shapes.count).map(|k| shape(tenant, index(u64::from(k)))));
        }
        let (mut keys, mut key_of) = (Vec::<WarmKey>::new(), Vec::new());
        for shape in &shapes {
            let key = shape.warm_key();
            key_of.push(keys.iter().position(|known| **known == *key).unwrap_or_else(|| {
                keys.push(key.into());
                keys.len() - 1
            }));
        }
        let tree = scenario.tree();
        let in_grid = |name: &&PoolName| name.0.starts_with('g') && name.0.contains("/t") && tree.is_leaf(name);
        let grid: Vec<PoolName> = tree.pools.keys().filter(in_grid).cloned().collect();
        let grid_zipf = Zipf::new(count(grid.len()), GRID_ZIPF);
        Load { seed: scenario.seed, tenants, shapes, key_of, keys, grid, grid_zipf, nothing: Arc::from(&b"{}"[..]) }
    }

    /// When a tenant's next job comes after `now`, by its rate at that time of day. `None`: never.
    pub fn next_arrival(&mut self, scenario: &Scenario, tenant: usize, now: f64) -> Option<f64> {
        let (of, rng) = (&scenario.tenants[tenant], &mut self.tenants[tenant].rng);
        if of.rate_per_hour <= 0.0 {
            return None;
        }
        let swing = of.day.as_ref().map_or(0.0, |day| day.swing);
        let busiest = of.rate_per_hour * (1.0 + swing) / 3600.0;
        let end = of.until_s.unwrap_or(scenario.duration_s).min(scenario.duration_s);
        let mut at = now.max(of.from_s);
        // Thinning: draw at the busiest rate, keep in proportion (Lewis and Shedler 1979).
        loop {
            at += rng.exponential(1.0 / busiest);
            if at >= end {
                return None;
            }
            let wave = of
                .day
                .as_ref()
                .map_or(1.0, |day| 1.0 + day.swing * (std::f64::consts::TAU * (at - day.peak_s) / day.period_s).cos());
            if rng.chance(wave / (1.0 + swing)) {
                return Some(at);
            }
        }
    }

    pub fn job(&mut self, scenario: &Scenario, tenant: usize, tasks: Option<u32>) -> Plan {
        let (of, state) = (&scenario.tenants[tenant], &mut self.tenants[tenant]);
        let size = &of.tasks;
        let drawn = state.rng.pareto(f64::from(size.min), f64::from(size.max), size.alpha);
        let shape = state.first_shape + state.zipf.pick(&mut state.rng);
        let pool = if &*of.pool.0 == "*" {
            let picked = self.grid_zipf.pick(&mut state.rng).min(self.grid.len().saturating_sub(1));
            self.grid.get(picked).cloned().unwrap_or_default()
        } else {
            of.pool.clone()
        };
        let mine = scenario.faults.poison.iter().find(|p| p.tenant == of.name && p.job == state.jobs);
        state.jobs += 1;
        Plan {
            tenant,
            pool,
            shape,
            tasks: tasks.unwrap_or_else(|| u32::try_from(whole(drawn)).unwrap_or(u32::MAX)),
            poison: mine.map(|poison| millis(poison.fails_after_ms)),
        }
    }

    pub fn new_job(&self, scenario: &Scenario, plan: &Plan, now: Timestamp) -> NewJob {
        let of = &scenario.tenants[plan.tenant];
        let class = match of.start_by_s {
            Some(by) => Class::Opportunistic { start_by: now + seconds(by) },
            None => Class::Standard,
        };
        let hop = |to: &crate::scenario::HopTo| Hop {
            after: seconds(to.after_s),
            pool: to.pool.clone(),
            priority: to.priority,
        };
        NewJob {
            pool: plan.pool.clone(),
            priority: of.priority,
            deadline: of.deadline_s.map(|after| now + seconds(after)),
            class,
            preemptible: of.preemptible,
            hop: of.hops.iter().map(hop).collect(),
            ..NewJob::new("simulated", self.nothing.clone())
        }
    }

    /// The one phase of a job.
    pub fn phase(&self, plan: &Plan) -> Next {
        let task = NewTask {
            shape: self.shapes[plan.shape].clone(),
            label: String::new(),
            payload: self.nothing.clone(),
            weight: 0,
            max_attempts: None,
        };
        Next::Phase { name: "encoding".into(), tasks: vec![TaskRun { count: plan.tasks, task }] }
    }

    /// Depends on job, task and attempt alone: whatever the engine decides, the work is the same.
    pub fn fate(&self, scenario: &Scenario, plan: &Plan, (job, task, attempt): (usize, u32, u32)) -> Fate {
        let of = &scenario.tenants[plan.tenant].run;
        let mut run = fixed(self.seed, [count(job), u64::from(task), 0]).lognormal(of.median_ms, of.sigma);
        if let Some(stragglers) = &scenario.faults.stragglers
            && fixed(self.seed, [count(job), u64::from(task), u64::from(attempt) + 1]).chance(stragglers.share)
        {
            run *= stragglers.factor;
        }
        Fate { run: millis(run), fails_after: plan.poison.filter(|_| task == 0) }
    }

    /// When the jobs of a burst come, in seconds.
    pub fn burst(&mut self, tenant: usize, at: f64, jobs: u32, over: f64) -> Vec<f64> {
        let rng = &mut self.tenants[tenant].rng;
        (0..jobs).map(|_| at + over * rng.unit()).collect()
    }
}

fn shape(of: &Tenant, k: usize) -> Shape {
    let shapes = &of.shapes;
    let base = &shapes.resources[k % shapes.resources.len()];
    let memory = match base.memory {
        0 => 0,
        // Down, so that it still fits where the base does.
        some => some.saturating_sub(SHAPE_STEP * count(k)).max(1),
    };
    let backend = match shapes.backends.len() {
        0 => String::new(),
        n => shapes.backends[k % n].clone(),
    };
    Shape {
        function: shapes.function.clone(),
        backend,
        resources: Resources { memory, ..base.clone() },
        timeout: Span::ZERO,
        no_progress: Span::ZERO,
    }
}

/// A number of the worker's own, to keep what all do from falling on one moment.
pub(crate) fn phase_of(seed: u64, worker: usize, period: Span) -> Span {
    let mut rng = fixed(seed, [count(worker), 77, 3]);
    Span(count(below(&mut rng, index(period.0.max(1)))))
}
