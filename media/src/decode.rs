//! Decoding one video stream, in the ffmpeg program's manner: frame by frame, errors of the decoder counted and passed over.

mod clock;

use std::collections::BTreeSet;

use spool_proto::failure::Failure;

use crate::av::codec::{Decoder, Received};
use crate::av::frame::Frame;
use crate::av::input::{Input, Read};
use crate::av::packet::Packet;
use crate::av::{AvError, Stream};
use crate::jumps::{Shift, Times};
use crate::plan_file::Entry;
pub use clock::Clock;

/// One frame that came out: pts as demuxed (no shift of ffmpeg's), and the duration of its packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    pub pts: Option<i64>,
    pub duration: i64,
}

/// Reads, decodes, gives frames.
#[derive(Debug)]
pub struct Frames {
    input: Input,
    decoder: Decoder,
    stream: usize,
    packet: Packet,
    /// The packet waits: the decoder wanted frames taken first, or the film was just entered at it.
    pending: bool,
    draining: bool,
    /// Present when timestamps are mended as the ffmpeg program mends them: whole-film decodes.
    clock: Option<Clock>,
    /// Present when the stream's timestamps jump and are not mended otherwise.
    shift: Option<Shift>,
    /// pts, as demuxed, of packets that were read, where they are remembered.
    read: Option<BTreeSet<i64>>,
    errors: u64,
}

/// Packets that may come after the wanted one was due before the search is given up. More than any reordering.
const MISSED_MAX: u32 = 64;
/// Errors in a row that a draining decoder may answer with: it holds fewer frames than this.
const DRAINS_MAX: u32 = 256;
/// How many times further back a seek is tried when it landed behind its target. Each doubles the distance: 1 s to 64 s.
const SEEKS_MAX: u32 = 7;

impl Frames {
    /// Decodes `stream` from the file's start. `clock`: mend timestamps.
    pub fn new(mut input: Input, stream: usize, threads: u16, clock: Option<Clock>) -> Result<Frames, Failure> {
        input.select(&[stream]);
        let decoder = Decoder::open(&input, stream, threads)?;
        Frames::of(input, stream, decoder, clock)
    }

    /// The same, of pictures that are only looked at: [`Decoder::open_rough`].
    pub fn rough(mut input: Input, stream: usize, side: u32, clock: Option<Clock>) -> Result<Frames, Failure> {
        input.select(&[stream]);
        let decoder = Decoder::open_rough(&input, stream, 1, side)?;
        Frames::of(input, stream, decoder, clock)
    }

    fn of(input: Input, stream: usize, decoder: Decoder, clock: Option<Clock>) -> Result<Frames, Failure> {
        let packet = Packet::new().map_err(no_memory)?;
        Ok(Frames {
            input,
            decoder,
            stream,
            packet,
            pending: false,
            draining: false,
            clock,
            shift: None,
            read: None,
            errors: 0,
        })
    }

    /// Undoes the jumps of timestamps: frames come with the times that plans keep. For a stream that is entered.
    pub fn follow(&mut self, shift: Shift) {
        self.shift = Some(shift).filter(Shift::jumps);
    }

    pub fn input(&self) -> &Input {
        &self.input
    }

    pub fn stream(&self) -> &Stream {
        &self.input.streams()[self.stream]
    }

    /// Packets the decoder refused so far.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// Remembers from now on which packets are read, for [`Frames::was_read`].
    pub fn remember(&mut self) {
        self.read = Some(BTreeSet::new());
    }

    /// Whether a packet with this pts (as demuxed) was read since the last [`Frames::forget`].
    pub fn was_read(&self, pts: i64) -> bool {
        self.read.as_ref().is_some_and(|read| read.contains(&pts))
    }

    /// Forgets the packets with a pts up to this one.
    pub fn forget(&mut self, pts: i64) {
        if let Some(read) = &mut self.read {
            *read = read.split_off(&pts.saturating_add(1));
        }
    }

    /// The next frame in output order; `None` at the end.
    ///
    /// # Errors
    /// Only the source's own (unreadable bytes) and lack of memory: what the decoder cannot decode is passed over.
    pub fn next(&mut self, frame: &mut Frame) -> Result<Option<Decoded>, Failure> {
        let mut failed_drains = 0;
        loop {
            match self.decoder.receive(frame) {
                Ok(Received::One) => return Ok(Some(self.describe(frame))),
                Ok(Received::End) => return Ok(None),
                Ok(Received::Again) => {}
                Err(AvError::NO_MEMORY) => return Err(no_memory(AvError::NO_MEMORY)),
                Err(_) => {
                    self.errors += 1;
                    failed_drains += u32::from(self.draining);
                    if failed_drains > DRAINS_MAX {
                        return Ok(None);
                    }
                }
            }
            self.feed()?;
        }
    }

    fn describe(&mut self, frame: &mut Frame) -> Decoded {
        let ratio = self.stream().sample_aspect_ratio;
        if ratio.num != 0 {
            // The container's ratio goes before the codec's, as in ffmpeg.
            frame.set_sample_aspect_ratio(ratio);
        }
        let pts = match &mut self.clock {
            Some(clock) => clock.decoded(frame.best_effort_pts(), frame.duration(), self.draining),
            None => frame.best_effort_pts(),
        };
        Decoded { pts, duration: frame.duration() }
    }

    /// Gives the decoder one more packet, or the end.
    fn feed(&mut self) -> Result<(), Failure> {
        if self.draining {
            // A decoder that drains gives frames until the end; libav guarantees it.
            return Ok(());
        }
        if !self.pending {
            if self.read()? {
                if let (Some(read), Some(pts)) = (&mut self.read, self.packet.pts()) {
                    read.insert(pts);
                }
                match &mut self.clock {
                    Some(clock) => clock.packet(&mut self.packet, &self.decoder),
                    None => self.undo_jumps(),
                }
            } else {
                self.draining = true;
                if let Some(clock) = &mut self.clock {
                    clock.end();
                }
                return self.sent(None);
            }
        }
        self.pending = false;
        self.sent(Some(()))
    }

    fn undo_jumps(&mut self) {
        if let Some(shift) = &mut self.shift {
            let times = shift.unbroken(Times { pts: self.packet.pts(), dts: self.packet.dts() });
            self.packet.set_times(times.pts, times.dts, self.packet.duration());
        }
    }

    fn sent(&mut self, packet: Option<()>) -> Result<(), Failure> {
        match self.decoder.send(packet.map(|()| &self.packet)) {
            Ok(()) | Err(AvError::END) => Ok(()),
            Err(AvError::AGAIN) => {
                self.pending = true;
                Ok(())
            }
            Err(AvError::NO_MEMORY) => Err(no_memory(AvError::NO_MEMORY)),
            Err(_) => {
                self.errors += 1;
                Ok(())
            }
        }
    }

    /// Reads the stream's next packet with anything in it; false at the end, or where the demuxer cannot go on.
    fn read(&mut self) -> Result<bool, Failure> {
        loop {
            match self.input.read(&mut self.packet)? {
                Read::Packet if self.packet.stream() == self.stream && !self.packet.data().is_empty() => {
                    return Ok(true);
                }
                Read::Packet => {}
                Read::End | Read::Broken(_) => return Ok(false),
            }
        }
    }

    /// Goes to a keyframe near a time, in microseconds of the file's own clock; for looking, not for exact work. False: it cannot.
    pub fn jump(&mut self, at_us: i64) -> bool {
        let base = self.stream().time_base;
        let target = crate::timeline::rescale(at_us, crate::timeline::MICROSECOND, base);
        self.decoder.flush();
        self.pending = false;
        self.draining = false;
        self.input.seek(self.stream, target).is_ok()
    }

    /// Goes to a packet of the plan, so that it is the first one decoded. False: it could not be found by seeking; the position is
    /// then anywhere.
    pub fn enter(&mut self, entry: &Entry) -> Result<bool, Failure> {
        self.clock = None;
        self.decoder.flush();
        self.pending = false;
        self.draining = false;
        // Formats whose timestamps jump have no index: they are entered by position.
        if let Some(position) = entry.position.filter(|_| self.input.may_jump()) {
            return Ok(self.input.seek_byte(position).is_ok() && self.find(entry)?);
        }
        let base = self.stream().time_base;
        let second = (i64::from(base.den) / i64::from(base.num.max(1))).max(1);
        let target = entry.dts.map_or(entry.pts, |dts| dts.min(entry.pts));
        for attempt in 0..SEEKS_MAX {
            let back = if attempt == 0 { 0 } else { second << (attempt - 1) };
            // The keyframe itself first: demuxers differ in whether they seek by pts or dts.
            let target = if attempt == 0 { entry.pts } else { target.saturating_sub(back) };
            if self.input.seek(self.stream, target).is_err() {
                return Ok(false);
            }
            if self.find(entry)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Goes to a keyframe at or before `pts`, by the demuxer's word; where that really is, the next frame tells. False: the
    /// demuxer cannot; the position is then anywhere.
    pub fn approach(&mut self, pts: i64) -> bool {
        self.clock = None;
        self.decoder.flush();
        (self.pending, self.draining) = (false, false);
        self.input.seek(self.stream, pts).is_ok()
    }

    /// Goes to the start; `pts`: of the first packet. Formats without an index are entered at their first byte.
    pub fn rewind(&mut self, pts: i64) -> bool {
        let sought = self.approach(pts);
        if self.input.may_jump() || !sought { self.input.seek_byte(0).is_ok() } else { sought }
    }

    /// Reads the next packet without decoding it: when what it holds ends, where it tells. `None` at the end.
    ///
    /// # Errors
    /// The source's own.
    pub fn packet_end(&mut self) -> Result<Option<i64>, Failure> {
        loop {
            if !self.read()? {
                return Ok(None);
            }
            if let Some(pts) = self.packet.pts() {
                return Ok(Some(pts.saturating_add(self.packet.duration())));
            }
        }
    }

    /// Reads on to the entry's packet.
    fn find(&mut self, entry: &Entry) -> Result<bool, Failure> {
        let mut late = 0;
        while late < MISSED_MAX && self.read()? {
            let same_place = match (self.packet.position(), entry.position) {
                (Some(here), Some(there)) => here == there,
                _ => true,
            };
            if self.packet.pts() == Some(entry.pts) && same_place {
                self.pending = true;
                if let Some(shift) = &mut self.shift {
                    shift.go_to(entry.packet);
                }
                self.undo_jumps();
                return Ok(true);
            }
            if self.packet.pts().is_none_or(|pts| pts > entry.pts) {
                late += 1;
            }
        }
        Ok(false)
    }
}

pub(crate) fn no_memory(error: AvError) -> Failure {
    error.failure(spool_proto::failure::Class::Internal, "libav", "decoding")
}
