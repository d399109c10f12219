//! The agent: what a worker holds, and its word to the server.
//!
//! One task owns all of it. `session` keeps the stream (attach, heartbeats, reconnect); this file keeps the leases. Calls
//! run in tasks of their own and know nothing of the stream: they go on while it is away.

mod session;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use spool_proto::call::{Answer, Args, Call, Value};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, JobId, TaskId};
use spool_proto::resources::Resources;
use spool_proto::time::Timestamp;
use spool_proto::wire::v1::{self, report};
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tonic::transport::Channel;
use tracing::Instrument;

use crate::executor::{Advance, Limits, Unanswered};
use crate::outbox::{Key, Outbox};
use crate::runner::{Runner, Terms};
use crate::slots::Slots;
use crate::worker::{Exit, Mode};

/// Longest payload read on the agent's own task; longer ones are read by the call's.
const SMALL_PAYLOAD: usize = 4 << 10;
/// Progress reports between calls and the agent. A full channel drops them: the next one says more.
const ADVANCES: usize = 1024;

/// How a worker presents itself.
#[derive(Debug)]
pub struct Identity {
    pub name: String,
    pub incarnation: u64,
    pub backends: Vec<String>,
}

#[derive(Debug)]
pub struct Agent {
    server: Channel,
    identity: Identity,
    runner: Runner,
    slots: Slots<v1::Lease>,
    running: HashMap<Key, Running>,
    calls: JoinSet<Ended>,
    /// Which call a task is, should it panic.
    tasks: HashMap<Id, Key>,
    outbox: Outbox,
    progress: mpsc::Sender<(Key, Advance)>,
    advances: mpsc::Receiver<(Key, Advance)>,
    mode: watch::Receiver<Mode>,
    /// No new work; what waited was given back.
    leaving: bool,
    /// A newer process took the name.
    replaced: bool,
    registered: watch::Sender<bool>,
    /// The answer of a call that does nothing, made once.
    noop_answer: prost::bytes::Bytes,
}

#[derive(Debug)]
struct Running {
    need: Resources,
    stop: watch::Sender<bool>,
    /// What to say when it has stopped, once it was told to.
    stopping: Option<Last>,
}

/// What to say of a call that was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Last {
    Nothing,
    Returned(String),
}

#[derive(Debug)]
struct Ended {
    started: Timestamp,
    result: Result<(Answer, Advance), Unanswered>,
}

/// Something that happened here, not on the stream.
enum Occurrence {
    Call(Box<Result<(Id, Ended), (Id, JoinError)>>),
    Advances(Vec<(Key, Advance)>),
    Mode(Mode),
}

impl Agent {
    pub fn new(
        server: Channel,
        identity: Identity,
        capacity: Resources,
        runner: Runner,
        mode: watch::Receiver<Mode>,
        registered: watch::Sender<bool>,
    ) -> Agent {
        let (progress, advances) = mpsc::channel(ADVANCES);
        let noop = Answer { artifacts: Vec::new(), warnings: Vec::new(), value: Value::Noop };
        Agent {
            server,
            identity,
            runner,
            slots: Slots::new(capacity),
            running: HashMap::new(),
            calls: JoinSet::new(),
            tasks: HashMap::new(),
            outbox: Outbox::default(),
            progress,
            advances,
            mode,
            leaving: false,
            replaced: false,
            registered,
            noop_answer: serde_json::to_vec(&noop).expect("it holds nothing that JSON cannot").into(),
        }
    }

    /// Waits for what happens here. Cancel safe.
    async fn occurrence(&mut self) -> Occurrence {
        let mut advances = Vec::new();
        tokio::select! {
            Ok(()) = self.mode.changed() => Occurrence::Mode(*self.mode.borrow_and_update()),
            Some(ended) = self.calls.join_next_with_id() => {
                Occurrence::Call(Box::new(ended.map_err(|error| (error.id(), error))))
            }
            _ = self.advances.recv_many(&mut advances, ADVANCES) => Occurrence::Advances(advances),
        }
    }

    fn handle(&mut self, occurrence: Occurrence) {
        match occurrence {
            Occurrence::Call(ended) => {
                self.ended(*ended);
                while let Some(ended) = self.calls.try_join_next_with_id() {
                    self.ended(ended.map_err(|error| (error.id(), error)));
                }
                self.start_what_fits();
            }
            Occurrence::Advances(advances) => {
                for (key, advance) in advances {
                    if self.running.get(&key).is_some_and(|running| running.stopping.is_none()) {
                        self.outbox.advance(key, advance);
                    }
                }
            }
            Occurrence::Mode(Mode::Work) => {}
            Occurrence::Mode(Mode::Leave) => self.leave(),
            Occurrence::Mode(Mode::Stop) => {
                self.leave();
                self.stop_all(&Last::Returned("leaving".into()));
            }
        }
    }

    /// No new work from here on.
    fn leave(&mut self) {
        self.leaving = true;
        for lease in self.slots.withdraw_all() {
            self.give_back(key_of(&lease), "leaving");
        }
    }

    fn is_done(&self) -> bool {
        self.leaving && self.running.is_empty()
    }

    fn exit(&self) -> Exit {
        match (self.replaced, *self.mode.borrow()) {
            (true, _) => Exit::Replaced,
            (false, Mode::Stop) => Exit::Stopped,
            (false, Mode::Leave | Mode::Work) => Exit::Left,
        }
    }

    // ---- from the server ----

    fn orders(&mut self, orders: v1::Orders) {
        for lease in orders.leases {
            self.lease(lease);
        }
        for revoke in orders.revokes {
            self.revoke(&revoke);
        }
        self.start_what_fits();
    }

    fn lease(&mut self, lease: v1::Lease) {
        let key = key_of(&lease);
        if self.leaving {
            return self.give_back(key, "leaving");
        }
        if self.running.contains_key(&key) {
            return;
        }
        let need = Resources::from(lease.resources.clone().unwrap_or_default());
        let ahead = lease.prefetched;
        if let Err((_, why)) = self.slots.wait(need, ahead, lease) {
            let text = format!("worker {} can never run this: {why}", self.identity.name);
            self.fail(key, &Failure::new(Class::Host, "never_fits", text));
        }
    }

    fn revoke(&mut self, revoke: &v1::Revoke) {
        let key = Key { job: revoke.job, task: revoke.task, fence: revoke.fence };
        let last = if revoke.reason == "stale" { Last::Nothing } else { Last::Returned(revoke.reason.clone()) };
        if self.slots.withdraw(|lease| key_of(lease) == key).is_some() {
            if let Last::Returned(reason) = &last {
                self.give_back(key, reason);
            }
        } else {
            self.stop(key, last);
        }
    }

    /// The server does not know these leases: whatever becomes of them, nobody wants to hear of it.
    fn forget(&mut self, held: &[v1::Held]) {
        let keys: HashSet<Key> = held.iter().filter_map(Key::of_held).collect();
        while self.slots.withdraw(|lease| keys.contains(&key_of(lease))).is_some() {}
        for key in &keys {
            self.stop(*key, Last::Nothing);
        }
        self.outbox.forget(&keys);
    }

    /// No word from the server for longer than the leases last: they are lost, and may run elsewhere by now.
    fn lost(&mut self) {
        drop(self.slots.withdraw_all());
        self.stop_all(&Last::Nothing);
    }

    fn held(&self) -> Vec<v1::Held> {
        let waiting = self.slots.waiting().map(|lease| key_of(lease).held(false));
        let going = self.running.iter().filter(|(_, running)| running.stopping.is_none());
        let running = going.map(|(key, _)| *key).chain(self.outbox.unsettled()).map(|key| key.held(true));
        waiting.chain(running).collect()
    }

    // ---- calls ----

    fn start_what_fits(&mut self) {
        while let Some((need, lease)) = self.slots.admit() {
            let key = key_of(&lease);
            let call = (lease.payload.len() <= SMALL_PAYLOAD).then(|| read_call(&lease.payload));
            match call {
                Some(Ok(Call { args: Args::Noop { sleep_us: 0, through_executor: false }, .. })) => {
                    let now = Timestamp::now().0;
                    let answer = self.noop_answer.clone();
                    let finished =
                        v1::Finished { started_us: now, finished_us: now, answer, ..v1::Finished::default() };
                    self.outbox.push(key, report::Kind::Finished(finished));
                    self.slots.release(&need);
                }
                Some(Err(failure)) => {
                    self.fail(key, &failure);
                    self.slots.release(&need);
                }
                Some(Ok(call)) => self.start(key, need, lease, Some(call)),
                None => self.start(key, need, lease, None),
            }
        }
    }

    fn start(&mut self, key: Key, need: Resources, lease: v1::Lease, call: Option<Call>) {
        let started = Timestamp::now();
        // Of a call that is over at once only the end is told.
        let brief = matches!(&call, Some(Call { args: Args::Noop { sleep_us: 0, .. }, .. }));
        if !brief {
            self.outbox.push(key, report::Kind::Started(v1::Started { at_us: started.0, ..Default::default() }));
        }
        let (stop, stopped) = watch::channel(false);
        let advances = self.progress.clone();
        let terms = Terms {
            fence: Fence(key.fence),
            limits: Limits {
                timeout: Duration::from_micros(lease.timeout_us),
                no_progress: Duration::from_micros(lease.no_progress_us),
                memory_mib: need.memory,
            },
            stop: stopped,
            progress: Arc::new(move |advance| advances.try_send((key, advance)).unwrap_or_default()),
        };
        let span = tracing::info_span!(
            "call",
            job = %JobId(key.job),
            task = %TaskId { job: JobId(key.job), index: key.task },
            attempt = lease.attempt,
            fence = key.fence,
            traceparent = lease.traceparent,
            function = tracing::field::Empty,
        );
        let runner = self.runner.clone();
        let run = async move {
            let call = match call {
                Some(call) => Ok(call),
                None => read_call(&lease.payload),
            };
            let result = match call {
                Ok(call) => {
                    tracing::Span::current().record("function", call.args.function());
                    tracing::debug!("started");
                    runner.run(&call, terms).await
                }
                Err(failure) => Err(failure.into()),
            };
            match &result {
                Ok(_) => tracing::debug!("finished"),
                Err(Unanswered::Stopped) => tracing::debug!("stopped"),
                Err(Unanswered::Failed(failure)) => {
                    tracing::warn!(class = %failure.class, code = failure.code, "failed: {failure}");
                }
            }
            Ended { started, result }
        };
        let task = self.calls.spawn(run.instrument(span));
        self.tasks.insert(task.id(), key);
        self.running.insert(key, Running { need, stop, stopping: None });
    }

    fn ended(&mut self, ended: Result<(Id, Ended), (Id, JoinError)>) {
        let (id, ended) = match ended {
            Ok((id, ended)) => (id, Ok(ended)),
            Err((id, error)) => (id, Err(error)),
        };
        let Some(key) = self.tasks.remove(&id) else { return };
        let Some(Running { need, stopping, .. }) = self.running.remove(&key) else { return };
        self.slots.release(&need);
        let ended = ended.unwrap_or_else(|error| {
            let text = format!("the worker itself failed at the call: {error}");
            let failure = Failure::new(Class::Internal, "worker_panicked", text);
            Ended { started: Timestamp::now(), result: Err(failure.into()) }
        });
        match (stopping, ended.result) {
            (Some(Last::Nothing), _) => self.outbox.forget(&[key].into()),
            (_, Ok((answer, advance))) => self.finish(key, ended.started, &answer, advance),
            (Some(Last::Returned(reason)), Err(_)) => self.give_back(key, &reason),
            (None, Err(Unanswered::Failed(failure))) => self.fail(key, &failure),
            (None, Err(Unanswered::Stopped)) => self.give_back(key, "leaving"),
        }
    }

    fn finish(&mut self, key: Key, started: Timestamp, answer: &Answer, advance: Advance) {
        match serde_json::to_vec(answer) {
            Ok(answer) => {
                let finished = v1::Finished {
                    started_us: started.0,
                    finished_us: Timestamp::now().0,
                    answer: answer.into(),
                    frames: advance.frames,
                    bytes: advance.bytes,
                };
                self.outbox.push(key, report::Kind::Finished(finished));
            }
            Err(error) => {
                let text = format!("the answer cannot be written: {error}");
                self.fail(key, &Failure::new(Class::Internal, "bad_answer", text));
            }
        }
    }

    fn fail(&mut self, key: Key, failure: &Failure) {
        self.outbox.push(key, report::Kind::Failed(failure.into()));
    }

    fn give_back(&mut self, key: Key, reason: &str) {
        self.outbox.push(key, report::Kind::Returned(v1::Returned { reason: reason.into() }));
    }

    fn stop(&mut self, key: Key, last: Last) {
        if let Some(running) = self.running.get_mut(&key) {
            // The first word stands, except that a lease that is lost needs none at all.
            if running.stopping.is_none() || last == Last::Nothing {
                running.stopping = Some(last);
            }
            running.stop.send_replace(true);
        }
    }

    fn stop_all(&mut self, last: &Last) {
        let keys: Vec<Key> = self.running.keys().copied().collect();
        for key in keys {
            self.stop(key, last.clone());
        }
    }
}

fn key_of(lease: &v1::Lease) -> Key {
    Key { job: lease.job, task: lease.task, fence: lease.fence }
}

fn read_call(payload: &[u8]) -> Result<Call, Failure> {
    serde_json::from_slice(payload).map_err(|error| {
        let text = format!("the call cannot be read: {error}; do server and worker have the same version?");
        Failure::new(Class::Internal, "bad_call", text)
    })
}
