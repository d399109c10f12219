//! A rule set run without a server: functions and children answer as a script says, time passes as they need it, and everything that
//! happens is told.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::sync::Arc;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use spool_proto::failure::{Class, Failure};
use spool_proto::time::{Span, Timestamp};

use crate::history::{Entry, Event, Outcome};
use crate::instance::{End, Instance, Program, Request, Sections, Status};
use crate::limits::Limits;
use crate::schema;
use crate::value::Value;

/// Events before a rehearsal is taken to go on for ever.
const EVENTS: usize = 100_000;

/// What is to happen, and what is to come of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    pub name: String,
    #[serde(default)]
    pub input: Value,
    /// What functions answer, by name.
    #[serde(default)]
    pub functions: BTreeMap<String, Answers>,
    /// What children end with, by service.
    #[serde(default)]
    pub services: BTreeMap<String, Answers>,
    #[serde(default)]
    pub signals: Vec<Signal>,
    /// Seconds after the start.
    #[serde(default)]
    pub cancel_after: Option<f64>,
    /// Virtual seconds it may take; then it is looked at as it stands. 0: until nothing happens any more.
    #[serde(default)]
    pub run_for: f64,
    #[serde(default)]
    pub expect: Expectation,
}

/// The same each time, or one after the other (the last for all that follow).
#[derive(Debug, Clone, PartialEq)]
pub enum Answers {
    Each(Vec<Answer>),
    Always(Answer),
}

/// By hand, so that what is wrong within is told with its own place.
impl<'de> Deserialize<'de> for Answers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Answers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("what is answered (answer, fail, takes, hangs), or a list of such")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Answers, A::Error> {
                Answer::deserialize(MapAccessDeserializer::new(map)).map(Answers::Always)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Answers, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Answers::Each)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Answer {
    pub answer: Value,
    pub fail: Option<Failing>,
    /// Seconds.
    pub takes: f64,
    /// It never answers.
    pub hangs: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failing {
    pub class: Class,
    #[serde(default = "scripted")]
    pub code: String,
    #[serde(default = "scripted")]
    pub message: String,
}

fn scripted() -> String {
    "scripted_failure".into()
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    #[serde(default)]
    pub after: f64,
    pub name: String,
    #[serde(default)]
    pub payload: Value,
    #[serde(default)]
    pub dedupe: String,
}

/// What is not said may be anything.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expectation {
    /// The result; maps may have more fields than are named.
    pub done: Option<Value>,
    /// Code of the failure.
    pub failed: Option<String>,
    pub cancelled: Option<bool>,
    /// Code of what it is paused for.
    pub paused: Option<String>,
    /// It is still under way.
    pub running: Option<bool>,
    /// How many calls there were, by function.
    pub calls: BTreeMap<String, u64>,
    /// How many children were started, by service.
    pub starts: BTreeMap<String, u64>,
    /// How many facts there are, by type.
    pub facts: BTreeMap<String, u64>,
    /// Virtual seconds at most.
    pub within: Option<f64>,
}

/// What came of a rehearsal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Told {
    pub name: String,
    /// A line a happening, in order.
    pub trace: Vec<String>,
    /// What is not as expected.
    pub wrong: Vec<String>,
    #[serde(skip)]
    pub history: Vec<Entry>,
}

/// Plays a script through.
pub fn rehearse(program: &Arc<Program>, sections: &mut dyn Sections, script: &Script, limits: Limits) -> Told {
    let mut play = Play {
        instance: Instance::new(program.clone(), limits),
        script,
        start: Timestamp(1_000_000_000_000_000),
        now: Timestamp(1_000_000_000_000_000),
        due: BinaryHeap::new(),
        events: Vec::new(),
        calls: BTreeMap::new(),
        starts: BTreeMap::new(),
        tasks: BTreeMap::new(),
        trace: Vec::new(),
        wrong: Vec::new(),
        history: Vec::new(),
    };
    play.run(sections);
    Told { name: script.name.clone(), trace: play.trace, wrong: play.wrong, history: play.history }
}

struct Play<'a> {
    instance: Instance,
    script: &'a Script,
    start: Timestamp,
    now: Timestamp,
    /// Numbers of [`Self::events`] by when they are due, first come first.
    due: BinaryHeap<Reverse<(Timestamp, usize)>>,
    events: Vec<Event>,
    calls: BTreeMap<String, u64>,
    starts: BTreeMap<String, u64>,
    /// What open tasks are, for the trace.
    tasks: BTreeMap<u32, String>,
    trace: Vec<String>,
    wrong: Vec<String>,
    history: Vec<Entry>,
}

fn seconds(seconds: f64) -> Span {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
    Span((seconds.max(0.0) * 1e6) as u64)
}

impl Play<'_> {
    fn run(&mut self, sections: &mut dyn Sections) {
        let input = match schema::conform(&self.instance.program().set().input, &self.script.input) {
            Ok(input) => input,
            Err(bad) => return self.wrong.push(format!("input: {bad}")),
        };
        self.put(Span::ZERO, Event::Started { input });
        for signal in &self.script.signals {
            let Signal { after, name, payload, dedupe } = signal.clone();
            self.put(seconds(after), Event::Signal { name, payload, dedupe });
        }
        if let Some(after) = self.script.cancel_after {
            self.put(seconds(after), Event::Cancel { reason: "the script cancels".into() });
        }
        let end = (self.script.run_for > 0.0).then(|| self.start + seconds(self.script.run_for));
        for _ in 0..EVENTS {
            if matches!(self.instance.status(), Status::Ended(_)) {
                break;
            }
            let due = self.due.peek().map(|Reverse((at, _))| *at);
            let alarm = self.instance.next_alarm();
            let Some(next) = due.into_iter().chain(alarm).min().filter(|at| end.is_none_or(|end| *at <= end)) else {
                break;
            };
            self.now = self.now.max(next);
            let event = match due {
                Some(at) if at <= next => {
                    let Reverse((_, number)) = self.due.pop().expect("just seen");
                    self.events[number].clone()
                }
                _ => Event::Tick { unstarted: self.instance.starts_due(self.now) },
            };
            self.happen(event, sections);
        }
        self.compare();
    }

    fn put(&mut self, after: Span, event: Event) {
        self.due.push(Reverse((self.now + after, self.events.len())));
        self.events.push(event);
    }

    fn say(&mut self, text: &str) {
        let at = self.now.since(self.start).as_secs_f64();
        self.trace.push(format!("{at:>8.1} s  {text}"));
    }

    fn happen(&mut self, event: Event, sections: &mut dyn Sections) {
        let text = match &event {
            Event::Started { input } => format!("start {}", short(input)),
            Event::TaskDone { task, value } => {
                format!("done {} {}", self.tasks.remove(task).unwrap_or_default(), short(value))
            }
            Event::TaskFailed { task, failure } => {
                format!("failed {} ({}, {})", self.tasks.remove(task).unwrap_or_default(), failure.class, failure.code)
            }
            Event::ChildDone { effect, value } => format!("child done {effect} {}", short(value)),
            Event::ChildFailed { effect, failure } => format!("child failed {effect} ({})", failure.code),
            Event::Signal { name, payload, .. } => format!("signal {name} {}", short(payload)),
            Event::Retried { tasks, .. } => format!("told to go on: {} calls are made again", tasks.len()),
            Event::Cancel { reason } => format!("cancel: {reason}"),
            Event::Tick { .. } => "time".into(),
            Event::Resume => "resume".into(),
            Event::Migrated { rules } => format!("rules are now {rules}"),
        };
        self.say(&text);
        let step = self.instance.step(self.now, event, sections);
        for run in &step.entry.sections {
            let came = match &run.outcome {
                Outcome::Effects(effects) => {
                    let mut counts: Vec<(&str, usize)> = Vec::new();
                    for effect in effects {
                        match counts.iter_mut().find(|(name, _)| *name == effect.name()) {
                            Some((_, count)) => *count += 1,
                            None => counts.push((effect.name(), 1)),
                        }
                    }
                    let each =
                        counts.iter().map(|(name, n)| if *n == 1 { (*name).into() } else { format!("{name} × {n}") });
                    let all = each.collect::<Vec<String>>().join(", ");
                    if all.is_empty() { "nothing".into() } else { all }
                }
                Outcome::Broke(failure) => format!("BROKE: {failure}"),
            };
            self.say(&format!("  {} {} → {came}", run.rule, run.section.name()));
        }
        self.history.push(step.entry);
        for request in step.requests {
            self.answer(request);
        }
        match self.instance.status().clone() {
            Status::Ended(End::Done(value)) => self.say(&format!("END done {}", short(&value))),
            Status::Ended(End::Failed(failure)) => self.say(&format!("END failed ({}): {failure}", failure.code)),
            Status::Ended(End::Cancelled(reason)) => self.say(&format!("END cancelled: {reason}")),
            Status::Paused(pause) => self.say(&format!("PAUSED ({}): {}", pause.code, pause.message)),
            Status::Running | Status::Cancelling { .. } => {}
        }
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Call { task, effect, call, .. } => {
                let what = if call.label.is_empty() { effect } else { call.label.clone() };
                self.tasks.insert(task, format!("{} [{what}]", call.function));
                let count = self.calls.entry(call.function.clone()).or_default();
                *count += 1;
                let nth = *count;
                let Some(answer) = pick(self.script.functions.get(&call.function), nth) else {
                    return self.wrong.push(format!(
                        "{} is called ({what}) and the script does not say what it answers",
                        call.function
                    ));
                };
                if answer.hangs {
                    return;
                }
                let event = match &answer.fail {
                    Some(failing) => Event::TaskFailed { task, failure: failure(failing) },
                    None => Event::TaskDone { task, value: answer.answer.clone() },
                };
                self.put(seconds(answer.takes), event);
            }
            Request::Start { effect, start } => {
                let count = self.starts.entry(start.service.clone()).or_default();
                *count += 1;
                let nth = *count;
                let Some(answer) = pick(self.script.services.get(&start.service), nth) else {
                    return self.wrong.push(format!(
                        "service {} is started ({effect}) and the script does not say what comes of it",
                        start.service
                    ));
                };
                if answer.hangs {
                    return;
                }
                let event = match &answer.fail {
                    Some(failing) => Event::ChildFailed { effect, failure: failure(failing) },
                    None => Event::ChildDone { effect, value: answer.answer.clone() },
                };
                self.put(seconds(answer.takes), event);
            }
            Request::CancelTask { task } => {
                let what = self.tasks.remove(&task).unwrap_or_default();
                self.say(&format!("  called off: {what}"));
            }
            Request::Close { effect, close } => self.say(&format!("  child {effect}: {close:?}")),
            Request::Signal { job, name, payload, .. } => {
                self.say(&format!("  signal to {job}: {name} {}", short(&payload)));
            }
        }
    }

    fn compare(&mut self) {
        let Expectation { done, failed, cancelled, paused, running, calls, starts, facts, within } =
            self.script.expect.clone();
        let status = self.instance.status().clone();
        let is = match &status {
            Status::Ended(End::Done(value)) => format!("it is done with {value}"),
            Status::Ended(End::Failed(failure)) => format!("it failed ({}): {failure}", failure.code),
            Status::Ended(End::Cancelled(_)) => "it was cancelled".into(),
            Status::Paused(pause) => format!("it is paused ({}): {}", pause.code, pause.message),
            Status::Running | Status::Cancelling { .. } => "it is still under way".to_owned(),
        };
        let mut expect = |holds: bool, what: String| {
            if !holds {
                self.wrong.push(format!("expected {what}; {is}"));
            }
        };
        let is_said = done.is_some() || failed.is_some() || cancelled == Some(true) || running == Some(true);
        if let (Status::Paused(pause), None, false) = (&status, &paused, is_said) {
            expect(false, format!("it not to pause (if that is meant: expect: {{paused: {}}})", pause.code));
        }
        if let Some(value) = done {
            let holds = matches!(&status, Status::Ended(End::Done(found)) if covers(found, &value));
            expect(holds, format!("it to be done with {value}"));
        }
        if let Some(code) = failed {
            let holds = matches!(&status, Status::Ended(End::Failed(failure)) if failure.code == code);
            expect(holds, format!("it to fail with {code}"));
        }
        if let Some(wanted) = cancelled {
            expect(matches!(status, Status::Ended(End::Cancelled(_))) == wanted, format!("cancelled: {wanted}"));
        }
        if let Some(code) = paused {
            let holds = matches!(&status, Status::Paused(pause) if pause.code == code);
            expect(holds, format!("it to be paused for {code}"));
        }
        if let Some(wanted) = running {
            expect(matches!(status, Status::Running) == wanted, format!("running: {wanted}"));
        }
        for (function, count) in calls {
            let found = self.calls.get(&function).copied().unwrap_or(0);
            if found != count {
                self.wrong.push(format!("expected {count} calls of {function}; there were {found}"));
            }
        }
        for (service, count) in starts {
            let found = self.starts.get(&service).copied().unwrap_or(0);
            if found != count {
                self.wrong.push(format!("expected {count} starts of {service}; there were {found}"));
            }
        }
        for (kind, count) in facts {
            let found = self.instance.facts().filter(|fact| *fact.kind == *kind).count();
            if u64::try_from(found).unwrap_or(u64::MAX) != count {
                self.wrong.push(format!("expected {count} facts {kind:?}; there are {found}"));
            }
        }
        if let Some(within) = within {
            let took = self.now.since(self.start).as_secs_f64();
            if took > within {
                self.wrong.push(format!("expected it within {within} s; it took {took} s"));
            }
        }
    }
}

fn pick(answers: Option<&Answers>, nth: u64) -> Option<&Answer> {
    match answers? {
        Answers::Always(answer) => Some(answer),
        Answers::Each(list) => {
            let at = usize::try_from(nth - 1).unwrap_or(usize::MAX).min(list.len().saturating_sub(1));
            list.get(at)
        }
    }
}

fn failure(failing: &Failing) -> Failure {
    Failure::new(failing.class, &failing.code, failing.message.clone())
}

/// Whether all that is wanted is there: maps may hold more.
fn covers(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Map(found), Value::Map(wanted)) => {
            wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| covers(found, wanted)))
        }
        (Value::List(found), Value::List(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted.iter()).all(|(found, wanted)| covers(found, wanted))
        }
        _ => found == wanted,
    }
}

/// A value in a line of a trace.
fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 100 {
        return text;
    }
    let head: String = text.chars().take(99).collect();
    format!("{head}…")
}
