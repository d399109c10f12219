//! A report as a picture: each metric over time, with the chunks' edges.

use spool_chart::{Axis, Document, Line, Mark, Panel, colour};
use spool_proto::quality::{Metric, MetricSummary};

use super::report::Report;

const WIDTH: f64 = 1080.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 92.0;
/// Of a panel, and from one to the next.
const HEIGHT: f64 = 180.0;
const STEP: f64 = 250.0;
/// Of the plot: more frames than these share columns.
const COLUMNS: u32 = 966;

/// One SVG document.
pub fn draw(report: &Report<'_>) -> String {
    let table = report.table();
    let panels = u8::try_from(report.scores.len()).unwrap_or(u8::MAX);
    let title = format!("{} against {}", report.distorted.file, report.reference.file);
    let mut svg = Document::new(WIDTH, TOP + f64::from(panels) * STEP, LEFT, &title);
    let frames = format!("{} frames, from frame {}", report.frames, report.first_frame);
    let edges = if report.chunks.is_empty() { "" } else { "; dotted: where chunks begin" };
    svg.text(LEFT, 46.0, &format!("{frames}{edges}"));
    let start = table.frames.first().map_or(0, |frame| frame.time_us);
    let last = table.frames.last().map_or(start, |frame| frame.time_us);
    let at = |time_us: i64| seconds(time_us - start);
    // The last frame is shown for as long as the others.
    let between = f64::from(u32::try_from(table.frames.len().saturating_sub(1)).unwrap_or(u32::MAX)).max(1.0);
    let end_s = (at(last) * (1.0 + 1.0 / between)).max(0.001);
    let marks: Vec<Mark> = report.chunks.iter().skip(1).map(|chunk| Mark { at_s: at(chunk.time_us) }).collect();
    for (number, summary) in (0u8..).zip(&report.scores) {
        let panel = Panel {
            left: LEFT,
            top: TOP + f64::from(number) * STEP,
            width: WIDTH - LEFT - RIGHT,
            height: HEIGHT,
            title: title_of(summary),
            end_s,
        };
        let points = table.frames.iter().filter_map(|frame| Some((at(frame.time_us), frame.of(summary.metric)?)));
        let line = Line { colour: Some(colour(number.into())), points: points.collect(), dashed: false };
        let ceiling = match summary.metric {
            Metric::Psnr => f64::MAX,
            Metric::Ssim => 1.0,
            Metric::Vmaf => 100.0,
        };
        panel.lines(&mut svg, Axis::Around { floor: 0.0, ceiling }, &[line.thinned(COLUMNS, end_s)], &marks);
    }
    svg.finish()
}

/// `PSNR, dB: mean 38.21, worst 31.07 (frame 412)`.
fn title_of(summary: &MetricSummary) -> String {
    let metric = summary.metric;
    let name = metric.name().to_uppercase();
    let unit = if metric.unit().is_empty() { String::new() } else { format!(", {}", metric.unit()) };
    let number = |value| text(metric, value);
    format!(
        "{name}{unit}: mean {}, worst {} (frame {}), 1 in 100 below {}",
        number(summary.mean),
        number(summary.min),
        summary.min_frame,
        number(summary.p1)
    )
}

/// A score with the places that are usual for its metric.
pub fn text(metric: Metric, value: f64) -> String {
    match metric {
        _ if value.is_infinite() => "inf".into(),
        Metric::Psnr | Metric::Vmaf => format!("{value:.2}"),
        Metric::Ssim => format!("{value:.5}"),
    }
}

/// Microseconds as seconds: exact for 285 years.
#[expect(clippy::cast_precision_loss, reason = "times of films stay far below 2^53 microseconds")]
fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use spool_proto::call::PictureFacts;

    use super::*;
    use crate::quality::report::Side;
    use crate::quality::scores::{FrameScores, Score, ScoreTable};

    #[test]
    fn a_chart_has_axes_with_units_chunk_edges_and_stays_as_it_is() {
        let score = |all| Some(Score { all, planes: [0.0; 4] });
        let row =
            |n: i64, psnr, ssim| FrameScores { time_us: n * 500_000, psnr: score(psnr), ssim: score(ssim), vmaf: None };
        let table = ScoreTable {
            first_frame: 0,
            planes: String::new(),
            metrics: vec![Metric::Psnr, Metric::Ssim],
            frames: vec![row(0, 40.0, 0.98), row(1, f64::INFINITY, 1.0), row(2, 36.5, 0.95), row(3, 38.0, 0.96)],
        };
        let side = |file: &str| Side {
            file: file.into(),
            picture: PictureFacts { width: 64, height: 32, pix_fmt: "yuv420p".into() },
        };
        let drawn = || draw(&Report::new(side("a&b.mkv"), side("c.mp4"), &table, &[0, 2]));
        let svg = drawn();
        assert_eq!(svg, drawn());
        assert_eq!(svg, include_str!("chart.snapshot.svg"), "see whether the new chart is right, then keep it");
    }
}
