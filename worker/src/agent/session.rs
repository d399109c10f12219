//! The stream: attach, welcome, orders, reports, heartbeats; and again, for as long as the worker lives.

use std::time::Duration;

use spool_proto::time::Timestamp;
use spool_proto::wire::v1::{self, server_message, worker_message};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Agent;
use crate::worker::{Exit, Mode};

/// For the server to take a new stream.
const ATTACH_WITHIN: Duration = Duration::from_secs(10);
/// Between two tries: doubled from the first to the last.
const BACKOFF: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(5);
/// Messages under way to the transport. Reports gather in the outbox meanwhile, so more would only delay the newest.
const OUTGOING: usize = 4;
/// For the last reports to reach the server when the worker is done.
const FAREWELL: Duration = Duration::from_secs(10);
/// For the server to close its half after ours.
const CLOSING: Duration = Duration::from_secs(2);
/// Longest message taken: payloads of an assembly name every chunk of a film.
const MAX_MESSAGE: usize = 64 << 20;

/// What the server grants.
#[derive(Debug, Clone, Copy)]
struct Grant {
    /// Last word from the server.
    heard: Instant,
    /// For how long leases outlive it.
    lease: Duration,
}

impl Grant {
    fn ends(self) -> Instant {
        self.heard + self.lease
    }
}

/// Why a session is over.
enum End {
    /// The worker is done.
    Done,
    Lost(String),
}

impl Agent {
    /// Serves until the worker leaves, is stopped or replaced.
    pub async fn serve(mut self) -> Exit {
        let mut grant: Option<Grant> = None;
        let mut pause = *BACKOFF.start();
        loop {
            let attach = attach(self.server.clone(), self.register());
            let why = match self.tend(&mut grant, tokio::time::timeout(ATTACH_WITHIN, attach)).await {
                None => return self.exit(),
                Some(Ok(Ok((sender, inbound)))) => {
                    let welcomed = grant.map(|grant| grant.heard);
                    match self.session(&mut grant, sender, inbound).await {
                        End::Done => return self.exit(),
                        End::Lost(why) => {
                            if grant.map(|grant| grant.heard) != welcomed {
                                pause = *BACKOFF.start();
                            }
                            why
                        }
                    }
                }
                Some(Ok(Err(status))) => format!("{}: {}", status.code(), status.message()),
                Some(Err(_)) => format!("no answer within {ATTACH_WITHIN:?}"),
            };
            self.registered.send_replace(false);
            tracing::warn!(retry_in = ?pause, "not connected to the server: {why}");
            if self.tend(&mut grant, tokio::time::sleep(jittered(pause))).await.is_none() {
                return self.exit();
            }
            pause = (pause * 2).min(*BACKOFF.end());
        }
    }

    /// Looks after the calls while something else is waited for. `None`: the worker is done, and so is the waiting.
    async fn tend<T>(&mut self, grant: &mut Option<Grant>, what: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(what);
        let mut farewell: Option<Instant> = None;
        loop {
            if self.is_done() {
                // Nobody is there to hear the last reports. When they come in time, good.
                let patience = if self.outbox.is_empty() || self.replaced { Duration::ZERO } else { FAREWELL };
                let ends = *farewell.get_or_insert_with(|| Instant::now() + patience);
                if Instant::now() >= ends || *self.mode.borrow() == Mode::Stop {
                    return None;
                }
            }
            tokio::select! {
                done = &mut what => return Some(done),
                occurrence = self.occurrence() => self.handle(occurrence),
                () = until(grant.map(Grant::ends)) => self.lease_ran_out(grant),
                () = until(farewell) => {}
            }
        }
    }

    fn lease_ran_out(&mut self, grant: &mut Option<Grant>) {
        if !self.running.is_empty() {
            tracing::warn!("no word from the server for as long as leases last: stopping what runs");
        }
        *grant = None;
        self.lost();
    }

    fn register(&mut self) -> v1::Register {
        self.outbox.rewind();
        v1::Register {
            worker: self.identity.name.clone(),
            incarnation: self.identity.incarnation,
            capacity: Some(self.slots.capacity().into()),
            backends: self.identity.backends.clone(),
            held: self.held(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    async fn session(
        &mut self,
        grant: &mut Option<Grant>,
        sender: mpsc::Sender<v1::WorkerMessage>,
        mut inbound: Streaming<v1::ServerMessage>,
    ) -> End {
        let mut beat = tokio::time::interval(ATTACH_WITHIN);
        let mut welcomed = false;
        let mut said_leaving = false;
        // Also before the first welcome somebody must speak.
        let mut silent_since = Instant::now();
        loop {
            let must_say_leaving = self.mode.borrow().is_leaving() && welcomed && !said_leaving;
            if must_say_leaving {
                said_leaving = sender.try_send(message(worker_message::Kind::Leaving(v1::Leaving {}))).is_ok();
            }
            let nothing_to_say = !welcomed && (self.outbox.is_empty() || *self.mode.borrow() == Mode::Stop);
            if self.is_done() && (self.replaced || nothing_to_say) {
                return End::Done;
            }
            if self.is_done() && welcomed && self.outbox.is_empty() {
                drop(sender);
                drop(tokio::time::timeout(CLOSING, async { while let Ok(Some(_)) = inbound.message().await {} }).await);
                return End::Done;
            }
            if welcomed {
                self.warm.tell(|warm| sender.try_send(message(worker_message::Kind::Warm(warm))).is_ok());
                if let Some(tested) = self.self_tested.take()
                    && let Err(full) = sender.try_send(message(worker_message::Kind::SelfTested(tested)))
                    && let Some(worker_message::Kind::SelfTested(tested)) = full.into_inner().kind
                {
                    self.self_tested = Some(tested);
                }
            }
            let deadline = grant.map_or_else(|| silent_since + ATTACH_WITHIN, Grant::ends);
            tokio::select! {
                permit = sender.reserve(), if welcomed && !self.outbox.is_empty() => {
                    let Ok(permit) = permit else { return End::Lost("the stream closed".into()) };
                    if let Some(reports) = self.outbox.batch() {
                        permit.send(message(worker_message::Kind::Reports(reports)));
                    }
                }
                incoming = inbound.message() => {
                    let kind = match incoming {
                        Ok(Some(v1::ServerMessage { kind })) => kind,
                        Ok(None) => return End::Lost("the server closed the stream".into()),
                        Err(status) => return End::Lost(format!("{}: {}", status.code(), status.message())),
                    };
                    silent_since = Instant::now();
                    if let Some(grant) = grant {
                        grant.heard = silent_since;
                    }
                    match kind {
                        Some(server_message::Kind::Warm(targets)) => self.aim(targets),
                        Some(server_message::Kind::SelfTest(_)) => self.self_test(),
                        Some(server_message::Kind::Welcome(welcome)) => {
                            let lease = Duration::from_micros(welcome.lease_us);
                            *grant = Some(Grant { heard: silent_since, lease });
                            let every = Duration::from_micros(welcome.heartbeat_us).max(Duration::from_millis(10));
                            beat = tokio::time::interval(every);
                            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
                            self.forget(&welcome.forget);
                            self.warm.anew();
                            welcomed = true;
                            self.registered.send_replace(true);
                            tracing::info!(worker = self.identity.name, "registered");
                        }
                        Some(server_message::Kind::Orders(orders)) => self.orders(orders),
                        Some(server_message::Kind::Drain(drain)) => {
                            tracing::info!(reason = drain.reason, "drained by the server: finishing what runs");
                            self.leave();
                        }
                        Some(server_message::Kind::Replaced(_)) => {
                            tracing::warn!("a newer process of the same name took over: stopping");
                            self.replaced = true;
                            self.leaving = true;
                            self.lost();
                        }
                        Some(server_message::Kind::Heartbeat(_)) | None => {}
                    }
                }
                occurrence = self.occurrence() => self.handle(occurrence),
                _ = beat.tick(), if welcomed => {
                    let heartbeat = v1::Heartbeat { sent_us: Timestamp::now().0 };
                    // A full channel means that the server hears of us anyway.
                    drop(sender.try_send(message(worker_message::Kind::Heartbeat(heartbeat))));
                }
                () = tokio::time::sleep_until(deadline) => {
                    self.lease_ran_out(grant);
                    return End::Lost("no word from the server".into());
                }
            }
        }
    }
}

async fn attach(
    server: tonic::transport::Channel,
    register: v1::Register,
) -> Result<(mpsc::Sender<v1::WorkerMessage>, Streaming<v1::ServerMessage>), tonic::Status> {
    let (sender, outgoing) = mpsc::channel(OUTGOING);
    let first = message(worker_message::Kind::Register(register));
    sender.try_send(first).expect("a new channel has room");
    let mut client = v1::fleet_service_client::FleetServiceClient::new(server)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let response = client.attach(ReceiverStream::new(outgoing)).await?;
    Ok((sender, response.into_inner()))
}

fn message(kind: worker_message::Kind) -> v1::WorkerMessage {
    v1::WorkerMessage { kind: Some(kind) }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Between half and the whole of it, so that the workers of a server that comes back do not come all at once.
fn jittered(pause: Duration) -> Duration {
    // The low digits of the clock are random enough to spread workers.
    let noise = u32::try_from(Timestamp::now().0 % 1024).expect("less than 1024");
    pause / 2 + pause / 2048 * noise
}
