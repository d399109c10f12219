use super::*;

fn spec(codec: VideoCodec) -> VideoSpec {
    VideoSpec { crf: Some(23.0), ..VideoSpec::new(codec) }
}

fn line(encoder: &Encoder) -> String {
    let options: Vec<String> = encoder.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{} {}", encoder.name, options.join(" "))
}

#[test]
fn each_encoder_gets_its_own_names() {
    let x264 = VideoSpec {
        crf: Some(21.5),
        preset: Some("medium".into()),
        tune: Some("film".into()),
        profile: Some("high".into()),
        gop_frames: Some(48),
        maxrate_bps: Some(4_000_000),
        bufsize_bits: Some(8_000_000),
        ..spec(VideoCodec::Libx264)
    };
    let vp9 = VideoSpec {
        crf: Some(32.0),
        bitrate_bps: Some(0),
        deadline: Some("good".into()),
        cpu_used: Some(-4),
        ..spec(VideoCodec::LibvpxVp9)
    };
    let cases = [
        (
            x264,
            1,
            "libx264 flags=+global_header threads=1 maxrate=4000000 bufsize=8000000 crf=21.5 preset=medium tune=film profile=high \
             g=48 x264-params=stitchable=1:sync-lookahead=0",
        ),
        (
            spec(VideoCodec::Libx265),
            1,
            "libx265 flags=+global_header threads=1 crf=23 \
             x265-params=info=0:open-gop=0:log-level=error:pools=none:frame-threads=1:wpp=0",
        ),
        (
            spec(VideoCodec::Libx265),
            12,
            "libx265 flags=+global_header threads=12 crf=23 \
             x265-params=info=0:open-gop=0:log-level=error:pools=none:frame-threads=12:wpp=0",
        ),
        (
            VideoSpec { crf: Some(35.0), preset: Some("8".into()), ..spec(VideoCodec::Libsvtav1) },
            2,
            "libsvtav1 flags=+global_header threads=2 crf=35 preset=8 svtav1-params=lp=2",
        ),
        (vp9, 1, "libvpx-vp9 flags=+global_header threads=1 b=0 crf=32 deadline=good cpu-used=-4 row-mt=0"),
    ];
    for (spec, threads, expected) in cases {
        // What is left to the machine.
        assert_eq!(line(&video(&spec, threads)).replace(x264_asm(), ""), expected);
    }
}

#[test]
fn audio_leaves_the_default_bitrate_to_the_encoder() {
    let spec = AudioSpec::new(AudioCodec::Aac);
    assert_eq!(line(&audio(&spec).unwrap()), "aac flags=+global_header");
    let opus = AudioSpec { codec: AudioCodec::Libopus, bitrate_bps: Some(96_000), ..spec.clone() };
    assert_eq!(line(&audio(&opus).unwrap()), "libopus flags=+global_header b=96000");
    assert_eq!(audio(&AudioSpec { codec: AudioCodec::Copy, ..spec }), None);
}

fn settings_nal() -> Vec<u8> {
    let text = vec![b'x'; 300];
    let mut nal = vec![NAL_SEI, SEI_USER_DATA_UNREGISTERED, 255, 61];
    nal.extend(X264_UUID);
    nal.extend(text);
    nal.push(0x80);
    nal
}

#[test]
fn only_the_text_of_settings_is_taken_off() {
    let picture = [0x65, 1, 2, 3];
    let caption = [NAL_SEI, 4, 3, 1, 2, 3, 0x80];
    for nal in [&settings_nal()[..], &caption] {
        let kept = nal == caption;
        for start in [&[0, 0, 0, 1][..], &[0, 0, 1]] {
            let tail = [start, &picture].concat();
            let packet = [start, nal, &tail].concat();
            assert_eq!(without_x264_settings(&packet), if kept { &packet[..] } else { &tail });
        }
    }
}

#[test]
fn broken_packets_stay_as_they_are() {
    let whole = [&[0, 0, 0, 1][..], &settings_nal(), &[0, 0, 0, 1, 0x65]].concat();
    for end in 0..whole.len() - 5 {
        assert_eq!(without_x264_settings(&whole[..end]), &whole[..end], "cut at {end}");
    }
    assert_eq!(without_x264_settings(&[0xff; 9]), &[0xff; 9]);
}

#[test]
fn a_fixed_gop_has_no_keyframes_at_scene_changes() {
    let fixed = |codec| {
        let spec = VideoSpec { gop_frames: Some(48), fixed_gop: true, ..spec(codec) };
        line(&video(&spec, 1))
    };
    let x264 = fixed(VideoCodec::Libx264);
    assert!(x264.contains(" g=48 keyint_min=48 sc_threshold=0 "), "{x264}");
    let x265 = fixed(VideoCodec::Libx265);
    assert!(x265.contains(" g=48 keyint_min=48 ") && x265.ends_with(":scenecut=0"), "{x265}");
    assert!(fixed(VideoCodec::LibvpxVp9).contains(" g=48 keyint_min=48 "));
}
