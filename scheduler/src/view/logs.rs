//! A job's history, read off its state: when it came, its phases, every attempt of every task, its end.

use std::cmp::Reverse;

use spool_core::engine::Engine;
use spool_core::job::Job;
use spool_core::query::TaskInfo;
use spool_proto::time::Timestamp;
use spool_proto::view::{LogLine, TaskState};

use super::{DETAILED_TASKS, failure_text};

/// Lines about tasks that are kept, the latest ones. Lines about the job itself are few and always kept.
const TASK_LINES: usize = 10_000;

/// Oldest first.
pub fn job_logs(engine: &Engine, job: &Job) -> Vec<LogLine> {
    let mut lines = Vec::new();
    for task in engine.tasks(job) {
        if job.task_count() <= DETAILED_TASKS || !task.history.is_empty() {
            task_lines(&task, &mut lines);
        }
    }
    if lines.len() > TASK_LINES {
        lines.sort_by_key(|line| Reverse(line.at));
        lines.truncate(TASK_LINES);
    }
    job_lines(job, &mut lines);
    lines.sort_by_key(|line| line.at);
    lines
}

fn line(at: Timestamp, level: &str, text: String) -> LogLine {
    LogLine { at, task: None, attempt: None, worker: None, level: level.into(), text }
}

fn job_lines(job: &Job, lines: &mut Vec<LogLine>) {
    let request = job.request();
    let submitted = format!("{} {:?} submitted, priority {}", request.service, request.name, request.priority);
    lines.push(line(job.submitted(), "info", submitted));
    for phase in job.phases() {
        let tasks = phase.counts.total();
        lines.push(line(phase.started, "info", format!("{}: {tasks} task{}", phase.name, plural(tasks))));
        if let Some(finished) = phase.finished {
            let took = finished.since(phase.started).as_secs_f64();
            lines.push(line(finished, "info", format!("{} done in {took:.1} s", phase.name)));
        }
    }
    let Some(finished) = job.finished() else { return };
    lines.push(match (job.failure(), job.cancel_reason()) {
        (Some(failure), _) => line(finished, "error", format!("failed: {}", failure_text(failure))),
        (None, Some("")) => line(finished, "warn", "cancelled".into()),
        (None, Some(reason)) => line(finished, "warn", format!("cancelled: {reason}")),
        (None, None) => line(finished, "info", "done".into()),
    });
}

fn task_lines(task: &TaskInfo<'_>, lines: &mut Vec<LogLine>) {
    let what = if task.label.is_empty() { task.shape.function.as_str() } else { task.label };
    for end in task.history {
        let mut text = format!("{what} failed: {}", failure_text(&end.failure));
        if !end.failure.evidence.is_empty() {
            text.push('\n');
            text.push_str(end.failure.evidence.trim_end());
        }
        lines.push(LogLine {
            task: Some(task.id),
            attempt: Some(end.attempt),
            worker: Some(end.worker.clone()),
            ..line(end.ended, "warn", text)
        });
    }
    let mut now = |at: Option<Timestamp>, text: String| {
        if let Some(at) = at {
            lines.push(LogLine {
                task: Some(task.id),
                attempt: Some(task.attempt),
                worker: task.worker.cloned(),
                ..line(at, "info", text)
            });
        }
    };
    match task.state {
        TaskState::Prefetched => now(task.leased, format!("{what} leased ahead")),
        TaskState::Running => now(task.started.or(task.leased), format!("{what} started")),
        TaskState::Done => {
            let took = task.finished.unwrap_or_default().since(task.started.unwrap_or_default());
            now(task.started, format!("{what} started"));
            let bytes = task.advance.bytes;
            now(task.finished, format!("{what} done in {:.1} s, {bytes} bytes", took.as_secs_f64()));
        }
        TaskState::Queued | TaskState::Backoff | TaskState::Failed | TaskState::Cancelled => {}
    }
}

fn plural(n: u32) -> &'static str {
    if n == 1 { "" } else { "s" }
}
