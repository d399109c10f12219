//! Which picture tells most about a film.
//!
//! Some from all over it, without its first and last moments (logos, credits), are judged by their luma: those that are nearly black,
//! nearly white or flat are out; of the others, contrast and sharpness speak for one, and being unlike the rest against it.

use spool_proto::failure::Failure;

use super::draw::{Painter, Shape, Size};
use super::shots::Shots;
use crate::Host;

/// Pictures looked at.
const CANDIDATES: i64 = 24;
/// What of the film is looked at, hundredths.
const FROM: i64 = 5;
const UNTIL: i64 = 85;
/// Width they are judged at.
const WIDTH: u32 = 192;
const BINS: usize = 32;
/// Means of luma (0 to 255) between which a picture can be seen.
const DARK: f64 = 24.0;
const BRIGHT: f64 = 232.0;
/// Standard deviation of luma below which there is nothing to see.
const FLAT: f64 = 8.0;

/// One picture's judgement.
#[derive(Debug, Clone)]
struct Judged {
    at_us: i64,
    mean: f64,
    /// Standard deviation of luma.
    contrast: f64,
    /// Mean of the Laplacian's magnitude.
    sharpness: f64,
    /// Shares of luma.
    histogram: [f64; BINS],
}

/// The time of the picture. A film of nothing but black has its middle.
///
/// # Errors
/// Those of decoding; `no_frames` (class input) where no picture can be had at all.
pub fn most_telling(shots: &mut Shots, host: &mut dyn Host) -> Result<i64, Failure> {
    let length_us = shots.length_us()?;
    let (judged, failed) = look(shots, length_us, host)?;
    // Some films say they are longer than they are, which only reading them tells.
    let really_us = shots.length_us()?;
    let (judged, failed) = if really_us < length_us { look(shots, really_us, host)? } else { (judged, failed) };
    match (best(&judged), failed) {
        (Some(at_us), _) => Ok(at_us),
        (None, Some(failure)) => Err(failure),
        (None, None) => Ok(really_us / 2),
    }
}

/// Judges the candidates of a film so long; answers a failure where one could not be had.
fn look(shots: &mut Shots, length_us: i64, host: &mut dyn Host) -> Result<(Vec<Judged>, Option<Failure>), Failure> {
    let mut judged: Vec<Judged> = Vec::new();
    let mut painter: Option<(Painter, Size)> = None;
    let mut failed = None;
    let span = length_us / 100 * (UNTIL - FROM);
    let step = (span / CANDIDATES).max(1);
    for number in 0..CANDIDATES {
        let at_us = length_us / 100 * FROM + span / CANDIDATES * number + step / 2;
        host.progress(0, 0, 0);
        let shot = match shots.at(at_us, step / 2) {
            Ok(shot) => shot,
            Err(failure) => {
                failed = Some(failure);
                // The film has ended: later ones are no better.
                break;
            }
        };
        if judged.iter().any(|other| other.at_us == shot.at_us) {
            continue;
        }
        let (painter, size) = painter.get_or_insert_with(|| {
            let size = Shape::of(&shot.frame, &shots.look()).scaled(Some(WIDTH));
            (Painter::new(size, true), size)
        });
        let pixels = painter.paint(&shot.frame, &shots.look(), "gray")?.pixels().map_err(crate::decode::no_memory)?;
        judged.push(judge(shot.at_us, &pixels, *size));
    }
    Ok((judged, failed))
}

fn judge(at_us: i64, luma: &[u8], size: Size) -> Judged {
    let width = usize::try_from(size.width).unwrap_or(1).max(1);
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 pixels")]
    let count = luma.len().max(1) as f64;
    let mut histogram = [0.0; BINS];
    let (mut sum, mut squares, mut edges) = (0.0, 0.0, 0.0);
    for (place, &value) in luma.iter().enumerate() {
        let here = f64::from(value);
        sum += here;
        squares += here * here;
        histogram[usize::from(value) * BINS / 256] += 1.0 / count;
        let near = [place.checked_sub(width), place.checked_sub(1), Some(place + 1), Some(place + width)];
        let around: Vec<f64> =
            near.into_iter().flatten().filter_map(|at| luma.get(at)).map(|&v| f64::from(v)).collect();
        if around.len() == 4 {
            edges += (around.iter().sum::<f64>() - 4.0 * here).abs();
        }
    }
    let mean = sum / count;
    let contrast = (squares / count - mean * mean).max(0.0).sqrt();
    Judged { at_us, mean, contrast, sharpness: edges / count, histogram }
}

fn best(judged: &[Judged]) -> Option<i64> {
    let seen = |one: &&Judged| (DARK..BRIGHT).contains(&one.mean) && one.contrast >= FLAT;
    let good: Vec<&Judged> = judged.iter().filter(seen).collect();
    // Where nothing is good the least bad will have to do.
    let among: Vec<&Judged> = if good.is_empty() { judged.iter().collect() } else { good };
    #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
    let count = among.len() as f64;
    let usual: Vec<f64> =
        (0..BINS).map(|bin| among.iter().map(|one| one.histogram[bin]).sum::<f64>() / count).collect();
    let top = |of: fn(&Judged) -> f64| among.iter().map(|one| of(one)).fold(1e-9, f64::max);
    let (contrast, sharpness) = (top(|one| one.contrast), top(|one| one.sharpness));
    let score = |one: &Judged| {
        let unlike: f64 = one.histogram.iter().zip(&usual).map(|(a, b)| (a - b).abs()).sum();
        one.contrast / contrast + one.sharpness / sharpness - unlike / 2.0
    };
    among.iter().max_by(|a, b| score(a).total_cmp(&score(b)).then(b.at_us.cmp(&a.at_us))).map(|one| one.at_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: Size = Size { width: 16, height: 16 };

    fn picture(value: impl Fn(usize, usize) -> u8) -> Vec<u8> {
        (0..256).map(|place| value(place % 16, place / 16)).collect()
    }

    #[test]
    fn black_white_flat_and_blurred_pictures_are_passed_over() {
        let stripes = picture(|x, _| if x % 4 < 2 { 60 } else { 180 });
        let blurred = picture(|x, _| u8::try_from(60 + x * 7).unwrap());
        let others = [picture(|_, _| 16), picture(|_, _| 235), picture(|_, _| 120), blurred];
        let mut judged: Vec<Judged> = (0..).zip(&others).map(|(at, luma)| judge(at, luma, SIDE)).collect();
        judged.insert(2, judge(9, &stripes, SIDE));
        assert_eq!(best(&judged), Some(9));
        assert_eq!(best(&judged[..1]), Some(0), "the least bad");
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn of_equals_the_first_is_taken() {
        let luma = picture(|x, y| u8::try_from(40 + (x * 16 + y) % 200).unwrap());
        let judged: Vec<Judged> = [5, 3, 7].into_iter().map(|at| judge(at, &luma, SIDE)).collect();
        assert_eq!(best(&judged), Some(3));
    }
}
