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
