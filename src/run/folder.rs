//! Folders of runs without a server: `ROOT/encode/HASH/`. The same command finds its own again; what nobody came back for
//! within a week is swept away.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use crate::exit::Stop;

/// Unfinished runs are kept this long.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// `--data`, else `$XDG_DATA_HOME/spool`, else `~/.local/share/spool`.
pub fn root(data: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(data) = data {
        return Ok(std::path::absolute(data)?);
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|share| share.join("spool"))
        .ok_or_else(|| Stop::usage("neither XDG_DATA_HOME nor HOME is set: name a directory with --data DIR"))
}

/// One run's folder.
#[derive(Debug)]
pub struct Folder {
    pub path: PathBuf,
}

impl Folder {
    pub fn of(root: &Path, hash: &str) -> Folder {
        Folder { path: root.join("encode").join(hash) }
    }

    /// True where a run of this name has begun and was not done.
    pub fn is_begun(&self) -> bool {
        self.path.join("spool.db").exists()
    }

    pub fn make(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.path)
            .map_err(|e| Stop::usage(format!("{}: {e}; name another directory with --data DIR", self.path.display())))
    }

    /// The run is done; nothing in it is needed any more. What cannot be removed is swept later.
    pub fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(folder = %self.path.display(), %error, "the run's folder could not be removed");
        }
    }

    /// When the run last wrote something.
    fn touched(&self) -> Option<SystemTime> {
        let times = ["", "spool.db", "spool.db-wal"].map(|name| fs::metadata(self.path.join(name))?.modified());
        times.into_iter().flatten().max()
    }

    /// True while a process runs it. The lock taken to find out goes with its handle.
    fn is_locked(&self) -> bool {
        match fs::File::open(self.path.join("lock")) {
            Ok(file) => flock(&file, FlockOperation::NonBlockingLockExclusive).is_err(),
            Err(_) => false,
        }
    }
}

/// Removes folders of other runs that nobody holds and nobody touched for a week.
pub fn sweep(root: &Path, own: &str) {
    let Ok(entries) = fs::read_dir(root.join("encode")) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name() != own) {
        let folder = Folder { path: entry.path() };
        let age = folder.touched().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > KEPT) && !folder.is_locked() {
            folder.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_runs_that_nobody_holds_are_swept() {
        let root = tempfile::tempdir().expect("a directory");
        let old = SystemTime::now() - KEPT - Duration::from_secs(60);
        let make = |name: &str, age: Option<SystemTime>| {
            let folder = Folder::of(root.path(), name);
            folder.make().expect("made");
            for file in ["spool.db", "lock"] {
                let file = fs::File::create(folder.path.join(file)).expect("created");
                if let Some(at) = age {
                    file.set_modified(at).expect("set");
                }
            }
            if let Some(at) = age {
                fs::File::open(&folder.path).and_then(|dir| dir.set_modified(at)).expect("set");
            }
            folder
        };
        let (fresh, stale, own, held) =
            (make("fresh", None), make("stale", Some(old)), make("own", Some(old)), make("held", Some(old)));
        let lock = fs::File::open(held.path.join("lock")).expect("opened");
        flock(&lock, FlockOperation::LockExclusive).expect("locked");
        sweep(root.path(), "own");
        assert!(fresh.is_begun() && own.is_begun() && held.is_begun() && !stale.path.exists());
    }
}
