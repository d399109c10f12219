//! `spool bench dispatch`: how fast calls that do nothing are handed out, each layer apart: the engine alone (`core`), with the
//! journal on disk (`durable`), with a real server and a real worker process (`grpc`), through executors (`exec`).

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use spool_proto::spec::{BenchSpec, JobSpec, Service};
use spool_proto::time::Span;
use spool_proto::view::{JobState, JobView};
use spool_scheduler::bench::{self, Dispatch};
use spool_scheduler::{ServerHandle, ServerOptions};
use tokio::process::{Child, Command};

use super::percentile;
use crate::client::Client;
use crate::{output, roles};

/// Jobs of one task, one after the other, for submit-to-start.
const SINGLES: u32 = 200;
const WORKER_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub struct DispatchArgs {
    /// Tasks of the measured job
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    tasks: u32,
    /// Let tasks come at this rate, to the durable layer: how long each waits for its start, committed
    #[arg(long, value_name = "TASKS/S", conflicts_with = "layer", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Only these layers
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LAYER")]
    layer: Vec<Layer>,
    /// Where journals are written, on the disk to be measured [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Cores the worker offers [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
    /// Figures as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Layer {
    Core,
    Durable,
    Grpc,
    Exec,
}

#[derive(Debug, Serialize)]
struct Figures {
    layer: String,
    tasks: u32,
    seconds: f64,
    tasks_per_second: f64,
    submit_to_start_p50_us: u64,
    submit_to_start_p99_us: u64,
}

impl From<Dispatch> for Figures {
    fn from(dispatch: Dispatch) -> Figures {
        Figures {
            layer: dispatch.layer,
            tasks: dispatch.tasks,
            seconds: dispatch.seconds,
            tasks_per_second: dispatch.tasks_per_second,
            submit_to_start_p50_us: dispatch.submit_to_start_p50_us,
            submit_to_start_p99_us: dispatch.submit_to_start_p99_us,
        }
    }
}

pub async fn run(args: &DispatchArgs) -> anyhow::Result<()> {
    let wanted = |layer: Layer| args.rate.is_none() && (args.layer.is_empty() || args.layer.contains(&layer));
    let mut figures: Vec<Figures> = Vec::new();
    if let Some(rate) = args.rate {
        figures.push(bench::paced(args.tasks, rate, args.data.as_deref()).await?.into());
    }
    if wanted(Layer::Core) {
        let tasks = args.tasks;
        figures.push(tokio::task::spawn_blocking(move || bench::core(tasks)).await?.into());
    }
    if wanted(Layer::Durable) {
        figures.push(bench::durable(args.tasks, args.data.as_deref()).await?.into());
    }
    if wanted(Layer::Grpc) || wanted(Layer::Exec) {
        let mut builder = tempfile::Builder::new();
        let prefixed = builder.prefix("spool-bench-");
        let directory = match &args.data {
            Some(data) => prefixed.tempdir_in(data)?,
            None => prefixed.tempdir()?,
        };
        let fleet = Fleet::start(directory.path(), args.slots, &[]).await?;
        for (layer, through_executor) in [(Layer::Grpc, false), (Layer::Exec, true)] {
            if wanted(layer) {
                let name = if through_executor { "exec" } else { "grpc" };
                figures.push(fleet.measure(name, args.tasks, through_executor).await?);
            }
        }
        fleet.stop().await?;
    }
    if args.json {
        return output::print_json(&figures);
    }
    let rows: Vec<Vec<String>> = figures
        .iter()
        .map(|f| {
            vec![
                f.layer.clone(),
                f.tasks.to_string(),
                format!("{:.2} s", f.seconds),
                format!("{:.0}", f.tasks_per_second),
                format!("{} µs", f.submit_to_start_p50_us),
                format!("{} µs", f.submit_to_start_p99_us),
            ]
        })
        .collect();
    output::print(&output::table(&["LAYER", "TASKS", "TIME", "TASKS/S", "START P50", "START P99"], &rows, true))
}

/// A server in this process and a worker in another, over TCP.
pub(super) struct Fleet {
    server: ServerHandle,
    worker: Child,
    client: Client,
}

/// A server that has no worker yet.
pub(super) struct Lonely {
    server: ServerHandle,
    client: Client,
    url: String,
    directory: PathBuf,
}

impl Lonely {
    /// Starts a worker and waits until the server has it. `more`: arguments of the worker.
    pub(super) async fn attach(self, slots: Option<u16>, more: &[&str]) -> anyhow::Result<Fleet> {
        let Lonely { server, client, url, directory } = self;
        let mut command = Command::new(roles::program()?);
        command.args(["worker", "--server", &url, "--name", "bench", "--data"]).arg(directory.join("worker"));
        command.args(more);
        if let Some(slots) = slots {
            command.args(["--slots", &slots.to_string()]);
        }
        command.env("RUST_LOG", "warn").stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let worker = command.spawn().context("the worker could not be started")?;
        let begun = Instant::now();
        while !client.workers().await?.iter().any(|worker| worker.connected) {
            if begun.elapsed() > WORKER_WITHIN {
                bail!("the worker did not attach within {} s", WORKER_WITHIN.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(Fleet { server, worker, client })
    }
}

impl Fleet {
    /// `more`: arguments of the worker.
    pub(super) async fn start(directory: &Path, slots: Option<u16>, more: &[&str]) -> anyhow::Result<Fleet> {
        Fleet::server(directory).await?.attach(slots, more).await
    }

    /// The server alone.
    pub(super) async fn server(directory: &Path) -> anyhow::Result<Lonely> {
        let any_port = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let options = ServerOptions { listen: Some(any_port), ..ServerOptions::new(directory.join("server")) };
        let server = roles::start_server(options).await?;
        let addr = server.local_addr().context("the server listens")?;
        let url = format!("http://{addr}");
        let client = Client::connect(&url).await?;
        Ok(Lonely { server, client, url, directory: directory.to_owned() })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    async fn measure(&self, layer: &str, tasks: u32, through_executor: bool) -> anyhow::Result<Figures> {
        let begun = Instant::now();
        self.job(tasks, through_executor).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let mut starts = Vec::new();
        for _ in 0..SINGLES {
            let job = self.job(1, through_executor).await?;
            let task = job.tasks.first().context("a job of one task has one")?;
            starts.push(task.started.context("a task that is done has started")?.since(job.submitted).0);
        }
        starts.sort_unstable();
        Ok(Figures {
            layer: layer.into(),
            tasks,
            seconds,
            tasks_per_second: f64::from(tasks) / seconds,
            submit_to_start_p50_us: percentile(&starts, 50),
            submit_to_start_p99_us: percentile(&starts, 99),
        })
    }

    /// Submits a job of calls that do nothing and waits for its end.
    async fn job(&self, tasks: u32, through_executor: bool) -> anyhow::Result<JobView> {
        self.job_of(BenchSpec { tasks, call_time: Span::ZERO, through_executor }).await
    }

    /// Submits a job and waits for its end. Its tasks are in the answer only when it has one.
    pub(super) async fn job_of(&self, bench: BenchSpec) -> anyhow::Result<JobView> {
        let tasks = bench.tasks;
        let spec = JobSpec::new(format!("{tasks} calls"), Service::Bench(bench));
        let (id, _) = self.client.submit("", &spec).await?;
        let mut watch = self.client.watch(&id).await?;
        while let Some(job) = watch.next().await? {
            match job.state {
                JobState::Done if tasks == 1 => return self.client.get(&id, false).await,
                JobState::Done => return Ok(job),
                JobState::Failed | JobState::Cancelled => bail!("{}", crate::progress::summary(&job)),
                _ => {}
            }
        }
        bail!("the server stopped telling of {id}")
    }

    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.worker.kill().await?;
        Ok(self.server.shutdown().await?)
    }
}
