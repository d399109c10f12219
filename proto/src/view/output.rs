//! What a finished job made.

use serde::{Deserialize, Serialize};

use crate::call::TrialFound;
use crate::ids::WorkerName;
use crate::quality::FilmScores;
use crate::spec::title::Package;
use crate::time::Span;
use crate::vbv::BufferCheck;

/// The `output` of a finished `video-encode`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncodeOutput {
    /// URI of the published film.
    pub uri: String,
    /// The same as a path, where it is a local file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<u64>,
    pub duration_us: i64,
    pub bytes: u64,
    /// BLAKE3, hex.
    pub hash: String,
    pub chunks: Vec<ChunkView>,
    pub keyframes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsplit_reason: Option<String>,
    /// With `--quality`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<FilmScores>,
    /// With `-b:v` and no `-crf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<FilmRate>,
    /// With `-maxrate` and `-bufsize`: the joined film against that buffer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer: Option<BufferCheck>,
    /// Chunks made again, so that the film meets its rate or keeps within its buffer.
    #[serde(default, skip_serializing_if = "none")]
    pub redone: u32,
    /// `None`: the source is a file of the workers' machines.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<SourceFetch>,
}

/// The `output` of a finished `function`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionOutput {
    pub function: String,
    /// Hash of the version that ran.
    pub version: String,
    /// What it answered: of the form its manifest says.
    pub result: serde_json::Value,
    /// Files it left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FunctionFileView>,
    /// The end of what it said on stderr, and its messages.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log: String,
    pub worker: WorkerName,
    /// The attempt that counted.
    pub attempt: u32,
    /// That it took.
    pub seconds: f64,
}

/// A file that a function left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionFileView {
    /// Its path in the folder of outputs.
    pub name: String,
    pub bytes: u64,
    /// BLAKE3, hex.
    pub hash: String,
    /// Where it was published. `None`: nobody asked for it, and it went with the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

/// What was fetched of a source over a network, by the attempts that counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFetch {
    /// Bytes of the source.
    pub source_bytes: u64,
    /// By all calls of the job: the probe reads every packet, then come chunks and tracks.
    pub fetched_bytes: u64,
    /// Of those, by chunks.
    pub chunks_fetched_bytes: u64,
}

/// A film's rate of video, bits a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilmRate {
    pub target_bps: u64,
    /// Packets alone, over the whole film.
    pub average_bps: u64,
}

/// The `output` of a finished `title`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TitleOutput {
    /// URI of the package's folder.
    pub uri: String,
    /// The same as a path, where it is a local folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub duration_us: u64,
    /// Of all its files.
    pub bytes: u64,
    pub packages: Vec<PackageOutput>,
    pub tracks: Vec<TrackOutput>,
}

/// What a player is pointed at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageOutput {
    pub kind: Package,
    pub uri: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrackOutput {
    /// Within the package: `video/720p`.
    pub folder: String,
    /// `video`, `audio`.
    pub kind: String,
    /// As RFC 6381 writes it.
    pub codec: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<u64>,
    pub chunks: u32,
    pub segments: u32,
    pub bytes: u64,
    pub duration_us: u64,
    pub average_bps: u64,
    /// Of the segment that needs most.
    pub peak_bps: u64,
    /// As [`EncodeOutput::rate`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<FilmRate>,
    /// As [`EncodeOutput::buffer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer: Option<BufferCheck>,
    /// As [`EncodeOutput::redone`].
    #[serde(default, skip_serializing_if = "none")]
    pub redone: u32,
    /// As [`ChunkView::trial`], of each chunk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trials: Vec<TrialFound>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChunkView {
    pub chunk: u32,
    /// Half-open, output frames.
    pub start: u64,
    pub end: u64,
    pub cut: String,
    pub worker: WorkerName,
    pub attempt: u32,
    pub frames: u64,
    pub bytes: u64,
    pub hash: String,
    pub encode_time: Span,
    pub entry: String,
    pub peak_memory_mib: u64,
    /// With `--target-quality`: what was found to meet it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialFound>,
    /// Bytes of the source that were fetched for it. `None`: the source is a file of the workers' machines.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fetched_bytes: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn none(count: &u32) -> bool {
    *count == 0
}
