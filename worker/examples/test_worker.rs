//! The other processes of the tests: an executor whose functions misbehave as their input says, and a worker to kill.
//!
//! `exec` is an executor; `worker URL SCRATCH` a worker; `bench EXECUTORS CALLS` measures executors alone.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use spool_media::{Host, Product};
use spool_proto::call::{Args, TrackManifest, Value};
use spool_proto::failure::{Class, Failure, Warning};
use spool_worker::executor::{self, ExecutorOptions, Functions, Sandbox};

#[path = "test_worker/escapes.rs"]
mod escapes;

/// The text of input 0 is a line of words: what to do, and how much.
struct Scripted;

impl Functions for Scripted {
    fn run(&self, args: &Args, host: &mut dyn Host) -> Result<Product, Failure> {
        if matches!(args, Args::Noop { .. }) {
            return Ok(Product { files: Vec::new(), warnings: Vec::new(), value: Value::Noop });
        }
        let mut script = String::new();
        host.open(0)?.read_to_string(&mut script).map_err(|e| Failure::new(Class::Input, "script", e.to_string()))?;
        let mut words = script.split_whitespace();
        let verb = words.next().unwrap_or_default();
        let amount: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let mut files = Vec::new();
        match verb {
            // Works for so many milliseconds, telling of it.
            "work" => {
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(amount) {
                    host.progress(start.elapsed().as_millis().try_into().unwrap_or(0), 7, 0);
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            "hang" => std::thread::sleep(Duration::from_secs(3600)),
            "fail" => return Err(Failure::new(Class::Input, "scripted", "the script said so")),
            "abort" => {
                eprintln!("about to abort");
                std::process::abort();
            }
            "segv" => {
                eprintln!("about to touch what is not there");
                // Until it works: at the first, a Rust program takes its own handler away and waits for the fault to come again.
                loop {
                    let this = rustix::process::getpid();
                    rustix::process::kill_process(this, rustix::process::Signal::SEGV)
                        .map_err(|e| Failure::new(Class::Internal, "kill", e.to_string()))?;
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            "panic" => panic!("a function that panics"),
            // Answers, then dies idle.
            "die-later" => drop(std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(amount));
                std::process::exit(3);
            })),
            // Takes so many MiB and keeps telling that all is well.
            "eat" => {
                let mut eaten = Vec::new();
                for mib in 0..amount {
                    eaten.push(vec![1_u8; 1 << 20]);
                    host.progress(mib, 0, 0);
                    std::thread::sleep(Duration::from_millis(2));
                }
                std::thread::sleep(Duration::from_secs(2));
                drop(eaten);
            }
            "write" => {
                let path = host.scratch().join("chunk.piece");
                let content = vec![b'x'; usize::try_from(amount).unwrap_or(0)];
                std::fs::write(&path, content).map_err(|e| Failure::new(Class::Host, "write", e.to_string()))?;
                std::fs::write("litter", b"in the working directory").ok();
                files.push(("chunk".to_owned(), path));
            }
            "escape" => files.push(("chunk".to_owned(), "/etc/hostname".into())),
            "environment" => {
                let names: Vec<_> = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
                return Err(Failure::new(Class::Internal, "environment", names.join(" ")));
            }
            // Writes a file that never ends.
            "flood" => {
                let mut file = std::fs::File::create(host.scratch().join("flood")).map_err(|e| io_failure(&e))?;
                let zeros = vec![0; 1 << 20];
                loop {
                    file.write_all(&zeros).map_err(|e| io_failure(&e))?;
                    host.progress(1, 1, 1);
                }
            }
            // Asks for so many MiB at once, and touches every page.
            "gulp" => {
                let eaten = vec![1_u8; usize::try_from(amount << 20).unwrap_or(usize::MAX)];
                std::thread::sleep(Duration::from_secs(2));
                drop(eaten);
            }
            "pid" => return Err(Failure::new(Class::Internal, "pid", std::process::id().to_string())),
            "get-out" => escapes::try_all(host, words.next().unwrap_or_default())?,
            other => return Err(Failure::new(Class::Spec, "script", format!("no such verb: {other:?}"))),
        }
        let warnings = vec![Warning { code: "scripted".into(), stream: None, text: verb.into() }];
        Ok(Product { files, warnings, value: Value::Track(manifest(amount)) })
    }

    fn golden(&self, backend: &str) -> Result<(), Failure> {
        match backend {
            "cpu/good" | "cpu/better" => Ok(()),
            "cpu/crash" => std::process::abort(),
            "cpu/stuck" => {
                std::thread::sleep(Duration::from_secs(3600));
                Ok(())
            }
            // Usable for as long as the file is there.
            other if other.strip_prefix("cpu/if:").is_some_and(|path| std::path::Path::new(path).exists()) => Ok(()),
            other => Err(Failure::new(Class::Host, "no_such_encoder", format!("{other} is not built in"))),
        }
    }
}

fn io_failure(error: &std::io::Error) -> Failure {
    Failure::new(Class::Host, "io", error.to_string())
}

fn manifest(units: u64) -> TrackManifest {
    TrackManifest {
        codec: String::new(),
        chunk: None,
        units,
        packets: units,
        first_pts: None,
        last_pts: None,
        time_base: (1, 1000),
        bytes: units,
        parameters: String::new(),
        entry: "linear".into(),
        decoded: units,
        peak_memory_mib: 0,
        loudness: None,
        buffer: None,
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let program = std::env::current_exe()?;
    match args.as_slice() {
        ["launch"] => spool_worker::function::main(),
        ["exec"] => executor::main(&Scripted),
        ["worker", url, scratch] => tokio::runtime::Runtime::new()?.block_on(async {
            let mut handle = spool_worker::Worker::start(spool_worker::WorkerOptions {
                name: "victim".into(),
                server: spool_worker::channel(url)?,
                capacity: None,
                scratch: scratch.into(),
                program,
                args: vec!["exec".into()],
                backends: Vec::new(),
                batch_target: spool_worker::BATCH_TARGET,
                sandbox: Sandbox::default(),
                read_cache: spool_worker::stores::CACHE_DEFAULT,
                functions: None,
            })
            .await?;
            handle.wait().await;
            Ok(())
        }),
        ["bench", executors, calls] => tokio::runtime::Runtime::new()?.block_on(async {
            let directory = std::env::temp_dir();
            let options =
                ExecutorOptions { program, args: vec!["exec".into()], directory, sandbox: Sandbox::default() };
            println!("{:?}", spool_worker::bench::exec(&options, executors.parse()?, calls.parse()?).await?);
            Ok(())
        }),
        _ => Err("exec | worker URL SCRATCH | bench EXECUTORS CALLS".into()),
    }
}
