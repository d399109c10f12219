//! Two passes: the whole film meets its rate, and what is hard to code is given more of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::films;
use crate::processes::Sandbox;

/// Half of it easy to code, half of it noise that moves.
fn uneven(sandbox: &Sandbox) -> PathBuf {
    let path = sandbox.path("uneven.mkv");
    let easy = "testsrc2=s=320x180:r=24:d=16,format=yuv420p";
    let hard = "mandelbrot=s=320x180:r=24:maxiter=100,trim=duration=16,noise=alls=24:allf=t:all_seed=7,format=yuv420p";
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-filter_complex"])
        .arg(format!("{easy},setpts=PTS-STARTPTS[a];{hard},setpts=PTS-STARTPTS[b];[a][b]concat=n=2:v=1"))
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-crf", "10"])
        .arg(&path)
        .status();
    assert!(made.unwrap().success());
    path
}

/// Bits a second of the file's pictures, as a reader counts them.
fn bits_per_second(film: &Path) -> f64 {
    let packets = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v", "-show_entries", "packet=size", "-of", "csv=p=0"])
        .arg(film)
        .output()
        .unwrap();
    let text = String::from_utf8(packets.stdout).unwrap();
    let sizes: Vec<f64> = text.lines().map(|line| line.trim_matches(',').parse().unwrap()).collect();
    sizes.iter().sum::<f64>() * 8.0 * 24.0 / f64::from(u32::try_from(sizes.len()).unwrap())
}

fn phases(job: &Value) -> Vec<&str> {
    job["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap()).collect()
}

fn meets_its_rate(job: &Value, film: &Path, target: f64) {
    let measured = bits_per_second(film);
    assert!((measured / target - 1.0).abs() <= 0.01, "{measured} b/s measured, {target} asked for: {}", job["output"]);
    let told = job["output"]["rate"]["average_bps"].as_f64().unwrap();
    assert!((told / measured - 1.0).abs() < 0.002, "{told} told, {measured} measured");
    assert_eq!(phases(job)[..4], ["probing", "planning", "analysing", "encoding"]);
}

fn two_passes(encoder: &[&str]) {
    let sandbox = Sandbox::new();
    let film = uneven(&sandbox);
    let out = sandbox.path("out.mp4");
    let options = [encoder, &["-an", "--two-pass", "-b:v", "600k", "--chunk", "4s"]].concat();
    let job = sandbox.encode(&film, &out, &options);
    meets_its_rate(&job, &out, 600_000.0);
    let chunks = job["output"]["chunks"].as_array().unwrap();
    assert!(chunks.len() >= 4, "{} chunks", chunks.len());
    let bytes_a_frame = |chunk: &Value| chunk["bytes"].as_f64().unwrap() / chunk["frames"].as_f64().unwrap();
    // One chunk may hold the end of one half and the beginning of the other.
    let easy = chunks.iter().filter(|chunk| chunk["end"].as_u64().unwrap() <= 384);
    let hard = chunks.iter().filter(|chunk| chunk["start"].as_u64().unwrap() >= 384);
    let easiest = easy.map(bytes_a_frame).fold(0.0, f64::max);
    let hardest = hard.map(bytes_a_frame).fold(f64::INFINITY, f64::min);
    assert!(
        hardest > 2.0 * easiest,
        "{easiest} bytes a frame at most of the easy half, {hardest} at least of the other"
    );
    let decoded =
        Command::new("ffmpeg").args(["-v", "error", "-xerror", "-i"]).arg(&out).args(["-f", "null", "-"]).output();
    assert_eq!(String::from_utf8_lossy(&decoded.unwrap().stderr), "", "the film decodes without a word");
    sandbox.assert_nothing_left();
}

#[test]
fn x264s_two_passes_meet_the_rate_and_give_more_to_what_is_hard() {
    two_passes(&["-c:v", "libx264", "-preset", "veryfast"]);
}

#[test]
fn x265s_two_passes_meet_the_rate_and_give_more_to_what_is_hard() {
    two_passes(&["-c:v", "libx265", "-preset", "ultrafast"]);
}

#[test]
fn a_film_in_one_piece_is_made_in_two_passes_as_well() {
    let sandbox = Sandbox::new();
    let out = sandbox.path("out.mkv");
    let options = ["-c:v", "libx264", "-preset", "veryfast", "-an", "--two-pass", "-b:v", "300k", "--chunk", "1:00"];
    let job = sandbox.encode(&films::clip(&films::PLAIN), &out, &options);
    assert_eq!(job["output"]["chunks"].as_array().unwrap().len(), 1);
    meets_its_rate(&job, &out, 300_000.0);
}
