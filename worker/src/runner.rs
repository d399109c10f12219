//! Runs calls from their inputs to their stored outputs: one by the worker itself, or a batch in an executor.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use spool_proto::call::{Answer, Args, Call, Value};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::Fence;
use spool_proto::uri;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::executor::{
    self, Advance, CallOutput, Executors, Job, Limits, Pulse, Stops, Unanswered, WarmKey, asked, stopped,
    watch as watch_limits,
};
use crate::function::Functions;
use crate::scratch::{Folder, Scratch};
use crate::stores::Stores;
use crate::transfer::{self, Input};
use crate::{blocking, list, publish};

/// Progress of what the worker itself runs is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Where calls run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runner {
    pub scratch: Arc<Scratch>,
    pub executors: Executors,
    pub stores: Stores,
    /// `None`: functions that users wrote are not run here.
    pub(crate) functions: Option<Functions>,
}

/// Told how far a call is.
pub type Progress = Arc<dyn Fn(Advance) + Send + Sync>;

/// One call and what surrounds it.
#[derive(Clone)]
pub struct Work {
    pub call: Arc<Call>,
    /// In the name of everything it leaves.
    pub fence: Fence,
    pub limits: Limits,
    pub progress: Progress,
}

/// What surrounds a batch.
pub struct Terms {
    /// What its executor should be warm for. `None`: nothing.
    pub key: Option<WarmKey>,
    /// By position in the batch.
    pub stop: watch::Receiver<Stops>,
    /// How long calls wait behind others before they are told to be back.
    pub patience: Option<Duration>,
}

/// How a call came to its executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The worker runs it by itself.
    Inline,
    /// The executor was ready for the key.
    Warm,
    /// It was not, or had to be started; this long from when the call could have run.
    Cold(Duration),
}

/// What becomes of a call.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "told one at a time, and mostly ends")]
pub enum Told {
    Begun(Start),
    Ended {
        result: Result<(Answer, Advance), Unanswered>,
        /// How long an executor was busy with it, where it answered.
        busy: Option<Duration>,
    },
    /// Not begun; it must be handed out anew.
    Back,
}

/// Told what becomes of the call at a position. Of each call the end or the return comes once.
pub type Tell = Arc<dyn Fn(usize, Told) + Send + Sync>;

/// Does the worker run it by itself?
pub fn is_inline(args: &Args) -> bool {
    matches!(
        args,
        Args::Noop { through_executor: false, .. } | Args::Publish(_) | Args::PublishPackage(_) | Args::List(_)
    )
}

/// Does it go in no batch?
pub fn is_alone(args: &Args) -> bool {
    is_inline(args) || matches!(args, Args::User(_))
}

impl Runner {
    /// Runs calls, one after the other, all of one key and equal limits. Those that the worker runs by itself come alone. Their
    /// scratch is gone when their end is told, and so is an executor that had to be killed.
    ///
    /// # Panics
    /// When there are more than [`Stops::MOST`].
    pub async fn run(&self, work: Vec<Work>, mut terms: Terms, tell: Tell) {
        assert!(work.len() <= Stops::MOST, "each call of a batch has its bit");
        match work.as_slice() {
            [Work { call, .. }] if is_alone(&call.args) => {
                tell(0, Told::Begun(Start::Inline));
                let result = self.inline(work[0].clone(), &terms.stop).await;
                tell(0, Told::Ended { result, busy: None });
            }
            _ => {
                let mut waiting = Vec::with_capacity(work.len());
                for (position, work) in work.into_iter().enumerate() {
                    match self.prepare(work).await {
                        Ok(prepared) => waiting.push((position, prepared)),
                        Err(failure) => tell(position, Told::Ended { result: Err(failure.into()), busy: None }),
                    }
                }
                self.executed(waiting, &mut terms, &tell).await;
            }
        }
    }

    async fn prepare(&self, work: Work) -> Result<Arc<Prepared>, Failure> {
        let args = serde_json::to_vec(&work.call.args).map_err(|error| {
            Failure::new(Class::Internal, "bad_call", format!("the call cannot be written: {error}"))
        })?;
        let inputs = Input::of(&work.call);
        let folder = match work.call.args {
            Args::Noop { .. } => None,
            _ => {
                let scratch = Arc::clone(&self.scratch);
                Some(blocking(move || scratch.folder()).await?)
            }
        };
        let scratch = folder.as_ref().map(|folder| folder.path().to_owned());
        Ok(Arc::new(Prepared { work, args, inputs, scratch, folder: Mutex::new(folder) }))
    }

    async fn executed(&self, mut waiting: Vec<(usize, Arc<Prepared>)>, terms: &mut Terms, tell: &Tell) {
        let mut ready = Instant::now();
        // What an executor is done with is stored while it goes on with the next.
        let mut storing = JoinSet::new();
        loop {
            let stops = asked(&terms.stop);
            for (position, prepared) in waiting.extract_if(.., |(position, _)| stops.has(*position)) {
                tell(position, Told::Ended { result: Err(Unanswered::Stopped), busy: None });
                storing.spawn(prepared.clean());
            }
            let Some((first, head)) = waiting.first() else { break };
            let room = head.scratch.is_some().then_some(head.work.limits);
            let mut taken = match self.executors.take(terms.key.as_ref(), room).await {
                Ok(taken) => taken,
                Err(failure) => {
                    tell(*first, Told::Ended { result: Err(failure.into()), busy: None });
                    for (position, _) in waiting[1..].iter().rev() {
                        tell(*position, Told::Back);
                    }
                    break;
                }
            };
            let mut start = if taken.is_warm() { Start::Warm } else { Start::Cold(ready.elapsed()) };
            let mut settled = Stops::NONE;
            let stop = terms.stop.clone();
            let jobs: Vec<Job<'_>> =
                waiting.iter().map(|(position, prepared)| prepared.job(*position, &self.stores)).collect();
            let mut hear = |position: usize, told| {
                let prepared = waiting.iter().find(|(at, _)| *at == position).map(|(_, prepared)| prepared);
                let Some(prepared) = prepared.cloned() else { return };
                match told {
                    executor::Told::Begun => tell(position, Told::Begun(std::mem::replace(&mut start, Start::Warm))),
                    executor::Told::Ended(result) => {
                        settled.add(position);
                        let (tell, stop) = (Arc::clone(tell), stop.clone());
                        if let Some(told) = prepared.settle_at_once(&result) {
                            tell(position, told);
                        } else {
                            let stores = self.stores.clone();
                            storing.spawn(async move {
                                tell(position, prepared.settle(result, position, &stop, &stores).await);
                            });
                        }
                    }
                    executor::Told::Back => {
                        settled.add(position);
                        tell(position, Told::Back);
                        storing.spawn(prepared.clean());
                    }
                }
            };
            taken.executor().batch(&jobs, &mut terms.stop, terms.patience, &mut hear).await;
            waiting.retain(|(position, _)| !settled.has(*position));
            taken.give(terms.key.as_ref());
            ready = Instant::now();
        }
        storing.join_all().await;
    }

    async fn inline(&self, work: Work, stop: &watch::Receiver<Stops>) -> Result<(Answer, Advance), Unanswered> {
        let Work { call, fence, limits, progress } = work;
        match &call.args {
            Args::Noop { sleep_us, .. } => tokio::select! {
                () = tokio::time::sleep(Duration::from_micros(*sleep_us)) => Ok(bare(Value::Noop)),
                () = stopped(stop, 0) => Err(Unanswered::Stopped),
            },
            Args::List(args) => {
                let pulse = Pulse::new();
                tokio::select! {
                    listed = list::list(args, &self.stores) => Ok(bare(listed?)),
                    () = stopped(stop, 0) => Err(Unanswered::Stopped),
                    failure = watch_limits(None, limits, &pulse) => Err(failure.into()),
                }
            }
            Args::Publish(_) | Args::PublishPackage(_) => {
                let (progress, stop) = (Arc::clone(&progress), stop.clone());
                self.publish(Arc::clone(&call), limits, progress, stop).await
            }
            Args::User(args) => {
                let functions = self.functions.as_ref().ok_or_else(|| {
                    let text = format!("{} is a function that somebody wrote, and none are run here", args.name);
                    Failure::new(Class::Host, "no_functions", text)
                })?;
                let work = Work { call: Arc::clone(&call), fence, limits, progress };
                // Large, and rare.
                Box::pin(functions.call(&work, &self.scratch, &self.stores, stop)).await
            }
            _ => {
                let text = format!("{} is nothing that a worker runs by itself", call.args.function());
                Err(Failure::new(Class::Internal, "bad_call", text).into())
            }
        }
    }

    /// The same input as a file of this machine; in scratch, where it is none yet.
    async fn bring(&self, input: Input, stop: &watch::Receiver<Stops>) -> Result<(Input, Option<Folder>), Unanswered> {
        let here = |path: &Path, input: Input| Input { uri: uri::from_path(path), ..input };
        if let Some(path) = self.stores.path(&input.uri).await? {
            return Ok((here(&path, input), None));
        }
        let scratch = Arc::clone(&self.scratch);
        let folder = blocking(move || scratch.folder()).await?;
        let path = folder.path().join("film");
        let fetch = transfer::fetch(&input, &self.stores, &path);
        tokio::select! {
            fetched = fetch => fetched?,
            () = stopped(stop, 0) => return Err(Unanswered::Stopped),
        }
        Ok((here(&path, input), Some(folder)))
    }

    /// On a blocking thread, which cannot be killed: it is asked to stop, and when its disk hangs it is left behind.
    async fn publish(
        &self,
        call: Arc<Call>,
        limits: Limits,
        progress: Progress,
        stop: watch::Receiver<Stops>,
    ) -> Result<(Answer, Advance), Unanswered> {
        // What lies with a server elsewhere is brought here first.
        let (mut inputs, mut folders) = (Vec::new(), Vec::new());
        for input in Input::of(&call) {
            let (input, folder) = self.bring(input, &stop).await?;
            inputs.push(input);
            folders.extend(folder);
        }
        let (pulse, abandoned) = (Arc::new(Pulse::new()), Arc::new(AtomicBool::new(false)));
        let stores = self.stores.clone();
        let (beating, left) = (Arc::clone(&pulse), Arc::clone(&abandoned));
        let work = blocking(move || {
            let mut told: Option<Instant> = None;
            publish::run(&call, &inputs, &stores, &mut |bytes| {
                beating.beat();
                if told.is_none_or(|told| told.elapsed() >= PROGRESS_EVERY) {
                    told = Some(Instant::now());
                    progress(Advance { bytes, ..Advance::default() });
                }
                !left.load(Ordering::Relaxed) && !asked(&stop).has(0)
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
}

/// A call, ready for an executor.
struct Prepared {
    work: Work,
    args: Vec<u8>,
    inputs: Vec<Input>,
    /// `None`: it leaves no files.
    scratch: Option<PathBuf>,
    folder: Mutex<Option<Folder>>,
}

impl Prepared {
    fn job<'a>(&'a self, position: usize, stores: &'a Stores) -> Job<'a> {
        Job {
            position,
            args: &self.args,
            inputs: &self.inputs,
            stores,
            scratch: self.scratch.as_deref(),
            limits: self.work.limits,
            progress: Some(self.work.progress.as_ref()),
        }
    }

    /// Where there is nothing to store nor to clean.
    fn settle_at_once(&self, result: &Result<CallOutput, Unanswered>) -> Option<Told> {
        if self.scratch.is_some() {
            return None;
        }
        Some(match result {
            Ok(output) => {
                let (warnings, value) = (output.warnings.clone(), output.value.clone());
                let answer = Answer { artifacts: Vec::new(), warnings, source: output.source.clone(), value };
                Told::Ended { result: Ok((answer, output.advance)), busy: Some(output.busy) }
            }
            Err(unanswered) => Told::Ended { result: Err(unanswered.clone()), busy: None },
        })
    }

    async fn settle(
        self: Arc<Self>,
        result: Result<CallOutput, Unanswered>,
        position: usize,
        stop: &watch::Receiver<Stops>,
        stores: &Stores,
    ) -> Told {
        let busy = result.as_ref().ok().map(|output| output.busy);
        let result = match (result, &self.scratch) {
            (Ok(output), _) => self.store(output, position, stop, stores).await,
            (Err(Unanswered::Failed(failure)), Some(scratch)) => Err(transfer::with_directory(failure, scratch).into()),
            (Err(unanswered), _) => Err(unanswered),
        };
        self.clean().await;
        Told::Ended { result, busy }
    }

    async fn store(
        &self,
        output: CallOutput,
        position: usize,
        stop: &watch::Receiver<Stops>,
        stores: &Stores,
    ) -> Result<(Answer, Advance), Unanswered> {
        let Work { call, fence, limits, .. } = &self.work;
        if output.peak_memory_bytes > 0 {
            tracing::debug!(peak_mib = output.peak_memory_bytes >> 20, declared_mib = limits.memory_mib, "memory");
        }
        if !output.files.is_empty() && call.output_prefix.is_empty() {
            let text = format!("{} left files, and nobody said where to", call.args.function());
            return Err(Failure::new(Class::Internal, "bad_call", text).into());
        }
        let mut advance = output.advance;
        let mut artifacts = Vec::with_capacity(output.files.len());
        for file in &output.files {
            if asked(stop).has(position) {
                return Err(Unanswered::Stopped);
            }
            let stop = stopped(stop, position);
            artifacts.push(transfer::store(file.clone(), &call.output_prefix, *fence, stores, stop).await?);
        }
        if advance.bytes == 0 {
            advance.bytes = artifacts.iter().map(|artifact| artifact.bytes).sum();
        }
        let CallOutput { warnings, source, value, .. } = output;
        Ok((Answer { artifacts, warnings, source, value }, advance))
    }

    /// Removes its scratch.
    async fn clean(self: Arc<Self>) {
        let folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(folder) = folder {
            blocking(move || drop(folder)).await;
        }
    }
}

fn bare(value: Value) -> (Answer, Advance) {
    (Answer { artifacts: Vec::new(), warnings: Vec::new(), source: None, value }, Advance::default())
}
