//! `spool ffmpeg`, and Spool called by ffmpeg's name.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::{film, run, spool, stderr, stdout};

/// Runs `program` in `dir`, with its links before the rest of `PATH`.
fn call(dir: &Path, program: &str, line: &str) -> Output {
    let path = format!("{}:{}", dir.join("bin").display(), std::env::var("PATH").expect("a PATH"));
    let mut command = Command::new(program);
    command.current_dir(dir).args(line.split_whitespace()).stdin(Stdio::null());
    command.env("XDG_DATA_HOME", dir.join("xdg")).env("PATH", path);
    for name in ["SPOOL_SERVER", "SPOOL_FFMPEG", "SPOOL_FFMPEG_MODE", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.output().expect("the program starts")
}

/// A directory with a film, and Spool linked in it as `bin/ffmpeg`.
fn linked() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    film(&dir.path().join("in.mp4"));
    fs::create_dir(dir.path().join("bin")).expect("made");
    let link = dir.path().join("bin/ffmpeg");
    symlink(env!("CARGO_BIN_EXE_spool"), &link).expect("linked");
    let link = link.to_str().expect("text").to_owned();
    (dir, link)
}

fn frames(dir: &Path, film: &str) -> String {
    let output = call(dir, &real(), &format!("-v error -i {film} -map 0:v -f framemd5 -"));
    assert!(output.status.success(), "{film}: {}", stderr(&output));
    stdout(&output)
}

fn real() -> String {
    let path = std::env::var_os("PATH").expect("a PATH");
    let found = std::env::split_paths(&path).map(|folder| folder.join("ffmpeg")).find(|path| path.is_file());
    found.expect("ffmpeg is installed").to_str().expect("text").to_owned()
}

#[test]
fn by_ffmpegs_name_spool_makes_the_frames_that_ffmpeg_makes() {
    let (dir, link) = linked();
    let dir = dir.path();
    let long =
        "-v error -f lavfi -i testsrc2=s=160x90:r=24:d=20 -f lavfi -i sine=d=20 -preset ultrafast -g 24 long.mp4";
    assert!(call(dir, &real(), long).status.success());
    for (number, (options, container)) in [
        ("-c:v libx264 -crf 0 -preset ultrafast -c:a aac -movflags +faststart", "mp4"),
        ("-crf 0 -preset ultrafast -vf scale=128:-2 -r 12 -ss 1.5 -t 9 -an", "mkv"),
        ("-vcodec libx264 -crf 0 -preset ultrafast -map 0:v -map 0:a -acodec libopus -s 128x72", "mkv"),
    ]
    .into_iter()
    .enumerate()
    {
        let line = |out: &str| format!("-v error -y -i long.mp4 {options} {out}");
        let (ours, theirs) = (format!("ours{number}.{container}"), format!("theirs{number}.{container}"));
        let explained = call(dir, &link, &format!("--explain=json {}", line(&ours)));
        let explained: Value = serde_json::from_slice(&explained.stdout).expect("JSON");
        assert_eq!((&explained["decision"], &explained["source_looked_at"]), (&"split".into(), &true.into()));
        let output = call(dir, &link, &line(&ours));
        assert_eq!((output.status.code(), &*stderr(&output)), (Some(0), ""), "{options}");
        assert!(call(dir, &real(), &line(&theirs)).status.success());
        let (ours, theirs) = (frames(dir, &ours), frames(dir, &theirs));
        assert!(theirs.lines().count() > 100, "{theirs}");
        assert_eq!(ours, theirs, "{options}");
    }
}

#[test]
fn what_is_not_modelled_is_done_by_the_local_ffmpeg_to_the_byte() {
    let (dir, link) = linked();
    let dir = dir.path();
    for line in [
        "-v error -i in.mp4 -c copy -f framemd5 -",
        "-v error -i in.mp4 -filter_complex hflip -f framemd5 pipe:1",
        "-hide_banner -encoders",
        "-v error -i in.mp4 -c:v nosuch out.mp4",
        "-v error -nosuch 1",
        "-v error -i none.mp4 -c copy out.mp4",
    ] {
        let (ours, theirs) = (call(dir, &link, line), call(dir, &real(), line));
        assert_eq!(ours.status.code(), theirs.status.code(), "{line}");
        assert_eq!((stdout(&ours), stderr(&ours)), (stdout(&theirs), stderr(&theirs)), "{line}");
    }
    let output = call(dir, env!("CARGO_BIN_EXE_spool"), "ffmpeg -v error -i in.mp4 -map 0 -c copy copy.mkv");
    assert_eq!((output.status.code(), dir.join("copy.mkv").exists()), (Some(0), true), "{}", stderr(&output));
}

#[test]
fn progress_has_ffmpegs_line_and_keys() {
    let (dir, link) = linked();
    let dir = dir.path();
    let line = |out: &str| format!("-y -i in.mp4 -c:v libx264 -preset ultrafast -progress pipe:1 {out}");
    let (ours, theirs) = (call(dir, &link, &line("out.mp4")), call(dir, &real(), &line("theirs.mp4")));
    let last = |output: &Output| {
        let text = stdout(output);
        let block = text.trim_end().rsplit("progress=continue\n").next().unwrap_or_default().to_owned();
        let pairs = block.lines().map(|line| line.split_once('=').expect("key=value"));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<Vec<_>>()
    };
    let keys = |output: &Output| last(output).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys(&ours), keys(&theirs), "{}", stdout(&ours));
    let value = |key: &str| last(&ours).into_iter().find(|(own, _)| own == key).expect(key).1;
    assert_eq!((&*value("frame"), &*value("progress")), ("48", "end"));
    assert_eq!(value("total_size"), fs::metadata(dir.join("out.mp4")).expect("written").len().to_string());
    let told = stderr(&ours);
    assert!(told.contains("  Duration: 00:00:02.0") && told.contains("frame=   48 fps="), "{told}");
    assert!(told.contains("Lsize=") && told.contains("time=00:00:02.") && told.contains("kbits/s speed="), "{told}");
    let quiet = call(dir, &link, "-y -nostats -v warning -i in.mp4 -preset ultrafast -progress log.txt out.mp4");
    assert_eq!((stderr(&quiet), stdout(&quiet)), (String::new(), String::new()));
    assert!(fs::read_to_string(dir.join("log.txt")).expect("written").ends_with("progress=end\n"));
}

#[test]
fn outputs_that_exist_and_inputs_that_do_not_end_as_with_ffmpeg() {
    let (dir, link) = linked();
    let dir = dir.path();
    fs::write(dir.join("out.mp4"), b"kept").expect("written");
    // Of ffmpeg's words the last line is compared: before it stand its banner and the streams.
    for line in [
        "-i none.mp4 out.mp4",
        "-n -i in.mp4 out.mp4",
        "-nostdin -i in.mp4 out.mp4",
        "-i in.mp4 out.mp4",
        "-y -n -i in.mp4 out.mp4",
        "-y -i in.mp4 in.mp4",
        "-y -i in.mp4 none/out.mp4",
        "-v quiet -n -i in.mp4 out.mp4",
    ] {
        let (ours, theirs) = (call(dir, &link, line), call(dir, &real(), line));
        let last = |output: &Output| stderr(output).lines().last().map(str::to_owned);
        assert_eq!((ours.status.code(), last(&ours)), (theirs.status.code(), last(&theirs)), "{line}");
        assert_eq!(ours.status.code(), Some(1), "{line}");
        assert_eq!(fs::read(dir.join("out.mp4")).expect("there"), b"kept", "{line}");
    }
}

#[test]
fn a_link_to_spool_is_never_taken_for_the_local_ffmpeg() {
    let (dir, link) = linked();
    let alone = |named: Option<&str>| {
        let mut command = spool(dir.path());
        command.args(["ffmpeg", "-version"]).env("PATH", dir.path().join("bin"));
        named.map(|named| command.env("SPOOL_FFMPEG", named));
        command.output().expect("it starts")
    };
    let output = alone(None);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no other ffmpeg is in PATH"), "{}", stderr(&output));
    let output = alone(Some(&link));
    assert!(stderr(&output).contains("which is Spool"), "{}", stderr(&output));
    assert!(stdout(&alone(Some(&real()))).starts_with("ffmpeg version"));
    // A script that leads back here is tried once.
    fs::remove_file(&link).expect("removed");
    fs::write(&link, format!("#!/bin/sh\nexec {} ffmpeg \"$@\"\n", env!("CARGO_BIN_EXE_spool"))).expect("written");
    fs::set_permissions(&link, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let output = alone(None);
    assert!(stderr(&output).contains("no other ffmpeg is in PATH"), "{}", stderr(&output));
}

#[test]
fn an_interrupted_run_ends_with_255_and_leaves_no_film() {
    let (dir, link) = linked();
    let dir = dir.path();
    let mut command = Command::new(&link);
    command.current_dir(dir).env("XDG_DATA_HOME", dir.join("xdg")).env_remove("SPOOL_SERVER").env_remove("RUST_LOG");
    command.args("-i in.mp4 -vf scale=1280:-2 -preset veryslow -crf 1 -progress pipe:1 out.mp4".split(' '));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let runs = dir.join("xdg/spool/encode");
    let begun = std::time::Instant::now();
    let is_begun = |run: &fs::DirEntry| run.path().join("artifacts/j1").exists();
    while !fs::read_dir(&runs).is_ok_and(|runs| runs.flatten().any(|run| is_begun(&run))) {
        assert!(begun.elapsed().as_secs() < 60, "the run never began");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(255), "{}", stderr(&output));
    assert!(stdout(&output).ends_with("progress=end\n") && !dir.join("out.mp4").exists());
}

#[test]
fn explain_runs_nothing_and_names_the_option() {
    let (dir, _) = linked();
    for (line, first, says) in [
        ("ffmpeg -i in.mp4 -crf 21 out.mp4 --explain", "split: ", "spool encode -i in.mp4 -o out.mp4 --crf=21 --sn"),
        ("ffmpeg --explain -i in.mp4 -b:v 1M out.mp4", "whole: ", "because -b:v"),
        ("ffmpeg --explain -i in.mp4 -shortest out.mp4", "local: ", "because -shortest is not modelled"),
        ("ffmpeg --explain -i in.mp4 out.mkv", "local: ", "Vorbis"),
        ("ffmpeg --explain -i none.mp4 out.mp4", "split: ", "none.mp4 could not be looked at"),
    ] {
        let output = run(dir.path(), &line.split(' ').collect::<Vec<_>>());
        let text = stdout(&output);
        assert_eq!((output.status.code(), &*stderr(&output)), (Some(0), ""), "{line}");
        assert!(text.starts_with(first) && text.contains(says), "{line}: {text}");
    }
    assert!(!dir.path().join("out.mp4").exists());
    let help = run(dir.path(), &["ffmpeg", "--help"]);
    assert!(stdout(&help).contains("SPOOL_FFMPEG_MODE"), "{}", stdout(&help));
}
