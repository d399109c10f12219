//! Films that meet a quality: each chunk is encoded as its own pictures need it.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::films::{PLAIN, clip};
use crate::processes::Sandbox;

/// A third of it easy to code, a third of it with grain, a third with much that moves.
fn mixed(sandbox: &Sandbox) -> PathBuf {
    let path = sandbox.path("mixed.mkv");
    let easy = "testsrc2=s=320x180:r=24:d=8,gblur=sigma=4,format=yuv420p,setpts=PTS-STARTPTS[a]";
    let grain = "testsrc2=s=320x180:r=24:d=8,noise=alls=6:allf=t:all_seed=7,format=yuv420p,setpts=PTS-STARTPTS[b]";
    let moving = "mandelbrot=s=320x180:r=24:maxiter=100,trim=duration=8,format=yuv420p,setpts=PTS-STARTPTS[c]";
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-filter_complex"])
        .arg(format!("{easy};{grain};{moving};[a][b][c]concat=n=3:v=1"))
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-crf", "8"])
        .arg(&path)
        .status();
    assert!(made.unwrap().success());
    path
}

fn crfs(job: &Value) -> Vec<f64> {
    let chunks = job["output"]["chunks"].as_array().unwrap();
    chunks.iter().map(|chunk| chunk["trial"]["crf"].as_f64().expect("what was found")).collect()
}

fn warned(job: &Value) -> Vec<&str> {
    job["warnings"].as_array().into_iter().flatten().map(|warning| warning["code"].as_str().unwrap()).collect()
}

/// `within`: parts begin with a keyframe each and so look a little better than their chunk, the more the lower the quality.
fn meets(encoder: &[&str], target: f64, within: f64) {
    let sandbox = Sandbox::new();
    let film = mixed(&sandbox);
    let asked = format!("ssim={target}");
    let own = ["-an", "--target-quality", &asked, "--quality", "ssim", "-g", "96", "--chunk", "4s"];
    let job = sandbox.encode(&film, &sandbox.path("out.mkv"), &[encoder, &own].concat());
    let phases: Vec<&str> = job["phases"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(phases[..4], ["probing", "planning", "probing quality", "encoding"]);
    let mean = job["output"]["quality"]["scores"][0]["mean"].as_f64().unwrap();
    assert!((mean - target).abs() <= within, "the film scores {mean}: {}", job["output"]);
    let crfs = crfs(&job);
    assert!(crfs.len() >= 4, "{} chunks", crfs.len());
    let spread = crfs.iter().copied().fold(0.0, f64::max) - crfs.iter().copied().fold(99.0, f64::min);
    assert!(spread >= 4.0, "what is hard takes a better quality: {crfs:?}");
    for (chunk, scored) in
        job["output"]["chunks"].as_array().unwrap().iter().zip(job["output"]["quality"]["chunks"].as_array().unwrap())
    {
        let (expected, real) =
            (chunk["trial"]["score"].as_f64().unwrap(), scored["scores"][0]["mean"].as_f64().unwrap());
        assert!((expected - real).abs() < 4.0 * within, "{expected} was found, {real} came of it");
    }
    assert_eq!(warned(&job), [""; 0]);
    sandbox.assert_nothing_left();
}

#[test]
fn a_film_in_x264_meets_its_quality_chunk_by_chunk() {
    meets(&["-c:v", "libx264", "-preset", "veryfast"], 0.95, 0.005);
}

#[test]
fn a_film_in_av1_meets_its_quality_chunk_by_chunk() {
    meets(&["-c:v", "libsvtav1", "-preset", "12"], 0.95, 0.012);
}

#[test]
fn a_quality_beyond_reach_is_approached_and_told() {
    let sandbox = Sandbox::new();
    let options = [
        "-c:v",
        "libvpx-vp9",
        "-deadline",
        "realtime",
        "-cpu-used",
        "8",
        "-an",
        "-t",
        "2",
        "--target-quality",
        "psnr=70",
    ];
    let job = sandbox.encode(&clip(&PLAIN), &sandbox.path("out.webm"), &options);
    assert_eq!(warned(&job), ["quality_unattainable"]);
    assert!(crfs(&job).iter().all(|crf| *crf == 6.0), "{}", job["output"]);
}

#[test]
fn a_ceiling_on_the_rate_holds_whatever_quality_is_sought() {
    let sandbox = Sandbox::new();
    let film = mixed(&sandbox);
    let options = ["-c:v", "libx264", "-preset", "veryfast", "-an", "-g", "96", "--chunk", "4s"];
    let encode = |more: &[&str]| {
        let job = sandbox.encode(&film, &sandbox.path("out.mkv"), &[&options[..], more, &["-y"]].concat());
        (job["output"]["bytes"].as_u64().unwrap(), job["output"]["buffer"]["late_frames"].as_u64())
    };
    let (free, _) = encode(&["--target-quality", "ssim=0.97"]);
    let (capped, late) = encode(&["--target-quality", "ssim=0.97", "-maxrate", "400k", "-bufsize", "400k"]);
    assert!(capped < free, "{capped} bytes, {free} without a ceiling");
    assert_eq!(late, Some(0));
}

#[test]
fn renditions_of_a_package_meet_theirs() {
    let sandbox = Sandbox::new();
    let (film, package, file) = (mixed(&sandbox), sandbox.path("package"), sandbox.path("job.yaml"));
    let text = format!(
        "apiVersion: spool/v1
kind: Job
spec:
  input: {}
  output: {}
  video:
    - {{name: small, codec: libx264, height: 90, targetQuality: {{ssim: 0.95}}, preset: veryfast}}
    - {{name: fixed, codec: libx264, height: 90, crf: 30, preset: veryfast}}
  packages: [hls]
  chunking: {{segment: 4s, gop: 2s, target: 4s}}
",
        film.display(),
        package.display()
    );
    std::fs::write(&file, text).unwrap();
    let output = sandbox.spool().arg("submit").arg(&file).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let job: Value = serde_json::from_slice(&output.stdout).unwrap();
    let [small, fixed] = &job["output"]["tracks"].as_array().unwrap()[..] else { panic!("{}", job["output"]) };
    let found: Vec<f64> = small["trials"].as_array().unwrap().iter().map(|t| t["crf"].as_f64().unwrap()).collect();
    assert_eq!(u64::try_from(found.len()).unwrap(), small["chunks"].as_u64().unwrap());
    assert!(found.iter().any(|crf| (crf - found[0]).abs() >= 3.0), "{found:?}");
    assert_eq!(fixed.get("trials"), None);
}
