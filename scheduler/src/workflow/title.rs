//! `title`: probe; plan each rendition; encode the chunks of all of them, and the sound; cut each track into segments; check
//! them, and write the playlists; publish the whole package.

use spool_core::io::Next;
use spool_proto::call::{
    Args, ImagesArgs, ManifestArgs, MediaFacts, PackageEntry, PlanArgs, PlanSummary, ProbeArgs, PublishPackageArgs,
    SegmentArgs, SegmentSummary, SourceFacts, StreamFacts, TextArgs, TrackArgs, TrackManifest, ValidateArgs, Value,
    VideoPlan, function,
};
use spool_proto::failure::{Class, Failure};
use spool_proto::package::{self, PackagedTrack};
use spool_proto::resources::Resources;
use spool_proto::spec::Rational;
use spool_proto::spec::title::TitleSpec;
use spool_proto::spec::title::renditions::{TextSource, TextTrack, Track, Tracks};
use spool_proto::uri;
use spool_proto::view::{PackageOutput, TitleOutput, TrackOutput};

use super::chunks::{self, Chunks, Planned, count};
use super::limits::{self, CORE};
use super::{DoneTask, Order, Work, phase, unknown_phase};

pub(super) fn next(spec: &TitleSpec, work: Work<'_>, phase: Option<&str>) -> Result<Next, Failure> {
    let Some(phase) = phase else { return Ok(probing(spec, work)) };
    let source = work.source()?;
    let title = Title { spec, work, source, tracks: spec.tracks(source)? };
    match phase {
        "probing" if title.tracks.video.is_empty() => title.encoding(),
        "probing" => title.planning(),
        "planning" => title.analysing(),
        "analysing" => title.encoding(),
        "encoding" | "correcting" => title.correcting(),
        "assembling" => title.validating(),
        "validating" => title.packaging(),
        "packaging" => title.finish(),
        other => Err(unknown_phase("title", other)),
    }
}

fn probing(spec: &TitleSpec, work: Work<'_>) -> Next {
    let args = Args::Probe(ProbeArgs { index_for: Some(spec.probed()), crop_bars: false });
    let call = work.call(vec![spec.source.clone()], args);
    phase("probing", [Order::new(call, Resources::cpu_memory(CORE, limits::TABLES_MEMORY), limits::READ_TIMEOUT)])
}

struct Title<'a> {
    spec: &'a TitleSpec,
    work: Work<'a>,
    source: &'a SourceFacts,
    tracks: Tracks,
}

/// A track that was encoded.
struct Encoded<'a> {
    track: &'a Track,
    kind: &'static str,
    /// Its pieces, in film order.
    tasks: Vec<&'a DoneTask>,
    /// Of pictures.
    made: Option<Chunks<'a>>,
}

impl Title<'_> {
    fn planning(&self) -> Result<Next, Failure> {
        let index = self.work.one(function::PROBE)?.artifact("index")?.uri.clone();
        let plan = |track: &Track| {
            let args = PlanArgs {
                spec: track.spec.clone(),
                source: self.source.clone(),
                unsplit_threads: self.work.place.unsplit_threads,
                lines: Vec::new(),
                joined: Vec::new(),
            };
            let call = self.work.call(vec![self.spec.source.clone(), index.clone()], Args::Plan(args));
            let resources = Resources::cpu_memory(CORE, limits::TABLES_MEMORY);
            Order { label: track.name.clone(), ..Order::new(call, resources, limits::READ_TIMEOUT) }
        };
        Ok(phase("planning", self.tracks.video.iter().map(plan)))
    }

    /// The first of two passes, of renditions that have two.
    fn analysing(&self) -> Result<Next, Failure> {
        let orders = self.of_chunks(|chunks| chunks.analysing())?;
        if orders.is_empty() { self.encoding() } else { Ok(phase("analysing", orders)) }
    }

    /// Chunks made again so that each rendition meets its rate, and keeps within its buffer.
    fn correcting(&self) -> Result<Next, Failure> {
        let orders = self.of_chunks(|chunks| chunks.correcting())?;
        if orders.is_empty() { self.assembling() } else { Ok(phase("correcting", orders)) }
    }

    fn encoding(&self) -> Result<Next, Failure> {
        let mut orders = self.of_chunks(|chunks| chunks.encoding())?;
        let whole = |plan: &VideoPlan| plan.chunks.iter().map(|chunk| chunk.weight).sum();
        let most: u64 = self.plans()?.into_iter().map(|(_, plan)| whole(plan)).max().unwrap_or(0);
        for track in &self.tracks.audio {
            let jumps = self.stream(track.stream)?.jumps.clone();
            let args = TrackArgs {
                spec: track.spec.clone(),
                stream: track.stream,
                track: 0,
                jumps,
                edits: Vec::new(),
                joined: Vec::new(),
            };
            let call = self.work.call(vec![self.spec.source.clone()], Args::Audio(args));
            let resources = Resources::cpu_memory(CORE, limits::AUDIO_MEMORY);
            orders.push(Order {
                label: track.name.clone(),
                weight: most / 32,
                no_progress: limits::NO_PROGRESS,
                ..Order::new(call, resources, limits::CODEC_TIMEOUT)
            });
        }
        for track in &self.tracks.text {
            let (input, stream, jumps) = match &track.from {
                TextSource::Stream(stream) => (&self.spec.source, Some(*stream), self.stream(*stream)?.jumps.clone()),
                TextSource::File(file) => (file, None, Vec::new()),
            };
            let args = TextArgs { spec: track.spec.clone(), stream, jumps, burn: false };
            let mut call = self.work.call(vec![input.clone()], Args::Text(args));
            if matches!(track.from, TextSource::File(_)) {
                // What the probe found is of another file.
                call.source_version = None;
            }
            let resources = Resources::cpu_memory(CORE, limits::SUBTITLE_MEMORY);
            orders.push(Order {
                label: track.name.clone(),
                weight: most / 500,
                ..Order::new(call, resources, limits::READ_TIMEOUT)
            });
        }
        if let (Some(spec), Some(track)) = (&self.spec.images, self.tracks.video.first()) {
            let args = ImagesArgs { spec: spec.clone(), stream: Some(track.stream) };
            let call = self.work.call(vec![self.spec.source.clone()], Args::Images(args));
            let resources = Resources::cpu_memory(CORE, self.pictures_memory(track.stream)?);
            orders.push(Order {
                label: "images".into(),
                weight: most / 64,
                no_progress: limits::NO_PROGRESS,
                ..Order::new(call, resources, limits::CODEC_TIMEOUT)
            });
        }
        Ok(phase("encoding", orders))
    }

    /// MiB for a decoder of the source's pictures, and a sheet.
    fn pictures_memory(&self, stream: u32) -> Result<u64, Failure> {
        let (width, height) = match &self.stream(stream)?.media {
            MediaFacts::Video(facts) => (facts.width, facts.height),
            _ => (0, 0),
        };
        Ok(limits::TABLES_MEMORY + limits::pictures_memory(width, height))
    }

    fn assembling(&self) -> Result<Next, Failure> {
        let encoded = self.encoded()?;
        let (segment, segments) = self.grid(&encoded)?;
        let mut orders = Vec::new();
        for Encoded { track, kind, tasks, .. } in &encoded {
            let name = if *kind == "video" { "chunk" } else { "track" };
            let pieces = tasks.iter().map(|task| Ok(task.artifact(name)?.uri.clone()));
            let args =
                SegmentArgs { spec: track.spec.clone(), stream: self.stream(track.stream)?.clone(), segment, segments };
            let call = self.work.call(pieces.collect::<Result<_, Failure>>()?, Args::Segment(Box::new(args)));
            let resources = Resources::cpu_memory(CORE, limits::TABLES_MEMORY);
            orders.push(Order { label: track.name.clone(), ..Order::new(call, resources, limits::READ_TIMEOUT) });
        }
        Ok(phase("assembling", orders))
    }

    /// Seconds a segment, and how many segments the pictures have.
    fn grid(&self, encoded: &[Encoded<'_>]) -> Result<(Rational, Option<u32>), Failure> {
        let pictures = encoded.iter().find(|encoded| encoded.kind == "video");
        let Some(Encoded { track, tasks, .. }) = pictures else {
            let us = i32::try_from(self.spec.segment.0).unwrap_or(i32::MAX);
            return Ok((Rational::new(us, 1_000_000), None));
        };
        let rate = track.spec.video.as_ref().and_then(|video| video.frame_rate);
        let rate = rate.ok_or_else(|| Failure::new(Class::Internal, "bad_spec", "a rendition without a frame rate"))?;
        let grid = self.spec.grid(rate);
        let seconds = i32::try_from(grid.segment_frames).ok().and_then(|frames| frames.checked_mul(rate.den));
        let frames: u64 = manifests(tasks)?.iter().map(|piece| piece.units).sum();
        let (whole, rest) = (frames / u64::from(grid.segment_frames), frames % u64::from(grid.segment_frames));
        let own = rest * u64::from(package::SHORT_PART) >= u64::from(grid.segment_frames) || whole == 0;
        let segments = u32::try_from(whole + u64::from(own && rest > 0)).unwrap_or(u32::MAX);
        Ok((Rational::new(seconds.unwrap_or(i32::MAX), rate.num), Some(segments)))
    }

    fn validating(&self) -> Result<Next, Failure> {
        let (encoded, cut) = (self.encoded()?, self.cut()?);
        let mut orders = Vec::new();
        for (Encoded { track, tasks, made, .. }, (cut, _)) in encoded.iter().zip(&cut) {
            let mut inputs = vec![cut.artifact("track")?.uri.clone()];
            let mut memory = limits::TABLES_MEMORY;
            let mut args = ValidateArgs {
                container: track.spec.container,
                verify: track.spec.verify,
                frames: None,
                joins: Vec::new(),
                codecs: vec![self.codec(track, made.is_some())?],
                buffer: None,
            };
            if let Some(made) = made {
                let plan = made.planned.plan;
                args.buffer = made.buffer();
                inputs.push(cut.artifact("timeline")?.uri.clone());
                args.frames = Some(manifests(tasks)?.iter().map(|piece| piece.units).sum());
                args.joins = plan.chunks.iter().map(|chunk| chunk.start).collect();
                memory += limits::decoder_memory(plan);
            }
            let call = self.work.call(inputs, Args::Validate(args));
            let resources = Resources::cpu_memory(CORE, memory);
            orders.push(Order { label: track.name.clone(), ..Order::new(call, resources, limits::CODEC_TIMEOUT) });
        }
        let tables = cut.iter().map(|(task, _)| Ok(task.artifact("segments")?.uri.clone()));
        let tables = tables.collect::<Result<Vec<_>, Failure>>()?;
        let args = ManifestArgs {
            packages: self.spec.packages.clone(),
            tracks: encoded.iter().map(|encoded| self.packaged(encoded)).collect::<Result<_, _>>()?,
            text: self.tracks.text.iter().map(|track| self.packaged_text(track)).collect::<Result<_, _>>()?,
            pictures: self.tracks.pictures.clone(),
        };
        let call = self.work.call(tables, Args::Manifest(args));
        let resources = Resources::cpu_memory(CORE, limits::TABLES_MEMORY);
        orders.push(Order::new(call, resources, limits::READ_TIMEOUT));
        Ok(phase("validating", orders))
    }

    fn packaging(&self) -> Result<Next, Failure> {
        let (mut inputs, mut entries) = (Vec::new(), Vec::new());
        let mut take = |uri: &str| {
            inputs.push(uri.to_owned());
            inputs.len() - 1
        };
        for (encoded, (task, _)) in self.encoded()?.iter().zip(self.cut()?) {
            let (file, table) = (task.artifact("track")?, task.artifact("segments")?);
            entries.push(PackageEntry::Track {
                folder: folder(encoded),
                track: take(&file.uri),
                table: take(&table.uri),
                hash: file.hash.clone(),
            });
        }
        for (track, task) in self.tracks.text.iter().zip(self.texts()?) {
            let text = task.artifact("text")?;
            let path = format!("{}/{}", text_folder(track), package::file::TEXT);
            entries.push(PackageEntry::File { path, input: take(&text.uri), hash: text.hash.clone() });
        }
        for picture in self.work.of(function::IMAGES).iter().flat_map(|task| &task.answer.artifacts) {
            let path = format!("images/{}", picture.name);
            entries.push(PackageEntry::File { path, input: take(&picture.uri), hash: picture.hash.clone() });
        }
        for playlist in &self.work.one(function::MANIFEST)?.answer.artifacts {
            let (path, hash) = (playlist.name.clone(), playlist.hash.clone());
            entries.push(PackageEntry::File { path, input: take(&playlist.uri), hash });
        }
        let args = PublishPackageArgs { output: self.spec.output.clone(), overwrite: self.spec.overwrite, entries };
        let call = self.work.call(inputs, Args::PublishPackage(args));
        let resources = Resources::cpu_memory(CORE, limits::PUBLISH_MEMORY);
        Ok(phase("packaging", [Order::new(call, resources, limits::READ_TIMEOUT)]))
    }

    fn finish(&self) -> Result<Next, Failure> {
        let published = self.work.one(function::PUBLISH_PACKAGE)?;
        let Value::Published { uri, bytes } = &published.answer.value else { return Err(published.wrong_kind()) };
        let mut tracks = Vec::new();
        let mut films = self.work.of(function::VALIDATE).into_iter();
        for (encoded, (_, summary)) in self.encoded()?.iter().zip(self.cut()?) {
            let checked = films.next().map(|task| match &task.answer.value {
                Value::Film(film) => Ok(film),
                _ => Err(task.wrong_kind()),
            });
            let made = encoded.made.as_ref();
            let plan = made.map(|made| made.planned.plan);
            tracks.push(TrackOutput {
                folder: folder(encoded),
                kind: encoded.kind.into(),
                codec: summary.codec.clone(),
                width: plan.map(|plan| plan.width),
                height: plan.map(|plan| plan.height),
                frames: summary.frames,
                chunks: count(encoded.tasks.len()),
                segments: summary.segments,
                bytes: summary.bytes,
                duration_us: summary.duration_us,
                average_bps: summary.average_bps,
                peak_bps: summary.peak_bps,
                rate: made.and_then(Chunks::rate),
                buffer: checked.transpose()?.and_then(|film| film.buffer),
                redone: made.map_or(0, Chunks::redone),
            });
        }
        for (track, task) in self.tracks.text.iter().zip(self.texts()?) {
            let Value::Text(manifest) = &task.answer.value else { return Err(task.wrong_kind()) };
            let end = manifest.cues.iter().map(|cue| cue.end_us).max().unwrap_or(0);
            tracks.push(TrackOutput {
                folder: text_folder(track),
                kind: "text".into(),
                codec: "webvtt".into(),
                width: None,
                height: None,
                frames: None,
                chunks: 1,
                segments: 1,
                bytes: task.artifact("text")?.bytes,
                duration_us: u64::try_from(end).unwrap_or(0),
                average_bps: 0,
                peak_bps: 0,
                rate: None,
                buffer: None,
                redone: 0,
            });
        }
        let package = |package: &spool_proto::spec::title::Package| PackageOutput {
            kind: *package,
            uri: format!("{uri}{}", package.entry()),
        };
        let output = TitleOutput {
            uri: uri.clone(),
            path: uri::to_path(uri).ok().map(|path| path.to_string_lossy().into_owned()),
            duration_us: tracks.iter().filter(|t| t.kind != "text").map(|t| t.duration_us).max().unwrap_or(0),
            bytes: *bytes,
            packages: self.spec.packages.iter().map(package).collect(),
            tracks,
        };
        let output = serde_json::to_vec(&output).expect("an output is plain data with string keys");
        Ok(Next::Finish { output: output.into() })
    }

    // ---- what the tasks answered ----

    fn plans(&self) -> Result<Vec<(&DoneTask, &VideoPlan)>, Failure> {
        let done = self.work.of(function::PLAN);
        if done.len() != self.tracks.video.len() {
            let why = format!("{} renditions and {} plans", self.tracks.video.len(), done.len());
            return Err(Failure::new(Class::Internal, "missing_task", why));
        }
        let plan = |task| -> Result<_, Failure> {
            let task: &DoneTask = task;
            match &task.answer.value {
                Value::Plan(PlanSummary { video: Some(video), .. }) => Ok((task, video)),
                _ => Err(task.wrong_kind()),
            }
        };
        done.into_iter().map(plan).collect()
    }

    /// How far the chunks of each rendition are.
    fn chunks(&self) -> Result<Vec<Chunks<'_>>, Failure> {
        let tracks = self.tracks.video.iter().zip(self.plans()?);
        let planned = tracks.map(|(track, (task, plan))| Planned { name: &track.name, spec: &track.spec, task, plan });
        chunks::chunks(self.work, &planned.collect::<Vec<_>>())
    }

    fn of_chunks(&self, orders: impl Fn(&Chunks<'_>) -> Result<Vec<Order>, Failure>) -> Result<Vec<Order>, Failure> {
        let chunks = self.chunks()?;
        let all = chunks.iter().map(orders).collect::<Result<Vec<_>, Failure>>()?;
        Ok(all.into_iter().flatten().collect())
    }

    /// Video and audio tracks, in the order they were ordered in.
    fn encoded(&self) -> Result<Vec<Encoded<'_>>, Failure> {
        let mut encoded = Vec::new();
        let missing = |track: &Track| {
            Failure::new(Class::Internal, "missing_task", format!("{}: not all of it was encoded", track.name))
        };
        for (track, chunks) in self.tracks.video.iter().zip(self.chunks()?) {
            let tasks = chunks.pieces()?.iter().map(|(task, _)| *task).collect();
            encoded.push(Encoded { track, kind: "video", tasks, made: Some(chunks) });
        }
        let mut sounds = self.work.of(function::AUDIO).into_iter();
        for track in &self.tracks.audio {
            let task = sounds.next().ok_or_else(|| missing(track))?;
            encoded.push(Encoded { track, kind: "audio", tasks: vec![task], made: None });
        }
        Ok(encoded)
    }

    /// One a text track.
    fn texts(&self) -> Result<Vec<&DoneTask>, Failure> {
        let done = self.work.of(function::TEXT);
        if done.len() == self.tracks.text.len() {
            return Ok(done);
        }
        let why = format!("{} text tracks and {} texts", self.tracks.text.len(), done.len());
        Err(Failure::new(Class::Internal, "missing_task", why))
    }

    /// One a track.
    fn cut(&self) -> Result<Vec<(&DoneTask, &SegmentSummary)>, Failure> {
        let summary = |task| -> Result<_, Failure> {
            let task: &DoneTask = task;
            match &task.answer.value {
                Value::Segments(summary) => Ok((task, summary)),
                _ => Err(task.wrong_kind()),
            }
        };
        self.work.of(function::SEGMENT).into_iter().map(summary).collect()
    }

    fn stream(&self, index: u32) -> Result<&StreamFacts, Failure> {
        self.source
            .streams
            .iter()
            .find(|stream| stream.index == index)
            .ok_or_else(|| Failure::new(Class::Internal, "no_such_stream", format!("the source has no stream {index}")))
    }

    fn codec(&self, track: &Track, pictures: bool) -> Result<String, Failure> {
        let made = track.spec.audio.as_ref().and_then(|audio| audio.codec.made());
        Ok(match (track.spec.video.as_ref().filter(|_| pictures), made) {
            (Some(video), _) => video.codec.made().to_owned(),
            (None, Some(made)) => made.to_owned(),
            (None, None) => self.stream(track.stream)?.codec.clone(),
        })
    }

    fn packaged(&self, encoded: &Encoded<'_>) -> Result<PackagedTrack, Failure> {
        let stream = self.stream(encoded.track.stream)?;
        let known = |language: &&String| !language.is_empty() && *language != "und";
        let name = match encoded.kind {
            "audio" => stream.title.clone().or(stream.language.as_ref().filter(known).cloned()),
            _ => None,
        };
        Ok(PackagedTrack {
            folder: folder(encoded),
            name: name.unwrap_or_else(|| encoded.track.name.clone()),
            language: stream.language.clone().filter(|_| encoded.kind == "audio"),
            default: has(stream, "default"),
            forced: false,
        })
    }

    fn packaged_text(&self, track: &TextTrack) -> Result<PackagedTrack, Failure> {
        let stream = match track.from {
            TextSource::Stream(stream) => Some(self.stream(stream)?),
            TextSource::File(_) => None,
        };
        let title = stream.and_then(|stream| stream.title.clone());
        Ok(PackagedTrack {
            folder: text_folder(track),
            name: title.or(track.language.clone()).unwrap_or_else(|| track.name.clone()),
            language: track.language.clone(),
            default: stream.is_some_and(|stream| has(stream, "default")),
            forced: stream.is_some_and(|stream| has(stream, "forced")),
        })
    }
}

fn has(stream: &StreamFacts, disposition: &str) -> bool {
    stream.disposition.iter().any(|d| d == disposition)
}

fn text_folder(track: &TextTrack) -> String {
    format!("text/{}", track.name)
}

fn folder(encoded: &Encoded<'_>) -> String {
    format!("{}/{}", encoded.kind, encoded.track.name)
}

fn manifests<'a>(tasks: &[&'a DoneTask]) -> Result<Vec<&'a TrackManifest>, Failure> {
    let manifest = |(number, task): (u32, &&'a DoneTask)| match &task.answer.value {
        Value::Track(piece) if piece.chunk == Some(number) => Ok(piece),
        _ => Err(task.wrong_kind()),
    };
    (0u32..).zip(tasks).map(manifest).collect()
}
