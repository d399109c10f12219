//! A process that only computes, over its standard input and output: the walls of an executor, and no file at all. What reads rules of
//! strangers sits in one.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::child::leave_when_closed;
use super::sandbox::{self, Open, Sandbox, Walls};

/// Locks this process in, holds it to so many bytes of addresses, and ends it at once when its standard input is closed at the other
/// end: without whoever started it, it has nobody to work for. Before any other thread is started.
///
/// Not by the parent's death signal: that is sent when the *thread* dies that started the process.
///
/// # Errors
/// When it cannot be bounded, or nothing can watch its standard input. Walls that this kernel lacks are told in the answer.
pub fn enter(address_space: u64) -> io::Result<Walls> {
    let Rlimit { maximum, .. } = getrlimit(Resource::As);
    let most = Some(maximum.map_or(address_space, |maximum| maximum.min(address_space)));
    setrlimit(Resource::As, Rlimit { current: most, maximum: most })?;
    let walls = sandbox::enter(Sandbox::BestEffort, Open::Nothing);
    std::thread::Builder::new().name("spool-hangup".into()).spawn(|| leave_when_closed(&io::stdin()))?;
    Ok(walls)
}
