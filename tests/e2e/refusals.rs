//! What cannot be done is refused by name.

use crate::films;
use crate::processes::Sandbox;

fn refused(options: &[&str], code: i32, expected: &[&str]) {
    let sandbox = Sandbox::new();
    let film = films::clip(&films::PLAIN);
    let output =
        sandbox.spool().arg("encode").arg(&film).arg("-o").arg(sandbox.path("out.mp4")).args(options).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{options:?}: {stderr}");
    for text in expected {
        assert!(stderr.contains(text), "{options:?} should name {text:?}: {stderr}");
    }
    assert!(!sandbox.path("out.mp4").exists());
}

#[test]
fn bad_values_are_refused_with_the_option_and_its_range() {
    refused(&["-crf", "99"], 2, &["crf", "51"]);
    refused(&["-c:v", "h265"], 2, &["c:v", "libx265"]);
    refused(&["-vf", "scale=320:-2,hue=s=0"], 2, &["hue"]);
    refused(&["-preset", "quick"], 2, &["preset", "quick"]);
    refused(&["-x264-params", "ref=4"], 2, &["x264-params"]);
    refused(&["-ss", "9", "-to", "3"], 2, &["-to"]);
}

#[test]
fn odd_sizes_are_refused_with_what_to_do() {
    refused(&["-vf", "scale=321:181", "-preset", "ultrafast"], 1, &["321", "181", "-vf"]);
}

#[test]
fn files_that_are_no_film_fail_as_input() {
    let sandbox = Sandbox::new();
    for (name, content) in
        [("text.mp4", b"not a film".as_slice()), ("empty.mp4", b""), ("list.mp4", b"#EXTM3U\n/etc/hostname\n")]
    {
        let path = sandbox.path(name);
        std::fs::write(&path, content).unwrap();
        let output = sandbox.spool().arg("encode").arg(&path).arg("-o").arg(sandbox.path("out.mp4")).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {stderr}");
        assert!(stderr.contains("input"), "{name}: {stderr}");
    }
}
