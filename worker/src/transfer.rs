//! Inputs opened and outputs stored, by URI.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use spool_proto::call::{Args, Artifact, Call, Pairing};
use spool_proto::failure::{Class, Failure};
use spool_proto::ids::Fence;
use spool_proto::uri::{self, Location};
use tokio::io::AsyncWriteExt;

use crate::executor::{Produced, Unanswered};
use crate::stores::{Remote, Stores};

const DISK_FULL: &str = "disk_full";

/// An executor that ran out of disk does not know where it is: says which directory it was given.
pub fn with_directory(failure: Failure, scratch: &Path) -> Failure {
    if failure.code != DISK_FULL {
        return failure;
    }
    let told = if failure.evidence.is_empty() { failure.message } else { failure.evidence };
    disk_full(scratch).with_evidence(told)
}

/// Bytes read or copied between two signs of life.
pub const STEP: usize = 4 << 20;

/// Whose a file is, and so whose fault it is when it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    User,
    Spool,
}

/// An input of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    pub uri: String,
    pub owner: Owner,
    /// What it must still be: [`Call::source_version`].
    pub version: Option<String>,
}

/// An input, open.
#[derive(Debug)]
pub enum Opened {
    /// A file of this machine.
    Local {
        file: File,
        bytes: u64,
    },
    Remote(Box<Remote>),
}

impl Input {
    /// The inputs of a call, in order.
    pub fn of(call: &Call) -> Vec<Input> {
        // What the joined film is made of or checked against is Spool's own; before, the first input is the user's source.
        let from_users = match &call.args {
            Args::Plan(args) => 1 + args.joined.len(),
            Args::Audio(args) => 1 + args.joined.len(),
            Args::Probe(_) | Args::Scenes(_) | Args::Encode(_) | Args::Analyse(_) | Args::Trial(_) => 1,
            Args::Subtitle(_) | Args::Text(_) | Args::Images(_) | Args::Assemble(_) => 1,
            Args::Quality(args) => match args.pairing {
                Pairing::Number { .. } => 2,
                Pairing::Chunk { .. } => 1,
            },
            Args::Noop { .. } | Args::Validate(_) | Args::Index(_) | Args::Publish(_) | Args::QualityReport(_) => 0,
            Args::Segment(_) | Args::Manifest(_) | Args::PublishPackage(_) | Args::List(_) => 0,
            Args::User(args) => args.files.len(),
        };
        let owner = |index| if index < from_users { Owner::User } else { Owner::Spool };
        let version = |at| call.source_version.clone().filter(|_| at == 0 && from_users > 0);
        let input = |(at, uri): (usize, &String)| Input { uri: uri.clone(), owner: owner(at), version: version(at) };
        call.inputs.iter().enumerate().map(input).collect()
    }

    /// Opens it for reading.
    ///
    /// # Errors
    /// As [`Input::open_file`], and as [`Stores::open`].
    pub async fn open(&self, stores: &Stores) -> Result<Opened, Failure> {
        let Some(path) = stores.path(&self.uri).await? else {
            let remote = stores.open(&self.uri, self.version.as_deref()).await?;
            return Ok(Opened::Remote(Box::new(remote)));
        };
        let input = Input { uri: uri::from_path(&path), ..self.clone() };
        let (file, bytes) = crate::blocking(move || input.open_file()).await?;
        Ok(Opened::Local { file, bytes })
    }

    /// Opens a regular file of this machine for reading; also its bytes. Blocks.
    ///
    /// # Errors
    /// `unsupported_scheme`, `bad_uri` (spec); `source_missing`, `source_unreadable` (input) for the user's files;
    /// `artifact_missing`, `artifact_unreadable` (host) for Spool's own.
    pub fn open_file(&self) -> Result<(File, u64), Failure> {
        let path = path_of(&self.uri)?;
        let refused = |error: &dyn std::fmt::Display, missing: bool| self.refused(&path, error, missing);
        // Not blocking: opening a pipe for reading would wait for a writer.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("O_NONBLOCK is a small flag");
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&path);
        let file = file.map_err(|e| refused(&e, matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)))?;
        let metadata = file.metadata().map_err(|e| refused(&e, false))?;
        if !metadata.is_file() {
            return Err(refused(&"it is not a regular file", false));
        }
        Ok((file, metadata.len()))
    }

    fn refused(&self, path: &Path, error: &dyn std::fmt::Display, missing: bool) -> Failure {
        let path = path.display();
        match (self.owner, missing) {
            (Owner::User, true) => Failure::new(
                Class::Input,
                "source_missing",
                format!("source {path} does not exist; check the path, and that this worker's machine has it"),
            ),
            (Owner::User, false) => Failure::new(
                Class::Input,
                "source_unreadable",
                format!("source {path} cannot be read: {error}; check its permissions and that it is a file"),
            ),
            (Owner::Spool, true) => Failure::new(
                Class::Host,
                "artifact_missing",
                format!(
                    "{path}, an intermediate file of the job, is gone; do not clean the data directory of a job at work"
                ),
            ),
            (Owner::Spool, false) => Failure::new(
                Class::Host,
                "artifact_unreadable",
                format!("{path}, an intermediate file of the job, cannot be read: {error}"),
            ),
        }
    }
}

/// The local path a URI names.
///
/// # Errors
/// Class `spec`: `unsupported_scheme`, `bad_uri`.
pub fn path_of(uri: &str) -> Result<PathBuf, Failure> {
    Ok(uri::to_path(uri)?)
}

/// Stores a file of scratch as `<prefix><stem>.f<fence>.<extension>`, so that a late copy of the same task never touches a good one.
///
/// # Errors
/// As [`store_file`], and as [`Stores::upload`].
pub async fn store(
    produced: Produced,
    prefix: &str,
    fence: Fence,
    stores: &Stores,
    stop: impl Future<Output = ()>,
) -> Result<Artifact, Unanswered> {
    let Some(directory) = stores.path(prefix).await? else {
        let Location::Spool { job, .. } = Location::parse(prefix).map_err(Failure::from)? else {
            let text = format!("pieces cannot be stored under {prefix}");
            return Err(Failure::new(Class::Internal, "bad_call", text).into());
        };
        let name = produced.name.clone();
        let (path, hash, bytes) = crate::blocking(move || hash_produced(&produced)).await?;
        // However long that takes.
        let stored = tokio::select! {
            stored = stores.upload(job, fence, &path, bytes) => stored?,
            () = stop => return Err(Unanswered::Stopped),
        };
        return Ok(Artifact { name, uri: format!("{prefix}{stored}"), bytes, hash });
    };
    let prefix = prefix.to_owned();
    Ok(crate::blocking(move || store_file(&produced, &directory, &prefix, fence)).await?)
}

/// Copies an input that is no file of this machine into a new file.
///
/// # Errors
/// As [`Stores::open`]; `disk_full`, `store_failed` (host).
pub async fn fetch(input: &Input, stores: &Stores, to: &Path) -> Result<(), Failure> {
    fetch_at_most(input, stores, to, u64::MAX).await.map(drop)
}

/// As [`fetch`], of no more than so many bytes. Answers how many there were.
///
/// # Errors
/// And `input_too_large` (spec).
pub async fn fetch_at_most(input: &Input, stores: &Stores, to: &Path, most: u64) -> Result<u64, Failure> {
    let mut remote = stores.open(&input.uri, input.version.as_deref()).await?;
    if remote.bytes() > most {
        let text = format!(
            "{} has {} bytes, and there is room for {most} (resources.scratch in the function's manifest)",
            uri::shown(&input.uri),
            remote.bytes()
        );
        return Err(Failure::new(Class::Spec, "input_too_large", text));
    }
    let failed = |error: &io::Error| write_failure(error, to.parent().unwrap_or(Path::new("/")), "store_failed");
    let mut file = tokio::fs::File::create(to).await.map_err(|error| failed(&error))?;
    let mut position = 0;
    while position < remote.bytes() {
        let bytes = remote.read(position, STEP as u64).await?;
        file.write_all(&bytes).await.map_err(|error| failed(&error))?;
        position += bytes.len() as u64;
    }
    file.flush().await.map_err(|error| failed(&error))?;
    Ok(position)
}

/// A file that a call left, read once: its path, BLAKE3 in hex, bytes.
fn hash_produced(produced: &Produced) -> Result<(PathBuf, String, u64), Failure> {
    let (mut file, lost) = open_produced(produced)?;
    let (hash, bytes) = hash(&mut file, &mut |_| true).map_err(|error| lost(&error))?;
    Ok((produced.path.clone(), hash, bytes))
}

/// Moves a file out of scratch into `directory`, which `prefix` names. What it answers survives a power cut. Never makes the
/// directory: the server made it, and when it is gone the job is over. Blocks.
///
/// # Errors
/// Class `host`: `disk_full`, `artifact_directory_gone`, `store_failed`; class `internal`: `output_missing`.
fn store_file(produced: &Produced, directory: &Path, prefix: &str, fence: Fence) -> Result<Artifact, Failure> {
    let (mut file, lost) = open_produced(produced)?;
    let (hash, bytes) = hash(&mut file, &mut |_| true).map_err(|error| lost(&error))?;
    let name = fenced_name(&produced.path, fence);
    let target = directory.join(&name);
    let stored = file.sync_all().and_then(|()| place(&produced.path, &target)).and_then(|()| sync_directory(directory));
    stored.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::new(
            Class::Host,
            "artifact_directory_gone",
            format!("{} is gone: the job is over, or somebody cleaned the data directory", directory.display()),
        ),
        _ => write_failure(&error, directory, "store_failed"),
    })?;
    let uri = match uri::is_file(prefix) {
        true => uri::from_path(&target),
        false => format!("{prefix}{}", name.display()),
    };
    Ok(Artifact { name: produced.name.clone(), uri, bytes, hash })
}

/// A regular file, no link: an executor is not trusted. And how to say that it is not.
fn open_produced(produced: &Produced) -> Result<(File, impl Fn(&dyn std::fmt::Display) -> Failure), Failure> {
    let name = produced.name.clone();
    let lost = move |error: &dyn std::fmt::Display| {
        let text = format!("the call named an output {name:?} that cannot be read: {error}");
        Failure::new(Class::Internal, "output_missing", text)
    };
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).expect("small flags");
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&produced.path).map_err(|error| lost(&error))?;
    if !file.metadata().map_err(|error| lost(&error))?.is_file() {
        return Err(lost(&"it is not a regular file"));
    }
    Ok((file, lost))
}

fn fenced_name(path: &Path, fence: Fence) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".f{}", fence.0));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    name.into()
}

/// Renames; across file systems copies beside the target first.
fn place(from: &Path, target: &Path) -> io::Result<()> {
    match std::fs::rename(from, target) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {}
        other => return other,
    }
    let mut part = target.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let copied = copy(from, &part, &mut |_| true).and_then(|()| std::fs::rename(&part, target));
    if copied.is_err() {
        drop(std::fs::remove_file(&part));
    }
    copied
}

/// Copies to a new or truncated file and makes it durable. `step` is told the bytes so far and may stop it
/// (`Interrupted`).
pub fn copy(from: &Path, to: &Path, step: &mut dyn FnMut(u64) -> bool) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = File::create(to)?;
    let mut copied = 0;
    loop {
        // `io::copy` lets the kernel do it, without a round through this process.
        match io::copy(&mut (&mut source).take(STEP as u64), &mut target)? {
            0 => return target.sync_all(),
            some => copied += some,
        }
        if !step(copied) {
            return Err(ErrorKind::Interrupted.into());
        }
    }
}

/// BLAKE3 of the rest of a file, in hex, and its bytes. `step` as in [`copy`].
pub fn hash(file: &mut File, step: &mut dyn FnMut(u64) -> bool) -> io::Result<(String, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finalize().to_hex().to_string(), bytes)),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..read]);
        bytes += u64::try_from(read).expect("a buffer's length fits u64");
        if !step(bytes) {
            return Err(ErrorKind::Interrupted.into());
        }
    }
}

/// Makes names in a directory durable.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// What a write to `directory` failed on: `disk_full` with the room left, or `code`. Class `host`.
pub fn write_failure(error: &io::Error, directory: &Path, code: &str) -> Failure {
    let shown = directory.display();
    if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        return disk_full(directory);
    }
    Failure::new(Class::Host, code, format!("{shown}: {error}"))
}

/// There is no room left below `directory`.
pub fn disk_full(directory: &Path) -> Failure {
    let free = free_bytes(directory).map_or_else(|_| "?".to_owned(), |free| free.to_string());
    let text = format!("{}: the disk is full ({free} bytes free); make room and retry the job", directory.display());
    Failure::new(Class::Host, DISK_FULL, text)
}

/// Bytes a file system still takes from this user.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(directory)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(path: &Path, owner: Owner) -> Input {
        Input { uri: uri::from_path(path), owner, version: None }
    }

    #[test]
    fn a_refused_input_says_whose_fault_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("no");
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        let cases = [
            (&missing, Owner::User, Class::Input, "source_missing"),
            (&missing, Owner::Spool, Class::Host, "artifact_missing"),
            (&fifo, Owner::User, Class::Input, "source_unreadable"),
            (&dir.path().to_owned(), Owner::Spool, Class::Host, "artifact_unreadable"),
        ];
        for (path, owner, class, code) in cases {
            let failure = input(path, owner).open_file().unwrap_err();
            assert_eq!((failure.class, failure.code.as_str()), (class, code));
            assert!(failure.message.contains(path.to_str().unwrap()), "{failure}");
        }
        let s3 = Input { uri: "s3://bucket/film.mov".into(), owner: Owner::User, version: None };
        let failure = s3.open_file().unwrap_err();
        assert_eq!((failure.class, failure.code.as_str()), (Class::Spec, "unsupported_scheme"));
        assert!(failure.message.contains("\"s3\""), "{failure}");
    }

    #[test]
    fn outputs_are_stored_under_their_fence() {
        let dir = tempfile::tempdir().unwrap();
        let (scratch, store_dir) = (dir.path().join("scratch"), dir.path().join("j1"));
        std::fs::create_dir(&scratch).unwrap();
        let produced = Produced { name: "chunk".into(), path: scratch.join("chunk.piece") };
        std::fs::write(&produced.path, b"abc").unwrap();
        let prefix = uri::prefix_from_path(&store_dir);
        let failure = store_file(&produced, &store_dir, &prefix, Fence(7)).unwrap_err();
        assert_eq!((failure.class, failure.code.as_str()), (Class::Host, "artifact_directory_gone"));
        assert!(!store_dir.exists());
        std::fs::create_dir(&store_dir).unwrap();
        let artifact = store_file(&produced, &store_dir, &prefix, Fence(7)).unwrap();
        let stored = store_dir.join("chunk.f7.piece");
        let expected = Artifact {
            name: "chunk".into(),
            uri: uri::from_path(&stored),
            bytes: 3,
            hash: blake3::hash(b"abc").to_hex().to_string(),
        };
        assert_eq!(artifact, expected);
        assert_eq!(std::fs::read(stored).unwrap(), b"abc");
        assert!(!produced.path.exists());
        assert_eq!(store_file(&produced, &store_dir, &prefix, Fence(8)).unwrap_err().code, "output_missing");
    }

    #[test]
    fn a_link_out_of_scratch_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("track.piece");
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        let prefix = uri::prefix_from_path(dir.path());
        let failure = store_file(&Produced { name: "track".into(), path }, dir.path(), &prefix, Fence(1)).unwrap_err();
        assert_eq!(failure.code, "output_missing");
    }

    #[test]
    fn a_full_disk_is_named_with_its_room() {
        let failure = write_failure(&ErrorKind::StorageFull.into(), Path::new("/tmp"), "store_failed");
        assert_eq!((failure.class, failure.code.as_str()), (Class::Host, "disk_full"));
        assert!(failure.message.starts_with("/tmp: ") && failure.message.contains("bytes free"), "{failure}");
    }
}
