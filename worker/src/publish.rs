//! `spool.publish`: the validated film is put where the user asked, whole or not at all.
//!
//! Reading order: this file (what is published, and in which order), `file` (to a path), `object` (to a store),
//! `package` (a folder of many files).

mod file;
mod object;
pub mod package;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use spool_proto::call::{Args, Call, PublishArgs, Value};
use spool_proto::failure::{Class, Failure};
use spool_proto::uri::Location;

use crate::executor::Unanswered;
use crate::stores::Stores;
use crate::transfer::{self, Input};

/// Told the bytes done so far; answers whether to go on.
type Alive<'a> = &'a mut (dyn FnMut(u64) -> bool + Send);

/// Runs a call that publishes `inputs`, which are files of this machine.
///
/// # Errors
/// `bad_call` (internal) where it is none, and those of [`publish`] and [`package::publish`].
pub fn run(call: &Call, inputs: &[Input], stores: &Stores, alive: Alive<'_>) -> Result<(Value, u64), Unanswered> {
    match (&call.args, inputs) {
        (Args::Publish(args), inputs) if inputs.len() == 1 + args.beside.len() => publish(args, inputs, stores, alive),
        (Args::PublishPackage(args), inputs) => package::publish(args, inputs, stores, alive),
        (args, inputs) => {
            let text = format!("{} with {} inputs publishes nothing", args.function(), inputs.len());
            Err(Failure::new(Class::Internal, "bad_call", text).into())
        }
    }
}

/// Publishes the first input, the film, and the others beside it. `alive` is told the bytes done so far and answers whether to go on. A
/// retry after a lost answer finds its own work done and succeeds. Answers also the film's bytes. Blocks, within a runtime.
///
/// # Errors
/// `output_exists`, `output_unwritable`, `bad_uri`, `unsupported_scheme` (spec), `film_changed` (internal), `disk_full`,
/// `publish_failed` (host), `output_unreachable` (transient), and those of [`Input::open_file`].
pub fn publish(
    args: &PublishArgs,
    inputs: &[Input],
    stores: &Stores,
    alive: Alive<'_>,
) -> Result<(Value, u64), Unanswered> {
    let Some((film, others)) = inputs.split_first() else {
        return Err(Failure::new(Class::Internal, "bad_call", "a publish of nothing").into());
    };
    let output = Target::new(&args.output, args.overwrite, stores)?;
    let film_path = transfer::path_of(&film.uri)?;
    let film = Content::of_file(film, &film_path, alive)?;
    if film.hash != args.hash {
        let text = format!("{} is not the film that was checked: its hash is {}", film_path.display(), film.hash);
        return Err(Failure::new(Class::Internal, "film_changed", text).into());
    }
    let index = match &args.index {
        Some((uri, table)) => {
            let mut json = serde_json::to_vec_pretty(table)
                .map_err(|e| Failure::new(Class::Internal, "publish_failed", format!("keyframe table: {e}")))?;
            json.push(b'\n');
            Some((Target::new(uri, args.overwrite, stores)?, json))
        }
        None => None,
    };
    // All are looked at before any is touched, and the film, which says that all is done, comes last.
    let film_there = output.holds(&film, alive)?;
    let paths: Vec<PathBuf> = others.iter().map(|input| transfer::path_of(&input.uri)).collect::<Result<_, _>>()?;
    let mut missing = Vec::new();
    for ((uri, input), path) in args.beside.iter().zip(others).zip(&paths) {
        let (target, content) = (Target::new(uri, args.overwrite, stores)?, Content::of_file(input, path, alive)?);
        if !target.holds(&content, alive)? {
            missing.push((target, content));
        }
    }
    if let Some((target, json)) = &index {
        let hash = blake3::hash(json).to_hex().to_string();
        let table = Content { from: From::Memory(json), bytes: json.len() as u64, hash };
        if !target.holds(&table, alive)? {
            target.put(&table, alive)?;
        }
    }
    for (target, content) in missing {
        target.put(&content, alive)?;
    }
    if !film_there {
        output.put(&film, alive)?;
    }
    let bytes = film.bytes;
    Ok((Value::Published { uri: args.output.clone(), bytes }, bytes))
}

/// What goes out.
struct Content<'a> {
    from: From<'a>,
    bytes: u64,
    /// BLAKE3, hex.
    hash: String,
}

impl<'a> Content<'a> {
    fn of_file(input: &Input, path: &'a Path, alive: Alive<'_>) -> Result<Content<'a>, Unanswered> {
        let (mut file, bytes) = input.open_file()?;
        let (hash, _) = transfer::hash(&mut file, alive).map_err(|error| stopped(&error, path))?;
        Ok(Content { from: From::File(path), bytes, hash })
    }
}

enum From<'a> {
    File(&'a Path),
    Memory(&'a [u8]),
}

/// Where it goes.
enum Target {
    File(file::FileTarget),
    Object(object::ObjectTarget),
}

impl Target {
    fn new(uri: &str, overwrite: bool, stores: &Stores) -> Result<Target, Failure> {
        match Location::parse(uri)? {
            Location::File(path) => Ok(Target::File(file::FileTarget::new(path, overwrite)?)),
            location @ Location::S3 { .. } => {
                Ok(Target::Object(object::ObjectTarget::new(stores.object(&location, uri)?, overwrite)))
            }
            Location::Http(_) | Location::Spool { .. } => Err(Failure::new(
                Class::Spec,
                "output_unwritable",
                format!("output {}: films are put into files or s3://bucket/key", spool_proto::uri::shown(uri)),
            )),
        }
    }

    /// Whether exactly this is there already. What else is there is an error, unless it may be overwritten.
    fn holds(&self, content: &Content<'_>, alive: Alive<'_>) -> Result<bool, Unanswered> {
        match self {
            Target::File(target) => target.holds(content, alive),
            Target::Object(target) => target.holds(content, alive),
        }
    }

    /// Nobody ever sees half of it.
    fn put(&self, content: &Content<'_>, alive: Alive<'_>) -> Result<(), Unanswered> {
        match self {
            Target::File(target) => target.put(content, alive),
            Target::Object(target) => target.put(content, alive),
        }
    }
}

fn exists(output: &str) -> Failure {
    let text = format!("output {output} exists and is something else; give -y to overwrite it");
    Failure::new(Class::Spec, "output_exists", text)
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
        Fixture { film: vec![Input { uri: from_path(&film), owner: Owner::Spool, version: None }], args, dir }
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
            let published = publish(&f.args, &f.film, &Stores::default(), &mut |_| true).unwrap();
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
        assert_eq!(code(publish(&f.args, &f.film, &Stores::default(), &mut |_| true)), "spec/output_exists");
        assert_eq!(std::fs::read(&output).unwrap(), b"mine!!");
        f.args.overwrite = true;
        publish(&f.args, &f.film, &Stores::default(), &mut |_| true).unwrap();
        assert_eq!(std::fs::read(&output).unwrap(), b"a film");
    }

    #[test]
    fn only_the_checked_film_goes_out() {
        let mut f = fixture();
        f.args.hash = "0".repeat(64);
        assert_eq!(code(publish(&f.args, &f.film, &Stores::default(), &mut |_| true)), "internal/film_changed");
        assert!(!f.dir.path().join("out put.mp4").exists());
    }

    #[test]
    fn a_directory_that_is_not_there_is_the_users_to_make() {
        let mut f = fixture();
        f.args.output = from_path(&f.dir.path().join("no/out.mp4"));
        assert_eq!(code(publish(&f.args, &f.film, &Stores::default(), &mut |_| true)), "spec/output_unwritable");
        f.args.output = from_path(f.dir.path());
        assert_eq!(code(publish(&f.args, &f.film, &Stores::default(), &mut |_| true)), "spec/output_unwritable");
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
        let stopped = publish(&f.args, &f.film, &Stores::default(), &mut |_| {
            looks += 1;
            looks < 2
        });
        assert_eq!(stopped, Err(Unanswered::Stopped));
        assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 0);
        publish(&f.args, &f.film, &Stores::default(), &mut |_| true).unwrap();
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
        publish(&f.args, &f.film, &Stores::default(), &mut |_| true).unwrap();
        assert_eq!(serde_json::from_slice::<KeyframeTable>(&std::fs::read(&path).unwrap()).unwrap(), table);
    }
    #[test]
    fn what_goes_beside_is_there_before_the_film_and_never_replaces_a_stranger() {
        let mut f = fixture();
        let stored = f.dir.path().join("report.f1.json");
        std::fs::write(&stored, b"scores").unwrap();
        f.film.push(Input { uri: from_path(&stored), owner: Owner::Spool, version: None });
        let path = f.dir.path().join("scores.json");
        f.args.beside = vec![from_path(&path)];
        std::fs::write(&path, b"mine").unwrap();
        assert_eq!(code(publish(&f.args, &f.film, &Stores::default(), &mut |_| true)), "spec/output_exists");
        assert!(!f.dir.path().join("out put.mp4").exists(), "the film waits for all");
        std::fs::remove_file(&path).unwrap();
        for _ in 0..2 {
            publish(&f.args, &f.film, &Stores::default(), &mut |_| true).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"scores");
        }
        assert!(f.dir.path().join("out put.mp4").exists());
    }
}
