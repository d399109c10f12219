use super::*;
use crate::call::AudioFacts;
use crate::spec::title::{AudioRendition, LadderSpec, Package, Publish, Rendition, TextRendition};
use crate::spec::{AudioCodec, AudioSpec, Cuts, Trim, Verify, VideoCodec};

fn title() -> TitleSpec {
    TitleSpec {
        source: "file:///in.mov".into(),
        output: "file:///out/".into(),
        overwrite: false,
        trim: Trim::default(),
        video: Vec::new(),
        ladder: None,
        audio: Vec::new(),
        text: Vec::new(),
        images: None,
        publish: Publish::Whole,
        packages: vec![Package::Hls],
        segment: Span::from_secs(6),
        gop: Span::from_secs(2),
        chunk: None,
        cuts: Cuts::default(),
        verify: Verify::default(),
    }
}

fn stream(index: u32, media: MediaFacts) -> StreamFacts {
    StreamFacts {
        index,
        codec: "h264".into(),
        profile: None,
        time_base: Rational::new(1, 1000),
        start_pts: Some(0),
        duration: None,
        bit_rate_bps: None,
        language: None,
        title: None,
        disposition: Vec::new(),
        tags: Vec::new(),
        jumps: Vec::new(),
        media,
    }
}

fn video(width: u32, height: u32, ratio: Rational, rotation: i32) -> VideoFacts {
    VideoFacts {
        width,
        height,
        pix_fmt: None,
        sample_aspect_ratio: ratio,
        rotation,
        frame_rate: Some(Rational::new(24_000, 1001)),
        average_frame_rate: None,
        field_order: None,
        color_range: None,
        color_primaries: None,
        color_transfer: None,
        color_space: None,
        attached_picture: false,
        packets: None,
        tells_scenes: None,
        crop: None,
    }
}

fn sound(index: u32, language: Option<&str>, channels: u16) -> StreamFacts {
    let facts =
        AudioFacts { sample_rate_hz: 48_000, channels, layout: format!("{channels} channels"), sample_format: None };
    StreamFacts { language: language.map(Into::into), codec: "aac".into(), ..stream(index, MediaFacts::Audio(facts)) }
}

fn source(streams: Vec<StreamFacts>) -> SourceFacts {
    SourceFacts {
        format: "mov".into(),
        bytes: 0,
        start_us: None,
        duration_us: None,
        bit_rate_bps: None,
        streams,
        chapters: Vec::new(),
        tags: Vec::new(),
    }
}

#[test]
fn segments_and_keyframes_are_whole_frames() {
    let frames = |segment_ms, gop_ms, num, den| {
        let title = TitleSpec { segment: Span::from_millis(segment_ms), gop: Span::from_millis(gop_ms), ..title() };
        let grid = title.grid(Rational::new(num, den));
        (grid.segment_frames, grid.gop_frames)
    };
    assert_eq!(frames(6000, 2000, 24_000, 1001), (144, 48));
    assert_eq!(frames(6000, 2000, 25, 1), (150, 50));
    assert_eq!(frames(6000, 2000, 30_000, 1001), (180, 60));
    assert_eq!(frames(6000, 2000, 25, 2), (75, 25));
    assert_eq!(frames(4000, 1500, 60, 1), (240, 80), "80 divides 240, 90 does not");
    assert_eq!(frames(500, 500, 1, 1), (1, 1));
}

#[test]
fn heights_are_of_the_picture_as_it_is_shown() {
    let size = |width, height, ratio, rotation, at| {
        let rendition = Rendition { name: "v".into(), height: Some(at), video: VideoSpec::new(VideoCodec::Libx264) };
        let facts = stream(0, MediaFacts::Video(video(width, height, ratio, rotation)));
        let tracks = TitleSpec { video: vec![rendition], ..title() }.tracks(&source(vec![facts])).unwrap();
        let size = tracks.video[0].spec.video.as_ref().unwrap().size.unwrap();
        (size.width, size.height)
    };
    let square = Rational::new(1, 1);
    assert_eq!(size(1920, 1080, square, 0, 720), (1280, 720));
    assert_eq!(size(1440, 1080, Rational::new(4, 3), 0, 540), (960, 540), "anamorphic");
    assert_eq!(size(1920, 1080, square, 90, 960), (540, 960), "a telephone, upright");
    assert_eq!(size(1998, 1080, square, 0, 360), (666, 360));
    assert_eq!(size(1920, 1080, Rational::new(0, 1), 0, 234), (416, 234), "no ratio is a square");
}

#[test]
fn every_rendition_has_keyframes_at_the_same_times() {
    let with = |rate| Rendition {
        name: format!("{rate:?}"),
        height: None,
        video: VideoSpec { frame_rate: rate, ..VideoSpec::new(VideoCodec::Libx264) },
    };
    let spec = TitleSpec { video: vec![with(None), with(Some(Rational::new(12_000, 1001)))], ..title() };
    let facts = stream(3, MediaFacts::Video(video(320, 180, Rational::new(1, 1), 0)));
    let tracks = spec.tracks(&source(vec![facts])).unwrap();
    let lengths: Vec<f64> = tracks
        .video
        .iter()
        .map(|track| {
            let video = track.spec.video.as_ref().unwrap();
            assert!(video.fixed_gop && track.stream == 3);
            f64::from(track.spec.segment_frames.unwrap()) / video.frame_rate.unwrap().as_f64()
        })
        .collect();
    assert!((lengths[0] - 6.006).abs() < 1e-9 && (lengths[0] - lengths[1]).abs() < 1e-9, "{lengths:?}");
}

#[test]
fn audio_tracks_are_chosen_and_named() {
    let names = |tracks, streams: &[StreamFacts]| {
        let audio = AudioRendition { name: "aac".into(), audio: AudioSpec::new(AudioCodec::Aac), tracks };
        let found = TitleSpec { audio: vec![audio], ..title() }.tracks(&source(streams.to_vec()));
        found.map(|t| t.audio.iter().map(|t| format!("{}={}", t.name, t.stream)).collect::<Vec<_>>())
    };
    let three = [sound(1, Some("eng"), 2), sound(2, Some("deu"), 6), sound(5, Some("eng"), 2)];
    assert_eq!(names(TrackChoice::All, &three).unwrap(), ["aac-0=1", "aac-deu=2", "aac-2=5"]);
    assert_eq!(names(TrackChoice::Best, &three).unwrap(), ["aac=2"]);
    assert_eq!(names(TrackChoice::Number(2), &three).unwrap(), ["aac=5"]);
    assert_eq!(names(TrackChoice::Language("deu".into()), &three).unwrap(), ["aac=2"]);
    for missing in [TrackChoice::Number(3), TrackChoice::Language("fra".into())] {
        let failure = names(missing, &three).unwrap_err();
        assert_eq!(failure.code, "no_such_stream");
        assert!(failure.message.contains("1: deu aac 6 channels"), "{failure}");
    }
}

#[test]
fn a_ladder_is_laid_to_the_source() {
    let ladder = LadderSpec {
        codecs: vec![VideoCodec::Libx264, VideoCodec::Libsvtav1],
        max_height: None,
        min_height: Some(300),
        preset: None,
        per_title: false,
    };
    let facts = stream(0, MediaFacts::Video(video(1280, 720, Rational::new(1, 1), 0)));
    let tracks = TitleSpec { ladder: Some(ladder), ..title() }.tracks(&source(vec![facts])).unwrap();
    let names: Vec<&str> = tracks.video.iter().map(|track| track.name.as_str()).collect();
    assert_eq!(
        names,
        ["h264-720p", "h264-540p", "h264-432p", "h264-360p", "av1-720p", "av1-540p", "av1-432p", "av1-360p"]
    );
}

#[test]
fn a_source_without_what_is_asked_for_is_refused() {
    let spec = TitleSpec {
        video: vec![Rendition { name: "v".into(), height: None, video: VideoSpec::new(VideoCodec::Libx264) }],
        ..title()
    };
    assert_eq!(spec.tracks(&source(vec![sound(0, None, 2)])).unwrap_err().code, "no_video_stream");
    let spec = TitleSpec {
        audio: vec![AudioRendition {
            name: "a".into(),
            audio: AudioSpec::new(AudioCodec::Aac),
            tracks: TrackChoice::All,
        }],
        ..title()
    };
    assert_eq!(spec.tracks(&source(Vec::new())).unwrap_err().code, "nothing_to_encode");
}

#[test]
fn subtitles_that_are_pictures_are_told_and_the_others_are_text() {
    let subtitle = |index, codec: &str, language: &str| StreamFacts {
        codec: codec.into(),
        language: Some(language.into()),
        ..stream(index, MediaFacts::Subtitle)
    };
    let source = source(vec![
        sound(0, None, 2),
        subtitle(1, "subrip", "eng"),
        subtitle(2, "hdmv_pgs_subtitle", "fra"),
        subtitle(3, "ass", "deu"),
    ]);
    let audio =
        vec![AudioRendition { name: "a".into(), audio: AudioSpec::new(AudioCodec::Aac), tracks: TrackChoice::All }];
    let text = |tracks, file: Option<&str>| TextRendition {
        name: "subs".into(),
        tracks,
        file: file.map(Into::into),
        language: Some("eng".into()),
    };
    let all = TitleSpec { audio: audio.clone(), text: vec![text(TrackChoice::All, None)], ..title() };
    let found = all.tracks(&source).unwrap();
    let names: Vec<&str> = found.text.iter().map(|track| track.name.as_str()).collect();
    assert_eq!((names, found.pictures), (vec!["subs-eng", "subs-deu"], vec![2]));
    assert!(found.text.iter().all(|track| track.spec.maps == found.audio[0].spec.maps), "one start for all");
    let file = TitleSpec { audio, text: vec![text(TrackChoice::All, Some("file:///a.srt"))], ..title() };
    assert_eq!(file.tracks(&source).unwrap().text[0].from, TextSource::File("file:///a.srt".into()));
}
