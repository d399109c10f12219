//! Text drawn into the film by executors behind their walls, against one `ffmpeg` with its `subtitles` filter.

use std::path::Path;
use std::process::Command;

use crate::films;
use crate::processes::Sandbox;

const LOSSLESS: &[&str] = &["-c:v", "libx264", "-preset", "ultrafast", "-crf", "0", "-g", "24", "-an"];
/// Lines that overlap where the film is cut.
const SRT: &str = "1\n00:00:00,500 --> 00:00:02,900\nOne\n\n2\n00:00:01,700 --> 00:00:04,300\nTwo — ščř\n\n\
     3\n00:00:04,300 --> 00:00:07,111\nThree\n\n4\n00:00:06,001 --> 00:00:11,017\nFour\n\n";

fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg").args(["-v", "error", "-y"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The hash of each decoded picture.
fn pictures(film: &Path) -> Vec<String> {
    let text =
        ffmpeg(&["-i", film.to_str().unwrap(), "-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5", "-"]);
    let text = String::from_utf8(text).unwrap();
    text.lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

#[test]
fn text_is_drawn_behind_the_walls_as_by_ffmpeg() {
    let plain = films::clip(&films::PLAIN);
    let sandbox = Sandbox::new();
    // A name that must be quoted twice.
    let (srt, film, ours, theirs) =
        (sandbox.path("it's, [1].srt"), sandbox.path("film.mkv"), sandbox.path("ours.mp4"), sandbox.path("theirs.mp4"));
    std::fs::write(&srt, SRT).unwrap();
    let (plain, srt) = (plain.to_str().unwrap(), srt.to_str().unwrap());
    ffmpeg(&["-i", plain, "-i", srt, "-map", "0:v", "-map", "1", "-c", "copy", film.to_str().unwrap()]);
    let film = film.to_str().unwrap();
    let name = srt.replace('\'', "\\\\\\'").replace(',', "\\,").replace('[', "\\[").replace(']', "\\]");
    let undrawn = pictures(Path::new(plain));
    for (source, chain, clips) in [
        (plain, format!("scale=480:270,subtitles={name}"), &[][..]),
        (film, format!("subtitles={film}:si=0,hflip"), &[]),
        (film, format!("subtitles={film}:si=0"), &["--clip", "6-9", "--clip", "2-4"]),
    ] {
        let mut options = [LOSSLESS, &["-sn", "-y", "-vf", &chain, "--chunk", "1s"]].concat();
        options.extend(clips);
        let job = sandbox.encode(Path::new(source), &ours, &options);
        assert!(job["output"]["chunks"].as_array().unwrap().len() > 3, "{chain}");
        let graph = match clips {
            [] => format!("[0:v]{chain}[v]"),
            _ => format!(
                "[0:v]{chain},split[a][b];[a]trim=6:9,setpts=PTS-STARTPTS[c];[b]trim=2:4,setpts=PTS-STARTPTS[d];[c][d]concat[v]"
            ),
        };
        let to = theirs.to_str().unwrap();
        ffmpeg(&[&["-i", source, "-filter_complex", &graph, "-map", "[v]"], LOSSLESS, &[to]].concat());
        let (ours, theirs) = (pictures(&ours), pictures(&theirs));
        assert_eq!(ours.len(), theirs.len(), "{chain}");
        let different: Vec<usize> = (0..ours.len()).filter(|n| ours[*n] != theirs[*n]).collect();
        assert!(different.is_empty(), "{chain} {clips:?}: frames {different:?}");
        assert!(ours.iter().any(|picture| !undrawn.contains(picture)), "{chain}: something is drawn");
    }
    sandbox.assert_nothing_left();
}

#[test]
fn what_cannot_be_drawn_is_refused_by_name() {
    let film = films::clip(&films::PLAIN);
    let sandbox = Sandbox::new();
    let out = sandbox.path("out.mp4");
    for (chain, says) in [
        ("subtitles=none.srt", "none.srt: there is no such file"),
        ("subtitles=si=0", "has 0 subtitle streams"),
        ("subtitles,subtitles", "taken once"),
        ("subtitles=force_style=Size=4", "FontSize"),
        ("subtitles=fontsdir=x", "fontsdir"),
    ] {
        let run = sandbox.spool().arg("encode").arg(&film).arg("-o").arg(&out).args(["-vf", chain]).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(!run.status.success() && said.contains(says), "{chain}: {said}");
        assert!(!out.exists());
    }
}
