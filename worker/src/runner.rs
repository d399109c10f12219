//! Runs one call from its inputs to its stored outputs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use spool_proto::call::{Answer, Args, Call, PublishArgs, Value};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::Fence;
use tokio::sync::watch;

use crate::executor::{Advance, Executors, Job, Limits, Pulse, Unanswered, stopped, watch as watch_limits};
use crate::scratch::Scratch;
use crate::transfer::{self, Input};
use crate::{blocking, publish};

/// Progress of what the worker itself runs is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Where calls run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runner {
    pub scratch: Arc<Scratch>,
    pub executors: Executors,
}

/// Told how far a call is.
pub type Progress = Arc<dyn Fn(Advance) + Send + Sync>;

/// What surrounds a call.
pub struct Terms {
    /// In the name of everything it leaves.
    pub fence: Fence,
    pub limits: Limits,
    /// True, or without a sender: stop.
    pub stop: watch::Receiver<bool>,
    pub progress: Progress,
}

impl Runner {
    /// Runs a call. Its scratch is gone when this returns, and so is its executor if it had to be killed.
    pub async fn run(&self, call: &Call, mut terms: Terms) -> Result<(Answer, Advance), Unanswered> {
        match &call.args {
            Args::Noop { sleep_us, through_executor: false } => {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_micros(*sleep_us)) => Ok(bare(Value::Noop)),
                    () = stopped(&mut terms.stop) => Err(Unanswered::Stopped),
                }
            }
            Args::Noop { .. } => self.executed(call, terms, None).await,
            Args::Publish(args) => publish(args.clone(), Input::of(call), terms).await,
            _ => {
                let scratch = Arc::clone(&self.scratch);
                let folder = blocking(move || scratch.folder()).await?;
                let answered = self.executed(call, terms, Some(folder.path())).await;
                blocking(move || drop(folder)).await;
                answered
            }
        }
    }

    async fn executed(
        &self,
        call: &Call,
        terms: Terms,
        scratch: Option<&Path>,
    ) -> Result<(Answer, Advance), Unanswered> {
        let Terms { fence, limits, stop, progress } = terms;
        let args = serde_json::to_vec(&call.args).map_err(|error| {
            Failure::new(Class::Internal, "bad_call", format!("the call cannot be written: {error}"))
        })?;
        let inputs = Input::of(call);
        let job = Job { args, inputs: &inputs, scratch, limits, stop: stop.clone(), progress: Some(progress.as_ref()) };
        let output = self.executors.call(job).await.map_err(|unanswered| match (unanswered, scratch) {
            (Unanswered::Failed(failure), Some(scratch)) => transfer::with_directory(failure, scratch).into(),
            (unanswered, _) => unanswered,
        })?;
        if output.peak_memory_bytes > 0 {
            tracing::debug!(peak_mib = output.peak_memory_bytes >> 20, declared_mib = limits.memory_mib, "memory");
        }
        if !output.files.is_empty() && call.output_prefix.is_empty() {
            let text = format!("{} left files, and nobody said where to", call.args.function());
            return Err(Failure::new(Class::Internal, "bad_call", text).into());
        }
        let mut advance = output.advance;
        let mut artifacts = Vec::with_capacity(output.files.len());
        for file in output.files {
            if *stop.borrow() {
                return Err(Unanswered::Stopped);
            }
            let prefix = call.output_prefix.clone();
            artifacts.push(blocking(move || transfer::store(&file, &prefix, fence)).await?);
        }
        if advance.bytes == 0 {
            advance.bytes = artifacts.iter().map(|artifact| artifact.bytes).sum();
        }
        Ok((Answer { artifacts, warnings: output.warnings, value: output.value }, advance))
    }
}

fn bare(value: Value) -> (Answer, Advance) {
    (Answer { artifacts: Vec::new(), warnings: Vec::new(), value }, Advance::default())
}

/// On a blocking thread, which cannot be killed: it is asked to stop, and when its disk hangs it is left behind.
async fn publish(args: PublishArgs, inputs: Vec<Input>, terms: Terms) -> Result<(Answer, Advance), Unanswered> {
    let [film] = <[Input; 1]>::try_from(inputs).map_err(|inputs| {
        Failure::new(Class::Internal, "bad_call", format!("a publish with {} inputs instead of one", inputs.len()))
    })?;
    let Terms { limits, stop, progress, .. } = terms;
    let (pulse, abandoned) = (Arc::new(Pulse::new()), Arc::new(AtomicBool::new(false)));
    let (beating, left) = (Arc::clone(&pulse), Arc::clone(&abandoned));
    let work = blocking(move || {
        let mut told: Option<Instant> = None;
        publish::publish(&args, &film, &mut |bytes| {
            beating.beat();
            if told.is_none_or(|told| told.elapsed() >= PROGRESS_EVERY) {
                told = Some(Instant::now());
                progress(Advance { bytes, ..Advance::default() });
            }
            !left.load(Ordering::Relaxed) && !*stop.borrow()
        })
    });
    tokio::select! {
        biased;
        published = work => {
            let (value, bytes) = published?;
            Ok((bare(value).0, Advance { bytes, ..Advance::default() }))
        }
        failure = watch_limits(None, limits, &pulse) => {
            abandoned.store(true, Ordering::Relaxed);
            Err(failure.into())
        }
    }
}
