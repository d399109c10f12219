//! Packages: segments that decode alone, and playlists that demuxers follow.
#![allow(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

mod common;
mod film;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{call, ffmpeg, framecrc};
use film::{Made, facts, make, track};
use spool_proto::call::{Args, ManifestArgs, SegmentArgs, SegmentSummary, ValidateArgs, Value};
use spool_proto::failure::Failure;
use spool_proto::package::{PackagedTrack, SegmentTable, TrackMedia, file};
use spool_proto::spec::title::Package;
use spool_proto::spec::{
    AudioCodec, AudioSpec, Container, EncodeSpec, Rational, StreamKind, StreamMap, Subtitles, Verify, VideoCodec,
    VideoSpec,
};
use spool_proto::time::Span;

const SEGMENT_FRAMES: u32 = 48;

/// 5.25 s: two whole segments of two seconds, and a rest.
fn source(folder: &Path) -> PathBuf {
    let path = folder.join("source.mkv");
    ffmpeg(
        "-f lavfi -i testsrc2=s=320x180:r=24:d=5.25 -f lavfi -i sine=f=440:r=48000:d=5.25 -c:v ffv1 -c:a flac",
        &path,
    );
    path
}

fn video_spec(codec: VideoCodec) -> EncodeSpec {
    let video = VideoSpec {
        crf: Some(35.0),
        bitrate_bps: (codec == VideoCodec::LibvpxVp9).then_some(0),
        preset: match codec {
            VideoCodec::Libx264 | VideoCodec::Libx265 => Some("veryfast".into()),
            VideoCodec::Libsvtav1 => Some("12".into()),
            VideoCodec::LibvpxVp9 => None,
        },
        cpu_used: (codec == VideoCodec::LibvpxVp9).then_some(8),
        pix_fmt: Some("yuv420p".into()),
        gop_frames: Some(24),
        fixed_gop: true,
        ..VideoSpec::new(codec)
    };
    EncodeSpec {
        video: Some(video),
        subtitles: Subtitles::None,
        chunk: Some(Span::from_secs(2)),
        segment_frames: Some(SEGMENT_FRAMES),
        maps: vec![map(StreamKind::Video)],
        ..EncodeSpec::new("file:///in", "file:///out/", Container::Mp4)
    }
}

fn audio_spec(codec: AudioCodec) -> EncodeSpec {
    EncodeSpec {
        audio: Some(AudioSpec::new(codec)),
        maps: vec![map(StreamKind::Audio)],
        ..EncodeSpec::new("file:///in", "file:///out/", Container::Mp4)
    }
}

fn map(kind: StreamKind) -> StreamMap {
    StreamMap { negative: false, optional: false, kind: Some(kind), index: None }
}

/// A track, cut.
struct Cut {
    summary: SegmentSummary,
    table: SegmentTable,
    file: Vec<u8>,
    timeline: Option<PathBuf>,
    folder: tempfile::TempDir,
}

fn segment(source: &Path, spec: &EncodeSpec, stream: u32, pieces: &[PathBuf]) -> Cut {
    segment_as(&args(source, spec, stream), pieces).unwrap()
}

fn args(source: &Path, spec: &EncodeSpec, stream: u32) -> SegmentArgs {
    SegmentArgs {
        spec: spec.clone(),
        stream: facts(source).streams[usize::try_from(stream).unwrap()].clone(),
        segment: Rational::new(2, 1),
        segments: Some(3),
        goes_on: false,
        until: None,
    }
}

fn segment_as(args: &SegmentArgs, inputs: &[PathBuf]) -> Result<Cut, Failure> {
    let (product, host) = call(&Args::Segment(Box::new(args.clone())), inputs)?;
    let folder = tempfile::tempdir().unwrap();
    let keep = |name: &str| host.keep(&product, name, &folder.path().join(name));
    let has_times = product.files.iter().any(|(name, _)| name == "timeline");
    let timeline = has_times.then(|| keep("timeline"));
    let file = fs::read(keep("track")).unwrap();
    let table = serde_json::from_slice(&fs::read(keep("segments")).unwrap()).unwrap();
    let Value::Segments(summary) = product.value else { panic!("{:?}", product.value) };
    Ok(Cut { summary, table, file, timeline, folder })
}

/// A film's chunks, each with the frame it ends at.
struct Chunks {
    source: PathBuf,
    spec: EncodeSpec,
    pieces: Vec<PathBuf>,
    ends: Vec<u64>,
    segments: u32,
    _made: Made,
}

impl Chunks {
    /// Of a source that can be entered at each of its keyframes.
    fn of(folder: &Path, seconds: &str, codec: VideoCodec, chunk: Span) -> Chunks {
        let source = folder.join(format!("{seconds}.mkv"));
        if !source.exists() {
            let pictures = format!("-f lavfi -i testsrc2=s=160x90:r=24000/1001:d={seconds}");
            let sound = format!("-f lavfi -i sine=f=440:r=48000:d={seconds}");
            ffmpeg(&format!("{pictures} {sound} -c:v libx264 -preset ultrafast -g 12 -c:a flac"), &source);
        }
        let spec = EncodeSpec { chunk: Some(chunk), ..video_spec(codec) };
        let made = make(&source, &spec).unwrap();
        assert_eq!(made.plan.video.as_ref().unwrap().unsplit_reason, None);
        let ends: Vec<u64> = made.plan.video.as_ref().unwrap().chunks.iter().map(|chunk| chunk.end).collect();
        let (frames, length) = (*ends.last().unwrap(), u64::from(SEGMENT_FRAMES));
        let segments = frames / length + u64::from(frames % length * 4 >= length);
        let pieces = made.tracks[0].paths.clone();
        Chunks { source, spec, pieces, ends, segments: u32::try_from(segments).unwrap(), _made: made }
    }

    fn args(&self, goes_on: bool, until: Option<u32>) -> SegmentArgs {
        let segments = Some(self.segments);
        SegmentArgs { segments, goes_on, until, ..args(&self.source, &self.spec, 0) }
    }

    /// How many of them hold so many segments.
    fn there(&self, until: Option<u32>) -> usize {
        let frames = until.map_or(u64::MAX, |until| u64::from(until * SEGMENT_FRAMES));
        self.ends.iter().position(|end| *end >= frames).map_or(self.ends.len(), |last| last + 1)
    }

    /// Cut to each of these numbers of segments, then to the end. `eager`: all pieces are there from the beginning.
    fn part_by_part(&self, stops: &[u32], eager: bool) -> Vec<Cut> {
        let mut cuts: Vec<Cut> = Vec::new();
        for until in stops.iter().copied().map(Some).chain([None]) {
            let there = if eager { self.ends.len() } else { self.there(until) };
            let before = cuts.last().map(|cut| (cut.folder.path().join("segments"), cut.summary.next_piece.unwrap()));
            let first = before.as_ref().map_or(0, |(_, next)| usize::try_from(*next).unwrap());
            let table = before.iter().map(|(table, _)| table.clone());
            let inputs: Vec<PathBuf> = table.chain(self.pieces[first..there].iter().cloned()).collect();
            cuts.push(segment_as(&self.args(before.is_some(), until), &inputs).unwrap());
        }
        cuts
    }
}

fn cut_video(source: &Path, codec: VideoCodec) -> Cut {
    let spec = video_spec(codec);
    let made = make(source, &spec).unwrap();
    let track = made.tracks.into_iter().next().unwrap();
    segment(source, &spec, track.stream, &track.paths)
}

fn cut_audio(source: &Path, codec: AudioCodec) -> Cut {
    let spec = audio_spec(codec);
    let (path, _host) = track(source, &spec, 1).unwrap();
    segment(source, &spec, 1, &[path])
}

impl Cut {
    fn part(&self, offset: u64, bytes: u64) -> &[u8] {
        &self.file[usize::try_from(offset).unwrap()..usize::try_from(offset + bytes).unwrap()]
    }

    /// The header and then one range.
    fn alone(&self, offset: u64, bytes: u64) -> PathBuf {
        let path = self.folder.path().join(format!("alone-{offset}-{bytes}.mp4"));
        fs::write(&path, [self.part(0, self.table.header_bytes), self.part(offset, bytes)].concat()).unwrap();
        path
    }

    fn seconds(&self) -> Vec<f64> {
        self.table.segments.iter().map(|segment| self.table.duration_s(segment.duration)).collect()
    }

    /// As a package has it.
    fn publish(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(file::HEADER), self.part(0, self.table.header_bytes)).unwrap();
        for (number, segment) in (1..).zip(&self.table.segments) {
            fs::write(folder.join(file::segment(number)), self.part(segment.offset, segment.bytes)).unwrap();
        }
    }
}

fn probe(path: &Path, what: &str) -> Vec<String> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-of", "csv=p=0"])
        .args(what.split_whitespace())
        .arg(path)
        .output()
        .expect("ffprobe is installed");
    assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.trim_end_matches(',').to_owned())
        .filter(|l| !l.is_empty())
        .collect()
}

#[test]
fn every_segment_of_pictures_decodes_alone_and_all_of_them_make_the_film() {
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path());
    for (codec, string) in [
        (VideoCodec::Libx264, "avc1.64"),
        (VideoCodec::Libx265, "hvc1.1.6.L"),
        (VideoCodec::Libsvtav1, "av01.0.0"),
        (VideoCodec::LibvpxVp9, "vp09.00."),
    ] {
        let cut = cut_video(&source, codec);
        assert!(cut.summary.codec.starts_with(string), "{}", cut.summary.codec);
        assert_eq!((cut.summary.frames, cut.summary.duration_us), (Some(126), 5_250_000));
        assert_eq!(cut.seconds(), [2.0, 2.0, 1.25], "{codec:?}");
        let last = cut.table.segments.last().unwrap();
        assert_eq!(
            u64::try_from(cut.file.len()).unwrap(),
            last.offset + last.bytes,
            "{codec:?}: nothing else is in it"
        );
        let whole = framecrc(&cut.alone(cut.table.header_bytes, last.offset + last.bytes - cut.table.header_bytes));
        assert_eq!(whole.len(), 126);
        assert_eq!(whole[0].time_ns, 0, "{codec:?}: shown from the start");
        let mut found = Vec::new();
        for segment in &cut.table.segments {
            found.extend(framecrc(&cut.alone(segment.offset, segment.bytes)));
            // The first picture of each fragment is there with its first bytes alone.
            for fragment in &segment.fragments {
                let first = framecrc(&cut.alone(fragment.offset, fragment.first_bytes));
                let at = usize::try_from(fragment.start * 24 / i64::from(cut.table.time_base.den)).unwrap();
                assert_eq!(first.first().map(|seen| seen.crc), Some(whole[at].crc), "{codec:?}: picture {at}");
            }
        }
        assert_eq!(found, whole, "{codec:?}");
    }
}

#[test]
fn what_is_cut_passes_the_films_own_check() {
    let folder = tempfile::tempdir().unwrap();
    let cut = cut_video(&source(folder.path()), VideoCodec::Libx264);
    let args = ValidateArgs {
        container: Container::Mp4,
        verify: Verify::Sample,
        frames: Some(126),
        joins: vec![0, 48],
        codecs: vec!["h264".into()],
        buffer: None,
    };
    let inputs = [cut.folder.path().join("track"), cut.timeline.clone().unwrap()];
    let (product, _host) = call(&Args::Validate(args), inputs).unwrap();
    let Value::Film(film) = product.value else { panic!("{:?}", product.value) };
    assert_eq!(film.video_frames, Some(126));
}

#[test]
fn sound_is_cut_beside_the_pictures_and_its_priming_is_not_heard() {
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path());
    for (codec, string) in [(AudioCodec::Aac, "mp4a.40.2"), (AudioCodec::Libopus, "opus"), (AudioCodec::Flac, "fLaC")] {
        let cut = cut_audio(&source, codec);
        assert_eq!(cut.summary.codec, string);
        assert!(matches!(cut.table.media, TrackMedia::Audio { channels: 1, sample_rate_hz: 48_000 }));
        assert_eq!(cut.table.segments.len(), 3);
        for (seconds, wanted) in cut.seconds().iter().zip([2.0, 2.0, 1.25]) {
            assert!((seconds - wanted).abs() < 0.1, "{codec:?}: {:?}", cut.seconds());
        }
        let all = cut.alone(cut.table.header_bytes, cut.summary.bytes - cut.table.header_bytes);
        let samples: u64 =
            probe(&all, "-show_entries frame=nb_samples").iter().map(|n| n.parse::<u64>().unwrap()).sum();
        // Whole frames, the first of them primed.
        let more = samples.checked_sub(252_000);
        assert!(more.is_some_and(|more| more <= 2048), "{codec:?}: {samples} samples of 252000");
        let start: f64 = probe(&all, "-show_entries stream=start_time")[0].parse().unwrap();
        // Where the priming begins, if it is primed.
        assert!((-0.05..1e-6).contains(&start), "{codec:?} starts at {start}");
    }
}

#[test]
fn a_track_cut_part_by_part_is_the_track_cut_at_once() {
    let folder = tempfile::tempdir().unwrap();
    // Four whole segments and a rest: one that stands for itself, one that stays with the fourth.
    for (number, seconds) in ["9.25", "8.25"].into_iter().enumerate() {
        for codec in [VideoCodec::Libx264, VideoCodec::Libx265, VideoCodec::Libsvtav1] {
            let chunks = Chunks::of(folder.path(), seconds, codec, Span::from_secs(if number == 0 { 4 } else { 2 }));
            let whole = segment_as(&chunks.args(false, None), &chunks.pieces).unwrap();
            assert!(chunks.pieces.len() > 1, "several pieces");
            assert_eq!(whole.table.segments.len(), if number == 0 { 5 } else { 4 }, "{codec:?}");
            let most = chunks.segments - 1;
            for choice in 0..1_u32 << most {
                let stops: Vec<u32> = (1..=most).filter(|stop| choice >> (stop - 1) & 1 == 1).collect();
                for eager in [false, true] {
                    let cuts = chunks.part_by_part(&stops, eager);
                    let bytes: Vec<u8> = cuts.iter().flat_map(|cut| cut.file.clone()).collect();
                    assert!(bytes == whole.file, "{codec:?} {seconds} s, stops {stops:?}, eager: {eager}");
                    let last = cuts.last().unwrap();
                    let alone = SegmentTable { file_offset: 0, ..last.table.clone() };
                    assert_eq!(alone, whole.table, "{codec:?} {seconds} s, stops {stops:?}");
                    for (cut, stop) in cuts.iter().zip(&stops) {
                        let stop = usize::try_from(*stop).unwrap();
                        assert_eq!(
                            cut.table.segments,
                            whole.table.segments[..stop],
                            "what is public is never taken back"
                        );
                        assert_eq!(cut.table.end() - cut.table.file_offset, u64::try_from(cut.file.len()).unwrap());
                    }
                }
            }
        }
    }
}

#[test]
fn a_part_that_cannot_be_cut_yet_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let chunks = Chunks::of(folder.path(), "5.25", VideoCodec::Libx264, Span::from_secs(2));
    let code = |args: SegmentArgs, inputs: &[PathBuf]| match segment_as(&args, inputs) {
        Ok(_) => "cut".to_owned(),
        Err(failure) => format!("{}: {}", failure.code, failure.message),
    };
    let first = segment_as(&chunks.args(false, Some(1)), &chunks.pieces[..1]).unwrap();
    let table = first.folder.path().join("segments");
    assert_eq!(first.summary.next_piece, Some(1));
    let behind = |pieces: &[PathBuf]| [std::slice::from_ref(&table), pieces].concat();
    for (args, inputs, says) in [
        (chunks.args(false, Some(2)), chunks.pieces[..1].to_vec(), "the pieces end with frame 48"),
        (chunks.args(false, Some(3)), chunks.pieces.clone(), "the last waits for the end"),
        (chunks.args(true, Some(1)), behind(&chunks.pieces[1..]), "are cut already"),
        (chunks.args(true, None), behind(&chunks.pieces[2..]), "segments_differ"),
    ] {
        let found = code(args, &inputs);
        assert!(found.contains(says), "{says}: {found}");
    }
    let mut other = chunks.spec.clone();
    other.video.as_mut().unwrap().preset = Some("slow".into());
    let made = make(&chunks.source, &other).unwrap();
    let found = code(chunks.args(true, None), &behind(&made.tracks[0].paths[1..]));
    assert!(found.starts_with("parameters_differ"), "{found}");
    let sound = audio_spec(AudioCodec::Aac);
    let (piece, _host) = track(&chunks.source, &sound, 1).unwrap();
    let found = code(SegmentArgs { until: Some(1), ..args(&chunks.source, &sound, 1) }, &[piece]);
    assert!(found.starts_with("bad_call"), "{found}");
}

/// A folder with one rendition of pictures and one of sound.
fn package(folder: &Path) -> (PathBuf, Vec<PathBuf>) {
    let source = source(folder);
    let cuts = [cut_video(&source, VideoCodec::Libx264), cut_audio(&source, AudioCodec::Aac)];
    let out = folder.join("package");
    let named = |folder: &str, language: Option<&str>| PackagedTrack {
        folder: folder.into(),
        name: folder.to_uppercase(),
        language: language.map(Into::into),
        default: false,
        forced: false,
        ceiling_bps: None,
    };
    let tracks = vec![named("video/180p", None), named("audio/aac", Some("ger"))];
    for (track, cut) in tracks.iter().zip(&cuts) {
        cut.publish(&out.join(&track.folder));
    }
    let tables = cuts.iter().map(|cut| cut.folder.path().join("segments"));
    let args =
        ManifestArgs { packages: Package::ALL.to_vec(), tracks, text: Vec::new(), pictures: Vec::new(), growth: None };
    let (product, _host) = call(&Args::Manifest(args), tables).unwrap();
    let paths = product.files.iter().map(|(name, from)| {
        fs::copy(from, out.join(name)).unwrap();
        PathBuf::from(name)
    });
    let paths = paths.collect();
    (out, paths)
}

#[test]
fn the_playlists_are_followed_by_ffmpegs_demuxers() {
    let folder = tempfile::tempdir().unwrap();
    let (out, paths) = package(folder.path());
    let names: Vec<&str> = paths.iter().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "video/180p/playlist.m3u8",
            "video/180p/iframes.m3u8",
            "audio/aac/playlist.m3u8",
            "master.m3u8",
            "manifest.mpd"
        ]
    );
    for entry in [Package::Hls.entry(), Package::Dash.entry()] {
        let path = out.join(entry);
        let streams = probe(&path, "-show_entries stream=codec_name");
        let streams: std::collections::BTreeSet<&str> = streams.iter().map(String::as_str).collect();
        assert_eq!(streams.into_iter().collect::<Vec<_>>(), ["aac", "h264"], "{entry}");
        let frames = probe(&path, "-count_frames -select_streams v:0 -show_entries stream=nb_read_frames");
        assert_eq!(frames[0], "126", "{entry}");
    }
    let iframes = fs::read_to_string(out.join("video/180p/iframes.m3u8")).unwrap();
    assert_eq!(iframes.matches("#EXT-X-BYTERANGE").count(), 6, "one a group of pictures");
}

#[test]
fn the_playlists_say_what_was_measured() {
    let folder = tempfile::tempdir().unwrap();
    let (out, _) = package(folder.path());
    let read = |path: &str| fs::read_to_string(out.join(path)).unwrap();
    let bytes = |path: &str| fs::metadata(out.join(path)).unwrap().len();
    let media = read("video/180p/playlist.m3u8");
    assert_eq!(
        media,
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-PLAYLIST-TYPE:VOD\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:2.000000,\n00001.m4s\n#EXTINF:2.000000,\n\
         00002.m4s\n#EXTINF:1.250000,\n00003.m4s\n#EXT-X-ENDLIST\n"
    );
    let peak = |folder: &str, seconds: [f64; 3]| {
        let rates = (1..).zip(seconds).map(|(n, s)| {
            #[expect(clippy::cast_precision_loss, reason = "small files")]
            let bits = bytes(&format!("{folder}/{}", file::segment(n))) as f64 * 8.0;
            bits / s
        });
        rates.fold(0.0, f64::max)
    };
    let master = read("master.m3u8");
    let variant = master.lines().find(|line| line.starts_with("#EXT-X-STREAM-INF")).unwrap();
    for part in
        ["RESOLUTION=320x180", "FRAME-RATE=24.000", "VIDEO-RANGE=SDR", ",mp4a.40.2\"", "AUDIO=\"mp4a-40-2-1ch\""]
    {
        assert!(variant.contains(part), "{part}: {variant}");
    }
    let number = |name: &str| -> f64 {
        let at = variant.find(&format!(":{name}=")).or(variant.find(&format!(",{name}="))).unwrap();
        variant[at + name.len() + 2..].split(',').next().unwrap().parse().unwrap()
    };
    let wanted = peak("video/180p", [2.0, 2.0, 1.25]) + peak("audio/aac", [2.0, 2.0, 1.25]);
    assert!((number("BANDWIDTH") / wanted - 1.0).abs() < 0.05, "{} for {wanted}", number("BANDWIDTH"));
    assert!(number("AVERAGE-BANDWIDTH") < number("BANDWIDTH"));
    assert!(master.contains("LANGUAGE=\"de\""), "{master}");
    let mpd = read("manifest.mpd");
    for part in ["lang=\"de\"", "codecs=\"mp4a.40.2\"", "<S t=\"0\"", "r=\"1\"", "mediaPresentationDuration=\"PT5.2"] {
        assert!(mpd.contains(part), "{part}: {mpd}");
    }
}
