//! `spool quality`, and what `spool encode --quality` leaves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::{film, run, spool, stderr, stdout};

/// A folder with `a.mp4` and `b.mp4`, which is a.mp4 encoded worse.
fn two_films() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    film(&dir.path().join("a.mp4"));
    worse(dir.path(), "b.mp4", &[]);
    dir
}

fn worse(folder: &Path, name: &str, options: &[&str]) {
    let made = Command::new("ffmpeg")
        .current_dir(folder)
        .args(["-v", "error", "-y", "-i", "a.mp4", "-an", "-c:v", "libx264", "-crf", "40", "-preset", "ultrafast"])
        .args(options)
        .arg(name)
        .status();
    assert!(made.expect("ffmpeg is installed").success());
}

/// No scorer: Debian's ffmpeg has none, but the machine may have another.
fn quality(folder: &Path, args: &[&str]) -> Output {
    spool(folder)
        .current_dir(folder)
        .env("SPOOL_SCORER", "/nowhere")
        .arg("quality")
        .args(args)
        .output()
        .expect("it runs")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("written")).expect("JSON")
}

#[test]
fn two_films_are_scored_shown_and_reported() {
    let dir = two_films();
    let args = ["a.mp4", "b.mp4", "--metrics", "psnr,ssim", "--report", "r.json", "--svg", "r.svg"];
    let output = quality(dir.path(), &args);
    assert!(output.status.success(), "{}", stderr(&output));
    let shown = stdout(&output);
    for part in ["reference  a.mp4, 160x90, yuv420p", "frames     48", "psnr (dB)", "ssim ", "MEAN", "P50"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let report = json(&dir.path().join("r.json"));
    assert_eq!(report["frames"], 48);
    assert_eq!(report["per_frame"].as_array().map(Vec::len), Some(48));
    let ssim = report["scores"][1]["mean"].as_f64().expect("a score");
    assert!(ssim > 0.3 && ssim < 0.999, "{ssim}");
    let chart = fs::read_to_string(dir.path().join("r.svg")).expect("drawn");
    assert!(chart.starts_with("<svg") && chart.contains("PSNR, dB") && chart.contains("1 s</text>"), "{chart}");
    let again = quality(dir.path(), &["a.mp4", "b.mp4", "--metrics", "psnr,ssim", "--json"]);
    let summary: Value = serde_json::from_slice(&again.stdout).expect("JSON");
    assert_eq!(summary["scores"], report["scores"]);
    assert!(summary.get("per_frame").is_none());
}

#[test]
fn a_missed_threshold_ends_with_1_and_says_by_what() {
    let dir = two_films();
    let metrics = ["a.mp4", "b.mp4", "--metrics", "ssim"];
    let missed = quality(dir.path(), &[&metrics[..], &["--min", "ssim=0.1", "--min", "ssim.min=0.9999"]].concat());
    assert_eq!(missed.status.code(), Some(1));
    assert!(stderr(&missed).contains("ssim min is 0."), "{}", stderr(&missed));
    assert!(stdout(&missed).contains("ssim"), "the table is shown all the same");
    let reached = quality(dir.path(), &[&metrics[..], &["--min", "ssim=0.1"]].concat());
    assert_eq!(reached.status.code(), Some(0), "{}", stderr(&reached));
}

#[test]
fn films_of_unequal_length_are_refused_unless_asked() {
    let dir = two_films();
    worse(dir.path(), "short.mp4", &["-frames:v", "30"]);
    let refused = quality(dir.path(), &["a.mp4", "short.mp4", "--metrics", "psnr"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("48 frames, the distorted film 30"), "{}", stderr(&refused));
    let taken = quality(dir.path(), &["a.mp4", "short.mp4", "--metrics", "psnr", "--shortest"]);
    assert!(taken.status.success(), "{}", stderr(&taken));
    assert!(stderr(&taken).contains("warning: ") && stdout(&taken).contains("frames     30"));
}

/// A program that talks as an ffmpeg with libvmaf does, and keeps what it was called with in `called`.
fn fake_scorer(folder: &Path, frames: &str) -> PathBuf {
    let path = folder.join("scorer");
    let script = format!(
        r#"#!/bin/sh
case "$*" in
*-filters*) echo " ... libvmaf           VV->V      Calculate the VMAF between two video streams."; exit 0;;
*-version*) echo "ffmpeg version fake-1 Copyright"; exit 0;;
esac
printf '%s\n' "$@" > '{}/called'
{{ printf '{{"version":"fake","frames":['; i=0
while [ $i -lt {frames} ]; do [ $i = 0 ] || printf ,; printf '{{"frameNum":%d,"metrics":{{"vmaf":%d.5}}}}' $i $((50 + i)); i=$((i + 1)); done
printf ']}}'; }} > vmaf.json
"#,
        folder.display()
    );
    fs::write(&path, script).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made executable");
    path
}

fn scored_by(scorer: &Path, folder: &Path, args: &[&str]) -> Output {
    spool(folder).current_dir(folder).env("SPOOL_SCORER", scorer).arg("quality").args(args).output().expect("it runs")
}

#[test]
fn vmaf_comes_from_a_scorer_where_one_is_named() {
    let dir = two_films();
    let scorer = fake_scorer(dir.path(), "10");
    let output = scored_by(&scorer, dir.path(), &["a.mp4", "b.mp4", "--frames", "20..30", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let vmaf = &report["scores"][2];
    assert_eq!((&vmaf["metric"], &vmaf["mean"], &vmaf["min"]), (&"vmaf".into(), &55.0.into(), &50.5.into()));
    assert_eq!(vmaf["min_frame"], 20);
    assert!(report["scorer"].as_str().is_some_and(|name| name.contains("fake-1")), "{report}");
    let called = fs::read_to_string(dir.path().join("called")).expect("it was called");
    assert!(called.contains("trim=start_frame=20:end_frame=30"), "{called}");
    let inputs: Vec<&str> = called.lines().filter(|line| line.starts_with("file:")).collect();
    assert!(inputs[0].ends_with("/b.mp4") && inputs[1].ends_with("/a.mp4"), "distorted first: {inputs:?}");
    // Asked for alone, the others are not told.
    let alone =
        scored_by(&scorer, dir.path(), &["a.mp4", "b.mp4", "--frames", "20..30", "--metrics", "vmaf", "--json"]);
    let report: Value = serde_json::from_slice(&alone.stdout).expect("JSON");
    assert_eq!(report["scores"].as_array().map(Vec::len), Some(1), "{report}");
    let doctor = spool(dir.path()).env("SPOOL_SCORER", &scorer).args(["doctor", "--json"]).output().expect("it runs");
    let found: Vec<Value> = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let vmaf = found.iter().find(|finding| finding["what"] == "vmaf").expect("a finding");
    assert_eq!(vmaf["verdict"], "ok", "{vmaf}");
}

#[test]
fn a_scorer_that_scores_other_frames_is_not_believed() {
    let dir = two_films();
    let scorer = fake_scorer(dir.path(), "9");
    let output = scored_by(&scorer, dir.path(), &["a.mp4", "b.mp4"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("scored 9 frames of 48"), "{}", stderr(&output));
}

#[test]
fn without_a_scorer_vmaf_is_left_out_or_refused_by_name() {
    let dir = two_films();
    let plain = quality(dir.path(), &["a.mp4", "b.mp4", "--frames", "0..5"]);
    assert!(plain.status.success() && !stdout(&plain).contains("vmaf"), "{}", stderr(&plain));
    assert!(stderr(&plain).contains("warning: no VMAF"), "the scorer named is not there: {}", stderr(&plain));
    let asked = quality(dir.path(), &["a.mp4", "b.mp4", "--metrics", "vmaf"]);
    assert_eq!(asked.status.code(), Some(2));
    assert!(stderr(&asked).contains("/nowhere"), "{}", stderr(&asked));
}

#[test]
fn an_encode_is_scored_and_its_index_tells_every_frame() {
    let dir = tempfile::tempdir().expect("a directory");
    film(&dir.path().join("in.mp4"));
    let line = "encode in.mp4 -o out.mp4 -crf 35 -g 24 -preset ultrafast -pix_fmt yuv420p -vf scale=80:-2 --chunk 1s --index i.json \
                --quality psnr,ssim --quality-report q.json --json --progress none";
    let output = run(dir.path(), &line.split_whitespace().collect::<Vec<_>>());
    assert!(output.status.success(), "{}", stderr(&output));
    let job: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let quality = &job["output"]["quality"];
    let ssim = &quality["scores"][1];
    assert_eq!(ssim["metric"], "ssim");
    assert!(ssim["mean"].as_f64().is_some_and(|mean| mean > 0.5 && mean < 1.0), "{quality}");
    assert_eq!(quality["chunks"].as_array().map(Vec::len), job["output"]["chunks"].as_array().map(Vec::len));
    let report = json(&dir.path().join("q.json"));
    assert_eq!(report["scores"], quality["scores"]);
    assert_eq!(report["chunks"], quality["chunks"]);
    assert_eq!(report["reference"]["width"], 80, "what the encoder was given");
    assert!(fs::read_to_string(dir.path().join("q.svg")).expect("a chart").contains("SSIM"));
    let index = json(&dir.path().join("i.json"));
    let frames = index["frames"].as_array().expect("frames");
    assert_eq!(frames.len(), 48);
    for (frame, scores) in frames.iter().zip(report["per_frame"].as_array().expect("scores")) {
        assert_eq!(frame["psnr"], scores["psnr"]["all"]);
        assert!(frame["bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    }
    // Its chunks' edges are known to `spool quality`.
    let again = spool(dir.path())
        .current_dir(dir.path())
        .args(["quality", "in.mp4", "out.mp4", "--metrics", "ssim", "--chunks", "i.json", "--json"])
        .output()
        .expect("it runs");
    let again: Value = serde_json::from_slice(&again.stdout).expect("JSON");
    assert_eq!(again["chunks"].as_array().map(Vec::len), index["chunks"].as_array().map(Vec::len));
}
