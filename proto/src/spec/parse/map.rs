//! `-map`: which streams of the source go into the film.

use std::fmt;

use super::super::{StreamKind, StreamMap};
use super::{ParseError, digits};

const KINDS: [(&str, StreamKind); 5] = [
    ("v", StreamKind::Video),
    ("a", StreamKind::Audio),
    ("s", StreamKind::Subtitle),
    ("d", StreamKind::Data),
    ("t", StreamKind::Attachment),
];

/// `0`, `0:v`, `0:a:1`, `0:3`; `-` in front leaves streams out, `?` behind makes them optional.
///
/// # Errors
/// Anything else: other sources than 0, labels of filter graphs, choices by language or program.
pub fn stream_map(text: &str) -> Result<StreamMap, ParseError> {
    let bad = |why: &str| ParseError::new("a stream choice", text, why);
    let (rest, negative) = text.strip_prefix('-').map_or((text, false), |rest| (rest, true));
    let (rest, optional) = rest.strip_suffix('?').map_or((rest, false), |rest| (rest, true));
    if rest.starts_with('[') {
        return Err(bad("labels of filter graphs are not taken; expected 0:v, 0:a:1, 0:3, -0:s or 0:a?"));
    }
    let mut parts = rest.split(':');
    match parts.next().and_then(digits) {
        Some(0) => {}
        Some(_) => return Err(bad("there is one source, number 0")),
        None => return Err(bad("expected 0:v, 0:a:1, 0:3, -0:s or 0:a?")),
    }
    let mut next = parts.next();
    let kind = next.and_then(|part| KINDS.iter().find(|(letter, _)| *letter == part)).map(|(_, kind)| *kind);
    if kind.is_some() {
        next = parts.next();
    }
    let number = |part| digits(part).ok_or_else(|| bad("after 0: comes one of v, a, s, d, t or a stream's number"));
    let index = next.map(number).transpose()?;
    if parts.next().is_some() {
        return Err(bad("expected 0:v, 0:a:1, 0:3, -0:s or 0:a?"));
    }
    Ok(StreamMap { negative, optional, kind, index })
}

impl fmt::Display for StreamMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.negative { "-0" } else { "0" })?;
        if let Some((letter, _)) = KINDS.iter().find(|(_, kind)| Some(*kind) == self.kind) {
            write!(f, ":{letter}")?;
        }
        if let Some(index) = self.index {
            write!(f, ":{index}")?;
        }
        f.write_str(if self.optional { "?" } else { "" })
    }
}
