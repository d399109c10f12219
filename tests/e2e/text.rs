//! `spool text`.

use std::process::Command;

use crate::films;
use crate::processes::Sandbox;

const SRT: &str =
    "1\n00:00:01,000 --> 00:00:02,500\n<b>One</b> & two\n\n2\n00:00:03,250 --> 00:00:04,000\nTwo lines\nof text\n\n";

#[test]
fn text_of_a_film_and_of_a_file_is_written_as_webvtt_and_subrip() {
    let sandbox = Sandbox::new();
    let (srt, film) = (sandbox.path("in.srt"), sandbox.path("film.mkv"));
    std::fs::write(&srt, SRT).unwrap();
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=5", "-i"])
        .arg(&srt)
        .args(["-map", "0", "-map", "1", "-map", "1", "-c:v", "libx264", "-c:s:0", "ass", "-c:s:1", "srt"])
        .arg(&film)
        .status()
        .unwrap();
    assert!(made.success());
    let text = |arguments: &[&str]| {
        let out = sandbox.spool().arg("text").args(arguments).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let (film, srt) = (film.to_str().unwrap(), srt.to_str().unwrap());
    let vtt = "WEBVTT\n\n00:00:01.000 --> 00:00:02.500\n<b>One</b> &amp; two\n\n00:00:03.250 --> 00:00:04.000\nTwo lines\nof text\n";
    for source in [&[film][..], &[film, "--stream", "2"], &[srt]] {
        let (code, out, error) = text(source);
        assert_eq!((code, out.trim_end()), (Some(0), vtt.trim_end()), "{source:?}: {error}");
        let (_, out, _) = text(&[source, &["--format", "srt"]].concat());
        assert_eq!(out, SRT, "{source:?}");
    }
    let out = sandbox.path("out.srt");
    let to = ["-o", out.to_str().unwrap()];
    assert_eq!(text(&[&[film], &to[..]].concat()).0, Some(0));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), SRT);
    let (code, _, error) = text(&[&[film], &to[..]].concat());
    assert!(code == Some(2) && error.contains("out.srt exists; -y replaces it"), "{error}");
    assert_eq!(text(&[&[film, "-y"], &to[..]].concat()).0, Some(0));

    let plain = films::clip(&films::PLAIN);
    let (code, _, error) = text(&[plain.to_str().unwrap()]);
    assert!(code == Some(2) && error.contains("no subtitles; there are: none"), "{error}");
    let (code, _, error) = text(&[film, "--stream", "0"]);
    assert!(code == Some(2) && error.contains("no subtitles in stream 0; there are: stream 1 (ass"), "{error}");
    let (code, _, error) = text(&[srt, "--stream", "0"]);
    assert!(code == Some(2) && error.contains("has no streams"), "{error}");
}
