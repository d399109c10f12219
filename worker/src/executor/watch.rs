//! What gets a call killed: its time is over, it makes no progress, or it takes more memory than it declared.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use spool_proto::failure::{Class, Failure};

/// Between two looks at a call. A call can pass a limit for this long before it is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Between two signs of life of what the worker does for a call. Below any limit that is not a test's.
const BEAT_EVERY: Duration = Duration::from_millis(250);

/// Limits of one call. Zero: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    pub timeout: Duration,
    pub no_progress: Duration,
    /// Resident memory, MiB.
    pub memory_mib: u64,
    /// One file, MiB. The kernel's to hold, not the watch's.
    pub scratch_mib: u64,
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Advance {
    pub frames: u64,
    pub bytes: u64,
    pub out_time_us: u64,
}

/// When a call was last heard of. Shared between the conversation and the watch.
#[derive(Debug)]
pub struct Pulse {
    start: Instant,
    /// Microseconds after `start`.
    heard: AtomicU64,
}

impl Pulse {
    pub fn new() -> Pulse {
        Pulse { start: Instant::now(), heard: AtomicU64::new(0) }
    }

    /// Progress was made.
    pub fn beat(&self) {
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.heard.store(now, Ordering::Relaxed);
    }

    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn silence(&self) -> Duration {
        self.elapsed().saturating_sub(Duration::from_micros(self.heard.load(Ordering::Relaxed)))
    }
}

/// Waits for what is the worker's own to do: the call itself is not to blame for how long that takes.
pub async fn beating<T>(pulse: &Pulse, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    loop {
        let done = tokio::time::timeout(BEAT_EVERY, &mut work).await;
        pulse.beat();
        if let Ok(done) = done {
            return done;
        }
    }
}

/// Comes back when the call must be killed: why.
pub async fn watch(pid: Option<Pid>, limits: Limits, pulse: &Pulse) -> Failure {
    loop {
        tokio::time::sleep(LOOK_EVERY.min(next_deadline(limits, pulse))).await;
        if !limits.timeout.is_zero() && pulse.elapsed() >= limits.timeout {
            let text = format!(
                "the call ran longer than its {:.1} s; submit the job with shorter chunks, or run it on a faster machine",
                limits.timeout.as_secs_f64()
            );
            return Failure::new(Class::Capacity, "timed_out", text);
        }
        if !limits.no_progress.is_zero() && pulse.silence() >= limits.no_progress {
            let text = format!("the call made no progress for {:.1} s", limits.no_progress.as_secs_f64());
            return Failure::new(Class::Internal, "no_progress", text);
        }
        if limits.memory_mib > 0
            && let Some(resident) = pid.and_then(resident_bytes)
            && resident > limits.memory_mib << 20
        {
            let text = format!(
                "the call took {} MiB of memory, more than the {} MiB declared",
                resident >> 20,
                limits.memory_mib
            );
            return Failure::new(Class::Capacity, "memory_exceeded", text);
        }
    }
}

/// Never zero, so that the watch cannot spin.
fn next_deadline(limits: Limits, pulse: &Pulse) -> Duration {
    let left =
        |limit: Duration, used: Duration| if limit.is_zero() { Duration::MAX } else { limit.saturating_sub(used) };
    left(limits.timeout, pulse.elapsed()).min(left(limits.no_progress, pulse.silence())).max(Duration::from_millis(1))
}

/// Resident memory of a process; `None` when it is gone.
pub fn resident_bytes(pid: Pid) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", pid.as_raw_nonzero())).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(u64::try_from(rustix::param::page_size()).expect("a page size fits u64")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_is_seen() {
        let resident = resident_bytes(rustix::process::getpid()).unwrap();
        assert!((1 << 20..1 << 40).contains(&resident), "{resident}");
    }

    #[tokio::test]
    async fn limits_name_themselves() {
        let ms = Duration::from_millis;
        let cases = [
            (Limits { timeout: ms(20), ..Limits::default() }, Class::Capacity, "timed_out"),
            (Limits { no_progress: ms(20), timeout: ms(60_000), ..Limits::default() }, Class::Internal, "no_progress"),
            (Limits { memory_mib: 1, ..Limits::default() }, Class::Capacity, "memory_exceeded"),
        ];
        for (limits, class, code) in cases {
            let failure = watch(Some(rustix::process::getpid()), limits, &Pulse::new()).await;
            assert_eq!((failure.class, failure.code.as_str()), (class, code));
        }
    }

    #[tokio::test]
    async fn a_beating_call_is_left_alone() {
        let pulse = Pulse::new();
        let limits = Limits { no_progress: Duration::from_millis(200), ..Limits::default() };
        let beats = async {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                pulse.beat();
            }
        };
        tokio::select! {
            failure = watch(None, limits, &pulse) => panic!("{failure}"),
            () = beats => {}
        }
    }
}
