//! Sound and subtitles through the whole of a job.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::processes::Sandbox;

/// A film with surround and stereo sound in two languages, and SubRip text.
fn source(sandbox: &Sandbox) -> PathBuf {
    let (text, film) = (sandbox.path("text.srt"), sandbox.path("source.mkv"));
    std::fs::write(&text, "1\n00:00:01,000 --> 00:00:02,500\nOne\n\n2\n00:00:03,000 --> 00:00:04,000\nTwo\n").unwrap();
    let surround =
        "aevalsrc=0.1*sin(440*t)|0.1*sin(523*t)|0.2*sin(660*t)|0.1*sin(80*t)|0.1*sin(300*t)|0.1*sin(350*t):c=5.1:d=6";
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "testsrc=d=6:s=160x90:r=25", "-f", "lavfi", "-i", surround])
        .args(["-f", "lavfi", "-i", "sine=d=6:r=44100,aformat=channel_layouts=stereo", "-i"])
        .arg(&text)
        .args("-map 0 -map 1 -map 2 -map 3 -c:v libx264 -preset ultrafast -c:a flac -c:s srt".split(' '))
        .args("-metadata:s:a:0 language=eng -metadata:s:a:1 language=deu -metadata:s:s:0 language=fra".split(' '))
        .arg(&film)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    film
}

fn streams(film: &Path) -> Vec<String> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "stream=codec_name,sample_rate,channel_layout:stream_tags=language"])
        .args(["-of", "csv=p=0"])
        .arg(film)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.trim_end_matches(',').to_owned()).collect()
}

#[test]
fn each_track_has_its_own_codec_layout_and_language() {
    let sandbox = Sandbox::new();
    let film = source(&sandbox);
    let out = sandbox.path("out.mp4");
    let tracks = "-map 0:v -map 0:a:0 -map 0:a:0 -map 0:a:1 -map 0:s -c:v libx264 -preset ultrafast -c:a aac -ac 2 -b:a 128k \
                  -c:a:1 ac3 -channel_layout:a:1 5.1(side) -b:a:1 384k -c:a:2 libmp3lame";
    sandbox.encode(&film, &out, &tracks.split_whitespace().collect::<Vec<_>>());
    assert_eq!(
        streams(&out),
        ["h264,und", "aac,44100,stereo,eng", "ac3,44100,5.1(side),eng", "mp3,44100,stereo,deu", "mov_text,fra"]
    );
    sandbox.assert_nothing_left();
}

#[test]
fn text_goes_into_webm_as_webvtt() {
    let sandbox = Sandbox::new();
    let film = source(&sandbox);
    let out = sandbox.path("out.webm");
    let options = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus --loudness -23";
    sandbox.encode(&film, &out, &options.split(' ').collect::<Vec<_>>());
    let found = streams(&out);
    assert!(found[1].starts_with("opus,48000"), "{found:?}");
    assert_eq!(found[2], "webvtt,fra");
}
