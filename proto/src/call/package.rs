//! Packages: tracks cut into segments, their playlists, the folder of both.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::StreamFacts;
use crate::package::{Growth, PackagedTrack};
use crate::spec::title::Package;
use crate::spec::{EncodeSpec, Rational};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentArgs {
    /// Of the track alone.
    pub spec: EncodeSpec,
    /// The source's stream.
    pub stream: StreamFacts,
    /// Seconds from the start of one segment to that of the next.
    pub segment: Rational,
    /// How many the package's pictures have: where the last of them would end there is no cut, so that a short rest stays with it.
    /// `None`: no pictures.
    pub segments: Option<u32>,
    /// Behind what a call before has cut: the first input is its table, and the pieces are those from
    /// [`GoesOn::piece`](crate::package::GoesOn::piece) on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub goes_on: bool,
    /// How many segments there are then, less than `segments`; more pieces may follow. `None`: all, and these pieces are the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u32>,
}

/// What a track's segments are, in short; the table itself is the artifact `segments`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentSummary {
    /// As RFC 6381 writes it.
    pub codec: String,
    pub segments: u32,
    pub bytes: u64,
    pub duration_us: u64,
    pub average_bps: u64,
    pub peak_bps: u64,
    /// Video frames; `None` of sound, and of a part of a track.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<u64>,
    /// The first piece that what follows is made of. `None`: this is all of the track.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_piece: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestArgs {
    pub packages: Vec<Package>,
    /// One an input, in the same order.
    pub tracks: Vec<PackagedTrack>,
    /// Text needs no table: each is one file beside its playlist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub text: Vec<PackagedTrack>,
    /// Source streams of subtitles that are pictures and were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<u32>,
    /// `None`: the package is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishPackageArgs {
    /// URI prefix of the package's folder; ends in `/`.
    pub output: String,
    pub overwrite: bool,
    /// What a call before put where players are pointed at, by path. The package then is the job's own and goes on: files are added to it,
    /// and replaced, one by one. Empty: it appears as a whole.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replaces: BTreeMap<String, Replaced>,
    /// In the order they appear in, where a store shows files one by one: what others refer to first.
    pub entries: Vec<PackageEntry>,
}

/// A file as it was put there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    pub bytes: u64,
    /// BLAKE3, hex.
    pub hash: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum PackageEntry {
    /// Input `track` is cut into files of `folder` by the table in input `table`: segments `from..until`, and with the first the header.
    Track {
        folder: String,
        track: usize,
        table: usize,
        hash: String,
        #[serde(default, skip_serializing_if = "is_first")]
        from: usize,
        /// `None`: to the last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<usize>,
    },
    /// The input as it is.
    File { path: String, input: usize, hash: String },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn is_first(from: &usize) -> bool {
    *from == 0
}
