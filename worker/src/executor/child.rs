//! The executor's own side: locks itself in, then reads a call, runs it, answers.
//!
//! One thread works and reads the socket when it expects something; another only waits for the socket to close and then
//! kills the process at once, whatever the first is doing: without its worker an executor has nobody to work for.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prost::Message;
use rustix::event::{PollFd, PollFlags};
use spool_media::{Host, Product, Source};
use spool_proto::call::{Args, Value};
use spool_proto::failure::{Class, Failure};

use super::Functions;
use super::link::Inbox;
use super::sandbox::{self, Open, Walls};
use crate::wire::{self, FromExecutor, Opened, ToExecutor, from_executor, to_executor};

/// Progress is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Is an executor until the socket on stdin closes: the whole of `spool exec`.
pub fn main(functions: &dyn Functions) -> ! {
    renounce_real_time();
    // Whoever says nothing of it, or nothing that is understood, gets the sandbox.
    let mode = std::env::var(sandbox::VARIABLE).ok().and_then(|mode| mode.parse().ok()).unwrap_or_default();
    let walls = sandbox::enter(mode, Open::Own);
    let served = io::stdin().as_fd().try_clone_to_owned().and_then(|socket| serve(functions, socket, walls));
    if let Err(error) = served {
        // The worker keeps the tail of stderr as evidence.
        eprintln!("spool exec: {error} (it is started by a worker, with a socket as stdin)");
        std::process::exit(2);
    }
    std::process::exit(0);
}

/// SVT-AV1, run by root, puts its threads in the kernel's real-time class: they starve everything else on the machine, the worker's
/// heartbeats too. Without the right to, it takes ordinary ones, for the same bytes. Before any other thread is started: the right
/// is each thread's own, handed down.
fn renounce_real_time() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let Ok(mut own) = capabilities(None) else { return };
    for set in [&mut own.effective, &mut own.permitted, &mut own.inheritable] {
        set.remove(CapabilitySet::SYS_NICE);
    }
    // Where even this is forbidden, there was no such right either.
    let _refused = set_capabilities(None, own);
}

fn serve(functions: &dyn Functions, socket: OwnedFd, walls: Walls) -> io::Result<()> {
    let socket = UnixStream::from(socket);
    let watched = socket.try_clone()?;
    std::thread::Builder::new().name("spool-hangup".into()).spawn(move || leave_when_closed(&watched))?;
    let link = Link { socket, inbox: Inbox::default(), unsent: Vec::new(), dropped: wire::Drop::default() };
    let link = SharedLink(Arc::new(Mutex::new(link)));
    link.hold().send(from_executor::Kind::Ready(wire::Ready { pid: std::process::id(), walls: Some(walls.into()) }))?;
    loop {
        let Some(message) = link.hold().receive()? else { return Ok(()) };
        match message {
            to_executor::Kind::Batch(calls) => batch(functions, &calls, &link)?,
            to_executor::Kind::Golden(golden) => {
                let proved = functions.golden(&golden.backend);
                link.hold().send(answer(proved.map(|()| from_executor::Kind::Done(wire::Done::default()))))?;
            }
            to_executor::Kind::Opened(_) | to_executor::Kind::Bytes(_) | to_executor::Kind::Drop(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to nothing"));
            }
        }
    }
}

fn batch(functions: &dyn Functions, batch: &wire::Batch, shared: &SharedLink) -> io::Result<()> {
    shared.hold().dropped = wire::Drop { batch: batch.number, calls: 0 };
    let mut full = false;
    for (position, call) in batch.calls.iter().enumerate() {
        if position > 0 {
            let mut link = shared.hold();
            link.look()?;
            if full || link.dropped.calls.checked_shr(u32::try_from(position).unwrap_or(u32::MAX)).unwrap_or(0) & 1 == 1
            {
                link.put(from_executor::Kind::Left(wire::Left {}));
                continue;
            }
            // With the answer before it in one write: a short call costs one.
            link.put(from_executor::Kind::Begun(wire::Begun {}));
            link.flush()?;
        }
        let answer = answer(run(functions, call, shared));
        shared.hold().put(answer);
        full = !call.scratch.is_empty()
            && batch.resident_max > 0
            && spool_media::process::resident_bytes().is_some_and(|resident| resident > batch.resident_max);
    }
    shared.hold().flush()
}

fn answer(result: Result<from_executor::Kind, Failure>) -> from_executor::Kind {
    result.unwrap_or_else(|failure| from_executor::Kind::Failed(failure.into()))
}

/// Asks for nothing but the hang-up, so that messages never wake this thread.
pub(super) fn leave_when_closed(socket: &impl AsFd) {
    loop {
        let mut wanted = [PollFd::new(socket, PollFlags::RDHUP)];
        match rustix::event::poll(&mut wanted, None) {
            Err(rustix::io::Errno::INTR) => {}
            // Not `exit`: that would run destructors under the feet of codec threads.
            _ => {
                let _cannot_fail =
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            }
        }
    }
}

fn run(functions: &dyn Functions, call: &wire::Call, link: &SharedLink) -> Result<from_executor::Kind, Failure> {
    let begun = Instant::now();
    let internal = |what: &str, error: &dyn std::fmt::Display| {
        Failure::new(Class::Internal, "executor_protocol", format!("{what}: {error}"))
    };
    let args: Args = serde_json::from_slice(&call.args).map_err(|e| internal("the call cannot be read", &e))?;
    let scratch = PathBuf::from(std::ffi::OsString::from_vec(call.scratch.clone()));
    if !call.scratch.is_empty() {
        // What a library leaves in its working directory is swept away with the call.
        std::env::set_current_dir(&scratch).map_err(|e| internal("the scratch directory cannot be entered", &e))?;
        spool_media::process::forget_peak();
    }
    let inputs = usize::try_from(call.inputs).expect("usize has at least 32 bits");
    let mut host =
        Ours { link: link.clone(), scratch, inputs: vec![None; inputs], last: wire::Progress::default(), told: None };
    let Product { files, warnings, value } = functions.run(&args, &mut host)?;
    let mut relative = Vec::with_capacity(files.len());
    for (name, path) in files {
        let path = path.strip_prefix(&host.scratch).unwrap_or(&path).as_os_str().as_bytes().to_vec();
        relative.push(wire::File { name, path });
    }
    let json = |what, result: Result<Vec<u8>, serde_json::Error>| result.map_err(|e| internal(what, &e));
    Ok(from_executor::Kind::Done(wire::Done {
        value: json("the answer cannot be written", serde_json::to_vec::<Value>(&value))?,
        warnings: match warnings.is_empty() {
            true => Vec::new(),
            false => json("the warnings cannot be written", serde_json::to_vec(&warnings))?,
        },
        files: relative,
        progress: Some(host.last),
        peak_memory_bytes: if call.scratch.is_empty() { 0 } else { spool_media::process::peak_bytes().unwrap_or(0) },
        busy_us: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
    }))
}

/// The socket, shared by the function and its inputs: one of them talks at a time.
#[derive(Clone)]
struct SharedLink(Arc<Mutex<Link>>);

impl SharedLink {
    /// Never held while a function runs.
    fn hold(&self) -> MutexGuard<'_, Link> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The socket, waited on.
struct Link {
    socket: UnixStream,
    inbox: Inbox,
    /// Messages that go with the next write.
    unsent: Vec<u8>,
    /// What the worker takes back of the batch at hand.
    dropped: wire::Drop,
}

impl Link {
    fn send(&mut self, kind: from_executor::Kind) -> io::Result<()> {
        self.put(kind);
        self.flush()
    }

    /// To be sent with what follows.
    fn put(&mut self, kind: from_executor::Kind) {
        FromExecutor { kind: Some(kind) }.encode_length_delimited(&mut self.unsent).expect("a vector grows");
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.write_all(&self.unsent)?;
        self.unsent.clear();
        Ok(())
    }

    /// Takes note of what the worker takes back, without waiting.
    fn look(&mut self) -> io::Result<()> {
        match self.inbox.fill_if_there(&self.socket) {
            // The hang-up is the other thread's.
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        match self.take()? {
            None => Ok(()),
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "a message in the middle of a batch")),
        }
    }

    /// The next message that came in whole, after noting what the worker takes back.
    fn take(&mut self) -> io::Result<Option<to_executor::Kind>> {
        while let Some(message) = self.inbox.take::<ToExecutor>()? {
            let empty = || io::Error::new(io::ErrorKind::InvalidData, "an empty message");
            match message.kind.ok_or_else(empty)? {
                to_executor::Kind::Drop(drop) if drop.batch == self.dropped.batch => self.dropped.calls |= drop.calls,
                // Of a batch that is over.
                to_executor::Kind::Drop(_) => {}
                kind => return Ok(Some(kind)),
            }
        }
        Ok(None)
    }

    /// `None`: the worker closed the socket.
    fn receive(&mut self) -> io::Result<Option<to_executor::Kind>> {
        loop {
            if let Some(kind) = self.take()? {
                return Ok(Some(kind));
            }
            match self.inbox.fill(&self.socket) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn open(&mut self, index: u32) -> io::Result<Result<Opening, wire::Failure>> {
        self.send(from_executor::Kind::Open(wire::Open { index }))?;
        match self.receive()? {
            Some(to_executor::Kind::Opened(Opened { failure: Some(failure), .. })) => Ok(Err(failure)),
            Some(to_executor::Kind::Opened(Opened { bytes, remote: true, .. })) => {
                Ok(Ok(Opening { bytes, from: Origin::Worker { index } }))
            }
            Some(to_executor::Kind::Opened(Opened { bytes, .. })) => {
                let handle = self.inbox.take_handle();
                let handle = handle.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no handle came"))?;
                Ok(Ok(Opening { bytes, from: Origin::File(Arc::new(File::from(handle))) }))
            }
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "something else than a handle came")),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn read(&mut self, index: u32, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let length = u64::try_from(length).expect("usize has at most 64 bits");
        self.send(from_executor::Kind::Read(wire::Read { index, offset, length }))?;
        match self.receive()? {
            // It knows why, and says so in place of whatever this call answers.
            Some(to_executor::Kind::Bytes(wire::Bytes { failed: true, .. })) => {
                Err(io::Error::other("the worker could not read it"))
            }
            Some(to_executor::Kind::Bytes(wire::Bytes { data, .. })) => Ok(data),
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "something else than bytes came")),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Reading is by position, so one serves any number of readers.
#[derive(Debug, Clone)]
struct Opening {
    bytes: u64,
    from: Origin,
}

#[derive(Debug, Clone)]
enum Origin {
    /// The worker handed it over.
    File(Arc<File>),
    /// The worker reads it.
    Worker { index: u32 },
}

struct Ours {
    link: SharedLink,
    scratch: PathBuf,
    /// Those that were opened.
    inputs: Vec<Option<Opening>>,
    last: wire::Progress,
    told: Option<Instant>,
}

impl Host for Ours {
    fn open(&mut self, index: usize) -> Result<Box<dyn Source>, Failure> {
        let inputs = self.inputs.len();
        let (Some(slot), Ok(number)) = (self.inputs.get_mut(index), u32::try_from(index)) else {
            let text = format!("the function asked for input {index} of a call with {inputs}");
            return Err(Failure::new(Class::Internal, "executor_protocol", text));
        };
        if slot.is_none() {
            let opened = self.link.hold().open(number).map_err(|error| {
                let text = format!("input {index} did not come from the worker: {error}");
                Failure::new(Class::Internal, "executor_protocol", text)
            })?;
            *slot = Some(opened?);
        }
        let opening = slot.clone().expect("filled above");
        Ok(Box::new(Input { opening, link: self.link.clone(), position: 0 }))
    }

    fn inputs(&self) -> usize {
        self.inputs.len()
    }

    fn scratch(&self) -> &Path {
        &self.scratch
    }

    fn progress(&mut self, frames: u64, bytes: u64, out_time_us: u64) {
        self.last = wire::Progress { frames, bytes, out_time_us };
        let now = Instant::now();
        if self.told.is_none_or(|told| now.duration_since(told) >= PROGRESS_EVERY) {
            self.told = Some(now);
            // Fails only when the worker is gone, and then this process is about to be.
            drop(self.link.hold().send(from_executor::Kind::Progress(self.last)));
        }
    }
}

struct Input {
    opening: Opening,
    link: SharedLink,
    position: u64,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &self.opening.from {
            Origin::File(file) => file.read_at(buffer, self.position)?,
            // Nothing is asked for that cannot be there.
            Origin::Worker { .. } if self.position >= self.opening.bytes => 0,
            Origin::Worker { index } => {
                let data = self.link.hold().read(*index, self.position, buffer.len())?;
                let room = buffer.get_mut(..data.len());
                let room =
                    room.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "more came than was asked for"))?;
                room.copy_from_slice(&data);
                data.len()
            }
        };
        self.position += u64::try_from(read).expect("a buffer's length fits u64");
        Ok(read)
    }
}

impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.opening.bytes.checked_add_signed(by),
        };
        let before = || io::Error::new(io::ErrorKind::InvalidInput, "a position before the start");
        self.position = target.ok_or_else(before)?;
        Ok(self.position)
    }
}

impl Source for Input {
    fn len(&self) -> u64 {
        self.opening.bytes
    }
}
