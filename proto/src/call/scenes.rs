//! Changes of scene, found in the pictures.

use serde::{Deserialize, Serialize};

use super::SourceFacts;
use crate::spec::EncodeSpec;

/// Parts of one scan.
pub const PARTS_MAX: u32 = 1 << 10;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScenesArgs {
    /// Only what the film shows of its source is looked at.
    pub spec: EncodeSpec,
    /// With the source's jumps, as the probe that left the index found them.
    pub source: SourceFacts,
    /// The frames to be looked at are parted evenly, and this is the number of the part, from 0.
    pub part: u32,
    /// What is found is the same however many there are.
    pub parts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScenesManifest {
    /// That were looked at.
    pub frames: u64,
    /// Changes found, and how many of them are sure.
    pub scenes: u64,
    pub sure: u64,
}

/// The artifact `scenes`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SceneList {
    /// Rising.
    pub scenes: Vec<SceneChange>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SceneChange {
    /// Of the source, in display order: the first of the new scene.
    pub frame: u64,
    /// How many times more the picture changes there than around it.
    pub score: f32,
    /// There is little doubt.
    pub sure: bool,
}
