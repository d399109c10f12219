//! From what rules call to what workers do: a call becomes a task, a task's answer becomes a value.

use spool_core::io::{Blob, NewTask, Shape};
use spool_core::query::TaskInfo;
use spool_function::own;
use spool_proto::call::{self, Answer, Args, Call, EncodeArgs, function};
use spool_proto::failure::{Class, Failure};
use spool_proto::resources::Resources;
use spool_proto::spec::VideoCodec;
use spool_proto::time::Span;
use spool_rules::effect;
use spool_rules::history::SectionFailure;
use spool_rules::value::Value;

use crate::functions;

/// A job's calls as tasks.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    /// URI prefix (ends in `/`) of the job's artifacts.
    pub(super) artifacts: String,
    /// Cores of the largest worker.
    pub(super) threads: u16,
    pub(super) functions: functions::Registry,
}

impl Orders {
    /// Why the call cannot be made, in its author's words.
    pub(super) fn judge(&self, call: &effect::Call) -> Result<(), SectionFailure> {
        self.order(call, "", "").map(drop)
    }

    /// `effect` names the call in its job; `rule` is whose it is.
    pub(super) fn order(
        &self,
        call: &effect::Call,
        effect: &str,
        rule: &str,
    ) -> Result<(String, NewTask), SectionFailure> {
        let mut task = match args(call)? {
            Some(args) => self.own(call, args),
            None => self.pushed(call)?,
        };
        for (name, amount) in &call.resources {
            task.shape.resources.set(name, *amount);
        }
        let asked = |asked: Span, usual: &mut Span| {
            if asked.0 > 0 {
                *usual = asked;
            }
        };
        asked(call.timeouts.start_to_close_us, &mut task.shape.timeout);
        asked(call.timeouts.no_progress_us, &mut task.shape.no_progress);
        if !call.backend.is_empty() {
            task.shape.backend.clone_from(&call.backend);
        }
        match (call.label.as_str(), effect.split_once('/')) {
            ("", Some((_, key))) if key.parse::<usize>().is_err() => task.label = key.to_owned(),
            ("", _) => {}
            (label, _) => task.label = label.to_owned(),
        }
        if call.weight > 0 {
            task.weight = call.weight;
        }
        if call.attempts > 0 {
            task.max_attempts = Some(call.attempts);
        }
        let phase = if call.phase.is_empty() { rule } else { &call.phase };
        Ok((phase.to_owned(), task))
    }

    /// A call of a function that comes with the workers.
    fn own(&self, call: &effect::Call, mut args: Args) -> NewTask {
        if let Args::Plan(plan) = &mut args
            && plan.unsplit_threads == 0
        {
            plan.unsplit_threads = self.threads;
        }
        let needs = own::get(args.function()).expect("args are read for functions that are declared").needs;
        let shape = Shape {
            function: args.function().into(),
            backend: backend(&args),
            resources: Resources::cpu_memory(self.cores(&args) * own::needs::CORE, needs.memory_mib),
            timeout: needs.timeout,
            no_progress: needs.no_progress,
        };
        let payload = Call {
            inputs: call.inputs.clone(),
            output_prefix: self.artifacts.clone(),
            source_version: call.source_version.clone(),
            args,
        };
        let payload: Blob = serde_json::to_vec(&payload).expect("a call is plain data with string keys").into();
        NewTask { shape, label: String::new(), payload, weight: 0, max_attempts: None }
    }

    /// A call of a function that somebody pushed: its manifest says what it takes.
    fn pushed(&self, call: &effect::Call) -> Result<NewTask, SectionFailure> {
        let name = &call.function;
        if !call.inputs.is_empty() {
            let why = format!("call({name:?}, inputs = …): a function that was pushed has its files among its args");
            return Err(SectionFailure::new("bad_arguments", why));
        }
        let refused = |failure: Failure| match failure.code.as_str() {
            "no_such_function" | "no_such_version" => {
                let own: Vec<_> = own::all().iter().map(|function| function.name).collect();
                SectionFailure::new(
                    "unknown_function",
                    format!("{}; and there are {}", failure.message, own.join(", ")),
                )
            }
            _ => SectionFailure::new("bad_arguments", format!("call({name:?}, args = …): {}", failure.message)),
        };
        let entry = self.functions.resolve(name).map_err(refused)?;
        let input = serde_json::to_value(&call.args).expect("a value is plain data with string keys");
        let order = entry.order(&input).map_err(refused)?;
        Ok(functions::task(&order, self.artifacts.clone()))
    }
}

impl Orders {
    /// Threads are the author's to choose; more of them than the largest worker has cores share those cores.
    fn cores(&self, args: &Args) -> u64 {
        encode_of(args).map_or(1, |encode| encode.threads.clamp(1, self.threads.max(1)).into())
    }
}

/// `None`: workers have no function of the name themselves.
fn args(call: &effect::Call) -> Result<Option<Args>, SectionFailure> {
    let name = &call.function;
    if own::get(name).is_none() {
        return Ok(None);
    }
    let bad = |message: String| SectionFailure::new("bad_arguments", message);
    let mut args = match serde_json::to_value(&call.args) {
        Ok(serde_json::Value::Object(args)) => args,
        Ok(serde_json::Value::Null) => serde_json::Map::new(),
        Ok(other) => return Err(bad(format!("call({name:?}, args = …) takes a dict, not {other}"))),
        Err(e) => return Err(bad(format!("call({name:?}, args = …): {e}"))),
    };
    args.insert("function".into(), name.as_str().into());
    let args = serde_json::from_value(serde_json::Value::Object(args));
    args.map(Some).map_err(|e| bad(format!("call({name:?}, args = …): {e}")))
}

/// Of calls that run a video encoder.
fn encode_of(args: &Args) -> Option<&EncodeArgs> {
    match args {
        Args::Encode(encode) | Args::Analyse(encode) => Some(encode),
        Args::Trial(trial) => Some(&trial.encode),
        _ => None,
    }
}

/// What a worker must offer, as far as the arguments say it.
fn backend(args: &Args) -> String {
    let codec = encode_of(args).and_then(|encode| Some(encode.spec.video.as_ref()?.codec));
    codec.map_or_else(String::new, |codec: VideoCodec| format!("cpu/{}", codec.name()))
}

/// Whether a function gives answers of the kind.
fn fits(name: &str, value: &call::Value) -> bool {
    use call::Value as Kind;
    match name {
        function::PROBE => matches!(value, Kind::Probe(_)),
        function::SCENES => matches!(value, Kind::Scenes(_)),
        function::PLAN => matches!(value, Kind::Plan(_)),
        function::ENCODE | function::AUDIO | function::SUBTITLE => matches!(value, Kind::Track(_)),
        function::ANALYSE => matches!(value, Kind::Analysis(_)),
        function::ASSEMBLE | function::VALIDATE => matches!(value, Kind::Film(_)),
        function::INDEX => matches!(value, Kind::Index(_)),
        function::TRIAL => matches!(value, Kind::Trial(_)),
        function::QUALITY | function::QUALITY_REPORT => matches!(value, Kind::Quality(_)),
        function::PUBLISH => matches!(value, Kind::Published { .. }),
        _ => true,
    }
}

/// What a rule sees of a task that is done: the fields of its answer's value, and with them `artifacts` by name, `warnings`, `read` (of a
/// source over a network) and `run` (who did it, and when).
pub(super) fn value(task: &TaskInfo<'_>) -> Result<Value, Failure> {
    let bad = |why: String| Failure::new(Class::Internal, "bad_answer", format!("an answer cannot be read: {why}"));
    let answer = task.answer.ok_or_else(|| bad("there is none".into()))?;
    let answer: Answer = serde_json::from_slice(answer).map_err(|e| bad(e.to_string()))?;
    if !fits(&task.shape.function, &answer.value) {
        let function = &task.shape.function;
        return Err(bad(format!(
            "{function} answered something else than was asked; its worker is of another version, or this is a bug"
        )));
    }
    let json = serde_json::to_value(&answer).map_err(|e| bad(e.to_string()))?;
    // What a user's function answered is its result alone.
    let value = match &answer.value {
        call::Value::User { result, .. } => Some(result),
        _ => json.get("value"),
    };
    let mut fields = match value {
        Some(serde_json::Value::Object(fields)) => fields.clone(),
        Some(other) => serde_json::Map::from_iter([("value".to_owned(), other.clone())]),
        None => serde_json::Map::new(),
    };
    let artifacts = answer.artifacts.iter().map(|artifact| {
        let facts = serde_json::json!({"uri": artifact.uri, "bytes": artifact.bytes, "hash": artifact.hash});
        (artifact.name.clone(), facts)
    });
    fields.insert("artifacts".into(), serde_json::Value::Object(artifacts.collect()));
    let run = serde_json::json!({
        "worker": task.worker,
        "attempt": task.attempt,
        "started_us": task.started,
        "finished_us": task.finished,
    });
    fields.insert("run".into(), run);
    for name in ["warnings", "source"] {
        if let Some(more) = json.get(name) {
            fields.insert(if name == "source" { "read" } else { name }.into(), more.clone());
        }
    }
    serde_json::from_value(serde_json::Value::Object(fields)).map_err(|e| bad(e.to_string()))
}
