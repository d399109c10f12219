//! Following a job until it is final, or until the user has seen enough.

use std::time::{Duration, Instant};

use spool_proto::view::{JobState, JobView};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::Client;
use crate::exit::{Exit, Stop};
use crate::progress::Progress;

/// A server may be gone this long (a restart) before following it ends.
const GONE_AT_MOST: Duration = Duration::from_secs(60);
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Nothing runs and nothing changes for this long: the user is told why.
const QUIET: Duration = Duration::from_secs(2);

/// Who may come to run a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fleet {
    /// Workers come and go: a job that fits none of them waits.
    Open,
    /// This process's own worker and no other: what does not fit it never will.
    Alone,
}

/// Ctrl-C and SIGTERM. While this lives they do not end the process by themselves.
#[derive(Debug)]
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    pub fn listen() -> anyhow::Result<Interrupts> {
        Ok(Interrupts { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The next one. Cancel safe.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// How following ended.
#[derive(Debug)]
pub enum End {
    Final(Box<JobView>),
    Interrupted,
}

/// Shows `job` until it is final. A server that goes away is asked again for a while.
///
/// # Errors
/// What the server refuses, exit 4 when it stays away, and exit 1 for a job that no worker of a closed fleet can run.
pub async fn follow(
    client: &Client,
    job: &str,
    fleet: Fleet,
    progress: &mut Progress,
    interrupts: &mut Interrupts,
) -> anyhow::Result<End> {
    let mut gone_since: Option<Instant> = None;
    loop {
        let seen = tokio::select! {
            seen = follow_one_stream(client, job, fleet, progress, &mut gone_since) => seen,
            () = interrupts.next() => return Ok(End::Interrupted),
        };
        match seen {
            Ok(Some(job)) => return Ok(End::Final(Box::new(job))),
            // The stream ended early: the server went down in order.
            Ok(None) => {}
            Err(error) if is_unreachable(&error) => {
                let since = *gone_since.get_or_insert_with(|| {
                    progress.say("the server is gone; the job goes on when it is back. Trying again …");
                    Instant::now()
                });
                if since.elapsed() > GONE_AT_MOST {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = tokio::time::sleep(TRY_AGAIN_AFTER) => {}
            () = interrupts.next() => return Ok(End::Interrupted),
        }
    }
}

async fn follow_one_stream(
    client: &Client,
    job: &str,
    fleet: Fleet,
    progress: &mut Progress,
    gone_since: &mut Option<Instant>,
) -> anyhow::Result<Option<JobView>> {
    let mut watch = client.watch(job).await?;
    let mut runs = false;
    let mut told = String::new();
    loop {
        let Ok(seen) = tokio::time::timeout(QUIET, watch.next()).await else {
            if !runs {
                tell_why_it_waits(client, job, fleet, progress, &mut told).await?;
            }
            continue;
        };
        let Some(view) = seen? else { return Ok(None) };
        *gone_since = None;
        progress.show(&view);
        if view.state.is_final() {
            return Ok(Some(view));
        }
        runs = view.phases.last().is_some_and(|phase| phase.running > 0);
    }
}

/// Says what the job waits for, each reason once.
async fn tell_why_it_waits(
    client: &Client,
    job: &str,
    fleet: Fleet,
    progress: &Progress,
    told: &mut String,
) -> anyhow::Result<()> {
    let why = client.explain(job).await?;
    if fleet == Fleet::Alone && matches!(why.reason.as_str(), "never_fits" | "no_such_backend") {
        client.cancel(job, &why.text).await?;
        return Err(Stop::with(Exit::JobFailed, format!("this machine cannot run the job: {}", why.text)));
    }
    if *told != why.reason {
        progress.say(&format!("{job} waits: {}", why.text));
        *told = why.reason;
    }
    Ok(())
}

fn is_unreachable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Stop>().is_some_and(|stop| stop.exit == Exit::Unreachable)
}

/// The exit code a final job stands for.
pub fn exit_of(job: &JobView) -> Exit {
    if job.state == JobState::Done { Exit::Done } else { Exit::JobFailed }
}
