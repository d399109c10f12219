//! Scores are those of the installed ffmpeg's psnr and ssim filters, to the last digit it prints.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod film;

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{call, corpus, ffmpeg};
use spool_media::quality::{FrameScores, ScoreTable};
use spool_proto::call::{Args, Pairing, QualityArgs, QualityManifest, Value};
use spool_proto::failure::{Class, Failure};
use spool_proto::quality::Metric;
use spool_proto::spec::{Container, EncodeSpec, VideoCodec, VideoSpec, parse};
use spool_proto::time::Span;

/// Made of what `call` answers.
#[derive(Debug)]
struct Scored {
    manifest: QualityManifest,
    table: ScoreTable,
    warnings: Vec<String>,
}

fn quality(pairing: Pairing, inputs: &[&Path]) -> Result<Scored, Failure> {
    let args = QualityArgs { metrics: vec![Metric::Psnr, Metric::Ssim], pairing, threads: 2 };
    let (product, host) = call(&Args::Quality(Box::new(args)), inputs)?;
    let folder = tempfile::tempdir().unwrap();
    let scores = host.keep(&product, "scores", &folder.path().join("scores"));
    let table = ScoreTable::read(BufReader::new(std::fs::File::open(scores).unwrap())).unwrap();
    let Value::Quality(manifest) = product.value else { panic!("{:?}", product.value) };
    assert_eq!(manifest.frames, table.frames.len() as u64);
    let warnings = product.warnings.into_iter().map(|warning| warning.code).collect();
    Ok(Scored { manifest, table, warnings })
}

fn by_number(frames: Option<(u64, u64)>, shortest: bool) -> Pairing {
    Pairing::Number { reference: None, distorted: None, frames, shortest }
}

/// ffmpeg's word: the numbers of every frame in the order of the table, then of the whole.
struct Expected {
    frames: Vec<[String; 8]>,
    psnr: Vec<f64>,
    ssim: Vec<f64>,
}

const KEYS: [&str; 8] = [
    "lavfi.psnr.psnr_avg",
    "lavfi.psnr.psnr.y",
    "lavfi.psnr.psnr.u",
    "lavfi.psnr.psnr.v",
    "lavfi.ssim.All",
    "lavfi.ssim.Y",
    "lavfi.ssim.U",
    "lavfi.ssim.V",
];

/// `like`: filters that make the distorted pictures like the reference's, each ending in a comma.
fn by_ffmpeg(reference: &Path, distorted: &Path, like: &str) -> Expected {
    let folder = tempfile::tempdir().unwrap();
    let graph = format!(
        "[0:v]{like}settb=AVTB,setpts=N[d];[1:v]settb=AVTB,setpts=N,split[r][s];\
         [d][r]psnr[p];[p][s]ssim,metadata=print:file=frames.txt"
    );
    let run = Command::new("ffmpeg")
        .current_dir(folder.path())
        // Its ssim filter gives other last digits with other numbers of threads.
        .args(["-hide_banner", "-nostdin", "-filter_complex_threads", "1", "-i"])
        .arg(distorted)
        .arg("-i")
        .arg(reference)
        .args(["-lavfi", &graph, "-fps_mode", "passthrough", "-f", "null", "-"])
        .output()
        .expect("ffmpeg is installed");
    let log = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{log}");
    let text = std::fs::read_to_string(folder.path().join("frames.txt")).unwrap();
    let frames = text.split("frame:").skip(1).map(|frame| {
        KEYS.map(|key| {
            let line = frame.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_else(|| panic!("no {key} in {frame}")).to_owned()
        })
    });
    let whole = |mark: &str, names: [&str; 4]| {
        let line = log.lines().find(|line| line.contains(mark)).unwrap_or_else(|| panic!("{log}")).to_owned();
        let number = |name: &str| {
            let rest = line.split(&format!("{name}:")).nth(1).unwrap_or_else(|| panic!("{name} in {line}"));
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        names.map(number).to_vec()
    };
    Expected {
        frames: frames.collect(),
        psnr: whole("PSNR y:", ["average", "y", "u", "v"]),
        ssim: whole("SSIM Y:", ["All", "Y", "U", "V"]),
    }
}

fn printed(frame: &FrameScores) -> [String; 8] {
    let (psnr, ssim) = (frame.psnr.unwrap(), frame.ssim.unwrap());
    let [y, u, v, _] = psnr.planes;
    let [a, b, c, _] = ssim.planes;
    [psnr.all, y, u, v, ssim.all, a, b, c].map(|value| format!("{value:.6}"))
}

fn assert_same(scored: &Scored, expected: &Expected) {
    assert_eq!(scored.table.frames.len(), expected.frames.len());
    for (number, (found, wanted)) in scored.table.frames.iter().zip(&expected.frames).enumerate() {
        assert_eq!(&printed(found), wanted, "frame {number}");
    }
    for (summary, wanted) in scored.manifest.scores.iter().zip([&expected.psnr, &expected.ssim]) {
        let found = std::iter::once(summary.mean).chain(summary.planes.iter().map(|plane| plane.mean));
        for (found, wanted) in found.zip(wanted) {
            // ffmpeg sums up before it rounds; here what is summed was rounded to six places.
            assert!((found - wanted).abs() < 2e-6, "{}: {found}, ffmpeg says {wanted}", summary.metric);
        }
    }
}

fn generated(folder: &Path, name: &str, args: &str) -> PathBuf {
    let path = folder.join(name);
    ffmpeg(&format!("-f lavfi -i testsrc2=s=320x180:r=24:d=2 {args}"), &path);
    path
}

/// Six seconds with a keyframe each second: enough for chunks.
fn six_seconds(folder: &Path) -> PathBuf {
    let path = folder.join("a.mp4");
    ffmpeg("-f lavfi -i testsrc2=s=320x180:r=24:d=6 -c:v libx264 -crf 12 -preset veryfast -g 24", &path);
    path
}

fn encoded(from: &Path, name: &str, args: &str) -> PathBuf {
    let path = from.with_file_name(name);
    ffmpeg(&format!("-i {} {args}", from.display()), &path);
    path
}

#[test]
fn scores_are_those_of_ffmpeg_frame_by_frame_and_in_all() {
    let folder = tempfile::tempdir().unwrap();
    let reference = generated(folder.path(), "a.mkv", "-c:v ffv1 -pix_fmt yuv420p");
    let distorted = encoded(&reference, "b.mp4", "-c:v libx264 -crf 35 -preset veryfast -g 24");
    let scored = quality(by_number(None, false), &[&reference, &distorted]).unwrap();
    assert_same(&scored, &by_ffmpeg(&reference, &distorted, ""));
    assert_eq!((scored.manifest.frames, &*scored.table.planes), (48, "yuv"));
    assert!(scored.warnings.is_empty());
    let times: Vec<i64> = scored.table.frames.iter().map(|frame| frame.time_us).collect();
    assert_eq!((times[0], times[24]), (0, 1_000_000));
}

#[test]
fn a_smaller_film_of_another_format_is_scaled_and_turned_into_the_references() {
    let folder = tempfile::tempdir().unwrap();
    let reference = generated(folder.path(), "a.mkv", "-c:v ffv1 -pix_fmt yuv420p10le");
    let distorted = encoded(&reference, "b.mp4", "-vf scale=160:90 -pix_fmt yuv420p -c:v libx264 -crf 28");
    let scored = quality(by_number(None, false), &[&reference, &distorted]).unwrap();
    assert_same(&scored, &by_ffmpeg(&reference, &distorted, "scale=320:180:flags=bicubic,format=yuv420p10le,"));
    assert_eq!((scored.manifest.distorted.width, &*scored.manifest.distorted.pix_fmt), (160, "yuv420p"));
    assert_eq!(&*scored.manifest.reference.pix_fmt, "yuv420p10le");
}

#[test]
fn a_real_film_scores_as_in_ffmpeg() {
    let Some(reference) = corpus("odd/webm__vp9_10bit.webm") else {
        eprintln!("SKIPPED: no corpus here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let distorted = folder.path().join("b.mkv");
    ffmpeg(
        &format!(
            "-i {} -map 0:v:0 -fps_mode passthrough -c:v libx265 -crf 34 -preset ultrafast -x265-params log-level=none",
            reference.display()
        ),
        &distorted,
    );
    let scored = quality(by_number(None, false), &[&reference, &distorted]).unwrap();
    assert_same(&scored, &by_ffmpeg(&reference, &distorted, ""));
}

#[test]
fn equal_films_have_no_finite_psnr_and_ssim_one() {
    let folder = tempfile::tempdir().unwrap();
    let reference = generated(folder.path(), "a.mkv", "-c:v ffv1 -pix_fmt yuv444p");
    let distorted = encoded(&reference, "b.mkv", "-c:v libx264 -qp 0 -preset ultrafast");
    let scored = quality(by_number(None, false), &[&reference, &distorted]).unwrap();
    let [psnr, ssim] = &scored.manifest.scores[..] else { panic!("two metrics") };
    assert!(psnr.mean.is_infinite() && psnr.min.is_infinite() && psnr.planes.len() == 3, "{psnr:?}");
    assert_eq!((ssim.mean, ssim.min), (1.0, 1.0));
}

#[test]
fn a_phone_film_is_turned_upright_before_it_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let plain = generated(folder.path(), "plain.mp4", "-c:v libx264 -crf 10 -preset ultrafast");
    let turned = encoded(&plain, "turned.mp4", "-c copy -metadata:s:v rotate=90");
    let upright = encoded(&turned, "upright.mp4", "-c:v libx264 -crf 30 -preset ultrafast");
    let scored = quality(by_number(None, false), &[&turned, &upright]).unwrap();
    assert_eq!((scored.manifest.reference.width, scored.manifest.reference.height), (180, 320));
    assert_eq!((scored.manifest.distorted.width, scored.manifest.distorted.height), (180, 320));
    assert_same(&scored, &by_ffmpeg(&turned, &upright, ""));
}

#[test]
fn films_are_paired_by_number_whatever_their_times_say() {
    let folder = tempfile::tempdir().unwrap();
    let reference = generated(folder.path(), "a.mkv", "-c:v ffv1 -pix_fmt yuv420p");
    let late = encoded(&reference, "late.mkv", "-c:v ffv1 -vf setpts=PTS*3+7/TB -fps_mode passthrough");
    let scored = quality(by_number(None, false), &[&reference, &late]).unwrap();
    assert!(scored.manifest.scores[0].mean.is_infinite(), "{:?}", scored.manifest.scores[0]);
}

#[test]
fn a_part_scores_as_the_same_frames_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let reference = generated(folder.path(), "a.mkv", "-c:v ffv1 -pix_fmt yuv420p");
    let distorted = encoded(&reference, "b.mp4", "-c:v libx264 -crf 35 -preset veryfast");
    let whole = quality(by_number(None, false), &[&reference, &distorted]).unwrap();
    let part = quality(by_number(Some((30, 40)), false), &[&reference, &distorted]).unwrap();
    assert_eq!(part.table.frames, whole.table.frames[30..40]);
    assert_eq!((part.manifest.first_frame, part.manifest.frames), (30, 10));
    assert!((30..40).contains(&part.manifest.scores[0].min_frame));
    let past = quality(by_number(Some((90, 99)), false), &[&reference, &distorted]).unwrap_err();
    assert_eq!((past.class, &*past.code), (Class::Spec, "no_frames"), "{past}");
}

#[test]
fn unequal_numbers_of_frames_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let reference = generated(folder.path(), "a.mkv", "-c:v ffv1 -pix_fmt yuv420p");
    let short = encoded(&reference, "b.mkv", "-c:v ffv1 -frames:v 40");
    let failure = quality(by_number(None, false), &[&reference, &short]).unwrap_err();
    assert_eq!((failure.class, &*failure.code), (Class::Spec, "frame_counts_differ"));
    assert!(failure.message.contains("has 48 frames, the distorted film 40"), "{failure}");
    let scored = quality(by_number(None, true), &[&reference, &short]).unwrap();
    assert_eq!((scored.manifest.frames, scored.warnings), (40, vec!["frame_counts_differ".to_owned()]));
    let sound = folder.path().join("sound.wav");
    ffmpeg("-f lavfi -i sine=d=1", &sound);
    let failure = quality(by_number(None, false), &[&reference, &sound]).unwrap_err();
    assert_eq!((failure.class, &*failure.code), (Class::Input, "no_video_stream"), "{failure}");
}

fn spec(filters: &str, chunk_ms: u64) -> EncodeSpec {
    let video = VideoSpec {
        crf: Some(30.0),
        preset: Some("veryfast".into()),
        gop_frames: Some(24),
        filters: if filters.is_empty() { Vec::new() } else { parse::filters(filters).unwrap() },
        ..VideoSpec::new(VideoCodec::Libx264)
    };
    let chunk = Some(Span::from_millis(chunk_ms));
    EncodeSpec { video: Some(video), chunk, ..film::spec(Container::Mp4, None) }
}

/// Scores every chunk of an encode; also what was compared is made by ffmpeg and compared by it.
fn chunks_score_as_ffmpeg_scores_the_film(source: &Path, filters: &str, chunk_ms: u64, least: usize) {
    let spec = spec(filters, chunk_ms);
    let made = film::make(source, &spec).unwrap();
    let joined = film::Film::join(source, &spec, &made.tracks).unwrap();
    let pieces = &made.tracks[0].paths;
    assert!(pieces.len() >= least, "{} chunks", pieces.len());
    let mut frames = Vec::new();
    for (chunk, piece) in (0u32..).zip(pieces) {
        let pairing = Pairing::Chunk { spec: spec.clone(), chunk };
        let scored = quality(pairing, &[source, &made.plan_path, piece]).unwrap();
        assert_eq!(scored.table.first_frame, frames.len() as u64);
        frames.extend(scored.table.frames);
    }
    // The source as ffmpeg would give it to the encoder.
    let given = joined.folder.path().join("given.mp4");
    let chain = if filters.is_empty() { "null" } else { filters };
    ffmpeg(
        &format!(
            "-i {} -map 0:v:0 -vf {chain} -c:v libx264 -qp 0 -preset ultrafast -pix_fmt yuv420p",
            source.display()
        ),
        &given,
    );
    let expected = by_ffmpeg(&given, &joined.path, "");
    assert_eq!(frames.len(), expected.frames.len());
    for (number, (found, wanted)) in frames.iter().zip(&expected.frames).enumerate() {
        assert_eq!(&printed(found), wanted, "frame {number}");
    }
    assert!(frames.is_sorted_by_key(|frame| frame.time_us));
}

#[test]
fn chunks_are_held_against_what_their_encoders_were_given() {
    let folder = tempfile::tempdir().unwrap();
    let source = six_seconds(folder.path());
    chunks_score_as_ffmpeg_scores_the_film(&source, "", 1000, 2);
    chunks_score_as_ffmpeg_scores_the_film(&source, "scale=160:-2,fps=30", 1000, 2);
}

#[test]
fn a_film_whose_frames_only_decoding_tells_is_scored_too() {
    let folder = tempfile::tempdir().unwrap();
    let source = generated(folder.path(), "a.avi", "-c:v mpeg4 -bf 2 -q:v 3");
    chunks_score_as_ffmpeg_scores_the_film(&source, "", 1000, 1);
}

#[test]
fn a_chunk_of_another_film_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = six_seconds(folder.path());
    let spec = spec("", 1000);
    let made = film::make(&source, &spec).unwrap();
    let pieces = &made.tracks[0].paths;
    let pairing = Pairing::Chunk { spec, chunk: 1 };
    let failure = quality(pairing, &[&source, &made.plan_path, &pieces[0]]).unwrap_err();
    assert_eq!((failure.class, &*failure.code), (Class::Internal, "frames_differ"), "{failure}");
}
