//! The artifact `plan`: everything an encode of one chunk must know of the film's frames. Written by `media.plan`, read by
//! every `media.encode`.

use std::io::{Read, Write};
use std::ops::Range;

use serde::{Deserialize, Serialize};
use spool_proto::call::Jump;
use spool_proto::spec::{Filter, Rational};

use crate::timeline::{OutputFrame, TimelineSpec};
use crate::wire::{self, Decoder, Encoder, FileError};

/// One film's frames and chunks.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanFile {
    /// Source stream index.
    pub stream: u32,
    /// Of [`FrameTable::source`] and [`Entry`]: the source stream's.
    pub time_base: Rational,
    /// The encoder's frame rate; its timebase is one over it.
    pub frame_rate: Rational,
    /// The chain that pictures go through: the spec's, and in front of it what Spool found on the source. `None` in plans of older
    /// servers: the spec's.
    pub filters: Option<Vec<Filter>>,
    /// What made [`FrameTable::output`] of [`FrameTable::source`]; to be run online where there is no table.
    pub timeline: TimelineSpec,
    /// Where the source stream's timestamps jump. Frames' pts are what they are behind all jumps.
    pub jumps: Vec<Jump>,
    /// `None`: only decoding can tell; there is one chunk, entered at the file's start.
    pub frames: Option<FrameTable>,
    /// In film order; never empty. Output ranges follow each other without gap.
    pub chunks: Vec<Chunk>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct FrameTable {
    /// Every frame the decoder puts out when the whole stream is decoded, in output (display) order: best-effort pts as
    /// demuxed (no shift) and duration, in [`PlanFile::time_base`]. Strictly rising pts.
    pub source: Vec<(i64, i64)>,
    /// Every frame the encoder is given, in order.
    pub output: Vec<OutputFrame>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Output frames, half-open. Where there is no table: `0..0`, which stands for the whole film.
    pub output: Range<u64>,
    /// Source frames needed, half-open: from the first to the last that `output` shows, and before and after them what the filters
    /// look at (lead-in, lead-out).
    pub source: Range<u64>,
    /// Where decoding may be entered, best first: the nearest closed keyframe, then earlier ones. The last resort, after
    /// them all, is the file's start (`linear`) and is not listed.
    pub entries: Vec<Entry>,
}

/// A packet at which decoding can begin: from it on, every frame from source frame [`Entry::frame`] on comes out right. Frames
/// before it may come out too, broken; they are thrown away by pts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// In demux order, from 0.
    pub packet: u64,
    /// First source frame that decodes rightly from here.
    pub frame: u64,
    /// Of the packet, in the stream's timebase.
    pub pts: i64,
    pub dts: Option<i64>,
    /// Byte position, where the demuxer tells.
    pub position: Option<u64>,
}

const WHAT: &str = "plan";
const MAGIC: [u8; 5] = *b"SPLC\x01";
const FRAMES_MAX: u64 = 1 << 28;
const CHUNKS_MAX: u64 = 1 << 24;
const ENTRIES_MAX: u64 = 64;

#[derive(Serialize, Deserialize)]
struct Header {
    stream: u32,
    time_base: Rational,
    frame_rate: Rational,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filters: Option<Vec<Filter>>,
    timeline: TimelineSpec,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    jumps: Vec<Jump>,
    /// Source and output frames that follow.
    frames: Option<(u64, u64)>,
    chunks: u64,
}

impl PlanFile {
    /// The encoder's timebase, in which output pts count.
    pub fn encoder_time_base(&self) -> Rational {
        Rational::new(self.frame_rate.den, self.frame_rate.num)
    }

    /// Writes the artifact. Equal plans give equal bytes. Buffers nothing.
    pub fn write(&self, to: impl Write) -> Result<(), FileError> {
        let mut to = Encoder::new(WHAT, MAGIC, to)?;
        to.header(&Header {
            stream: self.stream,
            time_base: self.time_base,
            frame_rate: self.frame_rate,
            filters: self.filters.clone(),
            timeline: self.timeline.clone(),
            jumps: self.jumps.clone(),
            frames: self.frames.as_ref().map(|table| (wire::len(&table.source), wire::len(&table.output))),
            chunks: wire::len(&self.chunks),
        })?;
        if let Some(table) = &self.frames {
            wire::write_frames(&mut to, &table.source)?;
            let mut previous = OutputFrame { source: 0, pts: 0 };
            for frame in &table.output {
                to.signed(frame.source.wrapping_sub(previous.source).cast_signed())?;
                to.signed(frame.pts.wrapping_sub(previous.pts))?;
                previous = *frame;
            }
        }
        for chunk in &self.chunks {
            for range in [&chunk.output, &chunk.source] {
                to.unsigned(range.start)?;
                to.unsigned(range.end)?;
            }
            to.unsigned(wire::len(&chunk.entries))?;
            for entry in &chunk.entries {
                write_entry(&mut to, entry)?;
            }
        }
        to.raw(&MAGIC)?;
        to.finish().map(drop)
    }

    /// Reads what [`PlanFile::write`] wrote, and refuses ranges that do not fit the tables. Give it something buffered.
    pub fn read(from: impl Read) -> Result<PlanFile, FileError> {
        let mut from = Decoder::new(WHAT, MAGIC, from)?;
        let header: Header = from.header()?;
        let (sources, outputs) = header.frames.unwrap_or((0, 0));
        from.within("source frames", sources, FRAMES_MAX)?;
        from.within("output frames", outputs, FRAMES_MAX)?;
        from.within("chunks", header.chunks, CHUNKS_MAX)?;
        from.rational("time_base", header.time_base)?;
        from.rational("frame_rate", header.frame_rate)?;
        let frames = match header.frames {
            Some(_) => {
                let source = wire::read_frames(&mut from, sources)?;
                let mut output = Vec::new();
                let pictures = sources.saturating_mul(header.timeline.pictures_per_frame());
                let mut previous = OutputFrame { source: 0, pts: 0 };
                for _ in 0..outputs {
                    let source = previous.source.wrapping_add_signed(from.signed("output frame source")?);
                    let pts = previous.pts.wrapping_add(from.signed("output frame pts")?);
                    if source >= pictures {
                        return Err(from.malformed("output frame source", format!("{source} of {pictures}")));
                    }
                    previous = OutputFrame { source, pts };
                    output.push(previous);
                }
                Some(FrameTable { source, output })
            }
            None => None,
        };
        let mut chunks = Vec::new();
        for _ in 0..header.chunks {
            chunks.push(read_chunk(&mut from, sources, outputs)?);
        }
        from.trailer(MAGIC)?;
        Ok(PlanFile {
            stream: header.stream,
            time_base: header.time_base,
            frame_rate: header.frame_rate,
            filters: header.filters,
            timeline: header.timeline,
            jumps: header.jumps,
            frames,
            chunks,
        })
    }
}

const HAS_DTS: u8 = 1;
const HAS_POSITION: u8 = 2;

fn write_entry<W: Write>(to: &mut Encoder<W>, entry: &Entry) -> Result<(), FileError> {
    let dts = if entry.dts.is_some() { HAS_DTS } else { 0 };
    let position = if entry.position.is_some() { HAS_POSITION } else { 0 };
    to.raw(&[dts | position])?;
    to.unsigned(entry.packet)?;
    to.unsigned(entry.frame)?;
    to.signed(entry.pts)?;
    if let Some(dts) = entry.dts {
        to.signed(dts)?;
    }
    if let Some(position) = entry.position {
        to.unsigned(position)?;
    }
    Ok(())
}

fn read_entry<R: Read>(from: &mut Decoder<R>) -> Result<Entry, FileError> {
    let flags = from.byte("entry flags")?;
    Ok(Entry {
        packet: from.unsigned("entry packet")?,
        frame: from.unsigned("entry frame")?,
        pts: from.signed("entry pts")?,
        dts: if flags & HAS_DTS != 0 { Some(from.signed("entry dts")?) } else { None },
        position: if flags & HAS_POSITION != 0 { Some(from.unsigned("entry position")?) } else { None },
    })
}

fn read_chunk<R: Read>(from: &mut Decoder<R>, sources: u64, outputs: u64) -> Result<Chunk, FileError> {
    let mut range = |field: &'static str, limit: u64| {
        let range = from.unsigned(field)?..from.unsigned(field)?;
        if range.start > range.end || range.end > limit {
            return Err(from.malformed(field, format!("{range:?} of {limit}")));
        }
        Ok(range)
    };
    let output = range("chunk output", outputs)?;
    let source = range("chunk source", sources)?;
    let mut entries = Vec::new();
    for _ in 0..from.bounded("entries", ENTRIES_MAX)? {
        entries.push(read_entry(from)?);
    }
    Ok(Chunk { output, source, entries })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::{Stage, Sync};
    use spool_proto::spec::Trim;

    fn plan() -> PlanFile {
        let entry = Entry { packet: 1, frame: 1, pts: -5, dts: None, position: Some(1 << 40) };
        PlanFile {
            stream: 2,
            time_base: Rational::new(1, 1000),
            frame_rate: Rational::new(24, 1),
            filters: Some(vec![Filter::Fps(Rational::new(24, 1))]),
            timeline: TimelineSpec {
                time_base: Rational::new(1, 1000),
                ts_offset_us: -3,
                start_known: true,
                input_rate: None,
                stages: vec![Stage::Fps(Rational::new(24, 1)), Stage::Deinterlace { both: false }],
                filtered: true,
                output_rate: None,
                trim: Trim::default(),
                sync: Sync::Vfr,
            },
            jumps: vec![Jump { packet: 3, offset_us: -9_000_000, first: true }],
            frames: Some(FrameTable {
                source: vec![(-40, 40), (2, 41), (44, 0)],
                output: vec![
                    OutputFrame { source: 1, pts: 0 },
                    OutputFrame { source: 1, pts: 1 },
                    OutputFrame { source: 2, pts: 9 },
                ],
            }),
            chunks: vec![
                Chunk {
                    output: 0..2,
                    source: 1..2,
                    entries: vec![entry, Entry { dts: Some(-9), position: None, ..entry }],
                },
                Chunk { output: 2..3, source: 2..3, entries: vec![] },
            ],
        }
    }

    fn written(plan: &PlanFile) -> Vec<u8> {
        let mut bytes = Vec::new();
        plan.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let whole =
            PlanFile { frames: None, chunks: vec![Chunk { output: 0..0, source: 0..0, entries: vec![] }], ..plan() };
        for plan in [plan(), whole] {
            assert_eq!(PlanFile::read(written(&plan).as_slice()).unwrap(), plan);
        }
    }

    #[test]
    fn a_timeline_of_rates_alone_is_still_read() {
        let mut timeline = serde_json::to_value(&plan().timeline).unwrap();
        let rates = timeline.as_object_mut().unwrap().remove("stages").unwrap();
        timeline["fps"] = serde_json::Value::Array(vec![rates[0].clone()]);
        let read: TimelineSpec = serde_json::from_value(timeline).unwrap();
        assert_eq!(read.stages, [Stage::Fps(Rational::new(24, 1))]);
    }

    #[test]
    fn a_plan_cut_anywhere_is_an_error() {
        let bytes = written(&plan());
        for end in 0..bytes.len() {
            assert!(PlanFile::read(&bytes[..end]).is_err(), "cut at {end} of {}", bytes.len());
        }
    }

    #[test]
    fn ranges_beyond_the_tables_are_refused() {
        let mut wrong = plan();
        wrong.chunks[1].output.end = 4;
        assert!(matches!(
            PlanFile::read(written(&wrong).as_slice()),
            Err(FileError::Malformed { field: "chunk output", .. })
        ));
        let mut wrong = plan();
        wrong.frames.as_mut().unwrap().output[2].source = 3;
        assert!(PlanFile::read(written(&wrong).as_slice()).is_err());
    }
}
