//! `spool pool …`: the quota tree, looked at and changed.
//!
//! Reading order: [`manifest`] (pools as a file), [`edit`] (changes from options), [`change`] (previewed, applied, told), [`show`]
//! (tables).

mod change;
mod edit;
mod manifest;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use spool_proto::pool::{Hold, PoolName};

use crate::cli::ServerArg;
use crate::client::Client;
use crate::exit::{Exit, Stop};
use crate::output::{self, Format, Redraw, Style};
use change::{ChangeArgs, Edited};
use edit::EditArgs;

#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// Make the pools as a file says: all of them (PoolTree), or one (Pool)
    Apply(ApplyArgs),
    /// Pools; with -o yaml the whole tree, ready to be edited and applied
    List(ListArgs),
    /// One pool; with -o yaml ready to be edited and applied
    Get(GetArgs),
    /// Pools below each other, with what they use
    Tree(ListArgs),
    /// What pools own, use, borrow and lend
    Usage(UsageArgs),
    /// Change a pool, or make it
    Set(SetArgs),
    /// Take a pool away
    Delete(DeleteArgs),
    /// Who changed what, when and why; the newest first
    History(HistoryArgs),
    /// Start nothing new in a pool; submits are queued
    Hold(HoldArgs),
    /// Undo hold and drain
    Resume(HoldArgs),
    /// Start nothing new in a pool and refuse submits; what runs, ends
    Drain(HoldArgs),
}

#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The file; - is stdin
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    style: Style,
    #[command(flatten)]
    redraw: Redraw,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Debug, Args)]
pub struct GetArgs {
    /// Such as studio/marketing [default: all of them]
    #[arg(value_name = "POOL", value_parser = name)]
    pool: Option<PoolName>,
    #[command(flatten)]
    style: Style,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Debug, Args)]
pub struct UsageArgs {
    /// Only this pool and those below it
    #[arg(value_name = "POOL", value_parser = name)]
    pool: Option<PoolName>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
pub struct SetArgs {
    /// Such as studio/marketing; made if it is not there
    #[arg(value_name = "POOL", value_parser = name)]
    pool: PoolName,
    #[command(flatten)]
    edit: EditArgs,
    /// Only if the tree is at this version
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Debug, Args)]
pub struct DeleteArgs {
    #[arg(value_name = "POOL", value_parser = name)]
    pool: PoolName,
    /// Only if the tree is at this version
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Only changes of this pool
    #[arg(value_name = "POOL", value_parser = name)]
    pool: Option<PoolName>,
    /// At most this many changes
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    style: Style,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Debug, Args)]
pub struct HoldArgs {
    #[arg(value_name = "POOL", value_parser = name)]
    pool: PoolName,
    /// Shown with the pool
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    server: ServerArg,
}

/// A pool's name as it should be written.
pub fn name(text: &str) -> Result<PoolName, String> {
    let pool = PoolName::from(text);
    pool.check().map_err(|e| e.rule)?;
    Ok(pool)
}

pub async fn run(command: PoolCommand) -> anyhow::Result<Exit> {
    match command {
        PoolCommand::Apply(args) => apply(&args).await?,
        PoolCommand::List(args) => list(&args).await?,
        PoolCommand::Get(args) => get(&args).await?,
        PoolCommand::Tree(args) => usage(None, &args, true).await?,
        PoolCommand::Usage(args) => usage(args.pool.as_ref(), &args.list, false).await?,
        PoolCommand::Set(args) => {
            let client = Client::connect(&args.server.server).await?;
            let edit = Edited { client: &client, if_version: args.if_version, change: &args.change };
            edit.run(|tree| args.edit.apply_to(tree, &args.pool)).await?;
        }
        PoolCommand::Delete(args) => {
            let client = Client::connect(&args.server.server).await?;
            let edit = Edited { client: &client, if_version: args.if_version, change: &args.change };
            edit.run(|tree| edit::delete(tree, &args.pool)).await?;
        }
        PoolCommand::History(args) => history(&args).await?,
        PoolCommand::Hold(args) => hold(&args, Hold::Held).await?,
        PoolCommand::Resume(args) => hold(&args, Hold::Open).await?,
        PoolCommand::Drain(args) => hold(&args, Hold::Draining).await?,
    }
    Ok(Exit::Done)
}

async fn apply(args: &ApplyArgs) -> anyhow::Result<()> {
    let source = args.file.display().to_string();
    let text =
        if source == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(&args.file) };
    let text = text.map_err(|e| Stop::usage(format!("{source}: {e}")))?;
    let manifest = manifest::parse(&source, &text).map_err(Stop::usage)?;
    let client = Client::connect(&args.server.server).await?;
    match manifest {
        manifest::Manifest::Tree { version, tree } => args.change.make(&client, tree, version).await,
        manifest::Manifest::Pool { version, name, spec } => {
            let edit = Edited { client: &client, if_version: version, change: &args.change };
            edit.run(|tree| {
                tree.pools.insert(name.clone(), spec.clone());
                Ok(())
            })
            .await
        }
    }
}

async fn list(args: &ListArgs) -> anyhow::Result<()> {
    let client = Client::connect(&args.server.server).await?;
    args.redraw
        .show(async || {
            if args.style.output == Format::Yaml {
                return whole_tree(&client).await;
            }
            let pools = client.pools(None).await?;
            args.style.render(&pools, || show::names(&pools), |wide| show::list(&pools, wide, args.style))
        })
        .await
}

async fn whole_tree(client: &Client) -> anyhow::Result<String> {
    let (version, tree) = client.pool_tree().await?;
    manifest::tree_text(version, &tree)
}

async fn get(args: &GetArgs) -> anyhow::Result<()> {
    let client = Client::connect(&args.server.server).await?;
    let Some(name) = &args.pool else {
        let all = ListArgs { style: args.style, redraw: Redraw { watch: false }, server: args.server.clone() };
        return list(&all).await;
    };
    if args.style.output == Format::Yaml {
        let (version, tree) = client.pool_tree().await?;
        let spec = tree.pools.get(name).ok_or_else(|| edit::no_such_pool(name))?;
        return output::print(&manifest::pool_text(version, name, spec)?);
    }
    let pool = client.pool(name).await?;
    output::print(&args.style.render(&pool, || vec![name.to_string()], |_| show::one(&pool, args.style))?)
}

async fn usage(below: Option<&PoolName>, args: &ListArgs, nested: bool) -> anyhow::Result<()> {
    let client = Client::connect(&args.server.server).await?;
    args.redraw
        .show(async || {
            let pools = client.pools(below).await?;
            let table = |wide| show::usage(&pools, nested, wide, args.style);
            args.style.render(&pools, || show::names(&pools), table)
        })
        .await
}

async fn history(args: &HistoryArgs) -> anyhow::Result<()> {
    let client = Client::connect(&args.server.server).await?;
    let changes = client.pool_history(args.pool.as_ref(), args.limit).await?;
    let names = || changes.iter().map(|change| change.version.to_string()).collect();
    output::print(&args.style.render(&changes, names, |_| show::history(&changes, args.style))?)
}

async fn hold(args: &HoldArgs, hold: Hold) -> anyhow::Result<()> {
    let client = Client::connect(&args.server.server).await?;
    let pool = client.hold_pool(&args.pool, hold, &args.reason).await?;
    output::print(&format!("{} {}\n", pool.pool, show::hold(pool.hold)))
}
