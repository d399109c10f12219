//! What clients do with jobs.

use spool_core::config::Config;
use spool_core::io::Effect;
use spool_proto::call::{Args, Call};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::JobId;
use spool_proto::spec::{JobSpec, RulesSpec, Service};
use spool_proto::time::Timestamp;
use spool_proto::view::JobState;
use spool_proto::wire::v1;
use spool_scheduler::recovery::recover;
use spool_scheduler::store::SqliteStore;
use tonic::Code;
use v1::worker_service_client::WorkerServiceClient;

use super::worker::{Fate, Worker, idle};
use super::{Client, bench_job, failure, film, start, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_bench_job_runs_to_the_end() {
    let data = tempfile::tempdir().expect("a directory");
    let server = start(data.path()).await;
    let mut client = Client::of(&server);
    let _worker = Worker::attach(&server, "w1", 1, idle).await;
    let (job, _) = client.submit("", &bench_job(1_000)).await.expect("submitted");
    let view = client.wait_done(&job).await;
    assert_eq!(view.tasks.len(), 1_000, "the last message of a watch has the tasks");
    assert_eq!(view.progress.chunks_done, 1_000);
    assert_eq!(client.list(&[]).await, std::slice::from_ref(&job));
    assert_eq!(client.list(&["done"]).await, [job]);
    assert!(client.list(&["failed"]).await.is_empty());
    server.shutdown().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_lets_go_of_its_workers_and_can_be_retried() {
    let data = tempfile::tempdir().expect("a directory");
    let server = start(data.path()).await;
    let mut client = Client::of(&server);
    let mut holding = true;
    let script = move |_: &Call, _: &v1::Lease| {
        if std::mem::take(&mut holding) { Fate::Hold } else { Fate::Answer(Vec::new()) }
    };
    let _worker = Worker::attach(&server, "w1", 1, script).await;
    let (job, _) = client.submit("", &bench_job(1)).await.expect("submitted");
    until("the task runs", async || client.get(&job).await.state == JobState::Running).await;
    let cancel = v1::CancelJobRequest { job_id: job.clone(), reason: "wrong film".into() };
    client.jobs.cancel(cancel.clone()).await.expect("cancelled");
    assert_eq!(client.wait(&job).await.state, JobState::Cancelled);
    assert!(client.logs(&job).await.iter().any(|line| line == "cancelled: wrong film"));
    client.jobs.retry(v1::RetryJobRequest { job_id: job.clone() }).await.expect("retried");
    client.wait_done(&job).await;
    let refused = client.jobs.cancel(cancel).await.expect_err("it is done");
    assert_eq!((refused.code(), failure(&refused).code.as_str()), (Code::FailedPrecondition, "wrong_state"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_says_why_and_a_retry_keeps_what_is_finished() {
    let data = tempfile::tempdir().expect("a directory");
    let server = start(data.path()).await;
    let mut client = Client::of(&server);
    let mut broken = true;
    let script = move |call: &Call, lease: &v1::Lease| match &call.args {
        Args::Assemble(_) if std::mem::take(&mut broken) => {
            Fate::Fail(Failure::new(Class::Input, "source_vanished", "in.mov is gone").with_evidence("ENOENT"))
        }
        _ => film::answers(call, lease),
    };
    let worker = Worker::attach(&server, "w1", 1, script).await;
    let (job, _) = client.submit("", &film::spec(data.path())).await.expect("submitted");
    let failed = client.wait(&job).await;
    let why = failed.failure.expect("a failure");
    assert_eq!((failed.state, why.class, why.code.as_str()), (JobState::Failed, Class::Input, "source_vanished"));
    let logs = client.logs(&job).await.join("\n");
    assert!(logs.contains("in.mov is gone (input, source_vanished)\nENOENT"), "{logs}");
    assert!(data.path().join("artifacts").join(&job).exists(), "pieces are kept for the retry");
    client.jobs.retry(v1::RetryJobRequest { job_id: job.clone() }).await.expect("retried");
    client.wait_done(&job).await;
    let counts = ["media.probe", "media.encode 2", "media.audio", "media.assemble"].map(|call| worker.begun(call));
    assert_eq!(counts, [1, 1, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn followed_logs_tell_each_line_once_until_the_end() {
    let data = tempfile::tempdir().expect("a directory");
    let server = start(data.path()).await;
    let mut client = Client::of(&server);
    let (job, _) = client.submit("", &bench_job(3)).await.expect("submitted");
    let request = v1::LogsRequest { job_id: job.clone(), follow: true, ..Default::default() };
    let mut stream = client.jobs.logs(request).await.expect("logs").into_inner();
    let _worker = Worker::attach(&server, "w1", 1, idle).await;
    let mut lines = Vec::new();
    while let Some(line) = stream.message().await.expect("the logs go on") {
        lines.push((line.task_id, line.text));
    }
    let unique: std::collections::BTreeSet<_> = lines.iter().collect();
    assert_eq!(unique.len(), lines.len(), "{lines:?}");
    assert!(lines.contains(&(String::new(), "done".into())), "{lines:?}");
    let task = (format!("{job}.2"), "bench.noop done in 2.0 s, 1000 bytes".into());
    assert!(lines.contains(&task), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_explains_itself_and_takes_a_priority() {
    let data = tempfile::tempdir().expect("a directory");
    let server = start(data.path()).await;
    let mut client = Client::of(&server);
    let (job, _) = client.submit("", &bench_job(1)).await.expect("submitted");
    let request = v1::ExplainJobRequest { job_id: job.clone() };
    let explanation = client.jobs.explain(request).await.expect("explained").into_inner();
    assert_eq!(explanation.reason, "no_workers");
    let set = v1::SetPriorityRequest { job_id: job.clone(), priority: 90 };
    assert_eq!(client.jobs.set_priority(set).await.expect("set").into_inner().priority, 90);
    let set = v1::SetPriorityRequest { job_id: job, priority: 101 };
    let refused = client.jobs.set_priority(set).await.expect_err("too high");
    assert_eq!((refused.code(), failure(&refused).code.as_str()), (Code::InvalidArgument, "bad_field"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_stream_that_ends_late_does_not_cut_off_the_new_one() {
    let data = tempfile::tempdir().expect("a directory");
    let server = start(data.path()).await;
    let mut client = Client::of(&server);
    let mut workers = WorkerServiceClient::new(server.connect());
    let old = Worker::attach(&server, "w1", 1, idle).await;
    let new = Worker::attach(&server, "w1", 1, idle).await;
    drop(old);
    // Long enough for the server to see the old stream end.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let listed = workers.list(v1::ListWorkersRequest {}).await.expect("listed").into_inner().workers;
    assert!(listed[0].connected);
    let (job, _) = client.submit("", &bench_job(1)).await.expect("submitted");
    client.wait_done(&job).await;
    assert_eq!(new.begun("bench.noop"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_are_refused_by_name() {
    let data = tempfile::tempdir().expect("a directory");
    let server = start(data.path()).await;
    let mut client = Client::of(&server);
    let missing = client.jobs.get(v1::GetJobRequest { job_id: "j9".into(), brief: true }).await;
    let missing = missing.expect_err("there is none");
    assert_eq!((missing.code(), failure(&missing).code.as_str()), (Code::NotFound, "no_such_job"));
    let bad = client.jobs.get(v1::GetJobRequest { job_id: "nine".into(), brief: true }).await.expect_err("no id");
    assert!(failure(&bad).message.contains("job_id"), "{bad:?}");
    let none = client.submit("", &bench_job(0)).await.expect_err("nothing to do");
    assert!(failure(&none).message.contains("bench.tasks"), "{none:?}");
    let mut spec = film::spec(data.path());
    if let Service::VideoEncode(encode) = &mut spec.service {
        encode.container = spool_proto::spec::Container::Webm;
    }
    let refused = client.submit("", &spec).await.expect_err("webm takes no h264");
    assert_eq!((refused.code(), failure(&refused).class), (Code::InvalidArgument, Class::Spec));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cordoned_worker_gets_nothing_until_it_is_uncordoned() {
    let data = tempfile::tempdir().expect("a directory");
    let server = start(data.path()).await;
    let mut client = Client::of(&server);
    let mut workers = WorkerServiceClient::new(server.connect());
    let worker = Worker::attach(&server, "w1", 1, idle).await;
    let request = v1::CordonRequest { worker: "w1".into(), reason: "new disk".into() };
    let view = workers.cordon(request).await.expect("cordoned").into_inner();
    assert!(view.cordoned && !view.draining && view.reason == "new disk");
    let (job, _) = client.submit("", &bench_job(1)).await.expect("submitted");
    let listed = workers.list(v1::ListWorkersRequest {}).await.expect("listed").into_inner().workers;
    assert_eq!(listed.iter().map(|w| (w.worker.as_str(), w.connected)).collect::<Vec<_>>(), [("w1", true)]);
    assert_eq!(worker.begun("bench.noop"), 0);
    workers.uncordon(v1::UncordonRequest { worker: "w1".into(), ..Default::default() }).await.expect("uncordoned");
    client.wait_done(&job).await;
    let unknown = v1::DrainRequest { worker: "w9".into(), reason: String::new() };
    let refused = workers.drain(unknown).await.expect_err("there is none");
    assert_eq!(failure(&refused).code, "no_such_worker");
}

/// A catalogue without titles waits for signals only; a film waits for a call.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_only_those_are_asked_who_may_have_missed_something() {
    let data = tempfile::tempdir().expect("a directory");
    let server = start(data.path()).await;
    let mut client = Client::of(&server);
    let catalogue = RulesSpec { name: "reencode".into(), version: String::new(), input: serde_json::json!({}) };
    let (catalogue, _) = client.submit("", &JobSpec::new("", Service::Rules(catalogue))).await.expect("submitted");
    let (film, _) = client.submit("", &film::spec(data.path())).await.expect("submitted");
    until("one rests and one waits", async || {
        client.get(&catalogue).await.state == JobState::Running && !client.get(&film).await.tasks.is_empty()
    })
    .await;
    server.shutdown().await.expect("a clean end");
    let mut store = SqliteStore::open(&data.path().join("spool.db")).await.expect("nobody has it");
    let mut engine = recover(&mut store, Config::default()).await.expect("it is whole");
    let mut effects = Vec::new();
    engine.resume(Timestamp::now(), &mut effects);
    let asked = |effect: &Effect| if let Effect::Advance { job } = effect { Some(*job) } else { None };
    let asked: Vec<JobId> = effects.iter().filter_map(asked).collect();
    assert_eq!(asked, [film.parse().expect("a job id")]);
}
