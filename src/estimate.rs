//! `spool estimate`: what a job would take, measured: samples of its source are encoded as the job says, here, and what they took
//! and gave is taken for the whole.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use spool_proto::call::{Answer, Value, function};
use spool_proto::failure::Failure;
use spool_proto::spec::{Clip, JobSpec, Service, Trim, clip};
use spool_proto::time::Span;
use spool_proto::uri;
use spool_proto::view::{JobState, JobView, TaskView, TitleOutput};

use crate::cli::SandboxArg;
use crate::client::Client;
use crate::exit::{Exit, Stop};
use crate::output;
use crate::quantity;
use crate::roles::{Embedded, WorkerTerms};
use crate::submit::{JobArgs, Prepared};

#[derive(Debug, Args)]
pub struct EstimateArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Samples that are encoded, spread over the film
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    samples: u32,
    /// Length of each
    #[arg(long, value_name = "TIME", default_value = "4s", value_parser = quantity::span)]
    sample: Span,
    /// Cores the job would have [default: this machine's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    cores: Option<u32>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sandbox: SandboxArg,
}

/// What the samples took and gave, for the whole.
#[derive(Debug, PartialEq, Serialize)]
struct Estimate {
    /// Of the output.
    duration_us: u64,
    /// From submission to done, with `cores` for this job alone.
    time_us: u64,
    cores: u32,
    core_hours: f64,
    bytes: u64,
    /// Part of the film that was encoded to know it.
    sampled: f64,
    tracks: Vec<TrackEstimate>,
}

#[derive(Debug, PartialEq, Serialize)]
struct TrackEstimate {
    name: String,
    bytes: u64,
    core_hours: f64,
}

pub async fn run(args: &EstimateArgs) -> anyhow::Result<Exit> {
    let folder = tempfile::tempdir()?;
    let prepared = Prepared::of(&args.job, Some(folder.path()))?;
    let terms = WorkerTerms::new(None, prepared.backends(), args.sandbox.mode);
    let embedded = Embedded::start(&folder.path().join("run"), terms).await?;
    let measured = tokio::select! {
        measured = measure(embedded.client(), &prepared.job, args, folder.path()) => measured,
        reason = embedded.stuck() => Err(reason.into()),
        _ = tokio::signal::ctrl_c() => Err(Stop::with(Exit::Detached, "stopped")),
    };
    embedded.stop().await;
    let measured = measured?;
    let cores = match args.cores {
        Some(cores) => cores,
        None => std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
    };
    let estimate = measured.whole(cores);
    match args.json {
        true => output::print_json(&estimate)?,
        false => output::print(&text(&estimate))?,
    }
    Ok(Exit::Done)
}

/// Sums over the samples.
#[derive(Debug, Default)]
struct Measured {
    /// Of the film.
    duration_us: u64,
    sampled_us: u64,
    tracks: BTreeMap<String, Took>,
    /// Encoding aside: reading, joining, checking.
    rest: Duration,
}

#[derive(Debug, Default, Clone, Copy)]
struct Took {
    work: Duration,
    bytes: u64,
}

async fn measure(client: &Client, job: &JobSpec, args: &EstimateArgs, folder: &Path) -> anyhow::Result<Measured> {
    let mut measured = Measured::default();
    // The first sample tells how long the source is.
    let first = sample(client, job, folder, 0, asked(job), args.sample).await?;
    let length = film_length(&first, job);
    measured.duration_us = length.0;
    measured.add(&first)?;
    let wanted = u64::from(args.samples) * args.sample.0;
    if length.0 > wanted {
        for number in 1..args.samples {
            let at = Span(length.0 * u64::from(number) / u64::from(args.samples));
            let job = sample(
                client,
                job,
                folder,
                number,
                Trim { start: plus(asked(job).start, at), ..asked(job) },
                args.sample,
            );
            measured.add(&job.await?)?;
        }
    }
    Ok(measured)
}

fn plus(start: Option<Span>, by: Span) -> Option<Span> {
    Some(Span(start.unwrap_or(Span::ZERO).0 + by.0))
}

fn asked(job: &JobSpec) -> Trim {
    match &job.service {
        Service::VideoEncode(spec) => spec.trim,
        Service::Title(spec) => spec.trim,
        Service::Rules(_) | Service::Function(_) | Service::Bench(_) => Trim::default(),
    }
}

/// Encodes one sample; its job when done.
async fn sample(
    client: &Client,
    job: &JobSpec,
    folder: &Path,
    number: u32,
    trim: Trim,
    length: Span,
) -> anyhow::Result<JobView> {
    let mut job = job.clone();
    let at = Span(trim.start.unwrap_or(Span::ZERO).0);
    let trim = Trim { duration: Some(trim.duration.map_or(length, |asked| asked.min(length))), ..trim };
    let place = folder.join(format!("sample-{number}"));
    match &mut job.service {
        Service::VideoEncode(spec) => {
            std::fs::create_dir_all(&place)?;
            if spec.clips.is_empty() {
                spec.trim = trim;
            } else {
                spec.clips = clip::part(&spec.clips, at, length);
            }
            spec.output = uri::from_path(&place.join(format!("film.{}", spec.container)));
            (spec.index, spec.quality) = (None, None);
        }
        Service::Title(spec) => {
            spec.trim = trim;
            spec.output = uri::prefix_from_path(&place);
        }
        Service::Rules(_) | Service::Function(_) | Service::Bench(_) => {}
    }
    let (id, _) = client.submit("", &job).await?;
    let mut watch = client.watch(&id).await?;
    while let Some(view) = watch.next().await? {
        if view.state.is_final() {
            break;
        }
    }
    let view = client.get(&id, false).await?;
    match (view.state, &view.failure) {
        (JobState::Done, _) => Ok(view),
        (_, Some(failure)) => Err(Failure::clone(failure).into()),
        (state, None) => anyhow::bail!("the sample ended {}", state.name()),
    }
}

/// What the job's output would last: as asked for, and no longer than the source.
fn film_length(sample: &JobView, job: &JobSpec) -> Span {
    let facts = sample.tasks.iter().find(|task| task.function == function::PROBE).and_then(answer);
    let source = match facts.map(|answer| answer.value) {
        Some(Value::Probe(facts)) => facts.duration_us.and_then(|us| u64::try_from(us).ok()).unwrap_or(0),
        _ => 0,
    };
    if let Service::VideoEncode(spec) = &job.service
        && !spec.clips.is_empty()
    {
        let length = |clip: &Clip| {
            let start = clip.start.map_or(0, |start| start.0);
            clip.end.map_or(source, |end| end.0.min(source)).saturating_sub(start)
        };
        return Span(spec.clips.iter().map(length).sum());
    }
    let trim = asked(job);
    let left = source.saturating_sub(trim.start.map_or(0, |start| start.0));
    Span(trim.duration.map_or(left, |duration| duration.0.min(left.max(1))))
}

fn answer(task: &TaskView) -> Option<Answer> {
    serde_json::from_value(task.answer.clone()?).ok()
}

impl Measured {
    fn add(&mut self, job: &JobView) -> anyhow::Result<()> {
        let title: Option<TitleOutput> = job.output.clone().and_then(|output| serde_json::from_value(output).ok());
        let length = job.output.as_ref().and_then(|output| output["duration_us"].as_u64()).unwrap_or(0);
        self.sampled_us += length;
        for task in &job.tasks {
            let took = match (task.started, task.finished) {
                (Some(from), Some(to)) => Duration::from_micros(to.since(from).0),
                _ => Duration::ZERO,
            };
            let cores = u32::try_from((task.resources.cpu / 1000).max(1)).unwrap_or(1);
            let coded = matches!(task.function.as_str(), function::ENCODE | function::AUDIO);
            match answer(task).map(|answer| answer.value) {
                Some(Value::Track(piece)) if coded => {
                    let track = self.tracks.entry(track_name(task, title.is_some())).or_default();
                    track.work += took * cores;
                    track.bytes += piece.bytes;
                }
                _ => self.rest += took * cores,
            }
        }
        if length == 0 {
            anyhow::bail!("the sample came out empty; see spool probe");
        }
        Ok(())
    }

    fn whole(&self, cores: u32) -> Estimate {
        #[expect(clippy::cast_precision_loss, reason = "a guess, told to three digits")]
        let scale = self.duration_us as f64 / self.sampled_us.max(1) as f64;
        let hours = |work: Duration| work.as_secs_f64() * scale / 3600.0;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a guess, told to three digits"
        )]
        let bytes = |bytes: u64| (bytes as f64 * scale) as u64;
        let tracks: Vec<TrackEstimate> = self
            .tracks
            .iter()
            .map(|(name, took)| TrackEstimate {
                name: name.clone(),
                bytes: bytes(took.bytes),
                core_hours: hours(took.work),
            })
            .collect();
        let core_hours = tracks.iter().map(|track| track.core_hours).sum::<f64>() + hours(self.rest);
        let time = core_hours * 3600.0 / f64::from(cores.max(1));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time, and positive")]
        let time_us = (time * 1e6).round() as u64;
        Estimate {
            duration_us: self.duration_us,
            time_us,
            cores,
            core_hours,
            bytes: tracks.iter().map(|track| track.bytes).sum(),
            sampled: (1.0 / scale).min(1.0),
            tracks,
        }
    }
}

/// A title's tasks are labelled by their track: `720p chunk 3`.
fn track_name(task: &TaskView, title: bool) -> String {
    let kind = if task.function == function::AUDIO { "audio" } else { "video" };
    match title {
        true => task.label.split(" chunk ").next().unwrap_or(kind).to_owned(),
        false => kind.to_owned(),
    }
}

fn text(estimate: &Estimate) -> String {
    let rows: Vec<Vec<String>> = estimate
        .tracks
        .iter()
        .map(|track| vec![track.name.clone(), output::bytes(track.bytes), format!("{:.3}", track.core_hours)])
        .collect();
    let mut text = output::table(&["TRACK", "SIZE", "CORE-HOURS"], &rows, true);
    text.push_str(&format!(
        "{} of film: about {} on {} cores, {:.3} core-hours, {} (measured on {:.0} % of it)\n",
        output::span(Span(estimate.duration_us)),
        output::span(Span(estimate.time_us)),
        estimate.cores,
        estimate.core_hours,
        output::bytes(estimate.bytes),
        estimate.sampled * 100.0
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_the_samples_times_what_they_are_part_of() {
        let took = |secs, bytes| Took { work: Duration::from_secs(secs), bytes };
        let measured = Measured {
            duration_us: 3_600_000_000,
            sampled_us: 36_000_000,
            tracks: [("720p".to_owned(), took(72, 1_000)), ("aac".to_owned(), took(1, 10))].into(),
            rest: Duration::from_secs(2),
        };
        let whole = measured.whole(4);
        assert_eq!((whole.bytes, whole.cores), (101_000, 4));
        assert!((whole.core_hours - 75.0 * 100.0 / 3600.0).abs() < 1e-9);
        assert_eq!(whole.time_us / 1_000_000, 75 * 100 / 4);
        assert!((whole.sampled - 0.01).abs() < 1e-12);
        assert!((whole.tracks[0].core_hours - 2.0).abs() < 1e-12);
    }
}
