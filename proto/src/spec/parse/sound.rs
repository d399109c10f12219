//! `-af`, channel layouts and loudness, as typed and as printed.

use std::fmt;

use super::super::{AudioFilter, CHANNEL_LAYOUTS, Gain};
use super::ParseError;

/// A channel layout by ffmpeg's name: `stereo`, `5.1`, `5.1(side)`.
///
/// # Errors
/// Anything else, with the names there are.
pub fn channel_layout(text: &str) -> Result<String, ParseError> {
    if CHANNEL_LAYOUTS.iter().any(|(name, _)| *name == text) {
        return Ok(text.into());
    }
    let names: Vec<&str> = CHANNEL_LAYOUTS.iter().map(|(name, _)| *name).collect();
    Err(ParseError::new("a channel layout", text, format!("expected one of {}", names.join(" "))))
}

/// `-af`: `volume=6dB`, `volume=0.5`, several with commas between.
///
/// # Errors
/// Names the filter or value that is not taken.
pub fn audio_filters(text: &str) -> Result<Vec<AudioFilter>, ParseError> {
    text.split(',').map(|step| filter(text, step.trim())).collect()
}

fn filter(text: &str, step: &str) -> Result<AudioFilter, ParseError> {
    let bad = |why: String| ParseError::new("a chain of audio filters", text, why);
    let (name, value) = step.split_once('=').unwrap_or((step, ""));
    match name {
        "volume" => {
            let value = value.strip_prefix("volume=").unwrap_or(value);
            let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
            let gain = match value.strip_suffix("dB") {
                Some(db) => number(db).map(Gain::Db),
                None => number(value).filter(|factor| *factor >= 0.0).map(Gain::Factor),
            };
            gain.map(AudioFilter::Volume)
                .ok_or_else(|| bad(format!("{step:?}: expected volume=0.5 or volume=-6dB; expressions are not taken")))
        }
        "loudnorm" => Err(bad("loudness is set by --loudness TARGET, which measures the whole track first".into())),
        "aresample" => Err(bad("sample rates are set by -ar".into())),
        "pan" | "channelmap" | "aformat" => Err(bad("channels are set by -ac and -channel_layout".into())),
        _ => Err(bad(format!("the filter {name:?} is not one of those taken: volume"))),
    }
}

/// Prints what [`audio_filters`] reads.
pub fn audio_filters_text(filters: &[AudioFilter]) -> String {
    filters.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl fmt::Display for AudioFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AudioFilter::Volume(gain) => write!(f, "volume={gain}"),
        }
    }
}

impl fmt::Display for Gain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gain::Factor(factor) => write!(f, "{factor}"),
            Gain::Db(db) => write!(f, "{db}dB"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_as_they_are_printed() {
        for text in ["volume=0.5", "volume=-6.5dB", "volume=2,volume=3dB"] {
            assert_eq!(audio_filters_text(&audio_filters(text).expect("taken")), text);
        }
        assert_eq!(audio_filters("volume=volume=2"), audio_filters("volume=2"));
    }

    #[test]
    fn what_is_not_taken_is_named_with_what_is() {
        for (text, says) in [
            ("volume=-1", "volume=-6dB"),
            ("volume=inf", "volume=0.5"),
            ("volume=t", "expressions"),
            ("loudnorm=I=-23", "--loudness"),
            ("pan=mono|c0=c1", "-channel_layout"),
            ("aecho", "\"aecho\""),
        ] {
            let error = audio_filters(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(channel_layout("5.1").is_ok());
        assert!(channel_layout("5.2").expect_err("no such").to_string().contains("5.1(side)"));
    }
}
