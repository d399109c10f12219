//! Rules without a server: scripts played, histories held against other rules.

use std::sync::Arc;

use spool_rules::instance::Instance;
use spool_rules::instance::Program;
use spool_rules::limits::Limits;
use spool_rules::rehearsal::{Script, Told, rehearse};
use spool_rules::replay::{Departure, compare, compare_from};

use crate::harness::compile;
use crate::semantics::ENCODE;

fn play(script: &str) -> Told {
    let compiled = compile(ENCODE);
    let program = Arc::new(Program::new(compiled.set.clone()).expect("good"));
    let script: Script = serde_json::from_str(script).expect("a script");
    rehearse(&program, &mut &*compiled, &script, Limits::default())
}

const FUNCTIONS: &str = r#"{"probe": {"answer": {"chunks": [0, 1]}, "takes": 3},
    "encode": [{"fail": {"class": "transient"}}, {"answer": "c", "takes": 5}], "assemble": {"answer": "film"}}"#;

#[test]
fn a_script_is_played_in_virtual_time() {
    let told = play(&format!(
        r#"{{"name": "a", "input": {{"source": "a.mp4"}}, "functions": {FUNCTIONS},
            "expect": {{"done": {{"film": "film"}}, "calls": {{"encode": 3}}, "facts": {{"encoded": 1}}, "within": 10}}}}"#
    ));
    assert_eq!(told.wrong, Vec::<String>::new(), "{:#?}", told.trace);
    assert!(told.trace.iter().any(|line| line.contains("encode error → retry")), "{:#?}", told.trace);
}

#[test]
fn what_is_not_as_expected_is_named() {
    let told = play(&format!(
        r#"{{"name": "a", "input": {{"source": "a.mp4"}}, "functions": {FUNCTIONS},
            "expect": {{"failed": "broken", "calls": {{"encode": 2}}, "facts": {{"encoded": 7}}, "within": 9}}}}"#
    ));
    assert_eq!(told.wrong.len(), 4, "{:?}", told.wrong);
    let told = play(r#"{"name": "a", "input": {}, "functions": {}}"#);
    assert_eq!(told.wrong, ["input: source: it is missing"]);
    let told = play(r#"{"name": "a", "input": {"source": "a"}}"#);
    assert!(told.wrong[0].contains("probe is called"), "{:?}", told.wrong);
}

#[test]
fn a_history_tells_two_rule_sets_apart() {
    let script = format!(r#"{{"name": "a", "input": {{"source": "a.mp4"}}, "functions": {FUNCTIONS}}}"#);
    let history = play(&script).history;
    let old = Arc::new(Program::new(compile(ENCODE).set.clone()).expect("good"));
    let against = |text: &str| {
        let compiled = compile(text);
        let new = Arc::new(Program::new(compiled.set.clone()).expect("good"));
        let differences = compare(&history, &old, &new, &mut &*compiled, Limits::default());
        differences.expect("it is a history of the old rules").into_iter().map(|d| d.what).collect::<Vec<_>>()
    };
    assert_eq!(against(ENCODE), []);
    let more = format!(
        "{ENCODE}\nrule(name = \"log\", match = [fact(\"encoded\")], action = lambda: [assert_(\"logged\")])\n"
    );
    assert_eq!(against(&more), [Departure::Gained { rule: "log".into(), section: "action" }]);
    let other = ENCODE.replace("result({\"film\": results[0]})", "result({\"film\": 1})");
    let said = against(&other);
    assert!(matches!(&said[..], [Departure::Otherwise { .. }, Departure::End { .. }]), "{said:?}");
    let fewer = ENCODE.replace("for c in p.chunks]", "for c in p.chunks[:1]]");
    assert!(against(&fewer).iter().any(|d| matches!(d, Departure::Unasked { .. })), "{:?}", against(&fewer));
}

#[test]
fn a_trimmed_history_is_taken_over_where_it_begins() {
    let script = format!(r#"{{"name": "a", "input": {{"source": "a.mp4"}}, "functions": {FUNCTIONS}}}"#);
    let history = play(&script).history;
    let old = Arc::new(Program::new(compile(ENCODE).set.clone()).expect("good"));
    // Two calls are under way when it is trimmed.
    let (before, after) = history.split_at(2);
    let mut job = Instance::new(old.clone(), Limits::default());
    before.iter().for_each(|entry| drop(job.replay(entry).expect("its own")));
    assert_eq!(job.waits_for().count(), 2);
    let against = |text: &str| {
        let compiled = compile(text);
        let new = Arc::new(Program::new(compiled.set.clone()).expect("good"));
        let differences = compare_from(job.keep(), after, &old, &new, &mut &*compiled, Limits::default());
        differences.expect("it is a history of the old rules")
    };
    assert_eq!(against(ENCODE), []);
    let more =
        format!("{ENCODE}\nrule(name = \"log\", match = [fact(\"input\")], action = lambda: [assert_(\"logged\")])\n");
    let said = against(&more);
    let gained = Departure::Gained { rule: "log".into(), section: "action" };
    assert_eq!((said.len(), said[0].event, &said[0].what), (1, 0, &gained), "{said:?}");
    let other = against(&ENCODE.replace("result({\"film\": results[0]})", "result({\"film\": 1})"));
    assert!(matches!(&other[..], [one, _] if matches!(one.what, Departure::Otherwise { .. })), "{other:?}");
}
