//! Clips: several ranges of the filtered pictures, each converted for the encoder as a film of its own, laid end to end.
//!
//! A clip's first frame is shown at once: it is the clip's start, in the source too, so that sound is cut there. Where the rate is
//! constant a clip ends with the time of its last frame, so that all joins lie on the encoder's grid: nothing is repeated or dropped at
//! them, and no rounding adds up. Where it varies a clip ends where the next frame would begin, or where it was asked to end if that is
//! earlier.

use std::ops::Range;

use spool_proto::call::Edit;
use spool_proto::spec::{Clip, Rational, Trim};

use super::graph::Graph;
use super::sync::Converter;
use super::{Frame, InputClock, MICROSECOND, OutputFrame, Sync, TimelineSpec, rescale};

/// How much of a frame a source's clock may be off before a frame more is shown for it.
const SLACK: i64 = 10;

/// A film made of clips.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// All output frames; their times rise over all clips.
    pub output: Vec<OutputFrame>,
    pub runs: Vec<Run>,
}

/// One clip of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Indexes of `output`.
    pub frames: Range<usize>,
    pub edit: Edit,
}

/// Why there is no film of these clips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unjoined {
    /// In the clip of this number no frame begins.
    Empty(usize),
    /// It would have more frames than are taken.
    TooLong,
}

/// Every output frame of `clips` of a list of (pts, duration). `spec` has no trim.
///
/// # Errors
/// [`Unjoined`], where it would have more than `frames_max` frames too.
pub fn join(spec: &TimelineSpec, frames: &[(i64, i64)], clips: &[Clip], frames_max: u64) -> Result<Joined, Unjoined> {
    let (pictures, end) = pictures(spec, frames);
    let (graph, rate) = (spec.graph_time_base(), spec.encoder_rate());
    let tick = Rational::new(rate.den, rate.num);
    let ticks = |us: u64| rescale(i64::try_from(us).unwrap_or(i64::MAX), MICROSECOND, graph);
    let (mut output, mut runs) = (Vec::new(), Vec::with_capacity(clips.len()));
    let mut at = 0;
    for (number, clip) in clips.iter().enumerate() {
        let begins = |at: Option<i64>| at.map(|at| pictures.partition_point(|picture| picture.pts < at));
        let asked_end = clip.end.map(|end| ticks(end.0));
        let first = begins(clip.start.map(|start| ticks(start.0))).unwrap_or(0);
        let next = begins(asked_end).unwrap_or(pictures.len());
        let Some([start, ..]) = pictures.get(first..next) else { return Err(Unjoined::Empty(number)) };
        let mut shown = Vec::new();
        let mut converter = Converter::starting_at(spec, graph, start.pts);
        for picture in &pictures[first..next] {
            converter.push(picture, &mut shown);
        }
        converter.finish(&mut shown);
        let length = match spec.sync {
            Sync::Cfr | Sync::Vscfr => {
                if let Some(end) = asked_end {
                    let last = pictures[next - 1].source;
                    let own = shown.iter().find(|frame| frame.source == last).map_or(0, |frame| frame.pts + 1);
                    let most = frames_within(end.saturating_sub(start.pts), graph, tick).max(own);
                    shown.truncate(shown.partition_point(|frame| frame.pts < most));
                }
                0
            }
            Sync::Vfr => {
                let behind = pictures.get(next).map_or(end, |picture| picture.pts);
                let stop = asked_end.map_or(behind, |end| end.min(behind));
                rescale(stop.saturating_sub(start.pts), graph, tick)
            }
        };
        let Some(last) = shown.last() else { return Err(Unjoined::Empty(number)) };
        let length = length.max(last.pts + 1);
        let at_us = rescale(at, tick, MICROSECOND);
        runs.push(Run {
            frames: output.len()..output.len() + shown.len(),
            edit: Edit {
                source_us: rescale(start.pts, graph, MICROSECOND),
                length_us: rescale(at + length, tick, MICROSECOND) - at_us,
                at_us,
                input: 0,
            },
        });
        output.extend(shown.into_iter().map(|frame| OutputFrame { pts: frame.pts + at, ..frame }));
        at += length;
        if crate::wire::len(&output) > frames_max {
            return Err(Unjoined::TooLong);
        }
    }
    Ok(Joined { output, runs })
}

/// What the filters make of all frames, and where the last of it ends.
fn pictures(spec: &TimelineSpec, frames: &[(i64, i64)]) -> (Vec<Frame>, i64) {
    let mut input = InputClock::new(spec);
    let mut graph = Graph::new(&TimelineSpec { trim: Trim::default(), ..spec.clone() });
    let mut pictures = Vec::with_capacity(frames.len());
    for (source, &(pts, duration)) in (0u64..).zip(frames) {
        graph.push(Frame { source, pts: input.frame(pts, duration), duration }, &mut pictures);
    }
    let end = graph.finish(input.end(), &mut pictures);
    (pictures, end)
}

/// Frames that begin within so many ticks of `from`, give or take a tenth of one.
fn frames_within(length: i64, from: Rational, tick: Rational) -> i64 {
    let fine = Rational::new(tick.num, tick.den.saturating_mul(i32::try_from(SLACK).unwrap_or(1)));
    (rescale(length, from, fine) + SLACK - 2) / SLACK
}

#[cfg(test)]
mod tests {
    use spool_proto::time::Span;

    use super::*;
    use crate::timeline::Stage;

    /// 25 frames a second in ticks of `den`.
    fn spec(den: i32, sync: Sync) -> TimelineSpec {
        TimelineSpec {
            time_base: Rational::new(1, den),
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

    fn join(film: &TimelineSpec, frames: &[(i64, i64)], clips: &[Clip]) -> Result<Joined, Unjoined> {
        super::join(film, frames, clips, 100_000)
    }

    fn clips(texts: &[&str]) -> Vec<Clip> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    /// Frames of a constant rate.
    fn steady(count: i64, ticks: i64) -> Vec<(i64, i64)> {
        (0..count).map(|n| (n * ticks, ticks)).collect()
    }

    fn edits(joined: &Joined) -> Vec<(i64, i64, i64)> {
        joined.runs.iter().map(|run| (run.edit.source_us, run.edit.length_us, run.edit.at_us)).collect()
    }

    #[test]
    fn clips_follow_each_other_frame_by_frame_in_any_order_and_may_overlap() {
        for sync in [Sync::Cfr, Sync::Vscfr, Sync::Vfr] {
            let joined =
                join(&spec(12_800, sync), &steady(100, 512), &clips(&["2-2.12", "1-1.08", "1.04-1.2"])).unwrap();
            let sources: Vec<u64> = joined.output.iter().map(|frame| frame.source).collect();
            assert_eq!(sources, [50, 51, 52, 25, 26, 26, 27, 28, 29], "{sync:?}");
            assert!(joined.output.iter().zip(0..).all(|(frame, pts)| frame.pts == pts), "{sync:?}: no gap");
            let expected = [(2_000_000, 120_000, 0), (1_000_000, 80_000, 120_000), (1_040_000, 160_000, 200_000)];
            assert_eq!(edits(&joined), expected, "{sync:?}");
        }
    }

    #[test]
    fn edges_between_frames_move_to_the_next_frame() {
        let joined = join(&spec(12_800, Sync::Cfr), &steady(100, 512), &clips(&["0.99-1.01", "2.001-2.1"])).unwrap();
        let sources: Vec<u64> = joined.output.iter().map(|frame| frame.source).collect();
        assert_eq!(sources, [25, 51, 52]);
        assert_eq!(edits(&joined), [(1_000_000, 40_000, 0), (2_040_000, 80_000, 40_000)]);
    }

    /// Matroska's clock ticks in milliseconds: 23.976 frames a second lie up to half of one off.
    #[test]
    fn a_coarse_clock_adds_no_frame_and_loses_none_however_many_clips() {
        let film = TimelineSpec { input_rate: Some(Rational::new(24_000, 1001)), ..spec(1000, Sync::Cfr) };
        let frames: Vec<(i64, i64)> = (0..2400i64).map(|n| ((n * 1001 + 12) / 24, 42)).collect();
        let asked: Vec<Clip> = (0..200u64)
            .map(|n| Clip { start: Some(Span(n * 417_083)), end: Some(Span(n * 417_083 + 208_000)) })
            .collect();
        let joined = join(&film, &frames, &asked).unwrap();
        for (run, clip) in joined.runs.iter().zip(&asked) {
            // As the `trim` filter does, edges are rounded to the source's clock.
            let ms = |at: Option<Span>| i64::try_from((at.unwrap().0 + 500) / 1000).unwrap();
            let wanted = frames.iter().filter(|(pts, _)| (ms(clip.start)..ms(clip.end)).contains(pts));
            assert_eq!(run.frames.len(), wanted.count(), "{clip}");
        }
        let length = rescale(joined.output.len().try_into().unwrap(), Rational::new(1001, 24_000), MICROSECOND);
        assert_eq!(joined.runs.last().unwrap().edit.end_us(), length, "no drift");
    }

    #[test]
    fn a_long_frame_is_cut_where_the_clip_ends() {
        // A slide every ten seconds.
        let slides = [(0, 10_000), (10_000, 10_000), (20_000, 10_000)];
        for (sync, frames) in [(Sync::Cfr, 375), (Sync::Vfr, 2)] {
            let joined = join(&spec(1000, sync), &slides, &clips(&["5-25", "0-1"])).unwrap();
            assert_eq!(joined.runs[0].frames.len(), frames, "{sync:?}");
            assert_eq!(edits(&joined), [(10_000_000, 15_000_000, 0), (0, 1_000_000, 15_000_000)], "{sync:?}");
        }
    }

    #[test]
    fn open_ends_reach_to_the_films() {
        for sync in [Sync::Cfr, Sync::Vfr] {
            let joined = join(&spec(12_800, sync), &steady(100, 512), &clips(&["3.9-", "-0.12"])).unwrap();
            assert_eq!(edits(&joined), [(3_920_000, 80_000, 0), (0, 120_000, 80_000)]);
        }
    }

    #[test]
    fn what_filters_make_is_cut_behind_them() {
        let film = TimelineSpec {
            stages: vec![Stage::Deinterlace { both: true }, Stage::Fps(Rational::new(10, 1))],
            filtered: true,
            ..spec(12_800, Sync::Cfr)
        };
        let joined = join(&film, &steady(100, 512), &clips(&["1-1.3", "0-0.2"])).unwrap();
        assert_eq!(joined.output.len(), 5);
        assert_eq!(edits(&joined), [(1_000_000, 300_000, 0), (0, 200_000, 300_000)]);
    }

    #[test]
    fn a_clip_without_frames_is_named() {
        assert_eq!(join(&spec(12_800, Sync::Cfr), &steady(100, 512), &clips(&["0-1", "4-5"])), Err(Unjoined::Empty(1)));
        assert_eq!(join(&spec(12_800, Sync::Cfr), &steady(100, 512), &clips(&["1.001-1.03"])), Err(Unjoined::Empty(0)));
        let long = super::join(&spec(12_800, Sync::Cfr), &steady(100, 512), &clips(&["-", "-", "-"]), 299);
        assert_eq!(long, Err(Unjoined::TooLong));
    }
}
