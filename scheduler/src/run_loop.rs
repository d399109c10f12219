//! The run loop: the only one that touches the engine.
//!
//! ```text
//! drain a bounded batch → fold it (and what workflows say to it) → append its records as one row → release its effects
//!                       → answer questions → archive, forget, checkpoint
//! ```
//!
//! The next turn starts when the append has returned: while one turn is made durable, the next one gathers. Nothing runs on a timer
//! but what the engine itself waits for, so an idle loop sleeps.

pub(crate) mod connections;
mod folders;
pub(crate) mod inbox;
mod keeper;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use spool_core::engine::Engine;
use spool_core::io::{Effect, Input, Next, Record, Token};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::JobId;
use spool_proto::time::Timestamp;
use spool_proto::uri;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use crate::notify::Outbox;
use crate::rules::{Rules, Wish};
use crate::store::{Store, StoreError};
use crate::workflow;
use connections::Connections;
use inbox::{Answer, Message};
use keeper::Keeper;
pub use keeper::Limits;

/// Messages a turn takes at most: bounds the row, and how long a question waits. At 330 commits a second (an ordinary disk) this
/// allows over a million messages a second, more than one core folds.
pub(crate) const BATCH: usize = 4_096;

/// First and longest wait before an append that failed is tried again.
const APPEND_RETRY: Duration = Duration::from_millis(100);
const APPEND_RETRY_MAX: Duration = Duration::from_secs(5);

pub(crate) struct RunLoop<S> {
    engine: Engine,
    store: S,
    inbox: mpsc::Receiver<Message>,
    /// Taken from the inbox, not folded yet.
    backlog: VecDeque<Message>,
    keeper: Keeper,
    connections: Connections,
    watchers: BTreeMap<JobId, watch::Sender<()>>,
    /// Why nothing can be written at the moment.
    trouble: watch::Sender<Option<Failure>>,
    rules: Rules,
    asked: BTreeMap<Token, oneshot::Sender<Answer>>,
    next_token: u64,
    /// Never runs backwards, whatever the wall clock does.
    clock: Timestamp,
    effects: Vec<Effect>,
    artifacts: PathBuf,
}

impl<S: Store> RunLoop<S> {
    /// `engine` is as it was kept; see [`crate::recovery`].
    pub(crate) fn new(
        engine: Engine,
        store: S,
        limits: Limits,
        inbox: mpsc::Receiver<Message>,
        artifacts: PathBuf,
        rules: Rules,
    ) -> RunLoop<S> {
        RunLoop {
            engine,
            store,
            inbox,
            backlog: VecDeque::new(),
            keeper: Keeper::new(limits, artifacts.clone()),
            connections: Connections::default(),
            watchers: BTreeMap::new(),
            trouble: watch::Sender::new(None),
            rules,
            asked: BTreeMap::new(),
            next_token: 0,
            clock: Timestamp::ZERO,
            effects: Vec::new(),
            artifacts,
        }
    }

    /// Jobs that end and ask for it are put there.
    pub(crate) fn telling(mut self, outbox: Outbox) -> RunLoop<S> {
        self.keeper.set_outbox(outbox);
        self
    }

    /// Why nothing can be written, while that is so.
    pub(crate) fn trouble(&self) -> watch::Receiver<Option<Failure>> {
        self.trouble.subscribe()
    }

    /// Runs until `stop` is set or every handle is gone, then writes a last checkpoint.
    ///
    /// # Errors
    /// When the store is damaged: nothing can be promised any more.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), StoreError> {
        let now = self.now();
        self.engine.resume(now, &mut self.effects);
        self.keeper.find_final(&self.engine, &self.store.reader()).await?;
        self.finish_turn(&mut stop).await?;
        while !*stop.borrow() {
            let wakeup = self.wakeup();
            tokio::select! {
                biased;
                stopped = stop.changed() => match stopped {
                    Ok(()) => continue,
                    Err(_) => break,
                },
                received = self.inbox.recv(), if self.backlog.is_empty() => match received {
                    Some(message) => self.backlog.push_back(message),
                    None => break,
                },
                () = std::future::ready(()), if !self.backlog.is_empty() || self.rules.has_wishes() => {}
                () = sleep_until(wakeup) => {}
            }
            self.turn(&mut stop).await?;
        }
        // Streams and watches end here, so that the servers around the loop can.
        self.connections = Connections::default();
        self.watchers.clear();
        self.asked.clear();
        self.keeper.close(&mut self.engine, &mut self.store).await;
        Ok(())
    }

    fn now(&mut self) -> Timestamp {
        self.clock = self.clock.max(Timestamp::now());
        self.clock
    }

    fn wakeup(&self) -> Option<Timestamp> {
        self.engine.next_wakeup().into_iter().chain(self.keeper.next_wakeup()).min()
    }

    async fn turn(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), StoreError> {
        let now = self.now();
        while self.backlog.len() < BATCH {
            let Ok(message) = self.inbox.try_recv() else { break };
            self.backlog.push_back(message);
        }
        let mut questions = Vec::new();
        for _ in 0..BATCH {
            match self.backlog.pop_front() {
                Some(Message::Query(question)) => questions.push(question),
                Some(message) => self.fold(now, message),
                None => break,
            }
        }
        // Time speaks only when everything that was said before it has been heard.
        if self.backlog.is_empty() && self.engine.next_wakeup().is_some_and(|at| at <= now) {
            self.engine.handle(now, Input::Tick, &mut self.effects);
        }
        self.finish_turn(stop).await?;
        for question in questions {
            question(&self.engine, now);
        }
        Ok(())
    }

    fn fold(&mut self, now: Timestamp, message: Message) {
        match message {
            Message::Tell(input) => self.engine.handle(now, input, &mut self.effects),
            Message::Ask { request, answer } => {
                self.next_token += 1;
                let token = Token(self.next_token);
                self.asked.insert(token, answer);
                self.engine.handle(now, request(token), &mut self.effects);
            }
            Message::Attach { worker, incarnation, register, orders } => {
                self.connections.open(worker, incarnation, orders);
                self.engine.handle(now, register, &mut self.effects);
            }
            Message::Detach { worker, incarnation, orders } => {
                if self.connections.close(&worker, incarnation, &orders) {
                    self.engine.handle(now, Input::Disconnected { worker, incarnation }, &mut self.effects);
                }
            }
            Message::Query(question) => question(&self.engine, now),
            Message::Fired(fired) => self.rules.fired(&self.engine, *fired),
            Message::Look { job, look } => self.rules.look(now, &self.engine, job, look),
            Message::Watch { job, answer } => {
                let receiver = match self.engine.job(job) {
                    Some(_) => self.watchers.entry(job).or_insert_with(|| watch::Sender::new(())).subscribe(),
                    // Nothing will ever change: the receiver finds its sender gone.
                    None => watch::channel(()).1,
                };
                // Who asked may have gone.
                drop(answer.send(receiver));
            }
        }
    }

    /// Asks workflows, makes the turn durable, releases its effects, keeps house.
    async fn finish_turn(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), StoreError> {
        let (mut records, mut effects) = (Vec::new(), Vec::new());
        // A turn may change one job a thousand times; who watches is told once.
        let mut changed = BTreeSet::new();
        for effect in self.advance_workflows() {
            match effect {
                Effect::Record(record) => records.push(record),
                Effect::Changed { job } => {
                    // What people are shown of a whole counts its parts.
                    let whole = |job: &JobId| self.engine.job(*job)?.request().part_of;
                    changed.extend(std::iter::successors(Some(job), whole));
                }
                other => effects.push(other),
            }
        }
        if !records.is_empty() && !self.append(&records, stop).await? {
            return Ok(());
        }
        for effect in effects {
            self.release(effect);
        }
        for job in changed {
            if self.watchers.get(&job).is_some_and(|watcher| watcher.send(()).is_err()) {
                self.watchers.remove(&job);
            }
        }
        for input in self.connections.flush() {
            self.backlog.push_back(Message::Tell(input));
        }
        let now = self.now();
        for job in self.keeper.keep(now, &mut self.engine, &mut self.store).await {
            self.watchers.remove(&job);
            self.backlog.push_back(Message::Tell(Input::Forget { job }));
        }
        Ok(())
    }

    /// A workflow is a pure function of durable and just decided facts, so its answer may go into the same turn. It is journaled with
    /// them or not at all.
    fn advance_workflows(&mut self) -> Vec<Effect> {
        let mut done = Vec::new();
        let now = self.now();
        self.rules.start_some(&self.engine);
        loop {
            self.grant_wishes(now);
            if self.effects.is_empty() {
                return done;
            }
            // Whatever happened to a job in this pass, its workflow is asked once, when all of it is known.
            let mut asked = BTreeSet::new();
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::Advance { job } => drop(asked.insert(job)),
                    other => {
                        if let Effect::Record(record) = &other {
                            self.rules.note(record);
                        }
                        done.push(other);
                    }
                }
            }
            for job in asked {
                let Some(found) = self.engine.job(job) else { continue };
                if found.request().reactive {
                    if let Some(next) = self.rules.ask(now, &self.engine, found) {
                        self.engine.handle(now, Input::Advance { job, next }, &mut self.effects);
                    }
                    continue;
                }
                let mut next = workflow::next(&self.engine, found, &uri::prefix_of_job(job));
                if workflow::leaves_pieces(&found.request().service) {
                    next = self.with_folder(job, next);
                }
                self.engine.handle(now, Input::Advance { job, next }, &mut self.effects);
            }
        }
    }

    /// Workers store a job's pieces in its folder and never make it: when it is gone, the job is over.
    fn with_folder(&self, job: JobId, next: Next) -> Next {
        let folder = self.artifacts.join(job.to_string());
        match starts_tasks(&next).then(|| std::fs::create_dir_all(&folder)) {
            Some(Err(e)) => Next::Fail { failure: unwritable(&folder, &e) },
            _ => next,
        }
    }

    /// Does what rules have decided.
    fn grant_wishes(&mut self, now: Timestamp) {
        for wish in self.rules.take_wishes() {
            match wish {
                Wish::Input(input) => {
                    let input = match *input {
                        Input::Advance { job, next } => Input::Advance { job, next: self.with_folder(job, next) },
                        other => other,
                    };
                    self.engine.handle(now, input, &mut self.effects);
                }
                Wish::Ask(request, asked) => {
                    self.next_token += 1;
                    let token = Token(self.next_token);
                    self.rules.wait_for(token, asked);
                    self.engine.handle(now, request(token), &mut self.effects);
                }
                Wish::AskJob(job) => self.effects.push(Effect::Advance { job }),
            }
        }
    }

    /// Appends until it succeeds. Meanwhile requests are refused, questions answered, and what workers say is kept for later. False:
    /// the server was stopped before.
    async fn append(&mut self, records: &[Record], stop: &mut watch::Receiver<bool>) -> Result<bool, StoreError> {
        let mut wait = APPEND_RETRY;
        let mut refused = false;
        loop {
            let problem = match self.store.append(records).await {
                Ok(()) => {
                    if refused {
                        info!("the journal can be written again");
                        self.trouble.send_replace(None);
                    }
                    return Ok(true);
                }
                Err(damaged @ StoreError::Damaged(_)) => {
                    error!(error = %damaged, "the store is damaged; the server stops");
                    return Err(damaged);
                }
                Err(problem) => problem.failure(),
            };
            if !refused {
                error!(code = problem.code, "{}", problem.message);
                self.trouble.send_replace(Some(problem.clone()));
                refused = true;
            }
            let held = problem.clone().with_evidence(
                "the request is held and carried out when the journal can be written again; asking again with the same request id is safe",
            );
            for answer in std::mem::take(&mut self.asked).into_values() {
                drop(answer.send(Err(held.clone())));
            }
            let until = tokio::time::Instant::now() + wait;
            wait = (wait * 2).min(APPEND_RETRY_MAX);
            loop {
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(until) => break,
                    stopped = stop.changed() => {
                        if stopped.is_err() || *stop.borrow() {
                            warn!("stopped with a turn that could not be written; it was not acknowledged to anybody");
                            return Ok(false);
                        }
                    }
                    received = self.inbox.recv(), if self.backlog.len() < inbox::INBOX => match received {
                        Some(Message::Ask { answer, .. }) => drop(answer.send(Err(problem.clone()))),
                        Some(Message::Query(question)) => question(&self.engine, self.clock),
                        Some(message) => self.backlog.push_back(message),
                        None => return Ok(false),
                    },
                }
            }
        }
    }

    fn release(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { token, reply } => {
                if self.rules.replied(&self.engine, token, &reply) {
                    return;
                }
                if let Some(answer) = self.asked.remove(&token) {
                    // Who asked may have gone.
                    drop(answer.send(Ok(reply)));
                }
            }
            Effect::Send { worker, incarnation, message } => {
                self.connections.push(worker, incarnation, message, self.engine.config().lease);
            }
            Effect::Ended { job } => {
                self.rules.ended(&self.engine, job);
                self.keeper.ended(&self.engine, job);
            }
            Effect::Record(_) | Effect::Changed { .. } | Effect::Advance { .. } => unreachable!("taken out before"),
        }
    }
}

/// Sleeps for ever without a time.
async fn sleep_until(at: Option<Timestamp>) {
    match at {
        // A millisecond more, since the timer's granularity would else wake the loop just before its time.
        Some(at) => tokio::time::sleep(Duration::from(at.since(Timestamp::now())) + Duration::from_millis(1)).await,
        None => std::future::pending().await,
    }
}

fn starts_tasks(next: &Next) -> bool {
    match next {
        Next::Phase { .. } => true,
        Next::Step(step) => !step.groups.is_empty(),
        Next::Finish { .. } | Next::Fail { .. } => false,
    }
}

fn unwritable(folder: &Path, error: &std::io::Error) -> Failure {
    let message =
        format!("{} cannot be made: {error}; see to the data directory, then retry the job", folder.display());
    Failure::new(Class::Host, "artifacts_unwritable", message)
}
