//! To a path: made beside its name, then renamed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use spool_proto::failure::{Class, Failure};

use super::{Alive, Content, From};
use crate::executor::Unanswered;
use crate::transfer;

pub struct FileTarget {
    path: PathBuf,
    directory: PathBuf,
    /// Beside the target, always of the same name: a retry takes up what a killed one left.
    part: PathBuf,
    overwrite: bool,
}

impl FileTarget {
    pub fn new(path: PathBuf, overwrite: bool) -> Result<FileTarget, Failure> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            let text = format!("output {} is not a file in a directory; name a file", path.display());
            return Err(Failure::new(Class::Spec, "output_unwritable", text));
        };
        let mut part = OsString::from(".");
        part.push(name);
        part.push(".spool-part");
        Ok(FileTarget { directory: directory.to_owned(), part: directory.join(part), path, overwrite })
    }

    pub fn holds(&self, content: &Content<'_>, alive: Alive<'_>) -> Result<bool, Unanswered> {
        match std::fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(self.refused(&error).into()),
            Ok(metadata) if metadata.is_dir() => {
                let text = format!("output {} is a directory; name a file", self.path.display());
                return Err(Failure::new(Class::Spec, "output_unwritable", text).into());
            }
            Ok(metadata) if metadata.is_file() && metadata.len() == content.bytes => {
                let read = File::open(&self.path).and_then(|mut file| transfer::hash(&mut file, alive));
                match read {
                    Ok((found, _)) if found == content.hash => return Ok(true),
                    Err(error) if error.kind() == ErrorKind::Interrupted => return Err(Unanswered::Stopped),
                    _ => {}
                }
            }
            Ok(_) => {}
        }
        if self.overwrite { Ok(false) } else { Err(self.exists().into()) }
    }

    /// Makes the file beside the target, then gives it its name.
    pub fn put(&self, content: &Content<'_>, alive: Alive<'_>) -> Result<(), Unanswered> {
        let made = match content.from {
            From::File(path) => link_or_copy(path, &self.part, alive),
            From::Memory(bytes) => write(&self.part, bytes),
        };
        let made = made.and_then(|()| self.name()).and_then(|()| transfer::sync_directory(&self.directory));
        made.map_err(|error| {
            drop(std::fs::remove_file(&self.part));
            match error.kind() {
                ErrorKind::Interrupted => Unanswered::Stopped,
                ErrorKind::AlreadyExists => self.exists().into(),
                _ => self.refused(&error).into(),
            }
        })
    }

    fn name(&self) -> io::Result<()> {
        if self.overwrite {
            return std::fs::rename(&self.part, &self.path);
        }
        match rustix::fs::renameat_with(CWD, &self.part, CWD, &self.path, RenameFlags::NOREPLACE) {
            // The file system does not know the flag. A link refuses an existing name just as well.
            Err(rustix::io::Errno::INVAL) => {
                std::fs::hard_link(&self.part, &self.path)?;
                std::fs::remove_file(&self.part)
            }
            other => Ok(other?),
        }
    }

    fn exists(&self) -> Failure {
        super::exists(&self.path.display().to_string())
    }

    fn refused(&self, error: &io::Error) -> Failure {
        match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::InvalidFilename => {
                let text = format!(
                    "output {} cannot be written: {error}; the directory must exist and allow this user to write",
                    self.path.display()
                );
                Failure::new(Class::Spec, "output_unwritable", text)
            }
            _ => transfer::write_failure(error, &self.directory, "publish_failed"),
        }
    }
}

/// A link costs nothing and leaves the artifact, so that a retry finds it. Other file systems, and those without links, get
/// a copy.
fn link_or_copy(film: &Path, part: &Path, alive: Alive<'_>) -> io::Result<()> {
    match std::fs::remove_file(part) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match std::fs::hard_link(film, part) {
        Ok(()) => Ok(()),
        Err(_) => transfer::copy(film, part, alive),
    }
}

fn write(part: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(part)?;
    file.write_all(bytes)?;
    file.sync_all()
}
