//! The rate of a film in chunks: what is asked of each chunk's encoder beside the spec, and which chunks are made again because the
//! film as a whole misses its rate ([`film`]) or a decoder's buffer ([`buffer`]). What is asked follows from what was answered before,
//! round by round. Pure.

mod buffer;
mod film;

use serde::{Deserialize, Serialize};

use crate::call::{Analysis, BufferTarget, Target, TrackManifest, VideoPlan};
use crate::spec::VideoSpec;
use crate::vbv::RateBuffer;
use crate::view::FilmRate;
use film::{Film, Share};

/// Rounds in which chunks are made again.
const ROUNDS_MAX: u32 = 3;
/// Of these, those that correct the rate.
const RATE_ROUNDS_MAX: u32 = 2;

/// What is asked of a chunk's encoder beside the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ask {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate_bps: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer: Option<BufferTarget>,
}

/// The control of one film.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Of each chunk, in film order.
    pub asks: Vec<Ask>,
    /// Rounds that are over.
    rounds: u32,
    /// Of the film's bits, where there is a rate to meet and it is known what chunks need.
    shares: Vec<Share>,
}

impl Control {
    /// `analyses`: first passes, in film order; none where there is one pass.
    pub fn new(video: &VideoSpec, plan: &VideoPlan, analyses: &[Analysis]) -> Control {
        let mut asks = vec![Ask::default(); plan.chunks.len()];
        if let Some(buffer) = RateBuffer::of(video, plan.frame_rate) {
            let starts = asks.iter_mut().enumerate();
            starts.for_each(|(chunk, ask)| ask.buffer = buffer::first(&buffer, chunk, video.codec));
        }
        let mut shares = Vec::new();
        if let Some(film) = rate_of(video, plan).filter(|_| !analyses.is_empty()) {
            shares = film.shares(analyses);
            for (ask, share) in asks.iter_mut().zip(&shares) {
                ask.bitrate_bps = Some(share.asked_bps);
            }
        }
        Control { asks, rounds: 0, shares }
    }

    /// What a chunk's encoder is told of the film's rate.
    pub fn target(&self, chunk: usize) -> Option<Target> {
        self.asks[chunk].bitrate_bps.map(|bitrate_bps| film::target(&self.shares, bitrate_bps))
    }

    /// Another round is over: `pieces` is what counts of each chunk now, in film order. Which are to be made again, with what is now
    /// asked of them; none when the film is as it should be, or as near as it gets.
    pub fn after(&mut self, video: &VideoSpec, plan: &VideoPlan, pieces: &[&TrackManifest]) -> Vec<usize> {
        if self.rounds >= ROUNDS_MAX {
            return Vec::new();
        }
        let mut asks = self.asks.clone();
        if let Some(film) = rate_of(video, plan) {
            let spent: Vec<u64> = pieces.iter().map(|piece| piece.bytes.saturating_mul(8)).collect();
            if self.shares.is_empty() {
                let ticks: Vec<u64> = (0..pieces.len()).map(|chunk| ticks(pieces, chunk)).collect();
                self.shares = film.even(&ticks, &spent);
            }
            if self.rounds < RATE_ROUNDS_MAX {
                let asked: Vec<u64> = asks.iter().map(|ask| ask.bitrate_bps.unwrap_or(film.bitrate_bps)).collect();
                for (chunk, bitrate_bps) in film.corrections(&self.shares, &asked, &spent) {
                    asks[chunk].bitrate_bps = Some(bitrate_bps);
                }
            }
        }
        if let (Some(buffer), Some(uses)) = (RateBuffer::of(video, plan.frame_rate), self.uses(pieces)) {
            for (chunk, told) in buffer::corrections(&buffer, &uses, video.codec) {
                asks[chunk].buffer = Some(told);
            }
        }
        let again = (0..asks.len()).filter(|chunk| asks[*chunk] != self.asks[*chunk]).collect();
        self.asks = asks;
        self.rounds += 1;
        again
    }

    /// What each chunk does to the decoder's buffer. `None`: workers of an older release did not say.
    fn uses(&self, pieces: &[&TrackManifest]) -> Option<Vec<buffer::Chunk>> {
        let gap = |chunk: usize| {
            let next = pieces.get(chunk + 1).and_then(|piece| piece.first_pts);
            next.zip(pieces[chunk].last_pts).map_or(0, |(next, last)| next - last)
        };
        let uses = pieces.iter().enumerate().map(|(chunk, piece)| {
            piece.buffer.map(|used| buffer::Chunk { used, gap: gap(chunk), told: self.asks[chunk].buffer })
        });
        uses.collect()
    }
}

/// The rate that is to be met. `None`: there is none.
fn rate_of(video: &VideoSpec, plan: &VideoPlan) -> Option<Film> {
    let bitrate_bps = video.bitrate_bps.filter(|_| video.crf.is_none())?;
    Some(Film {
        bitrate_bps,
        maxrate_bps: video.maxrate_bps,
        frame_rate: plan.frame_rate,
        tolerance: if video.two_pass { film::TWO_PASSES } else { film::ONE_PASS },
    })
}

/// From the first frame of a chunk to that of the next, in frames of the constant rate.
fn ticks(pieces: &[&TrackManifest], chunk: usize) -> u64 {
    let first = |chunk: usize| pieces.get(chunk).and_then(|piece| piece.first_pts);
    let end = first(chunk + 1).or_else(|| Some(pieces[chunk].last_pts? + 1));
    first(chunk).zip(end).and_then(|(first, end)| u64::try_from(end - first).ok()).unwrap_or(0)
}

/// With `-b:v` alone: what it came to over the whole film.
pub fn average(video: &VideoSpec, plan: &VideoPlan, pieces: &[&TrackManifest]) -> Option<FilmRate> {
    let target_bps = rate_of(video, plan)?.bitrate_bps;
    let bits: u128 = pieces.iter().map(|piece| u128::from(piece.bytes) * 8).sum();
    let ticks: u128 = (0..pieces.len()).map(|chunk| u128::from(ticks(pieces, chunk))).sum();
    let per_second =
        (u128::try_from(plan.frame_rate.num).unwrap_or(0), u128::try_from(plan.frame_rate.den).unwrap_or(0));
    let average = (bits * per_second.0).checked_div(ticks * per_second.1)?;
    Some(FilmRate { target_bps, average_bps: u64::try_from(average).unwrap_or(u64::MAX) })
}
