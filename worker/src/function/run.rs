//! One call of a function, from the start of its program to its answer.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use spool_proto::call::{UserArgs, Value};
use spool_proto::failure::{Class, Failure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::watch;

use super::Launcher;
use super::cache::Ready;
use super::hear::{Heard, Talk, too_long};
use super::image::{self, Container, Runtime};
use super::inputs::File;
use super::launch::{Order, Word};
use super::started::{Group, Started, not_started};
use super::talk::LINE_MAX;
use super::{inputs, outputs};
use crate::executor::program::Reach;
use crate::executor::{Limits, Stops, Unanswered, Walls};
use crate::runner::Progress;
use crate::transfer::write_failure;

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
    pub async fn answer(&self, heard: Heard, log: String) -> Result<Value, Failure> {
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
