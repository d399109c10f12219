//! Encodes of a chunk of pictures, and of a track in one piece.

use serde::{Deserialize, Serialize};

use super::{Edit, Jump};
use crate::spec::EncodeSpec;
use crate::vbv::BufferUse;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncodeArgs {
    pub spec: EncodeSpec,
    pub stream: u32,
    pub chunk: u32,
    /// Chunks of the sources before its own, which are not in its plan.
    #[serde(default, skip_serializing_if = "is_none")]
    pub before: u32,
    /// The film has other sources too: its encoders are told what sources may leave out, so that all are of one kind.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joined: bool,
    pub threads: u16,
    /// Found for this chunk, where the spec names a quality to be met. `None`: the spec's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crf: Option<f32>,
    /// Of a second pass, or of a chunk made again for the film's rate. `None`: the spec's rate control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Of a film with a rate buffer. `None`: the encoder's own start, as for the film's first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer: Option<BufferTarget>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn is_none(chunks: &u32) -> bool {
    *chunks == 0
}

/// What a chunk is to spend. Bits a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub bitrate_bps: u64,
    /// The most any chunk spends: all are marked with the codec level that takes.
    pub peak_bps: u64,
}

/// The decoder's buffer (`-maxrate`, `-bufsize`) as a chunk's encoder is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferTarget {
    /// In it when the chunk's first frame is taken out.
    pub start_bits: u64,
    /// At its bottom, and not for the encoder to use: what it took too much before.
    #[serde(default)]
    pub reserve_bits: u64,
}

/// What a first pass tells of a chunk: its bits at one quality, the same for all chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Analysis {
    pub chunk: u32,
    pub frames: u64,
    /// How long the encoder's rate control takes the chunk for, in frames of the constant rate.
    pub ticks: u64,
    /// Of coefficients: what the quantizer decides.
    pub texture_bits: u64,
    pub motion_bits: u64,
    /// Headers and modes: spent at any quality.
    pub fixed_bits: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrackArgs {
    pub spec: EncodeSpec,
    /// Source stream index.
    pub stream: u32,
    /// Which of the output's tracks of its kind it becomes, from 0.
    #[serde(default)]
    pub track: u32,
    /// [`StreamFacts::jumps`] of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jumps: Vec<Jump>,
    /// Of a film made of clips ([`PlanSummary::edits`](super::PlanSummary::edits)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<Edit>,
    /// The same track of the sources that follow, one each: inputs of the call behind the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<NextTrack>,
}

/// A track of a source that follows others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NextTrack {
    pub stream: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jumps: Vec<Jump>,
}

impl TrackArgs {
    /// Of one source alone, by its number.
    pub fn of_input(&self, number: u32) -> TrackArgs {
        let spec = self.spec.of_input(number);
        let next = usize::try_from(number).ok().and_then(|number| self.joined.get(number.checked_sub(1)?));
        let (stream, jumps) = next.map_or((self.stream, &self.jumps), |next| (next.stream, &next.jumps));
        TrackArgs { spec, stream, jumps: jumps.clone(), joined: Vec::new(), ..self.clone() }
    }
}

/// Evidence of one encoded piece: what a chunk is accepted on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrackManifest {
    /// libav's name of the codec. Empty in answers of older workers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub codec: String,
    /// Chunk number for video; `None` for a track in one piece.
    pub chunk: Option<u32>,
    /// Video frames, audio samples per channel, or subtitle events.
    pub units: u64,
    pub packets: u64,
    /// Presentation times of the first and last packet in display order, in the piece's own timebase.
    pub first_pts: Option<i64>,
    pub last_pts: Option<i64>,
    pub time_base: (i32, i32),
    /// Payload bytes (packets only).
    pub bytes: u64,
    /// BLAKE3 of codec parameters and extradata, hex. Equal for all chunks of a stream, or the join is refused.
    pub parameters: String,
    /// How the source was entered: `keyframe`, `back-1`, `back-2`, …, `linear`.
    pub entry: String,
    /// Frames decoded, those thrown away included.
    pub decoded: u64,
    /// Peak resident MiB of the executor.
    pub peak_memory_mib: u64,
    /// How loud the track was and is, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loudness: Option<LoudnessFacts>,
    /// What the piece does to the decoder's buffer, where the film has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer: Option<BufferUse>,
}

/// EBU R128, measured before the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoudnessFacts {
    pub source_lufs: f64,
    pub source_true_peak_dbtp: f64,
    pub lufs: f64,
    pub true_peak_dbtp: f64,
    /// What the track was turned up by; negative: down.
    pub gain_db: f64,
    /// Peaks were held below the ceiling.
    pub limited: bool,
}
