//! `spool.publish`: the validated film is put where the user asked, whole or not at all.

pub mod package;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use spool_proto::call::{Args, Call, PublishArgs, Value};
use spool_proto::failure::{Class, Failure};

use crate::executor::Unanswered;
use crate::transfer::{self, Input};

/// Runs a call that publishes.
///
/// # Errors
/// `bad_call` (internal) where it is none, and those of [`publish`] and [`package::publish`].
pub fn run(call: &Call, alive: &mut dyn FnMut(u64) -> bool) -> Result<(Value, u64), Unanswered> {
    let inputs = Input::of(call);
    match (&call.args, inputs.as_slice()) {
        (Args::Publish(args), inputs) if inputs.len() == 1 + args.beside.len() => publish(args, inputs, alive),
        (Args::PublishPackage(args), inputs) => package::publish(args, inputs, alive),
        (args, inputs) => {
            let text = format!("{} with {} inputs publishes nothing", args.function(), inputs.len());
            Err(Failure::new(Class::Internal, "bad_call", text).into())
        }
    }
}

/// Publishes the first input, the film, and the others beside it. `alive` is told the bytes done so far and answers whether to go on. A retry after a lost answer finds
/// its own work done and succeeds. Answers also the film's bytes. Blocks.
///
/// # Errors
/// `output_exists`, `output_unwritable` (spec), `film_changed` (internal), `disk_full`, `publish_failed` (host), and those of
/// [`Input::open`].
pub fn publish(
    args: &PublishArgs,
    inputs: &[Input],
    alive: &mut dyn FnMut(u64) -> bool,
) -> Result<(Value, u64), Unanswered> {
    let Some((film, others)) = inputs.split_first() else {
        return Err(Failure::new(Class::Internal, "bad_call", "a publish of nothing").into());
    };
    let output = Target::new(&args.output, args.overwrite)?;
    let mut opening = film.open()?;
    let film_path = transfer::path_of(&film.uri)?;
    let bytes = opening.bytes;
    let (hash, _) = transfer::hash(&mut opening.file, alive).map_err(|error| stopped(&error, &film_path))?;
    if hash != args.hash {
        let text = format!("{} is not the film that was checked: its hash is {hash}", film_path.display());
        return Err(Failure::new(Class::Internal, "film_changed", text).into());
    }
    let index = match &args.index {
        Some((uri, table)) => {
            let mut json = serde_json::to_vec_pretty(table)
                .map_err(|e| Failure::new(Class::Internal, "publish_failed", format!("keyframe table: {e}")))?;
            json.push(b'\n');
            Some((Target::new(uri, args.overwrite)?, json))
        }
        None => None,
    };
    // All are looked at before any is touched, and the film, which says that all is done, comes last.
    let film_there = output.holds(bytes, &hash, alive)?;
    let mut missing = Vec::new();
    for (uri, input) in args.beside.iter().zip(others) {
        let (target, path) = (Target::new(uri, args.overwrite)?, transfer::path_of(&input.uri)?);
        let mut opening = input.open()?;
        let (hash, _) = transfer::hash(&mut opening.file, alive).map_err(|error| stopped(&error, &path))?;
        if !target.holds(opening.bytes, &hash, alive)? {
            missing.push((target, path));
        }
    }
    if let Some((target, json)) = &index {
        let hash = blake3::hash(json).to_hex().to_string();
        if !target.holds(json.len() as u64, &hash, alive)? {
            target.put(&mut |part| {
                let mut file = File::create(part)?;
                file.write_all(json)?;
                file.sync_all()
            })?;
        }
    }
    for (target, path) in missing {
        target.put(&mut |part| link_or_copy(&path, part, alive))?;
    }
    if !film_there {
        output.put(&mut |part| link_or_copy(&film_path, part, alive))?;
    }
    Ok((Value::Published { uri: args.output.clone(), bytes }, bytes))
}

struct Target {
    path: PathBuf,
    directory: PathBuf,
    /// Beside the target, always of the same name: a retry takes up what a killed one left.
    part: PathBuf,
    overwrite: bool,
}

impl Target {
    fn new(uri: &str, overwrite: bool) -> Result<Target, Failure> {
        let path = transfer::path_of(uri)?;
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            let text = format!("output {} is not a file in a directory; name a file", path.display());
            return Err(Failure::new(Class::Spec, "output_unwritable", text));
        };
        let mut part = OsString::from(".");
        part.push(name);
        part.push(".spool-part");
        Ok(Target { directory: directory.to_owned(), part: directory.join(part), path, overwrite })
    }

    /// Whether exactly this is there already. What else is there is an error, unless it may be overwritten.
    fn holds(&self, bytes: u64, hash: &str, alive: &mut dyn FnMut(u64) -> bool) -> Result<bool, Unanswered> {
        match std::fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(self.refused(&error).into()),
            Ok(metadata) if metadata.is_dir() => {
                let text = format!("output {} is a directory; name a file", self.path.display());
                return Err(Failure::new(Class::Spec, "output_unwritable", text).into());
            }
            Ok(metadata) if metadata.is_file() && metadata.len() == bytes => {
                let read = File::open(&self.path).and_then(|mut file| transfer::hash(&mut file, alive));
                match read {
                    Ok((found, _)) if found == hash => return Ok(true),
                    Err(error) if error.kind() == ErrorKind::Interrupted => return Err(Unanswered::Stopped),
                    _ => {}
                }
            }
            Ok(_) => {}
        }
        if self.overwrite { Ok(false) } else { Err(self.exists().into()) }
    }

    /// Makes the file as `make` does, beside the target, then gives it its name.
    fn put(&self, make: &mut dyn FnMut(&Path) -> io::Result<()>) -> Result<(), Unanswered> {
        let made = make(&self.part).and_then(|()| self.name()).and_then(|()| transfer::sync_directory(&self.directory));
        made.map_err(|error| {
            drop(std::fs::remove_file(&self.part));
            match error.kind() {
                ErrorKind::Interrupted => Unanswered::Stopped,
                ErrorKind::AlreadyExists => self.exists().into(),
                _ => self.refused(&error).into(),
            }
        })
    }

    fn name(&self) -> io::Result<()> {
        if self.overwrite {
            return std::fs::rename(&self.part, &self.path);
        }
        match rustix::fs::renameat_with(CWD, &self.part, CWD, &self.path, RenameFlags::NOREPLACE) {
            // The file system does not know the flag. A link refuses an existing name just as well.
            Err(rustix::io::Errno::INVAL) => {
                std::fs::hard_link(&self.part, &self.path)?;
                std::fs::remove_file(&self.part)
            }
            other => Ok(other?),
        }
    }

    fn exists(&self) -> Failure {
        let text = format!("output {} exists and is something else; give -y to overwrite it", self.path.display());
        Failure::new(Class::Spec, "output_exists", text)
    }

    fn refused(&self, error: &io::Error) -> Failure {
        match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::InvalidFilename => {
                let text = format!(
                    "output {} cannot be written: {error}; the directory must exist and allow this user to write",
                    self.path.display()
                );
                Failure::new(Class::Spec, "output_unwritable", text)
            }
            _ => transfer::write_failure(error, &self.directory, "publish_failed"),
        }
    }
}

/// A link costs nothing and leaves the artifact, so that a retry finds it. Other file systems, and those without links, get
/// a copy.
fn link_or_copy(film: &Path, part: &Path, alive: &mut dyn FnMut(u64) -> bool) -> io::Result<()> {
    match std::fs::remove_file(part) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match std::fs::hard_link(film, part) {
        Ok(()) => Ok(()),
        Err(_) => transfer::copy(film, part, alive),
    }
}

fn stopped(error: &io::Error, film: &Path) -> Unanswered {
    match error.kind() {
        ErrorKind::Interrupted => Unanswered::Stopped,
        _ => Failure::new(Class::Host, "artifact_unreadable", format!("{}: {error}", film.display())).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::Owner;
    use spool_proto::call::KeyframeTable;
    use spool_proto::spec::Rational;
    use spool_proto::uri::from_path;

    struct Fixture {
        dir: tempfile::TempDir,
        film: Vec<Input>,
        args: PublishArgs,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let film = dir.path().join("film.f1.mp4");
        std::fs::write(&film, b"a film").unwrap();
        let args = PublishArgs {
            output: from_path(&dir.path().join("out put.mp4")),
            overwrite: false,
            hash: blake3::hash(b"a film").to_hex().to_string(),
            index: None,
            beside: Vec::new(),
        };
        Fixture { film: vec![Input { uri: from_path(&film), owner: Owner::Spool }], args, dir }
    }

    fn code<T: std::fmt::Debug>(result: Result<T, Unanswered>) -> String {
        match result {
            Err(Unanswered::Failed(failure)) => format!("{}/{}", failure.class, failure.code),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_film_is_published_once_however_often_it_is_tried() {
        let f = fixture();
        for _ in 0..2 {
            let published = publish(&f.args, &f.film, &mut |_| true).unwrap();
            assert_eq!(published, (Value::Published { uri: f.args.output.clone(), bytes: 6 }, 6));
            assert_eq!(std::fs::read(f.dir.path().join("out put.mp4")).unwrap(), b"a film");
        }
        assert_eq!(std::fs::read_dir(f.dir.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn a_stranger_is_overwritten_only_when_asked() {
        let mut f = fixture();
        let output = f.dir.path().join("out put.mp4");
        std::fs::write(&output, b"mine!!").unwrap();
        assert_eq!(code(publish(&f.args, &f.film, &mut |_| true)), "spec/output_exists");
        assert_eq!(std::fs::read(&output).unwrap(), b"mine!!");
        f.args.overwrite = true;
        publish(&f.args, &f.film, &mut |_| true).unwrap();
        assert_eq!(std::fs::read(&output).unwrap(), b"a film");
    }

    #[test]
    fn only_the_checked_film_goes_out() {
        let mut f = fixture();
        f.args.hash = "0".repeat(64);
        assert_eq!(code(publish(&f.args, &f.film, &mut |_| true)), "internal/film_changed");
        assert!(!f.dir.path().join("out put.mp4").exists());
    }

    #[test]
    fn a_directory_that_is_not_there_is_the_users_to_make() {
        let mut f = fixture();
        f.args.output = from_path(&f.dir.path().join("no/out.mp4"));
        assert_eq!(code(publish(&f.args, &f.film, &mut |_| true)), "spec/output_unwritable");
        f.args.output = from_path(f.dir.path());
        assert_eq!(code(publish(&f.args, &f.film, &mut |_| true)), "spec/output_unwritable");
    }

    #[test]
    fn a_copy_to_another_file_system_is_whole_and_can_be_stopped() {
        let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
            eprintln!("skipped: no second file system");
            return;
        };
        let mut f = fixture();
        f.args.output = from_path(&other.path().join("out.mp4"));
        let mut looks = 0;
        let stopped = publish(&f.args, &f.film, &mut |_| {
            looks += 1;
            looks < 2
        });
        assert_eq!(stopped, Err(Unanswered::Stopped));
        assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 0);
        publish(&f.args, &f.film, &mut |_| true).unwrap();
        assert_eq!(std::fs::read(other.path().join("out.mp4")).unwrap(), b"a film");
        assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_keyframe_table_is_written_beside() {
        let mut f = fixture();
        let path = f.dir.path().join("out.json");
        let table = KeyframeTable {
            time_base: Rational { num: 1, den: 25 },
            keyframes: Vec::new(),
            chunks: Vec::new(),
            frames: Vec::new(),
        };
        f.args.index = Some((from_path(&path), table.clone()));
        publish(&f.args, &f.film, &mut |_| true).unwrap();
        assert_eq!(serde_json::from_slice::<KeyframeTable>(&std::fs::read(&path).unwrap()).unwrap(), table);
    }
    #[test]
    fn what_goes_beside_is_there_before_the_film_and_never_replaces_a_stranger() {
        let mut f = fixture();
        let stored = f.dir.path().join("report.f1.json");
        std::fs::write(&stored, b"scores").unwrap();
        f.film.push(Input { uri: from_path(&stored), owner: Owner::Spool });
        let path = f.dir.path().join("scores.json");
        f.args.beside = vec![from_path(&path)];
        std::fs::write(&path, b"mine").unwrap();
        assert_eq!(code(publish(&f.args, &f.film, &mut |_| true)), "spec/output_exists");
        assert!(!f.dir.path().join("out put.mp4").exists(), "the film waits for all");
        std::fs::remove_file(&path).unwrap();
        for _ in 0..2 {
            publish(&f.args, &f.film, &mut |_| true).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"scores");
        }
        assert!(f.dir.path().join("out put.mp4").exists());
    }
}
