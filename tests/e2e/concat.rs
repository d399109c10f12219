//! Several films joined to one, against one `ffmpeg` with its `concat` filter: the same pictures at the same times, and the same sound
//! but for the few milliseconds in which joins fade.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::films;
use crate::processes::Sandbox;

/// Lossless, so that what is decoded is what was encoded.
const LOSSLESS: &[&str] = &["-c:v", "libx264", "-preset", "ultrafast", "-crf", "0", "-g", "24"];
/// Samples of 48 kHz that a join fades over, on each side.
const FADE: usize = 240;

fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg").args(["-v", "error", "-y"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// pts in milliseconds, and the hash of each decoded picture.
fn pictures(film: &Path) -> Vec<(i64, String)> {
    let film = film.to_str().unwrap();
    let options = ["-map", "0:v", "-fps_mode", "passthrough", "-enc_time_base", "1/1000", "-f", "framemd5", "-"];
    let text = String::from_utf8(ffmpeg(&[&["-i", film][..], &options].concat())).unwrap();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        (fields[2].parse().unwrap(), fields[5].to_owned())
    };
    text.lines().filter(|line| !line.starts_with('#')).map(row).collect()
}

/// Interleaved samples.
fn samples(film: &Path) -> Vec<i16> {
    let film = film.to_str().unwrap();
    let bytes = ffmpeg(&["-i", film, "-map", "0:a:0", "-f", "s16le", "-c:a", "pcm_s16le", "-"]);
    bytes.chunks_exact(2).map(|both| i16::from_le_bytes([both[0], both[1]])).collect()
}

/// A film of `seconds` with sound, `sine` says of which rate and channels.
fn film(sandbox: &Sandbox, name: &str, size: &str, rate: &str, seconds: u32, more: &[&str]) -> PathBuf {
    let path = sandbox.path(name);
    let pictures = format!("testsrc2=size={size}:rate={rate}:duration={seconds},hue=h=120,setsar=1");
    let sine = format!("sine=frequency=660:sample_rate=44100:duration={seconds},volume=0.5");
    let inputs = ["-f", "lavfi", "-i", &pictures, "-f", "lavfi", "-i", &sine, "-pix_fmt", "yuv420p"];
    let codecs = ["-c:v", "libx264", "-preset", "veryfast", "-g", "30", "-c:a", "pcm_s16le"];
    ffmpeg(&[&inputs[..], &codecs, more, &[path.to_str().unwrap()]].concat());
    path
}

/// One part of the reference: source, first and last second, filters of its pictures.
type Part<'a> = (usize, u32, u32, &'a str);

/// Where a resampler keeps the last few samples there is silence.
fn reference(sandbox: &Sandbox, sources: &[&Path], parts: &[Part<'_>], to: &str, sound: &str) -> PathBuf {
    let output = sandbox.path(to);
    let mut graph = String::new();
    for (n, (source, from, end, filters)) in parts.iter().enumerate() {
        graph += &format!("[{source}:v]{filters}trim={from}:{end},setpts=PTS-STARTPTS[v{n}];");
        graph += &format!(
            "[{source}:a]aformat=sample_fmts=dbl:sample_rates=48000:channel_layouts=stereo,apad,atrim={from}:{end},asetpts=PTS-STARTPTS[a{n}];"
        );
    }
    let pads: String = (0..parts.len()).map(|n| format!("[v{n}][a{n}]")).collect();
    graph += &format!("{pads}concat=n={}:v=1:a=1[v][a]", parts.len());
    let inputs: Vec<&str> = sources.iter().flat_map(|source| ["-i", source.to_str().unwrap()]).collect();
    let maps = ["-filter_complex", &graph, "-map", "[v]", "-map", "[a]", "-c:a", sound];
    ffmpeg(&[&inputs[..], &maps, LOSSLESS, &[output.to_str().unwrap()]].concat());
    output
}

fn same(ours: &Path, theirs: &Path, parts: &[Part<'_>]) {
    let (our_pictures, their_pictures) = (pictures(ours), pictures(theirs));
    assert_eq!(our_pictures.len(), their_pictures.len(), "frames of {parts:?}");
    for (n, ((our_pts, ours), (their_pts, theirs))) in our_pictures.iter().zip(&their_pictures).enumerate() {
        assert!((our_pts - their_pts).abs() <= 1, "frame {n} shown at {our_pts} ms, by ffmpeg at {their_pts} ms");
        assert_eq!(ours, theirs, "picture {n} of {parts:?}");
    }
    let (our_samples, their_samples) = (samples(ours), samples(theirs));
    assert_eq!(our_samples.len(), their_samples.len(), "samples of {parts:?}");
    let mut at = 0;
    let ends = parts.iter().map(|(_, from, end, _)| {
        at += usize::try_from((end - from) * 48_000).unwrap();
        at
    });
    let joins: Vec<usize> = ends.collect();
    for (n, (ours, theirs)) in our_samples.chunks(2).zip(their_samples.chunks(2)).enumerate() {
        let fades = joins.iter().any(|join| n + FADE >= *join && n < join + FADE);
        let close = ours.iter().zip(theirs).all(|(a, b)| a.abs_diff(*b) <= 1);
        assert!(fades || close, "sample {n}: {ours:?}, ffmpeg has {theirs:?}; joins {joins:?}");
    }
}

fn cuts(job: &serde_json::Value) -> Vec<String> {
    let chunks = job["output"]["chunks"].as_array().unwrap();
    chunks.iter().map(|chunk| chunk["cut"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn films_are_joined_as_by_ffmpegs_concat() {
    let sandbox = Sandbox::new();
    let first = films::clip(&films::PLAIN);
    let second = film(&sandbox, "second.mov", "320x180", "24", 5, &[]);
    // The sound begins elsewhere than the pictures, and so does the container's clock.
    let third = film(&sandbox, "third.mov", "640x360", "24", 4, &[]);
    for extension in ["mov", "mkv"] {
        let ours = sandbox.path(&format!("ours.{extension}"));
        let sound = if extension == "mkv" { "flac" } else { "pcm_s16le" };
        let inputs = [&second, &third, &second].map(|path| path.to_str().unwrap());
        let mut options = [LOSSLESS, &["-y", "-c:a", sound, "--chunk", "1s", "--verify", "full", "--concat"]].concat();
        options.extend(["-vf", "scale=320:180,setsar=1"]);
        options.extend(inputs.iter().flat_map(|path| ["-i", path]));
        let mut spool = sandbox.spool();
        let run = spool.args(["encode", "-i"]).arg(&first).args(&options).arg("-o").arg(&ours).arg("--json");
        let output = run.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let job: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let scaled = "scale=320:180:flags=bicubic,setsar=1,";
        let parts = [(0, 0, 12, scaled), (1, 0, 5, scaled), (2, 0, 4, scaled), (1, 0, 5, scaled)];
        let theirs = reference(&sandbox, &[&first, &second, &third], &parts, &format!("theirs.{extension}"), sound);
        same(&ours, &theirs, &parts);
        let cuts = cuts(&job);
        assert_eq!(cuts.iter().filter(|cut| *cut == "input").count(), 3, "{cuts:?}");
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_job_file_joins_clips_of_several_films() {
    let sandbox = Sandbox::new();
    let first = films::clip(&films::PLAIN);
    let second = film(&sandbox, "second.mov", "320x180", "24", 5, &[]);
    let ours = sandbox.path("ours.mov");
    let job = sandbox.path("job.yaml");
    let text = format!(
        "apiVersion: spool/v1\nkind: Job\nspec:\n  inputs:\n  - {{uri: {}, clips: [{{start: 8s, end: 10s}}, {{start: 1s, end: 2s}}]}}\n  - {}\n  - {{uri: {}, clips: [{{end: 3s}}]}}\n  output: {}\n  chunking: {{target: 1s}}\n  video: [{{codec: libx264, crf: 0, preset: ultrafast, gopFrames: 24}}]\n  audio: [{{codec: pcm_s16le}}]\n",
        first.display(),
        second.display(),
        first.display(),
        ours.display()
    );
    std::fs::write(&job, text).unwrap();
    let run = sandbox.spool().arg("submit").arg(&job).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let parts = [(0, 8, 10, ""), (0, 1, 2, ""), (1, 0, 5, ""), (0, 0, 3, "")];
    let theirs = reference(&sandbox, &[&first, &second], &parts, "theirs.mov", "pcm_s16le");
    same(&ours, &theirs, &parts);
}

#[test]
fn films_that_do_not_go_together_are_refused_by_both_names() {
    let sandbox = Sandbox::new();
    let first = film(&sandbox, "first.mov", "320x180", "24", 1, &[]);
    let others = [
        (film(&sandbox, "large.mov", "640x360", "24", 1, &[]), "640x360"),
        (film(&sandbox, "fast.mov", "320x180", "25", 1, &[]), "25/1"),
        (film(&sandbox, "deep.mov", "320x180", "24", 1, &["-pix_fmt", "yuv422p"]), "yuv422p"),
        (film(&sandbox, "wide.mov", "320x180", "24", 1, &["-aspect", "2"]), "9:8"),
        (film(&sandbox, "silent.mov", "320x180", "24", 1, &["-an"]), "tracks of sound"),
    ];
    let out = sandbox.path("out.mp4");
    for (other, says) in &others {
        let mut spool = sandbox.spool();
        let run = spool.args(["encode", "--concat", "-i"]).arg(&first).arg("-i").arg(other).arg("-o").arg(&out);
        let run = run.output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        let name = other.file_name().unwrap().to_str().unwrap();
        assert!(!run.status.success() && !out.exists(), "{name}: {said}");
        assert!(said.contains(says) && said.contains(name) && said.contains("first.mov"), "{name}: {said}");
    }
    for (options, says) in [
        (&["-ss", "1"][..], "-ss"),
        (&["--clip", "0-1"], "job file"),
        (&["-map", "0:v"], "-map"),
        (&["-c:a", "copy"], "-c:a copy"),
        (&["-vn"], "-vn"),
        (&["--quality", "psnr"], "--quality"),
    ] {
        let mut spool = sandbox.spool();
        let run = spool.args(["encode", "--concat", "-i"]).arg(&first).arg("-i").arg(&first).arg("-o").arg(&out);
        let run = run.args(options).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.code() == Some(2) && said.contains(says), "{options:?}: {said}");
    }
}

/// Another container, another clock, another timebase: the pictures are the same.
#[test]
fn each_film_has_its_own_clock() {
    let sandbox = Sandbox::new();
    let first = films::clip(&films::PLAIN);
    let (stream, ours) = (sandbox.path("stream.ts"), sandbox.path("ours.mp4"));
    ffmpeg(&["-i", first.to_str().unwrap(), "-c", "copy", "-muxdelay", "2", stream.to_str().unwrap()]);
    let options = [LOSSLESS, &["-c:a", "aac", "--loudness", "-20"]].concat();
    let mut spool = sandbox.spool();
    let run = spool.args(["encode", "--concat", "-i"]).arg(&stream).arg("-i").arg(&first).arg("-o").arg(&ours);
    let run = run.args(options).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let (pictures, once) = (pictures(&ours), pictures(&first));
    assert_eq!(pictures.len(), 2 * once.len());
    for (n, (pts, picture)) in pictures.iter().enumerate() {
        assert_eq!(*picture, once[n % once.len()].1, "picture {n}");
        let frame = i64::try_from(n).unwrap();
        assert!((pts * 24 - frame * 1000).abs() <= 24, "picture {n} at {pts} ms");
    }
    let (sound, length) = (films::audio_samples(&ours) / 2, 2 * 12 * 48_000);
    assert!(sound.abs_diff(length) < 2048, "{sound} samples");
}
