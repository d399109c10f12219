//! `spool`: one binary that plays every role. Parses, calls the API, prints.
//!
//! Reading order: [`cli`] (nouns and verbs), [`argv`] (ffmpeg's single dashes), [`exit`] (how it ends); then a file per noun
//! ([`encode`], [`submit`], [`estimate`], [`ffmpeg`], [`function`], [`job`], [`pool`], [`service`], [`rules`], [`queue`], [`worker`], [`probe`], [`quality`], [`images`], [`text`], [`doctor`], [`bench`]) and per role ([`server`], [`worker`], [`up`], [`exec`], [`rules_exec`]), over
//! [`run`] (a job to its end), [`roles`] (starting servers and workers), [`client`], [`follow`], [`progress`], [`output`], [`quantity`].

mod argv;
mod bench;
mod cli;
mod client;
mod doctor;
mod encode;
mod estimate;
mod exec;
mod exit;
mod ffmpeg;
mod follow;
mod function;
mod images;
mod job;
mod logging;
mod output;
mod pool;
mod probe;
mod progress;
mod quality;
mod quantity;
mod queue;
mod roles;
mod rules;
mod rules_exec;
mod run;
mod server;
mod service;
mod submit;
mod text;
mod up;
mod worker;
mod yaml;

use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches};

use cli::{Cli, Command};
use exit::Exit;

/// Of Rust's own memory; libav keeps the system's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    if let Some(args) = ffmpeg::called_as_ffmpeg(std::env::args_os()) {
        return ffmpeg::main(&args);
    }
    let cli = match parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    if matches!(cli.command, Command::Exec) {
        exec::main();
    }
    if matches!(cli.command, Command::RulesExec) {
        rules_exec::main();
    }
    if matches!(cli.command, Command::Launch) {
        spool_worker::function::main();
    }
    if let Command::Ffmpeg(args) = &cli.command {
        return ffmpeg::main(&args.words);
    }
    logging::start(cli.log_format, !cli.command.is_a_role());
    match block_on(dispatch(cli.command)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = exit::of_error(&error);
            eprintln!("spool: {}", exit::text_of_error(&error));
            exit.into()
        }
    }
}

/// Runs `work` to its end.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("no threads to run on")?;
    let done = runtime.block_on(Box::pin(work));
    // What still blocks (a read of a hung disk) must not hold the process.
    runtime.shutdown_background();
    done
}

fn parse() -> Result<Cli, ExitCode> {
    let command = Cli::command();
    let args = argv::rewrite(&command, std::env::args_os()).map_err(|refusal| {
        eprintln!("spool: {refusal}");
        ExitCode::from(Exit::Usage)
    })?;
    let parsed = command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        // Help and version come this way too, on stdout and with 0.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.number()))
    })
}

async fn dispatch(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Encode(args) => encode::run(&args).await,
        Command::Submit(args) => submit::run(&args).await,
        Command::Estimate(args) => estimate::run(&args).await,
        Command::Template(command) => submit::template::run(command).await,
        Command::Function(command) => function::run(command).await,
        Command::Job(command) => job::run(command).await,
        Command::Pool(command) => pool::run(command).await,
        Command::Queue(command) => queue::run(command).await,
        Command::Worker(command) => worker::run(command).await,
        Command::Rules(command) => rules::run(command).await,
        Command::Service(command) => service::run(command).await,
        Command::Server(args) => server::run(&args).await,
        Command::Up(args) => up::run(&args).await,
        Command::Probe(args) => probe::run(&args).await,
        Command::Quality(args) => quality::run(&args).await,
        Command::Images(args) => images::run(&args).await,
        Command::Text(args) => text::run(&args).await,
        Command::Doctor(args) => doctor::run(&args).await,
        Command::Bench(command) => bench::run(command).await,
        Command::Exec | Command::RulesExec | Command::Launch | Command::Ffmpeg(_) => {
            unreachable!("they are served before")
        }
    }
}
