//! `spool service …`: services made of rules: begun, checked, tested, compared here, and kept, routed, moved by a server.
//!
//! Reading order: [`folder`] (a service's files, read in a locked-in process), then a file per verb.

mod check;
mod diff;
pub mod folder;
mod init;
pub mod named;
mod test;

use clap::Subcommand;

use crate::exit::Exit;

#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Begin a service: a folder with rules, tests and a README that work
    Init(init::InitArgs),
    /// Say what is wrong with a service's rules
    Check(check::CheckArgs),
    /// Play a service's tests in virtual time
    Test(test::TestArgs),
    /// Say which rules differ between two versions, and how
    Diff(diff::DiffArgs),
}

pub async fn run(command: ServiceCommand) -> anyhow::Result<Exit> {
    match command {
        ServiceCommand::Init(args) => init::run(&args),
        ServiceCommand::Check(args) => check::run(&args),
        ServiceCommand::Test(args) => test::run(&args),
        ServiceCommand::Diff(args) => diff::run(&args).await,
    }
}
