//! The services that come with the server, on real films.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::films;
use crate::processes::Fleet;

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
        assert_eq!((&facts["seconds"], &facts["video"][0]["width"]), (&json!(2.0), &json!(320)), "{facts}");
    }

    let odd = fleet.sandbox.path("odd.mkv");
    let pictures = ["-f", "lavfi", "-i", "testsrc2=s=321x180:r=25:d=2,format=yuv444p", "-f", "lavfi", "-i", "sine=d=2"];
    let coded = ["-c:v", "libx264", "-preset", "ultrafast", "-flags", "+ilme+ildct", "-x264-params", "tff=1"];
    let marked = ["-color_trc", "smpte2084", "-color_primaries", "bt2020", "-colorspace", "bt2020nc", "-c:a", "flac"];
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
