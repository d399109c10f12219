//! What gets a call of a function killed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Pid;
use spool_proto::failure::{Class, Failure};
use tokio::sync::oneshot;

use super::run::One;
use super::started::not_started;
use super::tree::{ENTRIES_MAX, PROCESSES_MAX, THREADS_MAX, Usage, bytes_below};
use crate::executor::{Limits, Pulse};

/// Between two looks at what a call uses.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Looks between two at its scratch.
const SCRATCH_EVERY: u32 = 20;

/// Of the thread that counts processes, where this user may have it: it must get its turn among as many as there are.
const FIRST_PRIORITY: i32 = -20;
/// Processes of one call from which on all of them yield to everything else on the machine: whoever forks without end would else have the
/// cores to itself before it is counted.
const MANY: usize = 16;
const LOWEST_PRIORITY: i32 = 19;

fn capacity(code: &str, text: String) -> Failure {
    Failure::new(Class::Capacity, code, text)
}

/// Comes back when the call must be killed: why. `root` leads the group of its processes, if they are known.
pub async fn watch_limits(root: Option<Pid>, one: &One<'_>, pulse: &Pulse) -> Failure {
    let crowd = async {
        match root {
            Some(root) => Crowd::watch(root, &one.args.name, one.limits.memory_mib).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        failure = crowd => failure,
        failure = watch_time_and_scratch(one, pulse) => failure,
    }
}

async fn watch_time_and_scratch(one: &One<'_>, pulse: &Pulse) -> Failure {
    let Limits { timeout, no_progress, scratch_mib, .. } = one.limits;
    let name = &one.args.name;
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

/// Processes of a call, counted on a thread of its own while this is kept.
struct Crowd {
    /// Whether the group is still the call's: later its number may be another's.
    here: Arc<Mutex<bool>>,
}

impl Crowd {
    /// Comes back when they are too many, or take too much.
    async fn watch(root: Pid, name: &str, memory_mib: u64) -> Failure {
        let crowd = Crowd { here: Arc::new(Mutex::new(true)) };
        let (say, said) = oneshot::channel();
        let mut say = Some(say);
        let (here, name) = (Arc::clone(&crowd.here), name.to_owned());
        let thread = std::thread::Builder::new().name("spool-crowd".into());
        let begun = thread.spawn(move || {
            let _not_permitted = rustix::process::setpriority_process(None, FIRST_PRIORITY);
            let make_yield = || {
                let _gone_already = rustix::process::setpriority_pgrp(Some(root), LOWEST_PRIORITY);
            };
            loop {
                std::thread::sleep(LOOK_EVERY);
                let here = here.lock().unwrap_or_else(PoisonError::into_inner);
                if !*here {
                    return;
                }
                // Until whoever kills them has heard of it, each look makes them yield once more.
                if let Some(failure) = exceeded(Usage::of(root, (MANY, make_yield)), &name, memory_mib)
                    && let Some(say) = say.take()
                {
                    let _nobody_waits = say.send(failure);
                }
            }
        });
        match begun {
            Ok(_) => said.await.unwrap_or_else(|_| not_started("a thread", &"it ended")),
            Err(error) => not_started("a thread", &error),
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        *self.here.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

fn exceeded(usage: Usage, name: &str, memory_mib: u64) -> Option<Failure> {
    if usage.is_too_many() {
        let text = format!("{name} started more than {PROCESSES_MAX} processes, or {THREADS_MAX} threads, at one time");
        return Some(capacity("too_many_processes", text));
    }
    (memory_mib > 0 && usage.memory > memory_mib << 20).then(|| {
        let text = format!(
            "{name} took {} MiB of memory, more than the {memory_mib} MiB declared (resources.memory in its manifest)",
            usage.memory >> 20
        );
        capacity("memory_exceeded", text)
    })
}
