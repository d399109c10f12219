//! One quality, tried: encoded, decoded again, scored.

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use spool_proto::call::{EncodeArgs, PictureFacts, TrialPoint};
use spool_proto::failure::{Class, Failure};
use spool_proto::quality::Metric;
use spool_proto::spec::Rational;
use spool_proto::time::Span;

use super::keep::Kept;
use crate::av::{MICROSECONDS, rescale};
use crate::decode::no_memory;
use crate::plan_file::PlanFile;
use crate::quality::ScoreTable;
use crate::quality::coded::PieceFrames;
use crate::quality::compare::{Comparer, Upright};
use crate::{Host, encode, scratch_failed};

/// Pictures scored between two reports of progress.
const REPORT_EVERY: u64 = 4;

/// What all points of a trial share.
pub struct Bench<'a> {
    args: EncodeArgs,
    metrics: Vec<Metric>,
    /// What is scored against.
    kept: &'a Kept,
    frame_rate: Rational,
    /// Of the piece that is being made.
    path: PathBuf,
    host: &'a mut dyn Host,
    /// As first compared.
    pub reference: Option<PictureFacts>,
}

impl<'a> Bench<'a> {
    pub fn new(
        args: EncodeArgs,
        metrics: Vec<Metric>,
        kept: &'a Kept,
        plan: &PlanFile,
        host: &'a mut dyn Host,
    ) -> Bench<'a> {
        // What a film asks of its chunks' encoders for its rate is no quality.
        let args = EncodeArgs { target: None, buffer: None, ..args };
        let path = host.scratch().join("trial");
        Bench { args, metrics, kept, frame_rate: plan.frame_rate, path, host, reference: None }
    }

    pub fn threads(&self) -> u16 {
        self.args.threads
    }

    /// Encodes `given`, which is what is kept, or the same in another size.
    pub fn point(&mut self, given: &Kept, crf: f32) -> Result<TrialPoint, Failure> {
        let args = EncodeArgs { crf: Some(crf), ..self.args.clone() };
        let time_base = Rational::new(self.frame_rate.den, self.frame_rate.num);
        // The filters turned what was to be turned; the encoder turns nothing.
        let mut comparer = Comparer::new(self.metrics.clone(), [Upright::Already, Upright::Already])?;
        let (mut bytes, mut encode_time, mut rows) = (0, Span::ZERO, Vec::new());
        for (pictures, originals) in given.samples.iter().zip(&self.kept.samples) {
            let started = Instant::now();
            let made = encode::again(&args, &given.opening, pictures, &self.path, self.host)?;
            encode_time = encode_time + Span::from(started.elapsed());
            bytes += made.payload_bytes;
            let piece = File::open(&self.path).map_err(|error| scratch_failed(&self.path, &error))?;
            let mut coded = PieceFrames::open(piece, self.args.threads)?;
            for (original, pts) in originals {
                let Some(decoded) = coded.next()? else { return Err(differs(rows.len())) };
                let mut original = original.share().map_err(no_memory)?;
                rows.push(comparer.score(&mut original, decoded, rescale(*pts, time_base, MICROSECONDS))?);
                let scored = crate::wire::len(&rows);
                if scored.is_multiple_of(REPORT_EVERY) {
                    self.host.progress(scored, bytes, 0);
                }
            }
            if coded.next()?.is_some() {
                return Err(differs(rows.len()));
            }
        }
        let (metrics, planes, first) = comparer.finish();
        if let Some([reference, _]) = first {
            self.reference.get_or_insert(reference);
        }
        let table = ScoreTable { first_frame: 0, planes, metrics, frames: rows };
        Ok(TrialPoint {
            size: given.size(),
            crf,
            bytes,
            bits_per_second: bits_per_second(bytes, given.ticks(), self.frame_rate),
            encode_time,
            scores: table.summaries(&table.frames),
        })
    }
}

fn bits_per_second(bytes: u64, ticks: u64, rate: Rational) -> u64 {
    let wide = |n: i32| u128::try_from(n).unwrap_or(0);
    let bits = u128::from(bytes) * 8 * wide(rate.num);
    bits.checked_div(u128::from(ticks) * wide(rate.den)).map_or(0, |bps| u64::try_from(bps).unwrap_or(u64::MAX))
}

fn differs(frames: usize) -> Failure {
    let message = format!("a trial does not decode to the frames it was made of: it differs behind {frames}");
    Failure::new(Class::Internal, "frames_differ", message)
}
