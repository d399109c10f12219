//! The worker's end of one executor: spawn, call (a batch, or one), kill.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use prost::Message;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, Signal};
use spool_proto::call::{SourceRead, Value};
use spool_proto::failure::{Class, Failure, Warning};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::Instant;

use super::bounds::{self, Bounds};
use super::den::{Den, Guest};
use super::ended::{describe, read_done};
use super::link::{self, Inbox};
use super::reads::Reads;
use super::sandbox::{self, Sandbox, Walls};
use super::stderr::Stderr;
use super::stops::{self, Stops};
use super::watch::{Advance, Limits, Pulse, resident_bytes};
use crate::stores::Stores;
use crate::transfer::{Input, write_failure};
use crate::wire::{self, FromExecutor, ToExecutor, from_executor, to_executor};

/// From spawn to ready. Loading the codec libraries takes tens of milliseconds; a machine under load takes longer.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// For a killed process to be gone. Only a disk that hangs holds one longer.
const REAPED_WITHIN: Duration = Duration::from_secs(5);
/// Media calls after which an executor is replaced: codecs leak.
const MEDIA_CALLS: u32 = 64;
/// Resident bytes after a call beyond which an executor is replaced.
const RESIDENT_AFTER: u64 = 512 << 20;
/// What an executor may know of the environment. No credentials.
const ENVIRONMENT: [&str; 8] =
    ["PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "RUST_LOG", "RUST_BACKTRACE"];

/// How to start an executor: this program with these arguments, in this directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorOptions {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// Where it gets a directory of its own; must exist, on the file system of its calls' scratch.
    pub directory: PathBuf,
    /// What it locks itself in with.
    pub sandbox: Sandbox,
}

/// One call of a batch, for an executor.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "it holds a callback")]
pub struct Job<'a> {
    /// By which it is stopped and told of; below [`Stops::MOST`], and no other's in the batch.
    pub position: usize,
    /// `Args`, as JSON.
    pub args: &'a [u8],
    pub inputs: &'a [Input],
    /// Where inputs are read that are no files of this machine.
    pub stores: &'a Stores,
    /// Where outputs go: the executor's own while it has the call. `None`: the call leaves none.
    pub scratch: Option<&'a Path>,
    pub limits: Limits,
    /// Told how far the call is, at most ten times a second.
    pub progress: Option<&'a (dyn Fn(Advance) + Send + Sync)>,
}

/// What becomes of a call of a batch.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "told one at a time, and mostly ends")]
pub enum Told {
    /// It runs from here on.
    Begun,
    Ended(Result<CallOutput, Unanswered>),
    /// It waited too long behind the others, and will not run here.
    Back,
}

/// Told what becomes of the call at a position.
pub type Tell<'a> = &'a mut (dyn FnMut(usize, Told) + Send);

/// What a call answered.
#[derive(Debug)]
pub struct CallOutput {
    pub value: Value,
    pub warnings: Vec<Warning>,
    pub files: Vec<Produced>,
    pub advance: Advance,
    /// How its source was read, if that is not a file of this machine.
    pub source: Option<SourceRead>,
    /// Most memory resident during the call. 0: not measured.
    pub peak_memory_bytes: u64,
    /// How long the executor was busy with it.
    pub busy: Duration,
}

/// A file in the call's scratch directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Produced {
    pub name: String,
    pub path: PathBuf,
}

/// How a call ends that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered {
    Failed(Failure),
    /// It was told to stop.
    Stopped,
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Unanswered {
        Unanswered::Failed(failure)
    }
}

/// One executor process. Dropped, it is killed.
#[derive(Debug)]
pub struct Executor {
    child: Child,
    pid: Option<Pid>,
    link: Link,
    stderr: Stderr,
    media_calls: u32,
    /// Takes another call.
    usable: bool,
    /// The process ended, or was made to.
    gone: bool,
    batches: u64,
    walls: Walls,
    /// Removed after the process was killed.
    den: Den,
}

impl Executor {
    /// Starts a process and waits until it is ready.
    ///
    /// # Errors
    /// Class `host`: `executor_start_failed`; `sandbox_incomplete` where all of it is required.
    pub async fn spawn(options: &ExecutorOptions) -> Result<Executor, Failure> {
        let failed = |what: &dyn std::fmt::Display| {
            let text = format!("executor {} could not be started: {what}", options.program.display());
            Failure::new(Class::Host, "executor_start_failed", text)
        };
        let den = Den::make(&options.directory).map_err(|error| failed(&error))?;
        let (child, link) = start(options, den.path()).map_err(|error| failed(&error))?;
        let mut executor = Executor::around(child, link, den);
        match tokio::time::timeout(READY_WITHIN, executor.link.receive()).await {
            Ok(Ok(Some(from_executor::Kind::Ready(ready)))) => {
                executor.walls = ready.walls.unwrap_or_default().into();
                if options.sandbox == Sandbox::Require && !executor.walls.is_whole() {
                    executor.kill().await;
                    return Err(incomplete(&executor.walls));
                }
                return Ok(executor);
            }
            Ok(Ok(None) | Err(_)) => {
                let (status, evidence) = executor.bury().await;
                Err(failed(&describe(status)).with_evidence(evidence))
            }
            Ok(Ok(Some(_))) => Err(failed(&"it does not speak as an executor does")),
            Err(_) => Err(failed(&format_args!("it was not ready within {READY_WITHIN:?}"))),
        }
        .inspect_err(|failure| tracing::debug!(%failure, "executor"))
    }

    fn around(mut child: Child, link: Link, den: Den) -> Executor {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let stderr = Stderr::drain(child.stderr.take(), child.id().unwrap_or_default());
        let walls = Walls::default();
        Executor { child, pid, link, stderr, media_calls: 0, usable: true, gone: false, batches: 0, walls, den }
    }

    /// What it is locked in with, as it found out itself before its first call.
    pub fn walls(&self) -> &Walls {
        &self.walls
    }

    /// Alive, and not yet due to be replaced.
    pub fn is_usable(&mut self) -> bool {
        self.usable && matches!(self.child.try_wait(), Ok(None))
    }

    /// What earlier calls left in its memory leaves enough for a call with these limits. A fresh one always does.
    pub fn has_room(&self, limits: Limits) -> bool {
        let resident = || self.pid.and_then(resident_bytes).unwrap_or(0);
        self.media_calls == 0 || limits.memory_mib == 0 || resident() <= (limits.memory_mib << 20) / 2
    }

    /// Runs one call, a batch of its own.
    ///
    /// # Errors
    /// The function's own failure, or: `executor_died`, `executor_protocol`, `no_progress` (internal), `timed_out`,
    /// `memory_exceeded` (capacity).
    pub async fn call(&mut self, job: Job<'_>, mut stop: watch::Receiver<Stops>) -> Result<CallOutput, Unanswered> {
        let mut ended = None;
        let mut tell = |_, told| {
            if let Told::Ended(result) = told {
                ended = Some(result);
            }
        };
        self.batch(&[job], &mut stop, None, &mut tell).await;
        ended.unwrap_or(Err(Unanswered::Stopped))
    }

    /// Runs calls one after the other and tells of each. Those that wait longer than `patience` are told to be back; of those
    /// that it leaves for other reasons (they were to stop, the executor is spent or dead) nothing is told. Whatever ends a call
    /// otherwise than by its own answer kills the executor before this returns. Not cancel safe: when dropped half-way, drop the
    /// executor too.
    pub async fn batch(
        &mut self,
        jobs: &[Job<'_>],
        stop: &mut watch::Receiver<Stops>,
        patience: Option<Duration>,
        tell: Tell<'_>,
    ) {
        let media = jobs.iter().any(|job| job.scratch.is_some());
        let most = if media { MEDIA_CALLS.saturating_sub(self.media_calls).max(1) } else { MEDIA_CALLS };
        let most = usize::try_from(most).unwrap_or(Stops::MOST).min(Stops::MOST);
        let jobs = jobs.get(..most).unwrap_or(jobs);
        self.batches += 1;
        self.stderr.forget();
        let guests = match jobs.iter().map(|job| job.scratch.map(|path| self.den.admit(path)).transpose()).collect() {
            Ok(guests) => guests,
            Err(error) => {
                let failure = write_failure(&error, self.den.path(), "scratch_unwritable");
                tell(jobs[0].position, Told::Begun);
                return tell(jobs[0].position, Told::Ended(Err(failure.into())));
            }
        };
        if media {
            self.bind(jobs[0].limits, jobs.len(), true);
        }
        let mut batch = Batch {
            number: self.batches,
            jobs,
            guests,
            out: Stops::NONE,
            ends: patience.filter(|_| jobs.len() > 1).map(|patience| Instant::now() + patience),
        };
        let mut message = Some(batch.message());
        for (index, job) in jobs.iter().enumerate() {
            if index > 0 && !self.next_begins(batch.out.has(index)).await {
                if self.gone {
                    return;
                }
                continue;
            }
            tell(job.position, Told::Begun);
            let ended = self.turn(&mut batch, index, message.take(), stop, tell).await;
            batch.guests[index] = None;
            tell(job.position, Told::Ended(ended));
            if self.gone {
                return;
            }
        }
    }

    /// Has the kernel hold it to what so many calls of these limits may use, from now on.
    fn bind(&self, limits: Limits, calls: usize, writes: bool) {
        let Some(pid) = self.pid else { return };
        let calls = u32::try_from(calls).unwrap_or(u32::MAX);
        let cores = u64::try_from(spool_media::process::cores()).unwrap_or(u64::MAX);
        let scratch = writes.then(|| self.den.path());
        Bounds::of(limits, calls, scratch, bounds::cpu_used(pid), cores).set(pid);
    }

    /// What the executor says of the next call of its batch. False: it is left, or the executor is gone.
    async fn next_begins(&mut self, out: bool) -> bool {
        // It comes with the answer before it.
        match tokio::time::timeout(READY_WITHIN, self.link.receive()).await {
            Ok(Ok(Some(from_executor::Kind::Begun(_)))) if !out => return true,
            Ok(Ok(Some(from_executor::Kind::Left(_)))) => return false,
            // It began what was to be left: our word came too late.
            Ok(Ok(Some(from_executor::Kind::Begun(_)))) => {}
            said => {
                let said = said.map(|said| said.map(|message| message.is_some()));
                tracing::warn!(?said, "an executor ended between two calls; the calls it held run elsewhere");
            }
        }
        self.kill().await;
        false
    }

    /// Sees one call through, and hears meanwhile which others are taken back.
    async fn turn(
        &mut self,
        batch: &mut Batch<'_>,
        index: usize,
        message: Option<to_executor::Kind>,
        stop: &mut watch::Receiver<Stops>,
        tell: Tell<'_>,
    ) -> Result<CallOutput, Unanswered> {
        let job = &batch.jobs[index];
        let pulse = Pulse::new();
        let mut reads = Reads::new(job.stores, job.inputs);
        let limits = super::watch::watch(self.pid, job.limits, &pulse);
        tokio::pin!(limits);
        if stops::asked(stop).has(job.position) {
            self.kill().await;
            return Err(Unanswered::Stopped);
        }
        if let Some(message) = message {
            let sent = tokio::select! {
                sent = self.link.send(message, None) => sent,
                () = stops::stopped(stop, job.position) => return Err(self.end(End::Stopped).await),
                failure = &mut limits => return Err(self.end(End::Limit(failure)).await),
            };
            if let Err(error) = sent {
                return Err(self.end(End::Broken(error.into())).await);
            }
        }
        loop {
            let news = tokio::select! {
                said = self.link.receive() => News::Said(said),
                stops = stops::more(stop) => News::Stops(stops),
                failure = &mut limits => News::Limit(failure),
                () = until(batch.ends) => News::Late,
            };
            let done = match news {
                News::Said(said) => tokio::select! {
                    biased;
                    heard = self.hear(said, job, &mut reads, &pulse) => heard,
                    () = stops::stopped(stop, job.position) => Err(End::Stopped),
                    failure = &mut limits => Err(End::Limit(failure)),
                },
                News::Stops(stops) if stops.has(job.position) => Err(End::Stopped),
                News::Stops(stops) => {
                    let out = batch.behind(index).filter(|at| stops.has(batch.jobs[*at].position)).collect();
                    self.take_out(batch, out).await.map(|()| None).map_err(End::Broken)
                }
                News::Limit(failure) => Err(End::Limit(failure)),
                News::Late => {
                    batch.ends = None;
                    let out: Vec<usize> = batch.behind(index).collect();
                    for at in out.iter().rev() {
                        batch.guests[*at] = None;
                        tell(batch.jobs[*at].position, Told::Back);
                    }
                    self.take_out(batch, out).await.map(|()| None).map_err(End::Broken)
                }
            };
            match done {
                Ok(None) => {}
                // Whatever it made of an input that ended too soon: this is why.
                Ok(Some(Said::Done(_) | Said::Failed(_))) if let Some(failure) = reads.take_failure() => {
                    return Err(failure.into());
                }
                Ok(Some(Said::Done(done))) => {
                    let output = self.read(done, job.scratch).await?;
                    return Ok(CallOutput { source: reads.source(), ..output });
                }
                Ok(Some(Said::Failed(failure))) => return Err(failure.into()),
                Err(end) => return Err(self.end(end).await),
            }
        }
    }

    async fn take_out(&mut self, batch: &mut Batch<'_>, out: Vec<usize>) -> Result<(), Broken> {
        let mut calls = Stops::NONE;
        for index in out {
            calls.add(index);
            batch.out.add(index);
        }
        if calls == Stops::NONE {
            return Ok(());
        }
        let drop = wire::Drop { batch: batch.number, calls: calls.bits() };
        // It has read all we sent but this: there is room, unless it is mad.
        match tokio::time::timeout(READY_WITHIN, self.link.send(to_executor::Kind::Drop(drop), None)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(Broken::Mad("nothing, and it does not listen".into())),
        }
    }

    /// `None`: the call goes on.
    async fn hear(
        &mut self,
        said: io::Result<Option<from_executor::Kind>>,
        job: &Job<'_>,
        reads: &mut Reads<'_>,
        pulse: &Pulse,
    ) -> Result<Option<Said>, End> {
        match said.map_err(|error| End::Broken(error.into()))?.ok_or(End::Broken(Broken::Closed))? {
            from_executor::Kind::Done(done) => return Ok(Some(Said::Done(done))),
            from_executor::Kind::Failed(failure) => return Ok(Some(Said::Failed(failure.into()))),
            from_executor::Kind::Progress(said) => {
                pulse.beat();
                if let Some(progress) = job.progress {
                    progress(said.into());
                }
            }
            from_executor::Kind::Open(wire::Open { index }) => {
                let opened = reads.open(index, pulse).await;
                let (opened, file) = opened.map_err(|text| End::Broken(Broken::Mad(text)))?;
                let sent = self.link.send(to_executor::Kind::Opened(opened), file.map(OwnedFd::from)).await;
                sent.map_err(|error| End::Broken(error.into()))?;
            }
            from_executor::Kind::Read(read) => {
                let bytes = reads.read(read, pulse).await.map_err(|text| End::Broken(Broken::Mad(text)))?;
                let sent = self.link.send(to_executor::Kind::Bytes(bytes), None).await;
                sent.map_err(|error| End::Broken(error.into()))?;
            }
            from_executor::Kind::Ready(_) | from_executor::Kind::Begun(_) | from_executor::Kind::Left(_) => {
                return Err(End::Broken(Broken::Mad("ready or begun, in the middle of a call".into())));
            }
        }
        Ok(None)
    }

    async fn read(&mut self, done: wire::Done, scratch: Option<&Path>) -> Result<CallOutput, Unanswered> {
        if scratch.is_some() {
            self.media_calls += 1;
            let resident = self.pid.and_then(resident_bytes).unwrap_or(0);
            self.usable &= self.media_calls < MEDIA_CALLS && resident <= RESIDENT_AFTER;
        }
        match read_done(done, scratch) {
            Ok(output) => Ok(output),
            Err(text) => Err(self.mad(&text).await.into()),
        }
    }

    /// Ends the executor, and with it the call.
    async fn end(&mut self, end: End) -> Unanswered {
        match end {
            End::Broken(Broken::Closed) => self.died().await.into(),
            End::Broken(Broken::Mad(text)) => self.mad(&text).await.into(),
            End::Stopped => {
                self.kill().await;
                Unanswered::Stopped
            }
            End::Limit(failure) => {
                self.kill().await;
                self.stderr.finish().await;
                failure.with_evidence(self.stderr.tail()).into()
            }
        }
    }

    /// Proves a backend usable.
    ///
    /// # Errors
    /// The function's own failure, or as [`Executor::call`].
    pub async fn golden(&mut self, backend: &str, within: Duration) -> Result<(), Failure> {
        self.stderr.forget();
        let message = to_executor::Kind::Golden(wire::Golden { backend: backend.into() });
        let limits = Limits { timeout: within, ..Limits::default() };
        self.bind(limits, 1, false);
        let pulse = Pulse::new();
        let talk = async {
            self.link.send(message, None).await?;
            self.link.receive().await
        };
        let end = tokio::select! {
            said = talk => match said {
                Ok(Some(from_executor::Kind::Done(_))) => return Ok(()),
                Ok(Some(from_executor::Kind::Failed(failure))) => return Err(failure.into()),
                Ok(Some(_)) => End::Broken(Broken::Mad("something else than how its encode went".into())),
                Ok(None) => End::Broken(Broken::Closed),
                Err(error) => End::Broken(error.into()),
            },
            failure = super::watch::watch(self.pid, limits, &pulse) => End::Limit(failure),
        };
        match self.end(end).await {
            Unanswered::Failed(failure) => Err(failure),
            Unanswered::Stopped => unreachable!("nobody stops a proof"),
        }
    }

    /// Kills the process and waits until it is gone.
    pub async fn kill(&mut self) {
        self.usable = false;
        self.gone = true;
        // Its whole group: the executor leads its own.
        if let (Some(pid), Ok(None)) = (self.pid, self.child.try_wait()) {
            let _gone_already = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        drop(self.child.start_kill());
        if tokio::time::timeout(REAPED_WITHIN, self.child.wait()).await.is_err() {
            tracing::warn!(pid = self.child.id(), "a killed executor does not leave: is a disk hanging?");
        }
    }

    async fn died(&mut self) -> Failure {
        let (status, evidence) = self.bury().await;
        let failure = bounds::failure(status.and_then(|status| status.signal()), &evidence).unwrap_or_else(|| {
            let text = format!("the executor died in the middle of the call: {}", describe(status));
            Failure::new(Class::Internal, "executor_died", text)
        });
        failure.with_evidence(evidence)
    }

    async fn mad(&mut self, text: &str) -> Failure {
        self.kill().await;
        let text = format!("the executor said what it must not: {text}");
        Failure::new(Class::Internal, "executor_protocol", text).with_evidence(self.stderr.tail())
    }

    /// Waits for the end of a process that closed its socket: how it ended, and the tail of its stderr.
    async fn bury(&mut self) -> (Option<ExitStatus>, String) {
        self.usable = false;
        self.gone = true;
        let status = tokio::time::timeout(Duration::from_secs(1), self.child.wait()).await;
        let status = status.ok().and_then(Result::ok);
        if status.is_none() {
            self.kill().await;
        }
        self.stderr.finish().await;
        (status, self.stderr.tail())
    }
}

fn incomplete(walls: &Walls) -> Failure {
    let text = format!(
        "this machine cannot lock executors in as asked ({}); `spool doctor` shows what it has, and without --sandbox require \
         that is made do with",
        walls.missing.join("; ")
    );
    Failure::new(Class::Host, "sandbox_incomplete", text)
}

fn start(options: &ExecutorOptions, directory: &Path) -> io::Result<(Child, Link)> {
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let ours = std::os::unix::net::UnixStream::from(ours);
    ours.set_nonblocking(true)?;
    let kept = ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let child = Command::new(&options.program)
        .args(&options.args)
        .env_clear()
        .envs(kept)
        // Or it prints a banner for every chunk.
        .env("SVT_LOG", "1")
        .env(sandbox::VARIABLE, options.sandbox.to_string())
        .current_dir(directory)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Ctrl-C at the terminal reaches the worker alone, which then decides.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, Link { socket: UnixStream::from_std(ours)?, inbox: Inbox::default() }))
}

/// A batch in an executor.
struct Batch<'a> {
    number: u64,
    jobs: &'a [Job<'a>],
    /// By index in `jobs`: its scratch, with the executor.
    guests: Vec<Option<Guest>>,
    /// By index in `jobs`: taken out, though the executor may not know it yet.
    out: Stops,
    /// When those still waiting go back.
    ends: Option<Instant>,
}

impl Batch<'_> {
    fn message(&self) -> to_executor::Kind {
        let call = |(job, guest): (&Job<'_>, &Option<Guest>)| wire::Call {
            args: job.args.to_vec(),
            inputs: u32::try_from(job.inputs.len()).unwrap_or(u32::MAX),
            scratch: guest.as_ref().map(|guest| guest.path().as_os_str().as_bytes().to_vec()).unwrap_or_default(),
        };
        let memory_mib = self.jobs.iter().map(|job| job.limits.memory_mib).filter(|mib| *mib > 0).min();
        let resident_max = memory_mib.map_or(RESIDENT_AFTER, |mib| (mib << 20) / 2).min(RESIDENT_AFTER);
        let calls = self.jobs.iter().zip(&self.guests).map(call).collect();
        to_executor::Kind::Batch(wire::Batch { number: self.number, calls, resident_max })
    }

    /// What waits behind the call at `index`.
    fn behind(&self, index: usize) -> impl Iterator<Item = usize> {
        (index + 1..self.jobs.len()).filter(|at| !self.out.has(*at))
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// What happens while a call runs.
enum News {
    Said(io::Result<Option<from_executor::Kind>>),
    Stops(Stops),
    Limit(Failure),
    /// Those behind have waited long enough.
    Late,
}

/// How a call ended that has no answer of its own.
enum End {
    Broken(Broken),
    Stopped,
    Limit(Failure),
}

enum Said {
    Done(wire::Done),
    Failed(Failure),
}

enum Broken {
    /// The other end closed.
    Closed,
    /// What came is not the protocol.
    Mad(String),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        match error.kind() {
            io::ErrorKind::InvalidData => Broken::Mad(error.to_string()),
            _ => Broken::Closed,
        }
    }
}

/// The socket, without blocking.
#[derive(Debug)]
struct Link {
    socket: UnixStream,
    inbox: Inbox,
}

impl Link {
    async fn send(&mut self, kind: to_executor::Kind, mut handle: Option<OwnedFd>) -> io::Result<()> {
        let bytes = ToExecutor { kind: Some(kind) }.encode_length_delimited_to_vec();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let socket = &self.socket;
            let sent = socket.async_io(Interest::WRITABLE, || link::send(socket, rest, handle.as_ref())).await?;
            handle = None;
            rest = &rest[sent..];
        }
        Ok(())
    }

    /// `None`: closed. Cancel safe.
    async fn receive(&mut self) -> io::Result<Option<from_executor::Kind>> {
        loop {
            if let Some(message) = self.inbox.take::<FromExecutor>()? {
                let empty = || io::Error::new(io::ErrorKind::InvalidData, "an empty message");
                return message.kind.ok_or_else(empty).map(Some);
            }
            let (socket, inbox) = (&self.socket, &mut self.inbox);
            if socket.async_io(Interest::READABLE, || inbox.fill(socket)).await? == 0 {
                return Ok(None);
            }
        }
    }
}

impl From<wire::Progress> for Advance {
    fn from(wire::Progress { frames, bytes, out_time_us }: wire::Progress) -> Advance {
        Advance { frames, bytes, out_time_us }
    }
}
