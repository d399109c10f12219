//! Clips joined, against one `ffmpeg` process with `trim`, `atrim` and `concat`: the same pictures, frame by frame, and the same sound,
//! sample by sample, but for the few milliseconds in which joins fade.

use std::path::Path;
use std::process::Command;

use crate::films;
use crate::processes::Sandbox;

/// Lossless, so that what is decoded is what was encoded.
const LOSSLESS: &[&str] = &["-c:v", "libx264", "-preset", "ultrafast", "-crf", "0"];
/// Samples of 48 kHz that a join fades over, on each side.
const FADE: usize = 240;

/// (start, end) in seconds.
type Ranges<'a> = &'a [(&'a str, &'a str)];

fn ffmpeg(arguments: &[&str], film: &Path) -> Vec<u8> {
    let output = Command::new("ffmpeg").args(["-v", "error", "-y", "-i"]).arg(film).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// pts in milliseconds, and the hash of each decoded picture.
fn pictures(film: &Path) -> Vec<(i64, String)> {
    let text =
        ffmpeg(&["-map", "0:v", "-fps_mode", "passthrough", "-enc_time_base", "1/1000", "-f", "framemd5", "-"], film);
    let text = String::from_utf8(text).unwrap();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        (fields[2].parse().unwrap(), fields[5].to_owned())
    };
    text.lines().filter(|line| !line.starts_with('#')).map(row).collect()
}

/// Interleaved samples.
fn samples(film: &Path) -> Vec<i16> {
    let bytes = ffmpeg(&["-map", "0:a:0", "-f", "s16le", "-c:a", "pcm_s16le", "-"], film);
    bytes.chunks_exact(2).map(|both| i16::from_le_bytes([both[0], both[1]])).collect()
}

/// `[0:v]trim…[v0];[0:a]atrim…[a0];…concat`. `edges`: of the sound, in seconds.
fn graph(clips: Ranges<'_>, edges: Ranges<'_>) -> String {
    let mut graph = String::new();
    for (n, ((start, end), (from, to))) in clips.iter().zip(edges).enumerate() {
        graph += &format!("[0:v]trim=start={start}:end={end},setpts=PTS-STARTPTS[v{n}];");
        graph += &format!("[0:a]atrim=start={from}:end={to},asetpts=PTS-STARTPTS[a{n}];");
    }
    for n in 0..clips.len() {
        graph += &format!("[v{n}][a{n}]");
    }
    graph + &format!("concat=n={}:v=1:a=1[v][a]", clips.len())
}

/// Joins `clips` of `film` both ways. `edges`: where the sound of each is cut, which is where its first frame begins and where the frame
/// behind it does. The film as joined by Spool is left in the sandbox.
fn same_as_ffmpeg(sandbox: &Sandbox, film: &Path, extension: &str, clips: Ranges<'_>, edges: Ranges<'_>) {
    let ours = sandbox.path(&format!("ours.{extension}"));
    let theirs = sandbox.path(&format!("theirs.{extension}"));
    let sound = if extension == "mkv" { "flac" } else { "pcm_s16le" };
    let mut options = [LOSSLESS, &["-y", "-c:a", sound, "--chunk", "1s", "--verify", "full"]].concat();
    let texts: Vec<String> = clips.iter().map(|(start, end)| format!("{start}-{end}")).collect();
    options.extend(texts.iter().flat_map(|clip| ["--clip", clip]));
    let job = sandbox.encode(film, &ours, &options);
    let graph = graph(clips, edges);
    let reference = [&["-filter_complex", &graph, "-map", "[v]", "-map", "[a]"], LOSSLESS, &["-c:a", sound]].concat();
    ffmpeg(&[&reference[..], &[theirs.to_str().unwrap()]].concat(), film);

    let (our_pictures, their_pictures) = (pictures(&ours), pictures(&theirs));
    let hashes = |of: &[(i64, String)]| of.iter().map(|(_, hash)| hash.clone()).collect::<Vec<_>>();
    assert_eq!(hashes(&our_pictures), hashes(&their_pictures), "pictures of {clips:?}");
    for ((our_pts, _), (their_pts, _)) in our_pictures.iter().zip(&their_pictures) {
        assert!((our_pts - their_pts).abs() <= 1, "shown at {our_pts} ms, by ffmpeg at {their_pts} ms: {clips:?}");
    }

    let (our_samples, their_samples) = (samples(&ours), samples(&theirs));
    assert_eq!(our_samples.len(), their_samples.len(), "samples of {clips:?}");
    let mut joins = Vec::new();
    let mut at = 0.0;
    for (from, to) in edges {
        at += to.parse::<f64>().unwrap() - from.parse::<f64>().unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a short clip")]
        joins.push((at * 48_000.0).round() as usize);
    }
    for (n, (ours, theirs)) in our_samples.chunks(2).zip(their_samples.chunks(2)).enumerate() {
        let fades = joins.iter().any(|join| n + FADE >= *join && n < join + FADE);
        assert!(fades || ours == theirs, "sample {n}: {ours:?}, ffmpeg has {theirs:?}; joins {joins:?}");
    }
    let starts: Vec<&str> =
        job["output"]["chunks"].as_array().unwrap().iter().map(|chunk| chunk["cut"].as_str().unwrap()).collect();
    assert_eq!(starts.iter().filter(|cut| **cut == "clip").count(), clips.len() - 1, "{starts:?}");
    sandbox.assert_nothing_left();
}

#[test]
fn clips_in_any_order_are_those_of_trim_and_concat() {
    let film = films::clip(&films::PLAIN);
    let sandbox = Sandbox::new();
    // 24 frames a second: all edges are frames'.
    let clips = [("8", "10.25"), ("1.5", "4"), ("3", "3.5"), ("0", "0.125")];
    same_as_ffmpeg(&sandbox, &film, "mov", &clips, &clips);
    same_as_ffmpeg(&sandbox, &film, "mkv", &clips, &clips);
    // Between frames: pictures and sound begin with the next frame.
    let (clips, edges) =
        ([("2.01", "3.02"), ("7.49", "8.51")], [("2.041666667", "3.041666667"), ("7.5", "8.541666667")]);
    same_as_ffmpeg(&sandbox, &film, "mov", &clips, &edges);
}

#[test]
fn clips_that_follow_each_other_are_one_run_of_the_source() {
    let film = films::clip(&films::PLAIN);
    let sandbox = Sandbox::new();
    let (parts, whole) = (sandbox.path("parts.mov"), sandbox.path("whole.mov"));
    let options = [LOSSLESS, &["-c:a", "pcm_s16le"]].concat();
    let clips = ["--clip", "1-2.5", "--clip", "2.5-6", "--clip", "6-9"];
    sandbox.encode(&film, &parts, &[&options[..], &clips].concat());
    sandbox.encode(&film, &whole, &[&options[..], &["-ss", "1", "-to", "9"]].concat());
    assert_eq!(pictures(&parts), pictures(&whole));
    assert_eq!(samples(&parts), samples(&whole), "nothing fades where the source goes on");
}

/// Open GOPs in a transport stream: chunks are entered ahead of clips that begin anywhere.
#[test]
fn clips_of_a_transport_stream_begin_with_the_right_frame() {
    let film = films::clip(&films::NTSC_TS);
    let sandbox = Sandbox::new();
    // The film's clock starts with its sound, a little before its pictures.
    let start = |what: &str| -> f64 {
        let out = Command::new("ffprobe")
            .args(["-v", "error", "-select_streams", "v", "-show_entries", what, "-of", "csv=p=0"])
            .arg(&film)
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap().lines().next().unwrap().trim_end_matches(',').parse().unwrap()
    };
    let pictures_at = start("stream=start_time") - start("format=start_time");
    // Five frames are a whole number of samples.
    let at = |frame: u32| format!("{:.9}", pictures_at + f64::from(frame) * 1001.0 / 30_000.0);
    let texts = [(at(155), at(200)), (at(20), at(65)), (at(100), at(105))];
    let edges: Vec<(&str, &str)> = texts.iter().map(|(start, end)| (start.as_str(), end.as_str())).collect();
    // A little earlier, so that rounding to the source's clock leaves the first frame in.
    let early = |frame: u32| format!("{:.6}", pictures_at + f64::from(frame) * 1001.0 / 30_000.0 - 0.001);
    let texts = [(early(155), early(200)), (early(20), early(65)), (early(100), early(105))];
    let clips: Vec<(&str, &str)> = texts.iter().map(|(start, end)| (start.as_str(), end.as_str())).collect();
    same_as_ffmpeg(&sandbox, &film, "mov", &clips, &edges);
}

#[test]
fn clips_of_a_variable_rate_keep_every_frame_and_its_time() {
    let sandbox = Sandbox::new();
    let film = sandbox.path("vfr.mkv");
    // Half of a second in full, half in every fifth frame.
    let filter = "testsrc2=s=160x90:r=50:d=8,select='lt(mod(t\\,1)\\,0.5)+not(mod(n\\,5))'";
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", filter, "-f", "lavfi", "-i", "sine=f=330:r=48000:d=8"])
        .args([
            "-map",
            "0:v",
            "-map",
            "1:a",
            "-fps_mode",
            "vfr",
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-c:a",
            "flac",
        ])
        .args(["-ac", "2"])
        .arg(&film)
        .status()
        .unwrap();
    assert!(made.success());
    // `concat` guesses how long the last frame of a range is shown; where that is shorter than the sound it does no harm.
    let clips = [("4.2", "5.9"), ("0.3", "0.8"), ("5", "7.5")];
    same_as_ffmpeg(&sandbox, &film, "mkv", &clips, &clips);
}

#[test]
fn chapters_subtitles_and_sound_follow_the_clips() {
    let sandbox = Sandbox::new();
    let subs = sandbox.path("subs.srt");
    let lines = "1\n00:00:01,000 --> 00:00:03,000\nfirst\n\n2\n00:00:07,500 --> 00:00:09,000\nsecond\n";
    std::fs::write(&subs, lines).unwrap();
    let marks = sandbox.path("marks.txt");
    let chapter = |start: u32, end: u32, title: &str| {
        format!("[CHAPTER]\nTIMEBASE=1/1000\nSTART={start}\nEND={end}\ntitle={title}\n")
    };
    std::fs::write(&marks, format!(";FFMETADATA1\n{}{}", chapter(0, 5000, "one"), chapter(5000, 12_000, "two")))
        .unwrap();
    let film = sandbox.path("film.mkv");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(films::clip(&films::PLAIN))
        .arg("-i")
        .arg(&subs)
        .arg("-i")
        .arg(&marks)
        .args(["-map", "0", "-map", "1", "-map_metadata", "2", "-map_chapters", "2", "-c", "copy", "-c:s", "srt"])
        .arg(&film)
        .status()
        .unwrap();
    assert!(made.success());
    let out = sandbox.path("out.mkv");
    sandbox.encode(&film, &out, &["-preset", "ultrafast", "-c:a", "libopus", "--clip", "8-10", "--clip", "2-6"]);
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-show_chapters", "-show_packets", "-select_streams", "s", "-of", "json"])
        .arg(&out)
        .output()
        .unwrap();
    let found: serde_json::Value = serde_json::from_slice(&probe.stdout).unwrap();
    let seconds = |value: &serde_json::Value| {
        #[expect(clippy::cast_possible_truncation, reason = "a time of a short clip in milliseconds")]
        let ms = (value.as_str().unwrap().parse::<f64>().unwrap() * 1000.0).round() as i64;
        ms
    };
    // Opus is primed: Matroska moves the film by as much, 6.5 ms and some.
    let rows = |list: &str, start: &str, end: &str| -> Vec<(i64, i64)> {
        let list = found[list].as_array().unwrap();
        list.iter().map(|row| (seconds(&row[start]) / 10 * 10, seconds(&row[end]))).collect()
    };
    assert_eq!(rows("packets", "pts_time", "duration_time"), [(0, 1000), (2000, 1000)], "cut at both ends");
    let chapters = found["chapters"].as_array().unwrap();
    let titles: Vec<&str> = chapters.iter().map(|row| row["tags"]["title"].as_str().unwrap()).collect();
    assert_eq!(titles, ["two", "one", "two"]);
    let times: Vec<(i64, i64)> =
        chapters.iter().map(|row| (seconds(&row["start_time"]), seconds(&row["end_time"]))).collect();
    // The pictures of this source begin 21 ms behind its clock, its chapters do not.
    let expected = [(0, 2000), (2000, 5000), (5000, 6000)];
    let near = times.iter().zip(expected).all(|(a, b)| (a.0 - b.0).abs() <= 25 && (a.1 - b.1).abs() <= 25);
    assert!(near, "{times:?}");
    assert!((films::duration(&out) - 6.0).abs() < 0.03, "{}", films::duration(&out));
}

#[test]
fn a_clip_without_a_frame_is_named_and_so_is_a_filter_that_hides_frames() {
    let film = films::clip(&films::PLAIN);
    let sandbox = Sandbox::new();
    let said = |options: &[&str]| {
        let out = sandbox.path("none.mp4");
        let run = sandbox.spool().arg("encode").arg(&film).arg("-o").arg(&out).args(options).output().unwrap();
        assert!(!run.status.success(), "{options:?}");
        assert!(!out.exists());
        String::from_utf8(run.stderr).unwrap()
    };
    let late = said(&["--clip", "1-2", "--clip", "30-40"]);
    assert!(late.contains("--clip 30-40 (number 2 of 2)"), "{late}");
    let blind = said(&["--clip", "1-2", "-vf", "hqdn3d"]);
    assert!(blind.contains("hqdn3d") && blind.contains("whole first"), "{blind}");
    let copied = said(&["--clip", "1-2", "-c:a", "copy"]);
    assert!(copied.contains("-c:a copy with --clip"), "{copied}");
}

#[test]
fn a_job_file_names_clips_of_its_input() {
    let film = films::clip(&films::PLAIN);
    let sandbox = Sandbox::new();
    let (job, out) = (sandbox.path("job.yaml"), sandbox.path("out.mp4"));
    let text = format!(
        "apiVersion: spool/v1\nkind: Job\nspec:\n  input:\n    uri: {}\n    clips: [{{start: 9, end: '0:10.5'}}, {{end: 1s}}]\n  \
         output: {}\n  video: [{{codec: libx264, preset: ultrafast}}]\n  audio: [{{codec: aac}}]\n",
        film.display(),
        out.display()
    );
    std::fs::write(&job, text).unwrap();
    let run = sandbox.spool().arg("submit").arg(&job).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(films::frame_times(&out).len(), 60);
    assert!(films::audio_samples(&out).abs_diff(2 * 120_000) <= 2 * 1024);
}

#[test]
fn clips_go_through_two_passes_scores_and_loudness_as_any_film() {
    let film = films::clip(&films::PLAIN);
    let sandbox = Sandbox::new();
    let out = sandbox.path("out.mp4");
    let options =
        ["-preset", "veryfast", "-b:v", "4M", "--two-pass", "-c:a", "aac", "--loudness", "-20", "--quality", "psnr"];
    let job =
        sandbox.encode(&film, &out, &[&options[..], &["--clip", "8-11", "--clip", "0.5-4", "--clip", "2-"]].concat());
    assert_eq!(films::frame_times(&out).len(), (72 + 84 + 240));
    let scored = job["output"]["quality"]["chunks"].as_array().unwrap();
    let frames: u64 =
        scored.iter().map(|chunk| chunk["end"].as_u64().unwrap() - chunk["start"].as_u64().unwrap()).sum();
    assert_eq!(frames, 72 + 84 + 240, "{scored:?}");
    let lowest = scored.iter().map(|chunk| chunk["scores"][0]["min"].as_f64().unwrap()).fold(f64::MAX, f64::min);
    assert!(lowest > 20.0, "the pictures are those of the clips: {scored:?}");
    assert!(films::audio_samples(&out).abs_diff(2 * 48_000 * 396 / 24) <= 2 * 1024);
}
