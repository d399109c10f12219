//! A scenario made whole, checked, and made larger or smaller.

use spool_proto::pool::{PoolName, PoolSpec};
use spool_proto::resources::Resources;

use super::{BadScenario, Scenario, Tenant};
use crate::num::{float, whole};
use crate::{Options, kinds};

fn bad<T>(field: impl Into<String>, rule: impl Into<String>) -> Result<T, BadScenario> {
    Err(BadScenario::Rule { field: field.into(), rule: rule.into() })
}

impl Scenario {
    /// Adds the pools that go without saying, and the grid's.
    pub(super) fn plant(&mut self) {
        if let Some(grid) = self.pool_grid.take() {
            for group in 0..grid.groups {
                let name = format!("g{group}");
                let mut sum = Resources::ZERO;
                (0..grid.teams).for_each(|_| sum.add(&grid.team.guarantee));
                let spec = PoolSpec { guarantee: sum, ..PoolSpec::default() };
                self.pools.entry(name.as_str().into()).or_insert(spec);
                for team in 0..grid.teams {
                    self.pools.insert(format!("{name}/t{team}").as_str().into(), grid.team.clone());
                }
            }
        }
        self.pools.entry(PoolName::root()).or_default();
        self.pools.entry(PoolName::default()).or_default();
    }

    pub(super) fn check(&self) -> Result<(), BadScenario> {
        let mut tree = self.tree();
        tree.check()?;
        if !(self.duration_s > 0.0 && self.duration_s < 1e7) {
            return bad("duration_s", "must be above 0 and below 10,000,000");
        }
        if self.fleet.iter().all(|class| class.count == 0) {
            return bad("fleet", "needs at least one worker");
        }
        if let Some(class) = self.fleet.iter().find(|class| class.speed.is_nan() || class.speed <= 0.0) {
            return bad(format!("fleet.{}.speed", class.name), "must be above 0");
        }
        let amounts = self.fleet.iter().map(|class| &class.capacity);
        let mut names: Vec<&str> = amounts.flat_map(Resources::iter).map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() > kinds::MOST {
            return bad("fleet", "has too many kinds of resources; at most 8");
        }
        self.tenants.iter().try_for_each(|tenant| self.check_tenant(tenant))?;
        self.check_faults()?;
        for edit in &self.edits {
            tree.pools.extend(edit.pools.clone());
            tree.check()?;
        }
        Ok(())
    }

    fn check_tenant(&self, tenant: &Tenant) -> Result<(), BadScenario> {
        let tree = self.tree();
        let field = |of: &str| format!("tenants.{}.{of}", tenant.name);
        let any = &*tenant.pool.0 == "*";
        if !any && (!tree.pools.contains_key(&tenant.pool) || !tree.is_leaf(&tenant.pool)) {
            return bad(field("pool"), "is no leaf of the pools");
        }
        if tenant.tasks.min == 0 || tenant.tasks.max < tenant.tasks.min {
            return bad(field("tasks"), "needs 1 <= min <= max");
        }
        if !(tenant.tasks.alpha > 0.0 && tenant.rate_per_hour >= 0.0 && tenant.run.median_ms > 0.0) {
            return bad(field("tasks"), "needs alpha > 0, rate_per_hour >= 0 and run.median_ms > 0");
        }
        if tenant.shapes.count == 0 || tenant.shapes.resources.is_empty() {
            return bad(field("shapes"), "needs a count and resources");
        }
        for need in &tenant.shapes.resources {
            if !self.fleet.iter().any(|class| need.fits_in(&class.capacity)) {
                return bad(field("shapes"), format!("no worker could ever hold {need}"));
            }
        }
        Ok(())
    }

    fn check_faults(&self) -> Result<(), BadScenario> {
        for poison in &self.faults.poison {
            if !self.tenants.iter().any(|tenant| tenant.name == poison.tenant) {
                return bad("faults.poison.tenant", format!("there is no tenant {}", poison.tenant));
            }
        }
        for hole in &self.faults.black_hole {
            if !self.fleet.iter().any(|class| class.name == hole.class) {
                return bad("faults.black_hole.class", format!("there is no class {}", hole.class));
            }
        }
        for loss in &self.faults.rack_loss {
            if !self.fleet.iter().any(|class| class.racks.contains(&loss.rack)) {
                return bad("faults.rack_loss.rack", format!("there is no rack {}", loss.rack));
            }
        }
        Ok(())
    }

    /// As it is to be played.
    pub(crate) fn with(&self, options: &Options) -> Result<Scenario, BadScenario> {
        let mut scenario = self.clone();
        scenario.seed = options.seed.unwrap_or(self.seed);
        scenario.duration_s = options.duration_s.unwrap_or(self.duration_s);
        if let Some(factor) = options.workers_scale {
            if !(factor > 0.0 && factor <= 1e4) {
                return bad("workers-scale", "must be above 0 and at most 10,000");
            }
            scenario.scale(factor);
        }
        scenario.check()?;
        Ok(scenario)
    }

    fn scale(&mut self, factor: f64) {
        let some = |n: u32| u32::try_from(whole(f64::from(n) * factor)).unwrap_or(u32::MAX).max(n.min(1));
        self.fleet.iter_mut().for_each(|class| class.count = some(class.count));
        self.faults.black_hole.iter_mut().for_each(|hole| hole.workers = some(hole.workers));
        for spec in self.pools.values_mut().chain(self.edits.iter_mut().flat_map(|edit| edit.pools.values_mut())) {
            scale_pool(spec, factor);
        }
        for tenant in &mut self.tenants {
            tenant.rate_per_hour *= factor;
            tenant.bursts.iter_mut().for_each(|burst| burst.jobs = some(burst.jobs));
        }
    }
}

fn scale_pool(spec: &mut PoolSpec, factor: f64) {
    // Down, so that children do not outgrow their parent.
    let scaled = |amount: u64| whole((float(amount) * factor).floor());
    let guarantee = &mut spec.guarantee;
    for amount in [
        &mut guarantee.cpu,
        &mut guarantee.memory,
        &mut guarantee.scratch,
        &mut guarantee.gpu,
        &mut guarantee.encode_sessions,
        &mut guarantee.decode_sessions,
    ] {
        *amount = scaled(*amount);
    }
    let limits = guarantee.other.values_mut().chain(spec.borrow.values_mut()).chain(spec.lend.values_mut());
    limits.for_each(|amount| *amount = scaled(*amount));
    for warm in spec.warm.values_mut() {
        let some = |n: u32| u32::try_from(whole((f64::from(n) * factor).ceil())).unwrap_or(u32::MAX);
        (warm.min, warm.max) = (some(warm.min), warm.max.map(some));
    }
}
