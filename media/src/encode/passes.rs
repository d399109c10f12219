//! One of an encoder's passes: what it is told besides its settings, and the files it keeps from one to the other.
//!
//! The first pass keeps to one quality, the same in all chunks: then the bits it spends tell how the chunks compare. Its streams
//! are thrown away. The second spends what the chunk is given (its [target](EncodeArgs::target)).

use std::path::{Path, PathBuf};

use spool_proto::call::{BufferTarget, EncodeArgs};
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
    Second(PathBuf),
}

impl Pass {
    /// Of a second pass: fetches what the first one left.
    pub fn of(args: &EncodeArgs, host: &mut dyn Host) -> Result<Pass, Failure> {
        let (Some(_), Some(video)) = (args.target, args.spec.video.as_ref().filter(|video| video.two_pass)) else {
            return Ok(Pass::Only);
        };
        let stats = host.scratch().join(STATS);
        let inputs = host.inputs().saturating_sub(super::extra_inputs(&args.spec));
        for (input, path) in [(2, stats.clone()), (3, tree(&stats, video.codec))] {
            if input < inputs {
                let mut from = host.open(input)?;
                let mut to = std::fs::File::create(&path).map_err(|e| scratch_failed(&path, &e))?;
                std::io::copy(&mut from, &mut to).map_err(|e| scratch_failed(&path, &e))?;
            }
        }
        Ok(Pass::Second(stats))
    }

    /// The encoder's settings in this pass.
    fn settings(&self, args: &EncodeArgs, video: &VideoSpec) -> params::Encoder {
        if let Pass::First(stats) = self {
            // A rate buffer would bend the quality.
            let crf = Some(first_pass_crf(video.codec));
            let even = VideoSpec { crf, bitrate_bps: None, maxrate_bps: None, bufsize_bits: None, ..video.clone() };
            return params::video(&even, args.threads).in_pass(1, stats);
        }
        let buffer = args.buffer.zip(video.bufsize_bits).map(|(told, size)| Told::of(told, size));
        let own = VideoSpec {
            crf: args.crf.or(video.crf),
            bitrate_bps: args.target.map(|target| target.bitrate_bps).or(video.bitrate_bps),
            bufsize_bits: buffer.map(|told| told.size_bits).or(video.bufsize_bits),
            ..video.clone()
        };
        let settings = params::video(&own, args.threads);
        let settings = match buffer {
            Some(told) => settings.with_buffer_at(told.start_permille),
            None => settings,
        };
        match self {
            Pass::Second(stats) => settings.in_pass(2, stats),
            Pass::Only | Pass::First(_) => settings,
        }
    }
}

/// The decoder's buffer as the encoder is told of it: what is reserved lies below its bottom.
#[derive(Debug, Clone, Copy)]
struct Told {
    size_bits: u64,
    start_permille: u64,
}

impl Told {
    fn of(told: BufferTarget, size_bits: u64) -> Told {
        let reserve = told.reserve_bits.min(size_bits / 2);
        let (size, start) = (size_bits - reserve, told.start_bits.saturating_sub(reserve));
        Told { size_bits: size, start_permille: (start.saturating_mul(1000) / size.max(1)).clamp(1, 1000) }
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

/// Opens a chunk's encoder, and says what its stream is: the same of all chunks of a film, though each may have a rate and a buffer of its own.
pub(super) fn open(
    opening: &Opening,
    args: &EncodeArgs,
    video: &VideoSpec,
    pass: &Pass,
) -> Result<(Encoder, Parameters), Failure> {
    let with = |settings: params::Encoder| opening.encoder(video.codec, settings);
    let settings = pass.settings(args, video);
    let is_alike = args.target.is_none() && args.buffer.is_none_or(|buffer| buffer.reserve_bits == 0);
    if matches!(pass, Pass::First(_)) || is_alike {
        let encoder = with(settings)?;
        let parameters = encoder.parameters().map_err(failed)?;
        return Ok((encoder, parameters));
    }
    let film = params::video(video, args.threads);
    let (film, settings) = match video.codec {
        VideoCodec::Libx264 | VideoCodec::Libx265 => {
            // Left alone, an encoder would choose the level by the chunk's own rate and buffer.
            let marked = match (pass, args.target) {
                (Pass::Second(_), Some(target)) => {
                    let peak = VideoSpec { bitrate_bps: Some(target.peak_bps), ..video.clone() };
                    params::video(&peak, args.threads).in_tier(false)
                }
                _ => film.clone(),
            };
            let headers = with(marked)?.parameters().map_err(failed)?.extradata;
            let (level, high_tier) = level(video.codec, &headers).ok_or_else(|| {
                let message = format!("{} wrote headers that tell no level", video.codec);
                Failure::new(Class::Internal, "encoder_failed", message)
            })?;
            (film.at_level(level, high_tier), settings.at_level(level, high_tier))
        }
        // Their headers tell nothing of the rate.
        VideoCodec::Libsvtav1 | VideoCodec::LibvpxVp9 => (film, settings),
    };
    let film = with(film)?.parameters().map_err(failed)?;
    let encoder = with(settings)?;
    let own = encoder.parameters().map_err(failed)?;
    Ok((encoder, Parameters { bit_rate: film.bit_rate, side_data: film.side_data, ..own }))
}

/// H.264's `level_idc`, HEVC's `general_level_idc` and `general_tier_flag`, from headers with start codes.
fn level(codec: VideoCodec, headers: &[u8]) -> Option<(u8, bool)> {
    crate::bitstream::annex_b(headers).find_map(|nal| match codec {
        VideoCodec::Libx264 => match *nal.get(..4)? {
            [header, profile, constraints, level] if header & 0x1f == H264_SPS => {
                // Level 1b, as baseline, main and extended write it.
                let is_1b = level == 11 && constraints & 0x10 != 0 && matches!(profile, 66 | 77 | 88);
                Some((if is_1b { 9 } else { level }, false))
            }
            _ => None,
        },
        VideoCodec::Libx265 if nal.first()? >> 1 & 0x3f == HEVC_VPS => {
            // NAL header 2, numbers and flags 4, tier and profile 1, compatibility 4, constraints 6.
            let mut header = unescaped(nal).skip(6);
            let tier = header.next()?;
            Some((header.nth(10)?, tier & 0x20 != 0))
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
            assert_eq!(level(VideoCodec::Libx264, &avc(sps)), Some((expected, false)));
        }
        assert_eq!(level(VideoCodec::Libx264, &[0, 0, 1, 0x68, 1, 2, 3]), None, "no sequence parameters");
        let vps = [0, 0, 0, 1, 0x40, 1, 0x0c, 1, 0xff, 0xff, 1, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x78];
        assert_eq!(level(VideoCodec::Libx265, &vps), Some((120, false)));
        let mut high = vps;
        high[10] |= 0x20;
        assert_eq!(level(VideoCodec::Libx265, &high), Some((120, true)));
    }
}
