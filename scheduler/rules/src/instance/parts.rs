//! What an instance is asked with, and what it consists of.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spool_proto::failure::Failure;
use spool_proto::time::Timestamp;

use crate::effect::{Call, Close, Effect, Start};
use crate::history::{Section, SectionFailure};
use crate::network::Network;
use crate::ruleset::RuleSet;
use crate::value::Value;

/// A rule set, ready to match.
#[derive(Debug)]
pub struct Program {
    pub(crate) set: RuleSet,
    pub(crate) net: Network,
}

impl Program {
    /// # Errors
    /// What the engine could not run.
    pub fn new(set: RuleSet) -> Result<Program, Vec<crate::ruleset::BadRule>> {
        set.check()?;
        let net = Network::new(&set);
        Ok(Program { set, net })
    }

    pub fn set(&self) -> &RuleSet {
        &self.set
    }
}

/// Runs sections: pure functions from what a rule found to effects.
pub trait Sections {
    /// # Errors
    /// When the section did not answer.
    fn run(&mut self, ask: &Ask<'_>) -> Result<Vec<Effect>, SectionFailure>;
}

/// One section to run.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub rules: &'a RuleSet,
    /// Index of the rule.
    pub rule: usize,
    pub section: Section,
    /// What the match found, by name.
    pub bindings: &'a [(Arc<str>, Value)],
    /// A reaction's `results`, an error section's `err`.
    pub outcome: Option<&'a Value>,
    /// The event's time: all that a section may know of the clock.
    pub now: Timestamp,
    /// Names the activation: where random numbers come from.
    pub firing: &'a str,
}

/// What the world outside must do, once the step is durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Tasks are numbered in the order they are asked for.
    Call {
        task: u32,
        effect: String,
        rule: Arc<str>,
        call: Box<Call>,
    },
    CancelTask {
        task: u32,
    },
    Start {
        effect: String,
        start: Box<Start>,
    },
    /// A child that is not to outlive its parent, or that nobody waits for any more.
    Close {
        effect: String,
        close: Close,
    },
    Signal {
        job: String,
        name: String,
        payload: Value,
        dedupe: String,
    },
}

/// How a job ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    Done(Value),
    Failed(Failure),
    Cancelled(String),
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[default]
    Running,
    /// Rules clean up until then.
    Cancelling {
        reason: String,
        until: Timestamp,
    },
    /// It has passed a limit, or its rules broke: nothing fires until somebody has looked.
    Paused(Pause),
    Ended(End),
}

/// Why a job does not go on, and what was going on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub at: Timestamp,
    /// `too_many_firings`, `section_raised`, …
    pub code: String,
    pub message: String,
    /// Of a section that broke: rule, section, and exactly what it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
}

/// An activation that has fired and waits for its effects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Firing {
    pub rule: Arc<str>,
    /// What the match found, as it was then.
    pub bindings: Vec<(Arc<str>, Value)>,
    pub awaited: Vec<Awaited>,
    /// How many of them are not done.
    pub left: u32,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Awaited {
    pub key: String,
    pub what: What,
    pub state: AwaitedState,
    /// Times an error section had it tried again.
    #[serde(default)]
    pub retries: u32,
}

impl Awaited {
    /// What its try is called outside.
    pub(super) fn effect(&self, firing: &str) -> String {
        match self.retries {
            0 => format!("{firing}/{}", self.key),
            n => format!("{firing}/{}#{n}", self.key),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Call(Arc<Call>),
    Start(Arc<Start>),
    Timer,
    /// Calls that undo others, in the order they are made; how many are done.
    Undo {
        calls: Vec<Arc<Call>>,
        done: usize,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AwaitedState {
    /// A call with its number; a child and a timer without.
    Pending {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<u32>,
    },
    /// Until it is tried again.
    Resting,
    Done(Value),
    /// For good, while the job was paused: what that means is asked when it goes on.
    Failed(Failure),
    /// Nobody waits for it any more.
    Dropped,
}

/// What an alarm is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alarm {
    /// A timer is over, or a rest before another try.
    Due { firing: Arc<str>, at: usize },
    /// A call should have been started by now.
    Start { firing: Arc<str>, at: usize, task: u32 },
    /// A call should be done by now, with all its tries.
    Total { firing: Arc<str>, at: usize },
    /// Of cleaning up.
    Cleanup,
}
