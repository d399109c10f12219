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
use spool_proto::uri;
use spool_proto::view::{JobState, JobView, PhaseView, Progress, TaskState, TaskView};

use crate::rules;
use crate::store::{ArchivedJob, AttemptRow};

pub use logs::job_logs;

/// Jobs with more tasks than this are bulk work: of their tasks, logs and archive keep only those that did not go smoothly.
pub const DETAILED_TASKS: u32 = 10_000;

/// All of a call of a user's function, as its worker counts what is done.
const WHOLE: u64 = 1_000;

/// The job now. `tasks`: with its tasks.
///
/// Phases, progress, warnings and tasks are those of its parts, too.
pub fn job(engine: &Engine, job: &Job, now: Timestamp, tasks: bool) -> JobView {
    let request = job.request();
    let whole = with_parts(engine, job);
    let phases = phases(&whole);
    JobView {
        job: job.id(),
        name: request.name.clone(),
        service: request.service.clone(),
        state: job.state(),
        phase: current(job, &phases),
        priority: request.priority,
        pool: request.pool.clone(),
        class: request.class,
        deadline: request.deadline,
        labels: request.labels.clone(),
        notify: request.notify.as_deref().map(uri::shown),
        part_of: request.part_of,
        submitted: job.submitted(),
        started: job.started(),
        finished: job.finished(),
        progress: progress(engine, &whole, now),
        warnings: warnings(engine, &whole),
        failure: job.failure().cloned(),
        output: job.output().and_then(json),
        spec: json(&request.spec).unwrap_or_default(),
        tasks: if tasks { whole.iter().flat_map(|job| tasks_of(engine, job)).collect() } else { Vec::new() },
        phases,
    }
}

/// The job, then its parts and theirs, in the order they came.
fn with_parts<'a>(engine: &'a Engine, job: &'a Job) -> Vec<&'a Job> {
    let mut all = vec![job];
    for part in engine.parts(job.id()) {
        all.extend(with_parts(engine, part));
    }
    all
}

fn tasks_of<'a>(engine: &'a Engine, job: &'a Job) -> impl Iterator<Item = TaskView> + 'a {
    // As its whole calls it.
    let name = rules::key_of(&job.request().request_id).filter(|_| job.request().part_of.is_some());
    engine.tasks(job).map(move |info| {
        let mut view = task(&info);
        if let Some(name) = &name {
            view.label = format!("{name} {}", view.label).trim_end().to_owned();
        }
        view
    })
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
        request_id: job.request().request_id.to_string(),
        attempts,
        events: job_logs(engine, job),
        history: job.log().to_vec(),
    }
}

/// In order of their beginning. A reactive job starts phases of one name again and again: for people they are one.
fn phases(whole: &[&Job]) -> Vec<PhaseView> {
    let mut views: Vec<PhaseView> = Vec::new();
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all: Vec<(&Job, &Phase)> = Vec::new();
    for job in whole {
        all.extend(job.phases().iter().map(|phase| (*job, phase)));
    }
    if whole.len() > 1 {
        all.sort_by_key(|(_, phase)| phase.started);
    }
    for (job, phase) in all {
        let Some(at) = known.get(phase.name.as_str()).filter(|_| job.request().reactive) else {
            known.insert(&phase.name, views.len());
            views.push(self::phase(job, phase));
            continue;
        };
        let view = &mut views[*at];
        view.finished = view.finished.zip(phase.finished).map(|(one, other)| one.max(other));
        view.tasks += counted(job, phase);
        view.done += phase.counts.done;
        view.running += phase.running;
    }
    views
}

/// The phase it is in: of those that go on the last that began.
fn current(job: &Job, phases: &[PhaseView]) -> String {
    let is_over = job.state().is_final();
    let goes_on = phases.iter().rev().find(|phase| !is_over && phase.done < phase.tasks);
    goes_on.map_or_else(|| job.phase_name().to_owned(), |phase| phase.name.clone())
}

/// Of a reactive job that goes on, tasks that failed or were called off count no more: others have taken their place.
fn counted(job: &Job, phase: &Phase) -> u32 {
    let counts = &phase.counts;
    let is_lost = matches!(job.state(), JobState::Failed | JobState::Cancelled | JobState::Cancelling);
    let superseded = if job.request().reactive && !is_lost { counts.failed + counts.cancelled } else { 0 };
    counts.total() - superseded
}

fn phase(job: &Job, phase: &Phase) -> PhaseView {
    PhaseView {
        name: phase.name.clone(),
        started: phase.started,
        finished: phase.finished,
        tasks: counted(job, phase),
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

/// Of the encoding phases, once there are some, or of the first of two passes; else of the current phase.
fn progress(engine: &Engine, whole: &[&Job], now: Timestamp) -> Progress {
    let named = |job: &Job, name: &str| job.phases().iter().position(|phase| phase.name == name);
    let coding = whole.iter().filter_map(|job| {
        let at = named(job, "encoding").or_else(|| named(job, "analysing"))?;
        Some((*job, &job.phases()[at]))
    });
    let coding: Vec<(&Job, &Phase)> = coding.collect();
    if coding.is_empty() {
        return progress_of_tasks(engine, whole);
    }
    let mut progress = Progress::default();
    for (job, phase) in &coding {
        progress.bytes += phase.progress().bytes;
        let is_coder =
            |task: &TaskInfo<'_>| [function::ENCODE, function::ANALYSE].contains(&task.shape.function.as_str());
        for task in engine.tasks(job).filter(|task| task.phase == phase.name && is_coder(task)) {
            progress.chunks_total += 1;
            progress.chunks_done += u32::from(task.state == TaskState::Done);
            progress.frames += task.advance.frames;
        }
    }
    let began = coding.iter().map(|(_, phase)| phase.started).min().unwrap_or(now);
    let ends = coding.iter().map(|(_, phase)| phase.finished.or(whole[0].finished()));
    let ended = ends.collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().max());
    progress.fps = rate(progress.frames, ended.unwrap_or(now).since(began));
    if let Some(planned) = planned(engine, coding.iter().map(|(job, _)| *job)) {
        progress.frames_total = planned.frames;
        progress.out_time_us = play_time_us(progress.frames / planned.renditions, planned.frame_rate);
        progress.out_time_total_us = play_time_us(planned.frames / planned.renditions, planned.frame_rate);
    }
    progress
}

/// Of a job that encodes nothing, or nothing yet.
fn progress_of_tasks(engine: &Engine, whole: &[&Job]) -> Progress {
    let job = whole[0];
    let is_film = |job: &&Job| matches!(job.request().service.as_str(), "video-encode" | "title");
    // Of a film nothing that counts has begun.
    let Some(current) = job.phases().last().filter(|_| !whole.iter().any(is_film)) else { return Progress::default() };
    let mut progress = Progress::default();
    // What a reactive job has begun is all that is known of it.
    let counts = whole.iter().map(|job| if job.request().reactive { job.counts() } else { &current.counts });
    for counts in counts {
        progress.chunks_done += counts.done;
        progress.chunks_total += counts.total();
    }
    if job.request().service == "function" {
        // Functions that users wrote tell how much of their work is done: workers count it in thousandths.
        let calls = engine.tasks(job).filter(|task| task.shape.function.starts_with("user."));
        (progress.frames, progress.frames_total) =
            calls.fold((0, 0), |(done, all), task| (done + task.advance.frames.min(WHOLE), all + WHOLE));
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

fn planned<'a>(engine: &Engine, coding: impl Iterator<Item = &'a Job>) -> Option<Planned> {
    let mut planned: Option<Planned> = None;
    for job in coding {
        let Some(plan) = engine.tasks(job).find(|task| task.shape.function == function::PLAN) else { continue };
        let answer: Answer = serde_json::from_slice(plan.answer?).ok()?;
        let Value::Plan(PlanSummary { video, .. }) = answer.value else { return None };
        let Some(video) = video else { continue };
        let sum = planned.get_or_insert(Planned { frames: 0, renditions: 0, frame_rate: video.frame_rate });
        sum.frames += video.frames?;
        sum.renditions += 1;
    }
    planned
}

/// What the tasks' answers warn of, each thing once.
fn warnings(engine: &Engine, whole: &[&Job]) -> Vec<Warning> {
    #[derive(Deserialize)]
    struct Warned {
        #[serde(default)]
        warnings: Vec<Warning>,
    }
    let mut all: Vec<Warning> = Vec::new();
    // Of a very large job the chunks are not asked: what concerns the film as a whole, probe and plan have said.
    let tasks = whole.iter().flat_map(|job| {
        let is_detailed = job.task_count() <= DETAILED_TASKS;
        engine.tasks(job).filter(move |task| is_detailed || task.shape.function != function::ENCODE)
    });
    // Few answers have any; the others are not parsed for it.
    let answers = tasks.filter_map(|task| std::str::from_utf8(task.answer?).ok());
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
