//! A service's folder, read; and what is wrong with it, read in a process that is locked in.

use std::fs;
use std::path::{Path, PathBuf};

use spool_dialect::file::MAIN;
use spool_dialect::{Hosted, Problem, Severity, Sources};
use spool_rules::ruleset::RuleSet;

use crate::exit::Stop;
use crate::rules_exec;

/// A rule file is at most this long; a server takes no more for a whole service.
const FILE_MAX: u64 = 1 << 20;
/// Folders within folders.
const DEPTH: usize = 8;
/// Holds what plays a service, not what it is made of.
pub const TESTS: &str = "tests";

/// A folder with `main.star` in it.
#[derive(Debug)]
pub struct Folder {
    pub path: PathBuf,
    pub sources: Sources,
}

/// Rules that can be run.
#[derive(Debug)]
pub struct Read {
    pub set: RuleSet,
    pub warnings: Vec<Problem>,
    /// Its process has read the rules.
    pub hosted: Hosted,
}

impl Folder {
    /// Reads every `*.star` below `path` but those of tests.
    ///
    /// # Errors
    /// A [`Stop`] with exit 2: there is no such folder, no rules in it, or what cannot be read.
    pub fn read(path: &Path) -> anyhow::Result<Folder> {
        let shown = path.display();
        if !path.is_dir() {
            let what = if path.exists() { "is no folder" } else { "does not exist" };
            return Err(Stop::usage(format!(
                "{shown} {what}: give the folder of a service; spool service init {shown} begins one"
            )));
        }
        let mut sources = Sources::default();
        gather(path, "", 0, &mut sources)?;
        if !sources.0.contains_key(MAIN) {
            return Err(Stop::usage(format!(
                "{shown}: there is no {MAIN} in it, where a service's rules begin; spool service init writes one"
            )));
        }
        Ok(Folder { path: path.to_owned(), sources })
    }

    /// Has the rules read and checked.
    ///
    /// # Errors
    /// What is wrong with them; outside, that this program cannot be started again.
    pub fn check(&self) -> anyhow::Result<Result<Read, Vec<Problem>>> {
        check(&self.sources)
    }

    /// As [`Folder::check`], for those who need the rules and not the reasons.
    ///
    /// # Errors
    /// A [`Stop`] with exit 2 that says all that is wrong.
    pub fn rules(&self) -> anyhow::Result<Read> {
        self.check()?.map_err(|problems| Stop::usage(lines(&problems, |problem| self.line(problem))))
    }

    /// A problem as editors find it: with the folder in front of the file.
    pub fn line(&self, problem: &Problem) -> String {
        let file = self.path.join(&problem.file).display().to_string();
        Problem { file, ..problem.clone() }.to_string()
    }
}

/// Has rules read in a process of their own.
///
/// # Errors
/// As [`Folder::check`].
pub fn check(sources: &Sources) -> anyhow::Result<Result<Read, Vec<Problem>>> {
    let mut hosted = Hosted::new(rules_exec::keeper()?, sources.clone());
    Ok(hosted.check().map(|(set, warnings)| Read { set, warnings, hosted }))
}

pub fn is_error(problem: &Problem) -> bool {
    problem.severity == Severity::Error
}

/// A line each.
pub fn lines(problems: &[Problem], line: impl Fn(&Problem) -> String) -> String {
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn gather(folder: &Path, below: &str, depth: usize, sources: &mut Sources) -> anyhow::Result<()> {
    let bad = |path: &Path, what: String| Stop::usage(format!("{}: {what}", path.display()));
    for entry in fs::read_dir(folder).map_err(|e| bad(folder, e.to_string()))? {
        let path = entry.map_err(|e| bad(folder, e.to_string()))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let is_rules = path.extension().is_some_and(|extension| extension == "star");
        if name.starts_with('.') || (depth == 0 && name == TESTS) {
            continue;
        }
        let name = format!("{below}{name}");
        if path.is_dir() {
            // A link may lead in a circle; whoever means another folder's files writes load().
            if path.is_symlink() {
                continue;
            }
            if depth == DEPTH {
                return Err(bad(&path, format!("folders go no deeper than {DEPTH} in a service")));
            }
            gather(&path, &format!("{name}/"), depth + 1, sources)?;
        } else if is_rules {
            let bytes = fs::metadata(&path).map_err(|e| bad(&path, e.to_string()))?.len();
            if bytes > FILE_MAX {
                return Err(bad(&path, format!("{bytes} bytes; a rule file has at most {FILE_MAX}")));
            }
            let text = fs::read_to_string(&path).map_err(|e| bad(&path, e.to_string()))?;
            sources.0.insert(name, text);
        }
    }
    Ok(())
}
