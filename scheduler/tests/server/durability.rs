//! What survives: restarts, a full disk, forgetting.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spool_core::io::Record;
use spool_proto::call::{Args, Call};
use spool_proto::failure::Class;
use spool_proto::time::Span;
use spool_proto::view::JobState;
use spool_proto::wire::v1;
use spool_scheduler::store::{
    ArchivedJob, Checkpoint, Kept, Mark, Problem, SqliteStore, Store, StoreError, sqlite::SqliteArchive,
};
use spool_scheduler::{Limits, Server, ServerHandle, ServerOptions};
use tonic::Code;

use super::worker::{Fate, Worker, idle};
use super::{Client, bench_job, failure, film, start, until};

/// Stops as a power cut does, and starts again.
async fn restart(server: ServerHandle, data: &Path) -> ServerHandle {
    restart_with(server, || ServerOptions::new(data)).await
}

async fn restart_with(server: ServerHandle, options: impl Fn() -> ServerOptions) -> ServerHandle {
    drop(server);
    // The run loop's task ends, and lets go of its lock, a moment after it is aborted.
    let mut again = None;
    until("the directory is free", async || {
        again = Server::start(options()).await.ok();
        again.is_some()
    })
    .await;
    again.expect("just started")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_film_redoes_nothing_finished() {
    let data = tempfile::tempdir().expect("a directory");
    let server = start(data.path()).await;
    let mut client = Client::of(&server);
    let stuck = |call: &Call, lease: &v1::Lease| match &call.args {
        Args::Encode(encode) if encode.chunk < 2 => Fate::Hold,
        _ => film::answers(call, lease),
    };
    let first = Worker::attach(&server, "w1", 1, stuck).await;
    let (job, _) = client.submit("film", &film::spec(data.path())).await.expect("submitted");
    until("two chunks and the audio are done", async || {
        client.get(&job).await.phases.iter().any(|p| p.name == "encoding" && p.done == 3)
    })
    .await;
    assert_eq!(first.begun("media.encode 3"), 1);
    let before = client.get(&job).await;
    drop(first);

    let server = restart(server, data.path()).await;
    let mut client = Client::of(&server);
    let after = client.get(&job).await;
    assert_eq!((after.phase.as_str(), after.phases[2].done), ("encoding", 3));
    assert_eq!(
        after.tasks.iter().map(|t| &t.answer).collect::<Vec<_>>(),
        before.tasks.iter().map(|t| &t.answer).collect::<Vec<_>>()
    );
    // The same worker, a new process: it holds nothing, so its old leases are over at once.
    let second = Worker::attach(&server, "w1", 2, film::answers).await;
    client.wait_done(&job).await;
    let again = ["media.probe", "media.plan", "media.encode 2", "media.encode 3", "media.audio"];
    assert_eq!(again.map(|call| second.begun(call)), [0; 5], "finished work is not redone");
    assert_eq!(["media.encode 0", "media.encode 1"].map(|call| second.begun(call)), [1, 1]);
    assert_eq!(client.submit("film", &film::spec(data.path())).await.expect("known"), (job, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_checkpoints_and_restarts_lose_nothing() {
    let data = tempfile::tempdir().expect("a directory");
    let options = || {
        let mut options = ServerOptions::new(data.path());
        options.limits.checkpoint_bytes = 2_000;
        options
    };
    let mut jobs: Vec<String> = Vec::new();
    for round in 0..3 {
        let server = Server::start(options()).await.expect("the server starts");
        let mut client = Client::of(&server);
        for job in &jobs {
            assert_eq!(client.get(job).await.state, JobState::Done);
        }
        let (job, existing) = client.submit(&format!("round {round}"), &bench_job(300)).await.expect("submitted");
        assert!(!existing);
        let _worker = Worker::attach(&server, "w1", round + 1, idle).await;
        client.wait_done(&job).await;
        jobs.push(job);
        server.shutdown().await.expect("a clean end");
    }
    assert_eq!(jobs, ["j1", "j2", "j3"]);
}

/// Each checkpoint is of many pieces, and there is hardly a time when none is being written or tidied up after.
#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_while_checkpoints_are_written_lose_nothing() {
    let data = tempfile::tempdir().expect("a directory");
    let options = || {
        let mut options = ServerOptions::new(data.path());
        options.limits =
            Limits { keep_done: Span::ZERO, keep_done_least: Span::ZERO, checkpoint_bytes: 2_000, ..Limits::default() };
        options
    };
    let mut jobs: Vec<String> = Vec::new();
    let mut server = Server::start(options()).await.expect("the server starts");
    for round in 0..6 {
        let mut client = Client::of(&server);
        let _worker = Worker::attach(&server, "w1", round + 1, idle).await;
        for _ in 0..3 {
            jobs.push(client.submit(&format!("job {}", jobs.len()), &bench_job(1500)).await.expect("submitted").0);
        }
        let cut_at = 200 * (round + 1);
        let last = jobs.last().expect("just submitted").clone();
        until("some of the last job are done", async || {
            client.get(&last).await.phases.iter().any(|phase| u64::from(phase.done) >= cut_at)
        })
        .await;
        server = restart_with(server, options).await;
    }
    let mut client = Client::of(&server);
    let _worker = Worker::attach(&server, "w1", 7, idle).await;
    for (number, job) in jobs.iter().enumerate() {
        let view = client.wait_done(job).await;
        assert_eq!(view.progress.chunks_done, 1500, "{job}");
        let known = client.submit(&format!("job {number}"), &bench_job(1500)).await.expect("known");
        assert_eq!(known, (job.clone(), true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_job_is_served_from_the_archive() {
    let data = tempfile::tempdir().expect("a directory");
    let mut options = ServerOptions::new(data.path());
    options.limits = Limits { keep_done: Span::ZERO, keep_done_least: Span::ZERO, ..Limits::default() };
    let server = Server::start(options).await.expect("the server starts");
    let mut client = Client::of(&server);
    let _worker = Worker::attach(&server, "w1", 1, idle).await;
    let (job, _) = client.submit("once", &bench_job(5)).await.expect("submitted");
    client.wait_done(&job).await;
    // Only the archive refuses a retry by naming itself.
    let retry = v1::RetryJobRequest { job_id: job.clone() };
    until("the job has left memory", async || {
        let refused = client.jobs.retry(retry.clone()).await.expect_err("it is done");
        assert_eq!(refused.code(), Code::FailedPrecondition);
        failure(&refused).message.contains("archive")
    })
    .await;
    let server = restart(server, data.path()).await;
    let mut client = Client::of(&server);
    let view = client.wait_done(&job).await;
    assert_eq!((view.tasks.len(), view.progress.chunks_done), (5, 5));
    assert_eq!(client.list(&["done"]).await, std::slice::from_ref(&job));
    assert!(client.logs(&job).await.iter().any(|line| line == "done"));
    assert_eq!(client.submit("once", &bench_job(5)).await.expect("known"), (job.clone(), true));
    let next = client.submit("twice", &bench_job(5)).await.expect("submitted").0;
    assert_ne!(next, job);
}

/// SQLite on a disk that can be made full.
struct Failing {
    store: SqliteStore,
    full: Arc<AtomicBool>,
}

impl Failing {
    fn room(&self) -> Result<(), StoreError> {
        if self.full.load(Ordering::SeqCst) {
            return Err(StoreError::Refused { problem: Problem::DiskFull, detail: "injected".into() });
        }
        Ok(())
    }
}

impl Store for Failing {
    type Archive = SqliteArchive;

    async fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        self.room()?;
        self.store.append(records).await
    }

    fn mark(&self) -> Mark {
        self.store.mark()
    }

    async fn checkpoint(&mut self, checkpoint: &mut Checkpoint) -> Result<bool, StoreError> {
        self.room()?;
        self.store.checkpoint(checkpoint).await
    }

    async fn tidy(&mut self) -> Result<bool, StoreError> {
        self.room()?;
        self.store.tidy().await
    }

    async fn load(&mut self) -> Result<Kept, StoreError> {
        self.store.load().await
    }

    async fn archive(&mut self, job: ArchivedJob) -> Result<(), StoreError> {
        self.room()?;
        self.store.archive(job).await
    }

    fn reader(&self) -> SqliteArchive {
        self.store.reader()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_requests_and_is_recovered_from() {
    let data = tempfile::tempdir().expect("a directory");
    let full = Arc::new(AtomicBool::new(false));
    let flag = full.clone();
    let open = async |data: std::path::PathBuf| {
        Ok(Failing { store: SqliteStore::open(&data.join("spool.db")).await?, full: flag })
    };
    let server = Server::start_with(ServerOptions::new(data.path()), open).await.expect("the server starts");
    let mut client = Client::of(&server);
    let (held, _) = client.submit("before", &bench_job(1)).await.expect("submitted");
    full.store(true, Ordering::SeqCst);
    // Its first lease cannot be written: it must not start.
    let worker = tokio::spawn(Worker::attach_through(server.connect(), "w1", 1, idle));
    let refused = client.submit("during", &bench_job(1)).await.expect_err("there is no room");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let why = failure(&refused);
    assert_eq!((why.class, why.code.as_str()), (Class::Host, "store_full"));
    assert_eq!(client.get(&held).await.name, "1 no-ops", "questions are still answered");
    let again = client.submit("later", &bench_job(1)).await.expect_err("there is no room");
    assert_eq!(failure(&again).code, "store_full");
    assert_eq!(server.stuck(Duration::from_millis(1)).await.code, "store_full", "who owns the server may give up");
    full.store(false, Ordering::SeqCst);
    let worker = worker.await.expect("the worker is welcomed now");
    client.wait_done(&held).await;
    let mut later = String::new();
    until("requests are taken again", async || match client.submit("later", &bench_job(1)).await {
        Ok((job, _)) => {
            later = job;
            true
        }
        Err(_) => false,
    })
    .await;
    client.wait_done(&later).await;
    let over = tokio::time::timeout(Duration::from_millis(200), server.stuck(Duration::from_millis(1))).await;
    assert!(over.is_err(), "it is stuck no more");
    assert!(worker.begun("bench.noop") >= 2);
}
