//! `spool.publish_package`: tracks are cut into their files and, with the playlists, put into a folder that appears as a whole, or
//! into a store, where what others refer to comes first. A package that goes on grows file by file, in a folder as in a store.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use spool_proto::call::{PackageEntry, PublishPackageArgs, Replaced, Value};
use spool_proto::failure::{Class, Failure};
use spool_proto::package::{SegmentTable, file};
use spool_proto::spec::title::Package;
use spool_proto::uri;

use super::{Alive, Content, From, Target, stopped};
use crate::executor::Unanswered;
use crate::stores::Stores;
use crate::transfer::{self, Input};

/// Publishes a package. A retry after a lost answer finds its own work done and succeeds. Answers also its bytes. Blocks.
///
/// # Errors
/// `output_exists`, `output_unwritable` (spec), `film_changed`, `artifact_malformed`, `bad_call` (internal), `disk_full`,
/// `output_changed` (spec), `publish_failed` (host), `output_unreachable` (transient), and those of [`Input::open_file`].
pub fn publish(
    args: &PublishPackageArgs,
    inputs: &[Input],
    stores: &Stores,
    alive: Alive<'_>,
) -> Result<(Value, u64), Unanswered> {
    let files = files(&args.entries, inputs)?;
    let bytes = files.iter().map(|file| file.bytes).sum();
    if uri::is_file(&args.output) && args.replaces.is_empty() {
        let folder = Folder::new(&transfer::path_of(&args.output)?, args.overwrite)?;
        if !folder.holds(&files, alive)? {
            check(&args.entries, inputs, alive)?;
            folder.put(&files, alive)?;
        }
    } else {
        check(&args.entries, inputs, alive)?;
        put_each(args, &files, stores, alive)?;
    }
    Ok((Value::Published { uri: args.output.clone(), bytes }, bytes))
}

/// Puts every file where it goes, one by one. What is there already from a try before is left as it is.
fn put_each(args: &PublishPackageArgs, files: &[Part], stores: &Stores, alive: Alive<'_>) -> Result<(), Unanswered> {
    // What a package that goes on holds is its job's own.
    let overwrite = args.overwrite || !args.replaces.is_empty();
    let target = |path: &str, overwrite| Target::new(&format!("{}{path}", args.output), overwrite, stores);
    // What players are pointed at tells whether another package is there, before any of it is touched.
    let is_entry = |file: &&Part| Package::ALL.iter().any(|package| package.entry() == file.path);
    for file in files.iter().filter(is_entry) {
        let content = read(file)?;
        match args.replaces.get(&file.path) {
            None => drop(target(&file.path, overwrite)?.holds(&content.content(), alive)?),
            Some(replaced) => goes_on(&target(&file.path, false)?, &content.content(), replaced, file, args, alive)?,
        }
    }
    let mut done = 0;
    for file in files {
        let (target, bytes) = (target(&file.path, overwrite)?, read(file)?);
        let content = bytes.content();
        if !target.holds(&content, alive)? {
            if let Target::File(_) = target {
                make_folder(args, &file.path)?;
            }
            target.put(&content, alive)?;
        }
        done += file.bytes;
        if !alive(done) {
            return Err(Unanswered::Stopped);
        }
    }
    Ok(())
}

/// Whether what is there is what the call before put there, or what this one did when it was tried before.
fn goes_on(
    target: &Target,
    new: &Content<'_>,
    Replaced { bytes, hash }: &Replaced,
    file: &Part,
    args: &PublishPackageArgs,
    alive: Alive<'_>,
) -> Result<(), Unanswered> {
    let old = Content { from: From::Memory(&[]), bytes: *bytes, hash: hash.clone() };
    let mut holds = |content: &Content<'_>| match target.holds(content, alive) {
        Err(Unanswered::Failed(failure)) if failure.code == "output_exists" => Ok(false),
        other => other,
    };
    if holds(&old)? || holds(new)? {
        return Ok(());
    }
    let text = format!(
        "output {} has another {} than this job put there, or none: it is left alone; name another folder",
        uri::shown(&args.output),
        file.path
    );
    Err(Failure::new(Class::Spec, "output_changed", text).into())
}

/// The folder of a file of a package that grows.
fn make_folder(args: &PublishPackageArgs, path: &str) -> Result<(), Failure> {
    let package = transfer::path_of(&args.output)?;
    let Some(folder) = package.join(path).parent().map(Path::to_owned) else { return Ok(()) };
    fs::create_dir_all(&folder).map_err(|error| transfer::write_failure(&error, &package, "publish_failed"))
}

/// A file's bytes. A segment is some megabytes at most.
struct Bytes(Vec<u8>);

impl Bytes {
    fn content(&self) -> Content<'_> {
        let hash = blake3::hash(&self.0).to_hex().to_string();
        Content { from: From::Memory(&self.0), bytes: self.0.len() as u64, hash }
    }
}

fn read(file: &Part) -> Result<Bytes, Unanswered> {
    let mut bytes = Vec::new();
    let read = File::open(&file.from).and_then(|mut from| {
        from.seek(SeekFrom::Start(file.offset))?;
        from.take(file.bytes).read_to_end(&mut bytes)
    });
    read.map_err(|error| stopped(&error, &file.from))?;
    Ok(Bytes(bytes))
}

/// One file of the package: a range of an artifact.
struct Part {
    /// Within the package.
    path: String,
    from: PathBuf,
    offset: u64,
    bytes: u64,
}

fn bad_call(why: String) -> Failure {
    Failure::new(Class::Internal, "bad_call", why)
}

fn input(inputs: &[Input], index: usize) -> Result<&Input, Failure> {
    inputs.get(index).ok_or_else(|| bad_call(format!("a package of input {index}, and there are {}", inputs.len())))
}

/// Every file, in the order of the entries.
fn files(entries: &[PackageEntry], inputs: &[Input]) -> Result<Vec<Part>, Failure> {
    let mut parts = Vec::new();
    for entry in entries {
        match entry {
            PackageEntry::File { path, input: index, .. } => {
                let input = input(inputs, *index)?;
                let from = transfer::path_of(&input.uri)?;
                parts.push(Part { path: within(path)?, from, offset: 0, bytes: input.open_file()?.1 });
            }
            PackageEntry::Track { folder, track, table, from: first, until, .. } => {
                let folder = within(folder)?;
                let table = input(inputs, *table)?;
                let table: SegmentTable = serde_json::from_reader(table.open_file()?.0).map_err(|error| {
                    let why = format!("the segment table of {folder} cannot be read: {error}");
                    Failure::new(Class::Internal, "artifact_malformed", why)
                })?;
                let track = input(inputs, *track)?;
                let (from, length) = (transfer::path_of(&track.uri)?, track.open_file()?.1);
                let part = |name: String, offset: u64, bytes: u64| {
                    let offset = offset.checked_sub(table.file_offset);
                    let within = offset.filter(|at| at.checked_add(bytes).is_some_and(|end| end <= length));
                    let offset = within.ok_or_else(|| {
                        let why = format!("the segment table of {folder} reaches beyond its track of {length} bytes");
                        Failure::new(Class::Internal, "artifact_malformed", why)
                    })?;
                    Ok::<Part, Failure>(Part { path: format!("{folder}/{name}"), from: from.clone(), offset, bytes })
                };
                if *first == 0 {
                    parts.push(part(file::HEADER.into(), 0, table.header_bytes)?);
                }
                let segments = (1..).zip(&table.segments).take(until.unwrap_or(usize::MAX)).skip(*first);
                for (number, segment) in segments {
                    parts.push(part(file::segment(number), segment.offset, segment.bytes)?);
                }
            }
        }
    }
    Ok(parts)
}

/// A path that stays within the package.
fn within(path: &str) -> Result<String, Failure> {
    let plain = |name: &str| !name.is_empty() && name != "." && name != ".." && !name.contains('\0');
    if path.split('/').all(plain) {
        return Ok(path.to_owned());
    }
    Err(bad_call(format!("{path:?} is no path within a package")))
}

/// What is published is what was checked.
fn check(entries: &[PackageEntry], inputs: &[Input], alive: Alive<'_>) -> Result<(), Unanswered> {
    for entry in entries {
        let (PackageEntry::File { input: index, hash, .. } | PackageEntry::Track { track: index, hash, .. }) = entry;
        let input = input(inputs, *index)?;
        let path = transfer::path_of(&input.uri)?;
        let (mut file, _) = input.open_file()?;
        let (found, _) = transfer::hash(&mut file, alive).map_err(|error| stopped(&error, &path))?;
        if found != *hash {
            let text = format!("{} is not what was checked: its hash is {found}", path.display());
            return Err(Failure::new(Class::Internal, "film_changed", text).into());
        }
    }
    Ok(())
}

/// A folder of this machine.
struct Folder {
    path: PathBuf,
    directory: PathBuf,
    /// Beside the target, always of the same name: what a killed one left goes with the next.
    part: PathBuf,
    overwrite: bool,
}

impl Folder {
    fn new(path: &Path, overwrite: bool) -> Result<Folder, Failure> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            let text = format!("output {} is not a folder in a directory; name one", path.display());
            return Err(Failure::new(Class::Spec, "output_unwritable", text));
        };
        let mut part = OsString::from(".");
        part.push(name);
        part.push(".spool-part");
        Ok(Folder { directory: directory.to_owned(), part: directory.join(part), path: path.to_owned(), overwrite })
    }

    /// Whether exactly this is there already. What else is there is an error, unless it is empty, or a package and may be
    /// overwritten: never is somebody's folder taken away because it had the name.
    fn holds(&self, files: &[Part], alive: Alive<'_>) -> Result<bool, Unanswered> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(self.refused(&error).into()),
            Ok(metadata) if !metadata.is_dir() => {
                let text = format!("output {} is a file; a package is a folder", self.path.display());
                return Err(Failure::new(Class::Spec, "output_unwritable", text).into());
            }
            Ok(_) => {}
        }
        let mut entries = fs::read_dir(&self.path).map_err(|error| self.refused(&error))?;
        if entries.next().is_none() {
            return Ok(false);
        }
        let mut done = 0;
        let mut same = true;
        for file in files {
            same = same && same_bytes(file, &self.path.join(&file.path)).map_err(|error| self.refused(&error))?;
            done += file.bytes;
            if !alive(done) {
                return Err(Unanswered::Stopped);
            }
        }
        if same {
            return Ok(true);
        }
        let is_package = Package::ALL.iter().any(|package| self.path.join(package.entry()).is_file());
        if self.overwrite && is_package { Ok(false) } else { Err(self.exists(is_package).into()) }
    }

    fn exists(&self, is_package: bool) -> Failure {
        let path = self.path.display();
        let text = match is_package {
            true => format!("output {path} holds another package; overwrite it, or name another folder"),
            false => format!("output {path} holds other files, which are not touched; name another folder"),
        };
        Failure::new(Class::Spec, "output_exists", text)
    }

    /// Makes the folder beside the target, then gives it its name.
    fn put(&self, files: &[Part], alive: Alive<'_>) -> Result<(), Unanswered> {
        let made = self.make(files, alive).and_then(|()| self.name());
        made.map_err(|error| {
            drop(fs::remove_dir_all(&self.part));
            match error.kind() {
                ErrorKind::Interrupted => Unanswered::Stopped,
                ErrorKind::AlreadyExists => self.exists(false).into(),
                _ => self.refused(&error).into(),
            }
        })
    }

    fn make(&self, files: &[Part], alive: Alive<'_>) -> io::Result<()> {
        match fs::remove_dir_all(&self.part) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir(&self.part)?;
        let mut done = 0;
        for file in files {
            let to = self.part.join(&file.path);
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
            }
            copy_range(file, &to)?;
            done += file.bytes;
            if !alive(done) {
                return Err(ErrorKind::Interrupted.into());
            }
        }
        // One for all: a package may have tens of thousands of files.
        rustix::fs::syncfs(File::open(&self.part)?)?;
        Ok(())
    }

    fn name(&self) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, &self.part, CWD, &self.path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => self.replace()?,
            // The file system does not know the flag. A folder takes no other's place unless that is empty.
            Err(rustix::io::Errno::INVAL) => fs::rename(&self.part, &self.path)?,
            Err(error) => return Err(error.into()),
        }
        transfer::sync_directory(&self.directory)
    }

    /// What is there was judged by [`Folder::holds`]: it is empty, or a package that may go.
    fn replace(&self) -> io::Result<()> {
        if fs::read_dir(&self.path)?.next().is_none() {
            return fs::rename(&self.part, &self.path);
        }
        match rustix::fs::renameat_with(CWD, &self.part, CWD, &self.path, RenameFlags::EXCHANGE) {
            Ok(()) => fs::remove_dir_all(&self.part),
            Err(rustix::io::Errno::INVAL) => {
                fs::remove_dir_all(&self.path)?;
                fs::rename(&self.part, &self.path)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn refused(&self, error: &io::Error) -> Failure {
        match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::InvalidFilename => {
                let text = format!(
                    "output {} cannot be written: {error}; the directory above it must exist and allow this user to write",
                    self.path.display()
                );
                Failure::new(Class::Spec, "output_unwritable", text)
            }
            _ => transfer::write_failure(error, &self.directory, "publish_failed"),
        }
    }
}

fn copy_range(file: &Part, to: &Path) -> io::Result<()> {
    let mut from = File::open(&file.from)?;
    from.seek(SeekFrom::Start(file.offset))?;
    let mut to = File::create(to)?;
    if io::copy(&mut from.take(file.bytes), &mut to)? == file.bytes {
        return to.flush();
    }
    Err(io::Error::new(ErrorKind::UnexpectedEof, format!("{} ends early", file.from.display())))
}

fn same_bytes(file: &Part, there: &Path) -> io::Result<bool> {
    let mut there = match File::open(there) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(false),
        other => other?,
    };
    if there.metadata()?.len() != file.bytes {
        return Ok(false);
    }
    let mut from = File::open(&file.from)?;
    from.seek(SeekFrom::Start(file.offset))?;
    let mut from = from.take(file.bytes);
    let (mut ours, mut theirs) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let read = from.read(&mut ours)?;
        if read == 0 {
            return Ok(true);
        }
        there.read_exact(&mut theirs[..read])?;
        if ours[..read] != theirs[..read] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests;
