//! Jumps of an input's timestamps, and the one shift that brings all its streams onto the film's clock, as the ffmpeg program
//! (5.1) keeps it: `process_input` in `fftools/ffmpeg.c`.
//!
//! In formats whose timestamps may jump (MPEG-TS and its like), ffmpeg moves *all* streams of the file by what the first stream
//! that meets a jump is off. Each track is made by another task that reads its own stream alone, so the probe reads all of them once,
//! in file order ([`JumpScan`]), and writes down from which packet of each stream on which shift holds; every task follows that
//! ([`Shift`]). Pure.

use spool_proto::call::Jump;
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::Rational;

use crate::timeline::{MICROSECOND, rescale};

/// A step beyond which ffmpeg moves everything after it (`-dts_delta_threshold`). Microseconds.
const JUMP_US: i64 = 10_000_000;
/// A step back that is more than a rounding error. Microseconds.
const BACK_US: i64 = 100_000;
/// Jumps of all streams that are followed. A day of broadcast with a cut a minute has fewer; they travel in every call.
const JUMPS_MAX: usize = 4096;

/// A packet's times, in the stream's timebase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    pub pts: Option<i64>,
    pub dts: Option<i64>,
}

impl Times {
    fn moved(self, ticks: i64) -> Times {
        Times { pts: self.pts.map(|pts| pts.saturating_add(ticks)), dts: self.dts.map(|dts| dts.saturating_add(ticks)) }
    }
}

/// How one stream of an input counts.
#[derive(Debug, Clone, PartialEq)]
pub struct ShiftSetup {
    pub time_base: Rational,
    /// What every time is shifted by at first.
    pub offset_us: i64,
    /// Start of the whole input.
    pub start_us: Option<i64>,
    /// Bits after which times wrap; 64: never.
    pub wrap_bits: i32,
    /// Of this stream, by rising packet.
    pub jumps: Vec<Jump>,
}

/// Shifts the packets of one stream, one by one from the first on.
#[derive(Debug, Clone)]
pub struct Shift {
    setup: ShiftSetup,
    wrap: Wrap,
    /// Packets so far, those without data not counted.
    packet: u64,
    offset_us: i64,
}

impl Shift {
    pub fn new(setup: ShiftSetup) -> Shift {
        Shift { wrap: Wrap::default(), packet: 0, offset_us: setup.offset_us, setup }
    }

    /// What is shifted by at first.
    pub fn first_us(&self) -> i64 {
        self.setup.offset_us
    }

    /// As if all packets before this one had been shifted.
    pub fn go_to(&mut self, packet: u64) {
        let passed = self.setup.jumps.partition_point(|jump| jump.packet < packet);
        self.packet = packet;
        self.wrap = Wrap::default();
        self.offset_us = passed.checked_sub(1).map_or(self.setup.offset_us, |last| self.setup.jumps[last].offset_us);
    }

    /// The next packet's times as if there were no jumps: on the clock that the stream began with, unshifted. Plans keep such.
    pub fn unbroken(&mut self, times: Times) -> Times {
        let first = rescale(self.setup.offset_us, MICROSECOND, self.setup.time_base);
        self.packet(times).moved(first.saturating_neg())
    }

    pub fn jumps(&self) -> bool {
        !self.setup.jumps.is_empty()
    }

    /// The next packet's times on the film's clock.
    pub fn packet(&mut self, times: Times) -> Times {
        let ticks = |us: i64| rescale(us, MICROSECOND, self.setup.time_base);
        let here = self.setup.jumps.binary_search_by_key(&self.packet, |jump| jump.packet);
        self.packet += 1;
        let times = self.wrap.undo(times, &self.setup);
        let before = ticks(self.offset_us);
        let Some(jump) = here.ok().map(|at| self.setup.jumps[at]) else { return times.moved(before) };
        let moved = if jump.first { before - ticks(self.offset_us - jump.offset_us) } else { ticks(jump.offset_us) };
        self.offset_us = jump.offset_us;
        times.moved(moved)
    }
}

/// A time in the upper half of the counter's range is from before the wrap.
#[derive(Debug, Clone, Copy, Default)]
struct Wrap {
    checked: bool,
}

impl Wrap {
    fn undo(&mut self, mut times: Times, setup: &ShiftSetup) -> Times {
        let (Some(start_us), 1..=62) = (setup.start_us, setup.wrap_bits) else { return times };
        if self.checked {
            return times;
        }
        self.checked = true;
        let start = rescale(start_us, MICROSECOND, setup.time_base);
        let half = 1i64 << (setup.wrap_bits - 1);
        for ts in [&mut times.dts, &mut times.pts] {
            if let Some(late) = ts.filter(|ts| *ts > start.saturating_add(half)) {
                *ts = Some(late - 2 * half);
                self.checked = false;
            }
        }
        times
    }
}

/// What a stream is, as far as jumps go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paced {
    /// Pictures and sound, decoded: its jumps count.
    Decoded,
    /// Its packets go on as they are; its jumps count all the same.
    Copied,
    /// Subtitles: carried along.
    Along,
}

/// Finds the jumps of an input: give it every packet of the streams in use, in file order.
#[derive(Debug)]
pub struct JumpScan {
    offset_us: i64,
    /// Where the stream was that was read last.
    last_us: Option<i64>,
    streams: Vec<Track>,
    found: usize,
}

#[derive(Debug)]
struct Track {
    index: usize,
    setup: ShiftSetup,
    paced: Paced,
    wrap: Wrap,
    packets: u64,
    /// ffmpeg's `dts` and `next_dts`; `None` before the first packet.
    at: Option<(i64, Option<i64>)>,
    /// The shift its last packet had.
    offset_us: i64,
}

impl JumpScan {
    /// `streams`: index, what it is, how it counts (with no jumps yet; all begin with the same offset).
    pub fn new(offset_us: i64, streams: impl IntoIterator<Item = (usize, Paced, ShiftSetup)>) -> JumpScan {
        let track = |(index, paced, setup)| Track {
            index,
            setup,
            paced,
            wrap: Wrap::default(),
            packets: 0,
            at: None,
            offset_us,
        };
        JumpScan { offset_us, last_us: None, streams: streams.into_iter().map(track).collect(), found: 0 }
    }

    /// Takes note of one packet with data in it. `step_us`: how long it plays.
    ///
    /// # Errors
    /// `too_many_jumps` (class input).
    pub fn packet(&mut self, stream: usize, times: Times, step_us: i64) -> Result<(), Failure> {
        let Some(track) = self.streams.iter_mut().find(|track| track.index == stream) else { return Ok(()) };
        let base = track.setup.time_base;
        let micros = |ts: i64| rescale(ts, base, MICROSECOND);
        let times = track.wrap.undo(times, &track.setup);
        let before_us = self.offset_us;
        let mut dts_us = times.dts.map(|dts| micros(dts.saturating_add(rescale(self.offset_us, MICROSECOND, base))));
        if let Some(at_us) = dts_us {
            let delta = match (track.paced, track.at) {
                (Paced::Along, _) => 0,
                // The stream begins: far from where the others are?
                (_, None) => self.last_us.map_or(0, |last| at_us.saturating_sub(last)).beyond(JUMP_US),
                (_, Some((_, None))) => 0,
                (_, Some((dts, Some(next)))) => {
                    let delta = at_us.saturating_sub(next);
                    if at_us.saturating_add(BACK_US) < dts { delta } else { delta.beyond(JUMP_US) }
                }
            };
            if delta != 0 {
                self.offset_us = self.offset_us.saturating_sub(delta);
                dts_us = Some(at_us.saturating_sub(delta));
                tracing::debug!(stream, delta, "the source's times jump");
            }
        }
        if track.offset_us != self.offset_us {
            track.offset_us = self.offset_us;
            let jump = Jump { packet: track.packets, offset_us: self.offset_us, first: self.offset_us != before_us };
            track.setup.jumps.push(jump);
            self.found += 1;
            if self.found > JUMPS_MAX {
                return Err(Failure::new(
                    Class::Input,
                    "too_many_jumps",
                    format!(
                        "the timestamps of stream {stream} jump again and again ({JUMPS_MAX} times by packet {}); remux the \
                         source first",
                        track.packets
                    ),
                ));
            }
        }
        track.packets += 1;
        track.pass(dts_us, step_us);
        self.last_us = dts_us.or(self.last_us);
        Ok(())
    }

    /// By stream.
    pub fn jumps(self) -> impl Iterator<Item = (usize, Vec<Jump>)> {
        self.streams.into_iter().map(|track| (track.index, track.setup.jumps))
    }
}

impl Track {
    /// As `process_input_packet` counts.
    fn pass(&mut self, dts_us: Option<i64>, step_us: i64) {
        let Some(dts) = dts_us.or_else(|| self.at.map_or(Some(0), |(_, next)| next)) else {
            // Nobody knows where the stream is until a packet says so.
            return;
        };
        let next = dts.saturating_add(step_us);
        self.at = Some(match self.paced {
            Paced::Copied => (dts, Some(next)),
            // A packet that plays for an unknown time leaves the next one unexpected.
            Paced::Decoded | Paced::Along if step_us == 0 => (dts, None),
            Paced::Decoded | Paced::Along => (next, Some(next)),
        });
    }
}

trait Beyond {
    /// Itself where it is further from zero than `limit`, else 0.
    fn beyond(self, limit: i64) -> i64;
}

impl Beyond for i64 {
    fn beyond(self, limit: i64) -> i64 {
        if self.unsigned_abs() > limit.unsigned_abs() { self } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 90_000;

    fn setup(offset_us: i64, jumps: Vec<Jump>) -> ShiftSetup {
        let start_us = Some(-offset_us);
        ShiftSetup { time_base: Rational::new(1, 90_000), offset_us, start_us, wrap_bits: 33, jumps }
    }

    fn at(ts: i64) -> Times {
        Times { pts: Some(ts), dts: Some(ts) }
    }

    fn scan(packets: &[(usize, i64)]) -> Vec<(usize, Vec<Jump>)> {
        let streams = [(0, Paced::Decoded, setup(0, vec![])), (1, Paced::Decoded, setup(0, vec![]))];
        let mut scan = JumpScan::new(0, streams);
        for (stream, ts) in packets {
            scan.packet(*stream, at(*ts), 40_000).unwrap();
        }
        scan.jumps().collect()
    }

    #[test]
    fn times_start_at_the_inputs_start() {
        let mut shift = Shift::new(setup(-1_000_000, vec![]));
        assert_eq!(shift.packet(at(SECOND)), at(0));
        assert_eq!(shift.packet(at(SECOND + 3_600)), at(3_600));
    }

    #[test]
    fn a_stream_entered_in_its_middle_is_shifted_as_from_the_start() {
        let jumps = [(2, -5_000_000), (4, 7)].map(|(packet, offset_us)| Jump { packet, offset_us, first: true });
        let mut whole = Shift::new(setup(-1, jumps.to_vec()));
        let all: Vec<Times> = (0..6).map(|n| whole.unbroken(at(n * 3_600))).collect();
        for entry in 0..6 {
            let mut entered = Shift::new(setup(-1, jumps.to_vec()));
            entered.go_to(entry);
            for n in entry..6 {
                let n = i64::try_from(n).unwrap();
                assert_eq!(entered.unbroken(at(n * 3_600)), all[usize::try_from(n).unwrap()], "{n} from {entry}");
            }
        }
    }

    #[test]
    fn a_packet_from_before_the_wrap_comes_first() {
        let mut shift = Shift::new(setup(0, vec![]));
        assert_eq!(shift.packet(at((1 << 33) - 3_600)), at(-3_600));
    }

    #[test]
    fn the_first_stream_that_jumps_moves_the_others_by_as_much() {
        // The sound (1) is 0.5 s behind; after the jump it is met first, by a packet that should have been at 0.54 s.
        let far = 100 * SECOND;
        let found = scan(&[(0, SECOND), (1, SECOND / 2), (1, far), (0, far + SECOND / 2)]);
        let offset_us = -(100_000_000 - 540_000);
        assert_eq!(found[1], (1, vec![Jump { packet: 1, offset_us, first: true }]));
        assert_eq!(found[0], (0, vec![Jump { packet: 1, offset_us, first: false }]));
        let mut shift = Shift::new(setup(0, found[0].1.clone()));
        assert_eq!(shift.packet(at(SECOND)), at(SECOND));
        assert_eq!(shift.packet(at(far + SECOND / 2)), at(SECOND / 2 + 540 * 90));
    }

    #[test]
    fn a_short_hole_stays_and_a_step_back_does_not() {
        assert!(scan(&[(0, 0), (0, 9 * SECOND)]).iter().all(|(_, jumps)| jumps.is_empty()));
        let back = scan(&[(0, 10 * SECOND), (0, 9 * SECOND)]);
        assert_eq!(back[0].1, [Jump { packet: 1, offset_us: 1_040_000, first: true }]);
    }

    #[test]
    fn a_stream_that_begins_far_away_is_brought_near() {
        let found = scan(&[(0, 0), (1, 500 * SECOND), (0, 3_600)]);
        assert_eq!(found[1].1, [Jump { packet: 0, offset_us: -500_000_000, first: true }]);
        // Now the first is far off: it moves everything back to where it was.
        assert_eq!(found[0].1, []);
    }

    #[test]
    fn an_endless_row_of_jumps_is_refused() {
        let streams = [(0, Paced::Decoded, setup(0, vec![]))];
        let mut scan = JumpScan::new(0, streams);
        let refused = (0..10_000).find_map(|n| scan.packet(0, at(n % 2 * 1_000 * SECOND), 40_000).err()).unwrap();
        assert_eq!((refused.class, refused.code.as_str()), (Class::Input, "too_many_jumps"));
    }
}
