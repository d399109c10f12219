//! What x264 and x265 note of a first pass: a line a frame, of fields `name:value`.

use spool_proto::call::Analysis;

/// Units of `dur` a frame of the constant rate lasts in: fields.
const FIELDS: u64 = 2;

/// Sums the frames up. `None`: the text is not of that kind.
pub(super) fn read(text: &str, chunk: u32) -> Option<Analysis> {
    let mut sum = Analysis { chunk, frames: 0, ticks: 0, texture_bits: 0, motion_bits: 0, fixed_bits: 0 };
    let mut fields = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let field = |name: &str| {
            let found = line.split([' ', ';']).find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
            found.and_then(|value| value.parse::<u64>().ok())
        };
        sum.frames += 1;
        sum.texture_bits += field("tex")?;
        sum.motion_bits += field("mv")?;
        sum.fixed_bits += field("misc")?;
        // x265 takes all frames to be of one length and notes none.
        fields += field("dur").unwrap_or(FIELDS);
    }
    sum.ticks = fields.div_ceil(FIELDS);
    (sum.frames > 0).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_summed() {
        let x264 = "#options: 640x360 fps=24/1 timebase=1/24\n\
                    in:0 out:0 type:I dur:2 cpbdur:2 q:15.12 aq:10.05 tex:8000 mv:700 misc:124 imb:9 d:- ref:;\n\
                    in:4 out:1 type:P dur:6 cpbdur:2 q:18.00 aq:14.00 tex:500 mv:300 misc:60 imb:0 d:- ref:0 ;\n";
        let expected =
            Analysis { chunk: 3, frames: 2, ticks: 4, texture_bits: 8500, motion_bits: 1000, fixed_bits: 184 };
        assert_eq!(read(x264, 3), Some(expected));
        let x265 =
            "#options: fps=24/1\nin:0 out:0 type:I q:33.26 q-aq:24.97 tex:147659 mv:14864 misc:962 icu:9.0 sc:0 ;\n";
        let expected =
            Analysis { chunk: 0, frames: 1, ticks: 1, texture_bits: 147_659, motion_bits: 14_864, fixed_bits: 962 };
        assert_eq!(read(x265, 0), Some(expected));
    }

    #[test]
    fn other_texts_are_none() {
        for text in ["", "#options: fps=24/1\n", "in:0 out:0 type:I tex:1 misc:3\n"] {
            assert_eq!(read(text, 0), None, "{text:?}");
        }
    }
}
