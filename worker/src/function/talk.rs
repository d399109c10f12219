//! What a program says on stdout, a line at a time: progress, messages, its result or why there is none. What is none of these is
//! kept with what it says on stderr.

use serde::Deserialize;
use spool_proto::failure::{Class, Failure};

/// Bytes of one line, and so of a result, at most: it is kept with the job.
pub const LINE_MAX: usize = 1 << 20;
/// All of a call's work, as progress is counted.
pub const WHOLE: u64 = 1_000;
const CODE_MAX: usize = 64;
const MESSAGE_MAX: usize = 4 << 10;

/// A line that means something.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// In [`WHOLE`]s.
    Progress(Option<u64>, Option<String>),
    Result(serde_json::Value),
    Error(Failure),
    /// For people.
    Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    progress: Option<f64>,
    message: Option<String>,
    #[serde(default, deserialize_with = "present")]
    result: Option<serde_json::Value>,
    error: Option<SaidError>,
}

/// `null` is a result too.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(from).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SaidError {
    #[serde(default)]
    class: Option<String>,
    #[serde(default)]
    code: Option<String>,
    message: String,
}

pub fn read(line: &str) -> Line {
    let line = line.trim();
    if !line.starts_with('{') {
        return Line::Text;
    }
    match serde_json::from_str::<Said>(line) {
        Ok(Said { error: Some(error), .. }) => Line::Error(failure(error)),
        Ok(Said { result: Some(result), .. }) => Line::Result(result),
        Ok(Said { progress: None, message: None, .. }) | Err(_) => Line::Text,
        Ok(Said { progress, message, .. }) => Line::Progress(progress.and_then(thousandths), message),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
fn thousandths(part: f64) -> Option<u64> {
    part.is_finite().then(|| (part.clamp(0.0, 1.0) * 1_000.0).round() as u64)
}

/// A failure as the program calls it. What it does not call rightly is its own fault.
fn failure(said: SaidError) -> Failure {
    let class = said.class.as_deref().and_then(|class| class.parse::<Class>().ok()).unwrap_or(Class::Internal);
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let is_code = |code: &String| (1..=CODE_MAX).contains(&code.len()) && code.chars().all(plain);
    let code = said.code.filter(is_code).unwrap_or_else(|| FAILED.into());
    Failure::new(class, &code, cut(&said.message, MESSAGE_MAX))
}

/// The code of a program that failed and does not say more.
pub const FAILED: &str = "function_failed";

/// The beginning of a text.
pub fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_are_read_as_what_they_mean() {
        let cases = [
            ("{\"progress\": 0.25}", Line::Progress(Some(250), None)),
            ("{\"progress\": 7, \"message\": \"late\"}", Line::Progress(Some(1000), Some("late".into()))),
            ("{\"message\": \"half\"}", Line::Progress(None, Some("half".into()))),
            (" {\"result\": {\"a\": 1}} ", Line::Result(json!({"a": 1}))),
            ("{\"result\": null}", Line::Result(json!(null))),
            ("{\"progress\": \"x\"}", Line::Text),
            ("{\"results\": 1}", Line::Text),
            ("{}", Line::Text),
            ("hello", Line::Text),
            ("{", Line::Text),
        ];
        for (line, meant) in cases {
            assert_eq!(read(line), meant, "{line}");
        }
    }

    #[test]
    fn a_failure_is_taken_over_as_far_as_it_is_one() {
        let of = |line: &str| match read(line) {
            Line::Error(failure) => (failure.class, failure.code, failure.message),
            other => panic!("{other:?}"),
        };
        let told = of("{\"error\": {\"class\": \"input\", \"code\": \"no_mark\", \"message\": \"no mark in it\"}}");
        assert_eq!(told, (Class::Input, "no_mark".into(), "no mark in it".into()));
        let told = of("{\"error\": {\"class\": \"mine\", \"code\": \"No Mark\", \"message\": \"x\"}}");
        assert_eq!(told, (Class::Internal, FAILED.into(), "x".into()));
        assert_eq!(cut("aé", 2), "a");
    }
}
