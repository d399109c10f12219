//! `spool submit`: a job written down in a file.
//!
//! Reading order: [`file`] (what is in it), [`template`] (what jobs have in common), [`service`] (jobs of services made of rules), then this
//! file.

mod file;
pub mod json;
mod service;
pub mod template;

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use spool_proto::pool::PoolName;
use spool_proto::spec::title::Publish;
use spool_proto::spec::{JobSpec, Service, VideoCodec};
use spool_proto::uri;

use crate::exit::{Exit, Stop};
use crate::output;
use crate::roles;
use crate::run::{Run, RunArgs};
use file::{Body, JobFile, Metadata};
use service::{EnvelopeArgs, ServiceArgs};

/// `template apply` takes the same, without the file.
#[derive(Debug, Args)]
pub struct SubmitArgs {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    service: ServiceArgs,
    #[command(flatten)]
    envelope: EnvelopeArgs,
    /// Print the job as it would be frozen, as JSON, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    run: RunArgs,
}

/// Which job.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// The job, as YAML; - reads it from stdin
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The source, in place of the file's; of a service made of rules its input: JSON, @FILE or - (stdin)
    #[arg(short, long, value_name = "IN", allow_hyphen_values = true)]
    input: Option<String>,
    /// The output, in place of the file's: a folder for packages
    #[arg(short, long, value_name = "OUT", allow_hyphen_values = true)]
    output: Option<String>,
    /// Replace an output that exists
    #[arg(short = 'y')]
    overwrite: bool,
    /// When a package appears, in place of the file's: whole, or live (segment by segment, while it is encoded)
    #[arg(long, value_name = "WHEN")]
    publish: Option<Publish>,
}

pub async fn run(args: &SubmitArgs) -> anyhow::Result<Exit> {
    let prepared = match (&args.service.service, &args.job.file) {
        (Some(named), _) => service::of_options(named, args)?,
        (None, Some(path)) => {
            let (name, text) = read(path)?;
            if service::names_a_service(&text) {
                service::of_file(&name, &text, args)?
            } else if let Some(set) = args.service.set.first() {
                return Err(Stop::usage(format!("--set {set}: only the input of a service made of rules is set so")));
            } else {
                Prepared::of_text(&name, &text, &args.job, None)?
            }
        }
        (None, None) => return Err(nothing_named()),
    };
    submit(prepared, args).await
}

fn nothing_named() -> anyhow::Error {
    Stop::usage(
        "no job named: give a file such as job.yaml (spool template list names some to begin with), or a service made of rules with --service",
    )
}

/// Submits a job made of a template alone.
pub async fn apply(template: String, args: SubmitArgs) -> anyhow::Result<Exit> {
    if let Some(file) = &args.job.file {
        let file = file.display();
        return Err(Stop::usage(format!("{file}: spool template apply takes no job; spool submit {file} does")));
    }
    if let Some(service) = &args.service.service {
        return Err(Stop::usage(format!("--service {service}: a template is of films; spool submit takes services")));
    }
    let file =
        JobFile { metadata: Metadata::default(), body: Body { template: Some(template.clone()), ..Body::default() } };
    submit(Prepared::from_file(&template, file, &args.job, None)?, &args).await
}

fn read(path: &Path) -> anyhow::Result<(String, String)> {
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(("stdin".into(), text));
    }
    let name = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|e| Stop::usage(format!("{name}: {e}")))?;
    Ok((name, text))
}

async fn submit(mut prepared: Prepared, args: &SubmitArgs) -> anyhow::Result<Exit> {
    args.envelope.fill(&mut prepared.job)?;
    if args.dry_run {
        output::print_json(&prepared.job)?;
        return Ok(Exit::Done);
    }
    let job = &prepared.job;
    let needs = match &job.service {
        Service::Rules(_) => Some("a service made of rules"),
        _ if job.pool != PoolName::default() => Some("a pool"),
        _ => job.notify.as_ref().map(|_| "spec.notify"),
    };
    let url = args.run.server(needs)?;
    let run = Run {
        job: &prepared.job,
        hash: &prepared.hash,
        request_id: prepared.request_id.as_deref(),
        result: prepared.result.as_deref(),
        backends: prepared.backends(),
        as_ffmpeg: None,
    };
    match url {
        Some(url) => run.through_server(url, &args.run).await,
        None => run.here(&args.run.root()?, &args.run).await,
    }
}

/// A judged job and its name.
#[derive(Debug)]
pub struct Prepared {
    pub job: JobSpec,
    /// Of the source, the output and the options: equal for the same job.
    hash: String,
    request_id: Option<String>,
    /// What is there when the job is done; local.
    result: Option<PathBuf>,
}

impl Prepared {
    /// The job a command line names. `output`: where it goes when neither command nor file say.
    ///
    /// # Errors
    /// A [`Stop`] with exit 2 that names the file and the field.
    pub fn of(args: &JobArgs, output: Option<&Path>) -> anyhow::Result<Prepared> {
        let (name, text) = read(args.file.as_ref().ok_or_else(nothing_named)?)?;
        if service::names_a_service(&text) {
            return Err(Stop::usage(format!("{name}: only films are measured, not services made of rules")));
        }
        Prepared::of_text(&name, &text, args, output)
    }

    fn of_text(name: &str, text: &str, args: &JobArgs, output: Option<&Path>) -> anyhow::Result<Prepared> {
        let file = file::parse(name, text).map_err(Stop::usage)?;
        Prepared::from_file(name, file, args, output)
    }

    fn from_file(name: &str, file: JobFile, args: &JobArgs, output: Option<&Path>) -> anyhow::Result<Prepared> {
        let JobFile { metadata, body } = file;
        let at = |what: String| Stop::usage(format!("{name}: {what}"));
        let mut body = match &body.template {
            Some(template) => {
                let template = template::find(template).map_err(|e| at(format!("spec.template: {e}")))?;
                body.over(template)
            }
            None => body,
        };
        if let Some(input) = &args.input {
            if body.inputs.is_some() {
                return Err(at("-i with spec.inputs: the job names its sources itself".into()));
            }
            body.input.get_or_insert_default().uri = Some(input.clone());
        }
        body.settle_inputs().map_err(at)?;
        let usual = output.map(|output| match body.packages {
            Some(_) => output.join("package").to_string_lossy().into_owned(),
            None => output.join("film.mp4").to_string_lossy().into_owned(),
        });
        body.output = args.output.clone().or(body.output).or(usual);
        body.overwrite = body.overwrite.or(args.overwrite.then_some(true));
        body.publish = args.publish.or(body.publish);
        let source = body.input.as_ref().and_then(|input| input.uri.as_deref());
        let source = source.ok_or_else(|| at("spec.input: missing; name the source, or give -i".into()))?;
        let output = body.output.as_deref().ok_or_else(|| at("spec.output: missing; or give -o".into()))?;
        let source = Source::of(source).map_err(|e| at(format!("spec.input: {e}")))?;
        let output = file::uri_of(output)?;
        let output = match &body.packages {
            Some(_) if !output.ends_with('/') => format!("{output}/"),
            _ => output,
        };
        let service = body.service(source.uri.clone(), output.clone()).map_err(at)?;
        let shown = metadata.name.clone().unwrap_or_else(|| source.name.clone());
        let job = body.job(shown, service).map_err(|failure| at(failure.message))?;
        let mut sources = vec![source];
        if let Service::VideoEncode(spec) = &job.service {
            let file = spec.video.as_ref().and_then(|video| video.burn_in()?.file.as_ref());
            for uri in spec.sources().skip(1).chain(file) {
                sources.push(Source::of(uri).map_err(at)?);
            }
        }
        let hash = hash(&job.service, &sources)?;
        Ok(Prepared { hash, request_id: metadata.request_id, result: uri::to_path(&output).ok(), job })
    }

    /// What a worker must be able to do for it.
    pub fn backends(&self) -> Vec<String> {
        let mut codecs: Vec<VideoCodec> = match &self.job.service {
            Service::VideoEncode(spec) => spec.video.iter().map(|video| video.codec).collect(),
            Service::Title(spec) => {
                let ladder = spec.ladder.iter().flat_map(|ladder| ladder.codecs.iter().copied());
                spec.video.iter().map(|rendition| rendition.video.codec).chain(ladder).collect()
            }
            Service::Rules(_) | Service::Function(_) | Service::Bench(_) => Vec::new(),
        };
        codecs.sort_unstable();
        codecs.dedup();
        codecs.into_iter().map(roles::backend).collect()
    }
}

struct Source {
    uri: String,
    name: String,
    /// Of a local file: what tells its versions apart.
    version: Option<(u64, i64, i64)>,
}

impl Source {
    fn of(text: &str) -> Result<Source, String> {
        let uri = file::uri_of(text).map_err(|e| e.to_string())?;
        let Ok(path) = uri::to_path(&uri) else {
            return Ok(Source { name: text.to_owned(), uri, version: None });
        };
        let path = path.canonicalize().map_err(|e| format!("{text}: {e}"))?;
        let metadata = fs::metadata(&path).map_err(|e| format!("{text}: {e}"))?;
        if !metadata.is_file() {
            return Err(format!("{text} is not a file"));
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let version = Some((metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
        Ok(Source { uri: uri::from_path(&path), name, version })
    }
}

/// 128 bits, hex.
fn hash(service: &Service, sources: &[Source]) -> anyhow::Result<String> {
    let mut plain = service.clone();
    match &mut plain {
        Service::VideoEncode(spec) => spec.overwrite = false,
        Service::Title(spec) => spec.overwrite = false,
        Service::Rules(_) | Service::Function(_) | Service::Bench(_) => {}
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&serde_json::to_vec(&plain)?);
    for (bytes, secs, nanos) in sources.iter().filter_map(|source| source.version) {
        hasher.update(&bytes.to_le_bytes()).update(&secs.to_le_bytes()).update(&nanos.to_le_bytes());
    }
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}
