//! A title: one source in, every rendition of it out, packaged for players. What people say, and what a source makes of it
//! ([`renditions`]).

mod check;
mod ladder;
pub mod renditions;

pub use ladder::Rung;

use serde::{Deserialize, Serialize};

use super::{AudioSpec, Cuts, ImageSpec, Trim, Verify, VideoCodec, VideoSpec};
use crate::time::Span;

/// One source in, a package of renditions out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TitleSpec {
    /// URI of the source.
    pub source: String,
    /// URI prefix of the package; ends in `/`. Nothing appears there before all of it was checked, unless it is published live.
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub text: Vec<TextRendition>,
    /// Poster, thumbnails and sprite sheets, in the folder `images`. Of the whole source, whatever is kept of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageSpec>,
    /// What describes the segments to players. Never empty.
    pub packages: Vec<Package>,
    #[serde(default, skip_serializing_if = "Publish::is_whole")]
    pub publish: Publish,
    /// Length of a segment: the whole number of frames nearest to it.
    pub segment: Span,
    /// From keyframe to keyframe: divides the segment evenly, as near to this as that allows.
    pub gop: Span,
    /// Length chunks should be near; always whole segments. `None`: chosen from the film's length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<Span>,
    /// Chunks begin with the segments that are nearest to changes of scene; `scan` looks for these in the pictures, once for all renditions.
    #[serde(default, skip_serializing_if = "Cuts::is_auto")]
    pub cuts: Cuts,
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
    /// Rungs as trial encodes of the source have it, instead of those that suit films in general.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub per_title: bool,
}

/// One encoded version of one of the source's audio tracks, or of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AudioRendition {
    /// Its folder's name in the package; with several tracks, the language or number comes behind it.
    pub name: String,
    pub audio: AudioSpec,
    #[serde(default, skip_serializing_if = "TrackChoice::is_all")]
    pub tracks: TrackChoice,
}

/// Subtitles as WebVTT: text tracks of the source, or a file of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextRendition {
    /// Its folder's name in the package; with several tracks, the language or number comes behind it.
    pub name: String,
    /// Of the source's subtitle tracks.
    #[serde(default, skip_serializing_if = "TrackChoice::is_all")]
    pub tracks: TrackChoice,
    /// URI of a subtitle file (SubRip, WebVTT, ASS) that is taken instead of the source's tracks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Of the file: `eng`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

/// Which of the source's tracks of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrackChoice {
    #[default]
    All,
    /// The source's default, else the sound with most channels, or the first text.
    Best,
    /// Counted among the tracks of the kind, from 0.
    Number(u32),
    /// As the source tags it: `eng`.
    Language(String),
}

impl std::fmt::Display for TrackChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TrackChoice::All => f.write_str("all"),
            TrackChoice::Best => f.write_str("best"),
            TrackChoice::Number(number) => write!(f, "{number}"),
            TrackChoice::Language(language) => write!(f, "language:{language}"),
        }
    }
}

impl std::str::FromStr for TrackChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match (text, text.strip_prefix("language:")) {
            ("all", _) => TrackChoice::All,
            ("best", _) => TrackChoice::Best,
            (_, Some(language)) if !language.is_empty() => TrackChoice::Language(language.into()),
            _ => TrackChoice::Number(text.parse().map_err(|_| {
                format!("{text:?}: expected all, best, a number among the tracks of the kind from 0, or language:eng")
            })?),
        })
    }
}

impl TrackChoice {
    fn is_all(&self) -> bool {
        *self == TrackChoice::All
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

/// When the package appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Publish {
    /// As a whole, when all of it was checked.
    #[default]
    Whole,
    /// Segment by segment, while it is encoded.
    Live,
}

impl Publish {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
    fn is_whole(&self) -> bool {
        *self == Publish::Whole
    }
}

impl std::str::FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "whole" => Ok(Publish::Whole),
            "live" => Ok(Publish::Live),
            _ => Err(format!("{text:?}: expected whole or live")),
        }
    }
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
