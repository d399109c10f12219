//! Single pictures of a film, by their time.

use spool_proto::failure::{Class, Failure};
use spool_proto::spec::Rational;

use super::draw::{Look, Shape};
use crate::av::frame::Frame;
use crate::av::input::Input;
use crate::av::{MICROSECONDS, rescale};
use crate::decode::{Frames, no_memory};

/// Where a seek may have landed wrongly (open GOPs, MPEG-TS), further back is tried: 1 s, 2 s, … 32 s.
const RETRIES: u32 = 6;
/// Without an index, this much is rather decoded than sought.
const STRIDE_US: i64 = 5_000_000;
/// Damaged pictures passed over in the hope of a whole one: those before a recovery point.
const DAMAGED_MAX: u32 = 16;

/// A decoded picture and the time it is shown from.
#[derive(Debug)]
pub struct Shot {
    pub at_us: i64,
    pub frame: Frame,
}

#[derive(Debug)]
pub struct Shots {
    frames: Frames,
    stream: usize,
    time_base: Rational,
    /// What brings the stream's times to the film's.
    offset_us: i64,
    length_us: Option<i64>,
    /// Time of the last picture decoded.
    here_us: Option<i64>,
    /// Time of the first picture that can be decoded, once it was seen; and whether the next one is it.
    first_us: Option<i64>,
    at_start: bool,
    /// How long a picture is shown at the film's frame rate, in `time_base`.
    nominal: i64,
}

fn no_frames(at_us: i64) -> Failure {
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let seconds = at_us as f64 / 1e6;
    Failure::new(
        Class::Input,
        "no_frames",
        format!("the film shows no picture at {seconds:.3} s; name an earlier time"),
    )
}

impl Shots {
    /// # Errors
    /// `no_such_stream`, `wrong_stream`, `no_decoder`, `undecodable` (class input).
    pub fn open(input: Input, stream: u32) -> Result<Shots, Failure> {
        let stream = usize::try_from(stream).unwrap_or(usize::MAX);
        let facts = input.streams().get(stream).ok_or_else(|| {
            Failure::new(Class::Input, "no_such_stream", format!("the source has no stream {stream}"))
        })?;
        if facts.kind != crate::av::input::MediaKind::Video {
            let message = format!("{} is no video; pictures are taken of video", facts.label());
            return Err(Failure::new(Class::Input, "wrong_stream", message));
        }
        let time_base = facts.time_base;
        let offset_us = input.ts_offset_us(&[stream]);
        let own = facts.duration.map(|duration| rescale(duration, time_base, MICROSECONDS));
        let length_us = own.or(input.duration_us());
        let nominal = facts.frame_rate.map_or(0, |rate| rescale(1, Rational::new(rate.den, rate.num), time_base));
        let frames = Frames::new(input, stream, 1, None)?;
        Ok(Shots {
            frames,
            stream,
            time_base,
            offset_us,
            length_us,
            here_us: None,
            first_us: None,
            at_start: true,
            nominal,
        })
    }

    pub fn errors(&self) -> u64 {
        self.frames.errors()
    }

    pub fn look(&self) -> Look {
        Look { time_base: self.time_base, matrix: self.frames.stream().matrix() }
    }

    /// How a picture of the stream is shown.
    pub fn shape(&self, frame: &Frame) -> Shape {
        Shape::of(frame, &self.look())
    }

    /// Length of the film; where the container does not tell, every packet is looked at once.
    pub fn length_us(&mut self) -> Result<i64, Failure> {
        if let Some(length) = self.length_us {
            return Ok(length);
        }
        let mut last = None;
        self.seek(0);
        while let Some(until) = self.frames.packet_end()? {
            last = last.max(Some(until));
        }
        self.here_us = None;
        let length = last.map_or(0, |last| self.film_us(last)).max(0);
        self.length_us = Some(length);
        Ok(length)
    }

    fn film_us(&self, pts: i64) -> i64 {
        rescale(pts, self.time_base, MICROSECONDS).saturating_add(self.offset_us)
    }

    fn own(&self, us: i64) -> i64 {
        rescale(us.saturating_sub(self.offset_us), MICROSECONDS, self.time_base)
    }

    /// The picture shown at `at_us`: the last one that begins by then, or the film's first. `near_us`: a picture so near to it will do.
    ///
    /// # Errors
    /// `no_frames` (class input) where the film has ended.
    pub fn at(&mut self, at_us: i64, near_us: i64) -> Result<Shot, Failure> {
        if self.length_us.is_some_and(|length| at_us >= length.max(1)) {
            return Err(no_frames(at_us));
        }
        if !self.is_ahead(at_us) {
            self.seek(at_us);
        }
        for attempt in 0..=RETRIES {
            if let Some(shot) = self.read(at_us, near_us)? {
                let late = shot.at_us > at_us.saturating_add(near_us) && shot.at_us > self.first_us();
                if !late || attempt == RETRIES {
                    return Ok(shot);
                }
            } else if attempt == RETRIES || self.length_us.is_some_and(|length| at_us >= length) {
                break;
            }
            self.seek(at_us.saturating_sub(1_000_000 << attempt));
        }
        Err(no_frames(at_us))
    }

    /// A film whose first picture comes late has none before it.
    fn first_us(&self) -> i64 {
        self.first_us.or(self.frames.stream().start_pts.map(|pts| self.film_us(pts))).unwrap_or(0)
    }

    /// Whether decoding on is the shortest way there.
    fn is_ahead(&self, at_us: i64) -> bool {
        let Some(here) = self.here_us.filter(|here| *here <= at_us) else { return false };
        match self.frames.input().keyframes_around(self.stream, self.own(at_us)) {
            (Some(before), Some(_)) => self.film_us(before) <= here,
            _ => at_us - here < STRIDE_US,
        }
    }

    fn seek(&mut self, at_us: i64) {
        self.here_us = None;
        self.at_start = false;
        let start = self.own(0).min(self.frames.stream().start_pts.unwrap_or(0));
        let target = self.own(at_us);
        if target <= start || !self.frames.approach(target) {
            self.at_start = self.frames.rewind(start);
        }
    }

    /// Decodes on until the picture is there. `None`: the film ended before any.
    fn read(&mut self, at_us: i64, near_us: i64) -> Result<Option<Shot>, Failure> {
        let mut best: Option<Shot> = None;
        let mut damaged = 0;
        let mut until_us = 0;
        loop {
            let mut frame = Frame::new().map_err(no_memory)?;
            let Some(decoded) = self.frames.next(&mut frame)? else {
                // However long the film says it is: this is its last picture.
                let Some(last) = best else { return Ok(None) };
                self.here_us = None;
                let end_us = until_us.max(last.at_us + 1);
                self.length_us = Some(self.length_us.map_or(end_us, |length| length.min(end_us)));
                return Ok((at_us < end_us).then_some(last));
            };
            let Some(pts) = decoded.pts else { continue };
            let here = self.film_us(pts);
            self.here_us = Some(here);
            if std::mem::take(&mut self.at_start) {
                self.first_us = Some(here);
            }
            until_us = self.film_us(pts.saturating_add(decoded.duration.max(self.nominal)));
            if frame.is_damaged() && damaged < DAMAGED_MAX {
                damaged += 1;
                continue;
            }
            if here > at_us {
                // What was before is what is shown, unless it is further off than this one may be.
                let far = best.as_ref().is_none_or(|best| at_us - best.at_us > near_us && here - at_us < near_us);
                return Ok(Some(if far { Shot { at_us: here, frame } } else { best.expect("not far") }));
            }
            let enough = at_us - here <= near_us;
            best = Some(Shot { at_us: here, frame });
            if enough {
                return Ok(best);
            }
        }
    }
}
