//! Services made of rules, and jobs of them, at a server.

use std::collections::BTreeMap;

use serde::Serialize;
use spool_dialect::{Problem, Severity, Sources};
use spool_proto::time::Timestamp;
use spool_proto::view::JobView;
use spool_proto::wire::v1;

use super::Client;

/// A service as a server has it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct State {
    pub service: String,
    /// The version that takes new jobs.
    pub stable: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub canary: String,
    /// Of 100 new jobs, how many the canary takes.
    pub canary_percent: u32,
    /// How the canary was judged last.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub verdict: String,
    /// Newest first.
    pub versions: Vec<Version>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Version {
    pub hash: String,
    /// As its author calls it.
    pub version: String,
    pub pushed: Timestamp,
    pub rules: u32,
    /// Jobs of it since the server started, or it was pushed.
    pub begun: u64,
    pub done: u64,
    pub failed: u64,
    pub built_in: bool,
}

impl Version {
    /// `4 (1f6a90c2)`.
    pub fn shown(&self) -> String {
        format!("{} ({})", self.version, short(&self.hash))
    }
}

/// The first digits of a hash: enough to name it.
pub fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}

/// A version with its files.
#[derive(Debug, Clone, Serialize)]
pub struct Got {
    pub state: State,
    pub version: Version,
    pub files: Sources,
}

/// What came of a push.
#[derive(Debug, Clone, Serialize)]
pub struct Pushed {
    /// Empty, like the hash, when something is wrong.
    pub service: String,
    pub hash: String,
    /// The same files were pushed before.
    pub existing: bool,
    pub problems: Vec<Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

/// Which version takes new jobs.
#[derive(Debug, Clone)]
pub enum Route {
    Canary {
        version: String,
        percent: u32,
    },
    /// Empty: the canary.
    Promote(String),
    Rollback,
}

/// What is looked at within a job.
#[derive(Debug, Clone)]
pub enum Look {
    /// Of this type; of all for none.
    Facts(String),
    History,
    WhyNot(String),
    Tree,
}

impl From<v1::ServiceState> for State {
    fn from(wire: v1::ServiceState) -> State {
        let v1::ServiceState { service, stable, canary, canary_percent, verdict, versions } = wire;
        let versions = versions.into_iter().map(Into::into).collect();
        State { service, stable, canary, canary_percent, verdict, versions }
    }
}

impl From<v1::ServiceVersion> for Version {
    fn from(wire: v1::ServiceVersion) -> Version {
        let v1::ServiceVersion { hash, version, pushed_us, rules, begun, done, failed, built_in } = wire;
        Version { hash, version, pushed: Timestamp(pushed_us), rules, begun, done, failed, built_in }
    }
}

fn problem(wire: v1::RuleProblem) -> Problem {
    let place = |number: u32| usize::try_from(number).unwrap_or(0);
    Problem {
        line: place(wire.line),
        column: place(wire.column),
        severity: if wire.severity == "warning" { Severity::Warning } else { Severity::Error },
        file: wire.file,
        code: wire.code,
        message: wire.message,
    }
}

impl Client {
    pub async fn push_service(&self, files: &Sources, dry_run: bool) -> anyhow::Result<Pushed> {
        let files = files.0.iter().map(|(name, text)| (name.clone(), text.clone())).collect();
        let request = v1::PushServiceRequest { files, dry_run };
        let answer = self.rules.clone().push(request).await.map_err(|s| self.error(s))?.into_inner();
        let v1::PushServiceResponse { service, hash, existing, problems, state } = answer;
        let problems = problems.into_iter().map(problem).collect();
        Ok(Pushed { service, hash, existing, problems, state: state.map(Into::into) })
    }

    pub async fn services(&self) -> anyhow::Result<Vec<State>> {
        let answer = self.rules.clone().list(v1::ListServicesRequest {}).await.map_err(|s| self.error(s))?;
        Ok(answer.into_inner().services.into_iter().map(Into::into).collect())
    }

    /// `version`: a hash or its beginning; empty: the one that takes new jobs.
    pub async fn service(&self, service: &str, version: &str) -> anyhow::Result<Got> {
        let request = v1::GetServiceRequest { service: service.into(), version: version.into() };
        let answer = self.rules.clone().get(request).await.map_err(|s| self.error(s))?.into_inner();
        let files: BTreeMap<String, String> = answer.files.into_iter().collect();
        Ok(Got {
            state: answer.state.map(Into::into).unwrap_or_default(),
            version: answer.version.map(Into::into).unwrap_or_default(),
            files: Sources(files),
        })
    }

    pub async fn route_service(&self, service: &str, route: Route) -> anyhow::Result<State> {
        let change = match route {
            Route::Canary { version, percent } => {
                v1::route_service_request::Change::Canary(v1::Canary { version, percent })
            }
            Route::Promote(version) => v1::route_service_request::Change::Promote(version),
            Route::Rollback => v1::route_service_request::Change::Rollback(true),
        };
        let request = v1::RouteServiceRequest { service: service.into(), change: Some(change) };
        Ok(self.rules.clone().route(request).await.map_err(|s| self.error(s))?.into_inner().into())
    }

    /// `payload` is JSON.
    pub async fn signal_job(&self, job: &str, name: &str, payload: &str, dedupe: &str) -> anyhow::Result<JobView> {
        let request = v1::SignalJobRequest {
            job_id: job.into(),
            name: name.into(),
            payload: payload.into(),
            dedupe: dedupe.into(),
        };
        self.job(self.rules.clone().signal(request).await)
    }

    pub async fn resume_job(&self, job: &str) -> anyhow::Result<JobView> {
        self.job(self.rules.clone().resume(v1::ResumeJobRequest { job_id: job.into() }).await)
    }

    /// The version the job has then, and what changes for it, as JSON.
    pub async fn migrate_job(
        &self,
        job: &str,
        version: &str,
        dry_run: bool,
    ) -> anyhow::Result<(String, serde_json::Value)> {
        let request = v1::MigrateJobRequest { job_id: job.into(), version: version.into(), dry_run };
        let answer = self.rules.clone().migrate(request).await.map_err(|s| self.error(s))?.into_inner();
        Ok((answer.hash, json(&answer.changes)?))
    }

    pub async fn look(&self, job: &str, look: Look) -> anyhow::Result<serde_json::Value> {
        let at = match look {
            Look::Facts(kind) => v1::look_request::At::Facts(v1::LookFacts { kind }),
            Look::History => v1::look_request::At::History(v1::LookHistory {}),
            Look::WhyNot(rule) => v1::look_request::At::WhyNot(v1::LookWhyNot { rule }),
            Look::Tree => v1::look_request::At::Tree(v1::LookTree {}),
        };
        let request = v1::LookRequest { job_id: job.into(), at: Some(at) };
        let answer = self.rules.clone().look(request).await.map_err(|s| self.error(s))?;
        json(&answer.into_inner().json)
    }
}

fn json(text: &str) -> anyhow::Result<serde_json::Value> {
    if text.is_empty() {
        return Ok(serde_json::Value::Null);
    }
    serde_json::from_str(text).map_err(|e| anyhow::anyhow!("the server answered what cannot be read: {e}"))
}
