//! The agent: what a worker holds, and its word to the server.
//!
//! One task owns all of it. `session` keeps the stream (attach, heartbeats, reconnect); this file keeps the leases; `calls`
//! starts what fits and hears how it goes; `warm` tells what executors stand warm for, and tests them when asked. Calls run in
//! tasks of their own and know nothing of the stream: they go on while it is away.

mod calls;
mod session;
mod warm;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use spool_proto::call::{Answer, Call, Value};
use spool_proto::failure::{Class, Failure};
use spool_proto::resources::Resources;
use spool_proto::time::Timestamp;
use spool_proto::wire::v1::{self, report};
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tonic::transport::Channel;

use crate::batch::{Batching, Estimates};
use crate::executor::{Advance, Stops, WarmKey};
use crate::outbox::{Key, Outbox};
use crate::runner::{Runner, Told};
use crate::slots::Slots;
use crate::worker::{Exit, Mode};
use warm::WarmTelling;

/// Longest payload read on the agent's own task; longer ones are read by the call's.
const SMALL_PAYLOAD: usize = 4 << 10;
/// Progress reports between calls and the agent. A full channel drops them: the next one says more.
const ADVANCES: usize = 1024;
/// Events handled at once.
const EVENTS: usize = 1024;

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
    batching: Batching,
    estimates: Estimates,
    slots: Slots<Arc<Held>>,
    /// What was handed to a lane and is not over.
    running: HashMap<Key, Running>,
    lanes: HashMap<Id, Lane>,
    lane_tasks: JoinSet<()>,
    outbox: Outbox,
    progress: mpsc::Sender<(Key, Advance)>,
    advances: mpsc::Receiver<(Key, Advance)>,
    tell: mpsc::UnboundedSender<Event>,
    /// Bounded by what is held: a call is told to have begun once, and to be over once.
    events: mpsc::UnboundedReceiver<Event>,
    mode: watch::Receiver<Mode>,
    /// No new work; what waited was given back.
    leaving: bool,
    /// A newer process took the name.
    replaced: bool,
    registered: watch::Sender<bool>,
    /// The answer of a call that does nothing, made once.
    noop_answer: bytes::Bytes,
    warm: WarmTelling,
    self_tests: JoinSet<v1::SelfTested>,
    /// To be told.
    self_tested: Option<v1::SelfTested>,
    /// Ends with the agent.
    _keeper: JoinSet<()>,
}

/// A lease.
#[derive(Debug)]
struct Held {
    key: Key,
    lease: v1::Lease,
    need: Resources,
    warm_key: Option<WarmKey>,
    /// `None`: too long to be read here.
    call: Option<Arc<Call>>,
}

/// A call that was handed to a lane.
#[derive(Debug)]
struct Running {
    held: Arc<Held>,
    lane: Id,
    position: usize,
    /// `None`: it waits behind others, or for its executor.
    begun: Option<Timestamp>,
    /// What to say when it has stopped, once it was told to.
    stopping: Option<Last>,
}

/// Calls that run one after the other in the room of one.
#[derive(Debug)]
struct Lane {
    need: Resources,
    stop: watch::Sender<Stops>,
}

/// What became of a call, and when.
#[derive(Debug)]
struct Event {
    key: Key,
    at: Timestamp,
    told: Told,
}

/// What to say of a call that was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Last {
    Nothing,
    Returned(String),
}

/// Something that happened here, not on the stream.
enum Occurrence {
    Events(Vec<Event>),
    Lane(Result<(Id, ()), JoinError>),
    Advances(Vec<(Key, Advance)>),
    Mode(Mode),
    WarmDue,
    SelfTested(Result<v1::SelfTested, JoinError>),
}

impl Agent {
    pub fn new(
        server: Channel,
        identity: Identity,
        capacity: Resources,
        runner: Runner,
        batching: Batching,
        mode: watch::Receiver<Mode>,
        registered: watch::Sender<bool>,
    ) -> Agent {
        let (progress, advances) = mpsc::channel(ADVANCES);
        let (tell, events) = mpsc::unbounded_channel();
        let warm = WarmTelling::of(&runner.executors);
        let mut keeper = JoinSet::new();
        keeper.spawn(runner.executors.clone().keep());
        let noop = Answer { artifacts: Vec::new(), warnings: Vec::new(), source: None, value: Value::Noop };
        Agent {
            server,
            identity,
            runner,
            batching,
            estimates: Estimates::default(),
            slots: Slots::new(capacity),
            running: HashMap::new(),
            lanes: HashMap::new(),
            lane_tasks: JoinSet::new(),
            outbox: Outbox::default(),
            progress,
            advances,
            tell,
            events,
            mode,
            leaving: false,
            replaced: false,
            registered,
            noop_answer: serde_json::to_vec(&noop).expect("it holds nothing that JSON cannot").into(),
            warm,
            self_tests: JoinSet::new(),
            self_tested: None,
            _keeper: keeper,
        }
    }

    /// Waits for what happens here. Cancel safe.
    async fn occurrence(&mut self) -> Occurrence {
        let (mut advances, mut events) = (Vec::new(), Vec::new());
        tokio::select! {
            Ok(()) = self.mode.changed() => Occurrence::Mode(*self.mode.borrow_and_update()),
            _ = self.events.recv_many(&mut events, EVENTS) => Occurrence::Events(events),
            Some(ended) = self.lane_tasks.join_next_with_id() => Occurrence::Lane(ended),
            _ = self.advances.recv_many(&mut advances, ADVANCES) => Occurrence::Advances(advances),
            () = self.warm.due() => Occurrence::WarmDue,
            Some(tested) = self.self_tests.join_next() => Occurrence::SelfTested(tested),
        }
    }

    fn handle(&mut self, occurrence: Occurrence) {
        match occurrence {
            Occurrence::Events(events) => {
                for event in events {
                    self.hear(event);
                }
                self.start_what_fits();
            }
            Occurrence::Lane(ended) => {
                self.lane_ended(ended);
                while let Some(ended) = self.lane_tasks.try_join_next_with_id() {
                    self.lane_ended(ended);
                }
                self.start_what_fits();
            }
            Occurrence::WarmDue => {}
            Occurrence::SelfTested(tested) => self.self_tested(tested),
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
        for held in self.slots.withdraw_all() {
            self.give_back(held.key, "leaving");
        }
        let behind = self.running.iter().filter(|(_, running)| running.begun.is_none());
        let behind: Vec<Key> = behind.map(|(key, _)| *key).collect();
        for key in behind {
            self.stop(key, Last::Returned("leaving".into()));
        }
    }

    fn is_done(&self) -> bool {
        self.leaving && self.lanes.is_empty()
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
        let key = Key { job: lease.job, task: lease.task, fence: lease.fence };
        if self.leaving {
            return self.give_back(key, "leaving");
        }
        if self.running.contains_key(&key) {
            return;
        }
        let call = match (lease.payload.len() <= SMALL_PAYLOAD).then(|| calls::read(&lease.payload)).transpose() {
            Ok(call) => call.map(Arc::new),
            Err(failure) => return self.fail(key, &failure),
        };
        let need = Resources::from(lease.resources.clone().unwrap_or_default());
        let warm_key = (!lease.warm_key.is_empty()).then(|| lease.warm_key.as_str().into());
        let ahead = lease.prefetched;
        let held = Arc::new(Held { key, lease, need: need.clone(), warm_key, call });
        if let Err((_, why)) = self.slots.wait(need, ahead, held) {
            let text = format!("worker {} can never run this: {why}", self.identity.name);
            self.fail(key, &Failure::new(Class::Host, "never_fits", text));
        }
    }

    fn revoke(&mut self, revoke: &v1::Revoke) {
        let key = Key { job: revoke.job, task: revoke.task, fence: revoke.fence };
        let last = if revoke.reason == "stale" { Last::Nothing } else { Last::Returned(revoke.reason.clone()) };
        if self.slots.withdraw(|held| held.key == key).is_some() {
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
        while self.slots.withdraw(|held| keys.contains(&held.key)).is_some() {}
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
        let waiting = self.slots.waiting().map(|held| held.key.held(false));
        let going = self.running.iter().filter(|(_, running)| running.stopping.is_none());
        let going = going.map(|(key, running)| key.held(running.begun.is_some()));
        let running = going.chain(self.outbox.unsettled().map(|key| key.held(true)));
        waiting.chain(running).collect()
    }

    fn fail(&mut self, key: Key, failure: &Failure) {
        self.outbox.push(key, report::Kind::Failed(failure.into()));
    }

    fn give_back(&mut self, key: Key, reason: &str) {
        self.outbox.push(key, report::Kind::Returned(v1::Returned { reason: reason.into() }));
    }
}
