//! EBU R128: how loud a track is, and what makes it as loud as asked.
//!
//! The track is measured as it will be encoded: filtered, remixed, cut. One gain for all of it keeps its dynamics. Only where that would
//! lift true peaks above the ceiling they are limited, at four times the rate, so that what lies between samples counts too; the
//! limiter takes loudness away, so it is measured again and the gain corrected, until both hold. The last measurement is of exactly
//! what is encoded. Decoding again is cheap against holding the track in memory.

use spool_proto::call::{LoudnessFacts, TrackArgs};
use spool_proto::failure::{Failure, Warning};
use spool_proto::spec::Loudness;

use super::encode::{Ear, libav, listen};
use super::shape::{Form, Shaper};
use crate::Host;
use crate::av::Received;
use crate::av::audio::tag;
use crate::av::frame::Frame;
use crate::av::graph::Step;
use crate::av::input::Stream;

/// The gate of ITU-R BS.1770-4: what never passes it has no loudness.
const SILENCE_LUFS: f64 = -70.0;
/// Rate at which peaks are limited: four times the usual ones, as BS.1770-4 annex 2 measures true peaks.
const LIMITER_RATE: i32 = 192_000;
/// Times a limited track is measured, at most.
const PASSES: u32 = 5;
/// EBU R128 allows ±0.5 LU (±1 live); nearer than this is near enough to stop.
const NEAR_LU: f64 = 0.1;
const TOLERANCE_LU: f64 = 0.5;
/// Beyond what one gain would be: more only makes the limiter work against itself.
const LIMITER_EXTRA_DB: f64 = 12.0;
/// The least ceiling libav's limiter takes.
const LIMIT_DB_MIN: f64 = -24.0;
/// Lowering the ceiling below the one asked for makes up for what resampling back adds; and no more than this.
const LIMIT_EXTRA_DB: f64 = 6.0;

/// What is done to the samples.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Treatment {
    gain_db: Option<f64>,
    /// Peaks are held below this, dB of full scale.
    limit_db: Option<f64>,
    /// The last filter measures.
    pub measures: bool,
}

impl Treatment {
    pub fn is_nothing(&self) -> bool {
        *self == Treatment::default()
    }

    /// `rate`: of the track.
    pub fn steps(&self, rate: i32) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some(gain) = self.gain_db {
            steps.push(Step::new("volume", format!("volume={gain:.4}dB:precision=double")));
        }
        if let Some(limit) = self.limit_db {
            let high = rate.max(LIMITER_RATE);
            let limit = factor(limit);
            steps.push(Step::new("aresample", high.to_string()));
            // `level`: it would turn everything up. `latency`: the track keeps its place and length.
            steps.push(Step::new("alimiter", format!("limit={limit:.6}:level=0:asc=1:latency=1")));
            steps.push(Step::new("aresample", rate.to_string()));
        }
        if self.measures {
            steps.push(Step::new("ebur128", "metadata=1:peak=true"));
        }
        steps
    }
}

fn factor(db: f64) -> f64 {
    10f64.powf(db / 20.0)
}

fn decibels(factor: f64) -> f64 {
    20.0 * factor.max(1e-6).log10()
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Measured {
    lufs: f64,
    true_peak_dbtp: f64,
}

/// Measures the track and finds the treatment that makes it as loud as `wanted`.
///
/// # Errors
/// Those of decoding it.
pub fn settle(
    args: &TrackArgs,
    form: &Form<'_>,
    wanted: Loudness,
    host: &mut dyn Host,
) -> Result<(Treatment, Option<LoudnessFacts>, Vec<Warning>), Failure> {
    let (target, ceiling) = (f64::from(wanted.target_lufs), f64::from(wanted.true_peak_dbtp));
    let warning = |code: &str, text: String| Warning { code: code.into(), stream: Some(args.stream), text };
    let source = match measure(args, form, Treatment::default(), host)? {
        Some(source) if source.lufs > SILENCE_LUFS => source,
        _ => {
            let text = "the track is silent, or shorter than 0.4 s, so that it has no loudness: it is left as it is";
            return Ok((Treatment::default(), None, vec![warning("loudness_unmeasured", text.into())]));
        }
    };
    let gain = target - source.lufs;
    let peak = source.true_peak_dbtp + gain;
    let mut best =
        (Treatment { gain_db: Some(gain), ..Treatment::default() }, Measured { lufs: target, true_peak_dbtp: peak });
    let mut warnings = Vec::new();
    if peak > ceiling {
        best = limited(args, form, (target, ceiling), gain, host)?;
        let (_, reached) = best;
        if (reached.lufs - target).abs() > TOLERANCE_LU || reached.true_peak_dbtp > ceiling {
            let text = format!(
                "the track is now at {:.1} LUFS with true peaks of {:.1} dBTP: {target} LUFS below {ceiling} dBTP would need more \
                 limiting than is done; ask for less with --loudness, or a higher --true-peak",
                reached.lufs, reached.true_peak_dbtp
            );
            warnings.push(warning("loudness_missed", text));
        }
    }
    let (treatment, reached) = best;
    let facts = LoudnessFacts {
        source_lufs: source.lufs,
        source_true_peak_dbtp: source.true_peak_dbtp,
        lufs: reached.lufs,
        true_peak_dbtp: reached.true_peak_dbtp,
        gain_db: treatment.gain_db.unwrap_or(0.0),
        limited: treatment.limit_db.is_some(),
    };
    tracing::debug!(stream = args.stream, ?facts, "loudness settled");
    Ok((treatment, Some(facts), warnings))
}

/// Measures again and again with gain and limit corrected, and answers the best of all: below the ceiling, then nearest the target.
fn limited(
    args: &TrackArgs,
    form: &Form<'_>,
    (target, ceiling): (f64, f64),
    first_gain: f64,
    host: &mut dyn Host,
) -> Result<(Treatment, Measured), Failure> {
    let (mut gain, mut limit) = (first_gain, ceiling);
    let mut best: Option<(Treatment, Measured)> = None;
    for _ in 0..PASSES {
        let treatment = Treatment { gain_db: Some(gain), limit_db: Some(limit.max(LIMIT_DB_MIN)), measures: false };
        let silent = Measured { lufs: SILENCE_LUFS, true_peak_dbtp: SILENCE_LUFS };
        let reached = measure(args, form, treatment, host)?.unwrap_or(silent);
        let miss = |reached: Measured| ((reached.true_peak_dbtp - ceiling).max(0.0), (reached.lufs - target).abs());
        if best.is_none_or(|(_, other)| miss(reached) < miss(other)) {
            best = Some((treatment, reached));
        }
        let over = reached.true_peak_dbtp - ceiling;
        if over <= 0.0 && (reached.lufs - target).abs() <= NEAR_LU {
            break;
        }
        if over > 0.0 {
            limit = (limit - over).max(ceiling - LIMIT_EXTRA_DB);
        }
        gain = (gain + target - reached.lufs).min(first_gain + LIMITER_EXTRA_DB);
    }
    Ok(best.expect("measured at least once"))
}

/// `None`: there is not even a tenth of a second.
fn measure(
    args: &TrackArgs,
    form: &Form<'_>,
    treatment: Treatment,
    host: &mut dyn Host,
) -> Result<Option<Measured>, Failure> {
    let shaper = Shaper::new(form, Treatment { measures: true, ..treatment })?;
    let mut meter = Meter { shaper, last: None, full: false };
    let heard = listen(args, host, &mut meter)?;
    meter.shaper.end(&heard.stream)?;
    meter.drain()?;
    Ok(meter.last)
}

struct Meter<'a> {
    shaper: Shaper<'a>,
    last: Option<Measured>,
    full: bool,
}

impl Ear for Meter<'_> {
    fn hear(&mut self, frame: &mut Frame) -> Result<(), Failure> {
        self.shaper.push(frame)?;
        self.drain()
    }

    fn input(&self) -> u32 {
        self.shaper.input()
    }

    fn is_full(&self) -> bool {
        self.full || self.shaper.is_full()
    }

    fn again(&mut self, stream: &Stream) -> Result<bool, Failure> {
        let again = self.shaper.again(stream)?;
        self.drain()?;
        Ok(again)
    }

    fn so_far(&self) -> (u64, u64) {
        (0, 0)
    }
}

impl Meter<'_> {
    fn drain(&mut self) -> Result<(), Failure> {
        let mut frame = Frame::new().map_err(libav)?;
        loop {
            match self.shaper.pull(&mut frame)? {
                Received::One => {
                    let number = |name: &str| tag(&frame, name)?.parse::<f64>().ok();
                    if let (Some(lufs), Some(peak)) = (number("lavfi.r128.I"), number("lavfi.r128.true_peak")) {
                        self.last = Some(Measured { lufs, true_peak_dbtp: decibels(peak) });
                    }
                }
                Received::Again => return Ok(()),
                Received::End => {
                    self.full = true;
                    return Ok(());
                }
            }
        }
    }
}
