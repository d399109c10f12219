//! Checkpoints, written a piece at a time between turns, so that no turn waits for a large one.
//!
//! A row carries the journal row up to which its checkpoint reaches. Rows beyond the last whole checkpoint are of one that is being
//! written, or never was to its end; they do not count. What a whole one made needless is removed a piece at a time, too.

use std::collections::BTreeMap;

use spool_core::snapshot::{HistoryKey, HistoryKind, HistoryPart, JobSnapshot, TaskPart};
use spool_proto::ids::JobId;
use sqlx::{Connection, Row, SqliteConnection};

use super::{body, job_id, number, row_id};
use crate::store::records::VERSION;
use crate::store::{Checkpoint, Kept, KeptJob, StoreError, snapshots};

/// Bytes of a piece: some milliseconds of writing.
const PIECE: usize = 128 << 10;

/// Rows that are written or removed at once.
const ROWS: usize = 64;

/// The key of a row of the checkpoint that is being written or was written last.
#[derive(Debug, Clone, Copy)]
enum Key {
    /// Of its tasks, or, from [`HISTORY`] on, of what else it keeps.
    Part {
        job: i64,
        part: i64,
    },
    Job(i64),
    Forgotten(i64),
}

impl Key {
    async fn insert(self, writer: &mut SqliteConnection, seq: i64, body: Vec<u8>) -> Result<(), StoreError> {
        let query = match self {
            Key::Part { job, part } => {
                sqlx::query("INSERT OR REPLACE INTO live_part (job, part, seq, version, body) VALUES (?, ?, ?, ?, ?)")
                    .bind(job)
                    .bind(part)
            }
            Key::Job(job) | Key::Forgotten(job) => {
                sqlx::query("INSERT OR REPLACE INTO live_job (job, seq, version, body) VALUES (?, ?, ?, ?)").bind(job)
            }
        };
        query.bind(seq).bind(VERSION).bind(body).execute(writer).await?;
        Ok(())
    }

    /// Removes what the row, of the whole checkpoint `seq`, takes the place of.
    async fn remove_needless(self, writer: &mut SqliteConnection, seq: i64) -> Result<(), StoreError> {
        let query = match self {
            Key::Part { job, part } => {
                sqlx::query("DELETE FROM live_part WHERE job = ? AND part = ? AND seq < ?").bind(job).bind(part)
            }
            Key::Job(job) => sqlx::query("DELETE FROM live_job WHERE job = ? AND seq < ?").bind(job),
            Key::Forgotten(job) => {
                let parts = sqlx::query("DELETE FROM live_part WHERE job = ? AND seq <= ?");
                parts.bind(job).bind(seq).execute(&mut *writer).await?;
                sqlx::query("DELETE FROM live_job WHERE job = ? AND seq <= ?").bind(job)
            }
        };
        query.bind(seq).execute(writer).await?;
        Ok(())
    }
}

/// What is where.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Journal row up to which the last whole checkpoint reaches.
    whole: i64,
    /// First journal row that was not removed.
    journal: i64,
    /// Of the checkpoint that is being written.
    written: Vec<Key>,
    /// Of the last whole one: what stood there before is needless.
    needless: Vec<Key>,
    /// Whatever another process left behind is needless.
    leftovers: bool,
}

/// Writes a piece and takes it out of `checkpoint`, or, when nothing is left of it, makes it count: then the answer is true.
pub(super) async fn write(
    writer: &mut SqliteConnection,
    progress: &mut Progress,
    checkpoint: &mut Checkpoint,
) -> Result<bool, StoreError> {
    let seq = i64::try_from(checkpoint.mark.seq).unwrap_or(i64::MAX);
    let is_over = checkpoint.jobs.is_empty()
        && checkpoint.parts.is_empty()
        && checkpoint.history.is_empty()
        && checkpoint.forgotten.is_empty();
    if is_over {
        let engine = snapshots::encode_engine(&checkpoint.engine);
        let bytes = wide(engine.len());
        sqlx::query("INSERT OR REPLACE INTO checkpoint (id, seq, version, body) VALUES (1, ?, ?, ?)")
            .bind(seq)
            .bind(VERSION)
            .bind(engine)
            .execute(writer)
            .await?;
        checkpoint.bytes += bytes;
        progress.whole = seq;
        progress.needless.append(&mut progress.written);
        return Ok(true);
    }
    let parts = checkpoint.parts.iter().rev().map(Due::Part);
    let history = checkpoint.history.iter().rev().map(Due::History);
    let jobs = checkpoint.jobs.iter().rev().map(Due::Job);
    let forgotten = checkpoint.forgotten.iter().rev().map(|job| Due::Forgotten(*job));
    let (mut bytes, mut written) = (0, Vec::new());
    let mut tx = writer.begin().await?;
    for due in parts.chain(history).chain(jobs).chain(forgotten) {
        let (key, body) = due.encode()?;
        bytes += body.len();
        key.insert(&mut tx, seq, body).await?;
        written.push(key);
        if bytes >= PIECE || written.len() >= ROWS {
            break;
        }
    }
    tx.commit().await?;
    for key in &written {
        match key {
            Key::Part { part, .. } if *part >= HISTORY => drop(checkpoint.history.pop()),
            Key::Part { .. } => drop(checkpoint.parts.pop()),
            Key::Job(_) => drop(checkpoint.jobs.pop()),
            Key::Forgotten(_) => drop(checkpoint.forgotten.pop()),
        }
    }
    checkpoint.bytes += wide(bytes);
    progress.written.append(&mut written);
    Ok(false)
}

/// What is to be written, not encoded yet.
enum Due<'a> {
    Part(&'a TaskPart),
    History(&'a HistoryPart),
    Job(&'a JobSnapshot),
    Forgotten(JobId),
}

impl Due<'_> {
    fn encode(self) -> Result<(Key, Vec<u8>), StoreError> {
        Ok(match self {
            Due::Part(part) => {
                let key = Key::Part { job: row_id(part.job)?, part: i64::from(part.part) };
                (key, snapshots::encode_part(part))
            }
            Due::History(part) => {
                let key = Key::Part { job: row_id(part.job)?, part: history_row(part.key()) };
                (key, snapshots::encode_history(part))
            }
            Due::Job(job) => (Key::Job(row_id(job.job)?), snapshots::encode_job(job)),
            Due::Forgotten(job) => (Key::Forgotten(row_id(job)?), Vec::new()),
        })
    }
}

/// Removes some of what the last whole checkpoint made needless. False: there was nothing.
pub(super) async fn tidy(writer: &mut SqliteConnection, progress: &mut Progress) -> Result<bool, StoreError> {
    if progress.leftovers {
        remove_leftovers(writer, progress.whole).await?;
        progress.leftovers = false;
        return Ok(true);
    }
    let from = progress.needless.len().saturating_sub(ROWS);
    let journal = progress.whole.min(progress.journal + i64::try_from(ROWS).expect("few")) + 1;
    if progress.needless.is_empty() && journal <= progress.journal {
        return Ok(false);
    }
    let mut tx = writer.begin().await?;
    for key in &progress.needless[from..] {
        key.remove_needless(&mut tx, progress.whole).await?;
    }
    sqlx::query("DELETE FROM journal WHERE seq < ?").bind(journal).execute(&mut *tx).await?;
    tx.commit().await?;
    progress.needless.truncate(from);
    progress.journal = journal.max(progress.journal);
    Ok(true)
}

/// Of a process that ended before it was tidy.
async fn remove_leftovers(writer: &mut SqliteConnection, whole: i64) -> Result<(), StoreError> {
    let mut tx = writer.begin().await?;
    for sql in [
        "DELETE FROM live_part WHERE seq > ?1",
        "DELETE FROM live_job WHERE seq > ?1",
        "DELETE FROM live_part WHERE job IN (SELECT job FROM live_job WHERE length(body) = 0 AND seq <= ?1)",
        "DELETE FROM live_job WHERE job IN (SELECT job FROM live_job WHERE length(body) = 0 AND seq <= ?1)",
        "DELETE FROM live_part AS old WHERE EXISTS (SELECT 1 FROM live_part AS new
         WHERE new.job = old.job AND new.part = old.part AND new.seq > old.seq AND new.seq <= ?1)",
        "DELETE FROM live_job AS old WHERE EXISTS (SELECT 1 FROM live_job AS new
         WHERE new.job = old.job AND new.seq > old.seq AND new.seq <= ?1)",
        "DELETE FROM journal WHERE seq <= ?1",
    ] {
        sqlx::query(sql).bind(whole).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// The last whole checkpoint.
pub(super) async fn load(writer: &mut SqliteConnection) -> Result<(Kept, Progress), StoreError> {
    let mut kept = Kept::default();
    let mut progress = Progress { leftovers: true, ..Progress::default() };
    let found = sqlx::query("SELECT seq, version, body FROM checkpoint").fetch_optional(&mut *writer).await?;
    if let Some(row) = found {
        progress.whole = row.try_get("seq")?;
        kept.engine = snapshots::decode_engine(&body("checkpoint", &row)?)?;
    }
    progress.journal = progress.whole + 1;
    // Of rows of the same, the last counts.
    let mut jobs: BTreeMap<JobId, Option<JobSnapshot>> = BTreeMap::new();
    let rows = sqlx::query("SELECT job, version, body FROM live_job WHERE seq <= ? ORDER BY job, seq");
    for row in rows.bind(progress.whole).fetch_all(&mut *writer).await? {
        let encoded = body("live_job", &row)?;
        let job = if encoded.is_empty() { None } else { Some(snapshots::decode_job(&encoded)?) };
        jobs.insert(job_id(row.try_get("job")?)?, job);
    }
    let mut parts: BTreeMap<(JobId, u32), TaskPart> = BTreeMap::new();
    let mut history: BTreeMap<(JobId, HistoryKey), HistoryPart> = BTreeMap::new();
    let rows = sqlx::query("SELECT job, part, version, body FROM live_part WHERE seq <= ? ORDER BY job, part, seq");
    for row in rows.bind(progress.whole).fetch_all(writer).await? {
        let (job, part) = (job_id(row.try_get("job")?)?, row.try_get("part")?);
        match (jobs.get(&job), history_key(part)?) {
            (Some(Some(_)), Some(key)) => {
                let decoded = snapshots::decode_history(job, key, &body("live_part", &row)?)?;
                history.insert((job, key), decoded);
            }
            (Some(Some(_)), None) => {
                let part = number::<u32>(part)?;
                let decoded = snapshots::decode_part(job, part, &body("live_part", &row)?)?;
                parts.insert((job, part), decoded);
            }
            (Some(None), _) => {}
            (None, _) => return Err(StoreError::Damaged(format!("tasks of {job} without their job"))),
        }
    }
    kept.jobs = jobs.into_values().flatten().map(|job| (job, Vec::new(), Vec::new())).collect();
    let find = |jobs: &[KeptJob], job| jobs.binary_search_by_key(&job, |(job, ..)| job.job).expect("seen above");
    for ((job, _), part) in parts {
        let at = find(&kept.jobs, job);
        kept.jobs[at].1.push(part);
    }
    for ((job, _), part) in history {
        let at = find(&kept.jobs, job);
        kept.jobs[at].2.push(part);
    }
    Ok((kept, progress))
}

impl Progress {
    /// Journal row up to which the last whole checkpoint reaches.
    pub(super) fn whole(&self) -> i64 {
        self.whole
    }
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Rows of parts from this number on are pieces of a job's history, so many for each kind.
const HISTORY: i64 = 1 << 32;

fn history_row(HistoryKey { kind, part }: HistoryKey) -> i64 {
    let kind = match kind {
        HistoryKind::Log => 1,
        HistoryKind::Signals => 2,
        HistoryKind::Ids => 3,
    };
    kind * HISTORY + i64::from(part)
}

/// `None`: a part of its tasks.
fn history_key(row: i64) -> Result<Option<HistoryKey>, StoreError> {
    let kind = match row.div_euclid(HISTORY) {
        0 => return Ok(None),
        1 => HistoryKind::Log,
        2 => HistoryKind::Signals,
        3 => HistoryKind::Ids,
        _ => return Err(StoreError::Damaged(format!("part {row} of a job is none this server knows"))),
    };
    Ok(Some(HistoryKey { kind, part: number(row.rem_euclid(HISTORY))? }))
}
