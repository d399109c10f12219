//! The scheduler from outside: inputs in, facts and effects out.

use std::collections::{BTreeMap, BTreeSet};

use spool_proto::ids::{JobId, TaskId, WorkerName};
use spool_proto::time::Timestamp;

use crate::config::Config;
use crate::health::Watchdog;
use crate::io::{Effect, Input, Outcome, Record, Refusal, Reply, ToWorker, Token};
use crate::job::{Ending, Life, Phase};
use crate::pools::PoolIx;
use crate::reserve::Reservations;
use crate::rooms::Rooms;
use crate::shapes::ShapeId;
use crate::snapshot::{DirtyJob, EngineSnapshot, HistoryKey, HistoryPart, JobSnapshot, TaskPart};
use crate::state::{Illegal, State};
use crate::stragglers::Stragglers;
use crate::tally::Tally;
use crate::task;
use crate::waits::Alarm;

#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) state: State,
    /// When each worker's silence is looked at next.
    pub(crate) alarms: BTreeSet<(Timestamp, WorkerName)>,
    /// What time does to jobs.
    pub(crate) job_alarms: BTreeSet<(Timestamp, JobId, Alarm)>,
    pub(crate) rooms: Rooms,
    pub(crate) reserved: Reservations,
    pub(crate) tally: Tally,
    /// When it is next looked who is owed room.
    pub(crate) next_look: Timestamp,
    /// Lines that were owed room by a guarantee when it was last looked.
    pub(crate) short: u64,
    /// When a pool last took its fair share.
    pub(crate) last_fair: BTreeMap<PoolIx, Timestamp>,
    pub(crate) watchdog: Watchdog,
    pub(crate) stragglers: Stragglers,
    /// Warm targets are to be shared out anew: workers came or went, or pools changed.
    pub(crate) warm_stale: bool,
    /// Some worker was told to keep something warm.
    pub(crate) warm_asked: bool,
    /// Closed shapes that this round opened, each for the sake of one worker.
    pub(crate) opened: Vec<(ShapeId, WorkerName)>,
    /// Jobs to announce at the end of this turn.
    changed: Vec<JobId>,
}

impl Engine {
    pub fn new(config: Config) -> Engine {
        Engine {
            config,
            state: State::new(),
            alarms: BTreeSet::new(),
            job_alarms: BTreeSet::new(),
            rooms: Rooms::default(),
            reserved: Reservations::default(),
            tally: Tally::default(),
            next_look: Timestamp::ZERO,
            short: 0,
            last_fair: BTreeMap::new(),
            watchdog: Watchdog::default(),
            stragglers: Stragglers::default(),
            warm_stale: false,
            warm_asked: false,
            opened: Vec::new(),
            changed: Vec::new(),
        }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Folds one input in. Time-outs are looked at only on [`Input::Tick`]: a shell that fell behind must hand over what workers
    /// said meanwhile before it lets time speak.
    ///
    /// Room that comes free while a workflow is asked what is next is given away with the next input, its answer: else it would go to
    /// others the moment before the job asks for it.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Effect>) {
        let ticks = input == Input::Tick;
        let before = out.len();
        match input {
            Input::Submit { token, job } => self.submit(now, token, job, out),
            Input::Advance { job, next } => self.advance(now, job, next, out),
            Input::Cancel { token, job, reason } => self.cancel(now, token, job, reason, out),
            Input::Retry { token, job } => self.retry(now, token, job, out),
            Input::Signal { token, job, name, dedupe, payload } => {
                self.signal(now, token, job, (name, dedupe, payload), out);
            }
            Input::SetPriority { token, job, priority } => self.set_priority(now, token, job, priority, out),
            Input::Forget { job } => self.forget(job, out),
            Input::MoveJob { token, job, pool } => self.move_job(now, token, job, pool, out),
            Input::ApplyPools { token, change } => self.apply_pools(now, token, change, out),
            Input::HoldPool { token, pool, hold, by, reason } => {
                self.hold_pool(now, token, pool, (hold, by, reason), out);
            }
            Input::WarmReport { worker, incarnation, idle } => self.warm_report(now, &worker, incarnation, idle),
            Input::SelfTested { worker, incarnation, failure } => {
                self.self_tested(now, &worker, incarnation, failure, out);
            }
            Input::Register { worker, incarnation, capacity, backends, held } => {
                self.register(now, worker, incarnation, (capacity, backends), held, out);
            }
            Input::Disconnected { worker, incarnation } => self.disconnected(&worker, incarnation),
            Input::Heartbeat { worker, incarnation } => {
                self.heard(now, &worker, incarnation);
            }
            Input::Report { worker, incarnation, task, fence, report } => {
                if self.heard(now, &worker, incarnation) {
                    self.report(now, &worker, task, fence, report, out);
                }
            }
            Input::Cordon { token, worker, cordoned, drain, reason } => {
                self.cordon(now, token, worker, (cordoned, drain, reason), out);
            }
            Input::Leaving { worker, incarnation } => self.leaving(now, &worker, incarnation, out),
            Input::Tick => self.tick(now, out),
        }
        if self.warm_stale {
            self.watch_the_share(now);
        }
        if !out[before..].iter().any(|effect| matches!(effect, Effect::Advance { .. })) {
            self.round(now, out);
            if ticks {
                self.look_for_stragglers(now, out);
            }
        }
        self.set_job_alarms();
        self.share_warm_out(out);
        self.changed.sort_unstable();
        self.changed.dedup();
        out.extend(self.changed.drain(..).map(|job| Effect::Changed { job }));
    }

    /// When to call with [`Input::Tick`], if nothing else happens. `None`: nothing waits for time.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        if !self.state.touched.is_empty() {
            return Some(Timestamp::ZERO);
        }
        let backoff = self.state.backoff.first().map(|(at, _)| *at);
        let alarm = self.alarms.first().map(|(at, _)| *at);
        let job = self.job_alarms.first().map(|(at, ..)| *at);
        let reservation = self.reserved.next_expiry();
        let health = self.watchdog.next_alarm();
        let times = [backoff, alarm, job, reservation, self.next_look(), health, self.next_straggler_look()];
        times.into_iter().flatten().min()
    }

    /// Folds a record of the journal; emits nothing.
    ///
    /// # Errors
    /// The record cannot follow on what came before: the journal is damaged. The engine is not to be used further.
    pub fn replay(&mut self, record: &Record) -> Result<(), Illegal> {
        self.state.apply(record)
    }

    /// After the last record: every worker that holds leases counts as just disconnected, workflows that have the word are asked again.
    /// Those that only rest are not: they may be a million.
    pub fn resume(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        self.state.touched.clear();
        let workers: Vec<WorkerName> = self.state.workers.keys().cloned().collect();
        for name in workers {
            let worker = self.state.workers.get_mut(&name).expect("just listed");
            worker.last_heard = now;
            self.arm(&name, now + self.config.lease);
        }
        self.set_job_alarms();
        let jobs = self.state.jobs.values().filter(|job| !job.rests()).map(|job| job.id());
        for job in jobs.collect::<Vec<JobId>>() {
            self.settle(now, job, out);
        }
    }

    // ------------------------------------------------------------ checkpoints

    pub fn snapshot(&self) -> EngineSnapshot {
        self.state.snapshot()
    }

    /// What changed since the last [`Self::checkpointed`], by job.
    pub fn dirty(&self) -> Vec<DirtyJob> {
        // What a job keeps changes with its header only.
        let dirty = self.state.jobs.values().filter(|job| job.dirty_header || !job.dirty_parts.is_empty());
        dirty
            .map(|job| DirtyJob {
                job: job.id,
                header: job.dirty_header,
                parts: job.dirty_parts.iter().copied().collect(),
                history: job.reaction.history.dirty().into_iter().collect(),
            })
            .collect()
    }

    /// Jobs dropped since the last [`Self::checkpointed`].
    pub fn forgotten(&self) -> &[JobId] {
        &self.state.forgotten
    }

    pub fn job_snapshot(&self, job: JobId) -> Option<JobSnapshot> {
        Some(self.state.jobs.get(&job)?.snapshot(&self.state.shapes))
    }

    pub fn task_part(&self, job: JobId, part: u32) -> Option<TaskPart> {
        let size = usize::try_from(crate::snapshot::PART).ok()?;
        let tasks = self.state.jobs.get(&job)?.tasks.chunks(size).nth(usize::try_from(part).ok()?)?;
        Some(TaskPart { job, part, tasks: tasks.iter().map(task::Task::snapshot).collect() })
    }

    pub fn history_part(&self, job: JobId, key: HistoryKey) -> Option<HistoryPart> {
        let entries = self.state.jobs.get(&job)?.reaction.history.part(key);
        Some(HistoryPart { job, part: key.part, entries })
    }

    /// All there is, in order.
    pub fn history(&self, job: JobId) -> Vec<HistoryPart> {
        let keys = self.state.jobs.get(&job).map(|job| job.reaction.history.keys()).unwrap_or_default();
        keys.into_iter().filter_map(|key| self.history_part(job, key)).collect()
    }

    /// Everything dirty is written: forget the marks.
    pub fn checkpointed(&mut self) {
        self.state.forgotten.clear();
        for job in self.state.jobs.values_mut() {
            job.dirty_header = false;
            job.dirty_parts.clear();
            job.reaction.history.written();
        }
    }

    /// Takes over what belongs to no job. Before jobs and records.
    pub fn restore(&mut self, snapshot: EngineSnapshot) {
        self.state.restore(snapshot);
    }

    /// Takes over a job; `parts` and `history` in order.
    ///
    /// # Errors
    /// The snapshot contradicts itself or what is there already.
    pub fn restore_job(
        &mut self,
        job: JobSnapshot,
        parts: Vec<TaskPart>,
        history: Vec<HistoryPart>,
    ) -> Result<(), Illegal> {
        self.state.restore_job(job, parts, history)
    }

    // ------------------------------------------------------------ what the other files share

    /// Folds a fact the engine has just decided, and hands it to the journal.
    pub(crate) fn record(&mut self, record: Record, out: &mut Vec<Effect>) {
        self.state.apply(&record).unwrap_or_else(|broken| panic!("the engine decided what cannot be: {broken}"));
        out.push(Effect::Record(record));
    }

    pub(crate) fn changed(&mut self, job: JobId) {
        if self.changed.last() != Some(&job) {
            self.changed.push(job);
        }
    }

    pub(crate) fn send(&self, worker: &WorkerName, message: ToWorker, out: &mut Vec<Effect>) {
        let Some(known) = self.state.workers.get(worker).filter(|known| known.connected) else { return };
        let Some(incarnation) = known.incarnation else { return };
        out.push(Effect::Send { worker: worker.clone(), incarnation, message });
    }

    pub(crate) fn reply(token: Token, reply: Reply, out: &mut Vec<Effect>) {
        out.push(Effect::Reply { token, reply });
    }

    pub(crate) fn refuse(token: Token, refusal: Refusal, out: &mut Vec<Effect>) {
        Self::reply(token, Reply::Refused(refusal), out);
    }

    /// Tells a worker to let go of a lease, and remembers it for when the worker comes back without having heard.
    pub(crate) fn revoke(&mut self, worker: &WorkerName, task: TaskId, reason: &'static str, out: &mut Vec<Effect>) {
        let Some(known) = self.state.workers.get_mut(worker) else { return };
        let Some(fence) = known.revoke(task, reason) else { return };
        self.send(worker, ToWorker::Revoke { task, fence, reason }, out);
    }

    /// What follows for the job from its last change: its workflow has the word, or it ends.
    pub(crate) fn settle(&mut self, now: Timestamp, id: JobId, out: &mut Vec<Effect>) {
        let Some(job) = self.state.jobs.get(&id) else { return };
        if job.waits_for_workflow() || (job.new.reactive && job.life.goes_on()) {
            return self.ask(id, out);
        }
        let Life::Ending(ending) = &job.life else { return };
        if job.leased() > 0 {
            return;
        }
        let outcome = match ending.clone() {
            Ending::Cancel { reason } => Outcome::Cancelled { reason },
            Ending::Fail { failure } => Outcome::Failed { failure: *failure },
            Ending::Done { output } => Outcome::Done { output },
        };
        self.finish(now, id, outcome, out);
    }

    /// The workflow of a job that goes on has the word.
    pub(crate) fn ask(&mut self, id: JobId, out: &mut Vec<Effect>) {
        if let Some(job) = self.state.jobs.get_mut(&id) {
            job.reaction.asked = true;
            out.push(Effect::Advance { job: id });
        }
    }

    pub(crate) fn finish(&mut self, now: Timestamp, job: JobId, outcome: Outcome, out: &mut Vec<Effect>) {
        self.record(Record::JobFinished { job, outcome, at: now }, out);
        self.changed(job);
        out.push(Effect::Ended { job });
    }

    /// Asks every worker that holds a task of an ending job to let go.
    pub(crate) fn revoke_all(&mut self, id: JobId, out: &mut Vec<Effect>) {
        let Some(job) = self.state.jobs.get(&id).filter(|job| job.leased() > 0) else { return };
        let leases = job.open().flat_map(Phase::tasks).flat_map(|index| {
            let leases = job.task(index).into_iter().flat_map(task::Task::leases);
            leases.map(move |lease| (TaskId { job: id, index }, lease.worker.clone()))
        });
        for (task, worker) in leases.collect::<Vec<_>>() {
            self.revoke(&worker, task, crate::revoke::CANCELLED, out);
        }
    }
}
