//! What a decision of the engine costs, and what a queued task weighs, as queue, pools and fleet grow.
//!
//! A steady state: all workers are full, one report that a task has finished comes after the other, and each frees the room that the engine
//! leases anew in the same turn. Time is counted from the report to the end of the turn. Run it with
//! `cargo bench -p spool-core --bench engine -- [--tasks N,…] [--pools N,…] [--workers N,…] [--decisions N] [--jobs N] [--json]`;
//! lists are crossed. Without any it varies one of the three at a time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use spool_core::io::*;
use spool_core::{Config, Engine};
use spool_proto::ids::{Fence, TaskId, WorkerName};
use spool_proto::pool::{PoolName, PoolSpec, PoolTree};
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};

/// Counts the bytes that are in use.
struct Counting;

static IN_USE: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is handed on to the system's allocator as it came; counting has no part in it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: `at` came from the system's `alloc` with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SHAPES: u64 = 8;
/// Of one worker, in tasks of the largest shape.
const SLOTS: u64 = 2;
const DEPTH: usize = 6;
const FAN_OUT: usize = 8;

#[derive(Debug, Clone, Copy)]
struct Size {
    tasks: u64,
    pools: usize,
    workers: usize,
    /// The tasks are spread over so many.
    jobs: usize,
}

#[derive(Debug)]
struct Figures {
    size: Size,
    decisions: u64,
    leases: u64,
    elapsed: Duration,
    p50: Duration,
    p99: Duration,
    bytes_per_task: f64,
    fill: Duration,
}

/// Everything a figure needs of the world: what each worker holds.
struct Fleet {
    engine: Engine,
    now: Timestamp,
    running: BTreeMap<WorkerName, Vec<(TaskId, Fence)>>,
    pending: BTreeMap<u64, (String, Vec<TaskRun>)>,
    leases: u64,
}

fn tree(pools: usize) -> PoolTree {
    let mut tree = PoolTree::default();
    let mut parents = vec![(String::new(), 0)];
    let mut at = 0;
    while tree.pools.len() < pools + 2 {
        let (parent, depth) = parents[at / FAN_OUT].clone();
        at += 1;
        if depth == DEPTH {
            continue;
        }
        let name = if parent.is_empty() { format!("p{at}") } else { format!("{parent}/p{at}") };
        let cores = if depth + 1 == DEPTH { 1000 } else { 0 };
        let weight = u32::try_from(1 + at % 3).unwrap_or(1);
        let spec = PoolSpec { weight, guarantee: Resources::cpu_memory(cores, 0), ..PoolSpec::default() };
        tree.pools.insert(name.as_str().into(), spec);
        parents.push((name, depth + 1));
    }
    tree
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

impl Fleet {
    fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.engine.handle(self.now, input, &mut effects);
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { worker, message: ToWorker::Lease(order), .. } => {
                    self.leases += 1;
                    self.running.entry(worker).or_default().push((order.task, order.fence));
                }
                Effect::Send { worker, message: ToWorker::Revoke { task, fence, .. }, incarnation } => {
                    if let Some(held) = self.running.get_mut(&worker) {
                        held.retain(|(other, _)| *other != task);
                    }
                    let report = Report::Returned { reason: "asked".into() };
                    self.input(Input::Report { worker, incarnation, task, fence, report });
                }
                Effect::Advance { job } => {
                    let next = match self.pending.remove(&job.0) {
                        Some((name, tasks)) => Next::Phase { name, tasks },
                        None => Next::Finish { output: Blob::from(&b""[..]) },
                    };
                    self.input(Input::Advance { job, next });
                }
                Effect::Record(_) | Effect::Reply { .. } | Effect::Changed { .. } => {}
                Effect::Send { .. } | Effect::Ended { .. } => {}
            }
        }
    }
}

/// Fills queue and fleet; gives the bytes that each queued task took.
fn fill(size: Size) -> (Fleet, f64) {
    let mut fleet = Fleet {
        engine: Engine::new(Config::default()),
        now: Timestamp(1_000_000),
        running: BTreeMap::new(),
        pending: BTreeMap::new(),
        leases: 0,
    };
    let tree = tree(size.pools);
    let leaves: Vec<PoolName> = {
        let parents: std::collections::BTreeSet<PoolName> = tree.pools.keys().filter_map(PoolName::parent).collect();
        tree.pools.keys().filter(|name| !parents.contains(*name)).cloned().collect()
    };
    let change = PoolChange { tree, expected_version: None, by: "bench".into(), reason: String::new() };
    fleet.input(Input::ApplyPools { token: Token(0), change });
    let before = IN_USE.load(Ordering::Relaxed);
    let per_job = (size.tasks / size.jobs as u64).max(1);
    let payload = Blob::from(&b"{}"[..]);
    for number in 0..size.jobs as u64 {
        let runs = (0..SHAPES).map(|part| {
            let count = per_job / SHAPES + u64::from(part < per_job % SHAPES);
            let task =
                NewTask { shape: shape(number + part), label: String::new(), payload: payload.clone(), weight: part };
            TaskRun { count: u32::try_from(count).unwrap_or(u32::MAX), task }
        });
        fleet.pending.insert(number + 1, ("encode".into(), runs.filter(|run| run.count > 0).collect()));
        let index = usize::try_from(number).unwrap_or(0) % leaves.len();
        let job = NewJob { pool: leaves[index].clone(), ..NewJob::new("bench", payload.clone()) };
        fleet.input(Input::Submit { token: Token(0), job });
    }
    let queued = fleet.engine.queued().max(1);
    let bytes = IN_USE.load(Ordering::Relaxed).saturating_sub(before);
    for number in 0..size.workers {
        let worker = WorkerName::from(format!("worker-{number:06}").as_str());
        let largest = shape(SHAPES - 1).resources;
        let capacity = Resources::cpu_memory(largest.cpu * SLOTS, 64 * 1024);
        fleet.input(Input::Register { worker, incarnation: Incarnation(1), capacity, backends: vec![], held: vec![] });
    }
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let per_task = bytes as f64 / queued as f64;
    (fleet, per_task)
}

fn measure(size: Size, decisions: u64) -> Figures {
    let begun = Instant::now();
    let (mut fleet, bytes_per_task) = fill(size);
    let fill = begun.elapsed();
    let names: Vec<WorkerName> = fleet.running.keys().cloned().collect();
    let mut turns = Vec::new();
    let (begun, leases, limit) = (Instant::now(), fleet.leases, Duration::from_secs(20));
    // A stride through the fleet that meets every worker.
    let mut at = 0;
    while (turns.len() as u64) < decisions && begun.elapsed() < limit && !names.is_empty() {
        at = (at + 7919) % names.len();
        let worker = names[at].clone();
        let Some(held) = fleet.running.get_mut(&worker).filter(|held| !held.is_empty()) else {
            if fleet.engine.queued() == 0 {
                break;
            }
            continue;
        };
        let (task, fence) = held.remove(0);
        fleet.now = fleet.now + Span(100);
        let (started, finished) = (fleet.now - Span::from_secs(10), fleet.now);
        let report =
            Report::Finished { started, finished, answer: Blob::from(&b"{}"[..]), advance: Advance::default() };
        let input = Input::Report { worker, incarnation: Incarnation(1), task, fence, report };
        let mut effects = Vec::new();
        let turn = Instant::now();
        fleet.engine.handle(fleet.now, input, &mut effects);
        turns.push(turn.elapsed());
        fleet.take(effects);
    }
    let elapsed = turns.iter().sum();
    turns.sort_unstable();
    let at = |percent: usize| turns.get(turns.len() * percent / 100).or(turns.last()).copied().unwrap_or_default();
    let (p50, p99) = (at(50), at(99));
    let (decisions, leases) = (turns.len() as u64, fleet.leases - leases);
    Figures { size, decisions, leases, elapsed, p50, p99, bytes_per_task, fill }
}

fn per_second(figures: &Figures) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let leases = figures.leases as f64;
    leases / figures.elapsed.as_secs_f64().max(1e-9)
}

fn print(figures: &Figures, json: bool) {
    let Figures { size, decisions, leases, p50, p99, bytes_per_task, fill, .. } = figures;
    let Size { tasks, pools, workers, jobs } = size;
    let (p50_us, p99_us) = (p50.as_secs_f64() * 1e6, p99.as_secs_f64() * 1e6);
    let (rate, fill_s) = (per_second(figures), fill.as_secs_f64());
    if json {
        println!(
            "{{\"tasks\":{tasks},\"pools\":{pools},\"workers\":{workers},\"jobs\":{jobs},\"turns\":{decisions},\
             \"leases\":{leases},\"leases_per_s\":{rate:.0},\"p50_us\":{p50_us:.2},\"p99_us\":{p99_us:.2},\
             \"bytes_per_task\":{bytes_per_task:.1},\"fill_s\":{fill_s:.3}}}"
        );
    } else {
        println!(
            "{tasks:>10} {pools:>7} {workers:>8} {jobs:>7} {decisions:>8} {rate:>11.0} {p50_us:>9.2} {p99_us:>9.2} \
             {bytes_per_task:>10.1} {fill_s:>8.2}"
        );
    }
}

/// `1000,1M`, each a number.
fn numbers(text: &str) -> Option<Vec<u64>> {
    let one = |text: &str| match text.strip_suffix(['k', 'K']) {
        Some(thousands) => Some(thousands.parse::<u64>().ok()? * 1_000),
        None => match text.strip_suffix('M') {
            Some(millions) => Some(millions.parse::<u64>().ok()? * 1_000_000),
            None => text.parse().ok(),
        },
    };
    text.split(',').map(one).collect()
}

fn main() -> ExitCode {
    let mut options: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut json = false;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--json" => json = true,
            // Cargo says so itself.
            "--bench" => {}
            "--tasks" | "--pools" | "--workers" | "--decisions" | "--jobs" => {
                let Some(values) = rest.next().and_then(|text| numbers(text)) else {
                    eprintln!("{arg} wants numbers: 1000 or 10k,1M");
                    return ExitCode::from(2);
                };
                options.insert(&arg[2..], values);
            }
            other => {
                eprintln!("unknown argument {other}; --tasks --pools --workers --decisions --jobs --json");
                return ExitCode::from(2);
            }
        }
    }
    let whole = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let first = |name: &str, default: u64| options.get(name).and_then(|all| all.first().copied()).unwrap_or(default);
    let (decisions, jobs) = (first("decisions", 20_000), whole(first("jobs", 1_000)));
    let size = |tasks, pools, workers| Size { tasks, pools: whole(pools), workers: whole(workers), jobs };
    let mut sizes = Vec::new();
    if ["tasks", "pools", "workers"].iter().any(|name| options.contains_key(name)) {
        let list = |name: &str, default| options.get(name).cloned().unwrap_or_else(|| vec![default]);
        for tasks in list("tasks", 1_000_000) {
            for pools in list("pools", 10) {
                sizes.extend(list("workers", 100).into_iter().map(|workers| size(tasks, pools, workers)));
            }
        }
    } else {
        sizes.extend([1_000, 100_000, 1_000_000, 10_000_000].map(|tasks| size(tasks, 10, 100)));
        sizes.extend([1_000, 10_000].map(|pools| size(1_000_000, pools, 100)));
        sizes.extend([10_000, 100_000].map(|workers| size(1_000_000, 10, workers)));
    }
    if !json {
        println!(
            "{:>10} {:>7} {:>8} {:>7} {:>8} {:>11} {:>9} {:>9} {:>10} {:>8}",
            "tasks", "pools", "workers", "jobs", "turns", "leases/s", "p50 µs", "p99 µs", "bytes/task", "fill s"
        );
    }
    for size in sizes {
        print(&measure(size, decisions), json);
    }
    ExitCode::SUCCESS
}
