//! `spool service test`: a service's scripts, played in virtual time with nothing but its rules.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use spool_rules::instance::Program;
use spool_rules::limits::Limits;
use spool_rules::rehearsal::{Script, Told, rehearse};

use super::check::count;
use super::folder::{Folder, TESTS};
use crate::exit::{Exit, Stop};
use crate::{output, yaml};

/// Lines of a trace shown where a test fails; `--trace` shows all.
const TAIL: usize = 30;

#[derive(Debug, Args)]
pub struct TestArgs {
    /// The service's folder; its tests are DIR/tests/*.yaml
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Only tests with this in their name or their file's
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Tell everything that happens in each test
    #[arg(long)]
    trace: bool,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// One script, or a list of them.
struct Scripts(Vec<Script>);

impl<'de> Deserialize<'de> for Scripts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scripts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a test (name, input, functions, expect, …) or a list of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Scripts, A::Error> {
                Script::deserialize(MapAccessDeserializer::new(map)).map(|script| Scripts(vec![script]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Scripts, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Scripts)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[derive(Debug, Serialize)]
struct Results {
    service: Arc<str>,
    version: Arc<str>,
    passed: usize,
    failed: usize,
    tests: Vec<Result_>,
    /// Rules that fired in none of them.
    unfired: Vec<Arc<str>>,
}

#[derive(Debug, Serialize)]
struct Result_ {
    file: String,
    passed: bool,
    /// Virtual seconds.
    seconds: f64,
    #[serde(flatten)]
    told: Told,
}

pub fn run(args: &TestArgs) -> anyhow::Result<Exit> {
    let folder = Folder::read(&args.dir)?;
    let scripts = scripts(&folder.path, args.filter.as_deref())?;
    let read = folder.rules()?;
    let (service, version) = (read.set.service.clone(), read.set.version.clone());
    let mut unfired: BTreeSet<Arc<str>> = read.set.rules.iter().map(|rule| rule.name.clone()).collect();
    let program = Program::new(read.set).map_err(|bad| anyhow::anyhow!("{}", bad[0]))?;
    let (program, mut hosted) = (Arc::new(program), read.hosted);
    let mut tests = Vec::new();
    for (file, script) in scripts {
        let told = rehearse(&program, &mut hosted, &script, Limits::default());
        for run in told.history.iter().flat_map(|entry| &entry.sections) {
            unfired.remove(&run.rule);
        }
        let ends = told.history.first().zip(told.history.last());
        let seconds = ends.map_or(0.0, |(first, last)| last.at.since(first.at).as_secs_f64());
        let test = Result_ { file, passed: told.wrong.is_empty(), seconds, told };
        if !args.json {
            output::print(&text(&test, args.trace))?;
        }
        tests.push(test);
    }
    let failed = tests.iter().filter(|test| !test.passed).count();
    let unfired = if args.filter.is_some() { Vec::new() } else { unfired.into_iter().collect() };
    let results = Results { service, version, passed: tests.len() - failed, failed, tests, unfired };
    if args.json {
        output::print_json(&results)?;
    } else {
        output::print(&summary(&results))?;
    }
    Ok(if failed > 0 { Exit::JobFailed } else { Exit::Done })
}

fn text(test: &Result_, trace: bool) -> String {
    let Result_ { file, passed, seconds, told } = test;
    let verdict = if *passed { "ok" } else { "FAILED" };
    let mut text = format!("{file}: {} … {verdict} ({seconds:.1} s)\n", told.name);
    for wrong in &told.wrong {
        text.push_str(&format!("  {wrong}\n"));
    }
    let skipped = if trace { 0 } else { told.trace.len().saturating_sub(TAIL) };
    if trace || !passed {
        if skipped > 0 {
            text.push_str(&format!("    … {} before; --trace tells all\n", count(skipped, "line")));
        }
        text.extend(told.trace.iter().skip(skipped).map(|line| format!("    {line}\n")));
    }
    text
}

fn summary(results: &Results) -> String {
    let Results { service, version, passed, failed, unfired, .. } = results;
    let mut text = format!("{service} {version}: {passed} passed, {failed} failed\n");
    if !unfired.is_empty() {
        text.push_str(&format!("no test fires {}\n", unfired.join(", ")));
    }
    text
}

/// The scripts of a service in order of file and place.
fn scripts(folder: &Path, filter: Option<&str>) -> anyhow::Result<Vec<(String, Script)>> {
    let tests = folder.join(TESTS);
    let wanted =
        |path: &PathBuf| path.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e == *known));
    let mut files: Vec<PathBuf> = match fs::read_dir(&tests) {
        Ok(list) => list.flatten().map(|entry| entry.path()).filter(wanted).collect(),
        Err(_) => Vec::new(),
    };
    files.sort();
    let mut scripts = Vec::new();
    for file in &files {
        let shown = file.display().to_string();
        let text = fs::read_to_string(file).map_err(|e| Stop::usage(format!("{shown}: {e}")))?;
        let Scripts(read) = yaml::read(&shown, &text).map_err(Stop::usage)?;
        scripts.extend(read.into_iter().map(|script| (shown.clone(), script)));
    }
    if scripts.is_empty() {
        let tests = tests.display();
        return Err(Stop::usage(format!(
            "{tests}: there are no tests (*.yaml) in it; docs/rules.md says how one is written"
        )));
    }
    if let Some(filter) = filter {
        let all = scripts.len();
        scripts.retain(|(file, script)| file.contains(filter) || script.name.contains(filter));
        if scripts.is_empty() {
            return Err(Stop::usage(format!("--filter {filter}: none of the {all} tests has that in its name")));
        }
    }
    Ok(scripts)
}
