//! A task that fails wherever it goes is at fault itself.

use spool_core::io::{Input, NewJob, Token};
use spool_proto::failure::Class;
use spool_proto::ids::JobId;
use spool_proto::time::Span;

use crate::harness::*;

/// A job of one task that may be tried often, on this many workers of equal size.
fn one_task(workers: usize) -> (Shell, JobId) {
    let mut shell = Shell::patient();
    for number in 0..workers {
        shell.worker(&format!("w{number}"), 1000);
    }
    let id = shell.submit(NewJob { max_attempts: 9, ..job() }, vec![vec![run(1, 1000)]]);
    (shell, id)
}

/// The task fails where it is, and its back-off passes. Gives the worker's name.
fn fail(shell: &mut Shell, id: JobId, class: Class) -> String {
    let (worker, _) = shell.fences[&task(id, 0)].clone();
    shell.start(task(id, 0));
    shell.now = shell.now + Span::from_secs(3);
    shell.fail(task(id, 0), class);
    // It only avoids the last one by itself.
    shell.cordon(&worker.0, true);
    shell.wait(Span::from_secs(40));
    worker.to_string()
}

#[test]
fn three_healthy_hosts_make_a_poison_though_attempts_are_left() {
    let (mut shell, id) = one_task(4);
    let mut hosts = Vec::new();
    for attempt in 1..=3 {
        assert_eq!(shell.state(task(id, 0)), "running", "attempt {attempt}");
        hosts.push(fail(&mut shell, id, Class::Internal));
    }
    assert_eq!(shell.job_state(id), "failed");
    let failure = shell.engine.job(id).unwrap().failure().unwrap().clone();
    assert_eq!((failure.class, failure.code.as_str()), (Class::Internal, "poison"));
    for host in &hosts {
        assert!(failure.message.contains(host.as_str()), "{}", failure.message);
        assert!(failure.evidence.contains(&format!("{host} (internal, simulated): bad luck\nexit status 1")));
    }
}

#[test]
fn the_same_host_again_and_again_is_no_poison() {
    let (mut shell, id) = one_task(1);
    for _ in 0..5 {
        assert_eq!(fail(&mut shell, id, Class::Host), "w0");
        shell.cordon("w0", false);
        assert_eq!(shell.state(task(id, 0)), "running");
    }
}

#[test]
fn too_little_memory_is_no_poison() {
    let (mut shell, id) = one_task(5);
    for _ in 0..4 {
        fail(&mut shell, id, Class::Capacity);
        assert_eq!(shell.state(task(id, 0)), "running");
    }
}

#[test]
fn a_retried_job_forgets_where_its_task_failed_before() {
    let (mut shell, id) = one_task(4);
    fail(&mut shell, id, Class::Transient);
    fail(&mut shell, id, Class::Transient);
    shell.fail(task(id, 0), Class::Spec);
    assert_eq!(shell.job_state(id), "failed");
    shell.input(Input::Retry { token: Token(3), job: id });
    fail(&mut shell, id, Class::Transient);
    assert_eq!(shell.state(task(id, 0)), "running", "the hosts of before do not count");
    assert_eq!(shell.engine.task(task(id, 0)).unwrap().attempt, 2);
}
