//! Changes of scene are found where they are, however many parts look for them, and chunks begin there.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod film;

use std::path::{Path, PathBuf};

use common::{FileHost, call, corpus, ffmpeg};
use spool_proto::call::{
    Args, MediaFacts, PlanArgs, PlanSummary, ProbeArgs, SceneChange, SceneList, ScenesArgs, SourceFacts, Value,
};
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::{Container, EncodeSpec, Trim, VideoCodec, VideoSpec};
use spool_proto::time::Span;

/// A source that was probed.
struct Probed {
    source: PathBuf,
    spec: EncodeSpec,
    facts: SourceFacts,
    index: PathBuf,
    _host: FileHost,
}

impl Probed {
    fn new(source: &Path, spec: &EncodeSpec) -> Probed {
        let args = Args::Probe(ProbeArgs { index_for: Some(spec.clone()), crop_bars: false });
        let (product, host) = call(&args, [source]).unwrap();
        let Value::Probe(facts) = product.value else { panic!("{:?}", product.value) };
        let index = product.files[0].1.clone();
        Probed { source: source.into(), spec: spec.clone(), facts: *facts, index, _host: host }
    }

    fn tells_scenes(&self) -> Option<bool> {
        self.facts.streams.iter().find_map(|stream| match &stream.media {
            MediaFacts::Video(video) => video.tells_scenes,
            _ => None,
        })
    }

    fn part(&self, part: u32, parts: u32) -> Result<(SceneList, PathBuf, FileHost), Failure> {
        let args = ScenesArgs { spec: self.spec.clone(), source: self.facts.clone(), part, parts };
        let (product, host) = call(&Args::Scenes(Box::new(args)), [&self.source, &self.index])?;
        let path = product.files[0].1.clone();
        let list: SceneList = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let Value::Scenes(told) = product.value else { panic!("{:?}", product.value) };
        let counts = [list.scenes.len(), list.scenes.iter().filter(|scene| scene.sure).count()];
        assert_eq!([told.scenes, told.sure].map(|n| usize::try_from(n).unwrap()), counts);
        Ok((list, path, host))
    }

    fn scan(&self, parts: u32) -> Vec<SceneChange> {
        (0..parts).flat_map(|part| self.part(part, parts).unwrap().0.scenes).collect()
    }

    fn sure(&self) -> Vec<u64> {
        self.scan(1).iter().filter(|scene| scene.sure).map(|scene| scene.frame).collect()
    }

    /// By a scan in so many parts.
    fn plan(&self, parts: u32) -> PlanSummary {
        let lists: Vec<_> = (0..parts).map(|part| self.part(part, parts).unwrap()).collect();
        let mut inputs = vec![self.source.clone(), self.index.clone()];
        inputs.extend(lists.iter().map(|(_, path, _)| path.clone()));
        let args = PlanArgs {
            spec: self.spec.clone(),
            source: self.facts.clone(),
            joined: Vec::new(),
            unsplit_threads: 1,
            lines: Vec::new(),
            scans: vec![parts],
        };
        let (product, _host) = call(&Args::Plan(args), &inputs).unwrap();
        let Value::Plan(plan) = product.value else { panic!("{:?}", product.value) };
        plan
    }
}

fn spec() -> EncodeSpec {
    let video = VideoSpec { preset: Some("ultrafast".into()), ..VideoSpec::new(VideoCodec::Libx264) };
    EncodeSpec { video: Some(video), chunk: Some(Span::from_secs(4)), ..film::spec(Container::Mkv, None) }
}

const MJPEG: &str = "-c:v mjpeg -q:v 3 -pix_fmt yuvj420p";
const FFV1: &str = "-c:v ffv1 -g 12 -pix_fmt yuv420p";

/// Five scenes, of which two move, one stands still and one is nothing but noise.
fn cut(folder: &Path, name: &str, coder: &str) -> PathBuf {
    let scenes = [
        ("testsrc2=s=320x180:r=24", 61),
        ("mandelbrot=s=320x180:r=24:maxiter=100", 97),
        ("smptehdbars=s=320x180:r=24", 140),
        ("testsrc=s=320x180:r=24", 70),
        ("color=gray:s=320x180:r=24,noise=alls=60:allf=t", 120),
    ];
    let mut graph = String::new();
    for (number, (source, frames)) in scenes.iter().enumerate() {
        graph += &format!("{source},trim=end_frame={frames},format=yuv420p,setsar=1,setpts=PTS-STARTPTS[s{number}];");
    }
    let inputs: String = (0..scenes.len()).map(|number| format!("[s{number}]")).collect();
    let path = folder.join(name);
    ffmpeg(&format!("-filter_complex {graph}{inputs}concat=n={}:v=1 {coder}", scenes.len()), &path);
    path
}

const CUTS: [u64; 4] = [61, 158, 298, 368];

#[test]
fn hard_cuts_of_an_intra_only_source_are_found_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    for (name, coder) in [("a.mov", MJPEG), ("a.mkv", FFV1), ("b.mov", "-c:v prores_ks -profile:v 1")] {
        let film = Probed::new(&cut(folder.path(), name, coder), &spec());
        assert_eq!(film.tells_scenes(), Some(coder == FFV1), "{name}");
        assert_eq!(film.sure(), CUTS, "{name}: {:?}", film.scan(1));
    }
}

#[test]
fn as_many_parts_as_one_likes_find_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let films = [
        (cut(folder.path(), "intra.mov", MJPEG), &[2, 7, 23][..]),
        // Entered at keyframes that are far apart, with pictures out of order.
        (cut(folder.path(), "long.mkv", "-c:v libx264 -preset veryfast -g 250 -bf 3 -sc_threshold 0"), &[4]),
        (
            cut(
                folder.path(),
                "open.mkv",
                "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=50:open-gop=1",
            ),
            &[3],
        ),
    ];
    for (film, counts) in films {
        let film = Probed::new(&film, &spec());
        let whole = film.scan(1);
        assert_eq!(film.sure(), CUTS, "{}", film.source.display());
        for count in counts {
            assert_eq!(film.scan(*count), whole, "{} in {count} parts", film.source.display());
        }
        // At the very frame where a part ends.
        let sum: u64 = (0..3).map(|part| film.part(part, 3).unwrap().0.scenes.len() as u64).sum();
        assert_eq!(sum, whole.len() as u64);
    }
}

#[test]
fn a_real_film_is_the_same_in_parts() {
    let Some(film) = corpus("bench/bbb_720p24_cut120s.mp4") else { return };
    let trim = Trim { start: Some(Span::from_secs(20)), duration: Some(Span::from_secs(20)) };
    let film = Probed::new(&film, &EncodeSpec { trim, ..spec() });
    let whole = film.scan(1);
    // Those that ffmpeg's `select=gt(scene,0.4)` finds there.
    let expected = [603, 684, 752, 812, 866, 936];
    assert_eq!(film.sure(), expected, "{whole:?}");
    for parts in [2, 5] {
        assert_eq!(film.scan(parts), whole);
    }
}

fn made(folder: &Path, graph: &str) -> Probed {
    let path = folder.join("film.mov");
    ffmpeg(&format!("-filter_complex {graph} {MJPEG}"), &path);
    Probed::new(&path, &spec())
}

#[test]
fn what_is_no_cut_is_not_taken_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = ("testsrc2=s=320x180:r=24:d=5", "mandelbrot=s=320x180:r=24:maxiter=100");
    let cases = [
        ("a dissolve", format!("{a}[a];{b},trim=duration=5[b];[a][b]xfade=transition=fade:duration=1:offset=3")),
        (
            "a fade to black and back",
            format!("{a},fade=out:48:16,trim=end_frame=70[a];{b},trim=duration=5,fade=in:0:16[b];[a][b]concat"),
        ),
        ("a flash", format!("{a},lutyuv=y=235:enable='between(n\\,50\\,52)'")),
        ("flashes", format!("{a},lutyuv=y=val*1.8:enable='between(mod(n\\,12)\\,6\\,8)'")),
        ("a still picture", "smptehdbars=s=320x180:r=24:d=40".into()),
        ("black", "color=black:s=320x180:r=24:d=10".into()),
        ("a pan", format!("{a},zoompan=z=2:x='4*on':d=1:s=320x180:fps=24")),
        ("noise", "color=gray:s=320x180:r=24:d=5,noise=alls=80:allf=t".into()),
    ];
    for (what, graph) in cases {
        let film = made(folder.path(), &graph);
        assert_eq!(film.scan(1), [], "{what}");
    }
}

#[test]
fn a_cut_is_found_beside_a_flash_and_at_the_films_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = ("testsrc2=s=320x180:r=24,trim=end_frame=50", "mandelbrot=s=320x180:r=24:maxiter=100");
    let graph = format!("{a},lutyuv=y=235:enable='between(n\\,30\\,32)'[a];{b},trim=end_frame=40[b];[a][b]concat");
    assert_eq!(made(folder.path(), &graph).sure(), [50]);
    let graph = format!("{a}[a];{b},trim=end_frame=3[b];[b][a]concat");
    assert_eq!(made(folder.path(), &graph).sure(), [3]);
    let graph = format!("{a}[a];{b},trim=end_frame=3[b];[a][b]concat");
    assert_eq!(made(folder.path(), &graph).sure(), [50]);
}

#[test]
fn only_what_the_film_shows_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let source = cut(folder.path(), "a.mov", MJPEG);
    let looked = |spec: &EncodeSpec| {
        let film = Probed::new(&source, spec);
        let args = ScenesArgs { spec: film.spec.clone(), source: film.facts.clone(), part: 0, parts: 1 };
        let (product, _host) = call(&Args::Scenes(Box::new(args)), [&film.source, &film.index]).unwrap();
        let Value::Scenes(told) = product.value else { panic!("{:?}", product.value) };
        (told.frames, film.sure())
    };
    let trim = Trim { start: Some(Span::from_secs(5)), duration: Some(Span::from_secs(4)) };
    assert_eq!(looked(&EncodeSpec { trim, ..spec() }), (96, vec![158]));
    let clips = ["1-3", "12-14"].map(|clip| clip.parse().unwrap()).to_vec();
    assert_eq!(looked(&EncodeSpec { clips, ..spec() }), (96, vec![61, 298]));
}

#[test]
fn chunks_begin_where_the_scan_says() {
    let folder = tempfile::tempdir().unwrap();
    let film = Probed::new(&cut(folder.path(), "a.mkv", FFV1), &spec());
    let cuts = |plan: PlanSummary| -> Vec<(u64, String)> {
        plan.video.unwrap().chunks.into_iter().map(|chunk| (chunk.start, chunk.cut)).collect()
    };
    let scanned = cuts(film.plan(3));
    assert_eq!(
        scanned,
        [(0, "start"), (61, "scene"), (158, "scene"), (298, "scene"), (368, "scene")]
            .map(|(at, why)| (at, why.to_owned()))
    );
    assert_eq!(cuts(film.plan(1)), scanned);
    assert!(cuts(film.plan(0)).iter().skip(1).all(|(_, why)| why == "gop"));
}

#[test]
fn a_part_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let film = made(folder.path(), "testsrc2=s=64x36:r=24:d=1");
    for (part, parts) in [(0, 0), (3, 3), (0, u32::MAX)] {
        let failure = film.part(part, parts).map(|(list, ..)| list).unwrap_err();
        assert_eq!((failure.class, failure.code.as_str()), (Class::Spec, "bad_scan"));
    }
    // More parts than frames.
    assert_eq!(film.part(0, 100).unwrap().0.scenes, []);
}
