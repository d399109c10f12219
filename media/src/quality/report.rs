//! What people and programs are shown of a comparison: summaries of the whole and of each chunk, and every frame.

use std::io::Write;

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use spool_proto::call::PictureFacts;
use spool_proto::quality::{ChunkScores, Metric, MetricSummary};

use super::scores::{FrameScores, Score, ScoreTable};
use crate::wire;

/// One film of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    pub file: String,
    #[serde(flatten)]
    pub picture: PictureFacts,
}

/// The report: in JSON the summaries, and as [`Report::write`] writes it every frame too. PSNR that is infinite (equal pictures) is
/// `null` there.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    pub reference: Side,
    pub distorted: Side,
    /// How the distorted pictures were made like the reference's, if they were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub converted: Option<String>,
    /// The program that reckoned VMAF, and its model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scorer: Option<String>,
    pub first_frame: u64,
    pub frames: u64,
    pub scores: Vec<MetricSummary>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<ChunkScores>,
    #[serde(skip)]
    table: &'a ScoreTable,
}

/// The report with every frame.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    report: &'a Report<'a>,
    #[serde(serialize_with = "rows")]
    per_frame: &'a ScoreTable,
}

impl<'a> Report<'a> {
    /// `edges`: first frames of chunks, rising; those outside the table are passed over.
    pub fn new(reference: Side, distorted: Side, table: &'a ScoreTable, edges: &[u64]) -> Report<'a> {
        Report {
            converted: converted(&reference.picture, &distorted.picture),
            reference,
            distorted,
            scorer: None,
            first_frame: table.first_frame,
            frames: wire::len(&table.frames),
            scores: table.summaries(&table.frames),
            chunks: chunks(table, edges),
            table,
        }
    }

    pub fn table(&self) -> &ScoreTable {
        self.table
    }

    /// One line of JSON, with every frame.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write(&self, mut to: impl Write) -> std::io::Result<()> {
        serde_json::to_writer(&mut to, &Whole { report: self, per_frame: self.table })?;
        to.write_all(b"\n")?;
        to.flush()
    }
}

/// Each chunk's summary. The rows between two edges are a chunk's; rows before the first edge belong to none.
fn chunks(table: &ScoreTable, edges: &[u64]) -> Vec<ChunkScores> {
    let first = table.first_frame;
    let end = first + wire::len(&table.frames);
    let ends = edges.iter().skip(1).copied().chain([u64::MAX]);
    let inside = (0u32..).zip(edges.iter().copied().zip(ends)).filter_map(|(chunk, (start, until))| {
        let (start, until) = (start.max(first), until.min(end));
        let row = |frame: u64| usize::try_from(frame.saturating_sub(first)).unwrap_or(usize::MAX);
        let rows = table.frames.get(row(start)..row(until)).filter(|_| start < until)?;
        let time_us = rows.first().map_or(0, |frame| frame.time_us);
        Some(ChunkScores { chunk, start, end: until, time_us, scores: table.summaries(rows) })
    });
    inside.collect()
}

fn converted(reference: &PictureFacts, distorted: &PictureFacts) -> Option<String> {
    let mut steps = Vec::new();
    if (reference.width, reference.height) != (distorted.width, distorted.height) {
        steps.push(format!(
            "scaled from {}x{} to {}x{} (bicubic)",
            distorted.width, distorted.height, reference.width, reference.height
        ));
    }
    if reference.pix_fmt != distorted.pix_fmt {
        steps.push(format!("turned from {} into {}", distorted.pix_fmt, reference.pix_fmt));
    }
    (!steps.is_empty()).then(|| format!("the distorted pictures were {}", steps.join(" and ")))
}

/// `[{"frame":0,"time_us":0,"psnr":{"all":33.5,"y":33.2,…},"ssim":{…},"vmaf":93.1},…]`
fn rows<S: Serializer>(table: &&ScoreTable, to: S) -> Result<S::Ok, S::Error> {
    let mut rows = to.serialize_seq(Some(table.frames.len()))?;
    for (frame, scores) in (table.first_frame..).zip(&table.frames) {
        rows.serialize_element(&Row { frame, scores, planes: &table.planes })?;
    }
    rows.end()
}

struct Row<'a> {
    frame: u64,
    scores: &'a FrameScores,
    planes: &'a str,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("frame", &self.frame)?;
        map.serialize_entry("time_us", &self.scores.time_us)?;
        for (metric, score) in [(Metric::Psnr, &self.scores.psnr), (Metric::Ssim, &self.scores.ssim)] {
            if let Some(score) = score {
                map.serialize_entry(metric.name(), &Planes { score, planes: self.planes })?;
            }
        }
        if let Some(vmaf) = self.scores.vmaf {
            map.serialize_entry(Metric::Vmaf.name(), &vmaf)?;
        }
        map.end()
    }
}

struct Planes<'a> {
    score: &'a Score,
    planes: &'a str,
}

impl Serialize for Planes<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("all", &self.score.all)?;
        for (plane, value) in self.planes.chars().zip(&self.score.planes) {
            map.serialize_entry(&plane, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(file: &str, width: u32, pix_fmt: &str) -> Side {
        Side { file: file.into(), picture: PictureFacts { width, height: width / 2, pix_fmt: pix_fmt.into() } }
    }

    fn table() -> ScoreTable {
        let row = |n: i64, all: f64| FrameScores {
            time_us: n * 40_000,
            psnr: Some(Score { all, planes: [all, 41.0, 42.0, 0.0] }),
            vmaf: Some(90.5),
            ..FrameScores::default()
        };
        ScoreTable {
            first_frame: 10,
            planes: "yuv".into(),
            metrics: vec![Metric::Psnr, Metric::Vmaf],
            frames: vec![row(10, 40.0), row(11, f64::INFINITY), row(12, 30.0)],
        }
    }

    #[test]
    fn the_report_is_as_documented() {
        let table = table();
        let report =
            Report::new(side("a.mkv", 640, "yuv420p10le"), side("b.mp4", 320, "yuv420p"), &table, &[0, 12, 90]);
        let mut json = Vec::new();
        report.write(&mut json).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["reference"]["file"], "a.mkv");
        assert_eq!(
            json["converted"],
            "the distorted pictures were scaled from 320x160 to 640x320 (bicubic) and turned from yuv420p into yuv420p10le"
        );
        assert_eq!(json["per_frame"][1]["psnr"], serde_json::json!({"all": null, "y": null, "u": 41.0, "v": 42.0}));
        assert_eq!(json["per_frame"][2]["frame"], 12);
        assert_eq!(json["scores"][0]["min_frame"], 12);
        let chunks: Vec<_> = report.chunks.iter().map(|c| (c.chunk, c.start, c.end, c.time_us)).collect();
        assert_eq!(chunks, [(0, 10, 12, 400_000), (1, 12, 13, 480_000)]);
        assert_eq!(report.chunks[1].scores[0].mean, 30.0);
        assert!(json.get("scorer").is_none());
    }

    #[test]
    fn alike_pictures_were_not_converted() {
        let (a, b) = (side("a", 640, "yuv420p"), side("b", 640, "yuv420p"));
        assert_eq!(converted(&a.picture, &b.picture), None);
    }
}
