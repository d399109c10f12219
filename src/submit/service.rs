//! A job of a service made of rules: by name on the command line, or in a file whose `spec.service` names one.

use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use spool_proto::pool::{Class, PoolName};
use spool_proto::spec::{JobSpec, PRIORITY_MAX, RulesSpec, Service};
use spool_proto::time::Timestamp;

use super::file::{API_VERSION, Body, HopBody, KIND, Metadata, Moment, Retry};
use super::json;
use super::{Prepared, SubmitArgs};
use crate::exit::Stop;
use crate::quantity;
use crate::service::named::Named;
use crate::yaml::read;

/// What a job is that names no service: nobody pushes these.
const OWN: [&str; 3] = ["video-encode", "title", "bench"];

/// Which service, in place of a file.
#[derive(Debug, Args)]
pub struct ServiceArgs {
    /// Submit a job of this service made of rules, such as encode or encode@4; --input is then JSON, @FILE or - (stdin)
    #[arg(long, value_name = "NAME[@VERSION]", conflicts_with_all = ["file", "overwrite", "publish"])]
    pub service: Option<Named>,
    /// Set a field of the service's input: recipe.crf=20; a value that is no JSON is a text
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// The job's place among others, in place of the file's.
#[derive(Debug, Args)]
pub struct EnvelopeArgs {
    /// The pool it goes to, such as studio/marketing
    #[arg(long, value_name = "POOL", value_parser = crate::pool::name)]
    pool: Option<PoolName>,
    /// 0 (last) to 100 (first)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=i64::from(PRIORITY_MAX)))]
    priority: Option<u8>,
    /// When it should be done: +2h, 2026-05-01T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = quantity::time)]
    deadline: Option<Timestamp>,
    /// Use only capacity nobody else wants, until then: +6h, 2026-05-01T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = quantity::time)]
    opportunistic_until: Option<Timestamp>,
    /// What people see the job as
    #[arg(long)]
    name: Option<String>,
}

impl EnvelopeArgs {
    pub fn fill(&self, job: &mut JobSpec) -> anyhow::Result<()> {
        if let Some(pool) = &self.pool {
            job.pool = pool.clone();
        }
        job.priority = self.priority.unwrap_or(job.priority);
        job.deadline = self.deadline.or(job.deadline);
        if let Some(start_by) = self.opportunistic_until {
            job.class = Class::Opportunistic { start_by };
        }
        if let Some(name) = &self.name {
            job.name.clone_from(name);
        }
        Ok(job.check()?)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    api_version: String,
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    spec: ServiceBody,
}

/// `spec` of a job that names a service.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ServiceBody {
    service: String,
    /// Whatever the service takes.
    #[serde(default)]
    input: Value,
    pool: Option<String>,
    priority: Option<u8>,
    deadline: Option<Moment>,
    opportunistic_until: Option<Moment>,
    preemptible: Option<bool>,
    hop: Option<Vec<HopBody>>,
    retry: Option<Retry>,
}

/// Whether a file's job names a service. What is wrong with the file is for those to say who read it whole.
pub fn names_a_service(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Peek {
        spec: PeekSpec,
    }
    #[derive(Deserialize)]
    struct PeekSpec {
        service: Option<serde::de::IgnoredAny>,
    }
    read::<Peek>("", text).is_ok_and(|peek| peek.spec.service.is_some())
}

/// The job that a file's `spec.service` names.
///
/// # Errors
/// A [`Stop`] with exit 2 that names the file, the line and the field.
pub fn of_file(source: &str, text: &str, args: &SubmitArgs) -> anyhow::Result<Prepared> {
    let at = |what: String| Stop::usage(format!("{source}: {what}"));
    let Document { api_version, kind, metadata, spec } = read(source, text).map_err(Stop::usage)?;
    if api_version != API_VERSION || kind != KIND {
        return Err(at(format!("expected apiVersion: {API_VERSION} and kind: {KIND}")));
    }
    let ServiceBody { service, input, pool, priority, deadline, opportunistic_until, preemptible, hop, retry } = spec;
    if OWN.contains(&service.as_str()) {
        return Err(at(format!("spec.service: {service} is no service made of rules; leave the field out")));
    }
    if args.job.output.is_some() || args.job.overwrite || args.job.publish.is_some() {
        return Err(at(
            "-o, -y and --publish are for films; what a service takes is its input (--set KEY=VALUE)".into()
        ));
    }
    let named: Named = service.parse().map_err(|e| at(format!("spec.service: {e}")))?;
    let input = self::input(args, input)?;
    let envelope = Body { pool, priority, deadline, opportunistic_until, preemptible, hop, retry, ..Body::default() };
    let rules = RulesSpec { name: named.service, version: named.version, input };
    let name = metadata.name.unwrap_or_else(|| rules.name.clone());
    let job = envelope.job(name, Service::Rules(rules)).map_err(|failure| at(failure.message))?;
    prepared(job, metadata.request_id)
}

/// The job of `--service`.
///
/// # Errors
/// A [`Stop`] with exit 2 that names the option.
pub fn of_options(named: &Named, args: &SubmitArgs) -> anyhow::Result<Prepared> {
    if args.job.output.is_some() {
        return Err(Stop::usage("-o with --service: what a service takes is its input (--input, --set)"));
    }
    let rules =
        RulesSpec { name: named.service.clone(), version: named.version.clone(), input: input(args, Value::Null)? };
    prepared(JobSpec::new(rules.name.clone(), Service::Rules(rules)), None)
}

/// The input: what the file says, unless `--input` does, with the fields of `--set` over it.
fn input(args: &SubmitArgs, of_file: Value) -> anyhow::Result<Value> {
    let given = args.job.input.as_deref().map(|text| json::given("--input", text)).transpose()?;
    let mut input = given.unwrap_or(of_file);
    for assignment in &args.service.set {
        json::set(&mut input, assignment).map_err(|e| Stop::usage(format!("--set {e}")))?;
    }
    if input.is_null() {
        input = Value::Object(serde_json::Map::new());
    }
    Ok(input)
}

fn prepared(job: JobSpec, request_id: Option<String>) -> anyhow::Result<Prepared> {
    let hash = blake3::hash(&serde_json::to_vec(&job.service)?).to_hex()[..32].to_owned();
    Ok(Prepared { job, hash, request_id, result: None })
}
