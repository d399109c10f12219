//! A server's services: versions pushed, looked at, and which of them takes new jobs.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use spool_dialect::Sources;

use super::folder::{Folder, is_error, lines};
use super::named::Named;
use crate::cli::ServerArg;
use crate::client::Client;
use crate::client::rules::{Got, Route, State, Version, short};
use crate::exit::{Exit, Stop};
use crate::output;

#[derive(Debug, Args)]
pub struct PushArgs {
    /// The service's folder
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Have the server read and check it, and keep nothing
    #[arg(long)]
    dry_run: bool,
    /// Let the new version take so many of 100 new jobs at once
    #[arg(long, value_name = "PERCENT", conflicts_with = "dry_run", value_parser = clap::value_parser!(u32).range(1..=100))]
    canary: Option<u32>,
    #[command(flatten)]
    more: More,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    more: More,
}

#[derive(Debug, Args)]
pub struct GetArgs {
    /// Such as encode, encode@4 or encode@1f6a90
    #[arg(value_name = "NAME[@VERSION]")]
    named: Named,
    /// Write the version's files into this folder
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    more: More,
}

#[derive(Debug, Args)]
pub struct CanaryArgs {
    /// Such as encode@4 or encode@1f6a90
    #[arg(value_name = "NAME@VERSION")]
    named: Named,
    /// Of 100 new jobs, how many it takes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    percent: u32,
    #[command(flatten)]
    more: More,
}

#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// Such as encode@4; encode alone: its canary
    #[arg(value_name = "NAME[@VERSION]")]
    named: Named,
    #[command(flatten)]
    more: More,
}

#[derive(Debug, Args)]
pub struct RollbackArgs {
    #[arg(value_name = "NAME", value_parser = super::init::name)]
    name: String,
    #[command(flatten)]
    more: More,
}

/// What every verb that asks a server takes.
#[derive(Debug, Args)]
pub struct More {
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server: ServerArg,
}

impl More {
    pub async fn client(&self) -> anyhow::Result<Client> {
        Client::connect(&self.server.server).await
    }
}

pub async fn push(args: &PushArgs) -> anyhow::Result<Exit> {
    let folder = Folder::read(&args.dir)?;
    let client = args.more.client().await?;
    let mut pushed = client.push_service(&folder.sources, args.dry_run).await?;
    let is_good = !pushed.problems.iter().any(is_error) && !pushed.service.is_empty();
    let takes_all = |state: &Option<State>| state.as_ref().is_some_and(|state| state.stable == pushed.hash);
    if let Some(percent) = args.canary.filter(|_| is_good && !takes_all(&pushed.state)) {
        let route = Route::Canary { version: pushed.hash.clone(), percent };
        pushed.state = Some(client.route_service(&pushed.service, route).await?);
    }
    if args.more.json {
        output::print_json(&pushed)?;
    } else {
        if !pushed.problems.is_empty() {
            output::print(&(lines(&pushed.problems, |problem| folder.line(problem)) + "\n"))?;
        }
        output::print(&match (&pushed.state, is_good) {
            (_, false) => format!("{}: nothing was kept\n", args.dir.display()),
            (_, true) if args.dry_run => {
                format!("{}@{}: good; nothing was kept\n", pushed.service, short(&pushed.hash))
            }
            (state, true) => told(&pushed.service, &pushed.hash, pushed.existing, state.as_ref()),
        })?;
    }
    Ok(if is_good { Exit::Done } else { Exit::JobFailed })
}

fn told(service: &str, hash: &str, existing: bool, state: Option<&State>) -> String {
    let version = short(hash);
    let was = if existing { "was pushed before" } else { "is kept" };
    let takes = match state {
        Some(state) if state.stable == hash => "it takes new jobs".to_owned(),
        Some(state) if state.canary == hash => format!("it takes {} of 100 new jobs", state.canary_percent),
        _ => format!("it takes no jobs yet: spool service promote {service}@{version}, or canary"),
    };
    format!("{service}@{version} {was}; {takes}\n")
}

pub async fn list(args: &ListArgs) -> anyhow::Result<()> {
    let services = args.more.client().await?.services().await?;
    if args.more.json {
        return output::print_json(&services);
    }
    let rows: Vec<Vec<String>> = services
        .iter()
        .map(|state| {
            let [begun, done, failed] = state.versions.iter().fold([0; 3], |[begun, done, failed], version| {
                [begun + version.begun, done + version.done, failed + version.failed]
            });
            vec![
                state.service.clone(),
                called(state, &state.stable),
                canary(state),
                state.versions.len().to_string(),
                begun.to_string(),
                done.to_string(),
                failed.to_string(),
                if state.verdict.is_empty() { "-".into() } else { state.verdict.clone() },
            ]
        })
        .collect();
    let head = ["SERVICE", "STABLE", "CANARY", "VERSIONS", "BEGUN", "DONE", "FAILED", "VERDICT"];
    output::print(&output::table(&head, &rows, true))
}

/// A version as its author and the server call it.
fn called(state: &State, hash: &str) -> String {
    if hash.is_empty() {
        return "-".into();
    }
    let known = state.versions.iter().find(|version| version.hash == hash);
    known.map_or_else(|| short(hash).to_owned(), Version::shown)
}

fn canary(state: &State) -> String {
    match state.canary.as_str() {
        "" => "-".into(),
        hash => format!("{} {}%", called(state, hash), state.canary_percent),
    }
}

pub async fn get(args: &GetArgs) -> anyhow::Result<()> {
    let client = args.more.client().await?;
    let got = client.service(&args.named.service, &args.named.version).await?;
    if let Some(folder) = &args.output {
        write(&got.files, folder)?;
    }
    if args.more.json {
        return output::print_json(&got);
    }
    if let Some(folder) = &args.output {
        let files: String = got.files.0.keys().map(|file| format!("{}\n", folder.join(file).display())).collect();
        return output::print(&files);
    }
    output::print(&text(&got))
}

fn text(got: &Got) -> String {
    let Got { state, version, files } = got;
    let mut text = state_text(state);
    text.push_str(&format!("\n{}@{}: {}\n", state.service, short(&version.hash), version.shown()));
    text.extend(files.0.iter().map(|(file, content)| format!("  {file}  {} lines\n", content.lines().count())));
    text
}

/// Which version takes new jobs, and all there are.
fn state_text(state: &State) -> String {
    let mut text = format!("{}: new jobs go to {}\n", state.service, called(state, &state.stable));
    if !state.canary.is_empty() {
        text.push_str(&format!("  {} of 100 go to {}\n", state.canary_percent, called(state, &state.canary)));
    }
    if !state.verdict.is_empty() {
        text.push_str(&format!("  canary: {}\n", state.verdict));
    }
    text.push('\n');
    let rows: Vec<Vec<String>> = state
        .versions
        .iter()
        .map(|version| {
            vec![
                version.version.clone(),
                short(&version.hash).to_owned(),
                if version.built_in { "built in".into() } else { output::time(version.pushed) },
                version.rules.to_string(),
                version.begun.to_string(),
                version.done.to_string(),
                version.failed.to_string(),
            ]
        })
        .collect();
    text.push_str(&output::table(&["VERSION", "HASH", "PUSHED", "RULES", "BEGUN", "DONE", "FAILED"], &rows, true));
    text
}

/// Nothing that is there is written over.
fn write(files: &Sources, folder: &Path) -> anyhow::Result<()> {
    let there: Vec<&String> = files.0.keys().filter(|file| folder.join(file).exists()).collect();
    if let Some(file) = there.first() {
        let path = folder.join(file);
        return Err(Stop::usage(format!("{}: it is there already, and is not written over", path.display())));
    }
    for (file, text) in &files.0 {
        let path = folder.join(file);
        let is_within = Path::new(file).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !is_within {
            return Err(anyhow::anyhow!("the server named a file {file:?}, which does not lie in a service's folder"));
        }
        let written = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| OpenOptions::new().write(true).create_new(true).open(&path)?.write_all(text.as_bytes()));
        written.map_err(|e| Stop::usage(format!("{}: {e}", path.display())))?;
    }
    Ok(())
}

pub async fn canary_to(args: &CanaryArgs) -> anyhow::Result<()> {
    if args.named.version.is_empty() {
        let service = &args.named.service;
        return Err(Stop::usage(format!(
            "{service}: which version? name it, such as {service}@4; spool service get {service} shows them"
        )));
    }
    let client = args.more.client().await?;
    let route = Route::Canary { version: args.named.version.clone(), percent: args.percent };
    show(client.route_service(&args.named.service, route).await?, &args.more)
}

pub async fn promote(args: &PromoteArgs) -> anyhow::Result<()> {
    let client = args.more.client().await?;
    show(client.route_service(&args.named.service, Route::Promote(args.named.version.clone())).await?, &args.more)
}

pub async fn rollback(args: &RollbackArgs) -> anyhow::Result<()> {
    let client = args.more.client().await?;
    show(client.route_service(&args.name, Route::Rollback).await?, &args.more)
}

fn show(state: State, more: &More) -> anyhow::Result<()> {
    if more.json { output::print_json(&state) } else { output::print(&state_text(&state)) }
}
