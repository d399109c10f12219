//! `spool encode` and what looks at its result.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{film, run, spool, stderr, stdout};

#[test]
fn json_prints_the_finished_job_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    film(&dir.path().join("in.mp4"));
    let line =
        ["encode", "in.mp4", "-o", "out.mkv", "-crf", "30", "-preset", "ultrafast", "--json", "--progress", "json"];
    let output = run(dir.path(), &line);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let job: Value = serde_json::from_slice(&output.stdout).expect("stdout is one JSON value");
    assert_eq!((&job["state"], &job["output"]["frames"]), (&"done".into(), &48.into()));
    let phases: Vec<&str> =
        job["phases"].as_array().expect("phases").iter().filter_map(|p| p["name"].as_str()).collect();
    assert_eq!(phases, ["probing", "planning", "encoding", "assembling", "validating", "packaging"]);
    let chunk = &job["output"]["chunks"][0];
    assert_eq!((&chunk["frames"], &chunk["attempt"]), (&48.into(), &1.into()));
    assert!(chunk["hash"].as_str().is_some_and(|hash| hash.len() == 64), "{chunk}");
    let path = job["output"]["path"].as_str().expect("a local film has a path");
    assert_eq!(fs::metadata(path).expect("the film is there").len(), job["output"]["bytes"]);
    let lines: Vec<Value> =
        stderr(&output).lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    let last = lines.last().expect("progress was told");
    assert_eq!((&last["progress"], &last["frame"]), (&"end".into(), &48.into()));
    assert_eq!(last["out_time_us"], 2_000_000);
    assert!(fs::read_dir(dir.path().join("spool/encode")).expect("read").next().is_none(), "the run's folder stayed");
}

#[test]
fn an_interrupted_run_ends_with_130_and_the_same_command_finishes_it() {
    let dir = tempfile::tempdir().expect("a directory");
    film(&dir.path().join("in.mp4"));
    let line = [
        "encode",
        "-i",
        "in.mp4",
        "out.mp4",
        "-vf",
        "scale=640:-2",
        "-preset",
        "medium",
        "-crf",
        "1",
        "--progress",
        "plain",
    ];
    let child =
        spool(dir.path()).current_dir(dir.path()).args(line).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let child = child.expect("the binary starts");
    let runs = dir.path().join("spool/encode");
    let begun = Instant::now();
    let folder = loop {
        let folder = fs::read_dir(&runs).ok().and_then(|mut runs| runs.next()?.ok()).map(|run| run.path());
        match folder.filter(|folder| folder.join("artifacts/j1").exists()) {
            Some(folder) => break folder,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "the run never began");
    };
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("the same command resumes"), "{}", stderr(&output));
    assert!(folder.join("spool.db").exists() && !dir.path().join("out.mp4").exists());
    let output = run(dir.path(), &line);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("j1 "), "another job was made: {}", stderr(&output));
    assert!(dir.path().join("out.mp4").exists() && !folder.exists());
}

#[test]
fn a_film_that_is_none_fails_with_1_and_its_class() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("in.mp4"), vec![7u8; 20_000]).expect("written");
    let output = run(dir.path(), &["encode", "in.mp4", "-o", "out.mp4"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("(input: "), "{}", stderr(&output));
    assert!(!dir.path().join("out.mp4").exists());
}

#[test]
fn probe_and_doctor_tell_what_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    film(&dir.path().join("in.mp4"));
    let output = run(dir.path(), &["probe", "in.mp4", "-json"]);
    let facts: Value = serde_json::from_str(&stdout(&output)).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
    assert_eq!((&facts["streams"][0]["media"]["width"], &facts["streams"][1]["codec"]), (&160.into(), &"aac".into()));
    let output = run(dir.path(), &["doctor", "--json"]);
    let findings: Vec<Value> = serde_json::from_str(&stdout(&output)).expect("JSON");
    let verdict = |what: &str| findings.iter().find(|f| f["what"] == what).map(|f| f["verdict"].clone());
    assert_eq!((verdict("cpu/libx264"), verdict("data")), (Some("ok".into()), Some("ok".into())));
}
