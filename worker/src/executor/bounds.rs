//! What the kernel holds an executor to while it runs a batch, set by its worker from outside (prlimit(2)): the executor's own filter
//! lets it ask for its limits, not set them.
//!
//! The watch kills by resident memory, time and progress, and says it better; it looks four times a second. These are for what
//! happens between two looks, and for a watch that itself does not get to run: they are wider.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use spool_proto::failure::{Class, Failure};

use super::watch::Limits;
use crate::transfer::free_bytes;

/// Memory beyond twice what was declared: what a process has before it decodes anything.
const MEMORY_BASE: u64 = 1 << 30;
/// Memory for each core of the machine: stacks of threads count whole, 8 MiB each, however little of them is touched.
const MEMORY_A_CORE: u64 = 64 << 20;
/// Share of the free disk that no file of an executor gets to fill.
const DISK_LEFT: u64 = 16;
/// Processor time beyond what all cores give in the call's time.
const CPU_SPARE: Duration = Duration::from_secs(60);

/// What Rust says before it aborts for want of memory.
const NO_MEMORY: &str = "memory allocation of ";

/// Bounds of one executor. A soft limit each; what the executor starts with stays its hard one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of memory of its own, touched or not (`RLIMIT_DATA`).
    memory: Option<u64>,
    /// Bytes of one file (`RLIMIT_FSIZE`).
    file: Option<u64>,
    /// Seconds of processor time since it was started (`RLIMIT_CPU`).
    cpu_s: Option<u64>,
}

impl Bounds {
    /// For calls with these limits that write to `scratch`, by an executor that has used so much processor time.
    pub fn of(limits: Limits, calls: u32, scratch: Option<&Path>, used: Duration, cores: u64) -> Bounds {
        let memory = (limits.memory_mib > 0).then(|| {
            let declared = limits.memory_mib.saturating_mul(1 << 20);
            declared.saturating_mul(2).saturating_add(MEMORY_BASE).saturating_add(cores.saturating_mul(MEMORY_A_CORE))
        });
        let room = scratch.and_then(|scratch| free_bytes(scratch).ok()).map(|free| free - free / DISK_LEFT);
        let declared = (limits.scratch_mib > 0).then(|| limits.scratch_mib.saturating_mul(1 << 20));
        let file = room.into_iter().chain(declared).min();
        let cpu_s = (!limits.timeout.is_zero()).then(|| {
            let calls = limits.timeout.as_secs().saturating_add(1).saturating_mul(calls.into());
            (used + CPU_SPARE).as_secs().saturating_add(calls.saturating_mul(cores.max(1)))
        });
        Bounds { memory, file, cpu_s }
    }

    /// Holds a process to them. Best effort, as the watch is there.
    pub fn set(self, pid: Pid) {
        for (resource, most) in
            [(Resource::Data, self.memory), (Resource::Fsize, self.file), (Resource::Cpu, self.cpu_s)]
        {
            // The executor inherited this process's hard limit, and nobody changed it since.
            let maximum = getrlimit(resource).maximum;
            let current = match (most, maximum) {
                (Some(most), Some(maximum)) => Some(most.min(maximum)),
                (most, maximum) => most.or(maximum),
            };
            if let Err(error) = prlimit(Some(pid), resource, Rlimit { current, maximum }) {
                tracing::debug!(?resource, %error, "an executor's limit could not be set");
            }
        }
    }
}

/// What the end of an executor tells of the bound it met; `None`: something else killed it.
pub fn failure(signal: Option<i32>, last_words: &str) -> Option<Failure> {
    let is = |wanted: Signal| signal == Some(wanted.as_raw());
    let (code, text) = if is(Signal::XFSZ) {
        (
            "scratch_exceeded",
            "the call wrote a file larger than the scratch declared, or than the room on its disk; make room, or look at the source",
        )
    } else if is(Signal::XCPU) {
        (
            "timed_out",
            "the call used more processor time than all cores give in its time; submit the job with shorter chunks",
        )
    } else if is(Signal::ABORT) && last_words.contains(NO_MEMORY) {
        ("memory_exceeded", "the call asked for more than twice the memory declared")
    } else {
        return None;
    };
    Some(Failure::new(Class::Capacity, code, text))
}

/// Processor time a process has used; zero where it cannot be told.
pub fn cpu_used(pid: Pid) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    Duration::from_secs(ticks(&stat).unwrap_or(0) / rustix::param::clock_ticks_per_second().max(1))
}

/// `utime` and `stime` (proc(5)), the 14th and 15th field. The second, a name, may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()?.saturating_add(next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    #[test]
    fn what_was_not_declared_is_not_bounded() {
        let bounds = Bounds::of(Limits::default(), 3, None, Duration::ZERO, 4);
        assert_eq!(bounds, Bounds { memory: None, file: None, cpu_s: None });
    }

    #[test]
    fn bounds_are_wider_than_limits_and_end() {
        let limits = Limits { memory_mib: 512, timeout: Duration::from_secs(10), ..Limits::default() };
        let dir = tempfile::tempdir().unwrap();
        let bounds = Bounds::of(limits, 2, Some(dir.path()), Duration::from_secs(7), 4);
        assert_eq!(bounds.memory, Some((1024 << 20) + (1 << 30) + (256 << 20)));
        assert_eq!(bounds.cpu_s, Some(7 + 60 + 2 * 4 * 11));
        let free = free_bytes(dir.path()).unwrap();
        assert!(bounds.file.unwrap() < free.max(1 << 20) && bounds.file.unwrap() > free / 2);
        let declared = Bounds::of(Limits { scratch_mib: 1, ..limits }, 1, Some(dir.path()), Duration::ZERO, 1);
        assert_eq!(declared.file, Some(1 << 20));
        let endless = Limits { memory_mib: u64::MAX, timeout: Duration::MAX, ..limits };
        assert_eq!(Bounds::of(endless, 1, None, Duration::ZERO, 4).memory, Some(u64::MAX));
    }

    #[test]
    fn the_kernel_holds_a_process_to_them() {
        let none = Bounds { memory: None, file: None, cpu_s: None };
        let dir = tempfile::tempdir().unwrap();
        let flood = format!("read go; exec head -c 9000000 /dev/zero > {}", dir.path().join("flood").display());
        let cases = [
            (Bounds { cpu_s: Some(1), ..none }, "read go; while :; do :; done", "timed_out"),
            (Bounds { file: Some(1 << 20), ..none }, flood.as_str(), "scratch_exceeded"),
        ];
        for (bounds, script, code) in cases {
            let mut command = Command::new("sh");
            let mut child = command.args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
            bounds.set(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap());
            child.stdin.take().unwrap().write_all(b"go\n").unwrap();
            let signal = child.wait().unwrap().signal();
            assert_eq!(failure(signal, "").map(|failure| failure.code).as_deref(), Some(code), "{script}: {signal:?}");
        }
        assert_eq!(std::fs::metadata(dir.path().join("flood")).unwrap().len(), 1 << 20);
    }

    #[test]
    fn an_end_at_a_bound_is_no_crash() {
        let code = |signal: Signal, words| failure(Some(signal.as_raw()), words).map(|failure| failure.code);
        assert_eq!(code(Signal::XFSZ, "").as_deref(), Some("scratch_exceeded"));
        assert_eq!(code(Signal::XCPU, "").as_deref(), Some("timed_out"));
        assert_eq!(code(Signal::ABORT, "memory allocation of 9 bytes failed").as_deref(), Some("memory_exceeded"));
        assert_eq!(code(Signal::ABORT, "free(): invalid pointer"), None);
        assert_eq!(code(Signal::SEGV, ""), None);
        assert!(failure(None, "").is_none());
    }

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "71 (a ) b) R 1 71 71 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks(""), None);
        assert!(cpu_used(rustix::process::getpid()) < Duration::from_secs(3600));
    }
}
