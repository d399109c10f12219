//! Between whole numbers and fractions, in one place.

use spool_proto::time::Span;

/// Nearest fraction.
#[expect(clippy::cast_precision_loss, reason = "counts and microseconds here stay far below 2^53")]
pub fn float(n: u64) -> f64 {
    n as f64
}

/// Nearest whole number; what is negative or not a number is 0, what is too great the greatest.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, which is what is wanted")]
pub fn whole(x: f64) -> u64 {
    x.round() as u64
}

pub fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// For indices that came from a length.
pub fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

pub fn seconds(s: f64) -> Span {
    Span(whole(s * 1e6))
}

pub fn millis(ms: f64) -> Span {
    Span(whole(ms * 1e3))
}

/// In milliseconds, with a tenth's place: what reports show.
pub fn as_ms(us: u64) -> f64 {
    (float(us) / 100.0).round() / 10.0
}

/// `percent` of the sorted values are at most this. `None` if there are none.
pub fn percentile(sorted: &[u64], percent: u64) -> Option<u64> {
    let at = index(count(sorted.len()) * percent / 100).min(sorted.len().checked_sub(1)?);
    sorted.get(at).copied()
}
