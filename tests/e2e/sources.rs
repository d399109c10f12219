//! Sources and outputs that are not files of this machine: over HTTP and in S3.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::films::{self, Clip};
use crate::http::{HttpServer, Manner};
use crate::processes::{Fleet, Guarded, Sandbox, files_under};
use crate::s3::S3Store;

const FAST: &[&str] = &["-c:v", "libx264", "-preset", "ultrafast", "-g", "24", "-c:a", "aac", "--chunk", "1s"];

/// Some MiB a second, so that chunks are larger than what is fetched around their edges.
const BIG: Clip = Clip {
    name: "big.mp4",
    seconds: 20,
    size: "640x360",
    rate: "24",
    codec: &["-c:v", "libx264", "-preset", "ultrafast", "-qp", "4", "-g", "24", "-movflags", "+faststart"],
};

/// The same packets in another container.
fn remuxed(film: &Path, to: PathBuf, options: &[&str]) -> PathBuf {
    let mut made = Command::new("ffmpeg");
    made.args(["-v", "error", "-i"]).arg(film).args(["-map", "0", "-c", "copy"]).args(options).arg(&to);
    let status = made.status().unwrap();
    assert!(status.success());
    to
}

fn encode(sandbox: &Sandbox, source: &str, output: &str) -> Command {
    let mut command = sandbox.spool();
    command.args(["encode", source, "-o", output, "--json"]).args(FAST);
    command
}

fn done(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(command: &mut Command, words: &[&str]) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(!status.success(), "{command:?}");
    for word in words {
        assert!(stderr.contains(word), "no {word:?} in: {stderr}");
    }
    stderr
}

fn ratio(part: &Value, whole: &Value) -> f64 {
    part.as_f64().unwrap() / whole.as_f64().unwrap()
}

#[test]
fn a_film_over_http_is_encoded_as_if_it_were_here_and_chunks_fetch_their_own_bytes() {
    let sandbox = Sandbox::new();
    let server = HttpServer::new(Manner::Proper);
    let big = films::clip(&BIG);
    let local = |name: &str| sandbox.path(name);
    let sources = [
        big.clone(),
        remuxed(&big, local("index-last.mp4"), &[]),
        remuxed(&big, local("matroska.mkv"), &[]),
        remuxed(&big, local("transport.ts"), &[]),
    ];
    for source in sources {
        let name = source.file_name().unwrap().to_str().unwrap().to_owned();
        let out = |kind: &str| local(&format!("{kind}-{name}.mp4")).to_str().unwrap().to_owned();
        let here = done(&mut encode(&sandbox, source.to_str().unwrap(), &out("here")));
        // The whole film would fit the cache as it is, and no chunk would fetch a thing.
        let url = server.serve(&source);
        let there = done(encode(&sandbox, &url, &out("there")).env("SPOOL_READ_CACHE", "24Mi"));
        assert_eq!(here["output"]["hash"], there["output"]["hash"], "{name}");
        assert!(here["output"].get("source").is_none());
        let source = &there["output"]["source"];
        let size = &source["source_bytes"];
        let chunks = there["output"]["chunks"].as_array().unwrap();
        assert!(chunks.len() >= 10, "{name}: {} chunks", chunks.len());
        let (by_chunks, in_all) = (ratio(&source["chunks_fetched_bytes"], size), ratio(&source["fetched_bytes"], size));
        let most = chunks.iter().map(|chunk| ratio(&chunk["fetched_bytes"], size)).fold(0.0, f64::max);
        eprintln!(
            "{name}: {size} bytes, {} chunks fetched {by_chunks:.3}x, the largest {most:.3}x, all together {in_all:.3}x",
            chunks.len()
        );
        assert!(by_chunks < 1.5, "{name}: chunks fetched {by_chunks:.2}x of the source");
        assert!(most < 0.5, "{name}: one chunk fetched {most:.2}x of the source");
        let counted = source["fetched_bytes"].as_u64().unwrap();
        let sent = server.sent();
        assert!(sent >= counted, "{name}: the server sent {sent} bytes, {counted} were counted");
    }
    sandbox.assert_nothing_left();
}

#[test]
fn a_server_that_hiccups_is_asked_again() {
    let sandbox = Sandbox::new();
    let server = HttpServer::new(Manner::Hiccups);
    let (film, out) = (films::clip(&films::PLAIN), sandbox.path("out.mp4"));
    let job = done(&mut encode(&sandbox, &server.serve(&film), out.to_str().unwrap()));
    let attempts: Vec<u64> =
        job["tasks"].as_array().into_iter().flatten().map(|task| task["attempt"].as_u64().unwrap()).collect();
    assert!(attempts.iter().all(|attempt| *attempt == 1), "hiccups are the worker's to bear: {attempts:?}");
    assert_eq!(films::frame_times(&out).len(), films::frame_times(&film).len());
}

#[test]
fn without_ranges_a_small_film_is_fetched_whole_and_a_large_one_refused() {
    let sandbox = Sandbox::new();
    let server = HttpServer::new(Manner::WithoutRanges);
    let (film, out) = (films::clip(&films::PLAIN), sandbox.path("out.mp4"));
    let job = done(&mut encode(&sandbox, &server.serve(&film), out.to_str().unwrap()));
    let source = &job["output"]["source"];
    assert!(ratio(&source["chunks_fetched_bytes"], &source["source_bytes"]) > 2.0, "{source}");
    let large = server.put("large.mp4", vec![0; 17 << 20], "\"large\"");
    refused(sandbox.spool().args(["probe", &large]), &["does not answer requests for ranges", "large.mp4"]);
}

#[test]
fn what_cannot_be_had_is_told_with_what_to_do_and_no_signature() {
    let sandbox = Sandbox::new();
    let server = HttpServer::new(Manner::Proper);
    let missing = server.url("none.mp4?sign=secret");
    let told = refused(sandbox.spool().args(["probe", &missing]), &["none.mp4", "does not exist"]);
    assert!(!told.contains("secret"), "{told}");
    refused(&mut encode(&sandbox, &missing, "out.mp4"), &["there is no such file"]);
    for (status, words) in [(401, "signed URL"), (403, "signed URL"), (400, "check the address")] {
        server.behave(Manner::Status(status));
        let told = refused(sandbox.spool().args(["probe", &missing]), &[words, &status.to_string()]);
        assert!(!told.contains("secret"), "{told}");
    }
    server.behave(Manner::Proper);
    let empty = server.put("empty.mp4", Vec::new(), "\"empty\"");
    refused(sandbox.spool().args(["probe", &empty]), &["the source is empty"]);
    let film = server.serve(&films::clip(&films::PLAIN));
    let probed = sandbox.spool().args(["probe", &format!("{film}?sign=secret"), "--json"]).output().unwrap();
    assert!(probed.status.success(), "{}", String::from_utf8_lossy(&probed.stderr));
    assert!(server.queries().contains(&"sign=secret".to_owned()), "the query is sent as it is");
}

#[test]
fn a_source_that_changes_while_it_is_encoded_fails_the_job() {
    let sandbox = Sandbox::new();
    let server = HttpServer::new(Manner::Proper);
    let big = films::clip(&BIG);
    let url = server.serve(&big);
    let seen = server.requests();
    let out = sandbox.path("out.mp4");
    let mut command = encode(&sandbox, &url, out.to_str().unwrap());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One look by the command, then the probe opens it and reads.
    crate::processes::eventually("it reads", || {
        (server.requests() > seen + 2 || child.try_wait().unwrap().is_some()).then_some(())
    });
    server.put("big.mp4", std::fs::read(&big).unwrap(), "\"second\"");
    let ended = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("source_changed") && stderr.contains("big.mp4"), "{stderr}");
    assert!(!out.exists());
}

#[test]
fn a_film_in_s3_is_encoded_into_s3() {
    let sandbox = Sandbox::new();
    let store = S3Store::new();
    let film = films::clip(&films::PLAIN);
    std::fs::create_dir(store.file("in")).unwrap();
    std::fs::copy(&film, store.file("in/a film.mp4")).unwrap();
    let command = |more: &[&str]| {
        let mut command = encode(&sandbox, "s3://films/in/a film.mp4", "s3://films/out/film.mp4");
        store.open_to(&mut command).args(["--index", "s3://films/out/film.json"]).args(more);
        command
    };
    let job = done(&mut command(&[]));
    let here = sandbox.path("here.mp4");
    let local = done(&mut encode(&sandbox, film.to_str().unwrap(), here.to_str().unwrap()));
    assert_eq!(job["output"]["hash"], local["output"]["hash"]);
    assert_eq!(job["output"]["uri"], "s3://films/out/film.mp4");
    assert_eq!(std::fs::read(store.file("out/film.mp4")).unwrap(), std::fs::read(&here).unwrap());
    let table: Value = serde_json::from_slice(&std::fs::read(store.file("out/film.json")).unwrap()).unwrap();
    assert!(!table["keyframes"].as_array().unwrap().is_empty());
    refused(&mut command(&[]), &["out/film.mp4 exists", "-y"]);
    assert_eq!(done(&mut command(&["-y"]))["state"], "done");
    refused(&mut command(&["-n"]), &["-n forbids"]);
}

#[test]
fn a_large_film_goes_to_s3_in_parts_and_appears_whole() {
    let sandbox = Sandbox::new();
    let store = S3Store::new();
    let mut command = encode(&sandbox, films::clip(&BIG).to_str().unwrap(), "s3://films/large.mp4");
    let job = done(store.open_to(&mut command).args(["-crf", "0"]));
    let there = std::fs::read(store.file("large.mp4")).unwrap();
    assert!(there.len() > 16 << 20, "{} bytes go in one part", there.len());
    assert_eq!(blake3::hash(&there).to_hex().to_string(), job["output"]["hash"].as_str().unwrap());
    let left: Vec<_> = files_under(&store.file("")).into_iter().filter(|file| file.ends_with("large.mp4")).collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn s3_without_the_right_credentials_says_what_to_give() {
    let sandbox = Sandbox::new();
    let store = S3Store::new();
    let mut wrong = sandbox.spool();
    store.open_to(&mut wrong).env("AWS_SECRET_ACCESS_KEY", "wrong").args(["probe", "s3://films/film.mp4"]);
    let told = refused(&mut wrong, &["may not be read", "AWS_ACCESS_KEY_ID"]);
    assert!(!told.contains("wrong"), "{told}");
    let mut denied = encode(&sandbox, films::clip(&films::PLAIN).to_str().unwrap(), "s3://films/film.mp4");
    let denied = store.open_to(&mut denied).env("AWS_SECRET_ACCESS_KEY", "wrong");
    refused(denied, &["output_unwritable", "may not be written", "AWS_ACCESS_KEY_ID"]);
    let mut missing = sandbox.spool();
    refused(store.open_to(&mut missing).args(["probe", "s3://films/none.mp4"]), &["does not exist"]);
}

/// What a worker on another machine finds: nothing at the paths that the server names.
#[test]
fn a_worker_that_does_not_see_the_servers_disk_makes_the_same_film() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let mark = fleet.data().join("artifacts.mark");
    std::fs::remove_file(&mark).expect("the server leaves a mark beside its artifacts");
    let film = films::clip(&films::PLAIN);
    let (there, here) = (fleet.sandbox.path("there.mp4"), fleet.sandbox.path("here.mp4"));
    let job = fleet.submit(&film, &there, FAST);
    let _worker = Guarded::spawn(
        fleet
            .sandbox
            .spool()
            .args(["worker", "--server", &fleet.url(), "--slots", "2", "--name", "far", "--data"])
            .arg(fleet.sandbox.path("elsewhere"))
            .stdout(Stdio::null()),
    );
    let view = fleet.finished(&job);
    assert_eq!(view["state"], "done", "{}", view["failure"]);
    let local = fleet.sandbox.encode(&film, &here, FAST);
    assert_eq!(view["output"]["hash"], local["output"]["hash"]);
    assert_eq!(std::fs::read(&there).unwrap(), std::fs::read(&here).unwrap());
    let tasks = view["tasks"].as_array().unwrap();
    let artifacts = tasks.iter().flat_map(|task| task["answer"]["artifacts"].as_array().into_iter().flatten());
    let uris: Vec<_> = artifacts.map(|artifact| artifact["uri"].as_str().unwrap()).collect();
    assert!(uris.len() > 3 && uris.iter().all(|uri| uri.starts_with(&format!("spool://{job}/"))), "{uris:?}");
    assert!(files_under(&fleet.data().join("artifacts")).is_empty(), "pieces go with the job");
}

#[test]
fn a_title_is_packaged_into_s3_playlists_last() {
    let sandbox = Sandbox::new();
    let store = S3Store::new();
    let job = sandbox.path("job.yaml");
    let text = format!(
        "apiVersion: spool/v1\nkind: Job\nspec:\n  input: {}\n  output: s3://films/package\n  video: [{{name: v, codec: libx264, height: 90, preset: ultrafast}}]\n  packages: [hls]\n  chunking: {{segment: 4s, gop: 2s}}\n",
        films::clip(&films::PLAIN).display()
    );
    std::fs::write(&job, text).unwrap();
    for _ in 0..2 {
        let mut command = sandbox.spool();
        let output = store.open_to(&mut command).arg("submit").arg(&job).arg("--json").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let master = std::fs::read_to_string(store.file("package/master.m3u8")).unwrap();
    assert!(master.contains("video/v/playlist.m3u8"), "{master}");
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-select_streams", "v:0", "-show_entries", "stream=nb_read_frames"])
        .args(["-of", "csv=p=0"])
        .arg(store.file("package/master.m3u8"))
        .output()
        .unwrap();
    let frames = films::frame_times(&films::clip(&films::PLAIN)).len();
    assert!(String::from_utf8_lossy(&out.stdout).starts_with(&frames.to_string()), "{out:?}");
}
