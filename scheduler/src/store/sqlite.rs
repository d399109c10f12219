//! The store on SQLite: WAL, `synchronous=FULL`, one writing connection, a few reading ones.

use std::path::Path;
use std::time::Duration;

use spool_core::io::Record;
use spool_proto::ids::JobId;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Row, SqlSafeStr, SqliteConnection};

use super::records::{self, BadBody, VERSION};
use super::{ArchivedJob, Checkpoint, Kept, Mark, Problem, Store, StoreError};
use checkpoint::Progress;

mod archive;
mod checkpoint;
pub use archive::SqliteArchive;

#[cfg(test)]
mod tests;

/// Another program reading the file may hold a lock for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that read the archive: requests for old jobs are rare and short.
const READERS: u32 = 2;

#[derive(Debug)]
pub struct SqliteStore {
    writer: SqliteConnection,
    readers: SqlitePool,
    /// Row of the next turn. It moves only when an append has succeeded, so that a repeated append overwrites itself.
    next_seq: i64,
    journal_bytes: u64,
    progress: Progress,
}

impl SqliteStore {
    /// Opens the file, makes it if there is none, and brings its tables up to date.
    ///
    /// # Errors
    /// When it cannot be opened, is no database, or is from a newer version.
    pub async fn open(path: &Path) -> Result<SqliteStore, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let mut writer = options.connect().await.map_err(StoreError::from)?;
        migrations().run(&mut writer).await.map_err(|e| match e {
            MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => e.into(),
            other => StoreError::Damaged(other.to_string()),
        })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(0)
            .connect_lazy_with(options.read_only(true).create_if_missing(false));
        Ok(SqliteStore { writer, readers, next_seq: 1, journal_bytes: 0, progress: Progress::default() })
    }
}

/// Tables, oldest change first. A change that was released is never edited: another one follows it.
fn migrations() -> Migrator {
    let store = include_str!("../../migrations/0001_store.sql").into_sql_str();
    let pieces = include_str!("../../migrations/0002_pieces.sql").into_sql_str();
    let history = include_str!("../../migrations/0003_history.sql").into_sql_str();
    Migrator::with_migrations(vec![
        Migration::new(1, "store".into(), MigrationType::Simple, store, false),
        Migration::new(2, "pieces".into(), MigrationType::Simple, pieces, false),
        Migration::new(3, "history".into(), MigrationType::Simple, history, false),
    ])
}

impl Store for SqliteStore {
    type Archive = SqliteArchive;

    async fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let body = records::encode_turn(records);
        let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
        sqlx::query("INSERT OR REPLACE INTO journal (seq, version, body) VALUES (?, ?, ?)")
            .bind(self.next_seq)
            .bind(VERSION)
            .bind(body)
            .execute(&mut self.writer)
            .await?;
        self.next_seq += 1;
        self.journal_bytes += bytes;
        Ok(())
    }

    fn mark(&self) -> Mark {
        Mark { seq: u64::try_from(self.next_seq - 1).unwrap_or(0), bytes: self.journal_bytes }
    }

    async fn checkpoint(&mut self, checkpoint: &mut Checkpoint) -> Result<bool, StoreError> {
        let is_whole = checkpoint::write(&mut self.writer, &mut self.progress, checkpoint).await?;
        if is_whole {
            self.journal_bytes -= checkpoint.mark.bytes;
        }
        Ok(is_whole)
    }

    async fn tidy(&mut self) -> Result<bool, StoreError> {
        checkpoint::tidy(&mut self.writer, &mut self.progress).await
    }

    async fn load(&mut self) -> Result<Kept, StoreError> {
        let (mut kept, progress) = checkpoint::load(&mut self.writer).await?;
        let mut seq = progress.whole();
        self.progress = progress;
        self.journal_bytes = 0;
        let turns = sqlx::query("SELECT seq, version, body FROM journal WHERE seq > ? ORDER BY seq").bind(seq);
        for row in turns.fetch_all(&mut self.writer).await? {
            let body = body("journal", &row)?;
            seq = row.try_get("seq")?;
            self.journal_bytes += u64::try_from(body.len()).unwrap_or(u64::MAX);
            kept.turns.push(records::decode_turn(&body)?);
        }
        self.next_seq = seq + 1;
        Ok(kept)
    }

    async fn archive(&mut self, job: ArchivedJob) -> Result<(), StoreError> {
        archive::write(&mut self.writer, job).await
    }

    fn reader(&self) -> SqliteArchive {
        SqliteArchive::new(self.readers.clone())
    }
}

fn body(table: &str, row: &sqlx::sqlite::SqliteRow) -> Result<Vec<u8>, StoreError> {
    let version: i64 = row.try_get("version")?;
    if version > VERSION {
        let why = format!("{table} holds rows of version {version}; this server reads up to {VERSION}");
        return Err(StoreError::Damaged(why));
    }
    Ok(row.try_get("body")?)
}

/// SQLite's integers are signed.
fn row_id(job: JobId) -> Result<i64, StoreError> {
    i64::try_from(job.0).map_err(|_| StoreError::Damaged(format!("{job} is beyond what the store can number")))
}

fn job_id(row: i64) -> Result<JobId, StoreError> {
    number(row).map(JobId)
}

fn number<N: TryFrom<i64>>(n: i64) -> Result<N, StoreError> {
    N::try_from(n).map_err(|_| StoreError::Damaged(format!("{n} is not a number the store can have written")))
}

impl From<BadBody> for StoreError {
    fn from(bad: BadBody) -> StoreError {
        StoreError::Damaged(bad.to_string())
    }
}

/// SQLite's primary result codes, <https://sqlite.org/rescode.html>.
impl From<sqlx::Error> for StoreError {
    fn from(e: sqlx::Error) -> StoreError {
        const BUSY: u32 = 5;
        const LOCKED: u32 = 6;
        const READONLY: u32 = 8;
        const CORRUPT: u32 = 11;
        const FULL: u32 = 13;
        const CANTOPEN: u32 = 14;
        const NOTADB: u32 = 26;
        let detail = e.to_string();
        let refused = |problem| StoreError::Refused { problem, detail: detail.clone() };
        match &e {
            sqlx::Error::Database(db) => {
                let code = db.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff);
                match code {
                    Some(BUSY | LOCKED) => refused(Problem::Locked),
                    Some(READONLY) => refused(Problem::ReadOnly),
                    Some(FULL) => refused(Problem::DiskFull),
                    Some(CORRUPT | NOTADB) => StoreError::Damaged(detail),
                    Some(CANTOPEN) => refused(Problem::Io),
                    _ => refused(Problem::Io),
                }
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Decode(_) => {
                StoreError::Damaged(detail)
            }
            _ => refused(Problem::Io),
        }
    }
}
