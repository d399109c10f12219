//! What a job does next, as a pure function of what its tasks have answered. One file per service.
//!
//! The engine asks when a job is new and whenever the last task of a phase is done; after a restart it asks again, and gets the same
//! answer.

mod bench;
mod chunks;
pub(crate) mod limits;
mod title;
mod user_function;

use spool_core::engine::Engine;
use spool_core::io::{Blob, NewTask, Next, Shape, TaskRun};
use spool_core::job::Job;
use spool_proto::call::{Answer, Args, Artifact, Call, SourceFacts, Value, function};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{TaskId, WorkerName};
use spool_proto::resources::Resources;
use spool_proto::spec::Service;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::TaskState;

/// What a workflow may know of the house around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// URI prefix (ends in `/`) of the job's artifacts: `spool://`, so that it holds on every machine.
    pub artifacts: String,
    /// Threads for a film that cannot be split: cores of the largest worker.
    pub unsplit_threads: u16,
}

/// A film that cannot be split gets at most this many threads: encoders gain little from more.
const UNSPLIT_THREADS_MAX: u64 = 16;

/// Cores of the largest worker that is connected.
pub fn unsplit_threads(engine: &Engine) -> u16 {
    let cores = engine.most_cpu() / 1_000;
    u16::try_from(cores.clamp(1, UNSPLIT_THREADS_MAX)).expect("at most 16")
}

/// A task that is done.
#[derive(Debug, Clone, PartialEq)]
struct DoneTask {
    id: TaskId,
    function: String,
    worker: WorkerName,
    attempt: u32,
    started: Timestamp,
    finished: Timestamp,
    answer: Answer,
}

impl DoneTask {
    fn artifact(&self, name: &str) -> Result<&Artifact, Failure> {
        let found = self.answer.artifacts.iter().find(|a| a.name == name);
        found.ok_or_else(|| bad_answer(self.id, &self.function, &format!("it left no artifact {name:?}")))
    }

    /// The answer is of a kind the function does not give.
    fn wrong_kind(&self) -> Failure {
        bad_answer(self.id, &self.function, "it answered something else than was asked")
    }
}

fn bad_answer(task: TaskId, function: &str, why: &str) -> Failure {
    let message =
        format!("task {task} ({function}): {why}; worker and server are of different versions, or this is a bug");
    Failure::new(Class::Internal, "bad_answer", message)
}

/// A job's finished tasks and its place: what a workflow decides by.
#[derive(Clone, Copy)]
struct Work<'a> {
    place: &'a Place,
    tasks: &'a [DoneTask],
}

impl<'a> Work<'a> {
    fn call(&self, inputs: Vec<String>, args: Args) -> Call {
        self.call_of(0, inputs, args)
    }

    /// The same where the first input is another of the film's sources, by its number.
    fn call_of(&self, source: u32, inputs: Vec<String>, args: Args) -> Call {
        // What the probe found a source in a store to be.
        let probe = usize::try_from(source).ok().and_then(|source| self.of(function::PROBE).get(source).copied());
        let source_version = probe.and_then(|probe| Some(probe.answer.source.as_ref()?.version.clone()));
        Call { inputs, output_prefix: self.place.artifacts.clone(), source_version, args }
    }

    /// In order of creation, which is the order they were ordered in.
    fn of(&self, function: &str) -> Vec<&'a DoneTask> {
        self.tasks.iter().filter(|task| task.function == function).collect()
    }

    fn one(&self, function: &str) -> Result<&'a DoneTask, Failure> {
        let found = self.tasks.iter().find(|task| task.function == function);
        found.ok_or_else(|| {
            Failure::new(Class::Internal, "missing_task", format!("the job came this far without {function}"))
        })
    }

    fn source(&self) -> Result<&'a SourceFacts, Failure> {
        let probe = self.one(function::PROBE)?;
        let Value::Probe(facts) = &probe.answer.value else { return Err(probe.wrong_kind()) };
        Ok(facts)
    }
}

fn unknown_phase(service: &str, phase: &str) -> Failure {
    let why = format!("{service} has no phase {phase:?}; the job is from a newer server");
    Failure::new(Class::Internal, "unknown_phase", why)
}

/// Whether jobs of the service leave pieces, and so need a place for them. Those of rules may all.
pub fn leaves_pieces(service: &str) -> bool {
    matches!(service, "title" | "function")
}

/// What the job wants next. A workflow that cannot go on fails its job.
pub fn next(engine: &Engine, job: &Job, place: &Place) -> Next {
    let spec = match serde_json::from_slice::<Service>(&job.request().spec) {
        Ok(spec) => spec,
        Err(e) => {
            return Next::Fail { failure: Failure::new(Class::Internal, "bad_spec", format!("frozen spec: {e}")) };
        }
    };
    let phase = job.phases().last().map(|phase| phase.name.as_str());
    let next = match &spec {
        Service::Bench(bench) => Ok(bench::next(bench, phase)),
        Service::Function(spec) => {
            done_tasks(engine, job).and_then(|tasks| user_function::next(spec, Work { place, tasks: &tasks }, phase))
        }
        Service::VideoEncode(_) | Service::Rules(_) => {
            let why =
                "its workflow is rules, and it was not submitted so; the job is from an older server: submit it anew";
            Err(Failure::new(Class::Internal, "old_job", why))
        }
        Service::Title(spec) => {
            done_tasks(engine, job).and_then(|tasks| title::next(spec, Work { place, tasks: &tasks }, phase))
        }
    };
    next.unwrap_or_else(|failure| Next::Fail { failure })
}

fn done_tasks(engine: &Engine, job: &Job) -> Result<Vec<DoneTask>, Failure> {
    let done = engine.tasks(job).filter(|task| task.state == TaskState::Done);
    done.map(|task| {
        let bad = |why: &str| bad_answer(task.id, &task.shape.function, why);
        let answer = task.answer.ok_or_else(|| bad("it is done without an answer"))?;
        Ok(DoneTask {
            id: task.id,
            function: task.shape.function.clone(),
            worker: task.worker.cloned().ok_or_else(|| bad("it is done without a worker"))?,
            attempt: task.attempt,
            started: task.started.unwrap_or_default(),
            finished: task.finished.unwrap_or_default(),
            answer: serde_json::from_slice(answer).map_err(|e| bad(&format!("its answer cannot be read: {e}")))?,
        })
    })
    .collect()
}

/// One task to be made of a call.
struct Order {
    call: Call,
    backend: String,
    resources: Resources,
    timeout: Span,
    no_progress: Span,
    label: String,
    weight: u64,
}

impl Order {
    fn new(call: Call, resources: Resources, timeout: Span) -> Order {
        let (backend, label) = (String::new(), String::new());
        Order { call, backend, resources, timeout, no_progress: Span::ZERO, label, weight: 0 }
    }

    fn run(self, count: u32) -> TaskRun {
        let shape = Shape {
            function: self.call.args.function().into(),
            backend: self.backend,
            resources: self.resources,
            timeout: self.timeout,
            no_progress: self.no_progress,
        };
        let payload: Blob = serde_json::to_vec(&self.call).expect("a call is plain data with string keys").into();
        TaskRun { count, task: NewTask { shape, label: self.label, payload, weight: self.weight, max_attempts: None } }
    }
}

fn phase(name: &str, orders: impl IntoIterator<Item = Order>) -> Next {
    Next::Phase { name: name.into(), tasks: orders.into_iter().map(|order| order.run(1)).collect() }
}

#[cfg(test)]
mod tests {
    use spool_core::config::Config;
    use spool_core::io::{Input, NewJob, Token};

    use super::*;

    #[test]
    fn a_film_that_an_older_server_took_fails_and_says_so() {
        let mut engine = Engine::new(Config::default());
        let spec = serde_json::json!({
            "service": "video-encode", "source": "file:///in.mov", "output": "file:///out.mp4", "overwrite": false,
            "container": "mp4", "video": null, "audio": {"codec": "aac"}, "subtitles": "none",
        });
        let job = NewJob::new("video-encode", serde_json::to_vec(&spec).expect("plain data").into());
        engine.handle(Timestamp(1), Input::Submit { token: Token(1), job }, &mut Vec::new());
        let place = Place { artifacts: "spool://j1/".into(), unsplit_threads: 1 };
        let job = engine.jobs().next().expect("it was taken");
        let Next::Fail { failure } = next(&engine, job, &place) else { panic!("it cannot go on") };
        assert_eq!(failure.code, "old_job", "{failure}");
    }
}
