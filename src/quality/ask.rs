//! What is asked of a comparison, read from the command line.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::Deserialize;
use spool_media::quality::chart;
use spool_proto::quality::{Metric, MetricSummary};

use crate::exit::Stop;

/// Stream indexes of the two films.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    pub reference: u32,
    pub distorted: u32,
}

impl FromStr for Streams {
    type Err = String;

    fn from_str(text: &str) -> Result<Streams, String> {
        let number = |text: &str| {
            text.parse::<u32>().map_err(|_| format!("{text:?} is no stream's number, as `spool probe` shows them"))
        };
        let (reference, distorted) = text.split_once(':').unwrap_or((text, text));
        Ok(Streams { reference: number(reference)?, distorted: number(distorted)? })
    }
}

/// `240..480`, `240..`, `..480`.
pub fn frames(text: &str) -> Result<(u64, u64), String> {
    let bad = || format!("expected A..B, such as 240..480, 240.. or ..480, not {text:?}");
    let (from, to) = text.split_once("..").ok_or_else(bad)?;
    let number = |text: &str, default| if text.is_empty() { Ok(default) } else { text.parse().map_err(|_| bad()) };
    let (from, to) = (number(from, 0)?, number(to, u64::MAX)?);
    if from < to { Ok((from, to)) } else { Err(format!("no frame is in {text}")) }
}

/// The first frames of a job's chunks, from its index.
pub fn edges(path: &Path) -> anyhow::Result<Vec<u64>> {
    #[derive(Deserialize)]
    struct Index {
        chunks: Option<Vec<u64>>,
    }
    let shown = path.display();
    let text = std::fs::read(path).map_err(|error| Stop::usage(format!("{shown}: {error}")))?;
    let index: Index = serde_json::from_slice(&text)
        .map_err(|error| Stop::usage(format!("{shown} is no index of `spool encode --index`: {error}")))?;
    let chunks = index.chunks.ok_or_else(|| Stop::usage(format!("{shown} does not tell where chunks begin")))?;
    if !chunks.is_sorted_by(|a, b| a < b) {
        return Err(Stop::usage(format!("{shown}: the chunks are not in order")));
    }
    Ok(chunks)
}

/// A score that is to be reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Least {
    pub metric: Metric,
    which: Which,
    score: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Mean,
    Min,
    P1,
    P5,
    P50,
}

impl Which {
    const ALL: [(Which, &'static str); 5] =
        [(Which::Mean, "mean"), (Which::Min, "min"), (Which::P1, "p1"), (Which::P5, "p5"), (Which::P50, "p50")];

    fn name(self) -> &'static str {
        Which::ALL.iter().find(|(which, _)| *which == self).map_or("", |(_, name)| name)
    }

    fn of(self, summary: &MetricSummary) -> f64 {
        match self {
            Which::Mean => summary.mean,
            Which::Min => summary.min,
            Which::P1 => summary.p1,
            Which::P5 => summary.p5,
            Which::P50 => summary.p50,
        }
    }
}

impl FromStr for Least {
    type Err = String;

    fn from_str(text: &str) -> Result<Least, String> {
        let (what, score) =
            text.split_once('=').ok_or_else(|| format!("expected METRIC=SCORE, such as ssim=0.98, not {text:?}"))?;
        let (metric, which) = match what.split_once('.') {
            Some((metric, which)) => {
                let found = Which::ALL.iter().find(|(_, name)| *name == which);
                let bad = || format!("{which:?} is none of mean, min, p1, p5, p50");
                (metric, found.ok_or_else(bad)?.0)
            }
            None => (what, Which::Mean),
        };
        let number = score.parse().ok().filter(|score: &f64| score.is_finite());
        let score = number.ok_or_else(|| format!("{score:?} is no score"))?;
        Ok(Least { metric: metric.parse()?, which, score })
    }
}

impl Least {
    /// What is to be said if it was not reached.
    pub fn missed(&self, scores: &[MetricSummary]) -> Option<String> {
        let summary = scores.iter().find(|summary| summary.metric == self.metric)?;
        let found = self.which.of(summary);
        // A score that is not a number reaches nothing.
        if found >= self.score {
            return None;
        }
        let found = chart::text(self.metric, found);
        let worst = if self.which == Which::Min { format!(" (frame {})", summary.min_frame) } else { String::new() };
        Some(format!("{} {} is {found}{worst}, below {}", self.metric, self.which.name(), self.score))
    }
}

impl fmt::Display for Least {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}={}", self.metric, self.which.name(), self.score)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_streams_and_thresholds_are_read() {
        assert_eq!(frames("240..480"), Ok((240, 480)));
        assert_eq!((frames("5.."), frames("..9")), (Ok((5, u64::MAX)), Ok((0, 9))));
        assert!(frames("9..9").is_err() && frames("9").is_err() && frames("a..b").is_err());
        assert_eq!("2".parse(), Ok(Streams { reference: 2, distorted: 2 }));
        assert_eq!("2:0".parse(), Ok(Streams { reference: 2, distorted: 0 }));
        let least: Least = "vmaf.p1=80".parse().expect("a threshold");
        assert_eq!((least.metric, least.which, least.score), (Metric::Vmaf, Which::P1, 80.0));
        for bad in ["ssim", "ssim=x", "ssim=inf", "ssim.p2=1", "mos=3"] {
            assert!(bad.parse::<Least>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_missed_threshold_says_by_what() {
        let summary = MetricSummary {
            metric: Metric::Psnr,
            mean: f64::INFINITY,
            min: 29.5,
            min_frame: 7,
            min_time_us: 0,
            p1: 30.0,
            p5: f64::NAN,
            p50: 40.0,
            planes: Vec::new(),
        };
        let missed = |text: &str| text.parse::<Least>().expect("good").missed(std::slice::from_ref(&summary));
        assert_eq!(missed("psnr=90"), None);
        assert_eq!(missed("psnr.p1=30"), None);
        assert_eq!(missed("psnr.min=30").as_deref(), Some("psnr min is 29.50 (frame 7), below 30"));
        assert!(missed("psnr.p5=1").is_some(), "what is not a number reaches nothing");
    }
}
