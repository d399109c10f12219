//! Text drawn into the pictures: chunk by chunk as by one `subtitles` over the whole film.

use spool_proto::spec::parse::filters_text;
use spool_proto::spec::{BurnIn, Filter};

use super::*;

const SRT: &str = "1\n00:00:00,013 --> 00:00:00,990\nFirst\n\n\
     2\n00:00:00,981 --> 00:00:03,999\nStands <i>above</i> to its end\n\n\
     3\n00:00:01,500 --> 00:00:02,001\nIn between\n\n\
     4\n00:00:03,999 --> 00:00:04,441\nAt once\n\n\
     5\n00:00:04,100 --> 00:00:04,800\nŽluťoučký — two\nlines\n\n\
     6\n00:00:05,200 --> 00:00:05,801\nLast\n\n";

const ASS: &str = "[Script Info]\nScriptType: v4.00+\nPlayResX: 384\nPlayResY: 216\n\n\
     [V4+ Styles]\nFormat: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
     StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding\n\
     Style: Default,DejaVu Serif,22,&H00FFFFFF,&H000000FF,&H00000000,&H80000000,0,0,0,0,100,100,0,0,1,2,1,2,10,10,10,1\n\
     Style: Top,DejaVu Sans,18,&H0000FFFF,&H00FF00FF,&H00000000,&H80000000,-1,0,0,0,100,100,0,0,1,1,0,8,10,10,10,1\n\n\
     [Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n\
     Dialogue: 0,0:00:00.10,0:00:02.50,Default,,0,0,0,,{\\fad(300,400)}One\n\
     Dialogue: 0,0:00:00.90,0:00:04.30,Default,,0,0,0,,{\\t(0,2000,\\fscx150\\fscy150)}Growing\n\
     Dialogue: 0,0:00:02.20,0:00:05.90,Default,,0,0,0,,Third\n\
     Dialogue: 1,0:00:00.00,0:00:06.00,Top,,0,0,0,,{\\pos(100,40)}Sign\n\
     Dialogue: 2,0:00:00.50,0:00:05.50,Top,,0,0,0,,{\\move(10,200,300,20)}Moving\n\
     Dialogue: 0,0:00:03.00,0:00:05.00,Top,,0,0,0,,{\\k50}ka{\\k50}ra{\\k100}oke\n";

impl Films {
    fn text(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// Drawn between `before` and `after`; compared with ffmpeg, which is given `argument`.
fn check_drawn(
    film: &Path,
    burn: &BurnIn,
    (before, after): (&str, &str),
    argument: &str,
    more: (EncodeSpec, &str),
) -> Made {
    let (spec, options) = more;
    let mut chain = parse::filters(before).unwrap();
    chain.push(Filter::Subtitles(burn.clone()));
    chain.extend(parse::filters(after).unwrap());
    let ffmpegs = [before, &format!("subtitles={argument}"), after].map(str::to_owned);
    let ffmpegs = ffmpegs.into_iter().filter(|step| !step.is_empty()).collect::<Vec<_>>().join(",");
    eprintln!("{} through {}", film.display(), filters_text(&chain));
    let video = VideoSpec { filters: chain, gop_frames: Some(20), ..spec.video.clone().unwrap() };
    let spec = EncodeSpec { video: Some(video), chunk: Some(Span::from_millis(500)), ..spec };
    check(film, &spec, &format!("-vf {ffmpegs} -g 20 {options}"))
}

fn file(path: &str) -> BurnIn {
    BurnIn { file: Some(format!("file://{path}")), ..BurnIn::default() }
}

#[test]
fn text_files_are_drawn_as_over_the_whole_film() {
    let films = Films::new();
    let film = films.make("film.mp4", 6, "-c:v libx264 -preset ultrafast -g 20 -bf 2");
    let (srt, ass) = (films.text("film.srt", SRT), films.text("film.ass", ASS));
    let vtt = films.0.path().join("film.vtt");
    ffmpeg(&format!("-i {srt}"), &vtt);
    let vtt = vtt.to_str().unwrap().to_owned();
    for path in [&srt, &ass, &vtt] {
        for around in [("", ""), ("scale=320:180", "hflip"), ("yadif=1", "")] {
            let made = check_drawn(&film, &file(path), around, path, (spec(), ""));
            assert!(chunks(&made) > 5, "{path}: {:?}", made.summary.video.unwrap().unsplit_reason);
        }
    }
    let plain = shown(&encode(&film, &spec()).unwrap());
    let made = check_drawn(&film, &file(&srt), ("", ""), &srt, (spec(), ""));
    let drawn = shown(&made).iter().zip(&plain).filter(|(drawn, plain)| drawn.crc != plain.crc).count();
    assert!((100..150).contains(&drawn), "{drawn} of 150 frames have text");
    // Between the lines and from the text's clock, not the output's.
    let trim = Trim { start: Some(Span::from_millis(1030)), duration: Some(Span::from_millis(3010)) };
    for container in [Container::Mp4, Container::Mkv] {
        let spec = EncodeSpec { trim, container, ..spec() };
        check_drawn(&film, &file(&ass), ("", ""), &ass, (spec, "-ss 1.03 -t 3.01"));
    }
    let slow = EncodeSpec {
        video: Some(VideoSpec { frame_rate: Some(parse::frame_rate("10").unwrap()), ..video() }),
        ..spec()
    };
    check_drawn(&film, &file(&srt), ("", ""), &srt, (slow, "-r 10"));
    let styled =
        BurnIn { style: Some("FontName=DejaVu Sans Mono,FontSize=30,PrimaryColour=&H00FFFF&".into()), ..file(&srt) };
    let argument = format!("{srt}:force_style='FontName=DejaVu\\ Sans\\ Mono,FontSize=30,PrimaryColour=&H00FFFF&'");
    let made = encode(&film, &with(&styled)).unwrap();
    let reference = films.0.path().join("styled.mp4");
    run_ffmpeg(&film, &argument.replace("\\ ", " "), &reference);
    same(&shown(&made), &framecrc(&reference), 1_000_000, "force_style");
}

fn with(burn: &BurnIn) -> EncodeSpec {
    let video = VideoSpec { filters: vec![Filter::Subtitles(burn.clone())], gop_frames: Some(20), ..video() };
    EncodeSpec { video: Some(video), chunk: Some(Span::from_millis(500)), ..spec() }
}

/// With an argument that has spaces.
fn run_ffmpeg(film: &Path, argument: &str, output: &Path) {
    let status = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-i"])
        .arg(film)
        .args(["-an", "-sn", "-vf", &format!("subtitles={argument}"), "-g", "20", "-c:v", "libx264", "-crf", "0"])
        .args(["-preset", "ultrafast"])
        .arg(output)
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn the_sources_own_text_is_drawn() {
    let films = Films::new();
    let plain = films.make("plain.mp4", 6, "-c:v libx264 -preset ultrafast -g 20 -bf 2");
    let (srt, ass) = (films.text("film.srt", SRT), films.text("film.ass", ASS));
    let film = films.0.path().join("film.mkv");
    ffmpeg(&format!("-i {} -i {srt} -i {ass} -map 0 -map 1 -map 2 -c copy", plain.display()), &film);
    let name = film.to_str().unwrap();
    for stream in [0, 1] {
        let burn = BurnIn { stream: Some(stream), ..BurnIn::default() };
        let made = check_drawn(&film, &burn, ("", "hflip"), &format!("{name}:si={stream}"), (spec(), ""));
        assert!(chunks(&made) > 5);
    }
    // Behind fps, pictures are drawn at the times that fps makes.
    let made = check_drawn(&film, &file(&srt), ("fps=30", ""), &srt, (spec(), ""));
    assert_eq!(chunks(&made), 1);
    assert!(made.summary.video.unwrap().unsplit_reason.is_some_and(|reason| reason.contains("in front")));
}

#[test]
fn what_is_no_text_is_refused() {
    let films = Films::new();
    let film = films.make("film.mp4", 1, "-c:v libx264 -preset ultrafast");
    let failure = encode(&film, &with(&file(film.to_str().unwrap()))).err().expect("a film is no text");
    assert_eq!(failure.code, "not_text", "{failure}");
}
