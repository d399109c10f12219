use proptest::prelude::*;
use spool_proto::time::Span;

use super::*;

fn spec(sync: Sync) -> TimelineSpec {
    TimelineSpec {
        time_base: Rational::new(1, 1000),
        ts_offset_us: 0,
        start_known: true,
        input_rate: Some(Rational::new(25, 1)),
        stages: Vec::new(),
        filtered: false,
        output_rate: None,
        trim: Trim::default(),
        sync,
    }
}

fn shown(spec: &TimelineSpec, pts: &[i64]) -> Vec<(u64, i64)> {
    let frames: Vec<(i64, i64)> = pts.iter().map(|&pts| (pts, 40)).collect();
    output_frames(spec, &frames).into_iter().map(|frame| (frame.source, frame.pts)).collect()
}

#[test]
fn rescaling_rounds_halves_away_from_zero() {
    let (from, to) = (Rational::new(1, 2), Rational::new(1, 1));
    assert_eq!([-3, -1, 0, 1, 3].map(|value| rescale(value, from, to)), [-2, -1, 0, 1, 2]);
    assert_eq!(rescale(i64::MAX, to, from), i64::MAX);
}

#[test]
fn a_gap_stays_where_any_rate_is_taken_and_is_filled_where_not() {
    let pts = [0, 40, 160, 200];
    assert_eq!(shown(&spec(Sync::Vfr), &pts), [(0, 0), (1, 1), (2, 4), (3, 5)]);
    // ffmpeg fills the later part of a gap with the frame after it.
    assert_eq!(shown(&spec(Sync::Cfr), &pts), [(0, 0), (1, 1), (1, 2), (2, 3), (2, 4), (3, 5)]);
}

#[test]
fn a_late_start_is_filled_only_beside_other_streams() {
    assert_eq!(shown(&spec(Sync::Vscfr), &[120, 160]), [(0, 3), (1, 4)]);
    assert_eq!(shown(&spec(Sync::Cfr), &[120, 160])[..4], [(0, 0), (0, 1), (0, 2), (0, 3)]);
}

#[test]
fn the_trim_keeps_whole_frames_and_counts_from_its_start() {
    let trim = Trim { start: Some(Span::from_millis(50)), duration: Some(Span::from_millis(100)) };
    let spec = TimelineSpec { trim, ..spec(Sync::Vfr) };
    assert_eq!(shown(&spec, &[0, 40, 80, 120, 160, 200]), [(2, 1), (3, 2)]);
}

#[test]
fn a_deinterlacer_gives_each_field_its_own_picture_halfway() {
    let both = TimelineSpec { stages: vec![Stage::Deinterlace { both: true }], filtered: true, ..spec(Sync::Vfr) };
    assert_eq!(both.encoder_rate(), Rational::new(50, 1));
    assert_eq!(both.pictures_per_frame(), 2);
    let shown_twice = shown(&both, &[0, 40, 80]);
    assert_eq!(shown_twice, [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]);
    let one = TimelineSpec { stages: vec![Stage::Deinterlace { both: false }], ..both };
    assert_eq!(shown(&one, &[0, 40, 80]), [(0, 0), (1, 1), (2, 2)]);
}

#[test]
fn nothing_more_comes_once_it_is_over() {
    let trim = Trim { start: None, duration: Some(Span::from_millis(80)) };
    let mut timeline = Timeline::new(TimelineSpec { trim, ..spec(Sync::Vfr) });
    let mut out = Vec::new();
    for source in 0..5 {
        timeline.push(source, i64::try_from(source).unwrap() * 40, 40, &mut out);
        assert_eq!(timeline.is_over(), source >= 2);
    }
    timeline.finish(&mut out);
    assert_eq!(out.len(), 2);
}

#[test]
fn an_fps_filter_shows_the_last_frame_until_the_film_ends() {
    let spec = TimelineSpec { stages: vec![Stage::Fps(Rational::new(50, 1))], filtered: true, ..spec(Sync::Vfr) };
    assert_eq!(shown(&spec, &[0, 40]), [(0, 0), (0, 1), (1, 2), (1, 3)]);
}

proptest! {
    #[test]
    fn timestamps_rise_and_sources_never_go_back(
        steps in prop::collection::vec(1i64..400, 1..60),
        offset in -2_000i64..2_000,
        sync in prop::sample::select(vec![Sync::Cfr, Sync::Vscfr, Sync::Vfr]),
        fps in prop::option::of(1i32..90),
        rate in prop::option::of(1i32..90),
        start in prop::option::of(0u64..3_000),
        duration in prop::option::of(1u64..3_000),
    ) {
        let spec = TimelineSpec {
            stages: fps.map(|fps| Stage::Fps(Rational::new(fps, 1))).into_iter().collect(),
            filtered: fps.is_some(),
            output_rate: rate.map(|rate| Rational::new(rate, 1)),
            trim: Trim { start: start.map(Span::from_millis), duration: duration.map(Span::from_millis) },
            ..spec(sync)
        };
        let mut at = offset;
        let pts: Vec<i64> = steps.iter().map(|step| { at += step; at }).collect();
        let out = shown(&spec, &pts);
        prop_assert!(out.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 < pair[1].1), "{:?}", out);
        prop_assert!(out.iter().all(|(source, _)| *source < u64::try_from(pts.len()).unwrap()));
    }
}
