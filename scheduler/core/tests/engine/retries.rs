//! What follows on a failure.

use spool_core::io::{Input, NewJob, Reply, Token};
use spool_proto::failure::Class;
use spool_proto::time::Span;

use crate::harness::*;

#[test]
fn classes_decide_whether_a_task_is_tried_again() {
    for class in Class::ALL {
        let mut shell = Shell::new();
        shell.worker("w", 1000);
        let id = shell.submit(job(), vec![vec![run(1, 1000)]]);
        shell.fail(task(id, 0), class);
        let expected = if class.is_retryable() { ("backoff", "running") } else { ("failed", "failed") };
        assert_eq!((shell.state(task(id, 0)), shell.job_state(id)), expected, "{class}");
    }
}

#[test]
fn a_backoff_ends_by_itself_and_attempts_run_out() {
    let mut shell = Shell::new();
    shell.worker("w", 1000);
    let mut tasks = run(1, 1000);
    tasks.task.label = "chunk 12".into();
    let id = shell.submit(job(), vec![vec![tasks]]);
    for attempt in 1..=3 {
        assert_eq!(shell.engine.task(task(id, 0)).unwrap().attempt, attempt);
        shell.fail(task(id, 0), Class::Transient);
        if attempt < 3 {
            assert_eq!(shell.leases(), []);
            let wakeup = shell.engine.next_wakeup().unwrap();
            shell.wait(wakeup.since(shell.now) - Span(1));
            assert_eq!(shell.leases(), [], "not a moment too early");
            shell.wait(Span(1));
            assert_eq!(shell.leases(), [leased("w", 0, false)]);
        }
    }
    let failure = shell.engine.job(id).unwrap().failure().unwrap().clone();
    assert_eq!(failure.message, "media.encode (j1.0, chunk 12) failed after 3 attempts: bad luck");
    assert_eq!((failure.class, failure.evidence.as_str()), (Class::Transient, "exit status 1"));
    assert_eq!(shell.engine.task(task(id, 0)).unwrap().history.len(), 3);
}

#[test]
fn the_next_attempt_goes_elsewhere_if_there_is_an_elsewhere() {
    for (others, expected) in [(vec!["b"], "b"), (vec![], "a")] {
        let mut shell = Shell::new();
        shell.worker("a", 1000);
        let id = shell.submit(job(), vec![vec![run(1, 1000)]]);
        for other in others {
            shell.worker(other, 4000);
        }
        shell.fail(task(id, 0), Class::Host);
        shell.wait(Span::from_secs(1));
        assert_eq!(shell.leases(), [leased(expected, 0, false)]);
    }
}

#[test]
fn a_failed_task_fails_its_job_once_workers_have_let_go() {
    let mut shell = Shell::new();
    shell.worker("w", 2000);
    let id = shell.submit(job(), vec![vec![run(5, 1000)]]);
    shell.start(task(id, 1));
    shell.fail(task(id, 0), Class::Input);
    let states: Vec<_> = (0..5).map(|index| shell.state(task(id, index))).collect();
    assert_eq!(states, ["failed", "running", "running", "prefetched", "cancelled"]);
    assert_eq!((shell.job_state(id), shell.revokes().len()), ("cancelling", 3));
    for index in 1..4 {
        shell.report(task(id, index), spool_core::io::Report::Returned { reason: "cancelled".into() });
    }
    assert_eq!(shell.job_state(id), "failed");
    assert!(shell.engine.job(id).unwrap().failure().unwrap().message.contains("j1.0"));
}

#[test]
fn a_retried_job_keeps_what_is_done_and_starts_the_rest_afresh() {
    let mut shell = Shell::new();
    shell.worker("w", 1000);
    let id = shell.submit(NewJob { max_attempts: 1, ..job() }, vec![vec![run(3, 1000)], vec![run(1, 1000)]]);
    shell.finish(task(id, 0), Span::from_secs(5));
    shell.start(task(id, 1));
    shell.fail(task(id, 1), Class::Internal);
    assert_eq!(shell.job_state(id), "cancelling");
    shell.input(Input::Retry { token: Token(2), job: id });
    assert!(matches!(shell.replies.last(), Some(Reply::Refused(_))), "not before workers have let go");
    shell.report(task(id, 2), spool_core::io::Report::Returned { reason: "cancelled".into() });
    shell.input(Input::Retry { token: Token(3), job: id });
    assert_eq!(shell.replies.last(), Some(&Reply::Ok));
    assert_eq!(shell.leases(), [leased("w", 1, false), leased("w", 2, true)]);
    let again = shell.engine.task(task(id, 1)).unwrap();
    assert_eq!((again.attempt, again.history.len()), (1, 1), "attempts are fresh, history stays");
    for index in 1..4 {
        shell.finish(task(id, index), Span::from_secs(5));
    }
    assert_eq!(shell.job_state(id), "done");
}

#[test]
fn a_task_that_outlives_too_many_workers_fails_as_internal() {
    let mut shell = Shell::new();
    let id = shell.submit(job(), vec![vec![run(1, 1000)]]);
    for number in 0..6 {
        shell.worker(&format!("w{number}"), 1000);
        shell.start(task(id, 0));
        assert_eq!(shell.state(task(id, 0)), "running");
        shell.wait(shell.engine.config().lease);
    }
    let failure = shell.engine.job(id).unwrap().failure().unwrap();
    assert_eq!((failure.class, failure.code.as_str()), (Class::Internal, "workers_lost"));
    assert_eq!(shell.job_state(id), "failed");
}
