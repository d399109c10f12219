//! How fast changes of scene are found, and whether ffmpeg finds the same:
//!
//! ```text
//! cargo bench -p spool-media --bench scenes -- FILM…
//! ```
//!
//! Of each film `media.scenes` in one part against ffmpeg's `select='gt(scene,0.4)'` with one thread, by turns: medians of frames in a second of one core's
//! time, and the frames that only one of both calls a change of scene (`?`: of which Spool is not sure).

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a bench")]

use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "../tests/common/mod.rs"]
mod common;

use spool_proto::call::{Args, ProbeArgs, SceneChange, SceneList, ScenesArgs, SourceFacts, Value};
use spool_proto::spec::{Container, EncodeSpec, Rational, VideoCodec, VideoSpec};

const ROUNDS: usize = 5;
/// Clock ticks a second of Linux's accounts.
const TICKS: f64 = 100.0;

/// Of this process, or of children that have ended: user and system.
fn processor_seconds(children: bool) -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = text.rsplit_once(')').unwrap();
    // utime is the twelfth field behind the name.
    let fields: Vec<f64> = fields.split_whitespace().skip(11).take(4).map(|field| field.parse().unwrap()).collect();
    let at = if children { 2 } else { 0 };
    (fields[at] + fields[at + 1]) / TICKS
}

fn timed<T>(children: bool, work: impl FnOnce() -> T) -> (T, f64) {
    let before = processor_seconds(children);
    let made = work();
    (made, processor_seconds(children) - before)
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

struct Film {
    path: PathBuf,
    spec: EncodeSpec,
    facts: SourceFacts,
    index: PathBuf,
    _host: common::FileHost,
}

impl Film {
    fn new(path: &str) -> Film {
        let path = PathBuf::from(path);
        let video = Some(VideoSpec::new(VideoCodec::Libx264));
        let spec = EncodeSpec { video, ..EncodeSpec::new("file:///in", "file:///out.mkv", Container::Mkv) };
        let args = Args::Probe(ProbeArgs { index_for: Some(spec.clone()), crop_bars: false });
        let (product, host) = common::call(&args, [&path]).unwrap();
        let Value::Probe(facts) = product.value else { panic!("{:?}", product.value) };
        Film { path, spec, facts: *facts, index: product.files[0].1.clone(), _host: host }
    }

    fn scan(&self) -> (u64, Vec<SceneChange>) {
        let args = ScenesArgs { spec: self.spec.clone(), source: self.facts.clone(), part: 0, parts: 1 };
        let (product, _host) = common::call(&Args::Scenes(Box::new(args)), [&self.path, &self.index]).unwrap();
        let Value::Scenes(told) = product.value else { panic!("{:?}", product.value) };
        let list: SceneList = serde_json::from_slice(&std::fs::read(&product.files[0].1).unwrap()).unwrap();
        (told.frames, list.scenes)
    }

    /// Frames of a constant rate, from the film's start.
    fn by_ffmpeg(&self) -> Vec<u64> {
        let output = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-threads", "1", "-i"])
            .arg(&self.path)
            .args(["-map", "0:v:0", "-filter_threads", "1", "-vf", "select='gt(scene,0.4)',metadata=print:file=-"])
            .args(["-f", "null", "-"])
            .output()
            .unwrap();
        let rate = self.facts.streams.iter().find_map(|stream| match &stream.media {
            spool_proto::call::MediaFacts::Video(video) => video.frame_rate,
            _ => None,
        });
        let rate = rate.map_or(25.0, Rational::as_f64);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let times = text.split("pts_time:").skip(1).map(|rest| rest.split_whitespace().next().unwrap().to_owned());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "frames of a film")]
        let frame = |time: String| (time.parse::<f64>().unwrap() * rate).round() as u64;
        times.map(frame).collect()
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn main() {
    println!("| film | frames/s, one core | ffmpeg | ratio | sure | ffmpeg's | both | only one of them |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for path in std::env::args().skip(1).filter(|arg| !arg.starts_with("--")) {
        let film = Film::new(&path);
        let ((frames, scenes), _) = timed(false, || film.scan());
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut found = Vec::new();
        for _ in 0..ROUNDS {
            ours.push(timed(false, || film.scan()).1);
            let (cuts, seconds) = timed(true, || film.by_ffmpeg());
            theirs.push(seconds);
            found = cuts;
        }
        let [ours, theirs] = [ours, theirs].map(|seconds| frames as f64 / median(seconds));
        let sure: Vec<u64> = scenes.iter().filter(|scene| scene.sure).map(|scene| scene.frame).collect();
        let doubtful = |frame: &u64| scenes.iter().any(|scene| scene.frame == *frame && !scene.sure);
        let alone = sure.iter().filter(|frame| !found.contains(frame)).map(|frame| format!("S{frame}"));
        let missed = found.iter().filter(|frame| !sure.contains(frame));
        let missed = missed.map(|frame| format!("F{frame}{}", if doubtful(frame) { "?" } else { "" }));
        let both = sure.iter().filter(|frame| found.contains(frame)).count();
        let apart: Vec<String> = alone.chain(missed).collect();
        let name = name(&film.path);
        let (sure, by_ffmpeg, ratio) = (sure.len(), found.len(), ours / theirs);
        println!(
            "| {name} | {ours:.0} | {theirs:.0} | {ratio:.2} | {sure} | {by_ffmpeg} | {both} | {} |",
            apart.join(" ")
        );
    }
}
