//! One call of a function, from the start of its program to its answer; and what gets it killed.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, Signal};
use serde_json::json;
use spool_proto::call::{UserArgs, Value};
use spool_proto::failure::{Class, Failure};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Launcher;
use super::cache::Ready;
use super::image::{self, Container, Runtime};
use super::inputs::File;
use super::launch::{Order, Word, encode};
use super::talk::{self, LINE_MAX, Line};
use super::tree::{ENTRIES_MAX, PROCESSES_MAX, THREADS_MAX, Usage, bytes_below};
use super::{inputs, outputs};
use crate::executor::program::Reach;
use crate::executor::{Advance, Limits, Pulse, Stops, Unanswered, Walls, signal_name, stopped};
use crate::runner::Progress;
use crate::transfer::write_failure;

/// Between two looks at what a call uses, and at its scratch.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const SCRATCH_EVERY: u32 = 10;
/// From the start of a launcher to its walls.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// For the last words of what was killed to arrive, and for it to be gone.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Bytes kept of what it says.
const LOG: usize = 16 << 10;
/// Memory that a process of the program may ask for, beyond twice what was declared: what an interpreter has before it does anything,
/// and stacks of threads, which count whole.
const DATA_BASE: u64 = 256 << 20;
const DATA_A_CORE: u64 = 64 << 20;
const CPU_SPARE_S: u64 = 60;
const PATHS: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// One call, ready to be run.
pub struct One<'a> {
    pub ready: &'a Ready,
    pub args: &'a UserArgs,
    pub files: &'a BTreeMap<String, File>,
    /// Its scratch.
    pub place: &'a Path,
    pub limits: Limits,
    pub progress: &'a Progress,
}

/// Where the program finds things: on this machine, or in its container.
struct Paths {
    call: String,
    files: BTreeMap<String, String>,
}

impl One<'_> {
    fn cores(&self) -> u64 {
        self.ready.manifest.resources.cpu.div_ceil(1_000).max(1)
    }

    /// Makes its folders; what the program is told on stdin and in a file.
    async fn prepare(&self, paths: &Paths) -> Result<String, Failure> {
        let input = self.ready.manifest.input.with_files(&self.args.input, &paths.files);
        let call = json!({
            "function": self.args.name,
            "version": self.args.hash,
            "input": input,
            "files": paths.files,
            "out": format!("{}/{}", paths.call, outputs::FOLDER),
        });
        let call = call.to_string();
        let (place, text) = (self.place.to_owned(), call.clone());
        let made = crate::blocking(move || {
            std::fs::create_dir(place.join(outputs::FOLDER))?;
            std::fs::create_dir(place.join("tmp"))?;
            std::fs::write(place.join("call.json"), text)
        });
        made.await.map_err(|error| write_failure(&error, self.place, "scratch_unwritable"))?;
        Ok(call)
    }

    fn environment(&self, paths: &Paths, search: String) -> BTreeMap<String, String> {
        let Paths { call, .. } = paths;
        let pairs = [
            ("PATH", search),
            ("HOME", format!("{call}/tmp")),
            ("TMPDIR", format!("{call}/tmp")),
            ("LANG", "C.UTF-8".into()),
            ("PYTHONDONTWRITEBYTECODE", "1".into()),
            ("PYTHONNOUSERSITE", "1".into()),
            ("PYTHONUNBUFFERED", "1".into()),
            ("OMP_NUM_THREADS", self.cores().to_string()),
            ("SPOOL_FUNCTION", self.args.name.clone()),
            ("SPOOL_CALL", format!("{call}/call.json")),
            ("SPOOL_OUT", format!("{call}/{}", outputs::FOLDER)),
            ("SPOOL_RESULT", format!("{call}/result.json")),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The answer of a program that ended well.
    async fn answer(&self, heard: Heard, log: String) -> Result<Value, Failure> {
        let name = &self.args.name;
        let of = |code: &str, text: String| Failure::new(Class::Internal, code, text).with_evidence(log.clone());
        let result = match heard.result {
            Some(result) => result,
            None => match self.written_result().await? {
                Some(text) => serde_json::from_str(&text).map_err(|error| {
                    of("function_bad_result", format!("{name} wrote a result that is no JSON: {error}"))
                })?,
                None => {
                    let text =
                        format!("{name} ended without a result: it says {{\"result\": …}} on stdout, as its last line");
                    return Err(of("function_no_result", text));
                }
            },
        };
        let result = match &self.ready.manifest.output {
            None => result,
            Some(schema) => schema.conform(&result).map_err(|mismatch| {
                of("function_bad_result", format!("the result of {name} is not what its manifest says: {mismatch}"))
            })?,
        };
        Ok(Value::User { result, log })
    }

    /// What it left in the file for results, where it said none.
    async fn written_result(&self) -> Result<Option<String>, Failure> {
        let (path, name) = (self.place.join("result.json"), self.args.name.clone());
        crate::blocking(move || {
            // Nothing runs any more that could put another in its place.
            let plain = std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
            let (true, Ok(file)) = (plain, std::fs::File::open(&path)) else { return Ok(None) };
            let mut text = String::new();
            let most = u64::try_from(LINE_MAX + 1).unwrap_or(u64::MAX);
            match io::Read::read_to_string(&mut io::Read::take(file, most), &mut text) {
                Ok(_) if text.len() > LINE_MAX => Err(too_long(&name)),
                Ok(_) => Ok(Some(text)),
                Err(error) => Err(write_failure(&error, &path, "scratch_unwritable")),
            }
        })
        .await
    }
}

fn too_long(name: &str) -> Failure {
    let text =
        format!("{name} said a line, or wrote a result, of more than {LINE_MAX} bytes; leave large data as a file");
    Failure::new(Class::Internal, "function_bad_output", text)
}

/// Tries the walls, and starts nothing in them.
///
/// # Errors
/// Class `host`: `function_not_started`.
pub async fn walls(launcher: &Launcher, scratch: &Path) -> Result<Walls, Failure> {
    let reach = Reach { scratch: scratch.to_owned(), ..Reach::default() };
    let order = Order { sandbox: launcher.sandbox.to_string(), reach, ..Order::default() };
    let mut started = Started::launch(launcher, scratch, &order).await?;
    started.walls().await
}

/// Runs its program in the walls of this machine.
pub async fn program(one: &One<'_>, launcher: &Launcher, stop: &watch::Receiver<Stops>) -> Result<Value, Unanswered> {
    let path = |file: &File| one.place.join(inputs::FOLDER).join(&file.name).display().to_string();
    let files = one.files.iter().map(|(field, file)| (field.clone(), path(file))).collect();
    let paths = Paths { call: one.place.display().to_string(), files };
    let input = one.prepare(&paths).await?;
    let mut search: Vec<String> = Vec::new();
    for folder in &launcher.options.programs {
        search.extend([folder.join("bin"), folder.clone()].map(|folder| folder.display().to_string()));
    }
    search.push(PATHS.into());
    let machine = u64::try_from(spool_media::process::cores()).unwrap_or(1).max(1);
    let Limits { timeout, memory_mib, scratch_mib, .. } = one.limits;
    let mib = |amount: u64| amount.saturating_mul(1 << 20);
    let bound = |limited: bool, bound: u64| if limited { bound } else { 0 };
    let reach = Reach {
        programs: [one.ready.folder.clone()].into_iter().chain(launcher.options.programs.iter().cloned()).collect(),
        inputs: one.files.values().map(|file| file.path.clone()).collect(),
        scratch: one.place.to_owned(),
        data: bound(memory_mib > 0, mib(memory_mib).saturating_mul(2) + DATA_BASE + machine * DATA_A_CORE),
        file: mib(scratch_mib),
        cpu_s: bound(!timeout.is_zero(), timeout.as_secs().saturating_add(1).saturating_mul(machine) + CPU_SPARE_S),
    };
    let order = Order {
        command: one.ready.manifest.command.clone(),
        folder: one.ready.folder.clone(),
        environment: one.environment(&paths, search.join(":")),
        input,
        sandbox: launcher.sandbox.to_string(),
        reach,
    };
    let mut started = Started::launch(launcher, one.place, &order).await?;
    let mut talk = Talk::listen(&mut started.child, one);
    started.walls().await?;
    let pid = started.group.0;
    let ended = tokio::select! {
        ended = started.ended() => Ok(ended),
        over = talk.over(Some(pid), one, stop) => Err(over),
    };
    drop(started);
    talk.finish(one, ended).await
}

/// Runs its program in a container.
pub async fn container(
    one: &One<'_>,
    runtime: &Runtime,
    reference: &str,
    stop: &watch::Receiver<Stops>,
) -> Result<Value, Unanswered> {
    static CONTAINERS: AtomicU64 = AtomicU64::new(0);
    let files = one.files.iter().map(|(field, file)| (field.clone(), format!("{}/{}", image::INPUTS, file.name)));
    let paths = Paths { call: image::CALL.into(), files: files.collect() };
    let input = one.prepare(&paths).await?;
    let own = [one.ready.folder.as_path(), one.place];
    let mounted = own.into_iter().chain(one.files.values().map(|file| file.path.as_path()));
    for path in mounted {
        // They part what is said of a mount.
        if path.to_str().is_none_or(|path| path.contains([',', '"'])) {
            let text = format!("{} cannot be given to a container: its name has a comma or a quote", path.display());
            return Err(Failure::new(Class::Spec, "function_input", text).into());
        }
    }
    let number = CONTAINERS.fetch_add(1, Ordering::Relaxed);
    let name = format!("spool-{}-{number}", std::process::id());
    let arguments = runtime.arguments(&Container {
        name: &name,
        image: reference,
        command: &one.ready.manifest.command,
        function: &one.ready.folder,
        place: one.place,
        files: one.files,
        environment: &one.environment(&paths, PATHS.into()),
        cpu: one.ready.manifest.resources.cpu,
        memory_mib: one.limits.memory_mib,
        user: (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()),
    });
    let spawned = Command::new(runtime.program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = spawned.map_err(|error| not_started(runtime.program, &error))?;
    let group = Group::of(&child);
    let mut talk = Talk::listen(&mut child, one);
    if let Some(mut stdin) = child.stdin.take() {
        tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
    }
    let ended = tokio::select! {
        status = child.wait() => {
            let status = status.map_err(|error| not_started(runtime.program, &error))?;
            use std::os::unix::process::ExitStatusExt;
            Ok(Word::Ended { code: status.code(), signal: status.signal() })
        }
        over = talk.over(None, one, stop) => Err(over),
    };
    match &ended {
        // It was waited for: its number may be another's by now.
        Ok(_) => std::mem::forget(group),
        Err(_) => drop(group),
    }
    runtime.remove(&name).await;
    talk.finish(one, ended).await
}

fn not_started(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Class::Host, "function_not_started", format!("{what} could not be started on this machine: {error}"))
}

/// A process group that is killed, whole, when this is dropped. Its leader must not have been waited for: its number stays its own.
struct Group(Pid);

impl Group {
    fn of(child: &Child) -> Option<Group> {
        child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).map(Group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _gone_already = rustix::process::kill_process_group(self.0, Signal::KILL);
    }
}

/// A launcher at work.
struct Started {
    /// First: the group is killed before anything else is let go of.
    group: Group,
    child: Child,
    words: BufReader<UnixStream>,
}

impl Started {
    async fn launch(launcher: &Launcher, directory: &Path, order: &Order) -> Result<Started, Failure> {
        let failed = |error: &dyn std::fmt::Display| not_started(&launcher.program.display().to_string(), error);
        let start = || {
            let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            let (ours, theirs) = pair;
            let ours = std::os::unix::net::UnixStream::from(ours);
            ours.set_nonblocking(true)?;
            let library_path = std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path));
            let child = Command::new(&launcher.program)
                .args(&launcher.options.args)
                .env_clear()
                .envs(library_path)
                .current_dir(directory)
                .stdin(Stdio::from(theirs))
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .process_group(0)
                .kill_on_drop(true)
                .spawn()?;
            Ok::<_, io::Error>((child, UnixStream::from_std(ours)?))
        };
        let (child, mut socket) = start().map_err(|error| failed(&error))?;
        let group = Group::of(&child).ok_or_else(|| failed(&"it has no number"))?;
        let bytes = encode(order).map_err(|error| failed(&error))?;
        socket.write_all(&bytes).await.map_err(|error| failed(&error))?;
        Ok(Started { group, child, words: BufReader::new(socket) })
    }

    async fn word(&mut self) -> Option<Word> {
        let mut line = String::new();
        match self.words.read_line(&mut line).await {
            Ok(1..) => serde_json::from_str(&line).ok(),
            _ => None,
        }
    }

    async fn walls(&mut self) -> Result<Walls, Failure> {
        match tokio::time::timeout(READY_WITHIN, self.word()).await {
            Ok(Some(Word::Walls(walls))) => Ok(walls),
            said => {
                let mut words = String::new();
                if let Some(stderr) = self.child.stderr.as_mut() {
                    drop(tokio::time::timeout(LAST_WORDS, stderr.take(4096).read_to_string(&mut words)).await);
                }
                let why = if said.is_err() {
                    "it was not ready in time"
                } else {
                    "it ended, or spoke otherwise than it must"
                };
                Err(not_started("the launcher", &why).with_evidence(words))
            }
        }
    }

    /// How the program ended; `None`: the launcher went, with it or before it.
    async fn ended(&mut self) -> Word {
        self.word().await.unwrap_or(Word::Ended { code: None, signal: None })
    }
}

/// What was heard of a program.
#[derive(Debug, Default)]
struct Heard {
    result: Option<serde_json::Value>,
    error: Option<Failure>,
    log: VecDeque<u8>,
}

impl Heard {
    fn log(&mut self, bytes: &[u8]) {
        self.log.extend(bytes);
        let over = self.log.len().saturating_sub(LOG);
        self.log.drain(..over);
    }
}

/// Listens to a program, in tasks of its own.
struct Talk {
    heard: Arc<Mutex<Heard>>,
    pulse: Arc<Pulse>,
    /// Ends with what the program must not say, or when it closes its stdout.
    stdout: JoinHandle<Result<(), Failure>>,
    stderr: JoinHandle<()>,
}

impl Talk {
    fn listen(child: &mut Child, one: &One<'_>) -> Talk {
        let (heard, pulse) = (Arc::new(Mutex::new(Heard::default())), Arc::new(Pulse::new()));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (hearing, beating) = (Arc::clone(&heard), Arc::clone(&pulse));
        let (progress, name) = (Arc::clone(one.progress), one.args.name.clone());
        let stdout = tokio::spawn(async move {
            match stdout {
                Some(stdout) => hear(stdout, &hearing, &beating, &progress, &name).await,
                None => Ok(()),
            }
        });
        let kept = Arc::clone(&heard);
        let stderr = tokio::spawn(async move {
            let Some(mut stderr) = stderr else { return };
            let mut buffer = vec![0; 4096];
            while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
                kept.lock().unwrap_or_else(PoisonError::into_inner).log(&buffer[..read]);
            }
        });
        Talk { heard, pulse, stdout, stderr }
    }

    /// Comes back when the program must be killed.
    async fn over(&mut self, root: Option<Pid>, one: &One<'_>, stop: &watch::Receiver<Stops>) -> Unanswered {
        let bad = async {
            match (&mut self.stdout).await {
                Ok(Err(failure)) => failure,
                // It may close its stdout and work on.
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            failure = bad => failure.into(),
            failure = watch_limits(root, one, &self.pulse) => failure.into(),
            () = stopped(stop, 0) => Unanswered::Stopped,
        }
    }

    /// What the call answers. The program and all it started are killed by now.
    async fn finish(mut self, one: &One<'_>, ended: Result<Word, Unanswered>) -> Result<Value, Unanswered> {
        let mut last = Ok(());
        if !self.stdout.is_finished() {
            match tokio::time::timeout(LAST_WORDS, &mut self.stdout).await {
                Ok(Ok(said)) => last = said,
                _ => self.stdout.abort(),
            }
        }
        if tokio::time::timeout(LAST_WORDS, &mut self.stderr).await.is_err() {
            self.stderr.abort();
        }
        let heard = std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        let log: Vec<u8> = heard.log.iter().copied().collect();
        let log = String::from_utf8_lossy(&log).trim_end().to_owned();
        let name = &one.args.name;
        match ended {
            Err(Unanswered::Failed(failure)) => Err(failure.with_evidence(log).into()),
            Err(Unanswered::Stopped) => Err(Unanswered::Stopped),
            Ok(Word::NotStarted(why)) => {
                let program = one.ready.manifest.command.first().map_or("", String::as_str);
                Err(not_started(&format!("{program}, the program of {name},"), &why).into())
            }
            Ok(Word::Walls(_)) => Err(not_started("the launcher", &"it spoke otherwise than it must").into()),
            Ok(Word::Ended { code, signal }) => {
                if let Some(failure) = heard.error {
                    return Err(failure.with_evidence(log).into());
                }
                last.map_err(|failure: Failure| failure.with_evidence(log.clone()))?;
                if code != Some(0) {
                    return Err(death(name, code, signal).with_evidence(log).into());
                }
                Ok(one.answer(heard, log).await?)
            }
        }
    }
}

/// Why a program failed that did not say so itself.
fn death(name: &str, code: Option<i32>, signal: Option<i32>) -> Failure {
    let is = |wanted: Signal| signal == Some(wanted.as_raw());
    match (code, signal) {
        (Some(code), _) => {
            let text = format!("{name} ended with exit status {code}; what it said last is below");
            Failure::new(Class::Internal, talk::FAILED, text)
        }
        _ if is(Signal::XCPU) => {
            let text = format!("{name} used more processor time than all cores give in its time");
            Failure::new(Class::Capacity, "timed_out", text)
        }
        _ if is(Signal::XFSZ) => {
            let text = format!("{name} wrote a file larger than the scratch it declared");
            Failure::new(Class::Capacity, "scratch_exceeded", text)
        }
        (None, signal) => {
            let how = signal.map(|signal| match signal_name(signal) {
                Some(name) => format!("was killed by {name}"),
                None => format!("was killed by signal {signal}"),
            });
            let text = format!("{name} {}", how.unwrap_or_else(|| "went, and nobody saw how".into()));
            Failure::new(Class::Internal, "function_died", text)
        }
    }
}

async fn hear(
    stdout: impl AsyncRead + Unpin,
    heard: &Mutex<Heard>,
    pulse: &Pulse,
    progress: &Progress,
    name: &str,
) -> Result<(), Failure> {
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        let most = u64::try_from(LINE_MAX).unwrap_or(u64::MAX) + 64;
        match (&mut stdout).take(most + 1).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) if line.len() as u64 > most => return Err(too_long(name)),
            Ok(_) => {}
        }
        let said = talk::read(&String::from_utf8_lossy(&line));
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        match said {
            Line::Progress(done, message) => {
                pulse.beat();
                if let Some(message) = message {
                    heard.log(message.as_bytes());
                    heard.log(b"\n");
                }
                if let Some(frames) = done {
                    progress(Advance { frames, ..Advance::default() });
                }
            }
            Line::Result(result) => heard.result = Some(result),
            Line::Error(failure) => heard.error = Some(failure),
            Line::Text => heard.log(&line),
        }
    }
}

/// Comes back when the call must be killed: why.
async fn watch_limits(root: Option<Pid>, one: &One<'_>, pulse: &Pulse) -> Failure {
    let Limits { timeout, no_progress, memory_mib, scratch_mib } = one.limits;
    let (name, capacity) = (&one.args.name, |code: &str, text| Failure::new(Class::Capacity, code, text));
    let mut looks: u32 = 0;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        looks = looks.wrapping_add(1);
        if !timeout.is_zero() && pulse.elapsed() >= timeout {
            let text = format!("{name} ran longer than its {:.1} s (timeout in its manifest)", timeout.as_secs_f64());
            return capacity("timed_out", text);
        }
        if !no_progress.is_zero() && pulse.silence() >= no_progress {
            let text = format!("{name} said nothing of progress for {:.1} s", no_progress.as_secs_f64());
            return Failure::new(Class::Internal, "no_progress", text);
        }
        if let Some(root) = root {
            let usage = crate::blocking(move || Usage::of(root)).await;
            if usage.is_too_many() {
                let text = format!(
                    "{name} started more than {PROCESSES_MAX} processes, or {THREADS_MAX} threads, at one time"
                );
                return capacity("too_many_processes", text);
            }
            if memory_mib > 0 && usage.memory > memory_mib << 20 {
                let text = format!(
                    "{name} took {} MiB of memory, more than the {memory_mib} MiB declared (resources.memory in its manifest)",
                    usage.memory >> 20
                );
                return capacity("memory_exceeded", text);
            }
        }
        if scratch_mib > 0 && looks.is_multiple_of(SCRATCH_EVERY) {
            let place = one.place.to_owned();
            let used = crate::blocking(move || bytes_below(&place)).await;
            if used.is_none_or(|used| used > scratch_mib << 20) {
                let text = format!(
                    "{name} left more in its scratch than the {scratch_mib} MiB declared (resources.scratch in its manifest), or more \
                     than {ENTRIES_MAX} files"
                );
                return capacity("scratch_exceeded", text);
            }
        }
    }
}
