//! Decoding the film, in part or whole, and holding every frame against its packet.

use std::ops::Range;

use spool_proto::failure::{Class, Failure};

use super::{Coded, invalid, is_video, seconds};
use crate::Host;
use crate::av::codec::Decoder;
use crate::av::frame::Frame;
use crate::av::input::{Input, MediaKind, Read, Stream};
use crate::av::packet::Packet;
use crate::av::{AvError, Received};

/// Joins that are decoded at `sample`.
const JOINS: usize = 16;
/// Frames decoded behind a join, and at the film's start.
const BEHIND: usize = 8;
/// The frames before a join are decoded where their own keyframe is at most so far away.
const BEFORE: usize = 48;
/// As much of the film's end is decoded at most.
const END: usize = 300;
/// Checking may use a little more than one core; it changes no bits.
const THREADS: u16 = 2;

fn libav(error: AvError) -> Failure {
    error.failure(Class::Internal, "libav", "decoding the film to check it")
}

/// Decodes around joins, at the start and at the end. Answers how many frames.
pub fn sample(
    input: &mut Input,
    video: &Stream,
    coded: &[Coded],
    joins: &[u64],
    host: &mut dyn Host,
) -> Result<u64, Failure> {
    let ranges = sample_ranges(coded, joins);
    input.select(&[video.index]);
    let mut decoded = 0;
    for range in ranges {
        decoded += decode_range(input, video, coded, range)?;
        host.progress(decoded, 0, 0);
    }
    Ok(decoded)
}

/// Packets to decode, each range from a keyframe on, apart from each other and in order.
fn sample_ranges(coded: &[Coded], joins: &[u64]) -> Vec<Range<usize>> {
    let key_before = |place: usize| coded[..place].iter().rposition(|packet| packet.key);
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let until = |place: usize| (place + BEHIND).min(coded.len());
    if coded.first().is_some_and(|packet| packet.key) {
        ranges.push(0..until(0));
    }
    for join in chosen(joins, JOINS) {
        let Some(place) = usize::try_from(join).ok().filter(|place| *place > 0 && *place < coded.len()) else {
            continue;
        };
        let from = key_before(place).filter(|key| place - key <= BEFORE).unwrap_or(place);
        ranges.push(from..until(place));
    }
    if let Some(key) = key_before(coded.len()) {
        ranges.push(key..coded.len().min(key + END));
    }
    ranges.sort_unstable_by_key(|range| range.start);
    let mut apart: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match apart.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => apart.push(range),
        }
    }
    apart
}

/// At most `most` of them, evenly.
fn chosen(joins: &[u64], most: usize) -> Vec<u64> {
    if joins.len() <= most {
        return joins.to_vec();
    }
    (0..most).map(|index| joins[index * joins.len() / most]).collect()
}

/// Goes to the keyframe at `place`, so that it is the next video packet read.
fn enter(input: &mut Input, video: &Stream, coded: &[Coded], place: usize, packet: &mut Packet) -> Result<(), Failure> {
    let wanted = coded[place];
    // Demuxers look for dts or for pts; the later of the two first, because it lands no further back than needed.
    for target in [Some(wanted.pts), wanted.dts] {
        let Some(target) = target else { continue };
        if input.seek(video.index, target).is_err() {
            continue;
        }
        while input.read(packet)? == Read::Packet {
            if packet.stream() != video.index {
                continue;
            }
            match packet.pts() {
                Some(pts) if pts == wanted.pts => return Ok(()),
                // Landed behind it.
                Some(_) if packet.dts().zip(wanted.dts).is_some_and(|(dts, wanted)| dts > wanted) => break,
                _ => {}
            }
        }
    }
    Err(invalid(format!(
        "the film cannot be entered at the keyframe of pts {} ({})",
        wanted.pts,
        seconds(wanted.pts, video.time_base)
    )))
}

/// Decodes the packets `range`, which starts with a keyframe: each must give its frame, at its time, without damage.
fn decode_range(input: &mut Input, video: &Stream, coded: &[Coded], range: Range<usize>) -> Result<u64, Failure> {
    let mut decoder = Decoder::open_strict(input, video.index, THREADS)?;
    let mut packet = Packet::new().map_err(libav)?;
    let mut check = FrameCheck::new(video, coded, range.clone())?;
    enter(input, video, coded, range.start, &mut packet)?;
    let mut place = range.start;
    loop {
        if packet.pts() != Some(coded[place].pts) {
            return Err(invalid(format!(
                "packet {place} has pts {:?} when read from a keyframe, {} when read from the start",
                packet.pts(),
                coded[place].pts
            )));
        }
        check.decode(&mut decoder, Some(&packet))?;
        place += 1;
        if place == range.end {
            break;
        }
        loop {
            match input.read(&mut packet)? {
                Read::Packet if packet.stream() == video.index => break,
                Read::Packet => {}
                Read::End | Read::Broken(_) => {
                    return Err(invalid(format!("the film ends before packet {place} when read from a keyframe")));
                }
            }
        }
    }
    check.decode(&mut decoder, None)?;
    check.finish()
}

/// Holds decoded frames against the packets they came from.
struct FrameCheck<'a> {
    video: &'a Stream,
    /// Presentation times to come, in order.
    expected: Vec<i64>,
    /// Display number of the first.
    first: usize,
    taken: usize,
    frame: Frame,
}

impl<'a> FrameCheck<'a> {
    fn new(video: &'a Stream, coded: &[Coded], range: Range<usize>) -> Result<FrameCheck<'a>, Failure> {
        let first = range.start;
        let mut expected: Vec<i64> = coded[range].iter().map(|packet| packet.pts).collect();
        expected.sort_unstable();
        Ok(FrameCheck { video, expected, first, taken: 0, frame: Frame::new().map_err(libav)? })
    }

    fn place(&self) -> String {
        match self.expected.get(self.taken) {
            Some(pts) => {
                format!("frame {} (pts {pts}, {})", self.first + self.taken, seconds(*pts, self.video.time_base))
            }
            None => format!("frame {} (past the end)", self.first + self.taken),
        }
    }

    fn decode(&mut self, decoder: &mut Decoder, packet: Option<&Packet>) -> Result<(), Failure> {
        match decoder.send(packet) {
            Ok(()) | Err(AvError::END) => {}
            Err(AvError::NO_MEMORY) => return Err(libav(AvError::NO_MEMORY)),
            Err(error) => return Err(self.failed(error)),
        }
        loop {
            match decoder.receive(&mut self.frame) {
                Ok(Received::One) => self.take()?,
                Ok(Received::Again | Received::End) => return Ok(()),
                Err(AvError::NO_MEMORY) => return Err(libav(AvError::NO_MEMORY)),
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// The decoder works on a few frames at once, so the damage is in the awaited frame or shortly after it.
    fn failed(&self, error: AvError) -> Failure {
        invalid(format!("decoding fails where {} was awaited: {error}", self.place()))
    }

    fn take(&mut self) -> Result<(), Failure> {
        let found = self.frame.pts().or(self.frame.best_effort_pts());
        if self.expected.get(self.taken).copied() != found || found.is_none() {
            return Err(invalid(format!("{} was expected, the decoder gave pts {found:?}", self.place())));
        }
        if self.frame.is_damaged() {
            return Err(invalid(format!("{} decodes with errors", self.place())));
        }
        self.taken += 1;
        Ok(())
    }

    fn finish(self) -> Result<u64, Failure> {
        if self.taken < self.expected.len() {
            return Err(invalid(format!("{} and {} more never came out of the decoder", self.place(), {
                self.expected.len() - self.taken - 1
            })));
        }
        Ok(crate::wire::len(&self.expected))
    }
}

/// Decodes the whole film, sound included. Answers how many video frames.
pub fn everything(
    input: &mut Input,
    video: Option<&Stream>,
    coded: &[Coded],
    host: &mut dyn Host,
) -> Result<u64, Failure> {
    let sound: Vec<usize> =
        input.streams().iter().filter(|stream| stream.kind == MediaKind::Audio).map(|stream| stream.index).collect();
    let used: Vec<usize> =
        input.streams().iter().filter(|s| is_video(s) || s.kind == MediaKind::Audio).map(|s| s.index).collect();
    input.select(&used);
    let Some(&any) = used.first() else { return Ok(0) };
    input
        .seek(any, i64::MIN / 2)
        .map_err(|error| invalid(format!("the film cannot be read a second time: {error}")))?;
    let mut pictures = match video {
        Some(video) => Some((
            video.index,
            Decoder::open_strict(input, video.index, THREADS)?,
            FrameCheck::new(video, coded, 0..coded.len())?,
        )),
        None => None,
    };
    let mut voices = Vec::new();
    for index in sound {
        voices.push((index, Decoder::open_strict(input, index, 1)?));
    }
    let mut packet = Packet::new().map_err(libav)?;
    let mut frame = Frame::new().map_err(libav)?;
    loop {
        match input.read(&mut packet)? {
            Read::Packet => {}
            Read::End => break,
            Read::Broken(error) => return Err(invalid(format!("the film breaks off on the second reading ({error})"))),
        }
        let stream = packet.stream();
        if let Some((index, decoder, check)) = &mut pictures
            && *index == stream
        {
            check.decode(decoder, Some(&packet))?;
            host.progress(crate::wire::len(&check.expected[..check.taken]), 0, 0);
        } else if let Some((index, decoder)) = voices.iter_mut().find(|(index, _)| *index == stream) {
            hear(decoder, *index, Some(&packet), &mut frame)?;
        }
    }
    for (index, mut decoder) in voices {
        hear(&mut decoder, index, None, &mut frame)?;
    }
    match pictures {
        Some((_, mut decoder, mut check)) => {
            check.decode(&mut decoder, None)?;
            check.finish()
        }
        None => Ok(0),
    }
}

fn hear(decoder: &mut Decoder, stream: usize, packet: Option<&Packet>, frame: &mut Frame) -> Result<(), Failure> {
    let at = packet.map_or("the end".to_string(), |packet| format!("pts {:?}", packet.pts()));
    let broken = |error: AvError| invalid(format!("stream {stream}: sound at {at} cannot be decoded: {error}"));
    match decoder.send(packet) {
        Ok(()) | Err(AvError::END) => {}
        Err(error) => return Err(broken(error)),
    }
    while decoder.receive(frame).map_err(broken)? == Received::One {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn film(frames: usize, keys: &[usize]) -> Vec<Coded> {
        (0..frames)
            .map(|place| {
                let pts = i64::try_from(place).unwrap();
                Coded { pts, dts: Some(pts), key: keys.contains(&place), bytes: 1 }
            })
            .collect()
    }

    #[test]
    fn a_join_is_decoded_from_both_sides_where_that_is_cheap() {
        let coded = film(1000, &[0, 380, 400, 600]);
        assert_eq!(sample_ranges(&coded, &[0, 400, 600]), [0..8, 380..408, 600..900]);
    }

    #[test]
    fn the_end_is_decoded_to_the_last_frame() {
        assert_eq!(sample_ranges(&film(100, &[0, 50]), &[]), [0..8, 50..100]);
        assert_eq!(sample_ranges(&film(3, &[0]), &[]), vec![0..3]);
        assert!(sample_ranges(&[], &[]).is_empty());
    }

    #[test]
    fn many_joins_are_thinned_out_evenly() {
        let joins: Vec<u64> = (0..100).collect();
        let chosen = chosen(&joins, 16);
        assert_eq!((chosen.len(), chosen[0], chosen[15]), (16, 0, 93));
    }
}
