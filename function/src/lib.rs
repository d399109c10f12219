//! What functions are. One that a user wrote is a folder with a manifest, `function.toml`, and whatever the manifest names. Its version is
//! the hash of all of it. Those that workers have themselves are declared in [`own`].
//!
//! Reading order: [`manifest`] (what the author says of it), [`schema`] (what goes in and out, and which of it are files), [`package`]
//! (the folder, bounded and hashed), [`order`] (from an input to what its task needs). Used by the command line (checks, tests), the
//! server (keeps versions, makes calls) and the workers (run them). Nothing here has a clock or a network.

#![forbid(unsafe_code)]

pub mod manifest;
pub mod order;
pub mod own;
pub mod package;
pub mod schema;
pub mod stub;

pub use manifest::Manifest;
pub use package::{File, Package};

use spool_proto::failure::{Class, Failure};

/// What an author got wrong, and where: in a file of the folder, at a key of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}")]
pub struct Problem {
    /// `function.toml: input.threshold`, `bin/check`.
    pub at: String,
    pub what: String,
}

impl Problem {
    fn new(at: impl Into<String>, what: impl Into<String>) -> Problem {
        Problem { at: at.into(), what: what.into() }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure::new(Class::Spec, "bad_function", problem.to_string())
    }
}
