//! Running the real binary: a data directory of its own, children that are found and killed, ports that are free.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A throw-away home for one test: outputs, data directories, `XDG_DATA_HOME`.
pub struct Sandbox {
    root: tempfile::TempDir,
}

impl Sandbox {
    pub fn new() -> Sandbox {
        Sandbox { root: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn data_home(&self) -> PathBuf {
        self.path("xdg")
    }

    pub fn spool(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spool"));
        command.env("XDG_DATA_HOME", self.data_home()).env_remove("SPOOL_SERVER").stdin(Stdio::null());
        command
    }

    /// `spool encode`, embedded, to the end. The finished job as JSON.
    pub fn encode(&self, film: &Path, out: &Path, options: &[&str]) -> Value {
        let output =
            self.spool().arg("encode").arg(film).arg("-o").arg(out).args(options).arg("--json").output().unwrap();
        assert!(
            output.status.success(),
            "spool encode {} {options:?}: {}\n{}",
            film.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).expect("stdout holds the job as JSON and nothing else")
    }

    /// No run folder, scratch or artifact is left of embedded runs.
    pub fn assert_nothing_left(&self) {
        let left = files_under(&self.data_home());
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

pub fn files_under(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|e| e.unwrap().path());
    paths.flat_map(|p| if p.is_dir() { files_under(&p) } else { vec![p] }).collect()
}

/// A child that does not outlive its test.
pub struct Guarded(pub Child);

impl Guarded {
    pub fn spawn(command: &mut Command) -> Guarded {
        Guarded(command.spawn().unwrap())
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub fn wait(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(300);
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "process {} does not end", self.id());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Executors (`spool exec`) below `parent`.
pub fn executors_of(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let Ok(pid) = entry.unwrap().file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let ppid = after_name.split_whitespace().nth(1).and_then(|p| p.parse::<u32>().ok());
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if ppid == Some(parent) && command.split(|b| *b == 0).any(|a| a == b"exec") {
            found.push(pid);
        }
    }
    found
}

pub fn kill_9(pid: u32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Nobody with this pid, zombies aside.
pub fn is_gone(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

/// Waits until `condition` gives a value.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(240);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// `spool server` and workers of one test.
pub struct Fleet {
    pub sandbox: Sandbox,
    pub port: u16,
}

impl Fleet {
    pub fn new() -> Fleet {
        Fleet { sandbox: Sandbox::new(), port: free_port() }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn data(&self) -> PathBuf {
        self.sandbox.path("data")
    }

    pub fn server(&self) -> Guarded {
        let server = Guarded::spawn(
            self.sandbox
                .spool()
                .args(["server", "--listen", &format!("127.0.0.1:{}", self.port), "--data"])
                .arg(self.data())
                .stdout(Stdio::null()),
        );
        eventually("the server answers", || self.client(&["job", "list"]).status.success().then_some(()));
        server
    }

    pub fn worker(&self, name: &str) -> Guarded {
        self.worker_of(name, 2)
    }

    pub fn worker_of(&self, name: &str, slots: u32) -> Guarded {
        Guarded::spawn(&mut self.worker_command(name, slots))
    }

    pub fn worker_command(&self, name: &str, slots: u32) -> Command {
        let mut command = self.sandbox.spool();
        command.args(["worker", "--server", &self.url(), "--slots", &slots.to_string(), "--name", name, "--data"]);
        command.arg(self.data()).stdout(Stdio::null());
        command
    }

    pub fn client(&self, args: &[&str]) -> std::process::Output {
        self.sandbox.spool().args(args).args(["--server", &self.url()]).output().unwrap()
    }

    /// Submits and returns the job id.
    pub fn submit(&self, film: &Path, out: &Path, options: &[&str]) -> String {
        let output = self
            .sandbox
            .spool()
            .arg("encode")
            .arg(film)
            .arg("-o")
            .arg(out)
            .args(options)
            .args(["--server", &self.url(), "--detach", "--json"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["job"].as_str().unwrap().to_string()
    }

    pub fn job(&self, job: &str) -> Value {
        let output = self.client(&["job", "get", job, "-o", "json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The job once at least `chunks` chunks are done and it still encodes.
    pub fn midway(&self, job: &str, chunks: usize) -> Value {
        eventually("the job is midway", || {
            let view = self.job(job);
            assert!(
                !["done", "failed", "cancelled"].contains(&view["state"].as_str().unwrap()),
                "too fast or failed: {view}"
            );
            (done_chunks(&view).len() >= chunks).then_some(view)
        })
    }

    pub fn finished(&self, job: &str) -> Value {
        eventually("the job ends", || {
            let view = self.job(job);
            ["done", "failed", "cancelled"].contains(&view["state"].as_str().unwrap()).then_some(view)
        })
    }
}

/// Encode tasks that are done: task id and when they were.
pub fn done_chunks(job: &Value) -> Vec<(String, u64)> {
    let tasks = job["tasks"].as_array().cloned().unwrap_or_default();
    tasks
        .iter()
        .filter(|t| t["function"] == "media.encode" && t["state"] == "done")
        .map(|t| (t["task"].as_str().unwrap().to_string(), t["finished"].as_u64().unwrap()))
        .collect()
}
