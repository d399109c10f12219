//! The worker's end of one executor: spawn, call, kill.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Component, Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use prost::Message;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, Signal};
use spool_proto::call::Value;
use spool_proto::failure::{Class, Failure, Warning};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::link::{self, Inbox};
use super::stderr::Stderr;
use super::watch::{Advance, Limits, Pulse, resident_bytes};
use crate::transfer::Input;
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
    /// Its working directory until its first call; must exist.
    pub directory: PathBuf,
}

/// One call, for an executor.
#[expect(missing_debug_implementations, reason = "it holds a callback")]
pub struct Job<'a> {
    /// `Args`, as JSON.
    pub args: Vec<u8>,
    pub inputs: &'a [Input],
    /// Where outputs go. `None`: the call leaves none.
    pub scratch: Option<&'a Path>,
    pub limits: Limits,
    /// True, or without a sender: stop.
    pub stop: watch::Receiver<bool>,
    /// Told how far the call is, at most ten times a second.
    pub progress: Option<&'a (dyn Fn(Advance) + Send + Sync)>,
}

/// What a call answered.
#[derive(Debug)]
pub struct CallOutput {
    pub value: Value,
    pub warnings: Vec<Warning>,
    pub files: Vec<Produced>,
    pub advance: Advance,
    /// Most memory resident during the call. 0: not measured.
    pub peak_memory_bytes: u64,
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

/// Waits until told to stop.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// One executor process. Dropped, it is killed.
#[derive(Debug)]
pub struct Executor {
    child: Child,
    pid: Option<Pid>,
    link: Link,
    stderr: Stderr,
    media_calls: u32,
    usable: bool,
}

impl Executor {
    /// Starts a process and waits until it is ready.
    ///
    /// # Errors
    /// Class `host`, code `executor_start_failed`.
    pub async fn spawn(options: &ExecutorOptions) -> Result<Executor, Failure> {
        let failed = |what: &dyn std::fmt::Display| {
            let text = format!("executor {} could not be started: {what}", options.program.display());
            Failure::new(Class::Host, "executor_start_failed", text)
        };
        let (child, link) = start(options).map_err(|error| failed(&error))?;
        let mut executor = Executor::around(child, link);
        match tokio::time::timeout(READY_WITHIN, executor.link.receive()).await {
            Ok(Ok(Some(from_executor::Kind::Ready(_)))) => return Ok(executor),
            Ok(Ok(None) | Err(_)) => {
                let (status, evidence) = executor.bury().await;
                Err(failed(&describe(status)).with_evidence(evidence))
            }
            Ok(Ok(Some(_))) => Err(failed(&"it does not speak as an executor does")),
            Err(_) => Err(failed(&format_args!("it was not ready within {READY_WITHIN:?}"))),
        }
        .inspect_err(|failure| tracing::debug!(%failure, "executor"))
    }

    fn around(mut child: Child, link: Link) -> Executor {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let stderr = Stderr::drain(child.stderr.take(), child.id().unwrap_or_default());
        Executor { child, pid, link, stderr, media_calls: 0, usable: true }
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

    /// Runs one call. Whatever ends it otherwise than by its own answer kills the executor before this returns. Not cancel
    /// safe: when dropped half-way, drop the executor too.
    ///
    /// # Errors
    /// The function's own failure, or: `executor_died`, `executor_protocol`, `no_progress` (internal), `timed_out`,
    /// `memory_exceeded` (capacity).
    pub async fn call(&mut self, job: Job<'_>) -> Result<CallOutput, Unanswered> {
        let Job { args, inputs, scratch, limits, mut stop, progress } = job;
        let message = to_executor::Kind::Call(wire::Call {
            args,
            inputs: u32::try_from(inputs.len()).unwrap_or(u32::MAX),
            scratch: scratch.map(|path| path.as_os_str().as_bytes().to_vec()).unwrap_or_default(),
        });
        let done = self.guarded(message, inputs, limits, &mut stop, progress).await?;
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

    /// Proves a backend usable.
    ///
    /// # Errors
    /// The function's own failure, or as [`Executor::call`].
    pub async fn golden(&mut self, backend: &str, within: Duration) -> Result<(), Failure> {
        let message = to_executor::Kind::Golden(wire::Golden { backend: backend.into() });
        let limits = Limits { timeout: within, ..Limits::default() };
        let (_never, mut stop) = watch::channel(false);
        match self.guarded(message, &[], limits, &mut stop, None).await {
            Ok(_) => Ok(()),
            Err(Unanswered::Failed(failure)) => Err(failure),
            Err(Unanswered::Stopped) => unreachable!("the sender of stop lives and says nothing"),
        }
    }

    /// Kills the process and waits until it is gone.
    pub async fn kill(&mut self) {
        self.usable = false;
        // Its whole group: the executor leads its own.
        if let (Some(pid), Ok(None)) = (self.pid, self.child.try_wait()) {
            let _gone_already = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        drop(self.child.start_kill());
        if tokio::time::timeout(REAPED_WITHIN, self.child.wait()).await.is_err() {
            tracing::warn!(pid = self.child.id(), "a killed executor does not leave: is a disk hanging?");
        }
    }

    /// Talks until the answer, under the limits.
    async fn guarded(
        &mut self,
        message: to_executor::Kind,
        inputs: &[Input],
        limits: Limits,
        stop: &mut watch::Receiver<bool>,
        progress: Option<&(dyn Fn(Advance) + Send + Sync)>,
    ) -> Result<wire::Done, Unanswered> {
        self.stderr.forget();
        let pulse = Pulse::new();
        let end = tokio::select! {
            biased;
            said = self.link.converse(message, inputs, &pulse, progress) => End::Said(said),
            () = stopped(stop) => End::Stopped,
            failure = super::watch::watch(self.pid, limits, &pulse) => End::Limit(failure),
        };
        match end {
            End::Said(Ok(Said::Done(done))) => Ok(done),
            End::Said(Ok(Said::Failed(failure))) => Err(failure.into()),
            End::Said(Err(Broken::Closed)) => Err(self.died().await.into()),
            End::Said(Err(Broken::Mad(text))) => Err(self.mad(&text).await.into()),
            End::Stopped => {
                self.kill().await;
                Err(Unanswered::Stopped)
            }
            End::Limit(failure) => {
                self.kill().await;
                self.stderr.finish().await;
                Err(failure.with_evidence(self.stderr.tail()).into())
            }
        }
    }

    async fn died(&mut self) -> Failure {
        let (status, evidence) = self.bury().await;
        let text = format!("the executor died in the middle of the call: {}", describe(status));
        Failure::new(Class::Internal, "executor_died", text).with_evidence(evidence)
    }

    async fn mad(&mut self, text: &str) -> Failure {
        self.kill().await;
        let text = format!("the executor said what it must not: {text}");
        Failure::new(Class::Internal, "executor_protocol", text).with_evidence(self.stderr.tail())
    }

    /// Waits for the end of a process that closed its socket: how it ended, and the tail of its stderr.
    async fn bury(&mut self) -> (Option<ExitStatus>, String) {
        self.usable = false;
        let status = tokio::time::timeout(Duration::from_secs(1), self.child.wait()).await;
        let status = status.ok().and_then(Result::ok);
        if status.is_none() {
            self.kill().await;
        }
        self.stderr.finish().await;
        (status, self.stderr.tail())
    }
}

fn start(options: &ExecutorOptions) -> io::Result<(Child, Link)> {
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let ours = std::os::unix::net::UnixStream::from(ours);
    ours.set_nonblocking(true)?;
    let kept = ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let child = Command::new(&options.program)
        .args(&options.args)
        .env_clear()
        .envs(kept)
        .current_dir(&options.directory)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Ctrl-C at the terminal reaches the worker alone, which then decides.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, Link { socket: UnixStream::from_std(ours)?, inbox: Inbox::default() }))
}

/// How a conversation ended.
enum End {
    Said(Result<Said, Broken>),
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

    async fn converse(
        &mut self,
        message: to_executor::Kind,
        inputs: &[Input],
        pulse: &Pulse,
        progress: Option<&(dyn Fn(Advance) + Send + Sync)>,
    ) -> Result<Said, Broken> {
        self.send(message, None).await?;
        loop {
            match self.receive().await?.ok_or(Broken::Closed)? {
                from_executor::Kind::Done(done) => return Ok(Said::Done(done)),
                from_executor::Kind::Failed(failure) => return Ok(Said::Failed(failure.into())),
                from_executor::Kind::Progress(said) => {
                    pulse.beat();
                    if let Some(progress) = progress {
                        progress(said.into());
                    }
                }
                from_executor::Kind::Open(wire::Open { index }) => {
                    let input = usize::try_from(index).ok().and_then(|index| inputs.get(index)).cloned();
                    let input = input.ok_or_else(|| Broken::Mad(format!("it asked for input {index}")))?;
                    let opened = crate::blocking(move || input.open()).await;
                    let (opened, handle) = match opened {
                        Ok(open) => (wire::Opened { bytes: open.bytes, failure: None }, Some(open.file.into())),
                        Err(failure) => (wire::Opened { bytes: 0, failure: Some(failure.into()) }, None),
                    };
                    self.send(to_executor::Kind::Opened(opened), handle).await?;
                    pulse.beat();
                }
                from_executor::Kind::Ready(_) => return Err(Broken::Mad("ready, in the middle of a call".into())),
            }
        }
    }
}

impl From<wire::Progress> for Advance {
    fn from(wire::Progress { frames, bytes, out_time_us }: wire::Progress) -> Advance {
        Advance { frames, bytes, out_time_us }
    }
}

/// The executor is not trusted: what it names must lie in its scratch directory.
fn read_done(done: wire::Done, scratch: Option<&Path>) -> Result<CallOutput, String> {
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
        peak_memory_bytes: done.peak_memory_bytes,
    })
}

fn describe(status: Option<ExitStatus>) -> String {
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

fn signal_name(number: i32) -> Option<&'static str> {
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
