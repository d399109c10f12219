//! What executors stand warm for: asked by the server, told to it as it changes. And the test of what they can do.

use std::collections::BTreeMap;
use std::time::Duration;

use spool_proto::failure::{Class, Failure};
use spool_proto::wire::v1;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::Agent;
use crate::executor::{Executor, ExecutorOptions, Executors, GOLDEN_WITHIN, Target, WarmKey};
use crate::function::is_backend;

/// Between two reports at least.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// When there is something to tell of warm executors, and what.
#[derive(Debug)]
pub struct WarmTelling {
    executors: Executors,
    changes: watch::Receiver<()>,
    /// What the server knows. `None`: nothing yet.
    told: Option<BTreeMap<WarmKey, u32>>,
    last: Option<Instant>,
    /// Something may have changed; it is looked at then.
    look_at: Option<Instant>,
    /// It is to be looked at now.
    is_due: bool,
}

impl WarmTelling {
    pub fn of(executors: &Executors) -> WarmTelling {
        let changes = executors.changes();
        WarmTelling { executors: executors.clone(), changes, told: None, last: None, look_at: None, is_due: false }
    }

    /// A new stream: its server knows nothing.
    pub fn anew(&mut self) {
        self.told = None;
        self.is_due = true;
    }

    /// Waits until there may be something to tell. Cancel safe.
    pub async fn due(&mut self) {
        while !self.is_due {
            match self.look_at {
                Some(when) => {
                    tokio::time::sleep_until(when).await;
                    self.is_due = true;
                    return;
                }
                None if self.changes.changed().await.is_ok() => {
                    let now = Instant::now();
                    self.look_at = Some(self.last.map_or(now, |last| now.max(last + REPORT_EVERY)));
                }
                None => break,
            }
        }
        // Until it is told.
        std::future::pending().await
    }

    /// What to tell now, if anything. `send` false: it could not be sent, and is to be told later.
    pub fn tell(&mut self, send: impl FnOnce(v1::WarmReport) -> bool) {
        if !self.is_due {
            return;
        }
        self.changes.mark_unchanged();
        let warm = self.executors.warm();
        if self.told.as_ref() != Some(&warm) {
            let idle = warm.iter().map(|(key, idle)| v1::WarmIdle { key: key.to_string(), idle: *idle }).collect();
            if !send(v1::WarmReport { idle }) {
                return;
            }
            self.told = Some(warm);
        }
        (self.is_due, self.look_at, self.last) = (false, None, Some(Instant::now()));
    }
}

impl Agent {
    pub(super) fn aim(&self, targets: v1::WarmTargets) {
        let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let target = |target: v1::WarmTarget| Target {
            key: target.key.into(),
            min: count(target.min),
            max: count(target.max),
            idle_timeout: Duration::from_micros(target.idle_timeout_us),
        };
        self.runner.executors.aim(targets.targets.into_iter().map(target).collect());
    }

    /// One at a time: who asks again meanwhile gets the answer of the first.
    pub(super) fn self_test(&mut self) {
        if self.self_tests.is_empty() {
            let options = self.runner.executors.options().clone();
            let backends = self.identity.backends.clone();
            self.self_tests.spawn(async move {
                let failure = prove_anew(&options, &backends).await.err();
                match &failure {
                    None => tracing::info!(?backends, "self-test passed"),
                    Some(failure) => tracing::error!(%failure, evidence = failure.evidence, "self-test failed"),
                }
                v1::SelfTested { failure: failure.as_ref().map(Into::into) }
            });
        }
    }

    pub(super) fn self_tested(&mut self, tested: Result<v1::SelfTested, JoinError>) {
        self.self_tested = Some(tested.unwrap_or_else(|error| {
            let text = format!("the worker itself failed at its self-test: {error}");
            v1::SelfTested { failure: Some((&Failure::new(Class::Internal, "worker_panicked", text)).into()) }
        }));
    }
}

/// Each in a process that has done nothing else, one after the other: what runs goes on beside one more process, no more.
async fn prove_anew(options: &ExecutorOptions, backends: &[String]) -> Result<(), Failure> {
    for backend in backends.iter().filter(|backend| !is_backend(backend)) {
        let mut executor = Executor::spawn(options).await?;
        let proved = executor.golden(backend, GOLDEN_WITHIN).await;
        executor.kill().await;
        proved?;
    }
    Ok(())
}
