//! A journal gives the engine back.

use spool_core::io::{Effect, Input, Record, Token};
use spool_core::snapshot::PART;
use spool_core::{Config, Engine, Illegal};
use spool_proto::failure::Class;
use spool_proto::ids::{Fence, JobId};
use spool_proto::time::Span;

use crate::harness::*;

fn replayed(shell: &Shell) -> Engine {
    let mut engine = Engine::new(Config::default());
    for record in &shell.records {
        engine.replay(record).unwrap();
    }
    engine
}

fn same(a: &Engine, b: &Engine) {
    assert_eq!(a.snapshot(), b.snapshot());
    let ids: Vec<_> = a.jobs().map(spool_core::Job::id).collect();
    assert_eq!(ids, b.jobs().map(spool_core::Job::id).collect::<Vec<_>>());
    for id in ids {
        assert_eq!(a.job_snapshot(id), b.job_snapshot(id));
        for part in 0.. {
            let of_a = a.task_part(id, part);
            assert_eq!(of_a, b.task_part(id, part));
            if of_a.is_none() {
                break;
            }
        }
    }
}

/// A shell with a bit of everything in it.
fn busy() -> (Shell, JobId) {
    let mut shell = Shell::new();
    shell.worker("a", 2000);
    let id = shell.submit(job(), vec![vec![run(2, 1000)], vec![run(PART + 10, 1000), weighted(3, 500, 7)]]);
    shell.finish(task(id, 0), Span::from_secs(2));
    shell.finish(task(id, 1), Span::from_secs(2));
    let first = shell.engine.worker(&"a".into()).unwrap().running[0];
    shell.fail(first, Class::Transient);
    let waiting = shell.submit(job(), vec![vec![run(1, 64_000)]]);
    shell.input(Input::SetPriority { token: Token(1), job: waiting, priority: 99 });
    let gone = shell.submit(job(), vec![vec![run(1, 64_000)]]);
    shell.input(Input::Cancel { token: Token(1), job: gone, reason: "no".into() });
    shell.input(Input::Cordon {
        token: Token(1),
        worker: "a".into(),
        cordoned: true,
        drain: false,
        reason: "disk".into(),
    });
    (shell, id)
}

#[test]
fn replaying_the_journal_gives_the_same_state() {
    let (shell, _) = busy();
    same(&shell.engine, &replayed(&shell));
}

#[test]
fn a_snapshot_and_the_tail_give_the_same_state_and_only_dirty_parts_are_written() {
    let (mut shell, id) = busy();
    let dirty = shell.engine.dirty();
    assert_eq!(dirty[0].parts, [0, 1]);
    let engine = shell.engine.snapshot();
    let jobs: Vec<_> = dirty
        .iter()
        .map(|dirty| {
            let parts = dirty.parts.iter().map(|part| shell.engine.task_part(dirty.job, *part).unwrap()).collect();
            (shell.engine.job_snapshot(dirty.job).unwrap(), parts)
        })
        .collect();
    shell.engine.checkpointed();
    assert_eq!(shell.engine.dirty(), []);
    let folded = shell.records.len();
    let running = shell.engine.worker(&"a".into()).unwrap().running[0];
    shell.finish(running, Span::from_secs(3));
    assert_eq!(shell.engine.dirty().len(), 1);
    assert_eq!((shell.engine.dirty()[0].job, shell.engine.dirty()[0].parts.len()), (id, 1));

    let mut restored = Engine::new(Config::default());
    restored.restore(engine);
    for (job, parts) in jobs {
        restored.restore_job(job, parts, Vec::new()).unwrap();
    }
    for record in &shell.records[folded..] {
        restored.replay(record).unwrap();
    }
    same(&shell.engine, &restored);
}

#[test]
fn after_a_restart_waiting_workflows_are_asked_and_leases_expire_or_are_adopted() {
    let mut shell = Shell::new();
    shell.worker("a", 1000);
    let id = shell.submit(job(), vec![vec![run(1, 1000)]]);
    // A job whose workflow was never answered.
    let mut effects = Vec::new();
    shell.engine.handle(shell.now, Input::Submit { token: Token(3), job: job() }, &mut effects);
    let records = effects.into_iter().filter_map(|e| if let Effect::Record(r) = e { Some(r) } else { None });
    shell.records.extend(records);
    for adopt in [true, false] {
        let mut engine = replayed(&shell);
        let mut out = Vec::new();
        engine.resume(shell.now, &mut out);
        engine.check_invariants();
        assert_eq!(out, [Effect::Advance { job: JobId(2) }]);
        let mut after = Shell::new();
        after.engine = engine;
        after.now = shell.now;
        if adopt {
            let held = spool_core::io::HeldLease { task: task(id, 0), fence: Fence(1), running: true };
            after.register("a", W, 1000, vec![held]);
            assert_eq!((after.state(task(id, 0)), after.leases()), ("running", vec![]));
            let view = after.engine.worker(&"a".into()).unwrap();
            assert_eq!(view.allocated.cpu, 1000);
        }
        after.wait(Span::from_secs(15));
        assert_eq!(after.state(task(id, 0)), "queued");
    }
}

#[test]
fn a_damaged_journal_is_refused_by_name() {
    let (shell, id) = busy();
    let done = task(id, 0);
    let cases = [
        (Record::JobForgotten { job: JobId(99) }, Illegal::NoSuchJob(JobId(99))),
        (Record::JobSubmitted { job: id, new: job(), at: shell.now }, Illegal::JobExists(id)),
        (Record::JobRetried { job: id, at: shell.now }, Illegal::Job { job: id, state: "running", event: "retry" }),
        (
            Record::Leased { task: done, fence: Fence(99), worker: "a".into(), at: shell.now },
            Illegal::Task { task: done, state: "done", event: "lease" },
        ),
        (Record::TaskCancelled { task: task(id, 1 << 20), at: shell.now }, Illegal::NoSuchTask(task(id, 1 << 20))),
    ];
    for (record, expected) in cases {
        assert_eq!(replayed(&shell).replay(&record), Err(expected), "{record:?}");
    }
}
