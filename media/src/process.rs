//! What a function knows of the process it runs in: memory and cores, as Linux tells them.
//!
//! Both are asked of files that an executor cannot open once it is locked in, so [`look`] comes before that.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

static KNOWN: OnceLock<Known> = OnceLock::new();

struct Known {
    /// `/proc/self/status`, read anew from its start each time.
    status: Option<File>,
    /// `/proc/self/clear_refs`.
    clear: Option<File>,
    cores: usize,
}

/// Opens what is needed to answer. Without it, the first question does.
pub fn look() {
    known();
}

fn known() -> &'static Known {
    KNOWN.get_or_init(|| Known {
        status: File::open("/proc/self/status").ok(),
        clear: File::options().write(true).open("/proc/self/clear_refs").ok(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
    })
}

/// Cores this process may use, at least one.
pub fn cores() -> usize {
    known().cores
}

/// So that the peak is that from here on (proc(5), `clear_refs`). Where the kernel does not know it, the peak is the process's.
pub fn forget_peak() {
    if let Some(clear) = &known().clear {
        drop(clear.write_at(b"5", 0));
    }
}

/// Most resident memory, bytes, since the start or [`forget_peak`]; `None` where Linux does not tell.
pub fn peak_bytes() -> Option<u64> {
    field(&status()?, "VmHWM:")
}

/// Resident memory now, bytes.
pub fn resident_bytes() -> Option<u64> {
    field(&status()?, "VmRSS:")
}

/// [`peak_bytes`] in MiB, begun ones counted whole; 0 where unknown.
pub(crate) fn peak_mib() -> u64 {
    peak_bytes().map_or(0, |bytes| bytes.div_ceil(1 << 20))
}

fn status() -> Option<String> {
    let file = known().status.as_ref()?;
    // It has some 1.5 KiB; what is asked of it stands in the first half.
    let mut text = vec![0; 4096];
    let read = file.read_at(&mut text, 0).ok()?;
    text.truncate(read);
    String::from_utf8(text).ok()
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_status_file() {
        let status = "VmPeak:\t 9 kB\nVmHWM:\t    2049 kB\nVmRSS:\t 1 kB\n";
        assert_eq!((field(status, "VmHWM:"), field(status, "VmRSS:")), (Some(2049 << 10), Some(1024)));
        assert_eq!(field("VmPeak:\t 9 kB\n", "VmHWM:"), None);
    }

    #[test]
    fn own_memory_is_told_as_it_changes() {
        let before = resident_bytes().unwrap();
        let filled = vec![1_u8; 64 << 20];
        let with = resident_bytes().unwrap();
        assert!(with >= before + (48 << 20) && filled[9] == 1, "{before} {with}");
        assert!(peak_bytes().unwrap() >= with && peak_mib() >= with >> 20);
        assert!(cores() >= 1);
    }
}
