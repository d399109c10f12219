//! `--explain`: what would be done and why, with nothing run.

use std::ffi::OsString;
use std::process::ExitCode;

use serde_json::json;
use spool_proto::call::SourceFacts;

use super::decide::{Decision, Way};
use super::local;
use crate::output;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Explain {
    Text,
    Json,
}

impl Explain {
    /// Takes `--explain` out of the words, wherever it stands. ffmpeg has no such option.
    pub fn take(words: &[OsString]) -> (Option<Explain>, Vec<OsString>) {
        let of = |word: &OsString| match word.to_str() {
            Some("--explain" | "--explain=text") => Some(Explain::Text),
            Some("--explain=json") => Some(Explain::Json),
            _ => None,
        };
        let found = words.iter().rev().find_map(of);
        (found, words.iter().filter(|word| of(word).is_none()).cloned().collect())
    }
}

/// Prints the decision. `source`: what it was looked at for; `None` where it was not there.
pub fn tell(how: Explain, decision: &Decision, source: Option<&SourceFacts>) -> ExitCode {
    let server = decision.job.as_ref().and_then(|job| job.args.spool.run.server.clone());
    let spool = decision.job.as_ref().map(|job| {
        let words = job.words.iter().map(|word| quoted(&word.to_string_lossy()));
        format!("spool {}", words.collect::<Vec<_>>().join(" "))
    });
    let local = (decision.way == Way::Local).then(local::find);
    let told = match how {
        Explain::Json => output::print_json(&json!({
            "decision": decision.way,
            "reasons": decision.reasons,
            "server": server,
            "spool": spool,
            "ffmpeg": local.as_ref().and_then(|found| found.as_ref().ok()),
            "source_looked_at": source.is_some(),
        })),
        Explain::Text => {
            let place = server.map_or_else(|| "in this process".to_owned(), |url| format!("by {url}"));
            let mut text = match (&decision.way, &local) {
                (Way::Split, _) => format!("split: Spool encodes it in chunks, {place}\n"),
                (Way::Whole, _) => format!("whole: Spool encodes it in one piece, {place}\n"),
                (Way::Local, Some(Ok(path))) => format!("local: {} runs it\n", path.display()),
                (Way::Local, Some(Err(missing))) => format!("local: but {missing}\n"),
                (Way::Local, None) => "local\n".into(),
            };
            for reason in &decision.reasons {
                text.push_str(&format!("  because {reason}\n"));
            }
            if let Some(job) = decision.job.as_ref().filter(|_| source.is_none()) {
                text.push_str(&format!(
                    "  {} could not be looked at; what is in it may decide otherwise\n",
                    job.input.display()
                ));
            }
            text.extend(spool.map(|line| format!("  the same: {line}\n")));
            output::print(&text)
        }
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(1),
    }
}

/// As a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+%@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
