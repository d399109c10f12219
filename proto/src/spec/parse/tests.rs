use proptest::prelude::*;

use super::*;
use crate::spec::{Container, Filter, StreamKind, StreamMap, VideoCodec};

#[test]
fn bit_rates_read_as_ffmpeg_reads_them() {
    for (text, expected) in [
        ("128k", 128_000),
        ("128K", 128_000),
        ("1.5M", 1_500_000),
        ("2Mi", 2 << 20),
        ("250kB", 2_000_000),
        ("1KiB", 8192),
        ("2500000", 2_500_000),
        (".5M", 500_000),
        ("0", 0),
    ] {
        assert_eq!(bits(text), Ok(expected), "{text}");
    }
    for text in ["", "k", "-1k", "1.5.5M", "12m", "1e6", "10i", "128 k", "99999999999999G", "1T"] {
        assert!(bits(text).is_err(), "{text:?} was taken");
    }
}

#[test]
fn times_read_as_ffmpeg_reads_them() {
    for (text, us) in [
        ("90", 90_000_000),
        ("1:30.5", 90_500_000),
        ("00:01:30.5", 90_500_000),
        ("1500ms", 1_500_000),
        ("1.5ms", 1_500),
        ("10us", 10),
        ("90s", 90_000_000),
        ("90:00", 5_400_000_000),
        ("0.0000005", 1),
    ] {
        assert_eq!(time(text), Ok(Span(us)), "{text}");
    }
    for text in ["", "-5", "1:", ":30", "1:60:00", "1:75", "1:2:3:4", "1:30ms", "abc", "1h", "99999999999"] {
        assert!(time(text).is_err(), "{text:?} was taken");
    }
}

#[test]
fn frame_rates_read_as_ffmpeg_reads_them() {
    for (text, num, den) in [
        ("24", 24, 1),
        ("23.976", 2997, 125),
        ("29.97", 2997, 100),
        ("24000/1001", 24_000, 1001),
        ("30000:1001", 30_000, 1001),
        ("50/2", 25, 1),
        ("ntsc", 30_000, 1001),
        ("film", 24, 1),
        ("ntsc-film", 24_000, 1001),
        ("0.5", 1, 2),
        // `ffmpeg -r 23.976023976 …` prints 24000/1001.
        ("23.976023976", 24_000, 1001),
    ] {
        assert_eq!(frame_rate(text), Ok(Rational::new(num, den)), "{text}");
    }
    for text in ["", "0", "24/0", "-24", "1001", "24fps", "1/2/3", "0.000000001"] {
        assert!(frame_rate(text).is_err(), "{text:?} was taken");
    }
}

#[test]
fn sizes_and_containers_go_by_their_names() {
    assert_eq!(size("hd720"), Ok(Size { width: 1280, height: 720 }));
    assert_eq!(size("640x360"), Ok(Size { width: 640, height: 360 }));
    assert!(size("640:360").is_err());
    assert!(size("640x-2").is_err());
    assert_eq!(Container::of_path("/a.b/Film.MKV"), Ok(Container::Mkv));
    assert!(Container::of_path("/a.mp4/film").is_err());
    let refusal = "h264".parse::<VideoCodec>().expect_err("not an encoder's name").to_string();
    assert!(refusal.contains("libx264") && refusal.contains("\"h264\""), "{refusal}");
}

#[test]
fn maps_are_plain_choices() {
    let all = StreamMap { negative: false, optional: false, kind: None, index: None };
    for (text, expected) in [
        ("0", all),
        ("0:v", StreamMap { kind: Some(StreamKind::Video), ..all }),
        ("0:a:1", StreamMap { kind: Some(StreamKind::Audio), index: Some(1), ..all }),
        ("0:3", StreamMap { index: Some(3), ..all }),
        ("-0:s", StreamMap { negative: true, kind: Some(StreamKind::Subtitle), ..all }),
        ("0:a?", StreamMap { optional: true, kind: Some(StreamKind::Audio), ..all }),
    ] {
        assert_eq!(stream_map(text), Ok(expected), "{text}");
        assert_eq!(expected.to_string(), text);
    }
    for text in ["", "1:v", "[out]", "0:a:m:language:eng", "0:V", "0:v:0:1", "v:0", "0:v:"] {
        assert!(stream_map(text).is_err(), "{text:?} was taken");
    }
}

#[test]
fn filters_take_positions_and_names() {
    let scale = |width, height, algorithm: Option<&str>| Filter::Scale {
        width,
        height,
        algorithm: algorithm.map(String::from),
    };
    let pad = |x, y| Filter::Pad { width: 1280, height: 720, x, y, color: "black".into() };
    let crop = |x, y| Filter::Crop { width: 1920, height: 800, x, y };
    for (text, expected) in [
        ("scale=w=1280:h=-2:flags=lanczos", scale(1280, -2, Some("lanczos"))),
        ("scale=1280:-2", scale(1280, -2, None)),
        ("scale=1280:h=720", scale(1280, 720, None)),
        ("scale=iw:-1", scale(0, -1, None)),
        ("scale=hd720", scale(1280, 720, None)),
        ("scale=s=640x360:flags=bicubic+accurate_rnd", scale(640, 360, Some("bicubic+accurate_rnd"))),
        ("crop=1920:800", crop(None, None)),
        ("crop=1920:800:0:140", crop(Some(0), Some(140))),
        ("crop=1920:800:y=140", crop(None, Some(140))),
        ("pad=1280:720:(ow-iw)/2:(oh-ih)/2:black", pad(None, None)),
        ("pad=1280:720", pad(Some(0), Some(0))),
        ("pad=1280:720:-1:-1", pad(None, None)),
        ("fps=30000/1001", Filter::Fps(Rational::new(30_000, 1001))),
        ("format=yuv420p|yuv420p10le", Filter::Format(vec!["yuv420p".into(), "yuv420p10le".into()])),
    ] {
        assert_eq!(filters(text), Ok(vec![expected]), "{text}");
    }
    for (text, printed) in [
        ("yadif", "yadif"),
        ("yadif=1:-1:interlaced", "yadif=mode=send_field:parity=auto:deint=interlaced"),
        ("unsharp=5:5:la=0.8", "unsharp=luma_msize_x=5:luma_msize_y=5:luma_amount=0.8"),
        ("zscale=t=linear:npl=100", "zscale=transfer=linear:npl=100"),
        ("tonemap=hable:desat=0", "tonemap=tonemap=hable:desat=0"),
        ("setdar=16/9", "setdar=dar=16/9"),
        ("hflip", "hflip"),
    ] {
        assert_eq!(filters(text).map(|chain| filters_text(&chain)).as_deref(), Ok(printed), "{text}");
    }
    assert_eq!(filters("crop=1920:800, fps=24").map(|chain| chain.len()), Ok(2));
    assert_eq!(filters(""), Ok(vec![]));
}

#[test]
fn what_no_filter_takes_is_refused_by_its_name() {
    for (text, named) in [
        ("drawtext", "\"drawtext\""),
        ("yadif=mode=4", "one of send_frame, send_field"),
        ("yadif=deint=all:ppsrc=1", "\"ppsrc\""),
        ("eq=brightness=n/2", "a number from -1 to 1"),
        ("decimate=ppsrc=1", "left out"),
        ("setdar=16:9", "too many"),
        ("scale=iw/2:ih/2", "\"iw/2\""),
        ("scale=1280:-2:flags=lanczoz", "\"lanczoz\""),
        ("scale=1280:-2:eval=frame", "\"eval\""),
        ("crop=iw:800", "\"iw\""),
        ("crop=1920", "h is missing"),
        ("crop=1:2:3:4:5", "too many"),
        ("scale=w=1280:720", "without a name"),
        ("scale=1280:w=640", "twice"),
        ("fps=fps=abc", "\"abc\""),
        ("[in]scale=1280:720", "'['"),
        ("movie='x'", "'\\''"),
        ("fps", "needs a rate"),
        ("format=", "pixel formats"),
    ] {
        let refusal = filters(text).expect_err(text).to_string();
        assert!(refusal.contains(named), "{text}: {refusal}");
    }
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let at = || proptest::option::of(0u32..10_000);
    prop_oneof![
        (
            -16i32..10_000,
            -16i32..10_000,
            proptest::option::of(proptest::sample::select(vec!["lanczos", "area+bitexact"]))
        )
            .prop_map(|(width, height, flags)| Filter::Scale {
                width,
                height,
                algorithm: flags.map(String::from)
            }),
        (0u32..10_000, 0u32..10_000, at(), at()).prop_map(|(width, height, x, y)| Filter::Crop { width, height, x, y }),
        (0u32..10_000, 0u32..10_000, at(), at(), "[a-z]{1,8}(@0\\.5)?")
            .prop_map(|(width, height, x, y, color)| Filter::Pad { width, height, x, y, color }),
        (1i32..1000, 1i32..1000)
            .prop_filter_map("reduced", |(num, den)| { frame_rate(&format!("{num}/{den}")).ok().map(Filter::Fps) }),
        proptest::collection::vec("[a-z0-9]{1,10}", 1..4).prop_map(Filter::Format),
        proptest::sample::select(vec!["hqdn3d=4:3", "bwdif=0:deint=1", "transpose=clock", "deband=c=1:b=0"])
            .prop_map(|text| filters(text).unwrap().remove(0)),
    ]
}

proptest! {
    #[test]
    fn filters_read_back_what_they_print(chain in proptest::collection::vec(any_filter(), 0..6)) {
        prop_assert_eq!(filters(&filters_text(&chain)), Ok(chain));
    }

    #[test]
    fn maps_read_back_what_they_print(negative: bool, optional: bool, kind in 0usize..6, index in proptest::option::of(0u32..100)) {
        let kinds = [StreamKind::Video, StreamKind::Audio, StreamKind::Subtitle, StreamKind::Data, StreamKind::Attachment];
        let map = StreamMap { negative, optional, kind: kinds.get(kind).copied(), index };
        prop_assert_eq!(stream_map(&map.to_string()), Ok(map));
    }

    #[test]
    fn numbers_read_back_what_they_print(us in 0u64..36_000_000_000_000, bit in 0u64..1 << 62, num in 1i32..1_001_000, den in 1001i32..1_001_000, w: u32, h: u32) {
        prop_assert_eq!(time(&time_text(Span(us))), Ok(Span(us)));
        prop_assert_eq!(bits(&bit.to_string()), Ok(bit));
        let rate = frame_rate(&Rational::new(num, den).to_string())?;
        prop_assert_eq!(frame_rate(&rate.to_string()), Ok(rate));
        prop_assert_eq!(size(&Size { width: w, height: h }.to_string()), Ok(Size { width: w, height: h }));
    }

    #[test]
    fn nothing_typed_panics(text in ".{0,40}") {
        let _ = (bits(&text), time(&text), frame_rate(&text), filters(&text), size(&text), stream_map(&text));
    }
}
