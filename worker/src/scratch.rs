//! Scratch: one directory a worker, one folder a call, nothing left behind.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FlockOperation;
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::WorkerName;

use crate::transfer::write_failure;

/// A worker's scratch directory, its own while this lives.
#[derive(Debug)]
pub struct Scratch {
    directory: PathBuf,
    calls: AtomicU64,
    /// Held for the lock on it.
    _lock: File,
}

impl Scratch {
    /// Takes `<root>/<worker>` and empties it of what a killed process left. Blocks.
    ///
    /// # Errors
    /// Class `host`: `scratch_in_use` while another process has it, `disk_full`, `scratch_unwritable`.
    pub fn take(root: &Path, worker: &WorkerName) -> Result<Scratch, Failure> {
        let directory = root.join(file_name(worker));
        let unwritable = |error: io::Error| write_failure(&error, &directory, "scratch_unwritable");
        std::fs::create_dir_all(&directory).map_err(unwritable)?;
        let lock = File::create(directory.join("lock")).map_err(unwritable)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let text = format!(
                    "{} is in use: another worker called {worker} runs on this machine; give this one another --name",
                    directory.display()
                );
                return Err(Failure::new(Class::Host, "scratch_in_use", text));
            }
            locked => locked.map_err(io::Error::from).map_err(unwritable)?,
        }
        for entry in std::fs::read_dir(&directory).map_err(unwritable)? {
            let entry = entry.map_err(unwritable)?;
            if entry.file_name() == "lock" {
                continue;
            }
            let directory = entry.file_type().map_err(unwritable)?.is_dir();
            let path = entry.path();
            if directory { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.map_err(unwritable)?;
        }
        Ok(Scratch { directory, calls: AtomicU64::new(0), _lock: lock })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A new, empty folder for one call. Blocks, briefly.
    ///
    /// # Errors
    /// Class `host`: `disk_full`, `scratch_unwritable`.
    pub fn folder(&self) -> Result<Folder, Failure> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("call-{number}"));
        std::fs::create_dir(&path).map_err(|error| write_failure(&error, &self.directory, "scratch_unwritable"))?;
        Ok(Folder { path })
    }
}

/// A worker's name is a word of its operator's; in a path it must be one component.
fn file_name(worker: &WorkerName) -> String {
    let safe: String = worker.0.chars().map(|c| if c == '/' || c == '\0' { '_' } else { c }).collect();
    if matches!(safe.as_str(), "" | "." | "..") { format!("_{safe}") } else { safe }
}

/// A call's folder. Removed, with all in it, when this is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let removed = std::fs::remove_dir_all(&self.path).or_else(|error| match error.kind() {
            // A program may have made folders that nobody may enter.
            io::ErrorKind::PermissionDenied => {
                open_up(&self.path);
                std::fs::remove_dir_all(&self.path)
            }
            _ => Err(error),
        });
        if let Err(error) = removed {
            tracing::warn!(path = %self.path.display(), %error, "scratch of a call could not be removed");
        }
    }
}

/// Makes every folder from here down one's own to enter and change. As far as it goes.
fn open_up(folder: &Path) {
    drop(std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)));
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_folders_are_opened() {
        let root = tempfile::tempdir().unwrap();
        let closed = root.path().join("a/b");
        std::fs::create_dir_all(&closed).unwrap();
        for folder in [&closed, &root.path().join("a")] {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o0)).unwrap();
        }
        open_up(root.path());
        let mode = std::fs::metadata(&closed).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn scratch_is_one_process_s_own_and_starts_empty() {
        let root = tempfile::tempdir().unwrap();
        let name = WorkerName::from("a/b");
        let left = root.path().join("a_b/call-9");
        std::fs::create_dir_all(&left).unwrap();
        std::fs::write(left.join("chunk"), b"x").unwrap();
        let scratch = Scratch::take(root.path(), &name).unwrap();
        assert!(!left.exists());
        let failure = Scratch::take(root.path(), &name).unwrap_err();
        assert_eq!(failure.code, "scratch_in_use");
        assert!(failure.message.contains("a/b"), "{failure}");
        let folder = scratch.folder().unwrap();
        let path = folder.path().to_owned();
        std::fs::write(path.join("chunk"), b"x").unwrap();
        drop(folder);
        assert!(!path.exists());
        drop(scratch);
        Scratch::take(root.path(), &name).unwrap();
    }
}
