//! The plan of a film: chunks, tracks, the edit list.

use serde::{Deserialize, Serialize};

use super::{CueTimes, SourceFacts, TrackArgs};
use crate::spec::{EncodeSpec, Rational};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanArgs {
    pub spec: EncodeSpec,
    pub source: SourceFacts,
    /// Of the sources that follow it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<SourceFacts>,
    /// Threads an encoder may use when the film is one chunk: the cores of the largest worker when the plan was asked for.
    /// Frozen here, because threads change the bits. 0: the server puts them in.
    pub unsplit_threads: u16,
    /// Of text that is drawn into the pictures: [`TextManifest::cues`](super::TextManifest::cues).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<CueTimes>,
    /// Of each source, in their order, how many scans there are of its pictures; they are the last inputs. A source without any, or that is
    /// not counted, is cut by its index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scans: Vec<u32>,
}

/// What the scheduler needs to know of a plan; the frame table itself is the artifact `plan`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanSummary {
    /// `None`: no video in the output.
    pub video: Option<VideoPlan>,
    /// Tracks made in one piece, in output order: source stream index and what to do.
    pub audio: Vec<TrackArgs>,
    pub subtitles: Vec<TrackArgs>,
    /// Where each of the spec's clips lies, in film order. Empty: the film is one run of the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<Edit>,
}

/// One entry of an edit list: what of the source is shown when. Microseconds; the source's are on the film's clock, which starts with
/// the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    pub source_us: i64,
    pub length_us: i64,
    /// In the film: the sum of the lengths before, reckoned from frames, so that no rounding adds up.
    pub at_us: i64,
    /// Which of the film's sources it is of, from 0.
    #[serde(default, skip_serializing_if = "is_first")]
    pub input: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn is_first(input: &u32) -> bool {
    *input == 0
}

impl Edit {
    /// Where it ends in the source.
    pub fn source_end_us(&self) -> i64 {
        self.source_us.saturating_add(self.length_us)
    }

    /// Where it ends in the film.
    pub fn end_us(&self) -> i64 {
        self.at_us.saturating_add(self.length_us)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoPlan {
    /// Source stream index.
    pub stream: u32,
    /// In film order. Frame ranges are half-open and in output frames.
    pub chunks: Vec<ChunkSummary>,
    /// Output frames. `None` when only decoding can tell (one linear chunk).
    pub frames: Option<u64>,
    pub frame_rate: Rational,
    /// Why the film is one chunk though it is longer than the target.
    pub unsplit_reason: Option<String>,
    pub width: u32,
    pub height: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChunkSummary {
    pub start: u64,
    pub end: u64,
    /// Why it is cut here: `start`, `input`, `clip`, `scene`, `gop`, `blind`.
    pub cut: String,
    /// Which of the film's sources it is of, from 0. The artifact `plan` is of the first, `plan-1` of the next, and so on.
    #[serde(default, skip_serializing_if = "is_first")]
    pub input: u32,
    /// Guess of the work, any unit: longest first.
    pub weight: u64,
    pub threads: u16,
    /// What the encode will need, MiB of resident memory.
    pub memory_mib: u64,
}
