//! What pools allow, read from the journal: who may start where. A second opinion, simpler than the engine's: where somebody lends only a
//! part of what it has, limits are not followed (`tests/pools` of the engine does that).

use std::collections::BTreeMap;

use spool_core::io::{NewJob, TaskRun};
use spool_proto::ids::{JobId, TaskId};
use spool_proto::pool::{Hold, PoolName, PoolTree};
use spool_proto::resources::Resources;

struct Job {
    pool: PoolName,
    preemptible: bool,
    /// Of each task.
    needs: Vec<Resources>,
}

#[derive(Default)]
pub struct Quota {
    tree: PoolTree,
    holds: BTreeMap<PoolName, Hold>,
    jobs: BTreeMap<JobId, Job>,
}

fn path(pool: &PoolName) -> impl Iterator<Item = PoolName> {
    std::iter::successors(Some(pool.clone()), PoolName::parent)
}

impl Quota {
    pub fn submitted(&mut self, id: JobId, new: &NewJob) {
        self.check_place(id, &new.pool);
        self.jobs.insert(id, Job { pool: new.pool.clone(), preemptible: new.preemptible, needs: Vec::new() });
    }

    pub fn phase(&mut self, id: JobId, tasks: &[TaskRun]) {
        let needs = &mut self.jobs.get_mut(&id).expect("it was submitted").needs;
        for run in tasks {
            needs.extend((0..run.count).map(|_| run.task.shape.resources.clone()));
        }
    }

    pub fn moved(&mut self, id: JobId, pool: &PoolName) {
        self.check_place(id, pool);
        self.jobs.get_mut(&id).expect("it was submitted").pool = pool.clone();
    }

    pub fn retried(&self, id: JobId) {
        self.check_place(id, &self.jobs[&id].pool);
    }

    pub fn forgotten(&mut self, id: JobId) {
        self.jobs.remove(&id);
    }

    pub fn held(&mut self, pool: &PoolName, hold: Hold) {
        assert!(self.tree.pools.contains_key(pool), "{pool} is not there and is held");
        self.holds.insert(pool.clone(), hold);
    }

    /// `open`: jobs that have not ended.
    pub fn applied(&mut self, tree: &PoolTree, open: impl Iterator<Item = JobId>) {
        assert_eq!(tree.check(), Ok(()), "a tree that cannot be");
        self.holds.retain(|pool, _| tree.pools.contains_key(pool));
        self.tree = tree.clone();
        open.for_each(|id| self.check_place(id, &self.jobs[&id].pool));
    }

    fn check_place(&self, id: JobId, pool: &PoolName) {
        let is_leaf = self.tree.pools.contains_key(pool) && self.tree.is_leaf(pool);
        assert!(is_leaf, "{id} is in {pool}, which is no leaf");
    }

    pub fn may_be_preempted(&self, task: TaskId) -> bool {
        self.jobs[&task.job].preemptible
    }

    /// `leased`: every lease there is, this one included.
    pub fn check_lease(&self, task: TaskId, leased: impl Iterator<Item = TaskId>) {
        let Job { pool, preemptible, needs } = &self.jobs[&task.job];
        for above in path(pool) {
            let hold = self.holds.get(&above).copied().unwrap_or_default();
            assert_eq!(hold, Hold::Open, "{task} starts below {above}");
        }
        let partly_lent = self.tree.pools.values().any(|spec| spec.lend.contains_key("cpu"));
        if partly_lent || needs[at(task)].cpu == 0 {
            return;
        }
        let mut used: BTreeMap<PoolName, u64> = BTreeMap::new();
        for task in leased {
            let job = &self.jobs[&task.job];
            path(&job.pool).for_each(|above| *used.entry(above).or_default() += job.needs[at(task)].cpu);
        }
        for above in path(pool) {
            let limit = self.limit(&above);
            assert!(used[&above] <= limit, "{task} of {pool} starts: {above} uses {} of {limit}", used[&above]);
        }
        let guaranteed = path(pool).any(|above| !above.is_root() && self.owned(&above) > 0);
        if !preemptible && guaranteed {
            let owned = self.owned(pool);
            assert!(
                used[pool] <= owned,
                "{task} of {pool} may not be preempted and borrows: {} of {owned}",
                used[pool]
            );
        }
    }

    /// Guaranteed to it, or to those below it.
    fn owned(&self, pool: &PoolName) -> u64 {
        let below: u64 = self.tree.children(pool).map(|child| self.owned(child)).sum();
        self.tree.pools[pool].guarantee.cpu.max(below)
    }

    fn limit(&self, pool: &PoolName) -> u64 {
        let spec = &self.tree.pools[pool];
        if pool.is_root() {
            return if spec.guarantee.cpu > 0 { spec.guarantee.cpu } else { u64::MAX };
        }
        spec.borrow.get("cpu").map_or(u64::MAX, |borrow| self.owned(pool) + borrow)
    }
}

fn at(task: TaskId) -> usize {
    usize::try_from(task.index).expect("32 bits fit in an index")
}
