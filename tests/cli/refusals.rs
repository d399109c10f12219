//! What is refused is refused before anything is started, by name, with exit 2.

use std::fs;

use crate::{run, stderr, stdout};

#[test]
fn bad_command_lines_name_what_was_wrong_and_end_with_2() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("in.mov"), b"not looked into").expect("written");
    fs::write(dir.path().join("there.mp4"), b"precious").expect("written");
    let cases: &[(&str, &[&str])] = &[
        ("encode in.mov -o out.mp4 -crf 70", &["-crf 70", "libx264 takes 0 to 51"]),
        ("encode in.mov -o out.mp4 -c:v h264", &["h264", "libx264 libx265 libsvtav1 libvpx-vp9"]),
        ("encode in.mov -o out.mp4 -c:v libsvtav1 -preset medium", &["-preset medium", "0 (best) to 13"]),
        ("encode in.mov -o out.webm -c:v libx264", &["-c:v libx264", ".webm"]),
        ("encode in.mov -o out.mp4 -vf drawtext=4", &["\"drawtext\"", "scale, crop, fps, pad, format"]),
        ("encode in.mov -o out.mp4 -vf yadif=mode=half", &["mode", "send_frame, send_field"]),
        ("encode in.mov -o out.mp4 --crop wide", &["wide"]),
        ("encode in.mov -o out.mp4 --overlay none.png", &["none.png", "no such file"]),
        ("encode in.mov -o out.mp4 --overlay in.mov --overlay-at left", &["left", "top-right:16:16"]),
        ("encode in.mov -o out.mp4 -b:v 2x", &["\"2x\"", "bit rate"]),
        ("encode in.mov -o out.mp4 -map 1:v", &["1:v", "one source"]),
        ("encode in.mov -o out.mp4 -x264-params keyint=1", &["-x264-params", "-preset"]),
        ("encode in.mov -o out.mp4 -filter_complex x", &["-filter_complex", "-vf"]),
        ("encode in.mov -o out.mp4 -nonsense", &["-nonsense", "--help"]),
        ("encode in.mov -o out.mp4 -ss 10 -to 5", &["-to 5", "-ss 10"]),
        ("encode in.mov -o out.mp4 -vn -an", &["-vn with -an"]),
        ("encode in.mov -o out.mp4 -vn -crf 20", &["crf"]),
        ("encode in.mov -o out.mp4 --chunk 100ms", &["--chunk 0.1", "500ms"]),
        ("encode in.mov -o out.mp4 --cuts guess", &["guess", "auto index scan"]),
        ("encode in.mov -o out.mp4 --priority 101", &["--priority 101", "100"]),
        ("encode in.mov -o out.avi", &["out.avi", ".mp4, .mov, .mkv, .webm"]),
        ("encode in.mov", &["-o OUT"]),
        ("encode none.mov -o out.mp4", &["none.mov", "no such file"]),
        ("encode in.mov -o no/out.mp4", &["no directory"]),
        ("encode in.mov -o there.mp4", &["there.mp4 exists", "-y"]),
        ("encode in.mov -o there.mp4 -n", &["there.mp4 exists", "-n"]),
        ("encode in.mov -o out.mp4 --detach", &["--server"]),
        ("encode in.mov -o out.mp4 --server ftp://x", &["ftp://x", "http://HOST:PORT"]),
        ("job get nonsense", &["nonsense", "j17"]),
        ("server --data d --listen 0.0.0.0:0", &["0.0.0.0", "--insecure"]),
        ("probe none.mov", &["none.mov"]),
        ("encode in.mov -o out.mp4 --quality mos", &["\"mos\"", "psnr, ssim and vmaf"]),
        ("encode in.mov -o out.mp4 --quality vmaf", &["--quality vmaf", "spool quality"]),
        ("encode in.mov -o out.mp4 -vn --quality ssim", &["--quality with -vn"]),
        ("encode in.mov -o out.mp4 --quality-report q.svg", &["--quality-report", ".json"]),
        ("encode in.mov -o out.mp4 --quality-report in.mov", &["--quality-report", "another file"]),
        ("quality in.mov none.mov", &["none.mov"]),
        ("quality in.mov in.mov --frames 9..3", &["9..3"]),
        ("quality in.mov in.mov --min ssim", &["ssim=0.98"]),
        ("quality in.mov in.mov --metrics psnr --min ssim=0.9", &["--min ssim.mean=0.9", "--metrics"]),
        ("quality in.mov in.mov --chunks in.mov", &["in.mov", "--index"]),
        ("worker --slots 0", &["0"]),
    ];
    for (line, says) in cases {
        let output = run(dir.path(), &line.split(' ').collect::<Vec<_>>());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(stdout(&output).is_empty(), "{line} wrote to stdout: {}", stdout(&output));
        for part in *says {
            assert!(said.contains(part), "{line}: {part:?} is not in {said}");
        }
    }
    assert_eq!(fs::read(dir.path().join("there.mp4")).expect("still there"), b"precious");
    assert!(!dir.path().join("spool/encode").exists(), "a refused command left a run behind");
}

#[test]
fn a_server_that_does_not_answer_ends_with_4() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("in.mov"), b"x").expect("written");
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let url = format!("http://127.0.0.1:{port}");
    for args in
        [&["job", "list"][..], &["worker", "list"], &["job", "watch", "j1"], &["encode", "in.mov", "-o", "o.mp4"]]
    {
        let args: Vec<&str> = args.iter().copied().chain(["--server", &url]).collect();
        let output = run(dir.path(), &args);
        assert_eq!(output.status.code(), Some(4), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(&url) && stderr(&output).contains("spool up"), "{}", stderr(&output));
    }
}

#[test]
fn help_shows_every_option_of_ffmpeg_that_is_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = run(dir.path(), &["encode", "-help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = stdout(&output);
    for option in [
        "--c:v",
        "--crf",
        "--b:v",
        "--maxrate",
        "--bufsize",
        "--preset",
        "--tune",
        "--profile:v",
        "-g",
        "--pix_fmt",
        "--vf",
        "-s",
        "-r",
        "--ss",
        "--to",
        "-t",
        "--vn",
        "--an",
        "--sn",
        "--c:a",
        "--b:a",
        "--ar",
        "--ac",
        "--c:s",
        "--map",
        "--threads",
        "--deadline",
        "--cpu-used",
        "-y",
        "-n",
        "-i",
        "--chunk",
        "--verify",
        "--detach",
        "--json",
        "--progress",
    ] {
        let listed = help.lines().any(|line| line.trim_start().split([' ', ',']).take(3).any(|word| word == option));
        assert!(listed, "{option} is not in the help:\n{help}");
    }
    let all = stdout(&run(dir.path(), &["--help"]));
    for noun in ["encode", "job", "worker", "server", "up", "probe", "quality", "doctor", "bench"] {
        assert!(all.contains(&format!("  {noun} ")), "{noun} is not in the help:\n{all}");
    }
    assert!(!all.contains("exec"), "executors are nobody's business:\n{all}");
}
