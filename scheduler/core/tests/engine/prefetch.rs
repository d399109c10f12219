//! Tasks that lie ready behind others, and how they are taken back.

use spool_core::io::{Input, Report};
use spool_core::revoke;
use spool_proto::time::Span;

use crate::harness::*;

#[test]
fn each_long_task_has_one_lying_ready() {
    let mut shell = Shell::new();
    shell.worker("w", 2000);
    shell.submit(job(), vec![vec![run(10, 1000)]]);
    let expected = [leased("w", 0, false), leased("w", 1, false), leased("w", 2, true), leased("w", 3, true)];
    assert_eq!(shell.leases(), expected);
    let view = shell.engine.worker(&"w".into()).unwrap();
    assert_eq!((view.running.len(), view.prefetched.len(), view.allocated.cpu), (2, 2, 2000));
}

#[test]
fn short_calls_lie_ready_in_proportion_to_how_short_they_are() {
    for (ran, ready) in [(Span::from_secs(10), 1), (Span::from_millis(50), 4), (Span(10), 512)] {
        let mut shell = Shell::new();
        shell.worker("w", 1000);
        let id = shell.submit(job(), vec![vec![run(2000, 1000)]]);
        shell.finish(task(id, 0), ran);
        let view = shell.engine.worker(&"w".into()).unwrap();
        assert_eq!((view.running.len(), view.prefetched.len()), (1, ready), "{ran:?}");
    }
}

#[test]
fn nothing_lies_ready_while_another_worker_has_room() {
    let mut shell = Shell::new();
    shell.worker("a", 1000);
    shell.worker("b", 1000);
    shell.submit(job(), vec![vec![run(2, 1000)]]);
    assert_eq!(shell.leases(), [leased("a", 0, false), leased("b", 1, false)]);
}

#[test]
fn a_prefetched_task_moves_up_when_room_frees() {
    let mut shell = Shell::new();
    shell.worker("w", 1000);
    let id = shell.submit(job(), vec![vec![run(3, 1000)]]);
    assert_eq!(shell.state(task(id, 1)), "prefetched");
    shell.finish(task(id, 0), Span::from_secs(9));
    assert_eq!(shell.leases(), [leased("w", 2, true)], "the freed room belongs to the one that lay ready");
    assert_eq!(shell.state(task(id, 1)), "running");
}

#[test]
fn a_worker_left_with_room_takes_over_what_lies_ready_elsewhere() {
    let mut shell = Shell::new();
    shell.worker("a", 1000);
    let id = shell.submit(job(), vec![vec![run(2, 1000)]]);
    assert_eq!(shell.state(task(id, 1)), "prefetched");
    shell.worker("b", 1000);
    assert_eq!(shell.revokes(), [("a".to_owned(), 1, revoke::RETRACTED)]);
    shell.input(Input::Heartbeat { worker: "b".into(), incarnation: W });
    assert_eq!(shell.revokes(), [], "asked once only");
    shell.report(task(id, 1), Report::Returned { reason: "retracted".into() });
    assert_eq!(shell.leases(), [leased("b", 1, false)]);
}

#[test]
fn a_retraction_that_comes_too_late_changes_nothing() {
    let mut shell = Shell::new();
    shell.worker("a", 1000);
    let id = shell.submit(job(), vec![vec![run(2, 1000)]]);
    shell.worker("b", 1000);
    shell.finish(task(id, 0), Span::from_secs(9));
    shell.start(task(id, 1));
    assert_eq!(shell.state(task(id, 1)), "running");
    shell.finish(task(id, 1), Span::from_secs(9));
    assert_eq!(shell.job_state(id), "done");
}

#[test]
fn a_task_that_starts_out_of_turn_pushes_the_foreseen_one_back() {
    let mut shell = Shell::new();
    shell.worker("w", 2000);
    let id = shell.submit(job(), vec![vec![run(4, 1000)]]);
    shell.start(task(id, 0));
    shell.start(task(id, 1));
    shell.finish(task(id, 0), Span::from_secs(9));
    assert_eq!((shell.state(task(id, 2)), shell.state(task(id, 3))), ("running", "prefetched"), "foreseen");
    shell.start(task(id, 3));
    assert_eq!((shell.state(task(id, 2)), shell.state(task(id, 3))), ("prefetched", "running"), "so it is");
    assert_eq!(shell.engine.worker(&"w".into()).unwrap().allocated.cpu, 2000);
}
