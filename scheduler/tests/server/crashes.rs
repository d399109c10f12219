//! The main job, which is rules, cut off at every commit there is: before it is durable, and behind it before anybody hears of it.

use std::future::pending;
use std::path::PathBuf;

use spool_core::io::Record;
use spool_proto::call::{Args, Call};
use spool_proto::view::{JobView, TaskState};
use spool_proto::wire::v1;
use spool_scheduler::store::{
    ArchivedJob, Checkpoint, Kept, Mark, SqliteStore, Store, StoreError, sqlite::SqliteArchive,
};
use spool_scheduler::{Server, ServerOptions};
use tokio::sync::watch;

use super::worker::{Fate, Worker};
use super::{Client, film, until};

/// The calls of the film: probe, plan, four chunks, its sound, the join, two checks, publishing.
const CALLS: usize = 11;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    Before,
    Behind,
}

/// SQLite that is cut off at one append.
struct Cut {
    store: SqliteStore,
    appends: u64,
    at: u64,
    side: Side,
    is_cut: watch::Sender<bool>,
}

impl Store for Cut {
    type Archive = SqliteArchive;

    async fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        self.appends += 1;
        let is_here = self.appends == self.at;
        if !(is_here && self.side == Side::Before) {
            self.store.append(records).await?;
        }
        if is_here {
            self.is_cut.send_replace(true);
            pending::<()>().await;
        }
        Ok(())
    }

    fn mark(&self) -> Mark {
        self.store.mark()
    }

    async fn checkpoint(&mut self, checkpoint: &mut Checkpoint) -> Result<bool, StoreError> {
        self.store.checkpoint(checkpoint).await
    }

    async fn tidy(&mut self) -> Result<bool, StoreError> {
        self.store.tidy().await
    }

    async fn load(&mut self) -> Result<Kept, StoreError> {
        self.store.load().await
    }

    async fn archive(&mut self, job: ArchivedJob) -> Result<(), StoreError> {
        self.store.archive(job).await
    }

    fn reader(&self) -> SqliteArchive {
        self.store.reader()
    }
}

/// A plan that is asked for before a worker is back is for one core.
fn answers(call: &Call, lease: &v1::Lease) -> Fate {
    let mut call = call.clone();
    if let Args::Plan(plan) = &mut call.args {
        assert!([1, 4].contains(&plan.unsplit_threads));
        plan.unsplit_threads = 4;
    }
    film::answers(&call, lease)
}

/// Runs a film on a server that is cut off there and goes on as another. `None`: it was done before so many commits.
async fn cut_at(at: u64, side: Side) -> Option<JobView> {
    let data = tempfile::tempdir().expect("a directory");
    let (is_cut, mut cut) = watch::channel(false);
    let open = async |data: PathBuf| {
        let store = SqliteStore::open(&data.join("spool.db")).await?;
        Ok(Cut { store, appends: 0, at, side, is_cut })
    };
    let server = Server::start_with(ServerOptions::new(data.path()), open).await.expect("the server starts");
    let mut client = Client::of(&server);
    let spec = film::spec(data.path());
    let (channel, told) = (server.connect(), spec.clone());
    let run = async {
        let _worker = Worker::attach_through(channel, "w1", 1, answers).await;
        let (job, _) = client.submit("film", &told).await.expect("submitted");
        client.wait_done(&job).await;
    };
    tokio::select! {
        _ = cut.wait_for(|cut| *cut) => {}
        () = run => return None,
    }
    drop(server);
    let mut again = None;
    until("the directory is free", async || {
        again = Server::start(ServerOptions::new(data.path())).await.ok();
        again.is_some()
    })
    .await;
    let server = again.expect("just started");
    let mut client = Client::of(&server);
    let (job, _) = client.submit("film", &spec).await.expect("submitted again, as who was not answered does");
    let worker = Worker::attach(&server, "w1", 2, answers).await;
    client.wait_done(&job).await;
    assert_eq!(client.list(&[]).await, [job.as_str()], "one request is one job");
    let view = client.get(&job).await;
    drop(worker);
    Some(view)
}

#[tokio::test(flavor = "multi_thread")]
async fn at_every_commit_no_call_is_lost_and_none_is_done_twice() {
    let mut cuts = 0;
    for side in [Side::Before, Side::Behind] {
        for at in 1.. {
            let Some(view) = cut_at(at, side).await else { break };
            cuts += 1;
            let mut calls: Vec<String> =
                view.tasks.iter().map(|task| format!("{} {}", task.function, task.label)).collect();
            assert_eq!(calls.len(), CALLS, "cut {side:?} commit {at}: {calls:?}");
            calls.sort();
            calls.dedup();
            assert_eq!(calls.len(), CALLS, "cut {side:?} commit {at}: a call was made twice: {calls:?}");
            assert!(view.tasks.iter().all(|task| task.state == TaskState::Done), "{view:?}");
            let output = view.output.expect("an output");
            assert_eq!(output["chunks"].as_array().map(Vec::len), Some(4), "cut {side:?} commit {at}: {output}");
        }
    }
    assert!(cuts >= 20, "only {cuts} cuts: the film takes more commits than that");
}
