//! The video buffering verifier (H.264 Annex C, H.265 Annex C): the leaky bucket that `-maxrate` and `-bufsize` describe. A decoder's
//! buffer fills at one rate until it is full; each frame is taken out of it at once, in decode order. A frame that is not whole
//! in the buffer by then comes late.
//!
//! What a run of frames does to a buffer depends on how full it finds it, and is known from four numbers ([`BufferUse`]), however many
//! frames there are. Two runs in a row are one run: what chunks do one by one tells what the joined film does, exactly.

use serde::{Deserialize, Serialize};

use crate::spec::{Rational, VideoSpec};

/// How full the buffer is when a film begins, in thousandths: the encoders' own default (`vbv-init`).
pub const INITIAL_PERMILLE: u64 = 900;

/// A buffer. It counts in parts of a bit: as many to a bit as [`RateBuffer::frame_rate`] has in its numerator, so that what comes in
/// during a frame is a whole number of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateBuffer {
    pub maxrate_bps: u64,
    pub bufsize_bits: u64,
    /// Frames are `ticks / frame_rate` seconds apart.
    pub frame_rate: Rational,
}

/// What a run of frames does to a buffer, in its parts of a bit. A buffer with `x` in it before the first frame is taken out has
/// `min(end_full, x + net)` in it after the last one was, and `min(low_full, x + low_net)` when there is least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferUse {
    /// Least after a frame was taken out, where the buffer was full at the start. Negative: it lacks so much.
    pub low_full: i64,
    pub low_net: i64,
    pub end_full: i64,
    pub net: i64,
}

/// A film's frames, each taken out of its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferCheck {
    pub maxrate_bps: u64,
    pub bufsize_bits: u64,
    /// Least after a frame was taken out; negative: so much of that frame was lacking.
    pub low_bits: i64,
    /// When that frame is taken out, from the film's first one. Microseconds.
    pub low_at_us: i64,
    /// Frames that come late. The decoder waits for each, and goes on from there.
    pub late_frames: u64,
}

impl RateBuffer {
    /// The buffer that a spec asks for. `None`: it asks for none.
    pub fn of(spec: &VideoSpec, frame_rate: Rational) -> Option<RateBuffer> {
        let (maxrate_bps, bufsize_bits) = spec.maxrate_bps.zip(spec.bufsize_bits)?;
        Some(RateBuffer { maxrate_bps, bufsize_bits, frame_rate })
    }

    /// So many bits.
    pub fn parts(&self, bits: u64) -> i64 {
        let parts = i128::from(bits) * i128::from(self.frame_rate.num);
        i64::try_from(parts).unwrap_or(i64::MAX)
    }

    /// Whole bits, rounded down.
    pub fn bits(&self, parts: i64) -> i64 {
        parts.div_euclid(i64::from(self.frame_rate.num.max(1)))
    }

    /// The whole buffer.
    pub fn size(&self) -> i64 {
        self.parts(self.bufsize_bits)
    }

    /// In it when the film's first frame is taken out.
    pub fn initial(&self) -> i64 {
        self.parts(self.bufsize_bits / 1000 * INITIAL_PERMILLE)
    }

    /// What comes in while `ticks` go by, if there is room.
    pub fn refill(&self, ticks: i64) -> i64 {
        let parts = i128::from(self.maxrate_bps) * i128::from(self.frame_rate.den) * i128::from(ticks.max(0));
        i64::try_from(parts).unwrap_or(i64::MAX)
    }

    /// `x` and what comes in while `ticks` go by.
    pub fn filled(&self, x: i64, ticks: i64) -> i64 {
        x.saturating_add(self.refill(ticks)).min(self.size())
    }

    /// One frame.
    pub fn frame(&self, bytes: u64) -> BufferUse {
        let taken = self.parts(bytes.saturating_mul(8));
        let left = self.size().saturating_sub(taken);
        BufferUse { low_full: left, low_net: -taken, end_full: left, net: -taken }
    }

    /// `first`, and `then` so many ticks after the last frame of it.
    pub fn join(&self, first: BufferUse, ticks: i64, then: BufferUse) -> BufferUse {
        let between = self.filled(first.end_full, ticks);
        let net = first.net.saturating_add(self.refill(ticks));
        BufferUse {
            low_full: first.low_full.min(then.low(between)),
            low_net: first.low_net.min(net.saturating_add(then.low_net)),
            end_full: then.left(between),
            net: net.saturating_add(then.net),
        }
    }

    /// A film's frames in decode order: bytes of each, and the ticks at which they are taken out. A frame is late where more is lacking
    /// than [`RateBuffer::slack`].
    pub fn check(&self, frames: impl IntoIterator<Item = (u64, i64)>) -> BufferCheck {
        let (mut fill, mut first, mut last) = (self.initial(), None, None);
        let (mut low, mut low_at, mut late_frames) = (self.size(), 0, 0);
        for (bytes, at) in frames {
            if let Some(last) = last {
                fill = self.filled(fill, at - last);
            }
            fill = fill.saturating_sub(self.parts(bytes.saturating_mul(8)));
            if fill < low {
                (low, low_at) = (fill, at - *first.get_or_insert(at));
            }
            late_frames += u64::from(fill < -self.slack());
            fill = fill.max(0);
            first = first.or(Some(at));
            last = Some(at);
        }
        let us =
            i128::from(low_at) * i128::from(self.frame_rate.den) * 1_000_000 / i128::from(self.frame_rate.num.max(1));
        BufferCheck {
            maxrate_bps: self.maxrate_bps,
            bufsize_bits: self.bufsize_bits,
            low_bits: self.bits(low),
            low_at_us: i64::try_from(us).unwrap_or(i64::MAX),
            late_frames,
        }
    }

    /// A thousandth of the buffer: containers and encoders count a frame's bytes differently.
    pub fn slack(&self) -> i64 {
        self.size() / 1000
    }

    /// Frames in decode order: bytes of each, and the ticks at which they are taken out, of which only distances count. `None`: there
    /// are none.
    pub fn run(&self, frames: impl IntoIterator<Item = (u64, i64)>) -> Option<BufferUse> {
        let mut run: Option<(BufferUse, i64)> = None;
        for (bytes, at) in frames {
            let frame = self.frame(bytes);
            let sum = run.map_or(frame, |(before, last)| self.join(before, at.saturating_sub(last), frame));
            run = Some((sum, at));
        }
        run.map(|(sum, _)| sum)
    }
}

impl BufferUse {
    /// Least in a buffer that has `x` in it at the start.
    pub fn low(&self, x: i64) -> i64 {
        self.low_full.min(x.saturating_add(self.low_net))
    }

    /// What is left at the end, with whatever was lacking on the way still owed.
    pub fn left(&self, x: i64) -> i64 {
        self.end_full.min(x.saturating_add(self.net))
    }

    /// What is left at the end, where the decoder waited for what was lacking, and everything after came so much later.
    pub fn left_waiting(&self, x: i64) -> i64 {
        let lacking = self.low(x).min(0);
        self.end_full.min(x.saturating_add(self.net).saturating_sub(lacking))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Frame by frame, in plain numbers: least and last. Nobody waits.
    fn simulated(buffer: &RateBuffer, start: i128, frames: &[(u64, i64)]) -> (i128, i128) {
        let num = i128::from(buffer.frame_rate.num);
        let size = i128::from(buffer.bufsize_bits) * num;
        let (mut fill, mut low) = (start, i128::MAX);
        for (n, (bytes, at)) in frames.iter().enumerate() {
            if n > 0 {
                let ticks = i128::from(at - frames[n - 1].1);
                fill += i128::from(buffer.maxrate_bps) * i128::from(buffer.frame_rate.den) * ticks;
                fill = fill.min(size);
            }
            fill -= i128::from(*bytes) * 8 * num;
            low = low.min(fill);
        }
        (low, fill)
    }

    fn films(bytes: u64) -> impl Strategy<Value = Vec<(u64, i64)>> {
        prop::collection::vec((0..bytes, 1i64..4), 2..80).prop_map(|frames| {
            let after = |at: &mut i64, (bytes, ticks)| {
                *at += ticks;
                Some((bytes, *at))
            };
            frames.into_iter().scan(-7, after).collect()
        })
    }

    proptest! {
        #[test]
        fn four_numbers_tell_what_every_frame_would(frames in films(60_000), permille in 0u64..=1000) {
            let frame_rate = Rational::new(24_000, 1001);
            let buffer = RateBuffer { maxrate_bps: 1_234_567, bufsize_bits: 2_000_001, frame_rate };
            let start = buffer.parts(buffer.bufsize_bits * permille / 1000);
            let whole = buffer.run(frames.iter().copied()).unwrap();
            let (low, end) = simulated(&buffer, i128::from(start), &frames);
            prop_assert_eq!(i128::from(whole.low(start)), low);
            prop_assert_eq!(i128::from(whole.left(start)), end);
        }

        #[test]
        fn a_film_cut_anywhere_is_the_same_film(frames in films(60_000), cut in any::<prop::sample::Index>()) {
            let buffer =
                RateBuffer { maxrate_bps: 900_000, bufsize_bits: 1_000_000, frame_rate: Rational::new(25, 1) };
            let cut = 1 + cut.index(frames.len() - 1);
            let (before, after) = frames.split_at(cut);
            let [first, then] = [before, after].map(|part| buffer.run(part.iter().copied()).unwrap());
            let joined = buffer.join(first, after[0].1 - before[cut - 1].1, then);
            prop_assert_eq!(joined, buffer.run(frames.iter().copied()).unwrap());
        }

        #[test]
        fn a_decoder_that_waits_has_what_one_with_more_at_the_start_would(frames in films(18_000)) {
            let buffer =
                RateBuffer { maxrate_bps: 900_000, bufsize_bits: 1_000_000, frame_rate: Rational::new(25, 1) };
            let run = buffer.run(frames.iter().copied()).unwrap();
            let lacking = run.low(0).min(0);
            // Where more at the start would have found room.
            prop_assume!(run.low_full >= 0 && -lacking <= buffer.size());
            prop_assert_eq!(run.left_waiting(0), run.left(-lacking));
        }
    }
}
