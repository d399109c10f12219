//! What each chunk of a film may spend so that the film as a whole meets its rate, and which chunks are made once more where it
//! does not. Pure.
//!
//! In one pass nothing is known of the chunks before they are encoded: each is asked for the film's rate.
//!
//! The first of two passes codes all chunks at one quality. How their bits change with the quality is the encoder's own model (x264's and x265's
//! second passes go by it): with `s` the quantizer's step against the first pass's, coefficients cost `s^-1.1`, motion `s^-0.5` and
//! the rest the same. One `s` for the whole film is what one encoder would find with the statistics of the whole film.

use serde::{Deserialize, Serialize};

use crate::call::{Analysis, Target};
use crate::spec::Rational;

/// Encoders count in kilobits a second.
const GRAIN_BPS: f64 = 1000.0;
/// How near the film's rate is to its target, as parts of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance {
    /// It may miss by so much.
    miss: f64,
    /// Chunks that are made again are chosen to bring it within this.
    aim: f64,
}

pub(super) const TWO_PASSES: Tolerance = Tolerance { miss: 0.01, aim: 0.0025 };
pub(super) const ONE_PASS: Tolerance = Tolerance { miss: 0.02, aim: 0.005 };

/// A chunk that spends less than this part of what it is asked for has no use for more.
const CONTENT: f64 = 0.5;
/// A chunk made again is asked for at most so many times what it was asked for, and at least for that part.
const CORRECTION_MAX: f64 = 2.0;
/// Encoders refuse to spend less than what headers and modes take.
const ABOVE_FIXED: f64 = 1.02;
/// Halvings: the answer is then exact to a thousandth of a bit.
const STEPS: u32 = 80;
/// log2 of the finest and coarsest step against the first pass's. 2^12: from quantizer 23 past both ends of any scale.
const FINEST_COARSEST: (f64, f64) = (-12.0, 12.0);

/// What is asked of a film.
#[derive(Debug, Clone, Copy)]
pub(super) struct Film {
    pub bitrate_bps: u64,
    pub maxrate_bps: Option<u64>,
    pub frame_rate: Rational,
    pub tolerance: Tolerance,
}

/// What a chunk is given.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Share {
    /// What it ought to spend.
    pub bits: f64,
    seconds: f64,
    /// What its encoder is told.
    pub asked_bps: u64,
}

#[expect(clippy::cast_precision_loss, reason = "bits of a film are far below 2^53")]
const fn float(count: u64) -> f64 {
    count as f64
}

/// Bits of a chunk at a step of 2^`step` against the first pass's.
fn bits_at(chunk: &Analysis, step: f64) -> f64 {
    let scaled = |bits: u64, power: f64| float(bits) * (-power * step).exp2();
    scaled(chunk.texture_bits, 1.1) + scaled(chunk.motion_bits, 0.5) + float(chunk.fixed_bits)
}

impl Film {
    fn seconds(&self, ticks: u64) -> f64 {
        float(ticks.max(1)) / self.frame_rate.as_f64()
    }

    /// The rate asked of an encoder for so many bits, in its own grains.
    fn asked(&self, bits: f64, seconds: f64) -> u64 {
        let most = self.maxrate_bps.map_or(f64::INFINITY, |rate| (float(rate) / GRAIN_BPS).floor());
        let grains = (bits / seconds / GRAIN_BPS).round().min(most).max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at least one, and no film's rate comes near 2^63"
        )]
        let bps = (grains * GRAIN_BPS) as u64;
        bps
    }

    /// Each chunk's share. They sum to the film's bits, unless `-maxrate` or what cannot be saved forbids it.
    pub fn shares(&self, chunks: &[Analysis]) -> Vec<Share> {
        let target = float(self.bitrate_bps) * chunks.iter().map(|chunk| self.seconds(chunk.ticks)).sum::<f64>();
        let share = |chunk: &Analysis, step: f64| {
            let least = float(chunk.fixed_bits) * ABOVE_FIXED;
            let most = self.maxrate_bps.map_or(f64::INFINITY, |rate| float(rate) * self.seconds(chunk.ticks));
            bits_at(chunk, step).max(least).min(most)
        };
        let (mut finer, mut coarser) = FINEST_COARSEST;
        for _ in 0..STEPS {
            let step = f64::midpoint(finer, coarser);
            let sum: f64 = chunks.iter().map(|chunk| share(chunk, step)).sum();
            if sum > target { finer = step } else { coarser = step }
        }
        // What rounding takes from one chunk the next is given.
        let mut left = 0.0;
        let shares = chunks.iter().map(|chunk| {
            let (bits, seconds) = (share(chunk, coarser), self.seconds(chunk.ticks));
            let asked_bps = self.asked(bits + left, seconds);
            left += bits - float(asked_bps) * seconds;
            Share { bits, seconds, asked_bps }
        });
        shares.collect()
    }

    /// Shares of chunks that were encoded in one pass, each asked for the film's rate: as long as they are (`ticks`), where what some of them
    /// had no use for (`spent`, bits) goes to the others.
    pub fn even(&self, ticks: &[u64], spent: &[u64]) -> Vec<Share> {
        let rate = float(self.bitrate_bps);
        let chunks = ticks.iter().zip(spent).map(|(ticks, spent)| (self.seconds(*ticks), float(*spent)));
        let chunks: Vec<(f64, f64)> = chunks.collect();
        let is_content = |seconds: f64, spent: f64| spent < CONTENT * rate * seconds;
        let (mut bits, mut wanting) = (0.0, 0.0);
        for &(seconds, spent) in &chunks {
            bits += rate * seconds;
            if is_content(seconds, spent) { bits -= spent } else { wanting += seconds }
        }
        let most = self.maxrate_bps.map_or(f64::INFINITY, float);
        let each = (bits / f64::max(wanting, f64::MIN_POSITIVE)).min(most);
        let share = |(seconds, spent)| {
            let bits = if is_content(seconds, spent) { spent } else { each * seconds };
            Share { bits, seconds, asked_bps: self.asked(rate * seconds, seconds) }
        };
        chunks.into_iter().map(share).collect()
    }

    /// What chunks cannot spend though they are asked for all of `-maxrate` (a small buffer leaves no room for it) goes to the others.
    fn shares_within_maxrate(&self, shares: &[Share], asked: &[u64], spent: &[u64]) -> Vec<Share> {
        let most = |share: &Share| self.maxrate_bps.map_or(f64::INFINITY, |rate| float(rate) * share.seconds);
        let is_held = |share: &Share, asked: u64, spent: u64| {
            float(asked) + GRAIN_BPS > most(share) / share.seconds && float(spent) < share.bits
        };
        let (mut left, mut taken) = (0.0, 0.0);
        for ((share, asked), spent) in shares.iter().zip(asked).zip(spent) {
            if is_held(share, *asked, *spent) { left += share.bits - float(*spent) } else { taken += share.bits }
        }
        let more = 1.0 + left / f64::max(taken, 1.0);
        let within = |((share, asked), spent): ((&Share, &u64), &u64)| {
            let held = is_held(share, *asked, *spent);
            let bits = if held { float(*spent) } else { (share.bits * more).min(most(share)) };
            Share { bits, ..*share }
        };
        shares.iter().zip(asked).zip(spent).map(within).collect()
    }

    /// Chunks to be made again and what to ask for, when the film's rate is missed: the fewest that can bring it back, those first that
    /// are furthest from their share. `asked`: bits a second asked of each chunk last; `spent`: the bits it then took.
    pub fn corrections(&self, shares: &[Share], asked: &[u64], spent: &[u64]) -> Vec<(usize, u64)> {
        let target: f64 = shares.iter().map(|share| share.bits).sum();
        let excess = spent.iter().map(|bits| float(*bits)).sum::<f64>() - target;
        if excess.abs() <= self.tolerance.miss * target {
            return Vec::new();
        }
        let shares = &self.shares_within_maxrate(shares, asked, spent);
        let beyond = |(share, bits): (&Share, &u64)| (float(*bits) - share.bits) * excess.signum();
        let mut offenders: Vec<(usize, f64)> =
            shares.iter().zip(spent).map(beyond).enumerate().filter(|(_, beyond)| *beyond > 0.0).collect();
        offenders.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut left = excess.abs();
        let mut again = Vec::new();
        for (chunk, beyond) in offenders {
            if left <= self.tolerance.aim * target {
                break;
            }
            let (share, bits) = (&shares[chunk], float(spent[chunk].max(1)));
            let by = (share.bits / bits).clamp(1.0 / CORRECTION_MAX, CORRECTION_MAX);
            let more = self.asked(float(asked[chunk]) * share.seconds * by, share.seconds);
            // Rounded to the same, it would come out the same.
            if more != asked[chunk] {
                left -= beyond;
                again.push((chunk, more));
            }
        }
        again.sort_unstable();
        again
    }
}

/// What a chunk's encoder is told. All chunks of a film are told the same peak.
pub(super) fn target(shares: &[Share], bitrate_bps: u64) -> Target {
    Target { bitrate_bps, peak_bps: shares.iter().map(|share| share.asked_bps).max().unwrap_or(bitrate_bps) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILM: Film =
        Film { bitrate_bps: 2_000_000, maxrate_bps: None, frame_rate: Rational::new(24, 1), tolerance: TWO_PASSES };

    fn chunk(chunk: u32, ticks: u64, texture_bits: u64) -> Analysis {
        Analysis { chunk, frames: ticks, ticks, texture_bits, motion_bits: texture_bits / 5, fixed_bits: ticks * 200 }
    }

    fn bits(shares: &[Share]) -> f64 {
        shares.iter().map(|share| share.bits).sum()
    }

    #[test]
    fn one_chunk_is_given_all() {
        let shares = FILM.shares(&[chunk(0, 240, 9_000_000)]);
        assert_eq!(shares[0].asked_bps, 2_000_000);
    }

    #[test]
    fn maxrate_bounds_a_chunk_and_the_others_are_given_the_rest() {
        let chunks = [chunk(0, 240, 1_000_000), chunk(1, 240, 50_000_000)];
        let free = FILM.shares(&chunks);
        assert!(free[1].asked_bps > 3_000_000, "{free:?}");
        let bound = Film { maxrate_bps: Some(2_500_000), ..FILM }.shares(&chunks);
        assert_eq!((bound[0].asked_bps, bound[1].asked_bps), (1_500_000, 2_500_000));
    }

    #[test]
    fn what_a_chunk_at_maxrate_cannot_spend_the_others_are_asked_for() {
        let film = Film { maxrate_bps: Some(2_500_000), ..FILM };
        let chunks = [chunk(0, 240, 1_000_000), chunk(1, 240, 50_000_000)];
        let shares = film.shares(&chunks);
        // 15 and 25 million bits.
        let asked = [1_500_000, 2_500_000];
        assert_eq!(film.corrections(&shares, &asked, &[15_000_000, 22_000_000]), [(0, 1_800_000)]);
        assert_eq!(film.corrections(&shares, &asked, &[15_000_000, 24_900_000]), [], "near enough");
    }

    #[test]
    fn in_one_pass_all_are_given_the_films_rate_and_what_some_have_no_use_for() {
        let even = |film: Film, spent: [u64; 3]| {
            film.even(&[240, 480, 240], &spent).into_iter().map(|share| share.bits).collect::<Vec<_>>()
        };
        assert_eq!(even(FILM, [15_000_000, 45_000_000, 20_000_000]), [20_000_000.0, 40_000_000.0, 20_000_000.0]);
        assert_eq!(even(FILM, [5_000_000, 45_000_000, 20_000_000]), [5_000_000.0, 50_000_000.0, 25_000_000.0]);
        let bound = Film { maxrate_bps: Some(2_200_000), ..FILM };
        assert_eq!(even(bound, [5_000_000, 45_000_000, 20_000_000]), [5_000_000.0, 44_000_000.0, 22_000_000.0]);
        assert_eq!(even(FILM, [0, 0, 0]), [0.0, 0.0, 0.0], "a black film has no use for a rate");
    }

    #[test]
    fn headers_are_paid_for_at_any_rate() {
        let chunks = [chunk(0, 240, 10_000), chunk(1, 240, 10_000)];
        let starved = Film { bitrate_bps: 1_000, ..FILM }.shares(&chunks);
        assert!(starved.iter().all(|share| share.bits >= 240.0 * 200.0), "{starved:?}");
    }

    #[test]
    fn only_a_film_that_misses_its_rate_is_corrected_and_by_its_worst_chunks() {
        let chunks: Vec<Analysis> = (0..4).map(|n| chunk(n, 240, 20_000_000)).collect();
        let shares = FILM.shares(&chunks);
        let asked = [2_000_000; 4];
        let corrections = |spent: &[u64]| FILM.corrections(&shares, &asked, spent);
        let spent = |parts: [u64; 4]| parts.map(|part| 20_000_000 * part / 1000);
        assert_eq!(corrections(&spent([1009, 1009, 1009, 1009])), []);
        assert_eq!(corrections(&spent([1100, 900, 1000, 1000])), [], "the film as a whole is right");
        assert_eq!(corrections(&spent([1002, 980, 1100, 1000])), [(2, 1_818_000)]);
        assert_eq!(corrections(&spent([1000, 500, 800, 1001])), [(1, 4_000_000), (2, 2_500_000)]);
        assert_eq!(corrections(&spent([1000, 1, 1000, 1000]))[0], (1, 4_000_000), "never more than twice");
    }

    fn films() -> impl Strategy<Value = Vec<Analysis>> {
        let chunk = (1u64..2000, 0u64..80_000_000, 0u64..9_000_000, 0u64..200);
        prop::collection::vec(chunk, 1..40).prop_map(|chunks| {
            (0..)
                .zip(chunks)
                .map(|(chunk, (ticks, texture_bits, motion_bits, fixed))| Analysis {
                    chunk,
                    frames: ticks,
                    ticks,
                    // No picture is free.
                    texture_bits: texture_bits + 1000,
                    motion_bits,
                    fixed_bits: ticks * fixed,
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn shares_sum_to_the_films_bits(chunks in films(), bitrate_bps in 1_000_000u64..20_000_000) {
            let film = Film { bitrate_bps, ..FILM };
            let seconds: f64 = chunks.iter().map(|chunk| film.seconds(chunk.ticks)).sum();
            let target = float(bitrate_bps) * seconds;
            let shares = film.shares(&chunks);
            // As far as the range of steps reaches.
            let most: f64 = chunks.iter().map(|chunk| bits_at(chunk, FINEST_COARSEST.0)).sum();
            prop_assume!(most > target);
            prop_assert!((bits(&shares) - target).abs() < 1.0, "{} of {target}", bits(&shares));
            let asked: f64 = shares.iter().map(|share| float(share.asked_bps) * share.seconds).sum();
            // One grain a second of the longest chunk, and of those that are given more than their share for being above nothing.
            prop_assert!((asked - target).abs() <= GRAIN_BPS * seconds, "{asked} asked of {target}");
        }

        #[test]
        fn harder_chunks_are_given_more_and_the_others_less(
            chunks in films(), which in any::<prop::sample::Index>(), more in 1u64..9_000_000,
        ) {
            let before = FILM.shares(&chunks);
            let which = which.index(chunks.len());
            let mut harder = chunks.clone();
            harder[which].texture_bits += more;
            let after = FILM.shares(&harder);
            for (n, (before, after)) in before.iter().zip(&after).enumerate() {
                if n == which {
                    prop_assert!(after.bits >= before.bits - 1.0);
                } else {
                    prop_assert!(after.bits <= before.bits + 1.0);
                }
            }
        }

        #[test]
        fn no_chunk_is_given_more_than_maxrate(chunks in films(), max in 2_000_000u64..4_000_000) {
            let film = Film { maxrate_bps: Some(max), ..FILM };
            prop_assert!(film.shares(&chunks).iter().all(|share| share.asked_bps <= max));
        }
    }
}
