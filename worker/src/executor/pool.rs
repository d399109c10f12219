//! Warm executors: taken for a call, given back after it, replaced when they died or are spent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use spool_proto::failure::Failure;

use super::process::{CallOutput, Executor, ExecutorOptions, Job, Unanswered};

/// Executors of one worker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Executors {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: ExecutorOptions,
    /// Idle ones kept at most.
    warm: usize,
    idle: Mutex<Vec<Executor>>,
}

impl Executors {
    /// Keeps up to `warm` idle ones. None is started yet.
    pub fn new(options: ExecutorOptions, warm: usize) -> Executors {
        Executors { shared: Arc::new(Shared { options, warm, idle: Mutex::new(Vec::with_capacity(warm)) }) }
    }

    /// Starts executors until `warm` wait.
    ///
    /// # Errors
    /// Class `host`, code `executor_start_failed`.
    pub async fn fill(&self) -> Result<(), Failure> {
        while self.idle(|idle| idle.len()) < self.shared.warm {
            let executor = Executor::spawn(&self.shared.options).await?;
            self.keep(executor);
        }
        Ok(())
    }

    /// Runs one call in a warm executor, or a new one where none is idle.
    ///
    /// # Errors
    /// As [`Executor::spawn`] and [`Executor::call`].
    pub async fn call(&self, job: Job<'_>) -> Result<CallOutput, Unanswered> {
        let mut executor = self.take().await?;
        if job.scratch.is_some() && !executor.has_room(job.limits) {
            drop(executor);
            executor = Executor::spawn(&self.shared.options).await?;
        }
        let output = executor.call(job).await;
        self.give(executor);
        output
    }

    /// Proves a backend usable, in an executor that may stay warm.
    ///
    /// # Errors
    /// As [`Executor::spawn`] and [`Executor::golden`].
    pub async fn golden(&self, backend: &str, within: Duration) -> Result<(), Failure> {
        let mut executor = self.take().await?;
        let proved = executor.golden(backend, within).await;
        self.give(executor);
        proved
    }

    async fn take(&self) -> Result<Executor, Failure> {
        while let Some(mut executor) = self.idle(Vec::pop) {
            // One may have died idle.
            if executor.is_usable() {
                return Ok(executor);
            }
        }
        Executor::spawn(&self.shared.options).await
    }

    fn give(&self, mut executor: Executor) {
        if executor.is_usable() {
            self.keep(executor);
            return;
        }
        drop(executor);
        let executors = self.clone();
        tokio::spawn(async move {
            match Executor::spawn(&executors.shared.options).await {
                Ok(executor) => executors.keep(executor),
                // Not tried again here: the next call that finds none starts its own, and fails if that fails.
                Err(failure) => {
                    tracing::error!(%failure, evidence = failure.evidence, "no executor in place of the last")
                }
            }
        });
    }

    fn keep(&self, executor: Executor) {
        self.idle(|idle| {
            if idle.len() < self.shared.warm {
                idle.push(executor);
            }
        });
    }

    fn idle<R>(&self, with: impl FnOnce(&mut Vec<Executor>) -> R) -> R {
        with(&mut self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
