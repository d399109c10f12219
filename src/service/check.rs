//! `spool service check`: what is wrong with rules, without a server.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use spool_dialect::Problem;

use super::folder::{Folder, is_error, lines};
use crate::exit::Exit;
use crate::output;

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The service's folder
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Warnings, too, end with exit 1
    #[arg(long)]
    strict: bool,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Findings<'a> {
    service: &'a str,
    version: &'a str,
    /// Names the rule set: BLAKE3 of its files.
    hash: String,
    rules: usize,
    problems: &'a [Problem],
}

pub fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let folder = Folder::read(&args.dir)?;
    let (set, problems) = match folder.check()? {
        Ok(read) => (Some(read.set), read.warnings),
        Err(problems) => (None, problems),
    };
    let errors = problems.iter().filter(|problem| is_error(problem)).count();
    if args.json {
        let (service, version) = set.as_ref().map_or(("", ""), |set| (&*set.service, &*set.version));
        let rules = set.as_ref().map_or(0, |set| set.rules.len());
        let findings = Findings { service, version, hash: folder.sources.hash(), rules, problems: &problems };
        output::print_json(&findings)?;
    } else {
        if !problems.is_empty() {
            output::print(&(lines(&problems, |problem| folder.line(problem)) + "\n"))?;
        }
        let (rules, warnings) = (set.as_ref().map_or(0, |set| set.rules.len()), problems.len() - errors);
        output::print(&match &set {
            Some(set) if errors == 0 => {
                format!("{} {}: {}, {}\n", set.service, set.version, count(rules, "rule"), count(warnings, "warning"))
            }
            _ => format!("{}: {}\n", args.dir.display(), count(errors, "error")),
        })?;
    }
    let is_bad = set.is_none() || errors > 0 || (args.strict && !problems.is_empty());
    Ok(if is_bad { Exit::JobFailed } else { Exit::Done })
}

/// `1 rule`, `2 rules`.
pub fn count(n: usize, of: &str) -> String {
    format!("{n} {of}{}", if n == 1 { "" } else { "s" })
}
