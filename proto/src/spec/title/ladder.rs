//! The automatic ladder: heights, and for each a quality with a ceiling on its rate (capped CRF).

use serde::{Deserialize, Serialize};

use super::{LadderSpec, Rendition};
use crate::spec::{Rational, ToneMap, VideoCodec, VideoSpec};

/// A rung: height, and the ceiling of H.264 at up to 30 frames a second, bits a second. Near what Apple's authoring
/// specification for HLS lists for its variants of these heights.
const RUNGS: [(u32, u64); 8] = [
    (2160, 16_800_000),
    (1440, 10_000_000),
    (1080, 6_000_000),
    (720, 3_500_000),
    (540, 2_000_000),
    (432, 1_200_000),
    (360, 730_000),
    (234, 350_000),
];

/// What of a source the ladder is laid to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    /// As it is shown.
    pub height: u32,
    pub rate: Rational,
    /// More than eight bits a sample.
    pub deep: bool,
    pub hdr: bool,
}

/// One rung: how good its pictures are, and what their rate may come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    pub codec: VideoCodec,
    pub height: u32,
    pub crf: f32,
    /// Bits a second, over the seconds that a decoder's buffer holds.
    pub ceiling_bps: u64,
}

/// Quality, and the rate against H.264's in hundredths, as commonly found at equal quality.
fn quality(codec: VideoCodec) -> (f32, u64) {
    match codec {
        VideoCodec::Libx264 => (21.0, 100),
        VideoCodec::Libx265 => (23.0, 65),
        VideoCodec::LibvpxVp9 => (31.0, 70),
        VideoCodec::Libsvtav1 => (32.0, 50),
    }
}

/// Seconds of the ceiling a decoder's buffer holds.
const BUFFER_SECONDS: u64 = 2;

/// The rungs for a source of this height and rate, the largest first. The source's own height is one of them where no rung is within a
/// tenth of it: what was filmed in 900 lines is not shown in 720 only.
pub(super) fn rungs(ladder: &LadderSpec, source: Source) -> Vec<Rendition> {
    let Source { height, rate, .. } = source;
    let most = ladder.max_height.unwrap_or(u32::MAX).min(height);
    let least = ladder.min_height.unwrap_or(0);
    let mut heights: Vec<u32> =
        RUNGS.iter().map(|(rung, _)| *rung).filter(|rung| *rung <= most && *rung >= least).collect();
    let near = |rung: u32| rung.abs_diff(most) * 10 <= most;
    if !heights.iter().any(|rung| near(*rung)) {
        heights.insert(0, most & !1);
    }
    let rungs = |codec: VideoCodec| {
        let (crf, percent) = quality(codec);
        heights.clone().into_iter().map(move |height| {
            let ceiling_bps = ceiling(height) * percent / 100 * hurry(rate) / 100;
            Rung { codec, height, crf, ceiling_bps }
        })
    };
    let rungs: Vec<Rung> = ladder.codecs.iter().copied().flat_map(rungs).collect();
    renditions(ladder, source, &rungs)
}

/// What rungs are encoded as, in their order. Those that have their codec and height in common are numbered.
pub(super) fn renditions(ladder: &LadderSpec, source: Source, rungs: &[Rung]) -> Vec<Rendition> {
    let rendition = |(at, rung): (usize, &Rung)| {
        let mut video = VideoSpec::new(rung.codec);
        video.preset.clone_from(&ladder.preset);
        video.crf = Some(rung.crf);
        set_pixels(&mut video, source);
        set_ceiling(&mut video, rung.ceiling_bps);
        let same = |other: &&Rung| (other.codec, other.height) == (rung.codec, rung.height);
        let number = match rungs[..at].iter().filter(same).count() {
            0 => String::new(),
            before => format!("-{}", before + 1),
        };
        let name = format!("{}-{}p{number}", short(rung.codec), rung.height);
        Rendition { name, height: Some(rung.height), video }
    };
    rungs.iter().enumerate().map(rendition).collect()
}

/// What players take: 4:2:0, in H.264 of 8 bits and SDR; the others keep ten bits and HDR.
fn set_pixels(video: &mut VideoSpec, source: Source) {
    let deep = source.deep && video.codec != VideoCodec::Libx264;
    video.pix_fmt = Some(if deep { "yuv420p10le" } else { "yuv420p" }.into());
    if source.hdr && !deep {
        video.tonemap = Some(ToneMap::Hable);
    }
}

fn set_ceiling(video: &mut VideoSpec, bps: u64) {
    if video.codec == VideoCodec::LibvpxVp9 {
        // Its constrained quality takes the ceiling as the rate.
        video.bitrate_bps = Some(bps);
    } else {
        video.maxrate_bps = Some(bps);
        video.bufsize_bits = Some(bps * BUFFER_SECONDS);
    }
}

/// Between two rungs by pixels, which go with the square of the height.
fn ceiling(height: u32) -> u64 {
    let square = |height: u32| u64::from(height) * u64::from(height);
    let above = RUNGS.iter().rev().find(|(rung, _)| *rung >= height).unwrap_or(&RUNGS[0]);
    above.1 * square(height) / square(above.0)
}

/// Hundredths: frames that follow each other faster are more alike, so that twice as many need half as much more.
fn hurry(rate: Rational) -> u64 {
    if rate.as_f64() > 32.0 { 150 } else { 100 }
}

/// What those who name files call the codec.
pub(super) fn short(codec: VideoCodec) -> &'static str {
    match codec {
        VideoCodec::Libx264 => "h264",
        VideoCodec::Libx265 => "hevc",
        VideoCodec::LibvpxVp9 => "vp9",
        VideoCodec::Libsvtav1 => "av1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(height: u32, rate: i32) -> Source {
        Source { height, rate: Rational::new(rate, 1), deep: false, hdr: false }
    }

    #[test]
    fn what_h264_players_do_not_show_is_brought_down() {
        let ladder = LadderSpec {
            codecs: vec![VideoCodec::Libx264, VideoCodec::Libx265],
            max_height: Some(360),
            min_height: Some(360),
            preset: None,
            per_title: false,
        };
        let made = |source| {
            let rungs = rungs(&ladder, source);
            rungs.iter().map(|r| (r.video.pix_fmt.clone().unwrap(), r.video.tonemap.is_some())).collect::<Vec<_>>()
        };
        let hdr = Source { deep: true, hdr: true, ..source(1080, 24) };
        assert_eq!(made(hdr), [("yuv420p".to_owned(), true), ("yuv420p10le".to_owned(), false)]);
        assert_eq!(made(source(1080, 24)), [("yuv420p".to_owned(), false), ("yuv420p".to_owned(), false)]);
    }

    fn heights(height: u32, ladder: &LadderSpec) -> Vec<u32> {
        rungs(ladder, source(height, 24)).iter().filter_map(|rung| rung.height).collect()
    }

    #[test]
    fn a_ladder_never_goes_above_the_source() {
        let ladder = LadderSpec {
            codecs: vec![VideoCodec::Libx264],
            max_height: None,
            min_height: None,
            preset: None,
            per_title: false,
        };
        assert_eq!(heights(1080, &ladder), [1080, 720, 540, 432, 360, 234]);
        assert_eq!(heights(800, &ladder), [720, 540, 432, 360, 234], "720 is within a tenth of 800");
        assert_eq!(heights(900, &ladder), [900, 720, 540, 432, 360, 234]);
        assert_eq!(heights(121, &ladder), [120]);
        let small = LadderSpec { max_height: Some(600), min_height: Some(300), ..ladder };
        assert_eq!(heights(1080, &small), [540, 432, 360]);
    }

    #[test]
    fn rungs_of_one_height_are_told_apart() {
        let ladder = LadderSpec {
            codecs: vec![VideoCodec::Libx264],
            max_height: None,
            min_height: None,
            preset: Some("slow".into()),
            per_title: true,
        };
        let rung = |height, crf| Rung { codec: VideoCodec::Libx264, height, crf, ceiling_bps: 900_000 };
        let made = renditions(&ladder, source(720, 24), &[rung(720, 24.0), rung(540, 26.5), rung(720, 30.0)]);
        let names: Vec<&str> = made.iter().map(|rendition| rendition.name.as_str()).collect();
        assert_eq!(names, ["h264-720p", "h264-540p", "h264-720p-2"]);
        assert_eq!((made[1].height, made[1].video.crf), (Some(540), Some(26.5)));
        assert_eq!((made[1].video.maxrate_bps, made[1].video.bufsize_bits), (Some(900_000), Some(1_800_000)));
        assert_eq!(made[1].video.preset.as_deref(), Some("slow"));
    }

    #[test]
    fn rates_fall_with_the_height_and_rise_with_the_frame_rate() {
        let ladder = LadderSpec {
            codecs: vec![VideoCodec::Libx264, VideoCodec::Libsvtav1],
            max_height: Some(1080),
            min_height: None,
            preset: None,
            per_title: false,
        };
        let slow = rungs(&ladder, source(1080, 24));
        let fast = rungs(&ladder, source(1080, 60));
        assert_eq!(slow.len(), 12);
        let rates: Vec<u64> = slow[..6].iter().filter_map(|rung| rung.video.maxrate_bps).collect();
        assert!(rates.is_sorted_by(|a, b| a > b), "{rates:?}");
        assert!(slow.iter().zip(&fast).all(|(slow, fast)| fast.video.maxrate_bps > slow.video.maxrate_bps));
        let names: std::collections::BTreeSet<&str> = slow.iter().map(|rung| rung.name.as_str()).collect();
        assert_eq!(names.len(), slow.len(), "each has its own folder");
    }
}
