//! `media.encode`: one chunk of the video, from the source's packets to a piece. Frames are accepted on evidence: every decoded one
//! is held against the plan, and so is every packet that leaves.
//!
//! Who takes the pictures is a [`Taker`]: the chunk's encoder, or `media.quality`, which is to see what the encoder saw.

mod coder;
pub(crate) mod hdr;
mod kept;
mod linear;
mod passes;
mod stats;

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use spool_proto::call::{EncodeArgs, TrackManifest, Value};
use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::spec::filter::{self, Reach};
use spool_proto::spec::{EncodeSpec, VideoSpec};

use crate::av::codec::Received;
use crate::av::frame::Frame;
use crate::av::input::{Input, Limits};
use crate::damage::Damage;
use crate::decode::{Clock, Decoded, Frames, no_memory};
use crate::graph::{self, Filters, alpha_warning};
use crate::jumps::Shift;
use crate::params;
use crate::piece::Summary;
use crate::plan_file::{Chunk, Entry, FrameTable, PlanFile};
use crate::timeline::{InputClock, Pace};
use crate::{Host, Product, process, scratch_failed};
pub(crate) use coder::Opening;
use coder::{Coder, Order, Written};
use kept::Carried;
use passes::Pass;

/// Decoded frames between two reports of progress.
const REPORT_EVERY: u64 = 4;
/// What libav's decoders do with damaged pictures.
const CONCEALED: &str = "it was concealed";
/// Filtered pictures that may be shown again: the one pushed last, and the one before.
const RECENT_MAX: usize = 2;

/// Runs `media.encode`.
///
/// # Errors
/// Class internal: `frames_differ` (what was decoded is not what the plan says), `packets_differ`, `no_such_chunk`. Class input:
/// `source_damaged`, `undecodable`. Class spec: what the encoder or the filters refuse.
pub fn run(args: &EncodeArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let plan = PlanFile::read(BufReader::new(host.open(1)?))?;
    let chunk = chunk_of(&plan, args)?;
    let path = host.scratch().join("chunk");
    let order = Order { pass: Pass::of(args, host)?, path: path.clone(), keeps_note: args.chunk == 0 };
    let mut task = Task::new(args, &plan, chunk, host)?;
    let (coded, entry) = task.run::<Coder>(&order)?;
    let Written { summary, buffer } = coded.done;
    let manifest = TrackManifest {
        codec: summary.codec,
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
        loudness: None,
        buffer,
    };
    let mut warnings = task.warnings;
    if let Some(video) = &args.spec.video {
        warnings.extend(coded.carried.warnings(plan.stream, video.codec));
    }
    Ok(Product { files: vec![("chunk".to_owned(), path)], warnings, value: Value::Track(manifest) })
}

/// Runs `media.analyse`: the first of a chunk's two passes.
///
/// # Errors
/// As [`run`]. Class internal: `encoder_failed` (the encoder left no statistics).
pub fn analyse(args: &EncodeArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let plan = PlanFile::read(BufReader::new(host.open(1)?))?;
    let chunk = chunk_of(&plan, args)?;
    let (path, stats) = (host.scratch().join("chunk"), host.scratch().join(passes::STATS));
    let order = Order { pass: Pass::First(stats.clone()), path, keeps_note: args.chunk == 0 };
    Task::new(args, &plan, chunk, host)?.run::<Coder>(&order)?;
    let text = std::fs::read_to_string(&stats).map_err(|e| scratch_failed(&stats, &e))?;
    let analysis = stats::read(&text, args.chunk).ok_or_else(|| {
        Failure::new(Class::Internal, "encoder_failed", "the encoder's first pass left no statistics that can be read")
    })?;
    let tree = args.spec.video.as_ref().map(|video| passes::tree(&stats, video.codec)).filter(|tree| tree.exists());
    let mut files = vec![(passes::STATS.to_owned(), stats)];
    files.extend(tree.map(|tree| (passes::TREE.to_owned(), tree)));
    // What there is to warn of, the second pass says.
    Ok(Product { files, warnings: Vec::new(), value: Value::Analysis(analysis) })
}

/// How many of a call's inputs, the last ones, are what is laid over the film and drawn into it.
fn extra_inputs(spec: &EncodeSpec) -> usize {
    let extra = |video: &VideoSpec| usize::from(video.overlay.is_some()) + usize::from(video.burn_in().is_some());
    spec.video.as_ref().map_or(0, extra)
}

/// The chunk of a number.
fn chunk_of<'a>(plan: &'a PlanFile, args: &EncodeArgs) -> Result<&'a Chunk, Failure> {
    let own = args.chunk.checked_sub(args.before).and_then(|number| usize::try_from(number).ok());
    own.and_then(|number| plan.chunks.get(number)).ok_or_else(|| {
        let message = format!(
            "the plan has {} chunks from chunk {} on, chunk {} was asked for",
            plan.chunks.len(),
            args.before,
            args.chunk
        );
        Failure::new(Class::Internal, "no_such_chunk", message)
    })
}

/// Gives every picture of a chunk, filtered and in order, to a taker; what it made of them. Warnings are those of the encode,
/// which told them.
///
/// # Errors
/// As [`run`], and the taker's.
pub(crate) fn pictures<T: Taker>(
    args: &EncodeArgs,
    plan: &PlanFile,
    order: &T::Order,
    host: &mut dyn Host,
) -> Result<T::Done, Failure> {
    let chunk = chunk_of(plan, args)?;
    let (coded, _) = Task::new(args, plan, chunk, host)?.run::<T>(order)?;
    Ok(coded.done)
}

/// Encodes pictures that were taken before as a chunk's encoder would: in their order, each with its pts in the encoder's timebase. The
/// piece is left at `path`, without the encoder's note of its settings.
pub(crate) fn again(
    args: &EncodeArgs,
    opening: &Opening,
    pictures: &[(Frame, i64)],
    path: &Path,
    host: &mut dyn Host,
) -> Result<Summary, Failure> {
    let order = Order { pass: Pass::Only, path: path.to_owned(), keeps_note: false };
    let mut coder = Coder::new(args, opening, &order)?;
    for (number, (picture, pts)) in (1u64..).zip(pictures) {
        coder.take(&mut picture.share().map_err(no_memory)?, *pts)?;
        if number.is_multiple_of(REPORT_EVERY) {
            let (frames, bytes, out_time_us) = coder.progress();
            host.progress(frames, bytes, out_time_us);
        }
    }
    let expected = pictures.iter().map(|(_, pts)| *pts).collect();
    Ok(coder.finish(Some(expected), host)?.summary)
}

/// Takes a chunk's pictures in the order and at the times the plan shows them. Made anew for each try.
pub(crate) trait Taker: Sized {
    /// What it is told to make.
    type Order;
    /// What it made.
    type Done;

    fn open(task: &mut Task<'_>, order: &Self::Order, opening: &Opening) -> Result<Self, Failure>;

    /// `pts` in the encoder's timebase. The picture may be the one taken before, once more.
    fn take(&mut self, frame: &mut Frame, pts: i64) -> Result<(), Failure>;

    /// It has no use for those that follow.
    fn has_all(&self) -> bool {
        false
    }

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
    /// With the chain as planned.
    pub args: EncodeArgs,
    /// The picture that is laid over the film.
    still: Option<Frame>,
    /// The text that is drawn into it, in the call's scratch.
    script: Option<PathBuf>,
    pub plan: &'a PlanFile,
    pub chunk: &'a Chunk,
    pub host: &'a mut dyn Host,
    warnings: Vec<Warning>,
}

impl<'a> Task<'a> {
    /// The last inputs: the picture of an overlay, the text that is drawn.
    fn new(
        args: &EncodeArgs,
        plan: &'a PlanFile,
        chunk: &'a Chunk,
        host: &'a mut dyn Host,
    ) -> Result<Task<'a>, Failure> {
        let mut args = args.clone();
        if let (Some(video), Some(filters)) = (&mut args.spec.video, &plan.filters) {
            video.filters.clone_from(filters);
        }
        let mut last = host.inputs().saturating_sub(extra_inputs(&args.spec));
        let overlay = args.spec.video.as_ref().and_then(|video| video.overlay.as_ref());
        let still = overlay.map(|overlay| graph::still(overlay, host.open(last)?)).transpose()?;
        last += usize::from(overlay.is_some());
        let mut script = None;
        if args.spec.video.as_ref().is_some_and(|video| video.burn_in().is_some()) {
            let path = host.scratch().join("script.mkv");
            let mut to = File::create(&path).map_err(|error| scratch_failed(&path, &error))?;
            std::io::copy(&mut host.open(last)?, &mut to).map_err(|error| scratch_failed(&path, &error))?;
            script = Some(path);
        }
        Ok(Task { args, still, script, plan, chunk, host, warnings: Vec::new() })
    }
}

impl Task<'_> {
    /// Also how the source was entered.
    fn run<T: Taker>(&mut self, order: &T::Order) -> Result<(Coded<T::Done>, String), Failure> {
        match &self.plan.frames {
            Some(table) => self.planned::<T>(order, table),
            None => Ok((self.whole::<T>(order)?, "linear".to_owned())),
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
        let still = self.still.as_ref().map(Frame::share).transpose().map_err(no_memory)?;
        let filters = Filters::new(&self.args.spec, frames.stream(), codec, self.args.threads)?;
        Ok(filters.over(still).drawing(self.script.as_deref()))
    }

    /// What every chunk's encoder is opened with: that of the film's first picture, so that all chunks are of one kind. Leaves
    /// `frames` behind that picture.
    fn opening(&mut self, frames: &mut Frames) -> Result<Opening, Failure> {
        let mut filters = self.filters(frames)?;
        let (mut frame, mut picture) = (Frame::new().map_err(no_memory)?, Frame::new().map_err(no_memory)?);
        if frames.next(&mut frame)?.is_none() {
            return Err(Failure::new(
                Class::Input,
                "undecodable",
                format!("no picture of {} can be decoded", frames.stream().label()),
            ));
        }
        filters.push(&frame)?;
        let mut ended = false;
        // Filters that look ahead need more frames for their first picture.
        while filters.pull(&mut picture)? != Received::One {
            if ended {
                return Err(Failure::new(Class::Spec, "no_frames", "the filters leave no picture of the film"));
            }
            if frames.next(&mut frame)?.is_some() {
                filters.push(&frame)?;
            } else {
                filters.finish(None)?;
                ended = true;
            }
        }
        let opening = Opening::of(&filters, &picture, frames.stream(), self.plan.frame_rate)?;
        let opening = if self.args.joined { opening.settle_range() } else { opening };
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
    fn planned<T: Taker>(&mut self, order: &T::Order, table: &FrameTable) -> Result<(Coded<T::Done>, String), Failure> {
        let mut frames = self.frames(false)?;
        let opening = self.opening(&mut frames)?;
        let mut tried = Vec::new();
        let mut damaged = false;
        for (number, entry) in self.chunk.entries.iter().enumerate() {
            let name = if number == 0 { "keyframe".to_owned() } else { format!("back-{number}") };
            match self.entered::<T>(order, table, &mut frames, entry, &opening)? {
                Ok(coded) => return Ok((coded, name)),
                Err(differs) => {
                    damaged |= differs.damaged;
                    tried.push(format!("{name} (pts {}): {}", entry.pts, differs.what));
                }
            }
        }
        drop(frames);
        match self.linear::<T>(order, table, &opening)? {
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
        order: &T::Order,
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
        let mut work = Work::<T>::new(self, order, frames, opening)?;
        let mut wanted = self.chunk.source.start;
        let Some(&(first, _)) = at(&table.source, wanted) else {
            return differs("the chunk has no frames".into(), false);
        };
        while wanted < self.chunk.source.end && !work.taker.has_all() {
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
            work.feed_planned(table, self.chunk, wanted, pts)?;
            wanted += 1;
        }
        work.finish_planned(table, self.chunk, self.host).map(Ok)
    }

    /// The whole film in one go, where only decoding tells its frames.
    fn whole<T: Taker>(&mut self, order: &T::Order) -> Result<Coded<T::Done>, Failure> {
        let mut first = self.frames(false)?;
        let opening = self.opening(&mut first)?;
        drop(first);
        let mut frames = self.frames(true)?;
        let mut work = Work::<T>::new(self, order, &frames, &opening)?;
        work.filters = work.filters.timed(self.plan.timeline.trim);
        let mut shown = Shown::default();
        let mut damage = Damage::new(self.plan.stream, self.args.spec.on_damage);
        while !shown.over
            && !work.taker.has_all()
            && let Some(found) = work.next(&mut frames, self.host)?
        {
            let Some(pts) = found.pts else { continue };
            if work.frame.is_damaged() {
                damage.note(|| format!("the picture at {} is damaged", self.place(pts)), CONCEALED)?;
            }
            let pts = work.clock.frame(pts, found.duration);
            work.frame.set_pts(Some(pts));
            work.filters.push(&work.frame)?;
            work.feed_shown(&mut shown, self.plan)?;
        }
        work.filters.finish(Some(work.clock.end()))?;
        work.feed_shown(&mut shown, self.plan)?;
        work.feed_last(shown)?;
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
    picture: Frame,
    filters: Filters,
    taker: T,
    clock: InputClock,
    decoded: u64,
    carried: Carried,
    /// Next of the chunk's output frames.
    next_output: u64,
    /// Frames that are not shown are looked at all the same.
    looks_around: bool,
    /// Pictures made of each frame, where that is planned.
    pictures_per_frame: u64,
    /// Planned pictures that the filters owe: number, and for the first one of a frame its pts.
    owed: VecDeque<(u64, Option<i64>)>,
}

/// Pictures of a film without a plan, on their way from the filters to the encoder.
#[derive(Default)]
struct Shown {
    /// Known once there is a picture.
    pace: Option<Pace>,
    /// By number, the last ones.
    recent: VecDeque<(u64, Frame)>,
    count: u64,
    over: bool,
}

impl<T: Taker> Work<T> {
    fn new(task: &mut Task<'_>, order: &T::Order, frames: &Frames, opening: &Opening) -> Result<Work<T>, Failure> {
        let filters = task.args.spec.video.as_ref().map_or(&[][..], |video| &video.filters);
        let looks_around = filter::reach(filters).is_ok_and(|reach| reach != Reach::default());
        Ok(Work {
            frame: Frame::new().map_err(no_memory)?,
            picture: Frame::new().map_err(no_memory)?,
            filters: task.filters(frames)?,
            taker: T::open(task, order, opening)?,
            clock: InputClock::new(&task.plan.timeline),
            decoded: 0,
            carried: Carried::default(),
            next_output: task.chunk.output.start,
            looks_around,
            pictures_per_frame: task.plan.timeline.pictures_per_frame(),
            owed: VecDeque::new(),
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

    /// Filters the frame just decoded, and gives away what comes out.
    fn feed_planned(&mut self, table: &FrameTable, chunk: &Chunk, source: u64, pts: i64) -> Result<(), Failure> {
        let pictures = source * self.pictures_per_frame..(source + 1) * self.pictures_per_frame;
        let next = at(&table.output, self.next_output).filter(|_| self.next_output < chunk.output.end);
        if !self.looks_around && next.is_none_or(|output| !pictures.contains(&output.source)) {
            return Ok(());
        }
        let pts = self.clock.frame(pts, 0);
        self.frame.set_pts(Some(pts));
        if self.filters.push(&self.frame)? {
            self.owed.clear();
        }
        self.owed.extend(pictures.clone().map(|number| (number, (number == pictures.start).then_some(pts))));
        self.take_planned(table, chunk)
    }

    /// Gives away each picture that the filters have ready as often as the plan shows it.
    fn take_planned(&mut self, table: &FrameTable, chunk: &Chunk) -> Result<(), Failure> {
        while self.filters.pull(&mut self.picture)? == Received::One {
            let number = match self.owed.pop_front() {
                Some((number, expected)) if self.filters.is_at(&self.picture, expected) => number,
                owed => {
                    let message = format!("the filters gave a picture at {:?}, owed was {owed:?}", self.picture.pts());
                    return Err(Failure::new(Class::Internal, "filter_failed", message));
                }
            };
            while self.next_output < chunk.output.end
                && let Some(output) = at(&table.output, self.next_output).filter(|output| output.source == number)
            {
                self.taker.take(&mut self.picture, output.pts)?;
                self.next_output += 1;
            }
        }
        Ok(())
    }

    /// Paces the pictures that the filters have ready, and gives away what is to be shown.
    fn feed_shown(&mut self, shown: &mut Shown, plan: &PlanFile) -> Result<(), Failure> {
        let mut out = Vec::new();
        loop {
            match self.filters.pull(&mut self.picture)? {
                Received::One => {}
                Received::Again => return Ok(()),
                Received::End => {
                    shown.over = true;
                    return Ok(());
                }
            }
            // ffmpeg's filters drop what has no time; so does its encoder's front.
            let (Some(pts), Some(sink)) = (self.picture.pts(), self.filters.sink()) else { continue };
            let pace = shown.pace.get_or_insert_with(|| Pace::new(&plan.timeline, sink.time_base));
            pace.push(shown.count, pts, self.picture.duration(), &mut out);
            shown.over |= pace.is_over();
            shown.recent.push_back((shown.count, self.picture.share().map_err(no_memory)?));
            if shown.recent.len() > RECENT_MAX {
                shown.recent.pop_front();
            }
            shown.count += 1;
            self.feed_recent(&mut shown.recent, &mut out)?;
        }
    }

    /// The film has ended: its last picture may be shown again.
    fn feed_last(&mut self, mut shown: Shown) -> Result<(), Failure> {
        let mut out = Vec::new();
        if let Some(pace) = shown.pace {
            pace.finish(&mut out);
        }
        self.feed_recent(&mut shown.recent, &mut out)
    }

    fn feed_recent(
        &mut self,
        recent: &mut VecDeque<(u64, Frame)>,
        out: &mut Vec<crate::timeline::OutputFrame>,
    ) -> Result<(), Failure> {
        for output in out.drain(..) {
            let Some((_, frame)) = recent.iter_mut().find(|(number, _)| *number == output.source) else {
                let message = format!("picture {} is to be shown after it was let go", output.source);
                return Err(Failure::new(Class::Internal, "frames_differ", message));
            };
            self.taker.take(frame, output.pts)?;
        }
        Ok(())
    }

    /// Takes what the filters still hold: behind the chunk's last frame that is the lead-out, which nobody sees, or the film's end.
    fn finish_planned(
        mut self,
        table: &FrameTable,
        chunk: &Chunk,
        host: &mut dyn Host,
    ) -> Result<Coded<T::Done>, Failure> {
        self.filters.finish(None)?;
        self.take_planned(table, chunk)?;
        let range = usize::try_from(chunk.output.start).unwrap_or(0)..usize::try_from(chunk.output.end).unwrap_or(0);
        let expected = table.output.get(range).unwrap_or_default().iter().map(|output| output.pts).collect();
        self.finish(Some(expected), host)
    }

    /// Ends the taker, which is told what was planned.
    fn finish(self, expected: Option<Vec<i64>>, host: &mut dyn Host) -> Result<Coded<T::Done>, Failure> {
        let (decoded, carried, frames) = (self.decoded, self.carried, self.taker.frames());
        let done = self.taker.finish(expected, host)?;
        Ok(Coded { done, frames, decoded, carried })
    }
}
