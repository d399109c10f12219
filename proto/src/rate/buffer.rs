//! A decoder's buffer over a film in chunks: how full each chunk's encoder is told it finds it, and which chunks are made once more
//! because the joined film would ask more of it than is there. Pure.
//!
//! A chunk that finds at least as much as its encoder was told keeps within the buffer, if its encoder does. So the film is gone through from its
//! start: a chunk that finds too little is made again and told the truth. It then takes less, so those behind it find no less than before.

use crate::call::BufferTarget;
use crate::spec::VideoCodec;
use crate::vbv::{BufferUse, RateBuffer};

/// What a chunk's encoder is told before anything is known, in thousandths of the buffer. Measured, see `docs/decisions/`: told more,
/// many chunks find less; told less, all of them begin poorly.
const FIRST_PERMILLE: u64 = 700;
/// An encoder that took more than it was told is shown a buffer that is smaller by that, and by this part of it.
const RESERVE_MORE: i64 = 4;

/// A chunk that was encoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    pub used: BufferUse,
    /// Ticks from its last frame to the first of the next chunk.
    pub gap: i64,
    pub told: Option<BufferTarget>,
}

/// Whether the encoder steers by a decoder's buffer. libvpx and SVT-AV1 take the same options as bounds of their averages.
fn steers(codec: VideoCodec) -> bool {
    matches!(codec, VideoCodec::Libx264 | VideoCodec::Libx265)
}

/// What a chunk's encoder is told at first. `None`: its own start.
pub(super) fn first(buffer: &RateBuffer, chunk: usize, codec: VideoCodec) -> Option<BufferTarget> {
    if chunk == 0 || !steers(codec) {
        return None;
    }
    Some(BufferTarget { start_bits: buffer.bufsize_bits.saturating_mul(FIRST_PERMILLE) / 1000, reserve_bits: 0 })
}

/// Chunks to be made again, and what their encoders are to be told. In film order.
pub(super) fn corrections(buffer: &RateBuffer, chunks: &[Chunk], codec: VideoCodec) -> Vec<(usize, BufferTarget)> {
    if !steers(codec) {
        return Vec::new();
    }
    let mut again = Vec::new();
    let mut found = buffer.initial();
    for (number, chunk) in chunks.iter().enumerate() {
        if chunk.used.low(found) < -buffer.slack() {
            again.push((number, correction(buffer, chunk, found)));
        }
        found = buffer.filled(chunk.used.left_waiting(found), chunk.gap);
    }
    again
}

/// `found`: what is in the buffer when the chunk begins.
fn correction(buffer: &RateBuffer, chunk: &Chunk, found: i64) -> BufferTarget {
    let told = chunk.told.map_or(buffer.initial(), |told| buffer.parts(told.start_bits));
    // What it would have lacked had it found what it was told.
    let taken = chunk.used.low(told).min(0).saturating_neg();
    let reserve = buffer.bits(taken.saturating_add(taken / RESERVE_MORE));
    let bits = |parts: i64| u64::try_from(parts).unwrap_or(0);
    BufferTarget {
        start_bits: bits(buffer.bits(found.max(0))),
        reserve_bits: chunk.told.map_or(0, |told| told.reserve_bits).saturating_add(bits(reserve)),
    }
}

#[cfg(test)]
mod tests {
    use crate::spec::Rational;

    use super::*;

    const BUFFER: RateBuffer =
        RateBuffer { maxrate_bps: 240_000, bufsize_bits: 100_000, frame_rate: Rational::new(24, 1) };

    /// A chunk of frames of so many bits, told so much.
    fn chunk(bits: &[u64], start_bits: u64) -> Chunk {
        let frames = bits.iter().map(|bits| bits / 8).zip(0..);
        let told = Some(BufferTarget { start_bits, reserve_bits: 0 });
        Chunk { used: BUFFER.run(frames).expect("it has frames"), gap: 1, told }
    }

    fn again(chunks: &[Chunk]) -> Vec<(usize, u64, u64)> {
        let all = corrections(&BUFFER, chunks, VideoCodec::Libx264);
        all.into_iter().map(|(chunk, told)| (chunk, told.start_bits, told.reserve_bits)).collect()
    }

    #[test]
    fn a_film_that_keeps_within_its_buffer_is_left_alone() {
        let easy = [8_000; 6];
        assert_eq!(again(&[chunk(&easy, 70_000), chunk(&[64_000, 8_000], 70_000), chunk(&easy, 70_000)]), []);
    }

    #[test]
    fn a_chunk_that_finds_less_than_it_was_told_is_told_what_it_finds() {
        // 90,000 at the start; 80,000 are taken, 10,000 come in: the next finds 20,000.
        let hungry = chunk(&[80_000], 90_000);
        assert_eq!(again(&[hungry, chunk(&[64_000], 70_000)]), [(1, 20_000, 0)]);
        // The one behind it finds what is left once it took no more than it found.
        let behind = chunk(&[16_000], 70_000);
        assert_eq!(again(&[hungry, chunk(&[64_000], 70_000), behind]), [(1, 20_000, 0), (2, 10_000, 0)]);
    }

    #[test]
    fn an_encoder_that_took_more_than_it_was_told_is_shown_a_smaller_buffer() {
        let wild = chunk(&[80_000], 70_000);
        assert_eq!(again(&[chunk(&[8_000], 90_000), wild]), [], "it found more, which was enough");
        assert_eq!(again(&[chunk(&[80_000], 90_000), wild]), [(1, 20_000, 12_500)]);
    }

    #[test]
    fn encoders_without_a_buffer_are_not_asked_again() {
        let chunks = [chunk(&[80_000], 90_000), chunk(&[64_000], 70_000)];
        assert_eq!(corrections(&BUFFER, &chunks, VideoCodec::Libsvtav1), []);
        assert_eq!(first(&BUFFER, 1, VideoCodec::LibvpxVp9), None);
    }
}
