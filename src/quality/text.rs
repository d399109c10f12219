//! A comparison as people read it.

use spool_media::quality::Report;
use spool_media::quality::chart::text as score;
use spool_media::quality::report::Side;
use spool_proto::quality::MetricSummary;

use crate::output;

pub fn report(report: &Report<'_>) -> String {
    let side = |name: &str, side: &Side| {
        let picture = &side.picture;
        format!("{name}  {}, {}x{}, {}\n", side.file, picture.width, picture.height, picture.pix_fmt)
    };
    let mut text = side("reference", &report.reference) + &side("distorted", &report.distorted);
    if let Some(converted) = &report.converted {
        text.push_str(&format!("           {converted}\n"));
    }
    let end = report.first_frame + report.frames;
    text.push_str(&match report.first_frame {
        0 => format!("frames     {}\n", report.frames),
        first => format!("frames     {} ({first}..{end})\n", report.frames),
    });
    text.extend(report.scorer.as_ref().map(|scorer| format!("vmaf by    {scorer}\n")));
    text.push('\n');
    let mut rows = Vec::new();
    for summary in &report.scores {
        rows.push(row(summary));
        for plane in &summary.planes {
            rows.push(vec![format!("  {}", plane.plane), score(summary.metric, plane.mean)]);
        }
    }
    text.push_str(&output::table(&["METRIC", "MEAN", "MIN", "FRAME", "AT", "P1", "P5", "P50"], &rows, true));
    if !report.chunks.is_empty() {
        text.push('\n');
        text.push_str(&chunks(report));
    }
    text
}

fn row(summary: &MetricSummary) -> Vec<String> {
    let metric = summary.metric;
    let unit = if metric.unit().is_empty() { String::new() } else { format!(" ({})", metric.unit()) };
    let number = |value| score(metric, value);
    vec![
        format!("{metric}{unit}"),
        number(summary.mean),
        number(summary.min),
        summary.min_frame.to_string(),
        at(summary.min_time_us),
        number(summary.p1),
        number(summary.p5),
        number(summary.p50),
    ]
}

/// A line a chunk: of each metric the mean and the worst.
fn chunks(report: &Report<'_>) -> String {
    let mut head = vec!["CHUNK".to_owned(), "FRAMES".to_owned(), "AT".to_owned()];
    for summary in &report.scores {
        let name = summary.metric.name().to_uppercase();
        head.extend([name.clone(), format!("{name} MIN")]);
    }
    let rows: Vec<Vec<String>> = (report.chunks.iter())
        .map(|chunk| {
            let mut row = vec![chunk.chunk.to_string(), format!("{}..{}", chunk.start, chunk.end), at(chunk.time_us)];
            for summary in &chunk.scores {
                row.extend([summary.mean, summary.min].map(|value| score(summary.metric, value)));
            }
            row
        })
        .collect();
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    output::table(&head, &rows, true)
}

/// `0:00:17.250`.
fn at(us: i64) -> String {
    let (sign, us) = (if us < 0 { "-" } else { "" }, us.unsigned_abs());
    let seconds = us / 1_000_000;
    format!("{sign}{}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, us % 1_000_000 / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        assert_eq!([at(0), at(17_250_000), at(3_723_000_999)], ["0:00:00.000", "0:00:17.250", "1:02:03.000"]);
    }
}
