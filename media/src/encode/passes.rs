//! One of an encoder's two passes: what it is told besides its settings, and the files it keeps from one to the other.
//!
//! The first pass keeps to one quality, the same in all chunks: then the bits it spends tell how the chunks compare. Its streams
//! are thrown away. The second spends what the chunk is given ([`Target`]).

use std::path::{Path, PathBuf};

use spool_proto::call::{EncodeArgs, Target};
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::{VideoCodec, VideoSpec};

use super::coder::{Opening, failed};
use crate::av::encoder::Encoder;
use crate::piece::Parameters;
use crate::{Host, params, scratch_failed};

/// Name of the first pass's statistics, as an artifact and as a file.
pub(super) const STATS: &str = "stats";
/// The same of what is known of blocks that later pictures are made of.
pub(super) const TREE: &str = "tree";

/// Which pass is made, and where its statistics are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Pass {
    Only,
    First(PathBuf),
    Second(PathBuf, Target),
}

impl Pass {
    /// With a target: fetches what the first pass left.
    pub fn of(args: &EncodeArgs, host: &mut dyn Host) -> Result<Pass, Failure> {
        let (Some(target), Some(video)) = (args.target, &args.spec.video) else { return Ok(Pass::Only) };
        let stats = host.scratch().join(STATS);
        // The last input is an overlay's picture.
        let inputs = host.inputs() - usize::from(video.overlay.is_some());
        for (input, path) in [(2, stats.clone()), (3, tree(&stats, video.codec))] {
            if input < inputs {
                let mut from = host.open(input)?;
                let mut to = std::fs::File::create(&path).map_err(|e| scratch_failed(&path, &e))?;
                std::io::copy(&mut from, &mut to).map_err(|e| scratch_failed(&path, &e))?;
            }
        }
        Ok(Pass::Second(stats, target))
    }

    /// The encoder's settings in this pass.
    fn settings(&self, video: &VideoSpec, threads: u16) -> params::Encoder {
        match self {
            Pass::Only => params::video(video, threads),
            Pass::First(stats) => {
                // A rate buffer would bend the quality.
                let crf = Some(first_pass_crf(video.codec));
                let even = VideoSpec { crf, bitrate_bps: None, maxrate_bps: None, bufsize_bits: None, ..video.clone() };
                params::video(&even, threads).in_pass(1, stats)
            }
            Pass::Second(stats, target) => {
                let own = VideoSpec { bitrate_bps: Some(target.bitrate_bps), ..video.clone() };
                params::video(&own, threads).in_pass(2, stats)
            }
        }
    }
}

/// Where the encoder looks for it.
pub(super) fn tree(stats: &Path, codec: VideoCodec) -> PathBuf {
    let suffix = if codec == VideoCodec::Libx265 { ".cutree" } else { ".mbtree" };
    let mut name = stats.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The encoders' own defaults, in the middle of what people ask for.
fn first_pass_crf(codec: VideoCodec) -> f32 {
    if codec == VideoCodec::Libx265 { 28.0 } else { 23.0 }
}

/// Opens a chunk's encoder, and says what its stream is: the same of all chunks of a film, though each has a rate of its own.
pub(super) fn open(
    opening: &Opening,
    video: &VideoSpec,
    threads: u16,
    pass: &Pass,
) -> Result<(Encoder, Parameters), Failure> {
    let with = |settings: params::Encoder| opening.encoder(video.codec, settings);
    let settings = pass.settings(video, threads);
    let Pass::Second(_, target) = pass else {
        let encoder = with(settings)?;
        let parameters = encoder.parameters().map_err(failed)?;
        return Ok((encoder, parameters));
    };
    // Left alone, an encoder would choose the level by the chunk's own rate.
    let peak = VideoSpec { bitrate_bps: Some(target.peak_bps), ..video.clone() };
    let peak = with(params::video(&peak, threads).in_main_tier())?;
    let level = level(video.codec, &peak.parameters().map_err(failed)?.extradata).ok_or_else(|| {
        let message = format!("{} wrote headers that tell no level", video.codec);
        Failure::new(Class::Internal, "encoder_failed", message)
    })?;
    let film = with(params::video(video, threads).at_level(level))?.parameters().map_err(failed)?;
    let encoder = with(settings.at_level(level))?;
    let own = encoder.parameters().map_err(failed)?;
    Ok((encoder, Parameters { bit_rate: film.bit_rate, side_data: film.side_data, ..own }))
}

/// H.264's `level_idc`, HEVC's `general_level_idc`, from headers with start codes.
fn level(codec: VideoCodec, headers: &[u8]) -> Option<u8> {
    crate::bitstream::annex_b(headers).find_map(|nal| match codec {
        VideoCodec::Libx264 => match *nal.get(..4)? {
            [header, profile, constraints, level] if header & 0x1f == H264_SPS => {
                // Level 1b, as baseline, main and extended write it.
                let is_1b = level == 11 && constraints & 0x10 != 0 && matches!(profile, 66 | 77 | 88);
                Some(if is_1b { 9 } else { level })
            }
            _ => None,
        },
        VideoCodec::Libx265 if nal.first()? >> 1 & 0x3f == HEVC_VPS => {
            // NAL header 2, numbers and flags 4, profile 1, compatibility 4, constraints 6.
            unescaped(nal).nth(17)
        }
        _ => None,
    })
}

const H264_SPS: u8 = 7;
const HEVC_VPS: u8 = 32;

/// Without the bytes that keep start codes from appearing.
fn unescaped(nal: &[u8]) -> impl Iterator<Item = u8> {
    let escape = |at: usize| at >= 2 && nal[at - 2..=at] == [0, 0, 3];
    nal.iter().enumerate().filter(move |(at, _)| !escape(*at)).map(|(_, byte)| *byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_from_headers() {
        let avc = |sps: [u8; 4]| [&[0, 0, 0, 1][..], &sps, &[0xac, 0, 0, 0, 1, 0x68]].concat();
        for (sps, expected) in
            [([0x67, 100, 0, 31], 31), ([0x67, 66, 0xc0, 40], 40), ([0x67, 77, 0x10, 11], 9), ([0x67, 77, 0, 11], 11)]
        {
            assert_eq!(level(VideoCodec::Libx264, &avc(sps)), Some(expected));
        }
        assert_eq!(level(VideoCodec::Libx264, &[0, 0, 1, 0x68, 1, 2, 3]), None, "no sequence parameters");
        let vps = [0, 0, 0, 1, 0x40, 1, 0x0c, 1, 0xff, 0xff, 1, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x78];
        assert_eq!(level(VideoCodec::Libx265, &vps), Some(120));
    }
}
