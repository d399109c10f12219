//! `media.segment`: the pieces of one track in, its CMAF track file and segment table out. Or a part of them, where what follows is not
//! there yet ([`part`]).

mod part;

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use spool_proto::call::{SegmentArgs, SegmentSummary, Value};
use spool_proto::failure::{Class, Failure};
use spool_proto::package::{Fragment, SHORT_PART, Segment, SegmentTable, TrackMedia, VideoRange};
use spool_proto::spec::Rational;

use super::{boxes, codec_string};
use crate::assemble::{Cursor, FilmTimeline, Place, Track, setup, survey};
use crate::av::output::{Output, StreamSetup};
use crate::av::{MICROSECONDS, rescale};
use crate::piece::{Kind, Packet};
use crate::{Host, Product, scratch_failed, wire};
use part::Behind;

/// Size and kind of the box that holds a fragment's data.
const DATA_HEADER_BYTES: u64 = 8;
/// `AVColorTransferCharacteristic`.
const PQ: i32 = 16;
const HLG: i32 = 18;

fn internal(code: &str, message: impl Into<String>) -> Failure {
    Failure::new(Class::Internal, code, message)
}

/// Runs `media.segment`.
///
/// # Errors
/// Class `internal`: `segments_differ` when a segment does not begin with a keyframe, or does not go on with what was cut before,
/// `bad_call`, `artifact_malformed`, and those of the join ([`crate::assemble::run`]).
pub fn run(args: &SegmentArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let before = args.goes_on.then(|| part::read(host)).transpose()?;
    let behind = before.as_ref();
    let pieces = usize::from(args.goes_on)..host.inputs();
    let track = survey(&args.stream, pieces, behind.map(|behind| &behind.goes_on), host)?;
    if track.is_empty {
        let why = format!("stream {} holds nothing that could be cut into segments", args.stream.index);
        return Err(Failure::new(Class::Input, "no_packets", why));
    }
    part::check(args, &track, behind)?;
    let path = host.scratch().join("track.mp4");
    let (mut table, place) = write(args, &track, behind, &path, host)?;
    let ends = look_into(&mut table, &path)?;
    table.goes_on = part::goes_on(&track, behind, place, ends).filter(|_| args.until.is_some());
    let path = match &before {
        Some(before) => part::follow(before, &mut table, &path, host)?,
        None => path,
    };
    merge_rest(&mut table, args.segment);

    let mut files = vec![("track".to_owned(), path)];
    let mut leave = |name: &str, write: &mut dyn FnMut(BufWriter<File>) -> Result<(), Failure>| {
        let path = host.scratch().join(name);
        let file = File::create(&path).map_err(|error| scratch_failed(&path, &error))?;
        write(BufWriter::new(file))?;
        files.push((name.to_owned(), path));
        Ok::<(), Failure>(())
    };
    leave("segments", &mut |mut to| {
        let io = |error: std::io::Error| scratch_failed(Path::new("segments"), &error);
        serde_json::to_writer(&mut to, &table).map_err(|error| io(error.into()))?;
        to.flush().map_err(io)
    })?;
    let is_all = !args.goes_on && args.until.is_none();
    let times = track.schedule.as_ref().filter(|_| is_all).map(|schedule| FilmTimeline {
        time_base: track.parameters.time_base,
        shift_us: 0,
        pts: schedule.pts().to_vec(),
    });
    if let Some(times) = &times {
        leave("timeline", &mut |to| Ok(times.write(to)?))?;
    }
    let summary = SegmentSummary {
        codec: table.codec.clone(),
        segments: u32::try_from(table.segments.len()).unwrap_or(u32::MAX),
        bytes: table.end(),
        duration_us: duration_us(&table),
        average_bps: table.average_bps(),
        peak_bps: table.peak_bps(),
        frames: times.map(|times| wire::len(&times.pts)),
        next_piece: table.goes_on.as_ref().map(|goes_on| goes_on.piece),
    };
    Ok(Product { files, warnings: Vec::new(), value: Value::Segments(summary) })
}

fn duration_us(table: &SegmentTable) -> u64 {
    let ticks = table.segments.iter().map(|segment| segment.duration).sum::<u64>();
    let us = rescale(i64::try_from(ticks).unwrap_or(i64::MAX), table.time_base, MICROSECONDS);
    u64::try_from(us).unwrap_or(0)
}

/// What begins with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begins {
    Segment,
    Fragment,
}

/// Where a track is cut.
struct Cuts {
    /// Of the pieces' times.
    time_base: Rational,
    segment: Rational,
    /// The segment whose start is no cut.
    skipped: Option<i64>,
    /// Number of the segment that was begun last.
    last: Option<i64>,
    /// Where what is cut now ends.
    until: Option<i64>,
    pictures: Option<Pictures>,
}

/// Frames are counted: the encoder's timebase is one frame.
struct Pictures {
    first: i64,
    segment_frames: i64,
    gop_frames: i64,
}

impl Cuts {
    fn new(args: &SegmentArgs, track: &Track<'_>, behind: Option<&Behind>) -> Result<Cuts, Failure> {
        let video = args.spec.video.as_ref().filter(|_| track.schedule.is_some());
        let pictures = match video {
            None => None,
            Some(video) => {
                let grid =
                    args.spec.segment_frames.zip(video.gop_frames).filter(|(segment, gop)| *segment > 0 && *gop > 0);
                let (segment, gop) =
                    grid.ok_or_else(|| internal("bad_call", "a package's pictures without a grid of keyframes"))?;
                let first = behind.map(|behind| behind.goes_on.first_pts).or(track.first_pts).unwrap_or(0);
                Some(Pictures { first, segment_frames: segment.into(), gop_frames: gop.into() })
            }
        };
        Ok(Cuts {
            time_base: track.parameters.time_base,
            segment: args.segment,
            skipped: args.segments.map(i64::from),
            last: behind.map(|behind| i64::try_from(behind.table.segments.len()).unwrap_or(i64::MAX) - 1),
            until: args.until.map(i64::from),
            pictures,
        })
    }

    /// Whether the segment that was begun last is behind those that are cut now.
    fn is_beyond(&self) -> bool {
        self.until.is_some() && self.last >= self.until
    }

    fn begins(&mut self, packet: &Packet) -> Result<Option<Begins>, Failure> {
        let pts = packet.pts.ok_or_else(|| internal("chunk_damaged", "a packet has no pts"))?;
        let number = match &self.pictures {
            Some(pictures) => {
                let frame = pts - pictures.first;
                if frame % pictures.gop_frames != 0 {
                    return Ok(None);
                }
                if !packet.key {
                    let why = format!("frame {frame} should be a keyframe: the renditions of a package share theirs");
                    return Err(internal("segments_differ", why));
                }
                if frame % pictures.segment_frames != 0 {
                    return Ok(Some(Begins::Fragment));
                }
                frame / pictures.segment_frames
            }
            None => self.segment_of(pts),
        };
        if self.last.is_some_and(|last| number <= last) {
            return Ok(None);
        }
        if self.skipped == Some(number) {
            return Ok(self.pictures.is_some().then_some(Begins::Fragment));
        }
        self.last = Some(number);
        Ok(Some(Begins::Segment))
    }

    /// The segment in which a time lies; before zero is in the first.
    fn segment_of(&self, pts: i64) -> i64 {
        let (pts, base, segment) = (i128::from(pts.max(0)), self.time_base, self.segment);
        let number = pts * i128::from(base.num) * i128::from(segment.den)
            / (i128::from(base.den.max(1)) * i128::from(segment.num.max(1)));
        i64::try_from(number).unwrap_or(i64::MAX)
    }
}

/// Writes the track, and notes what lies where, and where it stopped.
fn write(
    args: &SegmentArgs,
    track: &Track<'_>,
    behind: Option<&Behind>,
    path: &Path,
    host: &mut dyn Host,
) -> Result<(SegmentTable, Place), Failure> {
    let mut output = Output::create_fragmented(path)?;
    let encoder = setup::encoder_name(&args.spec, track.facts, 0);
    output.add_stream(&StreamSetup {
        parameters: &track.parameters,
        copied: encoder.is_none(),
        tags: &setup::stream_tags(track.facts, encoder),
        disposition: setup::dispositions(&[track.facts])[0],
    })?;
    output.begin()?;
    let mut cuts = Cuts::new(args, track, behind)?;
    let mut segments = Segments::new(track.parameters.time_base, output.time_base(0));
    let mut cursor = Cursor::new(track, host)?;
    for _ in 0..behind.map_or(0, |behind| behind.goes_on.packets) {
        cursor.advance(host)?;
    }
    let (mut frames, mut bytes) = (0, 0);
    let mut place = cursor.place();
    while let Some(packet) = cursor.next.take() {
        if let Some(begins) = cuts.begins(&packet)? {
            if cuts.is_beyond() {
                break;
            }
            segments.begin(begins, &packet, &mut output)?;
        }
        output.write(0, &packet, track.parameters.time_base)?;
        segments.shown(&packet, track);
        frames += u64::from(track.schedule.is_some());
        bytes += wire::len(&packet.data);
        host.progress(frames, bytes, 0);
        cursor.advance(host)?;
        place = cursor.place();
    }
    let (header_bytes, segments) = segments.end(&mut output)?;
    let time_base = output.time_base(0);
    output.finish(&mut || ())?;
    let (codec, media) = (String::new(), media(track));
    let table = SegmentTable { codec, media, time_base, header_bytes, segments, file_offset: 0, goes_on: None };
    Ok((table, place))
}

fn media(track: &Track<'_>) -> TrackMedia {
    let positive = |n: i32| u32::try_from(n).unwrap_or(0);
    match &track.parameters.kind {
        Kind::Video { width, height, sample_aspect_ratio, frame_rate, color_transfer, .. } => TrackMedia::Video {
            width: positive(*width),
            height: positive(*height),
            sample_aspect_ratio: *sample_aspect_ratio,
            frame_rate: *frame_rate,
            range: match *color_transfer {
                PQ => VideoRange::Pq,
                HLG => VideoRange::Hlg,
                _ => VideoRange::Sdr,
            },
        },
        Kind::Audio { sample_rate, channels, .. } => TrackMedia::Audio {
            channels: u16::try_from(*channels).unwrap_or(0),
            sample_rate_hz: positive(*sample_rate),
        },
        Kind::Subtitle => TrackMedia::Audio { channels: 0, sample_rate_hz: 0 },
    }
}

/// The table, while the track is written.
struct Segments {
    from: Rational,
    to: Rational,
    header_bytes: u64,
    /// Bytes of the file that are in fragments that ended.
    written: u64,
    done: Vec<Segment>,
    /// Where the last picture or sound so far ends.
    shown_until: i64,
}

impl Segments {
    fn new(from: Rational, to: Rational) -> Segments {
        Segments { from, to, header_bytes: 0, written: 0, done: Vec::new(), shown_until: 0 }
    }

    fn begin(&mut self, begins: Begins, packet: &Packet, output: &mut Output) -> Result<(), Failure> {
        // What is before zero is the encoder's priming, which is not shown.
        let start = rescale(packet.pts.unwrap_or(0), self.from, self.to).max(0);
        self.end_fragment(start, output)?;
        let fragment = Fragment { start, duration: 0, offset: self.written, bytes: 0, first_bytes: 0 };
        match self.done.last_mut() {
            Some(segment) if begins == Begins::Fragment => segment.fragments.push(fragment),
            _ => self.done.push(Segment {
                start,
                duration: 0,
                offset: self.written,
                bytes: 0,
                fragments: vec![fragment],
            }),
        }
        Ok(())
    }

    /// The open fragment ends at `until`.
    fn end_fragment(&mut self, until: i64, output: &mut Output) -> Result<(), Failure> {
        let Some(segment) = self.done.last_mut() else { return Ok(()) };
        let (header, end) = output.fragment()?;
        if self.header_bytes == 0 {
            self.header_bytes = header;
            self.written = header;
            segment.offset = header;
            if let Some(first) = segment.fragments.first_mut() {
                first.offset = header;
            }
        }
        if let Some(fragment) = segment.fragments.last_mut() {
            fragment.bytes = end - fragment.offset;
            fragment.duration = (until - fragment.start).max(0).unsigned_abs();
        }
        segment.bytes = end - segment.offset;
        segment.duration = (until - segment.start).max(0).unsigned_abs();
        self.written = end;
        Ok(())
    }

    fn shown(&mut self, packet: &Packet, track: &Track<'_>) {
        let duration = if track.schedule.is_some() { 1 } else { packet.duration };
        let end = packet.pts.unwrap_or(0).saturating_add(duration);
        self.shown_until = self.shown_until.max(rescale(end, self.from, self.to));
    }

    fn end(mut self, output: &mut Output) -> Result<(u64, Vec<Segment>), Failure> {
        self.end_fragment(self.shown_until, output)?;
        Ok((self.header_bytes, self.done))
    }
}

fn odd(what: &str) -> Failure {
    internal("mux_failed", format!("the track's {what} is not what libav usually writes"))
}

/// Reads in the boxes what only they tell: the codec, the size of each keyframe, and when the last fragment ends.
fn look_into(table: &mut SegmentTable, path: &Path) -> Result<u64, Failure> {
    let io = |error: std::io::Error| scratch_failed(path, &error);
    let mut file = File::open(path).map_err(io)?;
    let mut read = |offset: u64, bytes: u64| -> Result<Vec<u8>, Failure> {
        let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut buffer)).map_err(io)?;
        Ok(buffer)
    };
    let header = read(0, table.header_bytes)?;
    table.codec = codec_string::of(&header).ok_or_else(|| odd("sample entry"))?;
    let mut ends = 0;
    for fragment in table.segments.iter_mut().flat_map(|segment| &mut segment.fragments) {
        // Its description alone: the pictures behind it are not looked at.
        let size = read(fragment.offset, 4)?.try_into().map_or(0, u32::from_be_bytes);
        let moof = read(fragment.offset, u64::from(size).min(fragment.bytes))?;
        let found = boxes::fragment(&moof).ok_or_else(|| odd("fragment"))?;
        fragment.first_bytes = found.moof_bytes + DATA_HEADER_BYTES + found.first_sample_bytes;
        ends = found.decode_time + found.duration;
    }
    Ok(ends)
}

fn merge_rest(table: &mut SegmentTable, segment: Rational) {
    let Some(last) = table.segments.last() else { return };
    let whole = table.time_base.as_f64() * f64::from(u32::try_from(last.duration).unwrap_or(u32::MAX));
    let short = whole * f64::from(SHORT_PART) < segment.as_f64();
    if short && table.segments.len() > 1 {
        let last = table.segments.pop().expect("there are two");
        let before = table.segments.last_mut().expect("there are two");
        before.duration += last.duration;
        before.bytes += last.bytes;
        before.fragments.extend(last.fragments);
    }
}
