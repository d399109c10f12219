//! What is heard of a program while it runs, and how that ends.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use spool_proto::call::Value;
use spool_proto::failure::{Class, Failure};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::launch::Word;
use super::limits::watch_limits;
use super::run::One;
use super::started::not_started;
use super::talk::{self, LINE_MAX, Line};
use crate::executor::{Advance, Pulse, Stops, Unanswered, signal_name, stopped};
use crate::runner::Progress;

/// For the last words of what was killed to arrive.
pub const LAST_WORDS: Duration = Duration::from_secs(2);
/// Bytes kept of what it says.
const LOG: usize = 16 << 10;

pub fn too_long(name: &str) -> Failure {
    let text =
        format!("{name} said a line, or wrote a result, of more than {LINE_MAX} bytes; leave large data as a file");
    Failure::new(Class::Internal, "function_bad_output", text)
}

/// What was heard of a program.
#[derive(Debug, Default)]
pub struct Heard {
    pub result: Option<serde_json::Value>,
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
pub struct Talk {
    heard: Arc<Mutex<Heard>>,
    pulse: Arc<Pulse>,
    /// Ends with what the program must not say, or when it closes its stdout.
    stdout: JoinHandle<Result<(), Failure>>,
    stderr: JoinHandle<()>,
}

impl Talk {
    pub fn listen(child: &mut Child, one: &One<'_>) -> Talk {
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
    pub async fn over(&mut self, root: Option<Pid>, one: &One<'_>, stop: &watch::Receiver<Stops>) -> Unanswered {
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
    pub async fn finish(mut self, one: &One<'_>, ended: Result<Word, Unanswered>) -> Result<Value, Unanswered> {
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
