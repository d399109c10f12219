//! Calls that are handed to one executor together, and yet start, end, fail and are stopped one by one.

use std::time::{Duration, Instant, SystemTime};

use spool_proto::wire::v1::{self, report};

use super::fleet::{Session, ahead, keyed, lease, scripted};
use super::{Bench, answer, bench_batching, failure, returned};

const KEY: &str = "media.probe";
/// So long that nothing here ever waits too long behind others.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(1);

/// Leases of tasks 1, 2, … that share an executor.
fn together(b: &Bench, scripts: &[&str]) -> Vec<v1::Lease> {
    let lease = |(task, script): (u32, &&str)| keyed(lease(task, &scripted(b.dir.path(), script)), KEY, SHORT);
    (1..).zip(scripts).map(lease).collect()
}

/// The next verdicts in order of their tasks; starts come between them.
async fn verdicts(session: &mut Session, count: usize) -> Vec<(u32, String)> {
    let mut verdicts = Vec::new();
    while verdicts.len() < count {
        let (task, kind) = session.verdict().await;
        let text = match &kind {
            report::Kind::Finished(_) => "done".to_owned(),
            report::Kind::Failed(_) => failure(&kind),
            _ => returned(&kind).to_owned(),
        };
        verdicts.push((task, text));
    }
    verdicts.sort_unstable();
    verdicts
}

fn told(verdicts: &[(u32, &str)]) -> Vec<(u32, String)> {
    verdicts.iter().map(|(task, text)| (*task, (*text).to_owned())).collect()
}

#[tokio::test]
async fn calls_of_a_batch_are_answered_as_they_end() {
    let mut b = bench_batching(1000, &[], LONG).await;
    let mut session = b.fleet.session().await;
    let leases = together(&b, &["write 10", "fail", "work 1", "hang"]);
    session.lease(leases.clone()).await;
    let ended = verdicts(&mut session, 3).await;
    assert_eq!(ended, told(&[(1, "done"), (2, "input/scripted"), (3, "done")]), "while the last runs");
    session.revoke(&leases[3], "cancelled").await;
    assert_eq!(verdicts(&mut session, 1).await, told(&[(4, "cancelled")]));
    assert!(b.dir.path().join("artifacts/chunk.f101.piece").exists());
}

/// What is sent ahead is overtaken by what is to run now, unless it is with an executor already: tasks in order of their
/// starts, when the last of them is sent while the first runs.
async fn order(batch_target: Duration, change: impl Fn(&mut Vec<v1::Lease>)) -> Vec<u32> {
    let mut b = bench_batching(1000, &[], batch_target).await;
    let mut session = b.fleet.session().await;
    let mut leases = together(&b, &["work 300", "work 1", "work 2", "work 3"]);
    change(&mut leases);
    let last = leases.pop().unwrap();
    session.lease(leases.into_iter().map(ahead).collect()).await;
    let mut order = vec![session.start().await.0];
    session.lease(vec![last]).await;
    while order.len() < 4 {
        if let (task, report::Kind::Started(_)) = session.next().await.unwrap() {
            order.push(task);
        }
    }
    order
}

#[tokio::test]
async fn a_batch_is_cut_by_target_key_need_and_deadline() {
    assert_eq!(order(LONG, |_| {}).await, [1, 2, 3, 4], "all with one executor");
    assert_eq!(order(Duration::ZERO, |_| {}).await, [1, 4, 2, 3], "batches are off");
    assert_eq!(order(LONG, |leases| leases[1].warm_key = "media.index".into()).await, [1, 4, 2, 3]);
    assert_eq!(order(LONG, |leases| leases[1].estimate_us = Some(60_000_000)).await, [1, 4, 2, 3], "a long one");
    let unknown = |leases: &mut Vec<v1::Lease>| leases.iter_mut().for_each(|lease| lease.estimate_us = None);
    assert_eq!(order(LONG, unknown).await, [1, 4, 2, 3], "nobody knows how long they take");
    let need = |leases: &mut Vec<v1::Lease>| {
        leases[1].resources = Some((&spool_proto::resources::Resources::cpu_memory(900, 0)).into());
    };
    assert_eq!(order(LONG, need).await, [1, 4, 2, 3]);
    let hurried = |leases: &mut Vec<v1::Lease>| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        leases[0].estimate_us = Some(20_000_000);
        leases[1].deadline_us = Some(u64::try_from((now + Duration::from_secs(15)).as_micros()).unwrap());
    };
    assert_eq!(order(LONG, hurried).await, [1, 4, 2, 3], "behind the first it would be late");
}

#[tokio::test]
async fn a_crash_costs_only_the_call_that_crashed() {
    let mut b = bench_batching(1000, &[], LONG).await;
    let mut session = b.fleet.session().await;
    session.lease(together(&b, &["work 1", "abort", "work 2", "segv", "work 3"])).await;
    let mut verdicts = Vec::new();
    for _ in 0..5 {
        match session.verdict().await {
            (task, report::Kind::Failed(failed)) => {
                assert_eq!((failed.class.as_str(), failed.code.as_str()), ("internal", "executor_died"));
                assert!(failed.evidence.contains("about to"), "{}", failed.evidence);
                verdicts.push((task, false));
            }
            (task, kind) => {
                answer(&kind);
                verdicts.push((task, true));
            }
        }
    }
    verdicts.sort_unstable();
    assert_eq!(verdicts, [(1, true), (2, false), (3, true), (4, false), (5, true)]);
}

#[tokio::test]
async fn a_call_is_taken_out_of_its_batch_before_it_starts() {
    let mut b = bench_batching(1000, &[], LONG).await;
    let mut session = b.fleet.session().await;
    let leases = together(&b, &["work 500", "hang", "work 1"]);
    session.lease(leases.clone()).await;
    session.started(1).await;
    session.revoke(&leases[1], "retracted").await;
    let (task, kind) = session.next().await.unwrap();
    assert_eq!((task, returned(&kind)), (2, "retracted"), "while the first still runs");
    assert_eq!(verdicts(&mut session, 2).await, told(&[(1, "done"), (3, "done")]));
}

#[tokio::test]
async fn when_the_running_call_of_a_batch_is_stopped_the_others_go_on() {
    let mut b = bench_batching(1000, &[], LONG).await;
    let mut session = b.fleet.session().await;
    let mut leases = together(&b, &["hang", "hang", "work 1", "work 2"]);
    leases[1].timeout_us = 300_000;
    session.lease(leases.clone()).await;
    session.started(1).await;
    session.revoke(&leases[0], "cancelled").await;
    let ended = verdicts(&mut session, 4).await;
    let expected = [(1, "cancelled"), (2, "capacity/timed_out"), (3, "done"), (4, "done")];
    assert_eq!(ended, told(&expected), "the limits are each call's own");
}

#[tokio::test]
async fn what_waits_too_long_behind_a_call_runs_elsewhere() {
    let mut b = bench_batching(2000, &[], Duration::from_millis(100)).await;
    let mut session = b.fleet.session().await;
    session.lease(together(&b, &["hang", "work 1", "work 2", "work 3"])).await;
    let ended = verdicts(&mut session, 3).await;
    assert_eq!(ended, told(&[(2, "done"), (3, "done"), (4, "done")]), "though the first never ends");
}

#[tokio::test]
async fn a_worker_that_leaves_gives_back_what_has_not_started() {
    let mut b = bench_batching(1000, &[], LONG).await;
    let mut session = b.fleet.session().await;
    session.lease(together(&b, &["work 400", "work 1", "work 2"])).await;
    session.started(1).await;
    b.worker.leave();
    let ended = verdicts(&mut session, 3).await;
    assert_eq!(ended, told(&[(1, "done"), (2, "leaving"), (3, "leaving")]));
    assert_eq!(session.next().await, None);
}

#[tokio::test]
async fn an_executor_is_replaced_when_it_is_spent_in_the_middle_of_a_batch() {
    let mut b = bench_batching(1000, &[], LONG).await;
    let mut session = b.fleet.session().await;
    let call = scripted(b.dir.path(), "work 0");
    let begin = Instant::now();
    session.lease((0..200).map(|task| keyed(lease(task, &call), KEY, SHORT)).collect()).await;
    let ended = verdicts(&mut session, 200).await;
    assert!((0..).zip(&ended).all(|(task, told)| *told == (task, "done".to_owned())), "{ended:?}");
    eprintln!("200 media calls in {:?}", begin.elapsed());
}
