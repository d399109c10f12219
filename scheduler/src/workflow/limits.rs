//! What tasks are given: time, silence, memory.

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
/// One core.
pub const CORE: u64 = 1_000;
