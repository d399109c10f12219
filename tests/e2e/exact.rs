//! Chunked output against one `ffmpeg` process on the whole film.

use std::path::Path;
use std::process::Command;

use crate::films::{self, Clip};
use crate::processes::Sandbox;

/// Encodes `film` both ways and compares what a viewer would notice.
fn same_as_ffmpeg(film: &Path, extension: &str, options: &[&str], chunk: &str) {
    let sandbox = Sandbox::new();
    let ours = sandbox.path(&format!("ours.{extension}"));
    let theirs = sandbox.path(&format!("theirs.{extension}"));
    let job = sandbox.encode(film, &ours, &[options, &["--chunk", chunk]].concat());
    // Both run single-threaded encoders: what differs is the cutting alone.
    let reference = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-i"])
        .arg(film)
        .args(options)
        .args(["-threads", "1"])
        .arg(&theirs)
        .output()
        .unwrap();
    assert!(reference.status.success(), "{}", String::from_utf8_lossy(&reference.stderr));

    let (our_times, their_times) = (films::frame_times(&ours), films::frame_times(&theirs));
    assert_eq!(our_times.len(), their_times.len(), "frames of {} {options:?}", film.display());
    assert_eq!(our_times, their_times, "pts of {} {options:?}", film.display());
    let (our_duration, their_duration) = (films::duration(&ours), films::duration(&theirs));
    assert!((our_duration - their_duration).abs() < 0.0011, "duration {our_duration} against {their_duration}");
    let (our_samples, their_samples) = (films::audio_samples(&ours), films::audio_samples(&theirs));
    assert!(our_samples.abs_diff(their_samples) <= 2 * 1024, "{our_samples} samples against {their_samples}");
    let (our_ssim, their_ssim) = (films::ssim(&ours, film), films::ssim(&theirs, film));
    assert!((our_ssim - their_ssim).abs() <= 0.002, "SSIM {our_ssim} against {their_ssim}");

    let output = &job["output"];
    assert_eq!(output["frames"].as_u64().unwrap(), our_times.len() as u64);
    assert_eq!(output["bytes"].as_u64().unwrap(), ours.metadata().unwrap().len());
    let frames: u64 = output["chunks"].as_array().unwrap().iter().map(|c| c["frames"].as_u64().unwrap()).sum();
    assert_eq!(frames, our_times.len() as u64, "chunks add up");
    sandbox.assert_nothing_left();
}

const X264: &[&str] = &["-c:v", "libx264", "-crf", "23", "-preset", "veryfast", "-c:a", "aac", "-b:a", "128k"];
const X265: &[&str] = &["-c:v", "libx265", "-crf", "28", "-preset", "ultrafast", "-c:a", "aac"];
const SVT: &[&str] = &["-c:v", "libsvtav1", "-crf", "40", "-preset", "12", "-c:a", "libopus"];
const VP9: &[&str] =
    &["-c:v", "libvpx-vp9", "-crf", "40", "-b:v", "0", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"];

fn clip_as_ffmpeg(clip: &Clip, extension: &str, options: &[&str]) {
    for chunk in ["2s", "5s"] {
        same_as_ffmpeg(&films::clip(clip), extension, options, chunk);
    }
}

#[test]
fn x264_of_a_plain_clip_equals_ffmpeg() {
    clip_as_ffmpeg(&films::PLAIN, "mp4", X264);
}

#[test]
fn x264_of_an_open_gop_transport_stream_equals_ffmpeg() {
    clip_as_ffmpeg(&films::NTSC_TS, "mov", X264);
}

#[test]
fn x264_of_open_gop_hevc_equals_ffmpeg() {
    clip_as_ffmpeg(&films::OPEN_HEVC, "mkv", X264);
}

#[test]
fn x265_of_a_plain_clip_equals_ffmpeg() {
    clip_as_ffmpeg(&films::PLAIN, "mp4", X265);
}

#[test]
fn svt_av1_of_a_plain_clip_equals_ffmpeg() {
    clip_as_ffmpeg(&films::PLAIN, "mkv", SVT);
}

#[test]
fn vp9_of_a_plain_clip_equals_ffmpeg() {
    clip_as_ffmpeg(&films::PLAIN, "webm", VP9);
}

#[test]
fn filters_rates_and_trims_equal_ffmpeg() {
    let film = films::clip(&films::PLAIN);
    let sandbox = Sandbox::new();
    for (i, options) in [
        ["-vf", "scale=160:-2,fps=30", "-ss", "1.37", "-t", "6.5"],
        ["-vf", "crop=200:100:10:20,pad=240:140:20:20", "-r", "12", "-to", "9"],
        ["-s", "256x144", "-g", "30", "-ss", "00:00:02"],
    ]
    .iter()
    .enumerate()
    {
        let ours = sandbox.path(&format!("ours{i}.mp4"));
        let theirs = sandbox.path(&format!("theirs{i}.mp4"));
        let options = [&options[..], X264].concat();
        sandbox.encode(&film, &ours, &[&options[..], &["--chunk", "2s"]].concat());
        let status =
            Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(&film).args(&options).arg(&theirs).status().unwrap();
        assert!(status.success());
        assert_eq!(films::frame_times(&ours), films::frame_times(&theirs), "{options:?}");
        let samples = (films::audio_samples(&ours), films::audio_samples(&theirs));
        assert!(samples.0.abs_diff(samples.1) <= 2 * 1024, "{samples:?} {options:?}");
    }
}

/// A track that is announced and holds nothing is no track in an mp4, and an empty one in Matroska, as ffmpeg leaves it.
#[test]
fn sound_without_a_packet_ends_no_encode() {
    let sandbox = Sandbox::new();
    let film = sandbox.path("film.mkv");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=1"])
        .args(["-f", "lavfi", "-i", "sine=duration=1", "-c:v", "libx264", "-c:a", "aac", "-frames:a", "0"])
        .arg(&film)
        .status()
        .unwrap();
    assert!(made.success());
    for (extension, tracks) in [("mp4", "video"), ("mkv", "video audio")] {
        let ours = sandbox.path(&format!("ours.{extension}"));
        let theirs = sandbox.path(&format!("theirs.{extension}"));
        let job = sandbox.encode(&film, &ours, X264);
        assert!(job["warnings"].to_string().contains("empty_track"), "{job}");
        let status =
            Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(&film).args(X264).arg(&theirs).status().unwrap();
        assert!(status.success());
        for film in [&ours, &theirs] {
            assert_eq!(films::tracks(film), tracks, "{}", film.display());
        }
        assert_eq!(films::frame_times(&ours), films::frame_times(&theirs), "{extension}");
    }
}

fn bench_film(name: &str, chunk: &str) {
    if let Some(film) = films::corpus_film(&format!("bench/{name}")) {
        same_as_ffmpeg(&film, "mp4", &["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"], chunk);
    }
}

#[test]
fn corpus_bbb_1080p_equals_ffmpeg() {
    bench_film("bbb_1080p24_30s.mp4", "5s");
}

#[test]
fn corpus_bbb_720p_equals_ffmpeg() {
    bench_film("bbb_720p24_cut120s.mp4", "10s");
}

#[test]
fn corpus_counter_equals_ffmpeg() {
    bench_film("counter_240p24_300s.mp4", "2s");
}

#[test]
fn corpus_traffic_equals_ffmpeg() {
    bench_film("traffic_432p12.5_30s.mp4", "2s");
}

#[test]
fn second_runs_give_identical_chunks_and_films() {
    let film = films::clip(&films::PLAIN);
    for options in [X264, X265, SVT, VP9] {
        let hashes = || {
            let sandbox = Sandbox::new();
            let job = sandbox.encode(&film, &sandbox.path("out.mkv"), &[options, &["--chunk", "2s"]].concat());
            let chunks: Vec<_> = job["output"]["chunks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|c| c["hash"].as_str().unwrap().to_string())
                .collect();
            (chunks, job["output"]["hash"].as_str().unwrap().to_string())
        };
        let first = hashes();
        assert!(first.0.len() > 1, "the film is split");
        assert_eq!(first, hashes(), "{options:?}");
    }
}
