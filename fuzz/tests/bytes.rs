//! Every target over the corpus and over a bounded number of mutations: seconds, and the same ones each time.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../media/tests/common/mod.rs"]
mod common;
#[path = "../../media/tests/ebml/mod.rs"]
mod ebml;
#[path = "../../media/tests/film/mod.rs"]
mod film;

use std::path::Path;

use common::{call, ffmpeg};
use spool_fuzz::{TARGETS, Target, mutate, targets};
use spool_proto::call::{Args, PlanArgs, ProbeArgs, Value};
use spool_proto::spec::{AudioSpec, Container, EncodeSpec};

/// Of each parser of our own. Each takes microseconds.
const PARSED: u32 = 3000;
/// Of films. Each takes a millisecond or more.
const PROBED: u32 = 150;
/// Larger films of the corpus are left to the tests of the probe.
const FILM_MAX: u64 = 128 << 10;

fn spec() -> EncodeSpec {
    let mut spec = film::spec(Container::Mkv, None::<AudioSpec>);
    spec.video = serde_json::from_str(r#"{"codec":"libx264","crf":30.0}"#).ok();
    assert!(spec.video.is_some(), "the spec is one");
    spec
}

fn clip(folder: &Path, name: &str, with: &str) -> Vec<u8> {
    let path = folder.join(name);
    ffmpeg(&format!("-f lavfi -i testsrc2=s=128x96:r=5:d=1 {with}"), &path);
    std::fs::read(path).unwrap()
}

/// Small good films, each in another container.
fn films() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let clip = |name, with| clip(folder.path(), name, with);
    vec![
        clip("a.mp4", "-c:v libx264 -preset ultrafast"),
        clip("f.mp4", "-c:v libx264 -preset ultrafast -movflags frag_keyframe+empty_moov"),
        clip("a.mkv", "-c:v libvpx-vp9 -speed 8 -metadata title=film"),
        clip("a.ts", "-c:v mpeg2video"),
        clip("a.avi", "-c:v mpeg4"),
        clip("a.flv", "-c:v flv"),
        clip("a.gif", ""),
        ebml::matroska(&[ebml::track(1, 320, 240), ebml::tags(&[(b"TITLE", b"x")]), ebml::chapters(3)].concat()),
    ]
}

#[test]
fn any_film_is_told_or_refused() {
    let mut seeds = films();
    mutate::run("probe", &seeds, PROBED, targets::probe);
    mutate::run("scan", &seeds, PROBED, targets::scan);
    seeds.clear();
    let Some(folder) = common::corpus("bad") else {
        eprintln!("skipped: no corpus beside the workspace");
        return;
    };
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.metadata().unwrap().len() <= FILM_MAX) {
        seeds.push(std::fs::read(path).unwrap());
    }
    assert!(seeds.len() > 20, "{}", seeds.len());
    mutate::run("probe", &seeds, PROBED, targets::probe);
}

#[test]
fn our_own_files_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mkv");
    ffmpeg("-f lavfi -i testsrc2=s=64x48:r=5:d=2 -c:v libx264 -preset ultrafast -g 5", &path);
    let spec = spec();
    let (probed, _host) =
        call(&Args::Probe(ProbeArgs { index_for: Some(spec.clone()), crop_bars: false }), [&path]).unwrap();
    let index = std::fs::read(&probed.files[0].1).unwrap();
    let Value::Probe(facts) = probed.value else { panic!("no facts") };
    let args = PlanArgs {
        spec: spec.clone(),
        source: *facts,
        unsplit_threads: 1,
        lines: Vec::new(),
        joined: Vec::new(),
        scans: Vec::new(),
    };
    let (planned, _host) = call(&Args::Plan(args), [path.clone(), probed.files[0].1.clone()]).unwrap();
    let plan = std::fs::read(&planned.files[0].1).unwrap();
    let made = film::make(&path, &spec).unwrap();
    let piece = std::fs::read(&made.tracks[0].paths[0]).unwrap();
    let joined = film::Film::join(&path, &spec, &made.tracks).unwrap();
    let timeline = std::fs::read(joined.timeline.unwrap()).unwrap();
    for (name, target, seed) in [
        ("index", targets::index as Target, index),
        ("plan", targets::plan, plan),
        ("piece", targets::piece, piece),
        ("timeline", targets::timeline, timeline),
    ] {
        assert!(!seed.is_empty());
        mutate::run(name, &[seed], PARSED, target);
    }
}

#[test]
fn any_bitstream_is_looked_through() {
    let folder = tempfile::tempdir().unwrap();
    let codecs = [
        (0, "h264", "-c:v libx264 -preset ultrafast"),
        (1, "hevc", "-c:v libx265 -preset ultrafast -x265-params log-level=none"),
        (2, "obu", "-c:v libsvtav1 -preset 13"),
    ];
    let mut seeds = Vec::new();
    for (number, name, with) in codecs {
        let stream = clip(folder.path(), &format!("a.{name}"), with);
        seeds.push([&[number, 64], stream.as_slice()].concat());
        mutate::run("x264_settings", &[stream], PARSED, targets::x264_settings);
    }
    mutate::run("bitstream", &seeds, PARSED, targets::bitstream);
}

#[test]
fn any_words_and_specs_are_understood_or_refused() {
    let words =
        ["1M", "128k", "01:02:03.5", "90ms", "1.5s", "24000/1001", "ntsc", "1920x1080", "hd720", "file:///a%20b/c.mov"];
    mutate::run("words", &words.map(|word| word.as_bytes().to_vec()), PARSED, targets::words);
    let json = serde_json::to_vec(&spec()).unwrap();
    targets::spec(&json);
    mutate::run("spec", &[json], PARSED, targets::spec);
}

/// Each has its file for cargo-fuzz, and the other way round.
#[test]
fn every_target_can_be_run_under_cargo_fuzz() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("libfuzzer/fuzz_targets");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    files.sort();
    let mut names = TARGETS.map(|(name, _)| name);
    names.sort_unstable();
    assert_eq!(files, names);
}

#[test]
fn an_executor_may_say_anything() {
    // Progress, a failure and an answer with a file, each with its length in front.
    let seeds = [
        b"\x08\x1a\x06\x08\x01\x10\x02\x18\x03".to_vec(),
        b"\x15\x2a\x13\x0a\x05input\x12\x03bad\x1a\x05words".to_vec(),
        b"\x1d\x22\x1b\x0a\x08{\"a\": 1}\x1a\x0f\x0a\x05chunk\x12\x06../etc".to_vec(),
    ];
    for seed in &seeds {
        assert_eq!(spool_worker::executor::read_messages(seed), 1, "{seed:?}");
    }
    mutate::run("messages", &seeds, PARSED, targets::messages);
}
