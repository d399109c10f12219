//! What functions need: memory, time; and how the pictures' shape decides it.

use spool_proto::spec::cost::encode_memory_mib;
use spool_proto::spec::{VideoCodec, VideoSpec};
use spool_proto::time::Span;

/// No report of progress from an encoder for this long: it hangs.
pub const NO_PROGRESS: Span = Span::from_secs(120);
/// Reading every packet of the longest film from the slowest disk, with room.
pub const READ_TIMEOUT: Span = Span::from_secs(2 * 3600);
/// Encoding or decoding a whole film in one piece, with room.
pub const CODEC_TIMEOUT: Span = Span::from_secs(48 * 3600);
/// MiB for functions that hold tables of packets and no pictures: 10 h at 60 fps is 2.2 million packets of some 100 bytes.
pub const TABLES_MEMORY: u64 = 512;
pub const AUDIO_MEMORY: u64 = 256;
pub const SUBTITLE_MEMORY: u64 = 128;
pub const PUBLISH_MEMORY: u64 = 64;
/// MiB for an encoder of pictures whose size is not known: 4K at a slow preset.
pub const ENCODE_MEMORY: u64 = 3_072;
/// MiB for a decoder of such.
pub const DECODE_MEMORY: u64 = 1_536;
/// Pictures a decoder holds at most: 16 references, its own delay, and those in flight, with room.
pub const DECODER_PICTURES: u64 = 40;

/// One core.
pub const CORE: u64 = 1_000;

/// MiB a decoder of pictures of a size holds at most.
pub fn pictures_memory(width: u32, height: u32) -> u64 {
    // Up to three planes of two bytes a sample.
    let picture = u64::from(width) * u64::from(height) * 6;
    picture.saturating_mul(DECODER_PICTURES).div_ceil(1 << 20)
}

/// Of one call. A call may ask for other amounts and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Cores that its own `threads` say; else one.
    pub threads: bool,
    /// MiB where the call says nothing.
    pub memory_mib: u64,
    /// Zero: none.
    pub timeout: Span,
    pub no_progress: Span,
    /// What it takes at most when the size of the pictures is known.
    pub shape: Option<Shape>,
    /// What a worker must offer: `cpu/` and the encoder of its spec.
    pub encoder: bool,
}

impl Needs {
    pub(super) const fn new(memory_mib: u64, timeout: Span) -> Needs {
        Needs { threads: false, memory_mib, timeout, no_progress: Span::ZERO, shape: None, encoder: false }
    }
}

/// How memory follows from the pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A decoder, filters, an encoder.
    Encode,
    /// So many decoders, and tables.
    Decode(u64),
}

impl Shape {
    /// MiB, for source and output of one size, without filters.
    pub fn memory_mib(self, codec: VideoCodec, width: u32, height: u32, threads: u16) -> u64 {
        match self {
            Shape::Encode => {
                let pixels = u64::from(width) * u64::from(height);
                encode_memory_mib(&VideoSpec::new(codec), pixels, pixels, threads)
            }
            Shape::Decode(decoders) => TABLES_MEMORY + decoders * pictures_memory(width, height),
        }
    }
}

/// About how long a call works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// As long as its arguments say.
    Said,
    /// Whatever the film is like.
    Call(Span),
    /// For each GiB that is read.
    Gigabyte(Span),
    /// For each hour of sound, of one track.
    Hour(Span),
    /// One core's, for each frame of a million pixels.
    Decode(Span),
    /// As much, by encoder: [`encode_time`].
    Encode,
}

/// One core's time of the encoders' own presets for a million pixels, decoding included, between what 72 frames of Big Buck Bunny took at 720p
/// and at 1080p: `ffmpeg -benchmark -threads 1` (5.1.9) on an AMD EPYC, 27 Nov 2026: 22 and 41 ms, 43 and 55, 22 and 24, 106 and 154.
pub fn encode_time(codec: VideoCodec) -> Span {
    Span::from_millis(match codec {
        VideoCodec::Libx264 => 35,
        VideoCodec::Libx265 => 50,
        VideoCodec::Libsvtav1 => 25,
        VideoCodec::LibvpxVp9 => 130,
    })
}

impl Expected {
    /// Of a frame of this size by one core; `None`: it is not for frames.
    pub fn frame(self, codec: VideoCodec, width: u32, height: u32) -> Option<Span> {
        let megapixel = match self {
            Expected::Decode(megapixel) => megapixel,
            Expected::Encode => encode_time(codec),
            _ => return None,
        };
        Some(Span(megapixel.0.saturating_mul(u64::from(width) * u64::from(height)) / 1_000_000))
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = |span: Span| span.as_secs_f64();
        match *self {
            Expected::Said => write!(f, "as long as its arguments say"),
            Expected::Call(span) => write!(f, "{} s", seconds(span)),
            Expected::Gigabyte(span) => write!(f, "{} s a GiB", seconds(span)),
            Expected::Hour(span) => write!(f, "{} s an hour of sound", seconds(span)),
            Expected::Decode(span) => write!(f, "{} ms a megapixel", span.0 / 1_000),
            Expected::Encode => {
                write!(f, "by encoder, ms a megapixel:")?;
                VideoCodec::ALL
                    .iter()
                    .try_for_each(|codec| write!(f, " {} {}", codec.name(), encode_time(*codec).0 / 1_000))
            }
        }
    }
}
