//! A host that swallows the queue is held back, and comes back when it has proved itself.

use spool_core::io::{Effect, HeldLease, Incarnation, Input, Record, Report, ToWorker};
use spool_proto::failure::Class;
use spool_proto::ids::JobId;
use spool_proto::time::Span;
use spool_proto::view::WorkerHealth;

use crate::harness::*;

/// Workers of one slot, and a job whose tasks are known to take 20 s.
fn fleet(workers: &[&str]) -> (Shell, JobId) {
    fleet_of(workers, "bench.noop")
}

/// As [`fleet`], of tasks of a function.
fn fleet_of(workers: &[&str], function: &str) -> (Shell, JobId) {
    let mut shell = Shell::patient();
    for worker in workers {
        shell.worker(worker, 1000);
    }
    let mut tasks = run(100, 1000);
    tasks.task.shape.function = function.into();
    let id = shell.submit(job(), vec![vec![tasks]]);
    for worker in workers {
        finish_on(&mut shell, worker);
    }
    (shell, id)
}

#[test]
fn what_users_wrote_may_fail_as_it_likes_and_the_host_is_not_blamed() {
    for (function, throttled) in [("user.check", false), ("media.probe", true)] {
        let (mut shell, _) = fleet_of(&["a", "b"], function);
        for _ in 0..3 {
            fail_on(&mut shell, "a");
        }
        assert_eq!(is_throttled(&shell, "a") || is_quarantined(&shell, "a"), throttled, "{function}");
    }
}

/// The task that runs there, of those it holds.
fn running(shell: &Shell, worker: &str) -> Option<spool_proto::ids::TaskId> {
    shell.engine.worker(&worker.into()).unwrap().running.first().copied()
}

fn finish_on(shell: &mut Shell, worker: &str) {
    let task = running(shell, worker).unwrap();
    shell.start(task);
    shell.now = shell.now + Span::from_secs(20);
    shell.finish(task, Span::from_secs(20));
}

/// What runs there fails at once.
fn fail_on(shell: &mut Shell, worker: &str) -> spool_proto::ids::TaskId {
    let task = running(shell, worker).unwrap();
    shell.start(task);
    shell.now = shell.now + Span::from_millis(100);
    shell.fail(task, Class::Internal);
    task
}

/// It has given back what it was asked to.
fn give_back(shell: &mut Shell, worker: &str) {
    let view = shell.engine.worker(&worker.into()).unwrap();
    for task in view.prefetched {
        if shell.fences[&task].0 == worker.into() {
            shell.report(task, Report::Returned { reason: "retracted".into() });
        }
    }
}

fn is_throttled(shell: &Shell, worker: &str) -> bool {
    matches!(shell.health(worker), WorkerHealth::Throttled { .. })
}

fn is_quarantined(shell: &Shell, worker: &str) -> bool {
    matches!(shell.health(worker), WorkerHealth::Quarantined { .. })
}

/// Until it is quarantined; gives the tasks that failed.
fn sink(shell: &mut Shell, worker: &str) -> Vec<spool_proto::ids::TaskId> {
    let mut failed = Vec::new();
    while !is_quarantined(shell, worker) {
        assert!(failed.len() < 6, "{:?}", shell.health(worker));
        failed.push(fail_on(shell, worker));
        if is_throttled(shell, worker) {
            give_back(shell, worker);
        }
    }
    failed
}

fn self_tested(shell: &mut Shell, worker: &str, failure: Option<spool_proto::failure::Failure>) {
    shell.input(Input::SelfTested { worker: worker.into(), incarnation: W, failure });
}

#[test]
fn three_fast_failures_throttle_and_a_fourth_quarantines() {
    let (mut shell, id) = fleet(&["a", "b", "c"]);
    for _ in 0..2 {
        fail_on(&mut shell, "a");
        assert_eq!(shell.health("a"), WorkerHealth::Healthy);
    }
    let third = fail_on(&mut shell, "a");
    assert!(is_throttled(&shell, "a"));
    assert!(!shell.revokes().is_empty(), "what lies ready is taken back");
    assert_eq!(shell.engine.task(third).unwrap().attempt, 1, "it is not the task's failure any more");
    assert_eq!(shell.state(third), "backoff");
    give_back(&mut shell, "a");
    let view = shell.engine.worker(&"a".into()).unwrap();
    assert_eq!((view.running.len(), view.prefetched.len()), (1, 0), "one at a time");
    fail_on(&mut shell, "a");
    let WorkerHealth::Quarantined { reason, since } = shell.health("a") else { panic!("{:?}", shell.health("a")) };
    assert_eq!(since, shell.now);
    assert!(reason.contains("4 different tasks failed on it within 60 s"), "{reason}");
    assert!(reason.contains("finished there since it was last proved good: j1.0"), "{reason}");
    assert!(shell.messages("a").contains(&&ToWorker::SelfTest));
    assert_eq!(running(&shell, "a"), None);
    assert!(shell.details(id).contains("worker a is quarantined since 0 s"), "{}", shell.details(id));
    shell.wait(Span::from_secs(29));
    assert_eq!(running(&shell, "a"), None, "nothing more for it");
    assert_eq!(shell.job_state(id), "running");
}

#[test]
fn attempts_that_a_quarantined_host_spoilt_are_given_back() {
    let (mut shell, _) = fleet(&["a", "b", "c"]);
    let failed = sink(&mut shell, "a");
    assert!(failed.len() >= 4);
    for task in failed {
        let known = shell.engine.task(task).unwrap();
        assert_eq!(known.attempt, 1, "{task}");
        assert!(known.history.iter().all(|end| !end.counted) && !known.history.is_empty());
    }
}

#[test]
fn a_passed_self_test_and_a_finished_task_make_it_healthy() {
    let (mut shell, _) = fleet(&["a", "b", "c"]);
    sink(&mut shell, "a");
    self_tested(&mut shell, "a", None);
    assert!(is_throttled(&shell, "a"));
    let view = shell.engine.worker(&"a".into()).unwrap();
    assert_eq!((view.running.len(), view.prefetched.len()), (1, 0));
    finish_on(&mut shell, "a");
    assert_eq!(shell.health("a"), WorkerHealth::Healthy);
    assert_eq!(shell.engine.worker(&"a".into()).unwrap().prefetched.len(), 1);
}

#[test]
fn a_failed_self_test_is_asked_for_again_later_and_later() {
    let (mut shell, _) = fleet(&["a", "b", "c"]);
    sink(&mut shell, "a");
    for wait_s in [30, 60, 120] {
        self_tested(&mut shell, "a", Some(failure(Class::Host)));
        let WorkerHealth::Quarantined { reason, .. } = shell.health("a") else { panic!("{:?}", shell.health("a")) };
        assert!(reason.ends_with("; its self-test failed: bad luck"), "{reason}");
        assert_eq!(reason.matches("self-test").count(), 1, "only the last one: {reason}");
        shell.wait(Span::from_secs(wait_s) - Span(1));
        assert!(!shell.messages("a").contains(&&ToWorker::SelfTest), "{wait_s}");
        shell.wait(Span(1));
        assert!(shell.messages("a").contains(&&ToWorker::SelfTest), "{wait_s}");
    }
}

#[test]
fn slow_failures_and_those_of_the_input_say_nothing_of_the_host() {
    let (mut shell, _) = fleet(&["a", "b"]);
    for _ in 0..6 {
        let task = running(&shell, "a").unwrap();
        shell.start(task);
        shell.now = shell.now + Span::from_secs(6);
        shell.fail(task, Class::Internal);
    }
    assert_eq!(shell.health("a"), WorkerHealth::Healthy);
    let mut shell = Shell::patient();
    shell.worker("a", 1000);
    for class in [Class::Input, Class::Spec, Class::Input, Class::Spec, Class::Input] {
        let id = shell.submit(job(), vec![vec![run(1, 1000)]]);
        shell.start(task(id, 0));
        shell.fail(task(id, 0), class);
    }
    assert_eq!(shell.health("a"), WorkerHealth::Healthy);
}

#[test]
fn a_host_that_finishes_more_than_it_fails_is_no_black_hole() {
    let (mut shell, _) = fleet(&["a", "b"]);
    for _ in 0..5 {
        fail_on(&mut shell, "a");
        for _ in 0..2 {
            let task = running(&shell, "a").unwrap();
            shell.finish(task, Span::from_secs(20));
        }
    }
    assert_eq!(shell.health("a"), WorkerHealth::Healthy);
}

#[test]
fn the_only_worker_is_throttled_at_most_and_its_tasks_run_out_of_attempts() {
    let (mut shell, id) = fleet(&["a"]);
    for _ in 0..400 {
        if shell.job_state(id) != "running" {
            break;
        }
        match running(&shell, "a") {
            Some(_) => drop(fail_on(&mut shell, "a")),
            None => shell.wait(Span::from_secs(40)),
        }
        if is_throttled(&shell, "a") {
            give_back(&mut shell, "a");
        }
        assert!(!is_quarantined(&shell, "a"));
    }
    assert!(is_throttled(&shell, "a"));
    assert!(shell.engine.job(id).unwrap().failure().is_some(), "{}", shell.job_state(id));
}

#[test]
fn quarantine_takes_a_third_of_the_fleet_at_most() {
    let (mut shell, _) = fleet(&["a", "b", "c"]);
    sink(&mut shell, "a");
    for _ in 0..6 {
        fail_on(&mut shell, "b");
        if is_throttled(&shell, "b") {
            give_back(&mut shell, "b");
        }
    }
    assert!(is_throttled(&shell, "b"), "one of three is enough");
}

#[test]
fn when_the_fleet_shrinks_a_quarantined_worker_is_needed() {
    let (mut shell, _) = fleet(&["a", "b"]);
    sink(&mut shell, "a");
    shell.cordon("b", true);
    assert!(is_quarantined(&shell, "a"), "not at once");
    let lease = shell.engine.config().lease;
    // Otherwise its silence would be noticed first.
    shell.now = shell.now + Span::from_secs(3000);
    for worker in ["a", "b"] {
        shell.input(Input::Heartbeat { worker: worker.into(), incarnation: W });
    }
    shell.wait(lease - Span::from_secs(3000));
    assert!(is_throttled(&shell, "a"), "{:?}", shell.health("a"));
    assert!(running(&shell, "a").is_some());
}

#[test]
fn a_quarantine_outlives_the_server_and_the_worker_s_process() {
    let (mut shell, _) = fleet(&["a", "b", "c"]);
    sink(&mut shell, "a");
    let judged = shell.health("a");
    let mut engine = spool_core::Engine::new(spool_core::Config::default());
    for record in &shell.records {
        engine.replay(record).unwrap();
    }
    assert_eq!(engine.snapshot(), shell.engine.snapshot());
    let mut restored = spool_core::Engine::new(spool_core::Config::default());
    restored.restore(shell.engine.snapshot());
    for job in shell.engine.jobs() {
        let parts = (0..).map_while(|part| shell.engine.task_part(job.id(), part)).collect();
        restored.restore_job(shell.engine.job_snapshot(job.id()).unwrap(), parts, Vec::new()).unwrap();
    }
    let mut out = Vec::new();
    restored.resume(shell.now, &mut out);
    shell.engine = restored;
    for worker in ["b", "c", "a"] {
        shell.register(worker, Incarnation(2), 1000, Vec::<HeldLease>::new());
    }
    assert_eq!(shell.health("a"), judged);
    assert!(shell.messages("a").contains(&&ToWorker::SelfTest), "it is asked again");
    assert_eq!(running(&shell, "a"), None);
    let asked = shell.records.iter().filter(|record| matches!(record, Record::WorkerJudged { .. })).count();
    assert_eq!(asked, 2, "nobody judged anew");
    assert!(!shell.out.iter().any(|effect| matches!(effect, Effect::Record(_))));
}
