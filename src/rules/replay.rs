//! `spool rules replay`: what other rules would have made of what happened to a job.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::{Deserialize, Serialize};
use spool_dialect::Sources;
use spool_rules::history::{Entry, Event, effective};
use spool_rules::instance::{Kept, Program};
use spool_rules::limits::Limits;
use spool_rules::replay::{Departure, Difference, compare, compare_from};

use crate::client::rules::short;
use crate::exit::{Exit, Stop};
use crate::job::inside::event;
use crate::output;
use crate::service::folder::{self, Folder, lines};

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// What spool job history JOB --json prints; - is stdin
    #[arg(value_name = "HISTORY.json")]
    history: PathBuf,
    /// The folder of the other rules
    #[arg(long, value_name = "DIR")]
    rules: PathBuf,
    /// Exit 1 when anything differs
    #[arg(long)]
    exit_code: bool,
    /// Print the differences as JSON
    #[arg(long)]
    json: bool,
}

/// As `spool job history JOB --json` prints it.
#[derive(Debug, Deserialize)]
struct History {
    /// Hash of the rules it was made by.
    rules: String,
    files: Sources,
    entries: Vec<Entry>,
    /// Where it stood when what was before was trimmed away.
    #[serde(default)]
    kept: Option<Box<Kept>>,
}

#[derive(Debug, Serialize)]
struct Replayed {
    /// Of the rules then and now.
    rules: [String; 2],
    events: usize,
    /// Events that were left out, since the job had moved to other rules.
    left_out: usize,
    differences: Vec<Difference>,
}

pub fn run(args: &ReplayArgs) -> anyhow::Result<Exit> {
    let shown = args.history.display().to_string();
    let text =
        if shown == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(&args.history) };
    let text = text.map_err(|e| Stop::usage(format!("{shown}: {e}")))?;
    let mut history = read(&shown, &text)?;
    let folder = Folder::read(&args.rules)?;
    let mut now = folder.rules()?;
    let then = folder::check(&history.files)?.map_err(|problems| {
        let problems = lines(&problems, ToString::to_string);
        Stop::usage(format!("{shown}: the rules in it cannot be read:\n{problems}"))
    })?;
    if then.set.hash.as_ref() != history.rules {
        return Err(Stop::usage(format!(
            "{shown}: its files are not the rules {} that it names: it was edited, or is of another language version",
            short(&history.rules)
        )));
    }
    let all = history.entries.len();
    let moved = history.entries.iter().position(|entry| matches!(entry.event, Event::Migrated { .. }));
    history.entries.truncate(moved.unwrap_or(all));
    let program = |set| Program::new(set).map(Arc::new).map_err(|bad| anyhow::anyhow!("{}", bad[0]));
    let hashes = [then.set.hash.to_string(), now.set.hash.to_string()];
    let (old, new) = (program(then.set)?, program(now.set)?);
    let limits = Limits::default();
    let differences = match history.kept {
        Some(kept) => compare_from(*kept, &history.entries, &old, &new, &mut now.hosted, limits),
        None => compare(&history.entries, &old, &new, &mut now.hosted, limits),
    };
    let differences = differences.map_err(|e| Stop::usage(format!("{shown}: {e}")))?;
    let events = history.entries.len();
    let replayed = Replayed { rules: hashes, events, left_out: all - events, differences };
    if args.json {
        output::print_json(&replayed)?;
    } else {
        output::print(&told(&replayed, &history.entries))?;
    }
    let differ = !replayed.differences.is_empty();
    Ok(if differ && args.exit_code { Exit::JobFailed } else { Exit::Done })
}

fn read(shown: &str, text: &str) -> anyhow::Result<History> {
    let mut from = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut from).map_err(|e| {
        let (path, inner) = (e.path().to_string(), e.inner());
        Stop::usage(format!("{shown}: {path}: {inner}; give what spool job history JOB --json printed"))
    })
}

fn told(replayed: &Replayed, entries: &[Entry]) -> String {
    let Replayed { rules, events, left_out, differences } = replayed;
    let mut text = format!("{events} events, {} then and {} now\n", short(&rules[0]), short(&rules[1]));
    if *left_out > 0 {
        text.push_str(&format!("{left_out} events are left out: the job had moved to other rules\n"));
    }
    if differences.is_empty() {
        text.push_str("nothing differs\n");
    }
    let counted: Vec<&Entry> = effective(entries).collect();
    let mut last = None;
    for Difference { event: number, what } in differences {
        if last.replace(*number) != Some(*number) {
            let at = number.checked_sub(1).and_then(|at| counted.get(at));
            let at = at.map_or_else(|| "the new rules take over".into(), |entry| event(&entry.event));
            text.push_str(&format!("event {number}: {at}\n"));
        }
        text.push_str(&departure(what));
    }
    text
}

fn departure(what: &Departure) -> String {
    match what {
        Departure::Lost { rule, section } => format!("  - {rule} {section}: ran then\n"),
        Departure::Gained { rule, section } => format!("  + {rule} {section}: runs now\n"),
        Departure::Otherwise { rule, section, then, now } => {
            format!("  ~ {rule} {section} answers otherwise\n    then {then}\n    now  {now}\n")
        }
        Departure::Unasked { effect } => format!("  - {effect} is never asked for now; its answer is dropped\n"),
        Departure::End { then, now } => {
            let text = |status| serde_json::to_string(status).unwrap_or_default();
            format!("  ~ it ends otherwise\n    then {}\n    now  {}\n", text(then), text(now))
        }
    }
}
