//! `spool up`: a server and one worker, ready for clients on this machine.

use std::path::PathBuf;

use clap::Args;

use crate::cli::SandboxArg;
use crate::exit::Exit;
use crate::follow::Interrupts;
use crate::roles::{self, WorkerTerms};
use crate::run::folder;
use crate::server::ListenArgs;

#[derive(Debug, Args)]
pub struct UpArgs {
    /// Where everything is kept [default: $XDG_DATA_HOME/spool/server]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    listen: ListenArgs,
    /// Cores the worker offers [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
    #[command(flatten)]
    sandbox: SandboxArg,
    /// Run no functions that users wrote
    #[arg(long)]
    no_functions: bool,
}

pub async fn run(args: &UpArgs) -> anyhow::Result<Exit> {
    let data = match &args.data {
        Some(data) => std::path::absolute(data)?,
        None => folder::root(None)?.join("server"),
    };
    let mut interrupts = Interrupts::listen()?;
    let server = roles::start_server(args.listen.options(data.clone())).await?;
    if let Some(addr) = server.local_addr() {
        eprintln!("spool is up at http://{addr}, data in {}; Ctrl-C drains and stops", data.display());
    }
    let scratch = data.join("scratch");
    let terms = WorkerTerms {
        functions: !args.no_functions,
        ..WorkerTerms::new(args.slots, roles::all_backends(), args.sandbox.mode)
    };
    let worker = roles::start_worker(roles::host_name(), server.connect(), scratch, terms).await?;
    roles::serve(server, Some(worker), &mut interrupts).await
}
