//! An author's sections, run in a process of their own: it has a deadline for each, and is ended when it passes one. What such a process
//! may use of memory and files is for whoever starts it to set ([`Keeper::program`] locks itself in before it reads anything).
//!
//! Sections take a millisecond. One that takes long goes on with the others like it on half of the machine's cores: however many there are,
//! whoever else is woken finds a core that is not taken. (A low priority is not enough:
//! docs/decisions/2026-11-27-long-sections-on-half-the-cores.md.)

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use spool_rules::effect::Effect;
use spool_rules::history::SectionFailure;
use spool_rules::instance::{Ask, Sections};
use spool_rules::ruleset::RuleSet;

use crate::file::{Problem, Sources};
use crate::wire::{Order, Said};

/// A line that says more than this is not read: the process is ended.
const LINE: u64 = 256 << 20;
/// Where the loader looks for libraries, on machines that have them elsewhere.
const LIBRARIES: &str = "LD_LIBRARY_PATH";

/// Deadlines are of processor time, so that a busy machine ends nobody's rules. A process that does not even compute is waited for so many
/// times as long.
const IDLE: u32 = 20;
/// How often is looked how much time a process has taken.
const LOOK: Duration = Duration::from_millis(20);
/// Processor time of one order from which on its process makes way.
const LONG: Duration = Duration::from_millis(20);

/// How sections' processes are started.
#[derive(Debug, Clone)]
pub struct Keeper {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// For reading the files. Processor time, as the next.
    pub read_within: Duration,
    /// For one section.
    pub run_within: Duration,
}

impl Keeper {
    /// With the usual deadlines.
    pub fn new(program: PathBuf, args: Vec<OsString>) -> Keeper {
        Keeper { program, args, read_within: Duration::from_secs(10), run_within: Duration::from_secs(5) }
    }
}

/// The sections of one rule set. Its process is started when it is first needed, and again after it had to be ended.
#[derive(Debug)]
pub struct Hosted {
    keeper: Keeper,
    sources: Sources,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    input: ChildStdin,
    lines: Receiver<io::Result<String>>,
    stderr: ChildStderr,
    /// The cores it may use again when it has answered.
    made_way: Option<Box<CpuSet>>,
}

/// Why a process said nothing.
enum Silence {
    Late(Duration),
    Gone(String),
}

impl Hosted {
    pub fn new(keeper: Keeper, sources: Sources) -> Hosted {
        Hosted { keeper, sources, process: None }
    }

    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with them, which may be that reading them does not end or takes too much memory.
    pub fn read(&mut self) -> Result<RuleSet, Vec<Problem>> {
        self.learn(&Order::Read(self.sources.clone())).map(|(set, _)| set)
    }

    /// Reads the files and says what is suspicious about them.
    ///
    /// # Errors
    /// As [`Hosted::read`].
    pub fn check(&mut self) -> Result<(RuleSet, Vec<Problem>), Vec<Problem>> {
        self.learn(&Order::Check(self.sources.clone()))
    }

    fn learn(&mut self, order: &Order) -> Result<(RuleSet, Vec<Problem>), Vec<Problem>> {
        let whole = |code: &str, message: String| vec![Problem::whole(code, message)];
        match self.say(order, self.keeper.read_within) {
            Ok(Said::Set(set)) => Ok((*set, Vec::new())),
            Ok(Said::Checked(set, warnings)) => Ok((*set, warnings)),
            Ok(Said::Problems(problems)) => Err(problems),
            Ok(_) => Err(whole("internal", "the process that reads rules answered something else".into())),
            Err(Silence::Late(limit)) => Err(whole(
                "too_slow",
                format!("reading the files took more than {} s of a processor's time", limit.as_secs_f64()),
            )),
            Err(Silence::Gone(how)) => Err(whole("too_large", format!("the process that read the files {how}"))),
        }
    }

    fn section(&mut self, ask: &Ask<'_>) -> Result<Vec<Effect>, SectionFailure> {
        if self.process.is_none() {
            self.read().map_err(|problems| {
                let first = problems.first().map_or_else(String::new, Problem::to_string);
                SectionFailure::new("rules_unreadable", format!("the rules cannot be read any more: {first}"))
            })?;
        }
        let outcome = ask.outcome.map(|value| (crate::sections::outcome_name(ask.section).into(), value.clone()));
        let order = Order::Run {
            rule: ask.rule,
            section: ask.section,
            given: ask.bindings.iter().cloned().chain(outcome).collect(),
            now_us: ask.now.0,
            firing: ask.firing.into(),
        };
        match self.say(&order, self.keeper.run_within) {
            Ok(Said::Effects(effects)) => Ok(effects),
            Ok(Said::Broke(broke)) => Err(broke),
            Ok(_) => Err(SectionFailure::new("internal", "the process that runs rules answered something else")),
            Err(Silence::Late(limit)) => {
                let message =
                    format!("it took more than {} s of a processor's time and was ended", limit.as_secs_f64());
                Err(SectionFailure::new("section_too_slow", message))
            }
            Err(Silence::Gone(how)) => {
                let message = format!("its process {how}; a section has a limited memory");
                Err(SectionFailure::new("section_too_large", message))
            }
        }
    }

    fn say(&mut self, order: &Order, within: Duration) -> Result<Said, Silence> {
        let mut process = match self.process.take() {
            Some(process) => process,
            None => Process::start(&self.keeper).map_err(|e| Silence::Gone(format!("cannot be started: {e}")))?,
        };
        match process.ask(order, within) {
            Ok(said) => {
                process.come_back();
                self.process = Some(process);
                Ok(said)
            }
            Err(silence) => Err(silence),
        }
    }
}

impl Sections for Hosted {
    fn run(&mut self, ask: &Ask<'_>) -> Result<Vec<Effect>, SectionFailure> {
        self.section(ask)
    }
}

impl Process {
    fn start(keeper: &Keeper) -> io::Result<Process> {
        // Nothing of this process's surroundings: they hold its credentials. But where its libraries are.
        let libraries = std::env::var_os(LIBRARIES).map(|path| (LIBRARIES, path));
        let mut child = Command::new(&keeper.program)
            .args(&keeper.args)
            .env_clear()
            .envs(libraries)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let gone = || io::Error::other("its pipes are missing");
        let (input, output) = (child.stdin.take().ok_or_else(gone)?, child.stdout.take().ok_or_else(gone)?);
        let stderr = child.stderr.take().ok_or_else(gone)?;
        let (send, lines) = channel();
        thread::Builder::new().name("rules".into()).spawn(move || {
            let mut output = BufReader::new(output);
            loop {
                let mut line = String::new();
                let read = output.by_ref().take(LINE).read_line(&mut line);
                let is_over = !matches!(read, Ok(n) if n > 0) || !line.ends_with('\n');
                if send.send(read.map(|_| line)).is_err() || is_over {
                    return;
                }
            }
        })?;
        let mut process = Process { child, input, lines, stderr, made_way: None };
        // Starting and reading take longer than a section.
        process.make_way();
        Ok(process)
    }

    fn ask(&mut self, order: &Order, within: Duration) -> Result<Said, Silence> {
        let mut line = serde_json::to_vec(order).expect("an order is plain data");
        line.push(b'\n');
        if self.input.write_all(&line).and_then(|()| self.input.flush()).is_err() {
            return Err(self.gone());
        }
        let (begun, taken) = (Instant::now(), self.processor_time());
        loop {
            match self.lines.recv_timeout(LOOK.min(within)) {
                Ok(Ok(line)) if line.ends_with('\n') => {
                    return serde_json::from_str(&line)
                        .map_err(|e| Silence::Gone(format!("said what cannot be read: {e}")));
                }
                Ok(_) | Err(RecvTimeoutError::Disconnected) => return Err(self.gone()),
                Err(RecvTimeoutError::Timeout) => {
                    let computed = self.processor_time().saturating_sub(taken);
                    if computed >= within || begun.elapsed() >= within * IDLE {
                        return Err(Silence::Late(within));
                    }
                    if computed >= LONG && self.made_way.is_none() {
                        self.make_way();
                    }
                }
            }
        }
    }

    fn id(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    fn make_way(&mut self) {
        let Ok(all) = sched_getaffinity(None) else { return };
        if sched_setaffinity(self.id(), &upper_half(&all)).is_ok() {
            self.made_way = Some(Box::new(all));
        }
    }

    fn come_back(&mut self) {
        if let Some(all) = self.made_way.take() {
            let _stays_where_it_is = sched_setaffinity(self.id(), &all);
        }
    }

    /// That it has taken so far, in all its threads. What cannot be read counts as none.
    fn processor_time(&self) -> Duration {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())) else {
            return Duration::ZERO;
        };
        // Behind the name, which may hold anything: user and system time are the 12th and 13th, in hundredths of a second.
        let ticks = stat.rsplit(')').next().map(|rest| rest.split_ascii_whitespace().skip(11).take(2));
        let sum: u64 = ticks.into_iter().flatten().filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Duration::from_millis(sum * 10)
    }

    fn gone(&mut self) -> Silence {
        drop(self.child.kill());
        let how = self.child.wait().map_or_else(|e| e.to_string(), |status| format!("ended ({status})"));
        let mut tail = Vec::new();
        drop((&mut self.stderr).take(4096).read_to_end(&mut tail));
        let tail = String::from_utf8_lossy(&tail);
        let says = |line: &&str| !line.trim().is_empty() && !line.starts_with("note: ");
        let last = tail.lines().rev().find(says).unwrap_or_default();
        Silence::Gone(if last.is_empty() { how } else { format!("{how}: {last}") })
    }
}

/// Of the cores; the one, if it is the only one.
fn upper_half(all: &CpuSet) -> CpuSet {
    let mut half = CpuSet::new();
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).collect();
    for core in &cores[cores.len() / 2..] {
        half.set(*core);
    }
    half
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing of it is wanted any more.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
