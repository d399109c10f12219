//! Films nobody vouches for: a probe either tells what is in them or refuses with a reason. It never opens another file.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::PathBuf;

use common::{call, corpus, ffmpeg};
use spool_proto::call::{Args, MediaFacts, ProbeArgs, SourceFacts, Value};
use spool_proto::failure::{Class, Failure};

fn probe(film: &std::path::Path) -> Result<SourceFacts, Failure> {
    let (product, _) = call(&Args::Probe(ProbeArgs { index_for: None }), [film])?;
    let Value::Probe(facts) = product.value else { panic!("{:?}", product.value) };
    Ok(*facts)
}

fn films(part: &str) -> Vec<PathBuf> {
    let Some(folder) = corpus(part) else {
        eprintln!("skipped: no corpus beside the workspace");
        return Vec::new();
    };
    let mut films: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    films.sort();
    films
}

#[test]
fn text_pictures_and_playlists_are_not_media() {
    let folder = tempfile::tempdir().unwrap();
    let film = folder.path().join("film.mp4");
    ffmpeg("-f lavfi -i testsrc2=duration=1 -c:v libx264 -preset ultrafast", &film);
    let picture = folder.path().join("picture.png");
    ffmpeg("-f lavfi -i testsrc2=duration=1 -frames:v 1", &picture);
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let playlist = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n", film.display());
    let concat = format!("ffconcat version 1.0\nfile '{}'\n", film.display());
    for path in [
        write("playlist.mp4", &playlist),
        write("concat.mkv", &concat),
        write("text.mp4", "these are only words\n"),
        write("empty.mp4", ""),
        picture,
    ] {
        let failure = probe(&path).err().unwrap_or_else(|| panic!("{} was taken", path.display()));
        assert_eq!(
            (failure.class, failure.code.as_str()),
            (Class::Input, "not_media"),
            "{}: {failure}",
            path.display()
        );
    }
    assert!(probe(&film).is_ok(), "the film itself is taken");
}

#[test]
fn every_odd_film_of_the_corpus_is_understood() {
    for film in films("odd") {
        let facts = probe(&film).unwrap_or_else(|e| panic!("{}: {e}", film.display()));
        assert!(!facts.streams.is_empty(), "{}", film.display());
        let sized = facts.streams.iter().all(|stream| match &stream.media {
            MediaFacts::Video(video) => video.width > 0 || facts.streams.len() > 1,
            _ => true,
        });
        assert!(sized, "{}: {:?}", film.display(), facts.streams);
    }
}

#[test]
fn no_bad_film_of_the_corpus_brings_a_probe_down() {
    for film in films("bad") {
        if let Err(failure) = probe(&film) {
            assert_eq!(failure.class, Class::Input, "{}: {failure}", film.display());
            assert!(!failure.message.is_empty());
        }
    }
}
