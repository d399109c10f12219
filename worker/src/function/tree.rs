//! What a program and all it started use: processes, threads, memory, scratch.

use std::path::Path;

use rustix::process::Pid;

/// Processes of one call at most, and threads of all of them.
pub const PROCESSES_MAX: usize = 128;
pub const THREADS_MAX: usize = 2_048;
/// Files and folders in a call's scratch at most.
pub const ENTRIES_MAX: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub processes: usize,
    pub threads: usize,
    /// Bytes of memory that are their own or shared between them; pages of files are the system's.
    pub memory: u64,
}

impl Usage {
    pub fn is_too_many(&self) -> bool {
        self.processes > PROCESSES_MAX || self.threads > THREADS_MAX
    }

    /// Of a process and those below it. It stops counting when there are too many. `crowd` is done as soon as so many are counted, which is long
    /// before all are.
    pub fn of(root: Pid, (many, crowd): (usize, impl Fn())) -> Usage {
        let mut usage = Usage::default();
        let mut waiting = vec![root.as_raw_nonzero().get()];
        while let Some(pid) = waiting.pop()
            && !usage.is_too_many()
        {
            usage.processes += 1;
            if usage.processes == many {
                crowd();
            }
            usage.memory = usage.memory.saturating_add(memory(pid));
            let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for thread in threads.flatten() {
                usage.threads += 1;
                // Each thread's own.
                let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
                waiting.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
            }
        }
        usage
    }
}

fn memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    (kib("RssAnon:").unwrap_or(0) + kib("RssShmem:").unwrap_or(0)).saturating_mul(1024)
}

/// Bytes on the disk below a folder; `None`: there is more in it than is counted. Links are not followed. Blocks.
pub fn bytes_below(folder: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let (mut bytes, mut entries) = (0_u64, 0);
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        // What goes away meanwhile takes nothing.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            entries += 1;
            if entries > ENTRIES_MAX {
                return None;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(512));
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_counted_with_those_it_started() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let crowds = std::cell::Cell::new(0);
        let usage = Usage::of(rustix::process::getpid(), (2, || crowds.set(crowds.get() + 1)));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(crowds.get(), 1);
        assert!(usage.processes >= 2 && usage.threads > usage.processes, "{usage:?}");
        assert!((1 << 16..1 << 40).contains(&usage.memory), "{usage:?}");
    }

    #[test]
    fn scratch_is_counted_as_far_as_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/b"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let bytes = bytes_below(dir.path()).unwrap();
        assert!((1 << 20..2 << 20).contains(&bytes), "{bytes}");
    }
}
