//! Trial encodes: what an encoder makes of samples of a film, at one quality or another.

use serde::{Deserialize, Serialize};

use super::{EncodeArgs, PictureFacts};
use crate::quality::{MetricSummary, decibels};
use crate::spec::{QualityTarget, Size};
use crate::time::Span;

/// Pictures of all samples together, as they are kept in memory: more are refused. Pictures of a size of their own come to as much again
/// at most.
pub const SAMPLE_BYTES_MAX: u64 = 1 << 30;

/// Sizes times qualities of one call.
pub const POINTS_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialArgs {
    /// The chunk whose pictures are tried, and the encoder's settings. Its quality and its target are not looked at.
    pub encode: EncodeArgs,
    /// Half-open ranges of the film's frames, rising, within the chunk: each is encoded by itself, as the film would be that has
    /// these frames alone. Empty: the whole chunk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<(u64, u64)>,
    /// These qualities are tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<TrialPoints>,
    /// In place of `points`: a few are tried, until one of them just meets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<QualityTarget>,
}

/// Each with each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialPoints {
    pub crfs: Vec<f32>,
    /// What the pictures are scaled to (bicubic) for the encoder; scored is what comes of it scaled back. None larger than the
    /// pictures. Empty: as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<Size>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialManifest {
    /// Of all samples.
    pub frames: u64,
    /// What scores are held against: the pictures as an encoder at full size is given them.
    pub reference: PictureFacts,
    /// In the order they were made in.
    pub points: Vec<TrialPoint>,
    /// With a target: what just meets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<TrialFound>,
}

/// The quality that just meets a target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrialFound {
    pub crf: f32,
    /// Mean of the samples: measured or, of a quality between two that were tried, what they let one expect.
    #[serde(with = "decibels")]
    pub score: f64,
}

/// One quality, tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialPoint {
    pub size: Size,
    pub crf: f32,
    /// Packets alone.
    pub bytes: u64,
    pub bits_per_second: u64,
    /// In the encoder, of all samples.
    pub encode_time: Span,
    pub scores: Vec<MetricSummary>,
}
