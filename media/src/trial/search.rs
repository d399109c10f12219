//! Which quality (`-crf`) just meets a target: a few probes, each as near as those before let one guess. Pure.
//!
//! Scores are reckoned in decibels (of SSIM: of what is missing to 1): over a few steps of quality they then fall along a line. The first
//! probe is what films commonly need; the second goes along the line that films commonly have, the others along
//! the secant of the two probes that enclose the target, or of the two nearest.

use spool_proto::spec::{CrfRange, QualityTarget, VideoCodec};

/// Probes of one search.
pub const PROBES_MAX: usize = 4;
/// So much better than asked for is near enough, dB: of SSIM 0.98 it is 0.0009.
const NEAR_DB: f64 = 0.2;
/// Where it is aimed, above the target.
const AIM_DB: f64 = 0.03;
/// What a search takes pictures for that nothing differs in.
const PERFECT_DB: f64 = 100.0;
/// Where the target is not enclosed yet, the next probe is no further away than this part of the range.
const REACH: f32 = 1.0 / 3.0;
/// A secant says something of the line if it is no flatter or steeper than this many times what is common.
const SLOPES: (f64, f64) = (0.25, 3.0);

/// Decibels a step of the range's whole numbers, and the quality at which films commonly score [`Common::SSIM_DB`] or [`Common::PSNR_DB`].
#[derive(Debug, Clone, Copy)]
struct Common {
    crf: f32,
    ssim_slope: f64,
    psnr_slope: f64,
}

impl Common {
    /// SSIM 0.98.
    const SSIM_DB: f64 = 17.0;
    const PSNR_DB: f64 = 41.0;

    fn of(codec: VideoCodec) -> Common {
        let common = |crf, ssim_slope, psnr_slope| Common { crf, ssim_slope, psnr_slope };
        match codec {
            VideoCodec::Libx264 => common(28.0, -0.48, -0.60),
            VideoCodec::Libx265 => common(25.0, -0.40, -0.52),
            VideoCodec::Libsvtav1 => common(42.0, -0.20, -0.24),
            VideoCodec::LibvpxVp9 => common(37.0, -0.27, -0.36),
        }
    }
}

/// A quality, and what it scores.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Probe {
    crf: f32,
    db: f64,
}

/// What is known of the quality that is sought.
enum Step {
    /// This is it.
    Taken(Probe),
    /// This would come near, by all that is known.
    Try(Probe),
}

/// A search, from probe to probe.
#[derive(Debug)]
pub struct Search {
    range: CrfRange,
    target: QualityTarget,
    common: Common,
    probes: Vec<Probe>,
}

impl Search {
    pub fn new(codec: VideoCodec, target: QualityTarget) -> Search {
        Search { range: CrfRange::of(codec), target, common: Common::of(codec), probes: Vec::new() }
    }

    /// The best quality that is tried.
    pub fn best(&self) -> f32 {
        self.range.best
    }

    /// What was tried scored so.
    pub fn add(&mut self, crf: f32, score: f64) {
        self.probes.push(Probe { crf, db: self.db(score) });
    }

    /// What to try next; `None`: nothing more is to be learnt, or it would cost too much.
    pub fn next(&self) -> Option<f32> {
        match self.step() {
            Step::Try(guess) if self.probes.len() < PROBES_MAX => Some(guess.crf),
            _ => None,
        }
    }

    /// The quality that is taken, and what it scores: as measured or, where it was not tried, as those beside it let one expect.
    pub fn found(&self) -> (f32, f64) {
        let (Step::Taken(probe) | Step::Try(probe)) = self.step();
        (probe.crf, self.score(probe.db))
    }

    fn step(&self) -> Step {
        let CrfRange { best, worst, step } = self.range;
        match (self.meets(), self.fails()) {
            (Some(meets), _) if meets.db - self.goal() <= NEAR_DB || meets.crf >= worst => Step::Taken(meets),
            (Some(meets), Some(fails)) if fails.crf - meets.crf <= step => Step::Taken(meets),
            (_, Some(fails)) if fails.crf <= best => Step::Taken(fails),
            (Some(meets), Some(fails)) => {
                let slope = (fails.db - meets.db) / f64::from(fails.crf - meets.crf);
                self.along(meets, slope, f32::INFINITY, (meets.crf + step, fails.crf - step))
            }
            (Some(meets), None) => self.along(meets, self.secant(), self.reach(), (meets.crf + step, worst)),
            (None, Some(fails)) => self.along(fails, self.secant(), self.reach(), (best, fails.crf - step)),
            (None, None) => {
                let common = Probe { crf: self.common.crf, db: self.common_db() };
                self.along(common, self.slope(), f32::INFINITY, (best, worst))
            }
        }
    }

    /// From a probe along a line to where the target is met, no further than `reach` and within bounds.
    fn along(&self, from: Probe, slope: f64, reach: f32, (least, most): (f32, f32)) -> Step {
        #[expect(clippy::cast_possible_truncation, reason = "held within the range, whose numbers are small")]
        let by = ((self.goal() + AIM_DB - from.db) / slope) as f32;
        let crf = self.range.settle(from.crf + by.clamp(-reach, reach)).clamp(least, most);
        Step::Try(Probe { crf, db: from.db + slope * f64::from(crf - from.crf) })
    }

    fn reach(&self) -> f32 {
        (self.range.worst - self.range.best) * REACH
    }

    /// Not even the best quality meets the target.
    pub fn is_unattainable(&self) -> bool {
        self.meets().is_none() && self.fails().is_some_and(|probe| probe.crf <= self.range.best)
    }

    /// The cheapest that meets the target.
    fn meets(&self) -> Option<Probe> {
        let meets = self.probes.iter().filter(|probe| probe.db >= self.goal());
        meets.max_by(|a, b| a.crf.total_cmp(&b.crf)).copied()
    }

    /// The best of those that do not. An encoder may now and then score better at a worse quality: what meets the target counts.
    fn fails(&self) -> Option<Probe> {
        let met = self.meets().map_or(f32::NEG_INFINITY, |probe| probe.crf);
        let fails = self.probes.iter().filter(|probe| probe.db < self.goal() && probe.crf > met);
        fails.min_by(|a, b| a.crf.total_cmp(&b.crf)).copied()
    }

    fn goal(&self) -> f64 {
        self.db(self.target.score())
    }

    fn db(&self, score: f64) -> f64 {
        let db = match self.target {
            QualityTarget::Ssim(_) => -10.0 * (1.0 - score).log10(),
            QualityTarget::Psnr(_) => score,
        };
        if db.is_nan() { PERFECT_DB } else { db.min(PERFECT_DB) }
    }

    fn score(&self, db: f64) -> f64 {
        match self.target {
            QualityTarget::Ssim(_) => 1.0 - 10f64.powf(-db / 10.0),
            QualityTarget::Psnr(_) => db,
        }
    }

    fn common_db(&self) -> f64 {
        match self.target {
            QualityTarget::Ssim(_) => Common::SSIM_DB,
            QualityTarget::Psnr(_) => Common::PSNR_DB,
        }
    }

    fn slope(&self) -> f64 {
        match self.target {
            QualityTarget::Ssim(_) => self.common.ssim_slope,
            QualityTarget::Psnr(_) => self.common.psnr_slope,
        }
    }

    /// Of the last two probes, where that says something.
    fn secant(&self) -> f64 {
        let common = self.slope();
        let [.., a, b] = self.probes[..] else { return common };
        let slope = (b.db - a.db) / f64::from(b.crf - a.crf);
        let (flattest, steepest) = (common * SLOPES.0, common * SLOPES.1);
        if slope.is_nan() { common } else { slope.clamp(steepest, flattest) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Searches an encoder that scores as `score` says: what is taken, what it really scores, and after how many probes.
    fn search(codec: VideoCodec, target: QualityTarget, score: impl Fn(f64) -> f64) -> (f32, f64, usize, Search) {
        let mut search = Search::new(codec, target);
        let mut tried = Vec::new();
        while let Some(crf) = search.next() {
            assert!(!tried.contains(&crf), "{crf} is tried twice: {tried:?}");
            tried.push(crf);
            search.add(crf, score(crf.into()));
        }
        let (crf, expected) = search.found();
        let real = score(crf.into());
        assert!(
            !tried.contains(&crf) || (expected - real).abs() < 1e-9,
            "{crf}: {expected} is told, {real} was measured"
        );
        (crf, real, tried.len(), search)
    }

    fn ssim(db: f64) -> f64 {
        1.0 - 10f64.powf(-db / 10.0)
    }

    #[test]
    fn a_common_film_takes_one_probe_and_an_uncommon_one_few() {
        let common = |crf: f64| ssim(16.98 - 0.48 * (crf - 28.0));
        let (crf, score, probes, _) = search(VideoCodec::Libx264, QualityTarget::Ssim(0.98), common);
        assert_eq!((crf, probes), (27.75, 1), "{score}");
        let hard = |crf: f64| ssim(14.0 - 0.55 * (crf - 23.0));
        let (crf, score, probes, _) = search(VideoCodec::Libx264, QualityTarget::Ssim(0.98), hard);
        assert!((0.98..0.981).contains(&score) && probes <= 3, "{crf} {score} {probes}");
        // Grain: at low rates none is left, and the score hardly falls.
        let grain = |crf: f64| ssim(if crf > 20.0 { 8.5 - 0.1 * (crf - 20.0) } else { 8.5 + 0.9 * (20.0 - crf) });
        let (crf, score, probes, _) = search(VideoCodec::Libx264, QualityTarget::Ssim(0.95), grain);
        assert!((0.945..0.956).contains(&score) && probes <= PROBES_MAX, "{crf} {score} {probes}");
    }

    #[test]
    fn what_no_quality_meets_is_clamped_and_known() {
        let (crf, _, _, search) = search(VideoCodec::Libx264, QualityTarget::Ssim(0.999), |_| 0.9);
        assert_eq!((crf, search.is_unattainable()), (6.0, true));
    }

    #[test]
    fn what_every_quality_meets_takes_the_worst() {
        for still in [1.0, 0.9999] {
            let (crf, _, _, search) = search(VideoCodec::Libsvtav1, QualityTarget::Ssim(0.95), |_| still);
            assert_eq!((crf, search.is_unattainable()), (62.0, false));
        }
    }

    proptest! {
        /// Whatever the film, if its scores fall with the quality.
        #[test]
        fn the_target_is_met_and_not_by_far(
            codec in prop::sample::select(vec![VideoCodec::Libx264, VideoCodec::Libx265, VideoCodec::Libsvtav1, VideoCodec::LibvpxVp9]),
            offset in -6.0..6.0f64,
            times in 0.6..1.8f64,
            bend in -0.005..0.005f64,
            goal in 12.0..22.0f64,
        ) {
            let common = Common::of(codec);
            let db = |crf: f64| {
                let off = crf - f64::from(common.crf);
                Common::SSIM_DB + offset + common.ssim_slope * (times * off + bend * off * off.abs())
            };
            let (crf, score, probes, search) = search(codec, QualityTarget::Ssim(ssim(goal)), |crf| ssim(db(crf)));
            prop_assert!(probes <= PROBES_MAX);
            let range = CrfRange::of(codec);
            let found = -10.0 * (1.0 - score).log10();
            let attainable = db(range.best.into()) >= goal;
            prop_assert_eq!(search.is_unattainable(), !attainable);
            if attainable && crf < range.worst {
                // A step of whole numbers is worth some tenths.
                prop_assert!((goal - 0.15..goal + 0.6).contains(&found), "{} dB for {}, {} probes", found, goal, probes);
            }
        }
    }
}
