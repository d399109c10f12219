//! A small world in virtual time: the engine, workers that do as they are told, and a model of who waits and who holds what, folded
//! from the engine's own records. `watch.rs` says what is checked at every step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use spool_core::io::*;
use spool_core::{Config, Engine, revoke};
use spool_proto::failure::{Class as FailureClass, Failure};
use spool_proto::ids::{Fence, JobId, TaskId, WorkerName};
use spool_proto::pool::{Class, Hold, PoolName, PoolTree};
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};

use crate::oracle::{Head, Key, Quota};

/// Runs until it is told to stop.
pub const ENDLESS: u64 = u64::MAX;

#[derive(Debug, Clone)]
pub struct Job {
    pub pool: PoolName,
    pub priority: u8,
    pub deadline: Option<Timestamp>,
    pub class: Class,
    pub opportunistic: bool,
    pub fixed: bool,
    /// It waits for no worker any more.
    pub ending: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Stand {
    Waiting,
    Backoff(Timestamp),
    Leased(WorkerName, Fence),
    Over,
}

#[derive(Debug, Clone)]
pub struct Task {
    pub shape: Shape,
    pub weight: u64,
    pub stand: Stand,
}

/// A lease as its worker has it.
#[derive(Debug, Clone)]
pub struct Call {
    pub task: TaskId,
    pub need: Resources,
    pub started: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub struct Worker {
    pub capacity: Resources,
    pub backends: Vec<String>,
    pub incarnation: Incarnation,
    pub connected: bool,
    pub calls: BTreeMap<Fence, Call>,
}

impl Worker {
    fn free(&self) -> Resources {
        let mut free = self.capacity.clone();
        self.calls.values().filter(|call| call.started.is_some()).for_each(|call| free.sub(&call.need));
        free
    }
}

#[derive(Debug)]
pub struct World {
    pub engine: Engine,
    pub now: Timestamp,
    /// Everything the engine was ever handed, and what it made of it.
    pub log: Vec<(Timestamp, Input, Vec<Effect>)>,
    pub tree: PoolTree,
    pub holds: BTreeMap<PoolName, Hold>,
    pub quota: Quota,
    pub jobs: BTreeMap<JobId, Job>,
    pub tasks: BTreeMap<TaskId, Task>,
    pub workers: BTreeMap<WorkerName, Worker>,
    pub replies: Vec<Reply>,
    /// Nobody preempts and nothing is reserved in this world: order and work conservation hold to the letter.
    pub strict: bool,
    /// Jobs gain priority as they wait, which the model does not follow: order is not checked.
    pub ages: bool,
    /// Who was told to make room, and when.
    pub evicted: Vec<(Timestamp, TaskId)>,
    /// Where each of them was.
    pub evicted_from: BTreeMap<TaskId, WorkerName>,
    /// When each task first ran.
    pub ran: BTreeMap<TaskId, Timestamp>,
    pub(crate) last_fence: Fence,
    plan: Vec<TaskRun>,
    inbox: VecDeque<Input>,
}

/// Nothing ages, no worker falls silent, nothing is drained for big tasks.
pub fn calm() -> Config {
    let never = Span::from_secs(1_000_000);
    Config { lease: never, age_step: never, reserve_after: never, straggler_after: never, ..Config::default() }
}

pub fn shape(need: &Resources, backend: &str) -> Shape {
    Shape {
        function: "media.encode".into(),
        backend: backend.into(),
        resources: need.clone(),
        timeout: Span::ZERO,
        no_progress: Span::ZERO,
    }
}

/// `count` tasks that each run for `ms`.
pub fn run(count: u32, need: &Resources, ms: u64) -> TaskRun {
    let task = NewTask {
        shape: shape(need, ""),
        label: String::new(),
        payload: Blob::from(&b"{}"[..]),
        weight: ms,
        max_attempts: None,
    };
    TaskRun { count, task }
}

pub fn job(pool: &str) -> NewJob {
    NewJob { pool: pool.into(), ..NewJob::new("video-encode", Blob::from(&b"{}"[..])) }
}

pub fn cpu(milli: u64) -> Resources {
    Resources::cpu_memory(milli, 0)
}

impl World {
    /// With this tree applied.
    pub fn new(tree: &PoolTree, config: Config) -> World {
        let ages = config.age_step < calm().age_step;
        let mut world = World {
            ages,
            engine: Engine::new(config),
            now: Timestamp(1_000_000_000),
            log: Vec::new(),
            tree: PoolTree::default(),
            holds: BTreeMap::new(),
            quota: Quota::new(&PoolTree::default(), &BTreeMap::new()),
            jobs: BTreeMap::new(),
            tasks: BTreeMap::new(),
            workers: BTreeMap::new(),
            replies: Vec::new(),
            strict: false,
            evicted: Vec::new(),
            evicted_from: BTreeMap::new(),
            ran: BTreeMap::new(),
            last_fence: Fence(0),
            plan: Vec::new(),
            inbox: VecDeque::new(),
        };
        let reply = world.apply(tree.clone());
        assert!(matches!(reply, Reply::Pools { .. }), "{reply:?}");
        world
    }

    // ------------------------------------------------------------ what people do

    pub fn ask(&mut self, input: Input) -> Reply {
        self.input(input);
        self.replies.last().unwrap().clone()
    }

    pub fn apply(&mut self, tree: PoolTree) -> Reply {
        let change = PoolChange { tree, expected_version: None, by: "ann".into(), reason: "test".into() };
        self.ask(Input::ApplyPools { token: Token(1), change })
    }

    pub fn hold(&mut self, pool: &PoolName, hold: Hold) -> Reply {
        let (by, reason) = ("ann".into(), "test".into());
        self.ask(Input::HoldPool { token: Token(1), pool: pool.clone(), hold, by, reason })
    }

    /// `None`: refused.
    pub fn submit(&mut self, job: NewJob, tasks: Vec<TaskRun>) -> Option<JobId> {
        self.plan = tasks;
        match self.ask(Input::Submit { token: Token(1), job }) {
            Reply::Submitted { job, .. } => Some(job),
            _ => None,
        }
    }

    pub fn add_worker(&mut self, name: &str, capacity: &Resources, backends: &[String]) {
        let worker = Worker {
            capacity: capacity.clone(),
            backends: backends.to_vec(),
            incarnation: Incarnation(1),
            connected: true,
            calls: BTreeMap::new(),
        };
        self.workers.insert(name.into(), worker);
        self.register(&name.into());
    }

    pub fn register(&mut self, name: &WorkerName) {
        let worker = self.workers.get_mut(name).unwrap();
        worker.connected = true;
        let of = |(fence, call): (&Fence, &Call)| HeldLease {
            task: call.task,
            fence: *fence,
            running: call.started.is_some(),
        };
        let held = worker.calls.iter().map(of).collect();
        let (capacity, backends) = (worker.capacity.clone(), worker.backends.clone());
        let incarnation = worker.incarnation;
        self.input(Input::Register { worker: name.clone(), incarnation, capacity, backends, held });
    }

    /// The process dies and a new one takes its place.
    pub fn lose(&mut self, name: &WorkerName) {
        let worker = self.workers.get_mut(name).unwrap();
        worker.calls.clear();
        worker.incarnation.0 += 1;
        self.register(name);
    }

    pub fn disconnect(&mut self, name: &WorkerName) {
        let worker = self.workers.get_mut(name).unwrap();
        worker.connected = false;
        let incarnation = worker.incarnation;
        self.input(Input::Disconnected { worker: name.clone(), incarnation });
    }

    pub fn cordon(&mut self, name: &WorkerName, cordoned: bool) -> Reply {
        let (drain, reason) = (false, "test".into());
        self.ask(Input::Cordon { token: Token(1), worker: name.clone(), cordoned, drain, reason })
    }

    /// Calls that run, with who runs them.
    pub fn running(&self) -> Vec<(WorkerName, Fence, TaskId)> {
        let of = |(name, worker): (&WorkerName, &Worker)| {
            let running = worker.calls.iter().filter(|(_, call)| call.started.is_some() && worker.connected);
            running.map(|(fence, call)| (name.clone(), *fence, call.task)).collect::<Vec<_>>()
        };
        self.workers.iter().flat_map(of).collect()
    }

    pub fn finish(&mut self, name: &WorkerName, fence: Fence) {
        let call = self.workers.get_mut(name).unwrap().calls.remove(&fence).unwrap();
        let (started, finished) = (call.started.unwrap(), self.now);
        let report =
            Report::Finished { started, finished, answer: Blob::from(&b"{}"[..]), advance: Advance::default() };
        self.report(name, call.task, fence, report);
    }

    pub fn fail(&mut self, name: &WorkerName, fence: Fence) {
        let call = self.workers.get_mut(name).unwrap().calls.remove(&fence).unwrap();
        let failure = Failure::new(FailureClass::Transient, "simulated", "bad luck");
        self.report(name, call.task, fence, Report::Failed { failure });
    }

    /// The worker has just let go of a call: what lies ready there starts before anybody hears of it.
    fn report(&mut self, name: &WorkerName, task: TaskId, fence: Fence, report: Report) {
        let incarnation = self.workers[name].incarnation;
        self.inbox.push_back(Input::Report { worker: name.clone(), incarnation, task, fence, report });
        self.start_ready(name);
        self.drain();
    }

    // ------------------------------------------------------------ time

    pub fn tick(&mut self) {
        self.input(Input::Tick);
    }

    /// Lets time pass: calls end when their time is over, alarms ring.
    pub fn run_for(&mut self, span: Span) {
        let end = self.now + span;
        let mut still = 0;
        loop {
            let ends = self.next_end();
            let at = ends.iter().map(|end| end.0).chain(self.engine.next_wakeup()).min();
            let Some(at) = at.filter(|at| *at <= end) else { break };
            still = if at <= self.now { still + 1 } else { 0 };
            assert!(still < 1000, "the clock stands at {:?}: the engine asks to be woken again and again", self.now);
            self.now = self.now.max(at);
            match ends.filter(|(end, ..)| *end <= self.now) {
                Some((_, name, fence)) => self.finish(&name, fence),
                None => self.tick(),
            }
        }
        self.now = end;
        self.tick();
    }

    fn next_end(&self) -> Option<(Timestamp, WorkerName, Fence)> {
        let of = |(name, fence, task): (WorkerName, Fence, TaskId)| {
            let started = self.workers[&name].calls[&fence].started?;
            let weight = self.tasks[&task].weight;
            (weight != ENDLESS).then(|| (started + Span::from_millis(weight), name, fence))
        };
        self.running().into_iter().filter_map(of).min()
    }

    // ------------------------------------------------------------ the engine's turn

    pub fn input(&mut self, input: Input) {
        self.inbox.push_back(input);
        self.drain();
    }

    fn drain(&mut self) {
        let mut turns = 0;
        while let Some(input) = self.inbox.pop_front() {
            turns += 1;
            assert!(turns < 100_000, "no end of messages at {:?}", self.now);
            let mut effects = Vec::new();
            let before = self.before();
            self.engine.handle(self.now, input.clone(), &mut effects);
            self.engine.check_invariants();
            self.log.push((self.now, input.clone(), effects.clone()));
            self.watch(&before, &input, &effects);
            for effect in effects {
                self.deliver(effect);
            }
        }
    }

    fn deliver(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { reply, .. } => self.replies.push(reply),
            Effect::Advance { job } => {
                let next = if self.engine.job(job).unwrap().phases().is_empty() {
                    Next::Phase { name: "encode".into(), tasks: std::mem::take(&mut self.plan) }
                } else {
                    Next::Finish { output: Blob::from(&b""[..]) }
                };
                self.inbox.push_front(Input::Advance { job, next });
            }
            Effect::Send { worker, incarnation, message } => {
                if self.workers.get(&worker).is_some_and(|w| w.connected && w.incarnation == incarnation) {
                    self.receive(&worker, message);
                }
            }
            Effect::Record(_) | Effect::Changed { .. } | Effect::Ended { .. } => {}
        }
    }

    fn receive(&mut self, name: &WorkerName, message: ToWorker) {
        let worker = self.workers.get_mut(name).unwrap();
        match message {
            ToWorker::Welcome { forget } => forget.iter().for_each(|lease| {
                worker.calls.remove(&lease.fence);
            }),
            ToWorker::Lease(order) => {
                let call = Call { task: order.task, need: order.shape.resources.clone(), started: None };
                worker.calls.insert(order.fence, call);
            }
            ToWorker::Revoke { task, fence, reason } => {
                let running = worker.calls.get(&fence).is_some_and(|call| call.started.is_some());
                if !(running && reason == revoke::RETRACTED) && worker.calls.remove(&fence).is_some() {
                    let (incarnation, report) = (worker.incarnation, Report::Returned { reason: reason.into() });
                    self.inbox.push_back(Input::Report { worker: name.clone(), incarnation, task, fence, report });
                }
            }
            ToWorker::Warm { .. } | ToWorker::SelfTest | ToWorker::Drain { .. } | ToWorker::Replaced => {}
        }
        self.start_ready(name);
    }

    /// In the order received, whatever fits.
    fn start_ready(&mut self, name: &WorkerName) {
        let worker = self.workers.get_mut(name).unwrap();
        let mut free = worker.free();
        for (fence, call) in worker.calls.iter_mut().filter(|(_, call)| call.started.is_none()) {
            if call.need.fits_in(&free) {
                free.sub(&call.need);
                call.started = Some(self.now);
                self.ran.entry(call.task).or_insert(self.now);
                let report = Report::Started { at: self.now, start: Start::Inline };
                let (incarnation, task, fence) = (worker.incarnation, call.task, *fence);
                self.inbox.push_back(Input::Report { worker: name.clone(), incarnation, task, fence, report });
            }
        }
    }

    // ------------------------------------------------------------ the model

    pub fn fold(&mut self, record: &Record) {
        match record {
            Record::JobSubmitted { job, new, at } => {
                let opportunistic = matches!(new.class, Class::Opportunistic { start_by } if start_by > *at);
                let model = Job {
                    pool: new.pool.clone(),
                    priority: new.priority,
                    deadline: new.deadline,
                    class: new.class,
                    opportunistic,
                    fixed: !new.preemptible,
                    ending: false,
                };
                self.jobs.insert(*job, model);
            }
            Record::PhaseStarted { job, tasks, .. } => {
                let each = tasks.iter().flat_map(|run| std::iter::repeat_n(&run.task, run.count as usize));
                for (index, task) in (0..).zip(each) {
                    let model = Task { shape: task.shape.clone(), weight: task.weight, stand: Stand::Waiting };
                    self.tasks.insert(TaskId { job: *job, index }, model);
                }
            }
            Record::Leased { task, fence, worker, .. } => {
                self.move_usage(*task, true);
                self.tasks.get_mut(task).unwrap().stand = Stand::Leased(worker.clone(), *fence);
            }
            Record::Finished { task, .. } | Record::TaskCancelled { task, .. } => self.over(*task, Stand::Over),
            Record::AttemptFailed { task, retry_at, .. } => {
                self.over(*task, retry_at.map_or(Stand::Over, Stand::Backoff));
                if retry_at.is_none() {
                    self.end_waiting(task.job);
                }
            }
            Record::LeaseEnded { task, .. } => self.over(*task, Stand::Waiting),
            Record::CancelAsked { job, .. } => self.end_waiting(*job),
            Record::PrioritySet { job, priority, .. } => self.jobs.get_mut(job).unwrap().priority = *priority,
            Record::JobMoved { job, pool, priority, .. } => {
                let (from, to) = (self.quota.find(&self.jobs[job].pool), self.quota.find(pool));
                for (_, task) in self.tasks.iter().filter(|(id, _)| id.job == *job) {
                    if matches!(task.stand, Stand::Leased(..)) {
                        self.quota.release(from, &task.shape.resources);
                        self.quota.charge(to, &task.shape.resources);
                    }
                }
                let model = self.jobs.get_mut(job).unwrap();
                model.pool = pool.clone();
                model.priority = priority.unwrap_or(model.priority);
            }
            Record::PoolsApplied { change, .. } => {
                self.tree = change.tree.clone();
                self.holds.retain(|pool, _| change.tree.pools.contains_key(pool));
                self.rebuild();
            }
            Record::PoolHeld { pool, hold, .. } => {
                self.holds.insert(pool.clone(), *hold);
                self.rebuild();
            }
            Record::JobFinished { job, .. } => self.jobs.get_mut(job).unwrap().ending = true,
            Record::AttemptForgiven { .. }
            | Record::WorkerJudged { .. }
            | Record::JobRetried { .. }
            | Record::Cordoned { .. }
            | Record::Stepped { .. }
            | Record::Signalled { .. }
            | Record::JobForgotten { .. } => {}
        }
    }

    fn rebuild(&mut self) {
        let fleet = self.quota.fleet.clone();
        self.quota = Quota::new(&self.tree, &self.holds);
        self.quota.fleet = fleet;
        for (id, task) in self.tasks.iter().filter(|(_, task)| matches!(task.stand, Stand::Leased(..))) {
            let leaf = self.quota.find(&self.jobs[&id.job].pool);
            self.quota.charge(leaf, &task.shape.resources);
        }
    }

    fn over(&mut self, id: TaskId, stand: Stand) {
        self.move_usage(id, false);
        self.tasks.get_mut(&id).unwrap().stand = stand;
    }

    fn end_waiting(&mut self, job: JobId) {
        self.jobs.get_mut(&job).unwrap().ending = true;
        for (_, task) in self.tasks.iter_mut().filter(|(id, _)| id.job == job) {
            if matches!(task.stand, Stand::Waiting | Stand::Backoff(_)) {
                task.stand = Stand::Over;
            }
        }
    }

    fn move_usage(&mut self, id: TaskId, leased: bool) {
        let leaf = self.quota.find(&self.jobs[&id.job].pool);
        let need = &self.tasks[&id].shape.resources;
        if leased { self.quota.charge(leaf, need) } else { self.quota.release(leaf, need) }
    }

    /// What time alone does to the model; the engine looks at the clock only on a tick. False: nothing.
    pub fn age(&mut self) -> bool {
        let mut aged = false;
        for task in self.tasks.values_mut() {
            if matches!(task.stand, Stand::Backoff(until) if until <= self.now) {
                task.stand = Stand::Waiting;
                aged = true;
            }
        }
        for job in self.jobs.values_mut().filter(|job| job.opportunistic) {
            job.opportunistic = matches!(job.class, Class::Opportunistic { start_by } if start_by > self.now);
            aged |= !job.opportunistic;
        }
        aged
    }

    pub fn key(&self, id: TaskId) -> Key {
        let (job, task) = (&self.jobs[&id.job], &self.tasks[&id]);
        Key {
            priority: std::cmp::Reverse(job.priority),
            deadline: job.deadline.unwrap_or(Timestamp::MAX),
            job: id.job,
            weight: std::cmp::Reverse(task.weight),
            index: id.index,
        }
    }

    /// The first waiting task of every line. `free`: the room of workers that take leases.
    pub fn heads(&self, free: &BTreeMap<WorkerName, Resources>) -> Vec<Head> {
        self.heads_with(free, &BTreeSet::new())
    }

    /// As if these waited, too.
    pub fn heads_with(&self, free: &BTreeMap<WorkerName, Resources>, these: &BTreeSet<TaskId>) -> Vec<Head> {
        let quota = self.quota_beside_claims();
        let mut lines: BTreeMap<_, (Key, TaskId)> = BTreeMap::new();
        let waits = |(id, task): &(&TaskId, &Task)| task.stand == Stand::Waiting || these.contains(id);
        for (id, task) in self.tasks.iter().filter(waits) {
            let job = &self.jobs[&id.job];
            let first =
                lines.entry((&job.pool, job.opportunistic, job.fixed, &task.shape)).or_insert((self.key(*id), *id));
            *first = (*first).min((self.key(*id), *id));
        }
        let head = |((pool, opportunistic, fixed, shape), (key, task)): ((_, _, _, &Shape), _)| {
            let (leaf, need) = (quota.find(pool), &shape.resources);
            let fits =
                |(name, free): (&WorkerName, &Resources)| need.fits_in(free) && self.offers(name, &shape.backend);
            let could_start =
                quota.is_open(leaf) && free.iter().any(fits) && quota.refuses(leaf, need, fixed).is_none();
            Head { task, pool: leaf, opportunistic, need: need.clone(), key, could_start }
        };
        lines.into_iter().map(head).collect()
    }

    /// With what the engine says is kept for those who are owed room: nobody else is given it.
    pub fn quota_beside_claims(&self) -> Quota {
        let mut quota = self.quota.clone();
        if !self.strict {
            for view in self.engine.pools(self.now).iter().filter(|view| view.leaf) {
                let of = |kind| view.resources.iter().find(|r| r.resource == kind).map_or(0, |r| r.reserved);
                let kept = Resources { cpu: of("cpu"), memory: of("memory"), gpu: of("gpu"), ..Resources::ZERO };
                quota.charge(quota.find(&view.pool), &kept);
            }
        }
        quota
    }

    /// Free room on workers that take leases.
    pub fn room(&self) -> BTreeMap<WorkerName, Resources> {
        let views = self.engine.workers().filter(|view| view.connected && !view.cordoned && !view.draining);
        let of = |view: spool_proto::view::WorkerView| {
            let mut free = view.capacity;
            free.sub(&view.allocated);
            (view.worker, free)
        };
        views.map(of).collect()
    }

    pub fn offers(&self, name: &WorkerName, backend: &str) -> bool {
        backend.is_empty() || self.workers[name].backends.iter().any(|offered| offered == backend)
    }

    pub fn leased(&self) -> impl Iterator<Item = (TaskId, &Task, &WorkerName)> {
        self.tasks.iter().filter_map(|(id, task)| match &task.stand {
            Stand::Leased(worker, _) => Some((*id, task, worker)),
            _ => None,
        })
    }

    pub fn waiting(&self) -> usize {
        self.tasks.values().filter(|task| task.stand == Stand::Waiting).count()
    }
}
