//! What sections answer: effects, as plain data.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spool_proto::failure::Failure;
use spool_proto::time::Span;

use crate::fact::FactId;
use crate::value::Value;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "lowercase")]
pub enum Effect {
    /// Call a function. Only of an action; its reaction gets the result.
    Call(Box<Call>),
    /// Start a job of another service. Only of an action.
    Start(Box<Start>),
    /// Wait. Only of an action.
    Timer(Timer),
    /// Undo what was done, last first. Only of an action.
    Compensate(Compensate),
    Assert {
        kind: Arc<str>,
        #[serde(default)]
        fields: BTreeMap<Arc<str>, Value>,
    },
    /// A field that is null is taken out.
    Modify {
        fact: Handle,
        fields: BTreeMap<Arc<str>, Value>,
    },
    Retract {
        fact: Handle,
    },
    /// To another job.
    Signal {
        job: String,
        name: String,
        #[serde(default)]
        payload: Value,
        #[serde(default)]
        dedupe: String,
    },
    /// The job is done, with this.
    Result {
        #[serde(default)]
        value: Value,
    },
    /// The job has failed.
    Fail {
        failure: Failure,
    },
    /// Of an error section: what failed is tried again.
    Retry {
        #[serde(default)]
        after_us: Span,
    },
    /// Of an error section: take this for the result of what failed, and go on.
    Skip {
        #[serde(default)]
        value: Value,
    },
}

/// A function call.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Call {
    pub function: String,
    /// Unique in its firing. Empty: its place among the effects.
    pub key: String,
    /// URIs, by position.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    pub args: Value,
    /// What the source was when the job first read it (`result.read.version`): another one is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_version: Option<String>,
    /// Which of a function's ways to do it a worker must offer: `cpu/libx264`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub backend: String,
    /// Milli-cores, and others by name. A function's own, if empty.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, u64>,
    /// Greater goes first, among equals.
    pub weight: u64,
    /// What people call it: `chunk 12`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// Under which phase of the job people see it. Empty: the rule's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Attempts before it has failed for good. 0: as the job has it.
    pub attempts: u8,
    #[serde(skip_serializing_if = "Timeouts::is_empty")]
    pub timeouts: Timeouts,
    /// What undoes it, once it is done: called by compensate().
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo: Option<Box<Call>>,
}

/// Zero: none, or the function's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeouts {
    /// From being ordered to being started by a worker.
    pub schedule_to_start_us: Span,
    /// Of one attempt.
    pub start_to_close_us: Span,
    /// Without a word of progress.
    pub no_progress_us: Span,
    /// All attempts and waits together.
    pub total_us: Span,
}

impl Timeouts {
    fn is_empty(&self) -> bool {
        *self == Timeouts::default()
    }
}

/// A child.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Start {
    pub service: String,
    pub key: String,
    pub input: Value,
    /// What becomes of it when its parent ends first.
    pub close: Close,
    /// Empty: its parent's.
    pub pool: String,
    pub priority: Option<u8>,
    pub name: String,
    /// It runs on what nobody else uses, so long; then as any other. `None`: as its parent.
    #[serde(rename = "opportunistic_us", skip_serializing_if = "Option::is_none")]
    pub opportunistic: Option<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Close {
    /// It ends at once.
    #[default]
    Terminate,
    /// It is asked to end, and may clean up.
    Cancel,
    /// It goes on alone.
    Abandon,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Timer {
    pub key: String,
    pub after_us: Span,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Compensate {
    pub key: String,
}

/// A fact, as sections name it: its handle, or itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "String")]
pub struct Handle(pub FactId);

impl TryFrom<Value> for Handle {
    type Error = String;

    fn try_from(value: Value) -> Result<Handle, String> {
        let text = match &value {
            Value::Map(_) => value.get(crate::ruleset::ID).and_then(Value::as_text),
            other => other.as_text(),
        };
        let id = text.and_then(FactId::parse);
        id.map(Handle).ok_or_else(|| format!("{value} is no fact: give what the match has found, or its id"))
    }
}

impl From<Handle> for String {
    fn from(handle: Handle) -> String {
        handle.0.to_string()
    }
}

impl Effect {
    /// As authors write it.
    pub fn name(&self) -> &'static str {
        match self {
            Effect::Call(_) => "call",
            Effect::Start(_) => "start",
            Effect::Timer(_) => "timer",
            Effect::Compensate(_) => "compensate",
            Effect::Assert { .. } => "assert_",
            Effect::Modify { .. } => "modify",
            Effect::Retract { .. } => "retract",
            Effect::Signal { .. } => "signal",
            Effect::Result { .. } => "result",
            Effect::Fail { .. } => "fail",
            Effect::Retry { .. } => "retry",
            Effect::Skip { .. } => "skip",
        }
    }
}
