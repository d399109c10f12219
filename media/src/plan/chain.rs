//! The filter chain once the source is known: what was asked for with `--crop auto` and `--tonemap` in front of `-vf`.

use spool_proto::call::VideoFacts;
use spool_proto::failure::Warning;
use spool_proto::spec::{Filter, VideoSpec};

/// Transfer curves of HDR, by libav's names: PQ and HLG.
const HDR: [&str; 2] = ["smpte2084", "arib-std-b67"];

/// All that a picture goes through, in order. What was found, and what was asked for in vain, is told.
pub fn chain(spec: &VideoSpec, source: &VideoFacts, stream: u32, warnings: &mut Vec<Warning>) -> Vec<Filter> {
    let mut told = |code: &str, text: String| {
        warnings.push(Warning { code: code.into(), stream: Some(stream), text });
    };
    let mut chain = Vec::new();
    if spec.crop_bars {
        match source.crop {
            Some(crop) => {
                let filter = Filter::Crop { width: crop.width, height: crop.height, x: Some(crop.x), y: Some(crop.y) };
                told("crop_detected", format!("black bars are cropped, as with -vf {filter}"));
                chain.push(filter);
            }
            None => told("no_bars", "no black bars were found; nothing is cropped".into()),
        }
    }
    if let Some(curve) = spec.tonemap {
        let transfer = source.color_transfer.as_deref();
        if transfer.is_some_and(|transfer| HDR.contains(&transfer)) {
            chain.extend(curve.filters(spec.pix_fmt.as_deref().unwrap_or("yuv420p")));
        } else {
            let transfer = transfer.unwrap_or("not told");
            told("not_hdr", format!("it is not HDR (transfer curve: {transfer}); its colours stay as they are"));
        }
    }
    chain.extend(spec.filters.iter().cloned());
    chain
}

#[cfg(test)]
mod tests {
    use spool_proto::call::CropFacts;
    use spool_proto::spec::parse::{filters, filters_text};
    use spool_proto::spec::{Rational, ToneMap, VideoCodec};

    use super::*;

    fn source(transfer: Option<&str>, crop: Option<CropFacts>) -> VideoFacts {
        VideoFacts {
            width: 1920,
            height: 1080,
            pix_fmt: None,
            sample_aspect_ratio: Rational::new(1, 1),
            rotation: 0,
            frame_rate: None,
            average_frame_rate: None,
            field_order: None,
            color_range: None,
            color_primaries: None,
            color_transfer: transfer.map(Into::into),
            color_space: None,
            attached_picture: false,
            packets: None,
            tells_scenes: None,
            crop,
        }
    }

    #[test]
    fn what_is_found_goes_in_front_and_is_told() {
        let spec = VideoSpec {
            filters: filters("scale=1280:-2").expect("a chain"),
            crop_bars: true,
            tonemap: Some(ToneMap::Hable),
            ..VideoSpec::new(VideoCodec::Libx264)
        };
        let bars = CropFacts { width: 1920, height: 800, x: 0, y: 140 };
        for (source, expected, codes) in [
            (source(None, None), "scale=1280:-2", vec!["no_bars", "not_hdr"]),
            (source(Some("bt709"), Some(bars)), "crop=1920:800:0:140,scale=1280:-2", vec!["crop_detected", "not_hdr"]),
            (
                source(Some("smpte2084"), None),
                "zscale=transfer=linear:npl=100,format=gbrpf32le,zscale=primaries=bt709,tonemap=tonemap=hable:desat=0,\
                 zscale=transfer=bt709:matrix=bt709:range=limited,format=yuv420p,scale=1280:-2",
                vec!["no_bars"],
            ),
        ] {
            let mut warnings = Vec::new();
            assert_eq!(filters_text(&chain(&spec, &source, 0, &mut warnings)), expected);
            assert_eq!(warnings.iter().map(|w| w.code.as_str()).collect::<Vec<_>>(), codes);
        }
    }
}
