//! Names of containers, codecs and modes, as users type them and as the wire carries them.

use std::fmt;
use std::str::FromStr;

use super::super::picture::{Corner, ToneMap};
use super::super::{AudioCodec, Container, Cuts, OnDamage, Subtitles, TextCodec, Verify, VideoCodec};
use super::ParseError;

macro_rules! named {
    ($type:ty, $what:literal, $($name:literal => $value:expr),+ $(,)?) => {
        impl $type {
            pub const ALL: &[$type] = &[$($value),+];

            pub fn name(self) -> &'static str {
                const NAMES: &[&str] = &[$($name),+];
                let at = <$type>::ALL.iter().position(|value| *value == self);
                NAMES[at.expect("every value has its name beside it")]
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $type {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<$type, ParseError> {
                let found = <$type>::ALL.iter().find(|value| value.name() == text);
                found.copied().ok_or_else(|| {
                    ParseError::new($what, text, concat!("expected one of", $(" ", $name),+))
                })
            }
        }
    };
}

named!(Container, "a container", "mp4" => Container::Mp4, "mov" => Container::Mov, "mkv" => Container::Mkv, "webm" => Container::Webm);
named!(
    VideoCodec, "a video encoder",
    "libx264" => VideoCodec::Libx264, "libx265" => VideoCodec::Libx265,
    "libsvtav1" => VideoCodec::Libsvtav1, "libvpx-vp9" => VideoCodec::LibvpxVp9,
);
named!(
    AudioCodec, "an audio encoder",
    "aac" => AudioCodec::Aac, "libopus" => AudioCodec::Libopus, "flac" => AudioCodec::Flac, "ac3" => AudioCodec::Ac3,
    "eac3" => AudioCodec::Eac3, "libmp3lame" => AudioCodec::Libmp3lame, "pcm_s16le" => AudioCodec::PcmS16le,
    "pcm_s24le" => AudioCodec::PcmS24le, "copy" => AudioCodec::Copy,
);
named!(
    TextCodec, "a text subtitle encoder",
    "srt" => TextCodec::Srt, "ass" => TextCodec::Ass, "webvtt" => TextCodec::Webvtt, "mov_text" => TextCodec::MovText,
);
named!(
    Subtitles, "a subtitle mode",
    "auto" => Subtitles::Auto, "copy" => Subtitles::Copy, "none" => Subtitles::None, "srt" => Subtitles::Text(TextCodec::Srt),
    "ass" => Subtitles::Text(TextCodec::Ass), "webvtt" => Subtitles::Text(TextCodec::Webvtt),
    "mov_text" => Subtitles::Text(TextCodec::MovText),
);
named!(OnDamage, "what to do", "salvage" => OnDamage::Salvage, "fail" => OnDamage::Fail);
named!(Cuts, "what tells cuts", "auto" => Cuts::Auto, "index" => Cuts::Index, "scan" => Cuts::Scan);
named!(ToneMap, "a tone-mapping curve", "hable" => ToneMap::Hable, "mobius" => ToneMap::Mobius, "reinhard" => ToneMap::Reinhard);
named!(
    Corner, "a corner",
    "top-left" => Corner::TopLeft, "top-right" => Corner::TopRight, "bottom-left" => Corner::BottomLeft,
    "bottom-right" => Corner::BottomRight, "center" => Corner::Center,
);
named!(Verify, "a check", "packets" => Verify::Packets, "sample" => Verify::Sample, "full" => Verify::Full);

impl Container {
    /// By the extension of a path or URI, in any case.
    ///
    /// # Errors
    /// No extension, or one of a container Spool does not write.
    pub fn of_path(path: &str) -> Result<Container, ParseError> {
        let file = path.rsplit('/').next().unwrap_or(path);
        let extension = file.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
        extension.and_then(|extension| extension.parse().ok()).ok_or_else(|| {
            ParseError::new("an output name", path, "the extension must be one of .mp4, .mov, .mkv, .webm")
        })
    }
}
