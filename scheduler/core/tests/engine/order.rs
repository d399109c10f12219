//! Who goes first, and where.

use spool_core::io::{Input, NewJob, Reply, Token};
use spool_proto::time::{Span, Timestamp};

use crate::harness::*;

/// Submits one-task jobs while nobody works, then lets one worker with one slot run them: gives the order.
fn order(jobs: Vec<NewJob>) -> Vec<u64> {
    let mut shell = Shell::new();
    let count = jobs.len();
    for job in jobs {
        shell.submit(job, vec![vec![run(1, 1000)]]);
    }
    let mut order = Vec::new();
    shell.worker("w", 1000);
    // One runs and one lies ready; each end brings the next.
    for _ in 0..count {
        let running = shell.engine.worker(&"w".into()).unwrap().running[0];
        order.push(running.job.0);
        shell.finish(running, Span::from_secs(60));
    }
    order
}

#[test]
fn priority_then_deadline_then_arrival() {
    let with = |priority, deadline: Option<u64>| NewJob { priority, deadline: deadline.map(Timestamp), ..job() };
    for (name, jobs, expected) in [
        ("arrival", vec![with(50, None), with(50, None), with(50, None)], vec![1, 2, 3]),
        ("priority", vec![with(10, None), with(90, None), with(50, None)], vec![2, 3, 1]),
        ("deadline, none last", vec![with(50, None), with(50, Some(9)), with(50, Some(5))], vec![3, 2, 1]),
        ("priority before deadline", vec![with(50, Some(1)), with(51, None)], vec![2, 1]),
    ] {
        assert_eq!(order(jobs), expected, "{name}");
    }
}

#[test]
fn within_a_job_the_longest_goes_first_then_the_lowest_index() {
    let mut shell = Shell::new();
    let tasks = vec![weighted(1, 1000, 5), weighted(1, 1000, 9), weighted(2, 1000, 7), weighted(1, 1000, 9)];
    shell.submit(job(), vec![tasks]);
    shell.worker("w", 5000);
    let order: Vec<u32> = shell.leases().into_iter().map(|(_, index, _)| index).collect();
    assert_eq!(order, [1, 4, 2, 3, 0]);
}

#[test]
fn a_task_given_back_takes_its_old_place() {
    let mut shell = Shell::new();
    let id = shell.submit(job(), vec![vec![run(10, 1000)]]);
    shell.worker("a", 3000);
    assert_eq!(shell.engine.queued(), 4, "three run, three lie ready");
    shell.report(task(id, 1), spool_core::io::Report::Returned { reason: "leaving".into() });
    // Task 3 lay ready and moves up; the free place in line goes to task 1, not to task 6.
    assert_eq!(shell.leases(), [leased("a", 1, true)]);
}

#[test]
fn a_new_priority_reorders_what_waits() {
    let mut shell = Shell::new();
    let first = shell.submit(job(), vec![vec![run(3, 1000)]]);
    let second = shell.submit(job(), vec![vec![run(3, 1000)]]);
    shell.input(Input::SetPriority { token: Token(2), job: second, priority: 51 });
    assert_eq!(shell.replies.last(), Some(&Reply::Ok));
    assert_eq!(shell.engine.explain(shell.now, first).unwrap().queue_position, Some(3));
    shell.worker("w", 3000);
    assert!(shell.fences.keys().filter(|task| task.job == second).count() == 3);
    assert_eq!(shell.engine.job(second).unwrap().state().name(), "running");
}

#[test]
fn the_best_fit_wins_and_nobody_is_filled_beyond_capacity() {
    let mut shell = Shell::new();
    shell.worker("big", 4000);
    shell.worker("small", 1000);
    shell.submit(job(), vec![vec![run(1, 1000), run(1, 3000), run(1, 2000)]]);
    // 1000 fills `small` exactly, 3000 goes to `big`, 2000 fits nowhere now: it lies ready where it will.
    assert_eq!(shell.leases(), [leased("small", 0, false), leased("big", 1, false), leased("big", 2, true)]);
    assert_eq!(shell.engine.queued(), 0);
}

#[test]
fn a_shape_that_does_not_fit_holds_nobody_up() {
    let mut shell = Shell::new();
    shell.worker("w", 2000);
    shell.submit(NewJob { priority: 90, ..job() }, vec![vec![run(1, 3000)]]);
    let id = shell.submit(job(), vec![vec![run(1, 1000)]]);
    assert_eq!(shell.state(task(id, 0)), "running");
}

#[test]
fn a_backend_is_needed_where_the_shape_names_one() {
    let mut shell = Shell::new();
    shell.worker("w", 2000);
    let mut wants = run(1, 1000);
    wants.task.shape.backend = "cpu/libx265".into();
    let mut has = run(1, 1000);
    has.task.shape.backend = "cpu/libx264".into();
    let id = shell.submit(job(), vec![vec![wants, has]]);
    assert_eq!((shell.state(task(id, 0)), shell.state(task(id, 1))), ("queued", "running"));
}

#[test]
fn phases_follow_each_other_and_the_job_ends_with_the_last() {
    let mut shell = Shell::new();
    shell.worker("w", 2000);
    let id = shell.submit(job(), vec![vec![run(1, 1000)], vec![], vec![run(2, 1000)]]);
    shell.finish(task(id, 0), Span::from_secs(1));
    assert_eq!(shell.leases().len(), 2, "the empty phase is passed over");
    shell.finish(task(id, 2), Span::from_secs(1));
    shell.finish(task(id, 1), Span::from_secs(1));
    let job = shell.engine.job(id).unwrap();
    assert_eq!((job.state().name(), job.output().map(|o| &o[..])), ("done", Some(&b"film"[..])));
    assert_eq!(shell.ended, [id]);
    assert_eq!(job.phases()[2].progress().frames, 20);
    assert!(job.phases().iter().all(|phase| phase.finished.is_some()));
}

#[test]
fn submitting_the_same_request_again_gives_the_same_job() {
    let mut shell = Shell::new();
    let named = NewJob { request_id: "abc".into(), ..job() };
    let first = shell.submit(named.clone(), vec![vec![run(1, 1000)]]);
    let again = shell.submit(named, vec![]);
    assert_eq!(first, again);
    assert_eq!(shell.replies.last(), Some(&Reply::Submitted { job: first, existing: true }));
    assert_ne!(shell.submit(job(), vec![]), shell.submit(job(), vec![]), "no request id: never the same");
}
