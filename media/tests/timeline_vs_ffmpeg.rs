//! The timeline against ffmpeg itself: the frames it says come out must be the ones an encode by the installed ffmpeg has.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use spool_media::timeline::{OutputFrame, Stage, Sync, TimelineSpec, output_frames};
use spool_proto::spec::{Rational, Trim};
use spool_proto::time::Span;

/// One source and how to make it: ffmpeg's arguments between `-i lavfi` and the output.
struct Clip {
    name: &'static str,
    make: &'static str,
}

const CLIPS: &[Clip] = &[
    Clip {
        name: "film.mp4",
        make: "-f lavfi -i testsrc2=s=64x48:r=24000/1001:d=4 -c:v libx264 -preset ultrafast -bf 2",
    },
    Clip { name: "ntsc.mkv", make: "-f lavfi -i testsrc2=s=64x48:r=30000/1001:d=4 -c:v libx264 -preset ultrafast" },
    Clip { name: "slow.mp4", make: "-f lavfi -i testsrc2=s=64x48:r=25/2:d=5 -c:v mpeg4" },
    Clip {
        name: "vfr.mkv",
        make: "-f lavfi -i testsrc2=s=64x48:r=60:d=5 -vf select='not(mod(n\\,7))+eq(mod(n\\,11)\\,3)+between(n\\,60\\,90)' \
               -fps_mode vfr -c:v libx264 -preset ultrafast",
    },
    Clip {
        name: "gap.mkv",
        make: "-f lavfi -i testsrc2=s=64x48:r=25:d=6 -vf select='lt(t\\,1.5)+gt(t\\,3.7)' -fps_mode vfr -c:v libx264 -preset ultrafast",
    },
    Clip {
        name: "vfr.mp4",
        make: "-f lavfi -i testsrc2=s=64x48:r=30:d=5 -vf setpts=PTS+0.013*sin(N)/TB -enc_time_base 1/90000 -fps_mode vfr \
               -video_track_timescale 90000 -c:v libx264 -preset ultrafast -bf 0",
    },
    Clip {
        name: "late.mkv",
        make: "-f lavfi -i sine=d=4 -f lavfi -i testsrc2=s=64x48:r=25:d=3 -map 1:v -map 0:a -vf setpts=PTS+0.53/TB \
               -fps_mode vfr -c:v libx264 -preset ultrafast -c:a flac",
    },
    Clip {
        name: "late.mp4",
        make: "-f lavfi -i sine=d=4 -f lavfi -i testsrc2=s=64x48:r=24:d=3 -map 1:v -map 0:a -vf setpts=PTS+1.27/TB \
               -fps_mode vfr -c:v libx264 -preset ultrafast -c:a aac",
    },
    Clip {
        name: "one.mp4",
        make: "-f lavfi -i testsrc2=s=64x48:r=25:d=3 -vf setpts=PTS+0.7/TB -fps_mode vfr -c:v libx264 -preset ultrafast",
    },
    Clip { name: "start.ts", make: "-f lavfi -i testsrc2=s=64x48:r=50:d=2 -c:v libx264 -preset ultrafast -bf 2" },
    Clip { name: "single.mkv", make: "-f lavfi -i testsrc2=s=64x48:r=25:d=0.04 -c:v libx264 -preset ultrafast" },
];

/// What to ask of ffmpeg, and the same for the timeline.
#[derive(Clone, Copy, Default)]
struct Ask {
    fps: Option<(i32, i32)>,
    rate: Option<(i32, i32)>,
    /// Milliseconds.
    start: Option<u64>,
    duration: Option<u64>,
    /// `-vf null`: no filter that counts, but a filter.
    filtered: bool,
}

const NOTHING: Ask = Ask { fps: None, rate: None, start: None, duration: None, filtered: false };

const ASKS: &[Ask] = &[
    NOTHING,
    Ask { filtered: true, ..NOTHING },
    Ask { rate: Some((24, 1)), ..NOTHING },
    Ask { rate: Some((25, 2)), ..NOTHING },
    Ask { rate: Some((60, 1)), ..NOTHING },
    Ask { fps: Some((24, 1)), ..NOTHING },
    Ask { fps: Some((60, 1)), ..NOTHING },
    Ask { fps: Some((24_000, 1_001)), rate: Some((30, 1)), ..NOTHING },
    Ask { start: Some(1_010), ..NOTHING },
    Ask { duration: Some(1_237), ..NOTHING },
    Ask { start: Some(513), duration: Some(1_500), ..NOTHING },
    Ask { start: Some(700), duration: Some(990), fps: Some((25, 1)), ..NOTHING },
    Ask { start: Some(333), duration: Some(2_000), rate: Some((30_000, 1_001)), ..NOTHING },
    Ask { start: Some(0), ..NOTHING },
];

impl Ask {
    fn arguments(self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        if let Some((num, den)) = self.fps {
            option("-vf", format!("fps={num}/{den}"));
        } else if self.filtered {
            option("-vf", "null".into());
        }
        if let Some((num, den)) = self.rate {
            option("-r", format!("{num}/{den}"));
        }
        if let Some(start) = self.start {
            option("-ss", format!("{start}ms"));
        }
        if let Some(duration) = self.duration {
            option("-t", format!("{duration}ms"));
        }
        arguments
    }

    fn timeline(self, source: &Source, sync: Sync) -> TimelineSpec {
        let rational = |(num, den)| Rational::new(num, den);
        TimelineSpec {
            time_base: source.time_base,
            ts_offset_us: source.ts_offset_us,
            start_known: source.start_known,
            input_rate: source.rate,
            stages: self.fps.map(rational).map(Stage::Fps).into_iter().collect(),
            filtered: self.filtered || self.fps.is_some(),
            output_rate: self.rate.map(rational),
            trim: Trim { start: self.start.map(Span::from_millis), duration: self.duration.map(Span::from_millis) },
            sync,
        }
    }
}

/// What ffprobe tells of a source.
struct Source {
    time_base: Rational,
    rate: Option<Rational>,
    ts_offset_us: i64,
    start_known: bool,
    streams: usize,
    frames: Vec<(i64, i64)>,
}

fn run(program: &str, arguments: &[String]) -> Option<Vec<u8>> {
    let output = Command::new(program).args(arguments).output().ok()?;
    if !output.status.success() {
        eprintln!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(output.stdout)
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn rational(text: &Value) -> Rational {
    let (num, den) = text.as_str().unwrap().split_once('/').unwrap();
    Rational::new(num.parse().unwrap(), den.parse().unwrap())
}

fn probe(path: &Path) -> Option<Source> {
    let mut arguments = words("-v error -select_streams v:0 -of json -show_entries");
    arguments
        .push("frame=best_effort_timestamp,pkt_duration:stream=time_base,r_frame_rate,avg_frame_rate,start_pts".into());
    arguments.push(path.display().to_string());
    let json: Value = serde_json::from_slice(&run("ffprobe", &arguments)?).unwrap();
    let mut arguments = words("-v error -of json -show_entries format=start_time,nb_streams");
    arguments.push(path.display().to_string());
    let format: Value = serde_json::from_slice(&run("ffprobe", &arguments)?).unwrap();
    let stream = json["streams"].get(0)?;
    let start: f64 = format["format"]["start_time"].as_str().map_or(0.0, |text| text.parse().unwrap());
    #[expect(clippy::cast_possible_truncation, reason = "a start time of a test clip in microseconds")]
    let start_us = (start * 1e6).round() as i64;
    let frames = json["frames"]
        .as_array()?
        .iter()
        .map(|frame| Some((frame["best_effort_timestamp"].as_i64()?, frame["pkt_duration"].as_i64().unwrap_or(0))));
    // As `av_guess_frame_rate` does: the basic rate, unless it is absurd.
    let [basic, average] = ["r_frame_rate", "avg_frame_rate"].map(|name| rational(&stream[name]));
    let absurd = basic.as_f64() > 210.0 && average.num > 0 && average.as_f64() < 70.0;
    let rate = if absurd { average } else { basic };
    Some(Source {
        time_base: rational(&stream["time_base"]),
        rate: (rate.num > 0 && rate.den > 0).then_some(rate),
        ts_offset_us: -start_us,
        start_known: stream["start_pts"].is_i64(),
        streams: usize::try_from(format["format"]["nb_streams"].as_i64().unwrap()).unwrap(),
        frames: frames.collect::<Option<_>>()?,
    })
}

/// Timestamps encodes really have, each in its stream's timebase, and that timebase. `None`: ffmpeg refuses the source.
fn encoded(source: &Path, ask: Ask, to: &[PathBuf]) -> Option<Vec<(Vec<i64>, Rational)>> {
    let mut arguments = words("-v error -nostdin -y -i");
    arguments.push(source.display().to_string());
    for path in to {
        arguments.extend(words("-map 0:v:0 -s 32x32"));
        arguments.extend(ask.arguments());
        arguments.extend(words("-c:v libx264 -preset ultrafast -threads 1 -bf 0 -pix_fmt yuv420p"));
        arguments.push(path.display().to_string());
    }
    run("ffmpeg", &arguments)?;
    Some(to.iter().map(|path| packets(path).unwrap_or_else(|| (Vec::new(), Rational::new(1, 1)))).collect())
}

/// `None`: a film without frames.
fn packets(path: &Path) -> Option<(Vec<i64>, Rational)> {
    let mut arguments = words("-v error -select_streams v:0 -of json -show_entries packet=pts:stream=time_base");
    arguments.push(path.display().to_string());
    let json: Value = serde_json::from_slice(&run("ffprobe", &arguments)?).unwrap();
    let stream = json["streams"].get(0)?;
    let pts = json["packets"].as_array()?.iter().map(|packet| packet["pts"].as_i64()).collect::<Option<Vec<_>>>()?;
    Some((pts, rational(&stream["time_base"])))
}

/// `pts` in the encoder's timebase as the muxer writes it: rounded to the nearest, halves up.
fn muxed(frames: &[OutputFrame], rate: Rational, to: Rational) -> Vec<i64> {
    let (num, den) = (i128::from(rate.den) * i128::from(to.den), i128::from(rate.num) * i128::from(to.num));
    let scaled = |pts: i64| i64::try_from((2 * i128::from(pts) * num + den).div_euclid(2 * den)).unwrap();
    frames.iter().map(|frame| scaled(frame.pts)).collect()
}

/// An mp4 whose first frame is late says so in an edit list, whose clock ticks in milliseconds: all its frames are then early by
/// the same part of one.
fn without_edit_rounding(mut pts: Vec<i64>, expected: &[i64], time_base: Rational) -> Vec<i64> {
    if let (Some(made), Some(said)) = (pts.first(), expected.first()) {
        let early = said - made;
        let millisecond = i64::from(time_base.den) / (1_000 * i64::from(time_base.num));
        if (1..=millisecond).contains(&early) {
            pts.iter_mut().for_each(|pts| *pts += early);
        }
    }
    pts
}

/// Every ask of one source, to mp4 and to mkv. Returns how many were compared and what differed.
fn compare(path: &Path, asks: &[Ask], scratch: &Path) -> (u32, Vec<String>) {
    let Some(source) = probe(path) else { return (0, Vec::new()) };
    let (mut compared, mut wrong) = (0, Vec::new());
    let constant = if source.streams == 1 { Sync::Vscfr } else { Sync::Cfr };
    let outputs = [("out.mp4", constant), ("out.mkv", Sync::Vfr)];
    let paths = outputs.map(|(name, _)| scratch.join(name));
    for ask in asks {
        let Some(made) = encoded(path, *ask, &paths) else { continue };
        for ((name, sync), (pts, time_base)) in outputs.into_iter().zip(made) {
            let spec = ask.timeline(&source, sync);
            let frames = output_frames(&spec, &source.frames);
            let expected = muxed(&frames, spec.encoder_rate(), time_base);
            compared += 1;
            let pts = if sync == Sync::Vfr { pts } else { without_edit_rounding(pts, &expected, time_base) };
            if expected != pts {
                let at = expected.iter().zip(&pts).take_while(|(a, b)| a == b).count();
                wrong.push(format!(
                    "{} {:?} to {name}: {} frames said, {} made; from frame {at} on said {:?}, made {:?}",
                    path.display(),
                    ask.arguments(),
                    expected.len(),
                    pts.len(),
                    &expected[at..(at + 5).min(expected.len())],
                    &pts[at..(at + 5).min(pts.len())],
                ));
            }
        }
    }
    (compared, wrong)
}

fn has_ffmpeg() -> bool {
    let found = Command::new("ffmpeg").arg("-version").output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED: there is no ffmpeg to compare with");
    }
    found
}

#[test]
fn made_clips_come_out_as_ffmpeg_makes_them() {
    if !has_ffmpeg() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for clip in CLIPS {
        let path = scratch.path().join(clip.name);
        let mut arguments = words("-v error -nostdin -y");
        arguments.extend(words(&clip.make.replace('\'', "")));
        arguments.push(path.display().to_string());
        assert!(run("ffmpeg", &arguments).is_some(), "{} could not be made", clip.name);
        let (compared, differing) = compare(&path, ASKS, scratch.path());
        assert!(compared > 0, "{}: nothing was compared", clip.name);
        wrong.extend(differing);
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Films from outside, where a corpus is at hand.
#[test]
fn odd_films_come_out_as_ffmpeg_makes_them() {
    let corpus = std::env::var_os("SPOOL_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus"), PathBuf::from)
        .join("odd");
    let Ok(entries) = std::fs::read_dir(&corpus) else {
        eprintln!("SKIPPED: no corpus at {}", corpus.display());
        return;
    };
    if !has_ffmpeg() {
        return;
    }
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let scratch = tempfile::tempdir().unwrap();
    let asks =
        [NOTHING, Ask { rate: Some((24, 1)), ..NOTHING }, Ask { start: Some(400), duration: Some(900), ..NOTHING }];
    let (mut compared, mut wrong) = (0, Vec::new());
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !["vfr__", "elst__", "neg__ctts", "av__late", "webm__"].iter().any(|start| name.starts_with(start)) {
            continue;
        }
        let (count, differing) = compare(&path, &asks, scratch.path());
        compared += count;
        wrong.extend(differing);
    }
    assert!(compared > 0, "nothing in {} was compared", corpus.display());
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
