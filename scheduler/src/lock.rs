//! One server a data directory: an advisory lock on a file, which goes with the process however it ends.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

#[derive(Debug)]
pub(crate) enum LockError {
    /// Another process holds it; its pid, as far as it wrote it down.
    Held {
        holder: Option<String>,
    },
    Io(io::Error),
}

impl DataLock {
    pub(crate) fn take(path: &Path) -> Result<DataLock, LockError> {
        let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open.map_err(LockError::Io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let holder = file.read_to_string(&mut text).ok().map(|_| text.trim().to_owned());
                return Err(LockError::Held { holder: holder.filter(|pid| !pid.is_empty()) });
            }
            Err(e) => return Err(LockError::Io(e.into())),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(LockError::Io)?;
        Ok(DataLock { _file: file })
    }
}
