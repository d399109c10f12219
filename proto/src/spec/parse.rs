//! Reading what ffmpeg users type, and printing it back: for every value here, reading what was printed gives the value.
//!
//! Numbers and times are read here, `-vf` in `filter.rs`, `-map` in `map.rs`, names of codecs and containers in `name.rs`,
//! `-af` and channel layouts in `sound.rs`.

mod filter;
mod map;
mod name;
mod quoted;
mod sound;

use std::fmt;

pub use filter::{filters, filters_text};
pub use map::stream_map;
pub use sound::{audio_filters, audio_filters_text, channel_layout};

use super::{Rational, Size};
use crate::time::Span;

/// A text that could not be read, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: {why}")]
pub struct ParseError {
    /// `a bit rate`, `a frame rate`, …
    pub what: &'static str,
    pub text: String,
    pub why: String,
}

impl ParseError {
    pub(crate) fn new(what: &'static str, text: &str, why: impl Into<String>) -> ParseError {
        ParseError { what, text: text.into(), why: why.into() }
    }
}

/// A plain decimal: `value / 10^decimals`. Up to 12 decimals; no sign, no exponent.
#[derive(Debug, Clone, Copy)]
struct Decimal {
    value: u128,
    decimals: u32,
}

impl Decimal {
    fn read(text: &str) -> Option<Decimal> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) || whole.len() > 20 {
            return None;
        }
        let fraction = &fraction[..fraction.len().min(12)];
        let value = format!("0{whole}{fraction}").parse().ok()?;
        Some(Decimal { value, decimals: u32::try_from(fraction.len()).ok()? })
    }

    /// Times `by`, rounded to the nearest.
    fn scaled(self, by: u64) -> Option<u64> {
        let unit = 10u128.pow(self.decimals);
        let scaled = self.value.checked_mul(u128::from(by))?;
        u64::try_from((scaled + unit / 2) / unit).ok()
    }
}

/// An amount of bits (`128k`, `1.5M`, `2Mi`, `250kB`): k, M, G are powers of 1000, with `i` of 1024; `B` counts bytes.
///
/// # Errors
/// Anything else, and more than 2^63 − 1 bits.
pub fn bits(text: &str) -> Result<u64, ParseError> {
    let bad = |why: &str| ParseError::new("a bit rate", text, why);
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let number = Decimal::read(number).ok_or_else(|| bad("expected a number such as 128k, 1.5M or 2500000"))?;
    let (unit, bits_each) = unit.strip_suffix('B').map_or((unit, 1), |unit| (unit, 8));
    let (unit, base) = unit.strip_suffix('i').map_or((unit, 1000u64), |unit| (unit, 1024));
    let power = match unit {
        "" if base == 1000 => 0,
        "k" | "K" => 1,
        "M" => 2,
        "G" => 3,
        _ => return Err(bad("the unit is not one of k, M, G, Ki, Mi, Gi, with B for bytes")),
    };
    let amount = number.scaled(base.pow(power) * bits_each).filter(|amount| i64::try_from(*amount).is_ok());
    amount.ok_or_else(|| bad("too much"))
}

/// A time as `-ss`, `-to`, `-t` take it: `90`, `90.5`, `1:30.5`, `00:01:30.5`, `1500ms`, `10us`, `90s`.
///
/// # Errors
/// Anything else, negative times, and times past 10,000 hours.
pub fn time(text: &str) -> Result<Span, ParseError> {
    let bad = |why: &str| ParseError::new("a time", text, why);
    if text.starts_with('-') {
        return Err(bad("times before the start are not taken"));
    }
    let forms = "expected seconds (90.5), minutes (1:30.5), hours (00:01:30.5), 1500ms or 10us";
    let (number, unit_us) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1_000)
    } else if let Some(number) = text.strip_suffix("us") {
        (number, 1)
    } else {
        (text.strip_suffix('s').unwrap_or(text), 1_000_000)
    };
    let (clock, seconds) = number.rsplit_once(':').unwrap_or(("", number));
    let mut minutes = 0u64;
    if number.contains(':') {
        if number.len() != text.len() {
            return Err(bad("a unit cannot follow hours and minutes"));
        }
        let parts: Vec<&str> = clock.split(':').collect();
        if parts.len() > 2 {
            return Err(bad(forms));
        }
        for (i, part) in parts.iter().enumerate() {
            let n: u64 = part.parse().ok().filter(|n| *n < 1_000_000).ok_or_else(|| bad(forms))?;
            if i > 0 && n > 59 {
                return Err(bad("minutes go to 59"));
            }
            minutes = minutes * 60 + n;
        }
    }
    let rest = Decimal::read(seconds).and_then(|d| d.scaled(unit_us)).ok_or_else(|| bad(forms))?;
    if number.contains(':') && rest >= 60_000_000 {
        return Err(bad("seconds go to 59"));
    }
    let span = Span::from_secs(minutes * 60) + Span(rest);
    if span > Span::from_secs(36_000_000) { Err(bad("longer than 10,000 hours")) } else { Ok(span) }
}

/// Prints a time so that [`time`] and ffmpeg read it back exactly: `90.5`.
pub fn time_text(span: Span) -> String {
    let (seconds, rest) = (span.0 / 1_000_000, span.0 % 1_000_000);
    let text = format!("{seconds}.{rest:06}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// ffmpeg bounds both parts of a frame rate by this.
const RATE_MAX: u128 = 1_001_000;

const RATES: [(&str, Rational); 8] = [
    ("ntsc", Rational::new(30_000, 1001)),
    ("pal", Rational::new(25, 1)),
    ("qntsc", Rational::new(30_000, 1001)),
    ("qpal", Rational::new(25, 1)),
    ("sntsc", Rational::new(30_000, 1001)),
    ("spal", Rational::new(25, 1)),
    ("film", Rational::new(24, 1)),
    ("ntsc-film", Rational::new(24_000, 1001)),
];

/// A frame rate: `24`, `23.976` (2997/125, as ffmpeg reads it), `24000/1001`, `30000:1001`, `ntsc`, `pal`, `film`, `ntsc-film`.
///
/// # Errors
/// Anything else, zero, and more than 1000 frames a second.
pub fn frame_rate(text: &str) -> Result<Rational, ParseError> {
    let bad = |why: &str| ParseError::new("a frame rate", text, why);
    if let Some((_, rate)) = RATES.iter().find(|(name, _)| *name == text) {
        return Ok(*rate);
    }
    let forms = "expected 24, 23.976, 24000/1001, or one of ntsc, pal, film, ntsc-film";
    let (num, den) = text.split_once(['/', ':']).unwrap_or((text, "1"));
    let (num, den) = Decimal::read(num).zip(Decimal::read(den)).ok_or_else(|| bad(forms))?;
    let shared = num.decimals.max(den.decimals);
    let whole = |d: Decimal| d.value.checked_mul(10u128.pow(shared - d.decimals)).filter(|v| *v < 1 << 100);
    let (num, den) = whole(num).zip(whole(den)).ok_or_else(|| bad(forms))?;
    if num == 0 || den == 0 {
        return Err(bad("it must be above zero"));
    }
    if num / den > 1000 || (num / den == 1000 && num % den != 0) {
        return Err(bad("more than 1000 frames a second are not taken"));
    }
    let (num, den) = nearest_fraction(num, den, RATE_MAX);
    match (i32::try_from(num), i32::try_from(den)) {
        (Ok(num), Ok(den)) if num > 0 && den > 0 => Ok(Rational::new(num, den)),
        _ => Err(bad("too slow")),
    }
}

/// The fraction nearest to `num/den` with both parts at most `max`: the last convergent of its continued fraction that fits, or
/// the semiconvergent after it where that is nearer.
fn nearest_fraction(num: u128, den: u128, max: u128) -> (u128, u128) {
    let (mut before, mut best) = ((0u128, 1u128), (1u128, 0u128));
    let (mut high, mut low) = (num, den);
    while low != 0 {
        let digit = high / low;
        let next = (digit * best.0 + before.0, digit * best.1 + before.1);
        if next.0 > max || next.1 > max {
            let by_num = (max - before.0).checked_div(best.0).unwrap_or(u128::MAX);
            let by_den = (max - before.1).checked_div(best.1).unwrap_or(u128::MAX);
            let fits = by_num.min(by_den);
            // A semiconvergent beats the convergent before it when its digit is more than half of the true one.
            if 2 * fits > digit {
                best = (fits * best.0 + before.0, fits * best.1 + before.1);
            }
            break;
        }
        (before, best) = (best, next);
        (high, low) = (low, high % low);
    }
    best
}

/// The names ffmpeg has for sizes, the ones still in use.
const SIZES: [(&str, u32, u32); 27] = [
    ("ntsc", 720, 480),
    ("pal", 720, 576),
    ("sntsc", 640, 480),
    ("spal", 768, 576),
    ("qcif", 176, 144),
    ("cif", 352, 288),
    ("4cif", 704, 576),
    ("qvga", 320, 240),
    ("vga", 640, 480),
    ("svga", 800, 600),
    ("xga", 1024, 768),
    ("sxga", 1280, 1024),
    ("uxga", 1600, 1200),
    ("wvga", 852, 480),
    ("wxga", 1366, 768),
    ("wuxga", 1920, 1200),
    ("hd480", 852, 480),
    ("hd720", 1280, 720),
    ("hd1080", 1920, 1080),
    ("nhd", 640, 360),
    ("qhd", 960, 540),
    ("2k", 2048, 1080),
    ("2kdci", 2048, 1080),
    ("4k", 4096, 2160),
    ("4kdci", 4096, 2160),
    ("uhd2160", 3840, 2160),
    ("uhd4320", 7680, 4320),
];

/// A size: `1280x720` or one of ffmpeg's names (`hd720`, `hd1080`, `uhd2160`, …).
///
/// # Errors
/// Anything else.
pub fn size(text: &str) -> Result<Size, ParseError> {
    if let Some((_, width, height)) = SIZES.iter().find(|(name, ..)| *name == text) {
        return Ok(Size { width: *width, height: *height });
    }
    let parts = text.split_once('x').and_then(|(w, h)| Some((digits(w)?, digits(h)?)));
    let why = "expected WIDTHxHEIGHT (1280x720) or a name such as hd720, hd1080, uhd2160";
    parts.map(|(width, height)| Size { width, height }).ok_or_else(|| ParseError::new("a size", text, why))
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Digits only: `+5` and ` 5` are not numbers here.
fn digits(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
