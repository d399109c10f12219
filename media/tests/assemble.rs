//! Films cut, encoded, joined and checked, against what one ffmpeg process makes of the same source.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod film;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::{corpus, ffmpeg};
use film::{Film, Made, Pieces, extension, make, probe_lines, spec};
use spool_media::piece::{PieceReader, PieceWriter};
use spool_proto::call::{FrameEntry, KeyframeTable, ValidateArgs};
use spool_proto::spec::{AudioCodec, AudioSpec, Container, EncodeSpec, Rational, Subtitles, VideoCodec, VideoSpec};
use spool_proto::time::Span;

fn video(codec: VideoCodec) -> VideoSpec {
    VideoSpec {
        crf: Some(if codec == VideoCodec::Libx264 { 28.0 } else { 40.0 }),
        bitrate_bps: (codec == VideoCodec::LibvpxVp9).then_some(0),
        preset: match codec {
            VideoCodec::Libx264 | VideoCodec::Libx265 => Some("veryfast".into()),
            VideoCodec::Libsvtav1 => Some("10".into()),
            VideoCodec::LibvpxVp9 => None,
        },
        // Chunks start where the whole film's encoder would start a group of pictures.
        gop_frames: Some(25),
        threads: Some(1),
        deadline: (codec == VideoCodec::LibvpxVp9).then(|| "realtime".into()),
        cpu_used: (codec == VideoCodec::LibvpxVp9).then_some(8),
        ..VideoSpec::new(codec)
    }
}

fn film_spec(codec: VideoCodec, container: Container, audio: Option<AudioCodec>) -> EncodeSpec {
    let sound = audio.map(AudioSpec::new);
    let mut spec = spec(container, sound);
    spec.video = Some(video(codec));
    spec.subtitles = Subtitles::None;
    spec.chunk = Some(Span::from_millis(1000));
    spec
}

fn command(spec: &EncodeSpec) -> String {
    let video = spec.video.as_ref().unwrap();
    let mut command = match video.codec {
        VideoCodec::Libx264 => "-c:v libx264 -preset veryfast -crf 28 -threads:v 1",
        VideoCodec::Libx265 => "-c:v libx265 -preset veryfast -crf 40 -x265-params log-level=error:pools=1",
        VideoCodec::Libsvtav1 => "-c:v libsvtav1 -preset 10 -crf 40",
        VideoCodec::LibvpxVp9 => "-c:v libvpx-vp9 -crf 40 -b:v 0 -deadline realtime -cpu-used 8",
    }
    .to_string();
    command.push_str(" -g 25");
    if let Some(rate) = video.frame_rate {
        command.push_str(&format!(" -r {rate}"));
    }
    match spec.audio.as_ref().map(|audio| audio.codec) {
        None => command.push_str(" -an"),
        Some(AudioCodec::Flac) => command.push_str(" -c:a flac -strict -2"),
        Some(codec) => command.push_str(&format!(" -c:a {codec}")),
    }
    if spec.subtitles == Subtitles::None {
        command.push_str(" -sn");
    } else {
        command.push_str(" -c:s copy");
    }
    for (name, span) in [("-ss", spec.trim.start), ("-t", spec.trim.duration)] {
        if let Some(span) = span {
            command.push_str(&format!(" {name} {}us", span.0));
        }
    }
    command
}

fn codecs(path: &Path) -> Vec<String> {
    probe_lines("-show_entries stream=codec_name,codec_type -of csv=p=0", path)
        .iter()
        .filter_map(|line| {
            let mut fields = line.split(',');
            let codec = fields.next()?.to_string();
            ["video", "audio", "subtitle"].contains(&fields.next()?).then_some(codec)
        })
        .collect()
}

/// Makes the film both ways and compares all that a player goes by.
fn same_as_ffmpeg(source: &Path, spec: &EncodeSpec) -> (Film, Made) {
    let made = make(source, spec).unwrap();
    let ours = Film::join(source, spec, &made.tracks).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let theirs = folder.path().join(format!("theirs.{}", extension(spec.container)));
    ffmpeg(&format!("-i {} {}", source.display(), command(spec)), &theirs);

    let frames = "-select_streams v:0 -show_entries frame=pts -of csv=p=0";
    // ffprobe puts x265's text of settings on a line of its own.
    let pts = |path: &Path| -> Vec<String> {
        let line = |line: String| line.trim_end_matches(',').to_string();
        probe_lines(frames, path).into_iter().map(line).filter(|line| !line.is_empty()).collect()
    };
    let (mine, wanted) = (pts(&ours.path), pts(&theirs));
    assert_eq!(mine, wanted, "decoded video frames");
    assert!(!mine.is_empty());
    if spec.audio.is_some() {
        let frames = "-select_streams a:0 -show_entries frame=pts,nb_samples -of csv=p=0";
        assert_eq!(probe_lines(frames, &ours.path), probe_lines(frames, &theirs), "decoded sound");
    }
    let times = "-show_entries stream=codec_name,start_time,duration,avg_frame_rate,r_frame_rate,time_base:format=start_time,\
                 duration -of csv=p=0";
    assert_eq!(probe_lines(times, &ours.path), probe_lines(times, &theirs), "streams");
    let tags =
        "-show_entries stream_tags:stream_disposition:format_tags:chapter=start_time,end_time:chapter_tags -of flat";
    let known = |line: &String| !["encoder", "ENCODER", "DURATION"].iter().any(|tag| line.contains(tag));
    let told = |path: &Path| probe_lines(tags, path).into_iter().filter(known).collect::<BTreeSet<_>>();
    assert_eq!(told(&ours.path), told(&theirs), "tags");

    let expected = made.expected(spec, &codecs(&theirs).iter().map(String::as_str).collect::<Vec<_>>());
    let manifest = ours.validate(&expected).unwrap();
    assert_eq!(manifest.video_frames, expected.frames);
    assert_eq!(Some(manifest.decoded_frames), expected.frames);
    assert_eq!(manifest.pts_hash, ours.manifest.pts_hash);
    let duration: f64 = probe_lines("-show_entries format=duration -of csv=p=0", &theirs)[0].parse().unwrap();
    let told = std::time::Duration::from_micros(manifest.duration_us.unsigned_abs()).as_secs_f64();
    assert!((told - duration).abs() < 1e-6, "{told} against {duration}");
    (ours, made)
}

/// 4 s with a cut every second or so, 25 frames a second, and sound of another length.
fn clip(folder: &Path, sound: &str) -> PathBuf {
    let path = folder.join("clip.mkv");
    ffmpeg(
        &format!(
            "-f lavfi -i testsrc=d=4:s=160x120:r=25 -f lavfi -i sine=d={sound}:r=48000 -map 0 -map 1 -c:v libx264 -g 25 -preset \
             ultrafast -c:a flac -metadata title=Clip -metadata:s:a:0 language=deu -metadata:s:a:0 title=Ton"
        ),
        &path,
    );
    path
}

#[test]
fn every_encoder_and_container_is_joined_as_ffmpeg_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let source = clip(folder.path(), "4.7");
    for (codec, container, audio) in [
        (VideoCodec::Libx264, Container::Mp4, Some(AudioCodec::Aac)),
        (VideoCodec::Libx264, Container::Mkv, Some(AudioCodec::Libopus)),
        (VideoCodec::Libx264, Container::Mov, Some(AudioCodec::Aac)),
        (VideoCodec::Libx264, Container::Mkv, Some(AudioCodec::Copy)),
        (VideoCodec::Libx265, Container::Mp4, Some(AudioCodec::Flac)),
        (VideoCodec::Libx265, Container::Mkv, None),
        (VideoCodec::Libsvtav1, Container::Mp4, Some(AudioCodec::Libopus)),
        (VideoCodec::Libsvtav1, Container::Webm, Some(AudioCodec::Libopus)),
        (VideoCodec::LibvpxVp9, Container::Webm, Some(AudioCodec::Libopus)),
        (VideoCodec::LibvpxVp9, Container::Mp4, None),
    ] {
        println!("{codec:?} {container:?} {audio:?}");
        let (film, made) = same_as_ffmpeg(&source, &film_spec(codec, container, audio));
        assert!(made.chunks.len() > 2, "{:?}", made.plan);
        let index = film.index();
        assert_eq!(
            index.frames.len(),
            usize::try_from(made.chunks.iter().map(|chunk| chunk.units).sum::<u64>()).unwrap()
        );
        assert_eq!(sizes(&index), packet_sizes(&film.path), "every frame at its time, with its bytes and its key flag");
        let keys: Vec<u64> = index.keyframes.iter().map(|key| key.frame).collect();
        let mut start = 0;
        for chunk in &made.chunks {
            assert!(keys.contains(&start), "chunk at {start}: {keys:?}");
            start += chunk.units;
        }
    }
}

fn sizes(index: &KeyframeTable) -> Vec<(i64, u64, bool)> {
    index.frames.iter().map(|frame| (frame.pts, frame.bytes, frame.key)).collect()
}

/// The same by ffprobe.
fn packet_sizes(film: &Path) -> Vec<(i64, u64, bool)> {
    let lines = probe_lines("-select_streams v:0 -show_entries packet=pts,size,flags -of csv=p=0", film);
    let mut packets: Vec<(i64, u64, bool)> = (lines.iter())
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            (fields[0].parse().unwrap(), fields[1].parse().unwrap(), fields[2].starts_with('K'))
        })
        .collect();
    packets.sort_unstable();
    packets
}

#[test]
fn an_index_of_a_release_without_frames_is_read() {
    let old = r#"{"time_base":{"num":1,"den":24},"keyframes":[{"frame":0,"pts":0,"position":48,"bytes":100}]}"#;
    let table: KeyframeTable = serde_json::from_str(old).unwrap();
    assert_eq!((table.keyframes.len(), table.frames.len(), table.chunks.len()), (1, 0, 0));
    let equal = r#"{"pts":7,"bytes":9,"key":true,"psnr":null,"ssim":1.0}"#;
    let frame: FrameEntry = serde_json::from_str(equal).unwrap();
    assert_eq!(frame.psnr, Some(f64::INFINITY));
    assert_eq!(serde_json::to_string(&frame).unwrap(), equal);
}

#[test]
fn sound_shorter_than_the_picture_ends_where_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let source = clip(folder.path(), "1.3");
    for container in [Container::Mp4, Container::Mkv] {
        same_as_ffmpeg(&source, &film_spec(VideoCodec::Libx264, container, Some(AudioCodec::Aac)));
    }
}

#[test]
fn a_trimmed_film_and_another_frame_rate_are_as_ffmpeg_makes_them() {
    let folder = tempfile::tempdir().unwrap();
    let source = clip(folder.path(), "4");
    let mut spec = film_spec(VideoCodec::Libx264, Container::Mp4, Some(AudioCodec::Aac));
    spec.trim.start = Some(Span::from_millis(730));
    spec.trim.duration = Some(Span::from_millis(2510));
    same_as_ffmpeg(&source, &spec);
    let mut spec = film_spec(VideoCodec::Libx264, Container::Mkv, Some(AudioCodec::Libopus));
    if let Some(video) = &mut spec.video {
        video.frame_rate = Some(Rational::new(30_000, 1001));
    }
    same_as_ffmpeg(&source, &spec);
}

#[test]
fn uneven_frame_rates_stay_uneven() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("vfr.mkv");
    ffmpeg(
        "-f lavfi -i testsrc=d=4:s=160x120:r=30 -vf select='mod(n,7)-3*gt(mod(n,3),1)' -fps_mode vfr -c:v libx264 -g 15 -preset \
         ultrafast",
        &source,
    );
    for container in [Container::Mp4, Container::Mkv] {
        same_as_ffmpeg(&source, &film_spec(VideoCodec::Libx264, container, None));
    }
}

#[test]
fn chapters_and_subtitles_come_along() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path(), "4");
    let text = folder.path().join("a.srt");
    std::fs::write(&text, "1\n00:00:01,000 --> 00:00:02,500\nOne\n\n2\n00:00:03,000 --> 00:00:03,900\nTwo\n").unwrap();
    let chapters = folder.path().join("chapters.txt");
    let chapter = |start, end, title| {
        format!("[CHAPTER]\nTIMEBASE=1/1000\nSTART={start}\nEND={end}\ntitle={title}\nartist=A {title}\n")
    };
    std::fs::write(&chapters, format!(";FFMETADATA1\n{}{}", chapter(0, 1500, "Before"), chapter(1500, 4000, "After")))
        .unwrap();
    let source = folder.path().join("rich.mkv");
    ffmpeg(
        &format!(
            "-i {} -i {} -i {} -map 0 -map 1 -map_chapters 2 -c copy -metadata:s:s:0 language=fra",
            clip.display(),
            text.display(),
            chapters.display()
        ),
        &source,
    );
    let mut spec = film_spec(VideoCodec::Libx264, Container::Mkv, Some(AudioCodec::Copy));
    spec.subtitles = Subtitles::Copy;
    same_as_ffmpeg(&source, &spec);
    let mut spec = film_spec(VideoCodec::Libx264, Container::Mp4, Some(AudioCodec::Aac));
    spec.trim.start = Some(Span::from_millis(500));
    same_as_ffmpeg(&source, &spec);
}

#[test]
fn films_of_the_corpus_are_as_ffmpeg_makes_them() {
    for (name, container) in [
        ("odd/av__late_audio.mp4", Container::Mp4),
        ("odd/av__late_audio.mp4", Container::Mkv),
        ("odd/elst__edts_480p.mp4", Container::Mp4),
        ("odd/neg__ctts_iibbibb.mov", Container::Mp4),
        ("odd/vfr__trimmed_518x488.mp4", Container::Mp4),
        ("odd/tiny__1frame_h264_sar.mp4", Container::Mp4),
        ("odd/mkv__chapters_444.mkv", Container::Mkv),
    ] {
        let Some(source) = corpus(name) else {
            eprintln!("skipped: {name} is not here");
            continue;
        };
        println!("{name}");
        let has_sound = probe_lines("-select_streams a -show_entries stream=index -of csv=p=0", &source);
        let audio = (!has_sound.is_empty()).then_some(AudioCodec::Aac);
        same_as_ffmpeg(&source, &film_spec(VideoCodec::Libx264, container, audio));
    }
}

#[test]
fn the_same_job_gives_the_same_bytes_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = clip(folder.path(), "4");
    for container in [Container::Mp4, Container::Mkv, Container::Mov] {
        let spec = film_spec(VideoCodec::Libx264, container, Some(AudioCodec::Aac));
        let bytes = || {
            let made = make(&source, &spec).unwrap();
            std::fs::read(Film::join(&source, &spec, &made.tracks).unwrap().path).unwrap()
        };
        assert!(bytes() == bytes(), "{container:?}: two runs differ");
    }
}

// ---- what must not pass ----

/// A film's video pieces and what the check would be told.
fn chunks(folder: &Path) -> (PathBuf, EncodeSpec, Made, ValidateArgs) {
    let source = clip(folder, "4");
    let spec = film_spec(VideoCodec::Libx264, Container::Mp4, None);
    let made = make(&source, &spec).unwrap();
    assert!(made.chunks.len() > 2);
    let expected = made.expected(&spec, &["h264"]);
    (source, spec, made, expected)
}

fn join_of(source: &Path, spec: &EncodeSpec, paths: Vec<PathBuf>) -> Result<Film, spool_proto::failure::Failure> {
    Film::join(source, spec, &[Pieces { stream: 0, paths }])
}

#[test]
fn damaged_swapped_or_foreign_chunks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (source, spec, made, _) = chunks(folder.path());
    let paths = made.tracks[0].paths.clone();
    let refused = |paths: Vec<PathBuf>| {
        let failure = join_of(&source, &spec, paths).unwrap_err();
        assert_eq!(failure.class.name(), "internal", "{failure:?}");
        (failure.code, failure.message)
    };

    let short = folder.path().join("short");
    let bytes = std::fs::read(&paths[1]).unwrap();
    std::fs::write(&short, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let mut with = paths.clone();
    with[1] = short;
    let (code, message) = refused(with);
    assert_eq!(code, "artifact_malformed");
    assert!(message.starts_with("chunk 1: "), "{message}");

    let mut with = paths.clone();
    with.swap(0, 1);
    assert_eq!(refused(with).0, "chunks_overlap");

    let mut with = paths.clone();
    with[2] = with[1].clone();
    let (code, message) = refused(with);
    assert_eq!(code, "chunks_overlap");
    assert!(message.starts_with("chunk 2 starts at pts 25, but chunk 1 is shown until 49"), "{message}");

    let foreign = folder.path().join("foreign");
    let mut other = PieceReader::open(std::fs::File::open(&paths[1]).unwrap()).unwrap();
    let mut parameters = other.parameters().clone();
    *parameters.extradata.last_mut().unwrap() ^= 1;
    let mut writer = PieceWriter::create(&foreign, &parameters).unwrap();
    for packet in &mut other {
        writer.write(&packet.unwrap()).unwrap();
    }
    writer.finish().unwrap();
    let mut with = paths;
    with[1] = foreign;
    let (code, message) = refused(with);
    assert_eq!(code, "parameters_differ");
    assert!(message.starts_with("chunk 1 was encoded with other parameters than chunk 0"), "{message}");
}

#[test]
fn a_chunk_that_is_missing_is_found_by_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let (source, spec, made, expected) = chunks(folder.path());
    let mut paths = made.tracks[0].paths.clone();
    paths.remove(1);
    let film = join_of(&source, &spec, paths).unwrap();
    let failure = film.validate(&expected).unwrap_err();
    assert_eq!(failure.code, "validation_failed");
    assert_eq!(failure.message, "the encodes made 100 video frames, the film has 75");
}

#[test]
fn a_film_that_was_changed_after_the_join_is_found_by_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let (source, spec, made, expected) = chunks(folder.path());
    let film = join_of(&source, &spec, made.tracks[0].paths.clone()).unwrap();
    assert!(film.validate(&expected).is_ok());
    for (what, verify, changed, told) in [
        ("a frame shown late", "packets", "-c copy -bsf:v setts=pts='PTS+if(eq(N,40),1,0)':dts=DTS", "is shown at pts"),
        ("another start", "packets", "-c copy -output_ts_offset 0.5", "the film's first frame is shown at"),
    ] {
        let path = folder.path().join("changed.mp4");
        ffmpeg(&format!("-i {} {changed}", film.path.display()), &path);
        let changed = Film { path, folder: tempfile::tempdir().unwrap(), ..copy_of(&film) };
        let failure = changed.validate(&expected).unwrap_err();
        assert_eq!(failure.code, "validation_failed", "{what} at {verify}");
        assert!(failure.message.contains(told), "{what}: {}", failure.message);
    }
    let mut wrong = expected.clone();
    wrong.joins[1] += 1;
    assert!(film.validate(&wrong).unwrap_err().message.contains("frame 26"), "a join that is no keyframe");
    let mut wrong = expected;
    wrong.codecs.push("aac".into());
    assert!(film.validate(&wrong).unwrap_err().message.contains("should have the tracks [h264, aac], it has [h264]"));
}

fn copy_of(film: &Film) -> Film {
    Film {
        folder: tempfile::tempdir().unwrap(),
        path: film.path.clone(),
        timeline: film.timeline.clone(),
        manifest: film.manifest.clone(),
    }
}

#[test]
fn broken_pictures_are_found_by_decoding() {
    let folder = tempfile::tempdir().unwrap();
    let (source, spec, made, mut expected) = chunks(folder.path());
    let film = join_of(&source, &spec, made.tracks[0].paths.clone()).unwrap();
    let mut bytes = std::fs::read(&film.path).unwrap();
    // The middle of the pictures of the last third, sizes and headers left alone.
    let table = film.index();
    let key = table.keyframes.last().unwrap();
    let at = usize::try_from(key.position.unwrap()).unwrap();
    for byte in &mut bytes[at + 200..at + 400] {
        *byte ^= 0xa5;
    }
    std::fs::write(&film.path, bytes).unwrap();
    for verify in [spool_proto::spec::Verify::Sample, spool_proto::spec::Verify::Full] {
        expected.verify = verify;
        let failure = film.validate(&expected).unwrap_err();
        assert_eq!(failure.code, "validation_failed");
        let number = failure.message.split_once("frame ").and_then(|(_, rest)| rest.split_once(' ')).unwrap().0;
        let number: u64 = number.parse().unwrap();
        // The decoder holds back as many as it has threads and reorders.
        assert!((key.frame - 4..=key.frame).contains(&number), "frame {}: {}", key.frame, failure.message);
    }
    expected.verify = spool_proto::spec::Verify::Packets;
    assert!(film.validate(&expected).is_ok());
}
