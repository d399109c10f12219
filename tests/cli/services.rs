//! Services made of rules, without a server: begun, checked, tested, compared.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::{run, stderr, stdout};

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn service(dir: &Path, name: &str, text: &str) {
    fs::create_dir_all(dir.join(name).join("tests")).expect("made");
    fs::write(dir.join(name).join("main.star"), text).expect("written");
}

/// Its exit code and what it printed.
fn said(dir: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = run(dir, args);
    (output.status.code(), stdout(&output) + &stderr(&output))
}

const STEPS: &str = "service(name = \"steps\", version = \"1\", input = {\"n\": integer()})
load(\"lib/sizes.star\", \"double\")

rule(name = \"one\", match = [fact(\"input\", as_ = \"i\")], action = lambda i: [assert_(\"step\", n = double(i.n))])

rule(
    name = \"two\",
    match = [fact(\"step\", as_ = \"s\")],
    action = lambda s: [call(\"bench.noop\", args = {\"n\": s.n})],
    reaction = lambda s, results: [result({\"n\": s.n, \"said\": results[0]})],
)
";

fn steps(dir: &Path, name: &str, sizes: &str) {
    service(dir, name, STEPS);
    fs::create_dir_all(dir.join(name).join("lib")).expect("made");
    fs::write(dir.join(name).join("lib/sizes.star"), sizes).expect("written");
}

#[test]
fn what_init_writes_works_and_is_not_written_over() {
    let dir = dir();
    let (code, text) = said(dir.path(), &["service", "init", "sub/my-films"]);
    assert_eq!((code, text.lines().count()), (Some(0), 4), "{text}");
    let (code, text) = said(dir.path(), &["service", "check", "sub/my-films", "--strict"]);
    assert_eq!((code, text.as_str()), (Some(0), "my-films 1: 2 rules, 0 warnings\n"));
    let (code, text) = said(dir.path(), &["service", "test", "sub/my-films"]);
    assert!(code == Some(0) && text.ends_with("my-films 1: 5 passed, 0 failed\n"), "{text}");
    let readme = fs::read_to_string(dir.path().join("sub/my-films/README.md")).expect("written");
    assert!(readme.starts_with("# my-films\n") && !readme.contains('@'), "{readme}");
    let (code, text) = said(dir.path(), &["service", "init", "sub/my-films", "--name", "other"]);
    assert!(code == Some(2) && text.contains("main.star") && text.contains("not written over"), "{text}");
    let (code, text) = said(dir.path(), &["service", "init", "Sub 2"]);
    assert!(code == Some(2) && text.contains("\"sub 2\" is no name") && text.contains("--name"), "{text}");
    assert!(!dir.path().join("Sub 2").exists());
}

#[test]
fn what_is_wrong_is_told_as_editors_find_it() {
    let dir = dir();
    let head = "service(name = \"t\", version = \"1\")\n";
    let cases = [
        ("rule(", 1, "bad/main.star:1:6: error: ", "[syntax]"),
        ("x = 1", 1, "bad/main.star: error: service(name = …, version = …) is missing", "[no_service]"),
        (
            "load(\"no.star\", \"x\")",
            1,
            "bad/main.star:1:6: error: there is no file \"no.star\" in the service's folder",
            "[no_file]",
        ),
        (
            &format!("{head}rule(name = \"a\", match = [fact(\"input\", as_ = \"i\")], action = lambda p: [])"),
            1,
            "bad/main.star:2:1: error: rule \"a\": action wants \"p\"",
            "[unknown_parameter]",
        ),
        (
            &format!("{head}rule(name = \"a\", match = [fact(\"inputs\")], action = lambda: [])"),
            0,
            "bad/main.star:2:1: warning: rule \"a\" never matches: no rule asserts a fact \"inputs\"",
            "[never_matches]",
        ),
        (&format!("{head}x = open(\"/etc/passwd\")"), 1, "bad/main.star:2:5: error: ", "open"),
    ];
    for (text, code, begins, has) in cases {
        service(dir.path(), "bad", text);
        let (found, said) = said(dir.path(), &["service", "check", "bad"]);
        assert!(found == Some(code) && said.starts_with(begins) && said.contains(has), "{text}: {found:?} {said}");
    }
    let warned = format!("{head}rule(name = \"a\", match = [fact(\"inputs\")], action = lambda: [])");
    service(dir.path(), "bad", &warned);
    assert_eq!(said(dir.path(), &["service", "check", "bad", "--strict"]).0, Some(1));
    let found: Value =
        serde_json::from_str(&stdout(&run(dir.path(), &["service", "check", "bad", "--json"]))).expect("JSON");
    assert_eq!((&found["service"], &found["problems"][0]["code"]), (&"t".into(), &"never_matches".into()));
    let (code, text) = said(dir.path(), &["service", "check", "nowhere"]);
    assert!(
        code == Some(2) && text.contains("nowhere does not exist") && text.contains("spool service init"),
        "{text}"
    );
    fs::create_dir(dir.path().join("empty")).expect("made");
    let (code, text) = said(dir.path(), &["service", "check", "empty"]);
    assert!(code == Some(2) && text.contains("no main.star"), "{text}");
}

#[test]
fn tests_tell_what_is_not_as_expected() {
    let dir = dir();
    steps(dir.path(), "steps", "def double(n):\n    return 2 * n\n");
    let tests = dir.path().join("steps/tests");
    let (code, text) = said(dir.path(), &["service", "test", "steps"]);
    assert!(code == Some(2) && text.contains("there are no tests"), "{text}");
    let good = "name: good\ninput: {n: 2}\nfunctions: {bench.noop: {answer: yes, takes: 2}}\nexpect: {done: {n: 4}, within: 2}\n";
    fs::write(tests.join("a.yaml"), good).expect("written");
    let (code, text) = said(dir.path(), &["service", "test", "steps"]);
    assert!(
        code == Some(0) && text.contains("steps/tests/a.yaml: good … ok (2.0 s)\nsteps 1: 1 passed, 0 failed\n"),
        "{text}"
    );
    let bad = "- name: too little\n  input: {n: 2}\n  functions: {bench.noop: {}}\n  expect: {done: {n: 5}}\n- name: unanswered\n  input: {n: 1}\n- name: bad input\n  input: {m: 1}\n";
    fs::write(tests.join("b.yaml"), bad).expect("written");
    let (code, text) = said(dir.path(), &["service", "test", "steps"]);
    assert_eq!(code, Some(1), "{text}");
    for part in [
        "too little … FAILED (0.0 s)\n  expected it to be done with {\"n\":5}; it is done with {\"n\":4,",
        "two reaction → result",
        "bench.noop is called",
        "input: m: there is no such field; there are n",
        "1 passed, 3 failed",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, text) = said(dir.path(), &["service", "test", "steps", "--filter", "a.yaml"]);
    assert!(code == Some(0) && text.contains("1 passed, 0 failed"), "{text}");
    let results: Value =
        serde_json::from_str(&stdout(&run(dir.path(), &["service", "test", "steps", "--json"]))).expect("JSON");
    assert_eq!((&results["failed"], &results["tests"][1]["name"]), (&3.into(), &"too little".into()));
    // Where a test itself is wrong.
    fs::write(tests.join("b.yaml"), "- name: x\n  functions:\n    f: [{answr: 1}]\n").expect("written");
    let (code, text) = said(dir.path(), &["service", "test", "steps"]);
    assert!(
        code == Some(2) && text.contains("b.yaml:3:") && text.contains("functions.f[0].answr: unknown field `answr`"),
        "{text}"
    );
}

/// A rule that breaks is not passed over because nothing was expected.
#[test]
fn a_job_that_is_paused_fails_its_test() {
    let dir = dir();
    steps(dir.path(), "steps", "def double(n):\n    return 1 // 0\n");
    fs::write(dir.path().join("steps/tests/a.yaml"), "name: breaks\ninput: {n: 2}\n").expect("written");
    let (code, text) = said(dir.path(), &["service", "test", "steps"]);
    assert!(
        code == Some(1) && text.contains("PAUSED (section_raised)") && text.contains("lib/sizes.star:2:"),
        "{text}"
    );
    let meant = "name: breaks\ninput: {n: 2}\nexpect: {paused: section_raised}\n";
    fs::write(dir.path().join("steps/tests/a.yaml"), meant).expect("written");
    let (code, text) = said(dir.path(), &["service", "test", "steps"]);
    assert!(code == Some(0) && text.contains("no test fires two"), "{text}");
}

#[test]
fn two_versions_are_compared_by_rule_and_by_line() {
    let dir = dir();
    steps(dir.path(), "a", "def double(n):\n    return 2 * n\n");
    steps(dir.path(), "b", "def double(n):\n    return n + n\n");
    let (code, text) = said(dir.path(), &["service", "diff", "a", "a", "--exit-code"]);
    assert_eq!((code, text.as_str()), (Some(0), "a and a are the same: steps 1\n"));
    let (code, text) = said(dir.path(), &["service", "diff", "a", "b", "--exit-code"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("~ rule \"one\" (main.star:4:1), by what it uses: def double (lib/sizes.star)\n"), "{text}");
    assert!(!text.contains("rule \"two\""), "{text}");
    let hunk = "--- a/lib/sizes.star\n+++ b/lib/sizes.star\n@@ -1,2 +1,2 @@ def double\n def double(n):\n-    return 2 * n\n+    return n + n\n";
    assert!(text.ends_with(hunk), "{text}");
    let other = STEPS.replace("name = \"one\"", "name = \"first\"").replace("integer()", "integer(min = 1)");
    fs::write(dir.path().join("b/main.star"), other.replace("results[0]", "results")).expect("written");
    let (_, text) = said(dir.path(), &["service", "diff", "a", "b", "--brief"]);
    for part in ["~ input: ", "+ rule \"first\"\n", "- rule \"one\"\n", "~ rule \"two\" (main.star:6:1)\n"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("@@"), "{text}");
    let json: Value =
        serde_json::from_str(&stdout(&run(dir.path(), &["service", "diff", "a", "b", "--json"]))).expect("JSON");
    assert_eq!((&json["added"][0], &json["changed"][0]["rule"]), (&"first".into(), &"two".into()));
    let (code, text) = said(dir.path(), &["service", "diff", "a", "nowhere/else"]);
    assert!(code == Some(2) && text.contains("nowhere/else does not exist"), "{text}");
}

#[test]
fn what_a_service_is_not_given_so_is_refused() {
    let dir = dir();
    let film = "apiVersion: spool/v1\nkind: Job\nspec: {input: in.mov, output: out.mp4}\n";
    fs::write(dir.path().join("film.yaml"), film).expect("written");
    let rules = "apiVersion: spool/v1\nkind: Job\nspec: {service: encode@3, input: [1, 2], colour: red}\n";
    fs::write(dir.path().join("rules.yaml"), rules).expect("written");
    fs::write(dir.path().join("good.yaml"), rules.replace(", colour: red", ", priority: 70")).expect("written");
    let own = rules.replace("encode@3", "title").replace(", colour: red", "");
    fs::write(dir.path().join("own.yaml"), own).expect("written");
    let cases: &[(&[&str], &str)] = &[
        (&["submit", "--service", "encode"], "a service made of rules needs a server"),
        (&["submit", "--service", "encode", "--input", "{"], "--input:1:1: no JSON"),
        (&["submit", "--service", "encode", "--input", "@none.json"], "none.json: No such file"),
        (&["submit", "--service", "encode", "--set", "x"], "--set \"x\": expected KEY=VALUE"),
        (&["submit", "--service", "encode", "-o", "x.mp4"], "-o with --service"),
        (&["submit", "--service", "En code"], "no name for a service"),
        (&["submit", "--service", "encode", "film.yaml"], "cannot be used with"),
        (&["submit", "film.yaml", "--set", "crf=1"], "only the input of a service made of rules"),
        (&["submit", "rules.yaml"], "rules.yaml:3:"),
        (&["submit", "own.yaml"], "spec.service: title is no service made of rules"),
        (&["submit", "good.yaml"], "a service made of rules needs a server"),
        (&["estimate", "good.yaml"], "only films are measured"),
        (&["service", "canary", "encode", "--percent", "5"], "which version?"),
        (&["rules", "replay", "film.yaml", "--rules", "."], "spool job history"),
    ];
    for (args, says) in cases {
        let (code, text) = said(dir.path(), args);
        assert!(code == Some(2) && text.contains(says), "{args:?}: {code:?} {text}");
    }
    let output = run(dir.path(), &["submit", "good.yaml", "--set", "b=1", "--dry-run"]);
    assert!(stderr(&output).contains("no map"), "{}", stderr(&output));
    let output =
        run(dir.path(), &["submit", "good.yaml", "--input", "{}", "--set", "b.c=1", "--pool", "x", "--dry-run"]);
    let job: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!((&job["pool"], &job["priority"]), (&"x".into(), &70.into()));
    assert!(stdout(&output).contains("\"c\": 1"), "{}", stdout(&output));
}
