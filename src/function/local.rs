//! Without a server: a function begun, checked, tried.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use spool_function::manifest::is_name;
use spool_function::{Package, manifest};
use spool_proto::call::Value;
use spool_proto::failure::Failure;
use spool_proto::uri;
use spool_worker::executor::{Advance, Sandbox, Stops, Unanswered};
use spool_worker::function::{LocalOptions, Tried, local};
use tokio::sync::watch;

use super::{FolderArgs, InitArgs, TestArgs};
use crate::exit::{Exit, Stop};
use crate::follow::Interrupts;
use crate::{output, roles};

const MANIFEST: &str = include_str!("template/function.toml");
const MAIN: &str = include_str!("template/main.py");

pub fn init(args: &InitArgs) -> anyhow::Result<Exit> {
    let folder = &args.folder;
    let named = std::path::absolute(folder)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => named.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default(),
    };
    if !is_name(&name) {
        let text = format!(
            "{name:?} is no name of a function: small letters, digits and - between them; give one with --name"
        );
        return Err(Stop::usage(text));
    }
    let failed = |path: &Path, error: std::io::Error| Stop::usage(format!("{}: {error}", path.display()));
    fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let files = [(manifest::FILE, MANIFEST.replace("NAME", &name)), ("main.py", MAIN.to_owned())];
    if let Some((there, _)) = files.iter().find(|(file, _)| folder.join(file).exists()) {
        return Err(Stop::usage(format!("{} is there already; nothing was written", folder.join(there).display())));
    }
    for (file, text) in &files {
        fs::write(folder.join(file), text).map_err(|error| failed(&folder.join(file), error))?;
    }
    if args.json {
        output::print_json(&json!({ "name": name, "folder": named, "files": files.map(|(file, _)| file) }))?;
    } else {
        let shown = folder.display();
        output::print(&format!(
            "{name} is in {shown}; try it: spool function test {shown} --set file={shown}/main.py\n"
        ))?;
    }
    Ok(Exit::Done)
}

/// The function in a folder.
pub fn package(folder: &Path) -> anyhow::Result<Package> {
    Package::read(folder).map_err(|problem| Failure::from(problem).into())
}

pub fn check(args: &FolderArgs) -> anyhow::Result<Exit> {
    let package = package(&args.folder)?;
    let manifest = package.manifest();
    if args.json {
        let shown = json!({
            "hash": package.hash(),
            "files": package.files().len(),
            "bytes": package.bytes(),
            "manifest": manifest.to_json(),
        });
        output::print_json(&shown)?;
    } else {
        let (files, bytes) = (package.files().len(), output::bytes(package.bytes()));
        output::print(&format!(
            "{} {} ({:.12}): {files} files, {bytes}; needs {}, at most {}\n",
            manifest.name,
            manifest.version,
            package.hash(),
            manifest.resources,
            output::span(manifest.timeout)
        ))?;
    }
    Ok(Exit::Done)
}

pub async fn test(args: &TestArgs) -> anyhow::Result<Exit> {
    let package = package(&args.folder.folder)?;
    let input = args.input.value(&package.manifest().input)?;
    let mut interrupts = Interrupts::listen()?;
    let work = tempfile::tempdir()?;
    let (scratch, left) = (work.path().join("scratch"), work.path().join("left"));
    fs::create_dir(&scratch)?;
    fs::create_dir(&left)?;
    let options = LocalOptions {
        program: roles::program()?,
        functions: roles::function_options(),
        scratch,
        sandbox: args.sandbox.mode,
        output: left,
    };
    let folder = args.folder.folder.canonicalize()?;
    let quiet = args.folder.json;
    let progress = Arc::new(move |advance: Advance| {
        if !quiet {
            eprintln!("{:>5.1} %", f64::from(u32::try_from(advance.frames).unwrap_or(u32::MAX)) / 10.0);
        }
    });
    let (stop, stops) = watch::channel(Stops::NONE);
    let run = local(options, &folder, &package, &input, progress, stops);
    tokio::pin!(run);
    let tried = loop {
        tokio::select! {
            tried = &mut run => break tried,
            () = interrupts.next() => stop.send_modify(|stops| stops.add(0)),
        }
    };
    match tried {
        Ok(tried) => tell(&tried, args),
        Err(Unanswered::Failed(failure)) => Err(failure.into()),
        Err(Unanswered::Stopped) => Ok(Exit::Detached),
    }
}

fn tell(tried: &Tried, args: &TestArgs) -> anyhow::Result<Exit> {
    let Value::User { result, log } = &tried.answer.value else {
        anyhow::bail!("the function answered something else than was asked");
    };
    let mut files = Vec::new();
    for file in &tried.answer.artifacts {
        let path = args.out.as_ref().map(|out| out.join(&file.name));
        if let Some(path) = &path {
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            fs::copy(uri::to_path(&file.uri)?, path)?;
        }
        files.push(json!({ "name": file.name, "bytes": file.bytes, "hash": file.hash, "path": path }));
    }
    let missing = tried.walls.as_ref().filter(|walls| !walls.is_whole() && args.sandbox.mode != Sandbox::Off);
    if let Some(walls) = missing {
        eprintln!("warning: this machine cannot lock it in as a worker must: {}", walls.missing.join("; "));
    }
    if args.folder.json {
        output::print_json(&json!({ "result": result, "files": files, "log": log, "walls": tried.walls }))?;
        return Ok(Exit::Done);
    }
    if !log.is_empty() {
        eprintln!("{log}");
    }
    for file in &tried.answer.artifacts {
        let kept = if args.out.is_some() { "" } else { " (dropped; --out DIR keeps it)" };
        eprintln!("left {} ({}){kept}", file.name, output::bytes(file.bytes));
    }
    output::print_json(result)?;
    Ok(Exit::Done)
}
