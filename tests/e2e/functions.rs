//! Functions that users write, over the real binary: pushed, run, replaced, stopped, and what becomes of them when a worker dies.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::processes::{Fleet, Guarded, Sandbox, eventually};

const LENGTHS: &str = "import json, os, sys\ncall = json.load(sys.stdin)\nopen(call['out'] + '/copy.txt', 'wb').write(open(call['input']['file'], 'rb').read())\nprint(json.dumps({'result': {'bytes': os.path.getsize(call['input']['file'])}}))\n";
const WAITS: &str = "import json, sys, time, os\ncall = json.load(sys.stdin)\nfor n in range(call['input']['tenths']):\n    time.sleep(0.1)\n    print(json.dumps({'progress': n / call['input']['tenths']}), flush=True)\nprint(json.dumps({'result': os.getpid()}))\n";

fn function(sandbox: &Sandbox, name: &str, version: &str, more: &str, program: &str) -> PathBuf {
    let folder = sandbox.path(&format!("{name}-{version}"));
    std::fs::create_dir(&folder).unwrap();
    let manifest =
        format!("name = \"{name}\"\nversion = \"{version}\"\ncommand = [\"/usr/bin/python3\", \"main.py\"]\n{more}");
    std::fs::write(folder.join("function.toml"), manifest).unwrap();
    std::fs::write(folder.join("main.py"), program).unwrap();
    folder
}

pub fn lengths(sandbox: &Sandbox, version: &str, more: &str) -> PathBuf {
    function(
        sandbox,
        "lengths",
        version,
        &format!("{more}[input]\nfile = \"uri\"\n[output]\nbytes = \"int\"\n"),
        LENGTHS,
    )
}

fn waits(sandbox: &Sandbox) -> PathBuf {
    function(sandbox, "waits", "1", "[input]\ntenths = \"int\"\n", WAITS)
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON on stdout and nothing else")
}

fn refused(output: &Output, code: i32, words: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(code) && stderr.contains(words), "{:?}: {stderr}", output.status);
}

impl Fleet {
    fn push(&self, folder: &Path) -> String {
        let pushed = json_of(&self.client(&["function", "push", folder.to_str().unwrap(), "--json"]));
        pushed["version"]["hash"].as_str().unwrap().to_owned()
    }

    fn call(&self, name: &str, set: &str) -> Value {
        json_of(&self.client(&["function", "run", name, "--set", set, "--json"]))
    }

    fn detached(&self, name: &str, set: &str) -> String {
        let run = json_of(&self.client(&["function", "run", name, "--set", set, "--detach", "--json"]));
        run["job"].as_str().unwrap().to_owned()
    }

    /// A worker that has proved that it can run functions; `None`, told, where this machine cannot.
    pub fn function_worker(&self, name: &str) -> Option<Guarded> {
        let worker = self.worker(name);
        let backends = eventually("the worker is there", || {
            let list = json_of(&self.client(&["worker", "list", "-o", "json"]));
            list.as_array()
                .unwrap()
                .iter()
                .find(|worker| worker["worker"] == name)
                .map(|worker| worker["backends"].clone())
        });
        if backends.as_array().unwrap().contains(&json!("function")) {
            return Some(worker);
        }
        eprintln!("skipped: this machine cannot lock functions in");
        None
    }
}

/// Processes whose working directory is a function of this worker's.
fn programs_of(fleet: &Fleet, worker: &str) -> usize {
    let folder = fleet.data().join("scratch").join(worker).join("functions").canonicalize();
    let Ok(folder) = folder else { return 0 };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let cwds = processes.filter_map(|process| std::fs::read_link(process.path().join("cwd")).ok());
    cwds.filter(|cwd| cwd.starts_with(&folder)).count()
}

#[test]
fn versions_are_pushed_run_replaced_and_kept_over_a_restart() {
    let fleet = Fleet::new();
    let mut server = fleet.server();
    let Some(_worker) = fleet.function_worker("w1") else { return };
    let file = fleet.sandbox.path("a file.txt");
    std::fs::write(&file, "12345").unwrap();
    let set = format!("file={}", file.display());
    let first = fleet.push(&lengths(&fleet.sandbox, "1.0", ""));
    let job = fleet.call("lengths", &set);
    assert_eq!((&job["state"], &job["output"]["result"]), (&json!("done"), &json!({"bytes": 5})));
    assert_eq!(job["output"]["version"], json!(first));
    let second = fleet.push(&lengths(&fleet.sandbox, "1.1", "description = \"as before\"\n"));
    assert_ne!(first, second);
    server.kill();
    let _server = fleet.server();
    assert_eq!(fleet.call("lengths", &set)["output"]["version"], json!(second));
    for old in ["lengths@1.0".to_owned(), format!("lengths@{}", &first[..8])] {
        assert_eq!(fleet.call(&old, &set)["output"]["version"], json!(first), "{old}");
    }
    let list = json_of(&fleet.client(&["function", "list", "--pushed", "--json"]));
    let listed: Vec<_> =
        list.as_array().unwrap().iter().map(|version| (&version["version"], &version["current"])).collect();
    assert_eq!(listed, [(&json!("1.1"), &json!(true)), (&json!("1.0"), &json!(false))]);
    let shown = json_of(&fleet.client(&["function", "get", "lengths@1.0", "--json"]));
    assert_eq!(shown["manifest"]["input"]["file"]["type"], "uri");
    let out = fleet.sandbox.path("left");
    let to = ["function", "run", "lengths", "--set", &set, "--out", out.to_str().unwrap()];
    let ran = fleet.client(&to);
    assert_eq!(json_of(&ran), json!({"bytes": 5}), "stdout is the result");
    assert_eq!(std::fs::read_to_string(out.join("copy.txt")).unwrap(), "12345");
    std::fs::write(&file, "123456").unwrap();
    refused(&fleet.client(&to), 1, "output_exists");
    refused(&fleet.client(&[&to[..], &["-y"]].concat()), 1, "are not touched");
    assert_eq!(std::fs::read_to_string(out.join("copy.txt")).unwrap(), "12345");
}

#[test]
fn what_is_wrong_is_refused_before_anything_runs() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let bad = function(&fleet.sandbox, "bad", "1", "tiemout = 3\n", "");
    for verb in ["check", "push"] {
        let args = ["function", verb, bad.to_str().unwrap()];
        let output = match verb {
            "push" => fleet.client(&args),
            _ => fleet.sandbox.spool().args(args).output().unwrap(),
        };
        refused(&output, 2, "function.toml: tiemout");
    }
    fleet.push(&lengths(&fleet.sandbox, "1.0", ""));
    refused(&fleet.client(&["function", "run", "length"]), 2, "there are lengths");
    refused(&fleet.client(&["function", "run", "lengths@2.0"]), 2, "1.0 (");
    refused(&fleet.client(&["function", "run", "lengths"]), 2, "file: it is missing");
    refused(
        &fleet.client(&["function", "run", "lengths", "--set", "file=/x", "--set", "n=1"]),
        2,
        "there is no such field",
    );
    let jobs = json_of(&fleet.client(&["job", "list", "-o", "json"]));
    assert_eq!(jobs, json!([]));
}

#[test]
fn a_job_without_a_worker_that_could_run_it_says_so() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    fleet.push(&function(
        &fleet.sandbox,
        "boxed",
        "1",
        "image = \"docker.io/library/python:3.12\"\n",
        "print('{\"result\": 1}')",
    ));
    let Some(_worker) = fleet.function_worker("w1") else { return };
    let workers = json_of(&fleet.client(&["worker", "list", "-o", "json"]));
    if workers[0]["backends"].as_array().unwrap().contains(&json!("container")) {
        return eprintln!("skipped: there is a container runtime");
    }
    let job = json_of(&fleet.client(&["function", "run", "boxed", "--detach", "--json"]));
    let job = job["job"].as_str().unwrap();
    eventually("it says why", || {
        let output = fleet.client(&["job", "explain", job]);
        String::from_utf8_lossy(&output.stdout).contains("needs the backend container").then_some(())
    });
}

#[test]
fn a_failing_function_is_tried_again_only_if_its_author_says_so() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let Some(_worker) = fleet.function_worker("w1") else { return };
    let fails = "import sys; print('why it failed', file=sys.stderr); sys.exit(3)";
    let attempts = |name: &str, more: &str, program: &str| {
        fleet.push(&function(&fleet.sandbox, name, "1", more, program));
        let output = fleet.client(&["function", "run", name, "--json"]);
        assert_eq!(output.status.code(), Some(1));
        let job: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(job["state"], "failed");
        let failure = &job["failure"];
        let logs = fleet.client(&["job", "logs", job["job"].as_str().unwrap(), "-o", "json"]);
        drop(logs);
        (failure["code"].clone(), failure["evidence"].clone(), job["tasks"][0]["attempt"].clone())
    };
    let twice = attempts("twice", "attempts = 2\n", fails);
    assert_eq!(twice, (json!("function_failed"), json!("why it failed"), json!(2)));
    assert_eq!(attempts("once", "idempotent = false\n", fails).2, json!(1));
    let told = "print('{\"error\": {\"class\": \"input\", \"code\": \"no_mark\", \"message\": \"there is none\"}}')";
    let (code, _, attempt) = attempts("told", "", told);
    assert_eq!((code, attempt), (json!("no_mark"), json!(1)), "what is the input's fault is not tried again");
}

#[test]
fn a_cancelled_function_stops_with_all_it_started() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let Some(_worker) = fleet.function_worker("w1") else { return };
    fleet.push(&waits(&fleet.sandbox));
    let job = fleet.detached("waits", "tenths=3000");
    eventually("it tells its progress", || (fleet.job(&job)["progress"]["frames"].as_u64()? > 0).then_some(()));
    assert!(programs_of(&fleet, "w1") > 0);
    assert!(fleet.client(&["job", "cancel", &job]).status.success());
    assert_eq!(fleet.finished(&job)["state"], "cancelled");
    eventually("nothing of it runs", || (programs_of(&fleet, "w1") == 0).then_some(()));
}

#[test]
fn a_killed_worker_takes_its_programs_along_and_the_function_is_done_elsewhere_once() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let Some(mut first) = fleet.function_worker("w1") else { return };
    fleet.push(&waits(&fleet.sandbox));
    let job = fleet.detached("waits", "tenths=50");
    eventually("it runs", || (fleet.job(&job)["progress"]["frames"].as_u64()? > 0).then_some(()));
    first.kill();
    eventually("its program is gone", || (programs_of(&fleet, "w1") == 0).then_some(()));
    let _second = fleet.function_worker("w2").unwrap();
    let view = fleet.finished(&job);
    assert_eq!(view["state"], "done", "{view}");
    assert_eq!(view["output"]["worker"], "w2");
    let tasks = view["tasks"].as_array().unwrap();
    assert_eq!((tasks.len(), &tasks[0]["state"]), (1, &json!("done")));
}

fn ffmpeg(args: &[&str], out: &Path) {
    let status = Command::new("ffmpeg").args(["-v", "error", "-y"]).args(args).arg(out).status().unwrap();
    assert!(status.success(), "ffmpeg {args:?}");
}

/// A mark, a film without it, the same film with it.
pub fn marked(sandbox: &Sandbox) -> [PathBuf; 3] {
    let [mark, plain, marked] = ["mark.png", "plain.mp4", "marked.mp4"].map(|name| sandbox.path(name));
    let test = "testsrc2=size=320x180:rate=10:duration=6";
    ffmpeg(&["-f", "lavfi", "-i", "mandelbrot=size=48x24", "-frames:v", "1"], &mark);
    ffmpeg(&["-f", "lavfi", "-i", test], &plain);
    let laid = "[1]format=rgba,colorchannelmixer=aa=0.5[m];[0][m]overlay=W-w-16:H-h-16";
    ffmpeg(&["-f", "lavfi", "-i", test, "-i", mark.to_str().unwrap(), "-filter_complex", laid], &marked);
    [mark, plain, marked]
}

#[test]
fn the_watermark_check_of_the_documents_tells_a_marked_film_from_a_plain_one() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/watermark-check");
    let fleet = Fleet::new();
    let [mark, plain, marked] = marked(&fleet.sandbox);
    let set = |film: &Path| [format!("video={}", film.display()), format!("mark={}", mark.display())];
    let [video, given] = set(&marked);
    let tried = fleet.sandbox.spool();
    let mut tried = tried;
    tried.args(["function", "test"]).arg(&example).args(["--set", &video, "--set", &given, "--json"]);
    let tried = json_of(&tried.output().unwrap());
    assert_eq!(tried["result"]["found"], json!(true), "{tried}");
    assert_eq!(tried["files"][0]["name"], "corner.pgm");

    let _server = fleet.server();
    let Some(_worker) = fleet.function_worker("w1") else { return };
    fleet.push(&example);
    for (film, found) in [(&marked, true), (&plain, false)] {
        let [video, given] = set(film);
        let out = fleet.sandbox.path(if found { "seen" } else { "not-seen" });
        let run =
            ["function", "run", "watermark-check", "--set", &video, "--set", &given, "--set", "frames=6", "--out"];
        let result = json_of(&fleet.client(&[&run[..], &[out.to_str().unwrap()]].concat()));
        assert_eq!((&result["found"], result["frames"].as_array().unwrap().len()), (&json!(found), 6), "{result}");
        assert!(std::fs::read(out.join("corner.pgm")).unwrap().starts_with(b"P5 "));
    }
    let [_, given] = set(&plain);
    let output =
        fleet.client(&["function", "run", "watermark-check", "--set", "video=/dev/null", "--set", &given, "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["failure"]["class"], "input");
}

#[test]
fn what_init_writes_can_be_checked_and_tried() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("byte-count");
    let spool = |args: &[&str]| sandbox.spool().arg("function").args(args).output().unwrap();
    let shown = folder.to_str().unwrap();
    json_of(&spool(&["init", shown, "--json"]));
    refused(&spool(&["init", shown]), 2, "is there already");
    assert_eq!(json_of(&spool(&["check", shown, "--json"]))["manifest"]["name"], "byte-count");
    std::fs::write(sandbox.path("data"), "aab").unwrap();
    let set = format!("file={}", sandbox.path("data").display());
    let out = sandbox.path("left");
    let tried = json_of(&spool(&["test", shown, "--set", &set, "--out", out.to_str().unwrap()]));
    assert_eq!(tried, json!({"bytes": 3, "most": [{"byte": "61", "count": 2}, {"byte": "62", "count": 1}]}));
    assert!(out.join("counts.json").is_file());
}

/// Rules call a function by its name, as they call those of the workers; what it answers, and leaves, is theirs.
#[test]
fn rules_call_functions_that_were_pushed() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let Some(_worker) = fleet.function_worker("w1") else { return };
    let folder = fleet.sandbox.path("measure");
    std::fs::create_dir(&folder).unwrap();
    let rules = r#"
service(name = "measure", version = "1", input = {"files": list_of(uri())})

rule(
    name = "measure",
    match = [fact("input", as_ = "i")],
    action = lambda i: [call("lengths", key = "file %d" % n, args = {"file": file}) for n, file in enumerate(i.files)],
    reaction = lambda results: [result({"bytes": [r.bytes for r in results], "copies": [get(r.artifacts, "copy.txt") != None for r in results]})],
)
"#;
    std::fs::write(folder.join("main.star"), rules).unwrap();
    json_of(&fleet.client(&["service", "push", folder.to_str().unwrap(), "--json"]));
    let (one, two) = (fleet.sandbox.path("one"), fleet.sandbox.path("two"));
    std::fs::write(&one, "1234567").unwrap();
    std::fs::write(&two, "12").unwrap();
    let input =
        json!({"files": [format!("file://{}", one.display()), format!("file://{}", two.display())]}).to_string();
    let submit = ["submit", "--service", "measure", "--input", &input, "--detach", "--json"];
    let job = json_of(&fleet.client(&submit))["job"].as_str().unwrap().to_owned();
    // It is not there yet: the job says so, and goes on when it is.
    let explained = eventually("the job is paused", || {
        let output = fleet.client(&["job", "explain", &job]);
        let text = String::from_utf8(output.stdout).unwrap();
        text.contains("paused").then_some(text)
    });
    assert!(explained.contains("there is no function \"lengths\""), "{explained}");
    fleet.push(&lengths(&fleet.sandbox, "1", ""));
    assert!(fleet.client(&["job", "resume", &job]).status.success());
    let view = fleet.finished(&job);
    assert_eq!(view["output"], json!({"bytes": [7, 2], "copies": [true, true]}), "{view}");
    assert_eq!(view["tasks"][0]["label"], "file 0");
}
