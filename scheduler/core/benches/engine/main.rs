//! What a decision of the engine costs, and what a task weighs, as queue, pools and fleet grow.
//!
//! A steady state: reports that a task has finished come one after the other, each frees room or quota, and the engine leases it anew in
//! the same turn. Counted is the CPU time of the thread from the report to the end of the turn; percentiles are of wall time. Run it with
//! `cargo bench -p spool-core --bench engine -- [--queued N,…] [--pools N,…] [--workers N,…] [--bound room,quota] [--turns N] [--json]`;
//! lists are crossed. Without any it varies one of the three at a time.

mod fleet;
mod memory;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use spool_core::io::{Effect, Input, ToWorker};
use spool_proto::ids::{Fence, TaskId, WorkerName};
use spool_proto::pool::Hold;
use spool_proto::resources::Resources;
use spool_proto::time::Span;

use fleet::{Bound, Fleet, Size};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// Reports that are made ready together, so that what the benchmark does between turns is not in the measure.
const BATCH: usize = 64;
/// Looks on the clock that are measured: too few for anybody's patience to end, which would be another matter than looking.
const LOOKS: u32 = 5;
const LOOK_EVERY: Span = Span::from_millis(250);
/// A cell is given up after this; the turns so far count.
const PATIENCE: Duration = Duration::from_secs(20);

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).expect("it only grows"),
        u32::try_from(time.tv_nsec).expect("less than a second"),
    )
}

fn measured<T>(what: impl FnOnce() -> T) -> (Duration, T) {
    let begun = cpu();
    let value = what();
    (cpu() - begun, value)
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn float(n: u64) -> f64 {
    n as f64
}

fn is_lease(effect: &Effect) -> bool {
    matches!(effect, Effect::Send { message: ToWorker::Lease(_), .. })
}

/// A name, and how it is shown: `(name, value, digits)`.
type Row = Vec<(&'static str, f64, usize)>;

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// One cell.
fn decisions(size: Size, turns: usize) -> Row {
    let mut fleet = Fleet::new(size);
    fleet.hold(Hold::Held);
    fleet.fill_up(size.queued);
    fleet.register_fleet(size.workers);
    let leases = fleet.leases;
    // Everything that finds room is placed in one turn.
    let (first_round, ()) = measured(|| fleet.hold(Hold::Open));
    let placed = fleet.leases - leases;
    fleet.fill_up(size.queued);

    let names: Vec<WorkerName> = fleet.running.keys().cloned().collect();
    let (mut spent, mut each, mut leases) = (Duration::ZERO, Vec::with_capacity(turns), 0);
    let mut effects: Vec<Vec<Effect>> = vec![Vec::new(); BATCH];
    let (begun, mut at) = (Instant::now(), 0);
    while each.len() < turns && begun.elapsed() < PATIENCE {
        let mut inputs: Vec<Input> = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            // A stride that meets every worker.
            at = (at + 7919) % names.len();
            inputs.extend(fleet.finish_one(&names[at]));
        }
        fleet.now = fleet.now + Span(100);
        let (took, ()) = measured(|| {
            for (input, effects) in inputs.into_iter().zip(&mut effects) {
                let turn = Instant::now();
                fleet.engine.handle(fleet.now, input, effects);
                each.push(turn.elapsed());
            }
        });
        spent += took;
        leases += effects.iter().flatten().filter(|effect| is_lease(effect)).count() as u64;
        effects.iter_mut().for_each(|effects| fleet.take(effects));
        fleet.fill_up(size.queued);
    }
    let turns = float(each.len() as u64);
    each.sort_unstable();
    let percentile = |percent: usize| each[(each.len() * percent / 100).min(each.len() - 1)].as_secs_f64() * 1e6;
    let (p50, p99) = (percentile(50), percentile(99));

    let (views, _) = measured(|| black_box(fleet.engine.pools(fleet.now).len()));
    let (clone, _) = measured(|| black_box(fleet.engine.clone()).queued());
    let mut look = Duration::ZERO;
    for _ in 0..LOOKS {
        fleet.now = fleet.now + LOOK_EVERY;
        let (now, mut effects) = (fleet.now, Vec::new());
        look += measured(|| fleet.engine.handle(now, Input::Tick, &mut effects)).0;
        fleet.take(&mut effects);
    }
    vec![
        ("leases_per_s", float(leases) / spent.as_secs_f64(), 0),
        ("cpu_us", spent.as_secs_f64() * 1e6 / turns, 2),
        ("p50_us", p50, 2),
        ("p99_us", p99, 2),
        ("round_us", first_round.as_secs_f64() * 1e6 / float(placed).max(1.0), 2),
        ("look_ms", milliseconds(look / LOOKS), 2),
        ("pools_ms", milliseconds(views), 2),
        ("clone_ms", milliseconds(clone), 0),
    ]
}

/// Bytes per task of a large job: queued, with workers, done.
fn weight(tasks: u64) -> Row {
    let size = Size { queued: tasks, pools: 1, workers: 100, bound: Bound::Room };
    let mut fleet = Fleet::new(Size { workers: 0, ..size });
    fleet.per_job = tasks;
    fleet.hold(Hold::Held);
    let per_task = |before: u64| float(memory::in_use().saturating_sub(before)) / float(tasks);
    let before = memory::in_use();
    fleet.fill_up(tasks);
    let queued = per_task(before);
    // Enough room for all of them.
    let large = Resources::cpu_memory(tasks * 2_000, tasks * 1_024);
    fleet.register(size.workers, |_| large.clone());
    fleet.running.clear();
    fleet.hold(Hold::Open);
    let leases: u64 = fleet.running.values().map(|held| held.len() as u64).sum();
    assert_eq!(leases, tasks, "every task is with a worker");
    // Less what the benchmark notes of them itself.
    let noted = |fleet: &Fleet| {
        let each = size_of::<(TaskId, Fence)>();
        fleet.running.values().map(|held| held.capacity() * each).sum::<usize>() as u64
    };
    let leased = per_task(before + noted(&fleet));
    let mut open = leases;
    for worker in fleet.running.keys().cloned().collect::<Vec<_>>() {
        // The last one would end the job.
        while open > 1
            && let Some(input) = fleet.finish_one(&worker)
        {
            fleet.input(input);
            open -= 1;
        }
    }
    let noted = noted(&fleet);
    vec![
        ("bytes_per_task_queued", queued, 1),
        ("bytes_per_task_leased", leased, 1),
        ("bytes_per_task_done", per_task(before + noted), 1),
    ]
}

fn print(cell: &[(&str, String)], row: &Row, json: bool, head: bool) {
    let figures = row.iter().map(|(name, value, digits)| (*name, format!("{value:.digits$}")));
    let all: Vec<(&str, String)> = cell.iter().cloned().chain(figures).collect();
    if json {
        let fields: Vec<String> = all
            .iter()
            .map(|(name, value)| match value.parse::<f64>() {
                Ok(_) => format!("\"{name}\":{value}"),
                Err(_) => format!("\"{name}\":\"{value}\""),
            })
            .collect();
        println!("{{{}}}", fields.join(","));
        return;
    }
    let width = |name: &str| name.len().max(9);
    let line = |of: &dyn Fn(&(&str, String)) -> String| {
        all.iter().map(|field| format!("{:>1$}", of(field), width(field.0))).collect::<Vec<_>>().join(" ")
    };
    if head {
        println!("{}", line(&|(name, _)| (*name).to_owned()));
    }
    println!("{}", line(&|(_, value)| value.clone()));
}

/// `1000,1M`, each a number.
fn numbers(text: &str) -> Option<Vec<u64>> {
    let one = |text: &str| match (text.strip_suffix(['k', 'K']), text.strip_suffix('M')) {
        (Some(thousands), _) => Some(thousands.parse::<u64>().ok()? * 1_000),
        (_, Some(millions)) => Some(millions.parse::<u64>().ok()? * 1_000_000),
        _ => text.parse().ok(),
    };
    text.split(',').map(one).collect()
}

#[derive(Debug, Default)]
struct Options {
    queued: Option<Vec<u64>>,
    pools: Option<Vec<u64>>,
    workers: Option<Vec<u64>>,
    bound: Option<Vec<Bound>>,
    turns: Option<u64>,
    json: bool,
}

impl Options {
    fn read(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options::default();
        while let Some(arg) = args.next() {
            let mut wanted = || args.next().ok_or(format!("{arg} wants a value"));
            let number = |text: String| numbers(&text).ok_or(format!("{text}: numbers like 1000 or 10k,1M are wanted"));
            match arg.as_str() {
                "--json" => options.json = true,
                // Cargo says so itself.
                "--bench" => {}
                "--queued" => options.queued = Some(number(wanted()?)?),
                "--pools" => options.pools = Some(number(wanted()?)?),
                "--workers" => options.workers = Some(number(wanted()?)?),
                "--turns" => options.turns = number(wanted()?)?.first().copied(),
                "--bound" => {
                    let bound = |text: &str| match text {
                        "room" => Ok(Bound::Room),
                        "quota" => Ok(Bound::Quota),
                        _ => Err(format!("{text}: room or quota is wanted")),
                    };
                    options.bound = Some(wanted()?.split(',').map(bound).collect::<Result<_, _>>()?);
                }
                _ => return Err(format!("unknown argument {arg}; --queued --pools --workers --bound --turns --json")),
            }
        }
        Ok(options)
    }

    fn sizes(&self) -> Vec<Size> {
        let whole = |n: u64| usize::try_from(n).expect("64 bits");
        let size = |queued, pools, workers, bound| Size { queued, pools: whole(pools), workers: whole(workers), bound };
        if self.queued.is_none() && self.pools.is_none() && self.workers.is_none() && self.bound.is_none() {
            let queue = [1_000, 100_000, 1_000_000, 10_000_000].map(|queued| size(queued, 10, 100, Bound::Room));
            let workers = [100, 10_000, 100_000].map(|workers| size(1_000_000, 1_000, workers, Bound::Room));
            let pools = [10, 10_000].map(|pools| size(1_000_000, pools, 10_000, Bound::Room));
            let quota = [10, 1_000, 10_000].map(|pools| size(1_000_000, pools, 10_000, Bound::Quota));
            return [&queue[..], &workers, &pools, &quota].concat();
        }
        let or = |list: &Option<Vec<u64>>, default| list.clone().unwrap_or_else(|| vec![default]);
        let mut sizes = Vec::new();
        for queued in or(&self.queued, 1_000_000) {
            for pools in or(&self.pools, 1_000) {
                for workers in or(&self.workers, 10_000) {
                    let bounds = self.bound.as_deref().unwrap_or(&[Bound::Room]);
                    sizes.extend(bounds.iter().map(|bound| size(queued, pools, workers, *bound)));
                }
            }
        }
        sizes
    }
}

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    let turns = options.turns.and_then(|turns| usize::try_from(turns).ok()).unwrap_or(100_000);
    for (at, size) in options.sizes().into_iter().enumerate() {
        let bound = if size.bound == Bound::Room { "room" } else { "quota" };
        let cell = [
            ("queued", size.queued.to_string()),
            ("pools", size.pools.to_string()),
            ("workers", size.workers.to_string()),
            ("bound", bound.to_owned()),
        ];
        print(&cell, &decisions(size, turns), options.json, at == 0);
    }
    print(&[("tasks", "1000000".to_owned())], &weight(1_000_000), options.json, true);
    ExitCode::SUCCESS
}
