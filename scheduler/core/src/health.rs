//! What failures say of a host. One that fails several different tasks much faster than they take is a black hole: it would
//! swallow the queue, because it is always the first to be free again.
//!
//! Healthy → throttled (one lease at a time) → quarantined (none, until a self-test passes) → throttled → healthy. What is decided is
//! durable ([`Record::WorkerJudged`]); what it was decided from is not.

use std::collections::{BTreeSet, VecDeque};

use spool_proto::failure::Failure;
use spool_proto::ids::{Fence, TaskId, WorkerName};
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::WorkerHealth;

use crate::engine::Engine;
use crate::failures::is_suspicious;
use crate::io::{Effect, Incarnation, Record, ToWorker};
use crate::roster::ByName;
use crate::task;

/// Finished tasks that are named when a host is suspected, the latest ones.
const NAMED: usize = 16;
/// Strikes kept of one host, the latest ones.
const STRIKES: usize = 64;

/// A failure that is held against its host.
#[derive(Debug, Clone)]
struct Strike {
    at: Timestamp,
    task: TaskId,
    fence: Fence,
    /// Tasks finished there before it.
    finished_before: u64,
}

/// How a host has done lately. Volatile.
#[derive(Debug, Clone, Default)]
struct Conduct {
    strikes: VecDeque<Strike>,
    /// Since it was last proved good: its process started, or a self-test passed.
    finished: u64,
    /// Of those, the latest.
    latest: VecDeque<TaskId>,
    last_finished: Option<Timestamp>,
    judged: Timestamp,
    /// Self-tests asked for since it was quarantined.
    tests: u32,
    test_at: Option<Timestamp>,
}

impl Conduct {
    /// Different tasks that failed, and tasks that finished since the first of them.
    fn score(&self) -> (usize, u64) {
        let tasks: BTreeSet<TaskId> = self.strikes.iter().map(|strike| strike.task).collect();
        let before = self.strikes.front().map_or(self.finished, |first| first.finished_before);
        (tasks.len(), self.finished.saturating_sub(before))
    }

    fn finished_text(&self) -> String {
        let names = self.latest.iter().map(TaskId::to_string).collect::<Vec<_>>().join(", ");
        match self.finished {
            0 => "it finished nothing since it was last proved good".into(),
            count if usize::try_from(count).is_ok_and(|count| count <= NAMED) => {
                format!("finished there since it was last proved good: {names}")
            }
            count => format!("finished there since it was last proved good: {count} tasks, the latest {names}"),
        }
    }
}

/// Everything that is remembered of hosts' conduct.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watchdog {
    conduct: ByName<Conduct>,
    /// When a quarantined host is asked to test itself again.
    tests: BTreeSet<(Timestamp, WorkerName)>,
    /// Too much of the fleet is quarantined, as it is now; then some of it is let go.
    relax_at: Option<Timestamp>,
}

impl Watchdog {
    fn of(&mut self, worker: &WorkerName) -> &mut Conduct {
        if !self.conduct.contains_key(worker) {
            self.conduct.insert(worker.clone(), Conduct::default());
        }
        self.conduct.get_mut(worker).expect("just made sure")
    }

    fn arm(&mut self, worker: &WorkerName, at: Option<Timestamp>) {
        if let Some(old) = std::mem::replace(&mut self.of(worker).test_at, at) {
            self.tests.remove(&(old, worker.clone()));
        }
        self.tests.extend(at.map(|at| (at, worker.clone())));
    }

    pub(crate) fn next_alarm(&self) -> Option<Timestamp> {
        self.tests.first().map(|(at, _)| *at).into_iter().chain(self.relax_at).min()
    }
}

impl Engine {
    pub(crate) fn health(&self, worker: &WorkerName) -> &WorkerHealth {
        self.state.judged.get(worker).unwrap_or(&WorkerHealth::Healthy)
    }

    pub(crate) fn is_quarantined(&self, worker: &WorkerName) -> bool {
        matches!(self.health(worker), WorkerHealth::Quarantined { .. })
    }

    /// A failure there. If it came suspiciously fast, and not of a task that fails elsewhere too, it is a strike.
    pub(crate) fn hold_against(
        &mut self,
        now: Timestamp,
        worker: &WorkerName,
        id: TaskId,
        fence: Fence,
        failure: &Failure,
        out: &mut Vec<Effect>,
    ) {
        let held = self.state.workers.get(worker).and_then(|worker| worker.held.get(&id));
        let users =
            held.is_some_and(|held| self.state.shapes.get(held.shape).function.starts_with(&self.config.users_prefix));
        if !is_suspicious(failure.class) || users || !self.was_fast(now, worker, id) {
            return;
        }
        let elsewhere = |task: &task::Task| task.history().iter().any(|end| end.counted && end.worker != *worker);
        if self.state.task(id).is_none_or(elsewhere) {
            return;
        }
        let (window, tasks) = (self.config.health_window, self.config.black_hole_tasks);
        let conduct = self.watchdog.of(worker);
        let finished_before = conduct.finished;
        conduct.strikes.push_back(Strike { at: now, task: id, fence, finished_before });
        while conduct.strikes.len() > STRIKES || conduct.strikes.front().is_some_and(|first| first.at + window < now) {
            conduct.strikes.pop_front();
        }
        let (failed, finished) = conduct.score();
        let many = failed >= tasks && u64::try_from(failed).is_ok_and(|failed| failed > finished);
        let named: BTreeSet<String> = conduct.strikes.iter().map(|strike| strike.task.to_string()).collect();
        let named = named.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
        let reason = format!(
            "{failed} different tasks failed on it within {} s, much faster than such tasks take ({named}), the last one: {failure}; {}",
            window.as_millis() / 1000,
            conduct.finished_text(),
        );
        match self.health(worker) {
            WorkerHealth::Healthy if many => {
                self.judge(now, worker, WorkerHealth::Throttled { reason }, out);
            }
            WorkerHealth::Throttled { .. } if self.may_quarantine() => self.quarantine(now, worker, reason, out),
            WorkerHealth::Healthy | WorkerHealth::Throttled { .. } | WorkerHealth::Quarantined { .. } => {}
        }
    }

    /// Much faster than such tasks take; where nobody knows how long that is, on a host that has finished nothing lately.
    fn was_fast(&self, now: Timestamp, worker: &WorkerName, id: TaskId) -> bool {
        let held = self.state.workers.get(worker).and_then(|worker| worker.held.get(&id));
        let leased = self.state.task(id).and_then(|task| task.lease_on(worker)).map(|lease| lease.at);
        let Some((held, leased)) = held.zip(leased) else { return false };
        let ran = now.since(held.began.unwrap_or(leased));
        if let Some(estimate) = self.state.shapes.estimate(held.shape) {
            return ran.saturating_mul(self.config.fast_divisor) < estimate;
        }
        let last = self.watchdog.conduct.get(worker).and_then(|conduct| conduct.last_finished);
        last.is_none_or(|last| last + self.config.health_window < now)
    }

    /// Automatic quarantine takes at most a share of the fleet, and never the only worker.
    fn may_quarantine(&self) -> bool {
        let (quarantined, most) = self.quarantine_room();
        quarantined.len() < most
    }

    /// Who of the fleet is quarantined, the first one first, and how many may be.
    fn quarantine_room(&self) -> (Vec<(Timestamp, WorkerName)>, usize) {
        let fleet = self.state.workers.iter().filter(|(name, worker)| self.is_available(name, worker));
        let (mut quarantined, mut count) = (Vec::new(), 0);
        for (name, _) in fleet {
            count += 1;
            if let WorkerHealth::Quarantined { since, .. } = self.health(name) {
                quarantined.push((*since, name.clone()));
            }
        }
        quarantined.sort_unstable();
        let most = if count < 2 { 0 } else { (count / self.config.quarantine_one_in.max(1)).max(1) };
        (quarantined, most)
    }

    fn quarantine(&mut self, now: Timestamp, worker: &WorkerName, reason: String, out: &mut Vec<Effect>) {
        self.judge(now, worker, WorkerHealth::Quarantined { reason, since: now }, out);
        self.watchdog.of(worker).tests = 0;
        self.test(now, worker, out);
        let strikes = std::mem::take(&mut self.watchdog.of(worker).strikes);
        for Strike { task, fence, .. } in strikes {
            let Some(job) = self.state.jobs.get(&task.job).filter(|job| job.life.goes_on()) else { continue };
            let open = |task: &&task::Task| {
                !matches!(task.state, task::State::Done(_) | task::State::Failed | task::State::Cancelled)
                    && task.excused < self.config.max_excused
                    && task.history().iter().any(|end| end.fence == fence && end.counted)
            };
            if job.task(task.index).filter(open).is_some() {
                self.record(Record::AttemptForgiven { task, fence, at: now }, out);
                self.changed(task.job);
            }
        }
    }

    fn judge(&mut self, now: Timestamp, worker: &WorkerName, health: WorkerHealth, out: &mut Vec<Effect>) {
        let held = health != WorkerHealth::Healthy;
        self.record(Record::WorkerJudged { worker: worker.clone(), health, at: now }, out);
        self.watchdog.of(worker).judged = now;
        if held {
            self.take_waiting_back(worker, out);
        }
        if !self.is_quarantined(worker) {
            self.watchdog.arm(worker, None);
        }
        self.file(worker);
        self.warm_stale = true;
    }

    /// Asks for a self-test, and again after a while: the word may be lost, or the answer bad.
    fn test(&mut self, now: Timestamp, worker: &WorkerName, out: &mut Vec<Effect>) {
        let conduct = self.watchdog.of(worker);
        let wait = self.config.self_test_base.saturating_mul(1 << conduct.tests.min(16)).min(self.config.self_test_cap);
        conduct.tests += 1;
        self.watchdog.arm(worker, Some(now + wait));
        self.send(worker, ToWorker::SelfTest, out);
    }

    pub(crate) fn self_tested(
        &mut self,
        now: Timestamp,
        worker: &WorkerName,
        incarnation: Incarnation,
        failure: Option<Failure>,
        out: &mut Vec<Effect>,
    ) {
        if !self.heard(now, worker, incarnation) {
            return;
        }
        let WorkerHealth::Quarantined { reason, since } = self.health(worker).clone() else { return };
        match failure {
            None => {
                self.proved_good(worker);
                let reason =
                    format!("its self-test passed; the next task it finishes makes it healthy again (was: {reason})");
                self.judge(now, worker, WorkerHealth::Throttled { reason }, out);
            }
            Some(failure) => {
                let cause = reason.split(FAILED_TEST).next().unwrap_or_default();
                let reason = format!("{cause}{FAILED_TEST}{failure}");
                self.judge(now, worker, WorkerHealth::Quarantined { reason, since }, out);
            }
        }
    }

    /// A task is about to count as finished there.
    pub(crate) fn finished_well(&mut self, now: Timestamp, worker: &WorkerName, id: TaskId, out: &mut Vec<Effect>) {
        let leased = self.state.task(id).and_then(|task| task.lease_on(worker)).map(|lease| lease.at);
        let conduct = self.watchdog.of(worker);
        conduct.finished += 1;
        conduct.last_finished = Some(now);
        if conduct.latest.len() == NAMED {
            conduct.latest.pop_front();
        }
        conduct.latest.push_back(id);
        // What it had begun before proves nothing.
        let since = leased.is_some_and(|leased| leased >= conduct.judged);
        if since && matches!(self.health(worker), WorkerHealth::Throttled { .. }) {
            self.watchdog.of(worker).strikes.clear();
            self.judge(now, worker, WorkerHealth::Healthy, out);
        }
    }

    /// From here on what it finishes is trusted.
    fn proved_good(&mut self, worker: &WorkerName) {
        let conduct = self.watchdog.of(worker);
        conduct.finished = 0;
        conduct.latest.clear();
        conduct.strikes.clear();
    }

    /// A worker has registered; a new process has tested itself at its start, but it is not asked for more than it says.
    pub(crate) fn health_at_register(
        &mut self,
        now: Timestamp,
        worker: &WorkerName,
        same_process: bool,
        out: &mut Vec<Effect>,
    ) {
        if !same_process {
            self.proved_good(worker);
        }
        if self.is_quarantined(worker) {
            self.test(now, worker, out);
        }
    }

    /// The worker is no longer known.
    pub(crate) fn forget_conduct(&mut self, now: Timestamp, worker: &WorkerName, out: &mut Vec<Effect>) {
        if *self.health(worker) != WorkerHealth::Healthy {
            self.record(Record::WorkerJudged { worker: worker.clone(), health: WorkerHealth::Healthy, at: now }, out);
        }
        self.watchdog.arm(worker, None);
        self.watchdog.conduct.remove(worker);
    }

    /// Workers came or went: has too much of what is left been quarantined? A lease's length later it is let go, if it still is:
    /// after a restart of the server the others only have to come back.
    pub(crate) fn watch_the_share(&mut self, now: Timestamp) {
        if self.state.judged.is_empty() {
            self.watchdog.relax_at = None;
            return;
        }
        let (quarantined, most) = self.quarantine_room();
        if quarantined.len() <= most {
            self.watchdog.relax_at = None;
        } else {
            self.watchdog.relax_at.get_or_insert(now + self.config.lease);
        }
    }

    pub(crate) fn ring_watchdog(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        while let Some((at, name)) = self.watchdog.tests.first().filter(|(at, _)| *at <= now).cloned() {
            self.watchdog.tests.remove(&(at, name.clone()));
            self.watchdog.of(&name).test_at = None;
            let there = self.state.workers.get(&name).is_some_and(|worker| worker.connected && !worker.silent);
            // One that is away is asked when it comes back.
            if there && self.is_quarantined(&name) {
                self.test(now, &name, out);
            }
        }
        if self.watchdog.relax_at.is_some_and(|at| at <= now) {
            self.watchdog.relax_at = None;
            let (quarantined, most) = self.quarantine_room();
            let over = quarantined.len().saturating_sub(most);
            for (since, name) in quarantined.into_iter().take(over) {
                let WorkerHealth::Quarantined { reason, .. } = self.health(&name).clone() else { continue };
                let for_s = now.since(since).as_millis() / 1000;
                let reason =
                    format!("the fleet is too small to do without it, after {for_s} s of quarantine ({reason})");
                self.judge(now, &name, WorkerHealth::Throttled { reason }, out);
            }
        }
    }

    /// As [`Self::check_invariants`].
    pub(crate) fn check_health(&self) {
        for (at, name) in &self.watchdog.tests {
            let armed = self.watchdog.conduct.get(name).and_then(|conduct| conduct.test_at);
            assert_eq!(armed, Some(*at), "worker {name}: a self-test nobody asks for");
            assert!(self.is_quarantined(name), "worker {name} is tested and not quarantined");
        }
        for name in self.state.judged.keys().filter(|name| self.is_quarantined(name)) {
            assert!(
                !self.rooms.members().any(|member| member == name),
                "worker {name} is quarantined and takes leases"
            );
        }
        let (quarantined, most) = self.quarantine_room();
        let over = quarantined.len() > most && self.watchdog.relax_at.is_none();
        assert!(!over, "more than {most} are quarantined, and none is let go: {quarantined:?}");
    }
}

/// Stands between what brought a host into quarantine and what its last self-test said.
const FAILED_TEST: &str = "; its self-test failed: ";

impl Watchdog {
    /// How long until it is tested again, for people.
    pub(crate) fn next_test(&self, worker: &WorkerName, now: Timestamp) -> Option<Span> {
        self.conduct.get(worker)?.test_at.map(|at| at.since(now))
    }
}
