//! A job of a rule file, driven by hand: functions are answered by the test.

use std::sync::Arc;

use spool_dialect::{Compiled, Sources};
use spool_proto::failure::{Class, Failure};
use spool_proto::time::{Span, Timestamp};
use spool_rules::history::{Entry, Event};
use spool_rules::instance::{End, Instance, Program, Request, Status};
use spool_rules::limits::Limits;
use spool_rules::value::Value;

pub struct Job {
    pub compiled: Arc<Compiled>,
    pub instance: Instance,
    pub now: Timestamp,
    pub history: Vec<Entry>,
    /// Asked for and not answered.
    pub calls: Vec<(u32, String, Value)>,
    pub requests: Vec<Request>,
    pub limits: Limits,
}

pub fn compile(text: &str) -> Arc<Compiled> {
    let compiled = Compiled::new(&Sources::of(text));
    Arc::new(
        compiled.unwrap_or_else(|problems| panic!("{}", problems.iter().map(|p| format!("{p}\n")).collect::<String>())),
    )
}

pub fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

impl Job {
    pub fn new(text: &str, input: &str) -> Job {
        Job::with(text, input, Limits::default())
    }

    pub fn with(text: &str, input: &str, limits: Limits) -> Job {
        let compiled = compile(text);
        let program = Arc::new(Program::new(compiled.set.clone()).expect("checked when compiled"));
        let mut job = Job {
            compiled,
            instance: Instance::new(program, limits),
            now: Timestamp(1_000_000),
            history: Vec::new(),
            calls: Vec::new(),
            requests: Vec::new(),
            limits,
        };
        job.event(Event::Started { input: json(input) });
        job
    }

    /// Every event goes through all the ways a job's state can come about, which must agree: on in memory, and from what was kept.
    pub fn event(&mut self, event: Event) -> Vec<Request> {
        let kept = self.instance.keep();
        let step = self.instance.step(self.now, event, &mut &*self.compiled);
        let text = serde_json::to_string(&kept).expect("plain data");
        let kept = serde_json::from_str(&text).expect("what was written can be read");
        let mut twin =
            Instance::restore(self.instance.program().clone(), self.limits, kept).expect("it matched before");
        let entry: Entry =
            serde_json::from_str(&serde_json::to_string(&step.entry).expect("plain data")).expect("read");
        let again = twin.replay(&entry).unwrap_or_else(|e| panic!("{e}\n{entry:#?}"));
        assert_eq!(again, step.requests);
        assert_eq!(twin.keep(), self.instance.keep());
        self.history.push(step.entry);
        for request in &step.requests {
            match request {
                Request::Call { task, call, .. } => self.calls.push((*task, call.function.clone(), call.args.clone())),
                Request::CancelTask { task } => self.calls.retain(|(known, ..)| known != task),
                _ => {}
            }
        }
        self.requests.extend(step.requests.clone());
        step.requests
    }

    pub fn later(&mut self, seconds: u64) -> Vec<Request> {
        self.now = self.now + Span::from_secs(seconds);
        let unstarted = self.instance.starts_due(self.now);
        self.event(Event::Tick { unstarted })
    }

    /// Answers the oldest open call of the function.
    pub fn answer(&mut self, function: &str, value: &str) -> Vec<Request> {
        let task = self.take(function);
        self.event(Event::TaskDone { task, value: json(value) })
    }

    pub fn fail(&mut self, function: &str, class: Class) -> Vec<Request> {
        let task = self.take(function);
        let failure = Failure::new(class, "test_failure", "it was made to fail");
        self.event(Event::TaskFailed { task, failure })
    }

    fn take(&mut self, function: &str) -> u32 {
        let at = self.calls.iter().position(|(_, known, _)| known == function);
        let at = at.unwrap_or_else(|| panic!("{function} is not called; {:?} is", self.calls));
        self.calls.remove(at).0
    }

    pub fn open(&self) -> Vec<&str> {
        self.calls.iter().map(|(_, function, _)| function.as_str()).collect()
    }

    pub fn facts(&self, kind: &str) -> Vec<Value> {
        self.instance.facts().filter(|fact| &*fact.kind == kind).map(|fact| fact.value()).collect()
    }

    pub fn end(&self) -> &End {
        match self.instance.status() {
            Status::Ended(end) => end,
            other => panic!("it has not ended: {other:?}"),
        }
    }

    pub fn pause(&self) -> &spool_rules::instance::Pause {
        match self.instance.status() {
            Status::Paused(pause) => pause,
            other => panic!("it is not paused: {other:?}"),
        }
    }
}
