//! Why a rule does not fire: the first pattern that nothing fits, and what comes nearest.

use std::sync::Arc;

use serde::Serialize;

use crate::fact::{Fact, FactId};
use crate::instance::{Instance, Status};
use crate::ruleset::{How, Operand, Pattern, Rule, Test};
use crate::value::Value;

/// Facts shown of those that nearly fit.
const NEAR: usize = 5;
/// Combinations looked at before giving up.
const LOOKS: usize = 200_000;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WhyNot {
    pub rule: Arc<str>,
    #[serde(flatten)]
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// No fact fits the pattern.
    NoFact {
        /// From 1.
        number: usize,
        pattern: String,
        /// What the patterns before it found, in the combination that went furthest.
        found: Vec<(Arc<str>, FactId)>,
        /// How many facts of the type there are.
        facts: usize,
        near: Vec<NearMiss>,
    },
    /// There is what there should not be.
    Hindered { number: usize, pattern: String, by: FactId },
    /// Not as many as it takes.
    TooFew { number: usize, pattern: String, count: usize, at_least: Value },
    /// It matches and has fired for all it matches.
    Fired { times: usize },
    /// It matches and has not fired, because the job does not go on.
    Waits { why: String },
    /// Too many combinations to say.
    TooMany,
}

/// A fact of the type, and the first test it fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NearMiss {
    pub fact: FactId,
    pub test: String,
    pub found: Option<Value>,
}

struct Furthest {
    at: usize,
    bound: Vec<Option<Arc<Fact>>>,
    verdict: Option<Verdict>,
}

impl Instance {
    /// `None`: there is no such rule.
    pub fn why_not(&self, rule: &str) -> Option<WhyNot> {
        let rule = self.program().set().rules.iter().find(|known| known.name.as_ref() == rule)?;
        let facts: Vec<Arc<Fact>> = self.facts().cloned().collect();
        let mut furthest = Furthest { at: 0, bound: Vec::new(), verdict: None };
        let (mut looks, mut matches) = (0, 0);
        let mut bound = vec![None; rule.patterns.len()];
        search(rule, &facts, 0, &mut bound, &mut furthest, &mut looks, &mut matches);
        let verdict = if looks >= LOOKS {
            Verdict::TooMany
        } else if matches > 0 {
            match self.status() {
                Status::Running | Status::Cancelling { .. } => Verdict::Fired { times: matches },
                Status::Paused(pause) => Verdict::Waits { why: pause.message.clone() },
                Status::Ended(_) => Verdict::Waits { why: "the job has ended".into() },
            }
        } else {
            furthest.verdict.unwrap_or(Verdict::TooMany)
        };
        Some(WhyNot { rule: rule.name.clone(), verdict })
    }
}

fn search(
    rule: &Rule,
    facts: &[Arc<Fact>],
    at: usize,
    bound: &mut Vec<Option<Arc<Fact>>>,
    furthest: &mut Furthest,
    looks: &mut usize,
    matches: &mut usize,
) {
    *looks += 1;
    if *looks >= LOOKS {
        return;
    }
    let Some(pattern) = rule.patterns.get(at) else {
        *matches += 1;
        return;
    };
    let fits = |fact: &&Arc<Fact>, bound: &[Option<Arc<Fact>>]| failing(rule, pattern, fact, bound).is_none();
    let of_kind = || facts.iter().filter(|fact| fact.kind == pattern.kind);
    let is_further = furthest.verdict.is_none() || at > furthest.at;
    let verdict = match pattern.how {
        How::Fact => {
            let mut any = false;
            for fact in of_kind() {
                if fits(&fact, bound) {
                    any = true;
                    bound[at] = Some(fact.clone());
                    search(rule, facts, at + 1, bound, furthest, looks, matches);
                    bound[at] = None;
                }
            }
            if any {
                return;
            }
            let near = of_kind().filter_map(|fact| {
                let (test, found) = failing(rule, pattern, fact, bound)?;
                Some(NearMiss { fact: fact.id, test, found })
            });
            Verdict::NoFact {
                number: at + 1,
                pattern: pattern.to_string(),
                found: found(rule, bound),
                facts: of_kind().count(),
                near: near.take(NEAR).collect(),
            }
        }
        How::None => match of_kind().find(|fact| fits(fact, bound)) {
            None => return search(rule, facts, at + 1, bound, furthest, looks, matches),
            Some(fact) => Verdict::Hindered { number: at + 1, pattern: pattern.to_string(), by: fact.id },
        },
        How::Collect => {
            let count = of_kind().filter(|fact| fits(fact, bound)).count();
            let at_least = pattern.at_least.as_ref().map_or(Some(Value::Int(1)), |o| operand(rule, o, bound));
            let at_least = at_least.unwrap_or(Value::Null);
            let number = Value::Int(i64::try_from(count).unwrap_or(i64::MAX));
            if number.compare(&at_least).is_some_and(|is| is != std::cmp::Ordering::Less) {
                return search(rule, facts, at + 1, bound, furthest, looks, matches);
            }
            Verdict::TooFew { number: at + 1, pattern: pattern.to_string(), count, at_least }
        }
    };
    if is_further {
        (furthest.at, furthest.bound, furthest.verdict) = (at, bound.clone(), Some(verdict));
    }
}

fn found(rule: &Rule, bound: &[Option<Arc<Fact>>]) -> Vec<(Arc<str>, FactId)> {
    let named = rule.patterns.iter().zip(bound);
    named
        .filter_map(|(pattern, fact)| {
            let name = pattern.name.clone().unwrap_or_else(|| pattern.kind.clone());
            Some((name, fact.as_ref()?.id))
        })
        .collect()
}

/// The first test of the pattern that the fact does not pass, and what the fact has there.
fn failing(
    rule: &Rule,
    pattern: &Pattern,
    fact: &Fact,
    bound: &[Option<Arc<Fact>>],
) -> Option<(String, Option<Value>)> {
    pattern.tests.iter().find_map(|Test { path, op, operand: against }| {
        let found = fact.at(path);
        let wanted = operand(rule, against, bound);
        let holds = wanted.as_ref().is_some_and(|wanted| op.holds(found.as_ref(), wanted));
        let wanted = wanted.map_or_else(|| "what is not there".into(), |wanted| wanted.to_string());
        (!holds).then(|| (format!("{path} {} {wanted}", op.sign()), found))
    })
}

fn operand(rule: &Rule, operand: &Operand, bound: &[Option<Arc<Fact>>]) -> Option<Value> {
    match operand {
        Operand::Const(value) => Some(value.clone()),
        Operand::Var { of, path } => {
            let at = rule.patterns.iter().position(|p| p.how == How::Fact && p.name.as_ref() == Some(of))?;
            bound[at].as_ref()?.at(path)
        }
    }
}

/// Every combination of facts that the rule matches, whatever has fired: slow, and plainly right. For tests.
pub fn matches_naively(rule: &Rule, facts: &[Arc<Fact>]) -> Vec<Vec<FactId>> {
    fn go(rule: &Rule, facts: &[Arc<Fact>], at: usize, bound: &mut Vec<Option<Arc<Fact>>>, out: &mut Vec<Vec<FactId>>) {
        let Some(pattern) = rule.patterns.get(at) else {
            let ids = rule.patterns.iter().zip(bound.iter()).filter(|(pattern, _)| pattern.how == How::Fact);
            out.push(ids.filter_map(|(_, fact)| fact.as_ref().map(|fact| fact.id)).collect());
            return;
        };
        let fitting: Vec<&Arc<Fact>> = facts
            .iter()
            .filter(|fact| fact.kind == pattern.kind && failing(rule, pattern, fact, bound).is_none())
            .collect();
        match pattern.how {
            How::Fact => {
                for fact in fitting {
                    bound[at] = Some(fact.clone());
                    go(rule, facts, at + 1, bound, out);
                    bound[at] = None;
                }
            }
            How::None if fitting.is_empty() => go(rule, facts, at + 1, bound, out),
            How::None => {}
            How::Collect => {
                let least = pattern.at_least.as_ref().map_or(Some(Value::Int(1)), |o| operand(rule, o, bound));
                let count = Value::Int(i64::try_from(fitting.len()).unwrap_or(i64::MAX));
                let enough = least.and_then(|least| count.compare(&least));
                if enough.is_some_and(|is| is != std::cmp::Ordering::Less) {
                    go(rule, facts, at + 1, bound, out);
                }
            }
        }
    }
    let mut out = Vec::new();
    go(rule, facts, 0, &mut vec![None; rule.patterns.len()], &mut out);
    out.sort();
    out
}
