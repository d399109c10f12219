//! Documents that must keep up with the code.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "tests" {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && name != "tests.rs" && name != "suite.rs" {
            found.push(path);
        }
    }
}

/// The codes of failures made in `text`: the literal behind `Class::…,`. Tests below the code are left out.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.split("Class::").skip(1).filter_map(|rest| {
        let literal =
            rest.trim_start_matches(char::is_alphanumeric).strip_prefix(',')?.trim_start().strip_prefix('"')?;
        literal.split('"').next()
    })
}

/// The codes of warnings made in `text`: literals of a field `code`, and pairs of a code and a text that end in `_dropped`.
fn warning_codes(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let fields = code.split("code: \"").skip(1).filter_map(|rest| rest.split('"').next());
    let pairs = code.split('"').filter(|literal| literal.ends_with("_dropped") && !literal.contains(' '));
    fields.chain(pairs)
}

#[test]
fn every_warning_is_listed_in_docs_errors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_to_string(root.join("docs/errors.md")).expect("the list");
    let (_, listed) = docs.split_once("## Warnings").expect("a section of its own");
    let mut files = Vec::new();
    sources(&root.join("media/src"), &mut files);
    let mut seen = std::collections::BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        for code in warning_codes(&text) {
            assert!(listed.contains(&format!("| `{code}` |")), "{code} of {} is not in docs/errors.md", file.display());
            seen.insert(code.to_owned());
        }
    }
    assert!(seen.len() >= 10, "only {seen:?} were found: the search is broken");
}

#[test]
fn every_failure_is_listed_in_docs_errors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = fs::read_to_string(root.join("docs/errors.md")).expect("the list");
    let mut files = Vec::new();
    for folder in ["proto/src", "scheduler/core/src", "scheduler/src", "media/src", "function/src", "worker/src", "src"]
    {
        sources(&root.join(folder), &mut files);
    }
    let mut seen = 0;
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        for code in codes(&text) {
            seen += 1;
            assert!(listed.contains(&format!("`{code}`")), "{code} of {} is not in docs/errors.md", file.display());
        }
    }
    assert!(seen > 80, "only {seen} failures were found: the search is broken");
}

#[test]
fn functions_of_the_workers_are_told_as_they_are_declared() {
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/functions.md")).expect("the page");
    let table = spool_function::own::markdown();
    assert!(docs.contains(&table), "docs/functions.md is to have:\n\n{table}");
}
