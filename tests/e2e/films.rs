//! Films to encode: the corpus where it is present, generated clips always.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The corpus folder `bench/`, if this checkout has the corpus beside it.
pub fn corpus() -> Option<PathBuf> {
    let root = std::env::var_os("SPOOL_CORPUS").map(PathBuf::from);
    let root = root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"));
    root.is_dir().then_some(root)
}

/// A film of the corpus, or `None` with a line that says it was skipped.
pub fn corpus_film(name: &str) -> Option<PathBuf> {
    let film = corpus().map(|c| c.join(name)).filter(|f| f.is_file());
    if film.is_none() {
        eprintln!("SKIPPED: no corpus film {name} here");
    }
    film
}

/// A generated film, made once for all tests of a run and kept in the target directory: scene changes every few
/// seconds, moving detail, a stereo tone.
pub struct Clip {
    pub name: &'static str,
    pub seconds: u32,
    pub size: &'static str,
    pub rate: &'static str,
    /// Encoder options of the source.
    pub codec: &'static [&'static str],
}

pub const PLAIN: Clip = Clip {
    name: "plain.mp4",
    seconds: 12,
    size: "320x180",
    rate: "24",
    codec: &["-c:v", "libx264", "-preset", "veryfast"],
};
pub const NTSC_TS: Clip = Clip {
    name: "ntsc.ts",
    seconds: 10,
    size: "320x180",
    rate: "30000/1001",
    codec: &["-c:v", "libx264", "-preset", "veryfast", "-x264-params", "open-gop=1:keyint=45:bframes=3"],
};
pub const OPEN_HEVC: Clip = Clip {
    name: "open-hevc.mkv",
    seconds: 10,
    size: "320x180",
    rate: "25",
    codec: &[
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "open-gop=1:keyint=40:bframes=4:log-level=error",
    ],
};
/// Takes long enough to be interrupted.
pub const SLOW: Clip = Clip {
    name: "long.mp4",
    seconds: 24,
    size: "640x360",
    rate: "24",
    codec: &["-c:v", "libx264", "-preset", "veryfast"],
};

pub fn clip(clip: &Clip) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("films");
        std::fs::create_dir_all(&folder).unwrap();
        folder
    });
    let path = folder.join(clip.name);
    if path.is_file() {
        return path;
    }
    // Each test makes its own and renames it into place: whoever is first wins, all are equal.
    static PART: AtomicU32 = AtomicU32::new(0);
    let part = folder.join(format!("{}-{}.{}", std::process::id(), PART.fetch_add(1, Ordering::Relaxed), clip.name));
    let scene = |source: &str, hue: u32| {
        format!("{source}=size={}:rate={}:duration=4,format=yuv420p,hue=h={hue}", clip.size, clip.rate)
    };
    let sources = [scene("testsrc2", 0), scene("mandelbrot=maxiter=200,trim=duration=4,testsrc2", 90)];
    let mut filter = String::new();
    let scenes = clip.seconds.div_ceil(4);
    for i in 0..scenes {
        let base = if i % 2 == 0 { &sources[0] } else { "" };
        let source = if base.is_empty() {
            format!(
                "life=size={}:rate={}:mold=10:ratio=0.3:seed={i},trim=duration=4,format=yuv420p",
                clip.size, clip.rate
            )
        } else {
            scene("testsrc2", i * 50)
        };
        filter += &format!("{source},setsar=1[v{i}];");
    }
    for i in 0..scenes {
        filter += &format!("[v{i}]");
    }
    filter += &format!(
        "concat=n={scenes}:v=1:a=0[v];sine=frequency=440:sample_rate=48000:duration={},volume=0.3,aformat=channel_layouts=stereo[a]",
        clip.seconds
    );
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-filter_complex", &filter, "-map", "[v]", "-map", "[a]"])
        .args(clip.codec)
        .args(["-threads", "2", "-c:a", "aac", "-t", &clip.seconds.to_string()])
        .arg(&part)
        .status()
        .expect("ffmpeg is installed (make deps)");
    assert!(status.success(), "ffmpeg made {}", clip.name);
    std::fs::rename(&part, &path).unwrap();
    path
}

/// Decoded video frames' pts, in seconds as ffprobe prints them.
pub fn frame_times(film: &Path) -> Vec<String> {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-show_entries", "frame=pts_time", "-of", "csv=p=0"])
        .arg(film)
        .output()
        .unwrap();
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{}: {}",
        film.display(),
        String::from_utf8_lossy(&out.stderr)
    );
    // Frames with side data are followed by an empty line.
    let lines = String::from_utf8(out.stdout).unwrap();
    lines.lines().map(|l| l.trim_end_matches(',').to_string()).filter(|l| !l.is_empty()).collect()
}

/// Kinds of the film's tracks, in order: `video audio`.
pub fn tracks(film: &Path) -> String {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "stream=codec_type", "-of", "csv=p=0"])
        .arg(film)
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `format.duration` in seconds.
pub fn duration(film: &Path) -> f64 {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"])
        .arg(film)
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap().trim().parse().unwrap()
}

/// Decoded samples of the first audio stream (all channels), 0 if there is none.
pub fn audio_samples(film: &Path) -> usize {
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(film)
        .args(["-map", "0:a:0?", "-f", "s16le", "-c:a", "pcm_s16le", "pipe:1"])
        .output()
        .unwrap();
    out.stdout.len() / 2
}

/// Mean SSIM of `film` against `source`, frames paired by index.
pub fn ssim(film: &Path, source: &Path) -> f64 {
    let out = Command::new("ffmpeg")
        .args(["-v", "info", "-i"])
        .arg(film)
        .arg("-i")
        .arg(source)
        .args(["-lavfi", "[0:v]settb=1/1000,setpts=N[a];[1:v]settb=1/1000,setpts=N[b];[a][b]ssim", "-f", "null", "-"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let all = text.rsplit("All:").next().unwrap();
    all.split_whitespace().next().unwrap().parse().unwrap_or_else(|_| panic!("no SSIM in: {text}"))
}
