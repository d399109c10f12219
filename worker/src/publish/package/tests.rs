use std::collections::BTreeMap;

use super::*;
use crate::transfer::Owner;
use spool_proto::package::{Segment, TrackMedia};
use spool_proto::spec::Rational;
use spool_proto::uri::{from_path, prefix_from_path};

struct Fixture {
    dir: tempfile::TempDir,
    inputs: Vec<Input>,
    args: PublishPackageArgs,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let segment = |start, offset, bytes| Segment { start, duration: 2, offset, bytes, fragments: Vec::new() };
    let table = SegmentTable {
        codec: "opus".into(),
        media: TrackMedia::Audio { channels: 2, sample_rate_hz: 48_000 },
        time_base: Rational::new(1, 1),
        header_bytes: 4,
        segments: vec![segment(0, 4, 3), segment(2, 7, 2)],
        file_offset: 0,
        goes_on: None,
    };
    let contents = [b"head111 2".to_vec(), serde_json::to_vec(&table).unwrap(), b"#EXTM3U\n".to_vec()];
    let input = |(n, content): (usize, &Vec<u8>)| {
        let path = dir.path().join(format!("{n}.f1"));
        fs::write(&path, content).unwrap();
        Input { uri: from_path(&path), owner: Owner::Spool, version: None }
    };
    let inputs = contents.iter().enumerate().map(input).collect();
    let hash = |n: usize| blake3::hash(&contents[n]).to_hex().to_string();
    let entries = vec![
        PackageEntry::Track { folder: "audio/en".into(), track: 0, table: 1, hash: hash(0), from: 0, until: None },
        PackageEntry::File { path: "master.m3u8".into(), input: 2, hash: hash(2) },
    ];
    let output = prefix_from_path(&dir.path().join("a package"));
    Fixture { dir, inputs, args: PublishPackageArgs { output, overwrite: false, replaces: BTreeMap::new(), entries } }
}

impl Fixture {
    fn publish(&self) -> Result<(Value, u64), Unanswered> {
        publish(&self.args, &self.inputs, &Stores::default(), &mut |_| true)
    }

    fn code(&self) -> String {
        match self.publish() {
            Err(Unanswered::Failed(failure)) => format!("{}/{}", failure.class, failure.code),
            other => format!("{other:?}"),
        }
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.dir.path().join("a package").join(path)).unwrap()
    }

    /// Beside the inputs.
    fn left(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.ends_with(".f1")).collect()
    }
}

#[test]
fn a_track_becomes_files_however_often_it_is_tried() {
    let f = fixture();
    for _ in 0..2 {
        let published = f.publish().unwrap();
        assert_eq!(published, (Value::Published { uri: f.args.output.clone(), bytes: 17 }, 17));
    }
    assert_eq!(f.read("audio/en/init.mp4"), "head");
    assert_eq!(f.read("audio/en/00001.m4s"), "111");
    assert_eq!(f.read("audio/en/00002.m4s"), " 2");
    assert_eq!(f.read("master.m3u8"), "#EXTM3U\n");
    assert_eq!(f.left(), ["a package"]);
}

#[test]
fn only_a_package_is_ever_replaced() {
    let mut f = fixture();
    let folder = f.dir.path().join("a package");
    fs::create_dir(&folder).unwrap();
    f.publish().expect("an empty folder is nobody's");
    f.args.entries.pop();
    f.args.entries.push(PackageEntry::Track {
        folder: "audio/de".into(),
        track: 0,
        table: 1,
        hash: blake3::hash(b"head111 2").to_hex().to_string(),
        from: 0,
        until: None,
    });
    f.args.entries.remove(0);
    assert_eq!(f.code(), "spec/output_exists");
    assert_eq!(f.read("master.m3u8"), "#EXTM3U\n");
    f.args.overwrite = true;
    f.publish().unwrap();
    assert_eq!(f.read("audio/de/00001.m4s"), "111");
    assert!(!folder.join("audio/en").exists(), "the old one is gone as a whole");
    assert_eq!(f.left(), ["a package"]);
    // What is there now has no playlist: it could be anything.
    f.args.entries.push(PackageEntry::File {
        path: "manifest.mpd".into(),
        input: 2,
        hash: blake3::hash(b"#EXTM3U\n").to_hex().to_string(),
    });
    assert_eq!(f.code(), "spec/output_exists");
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "mine").unwrap();
    assert_eq!(f.code(), "spec/output_unwritable");
}

/// The first segment, and then all, from a file of its own that holds the second alone.
fn growing() -> (Fixture, Vec<PackageEntry>) {
    let mut f = fixture();
    let add = |f: &mut Fixture, content: &[u8]| {
        let path = f.dir.path().join(format!("{}.f1", f.inputs.len()));
        fs::write(&path, content).unwrap();
        f.inputs.push(Input { uri: from_path(&path), owner: Owner::Spool, version: None });
        (f.inputs.len() - 1, blake3::hash(content).to_hex().to_string())
    };
    let table = transfer::path_of(&f.inputs[1].uri).unwrap();
    let mut part: SegmentTable = serde_json::from_slice(&fs::read(table).unwrap()).unwrap();
    part.file_offset = 7;
    let (track, hash) = add(&mut f, b" 2");
    let (table, _) = add(&mut f, &serde_json::to_vec(&part).unwrap());
    let (playlist, playlist_hash) = add(&mut f, b"#EXTM3U\n#END\n");
    let more = vec![
        PackageEntry::Track { folder: "audio/en".into(), track, table, hash, from: 1, until: None },
        PackageEntry::File { path: "images/a.jpg".into(), input: playlist, hash: playlist_hash.clone() },
        PackageEntry::File { path: "master.m3u8".into(), input: playlist, hash: playlist_hash },
    ];
    let PackageEntry::Track { until, .. } = &mut f.args.entries[0] else { unreachable!("the first is a track") };
    *until = Some(1);
    (f, more)
}

fn replaced(content: &[u8]) -> BTreeMap<String, Replaced> {
    let hash = blake3::hash(content).to_hex().to_string();
    BTreeMap::from([("master.m3u8".into(), Replaced { bytes: u64::try_from(content.len()).unwrap(), hash })])
}

#[test]
fn a_package_grows_however_often_each_step_is_tried() {
    let (mut f, more) = growing();
    for _ in 0..2 {
        f.publish().unwrap();
        assert_eq!(f.read("audio/en/00001.m4s"), "111");
        assert!(!f.dir.path().join("a package/audio/en/00002.m4s").exists());
    }
    f.args.entries = more;
    assert_eq!(f.code(), "spec/output_exists", "what does not say that it goes on is another package");
    f.args.replaces = replaced(b"#EXTM3U\n");
    // Ended behind any of the files, it goes on.
    for looks in 0..12 {
        let mut left = looks;
        let tried = publish(&f.args, &f.inputs, &Stores::default(), &mut |_| {
            left -= 1;
            left > 0
        });
        assert!(matches!(tried, Ok(_) | Err(Unanswered::Stopped)), "{tried:?}");
        let playlist = f.read("master.m3u8");
        assert!(
            playlist == "#EXTM3U\n" || f.read("audio/en/00002.m4s") == " 2",
            "no playlist is ahead of its segments"
        );
    }
    f.publish().unwrap();
    assert_eq!((f.read("audio/en/init.mp4"), f.read("audio/en/00001.m4s")), ("head".into(), "111".into()));
    assert_eq!((f.read("master.m3u8"), f.read("images/a.jpg")), (f.read("images/a.jpg"), "#EXTM3U\n#END\n".into()));
    let folder = fs::read_dir(f.dir.path().join("a package/audio/en")).unwrap();
    assert_eq!(folder.count(), 3, "nothing else is left");
    assert_eq!(f.left(), ["a package"]);
}

#[test]
fn a_package_that_is_not_the_jobs_any_more_does_not_grow() {
    let (mut f, more) = growing();
    f.publish().unwrap();
    f.args.entries = more;
    f.args.replaces = replaced(b"#EXTM3U\n");
    let playlist = f.dir.path().join("a package/master.m3u8");
    fs::write(&playlist, "mine").unwrap();
    for _ in 0..2 {
        assert_eq!(f.code(), "spec/output_changed");
        assert!(!f.dir.path().join("a package/audio/en/00002.m4s").exists());
        // Nor one that is gone.
        drop(fs::remove_file(&playlist));
    }
}

#[test]
fn only_what_was_checked_goes_out() {
    let f = fixture();
    fs::write(f.dir.path().join("0.f1"), b"HEAD111 2").unwrap();
    assert_eq!(f.code(), "internal/film_changed");
    assert!(f.left().is_empty());
}

#[test]
fn a_stopped_publish_leaves_nothing() {
    let f = fixture();
    let mut looks = 0;
    let stopped = publish(&f.args, &f.inputs, &Stores::default(), &mut |_| {
        looks += 1;
        looks < 4
    });
    assert_eq!(stopped, Err(Unanswered::Stopped));
    assert!(f.left().is_empty(), "{:?}", f.left());
}

#[test]
fn no_entry_leads_out_of_the_package() {
    let mut f = fixture();
    for path in ["../evil", "a/../../evil", "/evil", "a//b", ""] {
        f.args.entries[1] = PackageEntry::File { path: path.into(), input: 2, hash: String::new() };
        assert_eq!(f.code(), "internal/bad_call", "{path}");
    }
    f.args.entries[1] = PackageEntry::File { path: "a".into(), input: 9, hash: String::new() };
    assert_eq!(f.code(), "internal/bad_call");
}
