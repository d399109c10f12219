//! Processes of a call: the launcher, spoken to over its socket, and the group that is ended together.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, Signal};
use spool_proto::failure::{Class, Failure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::Launcher;
use super::hear::LAST_WORDS;
use super::launch::{Order, Word, encode};
use crate::executor::Walls;

/// From the start of a launcher to its walls.
const READY_WITHIN: Duration = Duration::from_secs(20);

pub fn not_started(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Class::Host, "function_not_started", format!("{what} could not be started on this machine: {error}"))
}

/// A process group that is killed, whole, when this is dropped. Its leader must not have been waited for: its number stays its own.
pub struct Group(pub Pid);

impl Group {
    pub fn of(child: &Child) -> Option<Group> {
        child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).map(Group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _gone_already = rustix::process::kill_process_group(self.0, Signal::KILL);
    }
}

/// A launcher at work.
pub struct Started {
    /// First: the group is killed before anything else is let go of.
    pub group: Group,
    pub child: Child,
    words: BufReader<UnixStream>,
}

impl Started {
    pub async fn launch(launcher: &Launcher, directory: &Path, order: &Order) -> Result<Started, Failure> {
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

    pub async fn walls(&mut self) -> Result<Walls, Failure> {
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
    pub async fn ended(&mut self) -> Word {
        self.word().await.unwrap_or(Word::Ended { code: None, signal: None })
    }
}
