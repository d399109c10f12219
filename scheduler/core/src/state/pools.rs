//! The tree of pools changes, and with it where jobs are counted and charged.

use spool_proto::ids::JobId;
use spool_proto::pool::{Hold, HoldState, PoolName, PoolsState};
use spool_proto::resources::Resources;
use spool_proto::time::Timestamp;

use super::{Illegal, State};
use crate::asks::ShapeSet;
use crate::io::PoolChange;
use crate::job::{Life, Phase};
use crate::pool_history;
use crate::pools::{PoolIx, Pools};

impl State {
    /// Counts the job in its pool, or takes it out of the count: before and after its life or pool changes.
    pub(super) fn count_job(&mut self, id: JobId, there: bool) {
        let Some(job) = self.jobs.get(&id).filter(|job| !job.state().is_final()) else { return };
        let (open, queued) = self.open_jobs.entry(job.pool).or_default();
        let waits = u64::from(job.life == Life::Queued);
        if there {
            *open += 1;
            *queued += waits;
        } else {
            *open -= 1;
            *queued -= waits;
        }
    }

    /// What runs of it goes with it: its quota is charged where the job is.
    pub(super) fn job_moved(
        &mut self,
        id: JobId,
        pool: &PoolName,
        priority: Option<u8>,
        hop: bool,
    ) -> Result<(), Illegal> {
        let to = self.pools.find(pool).ok_or_else(|| Illegal::NoSuchPool(pool.clone()))?;
        self.count_job(id, false);
        let job = self.jobs.get(&id).ok_or(Illegal::NoSuchJob(id))?;
        let from = job.pool;
        let leases = job.open().flat_map(Phase::tasks).flat_map(|index| {
            let count = job.task(index).map_or(0, |task| task.leases().count());
            std::iter::repeat_n(job.run_of(index), count)
        });
        for shape in leases.filter_map(|run| Some(run?.shape)).collect::<Vec<_>>() {
            self.pools.release(from, self.shapes.need(shape));
            self.pools.charge(to, self.shapes.need(shape));
        }
        self.stand_anew(id, |job, _| {
            job.pool = to;
            job.new.pool = pool.clone();
            job.new.priority = priority.unwrap_or(job.new.priority);
            if hop && !job.new.hop.is_empty() {
                job.new.hop.remove(0);
            }
            job.dirty_header = true;
        })?;
        self.count_job(id, true);
        self.queue.released((&self.pools, &self.shapes), from);
        self.queue.charged(to);
        self.new_alarms.push(id);
        Ok(())
    }

    pub(super) fn pools_applied(&mut self, version: u64, change: &PoolChange, at: Timestamp) -> Result<(), Illegal> {
        change.tree.check_structure().map_err(Illegal::BadTree)?;
        let entry = pool_history::entry(&self.pools_state.tree, version, change, at);
        pool_history::remember(&mut self.pools_state.changes, entry);
        self.pools_state.holds.retain(|pool, _| change.tree.pools.contains_key(pool));
        self.pools_state.version = version;
        self.pools_state.tree = change.tree.clone();
        self.rebuild_pools();
        Ok(())
    }

    pub(super) fn pool_held(&mut self, pool: &PoolName, state: HoldState) -> Result<(), Illegal> {
        if self.pools.find(pool).is_none() {
            return Err(Illegal::NoSuchPool(pool.clone()));
        }
        let before = self.pools_state.holds.get(pool).map_or(Hold::Open, |held| held.hold);
        let entry = pool_history::hold_entry(self.pools_state.version, pool, before, &state);
        pool_history::remember(&mut self.pools_state.changes, entry);
        match state.hold {
            Hold::Open => drop(self.pools_state.holds.remove(pool)),
            Hold::Held | Hold::Draining => drop(self.pools_state.holds.insert(pool.clone(), state)),
        }
        self.rebuild_pools();
        Ok(())
    }

    /// Builds the tree's index anew from what is durable, and moves everything over.
    pub(super) fn rebuild_pools(&mut self) {
        let PoolsState { tree, holds, .. } = &self.pools_state;
        let hold = |pool: &PoolName| holds.get(pool).map_or(Hold::Open, |held| held.hold);
        let mut pools = Pools::new(tree, &hold, &mut self.shapes.kinds);
        pools.set_fleet(&self.fleet, &mut self.shapes.kinds);
        let default = pools.default_pool();
        let moved: Vec<PoolIx> =
            self.pools.all().map(|old| pools.find(self.pools.name(old)).unwrap_or(default)).collect();
        let to = |old: PoolIx| moved[old.index()];
        for job in self.jobs.values_mut() {
            // By name: of a job that is over, the pool may have gone meanwhile and be there again.
            job.pool = pools.find(&job.new.pool).unwrap_or(default);
        }
        for worker in self.workers.values() {
            for (task, held) in &worker.held {
                pools.charge(self.jobs[&task.job].pool, self.shapes.need(held.shape));
            }
        }
        let counts = std::mem::take(&mut self.open_jobs);
        for (pool, (open, queued)) in counts {
            let counts = self.open_jobs.entry(to(pool)).or_default();
            *counts = (counts.0 + open, counts.1 + queued);
        }
        self.pools = pools;
        self.queue.rebuild((&self.pools, &self.shapes), to);
        self.closed = ShapeSet::default();
    }

    /// What the workers that take leases have together.
    pub(crate) fn set_fleet(&mut self, fleet: Resources) {
        self.pools.set_fleet(&fleet, &mut self.shapes.kinds);
        self.fleet = fleet;
        self.queue.fleet_changed((&self.pools, &self.shapes));
    }
}
