//! `spool server`: the role, alone. Workers attach to it from other processes.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use spool_scheduler::ServerOptions;

use crate::exit::Exit;
use crate::follow::Interrupts;
use crate::roles;

#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Where everything the server knows is kept
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    #[command(flatten)]
    listen: ListenArgs,
}

#[derive(Debug, Args)]
pub struct ListenArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7400")]
    pub listen: SocketAddr,
    /// Listen beyond this machine though there is no TLS yet
    #[arg(long)]
    pub insecure: bool,
}

impl ListenArgs {
    pub fn options(&self, data: PathBuf) -> ServerOptions {
        ServerOptions { listen: Some(self.listen), allow_insecure: self.insecure, ..ServerOptions::new(data) }
    }
}

pub async fn run(args: &ServerArgs) -> anyhow::Result<Exit> {
    let mut interrupts = Interrupts::listen()?;
    let server = roles::start_server(args.listen.options(std::path::absolute(&args.data)?)).await?;
    roles::serve(server, None, &mut interrupts).await
}
