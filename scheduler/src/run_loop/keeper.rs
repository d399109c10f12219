//! Keeps house between turns: archives jobs that became final, forgets those nobody needs in memory, writes checkpoints, removes
//! artifacts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use spool_core::engine::Engine;
use spool_proto::ids::JobId;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::JobState;
use tracing::{debug, error, warn};

use super::folders::Folders;
use crate::notify::Outbox;
use crate::store::{Archive, Checkpoint, Store, StoreError};
use crate::view;

/// How long things are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// A job that is done leaves memory after this long; it is in the archive from its end on.
    pub keep_done: Span,
    /// More done jobs than this are not kept in memory, once they are [`Limits::keep_done_least`] old.
    pub keep_done_jobs: usize,
    /// Every done job is kept this long: longer than any request is under way, so that a request id is always found in memory
    /// or in the archive.
    pub keep_done_least: Span,
    /// A failed or cancelled job, with its pieces, may be retried for this long.
    pub keep_failed: Span,
    /// Smallest journal that is worth a checkpoint, bytes. A state that is larger asks for a larger journal, so that the cost of
    /// checkpoints stays in proportion to what happens.
    pub checkpoint_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            keep_done: Span::from_secs(600),
            keep_done_jobs: 200,
            keep_done_least: Span::from_secs(30),
            keep_failed: Span::from_secs(7 * 24 * 3600),
            checkpoint_bytes: 16 << 20,
        }
    }
}

/// Parts that are done stay in memory with their whole, unless there are more done jobs than this.
const PARTS_KEPT: usize = 10_000;

/// Wait before an archive entry or a piece of a checkpoint that failed is tried again.
const RETRY: Span = Span::from_secs(5);

#[derive(Debug)]
pub(super) struct Keeper {
    limits: Limits,
    folders: Folders,
    /// Who is told of jobs that ended.
    outbox: Option<Outbox>,
    /// Final, not in the archive yet.
    to_archive: VecDeque<JobId>,
    archive_at: Timestamp,
    /// Final and archived, by when they became final.
    done: BTreeSet<(Timestamp, JobId)>,
    failed: BTreeSet<(Timestamp, JobId)>,
    /// When each of them became final.
    final_at: BTreeMap<JobId, Timestamp>,
    /// Journal bytes at which the next checkpoint is due.
    checkpoint_due: u64,
    /// The one that is being written. It is kept until it is: what it holds counts as written in the engine.
    writing: Option<Checkpoint>,
    /// The last one may have left something behind.
    is_untidy: bool,
    write_at: Timestamp,
    /// The last write of a checkpoint failed: that has been told.
    is_refused: bool,
}

impl Keeper {
    pub(super) fn new(limits: Limits, artifacts: PathBuf) -> Keeper {
        Keeper {
            checkpoint_due: limits.checkpoint_bytes,
            limits,
            folders: Folders::new(artifacts),
            outbox: None,
            to_archive: VecDeque::new(),
            archive_at: Timestamp::ZERO,
            done: BTreeSet::new(),
            failed: BTreeSet::new(),
            final_at: BTreeMap::new(),
            writing: None,
            is_untidy: true,
            write_at: Timestamp::ZERO,
            is_refused: false,
        }
    }

    pub(super) fn set_outbox(&mut self, outbox: Outbox) {
        self.outbox = Some(outbox);
    }

    /// After a start: final jobs the archive does not have as they are, and folders of jobs nobody will go on with.
    pub(super) async fn find_final<A: Archive>(&mut self, engine: &Engine, archive: &A) -> Result<(), StoreError> {
        for job in engine.jobs().filter(|job| job.state().is_final()) {
            let archived = archive.get(job.id(), true).await?;
            if archived.is_some_and(|view| view.finished == job.finished() && view.state == job.state()) {
                self.keep_until_due(engine, job.id());
            } else {
                self.to_archive.push_back(job.id());
            }
        }
        self.folders.find_left(engine);
        Ok(())
    }

    pub(super) fn ended(&mut self, engine: &Engine, job: JobId) {
        self.to_archive.push_back(job);
        if let Some(done) = engine.job(job).filter(|job| job.state() == JobState::Done) {
            self.folders.done(engine, done);
        }
    }

    pub(super) fn next_wakeup(&self) -> Option<Timestamp> {
        let archive = (!self.to_archive.is_empty()).then_some(self.archive_at);
        let crowded = self.done.len() > self.limits.keep_done_jobs;
        let keep_done = if crowded { self.limits.keep_done_least } else { self.limits.keep_done };
        let done = self.done.first().map(|(at, _)| *at + keep_done);
        let failed = self.failed.first().map(|(at, _)| *at + self.limits.keep_failed);
        let write = (self.writing.is_some() || self.is_untidy).then_some(self.write_at);
        [archive, done, failed, write].into_iter().flatten().min()
    }

    /// A little of everything that is due. Returns the jobs the engine may forget.
    pub(super) async fn keep<S: Store>(&mut self, now: Timestamp, engine: &mut Engine, store: &mut S) -> Vec<JobId> {
        if now >= self.archive_at {
            self.archive_one(now, engine, store).await;
        }
        if now >= self.write_at
            && let Err(e) = self.write_on(engine, store).await
        {
            self.write_at = now + RETRY;
            self.refused(&e);
        }
        self.forget(now, engine)
    }

    async fn archive_one<S: Store>(&mut self, now: Timestamp, engine: &Engine, store: &mut S) {
        let Some(id) = self.to_archive.pop_front() else { return };
        // It may have been retried meanwhile.
        let Some(job) = engine.job(id).filter(|job| job.state().is_final()) else { return };
        // Before the archive: what is archived is not looked at again after a start.
        if let (Some(outbox), Some(url)) = (&self.outbox, &job.request().notify)
            && let Err(e) = outbox.put(url, view::job(engine, job, now, false)).await
        {
            warn!(job = %id, error = %e, "the notice of the job's end could not be kept yet");
            self.to_archive.push_back(id);
            self.archive_at = now + RETRY;
            return;
        }
        match store.archive(view::archived(engine, job, now)).await {
            Ok(()) => self.keep_until_due(engine, id),
            Err(e) => {
                warn!(job = %id, error = %e, "the job could not be archived yet");
                self.to_archive.push_back(id);
                self.archive_at = now + RETRY;
            }
        }
    }

    fn keep_until_due(&mut self, engine: &Engine, id: JobId) {
        let Some(job) = engine.job(id) else { return };
        let at = job.finished().unwrap_or_default();
        if let Some(before) = self.final_at.insert(id, at) {
            self.failed.remove(&(before, id));
        }
        let set = if job.state() == JobState::Done { &mut self.done } else { &mut self.failed };
        set.insert((at, id));
    }

    fn forget(&mut self, now: Timestamp, engine: &Engine) -> Vec<JobId> {
        let mut jobs = Vec::new();
        while let Some(&(at, job)) = self.done.first() {
            let crowded = self.done.len() > self.limits.keep_done_jobs;
            let keep = if crowded { self.limits.keep_done_least } else { self.limits.keep_done };
            if at + keep > now {
                break;
            }
            self.done.pop_first();
            if self.done.len() < PARTS_KEPT && is_part_of_open(engine, job) {
                self.done.insert((now, job));
                self.final_at.insert(job, now);
                continue;
            }
            self.final_at.remove(&job);
            jobs.push(job);
        }
        while let Some(&(at, job)) = self.failed.first() {
            if at + self.limits.keep_failed > now {
                break;
            }
            self.failed.pop_first();
            self.final_at.remove(&job);
            // A job that was retried is not final, or has become so again later.
            if engine.job(job).is_some_and(|job| job.state().is_final() && job.finished() == Some(at)) {
                self.folders.remove(job);
                jobs.push(job);
            }
        }
        jobs
    }

    /// A piece of the checkpoint that is being written, or of the needless rows before it, or the beginning of a new one if that is due.
    async fn write_on<S: Store>(&mut self, engine: &mut Engine, store: &mut S) -> Result<(), StoreError> {
        if let Some(checkpoint) = &mut self.writing {
            if store.checkpoint(checkpoint).await? {
                debug!(checkpoint.bytes, "checkpoint");
                self.checkpoint_due = self.limits.checkpoint_bytes.max(checkpoint.bytes.saturating_mul(2));
                (self.writing, self.is_untidy, self.is_refused) = (None, true, false);
            }
        } else if self.is_untidy {
            self.is_untidy = store.tidy().await?;
        } else if store.mark().bytes >= self.checkpoint_due {
            self.begin(engine, store);
        }
        Ok(())
    }

    /// Takes down what changed since the last one. A checkpoint that cannot be written costs nothing but a longer journal.
    fn begin<S: Store>(&mut self, engine: &mut Engine, store: &S) {
        self.writing = Some(Checkpoint::take(store.mark(), engine));
    }

    fn refused(&mut self, e: &StoreError) {
        if !std::mem::replace(&mut self.is_refused, true) {
            error!(error = %e, "the checkpoint could not be written; the journal grows on");
        }
    }

    /// Finishes the checkpoint at hand, and writes a last one.
    pub(super) async fn close<S: Store>(&mut self, engine: &mut Engine, store: &mut S) {
        let mut is_last = false;
        loop {
            let is_idle = self.writing.is_none() && !self.is_untidy;
            if is_idle && (is_last || store.mark().bytes == 0) {
                return;
            }
            if is_idle {
                is_last = true;
                self.begin(engine, store);
            }
            if let Err(e) = self.write_on(engine, store).await {
                return self.refused(&e);
            }
        }
    }
}

/// What people are shown of a job counts its parts: they stay as long as it is under way.
fn is_part_of_open(engine: &Engine, job: JobId) -> bool {
    let whole = engine.job(job).and_then(|job| engine.job(job.request().part_of?));
    whole.is_some_and(|whole| !whole.state().is_final())
}
