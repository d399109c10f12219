use spool_core::io::{Group, Step};

use super::*;

fn every_record() -> Vec<Record> {
    let (job, at) = (JobId(17), Timestamp(5));
    let task = TaskId { job, index: 3 };
    let fence = Fence(9);
    let failure = Failure::new(Class::Internal, "crashed", "signal 11").with_evidence("tail");
    let new = NewJob {
        request_id: "r".into(),
        name: "in.mov".into(),
        service: "bench".into(),
        spec: b"{}".as_slice().into(),
        priority: 60,
        deadline: Some(Timestamp(8)),
        max_attempts: 3,
        traceparent: "00-1-2-01".into(),
        part_of: Some(JobId(7)),
        reactive: true,
        labels: [("show".to_owned(), "news".to_owned())].into(),
        notify: Some("http://127.0.0.1/".into()),
        ..NewJob::new("", Blob::from(&b""[..]))
    };
    let shape = Shape {
        function: "media.encode".into(),
        backend: "cpu/libx264".into(),
        resources: Resources { other: [("licence".into(), 1)].into(), ..Resources::cpu_memory(1000, 300) },
        timeout: Span(1),
        no_progress: Span(2),
    };
    let new_task =
        NewTask { shape, label: "chunk 3".into(), payload: b"x".as_slice().into(), weight: 4, max_attempts: Some(2) };
    let group = Group { name: "encoding".into(), tasks: vec![TaskRun { count: 2, task: new_task.clone() }] };
    let step = Step {
        log: Some(b"entry".as_slice().into()),
        snapshot: true,
        groups: vec![group.clone(), Group { tasks: Vec::new(), ..group }],
        cancel: vec![3, 1],
        wake: Some(Timestamp(7)),
        signals_taken: 4,
        rests: true,
        outcome: Some(Outcome::Failed { failure: failure.clone() }),
    };
    let advance = Advance { frames: 1, bytes: 2, out_time: Span(3) };
    let judged = |health| Record::WorkerJudged { worker: "w1".into(), health, at };
    let finished = |outcome| Record::JobFinished { job, outcome, at };
    vec![
        Record::JobSubmitted { job, new, at },
        Record::PhaseStarted { job, name: "encoding".into(), tasks: vec![TaskRun { count: 2, task: new_task }], at },
        Record::Stepped { job, step: Step::default(), at },
        Record::Stepped { job, step, at },
        Record::Stepped { job, step: Step::end(Outcome::Cancelled { reason: "why".into() }), at },
        Record::Signalled { job, name: "go".into(), dedupe: "1".into(), payload: b"x".as_slice().into(), at },
        Record::Leased { task, fence, worker: "w1".into(), at },
        Record::Finished { task, fence, started: at, finished: at, answer: b"{}".as_slice().into(), advance },
        Record::AttemptFailed {
            task,
            fence,
            failure: failure.clone(),
            retry_at: Some(Timestamp(6)),
            counted: false,
            at,
        },
        Record::AttemptForgiven { task, fence, at },
        Record::AttemptFailed { task, fence, failure: failure.clone(), retry_at: None, counted: true, at },
        Record::LeaseEnded { task, fence, reason: "expired".into(), counted: true, at },
        Record::CancelAsked { job, reason: "why".into(), at },
        Record::TaskCancelled { task, at },
        finished(Outcome::Done { output: b"{}".as_slice().into() }),
        finished(Outcome::Failed { failure }),
        finished(Outcome::Cancelled { reason: "why".into() }),
        Record::JobRetried { job, at },
        Record::PrioritySet { job, priority: 1, at },
        Record::Cordoned { worker: "w1".into(), cordoned: true, drain: true, reason: "why".into(), at },
        Record::JobForgotten { job },
        judged(WorkerHealth::Healthy),
        judged(WorkerHealth::Throttled { reason: "why".into() }),
        judged(WorkerHealth::Quarantined { reason: "why".into(), since: at }),
    ]
}

#[test]
fn every_record_survives_the_journal() {
    let records = every_record();
    assert_eq!(decode_turn(&encode_turn(&records)), Ok(records));
}

#[test]
fn a_damaged_body_is_refused() {
    let mut body = encode_turn(&every_record());
    body.truncate(body.len() - 1);
    assert!(decode_turn(&body).is_err());
    let unknown = pb::Turn { records: vec![pb::Record { kind: None }] }.encode_to_vec();
    assert!(decode_turn(&unknown).is_err());
}

/// As an older server wrote them: without what came later.
#[test]
fn rows_from_before_jobs_reacted_are_read() {
    let shape = pb::Shape { function: "media.encode".into(), ..pb::Shape::default() };
    let tasks = vec![pb::TaskRun { count: 1, shape: Some(shape), ..pb::TaskRun::default() }];
    let new = pb::NewJob { service: "bench".into(), max_attempts: 3, ..pb::NewJob::default() };
    let records = vec![
        Kind::JobSubmitted(pb::JobSubmitted { job: 1, new: Some(new), at_us: 1 }),
        Kind::PhaseStarted(pb::PhaseStarted { job: 1, name: "encoding".into(), tasks, at_us: 2 }),
    ];
    let records = records.into_iter().map(|kind| pb::Record { kind: Some(kind) }).collect();
    let read = decode_turn(&pb::Turn { records }.encode_to_vec()).unwrap();
    let [Record::JobSubmitted { new, .. }, Record::PhaseStarted { tasks, .. }] = read.as_slice() else {
        panic!("{read:?}")
    };
    assert_eq!((new.reactive, tasks[0].task.max_attempts), (false, None));
}
