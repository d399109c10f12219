//! Sound and subtitles in one piece, against what one ffmpeg process makes of the same film.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod film;

use std::path::Path;

use common::{corpus, ffmpeg};
use film::{Film, probe_lines, spec};
use spool_proto::call::{Args, TrackArgs, Value};
use spool_proto::spec::{AudioCodec, AudioSpec, Container, EncodeSpec, Trim};
use spool_proto::time::Span;

fn sound(codec: AudioCodec) -> AudioSpec {
    AudioSpec { codec, bitrate_bps: None, sample_rate_hz: None, channels: None }
}

/// `-c:a …` and the rest, as ffmpeg takes it.
fn command(spec: &EncodeSpec) -> String {
    let audio = spec.audio.as_ref().unwrap();
    let mut command = match audio.codec {
        AudioCodec::Aac => "-c:a aac",
        AudioCodec::Libopus => "-c:a libopus",
        AudioCodec::Flac => "-c:a flac -strict -2",
        AudioCodec::Copy => "-c:a copy",
    }
    .to_string();
    for (name, value) in [
        ("-b:a", audio.bitrate_bps.map(|v| v.to_string())),
        ("-ar", audio.sample_rate_hz.map(|v| v.to_string())),
        ("-ac", audio.channels.map(|v| v.to_string())),
        ("-ss", spec.trim.start.map(|v| format!("{}us", v.0))),
        ("-t", spec.trim.duration.map(|v| format!("{}us", v.0))),
    ] {
        if let Some(value) = value {
            command.push_str(&format!(" {name} {value}"));
        }
    }
    command
}

/// Makes a film of the source's stream alone with Spool and with ffmpeg: every packet must be the same one at the same time, and what
/// decodes from it the same samples.
fn same_as_ffmpeg(source: &Path, stream: u32, spec: &EncodeSpec) {
    let folder = tempfile::tempdir().unwrap();
    let ours = Film::of_tracks(source, spec, &[stream]).unwrap();
    let theirs = folder.path().join(format!("theirs.{}", film::extension(spec.container)));
    ffmpeg(&format!("-i {} -map 0:{stream} {}", source.display(), command(spec)), &theirs);
    let packets = "-show_entries packet=pts,dts,duration,size,flags -of csv=p=0";
    similar(&probe_lines(packets, &ours.path), &probe_lines(packets, &theirs), "packets");
    let frames = "-show_entries frame=pts,nb_samples -of csv=p=0";
    assert_eq!(probe_lines(frames, &ours.path), probe_lines(frames, &theirs), "decoded frames");
    let format = "-show_entries format=start_time,duration:stream=codec_name,start_time,sample_rate,channels,channel_layout,\
                  sample_fmt,initial_padding -of csv=p=0";
    assert_eq!(probe_lines(format, &ours.path), probe_lines(format, &theirs), "container");
}

fn similar(ours: &[String], theirs: &[String], what: &str) {
    for (number, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(ours, theirs, "{what}: number {number}");
    }
    assert_eq!(ours.len(), theirs.len(), "{what}: count");
    assert!(!ours.is_empty(), "{what}: none");
}

fn tone(folder: &Path, rate: u32, layout: &str, extra: &str) -> std::path::PathBuf {
    let path = folder.join(format!("tone_{rate}_{layout}.mkv"));
    let channels = match layout {
        "mono" => "sin(440*t)",
        "stereo" => "sin(440*t)|sin(523*t)",
        _ => "sin(440*t)|sin(523*t)|sin(660*t)|sin(80*t)|sin(300*t)|sin(350*t)",
    };
    ffmpeg(&format!("-f lavfi -i aevalsrc={channels}:s={rate}:c={layout}:d=3.21 {extra} -c:a pcm_s16le"), &path);
    path
}

#[test]
fn every_codec_rate_and_layout_is_as_ffmpeg_makes_it() {
    let folder = tempfile::tempdir().unwrap();
    for (rate, layout) in [(44_100, "mono"), (48_000, "stereo"), (44_100, "stereo"), (48_000, "5.1")] {
        let source = tone(folder.path(), rate, layout, "");
        for (codec, container) in [
            (AudioCodec::Aac, Container::Mp4),
            (AudioCodec::Aac, Container::Mkv),
            (AudioCodec::Libopus, Container::Webm),
            (AudioCodec::Libopus, Container::Mp4),
            (AudioCodec::Flac, Container::Mkv),
            (AudioCodec::Flac, Container::Mp4),
        ] {
            println!("{rate} {layout} {codec:?} {container:?}");
            same_as_ffmpeg(&source, 0, &spec(container, Some(sound(codec))));
        }
    }
}

#[test]
fn rate_channels_and_bitrate_follow_what_was_asked() {
    let folder = tempfile::tempdir().unwrap();
    let source = tone(folder.path(), 44_100, "5.1", "");
    for (rate, channels, bitrate) in
        [(Some(48_000), Some(2), Some(96_000)), (Some(22_050), None, None), (None, Some(1), Some(64_000))]
    {
        let asked = AudioSpec { codec: AudioCodec::Aac, bitrate_bps: bitrate, sample_rate_hz: rate, channels };
        same_as_ffmpeg(&source, 0, &spec(Container::Mp4, Some(asked)));
    }
}

#[test]
fn trimmed_sound_is_cut_where_ffmpeg_cuts_it() {
    let folder = tempfile::tempdir().unwrap();
    let source = tone(folder.path(), 48_000, "stereo", "");
    let coded = folder.path().join("coded.mp4");
    ffmpeg(&format!("-i {} -c:a aac", source.display()), &coded);
    for codec in [AudioCodec::Aac, AudioCodec::Libopus, AudioCodec::Copy] {
        for (start, duration) in [(Some(1_234_567), Some(1_000_000)), (None, Some(700_000)), (Some(500_000), None)] {
            let mut spec = spec(Container::Mp4, Some(sound(codec)));
            spec.trim = Trim { start: start.map(Span), duration: duration.map(Span) };
            println!("{codec:?} {start:?} {duration:?}");
            same_as_ffmpeg(&coded, 0, &spec);
        }
    }
}

#[test]
fn a_late_start_stays_late() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("late.mkv");
    ffmpeg(
        "-f lavfi -i testsrc=d=3:s=64x64:r=25 -itsoffset 0.7 -f lavfi -i sine=d=1.5:r=48000 -map 0:v -map 1:a -c:v mpeg4 -c:a \
         aac",
        &source,
    );
    for (codec, container) in [
        (AudioCodec::Aac, Container::Mp4),
        (AudioCodec::Libopus, Container::Mkv),
        (AudioCodec::Flac, Container::Mkv),
        (AudioCodec::Copy, Container::Mp4),
        (AudioCodec::Copy, Container::Mkv),
    ] {
        same_as_ffmpeg(&source, 1, &spec(container, Some(sound(codec))));
    }
}

#[test]
fn films_of_the_corpus_sound_as_ffmpeg_makes_them() {
    let films = [
        ("odd/av__late_audio.mp4", 1),
        ("odd/audioonly__aac_15s.mp4", 0),
        ("odd/audioonly__opus.webm", 0),
        ("odd/audioonly__two_aac_tracks.mp4", 1),
        ("odd/fmt__h264_444_20fps_mp3.mp4", 1),
        ("odd/webm__vp9_opus.webm", 1),
        ("odd/mkv__full_3audio_2subs_chapters_font.mkv", 1),
        ("odd/frag__20s_multi_sidx.mp4", 1),
        ("bench/bbb_1080p24_30s.mp4", 1),
    ];
    for (name, stream) in films {
        let Some(source) = corpus(name) else {
            eprintln!("skipped: {name} is not here");
            continue;
        };
        let kind =
            probe_lines(&format!("-select_streams {stream} -show_entries stream=codec_type -of csv=p=0"), &source);
        if kind.first().map(String::as_str) != Some("audio") {
            eprintln!("skipped: stream {stream} of {name} is {kind:?}");
            continue;
        }
        for codec in [AudioCodec::Aac, AudioCodec::Libopus, AudioCodec::Copy] {
            println!("{name} {codec:?}");
            same_as_ffmpeg(&source, stream, &spec(Container::Mkv, Some(sound(codec))));
        }
    }
}

#[test]
fn damage_in_the_middle_is_skipped_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let tone = tone(folder.path(), 48_000, "stereo", "");
    let source = folder.path().join("damaged.mp4");
    ffmpeg(&format!("-i {} -c:a aac -b:a 128k", tone.display()), &source);
    let mut bytes = std::fs::read(&source).unwrap();
    let middle = bytes.len() / 2;
    for (place, byte) in bytes[middle..middle + 600].iter_mut().enumerate() {
        *byte = if place % 3 == 0 { 0xff } else { *byte ^ 0x5a };
    }
    std::fs::write(&source, bytes).unwrap();
    let spec = spec(Container::Mp4, Some(sound(AudioCodec::Aac)));
    let args = Args::Audio(TrackArgs { spec, stream: 0, jumps: Vec::new() });
    let (product, _host) = common::call(&args, [source]).unwrap();
    assert_eq!(product.warnings.len(), 1, "{:?}", product.warnings);
    assert_eq!(product.warnings[0].code, "damaged_source");
    let Value::Track(manifest) = product.value else { panic!() };
    assert!(manifest.units > 48_000 * 2, "{manifest:?}");
}

#[test]
fn what_is_no_sound_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("silent.mp4");
    ffmpeg("-f lavfi -i testsrc=d=0.2:s=64x64 -c:v mpeg4", &source);
    for (stream, code) in [(0, "wrong_stream"), (5, "no_such_stream")] {
        let spec = spec(Container::Mp4, Some(sound(AudioCodec::Aac)));
        let failure = common::call(&Args::Audio(TrackArgs { spec, stream, jumps: Vec::new() }), [&source])
            .map(|_| ())
            .unwrap_err();
        assert_eq!((failure.class.name(), failure.code.as_str()), ("input", code), "{failure:?}");
    }
}

#[test]
fn subtitles_are_copied_where_the_container_takes_them() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("a.srt");
    std::fs::write(&text, "1\n00:00:01,000 --> 00:00:02,500\nOne\n\n2\n00:00:03,000 --> 00:00:04,000\nTwo\n").unwrap();
    let source = folder.path().join("source.mkv");
    ffmpeg(
        &format!("-f lavfi -i testsrc=d=5:s=64x64 -i {} -map 0 -map 1 -c:v mpeg4 -c:s subrip", text.display()),
        &source,
    );
    let with_video = |container| {
        let mut spec = spec(container, None);
        spec.video = Some(serde_json::from_value(serde_json::json!({ "codec": "libx264" })).unwrap());
        spec
    };
    let ours = Film::of_tracks(&source, &with_video(Container::Mkv), &[1]).unwrap();
    let theirs = folder.path().join("theirs.mkv");
    ffmpeg(&format!("-i {} -map 0:1 -c:s copy", source.display()), &theirs);
    let packets = "-show_entries packet=pts,dts,duration,size -of csv=p=0";
    assert_eq!(probe_lines(packets, &ours.path), probe_lines(packets, &theirs));
    assert_eq!(probe_lines(packets, &ours.path).len(), 2);
    let failure = Film::of_tracks(&source, &with_video(Container::Mp4), &[1]).unwrap_err();
    assert_eq!((failure.class.name(), failure.code.as_str()), ("spec", "subtitles_refused"));
}
