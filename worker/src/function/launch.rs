//! The launcher: the process between a worker and a program that a user wrote (`spool launch`). It locks itself in, starts the
//! program inside the same walls, gives it its input, and tells its worker how it ended. When the worker goes, so does all of it.
//!
//! Spoken to over the socket on its stdin: first an [`Order`], its length before it; then nothing, until the socket closes. It says
//! [`Word`]s, one a line of JSON. The program's stdout and stderr are its own, read by the worker.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, WaitOptions};
use serde::{Deserialize, Serialize};

use crate::executor::program::{Reach, enter};
use crate::executor::{Sandbox, Walls};

/// Bytes of an order at most: an input of a MiB, and paths.
const ORDER_MAX: u32 = 16 << 20;

/// What is to be started, and in what.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Order {
    /// Empty: nothing is started; only the walls are tried.
    pub command: Vec<String>,
    /// Its working directory.
    pub folder: PathBuf,
    pub environment: BTreeMap<String, String>,
    /// For its stdin.
    pub input: String,
    pub sandbox: String,
    pub reach: Reach,
}

/// What the launcher says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// What it locked itself in with. Comes first.
    Walls(Walls),
    /// The program could not be started.
    NotStarted(String),
    Ended {
        code: Option<i32>,
        signal: Option<i32>,
    },
}

/// The whole of `spool launch`.
pub fn main() -> ! {
    if let Err(error) = run() {
        eprintln!("spool launch: {error} (it is started by a worker, with a socket as stdin)");
        std::process::exit(2);
    }
    std::process::exit(0);
}

fn run() -> io::Result<()> {
    let order = receive(&mut io::stdin().lock())?;
    // What the program leaves behind comes to this process, and is found and ended with it.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    // Whoever says nothing that is understood gets the walls.
    let walls = enter(order.sandbox.parse::<Sandbox>().unwrap_or_default(), &order.reach);
    // Not before: whatever was open but stdin, stdout and stderr was closed.
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    say(&mut socket, &Word::Walls(walls))?;
    let Some((program, arguments)) = order.command.split_first() else { return Ok(()) };
    let watched = socket.try_clone()?;
    std::thread::Builder::new().name("spool-hangup".into()).spawn(move || leave_when_closed(&watched))?;
    // A path of the folder is one, wherever the search would lead.
    let program = match program.contains('/') {
        true => order.folder.join(program).into_os_string(),
        false => program.into(),
    };
    let child = Command::new(program)
        .args(arguments)
        .current_dir(&order.folder)
        .env_clear()
        .envs(&order.environment)
        .stdin(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return say(&mut socket, &Word::NotStarted(error.to_string())),
    };
    if let Some(mut stdin) = child.stdin.take() {
        let input = order.input;
        // A program that does not read its input is none the worse.
        std::thread::spawn(move || drop(stdin.write_all(input.as_bytes()).and_then(|()| stdin.write_all(b"\n"))));
    }
    let program = Pid::from_child(&child);
    let status = loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((ended, status))) if ended == program => break status,
            // What the program left to nobody: it is not to pile up.
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    say(&mut socket, &Word::Ended { code: status.exit_status(), signal: status.terminating_signal() })?;
    // Until the worker, which has seen the end, ends all of it.
    loop {
        std::thread::park();
    }
}

fn receive(socket: &mut impl Read) -> io::Result<Order> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > ORDER_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("an order of {length} bytes")));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    socket.read_exact(&mut bytes)?;
    serde_json::from_slice(&bytes).map_err(io::Error::other)
}

fn say(socket: &mut UnixStream, word: &Word) -> io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    socket.write_all(&line)
}

/// An order as it is sent.
pub fn encode(order: &Order) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(order)?;
    let length = u32::try_from(json.len()).ok().filter(|length| *length <= ORDER_MAX);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the call is too long"))?;
    Ok([&length.to_le_bytes()[..], &json].concat())
}

/// Ends this process, the program and whatever it started, once the worker is gone.
fn leave_when_closed(socket: &UnixStream) {
    loop {
        let mut wanted = [PollFd::new(socket, PollFlags::RDHUP)];
        match rustix::event::poll(&mut wanted, None) {
            Err(rustix::io::Errno::INTR) => {}
            _ => drop(rustix::process::kill_current_process_group(Signal::KILL)),
        }
    }
}
