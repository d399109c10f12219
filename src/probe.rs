//! `spool probe`: what is in a file, found out in an executor, as any untrusted file is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use spool_proto::call::{
    self, Answer, AudioFacts, Call, MediaFacts, ProbeArgs as Look, SourceFacts, StreamFacts, VideoFacts,
};
use spool_proto::time::Span;
use spool_proto::uri::{self, Location};
use spool_worker::executor::{Limits, Sandbox};
use spool_worker::local::{self, LocalOptions};

use crate::cli::SandboxArg;
use crate::exit::{Exit, Stop};
use crate::output;
use crate::roles;

/// Looking at a file takes milliseconds; a broken one may make libav search it whole.
const WITHIN: Duration = Duration::from_secs(60);
const MEMORY_MIB: u64 = 1024;

#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// The file to look at: a path, https://…, or s3://bucket/key
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Look for black bars: a few pictures from all over the film are decoded
    #[arg(long)]
    crop: bool,
    /// Print all that is known, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sandbox: SandboxArg,
}

pub async fn run(args: &ProbeArgs) -> anyhow::Result<Exit> {
    let answer = look(&args.file, args.crop, args.sandbox.mode).await?;
    for warning in &answer.warnings {
        eprintln!("warning: {}", warning.text);
    }
    let facts = facts_of(answer)?;
    if args.json {
        output::print_json(&facts)?
    } else {
        output::print(&text(&facts))?;
        if args.crop {
            output::print(&crop_text(&facts))?;
        }
    }
    Ok(Exit::Done)
}

/// What is in a file, found out in an executor.
pub async fn facts(file: &Path, sandbox: Sandbox) -> anyhow::Result<SourceFacts> {
    facts_of(look(file, false, sandbox).await?)
}

fn facts_of(answer: Answer) -> anyhow::Result<SourceFacts> {
    match answer.value {
        call::Value::Probe(facts) => Ok(*facts),
        _ => anyhow::bail!("the probe answered with something else than facts"),
    }
}

async fn look(file: &Path, crop_bars: bool, sandbox: Sandbox) -> anyhow::Result<Answer> {
    let source = source(file)?;
    let scratch = tempfile::tempdir()?;
    let call = Call {
        inputs: vec![source],
        output_prefix: String::new(),
        source_version: None,
        args: call::Args::Probe(Look { index_for: None, crop_bars }),
    };
    let options = LocalOptions {
        program: roles::program()?,
        args: roles::exec_args(),
        scratch: scratch.path().to_owned(),
        limits: Limits { timeout: WITHIN, no_progress: WITHIN, memory_mib: MEMORY_MIB, scratch_mib: 0 },
        sandbox,
    };
    Ok(local::call(options, &call, Arc::new(|_| {})).await?)
}

/// The file's URI.
pub fn source(named: &Path) -> anyhow::Result<String> {
    let path = match named.to_str().filter(|text| text.contains("://")) {
        None => named.to_owned(),
        Some(text) => match Location::parse(text).map_err(|error| Stop::usage(error.to_string()))? {
            Location::File(path) => path,
            _ => return Ok(text.to_owned()),
        },
    };
    let shown = path.display();
    let file = path.canonicalize().map_err(|e| Stop::usage(format!("{shown}: {e}")))?;
    if !file.is_file() {
        return Err(Stop::usage(format!("{shown} is not a file")));
    }
    Ok(uri::from_path(&file))
}

fn text(facts: &SourceFacts) -> String {
    let mut parts = vec![facts.format.clone(), output::bytes(facts.bytes)];
    let length = facts.duration_us.and_then(|us| u64::try_from(us).ok());
    parts.extend(length.map(|us| output::span(Span(us))));
    parts.extend(facts.bit_rate_bps.map(|bps| format!("{} kb/s", bps / 1000)));
    let mut text = parts.join(", ") + "\n";
    for stream in &facts.streams {
        text.push_str(&format!("  0:{} {}\n", stream.index, stream_text(stream)));
    }
    for (number, chapter) in facts.chapters.iter().enumerate() {
        let seconds = |us: i64| format!("{}.{:03}", us / 1_000_000, us % 1_000_000 / 1000);
        text.push_str(&format!(
            "  chapter {} {}–{} {}\n",
            number + 1,
            seconds(chapter.start_us),
            seconds(chapter.end_us),
            chapter.title
        ));
    }
    text
}

/// What `--crop` found, as options to be copied.
fn crop_text(facts: &SourceFacts) -> String {
    let mut text = String::new();
    for stream in &facts.streams {
        let MediaFacts::Video(video) = &stream.media else { continue };
        match video.crop {
            Some(crop) => {
                let call::CropFacts { width, height, x, y } = crop;
                text.push_str(&format!("  0:{} black bars: --crop {width}:{height}:{x}:{y}\n", stream.index));
            }
            None if !video.attached_picture => text.push_str(&format!("  0:{} no black bars\n", stream.index)),
            None => {}
        }
    }
    text
}

fn stream_text(stream: &StreamFacts) -> String {
    let mut parts = match &stream.media {
        MediaFacts::Video(video) => video_text(stream, video),
        MediaFacts::Audio(AudioFacts { sample_rate_hz, layout, .. }) => {
            vec![format!("audio {}", stream.codec), format!("{sample_rate_hz} Hz"), layout.clone()]
        }
        MediaFacts::Subtitle => vec![format!("subtitle {}", stream.codec)],
        MediaFacts::Data => vec![format!("data {}", stream.codec)],
        MediaFacts::Attachment => vec![format!("attachment {}", stream.codec)],
    };
    parts.extend(stream.bit_rate_bps.map(|bps| format!("{} kb/s", bps / 1000)));
    parts.extend(stream.language.clone());
    parts.extend(stream.title.as_ref().map(|title| format!("{title:?}")));
    parts.extend(stream.disposition.iter().map(|name| format!("[{name}]")));
    parts.join(", ")
}

fn video_text(stream: &StreamFacts, video: &VideoFacts) -> Vec<String> {
    let kind = if video.attached_picture { "picture" } else { "video" };
    let mut parts = vec![format!("{kind} {}", stream.codec), format!("{}x{}", video.width, video.height)];
    parts.extend(video.pix_fmt.clone());
    parts.extend(video.frame_rate.map(|rate| format!("{:.3} fps", rate.as_f64())));
    let aspect = video.sample_aspect_ratio;
    if aspect.num > 0 && aspect.num != aspect.den {
        parts.push(format!("pixels {}:{}", aspect.num, aspect.den));
    }
    if video.rotation != 0 {
        parts.push(format!("turned {}°", video.rotation));
    }
    let interlaced = video.field_order.clone().filter(|order| order != "progressive" && order != "unknown");
    parts.extend(interlaced.map(|order| format!("interlaced {order}")));
    let color = [&video.color_range, &video.color_primaries, &video.color_transfer, &video.color_space];
    let color: Vec<&str> = color.into_iter().flatten().map(String::as_str).filter(|name| *name != "unknown").collect();
    if !color.is_empty() {
        parts.push(color.join("/"));
    }
    parts
}
