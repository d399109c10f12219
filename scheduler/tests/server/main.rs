//! The server through its real API, over the in-memory transport, with workers that follow a script.

#![allow(clippy::unwrap_used, reason = "tests")]

mod crashes;
mod durability;
mod film;
mod jobs;
mod start;
mod worker;

use std::path::Path;
use std::time::Duration;

use spool_proto::failure::Failure;
use spool_proto::spec::{BenchSpec, JobSpec, Service};
use spool_proto::time::Span;
use spool_proto::view::{JobState, JobView};
use spool_proto::wire::status::failure_of;
use spool_proto::wire::v1;
use spool_scheduler::{Server, ServerHandle, ServerOptions};
use tonic::Status;
use tonic::transport::Channel;
use v1::job_service_client::JobServiceClient;

/// Longer than anything here takes, so that a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

async fn start(data: &Path) -> ServerHandle {
    Server::start(ServerOptions::new(data)).await.expect("the server starts")
}

fn bench_job(tasks: u32) -> JobSpec {
    let bench = BenchSpec { tasks, call_time: Span::ZERO, through_executor: false };
    JobSpec { max_attempts: 2, ..JobSpec::new("", Service::Bench(bench)) }
}

/// A client that unpacks what it gets.
#[derive(Clone)]
struct Client {
    jobs: JobServiceClient<Channel>,
}

impl Client {
    fn of(server: &ServerHandle) -> Client {
        Client { jobs: JobServiceClient::new(server.connect()) }
    }

    async fn submit(&mut self, request_id: &str, spec: &JobSpec) -> Result<(String, bool), Status> {
        let request = v1::SubmitRequest { request_id: request_id.into(), spec: Some(spec.into()) };
        self.jobs.submit(request).await.map(|r| r.into_inner()).map(|r| (r.job_id, r.existing))
    }

    async fn get(&mut self, job: &str) -> JobView {
        let request = v1::GetJobRequest { job_id: job.into(), brief: false };
        let job = self.jobs.get(request).await.expect("the job is there").into_inner();
        job.try_into().expect("a job that can be read")
    }

    async fn list(&mut self, states: &[&str]) -> Vec<String> {
        let states = states.iter().map(|s| (*s).to_owned()).collect();
        let request = v1::ListJobsRequest { states, ..Default::default() };
        let jobs = self.jobs.list(request).await.expect("a list").into_inner().jobs;
        jobs.into_iter().map(|job| job.job_id).collect()
    }

    /// Watches until the job is final.
    async fn wait(&mut self, job: &str) -> JobView {
        let request = v1::WatchJobRequest { job_id: job.into(), brief: true };
        let watch = async {
            let mut stream = self.jobs.watch(request).await.expect("a watch").into_inner();
            let mut last = None;
            while let Some(job) = stream.message().await.expect("the watch goes on") {
                last = Some(job);
            }
            last.expect("at least one message")
        };
        let last = tokio::time::timeout(PATIENCE, watch).await.expect("the job ends in time");
        let view = JobView::try_from(last).expect("a job that can be read");
        assert!(view.state.is_final(), "the watch ended while the job was {}", view.state.name());
        view
    }

    async fn wait_done(&mut self, job: &str) -> JobView {
        let view = self.wait(job).await;
        assert_eq!(view.state, JobState::Done, "{:?}", view.failure);
        view
    }

    async fn logs(&mut self, job: &str) -> Vec<String> {
        let request = v1::LogsRequest { job_id: job.into(), ..Default::default() };
        let mut stream = self.jobs.logs(request).await.expect("logs").into_inner();
        let mut lines = Vec::new();
        while let Some(line) = stream.message().await.expect("the logs go on") {
            lines.push(line.text);
        }
        lines
    }
}

fn failure(status: &Status) -> Failure {
    failure_of(status).unwrap_or_else(|| panic!("{status:?} carries no failure"))
}

/// Waits until `done` says so.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !done().await {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
