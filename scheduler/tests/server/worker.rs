//! A worker over the real wire that does what a script says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use spool_proto::call::Call;
use spool_proto::failure::Failure;
use spool_proto::resources::Resources;
use spool_proto::wire::v1;
use spool_scheduler::ServerHandle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use v1::fleet_service_client::FleetServiceClient;
use v1::{report, server_message, worker_message};

/// What becomes of a call.
pub enum Fate {
    Answer(Vec<u8>),
    Fail(Failure),
    /// Starts, and goes on until it is revoked.
    Hold,
}

type Script = Box<dyn FnMut(&Call, &v1::Lease) -> Fate + Send>;
/// How often each call was begun, by its arguments.
type Begun = Arc<Mutex<BTreeMap<String, u32>>>;

pub struct Worker {
    task: JoinHandle<()>,
    begun: Begun,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Worker {
    /// Attaches a worker of four cores.
    pub async fn attach(
        server: &ServerHandle,
        name: &'static str,
        incarnation: u64,
        script: impl FnMut(&Call, &v1::Lease) -> Fate + Send + 'static,
    ) -> Worker {
        Worker::attach_through(server.connect(), name, incarnation, script).await
    }

    pub async fn attach_through(
        channel: Channel,
        name: &'static str,
        incarnation: u64,
        script: impl FnMut(&Call, &v1::Lease) -> Fate + Send + 'static,
    ) -> Worker {
        let (reports, up) = mpsc::channel(1_024);
        let capacity = Resources { scratch: 10_000, ..Resources::cpu_memory(4_000, 100_000) };
        let register = v1::Register {
            worker: name.into(),
            incarnation,
            capacity: Some((&capacity).into()),
            backends: vec!["cpu/libx264".into()],
            held: Vec::new(),
            version: "test".into(),
        };
        send(&reports, worker_message::Kind::Register(register)).await;
        let mut client = FleetServiceClient::new(channel);
        let mut down = client.attach(ReceiverStream::new(up)).await.expect("the server takes workers").into_inner();
        let welcome = down.message().await.expect("a stream").and_then(|m| m.kind);
        assert!(matches!(welcome, Some(server_message::Kind::Welcome(_))), "first comes Welcome, not {welcome:?}");
        let begun = Begun::default();
        let mut acting = Acting { reports, script: Box::new(script), begun: begun.clone() };
        let task = tokio::spawn(async move {
            while let Ok(Some(message)) = down.message().await {
                if let Some(server_message::Kind::Orders(orders)) = message.kind {
                    acting.obey(orders).await;
                }
            }
        });
        Worker { task, begun }
    }

    /// How often the call with this function (and chunk) was begun.
    pub fn begun(&self, what: &str) -> u32 {
        self.begun.lock().expect("no panic while locked").get(what).copied().unwrap_or(0)
    }
}

struct Acting {
    reports: mpsc::Sender<v1::WorkerMessage>,
    script: Script,
    begun: Begun,
}

impl Acting {
    async fn obey(&mut self, orders: v1::Orders) {
        let mut reports = Vec::new();
        for lease in orders.leases {
            let call: Call = serde_json::from_slice(&lease.payload).expect("a call");
            *self.begun.lock().expect("no panic while locked").entry(name(&call)).or_default() += 1;
            let report = |kind| v1::Report { job: lease.job, task: lease.task, fence: lease.fence, kind: Some(kind) };
            reports.push(report(report::Kind::Started(v1::Started { at_us: 1, ..Default::default() })));
            match (self.script)(&call, &lease) {
                Fate::Answer(answer) => reports.push(report(report::Kind::Finished(v1::Finished {
                    started_us: 1_000_000,
                    finished_us: 3_000_000,
                    answer: answer.into(),
                    frames: 48,
                    bytes: 1_000,
                }))),
                Fate::Fail(failure) => reports.push(report(report::Kind::Failed((&failure).into()))),
                Fate::Hold => {}
            }
        }
        for revoke in orders.revokes {
            let kind = report::Kind::Returned(v1::Returned { reason: revoke.reason });
            let (job, task, fence) = (revoke.job, revoke.task, revoke.fence);
            reports.push(v1::Report { job, task, fence, kind: Some(kind) });
        }
        send(&self.reports, worker_message::Kind::Reports(v1::Reports { reports })).await;
    }
}

/// `media.encode 3`, `media.probe`.
fn name(call: &Call) -> String {
    match &call.args {
        spool_proto::call::Args::Encode(encode) => format!("{} {}", call.args.function(), encode.chunk),
        args => args.function().into(),
    }
}

/// The server may have gone.
async fn send(to: &mpsc::Sender<v1::WorkerMessage>, kind: worker_message::Kind) {
    drop(to.send(v1::WorkerMessage { kind: Some(kind) }).await);
}

/// Answers everything at once with nothing, as no-ops are.
pub fn idle(_: &Call, _: &v1::Lease) -> Fate {
    Fate::Answer(Vec::new())
}
