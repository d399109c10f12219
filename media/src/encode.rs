//! `media.encode`: one chunk of the video, from the source's packets to a piece. Frames are accepted on evidence: every decoded one
//! is held against the plan, and so is every packet that leaves.
//!
//! Who takes the pictures is a [`Taker`]: the chunk's encoder, or `media.quality`, which is to see what the encoder saw.

mod coder;
mod hdr;
mod kept;
mod linear;

use std::collections::VecDeque;
use std::io::BufReader;
use std::path::Path;

use spool_proto::call::{EncodeArgs, TrackManifest, Value};
use spool_proto::failure::{Class, Failure, Warning};

use crate::av::frame::Frame;
use crate::av::input::{Input, Limits};
use crate::damage::Damage;
use crate::decode::{Clock, Decoded, Frames, no_memory};
use crate::graph::{Filters, alpha_warning};
use crate::jumps::Shift;
use crate::params;
use crate::plan_file::{Chunk, Entry, FrameTable, PlanFile};
use crate::timeline::Timeline;
use crate::{Host, Product, process};
use coder::Coder;
pub(crate) use coder::Opening;
use kept::Carried;

/// Decoded frames between two reports of progress.
const REPORT_EVERY: u64 = 4;
/// What libav's decoders do with damaged pictures.
const CONCEALED: &str = "it was concealed";
/// Filtered frames the timeline may show again: the two before the one pushed last, and that one.
const RECENT_MAX: usize = 3;

/// Runs `media.encode`.
///
/// # Errors
/// Class internal: `frames_differ` (what was decoded is not what the plan says), `packets_differ`, `no_such_chunk`. Class input:
/// `source_damaged`, `undecodable`. Class spec: what the encoder or the filters refuse.
pub fn run(args: &EncodeArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let plan = PlanFile::read(BufReader::new(host.open(1)?))?;
    let chunk = chunk_of(&plan, args.chunk)?;
    let path = host.scratch().join("chunk");
    let mut task = Task { args, plan: &plan, chunk, host, path: &path, warnings: Vec::new() };
    let (coded, entry) = task.run::<Coder>()?;
    let summary = coded.done;
    let manifest = TrackManifest {
        chunk: Some(args.chunk),
        units: coded.frames,
        packets: summary.packets,
        first_pts: summary.first_pts,
        last_pts: summary.last_pts,
        time_base: (plan.frame_rate.den, plan.frame_rate.num),
        bytes: summary.payload_bytes,
        parameters: summary.parameters,
        entry,
        decoded: coded.decoded,
        peak_memory_mib: process::peak_mib(),
    };
    let mut warnings = task.warnings;
    if let Some(video) = &args.spec.video {
        warnings.extend(coded.carried.warnings(plan.stream, video.codec));
    }
    Ok(Product { files: vec![("chunk".to_owned(), path)], warnings, value: Value::Track(manifest) })
}

/// The chunk of a number.
fn chunk_of(plan: &PlanFile, number: u32) -> Result<&Chunk, Failure> {
    usize::try_from(number).ok().and_then(|number| plan.chunks.get(number)).ok_or_else(|| {
        let message = format!("the plan has {} chunks, chunk {number} was asked for", plan.chunks.len());
        Failure::new(Class::Internal, "no_such_chunk", message)
    })
}

/// Gives every picture of a chunk, filtered and in order, to a taker; what it made of them. Warnings are those of the encode,
/// which told them.
///
/// # Errors
/// As [`run`], and the taker's.
pub(crate) fn pictures<T: Taker>(args: &EncodeArgs, plan: &PlanFile, host: &mut dyn Host) -> Result<T::Done, Failure> {
    let path = host.scratch().join("chunk");
    let chunk = chunk_of(plan, args.chunk)?;
    let mut task = Task { args, plan, chunk, host, path: &path, warnings: Vec::new() };
    let (coded, _) = task.run::<T>()?;
    Ok(coded.done)
}

/// Takes a chunk's pictures in the order and at the times the plan shows them. Made anew for each try.
pub(crate) trait Taker: Sized {
    /// What it makes of them.
    type Done;

    fn open(task: &mut Task<'_>, opening: &Opening) -> Result<Self, Failure>;

    /// `pts` in the encoder's timebase. The picture may be the one taken before, once more.
    fn take(&mut self, frame: &mut Frame, pts: i64) -> Result<(), Failure>;

    /// Pictures taken.
    fn frames(&self) -> u64;

    /// Frames, bytes and microseconds done, as [`Host::progress`] takes them.
    fn progress(&self) -> (u64, u64, u64);

    /// There are no more. `expected`: every pts that was to come, in order, where the plan knows them.
    fn finish(self, expected: Option<Vec<i64>>, host: &mut dyn Host) -> Result<Self::Done, Failure>;
}

/// How one try at a chunk went wrong without anything being wrong with the machine or the request.
#[derive(Debug)]
struct Differs {
    what: String,
    /// The decoder complained.
    damaged: bool,
}

/// What a finished chunk is.
#[derive(Debug)]
struct Coded<D> {
    done: D,
    frames: u64,
    decoded: u64,
    carried: Carried,
}

/// A chunk to be worked through.
pub(crate) struct Task<'a> {
    pub args: &'a EncodeArgs,
    pub plan: &'a PlanFile,
    chunk: &'a Chunk,
    pub host: &'a mut dyn Host,
    path: &'a Path,
    warnings: Vec<Warning>,
}

impl Task<'_> {
    /// Also how the source was entered.
    fn run<T: Taker>(&mut self) -> Result<(Coded<T::Done>, String), Failure> {
        match &self.plan.frames {
            Some(table) => self.planned::<T>(table),
            None => Ok((self.whole::<T>()?, "linear".to_owned())),
        }
    }

    fn stream(&self) -> usize {
        usize::try_from(self.plan.stream).unwrap_or(usize::MAX)
    }

    /// Opens the source at its start. `mend`: with ffmpeg's mended timestamps.
    fn frames(&mut self, mend: bool) -> Result<Frames, Failure> {
        let input = Input::open(self.host.open(0)?, &Limits::default())?;
        let stream = self.stream();
        if let Some(facts) = input.streams().get(stream)
            && facts.time_base != self.plan.time_base
        {
            return Err(Failure::new(
                Class::Internal,
                "frames_differ",
                format!(
                    "stream {stream} counts time in {}, the plan in {}; the source must not change while it is encoded",
                    facts.time_base, self.plan.time_base
                ),
            ));
        }
        let (offset_us, jumps) = (self.plan.timeline.ts_offset_us, self.plan.jumps.clone());
        let known = input.streams().get(stream);
        let shift = known.map(|facts| Shift::new(input.shift_of(facts, offset_us, jumps)));
        let clock = known.zip(shift.clone()).filter(|_| mend);
        let clock = clock.map(|(facts, shift)| Clock::new(facts, input.may_jump(), shift));
        let mut frames = Frames::new(input, stream, self.args.threads, clock)?;
        if let Some(shift) = shift.filter(|_| !mend) {
            frames.follow(shift);
        }
        Ok(frames)
    }

    fn filters(&self, frames: &Frames) -> Result<Filters, Failure> {
        let codec = self.args.spec.video.as_ref().map(|v| params::encoder_name(v.codec)).unwrap_or_default();
        Filters::new(&self.args.spec, frames.stream(), codec, self.args.threads)
    }

    /// What every chunk's encoder is opened with: that of the film's first picture, so that all chunks are of one kind. Leaves
    /// `frames` behind that picture.
    fn opening(&mut self, frames: &mut Frames) -> Result<Opening, Failure> {
        let mut filters = self.filters(frames)?;
        let (mut frame, mut filtered) = (Frame::new().map_err(no_memory)?, Frame::new().map_err(no_memory)?);
        if frames.next(&mut frame)?.is_none() {
            return Err(Failure::new(
                Class::Input,
                "undecodable",
                format!("no picture of {} can be decoded", frames.stream().label()),
            ));
        }
        filters.apply(&frame, &mut filtered)?;
        let opening = Opening::of(&filters, &filtered, frames.stream(), self.plan.frame_rate)?;
        if self.args.chunk == 0 {
            self.warnings.extend(alpha_warning(
                self.plan.stream,
                &frame,
                &opening.sink,
                self.args.spec.video.as_ref().map(|v| params::encoder_name(v.codec)).unwrap_or_default(),
            ));
        }
        Ok(opening)
    }

    /// A chunk whose frames are known: entered at its keyframe, else further back, else decoded from the file's start.
    fn planned<T: Taker>(&mut self, table: &FrameTable) -> Result<(Coded<T::Done>, String), Failure> {
        let mut frames = self.frames(false)?;
        let opening = self.opening(&mut frames)?;
        let mut tried = Vec::new();
        let mut damaged = false;
        for (number, entry) in self.chunk.entries.iter().enumerate() {
            let name = if number == 0 { "keyframe".to_owned() } else { format!("back-{number}") };
            match self.entered::<T>(table, &mut frames, entry, &opening)? {
                Ok(coded) => return Ok((coded, name)),
                Err(differs) => {
                    damaged |= differs.damaged;
                    tried.push(format!("{name} (pts {}): {}", entry.pts, differs.what));
                }
            }
        }
        drop(frames);
        match self.linear::<T>(table, &opening)? {
            Ok(coded) => Ok((coded, "linear".to_owned())),
            Err(differs) => {
                tried.push(format!("linear: {}", differs.what));
                let evidence = tried.join("\n");
                let (class, code, what) = if damaged || differs.damaged {
                    (Class::Input, "source_damaged", "the source is damaged there; repair or cut it")
                } else {
                    (Class::Internal, "frames_differ", "the source must not change while it is encoded")
                };
                let message = format!(
                    "chunk {} of stream {}: the decoded frames are not those of the plan ({}); {what}",
                    self.args.chunk, self.plan.stream, differs.what
                );
                Err(Failure::new(class, code, message).with_evidence(evidence))
            }
        }
    }

    /// One try from one keyframe.
    fn entered<T: Taker>(
        &mut self,
        table: &FrameTable,
        frames: &mut Frames,
        entry: &Entry,
        opening: &Opening,
    ) -> Result<Result<Coded<T::Done>, Differs>, Failure> {
        let differs = |what: String, damaged| Ok(Err(Differs { what, damaged }));
        if !frames.enter(entry)? {
            return differs(format!("no packet with pts {} was found by seeking", entry.pts), false);
        }
        let errors = frames.errors();
        let mut work = Work::<T>::new(self, frames, opening)?;
        let mut wanted = self.chunk.source.start;
        let Some(&(first, _)) = at(&table.source, wanted) else {
            return differs("the chunk has no frames".into(), false);
        };
        while wanted < self.chunk.source.end {
            let Some(found) = work.next(frames, self.host)? else {
                return differs(format!("the stream ends before frame {wanted}"), frames.errors() > errors);
            };
            let Some(pts) = found.pts else { return differs("a frame has no pts".into(), false) };
            if pts < first {
                continue;
            }
            let expected = at(&table.source, wanted).map(|(pts, _)| *pts);
            if Some(pts) != expected {
                return differs(different(wanted, expected, pts), frames.errors() > errors);
            }
            if work.frame.is_damaged() {
                return differs(format!("the decoder reports frame {wanted} (pts {pts}) as damaged"), true);
            }
            work.feed_planned(table, self.chunk, wanted)?;
            wanted += 1;
        }
        work.finish(Some((table, self.chunk)), self.host).map(Ok)
    }

    /// The whole film in one go, where only decoding tells its frames.
    fn whole<T: Taker>(&mut self) -> Result<Coded<T::Done>, Failure> {
        let mut first = self.frames(false)?;
        let opening = self.opening(&mut first)?;
        drop(first);
        let mut frames = self.frames(true)?;
        let mut work = Work::<T>::new(self, &frames, &opening)?;
        let mut timeline = Timeline::new(self.plan.timeline.clone());
        let mut recent: VecDeque<(u64, Frame)> = VecDeque::new();
        let mut out = Vec::new();
        let mut damage = Damage::new(self.plan.stream, self.args.spec.on_damage);
        let mut number = 0;
        while !timeline.is_over()
            && let Some(found) = work.next(&mut frames, self.host)?
        {
            let Some(pts) = found.pts else { continue };
            if work.frame.is_damaged() {
                damage.note(|| format!("the picture at {} is damaged", self.place(pts)), CONCEALED)?;
            }
            if work.filter()? {
                timeline.rebuild();
            }
            recent.push_back((number, work.filtered.share().map_err(no_memory)?));
            if recent.len() > RECENT_MAX {
                recent.pop_front();
            }
            timeline.push(number, pts, found.duration, &mut out);
            work.feed_recent(&mut recent, &mut out)?;
            number += 1;
        }
        timeline.finish(&mut out);
        work.feed_recent(&mut recent, &mut out)?;
        self.warnings.extend(damage.into_warnings());
        if work.taker.frames() == 0 {
            return Err(Failure::new(
                Class::Spec,
                "no_frames",
                "no frame is left between -ss and -t: the film is shorter, see `spool probe`",
            ));
        }
        work.finish(None, self.host)
    }
}

fn at<T>(list: &[T], index: u64) -> Option<&T> {
    usize::try_from(index).ok().and_then(|index| list.get(index))
}

fn different(frame: u64, expected: Option<i64>, found: i64) -> String {
    let expected = expected.map_or("none".to_owned(), |pts| format!("pts {pts}"));
    format!("frame {frame} should be at {expected}, decoded was pts {found}")
}

/// Frames on their way: decoded, filtered, taken.
struct Work<T> {
    frame: Frame,
    filtered: Frame,
    filters: Filters,
    taker: T,
    decoded: u64,
    carried: Carried,
    /// Next of the chunk's output frames.
    next_output: u64,
}

impl<T: Taker> Work<T> {
    fn new(task: &mut Task<'_>, frames: &Frames, opening: &Opening) -> Result<Work<T>, Failure> {
        Ok(Work {
            frame: Frame::new().map_err(no_memory)?,
            filtered: Frame::new().map_err(no_memory)?,
            filters: task.filters(frames)?,
            taker: T::open(task, opening)?,
            decoded: 0,
            carried: Carried::default(),
            next_output: task.chunk.output.start,
        })
    }

    fn next(&mut self, frames: &mut Frames, host: &mut dyn Host) -> Result<Option<Decoded>, Failure> {
        let found = frames.next(&mut self.frame)?;
        if found.is_some() {
            self.decoded += 1;
            self.carried.look(&self.frame);
        }
        if self.decoded.is_multiple_of(REPORT_EVERY) {
            let (frames, bytes, out_time_us) = self.taker.progress();
            host.progress(frames, bytes, out_time_us);
        }
        Ok(found)
    }

    fn filter(&mut self) -> Result<bool, Failure> {
        self.filters.apply(&self.frame, &mut self.filtered)
    }

    /// Gives away the frame just decoded as often as the plan shows it.
    fn feed_planned(&mut self, table: &FrameTable, chunk: &Chunk, source: u64) -> Result<(), Failure> {
        let mut filtered = false;
        while self.next_output < chunk.output.end
            && let Some(output) = at(&table.output, self.next_output).filter(|output| output.source == source)
        {
            if !filtered {
                self.filter()?;
                filtered = true;
            }
            self.taker.take(&mut self.filtered, output.pts)?;
            self.next_output += 1;
        }
        Ok(())
    }

    fn feed_recent(
        &mut self,
        recent: &mut VecDeque<(u64, Frame)>,
        out: &mut Vec<crate::timeline::OutputFrame>,
    ) -> Result<(), Failure> {
        for output in out.drain(..) {
            let Some((_, frame)) = recent.iter_mut().find(|(number, _)| *number == output.source) else {
                let message = format!("frame {} is to be shown after it was let go", output.source);
                return Err(Failure::new(Class::Internal, "frames_differ", message));
            };
            self.taker.take(frame, output.pts)?;
        }
        Ok(())
    }

    /// Ends the taker, which is told what was planned.
    fn finish(self, plan: Option<(&FrameTable, &Chunk)>, host: &mut dyn Host) -> Result<Coded<T::Done>, Failure> {
        let (decoded, carried) = (self.decoded, self.carried);
        let expected = plan.map(|(table, chunk)| {
            let range =
                usize::try_from(chunk.output.start).unwrap_or(0)..usize::try_from(chunk.output.end).unwrap_or(0);
            table.output.get(range).unwrap_or_default().iter().map(|output| output.pts).collect()
        });
        let frames = self.taker.frames();
        let done = self.taker.finish(expected, host)?;
        Ok(Coded { done, frames, decoded, carried })
    }
}
