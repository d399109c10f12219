//! Calls of functions that users pushed: see `docs/functions.md`.

use serde::{Deserialize, Serialize};

use super::{Args, Call};
use crate::resources::Resources;
use crate::time::Span;

/// What a worker must offer to run them.
pub mod backend {
    /// A program of the function's own folder, or of the machine, in the worker's walls.
    pub const PROGRAM: &str = "function";
    /// A program of an image.
    pub const IMAGE: &str = "container";
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserArgs {
    pub name: String,
    /// BLAKE3 of the version's files, hex: by it the worker fetches them.
    pub hash: String,
    /// As the manifest's schema says, defaults filled in.
    pub input: serde_json::Value,
    /// Where in `input` the URI of each of the call's inputs stands: `video`, `overlays[2].picture`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

/// A call whose version and input are settled, and what its task needs: all of it from the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserOrder {
    /// URIs, one for each of [`UserArgs::files`].
    pub inputs: Vec<String>,
    pub args: UserArgs,
    /// [`backend`].
    pub backend: String,
    pub resources: Resources,
    /// Zero: none.
    pub timeout: Span,
    pub no_progress: Span,
    /// Attempts that may fail. `None`: the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u8>,
    /// Zero: the author does not say.
    #[serde(default)]
    pub expected: Span,
    /// `watermark-check 1.2`.
    pub label: String,
}

impl UserOrder {
    /// What it is placed, estimated and explained under: `user.watermark-check`.
    pub fn function(&self) -> String {
        format!("user.{}", self.args.name)
    }

    /// `output_prefix`: where the files it leaves are stored; ends in `/`.
    pub fn call(&self, output_prefix: String) -> Call {
        let args = Args::User(self.args.clone());
        Call { inputs: self.inputs.clone(), output_prefix, source_version: None, args }
    }
}
