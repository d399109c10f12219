//! `spool encode`: one film in, one film out; through a server, or with server and worker in this process.
//!
//! Reading order: [`options`] (what ffmpeg's users type), [`request`] (files, overwriting, the run's name), [`folder`] (where
//! unfinished runs live), then this file.

pub mod folder;
pub mod options;
pub mod request;

use spool_proto::view::{JobState, JobView};

use crate::client::Client;
use crate::exit::{Exit, Stop};
use crate::follow::{self, End, Fleet, Interrupts};
use crate::output;
use crate::progress::{self, Mode, Progress};
use crate::roles::Embedded;
use folder::Folder;
use options::EncodeArgs;
use request::Request;

pub async fn run(args: &EncodeArgs) -> anyhow::Result<Exit> {
    let request = Request::of(args)?;
    match &args.spool.server {
        Some(url) => through_server(url, request, args).await,
        None if args.spool.detach => {
            Err(Stop::usage("--detach needs a server to leave the job to: add --server URL (or set SPOOL_SERVER)"))
        }
        None => match args.spool.queueing.needs_server() {
            Some(option) => Err(Stop::usage(format!(
                "{option} needs a server that others use too: add --server URL (or set SPOOL_SERVER)"
            ))),
            None => in_this_process(request, args).await,
        },
    }
}

async fn through_server(url: &str, mut request: Request, args: &EncodeArgs) -> anyhow::Result<Exit> {
    request.settle_overwrite(args, false)?;
    let mut interrupts = Interrupts::listen()?;
    let client = Client::connect(url).await?;
    let job = submit(&client, &request, args, false).await?;
    if args.spool.detach {
        if args.spool.json {
            output::print_json(&serde_json::json!({ "job": job, "server": url }))?;
        } else {
            output::print(&format!("{job}\n"))?;
        }
        return Ok(Exit::Done);
    }
    let mut progress = Progress::new(args.spool.progress);
    let end = follow::follow(&client, &job, Fleet::Open, &mut progress, &mut interrupts).await;
    progress.end();
    match end? {
        End::Final(job) => finish(&job, args, &progress),
        End::Interrupted => Err(Stop::with(
            Exit::Detached,
            format!("{job} goes on at {url}; spool job watch {job} looks again, spool job cancel {job} stops it"),
        )),
    }
}

async fn in_this_process(mut request: Request, args: &EncodeArgs) -> anyhow::Result<Exit> {
    let root = folder::root(args.spool.data.as_deref())?;
    let folder = Folder::of(&root, &request.hash);
    request.settle_overwrite(args, folder.is_begun())?;
    request.check_writable()?;
    folder::sweep(&root, &request.hash);
    let mut interrupts = Interrupts::listen()?;
    let mut progress = Progress::new(args.spool.progress);
    folder.make()?;
    let embedded = Embedded::start(&folder.path, args.spool.slots, request.backends()).await?;
    let end = tokio::select! {
        end = drive(&embedded, &request, args, &mut progress, &mut interrupts) => end,
        reason = embedded.stuck() => Err(reason.into()),
    };
    progress.end();
    let stops_early = matches!(end, Ok(End::Interrupted));
    if stops_early {
        progress.say("stopping; the same command resumes. Ctrl-C again stops at once");
    }
    tokio::select! {
        () = embedded.stop() => {}
        () = interrupts.next() => return Ok(Exit::Detached),
    }
    match end? {
        End::Final(job) => {
            if job.state == JobState::Done {
                folder.remove();
            }
            finish(&job, args, &progress)
        }
        End::Interrupted => Ok(Exit::Detached),
    }
}

async fn drive(
    embedded: &Embedded,
    request: &Request,
    args: &EncodeArgs,
    progress: &mut Progress,
    interrupts: &mut Interrupts,
) -> anyhow::Result<End> {
    let client = embedded.client();
    let job = submit(client, request, args, true).await?;
    follow::follow(client, &job, Fleet::Alone, progress, interrupts).await
}

/// Submits, or finds the job that the same command submitted before: one that failed is tried again, one that is done is
/// only good while its film is there.
async fn submit(client: &Client, request: &Request, args: &EncodeArgs, embedded: bool) -> anyhow::Result<String> {
    let mut id = args.spool.request_id.clone().unwrap_or_else(|| request.hash.clone());
    loop {
        let (job, existing) = client.submit(&id, &request.job).await?;
        if !existing {
            return Ok(job);
        }
        let state = client.get(&job, true).await?.state;
        match state {
            JobState::Failed | JobState::Cancelled => {
                client.retry(&job).await?;
                return Ok(job);
            }
            JobState::Done if args.spool.request_id.is_none() && !(embedded && request.output.exists()) => {
                // The film was encoded before and is wanted anew: the next of its name.
                id = format!("{}-after-{job}", request.hash);
            }
            _ => return Ok(job),
        }
    }
}

fn finish(job: &JobView, args: &EncodeArgs, progress: &Progress) -> anyhow::Result<Exit> {
    if args.spool.json {
        output::print_json(job)?;
    }
    if args.spool.progress != Mode::None || job.state != JobState::Done {
        progress.say(&progress::summary(job));
    }
    Ok(follow::exit_of(job))
}
