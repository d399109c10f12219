//! Pictures taken from films, against the frames ffmpeg shows at the same times.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{FileHost, call, corpus, ffmpeg};
use spool_media::Product;
use spool_proto::call::{Args, ImageFile, ImageKind, ImagesArgs, Value};
use spool_proto::failure::Failure;
use spool_proto::spec::{ImageFormat, ImageSpec, Poster, Sprites, Thumbnails};
use spool_proto::time::Span;

struct Made {
    product: Product,
    host: FileHost,
}

impl Made {
    fn files(&self) -> &[ImageFile] {
        let Value::Images(manifest) = &self.product.value else { panic!("{:?}", self.product.value) };
        &manifest.files
    }

    fn path(&self, name: &str) -> PathBuf {
        assert!(self.product.files.iter().any(|(file, _)| file == name), "{name} of {:?}", self.product.files);
        use spool_media::Host as _;
        self.host.scratch().join(name)
    }
}

fn images(source: &Path, spec: &ImageSpec) -> Result<Made, Failure> {
    let (product, host) = call(&Args::Images(ImagesArgs { spec: spec.clone(), stream: None }), [source])?;
    Ok(Made { product, host })
}

/// A picture's pixels as ffmpeg shows it, RGB, scaled to a size.
fn rgb(arguments: &[&str], file: &Path, width: u32, height: u32) -> Vec<u8> {
    let scale = format!("scale={width}:{height}:flags=bicubic,format=rgb24");
    let result = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(arguments)
        .arg("-i")
        .arg(file)
        .args(["-map", "0:v:0", "-frames:v", "1", "-vf", &scale, "-f", "rawvideo", "-"])
        .output()
        .unwrap();
    assert!(!result.stdout.is_empty(), "{}: {}", file.display(), String::from_utf8_lossy(&result.stderr));
    result.stdout
}

/// Mean absolute difference of two pictures.
fn apart(one: &[u8], other: &[u8]) -> f64 {
    assert_eq!(one.len(), other.len());
    let sum: u64 = one.iter().zip(other).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / one.len() as f64
}

fn size(path: &Path) -> String {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "stream=codec_name,width,height,sample_aspect_ratio", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// 20 s whose every second has its own grey and stripes: which picture it is can be read off.
fn clock_film(folder: &Path, arguments: &str, name: &str) -> PathBuf {
    let path = folder.join(name);
    ffmpeg(
        &format!(
            "-f lavfi -i color=c=gray:s=320x180:r=25:d=20,format=yuv420p,geq=lum=\'40+floor(T)*9+20*gt(mod(X,40),20)\':cb=128:cr=128 {arguments}"
        ),
        &path,
    );
    path
}

#[test]
fn thumbnails_show_what_the_film_shows_then() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, name) in [
        ("-c:v libx264 -g 50", "closed.mp4"),
        ("-c:v libx264 -g 1000 -bf 3", "one_keyframe.mkv"),
        ("-c:v libx264 -x264-params open-gop=1:keyint=40:bframes=3", "open.ts"),
        ("-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 60", "vp9.webm"),
        ("-c:v mpeg4 -g 30", "plain.avi"),
    ] {
        let source = clock_film(folder.path(), arguments, name);
        let thumbnails = Some(Thumbnails { every: Span::from_millis(2_500), width: 160 });
        let spec = ImageSpec { thumbnails, exact: true, ..ImageSpec::new() };
        let made = images(&source, &spec).unwrap();
        assert_eq!(made.files().len(), 8, "{name}: {:?}", made.files());
        for (number, file) in (0i64..).zip(made.files()) {
            let at = number as f64 * 2.5;
            assert_eq!((file.kind, file.time_us), (ImageKind::Thumbnail, Some(number * 2_500_000)));
            assert_eq!((file.width, file.height), (160, 90));
            let ours = rgb(&[], &made.path(&file.name), 160, 90);
            // The grey of that second, mean of dark and light stripes.
            let mean = ours.iter().map(|v| f64::from(*v)).sum::<f64>() / ours.len() as f64;
            let luma = 40.0 + at.floor() * 9.0 + 10.0;
            let full = (luma - 16.0) * 255.0 / 219.0;
            assert!((mean - full).abs() < 3.0, "{name} at {at}: {mean}, not {full}");
        }
        // Near enough is within half an interval.
        let near = images(&source, &ImageSpec { exact: false, ..spec }).unwrap();
        for (number, file) in near.files().iter().enumerate() {
            let ours = rgb(&[], &near.path(&file.name), 160, 90);
            let mean = ours.iter().map(|v| f64::from(*v)).sum::<f64>() / ours.len() as f64;
            let second = ((mean * 219.0 / 255.0 + 16.0) - 50.0) / 9.0;
            let at = number as f64 * 2.5;
            assert!((second - at.floor()).abs() <= 2.3, "{name} at {at}: the picture is of second {second}");
        }
    }
}

#[test]
fn a_posters_pixels_are_the_films_in_every_format() {
    let Some(source) = corpus("bench/bbb_720p24_cut120s.mp4") else {
        eprintln!("skipped: the film is not here");
        return;
    };
    for (format, codec, worst) in
        [(ImageFormat::Jpeg, "mjpeg", 3.0), (ImageFormat::Png, "png", 1.5), (ImageFormat::Webp, "webp", 3.5)]
    {
        let poster = Some(Poster { at: Some(Span::from_secs(30)), width: None });
        let made = images(&source, &ImageSpec { poster, format, ..ImageSpec::new() }).unwrap();
        let [file] = made.files() else { panic!("{:?}", made.files()) };
        assert_eq!(
            (file.kind, file.time_us, file.width, file.height),
            (ImageKind::Poster, Some(30_000_000), 1280, 720)
        );
        let path = made.path(&file.name);
        assert!(size(&path).starts_with(&format!("{codec},1280,720")), "{}", size(&path));
        let theirs = rgb(&["-ss", "30"], &source, 1280, 720);
        let difference = apart(&rgb(&[], &path, 1280, 720), &theirs);
        println!("{format:?} {difference}");
        // The film is BT.709, or should be taken so; ffmpeg's own conversion takes it as told.
        assert!(difference < worst + 4.0, "{format:?}: {difference}");
    }
}

#[test]
fn sprites_are_where_the_track_says() {
    let folder = tempfile::tempdir().unwrap();
    let source = clock_film(folder.path(), "-c:v libx264 -g 50", "film.mp4");
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Webp] {
        let sprites = Some(Sprites { every: Span::from_secs(3), columns: 2, rows: 2, width: 96 });
        let made = images(&source, &ImageSpec { sprites, format, exact: true, ..ImageSpec::new() }).unwrap();
        let names: Vec<&str> = made.files().iter().map(|file| file.name.as_str()).collect();
        let extension = format.extension();
        assert_eq!(
            names,
            [format!("sprite-001.{extension}"), format!("sprite-002.{extension}"), "sprite.vtt".to_owned()],
            "seven pictures on sheets of four"
        );
        assert_eq!(
            (made.files()[0].width, made.files()[0].height, made.files()[1].time_us),
            (192, 108, Some(12_000_000))
        );
        let track = std::fs::read_to_string(made.path("sprite.vtt")).unwrap();
        let cues: Vec<&str> = track.split("\n\n").skip(1).collect();
        assert_eq!(cues.len(), 7, "{track}");
        assert_eq!(cues[0], format!("00:00:00.000 --> 00:00:03.000\nsprite-001.{extension}#xywh=0,0,96,54"));
        assert_eq!(
            cues[6].trim_end(),
            format!("00:00:18.000 --> 00:00:20.000\nsprite-002.{extension}#xywh=0,54,96,54")
        );
        for (number, cue) in cues.iter().enumerate() {
            let (file, place) = cue.lines().nth(1).unwrap().split_once("#xywh=").unwrap();
            let place: Vec<usize> = place.split(',').map(|n| n.parse().unwrap()).collect();
            let sheet = rgb(&[], &made.path(file), 192, 108);
            let pixels = (place[1] + 10..place[1] + 44)
                .flat_map(|y| (place[0] + 10..place[0] + 86).map(move |x| (y * 192 + x) * 3));
            let values: Vec<f64> = pixels.map(|at| f64::from(sheet[at])).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let full = (40.0 + number as f64 * 27.0 + 10.0 - 16.0) * 255.0 / 219.0;
            assert!((mean - full).abs() < 4.0, "{format:?} cue {number}: {mean}, not {full}");
        }
        // What no picture came to is black.
        let last = rgb(&[], &made.path(names[1]), 192, 108);
        assert!(last[(80 * 192 + 150) * 3] < 8);
    }
}

#[test]
fn pictures_are_turned_and_stretched_as_the_film_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let plain = clock_film(folder.path(), "-c:v libx264 -vf setsar=4/3 -t 2", "anamorphic.mp4");
    let turned = folder.path().join("turned.mov");
    ffmpeg(&format!("-i {} -c copy -metadata:s:v:0 rotate=90", plain.display()), &turned);
    let poster = |width| ImageSpec { poster: Some(Poster { at: Some(Span::ZERO), width }), ..ImageSpec::new() };
    let shape = |source: &Path, width| {
        let made = images(source, &poster(width)).unwrap();
        let (w, h) = (made.files()[0].width, made.files()[0].height);
        let probed = size(&made.path(&made.files()[0].name));
        assert!(probed.starts_with(&format!("mjpeg,{w},{h}")), "{probed}");
        (w, h)
    };
    assert_eq!(shape(&plain, None), (426, 180));
    assert_eq!(shape(&plain, Some(214)), (214, 90));
    assert_eq!(shape(&turned, None), (180, 426));
    assert_eq!(shape(&turned, Some(4000)), (180, 426), "never enlarged");
}

#[test]
fn the_poster_is_no_black_picture() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("dark.mp4");
    // Black but for two seconds of the twenty.
    ffmpeg(
        "-f lavfi -i color=c=black:s=320x180:r=25:d=20 -f lavfi -i testsrc=s=320x180:r=25:d=20 -filter_complex \
         [0][1]overlay=enable='between(t,9,11)' -c:v libx264",
        &source,
    );
    let spec = ImageSpec { poster: Some(Poster { at: None, width: None }), ..ImageSpec::new() };
    let made = images(&source, &spec).unwrap();
    let at = made.files()[0].time_us.unwrap();
    assert!((9_000_000..11_000_000).contains(&at), "{at}");
    let pixels = rgb(&[], &made.path("poster.jpg"), 320, 180);
    assert!(pixels.iter().map(|v| f64::from(*v)).sum::<f64>() / pixels.len() as f64 > 50.0);
    // Where all is black there is a picture all the same.
    let night = folder.path().join("night.mp4");
    ffmpeg("-f lavfi -i color=c=black:s=320x180:r=25:d=4 -c:v libx264", &night);
    assert_eq!(images(&night, &spec).unwrap().files().len(), 1);
}

#[test]
fn films_of_the_corpus_have_pictures() {
    let mut seen = 0;
    for name in [
        "odd/ts__no_initial_keyframe.ts",
        "odd/cea608__sintel.ts",
        "odd/webm__no_duration_live_alpha.webm",
        "odd/elst__empty_edit_5s.mp4",
        "odd/hlg__dovi84_hevc_mebx.mov",
        "odd/interlaced__xdcam_ex_1080i50.mov",
        "odd/alpha__prores4444_interlaced.mov",
        "odd/fmt__vp9_gbrp.webm",
        "odd/vfr__phone_screenrec_1080x2280.mp4",
        "odd/avi__5fps_768p.avi",
        "odd/avi__packed_bframes.avi",
        "odd/coverart__1frame_plus_attached_pic.mp4",
        "bad/header_lies__duration_13_hours.mp4",
        "bad/bitflips_mdat.mp4",
    ] {
        let Some(source) = corpus(name) else { continue };
        let spec = ImageSpec {
            poster: Some(Poster { at: None, width: Some(320) }),
            thumbnails: Some(Thumbnails { every: Span::from_secs(5), width: 128 }),
            sprites: Some(Sprites { every: Span::from_secs(2), columns: 4, rows: 4, width: 96 }),
            ..ImageSpec::new()
        };
        let made = images(&source, &spec).unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
        let count = |kind| made.files().iter().filter(|file| file.kind == kind).count();
        println!(
            "{name}: {} thumbnails, {} sheets {:?}",
            count(ImageKind::Thumbnail),
            count(ImageKind::Sprite),
            made.product.warnings
        );
        assert_eq!((count(ImageKind::Poster), count(ImageKind::Track)), (1, 1), "{name}");
        assert!(count(ImageKind::Thumbnail) >= 1 && count(ImageKind::Sprite) >= 1, "{name}");
        seen += 1;
    }
    println!("{seen} films of the corpus");
}

#[test]
fn what_has_no_pictures_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let sound = folder.path().join("sound.mp4");
    ffmpeg("-f lavfi -i sine=d=1 -c:a aac", &sound);
    let film = clock_film(folder.path(), "-c:v libx264", "film.mp4");
    let poster = |at| ImageSpec { poster: Some(Poster { at: Some(at), width: None }), ..ImageSpec::new() };
    let refusal = |source: &Path, spec: &ImageSpec| images(source, spec).map(|_| ()).unwrap_err();
    assert_eq!(refusal(&sound, &poster(Span::ZERO)).code, "no_video_stream");
    assert_eq!(refusal(&film, &poster(Span::from_secs(60))).code, "no_frames");
    assert_eq!(refusal(&film, &ImageSpec::new()).code, "options_conflict");
}
