//! The server: a data directory, a run loop, the API in front of it.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use hyper_util::rt::TokioIo;
use spool_proto::failure::Failure;
use spool_proto::wire::{DESCRIPTORS, v1};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use tracing::{error, info};

use crate::api::{Artifacts, Fleet, Functions, Jobs, Pools, Queues, RuleServices, TREE_BYTES_MAX, Workers};
use crate::functions;
use crate::lock::{DataLock, LockError};
use crate::recovery::recover;
use crate::rules::Rules;
use crate::rules::registry::Registry;
use crate::run_loop::inbox::Inbox;
use crate::run_loop::{Limits, RunLoop};
use crate::store::{SqliteStore, Store, StoreError};

/// The store, in the data directory.
const DATABASE: &str = "spool.db";

/// How long calls in flight may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(2);

/// Bytes in flight each way of the in-memory transport.
const PIPE: usize = 256 << 10;

/// Dead peers are noticed after two of these.
const KEEPALIVE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Everything the server keeps. Made if it is not there.
    pub data: PathBuf,
    /// `None`: no port is opened; see [`ServerHandle::connect`].
    pub listen: Option<SocketAddr>,
    /// Listen beyond loopback though there is no TLS.
    pub allow_insecure: bool,
    pub limits: Limits,
    pub engine: spool_core::Config,
    /// What runs the sections of rules that people push: a program that locks itself in and calls [`spool_dialect::child::serve`].
    pub rules: spool_dialect::Keeper,
}

impl ServerOptions {
    /// No port, and the usual limits.
    pub fn new(data: impl Into<PathBuf>) -> ServerOptions {
        ServerOptions {
            data: data.into(),
            listen: None,
            allow_insecure: false,
            limits: Limits::default(),
            engine: spool_core::Config::default(),
            rules: spool_dialect::Keeper::new(
                std::env::current_exe().unwrap_or_else(|_| "spool".into()),
                vec!["rules-exec".into()],
            ),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("{} cannot be used as the server's data directory: {source}", path.display())]
    Data { path: PathBuf, source: io::Error },
    #[error("a server{} uses {} already; stop it, or choose another directory with --data", holder_text(.holder.as_deref()), path.display())]
    Locked { path: PathBuf, holder: Option<String> },
    #[error("{} cannot be used: {source}", path.display())]
    Store { path: PathBuf, source: StoreError },
    #[error("{addr} is in use; stop what listens there, or choose another with --listen")]
    AddressInUse { addr: SocketAddr },
    #[error("cannot listen on {addr}: {source}")]
    Listen { addr: SocketAddr, source: io::Error },
    #[error(
        "{addr} can be reached from other machines and there is no TLS yet: listen on 127.0.0.1, or allow it with --insecure"
    )]
    Insecure { addr: SocketAddr },
    #[error("the server stopped by itself: {0}")]
    Died(String),
}

fn holder_text(pid: Option<&str>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

/// A running server. Dropped without [`ServerHandle::shutdown`] it stops as by a power cut: nothing acknowledged is lost.
#[derive(Debug)]
pub struct ServerHandle {
    local_addr: Option<SocketAddr>,
    pipes: mpsc::Sender<io::Result<DuplexStream>>,
    stop: watch::Sender<bool>,
    trouble: watch::Receiver<Option<Failure>>,
    run_loop: Aborting<Result<(), StoreError>>,
    fronts: Vec<Aborting<Result<(), tonic::transport::Error>>>,
}

/// A task that ends with its handle.
#[derive(Debug)]
struct Aborting<T>(JoinHandle<T>);

impl<T> Drop for Aborting<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The server; see [`Server::start`].
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Opens the data directory, recovers what it holds, and serves.
    ///
    /// # Errors
    /// When the directory is in use, damaged or not writable, or the address cannot be listened on.
    pub async fn start(options: ServerOptions) -> Result<ServerHandle, ServerError> {
        Server::start_with(options, async |data| SqliteStore::open(&data.join(DATABASE)).await).await
    }

    /// With another store, opened once the directory is locked.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_with<S, O, F>(options: ServerOptions, open: O) -> Result<ServerHandle, ServerError>
    where
        S: Store,
        O: FnOnce(PathBuf) -> F,
        F: Future<Output = Result<S, StoreError>>,
    {
        let ServerOptions { data, listen, allow_insecure, limits, engine, rules } = options;
        let unusable = |source| ServerError::Data { path: data.clone(), source };
        let artifacts = data.join("artifacts");
        std::fs::create_dir_all(&artifacts).map_err(unusable)?;
        let artifacts = artifacts.canonicalize().map_err(unusable)?;
        let lock = DataLock::take(&data.join("lock")).map_err(|e| match e {
            LockError::Held { holder } => ServerError::Locked { path: data.clone(), holder },
            LockError::Io(source) => unusable(source),
        })?;
        let listener = bind(listen, allow_insecure).await?;
        let local_addr = listener.as_ref().and_then(|l| l.local_addr().ok());

        let unreadable = |source| ServerError::Store { path: data.clone(), source };
        let mut store = open(data.clone()).await.map_err(unreadable)?;
        let engine = recover(&mut store, engine).await.map_err(unreadable)?;
        let archive = store.reader();
        let (inbox, messages) = Inbox::new();
        let (stop, stopped) = watch::channel(false);
        let functions = functions::Registry::open(&data.join("functions")).map_err(unusable)?;
        let pieces = Artifacts::new(inbox.clone(), artifacts.clone()).map_err(unusable)?;
        let registry = Arc::new(Registry::open(data.join("services"), rules).map_err(unusable)?);
        let rules = Rules::new(registry.clone(), functions.clone(), inbox.clone());
        let run_loop = RunLoop::new(engine, store, limits, messages, artifacts, rules);
        let trouble = run_loop.trouble();
        let loop_stopped = stopped.clone();
        let run_loop = tokio::spawn(async move {
            // Held for as long as the loop may write.
            let _lock = lock;
            run_loop.run(loop_stopped).await
        });

        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<v1::job_service_server::JobServiceServer<Jobs<S::Archive>>>().await;
        health.set_serving::<v1::worker_service_server::WorkerServiceServer<Workers>>().await;
        health.set_serving::<v1::pool_service_server::PoolServiceServer<Pools>>().await;
        health.set_serving::<v1::rule_service_server::RuleServiceServer<RuleServices<S::Archive>>>().await;
        health.set_serving::<v1::queue_service_server::QueueServiceServer<Queues>>().await;
        health.set_serving::<v1::fleet_service_server::FleetServiceServer<Fleet>>().await;
        health.set_serving::<v1::function_service_server::FunctionServiceServer<Functions>>().await;
        health.set_serving::<v1::artifact_service_server::ArtifactServiceServer<Artifacts>>().await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(|e| ServerError::Died(format!("reflection: {e}")))?;
        let jobs = Jobs { inbox: inbox.clone(), archive, services: registry.clone(), functions: functions.clone() };
        let rule_services = RuleServices { jobs: jobs.clone(), registry };
        let router = || {
            tonic::transport::Server::builder()
                .http2_keepalive_interval(Some(KEEPALIVE))
                .http2_keepalive_timeout(Some(KEEPALIVE))
                .initial_stream_window_size(Some(1 << 20))
                .initial_connection_window_size(Some(4 << 20))
                .tcp_nodelay(true)
                .add_service(health_service.clone())
                .add_service(reflection.clone())
                .add_service(v1::job_service_server::JobServiceServer::new(jobs.clone()))
                .add_service(v1::rule_service_server::RuleServiceServer::new(rule_services.clone()))
                .add_service(v1::worker_service_server::WorkerServiceServer::new(Workers { inbox: inbox.clone() }))
                .add_service(
                    v1::pool_service_server::PoolServiceServer::new(Pools { inbox: inbox.clone() })
                        .max_decoding_message_size(TREE_BYTES_MAX),
                )
                .add_service(v1::queue_service_server::QueueServiceServer::new(Queues { inbox: inbox.clone() }))
                .add_service(Functions { registry: functions.clone() }.service())
                .add_service(v1::artifact_service_server::ArtifactServiceServer::new(pieces.clone()))
                .add_service(v1::fleet_service_server::FleetServiceServer::new(Fleet { inbox: inbox.clone() }))
        };
        let (pipes, piped) = mpsc::channel(16);
        let end = |mut stopped: watch::Receiver<bool>| async move {
            // An error means that the handle has gone, which stops the server too.
            drop(stopped.wait_for(|stop| *stop).await);
        };
        let mut fronts = Vec::new();
        let front = router().serve_with_incoming_shutdown(ReceiverStream::new(piped), end(stopped.clone()));
        fronts.push(Aborting(tokio::spawn(front)));
        if let Some(listener) = listener {
            let incoming = TcpListenerStream::new(listener).map(|stream| {
                let stream = stream?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(stream)
            });
            let front = router().serve_with_incoming_shutdown(incoming, end(stopped));
            fronts.push(Aborting(tokio::spawn(front)));
        }
        info!(data = %data.display(), listen = ?local_addr, "server ready");
        Ok(ServerHandle { local_addr, pipes, stop, trouble, run_loop: Aborting(run_loop), fronts })
    }
}

async fn bind(listen: Option<SocketAddr>, allow_insecure: bool) -> Result<Option<TcpListener>, ServerError> {
    let Some(addr) = listen else { return Ok(None) };
    if !addr.ip().is_loopback() && !allow_insecure {
        return Err(ServerError::Insecure { addr });
    }
    match TcpListener::bind(addr).await {
        Ok(listener) => Ok(Some(listener)),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Err(ServerError::AddressInUse { addr }),
        Err(source) => Err(ServerError::Listen { addr, source }),
    }
}

impl ServerHandle {
    /// Where it listens, with the port the system chose.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// A channel to this server through memory: no port is opened.
    pub fn connect(&self) -> Channel {
        let pipes = self.pipes.clone();
        let connector = service_fn(move |_| {
            let pipes = pipes.clone();
            async move {
                let (ours, theirs) = tokio::io::duplex(PIPE);
                let stopped = |_| io::Error::new(io::ErrorKind::ConnectionRefused, "the server has stopped");
                pipes.send(Ok(theirs)).await.map_err(stopped)?;
                Ok::<_, io::Error>(TokioIo::new(ours))
            }
        });
        // The address is only a name here; nothing resolves it.
        Endpoint::from_static("http://spool.invalid").connect_with_connector_lazy(connector)
    }

    /// Waits until the server stops by itself, which it does only when it cannot keep its promises.
    ///
    /// # Errors
    /// Always: why it stopped.
    pub async fn died(&mut self) -> ServerError {
        match (&mut self.run_loop.0).await {
            Ok(Ok(())) => ServerError::Died("its run loop ended".into()),
            Ok(Err(e)) => ServerError::Died(e.to_string()),
            Err(e) => {
                error!(error = %e, "the run loop broke");
                ServerError::Died(e.to_string())
            }
        }
    }

    /// Resolves once nothing could be written for this long, with the reason. The server itself goes on trying.
    pub async fn stuck(&self, patience: Duration) -> Failure {
        let mut trouble = self.trouble.clone();
        loop {
            // Its sender goes when the loop ends: then nothing is written any more either, and others tell why.
            let Ok(reason) = trouble.wait_for(Option::is_some).await.map(|reason| reason.clone()) else {
                return std::future::pending().await;
            };
            let over = tokio::time::timeout(patience, trouble.wait_for(Option::is_none)).await;
            if let (Err(_), Some(reason)) = (over, reason) {
                return reason;
            }
        }
    }

    /// Finishes the turn at hand, writes a checkpoint, ends streams, and closes.
    ///
    /// # Errors
    /// When the run loop had died before.
    pub async fn shutdown(mut self) -> Result<(), ServerError> {
        self.stop.send_replace(true);
        let ended = (&mut self.run_loop.0).await;
        for front in &mut self.fronts {
            // A call that does not end within the grace is cut off with its connection.
            drop(tokio::time::timeout(GRACE, &mut front.0).await);
        }
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(ServerError::Died(e.to_string())),
            Err(e) => Err(ServerError::Died(e.to_string())),
        }
    }
}

impl fmt::Display for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.local_addr {
            Some(addr) => write!(f, "server on {addr}"),
            None => f.write_str("embedded server"),
        }
    }
}
