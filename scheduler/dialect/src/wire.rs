//! What passes between a server and the process that runs an author's sections: JSON, a line each way.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spool_rules::effect::Effect;
use spool_rules::history::{Section, SectionFailure};
use spool_rules::ruleset::RuleSet;
use spool_rules::value::Value;

use crate::file::{Problem, Sources};

/// A line to the process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Once, first.
    Read(Sources),
    /// As `Read`, and look for what is suspicious.
    Check(Sources),
    Run {
        rule: usize,
        section: Section,
        given: Vec<(Arc<str>, Value)>,
        now_us: u64,
        firing: Arc<str>,
    },
}

/// A line back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    Set(Box<RuleSet>),
    /// With warnings.
    Checked(Box<RuleSet>, Vec<Problem>),
    Problems(Vec<Problem>),
    Effects(Vec<Effect>),
    Broke(SectionFailure),
}
