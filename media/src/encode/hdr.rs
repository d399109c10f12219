//! HDR10 metadata into the encoders: ffmpeg 5.1 loses it on re-encoding.

use spool_proto::spec::{Rational, VideoCodec};

use crate::av::frame::{ContentLight, MasteringDisplay};
use crate::av::packet::{SIDE_CONTENT_LIGHT as LIGHT, SIDE_MASTERING_DISPLAY as MASTERING};
use crate::piece::{Kind, Parameters};

/// `AVColorTransferCharacteristic`: PQ and HLG.
const PQ: i32 = 16;
const HLG: i32 = 18;

pub(crate) fn is_hdr(kind: i32) -> bool {
    kind == MASTERING || kind == LIGHT
}

/// An HDR source whose pictures come out as SDR: what is known of its mastering display and light levels no longer holds. Takes the
/// transfer curve of the pictures that come out.
pub(crate) fn is_brought_down(source: Option<&Parameters>, transfer: i32) -> bool {
    let is_hdr = |transfer| matches!(transfer, PQ | HLG);
    let was_hdr =
        matches!(source, Some(Parameters { kind: Kind::Video { color_transfer, .. }, .. }) if is_hdr(*color_transfer));
    was_hdr && !is_hdr(transfer)
}

/// Both, from a stream's side data.
pub(super) fn read(side_data: &[(i32, Vec<u8>)]) -> (Option<MasteringDisplay>, Option<ContentLight>) {
    let of = |kind| side_data.iter().find(|(k, _)| *k == kind).map(|(_, bytes)| bytes.as_slice());
    (of(MASTERING).and_then(MasteringDisplay::read), of(LIGHT).and_then(ContentLight::read))
}

/// Adds what the encoder can write into its bitstream. VP9 has no place for it: there the container alone tells.
pub(super) fn add(
    options: &mut [(&'static str, String)],
    codec: VideoCodec,
    mastering: Option<&MasteringDisplay>,
    light: Option<&ContentLight>,
) {
    let (list, display, level) = match codec {
        VideoCodec::Libx264 => ("x264-params", mastering.and_then(in_units), light.map(|l| ("cll", l))),
        VideoCodec::Libx265 => ("x265-params", mastering.and_then(in_units), light.map(|l| ("max-cll", l))),
        VideoCodec::Libsvtav1 => {
            ("svtav1-params", mastering.and_then(in_fractions), light.map(|l| ("content-light", l)))
        }
        VideoCodec::LibvpxVp9 => return,
    };
    let Some((_, value)) = options.iter_mut().find(|(name, _)| *name == list) else { return };
    let name = if codec == VideoCodec::Libsvtav1 || codec == VideoCodec::Libx264 {
        "mastering-display"
    } else {
        "master-display"
    };
    if let Some(display) = display {
        value.push_str(&format!(":{name}={display}"));
    }
    if let Some((name, light)) = level {
        value.push_str(&format!(":{name}={},{}", light.max_content, light.max_average));
    }
}

/// x264 and x265: whole numbers of 0.00002 (chromaticity) and 0.0001 cd/m² (luminance).
fn in_units(display: &MasteringDisplay) -> Option<String> {
    let scaled = |value: Rational, per: i64| {
        // Both parts are 32 bits wide, and den > 0 was checked when it was read.
        ((i64::from(value.num) * per + i64::from(value.den) / 2) / i64::from(value.den)).to_string()
    };
    text(display, |value| scaled(value, 50_000), |value| scaled(value, 10_000))
}

/// SVT-AV1: decimal fractions.
fn in_fractions(display: &MasteringDisplay) -> Option<String> {
    text(display, |value| format!("{:.5}", value.as_f64()), |value| format!("{:.4}", value.as_f64()))
}

fn text(
    display: &MasteringDisplay,
    colour: impl Fn(Rational) -> String,
    luminance: impl Fn(Rational) -> String,
) -> Option<String> {
    let [red, green, blue] = display.primaries?;
    let white = display.white?;
    let [lowest, highest] = display.luminance?;
    let point = |name: &str, [x, y]: [Rational; 2]| format!("{name}({},{})", colour(x), colour(y));
    Some(format!(
        "{}{}{}{}L({},{})",
        point("G", green),
        point("B", blue),
        point("R", red),
        point("WP", white),
        luminance(highest),
        luminance(lowest)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn display() -> MasteringDisplay {
        let r = |num| Rational::new(num, 50_000);
        MasteringDisplay {
            primaries: Some([[r(35_400), r(14_600)], [r(8_500), r(39_850)], [r(6_550), r(2_300)]]),
            white: Some([r(15_635), r(16_450)]),
            luminance: Some([Rational::new(50, 10_000), Rational::new(1000, 1)]),
        }
    }

    #[test]
    fn each_encoder_is_told_in_its_own_words() {
        let light = ContentLight { max_content: 1000, max_average: 400 };
        let told = |codec, name| {
            let mut options = vec![(name, "a=1".to_owned())];
            add(&mut options, codec, Some(&display()), Some(&light));
            options.remove(0).1
        };
        assert_eq!(
            told(VideoCodec::Libx265, "x265-params"),
            "a=1:master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50):max-cll=1000,400"
        );
        assert_eq!(
            told(VideoCodec::Libsvtav1, "svtav1-params"),
            "a=1:mastering-display=G(0.17000,0.79700)B(0.13100,0.04600)R(0.70800,0.29200)WP(0.31270,0.32900)\
             L(1000.0000,0.0050):content-light=1000,400"
        );
    }

    #[test]
    fn half_a_description_is_not_told() {
        let mut options = vec![("x265-params", "a=1".to_owned())];
        let half = MasteringDisplay { luminance: None, ..display() };
        add(&mut options, VideoCodec::Libx265, Some(&half), None);
        assert_eq!(options[0].1, "a=1");
    }
}
