//! How much memory this process has needed.

/// Most resident memory so far, MiB, as Linux tells it; 0 where it does not.
pub(crate) fn peak_mib() -> u64 {
    std::fs::read_to_string("/proc/self/status").ok().and_then(|status| peak_of(&status)).unwrap_or(0)
}

fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_from_the_status_file() {
        assert_eq!(peak_of("VmPeak:\t 9 kB\nVmHWM:\t    2049 kB\nVmRSS:\t 1 kB\n"), Some(3));
        assert_eq!(peak_of("VmPeak:\t 9 kB\n"), None);
        assert!(peak_mib() > 0);
    }
}
