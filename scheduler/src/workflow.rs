//! What a job does next, as a pure function of what its tasks have answered. One file per service.
//!
//! The engine asks when a job is new and whenever the last task of a phase is done; after a restart it asks again, and gets the same
//! answer.

mod bench;
mod user_function;

use spool_core::engine::Engine;
use spool_core::io::{Blob, NewTask, Next, Shape, TaskRun};
use spool_core::job::Job;
use spool_proto::call::{Answer, Args, Call};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{TaskId, WorkerName};
use spool_proto::resources::Resources;
use spool_proto::spec::Service;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::TaskState;

/// A film that cannot be split gets at most this many threads: encoders gain little from more.
const UNSPLIT_THREADS_MAX: u64 = 16;

/// Cores of the largest worker that is connected, as far as the job's pool may use them.
pub fn unsplit_threads(engine: &Engine, job: &Job) -> u16 {
    let cores = engine.most_cpu(job) / 1_000;
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

/// A job's finished tasks, and where it leaves things: what a workflow decides by.
#[derive(Clone, Copy)]
struct Work<'a> {
    /// URI prefix (ends in `/`) of the job's artifacts: `spool://`, so that it holds on every machine.
    artifacts: &'a str,
    tasks: &'a [DoneTask],
}

impl<'a> Work<'a> {
    fn call(&self, inputs: Vec<String>, args: Args) -> Call {
        Call { inputs, output_prefix: self.artifacts.to_owned(), source_version: None, args }
    }

    fn one(&self, function: &str) -> Result<&'a DoneTask, Failure> {
        let found = self.tasks.iter().find(|task| task.function == function);
        found.ok_or_else(|| {
            Failure::new(Class::Internal, "missing_task", format!("the job came this far without {function}"))
        })
    }
}

fn unknown_phase(service: &str, phase: &str) -> Failure {
    let why = format!("{service} has no phase {phase:?}; the job is from a newer server");
    Failure::new(Class::Internal, "unknown_phase", why)
}

/// Whether jobs of the service leave pieces, and so need a place for them. Those of rules may all.
pub fn leaves_pieces(service: &str) -> bool {
    service == "function"
}

/// What the job wants next. A workflow that cannot go on fails its job.
pub fn next(engine: &Engine, job: &Job, artifacts: &str) -> Next {
    let spec = match serde_json::from_slice::<Service>(&job.request().spec) {
        Ok(spec) => spec,
        Err(e) => {
            return Next::Fail { failure: Failure::new(Class::Internal, "bad_spec", format!("frozen spec: {e}")) };
        }
    };
    let phase = job.phases().last().map(|phase| phase.name.as_str());
    let next = match &spec {
        Service::Bench(bench) => Ok(bench::next(bench, phase)),
        Service::Function(spec) => done_tasks(engine, job)
            .and_then(|tasks| user_function::next(spec, Work { artifacts, tasks: &tasks }, phase)),
        Service::VideoEncode(_) | Service::Title(_) | Service::Rules(_) => {
            let why =
                "its workflow is rules, and it was not submitted so; the job is from an older server: submit it anew";
            Err(Failure::new(Class::Internal, "old_job", why))
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
    resources: Resources,
    timeout: Span,
}

impl Order {
    fn run(self, count: u32) -> TaskRun {
        let shape = Shape {
            function: self.call.args.function().into(),
            backend: String::new(),
            resources: self.resources,
            timeout: self.timeout,
            no_progress: Span::ZERO,
        };
        let payload: Blob = serde_json::to_vec(&self.call).expect("a call is plain data with string keys").into();
        let task = NewTask { shape, label: String::new(), payload, weight: 0, max_attempts: None };
        TaskRun { count, task }
    }
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
        let job = engine.jobs().next().expect("it was taken");
        let Next::Fail { failure } = next(&engine, job, "spool://j1/") else { panic!("it cannot go on") };
        assert_eq!(failure.code, "old_job", "{failure}");
    }
}
