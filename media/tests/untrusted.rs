//! Films nobody vouches for: a probe either tells what is in them or refuses with a reason. It never opens another file.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod ebml;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use common::{call, corpus, ffmpeg};
use ebml::{matroska, tags, track};
use rustix::fs::inotify;
use spool_proto::call::{Args, MediaFacts, ProbeArgs, SourceFacts, Value};
use spool_proto::failure::{Class, Failure, Warning};

fn probe(film: &Path) -> Result<SourceFacts, Failure> {
    probe_and_warn(film).map(|(facts, _)| facts)
}

fn probe_and_warn(film: &Path) -> Result<(SourceFacts, Vec<Warning>), Failure> {
    let (product, _) = call(&Args::Probe(ProbeArgs { index_for: None, crop_bars: false }), [film])?;
    let Value::Probe(facts) = product.value else { panic!("{:?}", product.value) };
    Ok((*facts, product.warnings))
}

/// Probes bytes under a name.
fn probe_bytes(name: &str, bytes: &[u8]) -> Result<(SourceFacts, Vec<Warning>), Failure> {
    let folder = tempfile::tempdir().unwrap();
    let film = folder.path().join(name);
    std::fs::write(&film, bytes).unwrap();
    probe_and_warn(&film)
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

/// Whatever a script names, by whatever protocol and under whatever name of its own: nothing of it is opened, on the disk or on the
/// network. A file that is watched and a port that is listened to would tell.
#[test]
fn scripts_in_any_disguise_reach_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let film = folder.path().join("film.mp4");
    ffmpeg("-f lavfi -i testsrc2=duration=1 -c:v libx264 -preset ultrafast", &film);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, &film, inotify::WatchFlags::OPEN | inotify::WatchFlags::ACCESS).unwrap();
    let (path, port) = (film.display().to_string(), listener.local_addr().unwrap().port());
    let targets = [
        path.clone(),
        "film.mp4".to_owned(),
        format!("file:{path}"),
        format!("file://{path}"),
        format!("concat:{path}|{path}"),
        format!("subfile,,start,0,end,0,,:{path}"),
        format!("crypto:{path}"),
        format!("cache:{path}"),
        format!("async:file:{path}"),
        format!("http://127.0.0.1:{port}/film.mp4"),
        format!("tcp://127.0.0.1:{port}"),
        format!("rtmp://127.0.0.1:{port}/a/b"),
        "data:video/mp4;base64,AAAA".to_owned(),
        "/dev/zero".to_owned(),
    ];
    let playlist = |target: &str| format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n");
    let keyed = |target: &str| {
        format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI=\"{target}\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"{target}\"\n#EXTINF:2,\n{target}\n"
        )
    };
    let concat = |target: &str| format!("ffconcat version 1.0\nfile '{target}'\n");
    let manifest = |target: &str| {
        format!(
            "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" mediaPresentationDuration=\"PT1S\"><Period><AdaptationSet><Representation id=\"1\" bandwidth=\"1\"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>"
        )
    };
    let session =
        |_: &str| format!("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n");
    let scripts: [&dyn Fn(&str) -> String; 5] = [&playlist, &keyed, &concat, &manifest, &session];
    // What was opened to be made and watched is not what is looked for.
    events(&watch);
    for script in scripts {
        for target in &targets {
            for name in ["script.mp4", "script.mkv", "script.ts", "script.m3u8", "script.mpd"] {
                let path = folder.path().join(name);
                std::fs::write(&path, script(target)).unwrap();
                let failure = probe(&path).err().unwrap_or_else(|| panic!("{} was taken", script(target)));
                assert_eq!((failure.class, failure.code.as_str()), (Class::Input, "not_media"), "{}", script(target));
            }
        }
    }
    assert!(!events(&watch), "the film that scripts name was opened");
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody connected");
    drop(std::fs::File::open(&film).unwrap());
    assert!(events(&watch), "or the watch sees nothing");
}

/// Whether anything happened to what is watched.
fn events(watch: &rustix::fd::OwnedFd) -> bool {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    let mut any = false;
    while reader.next().is_ok() {
        any = true;
    }
    any
}

#[test]
fn tags_that_are_no_text_are_read_as_far_as_they_are() {
    let list = [(&b"TITLE"[..], &b"caf\xe9 \xff\xfe"[..]), (b"A\xff", b"x"), (b"NUL", b"a\0b"), (b"EMPTY", b"")];
    let (facts, warnings) = probe_bytes("tags.mkv", &matroska(&[track(1, 320, 240), tags(&list)].concat())).unwrap();
    let value = |key: &str| facts.tags.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v.as_str());
    assert_eq!(value("TITLE"), Some("caf\u{fffd} \u{fffd}\u{fffd}"), "{:?}", facts.tags);
    assert_eq!(value("A\u{fffd}"), Some("x"));
    assert_eq!(value("NUL"), Some("a"), "libav's strings end at the first NUL");
    assert!(warnings.is_empty());
    serde_json::to_string(&facts).unwrap();
}

#[test]
fn megabytes_of_metadata_are_told_within_bounds() {
    let huge = vec![b'v'; 100_000];
    let keys: Vec<Vec<u8>> = (0..100).map(|number| format!("KEY{number}").into_bytes()).collect();
    let list: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (key.as_slice(), huge.as_slice())).collect();
    let film = matroska(&[track(1, 320, 240), tags(&list), ebml::chapters(20_000)].concat());
    let (facts, warnings) = probe_bytes("much.mkv", &film).unwrap();
    assert_eq!(warnings.iter().map(|warning| warning.code.as_str()).collect::<Vec<_>>(), ["metadata_left_out"]);
    let told = serde_json::to_vec(&facts).unwrap().len();
    assert!((500_000..2 << 20).contains(&told), "{told}");
    assert!(facts.tags.len() >= 5 && facts.chapters.len() < 20_000, "{} {}", facts.tags.len(), facts.chapters.len());
}

#[test]
fn thousands_of_streams_are_refused_and_attachments_left_out() {
    let tracks: Vec<u8> = (1..=2000).flat_map(|number| track(number, 320, 240)).collect();
    let failure = probe_bytes("tracks.mkv", &matroska(&tracks)).unwrap_err();
    assert_eq!((failure.class, failure.code.as_str()), (Class::Input, "too_many_streams"), "{failure}");
    let film = matroska(&[track(1, 320, 240), ebml::attachments(2000, 10)].concat());
    let (facts, _) = probe_bytes("attachments.mkv", &film).unwrap();
    assert!((2..=64).contains(&facts.streams.len()), "{}", facts.streams.len());
}

#[test]
fn sizes_without_end_end_with_the_file() {
    let (facts, _) = probe_bytes("unknown.mkv", &ebml::endless(200)).unwrap();
    assert_eq!(facts.streams.len(), 1);
    // A transport stream that goes on and on without a picture.
    let mut packet = [0xff_u8; 188];
    packet[..4].copy_from_slice(&[0x47, 0x1f, 0xff, 0x10]);
    let failure = probe_bytes("null.ts", &packet.repeat(100_000)).unwrap_err();
    assert_eq!((failure.class, failure.code.as_str()), (Class::Input, "not_media"), "{failure}");
}

/// Pictures that a few bytes promise and no machine holds: told without a size, or refused; the memory is not asked for.
#[test]
fn promised_pictures_beyond_all_bounds_cost_nothing() {
    let before = spool_media::process::resident_bytes().unwrap();
    let side = 65_535_u16.to_le_bytes();
    let picture = [b"\x2c\0\0\0\0".as_slice(), &side, &side, b"\0\x02\x02\x4c\x01\0"].concat();
    let gif =
        [b"GIF89a".as_slice(), &side, &side, b"\x80\0\0\0\0\0\xff\xff\xff", &picture.repeat(50), b"\x3b"].concat();
    let keyframe = b"\x10\x02\0\x9d\x01\x2a\xff\x3f\xff\x3f";
    let ivf = [
        b"DKIF\0\0\x20\0VP80\xff\x3f\xff\x3f\x19\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0".as_slice(),
        b"\x0a\0\0\0\0\0\0\0\0\0\0\0",
        keyframe,
    ]
    .concat();
    let cases: [(&str, Vec<u8>); 6] = [
        ("a.gif", gif),
        ("a.ivf", ivf),
        ("a.mkv", matroska(&track(1, 60_000, 60_000))),
        ("raw.mkv", matroska(&ebml::raw_track(60_000, 60_000))),
        ("a.y4m", b"YUV4MPEG2 W100000 H100000 F25:1 Ip A1:1 C420\nFRAME\n".to_vec()),
        ("a.png", ebml::animated_png(60_000, 60_000)),
    ];
    for (name, film) in cases {
        match probe_bytes(name, &film) {
            Ok((facts, _)) => assert!(!facts.streams.is_empty(), "{name}"),
            Err(failure) => assert_eq!(failure.class, Class::Input, "{name}: {failure}"),
        }
    }
    let after = spool_media::process::resident_bytes().unwrap();
    assert!(after < before + (512 << 20), "{before} {after}");
}
