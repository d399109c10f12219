//! `spool rules …`: why a rule does not fire, and what other rules would have made of a job.

mod replay;

use clap::{Args, Subcommand};
use serde_json::Value;
use spool_proto::ids::JobId;

use crate::cli::ServerArg;
use crate::client::Client;
use crate::client::rules::Look;
use crate::exit::Exit;
use crate::output;
use crate::service::migrate::{fact, plain};

#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// Say what a rule of a job lacks to fire
    WhyNot(WhyNotArgs),
    /// Hold a job's history against other rules: what would have fired, and what not
    Replay(replay::ReplayArgs),
}

#[derive(Debug, Args)]
pub struct WhyNotArgs {
    /// The job's id, such as j17
    #[arg(value_name = "JOB")]
    job: JobId,
    /// The rule's name
    #[arg(value_name = "RULE")]
    rule: String,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArg,
}

pub async fn run(command: RulesCommand) -> anyhow::Result<Exit> {
    match command {
        RulesCommand::WhyNot(args) => why_not(&args).await,
        RulesCommand::Replay(args) => replay::run(&args),
    }
}

async fn why_not(args: &WhyNotArgs) -> anyhow::Result<Exit> {
    let client = Client::connect(&args.server.server).await?;
    let why = client.look(&args.job.to_string(), Look::WhyNot(args.rule.clone())).await?;
    if args.json {
        output::print_json(&why)?;
    } else {
        output::print(&text(&why))?;
    }
    Ok(Exit::Done)
}

/// What the engine found, in words. See `spool_rules::explain`.
fn text(why: &Value) -> String {
    let own = |name: &str| why.get(name).map_or_else(|| "?".into(), plain);
    let pattern = || format!("pattern {}, {}", own("number"), own("pattern"));
    let rule = format!("rule {:?}", own("rule"));
    match own("verdict").as_str() {
        "no_fact" => no_fact(why, &rule, &pattern()),
        "hindered" => {
            let by = fact(&why["by"]);
            format!("{rule} does not fire: {} does not hold, because there is the fact {by}\n", pattern())
        }
        "too_few" => {
            format!("{rule} does not fire: {} finds {} and needs {}\n", pattern(), own("count"), own("at_least"))
        }
        "fired" => format!("{rule} has fired: {} times, for all that it matches now\n", own("times")),
        "waits" => format!("{rule} matches and waits: {}\n", own("why")),
        "too_many" => format!("{rule}: there are too many combinations of facts to say\n"),
        _ => format!("{rule}: {why}\n"),
    }
}

fn no_fact(why: &Value, rule: &str, pattern: &str) -> String {
    let list = |name: &str| why.get(name).and_then(Value::as_array).into_iter().flatten();
    let mut text = format!("{rule} does not fire: {pattern} finds no fact");
    let found: Vec<String> = list("found").map(|pair| format!("{} = {}", plain(&pair[0]), fact(&pair[1]))).collect();
    if !found.is_empty() {
        text.push_str(&format!(" with {}", found.join(", ")));
    }
    text.push('\n');
    match why.get("facts").and_then(Value::as_u64) {
        Some(0) => text.push_str("  there is no fact of the type\n"),
        Some(count) => text.push_str(&format!("  {count} facts are of the type; nearest:\n")),
        None => {}
    }
    for near in list("near") {
        let has = match &near["found"] {
            Value::Null => "it has none".to_owned(),
            found => format!("it has {found}"),
        };
        text.push_str(&format!("  {} fails {}: {has}\n", fact(&near["fact"]), plain(&near["test"])));
    }
    text
}
