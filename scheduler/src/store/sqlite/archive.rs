//! The archive tables: written once a job is final, read by the API and by people.

use spool_core::io::Blob;
use spool_proto::ids::{JobId, TaskId};
use spool_proto::time::Timestamp;
use spool_proto::view::{JobView, LogLine, TaskView};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Connection, QueryBuilder, Row, Sqlite, SqliteConnection};

use super::{job_id, number, row_id};
use crate::store::{Archive, ArchivedJob, JobFilter, StoreError};

/// Rows a statement inserts: SQLite takes 32,766 parameters, the widest row has 13.
const ROWS: usize = 1_000;

/// Replaces what the archive has of the job, in one transaction.
pub(super) async fn write(writer: &mut SqliteConnection, archived: ArchivedJob) -> Result<(), StoreError> {
    let ArchivedJob { mut view, request_id, attempts, events, history } = archived;
    let job = row_id(view.job)?;
    let tasks = std::mem::take(&mut view.tasks);
    let failure = view.failure.as_ref();
    let mut tx = writer.begin().await?;
    for delete in [
        "DELETE FROM job WHERE job = ?",
        "DELETE FROM task WHERE job = ?",
        "DELETE FROM attempt WHERE job = ?",
        "DELETE FROM event WHERE job = ?",
        "DELETE FROM history WHERE job = ?",
    ] {
        sqlx::query(delete).bind(job).execute(&mut *tx).await?;
    }
    sqlx::query("INSERT INTO job VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(job)
        .bind(&view.name)
        .bind(&view.service)
        .bind(view.state.name())
        .bind(i64::from(view.priority))
        .bind((!request_id.is_empty()).then_some(request_id))
        .bind(micros(view.submitted))
        .bind(view.started.map(micros))
        .bind(view.finished.map(micros))
        .bind(failure.map(|f| f.class.name()))
        .bind(failure.map(|f| f.code.as_str()))
        .bind(failure.map(|f| f.message.as_str()))
        .bind(json(&view)?)
        .execute(&mut *tx)
        .await?;
    for rows in tasks.chunks(ROWS) {
        let rows = rows.iter().map(|t| Ok((t, json(t)?))).collect::<Result<Vec<_>, StoreError>>()?;
        let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO task ");
        insert.push_values(rows, |mut row, (task, view)| {
            row.push_bind(job)
                .push_bind(i64::from(task.task.index))
                .push_bind(&task.function)
                .push_bind(&task.phase)
                .push_bind(&task.label)
                .push_bind(task.state.name())
                .push_bind(i64::from(task.attempt))
                .push_bind(task.worker.as_ref().map(ToString::to_string))
                .push_bind(task.started.map(micros))
                .push_bind(task.finished.map(micros))
                .push_bind(signed(task.frames))
                .push_bind(signed(task.bytes))
                .push_bind(view);
        });
        insert.build().persistent(false).execute(&mut *tx).await?;
    }
    for (page, body) in (0i64..).zip(&history) {
        sqlx::query("INSERT INTO history VALUES (?, ?, ?)")
            .bind(job)
            .bind(page)
            .bind(&body[..])
            .execute(&mut *tx)
            .await?;
    }
    for rows in attempts.chunks(ROWS) {
        let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO attempt ");
        insert.push_values(rows, |mut row, attempt| {
            row.push_bind(job)
                .push_bind(i64::from(attempt.task.index))
                .push_bind(signed(attempt.fence.0))
                .push_bind(i64::from(attempt.attempt))
                .push_bind(attempt.worker.to_string())
                .push_bind(micros(attempt.started))
                .push_bind(micros(attempt.finished))
                .push_bind(attempt.failure.as_ref().map(|f| f.class.name()))
                .push_bind(attempt.failure.as_ref().map(|f| f.code.clone()))
                .push_bind(attempt.failure.as_ref().map(|f| f.message.clone()));
        });
        insert.build().persistent(false).execute(&mut *tx).await?;
    }
    for (chunk, rows) in events.chunks(ROWS).enumerate() {
        let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO event ");
        insert.push_values(rows.iter().enumerate(), |mut row, (i, line)| {
            row.push_bind(job)
                .push_bind(i64::try_from(chunk * ROWS + i).unwrap_or(i64::MAX))
                .push_bind(micros(line.at))
                .push_bind(line.task.map(|t| i64::from(t.index)))
                .push_bind(line.attempt.map(i64::from))
                .push_bind(line.worker.as_ref().map(ToString::to_string))
                .push_bind(&line.level)
                .push_bind(&line.text);
        });
        insert.build().persistent(false).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Microseconds since the epoch reach 2^63 in the year 294,247.
fn micros(t: Timestamp) -> i64 {
    signed(t.0)
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Damaged(format!("a job that has no JSON: {e}")))
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Damaged(format!("the archive holds what is no job: {e}")))
}

/// Reads the archive on connections of its own.
#[derive(Debug, Clone)]
pub struct SqliteArchive {
    readers: SqlitePool,
}

impl SqliteArchive {
    pub(super) fn new(readers: SqlitePool) -> SqliteArchive {
        SqliteArchive { readers }
    }
}

impl Archive for SqliteArchive {
    async fn get(&self, job: JobId, brief: bool) -> Result<Option<JobView>, StoreError> {
        let Ok(id) = row_id(job) else { return Ok(None) };
        let view: Option<String> =
            sqlx::query_scalar("SELECT view FROM job WHERE job = ?").bind(id).fetch_optional(&self.readers).await?;
        let Some(mut view) = view.map(|text| from_json::<JobView>(&text)).transpose()? else { return Ok(None) };
        if !brief {
            let tasks: Vec<String> = sqlx::query_scalar("SELECT view FROM task WHERE job = ? ORDER BY task")
                .bind(id)
                .fetch_all(&self.readers)
                .await?;
            view.tasks = tasks.iter().map(|text| from_json::<TaskView>(text)).collect::<Result<_, _>>()?;
        }
        Ok(Some(view))
    }

    async fn find_request(&self, request_id: &str) -> Result<Option<JobId>, StoreError> {
        let job: Option<i64> = sqlx::query_scalar("SELECT job FROM job WHERE request_id = ?")
            .bind(request_id)
            .fetch_optional(&self.readers)
            .await?;
        job.map(job_id).transpose()
    }

    async fn history(&self, job: JobId) -> Result<Vec<Blob>, StoreError> {
        let pages: Vec<Vec<u8>> = sqlx::query_scalar("SELECT body FROM history WHERE job = ? ORDER BY page")
            .bind(row_id(job)?)
            .fetch_all(&self.readers)
            .await?;
        Ok(pages.into_iter().map(Blob::from).collect())
    }

    async fn children(&self, parent: JobId) -> Result<Vec<JobId>, StoreError> {
        // From "child:PARENT:" up to where the character after the colon would begin.
        let jobs: Vec<i64> =
            sqlx::query_scalar("SELECT job FROM job WHERE request_id >= ? AND request_id < ? ORDER BY job")
                .bind(format!("child:{parent}:"))
                .bind(format!("child:{parent};"))
                .fetch_all(&self.readers)
                .await?;
        jobs.into_iter().map(job_id).collect()
    }

    async fn list(&self, filter: &JobFilter) -> Result<Vec<JobView>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT view FROM job WHERE TRUE");
        if let Some(before) = filter.before {
            query.push(" AND job < ").push_bind(signed(before.0));
        }
        if !filter.states.is_empty() {
            query.push(" AND state IN (");
            let mut states = query.separated(", ");
            for state in &filter.states {
                states.push_bind(state.name());
            }
            query.push(")");
        }
        if !filter.parts {
            query.push(" AND json_extract(view, '$.part_of') IS NULL");
        }
        for (key, value) in &filter.labels {
            query.push(" AND EXISTS (SELECT 1 FROM json_each(view, '$.labels') WHERE key = ").push_bind(key);
            query.push(" AND value = ").push_bind(value).push(")");
        }
        query.push(" ORDER BY job DESC LIMIT ").push_bind(i64::from(filter.limit));
        let views: Vec<String> = query.build_query_scalar().persistent(false).fetch_all(&self.readers).await?;
        views.iter().map(|text| from_json(text)).collect()
    }

    async fn logs(&self, job: JobId) -> Result<Vec<LogLine>, StoreError> {
        let Ok(id) = row_id(job) else { return Ok(Vec::new()) };
        let rows =
            sqlx::query("SELECT at_us, task, attempt, worker, level, text FROM event WHERE job = ? ORDER BY line")
                .bind(id)
                .fetch_all(&self.readers)
                .await?;
        rows.iter().map(|row| log_line(job, row)).collect()
    }
}

fn log_line(job: JobId, row: &SqliteRow) -> Result<LogLine, StoreError> {
    let task: Option<i64> = row.try_get("task")?;
    let attempt: Option<i64> = row.try_get("attempt")?;
    Ok(LogLine {
        at: Timestamp(number(row.try_get("at_us")?)?),
        task: task.map(|index| number(index).map(|index| TaskId { job, index })).transpose()?,
        attempt: attempt.map(number).transpose()?,
        worker: row.try_get::<Option<String>, _>("worker")?.map(Into::into),
        level: row.try_get("level")?,
        text: row.try_get("text")?,
    })
}
