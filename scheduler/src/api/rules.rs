//! `RuleService`: services made of rules, and what is inside their jobs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Value as Json, json};
use spool_core::io::{Blob, Input};
use spool_dialect::{Problem, Severity, Sources};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::JobId;
use spool_proto::spec::RulesSpec;
use spool_proto::time::Timestamp;
use spool_proto::wire::{BadField, v1};
use spool_rules::instance::{Instance, Status as Stand};
use tonic::{Request, Response, Status};
use tracing::info;
use v1::rule_service_server::RuleService;

use super::{Jobs, TEXT_MAX, job_id, no_such_job, status};
use crate::rules::registry::{Change, Registry, ServiceState, Version, short};
use crate::rules::{self, Log, MIGRATE, OWN, RESUME, Tally, children_of};
use crate::store::Archive;

/// To a job's rules.
type Question = Box<dyn FnOnce(&Instance) -> Result<Json, Failure> + Send>;

#[derive(Debug, Clone)]
pub(crate) struct RuleServices<A> {
    pub(crate) jobs: Jobs<A>,
    pub(crate) registry: Arc<Registry>,
}

impl<A: Archive> RuleServices<A> {
    async fn push_files(&self, files: Sources, dry_run: bool) -> Result<v1::PushServiceResponse, Failure> {
        let registry = self.registry.clone();
        let read = tokio::task::spawn_blocking(move || registry.read(&files).map(|read| (files, read)));
        let read = read.await.map_err(|e| Failure::new(Class::Internal, "rules_broke", e.to_string()))?;
        let (files, (set, problems)) = match read {
            Ok(read) => read,
            Err(problems) => {
                let problems = problems.iter().map(problem).collect();
                return Ok(v1::PushServiceResponse { problems, ..Default::default() });
            }
        };
        let (service, hash) = (set.service.to_string(), set.hash.to_string());
        let warnings = problems.iter().map(problem).collect();
        if dry_run {
            return Ok(v1::PushServiceResponse { service, hash, problems: warnings, ..Default::default() });
        }
        let registry = self.registry.clone();
        let kept = tokio::task::spawn_blocking(move || registry.keep(files, set, problems, Timestamp::now())).await;
        let pushed = kept.map_err(|e| Failure::new(Class::Internal, "rules_broke", e.to_string()))??;
        info!(service, hash, existing = pushed.existing, "service pushed");
        Ok(v1::PushServiceResponse {
            state: Some(state(&self.registry.get(&service)?)),
            problems: pushed.problems.iter().map(problem).collect(),
            service,
            hash: pushed.version.hash.clone(),
            existing: pushed.existing,
        })
    }

    /// A signal, and the job after it.
    async fn tell(
        &self,
        job: JobId,
        name: &str,
        dedupe: String,
        payload: Vec<u8>,
    ) -> Result<Response<v1::Job>, Status> {
        let name = name.to_owned();
        let payload = payload.into();
        let reply = self.jobs.inbox.ask(move |token| Input::Signal { token, job, name, dedupe, payload }).await;
        self.jobs.change(job, reply).await
    }

    async fn tree(&self, job: JobId) -> Result<Json, Failure> {
        let view = self.jobs.view(job, true).await?.ok_or_else(|| no_such_job(job))?;
        let mut children = self.jobs.inbox.query(move |engine, _| children_of(engine, job)).await?;
        let archived = self.jobs.archive.children(job).await.map_err(|e| e.failure())?;
        children.extend(archived);
        children.sort_unstable();
        children.dedup();
        let mut below = Vec::new();
        for child in children {
            below.push(Box::pin(self.tree(child)).await?);
        }
        let phases =
            view.phases.iter().map(|phase| json!({"name": phase.name, "tasks": phase.tasks, "done": phase.done}));
        Ok(json!({
            "job": view.job,
            "name": view.name,
            "service": view.service,
            "part_of": view.part_of,
            "state": view.state,
            "phases": phases.collect::<Vec<_>>(),
            "children": below,
        }))
    }

    /// The log of a job's rules, from memory or the archive, and what it was submitted with.
    async fn log(&self, job: JobId) -> Result<(Vec<Blob>, RulesSpec), Failure> {
        let live = self.jobs.inbox.query(move |engine, _| {
            let job = engine.job(job)?;
            Some((job.log().to_vec(), rules::spec(job)))
        });
        let (pages, spec) = match live.await? {
            Some(live) => live,
            None => {
                let view = self.jobs.view(job, true).await?.ok_or_else(|| no_such_job(job))?;
                let pages = self.jobs.archive.history(job).await.map_err(|e| e.failure())?;
                (pages, rules::spec_of(&view.spec))
            }
        };
        spec.map(|spec| (pages, spec)).ok_or_else(|| no_rules(job))
    }

    async fn history(&self, job: JobId) -> Result<Json, Failure> {
        let (pages, spec) = self.log(job).await?;
        let log = Log::read(&pages)?;
        let hash = log.kept.as_ref().map_or(spec.version.clone(), |kept| kept.rules.to_string());
        let version = self.registry.resolve(&spec.name, &hash)?;
        let mut history = json!({"service": spec.name, "rules": hash, "files": version.files, "entries": log.entries});
        if let Some(kept) = log.kept {
            history["kept"] = serde_json::to_value(kept).unwrap_or_default();
        }
        Ok(history)
    }

    /// Asks a job's rules; of one that has left memory as they stood at its end.
    async fn ask(&self, job: JobId, question: Question) -> Result<Json, Failure> {
        let is_here = self.jobs.inbox.query(move |engine, _| engine.job(job).is_some()).await?;
        if is_here {
            return self.jobs.inbox.look(job, question).await;
        }
        let (pages, spec) = self.log(job).await?;
        let registry = self.registry.clone();
        let asked = move || question(&Log::read(&pages)?.bring_back(&registry, &spec.version)?);
        let asked = tokio::task::spawn_blocking(asked).await;
        asked.unwrap_or_else(|e| Err(Failure::new(Class::Internal, "rules_broke", e.to_string())))
    }

    /// Why nothing can be done with a job that is not in memory.
    async fn gone(&self, job: JobId) -> Failure {
        match self.jobs.view(job, true).await {
            Ok(Some(view)) => {
                let why = format!("job {job} is {} and in the archive", view.state.name());
                Failure::new(Class::Spec, "wrong_state", why)
            }
            Ok(None) => no_such_job(job),
            Err(failure) => failure,
        }
    }

    async fn look_at(&self, job: JobId, at: v1::look_request::At) -> Result<Json, Failure> {
        use v1::look_request::At;
        match at {
            At::Facts(v1::LookFacts { kind }) => {
                let facts = move |rules: &Instance| {
                    let wanted = rules.facts().filter(|fact| kind.is_empty() || *fact.kind == *kind);
                    let shown = wanted.map(|fact| {
                        let mut shown = serde_json::to_value(fact.value()).unwrap_or_default();
                        shown["type"] = Json::String(fact.kind.to_string());
                        shown
                    });
                    Ok(Json::Array(shown.collect()))
                };
                self.ask(job, Box::new(facts)).await
            }
            At::WhyNot(v1::LookWhyNot { rule }) => {
                let why_not = move |rules: &Instance| match rules.why_not(&rule) {
                    Some(why) => Ok(serde_json::to_value(why).unwrap_or_default()),
                    None => {
                        let set = rules.program().set();
                        let known: Vec<_> = set.rules.iter().map(|rule| rule.name.as_ref()).collect();
                        let why = format!("{} has no rule {rule:?}; it has {}", set.service, known.join(", "));
                        Err(Failure::new(Class::Spec, "no_such_rule", why))
                    }
                };
                self.ask(job, Box::new(why_not)).await
            }
            At::History(v1::LookHistory {}) => self.history(job).await,
            At::Tree(v1::LookTree {}) => self.tree(job).await,
        }
    }

    async fn migrate_job(&self, request: v1::MigrateJobRequest) -> Result<v1::MigrateJobResponse, Status> {
        let job = job_id("job_id", &request.job_id)?;
        let failed = |failure: Failure| status(&failure);
        let service = self.jobs.inbox.look(job, |rules| Ok(rules.program().set().service.to_string())).await;
        let service = match service {
            Err(failure) if failure.code == "no_such_job" => return Err(status(&self.gone(job).await)),
            other => other.map_err(failed)?,
        };
        let version = self.registry.resolve(&service, &request.version).map_err(failed)?;
        let hash = version.hash.clone();
        let program = self.registry.program(&hash).map_err(failed)?;
        let changes = self.jobs.inbox.look(job, move |rules| {
            let mut copy = rules.clone();
            let moved = copy.migrate(program);
            moved.map_err(|e| Failure::new(Class::Spec, "not_migrated", format!("job {job}: {e}")))
        });
        let changes = changes.await.map_err(failed)?;
        if !request.dry_run {
            let payload = serde_json::to_vec(&hash).expect("a text");
            self.tell(job, MIGRATE, String::new(), payload).await?;
            info!(%job, hash, "migrates");
        }
        let changes = serde_json::to_string(&changes).expect("plain data");
        Ok(v1::MigrateJobResponse { hash, changes })
    }
}

fn no_rules(job: JobId) -> Failure {
    Failure::new(Class::Spec, "no_rules", format!("job {job} is of a service that is not made of rules"))
}

fn problem(problem: &Problem) -> v1::RuleProblem {
    let wide = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    v1::RuleProblem {
        file: problem.file.clone(),
        line: wide(problem.line),
        column: wide(problem.column),
        severity: if problem.severity == Severity::Error { "error" } else { "warning" }.into(),
        code: problem.code.clone(),
        message: problem.message.clone(),
    }
}

fn version((version, tally): (&Version, Tally)) -> v1::ServiceVersion {
    v1::ServiceVersion {
        hash: version.hash.clone(),
        version: version.version.clone(),
        pushed_us: version.pushed.0,
        rules: version.rules,
        begun: tally.begun,
        done: tally.done,
        failed: tally.failed,
        built_in: version.is_built_in,
    }
}

fn state(state: &ServiceState) -> v1::ServiceState {
    let canary = state.routes.canary.as_ref();
    v1::ServiceState {
        service: state.name.clone(),
        stable: state.routes.stable.clone(),
        canary: canary.map(|canary| canary.hash.clone()).unwrap_or_default(),
        canary_percent: canary.map_or(0, |canary| canary.percent),
        verdict: state.routes.verdict.clone(),
        versions: state.versions.iter().map(|(of, tally)| version((of.as_ref(), *tally))).collect(),
    }
}

#[tonic::async_trait]
impl<A: Archive> RuleService for RuleServices<A> {
    async fn push(
        &self,
        request: Request<v1::PushServiceRequest>,
    ) -> Result<Response<v1::PushServiceResponse>, Status> {
        let v1::PushServiceRequest { files, dry_run } = request.into_inner();
        let files: BTreeMap<String, String> = files.into_iter().collect();
        let pushed = self.push_files(Sources(files), dry_run).await;
        pushed.map(Response::new).map_err(|f| status(&f))
    }

    async fn list(&self, _: Request<v1::ListServicesRequest>) -> Result<Response<v1::ListServicesResponse>, Status> {
        let services = self.registry.list().map_err(|f| status(&f))?;
        let services = services.iter().map(state).collect();
        Ok(Response::new(v1::ListServicesResponse { services }))
    }

    async fn get(&self, request: Request<v1::GetServiceRequest>) -> Result<Response<v1::GetServiceResponse>, Status> {
        let v1::GetServiceRequest { service, version: named } = request.into_inner();
        let found = self.registry.get(&service).map_err(|f| status(&f))?;
        let named = if named.is_empty() { found.routes.stable.clone() } else { named };
        let of = self.registry.resolve(&service, &named).map_err(|f| status(&f))?;
        let tally = found.versions.iter().find(|(version, _)| version.hash == of.hash).map(|(_, tally)| *tally);
        let files: HashMap<String, String> = of.files.0.clone().into_iter().collect();
        let version = Some(version((of.as_ref(), tally.unwrap_or_default())));
        Ok(Response::new(v1::GetServiceResponse { state: Some(state(&found)), version, files }))
    }

    async fn route(&self, request: Request<v1::RouteServiceRequest>) -> Result<Response<v1::ServiceState>, Status> {
        use v1::route_service_request::Change as Wire;
        let v1::RouteServiceRequest { service, change } = request.into_inner();
        let change = match change.ok_or_else(|| BadField::new("change", "missing"))? {
            Wire::Canary(v1::Canary { version, percent }) => Change::Canary { version, percent },
            Wire::Promote(version) => Change::Promote(version),
            Wire::Rollback(_) => Change::Rollback,
        };
        let changed = self.registry.change(&service, &change).map_err(|f| status(&f))?;
        info!(service, stable = short(&changed.routes.stable), "service routed");
        Ok(Response::new(state(&changed)))
    }

    async fn signal(&self, request: Request<v1::SignalJobRequest>) -> Result<Response<v1::Job>, Status> {
        let v1::SignalJobRequest { job_id: id, name, payload, dedupe } = request.into_inner();
        let job = job_id("job_id", &id)?;
        if name.is_empty() || name.len() > TEXT_MAX || name.starts_with(OWN) {
            let why = format!("{name:?}: a signal has a name of 1 to {TEXT_MAX} bytes that does not begin with {OWN}");
            return Err(BadField::new("name", why).into());
        }
        let payload = if payload.is_empty() { "null" } else { &payload };
        let payload: Json =
            serde_json::from_str(payload).map_err(|e| BadField::new("payload", format!("no JSON: {e}")))?;
        self.tell(job, &name, dedupe, payload.to_string().into_bytes()).await
    }

    async fn resume(&self, request: Request<v1::ResumeJobRequest>) -> Result<Response<v1::Job>, Status> {
        let job = job_id("job_id", &request.into_inner().job_id)?;
        let is_paused = self.jobs.inbox.look(job, |rules| Ok(matches!(rules.status(), Stand::Paused(_)))).await;
        match is_paused {
            Ok(true) => self.tell(job, RESUME, String::new(), b"null".to_vec()).await,
            Ok(false) => {
                let why = format!("job {job} is not paused");
                Err(status(&Failure::new(Class::Spec, "wrong_state", why)))
            }
            Err(failure) if failure.code == "no_such_job" => Err(status(&self.gone(job).await)),
            Err(failure) => Err(status(&failure)),
        }
    }

    async fn migrate(
        &self,
        request: Request<v1::MigrateJobRequest>,
    ) -> Result<Response<v1::MigrateJobResponse>, Status> {
        self.migrate_job(request.into_inner()).await.map(Response::new)
    }

    async fn look(&self, request: Request<v1::LookRequest>) -> Result<Response<v1::LookResponse>, Status> {
        let v1::LookRequest { job_id: id, at } = request.into_inner();
        let job = job_id("job_id", &id)?;
        let at = at.ok_or_else(|| BadField::new("at", "missing"))?;
        let json = self.look_at(job, at).await.map_err(|f| status(&f))?;
        Ok(Response::new(v1::LookResponse { json: json.to_string() }))
    }
}
