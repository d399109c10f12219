//! The folder of a function: its files, bounded and hashed. Nothing in it leads out of it.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::Problem;
use crate::manifest::{FILE, Manifest};

/// Files of one function at most.
pub const FILES_MAX: usize = 10_000;
/// Bytes of all of them at most.
pub const BYTES_MAX: u64 = 64 << 20;
/// Bytes of one path at most.
const PATH_MAX: usize = 512;

/// What is never part of a function, by name.
const LEFT_OUT: [&str; 3] = [".git", "__pycache__", ".DS_Store"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub executable: bool,
    pub bytes: Vec<u8>,
}

/// A function as it is pushed, kept and fetched: checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    manifest: Manifest,
    files: BTreeMap<String, File>,
    hash: String,
}

impl Package {
    /// # Errors
    /// The first problem: a path that leads out, too much of it, no manifest or a bad one, a program that is not there.
    pub fn new(files: BTreeMap<String, File>) -> Result<Package, Problem> {
        if files.len() > FILES_MAX {
            return Err(Problem::new("(folder)", format!("{} files, more than {FILES_MAX}", files.len())));
        }
        let bytes: u64 = files.values().map(|file| file.bytes.len() as u64).sum();
        if bytes > BYTES_MAX {
            return Err(Problem::new(
                "(folder)",
                format!("{bytes} bytes, more than {BYTES_MAX}; large data is an input"),
            ));
        }
        for path in files.keys() {
            check_path(path)?;
            let mut above =
                Path::new(path).ancestors().skip(1).filter_map(Path::to_str).filter(|above| !above.is_empty());
            if let Some(above) = above.find(|above| files.contains_key(*above)) {
                return Err(Problem::new(path, format!("{above} is a file, not a folder")));
            }
        }
        let manifest = files.get(FILE).ok_or_else(|| {
            Problem::new(FILE, "it is missing; `spool function init DIR` writes one to begin with".to_owned())
        })?;
        let text = std::str::from_utf8(&manifest.bytes).map_err(|_| Problem::new(FILE, "it is not UTF-8"))?;
        let manifest = Manifest::parse(text)?;
        check_program(&manifest, &files)?;
        let hash = hash(&files);
        Ok(Package { manifest, files, hash })
    }

    /// Reads a folder. Blocks.
    ///
    /// # Errors
    /// As [`Package::new`], and what cannot be read.
    pub fn read(folder: &Path) -> Result<Package, Problem> {
        let mut reading = Reading { files: BTreeMap::new(), bytes: 0 };
        reading.folder(folder, "")?;
        Package::new(reading.files)
    }

    /// Writes it into a new folder, for everyone to read and nobody to change. Durable when this returns. Blocks.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn write(&self, folder: &Path) -> Result<(), (PathBuf, io::Error)> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| (path, error)
        };
        std::fs::create_dir(folder).map_err(at(folder))?;
        let mut folders = vec![folder.to_owned()];
        for (path, file) in &self.files {
            let target = folder.join(path);
            let parents: Vec<&Path> = target.ancestors().skip(1).take_while(|parent| *parent != folder).collect();
            for parent in parents.into_iter().rev() {
                match std::fs::create_dir(parent) {
                    Ok(()) => folders.push(parent.to_owned()),
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    Err(error) => return Err((parent.to_owned(), error)),
                }
            }
            let mode = if file.executable { 0o755 } else { 0o644 };
            let mut options = std::fs::OpenOptions::new();
            let written = options.write(true).create_new(true).mode(mode).open(&target).and_then(|mut open| {
                open.write_all(&file.bytes)?;
                open.sync_all()
            });
            written.map_err(at(&target))?;
        }
        for folder in folders.iter().rev() {
            std::fs::File::open(folder).and_then(|open| open.sync_all()).map_err(at(folder))?;
        }
        Ok(())
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// By path, relative to the folder.
    pub fn files(&self) -> &BTreeMap<String, File> {
        &self.files
    }

    pub fn into_files(self) -> BTreeMap<String, File> {
        self.files
    }

    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes.len() as u64).sum()
    }

    /// BLAKE3 of paths, modes and contents, hex: the version.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

/// Whether it may be the hash of a version.
pub fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn check_path(path: &str) -> Result<(), Problem> {
    let bad = |what: &str| Err(Problem::new(path.escape_debug().to_string(), what));
    if path.is_empty() || path.len() > PATH_MAX {
        return bad("a path has between 1 and 512 bytes");
    }
    if path.starts_with('/') {
        return bad("it is absolute; paths are relative to the function's folder");
    }
    if path.split('/').any(|part| part == "..") {
        return bad("it leads out of the function's folder");
    }
    if path.split('/').any(|part| matches!(part, "" | ".")) {
        return bad("it is not written plainly: no //, no ./");
    }
    if path.split('/').any(|part| part.len() > 255) || path.chars().any(char::is_control) {
        return bad("a name in it is too long, or holds control characters");
    }
    Ok(())
}

/// A program in the folder is there and can be started.
fn check_program(manifest: &Manifest, files: &BTreeMap<String, File>) -> Result<(), Problem> {
    let Some(program) = manifest.command.first().filter(|program| program.contains('/') && !program.starts_with('/'))
    else {
        return Ok(());
    };
    let plain: Vec<&str> = program.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let at = format!("{FILE}: command");
    match files.get(&plain.join("/")) {
        None => Err(Problem::new(at, format!("there is no file {program} in the function's folder"))),
        Some(file) if !file.executable => {
            Err(Problem::new(at, format!("{program} is not executable: chmod +x {program}")))
        }
        Some(_) => Ok(()),
    }
}

fn hash(files: &BTreeMap<String, File>) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("spool 2026-11-27 the files of a function");
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for (path, file) in files {
        part(path.as_bytes());
        part(&[u8::from(file.executable)]);
        part(&file.bytes);
    }
    hasher.finalize().to_hex().to_string()
}

struct Reading {
    files: BTreeMap<String, File>,
    bytes: u64,
}

impl Reading {
    fn folder(&mut self, folder: &Path, prefix: &str) -> Result<(), Problem> {
        let shown = || if prefix.is_empty() { folder.display().to_string() } else { prefix.to_owned() };
        let failed = |error: io::Error| Problem::new(shown(), error.to_string());
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else {
                return Err(Problem::new(entry.path().display().to_string(), "its name is not UTF-8"));
            };
            if LEFT_OUT.contains(&name.as_str()) {
                continue;
            }
            let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            let failed = |error: io::Error| Problem::new(&path, error.to_string());
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                check_path(&path)?;
                self.folder(&entry.path(), &path)?;
            } else if kind.is_file() {
                self.file(&entry.path(), &path).map_err(failed)??;
            } else {
                let what =
                    if kind.is_symlink() { "it is a link; a function holds files alone" } else { "it is no file" };
                return Err(Problem::new(path, what));
            }
        }
        Ok(())
    }

    fn file(&mut self, at: &Path, path: &str) -> io::Result<Result<(), Problem>> {
        let open = std::fs::File::open(at)?;
        let executable = open.metadata()?.permissions().mode() & 0o111 != 0;
        let mut bytes = Vec::new();
        open.take((BYTES_MAX + 1).saturating_sub(self.bytes)).read_to_end(&mut bytes)?;
        self.bytes += bytes.len() as u64;
        if self.bytes > BYTES_MAX || self.files.len() >= FILES_MAX {
            let what = format!(
                "with it the folder has more than {FILES_MAX} files or {BYTES_MAX} bytes; large data is an input"
            );
            return Ok(Err(Problem::new(path, what)));
        }
        self.files.insert(path.to_owned(), File { executable, bytes });
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests;
