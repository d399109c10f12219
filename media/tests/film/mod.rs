//! Whole films through pieces: made, joined, and looked at with ffprobe.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::process::Command;

use spool_proto::call::{
    Args, AssembleArgs, AssembleTrack, EncodeArgs, FilmManifest, IndexArgs, KeyframeTable, MediaFacts, PlanArgs,
    PlanSummary, ProbeArgs, SourceFacts, TrackArgs, TrackManifest, ValidateArgs, Value,
};
use spool_proto::failure::Failure;
use spool_proto::spec::{AudioSpec, Container, EncodeSpec, Subtitles, Verify};

use crate::common::{FileHost, call};

pub fn spec(container: Container, audio: Option<AudioSpec>) -> EncodeSpec {
    EncodeSpec {
        overwrite: true,
        audio,
        audio_tracks: Vec::new(),
        subtitles: Subtitles::Copy,
        verify: Verify::Full,
        ..EncodeSpec::new("file:///in", format!("file:///out.{}", extension(container)), container)
    }
}

pub fn extension(container: Container) -> &'static str {
    match container {
        Container::Mp4 => "mp4",
        Container::Mov => "mov",
        Container::Mkv => "mkv",
        Container::Webm => "webm",
    }
}

/// What a probe says.
pub fn facts(path: &Path) -> SourceFacts {
    let (product, _host) = call(&Args::Probe(ProbeArgs { index_for: None, crop_bars: false }), [path]).unwrap();
    let Value::Probe(facts) = product.value else { panic!("{:?}", product.value) };
    *facts
}

/// A joined film in a folder of its own.
#[derive(Debug)]
pub struct Film {
    pub folder: tempfile::TempDir,
    pub path: PathBuf,
    pub timeline: Option<PathBuf>,
    pub manifest: FilmManifest,
}

/// A track's pieces, of the source stream.
pub struct Pieces {
    pub stream: u32,
    pub paths: Vec<PathBuf>,
}

impl Film {
    pub fn join(source: &Path, spec: &EncodeSpec, tracks: &[Pieces]) -> Result<Film, Failure> {
        let args = Args::Assemble(AssembleArgs {
            spec: spec.clone(),
            source: facts(source),
            tracks: tracks
                .iter()
                .map(|track| AssembleTrack { stream: track.stream, pieces: u32::try_from(track.paths.len()).unwrap() })
                .collect(),
            edits: Vec::new(),
        });
        let inputs = std::iter::once(source.to_path_buf()).chain(tracks.iter().flat_map(|track| track.paths.clone()));
        let (product, host) = call(&args, inputs)?;
        let folder = tempfile::tempdir().unwrap();
        let path = host.keep(&product, "film", &folder.path().join(format!("film.{}", extension(spec.container))));
        let timeline = product
            .files
            .iter()
            .any(|(name, _)| name == "timeline")
            .then(|| host.keep(&product, "timeline", &folder.path().join("timeline")));
        let Value::Film(manifest) = product.value else { panic!("{:?}", product.value) };
        assert_eq!(manifest.bytes, std::fs::metadata(&path).unwrap().len());
        Ok(Film { folder, path, timeline, manifest })
    }

    /// Audio and subtitle tracks of a source, made and joined.
    pub fn of_tracks(source: &Path, spec: &EncodeSpec, streams: &[u32]) -> Result<Film, Failure> {
        let mut hosts = Vec::new();
        let mut tracks = Vec::new();
        for &stream in streams {
            let (path, host) = track(source, spec, stream)?;
            hosts.push(host);
            tracks.push(Pieces { stream, paths: vec![path] });
        }
        Film::join(source, spec, &tracks)
    }
}

/// One audio or subtitle track.
pub fn track(source: &Path, spec: &EncodeSpec, stream: u32) -> Result<(PathBuf, FileHost), Failure> {
    let facts = facts(source);
    let args =
        TrackArgs { spec: spec.clone(), stream, track: 0, jumps: Vec::new(), edits: Vec::new(), joined: Vec::new() };
    let is_audio = facts.streams.get(stream as usize).is_some_and(|s| matches!(s.media, MediaFacts::Audio(_)));
    let args = if is_audio { Args::Audio(args) } else { Args::Subtitle(args) };
    let (product, host) = call(&args, [source])?;
    Ok((product.files[0].1.clone(), host))
}

/// All that becomes of a source before the join.
pub struct Made {
    pub plan: PlanSummary,
    pub tracks: Vec<Pieces>,
    pub chunks: Vec<TrackManifest>,
    pub plan_path: PathBuf,
    hosts: Vec<FileHost>,
}

/// Probes, plans and encodes.
pub fn make(source: &Path, spec: &EncodeSpec) -> Result<Made, Failure> {
    let (probed, host) = call(&Args::Probe(ProbeArgs { index_for: Some(spec.clone()), crop_bars: false }), [source])?;
    let Value::Probe(facts) = probed.value else { panic!("{:?}", probed.value) };
    let mut inputs = vec![source.to_path_buf()];
    inputs.extend(probed.files.iter().map(|(_, path)| path.clone()));
    let args = PlanArgs {
        spec: spec.clone(),
        source: *facts,
        unsplit_threads: 1,
        lines: Vec::new(),
        joined: Vec::new(),
        scans: Vec::new(),
    };
    let (planned, plan_host) = call(&Args::Plan(args), &inputs)?;
    let Value::Plan(plan) = planned.value else { panic!("{:?}", planned.value) };
    let plan_path = planned.files.first().map(|(_, path)| path.clone()).unwrap_or_default();
    let mut made = Made { plan, tracks: Vec::new(), chunks: Vec::new(), plan_path, hosts: vec![host] };
    if let Some(video) = &made.plan.video {
        let mut paths = Vec::new();
        for (chunk, summary) in (0..).zip(&video.chunks) {
            let args = EncodeArgs {
                spec: spec.clone(),
                stream: video.stream,
                chunk,
                threads: summary.threads,
                before: 0,
                joined: false,
                crf: None,
                target: None,
                buffer: None,
            };
            let plan = planned.files[0].1.clone();
            let (product, host) = call(&Args::Encode(args), [source.to_path_buf(), plan])?;
            let Value::Track(manifest) = product.value else { panic!("{:?}", product.value) };
            paths.push(product.files[0].1.clone());
            made.chunks.push(manifest);
            made.hosts.push(host);
        }
        made.tracks.push(Pieces { stream: video.stream, paths });
    }
    made.hosts.push(plan_host);
    for args in made.plan.audio.iter().chain(&made.plan.subtitles) {
        let (path, host) = track(source, spec, args.stream)?;
        made.hosts.push(host);
        made.tracks.push(Pieces { stream: args.stream, paths: vec![path] });
    }
    Ok(made)
}

impl Made {
    /// What the check is to be told.
    pub fn expected(&self, spec: &EncodeSpec, codecs: &[&str]) -> ValidateArgs {
        let starts = self.chunks.iter().scan(0, |at, chunk| {
            let start = *at;
            *at += chunk.units;
            Some(start)
        });
        ValidateArgs {
            container: spec.container,
            verify: Verify::Full,
            frames: self.plan.video.as_ref().map(|_| self.chunks.iter().map(|chunk| chunk.units).sum()),
            joins: starts.collect(),
            codecs: codecs.iter().map(ToString::to_string).collect(),
            buffer: None,
        }
    }
}

impl Film {
    pub fn validate(&self, args: &ValidateArgs) -> Result<FilmManifest, Failure> {
        let inputs = std::iter::once(&self.path).chain(self.timeline.as_ref());
        let (product, _host) = call(&Args::Validate(args.clone()), inputs)?;
        let Value::Film(manifest) = product.value else { panic!("{:?}", product.value) };
        Ok(manifest)
    }

    /// The table as it is kept, with every frame.
    pub fn index(&self) -> KeyframeTable {
        let (product, _host) = call(&Args::Index(IndexArgs::default()), [&self.path]).unwrap();
        let table: KeyframeTable = serde_json::from_slice(&std::fs::read(&product.files[0].1).unwrap()).unwrap();
        let Value::Index(told) = product.value else { panic!("{:?}", product.value) };
        assert_eq!(told, KeyframeTable { frames: Vec::new(), ..table.clone() }, "the answer leaves the frames out");
        table
    }
}

/// ffprobe's output, a line each.
pub fn probe_lines(args: &str, film: &Path) -> Vec<String> {
    let result = Command::new("ffprobe")
        .args(["-v", "error"])
        .args(args.split_whitespace())
        .arg(film)
        .output()
        .expect("ffprobe is installed");
    assert!(result.status.success(), "ffprobe {args}: {}", String::from_utf8_lossy(&result.stderr));
    String::from_utf8_lossy(&result.stdout).lines().map(str::to_owned).collect()
}
