//! `media.quality-report`: the scores of a job's chunks put together to those of the film.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};

use spool_proto::call::{QualityManifest, QualityReportArgs, Value};
use spool_proto::failure::{Class, Failure};

use super::chart;
use super::report::{Report, Side};
use super::scores::ScoreTable;
use crate::index::{read_table, write_table};
use crate::{Host, Product, scratch_failed, wire};

/// Runs `media.quality-report`.
///
/// # Errors
/// Class internal: `frames_differ`, when the chunks do not make up the film.
pub fn run(args: &QualityReportArgs, host: &mut dyn Host) -> Result<Product, Failure> {
    let mut index = read_table(0, host)?;
    let mut table = ScoreTable::default();
    for input in 1..host.inputs() {
        let chunk = ScoreTable::read(BufReader::new(host.open(input)?))?;
        append(&mut table, chunk)?;
        host.progress(wire::len(&table.frames), 0, 0);
    }
    if table.frames.len() != index.frames.len() {
        let (scored, has) = (table.frames.len(), index.frames.len());
        return Err(differs(format!("{scored} frames were scored, the film has {has}")));
    }
    for (frame, scores) in index.frames.iter_mut().zip(&table.frames) {
        frame.psnr = scores.psnr.map(|score| score.all);
        frame.ssim = scores.ssim.map(|score| score.all);
    }
    let reference = Side { file: args.reference.clone(), picture: args.reference_picture.clone() };
    let distorted = Side { file: args.distorted.clone(), picture: args.distorted_picture.clone() };
    let report = Report::new(reference, distorted, &table, &args.joins);
    let json = host.scratch().join("report.json");
    let svg = host.scratch().join("chart.svg");
    let to = |path| File::create(path).map(BufWriter::new);
    to(&json).and_then(|file| report.write(file)).map_err(|error| scratch_failed(&json, &error))?;
    let drawn = chart::draw(&report);
    let written = to(&svg).and_then(|mut file| file.write_all(drawn.as_bytes()).and_then(|()| file.flush()));
    written.map_err(|error| scratch_failed(&svg, &error))?;
    let manifest = QualityManifest {
        first_frame: report.first_frame,
        frames: report.frames,
        first_time_us: table.frames.first().map_or(0, |frame| frame.time_us),
        reference: args.reference_picture.clone(),
        distorted: args.distorted_picture.clone(),
        scores: report.scores,
    };
    let files = vec![("report".to_owned(), json), ("chart".to_owned(), svg), write_table(&index, host)?];
    Ok(Product { files, warnings: Vec::new(), value: Value::Quality(manifest) })
}

fn differs(message: String) -> Failure {
    Failure::new(Class::Internal, "frames_differ", message)
}

/// Puts a chunk's scores behind those of the chunks before it.
fn append(table: &mut ScoreTable, chunk: ScoreTable) -> Result<(), Failure> {
    if table.frames.is_empty() && table.metrics.is_empty() {
        *table = chunk;
        return Ok(());
    }
    let next = table.first_frame + wire::len(&table.frames);
    if chunk.first_frame != next || chunk.metrics != table.metrics || chunk.planes != table.planes {
        return Err(differs(format!(
            "scores of frames from {} ({}) do not follow those up to {next} ({})",
            chunk.first_frame, chunk.planes, table.planes
        )));
    }
    table.frames.extend(chunk.frames);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_follows_is_put_behind() {
        let part = |first_frame, frames| ScoreTable {
            first_frame,
            planes: "yuv".into(),
            metrics: vec![spool_proto::quality::Metric::Ssim],
            frames: vec![super::super::FrameScores::default(); frames],
        };
        let mut table = ScoreTable::default();
        append(&mut table, part(0, 24)).unwrap();
        append(&mut table, part(24, 10)).unwrap();
        assert_eq!(table.frames.len(), 34);
        for wrong in [part(24, 1), part(35, 1), ScoreTable { planes: "y".into(), ..part(34, 1) }] {
            assert_eq!(append(&mut table, wrong).unwrap_err().code, "frames_differ");
        }
    }
}
