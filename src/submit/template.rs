//! Templates: what jobs have in common, under a name and a version. Those that come with Spool, and files of the user's own.

use std::path::Path;

use clap::Subcommand;
use serde::Deserialize;

use super::SubmitArgs;
use super::file::{API_VERSION, Body};
use crate::exit::{Exit, Stop};
use crate::output;
use crate::yaml::read;

const KIND: &str = "Template";

/// Those that come with Spool, by name. A version never changes: what was submitted with it can be submitted again.
const BUILT_IN: [(&str, &str); 3] = [
    ("hls-h264@1", include_str!("templates/hls-h264@1.yaml")),
    ("proxy@1", include_str!("templates/proxy@1.yaml")),
    ("web@1", include_str!("templates/web@1.yaml")),
];

#[derive(Debug, Subcommand)]
pub enum TemplateCommand {
    /// The templates that come with Spool
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// One template, as a file to begin with
    Get {
        /// Such as hls-h264@1, or the path of a file
        #[arg(value_name = "TEMPLATE")]
        name: String,
    },
    /// Submit a job made of a template alone
    Apply {
        /// Such as hls-h264@1, or the path of a file
        #[arg(id = "of", value_name = "TEMPLATE")]
        name: String,
        #[command(flatten)]
        args: Box<SubmitArgs>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    api_version: String,
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    spec: Body,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Metadata {
    description: String,
}

/// The template of a name or in a file.
///
/// # Errors
/// What is wrong with it, or that there is none and which there are.
pub fn find(name: &str) -> Result<Body, String> {
    let text = text(name)?;
    parse(name, &text).map(|document| document.spec)
}

fn text(name: &str) -> Result<String, String> {
    if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        return Ok((*text).to_owned());
    }
    if name.contains('/') || Path::new(name).extension().is_some_and(|e| e == "yaml" || e == "yml") {
        return std::fs::read_to_string(name).map_err(|e| format!("{name}: {e}"));
    }
    let known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    Err(format!("{name}: there is no such template; there are {}, and files by their path", known.join(", ")))
}

fn parse(name: &str, text: &str) -> Result<Document, String> {
    let document: Document = read(name, text)?;
    if document.api_version != API_VERSION || document.kind != KIND {
        return Err(format!("{name}: expected apiVersion: {API_VERSION} and kind: {KIND}"));
    }
    if document.spec.template.is_some() {
        return Err(format!("{name}: spec.template: a template is not made of another"));
    }
    Ok(document)
}

pub async fn run(command: TemplateCommand) -> anyhow::Result<Exit> {
    match command {
        TemplateCommand::List { json } => list(json)?,
        TemplateCommand::Get { name } => output::print(&text(&name).map_err(Stop::usage)?)?,
        TemplateCommand::Apply { name, args } => return super::apply(name, *args).await,
    }
    Ok(Exit::Done)
}

fn list(json: bool) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for (name, text) in BUILT_IN {
        rows.push((name, parse(name, text).map_err(Stop::usage)?.metadata.description));
    }
    if json {
        let rows: Vec<_> =
            rows.iter().map(|(name, text)| serde_json::json!({ "name": name, "description": text })).collect();
        return output::print_json(&rows);
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = rows.iter().map(|(name, text)| format!("{name:width$}  {text}\n")).collect();
    output::print(&lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_that_comes_with_spool_makes_a_good_job() {
        for (name, _) in BUILT_IN {
            let body = find(name).expect(name);
            let output = if body.packages.is_some() { "file:///out/" } else { "file:///out.mp4" };
            let service = body.service("file:///in.mov".into(), output.into()).expect(name);
            body.job("in".into(), service).expect(name);
        }
    }

    #[test]
    fn what_is_no_template_is_told() {
        assert!(find("hls").expect_err("no such").contains("hls-h264@1"));
        assert!(find("./none.yaml").expect_err("no such").contains("none.yaml"));
        let job = "apiVersion: spool/v1\nkind: Job\nspec: {}\n";
        assert!(parse("x", job).expect_err("a job").contains("kind: Template"));
        let nested = "apiVersion: spool/v1\nkind: Template\nspec: {template: web@1}\n";
        assert!(parse("x", nested).expect_err("nested").contains("spec.template"));
    }
}
