//! What an encode makes of the picture's size.

use spool_proto::call::VideoFacts;
use spool_proto::spec::filter::Named;
use spool_proto::spec::{Filter, Pixels, VideoSpec};

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
