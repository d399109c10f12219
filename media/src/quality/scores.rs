//! The table of scores: a row a frame, its file format (artifact `scores`), and what is said of many rows at once.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};
use spool_proto::quality::{Metric, MetricSummary, PlaneMean};

use crate::wire::{self, Decoder, Encoder, FileError};

/// What PSNR or SSIM say of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Score {
    /// Over all planes.
    pub all: f64,
    /// By plane, as many as [`ScoreTable::planes`] names.
    pub planes: [f64; PLANES_MAX],
}

/// One frame. `None`: not measured.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct FrameScores {
    /// When it is shown, from the film's start.
    pub time_us: i64,
    pub psnr: Option<Score>,
    pub ssim: Option<Score>,
    pub vmaf: Option<f64>,
}

impl FrameScores {
    pub fn of(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::Psnr => self.psnr.map(|score| score.all),
            Metric::Ssim => self.ssim.map(|score| score.all),
            Metric::Vmaf => self.vmaf,
        }
    }

    fn planes(&self, metric: Metric) -> Option<&[f64; PLANES_MAX]> {
        match metric {
            Metric::Psnr => self.psnr.as_ref().map(|score| &score.planes),
            Metric::Ssim => self.ssim.as_ref().map(|score| &score.planes),
            Metric::Vmaf => None,
        }
    }
}

/// The artifact `scores`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScoreTable {
    /// Number of the first row's frame.
    pub first_frame: u64,
    /// Letters of the planes that were compared: `yuv`, `y`, `rgb`.
    pub planes: String,
    /// Those measured of every frame.
    pub metrics: Vec<Metric>,
    pub frames: Vec<FrameScores>,
}

pub const PLANES_MAX: usize = 4;
const WHAT: &str = "scores";
const MAGIC: [u8; 5] = *b"SPLQ\x01";
const FRAMES_MAX: u64 = 1 << 28;

#[derive(Serialize, Deserialize)]
struct Header {
    first_frame: u64,
    planes: String,
    metrics: Vec<Metric>,
    /// Rows that follow.
    frames: u64,
}

impl ScoreTable {
    /// Writes the artifact: time as a difference, scores as they are. Equal tables give equal bytes.
    pub fn write(&self, to: impl Write) -> Result<(), FileError> {
        let mut to = Encoder::new(WHAT, MAGIC, to)?;
        to.header(&Header {
            first_frame: self.first_frame,
            planes: self.planes.clone(),
            metrics: self.metrics.clone(),
            frames: wire::len(&self.frames),
        })?;
        let planes = self.plane_count();
        let mut previous = 0i64;
        for frame in &self.frames {
            to.signed(frame.time_us.wrapping_sub(previous))?;
            previous = frame.time_us;
            for &metric in &self.metrics {
                to.raw(&frame.of(metric).unwrap_or(f64::NAN).to_le_bytes())?;
                for plane in frame.planes(metric).map_or(&[][..], |values| &values[..planes]) {
                    to.raw(&plane.to_le_bytes())?;
                }
            }
        }
        to.raw(&MAGIC)?;
        to.finish().map(drop)
    }

    /// Reads what [`ScoreTable::write`] wrote. Give it something buffered.
    pub fn read(from: impl Read) -> Result<ScoreTable, FileError> {
        let mut from = Decoder::new(WHAT, MAGIC, from)?;
        let header: Header = from.header()?;
        from.within("frames", header.frames, FRAMES_MAX)?;
        from.within("planes", wire::len(header.planes.as_bytes()), wire::len(&[(); PLANES_MAX]))?;
        from.within("metrics", wire::len(&header.metrics), wire::len(&Metric::ALL))?;
        let mut table = ScoreTable {
            first_frame: header.first_frame,
            planes: header.planes,
            metrics: header.metrics,
            frames: Vec::new(),
        };
        let planes = table.plane_count();
        let number = |from: &mut Decoder<_>| {
            let mut bytes = [0; 8];
            from.exact("score", &mut bytes).map(|()| f64::from_le_bytes(bytes))
        };
        let mut time_us = 0i64;
        for _ in 0..header.frames {
            time_us = time_us.wrapping_add(from.signed("frame time")?);
            let mut frame = FrameScores { time_us, ..FrameScores::default() };
            for &metric in &table.metrics {
                let mut score = Score { all: number(&mut from)?, ..Score::default() };
                if metric != Metric::Vmaf {
                    for plane in &mut score.planes[..planes] {
                        *plane = number(&mut from)?;
                    }
                }
                match metric {
                    Metric::Psnr => frame.psnr = Some(score),
                    Metric::Ssim => frame.ssim = Some(score),
                    Metric::Vmaf => frame.vmaf = Some(score.all),
                }
            }
            table.frames.push(frame);
        }
        from.trailer(MAGIC)?;
        Ok(table)
    }

    fn plane_count(&self) -> usize {
        self.planes.chars().count().min(PLANES_MAX)
    }

    /// What is said of some of the rows, a metric each. `rows` are of this table; their numbers begin where the slice begins.
    pub fn summaries(&self, rows: &[FrameScores]) -> Vec<MetricSummary> {
        let before = self.frames.iter().position(|frame| std::ptr::eq(frame, rows.as_ptr())).unwrap_or(0);
        let first = self.first_frame + wire::len(&self.frames[..before]);
        self.metrics.iter().filter_map(|metric| self.summary(*metric, rows, first)).collect()
    }

    fn summary(&self, metric: Metric, rows: &[FrameScores], first: u64) -> Option<MetricSummary> {
        let mut sorted: Vec<f64> = rows.iter().filter_map(|row| row.of(metric)).collect();
        let mean_of = |values: &mut dyn Iterator<Item = f64>| mean(metric, values);
        let all = mean_of(&mut sorted.iter().copied())?;
        sorted.sort_unstable_by(f64::total_cmp);
        let min = *sorted.first()?;
        let (number, worst) = (first..).zip(rows).find(|(_, row)| row.of(metric) == Some(min))?;
        let planes = self.planes.chars().zip(0..PLANES_MAX).filter_map(|(plane, at)| {
            let mean = mean_of(&mut rows.iter().filter_map(|row| row.planes(metric).map(|planes| planes[at])))?;
            Some(PlaneMean { plane, mean })
        });
        Some(MetricSummary {
            metric,
            mean: all,
            min,
            min_frame: number,
            min_time_us: worst.time_us,
            p1: percentile(&sorted, 1),
            p5: percentile(&sorted, 5),
            p50: percentile(&sorted, 50),
            planes: planes.collect(),
        })
    }
}

/// PSNR is averaged as error, which is what it measures: the peak cancels out. `None` of nothing. To six places, as frames are.
fn mean(metric: Metric, values: &mut dyn Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += if metric == Metric::Psnr { 10f64.powf(-value / 10.0) } else { value };
        count += 1.0;
    }
    if count == 0.0 {
        return None;
    }
    let mean = sum / count;
    let mean = if metric == Metric::Psnr { -10.0 * mean.log10() } else { mean };
    Some(if mean.is_finite() { (mean * 1e6).round() / 1e6 } else { mean })
}

/// By nearest rank: the least value that so many in a hundred do not exceed.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(psnr: &[f64]) -> ScoreTable {
        let frames = (0i64..).zip(psnr).map(|(n, &all)| FrameScores {
            time_us: n * 40_000,
            psnr: Some(Score { all, planes: [all, all + 1.0, all + 2.0, 0.0] }),
            ssim: Some(Score { all: all / 100.0, planes: [0.5, 0.25, 0.125, 0.0] }),
            vmaf: Some(all * 2.0),
        });
        ScoreTable { first_frame: 100, planes: "yuv".into(), metrics: Metric::ALL.to_vec(), frames: frames.collect() }
    }

    fn written(table: &ScoreTable) -> Vec<u8> {
        let mut bytes = Vec::new();
        table.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let table = table(&[40.0, f64::INFINITY, 33.5]);
        assert_eq!(ScoreTable::read(written(&table).as_slice()).unwrap(), table);
    }

    #[test]
    fn a_table_cut_anywhere_is_an_error() {
        let bytes = written(&table(&[40.0, 30.0]));
        for at in 0..bytes.len() {
            assert!(ScoreTable::read(&bytes[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn a_lying_count_is_refused() {
        let text = written(&table(&[])).escape_ascii().to_string();
        assert!(text.contains("\"frames\":0") || text.contains("\\\"frames\\\":0"), "{text}");
        let mut bytes = written(&table(&[]));
        let at = bytes.windows(10).position(|w| w == b"\"frames\":0").unwrap() + 9;
        bytes[at] = b'9';
        assert!(ScoreTable::read(bytes.as_slice()).is_err());
    }

    #[test]
    fn psnr_is_averaged_as_error_and_the_worst_frame_is_named() {
        let table = table(&[f64::INFINITY, 20.0, 40.0, 20.0]);
        let [psnr, ssim, vmaf] = &table.summaries(&table.frames)[..] else { panic!("three metrics") };
        // Errors 0, 1/100, 1/10000, 1/100 of the peak's square.
        assert!((psnr.mean - -10.0 * ((0.01 + 0.0001 + 0.01) / 4.0f64).log10()).abs() < 1e-6, "{psnr:?}");
        assert_eq!((psnr.min, psnr.min_frame, psnr.min_time_us), (20.0, 101, 40_000));
        assert_eq!(psnr.planes.iter().map(|p| p.plane).collect::<String>(), "yuv");
        assert_eq!(ssim.planes[1].mean, 0.25);
        assert!(vmaf.planes.is_empty());
        let of_part = &table.summaries(&table.frames[2..])[0];
        assert_eq!((of_part.min, of_part.min_frame), (20.0, 103));
    }

    #[test]
    fn equal_pictures_have_no_finite_psnr() {
        let table = table(&[f64::INFINITY; 3]);
        let psnr = &table.summaries(&table.frames)[0];
        assert!(psnr.mean.is_infinite() && psnr.min.is_infinite());
        assert!(table.summaries(&[]).is_empty());
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let sorted: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!([1, 5, 50].map(|p| percentile(&sorted, p)), [2.0, 10.0, 100.0]);
        assert_eq!([1, 5, 50].map(|p| percentile(&sorted[..3], p)), [1.0, 1.0, 2.0]);
    }
}
