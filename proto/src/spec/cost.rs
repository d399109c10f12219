//! What an encode needs of memory.

use super::filter::{self, Filter};
use super::{VideoCodec, VideoSpec};

/// A picture of the largest size that is laid over a film, decoded and converted.
const OVERLAY_MIB: u64 = 192;

/// Fonts, and glyphs drawn of them.
const TEXT_MIB: u64 = 256;

/// MiB that the filters hold a million pixels: pictures they look at (up to 6 bytes a pixel), and what they compute in.
fn filters_mib(spec: &VideoSpec) -> u64 {
    const PICTURE: u64 = 6;
    let filters = spec.filters.iter().map(|filter| match filter {
        Filter::Named(named) => match (named.filter.as_str(), named.cycle()) {
            (_, Some(cycle)) => 2 * PICTURE * u64::from(cycle),
            // Three or four planes of floats.
            ("zscale" | "tonemap", _) => 4 * PICTURE,
            ("nlmeans" | "fieldmatch" | "pullup", _) => 10 * PICTURE,
            _ => {
                let reach = filter::reach(std::slice::from_ref(filter)).unwrap_or_default();
                (reach.behind + reach.ahead + 2) * PICTURE
            }
        },
        Filter::Format(_) => 2 * PICTURE,
        _ => 0,
    });
    filters.sum()
}

/// MiB of resident memory an encode of one chunk stays within: decoder and filters at the source's size, the encoder at the
/// output's, the process itself. `media/src/plan/README.md` has the measurements.
pub fn encode_memory_mib(spec: &VideoSpec, source_pixels: u64, output_pixels: u64, threads: u16) -> u64 {
    // Per million pixels: one thread's encoder, each further thread.
    let (encoder, thread) = match spec.codec {
        VideoCodec::Libx264 => (350, 45),
        VideoCodec::Libx265 => (420, 60),
        VideoCodec::Libsvtav1 => (800, 60),
        VideoCodec::LibvpxVp9 => (300, 20),
    };
    let per_megapixel = encoder + thread * u64::from(threads.max(1) - 1);
    let mib = |pixels: u64, per_megapixel: u64| pixels.saturating_mul(per_megapixel).div_ceil(1_000_000);
    let overlay = if spec.overlay.is_some() { OVERLAY_MIB } else { 0 };
    let text = if spec.burn_in().is_some() { TEXT_MIB } else { 0 };
    160 + overlay + text + mib(source_pixels, 120 + filters_mib(spec)) + mib(output_pixels, per_megapixel)
}

/// MiB that a look at the pictures stays within: the decoder as of an encode, and the table of packets.
pub fn scan_memory_mib(source_pixels: u64, packets: u64) -> u64 {
    // Of each packet: what the index says, its frame, and where decoding can be entered.
    const PACKET: u64 = 256;
    160 + source_pixels.saturating_mul(120).div_ceil(1_000_000) + packets.saturating_mul(PACKET).div_ceil(1 << 20)
}
