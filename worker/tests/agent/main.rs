//! A worker and a scripted server over real gRPC.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::Path;
use std::time::{Duration, Instant};

use spool_proto::call::{Answer, Args, Call, PublishArgs, Value};
use spool_proto::resources::Resources;
use spool_proto::uri;
use spool_proto::wire::v1::{self, report, server_message};
use spool_worker::executor::Sandbox;
use spool_worker::{BATCH_TARGET, Exit, Worker, WorkerHandle, WorkerOptions};

mod batch;
#[path = "../common/mod.rs"]
mod common;
mod fleet;
mod warm;
use common::test_worker;
use fleet::{Fleet, PATIENCE, Session, ahead, lease, noop, scripted};

struct Bench {
    fleet: Fleet,
    worker: WorkerHandle,
    dir: tempfile::TempDir,
}

async fn bench(cpu: u64) -> Bench {
    bench_with(cpu, &[]).await
}

async fn bench_with(cpu: u64, backends: &[&str]) -> Bench {
    bench_batching(cpu, backends, BATCH_TARGET).await
}

async fn bench_batching(cpu: u64, backends: &[&str], batch_target: Duration) -> Bench {
    let fleet = Fleet::start().await;
    let dir = tempfile::tempdir().unwrap();
    let worker = Worker::start(WorkerOptions {
        name: "w1".into(),
        server: spool_worker::channel(&fleet.url()).unwrap(),
        capacity: Some(Resources::cpu_memory(cpu, 1000)),
        scratch: dir.path().join("scratch"),
        program: test_worker(),
        args: vec!["exec".into()],
        backends: backends.iter().map(|&name| name.into()).collect(),
        batch_target,
        sandbox: Sandbox::default(),
        read_cache: spool_worker::stores::CACHE_DEFAULT,
        functions: None,
    });
    Bench { worker: worker.await.unwrap(), fleet, dir }
}

async fn ended(mut worker: WorkerHandle) -> Exit {
    tokio::time::timeout(PATIENCE, worker.wait()).await.expect("the worker ends")
}

fn answer(kind: &report::Kind) -> Answer {
    match kind {
        report::Kind::Finished(finished) => serde_json::from_slice(&finished.answer).unwrap(),
        other => panic!("not finished: {other:?}"),
    }
}

fn failure(kind: &report::Kind) -> String {
    match kind {
        report::Kind::Failed(failure) => format!("{}/{}", failure.class, failure.code),
        other => panic!("not failed: {other:?}"),
    }
}

fn returned(kind: &report::Kind) -> &str {
    match kind {
        report::Kind::Returned(returned) => &returned.reason,
        other => panic!("not returned: {other:?}"),
    }
}

/// Folders of calls in a worker's scratch.
fn calls_in_scratch(root: &Path, worker: &str) -> usize {
    let names = |path: &Path| -> Vec<std::ffi::OsString> {
        // An executor's directory may go at any time.
        std::fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name())).collect()
    };
    let own = root.join("scratch").join(worker);
    let (executors, calls): (Vec<_>, Vec<_>) =
        names(&own).into_iter().partition(|name| name.to_string_lossy().starts_with("executor-"));
    let with_executors: usize = executors.iter().map(|executor| names(&own.join(executor)).len()).sum();
    with_executors + calls.iter().filter(|name| *name != "lock").count()
}

#[tokio::test]
async fn a_lease_is_run_and_its_result_reported_with_stored_artifacts() {
    let mut b = bench_with(2000, &["cpu/good", "cpu/none", "cpu/crash", "cpu/better"]).await;
    let mut session = b.fleet.session().await;
    assert_eq!(session.register.backends, ["cpu/good", "cpu/better"]);
    assert_eq!(session.register.capacity, Some((&Resources::cpu_memory(2000, 1000)).into()));
    assert!(b.worker.registered().await);
    session.lease(vec![lease(1, &scripted(b.dir.path(), "write 1000"))]).await;
    session.started(1).await;
    let (task, kind) = session.verdict().await;
    let answer = answer(&kind);
    assert_eq!((task, answer.artifacts.len()), (1, 1));
    let artifact = &answer.artifacts[0];
    assert_eq!(artifact.uri, uri::from_path(&b.dir.path().join("artifacts/chunk.f101.piece")));
    assert_eq!(artifact.hash, blake3::hash(&[b'x'; 1000]).to_hex().to_string());
    assert_eq!(std::fs::read(uri::to_path(&artifact.uri).unwrap()).unwrap().len(), 1000);
    assert_eq!(calls_in_scratch(b.dir.path(), "w1"), 0);
}

#[tokio::test]
async fn failures_are_reported_and_the_worker_goes_on() {
    let mut b = bench(1000).await;
    let mut session = b.fleet.session().await;
    let gone = Call { inputs: vec!["file:///no/such.mov".into()], ..scripted(b.dir.path(), "fail") };
    let ftp = Call { inputs: vec!["ftp://host/film.mov".into()], ..gone.clone() };
    let mut large = lease(6, &noop(0, false));
    large.resources = Some((&Resources::cpu_memory(1001, 0)).into());
    let mut nonsense = lease(7, &noop(0, false));
    nonsense.payload = b"{}".as_slice().into();
    let mut slow = lease(8, &scripted(b.dir.path(), "hang"));
    slow.timeout_us = 200_000;
    let cases = [
        (lease(1, &scripted(b.dir.path(), "abort")), "internal/executor_died"),
        (lease(2, &scripted(b.dir.path(), "fail")), "input/scripted"),
        (lease(3, &gone), "input/source_missing"),
        (lease(4, &ftp), "spec/unsupported_scheme"),
        (large, "host/never_fits"),
        (nonsense, "internal/bad_call"),
        (slow, "capacity/timed_out"),
    ];
    for (lease, expected) in cases {
        let task = lease.task;
        session.lease(vec![lease]).await;
        let (reported, kind) = session.verdict().await;
        assert_eq!((reported, failure(&kind).as_str()), (task, expected));
    }
    session.lease(vec![lease(9, &scripted(b.dir.path(), "work 1"))]).await;
    assert_eq!(session.verdict().await.0, 9);
    assert_eq!(calls_in_scratch(b.dir.path(), "w1"), 0);
}

#[tokio::test]
async fn no_ops_are_answered_in_batches() {
    let mut b = bench(2000).await;
    let mut session = b.fleet.session().await;
    const CALLS: u32 = 20_000;
    let call = noop(0, false);
    let begin = Instant::now();
    for first in (0..CALLS).step_by(1000) {
        session.lease((first..first + 1000).map(|task| lease(task, &call)).collect()).await;
    }
    for task in 0..CALLS {
        let (reported, kind) = session.verdict().await;
        assert_eq!(reported, task, "in order");
        assert_eq!(answer(&kind).value, Value::Noop);
    }
    eprintln!("{:.0} no-ops/s", f64::from(CALLS) / begin.elapsed().as_secs_f64());
    assert!(session.batches <= 200, "{} messages for {CALLS} reports", session.batches);
}

#[tokio::test]
async fn no_ops_go_through_executors_when_asked() {
    let mut b = bench(2000).await;
    let mut session = b.fleet.session().await;
    session.lease((0..500).map(|task| ahead(lease(task, &noop(0, true)))).collect()).await;
    let mut seen: Vec<u32> = Vec::new();
    for _ in 0..500 {
        let (task, kind) = session.verdict().await;
        assert_eq!(answer(&kind).value, Value::Noop);
        seen.push(task);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..500).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_does_not_fit_waits_its_turn() {
    let mut b = bench(1000).await;
    let mut session = b.fleet.session().await;
    let call = scripted(b.dir.path(), "work 100");
    session.lease(vec![lease(1, &call), ahead(lease(2, &call))]).await;
    session.started(1).await;
    assert!(matches!(session.next().await, Some((1, report::Kind::Finished(_)))), "one at a time");
    session.started(2).await;
    assert!(matches!(session.next().await, Some((2, report::Kind::Finished(_)))));
}

#[tokio::test]
async fn calls_go_on_while_the_stream_is_away_and_their_results_are_kept() {
    let mut b = bench(2000).await;
    let mut session = b.fleet.session().await;
    let (short, long) = (scripted(b.dir.path(), "work 300"), scripted(b.dir.path(), "work 1500"));
    session.lease(vec![lease(1, &short), lease(2, &long), ahead(lease(3, &short))]).await;
    session.started(1).await;
    session.started(2).await;
    b.fleet.away.store(true, std::sync::atomic::Ordering::SeqCst);
    drop(session);
    tokio::time::sleep(Duration::from_millis(600)).await;
    b.fleet.away.store(false, std::sync::atomic::Ordering::SeqCst);
    let mut session = b.fleet.session().await;
    let mut held: Vec<_> = session.register.held.iter().map(|h| (h.task_id.as_str(), h.fence, h.running)).collect();
    held.sort_unstable();
    assert_eq!(held, [("j1.1", 101, true), ("j1.2", 102, true), ("j1.3", 103, true)], "the first is done, untold");
    let mut done = Vec::new();
    for _ in 0..3 {
        let (task, kind) = session.verdict().await;
        answer(&kind);
        done.push(task);
    }
    assert_eq!(done, [1, 3, 2]);
}

#[tokio::test]
async fn a_result_that_may_have_been_lost_is_said_again_unless_forgotten() {
    let mut b = bench(1000).await;
    let mut session = b.fleet.session().await;
    session.lease(vec![lease(1, &noop(0, false)), lease(2, &noop(0, false))]).await;
    assert_eq!((session.verdict().await.0, session.verdict().await.0), (1, 2));
    drop(session);
    let mut session = b.fleet.stream().await;
    assert_eq!(session.register.held.len(), 2);
    let forget = session.register.held.iter().filter(|held| held.fence == 101).cloned().collect();
    session.welcome(Duration::from_secs(60), forget).await;
    assert_eq!(session.verdict().await.0, 2);
    session.lease(vec![lease(3, &noop(0, false))]).await;
    assert_eq!(session.verdict().await.0, 3);
}

#[tokio::test]
async fn what_is_revoked_stops_at_once() {
    let mut b = bench(1000).await;
    let mut session = b.fleet.session().await;
    let hang = scripted(b.dir.path(), "hang");
    let (running, waiting, stale) = (lease(1, &hang), ahead(lease(2, &hang)), lease(3, &hang));
    session.lease(vec![running.clone(), waiting.clone()]).await;
    session.started(1).await;
    session.revoke(&waiting, "retracted").await;
    let (task, kind) = session.verdict().await;
    assert_eq!((task, returned(&kind)), (2, "retracted"));
    let begin = Instant::now();
    session.revoke(&running, "cancelled").await;
    let (task, kind) = session.verdict().await;
    assert_eq!((task, returned(&kind)), (1, "cancelled"));
    assert!(begin.elapsed() < Duration::from_secs(2));
    session.lease(vec![stale.clone()]).await;
    session.started(3).await;
    session.revoke(&stale, "stale").await;
    session.lease(vec![lease(4, &noop(0, false))]).await;
    assert_eq!(session.verdict().await.0, 4, "of a stale lease nothing is said, and its room is free");
    assert_eq!(calls_in_scratch(b.dir.path(), "w1"), 0);
}

#[tokio::test]
async fn a_lease_without_word_from_the_server_is_given_up() {
    let mut b = bench(1000).await;
    let session = b.fleet.stream().await;
    session.welcome(Duration::from_millis(600), Vec::new()).await;
    session.lease(vec![lease(1, &scripted(b.dir.path(), "hang"))]).await;
    let session_again = b.fleet.stream().await;
    assert_eq!(session_again.register.held, []);
    assert_eq!(session_again.register.incarnation, session.register.incarnation);
    let begin = Instant::now();
    while calls_in_scratch(b.dir.path(), "w1") > 0 {
        assert!(begin.elapsed() < PATIENCE, "the call was killed and its scratch removed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn with_one_running_and_one_waiting() -> (Bench, Session) {
    let mut b = bench(1000).await;
    let mut session = b.fleet.session().await;
    let work = scripted(b.dir.path(), "work 400");
    session.lease(vec![lease(1, &work), ahead(lease(2, &work))]).await;
    session.started(1).await;
    (b, session)
}

#[tokio::test]
async fn a_drained_worker_finishes_what_runs_and_leaves() {
    for by_server in [true, false] {
        let (b, mut session) = with_one_running_and_one_waiting().await;
        if by_server {
            session.send(server_message::Kind::Drain(v1::Drain { reason: "test".into() })).await;
        } else {
            b.worker.leave();
        }
        let (task, kind) = session.verdict().await;
        assert_eq!((task, returned(&kind)), (2, "leaving"));
        session.lease(vec![lease(3, &noop(0, false))]).await;
        let (task, kind) = session.verdict().await;
        assert_eq!((task, returned(&kind)), (3, "leaving"));
        let (task, kind) = session.verdict().await;
        answer(&kind);
        assert_eq!(task, 1);
        assert_eq!(session.next().await, None, "the stream is closed in order");
        assert_eq!(session.said_leaving, !by_server);
        drop(session);
        assert_eq!(ended(b.worker).await, Exit::Left);
    }
}

#[tokio::test]
async fn a_worker_told_to_stop_now_gives_everything_back() {
    let (b, mut session) = with_one_running_and_one_waiting().await;
    b.worker.leave();
    b.worker.stop_now();
    let mut verdicts = [session.verdict().await, session.verdict().await];
    verdicts.sort_by_key(|(task, _)| *task);
    assert_eq!(verdicts.each_ref().map(|(task, kind)| (*task, returned(kind))), [(1, "leaving"), (2, "leaving")]);
    assert_eq!(session.next().await, None);
    drop(session);
    assert_eq!(ended(b.worker).await, Exit::Stopped);
}

#[tokio::test]
async fn a_replaced_worker_goes_without_a_word() {
    let (b, mut session) = with_one_running_and_one_waiting().await;
    session.send(server_message::Kind::Replaced(v1::Replaced {})).await;
    assert_eq!(ended(b.worker).await, Exit::Replaced);
    assert_eq!(session.next().await, None);
}

#[tokio::test]
async fn a_film_is_published_by_the_worker_itself() {
    let mut b = bench(1000).await;
    let mut session = b.fleet.session().await;
    let film = b.dir.path().join("film.f1.mp4");
    std::fs::write(&film, b"a film").unwrap();
    let output = uri::from_path(&b.dir.path().join("out.mp4"));
    let hash = blake3::hash(b"a film").to_hex().to_string();
    let args =
        Args::Publish(PublishArgs { output: output.clone(), overwrite: false, hash, index: None, beside: Vec::new() });
    let call = Call { inputs: vec![uri::from_path(&film)], output_prefix: String::new(), source_version: None, args };
    session.lease(vec![lease(1, &call)]).await;
    let (_, kind) = session.verdict().await;
    assert_eq!(answer(&kind).value, Value::Published { uri: output, bytes: 6 });
    assert_eq!(std::fs::read(b.dir.path().join("out.mp4")).unwrap(), b"a film");
}

/// Processes started by `parent`.
fn children(parent: u32) -> Vec<i32> {
    let of = |path: std::path::PathBuf| std::fs::read_to_string(path.join("children")).unwrap_or_default();
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    let lists: Vec<String> = tasks.map(|task| of(task.unwrap().path())).collect();
    lists.iter().flat_map(|list| list.split_whitespace()).map(|pid| pid.parse().unwrap()).collect()
}

fn is_running(pid: i32) -> bool {
    // A dead one may wait to be reaped by whoever inherited it.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// A worker process, killed when the test ends, however it ends.
struct Victim(std::process::Child);

impl Victim {
    fn start(fleet: &Fleet, dir: &Path) -> Victim {
        let scratch = dir.join("scratch");
        Victim(std::process::Command::new(test_worker()).arg("worker").arg(fleet.url()).arg(scratch).spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test]
async fn a_killed_worker_leaves_no_executor_and_its_successor_no_scratch() {
    let mut fleet = Fleet::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut victim = Victim::start(&fleet, dir.path());
    let mut session = fleet.session().await;
    session.lease(vec![lease(1, &scripted(dir.path(), "hang"))]).await;
    session.started(1).await;
    let begin = Instant::now();
    while calls_in_scratch(dir.path(), "victim") == 0 {
        assert!(begin.elapsed() < PATIENCE, "the call begins");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let executors = children(victim.0.id());
    assert!(!executors.is_empty() && executors.iter().all(|pid| is_running(*pid)));
    victim.kill();
    let begin = Instant::now();
    while executors.iter().any(|pid| is_running(*pid)) {
        assert!(begin.elapsed() < Duration::from_secs(5), "executors outlive their worker");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(calls_in_scratch(dir.path(), "victim"), 1, "what a killed worker leaves");
    let _successor = Victim::start(&fleet, dir.path());
    let again = fleet.session().await;
    assert!(again.register.incarnation > session.register.incarnation);
    assert_eq!(again.register.held, []);
    assert_eq!(calls_in_scratch(dir.path(), "victim"), 0);
}

#[tokio::test]
async fn a_killed_executor_fails_its_call_and_the_worker_lives() {
    let mut fleet = Fleet::start().await;
    let dir = tempfile::tempdir().unwrap();
    let worker = Victim::start(&fleet, dir.path());
    let mut session = fleet.session().await;
    session.lease(vec![lease(1, &scripted(dir.path(), "hang"))]).await;
    session.started(1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    for executor in children(worker.0.id()) {
        kill(executor);
    }
    let (_, kind) = session.verdict().await;
    let report::Kind::Failed(failed) = &kind else { panic!("{kind:?}") };
    assert_eq!((failed.class.as_str(), failed.code.as_str()), ("internal", "executor_died"));
    assert!(failed.message.contains("SIGKILL"), "{}", failed.message);
    session.lease(vec![lease(2, &scripted(dir.path(), "work 1"))]).await;
    let (task, kind) = session.verdict().await;
    answer(&kind);
    assert_eq!(task, 2);
}
