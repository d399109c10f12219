//! Versions on the disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use spool_function::manifest::{FILE, is_name};
use spool_function::package::is_hash;
use spool_function::{Manifest, Package};
use spool_proto::failure::{Class, Failure};
use tracing::error;

use super::{Entry, Pushed};
use crate::files::write_json;

const FILES: &str = "files";
const PUSHED: &str = "pushed.json";
/// Where a version is written before it appears; what is in it after a crash was never acknowledged.
const NEW: &str = ".new";

type Failed = (PathBuf, io::Error);

/// Reads every version's manifest, and clears what a crash left.
pub(super) fn load(root: &Path) -> io::Result<BTreeMap<String, Vec<Arc<Entry>>>> {
    fs::create_dir_all(root)?;
    match fs::remove_dir_all(root.join(NEW)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut versions: BTreeMap<String, Vec<Arc<Entry>>> = BTreeMap::new();
    for name in names(root)?.into_iter().filter(|name| is_name(name)) {
        for hash in names(&root.join(&name))?.into_iter().filter(|hash| is_hash(hash)) {
            let folder = root.join(&name).join(&hash);
            match entry(&folder, &name, &hash) {
                Ok(entry) => versions.entry(name.clone()).or_default().push(Arc::new(entry)),
                Err(why) => error!(folder = %folder.display(), "this version of {name} cannot be used: {why}"),
            }
        }
    }
    Ok(versions)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn entry(folder: &Path, name: &str, hash: &str) -> Result<Entry, String> {
    let text = |path: PathBuf| fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()));
    let manifest = Manifest::parse(&text(folder.join(FILES).join(FILE))?).map_err(|problem| problem.to_string())?;
    if manifest.name != name {
        return Err(format!("its manifest is of {}", manifest.name));
    }
    let pushed = serde_json::from_str(&text(folder.join(PUSHED))?).map_err(|error| format!("{PUSHED}: {error}"))?;
    Ok(Entry { manifest, hash: hash.to_owned(), pushed })
}

/// Writes a version aside and lets it appear.
pub(super) fn keep(root: &Path, package: &Package, pushed: &Pushed) -> Result<(), Failed> {
    let new = root.join(NEW);
    let kept = write(root, &new, package, pushed);
    if kept.is_err() {
        drop(fs::remove_dir_all(&new));
    }
    kept
}

fn write(root: &Path, new: &Path, package: &Package, pushed: &Pushed) -> Result<(), Failed> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    match fs::remove_dir_all(new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err((new.to_owned(), error)),
        _ => {}
    }
    fs::create_dir(new).map_err(at(new))?;
    package.write(&new.join(FILES))?;
    write_pushed(new, pushed)?;
    let function = root.join(&package.manifest().name);
    match fs::create_dir(&function) {
        Ok(()) => sync(root)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err((function, error)),
    }
    let target = function.join(package.hash());
    // What a crash, or a person, left there without being a version that could be read.
    match fs::remove_dir_all(&target) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err((target, error)),
        _ => {}
    }
    fs::rename(new, &target).map_err(at(&target))?;
    sync(&function)
}

/// A version that is there was pushed again.
pub(super) fn mark(root: &Path, name: &str, hash: &str, pushed: &Pushed) -> Result<(), Failed> {
    write_pushed(&root.join(name).join(hash), pushed)
}

fn write_pushed(folder: &Path, pushed: &Pushed) -> Result<(), Failed> {
    let target = folder.join(PUSHED);
    write_json(&target, pushed).map_err(|error| (target, error))
}

fn sync(folder: &Path) -> Result<(), Failed> {
    File::open(folder).and_then(|open| open.sync_all()).map_err(|error| (folder.to_owned(), error))
}

pub(super) fn read(root: &Path, name: &str, hash: &str) -> Result<Package, Failure> {
    let folder = root.join(name).join(hash).join(FILES);
    let damaged = |why: String| {
        let text = format!("{}: {why}; push this version of {name} again", folder.display());
        Failure::new(Class::Host, "function_damaged", text)
    };
    let package = Package::read(&folder).map_err(|problem| damaged(problem.to_string()))?;
    match package.hash() == hash {
        true => Ok(package),
        false => Err(damaged("its files are not those that were pushed".into())),
    }
}

pub(super) fn failure(path: &Path, error: &io::Error) -> Failure {
    let shown = path.display();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            let text = format!("{shown}: the server's disk is full; make room and push again");
            Failure::new(Class::Host, "disk_full", text)
        }
        _ => Failure::new(Class::Host, "function_store_failed", format!("{shown}: {error}")),
    }
}
