//! Inside jobs of services made of rules: what they know, what happened to them, a word to them, what they started.

use std::fmt::Write;

use clap::Args;
use serde_json::Value;
use spool_proto::time::Timestamp;
use spool_rules::history::{Entry, Event, Outcome, SectionRun};

use super::{JobArg, print_state};
use crate::client::rules::Look;
use crate::exit::Stop;
use crate::output;
use crate::service::migrate::plain;
use crate::submit::json;

/// Characters of a value in a line for people.
const VALUE_MAX: usize = 160;

#[derive(Debug, Args)]
pub struct LookArgs {
    #[command(flatten)]
    job: JobArg,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct FactsArgs {
    #[command(flatten)]
    job: JobArg,
    /// Only facts of this type
    #[arg(long, value_name = "TYPE", default_value = "", hide_default_value = true)]
    kind: String,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct SignalArgs {
    #[command(flatten)]
    job: JobArg,
    /// The signal's name: rules look for fact("signal", name = NAME)
    #[arg(value_name = "NAME")]
    name: String,
    /// What goes with it: JSON, @FILE or - (stdin)
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    payload: Option<String>,
    /// A second signal with the same id is dropped
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    dedupe: String,
    /// Print the job as JSON
    #[arg(long)]
    json: bool,
}

pub async fn facts(args: &FactsArgs) -> anyhow::Result<()> {
    let (client, job) = args.job.client().await?;
    let facts = client.look(&job, Look::Facts(args.kind.clone())).await?;
    if args.json {
        return output::print_json(&facts);
    }
    let rows = facts.as_array().into_iter().flatten().map(|fact| {
        let own = |name: &str| fact.get(name).map_or_else(|| "-".into(), plain);
        let fields = fact.as_object().into_iter().flatten().filter(|(name, _)| *name != "id" && *name != "type");
        let fields: Vec<String> = fields.map(|(name, value)| format!("{name}={}", short(value))).collect();
        vec![own("id"), own("type"), fields.join(" ")]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    output::print(&output::table(&["FACT", "TYPE", "FIELDS"], &rows, true))
}

pub async fn signal(args: &SignalArgs) -> anyhow::Result<()> {
    let payload = args.payload.as_deref().map(|text| json::given("--payload", text)).transpose()?;
    let (client, job) = args.job.client().await?;
    let payload = payload.unwrap_or_default().to_string();
    let view = client.signal_job(&job, &args.name, &payload, &args.dedupe).await?;
    if args.json { output::print_json(&view) } else { print_state(&view) }
}

pub async fn resume(args: &LookArgs) -> anyhow::Result<()> {
    let (client, job) = args.job.client().await?;
    let view = client.resume_job(&job).await?;
    if args.json { output::print_json(&view) } else { print_state(&view) }
}

pub async fn tree(args: &LookArgs) -> anyhow::Result<()> {
    let (client, job) = args.job.client().await?;
    let tree = client.look(&job, Look::Tree).await?;
    if args.json {
        return output::print_json(&tree);
    }
    let mut text = String::new();
    branch(&tree, "", "", &mut text);
    output::print(&text)
}

/// A job's line, and those of the jobs it started.
fn branch(job: &Value, lead: &str, below: &str, text: &mut String) {
    let own = |name: &str| job.get(name).map_or_else(|| "-".into(), plain);
    // A part is called something by its whole.
    let name = job.get("part_of").and_then(|_| job.get("name")).map(plain).filter(|name| *name != own("service"));
    let name = name.map_or_else(String::new, |name| format!(" {name}"));
    let _ = write!(text, "{lead}{} {}{name} {}", own("job"), own("service"), own("state"));
    let phases = job.get("phases").and_then(Value::as_array).into_iter().flatten();
    let phases: Vec<String> =
        phases.map(|phase| format!("{} {}/{}", plain(&phase["name"]), phase["done"], phase["tasks"])).collect();
    text.push_str(&if phases.is_empty() { "\n".into() } else { format!("  ({})\n", phases.join(", ")) });
    let children: Vec<&Value> = job.get("children").and_then(Value::as_array).into_iter().flatten().collect();
    for (at, child) in children.iter().enumerate() {
        let (knot, line) = if at + 1 == children.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        branch(child, &format!("{below}{knot}"), &format!("{below}{line}"), text);
    }
}

pub async fn history(args: &LookArgs) -> anyhow::Result<()> {
    let (client, job) = args.job.client().await?;
    let history = client.look(&job, Look::History).await?;
    if args.json {
        return output::print_json(&history);
    }
    let read = |e: serde_json::Error| {
        Stop::with(crate::exit::Exit::JobFailed, format!("{job}: its history cannot be read: {e}"))
    };
    let entries: Vec<Entry> =
        serde_json::from_value(history.get("entries").cloned().unwrap_or_default()).map_err(read)?;
    let mut text = format!("{job} under {}\n", history.get("rules").map_or_else(|| "-".into(), plain));
    if history.get("kept").is_some_and(|kept| !kept.is_null()) {
        text.push_str("what came before is trimmed away; the state of then is in --json\n");
    }
    let first = entries.first().map_or(Timestamp(0), |entry| entry.at);
    text.extend(entries.iter().map(|entry| lines(entry, first)));
    output::print(&text)
}

/// An event and what the rules made of it.
fn lines(entry: &Entry, first: Timestamp) -> String {
    let after = entry.at.since(first).as_secs_f64();
    let mut text = format!("{} {after:>9.3} s  {}\n", output::time(entry.at), event(&entry.event));
    for SectionRun { rule, section, outcome, .. } in &entry.sections {
        let came = match outcome {
            Outcome::Effects(effects) if effects.is_empty() => "nothing".into(),
            Outcome::Effects(effects) => counts(effects.iter().map(|effect| effect.name())),
            Outcome::Broke(failure) => format!("BROKE ({}): {}", failure.code, failure.message),
        };
        let _ = writeln!(text, "{:33} {rule} {} → {came}", "", section.name());
    }
    text
}

/// `call × 12, assert_`.
pub fn counts<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for name in names {
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    let each = counts.iter().map(|(name, n)| if *n == 1 { (*name).to_owned() } else { format!("{name} × {n}") });
    each.collect::<Vec<_>>().join(", ")
}

/// An event in a line.
pub fn event(event: &Event) -> String {
    match event {
        Event::Started { input } => format!("start {}", short(input)),
        Event::TaskDone { task, value } => format!("task {task} done {}", short(value)),
        Event::TaskFailed { task, failure } => format!("task {task} failed ({}): {failure}", failure.code),
        Event::ChildDone { effect, value } => format!("child {effect} done {}", short(value)),
        Event::ChildFailed { effect, failure } => format!("child {effect} failed ({}): {failure}", failure.code),
        Event::Signal { name, payload, .. } => format!("signal {name} {}", short(payload)),
        Event::Cancel { reason } => format!("cancel: {reason}"),
        Event::Tick { unstarted } if unstarted.is_empty() => "time".into(),
        Event::Tick { unstarted } => format!("time; not started: {unstarted:?}"),
        Event::Resume => "resume".into(),
        Event::Retried { tasks, .. } => format!("told to go on: {} calls are made again", tasks.len()),
        Event::Migrated { rules } => format!("rules are now {rules}"),
    }
}

fn short(value: &impl ToString) -> String {
    let text = value.to_string();
    if text.chars().count() <= VALUE_MAX {
        return text;
    }
    text.chars().take(VALUE_MAX - 1).chain(['…']).collect()
}
