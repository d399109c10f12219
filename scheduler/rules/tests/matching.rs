//! The incremental matcher against the naive one: after every change, what waits is what matches.

use std::sync::Arc;

use proptest::prelude::*;
use spool_rules::explain::matches_naively;
use spool_rules::fact::{Fact, FactId};
use spool_rules::instance::Program;
use spool_rules::matcher::Matcher;
use spool_rules::ruleset::{How, Op, Operand, Path, Pattern, Rule, RuleSet, Test};
use spool_rules::value::Value;

const KINDS: [&str; 3] = ["a", "b", "c"];
const FIELDS: [&str; 3] = ["x", "y", "z"];

#[derive(Debug, Clone)]
enum Change {
    Assert { kind: usize, fields: Vec<Option<i64>> },
    Modify { which: usize, field: usize, value: i64 },
    Retract { which: usize },
}

fn change() -> impl Strategy<Value = Change> {
    let fields = prop::collection::vec(prop::option::weighted(0.8, 0..4i64), FIELDS.len());
    prop_oneof![
        5 => (0..KINDS.len(), fields).prop_map(|(kind, fields)| Change::Assert { kind, fields }),
        3 => (any::<prop::sample::Index>(), 0..FIELDS.len(), 0..4i64)
            .prop_map(|(which, field, value)| Change::Modify { which: which.index(1 << 20), field, value }),
        2 => any::<prop::sample::Index>().prop_map(|which| Change::Retract { which: which.index(1 << 20) }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![6 => Just(Op::Eq), 1 => Just(Op::Ne), 1 => Just(Op::Lt), 1 => Just(Op::Ge)]
}

/// A test of pattern number `at`: against a constant, or against a fact of one of the patterns before it.
fn test(at: usize) -> impl Strategy<Value = Test> {
    let field = || prop::sample::select(FIELDS.to_vec());
    let earlier = 0..at.max(1);
    (field(), op(), 0..4i64, field(), earlier, any::<bool>()).prop_map(
        move |(mine, op, constant, theirs, of, is_const)| {
            let operand = if is_const || at == 0 {
                Operand::Const(Value::Int(constant))
            } else {
                Operand::Var { of: format!("p{of}").into(), path: Path::parse(theirs) }
            };
            Test { path: Path::parse(mine), op, operand }
        },
    )
}

/// One to three facts, then perhaps a condition.
fn rule() -> impl Strategy<Value = Vec<Pattern>> {
    (1..4usize, prop::option::of((any::<bool>(), 0..3i64))).prop_flat_map(|(facts, condition)| {
        let kind = || prop::sample::select(KINDS.to_vec());
        let one = move |at: usize| (kind(), prop::collection::vec(test(at), 0..3));
        let all: Vec<_> = (0..facts + usize::from(condition.is_some())).map(one).collect();
        all.prop_map(move |all| {
            let of = |(at, (kind, mut tests)): (usize, (&str, Vec<Test>))| {
                let how = match condition {
                    Some((true, _)) if at == facts => How::None,
                    Some((false, _)) if at == facts => How::Collect,
                    _ => How::Fact,
                };
                let at_least =
                    (how == How::Collect).then(|| Operand::Const(Value::Int(condition.expect("it is one").1)));
                if how != How::Fact {
                    // Conditions may name any fact of the rule.
                    tests.truncate(2);
                }
                let name = (how != How::None).then(|| format!("p{at}").into());
                Pattern { how, kind: kind.into(), name, tests, reads: Default::default(), at_least }
            };
            all.into_iter().enumerate().map(of).collect()
        })
    })
}

fn program(rules: Vec<Vec<Pattern>>) -> Arc<Program> {
    let rules = rules.into_iter().enumerate().map(|(at, patterns)| Rule {
        name: format!("r{at}").into(),
        salience: i64::try_from(at % 2).expect("small"),
        patterns,
        has_action: true,
        has_reaction: false,
        has_error: false,
        place: String::new(),
    });
    let set = RuleSet {
        service: "t".into(),
        version: "1".into(),
        hash: "t".into(),
        doc: String::new(),
        input: Value::Null,
        rules: rules.collect(),
        standing: true,
    };
    Arc::new(Program::new(set).expect("the generator makes good rules"))
}

fn apply(matcher: &mut Matcher, change: &Change) {
    let nth = |matcher: &Matcher, which: usize| {
        let ids: Vec<FactId> = matcher.facts().map(|fact| fact.id).collect();
        (!ids.is_empty()).then(|| ids[which % ids.len()])
    };
    match change {
        Change::Assert { kind, fields } => {
            let fields = FIELDS.into_iter().zip(fields).filter_map(|(name, value)| Some((name, Value::Int((*value)?))));
            matcher.assert(KINDS[*kind], fields);
        }
        Change::Modify { which, field, value } => {
            if let Some(id) = nth(matcher, *which) {
                matcher.modify(id, FIELDS[*field], Value::Int(*value));
            }
        }
        Change::Retract { which } => {
            if let Some(id) = nth(matcher, *which) {
                matcher.retract(id);
            }
        }
    }
}

fn naive(program: &Program, matcher: &Matcher) -> Vec<(Arc<str>, Vec<FactId>)> {
    let facts: Vec<Arc<Fact>> = matcher.facts().cloned().collect();
    let rules = program.set().rules.iter();
    let mut all: Vec<_> =
        rules.flat_map(|rule| matches_naively(rule, &facts).into_iter().map(|ids| (rule.name.clone(), ids))).collect();
    all.sort();
    all
}

/// `SPOOL_PROP_CASES` asks for more.
fn config() -> ProptestConfig {
    let cases = std::env::var("SPOOL_PROP_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1_000);
    let seeds = proptest::test_runner::FileFailurePersistence::WithSource("regressions");
    ProptestConfig { cases, failure_persistence: Some(Box::new(seeds)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_waits_is_what_a_naive_matcher_finds(
        rules in prop::collection::vec(rule(), 1..4),
        changes in prop::collection::vec(change(), 1..40),
    ) {
        let program = program(rules);
        let mut matcher = Matcher::new(program.clone());
        for change in &changes {
            apply(&mut matcher, change);
            let mut waits = matcher.agenda();
            waits.sort();
            prop_assert_eq!(waits, naive(&program, &matcher), "after {:?}", change);
        }
    }

    /// With everything fired after each change: an activation fires again only when something it reads has changed.
    #[test]
    fn nothing_fires_twice_for_what_has_not_changed(
        patterns in rule(),
        changes in prop::collection::vec(change(), 1..40),
    ) {
        let program = program(vec![patterns.clone()]);
        let collects = patterns.iter().any(|pattern| pattern.how == How::Collect);
        let mut matcher = Matcher::new(program.clone());
        let mut seen = std::collections::HashSet::new();
        for change in &changes {
            apply(&mut matcher, change);
            while let Some((_, ids)) = matcher.fire() {
                let read = |id: &FactId, pattern: &Pattern| {
                    let fact = matcher.facts().find(|fact| fact.id == *id).expect("what fires is there").clone();
                    let fields = pattern.tests.iter().map(|test| test.path.field());
                    fields.map(|field| fact.version(field)).collect::<Vec<_>>()
                };
                let positive = patterns.iter().filter(|pattern| pattern.how == How::Fact);
                let activation: Vec<_> = ids.iter().zip(positive).map(|(id, p)| (*id, read(id, p))).collect();
                prop_assert!(seen.insert(activation) || collects, "{ids:?} fired again after {change:?}");
            }
        }
    }

    /// Salience first, then what was set off first, then the rule's name.
    #[test]
    fn the_order_of_firing_is_total(
        rules in prop::collection::vec(rule(), 2..4),
        changes in prop::collection::vec(change(), 1..30),
    ) {
        let program = program(rules);
        let run = || {
            let mut matcher = Matcher::new(program.clone());
            changes.iter().for_each(|change| apply(&mut matcher, change));
            std::iter::from_fn(move || matcher.fire()).collect::<Vec<_>>()
        };
        let fired = run();
        prop_assert_eq!(&fired, &run());
        let salience = |name: &Arc<str>| {
            program.set().rules.iter().find(|rule| rule.name == *name).expect("it fired").salience
        };
        prop_assert!(fired.windows(2).all(|two| salience(&two[0].0) >= salience(&two[1].0)));
    }
}

/// A catalogue of a hundred thousand, and one fact more: what is looked at does not depend on the catalogue.
#[test]
fn a_change_costs_what_it_touches() {
    let pattern = |kind: &str, name: Option<&str>, tests: Vec<Test>, how| Pattern {
        how,
        kind: kind.into(),
        name: name.map(Into::into),
        tests,
        reads: Default::default(),
        at_least: None,
    };
    let var = |of: &str, path: &str| Operand::Var { of: of.into(), path: Path::parse(path) };
    let eq = |path: &str, operand| Test { path: Path::parse(path), op: Op::Eq, operand };
    let patterns = vec![
        pattern("recipe", Some("r"), vec![eq("state", Operand::Const("best".into()))], How::Fact),
        pattern("title", Some("t"), vec![eq("codec", var("r", "codec"))], How::Fact),
        pattern("encoded", None, vec![eq("title", var("t", "id")), eq("recipe", var("r", "id"))], How::None),
    ];
    let looks = |titles: i64| {
        let mut matcher = Matcher::new(program(vec![patterns.clone()]));
        matcher.assert("recipe", [("state", "best".into()), ("codec", "av1".into())]);
        for _ in 0..titles {
            matcher.assert("title", [("codec", "hevc".into())]);
        }
        let before = matcher.looks;
        let title = matcher.assert("title", [("codec", "av1".into())]);
        assert_eq!(matcher.agenda().len(), 1);
        matcher.assert("encoded", [("title", Value::text(title.to_string())), ("recipe", Value::text("f1"))]);
        assert!(matcher.agenda().is_empty());
        matcher.looks - before
    };
    assert_eq!(looks(10), looks(100_000));
}
