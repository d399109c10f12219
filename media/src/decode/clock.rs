//! How the ffmpeg program (5.1) mends the timestamps of an input while it decodes it: the shift to zero, jumps of MPEG-TS and
//! the like, packets without timestamps (`process_input`, `process_input_packet` and `decode_video` in `fftools/ffmpeg.c`).
//!
//! Works in ffmpeg's shifted time and hands out unshifted pts, because indexes and plans keep pts as demuxed. It sees one
//! stream, where ffmpeg sees all: a jump that another stream meets first is met here by the video itself.

use std::collections::VecDeque;

use spool_proto::spec::Rational;

use crate::av::codec::Decoder;
use crate::av::packet::Packet;
use crate::av::{MICROSECONDS, Stream, rescale};

/// `-dts_delta_threshold`: a jump of formats that may jump. Microseconds.
const JUMP_US: i64 = 10_000_000;
/// `-dts_error_threshold`: timestamps further off are dropped. Microseconds.
const ERROR_US: i64 = 108_000 * 1_000_000;

/// ffmpeg's `InputStream`, as far as it is about time. Microseconds, shifted, unless said otherwise.
#[derive(Debug, Clone)]
pub struct Clock {
    time_base: Rational,
    average_rate: Option<Rational>,
    may_jump: bool,
    /// What ffmpeg shifts by at the start, and now.
    first_offset: i64,
    offset: i64,
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
    /// `ts_offset_us` as the index keeps it.
    pub fn new(stream: &Stream, may_jump: bool, ts_offset_us: i64) -> Clock {
        Clock {
            time_base: stream.time_base,
            average_rate: stream.average_frame_rate,
            may_jump,
            first_offset: ts_offset_us,
            offset: ts_offset_us,
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
        let shift = self.to_ticks(self.offset);
        let mut pts = packet.pts().map(|pts| pts.saturating_add(shift));
        let mut dts = packet.dts().map(|dts| dts.saturating_add(shift));
        if let (Some(seen), Some(expected)) = (dts.map(|dts| self.to_us(dts)), self.next_dts) {
            let delta = seen.saturating_sub(expected);
            let back = self.may_jump && seen.saturating_add(100_000) < self.pts.max(self.dts.unwrap_or(i64::MIN));
            if self.may_jump && (delta.abs() > JUMP_US || back) {
                self.offset -= delta;
                let moved = self.to_ticks(delta);
                dts = dts.map(|dts| dts - moved);
                pts = pts.map(|pts| pts - moved);
            } else if !self.may_jump {
                let far = |us: i64| us.saturating_sub(expected).abs() > ERROR_US;
                dts = dts.filter(|_| !far(seen));
                pts = pts.filter(|pts| !far(self.to_us(*pts)));
            }
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
        pts.map(|pts| pts - self.to_ticks(self.first_offset))
    }
}
