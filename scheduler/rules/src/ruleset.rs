//! A rule set as data: what a compiled rule file says, without its sections, which are functions that somebody else runs.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::value::Value;

/// Immutable; named by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSet {
    pub service: Arc<str>,
    /// As its author calls it; people read it, nothing trusts it.
    pub version: Arc<str>,
    /// BLAKE3 of the sources, hex: which rule set this is.
    pub hash: Arc<str>,
    /// What its author says of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// Schema of the input, as [`crate::schema`] reads it.
    #[serde(default)]
    pub input: Value,
    pub rules: Vec<Rule>,
    /// May it run a job that never ends? Then a job without anything to do waits instead of failing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standing: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Unique in its set.
    pub name: Arc<str>,
    /// Higher fires first.
    #[serde(default)]
    pub salience: i64,
    #[serde(rename = "match")]
    pub patterns: Vec<Pattern>,
    #[serde(default)]
    pub has_action: bool,
    #[serde(default)]
    pub has_reaction: bool,
    #[serde(default)]
    pub has_error: bool,
    /// Where it stands: `main.star:12:1`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub place: String,
}

/// Which facts a rule looks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    pub how: How,
    /// Type of the facts.
    pub kind: Arc<str>,
    /// What sections and later patterns call it.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<Test>,
    /// Fields that are read though nothing tests them: when one changes, the rule fires anew.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub reads: BTreeSet<Arc<str>>,
    /// Of [`How::Collect`]: it holds once there are that many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<Operand>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// There is one, and the rule fires for each.
    Fact,
    /// There is none.
    None,
    /// All there are, as one list.
    Collect,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    /// A field, or something within it: `source.video.height`.
    pub path: Path,
    pub op: Op,
    pub operand: Operand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Is in the operand, a list.
    In,
    /// The field is there (operand true), or is not.
    Exists,
}

/// What a field is held against.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operand {
    Const(Value),
    /// Of a fact that an earlier pattern found.
    Var {
        of: Arc<str>,
        path: Path,
    },
}

/// A way into a fact: a field, then keys of maps within it. Not empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Path(pub Vec<Arc<str>>);

/// The handle that every fact has beside its fields.
pub const ID: &str = "id";

impl Path {
    pub fn parse(text: &str) -> Path {
        Path(text.split('.').map(Arc::from).collect())
    }

    pub fn field(&self) -> &Arc<str> {
        &self.0[0]
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            let dot = if at == 0 { "" } else { "." };
            write!(f, "{dot}{part}")?;
        }
        Ok(())
    }
}

impl Op {
    /// A field that is not there fails every test but that of being absent.
    pub fn holds(self, found: Option<&Value>, operand: &Value) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        if self == Op::Exists {
            return found.is_some_and(|value| *value != Value::Null) == (*operand == Value::Bool(true));
        }
        let Some(found) = found else { return false };
        let sizes = |wanted: &[std::cmp::Ordering]| found.compare(operand).is_some_and(|is| wanted.contains(&is));
        match self {
            Op::Eq => found == operand,
            Op::Ne => found != operand,
            Op::Lt => sizes(&[Less]),
            Op::Le => sizes(&[Less, Equal]),
            Op::Gt => sizes(&[Greater]),
            Op::Ge => sizes(&[Greater, Equal]),
            Op::In => matches!(operand, Value::List(values) if values.contains(found)),
            Op::Exists => unreachable!("answered above"),
        }
    }

    /// As it is written between a field and what it is held against.
    pub fn sign(self) -> &'static str {
        match self {
            Op::Eq => "=",
            Op::Ne => "≠",
            Op::Lt => "<",
            Op::Le => "≤",
            Op::Gt => ">",
            Op::Ge => "≥",
            Op::In => "in",
            Op::Exists => "exists:",
        }
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Const(value) => write!(f, "{value}"),
            Operand::Var { of, path } => write!(f, "{of}.{path}"),
        }
    }
}

/// As an author would say it: `none("encoded", plan = p.id)`.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.how {
            How::Fact => "fact",
            How::None => "none",
            How::Collect => "collect",
        };
        write!(f, "{how}({:?}", self.kind)?;
        for Test { path, op, operand } in &self.tests {
            write!(f, ", {path} {} {operand}", op.sign())?;
        }
        if let Some(least) = &self.at_least {
            write!(f, ", at_least = {least}")?;
        }
        f.write_str(")")
    }
}

/// Something a rule set says that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: rule {rule:?}: {what}")]
pub struct BadRule {
    pub rule: String,
    pub place: String,
    pub what: String,
}

impl RuleSet {
    /// Names what the engine could not run.
    ///
    /// # Errors
    /// All there are, in order of the rules.
    pub fn check(&self) -> Result<(), Vec<BadRule>> {
        let mut bad = Vec::new();
        let mut names = BTreeSet::new();
        for rule in &self.rules {
            let mut say = |what: String| {
                bad.push(BadRule { rule: rule.name.to_string(), place: rule.place.clone(), what });
            };
            if !names.insert(&rule.name) {
                say("another rule has this name".into());
            }
            if !rule.patterns.iter().any(|pattern| pattern.how == How::Fact) {
                say("it looks for no fact; a rule needs at least one fact(…) in its match".into());
            }
            if !rule.has_action {
                say("it has no action".into());
            }
            rule.check_patterns(&mut say);
        }
        if bad.is_empty() { Ok(()) } else { Err(bad) }
    }
}

impl Rule {
    fn check_patterns(&self, say: &mut impl FnMut(String)) {
        let mut bound: BTreeSet<&str> = BTreeSet::new();
        for pattern in &self.patterns {
            let operands = pattern.tests.iter().map(|test| &test.operand).chain(&pattern.at_least);
            for operand in operands {
                if let Operand::Var { of, path } = operand
                    && !bound.contains(of.as_ref())
                {
                    say(format!("{pattern}: var(\"{of}.{path}\") names no fact(…) of an earlier pattern"));
                }
            }
            if pattern.at_least.is_some() && pattern.how != How::Collect {
                say(format!("{pattern}: only collect(…) counts"));
            }
            match (&pattern.name, pattern.how) {
                (Some(name), How::None) => {
                    say(format!("{pattern}: nothing is found, so nothing can be called {name:?}"))
                }
                (Some(name), _)
                    if self.patterns.iter().filter(|other| other.name.as_ref() == Some(name)).count() > 1 =>
                {
                    say(format!("two patterns are called {name:?}"));
                }
                (Some(name), How::Fact) => drop(bound.insert(name)),
                _ => {}
            }
        }
    }
}
