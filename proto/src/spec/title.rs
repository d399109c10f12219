//! A title: one source in, every rendition of it out, packaged for players. What people say, and what a source makes of it
//! ([`renditions`]).

mod check;
mod ladder;
pub mod renditions;

use serde::{Deserialize, Serialize};

use super::{AudioSpec, Trim, Verify, VideoCodec, VideoSpec};
use crate::time::Span;

/// One source in, a package of renditions out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TitleSpec {
    /// URI of the source.
    pub source: String,
    /// URI prefix of the package; ends in `/`. Nothing appears there before all of it was checked.
    pub output: String,
    /// Replace a package that exists.
    pub overwrite: bool,
    #[serde(default)]
    pub trim: Trim,
    /// Empty, without a ladder: no pictures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub video: Vec<Rendition>,
    /// Renditions chosen by the source, beside those of `video`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ladder: Option<LadderSpec>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audio: Vec<AudioRendition>,
    /// What describes the segments to players. Never empty.
    pub packages: Vec<Package>,
    /// Length of a segment: the whole number of frames nearest to it.
    pub segment: Span,
    /// From keyframe to keyframe: divides the segment evenly, as near to this as that allows.
    pub gop: Span,
    /// Length chunks should be near; always whole segments. `None`: chosen from the film's length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<Span>,
    #[serde(default)]
    pub verify: Verify,
}

pub const SEGMENT_DEFAULT: Span = Span::from_secs(6);
pub const GOP_DEFAULT: Span = Span::from_secs(2);

/// One encoded version of the pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rendition {
    /// Its folder's name in the package.
    pub name: String,
    /// Picture height; the width follows from the source's shape, in square pixels. `None`: as `video` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    pub video: VideoSpec,
}

/// Renditions by the source's height and frame rate. None is larger than the source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LadderSpec {
    /// Each gets the whole ladder.
    pub codecs: Vec<VideoCodec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_height: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_height: Option<u32>,
    /// The encoders' presets, by codec; others use their defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
}

/// One encoded version of one of the source's audio tracks, or of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AudioRendition {
    /// Its folder's name in the package; with several tracks, the language or number comes behind it.
    pub name: String,
    pub audio: AudioSpec,
    #[serde(default, skip_serializing_if = "AudioTracks::is_all")]
    pub tracks: AudioTracks,
}

/// Which of the source's audio tracks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AudioTracks {
    #[default]
    All,
    /// The one ffmpeg would choose: most channels, the default first.
    Best,
    /// Counted among the audio tracks, from 0.
    Number(u32),
    /// As the source tags it: `eng`.
    Language(String),
}

impl std::fmt::Display for AudioTracks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AudioTracks::All => f.write_str("all"),
            AudioTracks::Best => f.write_str("best"),
            AudioTracks::Number(number) => write!(f, "{number}"),
            AudioTracks::Language(language) => write!(f, "language:{language}"),
        }
    }
}

impl std::str::FromStr for AudioTracks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match (text, text.strip_prefix("language:")) {
            ("all", _) => AudioTracks::All,
            ("best", _) => AudioTracks::Best,
            (_, Some(language)) if !language.is_empty() => AudioTracks::Language(language.into()),
            _ => AudioTracks::Number(text.parse().map_err(|_| {
                format!("{text:?}: expected all, best, a number among the audio tracks from 0, or language:eng")
            })?),
        })
    }
}

impl AudioTracks {
    fn is_all(&self) -> bool {
        *self == AudioTracks::All
    }
}

/// A description of the segments for one kind of player.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Package {
    /// `master.m3u8` and a playlist a track.
    Hls,
    /// `manifest.mpd`.
    Dash,
}

impl Package {
    pub const ALL: [Package; 2] = [Package::Hls, Package::Dash];

    /// The file a player is pointed at.
    pub fn entry(self) -> &'static str {
        match self {
            Package::Hls => "master.m3u8",
            Package::Dash => "manifest.mpd",
        }
    }
}
