//! What administrators ask of pools, and what pools say to those who submit.

use spool_proto::ids::JobId;
use spool_proto::pool::{Hold, PoolName};
use spool_proto::spec::PRIORITY_DEFAULT;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::JobState;

use crate::engine::Engine;
use crate::io::{Effect, NewJob, PoolChange, Record, Refusal, Reply, Token};
use crate::pools::PoolIx;
use crate::queue::Place;

const RETRY_AFTER_LEAST: Span = Span::from_secs(1);
const RETRY_AFTER_MOST: Span = Span::from_secs(600);
/// While nothing was leased yet.
const RETRY_AFTER_UNKNOWN: Span = Span::from_secs(30);

impl Engine {
    pub(crate) fn apply_pools(&mut self, now: Timestamp, token: Token, change: PoolChange, out: &mut Vec<Effect>) {
        if let Err(refusal) = self.check_change(&change) {
            return Self::refuse(token, refusal, out);
        }
        let version = self.state.pools_state.version + 1;
        let change = PoolChange { expected_version: None, ..change };
        self.record(Record::PoolsApplied { version, change, at: now }, out);
        self.pools_changed();
        Self::reply(token, Reply::Pools { version }, out);
    }

    /// # Errors
    /// Why the change cannot be.
    pub(crate) fn check_change(&self, change: &PoolChange) -> Result<(), Refusal> {
        let now = self.state.pools_state.version;
        if let Some(expected) = change.expected_version.filter(|expected| *expected != now) {
            return Err(Refusal::PoolsChanged { expected, now });
        }
        change.tree.check().map_err(Refusal::BadTree)?;
        for (pool, (open, _)) in &self.state.open_jobs {
            let name = self.state.pools.name(*pool);
            let stays = change.tree.pools.contains_key(name) && change.tree.is_leaf(name);
            if *open > 0 && !stays {
                return Err(Refusal::PoolInUse { pool: name.clone(), open: *open });
            }
        }
        Ok(())
    }

    pub(crate) fn hold_pool(
        &mut self,
        now: Timestamp,
        token: Token,
        pool: PoolName,
        (hold, by, reason): (Hold, String, String),
        out: &mut Vec<Effect>,
    ) {
        if self.state.pools.find(&pool).is_none() {
            return Self::refuse(token, Refusal::NoSuchPool(pool), out);
        }
        self.record(Record::PoolHeld { pool, hold, by, reason, at: now }, out);
        self.pools_changed();
        Self::reply(token, Reply::Pools { version: self.state.pools_state.version }, out);
    }

    /// Pools are numbered anew: what pointed to them is dropped or moved.
    fn pools_changed(&mut self) {
        let workers = self.reserved.clear();
        self.state.touched.extend(workers);
        self.last_fair.clear();
        self.tally.forget_pools();
        self.warm_stale = true;
        self.next_look = Timestamp::ZERO;
    }

    pub(crate) fn move_job(&mut self, now: Timestamp, token: Token, id: JobId, pool: PoolName, out: &mut Vec<Effect>) {
        let Some(job) = self.state.jobs.get(&id) else { return Self::refuse(token, Refusal::NoSuchJob(id), out) };
        // One that failed or was cancelled may be retried, and then it must stand somewhere.
        if job.state() == JobState::Done {
            let (state, advice) = (JobState::Done.name(), "its pool matters no more");
            return Self::refuse(token, Refusal::WrongState { job: id, state, advice }, out);
        }
        let same = job.new.pool == pool;
        match self.find_leaf(&pool) {
            Err(refusal) => return Self::refuse(token, refusal, out),
            Ok(at) if self.state.pools.hold(at) == Hold::Draining && !same => {
                return Self::refuse(token, self.drains(at), out);
            }
            Ok(_) => {}
        }
        if !same {
            let from = job.new.pool.clone();
            let stand_there = |part: &JobId| self.state.jobs[part].new.pool == from;
            let parts = self.open_parts(id).into_iter().filter(stand_there);
            for job in std::iter::once(id).chain(parts).collect::<Vec<_>>() {
                self.record(Record::JobMoved { job, pool: pool.clone(), priority: None, hop: false, at: now }, out);
                self.changed(job);
            }
        }
        Self::reply(token, Reply::Ok, out);
    }

    pub(crate) fn find_leaf(&self, pool: &PoolName) -> Result<PoolIx, Refusal> {
        let at = self.state.pools.find(pool).ok_or_else(|| Refusal::NoSuchPool(pool.clone()))?;
        if self.state.pools.is_leaf(at) { Ok(at) } else { Err(Refusal::NotALeaf(pool.clone())) }
    }

    fn drains(&self, at: PoolIx) -> Refusal {
        let holds = &self.state.pools_state.holds;
        let draining = self.state.pools.path(at).map(|pool| self.state.pools.name(pool));
        let reason = draining.into_iter().find_map(|pool| holds.get(pool).filter(|held| held.hold == Hold::Draining));
        Refusal::PoolDrains {
            pool: self.state.pools.name(at).clone(),
            reason: reason.map_or_else(String::new, |held| held.reason.clone()),
        }
    }

    /// # Errors
    /// Why the job is not taken now.
    pub(crate) fn check_submit(&self, job: &NewJob) -> Result<(), Refusal> {
        let at = self.find_leaf(&job.pool)?;
        for hop in &job.hop {
            self.find_leaf(&hop.pool)?;
        }
        // What was begun is ended.
        if job.part_of.is_some() {
            return Ok(());
        }
        if self.state.pools.hold(at) == Hold::Draining {
            return Err(self.drains(at));
        }
        for pool in self.state.pools.path(at) {
            let Some(limit) = self.state.pools.spec(pool).max_queued.map(u64::from) else { continue };
            let queued = self.queued_jobs(pool);
            if queued >= limit {
                let retry_after = self.retry_after(at, queued - limit + 1);
                return Err(Refusal::QueueFull {
                    pool: self.state.pools.name(pool).clone(),
                    queued,
                    limit,
                    retry_after,
                });
            }
        }
        let queued = self.state.queue.len();
        if self.overload() >= 3 && job.priority < PRIORITY_DEFAULT {
            let retry_after = self.retry_after(at, queued / 100);
            return Err(Refusal::Overloaded { queued, least: PRIORITY_DEFAULT, retry_after });
        }
        Ok(())
    }

    /// When so many starts will have happened in the leaf, if it goes on as it does.
    fn retry_after(&self, leaf: PoolIx, starts: u64) -> Span {
        let interval = self.tally.interval(leaf);
        let wait = interval.map_or(RETRY_AFTER_UNKNOWN, |each| each.saturating_mul(starts));
        wait.clamp(RETRY_AFTER_LEAST, RETRY_AFTER_MOST)
    }

    /// Jobs in the pool and below that wait for their first worker.
    pub(crate) fn queued_jobs(&self, pool: PoolIx) -> u64 {
        self.count_jobs(pool, |(_, queued)| queued)
    }

    pub(crate) fn open_jobs(&self, pool: PoolIx) -> u64 {
        self.count_jobs(pool, |(open, _)| open)
    }

    fn count_jobs(&self, pool: PoolIx, of: impl Fn((u64, u64)) -> u64) -> u64 {
        let pools = &self.state.pools;
        let below = self.state.open_jobs.iter().filter(|(leaf, _)| pools.path(**leaf).any(|at| at == pool));
        below.map(|(_, counts)| of(*counts)).sum()
    }

    /// 0 none; 1 opportunistic work is deferred; 2 nobody borrows while somebody entitled waits; 3 submits of low priority are refused.
    pub(crate) fn overload(&self) -> u8 {
        let queued = self.state.queue.len();
        let passed = self.config.overload.iter().filter(|from| queued >= **from).count();
        u8::try_from(passed).expect("three steps")
    }

    /// So much waits that nobody borrows while somebody is owed room.
    pub(crate) fn borrowing_is_off(&self) -> bool {
        self.short > 0 && self.overload() >= 2
    }

    /// The task would run on borrowed quota.
    pub(crate) fn would_borrow(&self, place: Place) -> bool {
        let need = self.state.shapes.need(place.shape);
        self.state.pools.entitled(place.pool, need).is_empty()
    }
}
