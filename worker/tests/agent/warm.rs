//! Executors that stand ready for what is to come, and what is told of them.

use std::time::Duration;

use spool_proto::resources::Resources;
use spool_proto::wire::v1;

use super::fleet::{Fleet, Session, keyed, lease, noop, scripted};
use super::{Bench, Victim, answer, bench, bench_with, children, failure, is_running, kill};

const KEY: &str = "media.probe/cpu/good";
const LATER: Duration = Duration::from_secs(3600);

fn call(b: &Bench, task: u32, key: &str, script: &str) -> v1::Lease {
    keyed(lease(task, &scripted(b.dir.path(), script)), key, Duration::from_secs(1))
}

/// Asks for one that is warm for the key, and waits until all is as asked. What lacks is prepared in the order asked: a key that is
/// new each time, and last, shows that those before it are there.
async fn one_is_warm(session: &mut Session, mark: u32) {
    let mark = format!("mark.{mark}");
    session.targets(&[(KEY, 1, 1, LATER), (&mark, 1, 1, LATER)]).await;
    session.warm_until(&mark, |idle| idle == 1).await;
}

/// How the call of this lease started.
async fn start_of(session: &mut Session, lease: v1::Lease) -> v1::Started {
    let task = lease.task;
    session.lease(vec![lease]).await;
    let (started, how) = session.start().await;
    assert_eq!(started, task);
    let (ended, _) = session.verdict().await;
    assert_eq!(ended, task);
    how
}

#[tokio::test]
async fn a_start_is_cold_until_the_executor_has_run_the_key() {
    let mut b = bench(1000).await;
    let mut session = b.fleet.session().await;
    let first = start_of(&mut session, call(&b, 1, KEY, "work 1")).await;
    assert!(!first.warm && first.cold_us.is_some(), "{first:?}");
    let again = start_of(&mut session, call(&b, 2, KEY, "work 1")).await;
    assert!(again.warm && again.cold_us.is_none(), "{again:?}");
    let other = start_of(&mut session, call(&b, 3, "media.probe/cpu/better", "abort")).await;
    assert!(!other.warm && other.cold_us.is_some(), "{other:?}");
    let after_a_crash = start_of(&mut session, call(&b, 4, KEY, "work 1")).await;
    assert!(!after_a_crash.warm && after_a_crash.cold_us.is_some(), "{after_a_crash:?}");
    let inline = start_of(&mut session, keyed(lease(5, &noop(1000, false)), "bench.noop", LATER)).await;
    assert!(!inline.warm && inline.cold_us.is_none(), "the worker runs it by itself: {inline:?}");
}

#[tokio::test]
async fn what_is_asked_to_be_warm_is_made_so_and_the_first_call_finds_it() {
    let mut b = bench(1000).await;
    let mut session = b.fleet.session().await;
    session.targets(&[(KEY, 2, 2, LATER), ("media.plan", 1, 1, LATER)]).await;
    session.warm_until(KEY, |idle| idle == 2).await;
    session.warm_until("media.plan", |idle| idle == 1).await;
    assert!(start_of(&mut session, call(&b, 1, KEY, "work 1")).await.warm);
    let other = start_of(&mut session, call(&b, 2, "media.probe/cpu/better", "work 1")).await;
    assert!(!other.warm, "what is reserved for one key serves no other: {other:?}");
    session.warm_until(KEY, |idle| idle == 2).await;
}

#[tokio::test]
async fn the_minimum_is_kept_while_calls_run_and_after_they_crash() {
    let mut b = bench(2000).await;
    let mut session = b.fleet.session().await;
    one_is_warm(&mut session, 0).await;
    session.lease(vec![call(&b, 1, KEY, "hang")]).await;
    assert!(session.start().await.1.warm);
    for task in 2..5 {
        one_is_warm(&mut session, task).await;
        session.lease(vec![call(&b, task, KEY, "abort")]).await;
        assert!(session.start().await.1.warm);
        assert_eq!(failure(&session.verdict().await.1), "internal/executor_died");
    }
}

#[tokio::test]
async fn one_that_is_killed_while_idle_is_replaced() {
    let mut fleet = Fleet::start().await;
    let dir = tempfile::tempdir().unwrap();
    let worker = Victim::start(&fleet, dir.path());
    let mut session = fleet.session().await;
    one_is_warm(&mut session, 0).await;
    for executor in children(worker.0.id()) {
        kill(executor);
        while is_running(executor) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    one_is_warm(&mut session, 1).await;
    let lease = keyed(lease(1, &scripted(dir.path(), "work 1")), KEY, Duration::from_secs(1));
    assert!(start_of(&mut session, lease).await.warm);
}

#[tokio::test]
async fn those_beyond_the_minimum_stay_for_the_idle_timeout() {
    let mut b = bench(1000).await;
    let mut session = b.fleet.session().await;
    session.targets(&[(KEY, 0, 3, Duration::from_millis(700))]).await;
    let mut leases: Vec<_> = (1..=4).map(|task| call(&b, task, KEY, "work 300")).collect();
    for lease in &mut leases {
        lease.resources = Some((&Resources::cpu_memory(250, 0)).into());
    }
    session.lease(leases).await;
    for _ in 1..=4 {
        answer(&session.verdict().await.1);
    }
    session.warm_until(KEY, |idle| idle == 3).await;
    session.warm_until(KEY, |idle| idle == 1).await;
}

#[tokio::test]
async fn warm_executors_are_told_of_on_every_new_stream() {
    let mut b = bench(1000).await;
    let mut session = b.fleet.session().await;
    session.targets(&[(KEY, 1, 1, LATER)]).await;
    session.warm_until(KEY, |idle| idle == 1).await;
    drop(session);
    let mut session = b.fleet.session().await;
    session.warm_until(KEY, |idle| idle == 1).await;
}

#[tokio::test]
async fn preparing_makes_way_for_calls_and_what_cannot_be_prepared_hinders_nobody() {
    let mut b = bench(1000).await;
    let mut session = b.fleet.session().await;
    let (stuck, none) = ("media.probe/cpu/stuck", "media.probe/cpu/none");
    session.targets(&[(none, 1, 1, LATER), (stuck, 1, 1, LATER), (KEY, 1, 1, LATER)]).await;
    let mut leases: Vec<_> = (1..=8).map(|task| call(&b, task, "media.index", "work 100")).collect();
    for lease in &mut leases {
        lease.resources = Some((&Resources::cpu_memory(125, 0)).into());
    }
    session.lease(leases).await;
    for _ in 1..=8 {
        answer(&session.verdict().await.1);
    }
    session.targets(&[(none, 1, 1, LATER), (KEY, 1, 1, LATER)]).await;
    session.warm_until(KEY, |idle| idle == 1).await;
}

#[tokio::test]
async fn a_self_test_proves_all_backends_anew_beside_what_runs() {
    let flag = tempfile::NamedTempFile::new().unwrap();
    let fickle = format!("cpu/if:{}", flag.path().display());
    let mut b = bench_with(1000, &["cpu/good", &fickle, "cpu/better"]).await;
    let mut session = b.fleet.session().await;
    assert_eq!(session.register.backends.len(), 3);
    let hang = call(&b, 1, KEY, "hang");
    session.lease(vec![hang.clone()]).await;
    session.started(1).await;
    assert_eq!(session.self_tested().await, None);
    drop(flag);
    let failure = session.self_tested().await.unwrap();
    assert_eq!(failure.code, "no_such_encoder");
    assert!(failure.message.contains(&fickle), "{}", failure.message);
    session.revoke(&hang, "cancelled").await;
    assert_eq!(super::returned(&session.verdict().await.1), "cancelled", "it ran all the while");
}
