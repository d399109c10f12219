//! The ffmpeg that stands behind: found, and put in this process's place, so that signals, streams and the exit code are its own.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Names the ffmpeg to run.
const NAMED: &str = "SPOOL_FFMPEG";
/// What was tried before by this process or its parent, `PID` first: scripts in PATH that lead back to Spool are not taken again.
const TRIED: &str = "SPOOL_FFMPEG_TRIED";

/// `SPOOL_FFMPEG`, else the first `ffmpeg` in `PATH` that is not this program under another name.
///
/// # Errors
/// A text that says what to do.
pub fn find() -> Result<PathBuf, String> {
    let own = env::current_exe().and_then(fs::metadata).ok().map(|own| (own.dev(), own.ino()));
    let tried = tried();
    if let Some(named) = env::var_os(NAMED).filter(|named| !named.is_empty()) {
        let path = PathBuf::from(named);
        return match program(&path) {
            None => Err(format!("{NAMED} is {}, which is no program; name the real ffmpeg", path.display())),
            id if id == own || tried.contains(&path) => {
                Err(format!("{NAMED} is {}, which is Spool; name the real ffmpeg", path.display()))
            }
            Some(_) => Ok(path),
        };
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let mut candidates = env::split_paths(&folders).filter(|folder| folder.is_absolute()).map(|f| f.join("ffmpeg"));
    candidates
        .find(|path| program(path).is_some_and(|id| Some(id) != own) && !tried.contains(path))
        .ok_or_else(|| format!("no other ffmpeg is in PATH; install one, or name it in {NAMED}"))
}

/// Becomes the local ffmpeg. Comes back only when that fails, with the reason.
pub fn become_it(args: &[OsString]) -> String {
    let path = match find() {
        Ok(path) => path,
        Err(reason) => return reason,
    };
    let passed = std::iter::once(PathBuf::from(std::process::id().to_string()));
    let passed = env::join_paths(passed.chain(tried()).chain([path.clone()])).unwrap_or_default();
    let error = Command::new(&path).args(args).env(TRIED, passed).exec();
    format!("{}: {error}", path.display())
}

/// Device and inode of an executable file, links followed.
fn program(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    (metadata.is_file() && metadata.permissions().mode() & 0o111 != 0).then(|| (metadata.dev(), metadata.ino()))
}

fn tried() -> Vec<PathBuf> {
    let list = env::var_os(TRIED).unwrap_or_default();
    let mut paths = env::split_paths(&list);
    let pid = paths.next().and_then(|pid| pid.to_str()?.parse::<u32>().ok());
    let parent = rustix::process::getppid().and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
    if pid.is_some() && (pid == Some(std::process::id()) || pid == parent) { paths.collect() } else { Vec::new() }
}

/// True for a program called by ffmpeg's name.
pub fn is_its_name(program: &OsStr) -> bool {
    let name = Path::new(program).file_name().unwrap_or_default();
    name == "ffmpeg" || name == "spool-ffmpeg"
}
