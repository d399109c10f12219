//! What ffmpeg 5.1 does to the times of one input stream before it decodes or copies it: shift to zero, TS wrap, jumps.

use spool_proto::spec::Rational;

use crate::av::{MICROSECONDS, rescale};

/// A jump of a format whose times may jump, beyond which ffmpeg moves everything after it (`-dts_delta_threshold`).
const JUMP_US: i64 = 10_000_000;
/// In other formats, a time further off than this is dropped (`-dts_error_threshold`).
const NONSENSE_US: i64 = 3600 * 30 * 1_000_000;
/// A step back that is more than a rounding error.
const BACK_US: i64 = 100_000;

/// How the container of the stream counts.
#[derive(Debug, Clone, Copy)]
pub struct ClockSetup {
    pub time_base: Rational,
    /// What every time is shifted by at first.
    pub offset_us: i64,
    /// Start of the whole input.
    pub start_us: Option<i64>,
    /// Bits after which times wrap; 64: never.
    pub wrap_bits: i32,
    /// `AVFMT_TS_DISCONT`.
    pub may_jump: bool,
}

/// The clock of one input stream. Own times are microseconds.
#[derive(Debug)]
pub struct Clock {
    setup: ClockSetup,
    wrap_checked: bool,
    started: bool,
    pts_us: i64,
    dts_us: i64,
    next_pts_us: i64,
    next_dts_us: i64,
}

/// A packet's times, in the stream's timebase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    pub pts: Option<i64>,
    pub dts: Option<i64>,
}

impl Clock {
    pub fn new(setup: ClockSetup) -> Clock {
        Clock { setup, wrap_checked: false, started: false, pts_us: 0, dts_us: 0, next_pts_us: 0, next_dts_us: 0 }
    }

    fn micros(&self, ts: i64) -> i64 {
        rescale(ts, self.setup.time_base, MICROSECONDS)
    }

    fn own(&self, us: i64) -> i64 {
        rescale(us, MICROSECONDS, self.setup.time_base)
    }

    /// Corrects the times of the next packet and takes note of them. `copied`: the packet will not be decoded.
    pub fn packet(&mut self, mut times: Times, copied: bool) -> Times {
        self.unwrap(&mut times);
        let offset = self.own(self.setup.offset_us);
        times.pts = times.pts.map(|pts| pts.saturating_add(offset));
        times.dts = times.dts.map(|dts| dts.saturating_add(offset));
        if self.started {
            self.correct_jumps(&mut times);
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

    /// A time in the upper half of the counter's range is from before the wrap.
    fn unwrap(&mut self, times: &mut Times) {
        let (Some(start_us), 1..=62) = (self.setup.start_us, self.setup.wrap_bits) else { return };
        if self.wrap_checked {
            return;
        }
        self.wrap_checked = true;
        let start = self.own(start_us);
        let half = 1i64 << (self.setup.wrap_bits - 1);
        for ts in [&mut times.dts, &mut times.pts] {
            if let Some(late) = ts.filter(|ts| *ts > start.saturating_add(half)) {
                *ts = Some(late - 2 * half);
                self.wrap_checked = false;
            }
        }
    }

    fn correct_jumps(&mut self, times: &mut Times) {
        let Some(dts) = times.dts else { return };
        let dts_us = self.micros(dts);
        let delta = dts_us.saturating_sub(self.next_dts_us);
        if self.setup.may_jump {
            let back = dts_us.saturating_add(BACK_US) < self.pts_us.max(self.dts_us);
            if delta.abs() > JUMP_US || back {
                self.setup.offset_us -= delta;
                let delta = self.own(delta);
                times.dts = Some(dts - delta);
                times.pts = times.pts.map(|pts| pts - delta);
                tracing::debug!(delta, "the source's times jump");
            }
        } else {
            if delta.abs() > NONSENSE_US {
                times.dts = None;
            }
            let off = |pts: i64| self.micros(pts).saturating_sub(self.next_dts_us).abs();
            times.pts = times.pts.filter(|pts| off(*pts) <= NONSENSE_US);
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

    fn clock(offset_us: i64, may_jump: bool) -> Clock {
        let time_base = Rational::new(1, 90_000);
        Clock::new(ClockSetup { time_base, offset_us, start_us: Some(-offset_us), wrap_bits: 33, may_jump })
    }

    fn at(ts: i64) -> Times {
        Times { pts: Some(ts), dts: Some(ts) }
    }

    #[test]
    fn times_start_at_the_inputs_start() {
        let mut clock = clock(-1_000_000, true);
        assert_eq!(clock.packet(at(90_000), false), at(0));
        assert_eq!(clock.packet(at(93_600), false), at(3_600));
        assert_eq!(clock.dts_us(), 40_000);
    }

    #[test]
    fn a_long_jump_is_closed_where_times_may_jump() {
        let mut clock = clock(0, true);
        clock.packet(at(0), false);
        clock.settle();
        clock.passed(40_000);
        assert_eq!(clock.packet(at(90_000 * 100), false), at(3_600));
        clock.settle();
        clock.passed(40_000);
        assert_eq!(clock.packet(at(90_000 * 100 + 3_600), false), at(7_200));
    }

    #[test]
    fn a_short_hole_stays() {
        let mut clock = clock(0, true);
        clock.packet(at(0), false);
        assert_eq!(clock.packet(at(90_000 * 9), false), at(90_000 * 9));
    }

    #[test]
    fn nonsense_is_dropped_where_times_may_not_jump() {
        let mut clock = clock(0, false);
        clock.packet(at(0), false);
        assert_eq!(clock.packet(at(90_000 * 200_000), false), Times { pts: None, dts: None });
        assert_eq!(clock.packet(at(90_000 * 100), false), at(90_000 * 100));
    }

    #[test]
    fn a_packet_from_before_the_wrap_comes_first() {
        let mut clock = clock(0, true);
        assert_eq!(clock.packet(at((1 << 33) - 3_600), false), at(-3_600));
    }
}
