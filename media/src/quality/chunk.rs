//! A coded chunk against the pictures its encoder was given: the source's, filtered, in the encoder's size and pixel format, as
//! often as the plan shows them. What is measured is the encoder alone.

use std::io::BufReader;

use spool_proto::call::{EncodeArgs, PictureFacts};
use spool_proto::failure::{Class, Failure};
use spool_proto::quality::Metric;
use spool_proto::spec::{EncodeSpec, Rational};

use super::Compared;
use super::coded::PieceFrames;
use super::compare::{Comparer, Upright};
use super::scores::{FrameScores, ScoreTable};
use crate::av::frame::Frame;
use crate::av::{MICROSECONDS, rescale};
use crate::encode::{self, Opening, Taker, Task};
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
    let args = EncodeArgs {
        spec: spec.clone(),
        stream: plan.stream,
        chunk,
        threads,
        before: 0,
        joined: false,
        crf: None,
        target: None,
        buffer: None,
    };
    let first_frame = usize::try_from(chunk).ok().and_then(|n| plan.chunks.get(n)).map_or(0, |c| c.output.start);
    let measured: Measured = encode::pictures::<Measurer>(&args, &plan, &metrics, host)?;
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
    coded: PieceFrames<Box<dyn Source>>,
    comparer: Comparer,
    time_base: Rational,
    rows: Vec<FrameScores>,
}

fn differs(message: String) -> Failure {
    Failure::new(Class::Internal, "frames_differ", message)
}

impl Taker for Measurer {
    type Order = Vec<Metric>;
    type Done = Measured;

    fn open(task: &mut Task<'_>, metrics: &Vec<Metric>, _opening: &Opening) -> Result<Measurer, Failure> {
        // The filters turned what was to be turned; the encoder turns nothing.
        let upright = [Upright::Already, Upright::Already];
        Ok(Measurer {
            coded: PieceFrames::open(task.host.open(2)?, task.args.threads)?,
            comparer: Comparer::new(metrics.clone(), upright)?,
            time_base: task.plan.encoder_time_base(),
            rows: Vec::new(),
        })
    }

    fn take(&mut self, frame: &mut Frame, pts: i64) -> Result<(), Failure> {
        let Some(decoded) = self.coded.next()? else {
            return Err(differs(format!(
                "the chunk decodes to {} frames, its encoder was given more",
                self.rows.len()
            )));
        };
        let found = decoded.best_effort_pts();
        if found != Some(pts) {
            let number = self.rows.len();
            return Err(differs(format!(
                "frame {number} of the chunk is shown at {found:?}, it was encoded for {pts}"
            )));
        }
        let time_us = rescale(pts, self.time_base, MICROSECONDS);
        self.rows.push(self.comparer.score(frame, decoded, time_us)?);
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
        if self.coded.next()?.is_some() {
            return Err(differs(format!("the chunk decodes to more than the {} frames encoded", self.rows.len())));
        }
        let (metrics, planes, first) = self.comparer.finish();
        Ok(Measured { metrics, planes, first, frames: self.rows })
    }
}
