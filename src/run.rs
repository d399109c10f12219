//! Running one job to its end: through a server, or with server and worker in this process.
//!
//! Reading order: [`RunArgs`] (what every command that runs jobs takes), [`Run`] (a judged job and its name), [`folder`] (where
//! unfinished runs live), then this file.

pub mod folder;

use std::path::{Path, PathBuf};

use clap::Args;
use spool_proto::spec::{JobSpec, Service};
use spool_proto::view::{JobState, JobView};

use crate::cli::SandboxArg;
use crate::client::Client;
use crate::exit::{Exit, Stop};
use crate::ffmpeg::status::Status;
use crate::follow::{self, End, Fleet, Interrupts};
use crate::output;
use crate::progress::{Mode, Progress};
use crate::roles::{Embedded, WorkerTerms};
use folder::Folder;

/// How a job is run, and what is told of it.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Let this server encode, not this process
    #[arg(long, env = "SPOOL_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// Where unfinished runs are kept [default: $XDG_DATA_HOME/spool]
    #[arg(long, value_name = "DIR", conflicts_with = "detach")]
    pub data: Option<PathBuf>,
    /// Cores to use [default: all]
    #[arg(long, value_name = "N", conflicts_with = "detach", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub slots: Option<u16>,
    #[command(flatten)]
    pub sandbox: SandboxArg,
    /// Print the job's id and leave it to the server
    #[arg(long)]
    pub detach: bool,
    /// Print the finished job as JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Progress on stderr
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW")]
    pub progress: Mode,
    /// Submitting the same id again finds the same job [default: from the source, the output and the options]
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
}

impl RunArgs {
    /// The server's address; `None`: here. `needs_server` names an option that means nothing without one.
    ///
    /// # Errors
    /// A [`Stop`] with exit 2 for options that need a server where there is none.
    pub fn server(&self, needs_server: Option<&str>) -> anyhow::Result<Option<&str>> {
        if let Some(url) = &self.server {
            return Ok(Some(url));
        }
        if self.detach {
            return Err(Stop::usage(
                "--detach needs a server to leave the job to: add --server URL (or set SPOOL_SERVER)",
            ));
        }
        match needs_server {
            Some(option) => Err(Stop::usage(format!(
                "{option} needs a server that others use too: add --server URL (or set SPOOL_SERVER)"
            ))),
            None => Ok(None),
        }
    }

    /// Where runs without a server are kept.
    pub fn root(&self) -> anyhow::Result<PathBuf> {
        folder::root(self.data.as_deref())
    }
}

/// A judged job and its name.
#[derive(Debug)]
pub struct Run<'a> {
    pub job: &'a JobSpec,
    /// Of the source, the output and the options: equal for the same command.
    pub hash: &'a str,
    /// What the job itself says it is to be known by; the command's option goes before it.
    pub request_id: Option<&'a str>,
    /// What is there when the job is done; local.
    pub result: Option<&'a Path>,
    /// What a worker must be able to do for it.
    pub backends: Vec<String>,
    /// How it is told where not as [`RunArgs::progress`] says: as ffmpeg does. An interrupt then ends the job at its server, too.
    pub as_ffmpeg: Option<Status>,
}

impl Run<'_> {
    /// Lets the server at `url` do it.
    ///
    /// # Errors
    /// As [`follow::follow`]; exit 130 when the user leaves the job to the server.
    pub async fn through_server(mut self, url: &str, args: &RunArgs) -> anyhow::Result<Exit> {
        let mut interrupts = Interrupts::listen()?;
        let client = Client::connect(url).await?;
        let job = self.submit(&client, args, false).await?;
        if args.detach {
            if args.json {
                output::print_json(&serde_json::json!({ "job": job, "server": url }))?;
            } else {
                output::print(&format!("{job}\n"))?;
            }
            return Ok(Exit::Done);
        }
        let ends_the_job = self.as_ffmpeg.is_some();
        let mut progress = self.progress(args);
        let end = follow::follow(&client, &job, Fleet::Open, &mut progress, &mut interrupts).await;
        progress.end();
        match end? {
            End::Final(job) => self.finish(&job, args, &mut progress),
            End::Interrupted if ends_the_job => {
                client.cancel(&job, "interrupted").await?;
                Ok(Exit::Detached)
            }
            End::Interrupted => Err(Stop::with(
                Exit::Detached,
                format!("{job} goes on at {url}; spool job watch {job} looks again, spool job cancel {job} stops it"),
            )),
        }
    }

    /// Does it in this process; interrupted, the same command goes on.
    ///
    /// # Errors
    /// As [`Embedded::start`] and [`follow::follow`].
    pub async fn here(mut self, root: &Path, args: &RunArgs) -> anyhow::Result<Exit> {
        let folder = Folder::of(root, self.hash);
        folder::sweep(root, self.hash);
        let mut interrupts = Interrupts::listen()?;
        let mut progress = self.progress(args);
        folder.make()?;
        let terms = WorkerTerms::new(args.slots, self.backends.clone(), args.sandbox.mode);
        let embedded = Embedded::start(&folder.path, terms).await?;
        let end = tokio::select! {
            end = self.drive(&embedded, args, &mut progress, &mut interrupts) => end,
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
                self.finish(&job, args, &mut progress)
            }
            End::Interrupted => Ok(Exit::Detached),
        }
    }

    fn progress(&mut self, args: &RunArgs) -> Progress {
        self.as_ffmpeg.take().map_or_else(|| Progress::new(args.progress), Progress::as_ffmpeg)
    }

    async fn drive(
        &self,
        embedded: &Embedded,
        args: &RunArgs,
        progress: &mut Progress,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<End> {
        let client = embedded.client();
        let job = self.submit(client, args, true).await?;
        follow::follow(client, &job, Fleet::Alone, progress, interrupts).await
    }

    /// Submits, or finds the job that the same command submitted before: one that failed is tried again, one that is done is
    /// only good while its result is there.
    async fn submit(&self, client: &Client, args: &RunArgs, embedded: bool) -> anyhow::Result<String> {
        let given = args.request_id.as_deref().or(self.request_id);
        let mut id = given.unwrap_or(self.hash).to_owned();
        loop {
            let (job, existing) = client.submit(&id, self.job).await?;
            if !existing {
                return Ok(job);
            }
            let state = client.get(&job, true).await?.state;
            let is_there = self.result.is_some_and(Path::exists);
            match state {
                JobState::Failed | JobState::Cancelled => {
                    client.retry(&job).await?;
                    return Ok(job);
                }
                JobState::Done if given.is_none() && !(embedded && is_there) => {
                    // It was made before and is wanted anew: the next of its name.
                    id = format!("{}-after-{job}", self.hash);
                }
                _ => return Ok(job),
            }
        }
    }

    fn finish(&self, job: &JobView, args: &RunArgs, progress: &mut Progress) -> anyhow::Result<Exit> {
        if args.json {
            output::print_json(job)?;
        } else if let (Service::Rules(_), Some(result)) = (&self.job.service, &job.output) {
            // What such a job is for; of films it is the file.
            output::print_json(result)?;
        }
        progress.tell_end(job);
        Ok(follow::exit_of(job))
    }
}
