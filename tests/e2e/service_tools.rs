//! The tools of those who write rules, against a real server: from an empty folder to a result, and a look at what went on.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::films;
use crate::processes::{Fleet, eventually};

/// Waits for a word, twice; then says what it was told.
const TALK: &str = r#"
service(name = "talk", version = "1", input = {"greeting": optional(text(), "hello")})

rule(
    name = "answer",
    match = [fact("input", as_ = "i"), fact("signal", as_ = "s", name = "word")],
    action = lambda i, s: [assert_("said", text = i.greeting + " " + s.payload.who)],
)

rule(
    name = "end",
    match = [fact("input", as_ = "i"), collect("said", as_ = "all", at_least = 2)],
    action = lambda i, all: [result([said.text for said in all])],
)
"#;

struct Tools {
    fleet: Fleet,
}

impl Tools {
    fn run(&self, args: &[&str]) -> Output {
        let sandbox = &self.fleet.sandbox;
        sandbox.spool().current_dir(sandbox.path("")).args(args).args(["--server", &self.fleet.url()]).output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[args, &["--json"]].concat())).unwrap()
    }

    /// What stderr says of a refusal.
    fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn service(&self, folder: &str, text: &str) -> PathBuf {
        let path = self.fleet.sandbox.path(folder);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("main.star"), text).unwrap();
        path
    }

    fn submit(&self, args: &[&str]) -> String {
        let submitted = self.json(&[&["submit", "--detach"], args].concat());
        submitted["job"].as_str().unwrap().to_owned()
    }

    fn facts(&self, job: &str, kind: &str) -> Vec<Value> {
        let facts = self.json(&["job", "facts", job, "--kind", kind]);
        facts.as_array().unwrap().clone()
    }
}

fn tools() -> Tools {
    Tools { fleet: Fleet::new() }
}

#[test]
fn from_an_empty_folder_to_a_result() {
    let tools = tools();
    let (_server, _worker) = (tools.fleet.server(), tools.fleet.worker("w1"));
    tools.fleet.sandbox.spool().args(["service", "init"]).arg(tools.fleet.sandbox.path("lengths")).status().unwrap();
    let dry = tools.ok(&["service", "push", "lengths", "--dry-run"]);
    assert!(dry.starts_with("lengths@") && dry.ends_with(": good; nothing was kept\n"), "{dry}");
    assert!(!tools.ok(&["service", "list"]).contains("lengths"), "nothing was kept");
    let pushed = tools.ok(&["service", "push", "lengths"]);
    assert!(pushed.contains("is kept; it takes new jobs"), "{pushed}");
    let film = films::clip(&films::PLAIN);
    let input = json!({ "films": [film, film] }).to_string();
    let result: Value =
        serde_json::from_str(&tools.ok(&["submit", "--service", "lengths", "--input", &input])).unwrap();
    assert_eq!((&result["films"], &result["problems"]), (&json!(2), &json!([])));
    assert!(result["seconds"].as_f64().unwrap() > 1.0, "{result}");
    // The same from stdin, with a field set over it; leniently, what is no film is told.
    let mut child = tools
        .fleet
        .sandbox
        .spool()
        .args(["submit", "--service", "lengths@1", "--input", "-", "--set", "lenient=true", "--json", "--server"])
        .arg(tools.fleet.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(br#"{"films": ["/no/such/film.mov"]}"#).unwrap();
    let job: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(job["output"]["problems"], json!(["file:///no/such/film.mov"]), "{job}");
    let said = tools.refused(&["submit", "--service", "lengths", "--set", "film=a"]);
    assert!(said.contains("film: there is no such field; there are films, lenient"), "{said}");
    let said = tools.refused(&["submit", "--service", "length"]);
    assert!(said.contains("length"), "{said}");
}

#[test]
fn versions_are_pushed_routed_and_fetched() {
    let tools = tools();
    let _server = tools.fleet.server();
    let folder = tools.service("talk", TALK);
    let first = tools.json(&["service", "push", "talk"])["hash"].as_str().unwrap().to_owned();
    fs::write(folder.join("main.star"), TALK.replace("version = \"1\"", "version = \"2\"")).unwrap();
    let pushed = tools.json(&["service", "push", "talk", "--canary", "20"]);
    let second = pushed["hash"].as_str().unwrap();
    assert_eq!((&pushed["state"]["stable"], &pushed["state"]["canary"]), (&json!(first), &json!(second)));
    assert!(tools.ok(&["service", "push", "talk"]).contains("was pushed before; it takes 20 of 100 new jobs"));
    let list = tools.ok(&["service", "list"]);
    assert!(list.contains(&format!("2 ({}) 20%", &second[..8])), "{list}");
    assert_eq!(tools.json(&["service", "rollback", "talk"]).get("canary"), None);
    assert_eq!(tools.json(&["service", "canary", "talk@2", "--percent", "5"])["canary_percent"], 5);
    assert_eq!(tools.json(&["service", "promote", "talk"])["stable"], json!(second));
    assert_eq!(tools.json(&["service", "promote", &format!("talk@{}", &first[..8])])["stable"], json!(first));
    let text = tools.ok(&["service", "get", "talk@2"]);
    assert!(text.contains("talk: new jobs go to 1") && text.contains("main.star"), "{text}");
    tools.ok(&["service", "get", "talk@2", "-o", "fetched"]);
    let diff = tools.ok(&["service", "diff", "fetched", "talk"]);
    assert_eq!(diff, "fetched and talk are the same: talk 2\n");
    let diff = tools.ok(&["service", "diff", "talk@1", "talk@2"]);
    assert!(diff.contains("-service(name = \"talk\", version = \"1\"") && diff.contains("no rule differs"), "{diff}");
    let said = tools.refused(&["service", "get", "talk@2", "-o", "fetched"]);
    assert!(said.contains("main.star: it is there already"), "{said}");
    let said = tools.refused(&["service", "promote", "talk@7"]);
    assert!(said.contains("\"7\"") && said.contains(&first[..8]), "{said}");
    // What cannot be read is told as an editor finds it, and nothing is kept.
    tools.service("broken", "service(name = \"broken\", version = \"1\")\nrule(name = \"a\", match = [none(\"x\")])\n");
    let output = tools.run(&["service", "push", "broken"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("broken/main.star:2:1: error: ") && said.ends_with("broken: nothing was kept\n"),
        "{said}"
    );
    assert!(tools.refused(&["service", "get", "broken"]).contains("broken"));
}

#[test]
fn a_job_is_looked_into_told_something_and_moved() {
    let tools = tools();
    let _server = tools.fleet.server();
    let folder = tools.service("talk", TALK);
    tools.ok(&["service", "push", "talk"]);
    let file = tools.fleet.sandbox.path("job.yaml");
    let text = "apiVersion: spool/v1\nkind: Job\nmetadata: {name: a talk}\nspec:\n  service: talk\n  priority: 70\n  input: {greeting: good day}\n";
    fs::write(&file, text).unwrap();
    let job = tools.submit(&["job.yaml", "--name", "talk of two"]);
    let view = tools.fleet.job(&job);
    assert_eq!(
        (&view["name"], &view["priority"], &view["service"]),
        (&json!("talk of two"), &json!(70), &json!("talk"))
    );
    let why = tools.ok(&["rules", "why-not", &job, "answer"]);
    assert!(
        why.contains(
            "rule \"answer\" does not fire: pattern 2, fact(\"signal\", name = \"word\") finds no fact with i = f1"
        ),
        "{why}"
    );
    assert!(why.contains("there is no fact of the type"), "{why}");
    for _ in 0..2 {
        tools.ok(&["job", "signal", &job, "word", "--payload", r#"{"who": "Ada"}"#, "--dedupe", "first"]);
    }
    let said = eventually("it has heard", || Some(tools.facts(&job, "said")).filter(|facts| !facts.is_empty()));
    assert_eq!((said.len(), &said[0]["text"]), (1, &json!("good day Ada")), "told once");
    let why = tools.ok(&["rules", "why-not", &job, "end"]);
    assert!(why.contains("finds 1 and needs 2"), "{why}");
    assert!(tools.ok(&["job", "tree", &job]).starts_with(&format!("{job} talk ")));
    let said = tools.refused(&["job", "resume", &job]);
    assert!(said.contains("not paused"), "{said}");
    // Rules that answer otherwise are held against what happened, and then take the job over.
    let history = tools.ok(&["job", "history", &job, "--json"]);
    let kept = tools.fleet.sandbox.path("history.json");
    fs::write(&kept, &history).unwrap();
    let told = tools.ok(&["job", "history", &job]);
    assert!(told.contains("signal word {\"who\":\"Ada\"}") && told.contains("answer action → assert_"), "{told}");
    let replay = |args: &[&str]| {
        let offline = ["rules", "replay", "history.json", "--rules", "talk"];
        tools.fleet.sandbox.spool().current_dir(tools.fleet.sandbox.path("")).args(offline).args(args).output().unwrap()
    };
    let same = replay(&["--exit-code"]);
    assert!(same.status.success() && String::from_utf8_lossy(&same.stdout).ends_with("nothing differs\n"), "{same:?}");
    let other = TALK.replace("version = \"1\"", "version = \"2\"").replace("\" \" + s", "\", \" + s");
    fs::write(folder.join("main.star"), other.replace("at_least = 2", "at_least = 1")).unwrap();
    let differs = replay(&["--exit-code"]);
    let said = String::from_utf8_lossy(&differs.stdout).into_owned();
    assert_eq!(differs.status.code(), Some(1), "{said}");
    assert!(said.contains("~ answer action answers otherwise") && said.contains("+ end action: runs now"), "{said}");
    tools.ok(&["service", "push", "talk"]);
    let would = tools.ok(&["service", "migrate", &job, "--to", "2", "--dry-run"]);
    assert!(would.contains("would go on under") && would.contains("+ fires: rule \"end\" for f1"), "{would}");
    assert_eq!(tools.fleet.job(&job)["state"], view["state"], "a dry run moves nothing");
    tools.ok(&["service", "migrate", &job, "--to", "2"]);
    assert_eq!(tools.fleet.finished(&job)["output"], json!(["good day Ada"]));
}

#[test]
fn a_paused_job_is_mended_and_goes_on() {
    let tools = tools();
    let _server = tools.fleet.server();
    let folder = tools.service("talk", &TALK.replace("s.payload.who", "s.payload.whom"));
    tools.ok(&["service", "push", "talk"]);
    let job = tools.submit(&["--service", "talk", "--priority", "60"]);
    tools.ok(&["job", "signal", &job, "word", "--payload", r#"{"who": "Ada"}"#]);
    let explained = eventually("it is paused", || {
        Some(tools.ok(&["job", "explain", &job]))
            .filter(|text| text.contains("section_raised") || text.contains("whom"))
    });
    assert!(explained.contains("main.star:7:"), "{explained}");
    assert!(tools.ok(&["job", "history", &job]).contains("BROKE (section_raised)"));
    // Nothing was mended: it breaks again, and is still there.
    tools.ok(&["job", "resume", &job]);
    fs::write(folder.join("main.star"), TALK).unwrap();
    tools.ok(&["service", "push", "talk"]);
    tools.ok(&["service", "promote", "talk@1"]);
    tools.ok(&["service", "migrate", &job]);
    tools.ok(&["job", "signal", &job, "word", "--payload", r#"{"who": "Bob"}"#]);
    assert_eq!(tools.fleet.finished(&job)["output"], json!(["hello Ada", "hello Bob"]));
}
