//! Jobs whose workflow is rules: the host between the engine, which keeps what is durable, and the rules engine, which decides.
//!
//! ```text
//! the engine asks → what is new of the job (tasks over, signals, children, time) → events
//!     → off the loop: state brought back, sections run in their rule set's process → steps
//!     → on the loop: the steps are one turn with the children they start and the signals they send
//! ```
//!
//! One evaluation a job at a time. What comes meanwhile is asked for again after it.

mod built_in;
mod canary;
mod children;
mod events;
mod log;
mod orders;
pub(crate) mod registry;
mod sections;
mod spec;
mod work;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use spool_core::engine::Engine;
use spool_core::io::{Input, Next, Record, Step, Token};
use spool_core::job::Job;
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::JobId;
use spool_proto::spec::RulesSpec;
use spool_proto::time::Timestamp;
use spool_proto::uri;
use spool_proto::view::{JobState, TaskState};
use spool_rules::effect::Close;
use spool_rules::history::Event;
use spool_rules::instance::{Instance, Status};
use spool_rules::value::Value;
use tracing::{info, warn};

use crate::functions;
use crate::run_loop::inbox::{Inbox, Message};
use crate::workflow;
pub(crate) use canary::Tally;
use children::Starting;
pub(crate) use children::{children_of, key_of, open_children};
pub(crate) use log::Log;
use orders::Orders;
use registry::Registry;
use sections::Hosts;
pub(crate) use spec::{freeze, spec, spec_of};
pub(crate) use work::Fired;
use work::{Done, Stand, Work};

/// Signals with a meaning of their own begin with this; people's own may not.
pub(crate) const OWN: char = '$';
pub(crate) const CANCEL: &str = "$cancel";
pub(crate) const RESUME: &str = "$resume";
/// Its payload is the hash of a rule set.
pub(crate) const MIGRATE: &str = "$migrate";

/// Events a job's evaluation takes at once: bounds a record, and how long others of its rule set wait.
const EVENTS: usize = 512;
/// Jobs whose state stays in memory when nothing happens to them; of the others it is brought back from their logs.
const LOADED: usize = 256;
/// States that are brought back at a time: after a restart all jobs ask for theirs.
const LOADING: usize = 64;

/// A question to a job's rules, asked on the run loop between two evaluations.
pub(crate) type Look = Box<dyn FnOnce(Result<&Instance, Failure>) + Send>;

/// What the run loop is to do for rules.
pub(crate) enum Wish {
    Input(Box<Input>),
    /// With a token of the loop's: its reply comes back to [`Rules::replied`].
    Ask(Box<dyn FnOnce(Token) -> Input + Send>, Asked),
    /// The job's rules are to be asked.
    AskJob(JobId),
}

/// Whose request it was.
#[derive(Debug)]
pub(crate) enum Asked {
    Start { parent: JobId, effect: String },
    Signal { from: JobId, to: JobId },
}

/// What is known of a job whose rules are at work or were so lately. Of one that only waits there is none: it is made anew from its log.
struct Slot {
    service: String,
    /// Of the rule set it began with.
    hash: String,
    is_built_in: bool,
    /// Its jobs have no end.
    is_standing: bool,
    log_size: log::Size,
    /// The evaluation that is under way.
    turn: u64,
    state: Option<Box<Instance>>,
    is_at_work: bool,
    /// Something came while it was.
    again: bool,
    /// Tasks that are over and were not told of.
    arrived: BTreeSet<u32>,
    /// Look through all it waits for: something may be over since before it was brought back.
    sweep: bool,
    /// It had ended and goes on: so do the jobs it waits for.
    goes_on: bool,
    children: Vec<(String, Result<Value, Failure>)>,
    looks: Vec<Look>,
    /// It counts as failed already.
    is_counted: bool,
}

impl Slot {
    fn of(spec: RulesSpec, job: &Job, registry: &Registry) -> Slot {
        Slot {
            service: spec.name,
            is_built_in: registry.is_built_in(&spec.version),
            is_standing: registry.program(&spec.version).is_ok_and(|program| program.set().standing),
            hash: spec.version,
            log_size: log::Size::of(job.log()),
            turn: 0,
            state: None,
            is_at_work: false,
            again: false,
            arrived: BTreeSet::new(),
            sweep: true,
            goes_on: false,
            children: Vec::new(),
            looks: Vec::new(),
            is_counted: false,
        }
    }

    /// It holds nothing that the job's log and the engine do not tell.
    fn is_idle(&self) -> bool {
        let is_told = self.arrived.is_empty() && self.children.is_empty();
        is_told && self.looks.is_empty() && !self.is_at_work && !self.again && !self.goes_on && !self.is_counted
    }
}

pub(crate) struct Rules {
    registry: Arc<Registry>,
    functions: functions::Registry,
    hosts: Arc<Hosts>,
    inbox: Inbox,
    slots: HashMap<JobId, Slot>,
    /// Jobs with a state in memory, the longest unused first.
    loaded: VecDeque<JobId>,
    loading: BTreeSet<JobId>,
    /// Jobs that wait for their states to be brought back.
    to_load: VecDeque<JobId>,
    /// Jobs that have others to start.
    starting: VecDeque<Starting>,
    asked: BTreeMap<Token, Asked>,
    wishes: Vec<Wish>,
    /// Evaluations begun.
    turns: u64,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("slots", &self.slots.len()).finish_non_exhaustive()
    }
}

impl Rules {
    pub(crate) fn new(registry: Arc<Registry>, functions: functions::Registry, inbox: Inbox) -> Rules {
        let hosts = Arc::new(Hosts::new(registry.clone()));
        Rules {
            registry,
            functions,
            hosts,
            inbox,
            slots: HashMap::new(),
            loaded: VecDeque::new(),
            loading: BTreeSet::new(),
            to_load: VecDeque::new(),
            starting: VecDeque::new(),
            asked: BTreeMap::new(),
            wishes: Vec::new(),
            turns: 0,
        }
    }

    pub(crate) fn has_wishes(&self) -> bool {
        !self.wishes.is_empty() || !self.starting.is_empty()
    }

    /// What is to be done for rules since the last time.
    pub(crate) fn take_wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    /// What a record says of tasks that rules may wait for.
    pub(crate) fn note(&mut self, record: &Record) {
        let task = match record {
            Record::Finished { task, .. }
            | Record::AttemptFailed { task, retry_at: None, .. }
            | Record::TaskCancelled { task, .. } => task,
            _ => return,
        };
        if let Some(slot) = self.slots.get_mut(&task.job) {
            slot.arrived.insert(task.index);
        }
    }

    /// The engine asks a job's rules. `None`: they are at work, and answer with a [`Fired`].
    pub(crate) fn ask(&mut self, now: Timestamp, engine: &Engine, job: &Job) -> Option<Next> {
        let id = job.id();
        if self.is_held_back(job) {
            return None;
        }
        let is_at_rest = self.slots.get(&id).is_none_or(|slot| slot.state.is_none() && !slot.is_at_work);
        if is_at_rest && self.loading.len() >= LOADING {
            self.to_load.push_back(id);
            return None;
        }
        if !self.slots.contains_key(&id) {
            match spec(job) {
                Some(spec) => self.open(id, spec, job),
                None => {
                    let failure = Failure::new(Class::Internal, "bad_spec", "a reactive job without rules");
                    return Some(Next::Fail { failure });
                }
            }
        }
        let slot = self.slots.get_mut(&id).expect("just opened");
        if slot.is_at_work {
            slot.again = true;
            return None;
        }
        let Some(instance) = slot.state.take() else {
            (slot.sweep, slot.again) = (true, true);
            self.loading.insert(id);
            self.begin(now, engine, job, Stand::Log, Vec::new(), 0);
            return None;
        };
        if !job.log().is_empty() && job.retries_asked() > instance.retried() {
            self.go_on_after_end(now, engine, job);
            return None;
        }
        let (events, signals_taken) = self.events(now, engine, job, &instance);
        if events.is_empty() && signals_taken == 0 {
            let wake = instance.next_alarm();
            self.put_back(id, instance);
            return Some(Next::Step(Step { wake, ..Step::default() }));
        }
        self.begin(now, engine, job, Stand::Here(instance), events, signals_taken);
        None
    }

    fn open(&mut self, id: JobId, spec: RulesSpec, job: &Job) {
        if job.log().is_empty() {
            self.registry.begun(&spec.name, &spec.version);
        }
        self.slots.insert(id, Slot::of(spec, job, &self.registry));
    }

    /// A job that had ended: what ended it is undone, and calls that were called off are made again.
    fn go_on_after_end(&mut self, now: Timestamp, engine: &Engine, job: &Job) {
        let is_unfinished = |state| matches!(state, TaskState::Failed | TaskState::Cancelled);
        let unfinished = engine.tasks(job).filter(|task| is_unfinished(task.state)).map(|task| task.id.index).collect();
        let slot = self.slots.get_mut(&job.id()).expect("it is open");
        (slot.sweep, slot.again, slot.goes_on, slot.is_counted) = (true, true, true, false);
        let stand = Stand::BeforeEnd { unfinished, tasks: job.task_count() };
        self.begin(now, engine, job, stand, Vec::new(), 0);
    }

    fn begin(
        &mut self,
        now: Timestamp,
        engine: &Engine,
        job: &Job,
        stand: Stand,
        events: Vec<Event>,
        signals_taken: u64,
    ) {
        let id = job.id();
        let slot = self.slots.get_mut(&id).expect("it is open");
        slot.is_at_work = true;
        self.turns += 1;
        slot.turn = self.turns;
        let turn = slot.turn;
        // A rule set that is migrated to runs the sections; else the one the job has.
        let hash = match (&events[..], &stand) {
            ([Event::Migrated { rules }, ..], _) => rules.to_string(),
            (_, Stand::Here(instance)) => instance.program().set().hash.to_string(),
            _ => slot.hash.clone(),
        };
        let work = Work {
            job: id,
            pages: if matches!(stand, Stand::Here(_)) { Vec::new() } else { job.log().to_vec() },
            stand,
            log_size: slot.log_size,
            turn,
            is_built_in: slot.is_built_in,
            hash: slot.hash.clone(),
            now,
            events,
            signals_taken,
            orders: Orders {
                artifacts: uri::prefix_of_job(id),
                threads: workflow::unsplit_threads(engine, job),
                functions: self.functions.clone(),
            },
            registry: self.registry.clone(),
        };
        let (host, inbox) = (self.hosts.of(&hash), self.inbox.clone());
        tokio::spawn(async move {
            let fired = match host {
                Ok(host) => {
                    let mut runner = host.lock_owned().await;
                    let ran = tokio::task::spawn_blocking(move || work.run(&mut runner)).await;
                    ran.unwrap_or_else(|e| {
                        let why =
                            Failure::new(Class::Internal, "rules_broke", format!("evaluating the rules broke: {e}"));
                        Fired { job: id, turn, outcome: Err(why) }
                    })
                }
                Err(failure) => Fired { job: id, turn, outcome: Err(failure) },
            };
            // The loop may have stopped: then it is asked again after the restart.
            drop(inbox.send(Message::Fired(Box::new(fired))).await);
        });
    }

    /// What a job's rules decided, for the loop to carry out in one turn.
    pub(crate) fn fired(&mut self, engine: &Engine, fired: Fired) {
        let Fired { job: id, turn, outcome } = fired;
        self.loading.remove(&id);
        self.load_more(engine);
        let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.turn == turn) else { return };
        slot.is_at_work = false;
        let again = std::mem::take(&mut slot.again);
        for look in std::mem::take(&mut slot.looks) {
            look(outcome.as_ref().map(|done| done.instance.as_ref()).map_err(Clone::clone));
        }
        let Some(job) = engine.job(id).filter(|job| !job.state().is_final()) else {
            self.slots.remove(&id);
            return;
        };
        let mut fail = |failure: Failure| {
            warn!(job = %id, code = failure.code, "{}", failure.message);
            self.wishes.push(Wish::Input(Box::new(Input::Advance { job: id, next: Next::Fail { failure } })));
        };
        let Done { instance, log_size, steps, starts, closes, signals } = match outcome {
            Ok(done) => done,
            Err(failure) => return fail(failure),
        };
        slot.log_size = log_size;
        let asked: usize = steps.iter().flat_map(|step| &step.groups).map(|group| group.tasks.len()).sum();
        let known = usize::try_from(job.task_count()).unwrap_or(usize::MAX);
        if !steps.is_empty() && usize::try_from(instance.tasks_asked()) != Ok(known + asked) {
            let message = format!(
                "its rules count {} tasks, the engine {}; this is a bug",
                instance.tasks_asked(),
                known + asked
            );
            return fail(Failure::new(Class::Internal, "tasks_differ", message));
        }
        if std::mem::take(&mut slot.goes_on) {
            self.wishes.extend(children::retries(engine, id, &instance));
        }
        if let Status::Paused(pause) = instance.status()
            && !std::mem::replace(&mut slot.is_counted, true)
        {
            warn!(job = %id, code = pause.code, "its rules pause: {}", pause.message);
            let (service, hash) = (slot.service.clone(), instance.program().set().hash.to_string());
            self.count(&service, &hash, false);
        }
        let ends = steps.iter().any(|step| step.outcome.is_some());
        let advance = |step| Wish::Input(Box::new(Input::Advance { job: id, next: Next::Step(step) }));
        self.wishes.extend(steps.into_iter().map(advance));
        // Those that outlive the job that starts them are started with the step that says so: nobody may be left to miss them.
        let (at_once, later): (Vec<_>, Vec<_>) =
            starts.into_iter().partition(|(_, start)| ends || start.close == Close::Abandon);
        for (effect, start) in at_once {
            self.start(engine, job, effect, start);
        }
        self.start_later(id, later);
        let closed = closes.into_iter().filter_map(|(effect, close)| children::close(engine, id, &effect, close));
        self.wishes.extend(closed);
        self.wishes.extend(signals.into_iter().filter_map(|word| children::signal(engine, job, word)));
        self.put_back(id, instance);
        if again {
            self.wishes.push(Wish::AskJob(id));
        }
    }

    /// Lets jobs that wait for their states have them, as far as there is room. Those that have ended meanwhile want none.
    fn load_more(&mut self, engine: &Engine) {
        let mut room = LOADING.saturating_sub(self.loading.len());
        while room > 0
            && let Some(next) = self.to_load.pop_front()
        {
            if engine.job(next).is_some_and(|job| !job.state().is_final()) {
                room -= 1;
                self.wishes.push(Wish::AskJob(next));
            }
        }
    }

    fn put_back(&mut self, id: JobId, instance: Box<Instance>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.state = Some(instance);
        if self.loaded.back() != Some(&id) {
            self.loaded.retain(|other| *other != id);
            self.loaded.push_back(id);
        }
        while self.loaded.len() > LOADED {
            let Some(oldest) = self.loaded.pop_front() else { break };
            if let Entry::Occupied(mut slot) = self.slots.entry(oldest) {
                slot.get_mut().state = None;
                if slot.get().is_idle() && !self.starting.iter().any(|starting| starting.parent == oldest) {
                    slot.remove();
                }
            }
        }
    }

    /// Asks a job's rules a question. Who asks waits until their evaluation, if one is under way, is over.
    pub(crate) fn look(&mut self, now: Timestamp, engine: &Engine, id: JobId, look: Look) {
        let Some(job) = engine.job(id) else {
            return look(Err(Failure::new(Class::Spec, "no_such_job", format!("there is no job {id} in memory"))));
        };
        let slot = match (self.slots.entry(id), spec(job)) {
            (Entry::Occupied(slot), _) => slot.into_mut(),
            (Entry::Vacant(place), Some(spec)) => place.insert(Slot::of(spec, job, &self.registry)),
            (Entry::Vacant(_), None) => {
                let why = format!("job {id} is of the service {}, which is not made of rules", job.request().service);
                return look(Err(Failure::new(Class::Spec, "no_rules", why)));
            }
        };
        match &slot.state {
            Some(instance) => look(Ok(instance)),
            None => {
                slot.looks.push(look);
                if !slot.is_at_work {
                    slot.again = true;
                    self.begin(now, engine, job, Stand::Log, Vec::new(), 0);
                }
            }
        }
    }

    /// The engine's reply to a [`Wish::Ask`].
    pub(crate) fn wait_for(&mut self, token: Token, asked: Asked) {
        self.asked.insert(token, asked);
    }

    /// A job became final.
    pub(crate) fn ended(&mut self, engine: &Engine, id: JobId) {
        let Some(job) = engine.job(id) else { return };
        self.wishes.extend(children::close_all(engine, id));
        if let Some((parent, effect)) = children::parent_of(&job.request().request_id) {
            self.child_ended(engine, parent, effect, children::outcome(job));
        }
        if let Some(slot) = self.slots.remove(&id) {
            self.loaded.retain(|other| *other != id);
            for look in slot.looks {
                look(Err(Failure::new(Class::Spec, "job_over", format!("job {id} has just ended; ask again"))));
            }
            let says_something = match job.state() {
                JobState::Done => Some(true),
                JobState::Failed => {
                    let of_input = job.failure().is_some_and(|failure| failure.class == Class::Input);
                    (!of_input && !slot.is_counted).then_some(false)
                }
                _ => None,
            };
            if let Some(well) = says_something {
                self.count(&slot.service, &slot.hash, well);
            }
        }
    }

    fn count(&self, service: &str, hash: &str, well: bool) {
        if let Some(verdict) = self.registry.ended(service, hash, well) {
            info!(service, "{verdict}");
        }
    }

    fn child_ended(&mut self, engine: &Engine, parent: JobId, effect: String, outcome: Result<Value, Failure>) {
        if engine.job(parent).is_some_and(|parent| !parent.state().is_final()) {
            if let Some(slot) = self.slots.get_mut(&parent) {
                slot.children.push((effect, outcome));
            }
            self.wishes.push(Wish::AskJob(parent));
        }
    }
}
