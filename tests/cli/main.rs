//! The command line, through the real binary: what it takes, what it refuses, how it ends.

#![allow(clippy::unwrap_used, reason = "tests")]

mod docs;
mod encode;
mod ffmpeg;
mod histories;
mod pools;
mod quality;
mod refusals;
mod rules_exec;
mod services;

use std::path::Path;
use std::process::{Command, Output};

/// `spool` with a data directory of its own and no server.
pub fn spool(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spool"));
    command.env("XDG_DATA_HOME", data).env_remove("SPOOL_SERVER").env_remove("RUST_LOG");
    command.stdin(std::process::Stdio::null());
    command
}

pub fn run(data: &Path, args: &[&str]) -> Output {
    spool(data).current_dir(data).args(args).output().expect("the binary starts")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A two-second film with sound.
pub fn film(path: &Path) {
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=24:d=2", "-f", "lavfi", "-i", "sine=d=2"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"])
        .arg(path)
        .status();
    assert!(made.expect("ffmpeg is installed").success());
}
