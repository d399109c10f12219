//! The walls of a program that a user wrote. It is started in them, and so is whatever it starts: it reads its own folder, the
//! system's programs and libraries, and the inputs it was given; it writes in the scratch of its call and nowhere else.
//!
//! Wider than an executor's, as nobody knows what programs need: it may start others. What it never gets is a network, another
//! process, or a file that is not its business.

use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::{Sandbox, Walls, files, process, program_syscalls, refused};

/// Read and started from: programs, libraries, and what interpreters read of themselves.
const SYSTEM: [&str; 7] = ["/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/etc/fonts"];
/// Read: what the loader and the C library ask, the cores and the memory of the machine.
const SYSTEM_FILES: [&str; 7] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/sys/devices/system/cpu",
];
const CORES_AND_MEMORY: [&str; 2] = ["/proc/cpuinfo", "/proc/meminfo"];
/// In `/etc`: of Debian's Python, by version.
const PYTHON: &str = "python3";
/// The version of Landlock from which signals stay inside.
const SIGNALS_ABI: u32 = 6;
/// And the one from which files that may not be written are not cut off either.
const TRUNCATE_ABI: u32 = 3;

/// What a program gets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reach {
    /// Its own folder, and what an operator adds: read and started from.
    pub programs: Vec<PathBuf>,
    /// Inputs that are files of this machine: read.
    pub inputs: Vec<PathBuf>,
    /// Read, written, started from.
    pub scratch: PathBuf,
    /// Bytes of memory of its own of each process, touched or not; bytes of one file; seconds of processor time of each process.
    /// 0: no limit.
    pub data: u64,
    pub file: u64,
    pub cpu_s: u64,
}

/// Locks this process in, before it starts the program. Before any other thread is started.
pub fn enter(mode: Sandbox, reach: &Reach) -> Walls {
    let mut walls = Walls::default();
    let mut missing = Vec::new();
    let mut note = |what: &str, done: Result<(), String>| {
        let held = done.is_ok();
        missing.extend(done.err().map(|why| format!("{what}: {why}")));
        held
    };
    if mode == Sandbox::Off {
        // Amounts are not a matter of trust.
        note("limits", limit(reach));
        missing.push("everything: it was asked for none (--sandbox off)".into());
        walls.missing = missing;
        return walls;
    }
    note("inherited handles", process::close_inherited());
    process::die_first();
    walls.limits = note("limits", process::limit().and_then(|()| limit(reach)));
    walls.privileges = note("privileges", process::renounce());
    match lock(reach) {
        Ok(abi) => {
            walls.landlock_abi = abi;
            walls.files = note("files", refused(std::fs::read_dir("/").map(drop), "the root directory was opened"));
        }
        Err(why) => drop(note("files", Err(why))),
    }
    let (signals, truncate) = (walls.landlock_abi >= SIGNALS_ABI, walls.landlock_abi >= TRUNCATE_ABI);
    walls.syscalls = note("system calls", program_syscalls::filter(signals, truncate));
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).map(drop);
    walls.network = note("network", refused(socket.map_err(io::Error::from), "a socket was made"));
    walls.missing = missing;
    walls
}

/// Both limits of each, so that the program cannot raise them.
fn limit(reach: &Reach) -> Result<(), String> {
    let bounds = [(Resource::Data, reach.data), (Resource::Fsize, reach.file), (Resource::Cpu, reach.cpu_s)];
    for (resource, most) in bounds.into_iter().filter(|(_, most)| *most > 0) {
        let most = getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most));
        let both = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(resource, both).map_err(|error| format!("{resource:?}: {error}"))?;
    }
    Ok(())
}

fn lock(reach: &Reach) -> Result<u32, String> {
    files::enforced(&restrict(reach).map_err(|error| format!("Landlock refused: {error}"))?)
}

fn restrict(reach: &Reach) -> Result<landlock::RestrictionStatus, RulesetError> {
    let run = AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let null = AccessFs::ReadFile | AccessFs::WriteFile;
    // Special files are nobody's output.
    let own = AccessFs::from_all(files::ABI_KNOWN)
        & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeSock | AccessFs::IoctlDev);
    let mut rules: Vec<(PathBuf, BitFlags<AccessFs>)> = vec![(reach.scratch.clone(), own), ("/dev/null".into(), null)];
    let system = SYSTEM.iter().map(PathBuf::from).chain(python());
    rules.extend(reach.programs.iter().cloned().chain(system).map(|path| (path, run)));
    let files = SYSTEM_FILES.iter().chain(&CORES_AND_MEMORY).map(PathBuf::from);
    rules.extend(reach.inputs.iter().cloned().chain(files).map(|path| (path, read)));
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(files::ABI_KNOWN))?
        .handle_access(AccessNet::from_all(files::ABI_KNOWN))?
        .scope(Scope::from_all(files::ABI_KNOWN))?
        .create()?;
    for (path, access) in rules {
        // What this machine does not have nobody can read.
        let Ok(open) = PathFd::new(&path) else { continue };
        let access = if is_folder(&path) { access } else { access & !AccessFs::ReadDir };
        ruleset = ruleset.add_rule(PathBeneath::new(open, access))?;
    }
    ruleset.restrict_self()
}

fn is_folder(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

fn python() -> Vec<PathBuf> {
    let named = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(PYTHON);
    let listed = std::fs::read_dir("/etc").into_iter().flatten().flatten();
    listed.filter(named).map(|entry| entry.path()).collect()
}
