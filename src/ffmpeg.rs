//! `spool ffmpeg …`, and this program called by the name of `ffmpeg`: a front end that takes ffmpeg's command line, runs what it models
//! with the run code of `spool encode`, and becomes the local ffmpeg for all else.
//!
//! Reading order: [`line`] (a command line as ffmpeg reads it), [`decide`] (what becomes of it, and why), [`status`] (progress as
//! ffmpeg tells it), [`local`] (the ffmpeg that stands behind), [`explain`] (`--explain`), then this file.

mod decide;
mod explain;
mod line;
mod local;
pub mod status;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use clap::{Args, CommandFactory};
use spool_proto::call::SourceFacts;

use crate::cli::Cli;
use crate::encode;
use crate::encode::request::Request;
use crate::exit::{self, Exit};
use crate::logging::{self, LogFormat};
use crate::probe;
use crate::run::folder::Folder;
use decide::{Decision, Job, Way};
use explain::Explain;
use line::{ERROR, FATAL, INFO, Terminal, WARNING};
use status::Status;

/// What follows is ffmpeg's, word for word; `--explain` alone is Spool's.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    override_usage = "spool ffmpeg [--explain[=json]] FFMPEG-OPTIONS…",
    after_help = "--explain tells what would be done and why, and runs nothing; --explain=json tells it as JSON.\n\
    SPOOL_SERVER names a server that encodes, SPOOL_FFMPEG the local ffmpeg, SPOOL_FFMPEG_MODE the most that Spool does: split\n\
    (default), whole, local. docs/ffmpeg.md says what is modelled."
)]
pub struct FfmpegArgs {
    /// As ffmpeg takes them
    #[arg(value_name = "FFMPEG-OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<OsString>,
}

/// The words behind the program's name where that name is ffmpeg's. Executors of a worker that has this name are called with
/// `exec` alone, which means nothing to ffmpeg.
pub fn called_as_ffmpeg(mut args: impl Iterator<Item = OsString>) -> Option<Vec<OsString>> {
    let program = args.next()?;
    let words: Vec<OsString> = args.collect();
    (local::is_its_name(&program) && words != ["exec"]).then_some(words)
}

/// Runs one command line to its end.
pub fn main(words: &[OsString]) -> ExitCode {
    let (explain, words) = Explain::take(words);
    if words == ["--help"] {
        let _ = Cli::command().find_subcommand_mut("ffmpeg").map(clap::Command::print_help);
        return ExitCode::SUCCESS;
    }
    let most = match most() {
        Ok(most) => most,
        Err(reason) => return refused(&reason),
    };
    let decision = decide::decide(&words, None, most);
    let Some(job) = &decision.job else {
        return match explain {
            Some(how) => explain::tell(how, &decision, None),
            None => refused(&local::become_it(&words)),
        };
    };
    logging::start_at(
        LogFormat::Text,
        match job.terminal.level {
            WARNING.. => "warn",
            ERROR.. => "error",
            _ => "off",
        },
    );
    // The source may have what the line alone does not tell. One that cannot be looked at is ffmpeg's to judge.
    let input = Path::new(&job.input);
    let mut facts = None;
    let decision = match fs::File::open(input).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_file() => {
            match crate::block_on(probe::facts(input, job.args.spool.run.sandbox.mode)) {
                Ok(found) => {
                    let decision = decide::decide(&words, Some(&found), most);
                    facts = Some(found);
                    decision
                }
                Err(error) => {
                    let reason = format!("{}: {}", input.display(), exit::text_of_error(&error));
                    Decision { way: Way::Local, reasons: vec![reason], job: None }
                }
            }
        }
        Ok(_) if explain.is_none() => return fails(&job.terminal, &format!("{}: Is a directory", input.display())),
        Err(error) if explain.is_none() => {
            return fails(&job.terminal, &format!("{}: {}", input.display(), reason(&error)));
        }
        _ => decision,
    };
    match (explain, decision.job, facts) {
        (Some(how), job, facts) => explain::tell(how, &Decision { job, ..decision }, facts.as_ref()),
        (None, Some(job), Some(facts)) => run(job, &facts),
        (None, ..) => refused(&local::become_it(&words)),
    }
}

fn most() -> Result<Way, String> {
    match env::var("SPOOL_FFMPEG_MODE").as_deref() {
        Err(env::VarError::NotPresent) | Ok("" | "split") => Ok(Way::Split),
        Ok("whole") => Ok(Way::Whole),
        Ok("local") => Ok(Way::Local),
        _ => Err("SPOOL_FFMPEG_MODE is none of split, whole, local".into()),
    }
}

/// Lets Spool encode. ffmpeg's exit codes: 0, 1, and 255 when interrupted.
fn run(mut job: Job, source: &SourceFacts) -> ExitCode {
    let shown = job.output.to_string_lossy().into_owned();
    banner(&job, source, &shown);
    if let Err(end) = settle_output(&mut job, &shown) {
        return end;
    }
    let terminal = job.terminal.clone();
    match crate::block_on(work(job, shown)) {
        Ok(Exit::Done) => ExitCode::SUCCESS,
        Ok(Exit::Detached) => {
            log(&terminal, INFO, "Exiting normally, received signal 2.");
            ExitCode::from(255)
        }
        Ok(_) => ExitCode::from(1),
        Err(error) => fails(&terminal, &exit::text_of_error(&error)),
    }
}

async fn work(job: Job, shown: String) -> anyhow::Result<Exit> {
    let request = Request::of(&job.args)?;
    let how = &job.args.spool.run;
    let has_video = !job.words.iter().any(|word| word == "--vn");
    let status = Status::open(job.terminal, shown, has_video).map_err(anyhow::Error::msg)?;
    let run = encode::run_of(&request, Some(status));
    match how.server(None)? {
        Some(url) => run.through_server(url, how).await,
        None => {
            let root = how.root()?;
            request.check_writable()?;
            tracing::debug!(folder = %Folder::of(&root, &request.hash).path.display(), "the run's folder");
            run.here(&root, how).await
        }
    }
}

/// What ffmpeg says of its files before it begins, as far as others read it: programs take the length from here.
fn banner(job: &Job, source: &SourceFacts, shown: &str) {
    let length = source.duration_us.and_then(|us| u64::try_from(us).ok()).map_or("N/A".into(), |us| {
        let seconds = us / 1_000_000;
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        format!("{hours:02}:{minutes:02}:{:02}.{:02}", seconds % 60, us / 10_000 % 100)
    });
    let start = source.start_us.unwrap_or(0);
    let start =
        format!("{}{}.{:06}", if start < 0 { "-" } else { "" }, start.abs() / 1_000_000, start.abs() % 1_000_000);
    let rate = source.bit_rate_bps.map_or("N/A".into(), |bps| format!("{} kb/s", bps / 1000));
    let input = job.input.display();
    log(&job.terminal, INFO, &format!("Input #0, {}, from '{input}':", source.format));
    log(&job.terminal, INFO, &format!("  Duration: {length}, start: {start}, bitrate: {rate}"));
    log(&job.terminal, INFO, &format!("Output #0, {}, to '{shown}':", job.container));
}

/// Whether the output may be written, asked as ffmpeg asks.
fn settle_output(job: &mut Job, shown: &str) -> Result<(), ExitCode> {
    let terminal = &job.terminal;
    let output = PathBuf::from(&job.output);
    if terminal.overwrite && terminal.never_overwrite {
        eprintln!("Error, both -y and -n supplied. Exiting.");
        return Err(ExitCode::from(1));
    }
    if output.exists() && !terminal.overwrite {
        if terminal.never_overwrite || !terminal.stdin {
            log(terminal, FATAL, &format!("File '{shown}' already exists. Exiting."));
            return Err(ExitCode::from(1));
        }
        eprint!("File '{shown}' already exists. Overwrite? [y/N] ");
        let _ = io::stderr().flush();
        let mut answer = String::new();
        let _ = io::stdin().lock().read_line(&mut answer);
        if !answer.starts_with(['y', 'Y']) {
            log(terminal, FATAL, "Not overwriting - exiting");
            return Err(ExitCode::from(1));
        }
    }
    job.args.overwrite = terminal.overwrite || output.exists();
    if matches!((output.canonicalize(), Path::new(&job.input).canonicalize()), (Ok(one), Ok(other)) if one == other) {
        log(terminal, FATAL, &format!("Output {shown} same as Input #0 - exiting"));
        return Err(fails(terminal, "FFmpeg cannot edit existing files in-place."));
    }
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::metadata(folder) {
        Ok(_) => Ok(()),
        Err(error) => Err(fails(terminal, &format!("{shown}: {}", reason(&error)))),
    }
}

/// Writes what ffmpeg would log at this level.
fn log(terminal: &Terminal, level: i32, text: &str) {
    if level <= terminal.level {
        // Nobody may be reading any more.
        let _ = writeln!(io::stderr(), "{text}");
    }
}

fn fails(terminal: &Terminal, text: &str) -> ExitCode {
    log(terminal, ERROR, text);
    ExitCode::from(1)
}

/// Said whatever the log level: it is not about the film.
fn refused(text: &str) -> ExitCode {
    eprintln!("spool ffmpeg: {text}");
    ExitCode::from(1)
}

/// The system's text, as ffmpeg prints it.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
