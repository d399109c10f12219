//! `Logs`: a job's history, from memory or the archive; followed until the job is final.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use spool_proto::failure::Failure;
use spool_proto::ids::{JobId, TaskId};
use spool_proto::view::LogLine;
use spool_proto::wire::v1;
use tonic::Status;

use super::watch::Changes;
use super::{Jobs, no_such_job, status};
use crate::store::Archive;
use crate::view;

pub(crate) type LogStream = Pin<Box<dyn Stream<Item = Result<v1::LogLine, Status>> + Send>>;

/// Least time between two looks while following: each reads the whole history.
const INTERVAL: Duration = Duration::from_millis(500);

pub(super) async fn logs<A: Archive>(
    jobs: Jobs<A>,
    job: JobId,
    task: Option<TaskId>,
    follow: bool,
) -> Result<LogStream, Failure> {
    let changes = Changes::new(jobs.inbox.watch(job).await?, INTERVAL);
    let (lines, is_final) = lines_of(&jobs, job).await?;
    let mut sent = Sent { task, hashes: HashSet::new() };
    let first = sent.news(lines);
    let rest = (follow && !is_final).then_some((jobs, changes, sent));
    let rest = stream::unfold(rest, move |state| async move {
        let (jobs, mut changes, mut sent) = state?;
        let looked = match changes.next().await {
            Ok(()) => lines_of(&jobs, job).await,
            Err(failure) => Err(failure),
        };
        Some(match looked {
            Ok((lines, is_final)) => (sent.news(lines), (!is_final).then_some((jobs, changes, sent))),
            Err(failure) => (vec![Err(status(&failure))], None),
        })
    });
    Ok(Box::pin(stream::iter(first).chain(rest.flat_map(stream::iter))))
}

/// What was sent already, by hash: lines come in by time, not only at the end.
struct Sent {
    task: Option<TaskId>,
    hashes: HashSet<u64>,
}

impl Sent {
    fn news(&mut self, lines: Vec<LogLine>) -> Vec<Result<v1::LogLine, Status>> {
        let wanted = lines.iter().filter(|line| self.task.is_none() || line.task == self.task);
        let hash = |line: &LogLine| {
            let mut hasher = DefaultHasher::new();
            // The time of a start may still be put right by the worker; those of failures stand.
            let at = (line.level != "info").then_some(line.at);
            (at, line.task, line.attempt, &line.worker, &line.text).hash(&mut hasher);
            hasher.finish()
        };
        wanted.filter(|line| self.hashes.insert(hash(line))).map(|line| Ok(line.into())).collect()
    }
}

/// The history so far, and whether it is over.
async fn lines_of<A: Archive>(jobs: &Jobs<A>, job: JobId) -> Result<(Vec<LogLine>, bool), Failure> {
    let live = jobs
        .inbox
        .query(move |engine, _| engine.job(job).map(|found| (view::job_logs(engine, found), found.state().is_final())));
    if let Some(found) = live.await? {
        return Ok(found);
    }
    let lines = jobs.archive.logs(job).await.map_err(|e| e.failure())?;
    if lines.is_empty() { Err(no_such_job(job)) } else { Ok((lines, true)) }
}
