//! The engine's state as people are shown it.

mod logs;

use std::collections::BTreeMap;

use serde::Deserialize;
use spool_core::engine::Engine;
use spool_core::io::Blob;
use spool_core::job::{Job, Phase};
use spool_core::query::TaskInfo;
use spool_proto::call::{Answer, PlanSummary, Value, function};
use spool_proto::failure::{Failure, Warning};
use spool_proto::spec::Rational;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::{JobView, PhaseView, Progress, TaskState, TaskView};

use crate::store::{ArchivedJob, AttemptRow};

pub use logs::job_logs;

/// Jobs with more tasks than this are bulk work: of their tasks, logs and archive keep only those that did not go smoothly.
pub const DETAILED_TASKS: u32 = 10_000;

/// All of a call of a user's function, as its worker counts what is done.
const WHOLE: u64 = 1_000;

/// The job now. `tasks`: with its tasks.
pub fn job(engine: &Engine, job: &Job, now: Timestamp, tasks: bool) -> JobView {
    let request = job.request();
    JobView {
        job: job.id(),
        name: request.name.clone(),
        service: request.service.clone(),
        state: job.state(),
        phase: job.phase_name().to_owned(),
        priority: request.priority,
        pool: request.pool.clone(),
        class: request.class,
        deadline: request.deadline,
        submitted: job.submitted(),
        started: job.started(),
        finished: job.finished(),
        phases: phases(job),
        progress: progress(engine, job, now),
        warnings: warnings(engine, job),
        failure: job.failure().cloned(),
        output: job.output().and_then(json),
        spec: json(&request.spec).unwrap_or_default(),
        tasks: if tasks { engine.tasks(job).map(|t| task(&t)).collect() } else { Vec::new() },
    }
}

/// A final job for the archive.
pub fn archived(engine: &Engine, job: &Job, now: Timestamp) -> ArchivedJob {
    let mut view = self::job(engine, job, now, false);
    let kept = |task: &TaskInfo<'_>| job.task_count() <= DETAILED_TASKS || !task.history.is_empty();
    let mut attempts = Vec::new();
    for info in engine.tasks(job).filter(kept) {
        view.tasks.push(task(&info));
        attempts.extend(info.history.iter().map(|end| AttemptRow::ended(info.id, end)));
        if let (TaskState::Done, Some(worker), Some(fence)) = (info.state, info.worker, info.fence) {
            attempts.push(AttemptRow {
                task: info.id,
                fence,
                attempt: info.attempt,
                worker: worker.clone(),
                started: info.started.unwrap_or_default(),
                finished: info.finished.unwrap_or_default(),
                failure: None,
            });
        }
    }
    ArchivedJob {
        view,
        request_id: job.request().request_id.clone(),
        attempts,
        events: job_logs(engine, job),
        history: job.log().to_vec(),
    }
}

/// In order of their beginning. A reactive job starts phases of one name again and again: for people they are one.
fn phases(job: &Job) -> Vec<PhaseView> {
    let mut views: Vec<PhaseView> = Vec::new();
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    for phase in job.phases() {
        let Some(at) = known.get(phase.name.as_str()).filter(|_| job.request().reactive) else {
            known.insert(&phase.name, views.len());
            views.push(self::phase(phase));
            continue;
        };
        let view = &mut views[*at];
        view.finished = view.finished.zip(phase.finished).map(|(one, other)| one.max(other));
        view.tasks += phase.counts.total();
        view.done += phase.counts.done;
        view.running += phase.running;
    }
    views
}

fn phase(phase: &Phase) -> PhaseView {
    PhaseView {
        name: phase.name.clone(),
        started: phase.started,
        finished: phase.finished,
        tasks: phase.counts.total(),
        done: phase.counts.done,
        running: phase.running,
    }
}

fn task(info: &TaskInfo<'_>) -> TaskView {
    TaskView {
        task: info.id,
        function: info.shape.function.clone(),
        phase: info.phase.to_owned(),
        label: info.label.to_owned(),
        state: info.state,
        attempt: info.attempt,
        worker: info.worker.cloned(),
        started: info.started.or(info.leased),
        finished: info.finished,
        frames: info.advance.frames,
        bytes: info.advance.bytes,
        resources: info.shape.resources.clone(),
        failure: info.failure().cloned(),
        answer: info.answer.and_then(json),
    }
}

/// Workers answer nothing at all for `bench.noop`.
fn json(blob: &Blob) -> Option<serde_json::Value> {
    serde_json::from_slice(blob).ok()
}

/// Of the encoding phase, once there is one, or of the first of two passes; else of the current phase.
fn progress(engine: &Engine, job: &Job, now: Timestamp) -> Progress {
    let Some(current) = job.phases().last() else { return Progress::default() };
    let named = |name: &str| job.phases().iter().find(|phase| phase.name == name);
    let Some(encoding) = named("encoding").or_else(|| named("analysing")) else {
        // Of a film nothing that counts has begun.
        if matches!(job.request().service.as_str(), "video-encode" | "title") {
            return Progress::default();
        }
        // What a reactive job has begun is all that is known of it.
        let counts = if job.request().reactive { job.counts() } else { &current.counts };
        let mut progress = Progress { chunks_done: counts.done, chunks_total: counts.total(), ..Progress::default() };
        if job.request().service == "function" {
            // Functions that users wrote tell how much of their work is done: workers count it in thousandths.
            let calls = engine.tasks(job).filter(|task| task.shape.function.starts_with("user."));
            (progress.frames, progress.frames_total) =
                calls.fold((0, 0), |(done, all), task| (done + task.advance.frames.min(WHOLE), all + WHOLE));
        }
        return progress;
    };
    let mut progress = Progress { bytes: encoding.progress().bytes, ..Progress::default() };
    let coding = [function::ENCODE, function::ANALYSE];
    let counted = |task: &TaskInfo<'_>| task.phase == encoding.name && coding.contains(&task.shape.function.as_str());
    for task in engine.tasks(job).filter(counted) {
        progress.chunks_total += 1;
        progress.chunks_done += u32::from(task.state == TaskState::Done);
        progress.frames += task.advance.frames;
    }
    let elapsed = encoding.finished.or(job.finished()).unwrap_or(now).since(encoding.started);
    progress.fps = rate(progress.frames, elapsed);
    if let Some(planned) = planned(engine, job) {
        progress.frames_total = planned.frames;
        progress.out_time_us = play_time_us(progress.frames / planned.renditions, planned.frame_rate);
        progress.out_time_total_us = play_time_us(planned.frames / planned.renditions, planned.frame_rate);
    }
    progress
}

#[expect(clippy::cast_precision_loss, reason = "for people to read; frame counts are far below 2^53")]
fn rate(frames: u64, elapsed: Span) -> f64 {
    if elapsed == Span::ZERO { 0.0 } else { frames as f64 / elapsed.as_secs_f64() }
}

fn play_time_us(frames: u64, frame_rate: Rational) -> u64 {
    let (Ok(num), Ok(den)) = (u128::try_from(frame_rate.num), u128::try_from(frame_rate.den)) else { return 0 };
    let us = (u128::from(frames) * 1_000_000 * den).checked_div(num).unwrap_or(0);
    u64::try_from(us).unwrap_or(u64::MAX)
}

/// What the plans promise, one a rendition.
struct Planned {
    /// Of all renditions.
    frames: u64,
    renditions: u64,
    /// Of the first.
    frame_rate: Rational,
}

fn planned(engine: &Engine, job: &Job) -> Option<Planned> {
    let mut planned: Option<Planned> = None;
    // Plans come right behind the probe.
    let plans = engine.tasks(job).skip(1).take_while(|task| task.shape.function == function::PLAN);
    for plan in plans {
        let answer: Answer = serde_json::from_slice(plan.answer?).ok()?;
        let Value::Plan(PlanSummary { video: Some(video), .. }) = answer.value else { return None };
        let sum = planned.get_or_insert(Planned { frames: 0, renditions: 0, frame_rate: video.frame_rate });
        sum.frames += video.frames?;
        sum.renditions += 1;
    }
    planned
}

/// What the tasks' answers warn of, each thing once.
fn warnings(engine: &Engine, job: &Job) -> Vec<Warning> {
    #[derive(Deserialize)]
    struct Warned {
        #[serde(default)]
        warnings: Vec<Warning>,
    }
    let mut all: Vec<Warning> = Vec::new();
    // Of a very large job the chunks are not asked: what concerns the film as a whole, probe and plan have said.
    let asked = |task: &TaskInfo<'_>| job.task_count() <= DETAILED_TASKS || task.shape.function != function::ENCODE;
    // Few answers have any; the others are not parsed for it.
    let answers = engine.tasks(job).filter(asked).filter_map(|task| std::str::from_utf8(task.answer?).ok());
    for answer in answers.filter(|text| text.contains("\"warnings\"")) {
        let warned = serde_json::from_str::<Warned>(answer).map(|w| w.warnings).unwrap_or_default();
        for warning in warned {
            if !all.contains(&warning) {
                all.push(warning);
            }
        }
    }
    all
}

/// How a failure reads in one line.
fn failure_text(failure: &Failure) -> String {
    format!("{} ({}, {})", failure.message, failure.class, failure.code)
}
