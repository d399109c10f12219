//! What an executor is locked in with, before it sees a byte of anybody's film: `spool exec` does it to itself, once, at its start.
//!
//! Reading order: `process` (handles, capabilities, fixed limits), `files` (Landlock), `syscalls` (seccomp); `program` and `program_syscalls` are
//! the wider walls of programs that users wrote. What a call may use of
//! memory, time and disk the worker sets from outside, see `bounds`. docs/security.md says what all of it is for.
//!
//! Kernels differ. What is missing is told, not assumed: every wall is tried once it stands, and the executor reports what held to
//! its worker, which goes on or not as it was asked ([`Sandbox`]).

mod files;
mod process;
pub mod program;
mod program_syscalls;
mod syscalls;

use std::fmt;
use std::io;
use std::str::FromStr;

use rustix::net::{AddressFamily, SocketType};
use serde::{Deserialize, Serialize};

use crate::wire;

pub use files::Open;

/// How a worker tells its executors (and only they read it). Not an argument: what starts an executor is its owner's choice.
pub const VARIABLE: &str = "SPOOL_SANDBOX";

/// What is asked of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sandbox {
    /// All of it, or the executor is not used.
    Require,
    /// What this kernel has.
    #[default]
    BestEffort,
    /// Nothing: for finding out whether the sandbox is what breaks something.
    Off,
}

impl Sandbox {
    const NAMES: [(&'static str, Sandbox); 3] =
        [("require", Sandbox::Require), ("best-effort", Sandbox::BestEffort), ("off", Sandbox::Off)];
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Sandbox::NAMES.iter().find(|(_, mode)| mode == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for Sandbox {
    type Err = String;

    fn from_str(text: &str) -> Result<Sandbox, String> {
        let found = Sandbox::NAMES.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode);
        found.ok_or_else(|| format!("{text:?} is none of require, best-effort, off"))
    }
}

/// The walls around one executor, each tried after it was put up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Walls {
    /// Version of Landlock in use; 0: none.
    pub landlock_abi: u32,
    /// No file is opened but below its own directory (Landlock).
    pub files: bool,
    /// No socket is made or connected (seccomp); TCP is refused a second time from Landlock 4 on.
    pub network: bool,
    /// No program is started, no process forked, and no call is left but those that coding takes (seccomp).
    pub syscalls: bool,
    /// No capability is left, and none can be gained (`no_new_privs`).
    pub privileges: bool,
    /// Fixed limits stand: no core dumps, no real-time class.
    pub limits: bool,
    /// What does not hold, and why. Empty: all of it holds.
    pub missing: Vec<String>,
}

impl Walls {
    /// All of it holds.
    pub fn is_whole(&self) -> bool {
        let Walls { files, network, syscalls, privileges, limits, .. } = *self;
        self.missing.is_empty() && files && network && syscalls && privileges && limits
    }
}

impl fmt::Display for Walls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("files", self.files),
            ("network", self.network),
            ("system calls", self.syscalls),
            ("privileges", self.privileges),
            ("limits", self.limits),
        ];
        let held: Vec<&str> = parts.iter().filter(|(_, held)| *held).map(|(name, _)| *name).collect();
        f.write_str(&if held.is_empty() { "nothing".to_owned() } else { held.join(", ") })?;
        if self.landlock_abi > 0 {
            write!(f, " (Landlock {})", self.landlock_abi)?;
        }
        if !self.missing.is_empty() {
            write!(f, "; missing: {}", self.missing.join("; "))?;
        }
        Ok(())
    }
}

/// Locks this process in: what it opens from here on lies below its working directory, or is nothing. Before any other thread is started, as
/// each wall is a thread's own, handed down.
pub fn enter(mode: Sandbox, open: Open) -> Walls {
    let mut walls = Walls::default();
    if mode == Sandbox::Off {
        walls.missing.push("everything: it was asked for none (--sandbox off)".into());
        return walls;
    }
    let mut missing = Vec::new();
    let mut note = |what: &str, done: Result<(), String>| {
        let held = done.is_ok();
        missing.extend(done.err().map(|why| format!("{what}: {why}")));
        held
    };
    note("inherited handles", process::close_inherited());
    process::die_first();
    if open == Open::Own {
        // What is asked of /proc later is opened before it is out of reach.
        spool_media::process::look();
    }
    walls.limits = note("limits", process::limit());
    walls.privileges = note("privileges", process::renounce());
    match files::lock(open) {
        Ok(abi) => {
            walls.landlock_abi = abi;
            walls.files = note("files", refused(std::fs::read_dir("/").map(drop), "the root directory was opened"));
        }
        Err(why) => drop(note("files", Err(why))),
    }
    walls.syscalls = note("system calls", syscalls::filter());
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).map(drop);
    walls.network = note("network", refused(socket.map_err(io::Error::from), "a socket was made"));
    walls.missing = missing;
    walls
}

fn refused(tried: io::Result<()>, otherwise: &str) -> Result<(), String> {
    match tried {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(format!("tried, and it failed otherwise than by being refused: {error}")),
        Ok(()) => Err(otherwise.into()),
    }
}

impl From<Walls> for wire::Walls {
    fn from(walls: Walls) -> wire::Walls {
        let Walls { landlock_abi, files, network, syscalls, privileges, limits, missing } = walls;
        wire::Walls { landlock_abi, files, network, syscalls, privileges, limits, missing }
    }
}

impl From<wire::Walls> for Walls {
    fn from(walls: wire::Walls) -> Walls {
        let wire::Walls { landlock_abi, files, network, syscalls, privileges, limits, missing } = walls;
        Walls { landlock_abi, files, network, syscalls, privileges, limits, missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_they_are_written() {
        for (name, mode) in Sandbox::NAMES {
            assert_eq!((name.parse(), mode.to_string()), (Ok(mode), name.to_owned()));
        }
        assert!("on".parse::<Sandbox>().unwrap_err().contains("best-effort"));
    }

    #[test]
    fn what_is_missing_is_said() {
        let walls = Walls { syscalls: true, missing: vec!["files: no Landlock".into()], ..Walls::default() };
        assert_eq!(walls.to_string(), "system calls; missing: files: no Landlock");
        assert!(!walls.is_whole());
    }

    #[test]
    fn a_wall_counts_only_when_it_refused() {
        assert!(refused(Err(io::ErrorKind::PermissionDenied.into()), "").is_ok());
        assert_eq!(refused(Ok(()), "it was open"), Err("it was open".into()));
        assert!(refused(Err(io::ErrorKind::NotFound.into()), "").unwrap_err().contains("otherwise"));
    }
}
