//! Rates over a film in chunks: two passes meet one and give more of it to what is hard to code; one pass meets it too; and the joined film
//! keeps within a decoder's buffer.

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

/// Bytes of each picture in the file's order, and when it is shown in seconds, in that order.
fn packets(film: &Path) -> (Vec<f64>, Vec<f64>) {
    let packets = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time,size", "-of", "json"])
        .arg(film)
        .output()
        .unwrap();
    let packets: Value = serde_json::from_slice(&packets.stdout).unwrap();
    let number = |packet: &Value, name: &str| packet[name].as_str().unwrap().parse::<f64>().unwrap();
    let packets = packets["packets"].as_array().unwrap();
    let mut times: Vec<f64> = packets.iter().map(|packet| number(packet, "pts_time")).collect();
    times.sort_by(f64::total_cmp);
    (packets.iter().map(|packet| number(packet, "size")).collect(), times)
}

/// Least that is in the buffer, frame by frame: bits.
fn least_in_buffer(film: &Path, maxrate: f64, bufsize: f64) -> f64 {
    let (sizes, times) = packets(film);
    let (mut fill, mut least) = (0.9 * bufsize, bufsize);
    for (n, bytes) in sizes.iter().enumerate() {
        if n > 0 {
            fill = bufsize.min(fill + maxrate * (times[n] - times[n - 1]));
        }
        fill -= bytes * 8.0;
        least = f64::min(least, fill);
    }
    least
}

/// Noise all through, so that every chunk leaves the buffer nearly empty to the next.
fn hungry(sandbox: &Sandbox) -> PathBuf {
    let path = sandbox.path("hungry.mkv");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i"])
        .arg("mandelbrot=s=320x180:r=24:maxiter=100,trim=duration=16,noise=alls=14:allf=t:all_seed=7,format=yuv420p")
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-crf", "10"])
        .arg(&path)
        .status();
    assert!(made.unwrap().success());
    path
}

fn keeps_within_its_buffer(film: &Path, out: &Path, options: &[&str], bufsize: f64, sandbox: &Sandbox) -> Value {
    let job = sandbox.encode(film, out, options);
    let least = least_in_buffer(out, 900_000.0, bufsize);
    // A thousandth: containers and encoders count a frame's bytes differently.
    assert!(least >= -bufsize / 1000.0, "{least} bits are least in the buffer: {}", job["output"]);
    let told = job["output"]["buffer"]["low_bits"].as_f64().unwrap();
    assert!((told - least).abs() <= bufsize / 1000.0, "{told} told, {least} simulated");
    assert_eq!(job["output"]["buffer"]["late_frames"], 0);
    assert!(job.get("warnings").is_none(), "{}", job["warnings"]);
    job
}

fn buffered(encoder: &[&str]) {
    let sandbox = Sandbox::new();
    let film = hungry(&sandbox);
    let out = sandbox.path("out.mp4");
    let limits = ["-an", "-crf", "20", "-maxrate", "900k", "-bufsize", "450k", "-g", "48", "--chunk", "2s"];
    let job = keeps_within_its_buffer(&film, &out, &[encoder, &limits].concat(), 450_000.0, &sandbox);
    assert_eq!(job["output"]["chunks"].as_array().unwrap().len(), 8);
    // Else the film would not show that anything is corrected.
    assert!(job["output"]["redone"].as_u64().unwrap() > 0, "{}", job["output"]);
    assert!(phases(&job).contains(&"correcting"));
    let decoded =
        Command::new("ffmpeg").args(["-v", "error", "-xerror", "-i"]).arg(&out).args(["-f", "null", "-"]).output();
    assert_eq!(String::from_utf8_lossy(&decoded.unwrap().stderr), "", "the film decodes without a word");
}

#[test]
fn x264s_chunks_keep_within_one_buffer_once_joined() {
    buffered(&["-c:v", "libx264", "-preset", "veryfast"]);
}

#[test]
fn x265s_chunks_keep_within_one_buffer_once_joined() {
    buffered(&["-c:v", "libx265", "-preset", "ultrafast"]);
}

#[test]
fn two_passes_keep_within_a_buffer_and_meet_their_rate() {
    let sandbox = Sandbox::new();
    let film = uneven(&sandbox);
    let out = sandbox.path("out.mp4");
    let options = ["-c:v", "libx264", "-preset", "veryfast", "-an", "--two-pass", "-b:v", "400k", "-maxrate", "900k"];
    let options = [&options[..], &["-bufsize", "900k", "--chunk", "4s"]].concat();
    let job = keeps_within_its_buffer(&film, &out, &options, 900_000.0, &sandbox);
    meets_its_rate(&job, &out, 400_000.0);
}

#[test]
fn a_film_in_one_pass_meets_its_rate_within_two_percent() {
    let sandbox = Sandbox::new();
    let film = uneven(&sandbox);
    for encoder in [["-c:v", "libx264", "-preset", "veryfast"], ["-c:v", "libx265", "-preset", "ultrafast"]] {
        let out = sandbox.path(&format!("{}.mp4", encoder[1]));
        let job = sandbox.encode(&film, &out, &[&encoder[..], &["-an", "-b:v", "600k", "--chunk", "4s"]].concat());
        let measured = bits_per_second(&out);
        assert!((measured / 600_000.0 - 1.0).abs() <= 0.02, "{measured} b/s, 600000 asked for: {}", job["output"]);
        assert!(job["output"]["redone"].as_u64().unwrap() > 0, "the film shows a correction: {}", job["output"]);
    }
}

#[test]
fn a_titles_renditions_meet_their_rates_and_keep_within_their_buffers() {
    let sandbox = Sandbox::new();
    let film = uneven(&sandbox);
    let file = sandbox.path("job.yaml");
    let text = format!(
        "apiVersion: spool/v1
kind: Job
metadata: {{name: rates}}
spec:
  input: {}
  output: {}
  video:
    - {{name: two, codec: libx264, height: 180, bitrate: 400k, twoPass: true, maxrate: 900k, bufsize: 900k, preset: veryfast}}
    - {{name: one, codec: libx264, height: 90, crf: 12, maxrate: 300k, bufsize: 150k, preset: veryfast}}
  packages: [hls]
  chunking: {{segment: 2s, gop: 2s, target: 4s}}
",
        film.display(),
        sandbox.path("package").display()
    );
    std::fs::write(&file, text).unwrap();
    let output = sandbox.spool().arg("submit").arg(&file).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let job: Value = serde_json::from_slice(&output.stdout).unwrap();
    // Renditions are encoded side by side: one may be in its second pass before the other has begun.
    let phases = phases(&job);
    assert!(["planning", "analysing", "encoding"].iter().all(|phase| phases.contains(phase)), "{phases:?}");
    for (track, maxrate, bufsize) in [(0, 900_000.0, 900_000.0), (1, 300_000.0, 150_000.0)] {
        let told = &job["output"]["tracks"][track];
        let playlist = sandbox.path("package").join(told["folder"].as_str().unwrap()).join("playlist.m3u8");
        let least = least_in_buffer(&playlist, maxrate, bufsize);
        assert!(least >= -bufsize / 1000.0, "{least} bits are least in the buffer: {told}");
        assert_eq!(told["buffer"]["late_frames"], 0, "{told}");
    }
    let rate = job["output"]["tracks"][0]["rate"]["average_bps"].as_f64().unwrap();
    assert!((rate / 400_000.0 - 1.0).abs() <= 0.01, "{rate} b/s, 400000 asked for");
    let measured = bits_per_second(&sandbox.path("package/video/two/playlist.m3u8"));
    assert!((rate / measured - 1.0).abs() < 0.005, "{rate} told, {measured} measured");
}
