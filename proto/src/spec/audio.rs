//! What becomes of a sound track.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AudioCodec {
    Aac,
    Libopus,
    Flac,
    Ac3,
    Eac3,
    Libmp3lame,
    #[serde(rename = "pcm_s16le")]
    PcmS16le,
    #[serde(rename = "pcm_s24le")]
    PcmS24le,
    Copy,
}

impl AudioCodec {
    /// libav's name of what the encoder makes; `None` for a copy.
    pub fn made(self) -> Option<&'static str> {
        Some(match self {
            AudioCodec::Libopus => "opus",
            AudioCodec::Libmp3lame => "mp3",
            AudioCodec::Copy => return None,
            same => same.name(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AudioSpec {
    pub codec: AudioCodec,
    /// `-b:a`, bits a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate_bps: Option<u64>,
    /// `-ar`, Hz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_rate_hz: Option<u32>,
    /// `-ac`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u16>,
    /// `-channel_layout`, by ffmpeg's name: `5.1`, `5.1(side)`. What the encoder does not take is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_layout: Option<String>,
    /// `-af`, in order, before everything else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<AudioFilter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loudness: Option<Loudness>,
}

impl AudioSpec {
    /// The encoder's own defaults.
    pub fn new(codec: AudioCodec) -> AudioSpec {
        AudioSpec {
            codec,
            bitrate_bps: None,
            sample_rate_hz: None,
            channels: None,
            channel_layout: None,
            filters: Vec::new(),
            loudness: None,
        }
    }
}

/// One step of `-af`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AudioFilter {
    Volume(Gain),
}

/// `0.5` or `-6dB`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gain {
    Factor(f64),
    Db(f64),
}

/// How loud a track becomes (EBU R128): measured first, then turned up or down as a whole; peaks that would pass the ceiling are limited.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Loudness {
    /// Integrated, LUFS.
    pub target_lufs: f32,
    /// No true peak above this, dBTP.
    pub true_peak_dbtp: f32,
}

impl Loudness {
    /// EBU R128's own ceiling is −1 dBTP; one more decibel is what lossy encoders overshoot by.
    pub const TRUE_PEAK_DBTP: f32 = -2.0;
}

/// Settings of one output track that differ from those of the others: `-c:a:1 ac3`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AudioTrack {
    /// Which of the output's audio tracks, from 0.
    pub track: u32,
    /// All of its settings.
    pub audio: AudioSpec,
}

/// ffmpeg's channel layouts of up to eight channels, and how many each has.
pub const CHANNEL_LAYOUTS: &[(&str, u16)] = &[
    ("mono", 1),
    ("stereo", 2),
    ("2.1", 3),
    ("3.0", 3),
    ("3.0(back)", 3),
    ("4.0", 4),
    ("quad", 4),
    ("quad(side)", 4),
    ("3.1", 4),
    ("5.0", 5),
    ("5.0(side)", 5),
    ("4.1", 5),
    ("5.1", 6),
    ("5.1(side)", 6),
    ("6.0", 6),
    ("6.0(front)", 6),
    ("hexagonal", 6),
    ("6.1", 7),
    ("6.1(back)", 7),
    ("6.1(front)", 7),
    ("7.0", 7),
    ("7.0(front)", 7),
    ("7.1", 8),
    ("7.1(wide)", 8),
    ("7.1(wide-side)", 8),
    ("octagonal", 8),
];
