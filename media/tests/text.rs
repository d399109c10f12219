//! Subtitles as a WebVTT file, against the one ffmpeg writes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod film;

use std::path::{Path, PathBuf};

use common::{call, corpus, ffmpeg};
use film::{probe_lines, spec};
use spool_proto::call::{Args, CueTimes, TextArgs, TextManifest, Value};
use spool_proto::failure::{Failure, Warning};
use spool_proto::spec::{Container, Subtitles, Trim, parse};
use spool_proto::time::Span;

const SRT: &str = "1\n00:00:01,000 --> 00:00:02,500\n<b>One</b>\n\n2\n00:00:02,250 --> 00:00:04,000\nTwo <i>three</i>\nZwölf\n\n\
                   3\n00:00:04,033 --> 00:00:04,900\n<font color=\"#ff0000\">red</font>\n";

fn text(source: &Path, stream: Option<u32>, trim: Trim) -> Result<(String, TextManifest, Vec<Warning>), Failure> {
    let mut of = spec(Container::Mp4, None);
    (of.trim, of.subtitles) = (trim, Subtitles::Auto);
    of.video = Some(serde_json::from_value(serde_json::json!({ "codec": "libx264" })).unwrap());
    let (product, _host) = call(&Args::Text(TextArgs { spec: of, stream, jumps: Vec::new(), burn: false }), [source])?;
    let file = std::fs::read_to_string(&product.files[0].1).unwrap();
    assert_eq!(product.files[0].0, "text");
    let Value::Text(manifest) = product.value else { panic!("{:?}", product.value) };
    Ok((file, manifest, product.warnings))
}

fn film_with(folder: &Path, codec: &str, extension: &str) -> PathBuf {
    let srt = folder.join("text.srt");
    std::fs::write(&srt, SRT).unwrap();
    let path = folder.join(format!("film_{codec}.{extension}"));
    let lavfi = "-f lavfi -i testsrc=d=6:s=64x64";
    ffmpeg(
        &format!("{lavfi} -i {} -map 0 -map 1 -c:v mpeg4 -c:s {codec} -metadata:s:s:0 language=deu", srt.display()),
        &path,
    );
    path
}

/// Time, length and bytes of each cue, as ffprobe reads a WebVTT file.
fn cues(path: &Path) -> Vec<String> {
    probe_lines("-show_data_hash adler32 -show_entries packet=pts,duration,size,data_hash -of csv=p=0", path)
}

#[test]
fn a_films_text_is_the_file_ffmpeg_makes_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours.vtt"), folder.path().join("theirs.vtt"));
    for (codec, extension) in [("subrip", "mkv"), ("ass", "mkv"), ("webvtt", "mkv"), ("mov_text", "mp4")] {
        let source = film_with(folder.path(), codec, extension);
        for (arguments, start, duration) in
            [("", None, None), ("-ss 2.1", Some("2.1"), None), ("-ss 1 -t 3", Some("1"), Some("3"))]
        {
            let time = |text: &str| parse::time(text).unwrap();
            let trim = Trim { start: start.map(time), duration: duration.map(time) };
            let (file, manifest, warnings) = text(&source, Some(1), trim).unwrap();
            println!("{codec} {arguments}\n{file}");
            std::fs::write(&ours, &file).unwrap();
            ffmpeg(&format!("-i {} -map 0:1 {arguments} -c:s webvtt", source.display()), &theirs);
            let found = cues(&ours);
            assert_eq!(found, cues(&theirs), "{codec} {arguments}");
            assert_eq!((found.len(), warnings), (manifest.cues.len(), vec![]));
            assert_eq!(manifest.language.as_deref(), Some("deu"));
            for (line, cue) in found.iter().zip(&manifest.cues) {
                let numbers: Vec<i64> = line.split(',').take(2).map(|n| n.parse().unwrap()).collect();
                let ms = |us: i64| (us + 500) / 1000;
                assert_eq!((ms(cue.start_us), ms(cue.end_us)), (numbers[0], numbers[0] + numbers[1]));
            }
        }
    }
}

#[test]
fn files_beside_the_film_are_read_in_any_usual_encoding() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("utf8.srt"), SRT).unwrap();
    let utf16: Vec<u8> = "\u{feff}".encode_utf16().chain(SRT.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    std::fs::write(at("utf16.srt"), utf16).unwrap();
    let latin: Vec<u8> = SRT.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    std::fs::write(at("latin.srt"), latin).unwrap();
    ffmpeg(&format!("-i {}", at("utf8.srt").display()), &at("styled.ass"));
    let (plain, manifest, warnings) = text(&at("utf8.srt"), None, Trim::default()).unwrap();
    assert!(plain.contains("Zwölf") && plain.starts_with("WEBVTT\n\n00:00:01.000 --> 00:00:02.500\n"), "{plain}");
    assert_eq!(manifest.cues.first(), Some(&CueTimes { start_us: 1_000_000, end_us: 2_500_000 }));
    assert_eq!((manifest.cues.len(), warnings), (3, vec![]));
    assert_eq!(text(&at("utf16.srt"), None, Trim::default()).unwrap().0, plain);
    let (same, _, warnings) = text(&at("latin.srt"), None, Trim::default()).unwrap();
    assert_eq!(same, plain);
    assert_eq!(warnings.iter().map(|w| w.code.as_str()).collect::<Vec<_>>(), ["text_encoding_guessed"]);
    std::fs::write(at("again.vtt"), &plain).unwrap();
    assert_eq!(text(&at("again.vtt"), None, Trim::default()).unwrap().0, plain, "read again it is the same");
    // ASS counts hundredths.
    assert_eq!(text(&at("styled.ass"), None, Trim::default()).unwrap().1.cues.len(), 3);
    let trim = Trim { start: Some(Span::from_secs(2)), duration: None };
    let (_, late, _) = text(&at("utf8.srt"), None, trim).unwrap();
    assert_eq!(late.cues.first(), Some(&CueTimes { start_us: 250_000, end_us: 2_000_000 }));
}

#[test]
fn voices_and_places_of_webvtt_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let vtt = folder.path().join("in.vtt");
    let file = "WEBVTT\n\n00:00:01.000 --> 00:00:02.000 line:0 align:start\n<v Ann>Hello <c.loud>there</c>\n";
    std::fs::write(&vtt, file).unwrap();
    assert_eq!(text(&vtt, None, Trim::default()).unwrap().0, file);
}

#[test]
fn what_is_no_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let junk = folder.path().join("junk.srt");
    let video = film_with(folder.path(), "subrip", "mkv");
    for (bytes, code) in [(&b"no subtitles in here"[..], "not_text"), (b"", "not_text"), (&[0xff; 4000], "not_text")] {
        std::fs::write(&junk, bytes).unwrap();
        let failure = text(&junk, None, Trim::default()).map(|_| ()).unwrap_err();
        assert_eq!((failure.class.name(), failure.code.as_str()), ("input", code), "{failure:?}");
    }
    assert_eq!(text(&video, None, Trim::default()).map(|_| ()).unwrap_err().code, "not_text", "a film is no text");
    assert_eq!(text(&video, Some(0), Trim::default()).map(|_| ()).unwrap_err().code, "wrong_stream");
    assert_eq!(text(&video, Some(9), Trim::default()).map(|_| ()).unwrap_err().code, "no_such_stream");
}

#[test]
fn films_of_the_corpus_have_their_text() {
    let Some(source) = corpus("odd/mkv__full_3audio_2subs_chapters_font.mkv") else {
        eprintln!("skipped: the film is not here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours.vtt"), folder.path().join("theirs.vtt"));
    let streams = probe_lines("-select_streams s -show_entries stream=index -of csv=p=0", &source);
    assert!(!streams.is_empty());
    for stream in streams.iter().map(|line| line.trim_end_matches(',').parse::<u32>().unwrap()) {
        let (file, _, _) = text(&source, Some(stream), Trim::default()).unwrap();
        std::fs::write(&ours, &file).unwrap();
        ffmpeg(&format!("-i {} -map 0:{stream} -c:s webvtt", source.display()), &theirs);
        let times = |path: &Path| probe_lines("-show_entries packet=pts,duration -of csv=p=0", path);
        assert_eq!(times(&ours), times(&theirs), "stream {stream}");
    }
}
