//! `spool submit`: a job written down in a file.
//!
//! Reading order: [`file`] (what is in it), [`template`] (what jobs have in common), then this file.

mod file;
pub mod template;

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use spool_proto::spec::{JobSpec, Service};
use spool_proto::uri;

use crate::exit::{Exit, Stop};
use crate::output;
use crate::roles;
use crate::run::{Run, RunArgs};
use file::{Body, JobFile, Metadata};

/// `template apply` takes the same, without the file.
#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// The job, as YAML; - reads it from stdin
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The source, in place of the file's
    #[arg(short, long, value_name = "IN", allow_hyphen_values = true)]
    input: Option<String>,
    /// The output, in place of the file's: a folder for packages
    #[arg(short, long, value_name = "OUT", allow_hyphen_values = true)]
    output: Option<String>,
    /// Replace an output that exists
    #[arg(short = 'y')]
    overwrite: bool,
    /// Print the job as it would be frozen, as JSON, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    run: RunArgs,
}

pub async fn run(args: &SubmitArgs) -> anyhow::Result<Exit> {
    let Some(path) = &args.file else {
        return Err(Stop::usage("no job named: spool submit job.yaml (spool template list names some to begin with)"));
    };
    let (name, text) = read(path)?;
    let JobFile { metadata, body } = file::parse(&name, &text).map_err(Stop::usage)?;
    submit(&name, metadata, body, args).await
}

/// Submits a job made of a template alone.
pub async fn apply(template: String, args: SubmitArgs) -> anyhow::Result<Exit> {
    if let Some(file) = &args.file {
        let file = file.display();
        return Err(Stop::usage(format!("{file}: spool template apply takes no job; spool submit {file} does")));
    }
    let body = Body { template: Some(template.clone()), ..Body::default() };
    submit(&template, Metadata::default(), body, &args).await
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

async fn submit(name: &str, metadata: Metadata, body: Body, args: &SubmitArgs) -> anyhow::Result<Exit> {
    let prepared = Prepared::of(name, metadata, body, args)?;
    if args.dry_run {
        output::print_json(&prepared.job)?;
        return Ok(Exit::Done);
    }
    let mut how = RunArgs { request_id: args.run.request_id.clone().or(prepared.request_id.clone()), ..clone(&args.run) };
    let needs = (!prepared.job.pool.is_default()).then_some("spec.pool");
    let url = args.run.server(needs)?.map(str::to_owned);
    how.server.clone_from(&url);
    let run = Run {
        job: &prepared.job,
        hash: &prepared.hash,
        result: prepared.result.as_deref(),
        backends: prepared.backends(),
    };
    match url {
        Some(url) => run.through_server(&url, &how).await,
        None => run.here(&how.root()?, &how).await,
    }
}
