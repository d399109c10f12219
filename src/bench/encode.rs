//! `spool bench encode`: the same film, codec, quality and preset, by Spool and by the installed ffmpeg, in turns.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use spool_proto::spec::{VideoCodec, parse};
use spool_proto::time::Span;
use spool_proto::view::JobView;
use tokio::process::Command;

use super::median;
use crate::exit::Stop;
use crate::{output, roles};

#[derive(Debug, Args)]
pub struct EncodeBenchArgs {
    /// The film
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Video encoder
    #[arg(long = "c:v", value_name = "ENCODER", default_value = "libx264")]
    codec: VideoCodec,
    /// Constant quality
    #[arg(long, value_name = "N", default_value = "23")]
    crf: String,
    /// Preset [default: the encoder's own]
    #[arg(long, value_name = "PRESET")]
    preset: Option<String>,
    /// Length chunks should be near
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    chunk: Option<Span>,
    /// How often each encodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Do not compare pictures
    #[arg(long)]
    no_ssim: bool,
    /// Figures as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Figures {
    film: String,
    codec: VideoCodec,
    crf: String,
    preset: Option<String>,
    cores: usize,
    spool: Side,
    ffmpeg: Side,
    /// Spool's median wall time over ffmpeg's.
    time_ratio: f64,
    /// Spool's bytes over ffmpeg's.
    size_ratio: f64,
    chunks: usize,
    /// Median share of Spool's wall time, by phase; what is left is start and end of the process.
    phases: Vec<PhaseShare>,
}

#[derive(Debug, Serialize)]
struct Side {
    seconds: Vec<f64>,
    median_seconds: f64,
    bytes: u64,
    /// Against the source; 1 is equal.
    ssim: Option<f64>,
}

#[derive(Debug, Serialize)]
struct PhaseShare {
    phase: String,
    seconds: f64,
    percent: f64,
}

pub async fn run(args: &EncodeBenchArgs) -> anyhow::Result<()> {
    let source = args.file.canonicalize().map_err(|e| Stop::usage(format!("{}: {e}", args.file.display())))?;
    let scratch = tempfile::tempdir()?;
    let bench = Bench {
        args,
        by_spool: scratch.path().join("spool.mp4"),
        by_ffmpeg: scratch.path().join("ffmpeg.mp4"),
        data: scratch.path().join("data"),
        source,
    };
    let (mut spool, mut ffmpeg, mut jobs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        let (seconds, job) = bench.spool().await?;
        eprintln!("round {round}/{}: spool  {seconds:.2} s", args.rounds);
        spool.push(seconds);
        jobs.push(job);
        let seconds = bench.ffmpeg().await?;
        eprintln!("round {round}/{}: ffmpeg {seconds:.2} s", args.rounds);
        ffmpeg.push(seconds);
    }
    let side = async |film: &Path, seconds: Vec<f64>| -> anyhow::Result<Side> {
        let ssim = if args.no_ssim { None } else { Some(bench.ssim(film).await?) };
        let bytes = std::fs::metadata(film)?.len();
        Ok(Side { median_seconds: median(seconds.clone()), seconds, bytes, ssim })
    };
    let phases = phase_shares(&jobs, &spool);
    let spool = side(&bench.by_spool, spool).await?;
    let ffmpeg = side(&bench.by_ffmpeg, ffmpeg).await?;
    let figures = Figures {
        film: args.file.display().to_string(),
        codec: args.codec,
        crf: args.crf.clone(),
        preset: args.preset.clone(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        time_ratio: spool.median_seconds / ffmpeg.median_seconds,
        size_ratio: ratio(spool.bytes, ffmpeg.bytes),
        chunks: jobs.last().and_then(chunks).unwrap_or(0),
        spool,
        ffmpeg,
        phases,
    };
    if args.json { output::print_json(&figures) } else { output::print(&text(&figures)) }
}

struct Bench<'a> {
    args: &'a EncodeBenchArgs,
    source: PathBuf,
    by_spool: PathBuf,
    by_ffmpeg: PathBuf,
    data: PathBuf,
}

impl Bench<'_> {
    /// Options both take.
    fn options(&self) -> Vec<String> {
        let mut options: Vec<String> =
            ["-c:v", self.args.codec.name(), "-crf", &self.args.crf].map(String::from).into();
        if let Some(preset) = &self.args.preset {
            options.extend(["-preset".into(), preset.clone()]);
        }
        options.extend(["-c:a", "aac", "-b:a", "128k", "-sn"].map(String::from));
        options
    }

    async fn spool(&self) -> anyhow::Result<(f64, JobView)> {
        let mut command = Command::new(roles::program()?);
        command.arg("encode").arg(&self.source).arg("-o").arg(&self.by_spool).args(self.options());
        command.args(["-y", "--json", "--progress", "none", "--data"]).arg(&self.data).env_remove("SPOOL_SERVER");
        if let Some(chunk) = self.args.chunk {
            command.arg("--chunk").arg(parse::time_text(chunk));
        }
        let (seconds, out) = timed(command).await?;
        Ok((seconds, serde_json::from_slice(&out).context("the job that spool encode --json printed")?))
    }

    async fn ffmpeg(&self) -> anyhow::Result<f64> {
        let mut command = ffmpeg();
        command.args(["-y", "-v", "error", "-i"]).arg(&self.source).args(self.options());
        if self.args.codec == VideoCodec::LibvpxVp9 {
            // ffmpeg's own default is a bit rate; Spool's is constant quality.
            command.args(["-b:v", "0"]);
        }
        command.args(["-movflags", "+faststart"]).arg(&self.by_ffmpeg);
        Ok(timed(command).await?.0)
    }

    /// Structural similarity of `film` to the source, frame by frame in order.
    async fn ssim(&self, film: &Path) -> anyhow::Result<f64> {
        let chain = "[0:v]settb=1/25,setpts=N[a];[1:v]settb=1/25,setpts=N[b];[a][b]ssim";
        let mut command = ffmpeg();
        command
            .arg("-i")
            .arg(film)
            .arg("-i")
            .arg(&self.source)
            .args(["-lavfi", chain, "-an", "-sn", "-f", "null", "-"]);
        let done = command.output().await.context("ffmpeg could not be started")?;
        let said = String::from_utf8_lossy(&done.stderr);
        ssim_of(&said).with_context(|| format!("ffmpeg told no SSIM of {}: {}", film.display(), tail(&said)))
    }
}

fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin"]);
    command
}

/// The `All:` figure of the ssim filter's last line.
fn ssim_of(said: &str) -> Option<f64> {
    let line = said.lines().rev().find(|line| line.contains("SSIM"))?;
    line.split_whitespace().find_map(|word| word.strip_prefix("All:"))?.parse().ok()
}

/// Wall seconds and stdout.
async fn timed(mut command: Command) -> anyhow::Result<(f64, Vec<u8>)> {
    command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let start = Instant::now();
    let done = command.output().await.with_context(|| format!("{program} could not be started; is it installed?"))?;
    let seconds = start.elapsed().as_secs_f64();
    if !done.status.success() {
        bail!("{program} ended with {}: {}", done.status, tail(&String::from_utf8_lossy(&done.stderr)));
    }
    Ok((seconds, done.stdout))
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("; ")
}

#[expect(clippy::cast_precision_loss, reason = "file sizes are below 2^53")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b.max(1) as f64
}

fn chunks(job: &JobView) -> Option<usize> {
    Some(job.output.as_ref()?.get("chunks")?.as_array()?.len())
}

/// Medians over the rounds, in the order phases ran.
fn phase_shares(jobs: &[JobView], walls: &[f64]) -> Vec<PhaseShare> {
    let wall = median(walls.to_vec());
    let names = jobs.first().map(|job| job.phases.iter().map(|phase| phase.name.clone()).collect::<Vec<_>>());
    let mut shares: Vec<PhaseShare> = names
        .unwrap_or_default()
        .into_iter()
        .map(|name| {
            let of_job = |job: &JobView| {
                let phase = job.phases.iter().find(|phase| phase.name == name)?;
                Some(phase.finished?.since(phase.started).as_secs_f64())
            };
            let seconds = median(jobs.iter().filter_map(of_job).collect());
            PhaseShare { phase: name, seconds, percent: 100.0 * seconds / wall }
        })
        .collect();
    let rest = wall - shares.iter().map(|share| share.seconds).sum::<f64>();
    shares.push(PhaseShare { phase: "start and end".into(), seconds: rest, percent: 100.0 * rest / wall });
    shares
}

fn text(figures: &Figures) -> String {
    let row = |name: &str, side: &Side| {
        let each: Vec<String> = side.seconds.iter().map(|seconds| format!("{seconds:.2}")).collect();
        vec![
            name.into(),
            format!("{:.2} s", side.median_seconds),
            each.join(" "),
            side.bytes.to_string(),
            side.ssim.map_or_else(|| "-".into(), |ssim| format!("{ssim:.5}")),
        ]
    };
    let preset = figures.preset.as_deref().unwrap_or("default");
    let mut text = format!(
        "{}: {} -crf {} -preset {preset}, {} cores, {} chunks\n\n",
        figures.film, figures.codec, figures.crf, figures.cores, figures.chunks
    );
    let rows = [row("spool", &figures.spool), row("ffmpeg", &figures.ffmpeg)];
    text.push_str(&output::table(&["", "MEDIAN", "EACH", "BYTES", "SSIM"], &rows, true));
    text.push_str(&format!("\nspool / ffmpeg: time {:.3}, size {:.4}\n\n", figures.time_ratio, figures.size_ratio));
    let rows: Vec<Vec<String>> = figures
        .phases
        .iter()
        .map(|share| vec![share.phase.clone(), format!("{:.2} s", share.seconds), format!("{:.1} %", share.percent)])
        .collect();
    text.push_str(&output::table(&["PHASE", "TIME", "SHARE"], &rows, true));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssim_is_read_from_what_ffmpeg_says() {
        let said =
            "frame= 12\n[Parsed_ssim_4 @ 0x1] SSIM Y:0.98 (17.0) U:0.99 (20.0) V:0.99 (20.1) All:0.985123 (18.2)\n";
        assert_eq!(ssim_of(said), Some(0.985_123));
        assert_eq!(ssim_of("frame= 12\n"), None);
    }
}
