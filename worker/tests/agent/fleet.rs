//! A server with nothing behind it: tests say what it sends and look at what comes.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spool_proto::call::{Args, Call, ProbeArgs};
use spool_proto::resources::Resources;
use spool_proto::uri;
use spool_proto::wire::v1::fleet_service_server::{FleetService, FleetServiceServer};
use spool_proto::wire::v1::{self, report, server_message, worker_message};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Nothing in these tests takes longer, unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Fleet {
    pub address: SocketAddr,
    /// New streams are refused.
    pub away: Arc<AtomicBool>,
    sessions: mpsc::Receiver<Session>,
}

/// One stream of one worker.
pub struct Session {
    pub register: v1::Register,
    incoming: Streaming<v1::WorkerMessage>,
    outgoing: mpsc::Sender<Result<v1::ServerMessage, Status>>,
    reports: VecDeque<v1::Report>,
    /// Messages of reports so far.
    pub batches: usize,
    pub said_leaving: bool,
    /// What stands warm and idle, as last told.
    pub warm: Option<BTreeMap<String, u32>>,
    tested: VecDeque<v1::SelfTested>,
}

struct Service {
    away: Arc<AtomicBool>,
    sessions: mpsc::Sender<Session>,
}

#[tonic::async_trait]
impl FleetService for Service {
    type AttachStream = ReceiverStream<Result<v1::ServerMessage, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Status::unavailable("away"));
        }
        let mut incoming = request.into_inner();
        let Some(v1::WorkerMessage { kind: Some(worker_message::Kind::Register(register)) }) =
            incoming.message().await?
        else {
            return Err(Status::invalid_argument("register first"));
        };
        let (outgoing, queue) = mpsc::channel(1024);
        let session = Session {
            register,
            incoming,
            outgoing,
            reports: VecDeque::new(),
            batches: 0,
            said_leaving: false,
            warm: None,
            tested: VecDeque::new(),
        };
        self.sessions.send(session).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(queue)))
    }
}

impl Fleet {
    pub async fn start() -> Fleet {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let away = Arc::new(AtomicBool::new(false));
        let (sender, sessions) = mpsc::channel(16);
        let service = FleetServiceServer::new(Service { away: Arc::clone(&away), sessions: sender })
            .max_decoding_message_size(64 << 20);
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Fleet { address, away, sessions }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next stream, not yet welcomed.
    pub async fn stream(&mut self) -> Session {
        tokio::time::timeout(PATIENCE, self.sessions.recv()).await.expect("a worker attaches").unwrap()
    }

    /// The next stream, welcomed, with leases that outlive the test.
    pub async fn session(&mut self) -> Session {
        let session = self.stream().await;
        session.welcome(Duration::from_secs(60), Vec::new()).await;
        session
    }
}

impl Session {
    pub async fn send(&self, kind: server_message::Kind) {
        self.outgoing.send(Ok(v1::ServerMessage { kind: Some(kind) })).await.unwrap();
    }

    pub async fn welcome(&self, lease: Duration, forget: Vec<v1::Held>) {
        let lease_us = u64::try_from(lease.as_micros()).unwrap();
        self.send(server_message::Kind::Welcome(v1::Welcome { heartbeat_us: 50_000, lease_us, forget })).await;
    }

    pub async fn lease(&self, leases: Vec<v1::Lease>) {
        self.send(server_message::Kind::Orders(v1::Orders { leases, revokes: Vec::new() })).await;
    }

    pub async fn revoke(&self, lease: &v1::Lease, reason: &str) {
        let revoke = v1::Revoke { job: lease.job, task: lease.task, fence: lease.fence, reason: reason.into() };
        self.send(server_message::Kind::Orders(v1::Orders { leases: Vec::new(), revokes: vec![revoke] })).await;
    }

    /// The next report that is not of progress. `None`: the worker closed the stream.
    pub async fn next(&mut self) -> Option<(u32, report::Kind)> {
        loop {
            while let Some(report) = self.reports.pop_front() {
                match report.kind.unwrap() {
                    report::Kind::Advanced(_) => {}
                    kind => return Some((report.task, kind)),
                }
            }
            self.read().await?;
        }
    }

    /// Takes in the next message. `None`: the worker closed the stream.
    async fn read(&mut self) -> Option<()> {
        let message = tokio::time::timeout(PATIENCE, self.incoming.message()).await.expect("the worker speaks");
        match message.ok()??.kind.unwrap() {
            worker_message::Kind::Reports(reports) => {
                self.batches += 1;
                self.reports.extend(reports.reports);
            }
            worker_message::Kind::Leaving(_) => self.said_leaving = true,
            worker_message::Kind::Warm(warm) => {
                self.warm = Some(warm.idle.into_iter().map(|warm| (warm.key, warm.idle)).collect());
            }
            worker_message::Kind::SelfTested(tested) => self.tested.push_back(tested),
            worker_message::Kind::Heartbeat(_) => {}
            worker_message::Kind::Register(_) => panic!("registered twice on one stream"),
        }
        Some(())
    }

    pub async fn targets(&self, targets: &[(&str, u32, u32, Duration)]) {
        let target = |(key, min, max, idle_timeout): &(&str, u32, u32, Duration)| v1::WarmTarget {
            key: (*key).into(),
            min: *min,
            max: *max,
            idle_timeout_us: u64::try_from(idle_timeout.as_micros()).unwrap(),
        };
        let targets = targets.iter().map(target).collect();
        self.send(server_message::Kind::Warm(v1::WarmTargets { targets })).await;
    }

    /// Waits until as many stand warm as is wanted.
    pub async fn warm_until(&mut self, key: &str, wanted: impl Fn(u32) -> bool) {
        let deadline = std::time::Instant::now() + PATIENCE;
        let idle = |session: &Session| session.warm.as_ref().and_then(|warm| warm.get(key).copied()).unwrap_or(0);
        while self.warm.is_none() || !wanted(idle(self)) {
            assert!(std::time::Instant::now() < deadline, "{key} stays at {} idle", idle(self));
            self.read().await.expect("the stream stays open");
        }
    }

    pub async fn self_tested(&mut self) -> Option<v1::Failure> {
        self.send(server_message::Kind::SelfTest(v1::SelfTest {})).await;
        loop {
            if let Some(tested) = self.tested.pop_front() {
                return tested.failure;
            }
            self.read().await.expect("the stream stays open");
        }
    }

    /// The next report, which is a start.
    pub async fn start(&mut self) -> (u32, v1::Started) {
        match self.next().await {
            Some((task, report::Kind::Started(started))) => (task, started),
            other => panic!("something should start: {other:?}"),
        }
    }

    /// The next report that is neither of progress nor of a start.
    pub async fn verdict(&mut self) -> (u32, report::Kind) {
        loop {
            match self.next().await.expect("a verdict before the stream ends") {
                (_, report::Kind::Started(_)) => {}
                verdict => return verdict,
            }
        }
    }

    pub async fn started(&mut self, task: u32) {
        match self.next().await {
            Some((started, report::Kind::Started(_))) if started == task => {}
            other => panic!("task {task} should start: {other:?}"),
        }
    }
}

pub fn lease(task: u32, call: &Call) -> v1::Lease {
    v1::Lease {
        job: 1,
        task,
        fence: 100 + u64::from(task),
        attempt: 1,
        payload: serde_json::to_vec(call).unwrap().into(),
        resources: Some((&Resources::cpu_memory(1000, 0)).into()),
        ..v1::Lease::default()
    }
}

/// Of calls that can share an executor: what it is warm for, and how long they are thought to take.
pub fn keyed(mut lease: v1::Lease, key: &str, estimate: Duration) -> v1::Lease {
    lease.warm_key = key.into();
    lease.estimate_us = Some(u64::try_from(estimate.as_micros()).unwrap());
    lease
}

pub fn ahead(mut lease: v1::Lease) -> v1::Lease {
    lease.prefetched = true;
    lease
}

/// A call of the scripted executor.
pub fn scripted(dir: &Path, script: &str) -> Call {
    let path = dir.join(format!("{script}.script"));
    std::fs::write(&path, script).unwrap();
    let artifacts = dir.join("artifacts");
    std::fs::create_dir_all(&artifacts).unwrap();
    Call {
        inputs: vec![uri::from_path(&path)],
        output_prefix: uri::prefix_from_path(&artifacts),
        source_version: None,
        args: Args::Probe(ProbeArgs { index_for: None, crop_bars: false }),
    }
}

pub fn noop(sleep_us: u64, through_executor: bool) -> Call {
    Call {
        inputs: Vec::new(),
        output_prefix: String::new(),
        source_version: None,
        args: Args::Noop { sleep_us, through_executor },
    }
}
