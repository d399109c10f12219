//! An executor's own directory, the only one it can open files in. The scratch of a call is moved in while the executor has the
//! call, and back before anybody hears how it ended: executors cannot reach one another's work.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// For names: unlike those of all others of this machine.
static MADE: AtomicU64 = AtomicU64::new(0);

/// Removed, with all in it, when this is dropped.
#[derive(Debug)]
pub struct Den {
    path: PathBuf,
}

impl Den {
    /// A new directory in `root`, which must exist.
    pub fn make(root: &Path) -> io::Result<Den> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        // The executor's working directory: it must mean the same to it as to this process.
        let path = std::path::absolute(root)?.join(format!("executor-{}-{number}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Den { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves a call's scratch in. A rename within one file system: a matter of microseconds.
    pub fn admit(&self, scratch: &Path) -> io::Result<Guest> {
        let name = scratch.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let inside = self.path.join(name);
        std::fs::rename(scratch, &inside)?;
        Ok(Guest { home: scratch.to_owned(), inside })
    }
}

impl Drop for Den {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "an executor's directory could not be removed");
        }
    }
}

/// A call's scratch, with an executor. Moved back when this is dropped.
#[derive(Debug)]
pub struct Guest {
    home: PathBuf,
    inside: PathBuf,
}

impl Guest {
    pub fn path(&self) -> &Path {
        &self.inside
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Err(error) = std::fs::rename(&self.inside, &self.home) {
            tracing::warn!(path = %self.home.display(), %error, "scratch of a call did not come back from its executor");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_goes_in_and_comes_back_with_what_was_written() {
        let root = tempfile::tempdir().unwrap();
        let (den, other) = (Den::make(root.path()).unwrap(), Den::make(root.path()).unwrap());
        assert_ne!(den.path(), other.path());
        let scratch = root.path().join("call-0");
        std::fs::create_dir(&scratch).unwrap();
        let guest = den.admit(&scratch).unwrap();
        assert!(!scratch.exists() && guest.path().starts_with(den.path()));
        std::fs::write(guest.path().join("chunk"), b"x").unwrap();
        drop(guest);
        assert_eq!(std::fs::read(scratch.join("chunk")).unwrap(), b"x");
        let path = den.path().to_owned();
        drop(den);
        assert!(!path.exists() && other.path().exists());
        assert!(other.admit(&root.path().join("none")).is_err());
    }
}
