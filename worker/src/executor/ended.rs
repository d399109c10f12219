//! How a call ends as its executor tells it, or as the death of the process does.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Component, Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use spool_proto::failure::Failure;

use super::link::Inbox;
use super::process::{CallOutput, Produced};
use super::sandbox::Walls;
use crate::wire::{self, FromExecutor, from_executor};

/// The executor is not trusted: what it names must lie in its scratch directory.
pub(super) fn read_done(done: wire::Done, scratch: Option<&Path>) -> Result<CallOutput, String> {
    let mut files = Vec::with_capacity(done.files.len());
    for wire::File { name, path } in done.files {
        let path = PathBuf::from(OsString::from_vec(path));
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        let (Some(scratch), true, true) = (scratch, inside, path.file_name().is_some()) else {
            return Err(format!("it left a file outside its scratch directory: {}", path.display()));
        };
        files.push(Produced { name, path: scratch.join(path) });
    }
    Ok(CallOutput {
        value: serde_json::from_slice(&done.value).map_err(|error| format!("an answer that is none: {error}"))?,
        warnings: match done.warnings.as_slice() {
            [] => Vec::new(),
            json => serde_json::from_slice(json).map_err(|error| format!("warnings that are none: {error}"))?,
        },
        files,
        advance: done.progress.unwrap_or_default().into(),
        source: None,
        peak_memory_bytes: done.peak_memory_bytes,
        busy: Duration::from_micros(done.busy_us),
    })
}

/// Reads bytes as those that an executor sends are read, to the end or the first that makes no sense. How many messages they were.
/// For fuzzing; the worker reads what it expects next.
#[doc(hidden)]
pub fn read_messages(bytes: &[u8]) -> usize {
    let scratch = Path::new("/scratch");
    let Ok((ours, theirs)) = std::os::unix::net::UnixStream::pair() else { return 0 };
    let mut inbox = Inbox::default();
    let mut count = 0;
    // A piece at a time: what the socket holds at once.
    for piece in bytes.chunks(4096) {
        if (&theirs).write_all(piece).is_err() || inbox.fill(&ours).is_err() {
            return count;
        }
        while let Ok(Some(FromExecutor { kind })) = inbox.take() {
            count += 1;
            match kind {
                Some(from_executor::Kind::Done(done)) => {
                    let output = read_done(done, Some(scratch));
                    let inside = |file: &Produced| file.path.starts_with(scratch) && file.path != scratch;
                    assert!(output.map_or(true, |output| output.files.iter().all(inside)), "a file outside of scratch");
                }
                Some(from_executor::Kind::Failed(failure)) => drop(Failure::from(failure)),
                Some(from_executor::Kind::Ready(ready)) => drop(Walls::from(ready.walls.unwrap_or_default())),
                _ => {}
            }
        }
    }
    count
}

pub(super) fn describe(status: Option<ExitStatus>) -> String {
    let Some(status) = status else { return "it closed its socket and did not exit".into() };
    match (status.signal(), status.code()) {
        (Some(signal), _) => match signal_name(signal) {
            Some(name) => format!("killed by {name}"),
            None => format!("killed by signal {signal}"),
        },
        (None, Some(code)) => format!("exit status {code}"),
        (None, None) => status.to_string(),
    }
}

pub(crate) fn signal_name(number: i32) -> Option<&'static str> {
    let names = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL (an instruction this CPU does not have)"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL (by a person, or by the kernel for want of memory)"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::SYS, "SIGSYS"),
    ];
    names.into_iter().find(|(signal, _)| signal.as_raw() == number).map(|(_, name)| name)
}
