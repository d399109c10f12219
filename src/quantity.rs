//! Amounts and times as people type them: `64` or `500m` cores, `256Gi` of memory, `10s`, `+2h`. Each reads back what it prints.

pub use spool_proto::resources::amount_text;
use spool_proto::resources::{Unit, unit};
use spool_proto::time::{Span, Timestamp};

/// An amount of `resource`, in the units it is kept in, as [`amount_text`] shows it.
///
/// # Errors
/// What is taken instead.
pub fn amount(resource: &str, text: &str) -> Result<u64, String> {
    let bad = |expected: &str| format!("{resource} {text}: expected {expected}");
    let scaled = |digits: &str, by: u64| digits.parse::<u64>().ok().and_then(|n| n.checked_mul(by));
    match unit(resource) {
        Unit::Thousandths => match text.strip_suffix('m') {
            Some(digits) => scaled(digits, 1),
            None => thousandths(text),
        }
        .ok_or_else(|| bad("a number such as 64, 0.5 or 500m (thousandths)")),
        Unit::Mebibytes => {
            let units = [("Mi", 1), ("Gi", 1 << 10), ("Ti", 1 << 20)];
            let read = units.into_iter().find_map(|(unit, by)| Some(scaled(text.strip_suffix(unit)?, by)));
            read.flatten().ok_or_else(|| bad("a size with its unit, such as 512Mi, 256Gi or 2Ti"))
        }
        Unit::Plain => scaled(text, 1).ok_or_else(|| bad("a whole number")),
    }
}

/// `1.5` is 1500.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(part)
}

/// Longest first.
const SPANS: [(&str, u64); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

/// `10s`, `500ms`, `1h30m`, `2d`.
///
/// # Errors
/// What is taken instead.
pub fn span(text: &str) -> Result<Span, String> {
    let bad = || format!("{text:?}: expected a time such as 10s, 500ms, 5m, 1h30m or 2d");
    let mut rest = text;
    let mut total = 0u64;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0).ok_or_else(bad)?;
        let count: u64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (_, micros) = SPANS.into_iter().find(|(unit, _)| *unit == &rest[..end]).ok_or_else(bad)?;
        total = count.checked_mul(micros).and_then(|us| total.checked_add(us)).ok_or_else(bad)?;
        rest = &rest[end..];
    }
    Ok(Span(total))
}

/// The time as [`span`] reads it, exactly, in one unit.
pub fn span_text(span: Span) -> String {
    let unit = SPANS.into_iter().find(|(unit, micros)| *unit != "d" && span.0 > 0 && span.0.is_multiple_of(*micros));
    unit.map_or_else(|| "0s".into(), |(unit, micros)| format!("{}{unit}", span.0 / micros))
}

/// A point in time: `2026-05-01T18:00:00Z`, or `+2h` from now.
///
/// # Errors
/// What is taken instead.
pub fn time(text: &str) -> Result<Timestamp, String> {
    if let Some(from_now) = text.strip_prefix('+') {
        return Ok(Timestamp::now() + span(from_now)?);
    }
    let bad = || format!("{text:?}: expected a time such as 2026-05-01T18:00:00Z, or +2h for two hours from now");
    let at: jiff::Timestamp = text.parse().map_err(|_| bad())?;
    u64::try_from(at.as_microsecond()).map(Timestamp).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_back_what_they_print() {
        for (resource, text, kept) in [
            ("cpu", "64", 64_000),
            ("cpu", "500m", 500),
            ("cpu", "0", 0),
            ("gpu", "2", 2_000),
            ("memory", "512Mi", 512),
            ("memory", "256Gi", 256 << 10),
            ("scratch", "2Ti", 2 << 20),
            ("memory", "0Mi", 0),
            ("encode_sessions", "8", 8),
            ("licence", "18446744073709551615", u64::MAX),
        ] {
            assert_eq!(amount(resource, text), Ok(kept), "{resource} {text}");
            assert_eq!(amount_text(resource, kept), text, "{resource}");
        }
        for (resource, text, kept) in [("cpu", "0.5", 500), ("cpu", "1.25", 1_250), ("memory", "1024Mi", 1_024)] {
            assert_eq!(amount(resource, text), Ok(kept), "{resource} {text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_told_what_is() {
        for (resource, text, says) in [
            ("cpu", "many", "500m"),
            ("cpu", "-1", "500m"),
            ("cpu", "0.0001", "500m"),
            ("cpu", ".5", "500m"),
            ("cpu", "1.5m", "500m"),
            ("cpu", "99999999999999999999", "500m"),
            // Bytes for some, MiB for others: a bare number would be misread.
            ("memory", "256", "256Gi"),
            ("memory", "2GB", "256Gi"),
            ("memory", "18446744073709551615Ti", "256Gi"),
            ("encode_sessions", "1.5", "whole number"),
        ] {
            let refusal = amount(resource, text).expect_err(text);
            assert!(refusal.contains(says) && refusal.contains(text), "{refusal}");
        }
    }

    #[test]
    fn spans_read_back_what_they_print() {
        for (text, us) in [
            ("10s", 10_000_000),
            ("5m", 300_000_000),
            ("2h", 7_200_000_000),
            ("48h", 172_800_000_000),
            ("90s", 90_000_000),
            ("1500ms", 1_500_000),
            ("7us", 7),
            ("0s", 0),
        ] {
            assert_eq!(span(text), Ok(Span(us)));
            assert_eq!(span_text(Span(us)), text);
        }
        assert_eq!(span("1h30m"), Ok(Span::from_secs(5_400)));
        assert_eq!(span("2d"), Ok(Span::from_secs(172_800)));
        for bad in ["", "10", "s", "10 s", "-5s", "1.5h", "5x", "99999999999999d", "5m3"] {
            assert!(span(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_are_absolute_or_from_now() {
        assert_eq!(time("1970-01-01T00:00:09Z"), Ok(Timestamp(9_000_000)));
        assert_eq!(time("1970-01-01T01:00:00+01:00"), Ok(Timestamp(0)));
        let before = Timestamp::now();
        let soon = time("+2h").expect("a time");
        assert!(soon.since(before) >= Span::from_secs(7_200) && soon <= Timestamp::now() + Span::from_secs(7_200));
        for bad in ["", "+", "+2", "tomorrow", "2h", "1969-12-31T23:59:59Z"] {
            assert!(time(bad).is_err(), "{bad:?}");
        }
    }
}
