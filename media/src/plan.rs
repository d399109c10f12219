//! From what a source holds to what is to be done: which streams, which frames, where to cut. Pure: equal input, equal plan.
//!
//! The problem, the wanted properties, the measurements behind the numbers: `plan/README.md`.

mod chain;
mod cost;
mod cuts;
mod edits;
mod frames;
pub mod joined;
mod lines;
pub(crate) mod scenes;
pub mod shown;

use spool_proto::call::{
    ChunkSummary, Edit, Jump, MediaFacts, PlanArgs, PlanSummary, SceneChange, SourceFacts, TrackArgs, VideoFacts,
    VideoPlan,
};
use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::spec::cost::encode_memory_mib;
use spool_proto::spec::filter::{self, Reach};
use spool_proto::spec::{EncodeSpec, Rational, VideoSpec};
use spool_proto::time::Span;

use crate::choose::choose;
use crate::packets::PacketIndex;
use crate::plan_file::{Chunk, FrameTable, PlanFile};
use crate::timeline::{self, Joined, MICROSECOND, OutputFrame, Run, TimelineSpec};
use crate::wire;
use cuts::{Cut, Gop, Lengths, Scene};
use frames::Known;
use lines::Lines;

/// More frames than this are not planned for; 77 hours at 60 a second.
const FRAMES_MAX: u64 = 1 << 24;

#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub summary: PlanSummary,
    /// The artifact `plan`. `None`: no video in the output.
    pub file: Option<PlanFile>,
    /// The artifacts `plan-1` and so on: of the sources that follow.
    pub more: Vec<PlanFile>,
    pub warnings: Vec<Warning>,
}

/// Plans a film. `index` is of the video stream that [`choose`] chooses; it may be absent when that is none. `scan`: the changes of scene that were
/// seen in its pictures, instead of those the index tells.
///
/// # Errors
/// Those of [`choose`]; `index_missing` and `index_of_another_stream` (class `internal`); `too_many_frames` and `no_frames` (class
/// `spec`: nothing is left after `-ss`; class `input`: the stream has no frames).
pub fn plan(index: Option<&PacketIndex>, scan: Option<&[SceneChange]>, args: &PlanArgs) -> Result<Plan, Failure> {
    let choice = choose(&args.source, &args.spec)?;
    let tracks = |streams: &[u32]| {
        let track = |(track, &stream)| {
            let (spec, jumps) = (args.spec.clone(), jumps(&args.source, stream));
            TrackArgs { spec, stream, track, jumps, edits: Vec::new(), joined: Vec::new() }
        };
        (0..).zip(streams).map(track).collect::<Vec<_>>()
    };
    let mut summary = PlanSummary {
        video: None,
        audio: tracks(&choice.audio),
        subtitles: tracks(&choice.subtitles),
        edits: Vec::new(),
    };
    let Some(stream) = choice.video else {
        edit(&mut summary, edits::without_pictures(args)?);
        return Ok(Plan { summary, file: None, more: Vec::new(), warnings: choice.warnings });
    };
    let index = index.ok_or_else(|| {
        Failure::new(Class::Internal, "index_missing", format!("no packet index was made of stream {stream}"))
    })?;
    if index.stream != stream {
        let message = format!("the packet index is of stream {}, the film needs stream {stream}", index.stream);
        return Err(Failure::new(Class::Internal, "index_of_another_stream", message));
    }
    let mut warnings = choice.warnings;
    let (video, file, edits) = video(index, scan, args, &mut warnings)?;
    summary.video = Some(video);
    edit(&mut summary, edits);
    Ok(Plan { summary, file: Some(file), more: Vec::new(), warnings })
}

/// All tracks follow one edit list.
fn edit(summary: &mut PlanSummary, edits: Vec<Edit>) {
    for track in summary.audio.iter_mut().chain(&mut summary.subtitles) {
        track.edits.clone_from(&edits);
    }
    summary.edits = edits;
}

fn video(
    index: &PacketIndex,
    scan: Option<&[SceneChange]>,
    args: &PlanArgs,
    warnings: &mut Vec<Warning>,
) -> Result<(VideoPlan, PlanFile, Vec<Edit>), Failure> {
    let (Some(asked), Some(facts)) = (&args.spec.video, video_facts(&args.source, index.stream)) else {
        return Err(index_of_another(index.stream));
    };
    let jumps = jumps(&args.source, index.stream);
    let spec = &VideoSpec { filters: chain::chain(asked, facts, index.stream, warnings), ..asked.clone() };
    let film = EncodeSpec { video: Some(spec.clone()), ..args.spec.clone() };
    let timeline = TimelineSpec::of(index, &args.source, &film).expect("the spec has video");
    let rate = timeline.encoder_rate();
    // Clips are cut from the film however often it is decoded from its start; else one piece is as good.
    let known = filter::reach(&spec.filters).and_then(|reach| {
        lines::check(&args.lines)?;
        let known = Known::of(index, &jumps)?;
        Ok((if film.clips.is_empty() { known.enterable()? } else { known }, reach))
    });
    let mut edits = Vec::new();
    let (pieces, frames, unsplit_reason) = match known {
        Ok((known, reach)) => {
            let Joined { output, runs } = output(&known, &timeline, &film)?;
            let lines = Lines::new(&args.lines, &timeline, &known.frames);
            let scenes = match scan {
                Some(scan) => scan.iter().map(|change| Scene { frame: change.frame, sure: change.sure }).collect(),
                None => scenes::scenes(&known.coded),
            };
            let pieces = cut(&known, (&output, &runs), &scenes, &timeline, (reach, &lines), &film, spec);
            if !film.clips.is_empty() {
                edits = runs.iter().map(|run| run.edit).collect();
            }
            (pieces, Some(FrameTable { source: known.frames, output }), None)
        }
        Err(reason) if !film.clips.is_empty() => return Err(edits::unplanned(&reason)),
        Err(reason) => {
            let whole = Chunk { output: 0..0, source: 0..0, entries: Vec::new() };
            (vec![(whole, Cut::Start)], None, Some(reason))
        }
    };
    let (width, height) = cost::output_size(facts, spec);
    let shape = Shape {
        spec,
        source_pixels: u64::from(facts.width) * u64::from(facts.height),
        output_pixels: u64::from(width) * u64::from(height),
        threads: spec.threads.unwrap_or(if pieces.len() > 1 { 1 } else { args.unsplit_threads }).max(1),
        // An online plan has no table; the film's packets are a fair guess of its frames.
        frames_unplanned: wire::len(&index.packets),
    };
    let video = VideoPlan {
        stream: index.stream,
        chunks: pieces.iter().map(|(chunk, why)| shape.summary(chunk, *why)).collect(),
        frames: frames.as_ref().map(|table| wire::len(&table.output)),
        frame_rate: rate,
        unsplit_reason,
        width,
        height,
    };
    let file = PlanFile {
        stream: index.stream,
        time_base: index.time_base,
        frame_rate: rate,
        filters: Some(spec.filters.clone()),
        timeline,
        jumps,
        frames,
        chunks: pieces.into_iter().map(|(chunk, _)| chunk).collect(),
    };
    Ok((video, file, edits))
}

/// Where a stream's timestamps jump.
fn jumps(source: &SourceFacts, stream: u32) -> Vec<Jump> {
    source.streams.iter().find(|facts| facts.index == stream).map(|facts| facts.jumps.clone()).unwrap_or_default()
}

fn index_of_another(stream: u32) -> Failure {
    let message = format!("stream {stream} is not the video the plan was asked for");
    Failure::new(Class::Internal, "index_of_another_stream", message)
}

fn video_facts(source: &SourceFacts, stream: u32) -> Option<&VideoFacts> {
    let facts = source.streams.iter().find(|facts| facts.index == stream)?;
    match &facts.media {
        MediaFacts::Video(video) => Some(video),
        _ => None,
    }
}

/// Every output frame, and the runs of the source they are of: the clips, or one.
fn output(known: &Known, timeline: &TimelineSpec, film: &EncodeSpec) -> Result<Joined, Failure> {
    let (Some((first, _)), Some((last, _))) = (known.frames.first(), known.frames.last()) else {
        return Err(Failure::new(Class::Input, "no_frames", "the video stream has no frames"));
    };
    // Conversion to a constant rate may make many frames of few; that is checked before they are made.
    let span_us = timeline::rescale(last.saturating_sub(*first), timeline.time_base, MICROSECOND);
    let rates = timeline.set_rates().chain([timeline.encoder_rate()]);
    let most = rates.map(|rate| timeline::rescale(span_us, MICROSECOND, Rational::new(rate.den, rate.num))).max();
    let most = most.and_then(|most| u64::try_from(most).ok()).unwrap_or(u64::MAX).max(wire::len(&known.frames));
    let constant = timeline.set_rates().next().is_some() || timeline.sync != timeline::Sync::Vfr;
    if constant && most > FRAMES_MAX {
        return Err(Failure::new(
            Class::Spec,
            "too_many_frames",
            format!(
                "at a constant rate the film would have {most} frames, more than {FRAMES_MAX}: set a lower rate with -r or fps"
            ),
        ));
    }
    if !film.clips.is_empty() {
        return timeline::join(timeline, &known.frames, &film.clips, FRAMES_MAX)
            .map_err(|why| edits::refused(film, why));
    }
    let output = timeline::output_frames(timeline, &known.frames);
    if output.is_empty() {
        let message = "no frame is left between -ss and -t: the film is shorter, see `spool probe`";
        return Err(Failure::new(Class::Spec, "no_frames", message));
    }
    let whole = Run { frames: 0..output.len(), edit: Edit { source_us: 0, length_us: 0, at_us: 0, input: 0 } };
    Ok(Joined { output, runs: vec![whole] })
}

/// Cuts the output, and finds for each chunk what it needs of the source. Each run begins a chunk.
fn cut(
    known: &Known,
    (output, runs): (&[OutputFrame], &[Run]),
    scenes: &[Scene],
    timeline: &TimelineSpec,
    (reach, lines): (Reach, &Lines<'_>),
    film: &EncodeSpec,
    spec: &VideoSpec,
) -> Vec<(Chunk, Cut)> {
    let rate = timeline.encoder_rate();
    let gop = Gop::of(spec, rate);
    let ticks = output.last().map_or(1, |last| last.pts.saturating_sub(output[0].pts).saturating_add(1));
    let length_us = timeline::rescale(ticks, Rational::new(rate.den, rate.num), MICROSECOND).unsigned_abs().max(1);
    let frames = wire::len(output);
    // As many frames as the film really has in that time, whatever its nominal rate.
    let within = |span: Span| {
        let frames = u128::from(span.0) * u128::from(frames) / u128::from(length_us);
        u64::try_from(frames).unwrap_or(u64::MAX).max(1)
    };
    let target = film.chunk.unwrap_or_else(|| default_target(Span(length_us)));
    let lengths = Lengths::new(within(target), within(Span::from_secs(1)), gop);
    let pictures = timeline.pictures_per_frame();
    let mut cuts = Vec::new();
    for run in runs {
        let (start, length) = (u64::try_from(run.frames.start).unwrap_or(0), wire::len(&output[run.frames.clone()]));
        let scenes = || on_output(scenes, &output[run.frames.clone()], pictures);
        let found = match film.segment_frames {
            Some(segment) => cuts::on_grid(length, segment.into(), &scenes(), lengths.target),
            None if !known.is_enterable() => vec![(0, Cut::Start)],
            None => cuts::cut(length, &scenes(), gop, lengths),
        };
        let why = |frame: u64, why: Cut| if frame == 0 && start > 0 { Cut::Clip } else { why };
        cuts.extend(found.into_iter().map(|(frame, cut)| (start + frame, why(frame, cut))));
    }
    let ends = cuts.iter().skip(1).map(|(start, _)| *start).chain([frames]);
    let chunk = |start: u64, end: u64| {
        let shown = |frame: u64| output[usize::try_from(frame).expect("an index of the table")].source / pictures;
        // The filters' lead-in and lead-out; at the film's ends there is none, as in a run over the whole film.
        let first = lines.before(shown(start)).saturating_sub(reach.behind);
        let last = (shown(end - 1) + reach.ahead).min(wire::len(&known.frames) - 1);
        let source = first..last + 1;
        Chunk { output: start..end, entries: known.entries(source.start), source }
    };
    cuts.iter().zip(ends).map(|((start, why), end)| (chunk(*start, end), *why)).collect()
}

/// A twelfth of the film, within 5 and 20 seconds: a film of a minute keeps eight slots busy.
fn default_target(length: Span) -> Span {
    Span((length.0 / 12).clamp(Span::from_secs(5).0, Span::from_secs(20).0))
}

/// Scene changes of the source as output frames: the first that shows the new scene. `pictures`: made of each frame.
fn on_output(scenes: &[Scene], output: &[OutputFrame], pictures: u64) -> Vec<Scene> {
    let mut found: Vec<Scene> = Vec::with_capacity(scenes.len());
    for scene in scenes {
        let at = output.partition_point(|frame| frame.source / pictures < scene.frame);
        let frame = u64::try_from(at).expect("memory is smaller than 2^64");
        if (1..output.len()).contains(&at) && found.last().is_none_or(|last| last.frame < frame) {
            found.push(Scene { frame, ..*scene });
        }
    }
    found
}

/// What all chunks have in common.
struct Shape<'a> {
    spec: &'a VideoSpec,
    source_pixels: u64,
    output_pixels: u64,
    threads: u16,
    frames_unplanned: u64,
}

impl Shape<'_> {
    fn summary(&self, chunk: &Chunk, why: Cut) -> ChunkSummary {
        let planned = chunk.output.end - chunk.output.start;
        let frames = if planned == 0 { self.frames_unplanned } else { planned }.max(1);
        ChunkSummary {
            start: chunk.output.start,
            end: chunk.output.end,
            cut: why.name().into(),
            input: 0,
            weight: frames.saturating_mul(self.output_pixels.max(1)),
            threads: self.threads,
            memory_mib: encode_memory_mib(self.spec, self.source_pixels, self.output_pixels, self.threads),
        }
    }
}

#[cfg(test)]
mod tests;
