//! `JobService`.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use spool_core::io::{Input, NewJob, Reply};
use spool_core::job::Job;
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{JobId, TaskId};
use spool_proto::spec::title::TitleSpec;
use spool_proto::spec::{EncodeSpec, JobSpec, Service};
use spool_proto::uri;
use spool_proto::view::{JobState, JobView};
use spool_proto::wire::spec::priority;
use spool_proto::wire::{BadField, v1};
use spool_rules::instance::{Instance, Pause, Status as Stand};
use tonic::{Request, Response, Status};
use tracing::{Instrument, info, info_span};
use v1::job_service_server::JobService;

use super::logs::LogStream;
use super::pools::pool_name;
use super::watch::WatchStream;
use super::{TEXT_MAX, accepted, job_id, no_such_job, refused_submission, status};
use crate::functions;
use crate::rules::registry::Registry;
use crate::rules::{self, CANCEL};
use crate::run_loop::inbox::Inbox;
use crate::store::{Archive, JobFilter};
use crate::view;

/// How long a job's rules may take to say how they are.
const GLANCE: Duration = Duration::from_millis(500);
const LIST_DEFAULT: u32 = 100;
const LIST_MAX: u32 = 1_000;
/// Tasks of a `bench` job: what the engine is built for.
const BENCH_TASKS_MAX: u32 = 10_000_000;

#[derive(Debug, Clone)]
pub(crate) struct Jobs<A> {
    pub(crate) inbox: Inbox,
    pub(crate) archive: A,
    pub(crate) services: Arc<Registry>,
    pub(crate) functions: functions::Registry,
}

impl<A: Archive> Jobs<A> {
    /// From memory, else from the archive.
    pub(super) async fn view(&self, job: JobId, brief: bool) -> Result<Option<JobView>, Failure> {
        let live =
            self.inbox.query(move |engine, now| engine.job(job).map(|found| view::job(engine, found, now, !brief)));
        match live.await? {
            Some(view) => Ok(Some(view)),
            None => self.archive.get(job, brief).await.map_err(|e| e.failure()),
        }
    }

    async fn get_or_refuse(&self, job: JobId, brief: bool) -> Result<Response<v1::Job>, Status> {
        let view = self.view(job, brief).await.map_err(|f| status(&f))?;
        let view = view.ok_or_else(|| status(&no_such_job(job)))?;
        Ok(Response::new((&view).into()))
    }

    /// A change that was asked for, and the job after it.
    pub(super) async fn change(&self, job: JobId, reply: Result<Reply, Failure>) -> Result<Response<v1::Job>, Status> {
        let done = reply.and_then(accepted);
        if let Err(failure) = done {
            // A job that has left memory is not unknown: it is over.
            if failure.code == "no_such_job"
                && let Some(view) = self.archive.get(job, true).await.map_err(|e| status(&e.failure()))?
            {
                let why = format!("job {job} is {} and in the archive: submit it anew", view.state.name());
                return Err(status(&Failure::new(Class::Spec, "wrong_state", why)));
            }
            return Err(status(&failure));
        }
        self.get_or_refuse(job, true).await
    }

    async fn submit_job(
        &self,
        request_id: String,
        spec: JobSpec,
        traceparent: String,
    ) -> Result<(JobId, bool), Status> {
        if !request_id.is_empty()
            && let Some(job) = self.archive.find_request(&request_id).await.map_err(|e| status(&e.failure()))?
        {
            return Ok((job, true));
        }
        let (frozen, reactive) = rules::freeze(&self.services, spec.service.clone(), None).map_err(|f| status(&f))?;
        let new = NewJob {
            request_id: request_id.into(),
            name: if spec.name.is_empty() { default_name(&spec.service) } else { spec.name },
            service: spec.service.name().into(),
            spec: frozen,
            priority: spec.priority,
            deadline: spec.deadline,
            pool: spec.pool,
            class: spec.class,
            preemptible: spec.preemptible,
            hop: spec.hop,
            max_attempts: spec.max_attempts,
            labels: spec.labels,
            notify: spec.notify,
            reactive,
            traceparent: traceparent.into(),
            part_of: None,
        };
        match self.inbox.ask(|token| Input::Submit { token, job: new }).await.map_err(|f| status(&f))? {
            Reply::Submitted { job, existing } => Ok((job, existing)),
            Reply::Refused(refusal) => Err(refused_submission(&refusal)),
            Reply::Ok | Reply::Pools { .. } => unreachable!("a submission is answered with its job"),
        }
    }

    /// Whether the job's rules are to be told that it is cancelled. When they are, and are told again, it ends at once.
    async fn cleans_up(&self, job: JobId) -> bool {
        self.glance(job, |rules| rules.cleans_up() && *rules.status() == Stand::Running).await.unwrap_or(false)
    }

    /// Why the job's rules do not go on, if they do not.
    async fn pause(&self, job: JobId) -> Option<Pause> {
        let pause = |rules: &Instance| match rules.status() {
            Stand::Paused(pause) => Some(pause.clone()),
            _ => None,
        };
        self.glance(job, pause).await.flatten()
    }

    /// What a job's rules answer soon. `None`: it has none, or they are busy; then who explains or cancels it is not held up by them.
    async fn glance<T: Send + 'static>(
        &self,
        job: JobId,
        question: impl FnOnce(&Instance) -> T + Send + 'static,
    ) -> Option<T> {
        let looked = self.inbox.look(job, |rules| Ok(question(rules)));
        tokio::time::timeout(GLANCE, looked).await.ok()?.ok()
    }

    async fn list_jobs(&self, filter: JobFilter) -> Result<Vec<JobView>, Failure> {
        let asked = filter.clone();
        // What is in memory is truer than what the archive has of it.
        let (mut views, in_memory) = self
            .inbox
            .query(move |engine, now| {
                let before = asked.before.unwrap_or(JobId(u64::MAX));
                let wanted = |state: JobState| asked.states.is_empty() || asked.states.contains(&state);
                let has =
                    |job: &Job| asked.labels.iter().all(|(key, value)| job.request().labels.get(key) == Some(value));
                let jobs = engine.jobs_before(before).filter(|job| wanted(job.state()) && has(job));
                let jobs = jobs.filter(|job| asked.parts || job.request().part_of.is_none());
                let limit = usize::try_from(asked.limit).unwrap_or(usize::MAX);
                let views: Vec<JobView> = jobs.take(limit).map(|job| view::job(engine, job, now, false)).collect();
                let ids: BTreeSet<JobId> = engine.jobs().map(Job::id).collect();
                (views, ids)
            })
            .await?;
        let limit = filter.limit;
        // Jobs in memory may fill a page of the archive: ask for that many more.
        let more = u32::try_from(in_memory.len()).unwrap_or(u32::MAX);
        let archived = self.archive.list(&JobFilter { limit: limit.saturating_add(more), ..filter }).await;
        let archived = archived.map_err(|e| e.failure())?;
        views.extend(archived.into_iter().filter(|view| !in_memory.contains(&view.job)));
        views.sort_by_key(|view| std::cmp::Reverse(view.job));
        views.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(views)
    }
}

#[tonic::async_trait]
impl<A: Archive> JobService for Jobs<A> {
    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Result<Response<v1::SubmitResponse>, Status> {
        let traceparent = traceparent(&request);
        let v1::SubmitRequest { request_id, spec } = request.into_inner();
        let spec = spec.ok_or_else(|| BadField::new("spec", "missing"))?;
        if request_id.len() > TEXT_MAX || spec.name.len() > TEXT_MAX {
            return Err(BadField::new("request_id, spec.name", format!("longer than {TEXT_MAX} bytes")).into());
        }
        if request_id.starts_with("child:") {
            let why = "child: is for jobs that rules start; choose another beginning";
            return Err(BadField::new("request_id", why).into());
        }
        let mut spec = JobSpec::try_from(spec)?;
        super::functions::freeze(&self.functions, &mut spec).map_err(|f| status(&f))?;
        check(&spec).map_err(|f| status(&f))?;
        let span = info_span!("submit", service = spec.service.name(), traceparent);
        let submitted = async {
            let (job, existing) = self.submit_job(request_id, spec, traceparent).await?;
            info!(%job, existing, "submitted");
            Ok(Response::new(v1::SubmitResponse { job_id: job.to_string(), existing }))
        };
        submitted.instrument(span).await
    }

    async fn get(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::Job>, Status> {
        let request = request.into_inner();
        self.get_or_refuse(job_id("job_id", &request.job_id)?, request.brief).await
    }

    async fn list(&self, request: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        let request = request.into_inner();
        let state = |name: &String| {
            JobState::ALL.into_iter().find(|state| state.name() == name).ok_or_else(|| {
                let names = JobState::ALL.map(JobState::name).join(", ");
                BadField::new("states", format!("{name:?} is no state (expected {names})"))
            })
        };
        let filter = JobFilter {
            states: request.states.iter().map(state).collect::<Result<_, _>>()?,
            before: match request.before_job_id.as_str() {
                "" => None,
                id => Some(job_id("before_job_id", id)?),
            },
            labels: request.labels.into_iter().collect(),
            parts: request.parts,
            limit: if request.limit == 0 { LIST_DEFAULT } else { request.limit.min(LIST_MAX) },
        };
        let views = self.list_jobs(filter).await.map_err(|f| status(&f))?;
        Ok(Response::new(v1::ListJobsResponse { jobs: views.iter().map(Into::into).collect() }))
    }

    type WatchStream = WatchStream;

    async fn watch(&self, request: Request<v1::WatchJobRequest>) -> Result<Response<WatchStream>, Status> {
        let request = request.into_inner();
        let job = job_id("job_id", &request.job_id)?;
        let stream = super::watch::watch(self.clone(), job, request.brief).await.map_err(|f| status(&f))?;
        Ok(Response::new(stream))
    }

    async fn cancel(&self, request: Request<v1::CancelJobRequest>) -> Result<Response<v1::Job>, Status> {
        let v1::CancelJobRequest { job_id: id, reason } = request.into_inner();
        if reason.len() > TEXT_MAX {
            return Err(BadField::new("reason", format!("longer than {TEXT_MAX} bytes")).into());
        }
        let job = job_id("job_id", &id)?;
        let reply = match self.cleans_up(job).await {
            true => {
                let payload = serde_json::to_vec(&reason).expect("a text").into();
                let (name, dedupe) = (CANCEL.to_owned(), CANCEL.to_owned());
                self.inbox.ask(move |token| Input::Signal { token, job, name, dedupe, payload }).await
            }
            false => self.inbox.ask(move |token| Input::Cancel { token, job, reason }).await,
        };
        self.change(job, reply).await
    }

    async fn retry(&self, request: Request<v1::RetryJobRequest>) -> Result<Response<v1::Job>, Status> {
        let job = job_id("job_id", &request.into_inner().job_id)?;
        let reply = self.inbox.ask(move |token| Input::Retry { token, job }).await;
        self.change(job, reply).await
    }

    async fn set_priority(&self, request: Request<v1::SetPriorityRequest>) -> Result<Response<v1::Job>, Status> {
        let request = request.into_inner();
        let job = job_id("job_id", &request.job_id)?;
        let priority = priority("priority", request.priority)?;
        let reply = self.inbox.ask(move |token| Input::SetPriority { token, job, priority }).await;
        self.change(job, reply).await
    }

    async fn r#move(&self, request: Request<v1::MoveJobRequest>) -> Result<Response<v1::Job>, Status> {
        let request = request.into_inner();
        let job = job_id("job_id", &request.job_id)?;
        let pool = pool_name("pool", &request.pool)?;
        let reply = self.inbox.ask(move |token| Input::MoveJob { token, job, pool }).await;
        self.change(job, reply).await
    }

    async fn explain(&self, request: Request<v1::ExplainJobRequest>) -> Result<Response<v1::Explanation>, Status> {
        let job = job_id("job_id", &request.into_inner().job_id)?;
        let live = self.inbox.query(move |engine, now| engine.explain(now, job)).await.map_err(|f| status(&f))?;
        if let Some(mut explanation) = live {
            let is_over = matches!(explanation.reason.as_str(), "done" | "failed" | "cancelled");
            if let Some(pause) = if is_over { None } else { self.pause(job).await } {
                explanation.reason = "paused".into();
                explanation.text = format!(
                    "its rules pause ({}): {}; mend them and `spool service migrate {job}`, or `spool job resume {job}`",
                    pause.code, pause.message
                );
            } else if matches!(explanation.reason.as_str(), "waiting_for_signal" | "sleeping") {
                let children = self.inbox.query(move |engine, _| rules::open_children(engine, job)).await;
                let children = children.map_err(|f| status(&f))?;
                if !children.is_empty() {
                    explanation.reason = "waiting_for_jobs".into();
                    explanation.text = format!("it waits for jobs that its rules started: {}", children.join(", "));
                }
            }
            return Ok(Response::new((&explanation).into()));
        }
        let view = self.view(job, true).await.map_err(|f| status(&f))?.ok_or_else(|| status(&no_such_job(job)))?;
        let reason = view.state.name().to_owned();
        let text = match &view.failure {
            Some(failure) => format!("{reason}: {}", failure.message),
            None => reason.clone(),
        };
        Ok(Response::new(v1::Explanation { job_id: job.to_string(), reason, text, ..Default::default() }))
    }

    type LogsStream = LogStream;

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Result<Response<LogStream>, Status> {
        let request = request.into_inner();
        let job = job_id("job_id", &request.job_id)?;
        let task = match request.task_id.as_str() {
            "" => None,
            id => Some(id.parse::<TaskId>().map_err(|e| BadField::new("task_id", e))?),
        };
        if task.is_some_and(|task| task.job != job) {
            return Err(BadField::new("task_id", format!("{} is not a task of {job}", request.task_id)).into());
        }
        let stream = super::logs::logs(self.clone(), job, task, request.follow).await.map_err(|f| status(&f))?;
        Ok(Response::new(stream))
    }
}

/// Judges a spec before a job is made of it.
fn check(spec: &JobSpec) -> Result<(), Failure> {
    if let Service::Bench(bench) = &spec.service
        && !(1..=BENCH_TASKS_MAX).contains(&bench.tasks)
    {
        let why = format!("{} is not between 1 and {BENCH_TASKS_MAX}", bench.tasks);
        return Err(BadField::new("bench.tasks", why).into());
    }
    spec.check()
}

fn default_name(service: &Service) -> String {
    match service {
        Service::VideoEncode(EncodeSpec { source, .. }) | Service::Title(TitleSpec { source, .. }) => {
            uri::file_name(source).unwrap_or_else(|| uri::shown(source))
        }
        Service::Rules(rules) => rules.name.clone(),
        Service::Function(function) => function.name.clone(),
        Service::Bench(bench) => format!("{} no-ops", bench.tasks),
    }
}

/// The caller's W3C traceparent, or a new one, so that every lease can be traced to its submission.
fn traceparent<T>(request: &Request<T>) -> String {
    let given = request.metadata().get("traceparent").and_then(|value| value.to_str().ok());
    if let Some(given) = given.filter(|text| text.len() == 55 && text.is_ascii()) {
        return given.into();
    }
    // The standard library's hash keys are its only source of randomness; an id needs to differ, not to be secret.
    let random = || RandomState::new().build_hasher().finish();
    format!("00-{:016x}{:016x}-{:016x}-01", random(), random(), random())
}
