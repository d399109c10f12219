//! Cancelling, and leases that are no longer good.

use spool_core::io::{Input, Refusal, Reply, Report, Start, Token};
use spool_core::revoke;
use spool_proto::ids::{Fence, JobId};
use spool_proto::time::Span;

use crate::harness::*;

fn cancel(shell: &mut Shell, job: JobId) {
    shell.input(Input::Cancel { token: Token(7), job, reason: "changed my mind".into() });
}

#[test]
fn what_waits_is_cancelled_at_once_what_runs_when_it_is_let_go() {
    let mut shell = Shell::new();
    shell.worker("w", 1000);
    let id = shell.submit(job(), vec![vec![run(4, 1000)]]);
    cancel(&mut shell, id);
    let expected = [("w".to_owned(), 0, revoke::CANCELLED), ("w".to_owned(), 1, revoke::CANCELLED)];
    assert_eq!(shell.revokes(), expected);
    assert_eq!((shell.job_state(id), shell.state(task(id, 2))), ("cancelling", "cancelled"));
    shell.report(task(id, 1), Report::Returned { reason: "cancelled".into() });
    assert_eq!(shell.job_state(id), "cancelling");
    shell.finish(task(id, 0), Span::from_secs(1));
    assert_eq!((shell.job_state(id), shell.state(task(id, 0))), ("cancelled", "done"), "too late to cancel is done");
    assert_eq!(shell.engine.job(id).unwrap().cancel_reason(), Some("changed my mind"));
}

#[test]
fn a_cancelled_job_ends_though_its_worker_never_answers() {
    let mut shell = Shell::new();
    shell.worker("w", 1000);
    let id = shell.submit(job(), vec![vec![run(1, 1000)]]);
    cancel(&mut shell, id);
    shell.wait(shell.engine.config().lease);
    assert_eq!(shell.job_state(id), "cancelled");
}

#[test]
fn a_job_nobody_works_on_is_cancelled_at_once() {
    let mut shell = Shell::new();
    let id = shell.submit(job(), vec![vec![run(1_000, 1000)]]);
    cancel(&mut shell, id);
    assert_eq!((shell.job_state(id), shell.engine.queued()), ("cancelled", 0));
    cancel(&mut shell, id);
    assert_eq!(shell.replies.last(), Some(&Reply::Ok), "asking twice is asking once");
}

#[test]
fn refusals_say_what_stands_in_the_way() {
    let mut shell = Shell::new();
    shell.worker("w", 1000);
    let id = shell.submit(job(), vec![]);
    assert_eq!(shell.job_state(id), "done");
    let refused = |shell: &Shell| match shell.replies.last() {
        Some(Reply::Refused(refusal)) => refusal.to_string(),
        other => panic!("{other:?}"),
    };
    cancel(&mut shell, id);
    assert_eq!(refused(&shell), "job j1 is done: there is nothing left to cancel");
    shell.input(Input::Retry { token: Token(1), job: id });
    assert_eq!(refused(&shell), "job j1 is done: it is done; submit it anew");
    shell.input(Input::SetPriority { token: Token(1), job: id, priority: 1 });
    assert_eq!(refused(&shell), "job j1 is done: its priority matters no more");
    cancel(&mut shell, JobId(9));
    assert_eq!(shell.replies.last(), Some(&Reply::Refused(Refusal::NoSuchJob(JobId(9)))));
}

#[test]
fn a_stale_report_changes_nothing_and_is_revoked() {
    let mut shell = Shell::new();
    shell.worker("a", 1000);
    let id = shell.submit(job(), vec![vec![run(1, 1000)]]);
    let records = shell.records.len();
    for (name, worker, index, fence) in
        [("old fence", "a", 0, Fence(0)), ("other task", "a", 7, Fence(1)), ("future fence", "a", 0, Fence(99))]
    {
        for report in
            [Report::Started { at: shell.now, start: Start::Inline }, Report::Returned { reason: String::new() }]
        {
            let task = task(id, index);
            shell.input(Input::Report { worker: worker.into(), incarnation: W, task, fence, report });
            assert_eq!(shell.revokes(), [(worker.to_owned(), index, revoke::STALE)], "{name}");
        }
    }
    assert_eq!(shell.records.len(), records);
    shell.worker("b", 1000);
    let fence = shell.fences[&task(id, 0)].1;
    let report = Report::Failed { failure: failure(spool_proto::failure::Class::Spec) };
    shell.input(Input::Report { worker: "b".into(), incarnation: W, task: task(id, 0), fence, report });
    assert_eq!(shell.revokes(), [("b".to_owned(), 0, revoke::STALE)], "the right fence from the wrong worker");
    assert_eq!(shell.state(task(id, 0)), "running");
}

#[test]
fn a_forgotten_job_is_gone_and_its_request_may_come_again() {
    let mut shell = Shell::new();
    let named = spool_core::io::NewJob { request_id: "abc".into(), ..job() };
    let first = shell.submit(named.clone(), vec![vec![run(1, 1000)]]);
    shell.input(Input::Forget { job: first });
    assert!(shell.engine.job(first).is_some(), "only final jobs");
    cancel(&mut shell, first);
    shell.input(Input::Forget { job: first });
    assert!(shell.engine.job(first).is_none());
    assert_ne!(shell.submit(named, vec![]), first);
}
