//! Virtual time: the engine, the workers around it, and everything that is to happen.

mod faults;
mod sample;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use spool_core::io::{Effect, Input, LeaseOrder, Next, Record, Reply, Report as Word, ToWorker, Token};
use spool_core::{Config, Engine, revoke};
use spool_proto::ids::{JobId, TaskId, WorkerName};
use spool_proto::pool::PoolTree;
use spool_proto::time::{Span, Timestamp};

use crate::kinds::Kinds;
use crate::ledger::Ledger;
use crate::load::{Load, Plan, phase_of};
use crate::num::{millis, seconds};
use crate::report::Report;
use crate::scenario::Scenario;
use crate::worker::{Act, Call, Costs, Due, Worker};
use crate::{Options, scenario};
pub(crate) use sample::Samples;

/// Submissions are told from other requests by this.
const NOT_A_JOB: u64 = 1 << 48;
/// Most ticks of the engine in one instant.
const TICKS_MOST: u32 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The next message in a worker's mail. Of the process it was sent to.
    Mail(usize, u64),
    Due(usize, u64, Due),
    BackoffOver(TaskId),
    Wakeup,
    Arrival(usize),
    /// A job of a burst.
    Job(usize, Option<u32>),
    /// Heartbeat, housekeeping, news of warm executors.
    Tend(usize),
    Progress(usize),
    WorkerComes(usize),
    WorkerLeaves(usize),
    RackFails(usize),
    RackReturns(usize),
    HoleOpens(usize),
    HoleCloses(usize),
    Edit(usize),
    Sample,
}

pub(crate) struct World<'a> {
    scenario: &'a Scenario,
    options: &'a Options,
    costs: Costs,
    round_trip: Span,
    tend: Span,
    says_warm: bool,
    engine: Engine,
    load: Load,
    pub ledger: Ledger,
    workers: Vec<Worker>,
    by_name: HashMap<WorkerName, usize>,
    /// Numbers of the classes' first workers.
    classes: Vec<(usize, usize)>,
    plans: Vec<Plan>,
    tree: PoolTree,
    now: Timestamp,
    end: Timestamp,
    events: BinaryHeap<Reverse<(Timestamp, u64, Event)>>,
    sequence: u64,
    inbox: VecDeque<Input>,
    out: Vec<Effect>,
    acts: Vec<Act>,
    wakeup: Option<Timestamp>,
    ticks: (Timestamp, u32),
    samples: Samples,
    thinking: Duration,
    self_tests: u64,
}

impl<'a> World<'a> {
    /// Of a checked scenario.
    pub fn new(scenario: &'a Scenario, options: &'a Options) -> World<'a> {
        let load = Load::new(scenario);
        let capacities = scenario.fleet.iter().map(|class| &class.capacity);
        let kinds = Kinds::of(capacities.chain(load.shapes.iter().map(|shape| &shape.resources)));
        let needs = load.shapes.iter().map(|shape| kinds.amounts(&shape.resources)).collect();
        let (knobs, model) = (&scenario.engine, &scenario.worker);
        let config = Config {
            lease: seconds(knobs.lease_s),
            reserve_after: seconds(knobs.reserve_after_s),
            age_step: seconds(knobs.age_step_s),
            ..Config::default()
        };
        let tree = scenario.tree();
        let end = Timestamp::ZERO + seconds(scenario.duration_s);
        let mut world = World {
            scenario,
            options,
            costs: Costs {
                cold: millis(model.cold_ms),
                warm: millis(model.warm_ms),
                kill: millis(model.kill_ms),
                idle: seconds(model.idle_s),
                self_test: millis(model.self_test_ms),
            },
            round_trip: millis(knobs.round_trip_ms),
            tend: Span(config.lease.0 / 3),
            says_warm: scenario.pools.values().any(|spec| !spec.warm.is_empty()),
            engine: Engine::new(config),
            ledger: Ledger::new(kinds, needs, &tree),
            load,
            workers: Vec::new(),
            by_name: HashMap::new(),
            classes: Vec::new(),
            plans: Vec::new(),
            tree,
            now: Timestamp::ZERO,
            end,
            events: BinaryHeap::new(),
            sequence: 0,
            inbox: VecDeque::new(),
            out: Vec::new(),
            acts: Vec::new(),
            wakeup: None,
            ticks: (Timestamp::ZERO, 0),
            samples: Samples::new(end),
            thinking: Duration::ZERO,
            self_tests: 0,
        };
        world.apply_pools("the scenario begins");
        scenario.fleet.iter().for_each(|class| world.hire(class));
        world.schedule_load();
        world.schedule_faults();
        world.at(Timestamp::ZERO, Event::Sample);
        world
    }

    fn hire(&mut self, class: &scenario::FleetClass) {
        let (first, capacity) = (self.workers.len(), self.ledger.kinds.amounts(&class.capacity));
        for number in 0..class.count {
            let name = WorkerName::from(format!("{}-{number}", class.name));
            let offers = (class.capacity.clone(), class.backends.clone());
            let mut worker = Worker::new(name.clone(), offers, capacity, class.speed, self.load.keys.len());
            let racks = class.racks.len().max(1);
            worker.rack = class.racks.get(crate::num::index(u64::from(number)) % racks).cloned();
            let index = self.workers.len();
            self.by_name.insert(name, index);
            self.workers.push(worker);
            let comes = Timestamp::ZERO + seconds(class.arrive_s);
            self.at(comes, Event::WorkerComes(index));
            self.at(comes + phase_of(self.scenario.seed, index, self.tend), Event::Tend(index));
            if self.scenario.worker.progress_s > 0.0 {
                let every = seconds(self.scenario.worker.progress_s);
                self.at(comes + phase_of(self.scenario.seed, index, every), Event::Progress(index));
            }
            if let Some(leaves) = class.leave_s {
                self.at(Timestamp::ZERO + seconds(leaves), Event::WorkerLeaves(index));
            }
        }
        self.classes.push((first, self.workers.len()));
    }

    fn schedule_load(&mut self) {
        for tenant in 0..self.scenario.tenants.len() {
            self.next_arrival(tenant, 0.0);
            for burst in &self.scenario.tenants[tenant].bursts {
                for at in self.load.burst(tenant, burst.at_s, burst.jobs, burst.over_s) {
                    self.at(Timestamp::ZERO + seconds(at), Event::Job(tenant, burst.tasks));
                }
            }
        }
    }

    fn at(&mut self, at: Timestamp, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    /// Plays it to its end.
    pub fn run(mut self) -> Report {
        let begun = Instant::now();
        self.drive();
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at > self.end {
                break;
            }
            self.now = at;
            self.ledger.now = at;
            self.step(event);
            self.drive();
        }
        (self.now, self.ledger.now) = (self.end, self.end);
        self.close(begun)
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Mail(worker, process) => {
                if self.workers[worker].incarnation.0 == process
                    && let Some(message) = self.workers[worker].mail.pop_front()
                {
                    self.receive(worker, message);
                }
            }
            Event::Due(worker, process, due) => self.due(worker, process, due),
            Event::BackoffOver(task) => self.ledger.backoff_over(task),
            Event::Wakeup => {
                self.wakeup = None;
                self.inbox.push_back(Input::Tick);
            }
            Event::Arrival(tenant) => {
                self.submit(tenant, None);
                self.next_arrival(tenant, Span(self.now.0).as_secs_f64());
            }
            Event::Job(tenant, tasks) => self.submit(tenant, tasks),
            Event::Tend(worker) => self.tend(worker),
            Event::Progress(worker) => {
                self.at(self.now + seconds(self.scenario.worker.progress_s), Event::Progress(worker));
                if self.workers[worker].alive {
                    self.workers[worker].progress(self.now, &mut self.acts);
                    self.act(worker);
                }
            }
            Event::WorkerComes(worker) => self.come(worker),
            Event::WorkerLeaves(worker) => {
                if self.workers[worker].alive {
                    self.workers[worker].leaving = true;
                    let (worker, incarnation) = (self.workers[worker].name.clone(), self.workers[worker].incarnation);
                    self.inbox.push_back(Input::Leaving { worker, incarnation });
                }
                self.leave_if_done(worker);
            }
            Event::RackFails(loss) => self.rack_fails(loss),
            Event::RackReturns(loss) => self.rack_returns(loss),
            Event::HoleOpens(hole) => self.hole(hole, true),
            Event::HoleCloses(hole) => self.hole(hole, false),
            Event::Edit(edit) => {
                self.tree.pools.extend(self.scenario.edits[edit].pools.clone());
                self.apply_pools("the scenario says so");
            }
            Event::Sample => self.sample(),
        }
    }

    // ------------------------------------------------------------ clients

    fn next_arrival(&mut self, tenant: usize, after_s: f64) {
        if let Some(at) = self.load.next_arrival(self.scenario, tenant, after_s) {
            self.at(Timestamp::ZERO + seconds(at), Event::Arrival(tenant));
        }
    }

    fn submit(&mut self, tenant: usize, tasks: Option<u32>) {
        let plan = self.load.job(self.scenario, tenant, tasks);
        let job = self.load.new_job(self.scenario, &plan, self.now);
        let number = self.ledger.submits(&job, plan.shape);
        self.plans.push(plan);
        self.inbox.push_back(Input::Submit { token: Token(crate::num::count(number)), job });
    }

    // ------------------------------------------------------------ the server

    /// Hands the engine what has come, one by one, and does what it says.
    fn drive(&mut self) {
        while let Some(input) = self.inbox.pop_front() {
            let finishes = match &input {
                Input::Report { task, fence, report: Word::Finished { started, finished, .. }, .. } => {
                    Some((*task, *fence, finished.since(*started)))
                }
                _ => None,
            };
            let mut out = std::mem::take(&mut self.out);
            let begun = Instant::now();
            self.engine.handle(self.now, input, &mut out);
            self.thinking += begun.elapsed();
            self.judge_finish(finishes, &out);
            // Which job is whose comes first: everything else speaks of it.
            for effect in &out {
                if let Effect::Reply { token, reply } = effect {
                    self.replied(*token, reply);
                }
            }
            for effect in out.drain(..) {
                self.effect(effect);
            }
            self.out = out;
        }
        self.arm();
    }

    fn judge_finish(&mut self, finishes: Option<(TaskId, spool_proto::ids::Fence, Span)>, out: &[Effect]) {
        let Some((task, fence, ran)) = finishes else { return };
        let taken =
            |effect: &Effect| matches!(effect, Effect::Record(Record::Finished { fence: f, .. }) if *f == fence);
        if !out.iter().any(taken)
            && let Some(job) = self.ledger.job_of(task.job)
        {
            self.ledger.in_vain(job, ran);
        }
    }

    fn arm(&mut self) {
        let Some(at) = self.engine.next_wakeup() else { return };
        if self.wakeup.is_some_and(|set| set <= at.max(self.now)) {
            return;
        }
        // An engine that asks to be woken in the instant it was woken in, again and again, would stop time.
        if at <= self.now {
            self.ticks = if self.ticks.0 == self.now { (self.now, self.ticks.1 + 1) } else { (self.now, 1) };
        }
        let mut at = at.max(self.now);
        if at == self.now && self.ticks.1 > TICKS_MOST {
            let most = TICKS_MOST;
            self.ledger.expect(false, || format!("the engine asked to be woken {most} times in one instant"));
            at = self.now + Span::from_millis(1);
        }
        self.wakeup = Some(at);
        self.at(at, Event::Wakeup);
    }

    fn replied(&mut self, token: Token, reply: &Reply) {
        let job = crate::num::index(token.0);
        match reply {
            Reply::Submitted { job: id, .. } => self.ledger.accepted(job, *id),
            Reply::Refused(refusal) if token.0 >= NOT_A_JOB => {
                let text = refusal.to_string();
                self.ledger.expect(false, || format!("an edit of the pools was refused: {text}"));
            }
            Reply::Refused(_) => self.ledger.refused(job),
            Reply::Pools { .. } | Reply::Ok => {}
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Record(record) => {
                if let Record::AttemptFailed { task, retry_at: Some(at), .. } = &record {
                    self.at(*at, Event::BackoffOver(*task));
                }
                self.ledger.read(&record);
            }
            Effect::Advance { job } => self.workflow(job),
            Effect::Send { worker, incarnation, message } => {
                let Some(&index) = self.by_name.get(&worker) else { return };
                if let ToWorker::Revoke { task, reason: revoke::PREEMPTED, .. } = &message
                    && let Some(job) = self.ledger.job_of(task.job)
                {
                    if std::env::var("TRACE").is_ok() {
                        eprintln!(
                            "PRE {:.3} {} {}",
                            Span(self.now.0).as_secs_f64(),
                            self.ledger.pools.all[self.ledger.jobs[job].pool].name,
                            task
                        );
                    }
                    self.ledger.preempted(job);
                }
                let to = &mut self.workers[index];
                if to.alive && to.incarnation == incarnation {
                    to.mail.push_back(message);
                    self.at(self.now + self.round_trip, Event::Mail(index, incarnation.0));
                }
            }
            Effect::Ended { job } => self.inbox.push_back(Input::Forget { job }),
            Effect::Reply { .. } | Effect::Changed { .. } => {}
        }
    }

    fn workflow(&mut self, id: JobId) {
        let Some(job) = self.ledger.job_of(id) else { return };
        let next = if self.ledger.has_tasks(job) {
            Next::Finish { output: [].as_slice().into() }
        } else {
            self.load.phase(&self.plans[job])
        };
        self.inbox.push_back(Input::Advance { job: id, next });
    }

    fn apply_pools(&mut self, reason: &str) {
        let change = spool_core::io::PoolChange {
            tree: self.tree.clone(),
            expected_version: None,
            by: "simulator".into(),
            reason: reason.into(),
        };
        self.inbox.push_back(Input::ApplyPools { token: Token(NOT_A_JOB), change });
    }

    // ------------------------------------------------------------ workers

    fn come(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        if worker.alive {
            return;
        }
        worker.start();
        worker.last_word = self.now;
        let (capacity, backends) = worker.offers.clone();
        let (incarnation, amounts) = (worker.incarnation, worker.capacity);
        let worker = worker.name.clone();
        self.ledger.fleet_changes(&amounts, true);
        self.inbox.push_back(Input::Register { worker, incarnation, capacity, backends, held: Vec::new() });
    }

    fn receive(&mut self, index: usize, message: ToWorker) {
        let (now, costs) = (self.now, self.costs);
        let worker = &mut self.workers[index];
        match message {
            ToWorker::Lease(order) => return self.lease(index, &order),
            ToWorker::Revoke { task, fence, reason } => {
                worker.revoke(now, (task, fence), reason, &costs, &mut self.acts);
            }
            ToWorker::Welcome { forget } => worker.forget(&forget),
            ToWorker::Warm { targets } => {
                let target = |key: &spool_core::io::WarmKey| {
                    targets.iter().find(|target| target.key == *key).map(|target| target.spec)
                };
                let by_key = self.load.keys.iter().map(target).collect();
                worker.executors.set_targets(by_key);
                self.tend_executors(index);
            }
            ToWorker::SelfTest => {
                self.self_tests += 1;
                let process = worker.incarnation.0;
                self.at(now + costs.self_test, Event::Due(index, process, Due::SelfTested));
            }
            ToWorker::Drain { .. } => worker.leaving = true,
            ToWorker::Replaced => {
                let name = worker.name.clone();
                self.ledger.expect(false, || format!("{name} was replaced by nobody"));
            }
        }
        self.act(index);
    }

    fn lease(&mut self, index: usize, order: &LeaseOrder) {
        let Some(job) = self.ledger.job_of(order.task.job) else { return };
        let plan = &self.plans[job];
        let fate = self.load.fate(self.scenario, plan, (job, order.task.index, order.attempt));
        let (need, key) = (self.ledger.needs[plan.shape], self.load.key_of[plan.shape]);
        let call = Call::new(order.task, order.fence, job, need, key, fate);
        self.workers[index].lease(self.now, call, order.prefetched, &self.costs, &mut self.acts);
        self.act(index);
    }

    fn due(&mut self, index: usize, process: u64, due: Due) {
        let worker = &mut self.workers[index];
        if !worker.alive || worker.incarnation.0 != process {
            return;
        }
        if due == Due::SelfTested {
            let failure = worker.fails_after.map(|_| {
                let class = spool_proto::failure::Class::Host;
                spool_proto::failure::Failure::new(class, "simulated", "the golden encode failed")
            });
            let (worker, incarnation) = (worker.name.clone(), worker.incarnation);
            return self.inbox.push_back(Input::SelfTested { worker, incarnation, failure });
        }
        worker.due(self.now, due, &self.costs, &mut self.acts);
        self.act(index);
    }

    /// Heartbeat and housekeeping.
    fn tend(&mut self, index: usize) {
        self.at(self.now + self.tend, Event::Tend(index));
        let worker = &mut self.workers[index];
        if !worker.alive {
            return;
        }
        if self.now.since(worker.last_word) >= self.tend {
            worker.last_word = self.now;
            let (worker, incarnation) = (worker.name.clone(), worker.incarnation);
            self.inbox.push_back(Input::Heartbeat { worker, incarnation });
        }
        self.tend_executors(index);
        let worker = &mut self.workers[index];
        if self.says_warm && std::mem::take(&mut worker.executors.changed) {
            let idle = worker.idle(&self.load.keys);
            let (worker, incarnation) = (worker.name.clone(), worker.incarnation);
            self.inbox.push_back(Input::WarmReport { worker, incarnation, idle });
        }
    }

    fn tend_executors(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        let process = worker.incarnation.0;
        for key in worker.executors.tend(self.now, self.costs.idle) {
            self.at(self.now + self.costs.cold, Event::Due(index, process, Due::WarmedUp(key)));
        }
    }

    /// Does what an event at a worker leads to.
    fn act(&mut self, index: usize) {
        let mut acts = std::mem::take(&mut self.acts);
        let process = self.workers[index].incarnation.0;
        for act in acts.drain(..) {
            match act {
                Act::Say(task, fence, report) => {
                    let worker = &mut self.workers[index];
                    worker.last_word = self.now;
                    let (worker, incarnation) = (worker.name.clone(), worker.incarnation);
                    self.inbox.push_back(Input::Report { worker, incarnation, task, fence, report });
                }
                Act::Admitted { job, fence } => self.ledger.admitted(job, fence),
                Act::Started { job, task, waited, cold } => self.ledger.started(job, task, waited, cold),
                Act::Released { job, ran, finished } => self.ledger.released(job, ran, finished),
                Act::After(span, due) => self.at(self.now + span, Event::Due(index, process, due)),
            }
        }
        self.acts = acts;
        self.leave_if_done(index);
    }

    /// One that leaves is gone when it holds nothing more.
    fn leave_if_done(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        if worker.leaving && worker.alive && worker.is_empty() && worker.mail.is_empty() {
            worker.alive = false;
            worker.executors.clear();
            let (amounts, incarnation, worker) = (worker.capacity, worker.incarnation, worker.name.clone());
            self.ledger.fleet_changes(&amounts, false);
            self.inbox.push_back(Input::Disconnected { worker, incarnation });
        }
    }
}
