//! Jobs whose workflow is asked after every event.

use spool_core::io::*;
use spool_core::snapshot::{HistoryKey, HistoryKind};
use spool_core::{Config, Engine, revoke};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::JobId;
use spool_proto::time::{Span, Timestamp};

use crate::harness::*;

fn reactive() -> NewJob {
    NewJob { reactive: true, ..job() }
}

fn group(name: &str, tasks: Vec<TaskRun>) -> Group {
    Group { name: name.into(), tasks }
}

fn start(groups: Vec<Group>) -> Step {
    Step { groups, ..Step::default() }
}

fn blob(text: &str) -> Blob {
    Blob::from(text.as_bytes())
}

fn done() -> Option<Outcome> {
    Some(Outcome::Done { output: blob("film") })
}

/// With a worker of so much, and a first step taken.
fn begun(cpu: u64, step: Step) -> (Shell, JobId) {
    let mut shell = Shell::patient();
    shell.worker("w", cpu);
    let id = shell.submit(reactive(), vec![]);
    assert_eq!(shell.take_asked(), [id]);
    shell.step(id, step);
    (shell, id)
}

fn signal(shell: &mut Shell, job: JobId, name: &str, dedupe: &str) -> Reply {
    let (name, dedupe) = (name.to_owned(), dedupe.to_owned());
    shell.input(Input::Signal { token: Token(5), job, name, dedupe, payload: blob("payload") });
    shell.replies.last().unwrap().clone()
}

fn refused(reply: Reply) -> String {
    match reply {
        Reply::Refused(refusal) => refusal.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Through a snapshot, and by replaying everything: both are the engine.
fn restarted(shell: &Shell) -> [Engine; 2] {
    let mut replayed = Engine::new(Config::default());
    shell.records.iter().for_each(|record| replayed.replay(record).unwrap());
    let mut restored = Engine::new(Config::default());
    restored.restore(shell.engine.snapshot());
    let jobs: Vec<JobId> = shell.engine.jobs().map(spool_core::Job::id).collect();
    for id in jobs.iter().rev() {
        let parts = (0..).map_while(|part| shell.engine.task_part(*id, part)).collect();
        restored.restore_job(shell.engine.job_snapshot(*id).unwrap(), parts, shell.engine.history(*id)).unwrap();
    }
    [replayed, restored]
}

fn asked(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Advance { .. })).count()
}

fn check_restart(shell: &Shell) {
    let jobs: Vec<JobId> = shell.engine.jobs().map(spool_core::Job::id).collect();
    for mut other in restarted(shell) {
        for id in &jobs {
            assert_eq!(other.job_snapshot(*id), shell.engine.job_snapshot(*id));
            assert_eq!(other.history(*id), shell.engine.history(*id));
            assert_eq!(other.task_part(*id, 0), shell.engine.task_part(*id, 0));
        }
        let mut out = Vec::new();
        other.resume(shell.now, &mut out);
        other.check_invariants();
        let going_on = shell.engine.jobs().filter(|job| !job.state().is_final() && job.state().name() != "cancelling");
        assert_eq!(asked(&out), going_on.count(), "whoever goes on is asked again after a restart");
    }
}

#[test]
fn the_workflow_is_asked_after_every_task_and_phases_overlap() {
    let (mut shell, id) = begun(2000, start(vec![group("encoding", vec![run(3, 1000)])]));
    shell.finish(task(id, 0), Span::from_secs(1));
    assert_eq!(shell.take_asked(), [id]);
    shell.step(id, start(vec![group("packaging", vec![run(1, 1000)])]));
    shell.finish(task(id, 1), Span::from_secs(1));
    assert_eq!(shell.take_asked(), [id]);
    shell.step(id, Step::default());
    assert_eq!((shell.state(task(id, 2)), shell.state(task(id, 3))), ("running", "running"));
    shell.finish(task(id, 3), Span::from_secs(1));
    let phases = shell.engine.job(id).unwrap().phases();
    let names: Vec<_> = phases.iter().map(|phase| (phase.name.as_str(), phase.finished.is_some())).collect();
    assert_eq!(names, [("encoding", false), ("packaging", true)]);
    assert_eq!(shell.engine.job(id).unwrap().phase_name(), "encoding");
    check_restart(&shell);
    shell.finish(task(id, 2), Span::from_secs(1));
    shell.step(id, Step { outcome: done(), ..Step::default() });
    assert_eq!((shell.job_state(id), shell.ended.as_slice()), ("done", [id].as_slice()));
    check_restart(&shell);
}

#[test]
fn a_task_that_fails_for_good_leaves_its_siblings_alone_and_the_workflow_decides() {
    let (mut shell, id) = begun(1000, start(vec![group("encoding", vec![run(2, 1000)])]));
    shell.fail(task(id, 0), Class::Input);
    assert_eq!(shell.take_asked(), [id]);
    shell.step(id, Step::default());
    assert_eq!((shell.job_state(id), shell.state(task(id, 1))), ("running", "running"));
    assert_eq!(shell.engine.task(task(id, 0)).unwrap().failure().unwrap().class, Class::Input);
    shell.fail(task(id, 1), Class::Transient);
    assert!(shell.take_asked().is_empty(), "it is tried again");
    check_restart(&shell);
    shell.step(id, Step::end(Outcome::Failed { failure: failure(Class::Input) }));
    assert_eq!((shell.job_state(id), shell.state(task(id, 1))), ("failed", "cancelled"));
}

#[test]
fn a_task_may_have_fewer_or_more_attempts_than_its_job() {
    let limited = |most| {
        let run = run(1, 1000);
        TaskRun { task: NewTask { max_attempts: Some(most), ..run.task }, ..run }
    };
    let (mut shell, id) = begun(2000, start(vec![group("a", vec![limited(1)]), group("b", vec![limited(5)])]));
    shell.fail(task(id, 0), Class::Transient);
    shell.fail(task(id, 1), Class::Transient);
    assert_eq!((shell.state(task(id, 0)), shell.state(task(id, 1))), ("failed", "backoff"));
    check_restart(&shell);
}

#[test]
fn a_step_cancels_what_waits_at_once_and_what_runs_when_it_is_let_go() {
    let (mut shell, id) = begun(2000, start(vec![group("encoding", vec![run(6, 1000)])]));
    shell.wait(Span::from_secs(1));
    let held: Vec<u32> = (0..6).filter(|index| shell.fences.contains_key(&task(id, *index))).collect();
    assert_eq!(held, [0, 1, 2, 3], "two run, two lie ready");
    shell.step(id, Step { cancel: vec![0, 4], ..Step::default() });
    assert_eq!(shell.revokes(), [("w".to_owned(), 0, revoke::CANCELLED)]);
    assert_eq!((shell.state(task(id, 4)), shell.state(task(id, 5))), ("cancelled", "queued"));
    assert!(shell.take_asked().is_empty(), "of its own step a workflow is not told");
    check_restart(&shell);
    shell.report(task(id, 0), Report::Returned { reason: revoke::CANCELLED.into() });
    assert_eq!((shell.state(task(id, 0)), shell.take_asked()), ("cancelled", vec![id]));
    shell.step(id, Step { cancel: vec![1, 2], ..Step::default() });
    shell.finish(task(id, 1), Span::from_secs(1));
    shell.fail(task(id, 2), Class::Transient);
    assert_eq!((shell.state(task(id, 1)), shell.state(task(id, 2))), ("done", "cancelled"), "too late, and in time");
    check_restart(&shell);
}

#[test]
fn a_task_to_be_cancelled_is_revoked_again_from_a_worker_that_comes_back_with_it() {
    let (mut shell, id) = begun(1000, start(vec![group("encoding", vec![run(1, 1000)])]));
    shell.input(Input::Disconnected { worker: "w".into(), incarnation: W });
    shell.step(id, Step { cancel: vec![0], ..Step::default() });
    let mut engine = Engine::new(Config::default());
    shell.records.iter().for_each(|record| engine.replay(record).unwrap());
    engine.resume(shell.now, &mut Vec::new());
    shell.engine = engine;
    let held = HeldLease { task: task(id, 0), fence: shell.fences[&task(id, 0)].1, running: true };
    shell.register("w", W, 1000, vec![held]);
    assert_eq!(shell.revokes(), [("w".to_owned(), 0, revoke::CANCELLED)]);
    shell.register("w", Incarnation(2), 1000, vec![]);
    assert_eq!(shell.state(task(id, 0)), "cancelled");
}

#[test]
fn a_job_that_is_ended_with_open_tasks_ends_when_workers_have_let_go() {
    let (mut shell, id) = begun(1000, start(vec![group("encoding", vec![run(4, 1000)])]));
    shell.step(id, Step { outcome: done(), ..start(vec![group("never", vec![run(1, 1000)])]) });
    assert_eq!((shell.job_state(id), shell.revokes().len()), ("cancelling", 2));
    assert!(shell.explain(id).1.contains("its workflow is done with it"), "{:?}", shell.explain(id));
    check_restart(&shell);
    for index in [0, 1] {
        shell.report(task(id, index), Report::Returned { reason: revoke::CANCELLED.into() });
    }
    assert_eq!(shell.job_state(id), "done");
    let counts = shell.engine.job(id).unwrap().counts();
    assert_eq!((counts.cancelled, counts.open()), (5, 0));
    check_restart(&shell);
}

#[test]
fn an_alarm_asks_once_and_the_last_one_set_counts() {
    let (mut shell, id) = begun(1000, Step::default());
    assert_eq!((shell.job_state(id), shell.explain(id).0.as_str()), ("running", "waiting_for_signal"));
    let at = |shell: &Shell, seconds| Some(shell.now + Span::from_secs(seconds));
    let first = at(&shell, 60);
    shell.step(id, Step { wake: first, ..Step::default() });
    assert_eq!(shell.explain(id).0, "sleeping");
    check_restart(&shell);
    shell.step(id, Step { wake: at(&shell, 20), ..Step::default() });
    assert_eq!(shell.engine.next_wakeup(), at(&shell, 20));
    shell.wait(Span::from_secs(20));
    assert_eq!(shell.take_asked(), [id]);
    assert_eq!(shell.explain(id).0, "running");
    // The same again does not ring for ever.
    shell.step(id, Step { wake: Some(shell.now), ..Step::default() });
    shell.wait(Span::from_secs(50));
    assert!(shell.take_asked().is_empty(), "the one at 60 s was replaced");
    shell.step(id, Step { wake: Some(Timestamp(1)), ..Step::default() });
    shell.wait(Span::ZERO);
    assert_eq!(shell.take_asked(), [id], "what has passed rings once");
    shell.wait(Span::from_secs(1));
    assert!(shell.take_asked().is_empty());
    let records = shell.records.len();
    shell.step(id, Step { wake: Some(Timestamp(1)), ..Step::default() });
    assert_eq!(shell.records.len(), records, "a step that changes nothing is not journaled");
}

#[test]
fn signals_come_once_in_order_and_go_when_they_are_taken() {
    let (mut shell, id) = begun(1000, Step::default());
    for (name, dedupe) in [("a", "1"), ("b", ""), ("a", "1"), ("b", ""), ("c", "2")] {
        assert_eq!(signal(&mut shell, id, name, dedupe), Reply::Ok);
    }
    assert_eq!(shell.take_asked().len(), 4, "the one that came twice is dropped");
    let numbered = |shell: &Shell| -> Vec<(u64, String)> {
        shell.engine.job(id).unwrap().signals().map(|signal| (signal.number, signal.name.clone())).collect()
    };
    let all = [(1, "a"), (2, "b"), (3, "b"), (4, "c")].map(|(number, name)| (number, name.to_owned()));
    assert_eq!(numbered(&shell), all);
    check_restart(&shell);
    shell.step(id, Step { signals_taken: 2, ..Step::default() });
    assert_eq!(numbered(&shell), all[2..]);
    assert_eq!(signal(&mut shell, id, "a", "1"), Reply::Ok);
    assert_eq!(numbered(&shell), all[2..], "ids are known after their signals are taken");
    check_restart(&shell);
}

#[test]
fn signals_nobody_could_take_are_refused() {
    let mut shell = Shell::new();
    let plain = shell.submit(job(), vec![vec![run(1, 1000)]]);
    assert_eq!(
        refused(signal(&mut shell, plain, "a", "")),
        "job j1 takes no signals: its service, video-encode, does not react to them"
    );
    let id = shell.submit(reactive(), vec![]);
    shell.input(Input::Signal {
        token: Token(5),
        job: id,
        name: "big".into(),
        dedupe: String::new(),
        payload: vec![0; SIGNAL_BYTES_MAX].into(),
    });
    let large = refused(shell.replies.last().unwrap().clone());
    assert!(large.starts_with("the signal has 65539 bytes with its name and id, 65536 are the most"), "{large}");
    for number in 0..SIGNALS_MAX {
        assert_eq!(signal(&mut shell, id, "a", &number.to_string()), Reply::Ok);
    }
    assert!(refused(signal(&mut shell, id, "a", "more")).contains("10000 signals its workflow has not taken"));
    shell.step(id, Step { outcome: done(), ..Step::default() });
    assert_eq!(
        refused(signal(&mut shell, id, "a", "")),
        "job j2 is done: its workflow will not look at signals any more"
    );
    assert_eq!(signal(&mut shell, id, "a", "7"), Reply::Ok, "one that was taken in time may be asked about for ever");
    assert_eq!(refused(signal(&mut shell, JobId(9), "a", "")), "there is no job j9");
}

#[test]
fn a_long_log_is_checkpointed_by_what_was_added() {
    let (mut shell, id) = begun(1000, Step::default());
    let entry = |text: &str| Step { log: Some(blob(text)), ..Step::default() };
    (0..500).for_each(|number| shell.step(id, entry(&number.to_string())));
    check_restart(&shell);
    shell.engine.checkpointed();
    shell.step(id, entry("more"));
    let dirty = shell.engine.dirty();
    assert_eq!(dirty[0].history, [HistoryKey { kind: HistoryKind::Log, part: 7 }]);
    assert!(dirty[0].parts.is_empty() && dirty[0].header);
    assert_eq!(shell.engine.job(id).unwrap().log().len(), 501);
    shell.step(id, Step { snapshot: true, ..entry("all of it") });
    assert_eq!(shell.engine.job(id).unwrap().log(), [blob("all of it")]);
    check_restart(&shell);
}

#[test]
fn a_failed_job_goes_on_when_it_is_retried_and_its_workflow_knows() {
    let (mut shell, id) = begun(1000, start(vec![group("encoding", vec![run(2, 1000)])]));
    shell.fail(task(id, 0), Class::Input);
    shell.step(id, Step::end(Outcome::Failed { failure: failure(Class::Input) }));
    shell.report(task(id, 1), Report::Returned { reason: revoke::CANCELLED.into() });
    assert_eq!(shell.job_state(id), "failed");
    shell.take_asked();
    shell.input(Input::Retry { token: Token(1), job: id });
    assert_eq!((shell.job_state(id), shell.take_asked()), ("queued", vec![id]));
    assert_eq!(shell.engine.job(id).unwrap().retries_asked(), 1);
    assert_eq!((shell.state(task(id, 0)), shell.state(task(id, 1))), ("failed", "cancelled"), "they stay as they are");
    check_restart(&shell);
    shell.step(id, start(vec![group("encoding", vec![run(1, 1000)])]));
    shell.finish(task(id, 2), Span::from_secs(1));
    shell.step(id, Step { outcome: done(), ..Step::default() });
    assert_eq!(shell.job_state(id), "done");
}

#[test]
fn a_cancelled_job_does_not_listen_to_its_workflow() {
    let (mut shell, id) = begun(1000, start(vec![group("encoding", vec![run(1, 1000)])]));
    shell.input(Input::Cancel { token: Token(1), job: id, reason: "enough".into() });
    let records = shell.records.len();
    shell.step(id, start(vec![group("more", vec![run(1, 1000)])]));
    assert_eq!((shell.records.len(), shell.job_state(id)), (records, "cancelling"));
    shell.report(task(id, 0), Report::Returned { reason: revoke::CANCELLED.into() });
    assert_eq!(shell.job_state(id), "cancelled");
    assert!(shell.take_asked().is_empty());
}

#[test]
fn a_workflow_that_makes_no_sense_fails_its_job() {
    let (mut shell, id) = begun(1000, Step { cancel: vec![0], ..Step::default() });
    let failure = shell.engine.job(id).unwrap().failure().unwrap();
    assert_eq!((failure.class, failure.code.as_str()), (Class::Internal, "bad_step"));
    let (mut plain, id) = (Shell::new(), JobId(1));
    let mut out = Vec::new();
    plain.engine.handle(plain.now, Input::Submit { token: Token(1), job: job() }, &mut out);
    plain.step(id, Step::default());
    assert_eq!(plain.engine.job(id).unwrap().failure().unwrap().code, "bad_step");
    shell.wait(Span::ZERO);
}

#[test]
fn answers_of_plain_workflows_are_taken_too() {
    let mut shell = Shell::new();
    shell.worker("w", 1000);
    let id = shell.submit(reactive(), vec![]);
    shell.input(Input::Advance { job: id, next: Next::Phase { name: "encoding".into(), tasks: vec![run(2, 500)] } });
    assert_eq!(shell.job_state(id), "running");
    shell.input(Input::Advance { job: id, next: Next::Fail { failure: failure(Class::Spec) } });
    assert_eq!(shell.job_state(id), "cancelling");
}

#[test]
fn an_explanation_tells_of_all_phases_that_go_on() {
    let groups = vec![group("encoding", vec![run(3, 1000)]), group("sound", vec![run(1, 1000)])];
    let (mut shell, id) = begun(1000, start(groups));
    shell.finish(task(id, 0), Span::from_secs(1));
    shell.step(id, Step::default());
    let (reason, text) = shell.explain(id);
    assert_eq!(reason, "running");
    assert!(text.starts_with("encoding, sound: 2 tasks with workers, 1 waiting, 1 of 4 done"), "{text}");
}

#[test]
fn in_the_tail_of_a_reactive_job_stragglers_of_any_phase_get_a_copy() {
    let mut shell = Shell::patient();
    shell.worker("a", 4000);
    let id = shell.submit(reactive(), vec![]);
    shell.step(id, start(vec![group("encoding", vec![run(3, 1000)])]));
    (0..3).for_each(|index| shell.start(task(id, index)));
    shell.wait(Span::from_secs(5));
    shell.finish(task(id, 0), Span::from_secs(5));
    shell.step(id, start(vec![group("sound", vec![run(1, 1000)])]));
    shell.start(task(id, 3));
    shell.finish(task(id, 3), Span::from_secs(5));
    shell.step(id, Step::default());
    shell.finish(task(id, 1), Span::from_secs(5));
    shell.step(id, Step::default());
    shell.worker("b", 4000);
    (0..30).for_each(|_| shell.wait(Span::from_secs(10)));
    assert_eq!(shell.last_lease("b").map(|(task, _)| task), Some(task(id, 2)));
    check_restart(&shell);
}

#[test]
fn a_job_of_hundreds_of_phases_keeps_its_counts() {
    let (mut shell, id) = begun(1000, Step::default());
    for round in 0..300 {
        shell.step(id, start(vec![group("encoding", vec![run(1, 1000)])]));
        shell.finish(task(id, round), Span::from_secs(1));
    }
    let job = shell.engine.job(id).unwrap();
    assert_eq!((job.phases().len(), job.counts().done, job.counts().open()), (300, 300, 0));
    check_restart(&shell);
}

#[test]
fn a_first_lease_long_after_the_beginning_is_in_the_next_checkpoint() {
    let mut shell = Shell::new();
    let id = shell.submit(reactive(), vec![]);
    shell.step(id, Step::default());
    shell.step(id, start(vec![group("encoding", vec![run(1, 1000)])]));
    shell.engine.checkpointed();
    shell.worker("w", 1000);
    let started = shell.engine.job(id).unwrap().started();
    assert_eq!((shell.job_state(id), started), ("running", Some(shell.now)));
    assert!(shell.engine.dirty()[0].header, "when it started is in its header");
}

#[test]
fn a_job_that_rests_is_not_asked_after_a_restart_but_when_its_time_comes_or_it_hears_something() {
    let (mut shell, id) = begun(1000, Step::default());
    let wake = shell.now + Span::from_secs(60);
    shell.step(id, Step { log: Some(blob("sleeps")), wake: Some(wake), rests: true, ..Step::default() });
    for mut engine in restarted(&shell) {
        let mut out = Vec::new();
        engine.resume(shell.now, &mut out);
        assert_eq!(asked(&out), 0);
        engine.handle(wake, Input::Tick, &mut out);
        assert_eq!(asked(&out), 1);
    }
    for mut engine in restarted(&shell) {
        let mut out = Vec::new();
        engine.resume(wake + Span::from_secs(60), &mut out);
        engine.handle(wake + Span::from_secs(60), Input::Tick, &mut out);
        assert_eq!(asked(&out), 1, "its time came while there was no server");
    }
    signal(&mut shell, id, "go", "1");
    for mut engine in restarted(&shell) {
        let mut out = Vec::new();
        engine.resume(shell.now, &mut out);
        assert_eq!(asked(&out), 1, "a signal that it has not taken");
    }
    shell.step(id, Step { signals_taken: 1, wake: Some(wake), ..Step::default() });
    check_restart(&shell);
    let failure = Failure::new(Class::Spec, "given_up", "its workflow gives up");
    shell.step(id, Step { rests: true, outcome: Some(Outcome::Failed { failure }), ..Step::default() });
    shell.input(Input::Retry { token: Token(6), job: id });
    check_restart(&shell);
}
