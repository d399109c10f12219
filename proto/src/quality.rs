//! How much one film looks like another, in numbers: metrics, and what is said of many frames at once.

use serde::{Deserialize, Serialize};

/// What a frame is scored by. Higher is better, for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Peak signal-to-noise ratio, decibels, over all planes weighted by their samples; infinite where nothing differs.
    Psnr,
    /// Structural similarity, at most 1, over all planes weighted by their samples.
    Ssim,
    /// Video Multi-Method Assessment Fusion, 0 to 100. Needs an external scorer.
    Vmaf,
}

impl Metric {
    pub const ALL: [Metric; 3] = [Metric::Psnr, Metric::Ssim, Metric::Vmaf];

    pub fn name(self) -> &'static str {
        match self {
            Metric::Psnr => "psnr",
            Metric::Ssim => "ssim",
            Metric::Vmaf => "vmaf",
        }
    }

    /// `dB`, or nothing for plain numbers.
    pub fn unit(self) -> &'static str {
        match self {
            Metric::Psnr => "dB",
            Metric::Ssim | Metric::Vmaf => "",
        }
    }
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Metric, String> {
        let found = Metric::ALL.into_iter().find(|metric| metric.name().eq_ignore_ascii_case(text));
        found.ok_or_else(|| format!("there is no metric {text:?}; psnr, ssim and vmaf are known"))
    }
}

/// What is said of a run of frames under one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricSummary {
    pub metric: Metric,
    /// Of PSNR the PSNR of the mean squared error, as ffmpeg's filter tells it at its end; of the others the plain mean.
    #[serde(with = "decibels")]
    pub mean: f64,
    #[serde(with = "decibels")]
    pub min: f64,
    /// The first of the worst frames, and when it is shown.
    pub min_frame: u64,
    pub min_time_us: i64,
    /// One frame in a hundred, in twenty, in two is no better than this.
    #[serde(with = "decibels")]
    pub p1: f64,
    #[serde(with = "decibels")]
    pub p5: f64,
    #[serde(with = "decibels")]
    pub p50: f64,
    /// The mean of each plane. Empty where the metric knows no planes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub planes: Vec<PlaneMean>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlaneMean {
    /// `y`, `u`, `v`, `a`, or `r`, `g`, `b`.
    pub plane: char,
    #[serde(with = "decibels")]
    pub mean: f64,
}

/// What a job's output says of its quality.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilmScores {
    pub scores: Vec<MetricSummary>,
    pub chunks: Vec<ChunkScores>,
}

/// What is said of the frames of one chunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChunkScores {
    pub chunk: u32,
    /// Frames, half-open.
    pub start: u64,
    pub end: u64,
    /// When the first of them is shown.
    pub time_us: i64,
    pub scores: Vec<MetricSummary>,
}

/// JSON knows no infinity: the PSNR of equal pictures is `null`.
pub mod decibels {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(from)?.unwrap_or(f64::INFINITY))
    }

    /// For fields that may be absent; there `null` is infinity, too.
    pub mod option {
        use super::{Deserializer, Serialize, Serializer};

        pub fn serialize<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
            value.filter(|value| value.is_finite()).serialize(to)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
            super::deserialize(from).map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_infinite_is_null_in_json_and_comes_back() {
        let plane = PlaneMean { plane: 'y', mean: f64::INFINITY };
        let json = serde_json::to_string(&plane).unwrap();
        assert_eq!(json, r#"{"plane":"y","mean":null}"#);
        assert_eq!(serde_json::from_str::<PlaneMean>(&json).unwrap(), plane);
    }

    #[test]
    fn metrics_are_read_by_name() {
        assert_eq!("PSNR".parse(), Ok(Metric::Psnr));
        assert!("mos".parse::<Metric>().unwrap_err().contains("vmaf"));
    }
}
