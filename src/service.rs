//! `spool service …`: services made of rules: begun, checked, tested, compared here, and kept, routed, moved by a server.
//!
//! Reading order: [`folder`] (a service's files, read in a locked-in process), then a file per verb.

mod check;
mod diff;
pub mod folder;
mod init;
pub mod migrate;
pub mod named;
mod test;
mod versions;

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
    /// Give a service to a server: it is checked and kept as a version
    Push(versions::PushArgs),
    /// Services of the server
    List(versions::ListArgs),
    /// A service's versions, and the files of one
    Get(versions::GetArgs),
    /// Let a version take some of the new jobs
    Canary(versions::CanaryArgs),
    /// Let a version take all new jobs; jobs under way keep theirs
    Promote(versions::PromoteArgs),
    /// End a canary; without one, go back to the version before
    Rollback(versions::RollbackArgs),
    /// Put a job under way under another version
    Migrate(migrate::MigrateArgs),
}

pub async fn run(command: ServiceCommand) -> anyhow::Result<Exit> {
    match command {
        ServiceCommand::Init(args) => return init::run(&args),
        ServiceCommand::Check(args) => return check::run(&args),
        ServiceCommand::Test(args) => return test::run(&args),
        ServiceCommand::Diff(args) => return diff::run(&args).await,
        ServiceCommand::Push(args) => return versions::push(&args).await,
        ServiceCommand::List(args) => versions::list(&args).await?,
        ServiceCommand::Get(args) => versions::get(&args).await?,
        ServiceCommand::Canary(args) => versions::canary_to(&args).await?,
        ServiceCommand::Promote(args) => versions::promote(&args).await?,
        ServiceCommand::Rollback(args) => versions::rollback(&args).await?,
        ServiceCommand::Migrate(args) => migrate::run(&args).await?,
    }
    Ok(Exit::Done)
}
