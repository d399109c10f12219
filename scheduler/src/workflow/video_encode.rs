//! `video-encode`: probe, plan, encode chunks (in two passes) and tracks, assemble, validate (and score), publish.

use spool_core::io::Next;
use spool_proto::call::{
    Args, AssembleArgs, AssembleTrack, Call, CueTimes, IndexArgs, KeyframeTable, MediaFacts, Pairing, PlanArgs,
    PlanSummary, ProbeArgs, PublishArgs, QualityArgs, QualityReportArgs, TextArgs, TrackArgs, TrackManifest,
    ValidateArgs, Value, VideoPlan, function,
};
use spool_proto::failure::{Class, Failure};
use spool_proto::quality::{ChunkScores, FilmScores};
use spool_proto::resources::Resources;
use spool_proto::spec::{AudioCodec, Container, EncodeSpec, Filter, QualitySpec, VideoCodec, VideoSpec};
use spool_proto::uri;
use spool_proto::view::{ChunkView, EncodeOutput, SourceFetch};

use super::chunks::{self, Chunks, Planned, count};
use super::{DoneTask, Order, Work, bad_answer, limits, phase, unknown_phase};

pub(super) fn next(spec: &EncodeSpec, work: Work<'_>, phase: Option<&str>) -> Result<Next, Failure> {
    let film = Film { spec, work };
    match phase {
        None => Ok(film.probing()),
        Some("probing") => film.reading(),
        Some("reading") => film.planning(),
        Some("planning") => film.analysing(),
        Some("analysing") => film.encoding(),
        Some("encoding" | "correcting") => film.correcting(),
        Some("assembling") => film.validating(),
        Some("validating") if spec.quality.is_some() => film.reporting(),
        Some("validating" | "reporting") => film.packaging(),
        Some("packaging") => film.finish(),
        Some(other) => Err(unknown_phase("video-encode", other)),
    }
}

struct Film<'a> {
    spec: &'a EncodeSpec,
    work: Work<'a>,
}

impl Film<'_> {
    fn probing(&self) -> Next {
        let order = |(number, source): (u32, &String)| {
            let spec = self.spec.of_input(number);
            let args = Args::Probe(ProbeArgs { index_for: Some(spec), crop_bars: false });
            let call = self.work.call(vec![source.clone()], args);
            let resources = Resources::cpu_memory(limits::CORE, limits::TABLES_MEMORY);
            let label = if self.spec.joined.is_empty() { String::new() } else { format!("input {number}") };
            Order { label, ..Order::new(call, resources, limits::READ_TIMEOUT) }
        };
        phase("probing", (0..).zip(self.spec.sources()).map(order))
    }

    /// The text that is drawn into the pictures, where there is one.
    fn reading(&self) -> Result<Next, Failure> {
        let Some(burn) = self.spec.video.as_ref().and_then(VideoSpec::burn_in) else { return self.planning() };
        let order = |call| {
            let resources = Resources::cpu_memory(limits::CORE, limits::SUBTITLE_MEMORY);
            phase("reading", [Order::new(call, resources, limits::READ_TIMEOUT)])
        };
        let args = |stream, jumps| Args::Text(TextArgs { spec: self.spec.clone(), stream, jumps, burn: true });
        if let Some(file) = &burn.file {
            let call = self.work.call(vec![file.clone()], args(None, Vec::new()));
            // What the probe found is of another file.
            return Ok(order(Call { source_version: None, ..call }));
        }
        let source = self.work.source()?;
        let text: Vec<_> = source.streams.iter().filter(|s| matches!(s.media, MediaFacts::Subtitle)).collect();
        let chosen = match burn.stream {
            Some(number) => usize::try_from(number).ok().and_then(|number| text.get(number)),
            None => text.iter().find(|s| s.disposition.iter().any(|d| d == "default")).or_else(|| text.first()),
        };
        let Some(chosen) = chosen else {
            let message = format!(
                "-vf {}: {} has {} subtitle streams; choose one of them with si=N, counted from 0, or give a file",
                Filter::Subtitles(burn.clone()),
                uri::shown(&self.spec.source),
                text.len()
            );
            return Err(Failure::new(Class::Spec, "no_such_stream", message));
        };
        let args = args(Some(chosen.index), chosen.jumps.clone());
        Ok(order(self.work.call(vec![self.spec.source.clone()], args)))
    }

    /// When lines of the text that is drawn share the picture.
    fn lines(&self) -> Result<Vec<CueTimes>, Failure> {
        let Some(task) = self.work.of(function::TEXT).first().copied() else { return Ok(Vec::new()) };
        let Value::Text(text) = &task.answer.value else { return Err(task.wrong_kind()) };
        Ok(text.cues.clone())
    }

    fn planning(&self) -> Result<Next, Failure> {
        let probes = self.work.of(function::PROBE);
        let mut inputs: Vec<String> = self.spec.sources().cloned().collect();
        // Without video in the output there is no packet index.
        inputs.extend(probes.iter().filter_map(|probe| Some(probe.artifact("index").ok()?.uri.clone())));
        let mut joined = Vec::new();
        for probe in probes.iter().skip(1) {
            let Value::Probe(facts) = &probe.answer.value else { return Err(probe.wrong_kind()) };
            joined.push((**facts).clone());
        }
        let args = PlanArgs {
            spec: self.spec.clone(),
            source: self.work.source()?.clone(),
            unsplit_threads: self.work.place.unsplit_threads,
            lines: self.lines()?,
            joined,
        };
        let call = self.work.call(inputs, Args::Plan(args));
        Ok(phase(
            "planning",
            [Order::new(call, Resources::cpu_memory(limits::CORE, limits::TABLES_MEMORY), limits::READ_TIMEOUT)],
        ))
    }

    /// The first of two passes, where two are asked for.
    fn analysing(&self) -> Result<Next, Failure> {
        let orders = self.chunks()?.map_or(Ok(Vec::new()), |chunks| chunks.analysing())?;
        if orders.is_empty() { self.encoding() } else { Ok(phase("analysing", orders)) }
    }

    fn encoding(&self) -> Result<Next, Failure> {
        let plan = self.plan()?;
        let mut orders = self.chunks()?.map_or(Ok(Vec::new()), |chunks| chunks.encoding())?;
        let whole = orders.iter().fold(0u64, |sum, order| sum.saturating_add(order.weight));
        // An audio track costs a few hundredths of what its pictures cost: heavier than a chunk of a long film, so that it is
        // not the last to end, and lighter than one of a short film, so that it does not hold the pictures up.
        let audio_weight = |track: &TrackArgs| {
            let copied = track.spec.audio_of(track.track).is_some_and(|a| a.codec == AudioCodec::Copy);
            whole / if copied { 500 } else { 32 }
        };
        for (n, track) in (1..).zip(&plan.audio) {
            let call = self.work.call(self.spec.sources().cloned().collect(), Args::Audio(track.clone()));
            let resources = Resources::cpu_memory(limits::CORE, limits::AUDIO_MEMORY);
            orders.push(Order {
                label: format!("audio {n}"),
                weight: audio_weight(track),
                no_progress: limits::NO_PROGRESS,
                ..Order::new(call, resources, limits::CODEC_TIMEOUT)
            });
        }
        for (n, track) in (1..).zip(&plan.subtitles) {
            let call = self.work.call(vec![self.spec.source.clone()], Args::Subtitle(track.clone()));
            let resources = Resources::cpu_memory(limits::CORE, limits::SUBTITLE_MEMORY);
            orders.push(Order {
                label: format!("subtitle {n}"),
                weight: whole / 500,
                ..Order::new(call, resources, limits::READ_TIMEOUT)
            });
        }
        if orders.is_empty() {
            let why = format!("{}: no stream of it goes into the output; choose some with -map", self.spec.source);
            return Err(Failure::new(Class::Spec, "nothing_to_encode", why));
        }
        Ok(phase("encoding", orders))
    }

    /// Chunks made again so that the film meets its rate, or keeps within its buffer, where it does not; else the join.
    fn correcting(&self) -> Result<Next, Failure> {
        let orders = self.chunks()?.map_or(Ok(Vec::new()), |chunks| chunks.correcting())?;
        if orders.is_empty() { self.assembling() } else { Ok(phase("correcting", orders)) }
    }

    fn assembling(&self) -> Result<Next, Failure> {
        let plan = self.plan()?;
        let mut inputs = vec![self.spec.source.clone()];
        let mut tracks = Vec::new();
        let mut take = |task: &DoneTask, name: &str| {
            inputs.push(task.artifact(name)?.uri.clone());
            Ok::<(), Failure>(())
        };
        if let (Some(chunks), Some(video)) = (self.chunks()?, &plan.video) {
            for (task, _) in chunks.pieces()? {
                take(task, "chunk")?;
            }
            tracks.push(AssembleTrack { stream: video.stream, pieces: count(video.chunks.len()) });
        }
        for (of, planned) in [(function::AUDIO, &plan.audio), (function::SUBTITLE, &plan.subtitles)] {
            let done = self.work.of(of);
            if done.len() != planned.len() {
                return Err(self.plan_disagrees(&format!("{} calls of {of}, {} were made", planned.len(), done.len())));
            }
            for (task, track) in done.into_iter().zip(planned) {
                take(task, "track")?;
                tracks.push(AssembleTrack { stream: track.stream, pieces: 1 });
            }
        }
        let (spec, source, edits) = (self.spec.clone(), self.work.source()?.clone(), plan.edits.clone());
        let call = self.work.call(inputs, Args::Assemble(AssembleArgs { spec, source, tracks, edits }));
        Ok(phase(
            "assembling",
            [Order::new(call, Resources::cpu_memory(limits::CORE, limits::TABLES_MEMORY), limits::READ_TIMEOUT)],
        ))
    }

    fn validating(&self) -> Result<Next, Failure> {
        let (plan, assembly) = (self.plan()?, self.work.one(function::ASSEMBLE)?);
        let film = assembly.artifact("film")?.uri.clone();
        let mut args = ValidateArgs {
            container: self.spec.container,
            verify: self.spec.verify,
            frames: None,
            joins: Vec::new(),
            codecs: Vec::new(),
            buffer: None,
        };
        let mut inputs = vec![film.clone()];
        let mut memory = limits::TABLES_MEMORY;
        let mut scoring = Vec::new();
        if let (Some(chunks), Some(video), Some(asked)) = (self.chunks()?, &plan.video, &self.spec.video) {
            inputs.push(assembly.artifact("timeline")?.uri.clone());
            args.frames = Some(chunks.pieces()?.iter().map(|(_, piece)| piece.units).sum());
            args.buffer = chunks.buffer();
            args.joins = video.chunks.iter().map(|chunk| chunk.start).collect();
            args.codecs.push(codec(asked.codec).into());
            memory += limits::decoder_memory(video);
            if let Some(quality) = &self.spec.quality {
                scoring = self.scoring(video, quality, chunks.pieces()?)?;
            }
        }
        let joins = args.joins.clone();
        // A stream without packets becomes no track there; Matroska keeps it as an empty one. As in ffmpeg.
        let keeps_empty = !matches!(self.spec.container, Container::Mp4 | Container::Mov);
        for (of, planned) in [(function::AUDIO, &plan.audio), (function::SUBTITLE, &plan.subtitles)] {
            for (task, track) in self.work.of(of).into_iter().zip(planned) {
                let Value::Track(piece) = &task.answer.value else { return Err(task.wrong_kind()) };
                if piece.packets > 0 || keeps_empty {
                    args.codecs.push(match of {
                        _ if !piece.codec.is_empty() => piece.codec.clone(),
                        function::AUDIO => self.audio_codec(track)?,
                        _ => self.source_codec(track.stream)?,
                    });
                }
            }
        }
        let validate = self.work.call(inputs, Args::Validate(args));
        let index = self.work.call(vec![film], Args::Index(IndexArgs { joins }));
        let mut orders = vec![
            Order::new(validate, Resources::cpu_memory(limits::CORE, memory), limits::CODEC_TIMEOUT),
            Order::new(index, Resources::cpu_memory(limits::CORE, limits::TABLES_MEMORY), limits::READ_TIMEOUT),
        ];
        orders.extend(scoring);
        Ok(phase("validating", orders))
    }

    /// Each chunk against what its encoder was given.
    fn scoring(
        &self,
        video: &VideoPlan,
        quality: &QualitySpec,
        pieces: &[(&DoneTask, &TrackManifest)],
    ) -> Result<Vec<Order>, Failure> {
        let table = &self.work.one(function::PLAN)?.artifact("plan")?.uri;
        let mut orders = Vec::new();
        for ((number, planned), (task, _)) in (0u32..).zip(&video.chunks).zip(pieces) {
            let args = QualityArgs {
                metrics: quality.metrics.clone(),
                pairing: Pairing::Chunk { spec: self.spec.clone(), chunk: number },
                threads: 1,
            };
            let mut inputs = vec![self.spec.source.clone(), table.clone(), task.artifact("chunk")?.uri.clone()];
            let overlay = self.spec.video.as_ref().and_then(|video| video.overlay.as_ref());
            inputs.extend(overlay.map(|overlay| overlay.image.clone()));
            inputs.extend(chunks::script(self.work)?);
            // The source's decoder and the chunk's; the source's pictures may be larger than what is made of them.
            let memory = limits::TABLES_MEMORY + 2 * limits::decoder_memory(video).max(planned.memory_mib);
            orders.push(Order {
                no_progress: limits::NO_PROGRESS,
                label: format!("quality {number}"),
                weight: planned.weight,
                ..Order::new(
                    self.work.call(inputs, Args::Quality(Box::new(args))),
                    Resources::cpu_memory(limits::CORE, memory),
                    limits::CODEC_TIMEOUT,
                )
            });
        }
        Ok(orders)
    }

    /// What every chunk scored, and the film.
    fn reporting(&self) -> Result<Next, Failure> {
        let scored = self.work.of(function::QUALITY);
        let Some(first) = scored.first() else { return self.packaging() };
        let Value::Quality(manifest) = &first.answer.value else { return Err(first.wrong_kind()) };
        let mut inputs = vec![self.work.one(function::INDEX)?.artifact("table")?.uri.clone()];
        for task in &scored {
            inputs.push(task.artifact("scores")?.uri.clone());
        }
        let path = |uri: &str| uri::to_path(uri).map_or(uri.to_owned(), |path| path.to_string_lossy().into_owned());
        let args = QualityReportArgs {
            reference: path(&self.spec.source),
            distorted: path(&self.spec.output),
            reference_picture: manifest.reference.clone(),
            distorted_picture: manifest.distorted.clone(),
            joins: self.plan()?.video.iter().flat_map(|video| &video.chunks).map(|chunk| chunk.start).collect(),
        };
        let call = self.work.call(inputs, Args::QualityReport(args));
        Ok(phase(
            "reporting",
            [Order::new(call, Resources::cpu_memory(limits::CORE, limits::TABLES_MEMORY), limits::READ_TIMEOUT)],
        ))
    }

    fn packaging(&self) -> Result<Next, Failure> {
        let film = self.work.one(function::ASSEMBLE)?.artifact("film")?;
        let (mut inputs, mut beside) = (vec![film.uri.clone()], Vec::new());
        let mut index = None;
        let reported = self.work.of(function::QUALITY_REPORT).first().copied();
        if let Some(to) = &self.spec.index {
            let from = reported.map_or_else(|| self.work.one(function::INDEX), Ok)?;
            match from.artifact("table") {
                Ok(table) => {
                    inputs.push(table.uri.clone());
                    beside.push(to.clone());
                }
                // A worker of the release before this one answered.
                Err(_) => index = Some((to.clone(), self.keyframes()?.clone())),
            }
        }
        let report = self.spec.quality.as_ref().and_then(|quality| quality.report.as_ref());
        if let (Some(task), Some(to)) = (reported, report) {
            for (name, to) in [("report", to.clone()), ("chart", chart_of(to))] {
                inputs.push(task.artifact(name)?.uri.clone());
                beside.push(to);
            }
        }
        let args = PublishArgs {
            output: self.spec.output.clone(),
            overwrite: self.spec.overwrite,
            hash: film.hash.clone(),
            index,
            beside,
        };
        let call = self.work.call(inputs, Args::Publish(args));
        Ok(phase(
            "packaging",
            [Order::new(call, Resources::cpu_memory(limits::CORE, limits::PUBLISH_MEMORY), limits::READ_TIMEOUT)],
        ))
    }

    /// With `--quality`: the film's scores and each chunk's.
    fn scores(&self) -> Result<Option<FilmScores>, Failure> {
        let Some(report) = self.work.of(function::QUALITY_REPORT).first().copied() else { return Ok(None) };
        let Value::Quality(whole) = &report.answer.value else { return Err(report.wrong_kind()) };
        let mut chunks = Vec::new();
        for (chunk, task) in (0u32..).zip(self.work.of(function::QUALITY)) {
            let Value::Quality(part) = &task.answer.value else { return Err(task.wrong_kind()) };
            chunks.push(ChunkScores {
                chunk,
                start: part.first_frame,
                end: part.first_frame + part.frames,
                time_us: part.first_time_us,
                scores: part.scores.clone(),
            });
        }
        Ok(Some(FilmScores { scores: whole.scores.clone(), chunks }))
    }

    fn finish(&self) -> Result<Next, Failure> {
        let plan = self.plan()?;
        let published = self.work.one(function::PUBLISH)?;
        let Value::Published { uri, bytes } = &published.answer.value else { return Err(published.wrong_kind()) };
        let checked = self.work.one(function::VALIDATE)?;
        let Value::Film(film) = &checked.answer.value else { return Err(checked.wrong_kind()) };
        let made = self.chunks()?;
        let mut chunks = Vec::new();
        if let (Some(made), Some(video)) = (&made, &plan.video) {
            for ((number, planned), (task, piece)) in (0u32..).zip(&video.chunks).zip(made.pieces()?) {
                chunks.push(ChunkView {
                    chunk: number,
                    start: planned.start,
                    end: planned.start + piece.units,
                    cut: planned.cut.clone(),
                    worker: task.worker.clone(),
                    attempt: task.attempt,
                    frames: piece.units,
                    bytes: piece.bytes,
                    hash: task.artifact("chunk")?.hash.clone(),
                    encode_time: task.finished.since(task.started),
                    entry: piece.entry.clone(),
                    peak_memory_mib: piece.peak_memory_mib,
                    fetched_bytes: task.answer.source.as_ref().map(|source| source.fetched_bytes),
                });
            }
        }
        let output = EncodeOutput {
            uri: uri.clone(),
            path: uri::to_path(uri).ok().map(|path| path.to_string_lossy().into_owned()),
            frames: film.video_frames,
            duration_us: film.duration_us,
            bytes: *bytes,
            hash: self.work.one(function::ASSEMBLE)?.artifact("film")?.hash.clone(),
            chunks,
            keyframes: u64::try_from(self.keyframes()?.keyframes.len()).unwrap_or(u64::MAX),
            unsplit_reason: plan.video.as_ref().and_then(|video| video.unsplit_reason.clone()),
            quality: self.scores()?,
            source: self.source_fetch(),
            rate: made.as_ref().and_then(Chunks::rate),
            buffer: film.buffer,
            redone: made.as_ref().map_or(0, Chunks::redone),
        };
        let output = serde_json::to_vec(&output).expect("an output is plain data with string keys");
        Ok(Next::Finish { output: output.into() })
    }

    /// `None`: it is a file of the workers' machines.
    fn source_fetch(&self) -> Option<SourceFetch> {
        let source_bytes = self.work.one(function::PROBE).ok()?.answer.source.as_ref()?.source_bytes;
        let fetched = |tasks: &mut dyn Iterator<Item = &DoneTask>| {
            tasks.filter_map(|task| task.answer.source.as_ref()).map(|source| source.fetched_bytes).sum()
        };
        Some(SourceFetch {
            source_bytes,
            fetched_bytes: fetched(&mut self.work.tasks.iter()),
            chunks_fetched_bytes: fetched(&mut self.work.tasks.iter().filter(|task| task.function == function::ENCODE)),
        })
    }

    // ---- what the tasks answered ----

    fn plan(&self) -> Result<&PlanSummary, Failure> {
        let plan = self.work.one(function::PLAN)?;
        let Value::Plan(summary) = &plan.answer.value else { return Err(plan.wrong_kind()) };
        Ok(summary)
    }

    fn plan_disagrees(&self, what: &str) -> Failure {
        match self.work.one(function::PLAN) {
            Ok(plan) => bad_answer(plan.id, &plan.function, &format!("it planned {what}")),
            Err(failure) => failure,
        }
    }

    /// How far the chunks are. `None`: the film has no pictures.
    fn chunks(&self) -> Result<Option<Chunks<'_>>, Failure> {
        let (task, Some(plan)) = (self.work.one(function::PLAN)?, &self.plan()?.video) else { return Ok(None) };
        let planned = Planned { name: "", spec: self.spec, task, plan };
        Ok(chunks::chunks(self.work, &[planned])?.pop())
    }

    fn keyframes(&self) -> Result<&KeyframeTable, Failure> {
        let index = self.work.one(function::INDEX)?;
        let Value::Index(table) = &index.answer.value else { return Err(index.wrong_kind()) };
        Ok(table)
    }

    fn audio_codec(&self, track: &TrackArgs) -> Result<String, Failure> {
        match self.spec.audio_of(track.track).and_then(|audio| audio.codec.made()) {
            Some(made) => Ok(made.into()),
            None => self.source_codec(track.stream),
        }
    }

    fn source_codec(&self, stream: u32) -> Result<String, Failure> {
        let streams = &self.work.source()?.streams;
        let found = streams.iter().find(|s| s.index == stream && !matches!(s.media, MediaFacts::Data));
        found.map(|s| s.codec.clone()).ok_or_else(|| self.plan_disagrees(&format!("a track of stream {stream}")))
    }
}

/// The chart stands beside its report: `scores.json`, `scores.svg`.
fn chart_of(report: &str) -> String {
    let name = report.rfind('/').map_or(0, |slash| slash + 1);
    let stem = report[name..].rfind('.').filter(|dot| *dot > 0).map_or(report, |dot| &report[..name + dot]);
    format!("{stem}.svg")
}

/// libav's name of what the library makes.
pub(super) fn codec(codec: VideoCodec) -> &'static str {
    match codec {
        VideoCodec::Libx264 => "h264",
        VideoCodec::Libx265 => "hevc",
        VideoCodec::Libsvtav1 => "av1",
        VideoCodec::LibvpxVp9 => "vp9",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_its_reports_name() {
        for (report, chart) in [
            ("file:///a.b/scores.json", "file:///a.b/scores.svg"),
            ("file:///a.b/scores", "file:///a.b/scores.svg"),
            ("file:///a/.scores", "file:///a/.scores.svg"),
        ] {
            assert_eq!(chart_of(report), chart);
        }
    }
}
