//! Titles: every rendition of a film, packaged, from a job file.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::films::{PLAIN, SLOW, clip, corpus_film, frame_times};
use crate::processes::{Fleet, Guarded, Sandbox, eventually, files_under};

/// A job of two codecs at two heights, with one track of sound.
fn job_file(sandbox: &Sandbox, film: &Path, more: &str) -> PathBuf {
    let path = sandbox.path("job.yaml");
    let subtitles = sandbox.path("subs.srt");
    std::fs::write(&subtitles, "1\n00:00:01,000 --> 00:00:02,500\nGuten Tag\n").unwrap();
    let text = format!(
        "apiVersion: spool/v1
kind: Job
metadata: {{name: a title}}
spec:
  input: {}
  output: {}
  video:
    - {{name: 180p, codec: libx264, height: 180, crf: 30, preset: ultrafast}}
    - {{name: 90p, codec: libx264, height: 90, crf: 34, preset: ultrafast}}
    - {{name: av1-90p, codec: libsvtav1, height: 90, crf: 50, preset: 12}}
  audio:
    - {{name: stereo, codec: aac, bitrate: 64k}}
  text:
    - {{file: {}, language: deu}}
  images: {{poster: true, sprite: 3x2, spriteEvery: 2s, width: 64}}
  packages: [hls, dash]
  chunking: {{segment: 2s, gop: 1s}}
{more}",
        film.display(),
        sandbox.path("package").display(),
        subtitles.display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn submit(sandbox: &Sandbox, job: &Path) -> Value {
    let output = sandbox.spool().arg("submit").arg(job).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("stdout holds the job as JSON and nothing else")
}

fn probe(path: &Path, what: &[&str]) -> Vec<String> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-of", "csv=p=0"]).args(what);
    if path.extension().is_some_and(|e| e == "mpd") {
        // Without it FFmpeg's DASH demuxer takes no .vtt beside the segments.
        command.args(["-allowed_extensions", "ALL"]);
    }
    let output = command.arg(path).output().unwrap();
    assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| line.trim_end_matches(',').to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn one_job_makes_every_rendition_and_a_package_that_demuxers_follow() {
    let sandbox = Sandbox::new();
    let film = clip(&PLAIN);
    let job = submit(&sandbox, &job_file(&sandbox, &film, ""));
    assert_eq!(job["service"], "title");
    let tracks = job["output"]["tracks"].as_array().unwrap();
    let told: Vec<String> =
        tracks.iter().map(|t| format!("{} {}", t["folder"].as_str().unwrap(), t["codec"].as_str().unwrap())).collect();
    assert!(told[0].starts_with("video/180p avc1.") && told[2].starts_with("video/av1-90p av01."), "{told:?}");
    assert_eq!(told[3..], ["audio/stereo mp4a.40.2", "text/deu webvtt"]);
    let package = sandbox.path("package");
    let frames = frame_times(&film).len();
    for entry in ["master.m3u8", "manifest.mpd"] {
        let streams = probe(&package.join(entry), &["-show_entries", "stream=codec_name,height"]);
        let mut pictures: Vec<&String> =
            streams.iter().filter(|s| s.contains(',') && !s.starts_with("webvtt")).collect();
        pictures.sort();
        pictures.dedup();
        assert_eq!(pictures, ["av1,90", "h264,180", "h264,90"], "{entry}");
        let count = ["-count_frames", "-select_streams", "v:0", "-show_entries", "stream=nb_read_frames"];
        assert_eq!(probe(&package.join(entry), &count)[0], frames.to_string(), "{entry}");
    }
    let subtitles = std::fs::read_to_string(package.join("text/deu/text.vtt")).unwrap();
    assert!(
        subtitles.contains("00:01.000 --> 00:02.500\nGuten Tag") || subtitles.contains("00:00:01.000"),
        "{subtitles}"
    );
    assert!(std::fs::read_to_string(package.join("master.m3u8")).unwrap().contains("LANGUAGE=\"de\""));
    for picture in ["poster.jpg", "sprite-001.jpg", "sprite.vtt"] {
        assert!(package.join("images").join(picture).is_file(), "{picture}");
    }
    // Keyframes of all renditions stand at the same times, and every segment begins with one.
    let mut starts = Vec::new();
    for folder in ["180p", "90p", "av1-90p"] {
        let playlist = package.join("video").join(folder).join("playlist.m3u8");
        let packets = probe(&playlist, &["-select_streams", "v:0", "-show_entries", "packet=pts_time,flags"]);
        assert_eq!(packets.len(), frames, "{folder}");
        let keys = packets.iter().filter(|line| line.contains('K')).map(|line| line.split(',').next().unwrap());
        starts.push(keys.map(|time| time.parse::<f64>().unwrap().round()).collect::<Vec<_>>());
    }
    assert_eq!(starts[0], (0..12).map(f64::from).collect::<Vec<_>>());
    assert!(starts.iter().all(|times| *times == starts[0]), "{starts:?}");
    sandbox.assert_nothing_left();
}

#[test]
fn a_killed_title_goes_on_where_it_stopped_and_shows_nothing_before_it_is_whole() {
    let sandbox = Sandbox::new();
    let job = job_file(&sandbox, &clip(&SLOW), "");
    let mut command = sandbox.spool();
    command.arg("submit").arg(&job).args(["--progress", "none"]);
    let mut first = Guarded::spawn(&mut command);
    // Until chunks lie there.
    let has_chunk = || files_under(&sandbox.data_home()).iter().any(|path| path.to_string_lossy().contains("/chunk.f"));
    while !has_chunk() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    first.kill();
    assert!(!sandbox.path("package").exists(), "nothing is published before all of it was checked");
    let done = submit(&sandbox, &job);
    assert_eq!(done["state"], "done");
    let attempts: u64 = done["tasks"].as_array().unwrap().iter().map(|task| task["attempt"].as_u64().unwrap()).sum();
    let tasks = u64::try_from(done["tasks"].as_array().unwrap().len()).unwrap();
    assert!(attempts < tasks * 2, "{attempts} attempts at {tasks} tasks: what was done is kept");
    assert!(sandbox.path("package/master.m3u8").is_file());
}

/// Service of each job of a tree, the whole first.
fn services(tree: &Value) -> Vec<String> {
    let below = tree["children"].as_array().unwrap().iter().flat_map(services);
    std::iter::once(tree["service"].as_str().unwrap().to_owned()).chain(below).collect()
}

fn told(fleet: &Fleet, args: &[&str]) -> Value {
    let output = fleet.client(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_title_is_a_tree_of_services_and_nothing_of_them_is_left() {
    let fleet = Fleet::new();
    let (_server, _worker) = (fleet.server(), fleet.worker("w1"));
    let file = job_file(&fleet.sandbox, &clip(&PLAIN), "");
    let job = told(&fleet, &["submit", file.to_str().unwrap(), "--json"]);
    assert_eq!((&job["service"], &job["state"]), (&"title".into(), &"done".into()));
    let mut found = services(&told(&fleet, &["job", "tree", "j1", "--json"]));
    assert_eq!(found.remove(0), "title");
    found.sort();
    let mut expected = vec!["audio-encode", "images", "inspect", "package", "text"];
    expected.extend(["validate"; 4]);
    expected.extend(["video-encode"; 3]);
    assert_eq!(found, expected);
    // What the parts did counts as the title's.
    let encodes = job["tasks"].as_array().unwrap().iter().filter(|task| task["function"] == "media.encode");
    assert_eq!(job["progress"]["chunks_total"], encodes.clone().count());
    assert!(encodes.clone().any(|task| task["label"] == "av1-90p chunk 0"), "{:?}", encodes.collect::<Vec<_>>());
    let listed =
        |args: &[&str]| told(&fleet, &[&["job", "list", "-o", "json"], args].concat()).as_array().unwrap().len();
    assert_eq!((listed(&[]), listed(&["--parts"])), (1, 13));
    let artifacts = fleet.data().join("artifacts");
    eventually("the pieces are gone", || files_under(&artifacts).is_empty().then_some(()));
}

/// Frames that each track of pictures and of sound decodes to, in order.
fn decoded(entry: &Path) -> Vec<usize> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-allowed_extensions", "ALL", "-i"]).arg(entry);
    let output = command.args(["-map", "0:v", "-map", "0:a", "-f", "framecrc", "-"]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let track = |line: &str| line.split(',').next().and_then(|index| index.trim().parse::<usize>().ok());
    let mut frames = Vec::new();
    for index in lines.lines().filter(|line| !line.starts_with('#')).filter_map(track) {
        frames.resize(frames.len().max(index + 1), 0);
        frames[index] += 1;
    }
    frames
}

/// Three sizes in two codecs, every language, both kinds of package.
#[test]
fn corpus_films_of_many_tracks_are_made_whole() {
    for (name, sounds, texts) in
        [("mkv__full_3audio_2subs_chapters_font.mkv", 3, 2), ("mp4__2video_2audio_2subs_nasa.mp4", 2, 2)]
    {
        let Some(film) = corpus_film(&format!("odd/{name}")) else { return };
        let (fleet, sandbox) = (Fleet::new(), Sandbox::new());
        let (_server, _worker) = (fleet.server(), fleet.worker("w1"));
        let (path, package) = (sandbox.path("job.yaml"), sandbox.path("package"));
        let mut text = format!(
            "apiVersion: spool/v1\nkind: Job\nspec:\n  input: {}\n  output: {}\n  packages: [hls, dash]\n  \
             chunking: {{segment: 2s, gop: 1s, target: 4s}}\n  audio: [{{name: stereo, codec: aac, channels: 2, tracks: all}}]\n  \
             text: [{{name: subs, tracks: all}}]\n  video:\n",
            film.display(),
            package.display()
        );
        for height in [180, 134, 90] {
            text +=
                &format!("    - {{name: {height}p, codec: libx264, height: {height}, crf: 28, preset: ultrafast}}\n");
            text +=
                &format!("    - {{name: av1-{height}p, codec: libsvtav1, height: {height}, crf: 50, preset: 12}}\n");
        }
        std::fs::write(&path, text).unwrap();
        let job = told(&fleet, &["submit", path.to_str().unwrap(), "--json"]);
        assert_eq!(job["state"], "done", "{name}: {job}");
        let tree = services(&told(&fleet, &["job", "tree", "j1", "--json"]));
        let count = |service: &str| tree.iter().filter(|one| *one == service).count();
        let counted = ["video-encode", "audio-encode", "text", "package", "validate"].map(count);
        assert_eq!(counted, [6, sounds, texts, 1, 6 + sounds], "{name}: {tree:?}");
        for entry in ["master.m3u8", "manifest.mpd"] {
            let frames = decoded(&package.join(entry));
            assert_eq!(frames.len(), 6 + sounds, "{name} {entry}: {frames:?}");
            let pictures = job["output"]["tracks"][0]["frames"].as_u64().unwrap();
            assert!(frames[..6].iter().all(|frames| *frames as u64 == pictures), "{name} {entry}: {frames:?}");
            assert!(frames[6..].iter().all(|frames| *frames > 100), "{name} {entry}: {frames:?}");
        }
        let master = std::fs::read_to_string(package.join("master.m3u8")).unwrap();
        assert_eq!(master.matches("TYPE=SUBTITLES").count(), texts, "{master}");
        assert_eq!(master.matches("TYPE=AUDIO").count(), sounds, "{master}");
    }
}

#[test]
fn a_title_that_failed_goes_on_with_what_its_parts_have_done() {
    let fleet = Fleet::new();
    let (_server, _worker) = (fleet.server(), fleet.worker("w1"));
    let file = job_file(&fleet.sandbox, &clip(&PLAIN), "");
    let subtitles = fleet.sandbox.path("subs.srt");
    let text = std::fs::read(&subtitles).unwrap();
    std::fs::remove_file(&subtitles).unwrap();
    let output = fleet.client(&["submit", file.to_str().unwrap(), "--detach"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let failed = fleet.finished("j1");
    assert_eq!(
        (&failed["state"], &failed["failure"]["code"]),
        (&"failed".into(), &"source_missing".into()),
        "{failed}"
    );
    std::fs::write(&subtitles, text).unwrap();
    assert!(fleet.client(&["job", "retry", "j1"]).status.success());
    let done = fleet.finished("j1");
    assert_eq!(done["state"], "done", "{}", done["failure"]);
    let phases = done["phases"].as_array().unwrap();
    assert!(phases.iter().all(|phase| phase["done"] == phase["tasks"]), "{phases:?}");
    assert!(fleet.sandbox.path("package/master.m3u8").is_file());
    let parts = services(&told(&fleet, &["job", "tree", "j1", "--json"]));
    assert_eq!(parts.len(), 13, "no part was begun anew: {parts:?}");
}

#[test]
fn a_job_file_that_is_wrong_is_refused_before_anything_is_done() {
    let sandbox = Sandbox::new();
    let film = clip(&PLAIN);
    for (more, says) in [
        ("  colour: red\n", "spec.colour"),
        ("  ladder: {codecs: [libx264], maxHeight: 181}\n", "ladder.max_height"),
        ("  pool: studio\n", "--server"),
    ] {
        let job = job_file(&sandbox, &film, more);
        let output = sandbox.spool().arg("submit").arg(&job).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(says), "{says}: {text}");
    }
    assert!(!sandbox.path("package").exists());
}

#[test]
fn a_template_alone_makes_a_film() {
    let sandbox = Sandbox::new();
    let out = sandbox.path("proxy.mp4");
    let mut command = sandbox.spool();
    command.args(["template", "apply", "proxy@1", "-i"]).arg(clip(&PLAIN)).arg("-o").arg(&out).arg("--json");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(probe(&out, &["-select_streams", "v:0", "-show_entries", "stream=height"]), ["360"]);
    let listed = sandbox.spool().args(["template", "list"]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("hls-h264@1"));
}
