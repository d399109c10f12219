//! Why a job is where it is.

use spool_core::Config;
use spool_core::io::{Incarnation, Input, NewJob, Report, TaskRun, Token};
use spool_proto::failure::Class;
use spool_proto::ids::JobId;
use spool_proto::pool::{Class as Patience, Hold, PoolSpec};
use spool_proto::time::Span;

use crate::harness::*;
use crate::pools::guaranteed;

fn of_backend(count: u32, cpu: u64, backend: &str) -> TaskRun {
    let mut run = run(count, cpu);
    run.task.shape.backend = backend.into();
    run
}

fn estimate(shell: &Shell, job: JobId) -> Option<Span> {
    shell.engine.explain(shell.now, job).unwrap().estimate
}

#[test]
fn the_most_severe_reason_is_named_with_its_numbers() {
    let mut shell = Shell::new();
    let first = shell.submit(job(), vec![vec![run(2, 1000)]]);
    let (reason, text) = shell.explain(first);
    assert_eq!(reason, "no_workers");
    assert!(text.contains("none of 0 known workers"), "{text}");

    shell.worker("w", 1000);
    assert_eq!(shell.explain(first).0, "running");
    let second = shell.submit(job(), vec![vec![run(3, 1000)]]);
    let third = shell.submit(job(), vec![vec![run(1, 1000)]]);
    let (reason, text) = shell.explain(third);
    assert_eq!(reason, "waiting_for_worker");
    assert!(text.contains("3 ahead"), "{text}");
    assert_eq!(shell.engine.explain(shell.now, second).unwrap().queue_position, Some(0));

    let large = shell.submit(job(), vec![vec![run(1, 9000)]]);
    let (reason, text) = shell.explain(large);
    assert_eq!(reason, "never_fits");
    assert!(text.contains("cpu 9 of at most 1"), "{text}");

    let mut tasks = run(1, 1000);
    tasks.task.shape.backend = "nvenc/h264".into();
    let other = shell.submit(job(), vec![vec![tasks, run(1, 9000)]]);
    let (reason, text) = shell.explain(other);
    assert_eq!(reason, "no_such_backend");
    assert!(text.contains("nvenc/h264"), "{text}");
}

#[test]
fn backoff_and_ends_are_reasons_too() {
    let mut shell = Shell::new();
    shell.worker("w", 1000);
    let id = shell.submit(job(), vec![vec![run(1, 1000)]]);
    shell.fail(task(id, 0), Class::Transient);
    let explanation = shell.engine.explain(shell.now, id).unwrap();
    assert_eq!(explanation.reason, "backoff");
    assert!(explanation.details.iter().any(|line| line.contains("attempt 1 on w failed (transient)")));
    let wakeup = shell.engine.next_wakeup().unwrap();
    shell.wait(wakeup.since(shell.now));
    assert_eq!(shell.explain(id).0, "running");
    shell.input(Input::Cancel { token: Token(1), job: id, reason: "why not".into() });
    let (reason, text) = shell.explain(id);
    assert_eq!(reason, "cancelling");
    assert!(text.contains("why not") && text.contains("1 task"), "{text}");
    shell.report(task(id, 0), Report::Returned { reason: "cancelled".into() });
    assert_eq!(shell.explain(id).0, "cancelled");
    assert!(shell.engine.explain(shell.now, JobId(9)).is_none());
}

#[test]
fn the_end_is_told_with_its_reason() {
    let mut shell = Shell::new();
    shell.worker("w", 1000);
    let good = shell.submit(job(), vec![vec![run(1, 1000)]]);
    shell.finish(task(good, 0), Span::from_secs(1));
    assert_eq!(shell.explain(good).0, "done");
    let bad = shell.submit(job(), vec![vec![run(1, 1000)]]);
    shell.fail(task(bad, 0), Class::Input);
    let (reason, text) = shell.explain(bad);
    assert_eq!(reason, "failed");
    assert!(text.contains("bad luck"), "{text}");
}

#[test]
fn amounts_have_the_units_of_tables() {
    let mut shell = Shell::new();
    shell.worker("w", 1000);
    let mut large = run(1, 1500);
    large.task.shape.resources.memory = 2048;
    let id = shell.submit(job(), vec![vec![large]]);
    let text = shell.explain(id).1;
    assert!(text.contains("needs cpu=1500m,memory=2Gi") && text.contains("cpu 1500m of at most 1"), "{text}");
}

#[test]
fn a_worker_that_could_but_is_not_asked_is_named() {
    let mut shell = Shell::new();
    shell.worker("small", 1000);
    shell.worker("large", 8000);
    shell.cordon("large", true);
    let id = shell.submit(job(), vec![vec![run(1, 4000)]]);
    let (reason, text) = shell.explain(id);
    assert_eq!(reason, "never_fits");
    assert!(text.contains("worker large could, but is cordoned"), "{text}");
    let input = Input::Disconnected { worker: "large".into(), incarnation: W };
    shell.input(input);
    assert!(shell.explain(id).1.contains("worker large could, but is not connected"), "{}", shell.explain(id).1);
    let other = shell.submit(job(), vec![vec![of_backend(1, 1000, "nvenc/h264")]]);
    let (reason, text) = shell.explain(other);
    assert_eq!(reason, "no_such_backend");
    assert!(!text.contains("could"), "nobody has it: {text}");
    let gone = shell.submit(job(), vec![vec![of_backend(1, 4000, "cpu/libx264")]]);
    shell.register("large", Incarnation(2), 8000, vec![]);
    shell.cordon("large", false);
    assert_eq!((shell.explain(id).0, shell.explain(gone).0), ("running".into(), "running".into()));
}

#[test]
fn of_equally_severe_reasons_that_of_the_first_task_is_told() {
    let mut shell = Shell::new();
    shell.worker("w", 1000);
    let id = shell.submit(job(), vec![vec![of_backend(1, 1000, "z"), of_backend(1, 1000, "a")]]);
    assert!(shell.explain(id).1.contains("the backend z"), "{}", shell.explain(id).1);
}

#[test]
fn what_waits_is_told_how_many_workers_could_hold_it() {
    let mut shell = Shell::new();
    shell.worker("a", 1000);
    shell.worker("b", 2000);
    shell.worker("c", 2000);
    shell.submit(NewJob { priority: 90, ..job() }, vec![vec![run(20, 1000)]]);
    let id = shell.submit(job(), vec![vec![run(3, 2000)]]);
    let (reason, text) = shell.explain(id);
    assert_eq!(reason, "waiting_for_worker");
    assert!(
        text.contains("3 tasks waiting for room") && text.contains("of 2 that could hold it none has cpu=2"),
        "{text}"
    );
}

#[test]
fn quota_that_is_kept_for_who_was_owed_it_is_told() {
    let mut shell = Shell::patient();
    let capped = PoolSpec { borrow: [("cpu".to_owned(), 0)].into(), ..guaranteed(2000) };
    shell.apply(&[("s", capped), ("s/a", guaranteed(1000)), ("s/b", guaranteed(0))]);
    shell.worker("w", 8000);
    let b = shell.submit_to("s/b", vec![run(4, 1000)]);
    let a = shell.submit_to("s/a", vec![run(1, 1000)]);
    assert_eq!(shell.explain(a).0, "waiting_for_quota");
    assert_eq!(shell.preempted_within(Span::from_secs(10), &["w"]), [task(b, 1)]);
    let (reason, text) = shell.explain(a);
    assert_eq!(reason, "preempting");
    assert!(text.contains("s/a is owed room: 1 task was asked to give it back, for 1 of its tasks"), "{text}");
    let lines = shell.engine.queue(shell.now);
    let line = lines.iter().find(|line| line.pool == "s/b".into()).unwrap();
    assert_eq!((line.reason.as_str(), line.tasks), ("waiting_for_quota", 2));
    assert!(
        line.text.contains("pool s: cpu 2 used of at most 2, 1 more needed; 1 is kept for others"),
        "{}",
        line.text
    );
    shell.give_back();
    assert_eq!(shell.explain(a).0, "running", "{}", shell.explain(a).1);
}

#[test]
fn overload_is_a_reason() {
    let mut shell = Shell::with(Config { overload: [3, 6, 1000], ..Config::default() });
    shell.apply(&[("a", guaranteed(2000)), ("b", guaranteed(0))]);
    shell.worker("w", 2000);
    shell.submit_to("a", vec![run(2, 1000)]);
    let class = Patience::Opportunistic { start_by: shell.now + Span::from_secs(3600) };
    let late = shell.submit(NewJob { class, ..job() }, vec![vec![run(4, 1000)]]);
    assert_eq!(shell.explain(late).0, "opportunistic");
    assert!(shell.explain(late).1.contains("4 tasks on this server"), "{}", shell.explain(late).1);
    assert_eq!(estimate(&shell, late), None, "it is not a matter of waiting its turn");
}

#[test]
fn what_does_not_pass_by_itself_is_not_estimated() {
    let mut shell = Shell::new();
    shell.worker("w", 1000);
    let busy = shell.submit(job(), vec![vec![run(4, 1000)]]);
    let id = shell.submit(job(), vec![vec![run(1, 1000)]]);
    for index in 0..2 {
        shell.now = shell.now + Span::from_secs(2);
        shell.finish(task(busy, index), Span::from_secs(2));
    }
    assert!(estimate(&shell, id).is_some_and(|wait| wait > Span::ZERO), "{:?}", estimate(&shell, id));
    let (token, pool) = (Token(2), "default".into());
    let hold = Input::HoldPool { token, pool, hold: Hold::Held, by: "ann".into(), reason: String::new() };
    shell.input(hold);
    assert_eq!((shell.explain(id).0.as_str(), estimate(&shell, id)), ("held", None));
}

#[test]
fn an_estimate_follows_how_long_nothing_has_started() {
    let mut shell = Shell::patient();
    shell.worker("w", 1000);
    let busy = shell.submit(job(), vec![vec![run(4, 1000)]]);
    let id = shell.submit(job(), vec![vec![run(1, 1000)]]);
    shell.now = shell.now + Span::from_secs(2);
    shell.finish(task(busy, 0), Span::from_secs(2));
    let soon = estimate(&shell, id).unwrap();
    shell.now = shell.now + Span::from_secs(600);
    let later = estimate(&shell, id).unwrap();
    assert!(later.0 > soon.0.saturating_mul(10), "{soon:?}, and ten minutes later {later:?}");
}

#[test]
fn of_what_runs_attempts_and_workers_are_told() {
    let mut shell = Shell::new();
    shell.worker("w", 1000);
    let id = shell.submit(job(), vec![vec![run(2, 1000)]]);
    shell.fail(task(id, 0), Class::Transient);
    let details = shell.details(id);
    assert!(details.contains("attempt 1 on w failed (transient): ") && details.contains("bad luck"), "{details}");
    assert!(details.contains("running on w, attempt 1") && details.contains("1 of 10 retries used"), "{details}");
    shell.report(task(id, 1), Report::Returned { reason: "simulated".into() });
    assert!(!shell.details(id).contains("attempt 2"), "what was given back is no attempt: {}", shell.details(id));
}
