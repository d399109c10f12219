//! What a process sheds before it is locked in: handles, capabilities, and what no executor needs much of.

use std::os::fd::RawFd;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

/// Handles at most. One is held for every input of a call, and a join has as many inputs as the film has chunks.
const HANDLES: u64 = 1 << 16;

/// Closes everything but the socket (stdin), stdout and stderr. Whoever started the worker may have left files open in it that
/// are passed on at each start of a process; Rust's own never are.
pub fn close_inherited() -> Result<(), String> {
    let list = std::fs::read_dir("/proc/self/fd").map_err(|error| format!("/proc/self/fd: {error}"))?;
    let numbers: Vec<RawFd> = list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // The listing's own handle is among them, and closed by now.
        match nix::unistd::close(number) {
            Ok(()) | Err(nix::errno::Errno::EBADF) => {}
            Err(error) => return Err(format!("handle {number} cannot be closed: {error}")),
        }
    }
    Ok(())
}

/// When the machine runs out of memory, an executor goes before its worker and whatever else runs there (proc(5),
/// `oom_score_adj`). Best effort: that is only about who goes first.
pub fn die_first() {
    drop(std::fs::write("/proc/self/oom_score_adj", "1000"));
}

/// Limits that are the same for all calls. Not `RLIMIT_NPROC`: it counts all processes of the user, this machine's other
/// executors and their threads among them; that no process is started is the filter's work.
pub fn limit() -> Result<(), String> {
    let most = |resource, most: u64| {
        let Rlimit { current, maximum } = getrlimit(resource);
        let cut = |limit: Option<u64>| Some(limit.map_or(most, |limit| limit.min(most)));
        // The soft limit goes up to the hard one, where that was lower: one way to name what counts.
        let new = Rlimit { current: cut(maximum.or(current)), maximum: cut(maximum) };
        setrlimit(resource, new).map_err(|error| format!("{resource:?}: {error}"))
    };
    most(Resource::Core, 0)?;
    most(Resource::Rtprio, 0)?;
    most(Resource::Memlock, 0)?;
    most(Resource::Msgqueue, 0)?;
    most(Resource::Nofile, HANDLES)
}

/// Gives up every capability, for good. Root without capabilities reads and writes what root's files allow, and no more.
pub fn renounce() -> Result<(), String> {
    let none = CapabilitySet::empty();
    set_no_new_privs(true).map_err(|error| format!("no_new_privs: {error}"))?;
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    match set_capabilities(None, sets) {
        Ok(()) => Ok(()),
        // A container's own filter may forbid even giving them up.
        Err(Errno::PERM) => Err("capabilities may not be given up here".into()),
        Err(error) => Err(format!("capabilities: {error}")),
    }
}
