//! Talking to a server: over the network, or over the in-memory pipe of an embedded one. Jobs and workers here, [`pools`] with
//! queues, [`functions`], and services made of [`rules`] apart.

pub mod functions;
pub mod pools;
pub mod rules;

use std::time::Duration;

use spool_proto::failure::Failure;
use spool_proto::spec::labels::Labels;
use spool_proto::view::{Explanation, JobView, LogLine, WorkerView};
use spool_proto::wire::status::failure_of;
use spool_proto::wire::v1;
use spool_proto::wire::v1::function_service_client::FunctionServiceClient;
use spool_proto::wire::v1::job_service_client::JobServiceClient;
use spool_proto::wire::v1::pool_service_client::PoolServiceClient;
use spool_proto::wire::v1::queue_service_client::QueueServiceClient;
use spool_proto::wire::v1::rule_service_client::RuleServiceClient;
use spool_proto::wire::v1::worker_service_client::WorkerServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::cli::DEFAULT_URL;
use crate::exit::{Exit, Stop};

/// Frames of a day's film at a time are far below this; tasks of the largest jobs are not.
const MESSAGE_MAX: usize = 256 << 20;

/// A function's files with their paths.
const FUNCTION_MAX: usize = 80 << 20;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct Client {
    jobs: JobServiceClient<Channel>,
    workers: WorkerServiceClient<Channel>,
    pools: PoolServiceClient<Channel>,
    queues: QueueServiceClient<Channel>,
    rules: RuleServiceClient<Channel>,
    functions: FunctionServiceClient<Channel>,
    /// As the user gave it, for errors.
    url: String,
}

impl Client {
    /// Connects to `http://host:port`.
    ///
    /// # Errors
    /// A [`Stop`]: exit 2 for a text that is no URL, exit 4 when nobody answers there.
    pub async fn connect(url: &str) -> anyhow::Result<Client> {
        let text = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        if !text.starts_with("http://") {
            return Err(Stop::usage(format!("--server {url}: expected http://HOST:PORT, such as {DEFAULT_URL}")));
        }
        let endpoint = Endpoint::from_shared(text)
            .map_err(|e| Stop::usage(format!("--server {url}: {e}; expected http://HOST:PORT")))?
            .connect_timeout(CONNECT_WITHIN)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_while_idle(true);
        let channel = endpoint.connect().await.map_err(|_| unreachable_at(url))?;
        Ok(Client::over(channel, url))
    }

    pub fn over(channel: Channel, url: &str) -> Client {
        Client {
            jobs: JobServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_MAX),
            workers: WorkerServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_MAX),
            pools: PoolServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_MAX),
            queues: QueueServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_MAX),
            rules: RuleServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_MAX),
            functions: FunctionServiceClient::new(channel)
                .max_decoding_message_size(MESSAGE_MAX)
                .max_encoding_message_size(FUNCTION_MAX),
            url: url.into(),
        }
    }

    /// Answers after the journal holds the job: its id, and whether the request was known before.
    pub async fn submit(&self, request_id: &str, spec: &spool_proto::spec::JobSpec) -> anyhow::Result<(String, bool)> {
        let request = v1::SubmitRequest { request_id: request_id.into(), spec: Some(spec.into()) };
        let answer = self.jobs.clone().submit(request).await.map_err(|s| self.error(s))?.into_inner();
        Ok((answer.job_id, answer.existing))
    }

    pub async fn get(&self, job: &str, brief: bool) -> anyhow::Result<JobView> {
        let request = v1::GetJobRequest { job_id: job.into(), brief };
        self.job(self.jobs.clone().get(request).await)
    }

    pub async fn list(
        &self,
        states: Vec<String>,
        labels: Labels,
        parts: bool,
        limit: u32,
    ) -> anyhow::Result<Vec<JobView>> {
        let labels = labels.into_iter().collect();
        let request = v1::ListJobsRequest { states, limit, before_job_id: String::new(), labels, parts };
        let answer = self.jobs.clone().list(request).await.map_err(|s| self.error(s))?.into_inner();
        answer.jobs.into_iter().map(|job| Ok(job.try_into()?)).collect()
    }

    /// The job now and after every change, until it is final.
    pub async fn watch(&self, job: &str) -> anyhow::Result<Watch> {
        let request = v1::WatchJobRequest { job_id: job.into(), brief: true };
        let stream = self.jobs.clone().watch(request).await.map_err(|s| self.error(s))?.into_inner();
        Ok(Watch { stream, client: self.clone() })
    }

    pub async fn cancel(&self, job: &str, reason: &str) -> anyhow::Result<JobView> {
        let request = v1::CancelJobRequest { job_id: job.into(), reason: reason.into() };
        self.job(self.jobs.clone().cancel(request).await)
    }

    pub async fn retry(&self, job: &str) -> anyhow::Result<JobView> {
        self.job(self.jobs.clone().retry(v1::RetryJobRequest { job_id: job.into() }).await)
    }

    pub async fn set_priority(&self, job: &str, priority: u8) -> anyhow::Result<JobView> {
        let request = v1::SetPriorityRequest { job_id: job.into(), priority: priority.into() };
        self.job(self.jobs.clone().set_priority(request).await)
    }

    pub async fn explain(&self, job: &str) -> anyhow::Result<Explanation> {
        let request = v1::ExplainJobRequest { job_id: job.into() };
        let answer = self.jobs.clone().explain(request).await.map_err(|s| self.error(s))?;
        Ok(answer.into_inner().try_into()?)
    }

    /// Calls `each` for every line, until the stream ends.
    pub async fn logs(
        &self,
        job: &str,
        task: &str,
        follow: bool,
        mut each: impl FnMut(LogLine) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let request = v1::LogsRequest { job_id: job.into(), task_id: task.into(), follow };
        let mut lines = self.jobs.clone().logs(request).await.map_err(|s| self.error(s))?.into_inner();
        while let Some(line) = lines.message().await.map_err(|s| self.error(s))? {
            each(line.try_into()?)?;
        }
        Ok(())
    }

    pub async fn workers(&self) -> anyhow::Result<Vec<WorkerView>> {
        let request = v1::ListWorkersRequest {};
        let answer = self.workers.clone().list(request).await.map_err(|s| self.error(s))?.into_inner();
        answer.workers.into_iter().map(|worker| Ok(worker.try_into()?)).collect()
    }

    pub async fn cordon(&self, worker: &str, reason: &str) -> anyhow::Result<WorkerView> {
        let request = v1::CordonRequest { worker: worker.into(), reason: reason.into() };
        self.worker(self.workers.clone().cordon(request).await)
    }

    pub async fn uncordon(&self, worker: &str, reason: &str) -> anyhow::Result<WorkerView> {
        let request = v1::UncordonRequest { worker: worker.into(), reason: reason.into() };
        self.worker(self.workers.clone().uncordon(request).await)
    }

    pub async fn drain(&self, worker: &str, reason: &str) -> anyhow::Result<WorkerView> {
        let request = v1::DrainRequest { worker: worker.into(), reason: reason.into() };
        self.worker(self.workers.clone().drain(request).await)
    }

    fn job(&self, answer: Result<tonic::Response<v1::Job>, Status>) -> anyhow::Result<JobView> {
        Ok(answer.map_err(|s| self.error(s))?.into_inner().try_into()?)
    }

    fn worker(&self, answer: Result<tonic::Response<v1::Worker>, Status>) -> anyhow::Result<WorkerView> {
        Ok(answer.map_err(|s| self.error(s))?.into_inner().try_into()?)
    }

    /// What a status means to the user.
    fn error(&self, status: Status) -> anyhow::Error {
        if let Some(failure) = failure_of(&status) {
            return refusal(failure, status.code());
        }
        match status.code() {
            Code::Unavailable | Code::Unknown | Code::Cancelled => unreachable_at(&self.url),
            Code::DeadlineExceeded => Stop::with(Exit::TimedOut, format!("{}: no answer in time", self.url)),
            Code::ResourceExhausted => Stop::with(Exit::Quota, status.message()),
            Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition => Stop::usage(status.message()),
            code => anyhow::anyhow!("{}: {} ({code:?})", self.url, status.message()),
        }
    }
}

/// A failure the server answered with: the exit code follows from the status, the text from the failure.
fn refusal(failure: Failure, code: Code) -> anyhow::Error {
    match code {
        // A pool that drains is full for as long as it does.
        _ if failure.code == "pool_drains" => Stop::with(Exit::Quota, crate::exit::failure_text(&failure)),
        Code::ResourceExhausted => Stop::with(Exit::Quota, crate::exit::failure_text(&failure)),
        Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition => {
            Stop::usage(crate::exit::failure_text(&failure))
        }
        _ => failure.into(),
    }
}

fn unreachable_at(url: &str) -> anyhow::Error {
    let message = format!(
        "no Spool server answers at {url}; start one with `spool up`, or leave --server (SPOOL_SERVER) out to encode in this process"
    );
    Stop::with(Exit::Unreachable, message)
}

/// A job as it changes.
#[derive(Debug)]
pub struct Watch {
    stream: Streaming<v1::Job>,
    client: Client,
}

impl Watch {
    /// The next state; `None` after the last. Cancel safe.
    pub async fn next(&mut self) -> anyhow::Result<Option<JobView>> {
        let message = self.stream.message().await.map_err(|s| self.client.error(s))?;
        message.map(|job| Ok(job.try_into()?)).transpose()
    }
}
