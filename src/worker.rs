//! `spool worker`: the role, and the nouns' verbs `list`, `drain`, `cordon`, `uncordon`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use spool_proto::ids::WorkerName;
use spool_proto::spec::parse;
use spool_proto::time::Span;
use spool_proto::view::{WorkerHealth, WorkerView};

use crate::cli::{SandboxArg, ServerArg};
use crate::client::Client;
use crate::exit::Exit;
use crate::follow::Interrupts;
use crate::output::{self, Style};
use crate::quantity::amount_text;
use crate::roles::{self, WorkerTerms};
use crate::run::folder;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct WorkerCommand {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    role: RoleArgs,
}

/// The role: without a verb.
#[derive(Debug, Args)]
pub struct RoleArgs {
    #[command(flatten)]
    server: ServerArg,
    /// Cores to offer [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
    /// The worker's name; the same name after a restart is the same worker [default: the host's]
    #[arg(long)]
    name: Option<String>,
    /// Where its scratch is kept [default: $XDG_DATA_HOME/spool/worker]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Calls that wait are handed over in batches that fill this much time; 0 hands over each alone
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = parse::time)]
    batch_target: Span,
    #[command(flatten)]
    sandbox: SandboxArg,
    /// Run no functions that users wrote
    #[arg(long)]
    no_functions: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Workers the server knows
    List(ListArgs),
    /// Let a worker finish what it runs, then leave
    Drain(SteerArgs),
    /// Give a worker nothing new
    Cordon(SteerArgs),
    /// Give a worker work again
    Uncordon(SteerArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    style: Style,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Debug, Args)]
struct SteerArgs {
    #[arg(value_name = "NAME")]
    name: String,
    /// Shown with the worker
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    server: ServerArg,
}

impl WorkerCommand {
    pub fn is_the_role(&self) -> bool {
        self.verb.is_none()
    }
}

pub async fn run(command: WorkerCommand) -> anyhow::Result<Exit> {
    let worker = match command.verb {
        None => return role(command.role).await,
        Some(Verb::List(args)) => {
            list(&args).await?;
            return Ok(Exit::Done);
        }
        Some(Verb::Drain(args)) => Client::connect(&args.server.server).await?.drain(&args.name, &args.reason).await?,
        Some(Verb::Cordon(args)) => {
            Client::connect(&args.server.server).await?.cordon(&args.name, &args.reason).await?
        }
        Some(Verb::Uncordon(args)) => {
            Client::connect(&args.server.server).await?.uncordon(&args.name, &args.reason).await?
        }
    };
    output::print(&format!("{} {}\n", worker.worker, state(&worker)))?;
    Ok(Exit::Done)
}

/// Serves until it is told to leave: the first signal drains, the second stops at once.
async fn role(args: RoleArgs) -> anyhow::Result<Exit> {
    let mut interrupts = Interrupts::listen()?;
    let scratch = match args.data {
        Some(data) => std::path::absolute(data)?.join("scratch"),
        None => folder::root(None)?.join("worker/scratch"),
    };
    let name = args.name.map_or_else(roles::host_name, WorkerName::from);
    let channel = spool_worker::channel(&args.server.server)?;
    let terms = WorkerTerms {
        batch_target: args.batch_target.into(),
        functions: !args.no_functions,
        ..WorkerTerms::new(args.slots, roles::all_backends(), args.sandbox.mode)
    };
    let mut worker = roles::start_worker(name, channel, scratch, terms).await?;
    tokio::select! {
        exit = worker.wait() => return Ok(roles::exit_of_worker(exit)),
        () = interrupts.next() => worker.leave(),
    }
    tracing::info!("draining: what runs is finished first; a second signal stops at once");
    tokio::select! {
        exit = worker.wait() => return Ok(roles::exit_of_worker(exit)),
        () = interrupts.next() => worker.stop_now(),
    }
    Ok(roles::exit_of_worker(worker.wait().await))
}

async fn list(args: &ListArgs) -> anyhow::Result<()> {
    let workers = Client::connect(&args.server.server).await?.workers().await?;
    let names = || workers.iter().map(|worker| worker.worker.to_string()).collect();
    output::print(&args.style.render(&workers, names, |wide| workers_table(&workers, wide, args.style))?)
}

fn workers_table(workers: &[WorkerView], wide: bool, style: Style) -> String {
    let mut head = vec!["WORKER", "STATE", "CORES", "MEMORY", "RUNNING", "WAITING", "HEARD"];
    if wide {
        head.extend(["BACKENDS", "ALLOCATED", "WARM", "REASON"]);
    }
    let row = |worker: &WorkerView| {
        let of = |resource: &str| {
            let text = |amount| amount_text(resource, amount);
            format!("{}/{}", text(worker.allocated.get(resource)), text(worker.capacity.get(resource)))
        };
        let mut row = vec![
            worker.worker.to_string(),
            state(worker).into(),
            of("cpu"),
            of("memory"),
            worker.running.len().to_string(),
            worker.prefetched.len().to_string(),
            format!("{} ago", output::ago(worker.last_heard)),
        ];
        if wide {
            row.extend([
                worker.backends.join(","),
                output::amounts(worker.allocated.iter()),
                output::list(worker.warm.iter().map(|warm| format!("{}={}", warm.key, warm.idle))),
                reason(worker),
            ]);
        }
        row
    };
    let rows: Vec<Vec<String>> = workers.iter().map(row).collect();
    style.table(&head, &rows)
}

/// Why it is as it is: by its failures, else by its operator.
fn reason(worker: &WorkerView) -> String {
    match (&worker.health, &worker.reason) {
        (WorkerHealth::Throttled { reason } | WorkerHealth::Quarantined { reason, .. }, _) => reason.clone(),
        (WorkerHealth::Healthy, Some(reason)) => reason.clone(),
        (WorkerHealth::Healthy, None) => "-".into(),
    }
}

fn state(worker: &WorkerView) -> &'static str {
    match worker {
        WorkerView { connected: false, .. } => "gone",
        WorkerView { draining: true, .. } => "draining",
        WorkerView { cordoned: true, .. } => "cordoned",
        WorkerView { health: WorkerHealth::Quarantined { .. }, .. } => "quarantined",
        WorkerView { health: WorkerHealth::Throttled { .. }, .. } => "throttled",
        _ => "ready",
    }
}
