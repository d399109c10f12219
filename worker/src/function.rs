//! Functions that users wrote, run by a worker: a folder that was pushed, a program in it, JSON in and out.
//!
//! Reading order: `cache` (the folder, from the server), `inputs` (files that the call is given), `launch` (the process that locks itself
//! in and starts the program), `started` (the worker's end of it), `talk` and `hear` (what the program says), `limits` and `tree` (what gets it
//! killed, what it uses), `run` (one call from start to end), `outputs` (files it leaves), `image` (the same in a container). What users see: docs/functions.md.

mod cache;
mod hear;
mod image;
mod inputs;
pub(crate) mod launch;
mod limits;
mod outputs;
mod run;
mod started;
mod talk;
mod tree;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use spool_function::{Package, order};
use spool_proto::call::{Answer, Args, Call, UserArgs, backend};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, WorkerName};
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::executor::{Advance, Limits, Sandbox, Stops, Unanswered, Walls, stopped};
use crate::runner::{Progress, Work};
use crate::scratch::Scratch;
use crate::stores::Stores;
use crate::transfer::{self, Input};
use cache::{Cache, Ready};
pub(crate) use image::Runtime;

pub use launch::main;

/// Is it a backend of functions? They are proved here, not by a golden encode.
pub fn is_backend(backend: &str) -> bool {
    matches!(backend, backend::PROGRAM | backend::IMAGE)
}

/// How programs that users wrote are started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionOptions {
    /// What makes the worker's program a launcher (`spool launch`).
    pub args: Vec<OsString>,
    /// Folders that functions may read and start programs from, beside the system's own.
    pub programs: Vec<PathBuf>,
}

/// What starts programs in walls.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    pub program: PathBuf,
    pub options: FunctionOptions,
    pub sandbox: Sandbox,
}

/// Functions of one worker. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Functions {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    launcher: Launcher,
    /// `None`: there is no server.
    cache: Option<Cache>,
    runtime: Option<Runtime>,
}

impl Functions {
    /// `root`: where versions are kept.
    pub fn new(launcher: Launcher, server: Channel, root: PathBuf, runtime: Option<Runtime>) -> Functions {
        // Programs have a working directory of their own: paths must mean the same to them.
        let root = std::path::absolute(&root).unwrap_or(root);
        Functions { shared: Arc::new(Shared { launcher, cache: Some(Cache::new(server, root)), runtime }) }
    }

    /// What it can run here, found out by trying. Programs only where all of the walls hold, unless it was asked for none.
    pub async fn offers(&self, scratch: &Path) -> Vec<String> {
        let mut offered = Vec::new();
        match run::walls(&self.shared.launcher, scratch).await {
            Ok(walls) if walls.is_whole() || self.shared.launcher.sandbox == Sandbox::Off => {
                offered.push(backend::PROGRAM.to_owned());
            }
            Ok(walls) => {
                tracing::warn!(%walls, "functions that users wrote are not run here: this machine cannot lock them in")
            }
            Err(failure) => tracing::warn!(%failure, "functions that users wrote are not run here"),
        }
        if self.shared.runtime.is_some() {
            offered.push(backend::IMAGE.to_owned());
        }
        offered
    }

    /// Runs one call.
    pub async fn call(
        &self,
        work: &Work,
        scratch: &Arc<Scratch>,
        stores: &Stores,
        stop: &watch::Receiver<Stops>,
    ) -> Result<(Answer, Advance), Unanswered> {
        let Args::User(args) = &work.call.args else {
            return Err(Failure::new(Class::Internal, "bad_call", "no call of a user's function").into());
        };
        let cache = self.shared.cache.as_ref().ok_or_else(|| {
            Failure::new(Class::Internal, "bad_call", "functions come from a server, and there is none")
        })?;
        let ready = tokio::select! {
            ready = cache.get(&args.hash) => ready?,
            () = stopped(stop, 0) => return Err(Unanswered::Stopped),
        };
        self.ready_call(&ready, args, work, scratch, stores, stop).await
    }

    async fn ready_call(
        &self,
        ready: &Ready,
        args: &UserArgs,
        work: &Work,
        scratch: &Arc<Scratch>,
        stores: &Stores,
        stop: &watch::Receiver<Stops>,
    ) -> Result<(Answer, Advance), Unanswered> {
        let taken = Arc::clone(scratch);
        let folder = crate::blocking(move || taken.folder()).await?;
        let place = std::path::absolute(folder.path()).unwrap_or_else(|_| folder.path().to_owned());
        let inputs = Input::of(&work.call);
        let most = ready.manifest.resources.scratch.saturating_mul(1 << 20);
        let bring = inputs::bring(&args.files, &inputs, stores, &place, most);
        let files = tokio::select! {
            files = bring => files?,
            () = stopped(stop, 0) => return Err(Unanswered::Stopped),
        };
        let one = run::One { ready, args, files: &files, place: &place, limits: work.limits, progress: &work.progress };
        let said = match &ready.manifest.image {
            None => run::program(&one, &self.shared.launcher, stop).await?,
            Some(image) => {
                let runtime = self.shared.runtime.as_ref().ok_or_else(|| {
                    let text = format!("{} runs in an image, and no container runtime answers here", args.name);
                    Failure::new(Class::Host, "no_container_runtime", text)
                })?;
                run::container(&one, runtime, image, stop).await?
            }
        };
        let produced = outputs::collect(&place).await?;
        if !produced.is_empty() && work.call.output_prefix.is_empty() {
            let text = format!("{} left files, and nobody said where to", args.name);
            return Err(Failure::new(Class::Internal, "bad_call", text).into());
        }
        let mut artifacts = Vec::with_capacity(produced.len());
        for file in produced {
            let prefix = &work.call.output_prefix;
            artifacts.push(transfer::store(file, prefix, work.fence, stores, stopped(stop, 0)).await?);
        }
        let bytes = artifacts.iter().map(|artifact| artifact.bytes).sum();
        let answer = Answer { artifacts, warnings: Vec::new(), source: None, value: said };
        let removed = crate::blocking(move || drop(folder));
        removed.await;
        Ok((answer, Advance { frames: talk::WHOLE, bytes, ..Advance::default() }))
    }
}

/// How a function is tried without a server: `spool function test`.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// As of a worker ([`crate::WorkerOptions::program`]).
    pub program: PathBuf,
    pub functions: FunctionOptions,
    /// A directory of one's own is made in it and removed.
    pub scratch: PathBuf,
    pub sandbox: Sandbox,
    /// Where files go that the function leaves; must exist.
    pub output: PathBuf,
}

/// What a function answered that was tried, and in what it ran.
#[derive(Debug)]
pub struct Tried {
    pub answer: Answer,
    /// `None`: in a container.
    pub walls: Option<Walls>,
}

/// Runs a function from its folder once, in the walls that a worker puts around it.
///
/// # Errors
/// As of a call; what its input does not conform to; no container runtime.
pub async fn local(
    options: LocalOptions,
    folder: &Path,
    package: &Package,
    input: &serde_json::Value,
    progress: Progress,
    stop: watch::Receiver<Stops>,
) -> Result<Tried, Unanswered> {
    let order = order::order(package.manifest(), package.hash(), input)?;
    let LocalOptions { program, functions, scratch: root, sandbox, output } = options;
    let launcher = Launcher { program, options: functions, sandbox };
    let name = WorkerName::from(format!("function-{}", std::process::id()));
    let scratch = Arc::new(crate::blocking(move || Scratch::take(&root, &name)).await?);
    let _removed = crate::local::Removed(scratch.directory().to_owned());
    let (walls, runtime) = match package.manifest().image {
        None => (Some(run::walls(&launcher, scratch.directory()).await?), None),
        Some(_) => (None, Runtime::find("local").await),
    };
    let limits = Limits {
        timeout: Duration::from_micros(order.timeout.0),
        no_progress: Duration::from_micros(order.no_progress.0),
        memory_mib: order.resources.memory,
        scratch_mib: order.resources.scratch,
    };
    let call: Arc<Call> = Arc::new(order.call(spool_proto::uri::prefix_from_path(&output)));
    let work = Work { call, fence: Fence(0), limits, progress };
    let ready = Ready::borrowed(package, folder.to_owned());
    let functions = Functions { shared: Arc::new(Shared { launcher, cache: None, runtime }) };
    let answered = functions.ready_call(&ready, &order.args, &work, &scratch, &Stores::default(), &stop).await;
    let (answer, _) = answered?;
    Ok(Tried { answer, walls })
}
