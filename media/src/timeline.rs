//! Which frames come out: the arithmetic of `ffmpeg -i IN [-vf fps=…] [-r R] [-ss S] [-t D] OUT` on timestamps, pure and
//! streaming.
//!
//! A decoded frame passes, as in FFmpeg 5.1: the shift of the input's timestamps (`process_input`), the `fps` filters, the `trim`
//! filter that `-ss` and `-t` become (`configure_output_video_filter`), then the frame-rate conversion before the encoder
//! (`do_video_out` in `fftools/ffmpeg.c`), which repeats and drops frames for containers that want a constant rate (mp4,
//! mov) and only drops for those that take any (mkv, webm). Scaling, cropping, padding and rotation touch no timestamp, so
//! where `fps` stands among them does not matter. Where C computes in doubles and floats, so does this.

mod graph;
mod sync;

use serde::{Deserialize, Serialize};
use spool_proto::call::SourceFacts;
use spool_proto::spec::{Container, EncodeSpec, Filter, Rational, Trim};

use crate::packets::PacketIndex;
use graph::Graph;
use sync::Converter;

/// All that decides which frames come out, besides the frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimelineSpec {
    /// The source stream's.
    pub time_base: Rational,
    /// [`PacketIndex::ts_offset_us`].
    pub ts_offset_us: i64,
    /// The source stream's start time is known.
    pub start_known: bool,
    /// [`PacketIndex::frame_rate`].
    pub input_rate: Option<Rational>,
    /// `fps` filters, in order.
    pub fps: Vec<Rational>,
    /// There is a `-vf`, of whatever filters. Without one, ffmpeg trusts the durations of frames.
    pub filtered: bool,
    /// `-r`.
    pub output_rate: Option<Rational>,
    pub trim: Trim,
    pub sync: Sync,
}

/// ffmpeg's `-fps_mode`, as it chooses by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    /// Constant rate from time zero: frames are repeated and dropped.
    Cfr,
    /// Constant rate from the first frame on. ffmpeg takes it where the source has a single stream.
    Vscfr,
    /// Frames keep their times, rounded to the encoder's timebase; those that fall together are dropped.
    Vfr,
}

/// What the encoder rate is when nothing tells (`init_output_stream_encode`).
const RATE_DEFAULT: Rational = Rational::new(25, 1);

impl TimelineSpec {
    /// Of the video stream in `index`; `None` when the spec wants no video.
    pub fn of(index: &PacketIndex, source: &SourceFacts, spec: &EncodeSpec) -> Option<TimelineSpec> {
        let video = spec.video.as_ref()?;
        let fps = video.filters.iter().filter_map(|filter| match filter {
            Filter::Fps(rate) => Some(*rate),
            _ => None,
        });
        Some(TimelineSpec {
            time_base: index.time_base,
            ts_offset_us: index.ts_offset_us,
            start_known: index.start_pts.is_some(),
            input_rate: index.frame_rate,
            fps: fps.collect(),
            filtered: !video.filters.is_empty(),
            output_rate: video.frame_rate,
            trim: spec.trim,
            sync: match spec.container {
                Container::Mkv | Container::Webm => Sync::Vfr,
                Container::Mp4 | Container::Mov if source.streams.len() == 1 => Sync::Vscfr,
                Container::Mp4 | Container::Mov => Sync::Cfr,
            },
        })
    }

    /// Rate of the filter graph's output. `None`: unknown.
    fn graph_rate(&self) -> Option<Rational> {
        self.fps.last().copied().or(self.input_rate)
    }

    /// The encoder's frame rate; output timestamps count in one over it.
    pub fn encoder_rate(&self) -> Rational {
        self.output_rate.or(self.graph_rate()).unwrap_or(RATE_DEFAULT)
    }
}

/// A frame as the encoder is given it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutputFrame {
    /// Which of the pushed frames it shows.
    pub source: u64,
    /// In one over [`TimelineSpec::encoder_rate`]. Strictly rising.
    pub pts: i64,
}

/// The state machine. Push every frame the decoder puts out for the whole stream, in its order, then finish.
#[derive(Debug)]
pub struct Timeline {
    spec: TimelineSpec,
    graph: Graph,
    converter: Converter,
    /// ffmpeg's `ist->next_pts`: when the last frame ends, microseconds. Where the filters are told the film ends.
    end_us: i64,
}

impl Timeline {
    pub fn new(spec: TimelineSpec) -> Timeline {
        Timeline { graph: Graph::new(&spec), converter: Converter::new(&spec), spec, end_us: 0 }
    }

    /// One decoded frame: best-effort pts as demuxed (no shift) and duration (0: unknown), in the stream's timebase. Appends what
    /// the encoder is now to be given; that may show earlier frames, at most two before this one, or the frame may show later.
    pub fn push(&mut self, source: u64, pts: i64, duration: i64, out: &mut Vec<OutputFrame>) {
        let tb = self.spec.time_base;
        let pts = pts.saturating_add(rescale(self.spec.ts_offset_us, MICROSECOND, tb));
        let length_us = match (duration, self.spec.input_rate) {
            (1.., _) => rescale(duration, tb, MICROSECOND),
            (_, Some(rate)) => rescale(1, Rational::new(rate.den, rate.num), MICROSECOND),
            (_, None) => 0,
        };
        self.end_us = rescale(pts, tb, MICROSECOND).saturating_add(length_us);
        let mut filtered = Vec::new();
        self.graph.push(Frame { source, pts, duration }, &mut filtered);
        for frame in filtered {
            self.converter.push(&frame, out);
        }
    }

    /// The size or format of the frames changes with the next push: ffmpeg builds its filter graph anew, and what the old one
    /// still held is lost.
    pub fn rebuild(&mut self) {
        self.graph = Graph::new(&self.spec);
    }

    /// The stream has ended.
    pub fn finish(mut self, out: &mut Vec<OutputFrame>) {
        let mut filtered = Vec::new();
        self.graph.finish(rescale(self.end_us, MICROSECOND, self.spec.time_base), &mut filtered);
        for frame in filtered {
            self.converter.push(&frame, out);
        }
        self.converter.finish(out);
    }

    /// Nothing more will come out, whatever is pushed: `-t` is over. Decoding may stop.
    pub fn is_over(&self) -> bool {
        self.graph.is_over() || self.converter.is_over()
    }
}

/// Every output frame of a list of (pts, duration).
pub fn output_frames(spec: &TimelineSpec, frames: &[(i64, i64)]) -> Vec<OutputFrame> {
    let mut timeline = Timeline::new(spec.clone());
    let mut out = Vec::with_capacity(frames.len());
    for (source, &(pts, duration)) in (0u64..).zip(frames) {
        timeline.push(source, pts, duration, &mut out);
    }
    timeline.finish(&mut out);
    out
}

/// A frame on its way through the filters.
#[derive(Debug, Clone, Copy)]
struct Frame {
    source: u64,
    /// In the timebase of where it is.
    pts: i64,
    /// In the stream's timebase, wherever it is.
    duration: i64,
}

pub(crate) const MICROSECOND: Rational = Rational::new(1, 1_000_000);

/// `av_rescale_q`: `value` from one timebase to another, to the nearest, halves away from zero. Saturates.
pub(crate) fn rescale(value: i64, from: Rational, to: Rational) -> i64 {
    let numerator = i128::from(value) * i128::from(from.num) * i128::from(to.den);
    let denominator = i128::from(from.den) * i128::from(to.num);
    let half = denominator.abs() / 2;
    let rounded = (numerator.abs() + half) / denominator.abs();
    let signed = if (numerator < 0) == (denominator < 0) { rounded } else { -rounded };
    i64::try_from(signed).unwrap_or(if signed < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests;
