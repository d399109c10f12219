//! `spool queue …`: what waits, and how long.

use clap::{Args, Subcommand};
use spool_proto::pool::PoolName;
use spool_proto::view::{QueueStats, QueueView};

use crate::cli::ServerArg;
use crate::client::Client;
use crate::exit::Exit;
use crate::output::{self, Redraw, Style};

#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Waiting tasks, a line for equal ones, with why they wait
    List(ListArgs),
    /// How much waits, and how long it waits
    Stats(StatsArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only of this pool and those below it
    #[arg(long, value_name = "POOL", value_parser = crate::pool::name)]
    pool: Option<PoolName>,
    /// At most this many lines
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: u32,
    #[command(flatten)]
    style: Style,
    #[command(flatten)]
    redraw: Redraw,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Debug, Args)]
pub struct StatsArgs {
    #[command(flatten)]
    style: Style,
    #[command(flatten)]
    redraw: Redraw,
    #[command(flatten)]
    server: ServerArg,
}

pub async fn run(command: QueueCommand) -> anyhow::Result<Exit> {
    match command {
        QueueCommand::List(args) => list(&args).await?,
        QueueCommand::Stats(args) => stats(&args).await?,
    }
    Ok(Exit::Done)
}

async fn list(args: &ListArgs) -> anyhow::Result<()> {
    let client = Client::connect(&args.server.server).await?;
    args.redraw
        .show(async || {
            let lines = client.queue(args.pool.as_ref(), args.limit).await?;
            let names = || lines.iter().map(name).collect();
            args.style.render(&lines, names, |wide| queue_table(&lines, wide, args.style))
        })
        .await
}

/// What an executor could be warm for.
fn name(line: &QueueView) -> String {
    if line.backend.is_empty() { line.function.clone() } else { format!("{}/{}", line.function, line.backend) }
}

fn queue_table(lines: &[QueueView], wide: bool, style: Style) -> String {
    let mut head = vec!["POOL", "FUNCTION", "PRIORITY", "TASKS", "OLDEST", "REASON", "WHY"];
    if wide {
        head.extend(["CLASS", "EACH"]);
    }
    let row = |line: &QueueView| {
        let mut row = vec![
            line.pool.to_string(),
            name(line),
            line.priority.to_string(),
            line.tasks.to_string(),
            output::span(line.oldest_wait),
            line.reason.clone(),
            line.text.clone(),
        ];
        if wide {
            row.extend([output::class(line.class), output::amounts(line.resources.iter())]);
        }
        row
    };
    style.table(&head, &lines.iter().map(row).collect::<Vec<_>>())
}

async fn stats(args: &StatsArgs) -> anyhow::Result<()> {
    let client = Client::connect(&args.server.server).await?;
    args.redraw
        .show(async || {
            let stats = client.queue_stats().await?;
            let names = || vec![stats.queued_tasks.to_string()];
            args.style.render(&stats, names, |_| stats_table(&stats, args.style))
        })
        .await
}

fn stats_table(stats: &QueueStats, style: Style) -> String {
    let overload = match stats.overload {
        0 => "none".into(),
        1 => "1: opportunistic work waits".into(),
        2 => "2: nothing is borrowed".into(),
        3 => "3: submits of low priority are refused".into(),
        n => n.to_string(),
    };
    let rows = [
        ("tasks waiting", stats.queued_tasks.to_string()),
        ("tasks on workers", stats.leased_tasks.to_string()),
        ("open jobs", stats.open_jobs.to_string()),
        ("shapes", stats.shapes.to_string()),
        ("workers", stats.workers.to_string()),
        ("leases so far", stats.leases_total.to_string()),
        ("preemptions so far", stats.preemptions_total.to_string()),
        ("wait, median", output::span(stats.wait_p50)),
        ("wait, 99 of 100", output::span(stats.wait_p99)),
        ("overload", overload),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, value)| vec![name.into(), value]).collect();
    style.table(&["QUEUE", "NOW"], &rows)
}
