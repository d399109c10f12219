//! What must hold after every step.

use std::collections::BTreeSet;

use spool_proto::ids::TaskId;
use spool_proto::view::JobState;

use crate::engine::Engine;
use crate::io::Advance;
use crate::job::{Counts, Job};
use crate::pools::ByLeaf;
use crate::state::is_ending;
use crate::task::{HISTORY, Lease, State};
use crate::workers::Held;

impl Engine {
    /// Reads the whole state; for tests.
    ///
    /// # Panics
    /// If the state contradicts itself, with what is broken.
    pub fn check_invariants(&self) {
        let state = &self.state;
        state.queue.check_invariants((&state.pools, &state.shapes));
        self.check_pools();
        self.check_health();
        for (name, worker) in state.workers.iter() {
            worker.check_invariants(name, &state.shapes);
            for (task, held) in &worker.held {
                let lease = state.task(*task).and_then(|task| task.lease_on(name));
                let same = lease.is_some_and(|lease| lease.fence == held.fence);
                assert!(same, "worker {name} holds {task}, which is leased as {lease:?}");
            }
            for task in worker.expecting.keys() {
                let lease = state.task(*task).and_then(|task| task.lease());
                assert!(lease.is_some(), "worker {name} expects {task}, which nobody holds");
            }
            if let Some(at) = worker.alarm {
                assert!(self.alarms.contains(&(at, name.clone())), "worker {name}: its alarm is not set");
            }
            assert!(worker.held.is_empty() || worker.alarm.is_some(), "worker {name} holds leases that never expire");
        }
        let waiting: Vec<TaskId> = state.queue.all().map(|(_, task)| task).collect();
        let lines: BTreeSet<TaskId> = waiting.iter().copied().collect();
        assert_eq!(waiting.len(), lines.len(), "a task waits twice");
        let mut expected = 0;
        for job in state.jobs.values() {
            expected += self.check_job(job, &lines);
        }
        assert_eq!(lines.len(), expected, "a task waits that should not");
    }

    /// Usage is what leases use and what is kept for claims, and every worker that takes leases is filed as it stands.
    fn check_pools(&self) {
        let state = &self.state;
        let mut leaves = ByLeaf::new();
        for (task, held) in state.workers.values().flat_map(|worker| &worker.held) {
            let used = leaves.entry(state.jobs[&task.job].pool).or_default();
            for (kind, amount) in state.shapes.need(held.shape) {
                *used.entry(*kind).or_default() += amount;
            }
        }
        state.pools.check_invariants(&leaves, &self.kept_quota(), &state.shapes.kinds);
        let takers = state.workers.iter().filter(|(name, worker)| self.takes_leases(name, worker));
        let standing = takers.map(|(name, worker)| (name.clone(), self.standing(name, worker))).collect();
        self.rooms.check_invariants(&standing, &state.touched);
        for (pool, (open, queued)) in &state.open_jobs {
            let of_pool = || state.jobs.values().filter(|job| job.pool == *pool && !job.state().is_final());
            assert_eq!(u64::try_from(of_pool().count()), Ok(*open), "pool {}: open jobs", state.pools.name(*pool));
            let waiting = of_pool().filter(|job| job.state() == JobState::Queued).count();
            assert_eq!(u64::try_from(waiting), Ok(*queued), "pool {}: queued jobs", state.pools.name(*pool));
        }
    }

    /// Gives the worker's side of it.
    fn check_lease(&self, id: TaskId, lease: &Lease) -> &Held {
        assert!(lease.fence.0 < self.state.next_fence, "{id}: a fence of the future");
        let held = self.state.workers.get(&lease.worker).and_then(|worker| worker.held.get(&id));
        held.unwrap_or_else(|| panic!("{id} is leased to {}, who lacks it", lease.worker))
    }

    /// Gives the number of its tasks that stand in a line.
    fn check_job(&self, job: &Job, lines: &BTreeSet<TaskId>) -> usize {
        let (mut standing, mut retries) = (0, 0);
        let mut of_all = Counts::default();
        for (number, phase) in (0..).zip(&job.phases) {
            let (mut counts, mut running) = (Counts::default(), 0);
            let (mut made, mut making) = (Advance::default(), Advance::default());
            let indexes = job.runs[phase.runs.clone()].iter().flat_map(|run| {
                assert_eq!(run.phase, number, "{}: a run in the wrong phase", job.id);
                run.first..run.first + run.count
            });
            for index in indexes {
                let id = TaskId { job: job.id, index };
                let task = job.task(index).unwrap_or_else(|| panic!("{id} is not there"));
                let waits = match &task.state {
                    State::Queued => {
                        counts.queued += 1;
                        true
                    }
                    State::Backoff { until } => {
                        counts.backoff += 1;
                        let sleeps = self.state.backoff.contains(&(*until, id));
                        assert_ne!(sleeps, lines.contains(&id), "{id} sleeps and waits, or neither");
                        !sleeps
                    }
                    State::Leased(first, copy) => {
                        counts.leased += 1;
                        let held = self.check_lease(id, first);
                        if let Some(copy) = copy {
                            self.check_lease(id, copy);
                            assert!(copy.worker != first.worker, "{id}: both copies are on {}", copy.worker);
                            assert!(copy.fence > first.fence, "{id}: its second copy came first");
                        }
                        running += u32::from(held.started.is_some());
                        making.add(&held.advance);
                        false
                    }
                    State::Done(done) => {
                        counts.done += 1;
                        made.add(&done.advance);
                        false
                    }
                    State::Failed => {
                        counts.failed += 1;
                        false
                    }
                    State::Cancelled => {
                        counts.cancelled += 1;
                        false
                    }
                };
                retries += u32::from(task.attempts);
                let counted = task.history.iter().filter(|end| end.counted).count();
                let full = task.history.len() == HISTORY && counted < usize::from(task.attempts);
                assert!(full || counted == usize::from(task.attempts), "{id}: {counted} of {} attempts", task.attempts);
                assert_eq!(waits, lines.contains(&id), "{id} is {}, in line: {}", task.state.name(), !waits);
                standing += usize::from(waits);
            }
            let open = (job.open().any(|open| std::ptr::eq(open, phase)), counts.open() > 0);
            assert_eq!(open.0, open.1, "{}: {} is listed as open, and is", job.id, phase.name);
            assert!(!job.new.reactive || phase.finished.is_some() != open.1, "{}: the end of {}", job.id, phase.name);
            of_all.add(&counts);
            assert_eq!((counts, running), (phase.counts, phase.running), "{}: {} miscounts", job.id, phase.name);
            assert_eq!((made, making), (phase.made, phase.making), "{}: {} sums wrong", job.id, phase.name);
        }
        assert_eq!(&of_all, job.counts(), "{}: miscounts its tasks", job.id);
        assert_eq!(job.waiting_since().is_some(), of_all.waiting() > 0, "{}: waits, and is listed so", job.id);
        self.check_reaction(job);
        assert_eq!(retries, job.retries, "{}: miscounts its retries", job.id);
        let tail = (job.is_in_tail(), job.in_tail, self.state.tails.contains(&job.id));
        assert!(tail.0 == tail.1 && tail.0 == tail.2, "{}: in its tail, marked, listed: {tail:?}", job.id);
        assert!(!job.state().is_final() || job.leased() == 0, "{} is final and leased", job.id);
        assert!(!job.state().is_final() || standing == 0, "{} is final and waits", job.id);
        assert!(!is_ending(&job.life) || (job.leased() > 0 && standing == 0), "{} should have ended", job.id);
        assert!(job.id.0 < self.state.next_job, "{} is of the future", job.id);
        standing
    }

    fn check_reaction(&self, job: &Job) {
        let reaction = &job.reaction;
        if !job.new.reactive {
            let kept = (job.log().len(), job.signals().len(), job.wake());
            let last = job.phases.len().saturating_sub(1);
            let open = job.phases[..last].iter().all(|phase| phase.counts.done == phase.counts.total());
            assert!(open, "{}: a phase began before the one before was done", job.id);
            assert_eq!(kept, (0, 0, None), "{} is not reactive", job.id);
            return;
        }
        for index in &reaction.cancelling {
            let leased = job.task(*index).is_some_and(|task| task.lease().is_some());
            assert!(leased, "{}: task {index} is to be cancelled when it is let go, and nobody holds it", job.id);
        }
        let numbers: Vec<u64> = job.signals().map(|signal| signal.number).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{}: signals {numbers:?}", job.id);
        if let Some(wake) = job.wake().filter(|_| reaction.alarm.is_some() && job.life.goes_on()) {
            assert_eq!(reaction.alarm, Some(wake), "{}: its alarm", job.id);
        }
    }
}
