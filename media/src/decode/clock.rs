//! How the ffmpeg program (5.1) mends the timestamps of an input while it decodes it: the film's clock ([`Shift`]), and packets without
//! timestamps (`process_input`, `process_input_packet` and `decode_video` in `fftools/ffmpeg.c`).
//!
//! Works in ffmpeg's shifted time and hands out pts without the first shift, because indexes and plans keep pts as demuxed.

use std::collections::VecDeque;

use spool_proto::spec::Rational;

use crate::av::codec::Decoder;
use crate::av::packet::Packet;
use crate::av::{MICROSECONDS, Stream, rescale};
use crate::jumps::{Shift, Times};

/// `-dts_error_threshold`: timestamps further off are dropped. Microseconds.
const ERROR_US: i64 = 108_000 * 1_000_000;

/// ffmpeg's `InputStream`, as far as it is about time. Microseconds, shifted, unless said otherwise.
#[derive(Debug, Clone)]
pub struct Clock {
    time_base: Rational,
    average_rate: Option<Rational>,
    may_jump: bool,
    shift: Shift,
    /// Expected of the next packet. `None` before the first.
    next_dts: Option<i64>,
    dts: Option<i64>,
    pts: i64,
    next_pts: i64,
    /// Duration by which `next_dts` moves when a packet was decoded.
    step: i64,
    /// dts at each frame drained, in the stream's timebase: for frames that have no pts at all.
    drained: VecDeque<Option<i64>>,
}

impl Clock {
    pub fn new(stream: &Stream, may_jump: bool, shift: Shift) -> Clock {
        Clock {
            time_base: stream.time_base,
            average_rate: stream.average_frame_rate,
            may_jump,
            shift,
            next_dts: None,
            dts: None,
            pts: 0,
            next_pts: 0,
            step: 0,
            drained: VecDeque::new(),
        }
    }

    fn to_us(&self, value: i64) -> i64 {
        rescale(value, self.time_base, MICROSECONDS)
    }

    fn to_ticks(&self, value: i64) -> i64 {
        rescale(value, MICROSECONDS, self.time_base)
    }

    /// Mends a packet before it is decoded.
    pub fn packet(&mut self, packet: &mut Packet, decoder: &Decoder) {
        let Times { mut pts, mut dts } = self.shift.packet(Times { pts: packet.pts(), dts: packet.dts() });
        if let (false, Some(_), Some(expected)) = (self.may_jump, dts, self.next_dts) {
            let near = |ts: &i64| self.to_us(*ts).saturating_sub(expected).abs() <= ERROR_US;
            dts = dts.filter(near);
            pts = pts.filter(near);
        }
        if self.next_dts.is_none() {
            // Frames the decoder holds back come before zero.
            let held = i64::from(decoder.reorder_frames()) * 1_000_000;
            let first = self.average_rate.map_or(0, |rate| -held * i64::from(rate.den) / i64::from(rate.num));
            self.next_dts = Some(first);
            self.dts = Some(first);
        }
        if let Some(dts) = dts {
            self.next_dts = Some(self.to_us(dts));
        }
        self.dts = self.next_dts;
        self.step = match (packet.duration(), decoder.bitstream_rate()) {
            (1.., _) => self.to_us(packet.duration()),
            (_, Some((rate, _))) => 1_000_000 * i64::from(rate.den) / i64::from(rate.num),
            (_, None) => 0,
        };
        self.next_dts = self.dts.filter(|_| self.step != 0).map(|dts| dts + self.step);
        // The decoder sees the mended dts, gone through microseconds.
        packet.set_times(pts, self.dts.map(|us| self.to_ticks(us)), packet.duration());
    }

    /// The stream has ended; the decoder drains.
    pub fn end(&mut self) {
        self.dts = self.next_dts;
    }

    /// Takes libav's guess for a frame that came out and gives its pts as demuxed.
    pub fn decoded(&mut self, best_effort: Option<i64>, duration: i64, draining: bool) -> Option<i64> {
        let mut pts = best_effort;
        if draining {
            self.drained.push_back(self.dts.map(|us| self.to_ticks(us)));
            if pts.is_none() {
                pts = self.drained.pop_front().flatten();
            }
            self.dts = self.dts.filter(|_| self.step != 0).map(|dts| dts + self.step);
        }
        self.pts = pts.map_or(self.next_pts, |pts| self.to_us(pts));
        self.next_pts = self.pts + if duration > 0 { self.to_us(duration) } else { self.step };
        pts.map(|pts| pts - self.to_ticks(self.shift.first_us()))
    }
}
