//! A job may not be tried again for ever.

use spool_core::io::{Input, NewJob, Token};
use spool_proto::failure::Class;
use spool_proto::ids::JobId;
use spool_proto::time::Span;

use crate::harness::*;

/// A job of so many tasks on one worker that has room for all of them.
fn wide(tasks: u32) -> (Shell, JobId) {
    let mut shell = Shell::patient();
    shell.worker("w", 100_000);
    let id = shell.submit(NewJob { max_attempts: 9, ..job() }, vec![vec![run(tasks, 1000)]]);
    (shell, id)
}

/// That many failures, of one task after the other.
fn fail(shell: &mut Shell, id: JobId, times: u32, tasks: u32) {
    for number in 0..times {
        shell.fail(task(id, number % tasks), Class::Capacity);
        shell.wait(Span::from_secs(40));
    }
}

#[test]
fn a_small_job_has_ten_retries() {
    let (mut shell, id) = wide(3);
    fail(&mut shell, id, 10, 3);
    assert_eq!(shell.job_state(id), "running");
    assert!(shell.details(id).contains("10 of 10 retries used"), "{}", shell.details(id));
    shell.fail(task(id, 1), Class::Capacity);
    let failure = shell.engine.job(id).unwrap().failure().unwrap().clone();
    assert_eq!((failure.class, failure.code.as_str()), (Class::Capacity, "retry_budget"));
    let counts = "all its 10 retries (the greater of 10 and 20 % of its 3 tasks)";
    assert!(failure.message.contains(counts), "{}", failure.message);
    assert_eq!(failure.evidence, "exit status 1", "of the last failure");
}

#[test]
fn a_large_job_has_a_fifth_of_its_tasks() {
    let (mut shell, id) = wide(75);
    fail(&mut shell, id, 15, 75);
    assert_eq!(shell.job_state(id), "running");
    shell.fail(task(id, 70), Class::Capacity);
    assert_eq!(shell.engine.job(id).unwrap().failure().unwrap().code, "retry_budget");
}

#[test]
fn a_retried_job_has_a_fresh_budget() {
    let (mut shell, id) = wide(3);
    fail(&mut shell, id, 2, 1);
    shell.finish(task(id, 0), Span::from_secs(5));
    for number in 0..8 {
        shell.fail(task(id, 1 + number % 2), Class::Capacity);
        shell.wait(Span::from_secs(40));
    }
    shell.fail(task(id, 1), Class::Capacity);
    assert_eq!(shell.job_state(id), "cancelling");
    shell.report(task(id, 2), spool_core::io::Report::Returned { reason: "cancelled".into() });
    assert_eq!(shell.job_state(id), "failed");
    shell.input(Input::Retry { token: Token(3), job: id });
    assert!(!shell.details(id).contains("retries used"), "{}", shell.details(id));
    for number in 0..7 {
        shell.fail(task(id, 1 + number % 2), Class::Capacity);
        shell.wait(Span::from_secs(40));
    }
    assert_eq!(shell.job_state(id), "running");
    assert!(shell.details(id).contains("7 of 10 retries used"), "{}", shell.details(id));
}
