//! The tail of a phase: second copies, and what becomes of the two.

use spool_core::io::*;
use spool_core::{Config, Engine, revoke};
use spool_proto::failure::Class;
use spool_proto::ids::{Fence, JobId, TaskId};
use spool_proto::time::Span;

use crate::harness::*;

/// Two workers of two slots; a job of four tasks: three took 10 s, task 3 has run on `b` since. Nothing is looked at yet.
fn tail() -> (Shell, JobId, (TaskId, Fence)) {
    tail_of(None)
}

/// As [`tail`], of tasks with so many attempts.
fn tail_of(max_attempts: Option<u8>) -> (Shell, JobId, (TaskId, Fence)) {
    let mut shell = Shell::patient();
    shell.worker("a", 2000);
    shell.worker("b", 2000);
    let id = shell.submit(
        job(),
        vec![vec![TaskRun { task: NewTask { max_attempts, ..run(4, 1000).task }, count: 4 }], vec![run(1, 1000)]],
    );
    for index in 0..4 {
        shell.start(task(id, index));
    }
    shell.now = shell.now + Span::from_secs(10);
    for index in 0..3 {
        shell.finish(task(id, index), Span::from_secs(10));
    }
    let (worker, fence) = shell.fences[&task(id, 3)].clone();
    assert_eq!(worker, "b".into());
    (shell, id, (task(id, 3), fence))
}

/// As [`tail`], with the copy leased on `a`.
fn copied() -> (Shell, JobId, (TaskId, Fence), (TaskId, Fence)) {
    let (mut shell, id, first) = tail();
    shell.wait(Span::from_secs(11));
    assert_eq!(shell.leases(), [leased("a", 3, false)]);
    let copy = shell.last_lease("a").unwrap();
    (shell, id, first, copy)
}

fn advance(shell: &mut Shell, lease: (TaskId, Fence), frames: u64) {
    let made = Advance { frames, bytes: 0, out_time: Span::ZERO };
    shell.report_as("b", lease, Report::Advanced(made));
}

fn finished(shell: &Shell) -> Report {
    let advance = Advance { frames: 10, bytes: 100, out_time: Span(1) };
    let (started, finished) = (shell.now - Span::from_secs(5), shell.now);
    Report::Finished { started, finished, answer: Blob::from(&b"{}"[..]), advance }
}

#[test]
fn a_task_far_beyond_its_estimate_gets_a_second_copy_elsewhere() {
    let (mut shell, id, first) = tail();
    shell.wait(Span::from_secs(10));
    assert_eq!(shell.leases(), [], "twice its estimate is not yet too long");
    shell.wait(Span::from_secs(1));
    assert_eq!(shell.leases(), [leased("a", 3, false)]);
    let copy = shell.last_lease("a").unwrap();
    assert!(copy.1 > first.1);
    let details = shell.details(id);
    assert!(details.contains("j1.3: slow on b, a second copy on a since 0.0 s"), "{details}");
    for worker in ["a", "b"] {
        assert_eq!(shell.engine.worker(&worker.into()).unwrap().allocated.cpu, 1000, "both use room");
    }
    shell.wait(Span::from_secs(100));
    assert_eq!(shell.leases(), [], "one copy is enough");
}

#[test]
fn a_task_that_may_be_tried_but_once_gets_no_second_copy() {
    let (mut shell, ..) = tail_of(Some(1));
    shell.wait(Span::from_secs(100));
    assert_eq!(shell.leases(), []);
}

#[test]
fn the_first_to_finish_wins_and_the_other_is_told() {
    for winner in ["a", "b"] {
        let (mut shell, id, first, copy) = copied();
        let (wins, loses, loser) = if winner == "a" { (copy, first, "b") } else { (first, copy, "a") };
        shell.report_as("a", copy, Report::Started { at: shell.now, start: Start::Inline });
        let report = finished(&shell);
        shell.report_as(winner, wins, report.clone());
        assert_eq!(shell.revokes(), [(loser.to_owned(), 3, revoke::SUPERSEDED)]);
        let known = shell.engine.task(task(id, 3)).unwrap();
        assert_eq!((known.state.name(), known.worker.unwrap().0.as_ref()), ("done", winner));
        assert_eq!(shell.engine.job(id).unwrap().phases().len(), 2, "the next phase begins");
        let records = shell.records.len();
        shell.report_as(loser, loses, report);
        assert_eq!(shell.revokes(), [(loser.to_owned(), 3, revoke::STALE)], "too late changes nothing");
        assert_eq!(shell.records.len(), records);
    }
}

#[test]
fn one_copy_may_fail_or_vanish_and_it_costs_nothing() {
    for fails in ["a", "b"] {
        let (mut shell, id, first, copy) = copied();
        let (lost, kept, keeper) = if fails == "a" { (copy, first, "b") } else { (first, copy, "a") };
        shell.report_as(fails, lost, Report::Failed { failure: failure(Class::Internal) });
        let known = shell.engine.task(task(id, 3)).unwrap();
        assert_eq!((known.state.name(), known.attempt, known.worker.unwrap().0.as_ref()), ("running", 1, keeper));
        let report = finished(&shell);
        shell.report_as(keeper, kept, report);
        assert_eq!(shell.state(task(id, 3)), "done");
    }
}

#[test]
fn with_both_copies_lost_the_task_waits_again() {
    let (mut shell, id, first, copy) = copied();
    shell.cordon("a", true);
    shell.cordon("b", true);
    shell.report_as("b", first, Report::Returned { reason: String::new() });
    assert_eq!(shell.state(task(id, 3)), "running");
    shell.report_as("a", copy, Report::Returned { reason: String::new() });
    assert_eq!((shell.state(task(id, 3)), shell.engine.queued()), ("queued", 1));
}

#[test]
fn a_cancelled_job_ends_when_both_copies_have_let_go() {
    let (mut shell, id, first, copy) = copied();
    shell.input(Input::Cancel { token: Token(1), job: id, reason: "no".into() });
    assert_eq!(shell.revokes().len(), 2);
    shell.report_as("a", copy, Report::Returned { reason: "cancelled".into() });
    assert_eq!(shell.job_state(id), "cancelling");
    shell.report_as("b", first, Report::Returned { reason: "cancelled".into() });
    assert_eq!(shell.job_state(id), "cancelled");
}

#[test]
fn progress_tells_a_slow_host_from_a_long_task() {
    // Its siblings made 10 frames in 10 s. After 6 s: 1 frame is far too slow, 4 are not.
    for (frames, expected) in [(1, vec![leased("a", 3, false)]), (4, vec![])] {
        let mut shell = Shell::patient();
        shell.worker("a", 2000);
        shell.worker("b", 2000);
        let id = shell.submit(job(), vec![vec![run(4, 1000)]]);
        for index in 0..3 {
            shell.start(task(id, index));
        }
        shell.now = shell.now + Span::from_secs(10);
        for index in 0..3 {
            shell.finish(task(id, index), Span::from_secs(10));
        }
        shell.start(task(id, 3));
        let lease = shell.last_lease("b").unwrap();
        shell.now = shell.now + Span::from_secs(6);
        advance(&mut shell, lease, frames);
        shell.wait(Span::ZERO);
        assert_eq!(shell.leases(), expected, "{frames} frames");
    }
}

#[test]
fn a_task_that_makes_frames_as_fast_as_others_is_only_longer() {
    let (mut shell, _, first) = tail();
    for second in 1..60 {
        shell.now = shell.now + Span::from_secs(1);
        advance(&mut shell, first, 10 + second);
        shell.wait(Span::ZERO);
        assert_eq!(shell.leases(), []);
    }
}

#[test]
fn nothing_is_copied_while_something_of_the_phase_waits() {
    let mut shell = Shell::patient();
    shell.worker("a", 1000);
    shell.worker("b", 1000);
    let id = shell.submit(job(), vec![vec![run(2, 1000), run(1, 8000)]]);
    shell.start(task(id, 0));
    shell.start(task(id, 1));
    shell.now = shell.now + Span::from_secs(10);
    shell.finish(task(id, 0), Span::from_secs(10));
    shell.wait(Span::from_secs(100));
    assert_eq!(shell.leases(), []);
}

#[test]
fn at_most_a_twentieth_of_a_phase_is_copied() {
    let mut shell = Shell::patient();
    for number in 0..50 {
        shell.worker(&format!("w{number}"), 1000);
    }
    let id = shell.submit(job(), vec![vec![run(50, 1000)]]);
    for index in 0..50 {
        shell.start(task(id, index));
    }
    shell.now = shell.now + Span::from_secs(10);
    for index in 0..40 {
        shell.finish(task(id, index), Span::from_secs(10));
    }
    shell.wait(Span::from_secs(15));
    assert_eq!(shell.leases().len(), 2, "of ten stragglers");
    assert!(shell.details(id).contains("no second copy (at most 2 in this phase"), "{}", shell.details(id));
    shell.wait(Span::from_secs(15));
    assert_eq!(shell.leases(), []);
}

#[test]
fn publishing_is_never_done_twice_at_once() {
    let mut shell = Shell::patient();
    shell.worker("a", 2000);
    shell.worker("b", 2000);
    let mut tasks = run(4, 1000);
    tasks.task.shape.function = "spool.publish".into();
    let id = shell.submit(job(), vec![vec![tasks]]);
    for index in 0..4 {
        shell.start(task(id, index));
    }
    shell.now = shell.now + Span::from_secs(10);
    for index in 0..3 {
        shell.finish(task(id, index), Span::from_secs(10));
    }
    shell.wait(Span::from_secs(100));
    assert_eq!(shell.leases(), []);
}

#[test]
fn a_worker_that_returns_keeps_its_copy_or_drops_what_was_decided_without_it() {
    for decided in [false, true] {
        let (mut shell, id, first, copy) = copied();
        shell.input(Input::Disconnected { worker: "a".into(), incarnation: W });
        if decided {
            let report = finished(&shell);
            shell.report_as("b", first, report);
            assert_eq!(shell.revokes(), [], "nobody there to tell");
        }
        let held = HeldLease { task: copy.0, fence: copy.1, running: true };
        shell.register("a", W, 2000, vec![held]);
        let forget = if decided { vec![held] } else { vec![] };
        assert_eq!(shell.messages("a")[0], &ToWorker::Welcome { forget });
        assert_eq!(shell.state(task(id, 3)), if decided { "done" } else { "running" });
    }
}

#[test]
fn copies_survive_replay_and_checkpoints() {
    let (mut shell, id, first, copy) = copied();
    let mut replayed = Engine::new(Config::default());
    for record in &shell.records {
        replayed.replay(record).unwrap();
    }
    let mut restored = Engine::new(Config::default());
    restored.restore(shell.engine.snapshot());
    let part = shell.engine.task_part(id, 0).unwrap();
    restored.restore_job(shell.engine.job_snapshot(id).unwrap(), vec![part.clone()], Vec::new()).unwrap();
    for mut engine in [replayed, restored] {
        assert_eq!(engine.task_part(id, 0).unwrap(), part);
        let mut out = Vec::new();
        engine.resume(shell.now, &mut out);
        engine.check_invariants();
        shell.engine = engine;
        for (worker, lease) in [("b", first), ("a", copy)] {
            let held = HeldLease { task: lease.0, fence: lease.1, running: true };
            shell.register(worker, W, 2000, vec![held]);
        }
        shell.wait(Span::from_secs(5));
        assert_eq!(shell.leases(), [], "it has its copy already");
        let report = finished(&shell);
        shell.report_as("a", copy, report);
        assert_eq!(shell.revokes(), [("b".to_owned(), 3, revoke::SUPERSEDED)]);
    }
}
