//! `spool job …`: looking at jobs and steering them; [`inside`] those of services made of rules.

pub mod inside;

use clap::{Args, Subcommand};
use spool_proto::ids::JobId;
use spool_proto::pool::PoolName;
use spool_proto::spec::PRIORITY_MAX;
use spool_proto::spec::labels::label;
use spool_proto::view::{JobState, JobView, LogLine};

use crate::cli::ServerArg;
use crate::client::Client;
use crate::exit::{Exit, Stop};
use crate::follow::{self, End, Fleet};
use crate::output::{self, Style};
use crate::progress::{self, Mode, Progress};

#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// Jobs, newest first
    List(ListArgs),
    /// One job, with its tasks
    Get(GetArgs),
    /// Follow a job until it is final
    Watch(WatchArgs),
    /// Stop a job; what it finished is kept for a retry
    Cancel(CancelArgs),
    /// Try a failed or cancelled job again; what it finished is not done again
    Retry(JobArg),
    /// Why a job is where it is
    Explain(ExplainArgs),
    /// What happened to a job, line by line
    Logs(LogsArgs),
    /// Move a job forward or back: 0 (last) to 100 (first)
    SetPriority(PriorityArgs),
    /// Give a job to another pool; what runs goes with it
    Move(MoveArgs),
    /// What happened inside a job of rules: each event, and what the rules made of it
    History(inside::LookArgs),
    /// What a job of rules knows
    Facts(inside::FactsArgs),
    /// Tell a job of rules something
    Signal(inside::SignalArgs),
    /// Let a job of rules go on that is paused
    Resume(inside::LookArgs),
    /// The jobs that a job has started, and those they have
    Tree(inside::LookArgs),
}

/// A job, and where to ask for it.
#[derive(Debug, Args)]
pub struct JobArg {
    /// Its id, such as j17
    #[arg(value_name = "JOB")]
    job: JobId,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only jobs in these states: queued, running, cancelling, done, failed, cancelled
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = state)]
    state: Vec<JobState>,
    /// Only jobs with this label; given several times, with all of them
    #[arg(long = "label", short = 'l', value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Also jobs that are parts of others, as the renditions of a title are
    #[arg(long)]
    parts: bool,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    style: Style,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Debug, Args)]
pub struct GetArgs {
    #[command(flatten)]
    job: JobArg,
    #[command(flatten)]
    style: Style,
}

#[derive(Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    job: JobArg,
    /// Progress on stderr
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW")]
    progress: Mode,
    /// Print the finished job as JSON on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct CancelArgs {
    #[command(flatten)]
    job: JobArg,
    /// Kept with the job
    #[arg(long, default_value = "cancelled by hand")]
    reason: String,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    job: JobArg,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    #[command(flatten)]
    job: JobArg,
    /// Only this task, such as j17.3
    #[arg(long, value_name = "TASK")]
    task: Option<spool_proto::ids::TaskId>,
    /// Keep printing until the job is final
    #[arg(short, long)]
    follow: bool,
    /// A JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct PriorityArgs {
    #[command(flatten)]
    job: JobArg,
    #[arg(value_name = "PRIORITY", value_parser = clap::value_parser!(u8).range(0..=i64::from(PRIORITY_MAX)))]
    priority: u8,
}

#[derive(Debug, Args)]
pub struct MoveArgs {
    #[command(flatten)]
    job: JobArg,
    /// The pool it goes to, such as studio/marketing
    #[arg(long, value_name = "POOL", value_parser = crate::pool::name)]
    pool: PoolName,
}

fn state(text: &str) -> Result<JobState, String> {
    let named = serde_json::from_value(serde_json::Value::String(text.into()));
    named.map_err(|_| "expected queued, running, cancelling, done, failed or cancelled".into())
}

impl JobArg {
    async fn client(&self) -> anyhow::Result<(Client, String)> {
        Ok((Client::connect(&self.server.server).await?, self.job.to_string()))
    }
}

pub async fn run(command: JobCommand) -> anyhow::Result<Exit> {
    match command {
        JobCommand::List(args) => list(&args).await?,
        JobCommand::Get(args) => get(&args).await?,
        JobCommand::Watch(args) => return watch(&args).await,
        JobCommand::Cancel(args) => {
            let (client, job) = args.job.client().await?;
            print_state(&client.cancel(&job, &args.reason).await?)?;
        }
        JobCommand::Retry(args) => {
            let (client, job) = args.client().await?;
            print_state(&client.retry(&job).await?)?;
        }
        JobCommand::Explain(args) => explain(&args).await?,
        JobCommand::Logs(args) => logs(&args).await?,
        JobCommand::SetPriority(args) => {
            let (client, job) = args.job.client().await?;
            let job = client.set_priority(&job, args.priority).await?;
            output::print(&format!("{} {} priority {}\n", job.job, job.state.name(), job.priority))?;
        }
        JobCommand::Move(args) => {
            let (client, job) = args.job.client().await?;
            let job = client.move_job(&job, &args.pool).await?;
            output::print(&format!("{} {} pool {}\n", job.job, job.state.name(), job.pool))?;
        }
        JobCommand::History(args) => inside::history(&args).await?,
        JobCommand::Facts(args) => inside::facts(&args).await?,
        JobCommand::Signal(args) => inside::signal(&args).await?,
        JobCommand::Resume(args) => inside::resume(&args).await?,
        JobCommand::Tree(args) => inside::tree(&args).await?,
    }
    Ok(Exit::Done)
}

fn print_state(job: &JobView) -> anyhow::Result<()> {
    output::print(&format!("{} {}\n", job.job, job.state.name()))
}

async fn list(args: &ListArgs) -> anyhow::Result<()> {
    let client = Client::connect(&args.server.server).await?;
    let states = args.state.iter().map(|state| state.name().to_owned()).collect();
    let jobs = client.list(states, args.labels.iter().cloned().collect(), args.parts, args.limit).await?;
    let names = || jobs.iter().map(|job| job.job.to_string()).collect();
    output::print(&args.style.render(&jobs, names, |wide| jobs_table(&jobs, wide, args.style))?)
}

fn jobs_table(jobs: &[JobView], wide: bool, style: Style) -> String {
    let mut head = vec!["JOB", "STATE", "PHASE", "DONE", "POOL", "PRIORITY", "AGE", "NAME"];
    if wide {
        head.extend(["SERVICE", "SUBMITTED", "CLASS", "DEADLINE", "FRAMES", "FPS", "LABELS", "FAILURE"]);
    }
    let rows: Vec<Vec<String>> = jobs
        .iter()
        .map(|job| {
            let p = &job.progress;
            let mut row = vec![
                job.job.to_string(),
                job.state.name().into(),
                job.phase.clone(),
                if p.chunks_total > 0 { format!("{}/{}", p.chunks_done, p.chunks_total) } else { "-".into() },
                job.pool.to_string(),
                job.priority.to_string(),
                output::ago(job.submitted),
                job.name.clone(),
            ];
            if wide {
                row.extend([
                    job.service.clone(),
                    output::time(job.submitted),
                    output::class(job.class),
                    job.deadline.map_or_else(|| "-".into(), output::time),
                    format!("{}/{}", p.frames, p.frames_total),
                    format!("{:.1}", p.fps),
                    labels_text(job).unwrap_or_else(|| "-".into()),
                    job.failure.as_ref().map_or_else(|| "-".into(), |f| format!("{}: {}", f.class, f.code)),
                ]);
            }
            row
        })
        .collect();
    style.table(&head, &rows)
}

/// `None`: it has none.
fn labels_text(job: &JobView) -> Option<String> {
    let labels: Vec<String> = job.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    (!labels.is_empty()).then(|| labels.join(", "))
}

async fn get(args: &GetArgs) -> anyhow::Result<()> {
    let (client, id) = args.job.client().await?;
    let job = client.get(&id, false).await?;
    let style = args.style;
    output::print(&style.render(&job, || vec![job.job.to_string()], |wide| job_text(&job, wide, style))?)
}

fn job_text(job: &JobView, wide: bool, style: Style) -> String {
    let mut text = jobs_table(std::slice::from_ref(job), wide, style);
    if let Some(labels) = labels_text(job).filter(|_| !wide) {
        text.push_str(&format!("\nlabels: {labels}\n"));
    }
    if let Some(notify) = &job.notify {
        text.push_str(&format!("\nnotifies: {notify}\n"));
    }
    if !job.phases.is_empty() {
        text.push('\n');
        let rows: Vec<Vec<String>> = job
            .phases
            .iter()
            .map(|phase| {
                let time = phase.finished.map_or_else(
                    || format!("{} so far", output::ago(phase.started)),
                    |at| output::span(at.since(phase.started)),
                );
                vec![phase.name.clone(), format!("{}/{}", phase.done, phase.tasks), phase.running.to_string(), time]
            })
            .collect();
        text.push_str(&style.table(&["PHASE", "DONE", "RUNNING", "TIME"], &rows));
    }
    if !job.tasks.is_empty() {
        text.push('\n');
        text.push_str(&tasks_table(job, style));
    }
    if job.state.is_final() {
        text.push('\n');
        text.push_str(&progress::summary(job));
        text.push('\n');
    }
    text
}

fn tasks_table(job: &JobView, style: Style) -> String {
    let rows: Vec<Vec<String>> = job
        .tasks
        .iter()
        .map(|task| {
            let time = task
                .started
                .map(|from| task.finished.map_or_else(|| output::ago(from), |at| output::span(at.since(from))));
            vec![
                task.task.to_string(),
                task.function.clone(),
                task.label.clone(),
                task.state.name().into(),
                task.attempt.to_string(),
                task.worker.as_ref().map_or_else(|| "-".into(), ToString::to_string),
                time.unwrap_or_else(|| "-".into()),
                task.frames.to_string(),
                output::bytes(task.bytes),
                task.failure.as_ref().map_or_else(|| "-".into(), |f| f.code.clone()),
            ]
        })
        .collect();
    let head = ["TASK", "FUNCTION", "LABEL", "STATE", "ATTEMPT", "WORKER", "TIME", "FRAMES", "BYTES", "FAILURE"];
    style.table(&head, &rows)
}

async fn watch(args: &WatchArgs) -> anyhow::Result<Exit> {
    let (client, id) = args.job.client().await?;
    let mut progress = Progress::new(args.progress);
    match follow::follow(&client, &id, Fleet::Open, &mut progress, &mut follow::Interrupts::listen()?).await? {
        End::Final(job) => {
            progress.end();
            if args.json {
                output::print_json(&job)?;
            }
            progress.say(&progress::summary(&job));
            Ok(follow::exit_of(&job))
        }
        End::Interrupted => {
            progress.end();
            Err(Stop::with(Exit::Detached, format!("{id} goes on; spool job watch {id} looks again")))
        }
    }
}

async fn explain(args: &ExplainArgs) -> anyhow::Result<()> {
    let (client, id) = args.job.client().await?;
    let why = client.explain(&id).await?;
    if args.json {
        return output::print_json(&why);
    }
    let mut text = format!("{} {}: {}\n", why.job, why.reason, why.text);
    if let Some(ahead) = why.queue_position {
        text.push_str(&format!("  tasks ahead: {ahead}\n"));
    }
    if let Some(estimate) = why.estimate {
        text.push_str(&format!("  should start in about {}\n", output::span(estimate)));
    }
    for detail in &why.details {
        text.push_str(&format!("  {detail}\n"));
    }
    output::print(&text)
}

async fn logs(args: &LogsArgs) -> anyhow::Result<()> {
    let (client, id) = args.job.client().await?;
    let task = args.task.map(|task| task.to_string()).unwrap_or_default();
    let print = |line: LogLine| {
        if args.json {
            return output::print(&(serde_json::to_string(&line)? + "\n"));
        }
        let mut text = format!("{} {:5}", output::time(line.at), line.level);
        let about = [
            line.task.map(|t| t.to_string()),
            line.attempt.map(|n| format!("attempt {n}")),
            line.worker.map(|w| w.to_string()),
        ];
        for part in about.into_iter().flatten() {
            text.push(' ');
            text.push_str(&part);
        }
        output::print(&format!("{text}: {}\n", line.text))
    };
    client.logs(&id, &task, args.follow, print).await
}
