//! What is suspicious about a rule set that can be read: names that nothing defines, rules that can never match, rules that set
//! themselves off, calls that their functions do not take.

use std::collections::{BTreeMap, BTreeSet};

use starlark::analysis::AstModuleLint;
use starlark::syntax::AstModule;

use spool_rules::ruleset::{How, Op, Operand, Pattern, RuleSet, Test};

use crate::calls;
use crate::compile::{Compiled, at_place, dialect, globals};
use crate::file::{Problem, Severity, Sources};

/// Facts that come to be without any rule.
const GIVEN: [&str; 3] = ["input", "signal", "cancel"];

/// Reads the sources and says all there is to say of them. Of a rule set that can be read, errors are calls that their functions would never
/// take: it can be played and compared, and is not to be pushed.
///
/// # Errors
/// When they cannot be read as a rule set.
pub fn check(sources: &Sources) -> Result<(Compiled, Vec<Problem>), Vec<Problem>> {
    let compiled = Compiled::new(sources)?;
    let mut problems = lint(sources);
    problems.extend(never_match(&compiled.set, sources));
    problems.extend(contradictions(&compiled.set));
    problems.extend(self_triggers(&compiled.set, sources));
    problems.extend(calls::check(sources));
    problems.sort();
    problems.dedup();
    Ok((compiled, problems))
}

fn warning(place: &str, code: &str, message: String) -> Problem {
    Problem { severity: Severity::Warning, ..at_place(place, code, message) }
}

/// What the language's own linter says.
fn lint(sources: &Sources) -> Vec<Problem> {
    let names = globals().names().map(|name| name.as_str().to_owned()).collect();
    let mut problems = Vec::new();
    for (file, text) in &sources.0 {
        let Ok(ast) = AstModule::parse(file, text.clone(), &dialect()) else { continue };
        for lint in ast.lint(Some(&names)) {
            let at = lint.location.resolve_span().begin;
            problems.push(Problem {
                file: file.clone(),
                line: at.line + 1,
                column: at.column + 1,
                severity: Severity::Warning,
                code: lint.short_name.replace('-', "_"),
                message: lint.problem,
            });
        }
    }
    problems
}

/// Types of facts that some rule asserts, as far as the text says: `assert_("encoded", …)`.
fn asserted(sources: &Sources) -> BTreeSet<String> {
    let mut kinds: BTreeSet<String> = GIVEN.iter().map(|kind| (*kind).to_owned()).collect();
    for text in sources.0.values() {
        for after in text.split("assert_(").skip(1) {
            let after = after.trim_start();
            let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''));
            match quote.and_then(|quote| after[1..].split_once(quote)) {
                Some((kind, _)) => drop(kinds.insert(kind.to_owned())),
                // A name made at run time: anything may be asserted.
                None => drop(kinds.insert("*".into())),
            }
        }
    }
    kinds
}

fn never_match(set: &RuleSet, sources: &Sources) -> Vec<Problem> {
    let kinds = asserted(sources);
    if kinds.contains("*") {
        return Vec::new();
    }
    let mut problems = Vec::new();
    for rule in &set.rules {
        for pattern in rule.patterns.iter().filter(|pattern| pattern.how != How::None) {
            if !kinds.contains(pattern.kind.as_ref()) {
                let known: Vec<_> = kinds.iter().map(String::as_str).collect();
                let message = format!(
                    "rule {:?} never matches: no rule asserts a fact {:?} ({} are known)",
                    rule.name,
                    pattern.kind,
                    known.join(", ")
                );
                problems.push(warning(&rule.place, "never_matches", message));
            }
        }
    }
    problems
}

/// Tests of one pattern that no value passes together.
fn contradictions(set: &RuleSet) -> Vec<Problem> {
    let mut problems = Vec::new();
    for rule in &set.rules {
        for pattern in &rule.patterns {
            let mut equal: BTreeMap<_, &Operand> = BTreeMap::new();
            for Test { path, op, operand } in &pattern.tests {
                let Operand::Const(value) = operand else { continue };
                let clash = match (op, equal.get(path)) {
                    (Op::Eq, Some(other)) => *other != operand,
                    (_, Some(Operand::Const(known))) => !op.holds(Some(known), value),
                    _ => false,
                };
                if clash {
                    let message =
                        format!("rule {:?} never matches: {pattern} asks for two different {path}", rule.name);
                    problems.push(warning(&rule.place, "never_matches", message));
                }
                if *op == Op::Eq {
                    equal.insert(path, operand);
                }
            }
        }
    }
    problems
}

/// A rule whose own file has it assert a fact of the type it looks for, with nothing that would stop it.
fn self_triggers(set: &RuleSet, sources: &Sources) -> Vec<Problem> {
    let mut problems = Vec::new();
    let starts: BTreeMap<(&str, usize), usize> =
        set.rules.iter().enumerate().map(|(ix, rule)| (place(&rule.place), ix)).collect();
    for ((file, line), ix) in &starts {
        let rule = &set.rules[*ix];
        let Some(text) = sources.0.get(*file) else { continue };
        let end = starts.keys().filter(|(other, at)| other == file && at > line).map(|(_, at)| *at).min();
        let own: String =
            text.lines().skip(line - 1).take(end.map_or(usize::MAX, |end| end - line)).collect::<Vec<_>>().join("\n");
        let loops = |pattern: &&Pattern| {
            pattern.how == How::Fact
                && own.contains(&format!("assert_(\"{}\"", pattern.kind))
                && !own.contains("retract(")
                && rule.patterns.iter().all(|other| other.how != How::None)
                && pattern.tests.iter().all(|test| !matches!(test.operand, Operand::Const(_)))
        };
        if let Some(pattern) = rule.patterns.iter().find(loops) {
            let message = format!(
                "rule {:?} looks for {:?} and asserts it: it may set itself off for ever; a none(…) or a test that the new fact fails ends that",
                rule.name, pattern.kind
            );
            problems.push(warning(&rule.place, "triggers_itself", message));
        }
    }
    problems
}

fn place(place: &str) -> (&str, usize) {
    let mut parts = place.rsplitn(3, ':');
    parts.next();
    let line = parts.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    (parts.next().unwrap_or_default(), line)
}
