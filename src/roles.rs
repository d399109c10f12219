//! Starting the long-lived parts: a worker, a server, or both in this process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use spool_proto::failure::Failure;
use spool_proto::ids::WorkerName;
use spool_proto::spec::VideoCodec;
use spool_scheduler::{Server, ServerError, ServerHandle, ServerOptions};
use spool_worker::executor::Sandbox;
use spool_worker::function::FunctionOptions;
use spool_worker::{BATCH_TARGET, Worker, WorkerHandle, WorkerOptions, capacity, stores};
use tonic::transport::Channel;

use crate::client::Client;
use crate::exit::{Exit, Stop};
use crate::follow::Interrupts;
use crate::quantity;

/// This very program: executors are started from it.
pub fn program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("this program's own path, which executors are started from")
}

/// What makes the program an executor.
pub fn exec_args() -> Vec<OsString> {
    vec!["exec".into()]
}

/// What makes it the launcher of programs that users wrote, and what those get beside the system's: folders named in
/// `SPOOL_FUNCTION_PATHS`, with colons between them.
pub fn function_options() -> FunctionOptions {
    let paths = std::env::var_os("SPOOL_FUNCTION_PATHS").unwrap_or_default();
    let programs = std::env::split_paths(&paths).filter(|path| path.is_absolute()).collect();
    FunctionOptions { args: vec!["launch".into()], programs }
}

/// Every backend a worker may offer once it has proved it.
pub fn all_backends() -> Vec<String> {
    VideoCodec::ALL.iter().map(|codec| backend(*codec)).collect()
}

pub fn backend(codec: VideoCodec) -> String {
    format!("cpu/{codec}")
}

pub fn host_name() -> WorkerName {
    rustix::system::uname().nodename().to_string_lossy().into_owned().into()
}

/// How a worker works, wherever it is attached.
#[derive(Debug, Clone)]
pub struct WorkerTerms {
    /// Cores it offers. `None`: all.
    pub slots: Option<u16>,
    /// Offered where they prove usable.
    pub backends: Vec<String>,
    /// Executor time that a batch of calls should fill.
    pub batch_target: Duration,
    pub sandbox: Sandbox,
    /// Functions that users wrote are run, too.
    pub functions: bool,
}

impl WorkerTerms {
    pub fn new(slots: Option<u16>, backends: Vec<String>, sandbox: Sandbox) -> WorkerTerms {
        WorkerTerms { slots, backends, batch_target: BATCH_TARGET, sandbox, functions: false }
    }
}

/// Starts a worker.
pub async fn start_worker(
    name: WorkerName,
    server: Channel,
    scratch: PathBuf,
    terms: WorkerTerms,
) -> anyhow::Result<WorkerHandle> {
    let WorkerTerms { slots, backends, batch_target, sandbox, functions } = terms;
    let capacity = capacity::of_this_machine(
        slots.map(u32::from),
        scratch.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")),
    );
    let options = WorkerOptions {
        name,
        server,
        capacity: Some(capacity),
        scratch,
        program: program()?,
        args: exec_args(),
        backends,
        batch_target,
        sandbox,
        read_cache: read_cache()?,
        functions: functions.then(function_options),
    };
    Ok(Worker::start(options).await?)
}

/// `SPOOL_READ_CACHE`: memory for what is read from stores.
fn read_cache() -> anyhow::Result<u64> {
    match std::env::var("SPOOL_READ_CACHE") {
        Ok(text) => match quantity::amount("memory", &text) {
            Ok(mib) => Ok(mib.saturating_mul(1 << 20)),
            Err(error) => Err(Stop::usage(format!("SPOOL_READ_CACHE={text}: {error}"))),
        },
        Err(_) => Ok(stores::CACHE_DEFAULT),
    }
}

pub fn exit_of_worker(exit: spool_worker::Exit) -> Exit {
    match exit {
        spool_worker::Exit::Left => Exit::Done,
        spool_worker::Exit::Stopped => Exit::Detached,
        spool_worker::Exit::Replaced => Exit::JobFailed,
    }
}

/// Starts a server; errors name what to do and carry their exit code.
pub async fn start_server(options: ServerOptions) -> anyhow::Result<ServerHandle> {
    Server::start(options).await.map_err(|error| match error {
        ServerError::Insecure { .. } | ServerError::AddressInUse { .. } | ServerError::Locked { .. } => {
            Stop::usage(error.to_string())
        }
        error => error.into(),
    })
}

/// A run whose state cannot be written for so long ends, rather than wait for room that nobody may make.
const STUCK_AT_MOST: Duration = Duration::from_secs(10);

/// Server and worker within this process, for one run. They talk gRPC through memory; no port is opened.
#[derive(Debug)]
pub struct Embedded {
    folder: PathBuf,
    server: ServerHandle,
    worker: WorkerHandle,
    client: Client,
}

impl Embedded {
    /// `folder` is the run's own.
    pub async fn start(folder: &Path, terms: WorkerTerms) -> anyhow::Result<Embedded> {
        let server = Server::start(ServerOptions::new(folder)).await.map_err(|error| match error {
            ServerError::Locked { holder, .. } => Stop::usage(format!(
                "this very command is already running{}",
                holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
            )),
            error => error.into(),
        })?;
        let channel = server.connect();
        let worker = start_worker(host_name(), channel.clone(), folder.join("scratch"), terms).await?;
        Ok(Embedded {
            folder: folder.to_owned(),
            server,
            worker,
            client: Client::over(channel, "the server in this process"),
        })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Resolves once the run could not be written down for a while: what was begun goes on with the same command.
    pub async fn stuck(&self) -> Failure {
        let reason = self.server.stuck(STUCK_AT_MOST).await;
        let folder = self.folder.display();
        reason.with_evidence(format!(
            "this run has ended; see to {folder}, then the same command goes on where it stopped"
        ))
    }

    /// Stops what runs, keeps what is finished, and writes all down.
    pub async fn stop(self) {
        let Embedded { server, mut worker, client, .. } = self;
        // The server waits a while for connections that are still open.
        drop(client);
        worker.stop_now();
        worker.wait().await;
        if let Err(error) = server.shutdown().await {
            tracing::error!(%error, "the server did not stop in order; the same command recovers it");
        }
    }
}

/// Serves until a signal or until something breaks. The first signal lets what runs finish, the second stops at once.
pub async fn serve(
    mut server: ServerHandle,
    mut worker: Option<WorkerHandle>,
    interrupts: &mut Interrupts,
) -> anyhow::Result<Exit> {
    tokio::select! {
        error = server.died() => return Err(error.into()),
        () = interrupts.next() => {}
        exit = wait(&mut worker) => {
            server.shutdown().await?;
            return Ok(exit_of_worker(exit));
        }
    }
    if let Some(worker) = &mut worker {
        worker.leave();
        tracing::info!("draining: what runs is finished first; a second signal stops at once");
        tokio::select! {
            error = server.died() => return Err(error.into()),
            _ = worker.wait() => {}
            () = interrupts.next() => {
                worker.stop_now();
                worker.wait().await;
            }
        }
    }
    server.shutdown().await?;
    Ok(Exit::Done)
}

async fn wait(worker: &mut Option<WorkerHandle>) -> spool_worker::Exit {
    match worker {
        Some(worker) => worker.wait().await,
        None => std::future::pending().await,
    }
}
