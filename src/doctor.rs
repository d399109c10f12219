//! `spool doctor`: what this machine can do, and what stands in the way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use spool_proto::failure::Failure;
use spool_worker::capacity;
use spool_worker::executor::{ExecutorOptions, Executors, Walls};

use crate::cli::SandboxArg;
use crate::exit::Exit;
use crate::quality::Scorer;
use crate::run::folder;
use crate::{output, roles};

const GOLDEN_WITHIN: Duration = Duration::from_secs(30);
/// Below this much free disk, MiB, an hour's film may not fit.
const DISK_LOW_MIB: u64 = 2048;
/// Below this much memory, MiB, 1080p chunks do not encode side by side.
const MEMORY_LOW_MIB: u64 = 1024;

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The data directory to check [default: $XDG_DATA_HOME/spool]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Findings as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sandbox: SandboxArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// It works, with less.
    Warn,
    /// Encoding will fail.
    Fail,
}

#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    verdict: Verdict,
    text: String,
}

fn finding(what: impl Into<String>, verdict: Verdict, text: impl Into<String>) -> Finding {
    Finding { what: what.into(), verdict, text: text.into() }
}

pub async fn run(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let root = folder::root(args.data.as_deref())?;
    let mut findings = vec![finding("spool", Verdict::Ok, env!("CARGO_PKG_VERSION"))];
    findings.extend(
        spool_media::versions::versions().into_iter().map(|(name, version)| finding(name, Verdict::Ok, version)),
    );
    let directory = tempfile::tempdir()?;
    let options = ExecutorOptions {
        program: roles::program()?,
        args: roles::exec_args(),
        directory: directory.path().to_owned(),
        sandbox: args.sandbox.mode,
    };
    let executors = Executors::new(options, 1);
    findings.extend(encoders(&executors).await);
    findings.extend(machine(&root));
    findings.push(data_directory(&root));
    findings.extend(sandbox(&executors).await);
    findings.push(scorer().await);
    let worst = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    if args.json {
        output::print_json(&findings)?;
    } else {
        let rows: Vec<Vec<String>> = findings
            .iter()
            .map(|Finding { what, verdict, text }| {
                let sign = match verdict {
                    Verdict::Ok => "ok",
                    Verdict::Warn => "warn",
                    Verdict::Fail => "FAIL",
                };
                vec![sign.into(), what.clone(), text.clone()]
            })
            .collect();
        output::print(&output::table(&["", "WHAT", "FOUND"], &rows, true))?;
    }
    Ok(if worst { Exit::JobFailed } else { Exit::Done })
}

/// Every encoder does a small real encode, in an executor.
async fn encoders(executors: &Executors) -> Vec<Finding> {
    let mut findings = Vec::new();
    for backend in roles::all_backends() {
        let found = match executors.golden(&backend, GOLDEN_WITHIN).await {
            Ok(()) => finding(backend, Verdict::Ok, "a small encode came out right"),
            Err(Failure { class, code, message, evidence }) => {
                let last = evidence.lines().last().map(|line| format!(": {line}")).unwrap_or_default();
                finding(backend, Verdict::Warn, format!("{message} ({class}: {code}){last}"))
            }
        };
        findings.push(found);
    }
    if findings.iter().all(|finding| finding.verdict != Verdict::Ok) {
        findings.push(finding("encoders", Verdict::Fail, "none is usable; is Debian's libavcodec installed whole?"));
    }
    findings
}

fn machine(root: &Path) -> Vec<Finding> {
    let existing = root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let capacity = capacity::of_this_machine(None, existing);
    let below = |low: bool| if low { Verdict::Warn } else { Verdict::Ok };
    vec![
        finding("cores", Verdict::Ok, (capacity.cpu / 1000).to_string()),
        finding(
            "memory",
            below(capacity.memory < MEMORY_LOW_MIB),
            format!("{} MiB offered to encoders", capacity.memory),
        ),
        finding(
            "disk",
            below(capacity.scratch < DISK_LOW_MIB),
            format!("{} MiB free at {}", capacity.scratch, existing.display()),
        ),
    ]
}

fn data_directory(root: &Path) -> Finding {
    let shown = root.display();
    let written = std::fs::create_dir_all(root).and_then(|()| tempfile::tempfile_in(root));
    match written {
        Ok(_) => finding("data", Verdict::Ok, format!("{shown} can be written")),
        Err(error) => finding("data", Verdict::Fail, format!("{shown}: {error}; name another with --data DIR")),
    }
}

/// What reckons VMAF for `spool quality`.
async fn scorer() -> Finding {
    match Scorer::find().await {
        Ok(scorer) => finding("vmaf", Verdict::Ok, scorer.name),
        Err(why) => finding("vmaf", Verdict::Warn, format!("not reckoned, PSNR and SSIM are: {why}")),
    }
}

/// What an executor is locked in with on this kernel: asked of one, which tried each wall.
async fn sandbox(executors: &Executors) -> Vec<Finding> {
    let release = rustix::system::uname();
    let mut findings = vec![finding("kernel", Verdict::Ok, release.release().to_string_lossy())];
    match executors.walls().await {
        Ok(walls) => findings.extend(walls_found(&walls)),
        Err(Failure { class, code, message, .. }) => {
            findings.push(finding("sandbox", Verdict::Fail, format!("{message} ({class}: {code})")));
        }
    }
    findings
}

fn walls_found(walls: &Walls) -> Vec<Finding> {
    let Walls { landlock_abi, files, network, syscalls, privileges, limits, missing } = walls;
    let wall = |what: &str, held: bool, text: &str| {
        let (verdict, text) = if held { (Verdict::Ok, text) } else { (Verdict::Warn, "not enforced") };
        finding(format!("sandbox: {what}"), verdict, text)
    };
    let opened = format!("an executor opens nothing but its own directory and fonts (Landlock {landlock_abi})");
    let mut findings = vec![
        wall("files", *files, &opened),
        wall("network", *network, "an executor gets no socket (seccomp)"),
        wall("system calls", *syscalls, "an executor makes those that coding takes, starts no program (seccomp)"),
        wall("privileges", *privileges, "an executor has no capability and gains none (no_new_privs)"),
        wall("limits", *limits, "no core dumps, no real-time class; memory, file size and processor time by call"),
    ];
    findings.extend(missing.iter().map(|why| finding("sandbox: missing", Verdict::Warn, why)));
    findings
}
