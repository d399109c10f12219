use spool_core::io::Record;
use spool_core::snapshot::EngineSnapshot;
use spool_proto::ids::JobId;
use spool_proto::time::Timestamp;
use sqlx::Executor;
use tempfile::TempDir;

use super::*;
use crate::store::suite::{self, Factory};

struct File(TempDir);

impl File {
    fn new() -> File {
        File(TempDir::new().expect("a temporary directory"))
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("spool.db")
    }
}

impl Factory for File {
    type Store = SqliteStore;
    async fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.path()).await.expect("open")
    }
}

#[tokio::test]
async fn sqlite_passes_the_suite() {
    suite::run(File::new).await;
}

fn forgotten(job: u64) -> Record {
    Record::JobForgotten { job: JobId(job) }
}

#[tokio::test]
async fn a_full_disk_is_told_apart_and_an_append_repeated_after_it_is_kept_once() {
    let file = File::new();
    let mut store = file.open().await;
    store.load().await.expect("load");
    let big = Record::CancelAsked { job: JobId(1), reason: "x".repeat(1 << 20), at: Timestamp(0) };
    // The file may not grow: SQLite then fails as on a full disk.
    store.writer.execute("PRAGMA max_page_count = 40").await.expect("pragma");
    let full = store.append(std::slice::from_ref(&big)).await.expect_err("there is no room");
    assert!(matches!(full, StoreError::Refused { problem: Problem::DiskFull, .. }), "{full}");
    assert_eq!(full.failure().code, "store_full");
    store.append(&[forgotten(1)]).await.expect("a small one fits");
    store.writer.execute("PRAGMA max_page_count = 100000").await.expect("pragma");
    store.append(std::slice::from_ref(&big)).await.expect("there is room");
    drop(store);
    assert_eq!(file.open().await.load().await.expect("load").turns, [vec![forgotten(1)], vec![big]]);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_damaged() {
    let file = File::new();
    std::fs::write(file.path(), "not a database, but long enough to be looked at as one".repeat(100)).expect("write");
    let refused = SqliteStore::open(&file.path()).await.expect_err("it is no database");
    assert!(matches!(refused, StoreError::Damaged(_)), "{refused}");
}

#[tokio::test]
async fn rows_of_a_newer_version_are_refused() {
    let file = File::new();
    let mut store = file.open().await;
    store.load().await.expect("load");
    store.append(&[forgotten(1)]).await.expect("append");
    store.writer.execute("UPDATE journal SET version = 2").await.expect("update");
    let refused = store.load().await.expect_err("it is from a newer server");
    assert!(refused.to_string().contains("version 2"), "{refused}");
}

/// Tables as they were before checkpoints came in pieces.
#[tokio::test]
async fn a_checkpoint_of_the_first_tables_is_read() {
    let file = File::new();
    let mut store = file.open().await;
    store.load().await.expect("load");
    store.append(&[forgotten(1)]).await.expect("append");
    let (job, part) = suite::job_with_a_part();
    let mut checkpoint = Checkpoint {
        jobs: vec![job.clone()],
        parts: vec![part.clone()],
        ..Checkpoint::new(store.mark(), EngineSnapshot::default())
    };
    while !store.checkpoint(&mut checkpoint).await.expect("checkpoint") {}
    while store.tidy().await.expect("tidy") {}
    store.append(&[forgotten(2)]).await.expect("append");
    // Back to them by hand.
    for sql in [
        "CREATE TABLE was (job INTEGER PRIMARY KEY, version INTEGER NOT NULL, body BLOB NOT NULL) STRICT",
        "INSERT INTO was SELECT job, version, body FROM live_job",
        "DROP TABLE live_job",
        "ALTER TABLE was RENAME TO live_job",
        "CREATE TABLE was (job INTEGER NOT NULL, part INTEGER NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,
         PRIMARY KEY (job, part)) STRICT",
        "INSERT INTO was SELECT job, part, version, body FROM live_part",
        "DROP TABLE live_part",
        "ALTER TABLE was RENAME TO live_part",
        "DELETE FROM _sqlx_migrations WHERE version = 2",
    ] {
        store.writer.execute(sql).await.expect(sql);
    }
    drop(store);
    let kept = file.open().await.load().await.expect("load");
    assert_eq!(kept.jobs, [(job, vec![part], Vec::new())]);
    assert_eq!(kept.turns, [[forgotten(2)]]);
}

#[tokio::test]
async fn every_commit_is_synced() {
    let file = File::new();
    let mut store = file.open().await;
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut store.writer).await.expect("pragma");
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut store.writer).await.expect("pragma");
    assert_eq!((synchronous, journal.as_str()), (2, "wal"), "FULL, WAL");
}
