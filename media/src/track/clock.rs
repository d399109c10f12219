//! What ffmpeg 5.1 does to the times of one input stream before it decodes or copies it: the film's clock ([`Shift`]), nonsense dropped,
//! and where the stream is between packets.

use spool_proto::spec::Rational;

use crate::av::{MICROSECONDS, rescale};
use crate::jumps::{Shift, Times};

/// In formats whose times do not jump, one further off than this is dropped (`-dts_error_threshold`).
const NONSENSE_US: i64 = 3600 * 30 * 1_000_000;

/// The clock of one input stream. Own times are microseconds.
#[derive(Debug)]
pub struct Clock {
    time_base: Rational,
    /// `AVFMT_TS_DISCONT`.
    may_jump: bool,
    shift: Shift,
    started: bool,
    pts_us: i64,
    dts_us: i64,
    next_pts_us: i64,
    next_dts_us: i64,
}

impl Clock {
    pub fn new(time_base: Rational, may_jump: bool, shift: Shift) -> Clock {
        Clock { time_base, may_jump, shift, started: false, pts_us: 0, dts_us: 0, next_pts_us: 0, next_dts_us: 0 }
    }

    fn micros(&self, ts: i64) -> i64 {
        rescale(ts, self.time_base, MICROSECONDS)
    }

    /// Corrects the times of the next packet and takes note of them. `copied`: the packet will not be decoded.
    pub fn packet(&mut self, times: Times, copied: bool) -> Times {
        let mut times = self.shift.packet(times);
        if self.started {
            self.drop_nonsense(&mut times);
        } else {
            self.started = true;
            if let (true, Some(pts)) = (copied, times.pts) {
                self.dts_us = self.micros(pts);
                self.pts_us = self.dts_us;
            }
            self.next_dts_us = self.dts_us;
            self.next_pts_us = self.pts_us;
        }
        if let Some(dts) = times.dts {
            let dts = self.micros(dts);
            (self.dts_us, self.next_dts_us, self.pts_us, self.next_pts_us) = (dts, dts, dts, dts);
        }
        times
    }

    fn drop_nonsense(&self, times: &mut Times) {
        let off = |ts: i64| self.micros(ts).saturating_sub(self.next_dts_us).abs() > NONSENSE_US;
        if let (false, Some(_)) = (self.may_jump, times.dts) {
            times.dts = times.dts.filter(|dts| !off(*dts));
            times.pts = times.pts.filter(|pts| !off(*pts));
        }
    }

    /// Where the stream is, before the next thing is taken from the decoder.
    pub fn settle(&mut self) {
        self.pts_us = self.next_pts_us;
        self.dts_us = self.next_dts_us;
    }

    /// So much was decoded or copied.
    pub fn passed(&mut self, us: i64) {
        self.next_pts_us += us;
        self.next_dts_us += us;
    }

    /// After copying, the presentation time follows the decode time.
    pub fn copied(&mut self, us: i64) {
        self.dts_us = self.next_dts_us;
        self.next_dts_us += us;
        self.pts_us = self.dts_us;
        self.next_pts_us = self.next_dts_us;
    }

    pub fn pts_us(&self) -> i64 {
        self.pts_us
    }

    pub fn dts_us(&self) -> i64 {
        self.dts_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jumps::ShiftSetup;

    fn clock(may_jump: bool) -> Clock {
        let time_base = Rational::new(1, 90_000);
        let setup = ShiftSetup { time_base, offset_us: 0, start_us: Some(0), wrap_bits: 33, jumps: Vec::new() };
        Clock::new(time_base, may_jump, Shift::new(setup))
    }

    fn at(ts: i64) -> Times {
        Times { pts: Some(ts), dts: Some(ts) }
    }

    #[test]
    fn a_packet_says_where_the_stream_is() {
        let mut clock = clock(true);
        assert_eq!(clock.packet(at(3_600), false), at(3_600));
        assert_eq!(clock.dts_us(), 40_000);
        clock.settle();
        clock.passed(40_000);
        clock.settle();
        assert_eq!(clock.pts_us(), 80_000);
    }

    #[test]
    fn nonsense_is_dropped_where_times_may_not_jump() {
        let mut clock = clock(false);
        clock.packet(at(0), false);
        assert_eq!(clock.packet(at(90_000 * 200_000), false), Times { pts: None, dts: None });
        assert_eq!(clock.packet(at(90_000 * 100), false), at(90_000 * 100));
    }
}
