use std::ffi::OsString;

use spool_proto::call::{AudioFacts, MediaFacts, SourceFacts, StreamFacts, VideoFacts};
use spool_proto::spec::Rational;

use super::decide::{Decision, Way, decide};
use super::line::Line;

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn decided(line: &str) -> Decision {
    decide(&words(line), None, Way::Split)
}

#[test]
fn what_is_modelled_is_split_as_the_same_line_of_spool_encode() {
    for (line, same) in [
        ("-i a.mov b.mp4", "encode -i a.mov -o b.mp4 --sn"),
        (
            "-y -hide_banner -v error -i a.mov -c:v libx264 -crf 21 -preset slow -c:a aac -b:a 128k -movflags +faststart b.mp4",
            "encode -i a.mov -o b.mp4 --c:v=libx264 --crf=21 --preset=slow --c:a=aac --b:a=128k --sn",
        ),
        // Options without a file may stand behind the last one.
        ("-i a.mov -vcodec libx265 -an -f matroska b.mkv -y", "encode -i a.mov -o b.mkv --c:v=libx265 --an"),
        ("-threads 4 -i a.ts -map 0:v:0 -map 0:a? -vf scale=1280:-2 -filter:v:0 fps=30 b.mp4", ""),
        (
            "-i a.ts -map 0:v:0 -map 0:a? -ss 1:30 -t 10 -r ntsc -g 48 -threads 0 b.mp4",
            "encode -i a.ts -o b.mp4 --map=0:v:0 --map=0:a? --ss=1:30 -t=10 -r=ntsc -g=48",
        ),
        (
            "-i a.mkv -c:v:0 libvpx-vp9 -crf 33 -b:v 0 b.webm",
            "encode -i a.mkv -o b.webm --c:v=libvpx-vp9 --crf=33 --b:v=0",
        ),
        ("-i -odd.mov -- b.mp4", ""),
    ] {
        let decision = decided(line);
        let own = decision.job.map(|job| job.words.join(" ".as_ref()).into_string().expect("text")).unwrap_or_default();
        assert_eq!(own, same, "{line}: {:?}", decision.reasons);
        assert_eq!(decision.way, if same.is_empty() { Way::Local } else { Way::Split }, "{line}");
    }
}

#[test]
fn what_one_encoder_must_see_from_end_to_end_runs_whole() {
    for (line, says) in [
        ("-i a.mov -b:v 2M b.mp4", "-b:v"),
        ("-i a.mov -crf 20 -maxrate 4M -bufsize 8M b.mp4", "-maxrate"),
        ("-i a.mov -vn -c:a aac b.mp4", "-vn"),
    ] {
        let decision = decided(line);
        assert_eq!(decision.way, Way::Whole, "{line}: {:?}", decision.reasons);
        assert!(decision.reasons[0].contains(says), "{line}: {:?}", decision.reasons);
        let chunk = decision.job.expect("Spool runs it").args.spool.chunk;
        assert_eq!(chunk.is_some(), !line.contains("-vn"), "one chunk: {line}");
    }
    let decision = decide(&words("-i a.mov b.mp4"), None, Way::Whole);
    assert_eq!((decision.way, &*decision.reasons[0]), (Way::Whole, "SPOOL_FFMPEG_MODE is whole"));
    assert_eq!(decide(&words("-i a.mov b.mp4"), None, Way::Local).way, Way::Local);
}

#[test]
fn what_is_not_modelled_is_left_to_ffmpeg_and_the_reason_names_it() {
    for (line, says) in [
        ("", "no input"),
        ("-version", "-version is not modelled"),
        ("-i a.mov", "no output"),
        ("-i a.mov -i b.wav c.mp4", "2 inputs"),
        ("-i a.mov b.mp4 c.mkv", "2 outputs"),
        ("-f lavfi -i testsrc2 a.mp4", "testsrc2"),
        ("-ss 10 -i a.mov b.mp4", "-ss in front of -i"),
        ("-i a.mov -c copy b.mp4", "-c is not modelled"),
        ("-i a.mov -c:v copy b.mp4", "copy"),
        ("-i a.mov -c:v h264_nvenc b.mp4", "h264_nvenc"),
        ("-i a.mov -c:v:1 libx264 b.mp4", "-c:v:1"),
        ("-i a.mov -map 0 -c:a:0 aac b.mp4", "-c:a:0 with -map"),
        ("-i a.mov -filter_complex [0]null b.mp4", "-filter_complex"),
        ("-i a.mov -vf vignette=5 b.mp4", "vignette"),
        ("-i a.mov -pass 1 b.mp4", "-pass"),
        ("-i a.mov -shortest b.mp4", "-shortest"),
        ("-i a.mov -metadata title=x b.mp4", "-metadata"),
        ("-i a.mov -x264-params keyint=1 b.mp4", "-x264-params"),
        ("-i a.mov -f mpegts b.mp4", "-f mpegts"),
        ("-i a.mov -movflags frag_keyframe b.mp4", "frag_keyframe"),
        ("-i a.mov b.avi", ".mp4"),
        ("-i a.mov -", "pipe"),
        ("-i pipe:0 b.mp4", "pipe"),
        ("-i http://host/a.mov b.mp4", "protocol"),
        ("-i a.m3u8 b.mp4", "a.m3u8"),
        ("-i img%03d.png b.mp4", "img%03d.png"),
        ("-i a.mov b.mp4 -crf 20", "-crf stands behind the last file"),
        ("-i a.mov -crf 20 -crf 21 b.mp4", "given twice"),
        ("-i a.mov -crf 20 -b:v 2M b.mp4", "-crf"),
        ("-i a.mov -crf ten b.mp4", "-crf"),
        ("-i a.mov -crf 99 b.mp4", "99"),
        ("-i a.mov -t 1 -to 2 b.mp4", "-t together with -to"),
        ("-i a.mov -ss 1 -c:a copy b.mp4", "-c:a copy"),
        ("-i a.mov b.mkv", "Vorbis"),
        ("-i a.mov -c:a libvorbis b.mkv", "libvorbis"),
        ("-i a.mov -v repeat+error b.mp4", "-v repeat+error"),
        ("-i a.mov -progress tcp://host:1 b.mp4", "-progress"),
    ] {
        let decision = decided(line);
        assert_eq!(decision.way, Way::Local, "{line}");
        assert!(decision.reasons[0].contains(says), "{line}: {:?}", decision.reasons);
    }
}

#[test]
fn options_belong_to_the_file_behind_them() {
    let known = |name: &str| name == "r" || name == "an";
    let line = Line::read(&words("-v 16 -r 24 -i a.mov -nostats -an -r 25 b.mp4 -n"), known).expect("read");
    let of =
        |options: &[super::line::Given]| options.iter().map(|o| (o.name.clone(), o.value.clone())).collect::<Vec<_>>();
    assert_eq!(of(&line.inputs[0].options), [("r".into(), Some("24".into()))]);
    assert_eq!(of(&line.outputs[0].options), [("an".into(), None), ("r".into(), Some("25".into()))]);
    let terminal = line.terminal;
    assert_eq!((terminal.level, terminal.stats, terminal.never_overwrite), (16, Some(false), true));
}

fn source(streams: Vec<MediaFacts>) -> SourceFacts {
    let stream = |(index, media)| StreamFacts {
        index,
        codec: "any".into(),
        profile: None,
        time_base: Rational::new(1, 1000),
        start_pts: None,
        duration: None,
        bit_rate_bps: None,
        language: None,
        title: None,
        disposition: Vec::new(),
        tags: Vec::new(),
        jumps: Vec::new(),
        media,
    };
    SourceFacts {
        format: "matroska,webm".into(),
        bytes: 1,
        start_us: None,
        duration_us: None,
        bit_rate_bps: None,
        streams: (0..).zip(streams).map(stream).collect(),
        chapters: Vec::new(),
        tags: Vec::new(),
    }
}

fn picture(pix_fmt: &str) -> MediaFacts {
    MediaFacts::Video(VideoFacts {
        width: 64,
        height: 64,
        pix_fmt: Some(pix_fmt.into()),
        sample_aspect_ratio: Rational::new(1, 1),
        rotation: 0,
        frame_rate: None,
        average_frame_rate: None,
        field_order: None,
        color_range: None,
        color_primaries: None,
        color_transfer: None,
        color_space: None,
        attached_picture: false,
        crop: None,
        packets: None,
        tells_scenes: None,
    })
}

#[test]
fn what_is_in_the_source_decides_too() {
    let film = || picture("yuv420p");
    let sound = || {
        let layout = "stereo".into();
        MediaFacts::Audio(AudioFacts { sample_rate_hz: 48_000, channels: 2, layout, sample_format: None })
    };
    use MediaFacts::{Data, Subtitle};
    for (line, streams, expected) in [
        ("-i a.mkv b.mkv", vec![film()], Ok(())),
        ("-i a.mkv b.mkv", vec![film(), sound()], Err("Vorbis")),
        ("-i a.mkv b.mp4", vec![film(), sound(), Subtitle], Ok(())),
        ("-i a.mkv -an b.mkv", vec![film(), Subtitle], Err("subtitles")),
        ("-i a.mkv -an -sn b.mkv", vec![film(), Subtitle], Ok(())),
        ("-i a.mkv -an -c:s copy b.mkv", vec![film(), Subtitle], Ok(())),
        ("-i a.mkv -an -c:s copy b.mkv", vec![film(), Subtitle, Subtitle], Err("2 subtitles")),
        ("-i a.mkv -map 0 b.mp4", vec![film(), Subtitle], Err("-map takes subtitles")),
        ("-i a.mkv -map 0 b.mp4", vec![film(), Data], Err("data")),
        ("-i a.mkv -map 0 b.mp4", vec![film(), film()], Err("2 video")),
        ("-i a.mkv -map 0:v:0 -map 0:a b.mp4", vec![film(), film(), sound()], Ok(())),
        ("-i a.mkv b.mp4", vec![sound()], Err("no video")),
        ("-i a.mkv -an b.webm", vec![picture("yuva420p")], Err("transparent")),
    ] {
        let decision = decide(&words(line), Some(&source(streams)), Way::Split);
        match expected {
            Ok(()) => assert_eq!(decision.way, Way::Split, "{line}: {:?}", decision.reasons),
            Err(says) => {
                assert_eq!(decision.way, Way::Local, "{line}");
                assert!(decision.reasons[0].contains(says), "{line}: {:?}", decision.reasons);
            }
        }
    }
}
