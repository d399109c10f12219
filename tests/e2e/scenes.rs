//! Chunks begin where scenes change, and nothing else is different.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::films::frame_times;
use crate::processes::{Fleet, Sandbox, eventually};

/// Frames of each scene, 24 a second.
const SCENES: [(&str, u32); 5] =
    [("testsrc2", 61), ("smptehdbars", 97), ("testsrc", 110), ("mandelbrot=maxiter=100", 60), ("rgbtestsrc", 40)];
const CUTS: [u64; 4] = [61, 158, 268, 328];

/// Fifteen seconds, of which every picture stands alone.
fn film(folder: &Path, coder: &[&str]) -> PathBuf {
    let mut graph = String::new();
    for (number, (source, frames)) in SCENES.iter().enumerate() {
        let join = if source.contains('=') { ':' } else { '=' };
        graph += &format!("{source}{join}s=320x180:r=24,trim=end_frame={frames},format=yuv420p,setsar=1[s{number}];");
    }
    graph += &(0..SCENES.len()).map(|number| format!("[s{number}]")).collect::<String>();
    graph += &format!("concat=n={}:v=1", SCENES.len());
    let path = folder.join("film.mkv");
    let made =
        Command::new("ffmpeg").args(["-v", "error", "-y", "-filter_complex", &graph]).args(coder).arg(&path).status();
    assert!(made.unwrap().success());
    path
}

const INTRA: [&str; 4] = ["-c:v", "mjpeg", "-q:v", "3"];

/// Frames that are keyframes.
fn keyframes(film: &Path) -> Vec<u64> {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-show_entries", "packet=pts_time,flags", "-of", "csv=p=0"])
        .arg(film)
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let mut packets: Vec<(f64, bool)> = text
        .lines()
        .filter_map(|line| line.split_once(','))
        .map(|(time, flags)| (time.parse().unwrap(), flags.starts_with('K')))
        .collect();
    packets.sort_by(|a, b| a.0.total_cmp(&b.0));
    (0..).zip(packets).filter(|(_, (_, key))| *key).map(|(number, _)| number).collect()
}

fn phases(job: &Value) -> Vec<(&str, u64)> {
    let phases = job["phases"].as_array().unwrap().iter();
    phases.map(|phase| (phase["name"].as_str().unwrap(), phase["tasks"].as_u64().unwrap_or(0))).collect()
}

fn chunks(job: &Value) -> Vec<(u64, &str)> {
    let chunks = job["output"]["chunks"].as_array().unwrap().iter();
    chunks.map(|chunk| (chunk["start"].as_u64().unwrap(), chunk["cut"].as_str().unwrap())).collect()
}

#[test]
fn an_intra_only_film_is_cut_at_its_scenes_and_is_the_same_film() {
    let sandbox = Sandbox::new();
    let film = film(&sandbox.path(""), &INTRA);
    let encode = |cuts: &str| {
        let out = sandbox.path(&format!("{cuts}.mkv"));
        let options = ["-c:v", "libx264", "-preset", "ultrafast", "--chunk", "4s", "--cuts", cuts];
        (sandbox.encode(&film, &out, &options), out)
    };
    let (auto, by_scan) = encode("auto");
    let (index, by_index) = encode("index");
    assert_eq!(phases(&auto)[1].0, "scanning");
    assert!(phases(&index).iter().all(|(name, _)| *name != "scanning"), "{:?}", phases(&index));
    let scenes: Vec<u64> = chunks(&auto).into_iter().filter(|(_, cut)| *cut == "scene").map(|(at, _)| at).collect();
    assert!(scenes.len() >= 3 && scenes.iter().all(|at| CUTS.contains(at)), "{:?}", chunks(&auto));
    assert!(chunks(&index).iter().all(|(_, cut)| *cut != "scene"), "{:?}", chunks(&index));
    let keys = keyframes(&by_scan);
    assert!(scenes.iter().all(|cut| keys.contains(cut)), "{keys:?}");
    assert_eq!(frame_times(&by_scan), frame_times(&film));
    assert_eq!(frame_times(&by_scan), frame_times(&by_index));
    sandbox.assert_nothing_left();
}

#[test]
fn renditions_keep_to_their_grid_and_begin_chunks_next_to_scenes() {
    let sandbox = Sandbox::new();
    let (film, package, file) = (film(&sandbox.path(""), &INTRA), sandbox.path("package"), sandbox.path("job.yaml"));
    let text = format!(
        "apiVersion: spool/v1
kind: Job
spec:
  input: {}
  output: {}
  video:
    - {{name: large, codec: libx264, height: 180, crf: 30, preset: ultrafast}}
    - {{name: small, codec: libx264, height: 90, crf: 30, preset: ultrafast}}
  packages: [hls]
  chunking: {{segment: 1s, gop: 1s, target: 4s, cuts: scan}}
",
        film.display(),
        package.display()
    );
    std::fs::write(&file, text).unwrap();
    let output = sandbox.spool().arg("submit").arg(&file).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let job: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(phases(&job).iter().filter(|(name, _)| *name == "scanning").count(), 1, "{:?}", phases(&job));
    let playlist = |name: &str| package.join("video").join(name).join("playlist.m3u8");
    let (large, small) = (keyframes(&playlist("large")), keyframes(&playlist("small")));
    assert_eq!(large, small);
    assert_eq!(large, (0..368).step_by(24).collect::<Vec<u64>>());
}

#[test]
fn a_film_is_called_off_while_it_is_scanned_and_goes_on_when_it_is_retried() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let film = film(&fleet.sandbox.path(""), &INTRA);
    let out = fleet.sandbox.path("out.mkv");
    // Nobody works yet: it waits.
    let job =
        fleet.submit(&film, &out, &["-c:v", "libx264", "-preset", "ultrafast", "--chunk", "4s", "--cuts", "scan"]);
    let cancelled = fleet.client(&["job", "cancel", &job]);
    assert!(cancelled.status.success(), "{}", String::from_utf8_lossy(&cancelled.stderr));
    let _worker = fleet.worker("w");
    eventually("the job is cancelled", || (fleet.job(&job)["state"] == "cancelled").then_some(()));
    let retried = fleet.client(&["job", "retry", &job]);
    assert!(retried.status.success(), "{}", String::from_utf8_lossy(&retried.stderr));
    let done = fleet.finished(&job);
    assert_eq!(phases(&done)[1].0, "scanning");
    assert!(chunks(&done).iter().any(|(_, cut)| *cut == "scene"), "{:?}", chunks(&done));
}
