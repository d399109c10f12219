//! What is wrong is said with its place.

use std::collections::BTreeMap;

use spool_dialect::{Compiled, Problem, Sources};

fn problems(text: &str) -> Vec<String> {
    match Compiled::new(&Sources::of(text)) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(Problem::to_string).collect(),
    }
}

#[test]
fn mistakes_are_named_with_line_and_column() {
    let head = "service(name = \"t\", version = \"1\")\n";
    let cases = [
        ("rule(", "main.star:3:1: error: Parse error"),
        ("x = no_such_word", "main.star:2:5: error: Variable `no_such_word` not found"),
        ("rule(name = \"a\", match = [fact(\"x\")], action = lambda q: [])", "action wants \"q\""),
        ("rule(name = \"a\", match = [none(\"x\")], action = lambda: [])", "at least one fact"),
        ("rule(name = \"a\", match = [fact(\"x\", y = var(\"p.id\"))], action = lambda: [])", "names no fact"),
        ("rule(name = \"a\", match = [fact(\"x\")], action = 7)", "action is not a function"),
        ("rule(name = \"a\", match = [fact(\"x\")], action = lambda: [], speed = 3)", "speed"),
        ("service(name = \"u\", version = \"1\")", "said twice"),
        ("call(\"f\", after = 3)", "after"),
        ("now()", "in a section"),
        ("load(\"other.star\", \"x\")", "no file \"other.star\""),
        ("def f():\n    f()\nf()", "call stack overflow"),
    ];
    for (text, expected) in cases {
        let said = problems(&format!("{head}{text}\n"));
        assert!(said.iter().any(|problem| problem.contains(expected)), "{text}\n{said:?}");
        assert!(said.iter().all(|problem| !problem.contains("spool_")), "nothing of the inside shows: {said:?}");
    }
    assert!(problems("rule(name = \"a\", match = [fact(\"x\")], action = lambda: [])")[0].contains("service("));
}

#[test]
fn files_load_each_other_and_their_rules_count() {
    let files = [
        (
            "main.star",
            "load(\"lib.star\", \"kind\")\nservice(name = \"t\", version = \"1\")\nrule(name = \"a\", match = [fact(kind)], action = lambda: [])\n",
        ),
        ("lib.star", "kind = \"film\"\nrule(name = \"b\", match = [fact(kind)], action = lambda: [])\n"),
    ];
    let sources =
        Sources(files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect::<BTreeMap<_, _>>());
    let compiled = Compiled::new(&sources).expect("good");
    let names: Vec<_> = compiled.set.rules.iter().map(|rule| rule.name.to_string()).collect();
    assert_eq!(names, ["b", "a"]);
    let mut circle = sources.clone();
    circle.0.insert("lib.star".into(), "load(\"main.star\", \"x\")".into());
    let said = Compiled::new(&circle).expect_err("a circle");
    assert!(said[0].message.contains("circle"), "{}", said[0]);
}

#[test]
fn the_hash_names_the_content() {
    let one = Sources::of("service(name = \"t\", version = \"1\")\n");
    let mut other = one.clone();
    assert_eq!(one.hash(), other.hash());
    other.0.insert("lib.star".into(), String::new());
    assert_ne!(one.hash(), other.hash());
}

#[test]
fn what_is_suspicious_is_warned_of() {
    let head = "service(name = \"t\", version = \"1\")\n";
    let warnings = |text: &str| -> Vec<String> {
        let (_, problems) = spool_dialect::check(&Sources::of(format!("{head}{text}\n"))).expect("it can be read");
        problems.iter().map(Problem::to_string).collect()
    };
    let cases = [
        (
            "rule(name = \"a\", match = [fact(\"flim\")], action = lambda: [])",
            "never matches: no rule asserts a fact \"flim\"",
        ),
        (
            "rule(name = \"a\", match = [fact(\"input\", n = 1, where = {\"n\": gt(3)})], action = lambda: [])",
            "asks for two different n",
        ),
        (
            "rule(name = \"a\", match = [fact(\"input\")], action = lambda: [assert_(\"x\")])\n\
             rule(name = \"b\", match = [fact(\"x\")], action = lambda: [assert_(\"x\")])",
            "main.star:3:1: warning: rule \"b\" looks for \"x\" and asserts it",
        ),
    ];
    for (text, expected) in cases {
        let said = warnings(text);
        assert!(said.iter().any(|warning| warning.contains(expected)), "{text}\n{said:?}");
    }
    let good = "rule(name = \"a\", match = [fact(\"input\"), none(\"x\")], action = lambda: [assert_(\"x\")])\n\
                rule(name = \"b\", match = [fact(\"x\")], action = lambda: [result()])";
    assert_eq!(warnings(good), Vec::<String>::new());
}
