//! Programs that users wrote, run in their walls: what they get and answer, what stops them, and that none gets out.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use spool_function::Package;
use spool_proto::call::{Answer, Value};
use spool_proto::failure::{Class, Failure};
use spool_worker::executor::{Advance, Sandbox, Stops, Unanswered};
use spool_worker::function::{FunctionOptions, LocalOptions, Tried, local};
use tokio::sync::watch;

mod common;
use common::test_worker;

/// A function in a folder of its own, and files that are none of its business.
struct Stage {
    dir: tempfile::TempDir,
    told: Arc<Mutex<Vec<u64>>>,
    stop: watch::Sender<Stops>,
}

impl Stage {
    /// `more`: of the manifest.
    fn new(more: &str, program: &str) -> Stage {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["function", "scratch", "output", "films"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let head = "name = \"probe\"\nversion = \"1\"\ncommand = [\"/usr/bin/python3\", \"main.py\"]\n";
        std::fs::write(dir.path().join("function/function.toml"), format!("{head}{more}")).unwrap();
        std::fs::write(dir.path().join("function/main.py"), program).unwrap();
        std::fs::write(dir.path().join("secret"), "a secret").unwrap();
        std::fs::write(dir.path().join("films/film.mov"), "a film").unwrap();
        Stage { dir, told: Arc::default(), stop: watch::channel(Stops::NONE).0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn run(&self, input: serde_json::Value) -> Result<Tried, Unanswered> {
        let package = Package::read(&self.path("function")).unwrap();
        let options = LocalOptions {
            program: test_worker(),
            functions: FunctionOptions { args: vec!["launch".into()], programs: Vec::new() },
            scratch: self.path("scratch"),
            sandbox: Sandbox::default(),
            output: self.path("output"),
        };
        let told = Arc::clone(&self.told);
        let progress = Arc::new(move |advance: Advance| told.lock().unwrap().push(advance.frames));
        let tried = local(options, &self.path("function"), &package, &input, progress, self.stop.subscribe()).await;
        let left: Vec<_> = std::fs::read_dir(self.path("scratch")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        tried
    }

    async fn answer(&self, input: serde_json::Value) -> (serde_json::Value, Answer) {
        let tried = self.run(input).await.unwrap();
        match &tried.answer.value {
            Value::User { result, .. } => (result.clone(), tried.answer),
            other => panic!("{other:?}"),
        }
    }

    async fn failure(&self) -> Failure {
        match self.run(json!({})).await {
            Err(Unanswered::Failed(failure)) => failure,
            other => panic!("{other:?}"),
        }
    }
}

/// True where this machine has all of the walls; told where not.
async fn is_locked_in() -> bool {
    let tried = Stage::new("", "print('{\"result\": 1}')").run(json!({})).await.unwrap();
    let walls = tried.walls.unwrap();
    if !walls.is_whole() {
        eprintln!("skipped: this machine has not all of the walls: {walls}");
    }
    walls.is_whole()
}

fn uri(path: &Path) -> String {
    spool_proto::uri::from_path(path)
}

#[tokio::test]
async fn a_program_gets_its_input_and_leaves_its_files() {
    let program = r#"
import json, os, sys
call = json.load(sys.stdin)
assert call == json.load(open(os.environ["SPOOL_CALL"]))
print(json.dumps({"progress": 0.25}), flush=True)
print(json.dumps({"progress": 0.5, "message": "half of it"}), flush=True)
print("a word on stdout")
print("a word on stderr", file=sys.stderr)
os.makedirs(call["out"] + "/sheets")
open(call["out"] + "/sheets/1.txt", "w").write("a sheet")
film = open(call["input"]["video"]).read()
assert call["files"]["video"] == call["input"]["video"] and call["input"]["video"].endswith(".mov")
print(json.dumps({"result": {"film": film, "n": call["input"]["n"]}}))
"#;
    let manifest = "[input]\nvideo = \"uri\"\nn = { type = \"optional\", of = \"int\", default = 3 }\n[output]\nfilm = \"text\"\nn = \"int\"\n";
    let stage = Stage::new(manifest, program);
    let (result, answer) = stage.answer(json!({"video": uri(&stage.path("films/film.mov"))})).await;
    assert_eq!(result, json!({"film": "a film", "n": 3}));
    assert_eq!(*stage.told.lock().unwrap(), [250, 500]);
    let Value::User { log, .. } = &answer.value else { panic!() };
    for word in ["half of it", "a word on stdout", "a word on stderr"] {
        assert!(log.contains(word), "{log}");
    }
    let names: Vec<_> = answer.artifacts.iter().map(|file| (file.name.as_str(), file.bytes)).collect();
    assert_eq!(names, [("sheets/1.txt", 7)]);
    let stored = spool_proto::uri::to_path(&answer.artifacts[0].uri).unwrap();
    assert_eq!(std::fs::read_to_string(stored).unwrap(), "a sheet");
    let Err(Unanswered::Failed(failure)) = stage.run(json!({"video": uri(&stage.path("films/none.mov"))})).await else {
        panic!()
    };
    assert_eq!((failure.class, failure.code.as_str()), (Class::Input, "source_missing"));
}

#[tokio::test]
async fn every_way_to_fail_has_its_name() {
    let cases = [
        ("import sys; print('why', file=sys.stderr); sys.exit(3)", Class::Internal, "function_failed"),
        ("pass", Class::Internal, "function_no_result"),
        ("print('{\"result\": {\"n\": \"x\"}}')", Class::Internal, "function_bad_result"),
        (
            "print('{\"error\": {\"class\": \"input\", \"code\": \"no_mark\", \"message\": \"none\"}}')",
            Class::Input,
            "no_mark",
        ),
        ("import os; os.abort()", Class::Internal, "function_died"),
        ("print('{\"result\": \"' + 'x' * (2 << 20) + '\"}')", Class::Internal, "function_bad_output"),
        (
            "import os; os.symlink('/etc/passwd', os.environ['SPOOL_OUT'] + '/x'); print('{\"result\": {\"n\": 1}}')",
            Class::Internal,
            "function_bad_output",
        ),
        (
            "import os; out = os.environ['SPOOL_OUT']; os.rmdir(out); os.symlink('/etc', out); print('{\"result\": {\"n\": 1}}')",
            Class::Internal,
            "function_bad_output",
        ),
    ];
    for (program, class, code) in cases {
        let failure = Stage::new("[output]\nn = \"int\"\n", program).failure().await;
        assert_eq!((failure.class, failure.code.as_str()), (class, code), "{program}: {failure:?}");
        assert!(!program.contains("why") || failure.evidence == "why", "{failure:?}");
    }
    let absent = Stage::new("", "");
    let manifest = "name = \"probe\"\nversion = \"1\"\ncommand = [\"no-such-program\"]\n";
    std::fs::write(absent.path("function/function.toml"), manifest).unwrap();
    let failure = absent.failure().await;
    assert_eq!((failure.class, failure.code.as_str()), (Class::Host, "function_not_started"), "{failure:?}");
    assert!(failure.message.contains("no-such-program"), "{failure}");
}

#[tokio::test]
async fn a_result_may_be_a_file() {
    let program = "import os; open(os.environ['SPOOL_RESULT'], 'w').write('{\"n\": 5}')";
    assert_eq!(Stage::new("", program).answer(json!({})).await.0, json!({"n": 5}));
}

/// What each line of Python says it got, where it was to be refused.
async fn tries(
    inputs: &str,
    input: serde_json::Value,
    lines: &[&str],
    prepare: impl FnOnce(&Stage) -> String,
) -> Vec<String> {
    let stage = Stage::new(inputs, "");
    let head = prepare(&stage);
    let mut program = format!("import json, os, socket, subprocess, sys, ctypes\n{head}\ngot = []\n");
    for line in lines {
        program += &format!(
            "try:\n    {line}\n    got.append({line:?})\nexcept (OSError, subprocess.CalledProcessError) as error:\n    \
             if getattr(error, 'errno', 1) not in (1, 13, 18, 38): got.append({line:?} + str(error))\n"
        );
    }
    program += "print(json.dumps({'result': got}))\n";
    std::fs::write(stage.path("function/main.py"), program).unwrap();
    let (result, _) = stage.answer(input).await;
    serde_json::from_value(result).unwrap()
}

#[tokio::test]
async fn a_program_reads_what_it_was_given_and_nothing_else() {
    if !is_locked_in().await {
        return;
    }
    let got = tries(
        "",
        json!({}),
        &[
            "open('/etc/passwd').read()",
            "open('/etc/shadow').read()",
            "os.listdir('/root')",
            "os.listdir('/')",
            "os.listdir('/tmp')",
            "open('/proc/self/environ').read()",
            "open('/proc/1/environ').read()",
            "os.listdir('/proc')",
            "open(secret).read()",
            "open(film).read()",
            "os.listdir(os.path.dirname(os.environ['SPOOL_CALL']) + '/..')",
            "open('function.toml', 'a').write('x')",
            "open('new', 'w').write('x')",
            "open('/usr/new', 'w').write('x')",
            "os.truncate(secret, 0)",
            "os.unlink(secret)",
            "os.rename(secret, secret + '2')",
            "os.link(secret, os.environ['SPOOL_OUT'] + '/s')",
            "open('/dev/shm/x', 'w')",
            "os.mknod(os.environ['TMPDIR'] + '/null', 0o020666, os.makedev(1, 3))",
        ],
        |stage| format!("secret = {:?}\nfilm = {:?}", stage.path("secret"), stage.path("films/film.mov")),
    )
    .await;
    assert_eq!(got, Vec::<String>::new());
}

#[tokio::test]
async fn a_program_reaches_no_network_and_no_other_process() {
    if !is_locked_in().await {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut bystander = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let (pid, own) = (bystander.id(), std::process::id());
    let got = tries(
        "",
        json!({}),
        &[
            "socket.create_connection(('127.0.0.1', port))",
            "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
            "socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)",
            "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
            "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
            "subprocess.run(['/usr/bin/python3', '-c', 'import socket; socket.socket()'], check=True, stderr=subprocess.DEVNULL)",
            "os.kill(pid, 9)",
            "os.kill(own, 0)",
            "os.setsid()",
            "os.setpgid(0, 0)",
            "os.setpriority(os.PRIO_PROCESS, own, 19)",
            "os.sched_setaffinity(own, {0})",
            "os.setuid(1)",
            "os.chroot('/')",
            "os.memfd_create('x')",
        ],
        |_| format!("port, pid, own = {port}, {pid}, {own}"),
    )
    .await;
    assert_eq!(got, Vec::<String>::new());
    assert!(bystander.try_wait().unwrap().is_none(), "it still runs");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[tokio::test]
async fn a_program_may_do_what_programs_do() {
    let program = r#"
import asyncio, concurrent.futures, json, os, shutil, subprocess, tempfile, socket, signal, sqlite3
a, b = socket.socketpair(); a.send(b"x"); assert b.recv(1) == b"x"
with tempfile.NamedTemporaryFile() as file:
    file.write(b"x"); file.flush()
    shutil.copy(file.name, os.environ["SPOOL_OUT"] + "/copy")
    shutil.copy2(file.name, os.environ["SPOOL_OUT"] + "/copy2")
assert subprocess.run(["sh", "-c", "echo $((1 + 2)) | cat"], capture_output=True, check=True).stdout == b"3\n"
child = subprocess.Popen(["sleep", "60"]); child.terminate(); assert child.wait() == -signal.SIGTERM
async def late():
    await asyncio.sleep(0.01)
    process = await asyncio.create_subprocess_exec("true")
    return await process.wait()
assert asyncio.run(late()) == 0
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    assert sum(pool.map(lambda n: n, range(100))) == 4950
sqlite3.connect(os.environ["TMPDIR"] + "/db").execute("create table t (a)")
script = os.environ["TMPDIR"] + "/script.sh"; open(script, "w").write("echo ok")
assert subprocess.run(["sh", script], capture_output=True).stdout == b"ok\n"
os.mkdir(os.environ["TMPDIR"] + "/closed", 0)
# Left to nobody, again and again.
for _ in range(200):
    subprocess.run(["sh", "-c", "true & true"], check=True)
print(json.dumps({"result": len(os.listdir(os.environ["SPOOL_OUT"]))}))
"#;
    assert_eq!(Stage::new("", program).answer(json!({})).await.0, json!(2));
}

#[tokio::test]
async fn ffmpeg_runs_in_the_walls() {
    if std::process::Command::new("/usr/bin/ffmpeg").arg("-version").output().is_err() {
        eprintln!("skipped: there is no /usr/bin/ffmpeg");
        return;
    }
    let program = r#"
import json, os, subprocess
made = os.environ["SPOOL_OUT"] + "/clip.mp4"
subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=size=64x64:rate=5:duration=1", made], check=True)
raw = subprocess.run(["ffmpeg", "-v", "error", "-i", made, "-f", "rawvideo", "-pix_fmt", "gray", "-"], check=True, capture_output=True)
print(json.dumps({"result": len(raw.stdout)}))
"#;
    let stage = Stage::new("[resources]\nmemory = 512\n", program);
    assert_eq!(stage.answer(json!({})).await.0, json!(64 * 64 * 5));
}

#[tokio::test]
async fn what_takes_too_much_is_killed_with_all_it_started() {
    let cases = [
        ("timeout = 1\n", "while True: pass", Class::Capacity, "timed_out"),
        ("no_progress = 1\n", "import time\ntime.sleep(60)", Class::Internal, "no_progress"),
        (
            "[resources]\nmemory = 64\n",
            "x = []\nwhile True: x.append(bytearray(1 << 20))",
            Class::Capacity,
            "memory_exceeded",
        ),
        (
            "[resources]\nmemory = 256\n",
            "import os, time\nwhile True:\n    try: os.fork()\n    except OSError: pass",
            Class::Capacity,
            "too_many_processes",
        ),
        (
            "[resources]\nscratch = 8\n",
            "import os, time\nfor n in range(4): open(os.environ['TMPDIR'] + f'/{n}', 'wb').write(bytes(4 << 20))\ntime.sleep(60)",
            Class::Capacity,
            "scratch_exceeded",
        ),
    ];
    for (manifest, program, class, code) in cases {
        let start = Instant::now();
        let stage = Stage::new(manifest, program);
        let failure = stage.failure().await;
        assert_eq!((failure.class, failure.code.as_str()), (class, code), "{program}: {failure:?}");
        assert!(start.elapsed() < Duration::from_secs(30), "{code} took {:?}", start.elapsed());
        nothing_runs_in(&stage.path("function")).await;
    }
}

/// No process has its working directory there.
async fn nothing_runs_in(folder: &Path) {
    let there = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter(|process| std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == folder))
            .count()
    };
    for _ in 0..100 {
        if there() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} processes still run in {}", there(), folder.display());
}

#[tokio::test]
async fn what_a_program_leaves_running_ends_with_it() {
    let program = "import subprocess\nsubprocess.Popen(['sleep', '600'])\nprint('{\"result\": 1}')";
    let stage = Stage::new("", program);
    assert_eq!(stage.answer(json!({})).await.0, json!(1));
    nothing_runs_in(&stage.path("function")).await;
}

#[tokio::test]
async fn a_program_that_is_to_stop_stops() {
    let stage = Stage::new("", "import subprocess\nsubprocess.run(['sleep', '600'])");
    let run = stage.run(json!({}));
    let stop = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        stage.stop.send_modify(|stops| stops.add(0));
    };
    let (run, ()) = tokio::join!(run, stop);
    assert!(matches!(run, Err(Unanswered::Stopped)), "{run:?}");
    nothing_runs_in(&stage.path("function")).await;
}
