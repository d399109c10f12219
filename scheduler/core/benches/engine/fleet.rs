//! A world around the engine: a tree of pools, jobs in its leaves, workers that do nothing but hold leases.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use spool_core::io::*;
use spool_core::{Config, Engine};
use spool_proto::ids::{Fence, TaskId, WorkerName};
use spool_proto::pool::{Hold, PoolName, PoolSpec, PoolTree};
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};

const SHAPES: u64 = 8;
const DEPTH: u32 = 6;
/// Of each second worker in tasks of the largest shape; the others have twice as many.
const SLOTS: u64 = 2;

/// What tasks wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Every worker is full. Leaves are guaranteed half of the fleet together.
    Room,
    /// Every pool below the root has all it may use, half of the fleet together; half of the fleet is idle.
    Quota,
}

#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub queued: u64,
    pub pools: usize,
    pub workers: usize,
    pub bound: Bound,
}

pub struct Fleet {
    pub engine: Engine,
    pub now: Timestamp,
    /// What each worker holds, the oldest lease first.
    pub running: BTreeMap<WorkerName, VecDeque<(TaskId, Fence)>>,
    pub leases: u64,
    pending: BTreeMap<u64, (String, Vec<TaskRun>)>,
    /// What workers and workflows have yet to say.
    answers: VecDeque<Input>,
    leaves: Vec<PoolName>,
    pub per_job: u64,
    jobs: u64,
}

fn shape(number: u64) -> Shape {
    Shape {
        function: format!("bench.f{}", number % SHAPES),
        backend: String::new(),
        resources: Resources::cpu_memory(1000 + 125 * (number % SHAPES), 512),
        timeout: Span::ZERO,
        no_progress: Span::ZERO,
    }
}

fn capacity(worker: usize) -> Resources {
    let slots = if worker.is_multiple_of(2) { SLOTS } else { SLOTS * 2 };
    Resources::cpu_memory(shape(SHAPES - 1).resources.cpu * slots, 64 * 1024)
}

/// So many pools below the root, level by level, as deep as [`DEPTH`] where there are enough of them.
fn tree(size: Size) -> (PoolTree, Vec<PoolName>) {
    let fits = |fan_out: &usize| (1..=DEPTH).map(|level| fan_out.pow(level)).sum::<usize>() >= size.pools;
    let fan_out = (2..).find(fits).unwrap_or(2);
    let mut tree = PoolTree::default();
    let mut names = vec![String::new()];
    for at in 0..size.pools {
        let parent = &names[at / fan_out];
        let name = if parent.is_empty() { format!("p{at}") } else { format!("{parent}/p{at}") };
        let weight = u32::try_from(1 + at % 3).unwrap_or(1);
        tree.pools.insert(name.as_str().into(), PoolSpec { weight, ..PoolSpec::default() });
        names.push(name);
    }
    let parents: BTreeSet<PoolName> = tree.pools.keys().filter_map(PoolName::parent).collect();
    let leaves: Vec<PoolName> = tree.pools.keys().filter(|name| !parents.contains(*name)).cloned().collect();
    let fleet: u64 = (0..size.workers).map(|worker| capacity(worker).cpu).sum();
    let top = |name: &&PoolName| name.parent().is_some_and(|parent| parent.is_root());
    let tops: Vec<PoolName> = tree.pools.keys().filter(top).cloned().collect();
    let (guaranteed, borrow) = match size.bound {
        Bound::Room => (&leaves, None),
        Bound::Quota => (&tops, Some(0)),
    };
    for name in guaranteed {
        let spec = tree.pools.get_mut(name).expect("it is in the tree");
        spec.guarantee = Resources::cpu_memory(fleet / 2 / guaranteed.len() as u64, 0);
        spec.borrow.extend(borrow.map(|limit| ("cpu".to_owned(), limit)));
    }
    (tree, leaves)
}

impl Fleet {
    /// Nothing waits, nobody works.
    pub fn new(size: Size) -> Fleet {
        let (tree, leaves) = tree(size);
        let per_job = (size.queued / (leaves.len() as u64).max(size.queued / 10_000)).max(1);
        let mut fleet = Fleet {
            engine: Engine::new(Config::default()),
            now: Timestamp(1_000_000),
            running: BTreeMap::new(),
            leases: 0,
            pending: BTreeMap::new(),
            answers: VecDeque::new(),
            leaves,
            per_job,
            jobs: 0,
        };
        let change = PoolChange { tree, expected_version: None, by: "bench".into(), reason: String::new() };
        fleet.input(Input::ApplyPools { token: Token(0), change });
        fleet
    }

    pub fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.engine.handle(self.now, input, &mut effects);
        self.take(&mut effects);
    }

    /// Does what workers and workflows do about effects, and about those of what they say.
    pub fn take(&mut self, effects: &mut Vec<Effect>) {
        self.hear(effects);
        while let Some(answer) = self.answers.pop_front() {
            self.engine.handle(self.now, answer, effects);
            self.hear(effects);
        }
    }

    /// A job's workflow is one phase.
    fn hear(&mut self, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { worker, message: ToWorker::Lease(order), .. } => {
                    self.leases += 1;
                    self.running.entry(worker).or_default().push_back((order.task, order.fence));
                }
                Effect::Send { worker, message: ToWorker::Revoke { task, fence, .. }, incarnation } => {
                    // What has just finished is not given back.
                    let held = self.running.entry(worker.clone()).or_default();
                    let Some(at) = held.iter().position(|(other, _)| *other == task) else { continue };
                    held.remove(at);
                    let report = Report::Returned { reason: "asked".into() };
                    self.answers.push_back(Input::Report { worker, incarnation, task, fence, report });
                }
                Effect::Advance { job } => {
                    let next = match self.pending.remove(&job.0) {
                        Some((name, tasks)) => Next::Phase { name, tasks },
                        None => Next::Finish { output: Blob::from(&b""[..]) },
                    };
                    self.answers.push_back(Input::Advance { job, next });
                }
                Effect::Reply { reply: Reply::Refused(refusal), .. } => panic!("refused: {refusal}"),
                Effect::Ended { job } => self.answers.push_back(Input::Forget { job }),
                Effect::Record(_) | Effect::Reply { .. } | Effect::Changed { .. } | Effect::Send { .. } => {}
            }
        }
    }

    /// Submits jobs of every shape to one leaf after the other until so many tasks wait.
    pub fn fill_up(&mut self, queued: u64) {
        while self.engine.queued() < queued {
            self.jobs += 1;
            let payload = Blob::from(&b"{}"[..]);
            let runs = (0..SHAPES).map(|part| {
                let count = self.per_job / SHAPES + u64::from(part < self.per_job % SHAPES);
                let shape = shape(self.jobs + part);
                let task =
                    NewTask { shape, label: String::new(), payload: payload.clone(), weight: part, max_attempts: None };
                TaskRun { count: u32::try_from(count).expect("a job has fewer"), task }
            });
            self.pending.insert(self.jobs, ("encode".into(), runs.filter(|run| run.count > 0).collect()));
            let leaf = usize::try_from(self.jobs).expect("64 bits") % self.leaves.len();
            let job = NewJob { pool: self.leaves[leaf].clone(), ..NewJob::new("bench", payload.clone()) };
            self.input(Input::Submit { token: Token(0), job });
        }
    }

    /// While pools are held nothing starts: so the whole fleet is there before anything is placed.
    pub fn hold(&mut self, hold: Hold) {
        let (by, reason) = ("bench".into(), String::new());
        self.input(Input::HoldPool { token: Token(0), pool: PoolName::root(), hold, by, reason });
    }

    pub fn register(&mut self, workers: usize, capacity_of: impl Fn(usize) -> Resources) {
        for number in 0..workers {
            let worker = WorkerName::from(format!("worker-{number:06}").as_str());
            let (incarnation, capacity) = (Incarnation(1), capacity_of(number));
            self.input(Input::Register { worker, incarnation, capacity, backends: vec![], held: vec![] });
        }
    }

    pub fn register_fleet(&mut self, workers: usize) {
        self.register(workers, capacity);
    }

    /// The word that the worker's oldest task has finished.
    pub fn finish_one(&mut self, worker: &WorkerName) -> Option<Input> {
        let (task, fence) = self.running.get_mut(worker)?.pop_front()?;
        let (started, finished) = (self.now - Span::from_secs(10), self.now);
        let report =
            Report::Finished { started, finished, answer: Blob::from(&b"{}"[..]), advance: Advance::default() };
        Some(Input::Report { worker: worker.clone(), incarnation: Incarnation(1), task, fence, report })
    }
}
