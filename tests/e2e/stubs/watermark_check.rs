//! watermark-check 1.0.0: Tells whether a watermark lies in a corner of a film, and how sure it is.
//!
//! Needs cpu=1,memory=512Mi,scratch=256Mi.
//! Takes about 5 s.
//! At most 600 s.
//!
//! Made by `spool function stub`, not to be changed by hand.

use spool_proto::wire::v1;

/// What watermark-check takes.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Input {
    /// one of top-left, top-right, bottom-left, bottom-right
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corner: Option<InputCorner>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<i64>,
    /// int
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<i64>,
    /// uri
    pub mark: String,
    /// number
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// uri
    pub video: String,
}

impl Input {
    /// Without what may be left out.
    pub fn new(mark: String, video: String) -> Input {
        Input { corner: None, frames: None, margin: None, mark, threshold: None, video }
    }
}

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum InputCorner {
    #[serde(rename = "top-left")]
    TopLeft,
    #[serde(rename = "top-right")]
    TopRight,
    #[serde(rename = "bottom-left")]
    BottomLeft,
    #[serde(rename = "bottom-right")]
    BottomRight,
}

/// What watermark-check answers.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Output {
    /// bool
    pub found: bool,
    /// list of {score, seconds}
    pub frames: Vec<OutputFrames>,
    /// number
    pub score: f64,
}

/// Part of [`Output`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutputFrames {
    /// number
    pub score: f64,
    /// number
    pub seconds: f64,
}

/// What is called.
pub const FUNCTION: &str = "watermark-check";
/// The hash of the version. Empty: the one pushed last.
pub const VERSION: &str = "";

/// Gives the server a job of one call, and answers with the job's id.
///
/// # Errors
/// [`Error::Server`] when the server refuses it or cannot be reached.
pub async fn submit(channel: &tonic::transport::Channel, input: &Input) -> Result<String, Error> {
    let function = v1::FunctionSpec {
        function: FUNCTION.into(),
        version: VERSION.into(),
        input: serde_json::to_string(input)?,
        ..v1::FunctionSpec::default()
    };
    start(channel, v1::job_spec::Service::Function(function)).await
}

/// Calls it, and waits for what it answers.
///
/// # Errors
/// [`Error`]
pub async fn call(channel: &tonic::transport::Channel, input: &Input) -> Result<Output, Error> {
    let job = submit(channel, input).await?;
    wait(channel, &job).await
}

/// Waits for what a job's call answers.
///
/// # Errors
/// [`Error`]
pub async fn wait(channel: &tonic::transport::Channel, job: &str) -> Result<Output, Error> {
    #[derive(serde::Deserialize)]
    struct Answered {
        result: Output,
    }
    let answered: Answered = serde_json::from_str(&end(channel, job).await?)?;
    Ok(answered.result)
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was refused, or nobody answers.
    #[error("{}", .0.message())]
    Server(#[from] Box<tonic::Status>),
    /// Of the job, as its failure says.
    #[error("{message} [{code}]")]
    Failed { job: String, class: String, code: String, message: String },
    /// It was cancelled.
    #[error("job {job} ended as {state}")]
    Ended { job: String, state: String },
    /// It is of another version than these types.
    #[error("what goes in or out is not of this version of {FUNCTION}: {0}")]
    OtherVersion(#[from] serde_json::Error),
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Error {
        Error::Server(Box::new(status))
    }
}

async fn start(channel: &tonic::transport::Channel, service: v1::job_spec::Service) -> Result<String, Error> {
    let spec = v1::JobSpec { name: FUNCTION.into(), service: Some(service), ..v1::JobSpec::default() };
    let request = v1::SubmitRequest { request_id: String::new(), spec: Some(spec) };
    Ok(v1::job_service_client::JobServiceClient::new(channel.clone()).submit(request).await?.into_inner().job_id)
}

/// A job's output, as JSON.
async fn end(channel: &tonic::transport::Channel, job: &str) -> Result<String, Error> {
    let request = v1::WatchJobRequest { job_id: job.to_owned(), brief: true };
    let mut client = v1::job_service_client::JobServiceClient::new(channel.clone());
    let mut seen = client.watch(request).await?.into_inner();
    let mut last = v1::Job::default();
    while let Some(now) = seen.message().await? {
        last = now;
    }
    let job = job.to_owned();
    match (last.state.as_str(), last.failure) {
        ("done", _) => Ok(last.output_json),
        (_, Some(v1::Failure { class, code, message, .. })) => Err(Error::Failed { job, class, code, message }),
        (state, None) => Err(Error::Ended { job, state: state.to_owned() }),
    }
}
