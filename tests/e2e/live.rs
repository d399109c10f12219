//! Titles that are published live: they play while they are encoded, and end as if they had been published whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::films::{PLAIN, SLOW, clip};
use crate::processes::{Fleet, Guarded, Sandbox, done_chunks, eventually, files_under};
use crate::s3::S3Store;

/// Two renditions in chunks of one segment, sound, text, pictures.
fn job_file(sandbox: &Sandbox, film: &Path) -> PathBuf {
    job_file_of(sandbox, film, 30)
}

fn job_file_of(sandbox: &Sandbox, film: &Path, crf: u32) -> PathBuf {
    let (path, subtitles) = (sandbox.path("job.yaml"), sandbox.path("subs.srt"));
    std::fs::write(&subtitles, "1\n00:00:01,000 --> 00:00:02,500\nGuten Tag\n").unwrap();
    let text = format!(
        "apiVersion: spool/v1
kind: Job
spec:
  input: {}
  output: {}
  publish: live
  video:
    - {{name: 270p, codec: libx264, height: 270, crf: {crf}, maxrate: 900k, bufsize: 1800k, preset: medium}}
    - {{name: 90p, codec: libx264, height: 90, crf: 34, preset: medium}}
  audio:
    - {{name: stereo, codec: aac, bitrate: 64k}}
  text:
    - {{file: {}, language: deu}}
  images: {{poster: true}}
  packages: [hls, dash]
  chunking: {{segment: 2s, gop: 1s, target: 2s}}
",
        film.display(),
        sandbox.path("package").display(),
        subtitles.display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// Every file below a folder, with what is in it.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |path: PathBuf| (path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap());
    files_under(folder).into_iter().map(read).collect()
}

fn assert_same(live: &Path, whole: &Path) {
    let (live, whole) = (contents(live), contents(whole));
    assert_eq!(live.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>());
    let differ: Vec<_> = live.iter().filter(|(path, bytes)| whole[*path] != **bytes).map(|(path, _)| path).collect();
    assert!(differ.is_empty(), "{differ:?}");
}

/// Frames of the first one and a half seconds of pictures and of sound: what is behind two may not be there yet.
fn played(playlist: &Path) -> (usize, usize) {
    let mut command = Command::new("timeout");
    command.args(["-k", "1", "60", "ffmpeg", "-v", "error"]);
    match playlist.extension().is_some_and(|extension| extension == "mpd") {
        // Without it FFmpeg's DASH demuxer takes no .vtt beside the segments.
        true => command.args(["-allowed_extensions", "ALL"]),
        false => command.args(["-live_start_index", "0"]),
    };
    command.arg("-i").arg(playlist).args(["-map", "0:v:0", "-map", "0:a:0", "-t", "1.5", "-f", "framecrc", "-"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}: {}", playlist.display(), String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let of = |stream: &str| lines.lines().filter(|line| line.starts_with(stream)).count();
    (of("0,"), of("1,"))
}

fn spooled(sandbox: &Sandbox, args: &[&str], job: &Path) -> std::process::Output {
    sandbox.spool().arg("submit").arg(job).args(args).args(["--json", "--progress", "none"]).output().unwrap()
}

fn done(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_live_title_plays_before_it_is_encoded_and_ends_as_one_that_was_published_whole() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    // One task at a time: nothing but the order of the tasks decides when the first segments are there.
    let mut worker = fleet.worker_of("w1", 1);
    let file = job_file(&fleet.sandbox, &clip(&SLOW));
    let output = fleet.client(&["submit", file.to_str().unwrap(), "--detach"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let package = fleet.sandbox.path("package");
    let master = package.join("master.m3u8");
    eventually("there is a playlist", || master.is_file().then_some(()));
    // From here on nothing is encoded, until the next worker comes.
    worker.kill();
    let (job, chunks) = (fleet.job("j1"), 24);
    assert_eq!(job["state"], "running", "{job}");
    let encoded = done_chunks(&job).len();
    assert!(encoded < chunks * 3 / 4, "{encoded} of {chunks} chunks are encoded");

    let playlist = std::fs::read_to_string(package.join("video/270p/playlist.m3u8")).unwrap();
    assert!(playlist.contains("#EXT-X-PLAYLIST-TYPE:EVENT") && !playlist.contains("ENDLIST"), "{playlist}");
    for folder in ["video/270p", "video/90p", "audio/stereo"] {
        let listed = std::fs::read_to_string(package.join(folder).join("playlist.m3u8")).unwrap();
        let segments: Vec<&str> = listed.lines().filter(|line| line.ends_with(".m4s")).collect();
        assert!(!segments.is_empty() && segments.len() < 12, "{listed}");
        assert!(segments.iter().all(|segment| package.join(folder).join(segment).is_file()), "{listed}");
    }
    for entry in [master, package.join("manifest.mpd")] {
        let (pictures, sound) = played(&entry);
        // Sound begins a little before the pictures, and the clock with it.
        assert!(
            (35..=36).contains(&pictures) && sound >= 70,
            "{}: {pictures} pictures, {sound} frames of sound",
            entry.display()
        );
    }
    // What the killed one was at is done again.
    let _next = fleet.worker("w2");
    let done = fleet.finished("j1");
    assert_eq!(done["state"], "done", "{}", done["failure"]);

    let whole = fleet.sandbox.path("whole");
    let args = ["submit", file.to_str().unwrap(), "--publish", "whole", "-o", whole.to_str().unwrap(), "--json"];
    let output = fleet.client(&args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_same(&package, &whole);
    let tree = fleet.client(&["job", "tree", "j1", "--json"]);
    let tree: Value = serde_json::from_slice(&tree.stdout).unwrap();
    let grown = tree["children"].as_array().unwrap().iter().filter(|child| child["service"] == "package").count();
    assert_eq!(grown, 2, "one that grew, and one of the whole: {tree}");
    let artifacts = fleet.data().join("artifacts");
    eventually("the pieces are gone", || files_under(&artifacts).is_empty().then_some(()));
}

#[test]
fn a_live_title_that_is_cancelled_keeps_what_it_has_shown_and_goes_on_when_it_is_retried() {
    let fleet = Fleet::new();
    let (_server, _worker) = (fleet.server(), fleet.worker_of("w1", 1));
    let file = job_file(&fleet.sandbox, &clip(&SLOW));
    let output = fleet.client(&["submit", file.to_str().unwrap(), "--detach"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let package = fleet.sandbox.path("package");
    let playlist = package.join("video/270p/playlist.m3u8");
    eventually("there is a playlist", || playlist.is_file().then_some(()));
    assert!(fleet.client(&["job", "cancel", "j1"]).status.success());
    assert_eq!(fleet.finished("j1")["state"], "cancelled");
    let shown = std::fs::read_to_string(&playlist).unwrap();
    let segments: Vec<&str> = shown.lines().filter(|line| line.ends_with(".m4s")).collect();
    assert!(!shown.contains("ENDLIST") && !segments.is_empty() && segments.len() < 12, "{shown}");
    assert!(segments.iter().all(|segment| package.join("video/270p").join(segment).is_file()), "{shown}");

    assert!(fleet.client(&["job", "retry", "j1"]).status.success());
    let done = fleet.finished("j1");
    assert_eq!(done["state"], "done", "{}", done["failure"]);
    let grown = std::fs::read_to_string(&playlist).unwrap();
    assert!(grown.contains("ENDLIST") && segments.iter().all(|segment| grown.contains(segment)), "{grown}");
    let whole = fleet.sandbox.path("whole");
    let args = ["submit", file.to_str().unwrap(), "--publish", "whole", "-o", whole.to_str().unwrap(), "--json"];
    let output = fleet.client(&args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_same(&package, &whole);
}

#[test]
fn a_live_title_takes_no_folder_that_is_not_its_own() {
    let sandbox = Sandbox::new();
    let package = sandbox.path("package");
    std::fs::create_dir_all(package.join("video/1080p")).unwrap();
    std::fs::write(package.join("video/1080p/00001.m4s"), "old").unwrap();
    // Other jobs: the same one would go on as it was begun.
    for (entry, options, crf) in [("mine.txt", &["-y"][..], 31), ("master.m3u8", &[], 32)] {
        let job = job_file_of(&sandbox, &clip(&PLAIN), crf);
        std::fs::write(package.join(entry), "#EXTM3U\n").unwrap();
        let refused = spooled(&sandbox, options, &job);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && text.contains("output_exists"), "{entry}: {text}");
        assert_eq!(files_under(&package).len(), if entry == "mine.txt" { 2 } else { 3 }, "nothing is touched");
    }
    // A package may be replaced: then none of it is left.
    let job = job_file(&sandbox, &clip(&PLAIN));
    done(&spooled(&sandbox, &["-y"], &job));
    assert!(!package.join("video/1080p").exists() && !package.join("mine.txt").exists());
    done(&spooled(&sandbox, &["--publish", "whole", "-o", sandbox.path("whole").to_str().unwrap()], &job));
    assert_same(&package, &sandbox.path("whole"));
}

#[test]
fn a_live_title_grows_in_a_store_too() {
    let (sandbox, store) = (Sandbox::new(), S3Store::new());
    let job = job_file(&sandbox, &clip(&PLAIN));
    let mut command = sandbox.spool();
    command.arg("submit").arg(&job).args(["-o", "s3://films/package/", "--json", "--progress", "none"]);
    let mut running = Guarded::spawn(store.open_to(&mut command).stdout(std::process::Stdio::null()));
    let playlist = store.file("package/video/90p/playlist.m3u8");
    let first =
        eventually("there is a playlist", || std::fs::read_to_string(&playlist).ok().filter(|text| !text.is_empty()));
    assert!(first.contains("#EXT-X-PLAYLIST-TYPE:EVENT"), "{first}");
    assert!(running.wait().success());
    done(&spooled(&sandbox, &["--publish", "whole", "-o", sandbox.path("whole").to_str().unwrap()], &job));
    assert_same(&store.file("package"), &sandbox.path("whole"));
    let types = [
        "application/dash+xml",
        "application/vnd.apple.mpegurl",
        "image/jpeg",
        "text/vtt",
        "video/iso.segment",
        "video/mp4",
    ];
    assert_eq!(store.content_types(), types.map(str::to_owned).into());
}
