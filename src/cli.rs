//! The command line, as clap sees it: nouns and verbs here, the arguments of each beside what it does.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use spool_worker::executor::Sandbox;

use crate::logging::LogFormat;
use crate::{
    bench, doctor, encode, estimate, ffmpeg, function, images, job, pool, probe, quality, queue, rules, server,
    service, submit, text, up, worker,
};

/// Cuts films into chunks, encodes them side by side, joins them frame-exactly.
#[derive(Debug, Parser)]
#[command(name = "spool", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// How logs are written to stderr; RUST_LOG says which
    #[arg(long, global = true, value_enum, default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Encode a film
    Encode(Box<encode::options::EncodeArgs>),
    /// Take an ffmpeg command line: split it, run it whole, or leave it to the local ffmpeg
    Ffmpeg(ffmpeg::FfmpegArgs),
    /// Submit a job written down in a file: a film, or a title with all its renditions
    Submit(Box<submit::SubmitArgs>),
    /// Tell what a job would take: time, core-hours, size; measured on samples of its source
    Estimate(Box<estimate::EstimateArgs>),
    /// Look at job templates, or submit one
    #[command(subcommand)]
    Template(submit::template::TemplateCommand),
    /// Functions of your own: write, test, push and run them
    #[command(subcommand)]
    Function(function::FunctionCommand),
    /// Look at jobs and steer them
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Look at pools (who may use how much) and change them
    #[command(subcommand)]
    Pool(pool::PoolCommand),
    /// Write services made of rules, test them, and give them to a server
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Find out why rules fire, or not
    #[command(subcommand)]
    Rules(rules::RulesCommand),
    /// Look at what waits
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Run a worker, or look at workers and steer them
    Worker(worker::WorkerCommand),
    /// Run a server
    Server(server::ServerArgs),
    /// Run a server and one worker on this machine
    Up(up::UpArgs),
    /// Tell what is in a media file
    Probe(probe::ProbeArgs),
    /// Score a film against its original, frame by frame
    Quality(quality::QualityArgs),
    /// Take pictures of a film: poster, thumbnails, sprite sheets
    Images(Box<images::ImagesArgs>),
    /// Write the subtitles of a film or a subtitle file as WebVTT or SubRip
    Text(text::TextArgs),
    /// Check this machine: codecs, memory, disk, sandbox
    Doctor(doctor::DoctorArgs),
    /// Measure this machine
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Run functions for the worker that started this process
    #[command(hide = true)]
    Exec,
    /// Run the sections of a rule set for the process that started this one
    #[command(hide = true)]
    RulesExec,
    /// Lock a user's program in and start it, for the worker that started this process
    #[command(hide = true)]
    Launch,
}

impl Command {
    /// True for what serves until it is told to stop.
    pub fn is_a_role(&self) -> bool {
        match self {
            Command::Server(_) | Command::Up(_) => true,
            Command::Worker(worker) => worker.is_the_role(),
            _ => false,
        }
    }
}

/// Where the server is.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArg {
    /// The server to ask
    #[arg(long, global = true, env = "SPOOL_SERVER", value_name = "URL", default_value = DEFAULT_URL)]
    pub server: String,
}

/// How far executors are locked in.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct SandboxArg {
    /// How executors are locked in: fully, or the worker does not start; as far as this kernel can; not at all
    #[arg(long = "sandbox", env = "SPOOL_SANDBOX", value_name = "MODE", default_value = "best-effort", value_parser = sandbox())]
    pub mode: Sandbox,
}

fn sandbox() -> impl TypedValueParser<Value = Sandbox> {
    PossibleValuesParser::new(["require", "best-effort", "off"]).try_map(|name| name.parse::<Sandbox>())
}

pub const DEFAULT_URL: &str = "http://127.0.0.1:7400";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn commands_and_their_options_do_not_clash() {
        Cli::command().debug_assert();
    }
}
