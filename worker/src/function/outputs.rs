//! Files that a function left in its folder of outputs: plain files alone, named by their paths, moved to names that any store takes.

use std::path::{Path, PathBuf};

use spool_proto::failure::{Class, Failure};

use crate::executor::Produced;
use crate::transfer::write_failure;

/// The folder of outputs, in a call's scratch.
pub const FOLDER: &str = "out";
/// Files at most.
const FILES_MAX: usize = 1_000;
const PATH_MAX: usize = 512;
const DEPTH_MAX: usize = 16;

/// Every file below the folder of outputs, in order of their paths. Nothing runs any more that could change them.
///
/// # Errors
/// Class `internal`: `function_bad_output`: too many, a link, a name that is none. Class `host`: what cannot be read.
pub async fn collect(place: &Path) -> Result<Vec<Produced>, Failure> {
    let place = place.to_owned();
    crate::blocking(move || {
        let mut found = Vec::new();
        // It was the program's to take away, and to put a link to another in its place.
        if !std::fs::symlink_metadata(place.join(FOLDER)).is_ok_and(|folder| folder.is_dir()) {
            return Err(bad("the function took its folder of outputs away".into()));
        }
        walk(&place.join(FOLDER), "", 0, &mut found)?;
        found.sort();
        found.into_iter().enumerate().map(|(at, (name, path))| moved(&place, at, name, &path)).collect()
    })
    .await
}

fn bad(what: String) -> Failure {
    Failure::new(Class::Internal, "function_bad_output", what)
}

fn walk(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<(String, PathBuf)>) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| write_failure(&error, folder, "scratch_unwritable");
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().into_string();
        let name = name.map_err(|name| bad(format!("the function left a file whose name is not UTF-8: {name:?}")))?;
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if path.len() > PATH_MAX || path.chars().any(char::is_control) || depth > DEPTH_MAX {
            return Err(bad(format!("the function left {path:?}: too long, too deep, or with control characters")));
        }
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            walk(&entry.path(), &path, depth + 1, found)?;
        } else if kind.is_file() {
            found.push((path, entry.path()));
        } else {
            return Err(bad(format!("the function left {path:?}, which is no plain file")));
        }
        if found.len() > FILES_MAX {
            return Err(bad(format!("the function left more than {FILES_MAX} files")));
        }
    }
    Ok(())
}

fn moved(place: &Path, at: usize, name: String, path: &Path) -> Result<Produced, Failure> {
    let ending = Path::new(&name).extension().and_then(|ending| ending.to_str()).unwrap_or("bin");
    let ending: String = ending.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    let ending = if ending.is_empty() { "bin".to_owned() } else { ending };
    let target = place.join(format!("file-{:04}.{ending}", at + 1));
    std::fs::rename(path, &target).map_err(|error| write_failure(&error, &target, "scratch_unwritable"))?;
    Ok(Produced { name, path: target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plain_files_are_taken_by_their_paths() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("out/sheets/a")).unwrap();
        for name in ["report.json", "sheets/a/1.png", "sheets/1.png", "odd name.t-x"] {
            std::fs::write(dir.path().join("out").join(name), name).unwrap();
        }
        let files = collect(dir.path()).await.unwrap();
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["odd name.t-x", "report.json", "sheets/1.png", "sheets/a/1.png"]);
        for file in &files {
            assert_eq!(std::fs::read_to_string(&file.path).unwrap(), file.name);
        }
        let stored: Vec<_> = files.iter().map(|file| file.path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(stored, ["file-0001.tx", "file-0002.json", "file-0003.png", "file-0004.png"]);
    }

    #[tokio::test]
    async fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("out/passwd")).unwrap();
        assert_eq!(collect(dir.path()).await.unwrap_err().code, "function_bad_output");
        let other = tempfile::tempdir().unwrap();
        std::fs::write(other.path().join("secret"), "a secret").unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(other.path(), dir.path().join("out")).unwrap();
        assert_eq!(collect(dir.path()).await.unwrap_err().code, "function_bad_output");
        assert!(other.path().join("secret").is_file(), "nothing of it was moved");
    }
}
