//! A rule set's sources, and what is wrong with them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Files by name, relative to the service's folder. `main.star` is where reading begins; others are loaded from there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sources(pub BTreeMap<String, String>);

/// Where reading begins.
pub const MAIN: &str = "main.star";

/// Version of the language: part of what names a rule set, so that what the words mean never changes under a job.
const LANGUAGE: &str = "spool-rules/1";

impl Sources {
    pub fn of(text: impl Into<String>) -> Sources {
        Sources(BTreeMap::from([(MAIN.to_owned(), text.into())]))
    }

    /// Which rule set it is: BLAKE3 over names and contents, hex.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(LANGUAGE.as_bytes());
        for (name, text) in &self.0 {
            for part in [name, text] {
                hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
                hasher.update(part.as_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// Something to mend, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    pub file: String,
    /// From 1; 0: of the file as a whole.
    pub line: usize,
    pub column: usize,
    pub severity: Severity,
    /// A stable name: `syntax`, `unknown_name`, `never_matches`, …
    pub code: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { file, line, column, severity, code, message } = self;
        let severity = if *severity == Severity::Error { "error" } else { "warning" };
        if *line == 0 {
            return write!(f, "{file}: {severity}: {message} [{code}]");
        }
        write!(f, "{file}:{line}:{column}: {severity}: {message} [{code}]")
    }
}

impl Problem {
    /// Of the service as a whole.
    pub(crate) fn whole(code: &str, message: impl Into<String>) -> Problem {
        let (file, code, message) = (MAIN.into(), code.into(), message.into());
        Problem { file, line: 0, column: 0, severity: Severity::Error, code, message }
    }

    pub(crate) fn of_error(file: &str, code: &str, error: &starlark::Error) -> Problem {
        let (file, line, column) = error.span().map_or((file.to_owned(), 0, 0), |span| {
            let at = span.resolve();
            (at.file, at.span.begin.line + 1, at.span.begin.column + 1)
        });
        let message = error.without_diagnostic().to_string();
        Problem { file, line, column, severity: Severity::Error, code: code.into(), message: first_line(&message) }
    }
}

/// Errors of the language end in a call stack, which the place says better.
fn first_line(message: &str) -> String {
    let text = message.trim();
    let text = text.strip_prefix("error:").unwrap_or(text).trim();
    text.lines().next().unwrap_or_default().to_owned()
}
