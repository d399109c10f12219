//! Whether a source's pictures are scanned for changes of scene before it is cut, and in how many parts.

use super::{Cuts, EncodeSpec};
use crate::call::{MediaFacts, PARTS_MAX, SourceFacts, VideoFacts};

/// Frames of a part: a few seconds' work, so that the parts of one film keep many slots busy and end together.
const PART_FRAMES: u64 = 1_500;
/// Without being asked, no shorter film is scanned: where the few cuts of so short a one are matters little.
const SECONDS_LEAST: u64 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    pub parts: u32,
    /// Of one of them.
    pub memory_mib: u64,
}

impl Scan {
    /// Of a film's source, by what its probe found. `None`: it is cut by the index alone.
    pub fn of(spec: &EncodeSpec, source: &SourceFacts) -> Option<Scan> {
        spec.video.as_ref()?;
        // The probe counts the packets of the stream that is encoded.
        let videos = source.streams.iter().filter_map(|stream| match &stream.media {
            MediaFacts::Video(video) => Some(video),
            _ => None,
        });
        let (video, packets) = videos.filter_map(|video| Some((video, video.packets?))).next()?;
        let wanted = match spec.cuts {
            Cuts::Index => false,
            Cuts::Scan => packets > 0,
            Cuts::Auto => {
                spec.segment_frames.is_none() && video.tells_scenes == Some(false) && is_long(spec, video, packets)
            }
        };
        wanted.then(|| Scan {
            parts: u32::try_from(packets.div_ceil(PART_FRAMES)).unwrap_or(PARTS_MAX).clamp(1, PARTS_MAX),
            memory_mib: super::cost::scan_memory_mib(u64::from(video.width) * u64::from(video.height), packets),
        })
    }
}

fn is_long(spec: &EncodeSpec, video: &VideoFacts, packets: u64) -> bool {
    let rate = video.frame_rate.or(video.average_frame_rate).map_or(25.0, super::Rational::as_f64);
    #[expect(clippy::cast_precision_loss, reason = "a length in seconds, roughly")]
    let (seconds, least) = (packets as f64 / rate.max(0.01), SECONDS_LEAST as f64);
    seconds > least.max(spec.chunk.map_or(0.0, crate::time::Span::as_secs_f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::StreamFacts;
    use crate::spec::{Container, Rational, VideoCodec, VideoSpec};
    use crate::time::Span;

    fn source(packets: Option<u64>, tells_scenes: Option<bool>) -> SourceFacts {
        let video = |packets, tells_scenes| {
            serde_json::json!({
                "type": "video", "width": 1920, "height": 1080, "pix_fmt": null, "sample_aspect_ratio": {"num": 1, "den": 1}, "rotation": 0,
                "frame_rate": {"num": 25, "den": 1}, "average_frame_rate": null, "field_order": null, "color_range": null,
                "color_primaries": null, "color_transfer": null, "color_space": null, "attached_picture": false,
                "packets": packets, "tells_scenes": tells_scenes,
            })
        };
        let stream = |index, media: serde_json::Value| StreamFacts {
            index,
            codec: "prores".into(),
            profile: None,
            time_base: Rational::new(1, 25),
            start_pts: None,
            duration: None,
            bit_rate_bps: None,
            language: None,
            title: None,
            disposition: Vec::new(),
            tags: Vec::new(),
            jumps: Vec::new(),
            media: serde_json::from_value(media).unwrap(),
        };
        SourceFacts {
            format: "mov".into(),
            bytes: 0,
            start_us: None,
            duration_us: None,
            bit_rate_bps: None,
            // Another one that is not encoded.
            streams: vec![stream(0, video(None, None)), stream(1, video(packets, tells_scenes))],
            chapters: Vec::new(),
            tags: Vec::new(),
        }
    }

    #[test]
    fn what_is_scanned() {
        let video = Some(VideoSpec::new(VideoCodec::Libx264));
        let spec = EncodeSpec { video, ..EncodeSpec::new("file:///in", "file:///out.mkv", Container::Mkv) };
        let chunk = |seconds| EncodeSpec { chunk: Some(Span::from_secs(seconds)), ..spec.clone() };
        let cuts = |cuts| EncodeSpec { cuts, ..spec.clone() };
        let grid = |cuts| EncodeSpec { cuts, segment_frames: Some(48), ..spec.clone() };
        let none = EncodeSpec { video: None, ..cuts(Cuts::Scan) };
        for (what, spec, packets, tells, parts) in [
            ("an intra-only film", spec.clone(), Some(4_000), Some(false), Some(3)),
            ("one whose keyframes tell", spec.clone(), Some(4_000), Some(true), None),
            ("one that an older worker probed", spec.clone(), Some(4_000), None, None),
            ("a short one", spec.clone(), Some(250), Some(false), None),
            ("one chunk", chunk(200), Some(4_000), Some(false), None),
            ("several", chunk(100), Some(4_000), Some(false), Some(3)),
            ("on a grid", grid(Cuts::Auto), Some(4_000), Some(false), None),
            ("on a grid, as asked", grid(Cuts::Scan), Some(4_000), Some(false), Some(3)),
            ("by the index, as asked", cuts(Cuts::Index), Some(4_000), Some(false), None),
            ("by the pictures, as asked", cuts(Cuts::Scan), Some(20), Some(true), Some(1)),
            ("nothing", cuts(Cuts::Scan), Some(0), None, None),
            ("no pictures", none, Some(4_000), Some(false), None),
            ("no index", cuts(Cuts::Scan), None, None, None),
            ("days", cuts(Cuts::Scan), Some(1 << 40), Some(false), Some(PARTS_MAX)),
        ] {
            let scan = Scan::of(&spec, &source(packets, tells));
            assert_eq!(scan.map(|scan| scan.parts), parts, "{what}");
        }
    }
}
