//! Why a job is where it is.

use spool_core::io::Input;
use spool_proto::failure::Class;

use crate::harness::*;

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
    assert!(text.contains("cpu 9000 of at most 1000"), "{text}");

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
    shell.input(Input::Cancel { token: spool_core::io::Token(1), job: id, reason: "why not".into() });
    let (reason, text) = shell.explain(id);
    assert_eq!(reason, "cancelling");
    assert!(text.contains("why not") && text.contains("1 task"), "{text}");
    shell.report(task(id, 0), spool_core::io::Report::Returned { reason: "cancelled".into() });
    assert_eq!(shell.explain(id).0, "cancelled");
    assert!(shell.engine.explain(shell.now, spool_proto::ids::JobId(9)).is_none());
}
