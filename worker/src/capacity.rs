//! What this machine has to offer.

use std::path::Path;

use spool_proto::resources::Resources;

use crate::transfer::free_bytes;

/// Share of memory offered, percent: the rest is for the system, this process and page tables.
const MEMORY_PERCENT: u64 = 90;

/// Capacity of this machine: its cores (or `slots`) times 1000, 90 % of its memory or of the control group's limit, the room
/// on the disk of `scratch`. What cannot be found out counts as unlimited rather than as nothing.
pub fn of_this_machine(slots: Option<u32>, scratch: &Path) -> Resources {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    Resources {
        cpu: slots.map_or(cores, u64::from) * 1000,
        memory: memory_bytes().map_or(u64::MAX >> 20, |bytes| (bytes / 100 * MEMORY_PERCENT) >> 20),
        scratch: free_bytes(scratch).unwrap_or(u64::MAX) >> 20,
        ..Resources::ZERO
    }
}

fn memory_bytes() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok();
    let total = meminfo.as_deref().and_then(mem_total);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = group_limit_files(&groups).filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
    limits.chain(total).min()
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Where the limit of this process may stand, its group's and all above it (cgroups(7), versions 2 and 1).
fn group_limit_files(groups: &str) -> impl Iterator<Item = String> {
    groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let place = match controllers {
            "" => Some(("/sys/fs/cgroup", "memory.max")),
            "memory" => Some(("/sys/fs/cgroup/memory", "memory.limit_in_bytes")),
            _ => None,
        };
        let mut files = Vec::new();
        if let Some((root, file)) = place {
            let mut group = group.trim_end_matches('/');
            loop {
                files.push(format!("{root}{group}/{file}"));
                match group.rfind('/') {
                    Some(cut) => group = &group[..cut],
                    None => break,
                }
            }
        }
        files
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_looked_for_all_the_way_up() {
        let files: Vec<_> = group_limit_files("9:cpu:/x\n4:memory:/a\n0::/b/c\n").collect();
        let expected = [
            "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/b/c/memory.max",
            "/sys/fs/cgroup/b/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(files, expected);
    }

    #[test]
    fn this_machine_has_something() {
        assert_eq!(mem_total("MemTotal:       24685056 kB\nMemFree: 1 kB\n"), Some(24_685_056 * 1024));
        let capacity = of_this_machine(Some(3), &std::env::temp_dir());
        assert_eq!(capacity.cpu, 3000);
        assert!((64..1 << 30).contains(&capacity.memory), "{capacity}");
        assert!(capacity.scratch > 0);
        assert!(of_this_machine(None, &std::env::temp_dir()).cpu >= 1000);
    }
}
