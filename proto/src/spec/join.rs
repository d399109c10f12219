//! Several sources, one behind the other in one film.

use serde::{Deserialize, Serialize};

use super::check::{conflict, refused};
use super::{AudioCodec, Clip, EncodeSpec, Subtitles};
use crate::failure::Failure;
use crate::uri::{self, Location};

/// Most sources of a film: a bound, not a wish.
pub const INPUTS_MAX: usize = 64;

/// A source that follows others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextInput {
    /// URI.
    pub source: String,
    /// Of it, in this order. Empty: all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clips: Vec<Clip>,
}

impl EncodeSpec {
    /// URIs of all sources, in film order.
    pub fn sources(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.source).chain(self.joined.iter().map(|next| &next.source))
    }

    /// The spec of one source's part of the film, counted from 0; the film's own where there is one source.
    pub fn of_input(&self, number: u32) -> EncodeSpec {
        if self.joined.is_empty() {
            return self.clone();
        }
        let next = usize::try_from(number).ok().and_then(|number| self.joined.get(number.checked_sub(1)?));
        let (source, clips) = next.map_or((&self.source, &self.clips), |next| (&next.source, &next.clips));
        EncodeSpec {
            source: source.clone(),
            clips: if clips.is_empty() { vec![Clip::default()] } else { clips.clone() },
            joined: Vec::new(),
            // They would have to be cut and laid end to end: they are left out, with a warning.
            subtitles: Subtitles::None,
            ..self.clone()
        }
    }
}

/// Judges the sources of a spec.
pub(super) fn check(spec: &EncodeSpec) -> Result<(), Failure> {
    if spec.joined.is_empty() {
        return Ok(());
    }
    if spec.joined.len() >= INPUTS_MAX {
        return Err(refused(format!("{} inputs; at most {INPUTS_MAX} are joined", spec.joined.len() + 1)));
    }
    for next in &spec.joined {
        Location::parse(&next.source)?;
        if next.source == spec.output {
            return Err(conflict(format!(
                "the output is the input {} itself: name another output",
                uri::shown(&next.source)
            )));
        }
    }
    let Some(video) = &spec.video else {
        return Err(conflict(
            "-vn with several inputs: they are joined where their pictures end; encode sound alone one by one",
        ));
    };
    let copied = |codec: AudioCodec| codec == AudioCodec::Copy;
    let own = spec.audio_tracks.iter().map(|own| own.audio.codec);
    let sounds = spec.audio.iter().map(|audio| audio.codec).chain(own).any(copied);
    let trimmed = spec.trim.start.is_some() || spec.trim.duration.is_some();
    for (given, what) in [
        (trimmed, "-ss, -to and -t: give each input its clips in a job file"),
        (sounds, "-c:a copy: sound is joined to the sample, and packets cannot be; name an encoder, such as -c:a aac"),
        (!spec.maps.is_empty(), "-map: of each input the best picture and sound are taken"),
        (
            !matches!(spec.subtitles, Subtitles::Auto | Subtitles::None),
            "-c:s: subtitles are left out; encode first, add them then",
        ),
        (video.burn_in().is_some(), "subtitles in -vf: draw the text into each input first"),
        (
            video.crop_bars,
            "--crop auto: inputs would be cropped differently; give numbers, as spool probe --crop shows them",
        ),
        (spec.quality.is_some(), "--quality: score the film afterwards, with spool quality"),
        (spec.segment_frames.is_some(), "segments: packages take one run of one source; join the inputs first"),
    ] {
        if given {
            return Err(conflict(format!("several inputs with {what}")));
        }
    }
    (0..=u32::try_from(spec.joined.len()).unwrap_or(u32::MAX))
        .try_for_each(|number| super::clip::check(&spec.of_input(number)))
}
