//! What callers are given of functions, used as they use it: types and a client in Rust, stubs for rules.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::films;
use crate::processes::{Fleet, Sandbox};

#[rustfmt::skip]
#[allow(dead_code, reason = "made for all callers")]
mod media_probe;
#[rustfmt::skip]
#[allow(dead_code, reason = "made for all callers")]
mod watermark_check;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/watermark-check")
}

fn stub(sandbox: &Sandbox, args: &[&str]) -> String {
    let output = sandbox.spool().args(["function", "stub"]).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn channel(fleet: &Fleet) -> Channel {
    Channel::from_shared(fleet.url()).unwrap().connect().await.unwrap()
}

#[test]
fn the_modules_here_are_what_is_made_now() {
    let sandbox = Sandbox::new();
    let folder = example();
    let made = [
        ("watermark_check.rs", stub(&sandbox, &["--folder", folder.to_str().unwrap(), "--lang", "rust"])),
        ("media_probe.rs", stub(&sandbox, &["media.probe", "--lang", "rust"])),
    ];
    for (file, text) in made {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/stubs").join(file);
        assert!(
            fs::read_to_string(&path).unwrap() == text,
            "{}: write it anew with spool function stub",
            path.display()
        );
    }
}

#[tokio::test]
async fn a_client_that_was_made_calls_a_function_of_the_workers() {
    let fleet = Fleet::new();
    let (_server, _worker) = (fleet.server(), fleet.worker("w1"));
    let channel = channel(&fleet).await;
    let film = films::clip(&films::PLAIN);
    let source = format!("file://{}", film.display());
    let seen = media_probe::call(&channel, std::slice::from_ref(&source), &media_probe::Input::new()).await.unwrap();
    let bytes = i64::try_from(fs::metadata(&film).unwrap().len()).unwrap();
    assert_eq!((seen.bytes, seen.run.worker.as_deref()), (bytes, Some("w1")));
    let video = &seen.streams[0].media;
    assert_eq!(video.r#type, media_probe::OutputStreamsMediaType::Video);
    assert!(video.width.is_some_and(|width| width > 0), "{video:?}");
    // Said again it is the same service, and a job of its own.
    let refused = media_probe::call(&channel, &["file:///no/such/film.mov".into()], &media_probe::Input::new()).await;
    let Err(media_probe::Error::Failed { class, code, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((class.as_str(), code.as_str()), ("input", "source_missing"));
}

#[tokio::test]
async fn a_client_that_was_made_calls_a_function_that_was_pushed() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let Some(_worker) = fleet.function_worker("w1") else { return };
    let channel = channel(&fleet).await;
    let [mark, plain, marked] =
        crate::functions::marked(&fleet.sandbox).map(|path| format!("file://{}", path.display()));
    let of = |film: &str, frames| watermark_check::Input {
        frames: Some(frames),
        corner: Some(watermark_check::InputCorner::BottomRight),
        ..watermark_check::Input::new(mark.clone(), film.to_owned())
    };
    let server_says = |error: Result<watermark_check::Output, watermark_check::Error>, what: &str| match error {
        Err(watermark_check::Error::Server(status)) => assert!(status.message().contains(what), "{status:?}"),
        other => panic!("{other:?}"),
    };
    server_says(watermark_check::call(&channel, &of(&plain, 6)).await, "no function");
    assert!(fleet.client(&["function", "push", example().to_str().unwrap()]).status.success());
    server_says(watermark_check::call(&channel, &of(&plain, 0)).await, "frames: 0 is not at least 1");
    for (film, found) in [(&plain, false), (&marked, true)] {
        let seen = watermark_check::call(&channel, &of(film, 6)).await.unwrap();
        assert_eq!((seen.found, seen.frames.len()), (found, 6), "{seen:?}");
    }
    let job = watermark_check::submit(&channel, &of("file:///dev/null", 6)).await.unwrap();
    let Err(watermark_check::Error::Failed { job: failed, class, .. }) = watermark_check::wait(&channel, &job).await
    else {
        panic!("nothing is no film")
    };
    assert_eq!((failed, class.as_str()), (job, "input"));
}

const SERVICE: &str = r#"
load("@spool/functions.star", "media")
load("stubs/lengths.star", "lengths")

service(name = "both", version = "1", input = {"film": uri()})

rule(
    name = "both",
    match = [fact("input", as_ = "i")],
    action = lambda i: [media.probe(key = "film", inputs = [i.film]), lengths(key = "bytes", file = i.film)],
    reaction = lambda results: [result([results[0].bytes, results[1].bytes])],
)
"#;

#[test]
fn rules_call_by_stubs_and_are_told_what_is_wrong_with_them() {
    let fleet = Fleet::new();
    let _server = fleet.server();
    let Some(_worker) = fleet.function_worker("w1") else { return };
    let function = crate::functions::lengths(&fleet.sandbox, "1.0", "");
    assert!(fleet.client(&["function", "push", function.to_str().unwrap()]).status.success());
    let folder = fleet.sandbox.path("both");
    fs::create_dir_all(folder.join("stubs")).unwrap();
    let made = fleet.client(&["function", "stub", "lengths@1.0"]);
    fs::write(folder.join("stubs/lengths.star"), &made.stdout).unwrap();
    let check = |text: &str| {
        fs::write(folder.join("main.star"), text).unwrap();
        let output = fleet.sandbox.spool().args(["service", "check", "--json"]).arg(&folder).output().unwrap();
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), found["problems"].clone())
    };
    let (code, found) = check(&SERVICE.replace("file = i.film", "flie = i.film"));
    assert_eq!((code, &found[0]["code"], &found[0]["line"]), (Some(1), &json!("bad_arguments"), &json!(10)), "{found}");
    let refused = fleet.client(&["service", "push", folder.to_str().unwrap()]);
    let said = String::from_utf8([refused.stdout, refused.stderr].concat()).unwrap();
    assert!(refused.status.code() == Some(1) && said.contains("lengths takes no flie; file may be meant"), "{said}");
    let (code, found) = check(SERVICE);
    assert_eq!((code, &found), (Some(0), &json!([])));
    assert!(fleet.client(&["service", "push", folder.to_str().unwrap()]).status.success());
    let film = films::clip(&films::PLAIN);
    let input = json!({ "film": film }).to_string();
    let output = fleet.client(&["submit", "--service", "both", "--input", &input]);
    let bytes = fs::metadata(&film).unwrap().len();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result, json!([bytes, bytes]), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn functions_of_the_workers_are_shown_without_being_pushed() {
    let sandbox = Sandbox::new();
    let output = sandbox.spool().args(["function", "get", "media.encode", "--json"]).output().unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&shown["function"], &shown["built_in"]), (&json!("media.encode"), &json!(true)));
    assert_eq!((&shown["input"]["chunk"], &shown["resources"]["memory"]), (&json!({"type": "int"}), &json!(3072)));
    assert_eq!(shown["shapes"].as_array().unwrap().len(), 12, "three sizes of four encoders");
    let stub = sandbox.spool().args(["function", "stub", "media.encode"]).output().unwrap();
    assert_eq!(stub.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&stub.stderr).contains("load(\"@spool/functions.star\", \"media\")"));
    let text = sandbox.spool().args(["function", "get", "media.encode"]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("function: media.encode") && text.contains("codec: libx265"), "{text}");
    let fleet = Fleet::new();
    let _server = fleet.server();
    let listed = String::from_utf8(fleet.client(&["function", "list"]).stdout).unwrap();
    let row = listed.lines().find(|line| line.starts_with("media.probe ")).unwrap_or_default();
    assert!(row.contains("built in"), "{listed}");
    let pushed = fleet.client(&["function", "list", "--pushed", "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&pushed.stdout).unwrap(), json!([]));
}
