//! `video-encode`: probe, plan, encode chunks (in two passes) and tracks, assemble, validate (and score), publish.

use spool_core::io::Next;
use spool_proto::call::{
    Args, AssembleArgs, AssembleTrack, ChunkSummary, EncodeArgs, IndexArgs, KeyframeTable, MediaFacts, Pairing,
    PlanArgs, PlanSummary, ProbeArgs, PublishArgs, QualityArgs, QualityReportArgs, TrackArgs, TrackManifest,
    ValidateArgs, Value, VideoPlan, function,
};
use spool_proto::failure::{Class, Failure};
use spool_proto::quality::{ChunkScores, FilmScores};
use spool_proto::resources::Resources;
use spool_proto::spec::{AudioCodec, Container, EncodeSpec, QualitySpec, VideoCodec};
use spool_proto::uri;
use spool_proto::view::{ChunkView, EncodeOutput, FilmRate, SourceFetch};

use super::{DoneTask, Order, Work, bad_answer, limits, phase, rate, unknown_phase};

pub(super) fn next(spec: &EncodeSpec, work: Work<'_>, phase: Option<&str>) -> Result<Next, Failure> {
    let film = Film { spec, work };
    match phase {
        None => Ok(film.probing()),
        Some("probing") => film.planning(),
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

/// Rounds of chunks made again so that two passes meet the film's rate.
const CORRECTIONS_MAX: u32 = 2;

/// How far two passes are.
struct Passes<'a> {
    /// First passes, in film order.
    first: Vec<&'a DoneTask>,
    shares: Vec<rate::Share>,
    /// Of each chunk, last. Bits a second.
    asked: Vec<u64>,
    /// To be made again: chunk, and what to ask for.
    again: Vec<(usize, u64)>,
    /// Chunks made again so far.
    redone: u32,
}

struct Film<'a> {
    spec: &'a EncodeSpec,
    work: Work<'a>,
}

impl Film<'_> {
    fn probing(&self) -> Next {
        let args = Args::Probe(ProbeArgs { index_for: Some(self.spec.clone()), crop_bars: false });
        let call = self.work.call(vec![self.spec.source.clone()], args);
        phase(
            "probing",
            [Order::new(call, Resources::cpu_memory(limits::CORE, limits::TABLES_MEMORY), limits::READ_TIMEOUT)],
        )
    }

    fn planning(&self) -> Result<Next, Failure> {
        let probe = self.work.one(function::PROBE)?;
        let mut inputs = vec![self.spec.source.clone()];
        // Without video in the output there is no packet index.
        inputs.extend(probe.artifact("index").ok().map(|index| index.uri.clone()));
        let args = PlanArgs {
            spec: self.spec.clone(),
            source: self.work.source()?.clone(),
            unsplit_threads: self.work.place.unsplit_threads,
        };
        let call = self.work.call(inputs, Args::Plan(args));
        Ok(phase(
            "planning",
            [Order::new(call, Resources::cpu_memory(limits::CORE, limits::TABLES_MEMORY), limits::READ_TIMEOUT)],
        ))
    }

    /// The first of two passes, where two are asked for.
    fn analysing(&self) -> Result<Next, Failure> {
        let Some(video) = self.plan()?.video.as_ref().filter(|_| self.is_two_pass()) else { return self.encoding() };
        let orders = (0u32..).zip(&video.chunks).map(|(number, chunk)| {
            let (args, inputs) = self.chunk(video, number, chunk)?;
            self.codec_order(chunk, format!("pass 1, chunk {number}"), inputs, Args::Analyse(args))
        });
        Ok(phase("analysing", orders.collect::<Result<Vec<_>, Failure>>()?))
    }

    fn encoding(&self) -> Result<Next, Failure> {
        let plan = self.plan()?;
        let mut orders = Vec::new();
        let mut whole = 0u64;
        if let Some(video) = &plan.video {
            whole = video.chunks.iter().fold(0, |sum, chunk| sum.saturating_add(chunk.weight));
            let passes = self.passes(video)?;
            for (number, chunk) in (0u32..).zip(&video.chunks) {
                let asked = passes.as_ref().map(|passes| passes.asked[index(number)]);
                let label = format!("chunk {number}");
                orders.push(self.encode(video, number, chunk, passes.as_ref().zip(asked), label)?);
            }
        }
        // An audio track costs a few hundredths of what its pictures cost: heavier than a chunk of a long film, so that it is
        // not the last to end, and lighter than one of a short film, so that it does not hold the pictures up.
        let audio_weight = |track: &TrackArgs| {
            let copied = track.spec.audio_of(track.track).is_some_and(|a| a.codec == AudioCodec::Copy);
            whole / if copied { 500 } else { 32 }
        };
        for (n, track) in (1..).zip(&plan.audio) {
            let call = self.work.call(vec![self.spec.source.clone()], Args::Audio(track.clone()));
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

    /// Chunks made again so that the film meets its rate, where it does not; else the join.
    fn correcting(&self) -> Result<Next, Failure> {
        let Some(video) = &self.plan()?.video else { return self.assembling() };
        let Some(passes) = self.passes(video)?.filter(|passes| !passes.again.is_empty()) else {
            return self.assembling();
        };
        let mut orders = Vec::new();
        for &(chunk, asked) in &passes.again {
            let (number, planned) = (count(chunk), &video.chunks[chunk]);
            let label = format!("chunk {number} again");
            orders.push(self.encode(video, number, planned, Some((&passes, asked)), label)?);
        }
        Ok(phase("correcting", orders))
    }

    /// `target`: of a second pass, and the rate asked for, bits a second.
    fn encode(
        &self,
        video: &VideoPlan,
        number: u32,
        chunk: &ChunkSummary,
        target: Option<(&Passes<'_>, u64)>,
        label: String,
    ) -> Result<Order, Failure> {
        let (mut args, mut inputs) = self.chunk(video, number, chunk)?;
        if let Some((passes, asked)) = target {
            args.target = Some(rate::target(&passes.shares, asked));
            let first = passes.first[index(number)];
            inputs.push(first.artifact("stats")?.uri.clone());
            inputs.extend(first.artifact("tree").ok().map(|tree| tree.uri.clone()));
        }
        self.codec_order(chunk, label, inputs, Args::Encode(args))
    }

    fn chunk(
        &self,
        video: &VideoPlan,
        number: u32,
        chunk: &ChunkSummary,
    ) -> Result<(EncodeArgs, Vec<String>), Failure> {
        let table = self.work.one(function::PLAN)?.artifact("plan")?.uri.clone();
        let (spec, stream) = (self.spec.clone(), video.stream);
        let args = EncodeArgs { spec, stream, chunk: number, threads: chunk.threads, target: None };
        Ok((args, vec![self.spec.source.clone(), table]))
    }

    fn codec_order(
        &self,
        chunk: &ChunkSummary,
        label: String,
        mut inputs: Vec<String>,
        args: Args,
    ) -> Result<Order, Failure> {
        let video = self.spec.video.as_ref().ok_or_else(|| self.plan_disagrees("video without being asked for it"))?;
        inputs.extend(video.overlay.iter().map(|overlay| overlay.image.clone()));
        let call = self.work.call(inputs, args);
        // Threads are the user's to choose; more of them than the largest worker has cores share those cores.
        let cores = u64::from(chunk.threads.clamp(1, self.work.place.unsplit_threads.max(1)));
        let resources = Resources::cpu_memory(cores * limits::CORE, chunk.memory_mib);
        Ok(Order {
            backend: format!("cpu/{}", video.codec.name()),
            no_progress: limits::NO_PROGRESS,
            label,
            weight: chunk.weight,
            ..Order::new(call, resources, limits::CODEC_TIMEOUT)
        })
    }

    fn assembling(&self) -> Result<Next, Failure> {
        let plan = self.plan()?;
        let mut inputs = vec![self.spec.source.clone()];
        let mut tracks = Vec::new();
        let mut take = |task: &DoneTask, name: &str| {
            inputs.push(task.artifact(name)?.uri.clone());
            Ok::<(), Failure>(())
        };
        if let Some(video) = &plan.video {
            for (task, _) in self.chunks(video)? {
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
        };
        let mut inputs = vec![film.clone()];
        let mut memory = limits::TABLES_MEMORY;
        let mut scoring = Vec::new();
        if let (Some(video), Some(asked)) = (&plan.video, &self.spec.video) {
            inputs.push(assembly.artifact("timeline")?.uri.clone());
            args.frames = Some(self.chunks(video)?.iter().map(|(_, piece)| piece.units).sum());
            args.joins = video.chunks.iter().map(|chunk| chunk.start).collect();
            args.codecs.push(codec(asked.codec).into());
            memory += limits::decoder_memory(video);
            if let Some(quality) = &self.spec.quality {
                scoring = self.scoring(video, quality)?;
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
    fn scoring(&self, video: &VideoPlan, quality: &QualitySpec) -> Result<Vec<Order>, Failure> {
        let table = &self.work.one(function::PLAN)?.artifact("plan")?.uri;
        let mut orders = Vec::new();
        for ((number, planned), (task, _)) in (0u32..).zip(&video.chunks).zip(self.chunks(video)?) {
            let args = QualityArgs {
                metrics: quality.metrics.clone(),
                pairing: Pairing::Chunk { spec: self.spec.clone(), chunk: number },
                threads: 1,
            };
            let mut inputs = vec![self.spec.source.clone(), table.clone(), task.artifact("chunk")?.uri.clone()];
            let overlay = self.spec.video.as_ref().and_then(|video| video.overlay.as_ref());
            inputs.extend(overlay.map(|overlay| overlay.image.clone()));
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
        let mut chunks = Vec::new();
        if let Some(video) = &plan.video {
            for ((number, planned), (task, piece)) in (0u32..).zip(&video.chunks).zip(self.chunks(video)?) {
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
            rate: self.rate()?,
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

    /// The chunks with their evidence, in film order.
    fn chunks(&self, video: &VideoPlan) -> Result<Vec<(&DoneTask, &TrackManifest)>, Failure> {
        // What was made again stands for what it replaces.
        let mut pieces = vec![None; video.chunks.len()];
        for task in self.work.of(function::ENCODE) {
            let Value::Track(piece) = &task.answer.value else { return Err(task.wrong_kind()) };
            let place = piece.chunk.and_then(|chunk| pieces.get_mut(index(chunk)));
            *place.ok_or_else(|| task.wrong_kind())? = Some((task, piece));
        }
        let made = pieces.iter().flatten().count();
        let all = pieces.into_iter().collect::<Option<Vec<_>>>();
        all.ok_or_else(|| self.plan_disagrees(&format!("{} chunks, {made} were encoded", video.chunks.len())))
    }

    fn is_two_pass(&self) -> bool {
        self.spec.video.as_ref().is_some_and(|video| video.two_pass)
    }

    /// How far two passes are: what was asked of each chunk last, and what is to be asked once more. `None`: one pass.
    fn passes(&self, video: &VideoPlan) -> Result<Option<Passes<'_>>, Failure> {
        let Some(bitrate_bps) = self.spec.video.as_ref().filter(|v| v.two_pass).and_then(|v| v.bitrate_bps) else {
            return Ok(None);
        };
        let first = self.work.of(function::ANALYSE);
        if first.len() != video.chunks.len() {
            return Err(self.plan_disagrees(&format!("{} chunks, {} were analysed", video.chunks.len(), first.len())));
        }
        let analyses = first.iter().map(|task| match task.answer.value {
            Value::Analysis(analysis) => Ok(analysis),
            _ => Err(task.wrong_kind()),
        });
        let maxrate_bps = self.spec.video.as_ref().and_then(|video| video.maxrate_bps);
        let film = rate::Film { bitrate_bps, maxrate_bps, frame_rate: video.frame_rate };
        let shares = film.shares(&analyses.collect::<Result<Vec<_>, Failure>>()?);
        let asked: Vec<u64> = shares.iter().map(|share| share.asked_bps).collect();
        let mut passes = Passes { first, shares, asked, again: Vec::new(), redone: 0 };
        let done = self.work.of(function::ENCODE);
        let Some((all, mut more)) = done.split_at_checked(video.chunks.len()) else { return Ok(Some(passes)) };
        let mut spent = all.iter().map(|task| spent_bits(task)).collect::<Result<Vec<_>, Failure>>()?;
        for _ in 0..CORRECTIONS_MAX {
            passes.again = film.corrections(&passes.shares, &passes.asked, &spent);
            let Some((round, rest)) = more.split_at_checked(passes.again.len()).filter(|(round, _)| !round.is_empty())
            else {
                return Ok(Some(passes));
            };
            more = rest;
            for (task, (chunk, asked)) in round.iter().zip(std::mem::take(&mut passes.again)) {
                spent[chunk] = spent_bits(task)?;
                passes.asked[chunk] = asked;
                passes.redone += 1;
            }
        }
        Ok(Some(passes))
    }

    /// With `-b:v` alone: what it came to over the whole film.
    fn rate(&self) -> Result<Option<FilmRate>, Failure> {
        let asked = self.spec.video.as_ref().filter(|video| video.crf.is_none()).and_then(|video| video.bitrate_bps);
        let (Some(target_bps), Some(video)) = (asked, &self.plan()?.video) else { return Ok(None) };
        let pieces = self.chunks(video)?;
        let start = pieces.iter().filter_map(|(_, piece)| piece.first_pts).min();
        let end = pieces.iter().filter_map(|(_, piece)| piece.last_pts).max();
        let (Some(start), Some(end)) = (start, end) else { return Ok(None) };
        let bits: u128 = pieces.iter().map(|(_, piece)| u128::from(piece.bytes) * 8).sum();
        let (ticks, rate) = (u128::try_from(end + 1 - start).unwrap_or(0), video.frame_rate);
        let per_second = (u128::try_from(rate.num).unwrap_or(0), u128::try_from(rate.den).unwrap_or(0));
        let average = (bits * per_second.0).checked_div(ticks * per_second.1).unwrap_or(0);
        Ok(Some(FilmRate {
            target_bps,
            average_bps: u64::try_from(average).unwrap_or(u64::MAX),
            redone: self.passes(video)?.map_or(0, |passes| passes.redone),
        }))
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

fn index(chunk: u32) -> usize {
    usize::try_from(chunk).unwrap_or(usize::MAX)
}

/// Bits of a chunk that was encoded.
fn spent_bits(task: &DoneTask) -> Result<u64, Failure> {
    match &task.answer.value {
        Value::Track(piece) => Ok(piece.bytes.saturating_mul(8)),
        _ => Err(task.wrong_kind()),
    }
}

pub(super) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
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
