//! The chunks of one rendition: their first passes, their encodes, and those that are made again for the film's rate or a decoder's
//! buffer ([`spool_proto::rate`]). What is asked of each chunk is found again from the finished tasks alone.

use spool_proto::call::{Analysis, Args, ChunkSummary, EncodeArgs, TrackManifest, Value, VideoPlan, function};
use spool_proto::failure::Failure;
use spool_proto::rate::{self, Control};
use spool_proto::resources::Resources;
use spool_proto::spec::{EncodeSpec, VideoSpec};
use spool_proto::vbv::RateBuffer;
use spool_proto::view::FilmRate;

use super::{DoneTask, Order, Work, bad_answer, limits};

/// A rendition and its plan.
#[derive(Clone, Copy)]
pub(super) struct Planned<'a> {
    /// Put before the labels of its tasks; empty where there is one rendition.
    pub name: &'a str,
    pub spec: &'a EncodeSpec,
    pub task: &'a DoneTask,
    pub plan: &'a VideoPlan,
}

/// How far a rendition's chunks are.
pub(super) struct Chunks<'a> {
    work: Work<'a>,
    pub planned: Planned<'a>,
    video: &'a VideoSpec,
    /// First passes, in film order. Empty: one pass, or they were not made yet.
    first: Vec<&'a DoneTask>,
    control: Control,
    /// What counts of each chunk now. Empty: nothing was encoded yet.
    made: Vec<(&'a DoneTask, &'a TrackManifest)>,
    /// To be made again.
    again: Vec<usize>,
    redone: u32,
}

/// All renditions of a job, in the order their tasks were ordered in.
pub(super) fn chunks<'a>(work: Work<'a>, renditions: &[Planned<'a>]) -> Result<Vec<Chunks<'a>>, Failure> {
    let mut analysed = work.of(function::ANALYSE).into_iter();
    let mut encoded = work.of(function::ENCODE).into_iter();
    let mut all = Vec::with_capacity(renditions.len());
    for planned in renditions {
        all.push(Chunks::new(work, *planned, &mut analysed)?);
    }
    if encoded.len() == 0 {
        return Ok(all);
    }
    for chunks in &mut all {
        for number in 0..planned_count(chunks) {
            let piece = chunks.piece(encoded.next(), number)?;
            chunks.made.push(piece);
        }
    }
    loop {
        for chunks in &mut all {
            chunks.correct();
        }
        if encoded.len() == 0 || all.iter().all(|chunks| chunks.again.is_empty()) {
            return Ok(all);
        }
        for chunks in &mut all {
            for number in std::mem::take(&mut chunks.again) {
                chunks.made[number] = chunks.piece(encoded.next(), number)?;
                chunks.redone += 1;
            }
        }
    }
}

fn planned_count(chunks: &Chunks<'_>) -> usize {
    chunks.planned.plan.chunks.len()
}

impl<'a> Chunks<'a> {
    fn new(
        work: Work<'a>,
        planned: Planned<'a>,
        analysed: &mut impl Iterator<Item = &'a DoneTask>,
    ) -> Result<Chunks<'a>, Failure> {
        let count = planned.plan.chunks.len();
        let video = planned.spec.video.as_ref().ok_or_else(|| planned.disagrees("video without being asked for it"))?;
        let first: Vec<&DoneTask> = if video.two_pass { analysed.take(count).collect() } else { Vec::new() };
        if !first.is_empty() && first.len() != count {
            return Err(planned.disagrees(&format!("{count} chunks, {} were analysed", first.len())));
        }
        let analyses = first.iter().map(|task| match task.answer.value {
            Value::Analysis(analysis) => Ok(analysis),
            _ => Err(task.wrong_kind()),
        });
        let control = Control::new(video, planned.plan, &analyses.collect::<Result<Vec<Analysis>, Failure>>()?);
        let (made, again) = (Vec::new(), Vec::new());
        Ok(Chunks { work, planned, video, first, control, made, again, redone: 0 })
    }

    fn correct(&mut self) {
        let pieces: Vec<&TrackManifest> = self.made.iter().map(|(_, piece)| *piece).collect();
        self.again = self.control.after(self.video, self.planned.plan, &pieces);
    }

    /// The piece of a chunk, with its evidence.
    fn piece(&self, task: Option<&'a DoneTask>, chunk: usize) -> Result<(&'a DoneTask, &'a TrackManifest), Failure> {
        let Some(task) = task else {
            let planned = self.planned.plan.chunks.len();
            return Err(self.planned.disagrees(&format!("{planned} chunks, {chunk} were encoded")));
        };
        match &task.answer.value {
            Value::Track(piece) if piece.chunk == Some(count(chunk)) => Ok((task, piece)),
            _ => Err(task.wrong_kind()),
        }
    }

    // ---- orders ----

    /// First passes, where there are two.
    pub fn analysing(&self) -> Result<Vec<Order>, Failure> {
        if !self.video.two_pass {
            return Ok(Vec::new());
        }
        let chunks = (0..).zip(&self.planned.plan.chunks);
        let order = |(number, chunk): (usize, &ChunkSummary)| {
            let (args, inputs) = self.call(number, chunk)?;
            let args = EncodeArgs { target: None, buffer: None, ..args };
            self.order(chunk, format!("pass 1, chunk {number}"), inputs, Args::Analyse(args))
        };
        chunks.map(order).collect()
    }

    pub fn encoding(&self) -> Result<Vec<Order>, Failure> {
        let all = 0..self.planned.plan.chunks.len();
        all.map(|number| self.encode(number, format!("chunk {number}"))).collect()
    }

    /// Chunks that are made again; none where all are right.
    pub fn correcting(&self) -> Result<Vec<Order>, Failure> {
        self.again.iter().map(|number| self.encode(*number, format!("chunk {number} again"))).collect()
    }

    fn encode(&self, number: usize, label: String) -> Result<Order, Failure> {
        let chunk = &self.planned.plan.chunks[number];
        let (args, mut inputs) = self.call(number, chunk)?;
        if let Some(first) = self.first.get(number) {
            inputs.push(first.artifact("stats")?.uri.clone());
            inputs.extend(first.artifact("tree").ok().map(|tree| tree.uri.clone()));
        }
        self.order(chunk, label, inputs, Args::Encode(args))
    }

    fn call(&self, number: usize, chunk: &ChunkSummary) -> Result<(EncodeArgs, Vec<String>), Failure> {
        let Planned { spec, task, plan, .. } = self.planned;
        let joined = !spec.joined.is_empty();
        let spec = spec.of_input(chunk.input);
        let before = plan.chunks.iter().filter(|other| other.input < chunk.input).count();
        let file = if chunk.input == 0 { "plan".to_owned() } else { format!("plan-{}", chunk.input) };
        let inputs = vec![spec.source.clone(), task.artifact(&file)?.uri.clone()];
        let args = EncodeArgs {
            spec,
            stream: plan.stream,
            chunk: count(number),
            before: count(before),
            joined,
            threads: chunk.threads,
            crf: None,
            target: self.control.target(number),
            buffer: self.control.asks[number].buffer,
        };
        Ok((args, inputs))
    }

    fn order(
        &self,
        chunk: &ChunkSummary,
        label: String,
        mut inputs: Vec<String>,
        args: Args,
    ) -> Result<Order, Failure> {
        inputs.extend(self.video.overlay.iter().map(|overlay| overlay.image.clone()));
        if self.video.burn_in().is_some() {
            inputs.extend(script(self.work)?);
        }
        let call = self.work.call_of(chunk.input, inputs, args);
        // Threads are the user's to choose; more of them than the largest worker has cores share those cores.
        let cores = u64::from(chunk.threads.clamp(1, self.work.place.unsplit_threads.max(1)));
        let resources = Resources::cpu_memory(cores * limits::CORE, chunk.memory_mib);
        let name = self.planned.name;
        Ok(Order {
            backend: format!("cpu/{}", self.video.codec.name()),
            no_progress: limits::NO_PROGRESS,
            label: if name.is_empty() { label } else { format!("{name} {label}") },
            weight: chunk.weight.saturating_mul(self.video.codec.effort()),
            ..Order::new(call, resources, limits::CODEC_TIMEOUT)
        })
    }

    // ---- what came of it ----

    /// The chunks with their evidence, in film order.
    pub fn pieces(&self) -> Result<&[(&'a DoneTask, &'a TrackManifest)], Failure> {
        if self.made.len() == self.planned.plan.chunks.len() {
            return Ok(&self.made);
        }
        let planned = self.planned.plan.chunks.len();
        Err(self.planned.disagrees(&format!("{planned} chunks, {} were encoded", self.made.len())))
    }

    /// The buffer that the film is to be read through.
    pub fn buffer(&self) -> Option<RateBuffer> {
        RateBuffer::of(self.video, self.planned.plan.frame_rate)
    }

    /// Chunks that were made again.
    pub fn redone(&self) -> u32 {
        self.redone
    }

    /// With `-b:v` alone: what it came to over the whole film.
    pub fn rate(&self) -> Option<FilmRate> {
        let pieces: Vec<&TrackManifest> = self.made.iter().map(|(_, piece)| *piece).collect();
        rate::average(self.video, self.planned.plan, &pieces)
    }
}

impl Planned<'_> {
    fn disagrees(&self, what: &str) -> Failure {
        bad_answer(self.task.id, &self.task.function, &format!("it planned {what}"))
    }
}

/// The text that is drawn into the film's pictures.
fn script(work: Work<'_>) -> Result<Option<String>, Failure> {
    let read = work.of(function::TEXT).first().copied();
    read.map(|task| Ok(task.artifact("script")?.uri.clone())).transpose()
}

pub(super) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
