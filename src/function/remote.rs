//! With a server: a function pushed, looked at, run.

use std::path::Path;

use serde_json::json;
use spool_function::own;
use spool_function::schema::Schema;
use spool_proto::spec::{FunctionSpec, JobSpec, PRIORITY_DEFAULT, Service};
use spool_proto::uri;
use spool_proto::view::{FunctionOutput, JobState, JobView};

use super::{GetArgs, ListArgs, PushArgs, RunArgs, local};
use crate::client::Client;
use crate::client::functions::VersionView;
use crate::exit::{Exit, Stop};
use crate::follow::{self, End, Fleet, Interrupts};
use crate::output;
use crate::progress::{Mode, Progress};

pub async fn push(args: &PushArgs) -> anyhow::Result<Exit> {
    let package = local::package(&args.folder.folder)?;
    let client = Client::connect(&args.server.server).await?;
    let (version, existing) = client.push_function(package).await?;
    if args.folder.json {
        output::print_json(&json!({ "version": version, "existing": existing }))?;
    } else {
        let again = if existing { ", which was there before," } else { "" };
        output::print(&format!("{} {}{again} is {}\n", version.function, version.version, version.hash))?;
    }
    Ok(Exit::Done)
}

pub async fn list(args: &ListArgs) -> anyhow::Result<Exit> {
    let versions = Client::connect(&args.server.server).await?.functions().await?;
    let own = if args.pushed { &[] } else { own::all() };
    if args.json {
        let mut all = versions.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
        all.extend(own.iter().map(own::Function::to_json));
        output::print_json(&all)?;
        return Ok(Exit::Done);
    }
    let row = |version: &VersionView| {
        vec![
            version.function.clone(),
            version.version.clone(),
            format!("{:.12}", version.hash),
            if version.current { "yes" } else { "-" }.into(),
            format!("{} ago", output::ago(version.pushed)),
            version.pushed_by.clone(),
            output::bytes(version.bytes),
        ]
    };
    let built_in = |function: &own::Function| {
        let mut row = vec![function.name.to_owned(), "built in".into()];
        row.resize(7, "-".into());
        row
    };
    let rows: Vec<Vec<String>> = versions.iter().map(row).chain(own.iter().map(built_in)).collect();
    output::print(&output::table(&["FUNCTION", "VERSION", "HASH", "CURRENT", "PUSHED", "BY", "SIZE"], &rows, true))?;
    Ok(Exit::Done)
}

pub async fn get(args: &GetArgs) -> anyhow::Result<Exit> {
    if let Some(own) = own::get(&args.name) {
        let shown = own.to_json();
        match args.json {
            true => output::print_json(&shown)?,
            false => output::print(&output::yaml(&shown)?)?,
        }
        return Ok(Exit::Done);
    }
    let version = Client::connect(&args.server.server).await?.function(&args.name).await?;
    if args.json {
        output::print_json(&version)?;
        return Ok(Exit::Done);
    }
    let mut text = format!(
        "{} {} ({})\npushed {} ago by {}: {} files, {}\n",
        version.function,
        version.version,
        version.hash,
        output::ago(version.pushed),
        version.pushed_by,
        version.files,
        output::bytes(version.bytes)
    );
    text.push_str(&output::yaml(&version.manifest)?);
    output::print(&text)?;
    Ok(Exit::Done)
}

pub async fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let client = Client::connect(&args.server.server).await?;
    let version = client.function(&args.name).await?;
    let input = args.input.value(&input_of(&version)?)?;
    let function = FunctionSpec {
        name: version.function.clone(),
        // What the input was made for.
        version: version.hash.clone(),
        input,
        output: args.out.as_deref().map(folder_uri).transpose()?,
        overwrite: args.overwrite,
        order: None,
    };
    let spec = JobSpec {
        pool: args.pool.clone().unwrap_or_default(),
        priority: args.priority.unwrap_or(PRIORITY_DEFAULT),
        ..JobSpec::new(version.function, Service::Function(function))
    };
    let mut interrupts = Interrupts::listen()?;
    let (job, _) = client.submit(&args.request_id, &spec).await?;
    if args.detach {
        match args.json {
            true => output::print_json(&json!({ "job": job, "server": args.server.server }))?,
            false => output::print(&format!("{job}\n"))?,
        }
        return Ok(Exit::Done);
    }
    let mut progress = Progress::new(if args.json { Mode::None } else { Mode::Auto });
    let end = follow::follow(&client, &job, Fleet::Open, &mut progress, &mut interrupts).await;
    progress.end();
    match end? {
        End::Final(view) => finish(&view, args, &mut progress),
        End::Interrupted => {
            let text = format!("{job} goes on; spool job watch {job} looks again, spool job cancel {job} stops it");
            Err(Stop::with(Exit::Detached, text))
        }
    }
}

fn finish(job: &JobView, args: &RunArgs, progress: &mut Progress) -> anyhow::Result<Exit> {
    if args.json {
        output::print_json(job)?;
        return Ok(follow::exit_of(job));
    }
    if job.state != JobState::Done {
        progress.tell_end(job);
        return Ok(follow::exit_of(job));
    }
    let made: FunctionOutput = serde_json::from_value(job.output.clone().unwrap_or_default())?;
    for file in &made.files {
        match &file.uri {
            Some(uri) => eprintln!("left {} ({})", uri, output::bytes(file.bytes)),
            None => {
                eprintln!("left {} ({}), gone with the job; --out DIR keeps it", file.name, output::bytes(file.bytes))
            }
        }
    }
    output::print_json(&made.result)?;
    Ok(Exit::Done)
}

/// What a version takes, as its server says.
fn input_of(version: &VersionView) -> anyhow::Result<Schema> {
    let fields = version.manifest.get("input").cloned().unwrap_or_else(|| json!({}));
    Ok(Schema::read(&serde_json::from_value(fields)?)?)
}

fn folder_uri(out: &str) -> anyhow::Result<String> {
    if out.contains("://") {
        return Ok(if out.ends_with('/') { out.to_owned() } else { format!("{out}/") });
    }
    Ok(uri::prefix_from_path(&std::path::absolute(Path::new(out))?))
}
