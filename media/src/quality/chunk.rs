//! A coded chunk against the pictures its encoder was given: the source's, filtered, in the encoder's size and pixel format, as
//! often as the plan shows them. What is measured is the encoder alone.

use std::io::BufReader;

use spool_proto::call::{EncodeArgs, PictureFacts};
use spool_proto::failure::{Class, Failure};
use spool_proto::quality::Metric;
use spool_proto::spec::{EncodeSpec, QualitySpec, Rational};

use super::Compared;
use super::compare::{Comparer, Upright};
use super::scores::{FrameScores, ScoreTable};
use crate::av::codec::{Decoder, Received};
use crate::av::frame::Frame;
use crate::av::packet::Packet;
use crate::av::{AvError, MICROSECONDS, rescale};
use crate::encode::{self, Opening, Taker, Task};
use crate::piece::PieceReader;
use crate::plan_file::PlanFile;
use crate::{Host, Source};

pub fn compare(
    spec: &EncodeSpec,
    chunk: u32,
    metrics: Vec<Metric>,
    threads: u16,
    host: &mut dyn Host,
) -> Result<Compared, Failure> {
    let plan = PlanFile::read(BufReader::new(host.open(1)?))?;
    let quality = Some(QualitySpec { metrics, report: None });
    let spec = EncodeSpec { quality, ..spec.clone() };
    let args =
        EncodeArgs { spec, stream: plan.stream, chunk, threads, before: 0, joined: false, target: None, buffer: None };
    let first_frame = usize::try_from(chunk).ok().and_then(|n| plan.chunks.get(n)).map_or(0, |c| c.output.start);
    let measured: Measured = encode::pictures::<Measurer>(&args, &plan, host)?;
    let Some([reference, distorted]) = measured.first else {
        return Err(Failure::new(Class::Internal, "frames_differ", format!("chunk {chunk} has no frames")));
    };
    let table = ScoreTable { first_frame, planes: measured.planes, metrics: measured.metrics, frames: measured.frames };
    Ok(Compared { table, reference, distorted, warnings: Vec::new() })
}

/// What one walk through a chunk gave.
struct Measured {
    metrics: Vec<Metric>,
    planes: String,
    first: Option<[PictureFacts; 2]>,
    frames: Vec<FrameScores>,
}

/// Decodes the chunk beside the walk through its source.
struct Measurer {
    packets: PieceReader<BufReader<Box<dyn Source>>>,
    decoder: Decoder,
    comparer: Comparer,
    decoded: Frame,
    draining: bool,
    time_base: Rational,
    rows: Vec<FrameScores>,
}

fn libav(error: AvError) -> Failure {
    error.failure(Class::Internal, "libav", "decoding a chunk to score it")
}

fn differs(message: String) -> Failure {
    Failure::new(Class::Internal, "frames_differ", message)
}

impl Measurer {
    /// The chunk's next picture in display order; false at its end.
    fn next(&mut self) -> Result<bool, Failure> {
        loop {
            match self.decoder.receive(&mut self.decoded).map_err(libav)? {
                Received::One => return Ok(true),
                Received::End => return Ok(false),
                Received::Again if self.draining => return Ok(false),
                Received::Again => {}
            }
            let Some(packet) = self.packets.next().transpose()? else {
                self.draining = true;
                self.decoder.send(None).map_err(libav)?;
                continue;
            };
            let mut coded = Packet::from_bytes(&packet.data).map_err(libav)?;
            for (kind, bytes) in &packet.side_data {
                coded.add_side_data(*kind, bytes).map_err(libav)?;
            }
            coded.set_times(packet.pts, packet.dts, packet.duration);
            self.decoder.send(Some(&coded)).map_err(libav)?;
        }
    }
}

impl Taker for Measurer {
    type Done = Measured;

    fn open(task: &mut Task<'_>, _opening: &Opening) -> Result<Measurer, Failure> {
        let packets = PieceReader::open(BufReader::new(task.host.open(2)?))?;
        let decoder = Decoder::for_parameters(packets.parameters(), task.args.threads).map_err(libav)?;
        let metrics = task.args.spec.quality.as_ref().map(|quality| quality.metrics.clone()).unwrap_or_default();
        // The filters turned what was to be turned; the encoder turns nothing.
        let upright = [Upright::Already, Upright::Already];
        Ok(Measurer {
            packets,
            decoder,
            comparer: Comparer::new(metrics, upright)?,
            decoded: Frame::new().map_err(libav)?,
            draining: false,
            time_base: task.plan.encoder_time_base(),
            rows: Vec::new(),
        })
    }

    fn take(&mut self, frame: &mut Frame, pts: i64) -> Result<(), Failure> {
        if !self.next()? {
            return Err(differs(format!(
                "the chunk decodes to {} frames, its encoder was given more",
                self.rows.len()
            )));
        }
        let found = self.decoded.best_effort_pts();
        if found != Some(pts) {
            let number = self.rows.len();
            return Err(differs(format!(
                "frame {number} of the chunk is shown at {found:?}, it was encoded for {pts}"
            )));
        }
        let time_us = rescale(pts, self.time_base, MICROSECONDS);
        self.rows.push(self.comparer.score(frame, &mut self.decoded, time_us)?);
        Ok(())
    }

    fn frames(&self) -> u64 {
        crate::wire::len(&self.rows)
    }

    fn progress(&self) -> (u64, u64, u64) {
        let time_us = self.rows.last().map_or(0, |row| u64::try_from(row.time_us).unwrap_or(0));
        (self.frames(), 0, time_us)
    }

    fn finish(mut self, _expected: Option<Vec<i64>>, _host: &mut dyn Host) -> Result<Measured, Failure> {
        if self.next()? {
            return Err(differs(format!("the chunk decodes to more than the {} frames encoded", self.rows.len())));
        }
        let (metrics, planes, first) = self.comparer.finish();
        Ok(Measured { metrics, planes, first, frames: self.rows })
    }
}
