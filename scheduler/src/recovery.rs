//! From what the store kept to a running engine.

use spool_core::config::Config;
use spool_core::engine::Engine;

use crate::store::{Store, StoreError};

/// The engine as it was after the last durable turn. The run loop resumes it.
///
/// # Errors
/// When the store cannot be read, or what it kept contradicts itself.
pub async fn recover<S: Store>(store: &mut S, config: Config) -> Result<Engine, StoreError> {
    let kept = store.load().await?;
    let damaged = |e: spool_core::Illegal| StoreError::Damaged(e.to_string());
    let mut engine = Engine::new(config);
    if kept.engine.next_job > 0 {
        engine.restore(kept.engine);
    }
    for (job, parts, history) in kept.jobs {
        engine.restore_job(job, parts, history).map_err(damaged)?;
    }
    // What was restored is what the checkpoint holds; only the turns since are news to the next one.
    engine.checkpointed();
    for record in kept.turns.iter().flatten() {
        engine.replay(record).map_err(damaged)?;
    }
    Ok(engine)
}

#[cfg(test)]
mod tests {
    use spool_core::io::{Blob, Effect, Group, Input, NewJob, NewTask, Next, Record, Shape, Step, TaskRun, Token};
    use spool_proto::ids::JobId;
    use spool_proto::resources::Resources;
    use spool_proto::time::{Span, Timestamp};

    use super::*;
    use crate::store::{Checkpoint, SqliteStore};

    const JOB: JobId = JobId(1);

    async fn tell(engine: &mut Engine, store: &mut SqliteStore, input: Input) {
        let mut out = Vec::new();
        engine.handle(Timestamp(1_000_000), input, &mut out);
        let records: Vec<Record> = out
            .into_iter()
            .filter_map(|effect| if let Effect::Record(record) = effect { Some(record) } else { None })
            .collect();
        store.append(&records).await.expect("append");
    }

    async fn step(engine: &mut Engine, store: &mut SqliteStore, step: Step) {
        tell(engine, store, Input::Advance { job: JOB, next: Next::Step(step) }).await;
    }

    async fn checkpoint(engine: &mut Engine, store: &mut SqliteStore) {
        let mut checkpoint = Checkpoint::take(store.mark(), engine);
        while !store.checkpoint(&mut checkpoint).await.expect("checkpoint") {}
        while store.tidy().await.expect("tidy") {}
    }

    fn entry(text: &str) -> Step {
        Step { log: Some(Blob::from(text.as_bytes())), ..Step::default() }
    }

    /// Through a file: checkpoints with a long log, then with a short one over it, and turns behind each.
    #[tokio::test]
    async fn a_reactive_job_comes_back_with_its_log_its_signals_and_its_alarm() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = folder.path().join("spool.db");
        let mut store = SqliteStore::open(&file).await.expect("open");
        let mut engine = recover(&mut store, Config::default()).await.expect("nothing yet");
        let new = NewJob { reactive: true, ..NewJob::new("rules", Blob::from(&b"{}"[..])) };
        tell(&mut engine, &mut store, Input::Submit { token: Token(1), job: new }).await;
        let shape = Shape {
            function: "media.encode".into(),
            backend: String::new(),
            resources: Resources::cpu_memory(1_000, 1),
            timeout: Span::ZERO,
            no_progress: Span::ZERO,
        };
        let payload = Blob::from(&b"{}"[..]);
        let task = NewTask { shape, label: String::new(), payload, weight: 0, max_attempts: Some(2) };
        let group = Group { name: "encoding".into(), tasks: vec![TaskRun { count: 3, task }] };
        step(&mut engine, &mut store, Step { groups: vec![group], ..entry("first") }).await;
        for number in 0..200 {
            step(&mut engine, &mut store, entry(&number.to_string())).await;
        }
        checkpoint(&mut engine, &mut store).await;
        for number in 0..100 {
            let (name, dedupe, payload) = ("go".into(), format!("id {number}"), Blob::from(&b"on"[..]));
            tell(&mut engine, &mut store, Input::Signal { token: Token(2), job: JOB, name, dedupe, payload }).await;
        }
        step(&mut engine, &mut store, Step { snapshot: true, signals_taken: 30, ..entry("all") }).await;
        for round in 0..2 {
            let wake = Some(Timestamp(9_000_000 + round));
            step(&mut engine, &mut store, Step { cancel: vec![1], wake, ..entry("more") }).await;
            drop(store);
            store = SqliteStore::open(&file).await.expect("open again");
            let mut again = recover(&mut store, Config::default()).await.expect("recovered");
            assert_eq!(again.job_snapshot(JOB), engine.job_snapshot(JOB));
            assert_eq!((again.history(JOB), again.task_part(JOB, 0)), (engine.history(JOB), engine.task_part(JOB, 0)));
            let job = again.job(JOB).expect("it is there");
            assert_eq!((job.signals().len(), job.wake()), (70, wake));
            assert_eq!(job.log().first(), Some(&Blob::from(&b"all"[..])));
            let mut out = Vec::new();
            again.resume(Timestamp(2_000_000), &mut out);
            assert!(out.contains(&Effect::Advance { job: JOB }), "its workflow is asked again");
            again.check_invariants();
            engine = again;
            checkpoint(&mut engine, &mut store).await;
        }
    }
}
