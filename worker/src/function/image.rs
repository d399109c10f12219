//! The same in a container: an OCI image, run by podman or docker, without a network, on a file system nobody can write to.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::inputs::File;
use super::tree::PROCESSES_MAX;

/// Tried in this order.
const RUNTIMES: [&str; 2] = ["podman", "docker"];
/// For a runtime to answer at all.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// What containers of a worker are found by.
const LABEL: &str = "spool.worker";
/// Where a container finds its function, its inputs and its scratch.
pub const FUNCTION: &str = "/spool/function";
pub const INPUTS: &str = "/spool/in";
pub const CALL: &str = "/spool/call";

/// A container runtime that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    pub program: &'static str,
    /// Of the worker, in a label of its containers.
    pub worker: String,
}

/// What one container is made of.
#[derive(Debug)]
pub struct Container<'a> {
    pub name: &'a str,
    pub image: &'a str,
    pub command: &'a [String],
    pub function: &'a Path,
    pub place: &'a Path,
    pub files: &'a BTreeMap<String, File>,
    pub environment: &'a BTreeMap<String, String>,
    pub cpu: u64,
    pub memory_mib: u64,
    /// Who it runs as: what it leaves must be the worker's.
    pub user: (u32, u32),
}

impl Runtime {
    /// The first that answers, if any. It removes what an earlier process of the worker left running.
    pub async fn find(worker: &str) -> Option<Runtime> {
        for program in RUNTIMES {
            let runtime = Runtime { program, worker: worker.to_owned() };
            if runtime.said(&["info".into()]).await.is_some() {
                runtime.remove_left().await;
                return Some(runtime);
            }
        }
        None
    }

    /// What it answers; `None`: it failed.
    async fn said(&self, arguments: &[String]) -> Option<String> {
        let mut command = Command::new(self.program);
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(ANSWER_WITHIN, command.output()).await.ok()?.ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    async fn remove_left(&self) {
        let filter = format!("label={LABEL}={}", self.worker);
        let listed = self.said(&["ps".into(), "-aq".into(), "--filter".into(), filter]).await.unwrap_or_default();
        for id in listed.split_whitespace() {
            self.remove(id).await;
        }
    }

    /// Kills a container, if it is still there.
    pub async fn remove(&self, name: &str) {
        drop(self.said(&["rm".into(), "-f".into(), name.into()]).await);
    }

    /// What runs a container. Its stdin, stdout and stderr are those of the program in it.
    pub fn arguments(&self, container: &Container<'_>) -> Vec<String> {
        let Container { name, image, command, function, place, files, environment, cpu, memory_mib, user } = container;
        let mut words: Vec<String> =
            ["run", "--rm", "-i", "--network", "none", "--read-only", "--cap-drop", "ALL"].map(String::from).to_vec();
        words.extend(["--security-opt", "no-new-privileges", "--security-opt", "label=disable"].map(String::from));
        words.extend(["--name".into(), (*name).to_owned(), "--label".into(), format!("{LABEL}={}", self.worker)]);
        let memory = format!("{memory_mib}m");
        words.extend(["--memory".into(), memory.clone(), "--memory-swap".into(), memory]);
        words.extend(["--cpus".into(), format!("{}.{:03}", cpu / 1_000, cpu % 1_000)]);
        words.extend(["--pids-limit".into(), PROCESSES_MAX.to_string()]);
        words.extend(["--user".into(), format!("{}:{}", user.0, user.1)]);
        if self.program == "podman" && user.0 != 0 {
            words.push("--userns=keep-id".into());
        }
        // The long form takes any path that has no comma.
        let mount = |from: &Path, to: &str, mode: &str| {
            ["--mount".into(), format!("type=bind,source={},target={to}{mode}", from.display())]
        };
        words.extend(mount(function, FUNCTION, ",readonly"));
        words.extend(mount(place, CALL, ""));
        for file in files.values() {
            words.extend(mount(&file.path, &format!("{INPUTS}/{}", file.name), ",readonly"));
        }
        words.extend(["--workdir".into(), FUNCTION.into()]);
        for (name, value) in *environment {
            words.extend(["--env".into(), format!("{name}={value}")]);
        }
        // What the image starts by itself is not asked.
        words.extend(["--entrypoint".into(), command.first().cloned().unwrap_or_default(), (*image).to_owned()]);
        words.extend(command.iter().skip(1).cloned());
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_no_network_and_nothing_but_what_it_was_given() {
        let runtime = Runtime { program: "podman", worker: "w1".into() };
        let files =
            BTreeMap::from([("video".into(), File { name: "video.mov".into(), path: "/films/a b.mov".into() })]);
        let environment = BTreeMap::from([("HOME".into(), "/spool/call/tmp".into())]);
        let arguments = runtime.arguments(&Container {
            name: "spool-w1-7",
            image: "docker.io/library/python:3.12",
            command: &["python3".into(), "main.py".into()],
            function: Path::new("/data/functions/ab"),
            place: Path::new("/data/call-7"),
            files: &files,
            environment: &environment,
            cpu: 1_500,
            memory_mib: 256,
            user: (1000, 1000),
        });
        let expected = "run --rm -i --network none --read-only --cap-drop ALL --security-opt no-new-privileges \
             --security-opt label=disable --name spool-w1-7 --label spool.worker=w1 --memory 256m --memory-swap 256m --cpus 1.500 \
             --pids-limit 128 --user 1000:1000 --userns=keep-id \
             --mount type=bind,source=/data/functions/ab,target=/spool/function,readonly \
             --mount type=bind,source=/data/call-7,target=/spool/call \
             --mount type=bind,source=/films/a b.mov,target=/spool/in/video.mov,readonly \
             --workdir /spool/function --env HOME=/spool/call/tmp --entrypoint python3 docker.io/library/python:3.12 main.py";
        assert_eq!(arguments.join(" "), expected);
    }

    #[tokio::test]
    async fn a_runtime_that_does_not_answer_is_none() {
        let runtime = Runtime { program: "false", worker: "w1".into() };
        assert_eq!(runtime.said(&["info".into()]).await, None);
    }
}
