//! What every store must do, written once. A back end runs it with a factory that opens the same store again and again.

use std::future::Future;

use spool_core::io::{Advance, Blob, NewJob, NewTask, Record, Shape, Signal, TaskRun};
use spool_core::snapshot::{
    AttemptEnd, CordonSnapshot, EngineSnapshot, HistoryEntries, HistoryPart, HistorySnapshot, JobSnapshot, Lease,
    LifeSnapshot, PhaseSnapshot, ReactionSnapshot, TaskPart, TaskSnapshot, TaskStateSnapshot,
};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::{Fence, JobId, TaskId};
use spool_proto::resources::Resources;
use spool_proto::time::{Span, Timestamp};
use spool_proto::view::{JobState, JobView, LogLine, Progress, TaskState, TaskView, WorkerHealth};

use super::{Archive, ArchivedJob, AttemptRow, Checkpoint, JobFilter, Store};

/// Opens one store; the one opened before is closed by then.
pub trait Factory {
    type Store: Store;
    fn open(&self) -> impl Future<Output = Self::Store>;
}

/// Each case gets a store of its own.
pub async fn run<F: Factory>(fresh: impl Fn() -> F) {
    turns_come_back_in_order(fresh()).await;
    a_checkpoint_takes_the_place_of_the_turns_before_it(fresh()).await;
    a_checkpoint_rewrites_only_what_it_is_given(fresh()).await;
    a_checkpoint_counts_once_it_is_whole(fresh()).await;
    a_large_checkpoint_is_written_in_pieces(fresh()).await;
    what_a_reactive_job_keeps_is_written_in_parts(fresh()).await;
    the_archive_gives_back_what_it_got(fresh()).await;
    the_archive_lists_newest_first(fresh()).await;
}

fn submitted(job: u64) -> Record {
    Record::JobSubmitted { job: JobId(job), new: new_job(&format!("request {job}")), at: Timestamp(job) }
}

fn new_job(request_id: &str) -> NewJob {
    NewJob {
        request_id: request_id.into(),
        name: "name".into(),
        service: "bench".into(),
        spec: b"{}".as_slice().into(),
        priority: 50,
        deadline: Some(Timestamp(99)),
        max_attempts: 3,
        traceparent: "00-a-b-01".into(),
        part_of: Some(JobId(1)),
        ..NewJob::new("", Blob::from(&b""[..]))
    }
}

async fn turns_come_back_in_order<F: Factory>(factory: F) {
    let mut store = factory.open().await;
    assert_eq!(store.load().await.expect("load"), super::Kept::default());
    let turns = vec![vec![submitted(1), submitted(2)], vec![submitted(3)]];
    for turn in &turns {
        store.append(turn).await.expect("append");
    }
    assert!(store.mark().bytes > 0);
    drop(store);
    let mut store = factory.open().await;
    assert_eq!(store.load().await.expect("load").turns, turns);
    store.append(&[submitted(4)]).await.expect("append");
    drop(store);
    let kept = factory.open().await.load().await.expect("load");
    assert_eq!(kept.turns.len(), 3);
    assert_eq!(kept.turns[2], [submitted(4)]);
}

fn job(id: u64, life: LifeSnapshot) -> JobSnapshot {
    let shape = Shape {
        function: "media.encode".into(),
        backend: "cpu/libx264".into(),
        resources: Resources::cpu_memory(1_000, 300),
        timeout: Span(1),
        no_progress: Span(2),
    };
    let payload: Blob = b"call".as_slice().into();
    let task = NewTask { shape, label: "chunk 0".into(), payload, weight: 7, max_attempts: Some(1) };
    let phase = PhaseSnapshot {
        name: "encoding".into(),
        started: Timestamp(2),
        finished: Some(Timestamp(3)),
        runs: vec![TaskRun { count: 6, task }],
    };
    JobSnapshot {
        job: JobId(id),
        new: new_job("r"),
        life,
        submitted: Timestamp(1),
        started: Some(Timestamp(2)),
        finished: None,
        phases: vec![phase],
        retries_before: 4,
        reaction: ReactionSnapshot::default(),
    }
}

/// A task in every state there is.
fn part(id: u64, number: u32) -> TaskPart {
    let failure = Failure::new(Class::Internal, "crashed", "signal 11").with_evidence("tail");
    let end = AttemptEnd {
        attempt: 1,
        fence: Fence(4),
        worker: "w1".into(),
        leased: Timestamp(5),
        ended: Timestamp(6),
        counted: number == 0,
        failure,
    };
    let lease = |fence, worker: &str| Lease { fence: Fence(fence), worker: worker.into(), at: Timestamp(8) };
    let states = [
        TaskStateSnapshot::Queued,
        TaskStateSnapshot::Backoff { until: Timestamp(9) },
        TaskStateSnapshot::Leased { lease: lease(5, "w2"), copy: None },
        TaskStateSnapshot::Leased { lease: lease(5, "w2"), copy: Some(lease(7, "w3")) },
        TaskStateSnapshot::Done {
            fence: Fence(6),
            worker: "w1".into(),
            started: Timestamp(1),
            finished: Timestamp(2),
            answer: b"{}".as_slice().into(),
            advance: Advance { frames: 3, bytes: 4, out_time: Span(5) },
        },
        TaskStateSnapshot::Failed,
        TaskStateSnapshot::Cancelled,
    ];
    let task = |state| TaskSnapshot { state, attempts: 2, losses: 1, excused: 3, history: vec![end.clone()] };
    TaskPart { job: JobId(id), part: number, tasks: states.into_iter().map(task).collect() }
}

pub fn job_with_a_part() -> (JobSnapshot, TaskPart) {
    (job(1, LifeSnapshot::Running), part(1, 0))
}

fn engine() -> EngineSnapshot {
    let cordon = CordonSnapshot { worker: "w1".into(), drain: true, reason: "new disk".into(), at: Timestamp(4) };
    let pools = spool_proto::pool::PoolsState { version: 4, ..Default::default() };
    let judged = vec![
        ("w1".into(), WorkerHealth::Throttled { reason: "fast".into() }),
        ("w2".into(), WorkerHealth::Quarantined { reason: "fast".into(), since: Timestamp(4) }),
    ];
    EngineSnapshot { next_job: 9, next_fence: 77, cordons: vec![cordon], judged, pools }
}

/// Whole, and tidied up after.
async fn write<S: Store>(store: &mut S, mut checkpoint: Checkpoint) {
    while !store.checkpoint(&mut checkpoint).await.expect("checkpoint") {}
    assert!(checkpoint.bytes > 0);
    while store.tidy().await.expect("tidy") {}
}

async fn a_checkpoint_takes_the_place_of_the_turns_before_it<F: Factory>(factory: F) {
    let mut store = factory.open().await;
    store.load().await.expect("load");
    store.append(&[submitted(1)]).await.expect("append");
    let checkpoint = Checkpoint {
        jobs: vec![job(1, LifeSnapshot::Running), job(2, LifeSnapshot::Cancelling { reason: "why".into() })],
        parts: vec![part(1, 0), part(1, 1)],
        ..Checkpoint::new(store.mark(), engine())
    };
    write(&mut store, checkpoint).await;
    assert_eq!(store.mark().bytes, 0);
    store.append(&[submitted(3)]).await.expect("append");
    drop(store);
    let kept = factory.open().await.load().await.expect("load");
    assert_eq!(kept.engine, engine());
    let cancelling = LifeSnapshot::Cancelling { reason: "why".into() };
    assert_eq!(
        kept.jobs,
        [
            (job(1, LifeSnapshot::Running), vec![part(1, 0), part(1, 1)], Vec::new()),
            (job(2, cancelling), Vec::new(), Vec::new())
        ]
    );
    assert_eq!(kept.turns, [[submitted(3)]]);
}

async fn a_checkpoint_rewrites_only_what_it_is_given<F: Factory>(factory: F) {
    let mut store = factory.open().await;
    store.load().await.expect("load");
    store.append(&[submitted(1)]).await.expect("append");
    let first = Checkpoint {
        jobs: vec![job(1, LifeSnapshot::Queued), job(2, LifeSnapshot::Queued), job(3, LifeSnapshot::Queued)],
        parts: vec![part(1, 0), part(2, 0), part(3, 0)],
        ..Checkpoint::new(store.mark(), EngineSnapshot::default())
    };
    write(&mut store, first).await;
    let failure = Failure::new(Class::Input, "no_such_file", "gone");
    let mut rewritten = part(1, 0);
    rewritten.tasks.truncate(2);
    let second = Checkpoint {
        jobs: vec![job(1, LifeSnapshot::Failed { failure: failure.clone() })],
        parts: vec![rewritten.clone()],
        forgotten: vec![JobId(2)],
        ..Checkpoint::new(store.mark(), engine())
    };
    write(&mut store, second).await;
    drop(store);
    let kept = factory.open().await.load().await.expect("load");
    assert_eq!(kept.engine, engine());
    assert_eq!(
        kept.jobs,
        [
            (job(1, LifeSnapshot::Failed { failure }), vec![rewritten], Vec::new()),
            (job(3, LifeSnapshot::Queued), vec![part(3, 0)], Vec::new())
        ]
    );
    assert!(kept.turns.is_empty());
}

/// Turns come between its pieces; the process ends before its last one, then before it is tidied up after.
async fn a_checkpoint_counts_once_it_is_whole<F: Factory>(factory: F) {
    let queued = |id| job(id, LifeSnapshot::Queued);
    let mut store = factory.open().await;
    store.load().await.expect("load");
    store.append(&[submitted(1)]).await.expect("append");
    let first = Checkpoint {
        jobs: vec![queued(1), queued(2)],
        parts: vec![part(1, 0), part(2, 0)],
        ..Checkpoint::new(store.mark(), EngineSnapshot::default())
    };
    write(&mut store, first).await;
    store.append(&[submitted(3)]).await.expect("append");
    let mut rewritten = part(1, 0);
    rewritten.tasks.truncate(2);
    let second = Checkpoint {
        jobs: vec![job(1, LifeSnapshot::Running)],
        parts: vec![rewritten.clone()],
        forgotten: vec![JobId(2)],
        ..Checkpoint::new(store.mark(), engine())
    };
    assert!(!store.checkpoint(&mut second.clone()).await.expect("a piece"));
    store.append(&[submitted(4)]).await.expect("append");
    drop(store);

    let mut store = factory.open().await;
    let kept = store.load().await.expect("load");
    assert_eq!(kept.jobs, [(queued(1), vec![part(1, 0)], Vec::new()), (queued(2), vec![part(2, 0)], Vec::new())]);
    assert_eq!(kept.turns, [[submitted(3)], [submitted(4)]]);
    while store.tidy().await.expect("tidy") {}
    let mut again = Checkpoint { mark: store.mark(), ..second };
    assert!(!store.checkpoint(&mut again).await.expect("a piece"));
    store.append(&[submitted(5)]).await.expect("append");
    while !store.checkpoint(&mut again).await.expect("checkpoint") {}
    assert!(store.mark().bytes > 0, "the last turn is not in it");
    drop(store);

    for _ in 0..2 {
        let mut store = factory.open().await;
        let kept = store.load().await.expect("load");
        assert_eq!(kept.engine, engine());
        assert_eq!(kept.jobs, [(job(1, LifeSnapshot::Running), vec![rewritten.clone()], Vec::new())]);
        assert_eq!(kept.turns, [[submitted(5)]]);
        while store.tidy().await.expect("tidy") {}
    }
}

async fn a_large_checkpoint_is_written_in_pieces<F: Factory>(factory: F) {
    let mut store = factory.open().await;
    store.load().await.expect("load");
    for turn in 0..200 {
        store.append(&[submitted(turn)]).await.expect("append");
    }
    let jobs: Vec<_> = (1..=300).map(|id| job(id, LifeSnapshot::Queued)).collect();
    let parts: Vec<_> = (1..=300).flat_map(|id| [part(id, 0), part(id, 1)]).collect();
    let mut checkpoint = Checkpoint {
        jobs: jobs.clone(),
        parts,
        forgotten: vec![JobId(400)],
        ..Checkpoint::new(store.mark(), EngineSnapshot::default())
    };
    let mut pieces = 0;
    while !store.checkpoint(&mut checkpoint).await.expect("checkpoint") {
        pieces += 1;
        store.append(&[submitted(1000 + pieces)]).await.expect("append");
    }
    assert!(pieces > 2, "{pieces} pieces");
    assert!(checkpoint.jobs.is_empty() && checkpoint.parts.is_empty() && checkpoint.forgotten.is_empty());
    assert!(store.tidy().await.expect("tidy"));
    drop(store);
    let kept = factory.open().await.load().await.expect("load");
    let whole = |job: JobSnapshot| (job.clone(), vec![part(job.job.0, 0), part(job.job.0, 1)], Vec::new());
    assert_eq!(kept.jobs, jobs.into_iter().map(whole).collect::<Vec<_>>());
    assert_eq!(kept.turns, (1..=pieces).map(|piece| vec![submitted(1000 + piece)]).collect::<Vec<_>>());
}

/// One part is written anew, the others stay; then the job is forgotten.
async fn what_a_reactive_job_keeps_is_written_in_parts<F: Factory>(factory: F) {
    let mut store = factory.open().await;
    store.load().await.expect("load");
    store.append(&[submitted(1)]).await.expect("append");
    let blob = |text: &str| Blob::from(text.as_bytes());
    let signal = |number| Signal {
        number,
        name: "go".into(),
        dedupe: format!("id {number}").into(),
        payload: blob("payload"),
        at: Timestamp(number),
    };
    let reaction = ReactionSnapshot {
        wake: Some(Timestamp(8)),
        rests: true,
        retries_asked: 2,
        cancelling: vec![1, 4],
        history: HistorySnapshot { log: 3, last_signal: 9, signals: 1, ids: 9 },
    };
    let mut reactive = job(1, LifeSnapshot::Finishing { output: blob("film") });
    reactive.new.reactive = true;
    reactive.reaction = reaction;
    let piece = |part, entries| HistoryPart { job: JobId(1), part, entries };
    let log = |part, entry: &str| piece(part, HistoryEntries::Log(vec![blob(entry), blob("")]));
    let signals = piece(255, HistoryEntries::Signals(vec![signal(9)]));
    let ids = piece(0, HistoryEntries::Ids(vec!["a".into(), "b".into()]));
    let first = Checkpoint {
        jobs: vec![reactive.clone()],
        parts: vec![part(1, 0)],
        history: vec![log(0, "old"), log(1, "later"), signals.clone(), ids.clone()],
        ..Checkpoint::new(store.mark(), EngineSnapshot::default())
    };
    write(&mut store, first).await;
    let second =
        Checkpoint { history: vec![log(0, "new")], ..Checkpoint::new(store.mark(), EngineSnapshot::default()) };
    write(&mut store, second).await;
    drop(store);
    let mut store = factory.open().await;
    let kept = store.load().await.expect("load");
    assert_eq!(kept.jobs, [(reactive, vec![part(1, 0)], vec![log(0, "new"), log(1, "later"), signals, ids])]);
    let gone = Checkpoint { forgotten: vec![JobId(1)], ..Checkpoint::new(store.mark(), EngineSnapshot::default()) };
    store.append(&[submitted(2)]).await.expect("append");
    write(&mut store, gone).await;
    drop(store);
    assert_eq!(factory.open().await.load().await.expect("load").jobs, []);
}

fn archived(id: u64, state: JobState, request_id: &str) -> ArchivedJob {
    let task = TaskId { job: JobId(id), index: 0 };
    let failure = (state == JobState::Failed).then(|| Failure::new(Class::Input, "no_such_file", "gone"));
    let view = TaskView {
        task,
        function: "media.encode".into(),
        phase: "encoding".into(),
        label: "chunk 0".into(),
        state: TaskState::Done,
        attempt: 2,
        worker: Some("w1".into()),
        started: Some(Timestamp(3)),
        finished: Some(Timestamp(4)),
        frames: 5,
        bytes: 6,
        resources: Resources::cpu_memory(1_000, 2),
        failure: failure.clone(),
        answer: Some(serde_json::json!({"value": {"kind": "noop"}})),
    };
    let view = JobView {
        labels: [("number".to_owned(), id.to_string()), ("a.b".to_owned(), "x".to_owned())].into(),
        notify: None,
        part_of: None,
        job: JobId(id),
        name: "name".into(),
        service: "video-encode".into(),
        state,
        phase: state.name().into(),
        priority: 50,
        pool: spool_proto::pool::PoolName::default(),
        class: spool_proto::pool::Class::Standard,
        deadline: None,
        submitted: Timestamp(1),
        started: Some(Timestamp(2)),
        finished: Some(Timestamp(10 + id)),
        phases: Vec::new(),
        progress: Progress::default(),
        warnings: Vec::new(),
        failure: failure.clone(),
        output: Some(serde_json::json!({"frames": 7})),
        spec: serde_json::json!({}),
        tasks: vec![view],
    };
    let row = AttemptRow {
        task,
        fence: Fence(3),
        attempt: 1,
        worker: "w1".into(),
        started: Timestamp(2),
        finished: Timestamp(3),
        failure,
    };
    let line = LogLine {
        at: Timestamp(2),
        task: Some(task),
        attempt: Some(1),
        worker: Some("w1".into()),
        level: "info".into(),
        text: "started".into(),
    };
    let plain = LogLine { at: Timestamp(1), task: None, attempt: None, worker: None, ..line.clone() };
    ArchivedJob {
        view,
        request_id: request_id.into(),
        attempts: vec![row],
        events: vec![plain, line],
        history: vec![Blob::from(&b"one"[..]), Blob::from(&b"two"[..])],
    }
}

async fn the_archive_gives_back_what_it_got<F: Factory>(factory: F) {
    let mut store = factory.open().await;
    let failed = archived(5, JobState::Failed, "r5");
    store.archive(failed.clone()).await.expect("archive");
    let archive = store.reader();
    assert_eq!(archive.get(JobId(5), false).await.expect("get"), Some(failed.view.clone()));
    let brief = archive.get(JobId(5), true).await.expect("get").expect("it is there");
    assert_eq!(brief, JobView { tasks: Vec::new(), ..failed.view });
    assert_eq!(archive.get(JobId(6), true).await.expect("get"), None);
    assert_eq!(archive.logs(JobId(5)).await.expect("logs"), failed.events);
    // Retried, and ended otherwise.
    let done = archived(5, JobState::Done, "r5");
    store.archive(done.clone()).await.expect("archive");
    drop((store, archive));
    let archive = factory.open().await.reader();
    assert_eq!(archive.get(JobId(5), false).await.expect("get"), Some(done.view));
    assert_eq!(archive.find_request("r5").await.expect("find"), Some(JobId(5)));
    assert_eq!(archive.find_request("r6").await.expect("find"), None);
    let pages = archive.history(JobId(5)).await.expect("history");
    assert_eq!(pages, [Blob::from(&b"one"[..]), Blob::from(&b"two"[..])]);
    assert_eq!(archive.history(JobId(6)).await.expect("history"), []);
}

async fn the_archive_lists_newest_first<F: Factory>(factory: F) {
    let mut store = factory.open().await;
    for id in 1..=5 {
        let state = if id % 2 == 0 { JobState::Failed } else { JobState::Done };
        // Jobs without a request id are never mistaken for each other.
        store.archive(archived(id, state, "")).await.expect("archive");
    }
    let archive = store.reader();
    let list = async |states: &[JobState], before: Option<u64>, limit| {
        let filter = JobFilter { states: states.to_vec(), before: before.map(JobId), limit, ..JobFilter::default() };
        let views = archive.list(&filter).await.expect("list");
        assert!(views.iter().all(|view| view.tasks.is_empty()));
        views.iter().map(|view| view.job.0).collect::<Vec<_>>()
    };
    assert_eq!(list(&[], None, 3).await, [5, 4, 3]);
    assert_eq!(list(&[], Some(3), 9).await, [2, 1]);
    assert_eq!(list(&[JobState::Failed], None, 9).await, [4, 2]);
    assert_eq!(list(&[JobState::Failed, JobState::Done], Some(2), 9).await, [1]);
    assert!(list(&[JobState::Cancelled], None, 9).await.is_empty());
    let labelled = async |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let filter = JobFilter { states: Vec::new(), before: None, limit: 9, labels, parts: true };
        archive.list(&filter).await.expect("list").iter().map(|view| view.job.0).collect::<Vec<_>>()
    };
    assert_eq!(labelled(&[("a.b", "x")]).await, [5, 4, 3, 2, 1]);
    assert_eq!(labelled(&[("a.b", "x"), ("number", "3")]).await, [3]);
    assert!(labelled(&[("a.b", "3")]).await.is_empty() && labelled(&[("number", "3"), ("a.b", "y")]).await.is_empty());
    assert_eq!(archive.find_request("").await.expect("find"), None);
}
