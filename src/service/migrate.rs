//! `spool service migrate`: a job under way goes on under another version of its service.

use clap::Args;
use serde_json::{Value, json};
use spool_proto::ids::JobId;

use super::versions::More;
use crate::client::rules::short;
use crate::output;

#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// The job's id, such as j17
    #[arg(value_name = "JOB")]
    job: JobId,
    /// The version: a hash, the beginning of one, or as its author calls it [default: the one that takes new jobs]
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    to: String,
    /// Only say what would change: which rules would fire at once, and which firings under way would be called off
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    more: More,
}

pub async fn run(args: &MigrateArgs) -> anyhow::Result<()> {
    let client = args.more.client().await?;
    let job = args.job.to_string();
    let (hash, changes) = client.migrate_job(&job, &args.to, args.dry_run).await?;
    if args.more.json {
        return output::print_json(&json!({ "job": job, "hash": hash, "dry_run": args.dry_run, "changes": changes }));
    }
    let does = if args.dry_run { "would go on under" } else { "goes on under" };
    let mut text = format!("{job} {does} {}\n", short(&hash));
    let pairs = |side: &str| changes.get(side).and_then(Value::as_array).cloned().unwrap_or_default();
    for pair in pairs("gained") {
        let facts = pair.get(1).and_then(Value::as_array).map(|facts| facts.iter().map(fact).collect::<Vec<_>>());
        text.push_str(&format!("+ fires: rule {} for {}\n", pair[0], facts.unwrap_or_default().join(", ")));
    }
    for pair in pairs("lost") {
        text.push_str(&format!("- called off: what rule {} waits for (firing {})\n", pair[0], plain(&pair[1])));
    }
    output::print(&text)
}

/// `f12`, however it is written.
pub fn fact(id: &Value) -> String {
    id.as_u64().map_or_else(|| plain(id), |id| format!("f{id}"))
}

/// A text without its quotes.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
