//! `spool function …`: functions that users write: begun, checked, tried here, pushed to a server, run there.
//!
//! Reading order: [`input`] (from options to JSON), [`local`] (without a server), [`remote`] (with one), [`stub`] (for callers).

mod input;
mod local;
mod remote;
mod stub;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use spool_proto::pool::PoolName;
use spool_proto::spec::PRIORITY_MAX;

use crate::cli::{SandboxArg, ServerArg};
use crate::exit::Exit;
use input::InputArgs;

#[derive(Debug, Subcommand)]
pub enum FunctionCommand {
    /// Write a function to begin with into a new folder
    Init(InitArgs),
    /// Check a function's folder: its manifest, its files
    Check(FolderArgs),
    /// Run a function from its folder once, here, in the walls that a worker puts around it
    Test(TestArgs),
    /// Give a function to the server, as a new version
    Push(PushArgs),
    /// Functions the server keeps, with all their versions, and those that workers have themselves
    List(ListArgs),
    /// One version of a function, or one that workers have themselves: what it takes, answers and needs
    Get(GetArgs),
    /// Print what callers load or compile: a function's declaration in their language
    Stub(StubArgs),
    /// Run a function once, on a worker, and print what it answers
    Run(RunArgs),
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// The folder; made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// What the function is called [default: as the folder]
    #[arg(long)]
    name: Option<String>,
    /// Print what was written, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct FolderArgs {
    /// The function's folder, with function.toml in it
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Print what is known of it, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct TestArgs {
    #[command(flatten)]
    folder: FolderArgs,
    #[command(flatten)]
    input: InputArgs,
    /// Where the files go that it leaves; made if it is not there [default: they are dropped]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    sandbox: SandboxArg,
}

#[derive(Debug, Args)]
pub struct PushArgs {
    #[command(flatten)]
    folder: FolderArgs,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those that somebody pushed
    #[arg(long)]
    pushed: bool,
    /// Print all that is known, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Debug, Args)]
pub struct GetArgs {
    /// Its name, or name@version: a hash, its beginning, or what its author calls the version
    #[arg(value_name = "NAME[@VERSION]")]
    name: String,
    /// Print all that is known, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Debug, Args)]
pub struct StubArgs {
    /// Its name, or name@version, which is then the version that is called; media.encode and the like need no server
    #[arg(value_name = "NAME[@VERSION]", required_unless_present = "folder")]
    name: Option<String>,
    /// Of a function in a folder, without a server
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    folder: Option<PathBuf>,
    /// star: rules load it; proto: messages and a service; rust: types and a client
    #[arg(long, value_enum, default_value_t = Language::Star)]
    lang: Language,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    Star,
    Proto,
    Rust,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Its name, or name@version: a hash, its beginning, or what its author calls the version
    #[arg(value_name = "NAME[@VERSION]")]
    name: String,
    #[command(flatten)]
    input: InputArgs,
    /// A folder, or s3://bucket/prefix/, for the files that it leaves [default: they go with the job]
    #[arg(long, value_name = "DIR")]
    out: Option<String>,
    /// Replace objects that are there under s3://; a folder with other files in it is never touched
    #[arg(short = 'y', long)]
    overwrite: bool,
    /// The pool it goes to, such as studio/marketing [default: default]
    #[arg(long, value_name = "POOL", value_parser = crate::pool::name)]
    pool: Option<PoolName>,
    /// 0 (last) to 100 (first) [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=i64::from(PRIORITY_MAX)))]
    priority: Option<u8>,
    /// The same id is the same job, however often it is submitted
    #[arg(long, value_name = "ID", default_value = "")]
    request_id: String,
    /// Print the job's id and leave it to the server
    #[arg(long)]
    detach: bool,
    /// Print the whole job, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArg,
}

pub async fn run(command: FunctionCommand) -> anyhow::Result<Exit> {
    match command {
        FunctionCommand::Init(args) => local::init(&args),
        FunctionCommand::Check(args) => local::check(&args),
        FunctionCommand::Test(args) => local::test(&args).await,
        FunctionCommand::Push(args) => remote::push(&args).await,
        FunctionCommand::List(args) => remote::list(&args).await,
        FunctionCommand::Get(args) => remote::get(&args).await,
        FunctionCommand::Stub(args) => stub::run(&args).await,
        FunctionCommand::Run(args) => remote::run(&args).await,
    }
}
