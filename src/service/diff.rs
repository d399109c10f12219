//! `spool service diff`: two versions of a service, rule by rule and line by line.

mod blocks;
mod text;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use spool_dialect::Sources;
use spool_rules::ruleset::{Rule, RuleSet};

use super::folder::{self, Folder, lines};
use super::named::Named;
use crate::client::Client;
use crate::exit::{Exit, Stop};
use crate::output;
use blocks::{Block, Blocks, Place};

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A service's folder, or a service on the server, such as encode@4 (encode: the version that takes new jobs)
    #[arg(value_name = "A")]
    a: String,
    /// What A is held against: a folder or a service
    #[arg(value_name = "B")]
    b: String,
    /// Only which rules differ, without the text
    #[arg(long)]
    brief: bool,
    /// Exit 1 when anything differs
    #[arg(long)]
    exit_code: bool,
    /// Print what differs as JSON
    #[arg(long)]
    json: bool,
    /// The server that has the versions named with @
    #[arg(long, env = "SPOOL_SERVER", value_name = "URL", default_value = crate::cli::DEFAULT_URL)]
    server: String,
}

struct Side {
    /// As the user named it.
    name: String,
    sources: Sources,
    set: RuleSet,
}

#[derive(Debug, Serialize)]
struct Differences {
    service: [String; 2],
    version: [String; 2],
    hash: [String; 2],
    /// What a job's input may be.
    input: bool,
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<Changed>,
    files: Vec<FileDiff>,
}

#[derive(Debug, Serialize)]
struct Changed {
    rule: String,
    /// Where it stands in B.
    place: String,
    /// Its own text is another; else it reads otherwise because of what it uses.
    text: bool,
    /// What it uses that is another: `def cut (lib.star:4)`.
    uses: Vec<String>,
}

#[derive(Debug, Serialize)]
struct FileDiff {
    file: String,
    /// As `diff -u`.
    diff: String,
}

pub async fn run(args: &DiffArgs) -> anyhow::Result<Exit> {
    let (a, b) = (side(&args.a, &args.server).await?, side(&args.b, &args.server).await?);
    let differences = compare(&a, &b);
    if args.json {
        output::print_json(&differences)?;
    } else {
        output::print(&told(&differences, (&a.name, &b.name), args.brief))?;
    }
    let differ = differences.hash[0] != differences.hash[1];
    Ok(if differ && args.exit_code { Exit::JobFailed } else { Exit::Done })
}

async fn side(name: &str, server: &str) -> anyhow::Result<Side> {
    if name.contains(['/', '.']) || Path::new(name).is_dir() {
        let folder = Folder::read(&PathBuf::from(name))?;
        let read = folder.rules()?;
        return Ok(Side { name: name.into(), sources: folder.sources, set: read.set });
    }
    let named: Named = name.parse().map_err(|e| Stop::usage(format!("{name}: there is no such folder, and {e}")))?;
    let client = Client::connect(server).await?;
    let sources = client.service(&named.service, &named.version).await?.files;
    let read = folder::check(&sources)?;
    let read = read.map_err(|problems| Stop::usage(lines(&problems, |problem| format!("{name}/{problem}"))))?;
    Ok(Side { name: name.into(), sources, set: read.set })
}

fn compare(a: &Side, b: &Side) -> Differences {
    let (blocks_a, blocks_b) = (Blocks::of(&a.sources), Blocks::of(&b.sources));
    let find = |set: &RuleSet, name: &str| set.rules.iter().find(|rule| rule.name.as_ref() == name).cloned();
    let only = |of: &Side, other: &Side| {
        let rules = of.set.rules.iter().filter(|rule| find(&other.set, &rule.name).is_none());
        rules.map(|rule| rule.name.to_string()).collect()
    };
    let changed = b.set.rules.iter().filter_map(|rule| {
        let before = find(&a.set, &rule.name)?;
        changed((&before, &blocks_a), (rule, &blocks_b))
    });
    let changed = changed.collect();
    let both = |part: fn(&RuleSet) -> String| [part(&a.set), part(&b.set)];
    let names: BTreeSet<&String> = a.sources.0.keys().chain(b.sources.0.keys()).collect();
    let files = names.into_iter().filter_map(|file| {
        let of = |side: &Side| side.sources.0.get(file).cloned().unwrap_or_default();
        let heading = |line: usize| Some(title(blocks_b.get(blocks_b.at(file, line)?)?));
        let diff = text::unified(&of(a), &of(b), heading);
        (!diff.is_empty()).then(|| FileDiff { file: file.clone(), diff })
    });
    Differences {
        service: both(|set| set.service.to_string()),
        version: both(|set| set.version.to_string()),
        hash: both(|set| set.hash.to_string()),
        input: a.set.input != b.set.input,
        added: only(b, a),
        removed: only(a, b),
        changed,
        files: files.collect(),
    }
}

fn changed((before, blocks_a): (&Rule, &Blocks<'_>), (after, blocks_b): (&Rule, &Blocks<'_>)) -> Option<Changed> {
    let parts = |rule: &Rule, blocks: &Blocks<'_>| -> Option<(String, BTreeSet<(String, String)>)> {
        let own = place(&rule.place, blocks)?;
        let used = blocks.closure(own).into_iter().filter(|used| *used != own);
        let used = used.filter_map(|(file, at)| Some((file.to_owned(), blocks.get((file, at))?.text.clone())));
        Some((blocks.get(own)?.text.clone(), used.collect()))
    };
    let (own_before, used_before) = parts(before, blocks_a).unwrap_or_default();
    let (own_after, used_after) = parts(after, blocks_b).unwrap_or_default();
    // Rules that a loop makes share their text, and may differ all the same.
    let as_data = |rule: &Rule| Rule { place: String::new(), ..rule.clone() };
    let text = own_before != own_after || as_data(before) != as_data(after);
    let other = used_after.symmetric_difference(&used_before);
    let uses: BTreeSet<String> = other.map(|(file, text)| format!("{} ({file})", first_words(text))).collect();
    (text || !uses.is_empty()).then(|| Changed {
        rule: after.name.to_string(),
        place: after.place.clone(),
        text,
        uses: uses.into_iter().collect(),
    })
}

/// The block at `main.star:12:1`.
fn place<'a>(text: &str, blocks: &Blocks<'a>) -> Option<Place<'a>> {
    let mut parts = text.rsplitn(3, ':').skip(1);
    let line: usize = parts.next()?.parse().ok()?;
    blocks.at(parts.next()?, line.checked_sub(1)?)
}

fn title(block: &Block) -> String {
    first_words(&block.text)
}

/// `def cut`, `rule "encode"`, `STEPS`: what a person would call it.
fn first_words(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    if first.starts_with("rule(") {
        let name = text.split_once("name").and_then(|(_, rest)| rest.split(['"', '\'']).nth(1));
        return format!("rule {:?}", name.unwrap_or("?"));
    }
    first.split(['(', '=', ':']).next().unwrap_or_default().trim().to_owned()
}

fn told(differences: &Differences, (a, b): (&str, &str), brief: bool) -> String {
    let Differences { service, version, hash, input, added, removed, changed, files } = differences;
    if hash[0] == hash[1] {
        return format!("{a} and {b} are the same: {} {}\n", service[0], version[0]);
    }
    let of = |at: usize| format!("{} {} ({})", service[at], version[at], crate::client::rules::short(&hash[at]));
    let mut text = format!("{a}: {}\n{b}: {}\n", of(0), of(1));
    if *input {
        text.push_str("~ input: a job's input may be something else\n");
    }
    text.extend(added.iter().map(|rule| format!("+ rule {rule:?}\n")));
    text.extend(removed.iter().map(|rule| format!("- rule {rule:?}\n")));
    for Changed { rule, place, text: own, uses } in changed {
        let own = if *own { "" } else { ", by what it uses" };
        let _ = write!(text, "~ rule {rule:?} ({place}){own}");
        text.push_str(&if uses.is_empty() { "\n".into() } else { format!(": {}\n", uses.join(", ")) });
    }
    if added.is_empty() && removed.is_empty() && changed.is_empty() && !input {
        text.push_str("no rule differs\n");
    }
    if !brief {
        for FileDiff { file, diff } in files {
            let _ = write!(text, "\n--- {a}/{file}\n+++ {b}/{file}\n{diff}");
        }
    }
    text
}
