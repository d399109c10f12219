//! Workers come, go and come back.

use spool_core::io::{HeldLease, Incarnation, Input, Refusal, Reply, Report, Start, ToWorker, Token};
use spool_core::revoke;
use spool_proto::ids::Fence;
use spool_proto::time::Span;

use crate::harness::*;

fn held(shell: &Shell, task: spool_proto::ids::TaskId, running: bool) -> HeldLease {
    HeldLease { task, fence: shell.fences[&task].1, running }
}

#[test]
fn a_silent_worker_loses_its_leases_once() {
    let mut shell = Shell::new();
    shell.worker("a", 1000);
    let id = shell.submit(job(), vec![vec![run(2, 1000)]]);
    shell.now = shell.now + Span::from_secs(10);
    shell.input(Input::Heartbeat { worker: "a".into(), incarnation: W });
    shell.wait(Span::from_secs(14));
    assert_eq!(shell.state(task(id, 0)), "running", "the heartbeat counts");
    shell.wait(Span::from_secs(1));
    assert_eq!((shell.state(task(id, 0)), shell.state(task(id, 1))), ("queued", "queued"));
    assert_eq!(shell.engine.task(task(id, 0)).unwrap().attempt, 1, "a lost lease costs no attempt");
    assert!(!shell.engine.worker(&"a".into()).unwrap().connected);
    shell.worker("b", 1000);
    assert_eq!(shell.leases(), [leased("b", 0, false), leased("b", 1, true)]);
}

#[test]
fn a_worker_heard_again_gets_work_again_but_not_its_old_leases() {
    let mut shell = Shell::new();
    shell.worker("a", 1000);
    let id = shell.submit(job(), vec![vec![run(1, 1000)]]);
    let old = shell.fences[&task(id, 0)].1;
    shell.wait(Span::from_secs(15));
    let report = Report::Started { at: shell.now, start: Start::Inline };
    shell.input(Input::Report { worker: "a".into(), incarnation: W, task: task(id, 0), fence: old, report });
    assert_eq!(shell.revokes(), [("a".to_owned(), 0, revoke::STALE)]);
    assert_eq!(shell.leases(), [leased("a", 0, false)]);
    assert!(shell.fences[&task(id, 0)].1 > old);
}

#[test]
fn a_reconnecting_worker_keeps_what_both_know_of() {
    let mut shell = Shell::new();
    shell.worker("a", 2000);
    let id = shell.submit(job(), vec![vec![run(4, 1000)]]);
    let unknown = HeldLease { task: task(id, 3), fence: Fence(99), running: true };
    let said = vec![held(&shell, task(id, 0), true), held(&shell, task(id, 2), false), unknown];
    shell.input(Input::Disconnected { worker: "a".into(), incarnation: W });
    assert_eq!(shell.state(task(id, 0)), "running", "leases outlive the stream");
    let fence = shell.fences[&task(id, 1)].1;
    shell.register("a", W, 2000, said);
    assert_eq!(shell.messages("a")[0], &ToWorker::Welcome { forget: vec![unknown] });
    let states: Vec<_> = (0..4).map(|index| shell.state(task(id, index))).collect();
    assert_eq!(states, ["running", "prefetched", "running", "prefetched"], "1 and 3 were not there and came anew");
    assert!(shell.fences[&task(id, 1)].1 > fence);
}

#[test]
fn a_newer_process_replaces_the_older_whose_words_are_void() {
    let mut shell = Shell::new();
    shell.worker("a", 1000);
    let id = shell.submit(job(), vec![vec![run(1, 1000)]]);
    let old = shell.fences[&task(id, 0)].1;
    shell.register("a", Incarnation(2), 1000, vec![]);
    assert!(shell.messages("a").contains(&&ToWorker::Replaced));
    assert_eq!(shell.leases(), [leased("a", 0, false)], "what the old one ran starts anew");
    let report = Report::Returned { reason: String::new() };
    shell.input(Input::Report { worker: "a".into(), incarnation: W, task: task(id, 0), fence: old, report });
    assert_eq!(shell.out, [], "ignored");
    shell.input(Input::Disconnected { worker: "a".into(), incarnation: W });
    assert!(shell.engine.worker(&"a".into()).unwrap().connected);
    shell.register("a", W, 1000, vec![]);
    assert_eq!(shell.messages("a"), [&ToWorker::Replaced], "an old process that comes back is sent away");
    assert_eq!(shell.state(task(id, 0)), "running");
}

#[test]
fn a_cancel_the_worker_did_not_hear_is_repeated_when_it_returns() {
    let mut shell = Shell::new();
    shell.worker("a", 1000);
    let id = shell.submit(job(), vec![vec![run(1, 1000)]]);
    shell.input(Input::Disconnected { worker: "a".into(), incarnation: W });
    shell.input(Input::Cancel { token: Token(1), job: id, reason: String::new() });
    assert_eq!(shell.out, []);
    let said = vec![held(&shell, task(id, 0), true)];
    shell.register("a", W, 1000, said);
    assert_eq!(shell.revokes(), [("a".to_owned(), 0, revoke::CANCELLED)]);
}

fn cordon(shell: &mut Shell, worker: &str, cordoned: bool, drain: bool) {
    let reason = "new disk".to_owned();
    shell.input(Input::Cordon { token: Token(5), worker: worker.into(), cordoned, drain, reason });
}

#[test]
fn a_cordoned_worker_finishes_but_gets_nothing() {
    let mut shell = Shell::new();
    shell.worker("a", 1000);
    let id = shell.submit(job(), vec![vec![run(5, 1000)]]);
    cordon(&mut shell, "a", true, false);
    assert_eq!(shell.out, []);
    shell.finish(task(id, 0), Span::from_secs(9));
    assert_eq!(shell.leases(), []);
    cordon(&mut shell, "a", false, false);
    assert_eq!(shell.leases(), [leased("a", 2, true)]);
    cordon(&mut shell, "nobody", true, false);
    assert_eq!(shell.replies.last(), Some(&Reply::Refused(Refusal::NoSuchWorker("nobody".into()))));
}

#[test]
fn a_drain_takes_back_what_only_lies_ready() {
    let mut shell = Shell::new();
    shell.worker("a", 1000);
    let id = shell.submit(job(), vec![vec![run(3, 1000)]]);
    cordon(&mut shell, "a", true, true);
    assert_eq!(shell.revokes(), [("a".to_owned(), 1, revoke::RETRACTED)]);
    assert!(shell.messages("a").contains(&&ToWorker::Drain { reason: "new disk".into() }));
    shell.report(task(id, 1), Report::Returned { reason: "retracted".into() });
    shell.finish(task(id, 0), Span::from_secs(9));
    assert_eq!((shell.out.len(), shell.engine.queued()), (0, 2));
    let view = shell.engine.worker(&"a".into()).unwrap();
    assert!(view.cordoned && view.draining && view.reason.as_deref() == Some("new disk"));
}

#[test]
fn a_leaving_process_gets_nothing_but_the_next_one_does() {
    let mut shell = Shell::new();
    shell.worker("a", 1000);
    shell.input(Input::Leaving { worker: "a".into(), incarnation: W });
    shell.submit(job(), vec![vec![run(1, 1000)]]);
    assert_eq!(shell.leases(), []);
    shell.register("a", Incarnation(2), 1000, vec![]);
    assert_eq!(shell.leases(), [leased("a", 0, false)]);
}

#[test]
fn a_worker_gone_for_long_is_no_longer_listed() {
    let mut shell = Shell::new();
    shell.worker("a", 1000);
    shell.input(Input::Disconnected { worker: "a".into(), incarnation: W });
    while let Some(at) = shell.engine.next_wakeup() {
        shell.wait(at.since(shell.now));
        assert!(shell.now.0 < 3_700_000_000, "the alarm rings for ever");
    }
    assert!(shell.engine.worker(&"a".into()).is_none());
}
