//! Executors as processes: what they answer, and what becomes of them when they misbehave.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use spool_proto::call::{Args, Call, ProbeArgs, Value};
use spool_proto::failure::{Class, Failure};
use spool_worker::executor::{Executor, ExecutorOptions, Executors, Input, Job, Limits, Sandbox, Stops, Unanswered};
use spool_worker::stores::Stores;
use tokio::sync::watch;

mod common;
use common::test_worker;

struct Bench {
    dir: tempfile::TempDir,
    executors: Executors,
    stop: watch::Sender<Stops>,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        Bench { executors: Executors::new(options, 1), dir, stop: watch::Sender::new(Stops::NONE) }
    }

    fn script(&self, script: &str) -> Vec<Input> {
        let path = self.dir.path().join(format!("{script}.script"));
        std::fs::write(&path, script).unwrap();
        let inputs = vec![spool_proto::uri::from_path(&path)];
        Input::of(&Call { inputs, output_prefix: String::new(), source_version: None, args: probe() })
    }

    fn scratch(&self) -> PathBuf {
        let path = self.dir.path().join("call");
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    async fn call(&self, script: &str, limits: Limits) -> Result<spool_worker::executor::CallOutput, Unanswered> {
        let scratch = self.scratch();
        let inputs = self.script(script);
        let args = serde_json::to_vec(&probe()).unwrap();
        let stop = self.stop.subscribe();
        let stores = Stores::default();
        let job = Job {
            position: 0,
            args: &args,
            inputs: &inputs,
            stores: &stores,
            scratch: Some(&scratch),
            limits,
            progress: None,
        };
        self.executors.call(job, stop).await
    }

    async fn failure(&self, script: &str, limits: Limits) -> Failure {
        match self.call(script, limits).await {
            Err(Unanswered::Failed(failure)) => failure,
            other => panic!("{script}: {other:?}"),
        }
    }
}

fn options(dir: &Path) -> ExecutorOptions {
    ExecutorOptions {
        program: test_worker(),
        args: vec!["exec".into()],
        directory: dir.to_owned(),
        sandbox: Sandbox::default(),
    }
}

fn probe() -> Args {
    Args::Probe(ProbeArgs { index_for: None, crop_bars: false })
}

fn units(value: &Value) -> u64 {
    match value {
        Value::Track(manifest) => manifest.units,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_call_answers_with_its_files_progress_and_memory() {
    let bench = Bench::new();
    let output = bench.call("write 1000", Limits::default()).await.unwrap();
    assert_eq!(units(&output.value), 1000);
    assert_eq!(output.warnings[0].text, "write");
    assert_eq!(output.files.len(), 1);
    assert_eq!(std::fs::metadata(&output.files[0].path).unwrap().len(), 1000);
    assert!(bench.scratch().join("litter").exists(), "the working directory is the call's scratch");
    assert!(output.peak_memory_bytes > 1 << 20, "{}", output.peak_memory_bytes);
    let output = bench.call("work 50", Limits::default()).await.unwrap();
    assert_eq!(output.advance.bytes, 7);
    assert!(output.advance.frames >= 40, "the last progress is told, not the last sent: {:?}", output.advance);
}

#[tokio::test]
async fn death_by_a_signal_is_internal_with_the_evidence_and_the_next_call_works() {
    let bench = Bench::new();
    for (script, signal, words) in [
        ("abort", "SIGABRT", "about to abort"),
        ("segv", "SIGSEGV", "about to touch what is not there"),
        ("panic", "exit status 101", "a function that panics"),
    ] {
        let failure = bench.failure(script, Limits::default()).await;
        assert_eq!((failure.class, failure.code.as_str()), (Class::Internal, "executor_died"), "{script}");
        assert!(failure.message.contains(signal), "{failure}");
        assert!(failure.evidence.contains(words), "{script}: {}", failure.evidence);
    }
    bench.call("work 1", Limits::default()).await.unwrap();
}

#[tokio::test]
async fn limits_kill() {
    let bench = Bench::new();
    let ms = Duration::from_millis;
    let cases = [
        ("hang", Limits { timeout: ms(200), ..Limits::default() }, Class::Capacity, "timed_out"),
        ("hang", Limits { no_progress: ms(200), ..Limits::default() }, Class::Internal, "no_progress"),
        (
            "eat 400",
            Limits { memory_mib: 150, no_progress: ms(10_000), timeout: ms(30_000), ..Limits::default() },
            Class::Capacity,
            "memory_exceeded",
        ),
    ];
    for (script, limits, class, code) in cases {
        let begin = Instant::now();
        let failure = bench.failure(script, limits).await;
        assert_eq!((failure.class, failure.code.as_str()), (class, code));
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
    let memory = bench.failure("eat 400", Limits { memory_mib: 150, ..Limits::default() }).await;
    assert!(memory.message.contains("150 MiB"), "{memory}");
}

#[tokio::test]
async fn a_call_that_tells_of_progress_is_not_stuck() {
    let bench = Bench::new();
    let limits = Limits { no_progress: Duration::from_millis(400), ..Limits::default() };
    assert_eq!(units(&bench.call("work 1200", limits).await.unwrap().value), 1200);
}

#[tokio::test]
async fn a_stopped_call_is_killed_at_once() {
    let bench = Bench::new();
    let begin = Instant::now();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        bench.stop.send_replace(Stops::ALL);
    };
    let (ended, ()) = tokio::join!(bench.call("hang", Limits::default()), stop);
    assert!(matches!(ended, Err(Unanswered::Stopped)), "{ended:?}");
    assert!(begin.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_failure_of_the_function_keeps_the_executor_warm() {
    let dir = tempfile::tempdir().unwrap();
    let mut executor = Executor::spawn(&options(dir.path())).await.unwrap();
    let scratch = dir.path().join("call");
    std::fs::create_dir(&scratch).unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, "fail").unwrap();
    let call = Call {
        inputs: vec![spool_proto::uri::from_path(&script)],
        output_prefix: String::new(),
        source_version: None,
        args: probe(),
    };
    let (_stop, stop) = watch::channel(Stops::NONE);
    let args = serde_json::to_vec(&probe()).unwrap();
    for _ in 0..3 {
        let job = Job {
            position: 0,
            args: &args,
            inputs: &Input::of(&call),
            stores: &Stores::default(),
            scratch: Some(&scratch),
            limits: Limits::default(),
            progress: None,
        };
        let failed = Unanswered::Failed(Failure::new(Class::Input, "scripted", "the script said so"));
        assert_eq!(executor.call(job, stop.clone()).await.unwrap_err(), failed);
        assert!(executor.is_usable());
    }
}

#[tokio::test]
async fn an_executor_that_died_idle_is_replaced() {
    let bench = Bench::new();
    bench.call("die-later 20", Limits::default()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    bench.call("work 1", Limits::default()).await.unwrap();
}

#[tokio::test]
async fn a_missing_input_fails_the_call_with_its_own_failure() {
    let bench = Bench::new();
    let uri = spool_proto::uri::from_path(&bench.dir.path().join("gone.mov"));
    let inputs =
        Input::of(&Call { inputs: vec![uri], output_prefix: String::new(), source_version: None, args: probe() });
    let job = Job {
        position: 0,
        args: &serde_json::to_vec(&probe()).unwrap(),
        inputs: &inputs,
        stores: &Stores::default(),
        scratch: Some(&bench.scratch()),
        limits: Limits::default(),
        progress: None,
    };
    let Err(Unanswered::Failed(failure)) = bench.executors.call(job, bench.stop.subscribe()).await else { panic!() };
    assert_eq!((failure.class, failure.code.as_str()), (Class::Input, "source_missing"));
    assert!(failure.message.contains("gone.mov"));
}

#[tokio::test]
async fn an_executor_cannot_name_files_outside_its_scratch_nor_see_secrets() {
    let bench = Bench::new();
    let failure = bench.failure("escape", Limits::default()).await;
    assert_eq!((failure.class, failure.code.as_str()), (Class::Internal, "executor_protocol"));
    let environment = bench.failure("environment", Limits::default()).await;
    let known = [
        "PATH",
        "LD_LIBRARY_PATH",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "RUST_LOG",
        "RUST_BACKTRACE",
        "SVT_LOG",
        "SPOOL_SANDBOX",
        "",
    ];
    let mut ours = std::env::vars_os();
    assert!(ours.any(|(name, _)| known.iter().all(|known| name != *known)), "this process has something to hide");
    for name in environment.message.split(' ') {
        assert!(known.contains(&name), "{name}");
    }
}

#[tokio::test]
async fn backends_are_proved_or_not() {
    let bench = Bench::new();
    let within = Duration::from_secs(10);
    bench.executors.golden("cpu/good", within).await.unwrap();
    assert_eq!(bench.executors.golden("cpu/none", within).await.unwrap_err().code, "no_such_encoder");
    assert_eq!(bench.executors.golden("cpu/crash", within).await.unwrap_err().code, "executor_died");
}

#[tokio::test]
async fn what_is_no_executor_is_refused_with_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let sh = ExecutorOptions {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), "echo broken library >&2; exit 9".into()],
        directory: dir.path().into(),
        sandbox: Sandbox::default(),
    };
    let failure = Executor::spawn(&sh).await.unwrap_err();
    assert_eq!((failure.class, failure.code.as_str()), (Class::Host, "executor_start_failed"));
    assert!(failure.message.contains("exit status 9"), "{failure}");
    assert_eq!(failure.evidence, "broken library");
    let missing = ExecutorOptions { program: "/no/such".into(), ..sh };
    assert_eq!(Executor::spawn(&missing).await.unwrap_err().code, "executor_start_failed");
}

#[tokio::test]
async fn a_call_without_a_server_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, "work 10").unwrap();
    let scratch = dir.path().join("scratch");
    let options = spool_worker::local::LocalOptions {
        program: test_worker(),
        args: vec!["exec".into()],
        scratch: scratch.clone(),
        limits: Limits::default(),
        sandbox: Sandbox::default(),
    };
    let call = Call {
        inputs: vec![spool_proto::uri::from_path(&script)],
        output_prefix: String::new(),
        source_version: None,
        args: probe(),
    };
    let answer = spool_worker::local::call(options, &call, std::sync::Arc::new(|_| {})).await.unwrap();
    assert_eq!(units(&answer.value), 10);
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);
}

#[tokio::test]
async fn executors_answer_no_op_calls_by_the_thousand() {
    let dir = tempfile::tempdir().unwrap();
    let figures = spool_worker::bench::exec(&options(dir.path()), 2, 2001).await.unwrap();
    assert_eq!((figures.executors, figures.calls), (2, 2001));
    assert!(figures.calls_per_second > 500.0, "{figures:?}");
    assert!(figures.latency_p50_us <= figures.latency_p99_us);
}

#[tokio::test]
async fn warm_and_cold_starts_are_measured_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (warm, cold) = spool_worker::bench::starts(options(dir.path()), "media.encode/cpu/good", 5).await.unwrap();
    for starts in [&warm, &cold] {
        assert_eq!((starts.start_us.len(), starts.done_us.len()), (5, 5));
        assert!(starts.start_us.iter().zip(&starts.done_us).all(|(start, done)| start <= done), "{starts:?}");
    }
    assert!(warm.start_us.iter().min() < cold.start_us.iter().min(), "{warm:?} {cold:?}");
}
