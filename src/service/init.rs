//! `spool service init`: a small service that works, to begin with.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::exit::{Exit, Stop};
use crate::output;

/// Longest name of a service.
const NAME_MAX: usize = 64;
/// Stands for the name in [`FILES`].
const NAME: &str = "@NAME@";
const FILES: [(&str, &str); 3] = [
    ("main.star", include_str!("template/main.star")),
    ("tests/films.yaml", include_str!("template/films.yaml")),
    ("README.md", include_str!("template/README.md")),
];

#[derive(Debug, Args)]
pub struct InitArgs {
    /// The folder; made if it is not there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The service's name [default: the folder's]
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// Print what was written as JSON
    #[arg(long)]
    json: bool,
}

/// A service's name: small letters, digits and dashes, so that it can stand in a path, a URL and a command line.
pub fn name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if text.is_empty()
        || text.len() > NAME_MAX
        || !text.starts_with(|c: char| c.is_ascii_lowercase())
        || !text.chars().all(good)
    {
        return Err(format!(
            "{text:?} is no name for a service: at most {NAME_MAX} small letters, digits, dashes, a letter first"
        ));
    }
    Ok(text.to_owned())
}

pub fn run(args: &InitArgs) -> anyhow::Result<Exit> {
    let shown = args.dir.display();
    let name = match &args.name {
        Some(name) => name.clone(),
        None => {
            let whole = std::path::absolute(&args.dir)?;
            let own = whole.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
            name(&own).map_err(|e| Stop::usage(format!("{e}; give another with --name")))?
        }
    };
    let there: Vec<&str> = FILES.iter().map(|(file, _)| *file).filter(|file| args.dir.join(file).exists()).collect();
    if !there.is_empty() {
        return Err(Stop::usage(format!("{shown}: {} is there already, and is not written over", there.join(", "))));
    }
    for (file, text) in FILES {
        let path = args.dir.join(file);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
            file.write_all(text.replace(NAME, &name).as_bytes())
        });
        written.map_err(|e| Stop::usage(format!("{}: {e}", path.display())))?;
    }
    if args.json {
        let files: Vec<&str> = FILES.iter().map(|(file, _)| *file).collect();
        output::print_json(&serde_json::json!({ "service": name, "folder": args.dir, "files": files }))?;
    } else {
        let files: String = FILES.iter().map(|(file, _)| format!("{}\n", args.dir.join(file).display())).collect();
        output::print(&format!("{files}spool service test {shown} plays its tests\n"))?;
    }
    Ok(Exit::Done)
}
