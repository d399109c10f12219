//! Ranges of a source that are joined into one film.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::check::{conflict, refused};
use super::parse::{ParseError, time, time_text};
use super::{AudioCodec, EncodeSpec};
use crate::failure::Failure;
use crate::time::Span;

/// Most clips of a film: a bound, not a wish.
pub const CLIPS_MAX: usize = 256;

/// From `start` until before `end`, counted from the source's start. A frame belongs to it that begins in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clip {
    /// `None`: the source's start.
    pub start: Option<Span>,
    /// `None`: the source's end.
    pub end: Option<Span>,
}

impl Clip {
    fn is_empty(self) -> bool {
        self.end.is_some_and(|end| end <= self.start.unwrap_or(Span::ZERO))
    }
}

impl fmt::Display for Clip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |at: Option<Span>| at.map(time_text).unwrap_or_default();
        write!(f, "{}-{}", text(self.start), text(self.end))
    }
}

impl FromStr for Clip {
    type Err = ParseError;

    /// `10-20`, `1:05-1:07.5`, `90-` (to the end), `-20` (from the start), with times as `-ss` takes them.
    fn from_str(text: &str) -> Result<Clip, ParseError> {
        let bad = |why: String| ParseError::new("a clip", text, why);
        let (start, end) = text.split_once('-').ok_or_else(|| {
            bad("expected START-END, such as 10-20, 1:05-1:07.5, 90- (to the end), -20 (from the start)".into())
        })?;
        let at = |part: &str| match part {
            "" => Ok(None),
            part => time(part).map(Some).map_err(|error| bad(error.to_string())),
        };
        let clip = Clip { start: at(start)?, end: at(end)? };
        if clip.is_empty() {
            return Err(bad("its end is not after its start".into()));
        }
        Ok(clip)
    }
}

/// What of these clips, joined, lies between `from` and `from + length`.
pub fn part(clips: &[Clip], from: Span, length: Span) -> Vec<Clip> {
    let (mut skip, mut left) = (from.0, length.0);
    let mut found = Vec::new();
    for clip in clips {
        let start = clip.start.map_or(0, |start| start.0);
        let clip_us = clip.end.map_or(u64::MAX, |end| end.0.saturating_sub(start));
        if skip >= clip_us {
            skip -= clip_us;
            continue;
        }
        let taken = (clip_us - skip).min(left);
        if taken == 0 {
            break;
        }
        let start = start.saturating_add(skip);
        found.push(Clip { start: Some(Span(start)), end: Some(Span(start.saturating_add(taken))) });
        (skip, left) = (0, left - taken);
    }
    found
}

/// Judges the clips of a spec.
pub(super) fn check(spec: &EncodeSpec) -> Result<(), Failure> {
    if spec.clips.is_empty() {
        return Ok(());
    }
    if spec.clips.len() > CLIPS_MAX {
        return Err(refused(format!("--clip is given {} times; at most {CLIPS_MAX} are taken", spec.clips.len())));
    }
    if spec.trim.start.is_some() || spec.trim.duration.is_some() {
        return Err(conflict("--clip with -ss, -to or -t: clips say where they start and end; drop the others"));
    }
    if let Some(clip) = spec.clips.iter().find(|clip| clip.is_empty()) {
        return Err(refused(format!("--clip {clip}: its end is not after its start; nothing of it would be left")));
    }
    let copied = |codec: AudioCodec| codec == AudioCodec::Copy;
    let own = spec.audio_tracks.iter().map(|own| own.audio.codec);
    if spec.audio.iter().map(|audio| audio.codec).chain(own).any(copied) {
        return Err(conflict(
            "-c:a copy with --clip: clips are cut to the sample, and packets cannot be; name an encoder, such as -c:a aac",
        ));
    }
    if spec.segment_frames.is_some() {
        return Err(conflict(
            "--clip with segment_frames: packages take one run of the source; encode the clips first",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clips(texts: &[&str]) -> Vec<Clip> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    #[test]
    fn clips_read_back_what_they_print() {
        for (text, printed) in [
            ("10-20", "10-20"),
            ("1:05-1:07.5", "65-67.5"),
            ("00:00:01.25-1500ms", "1.25-1.5"),
            ("90-", "90-"),
            ("-20", "-20"),
            ("-", "-"),
        ] {
            let clip: Clip = text.parse().expect(text);
            assert_eq!(clip.to_string(), printed);
            assert_eq!(printed.parse::<Clip>(), Ok(clip));
        }
        for text in ["", "10", "10-10", "20-10", "a-b", "1-2-3", "-0", "10--20", "1:70-2:00"] {
            assert!(text.parse::<Clip>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_part_of_joined_clips_is_made_of_theirs() {
        let joined = clips(&["10-20", "-5", "100-"]);
        let texts = |from: u64, length: u64| {
            let part = part(&joined, Span::from_secs(from), Span::from_secs(length));
            part.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(texts(0, 4), ["10-14"]);
        assert_eq!(texts(8, 4), ["18-20", "0-2"]);
        assert_eq!(texts(10, 5), ["0-5"]);
        assert_eq!(texts(14, 4), ["4-5", "100-103"]);
        assert_eq!(texts(20, 4), ["105-109"]);
    }
}
