use super::*;

const MANIFEST: &str = "name = \"check\"\nversion = \"1\"\ncommand = [\"bin/check\"]\n";

fn file(text: &str, executable: bool) -> File {
    File { executable, bytes: text.into() }
}

fn files(more: &[(&str, &str)]) -> BTreeMap<String, File> {
    let mut files =
        BTreeMap::from([(FILE.into(), file(MANIFEST, false)), ("bin/check".into(), file("#!/bin/sh\n", true))]);
    files.extend(more.iter().map(|(path, text)| ((*path).into(), file(text, false))));
    files
}

#[test]
fn what_is_written_is_read_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let package = Package::new(files(&[("lib/a/b.txt", "b"), ("data", "")])).unwrap();
    let folder = dir.path().join("f");
    package.write(&folder).unwrap();
    assert_eq!(Package::read(&folder).unwrap(), package);
    std::fs::create_dir(folder.join("__pycache__")).unwrap();
    std::fs::write(folder.join("__pycache__/x.pyc"), b"x").unwrap();
    assert_eq!(Package::read(&folder).unwrap().hash(), package.hash(), "what a run leaves is no part of it");
    assert!(package.write(&folder).is_err(), "nothing is written over");
}

#[test]
fn a_version_is_its_paths_modes_and_contents() {
    let hash = |files| Package::new(files).unwrap().hash().to_owned();
    let first = hash(files(&[("a", "x")]));
    assert!(is_hash(&first));
    assert_eq!(first, hash(files(&[("a", "x")])));
    let mut executable = files(&[("a", "x")]);
    executable.get_mut("a").unwrap().executable = true;
    let others = [hash(files(&[("a", "y")])), hash(files(&[("b", "x")])), hash(files(&[])), hash(executable)];
    assert!(others.iter().all(|other| *other != first), "{others:?}");
}

#[test]
fn nothing_leads_out_of_the_folder() {
    for path in ["../a", "a/../../b", "/etc/passwd", "a//b", "./a", "a/.", "", "a\0b", "a\nb"] {
        assert!(Package::new(files(&[(path, "x")])).is_err(), "{path:?}");
    }
    let problem = Package::new(files(&[("a", "x"), ("a/b", "x")])).unwrap_err();
    assert_eq!(problem.to_string(), "a/b: a is a file, not a folder");
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("f");
    Package::new(files(&[])).unwrap().write(&folder).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join("secret")).unwrap();
    assert_eq!(Package::read(&folder).unwrap_err().at, "secret");
}

#[test]
fn a_program_must_be_there_and_start() {
    let mut absent = files(&[]);
    absent.remove("bin/check");
    assert!(Package::new(absent).unwrap_err().what.contains("bin/check"));
    let mut plain = files(&[]);
    plain.get_mut("bin/check").unwrap().executable = false;
    assert!(Package::new(plain).unwrap_err().what.contains("chmod"));
    assert!(Package::new(BTreeMap::new()).unwrap_err().what.contains("missing"));
}

#[test]
fn there_is_a_bound() {
    let many = (0..FILES_MAX).map(|n| (format!("f{n}"), file("", false)));
    assert!(Package::new(files(&[]).into_iter().chain(many).collect()).unwrap_err().what.contains("10000"));
    let mut large = files(&[]);
    large.insert("large".into(), File { executable: false, bytes: vec![0; usize::try_from(BYTES_MAX).unwrap()] });
    assert!(Package::new(large).unwrap_err().what.contains("bytes"));
}
