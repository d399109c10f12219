//! `spool quality`: how much one film looks like another. PSNR and SSIM are reckoned in an executor, VMAF by an external scorer
//! where one is found.

mod ask;
mod scorer;
mod text;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use spool_media::quality::report::Side;
use spool_media::quality::{Report, ScoreTable, chart};
use spool_proto::call::{self, Call, Pairing, QualityManifest};
use spool_proto::quality::Metric;
use spool_proto::uri;
use spool_worker::executor::Limits;
use spool_worker::local::{self, LocalOptions};

use crate::cli::SandboxArg;
use crate::exit::{Exit, Stop};
use crate::{output, roles};
use ask::{Least, Streams};
pub use scorer::Scorer;

/// A whole film of the largest kind, decoded twice on a slow machine.
const WITHIN: Duration = Duration::from_secs(48 * 3600);
/// Between two frames.
const NO_PROGRESS: Duration = Duration::from_secs(300);
/// Two decoders of 8K pictures.
const MEMORY_MIB: u64 = 8192;

#[derive(Debug, Args)]
pub struct QualityArgs {
    /// The original
    #[arg(value_name = "REFERENCE")]
    reference: PathBuf,
    /// What was made of it
    #[arg(value_name = "DISTORTED")]
    distorted: PathBuf,
    /// psnr, ssim, vmaf [default: psnr,ssim, and vmaf where a scorer is found]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    metrics: Vec<Metric>,
    /// Stream of both, or REFERENCE:DISTORTED [default: the first video stream]
    #[arg(long, value_name = "N[:N]")]
    stream: Option<Streams>,
    /// Compare only these frames, counted from 0, the last not included: 240..480
    #[arg(long, value_name = "A..B", value_parser = ask::frames)]
    frames: Option<(u64, u64)>,
    /// Compare what both have where one has more frames; else that is an error
    #[arg(long)]
    shortest: bool,
    /// Also tell each chunk's scores: a file of `spool encode --index`
    #[arg(long, value_name = "FILE")]
    chunks: Option<PathBuf>,
    /// Exit with 1 if a score is below: ssim=0.98 (the mean), vmaf.p1=80, psnr.min=30
    #[arg(long = "min", value_name = "METRIC[.WHICH]=SCORE")]
    least: Vec<Least>,
    /// Write the scores of every frame here, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Draw the scores over time here
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Threads to decode with [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: Option<u16>,
    /// Print the summaries as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sandbox: SandboxArg,
}

pub async fn run(args: &QualityArgs) -> anyhow::Result<Exit> {
    let files = [film(&args.reference)?, film(&args.distorted)?];
    let edges = args.chunks.as_deref().map(ask::edges).transpose()?.unwrap_or_default();
    let scorer = scorer(args).await?;
    if let Some(least) = args.least.iter().find(|least| !args.measures(least.metric, scorer.is_some())) {
        let why = format!("--min {least}: {} is not measured; name it in --metrics", least.metric);
        return Err(Stop::usage(why));
    }
    let scratch = tempfile::tempdir()?;
    let (manifest, mut table) = in_process(args, &files, scratch.path()).await?;
    if let Some(scorer) = &scorer {
        let pair = scorer::Pair { files: &files, streams: args.stream, manifest: &manifest };
        let scores = scorer.vmaf(&pair, args.threads(), scratch.path()).await?;
        table.metrics.push(Metric::Vmaf);
        for (frame, vmaf) in table.frames.iter_mut().zip(scores) {
            frame.vmaf = Some(vmaf);
        }
    }
    if !args.metrics.is_empty() {
        table.metrics.retain(|metric| args.metrics.contains(metric));
    }
    let side = |path: &Path, picture| Side { file: path.display().to_string(), picture };
    let reference = side(&args.reference, manifest.reference);
    let distorted = side(&args.distorted, manifest.distorted);
    let mut report = Report::new(reference, distorted, &table, &edges);
    report.scorer = scorer.map(|scorer| scorer.name);
    if let Some(path) = &args.report {
        write(path, |file| report.write(file))?;
    }
    if let Some(path) = &args.svg {
        write(path, |mut file| file.write_all(chart::draw(&report).as_bytes()))?;
    }
    if args.json {
        output::print_json(&report)?
    } else {
        output::print(&text::report(&report))?
    }
    let short: Vec<String> = args.least.iter().filter_map(|least| least.missed(&report.scores)).collect();
    for text in &short {
        eprintln!("spool: {text}");
    }
    Ok(if short.is_empty() { Exit::Done } else { Exit::JobFailed })
}

impl QualityArgs {
    fn measures(&self, metric: Metric, has_scorer: bool) -> bool {
        match metric {
            _ if !self.metrics.is_empty() => self.metrics.contains(&metric),
            Metric::Vmaf => has_scorer,
            Metric::Psnr | Metric::Ssim => true,
        }
    }

    fn threads(&self) -> u16 {
        let cores = || std::thread::available_parallelism().map_or(1, |n| u16::try_from(n.get().min(16)).unwrap_or(1));
        self.threads.unwrap_or_else(cores)
    }
}

/// The scorer, where VMAF is wanted: an error if it was asked for and there is none.
async fn scorer(args: &QualityArgs) -> anyhow::Result<Option<Scorer>> {
    if !args.measures(Metric::Vmaf, true) {
        return Ok(None);
    }
    match Scorer::find().await {
        Ok(scorer) => Ok(Some(scorer)),
        Err(why) if args.metrics.contains(&Metric::Vmaf) => Err(Stop::usage(why)),
        // Whoever named a scorer wants to know.
        Err(why) if scorer::is_named() => {
            eprintln!("warning: no VMAF: {why}");
            Ok(None)
        }
        Err(_) => Ok(None),
    }
}

fn film(path: &Path) -> anyhow::Result<PathBuf> {
    let shown = path.display();
    let file = path.canonicalize().map_err(|e| Stop::usage(format!("{shown}: {e}")))?;
    if file.is_file() { Ok(file) } else { Err(Stop::usage(format!("{shown} is not a file"))) }
}

/// Frames that both films have, paired, and their PSNR and SSIM.
async fn in_process(
    args: &QualityArgs,
    files: &[PathBuf; 2],
    scratch: &Path,
) -> anyhow::Result<(QualityManifest, ScoreTable)> {
    // Always one of the two: it is what pairs the frames, also for VMAF.
    let mut metrics: Vec<Metric> = args.metrics.iter().copied().filter(|metric| *metric != Metric::Vmaf).collect();
    if metrics.is_empty() {
        metrics = if args.metrics.is_empty() { vec![Metric::Psnr, Metric::Ssim] } else { vec![Metric::Psnr] };
    }
    metrics.sort_unstable();
    metrics.dedup();
    let stored = scratch.join("stored");
    std::fs::create_dir(&stored)?;
    let call = Call {
        inputs: files.iter().map(|file| uri::from_path(file)).collect(),
        output_prefix: uri::from_path(&stored) + "/",
        source_version: None,
        args: call::Args::Quality(Box::new(call::QualityArgs {
            metrics,
            pairing: Pairing::Number {
                reference: args.stream.map(|streams| streams.reference),
                distorted: args.stream.map(|streams| streams.distorted),
                frames: args.frames,
                shortest: args.shortest,
            },
            threads: args.threads(),
        })),
    };
    let options = LocalOptions {
        program: roles::program()?,
        args: roles::exec_args(),
        scratch: scratch.to_owned(),
        limits: Limits { timeout: WITHIN, no_progress: NO_PROGRESS, memory_mib: MEMORY_MIB, scratch_mib: 0 },
        sandbox: args.sandbox.mode,
    };
    let shows = io::stderr().is_terminal();
    let tell = move |frames: u64| {
        if shows {
            eprint!("\rframe {frames} ");
        }
    };
    let answer = local::call(options, &call, Arc::new(move |advance| tell(advance.frames))).await;
    if shows {
        eprint!("\r\x1b[K");
    }
    let answer = answer?;
    for warning in &answer.warnings {
        eprintln!("warning: {}", warning.text);
    }
    let call::Value::Quality(manifest) = answer.value else {
        anyhow::bail!("the comparison answered with something else than scores");
    };
    let scores = answer.artifacts.first().context("the comparison left no scores")?;
    let file = File::open(uri::to_path(&scores.uri)?)?;
    Ok((manifest, ScoreTable::read(BufReader::new(file))?))
}

/// Writes a file whole or not at all.
fn write(path: &Path, fill: impl FnOnce(BufWriter<&File>) -> io::Result<()>) -> anyhow::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |error: io::Error| Stop::usage(format!("{}: it cannot be written: {error}", path.display()));
    let file = tempfile::Builder::new().permissions(permissions()).tempfile_in(directory).map_err(failed)?;
    fill(BufWriter::new(file.as_file())).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// As any new file has them, under the user's umask.
fn permissions() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}
