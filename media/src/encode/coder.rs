//! The encoder of one chunk and the piece it writes.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use spool_proto::call::EncodeArgs;
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::{Rational, VideoCodec};
use spool_proto::vbv::{BufferUse, RateBuffer};

use super::passes::{self, Pass};
use super::{Taker, Task, hdr};
use crate::av::codec::Received;
use crate::av::encoder::{Encoder, VideoSetup};
use crate::av::frame::{ContentLight, Frame, MasteringDisplay};
use crate::av::graph::Sink;
use crate::av::packet::{FLAG_KEY, Packet, SIDE_QUALITY_STATS};
use crate::av::{AvError, MICROSECONDS, Stream, rescale};
use crate::graph::Filters;
use crate::piece::{self, PieceWriter, Summary};
use crate::{Host, params};

/// `AVFieldOrder`.
const PROGRESSIVE: i32 = 1;
const TOP_CODED_BOTTOM_SHOWN: i32 = 4;
const BOTTOM_CODED_TOP_SHOWN: i32 = 5;

/// libav's numbers.
const UNKNOWN_RANGE: i32 = 0;
const LIMITED_RANGE: i32 = 1;

/// What the film's first picture decides for all chunks.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    pub sink: Sink,
    setup: VideoSetup,
    mastering: Option<MasteringDisplay>,
    light: Option<ContentLight>,
    /// The same two as a stream's side data.
    side_data: Vec<(i32, Vec<u8>)>,
}

impl Opening {
    /// YUV that does not say its range has the limited one: libav's scaler says so where it scales, and nothing where it need not.
    pub fn settle_range(mut self) -> Opening {
        let format = crate::av::names::pixel_format(self.sink.format).unwrap_or_default();
        if self.setup.colors.range == UNKNOWN_RANGE && format.starts_with("yuv") && !format.starts_with("yuvj") {
            self.setup.colors.range = LIMITED_RANGE;
        }
        self
    }

    pub fn of(filters: &Filters, first: &Frame, stream: &Stream, frame_rate: Rational) -> Result<Opening, Failure> {
        let sink = filters
            .sink()
            .ok_or_else(|| Failure::new(Class::Internal, "filter_failed", "the filters were not built"))?;
        let field_order = match first.interlaced() {
            (false, _) => PROGRESSIVE,
            (true, true) => TOP_CODED_BOTTOM_SHOWN,
            (true, false) => BOTTOM_CODED_TOP_SHOWN,
        };
        // The container's word on HDR goes before the bitstream's.
        let mut side_data: Vec<(i32, Vec<u8>)> =
            stream.side_data.iter().filter(|(kind, _)| hdr::is_hdr(*kind)).cloned().collect();
        for (kind, bytes) in first.hdr_side_data() {
            if !side_data.iter().any(|(known, _)| *known == kind) {
                side_data.push((kind, bytes));
            }
        }
        side_data.sort();
        if hdr::is_brought_down(stream.parameters.as_ref(), first.colors().transfer) {
            side_data.clear();
        }
        let setup = VideoSetup {
            width: sink.width,
            height: sink.height,
            format: sink.format,
            time_base: Rational::new(frame_rate.den, frame_rate.num),
            frame_rate,
            sample_aspect_ratio: sink.sample_aspect_ratio,
            colors: first.colors(),
            field_order,
        };
        let (mastering, light) = hdr::read(&side_data);
        Ok(Opening { sink, setup, mastering, light, side_data })
    }

    /// For the same pictures, scaled.
    pub fn scaled(&self, sink: Sink) -> Opening {
        let setup = VideoSetup {
            width: sink.width,
            height: sink.height,
            sample_aspect_ratio: sink.sample_aspect_ratio,
            ..self.setup
        };
        Opening { sink, setup, ..self.clone() }
    }

    /// Opens an encoder for such pictures.
    pub(super) fn encoder(&self, codec: VideoCodec, mut settings: params::Encoder) -> Result<Encoder, Failure> {
        hdr::add(&mut settings.options, codec, self.mastering.as_ref(), self.light.as_ref());
        Encoder::video(settings.name, &self.setup, &settings.options)
    }
}

/// What piece is to be written.
#[derive(Debug)]
pub(super) struct Order {
    pub path: PathBuf,
    pub pass: Pass,
    /// With the encoder's note of its settings, as the film's first chunk has it.
    pub keeps_note: bool,
}

/// A piece that was written.
#[derive(Debug)]
pub(super) struct Written {
    pub summary: Summary,
    /// What it does to the decoder's buffer, if there is one.
    pub buffer: Option<BufferUse>,
}

/// Takes pictures, writes a piece.
#[derive(Debug)]
pub(super) struct Coder {
    encoder: Encoder,
    packet: Packet,
    writer: PieceWriter<BufWriter<File>>,
    codec: VideoCodec,
    time_base: Rational,
    keeps_note: bool,
    frames: u64,
    bytes: u64,
    /// Of every packet, as they came.
    pts: Vec<i64>,
    /// Of every packet, where the decoder's buffer is of interest.
    sizes: Vec<u32>,
    buffer: Option<RateBuffer>,
    last_fed: Option<i64>,
}

impl Coder {
    pub fn new(args: &EncodeArgs, opening: &Opening, order: &Order) -> Result<Coder, Failure> {
        let video = args
            .spec
            .video
            .as_ref()
            .ok_or_else(|| Failure::new(Class::Internal, "no_video", "a video encode without video settings"))?;
        let (encoder, mut parameters) = passes::open(opening, args, video, &order.pass)?;
        for (kind, bytes) in &opening.side_data {
            if !parameters.side_data.iter().any(|(known, _)| known == kind) {
                parameters.side_data.push((*kind, bytes.clone()));
            }
        }
        Ok(Coder {
            encoder,
            packet: Packet::new().map_err(failed)?,
            writer: PieceWriter::create(&order.path, &parameters)?,
            codec: video.codec,
            time_base: opening.setup.time_base,
            keeps_note: order.keeps_note,
            frames: 0,
            bytes: 0,
            pts: Vec::new(),
            sizes: Vec::new(),
            buffer: RateBuffer::of(video, opening.setup.frame_rate),
            last_fed: None,
        })
    }

    /// Packets written.
    fn packets(&self) -> u64 {
        u64::try_from(self.pts.len()).unwrap_or(u64::MAX)
    }

    fn out_time_us(&self) -> u64 {
        let us = self.last_fed.map_or(0, |pts| rescale(pts + 1, self.time_base, MICROSECONDS));
        u64::try_from(us).unwrap_or(0)
    }

    fn receive(&mut self) -> Result<(), Failure> {
        while self.encoder.receive(&mut self.packet).map_err(failed)? == Received::One {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Failure> {
        let is_start = self.pts.is_empty();
        let key = self.packet.is_key();
        if is_start && !key {
            return Err(Failure::new(Class::Internal, "packets_differ", "the chunk's first packet is not a keyframe"));
        }
        let Some(pts) = self.packet.pts() else {
            return Err(Failure::new(Class::Internal, "packets_differ", "the encoder gave a packet without pts"));
        };
        let mut data = self.packet.data();
        if is_start && !self.keeps_note && self.codec == VideoCodec::Libx264 {
            data = params::without_x264_settings(data);
        }
        // The encoder's chat about itself is of no use to a player.
        let side_data: Vec<(i32, Vec<u8>)> =
            self.packet.side_data().into_iter().filter(|(kind, _)| *kind != SIDE_QUALITY_STATS).collect();
        self.writer.write(&piece::Packet {
            pts: Some(pts),
            dts: self.packet.dts(),
            duration: self.packet.duration(),
            key,
            flags: self.packet.flags() & !FLAG_KEY,
            side_data,
            data: data.to_vec(),
        })?;
        self.bytes += u64::try_from(data.len()).unwrap_or(0);
        self.pts.push(pts);
        if self.buffer.is_some() {
            self.sizes.push(u32::try_from(data.len()).unwrap_or(u32::MAX));
        }
        Ok(())
    }
}

impl Taker for Coder {
    type Order = Order;
    type Done = Written;

    fn open(task: &mut Task<'_>, order: &Order, opening: &Opening) -> Result<Coder, Failure> {
        Coder::new(&task.args, opening, order)
    }

    /// Encodes one picture at `pts` (encoder's timebase).
    fn take(&mut self, frame: &mut Frame, pts: i64) -> Result<(), Failure> {
        frame.set_pts(Some(pts));
        // The source's picture types are not the encoder's.
        frame.set_picture_type(false);
        self.encoder.send(Some(frame)).map_err(failed)?;
        self.frames += 1;
        self.last_fed = Some(pts);
        self.receive()
    }

    fn frames(&self) -> u64 {
        self.frames
    }

    fn progress(&self) -> (u64, u64, u64) {
        (self.packets(), self.bytes, self.out_time_us())
    }

    /// Drains the encoder. `expected`: the pts every packet must have, in display order; without it, one packet a frame.
    fn finish(mut self, expected: Option<Vec<i64>>, host: &mut dyn Host) -> Result<Written, Failure> {
        match self.encoder.send(None) {
            Ok(()) | Err(AvError::END) => {}
            Err(error) => return Err(failed(error)),
        }
        while self.encoder.receive(&mut self.packet).map_err(failed)? == Received::One {
            self.write()?;
            if self.packets().is_multiple_of(super::REPORT_EVERY) {
                host.progress(self.packets(), self.bytes, self.out_time_us());
            }
        }
        host.progress(self.packets(), self.bytes, self.out_time_us());
        self.pts.sort_unstable();
        let same = match &expected {
            Some(expected) => *expected == self.pts,
            None => self.packets() == self.frames,
        };
        if !same {
            let wanted = expected.map_or(self.frames, |e| u64::try_from(e.len()).unwrap_or(u64::MAX));
            return Err(Failure::new(
                Class::Internal,
                "packets_differ",
                format!(
                    "the encoder gave {} packets (pts {:?} to {:?}) for {wanted} planned frames, {} fed",
                    self.packets(),
                    self.pts.first(),
                    self.pts.last(),
                    self.frames
                ),
            ));
        }
        let frames = self.sizes.iter().map(|bytes| u64::from(*bytes)).zip(self.pts.iter().copied());
        let buffer = self.buffer.and_then(|buffer| buffer.run(frames));
        Ok(Written { summary: self.writer.finish()?, buffer })
    }
}

pub(super) fn failed(error: AvError) -> Failure {
    error.failure(Class::Internal, "encoder_failed", "the encoder failed while it was running")
}
