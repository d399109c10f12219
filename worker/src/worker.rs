//! One worker: its options, its start, its handle.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use spool_proto::failure::{Class, Failure};
use spool_proto::ids::WorkerName;
use spool_proto::resources::Resources;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tonic::transport::{Channel, Endpoint};

use crate::agent::{Agent, Identity};
use crate::batch::Batching;
use crate::executor::{ExecutorOptions, Executors, GOLDEN_WITHIN, Sandbox};
use crate::function::{FunctionOptions, Functions, Launcher, Runtime};
use crate::runner::Runner;
use crate::scratch::Scratch;
use crate::stores::Stores;
use crate::{blocking, capacity};

/// Executors kept at most, however many slots, besides those kept warm on demand: each holds tens of MiB.
const WARM: usize = 64;

/// What a worker is started with.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    pub name: WorkerName,
    /// To the server; see [`channel`]. It reconnects by itself.
    pub server: Channel,
    /// `None`: [`capacity::of_this_machine`].
    pub capacity: Option<Resources>,
    /// The worker's own directory is `<scratch>/<name>`.
    pub scratch: PathBuf,
    /// How an executor is started: this program with these arguments (`spool exec`).
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// Backends to prove by a small encode and to offer.
    pub backends: Vec<String>,
    /// Executor time that calls handed over in one batch should fill. Zero: each call goes alone.
    pub batch_target: Duration,
    /// What its executors lock themselves in with.
    pub sandbox: Sandbox,
    /// Bytes of what it fetched that are kept in memory: [`crate::stores::CACHE_DEFAULT`].
    pub read_cache: u64,
    /// How functions that users wrote are started. `None`: they are not run here.
    pub functions: Option<FunctionOptions>,
}

/// A lazy channel to a server.
///
/// # Errors
/// Class `spec`, code `bad_server_url`.
pub fn channel(url: &str) -> Result<Channel, Failure> {
    let bad = |error: tonic::transport::Error| {
        let text = format!("server {url:?} is not a URL such as http://127.0.0.1:7400: {error}");
        Failure::new(Class::Spec, "bad_server_url", text)
    };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(bad)?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .connect_lazy())
}

/// How a worker is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Work,
    Leave,
    Stop,
}

impl Mode {
    pub fn is_leaving(self) -> bool {
        self != Mode::Work
    }
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All it ran is finished and reported.
    Left,
    /// What ran was killed and given back.
    Stopped,
    /// A newer process took its name.
    Replaced,
}

/// A running worker. Dropped, it and its executors are killed.
#[derive(Debug)]
pub struct WorkerHandle {
    mode: watch::Sender<Mode>,
    registered: watch::Receiver<bool>,
    agent: JoinHandle<Exit>,
    backends: Vec<String>,
}

/// The worker role.
#[derive(Debug)]
pub struct Worker;

impl Worker {
    /// Takes its scratch, warms its executors, proves its backends and attaches to the server, now or as soon as there is
    /// one.
    ///
    /// # Errors
    /// Class `host`: those of scratch (`scratch_in_use`, …), `executor_start_failed`, and `sandbox_incomplete`
    /// where all of it is required. A backend that fails its proof is
    /// logged and not offered.
    pub async fn start(options: WorkerOptions) -> Result<WorkerHandle, Failure> {
        let WorkerOptions {
            name,
            server,
            capacity,
            scratch,
            program,
            args,
            backends,
            batch_target,
            sandbox,
            read_cache,
            functions,
        } = options;
        let taken = name.clone();
        let scratch = blocking(move || Scratch::take(&scratch, &taken)).await?;
        let capacity = capacity.unwrap_or_else(|| capacity::of_this_machine(None, scratch.directory()));
        let slots = usize::try_from(capacity.cpu / 1000).unwrap_or(WARM).clamp(1, WARM);
        let directory = scratch.directory().to_owned();
        let functions = match functions {
            None => None,
            Some(options) => {
                let launcher = Launcher { program: program.clone(), options, sandbox };
                let runtime = Runtime::find(&name.0).await;
                Some(Functions::new(launcher, server.clone(), directory.join("functions"), runtime))
            }
        };
        let executors = Executors::new(ExecutorOptions { program, args, directory, sandbox }, slots);
        let walls = executors.walls().await?;
        if walls.is_whole() {
            tracing::info!(%sandbox, %walls, "executors are locked in");
        } else {
            tracing::warn!(%sandbox, %walls, "executors are not fully locked in");
        }
        let mut backends = prove(&executors, backends, slots).await;
        if let Some(functions) = &functions {
            backends.extend(functions.offers(scratch.directory()).await);
        }
        executors.fill().await?;
        let identity =
            Identity { name: name.0.as_ref().into(), incarnation: incarnation(), backends: backends.clone() };
        tracing::info!(worker = identity.name, %capacity, ?backends, "worker started");
        let (mode, asked) = watch::channel(Mode::Work);
        let (registers, registered) = watch::channel(false);
        let stores = Stores::new(read_cache, Some(server.clone()));
        let runner = Runner { scratch: Arc::new(scratch), executors, stores, functions };
        let batching = Batching { target: batch_target, ..Batching::default() };
        let agent = Agent::new(server, identity, capacity, runner, batching, asked, registers);
        Ok(WorkerHandle { mode, registered, agent: tokio::spawn(agent.serve()), backends })
    }
}

impl WorkerHandle {
    /// What was proved usable.
    pub fn backends(&self) -> &[String] {
        &self.backends
    }

    /// Waits until the server has welcomed it. False: it ended before.
    pub async fn registered(&mut self) -> bool {
        self.registered.wait_for(|registered| *registered).await.is_ok()
    }

    /// Drains: takes no new work, gives back what waits, finishes what runs. Then [`WorkerHandle::wait`] comes back.
    pub fn leave(&self) {
        self.ask(Mode::Leave);
    }

    /// Kills what runs, gives it back and ends.
    pub fn stop_now(&self) {
        self.ask(Mode::Stop);
    }

    fn ask(&self, asked: Mode) {
        self.mode.send_if_modified(|mode| {
            let more = asked > *mode;
            *mode = asked.max(*mode);
            more
        });
    }

    /// Waits for its end. Cancel safe.
    ///
    /// # Panics
    /// When the worker did.
    pub async fn wait(&mut self) -> Exit {
        match (&mut self.agent).await {
            Ok(exit) => exit,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Exit::Stopped,
            },
        }
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.agent.abort();
    }
}

/// The backends that pass, in the order given.
async fn prove(executors: &Executors, backends: Vec<String>, slots: usize) -> Vec<String> {
    let room = Arc::new(Semaphore::new(slots));
    let mut proofs = JoinSet::new();
    for (position, backend) in backends.into_iter().enumerate() {
        let (executors, room) = (executors.clone(), Arc::clone(&room));
        proofs.spawn(async move {
            let _room = room.acquire_owned().await.ok()?;
            match executors.golden(&backend, GOLDEN_WITHIN).await {
                Ok(()) => Some((position, backend)),
                Err(failure) => {
                    let Failure { class, code, message, evidence } = failure;
                    tracing::warn!(backend, %class, code, evidence, "backend is not usable here: {message}");
                    None
                }
            }
        });
    }
    let mut proved: Vec<(usize, String)> = proofs.join_all().await.into_iter().flatten().collect();
    proved.sort();
    proved.into_iter().map(|(_, backend)| backend).collect()
}

/// Differs for every process of a name, and rises: the clock.
fn incarnation() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}
