//! `spool text`: the subtitles of a film, or of a subtitle file, as WebVTT or SubRip; made in an executor, as any untrusted file is opened.

mod srt;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use spool_proto::call::{self, Call, MediaFacts, SourceFacts, StreamFacts, TextArgs as Take};
use spool_proto::spec::{AudioCodec, AudioSpec, Container, EncodeSpec, TextCodec, VideoCodec, VideoSpec};
use spool_proto::uri;
use spool_worker::executor::Limits;
use spool_worker::local::{self, LocalOptions};

use crate::cli::SandboxArg;
use crate::exit::{Exit, Stop};
use crate::roles;

/// A film's packets are read to its end, from a slow store too.
const WITHIN: Duration = Duration::from_secs(3600);
const NO_PROGRESS: Duration = Duration::from_secs(300);
const MEMORY_MIB: u64 = 1024;
/// A file with one of these extensions is text itself.
const TEXT_FILES: [&str; 4] = ["srt", "vtt", "ass", "ssa"];

#[derive(Debug, Args)]
pub struct TextArgs {
    /// The film, or a subtitle file (.srt, .vtt, .ass): a path or a URI
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the text goes; .srt is SubRip, all else WebVTT [default: stdout]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// What is written [default: by the extension of OUT, else vtt]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// The subtitle stream, by its number in spool probe [default: the first that is text]
    #[arg(long, value_name = "N")]
    stream: Option<u32>,
    /// Replace a file that exists
    #[arg(short = 'y')]
    overwrite: bool,
    #[command(flatten)]
    sandbox: SandboxArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Vtt,
    Srt,
}

pub async fn run(args: &TextArgs) -> anyhow::Result<Exit> {
    if let Some(output) = args.output.as_deref().filter(|output| output.exists() && !args.overwrite) {
        return Err(Stop::usage(format!("{} exists; -y replaces it, or name another file", output.display())));
    }
    let source = crate::probe::source(&args.file)?;
    let stream = match is_text(&args.file) {
        true if args.stream.is_some() => {
            return Err(Stop::usage(format!("{}: a subtitle file has no streams; drop --stream", args.file.display())));
        }
        true => None,
        false => Some(stream_of(&crate::probe::facts(&args.file, args.sandbox.mode).await?, args)?),
    };
    let scratch = tempfile::tempdir()?;
    let made = tempfile::tempdir()?;
    // The film's clock starts as that of an encode of it does.
    let film = EncodeSpec {
        video: Some(VideoSpec::new(VideoCodec::Libx264)),
        audio: Some(AudioSpec::new(AudioCodec::Aac)),
        ..EncodeSpec::new(source.clone(), "", Container::Mkv)
    };
    let call = Call {
        inputs: vec![source],
        output_prefix: format!("{}/", uri::from_path(made.path())),
        source_version: None,
        args: call::Args::Text(Take { spec: film, stream, jumps: Vec::new(), burn: false }),
    };
    let options = LocalOptions {
        program: roles::program()?,
        args: roles::exec_args(),
        scratch: scratch.path().to_owned(),
        limits: Limits { timeout: WITHIN, no_progress: NO_PROGRESS, memory_mib: MEMORY_MIB, scratch_mib: 0 },
        sandbox: args.sandbox.mode,
    };
    let answer = local::call(options, &call, Arc::new(|_| {})).await?;
    for warning in &answer.warnings {
        eprintln!("warning: {}", warning.text);
    }
    let Some(artifact) = answer.artifacts.first() else { anyhow::bail!("the call answered without a text") };
    let file = fs::read_to_string(uri::to_path(&artifact.uri)?)?;
    let text = if args.format() == Format::Srt { srt::of_webvtt(&file) } else { file };
    match &args.output {
        Some(output) => put(output, &text)?,
        None => crate::output::print(&text)?,
    }
    Ok(Exit::Done)
}

impl TextArgs {
    fn format(&self) -> Format {
        let named = self.output.as_deref().and_then(extension);
        self.format.unwrap_or(if named.as_deref() == Some("srt") { Format::Srt } else { Format::Vtt })
    }
}

fn extension(file: &Path) -> Option<String> {
    Some(file.extension()?.to_str()?.to_ascii_lowercase())
}

fn is_text(file: &Path) -> bool {
    extension(file).is_some_and(|extension| TEXT_FILES.contains(&&*extension))
}

/// Whole or not at all.
fn put(output: &Path, text: &str) -> anyhow::Result<()> {
    let unusable = |e: std::io::Error| Stop::usage(format!("{}: {e}", output.display()));
    let folder = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As any file of the user's: what the umask leaves of it.
    let readable = fs::Permissions::from_mode(0o666);
    let mut file =
        tempfile::Builder::new().prefix(".spool-text-").permissions(readable).tempfile_in(folder).map_err(unusable)?;
    file.write_all(text.as_bytes()).map_err(unusable)?;
    file.persist(output).map_err(|e| unusable(e.error))?;
    Ok(())
}

/// The stream that was asked for, else the first one of text.
fn stream_of(facts: &SourceFacts, args: &TextArgs) -> anyhow::Result<u32> {
    let subtitles: Vec<&StreamFacts> =
        facts.streams.iter().filter(|stream| matches!(stream.media, MediaFacts::Subtitle)).collect();
    let found = match args.stream {
        Some(number) => subtitles.iter().find(|stream| stream.index == number),
        None => subtitles.iter().find(|stream| TextCodec::like(&stream.codec).is_some()).or(subtitles.first()),
    };
    let listed: Vec<String> = subtitles
        .iter()
        .map(|stream| {
            let language = stream.language.as_ref().map(|language| format!(", {language}")).unwrap_or_default();
            format!("stream {} ({}{language})", stream.index, stream.codec)
        })
        .collect();
    let listed = if listed.is_empty() { "none".into() } else { listed.join(", ") };
    let asked = args.stream.map_or("no subtitles".into(), |number| format!("no subtitles in stream {number}"));
    let missing = || Stop::usage(format!("{}: {asked}; there are: {listed}", args.file.display()));
    found.map(|stream| stream.index).ok_or_else(missing)
}
