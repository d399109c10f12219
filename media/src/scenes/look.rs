//! The pictures of a range of the source's frames, in small. Found by their times, as the plan knows them.

use std::ops::Range;

use spool_proto::failure::{Class, Failure};

use super::small::{HEIGHT, SIZE, Small, WIDTH};
use crate::Host;
use crate::av::AvError;
use crate::av::codec::Received;
use crate::av::frame::{Frame, Picture};
use crate::av::graph::{Feed, Graph, Step};
use crate::av::input::{Input, Limits};
use crate::decode::{Clock, Decoded, Frames, no_memory};
use crate::jumps::Shift;
use crate::packets::PacketIndex;
use crate::plan::shown::Shown;

/// Decoded frames between two reports of progress.
const REPORT_EVERY: u64 = 16;

pub struct Look<'a> {
    index: &'a PacketIndex,
    shown: &'a Shown,
    frames: Frames,
    frame: Frame,
    graph: Option<(Picture, Graph)>,
    /// Decoded.
    decoded: u64,
}

impl<'a> Look<'a> {
    pub fn new(index: &'a PacketIndex, shown: &'a Shown, host: &mut dyn Host) -> Result<Look<'a>, Failure> {
        let frames = open(index, shown, false, host)?;
        let frame = Frame::new().map_err(no_memory)?;
        Ok(Look { index, shown, frames, frame, graph: None, decoded: 0 })
    }

    /// Gives the picture of each frame of the range, in order. Of one that cannot be decoded the one before it is given once more.
    pub fn at(&mut self, range: Range<u64>, host: &mut dyn Host, mut take: impl FnMut(Small)) -> Result<(), Failure> {
        let mut next = self.enter(&range, host)?;
        let mut last: Option<Small> = None;
        let mut wanted = range.start;
        while wanted < range.end {
            let Some(found) = next else { break };
            if let Some(here) = found.pts.and_then(|pts| self.number(pts)).filter(|here| *here >= wanted) {
                let picture = self.small()?;
                // Nothing was seen before the first: what is missing there is as it is.
                let missing = last.as_ref().unwrap_or(&picture);
                (wanted..here.min(range.end)).for_each(|_| take(missing.clone()));
                if here < range.end {
                    take(picture.clone());
                }
                last = Some(picture);
                wanted = here + 1;
            }
            if wanted < range.end {
                next = self.next(host)?;
            }
        }
        if let Some(last) = last {
            (wanted..range.end).for_each(|_| take(last.clone()));
        }
        Ok(())
    }

    /// Goes to the first frame of a range, or where there is no such to one behind it; decodes that.
    fn enter(&mut self, range: &Range<u64>, host: &mut dyn Host) -> Result<Option<Decoded>, Failure> {
        for entry in self.shown.known.entries(range.start) {
            if !self.frames.enter(&entry)? {
                continue;
            }
            let first = self.first(range, host)?;
            if first.is_some_and(|found| found.pts.and_then(|pts| self.number(pts)) == Some(range.start)) {
                return Ok(first);
            }
        }
        self.frames = open(self.index, self.shown, true, host)?;
        self.first(range, host)
    }

    /// Decodes up to a range.
    fn first(&mut self, range: &Range<u64>, host: &mut dyn Host) -> Result<Option<Decoded>, Failure> {
        let start = usize::try_from(range.start).ok().and_then(|at| self.shown.known.frames.get(at));
        let Some(&(start, _)) = start else { return Ok(None) };
        while let Some(found) = self.next(host)? {
            if found.pts.is_some_and(|pts| pts >= start) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn next(&mut self, host: &mut dyn Host) -> Result<Option<Decoded>, Failure> {
        let found = self.frames.next(&mut self.frame)?;
        self.decoded += 1;
        if self.decoded.is_multiple_of(REPORT_EVERY) {
            host.progress(self.decoded, 0, 0);
        }
        Ok(found)
    }

    /// The number of the frame of a time.
    fn number(&self, pts: i64) -> Option<u64> {
        let at = self.shown.known.frames.binary_search_by_key(&pts, |(pts, _)| *pts).ok()?;
        u64::try_from(at).ok()
    }

    /// The decoded picture in small.
    fn small(&mut self) -> Result<Small, Failure> {
        let shape = self.frame.picture_shape();
        if self.graph.as_ref().is_none_or(|(current, _)| *current != shape) {
            let feed = Feed::Video {
                width: shape.width,
                height: shape.height,
                format: shape.format,
                time_base: self.index.time_base,
                sample_aspect_ratio: self.frame.sample_aspect_ratio(),
                frame_rate: None,
            };
            let steps =
                [Step::new("scale", format!("{WIDTH}:{HEIGHT}:flags=area")), Step::new("format", "pix_fmts=gray")];
            self.graph = Some((shape, Graph::new(&feed, &steps, 1)?));
        }
        let failed = |error: AvError| error.failure(Class::Internal, "filter_failed", "making a picture small");
        let mut grey = Frame::new().map_err(no_memory)?;
        let Some((_, graph)) = &mut self.graph else { return Err(failed(AvError::INVALID)) };
        graph.push(Some(&self.frame)).map_err(failed)?;
        if graph.pull(&mut grey).map_err(failed)? != Received::One {
            return Err(failed(AvError::INVALID));
        }
        let small = Small::new(grey.pixels().map_err(failed)?);
        small.ok_or_else(|| {
            Failure::new(Class::Internal, "filter_failed", format!("a small picture has not {SIZE} samples"))
        })
    }
}

/// Opens the source at its start. `mend`: with ffmpeg's mended timestamps.
fn open(index: &PacketIndex, shown: &Shown, mend: bool, host: &mut dyn Host) -> Result<Frames, Failure> {
    let input = Input::open(host.open(0)?, &Limits::default())?;
    let stream = usize::try_from(index.stream).unwrap_or(usize::MAX);
    let side = u32::try_from(2 * HEIGHT).unwrap_or(0);
    let Some(facts) = input.streams().get(stream) else {
        return Err(Failure::new(Class::Input, "no_such_stream", format!("the source has no stream {stream}")));
    };
    let shift = Shift::new(input.shift_of(facts, index.ts_offset_us, shown.jumps.clone()));
    let clock = mend.then(|| Clock::new(facts, input.may_jump(), shift.clone()));
    let mut frames = Frames::rough(input, stream, side, clock)?;
    if !mend {
        frames.follow(shift);
    }
    Ok(frames)
}
