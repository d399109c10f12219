//! What an encode needs: picture size, memory.

use spool_proto::call::VideoFacts;
use spool_proto::spec::filter::{self, Named};
use spool_proto::spec::{Filter, Pixels, VideoCodec, VideoSpec};

/// A picture of the largest size that is laid over a film, decoded and converted.
const OVERLAY_MIB: u64 = 192;

/// Fonts, and glyphs drawn of them.
const TEXT_MIB: u64 = 256;

/// Width and height of the output, as ffmpeg's filters make them of the source.
pub fn output_size(source: &VideoFacts, spec: &VideoSpec) -> (u32, u32) {
    let turned = source.rotation.rem_euclid(180) == 90;
    let (mut width, mut height) = if turned { (source.height, source.width) } else { (source.width, source.height) };
    for filter in &spec.filters {
        (width, height) = match filter {
            Filter::Scale { width: w, height: h, .. } => scaled((width, height), *w, *h),
            Filter::Crop { width, height, .. } | Filter::Pad { width, height, .. } => (*width, *height),
            Filter::Fps(_) | Filter::Format(_) | Filter::Subtitles(_) => (width, height),
            Filter::Named(named) => named_size(named, (width, height)),
        };
    }
    spec.size.map_or((width, height), |size| (size.width, size.height))
}

fn named_size(filter: &Named, (width, height): (u32, u32)) -> (u32, u32) {
    let side = |name| filter.get(name).and_then(|side| side.parse().ok()).unwrap_or(0);
    match filter.filter.as_str() {
        "transpose" => (height, width),
        "zscale" => scaled((width, height), side("width"), side("height")),
        _ => (width, height),
    }
}

/// `ff_scale_adjust_dimensions` of libavfilter: 0 keeps a side, −n follows the other side in multiples of n.
fn scaled(input: (u32, u32), width: Pixels, height: Pixels) -> (u32, u32) {
    let side = |wanted: Pixels, kept: u32| match wanted {
        0 => Some(kept),
        1.. => Some(wanted.unsigned_abs()),
        _ => None,
    };
    let follow = |other: u32, own_in: u32, other_in: u32, multiple: u32| {
        let (scaled, step) = (u64::from(other) * u64::from(own_in), u64::from(other_in.max(1)) * u64::from(multiple));
        u32::try_from((scaled + step / 2) / step * u64::from(multiple)).unwrap_or(u32::MAX)
    };
    match (side(width, input.0), side(height, input.1)) {
        (Some(w), Some(h)) => (w, h),
        (None, Some(h)) => (follow(h, input.0, input.1, width.unsigned_abs()), h),
        (Some(w), None) => (w, follow(w, input.1, input.0, height.unsigned_abs())),
        (None, None) => input,
    }
}

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
/// output's, the process itself. README.md has the measurements.
pub fn memory_mib(spec: &VideoSpec, source_pixels: u64, output_pixels: u64, threads: u16) -> u64 {
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
