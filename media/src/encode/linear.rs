//! A chunk decoded as ffmpeg does it, from the file's first packet on: the last resort, and the truth about a damaged source.

use std::ops::Range;

use spool_proto::failure::Failure;

use super::{CONCEALED, Coded, Differs, Opening, Taker, Task, Work, at, different};
use crate::av::codec::Received;
use crate::av::frame::Frame;
use crate::damage::{Damage, seconds};
use crate::decode::{Frames, no_memory};
use crate::plan_file::{Chunk, FrameTable};
use crate::timeline;

impl Task<'_> {
    /// What the decoder conceals is what ffmpeg would encode too, and pictures that it does not give, though the packets promise them,
    /// are missing in ffmpeg's film too: damage is told and, if the user will have it so, taken.
    pub(super) fn linear<T: Taker>(
        &mut self,
        order: &T::Order,
        table: &FrameTable,
        opening: &Opening,
    ) -> Result<Result<Coded<T::Done>, Differs>, Failure> {
        let mut frames = self.frames(true)?;
        frames.remember();
        let mut work = Work::<T>::new(self, order, &frames, opening)?;
        let mut damage = Damage::new(self.plan.stream, self.args.spec.on_damage);
        let mut last: Option<Frame> = None;
        let (mut number, mut missing) = (0, Missing::default());
        while number < self.chunk.source.end {
            let Some(found) = work.next(&mut frames, self.host)? else { break };
            // The plan holds no frames without a time.
            let Some(pts) = found.pts else { continue };
            let here = next_at(table, number, pts);
            let expected = at(&table.source, here).map(|(pts, _)| *pts);
            if expected != Some(pts) && (frames.errors() > 0 || work.frame.is_damaged() || damage.is_any()) {
                // ffmpeg's conversion drops what comes too late, too.
                damage.note(|| format!("a picture at {} comes out of order", self.place(pts)), "it is left out")?;
                continue;
            }
            if expected != Some(pts) {
                return Ok(Err(Differs { what: different(here, expected, pts), damaged: frames.errors() > 0 }));
            }
            missing.owed.extend(number..here);
            if let Err(differs) = missing.settle(table, &frames, here) {
                return Ok(Err(differs));
            }
            frames.forget(pts);
            self.note_missing(table, number..here, &mut damage)?;
            work.fill(table, self.chunk, number..here, last.as_ref())?;
            if self.chunk.source.contains(&here) {
                if work.frame.is_damaged() {
                    damage.note(|| format!("the picture at {} is damaged", self.place(pts)), CONCEALED)?;
                }
                work.feed_planned(table, self.chunk, here, pts)?;
            }
            last = Some(work.frame.share().map_err(no_memory)?);
            number = here + 1;
        }
        if number < self.chunk.source.end {
            let Some(last) = last else {
                let what = format!("the stream ends before frame {number}");
                return Ok(Err(Differs { what, damaged: frames.errors() > 0 }));
            };
            let rest = number..self.chunk.source.end;
            missing.owed.extend(rest.clone());
            self.note_missing(table, rest.clone(), &mut damage)?;
            work.frame = last;
            work.fill(table, self.chunk, rest, None)?;
        }
        let mut next = number;
        while let (Ok(()), Some(frame)) = (missing.settle(table, &frames, next), missing.owed.first()) {
            if work.next(&mut frames, self.host)?.is_none() {
                return Ok(Err(gone(*frame, &frames)));
            }
            next += 1;
        }
        if let Some(frame) = missing.owed.first() {
            return Ok(Err(gone(*frame, &frames)));
        }
        self.warnings.extend(damage.into_warnings());
        work.finish_planned(table, self.chunk, self.host).map(Ok)
    }

    fn note_missing(&self, table: &FrameTable, missing: Range<u64>, damage: &mut Damage) -> Result<(), Failure> {
        for frame in missing.filter(|frame| self.chunk.source.contains(frame)) {
            let pts = at(&table.source, frame).map_or(0, |(pts, _)| *pts);
            let what = || format!("the picture at {} cannot be decoded", self.place(pts));
            damage.note(what, "those beside it are shown instead")?;
        }
        Ok(())
    }

    /// When a picture is shown, on the film's clock.
    pub(super) fn place(&self, pts: i64) -> String {
        let us = timeline::rescale(pts, self.plan.time_base, timeline::MICROSECOND);
        seconds(us.saturating_add(self.plan.timeline.ts_offset_us))
    }
}

/// A picture may be missing because its packet cannot be decoded. Where there is no such packet, the source is another one than was
/// planned for.
#[derive(Default)]
struct Missing {
    /// Whose packets have not been read yet.
    owed: Vec<u64>,
}

impl Missing {
    /// More packets than any decoder reads ahead of a picture that is displayed before it.
    const READ_AHEAD: u64 = 64;

    /// `next`: the frame that is to come now. `Err`: a packet is not there.
    fn settle(&mut self, table: &FrameTable, frames: &Frames, next: u64) -> Result<(), Differs> {
        self.owed.retain(|frame| at(&table.source, *frame).is_none_or(|(pts, _)| !frames.was_read(*pts)));
        match self.owed.first() {
            Some(frame) if *frame + Missing::READ_AHEAD < next => Err(gone(*frame, frames)),
            _ => Ok(()),
        }
    }
}

fn gone(frame: u64, frames: &Frames) -> Differs {
    Differs { what: format!("frame {frame} is gone, and its packet"), damaged: frames.errors() > 0 }
}

/// The first of the table's frames, from `from` on, that is not before `pts`.
fn next_at(table: &FrameTable, from: u64, pts: i64) -> u64 {
    let mut at = from;
    while let Some((expected, _)) = super::at(&table.source, at)
        && *expected < pts
    {
        at += 1;
    }
    at
}

impl<T: Taker> Work<T> {
    /// Fills the time of missing pictures as ffmpeg's frame-rate conversion does: with the picture before them, and the last time with
    /// the one that follows, which is the frame just decoded.
    fn fill(
        &mut self,
        table: &FrameTable,
        chunk: &Chunk,
        missing: Range<u64>,
        before: Option<&Frame>,
    ) -> Result<(), Failure> {
        if self.looks_around {
            return self.fill_in(table, chunk, missing, before);
        }
        let shows = |output: u64| at(&table.output, output).filter(|output| missing.contains(&output.source));
        while self.next_output < chunk.output.end
            && let Some(output) = shows(self.next_output)
        {
            let follows = shows(self.next_output + 1).is_none();
            self.filters.push(before.filter(|_| !follows).unwrap_or(&self.frame))?;
            if self.filters.pull(&mut self.picture)? == Received::One {
                self.taker.take(&mut self.picture, output.pts)?;
            }
            self.next_output += 1;
        }
        Ok(())
    }

    /// The same where filters look at neighbours: they are given the pictures that stand in, one for each that is missing.
    fn fill_in(
        &mut self,
        table: &FrameTable,
        chunk: &Chunk,
        missing: Range<u64>,
        before: Option<&Frame>,
    ) -> Result<(), Failure> {
        let missing = missing.start.max(chunk.source.start)..missing.end.min(chunk.source.end);
        let here = self.frame.share().map_err(no_memory)?;
        for source in missing.clone() {
            let stand_in = before.filter(|_| source + 1 < missing.end).unwrap_or(&here);
            self.frame = stand_in.share().map_err(no_memory)?;
            let pts = at(&table.source, source).map_or(0, |(pts, _)| *pts);
            self.feed_planned(table, chunk, source, pts)?;
        }
        self.frame = here;
        Ok(())
    }
}
