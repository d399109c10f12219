//! Pools, by hand: one claim each. The properties are in `tests/pools`.

use spool_core::io::*;
use spool_core::revoke;
use spool_proto::ids::JobId;
use spool_proto::pool::{Class, Hold, Hop, PoolSpec, PoolTree, Preemption};
use spool_proto::resources::Resources;
use spool_proto::time::Span;

use crate::harness::*;

pub(crate) fn guaranteed(cpu: u64) -> PoolSpec {
    PoolSpec { guarantee: Resources::cpu_memory(cpu, 0), ..PoolSpec::default() }
}

fn tree(pools: &[(&str, PoolSpec)]) -> PoolTree {
    let mut tree = PoolTree::default();
    tree.pools.extend(pools.iter().map(|(name, spec)| ((*name).into(), spec.clone())));
    tree
}

fn change(pools: &[(&str, PoolSpec)]) -> PoolChange {
    PoolChange { tree: tree(pools), expected_version: None, by: "ann".into(), reason: "a test".into() }
}

impl Shell {
    pub(crate) fn apply(&mut self, pools: &[(&str, PoolSpec)]) {
        self.input(Input::ApplyPools { token: Token(1), change: change(pools) });
        assert!(matches!(self.replies.last(), Some(Reply::Pools { .. })), "{:?}", self.replies.last());
    }

    pub(crate) fn submit_to(&mut self, pool: &str, tasks: Vec<TaskRun>) -> JobId {
        self.submit(NewJob { pool: pool.into(), ..job() }, vec![tasks])
    }

    /// Lets workers answer every order to let go.
    pub(crate) fn give_back(&mut self) -> usize {
        let mut count = 0;
        for (worker, index, reason) in self.revoked() {
            let found = self.fences.iter().find(|(task, (holder, _))| **task == index && holder.to_string() == worker);
            if let Some((task, _)) = found.map(|(task, held)| (*task, held.clone())) {
                self.report(task, Report::Returned { reason: reason.into() });
                count += 1;
            }
        }
        count
    }

    fn revoked(&self) -> Vec<(String, spool_proto::ids::TaskId, &'static str)> {
        let revoke = |effect: &Effect| match effect {
            Effect::Send { worker, message: ToWorker::Revoke { task, reason, .. }, .. } => {
                Some((worker.to_string(), *task, *reason))
            }
            _ => None,
        };
        self.out.iter().filter_map(revoke).collect()
    }

    /// Lets time pass in small steps, heartbeats included, until something is preempted or the time is over; then the tasks.
    pub(crate) fn preempted_within(&mut self, span: Span, workers: &[&str]) -> Vec<spool_proto::ids::TaskId> {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + Span::from_millis(250);
            for worker in workers {
                self.input(Input::Heartbeat { worker: (*worker).into(), incarnation: W });
            }
            self.input(Input::Tick);
            let preempted = self.revoked().into_iter().filter(|(.., reason)| *reason == revoke::PREEMPTED);
            let tasks: Vec<_> = preempted.map(|(_, task, _)| task).collect();
            if !tasks.is_empty() {
                return tasks;
            }
        }
        Vec::new()
    }
}

#[test]
fn a_guarantee_is_given_back_within_its_grace() {
    let mut shell = Shell::new();
    shell.apply(&[("a", guaranteed(2000)), ("b", guaranteed(0))]);
    shell.worker("w", 4000);
    let borrower = shell.submit_to("b", vec![run(8, 1000)]);
    for index in 0..4 {
        shell.start(task(borrower, index));
    }
    let owner = shell.submit_to("a", vec![run(3, 1000)]);
    assert_eq!(shell.explain(owner).0, "waiting_for_worker");
    let victims = shell.preempted_within(Span::from_secs(10), &["w"]);
    assert_eq!(victims, [task(borrower, 3), task(borrower, 2)], "the youngest, and no more than is owed");
    assert_eq!(shell.explain(owner).0, "preempting");
    shell.give_back();
    assert_eq!((shell.state(task(owner, 0)), shell.state(task(owner, 1))), ("running", "running"));
    assert_ne!(shell.state(task(owner, 2)), "running", "the third would borrow");
    assert_eq!(shell.engine.task(task(borrower, 3)).unwrap().attempt, 1, "it cost no attempt");
    assert_eq!(shell.preempted_within(Span::from_secs(60), &["w"]), [], "and then there is peace");
    let pools = shell.engine.pools(shell.now);
    let b = pools.iter().find(|pool| pool.pool == "b".into()).unwrap();
    assert_eq!(b.preempted, 2);
}

#[test]
fn to_lie_ready_behind_borrowers_is_not_what_was_guaranteed() {
    let mut shell = Shell::new();
    shell.apply(&[("a", guaranteed(2000)), ("b", guaranteed(0))]);
    shell.worker("w", 4000);
    let borrower = shell.submit_to("b", vec![run(4, 1000)]);
    for index in 0..4 {
        shell.start(task(borrower, index));
    }
    let owner = shell.submit_to("a", vec![run(2, 1000)]);
    assert_eq!((shell.state(task(owner, 0)), shell.state(task(owner, 1))), ("prefetched", "prefetched"));
    assert_eq!(shell.preempted_within(Span::from_secs(10), &["w"]).len(), 2);
    shell.give_back();
    assert_eq!((shell.state(task(owner, 0)), shell.state(task(owner, 1))), ("running", "running"));
}

#[test]
fn who_borrows_and_who_is_below_take_turns_by_rank() {
    let mut shell = Shell::new();
    shell.apply(&[("a", guaranteed(3000)), ("b", guaranteed(0))]);
    shell.submit_to("b", vec![run(10, 1000)]);
    let a = shell.submit_to("a", vec![run(10, 1000)]);
    shell.worker("w", 4000);
    let running = (0..10).filter(|index| shell.state(task(a, *index)) == "running").count();
    assert_eq!(running, 3, "what it is guaranteed comes first, then the other's smaller share");
}

#[test]
fn a_limit_holds_and_the_reason_says_whose() {
    let mut shell = Shell::new();
    let capped = PoolSpec { borrow: [("cpu".to_owned(), 1000)].into(), ..guaranteed(1000) };
    shell.apply(&[("studio", capped), ("studio/x", guaranteed(0))]);
    shell.worker("w", 8000);
    let id = shell.submit_to("studio/x", vec![run(5, 1000)]);
    assert_eq!(shell.leases().len(), 2);
    let text = shell.explain(id).1;
    assert!(text.contains("quota of pool studio: cpu 2 used of at most 2, 1 more needed"), "{text}");
    let large = shell.submit_to("studio/x", vec![run(1, 3000)]);
    let (reason, text) = shell.explain(large);
    assert_eq!(reason, "over_limit");
    assert!(text.contains("pool studio may use at most 2"), "{text}");
    shell.finish(task(id, 0), Span::from_secs(1));
    assert_eq!(shell.leases().len(), 1, "what comes free is used");
}

#[test]
fn what_is_not_lent_is_kept_of_a_fleet_that_grows() {
    let mut shell = Shell::new();
    let keeps = PoolSpec { lend: [("cpu".to_owned(), 0)].into(), ..guaranteed(1000) };
    shell.apply(&[("clips", keeps), ("titles", guaranteed(0))]);
    shell.worker("w", 2000);
    let titles = shell.submit_to("titles", vec![run(5, 1000)]);
    assert_eq!(shell.leases().len(), 1, "one of two cores is kept");
    let text = shell.explain(titles).1;
    assert!(text.contains("quota of pool /: cpu 1 used of at most 1 beside what the pools that do not lend"), "{text}");
    let most = |shell: &Shell, job| shell.engine.most_cpu(shell.engine.job(job).unwrap());
    assert_eq!(most(&shell, titles), 1000, "no film may ask for more");
    let clip = shell.submit_to("clips", vec![run(1, 1000)]);
    assert_eq!((shell.leases().len(), most(&shell, clip)), (1, 2000), "it is there at once");
    shell.worker("w2", 2000);
    assert_eq!(
        (shell.leases().len(), most(&shell, titles)),
        (2, 2000),
        "the kept core is in use; both new ones are open"
    );
}

#[test]
fn quota_that_others_borrow_is_reclaimed_even_where_there_is_room() {
    let mut shell = Shell::new();
    let capped = PoolSpec { borrow: [("cpu".to_owned(), 0)].into(), ..guaranteed(2000) };
    shell.apply(&[("s", capped), ("s/a", guaranteed(1000)), ("s/b", guaranteed(0))]);
    shell.worker("w", 8000);
    let b = shell.submit_to("s/b", vec![run(4, 1000)]);
    shell.start(task(b, 0));
    shell.start(task(b, 1));
    let a = shell.submit_to("s/a", vec![run(1, 1000)]);
    assert_eq!(shell.explain(a).0, "waiting_for_quota");
    assert_eq!(shell.preempted_within(Span::from_secs(10), &["w"]), [task(b, 1)]);
    shell.give_back();
    assert_eq!(shell.state(task(a, 0)), "running");
}

#[test]
fn a_held_pool_starts_nothing_and_a_draining_one_takes_nothing() {
    let mut shell = Shell::new();
    shell.apply(&[("a", guaranteed(0)), ("a/x", guaranteed(0))]);
    let hold =
        |hold| Input::HoldPool { token: Token(2), pool: "a".into(), hold, by: "ann".into(), reason: "a leak".into() };
    shell.input(hold(Hold::Held));
    shell.worker("w", 2000);
    let id = shell.submit_to("a/x", vec![run(1, 1000)]);
    let (reason, text) = shell.explain(id);
    assert_eq!(reason, "held");
    assert!(text.contains("pool a is held by ann (a leak)"), "{text}");
    shell.input(hold(Hold::Open));
    assert_eq!(shell.state(task(id, 0)), "running");
    shell.input(hold(Hold::Draining));
    shell.input(Input::Submit { token: Token(3), job: NewJob { pool: "a/x".into(), ..job() } });
    let refused = shell.replies.last();
    assert!(matches!(refused, Some(Reply::Refused(Refusal::PoolDrains { .. }))), "{refused:?}");
}

#[test]
fn opportunistic_work_takes_what_is_left_and_goes_first() {
    let mut shell = Shell::new();
    shell.worker("w", 2000);
    let late = Class::Opportunistic { start_by: shell.now + Span::from_secs(3600) };
    let idle = shell.submit(NewJob { class: late, priority: 100, ..job() }, vec![vec![run(4, 1000)]]);
    shell.start(task(idle, 0));
    shell.start(task(idle, 1));
    let standard = shell.submit(NewJob { priority: 0, ..job() }, vec![vec![run(2, 1000)]]);
    assert_eq!(shell.preempted_within(Span::from_secs(10), &["w"]).len(), 2);
    shell.give_back();
    assert_eq!((shell.state(task(standard, 0)), shell.state(task(standard, 1))), ("running", "running"));
    assert_eq!(shell.preempted_within(Span::from_secs(60), &["w"]), []);
}

#[test]
fn an_opportunistic_job_becomes_standard_in_time() {
    let mut shell = Shell::new();
    shell.worker("w", 1000);
    let busy = shell.submit(job(), vec![vec![run(3, 1000)]]);
    let late = Class::Opportunistic { start_by: shell.now + Span::from_secs(5) };
    let idle = shell.submit(NewJob { class: late, priority: 100, ..job() }, vec![vec![run(1, 1000)]]);
    let view = |shell: &Shell| shell.engine.queue(shell.now).into_iter().map(|line| line.class).collect::<Vec<_>>();
    assert!(view(&shell).contains(&late));
    shell.wait(Span::from_secs(5));
    assert!(view(&shell).iter().all(|class| *class == Class::Standard));
    shell.finish(task(busy, 0), Span::from_secs(1));
    shell.finish(task(busy, 1), Span::from_secs(1));
    assert_eq!(shell.state(task(idle, 0)), "running", "its priority counts now");
}

#[test]
fn what_must_not_be_preempted_never_borrows() {
    let mut shell = Shell::new();
    shell.apply(&[("a", guaranteed(1000)), ("b", guaranteed(2000))]);
    shell.worker("w", 4000);
    let fixed = NewJob { pool: "a".into(), preemptible: false, ..job() };
    let id = shell.submit(fixed, vec![vec![run(3, 1000)]]);
    let running = (0..3).filter(|index| shell.state(task(id, *index)) == "running").count();
    assert_eq!(running, 1);
    assert!(shell.explain(id).1.contains("must not borrow"), "{}", shell.explain(id).1);
    let b = shell.submit_to("b", vec![run(4, 1000)]);
    assert_eq!((0..4).filter(|index| shell.state(task(b, *index)) == "running").count(), 3);
}

#[test]
fn what_must_not_borrow_and_is_guaranteed_too_little_is_told_so() {
    let mut shell = Shell::new();
    shell.apply(&[("p", guaranteed(0)), ("p/a", guaranteed(1000)), ("p/b", guaranteed(0))]);
    shell.worker("w", 4000);
    let fixed = |pool: &str| NewJob { pool: pool.into(), preemptible: false, ..job() };
    for (pool, cpu) in [("p/b", 500), ("p/a", 2000)] {
        let id = shell.submit(fixed(pool), vec![vec![run(1, cpu)]]);
        let (reason, text) = shell.explain(id);
        assert_eq!(reason, "over_limit", "it would wait for ever: {text}");
        assert!(text.contains(&format!("pool {pool} is guaranteed")), "{text}");
    }
    let id = shell.submit(fixed("p/a"), vec![vec![run(1, 1000)]]);
    assert_eq!(shell.state(task(id, 0)), "running");
}

/// Pools change with no regard to jobs that are over.
#[test]
fn a_job_is_retried_where_its_pool_is_now() {
    let mut shell = Shell::new();
    shell.apply(&[("a", guaranteed(1000))]);
    shell.worker("w", 1000);
    let id = shell.submit_to("a", vec![run(1, 1000)]);
    shell.fail(task(id, 0), spool_proto::failure::Class::Input);
    assert_eq!(shell.job_state(id), "failed");

    shell.apply(&[("a", guaranteed(1000)), ("a/x", guaranteed(0))]);
    shell.input(Input::Retry { token: Token(5), job: id });
    let divided = shell.replies.last();
    assert!(matches!(divided, Some(Reply::Refused(Refusal::NotALeaf(pool))) if *pool == "a".into()), "{divided:?}");
    shell.apply(&[]);
    shell.input(Input::Retry { token: Token(5), job: id });
    let gone = shell.replies.last();
    assert!(matches!(gone, Some(Reply::Refused(Refusal::NoSuchPool(pool))) if *pool == "a".into()), "{gone:?}");
    shell.apply(&[("a", guaranteed(1000))]);
    shell.input(Input::Retry { token: Token(5), job: id });
    assert_eq!(shell.state(task(id, 0)), "running");
    let used = |pool: &str| {
        let views = shell.engine.pools(shell.now);
        views.into_iter().find(|view| view.pool == pool.into()).unwrap().leased_tasks
    };
    assert_eq!((used("a"), used("default")), (1, 0), "it runs in its own pool again");

    shell.fail(task(id, 0), spool_proto::failure::Class::Input);
    shell.apply(&[]);
    shell.input(Input::MoveJob { token: Token(6), job: id, pool: "default".into() });
    shell.input(Input::Retry { token: Token(7), job: id });
    assert_eq!(shell.state(task(id, 0)), "running", "moved first, where its pool is gone for good");
}

#[test]
fn the_parts_of_a_job_go_where_it_goes_and_end_what_it_began() {
    let mut shell = Shell::new();
    shell.apply(&[("a", guaranteed(1000)), ("b", guaranteed(1000)), ("c", guaranteed(0))]);
    let job = |pool: &str, part_of| NewJob { pool: pool.into(), part_of, ..job() };
    let whole = shell.submit(job("a", None), vec![vec![run(1, 1000)]]);
    let part = shell.submit(job("a", Some(whole)), vec![vec![run(1, 1000)]]);
    let below = shell.submit(NewJob { priority: 80, ..job("a", Some(part)) }, vec![vec![run(1, 1000)]]);
    let elsewhere = shell.submit(job("c", Some(whole)), vec![vec![run(1, 1000)]]);
    assert_eq!(shell.engine.parts(whole).map(spool_core::job::Job::id).collect::<Vec<_>>(), [part, elsewhere]);

    shell.input(Input::MoveJob { token: Token(1), job: whole, pool: "b".into() });
    shell.input(Input::SetPriority { token: Token(2), job: whole, priority: 10 });
    let stands = |shell: &Shell, id| {
        let request = shell.engine.job(id).unwrap().request();
        (request.pool.to_string(), request.priority)
    };
    let now: Vec<_> = [whole, part, below, elsewhere].into_iter().map(|id| stands(&shell, id)).collect();
    let wanted = [("b", 10), ("b", 10), ("b", 80), ("c", 10)].map(|(pool, priority)| (pool.to_owned(), priority));
    assert_eq!(now, wanted, "what was put elsewhere, or before others, stays so");

    let (by, reason) = ("ada".to_owned(), "repairs".to_owned());
    shell.input(Input::HoldPool { token: Token(3), pool: "b".into(), hold: Hold::Draining, by, reason });
    let drained = |shell: &mut Shell, part_of| {
        shell.input(Input::Submit { token: Token(4), job: job("b", part_of) });
        matches!(shell.replies.last(), Some(Reply::Refused(Refusal::PoolDrains { .. })))
    };
    assert_eq!((drained(&mut shell, None), drained(&mut shell, Some(whole))), (true, false));
}

#[test]
fn parts_stand_in_line_where_the_topmost_job_came() {
    let mut shell = Shell::new();
    let plan = || vec![vec![run(1, 1000)]];
    let whole = shell.submit(job(), plan());
    let other = shell.submit(job(), plan());
    let part = shell.submit(NewJob { part_of: Some(whole), ..job() }, plan());
    let below = shell.submit(NewJob { part_of: Some(part), ..job() }, plan());
    shell.worker("w", 3000);
    let states = [whole, part, below, other].map(|id| shell.state(task(id, 0)));
    assert_eq!(states[..3], ["running"; 3], "{states:?}");
    assert_ne!(states[3], "running");
}

#[test]
fn a_job_hops_when_it_has_waited() {
    let mut shell = Shell::new();
    shell.apply(&[("slow", guaranteed(0)), ("fast", guaranteed(1000))]);
    let hop = Hop { after: Span::from_secs(60), pool: "fast".into(), priority: Some(90) };
    let id = shell.submit(NewJob { pool: "slow".into(), hop: vec![hop], ..job() }, vec![vec![run(1, 1000)]]);
    shell.wait(Span::from_secs(59));
    assert_eq!(shell.engine.job(id).unwrap().request().pool, "slow".into());
    shell.wait(Span::from_secs(1));
    let request = shell.engine.job(id).unwrap().request();
    assert_eq!((&request.pool, request.priority, request.hop.len()), (&"fast".into(), 90, 0));
}

#[test]
fn who_waits_long_overtakes_who_is_more_important() {
    let mut shell = Shell::new();
    let old = shell.submit(NewJob { priority: 40, ..job() }, vec![vec![run(1, 1000)]]);
    shell.wait(Span::from_secs(600 * 11));
    let young = shell.submit(NewJob { priority: 50, ..job() }, vec![vec![run(1, 1000)]]);
    shell.worker("w", 1000);
    assert_eq!(shell.engine.job(old).unwrap().effective_priority(), 51);
    assert_eq!((shell.state(task(old, 0)), shell.state(task(young, 0))), ("running", "prefetched"));
}

#[test]
fn a_full_queue_refuses_with_a_time() {
    let mut shell = Shell::new();
    shell.apply(&[("a", PoolSpec { max_queued: Some(2), ..PoolSpec::default() }), ("a/x", guaranteed(0))]);
    shell.submit_to("a/x", vec![run(1, 1000)]);
    shell.submit_to("a/x", vec![run(1, 1000)]);
    let third = NewJob { pool: "a/x".into(), ..job() };
    shell.input(Input::Submit { token: Token(3), job: third.clone() });
    match shell.replies.last() {
        Some(Reply::Refused(Refusal::QueueFull { pool, queued: 2, limit: 2, retry_after })) => {
            assert_eq!(*pool, "a".into());
            assert!(*retry_after > Span::ZERO);
        }
        other => panic!("{other:?}"),
    }
    shell.worker("w", 4000);
    shell.input(Input::Submit { token: Token(4), job: third });
    assert!(matches!(shell.replies.last(), Some(Reply::Submitted { .. })), "the two have started");
}

#[test]
fn a_big_task_is_not_overtaken_for_ever() {
    let mut shell = Shell::new();
    shell.worker("w", 4000);
    let small = shell.submit(job(), vec![vec![run(200, 1000)]]);
    let big = shell.submit(NewJob { priority: 60, ..job() }, vec![vec![run(1, 4000)]]);
    let mut next = 0;
    for second in 0..120 {
        if shell.state(task(big, 0)) == "running" {
            assert!(second > 30, "not before it has waited");
            return;
        }
        // One of the small ones ends every second.
        shell.now = shell.now + Span::from_secs(1);
        shell.input(Input::Heartbeat { worker: "w".into(), incarnation: W });
        shell.input(Input::Tick);
        shell.give_back();
        while shell.state(task(small, next)) != "running" {
            next += 1;
        }
        shell.finish(task(small, next), Span::from_secs(4));
        if second == 60 {
            assert_eq!(shell.explain(big).0, "reserved");
        }
    }
    panic!("it never ran");
}

#[test]
fn a_preview_says_what_the_change_then_does() {
    let mut shell = Shell::new();
    shell.apply(&[("a", guaranteed(0)), ("b", guaranteed(0))]);
    shell.worker("w", 2000);
    let b = shell.submit_to("b", vec![run(4, 1000)]);
    shell.start(task(b, 0));
    shell.start(task(b, 1));
    shell.submit_to("a", vec![run(1, 1000)]);
    let wanted = [("a", guaranteed(1000)), ("b", guaranteed(0))];
    let preview = shell.engine.preview_pools(shell.now, &change(&wanted)).unwrap();
    let would: Vec<_> = preview.preempted.iter().map(|one| one.task).collect();
    assert_eq!(preview.changes.len(), 1, "{:?}", preview.changes);
    assert_eq!(preview.changes[0].field, "guarantee.cpu");
    assert_eq!(preview.quotas.iter().filter(|quota| quota.pool == "a".into()).count(), 1);
    shell.apply(&wanted);
    assert_eq!(shell.preempted_within(Span::from_secs(10), &["w"]), would);
    assert_eq!(would, [task(b, 1)]);
}

#[test]
fn a_change_on_what_is_no_longer_so_is_refused() {
    let mut shell = Shell::new();
    shell.apply(&[("a", guaranteed(0))]);
    let stale = PoolChange { expected_version: Some(0), ..change(&[]) };
    shell.input(Input::ApplyPools { token: Token(1), change: stale });
    assert_eq!(shell.replies.last(), Some(&Reply::Refused(Refusal::PoolsChanged { expected: 0, now: 1 })));
    shell.submit_to("a", vec![run(1, 1000)]);
    shell.input(Input::ApplyPools { token: Token(1), change: change(&[]) });
    assert_eq!(shell.replies.last(), Some(&Reply::Refused(Refusal::PoolInUse { pool: "a".into(), open: 1 })));
    let history = shell.engine.pools_state().changes;
    assert_eq!((history.len(), history[0].by.as_str(), history[0].version), (1, "ann", 1));
}

#[test]
fn fair_preemption_stops_at_the_dead_zone() {
    let mut shell = Shell::new();
    let fair = |weight| PoolSpec { preemption: Preemption::Fair, weight, ..PoolSpec::default() };
    shell.apply(&[("a", fair(1)), ("b", fair(1))]);
    shell.worker("w", 10_000);
    let b = shell.submit_to("b", vec![run(20, 1000)]);
    for index in 0..10 {
        shell.start(task(b, index));
    }
    shell.submit_to("a", vec![run(20, 1000)]);
    let mut taken = 0;
    for _ in 0..20 {
        let preempted = shell.preempted_within(Span::from_secs(40), &["w"]);
        taken += preempted.len();
        shell.give_back();
        if preempted.is_empty() {
            break;
        }
        assert_eq!(preempted.len(), 1, "one at a time");
    }
    assert!((3..=5).contains(&taken), "{taken} of 10 change hands, then it rests");
}

#[test]
fn warm_capacity_is_shared_out_to_those_who_offer_it() {
    let mut shell = Shell::new();
    shell.worker("v", 1000);
    shell.worker("w", 1000);
    let warm = spool_proto::pool::WarmSpec { min: 3, max: Some(5), idle_timeout: Span::from_secs(60) };
    let spec = PoolSpec { warm: [("media.encode/cpu/libx264".to_owned(), warm)].into(), ..PoolSpec::default() };
    shell.apply(&[("a", spec)]);
    let told = |shell: &Shell| -> Vec<(String, u32, u32)> {
        let of = |effect: &Effect| match effect {
            Effect::Send { worker, message: ToWorker::Warm { targets }, .. } => {
                Some((worker.to_string(), targets[0].spec.min, targets[0].spec.most()))
            }
            _ => None,
        };
        shell.out.iter().filter_map(of).collect()
    };
    assert_eq!(told(&shell), [("v".to_owned(), 2, 3), ("w".to_owned(), 1, 2)]);
    shell.input(Input::WarmReport {
        worker: "w".into(),
        incarnation: W,
        idle: vec![("media.encode/cpu/libx264".into(), 1)],
    });
    let mut wants = run(1, 1000);
    wants.task.shape.backend = "cpu/libx264".into();
    shell.submit_to("a", vec![wants]);
    assert_eq!(shell.leases(), [leased("w", 0, false)], "warm goes before the order of names");
}

#[test]
fn a_task_with_more_kinds_than_are_guaranteed_is_owed_room() {
    let mut shell = Shell::new();
    let wants = |count, weight: u64| {
        let mut run = weighted(count, 1000, weight);
        run.task.shape.resources = Resources::cpu_memory(1000, 188 + weight);
        run
    };
    shell.apply(&[("a", PoolSpec { grace: Span::from_secs(2), ..guaranteed(1000) }), ("b", guaranteed(0))]);
    let (capacity, backends) = (Resources::cpu_memory(2000, 20_000), vec![]);
    shell.input(Input::Register { worker: "w".into(), incarnation: W, capacity, backends, held: vec![] });
    let b = shell.submit_to("b", vec![wants(3, 81)]);
    shell.start(task(b, 0));
    shell.start(task(b, 1));
    let a = shell.submit_to("a", vec![wants(2, 0)]);
    assert_eq!(shell.preempted_within(Span::from_secs(3), &["w"]), [task(b, 1)]);
    shell.give_back();
    assert_eq!(shell.state(task(a, 0)), "running");
}

#[test]
fn several_victims_on_one_worker_make_room_for_a_big_task() {
    let mut shell = Shell::new();
    shell.apply(&[("a", guaranteed(4000)), ("b", guaranteed(0)), ("c", guaranteed(2000))]);
    shell.worker("v", 4000);
    shell.worker("w", 4000);
    shell.submit_to("c", vec![run(2, 1000)]);
    shell.submit_to("b", vec![run(20, 1000)]);
    let big = shell.submit_to("a", vec![run(1, 4000)]);
    let victims = shell.preempted_within(Span::from_secs(10), &["v", "w"]);
    assert_eq!(victims.len(), 4, "{:?}", shell.explain(big));
    shell.give_back();
    assert_eq!(shell.state(task(big, 0)), "running");
}
