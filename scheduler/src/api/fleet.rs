//! `FleetService`: one stream per worker process.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, stream};
use spool_core::io::{Advance, HeldLease, Incarnation, Input, Report, Start};
use spool_proto::failure::Failure;
use spool_proto::ids::{Fence, JobId, TaskId, WorkerName};
use spool_proto::time::{Span, Timestamp};
use spool_proto::wire::{BadField, v1};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument, info, info_span, warn};
use v1::fleet_service_server::FleetService;
use v1::{report, server_message, worker_message};

use super::status;
use crate::run_loop::connections::{HEARTBEAT, QUEUE};
use crate::run_loop::inbox::{Inbox, Message};

#[derive(Debug, Clone)]
pub(crate) struct Fleet {
    pub(crate) inbox: Inbox,
}

#[tonic::async_trait]
impl FleetService for Fleet {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<v1::ServerMessage, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|message| message.kind);
        let Some(worker_message::Kind::Register(register)) = first else {
            return Err(BadField::new("kind", "the first message of a worker must be Register").into());
        };
        let version = register.version.clone();
        let (worker, incarnation, register) = registration(register)?;
        let (orders, queue) = mpsc::channel(QUEUE);
        let ended = orders.downgrade();
        let attach = Message::Attach { worker: worker.clone(), incarnation, register, orders };
        self.inbox.send(attach).await.map_err(|f| status(&f))?;
        let span = info_span!("worker", %worker);
        span.in_scope(|| info!(version, "attached"));
        let inbox = self.inbox.clone();
        let listening = async move {
            listen(&inbox, messages, &worker, incarnation).await;
            // The loop may have gone first.
            drop(inbox.send(Message::Detach { worker, incarnation, orders: ended }).await);
        };
        tokio::spawn(listening.instrument(span));
        Ok(Response::new(Box::pin(orders_and_heartbeats(queue))))
    }
}

/// Hands what the worker says to the loop, until its stream ends.
async fn listen(
    inbox: &Inbox,
    mut messages: Streaming<v1::WorkerMessage>,
    worker: &WorkerName,
    incarnation: Incarnation,
) {
    loop {
        match messages.message().await {
            Ok(Some(message)) => {
                if let Err(failure) = hand_over(inbox, message, worker, incarnation).await {
                    warn!(code = failure.code, "{}", failure.message);
                    break;
                }
            }
            Ok(None) => {
                info!("left");
                break;
            }
            Err(e) => {
                info!(reason = e.message(), "stream broke");
                break;
            }
        }
    }
}

async fn hand_over(
    inbox: &Inbox,
    message: v1::WorkerMessage,
    worker: &WorkerName,
    incarnation: Incarnation,
) -> Result<(), Failure> {
    use worker_message::Kind;
    let worker = worker.clone();
    let input = match message.kind.ok_or_else(|| BadField::new("kind", "a message this server does not know"))? {
        Kind::Reports(batch) => {
            for report in batch.reports {
                let (task, fence, report) = read_report(report)?;
                let worker = worker.clone();
                inbox.send(Message::Tell(Input::Report { worker, incarnation, task, fence, report })).await?;
            }
            return Ok(());
        }
        Kind::Heartbeat(_) => Input::Heartbeat { worker, incarnation },
        Kind::Leaving(_) => Input::Leaving { worker, incarnation },
        Kind::Warm(report) => {
            let idle = report.idle.into_iter().map(|warm| (warm.key.into(), warm.idle)).collect();
            Input::WarmReport { worker, incarnation, idle }
        }
        Kind::SelfTested(tested) => {
            let failure = tested.failure.map(TryInto::try_into).transpose()?;
            Input::SelfTested { worker, incarnation, failure }
        }
        Kind::Register(_) => return Err(BadField::new("kind", "a worker registers once a stream").into()),
    };
    inbox.send(Message::Tell(input)).await
}

/// Orders as they come; a heartbeat every so often, so that the worker knows the server lives.
fn orders_and_heartbeats(
    queue: mpsc::Receiver<v1::ServerMessage>,
) -> impl Stream<Item = Result<v1::ServerMessage, Status>> + Send {
    let period = Duration::from(HEARTBEAT);
    let mut beat = interval_at(Instant::now() + period, period);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold((queue, beat), |(mut queue, mut beat): (_, Interval)| async move {
        let message = tokio::select! {
            biased;
            order = mpsc::Receiver::recv(&mut queue) => order?,
            _ = beat.tick() => {
                let heartbeat = v1::Heartbeat { sent_us: Timestamp::now().0 };
                v1::ServerMessage { kind: Some(server_message::Kind::Heartbeat(heartbeat)) }
            }
        };
        Some((Ok(message), (queue, beat)))
    })
}

fn registration(register: v1::Register) -> Result<(WorkerName, Incarnation, Input), BadField> {
    if register.worker.is_empty() {
        return Err(BadField::new("register.worker", "a worker needs a name"));
    }
    let held = |held: v1::Held| {
        let task = held.task_id.parse().map_err(|e| BadField::new("register.held.task_id", e))?;
        Ok(HeldLease { task, fence: Fence(held.fence), running: held.running })
    };
    let worker = WorkerName::from(register.worker);
    let incarnation = Incarnation(register.incarnation);
    let input = Input::Register {
        worker: worker.clone(),
        incarnation,
        capacity: register.capacity.unwrap_or_default().into(),
        backends: register.backends,
        held: register.held.into_iter().map(held).collect::<Result<_, BadField>>()?,
    };
    Ok((worker, incarnation, input))
}

fn read_start(started: &v1::Started) -> Start {
    match (started.cold_us, started.warm) {
        (Some(us), _) => Start::Cold { took: Span(us) },
        (None, true) => Start::Warm,
        (None, false) => Start::Inline,
    }
}

fn read_report(wire: v1::Report) -> Result<(TaskId, Fence, Report), BadField> {
    use report::Kind;
    let task = TaskId { job: JobId(wire.job), index: wire.task };
    let report = match wire.kind.ok_or_else(|| BadField::new("report.kind", "a report this server does not know"))? {
        Kind::Started(r) => Report::Started { at: Timestamp(r.at_us), start: read_start(&r) },
        Kind::Advanced(r) => {
            Report::Advanced(Advance { frames: r.frames, bytes: r.bytes, out_time: Span(r.out_time_us) })
        }
        Kind::Finished(r) => Report::Finished {
            started: Timestamp(r.started_us),
            finished: Timestamp(r.finished_us),
            answer: r.answer.as_ref().into(),
            advance: Advance { frames: r.frames, bytes: r.bytes, out_time: Span::ZERO },
        },
        Kind::Failed(failure) => Report::Failed { failure: failure.try_into()? },
        Kind::Returned(r) => Report::Returned { reason: r.reason },
    };
    Ok((task, Fence(wire.fence), report))
}
