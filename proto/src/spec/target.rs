//! A quality to be met, and the qualities that are tried for it.

use serde::{Deserialize, Serialize};

use super::VideoCodec;
use super::check::refused;
use crate::failure::Failure;
use crate::quality::Metric;

/// What the mean of a chunk's frames is to score, against what its encoder is given.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QualityTarget {
    Ssim(f64),
    /// Decibels.
    Psnr(f64),
}

impl QualityTarget {
    /// # Errors
    /// In words: there is no such metric, or jobs do not measure it.
    pub fn new(metric: &str, score: f64) -> Result<QualityTarget, String> {
        match metric.parse()? {
            Metric::Ssim => Ok(QualityTarget::Ssim(score)),
            Metric::Psnr => Ok(QualityTarget::Psnr(score)),
            Metric::Vmaf => Err("jobs do not measure vmaf: name ssim or psnr".into()),
        }
    }

    pub fn metric(self) -> Metric {
        match self {
            QualityTarget::Ssim(_) => Metric::Ssim,
            QualityTarget::Psnr(_) => Metric::Psnr,
        }
    }

    pub fn score(self) -> f64 {
        match self {
            QualityTarget::Ssim(score) | QualityTarget::Psnr(score) => score,
        }
    }

    /// # Errors
    /// `option_refused`: nothing that people would look at scores so, or nothing but the original.
    pub(super) fn check(self) -> Result<(), Failure> {
        let (least, most) = match self {
            QualityTarget::Ssim(_) => (0.5, 0.9999),
            QualityTarget::Psnr(_) => (20.0, 70.0),
        };
        if (least..=most).contains(&self.score()) {
            return Ok(());
        }
        Err(refused(format!("--target-quality {self}: {} takes {least} to {most}", self.metric())))
    }
}

impl std::fmt::Display for QualityTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.metric(), self.score())
    }
}

impl std::str::FromStr for QualityTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<QualityTarget, String> {
        let bad = || format!("{text:?}: expected METRIC=SCORE, such as ssim=0.98 or psnr=42");
        let (metric, score) = text.split_once('=').ok_or_else(bad)?;
        QualityTarget::new(metric, score.parse().map_err(|_| bad())?)
    }
}

/// The qualities (`-crf`) that are tried to meet a target: an encoder's own range without its ends, where it changes its profile or shows
/// nothing any more. Rising, quality falls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrfRange {
    pub best: f32,
    pub worst: f32,
    pub step: f32,
}

impl CrfRange {
    pub fn of(codec: VideoCodec) -> CrfRange {
        match codec {
            VideoCodec::Libx264 | VideoCodec::Libx265 => CrfRange { best: 6.0, worst: 48.0, step: 0.25 },
            VideoCodec::Libsvtav1 | VideoCodec::LibvpxVp9 => CrfRange { best: 6.0, worst: 62.0, step: 1.0 },
        }
    }

    /// The nearest that is tried and no worse.
    pub fn settle(self, crf: f32) -> f32 {
        let steps = ((crf - self.best) / self.step).floor();
        (self.best + steps * self.step).clamp(self.best, self.worst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_they_are_written() {
        for text in ["ssim=0.98", "psnr=42.5"] {
            let target: QualityTarget = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
            let json = serde_json::to_string(&target).unwrap();
            assert_eq!(serde_json::from_str::<QualityTarget>(&json).unwrap(), target, "{json}");
        }
        assert_eq!(serde_json::to_string(&QualityTarget::Ssim(0.98)).unwrap(), r#"{"ssim":0.98}"#);
        for (text, why) in [
            ("ssim", "METRIC=SCORE"),
            ("ssim=high", "METRIC=SCORE"),
            ("vmaf=95", "do not measure"),
            ("mos=4", "no metric"),
        ] {
            assert!(text.parse::<QualityTarget>().unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn what_is_tried_is_within_the_range_and_on_its_steps() {
        let fine = CrfRange::of(VideoCodec::Libx264);
        assert_eq!([1.0, 23.3, 99.0].map(|crf| fine.settle(crf)), [6.0, 23.25, 48.0]);
        let whole = CrfRange::of(VideoCodec::Libsvtav1);
        assert_eq!([34.9, 35.0].map(|crf| whole.settle(crf)), [34.0, 35.0]);
    }
}
