//! Sound and subtitles in one piece, against what one ffmpeg process makes of the same film.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod film;

use std::path::Path;

use common::{corpus, ffmpeg};
use film::{Film, probe_lines, spec};
use spool_proto::call::{Args, TrackArgs, Value};
use spool_proto::spec::{AudioCodec, AudioSpec, Container, EncodeSpec, Subtitles, TextCodec, Trim, parse};
use spool_proto::time::Span;

fn sound(codec: AudioCodec) -> AudioSpec {
    AudioSpec::new(codec)
}

/// `-c:a …` and the rest, as ffmpeg takes it.
fn command(spec: &EncodeSpec) -> String {
    let audio = spec.audio.as_ref().unwrap();
    let mut command = format!("-c:a {}", audio.codec);
    if audio.codec == AudioCodec::Flac {
        command.push_str(" -strict -2");
    }
    for (name, value) in [
        ("-b:a", audio.bitrate_bps.map(|v| v.to_string())),
        ("-ar", audio.sample_rate_hz.map(|v| v.to_string())),
        ("-ac", audio.channels.map(|v| v.to_string())),
        ("-channel_layout", audio.channel_layout.clone()),
        ("-af", (!audio.filters.is_empty()).then(|| parse::audio_filters_text(&audio.filters))),
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
    let packets = "-show_data_hash adler32 -show_entries packet=pts,dts,duration,size,flags,data_hash -of csv=p=0";
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
            (AudioCodec::Ac3, Container::Mp4),
            (AudioCodec::Eac3, Container::Mov),
            (AudioCodec::Ac3, Container::Mkv),
            (AudioCodec::Libmp3lame, Container::Mp4),
            (AudioCodec::Libmp3lame, Container::Mkv),
            (AudioCodec::PcmS16le, Container::Mov),
            (AudioCodec::PcmS24le, Container::Mkv),
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
        let asked = AudioSpec { bitrate_bps: bitrate, sample_rate_hz: rate, channels, ..sound(AudioCodec::Aac) };
        same_as_ffmpeg(&source, 0, &spec(Container::Mp4, Some(asked)));
    }
}

#[test]
fn remixed_and_filtered_sound_is_the_same_to_a_sample() {
    let folder = tempfile::tempdir().unwrap();
    let surround = tone(folder.path(), 48_000, "5.1", "");
    let stereo = tone(folder.path(), 44_100, "stereo", "");
    let with = |codec, channels, layout: Option<&str>, filters: &str| AudioSpec {
        channels,
        channel_layout: layout.map(str::to_owned),
        filters: if filters.is_empty() { Vec::new() } else { parse::audio_filters(filters).unwrap() },
        ..sound(codec)
    };
    for (source, asked) in [
        (&surround, with(AudioCodec::Flac, Some(2), None, "")),
        (&surround, with(AudioCodec::Flac, Some(1), None, "")),
        (&surround, with(AudioCodec::PcmS24le, Some(2), None, "volume=-3dB")),
        (&surround, with(AudioCodec::Ac3, None, Some("4.0"), "")),
        (&surround, with(AudioCodec::Libopus, Some(2), None, "volume=0.5,volume=2dB")),
        (&stereo, with(AudioCodec::Aac, None, Some("5.1"), "")),
        (&stereo, with(AudioCodec::Flac, None, Some("mono"), "volume=1.25")),
        (&stereo, with(AudioCodec::Eac3, None, Some("5.1(side)"), "")),
    ] {
        println!("{asked:?}");
        same_as_ffmpeg(source, 0, &spec(Container::Mkv, Some(asked)));
    }
    let refused = spec(Container::Mp4, Some(with(AudioCodec::Eac3, None, Some("hexagonal"), "")));
    let failure = common::call(
        &Args::Audio(TrackArgs {
            spec: refused,
            stream: 0,
            track: 0,
            jumps: Vec::new(),
            edits: Vec::new(),
            joined: Vec::new(),
        }),
        [&surround],
    );
    let failure = failure.map(|_| ()).unwrap_err();
    assert_eq!((failure.class.name(), failure.code.as_str()), ("spec", "encoder_refused"));
    assert!(failure.message.contains("5.1"), "{failure:?}");
}

#[test]
fn sound_that_changes_on_the_way_stays_what_it_began_as() {
    let folder = tempfile::tempdir().unwrap();
    let part = |name: &str, rate: u32, channels: u32, offset: u32| {
        let path = folder.path().join(name);
        ffmpeg(
            &format!("-f lavfi -i sine=d=7:r={rate} -ac {channels} -c:a mp2 -output_ts_offset {offset} -f mpegts"),
            &path,
        );
        std::fs::read(&path).unwrap()
    };
    let source = folder.path().join("changing.ts");
    std::fs::write(&source, [part("a.ts", 48_000, 2, 0), part("b.ts", 44_100, 1, 7)].concat()).unwrap();
    // What is coded, not when: where MPEG-TS is put together ffmpeg moves times by a few milliseconds.
    let theirs = folder.path().join("theirs.mkv");
    for codec in [AudioCodec::Flac, AudioCodec::Aac] {
        let asked = spec(Container::Mkv, Some(sound(codec)));
        let ours = Film::of_tracks(&source, &asked, &[0]).unwrap();
        ffmpeg(&format!("-i {} {}", source.display(), command(&asked)), &theirs);
        let packets = "-show_data_hash adler32 -show_entries packet=size,data_hash -of csv=p=0";
        similar(&probe_lines(packets, &ours.path), &probe_lines(packets, &theirs), "packets");
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

/// Edit lists, empty edits, starts before and after zero, priming of AAC, Opus and MP3, odd frame lengths: what is heard begins when it
/// does in ffmpeg's film, beside the picture, and has as many samples.
#[test]
fn delays_and_priming_are_those_of_ffmpegs_film() {
    let folder = tempfile::tempdir().unwrap();
    let mut sources: Vec<std::path::PathBuf> = [
        "odd/av__late_audio.mp4",
        "odd/elst__edts_480p.mp4",
        "odd/elst__empty_edit_5s.mp4",
        "odd/elst__positive_shift.mp4",
        "odd/elst__track_shorter_than_movie.mov",
        "odd/fmt__h264_444_20fps_mp3.mp4",
        "odd/webm__vp9_opus.webm",
        "odd/avi__mpeg4_960x400.avi",
        "odd/3gp__h263.3gp",
    ]
    .into_iter()
    .filter_map(corpus)
    .collect();
    for (codec, extension) in
        [("libmp3lame", "mkv"), ("aac", "mov"), ("libopus", "webm"), ("ac3", "ts"), ("pcm_s16le", "mov")]
    {
        let path = folder.path().join(format!("{codec}.{extension}"));
        let video = match extension {
            "webm" => "libvpx-vp9 -deadline realtime -cpu-used 8",
            _ => "libx264 -bf 2 -preset ultrafast",
        };
        // Sound 37 ms before the picture.
        ffmpeg(
            &format!(
                "-itsoffset 0.037 -f lavfi -i testsrc=d=2:s=64x64:r=25 -f lavfi -i sine=d=2:r=48000 -map 0 -map 1 -c:v {video} \
                 -c:a {codec}"
            ),
            &path,
        );
        sources.push(path);
    }
    let mut compared = 0;
    for source in &sources {
        let sounds = probe_lines("-select_streams a:0 -show_entries stream=index -of csv=p=0", source);
        let Some(stream) = sounds.first().and_then(|line| line.trim_end_matches(',').parse::<u32>().ok()) else {
            continue;
        };
        for (codec, container) in [
            (AudioCodec::Aac, Container::Mp4),
            (AudioCodec::Ac3, Container::Mp4),
            (AudioCodec::Libopus, Container::Mkv),
            (AudioCodec::Flac, Container::Mkv),
            (AudioCodec::Copy, Container::Mkv),
        ] {
            println!("{} {codec} {container}", source.display());
            same_as_ffmpeg(source, stream, &spec(container, Some(sound(codec))));
            compared += 1;
        }
    }
    assert!(compared >= 25, "{compared}");
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
    let args =
        Args::Audio(TrackArgs { spec, stream: 0, track: 0, jumps: Vec::new(), edits: Vec::new(), joined: Vec::new() });
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
        let failure = common::call(
            &Args::Audio(TrackArgs {
                spec,
                stream,
                track: 0,
                jumps: Vec::new(),
                edits: Vec::new(),
                joined: Vec::new(),
            }),
            [&source],
        )
        .map(|_| ())
        .unwrap_err();
        assert_eq!((failure.class.name(), failure.code.as_str()), ("input", code), "{failure:?}");
    }
}

/// A film with subtitles of a codec, made from an SRT that has styles, several lines, overlaps and umlauts.
fn subtitled(folder: &Path, codec: &str, container: &str) -> std::path::PathBuf {
    let text = folder.join("text.srt");
    std::fs::write(
        &text,
        "1\n00:00:01,000 --> 00:00:02,500\n<b>One</b> {\\an8}up\n\n2\n00:00:02,250 --> 00:00:04,000\nTwo & <i>three</i>\nZwölf\n\n\
         3\n00:00:04,033 --> 00:00:04,900\n<font color=\"#ff0000\">red</font>\n",
    )
    .unwrap();
    let path = folder.join(format!("subtitled_{codec}.{container}"));
    ffmpeg(
        &format!("-f lavfi -i testsrc=d=6:s=64x64 -i {} -map 0 -map 1 -c:v mpeg4 -c:s {codec}", text.display()),
        &path,
    );
    path
}

#[test]
fn text_subtitles_become_what_is_asked_for_as_ffmpeg_makes_it() {
    let folder = tempfile::tempdir().unwrap();
    let sources = [("subrip", "mkv"), ("ass", "mkv"), ("webvtt", "mkv"), ("mov_text", "mov")];
    let targets = [
        (TextCodec::Webvtt, Container::Webm),
        (TextCodec::Webvtt, Container::Mkv),
        (TextCodec::MovText, Container::Mp4),
        (TextCodec::MovText, Container::Mov),
        (TextCodec::Srt, Container::Mkv),
        (TextCodec::Ass, Container::Mkv),
    ];
    let theirs = |container| folder.path().join(format!("theirs.{}", film::extension(container)));
    for (codec, extension) in sources {
        let source = subtitled(folder.path(), codec, extension);
        for (text, container) in targets {
            for trim in ["", "-ss 2 -t 2.5", "-ss 1.5"] {
                println!("{codec} to {text} in {container}, {trim:?}");
                let mut asked = spec(container, None);
                asked.video = Some(serde_json::from_value(serde_json::json!({ "codec": "libx264" })).unwrap());
                asked.subtitles = Subtitles::Text(text);
                if let Some(rest) = trim.strip_prefix("-ss ") {
                    let (start, duration) = rest.split_once(" -t ").map_or((rest, None), |(s, d)| (s, Some(d)));
                    let time = |text: &str| parse::time(text).unwrap();
                    asked.trim = Trim { start: Some(time(start)), duration: duration.map(time) };
                }
                let ours = Film::of_tracks(&source, &asked, &[1]).unwrap();
                let theirs = theirs(container);
                ffmpeg(&format!("-i {} -map 0:1 {trim} -c:s {text}", source.display()), &theirs);
                let packets =
                    "-show_data_hash adler32 -show_entries packet=pts,dts,duration,size,data_hash -of csv=p=0";
                similar(&probe_lines(packets, &ours.path), &probe_lines(packets, &theirs), "packets");
                let stream =
                    "-show_entries stream=codec_name,codec_tag_string:stream_tags=language,encoder -of csv=p=0";
                assert_eq!(probe_lines(stream, &ours.path), probe_lines(stream, &theirs), "stream");
            }
        }
    }
}

#[test]
fn by_itself_text_is_converted_where_it_cannot_be_copied() {
    let folder = tempfile::tempdir().unwrap();
    for (codec, extension, container, becomes) in [
        ("subrip", "mkv", Container::Mp4, "mov_text"),
        ("subrip", "mkv", Container::Webm, "webvtt"),
        ("subrip", "mkv", Container::Mkv, "subrip"),
        ("mov_text", "mov", Container::Mkv, "ass"),
        ("mov_text", "mov", Container::Mov, "mov_text"),
    ] {
        let source = subtitled(folder.path(), codec, extension);
        let mut asked = spec(container, None);
        asked.video = Some(serde_json::from_value(serde_json::json!({ "codec": "libvpx-vp9" })).unwrap());
        asked.subtitles = Subtitles::Auto;
        let args = Args::Subtitle(TrackArgs {
            spec: asked.clone(),
            stream: 1,
            track: 0,
            jumps: Vec::new(),
            edits: Vec::new(),
            joined: Vec::new(),
        });
        let (product, _host) = common::call(&args, [&source]).unwrap();
        let Value::Track(manifest) = product.value else { panic!() };
        assert_eq!(manifest.codec, becomes, "{codec} into {container}");
        let ours = Film::of_tracks(&source, &asked, &[1]).unwrap();
        assert_eq!(probe_lines("-show_entries stream=codec_name -of csv=p=0", &ours.path), [becomes]);
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

/// Integrated loudness (LUFS), true peak (dBTP) and samples of a film's sound, as ffmpeg's ebur128 measures them.
fn heard_by_ffmpeg(film: &Path) -> (f64, f64, i64) {
    let result = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(film)
        .args(["-map", "0:a:0", "-af", "ebur128=metadata=1:peak=true,ametadata=print:file=-", "-f", "null", "-"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&result.stdout);
    let last = |key: &str| {
        let found = text.lines().rev().find_map(|line| line.strip_prefix(key)).unwrap();
        found.parse::<f64>().unwrap()
    };
    let frames = probe_lines("-select_streams a:0 -show_entries frame=nb_samples -of csv=p=0", film);
    let samples = frames.iter().map(|line| line.trim_end_matches(',').parse::<i64>().unwrap()).sum();
    (last("lavfi.r128.I="), 20.0 * last("lavfi.r128.true_peak=").log10(), samples)
}

#[test]
fn loudness_comes_to_the_target_and_peaks_stay_below_the_ceiling() {
    let folder = tempfile::tempdir().unwrap();
    // Quiet speech-like bursts with a few clicks far above: one gain alone would lift the clicks over the ceiling.
    let clicks = folder.path().join("clicks.mkv");
    ffmpeg(
        "-f lavfi -i aevalsrc=0.02*sin(2400*t)*(1+sin(9*t))+if(lt(mod(t\\,3)\\,0.002)\\,0.7\\,0):s=44100:c=mono:d=20 -c:a pcm_s16le",
        &clicks,
    );
    let plain = tone(folder.path(), 48_000, "5.1", "");
    let mut sources = vec![(clicks, 0, -23.0), (plain, 0, -16.0)];
    sources.extend(corpus("bench/bbb_1080p24_30s.mp4").map(|film| (film, 1, -14.0)));
    for (source, stream, target_lufs) in sources {
        for (codec, container) in [(AudioCodec::Flac, Container::Mkv), (AudioCodec::Aac, Container::Mp4)] {
            let loudness = Some(spool_proto::spec::Loudness { target_lufs, true_peak_dbtp: -2.0 });
            let asked = spec(container, Some(AudioSpec { loudness, ..sound(codec) }));
            let (product, _host) = common::call(
                &Args::Audio(TrackArgs {
                    spec: asked.clone(),
                    stream,
                    track: 0,
                    jumps: Vec::new(),
                    edits: Vec::new(),
                    joined: Vec::new(),
                }),
                [&source],
            )
            .unwrap();
            assert_eq!(product.warnings, [], "{}", source.display());
            let Value::Track(manifest) = product.value else { panic!() };
            let facts = manifest.loudness.unwrap();
            println!("{} {codec}: {facts:?}", source.display());
            let ours = Film::of_tracks(&source, &asked, &[stream]).unwrap();
            let untouched = Film::of_tracks(&source, &spec(container, Some(sound(codec))), &[stream]).unwrap();
            let (lufs, peak, samples) = heard_by_ffmpeg(&ours.path);
            let (_, _, as_before) = heard_by_ffmpeg(&untouched.path);
            assert_eq!(samples, as_before, "the track keeps its length");
            let times = "-show_entries packet=pts,dts -of csv=p=0";
            let (ours_at, untouched_at) = (probe_lines(times, &ours.path), probe_lines(times, &untouched.path));
            assert_eq!(ours_at[0], untouched_at[0], "the track keeps its place");
            if codec == AudioCodec::Flac {
                assert!((lufs - f64::from(target_lufs)).abs() <= 0.2, "{lufs} LUFS");
                assert!(peak <= -1.95, "{peak} dBTP");
                assert!((facts.lufs - lufs).abs() < 0.1 && (facts.true_peak_dbtp - peak).abs() < 0.1, "{lufs} {peak}");
            }
            // A lossy encoder adds a little, most at clicks.
            assert!((lufs - f64::from(target_lufs)).abs() <= 0.5 && peak <= 0.0, "{lufs} LUFS, {peak} dBTP");
        }
    }
}

#[test]
fn a_treated_track_is_the_same_sound_at_the_same_sample() {
    let folder = tempfile::tempdir().unwrap();
    // Loud clicks make the limiter work; what lies between them must be the source times one gain, in place.
    let source = folder.path().join("clicks.mkv");
    ffmpeg(
        "-f lavfi -i aevalsrc=0.05*sin(2400*t+t*t)+if(lt(mod(t\\,5)\\,0.001)\\,0.9\\,0):s=48000:c=mono:d=10 -c:a pcm_s24le",
        &source,
    );
    let loudness = Some(spool_proto::spec::Loudness { target_lufs: -20.0, true_peak_dbtp: -2.0 });
    let asked = spec(Container::Mkv, Some(AudioSpec { loudness, ..sound(AudioCodec::PcmS24le) }));
    let ours = Film::of_tracks(&source, &asked, &[0]).unwrap();
    let samples = |film: &Path| {
        let raw = folder.path().join("raw");
        ffmpeg(&format!("-i {} -f f32le", film.display()), &raw);
        let bytes = std::fs::read(&raw).unwrap();
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<f32>>()
    };
    let (ours, theirs) = (samples(&ours.path), samples(&source));
    assert_eq!(ours.len(), theirs.len());
    // Two seconds after a click.
    let (from, length) = (96_000, 20_000);
    let near = |lag: usize| {
        let (a, b) = (&ours[from + lag - 50..][..length], &theirs[from..][..length]);
        let dot: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
        let (aa, bb): (f32, f32) = (a.iter().map(|a| a * a).sum(), b.iter().map(|b| b * b).sum());
        dot / (aa * bb).sqrt()
    };
    let best = (0..=100).max_by(|a, b| near(*a).total_cmp(&near(*b))).unwrap();
    assert_eq!(best, 50, "in place to a sample: {} there, {} at the best", near(50), near(best));
    assert!(near(50) > 0.999_99, "{}", near(50));
}

#[test]
fn silence_is_left_as_it_is_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("silence.mkv");
    ffmpeg("-f lavfi -i anullsrc=d=2 -c:a flac", &source);
    let loudness = Some(spool_proto::spec::Loudness { target_lufs: -23.0, true_peak_dbtp: -2.0 });
    let spec = spec(Container::Mkv, Some(AudioSpec { loudness, ..sound(AudioCodec::Flac) }));
    let (product, _host) = common::call(
        &Args::Audio(TrackArgs { spec, stream: 0, track: 0, jumps: Vec::new(), edits: Vec::new(), joined: Vec::new() }),
        [source],
    )
    .unwrap();
    assert_eq!(product.warnings.iter().map(|w| w.code.as_str()).collect::<Vec<_>>(), ["loudness_unmeasured"]);
}
