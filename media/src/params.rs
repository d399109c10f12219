//! Encoder settings: from what a user asked for to libav options, pure. Everything that changes the bits is pinned here, so that
//! a retry, a second copy and another machine give the same bytes, and all chunks of a film give the same extradata.
//!
//! The options of an [`Encoder`] are for the dictionary of `avcodec_open2`: context and private options alike, by the names ffmpeg's
//! users know. Whatever is left in the dictionary afterwards was not taken, and that is a failure. What is not
//! named here stays at the wrapper's default, which is what `ffmpeg` on the command line would use. The caller sets what comes
//! from frames: size, pixel format, sample aspect, colour, timebase and frame rate.

use std::path::Path;

use spool_proto::spec::{AudioCodec, AudioSpec, VideoCodec, VideoSpec};

/// One encoder and its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoder {
    /// libav's encoder name: `libx264`.
    pub name: &'static str,
    /// In a fixed order, so that equal specs read equal.
    pub options: Vec<(&'static str, String)>,
}

impl Encoder {
    fn new(name: &'static str) -> Encoder {
        // All four containers keep headers apart from packets; x264 and x265 must be told so.
        Encoder { name, options: vec![("flags", "+global_header".into())] }
    }

    fn set(&mut self, name: &'static str, value: Option<impl ToString>) {
        self.options.extend(value.map(|value| (name, value.to_string())));
    }

    /// Adds to the value of an option that is there.
    fn append(&mut self, name: &str, more: &str) {
        for (_, value) in self.options.iter_mut().filter(|(known, _)| *known == name) {
            value.push_str(more);
        }
    }

    fn is_x265(&self) -> bool {
        self.name == encoder_name(VideoCodec::Libx265)
    }

    /// The first or the second pass of two, of x264 or x265, with its statistics at `stats`.
    pub fn in_pass(mut self, number: u8, stats: &Path) -> Encoder {
        let stats = stats.to_string_lossy();
        if self.is_x265() {
            // There `:` parts options, and `\` and `'` quote.
            let quoted: String = stats
                .chars()
                .flat_map(|c| matches!(c, ':' | '\\' | '\'').then_some('\\').into_iter().chain([c]))
                .collect();
            self.append("x265-params", &format!(":pass={number}:stats={quoted}"));
        } else {
            self.append("flags", &format!("+pass{number}"));
            self.set("stats", Some(stats));
        }
        self
    }

    /// x265 would choose HEVC's tier by the rate.
    pub fn in_tier(mut self, high: bool) -> Encoder {
        self.append("x265-params", &format!(":high-tier={}", u8::from(high)));
        self
    }

    /// x264, x265: with so many thousandths of the decoder's buffer filled when the first frame is taken out. Other encoders know
    /// of no such buffer.
    pub fn with_buffer_at(mut self, permille: u64) -> Encoder {
        let start = format!(":vbv-init={}.{:03}", permille / 1000, permille % 1000);
        self.append("x264-params", &start);
        self.append("x265-params", &start);
        self
    }

    /// x264, x265: marked as of that level, as the codec's headers number it, and of HEVC's tiers.
    pub fn at_level(mut self, level: u8, high_tier: bool) -> Encoder {
        if self.is_x265() {
            // Thirty times the level in the headers, ten times here.
            self.append("x265-params", &format!(":level-idc={}", level / 3));
            return self.in_tier(high_tier);
        }
        self.set("level", Some(level));
        self
    }
}

/// libav's name of the encoder.
pub fn encoder_name(codec: VideoCodec) -> &'static str {
    match codec {
        VideoCodec::Libx264 => "libx264",
        VideoCodec::Libx265 => "libx265",
        VideoCodec::Libsvtav1 => "libsvtav1",
        VideoCodec::LibvpxVp9 => "libvpx-vp9",
    }
}

/// Settings of the encoder of one chunk, or of the whole film where it is not split. `threads` is the plan's, never the machine's; what
/// the machine adds ([`x264_asm`]) keeps its bits steady.
///
/// Pixel format: `spec.pix_fmt` alone, or, without one, whichever of the encoder's own list loses least, as ffmpeg's `format` filter chooses.
pub fn video(spec: &VideoSpec, threads: u16) -> Encoder {
    let threads = threads.max(1);
    let mut encoder = Encoder::new(encoder_name(spec.codec));
    encoder.set("threads", Some(threads));
    encoder.set("b", spec.bitrate_bps);
    encoder.set("maxrate", spec.maxrate_bps);
    encoder.set("bufsize", spec.bufsize_bits);
    encoder.set("crf", spec.crf);
    encoder.set("preset", spec.preset.as_ref());
    encoder.set("tune", spec.tune.as_ref());
    encoder.set("profile", spec.profile.as_ref());
    encoder.set("g", spec.gop_frames);
    if spec.fixed_gop {
        // x264 and libvpx; x265 and SVT-AV1 below.
        encoder.set("keyint_min", spec.gop_frames);
    }
    encoder.set("deadline", spec.deadline.as_ref());
    encoder.set("cpu-used", spec.cpu_used);
    let (name, value) = match spec.codec {
        VideoCodec::Libx264 => {
            encoder.set("sc_threshold", spec.fixed_gop.then_some(0));
            ("x264-params", format!("{X264_PARAMS}{}", x264_asm()))
        }
        VideoCodec::Libx265 => ("x265-params", x265_params(threads, spec.fixed_gop)),
        // Does not change the bits.
        VideoCodec::Libsvtav1 => ("svtav1-params", format!("lp={threads}")),
        // One tile column more or less changes the bits; left to libvpx it follows the width alone. Rows in parallel are off: with them
        // on, the bits follow the threads.
        VideoCodec::LibvpxVp9 => ("row-mt", "0".into()),
    };
    encoder.set(name, Some::<String>(value));
    encoder
}

/// `stitchable=1`: else x264 fits its headers to the pictures, and the chunks' extradata differ. `sync-lookahead=0`: with a lookahead in a
/// thread of its own what it decides follows how far that thread has come, see `docs/decisions/`.
const X264_PARAMS: &str = "stitchable=1:sync-lookahead=0";

/// x264's AVX-512 code for macroblock trees reads memory that nothing was written to, so that its bits follow what that held before: see
/// `docs/decisions/`. It is given all that such a machine has below that.
fn x264_asm() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        return ":asm=SSE2Fast,SSE4.2,FMA3,BMI2,AVX2";
    }
    ""
}

/// Frames x265 works on at once, at most (`X265_MAX_FRAME_THREADS`).
const X265_FRAME_THREADS_MAX: u16 = 16;

/// `info=0`: no text of settings in the stream, which would stand at every join. `open-gop=0`: every keyframe can be entered.
///
/// Threads: whole frames side by side, as in x264, and no pool. What x265's pool does (wavefronts, slices of the lookahead) follows
/// the pool's size and is known to come out otherwise once in a while, see `docs/decisions/`; frame threads wait
/// for fixed rows of one another, and the lookahead then runs in the caller's thread.
fn x265_params(threads: u16, fixed_gop: bool) -> String {
    let frames = threads.clamp(1, X265_FRAME_THREADS_MAX);
    let scenes = if fixed_gop { ":scenecut=0" } else { "" };
    format!("info=0:open-gop=0:log-level=error:pools=none:frame-threads={frames}:wpp=0{scenes}")
}

/// Settings of an audio encoder; `None` for `-c:a copy`. Without a bitrate the encoder's own default holds: AAC 128 kb/s a pair of
/// channels and 69 kb/s a single one, AC-3 by the layout (stereo 192 kb/s, 5.1 448 kb/s), Opus 64 kb/s a stream and 32 kb/s more a coupled one. Sample rate and channels are the
/// caller's to convert to: [`AudioSpec`] or, without a wish, the nearest the encoder takes.
pub fn audio(spec: &AudioSpec) -> Option<Encoder> {
    let name = match spec.codec {
        AudioCodec::Copy => return None,
        // Spool's names are libav's.
        codec => codec.name(),
    };
    let mut encoder = Encoder::new(name);
    encoder.set("b", spec.bitrate_bps);
    Some(encoder)
}

/// What x264 marks its text of settings with (`x264_sei_version_write`).
const X264_UUID: [u8; 16] =
    [0xdc, 0x45, 0xe9, 0xbd, 0xe6, 0xd9, 0x48, 0xb7, 0x96, 0x2c, 0xd8, 0x20, 0xd9, 0x23, 0xee, 0xef];
const NAL_SEI: u8 = 6;
const SEI_USER_DATA_UNREGISTERED: u8 = 5;

/// The same H.264 packet (with start codes, as libx264 gives it) without x264's text of settings in front. x264 has no option to leave it
/// out; about 700 bytes at every join would be 4 % of a small film. To be used on the first packet of each chunk but
/// the film's first, before the piece is written. Other SEI (captions, timing) stays.
pub fn without_x264_settings(packet: &[u8]) -> &[u8] {
    skip_x264_settings(packet).unwrap_or(packet)
}

fn skip_x264_settings(packet: &[u8]) -> Option<&[u8]> {
    let (nal, rest) = first_nal(packet)?;
    let (&header, sei) = nal.split_first()?;
    let (&kind, sei) = sei.split_first()?;
    if header & 0x1f != NAL_SEI || kind != SEI_USER_DATA_UNREGISTERED {
        return None;
    }
    // The payload's size: 255 for each byte that is full.
    let full = sei.iter().take_while(|byte| **byte == 0xff).count();
    let payload = sei.get(full + 1..)?;
    (payload.starts_with(&X264_UUID) && !rest.is_empty()).then_some(rest)
}

/// The first NAL unit and what follows it, start code included.
fn first_nal(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let body = packet.strip_prefix(&[0, 0, 0, 1]).or_else(|| packet.strip_prefix(&[0, 0, 1]))?;
    let end = body.windows(3).position(|bytes| bytes == [0, 0, 1])?;
    // A start code of four bytes begins one earlier.
    Some(body.split_at(if end > 0 && body[end - 1] == 0 { end - 1 } else { end }))
}

#[cfg(test)]
mod tests;
