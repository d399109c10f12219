//! The chunks of one rendition: their first passes, their encodes, and those that are made again, because the film as a whole
//! misses its rate or a decoder's buffer. What is asked of each chunk follows from what was answered before, round by round, so that it
//! is found again from the finished tasks alone.

use spool_proto::call::{
    Analysis, Args, BufferTarget, ChunkSummary, EncodeArgs, TrackManifest, Value, VideoPlan, function,
};
use spool_proto::failure::Failure;
use spool_proto::resources::Resources;
use spool_proto::spec::{EncodeSpec, VideoCodec, VideoSpec};
use spool_proto::vbv::{BufferUse, RateBuffer};
use spool_proto::view::FilmRate;

use super::{DoneTask, Order, Work, bad_answer, limits, rate, rate_buffer};

/// Rounds in which chunks are made again.
const ROUNDS_MAX: u32 = 3;
/// Of these, those that correct the rate.
const RATE_ROUNDS_MAX: u32 = 2;

/// A rendition and its plan.
#[derive(Clone, Copy)]
pub(super) struct Planned<'a> {
    /// Put before the labels of its tasks; empty where there is one rendition.
    pub name: &'a str,
    pub spec: &'a EncodeSpec,
    pub task: &'a DoneTask,
    pub plan: &'a VideoPlan,
}

/// What is asked of a chunk's encoder beside the spec.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Ask {
    bitrate_bps: Option<u64>,
    buffer: Option<BufferTarget>,
}

/// How far a rendition's chunks are.
pub(super) struct Chunks<'a> {
    work: Work<'a>,
    pub planned: Planned<'a>,
    video: &'a VideoSpec,
    buffer: Option<RateBuffer>,
    /// First passes, in film order. Empty: one pass, or they were not made yet.
    first: Vec<&'a DoneTask>,
    /// Of the film's bits, where there is a rate to meet.
    shares: Vec<rate::Share>,
    asks: Vec<Ask>,
    /// What counts of each chunk now. Empty: nothing was encoded yet.
    made: Vec<(&'a DoneTask, &'a TrackManifest)>,
    /// To be made again.
    again: Vec<(usize, Ask)>,
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
        chunks.take_all(&mut encoded)?;
    }
    for round in 0..ROUNDS_MAX {
        for chunks in &mut all {
            chunks.again = chunks.corrections(round);
        }
        if encoded.len() == 0 {
            return Ok(all);
        }
        for chunks in &mut all {
            chunks.take_again(&mut encoded)?;
        }
    }
    Ok(all)
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
        let mut chunks = Chunks {
            work,
            planned,
            video,
            buffer: RateBuffer::of(video, planned.plan.frame_rate),
            first,
            shares: Vec::new(),
            asks: vec![Ask::default(); count],
            made: Vec::new(),
            again: Vec::new(),
            redone: 0,
        };
        chunks.ask()?;
        Ok(chunks)
    }

    /// What is asked of each chunk first.
    fn ask(&mut self) -> Result<(), Failure> {
        if let Some(buffer) = self.buffer {
            let starts = self.asks.iter_mut().enumerate();
            starts.for_each(|(chunk, ask)| ask.buffer = rate_buffer::first(&buffer, chunk, self.video.codec));
        }
        if self.first.is_empty() {
            return Ok(());
        }
        if self.first.len() != self.asks.len() {
            let (chunks, analysed) = (self.asks.len(), self.first.len());
            return Err(self.planned.disagrees(&format!("{chunks} chunks, {analysed} were analysed")));
        }
        let Some(film) = self.film() else { return Ok(()) };
        let analyses = self.first.iter().map(|task| match task.answer.value {
            Value::Analysis(analysis) => Ok(analysis),
            _ => Err(task.wrong_kind()),
        });
        self.shares = film.shares(&analyses.collect::<Result<Vec<Analysis>, Failure>>()?);
        for (ask, share) in self.asks.iter_mut().zip(&self.shares) {
            ask.bitrate_bps = Some(share.asked_bps);
        }
        Ok(())
    }

    /// The rate that is to be met. `None`: there is none.
    fn film(&self) -> Option<rate::Film> {
        let bitrate_bps = self.video.bitrate_bps.filter(|_| self.video.crf.is_none())?;
        Some(rate::Film {
            bitrate_bps,
            maxrate_bps: self.video.maxrate_bps,
            frame_rate: self.planned.plan.frame_rate,
            tolerance: if self.video.two_pass { rate::TWO_PASSES } else { rate::ONE_PASS },
        })
    }

    /// Takes the first encode of every chunk.
    fn take_all(&mut self, encoded: &mut impl Iterator<Item = &'a DoneTask>) -> Result<(), Failure> {
        for number in 0..self.asks.len() {
            let (task, piece) = self.piece(encoded.next(), number)?;
            self.made.push((task, piece));
        }
        if let Some(film) = self.film().filter(|_| self.shares.is_empty()) {
            let ticks: Vec<u64> = (0..self.made.len()).map(|chunk| self.ticks(chunk)).collect();
            self.shares = film.even(&ticks, &self.spent());
        }
        Ok(())
    }

    /// Takes what was made again.
    fn take_again(&mut self, encoded: &mut impl Iterator<Item = &'a DoneTask>) -> Result<(), Failure> {
        for (chunk, ask) in std::mem::take(&mut self.again) {
            self.made[chunk] = self.piece(encoded.next(), chunk)?;
            self.asks[chunk] = ask;
            self.redone += 1;
        }
        Ok(())
    }

    /// The piece of a chunk, with its evidence.
    fn piece(&self, task: Option<&'a DoneTask>, chunk: usize) -> Result<(&'a DoneTask, &'a TrackManifest), Failure> {
        let Some(task) = task else {
            let planned = self.asks.len();
            return Err(self.planned.disagrees(&format!("{planned} chunks, {chunk} were encoded")));
        };
        match &task.answer.value {
            Value::Track(piece) if piece.chunk == Some(count(chunk)) => Ok((task, piece)),
            _ => Err(task.wrong_kind()),
        }
    }

    /// From the first frame of a chunk to that of the next, in frames of the constant rate.
    fn ticks(&self, chunk: usize) -> u64 {
        let first = |chunk: usize| self.made.get(chunk).and_then(|(_, piece)| piece.first_pts);
        let end = first(chunk + 1).or_else(|| Some(self.made[chunk].1.last_pts? + 1));
        first(chunk).zip(end).and_then(|(first, end)| u64::try_from(end - first).ok()).unwrap_or(0)
    }

    /// Bits of each chunk.
    fn spent(&self) -> Vec<u64> {
        self.made.iter().map(|(_, piece)| piece.bytes.saturating_mul(8)).collect()
    }

    /// Chunks to be made again, after so many rounds.
    fn corrections(&self, round: u32) -> Vec<(usize, Ask)> {
        let mut asks = self.asks.clone();
        if let Some(film) = self.film().filter(|_| round < RATE_ROUNDS_MAX) {
            let asked: Vec<u64> = asks.iter().map(|ask| ask.bitrate_bps.unwrap_or(film.bitrate_bps)).collect();
            for (chunk, bitrate_bps) in film.corrections(&self.shares, &asked, &self.spent()) {
                asks[chunk].bitrate_bps = Some(bitrate_bps);
            }
        }
        if let (Some(buffer), Some(uses)) = (self.buffer, self.uses()) {
            for (chunk, told) in rate_buffer::corrections(&buffer, &uses, self.video.codec) {
                asks[chunk].buffer = Some(told);
            }
        }
        asks.into_iter().enumerate().filter(|(chunk, ask)| *ask != self.asks[*chunk]).collect()
    }

    /// What each chunk does to the decoder's buffer. `None`: workers of an older release did not say.
    fn uses(&self) -> Option<Vec<rate_buffer::Chunk>> {
        let gap = |chunk: usize| {
            let next = self.made.get(chunk + 1).and_then(|(_, piece)| piece.first_pts);
            next.zip(self.made[chunk].1.last_pts).map_or(0, |(next, last)| next - last)
        };
        let told = |chunk: usize| self.asks[chunk].buffer;
        let uses = self.made.iter().enumerate().map(|(chunk, (_, piece))| {
            piece.buffer.map(|used: BufferUse| rate_buffer::Chunk { used, gap: gap(chunk), told: told(chunk) })
        });
        uses.collect()
    }

    // ---- orders ----

    /// First passes, where there are two.
    pub fn analysing(&self) -> Result<Vec<Order>, Failure> {
        if !self.video.two_pass {
            return Ok(Vec::new());
        }
        let chunks = (0..).zip(&self.planned.plan.chunks);
        let order = |(number, chunk): (usize, &ChunkSummary)| {
            let (args, inputs) = self.call(number, chunk, Ask::default())?;
            self.order(chunk, format!("pass 1, chunk {number}"), inputs, Args::Analyse(args))
        };
        chunks.map(order).collect()
    }

    pub fn encoding(&self) -> Result<Vec<Order>, Failure> {
        let all = self.asks.iter().enumerate();
        all.map(|(number, ask)| self.encode(number, *ask, format!("chunk {number}"))).collect()
    }

    /// Chunks that are made again; none where all are right.
    pub fn correcting(&self) -> Result<Vec<Order>, Failure> {
        let again = self.again.iter();
        again.map(|(number, ask)| self.encode(*number, *ask, format!("chunk {number} again"))).collect()
    }

    fn encode(&self, number: usize, ask: Ask, label: String) -> Result<Order, Failure> {
        let chunk = &self.planned.plan.chunks[number];
        let (args, mut inputs) = self.call(number, chunk, ask)?;
        if let Some(first) = self.first.get(number) {
            inputs.push(first.artifact("stats")?.uri.clone());
            inputs.extend(first.artifact("tree").ok().map(|tree| tree.uri.clone()));
        }
        self.order(chunk, label, inputs, Args::Encode(args))
    }

    fn call(&self, number: usize, chunk: &ChunkSummary, ask: Ask) -> Result<(EncodeArgs, Vec<String>), Failure> {
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
            target: ask.bitrate_bps.map(|bitrate_bps| rate::target(&self.shares, bitrate_bps)),
            buffer: ask.buffer,
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
            weight: chunk.weight.saturating_mul(effort(self.video.codec)),
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
        self.buffer
    }

    /// Chunks that were made again.
    pub fn redone(&self) -> u32 {
        self.redone
    }

    /// With `-b:v` alone: what it came to over the whole film.
    pub fn rate(&self) -> Option<FilmRate> {
        let target_bps = self.film()?.bitrate_bps;
        let rate = self.planned.plan.frame_rate;
        let bits: u128 = self.made.iter().map(|(_, piece)| u128::from(piece.bytes) * 8).sum();
        let ticks: u128 = (0..self.made.len()).map(|chunk| u128::from(self.ticks(chunk))).sum();
        let per_second = (u128::try_from(rate.num).unwrap_or(0), u128::try_from(rate.den).unwrap_or(0));
        let average = (bits * per_second.0).checked_div(ticks * per_second.1)?;
        Some(FilmRate { target_bps, average_bps: u64::try_from(average).unwrap_or(u64::MAX) })
    }
}

impl Planned<'_> {
    fn disagrees(&self, what: &str) -> Failure {
        bad_answer(self.task.id, &self.task.function, &format!("it planned {what}"))
    }
}

/// The text that is drawn into the film's pictures.
pub(super) fn script(work: Work<'_>) -> Result<Option<String>, Failure> {
    let read = work.of(function::TEXT).first().copied();
    read.map(|task| Ok(task.artifact("script")?.uri.clone())).transpose()
}

/// How much longer a picture takes than in x264, roughly: the longest chunks start first, whatever encodes them.
fn effort(codec: VideoCodec) -> u64 {
    match codec {
        VideoCodec::Libx264 => 1,
        VideoCodec::Libsvtav1 => 2,
        VideoCodec::LibvpxVp9 => 3,
        VideoCodec::Libx265 => 4,
    }
}

pub(super) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
