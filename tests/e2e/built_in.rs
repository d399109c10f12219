//! The services that come with the server, on real films.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::films;
use crate::processes::{Fleet, Guarded, eventually};
use crate::s3::S3Store;

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn submit(fleet: &Fleet, service: &str, input: &Value) -> Output {
    fleet.client(&["submit", "--service", service, "--input", &input.to_string()])
}

/// The result of a job that is to be done well.
fn run(fleet: &Fleet, service: &str, input: &Value) -> Value {
    let output = submit(fleet, service, input);
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn ffmpeg(options: &[&str], out: &std::path::Path) {
    let made = Command::new("ffmpeg").args(["-v", "error", "-nostdin", "-y"]).args(options).arg(out).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
}

fn codes(result: &Value) -> Vec<&str> {
    result["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

#[test]
fn inspect_says_what_a_source_is_and_what_is_odd_about_it() {
    let fleet = Fleet::new();
    let (_server, _worker) = (fleet.server(), fleet.worker("w1"));
    let silent = fleet.sandbox.path("silent.mp4");
    ffmpeg(&["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2", "-c:v", "libx264", "-preset", "ultrafast"], &silent);
    for deep in [false, true] {
        let result = run(&fleet, "inspect", &json!({"source": silent, "deep": deep}));
        assert_eq!((&result["ok"], codes(&result)), (&json!(true), vec!["no_sound"]), "{result}");
        let facts = &result["facts"];
        assert_eq!((&facts["seconds"], &facts["video"][0]["width"]), (&json!(2), &json!(320)), "{facts}");
    }

    let odd = fleet.sandbox.path("odd.mov");
    let pictures = ["-f", "lavfi", "-i", "testsrc2=s=321x180:r=25:d=2,format=yuv444p", "-f", "lavfi", "-i", "sine=d=2"];
    let coded = ["-c:v", "libx264", "-preset", "ultrafast", "-flags", "+ilme+ildct", "-x264-params", "tff=1"];
    let marked = ["-color_trc", "smpte2084", "-color_primaries", "bt2020", "-colorspace", "bt2020nc", "-c:a", "aac"];
    ffmpeg(&[&pictures[..], &coded, &marked].concat(), &odd);
    let result = run(&fleet, "inspect", &json!({"source": odd, "max_seconds": 1}));
    assert_eq!(result["ok"], false, "{result}");
    assert_eq!(codes(&result), ["too_long", "odd_size", "interlaced", "hdr", "no_language"], "{result}");

    let output = submit(&fleet, "inspect", &json!({"source": odd, "max_seconds": 1, "strict": true}));
    let said = text(&output);
    assert!(!output.status.success() && said.contains("too_long") && said.contains("raise max_seconds"), "{said}");
}

#[test]
fn inspect_finds_files_that_are_no_films() {
    let fleet = Fleet::new();
    let (_server, _worker) = (fleet.server(), fleet.worker("w1"));
    let none = fleet.sandbox.path("none.mp4");
    std::fs::write(&none, "no film").unwrap();
    let result = run(&fleet, "inspect", &json!({"source": none}));
    assert_eq!((&result["ok"], codes(&result)), (&json!(false), vec!["not_media"]), "{result}");
    let film = films::clip(&films::PLAIN);
    let result = run(&fleet, "inspect", &json!({"source": film, "strict": true}));
    assert_eq!(result["ok"], true, "{result}");
}

/// Submits a job that has no end.
fn stand(fleet: &Fleet, service: &str, input: &Value) -> String {
    let output = fleet.client(&["submit", "--service", service, "--detach", "--input", &input.to_string()]);
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn tell(fleet: &Fleet, job: &str, name: &str, payload: &Value) {
    let output = fleet.client(&["job", "signal", job, name, "--payload", &payload.to_string()]);
    assert!(output.status.success(), "{}", text(&output));
}

fn facts(fleet: &Fleet, job: &str, kind: &str) -> Vec<Value> {
    let output = fleet.client(&["job", "facts", job, "--kind", kind, "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn children(fleet: &Fleet, job: &str) -> Vec<Value> {
    let output = fleet.client(&["job", "tree", job, "--json"]);
    let tree: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    tree["children"].as_array().cloned().unwrap_or_default()
}

#[test]
fn their_own_tests_pass() {
    let fleet = Fleet::new();
    let services = std::fs::read_dir(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("services")).unwrap();
    for service in services {
        let folder = service.unwrap().path();
        let output = fleet.sandbox.spool().args(["service", "test"]).arg(folder).output().unwrap();
        assert!(output.status.success() && text(&output).contains(" 0 failed"), "{}", text(&output));
    }
}

#[test]
fn clip_makes_a_small_film_soon_and_refuses_what_it_cannot_do() {
    let fleet = Fleet::new();
    let (_server, _worker) = (fleet.server(), fleet.worker("w1"));
    let (film, out) = (films::clip(&films::PLAIN), fleet.sandbox.path("clip.mp4"));
    let result = run(&fleet, "clip", &json!({"source": film, "output": out, "start": 3, "end": 5.5, "height": 90}));
    assert_eq!(result["output"]["frames"], 60, "2.5 s of 24 a second: {result}");
    assert!(result["seconds"].as_f64().unwrap() > 0.0, "{result}");
    let looked = run(&fleet, "inspect", &json!({"source": out}));
    assert_eq!((&looked["facts"]["video"][0]["height"], &looked["ok"]), (&json!(90), &json!(true)), "{looked}");
    assert!((films::duration(&out) - 2.5).abs() < 0.1);
    let encode = fleet.job("j2");
    assert_eq!((&encode["service"], &encode["priority"]), (&json!("video-encode"), &json!(90)), "{encode}");
    // One core is free sooner than all of a worker's at once.
    let chunks = encode["tasks"].as_array().unwrap().iter().filter(|task| task["function"] == "media.encode");
    let cores: Vec<&Value> = chunks.map(|task| &task["resources"]["cpu"]).collect();
    assert!(!cores.is_empty() && cores.iter().all(|cpu| **cpu == 1000), "{cores:?}");

    let output = submit(&fleet, "clip", &json!({"source": film, "output": out, "start": 5, "end": 3}));
    let said = text(&output);
    assert!(!output.status.success() && said.contains("end (3 s) is not after start (5 s)"), "{said}");
    let output = submit(&fleet, "clip", &json!({"source": film, "output": out, "start": 5}));
    assert!(!output.status.success() && text(&output).contains("output_exists"), "{}", text(&output));
}

/// A server that is killed while titles are encoded: each is encoded once, and all of them are.
#[test]
fn reencode_brings_a_catalogue_up_to_date_once_and_keeps_what_is_better() {
    let fleet = Fleet::new();
    let mut server = fleet.server();
    let _worker = fleet.worker("w1");
    let source = films::clip(&films::PLAIN);
    let spec = json!({"container": "mp4", "chunk": 2_000_000, "video": {"codec": "libx264", "crf": 45, "preset": "ultrafast"}});
    let job = stand(&fleet, "reencode", &json!({"budget": 2}));
    let mut sizes = Vec::new();
    for name in ["a", "b", "c"] {
        let film = fleet.sandbox.path(&format!("{name}.mp4"));
        let coded = ["-c:v", "libx264", "-crf", "45", "-preset", "ultrafast", "-an"];
        ffmpeg(&[&["-i", source.to_str().unwrap()][..], &coded].concat(), &film);
        sizes.push(std::fs::metadata(&film).unwrap().len());
        tell(&fleet, &job, "title", &json!({"id": name, "source": source, "output": film, "version": 1, "spec": spec}));
    }
    tell(&fleet, &job, "recipe", &json!({"version": 2, "video": {"crf": 18}}));
    eventually("one is under way", || (!children(&fleet, &job).is_empty()).then_some(()));
    server.kill();
    server = fleet.server();
    let titles = |recipe: i64| {
        eventually("all were considered", || {
            let titles = facts(&fleet, &job, "title");
            let done = |t: &Value| t["considered"] == recipe && t["state"] == "waits";
            (titles.len() == 3 && titles.iter().all(done)).then_some(titles)
        })
    };
    for title in titles(2) {
        assert_eq!((&title["version"], &title["problem"]), (&json!(2), &Value::Null), "{title}");
        assert!(title["score"].as_f64().unwrap() > 38.0, "{title}");
    }
    assert_eq!(children(&fleet, &job).len(), 3, "each was encoded once");
    let new: Vec<_> = ["a.mp4", "b.mp4", "c.mp4"].map(|name| std::fs::read(fleet.sandbox.path(name)).unwrap()).into();
    assert!(new.iter().zip(&sizes).all(|(new, old)| new.len() as u64 > *old), "finer films are larger");

    tell(&fleet, &job, "recipe", &json!({"version": 3, "video": {"crf": 51}}));
    for title in titles(3) {
        assert_eq!((&title["version"], &title["kept"]["recipe"]), (&json!(2), &json!(3)), "{title}");
        assert!(title["kept"]["new"].as_f64() < title["kept"]["old"].as_f64(), "{title}");
    }
    for (name, new) in ["a.mp4", "b.mp4", "c.mp4"].iter().zip(new) {
        assert_eq!(std::fs::read(fleet.sandbox.path(name)).unwrap(), new, "{name} is what it was");
    }
    drop(server);
}

#[test]
fn watch_takes_each_film_once_also_after_a_restart() {
    let fleet = Fleet::new();
    let mut server = fleet.server();
    let _worker = fleet.worker("w1");
    let folder = fleet.sandbox.path("in");
    let template = json!({"source": "{uri}", "strict": true});
    let job =
        stand(&fleet, "watch", &json!({"folder": folder, "every": 1, "service": "inspect", "template": template}));
    let summary = |what: &str, holds: &dyn Fn(&Value) -> bool| {
        eventually(what, || facts(&fleet, &job, "summary").into_iter().next().filter(|summary| holds(summary)))
    };
    let away = summary("it says that the folder is not there", &|s| !s["problem"].is_null());
    assert!(away["problem"].as_str().unwrap().starts_with("source_missing"), "{away}");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(films::clip(&films::PLAIN), folder.join("a film.mp4")).unwrap();
    std::fs::write(folder.join("none.mov"), "no film").unwrap();
    std::fs::write(folder.join("notes.txt"), "no film").unwrap();
    let both = summary("both have ended", &|s| s["done"] == 1 && s["failed"] == 1);
    assert_eq!((&both["taken"], &both["files"], &both["problem"]), (&json!(2), &json!(2), &Value::Null), "{both}");
    assert_eq!(facts(&fleet, &job, "failure")[0]["code"], "not_media");

    server.kill();
    server = fleet.server();
    std::fs::copy(films::clip(&films::PLAIN), folder.join("next.mp4")).unwrap();
    let all = summary("the next was taken", &|s| s["done"] == 2);
    assert_eq!((&all["taken"], &all["failed"]), (&json!(3), &json!(1)), "{all}");
    let names: Vec<_> = children(&fleet, &job).iter().map(|child| child["name"].clone()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    drop(server);
}

/// The worker has the store's keys; who submits has none.
#[test]
fn watch_takes_the_films_of_a_bucket() {
    let (fleet, store) = (Fleet::new(), S3Store::new());
    let _server = fleet.server();
    let _worker = Guarded::spawn(store.open_to(&mut fleet.worker_command("w1", 2)));
    let put = |key: &str| {
        let file = store.file(key);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::copy(films::clip(&films::PLAIN), file).unwrap();
    };
    for key in ["in/a film.mp4", "in/2026/deep.mp4", "in/notes.txt", "inside/no.mp4", "other.mp4"] {
        put(key);
    }
    let template = json!({"source": "{uri}", "strict": true});
    let input =
        json!({"folder": "s3://films/in", "recursive": true, "every": 1, "service": "inspect", "template": template});
    let job = stand(&fleet, "watch", &input);
    let summary = |what: &str, holds: &dyn Fn(&Value) -> bool| {
        eventually(what, || facts(&fleet, &job, "summary").into_iter().next().filter(|summary| holds(summary)))
    };
    let both = summary("both films of the prefix were taken", &|s| s["done"] == 2);
    assert_eq!((&both["files"], &both["failed"]), (&json!(2), &json!(0)), "{both}");
    let mut names: Vec<_> = children(&fleet, &job).iter().map(|child| child["name"].to_string()).collect();
    names.sort();
    assert_eq!(names, [r#""a film.mp4""#, r#""deep.mp4""#]);

    put("in/late.mp4");
    let all = summary("what came later was taken", &|s| s["done"] == 3);
    assert_eq!((&all["taken"], &all["failed"]), (&json!(3), &json!(0)), "{all}");
}
