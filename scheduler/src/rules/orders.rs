//! From what rules call to what workers do: a call becomes a task, a task's answer becomes a value.

use spool_core::io::{Blob, NewTask, Shape};
use spool_core::query::TaskInfo;
use spool_proto::call::{Answer, Args, Call};
use spool_proto::failure::{Class, Failure};
use spool_proto::resources::Resources;
use spool_proto::spec::VideoCodec;
use spool_proto::time::Span;
use spool_rules::effect;
use spool_rules::history::SectionFailure;
use spool_rules::value::Value;

use crate::workflow::limits;

/// Resources and times of a function when a call names none.
struct Usual {
    memory_mib: u64,
    timeout: Span,
    no_progress: Span,
}

/// A job's calls as tasks.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    /// URI prefix (ends in `/`) of the job's artifacts.
    pub(super) artifacts: String,
    /// Cores of the largest worker.
    pub(super) threads: u16,
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
        let mut args = args(call)?;
        if let Args::Plan(plan) = &mut args
            && plan.unsplit_threads == 0
        {
            plan.unsplit_threads = self.threads;
        }
        let usual = usual(&args);
        let mut resources = Resources::cpu_memory(self.cores(&args) * limits::CORE, usual.memory_mib);
        for (name, amount) in &call.resources {
            resources.set(name, *amount);
        }
        let asked = |asked: Span, usual: Span| if asked.0 > 0 { asked } else { usual };
        let shape = Shape {
            function: args.function().into(),
            backend: if call.backend.is_empty() { backend(&args) } else { call.backend.clone() },
            resources,
            timeout: asked(call.timeouts.start_to_close_us, usual.timeout),
            no_progress: asked(call.timeouts.no_progress_us, usual.no_progress),
        };
        let payload = Call {
            inputs: call.inputs.clone(),
            output_prefix: self.artifacts.clone(),
            source_version: call.source_version.clone(),
            args,
        };
        let payload: Blob = serde_json::to_vec(&payload).expect("a call is plain data with string keys").into();
        let label = match (call.label.as_str(), effect.split_once('/')) {
            ("", Some((_, key))) if key.parse::<usize>().is_err() => key.to_owned(),
            (label, _) => label.to_owned(),
        };
        let phase = if call.phase.is_empty() { rule } else { &call.phase };
        let max_attempts = (call.attempts > 0).then_some(call.attempts);
        Ok((phase.to_owned(), NewTask { shape, label, payload, weight: call.weight, max_attempts }))
    }
}

impl Orders {
    /// Threads are the author's to choose; more of them than the largest worker has cores share those cores.
    fn cores(&self, args: &Args) -> u64 {
        match args {
            Args::Encode(encode) | Args::Analyse(encode) => encode.threads.clamp(1, self.threads.max(1)).into(),
            _ => 1,
        }
    }
}

fn args(call: &effect::Call) -> Result<Args, SectionFailure> {
    let name = &call.function;
    let bad = |code: &str, message: String| SectionFailure::new(code, message);
    let mut args = match serde_json::to_value(&call.args) {
        Ok(serde_json::Value::Object(args)) => args,
        Ok(serde_json::Value::Null) => serde_json::Map::new(),
        Ok(other) => return Err(bad("bad_arguments", format!("call({name:?}, args = …) takes a dict, not {other}"))),
        Err(e) => return Err(bad("bad_arguments", format!("call({name:?}, args = …): {e}"))),
    };
    args.insert("function".into(), name.as_str().into());
    serde_json::from_value(serde_json::Value::Object(args)).map_err(|e: serde_json::Error| {
        let why = e.to_string();
        // The text goes on with all that there are.
        if let Some((_, expected)) = why.split_once("expected one of ").filter(|_| why.starts_with("unknown variant")) {
            return bad("unknown_function", format!("there is no function {name:?}; there are {expected}"));
        }
        bad("bad_arguments", format!("call({name:?}, args = …): {why}"))
    })
}

fn usual(args: &Args) -> Usual {
    let usual = |memory_mib, timeout, no_progress| Usual { memory_mib, timeout, no_progress };
    let decoding = limits::TABLES_MEMORY + limits::DECODE_MEMORY;
    match args {
        Args::Encode(_) | Args::Analyse(_) => usual(limits::ENCODE_MEMORY, limits::CODEC_TIMEOUT, limits::NO_PROGRESS),
        Args::Quality(_) => usual(decoding, limits::CODEC_TIMEOUT, limits::NO_PROGRESS),
        Args::Validate(_) | Args::Images(_) => usual(decoding, limits::CODEC_TIMEOUT, Span::ZERO),
        Args::Audio(_) => usual(limits::AUDIO_MEMORY, limits::CODEC_TIMEOUT, limits::NO_PROGRESS),
        Args::Subtitle(_) | Args::Text(_) => usual(limits::SUBTITLE_MEMORY, limits::READ_TIMEOUT, Span::ZERO),
        Args::Publish(_) | Args::PublishPackage(_) => usual(limits::PUBLISH_MEMORY, limits::READ_TIMEOUT, Span::ZERO),
        Args::List(_) => usual(0, limits::READ_TIMEOUT, Span::ZERO),
        Args::Noop { .. } => usual(0, Span::ZERO, Span::ZERO),
        _ => usual(limits::TABLES_MEMORY, limits::READ_TIMEOUT, Span::ZERO),
    }
}

/// What a worker must offer, as far as the arguments say it.
fn backend(args: &Args) -> String {
    let codec = match args {
        Args::Encode(encode) | Args::Analyse(encode) => encode.spec.video.as_ref().map(|video| video.codec),
        _ => None,
    };
    codec.map_or_else(String::new, |codec: VideoCodec| format!("cpu/{}", codec.name()))
}

/// What a rule sees of a task that is done: the fields of its answer's value, and with them `artifacts` by name, `warnings`, `read` (of a
/// source over a network) and `run` (who did it, and when).
pub(super) fn value(task: &TaskInfo<'_>) -> Result<Value, Failure> {
    let bad = |why: String| Failure::new(Class::Internal, "bad_answer", format!("an answer cannot be read: {why}"));
    let answer = task.answer.ok_or_else(|| bad("there is none".into()))?;
    let answer: Answer = serde_json::from_slice(answer).map_err(|e| bad(e.to_string()))?;
    let json = serde_json::to_value(&answer).map_err(|e| bad(e.to_string()))?;
    let mut fields = match json.get("value") {
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
