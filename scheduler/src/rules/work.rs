//! What is done for a job off the run loop: its state brought back, its sections run, and what they answered made into steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use spool_core::io::{Blob, Group, Outcome, Step, TaskRun};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::JobId;
use spool_proto::time::Timestamp;
use spool_rules::effect::{Close, Start};
use spool_rules::history::{Entry, Event};
use spool_rules::instance::{End, Instance, Request, Status};
use spool_rules::value::Value;
use tracing::warn;

use super::log::{self, Log};
use super::orders::Orders;
use super::registry::Registry;
use super::sections::{Judged, Runner};

/// Where the job's state comes from.
#[derive(Debug)]
pub(super) enum Stand {
    Here(Box<Instance>),
    Log,
    /// It had ended and is to go on: these tasks are over without an answer, and so many tasks there are.
    BeforeEnd {
        unfinished: Vec<u32>,
        tasks: u32,
    },
}

#[derive(Debug)]
pub(super) struct Work {
    pub(super) job: JobId,
    pub(super) stand: Stand,
    /// The job's log, where its state is to come from it.
    pub(super) pages: Vec<Blob>,
    pub(super) log_size: log::Size,
    /// Which evaluation it is: what comes of one that a job's end has overtaken counts no more.
    pub(super) turn: u64,
    /// Of the rule set it began with.
    pub(super) hash: String,
    /// Nobody but a newer server can mend its rules: where others would pause, the job fails.
    pub(super) is_built_in: bool,
    pub(super) now: Timestamp,
    pub(super) events: Vec<Event>,
    pub(super) signals_taken: u64,
    pub(super) orders: Orders,
    pub(super) registry: Arc<Registry>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Fired {
    pub(super) job: JobId,
    pub(super) turn: u64,
    pub(super) outcome: Result<Done, Failure>,
}

#[derive(Debug)]
pub(super) struct Done {
    pub(super) instance: Box<Instance>,
    pub(super) log_size: log::Size,
    /// In this order. None: the state was only brought back.
    pub(super) steps: Vec<Step>,
    /// Effect, and what it starts.
    pub(super) starts: Vec<(String, Start)>,
    pub(super) closes: Vec<(String, Close)>,
    pub(super) signals: Vec<Word>,
}

/// To another job.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) job: String,
    pub(super) name: String,
    pub(super) payload: Value,
    pub(super) dedupe: String,
}

impl Work {
    pub(super) fn run(self, runner: &mut Runner) -> Fired {
        let (job, turn) = (self.job, self.turn);
        Fired { job, turn, outcome: self.done(runner) }
    }

    fn done(self, runner: &mut Runner) -> Result<Done, Failure> {
        let Work {
            job,
            stand,
            pages,
            mut log_size,
            turn: _,
            hash,
            is_built_in,
            now,
            mut events,
            signals_taken,
            orders,
            registry,
        } = self;
        let mut instance = match stand {
            Stand::Here(instance) => instance,
            Stand::Log => Box::new(Log::read(&pages)?.bring_back(&registry, &hash)?),
            Stand::BeforeEnd { unfinished, tasks } => {
                let (instance, undo) = Log::read(&pages)?.before_end(&registry, &hash)?;
                let tasks_again = unfinished.into_iter().filter(|task| instance.awaits_task(*task)).collect();
                events.insert(0, Event::Retried { undo, tasks: tasks_again, next: tasks });
                if matches!(instance.status(), Status::Paused(_)) {
                    events.insert(1, Event::Resume);
                }
                Box::new(instance)
            }
        };
        let mut plan = Plan::new(&orders);
        let mut entries: Vec<Entry> = Vec::new();
        let mut sections = Judged { runner, orders: &orders };
        for event in events {
            if let Event::Migrated { rules } = &event {
                let moved = registry.program(rules).and_then(|program| log::put_under(&mut instance, program));
                if let Err(why) = moved {
                    warn!(%job, code = why.code, "not migrated: {}", why.message);
                    continue;
                }
            }
            if matches!(instance.status(), Status::Ended(_)) {
                break;
            }
            let step = instance.step(now, event, &mut sections);
            plan.take(step.requests)?;
            entries.push(step.entry);
        }
        let Plan { mut steps, starts, closes, signals, .. } = plan;
        if !entries.is_empty() || signals_taken > 0 {
            if steps.is_empty() {
                steps.push(Step::default());
            }
            let (first, last) = (0, steps.len() - 1);
            if !entries.is_empty() {
                let (page, snapshot) = log_size.write(&instance, entries);
                steps[first].log = Some(page);
                steps[first].snapshot = snapshot;
            }
            steps[last].signals_taken = signals_taken;
            steps[last].outcome = outcome(&instance, is_built_in);
            for step in &mut steps {
                step.wake = instance.next_alarm();
            }
            let says_nothing = starts.is_empty() && closes.is_empty() && signals.is_empty();
            steps[last].rests = says_nothing && rests(&instance);
        }
        Ok(Done { instance, log_size, steps, starts, closes, signals })
    }
}

/// Nothing it waits for could be over unheard. One that pauses is brought back, so that whoever looks finds the reason.
fn rests(instance: &Instance) -> bool {
    let awaits = instance.waits_for().next().is_some() || instance.children().next().is_some();
    matches!(instance.status(), Status::Running) && !awaits
}

fn outcome(instance: &Instance, is_built_in: bool) -> Option<Outcome> {
    let end = match instance.status() {
        Status::Ended(end) => end,
        Status::Paused(pause) if is_built_in => {
            let message = format!(
                "{}; this is a bug: please report it with what `spool job history` tells; `spool job retry` goes on where it stopped",
                pause.message
            );
            return Some(Outcome::Failed { failure: Failure::new(Class::Internal, &pause.code, message) });
        }
        _ => return None,
    };
    Some(match end {
        End::Done(value) => {
            let output = serde_json::to_vec(value).expect("a value is plain data with string keys");
            Outcome::Done { output: output.into() }
        }
        End::Failed(failure) => Outcome::Failed { failure: failure.clone() },
        End::Cancelled(reason) => Outcome::Cancelled { reason: reason.clone() },
    })
}

/// Requests as steps. Tasks stay in the order they were asked for, since that is how both sides number them; what cancels a task that
/// is only now ordered comes in a step after.
struct Plan<'a> {
    orders: &'a Orders,
    steps: Vec<Step>,
    ordered: BTreeMap<u32, usize>,
    starts: Vec<(String, Start)>,
    closes: Vec<(String, Close)>,
    signals: Vec<Word>,
}

impl<'a> Plan<'a> {
    fn new(orders: &'a Orders) -> Plan<'a> {
        let (starts, closes, signals) = (Vec::new(), Vec::new(), Vec::new());
        Plan { orders, steps: Vec::new(), ordered: BTreeMap::new(), starts, closes, signals }
    }

    fn step(&mut self) -> &mut Step {
        if self.steps.is_empty() {
            self.steps.push(Step::default());
        }
        self.steps.last_mut().expect("there is one")
    }

    fn take(&mut self, requests: Vec<Request>) -> Result<(), Failure> {
        for request in requests {
            match request {
                Request::Call { task, effect, rule, call } => {
                    // It was judged; only what was pushed or taken away since may make a difference.
                    let order = self.orders.order(&call, &effect, &rule);
                    let (phase, order) = order.map_err(|e| Failure::new(Class::Spec, &e.code, e.message))?;
                    let step = self.step();
                    let run = TaskRun { count: 1, task: order };
                    match step.groups.last_mut().filter(|group| group.name == phase) {
                        Some(group) => group.tasks.push(run),
                        None => step.groups.push(Group { name: phase, tasks: vec![run] }),
                    }
                    self.ordered.insert(task, self.steps.len());
                }
                Request::CancelTask { task } => {
                    if self.ordered.get(&task) == Some(&self.steps.len()) {
                        self.steps.push(Step::default());
                    }
                    self.step().cancel.push(task);
                }
                Request::Start { effect, start } => self.starts.push((effect, *start)),
                Request::Close { effect, close } => self.closes.push((effect, close)),
                Request::Signal { job, name, payload, dedupe } => {
                    self.signals.push(Word { job, name, payload, dedupe });
                }
            }
        }
        Ok(())
    }
}
