//! Which frames come out: the arithmetic of `ffmpeg -i IN [-vf fps=…] [-r R] [-ss S] [-t D] OUT` on timestamps, pure and
//! streaming.
//!
//! A decoded frame passes, as in FFmpeg 5.1: the shift of the input's timestamps (`process_input`), the filters that touch
//! timestamps ([`Stage`]), the `trim` filter that `-ss` and `-t` become (`configure_output_video_filter`), then the frame-rate
//! conversion before the encoder (`do_video_out` in `fftools/ffmpeg.c`), which repeats and drops frames for containers that want
//! a constant rate (mp4, mov) and only drops for those that take any (mkv, webm). Scaling, cropping, padding and rotation touch
//! no timestamp, so where `fps` stands among them does not matter. Where C computes in doubles and floats, so does this.
//!
//! A film of which only decoding tells the frames goes through libavfilter's own `fps` and `trim`; then only the conversion at
//! the end is this module's ([`Pace`]).

mod clips;
mod graph;
mod sync;

use serde::{Deserialize, Serialize};
use spool_proto::call::SourceFacts;
use spool_proto::spec::filter::Fields;
use spool_proto::spec::{Container, EncodeSpec, Filter, Rational, Trim};

use crate::packets::PacketIndex;
pub use clips::{Joined, Run, Unjoined, join};
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
    /// In order. Older plans held rates alone.
    #[serde(alias = "fps")]
    pub stages: Vec<Stage>,
    /// There is a `-vf`, of whatever filters, or an overlay. Without one, ffmpeg trusts the durations of frames.
    pub filtered: bool,
    /// `-r`.
    pub output_rate: Option<Rational>,
    pub trim: Trim,
    pub sync: Sync,
}

/// A filter that touches timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Stage {
    /// `fps`.
    Fps(Rational),
    /// `yadif` and `bwdif`: the clock ticks twice as fast. `both`: a picture of each field.
    Deinterlace { both: bool },
    /// `decimate`: of so many pictures one is dropped, and only the pictures tell which. No film with it is planned.
    Decimate { cycle: u32 },
}

impl Stage {
    fn of(filter: &Filter) -> Option<Stage> {
        match filter {
            Filter::Fps(rate) => Some(Stage::Fps(*rate)),
            Filter::Named(named) => match (named.fields(), named.cycle()) {
                (Some(fields), _) => Some(Stage::Deinterlace { both: fields != Fields::One }),
                (None, Some(cycle)) => Some(Stage::Decimate { cycle }),
                (None, None) => None,
            },
            _ => None,
        }
    }

    /// The rate behind it.
    fn rate(self, before: Option<Rational>) -> Option<Rational> {
        match self {
            Stage::Fps(rate) => Some(rate),
            Stage::Deinterlace { both: true } => before.map(|rate| times(rate, 2, 1)),
            Stage::Deinterlace { both: false } => before,
            Stage::Decimate { cycle } => {
                let cycle = i32::try_from(cycle).unwrap_or(i32::MAX);
                before.map(|rate| times(rate, cycle - 1, cycle))
            }
        }
    }

    /// The clock behind it.
    fn time_base(self, before: Rational) -> Rational {
        match self {
            Stage::Fps(rate) => Rational::new(rate.den, rate.num),
            Stage::Deinterlace { .. } => Rational::new(before.num, before.den.saturating_mul(2)),
            Stage::Decimate { .. } => before,
        }
    }
}

/// `av_mul_q` of terms that fit.
fn times(rate: Rational, num: i32, den: i32) -> Rational {
    let (num, den) = (i64::from(rate.num) * i64::from(num), i64::from(rate.den) * i64::from(den));
    let (mut a, mut b) = (num.unsigned_abs(), den.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    let part = |n: i64| i32::try_from(n / i64::try_from(a.max(1)).unwrap_or(1)).unwrap_or(i32::MAX);
    Rational::new(part(num), part(den))
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
        Some(TimelineSpec {
            time_base: index.time_base,
            ts_offset_us: index.ts_offset_us,
            start_known: index.start_pts.is_some(),
            input_rate: index.frame_rate,
            stages: video.filters.iter().filter_map(Stage::of).collect(),
            filtered: !video.filters.is_empty() || video.overlay.is_some(),
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
        self.stages.iter().fold(self.input_rate, |rate, stage| stage.rate(rate))
    }

    /// Rates that a stage makes, whatever comes in.
    pub fn set_rates(&self) -> impl Iterator<Item = Rational> {
        self.stages.iter().filter_map(|stage| match stage {
            Stage::Fps(rate) => Some(*rate),
            _ => None,
        })
    }

    /// Pictures the filters make of each frame: [`OutputFrame::source`] counts these.
    pub fn pictures_per_frame(&self) -> u64 {
        self.stages.iter().fold(1, |pictures, stage| match stage {
            Stage::Deinterlace { both: true } => u64::saturating_mul(pictures, 2),
            _ => pictures,
        })
    }

    /// The timebase behind the filters.
    fn graph_time_base(&self) -> Rational {
        self.stages.iter().fold(self.time_base, |base, stage| stage.time_base(base))
    }

    /// The encoder's frame rate; output timestamps count in one over it.
    pub fn encoder_rate(&self) -> Rational {
        self.output_rate.or(self.graph_rate()).unwrap_or(RATE_DEFAULT)
    }
}

/// A frame as the encoder is given it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutputFrame {
    /// Which of the pushed frames it shows; where filters make several pictures of a frame, which of these
    /// ([`TimelineSpec::pictures_per_frame`]).
    pub source: u64,
    /// In one over [`TimelineSpec::encoder_rate`]. Strictly rising.
    pub pts: i64,
}

/// The state machine. Push every frame the decoder puts out for the whole stream, in its order, then finish.
#[derive(Debug)]
pub struct Timeline {
    graph: Graph,
    converter: Converter,
    input: InputClock,
}

impl Timeline {
    pub fn new(spec: TimelineSpec) -> Timeline {
        let converter = Converter::new(&spec, spec.graph_time_base());
        Timeline { graph: Graph::new(&spec), converter, input: InputClock::new(&spec) }
    }

    /// One decoded frame: best-effort pts as demuxed (no shift) and duration (0: unknown), in the stream's timebase. Appends what
    /// the encoder is now to be given; that may show earlier frames, at most two before this one, or the frame may show later.
    pub fn push(&mut self, source: u64, pts: i64, duration: i64, out: &mut Vec<OutputFrame>) {
        let pts = self.input.frame(pts, duration);
        let mut filtered = Vec::new();
        self.graph.push(Frame { source, pts, duration }, &mut filtered);
        for frame in filtered {
            self.converter.push(&frame, out);
        }
    }

    /// The stream has ended.
    pub fn finish(mut self, out: &mut Vec<OutputFrame>) {
        let mut filtered = Vec::new();
        self.graph.finish(self.input.end(), &mut filtered);
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

/// The source's clock as the filters see it.
#[derive(Debug)]
pub struct InputClock {
    time_base: Rational,
    rate: Option<Rational>,
    offset: i64,
    /// ffmpeg's `ist->next_pts`: when the last frame ends, microseconds.
    end_us: i64,
}

impl InputClock {
    pub fn new(spec: &TimelineSpec) -> InputClock {
        let offset = rescale(spec.ts_offset_us, MICROSECOND, spec.time_base);
        InputClock { time_base: spec.time_base, rate: spec.input_rate, offset, end_us: 0 }
    }

    /// The pts the filters are given for a frame: shifted as ffmpeg shifts it. Takes pts as demuxed, and duration (0: unknown).
    pub fn frame(&mut self, pts: i64, duration: i64) -> i64 {
        let pts = pts.saturating_add(self.offset);
        let length_us = match (duration, self.rate) {
            (1.., _) => rescale(duration, self.time_base, MICROSECOND),
            (_, Some(rate)) => rescale(1, Rational::new(rate.den, rate.num), MICROSECOND),
            (_, None) => 0,
        };
        self.end_us = rescale(pts, self.time_base, MICROSECOND).saturating_add(length_us);
        pts
    }

    /// Where the filters are told that the film ends, in the stream's timebase.
    pub fn end(&self) -> i64 {
        rescale(self.end_us, MICROSECOND, self.time_base)
    }
}

/// The conversion at the end alone: for pictures that came out of libavfilter's own `fps` and `trim`.
#[derive(Debug)]
pub struct Pace(Converter);

impl Pace {
    /// `time_base`: of the pictures.
    pub fn new(spec: &TimelineSpec, time_base: Rational) -> Pace {
        Pace(Converter::new(spec, time_base))
    }

    /// One picture; `duration` is its packet's, in the stream's timebase. Appends what the encoder is now to be given: the
    /// picture before and this one.
    pub fn push(&mut self, picture: u64, pts: i64, duration: i64, out: &mut Vec<OutputFrame>) {
        self.0.push(&Frame { source: picture, pts, duration }, out);
    }

    pub fn finish(mut self, out: &mut Vec<OutputFrame>) {
        self.0.finish(out);
    }

    /// Nothing more will come out, whatever is pushed.
    pub fn is_over(&self) -> bool {
        self.0.is_over()
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
