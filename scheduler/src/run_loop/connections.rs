//! The workers' streams, seen from the loop: one bounded queue each, one message a turn.

use std::collections::BTreeMap;

use spool_core::io::{HeldLease, Incarnation, Input, LeaseOrder, ToWorker};
use spool_proto::ids::{Fence, TaskId, WorkerName};
use spool_proto::time::Span;
use spool_proto::wire::v1;
use tokio::sync::mpsc;
use v1::server_message::Kind;

/// How often each side of a worker's stream is heard from.
pub(crate) const HEARTBEAT: Span = Span::from_secs(5);

/// Messages that may wait for a worker's stream. A message holds all orders of a turn, and prefetching bounds a worker's leases, so a
/// worker that is this far behind does not read at all.
pub(crate) const QUEUE: usize = 256;

type Process = (WorkerName, Incarnation);

#[derive(Debug, Default)]
pub(super) struct Connections {
    open: BTreeMap<Process, mpsc::Sender<v1::ServerMessage>>,
    /// Messages of this turn, by stream.
    outbox: BTreeMap<Process, Vec<v1::ServerMessage>>,
}

impl Connections {
    pub(super) fn open(
        &mut self,
        worker: WorkerName,
        incarnation: Incarnation,
        orders: mpsc::Sender<v1::ServerMessage>,
    ) {
        self.open.insert((worker, incarnation), orders);
    }

    /// Closes the stream, unless another one has taken its place: a worker may be back before its old stream is seen to end.
    pub(super) fn close(
        &mut self,
        worker: &WorkerName,
        incarnation: Incarnation,
        orders: &mpsc::WeakSender<v1::ServerMessage>,
    ) -> bool {
        let process = (worker.clone(), incarnation);
        let (Some(open), Some(ended)) = (self.open.get(&process), orders.upgrade()) else { return false };
        let same = open.same_channel(&ended);
        if same {
            self.open.remove(&process);
        }
        same
    }

    /// Queues a message of the turn that has just become durable.
    pub(super) fn push(&mut self, worker: WorkerName, incarnation: Incarnation, message: ToWorker, lease: Span) {
        let queue = self.outbox.entry((worker, incarnation)).or_default();
        let kind = match message {
            ToWorker::Lease(order) => return orders(queue).leases.push(lease_message(order)),
            ToWorker::Revoke { task, fence, reason } => return orders(queue).revokes.push(revoke(task, fence, reason)),
            ToWorker::Welcome { forget } => Kind::Welcome(v1::Welcome {
                heartbeat_us: HEARTBEAT.0,
                lease_us: lease.0,
                forget: forget.into_iter().map(held).collect(),
            }),
            ToWorker::Warm { targets } => Kind::Warm(v1::WarmTargets {
                targets: targets
                    .into_iter()
                    .map(|target| v1::WarmTarget {
                        key: target.key.as_ref().into(),
                        min: target.spec.min,
                        max: target.spec.most(),
                        idle_timeout_us: target.spec.idle_timeout.0,
                    })
                    .collect(),
            }),
            ToWorker::SelfTest => Kind::SelfTest(v1::SelfTest {}),
            ToWorker::Drain { reason } => Kind::Drain(v1::Drain { reason }),
            ToWorker::Replaced => Kind::Replaced(v1::Replaced {}),
        };
        queue.push(v1::ServerMessage { kind: Some(kind) });
    }

    /// Sends what was queued. Whoever does not read is cut off: its leases live on and are adopted again when it comes back. The
    /// inputs tell the engine.
    pub(super) fn flush(&mut self) -> Vec<Input> {
        let mut cut = Vec::new();
        for (process, messages) in std::mem::take(&mut self.outbox) {
            let Some(stream) = self.open.get(&process) else { continue };
            let replaced = messages.iter().any(|m| matches!(m.kind, Some(Kind::Replaced(_))));
            let sent = messages.into_iter().try_for_each(|message| stream.try_send(message));
            if let Err(mpsc::error::TrySendError::Full(_)) = &sent {
                tracing::warn!(worker = %process.0, "the worker does not read its orders; its stream is cut");
                cut.push(Input::Disconnected { worker: process.0.clone(), incarnation: process.1 });
            }
            if replaced || sent.is_err() {
                self.open.remove(&process);
            }
        }
        cut
    }
}

/// The orders at the end of a stream's queue.
fn orders(queue: &mut Vec<v1::ServerMessage>) -> &mut v1::Orders {
    if !matches!(queue.last(), Some(v1::ServerMessage { kind: Some(Kind::Orders(_)) })) {
        queue.push(v1::ServerMessage { kind: Some(Kind::Orders(v1::Orders::default())) });
    }
    match queue.last_mut() {
        Some(v1::ServerMessage { kind: Some(Kind::Orders(orders)) }) => orders,
        _ => unreachable!("orders were just put there"),
    }
}

fn lease_message(order: LeaseOrder) -> v1::Lease {
    v1::Lease {
        job: order.task.job.0,
        task: order.task.index,
        fence: order.fence.0,
        attempt: order.attempt,
        prefetched: order.prefetched,
        resources: Some((&order.shape.resources).into()),
        payload: order.payload.to_vec().into(),
        timeout_us: order.shape.timeout.0,
        no_progress_us: order.shape.no_progress.0,
        traceparent: order.traceparent.as_ref().into(),
        warm_key: order.shape.warm_key(),
        deadline_us: order.deadline.map(|t| t.0),
        estimate_us: order.estimate.map(|span| span.0),
    }
}

fn revoke(task: TaskId, fence: Fence, reason: &str) -> v1::Revoke {
    v1::Revoke { job: task.job.0, task: task.index, fence: fence.0, reason: reason.into() }
}

fn held(lease: HeldLease) -> v1::Held {
    v1::Held { task_id: lease.task.to_string(), fence: lease.fence.0, running: lease.running }
}
