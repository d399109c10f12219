//! `media.quality`: how like two films are, frame by frame, by PSNR and SSIM as ffmpeg's filters of these names reckon them.
//!
//! Reading order: `scores` (the table, pure), `report` (what people and programs are shown), `chart`; then `compare` (one pair of
//! pictures), `number` (two films, by frame number), `chunk` (a chunk against what its encoder was
//! given), `job` (a job's chunks put together).

use std::fs::File;
use std::io::BufWriter;

use spool_proto::call::{Pairing, PictureFacts, QualityArgs, QualityManifest, Value};
use spool_proto::failure::{Class, Failure, Warning};
use spool_proto::quality::Metric;

use crate::{Host, Product, scratch_failed};

pub mod chart;
mod chunk;
pub(crate) mod coded;
pub(crate) mod compare;
pub mod job;
mod number;
pub mod report;
pub mod scores;

pub use report::Report;

pub use scores::{FrameScores, Score, ScoreTable};

/// Pairs compared between two reports of progress.
const REPORT_EVERY: u64 = 4;

/// What a comparison gives.
#[derive(Debug)]
struct Compared {
    table: ScoreTable,
    reference: PictureFacts,
    distorted: PictureFacts,
    warnings: Vec<Warning>,
}

/// Runs `media.quality`. Memory grows by the scores of a frame a frame, by nothing else.
///
/// # Errors
/// Class spec: `frame_counts_differ`, `no_metric`, `filter_refused`, `no_frames`. Class input: `no_video_stream`, `wrong_stream`, and those
/// of decoding. Class internal: `frames_differ`, when a chunk does not decode to what its encoder was given.
pub fn run(args: &QualityArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let metrics: Vec<Metric> = args.metrics.iter().copied().filter(|metric| *metric != Metric::Vmaf).collect();
    if metrics.is_empty() {
        return Err(Failure::new(Class::Spec, "no_metric", "nothing to score by: name psnr, ssim or both"));
    }
    let compared = match &args.pairing {
        Pairing::Number { reference, distorted, frames, shortest } => {
            let asked = number::Asked { streams: [*reference, *distorted], frames: *frames, shortest: *shortest };
            number::compare(&asked, metrics, args.threads, host)?
        }
        Pairing::Chunk { spec, chunk } => chunk::compare(spec, *chunk, metrics, args.threads, host)?,
    };
    let Compared { table, reference, distorted, warnings } = compared;
    let path = host.scratch().join("scores");
    let file = File::create(&path).map_err(|error| scratch_failed(&path, &error))?;
    table.write(BufWriter::new(file))?;
    let manifest = QualityManifest {
        first_frame: table.first_frame,
        frames: crate::wire::len(&table.frames),
        first_time_us: table.frames.first().map_or(0, |frame| frame.time_us),
        reference,
        distorted,
        scores: table.summaries(&table.frames),
    };
    Ok(Product { files: vec![("scores".to_owned(), path)], warnings, value: Value::Quality(manifest) })
}
