//! `Watch`: the job now, and again after every change, at most ten times a second, until it is final.

use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream;
use spool_proto::failure::Failure;
use spool_proto::ids::JobId;
use spool_proto::wire::v1;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;

use super::{Jobs, no_such_job, status};
use crate::run_loop::inbox::stopping;
use crate::store::Archive;

pub(crate) type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::Job, Status>> + Send>>;

/// Least time between two messages.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

/// Wakes after changes of one job, not more often than every `interval`.
pub(super) struct Changes {
    receiver: watch::Receiver<()>,
    interval: Duration,
    next: Instant,
}

impl Changes {
    pub(super) fn new(receiver: watch::Receiver<()>, interval: Duration) -> Changes {
        Changes { receiver, interval, next: Instant::now() }
    }

    /// # Errors
    /// When the server stops, or has forgotten the job.
    pub(super) async fn next(&mut self) -> Result<(), Failure> {
        self.receiver.changed().await.map_err(|_| stopping())?;
        tokio::time::sleep_until(self.next).await;
        // What changed until now is in the next view.
        self.receiver.mark_unchanged();
        self.next = Instant::now() + self.interval;
        Ok(())
    }
}

pub(super) async fn watch<A: Archive>(jobs: Jobs<A>, job: JobId, brief: bool) -> Result<WatchStream, Failure> {
    // First listen, then look, so that no change falls between.
    let changes = Changes::new(jobs.inbox.watch(job).await?, INTERVAL);
    let first = message(&jobs, job, brief).await?;
    let messages = stream::unfold(Some((jobs, changes, Some(first))), move |state| async move {
        let (jobs, mut changes, ready) = state?;
        let message = match ready {
            Some(first) => Ok(first),
            None => match changes.next().await {
                Ok(()) => message(&jobs, job, brief).await,
                Err(failure) => Err(failure),
            },
        };
        Some(match message {
            Ok((view, true)) => (Ok(view), None),
            Ok((view, false)) => (Ok(view), Some((jobs, changes, None))),
            Err(failure) => (Err(status(&failure)), None),
        })
    });
    Ok(Box::pin(messages))
}

/// The job, and whether it is final: then with its tasks.
async fn message<A: Archive>(jobs: &Jobs<A>, job: JobId, brief: bool) -> Result<(v1::Job, bool), Failure> {
    let mut view = jobs.view(job, brief).await?.ok_or_else(|| no_such_job(job))?;
    let is_final = view.state.is_final();
    if is_final && brief {
        view = jobs.view(job, false).await?.ok_or_else(|| no_such_job(job))?;
    }
    Ok(((&view).into(), is_final))
}
