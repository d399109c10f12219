//! Whatever film comes in: what one ffmpeg process makes of it, or a clear refusal. The whole table is `make truth`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::films;
use crate::processes::Sandbox;

const X264: &[&str] = &["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-sn"];
/// What Spool opens: without it ffmpeg follows playlists into other files.
const FORMATS: &str = "mov,mp4,matroska,webm,mpegts,mpeg,avi,flv,mxf,ogg,h264,hevc,ivf";

fn ffmpeg(args: &[&str], output: &Path) -> Output {
    Command::new("ffmpeg").args(["-v", "error", "-nostdin", "-y"]).args(args).arg(output).output().unwrap()
}

fn made(args: &[&str], output: PathBuf) -> PathBuf {
    let result = ffmpeg(args, &output);
    assert!(result.status.success(), "ffmpeg {args:?}: {}", String::from_utf8_lossy(&result.stderr));
    output
}

/// Times of the first sound track's packets.
fn sound_times(film: &Path) -> Vec<String> {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "a:0", "-show_entries", "packet=pts_time", "-of", "csv=p=0"])
        .arg(film)
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap().lines().map(|line| line.trim_end_matches(',').to_owned()).collect()
}

/// The job as JSON, done or failed.
fn encode(sandbox: &Sandbox, film: &Path, out: &Path, options: &[&str]) -> Value {
    let output = sandbox
        .spool()
        .args(["encode", "-y", "--json", "-i"])
        .arg(film)
        .arg("-o")
        .arg(out)
        .args(options)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        panic!("{}: {}: {}", film.display(), output.status, String::from_utf8_lossy(&output.stderr))
    })
}

fn warnings(job: &Value) -> Vec<&str> {
    let list = job["warnings"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|warning| warning["code"].as_str().unwrap()).collect()
}

/// Both ways; frame and sound times must be equal. The job.
fn same_as_ffmpeg(sandbox: &Sandbox, film: &Path, options: &[&str]) -> Value {
    let (ours, theirs) = (sandbox.path("ours.mp4"), sandbox.path("theirs.mp4"));
    let job = encode(sandbox, film, &ours, &[options, &["--chunk", "1s"]].concat());
    assert_eq!(job["state"], "done", "{}: {}", film.display(), job["failure"]);
    // Damage makes ffmpeg talk; what counts is what it writes.
    ffmpeg(&[&["-i", film.to_str().unwrap()], options].concat(), &theirs);
    assert_eq!(films::frame_times(&ours), films::frame_times(&theirs), "frames of {}", film.display());
    assert_eq!(sound_times(&ours), sound_times(&theirs), "sound of {}", film.display());
    job
}

/// Three seconds of picture and sound, from a source of its own so that parts differ.
fn part(sandbox: &Sandbox, name: &str, seconds: &str, more: &[&str]) -> PathBuf {
    let (picture, sound) =
        (format!("testsrc2=size=160x90:rate=25:duration={seconds}"), format!("sine=duration={seconds}"));
    let sources = ["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound];
    let codecs = ["-c:v", "libx264", "-preset", "veryfast", "-g", "25", "-c:a", "aac"];
    made(&[&sources[..], &codecs, more].concat(), sandbox.path(name))
}

#[test]
fn joined_recordings_keep_sound_and_pictures_together() {
    let sandbox = Sandbox::new();
    let parts = [
        fs::read(part(&sandbox, "a.ts", "2.3", &[])).unwrap(),
        fs::read(part(&sandbox, "b.ts", "1.7", &["-output_ts_offset", "5000"])).unwrap(),
        fs::read(part(&sandbox, "c.ts", "3.1", &[])).unwrap(),
    ];
    for (name, order) in [("back.ts", &[0, 2, 0][..]), ("far.ts", &[0, 1, 2, 1]), ("late.ts", &[2, 2, 1])] {
        let film = sandbox.path(name);
        fs::write(&film, order.iter().flat_map(|part| parts[*part].clone()).collect::<Vec<u8>>()).unwrap();
        let job = same_as_ffmpeg(&sandbox, &film, X264);
        assert!(warnings(&job).contains(&"source_doubt"), "{name}: {}", job["warnings"]);
    }
}

/// 6 kB of zeros a little behind the middle, where the pictures lie.
fn with_a_hole(sandbox: &Sandbox, film: &Path, name: &str) -> PathBuf {
    let mut bytes = fs::read(film).unwrap();
    let middle = bytes.len() * 11 / 20;
    bytes[middle..middle + 6_000].fill(0);
    let path = sandbox.path(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn damage_is_salvaged_with_a_warning_or_ends_the_job() {
    let sandbox = Sandbox::new();
    let whole = part(&sandbox, "whole.mp4", "8", &["-b:v", "300k", "-movflags", "+faststart"]);
    let film = with_a_hole(&sandbox, &whole, "hole.mp4");
    let (ours, theirs) = (sandbox.path("ours.mp4"), sandbox.path("theirs.mp4"));
    let job = encode(&sandbox, &film, &ours, X264);
    assert_eq!(job["state"], "done", "{}", job["failure"]);
    ffmpeg(&[&["-i", film.to_str().unwrap()], X264].concat(), &theirs);
    assert_eq!(films::frame_times(&ours), films::frame_times(&theirs));
    let told = job["warnings"].to_string();
    assert!(warnings(&job).contains(&"damaged_source") && told.contains(" s"), "{told}");

    let job = encode(&sandbox, &film, &sandbox.path("none.mp4"), &[X264, &["--on-damage", "fail"]].concat());
    assert_eq!((&job["state"], &job["failure"]["class"]), (&"failed".into(), &"input".into()), "{job}");
    assert_eq!(job["failure"]["code"], "source_damaged");
    assert!(!sandbox.path("none.mp4").exists());
    // A try that fails leaves an encoder in its middle: SVT-AV1 must be closed all the same.
    let svt = ["-c:v", "libsvtav1", "-crf", "50", "-preset", "12", "-c:a", "libopus"];
    let job = encode(&sandbox, &film, &sandbox.path("svt.mkv"), &svt);
    assert_eq!(job["state"], "done", "{}", job["failure"]);
    // What is whole passes.
    let job = encode(&sandbox, &whole, &sandbox.path("whole-out.mp4"), &[X264, &["--on-damage", "fail"]].concat());
    assert_eq!(job["state"], "done", "{}", job["failure"]);
}

#[test]
fn a_film_that_is_cut_short_is_encoded_as_far_as_it_goes_and_says_so() {
    let sandbox = Sandbox::new();
    for (name, more) in [("cut.mkv", &[][..]), ("cut.mp4", &["-movflags", "+faststart"])] {
        let film = part(&sandbox, name, "9", more);
        let bytes = fs::read(&film).unwrap();
        fs::write(&film, &bytes[..bytes.len() / 2]).unwrap();
        let job = same_as_ffmpeg(&sandbox, &film, X264);
        assert!(warnings(&job).contains(&"damaged_source"), "{name}: {}", job["warnings"]);
    }
    let film = part(&sandbox, "cut.mov", "2", &[]);
    let bytes = fs::read(&film).unwrap();
    fs::write(&film, &bytes[..bytes.len() / 2]).unwrap();
    let job = encode(&sandbox, &film, &sandbox.path("none.mp4"), X264);
    assert_eq!((&job["failure"]["class"], &job["failure"]["code"]), (&"input".into(), &"not_media".into()), "{job}");
    assert!(job["failure"]["message"].as_str().unwrap().contains("moov"), "{job}");
}

#[test]
fn attachments_are_kept_where_the_container_holds_them() {
    let sandbox = Sandbox::new();
    let font = sandbox.path("font.ttf");
    fs::write(&font, b"not really a font").unwrap();
    let attach = ["-attach", font.to_str().unwrap(), "-metadata:s:t", "mimetype=application/x-truetype-font"];
    let film = part(&sandbox, "film.mkv", "1", &attach);
    let ours = sandbox.path("ours.mkv");
    encode(&sandbox, &film, &ours, &[&["-map", "0"], X264].concat());
    assert_eq!(films::tracks(&ours), "video audio attachment");
    let dumped = sandbox.path("dumped.ttf");
    ffmpeg(
        &["-dump_attachment:t:0", dumped.to_str().unwrap(), "-i", ours.to_str().unwrap(), "-f", "null"],
        Path::new("-"),
    );
    assert_eq!(fs::read(dumped).unwrap(), b"not really a font");
    let job = encode(&sandbox, &film, &sandbox.path("ours.mp4"), &[&["-map", "0"], X264].concat());
    assert_eq!((&job["state"], warnings(&job)), (&"done".into(), vec!["stream_dropped"]), "{job}");
}

#[test]
fn corpus_captions_are_kept_or_told() {
    let Some(film) = films::corpus_film("odd/cea608__fragmented.mp4") else { return };
    let sandbox = Sandbox::new();
    let kept = encode(&sandbox, &film, &sandbox.path("kept.mp4"), X264);
    assert_eq!(warnings(&kept), [""; 0], "libx264 keeps them");
    let options = ["-c:v", "libx265", "-preset", "ultrafast", "--chunk", "1s"];
    let dropped = encode(&sandbox, &film, &sandbox.path("dropped.mp4"), &options);
    assert_eq!(warnings(&dropped), ["captions_dropped"], "once, however many chunks");
}

/// The worst of the corpus's odd films that are quickly encoded.
#[test]
fn corpus_odd_films_equal_ffmpeg() {
    let sandbox = Sandbox::new();
    for name in [
        "avi__packed_bframes.avi",
        "elst__empty_edit_5s.mp4",
        "elst__two_edits_first_ends_on_bframe.mov",
        "interlaced__h264_bff.mkv",
        "neg__start_minus_9.7s.ts",
        "reschange__h264_ts_abr_switch.ts",
        "telecine__hard_32_mpeg2.vob",
        "ts__no_initial_keyframe.ts",
        "ts__pat_pmt_in_the_middle.ts",
        "ts__pts_33bit_wrap.ts",
        "vfr__sef_slowmo_240p.mp4",
        "webm__vp8_bunny_tbr48.webm",
    ] {
        let Some(film) = films::corpus_film(&format!("odd/{name}")) else { return };
        same_as_ffmpeg(&sandbox, &film, &[X264, &["-t", "6"]].concat());
    }
}

/// Every bad film: refused by class, or what ffmpeg delivers with a word about it.
#[test]
fn corpus_bad_films_are_refused_or_encoded_as_ffmpeg_does() {
    let Some(folder) = films::corpus().map(|corpus| corpus.join("bad")) else {
        eprintln!("SKIPPED: no corpus here");
        return;
    };
    let sandbox = Sandbox::new();
    let mut names: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(names.len() > 50, "{names:?}");
    // Needs more memory than machines that run tests have.
    names.retain(|film| !film.ends_with("giant_16000x16000_2frames.mp4"));
    for film in names {
        let (ours, theirs) = (sandbox.path("ours.mp4"), sandbox.path("theirs.mp4"));
        for old in [&ours, &theirs] {
            let _ = fs::remove_file(old);
        }
        let options = [X264, &["-t", "3"]].concat();
        let job = encode(&sandbox, &film, &ours, &options);
        let input = ["-format_whitelist", FORMATS, "-i", film.to_str().unwrap()];
        let delivered = ffmpeg(&[&input[..], &options].concat(), &theirs).status.success();
        let times = if delivered { films::frame_times(&theirs) } else { Vec::new() };
        if job["state"] == "done" {
            assert!(ours.exists(), "{}", film.display());
            if delivered {
                assert_eq!(films::frame_times(&ours), times, "{}", film.display());
            } else {
                assert_ne!(warnings(&job), [""; 0], "{}: more than ffmpeg gives, and no word of it", film.display());
            }
        } else {
            assert!(times.is_empty(), "{}: ffmpeg has {} frames: {}", film.display(), times.len(), job["failure"]);
            assert!(["input", "spec"].map(Value::from).contains(&job["failure"]["class"]), "{}: {job}", film.display());
            assert!(!ours.exists(), "{}", film.display());
        }
    }
}
