//! One call without a server: `spool probe`.

use std::path::PathBuf;
use std::sync::Arc;

use spool_proto::call::{Answer, Call};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, WorkerName};
use tokio::sync::watch;

use crate::blocking;
use crate::executor::{ExecutorOptions, Executors, Limits, Sandbox, Stops, Unanswered};
use crate::runner::{Progress, Runner, Terms, Told, Work};
use crate::scratch::Scratch;
use crate::stores::Stores;

/// Where and in what a call runs.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// How an executor is started (`spool exec`).
    pub program: PathBuf,
    pub args: Vec<std::ffi::OsString>,
    /// A directory of one's own is made in it and removed.
    pub scratch: PathBuf,
    pub limits: Limits,
    /// What the executor locks itself in with.
    pub sandbox: Sandbox,
}

/// Runs one call in one executor of its own. When the future is dropped, the executor is killed.
///
/// # Errors
/// The call's.
pub async fn call(options: LocalOptions, call: &Call, progress: Progress) -> Result<Answer, Failure> {
    let LocalOptions { program, args, scratch: root, limits, sandbox } = options;
    let name = WorkerName::from(format!("local-{}", std::process::id()));
    let scratch = blocking(move || Scratch::take(&root, &name)).await?;
    let directory = scratch.directory().to_owned();
    let _removed = Removed(directory.clone());
    let executors = Executors::new(ExecutorOptions { program, args, directory, sandbox }, 0);
    let runner = Runner { scratch: Arc::new(scratch), executors, stores: Stores::default(), functions: None };
    let (_never, stop) = watch::channel(Stops::NONE);
    let work = Work { call: Arc::new(call.clone()), fence: Fence(0), limits, progress };
    let (ended, result) = std::sync::mpsc::channel();
    let tell = Arc::new(move |_, told| {
        if let Told::Ended { result, .. } = told {
            // Somebody listens until this is told.
            drop(ended.send(result));
        }
    });
    runner.run(vec![work], Terms { key: None, stop, patience: None }, tell).await;
    match result.try_recv() {
        Ok(Ok((answer, _))) => Ok(answer),
        Ok(Err(Unanswered::Failed(failure))) => Err(failure),
        Ok(Err(Unanswered::Stopped)) | Err(_) => Err(Failure::new(Class::Transient, "stopped", "the call was stopped")),
    }
}

/// Removed, with all in it, when this is dropped.
pub(crate) struct Removed(pub(crate) PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "scratch could not be removed");
        }
    }
}
