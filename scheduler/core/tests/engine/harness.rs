//! A server's shell for tests: hands inputs in, keeps what came out, answers workflows from a list.

use std::collections::BTreeMap;

use spool_core::io::*;
use spool_core::{Config, Engine};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, JobId, TaskId, WorkerName};
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::WorkerHealth;

pub struct Shell {
    pub engine: Engine,
    pub now: Timestamp,
    pub records: Vec<Record>,
    /// What the last input brought, records and announcements left out.
    pub out: Vec<Effect>,
    pub replies: Vec<Reply>,
    pub ended: Vec<JobId>,
    /// Reactive jobs whose workflows have the word; whoever runs the test answers.
    pub asked: Vec<JobId>,
    plans: BTreeMap<JobId, Vec<Vec<TaskRun>>>,
    next_plan: Vec<Vec<TaskRun>>,
    /// Leases as workers heard of them.
    pub fences: BTreeMap<TaskId, (WorkerName, Fence)>,
}

pub const W: Incarnation = Incarnation(1);

pub fn shape(cpu: u64) -> Shape {
    Shape {
        function: "media.encode".into(),
        backend: String::new(),
        resources: Resources::cpu_memory(cpu, 0),
        timeout: Span::ZERO,
        no_progress: Span::ZERO,
    }
}

/// `count` tasks that need `cpu` milli-cores each.
pub fn run(count: u32, cpu: u64) -> TaskRun {
    weighted(count, cpu, 0)
}

pub fn weighted(count: u32, cpu: u64, weight: u64) -> TaskRun {
    let task = NewTask {
        shape: shape(cpu),
        label: String::new(),
        payload: Blob::from(&b"{}"[..]),
        weight,
        max_attempts: None,
    };
    TaskRun { count, task }
}

pub fn task(job: JobId, index: u32) -> TaskId {
    TaskId { job, index }
}

pub fn failure(class: Class) -> Failure {
    Failure::new(class, "simulated", "bad luck").with_evidence("exit status 1")
}

pub fn job() -> NewJob {
    NewJob {
        request_id: Default::default(),
        name: "film".into(),
        service: "video-encode".into(),
        spec: Blob::from(&b"{}"[..]),
        priority: 50,
        deadline: None,
        max_attempts: 3,
        traceparent: Default::default(),
        ..NewJob::new("", Blob::from(&b""[..]))
    }
}

impl Shell {
    pub fn new() -> Shell {
        Shell::with(Config::default())
    }

    /// Nobody loses a lease by being silent for less than an hour.
    pub fn patient() -> Shell {
        Shell::with(Config { lease: Span::from_secs(3600), ..Config::default() })
    }

    pub fn with(config: Config) -> Shell {
        Shell {
            engine: Engine::new(config),
            now: Timestamp(1_000_000),
            records: Vec::new(),
            out: Vec::new(),
            replies: Vec::new(),
            ended: Vec::new(),
            asked: Vec::new(),
            plans: BTreeMap::new(),
            next_plan: Vec::new(),
            fences: BTreeMap::new(),
        }
    }

    pub fn input(&mut self, input: Input) {
        self.out.clear();
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut effects = Vec::new();
            self.engine.handle(self.now, input, &mut effects);
            self.engine.check_invariants();
            self.take(effects, &mut inputs);
        }
    }

    pub fn take(&mut self, effects: Vec<Effect>, inputs: &mut Vec<Input>) {
        for effect in effects {
            match effect {
                Effect::Record(record) => self.records.push(record),
                Effect::Reply { reply, .. } => self.replies.push(reply),
                Effect::Ended { job } => self.ended.push(job),
                Effect::Changed { .. } => {}
                Effect::Advance { job } if self.engine.job(job).unwrap().request().reactive => self.asked.push(job),
                Effect::Advance { job } => {
                    let next = std::mem::take(&mut self.next_plan);
                    let plan = self.plans.entry(job).or_insert(next);
                    let done = self.engine.job(job).unwrap().phases().len();
                    let next = match plan.get(done) {
                        Some(tasks) => Next::Phase { name: format!("phase {done}"), tasks: tasks.clone() },
                        None => Next::Finish { output: Blob::from(&b"film"[..]) },
                    };
                    inputs.push(Input::Advance { job, next });
                }
                Effect::Send { ref worker, ref message, .. } => {
                    if let ToWorker::Lease(order) = message {
                        self.fences.insert(order.task, (worker.clone(), order.fence));
                    }
                    self.out.push(effect);
                }
            }
        }
    }

    /// Submits a job whose workflow has these phases.
    pub fn submit(&mut self, job: NewJob, phases: Vec<Vec<TaskRun>>) -> JobId {
        self.next_plan = phases;
        self.input(Input::Submit { token: Token(1), job });
        match self.replies.last() {
            Some(Reply::Submitted { job, .. }) => *job,
            other => panic!("{other:?}"),
        }
    }

    /// The workflow of a reactive job answers.
    pub fn step(&mut self, job: JobId, step: Step) {
        self.input(Input::Advance { job, next: Next::Step(step) });
    }

    /// Who was asked since the last call.
    pub fn take_asked(&mut self) -> Vec<JobId> {
        std::mem::take(&mut self.asked)
    }

    pub fn worker(&mut self, name: &str, cpu: u64) {
        self.register(name, W, cpu, vec![]);
    }

    pub fn register(&mut self, name: &str, incarnation: Incarnation, cpu: u64, held: Vec<HeldLease>) {
        let (capacity, backends) = (Resources::cpu_memory(cpu, 1000), vec!["cpu/libx264".into()]);
        self.input(Input::Register { worker: name.into(), incarnation, capacity, backends, held });
    }

    /// Reports of the task by whoever holds it.
    pub fn report(&mut self, task: TaskId, report: Report) {
        let (worker, fence) = self.fences[&task].clone();
        self.input(Input::Report { worker, incarnation: W, task, fence, report });
    }

    pub fn start(&mut self, task: TaskId) {
        self.report(task, Report::Started { at: self.now, start: Start::Inline });
    }

    pub fn finish(&mut self, task: TaskId, ran: Span) {
        let (started, finished) = (self.now - ran, self.now);
        let advance = Advance { frames: 10, bytes: 100, out_time: Span(1) };
        self.report(task, Report::Finished { started, finished, answer: Blob::from(&b"{}"[..]), advance });
    }

    pub fn fail(&mut self, task: TaskId, class: Class) {
        self.report(task, Report::Failed { failure: failure(class) });
    }

    /// Task and fence of the lease the worker was given last.
    pub fn last_lease(&self, worker: &str) -> Option<(TaskId, Fence)> {
        self.records.iter().rev().find_map(|record| match record {
            Record::Leased { task, fence, worker: on, .. } if *on == worker.into() => Some((*task, *fence)),
            _ => None,
        })
    }

    /// Reports of a lease that is not, or not only, the task's newest one.
    pub fn report_as(&mut self, worker: &str, (task, fence): (TaskId, Fence), report: Report) {
        self.input(Input::Report { worker: worker.into(), incarnation: W, task, fence, report });
    }

    pub fn cordon(&mut self, worker: &str, cordoned: bool) {
        let reason = String::new();
        self.input(Input::Cordon { token: Token(9), worker: worker.into(), cordoned, drain: false, reason });
    }

    pub fn health(&self, worker: &str) -> WorkerHealth {
        self.engine.worker(&worker.into()).unwrap().health
    }

    pub fn details(&self, job: JobId) -> String {
        self.engine.explain(self.now, job).unwrap().details.join("\n")
    }

    /// Lets time pass and rings.
    pub fn wait(&mut self, span: Span) {
        self.now = self.now + span;
        self.input(Input::Tick);
    }

    /// What was leased by the last input: worker, task, prefetched.
    pub fn leases(&self) -> Vec<(String, u32, bool)> {
        let lease = |effect: &Effect| match effect {
            Effect::Send { worker, message: ToWorker::Lease(order), .. } => {
                Some((worker.to_string(), order.task.index, order.prefetched))
            }
            _ => None,
        };
        self.out.iter().filter_map(lease).collect()
    }

    pub fn revokes(&self) -> Vec<(String, u32, &'static str)> {
        let revoke = |effect: &Effect| match effect {
            Effect::Send { worker, message: ToWorker::Revoke { task, reason, .. }, .. } => {
                Some((worker.to_string(), task.index, *reason))
            }
            _ => None,
        };
        self.out.iter().filter_map(revoke).collect()
    }

    pub fn messages(&self, to: &str) -> Vec<&ToWorker> {
        let message = |effect: &'_ Effect| match effect {
            Effect::Send { worker, .. } => *worker == to.into(),
            _ => false,
        };
        let sent = self.out.iter().filter(|effect| message(effect));
        sent.filter_map(|effect| if let Effect::Send { message, .. } = effect { Some(message) } else { None }).collect()
    }

    /// `running`, `queued`, … of a task.
    pub fn state(&self, task: TaskId) -> &'static str {
        self.engine.task(task).unwrap().state.name()
    }

    pub fn job_state(&self, job: JobId) -> &'static str {
        self.engine.job(job).unwrap().state().name()
    }

    pub fn explain(&self, job: JobId) -> (String, String) {
        let explanation = self.engine.explain(self.now, job).unwrap();
        (explanation.reason, explanation.text)
    }
}

pub fn leased(worker: &str, index: u32, prefetched: bool) -> (String, u32, bool) {
    (worker.to_owned(), index, prefetched)
}
