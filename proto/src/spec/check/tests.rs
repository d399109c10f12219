use super::super::{
    AudioCodec, AudioFilter, AudioTrack, BenchSpec, Clip, Gain, INPUTS_MAX, Loudness, NextInput, Rational, Subtitles,
    TextCodec, parse,
};
use super::*;

fn video(codec: VideoCodec) -> VideoSpec {
    VideoSpec::new(codec)
}

fn audio(codec: AudioCodec) -> AudioSpec {
    AudioSpec::new(codec)
}

fn film() -> EncodeSpec {
    EncodeSpec {
        video: Some(video(VideoCodec::Libx264)),
        audio: Some(audio(AudioCodec::Aac)),
        ..EncodeSpec::new("file:///in.mov", "file:///out.mkv", Container::Mkv)
    }
}

/// The spec after `change`, judged: `ok`, or the code and message of the refusal.
fn judge(change: impl FnOnce(&mut EncodeSpec)) -> String {
    let mut spec = film();
    change(&mut spec);
    match spec.check() {
        Ok(()) => "ok".into(),
        Err(failure) => {
            assert_eq!(failure.class, Class::Spec);
            format!("{}: {}", failure.code, failure.message)
        }
    }
}

fn judge_video(codec: VideoCodec, change: impl FnOnce(&mut VideoSpec)) -> String {
    judge(|spec| {
        let mut with = video(codec);
        change(&mut with);
        spec.video = Some(with);
    })
}

use VideoCodec::{Libsvtav1 as Svt, LibvpxVp9 as Vp9, Libx264 as X264, Libx265 as X265};

#[test]
fn scores_are_of_pictures_and_reported_beside_the_film() {
    let scored = |metrics: &[Metric], report: Option<&str>| {
        let quality = QualitySpec { metrics: metrics.to_vec(), report: report.map(Into::into) };
        judge(|spec| spec.quality = Some(quality))
    };
    assert_eq!(scored(&[Metric::Psnr, Metric::Ssim], Some("file:///out.q.json")), "ok");
    for (metrics, report, says) in [
        (&[][..], None, "name psnr, ssim or both"),
        (&[Metric::Vmaf], None, "`spool quality` reckons VMAF"),
        (&[Metric::Ssim], Some("file:///q.svg"), "name the report .json"),
        (&[Metric::Ssim], Some(&*film().output), "name another file"),
    ] {
        let judged = scored(metrics, report);
        assert!(judged.contains(says), "{judged}");
    }
    let judged = judge(|spec| {
        spec.video = None;
        spec.quality = Some(QualitySpec { metrics: vec![Metric::Ssim], report: None });
    });
    assert!(judged.starts_with("options_conflict: --quality with -vn"), "{judged}");
}

#[test]
fn quality_is_bounded_by_the_encoder() {
    for (codec, crf, expected) in [
        (X264, 70.0, "option_refused: -crf 70: libx264 takes 0 to 51"),
        (X264, 21.5, "ok"),
        (X264, 0.0, "ok"),
        (X265, -1.0, "option_refused: -crf -1: libx265 takes 0 to 51"),
        (X265, f32::NAN, "option_refused: -crf NaN: libx265 takes 0 to 51"),
        (Svt, 32.0, "ok"),
        (Svt, 0.0, "option_refused: -crf 0: libsvtav1 takes 1 to 63"),
        (Svt, 32.5, "option_refused: -crf 32.5: libsvtav1 takes whole numbers"),
        (Vp9, 63.0, "ok"),
        (Vp9, 64.0, "option_refused: -crf 64: libvpx-vp9 takes 0 to 63"),
    ] {
        assert_eq!(judge_video(codec, |v| v.crf = Some(crf)), expected);
    }
}

#[test]
fn presets_tunes_profiles_and_pixels_are_the_encoders_own() {
    let with = |codec, option: &str, value: &str| {
        judge_video(codec, |v| {
            let field = match option {
                "-preset" => &mut v.preset,
                "-tune" => &mut v.tune,
                "-profile:v" => &mut v.profile,
                "-pix_fmt" => &mut v.pix_fmt,
                _ => &mut v.deadline,
            };
            *field = Some(value.into());
        })
    };
    for (codec, option, value) in [
        (X264, "-preset", "veryslow"),
        (Svt, "-preset", "0"),
        (Svt, "-preset", "13"),
        (X264, "-tune", "film"),
        (X265, "-profile:v", "main10"),
        (Svt, "-pix_fmt", "yuv420p10le"),
        (Vp9, "-deadline", "best"),
    ] {
        assert_eq!(with(codec, option, value), "ok", "{codec} {option} {value}");
    }
    for (codec, option, value, says) in [
        (X264, "-preset", "8", "libx264 takes ultrafast"),
        (X265, "-preset", "quick", "libx265 takes ultrafast"),
        (Svt, "-preset", "14", "0 (best) to 13"),
        (Svt, "-preset", "+8", "0 (best) to 13"),
        (Svt, "-preset", "medium", "0 (best) to 13"),
        (Vp9, "-preset", "slow", "-cpu-used"),
        (X265, "-tune", "film", "libx265 takes psnr"),
        (Svt, "-tune", "film", "leave it out"),
        (X264, "-profile:v", "main10", "libx264 takes baseline"),
        (Svt, "-pix_fmt", "yuv444p", "libsvtav1 takes yuv420p, yuv420p10le"),
        (Vp9, "-pix_fmt", "yuva420p", "alpha"),
        (X264, "-deadline", "good", "belongs to libvpx-vp9"),
        (Vp9, "-deadline", "soon", "good, best, realtime"),
    ] {
        let said = with(codec, option, value);
        assert!(said.contains(option) && said.contains(says), "{codec} {option} {value}: {said}");
    }
}

#[test]
fn rates_that_would_be_ignored_are_refused() {
    let rates = |codec, crf: Option<f32>, rate: Option<u64>, max: Option<u64>, buffer: Option<u64>| {
        judge_video(codec, |v| {
            (v.crf, v.bitrate_bps, v.maxrate_bps, v.bufsize_bits) = (crf, rate, max, buffer);
        })
    };
    let m = Some(2_000_000);
    for (codec, crf, rate, max, buffer) in [
        (X264, None, m, None, None),
        (X264, Some(20.0), None, m, m),
        (Vp9, Some(30.0), m, None, None),
        (Svt, None, m, m, m),
    ] {
        assert_eq!(rates(codec, crf, rate, max, buffer), "ok");
    }
    for (codec, crf, rate, max, buffer, says) in [
        (X264, Some(20.0), m, None, None, "would ignore -b:v"),
        (Svt, Some(20.0), m, None, None, "would ignore -b:v"),
        (X264, Some(20.0), None, m, None, "-maxrate without -bufsize"),
        (X265, None, m, None, m, "-bufsize without -maxrate"),
        (Vp9, Some(20.0), None, m, m, "need -b:v"),
        (X264, None, m, Some(1_000_000), m, "is below -b:v"),
        (X264, None, Some(10), None, None, "-b:v 10"),
    ] {
        let said = rates(codec, crf, rate, max, buffer);
        assert!(said.contains(says), "{codec}: {said}");
    }
}

#[test]
fn a_target_is_the_only_word_on_quality() {
    let target = |target: &str, more: fn(&mut VideoSpec)| {
        judge_video(X264, |v| {
            v.target_quality = Some(target.parse().unwrap());
            more(v);
        })
    };
    assert_eq!(target("ssim=0.98", |_| ()), "ok");
    assert_eq!(target("psnr=42", |v| (v.maxrate_bps, v.bufsize_bits) = (Some(2_000_000), Some(4_000_000))), "ok");
    let refused = [
        target("ssim=0.98", |v| v.crf = Some(21.0)),
        target("ssim=0.98", |v| v.bitrate_bps = Some(2_000_000)),
        target("ssim=0.98", |v| (v.bitrate_bps, v.two_pass) = (Some(2_000_000), true)),
        target("ssim=1", |_| ()),
        target("psnr=0.98", |_| ()),
        target("ssim=NaN", |_| ()),
    ];
    for (judged, says) in refused.iter().zip([
        "options_conflict: --target-quality with -crf",
        "options_conflict: --target-quality with -b:v",
        "options_conflict: --target-quality with --two-pass",
        "option_refused: --target-quality ssim=1: ssim takes 0.5 to 0.9999",
        "option_refused: --target-quality psnr=0.98: psnr takes 20 to 70",
        "option_refused: --target-quality ssim=NaN",
    ]) {
        assert!(judged.starts_with(says), "{judged}");
    }
}

#[test]
fn two_passes_need_a_rate_and_an_encoder_that_has_them() {
    let two = |codec, crf: Option<f32>, rate: Option<u64>| {
        judge_video(codec, |v| (v.two_pass, v.crf, v.bitrate_bps) = (true, crf, rate))
    };
    let m = Some(2_000_000);
    for codec in [X264, X265] {
        assert_eq!(two(codec, None, m), "ok");
        assert!(two(codec, None, None).contains("--two-pass without -b:v"));
        assert!(two(codec, Some(20.0), None).contains("--two-pass with -crf"));
    }
    for codec in [Svt, Vp9] {
        let said = two(codec, None, m);
        assert!(said.contains("it is made with libx264 and libx265"), "{said}");
    }
}

#[test]
fn containers_hold_what_ffmpeg_lets_them_hold() {
    use AudioCodec::{Aac, Copy, Flac, Libopus};
    use Container::{Mkv, Mov, Mp4, Webm};
    let pairs = |container, v: VideoCodec, a: AudioCodec| {
        judge(|spec| {
            spec.container = container;
            spec.video = Some(video(v));
            spec.audio = Some(audio(a));
        })
    };
    for (container, v, a) in [
        (Mp4, Svt, Libopus),
        (Mp4, Vp9, Aac),
        (Mkv, X265, Flac),
        (Mov, X264, Aac),
        (Webm, Vp9, Libopus),
        (Webm, Svt, Copy),
    ] {
        assert_eq!(pairs(container, v, a), "ok", "{container} {v} {a}");
    }
    for (container, v, a, says) in [
        (Webm, X264, Libopus, "-c:v libx264: .webm"),
        (Webm, Vp9, Aac, "-c:a aac: .webm"),
        (Webm, Vp9, Flac, "-c:a flac: .webm"),
        (Mov, Svt, Aac, "-c:v libsvtav1: .mov"),
        (Mov, X264, Libopus, "-c:a libopus: .mov"),
        (Mp4, X264, Flac, "experimental"),
    ] {
        let said = pairs(container, v, a);
        assert!(said.starts_with("container_refuses") && said.contains(says), "{said}");
    }
}

#[test]
fn clips_say_alone_what_is_kept() {
    let clip = |text: &str| text.parse::<Clip>().expect("a clip");
    assert_eq!(judge(|spec| spec.clips = vec![clip("10-20"), clip("5-")]), "ok");
    let with = |change: fn(&mut EncodeSpec)| {
        judge(|spec| {
            spec.clips = vec![clip("10-20")];
            change(spec);
        })
    };
    assert!(with(|spec| spec.trim.start = Some(Span::ZERO)).contains("--clip with -ss"));
    assert!(with(|spec| spec.clips[0].end = spec.clips[0].start).contains("--clip 10-10: its end"));
    assert!(with(|spec| spec.clips = vec![Clip::default(); 257]).contains("257 times; at most 256"));
    let copied = with(|spec| spec.audio = Some(AudioSpec::new(AudioCodec::Copy)));
    assert!(copied.contains("-c:a copy with --clip"), "{copied}");
}

#[test]
fn several_inputs_are_joined_whole_or_by_clips() {
    let next = |clips: &[&str]| NextInput {
        source: "file:///next.mov".into(),
        clips: clips.iter().map(|clip| clip.parse().expect("a clip")).collect(),
    };
    let with = |change: &dyn Fn(&mut EncodeSpec)| {
        judge(|spec| {
            spec.joined = vec![next(&[]), next(&["1-2", "0-1"])];
            change(spec);
        })
    };
    assert_eq!(with(&|_| {}), "ok");
    assert_eq!(with(&|spec| spec.subtitles = Subtitles::None), "ok");
    assert!(with(&|spec| spec.trim.start = Some(Span::ZERO)).contains("-ss"));
    assert!(with(&|spec| spec.output = "file:///next.mov".into()).contains("next.mov itself"));
    assert!(with(&|spec| spec.joined = vec![next(&[]); INPUTS_MAX]).contains("at most 64"));
    assert!(with(&|spec| spec.joined[1].clips = vec![Clip::default(); 257]).contains("at most 256"));
    assert!(with(&|spec| spec.audio = Some(AudioSpec::new(AudioCodec::Copy))).contains("-c:a copy"));
    assert!(with(&|spec| spec.video = None).contains("-vn"));
    let mut spec =
        EncodeSpec { joined: vec![next(&["1-2"])], ..EncodeSpec::new("file:///a", "file:///o.mp4", Container::Mp4) };
    spec.clips = vec!["3-4".parse().expect("a clip")];
    let parts =
        [0, 1].map(|n| spec.of_input(n)).map(|part| (part.source, part.clips[0].to_string(), part.joined.len()));
    assert_eq!(parts, [("file:///a".into(), "3-4".into(), 0), ("file:///next.mov".into(), "1-2".into(), 0)]);
}

#[test]
fn sizes_rates_and_trims_have_bounds() {
    assert_eq!(judge(|spec| spec.chunk = Some(CHUNK_MIN)), "ok");
    assert_eq!(
        judge(|spec| spec.chunk = Some(Span::from_millis(499))),
        "option_refused: --chunk 0.499: chunks are at least 500ms long"
    );
    assert!(judge(|spec| spec.trim.duration = Some(Span::ZERO)).contains("-t 0"));
    assert!(judge(|spec| (spec.video, spec.audio) = (None, None)).contains("-vn with -an"));
    assert!(judge(|spec| spec.output = spec.source.clone()).contains("source itself"));
    assert!(judge(|spec| spec.maps = vec![parse::stream_map("-0:s").expect("a map")]).contains("leaves streams out"));
    assert!(judge_video(X264, |v| v.gop_frames = Some(0)).contains("-g 0"));
    assert!(judge_video(X264, |v| v.threads = Some(0)).contains("-threads 0"));
    assert!(judge_video(X264, |v| v.threads = Some(65)).contains("-threads 65"));
    assert!(judge_video(X264, |v| v.size = Some(Size { width: 20_000, height: 720 })).contains("-s 20000x720"));
    assert!(judge_video(X264, |v| v.frame_rate = Some(Rational::new(0, 1))).contains("-r 0/1"));
    assert!(judge_video(X264, |v| v.frame_rate = Some(Rational::new(24, 0))).contains("-r 24/0"));
    assert!(judge_video(X264, |v| v.cpu_used = Some(4)).contains("-cpu-used"));
    assert!(judge_video(Vp9, |v| v.cpu_used = Some(9)).contains("-cpu-used 9"));
}

#[test]
fn odd_pictures_are_refused_where_the_pixels_are_known() {
    let filtered = |pix_fmt: Option<&str>, chain: &str| {
        judge_video(X264, |v| {
            v.pix_fmt = pix_fmt.map(String::from);
            v.filters = parse::filters(chain).expect("a chain");
        })
    };
    assert!(filtered(Some("yuv420p"), "scale=321:180").contains("scale=321:180"));
    assert_eq!(filtered(Some("yuv444p"), "scale=321:180"), "ok");
    assert_eq!(filtered(None, "scale=321:180"), "ok");
    assert_eq!(filtered(Some("yuv420p"), "scale=321:181,pad=322:182"), "ok");
    assert!(judge_video(Svt, |v| v.size = Some(Size { width: 321, height: 180 })).contains("-s 321x180"));
    assert!(filtered(None, "crop=0:5").contains("nothing of the picture"));
    assert!(filtered(None, "scale=20000:-2").contains("16384"));
    assert!(filtered(None, "format=rgb24").contains("\"rgb24\""));
}

#[test]
fn every_sound_encoder_says_what_it_takes() {
    let with = |codec, change: fn(&mut AudioSpec)| {
        let mut sound = audio(codec);
        change(&mut sound);
        judge(|spec| spec.audio = Some(sound))
    };
    assert_eq!(with(AudioCodec::Ac3, |a| a.channel_layout = Some("5.1".into())), "ok");
    assert!(with(AudioCodec::Ac3, |a| a.channel_layout = Some("7.1".into())).contains("ac3 takes 1 to 6"));
    assert!(with(AudioCodec::Ac3, |a| a.bitrate_bps = Some(700_000)).contains("640k"));
    assert!(with(AudioCodec::Eac3, |a| a.sample_rate_hz = Some(22_050)).contains("eac3 takes [48000"));
    assert!(with(AudioCodec::Libmp3lame, |a| a.channels = Some(6)).contains("1 to 2 channels"));
    assert!(with(AudioCodec::PcmS24le, |a| a.bitrate_bps = Some(128_000)).contains("lossless"));
    assert!(with(AudioCodec::Aac, |a| a.channel_layout = Some("5.2".into())).contains("no such layout"));
    let both = |a: &mut AudioSpec| (a.channels, a.channel_layout) = (Some(2), Some("5.1".into()));
    assert!(with(AudioCodec::Aac, both).contains("-ac 2 with -channel_layout 5.1, which has 6"));
    let loud = |target_lufs, true_peak_dbtp| {
        judge(|spec| {
            let loudness = Some(Loudness { target_lufs, true_peak_dbtp });
            spec.audio = Some(AudioSpec { loudness, ..audio(AudioCodec::Aac) });
        })
    };
    assert_eq!(loud(-23.0, -1.0), "ok");
    assert!(loud(23.0, -1.0).contains("--loudness 23"));
    assert!(loud(-23.0, 1.0).contains("--true-peak 1"));
    assert!(loud(f32::NAN, -1.0).contains("--loudness NaN"));
    let louder = |gain| {
        judge(|spec| {
            let filters = vec![AudioFilter::Volume(gain)];
            spec.audio = Some(AudioSpec { filters, ..audio(AudioCodec::Aac) });
        })
    };
    assert_eq!((louder(Gain::Db(-6.0)), louder(Gain::Factor(0.0))), ("ok".into(), "ok".into()));
    assert!(louder(Gain::Db(90.0)).contains("volume=90dB"));
    assert!(louder(Gain::Factor(f64::NAN)).contains("gains go from"));
    assert!(
        with(AudioCodec::Copy, |a| a.loudness = Some(Loudness { target_lufs: -23.0, true_peak_dbtp: -1.0 }))
            .contains("--loudness with -c:a copy")
    );
}

#[test]
fn tracks_with_settings_of_their_own_are_judged_like_the_others() {
    let own = |track, audio| AudioTrack { track, audio };
    let with =
        |container, tracks: Vec<AudioTrack>| judge(|spec| (spec.container, spec.audio_tracks) = (container, tracks));
    assert_eq!(with(Container::Mkv, vec![own(1, audio(AudioCodec::Ac3))]), "ok");
    assert!(with(Container::Mov, vec![own(1, audio(AudioCodec::Flac))]).contains("-c:a flac: .mov"));
    let twice = vec![own(1, audio(AudioCodec::Ac3)), own(1, audio(AudioCodec::Aac))];
    assert!(with(Container::Mkv, twice).contains("audio track 1 is described twice"));
    let mut spec = film();
    spec.audio_tracks = vec![own(1, audio(AudioCodec::Ac3))];
    assert_eq!(spec.audio_of(0), Some(&audio(AudioCodec::Aac)));
    assert_eq!(spec.audio_of(1), Some(&audio(AudioCodec::Ac3)));
    spec.audio = None;
    assert_eq!(spec.audio_of(1), None);
    assert_eq!(spec.check().map_err(|f| f.code), Err("options_conflict".into()));
}

#[test]
fn text_subtitles_go_where_the_container_takes_them() {
    let with = |container, codec| {
        judge(|spec| {
            (spec.container, spec.subtitles) = (container, Subtitles::Text(codec));
            spec.video = None;
            spec.audio = Some(audio(AudioCodec::Copy));
        })
    };
    assert_eq!(with(Container::Mp4, TextCodec::MovText), "ok");
    assert_eq!(with(Container::Webm, TextCodec::Webvtt), "ok");
    assert!(with(Container::Mp4, TextCodec::Webvtt).contains("-c:s webvtt: .mp4 does not hold it; take -c:s mov_text"));
    assert!(with(Container::Mkv, TextCodec::MovText).contains("take -c:s ass"));
}

#[test]
fn specs_of_older_jobs_read_as_they_were_and_are_written_as_they_were() {
    let json = serde_json::to_value(film()).expect("plain data");
    let text = json.to_string();
    for new in ["audio_tracks", "channel_layout", "filters\":[]}", "loudness"] {
        assert!(!json["audio"].to_string().contains(new) && !text.contains("audio_tracks"), "{text}");
    }
    assert_eq!(json["subtitles"], "auto");
    assert_eq!(serde_json::from_value::<EncodeSpec>(json).expect("reads back"), film());
    for mode in Subtitles::ALL {
        let json = serde_json::to_value(mode).expect("a name");
        assert_eq!(json, mode.name());
        assert_eq!(serde_json::from_value::<Subtitles>(json).expect("reads back"), *mode);
    }
}

#[test]
fn audio_options_fit_their_encoder() {
    let with = |codec, bitrate_bps, sample_rate_hz, channels| {
        judge(|spec| spec.audio = Some(AudioSpec { bitrate_bps, sample_rate_hz, channels, ..AudioSpec::new(codec) }))
    };
    assert_eq!(with(AudioCodec::Aac, Some(128_000), Some(44_100), Some(2)), "ok");
    assert!(with(AudioCodec::Copy, Some(128_000), None, None).contains("-b:a with -c:a copy"));
    assert!(with(AudioCodec::Copy, None, None, Some(2)).contains("-ac with -c:a copy"));
    assert!(with(AudioCodec::Flac, Some(128_000), None, None).contains("lossless"));
    assert!(with(AudioCodec::Libopus, None, Some(44_100), None).contains("-ar 44100: libopus"));
    assert!(with(AudioCodec::Aac, None, Some(50_000), None).contains("-ar 50000: aac"));
    assert!(with(AudioCodec::Aac, Some(10), None, None).contains("-b:a 10"));
    assert!(with(AudioCodec::Aac, None, None, Some(9)).contains("-ac 9"));
}

#[test]
fn a_job_is_judged_with_its_service() {
    let job = |priority, max_attempts, tasks| JobSpec {
        priority,
        max_attempts,
        ..JobSpec::new("bench", Service::Bench(BenchSpec { tasks, call_time: Span::ZERO, through_executor: false }))
    };
    assert_eq!(job(100, 3, 1).check(), Ok(()));
    for refused in [job(101, 3, 1), job(50, 0, 1), job(50, 3, 0)] {
        assert_eq!(refused.check().map_err(|failure| failure.code), Err("option_refused".into()), "{refused:?}");
    }
}

#[test]
fn where_and_when_a_job_runs_is_judged() {
    use crate::pool::Hop;
    use crate::time::Timestamp;
    fn spoilt(spoil: impl FnOnce(&mut JobSpec)) -> String {
        let bench = BenchSpec { tasks: 1, call_time: Span::ZERO, through_executor: false };
        let mut job = JobSpec::new("bench", Service::Bench(bench));
        spoil(&mut job);
        job.check().map_or_else(|failure| format!("{}: {}", failure.code, failure.message), |()| "ok".into())
    }
    let hop = |secs, pool: &str| Hop { after: Span::from_secs(secs), pool: pool.into(), priority: None };
    let until = |us| PoolClass::Opportunistic { start_by: Timestamp(us) };

    assert_eq!(spoilt(|j| j.pool = "studio/marketing".into()), "ok");
    for bad in ["", "studio/", "a//b", "stüdio", "a b"] {
        let said = spoilt(|j| j.pool = bad.into());
        assert!(said.starts_with("option_refused: --pool") && said.contains("letters, digits"), "{bad:?}: {said}");
    }
    assert!(spoilt(|j| j.pool = PoolName::root()).contains("takes no jobs"));

    assert_eq!(spoilt(|j| j.hop = vec![hop(0, "a"), hop(60, "b")]), "ok");
    assert!(spoilt(|j| j.hop = vec![hop(60, "a"), hop(60, "b")]).contains("--hop to b comes no later"));
    assert!(spoilt(|j| j.hop = vec![hop(60, "/")]).contains("takes no jobs"));
    assert!(spoilt(|j| j.hop = vec![Hop { priority: Some(101), ..hop(1, "a") }]).contains("--hop to a"));
    let many = |count| (0..count).map(|n| hop(n, "a")).collect();
    assert_eq!(spoilt(|j| j.hop = many(8)), "ok");
    assert!(spoilt(|j| j.hop = many(9)).contains("9 times"));

    assert_eq!(spoilt(|j| (j.class, j.deadline) = (until(9), Some(Timestamp(9)))), "ok");
    let late = spoilt(|j| (j.class, j.deadline) = (until(10), Some(Timestamp(9))));
    assert!(late.starts_with("options_conflict: --opportunistic-until is later"), "{late}");
    let stubborn = spoilt(|j| (j.class, j.preemptible) = (until(9), false));
    assert!(stubborn.starts_with("options_conflict: --not-preemptible"), "{stubborn}");
}
