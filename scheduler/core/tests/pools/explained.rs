//! What `explain` names is what is in the way: invariant 11. Whoever takes away what it names gets another answer, or the task starts.

use proptest::prelude::*;
use spool_proto::ids::JobId;
use spool_proto::pool::{Hold, Limits, PoolName, PoolTree};
use spool_proto::resources::Resources;
use spool_proto::time::Span;
use spool_proto::view::QueueView;

use crate::generate::*;
use crate::harness::{Stand, World, calm};

/// As the world stands now, once more: nobody is told what is tried.
fn copy(world: &World) -> World {
    let mut copy = World::new(&PoolTree::default(), calm());
    copy.engine = world.engine.clone();
    (copy.now, copy.tree, copy.holds) = (world.now, world.tree.clone(), world.holds.clone());
    (copy.quota, copy.jobs, copy.tasks) = (world.quota.clone(), world.jobs.clone(), world.tasks.clone());
    (copy.workers, copy.evicted, copy.last_fence) = (world.workers.clone(), world.evicted.clone(), world.last_fence);
    copy
}

/// What is told of a job, or of a line of the queue.
struct Told {
    pool: PoolName,
    reason: String,
    text: String,
}

impl Told {
    fn of_job(world: &World, job: JobId) -> Told {
        let told = world.engine.explain(world.now, job).unwrap();
        Told { pool: world.jobs[&job].pool.clone(), reason: told.reason, text: told.text }
    }

    fn of_line(line: &QueueView) -> Told {
        Told { pool: line.pool.clone(), reason: line.reason.clone(), text: line.text.clone() }
    }

    /// The pool whose hold, limit or quota is in the way. Of several it is one: that it is another is another reason.
    fn blames(&self) -> Option<PoolName> {
        let of_pool = ["held", "over_limit", "waiting_for_quota"].contains(&self.reason.as_str());
        let named = self.text.split_once("pool ").filter(|_| of_pool)?.1;
        Some(named[..named.find([' ', ':']).unwrap()].into())
    }

    fn gist(&self) -> (String, Option<PoolName>) {
        (self.reason.clone(), self.blames())
    }

    /// Takes away what is named, and nothing else. False: only time does.
    fn relax(&self, world: &mut World) -> bool {
        match self.reason.as_str() {
            "held" => {
                world.hold(&self.blames().unwrap(), Hold::Open);
            }
            "over_limit" | "waiting_for_quota" => {
                let (mut tree, blamed) = (world.tree.clone(), self.blames().unwrap());
                assert!(blamed.is_root() || self.pool.is_within(&blamed), "{} and {}", self.pool, self.text);
                let spec = tree.pools.get_mut(&blamed).unwrap();
                spec.borrow = Limits::new();
                // The root's guarantee is a ceiling, and so is what others do not lend; anybody else's is what must not be preempted may use.
                if blamed.is_root() {
                    spec.guarantee = Resources::ZERO;
                    tree.pools.values_mut().for_each(|spec| spec.lend = Limits::new());
                } else if self.text.contains("must not borrow") {
                    spec.guarantee = Resources { cpu: 900_000, gpu: 900_000, memory: 900_000, ..Resources::ZERO };
                }
                mend(&mut tree);
                world.apply(tree);
            }
            "no_such_backend" | "never_fits" | "no_workers" | "waiting_for_worker" | "opportunistic" | "reserved"
            | "preempting" => {
                if self.reason == "preempting" {
                    // Who was told to go and cannot be reached comes back, hears of it and goes.
                    let away =
                        world.workers.iter().filter(|(_, worker)| !worker.connected).map(|(name, _)| name.clone());
                    away.collect::<Vec<_>>().iter().for_each(|name| world.register(name));
                }
                // Room enough for everybody: the fleet three times over would not do if others go first.
                let mut all = Resources::ZERO;
                world.tasks.values().for_each(|task| all.add(&task.shape.resources));
                world.add_worker("zz", &all, &BACKENDS.map(str::to_owned));
            }
            "backoff" => world.run_for(Span::from_secs(60)),
            _ => return false,
        }
        true
    }
}

/// Lines of a pool that look alike, with what is told of each: some may be preempted, some not.
fn alike(world: &World, line: &QueueView) -> Vec<((String, Option<PoolName>), u64)> {
    let same = |other: &QueueView| {
        (&other.pool, &other.backend, &other.resources) == (&line.pool, &line.backend, &line.resources)
    };
    let lines = world.engine.queue(world.now).into_iter().filter(same);
    let mut told: Vec<_> = lines.map(|line| (Told::of_line(&line).gist(), line.tasks)).collect();
    told.sort();
    told
}

fn grown(tree: &PoolTree, fleet: &[Machine], acts: &[Act]) -> World {
    let mut world = World::new(tree, calm());
    fleet.iter().for_each(|machine| join(&mut world, machine));
    acts.iter().for_each(|act| perform(&mut world, act));
    world
}

/// # Errors
/// What is told of something, and stays true without what it names.
fn sound(world: &World) -> Result<(), String> {
    for (job, _) in world.jobs.iter().filter(|(_, job)| !job.ending) {
        let (told, held, mut after) = (Told::of_job(world, *job), leases(world, *job), copy(world));
        if !told.relax(&mut after) {
            assert!(["running", "cancelling"].contains(&told.reason.as_str()), "{job}: {}", told.reason);
            continue;
        }
        let now = Told::of_job(&after, *job);
        if now.gist() == told.gist() && leases(&after, *job) == held {
            return Err(format!("{job} of {}: {}: {} - and then: {}", told.pool, told.reason, told.text, now.text));
        }
    }
    for line in world.engine.queue(world.now) {
        let (told, before, mut after) = (Told::of_line(&line), alike(world, &line), copy(world));
        assert!(told.relax(&mut after), "{}: {}", told.reason, told.text);
        if alike(&after, &line) == before {
            return Err(format!("{} of {}: {}: {}", line.resources, told.pool, told.reason, told.text));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn invariant_11_without_what_it_names_there_is_another_reason_or_another_outcome(
        tree in tree(any_preemption),
        fleet in prop::collection::vec(machine(), 0..4),
        acts in prop::collection::vec(act(any_preemption), 1..40),
    ) {
        let checked = sound(&grown(&tree, &fleet, &acts));
        prop_assert!(checked.is_ok(), "{}", checked.unwrap_err());
    }
}

fn leases(world: &World, job: JobId) -> usize {
    world
        .tasks
        .iter()
        .filter(|(id, task)| id.job == job && matches!(task.stand, Stand::Leased(..) | Stand::Over))
        .count()
}

/// Every reason there is for waiting is told of a pool at least once.
#[test]
fn a_task_that_waits_says_which_constraint_it_waits_for() {
    use crate::harness::{cpu, job, run};
    let mut tree = PoolTree::default();
    let limited = spool_proto::pool::PoolSpec { borrow: [("cpu".to_owned(), 2000)].into(), ..Default::default() };
    tree.pools.insert("limited".into(), limited);
    let mut world = World::new(&tree, calm());
    let reason = |world: &World, job: JobId| world.engine.explain(world.now, job).unwrap().reason;
    let unserved = world.submit(job("limited"), vec![run(1, &cpu(1000), 1000)]).unwrap();
    assert_eq!(reason(&world, unserved), "no_workers");
    world.add_worker("w", &cpu(8000), &[]);
    assert_eq!(reason(&world, unserved), "running");
    let big = world.submit(job("limited"), vec![run(1, &cpu(3000), 1000)]).unwrap();
    assert_eq!(reason(&world, big), "over_limit");
    let second = world.submit(job("limited"), vec![run(2, &cpu(1000), 1000)]).unwrap();
    let third = world.submit(job("limited"), vec![run(1, &cpu(1000), 1000)]).unwrap();
    assert_eq!((reason(&world, second).as_str(), reason(&world, third).as_str()), ("running", "waiting_for_quota"));
    world.hold(&"limited".into(), Hold::Held);
    assert_eq!(reason(&world, third), "held");
    world.hold(&"limited".into(), Hold::Open);
    let many = world.submit(job("default"), vec![run(20, &cpu(1000), 1000)]).unwrap();
    let last = world.submit(job("default"), vec![run(1, &cpu(1000), 1000)]).unwrap();
    assert_eq!((reason(&world, many).as_str(), reason(&world, last).as_str()), ("running", "waiting_for_worker"));
}
