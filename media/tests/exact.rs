//! Chunks put together are, frame for frame and pixel for pixel, what one ffmpeg process makes of the whole film. The encodes
//! are lossless (x264 at CRF 0), so that every pixel that reached the encoder is seen.

#![allow(clippy::unwrap_used, reason = "tests")]

mod burn;
mod common;
mod filters;

use std::fs::File;
use std::path::{Path, PathBuf};

use common::{Seen, call, corpus, crc, ffmpeg, framecrc, time_ns};
use spool_media::av::codec::{Decoder, Received};
use spool_media::av::frame::Frame;
use spool_media::av::packet::Packet;
use spool_media::piece::PieceReader;
use spool_proto::call::{
    Args, EncodeArgs, MediaFacts, PlanArgs, PlanSummary, ProbeArgs, SourceFacts, StreamFacts, TextArgs, TrackManifest,
    Value,
};
use spool_proto::failure::Failure;
use spool_proto::spec::parse;
use spool_proto::spec::{Container, EncodeSpec, Subtitles, Trim, VideoCodec, VideoSpec};
use spool_proto::time::Span;

fn video() -> VideoSpec {
    VideoSpec { crf: Some(0.0), preset: Some("ultrafast".into()), ..VideoSpec::new(VideoCodec::Libx264) }
}

fn spec() -> EncodeSpec {
    EncodeSpec {
        video: Some(video()),
        subtitles: Subtitles::None,
        chunk: Some(Span::from_millis(2000)),
        ..EncodeSpec::new("file:///in", "file:///out", Container::Mp4)
    }
}

/// A film's chunks, encoded.
struct Made {
    pieces: Vec<PathBuf>,
    manifests: Vec<TrackManifest>,
    summary: PlanSummary,
    facts: SourceFacts,
    warnings: Vec<String>,
    _folder: tempfile::TempDir,
}

fn encode(film: &Path, spec: &EncodeSpec) -> Result<Made, Failure> {
    let folder = tempfile::tempdir().unwrap();
    let mut warnings = Vec::new();
    let (product, host) = call(&Args::Probe(ProbeArgs { index_for: Some(spec.clone()), crop_bars: false }), [film])?;
    let index = host.keep(&product, "index", &folder.path().join("index"));
    warnings.extend(product.warnings.iter().map(|w| w.code.clone()));
    let Value::Probe(facts) = product.value else { panic!("{:?}", product.value) };
    let (mut lines, mut script) = (Vec::new(), None);
    if let Some(burn) = spec.video.as_ref().and_then(VideoSpec::burn_in) {
        let of_kind = |s: &&StreamFacts| matches!(s.media, MediaFacts::Subtitle);
        let nth = usize::try_from(burn.stream.unwrap_or(0)).unwrap();
        let stream = facts.streams.iter().filter(of_kind).nth(nth).filter(|_| burn.file.is_none()).map(|s| s.index);
        let text = burn.file.as_ref().map(|file| PathBuf::from(file.trim_start_matches("file://")));
        let args = TextArgs { spec: spec.clone(), stream, jumps: Vec::new(), burn: true };
        let (product, host) = call(&Args::Text(args), [text.as_deref().unwrap_or(film)])?;
        script = Some(host.keep(&product, "script", &folder.path().join("script")));
        let Value::Text(text) = product.value else { panic!("{:?}", product.value) };
        lines = text.cues;
    }
    let args = PlanArgs {
        spec: spec.clone(),
        source: (*facts).clone(),
        unsplit_threads: 2,
        lines,
        joined: Vec::new(),
        scans: Vec::new(),
    };
    let (product, host) = call(&Args::Plan(args), [film, &index])?;
    warnings.extend(product.warnings.iter().map(|w| w.code.clone()));
    let plan = host.keep(&product, "plan", &folder.path().join("plan"));
    let Value::Plan(summary) = product.value else { panic!("{:?}", product.value) };
    let video = summary.video.clone().expect("there is video");
    let (mut pieces, mut manifests) = (Vec::new(), Vec::new());
    for (chunk, planned) in (0..).zip(&video.chunks) {
        let args = EncodeArgs {
            spec: spec.clone(),
            stream: video.stream,
            chunk,
            threads: planned.threads,
            before: 0,
            joined: false,
            crf: None,
            target: None,
            buffer: None,
        };
        let mut inputs = vec![film.to_owned(), plan.clone()];
        let overlay = spec.video.as_ref().and_then(|video| video.overlay.as_ref());
        inputs.extend(overlay.map(|overlay| PathBuf::from(overlay.image.trim_start_matches("file://"))));
        inputs.extend(script.clone());
        let (product, host) = call(&Args::Encode(args), inputs)?;
        pieces.push(host.keep(&product, "chunk", &folder.path().join(format!("chunk{chunk}"))));
        warnings.extend(product.warnings.iter().map(|w| w.code.clone()));
        let Value::Track(manifest) = product.value else { panic!("{:?}", product.value) };
        manifests.push(manifest);
    }
    Ok(Made { pieces, manifests, summary, facts: *facts, warnings, _folder: folder })
}

/// Decodes the pieces one after the other, each from its first packet.
fn shown(made: &Made) -> Vec<Seen> {
    let mut seen = Vec::new();
    for piece in &made.pieces {
        let reader = PieceReader::open(File::open(piece).unwrap()).unwrap();
        let parameters = reader.parameters().clone();
        let base = (i64::from(parameters.time_base.num), i64::from(parameters.time_base.den));
        let mut decoder = Decoder::for_parameters(&parameters, 1).unwrap();
        let mut frame = Frame::new().unwrap();
        let packets = reader.map(|packet| {
            let coded = packet.unwrap();
            let mut packet = Packet::from_bytes(&coded.data).unwrap();
            packet.set_times(coded.pts, coded.dts, coded.duration);
            Some(packet)
        });
        for packet in packets.chain([None]) {
            decoder.send(packet.as_ref()).unwrap();
            while decoder.receive(&mut frame).unwrap() == Received::One {
                let time_ns = time_ns(frame.best_effort_pts().unwrap(), base);
                seen.push(Seen { time_ns, crc: crc(&frame.pixels().unwrap()) });
            }
        }
    }
    seen
}

/// ffmpeg's own film with the same settings, decoded. `options` are the spec's, in ffmpeg's words.
fn reference(film: &Path, options: &str, extension: &str) -> Vec<Seen> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join(format!("reference.{extension}"));
    let args = format!("-i {} -an -sn {options} -c:v libx264 -crf 0 -preset ultrafast", film.display());
    ffmpeg(&args, &output);
    framecrc(&output)
}

/// Matroska keeps milliseconds.
fn same(ours: &[Seen], ffmpegs: &[Seen], slack_ns: i64, what: &str) {
    assert_eq!(ours.len(), ffmpegs.len(), "{what}: frames, ours and ffmpeg's");
    assert!(!ours.is_empty(), "{what}: no frames");
    for (number, (a, b)) in ours.iter().zip(ffmpegs).enumerate() {
        assert!(
            (a.time_ns - b.time_ns).abs() <= slack_ns,
            "{what}: frame {number} at {} ns, ffmpeg's at {} ns",
            a.time_ns,
            b.time_ns
        );
        assert_eq!(a.crc, b.crc, "{what}: pixels of frame {number}");
    }
}

/// Encodes in chunks, compares with ffmpeg; gives what was made.
fn check(film: &Path, spec: &EncodeSpec, options: &str) -> Made {
    let made = encode(film, spec).unwrap_or_else(|e| panic!("{}: {e}\n{}", film.display(), e.evidence));
    let (extension, slack) = match spec.container {
        Container::Mkv => ("mkv", 1_000_000),
        // Its edit list puts the first frame at a whole millisecond.
        _ => ("mp4", 1_000_000),
    };
    same(&shown(&made), &reference(film, options, extension), slack, &film.display().to_string());
    let kinds: std::collections::BTreeSet<&str> = made.manifests.iter().map(|m| m.parameters.as_str()).collect();
    assert_eq!(kinds.len(), 1, "all chunks have the same parameters");
    made
}

struct Films(tempfile::TempDir);

impl Films {
    fn new() -> Films {
        Films(tempfile::tempdir().unwrap())
    }

    /// A moving picture with cuts, made by ffmpeg.
    fn make(&self, name: &str, seconds: u32, options: &str) -> PathBuf {
        let path = self.0.path().join(name);
        let args = format!("-f lavfi -i testsrc2=size=192x108:rate=25:duration={seconds} -pix_fmt yuv420p {options}");
        ffmpeg(&args, &path);
        path
    }
}

fn chunks(made: &Made) -> usize {
    made.summary.video.as_ref().unwrap().chunks.len()
}

#[test]
fn closed_gops_in_every_container() {
    let films = Films::new();
    for name in ["a.mp4", "a.mkv", "a.ts"] {
        let film = films.make(name, 9, "-c:v libx264 -preset ultrafast -bf 2 -g 50");
        let spec = EncodeSpec { video: Some(VideoSpec { gop_frames: Some(50), ..video() }), ..spec() };
        let made = check(&film, &spec, "-g 50");
        let reason = &made.summary.video.as_ref().unwrap().unsplit_reason;
        assert!(chunks(&made) > 2, "{name} is split: {reason:?}");
        assert!(made.manifests.iter().all(|m| m.entry == "keyframe"), "{name}: {:?}", entries(&made));
    }
}

fn entries(made: &Made) -> Vec<&str> {
    made.manifests.iter().map(|m| m.entry.as_str()).collect()
}

#[test]
fn open_gops_are_entered_only_where_that_is_right() {
    let films = Films::new();
    for (name, options) in [
        ("h264.mp4", "-c:v libx264 -preset fast -bf 3 -g 40 -x264-params open-gop=1"),
        ("h264.ts", "-c:v libx264 -preset fast -bf 3 -g 40 -x264-params open-gop=1"),
        ("hevc.mp4", "-c:v libx265 -preset ultrafast -g 40 -x265-params open-gop=1:bframes=4:log-level=error"),
        ("hevc.mkv", "-c:v libx265 -preset ultrafast -g 40 -x265-params open-gop=0:bframes=4:log-level=error"),
        ("hevc.ts", "-c:v libx265 -preset ultrafast -g 40 -x265-params open-gop=1:bframes=4:log-level=error"),
        ("mpeg2.ts", "-c:v mpeg2video -bf 2 -g 12"),
        ("mpeg2closed.ts", "-c:v mpeg2video -bf 2 -g 12 -flags +cgop -sc_threshold 1000000000"),
        ("vp9.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 40"),
    ] {
        let film = films.make(name, 14, options);
        let spec = EncodeSpec { video: Some(VideoSpec { gop_frames: Some(50), ..video() }), ..spec() };
        let made = check(&film, &spec, "-g 50");
        assert!(chunks(&made) > 2, "{name} is split");
        let decoded: u64 = made.manifests.iter().map(|m| m.decoded).sum();
        let shown: u64 = made.manifests.iter().map(|m| m.units).sum();
        // From the start each time it would be four times as many and more.
        assert!(decoded < shown * 3, "{name}: {decoded} frames were decoded for {shown}: {:?}", entries(&made));
    }
}

#[test]
fn variable_rate_in_all_containers() {
    let films = Films::new();
    let vfr = films.make(
        "vfr.mkv",
        8,
        "-vf select='not(mod(n\\,3))+gt(n\\,90)' -fps_mode vfr -c:v libx264 -preset ultrafast -g 30 -bf 2",
    );
    let short = VideoSpec { gop_frames: Some(30), ..video() };
    for container in [Container::Mp4, Container::Mkv] {
        let made = check(&vfr, &EncodeSpec { container, video: Some(short.clone()), ..spec() }, "-g 30");
        assert!(chunks(&made) > 1, "{container:?}");
    }
}

#[test]
fn rotation_filters_rates_and_trims_are_ffmpegs() {
    let films = Films::new();
    let plain = films.make("plain.mp4", 8, "-c:v libx264 -preset ultrafast -g 50 -bf 2");
    let turned = films.0.path().join("turned.mp4");
    ffmpeg(&format!("-i {} -c copy -metadata:s:v:0 rotate=90", plain.display()), &turned);
    let made = check(&turned, &spec(), "");
    let size = made.summary.video.as_ref().map(|v| (v.width, v.height));
    assert_eq!(size, Some((108, 192)), "{:?}", made.facts.streams);
    for (filters, rate, options) in [
        ("scale=128:-2,pad=160:120:(ow-iw)/2:(oh-ih)/2:red", None, ""),
        ("crop=100:60:7:9", None, ""),
        ("fps=10", None, ""),
        ("scale=96:54:flags=lanczos", Some("30000/1001"), "-r 30000/1001"),
    ] {
        let spec = EncodeSpec {
            video: Some(VideoSpec {
                filters: parse::filters(filters).unwrap(),
                frame_rate: rate.map(|rate| parse::frame_rate(rate).unwrap()),
                ..video()
            }),
            ..spec()
        };
        check(&plain, &spec, &format!("-vf {filters} {options}"));
    }
    let trim = Trim { start: Some(Span::from_millis(1500)), duration: Some(Span::from_millis(4200)) };
    check(&plain, &EncodeSpec { trim, ..spec() }, "-ss 1.5 -t 4.2");
}

#[test]
fn a_change_of_size_inside_the_stream_is_taken_as_ffmpeg_takes_it() {
    let films = Films::new();
    let first = films.make("first.ts", 3, "-c:v libx264 -preset ultrafast -g 25 -bf 0");
    let second = films.0.path().join("second.ts");
    ffmpeg(
        "-f lavfi -i testsrc2=size=256x144:rate=25:duration=3 -pix_fmt yuv420p -c:v libx264 -preset ultrafast -bf 0 -output_ts_offset 3",
        &second,
    );
    let both = films.0.path().join("both.ts");
    let bytes = [std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap()].concat();
    std::fs::write(&both, bytes).unwrap();
    let made = check(&both, &spec(), "");
    assert_eq!(chunks(&made), 1);
    assert!(made.summary.video.as_ref().unwrap().unsplit_reason.is_some());
}

/// Where two encodes of a film part: chunk, packet, byte.
fn difference(once: &Made, twice: &Made) -> Option<String> {
    if once.pieces.len() != twice.pieces.len() {
        return Some(format!("{} chunks and {}", once.pieces.len(), twice.pieces.len()));
    }
    for (chunk, (a, b)) in once.pieces.iter().zip(&twice.pieces).enumerate() {
        let [a, b] = [a, b].map(|piece| std::fs::read(piece).unwrap());
        if a == b {
            continue;
        }
        let [a, b] = [a, b].map(|bytes| {
            let reader = PieceReader::open(std::io::Cursor::new(bytes)).unwrap();
            (reader.parameters().clone(), reader.map(Result::unwrap).collect::<Vec<_>>())
        });
        if a.0 != b.0 {
            return Some(format!("chunk {chunk}: {:?} and {:?}", a.0, b.0));
        }
        let packet = a.1.iter().zip(&b.1).position(|(a, b)| a != b);
        let Some(packet) = packet else {
            return Some(format!("chunk {chunk}: {} packets and {}", a.1.len(), b.1.len()));
        };
        let differing = a.1.iter().zip(&b.1).filter(|(a, b)| a != b).count();
        let (count, a, b) = (a.1.len(), &a.1[packet], &b.1[packet]);
        let byte = a.data.iter().zip(&b.data).position(|(a, b)| a != b).unwrap_or(a.data.len().min(b.data.len()));
        let told = |p: &spool_media::piece::Packet| {
            let side: Vec<i32> = p.side_data.iter().map(|(kind, _)| *kind).collect();
            format!("pts {:?} dts {:?} flags {:#x} side data {side:?}, {} bytes", p.pts, p.dts, p.flags, p.data.len())
        };
        return Some(format!(
            "chunk {chunk}: {differing} of {count} packets differ, first packet {packet} at byte {byte}: {} and {}",
            told(a),
            told(b)
        ));
    }
    None
}

#[test]
fn encoding_again_gives_the_same_bytes() {
    let films = Films::new();
    let film = films.make("a.mp4", 6, "-c:v libx264 -preset ultrafast -g 50");
    for (codec, preset) in [
        (VideoCodec::Libx264, Some("veryfast")),
        (VideoCodec::Libx265, Some("ultrafast")),
        (VideoCodec::Libsvtav1, Some("12")),
        (VideoCodec::LibvpxVp9, None),
    ] {
        let spec = EncodeSpec {
            container: Container::Mkv,
            video: Some(VideoSpec {
                codec,
                crf: Some(30.0),
                preset: preset.map(Into::into),
                deadline: preset.is_none().then(|| "realtime".into()),
                cpu_used: preset.is_none().then_some(8),
                ..video()
            }),
            ..spec()
        };
        // Side by side, so that threads wait for one another otherwise each time.
        let once = encode(&film, &spec).unwrap();
        let again: Vec<Made> = std::thread::scope(|scope| {
            let running: Vec<_> = (0..6).map(|_| scope.spawn(|| encode(&film, &spec).unwrap())).collect();
            running.into_iter().map(|one| one.join().unwrap()).collect()
        });
        for other in &again {
            assert_eq!(difference(&once, other), None, "{codec:?}, once and again");
        }
        assert_eq!(once.manifests.iter().map(|m| m.units).sum::<u64>(), 150, "{codec:?}");
        assert_eq!(shown(&once).len(), 150, "{codec:?}");
    }
}

/// Encodes as the outer test says, and tells the pieces' checksums.
#[test]
#[ignore = "run by the one below, in processes of its own"]
fn one_encode() {
    let films = Films::new();
    let film = films.0.path().join("noise.mkv");
    let source = "life=size=320x180:rate=24:mold=10:ratio=0.3:seed=7,trim=duration=4,format=yuv420p";
    ffmpeg(&format!("-f lavfi -i {source} -c:v ffv1"), &film);
    let video = VideoSpec { crf: Some(34.0), preset: Some("medium".into()), gop_frames: Some(24), ..video() };
    let made = encode(&film, &EncodeSpec { video: Some(video), ..spec() }).unwrap();
    let sums: Vec<String> =
        made.pieces.iter().map(|piece| blake3::hash(&std::fs::read(piece).unwrap()).to_string()).collect();
    println!("pieces {sums:?}");
}

/// An executor has encoded other films before: its memory holds what is left of them.
#[test]
fn what_memory_held_before_does_not_change_the_bytes() {
    let of = |byte: u8| {
        let mut process = std::process::Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", "one_encode", "--ignored", "--nocapture"]).env("MALLOC_PERTURB_", byte.to_string());
        let output = process.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().find(|line| line.starts_with("pieces")).unwrap().to_owned()
    };
    let clean = of(0);
    for byte in [17, 85, 200] {
        assert_eq!(of(byte), clean, "memory filled from {byte}");
    }
}

#[test]
fn bench_films_are_exact() {
    let Some(folder) = corpus("bench") else {
        eprintln!("skipped: no corpus beside the workspace");
        return;
    };
    for film in ["counter_240p24_300s.mp4", "traffic_432p12.5_30s.mp4"] {
        let spec = EncodeSpec { chunk: Some(Span::from_millis(5000)), ..spec() };
        let made = check(&folder.join(film), &spec, "");
        assert!(chunks(&made) > 1, "{film}");
    }
}

#[test]
fn an_odd_size_is_refused_with_advice() {
    let films = Films::new();
    let film = films.0.path().join("odd.mkv");
    ffmpeg("-f lavfi -i testsrc=size=161x91:rate=25:duration=1 -c:v ffv1", &film);
    let with = VideoSpec { pix_fmt: Some("yuv420p".into()), ..video() };
    let failure = encode(&film, &EncodeSpec { video: Some(with), ..spec() }).err().expect("refused");
    assert_eq!(failure.code, "size_refused", "{failure}");
    for word in ["161", "91", "crop=160:90:0:0", "pad=162:92:0:0"] {
        assert!(failure.message.contains(word), "{failure}");
    }
}

#[test]
fn a_source_that_was_swapped_is_not_encoded() {
    let films = Films::new();
    let film = films.make("a.mp4", 4, "-c:v libx264 -preset ultrafast -g 25");
    let slower =
        films.make("b.mp4", 4, "-vf select='lt(n\\,40)+gt(n\\,60)' -fps_mode vfr -c:v libx264 -preset ultrafast -g 25");
    let faster = films.make("c.mp4", 4, "-r 30 -c:v libx264 -preset ultrafast -g 25");
    let made = encode(&film, &spec()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (product, host) = call(&Args::Probe(ProbeArgs { index_for: Some(spec()), crop_bars: false }), [&film]).unwrap();
    let index = host.keep(&product, "index", &folder.path().join("index"));
    let args = PlanArgs {
        spec: spec(),
        source: made.facts.clone(),
        unsplit_threads: 1,
        lines: Vec::new(),
        joined: Vec::new(),
        scans: Vec::new(),
    };
    let (product, host) = call(&Args::Plan(args), [&film, &index]).unwrap();
    let plan = host.keep(&product, "plan", &folder.path().join("plan"));
    let args = Args::Encode(EncodeArgs {
        spec: spec(),
        stream: 0,
        chunk: 0,
        threads: 1,
        before: 0,
        joined: false,
        crf: None,
        target: None,
        buffer: None,
    });
    for other in [&slower, &faster] {
        let failure = call(&args, [other, &plan]).err().expect("refused");
        assert_eq!(failure.code, "frames_differ", "{failure}");
    }
    assert!(made.warnings.is_empty(), "{:?}", made.warnings);
}

/// Edit lists, containers without pts, rotation and odd codecs from real cameras and test suites.
#[test]
fn odd_films_are_exact() {
    let Some(folder) = corpus("odd") else {
        eprintln!("skipped: no corpus beside the workspace");
        return;
    };
    let links = tempfile::tempdir().unwrap();
    for name in [
        "-video-with-dash-.mp4",
        "3gp__h263.3gp",
        "3gp__mpeg4_qcif.3gp",
        "alpha__vp9.webm",
        "av__late_audio.mp4",
        "avi__5fps_768p.avi",
        "avi__packed_bframes.avi",
        "coverart__1frame_plus_attached_pic.mp4",
        "elst__ends_on_last_bframe.mov",
        "elst__starts_2nd_ctts_sample.mov",
        "elst__three_edits.mov",
    ] {
        // Some names begin with a dash, which ffmpeg takes for an option.
        let film = links.path().join("film");
        std::fs::copy(folder.join(name), &film).unwrap();
        check(&film, &spec(), "");
    }
}
