//! Sections in a process of their own: the same answers, and an end to those that give none.

use std::sync::Arc;
use std::time::Duration;

use spool_dialect::{Hosted, Keeper, Sources};
use spool_proto::time::Timestamp;
use spool_rules::history::Event;
use spool_rules::instance::{End, Instance, Program, Status};
use spool_rules::limits::Limits;

use crate::harness::json;

fn keeper() -> Keeper {
    let tests = std::env::current_exe().expect("a test has a file");
    let program = tests.ancestors().nth(2).expect("target/debug/deps").join("examples/sections");
    assert!(program.exists(), "{} is built with the tests", program.display());
    Keeper::new(program, Vec::new())
}

fn status(text: &str, keeper: Keeper) -> Status {
    let mut hosted = Hosted::new(keeper, Sources::of(text));
    let set = hosted.read().unwrap_or_else(|problems| panic!("{problems:?}"));
    let mut instance = Instance::new(Arc::new(Program::new(set).expect("good")), Limits::default());
    instance.step(Timestamp(1), Event::Started { input: json(r#"{"n": 20}"#) }, &mut hosted);
    // Whatever became of the process: the next section finds one.
    instance.step(Timestamp(2), Event::Resume, &mut hosted);
    instance.status().clone()
}

fn with(action: &str) -> String {
    format!(
        "service(name = \"t\", version = \"1\")\ndef act(i):\n{action}\n\
         rule(name = \"a\", match = [fact(\"input\", as_ = \"i\")], action = act)\n"
    )
}

#[test]
fn sections_answer_from_their_own_process() {
    let done = status(&with("    return [result({\"n\": i.n + 1, \"at\": now()})]"), keeper());
    assert_eq!(done, Status::Ended(End::Done(json(r#"{"n": 21, "at": 0.000001}"#))));
    let Status::Paused(pause) = status(&with("    return 1 // 0"), keeper()) else { panic!("it raises") };
    assert_eq!(pause.code, "section_raised");
}

#[test]
fn a_section_that_does_not_end_is_ended() {
    let text = with("    for a in range(1000000):\n        for b in range(1000000):\n            pass\n    return []");
    let impatient = Keeper { run_within: Duration::from_millis(300), ..keeper() };
    let Status::Paused(pause) = status(&text, impatient) else { panic!("it does not end") };
    assert_eq!(pause.code, "section_too_slow");
}

#[test]
fn files_that_cannot_be_read_are_told_with_their_place() {
    let mut hosted = Hosted::new(keeper(), Sources::of("rule("));
    let problems = hosted.read().expect_err("it is no rule file");
    assert_eq!((problems[0].code.as_str(), problems[0].line), ("syntax", 1), "{problems:?}");
    let gone = Keeper { program: "/nowhere/at/all".into(), ..keeper() };
    let problems = Hosted::new(gone, Sources::of("")).read().expect_err("there is no such program");
    assert!(problems[0].message.contains("cannot be started"), "{problems:?}");
}
