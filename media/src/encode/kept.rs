//! What pictures carry beside their pixels, and which encoders keep it. What is lost is told.

use spool_proto::failure::Warning;
use spool_proto::spec::VideoCodec;

use crate::av::frame::{Beside, Frame};
use crate::params;

/// What was seen on the pictures of a chunk.
#[derive(Debug, Clone, Default)]
pub(super) struct Carried(Vec<Beside>);

impl Carried {
    pub fn look(&mut self, frame: &Frame) {
        for kind in Beside::ALL {
            if !self.0.contains(&kind) && frame.carries(kind) {
                self.0.push(kind);
            }
        }
    }

    /// One for each kind that `codec` does not keep; the same words for every chunk, so that a job says them once.
    pub fn warnings(&self, stream: u32, codec: VideoCodec) -> Vec<Warning> {
        let encoder = params::encoder_name(codec);
        let lost = self.0.iter().filter(|kind| !keeps(codec, **kind));
        lost.map(|kind| {
            let (code, text) = match kind {
                Beside::Captions => (
                    "captions_dropped",
                    format!("its pictures carry captions (CEA-608/708), which {encoder} does not keep; libx264 does"),
                ),
                Beside::DynamicHdr => (
                    "dynamic_hdr_dropped",
                    format!("its pictures carry HDR10+ metadata, which {encoder} does not keep: what remains is HDR10"),
                ),
                Beside::DolbyVision => (
                    "dolby_vision_dropped",
                    "the source carries Dolby Vision, which does not survive re-encoding: the film keeps the base layer"
                        .to_owned(),
                ),
            };
            Warning { code: code.into(), stream: Some(stream), text }
        })
        .collect()
    }
}

/// FFmpeg 5.1's wrappers: x264's writes captions, none writes dynamic metadata.
fn keeps(codec: VideoCodec, kind: Beside) -> bool {
    kind == Beside::Captions && codec == VideoCodec::Libx264
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_encoder_keeps_is_not_warned_of() {
        let carried = Carried(vec![Beside::Captions, Beside::DynamicHdr]);
        let codes = |codec| -> Vec<String> { carried.warnings(0, codec).into_iter().map(|w| w.code).collect() };
        assert_eq!(codes(VideoCodec::Libx264), ["dynamic_hdr_dropped"]);
        assert_eq!(codes(VideoCodec::Libx265), ["captions_dropped", "dynamic_hdr_dropped"]);
    }
}
