//! Rule sets of strangers: what does not end, takes all memory or wants a file is ended with a problem that says so, and the next one is
//! read as if nothing had been.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::sched_getaffinity;
use spool_dialect::{Hosted, Keeper, Sources};
use spool_proto::time::Timestamp;
use spool_rules::history::Event;
use spool_rules::instance::{End, Instance, Pause, Program, Status};
use spool_rules::limits::Limits;
use spool_rules::value::Value;

fn keeper() -> Keeper {
    let keeper = Keeper::new(env!("CARGO_BIN_EXE_spool").into(), vec!["rules-exec".into()]);
    Keeper { read_within: Duration::from_secs(3), run_within: Duration::from_secs(3), ..keeper }
}

const ENDLESS: &str = "for a in range(1000000):\n        for b in range(1000000):\n            pass";

fn service(action: &str) -> Sources {
    Sources::of(format!(
        "service(name = \"t\", version = \"1\")\ndef act(i):\n    {action}\n    return [result(i.n + 1)]\n\
         rule(name = \"a\", match = [fact(\"input\", as_ = \"i\")], action = act)\n"
    ))
}

fn run(hosted: &mut Hosted) -> Status {
    let set = hosted.read().unwrap_or_else(|problems| panic!("{problems:?}"));
    let mut instance = Instance::new(Arc::new(Program::new(set).unwrap()), Limits::default());
    let input = serde_json::from_str::<Value>(r#"{"n": 20}"#).unwrap();
    instance.step(Timestamp(1), Event::Started { input }, hosted);
    instance.status().clone()
}

fn paused(action: &str) -> Pause {
    let mut hosted = Hosted::new(keeper(), service(action));
    let Status::Paused(pause) = run(&mut hosted) else { panic!("it is ended") };
    // The same keeper goes on with another process.
    let Status::Paused(again) = run(&mut hosted) else { panic!("it is ended again") };
    assert_eq!(again.code, pause.code);
    a_good_one_is_read();
    pause
}

fn a_good_one_is_read() {
    let done = run(&mut Hosted::new(keeper(), service("pass")));
    assert_eq!(done, Status::Ended(End::Done(Value::Int(21))));
}

fn refused(text: &str) -> (String, String) {
    let problems = Hosted::new(keeper(), Sources::of(text)).read().expect_err("it cannot be read");
    a_good_one_is_read();
    (problems[0].code.clone(), problems[0].message.clone())
}

#[test]
fn files_that_take_for_ever_to_read_are_given_up() {
    let (code, message) = refused(&format!("def f():\n    {ENDLESS}\nf()\n"));
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("too_slow", "reading the files took more than 3 s of a processor's time")
    );
}

#[test]
fn files_that_take_all_memory_to_read_are_given_up() {
    for text in [
        "x = 'a' * (1 << 30)\n",
        "x = [0] * (1 << 29)\n",
        "def f():\n    x = 'a'\n    for i in range(40):\n        x = x + x\nf()\n",
    ] {
        let (code, message) = refused(text);
        assert_eq!(code, "too_large", "{text}: {message}");
        assert!(message.contains("memory"), "{text}: {message}");
    }
}

#[test]
fn a_section_that_does_not_end_is_ended() {
    let pause = paused(ENDLESS);
    assert_eq!((pause.code.as_str(), pause.message.contains("3 s")), ("section_too_slow", true), "{pause:?}");
}

/// Of the processes that this thread has started: how many cores each may use.
fn cores_of_sections() -> Vec<u32> {
    let pids = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    let pids = pids.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
    pids.filter_map(|pid| Some(sched_getaffinity(Some(pid)).ok()?.count())).collect()
}

#[test]
fn a_long_section_makes_way_for_others_until_it_is_done() {
    let all = sched_getaffinity(None).unwrap().count();
    let half = all.div_ceil(2);
    let patient = Keeper { run_within: Duration::from_secs(60), ..keeper() };
    let mut hosted =
        Hosted::new(patient, service("for a in range(1000):\n        for b in range(1000):\n            pass"));
    let set = hosted.read().unwrap();
    let run = std::thread::spawn(move || {
        let mut instance = Instance::new(Arc::new(Program::new(set).unwrap()), Limits::default());
        let input = serde_json::from_str::<Value>(r#"{"n": 20}"#).unwrap();
        instance.step(Timestamp(1), Event::Started { input }, &mut hosted);
        (hosted, instance.status().clone())
    });
    let mut seen = Vec::new();
    while !run.is_finished() {
        seen.extend(cores_of_sections());
        std::thread::sleep(Duration::from_millis(5));
    }
    let (_hosted, status) = run.join().unwrap();
    assert_eq!(status, Status::Ended(End::Done(Value::Int(21))));
    assert!(seen.contains(&half) && seen.iter().all(|cores| [half, all].contains(cores)), "{seen:?} of {all}");
    assert_eq!(cores_of_sections(), [all], "the next section has them all again");
}

#[test]
fn a_section_that_takes_all_memory_is_ended() {
    let pause = paused("x = 'a'\n    for n in range(40):\n        x = x + x");
    assert_eq!((pause.code.as_str(), pause.message.contains("memory")), ("section_too_large", true), "{pause:?}");
}

#[test]
fn there_is_no_word_for_files() {
    let (code, message) = refused("x = open('/etc/passwd')\n");
    assert_eq!(code, "raised", "{message}");
    assert!(message.contains("open"), "{message}");
    let (code, message) = refused("load('/etc/passwd', 'root')\n");
    assert_eq!((code.as_str(), message.contains("/etc/passwd")), ("no_file", true), "{message}");
    let (code, _) = refused("load('../../etc/passwd', 'root')\n");
    assert_eq!(code, "no_file");
}

/// The process as a server starts it, once it has answered a first line.
fn started() -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_spool"))
        .arg("rules-exec")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    child.stdin.as_mut().unwrap().write_all(b"no order\n").unwrap();
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert!(line.contains("bad_order"), "{line}");
    (child, output)
}

/// Whatever a fault of the language's crate might let a rule set do: the kernel refuses it.
#[test]
fn the_process_is_locked_in() {
    let (mut child, _output) = started();
    let of = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap();
    let status = of("status");
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim().to_owned();
    assert_eq!((field("Seccomp:"), field("NoNewPrivs:")), ("2".into(), "1".into()));
    assert!(["CapEff:", "CapPrm:"].iter().all(|set| field(set).trim_matches('0').is_empty()), "{status}");
    let limits = of("limits");
    let space = limits.lines().find(|line| line.starts_with("Max address space")).unwrap();
    assert_eq!(space.split_whitespace().filter(|word| *word == "1073741824").count(), 2, "{space}");
    let handles = std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().count();
    assert_eq!(handles, 3, "stdin, stdout, stderr");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn it_goes_when_its_starter_goes_whatever_it_does() {
    let (mut child, _output) = started();
    let text = format!("def f():\n    {ENDLESS}\nf()\n");
    let order = serde_json::json!({ "read": { "main.star": text } });
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{order}").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it reads for ever");
    drop(input);
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(since.elapsed() < Duration::from_secs(5), "its pipe is closed and it goes on");
        std::thread::sleep(Duration::from_millis(10));
    }
}
