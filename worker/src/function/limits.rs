//! What gets a call of a function killed.

use std::time::Duration;

use rustix::process::Pid;
use spool_proto::failure::{Class, Failure};

use super::run::One;
use super::tree::{ENTRIES_MAX, PROCESSES_MAX, THREADS_MAX, Usage, bytes_below};
use crate::executor::{Limits, Pulse};

/// Between two looks at what a call uses.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Looks between two at its scratch.
const SCRATCH_EVERY: u32 = 20;

/// Comes back when the call must be killed: why.
pub async fn watch_limits(root: Option<Pid>, one: &One<'_>, pulse: &Pulse) -> Failure {
    let Limits { timeout, no_progress, memory_mib, scratch_mib } = one.limits;
    let (name, capacity) = (&one.args.name, |code: &str, text| Failure::new(Class::Capacity, code, text));
    let mut looks: u32 = 0;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        looks = looks.wrapping_add(1);
        if !timeout.is_zero() && pulse.elapsed() >= timeout {
            let text = format!("{name} ran longer than its {:.1} s (timeout in its manifest)", timeout.as_secs_f64());
            return capacity("timed_out", text);
        }
        if !no_progress.is_zero() && pulse.silence() >= no_progress {
            let text = format!("{name} said nothing of progress for {:.1} s", no_progress.as_secs_f64());
            return Failure::new(Class::Internal, "no_progress", text);
        }
        if let Some(root) = root {
            let usage = crate::blocking(move || Usage::of(root)).await;
            if usage.is_too_many() {
                let text = format!(
                    "{name} started more than {PROCESSES_MAX} processes, or {THREADS_MAX} threads, at one time"
                );
                return capacity("too_many_processes", text);
            }
            if memory_mib > 0 && usage.memory > memory_mib << 20 {
                let text = format!(
                    "{name} took {} MiB of memory, more than the {memory_mib} MiB declared (resources.memory in its manifest)",
                    usage.memory >> 20
                );
                return capacity("memory_exceeded", text);
            }
        }
        if scratch_mib > 0 && looks.is_multiple_of(SCRATCH_EVERY) {
            let place = one.place.to_owned();
            let used = crate::blocking(move || bytes_below(&place)).await;
            if used.is_none_or(|used| used > scratch_mib << 20) {
                let text = format!(
                    "{name} left more in its scratch than the {scratch_mib} MiB declared (resources.scratch in its manifest), or more \
                     than {ENTRIES_MAX} files"
                );
                return capacity("scratch_exceeded", text);
            }
        }
    }
}
