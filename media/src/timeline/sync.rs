//! The frame-rate conversion before the encoder: `do_video_out` and `adjust_frame_pts_to_encoder_tb` of `fftools/ffmpeg.c`. The
//! names of its variables are kept, and so are its types: a double here is a double there.

use spool_proto::spec::Rational;
use spool_proto::time::Span;

use super::{Frame, MICROSECOND, OutputFrame, Sync, TimelineSpec, rescale};

/// ffmpeg gives up on a gap of more frames than this (`dts_error_threshold * 30`).
const REPEATS_MAX: i64 = 3600 * 30 * 30;

#[derive(Debug)]
pub(super) struct Converter {
    sync: Sync,
    graph_time_base: Rational,
    time_base: Rational,
    /// Length of a frame in `time_base` as the rates tell.
    duration: f64,
    /// Seconds a tick of the stream's clock takes, when frames' own durations count.
    stream_tick: Option<f64>,
    start_us: i64,
    /// What is shown first: it comes off every pts.
    origin: i64,
    recording_us: Option<i64>,
    /// Next pts to be given out.
    sync_opts: i64,
    /// Frames given out.
    frame_number: i64,
    last_nb0_frames: [i64; 3],
    last_frame: Option<u64>,
    over: bool,
}

impl Converter {
    /// `graph_time_base`: of the frames that are pushed.
    pub fn new(spec: &TimelineSpec, graph_time_base: Rational) -> Converter {
        let rate = spec.encoder_rate();
        let time_base = Rational::new(rate.den, rate.num);
        let us = |span: Span| i64::try_from(span.0).unwrap_or(i64::MAX);
        let mut duration = spec.graph_rate().map_or(0.0, |graph| 1.0 / (graph.as_f64() * time_base.as_f64()));
        if spec.start_known {
            duration = duration.min(1.0 / (rate.as_f64() * time_base.as_f64()));
        }
        Converter {
            sync: spec.sync,
            graph_time_base,
            time_base,
            duration,
            stream_tick: (!spec.filtered).then(|| spec.time_base.as_f64()),
            start_us: spec.trim.start.map_or(0, us),
            origin: 0,
            recording_us: spec.trim.duration.map(us),
            sync_opts: 0,
            frame_number: 0,
            last_nb0_frames: [0; 3],
            last_frame: None,
            over: false,
        }
    }

    /// For a clip whose first frame has this pts: it is shown at once, and all is given out.
    pub fn starting_at(spec: &TimelineSpec, graph_time_base: Rational, origin: i64) -> Converter {
        Converter { start_us: 0, origin, recording_us: None, ..Converter::new(spec, graph_time_base) }
    }

    pub fn is_over(&self) -> bool {
        self.over
    }

    pub fn push(&mut self, frame: &Frame, out: &mut Vec<OutputFrame>) {
        if self.over {
            return;
        }
        let mut sync_ipts = self.exact_pts(frame.pts);
        let mut duration = self.duration;
        if let Some(tick) = self.stream_tick {
            let ticks = to_f64(frame.duration) * tick / self.time_base.as_f64();
            let rounded = lrintf(ticks);
            if rounded > 0 {
                duration = to_f64(rounded);
            }
        }

        let mut delta0 = sync_ipts - to_f64(self.sync_opts);
        let mut delta = delta0 + duration;
        let (mut nb0_frames, mut nb_frames) = (0, 1);
        if delta0 < 0.0 && delta > 0.0 {
            sync_ipts = to_f64(self.sync_opts);
            duration += delta0;
            delta0 = 0.0;
        }
        match self.sync {
            Sync::Vfr => {
                if delta <= -0.6 {
                    nb_frames = 0;
                } else if delta > 0.6 {
                    self.sync_opts = llrint(sync_ipts);
                }
            }
            Sync::Cfr | Sync::Vscfr => {
                if self.sync == Sync::Vscfr && self.frame_number == 0 && delta0 >= 0.5 {
                    delta = duration;
                    delta0 = 0.0;
                    self.sync_opts = llrint(sync_ipts);
                }
                if delta < -1.1 {
                    nb_frames = 0;
                } else if delta > 1.1 {
                    nb_frames = lrintf(delta);
                    if delta0 > 1.1 {
                        nb0_frames = lrintf(delta0 - 0.6);
                    }
                }
            }
        }
        self.give(Some(frame.source), nb_frames, nb0_frames, out);
    }

    /// The stream has ended: the last frame is repeated as often as is usual here.
    pub fn finish(&mut self, out: &mut Vec<OutputFrame>) {
        let [a, b, c] = self.last_nb0_frames;
        let median = a.max(b).min(a.min(b).max(c));
        self.give(None, median, median, out);
    }

    fn give(&mut self, next: Option<u64>, nb_frames: i64, nb0_frames: i64, out: &mut Vec<OutputFrame>) {
        let nb0_frames = nb0_frames.min(nb_frames);
        self.last_nb0_frames = [nb0_frames, self.last_nb0_frames[0], self.last_nb0_frames[1]];
        if nb_frames > REPEATS_MAX {
            return;
        }
        for i in 0..nb_frames {
            let repeated = if i < nb0_frames { self.last_frame } else { None };
            let Some(source) = repeated.or(next) else { break };
            if self.recording_us.is_some_and(|limit| at_or_after(self.sync_opts, self.time_base, limit)) {
                self.over = true;
                return;
            }
            out.push(OutputFrame { source, pts: self.sync_opts });
            self.sync_opts += 1;
            self.frame_number += 1;
        }
        self.last_frame = next;
    }

    /// The frame's time in the encoder's timebase, with up to 16 bits after the point, moved off exact midpoints.
    fn exact_pts(&self, pts: i64) -> f64 {
        let log2 = i32::try_from(self.time_base.den.max(1).ilog2()).expect("at most 30");
        let extra_bits = (29 - log2).clamp(0, 16);
        let fine = Rational::new(self.time_base.num, self.time_base.den << extra_bits);
        let start = rescale(self.start_us, MICROSECOND, fine);
        let pts = pts.saturating_sub(self.origin);
        let ticks = rescale(pts, self.graph_time_base, fine).saturating_sub(start);
        let float_pts = to_f64(ticks) / f64::from(1 << extra_bits);
        let sign = if float_pts > 0.0 { 1.0 } else { -1.0 };
        float_pts + sign / f64::from(1 << 17)
    }
}

/// `av_compare_ts(pts, time_base, limit_us, 1/1000000) >= 0`.
fn at_or_after(pts: i64, time_base: Rational, limit_us: i64) -> bool {
    let left = i128::from(pts) * i128::from(time_base.num) * i128::from(MICROSECOND.den);
    left >= i128::from(limit_us) * i128::from(time_base.den)
}

#[expect(clippy::cast_precision_loss, reason = "C converts in the same way")]
fn to_f64(value: i64) -> f64 {
    value as f64
}

/// C's `llrint`: to the nearest, halves to even.
#[expect(clippy::cast_possible_truncation, reason = "rounded just before; saturates")]
fn llrint(value: f64) -> i64 {
    value.round_ties_even() as i64
}

/// C's `lrintf` and `llrintf`: the same after rounding to a float.
#[expect(clippy::cast_possible_truncation, reason = "C does; saturates")]
fn lrintf(value: f64) -> i64 {
    (value as f32).round_ties_even() as i64
}
