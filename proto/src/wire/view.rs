//! What people are shown, on the wire.

use super::{BadField, from_name, from_text, narrow, v1};
use crate::failure::{Failure, Warning};
use crate::ids::TaskId;
use crate::resources::Resources;
use crate::time::{Span, Timestamp};
use crate::view::{Explanation, JobView, LogLine, PhaseView, Progress, TaskView, WarmView, WorkerHealth, WorkerView};

impl From<&Resources> for v1::Resources {
    fn from(resources: &Resources) -> Self {
        v1::Resources { amounts: resources.iter().map(|(name, amount)| (name.to_owned(), amount)).collect() }
    }
}

impl From<v1::Resources> for Resources {
    fn from(wire: v1::Resources) -> Self {
        let mut resources = Resources::ZERO;
        for (name, amount) in wire.amounts {
            match name.as_str() {
                "cpu" => resources.cpu = amount,
                "memory" => resources.memory = amount,
                "scratch" => resources.scratch = amount,
                "gpu" => resources.gpu = amount,
                "encode_sessions" => resources.encode_sessions = amount,
                "decode_sessions" => resources.decode_sessions = amount,
                _ => drop(resources.other.insert(name, amount)),
            }
        }
        resources
    }
}

impl From<&Failure> for v1::Failure {
    fn from(failure: &Failure) -> Self {
        v1::Failure {
            class: failure.class.name().into(),
            code: failure.code.clone(),
            message: failure.message.clone(),
            evidence: failure.evidence.clone(),
            retryable: failure.class.is_retryable(),
        }
    }
}

impl TryFrom<v1::Failure> for Failure {
    type Error = BadField;

    fn try_from(wire: v1::Failure) -> Result<Self, BadField> {
        Ok(Failure {
            class: from_text("failure.class", &wire.class)?,
            code: wire.code,
            message: wire.message,
            evidence: wire.evidence,
        })
    }
}

impl From<&Warning> for v1::Warning {
    fn from(w: &Warning) -> Self {
        v1::Warning { code: w.code.clone(), stream: w.stream, text: w.text.clone() }
    }
}

impl From<v1::Warning> for Warning {
    fn from(w: v1::Warning) -> Self {
        Warning { code: w.code, stream: w.stream, text: w.text }
    }
}

/// JSON inside a message: a value that is absent is the empty text.
fn json_text(value: Option<&serde_json::Value>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn json_value(field: &str, text: &str) -> Result<Option<serde_json::Value>, BadField> {
    if text.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(text).map(Some).map_err(|e| BadField::new(field, e))
}

impl From<&JobView> for v1::Job {
    fn from(job: &JobView) -> Self {
        v1::Job {
            job_id: job.job.to_string(),
            name: job.name.clone(),
            service: job.service.clone(),
            state: job.state.name().into(),
            phase: job.phase.clone(),
            priority: job.priority.into(),
            deadline_us: job.deadline.map(|t| t.0),
            submitted_us: job.submitted.0,
            started_us: job.started.map(|t| t.0),
            finished_us: job.finished.map(|t| t.0),
            phases: job.phases.iter().map(Into::into).collect(),
            progress: Some(job.progress.into()),
            warnings: job.warnings.iter().map(Into::into).collect(),
            failure: job.failure.as_ref().map(Into::into),
            output_json: json_text(job.output.as_ref()),
            spec_json: job.spec.to_string(),
            tasks: job.tasks.iter().map(Into::into).collect(),
            pool: job.pool.to_string(),
            start_by_us: super::spec::start_by_us(job.class),
            labels: job.labels.clone().into_iter().collect(),
            notify: job.notify.clone(),
            part_of_job_id: job.part_of.map(|whole| whole.to_string()),
        }
    }
}

impl TryFrom<v1::Job> for JobView {
    type Error = BadField;

    fn try_from(wire: v1::Job) -> Result<Self, BadField> {
        Ok(JobView {
            job: from_text("job_id", &wire.job_id)?,
            name: wire.name,
            service: wire.service,
            state: from_name("state", &wire.state)?,
            phase: wire.phase,
            priority: narrow("priority", wire.priority.into())?,
            deadline: wire.deadline_us.map(Timestamp),
            submitted: Timestamp(wire.submitted_us),
            started: wire.started_us.map(Timestamp),
            finished: wire.finished_us.map(Timestamp),
            phases: wire.phases.into_iter().map(Into::into).collect(),
            progress: wire.progress.unwrap_or_default().into(),
            warnings: wire.warnings.into_iter().map(Into::into).collect(),
            failure: wire.failure.map(TryInto::try_into).transpose()?,
            output: json_value("output_json", &wire.output_json)?,
            spec: json_value("spec_json", &wire.spec_json)?.unwrap_or_default(),
            pool: wire.pool.as_str().into(),
            class: super::spec::class(wire.start_by_us),
            labels: wire.labels.into_iter().collect(),
            notify: wire.notify,
            part_of: wire.part_of_job_id.map(|whole| from_text("part_of_job_id", &whole)).transpose()?,
            tasks: wire.tasks.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&PhaseView> for v1::Phase {
    fn from(p: &PhaseView) -> Self {
        v1::Phase {
            name: p.name.clone(),
            started_us: p.started.0,
            finished_us: p.finished.map(|t| t.0),
            tasks: p.tasks,
            done: p.done,
            running: p.running,
        }
    }
}

impl From<v1::Phase> for PhaseView {
    fn from(p: v1::Phase) -> Self {
        PhaseView {
            name: p.name,
            started: Timestamp(p.started_us),
            finished: p.finished_us.map(Timestamp),
            tasks: p.tasks,
            done: p.done,
            running: p.running,
        }
    }
}

impl From<Progress> for v1::Progress {
    fn from(p: Progress) -> Self {
        v1::Progress {
            chunks_done: p.chunks_done,
            chunks_total: p.chunks_total,
            frames: p.frames,
            frames_total: p.frames_total,
            bytes: p.bytes,
            fps: p.fps,
            out_time_us: p.out_time_us,
            out_time_total_us: p.out_time_total_us,
        }
    }
}

impl From<v1::Progress> for Progress {
    fn from(p: v1::Progress) -> Self {
        Progress {
            chunks_done: p.chunks_done,
            chunks_total: p.chunks_total,
            frames: p.frames,
            frames_total: p.frames_total,
            bytes: p.bytes,
            fps: p.fps,
            out_time_us: p.out_time_us,
            out_time_total_us: p.out_time_total_us,
        }
    }
}

impl From<&TaskView> for v1::Task {
    fn from(t: &TaskView) -> Self {
        v1::Task {
            task_id: t.task.to_string(),
            function: t.function.clone(),
            phase: t.phase.clone(),
            label: t.label.clone(),
            state: t.state.name().into(),
            attempt: t.attempt,
            worker: t.worker.as_ref().map(ToString::to_string).unwrap_or_default(),
            started_us: t.started.map(|t| t.0),
            finished_us: t.finished.map(|t| t.0),
            frames: t.frames,
            bytes: t.bytes,
            resources: Some((&t.resources).into()),
            failure: t.failure.as_ref().map(Into::into),
            answer_json: json_text(t.answer.as_ref()),
        }
    }
}

impl TryFrom<v1::Task> for TaskView {
    type Error = BadField;

    fn try_from(wire: v1::Task) -> Result<Self, BadField> {
        Ok(TaskView {
            task: from_text("task_id", &wire.task_id)?,
            function: wire.function,
            phase: wire.phase,
            label: wire.label,
            state: from_name("state", &wire.state)?,
            attempt: wire.attempt,
            worker: (!wire.worker.is_empty()).then(|| wire.worker.into()),
            started: wire.started_us.map(Timestamp),
            finished: wire.finished_us.map(Timestamp),
            frames: wire.frames,
            bytes: wire.bytes,
            resources: wire.resources.unwrap_or_default().into(),
            failure: wire.failure.map(TryInto::try_into).transpose()?,
            answer: json_value("answer_json", &wire.answer_json)?,
        })
    }
}

impl From<&WorkerView> for v1::Worker {
    fn from(w: &WorkerView) -> Self {
        let (health, reason, since) = match &w.health {
            WorkerHealth::Healthy => ("healthy", "", Timestamp::ZERO),
            WorkerHealth::Throttled { reason } => ("throttled", reason.as_str(), Timestamp::ZERO),
            WorkerHealth::Quarantined { reason, since } => ("quarantined", reason.as_str(), *since),
        };
        v1::Worker {
            worker: w.worker.to_string(),
            connected: w.connected,
            cordoned: w.cordoned,
            draining: w.draining,
            reason: w.reason.clone().unwrap_or_default(),
            capacity: Some((&w.capacity).into()),
            allocated: Some((&w.allocated).into()),
            backends: w.backends.clone(),
            running: w.running.iter().map(ToString::to_string).collect(),
            prefetched: w.prefetched.iter().map(ToString::to_string).collect(),
            reserved_for: w.reserved_for.iter().map(ToString::to_string).collect(),
            last_heard_us: w.last_heard.0,
            health: health.into(),
            health_reason: reason.into(),
            health_since_us: since.0,
            warm: w.warm.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Worker> for WorkerView {
    type Error = BadField;

    fn try_from(wire: v1::Worker) -> Result<Self, BadField> {
        let tasks = |field: &str, ids: Vec<String>| {
            ids.iter().map(|id| from_text(field, id)).collect::<Result<Vec<TaskId>, _>>()
        };
        Ok(WorkerView {
            worker: wire.worker.into(),
            connected: wire.connected,
            cordoned: wire.cordoned,
            draining: wire.draining,
            reason: (!wire.reason.is_empty()).then_some(wire.reason),
            capacity: wire.capacity.unwrap_or_default().into(),
            allocated: wire.allocated.unwrap_or_default().into(),
            backends: wire.backends,
            running: tasks("running", wire.running)?,
            prefetched: tasks("prefetched", wire.prefetched)?,
            reserved_for: wire.reserved_for.iter().map(|pool| pool.as_str().into()).collect(),
            last_heard: Timestamp(wire.last_heard_us),
            health: match wire.health.as_str() {
                "throttled" => WorkerHealth::Throttled { reason: wire.health_reason },
                "quarantined" => {
                    WorkerHealth::Quarantined { reason: wire.health_reason, since: Timestamp(wire.health_since_us) }
                }
                _ => WorkerHealth::Healthy,
            },
            warm: wire.warm.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<&WarmView> for v1::Warm {
    fn from(w: &WarmView) -> Self {
        v1::Warm {
            key: w.key.clone(),
            min: w.min,
            max: w.max,
            idle: w.idle,
            warm_starts: w.warm_starts,
            cold_starts: w.cold_starts,
            warm_start_p50_us: w.warm_start_p50.0,
            cold_start_p50_us: w.cold_start_p50.0,
        }
    }
}

impl From<v1::Warm> for WarmView {
    fn from(wire: v1::Warm) -> Self {
        WarmView {
            key: wire.key,
            min: wire.min,
            max: wire.max,
            idle: wire.idle,
            warm_starts: wire.warm_starts,
            cold_starts: wire.cold_starts,
            warm_start_p50: Span(wire.warm_start_p50_us),
            cold_start_p50: Span(wire.cold_start_p50_us),
        }
    }
}

impl From<&LogLine> for v1::LogLine {
    fn from(line: &LogLine) -> Self {
        v1::LogLine {
            at_us: line.at.0,
            task_id: line.task.as_ref().map(ToString::to_string).unwrap_or_default(),
            attempt: line.attempt,
            worker: line.worker.as_ref().map(ToString::to_string).unwrap_or_default(),
            level: line.level.clone(),
            text: line.text.clone(),
        }
    }
}

impl TryFrom<v1::LogLine> for LogLine {
    type Error = BadField;

    fn try_from(wire: v1::LogLine) -> Result<Self, BadField> {
        let task = match wire.task_id.as_str() {
            "" => None,
            id => Some(from_text("task_id", id)?),
        };
        Ok(LogLine {
            at: Timestamp(wire.at_us),
            task,
            attempt: wire.attempt,
            worker: (!wire.worker.is_empty()).then(|| wire.worker.into()),
            level: wire.level,
            text: wire.text,
        })
    }
}

impl From<&Explanation> for v1::Explanation {
    fn from(e: &Explanation) -> Self {
        v1::Explanation {
            job_id: e.job.to_string(),
            reason: e.reason.clone(),
            text: e.text.clone(),
            queue_position: e.queue_position,
            estimate_us: e.estimate.map(|span| span.0),
            details: e.details.clone(),
        }
    }
}

impl TryFrom<v1::Explanation> for Explanation {
    type Error = BadField;

    fn try_from(wire: v1::Explanation) -> Result<Self, BadField> {
        Ok(Explanation {
            job: from_text("job_id", &wire.job_id)?,
            reason: wire.reason,
            text: wire.text,
            queue_position: wire.queue_position,
            estimate: wire.estimate_us.map(Span),
            details: wire.details,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Class;
    use crate::ids::JobId;
    use crate::view::{JobState, TaskState};

    #[test]
    fn a_job_survives_the_wire() {
        let task = TaskView {
            task: TaskId { job: JobId(17), index: 3 },
            function: "media.encode".into(),
            phase: "encoding".into(),
            label: "chunk 3".into(),
            state: TaskState::Backoff,
            attempt: 2,
            worker: Some("w1".into()),
            started: Some(Timestamp(4)),
            finished: None,
            frames: 10,
            bytes: 20,
            resources: Resources { other: [("licence".into(), 1)].into(), ..Resources::cpu_memory(1000, 300) },
            failure: Some(Failure::new(Class::Internal, "crashed", "signal 11").with_evidence("tail")),
            answer: Some(serde_json::json!({"value": {"kind": "noop"}})),
        };
        let job = JobView {
            labels: [("show".to_owned(), "news".to_owned())].into(),
            notify: Some("https://example.org/done".into()),
            part_of: Some(JobId(3)),
            job: JobId(17),
            name: "in.mov".into(),
            service: "video-encode".into(),
            state: JobState::Running,
            phase: "encoding".into(),
            priority: 50,
            pool: "studio/marketing".into(),
            class: crate::pool::Class::Opportunistic { start_by: Timestamp(8) },
            deadline: Some(Timestamp(9)),
            submitted: Timestamp(1),
            started: Some(Timestamp(2)),
            finished: Some(Timestamp(3)),
            phases: vec![PhaseView {
                name: "encoding".into(),
                started: Timestamp(2),
                finished: None,
                tasks: 4,
                done: 2,
                running: 1,
            }],
            progress: Progress { chunks_done: 2, chunks_total: 4, frames: 100, fps: 12.5, ..Progress::default() },
            warnings: vec![Warning { code: "dropped_stream".into(), stream: Some(2), text: "data".into() }],
            failure: None,
            output: Some(serde_json::json!({"frames": 7})),
            spec: serde_json::json!({"service": "bench"}),
            tasks: vec![task],
        };
        assert_eq!(JobView::try_from(v1::Job::from(&job)), Ok(job));
    }
}
