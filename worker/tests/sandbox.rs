//! Executors that try to get out, or to take more than is theirs: what holds them, and that the worker goes on.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::os::fd::AsFd;
use std::path::PathBuf;

use spool_proto::call::{Args, Call, ProbeArgs};
use spool_proto::failure::{Class, Failure};
use spool_worker::executor::{
    CallOutput, Executor, ExecutorOptions, Executors, Input, Job, Limits, Sandbox, Stops, Unanswered,
};
use tokio::sync::watch;

mod common;
use common::test_worker;

/// A worker's scratch with one executor, and a file beside it that is none of its business.
struct Cell {
    dir: tempfile::TempDir,
    executors: Executors,
    _stop: watch::Sender<Stops>,
    stop: watch::Receiver<Stops>,
}

impl Cell {
    fn new(sandbox: Sandbox) -> Cell {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("scratch")).unwrap();
        std::fs::write(dir.path().join("secret"), b"a secret").unwrap();
        let (_stop, stop) = watch::channel(Stops::NONE);
        Cell { executors: Executors::new(options(dir.path().join("scratch"), sandbox), 1), dir, _stop, stop }
    }

    async fn call(&self, script: &str, limits: Limits) -> Result<CallOutput, Unanswered> {
        let path = self.dir.path().join("script");
        std::fs::write(&path, script).unwrap();
        let scratch = self.dir.path().join("scratch/call-0");
        std::fs::create_dir_all(&scratch).unwrap();
        let args = Args::Probe(ProbeArgs { index_for: None, crop_bars: false });
        let inputs = vec![spool_proto::uri::from_path(&path)];
        let inputs =
            Input::of(&Call { inputs, output_prefix: String::new(), source_version: None, args: args.clone() });
        let args = serde_json::to_vec(&args).unwrap();
        let stores = spool_worker::stores::Stores::default();
        let job = Job {
            position: 0,
            args: &args,
            inputs: &inputs,
            stores: &stores,
            scratch: Some(&scratch),
            limits,
            progress: None,
        };
        let output = self.executors.call(job, self.stop.clone()).await;
        assert!(scratch.is_dir(), "the call's scratch is back, however it ended");
        std::fs::remove_dir_all(scratch).unwrap();
        output
    }

    async fn failure(&self, script: &str, limits: Limits) -> Failure {
        match self.call(script, limits).await {
            Err(Unanswered::Failed(failure)) => failure,
            other => panic!("{script}: {other:?}"),
        }
    }

    async fn goes_on(&self) {
        self.call("work 1", Limits::default()).await.unwrap();
    }
}

fn options(directory: PathBuf, sandbox: Sandbox) -> ExecutorOptions {
    ExecutorOptions { program: test_worker(), args: vec!["exec".into()], directory, sandbox }
}

/// True where this kernel has all of it; told where not, as most of these tests say nothing then.
async fn is_whole(cell: &Cell) -> bool {
    let walls = cell.executors.walls().await.unwrap();
    if !walls.is_whole() {
        eprintln!("skipped: {walls}");
    }
    walls.is_whole()
}

#[tokio::test]
async fn every_way_out_is_refused() {
    let cell = Cell::new(Sandbox::BestEffort);
    if !is_whole(&cell).await {
        return;
    }
    let outside = cell.dir.path().display().to_string();
    let tried = cell.failure(&format!("get-out 0 {outside}"), Limits::default()).await;
    assert_eq!(tried.code, "tried", "{tried}");
    let lines: Vec<&str> = tried.message.lines().collect();
    assert_eq!(lines.len(), 31, "{tried}");
    for line in lines {
        let held = if line.starts_with("(allowed)") { "done" } else { "PermissionDenied" };
        assert_eq!(line.rsplit(": ").next(), Some(held), "{line}");
    }
    assert_eq!(std::fs::read(cell.dir.path().join("secret")).unwrap(), b"a secret");
    assert!(!cell.dir.path().join("planted").exists());
    cell.goes_on().await;
}

/// What the test of the walls would see without them: the same attempts, and they succeed.
#[tokio::test]
async fn without_the_sandbox_the_ways_out_are_open() {
    let cell = Cell::new(Sandbox::Off);
    let walls = cell.executors.walls().await.unwrap();
    assert!(!walls.is_whole() && !walls.files && walls.missing[0].contains("--sandbox off"), "{walls}");
    let outside = cell.dir.path().join("none").display().to_string();
    let tried = cell.failure(&format!("get-out 0 {outside}"), Limits::default()).await;
    for open in ["read a file of the system", "make a TCP socket", "run a program", "make a symbolic link"] {
        assert!(tried.message.contains(&format!("{open}: done")), "{tried}");
    }
}

#[tokio::test]
async fn what_is_required_and_missing_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let whole = is_whole(&Cell::new(Sandbox::BestEffort)).await;
    let required = Executor::spawn(&options(dir.path().into(), Sandbox::Require)).await;
    match (whole, required) {
        (true, Ok(executor)) => assert!(executor.walls().is_whole()),
        (false, Err(failure)) => {
            assert_eq!((failure.class, failure.code.as_str()), (Class::Host, "sandbox_incomplete"))
        }
        (_, other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn handles_that_the_worker_was_started_with_are_not_passed_on() {
    let cell = Cell::new(Sandbox::BestEffort);
    let secret = std::fs::File::open(cell.dir.path().join("secret")).unwrap();
    // As one that whoever started this process left open: not closed when another program starts.
    rustix::io::fcntl_setfd(secret.as_fd(), rustix::io::FdFlags::empty()).unwrap();
    assert!(!handles(&cell).await.contains("secret"));
    // Or the test sees nothing.
    assert!(handles(&Cell::new(Sandbox::Off)).await.contains("secret"));
}

/// What an executor has open, a line each.
async fn handles(cell: &Cell) -> String {
    let pid = cell.failure("pid", Limits::default()).await.message;
    let list = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = list.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.map(|target| target.display().to_string() + "\n").collect()
}

#[tokio::test]
async fn a_gulp_of_memory_is_refused_before_the_watch_sees_it() {
    let cell = Cell::new(Sandbox::BestEffort);
    let limits = Limits { memory_mib: 64, ..Limits::default() };
    // Far more than any machine of this test has: were it given, the machine would be in trouble.
    let failure = cell.failure("gulp 1000000", limits).await;
    assert_eq!((failure.class, failure.code.as_str()), (Class::Capacity, "memory_exceeded"), "{failure}");
    assert!(failure.evidence.contains("memory allocation of"), "{}", failure.evidence);
    // What is given, and more than was declared, is the watch's.
    let failure = cell.failure("gulp 700", limits).await;
    assert_eq!((failure.class, failure.code.as_str()), (Class::Capacity, "memory_exceeded"), "{failure}");
    assert!(failure.message.contains("64 MiB"), "{failure}");
    cell.goes_on().await;
}

#[tokio::test]
async fn a_file_without_end_ends_at_what_was_declared() {
    let cell = Cell::new(Sandbox::BestEffort);
    let limits = Limits { scratch_mib: 8, ..Limits::default() };
    let failure = cell.failure("flood", limits).await;
    assert_eq!((failure.class, failure.code.as_str()), (Class::Capacity, "scratch_exceeded"), "{failure}");
    cell.goes_on().await;
}
